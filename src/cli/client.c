#include "cli/client.h"

#include <curl/curl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "app/app.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/json.h"

#define REPLY_MAX   ((size_t)256 << 20)
#define LINE_BYTES  ((size_t)16 << 20) /* of an event stream */
#define CONNECT_S   5L
#define STALL_S     45L /* the daemon pings a silent stream every 15 */
#define RETRY_NS    (200 * PD_NS_PER_MS)
#define RETRIES_MAX 25 /* in a row without one event: a daemon that starts again */

struct client {
    CURL *curl;
    char *socket; /* NULL: TCP */
    char *base;   /* "http://host:port" */
    char *auth;   /* "Authorization: Bearer …", or NULL */
    int signal;
    int64_t deadline_ns;
};

/* ---- opening --------------------------------------------------------------------------------- */

static int no_memory(struct pd_err *err)
{
    return pd_fail(err, PD_ENOMEM, "out of memory");
}

static int load_token(struct client *c, struct pd_err *err)
{
    const char *named = getenv("PONDER_TOKEN_FILE");
    struct pd_buf token = PD_BUF_INIT(4096);
    char *path = named && *named ? strdup(named) : app_runtime_path("token");
    struct pd_str trimmed;
    int rc = path ? pd_read_file(path, &token, err) : no_memory(err);

    trimmed = pd_str_trim(pd_buf_str(&token));
    if (rc < 0)
        pd_err_context(err, "the daemon's token for TCP");
    else if (asprintf(&c->auth, "Authorization: Bearer %.*s", (int)trimmed.len, trimmed.ptr) < 0)
        rc = no_memory(err);
    pd_buf_done(&token);
    free(path);
    return rc;
}

int client_open(const char *host, struct client **out, struct pd_err *err)
{
    struct client *c = calloc(1, sizeof *c);
    int rc = c ? 0 : no_memory(err);

    if (rc == 0 && (!host || strcmp(host, "unix") == 0)) {
        c->socket = app_runtime_path("ponder.sock");
    } else if (rc == 0 && strncmp(host, "unix:///", 8) == 0) {
        c->socket = strdup(host + 7);
    } else if (rc == 0 && strncmp(host, "http://", 7) == 0 && host[7]) {
        size_t n = strlen(host);

        c->base = pd_str_dup((struct pd_str){host, host[n - 1] == '/' ? n - 1 : n});
        rc = load_token(c, err);
    } else if (rc == 0) {
        rc = pd_fail(err, PD_EINVAL,
                     "--host must be unix:///PATH or http://127.0.0.1:PORT, not "
                     "'%s'",
                     host);
    }
    if (rc == 0)
        c->deadline_ns = PD_NEVER_NS;
    if (rc == 0 && !c->base)
        c->base = strdup("http://localhost");
    if (rc == 0) {
        curl_global_init(CURL_GLOBAL_DEFAULT);
        c->curl = curl_easy_init();
        if (!c->curl || !c->base)
            rc = no_memory(err);
    }
    if (rc < 0) {
        client_close(c);
        return rc;
    }
    *out = c;
    return 0;
}

void client_close(struct client *c)
{
    if (!c)
        return;
    curl_easy_cleanup(c->curl);
    free(c->socket);
    free(c->base);
    free(c->auth);
    free(c);
}

int client_signal(const struct client *c)
{
    return c->signal;
}

void client_deadline(struct client *c, int64_t deadline_ns)
{
    c->deadline_ns = deadline_ns;
}

/* ---- one request ----------------------------------------------------------------------------- */

/* curl asks about once a second, and more often while bytes move. */
static int look_around(void *user, curl_off_t a, curl_off_t b, curl_off_t x, curl_off_t y)
{
    const struct timespec at_once = {0, 0};
    struct client *c = user;
    sigset_t set;
    int sig;

    (void)a, (void)b, (void)x, (void)y;
    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGTERM);
    sig = sigtimedwait(&set, NULL, &at_once);
    if (sig > 0)
        c->signal = sig;
    return sig > 0 || pd_clock_now_ns() >= c->deadline_ns;
}

