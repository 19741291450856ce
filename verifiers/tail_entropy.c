/* tail_entropy: how sure a model is at the end of a step: 1 less the mean entropy of the
 * distributions of its last `tail` tokens, as a part of the largest there is, ln of the
 * vocabulary's size. Fu et al., Deep Think with Confidence, arXiv:2508.15260, §3, look at tails,
 * too, with the mean log-probability of the likeliest tokens in the entropy's place. */
#include "verifiers/next.h"

struct tail_params {
    int tail;
};

static double sureness(const void *params, const float *v, size_t n, double ln_vocab)
{
    const struct tail_params *p = params;
    size_t from = n > (size_t)p->tail ? n - (size_t)p->tail : 0;
    double sum = 0, part;

    for (size_t i = from; i < n; i++)
        sum += (double)v[i * PD_READ_NEXT_VALUES + 1];
    part = n ? sum / (double)(n - from) / ln_vocab : 0;
    return part < 0 ? 1 : part > 1 ? 0 : 1 - part; /* at the bounds rounding may pass them */
}

static int score(struct pd_scorer *s, struct pd_candidate *cands, size_t n, struct pd_err *err)
{
    return next_score(s, cands, n, sureness, err);
}

static const struct pd_param params[] = {
    PD_INT(tail_params, tail, 32, 1, 65536, "last tokens of a step that count"),
    {0},
};

extern const struct pd_verifier verifier_tail_entropy;
const struct pd_verifier verifier_tail_entropy = {
    .name = "tail_entropy",
    .paper = "arXiv:2508.15260",
    .summary = "how sure a model is at the end of the step",
    .kind = "step",
    .params = params,
    .params_size = sizeof(struct tail_params),
    .open = next_open,
    .score = score,
    .close = next_close,
};
