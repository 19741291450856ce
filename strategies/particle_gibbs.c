/* particle_gibbs: iterated conditional particle filter. Puri et al., arXiv:2502.01618, §3.3, after
 * Andrieu, Doucet and Holenstein, Particle Markov chain Monte Carlo methods, 2010. One particle of
 * each iteration is the line drawn from the one before; the others may fork from it. All
 * iterations' particles vote with their weights, averaged. */
#include "strategies/smc.h"

struct pg_params {
    int samples, iterations;
    double tau;
};

static int run(struct search *s, const void *params, struct pd_err *err)
{
    const struct pg_params *p = params;
    struct tally *votes = tally_new(s);
    struct smc m = {.n = p->samples,
                    .scheme = RESAMPLE_MULTINOMIAL,
                    .ess = 1,
                    .tau = p->tau,
                    .x = search_array(s, p->samples),
                    .w = search_alloc(s, (size_t)p->samples * sizeof *m.w)};
    int rc = 0;

    for (int t = 0; t < p->iterations && rc == 0; t++) {
        rc = smc_run(s, &m, err);
        for (int i = 0; i < m.n && (rc == 0 || rc == PD_EBUDGET); i++)
            if (search_finished(m.x[i]))
                tally_vote(votes, m.x[i], m.w[i] / p->iterations);
        if (rc < 0 || m.collapsed) /* there is no line to follow */
            break;
        m.ref = smc_path(s, m.x[resample_draw(m.w, m.n, search_random(s))], &m.n_ref);
        search_put_nodes(search_decide(s, "reference"), "path", m.ref, m.n_ref);
        rc = search_decided(s, err);
    }
    if (rc < 0 && rc != PD_EBUDGET)
        return rc;
    return search_end(s, tally_winner(votes), rc, err);
}

static const struct pd_param params[] = {
    PD_INT(pg_params, samples, 8, 1, 256, "particles of an iteration"),
    PD_INT(pg_params, iterations, 4, 1, 256, "iterations"),
    PD_DOUBLE(pg_params, tau, 1, 0.001, 1000, "temperature of the rewards"),
    {0},
};

extern const struct pd_strategy strategy_particle_gibbs;
const struct pd_strategy strategy_particle_gibbs = {
    .name = "particle_gibbs",
    .paper = "arXiv:2502.01618",
    .summary = "particle filters, each around a line of the one before",
    .params = params,
    .params_size = sizeof(struct pg_params),
    .needs_scorer = true,
    .run = run,
};
