/* Shared by the files that make the figures of a report: the plain lines, and what is at hand. */
#ifndef PD_APP_REPORT_INT_H
#define PD_APP_REPORT_INT_H

#include "app/report.h"

#define REPORT_AGGREGATES 4

/* One plain line of thought. */
struct line {
    const char *key; /* "": no vote */
    size_t like;     /* the first of its pool with the same key */
    uint32_t n_tokens;
    bool right;
    const double *steps; /* rewards; NULL: not scored */
    uint32_t n_steps;
    double rewards[REPORT_AGGREGATES]; /* of steps, by enum search_aggregate */
    double value; /* what the scorer made of the steps; NaN: not scored */
};

/* The plain lines of one problem and repeat, in the order of their branches. */
struct pool {
    struct line *lines;
    size_t n;
    size_t *votes; /* room for counting: [n] of zeros */
};

struct making {
    struct store *s;
    struct pd_arena *arena; /* the report's */
    struct pd_arena scratch;
    const struct report_config *config;
    struct recipe *recipe;
    struct report_run *run;
    struct store_run_jobs *jobs;
    const char **problems; /* sorted, each once */
    size_t n_problems;
    struct pool *pools; /* [n_problems][repeats] */
    struct pd_err *err;
};

/* A done and graded job of this variant. */
bool report_is_of(const struct store_run_job *j, const char *variant);
/* Where a job stands in tables over problems and repeats. */
size_t report_place(const struct making *m, const struct store_run_job *j);

/* report_bins.c: parts of the making, when pools and variants are there. */
void report_reliability(struct making *m);
int report_difficulty(struct making *m);

#endif
