/* Calls of tools in what a model writes, in the formats of three families; what only looks like a
 * call is text; and what is streamed before a call is never a part of one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/json.h"
#include "daemon/tool_calls.h"
#include "engine/engine.h"

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

/* A call that the schema of forced calls lets a model write is read as one; references within a
 * tool's parameters lead to their new places. */
static void forced_calls_are_calls(void **state)
{
    static const char two[] =
        "[{\"type\":\"function\",\"function\":{\"name\":\"add\",\"parameters\":{\"type\":"
        "\"object\","
        "\"properties\":{\"a\":{\"$ref\":\"#/$defs/"
        "n\"},\"of\":{\"type\":\"array\",\"items\":{\"$ref\":"
        "\"#\"}}},\"required\":[\"a\"],\"$defs\":{\"n\":{\"type\":\"integer\",\"maximum\":9}}}}},"
        "{\"type\":\"function\",\"function\":{\"name\":\"stop\"}}]";
    static const struct {
        const char *name, *text;
        bool fits;
    } calls[] = {
        {NULL, "{\"name\":\"add\",\"arguments\":{\"a\":7}}", true},
        {NULL, "{\"name\":\"add\",\"arguments\":{\"a\":7,\"of\":[{\"a\":1}]}}", true},
        {NULL, "{\"name\":\"add\",\"arguments\":{\"a\":12}}", false},
        {NULL, "{\"name\":\"stop\",\"arguments\":{}}", true},
        {NULL, "{\"name\":\"go\",\"arguments\":{}}", false},
        {NULL, "{\"name\":\"add\"}", false},
        {"stop", "{\"name\":\"stop\",\"arguments\":{\"x\":1}}", true},
        {"stop", "{\"name\":\"add\",\"arguments\":{\"a\":7}}", false},
    };
    struct pd_json *list = NULL;

    (void)state;
    assert_int_equal(pd_json_parse(pd_str_of(two), &list, NULL), 0);
    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++) {
        struct pd_buf schema = PD_BUF_INIT(1 << 16);
        struct eng_grammar_spec spec = {.kind = ENG_GRAMMAR_SCHEMA};
        struct eng_grammar *g = NULL;
        struct tool_call *found;
        struct pd_str content;
        struct pd_arena a;
        enum eng_fit fit;

        assert_int_equal(tool_calls_schema(list, calls[i].name, &schema), calls[i].name ? 1 : 2);
        spec.text = pd_buf_str(&schema);
        assert_int_equal(eng_grammar_new(NULL, &spec, &g, NULL), 0);
        assert_int_equal(eng_grammar_fit(g, pd_str_of(calls[i].text), &fit, NULL), 0);
        if ((fit == ENG_FIT_WHOLE) != calls[i].fits)
            fail_msg("%s", calls[i].text);
        pd_arena_init(&a, 1 << 20);
        if (calls[i].fits)
            assert_int_equal(tool_calls_parse(pd_str_of(calls[i].text), two, &a, &found, &content),
                             1);
        pd_arena_done(&a);
        eng_grammar_unref(g);
        pd_buf_done(&schema);
    }
    pd_json_free(list);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(calls_are_found),
        cmocka_unit_test(nothing_of_a_call_is_free),
        cmocka_unit_test(forced_calls_are_calls),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
