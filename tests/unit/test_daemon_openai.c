/* Texts cut into reasoning and content, the same however they come in pieces; the line of a search
 * that is followed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "daemon/follow.h"
#include "daemon/openai.h"

static const struct {
    const char *text, *reasoning, *content;
    bool thinks, plain, has_tools;
} cases[] = {
    {"Hello", "", "Hello", false, false, false},
    {" Hello ", "", " Hello ", false, false, false},
    {"<think>\nhm </think>\n\nfour\n", "hm ", "four\n", false, false, false},
    {"\n<think>hm", "hm", "", false, false, false},
    {"<thinking>", "", "<thinking>", false, false, false},
    {"hm</think>four", "hm", "four", true, false, false},
    {"\nhm", "hm", "", true, false, false},
    {"<think></think>four", "", "four", false, false, false},
    {"<think>a < b</thin </think>c", "a < b</thin ", "c", false, false, false},
    {"<think>all of it</think>", "", "<think>all of it</think>", false, true, false},
    {"So <tool_call>{}", "", "So <tool_call>{}", false, false, true},
    {"<think>hm</think>{\"name\":1}", "hm", "{\"name\":1}", false, false, true},
    {"", "", "", false, false, false},
};

static void texts_are_cut_the_same_in_any_pieces(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        for (size_t step = 1; step <= 16; step++) {
            struct pd_str text = pd_str_of(cases[i].text);
            struct openai_text t;

            openai_text_init(&t, 4096);
            t.thinks = cases[i].thinks;
            t.plain = cases[i].plain;
            t.has_tools = cases[i].has_tools;
            for (size_t at = 0; at < text.len; at += step)
                openai_text_add(&t, pd_str_sub(text, at, at + step));
            openai_text_end(&t);
            if (!pd_str_eq(pd_buf_str(&t.reasoning_out), pd_str_of(cases[i].reasoning)))
                fail_msg("%s by %zu: '%s'", cases[i].text, step, pd_buf_str(&t.reasoning_out).ptr);
            if (!pd_str_eq(openai_text_content(&t), pd_str_of(cases[i].content)))
                fail_msg("%s by %zu: '%s'", cases[i].text, step, openai_text_content(&t).ptr);
            /* what was told is the beginning; all of it, where nothing may be a call */
            assert_true(pd_str_starts(pd_str_of(cases[i].content), pd_buf_str(&t.content_out)));
            if (!cases[i].has_tools)
                assert_int_equal(t.content_out.len, strlen(cases[i].content));
            openai_text_done(&t);
        }
}

static void piece(struct follow *f, uint32_t node, uint32_t parent, const char *text, bool last)
{
    follow_piece(f, &(struct pd_piece){
                        .node = node, .parent = parent, .text = pd_str_of(text), .last = last});
}

static void the_best_line_is_followed(void **state)
{
    struct follow f;

    (void)state;
    follow_init(&f);
    piece(&f, 1, 0, "on", false); /* two lines at once: the first is told */
    piece(&f, 2, 0, "two ", false);
    piece(&f, 1, 0, "e ", true);
    piece(&f, 2, 0, "and ", true);
    assert_string_equal(f.out.data, "one ");
    follow_best(&f, 2, 0.75);
    assert_string_equal(f.out.data, "one \n[branch n2 score 0.75]\ntwo and ");
    piece(&f, 3, 2, "three ", false);
    piece(&f, 4, 2, "four ", true);
    piece(&f, 3, 2, "more ", true);
    follow_best(&f, 3, 0.8); /* it is on that line: nothing to say */
    assert_string_equal(f.out.data, "one \n[branch n2 score 0.75]\ntwo and three more ");
    pd_buf_clear(&f.out);
    follow_best(&f, 4, 0.9); /* from where they part */
    assert_string_equal(f.out.data, "\n[branch n4 score 0.90]\nfour ");
    piece(&f, 5, 3, "not that", true);
    piece(&f, 6, 4, "five", true);
    assert_string_equal(f.out.data, "\n[branch n4 score 0.90]\nfour five");
    follow_best(&f, 4, 0.9);
    follow_best(&f, 99, 1);
    assert_string_equal(f.out.data, "\n[branch n4 score 0.90]\nfour five");
    follow_done(&f);
}

static void too_much_is_not_followed(void **state)
{
    struct follow f;

    (void)state;
    follow_init(&f);
    piece(&f, 1, 0, "one", false);
    piece(&f, 10000000, 0, "x", true);
    assert_true(f.full);
    piece(&f, 1, 0, "two", true);
    follow_best(&f, 1, 1);
    assert_string_equal(f.out.data, "one");
    follow_done(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(texts_are_cut_the_same_in_any_pieces),
        cmocka_unit_test(the_best_line_is_followed),
        cmocka_unit_test(too_much_is_not_followed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
