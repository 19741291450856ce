/* Answers, keys and steps. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/answer.h"
#include "core/steps.h"

static void extracts_the_last_answer(void **state)
{
    static const char *const cases[][2] = {
        {"The answer is \\boxed{4}.", "4"},
        {"\\boxed{1} then \\boxed{\\frac{1}{2}}", "\\frac{1}{2}"},
        {"\\boxed{3} and \\boxed{4", "3"},
        {"so the final answer is 12 apples\nbye", "12 apples"},
        {"Answer: 7\nAnswer: 8", "8"},
        {"\\boxed{}", ""},
        {"no result here", ""},
        {"", ""},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct pd_str got = pd_answer_extract(pd_str_of(cases[i][0]));

        if (!pd_str_eq(got, pd_str_of(cases[i][1])))
            fail_msg("'%s' gave '%.*s'", cases[i][0], (int)got.len, got.ptr);
    }
}

static void keys_are_canonical(void **state)
{
    static const char *const cases[][2] = {
        {"4", "4"},
        {" 4. ", "4"},
        {"$4$", "4"},
        {"4.0", "4"},
        {"0.5", "1/2"},
        {"\\frac{1}{2}", "1/2"},
        {"\\dfrac{2}{4}", "1/2"},
        {"1,234", "1234"},
        {"42 apples", "42"},
        {"42 \\text{ red apples}", "42"},
        {"3x", "3*x"},
        {"2\\pi", "2*pi"},
        {"1/\\sqrt{2}", "1/2*2^(1/2)"},
        {"\\frac{\\sqrt2}{2}", "1/2*2^(1/2)"},
        {"\\{2, 1\\}", "{1,2}"},
        {"x > 3", "x > 3"},
        {"-0", "0"},
        {"-3/6", "-1/2"},
        {"Paris", "paris"},
        {"New   York", "new york"},
        {"", ""},
        {"x+1", "x+1"},
        {"007", "7"},
        {"99999999999999999999", "99999999999999999999"},
        {"1/0", "1/0"},
        {"50\\%", "50"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct pd_buf key = PD_BUF_INIT(1024);

        assert_int_equal(pd_answer_key(pd_str_of(cases[i][0]), &key), 0);
        if (!pd_str_eq(pd_buf_str(&key), pd_str_of(cases[i][1])))
            fail_msg("'%s' gave '%s'", cases[i][0], key.data ? key.data : "");
        pd_buf_done(&key);
    }
}

static void hostile_text_is_bounded(void **state)
{
    struct pd_buf b = PD_BUF_INIT(1 << 22), key = PD_BUF_INIT(1 << 22);

    (void)state;
    for (int i = 0; i < 100000; i++)
        pd_buf_addz(&b, "answer is answer is \\boxed{");
    pd_answer_extract(pd_buf_str(&b));
    pd_answer_key(pd_buf_str(&b), &key);
    pd_buf_done(&key);
    pd_buf_done(&b);
}

static void steps_end_at_blank_lines_and_before_the_end_of_thinking(void **state)
{
    static const char text[] =
        "It is 1.\n\n\n\n It is 2.\n\nIt is 3.\n</think>\nThe answer is \\boxed{3}.";
    static const char *const want[] = {"It is 1.", "It is 2.", "It is 3.",
                                       "</think>\nThe answer is \\boxed{3}."};
    struct pd_arena a;
    struct pd_str *steps;
    size_t n = 0;

    (void)state;
    pd_arena_init(&a, 1 << 20);
    steps = pd_steps_split(&a, PD_STR(""), &n);
    assert_non_null(steps);
    assert_int_equal(n, 0);
    steps = pd_steps_split(&a, pd_str_of(text), &n);
    assert_int_equal(n, 4);
    for (size_t i = 0; i < n; i++)
        assert_true(pd_str_eq(steps[i], pd_str_of(want[i])));
    steps = pd_steps_split(&a, PD_STR("</think>"), &n);
    assert_int_equal(n, 1);
    pd_arena_done(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(extracts_the_last_answer),
        cmocka_unit_test(keys_are_canonical),
        cmocka_unit_test(hostile_text_is_bounded),
        cmocka_unit_test(steps_end_at_blank_lines_and_before_the_end_of_thinking),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
