/* spec_reason: a small model drafts each step, a judge keeps it or the base writes its own. Pan et
 * al., SpecReason: Fast and Accurate Inference-Time Compute via Speculative Reasoning,
 * arXiv:2504.07891, §3. judge=greedy: the digit 0 to 9 that the base would write behind the draft;
 * average: its expectation; both are read, not drawn. Deviations: by default (judge=reward) the
 * process-reward model judges, its reward r on the same scale (u = 9 r); a step that ends the line
 * is judged like any other. Drafts, rejected ones too, count in the budget. */
#include "core/search.h"

#define GRADE                                                                                      \
    "\n\nHow good is the last step, from 0 (wrong) to 9 (right and useful)? Only facts and logic " \
    "count, not style.\nI think the quality score is: "

struct spec_params {
    int judge, first_n_base, token_budget;
    double threshold;
};

enum { JUDGE_REWARD, JUDGE_GREEDY, JUDGE_AVERAGE };

static int utility(struct search *s, const struct spec_params *p, struct node *draft, double *out_u,
                   struct pd_err *err)
{
    static const char *const digits[] = {"0", "1", "2", "3", "4", "5", "6", "7", "8", "9"};
    double share[10], best = -1, mean = 0;
    int rc, digit = 0;

    if (p->judge == JUDGE_REWARD) {
        rc = search_score(s, &draft, 1, err);
        *out_u = rc < 0 ? -1 : 9 * search_value(draft, AGGREGATE_LAST);
        return rc;
    }
    rc = search_read(s, &draft, 1, PD_STR(GRADE), digits, 10, share, err);
    for (int i = 0; i < 10 && rc == 0; i++) {
        mean += i * share[i];
        if (share[i] > best) {
            best = share[i];
            digit = i;
        }
    }
    *out_u = p->judge == JUDGE_GREEDY ? digit : mean;
    return rc;
}

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
            rc = utility(s, p, d, out_u, err);
            if (rc < 0)
                return rc;
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

static bool scores(const void *params)
{
    return ((const struct spec_params *)params)->judge == JUDGE_REWARD;
}

static const struct pd_param params[] = {
    PD_CHOICE(spec_params, judge, JUDGE_REWARD, "reward|greedy|average",
              "who judges a draft: the reward model, or the base's likeliest digit, or its mean"),
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
    .scores = scores,
    .needs_draft = true,
    .run = run,
};
