/* Who may come in, which route a request is for, and how errors look. */
#include "daemon/daemon_int.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <strings.h>
#include <unistd.h>

#include "base/id.h"
#include "daemon/request.h"

#define REQUEST_ID_MAX  128
#define ERROR_MAX       8192
#define LOGGED_PATH_MAX 256
#define REPLY_MAX       ((size_t)64 << 20)
#define PARSE_AT_ONCE   65536 /* bytes: well under a millisecond of the loop's time */

/* What the api knows of a request, from its headers to its end. */
struct seen {
    const struct route *route; /* NULL: none */
    struct route_args args;
    char *path; /* its copy, cut at the slashes of args */
    char id[REQUEST_ID_MAX + 1];
};

static const struct route *const tables[] = {
    routes_engine, routes_jobs, routes_mcp, routes_openai, routes_ops, routes_score, routes_tokens};

/* ---- errors and replies -------------------------------------------------------------------- */

static const char *id_of(const struct http_request *r)
{
    const struct seen *seen = http_user(r);

    return seen ? seen->id : "";
}

void api_error_json(struct pd_jw *w, const char *message, const char *type, const char *code,
                    const char *param, const char *request_id)
{
    pd_jw_object(w);
    pd_jw_key(w, "error");
    pd_jw_object(w);
    pd_jw_put_text(w, "message", message);
    pd_jw_put_text(w, "type", type);
    pd_jw_put_text(w, "param", param);
    pd_jw_put_text(w, "code", code);
    pd_jw_end_object(w);
    pd_jw_put_text(w, "request_id", request_id);
    pd_jw_end_object(w);
}

void api_error(struct http_request *r, unsigned status, const char *type, const char *code,
               const char *param, const char *fmt, ...)
{
    struct pd_buf b = PD_BUF_INIT(ERROR_MAX);
    char message[1024];
    struct pd_jw w;
    va_list args;

    va_start(args, fmt);
    vsnprintf(message, sizeof message, fmt, args);
    va_end(args);
    pd_jw_init(&w, &b);
    api_error_json(&w, message, type, code, param, id_of(r));
    api_json(r, status, &b);
}

const struct api_kind *api_kind(int pd_code)
{
    static const struct api_kind kinds[] = {
        {PD_EINVAL, 400, "invalid_request_error", "unsupported_value"},
        {PD_EFORMAT, 400, "invalid_request_error", "unsupported_value"},
        {PD_ENOENT, 404, "not_found_error", "model_not_found"},
        {PD_ENOMEM, 507, "server_error", "memory_limit"},
        {PD_ELIMIT, 400, "invalid_request_error", "context_length_exceeded"},
        {PD_EREMOTE, 502, "upstream_error", "engine_error"},
        {PD_ETIMEOUT, 504, "upstream_error", "engine_timeout"},
        {PD_ECANCEL, 503, "unavailable_error", "draining"},
        {PD_ECOMPLEX, 400, "invalid_request_error", "schema_too_complex"},
        {PD_EBUSY, 409, "conflict_error", "bad_state"},
        {PD_OK, 500, "server_error", "internal"}, /* all others */
    };
    const struct api_kind *k = kinds;

    while (k->pd != PD_OK && (int)k->pd != pd_code)
        k++;
    return k;
}

void api_fail(struct http_request *r, const struct pd_err *err)
{
    const struct api_kind *k = api_kind(err->code);

    if (k->status == 503)
        http_set_header(r, "Retry-After", "5");
    api_error(r, k->status, k->type, k->code, NULL, "%s", err->text);
}

void api_no_memory(struct http_request *r)
{
    api_error(r, 507, "server_error", "memory_limit", NULL, "out of memory");
}

void api_draining(struct http_request *r)
{
    http_set_header(r, "Retry-After", "5");
    api_error(r, 503, "unavailable_error", "draining", NULL, "the daemon is stopping");
}

void api_busy(struct http_request *r)
{
    http_set_header(r, "Retry-After", "1");
    api_error(r, 503, "unavailable_error", "engine_down", NULL, "too many requests wait");
}

void api_queue_full(struct http_request *r, unsigned retry_s, const char *message)
{
    char text[16];

    snprintf(text, sizeof text, "%u", retry_s);
    http_set_header(r, "Retry-After", text);
    api_error(r, 429, "rate_limit_error", "queue_full", NULL, "%s", message);
}

void api_no_job(struct http_request *r, const char *id)
{
    api_error(r, 404, "not_found_error", "job_not_found", NULL, "there is no job '%s'", id);
}

