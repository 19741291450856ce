/* A language model as the search sees it: contexts that can be forked, and lanes that run on them
 * in batches. Implemented by src/app over the built-in engine, by src/remote over engines elsewhere,
 * and by tests. One instance serves one job and is used on the job's thread only. */
#ifndef PD_CORE_GENERATOR_H
#define PD_CORE_GENERATOR_H

#include <stdatomic.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/chat.h"
#include "base/err.h"
#include "core/form.h"

struct pd_gctx; /* a token sequence with whatever cache the engine keeps for it */

/* How sure the model is of a token: -1/top times the sum of the log-probabilities (temperature 1)
 * of the `top` likeliest, at most PD_CONFIDENCE_TOP; 0: nobody asks. A lane ends with the token at
 * which the mean over the last `window` tokens, once it has so many, is below `least` (0: never).
 */
#define PD_CONFIDENCE_TOP 20
struct pd_confidence {
    uint32_t top, window;
    double least;
};

struct pd_sampling {
    double temperature; /* 0: arg-max */
    int top_k;          /* 0: off */
    double top_p, min_p;
    double presence_penalty, frequency_penalty; /* taken off the logits of what the line says */
    const struct pd_bias *bias;                 /* added to logits */
    size_t n_bias;
    uint32_t n_top; /* likeliest tokens to tell with each drawn one; they are at temperature 1 */
    struct pd_confidence confidence;
};

enum pd_lane_op { PD_LANE_PREFILL, PD_LANE_GENERATE, PD_LANE_READ };

enum pd_lane_read {
    PD_READ_LABELS, /* logits of labels */
    PD_READ_HEAD,   /* the model's head, as many values as it has */
    PD_READ_NEXT,   /* of the token behind: its log-probability, the entropy of the distribution it
                       is from, and KL(uniform || that), in nats; not at the last token */
};
#define PD_READ_NEXT_VALUES 3

/* What a model is, as far as its file tells; strings live as long as the generator. */
struct pd_model_traits {
    const char *name; /* its maker's; NULL: not said */
    const char *head; /* kind of its head: cls mlp value score; NULL: none */
    uint32_t n_head;  /* values of that */
    int32_t bos;      /* begins a text, -1: none */
    uint32_t n_vocab;
};

enum pd_lane_end {
    PD_END_EOS,        /* the model ended its turn; the end token is the last one */
    PD_END_STOP,       /* the stop string was completed */
    PD_END_LINE,       /* one of the line's stop strings was, which may begin before the lane */
    PD_END_LENGTH,     /* max_tokens */
    PD_END_CTX,        /* the context is full */
    PD_END_RACE,       /* the race was decided */
    PD_END_CONFIDENCE, /* its confidence fell below what was asked for */
    PD_END_CANCEL,     /* cancelled; what was drawn is kept */
    PD_END_ERROR,
};

/* One request that a lane took, to an engine elsewhere; for the record. */
struct pd_attempt {
    unsigned number; /* from 1 */
    int http;        /* 0: no answer */
    struct pd_str request, response;
    uint64_t n_prompt, n_cached, n_generated;
    int64_t started_ms, first_ms, ended_ms; /* first_ms 0: nothing came */
    const char *error;                      /* NULL: it was good */
};

struct pd_lane {
    /* in */
    enum pd_lane_op op;
    struct pd_gctx *ctx; /* extended in place; its pending tokens are evaluated first */
    const struct pd_sampling *sampling;
    uint64_t key;
    uint32_t max_tokens;
    const char *stop;              /* or NULL */
    const char *const *line_stops; /* NULL-terminated, or NULL; they go first */
    struct pd_str before;          /* the end of the line's text, as long as they are at least */
    const int32_t *seen;           /* the line's tokens, where there are penalties */
    uint32_t n_seen;
    const struct pd_form *form; /* NULL: none; its `after` says it all, and it outlives the lane */
    struct pd_str written;      /* with a form: the line's text so far */
    uint32_t race_m; /* 0: no race; else all lanes of the submit race, first m win (logical time) */
    enum pd_lane_read read;
    const uint32_t *at; /* READ: absolute positions after which that is read */
    uint32_t n_at;
    const int32_t *labels;
    uint32_t n_labels;
    /* out; arrays belong to the generator until release() */
    const int32_t *tokens; /* these five from submit() on, as many as progress() says */
    const float *logprobs;
    const int32_t *top_ids; /* [n_tokens][sampling.n_top] */
    const float *top_logprobs;
    const float *confidences; /* one a token; NULL: nobody asked, or the engine cannot tell */
    const float *logits;      /* [n_at][n_labels, or as many as read says] */
    uint32_t n_tokens, n_prompt, n_cached;
    enum pd_lane_end end;
    struct pd_err err;
    int64_t started_ms, ended_ms;
    /* Of engines elsewhere, until release(): all requests it took, of which the last one counts for
     * the lane; and what was drawn and is not used, as behind the end of a race. */
    const struct pd_attempt *attempts;
    uint32_t n_attempts, n_overrun;
    void *impl; /* the generator's */
    void *user; /* the caller's */
};

