/* Reports: what runs came to, recomputed from the trace database and nothing else. Text, JSON, CSV,
 * SVG and HTML are drawings of the one struct report. Any thread that may read the store. */
#ifndef PD_APP_REPORT_H
#define PD_APP_REPORT_H

#include "app/recipe.h"
#include "core/cost.h"
#include "core/stats.h"

#define REPORT_QUANTILES 5 /* 10, 25, 50, 75, 90 % */
#define REPORT_K_MAX     16
#define REPORT_DEPTH_MAX 64
#define REPORT_BINS      8

#define REPORT_REWARDS      10
#define REPORT_DIFFICULTIES 5
#define REPORT_CHOICES      16
#define REPORT_TREE_NODES   80 /* of a job that is drawn without having been asked for */

/* What curves are drawn over, a problem. */
#define REPORT_X_CHOICES "tokens|flop|bytes|eflop|seconds|ideal|joules"
enum report_x {
    REPORT_X_TOKENS, /* generated */
    REPORT_X_FLOP,   /* core/cost.h */
    REPORT_X_BYTES,
    REPORT_X_EFLOP,
    REPORT_X_SECONDS, /* as measured, jobs beside each other */
    REPORT_X_IDEAL,   /* of one job alone, by the measurements of `ponder bench` */
    REPORT_X_JOULES,  /* of the machine, shared out by the jobs' seconds */
};

struct report_config {
    enum report_x x;
    bool brief;          /* runs and what their variants came to; nothing of lines and costs */
    double intensity;    /* of eFLOPs, operations a byte */
    const char *job;     /* to draw as tree and timeline; NULL: one is found */
    struct pd_str bench; /* lines of `ponder bench --json`, of any of the models; len 0: none */
};
#define REPORT_CONFIG_DEFAULT                                                                      \
    {                                                                                              \
        .intensity = PD_COST_INTENSITY                                                             \
    }

/* Of a job, mean; NaN: not known (a model without a shape in the lock, nothing measured). */
struct report_cost {
    double flop, bytes, eflop;
    double ideal_s, joules;
};

struct report_variant {
    const char *run, *name, *entry, *strategy,
        *scorer; /* run: its recipe's name; scorer may be NULL */
    uint64_t samples;
    bool added; /* the baseline that the recipe did not ask for */
    uint64_t n, n_right, n_failed;
    uint64_t n_answered; /* of n: not those that abstained, or came to no answer */
    double accuracy;
    struct pd_interval interval; /* Wilson */
    double tokens;               /* generated a job, mean */
    double prefilled, scored, nodes;
    double seconds;    /* a job, mean, as measured */
    double sequential; /* tokens one after another; NaN: not known */
    struct report_cost cost;
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

struct report_reward {        /* finished lines by what the scorer said of them */
    double low, high, reward; /* mean */
    uint64_t n, n_right;
    struct pd_interval interval;
};

/* Problems by the share of their plain lines that are right, the easiest first. */
struct report_difficulty {
    double low, high; /* of that share, in the bin */
    uint64_t n_problems;
    struct {
        uint64_t n, n_right;
    } * variants; /* as run.variants */
};

/* Variants with as many samples, chosen on half of the problems and told of the other half, and the
 * other way round: one for each bin of difficulty, and one for all. Equally good ones: the
 * cheapest.
 */
struct report_choice {
    uint64_t samples, n_variants; /* to choose from */
    uint64_t n;                   /* jobs */
    double accuracy, tokens;
    double one_accuracy, one_tokens;
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
    struct report_cost prompt_cost, line_cost; /* without scoring */
    double joules; /* of the machine while the run ran; NaN: not known */
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
    struct report_reward rewards[REPORT_REWARDS];
    size_t n_rewards;  /* bins that have lines */
    double brier, ece; /* mean squared error, and expected calibration error over the bins */
    struct report_difficulty difficulty[REPORT_DIFFICULTIES];
    size_t n_difficulties;
    struct report_choice choices[REPORT_CHOICES];
    size_t n_choices;
    struct pd_trace *example; /* the job that is drawn as tree and timeline; NULL: none */
};

struct report {
    struct report_run *runs;
    size_t n_runs;
    enum report_x x;
    struct pd_arena arena;
};

/* ids: whole ids or unique prefixes. */
int report_make(struct store *s, const char *const *ids, size_t n, const struct report_config *c,
                struct report **out, struct pd_err *err);
int report_x_find(const char *name, enum report_x *out, struct pd_err *err); /* PD_EINVAL */
const char *report_x_label(enum report_x x);
/* "1.31 G"; "-" when it is not known. */
const char *report_si(double v, char out[16]);
/* Where a variant stands on r->x, and k plain lines. NaN: not known. */
double report_x(const struct report *r, const struct report_variant *v);
double report_x_of_lines(const struct report *r, const struct report_run *run, double k);
/* Fills the costs of a run of which all else is there; a part of report_make. */
int report_cost(struct store *s, const struct report_config *c, struct report_run *run,
                struct pd_err *err);
void report_free(struct report *r);

/* Each appends to out. PD_ENOMEM sticks in out. */
void report_json(const struct report *r, struct pd_buf *out);
void report_csv(const struct report *r, struct pd_buf *out);
/* ascii: no braille, no box drawing. */
void report_text(const struct report *r, bool ascii, struct pd_buf *out);
/* One picture of the first run (scaling: of all). PD_EINVAL: there is nothing to draw. */
#define REPORT_VIEW_CHOICES                                                                        \
    "scaling|table|steps|length|reliability|difficulty|abstention|tree|timeline"
int report_svg(const struct report *r, const char *view, struct pd_buf *out, struct pd_err *err);
void report_html(const struct report *r, struct pd_buf *out); /* self-contained */
/* report.html, table.csv and the pictures that there are, into a folder that is made. */
/* A picture as PNG, by rsvg-convert: of twice its size, in pixels. PD_ENOENT: it is not installed.
 */
int report_png(struct pd_str svg, struct pd_buf *out, struct pd_err *err);
int report_write(const struct report *r, const char *dir, struct pd_err *err);

/* Parts of report_svg: report_compare.c, report_trace.c. */
int report_svg_table(const struct report *r, struct pd_buf *out, struct pd_err *err);
int report_svg_reliability(const struct report *r, struct pd_buf *out, struct pd_err *err);
int report_svg_difficulty(const struct report *r, struct pd_buf *out, struct pd_err *err);
int report_svg_abstention(const struct report *r, struct pd_buf *out, struct pd_err *err);
int report_svg_tree(const struct pd_trace *t, struct pd_buf *out, struct pd_err *err);
int report_svg_timeline(const struct pd_trace *t, struct pd_buf *out, struct pd_err *err);

#endif
