/* mean_logprob: how likely a model finds a step: exp of the mean log-probability of its tokens,
 * which is the geometric mean of their probabilities. Length makes no difference. */
#include "verifiers/next.h"

static double likeliness(const void *params, const float *v, size_t n, double ln_vocab)
{
    double sum = 0;

    (void)params;
    (void)ln_vocab;
    for (size_t i = 0; i < n; i++)
        sum += (double)v[i * PD_READ_NEXT_VALUES];
    return n ? reader_exp(sum / (double)n) : 1;
}

static int score(struct pd_scorer *s, struct pd_candidate *cands, size_t n, struct pd_err *err)
{
    return next_score(s, cands, n, likeliness, err);
}

extern const struct pd_verifier verifier_mean_logprob;
const struct pd_verifier verifier_mean_logprob = {
    .name = "mean_logprob",
    .summary = "how likely a model finds the step: the geometric mean over its tokens",
    .kind = "step",
    .open = next_open,
    .score = score,
    .close = next_close,
};
