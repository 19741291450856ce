/* The HTTP server over a pair of sockets: the test is the client, and turns the loop itself. */
#include <errno.h>
#include <ev.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "net/http.h"

struct fixture {
    struct ev_loop *loop;
    struct http_server *server;
    int fd; /* the client's end */
    struct pd_buf got;
    /* what the handler does, and saw */
    enum { ECHO, HOLD, STREAM } how;
    bool forbid;
    struct http_request *held;
    unsigned handled, finished, last_status, gone;
};

static void on_gone(void *user)
{
    struct fixture *f = user;

    f->gone++;
    f->held = NULL;
}

static void admit(void *user, struct http_request *r)
{
    struct fixture *f = user;

    if (f->forbid)
        http_reply(r, 403, "text/plain", PD_STR("no"));
}

static void handle(void *user, struct http_request *r)
{
    struct fixture *f = user;
    struct pd_buf b = PD_BUF_INIT(1 << 20);
    const char *q = http_query(r, "q"), *x = http_header(r, "X-Thing");

    f->handled++;
    if (f->how != ECHO) {
        f->held = r;
        http_on_close(r, on_gone, f);
        if (f->how == STREAM)
            http_stream_begin(r, 200, "text/event-stream");
        return;
    }
    http_set_header(r, "X-Echo", "yes");
    pd_buf_printf(&b, "%s %s q=%s x=%s body=", http_method_name(r), http_path(r), q ? q : "-",
                  x ? x : "-");
    pd_buf_adds(&b, http_body(r));
    http_reply(r, 200, "text/plain", pd_buf_str(&b));
    pd_buf_done(&b);
}

static void finished(void *user, const struct http_request *r)
{
    struct fixture *f = user;

    f->finished++;
    f->last_status = http_status(r);
}

static int connect_client(struct fixture *f)
{
    int ends[2];

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends), 0);
    assert_int_equal(http_server_add(f->server, ends[1], NULL), 0);
    return ends[0];
}

static void set_up_with(struct fixture *f, double header_s, double idle_s)
{
    const struct http_config c = {.max_body = 1000,
                                  .max_connections = 4,
                                  .header_s = header_s,
                                  .stall_s = 30,
                                  .idle_s = idle_s,
                                  .user = f,
                                  .admit = admit,
                                  .handle = handle,
                                  .finished = finished};

    memset(f, 0, sizeof *f);
    f->loop = ev_loop_new(EVFLAG_NOENV);
    f->got = PD_BUF_INIT(8u << 20);
    assert_int_equal(http_server_new(f->loop, &c, &f->server, NULL), 0);
    f->fd = connect_client(f);
}

static void set_up(struct fixture *f)
{
    set_up_with(f, 10, 75);
}

static void tear_down(struct fixture *f)
{
    http_server_free(f->server);
    ev_loop_destroy(f->loop);
    if (f->fd >= 0)
        close(f->fd);
    pd_buf_done(&f->got);
}

static void turn(struct fixture *f)
{
    for (int i = 0; i < 20; i++)
        ev_run(f->loop, EVRUN_NOWAIT);
}

static void say(struct fixture *f, const char *bytes)
{
    assert_int_equal(send(f->fd, bytes, strlen(bytes), MSG_NOSIGNAL), strlen(bytes));
    turn(f);
}

/* Everything that has come; *out_end: and the connection ended. */
static const char *hear(struct fixture *f, bool *out_end)
{
    char piece[65536];
    ssize_t n;

    pd_buf_clear(&f->got);
    turn(f);
    while ((n = recv(f->fd, piece, sizeof piece, 0)) > 0) {
        pd_buf_add(&f->got, piece, (size_t)n);
        turn(f);
    }
    if (out_end)
        *out_end = n == 0 || errno == ECONNRESET;
    return pd_buf_str(&f->got).ptr;
}

static void expect(const char *text, const char *part)
{
    if (!strstr(text, part))
        fail_msg("'%s' is not in:\n%s", part, text);
}

