/* Statistics: see stats.h. */
#include "core/stats.h"

#include <math.h>
#include <stdlib.h>

#include "base/rng.h"

#define Z95 1.959963984540054 /* the normal distribution's 97.5 % quantile */

struct pd_interval pd_wilson(uint64_t k, uint64_t n)
{
    double m = (double)n, p, d, mid, half;

    if (n == 0)
        return (struct pd_interval){0, 1};
    p = (double)k / m;
    d = 1 + Z95 * Z95 / m;
    mid = (p + Z95 * Z95 / (2 * m)) / d;
    half = Z95 * sqrt(p * (1 - p) / m + Z95 * Z95 / (4 * m * m)) / d;
    return (struct pd_interval){k == 0 ? 0 : mid - half, k == n ? 1 : mid + half};
}

double pd_pass_at_k(uint64_t n, uint64_t c, uint64_t k)
{
    double none = 1;

    if (k > n)
        return (double)NAN;
    if (n - c < k)
        return 1;
    for (uint64_t i = n - c + 1; i <= n; i++)
        none *= 1 - (double)k / (double)i;
    return 1 - none;
}

double pd_mcnemar(uint64_t b, uint64_t c)
{
    uint64_t n = b + c, fewer = b < c ? b : c;
    double log_half = -(double)n * log(2), p = 0;

    if (b == c)
        return 1;
    for (uint64_t i = 0; i <= fewer; i++)
        p += exp(lgamma((double)n + 1) - lgamma((double)i + 1) - lgamma((double)(n - i) + 1) +
                 log_half);
    return p < 0.5 ? 2 * p : 1;
}

int pd_compare_doubles(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

double pd_quantile(const double *sorted, size_t n, double q)
{
    double at = q * (double)(n - (n > 0));
    size_t i = (size_t)at;

    if (n == 0)
        return (double)NAN;
    return i + 1 < n ? sorted[i] + (at - (double)i) * (sorted[i + 1] - sorted[i]) : sorted[n - 1];
}

struct pd_interval pd_bootstrap(const double *d, size_t n, unsigned resamplings, uint64_t seed)
{
    double *means = calloc(resamplings ? resamplings : 1, sizeof *means);
    struct pd_interval out = {(double)NAN, (double)NAN};
    uint64_t draw = 0;

    for (unsigned r = 0; means && n && r < resamplings; r++) {
        double sum = 0;

        for (size_t i = 0; i < n; i++)
            sum += d[(size_t)(pd_rng_uniform(seed, draw++, 0) * (double)n)];
        means[r] = sum / (double)n;
    }
    if (means && n && resamplings) {
        qsort(means, resamplings, sizeof *means, pd_compare_doubles);
        out.low = pd_quantile(means, resamplings, 0.025);
        out.high = pd_quantile(means, resamplings, 0.975);
    }
    free(means);
    return out;
}

void pd_holm(double *p, size_t n)
{
    bool *done = calloc(n ? n : 1, sizeof *done);
    double most = 0;

    for (size_t rank = 0; done && rank < n; rank++) {
        size_t least = n;
        double adjusted;

        for (size_t i = 0; i < n; i++)
            if (!done[i] && (least == n || p[i] < p[least]))
                least = i;
        adjusted = p[least] * (double)(n - rank);
        most = adjusted > most ? adjusted : most;
        p[least] = most < 1 ? most : 1;
        done[least] = true;
    }
    free(done);
}

struct pd_coverage_fit pd_fit_coverage(const double *k, const double *coverage, size_t n)
{
    struct pd_coverage_fit fit = {(double)NAN, (double)NAN, (double)NAN, 0};
    double sx = 0, sy = 0, sxx = 0, sxy = 0, m, errors = 0;

    for (size_t i = 0; i < n; i++)
        if (coverage[i] > 0 && coverage[i] < 1) {
            double x = log(k[i]), y = log(-log(coverage[i]));

            sx += x;
            sy += y;
            sxx += x * x;
            sxy += x * y;
            fit.n_used++;
        }
    m = (double)fit.n_used;
    if (fit.n_used < 2 || !(m * sxx - sx * sx > 0))
        return fit;
    fit.b = (m * sxy - sx * sy) / (m * sxx - sx * sx);
    fit.a = -exp((sy - fit.b * sx) / m);
    for (size_t i = 0; i < n; i++)
        if (coverage[i] > 0 && coverage[i] < 1)
            errors += pow(exp(fit.a * pow(k[i], fit.b)) - coverage[i], 2);
    fit.rms = sqrt(errors / m);
    return fit;
}

/* For a given p the best f_max is linear; the sum of squared errors with it. */
static double saturation_error(const double *n, const double *f, size_t n_points, double p,
                               double *out_f_max)
{
    double fg = 0, gg = 0, errors = 0;

    for (size_t i = 0; i < n_points; i++) {
        double g = 1 - pow(1 - p, n[i]);

        fg += f[i] * g;
        gg += g * g;
    }
    *out_f_max = gg > 0 ? fg / gg : 0;
    for (size_t i = 0; i < n_points; i++)
        errors += pow(f[i] - *out_f_max * (1 - pow(1 - p, n[i])), 2);
    return errors;
}

struct pd_saturation_fit pd_fit_saturation(const double *n, const double *f, size_t n_points)
{
    struct pd_saturation_fit fit = {0, 0, (double)NAN};
    double best = (double)INFINITY, at = 0, f_max, low, high;

    /* p over a grid in ln p, then golden section around the best of it */
    for (int i = 0; i <= 400; i++) {
        double x = -9.0 * (double)i / 400, e;

        e = saturation_error(n, f, n_points, exp(x), &f_max);
        if (e < best) {
            best = e;
            at = x;
        }
    }
    low = at - 9.0 / 400;
    high = at + 9.0 / 400 < 0 ? at + 9.0 / 400 : 0;
    for (int i = 0; i < 80; i++) {
        double g = 0.6180339887498949 * (high - low), a = high - g, b = low + g;

        if (saturation_error(n, f, n_points, exp(a), &f_max) <
            saturation_error(n, f, n_points, exp(b), &f_max))
            high = b;
        else
            low = a;
    }
    fit.p = exp((low + high) / 2);
    if (n_points)
        fit.rms = sqrt(saturation_error(n, f, n_points, fit.p, &fit.f_max) / (double)n_points);
    return fit;
}

double pd_saturation_point(double f_max, double p, double eps)
{
    double n;

    if (p <= 0 || eps >= f_max * p)
        return 0;
    if (p >= 1)
        return 1;
    n = ceil(log(eps / (f_max * p)) / log(1 - p));
    return n > 0 ? n : 0;
}
