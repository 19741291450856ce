/* Signals that come from the lines themselves: how sure a model is of their tokens. The verifiers
 * mean_logprob, self_certainty and tail_entropy share all but the number that they make of it. */
#ifndef PD_VERIFIERS_NEXT_H
#define PD_VERIFIERS_NEXT_H

#include "verifiers/reader.h"

/* Of a step: what was read before each of its n tokens, as [n][PD_READ_NEXT_VALUES]. Of it a number
 * in [0,1]; ln_vocab: the entropy of the uniform distribution. */
typedef double next_value_fn(const void *params, const float *v, size_t n, double ln_vocab);

int next_open(struct pd_scorer *s, struct pd_err *err);
int next_score(struct pd_scorer *s, struct pd_candidate *cands, size_t n, next_value_fn *value,
               struct pd_err *err);
void next_close(struct pd_scorer *s);

#endif
