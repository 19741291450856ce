/* single: one line of thought, the baseline of every table. temperature 0 is
 * greedy. */
#include "core/search.h"

static int run(struct search *s, const void *params, struct pd_err *err)
{
    struct node *lane;
    int rc;

    (void)params;
    rc = search_sample(s, search_root(s), 1, UNTIL_END, &lane, err);
    if (rc < 0)
        return rc;
    return search_answer(s, search_finished(lane) && search_key(lane)[0] ? lane : NULL, err);
}

extern const struct pd_strategy strategy_single;
const struct pd_strategy strategy_single = {
    .name = "single",
    .summary = "one line of thought",
    .run = run,
};
