/* early_stopping_consistency: windows of lines, until one is unanimous. Li et al., Escape Sky-high
 * Cost: Early-stopping Self-Consistency for Multi-step Reasoning, arXiv:2401.10480, Algorithm 1. If
 * no window is, the majority of all. A last, shorter window stops nothing.
 */
#include "core/search.h"

struct esc_params {
    int samples, window;
};

static bool unanimous(struct node *const *lane, int n)
{
    for (int i = 0; i < n; i++)
        if (!search_finished(lane[i]) || !search_key(lane[i])[0] ||
            strcmp(search_key(lane[i]), search_key(lane[0])) != 0)
            return false;
    return true;
}

static int run(struct search *s, const void *params, struct pd_err *err)
{
    const struct esc_params *p = params;
    struct node **lane = search_array(s, p->samples);
    struct tally *votes = tally_new(s);
    int rc = 0, drawn = 0;

    while (drawn < p->samples) {
        int w = p->window < p->samples - drawn ? p->window : p->samples - drawn;
        struct node **window = lane + drawn;

        rc = search_sample(s, search_root(s), w, UNTIL_END, window, err);
        if (rc < 0)
            break;
        if (w == p->window && unanimous(window, w))
            return search_answer(s, window[0], err);
        drawn += w;
    }
    if (rc < 0 && rc != PD_EBUDGET)
        return rc;
    for (int i = 0; i < drawn; i++)
        if (search_finished(lane[i]))
            tally_vote(votes, lane[i], 1);
    return search_end(s, tally_winner(votes), rc, err);
}

static const struct pd_param params[] = {
    PD_INT(esc_params, samples, 40, 1, 256, "most lines"),
    PD_INT(esc_params, window, 5, 1, 256, "lines of a window"),
    {0},
};

extern const struct pd_strategy strategy_early_stopping_consistency;
const struct pd_strategy strategy_early_stopping_consistency = {
    .name = "early_stopping_consistency",
    .paper = "arXiv:2401.10480",
    .summary = "windows of lines, until one agrees with itself",
    .params = params,
    .params_size = sizeof(struct esc_params),
    .run = run,
};
