/* Calls of tools in what a model writes, in the formats of three families; what only looks like a
 * call is text; and what is streamed before a call is never a part of one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "daemon/tool_calls.h"

static const char tools[] = "[{\"type\":\"function\",\"function\":{\"name\":\"add\"}},"
                            "{\"type\":\"function\",\"function\":{\"name\":\"say\"}}]";

static const struct {
    const char *text, *content;
    int n;
    const char *names[2], *arguments[2];
} cases[] = {
    {"Hello", "Hello", 0, {0}, {0}},
    {"<tool_call>\n{\"name\": \"add\", \"arguments\": {\"a\": 1, \"b\": [2, \"}\"]}}\n</tool_call>",
     "",
     1,
     {"add"},
     {"{\"a\":1,\"b\":[2,\"}\"]}"}},
    {"Well.\n<tool_call>{\"name\":\"add\",\"arguments\":{}}</"
     "tool_call>\n<tool_call>{\"name\":\"other\"}"
     "</tool_call>",
     "Well.\n",
     2,
     {"add", "other"},
     {"{}", "{}"}},
    {"<tool_call>{\"name\":\"add\",\"arguments\":{\"a\":1}}", "", 1, {"add"}, {"{\"a\":1}"}},
    {"<tool_call>{\"name\":\"add\",", "<tool_call>{\"name\":\"add\",", 0, {0}, {0}},
    {"<tool_call>[1]</tool_call>", "<tool_call>[1]</tool_call>", 0, {0}, {0}},
    {"[TOOL_CALLS] "
     "[{\"name\":\"add\",\"arguments\":{\"a\":1}},{\"name\":\"say\",\"arguments\":\"{}\"}]",
     "",
     2,
     {"add", "say"},
     {"{\"a\":1}", "{}"}},
    {"So: [TOOL_CALLS][{\"name\":\"add\"}]", "So: ", 1, {"add"}, {"{}"}},
    {"[TOOL_CALLS] {", "[TOOL_CALLS] {", 0, {0}, {0}},
    {" {\"name\": \"add\", \"parameters\": {\"a\": \"x\\\"{\"}}\n",
     "",
     1,
     {"add"},
     {"{\"a\":\"x\\\"{\"}"}},
    {"<|python_tag|>{\"name\":\"add\",\"parameters\":{}}; {\"name\":\"say\",\"parameters\":{}}",
     "",
     2,
     {"add", "say"},
     {"{}", "{}"}},
    {"{\"name\":\"nobody\",\"parameters\":{}}",
     "{\"name\":\"nobody\",\"parameters\":{}}",
     0,
     {0},
     {0}},
    {"{\"answer\":42}", "{\"answer\":42}", 0, {0}, {0}},
    {"{\"name\":\"add\",\"parameters\":{}} and more",
     "{\"name\":\"add\",\"parameters\":{}} and more",
     0,
     {0},
     {0}},
};

static void calls_are_found(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct pd_arena a;
        struct tool_call *calls;
        struct pd_str content;

        pd_arena_init(&a, 1 << 20);
        if (tool_calls_parse(pd_str_of(cases[i].text), tools, &a, &calls, &content) != cases[i].n)
            fail_msg("%s", cases[i].text);
        assert_true(pd_str_eq(content, pd_str_of(cases[i].content)));
        for (int k = 0; k < cases[i].n; k++) {
            assert_string_equal(calls[k].name, cases[i].names[k]);
            assert_string_equal(calls[k].arguments, cases[i].arguments[k]);
        }
        pd_arena_done(&a);
    }
}

/* Byte by byte: what is free is free for good, and no byte of a call ever is. */
static void nothing_of_a_call_is_free(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct pd_str text = pd_str_of(cases[i].text);
        size_t before = 0;

        for (size_t n = 0; n <= text.len; n++) {
            size_t sure = tool_calls_free(pd_str_sub(text, 0, n));

            assert_true(sure >= before && sure <= n);
            assert_true(cases[i].n == 0 || sure <= strlen(cases[i].content));
            before = sure;
        }
    }
    assert_int_equal(tool_calls_free(PD_STR("Hello, <b")), 9);
    assert_int_equal(tool_calls_free(PD_STR("Hello, <tool_ca")), 7);
    assert_int_equal(tool_calls_free(PD_STR("Hello [TOOL_CALLS][")), 6);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(calls_are_found),
        cmocka_unit_test(nothing_of_a_call_is_free),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
