/* The HTTP server. libmicrohttpd parses and frames; its epoll descriptor is one watcher of the
 * loop. Connections are accepted here (peer credentials, limits) and given to it.
 *
 *   a request      made at the end of its headers (on_request)
 *     reading      body pieces arrive
 *     handled      `handle` has it. If it does not answer at once the connection is suspended
 *                  ("parked"), and its descriptor is watched for the client's leaving
 *     answered     the response is queued; a stream is parked whenever it has nothing to say
 *     over         on_completed: by the end of the answer, or because the client left
 *
 * Invariants: 1. MHD_resume_connection is called for parked requests only. 2. After each MHD_run
 * its timeout is armed. 3. A watcher on a connection's descriptor runs only while it is parked. */
#include "net/http.h"

#include <errno.h>
#include <ev.h>
#include <fcntl.h>
#include <microhttpd.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdlib.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"

#define MAX_SET_HEADERS 8
#define STREAM_BLOCK    16384
#define SWEEP_S         1.0
#define CONNECTION_POOL ((size_t)HTTP_HEADER_BYTES + 8192) /* the library's, with its own needs */

struct conn {
    struct conn *prev, *next;
    struct http_server *server;
    int fd;
    bool tcp, shut;
    uid_t uid;
    double deadline; /* of the next thing that must happen; 0: none */
    struct http_request *request;
};

struct http_request {
    struct conn *conn;
    struct MHD_Connection *mc;
    enum http_method method;
    char *method_name, *path;
    void *user;
    int64_t started_ns;
    struct pd_buf body;
    struct {
        char *name, *value;
    } headers[MAX_SET_HEADERS];
    unsigned n_headers, status;
    bool handled, answered, queued, parked;
    bool unread; /* a body is coming that nobody wants: the connection ends with the answer */
    bool busy;   /* the client sent more while it waits: its end is found by sweeping */
    ev_io watch; /* for the client's leaving, while parked */
    struct MHD_Response *response;
    bool streaming, ended, aborted;
    struct pd_buf out; /* of a stream: what is not yet sent begins at out_at */
    size_t out_at, bytes_out;
    double last_write, ping_s;
    void (*gone)(void *user);
    void *gone_user;
};

struct listener {
    ev_io io;
    struct http_server *server;
    struct listener *next;
};

struct http_server {
    struct ev_loop *loop;
    struct http_config c;
    struct MHD_Daemon *mhd;
    ev_io epoll;
    ev_timer again, sweep;
    ev_timer accept_later; /* after descriptors ran out */
    struct listener *listeners;
    struct conn *conns;
    unsigned n_conns, n_requests, n_streams;
};

static double now(const struct http_server *s)
{
    return ev_now(s->loop);
}

/* ---- running the library ------------------------------------------------------------------- */

static void run(struct http_server *s)
{
    MHD_UNSIGNED_LONG_LONG ms;

    MHD_run(s->mhd);
    ev_timer_stop(s->loop, &s->again);
    if (MHD_get_timeout(s->mhd, &ms) == MHD_YES) {
        ev_timer_set(&s->again, (double)ms / 1000.0, 0);
        ev_timer_start(s->loop, &s->again);
    }
}

/* As soon as the loop turns: never from inside one of the library's callbacks. */
static void run_soon(struct http_server *s)
{
    ev_timer_stop(s->loop, &s->again);
    ev_timer_set(&s->again, 0, 0);
    ev_timer_start(s->loop, &s->again);
}

static void on_epoll(struct ev_loop *loop, ev_io *w, int events)
{
    (void)loop, (void)events;
    run(w->data);
}

static void on_again(struct ev_loop *loop, ev_timer *w, int events)
{
    (void)loop, (void)events;
    run(w->data);
}

static void park(struct http_request *r)
{
    struct http_server *s = r->conn->server;

    MHD_suspend_connection(r->mc);
    r->parked = true;
    if (!r->busy) {
        ev_io_set(&r->watch, r->conn->fd, EV_READ);
        ev_io_start(s->loop, &r->watch);
    }
}

static void unpark(struct http_request *r)
{
    struct http_server *s = r->conn->server;

    if (!r->parked)
        return;
    r->parked = false;
    ev_io_stop(s->loop, &r->watch);
    MHD_resume_connection(r->mc);
    run_soon(s);
}