void api_parse_error(struct http_request *r, const struct request_error *e)
{
    if (e->err.code == PD_ENOMEM)
        api_error(r, 507, "server_error", e->code, NULL, "%s", e->err.text);
    else
        api_error(r, 400, "invalid_request_error", e->code, e->param[0] ? e->param : NULL, "%s",
                  e->err.text);
}

void api_json(struct http_request *r, unsigned status, struct pd_buf *b)
{
    pd_buf_addc(b, '\n');
    if (pd_buf_rc(b) < 0)
        http_reply(r, 500, "application/json",
                   PD_STR("{\"error\":{\"message\":\"the answer is too large\",\"type\":"
                          "\"server_error\",\"param\":null,\"code\":\"internal\"}}\n"));
    else
        http_reply(r, status, "application/json", pd_buf_str(b));
    pd_buf_done(b);
}

/* ---- bodies -------------------------------------------------------------------------------- */

struct parsing {
    struct http_request *r; /* loop; NULL: the client has left */
    void (*then)(struct daemon *d, struct http_request *r, struct pd_json *body,
                 const struct pd_err *err);
    char *text; /* the request's own may be gone before its end */
    size_t len;
    struct pd_json *body;
    struct pd_err err;
};

static void parser_left(void *user)
{
    struct parsing *p = user;

    p->r = NULL;
}

static void parse(struct daemon *d, void *arg)
{
    struct parsing *p = arg;

    (void)d;
    if (pd_json_parse((struct pd_str){p->text, p->len}, &p->body, &p->err) < 0)
        p->body = NULL;
}

static void on_parsed(struct daemon *d, void *arg)
{
    struct parsing *p = arg;

    if (p->r && d->queue) {
        http_on_close(p->r, NULL, NULL);
        p->then(d, p->r, p->body, &p->err);
        p->body = NULL;
    } else if (p->r) {
        api_draining(p->r);
    }
    pd_json_free(p->body);
    free(p->text);
    free(p);
}

void api_parse(struct daemon *d, struct http_request *r,
               void (*then)(struct daemon *d, struct http_request *r, struct pd_json *body,
                            const struct pd_err *err))
{
    struct pd_str text = http_body(r);
    struct pd_json *body = NULL;
    struct parsing *p;
    struct pd_err err;

    if (text.len <= PARSE_AT_ONCE) {
        if (pd_json_parse(text, &body, &err) < 0)
            body = NULL;
        then(d, r, body, &err);
        return;
    }
    p = calloc(1, sizeof *p);
    if (!p || !(p->text = pd_str_dup(text))) {
        free(p);
        api_no_memory(r);
        return;
    }
    p->r = r;
    p->then = then;
    p->len = text.len;
    http_on_close(r, parser_left, p);
    if (!daemon_work(d, parse, on_parsed, p)) {
        api_busy(r);
        free(p->text);
        free(p);
    }
}

/* ---- questions ----------------------------------------------------------------------------- */

static void asker_left(void *user)
{
    struct api_question *q = user;

    q->r = NULL;
}

void *api_question_new(size_t bytes, struct daemon *d, struct http_request *r,
                       int (*read)(struct api_question *q, struct pd_jw *w, struct pd_err *err))
{
    struct api_question *q = calloc(1, bytes);

    if (!q) {
        if (r)
            api_no_memory(r);
        return NULL;
    }
    q->d = d;
    q->r = r;
    q->read = read;
    q->status = 200;
    q->reply = PD_BUF_INIT(REPLY_MAX);
    if (r)
        http_on_close(r, asker_left, q);
    return q;
}

void api_question_free(struct api_question *q)
{
    if (!q)
        return;
    if (q->done)
        q->done(q);
    pd_buf_done(&q->reply);
    free(q);
}

void api_answer(struct api_question *q)
{
    if (!q->r)
        return;
    if (q->busy)
        api_busy(q->r);
    else if (q->rc < 0)
        api_fail(q->r, &q->err);
    else
        api_json(q->r, q->status, &q->reply);
}

static void on_read(struct daemon *d, void *arg)
{
    struct api_question *q = arg;

    (void)d;
    if (q->answer)
        q->answer(q);
    else
        api_answer(q);
    api_question_free(q);
}

static void read_on_worker(struct daemon *d, void *arg)
{
    struct api_question *q = arg;
    struct pd_jw w;

    (void)d;
    pd_jw_init(&w, &q->reply);
    q->rc = q->read(q, &w, &q->err);
}

void api_ask(struct api_question *q)
{
    q->busy = !daemon_work(q->d, read_on_worker, on_read, q);
    if (q->busy)
        on_read(q->d, q);
}

