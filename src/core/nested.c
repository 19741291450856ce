/* A strategy inside another: the same tree, ledger and trace, a budget of its own within the
 * job's. */
#include "core/search_int.h"

/* What finished of the nodes from `first` on, where the nested strategy itself named nothing. */
static struct node *majority(struct search *s, uint32_t first)
{
    struct tally *votes = tally_new(s);

    for (uint32_t i = first; i < s->n_nodes; i++)
        if (search_finished(s->nodes[i]) && !s->nodes[i]->apart)
            tally_vote(votes, s->nodes[i], 1);
    return tally_winner(votes);
}

static int check(const struct search *s, const struct search_nested *how, struct pd_err *err)
{
    const struct pd_strategy *st = how->strategy;

    if (pd_strategy_scores(st, how->params) && !s->job->verifier)
        return pd_fail(err, PD_EINVAL, "strategy '%s' needs a scorer, and this job has none",
                       st->name);
    if (st->needs_draft && !s->job->draft_gen)
        return pd_fail(err, PD_EINVAL,
                       "strategy '%s' needs a draft model: it cannot be run inside another",
                       st->name);
    return 0;
}

int search_nest(struct search *s, const struct search_nested *how, struct node **out,
                struct pd_err *err)
{
    const struct search before = *s;
    const struct pd_budget budget = s->job->budget;
    uint64_t most = s->spent + how->tokens + (budget.wrap_up ? budget.wrap_reserve : 0);
    bool within = how->tokens && (!budget.tokens || most < budget.tokens);
    uint32_t first = s->n_nodes;
    int rc = check(s, how, err);

    if (rc < 0)
        return rc;
    if (within)
        s->job->budget.tokens = most;
    s->lent = how->lines;
    s->n_lent = how->n_lines;
    s->answer = NULL;
    rc = how->strategy->run(s, how->params, err);
    *out = s->answer;
    if (!*out && !s->abstained && (rc == 0 || rc == PD_EBUDGET))
        *out = majority(s, first);
    s->job->budget = budget;
    s->lent = before.lent;
    s->n_lent = before.n_lent;
    s->answer = before.answer;
    s->answered = before.answered;
    s->abstained = before.abstained;
    s->temperature = before.temperature;
    s->confidence = before.confidence;
    if (within && s->stopped && strcmp(s->stopped, "tokens") == 0) {
        s->stopped = NULL; /* its own is spent, not the job's */
        rc = rc == PD_EBUDGET ? 0 : rc;
    }
    return rc;
}