/* The owner hears of it at once; the library notices on the resumed connection. */
static void client_left(struct http_request *r)
{
    void (*gone)(void *) = r->gone;

    r->gone = NULL;
    r->aborted = r->ended = true;
    if (!r->conn->shut) {
        r->conn->shut = true;
        shutdown(r->conn->fd, SHUT_RDWR);
    }
    if (gone)
        gone(r->gone_user);
    if (!r->answered) { /* nobody else will */
        r->status = 499;
        r->answered = true;
        r->response = MHD_create_response_from_buffer(0, NULL, MHD_RESPMEM_PERSISTENT);
    }
    unpark(r);
}

static void on_parked_readable(struct ev_loop *loop, ev_io *w, int events)
{
    struct http_request *r = w->data;
    char byte;
    ssize_t n = recv(w->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);

    (void)events;
    if (n > 0) { /* the next request is there already: reading would not tell when it goes */
        r->busy = true;
        ev_io_stop(loop, w);
    } else if (n == 0 || (errno != EAGAIN && errno != EINTR)) {
        client_left(r);
    }
}

/* ---- answering ----------------------------------------------------------------------------- */

static ssize_t read_stream(void *arg, uint64_t at, char *to, size_t max)
{
    struct http_request *r = arg;
    size_t n = r->out.len - r->out_at;

    (void)at;
    if (r->aborted)
        return MHD_CONTENT_READER_END_WITH_ERROR;
    if (n == 0 && r->ended)
        return MHD_CONTENT_READER_END_OF_STREAM;
    if (n == 0) {
        r->conn->deadline = 0;
        park(r);
        return 0;
    }
    n = n < max ? n : max;
    memcpy(to, r->out.data + r->out_at, n);
    r->out_at += n;
    r->bytes_out += n;
    if (r->out_at == r->out.len) {
        pd_buf_clear(&r->out);
        r->out_at = 0;
    }
    r->conn->deadline = now(r->conn->server) + r->conn->server->c.stall_s;
    return (ssize_t)n;
}

static enum MHD_Result queue_response(struct http_request *r)
{
    enum MHD_Result ok;

    if (!r->response)
        return MHD_NO;
    for (unsigned i = 0; i < r->n_headers; i++)
        MHD_add_response_header(r->response, r->headers[i].name, r->headers[i].value);
    if (r->unread || r->aborted)
        MHD_add_response_header(r->response, MHD_HTTP_HEADER_CONNECTION, "close");
    r->queued = true;
    ok = MHD_queue_response(r->mc, r->status == 499 ? 400 : r->status, r->response);
    MHD_destroy_response(r->response);
    r->response = NULL;
    return ok;
}

void http_set_header(struct http_request *r, const char *name, const char *value)
{
    char *n = strdup(name), *v = strdup(value);

    if (!n || !v || r->n_headers == MAX_SET_HEADERS) {
        free(n);
        free(v);
        return;
    }
    r->headers[r->n_headers].name = n;
    r->headers[r->n_headers++].value = v;
}

static void answer(struct http_request *r, unsigned status, const char *content_type)
{
    r->status = status;
    r->answered = true;
    r->conn->deadline = now(r->conn->server) + r->conn->server->c.stall_s;
    if (content_type)
        http_set_header(r, MHD_HTTP_HEADER_CONTENT_TYPE, content_type);
    unpark(r);
}

void http_reply(struct http_request *r, unsigned status, const char *content_type,
                struct pd_str body)
{
    void *bytes = (void *)(uintptr_t)body.ptr; /* MUST_COPY: it is only read */

    r->gone = NULL;
    r->bytes_out = body.len;
    r->response = MHD_create_response_from_buffer(body.len, bytes, MHD_RESPMEM_MUST_COPY);
    answer(r, status, content_type);
}

void http_stream_begin(struct http_request *r, unsigned status, const char *content_type)
{
    r->streaming = true;
    r->conn->server->n_streams++;
    r->last_write = now(r->conn->server);
    r->response =
        MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, STREAM_BLOCK, read_stream, r, NULL);
    answer(r, status, content_type);
}

int http_stream_write(struct http_request *r, struct pd_str piece)
{
    int rc;

    if (r->out_at > HTTP_STREAM_BACKLOG / 2) { /* what was sent makes room */
        memmove(r->out.data, r->out.data + r->out_at, r->out.len - r->out_at);
        r->out.len -= r->out_at;
        r->out_at = 0;
    }
    rc = r->out.len - r->out_at + piece.len > HTTP_STREAM_BACKLOG ? PD_ELIMIT
                                                                  : pd_buf_adds(&r->out, piece);
    r->last_write = now(r->conn->server);
    unpark(r);
    return rc < 0 ? PD_ELIMIT : 0;
}

