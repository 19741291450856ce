/* short_m_at_k: of k lines that think in parallel, the m that end thinking first vote. Hassid et
 * al., Don't Overthink It: Preferring Shorter Thinking Chains for Improved LLM Reasoning,
 * arXiv:2505.17813, §4. The rest is cut off at the m-th end of thinking, not at
 * the m-th solution; a tie goes to the answer with the shortest thinking. */
#include "core/search.h"

struct short_params {
    int samples, m, event;
};

enum { EVENT_THINK_END, EVENT_EOS };

static int run(struct search *s, const void *params, struct pd_err *err)
{
    const struct short_params *p = params;
    struct node **lane = search_array(s, p->samples), **d = search_array(s, p->samples);
    struct tally *votes = tally_new(s);
    int rc, n = 0;

    if (p->m > p->samples)
        return pd_fail(err, PD_EINVAL, "m=%d lines cannot be taken of samples=%d", p->m,
                       p->samples);
    for (int i = 0; i < p->samples; i++)
        lane[i] = search_root(s);
    /* 1. All think; the m first ends of thinking stop the others. */
    rc = search_race(s, lane, p->samples, p->m, p->event == EVENT_EOS ? UNTIL_END : UNTIL_THOUGHT,
                     lane, err);
    if (rc < 0)
        return rc;
    for (int i = 0; i < p->samples; i++) {
        int k = n;

        if (search_cut_off(lane[i]) || !(search_finished(lane[i]) || search_open(lane[i])))
            continue;
        for (; k > 0 && search_tokens(d[k - 1]) > search_tokens(lane[i]); k--)
            d[k] = d[k - 1];
        d[k] = lane[i];
        n++;
    }
    for (int i = p->m; i < n; i++) /* ended in the very step of the m-th, with no lower id */
        search_prune(s, d[i], "race");
    n = n < p->m ? n : p->m;
    for (int i = 0; i < p->samples; i++)
        if (search_cut_off(lane[i]))
            search_prune(s, lane[i], "race");
    search_put_nodes(search_decide(s, "finishers"), "nodes", d, n);
    rc = search_decided(s, err);
    /* 2. They write their solutions and vote, the shortest first. */
    if (rc == 0)
        rc = search_advance(s, d, n, UNTIL_END, err);
    for (int i = 0; i < n && rc == 0; i++)
        if (search_finished(d[i]))
            tally_vote(votes, d[i], 1);
    return rc < 0 ? rc : search_answer(s, tally_winner(votes), err);
}

static const struct pd_param params[] = {
    PD_INT(short_params, samples, 8, 1, 256, "lines that start (k)"),
    PD_INT(short_params, m, 3, 1, 256, "lines that are waited for"),
    PD_CHOICE(short_params, event, EVENT_THINK_END, "think_end|eos", "what ends the race"),
    {0},
};

extern const struct pd_strategy strategy_short_m_at_k;
const struct pd_strategy strategy_short_m_at_k = {
    .name = "short_m_at_k",
    .paper = "arXiv:2505.17813",
    .summary = "start k lines together, the m shortest thoughts vote",
    .params = params,
    .params_size = sizeof(struct short_params),
    .run = run,
};
