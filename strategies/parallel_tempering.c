/* parallel_tempering: chains of particle Gibbs at a ladder of temperatures that swap their
 * references. Puri et al., arXiv:2502.01618, §3.3: chain k samples from
 * p(x) exp(w(x) / T_k), w the line's sum of ln reward; neighbours swap with probability
 * min(1, exp((1/T_k - 1/T_{k+1}) (w_{k+1} - w_k))), even and odd pairs in turn. The chain at T = 1
 * answers. */
#include <math.h>

#include "strategies/smc.h"

#define CHAINS_MAX 16

struct pt_params {
    int samples, iterations, chains;
    double hottest;
};

/* Geometric from the hottest to 1; the last is the one that answers. */
static double temperature(const struct pt_params *p, int k)
{
    return p->chains == 1 ? 1
                          : pow(p->hottest, (double)(p->chains - 1 - k) / (double)(p->chains - 1));
}

static int swap(struct search *s, const struct pt_params *p, struct smc *m, int k,
                struct pd_err *err)
{
    double wk = smc_log_weight(s, m[k].ref, m[k].n_ref);
    double wl = smc_log_weight(s, m[k + 1].ref, m[k + 1].n_ref);
    double a = exp((1 / temperature(p, k) - 1 / temperature(p, k + 1)) * (wl - wk));
    double u = search_random(s);
    struct pd_jw *w = search_decide(s, "swap");

    search_put_doubles(w, "a_u", (double[]){a < 1 ? a : 1, u}, 2);
    pd_jw_key(w, "chain");
    pd_jw_int(w, k);
    if (u < a) {
        struct node **ref = m[k].ref;
        int n_ref = m[k].n_ref;

        m[k].ref = m[k + 1].ref;
        m[k].n_ref = m[k + 1].n_ref;
        m[k + 1].ref = ref;
        m[k + 1].n_ref = n_ref;
    }
    return search_decided(s, err);
}

static int run(struct search *s, const void *params, struct pd_err *err)
{
    const struct pt_params *p = params;
    struct tally *votes = tally_new(s);
    struct smc m[CHAINS_MAX];
    int rc = 0, coldest = p->chains - 1;
    bool collapsed = false;

    for (int k = 0; k < p->chains; k++)
        m[k] = (struct smc){.n = p->samples,
                            .scheme = RESAMPLE_MULTINOMIAL,
                            .ess = 1,
                            .tau = temperature(p, k),
                            .x = search_array(s, p->samples),
                            .w = search_alloc(s, (size_t)p->samples * sizeof *m[k].w)};
    for (int t = 0; t < p->iterations && rc == 0 && !collapsed; t++) {
        for (int k = 0; k < p->chains && rc == 0; k++) {
            rc = smc_run(s, &m[k], err);
            for (int i = 0; i < p->samples && k == coldest && (rc == 0 || rc == PD_EBUDGET); i++)
                if (search_finished(m[k].x[i]))
                    tally_vote(votes, m[k].x[i], m[k].w[i] / p->iterations);
            collapsed |= m[k].collapsed; /* it has no line to follow, or to swap */
            if (rc == 0 && !m[k].collapsed)
                m[k].ref = smc_path(s, m[k].x[resample_draw(m[k].w, m[k].n, search_random(s))],
                                    &m[k].n_ref);
        }
        for (int k = t % 2; k + 1 < p->chains && rc == 0 && !collapsed; k += 2)
            rc = swap(s, p, m, k, err);
    }
    if (rc < 0 && rc != PD_EBUDGET)
        return rc;
    return search_end(s, tally_winner(votes), rc, err);
}

static const struct pd_param params[] = {
    PD_INT(pt_params, samples, 4, 1, 256, "particles of an iteration of a chain"),
    PD_INT(pt_params, iterations, 2, 1, 256, "iterations"),
    PD_INT(pt_params, chains, 4, 1, CHAINS_MAX, "temperatures"),
    PD_DOUBLE(pt_params, hottest, 4, 1, 1000, "temperature of the first chain; the last has 1"),
    {0},
};

extern const struct pd_strategy strategy_parallel_tempering;
const struct pd_strategy strategy_parallel_tempering = {
    .name = "parallel_tempering",
    .paper = "arXiv:2502.01618",
    .summary = "particle Gibbs at several temperatures that swap lines",
    .params = params,
    .params_size = sizeof(struct pt_params),
    .needs_scorer = true,
    .run = run,
};