/* ---- who may come in ----------------------------------------------------------------------- */

/* In a time that does not depend on where they differ. */
static bool same_secret(const char *a, const char *b)
{
    size_t n = strlen(a), m = strlen(b);
    unsigned differ = n != m;

    for (size_t i = 0; i < n; i++)
        differ |= (unsigned)(unsigned char)a[i] ^ (unsigned char)b[m ? i % m : 0];
    return differ == 0;
}

/* The host of "host", "host:port" or "[v6]:port" is this machine. */
static bool is_local_host(struct pd_str s)
{
    static const char *const hosts[] = {"localhost", "127.0.0.1", "[::1]"};

    for (size_t i = 0; i < sizeof hosts / sizeof *hosts; i++) {
        size_t n = strlen(hosts[i]);

        if (s.len < n || strncasecmp(s.ptr, hosts[i], n) != 0)
            continue;
        if (s.len == n)
            return true;
        if (s.ptr[n] != ':' || s.len == n + 1)
            return false;
        for (size_t k = n + 1; k < s.len; k++)
            if (!isdigit((unsigned char)s.ptr[k]))
                return false;
        return true;
    }
    return false;
}

/* The same place as the Host: what a page of this server would send. */
static bool same_origin(const char *origin, const char *host)
{
    return strncmp(origin, "http://", 7) == 0 && strcasecmp(origin + 7, host) == 0;
}

static bool has_token(const struct daemon *d, const struct http_request *r)
{
    const char *a = http_header(r, "Authorization");

    return a && strncasecmp(a, "Bearer ", 7) == 0 && same_secret(a + 7, d->token);
}

/* Over a unix socket whose file let the peer in: also by the list of users. Where systemd's socket
 * is for a group and nobody is listed, its file alone decides. */
static bool is_allowed_peer(const struct daemon *d, const struct http_request *r)
{
    const struct settings *s = d->settings;
    uid_t uid = http_peer_uid(r);

    if (uid == (uid_t)-1)
        return false;
    for (size_t i = 0; i < s->n_allow_uids; i++)
        if (s->allow_uids[i] == uid)
            return true;
    return uid == 0 || uid == geteuid() || s->allow_all ||
           (d->socket_shared && s->allow_users.n == 0);
}

/* False: it has been refused. */
static bool may_enter(const struct daemon *d, struct http_request *r, bool open)
{
    const char *host = http_header(r, "Host"), *origin = http_header(r, "Origin");

    if (http_is_tcp(r) && (!host || !is_local_host(pd_str_of(host)))) {
        api_error(r, 403, "permission_error", "bad_host", NULL,
                  "the Host must be localhost, 127.0.0.1 or [::1]");
        return false;
    }
    if (!http_is_tcp(r) && !open && !is_allowed_peer(d, r)) {
        api_error(r, 403, "permission_error", "bad_peer", NULL,
                  "this daemon serves its own user, root, and the users of its setting "
                  "allow_users");
        return false;
    }
    if (origin && (!host || !same_origin(origin, host))) {
        api_error(r, 403, "permission_error", "bad_origin", NULL,
                  "requests from pages of other sites are not answered");
        return false;
    }
    if (http_is_tcp(r) && !open && !(d->token && has_token(d, r))) {
        http_set_header(r, "WWW-Authenticate", "Bearer");
        api_error(r, 401, "authentication_error", "bad_token", NULL,
                  "send Authorization: Bearer TOKEN; the token stands in the file that the daemon "
                  "named at its start");
        return false;
    }
    return true;
}

/* ---- routes -------------------------------------------------------------------------------- */

/* Cuts path at the arguments of pattern; false: another path (and path may be cut). */
static bool match(const char *pattern, char *path, struct route_args *args)
{
    int n = 0;

    while (*pattern) {
        if (*pattern == '{') {
            char *end = strchrnul(path, '/');

            if (end == path || n == ROUTE_MAX_ARGS)
                return false;
            args->v[n++] = path;
            pattern = strchr(pattern, '}') + 1;
            if ((*pattern == '\0') != (*end == '\0'))
                return false;
            if (*end) {
                *end = '\0';
                path = end + 1;
                pattern++;
            } else {
                path = end;
            }
        } else if (*pattern++ != *path++) {
            return false;
        }
    }
    return *path == '\0';
}

