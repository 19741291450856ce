#include "strategies/thompson.h"

#include <math.h>

#define PI 3.14159265358979323846

void arm_observe(struct arm *a, double reward)
{
    a->n++;
    a->sum += reward;
    a->squares += reward * reward;
}

struct arm_gaussian arm_posterior(const struct arm *a)
{
    double mean = a->n ? a->sum / a->n : 0, ss = a->squares - a->n * mean * mean;
    struct arm_gaussian g = {.kappa = 1 + a->n, .nu = 1 + a->n};

    ss = ss > 0 ? ss : 0; /* equal rewards: rounding may leave less than nothing */
    g.m = a->n * mean / g.kappa;
    g.tau2 = (0.1 + ss + a->n * mean * mean / g.kappa) / g.nu;
    return g;
}

static double normal(struct search *s)
{
    double u = 1 - search_random(s), v = search_random(s); /* u > 0 */

    return sqrt(-2 * log(u)) * cos(2 * PI * v);
}

/* Gamma(shape, 1): Marsaglia and Tsang, A Simple Method for Generating Gamma Variables, 2000. */
static double gamma_draw(struct search *s, double shape)
{
    double d = (shape < 1 ? shape + 1 : shape) - 1.0 / 3, c = 1 / sqrt(9 * d), v, x;

    do {
        do {
            x = normal(s);
            v = (1 + c * x) * (1 + c * x) * (1 + c * x);
        } while (v <= 0);
    } while (log(1 - search_random(s)) >= 0.5 * x * x + d - d * v + d * log(v));
    return shape < 1 ? d * v * pow(1 - search_random(s), 1 / shape) : d * v;
}

double arm_draw(const struct arm *a, enum arm_prior prior, struct search *s)
{
    struct arm_gaussian g = arm_posterior(a);
    double variance, x, y;

    if (prior == PRIOR_BETA) {
        x = gamma_draw(s, 0.5 + a->sum);
        y = gamma_draw(s, 0.5 + a->n - a->sum);
        return x + y > 0 ? x / (x + y) : 0.5;
    }
    variance = g.nu * g.tau2 / 2 / gamma_draw(s, g.nu / 2);
    return g.m + normal(s) * sqrt(variance / g.kappa);
}
