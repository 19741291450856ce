/* best_of_n: sample n lines, let a reward model choose. Cobbe et al., Training Verifiers to Solve
 * Math Word Problems, arXiv:2110.14168, §4; weighted vote as in Snell et al., arXiv:2408.03314,
 * §5.1: W(a) = sum of A_i over the lines i that answer a, the text returned is
 * the group's line of greatest A. Deviation: the default is the weighted vote, which is kinder to a
 * weak reward model than the arg-max. */
#include "strategies/choose.h"

struct bon_params {
    int samples, vote, aggregate;
};

static int run(struct search *s, const void *params, struct pd_err *err)
{
    const struct bon_params *p = params;
    struct node **lane = search_array(s, p->samples), **done = search_array(s, p->samples);
    int rc, n = 0;

    /* 1. Sample n lines and score those that finished with an answer. */
    rc = search_sample(s, search_root(s), p->samples, UNTIL_END, lane, err);
    for (int i = 0; i < p->samples && rc == 0; i++)
        if (search_finished(lane[i]) && search_key(lane[i])[0])
            done[n++] = lane[i];
    if (rc == 0 && n)
        rc = search_score(s, done, n, err);
    if (rc < 0)
        return rc;
    /* 2. The line of greatest reward, or the answer of greatest weight. */
    return search_answer(
        s, choose(s, done, n, (enum choose_vote)p->vote, (enum search_aggregate)p->aggregate), err);
}

static const struct pd_param params[] = {
    PD_INT(bon_params, samples, 16, 1, 256, "lines to sample"),
    PD_CHOICE(bon_params, vote, VOTE_WEIGHTED, CHOOSE_VOTES, "how lines with equal answers add up"),
    PD_CHOICE(bon_params, aggregate, AGGREGATE_LAST, SEARCH_AGGREGATES,
              "step rewards to the reward of a line"),
    {0},
};

extern const struct pd_strategy strategy_best_of_n;
const struct pd_strategy strategy_best_of_n = {
    .name = "best_of_n",
    .paper = "arXiv:2110.14168",
    .summary = "sample lines, a process-reward model weighs them",
    .params = params,
    .params_size = sizeof(struct bon_params),
    .needs_scorer = true,
    .run = run,
};