static void test_get(void **state)
{
    struct fixture f;
    const char *t;
    bool end;

    (void)state;
    set_up(&f);
    say(&f, "GET /a%20b?q=1%2B1&r=2 HTTP/1.1\r\nHost: x\r\nX-Thing: 7\r\n\r\n");
    t = hear(&f, &end);
    expect(t, "HTTP/1.1 200 OK\r\n");
    expect(t, "X-Echo: yes\r\n");
    expect(t, "GET /a b q=1+1 x=7 body=");
    assert_false(end);
    assert_int_equal(f.finished, 1);
    assert_int_equal(f.last_status, 200);
    tear_down(&f);
}

static void test_head_has_no_body(void **state)
{
    struct fixture f;
    const char *t;

    (void)state;
    set_up(&f);
    say(&f, "HEAD / HTTP/1.1\r\nHost: x\r\n\r\n");
    t = hear(&f, NULL);
    expect(t, "Content-Length: ");
    assert_null(strstr(t, "body="));
    tear_down(&f);
}

/* Whatever the pieces in which a request arrives. */
static void test_byte_at_a_time(void **state)
{
    static const char request[] =
        "POST /p HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
        "3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n";
    struct fixture f;

    (void)state;
    set_up(&f);
    for (const char *p = request; *p; p++) {
        assert_int_equal(send(f.fd, p, 1, 0), 1);
        turn(&f);
    }
    expect(hear(&f, NULL), "POST /p q=- x=- body=abcde");
    tear_down(&f);
}

static void test_pipelined(void **state)
{
    struct fixture f;
    const char *t;

    (void)state;
    set_up(&f);
    say(&f, "POST /1 HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhiGET /2 HTTP/1.1\r\nHost: "
            "x\r\n\r\n");
    t = hear(&f, NULL);
    expect(t, "POST /1 q=- x=- body=hi");
    expect(t, "GET /2 q=- x=- body=");
    assert_int_equal(f.handled, 2);
    tear_down(&f);
}

static void refused(const char *request, const char *status, const char *code)
{
    struct fixture f;
    const char *t;
    bool end;

    set_up(&f);
    say(&f, request);
    t = hear(&f, &end);
    expect(t, status);
    expect(t, code);
    assert_true(end); /* what follows cannot be told apart from a body */
    assert_int_equal(f.handled, 0);
    tear_down(&f);
}

static void test_two_lengths(void **state)
{
    (void)state;
    refused("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nTransfer-Encoding: "
            "chunked\r\n\r\n0\r\n\r\n",
            "400 Bad Request", "given twice");
    refused("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
            "400 Bad Request", "given twice");
    refused("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: +3\r\n\r\nabc", "400 Bad Request", "");
}

static void test_other_codings(void **state)
{
    (void)state;
    refused("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n", "501 Not Implemented",
            "not_supported_error");
}

static void test_body_too_large(void **state)
{
    char request[2048];
    struct fixture f;
    bool end;

    (void)state;
    refused("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1001\r\n\r\n", " 413 ",
            "body_too_large");
    /* a chunked one, whose size nobody knows before: no answer, but an end */
    snprintf(request, sizeof request,
             "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n400\r\n%01024d\r\n",
             7);
    set_up(&f);
    say(&f, request);
    assert_string_equal(hear(&f, &end), "");
    assert_true(end);
    assert_int_equal(f.handled, 0);
    tear_down(&f);
}