/* *out_other: there is a route for this path, but for another method. */
static void find_route(struct seen *seen, const struct http_request *r, bool *out_other)
{
    enum http_method method = http_method(r) == HTTP_HEAD ? HTTP_GET : http_method(r);

    *out_other = false;
    for (size_t t = 0; t < sizeof tables / sizeof *tables; t++)
        for (const struct route *route = tables[t]; route->pattern; route++) {
            strcpy(seen->path, http_path(r));
            if (!match(route->pattern, seen->path, &seen->args))
                continue;
            if (route->method == method) {
                seen->route = route;
                return;
            }
            *out_other = true;
        }
}

static void name_request(const struct http_request *r, char id[REQUEST_ID_MAX + 1])
{
    const char *theirs = http_header(r, "X-Request-Id");
    size_t n = 0;

    while (theirs && n <= REQUEST_ID_MAX && theirs[n] > ' ' && theirs[n] <= '~')
        n++;
    if (n > 0 && n <= REQUEST_ID_MAX && theirs[n] == '\0')
        memcpy(id, theirs, n + 1);
    else if (pd_id_new("req_", id, NULL) < 0)
        strcpy(id, "req_0");
}

void api_admit(void *daemon, struct http_request *r)
{
    struct daemon *d = daemon;
    struct seen *seen = calloc(1, sizeof *seen);
    bool other;

    if (seen)
        seen->path = strdup(http_path(r));
    if (!seen || !seen->path) {
        free(seen);
        api_no_memory(r);
        return;
    }
    http_set_user(r, seen);
    name_request(r, seen->id);
    http_set_header(r, "X-Request-Id", seen->id);
    http_set_header(r, "X-Content-Type-Options", "nosniff");
    find_route(seen, r, &other);
    if (!may_enter(d, r, seen->route && (seen->route->flags & ROUTE_OPEN)))
        return;
    if (!seen->route && other)
        api_error(r, 405, "invalid_request_error", "method", NULL, "%.200s does not take %.32s",
                  http_path(r), http_method_name(r));
    else if (!seen->route)
        api_error(r, 404, "not_found_error", "no_route", NULL, "there is nothing at %.200s",
                  http_path(r));
    else if (d->draining && !(seen->route->flags & ROUTE_OPEN))
        api_draining(r);
}

static bool is_json(const struct http_request *r)
{
    const char *type = http_header(r, "Content-Type");

    return type && strncasecmp(type, "application/json", 16) == 0 &&
           (type[16] == '\0' || type[16] == ';' || type[16] == ' ');
}

static void with_body(struct daemon *d, struct http_request *r, struct pd_json *body,
                      const struct pd_err *err)
{
    struct seen *seen = http_user(r);

    if (body && pd_json_is_object(body)) {
        seen->args.body = body;
        seen->route->handle(d, r, &seen->args);
        return;
    }
    api_error(r, 400, "invalid_request_error", "bad_json", NULL, "%s",
              body ? "the body must be a JSON object" : err->text);
    pd_json_free(body);
}

void api_handle(void *daemon, struct http_request *r)
{
    const struct seen *seen = http_user(r);
    struct daemon *d = daemon;

    if (!d->queue)
        api_draining(r); /* its body came in the very end */
    else if (http_method(r) == HTTP_POST && !is_json(r) &&
             (http_body(r).len > 0 || (seen->route->flags & ROUTE_JSON)))
        api_error(r, 415, "invalid_request_error", "content_type", NULL,
                  "send the body with Content-Type: application/json");
    else if (seen->route->flags & ROUTE_JSON)
        api_parse(d, r, with_body);
    else
        seen->route->handle(d, r, &seen->args);
}

const char *api_request_id(const struct http_request *r)
{
    return id_of(r);
}

const char *api_route_name(const struct http_request *r)
{
    const struct seen *seen = http_user(r);

    return seen && seen->route ? seen->route->pattern : "other";
}

void api_finished(void *daemon, const struct http_request *r)
{
    struct daemon *d = daemon;
    struct seen *seen = http_user(r);
    char status[16], ms[32], bytes[32], path[LOGGED_PATH_MAX];

    metrics_request(d->metrics, api_route_name(r), http_status(r), http_seconds(r));
    snprintf(path, sizeof path, "%s", http_path(r));
    snprintf(status, sizeof status, "%u", http_status(r));
    snprintf(ms, sizeof ms, "%.1f", http_seconds(r) * 1e3);
    snprintf(bytes, sizeof bytes, "%zu", http_bytes_out(r));
    daemon_log(d,
               seen && seen->route && (seen->route->flags & ROUTE_OPEN) ? LOG_DEBUG : LOG_REQUEST,
               "request", "id", id_of(r), "method", http_method_name(r), "path", path, "status",
               status, "ms", ms, "bytes", bytes, NULL);
    if (seen)
        free(seen->path);
    free(seen);
}