void http_stream_ping(struct http_request *r, double every_s)
{
    r->ping_s = every_s;
}

void http_stream_end(struct http_request *r)
{
    r->gone = NULL;
    r->ended = true;
    unpark(r);
}

void http_stream_abort(struct http_request *r)
{
    r->aborted = true;
    http_stream_end(r);
}

void http_on_close(struct http_request *r, void (*gone)(void *user), void *user)
{
    r->gone = gone;
    r->gone_user = user;
}

/* ---- asking -------------------------------------------------------------------------------- */

enum http_method http_method(const struct http_request *r)
{
    return r->method;
}

const char *http_method_name(const struct http_request *r)
{
    return r->method_name;
}

const char *http_path(const struct http_request *r)
{
    return r->path;
}

const char *http_query(const struct http_request *r, const char *key)
{
    return MHD_lookup_connection_value(r->mc, MHD_GET_ARGUMENT_KIND, key);
}

const char *http_header(const struct http_request *r, const char *name)
{
    return MHD_lookup_connection_value(r->mc, MHD_HEADER_KIND, name);
}

struct nth {
    unsigned left;
    const char *key, *value;
    bool found;
};

static enum MHD_Result take_nth(void *arg, enum MHD_ValueKind kind, const char *key,
                                const char *value)
{
    struct nth *n = arg;

    (void)kind;
    if (n->left-- > 0)
        return MHD_YES;
    *n = (struct nth){0, key, value, true};
    return MHD_NO;
}

bool http_query_at(const struct http_request *r, unsigned n, const char **out_key,
                   const char **out_value)
{
    struct nth it = {n, NULL, NULL, false};

    MHD_get_connection_values(r->mc, MHD_GET_ARGUMENT_KIND, take_nth, &it);
    *out_key = it.key;
    *out_value = it.value ? it.value : "";
    return it.found;
}

struct pd_str http_body(const struct http_request *r)
{
    return pd_buf_str(&r->body);
}

bool http_is_tcp(const struct http_request *r)
{
    return r->conn->tcp;
}

uid_t http_peer_uid(const struct http_request *r)
{
    return r->conn->uid;
}

void http_set_user(struct http_request *r, void *user)
{
    r->user = user;
}

void *http_user(const struct http_request *r)
{
    return r->user;
}

unsigned http_status(const struct http_request *r)
{
    return r->status;
}

double http_seconds(const struct http_request *r)
{
    return (double)(pd_clock_now_ns() - r->started_ns) / (double)PD_NS_PER_S;
}

size_t http_bytes_out(const struct http_request *r)
{
    return r->bytes_out;
}

/* ---- the library's callbacks --------------------------------------------------------------- */

static enum http_method method_of(const char *name)
{
    static const char *const names[] = {"GET", "HEAD", "POST", "DELETE"};

    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(name, names[i]) == 0)
            return (enum http_method)i;
    return HTTP_OTHER;
}

static struct conn *conn_of(struct MHD_Connection *mc)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(mc, MHD_CONNECTION_INFO_SOCKET_CONTEXT);

    return info ? info->socket_context : NULL;
}

static enum MHD_Result count_lengths(void *arg, enum MHD_ValueKind kind, const char *key,
                                     const char *value)
{
    (void)kind, (void)value;
    *(unsigned *)arg += strcasecmp(key, MHD_HTTP_HEADER_CONTENT_LENGTH) == 0 ||
                        strcasecmp(key, MHD_HTTP_HEADER_TRANSFER_ENCODING) == 0;
    return MHD_YES;
}

/* 0, or the status that refuses these headers; *out_why says more. */
static unsigned check_framing(const struct http_request *r, const char **out_why)
{
    const char *coding = http_header(r, MHD_HTTP_HEADER_TRANSFER_ENCODING);
    const char *length = http_header(r, MHD_HTTP_HEADER_CONTENT_LENGTH);
    const union MHD_ConnectionInfo *size =
        MHD_get_connection_info(r->mc, MHD_CONNECTION_INFO_REQUEST_HEADER_SIZE);
    unsigned lengths = 0;
    uint64_t n;

    if (size && size->header_size > HTTP_HEADER_BYTES) {
        *out_why = "the header is too large";
        return 431;
    }
    if ((unsigned)MHD_get_connection_values(r->mc, MHD_HEADER_KIND, NULL, NULL) > HTTP_MAX_FIELDS) {
        *out_why = "too many header fields";
        return 431;
    }
    MHD_get_connection_values(r->mc, MHD_HEADER_KIND, count_lengths, &lengths);
    if (lengths > 1) {
        *out_why = "the length of the body is given twice";
        return 400;
    }
    if (coding && strcasecmp(coding, "chunked") != 0) {
        *out_why = "only the transfer coding chunked is known";
        return 501;
    }
    if (length && !pd_parse_u64(pd_str_of(length), &n)) {
        *out_why = "Content-Length is not a number";
        return 400;
    }
    if (length && n > r->conn->server->c.max_body) {
        *out_why = "the body is too large";
        return 413;
    }
    return 0;
}

