/* Drawing tokens from logits (private to the engine). Everything is a pure function of its
 * arguments. */
#ifndef PD_ENGINE_SAMPLE_H
#define PD_ENGINE_SAMPLE_H

#include "engine/engine.h"
#include "engine/kernels.h"

struct sample_scratch { /* [n_vocab] each */
    float *w, *x;
    int32_t *heap;
    uint8_t *keep;
};
size_t sample_scratch_bytes(size_t n_vocab);
int sample_scratch_init(struct sample_scratch *s, size_t n_vocab);
void sample_scratch_done(struct sample_scratch *s);

/* PD_EINVAL when a parameter is out of range. */
int sample_check(const struct eng_sampling *s, struct pd_err *err);
/* max and log(sum(exp(x - max))): log-probability of id i is (x[i] - max) - log_sum. PD_EFORMAT:
 * not numbers. */
int sample_norm(const struct eng_kernels *k, const float *logits, size_t n, float *w,
                float *out_max, float *out_log_sum);
/* How often the tokens of a text are in it, for penalties. */
struct sample_count {
    int32_t id;
    uint32_t n;
};
struct sample_counts {
    struct sample_count *items; /* room for as many as there can be */
    size_t n;
};
void sample_count(struct sample_counts *c, int32_t id); /* once more */

int sample_check_adjust(const struct eng_adjust *a, size_t n_vocab, struct pd_err *err);

struct sample_drawn {
    int32_t id;
    float logprob, max, log_sum; /* of the logits as they are */
};
/* One token at absolute position pos of the branch. adjust may be NULL; so may allowed, else a bit
 * for each token of which one at least is set: the others are as if they were not there. PD_EFORMAT
 * when the logits are not numbers. */
int sample_token(const struct eng_kernels *k, const float *logits, size_t n,
                 const struct eng_sampling *s, const struct eng_adjust *adjust,
                 const struct sample_counts *counts, const uint64_t *allowed, uint64_t key,
                 uint64_t pos, struct sample_scratch *scratch, struct sample_drawn *out);
/* The n_top likeliest (at most n), the likeliest first, equal ones by id. */
void sample_top(const float *logits, size_t n, const struct sample_drawn *norm, size_t n_top,
                int32_t *ids, float *logprobs);

#endif
