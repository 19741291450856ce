/* Scorers on lines whose steps are labelled: `ponder score --evaluate`, and the calibrations that
 * come of it. */
#ifndef PD_APP_EVALUATE_H
#define PD_APP_EVALUATE_H

#include "app/app.h"
#include "core/calibration.h"
#include "core/search.h"
#include "core/steps.h"

struct evaluate_line {
    const char *problem, *text; /* text: steps with blank lines between */
    uint32_t n_steps;
    int64_t first_wrong;  /* index of a step, -1: none is */
    bool right;           /* the answer */
    const double *values; /* [n_values], when scored */
    uint32_t n_values;    /* n_steps, 1 of an outcome scorer, 0: it does not fit */
};

struct evaluate_set {
    struct pd_arena arena;
    struct evaluate_line *lines;
    size_t n;
};

/* A line of the file is {"problem", "steps": […], "label": index of the first wrong step or -1,
 * "final_answer_correct"}, as ProcessBench has them; without the last, what has no wrong step is
 * right. PD_EFORMAT names the line. evaluate_free releases it. */
int evaluate_load(const char *path, struct evaluate_set *out, struct pd_err *err);
void evaluate_free(struct evaluate_set *s);
/* Neighbours of the same problem are one job. run starts a job and waits for it, cli_run_job-like.
 */
int evaluate_score(struct app *a, const char *scorer, struct evaluate_set *s,
                   int (*run)(void *user, struct app_job *j, const struct pd_result **out,
                              struct pd_err *err),
                   void *user, struct pd_err *err);

struct evaluate_result {
    size_t n_lines, n_skipped, n_steps; /* skipped: they do not fit */
    /* Of steps (Zheng et al., ProcessBench, arXiv:2412.06559): a step below the threshold is wrong,
     * and the first such one is the prediction. Accuracy on lines with a wrong step, on those
     * without, their harmonic mean. NaN: no such lines, or the scorer says nothing of steps. */
    double threshold, error_accuracy, correct_accuracy, f1;
    double best_threshold, best_f1; /* of hundredths */
    double step_auc; /* steps up to the first wrong one; those behind it have no label */
    /* Of lines, by their aggregate: */
    enum search_aggregate aggregate;
    double line_auc, within_auc; /* within: mean over problems that have right and wrong lines */
    size_t n_within;
    double tpr, fpr; /* right and wrong lines at or above the threshold */
    double ece;      /* of the aggregate as it is */
    /* With a calibration: each half of the problems judged by the fit to the other. */
    double calibrated_ece;
    struct pd_reliability reliability;
    struct pd_calibration calibration; /* of all; n 0: none asked for */
};
/* method: of enum pd_calibration_method, -1: none. */
int evaluate_measure(const struct evaluate_set *s, double threshold,
                     enum search_aggregate aggregate, int method, struct evaluate_result *out,
                     struct pd_err *err);

/* Keeps the calibration with the model; path: where, malloc'ed. */
int evaluate_store(const char *scorer, enum pd_calibration_method method,
                   const struct evaluate_result *r, char **out_path, struct pd_err *err);

#endif
