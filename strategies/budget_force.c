/* budget_force: thinking is made longer, or shorter, by force. Muennighoff et al., s1: Simple
 * test-time scaling, arXiv:2501.19393, §3.1. A model that wants to stop thinking is told "Wait" in
 * place of its end-of-thinking mark, num_ignore times; thinking that reaches max_thinking tokens,
 * over all continuations, is ended. */
#include "core/search.h"

#define THINK_END "</think>"

struct force_params {
    int num_ignore, max_thinking;
};

static int run(struct search *s, const void *params, struct pd_err *err)
{
    const struct force_params *p = params;
    struct node *at = search_root(s);
    int left = p->max_thinking, ignored = 0, rc = 0;
    bool ended = false;

    /* 1. Think to the mark; lengthen while that is wanted. */
    while (rc == 0 && left > 0 && !ended) {
        uint32_t before = search_tokens(at);

        rc = search_extend_within(s, &at, 1, UNTIL_THOUGHT, left, &at, err);
        if (rc < 0 || !search_open(at)) /* the turn has ended, or a limit of the job was met */
            break;
        left -= (int)(search_tokens(at) - before);
        ended = pd_str_ends(search_text(at), PD_STR(THINK_END));
        if (ended && ignored < p->num_ignore && left > 0) {
            rc = search_reword(s, at, PD_STR(THINK_END), PD_STR("Wait"), &at, err);
            ended = false;
            ignored++;
        }
    }
    /* 2. Shorten: thinking that has not ended is ended. */
    if (rc == 0 && search_open(at) && !ended)
        rc = search_force(s, at, PD_STR("\n" THINK_END "\n"), &at, err);
    /* 3. The answer. */
    if (rc == 0 && search_open(at))
        rc = search_extend(s, &at, 1, UNTIL_END, &at, err);
    if (rc < 0)
        return rc;
    return search_answer(s, search_finished(at) && search_key(at)[0] ? at : NULL, err);
}

static const struct pd_param params[] = {
    PD_INT(force_params, num_ignore, 1, 0, 64, "times that the end of thinking is ignored"),
    PD_INT(force_params, max_thinking, 32000, 1, 1 << 20, "most tokens of thinking"),
    {0},
};

extern const struct pd_strategy strategy_budget_force;
const struct pd_strategy strategy_budget_force = {
    .name = "budget_force",
    .paper = "arXiv:2501.19393",
    .summary = "thinking is made longer or shorter by force",
    .params = params,
    .params_size = sizeof(struct force_params),
    .run = run,
};
