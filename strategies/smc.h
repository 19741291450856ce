/* Sequential Monte Carlo over steps, shared by particle_filter, particle_gibbs and
 * parallel_tempering. */
#ifndef PD_STRATEGIES_SMC_H
#define PD_STRATEGIES_SMC_H

#include "core/search.h"
#include "strategies/resample.h"

struct smc {
    int n; /* particles */
    enum resample_scheme scheme;
    double ess; /* resample when the effective sample size is below this share of n; >= 1: always */
    /* G = reward of the new step ^ (1 / tau), or with ratio, of the whole line by that of the line
     * before the step, which telescopes (§6.1.1). */
    double tau;
    bool ratio;
    enum search_aggregate line; /* ratio: step rewards to the reward of a line */
    /* tau goes to tau_end in a straight line over the first so many rounds; 0: it stays */
    double tau_end;
    int tau_rounds;
    /* The path that slot 0 follows (conditional SMC): ref[0] is the prompt. NULL: none. Its
     * resampling is multinomial in every round, whatever scheme and ess say (§6.2). */
    struct node **ref;
    int n_ref;
    /* out; x and w are the caller's arrays of n */
    struct node **x;
    double *w;    /* normalised */
    double log_z; /* of the estimate of Z; -INFINITY after a collapse */
    /* All particles failed, and failed again: x and w are those of the round before, and no line of
     * x that carries weight has ended. */
    bool collapsed;
};

/* Runs until no particle is open. PD_EBUDGET leaves x and w as the last whole round left them. */
int smc_run(struct search *s, struct smc *m, struct pd_err *err);
/* The path to a particle as a ref, in the arena. */
struct node **smc_path(struct search *s, struct node *end, int *out_n);
/* The sum over its path of ln reward: the log weight of the whole line. */
double smc_log_weight(struct search *s, struct node *const *path, int n);

#endif