struct transfer {
    struct client *c;
    struct curl_slist *headers;
    char *url;
};

static int prepare(struct client *c, struct transfer *t, const char *method, const char *path,
                   const struct pd_str *body, const char *header, struct pd_err *err)
{
    const char *const lines[] = {body ? "Content-Type: application/json" : NULL, c->auth, header,
                                 "Expect:"};
    bool ok = true;

    *t = (struct transfer){.c = c};
    curl_easy_reset(c->curl); /* the connection stays */
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++)
        if (lines[i]) {
            struct curl_slist *more = curl_slist_append(t->headers, lines[i]);

            ok = ok && more;
            t->headers = more ? more : t->headers;
        }
    if (asprintf(&t->url, "%s%s", c->base, path) < 0)
        t->url = NULL;
    if (!ok || !t->url)
        return no_memory(err);
    curl_easy_setopt(c->curl, CURLOPT_URL, t->url);
    curl_easy_setopt(c->curl, CURLOPT_PROTOCOLS_STR, "http");
    curl_easy_setopt(c->curl, CURLOPT_PROXY, "");
    curl_easy_setopt(c->curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(c->curl, CURLOPT_HTTPHEADER, t->headers);
    curl_easy_setopt(c->curl, CURLOPT_CONNECTTIMEOUT, CONNECT_S);
    curl_easy_setopt(c->curl, CURLOPT_NOPROGRESS, 0L);
    curl_easy_setopt(c->curl, CURLOPT_XFERINFOFUNCTION, look_around);
    curl_easy_setopt(c->curl, CURLOPT_XFERINFODATA, c);
    if (c->socket)
        curl_easy_setopt(c->curl, CURLOPT_UNIX_SOCKET_PATH, c->socket);
    if (body) {
        curl_easy_setopt(c->curl, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)body->len);
        curl_easy_setopt(c->curl, CURLOPT_POSTFIELDS, body->ptr);
    }
    curl_easy_setopt(c->curl, CURLOPT_CUSTOMREQUEST, method);
    return 0;
}

static void finish(struct transfer *t)
{
    curl_slist_free_all(t->headers);
    free(t->url);
}

static int transfer_error(struct client *c, CURLcode code, struct pd_err *err)
{
    const char *where = c->socket ? c->socket : c->base;

    if (code == CURLE_ABORTED_BY_CALLBACK)
        return c->signal ? pd_fail(err, PD_ECANCEL, "interrupted")
                         : pd_fail(err, PD_ETIMEOUT, "the time to wait is over");
    if (code == CURLE_OUT_OF_MEMORY)
        return no_memory(err);
    if (code == CURLE_COULDNT_CONNECT)
        return pd_fail(err, PD_EREMOTE,
                       "no daemon answers at %s (start one with ponder serve, or name it with "
                       "--host)",
                       where);
    return pd_fail(err, PD_EREMOTE, "the daemon at %s: %s", where, curl_easy_strerror(code));
}

/* What the daemon's error object, or without one its status, means to the user. */
static int reply_error(long status, struct pd_str body, struct pd_err *err)
{
    static const struct {
        long status;
        enum pd_code code;
    } meanings[] = {{400, PD_EINVAL}, {401, PD_EPERM},  {403, PD_EPERM},
                    {404, PD_ENOENT}, {409, PD_EINVAL}, {413, PD_EINVAL},
                    {429, PD_EBUSY},  {503, PD_EBUSY},  {507, PD_ENOMEM}};
    enum pd_code code = PD_EREMOTE;
    struct pd_json *root = NULL;
    const char *message = NULL;
    int rc;

    for (size_t i = 0; i < sizeof meanings / sizeof *meanings; i++)
        if (meanings[i].status == status)
            code = meanings[i].code;
    if (pd_json_parse(body, &root, NULL) == 0)
        message = pd_json_string(pd_json_get(pd_json_get(root, "error"), "message"));
    rc = message ? pd_fail(err, code, "%s", message)
                 : pd_fail(err, code, "the daemon answered with status %ld", status);
    pd_json_free(root);
    return rc;
}

