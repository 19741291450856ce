/* self_consistency: majority vote over sampled reasoning paths. Wang et al., Self-Consistency
 * Improves Chain of Thought Reasoning in Language Models, arXiv:2203.11171, §2. Lines that were cut
 * do not vote unless they are asked to; ties go to the answer that was voted for first. */
#include "core/search.h"

struct sc_params {
    int samples;
    bool vote_truncated;
};

static int run(struct search *s, const void *params, struct pd_err *err)
{
    const struct sc_params *p = params;
    struct node **lane = search_array(s, p->samples);
    struct tally *votes = tally_new(s);
    int rc;

    /* 1. Sample n reasoning paths. */
    rc = search_sample(s, search_root(s), p->samples, UNTIL_END, lane, err);
    if (rc < 0)
        return rc;
    /* 2. Marginalise the paths out: one vote per canonical answer. */
    for (int i = 0; i < p->samples; i++)
        if (search_finished(lane[i]) || p->vote_truncated)
            tally_vote(votes, lane[i], 1.0);
    /* 3. The most consistent answer wins. */
    return search_answer(s, tally_winner(votes), err);
}

static const struct pd_param params[] = {
    PD_INT(sc_params, samples, 16, 1, 256, "reasoning paths to sample"),
    PD_BOOL(sc_params, vote_truncated, 0, "paths that were cut vote too, when they have an answer"),
    {0},
};

extern const struct pd_strategy strategy_self_consistency;
const struct pd_strategy strategy_self_consistency = {
    .name = "self_consistency",
    .paper = "arXiv:2203.11171",
    .summary = "majority vote over sampled reasoning paths",
    .params = params,
    .params_size = sizeof(struct sc_params),
    .run = run,
};
