#include "core/grade.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define N_OF(a) (sizeof(a) / sizeof((a)[0]))

static void grades(void **state)
{
    static const struct {
        enum pd_grade how;
        const char *answer, *expect;
        bool right;
    } cases[] = {
        {PD_GRADE_EXACT, "42", "42", true},
        {PD_GRADE_EXACT, "42.0", "42", true},
        {PD_GRADE_EXACT, "\\dfrac{1}{2}", "0.5", true},
        {PD_GRADE_EXACT, "42 or 43", "43", false},
        {PD_GRADE_EXACT, "Paris", "paris", true},
        {PD_GRADE_EXACT, "", "", false},
        {PD_GRADE_NUMERIC, "42 or 43", "43", true},
        {PD_GRADE_NUMERIC, "about 1,200 m", "1200", true},
        {PD_GRADE_NUMERIC, "x = -3", "-3", true},
        {PD_GRADE_NUMERIC, "7-3", "3", true}, /* the last number; that hyphen is no sign */
        {PD_GRADE_NUMERIC, "3/6", "0.5", true},
        {PD_GRADE_NUMERIC, ".5", "1/2", true},
        {PD_GRADE_NUMERIC, "It costs $4.50.", "#### 4.5", true},
        {PD_GRADE_NUMERIC, "4.51", "4.5", false},
        {PD_GRADE_NUMERIC, "none", "4", false},
        {PD_GRADE_NUMERIC, "", "4", false},
        {PD_GRADE_MATH, "\\frac{\\sqrt{2}}{2}", "1/\\sqrt{2}", true},
        {PD_GRADE_MATH, "1.41", "\\sqrt{2}", false}, /* undecided is not right */
        {PD_GRADE_MATH, "", "4", false},
        {PD_GRADE_REGEX, "a red car", "(a )?red (car|bus)", true},
        {PD_GRADE_REGEX, " red bus ", "(a )?red (car|bus)", true},
        {PD_GRADE_REGEX, "one red bus", "(a )?red (car|bus)", false},
        {PD_GRADE_REGEX, "red buses", "(a )?red (car|bus)", false},
        {PD_GRADE_REGEX, "", ".*", false},
        {PD_GRADE_REGEX, "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa!", "(a+)+b", false},
    };

    (void)state;
    for (size_t i = 0; i < N_OF(cases); i++)
        if (pd_grade(cases[i].how, pd_str_of(cases[i].answer), pd_str_of(cases[i].expect)) !=
            cases[i].right)
            fail_msg("%s: '%s' by '%s'", pd_grade_name(cases[i].how), cases[i].answer,
                     cases[i].expect);
}

static void says_what_cannot_be_graded(void **state)
{
    struct pd_err err = {0};
    enum pd_grade g;

    (void)state;
    assert_int_equal(pd_grade_check(PD_GRADE_NUMERIC, PD_STR("x 3 y"), &err), 0);
    assert_int_equal(pd_grade_check(PD_GRADE_NUMERIC, PD_STR("many"), &err), PD_EINVAL);
    assert_string_equal(err.text, "there is no number in 'many'");
    assert_int_equal(pd_grade_check(PD_GRADE_REGEX, PD_STR("(a"), &err), PD_EINVAL);
    assert_non_null(strstr(err.text, "not a regular expression"));
    assert_int_equal(pd_grade_find("numeric", &g, &err), 0);
    assert_int_equal(g, PD_GRADE_NUMERIC);
    assert_int_equal(pd_grade_find("maths", &g, &err), PD_EINVAL);
    assert_string_equal(err.text,
                        "no grader 'maths': there are exact, numeric, math_equal and regex");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(grades),
        cmocka_unit_test(says_what_cannot_be_graded),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
