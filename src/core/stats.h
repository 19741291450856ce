/* Statistics of experiments. Pure functions: any thread, no state, and chance only by a seed. */
#ifndef PD_CORE_STATS_H
#define PD_CORE_STATS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct pd_interval {
    double low, high;
};

/* 95 % interval of a rate of which k of n were seen (Wilson's score; n 0: [0,1]). */
struct pd_interval pd_wilson(uint64_t k, uint64_t n);

/* Probability that at least one of k draws is right when c of n were: unbiased, 1 -
 * C(n-c,k)/C(n,k). NaN when k > n. */
double pd_pass_at_k(uint64_t n, uint64_t c, uint64_t k);

/* McNemar's exact test: of pairs that disagree, b went one way and c the other; two-sided p. */
double pd_mcnemar(uint64_t b, uint64_t c);

/* 95 % interval of the mean of d[n], differences of pairs, by so many resamplings (percentiles). */
struct pd_interval pd_bootstrap(const double *d, size_t n, unsigned resamplings, uint64_t seed);

/* Holm's correction for n tests, in place. */
void pd_holm(double *p, size_t n);

/* Quantile q in [0,1] of sorted[n], linear between neighbours; NaN when n is 0. */
double pd_quantile(const double *sorted, size_t n, double q);
int pd_compare_doubles(const void *a, const void *b); /* for qsort */

/* The coverage law C(k) = exp(a k^b): a line through ln(-ln C) over ln k, without C that is 0 or 1.
 */
struct pd_coverage_fit {
    double a, b;
    double rms;    /* residual of C itself */
    size_t n_used; /* fewer than 2: no fit, the rest is NaN */
};
struct pd_coverage_fit pd_fit_coverage(const double *k, const double *coverage, size_t n);

/* Saturation F(N) = f_max (1 - (1-p)^N), least squares over N = n[i]. */
struct pd_saturation_fit {
    double f_max, p, rms;
};
struct pd_saturation_fit pd_fit_saturation(const double *n, const double *f, size_t n_points);
/* The smallest N at which one more gains no more than eps. */
double pd_saturation_point(double f_max, double p, double eps);

#endif