static size_t to_buf(char *bytes, size_t one, size_t n, void *user)
{
    return pd_buf_add(user, bytes, one * n) < 0 ? 0 : one * n;
}

int client_call(struct client *c, const char *method, const char *path, const struct pd_str *body,
                const char *header, struct pd_buf *out, struct pd_err *err)
{
    struct transfer t;
    long status = 0;
    CURLcode code;
    int rc = prepare(c, &t, method, path, body, header, err);

    if (rc == 0) {
        pd_buf_clear(out);
        curl_easy_setopt(c->curl, CURLOPT_WRITEFUNCTION, to_buf);
        curl_easy_setopt(c->curl, CURLOPT_WRITEDATA, out);
        code = curl_easy_perform(c->curl);
        curl_easy_getinfo(c->curl, CURLINFO_RESPONSE_CODE, &status);
        if (code != CURLE_OK)
            rc = pd_buf_rc(out) < 0
                     ? pd_fail(err, PD_ELIMIT, "the daemon's answer is too large to be held")
                     : transfer_error(c, code, err);
        else if (status < 200 || status > 299)
            rc = reply_error(status, pd_buf_str(out), err);
    }
    finish(&t);
    return rc;
}

/* ---- event streams --------------------------------------------------------------------------- */

struct stream {
    struct client *c;
    struct net_sse sse;
    struct pd_buf other;       /* an answer that is no stream */
    char last[NET_SSE_ID_MAX]; /* the id of the last event that was handed on */
    int (*each)(void *user, const struct net_sse_event *e);
    void *user;
    int rc;     /* of reading */
    unsigned n; /* events since the connection was made */
};

static int each_of_stream(void *user, const struct net_sse_event *e)
{
    struct stream *s = user;

    s->n++;
    memcpy(s->last, s->sse.id, sizeof s->last);
    return s->each(s->user, e);
}

static void stream_init(struct stream *s, struct client *c, size_t max_bytes,
                        int (*each)(void *user, const struct net_sse_event *e), void *user)
{
    *s = (struct stream){.c = c, .other = PD_BUF_INIT(REPLY_MAX), .each = each, .user = user};
    net_sse_init(&s->sse, max_bytes, each_of_stream, s);
}

static void stream_done(struct stream *s)
{
    net_sse_done(&s->sse);
    pd_buf_done(&s->other);
}

/* What each has returned, or why the reading has ended. */
static int stream_rc(const struct stream *s, struct pd_err *err)
{
    return s->rc == PD_ELIMIT ? pd_fail(err, s->rc, "an event is too large to be held") : s->rc;
}

static size_t to_stream(char *bytes, size_t one, size_t n, void *user)
{
    struct stream *s = user;
    long status = 0;

    curl_easy_getinfo(s->c->curl, CURLINFO_RESPONSE_CODE, &status);
    if (status != 200)
        return to_buf(bytes, one, n, &s->other);
    s->rc = net_sse_add(&s->sse, (struct pd_str){bytes, one * n});
    return s->rc == 0 ? one * n : 0;
}

static size_t to_either(char *bytes, size_t one, size_t n, void *user)
{
    struct stream *s = user;
    const char *type = NULL;

    curl_easy_getinfo(s->c->curl, CURLINFO_CONTENT_TYPE, &type);
    return type && strncmp(type, "text/event-stream", 17) == 0 ? to_stream(bytes, one, n, s)
                                                               : to_buf(bytes, one, n, &s->other);
}

