#include "strategies/resample.h"

#include <math.h>
#include <stdbool.h>

#define NEARLY 1e-12 /* n w within this of an integer is that integer */

int resample_draw(const double *w, int n, double u)
{
    double sum = 0;
    int last = 0;

    for (int i = 0; i < n; i++) {
        if (w[i] <= 0)
            continue;
        sum += w[i];
        last = i;
        if (u < sum)
            return i;
    }
    return last;
}

double resample_ess(const double *w, int n)
{
    double sum = 0;

    for (int i = 0; i < n; i++)
        sum += w[i] * w[i];
    return sum > 0 ? 1 / sum : 0;
}

static double whole(double x, double *fraction)
{
    double near = nearbyint(x);
    bool is_near = fabs(x - near) < NEARLY;

    *fraction = is_near ? 0 : x - floor(x);
    return is_near ? near : floor(x);
}

static double nearly_whole(double x)
{
    double fraction, low = whole(x, &fraction);

    return low + fraction;
}

/* m points (u_j + j) / m; the ancestor of a point is the smallest i whose cumulated weight is
 * above it. Weights and their sums, in points, are rounded to the grid where they nearly meet it:
 * hundreds of equal ones do not drift. */
static void comb(const double *w, int n, int m, bool one_u, double (*uniform)(void *), void *arg,
                 int *copies)
{
    double u = one_u ? uniform(arg) : 0, edge = 0;
    int i = -1, last = 0;

    for (int k = 0; k < n; k++)
        last = w[k] > 0 ? k : last;
    for (int j = 0; j < m; j++) {
        double v = one_u ? u : uniform(arg);

        while (i < last && v >= edge - j) { /* v + j could round up to j + 1 */
            i++;
            edge = nearly_whole(edge + nearly_whole(m * w[i]));
        }
        copies[i]++;
    }
}

void resample_copies(enum resample_scheme scheme, const double *w, int n, int m,
                     double (*uniform)(void *), void *arg, int *copies)
{
    double rest = 0, sum = 0, fraction;
    int left = m;

    for (int i = 0; i < n; i++)
        copies[i] = 0;
    if (scheme == RESAMPLE_SYSTEMATIC || scheme == RESAMPLE_STRATIFIED) {
        comb(w, n, m, scheme == RESAMPLE_SYSTEMATIC, uniform, arg, copies);
        return;
    }
    if (scheme == RESAMPLE_MULTINOMIAL) {
        for (int j = 0; j < m; j++)
            copies[resample_draw(w, n, uniform(arg))]++;
        return;
    }
    for (int i = 0; i < n; i++) { /* residual: the whole copies are sure */
        copies[i] = (int)whole(m * w[i], &fraction);
        left -= copies[i];
        rest += fraction;
    }
    for (int j = 0; j < left; j++) { /* the others are drawn from the fractions */
        double u = uniform(arg) * rest;
        int pick = -1;

        sum = 0;
        for (int i = 0; i < n && (pick < 0 || u >= sum); i++) {
            (void)whole(m * w[i], &fraction);
            if (fraction <= 0)
                continue;
            sum += fraction;
            pick = i;
        }
        copies[pick < 0 ? 0 : pick]++;
    }
}

void resample_slots(const int *copies, int n, int *ancestor)
{
    int from = 0, used = 0;

    for (int i = 0; i < n; i++)
        ancestor[i] = copies[i] > 0 ? i : -1;
    for (int i = 0; i < n; i++) {
        if (ancestor[i] >= 0)
            continue;
        while (used >= copies[from] - 1) { /* the first copy stayed in its slot */
            from++;
            used = 0;
        }
        ancestor[i] = from;
        used++;
    }
}
