/* dvts: diverse verifier tree search: N/M independent trees, each greedy under the process reward.
 * Beeching et al., Scaling test-time compute with open models (search-and-learn), "DVTS".
 * Deviation: of the last round's proposals only those that finished may answer. */
#include "strategies/choose.h"

struct dvts_params {
    int samples, expand, aggregate, vote;
};

static int run(struct search *s, const void *params, struct pd_err *err)
{
    const struct dvts_params *p = params;
    int n = p->samples, m = p->expand, n_trees = n / m, n_done = 0, rc = 0;
    struct node *best;
    struct node **at = search_array(s, n_trees), **cand = search_array(s, n);
    struct node **judged = search_array(s, n), **done = search_array(s, n);

    if (n % m)
        return pd_fail(err, PD_EINVAL, "samples=%d is not a multiple of expand=%d", n, m);
    for (int t = 0; t < n_trees; t++)
        at[t] = search_root(s);
    while (n_trees > 0) {
        int live = 0, n_judged = 0;

        /* 1. Every tree proposes M steps, all trees in one batch. */
        for (int i = 0; i < n_trees * m; i++)
            cand[i] = at[i / m];
        rc = search_extend(s, cand, n_trees * m, UNTIL_STEP, cand, err);
        for (int i = 0; i < n_trees * m && rc == 0; i++)
            if (search_open(cand[i]) || search_finished(cand[i]))
                judged[n_judged++] = cand[i];
        if (rc == 0 && n_judged)
            rc = search_score(s, judged, n_judged, err);
        if (rc < 0)
            break;
        /* 2. Each goes on from its best; where that has finished, its siblings are outputs too. */
        for (int t = 0; t < n_trees; t++) {
            struct node *first = NULL;
            double best_value = 0;

            for (int i = t * m; i < (t + 1) * m; i++) {
                double v = search_value(cand[i], (enum search_aggregate)p->aggregate);

                if ((search_open(cand[i]) || search_finished(cand[i])) &&
                    (!first || v > best_value)) {
                    first = cand[i];
                    best_value = v;
                }
            }
            for (int i = t * m; i < (t + 1) * m; i++) {
                if (first && search_finished(first) && search_finished(cand[i]))
                    done[n_done++] = cand[i];
                else if (first && cand[i] != first) /* lines that were cut stay for the wrap-up */
                    search_prune(s, cand[i], "dvts");
            }
            if (first && search_open(first))
                at[live++] = first;
        }
        search_put_nodes(search_decide(s, "dvts"), "kept", at, live);
        rc = search_decided(s, err);
        if (rc < 0)
            break;
        n_trees = live;
    }
    if (rc < 0 && rc != PD_EBUDGET)
        return rc;
    best = choose(s, done, n_done, (enum choose_vote)p->vote, (enum search_aggregate)p->aggregate);
    return search_end(s, best, rc, err);
}

static const struct pd_param params[] = {
    PD_INT(dvts_params, samples, 16, 1, 256, "proposals a round (N)"),
    PD_INT(dvts_params, expand, 4, 1, 256, "of each tree (M); N/M trees"),
    PD_CHOICE(dvts_params, aggregate, AGGREGATE_LAST, SEARCH_AGGREGATES,
              "step rewards to the reward of a line"),
    PD_CHOICE(dvts_params, vote, VOTE_NONE, CHOOSE_VOTES,
              "how finished lines with equal answers add up"),
    {0},
};

extern const struct pd_strategy strategy_dvts;
const struct pd_strategy strategy_dvts = {
    .name = "dvts",
    .summary = "independent trees, each greedy under the reward",
    .params = params,
    .params_size = sizeof(struct dvts_params),
    .needs_scorer = true,
    .run = run,
};
