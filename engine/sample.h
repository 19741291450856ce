/* Drawing tokens from logits (private to the engine). Everything is a pure function of its
 * arguments. */
#ifndef PD_ENGINE_SAMPLE_H
#define PD_ENGINE_SAMPLE_H

#include "engine/engine.h"
#include "engine/kernels.h"

struct sample_scratch { /* [n_vocab] each */
    float *w;
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
/* One token at absolute position pos of the branch. PD_EFORMAT when the logits are not numbers. */
int sample_token(const struct eng_kernels *k, const float *logits, size_t n,
                 const struct eng_sampling *s, uint64_t key, uint64_t pos,
                 struct sample_scratch *scratch, int32_t *out_id, float *out_logprob);

#endif
