/* See calibration.h. */
#include "core/calibration.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define MIN_JUDGED 20 /* below, a curve says more than is known */
#define LOGIT_MIN  1e-6

static int by_score(const void *a, const void *b)
{
    const struct pd_judged *x = a, *y = b;

    return (x->score > y->score) - (x->score < y->score);
}

static struct pd_judged *sorted(const struct pd_judged *set, size_t n)
{
    struct pd_judged *copy = malloc((n + 1) * sizeof *copy);

    if (copy && n) {
        memcpy(copy, set, n * sizeof *copy);
        qsort(copy, n, sizeof *copy, by_score);
    }
    return copy;
}

/* ---- curves -----------------------------------------------------------------------------------
 */

struct block {          /* of neighbours that have one probability */
    double x, n, right; /* x: the sum of the scores */
};

static double part(const struct block *b)
{
    return b->right / b->n;
}

/* set is sorted. Equal scores are one block from the start: they cannot be told apart. */
static size_t pool(const struct pd_judged *set, size_t n, struct block *blocks)
{
    size_t k = 0;

    for (size_t i = 0; i < n; i++) {
        if (k && i && set[i].score <= set[i - 1].score) {
            blocks[k - 1].x += set[i].score;
            blocks[k - 1].n++;
            blocks[k - 1].right += set[i].right;
        } else {
            blocks[k++] = (struct block){set[i].score, 1, set[i].right};
        }
        if (i + 1 < n && set[i + 1].score <= set[i].score)
            continue; /* the block is not whole yet */
        while (k > 1 && part(&blocks[k - 2]) >= part(&blocks[k - 1])) {
            blocks[k - 2].x += blocks[k - 1].x;
            blocks[k - 2].n += blocks[k - 1].n;
            blocks[k - 2].right += blocks[k - 1].right;
            k--;
        }
    }
    return k;
}

/* Neighbours become one until there are no more than a curve may have: those with the fewest. */
static size_t thin(struct block *b, size_t k)
{
    while (k > PD_CALIBRATION_MAX) {
        size_t at = 0;

        for (size_t i = 1; i + 1 < k; i++)
            if (b[i].n + b[i + 1].n < b[at].n + b[at + 1].n)
                at = i;
        b[at] = (struct block){b[at].x + b[at + 1].x, b[at].n + b[at + 1].n,
                               b[at].right + b[at + 1].right};
        memmove(&b[at + 1], &b[at + 2], (k - at - 2) * sizeof *b);
        k--;
    }
    return k;
}

static int fit_isotonic(const struct pd_judged *set, size_t n, struct pd_calibration *out,
                        struct pd_err *err)
{
    struct block *blocks = malloc(n * sizeof *blocks);

    if (!blocks)
        return pd_fail(err, PD_ENOMEM, "out of memory for a calibration");
    out->n = thin(blocks, pool(set, n, blocks));
    for (size_t i = 0; i < out->n; i++) {
        out->x[i] = blocks[i].x / blocks[i].n;
        out->p[i] = part(&blocks[i]);
    }
    free(blocks);
    return 0;
}

static double logit(double score)
{
    double c = fmin(fmax(score, LOGIT_MIN), 1 - LOGIT_MIN);

    return log(c / (1 - c));
}

/* p = 1 / (1 + exp(-(a z + b))), z = logit(score); targets are a little off 0 and 1, so that a set
 * that can be separated has an end, too. Newton, with a ridge that keeps the steps finite. */
