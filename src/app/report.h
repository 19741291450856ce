/* Reports: what runs came to, recomputed from the trace database and nothing else. Text, JSON, CSV,
 * SVG and HTML are drawings of the one struct report. Any thread that may read the store. */
#ifndef PD_APP_REPORT_H
#define PD_APP_REPORT_H

#include "app/recipe.h"
#include "core/stats.h"

#define REPORT_QUANTILES 5 /* 10, 25, 50, 75, 90 % */
#define REPORT_K_MAX     16
#define REPORT_DEPTH_MAX 64
#define REPORT_BINS      8

struct report_variant {
    const char *run, *name, *entry, *strategy,
        *scorer; /* run: its recipe's name; scorer may be NULL */
    uint64_t samples;
    bool added; /* the baseline that the recipe did not ask for */
    uint64_t n, n_right, n_failed;
    double accuracy;
    struct pd_interval interval; /* Wilson */
    double tokens;               /* generated a job, mean */
    double prefilled, scored, nodes;
    double seconds; /* a job, mean, as measured */
    /* The majority vote of as many plain lines as its mean tokens pay for, on the same problems:
     * the mean over the ways to take that many in a row out of a circle of all. */
    bool has_base;
    bool base_short; /* for one in four there were not enough lines */
    double base_accuracy, base_lines;
    struct pd_interval difference; /* accuracy less base_accuracy; bootstrap over problems */
    uint64_t only_it, only_base;   /* pairs of which one is right; here of the first lines alone */
    double p, p_holm;              /* McNemar of these; corrected for all variants of the run */
};

struct report_point {
    double k, tokens, value;
};

struct report_fan { /* step rewards of finished lines */
    size_t n_depths;
    size_t n[REPORT_DEPTH_MAX];
    double q[REPORT_DEPTH_MAX][REPORT_QUANTILES];
};

struct report_bin {           /* finished lines by their length */
    double low, high, tokens; /* mean */
    uint64_t n, n_right;
    struct pd_interval interval;
};

/* What another rule would have made of so many of the same lines: nothing is decoded for it. */
struct report_rule {
    const char *name; /* majority, weighted:last, best:min … */
    double k, tokens; /* of a job */
    double accuracy;  /* mean over the ways to take k lines, as for the majority at equal cost */
    bool best;        /* no rule is as good for fewer tokens */
};

struct report_run {
    char id[PD_JOB_ID_MAX], recipe_sha256[PD_SHA256_HEX];
    const char *name, *status, *model, *lock;
    int64_t created_ms;
    uint64_t n_jobs, n_done, n_failed, n_problems;
    uint32_t repeats;
    bool reproducible;
    unsigned views;
    struct report_variant *variants;
    size_t n_variants;
    /* of the plain lines that the votes at equal cost are of; n_coverage 0: there are none */
    const char *lines_of; /* variant */
    uint64_t n_lines, n_lines_right;
    double line_tokens;
    struct report_point coverage[REPORT_K_MAX];
    size_t n_coverage;
    struct pd_coverage_fit fit;
    struct report_point majority[REPORT_K_MAX]; /* of k lines */
    struct pd_saturation_fit saturation;        /* of it */
    struct report_rule *rules;                  /* by k, then as above */
    size_t n_rules;
    const char *fan_of; /* variant; NULL: nothing was scored */
    struct report_fan right, wrong;
    struct report_bin bins[REPORT_BINS];
    size_t n_bins;
};

struct report {
    struct report_run *runs;
    size_t n_runs;
    struct pd_arena arena;
};

/* ids: whole ids or unique prefixes. */
int report_make(struct store *s, const char *const *ids, size_t n, struct report **out,
                struct pd_err *err);
void report_free(struct report *r);

/* Each appends to out. PD_ENOMEM sticks in out. */
void report_json(const struct report *r, struct pd_buf *out);
void report_csv(const struct report *r, struct pd_buf *out);
/* ascii: no braille, no box drawing. */
void report_text(const struct report *r, bool ascii, struct pd_buf *out);
/* One picture; view: scaling, steps or length. PD_EINVAL: there is nothing to draw. */
int report_svg(const struct report *r, const char *view, struct pd_buf *out, struct pd_err *err);
void report_html(const struct report *r, struct pd_buf *out); /* self-contained */
/* report.html, table.csv and the pictures that there are, into a folder that is made. */
int report_write(const struct report *r, const char *dir, struct pd_err *err);

#endif
