/* One job: a question, a strategy, a budget; run on a thread of its own to an answer. */
#ifndef PD_CORE_JOB_H
#define PD_CORE_JOB_H

#include <stdatomic.h>

#include "base/arena.h"
#include "base/record.h"
#include "core/calibration.h"
#include "core/generator.h"
#include "core/grade.h"
#include "core/math.h"
#include "core/strategy.h"
#include "core/verifier.h"

#define PD_SECONDS_MAX    1e9 /* a longer budget is none */
#define PD_STOPS_MAX      16  /* these four as at OpenAI, where it has bounds */
#define PD_STOP_MAX_BYTES 256
#define PD_BIAS_MAX       1024
#define PD_TOP_MAX        20

struct pd_budget {
    uint64_t tokens;       /* generated, all lanes; 0: no limit */
    double seconds;        /* 0: no limit */
    uint64_t nodes;        /* 0: no limit */
    const char *wrap_up;   /* forced on the best open line when nothing has finished; NULL: none */
    uint32_t wrap_reserve; /* tokens held back for it */
};

/* Options every strategy has; the table is pd_common_params. */
struct pd_common {
    double temperature, top_p, min_p;
    int top_k, max_tokens, max_step_tokens, max_steps, repeat_guard, top_logprobs;
    double presence_penalty, frequency_penalty;
};
extern const struct pd_param pd_common_params[];

struct pd_usage { /* counted apart; sums over the job's calls */
    uint64_t generated, prefilled, cached, scored;
    uint64_t discarded;     /* generated, but not on the answer's line */
    uint64_t sequential;    /* longest chain of dependent decode steps */
    uint64_t scorer_passes; /* nodes scored */
};

/* Where records go; NULL functions are not allowed, a NULL sink is. store_* of storage.h fit. */
struct pd_sink {
    void *self;
    int (*job)(void *self, const struct pd_job_rec *r, struct pd_err *err);
    int (*node)(void *self, const char *job, const struct pd_node_rec *r, struct pd_err *err);
    int (*score)(void *self, const char *job, const struct pd_score_rec *r, struct pd_err *err);
    int (*call)(void *self, const char *job, const struct pd_call_rec *r, struct pd_err *err);
    int (*event)(void *self, const char *job, const struct pd_event_rec *r, struct pd_err *err);
    int (*flush)(void *self, struct pd_err *err);
};

enum pd_job_mode {
    PD_JOB_RUN,      /* what is stored is served, what is missing is computed: run and resume */
    PD_JOB_RECORDED, /* stored results only: replay without a model */
    PD_JOB_VERIFY,   /* everything is computed again and compared: PD_EDIFFER names the first
                        difference */
};

struct pd_progress {                /* written by the job, read by anyone */
    atomic_uint live, nodes, steps; /* lanes in flight; nodes grown; steps of the longest line */
    _Atomic double best;            /* greatest last-step reward so far; 0: none */
    atomic_ullong tokens,
        generated; /* tokens so far: all, live ones included; generated: recorded ones */
    atomic_bool scoring;
};

/* More of the text of a node, while it is written. */
struct pd_piece {
    uint32_t node, parent;
    struct pd_str text; /* whole characters (UTF-8); the pieces of a node in a row are its text, but
                           for the stop string that ended it */
    const int32_t *tokens;  /* of the node, so many by now; its end token does not count */
    const float *logprobs;  /* NULL: forced text */
    const int32_t *top_ids; /* [n_tokens][top_logprobs]; NULL: none, or served from a record */
    const float *top_logprobs;
    uint32_t n_tokens;
    bool last; /* of this node; may be empty */
};

/* Who hears a job while it runs. On the job's thread: what is called must not block, and what it is
 * given is borrowed for the call. Nothing depends on whether anybody listens. */
struct pd_listener {
    void *self;
    void (*prompt)(void *self, const int32_t *tokens, uint32_t n); /* the first that is heard */
    void (*piece)(void *self, const struct pd_piece *p);
    /* The best of the nodes just scored, by its last reward. */
    void (*best)(void *self, uint32_t node, double value);
};