static bool has_body(const struct http_request *r)
{
    const char *length = http_header(r, MHD_HTTP_HEADER_CONTENT_LENGTH);

    return (length && strcmp(length, "0") != 0) ||
           http_header(r, MHD_HTTP_HEADER_TRANSFER_ENCODING) != NULL;
}

/* Errors of framing are told before anybody else sees the request, in the API's form. */
static void refuse(struct http_request *r, unsigned status, const char *why)
{
    struct pd_buf b = PD_BUF_INIT(1024);

    pd_buf_printf(&b,
                  "{\"error\":{\"message\":\"%s\",\"type\":\"%s\",\"param\":null,\"code\":\"%s\"}}",
                  why, status == 501 ? "not_supported_error" : "invalid_request_error",
                  status == 413   ? "body_too_large"
                  : status == 431 ? "headers_too_large"
                  : status == 501 ? "not_built"
                                  : "unsupported_value");
    r->unread = true; /* whatever follows */
    http_reply(r, status, "application/json", pd_buf_str(&b));
    pd_buf_done(&b);
}

static struct http_request *new_request(struct MHD_Connection *mc, const char *url,
                                        const char *method)
{
    struct conn *c = conn_of(mc);
    struct http_request *r = c ? calloc(1, sizeof *r) : NULL;

    if (!r)
        return NULL;
    r->conn = c;
    r->mc = mc;
    r->method = method_of(method);
    r->method_name = strdup(method);
    r->path = strdup(url);
    r->started_ns = pd_clock_now_ns();
    r->body = PD_BUF_INIT(c->server->c.max_body);
    r->out = PD_BUF_INIT(4 * HTTP_STREAM_BACKLOG);
    ev_init(&r->watch, on_parked_readable);
    r->watch.data = r;
    c->request = r;
    if (r->path && r->method_name) {
        c->server->n_requests++;
        return r;
    }
    c->request = NULL;
    free(r->path);
    free(r->method_name);
    free(r);
    return NULL;
}

static enum MHD_Result on_request(void *arg, struct MHD_Connection *mc, const char *url,
                                  const char *method, const char *version, const char *data,
                                  size_t *data_size, void **slot)
{
    struct http_server *s = arg;
    struct http_request *r = *slot;

    (void)version;
    if (!r) { /* the headers are complete */
        const char *why;
        unsigned status;

        r = *slot = new_request(mc, url, method);
        if (!r)
            return MHD_NO;
        r->conn->deadline = now(s) + s->c.stall_s;
        status = check_framing(r, &why);
        if (status)
            refuse(r, status, why);
        else
            s->c.admit(s->c.user, r);
        r->unread |= r->answered && has_body(r);
        return r->answered ? queue_response(r) : MHD_YES;
    }
    if (*data_size > 0) {
        r->conn->deadline = now(s) + s->c.stall_s;
        if (pd_buf_add(&r->body, data, *data_size) < 0)
            return MHD_NO; /* no answer can be queued while a body arrives */
        *data_size = 0;
        return MHD_YES;
    }
    if (!r->handled) {
        r->handled = true;
        r->conn->deadline = 0; /* from here on it is we who take the time */
        s->c.handle(s->c.user, r);
    }
    if (r->answered)
        return r->queued ? MHD_YES : queue_response(r);
    park(r);
    return MHD_YES;
}

static void on_completed(void *arg, struct MHD_Connection *mc, void **slot,
                         enum MHD_RequestTerminationCode how)
{
    struct http_server *s = arg;
    struct http_request *r = *slot;