static void test_headers_too_large(void **state)
{
    struct pd_buf b = PD_BUF_INIT(1 << 20);

    (void)state;
    pd_buf_addz(&b, "GET / HTTP/1.1\r\nHost: x\r\n");
    for (int i = 0; i < HTTP_MAX_FIELDS; i++)
        pd_buf_printf(&b, "A%d: b\r\n", i);
    pd_buf_addz(&b, "\r\n");
    refused(pd_buf_str(&b).ptr, " 431 ", "headers_too_large");
    pd_buf_clear(&b);
    pd_buf_addz(&b, "GET / HTTP/1.1\r\nHost: x\r\nA: ");
    for (int i = 0; i < HTTP_HEADER_BYTES; i++)
        pd_buf_addc(&b, 'a');
    pd_buf_addz(&b, "\r\n\r\n");
    refused(pd_buf_str(&b).ptr, " 431 ", "headers_too_large");
    pd_buf_done(&b);
}

/* The body of a request that may not come in is not waited for. */
static void test_refused_at_the_headers(void **state)
{
    struct fixture f;
    bool end;

    (void)state;
    set_up(&f);
    f.forbid = true;
    say(&f, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 500\r\n\r\n");
    expect(hear(&f, &end), " 403 ");
    assert_true(end);
    assert_int_equal(f.handled, 0);
    tear_down(&f);
}

static void test_reply_later(void **state)
{
    struct fixture f;

    (void)state;
    set_up(&f);
    f.how = HOLD;
    say(&f, "GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_string_equal(hear(&f, NULL), "");
    assert_int_equal(http_server_requests(f.server), 1);
    http_reply(f.held, 202, NULL, PD_STR("later"));
    expect(hear(&f, NULL), " 202 ");
    assert_int_equal(f.gone, 0);
    f.how = ECHO; /* and the connection goes on */
    say(&f, "GET /next HTTP/1.1\r\nHost: x\r\n\r\n");
    expect(hear(&f, NULL), "GET /next");
    tear_down(&f);
}

static void leaves_while_held(bool pipelined)
{
    struct fixture f;

    set_up(&f);
    f.how = HOLD;
    say(&f, "GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    if (pipelined)
        say(&f, "GET /2 HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_int_equal(f.gone, 0);
    close(f.fd);
    f.fd = -1;
    while (f.finished == 0) /* found by the sweep when more was sent: within its second */
        ev_run(f.loop, EVRUN_ONCE);
    assert_int_equal(f.gone, 1);
    assert_int_equal(f.handled, 1);
    assert_int_equal(f.last_status, 499);
    turn(&f);
    assert_int_equal(http_server_connections(f.server), 0);
    tear_down(&f);
}

static void test_client_leaves(void **state)
{
    (void)state;
    leaves_while_held(false);
    leaves_while_held(true);
}

static void test_stream(void **state)
{
    struct fixture f;
    const char *t;

    (void)state;
    set_up(&f);
    f.how = STREAM;
    say(&f, "GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    expect(hear(&f, NULL), "Transfer-Encoding: chunked");
    assert_int_equal(http_server_streams(f.server), 1);
    assert_int_equal(http_stream_write(f.held, PD_STR("data: 1\n\n")), 0);
    expect(hear(&f, NULL), "data: 1\n\n");
    assert_int_equal(http_stream_write(f.held, PD_STR("data: 2\n\n")), 0);
    assert_int_equal(http_stream_write(f.held, PD_STR("data: 3\n\n")), 0);
    http_stream_end(f.held);
    t = hear(&f, NULL);
    expect(t, "data: 2\n\ndata: 3\n\n");
    expect(t, "0\r\n\r\n");
    assert_int_equal(http_server_streams(f.server), 0);
    assert_int_equal(f.gone, 0);
    tear_down(&f);
}

static void test_stream_aborted(void **state)
{
    struct fixture f;
    const char *t;
    bool end;

    (void)state;
    set_up(&f);
    f.how = STREAM;
    say(&f, "GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    http_stream_write(f.held, PD_STR("data: 1\n\n"));
    t = hear(&f, NULL);
    http_stream_abort(f.held);
    t = hear(&f, &end);
    assert_true(end);
    assert_null(strstr(t, "0\r\n\r\n")); /* nobody takes it for complete */
    tear_down(&f);
}

static void test_stream_client_leaves(void **state)
{
    struct fixture f;

    (void)state;
    set_up(&f);
    f.how = STREAM;
    say(&f, "GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    http_stream_write(f.held, PD_STR("data: 1\n\n"));
    close(f.fd);
    f.fd = -1;
    turn(&f);
    assert_int_equal(f.gone, 1);
    turn(&f);
    assert_int_equal(f.finished, 1);
    assert_int_equal(f.last_status, 499);
    tear_down(&f);
}

static void test_slow_reader(void **state)
{
    static char piece[65536];
    struct fixture f;
    size_t written = 0;

    (void)state;
    set_up(&f);
    f.how = STREAM;
    memset(piece, 'x', sizeof piece);
    say(&f, "GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    while (http_stream_write(f.held, (struct pd_str){piece, sizeof piece}) == 0) {
        written += sizeof piece;
        assert_true(written < 64 * HTTP_STREAM_BACKLOG);
        turn(&f);
    }
    assert_true(written >= HTTP_STREAM_BACKLOG - sizeof piece);
    http_stream_abort(f.held);
    turn(&f);
    tear_down(&f);
}

static void test_ping(void **state)
{
    struct fixture f;
    const char *t = "";

    (void)state;
    set_up(&f);
    f.how = STREAM;
    say(&f, "GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    http_stream_ping(f.held, 0.01);
    while (!strstr(t, ": ping\n\n")) {
        ev_run(f.loop, EVRUN_ONCE);
        t = hear(&f, NULL);
    }
    http_stream_end(f.held);
    tear_down(&f);
}

/* A client that does not say what it wants does not keep its place. */
static void test_slow_headers(void **state)
{
    struct fixture f;
    bool end = false;

    (void)state;
    set_up_with(&f, 0.05, 75);
    say(&f, "GET / HTTP/1.1\r\nHo");
    while (!end) {
        ev_run(f.loop, EVRUN_ONCE);
        hear(&f, &end);
    }
    assert_int_equal(f.handled, 0);
    tear_down(&f);
}

static void test_connection_limit(void **state)
{
    struct fixture f;
    int fds[3], ends[2];

    (void)state;
    set_up(&f);
    for (int i = 0; i < 3; i++) {
        fds[i] = connect_client(&f);
        turn(&f);
    }
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends), 0);
    assert_int_equal(http_server_add(f.server, ends[1], NULL), PD_ELIMIT);
    assert_int_equal(recv(ends[0], &(char){0}, 1, 0), 0); /* it is closed at once */
    close(ends[0]);
    for (int i = 0; i < 3; i++)
        close(fds[i]);
    turn(&f);
    assert_int_equal(http_server_connections(f.server), 1);
    tear_down(&f);
}

/* The end of the server is the end of what waits. */
static void test_free_with_a_request_held(void **state)
{
    struct fixture f;

    (void)state;
    set_up(&f);
    f.how = HOLD;
    say(&f, "GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    tear_down(&f);
    assert_int_equal(f.gone, 1);
    assert_int_equal(f.finished, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_get),
        cmocka_unit_test(test_head_has_no_body),
        cmocka_unit_test(test_byte_at_a_time),
        cmocka_unit_test(test_pipelined),
        cmocka_unit_test(test_two_lengths),
        cmocka_unit_test(test_other_codings),
        cmocka_unit_test(test_body_too_large),
        cmocka_unit_test(test_headers_too_large),
        cmocka_unit_test(test_refused_at_the_headers),
        cmocka_unit_test(test_reply_later),
        cmocka_unit_test(test_client_leaves),
        cmocka_unit_test(test_stream),
        cmocka_unit_test(test_stream_aborted),
        cmocka_unit_test(test_stream_client_leaves),
        cmocka_unit_test(test_slow_reader),
        cmocka_unit_test(test_ping),
        cmocka_unit_test(test_slow_headers),
        cmocka_unit_test(test_connection_limit),
        cmocka_unit_test(test_free_with_a_request_held),
    };

    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
