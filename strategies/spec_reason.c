/* spec_reason: a small model drafts each step, a judge keeps it or the base writes its own. Pan et
 * al., SpecReason: Fast and Accurate Inference-Time Compute via Speculative Reasoning,
 * arXiv:2504.07891, §3. Deviations: the judge is the process-reward model, its
 * reward r on the paper's scale of 0 to 9 (u = 9 r), not a digit that the base writes; a step that
 * ends the line is judged like any other. Drafts, rejected ones too, count in the budget. */
#include "core/search.h"

struct spec_params {
    int first_n_base, token_budget;
    double threshold;
};

/* One step behind *at: drafted and kept, or the base's own. *at becomes it; *out_u is -1 when
 * nothing was judged. */
static int step(struct search *s, const struct spec_params *p, struct node **at, bool draft,
                double *out_u, struct pd_err *err)
{
    struct node *d;
    int rc;

    *out_u = -1;
    if (draft) {
        rc = search_draft(s, at, 1, UNTIL_STEP, &d, err);
        if (rc < 0)
            return rc;
        if (search_open(d) || search_finished(d)) {
            rc = search_score(s, &d, 1, err);
            if (rc < 0)
                return rc;
            *out_u = 9 * search_value(d, AGGREGATE_LAST);
            if (*out_u >= p->threshold) {
                *at = d;
                return 0;
            }
        }
        search_prune(s, d, "rejected");
    }
    return search_extend(s, at, 1, UNTIL_STEP, at, err);
}

static int run(struct search *s, const void *params, struct pd_err *err)
{
    const struct spec_params *p = params;
    struct node *at = search_root(s), *answer;
    int rc = 0, steps = 0;

    /* 1. Think, step by step, until the line ends or the tokens it may keep are used up. */
    while (rc == 0 && search_open(at) && search_tokens(at) < (uint32_t)p->token_budget) {
        struct node *before = at;
        struct pd_jw *w;
        double u;

        rc = step(s, p, &at, steps >= p->first_n_base, &u, err);
        if (rc < 0)
            return rc;
        if (search_failed(at)) { /* the base has nothing more to say */
            at = before;
            break;
        }
        w = search_decide(s, "utility");
        search_put_nodes(w, "node", &at, 1);
        search_put_doubles(w, "u", &u, 1);
        rc = search_decided(s, err);
        steps++;
    }
    /* 2. A line that has not ended is ended by the base. */
    if (rc == 0 && search_open(at)) {
        rc = search_force(s, at, pd_str_of("</think>\n"), &at, err);
        if (rc == 0)
            rc = search_extend(s, &at, 1, UNTIL_END, &at, err);
    }
    if (rc < 0)
        return rc;
    answer = search_finished(at) && search_key(at)[0] ? at : NULL;
    return search_answer(s, answer, err);
}

static const struct pd_param params[] = {
    PD_DOUBLE(spec_params, threshold, 7, 0, 10, "keep a drafted step of this utility (0 to 9)"),
    PD_INT(spec_params, first_n_base, 0, 0, 10000, "steps the base writes before drafting begins"),
    PD_INT(spec_params, token_budget, 8192, 1, 1 << 20, "tokens that the line may keep"),
    {0},
};

extern const struct pd_strategy strategy_spec_reason;
const struct pd_strategy strategy_spec_reason = {
    .name = "spec_reason",
    .paper = "arXiv:2504.07891",
    .summary = "a small model drafts steps, a judge keeps them or the base writes its own",
    .params = params,
    .params_size = sizeof(struct spec_params),
    .needs_scorer = true,
    .needs_draft = true,
    .run = run,
};