    (void)mc;
    if (!r)
        return;
    *slot = NULL;
    if (r->gone) {
        void (*gone)(void *) = r->gone;

        r->gone = NULL;
        gone(r->gone_user);
    }
    if (how != MHD_REQUEST_TERMINATED_COMPLETED_OK && !r->ended)
        r->status = 499;
    s->c.finished(s->c.user, r);
    ev_io_stop(s->loop, &r->watch);
    r->conn->request = NULL;
    r->conn->deadline = now(s) + s->c.idle_s + s->c.header_s;
    s->n_streams -= r->streaming;
    s->n_requests--;
    if (r->response)
        MHD_destroy_response(r->response);
    for (unsigned i = 0; i < r->n_headers; i++) {
        free(r->headers[i].name);
        free(r->headers[i].value);
    }
    pd_buf_done(&r->body);
    pd_buf_done(&r->out);
    free(r->path);
    free(r->method_name);
    free(r);
}

static void on_connection(void *arg, struct MHD_Connection *mc, void **slot,
                          enum MHD_ConnectionNotificationCode what)
{
    struct http_server *s = arg;
    struct conn *c = *slot;

    if (what == MHD_CONNECTION_NOTIFY_STARTED) {
        const union MHD_ConnectionInfo *info =
            MHD_get_connection_info(mc, MHD_CONNECTION_INFO_CONNECTION_FD);
        struct sockaddr_storage a;
        socklen_t n = sizeof a;
        struct ucred peer;

        c = calloc(1, sizeof *c);
        if (!c || !info)
            return; /* its requests are refused: conn_of */
        c->server = s;
        c->fd = info->connect_fd;
        c->uid = (uid_t)-1;
        c->tcp = getsockname(c->fd, (struct sockaddr *)&a, &n) < 0 || a.ss_family != AF_UNIX;
        n = sizeof peer;
        if (!c->tcp && getsockopt(c->fd, SOL_SOCKET, SO_PEERCRED, &peer, &n) == 0)
            c->uid = peer.uid;
        c->deadline = now(s) + s->c.header_s;
        c->next = s->conns;
        if (c->next)
            c->next->prev = c;
        s->conns = c;
        s->n_conns++;
        *slot = c;
    } else if (c) {
        if (c->prev)
            c->prev->next = c->next;
        else
            s->conns = c->next;
        if (c->next)
            c->next->prev = c->prev;
        s->n_conns--;
        free(c);
        *slot = NULL;
    }
}

/* ---- connections --------------------------------------------------------------------------- */

static bool peer_left(int fd)
{
    struct pollfd p = {.fd = fd, .events = POLLRDHUP};

    return poll(&p, 1, 0) > 0 && (p.revents & (POLLRDHUP | POLLHUP | POLLERR)) != 0;
}

/* Deadlines, pings, and clients that leave behind a request that waits for its turn. */
static void on_sweep(struct ev_loop *loop, ev_timer *w, int events)
{
    struct http_server *s = w->data;
    struct conn *next;

    (void)loop, (void)events;
    for (struct conn *c = s->conns; c; c = next) {
        struct http_request *r = c->request;

        next = c->next;
        if (r && r->parked && r->busy && peer_left(c->fd)) {
            client_left(r);
        } else if (r && r->parked && r->streaming && r->ping_s > 0 &&
                   now(s) - r->last_write >= r->ping_s) {
            http_stream_write(r, PD_STR(": ping\n\n"));
        } else if (c->deadline > 0 && now(s) > c->deadline && !c->shut) {
            c->shut = true;
            shutdown(c->fd, SHUT_RDWR); /* the library sees it end */
        }
    }
}

int http_server_add(struct http_server *s, int fd, struct pd_err *err)
{
    struct sockaddr_storage a = {.ss_family = AF_UNIX};
    socklen_t n = sizeof a;
    int one = 1, e;

    if (s->n_conns >= s->c.max_connections) {
        close(fd);
        return pd_fail(err, PD_ELIMIT, "%u connections are open, more are not served", s->n_conns);
    }
    if (getpeername(fd, (struct sockaddr *)&a, &n) < 0)
        n = sizeof a.ss_family;
    if (a.ss_family != AF_UNIX) /* pieces of a stream leave when they are written */
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (MHD_add_connection(s->mhd, fd, (struct sockaddr *)&a, n) == MHD_YES) {
        run_soon(s);
        return 0;
    }
    e = errno; /* the library has closed fd */
    return pd_fail_errno(err, e ? e : ENOMEM, "cannot serve a connection");
}

