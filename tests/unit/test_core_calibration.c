/* Calibrations: curves that fit what is known of a scorer, and measures with values by hand. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <stdlib.h>

#include "base/rng.h"
#include "core/calibration.h"

#define N 20000

static struct pd_judged set[N];

/* Scores at random, right with probability p(score). */
static void draw(double (*p)(double score))
{
    for (size_t i = 0; i < N; i++) {
        set[i].score = pd_rng_uniform(7, 0, 2 * i);
        set[i].right = pd_rng_uniform(7, 0, 2 * i + 1) < p(set[i].score);
    }
}

static double bent(double x)
{
    return 0.1 + 0.6 * x * x;
}

static double logistic(double x)
{
    return 1 / (1 + exp(-(0.5 * log(x / (1 - x)) - 1)));
}

static void a_curve_is_found_again(void **state)
{
    struct pd_reliability r;
    struct pd_calibration c;

    (void)state;
    for (int method = 0; method < 2; method++) {
        double (*p)(double) = method == PD_PLATT ? logistic : bent, before;

        draw(p);
        pd_reliability(set, N, &r);
        before = r.ece;
        assert_int_equal(pd_calibration_fit(set, N, (enum pd_calibration_method)method, &c, NULL),
                         0);
        assert_true(pd_calibration_valid(&c));
        for (double x = 0.05; x < 1; x += 0.05)
            if (!(fabs(pd_calibrated(&c, x) - p(x)) < 0.06)) /* standard error of a bin: 0.015 */
                fail_msg("method %d: %.3f at %.2f, not %.3f", method, pd_calibrated(&c, x), x,
                         p(x));
        for (size_t i = 0; i < N; i++)
            set[i].score = pd_calibrated(&c, set[i].score);
        pd_reliability(set, N, &r);
        assert_true(before > 0.1 && r.ece < 0.02);
    }
}

static void violators_are_pooled(void **state)
{
    static const bool right[] = {0, 0, 1, 0, 1, 0, 0, 1, 1, 1, 0, 1, 1, 1, 1, 0, 1, 1, 1, 1};
    struct pd_judged s[20];
    struct pd_calibration c;

    (void)state;
    for (size_t i = 0; i < 20; i++)
        s[i] = (struct pd_judged){(double)(i + 1) / 32, right[i]};
    assert_int_equal(pd_calibration_fit(s, 20, PD_ISOTONIC, &c, NULL), 0);
    /* by hand: 00 | 10100 | 1110 1111 0 pooled: 7/9 … | 1111 */
    assert_int_equal(c.n, 5);
    assert_true(c.p[0] == 0 && c.p[1] == 0.4 && c.p[2] == 0.75 && c.p[3] == 0.8 && c.p[4] == 1);
    assert_true(c.x[0] == 1.5 / 32 && c.x[1] == 5.0 / 32 && c.x[4] == 18.5 / 32);
    assert_true(pd_calibrated(&c, 0) == 0 && pd_calibrated(&c, 1) == 1);
    assert_true(fabs(pd_calibrated(&c, 3.25 / 32) - 0.2) < 1e-15); /* half way between two points */
}

static void too_little_is_refused(void **state)
{
    struct pd_judged s[32] = {{0}};
    struct pd_calibration c = {0};

    (void)state;
    assert_int_equal(pd_calibration_fit(s, 32, PD_PLATT, &c, NULL), PD_EINVAL); /* none is right */
    s[0].right = true;
    assert_int_equal(pd_calibration_fit(s, 19, PD_ISOTONIC, &c, NULL), PD_EINVAL);
    assert_int_equal(pd_calibration_fit(s, 32, PD_ISOTONIC, &c, NULL), 0);
    assert_int_equal(c.n, 1); /* all scores are the same */
    assert_true(pd_calibrated(&c, 0.7) == 1.0 / 32);
    c.x[0] = 2;
    assert_false(pd_calibration_valid(&c));
}

static void measures_by_hand(void **state)
{
    static const struct pd_judged s[] = {{0.1, 0}, {0.5, 1}, {0.5, 0}, {0.9, 1}};
    struct pd_reliability r;
    double auc;

    (void)state;
    assert_int_equal(pd_auc(s, 4, &auc, NULL), 0);
    assert_true(auc == 0.875); /* three pairs won, one tied */
    assert_int_equal(pd_auc(s, 1, &auc, NULL), 0);
    assert_true(isnan(auc));
    pd_reliability(s, 4, &r);
    assert_int_equal(r.bins[5].n, 2);
    assert_true(r.bins[5].said == 0.5 && r.bins[5].right == 0.5);
    assert_true(fabs(r.ece - (0.1 + 0 + 0.1) / 4) < 1e-15);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_curve_is_found_again),
        cmocka_unit_test(violators_are_pooled),
        cmocka_unit_test(too_little_is_refused),
        cmocka_unit_test(measures_by_hand),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
