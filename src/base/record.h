/* What a trace consists of: the rows that the search core produces and the storage keeps. Plain
 * data, shared by both so that neither needs to know the other. Strings and arrays are borrowed for
 * the call unless a function says otherwise. Field names follow the database schema. */
#ifndef PD_BASE_RECORD_H
#define PD_BASE_RECORD_H

#include "base/str.h"

#define PD_JOB_ID_MAX 40

struct pd_job_rec {
    const char *id;
    const char *problem_key; /* may be NULL */
    const char *run_id;      /* of an experiment: kept from the first put on; NULL: none */
    const char *variant;     /* which of its strategies and parameters; NULL: none */
    uint32_t repeat;
    const char *strategy;
    const char *options; /* JSON, after defaulting */
    const char *model;   /* name */
    const char *scorer;  /* may be NULL */
    uint64_t seed;
    const char *status;     /* queued running paused done failed cancelled */
    const char *stopped_by; /* NULL while running */
    struct pd_str request; /* JSON: question, system, sampling, budget, model files with sha256: all
                              that determines the result */
    const char *budget;    /* JSON */
    int64_t created_ms, started_ms, finished_ms; /* 0: not yet */
    int64_t answer_node;                         /* -1: none */
    const char *answer;                          /* may be NULL */
    int correct;                                 /* 1, 0, or -1: not graded */
    const char *error;                           /* may be NULL */
    const char *digest;                          /* hex, NULL until finished */
    int64_t sequential; /* longest chain of dependent decode steps; -1: not known */
};

struct pd_node_rec {
    uint32_t id, parent; /* parent of the root: itself */
    uint32_t depth, step;
    const char *status;       /* open finished truncated failed pruned */
    const char *prune_reason; /* may be NULL */
    struct pd_str text;
    const int32_t *tokens;
    const float *logprobs;     /* one a token; NULL for forced text */
    const float *confidences;  /* one a token; NULL: nobody asked for them */
    const int32_t *top_ids;    /* [n_tokens][n_top], the likeliest at each; not stored */
    const float *top_logprobs; /* theirs */
    uint32_t n_top;
    uint32_t n_tokens;
    double logprob;     /* sum */
    const char *finish; /* prompt forced step eos stop boxed length cut abort */
    const char *stop;   /* what cut it: tokens seconds race …, may be NULL */
    uint64_t seed;      /* the branch key */
    int64_t created_ms;
    int64_t call_id; /* index of the call within the job that produced it, -1: none */
};

struct pd_score_rec {
    uint32_t node_id;
    const char *scorer;
    const char *kind; /* step, outcome */
    double value;     /* aggregate by the scorer's default */
    const double *steps;
    uint32_t n_steps;
    int64_t call_id;
};

struct pd_call_rec {
    const char *engine;  /* "local", or what an engine elsewhere is called */
    const char *dialect; /* "gguf" */
    const char *op;      /* generate prefill score read; overrun: drawn, and not used */
    const char *model;
    const char *outcome; /* ok cancel error */
    uint64_t prompt_tokens, cached_tokens,
        generated_tokens; /* prefilled (or scored) = prompt - cached */
    int64_t started_ms, ended_ms;
    const char *error;
    /* of a request to an engine elsewhere; else 0 */
    uint32_t attempt; /* from 1 */
    int http;         /* status; 0: no answer */
    int64_t first_ms; /* when the answer began; 0: it did not */
    struct pd_str request, response; /* as they went; to be stored, not read back */
};

struct pd_event_rec {
    uint64_t seq;
    int64_t t_ms;
    const char *type; /* decision, budget.stop, job.started, … */
    const char *data; /* JSON */
};

/* A whole job read back. Everything hangs on one allocation that its reader frees. */
struct pd_trace {
    struct pd_job_rec job;
    struct pd_node_rec *nodes; /* ascending id */
    size_t n_nodes;
    struct pd_score_rec *scores; /* in the order of their nodes */
    size_t n_scores;
    struct pd_call_rec *calls;
    size_t n_calls;
    struct pd_event_rec *events;
    size_t n_events;
};

/* The first score of a node, NULL: it has none. */
static inline const struct pd_score_rec *pd_trace_score(const struct pd_trace *t, uint32_t node)
{
    size_t low = 0, high = t->n_scores;

    while (low < high) {
        size_t mid = low + (high - low) / 2;

        if (t->scores[mid].node_id < node)
            low = mid + 1;
        else
            high = mid;
    }
    return low < t->n_scores && t->scores[low].node_id == node ? &t->scores[low] : NULL;
}

#endif
