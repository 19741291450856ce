/* What a scorer's numbers are worth: from scores with the truth about them to probabilities, and
 * measures of both. Pure functions: any thread, no state. */
#ifndef PD_CORE_CALIBRATION_H
#define PD_CORE_CALIBRATION_H

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"

struct pd_judged { /* a line or a step */
    double score;
    bool right;
};

/* Probability that what has a score is right: through the points (x, p), linear between them, flat
 * beyond them. x ascends, p does not fall. */
#define PD_CALIBRATION_MAX 64 /* points: a monotone curve needs no more */
struct pd_calibration {
    size_t n;
    double x[PD_CALIBRATION_MAX], p[PD_CALIBRATION_MAX];
};

enum pd_calibration_method {
    PD_ISOTONIC, /* the closest curve that does not fall (pool adjacent violators) */
    PD_PLATT,    /* a logistic curve of ln(score / (1 - score)), Platt 1999, with his targets */
};
#define PD_CALIBRATION_METHODS "isotonic|platt"

/* How a job comes to doubt its answer. */
struct pd_doubt {
    struct pd_calibration curve; /* of the scorer; n 0: not calibrated */
    int aggregate;               /* enum search_aggregate of the rewards that it is for */
    double abstain_below;        /* an answer of less confidence is none; 0: any will do */
};

/* PD_EINVAL: fewer than 20, or all of them right, or none. PD_ENOMEM. */
int pd_calibration_fit(const struct pd_judged *set, size_t n, enum pd_calibration_method method,
                       struct pd_calibration *out, struct pd_err *err);
double pd_calibrated(const struct pd_calibration *c, double score);
/* Whether the points are as they must be. */
bool pd_calibration_valid(const struct pd_calibration *c);

/* Of ten parts of [0,1]: what is there, what was said of it on average, what part of it is right.
 */
struct pd_reliability {
    struct {
        size_t n;
        double said, right;
    } bins[10];
    double ece; /* expected calibration error: |said - right| over all, weighed by n */
};
void pd_reliability(const struct pd_judged *set, size_t n, struct pd_reliability *out);

/* Probability that a right one scores above a wrong one, ties one half; NaN: one of them is not
 * there. PD_ENOMEM. */
int pd_auc(const struct pd_judged *set, size_t n, double *out, struct pd_err *err);

#endif
