/* particle_filter: sequential Monte Carlo over steps with the process reward as likelihood. Puri et
 * al., Rollout Roulette: A Probabilistic Inference Approach to Inference-Time Scaling of LLMs using
 * Particle-Based Monte Carlo Methods, arXiv:2502.01618, §3 and Algorithm 1;
 * docs/strategies/particle_filter.md says where the sources disagree. mode=smc counts each step's
 * reward once (W <- W r) and resamples when the effective sample size falls; mode=puri weighs by
 * softmax(logit r / tau) of the last step and draws new particles in every round, among those that
 * have not finished. */
#include <math.h>

#include "strategies/choose.h"
#include "strategies/smc.h"

struct pf_params {
    int samples, mode, likelihood, resample, select, aggregate, tau_rounds;
    double ess, tau, tau_end;
};

enum { MODE_SMC, MODE_PURI };
enum { LIKELIHOOD_STEP, LIKELIHOOD_RATIO };
enum { SELECT_WEIGHTED, SELECT_ARGMAX, SELECT_SAMPLE };

/* softmax(logit A / tau) over the m particles idx[0..m). */
static void puri_weights(const struct pf_params *p, struct node *const *x, const int *idx, int m,
                         double *w)
{
    double top = -INFINITY, sum = 0;

    for (int i = 0; i < m; i++) {
        double r = search_value(x[idx[i]], (enum search_aggregate)p->aggregate);
        double c = r < 1e-7 ? 1e-7 : r > 1 - 1e-7 ? 1 - 1e-7 : r;

        w[i] = search_failed(x[idx[i]]) ? -(double)INFINITY : log(c / (1 - c)) / p->tau;
        top = w[i] > top ? w[i] : top;
    }
    for (int i = 0; i < m; i++)
        sum += w[i] = isfinite(top) ? exp(w[i] - top) : 0;
    for (int i = 0; i < m && sum > 0; i++)
        w[i] /= sum;
}

static int run_puri(struct search *s, const struct pf_params *p, struct node **x, double *w,
                    struct pd_err *err)
{
    int n = p->samples, rc = 0;
    int *idx = search_alloc(s, (size_t)n * sizeof *idx);
    double *wa = search_alloc(s, (size_t)n * sizeof *wa);
    struct node **score = search_array(s, n), **old = search_array(s, n);

    for (int i = 0; i < n; i++) {
        x[i] = search_root(s);
        w[i] = 1.0 / n;
    }
    for (;;) {
        int m = 0, n_score = 0;
        struct pd_jw *jw;
        bool open = false;

        for (int i = 0; i < n; i++)
            if (search_open(x[i]))
                idx[m++] = i;
        if (m == 0)
            break;
        rc = search_advance(s, x, n, UNTIL_STEP, err);
        for (int i = 0; i < m && rc == 0; i++)
            if (!search_failed(x[idx[i]]))
                score[n_score++] = x[idx[i]];
        if (rc == 0 && n_score)
            rc = search_score(s, score, n_score, err);
        if (rc < 0)
            return rc;
        puri_weights(p, x, idx, m, wa);
        for (int i = 0; i < m; i++)
            old[i] = x[idx[i]];
        jw = search_decide(s, "particles");
        search_put_nodes(jw, "nodes", old, m);
        search_put_doubles(jw, "weights", wa, m);
        rc = search_decided(s, err);
        for (int i = 0; i < m; i++)
            open |= search_open(old[i]);
        for (int i = 0; i < m && rc == 0 && open; i++)
            x[idx[i]] = old[resample_draw(wa, m, search_random(s))];
        for (int i = 0; i < m && rc == 0 && open; i++) {
            bool held = !search_open(old[i]);

            for (int k = 0; k < m && !held; k++)
                held = x[idx[k]] == old[i];
            if (!held)
                search_prune(s, old[i], "resampled");
        }
        if (rc < 0)
            return rc;
    }
    for (int i = 0; i < n; i++)
        idx[i] = i;
    puri_weights(p, x, idx, n, w);
    return rc;
}