static void fit_platt(const struct pd_judged *set, size_t n, struct pd_calibration *out)
{
    double n_right = 0, a = 1, b = 0, high, low;

    for (size_t i = 0; i < n; i++)
        n_right += set[i].right;
    high = (n_right + 1) / (n_right + 2);
    low = 1 / ((double)n - n_right + 2);
    for (int round = 0; round < 50; round++) {
        double ga = 0, gb = 0, haa = 1e-9, hab = 0, hbb = 1e-9, det;

        for (size_t i = 0; i < n; i++) {
            double z = logit(set[i].score), p = 1 / (1 + exp(-(a * z + b))), w = p * (1 - p);
            double g = p - (set[i].right ? high : low);

            ga += g * z;
            gb += g;
            haa += w * z * z;
            hab += w * z;
            hbb += w;
        }
        det = haa * hbb - hab * hab;
        if (!(det > 0))
            break;
        a -= (hbb * ga - hab * gb) / det;
        b -= (haa * gb - hab * ga) / det;
    }
    a = a > 0 ? a : 0; /* more is never taken for less */
    out->n = PD_CALIBRATION_MAX;
    for (size_t i = 0; i < out->n; i++) { /* close together near 0 and 1, where the curve bends */
        double z = -12 + 24 * (double)i / (double)(out->n - 1);

        out->x[i] = 1 / (1 + exp(-z));
        out->p[i] = 1 / (1 + exp(-(a * z + b)));
    }
}

int pd_calibration_fit(const struct pd_judged *set, size_t n, enum pd_calibration_method method,
                       struct pd_calibration *out, struct pd_err *err)
{
    struct pd_judged *s;
    size_t n_right = 0;
    int rc = 0;

    for (size_t i = 0; i < n; i++)
        n_right += set[i].right;
    if (n < MIN_JUDGED || n_right == 0 || n_right == n)
        return pd_fail(err, PD_EINVAL,
                       "%zu of %zu are right: a calibration needs at least %d, some of them right "
                       "and some wrong",
                       n_right, n, MIN_JUDGED);
    s = sorted(set, n);
    if (!s)
        return pd_fail(err, PD_ENOMEM, "out of memory for a calibration");
    if (method == PD_ISOTONIC)
        rc = fit_isotonic(s, n, out, err);
    else
        fit_platt(s, n, out);
    free(s);
    return rc;
}

double pd_calibrated(const struct pd_calibration *c, double score)
{
    size_t i = 0;

    while (i < c->n && c->x[i] < score)
        i++;
    if (i == 0)
        return c->p[0];
    if (i == c->n)
        return c->p[c->n - 1];
    return c->p[i - 1] + (c->p[i] - c->p[i - 1]) * (score - c->x[i - 1]) / (c->x[i] - c->x[i - 1]);
}

bool pd_calibration_valid(const struct pd_calibration *c)
{
    if (c->n == 0 || c->n > PD_CALIBRATION_MAX)
        return false;
    for (size_t i = 0; i < c->n; i++)
        if (!(c->x[i] >= 0 && c->x[i] <= 1 && c->p[i] >= 0 && c->p[i] <= 1) ||
            (i && (c->x[i] <= c->x[i - 1] || c->p[i] < c->p[i - 1])))
            return false;
    return true;
}

/* ---- measures ---------------------------------------------------------------------------------
 */

void pd_reliability(const struct pd_judged *set, size_t n, struct pd_reliability *out)
{
    *out = (struct pd_reliability){0};
    for (size_t i = 0; i < n; i++) {
        size_t k = set[i].score >= 1 ? 9 : (size_t)(set[i].score * 10);

        out->bins[k].n++;
        out->bins[k].said += set[i].score;
        out->bins[k].right += set[i].right;
    }
    for (size_t k = 0; k < 10; k++) {
        if (!out->bins[k].n)
            continue;
        out->ece += fabs(out->bins[k].said - out->bins[k].right) / (double)n;
        out->bins[k].said /= (double)out->bins[k].n;
        out->bins[k].right /= (double)out->bins[k].n;
    }
}

int pd_auc(const struct pd_judged *set, size_t n, double *out, struct pd_err *err)
{
    struct pd_judged *s = sorted(set, n);
    double wrong = 0, right = 0, won = 0;

    if (!s)
        return pd_fail(err, PD_ENOMEM, "out of memory");
    for (size_t i = 0, j; i < n; i = j) { /* runs of equal scores */
        double r = 0, w = 0;

        for (j = i; j < n && s[j].score <= s[i].score; j++)
            s[j].right ? r++ : w++;
        won += r * (wrong + w / 2);
        right += r;
        wrong += w;
    }
    free(s);
    *out = right > 0 && wrong > 0 ? won / (right * wrong) : (double)NAN;
    return 0;
}
