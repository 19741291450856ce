/* A generator (core/generator.h) without a model: a small deterministic world made of callbacks, in
 * which tests know every token beforehand. Tokens are bytes and the few below. It keeps the
 * contract as the engine does: lanes draw one token each a logical step, prefills and readings take
 * several, races are in lockstep, the
 * last token drawn stays pending, prefilled contexts keep their logits, outputs live until
 * release().
 *
 * wait() takes exactly one logical step when no lane is ready, and then returns at once, with the
 * ended lane of highest index or PD_ETIMEOUT: nothing here depends on a clock. One thread. */
#ifndef PD_TESTS_FAKE_GENERATOR_H
#define PD_TESTS_FAKE_GENERATOR_H

#include "core/generator.h"

enum {
    FAKE_EOS = 256, /* the end of a turn, without text */
    FAKE_TAG,       /* "<|step|>", by which a scorer marks steps; never made from text */
    FAKE_BREAK,     /* ".\n\n" in one token; '\1' in a script */
    FAKE_TURN,      /* ends a prompt, without text */
};

struct fake;

struct fake_place { /* where a token is to be drawn */
    const int32_t *ids;
    size_t n; /* tokens before it, the prompt's included: its absolute position */
    uint64_t key;
    double temperature;
};

struct fake {
    struct pd_generator g; /* hand &fake.g to the job */

    /* The world; fake_init sets fake_babble, fake_opinion and fake_doubt. All must be pure. */
    int32_t (*next)(struct fake *f, const struct fake_place *at, float *out_logprob);
    float (*logit)(struct fake *f, const int32_t *ids, size_t n,
                   int32_t label);                                    /* behind ids[0..n) */
    float (*confidence)(struct fake *f, const struct fake_place *at); /* of what is drawn there */
    void *world;                                                      /* for the callbacks */
    uint64_t root_key; /* of the job (trial_init sets it): fake_lane needs it */
    uint32_t n_ctx;
    struct pd_model_traits traits; /* bos -1. Of the head, value k is logit()'s of label -1 - k */
    unsigned answers;              /* fake_babble: how many different answers there are (3) */

    /* What goes wrong. */
    long fail_at; /* this fallible call (0: the first) fails; a lane counts as one. -1: none */
    atomic_bool *cancel; /* set at logical step cancel_at (0: the first; -1: never) */
    long cancel_at;
    long stall_at; /* logical step that takes stall_ns of real time; -1: none */
    int64_t stall_ns;

    /* What happened. */
    long n_fallible, n_steps;
    size_t n_ctx_live, n_lanes_live; /* 0 when the job has cleaned up */
    uint64_t n_drawn, n_evaluated;   /* tokens, over all lanes */

    struct fake_flight *flights; /* its own, and what fake_lane found last */
    uint64_t lane_root, lane_key;
    int lane;
};

void fake_init(struct fake *f, const char *name);

/* Tokens of the prompt that ids begin with. */
size_t fake_prompt(const int32_t *ids, size_t n);

/* Lane i < 64 from the prompt whose key this is (child 0 goes on with it), or
 * -1. */
int fake_lane(struct fake *f, uint64_t key);

/* next: a line is made of frames of FAKE_FRAME tokens, counted from the prompt. A frame is a step
 * (letters that depend on key, position and all of the context, then "\n\n") or, after two to five
 * of them by the key, "\boxed{d}" and the end. Any key may take over at any frame. T=0: one line.
 */
#define FAKE_FRAME 16
int32_t fake_babble(struct fake *f, const struct fake_place *at, float *out_logprob);
/* next: lane i says world[i], an array of C strings ended by NULL, then ends; by absolute position,
 * so that forced text takes the place of as much script. Other keys say world's last string. */
int32_t fake_script(struct fake *f, const struct fake_place *at, float *out_logprob);
/* logit: an arbitrary number in [-4, 4) that depends on all of ids and on the label. */
float fake_opinion(struct fake *f, const int32_t *ids, size_t n, int32_t label);
/* confidence: an arbitrary number in [0, 8) that depends on key and position. */
float fake_doubt(struct fake *f, const struct fake_place *at);

#endif