static void on_accept(struct ev_loop *loop, ev_io *w, int events)
{
    struct http_server *s = ((struct listener *)w->data)->server;

    (void)events;
    for (int i = 0; i < 64; i++) { /* then others have their turn */
        int fd = accept4(w->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

        if (fd >= 0) {
            http_server_add(s, fd, NULL);
        } else if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
            /* The queue stays full and readable: look again when something may have ended. */
            for (struct listener *l = s->listeners; l; l = l->next)
                ev_io_stop(loop, &l->io);
            ev_timer_start(loop, &s->accept_later);
            return;
        } else if (errno != EINTR && errno != ECONNABORTED) {
            return;
        }
    }
}

static void on_accept_later(struct ev_loop *loop, ev_timer *w, int events)
{
    struct http_server *s = w->data;

    (void)events;
    for (struct listener *l = s->listeners; l; l = l->next)
        ev_io_start(loop, &l->io);
}

int http_server_listen(struct http_server *s, int fd, struct pd_err *err)
{
    struct listener *l = calloc(1, sizeof *l);

    if (!l) {
        close(fd);
        return pd_fail(err, PD_ENOMEM, "out of memory");
    }
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
    l->server = s;
    l->next = s->listeners;
    s->listeners = l;
    ev_io_init(&l->io, on_accept, fd, EV_READ);
    l->io.data = l;
    ev_io_start(s->loop, &l->io);
    return 0;
}

void http_server_stop_listening(struct http_server *s)
{
    ev_timer_stop(s->loop, &s->accept_later);
    while (s->listeners) {
        struct listener *l = s->listeners;

        s->listeners = l->next;
        ev_io_stop(s->loop, &l->io);
        close(l->io.fd);
        free(l);
    }
}

void http_server_set_max_body(struct http_server *s, size_t max_body)
{
    s->c.max_body = max_body;
}

int http_server_new(struct ev_loop *loop, const struct http_config *c, struct http_server **out,
                    struct pd_err *err)
{
    struct http_server *s = calloc(1, sizeof *s);
    const union MHD_DaemonInfo *info;

    if (!s)
        return pd_fail(err, PD_ENOMEM, "out of memory");
    s->loop = loop;
    s->c = *c;
    s->mhd = MHD_start_daemon(
        MHD_USE_EPOLL | MHD_USE_NO_LISTEN_SOCKET | MHD_ALLOW_SUSPEND_RESUME, 0, NULL, NULL,
        on_request, s, MHD_OPTION_NOTIFY_COMPLETED, on_completed, s, MHD_OPTION_NOTIFY_CONNECTION,
        on_connection, s, MHD_OPTION_CONNECTION_MEMORY_LIMIT, CONNECTION_POOL,
        MHD_OPTION_CONNECTION_LIMIT, c->max_connections, MHD_OPTION_CONNECTION_TIMEOUT,
        (unsigned)c->idle_s, MHD_OPTION_SIGPIPE_HANDLED_BY_APP, 1, MHD_OPTION_STRICT_FOR_CLIENT, 1,
        MHD_OPTION_END);
    info = s->mhd ? MHD_get_daemon_info(s->mhd, MHD_DAEMON_INFO_EPOLL_FD) : NULL;
    if (!info) {
        if (s->mhd)
            MHD_stop_daemon(s->mhd);
        free(s);
        return pd_fail(err, PD_EIO, "cannot start the HTTP server");
    }
    ev_io_init(&s->epoll, on_epoll, info->epoll_fd, EV_READ);
    s->epoll.data = s;
    ev_io_start(loop, &s->epoll);
    ev_timer_init(&s->again, on_again, 0, 0);
    s->again.data = s;
    ev_timer_init(&s->sweep, on_sweep, SWEEP_S, SWEEP_S);
    s->sweep.data = s;
    ev_timer_start(loop, &s->sweep);
    ev_timer_init(&s->accept_later, on_accept_later, SWEEP_S, 0);
    s->accept_later.data = s;
    *out = s;
    return 0;
}

void http_server_free(struct http_server *s)
{
    if (!s)
        return;
    http_server_stop_listening(s);
    for (struct conn *c = s->conns; c; c = c->next)
        if (c->request && c->request->parked)
            client_left(c->request); /* nothing may be parked when the library stops */
    MHD_run(s->mhd);
    ev_io_stop(s->loop, &s->epoll);
    ev_timer_stop(s->loop, &s->again);
    ev_timer_stop(s->loop, &s->sweep);
    MHD_stop_daemon(s->mhd);
    free(s);
}

unsigned http_server_connections(const struct http_server *s)
{
    return s->n_conns;
}

unsigned http_server_requests(const struct http_server *s)
{
    return s->n_requests;
}

unsigned http_server_streams(const struct http_server *s)
{
    return s->n_streams;
}
