/* The strategy that docs/adding-a-strategy.md writes down: the page's own text, compiled and run.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/docs/adding-a-strategy.inc"
#include "tests/support/trial.h"

static void the_longest_line_answers(void **state)
{
    static const char *const lines[] = {"answer: 1", "a longer answer: 2", "as long, answer: 3",
                                        "the longest of all says nothing", NULL};
    struct trial t;

    (void)state;
    trial_init(&t, &strategy_longest, "samples=4");
    trial_script(&t, lines);
    assert_int_equal(trial_run(&t), 0);
    assert_string_equal(t.result.key, "2");
    assert_int_equal(trial_replay(&t, PD_JOB_VERIFY), 0);
    trial_done(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_longest_line_answers),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
