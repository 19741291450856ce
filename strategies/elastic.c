/* elastic: separate budgets for thinking and for the solution. Xu et al., Scalable Chain of
 * Thoughts via Elastic Reasoning, arXiv:2505.05315, §3.2. Thinking that has
 * not ended within its budget is ended by force; what thinking leaves over is not given to the
 * solution. */
#include "core/search.h"

struct elastic_params {
    int think, solution;
};

static int run(struct search *s, const void *params, struct pd_err *err)
{
    const struct elastic_params *p = params;
    struct node *at = search_root(s);
    int rc = 0;

    /* 1. Think, within the budget. */
    if (p->think)
        rc = search_extend_within(s, &at, 1, UNTIL_THOUGHT, p->think, &at, err);
    /* 2. End thinking that has not ended, */
    if (rc == 0 && search_open(at) && pd_str_find(search_text(at), PD_STR("</think>")) < 0)
        rc = search_force(s, at, PD_STR("\n</think>\n"), &at, err);
    /* 3. and write the solution, within its own. */
    if (rc == 0 && search_open(at))
        rc = search_extend_within(s, &at, 1, UNTIL_END, p->solution, &at, err);
    if (rc < 0)
        return rc;
    return search_answer(s, search_finished(at) && search_key(at)[0] ? at : NULL, err);
}

static const struct pd_param params[] = {
    PD_INT(elastic_params, think, 1024, 0, 1 << 20, "most tokens of thinking; 0: none"),
    PD_INT(elastic_params, solution, 1024, 1, 1 << 20, "most tokens of the solution"),
    {0},
};

extern const struct pd_strategy strategy_elastic;
const struct pd_strategy strategy_elastic = {
    .name = "elastic",
    .paper = "arXiv:2505.05315",
    .summary = "separate budgets for thinking and for the solution",
    .params = params,
    .params_size = sizeof(struct elastic_params),
    .run = run,
};
