#include "core/stats.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#include "tests/unit/stats_reference.h"

#define N_OF(a) (sizeof(a) / sizeof((a)[0]))

static void near(double got, double want, double within)
{
    if (!(fabs(got - want) <= within))
        fail_msg("%.17g is not %.17g", got, want);
}

static void wilson_is_scipys(void **state)
{
    (void)state;
    for (size_t i = 0; i < N_OF(wilson); i++) {
        struct pd_interval ci = pd_wilson(wilson[i].k, wilson[i].n);

        near(ci.low, wilson[i].low, 1e-12);
        near(ci.high, wilson[i].high, 1e-12);
    }
    near(pd_wilson(0, 0).high - pd_wilson(0, 0).low, 1, 0);
}

static void mcnemar_is_scipys(void **state)
{
    (void)state;
    for (size_t i = 0; i < N_OF(mcnemar); i++)
        near(pd_mcnemar(mcnemar[i].b, mcnemar[i].c), mcnemar[i].p, 1e-12);
}

static void fits_are_scipys(void **state)
{
    static const double k[] = {1, 2, 4, 8, 16, 32};
    static const double cover[] = {0.40, 0.53, 0.63, 0.71, 0.78, 0.83};
    static const double f[] = {0.19, 0.31, 0.48, 0.66, 0.75, 0.77};
    static const double with_ends[] = {0, 0.53, 1};
    struct pd_coverage_fit c = pd_fit_coverage(k, cover, N_OF(k));
    struct pd_saturation_fit s = pd_fit_saturation(k, f, N_OF(k));

    (void)state;
    near(c.a, coverage_a, 1e-12);
    near(c.b, coverage_b, 1e-12);
    near(c.rms, coverage_rms, 1e-12);
    assert_int_equal(c.n_used, N_OF(k));
    near(s.f_max, saturation_f, 1e-6);
    near(s.p, saturation_p, 1e-6);
    near(s.rms, saturation_rms, 1e-9);
    assert_int_equal(pd_fit_coverage(k, with_ends, 3).n_used, 1);
    assert_true(isnan(pd_fit_coverage(k, with_ends, 3).b));
}

static void quantiles_are_numpys(void **state)
{
    static const double data[] = {0.5, 1, 1, 2.25, 3, 7, 11};

    (void)state;
    for (size_t i = 0; i < N_OF(quantiles); i++)
        near(pd_quantile(data, N_OF(data), quantiles[i].q), quantiles[i].value, 1e-12);
    near(pd_quantile(data, 1, 0.7), 0.5, 0);
    assert_true(isnan(pd_quantile(data, 0, 0.5)));
}

static void bootstrap_is_scipys(void **state)
{
    static const double d[] = {1, 0, 0, -1, 1, 0, 0.5, 0, 1, 0, 0, -0.5, 1, 0, 0, 0, 1, -1, 0, 0};
    struct pd_interval ci = pd_bootstrap(d, N_OF(d), 10000, 3);
    struct pd_interval again = pd_bootstrap(d, N_OF(d), 10000, 3);

    (void)state;
    near(ci.low, bootstrap_low, 0.026); /* means come in steps of 1/40 */
    near(ci.high, bootstrap_high, 0.026);
    near(again.low, ci.low, 0);
    near(again.high, ci.high, 0);
}

/* Of 3^3 equally likely resamplings. */
static void bootstrap_is_enumeration(void **state)
{
    static const double d[] = {0, 1, 5};
    struct pd_interval ci = pd_bootstrap(d, 3, 20000, 9);

    (void)state;
    near(ci.low, 0, 0);  /* 1/27 of all are (0,0,0): more than 2.5 % */
    near(ci.high, 5, 0); /* the same for (5,5,5) */
}

/* The mean over all subsets of k of n draws, c of them right. */
static double share_of_subsets(unsigned n, unsigned c, unsigned k)
{
    unsigned all = 0, hit = 0;

    for (unsigned set = 0; set < 1u << n; set++)
        if ((unsigned)__builtin_popcount(set) == k) {
            all++;
            hit += (set & ((1u << c) - 1)) != 0;
        }
    return (double)hit / all;
}

static void pass_at_k_is_enumeration(void **state)
{
    (void)state;
    for (unsigned n = 1; n <= 10; n++)
        for (unsigned c = 0; c <= n; c++)
            for (unsigned k = 1; k <= n; k++)
                near(pd_pass_at_k(n, c, k), share_of_subsets(n, c, k), 1e-12);
    near(pd_pass_at_k(10, 3, 1), .3, 1e-12);
    near(pd_pass_at_k(10, 3, 5), .916667, 1e-6);
    near(pd_pass_at_k(10, 1, 5), .5, 1e-12);
    assert_true(isnan(pd_pass_at_k(3, 1, 4)));
}

/* E[estimate] over c ~ Bin(n, p) is 1 - (1-p)^k. */
static void pass_at_k_is_unbiased(void **state)
{
    const double p = 0.3;
    double mean = 0, choose = 1;

    (void)state;
    for (unsigned c = 0; c <= 8; c++) {
        mean += choose * pow(p, c) * pow(1 - p, 8 - c) * pd_pass_at_k(8, c, 3);
        choose = choose * (8 - c) / (c + 1);
    }
    near(mean, 1 - pow(1 - p, 3), 1e-12);
}

static void holm_by_hand(void **state)
{
    double p[] = {0.01, 0.04, 0.03, 0.005}; /* the textbook's: .03 .06 .06 .02 */

    (void)state;
    pd_holm(p, N_OF(p));
    near(p[0], 0.03, 1e-12);
    near(p[1], 0.06, 1e-12);
    near(p[2], 0.06, 1e-12);
    near(p[3], 0.02, 1e-12);
    p[0] = 0.9;
    pd_holm(p, 2);
    near(p[0], 0.9, 1e-12);
    near(p[1], 0.12, 1e-12);
}

static void saturation_points(void **state)
{
    (void)state;
    near(pd_saturation_point(.8, .2, .01), 13, 0);
    near(pd_saturation_point(.8, .05, .001), 72, 0);
    near(pd_saturation_point(.8, 0, .001), 0, 0);
    near(pd_saturation_point(.8, 1, .001), 1, 0);
    near(pd_saturation_point(.8, .2, .5), 0, 0);
    /* Gain(N*) <= eps < Gain(N* - 1), where the next one adds Gain(N) = F_max p (1-p)^N. */
    for (double p = .02; p < 1; p += .03)
        for (double eps = .5; eps > 1e-6; eps /= 3) {
            double n = pd_saturation_point(.8, p, eps);

            assert_true(.8 * p * pow(1 - p, n) <= eps * (1 + 1e-9));
            assert_true(n <= 0 || .8 * p * pow(1 - p, n - 1) > eps * (1 - 1e-9));
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(wilson_is_scipys),
        cmocka_unit_test(mcnemar_is_scipys),
        cmocka_unit_test(fits_are_scipys),
        cmocka_unit_test(quantiles_are_numpys),
        cmocka_unit_test(bootstrap_is_scipys),
        cmocka_unit_test(bootstrap_is_enumeration),
        cmocka_unit_test(pass_at_k_is_enumeration),
        cmocka_unit_test(pass_at_k_is_unbiased),
        cmocka_unit_test(holm_by_hand),
        cmocka_unit_test(saturation_points),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
