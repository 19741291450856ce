/* resample_limit: how many draws pay. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "tests/support/trial.h"

static struct trial t;

/* A line is worth what its first letter says: 'g' 1, 'h' about .73, anything else 0. */
static float reward(struct fake *f, const int32_t *ids, size_t n, int32_t label)
{
    (void)f;
    if (label == '-')
        return 0;
    return ids[fake_prompt(ids, n)] == 'g' ? 800 : ids[fake_prompt(ids, n)] == 'h' ? 1 : -800;
}

static void run(const char *options, const char *const *lines)
{
    trial_init(&t, pd_strategy_find("resample_limit"), options);
    trial_script(&t, lines);
    t.scorer.logit = reward;
    if (trial_run(&t) < 0)
        fail_msg("%s", t.err.text);
}

static void the_limit_of_the_fixtures(void **state)
{
    static const char *const bad[] = {"bad answer: 1", NULL};
    static const struct {
        const char *wrong, *cost;
        int k;
        double value;
    } cases[] = {{"-.7", "0", 3, .524567}, {"-1", "0", 2, .472381},    {"-2", "0", 1, .338800},
                 {"-5", "0", 1, .008200},  {"-.7", ".05", 2, .457344}, {"-1", ".05", 2, .405851},
                 {"-2", ".05", 1, .288800}};

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char options[160];
        const char *v;
        int k = -1;

        snprintf(options, sizeof options,
                 "easy=.58 r_easy=.87 r_hard=.13 complete=1 sound=.75 wrong_value=%s cost=%s",
                 cases[i].wrong, cases[i].cost);
        run(options, bad);
        assert_true(t.result.trace.n_events > 0);
        v = strstr(t.result.trace.events[0].data, "\"value\":[");
        assert_int_equal(sscanf(t.result.trace.events[0].data, "{\"kind\":\"limit\",\"k\":%d", &k),
                         1);
        assert_non_null(v);
        assert_int_equal(k, cases[i].k);
        assert_true(fabs(strtod(v + 9, NULL) - cases[i].value) < 1e-6);
        assert_int_equal(t.result.of, k); /* none is accepted: all that pay are drawn */
        trial_done(&t);
    }
}

static void a_verifier_that_never_errs_is_asked_for_ever(void **state)
{
    static const char *const bad[] = {"bad answer: 1", NULL};

    (void)state;
    run("samples=40 complete=1 sound=1", bad);
    assert_int_equal(t.result.of, 40);
    trial_done(&t);
}

static void silence_when_nothing_pays_or_nothing_is_accepted(void **state)
{
    static const char *const bad[] = {"bad answer: 1", "h answer: 2", "bad answer: 3", NULL};

    (void)state;
    run("sound=0 wrong_value=-10", bad); /* K = 0 */
    assert_int_equal(t.result.of, 0);
    assert_null(t.result.answer);
    assert_string_equal(t.result.stopped_by, "no_candidates");
    trial_done(&t);
    run("samples=3 sound=1 accept=.8", bad); /* finished lines with answers, yet none is taken */
    assert_int_equal(t.result.of, 3);
    assert_null(t.result.answer);
    assert_string_equal(t.result.stopped_by, "no_candidates");
    assert_int_equal(trial_replay(&t, PD_JOB_VERIFY), 0);
    assert_null(t.result.answer);
    trial_done(&t);
    run("samples=3 sound=1 accept=.8 fallback=best", bad);
    assert_string_equal(t.result.key, "2");
    trial_done(&t);
}

static void the_first_accepted_line_ends_it(void **state)
{
    static const char *const lines[] = {"bad answer: 1", "no", "g answer: 3", "g answer: 4", NULL};

    (void)state;
    run("samples=4 sound=1", lines);
    assert_string_equal(t.result.key, "3");
    assert_int_equal(t.result.of, 3);
    assert_int_equal(t.result.usage.scorer_passes, 2); /* a line without an answer is not judged */
    trial_done(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_limit_of_the_fixtures),
        cmocka_unit_test(a_verifier_that_never_errs_is_asked_for_ever),
        cmocka_unit_test(silence_when_nothing_pays_or_nothing_is_accepted),
        cmocka_unit_test(the_first_accepted_line_ends_it),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
