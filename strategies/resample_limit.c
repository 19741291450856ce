/* resample_limit: draw until a verifier accepts, no longer than that pays, else abstain. Stroebl,
 * Kapoor and Narayanan, Inference Scaling fLaws: The Limits of LLM Resampling with Imperfect
 * Verifiers, arXiv:2411.17501, §4; the closed form corrects the authors'
 * notebook. A problem is easy (with probability `easy`) or hard; a draw is right with probability
 * r_easy or r_hard; the verifier accepts a right one with probability `complete`, a wrong one with
 * 1 - `sound`. An accepted right answer is worth 1, an accepted wrong one `wrong_value`, a draw
 * costs `cost`. A line is accepted when its reward is at least `accept`. */
#include <math.h>

#include "strategies/choose.h"

struct rl_params {
    int samples, aggregate, fallback;
    double accept, easy, r_easy, r_hard, complete, sound, wrong_value, cost;
};

enum { FALLBACK_ABSTAIN, FALLBACK_BEST };

/* The value of drawing at most K lines: the sum over types of p_t gain_t (1 - b^K) / (1 - b). */
static double value(const struct rl_params *p, int k)
{
    double v = 0;

    for (int t = 0; t < 2; t++) {
        double share = t ? 1 - p->easy : p->easy, r = t ? p->r_hard : p->r_easy;
        double reject = (1 - p->complete) * r + p->sound * (1 - r);
        double gain = p->complete * r + p->wrong_value * (1 - r) * (1 - p->sound) - p->cost;

        v += share * gain * (reject < 1 ? (1 - pow(reject, k)) / (1 - reject) : k);
    }
    return v;
}

static int run(struct search *s, const void *params, struct pd_err *err)
{
    const struct rl_params *p = params;
    struct node *lane, *best = NULL;
    double v, top = 0;
    struct pd_jw *w;
    int limit = 0, end, rc;

    /* 1. The smallest K of greatest value; the marginal value may change sign more than once. */
    for (int k = 1; k <= p->samples; k++) {
        v = value(p, k);
        if (v > top) {
            top = v;
            limit = k;
        }
    }
    w = search_decide(s, "limit");
    pd_jw_key(w, "k");
    pd_jw_int(w, limit);
    search_put_doubles(w, "value", &top, 1);
    rc = search_decided(s, err);
    /* 2. Draw until one is accepted. A line without an answer is rejected. */
    for (int i = 0; i < limit && rc == 0; i++) {
        rc = search_sample(s, search_root(s), 1, UNTIL_END, &lane, err);
        if (rc < 0 || !search_finished(lane) || !search_key(lane)[0])
            continue;
        rc = search_score(s, &lane, 1, err);
        if (rc < 0)
            break;
        v = search_value(lane, (enum search_aggregate)p->aggregate);
        if (v >= p->accept)
            return search_answer(s, lane, err);
        if (!best || v > search_value(best, (enum search_aggregate)p->aggregate))
            best = lane;
    }
    if (rc < 0 && rc != PD_EBUDGET)
        return rc;
    /* 3. None was: silence is worth more than a guess, unless a guess is asked for. */
    end = p->fallback == FALLBACK_BEST ? search_answer(s, best, err) : search_abstain(s, err);
    return end < 0 ? end : p->fallback == FALLBACK_BEST ? rc : 0;
}

static const struct pd_param params[] = {
    PD_INT(rl_params, samples, 16, 1, 256, "most lines, however much more would pay"),
    PD_DOUBLE(rl_params, accept, 0.5, 0, 1, "accept a line of this reward"),
    PD_CHOICE(rl_params, aggregate, AGGREGATE_MIN, SEARCH_AGGREGATES,
              "step rewards to the reward of a line"),
    PD_CHOICE(rl_params, fallback, FALLBACK_ABSTAIN, "abstain|best",
              "when no line is accepted: no answer, or the best of the rejected"),
    PD_DOUBLE(rl_params, easy, 0.5, 0, 1, "share of easy problems"),
    PD_DOUBLE(rl_params, r_easy, 0.8, 0, 1, "probability that a line is right, easy problems"),
    PD_DOUBLE(rl_params, r_hard, 0.2, 0, 1, "the same, hard problems"),
    PD_DOUBLE(rl_params, complete, 0.9, 0, 1, "probability that a right line is accepted"),
    PD_DOUBLE(rl_params, sound, 0.9, 0, 1, "probability that a wrong line is rejected"),
    PD_DOUBLE(rl_params, wrong_value, -1, -1000000, 1, "worth of an accepted wrong answer"),
    PD_DOUBLE(rl_params, cost, 0, 0, 1000, "cost of a line"),
    {0},
};

extern const struct pd_strategy strategy_resample_limit;
const struct pd_strategy strategy_resample_limit = {
    .name = "resample_limit",
    .paper = "arXiv:2411.17501",
    .summary = "draw until a verifier accepts, while that pays; else abstain",
    .params = params,
    .params_size = sizeof(struct rl_params),
    .needs_scorer = true,
    .run = run,
};
