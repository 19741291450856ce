/* Thompson sampling: arms whose rewards in [0,1] have been seen, and draws from the posterior of
 * their mean. */
#ifndef PD_STRATEGIES_THOMPSON_H
#define PD_STRATEGIES_THOMPSON_H

#include "core/search.h"

enum arm_prior { PRIOR_GAUSSIAN, PRIOR_BETA };
#define ARM_PRIORS "gaussian|beta"

struct arm { /* zeroed: nothing seen */
    int n;
    double sum, squares;
};

/* Normal-inverse-gamma: sigma² ~ InvGamma(nu/2, nu tau2/2), mu ~ N(m, sigma²/kappa). Before any
 * reward m = 0, kappa = 1, nu = 1, tau2 = 0.1. */
struct arm_gaussian {
    double m, kappa, nu, tau2;
};

void arm_observe(struct arm *a, double reward);
struct arm_gaussian arm_posterior(const struct arm *a);
/* A mean reward drawn from the posterior: gaussian as above, beta from Beta(1/2, 1/2). */
double arm_draw(const struct arm *a, enum arm_prior prior, struct search *s);

#endif
