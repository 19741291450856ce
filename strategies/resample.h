/* Resampling of weighted particles. Douc and Cappé, Comparison of Resampling
 * Schemes for Particle Filtering, 2005. Pure functions. */
#ifndef PD_STRATEGIES_RESAMPLE_H
#define PD_STRATEGIES_RESAMPLE_H

enum resample_scheme {
    RESAMPLE_SYSTEMATIC,
    RESAMPLE_STRATIFIED,
    RESAMPLE_RESIDUAL,
    RESAMPLE_MULTINOMIAL,
};
#define RESAMPLE_SCHEMES "systematic|stratified|residual|multinomial"

/* How many copies[i] each of n particles of weights w (sum 1) gets when m are drawn; E copies[i] =
 * m w[i]. uniform() gives draws from [0,1): one for systematic, m for stratified and multinomial,
 * as many as are left for residual. */
void resample_copies(enum resample_scheme scheme, const double *w, int n, int m,
                     double (*uniform)(void *), void *arg, int *copies);
/* Copies to slots: a particle with a copy keeps its slot, surplus copies fill the free slots in
 * order, so that nothing moves when nothing has to. ancestor[slot] = particle; sum copies = n. */
void resample_slots(const int *copies, int n, int *ancestor);
/* The smallest i with u < w[0] + … + w[i]; the last positive one when rounding leaves u above. */
int resample_draw(const double *w, int n, double u);
/* Effective sample size, 1 / sum w^2. */
double resample_ess(const double *w, int n);

#endif