struct pd_generator {
    const struct pd_generator_ops *ops;
    const char *name;
    const char *engine, *dialect; /* for the record; NULL: the built-in one */
};

struct pd_generator_ops {
    /* ids are malloc'ed; *io_n counts; appended behind what is there */
    int (*chat)(struct pd_generator *g, const struct pd_chat *chat, int32_t **io_ids, size_t *io_n,
                struct pd_err *err);
    int (*tokenize)(struct pd_generator *g, struct pd_str text, int32_t **io_ids, size_t *io_n,
                    struct pd_err *err);
    /* The same of a text of its own, and not of one that goes on. */
    int (*tokenize_start)(struct pd_generator *g, struct pd_str text, int32_t **io_ids,
                          size_t *io_n, struct pd_err *err);
    int (*detokenize)(struct pd_generator *g, const int32_t *ids, size_t n, struct pd_buf *out,
                      struct pd_err *err);
    int32_t (*find_token)(struct pd_generator *g, const char *text); /* -1: none */
    /* The tokens that begin or end a text: how many; *out lives as long as g. */
    size_t (*bounds)(struct pd_generator *g, const int32_t **out);
    uint32_t (*n_ctx)(struct pd_generator *g);
    void (*traits)(struct pd_generator *g, struct pd_model_traits *out);
    int (*ctx_new)(struct pd_generator *g, struct pd_gctx **out, struct pd_err *err);
    void (*ctx_free)(struct pd_generator *g, struct pd_gctx *c);
    int (*ctx_fork)(struct pd_generator *g, struct pd_gctx *c, struct pd_gctx **out,
                    struct pd_err *err);
    int (*ctx_append)(struct pd_generator *g, struct pd_gctx *c, const int32_t *ids, size_t n,
                      struct pd_err *err);
    int (*ctx_rollback)(struct pd_generator *g, struct pd_gctx *c, size_t n, struct pd_err *err);
    /* What c sees before its own tokens, from now on: the evaluated ones of n others, which are
     * borrowed until it sees something else (n 0: nothing). They are at rest while lanes run on c,
     * or lanes of the same race: these evaluate one token each a step, prefills too. */
    int (*ctx_view)(struct pd_generator *g, struct pd_gctx *c, struct pd_gctx *const *blocks,
                    size_t n, struct pd_err *err);
    /* The first n tokens of `from` go behind those of `to`, which are evaluated, as they are. */
    int (*ctx_move)(struct pd_generator *g, struct pd_gctx *to, struct pd_gctx *from, size_t n,
                    struct pd_err *err);
    /* A fresh context has its prompt, if any: what is put behind it from now on is what lines say.
     * NULL: that makes no difference. */
    int (*ctx_written)(struct pd_generator *g, struct pd_gctx *c, struct pd_err *err);
    size_t (*ctx_n_tokens)(struct pd_generator *g, const struct pd_gctx *c);
    size_t (*ctx_n_cached)(struct pd_generator *g, const struct pd_gctx *c);
    int (*submit)(struct pd_generator *g, struct pd_lane *const *lanes, size_t n,
                  struct pd_err *err);
    /* The next lane that has ended, in any order; PD_ETIMEOUT at deadline_ns. */
    int (*wait)(struct pd_generator *g, int64_t deadline_ns, struct pd_lane **out);
    void (*cancel)(struct pd_generator *g, struct pd_lane *lane); /* it still ends through wait() */
    uint32_t (*progress)(struct pd_generator *g, const struct pd_lane *lane); /* tokens so far */
    void (*release)(struct pd_generator *g, struct pd_lane *lane);
    void (*free)(struct pd_generator *g); /* all contexts and lanes are gone before */
};

#endif
