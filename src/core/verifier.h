/* A judge of lines of thought. One file each in verifiers/. Called on the job's thread. */
#ifndef PD_CORE_VERIFIER_H
#define PD_CORE_VERIFIER_H

#include "base/arena.h"
#include "core/generator.h"
#include "core/param.h"

struct pd_scorer; /* a verifier at work for one job */

/* One line of thought: all its steps from the beginning, trimmed. */
struct pd_candidate {
    const struct pd_str *steps;
    size_t n_steps;
    void *parent_state; /* what the verifier left at the nearest scored ancestor, or NULL */
    /* out */
    void *state;     /* the verifier's, for descendants; in the job's arena */
    double *values;  /* [n_values] in [0,1], in the job's arena */
    size_t n_values; /* n_steps; of an outcome 1; or 0: the line cannot be scored (it does not fit),
                        never a part of it */
};

struct pd_verifier {
    const char *name, *paper, *summary;
    const char *kind; /* "step" or "outcome" */
    bool no_model;    /* it judges without a model: s->gen is NULL, scoring makes no calls */
    const struct pd_param *params; /* rows, ended by {0}; NULL: none */
    size_t params_size;
    /* What the bounds of single rows cannot say; PD_EINVAL. NULL: nothing. Any thread. */
    int (*check)(const void *params, struct pd_err *err);
    int (*open)(struct pd_scorer *s,
                struct pd_err *err); /* may set s->state; once a job, before score */
    int (*score)(struct pd_scorer *s, struct pd_candidate *cands, size_t n, struct pd_err *err);
    void (*close)(struct pd_scorer *s); /* or NULL */
};

struct pd_scorer {
    const struct pd_verifier *verifier;
    const char *kind;         /* the verifier's, or what it has become when opened */
    const void *params;       /* the verifier's, parsed and checked */
    struct pd_generator *gen; /* the reward model */
    struct pd_arena *arena;   /* the job's */
    const char *question, *system;
    const char *truth; /* JSON {"answer":…,"equations":[[a,op,b,c],…]}, or NULL: not known */
    uint64_t key;      /* for chance: the job's branch "scorer" */
    void *state;       /* the verifier's */
    void *search;
};

/* Runs lanes on the scorer's model, all in one batch; keeps ledger, cancel and deadline. Outputs
 * stay valid until the lanes are released with s->gen->ops->release. */
int pd_scorer_run(struct pd_scorer *s, struct pd_lane *const *lanes, size_t n, struct pd_err *err);

const struct pd_verifier *pd_verifier_find(const char *name); /* verifiers/table.c */
extern const struct pd_verifier *const pd_verifiers[];        /* NULL-terminated */

#endif