int client_post(struct client *c, const char *path, struct pd_str body, const char *header,
                int (*each)(void *user, const struct net_sse_event *e), void *user,
                long *out_status, struct pd_err *err)
{
    struct stream s;
    struct transfer t;
    long status = 0;
    CURLcode code;
    int rc = prepare(c, &t, "POST", path, &body, header, err);

    stream_init(&s, c, REPLY_MAX, each, user);
    if (rc == 0) {
        curl_easy_setopt(c->curl, CURLOPT_WRITEFUNCTION, to_either);
        curl_easy_setopt(c->curl, CURLOPT_WRITEDATA, &s);
        code = curl_easy_perform(c->curl);
        curl_easy_getinfo(c->curl, CURLINFO_RESPONSE_CODE, &status);
        if (code != CURLE_OK)
            rc = s.rc ? stream_rc(&s, err) : transfer_error(c, code, err);
        else if (status < 200 || status > 299)
            rc = reply_error(status, pd_buf_str(&s.other), err);
        else if (s.other.len)
            rc = each(user, &(struct net_sse_event){"", "", pd_buf_str(&s.other)});
    }
    if (out_status)
        *out_status = status;
    finish(&t);
    stream_done(&s);
    return rc;
}

const char *client_reply_header(const struct client *c, const char *name)
{
    struct curl_header *h = NULL;

    return curl_easy_header(c->curl, name, 0, CURLH_HEADER, -1, &h) == CURLHE_OK ? h->value : "";
}

static CURLcode follow(struct stream *s, const char *path, long *out_status, int *out_rc,
                       struct pd_err *err)
{
    char header[NET_SSE_ID_MAX + 16];
    struct transfer t;
    CURLcode code = CURLE_OK;

    snprintf(header, sizeof header, "Last-Event-ID: %s", s->last);
    s->n = 0;
    net_sse_restart(&s->sse);
    pd_buf_clear(&s->other);
    *out_rc = prepare(s->c, &t, "GET", path, NULL, s->last[0] ? header : NULL, err);
    if (*out_rc == 0) {
        curl_easy_setopt(s->c->curl, CURLOPT_WRITEFUNCTION, to_stream);
        curl_easy_setopt(s->c->curl, CURLOPT_WRITEDATA, s);
        curl_easy_setopt(s->c->curl, CURLOPT_LOW_SPEED_LIMIT, 1L);
        curl_easy_setopt(s->c->curl, CURLOPT_LOW_SPEED_TIME, STALL_S);
        code = curl_easy_perform(s->c->curl);
        curl_easy_getinfo(s->c->curl, CURLINFO_RESPONSE_CODE, out_status);
    }
    finish(&t);
    return code;
}

int client_events(struct client *c, const char *path,
                  int (*each)(void *user, const struct net_sse_event *e), void *user,
                  struct pd_err *err)
{
    const struct timespec nap = {0, RETRY_NS};
    struct stream s;
    unsigned failed = 0;
    bool seen = false; /* it has answered once: what breaks now is worth another try */
    int rc;

    stream_init(&s, c, LINE_BYTES, each, user);
    for (;;) {
        long status = 0;
        CURLcode code = follow(&s, path, &status, &rc, err);

        if (rc < 0)
            break;
        rc = stream_rc(&s, err);
        if (rc != 0)
            break;
        if (code == CURLE_OK && status != 200) {
            rc = reply_error(status, pd_buf_str(&s.other), err);
            if (rc != PD_EBUSY || !seen)
                break;
        } else if (code == CURLE_OK) {
            break;
        } else {
            rc = transfer_error(c, code, err);
            seen = seen || status == 200;
            if (rc != PD_EREMOTE || !seen)
                break;
        }
        failed = s.n ? 0 : failed + 1;
        if (failed > RETRIES_MAX)
            break;
        nanosleep(&nap, NULL);
    }
    stream_done(&s);
    return rc;
}
