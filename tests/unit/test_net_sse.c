/* net/sse: every way to cut a stream into chunks gives the same events. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/err.h"
#include "net/sse.h"

static int note(void *user, const char *type, struct pd_str data)
{
    struct pd_buf *b = user;

    return pd_buf_printf(b, "[%s|%.*s]", type, (int)data.len, data.ptr);
}

static int stop(void *user, const char *type, struct pd_str data)
{
    (void)user, (void)type, (void)data;
    return PD_ECANCEL;
}

static void check(const char *stream, const char *events)
{
    size_t n = strlen(stream);

    for (size_t chunk = 1; chunk <= n; chunk++) {
        struct pd_buf out = PD_BUF_INIT(1 << 20);
        struct sse s;

        sse_init(&s, note, &out);
        for (size_t at = 0; at < n; at += chunk)
            assert_int_equal(
                sse_feed(&s, (struct pd_str){stream + at, n - at < chunk ? n - at : chunk}), 0);
        assert_string_equal(pd_buf_str(&out).ptr, events);
        sse_done(&s);
        pd_buf_done(&out);
    }
}

static void test_events(void **state)
{
    (void)state;
    check("data: a\n\ndata:b\n\n", "[|a][|b]");
    check("data: a\r\n\r\ndata: b\r\rdata: c\n\n", "[|a][|b][|c]");
    check(": ping\n\nevent: error\nid: 3\nretry: 10\ndata: x\nfuture: y\n\ndata: z\n\n",
          "[error|x][|z]");
    check("data: one\ndata: two\ndata\ndata: \n\n", "[|one\ntwo\n\n]");
    check("\xef\xbb\xbf" "data: \xf0\x9f\xa4\x96\n\n", "[|\xf0\x9f\xa4\x96]");
    check("data:  two blanks: kept\n\n", "[| two blanks: kept]");
    check("event: lonely\n\n", "");
    check("data: cut off", "");
    check("data: cut off\n", "");
}

static void test_limits(void **state)
{
    struct pd_buf line = PD_BUF_INIT(SSE_LINE_MAX * 2), out = PD_BUF_INIT(1 << 20);
    struct sse s;

    (void)state;
    pd_buf_addz(&line, "data: ");
    while (line.len <= SSE_LINE_MAX)
        pd_buf_addz(&line, "0123456789abcdef");
    sse_init(&s, note, &out);
    assert_int_equal(sse_feed(&s, pd_buf_str(&line)), PD_ELIMIT);
    sse_done(&s);
    sse_init(&s, stop, NULL);
    assert_int_equal(sse_feed(&s, PD_STR("data: a\n\ndata: b\n\n")), PD_ECANCEL);
    sse_done(&s);
    pd_buf_done(&line);
    pd_buf_done(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_events), cmocka_unit_test(test_limits)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
