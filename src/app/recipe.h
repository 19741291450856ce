/* Recipes: experiments as files (docs/recipes.md; docs/recipe.schema.json). Reading one gives the
 * problems and the variants (a strategy with one set of parameters) of which a run makes jobs: each
 * variant on each problem, so many times. No thread of its own; immutable once read. */
#ifndef PD_APP_RECIPE_H
#define PD_APP_RECIPE_H

#include "app/app.h"
#include "app/dataset.h"
#include "base/jsonc.h"

#define RECIPE_MAX_BYTES ((size_t)4 << 20)
#define RECIPE_SEED_BITS 53 /* of every derived seed: exact in JSON, and --seed takes it */

/* What a report shows, in this order; bit i of recipe.views. */
#define RECIPE_VIEWS                                                                               \
    {                                                                                              \
        "scaling", "table", "steps", "length", "reliability", "difficulty", "abstention", "tree",  \
            "timeline", NULL                                                                       \
    }
enum {
    RECIPE_SCALING = 1,
    RECIPE_TABLE = 2,
    RECIPE_STEPS = 4,
    RECIPE_LENGTH = 8,
    RECIPE_RELIABILITY = 16,
    RECIPE_DIFFICULTY = 32,
    RECIPE_ABSTENTION = 64,
    RECIPE_TREE = 128,
    RECIPE_TIMELINE = 256,
};

struct recipe_problem {
    const char *id, *question, *expect;
    const char *truth; /* for verifiers without a model; NULL: not known */
};

struct recipe_variant {
    const char *name;  /* unique: the entry's, and behind it what its grid varies: "beam@16" */
    const char *entry; /* of the recipe's strategies */
    const struct pd_strategy *strategy;
    const char *const *options; /* "key=value": the generator's sampling, then its own */
    size_t n_options;
    const char *scorer; /* NULL: it needs none */
    const char *draft;  /* NULL: the default, if it needs one */
    uint64_t samples;   /* what it draws; 0: the strategy has no such option */
    bool plain;         /* sampled as the generator says: fit for comparison at equal cost */
    bool added;         /* the majority that every strategy is compared with: not asked for */
};

struct recipe {
    const char *path, *name;
    uint64_t seed;
    struct {
        const char *path, *sha256; /* path as it is written */
        const struct dataset_format *format;
        const char *id, *question, *answer; /* members; NULL: the format's */
        uint64_t limit;                     /* 0: all */
    } dataset;
    const char *model, *draft, *system, *chat_template, *kv_type; /* all but model may be NULL */
    const char *scorer;                                           /* NULL: the default */
    struct recipe_variant *variants;
    size_t n_variants;
    uint32_t repeats;
    struct pd_budget budget; /* of a job */
    enum pd_grade grade;
    unsigned views;
    struct pd_str text; /* of the file */
    char sha256[PD_SHA256_HEX];
    /* recipe_problems fills these */
    char *data_path, data_sha256[PD_SHA256_HEX];
    uint64_t data_bytes;
    struct recipe_problem *problems;
    size_t n_problems;
    struct pd_arena arena;
    struct pd_jsonc doc;
};

/* PD_EFORMAT: "PATH:LINE:COLUMN: …". Freed by recipe_free. */
int recipe_parse(const char *path, struct pd_str text, struct recipe **out, struct pd_err *err);
int recipe_load(const char *path, struct recipe **out, struct pd_err *err); /* of a file */
void recipe_free(struct recipe *r);
/* Reads the data set, at most limit problems of it (0: as the recipe says), and checks its SHA-256
 * and that every answer can be graded by. Its path is looked for in the recipe's folder, then among
 * the bundled problems. */
int recipe_problems(struct recipe *r, struct pd_err *err);

/* H(seed, problem id, strategy, repeat): variants of one strategy share their lines, so that curves
 * over N are paired. */
uint64_t recipe_seed(const struct recipe *r, const struct recipe_variant *v, const char *problem,
                     uint32_t repeat);
/* The id of a job of a run: the same whenever it is asked for. */
void recipe_job_id(const char *run_id, const struct recipe_variant *v, const char *problem,
                   uint32_t repeat, char out[PD_JOB_ID_MAX]);
/* What the job is asked; borrows from all of them. */
struct app_request recipe_request(const struct recipe *r, const struct recipe_variant *v,
                                  const struct recipe_problem *p, uint32_t repeat);

#endif
