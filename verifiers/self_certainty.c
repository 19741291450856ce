/* self_certainty: how far a model's distributions are from the uniform one. Kang et al., Scalable
 * Best-of-N Selection via Self-Certainty, arXiv:2502.18581: the mean over tokens of
 * KL(uniform || p), here of each step, mapped to [0,1) by 1 - exp(-x), which keeps the order. */
#include "verifiers/next.h"

static double certainty(const void *params, const float *v, size_t n, double ln_vocab)
{
    double sum = 0;

    (void)params;
    (void)ln_vocab;
    for (size_t i = 0; i < n; i++)
        sum += (double)v[i * PD_READ_NEXT_VALUES + 2];
    sum = sum > 0 ? sum : 0; /* of the uniform distribution rounding may leave less */
    return n ? 1 - reader_exp(-sum / (double)n) : 0;
}

static int score(struct pd_scorer *s, struct pd_candidate *cands, size_t n, struct pd_err *err)
{
    return next_score(s, cands, n, certainty, err);
}

extern const struct pd_verifier verifier_self_certainty;
const struct pd_verifier verifier_self_certainty = {
    .name = "self_certainty",
    .paper = "arXiv:2502.18581",
    .summary = "how far from uniform a model's distributions are in the step",
    .kind = "step",
    .open = next_open,
    .score = score,
    .close = next_close,
};
