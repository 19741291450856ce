/* resample_limit: how many draws pay. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/rng.h"
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

/* The value of drawing up to k times by the belief in each type after every rejection, and by games
 * that are played: both are what the closed form says. */
static double value_by_beliefs(const double *p, const double *r, double c, double s, double wrong,
                               double cost, int k)
{
    double belief[2] = {p[0], p[1]}, alive = 1, sum = 0;

    for (int i = 0; i < k; i++) {
        double gain = 0, rejected = 0;

        for (int type = 0; type < 2; type++) {
            double beta = (1 - c) * r[type] + s * (1 - r[type]);

            gain += belief[type] * (c * r[type] + wrong * (1 - r[type]) * (1 - s) - cost);
            rejected += belief[type] * beta;
            belief[type] *= beta;
        }
        sum += alive * gain;
        alive *= rejected;
        for (int type = 0; type < 2 && rejected > 0; type++)
            belief[type] /= rejected;
    }
    return sum;
}

static void values_are_those_of_beliefs_and_of_games(void **state)
{
    static const double p[] = {.58, .42}, r[] = {.87, .13};
    static const char *const bad[] = {"bad answer: 1", NULL};
    const double c = .9, s = .75, wrong = -.7, cost = .02;
    const int games = 200000;
    double sum[9] = {0}, squares[9] = {0};
    uint64_t n = 0;

    (void)state;
    for (int g = 0; g < games; g++) {
        int type = pd_rng_uniform(5, n++, 0) >= p[0];
        bool over = false;
        double got = 0;

        for (int k = 1; k <= 8; k++) {
            if (!over) {
                bool right = pd_rng_uniform(5, n++, 0) < r[type];

                over = pd_rng_uniform(5, n++, 0) < (right ? c : 1 - s);
                got += (over ? right ? 1 : wrong : 0) - cost;
            }
            sum[k] += got;
            squares[k] += got * got;
        }
    }
    for (int most = 1; most <= 8; most++) {
        char options[160];
        const char *at;
        double value, mean;
        int k = -1;

        snprintf(options, sizeof options,
                 "samples=%d easy=.58 r_easy=.87 r_hard=.13 complete=.9 sound=.75 wrong_value=-.7 "
                 "cost=.02",
                 most);
        run(options, bad);
        sscanf(t.result.trace.events[0].data, "{\"kind\":\"limit\",\"k\":%d", &k);
        at = strstr(t.result.trace.events[0].data, "\"value\":[");
        assert_in_range(k, 1, most);
        assert_non_null(at);
        value = strtod(at + strlen("\"value\":["), NULL);
        mean = sum[k] / games;
        assert_true(fabs(value - value_by_beliefs(p, r, c, s, wrong, cost, k)) < 1e-12);
        assert_true(fabs(value - mean) < 4 * sqrt((squares[k] / games - mean * mean) / games));
        for (int other = 0; other <= most; other++)
            assert_true(value_by_beliefs(p, r, c, s, wrong, cost, other) < value + 1e-12);
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
        cmocka_unit_test(values_are_those_of_beliefs_and_of_games),
        cmocka_unit_test(a_verifier_that_never_errs_is_asked_for_ever),
        cmocka_unit_test(silence_when_nothing_pays_or_nothing_is_accepted),
        cmocka_unit_test(the_first_accepted_line_ends_it),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
