/* Event streams: fields, line ends of three kinds, pieces of any size, limits, another connection.
 */
#include "net/sse.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static struct pd_buf seen;

static int note(void *user, const struct net_sse_event *e)
{
    (void)user;
    pd_buf_printf(&seen, "[%s|%s|%.*s]", e->id, e->type, (int)e->data.len, e->data.ptr);
    return pd_str_eq(e->data, PD_STR("stop")) ? 7 : 0;
}

/* Reads text in pieces of n bytes and compares the events. */
static void reads(struct pd_str text, size_t n, int want_rc, const char *want)
{
    struct net_sse s;
    int rc = 0;

    seen = PD_BUF_INIT(65536);
    net_sse_init(&s, 67, note, NULL);
    for (size_t at = 0; at < text.len && rc == 0; at += n)
        rc = net_sse_add(&s, pd_str_sub(text, at, at + n));
    assert_int_equal(rc, want_rc);
    pd_buf_addz(&seen, "");
    assert_string_equal(pd_buf_str(&seen).ptr ? pd_buf_str(&seen).ptr : "", want);
    net_sse_done(&s);
    pd_buf_done(&seen);
}

static void test_events(void **unused)
{
    static const struct {
        struct pd_str text;
        const char *want;
    } cases[] = {
        {PD_STR("id: 1\nevent: a\ndata: x\n\n"), "[1|a|x]"},
        {PD_STR("id: 1\r\nevent: a\r\ndata: x\r\n\r\n"), "[1|a|x]"},
        {PD_STR("id: 1\revent: a\rdata: x\r\r"), "[1|a|x]"},
        {PD_STR("data:x\ndata: y\n\ndata:  z\n\n"), "[||x\ny][|| z]"},
        {PD_STR("id: 4\ndata: a\n\ndata: b\n\n"), "[4||a][4||b]"}, /* the id stays, the type not */
        {PD_STR("event: t\ndata: a\n\ndata: b\n\n"), "[|t|a][||b]"},
        {PD_STR(": ping\n\n:\nretry: 5\nnew: field\nalone\n\n"), ""},
        {PD_STR("data: not ended"), ""},
        {PD_STR("event: no data\n\ndata\n\n"), "[||]"},
        {PD_STR("data: x\ndata\ndata:\n\n"), "[||x\n\n]"},
        {PD_STR("\xef\xbb\xbf" "data: \xf0\x9f\xa4\x96\n\n"), "[||\xf0\x9f\xa4\x96]"},
    };

    (void)unused;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        for (size_t n = 1; n <= cases[i].text.len; n++)
            reads(cases[i].text, n, 0, cases[i].want);
}

static void test_ends(void **unused)
{
    (void)unused;
    reads(PD_STR("data: a\n\ndata: stop\n\ndata: b\n\n"), 100, 7, "[||a][||stop]");
    reads(PD_STR("id: 012345678901234567890123456789012345678901234567890123456789012\ndata: a\n\n"), 100, 0,
          "[012345678901234567890123456789012345678901234567890123456789012||a]");
    reads(PD_STR("id:0123456789012345678901234567890123456789012345678901234567890123\n"), 100, PD_ELIMIT, "");
    reads(PD_STR("event: 0123456789012345678901234567890123456789012345678901234567890123\n"), 100,
          PD_ELIMIT, "");
    reads(PD_STR("data: 0123456789\ndata: 0123456789\ndata: 0123456789\ndata: 0123456789\n"
                 "data: 0123456789\ndata: 0123456789\ndata: 0123456789\n"),
          100, PD_ELIMIT, "");
    reads(PD_STR("01234567890123456789012345678901234567890123456789012345678901234567890"), 100,
          PD_ELIMIT, "");
}

/* The half of an event that a broken connection left does not become part of the next one. */
static void test_restart(void **unused)
{
    struct net_sse s;

    (void)unused;
    seen = PD_BUF_INIT(65536);
    net_sse_init(&s, 67, note, NULL);
    assert_int_equal(net_sse_add(&s, PD_STR("id: 1\ndata: a\n\nid: 2\nevent: t\ndata: b\nda\r")),
                     0);
    net_sse_restart(&s);
    assert_int_equal(net_sse_add(&s, PD_STR("\nid: 2\ndata: b\n\n")), 0);
    assert_string_equal(pd_buf_str(&seen).ptr, "[1||a][2||b]");
    net_sse_done(&s);
    pd_buf_done(&seen);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_events),
        cmocka_unit_test(test_ends),
        cmocka_unit_test(test_restart),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