struct pd_job {
    /* in */
    const char *id, *problem_key;
    const char *run_id, *variant;  /* of an experiment; NULL: none */
    const char *question, *system; /* what keys, verifiers and strategies know of the prompt */
    const struct pd_chat *chat;    /* the prompt; NULL: system and question alone */
    uint32_t repeat;
    uint64_t seed;
    const struct pd_strategy *strategy;
    const void *params; /* the strategy's, parsed */
    struct pd_common common;
    /* Of all lines that answer the question. The texts end a line and are not of it (no more than
     * PD_STOPS_MAX of 1 to PD_STOP_MAX_BYTES, then NULL); NULL: none. */
    const char *const *stops;
    const struct pd_bias *logit_bias;
    size_t n_logit_bias;
    /* What such a line must say, or NULL. Without `after` what stands in <think>…</think> is free,
     * where the prompt or the line opens it, and all else is not. */
    const struct pd_form *form;
    struct pd_budget budget;
    uint32_t max_prompt_tokens;         /* 0: what the model's context holds */
    const struct pd_verifier *verifier; /* NULL: none */
    const void *scorer_params;          /* the verifier's, parsed */
    const char *truth;                  /* about the question, for the verifier (verifier.h) */
    struct pd_doubt doubt;
    const char *model, *scorer;            /* names; the scorer's with its options */
    const char *request;                   /* JSON: all that determines the result */
    const char *options;                   /* JSON, after defaulting */
    const char *budget_json;               /* the budget as it is stored */
    int64_t created_ms, started_ms;        /* 0: not yet */
    struct pd_generator *gen, *scorer_gen; /* scorer_gen: NULL for a verifier without a model */
    struct pd_generator *draft_gen;        /* NULL: none; its tokens are those of gen */
    const char *draft;                     /* its name */
    const struct pd_sink *sink;
    const struct pd_trace *stored;
    enum pd_job_mode mode;
    const char *expect;                 /* a known answer to grade against, or NULL */
    enum pd_grade grade;                /* how */
    const struct pd_listener *listener; /* NULL: nobody listens */
    atomic_bool cancel;                 /* set by anyone */
    /* The status that cancelling leaves: "paused" and "queued" jobs are to go on later; NULL:
     * "cancelled". Set before cancel. */
    _Atomic(const char *) stop_as;
    struct pd_progress progress;
};

struct pd_result_step {
    struct pd_str text;
    double score;     /* -1: not scored */
    int64_t n_tokens; /* -1: not known, when a record is read without its model */
};

struct pd_result {
    struct pd_arena arena;
    const char *status, *stopped_by;
    const char *cut;          /* a budget that cut lines short, or NULL */
    const char *answer, *key; /* NULL: none */
    struct pd_str text;       /* the answer's line, or the best partial one */
    int64_t answer_node;
    uint32_t agree, of;
    double confidence; /* calibrated probability that the answer is right, also of one that was
                          withheld for it; -1: not known */
    struct pd_result_step *steps;
    size_t n_steps;
    struct pd_usage usage;
    char digest[65];
    int64_t elapsed_ns;
    int correct;           /* 1, 0, -1: not graded */
    const char *verdict, *reason; /* of math_equal; NULL: not graded by it */
    struct pd_trace trace; /* of this run, in memory */
};

/* What the job's row says of it, with the given status. Borrows from the job. */
void pd_job_record(const struct pd_job *job, const char *status, struct pd_job_rec *out);
/* The job's first row, durable on return: from here on it can be resumed. */
int pd_job_store(const struct pd_job *job, struct pd_err *err);
/* Returns 0 also when the budget ended the search without an answer (result.answer is NULL then).
 * PD_ECANCEL: cancelled or stopped, what was recorded stays and the job can be resumed. result is
 * always to be freed. */
int pd_job_run(struct pd_job *job, struct pd_result *out, struct pd_err *err);
void pd_result_done(struct pd_result *r);

/* Where a line of text ends that one of the stop strings ended ("stop" is the finish of its last
 * node, whose text is the last n_last bytes): before that string. */
size_t pd_stop_at(const char *const *stops, struct pd_str line, size_t n_last);

/* One hash over everything that must repeat: nodes, tokens, log-probabilities, scores, choice; no
 * times. */
void pd_trace_digest(const struct pd_trace *t, char hex[65]);

#endif