/* Of the particles that finished with an answer. */
static struct node *select_answer(struct search *s, const struct pf_params *p, struct node **x,
                                  double *w)
{
    struct tally *votes = tally_new(s);
    double sum = 0;
    int n = 0;

    for (int i = 0; i < p->samples; i++)
        if (search_finished(x[i]) && search_key(x[i])[0]) {
            x[n] = x[i];
            w[n++] = w[i];
            sum += w[i];
        }
    for (int i = 0; i < n && sum > 0; i++)
        w[i] /= sum;
    if (p->select == SELECT_ARGMAX)
        return choose(s, x, n, VOTE_NONE, (enum search_aggregate)p->aggregate);
    if (p->select == SELECT_SAMPLE)
        return n ? x[resample_draw(w, n, search_random(s))] : NULL;
    for (int i = 0; i < n; i++)
        tally_vote(votes, x[i], w[i]);
    return tally_winner(votes);
}

static int run(struct search *s, const void *params, struct pd_err *err)
{
    const struct pf_params *p = params;
    struct node **x = search_array(s, p->samples);
    double *w = search_alloc(s, (size_t)p->samples * sizeof *w);
    struct smc m = {.n = p->samples,
                    .scheme = (enum resample_scheme)p->resample,
                    .ess = p->ess,
                    .tau = p->tau,
                    .ratio = p->likelihood == LIKELIHOOD_RATIO,
                    .line = (enum search_aggregate)p->aggregate,
                    .tau_end = p->tau_end,
                    .tau_rounds = p->tau_rounds,
                    .x = x,
                    .w = w};
    int rc = p->mode == MODE_PURI ? run_puri(s, p, x, w, err) : smc_run(s, &m, err);

    if (rc < 0 && rc != PD_EBUDGET)
        return rc;
    return search_end(s, select_answer(s, p, x, w), rc, err);
}

static const struct pd_param params[] = {
    PD_INT(pf_params, samples, 16, 1, 256, "particles"),
    PD_CHOICE(pf_params, mode, MODE_SMC, "smc|puri", "how rewards become weights"),
    PD_CHOICE(pf_params, likelihood, LIKELIHOOD_STEP, "step|ratio",
              "the step's reward, or the line's by that of the line before it (mode=smc)"),
    PD_CHOICE(pf_params, resample, RESAMPLE_SYSTEMATIC, RESAMPLE_SCHEMES,
              "how particles are drawn (mode=smc)"),
    PD_DOUBLE(pf_params, ess, 0.5, 0, 1,
              "resample below this share of effective particles; 1: always (mode=smc)"),
    PD_DOUBLE(pf_params, tau, 1, 0.001, 1000, "temperature of the rewards"),
    PD_DOUBLE(pf_params, tau_end, 1, 0.001, 1000, "where tau goes (mode=smc, with tau_rounds)"),
    PD_INT(pf_params, tau_rounds, 0, 0, 4096, "rounds it takes; 0: tau stays (mode=smc)"),
    PD_CHOICE(pf_params, select, SELECT_WEIGHTED, "weighted|argmax|sample",
              "answer of greatest weight, line of greatest reward, or a draw"),
    PD_CHOICE(pf_params, aggregate, AGGREGATE_LAST, SEARCH_AGGREGATES,
              "step rewards to the reward of a line (mode=puri, likelihood=ratio, select=argmax)"),
    {0},
};

extern const struct pd_strategy strategy_particle_filter;
const struct pd_strategy strategy_particle_filter = {
    .name = "particle_filter",
    .paper = "arXiv:2502.01618",
    .summary = "lines as particles, weighted and resampled by reward",
    .params = params,
    .params_size = sizeof(struct pf_params),
    .needs_scorer = true,
    .run = run,
};
