/* strategies/smc.c as a law: a chain of two states is the model,
 * and every outcome of it and of the search's own draws is run and weighed by its probability. What
 * must hold on average then holds to rounding. This program is linked with --wrap=search_random. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "strategies/smc.h"
#include "tests/support/toy.h"

#define N_MAX 4

static const double start[2] = {.5, .5}, move[2][2] = {{.7, .3}, {.4, .6}}, reward[2] = {.2, .9};

static int n_steps; /* of the chain */

/* ---- all outcomes ------------------------------------------------------------------------------
 */

static struct {
    struct {
        int pick, n;
        double p[3 * N_MAX + 2];
    } choice[64];
    int n, at;
    double p; /* of the outcome so far */
} tape;

/* One of n with these probabilities; the next run takes the next one. */
static int choose_one(const double *p, int n)
{
    if (tape.at == tape.n) {
        assert_true(tape.n < 64 && n <= 3 * N_MAX + 2);
        tape.choice[tape.n].pick = 0;
        tape.choice[tape.n].n = n;
        memcpy(tape.choice[tape.n++].p, p, (size_t)n * sizeof *p);
    }
    assert_int_equal(tape.choice[tape.at].n, n);
    tape.p *= p[tape.choice[tape.at].pick];
    return tape.choice[tape.at++].pick;
}

static void rewind_tape(void)
{
    tape.at = 0;
    tape.p = 1;
}

/* To the next outcome of positive probability; false: that was the last. */
static bool next_outcome(void)
{
    assert_int_equal(tape.at, tape.n);
    while (tape.n > 0) {
        int last = tape.n - 1;

        while (++tape.choice[last].pick < tape.choice[last].n)
            if (tape.choice[last].p[tape.choice[last].pick] > 0)
                return true;
        tape.n--;
    }
    return false;
}

/* ---- the chain ---------------------------------------------------------------------------------
 */

static int32_t chain(struct fake *f, const struct fake_place *at, float *out_logprob)
{
    size_t off = at->n - fake_prompt(at->ids, at->n);

    (void)f;
    *out_logprob = -1;
    if (off % 3 == 0)
        return '0' + choose_one(off ? move[at->ids[at->n - 3] - '0'] : start, 2);
    return off == 3 * (size_t)n_steps - 2 ? FAKE_EOS : '\n';
}

static double chain_reward(const struct pd_str *steps, size_t k)
{
    return reward[steps[k].ptr[0] - '0'];
}

static int state_of(const struct node *n)
{
    return search_text(n).ptr[0] - '0';
}

/* Z, and the mean of the last state under pi ~ p(x) G(x): over all 2^T paths. */
static double exact(double *out_mean)
{
    double z = 0, sum = 0;

    for (int path = 0; path < 1 << n_steps; path++) {
        double p = 1;

        for (int t = 0; t < n_steps; t++) {
            int x = path >> t & 1;

            p *= (t ? move[path >> (t - 1) & 1][x] : start[x]) * reward[x];
        }
        z += p;
        sum += (path >> (n_steps - 1) & 1) * p;
    }
    *out_mean = sum / z;
    return z;
}

/* ---- the search's own draws --------------------------------------------------------------------
 */

static struct smc smc; /* the one that runs */

static int add_edge(double *edge, int n, double e)
{
    int k = n;

    for (int i = 0; i < n; i++)
        if (fabs(edge[i] - e) < 1e-12)
            return n;
    for (; k > 0 && edge[k - 1] > e; k--)
        edge[k] = edge[k - 1];
    edge[k] = e;
    return n + 1;
}

double __wrap_search_random(struct search *s);
double __wrap_search_random(struct search *s)
{
    double edge[2 * N_MAX + 2] = {0, 1}, p[2 * N_MAX + 2], cum = 0, rest = 0, part = 0;
    int n = 2, pick;
    bool draws = smc.ref || smc.scheme == RESAMPLE_MULTINOMIAL;

    (void)s;
    for (int i = 0; i < smc.n; i++)
        rest += smc.n * smc.w[i] - floor(smc.n * smc.w[i] + 1e-12);
    for (int i = 0; i < smc.n - 1; i++) {
        cum += smc.w[i];
        part += smc.n * smc.w[i] - floor(smc.n * smc.w[i] + 1e-12);
        if (draws)
            n = add_edge(edge, n, cum);
        else if (smc.scheme != RESAMPLE_RESIDUAL)
            n = add_edge(edge, n, smc.n * cum - floor(smc.n * cum));
        else if (rest > 1e-9)
            n = add_edge(edge, n, part / rest);
    }
    for (int i = 0; i + 1 < n; i++)
        p[i] = edge[i + 1] - edge[i];
    pick = choose_one(p, n - 1);
    return (edge[pick] + edge[pick + 1]) / 2;
}

/* ---- smc ---------------------------------------------------------------------------------------
 */

static struct smc how;          /* n, scheme, ess, tau of the run */
static double z_hat, mean_last; /* exp(log_z), the sum of W x_T */

static int run_smc(struct search *s, const void *params, struct pd_err *err)
{
    int rc;

    (void)params;
    smc = how;
    smc.x = search_array(s, smc.n);
    smc.w = search_alloc(s, (size_t)smc.n * sizeof *smc.w);
    rc = smc_run(s, &smc, err);
    z_hat = exp(smc.log_z);
    mean_last = 0;
    for (int i = 0; i < smc.n && rc == 0; i++)
        mean_last += smc.w[i] * state_of(smc.x[i]);
    return rc;
}

static const struct pd_strategy smc_strategy = {
    .name = "smc", .needs_scorer = true, .run = run_smc};

struct means {
    double p, z, z_mean, mean;
};

static void enumerate(struct means *out)
{
    struct trial t;

    *out = (struct means){0};
    tape.n = 0;
    trial_init(&t, &smc_strategy, "repeat_guard=0");
    t.gen.next = chain;
    toy_judge(&t, chain_reward);
    do {
        rewind_tape();
        if (trial_run(&t) < 0)
            fail_msg("%s", t.err.text);
        out->p += tape.p;
        out->z += tape.p * z_hat;
        out->z_mean += tape.p * z_hat * mean_last;
        out->mean += tape.p * mean_last;
    } while (next_outcome());
    trial_done(&t);
    if (fabs(out->p - 1) > 1e-9)
        fail_msg("the outcomes have probability %.12g", out->p);
}

static void the_chain_is_that_of_the_specification(void **state)
{
    double mean;

    (void)state;
    n_steps = 2;
    assert_true(fabs(exact(&mean) - 8 / 25.) < 1e-12 && fabs(mean - 27 / 32.) < 1e-12);
    n_steps = 3;
    assert_true(fabs(exact(&mean) - 1879 / 10000.) < 1e-12);
}

static void the_estimate_is_unbiased_for_every_scheme(void **state)
{
    static const struct {
        int n, steps;
    } sizes[] = {{1, 1}, {1, 3}, {2, 1}, {2, 2}, {2, 3}, {3, 2}};
    static const double ess[] = {1, .75, .5, 0};

    (void)state;
    for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++)
        for (int scheme = RESAMPLE_SYSTEMATIC; scheme <= RESAMPLE_MULTINOMIAL; scheme++)
            for (int e = 0; e < 4; e++) {
                double mean, z;
                struct means got;

                n_steps = sizes[k].steps;
                z = exact(&mean);
                how = (struct smc){.n = sizes[k].n,
                                   .scheme = (enum resample_scheme)scheme,
                                   .ess = ess[e],
                                   .tau = 1};
                enumerate(&got);
                if (fabs(got.z - z) > 1e-12 || fabs(got.z_mean / z - mean) > 1e-12)
                    fail_msg("N=%d T=%d scheme %d ess %g: %.12g, %.12g; not %.12g, %.12g", how.n,
                             n_steps, scheme, how.ess, got.z, got.z_mean / z, z, mean);
            }
}

static void the_normalised_sum_is_biased_as_known(void **state)
{
    struct means got;

    (void)state;
    n_steps = 2;
    how = (struct smc){.n = 2, .scheme = RESAMPLE_MULTINOMIAL, .ess = 1, .tau = 1};
    enumerate(&got);
    if (fabs(got.mean - .6482062359) > 1e-9)
        fail_msg("%.10f", got.mean);
}

/* ---- particle Gibbs ----------------------------------------------------------------------------
 */

static double law[8]; /* of the next reference's path */
static int next_path;

/* A reference from pi, a conditional filter around it, and the next reference. */
static int run_gibbs(struct search *s, const void *params, struct pd_err *err)
{
    struct node *ref = search_root(s);
    int rc = 0;

    (void)params;
    smc = how;
    for (int t = 0; t < n_steps && rc == 0; t++) {
        rc = search_extend(s, &ref, 1, UNTIL_STEP, &ref, err);
        if (rc == 0)
            rc = search_score(s, &ref, 1, err);
        if (rc == 0)
            tape.p *= reward[state_of(ref)]; /* p(x) G(x): pi, but for Z */
    }
    if (rc < 0)
        return rc;
    smc.ref = smc_path(s, ref, &smc.n_ref);
    smc.x = search_array(s, smc.n);
    smc.w = search_alloc(s, (size_t)smc.n * sizeof *smc.w);
    rc = smc_run(s, &smc, err);
    if (rc < 0)
        return rc;
    ref = smc.x[resample_draw(smc.w, smc.n, search_random(s))];
    next_path = 0;
    for (int t = n_steps - 1; t >= 0; t--, ref = search_parent(ref))
        next_path |= state_of(ref) << t;
    return 0;
}

static const struct pd_strategy gibbs_strategy = {
    .name = "gibbs", .needs_scorer = true, .run = run_gibbs};

static void a_reference_from_pi_is_followed_by_one_from_pi(void **state)
{
    static const struct {
        int n, steps;
    } sizes[] = {{1, 2}, {2, 1}, {2, 2}, {2, 3}, {3, 2}};

    (void)state;
    for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++) {
        double mean, z;
        struct trial t;

        n_steps = sizes[k].steps;
        z = exact(&mean);
        how = (struct smc){.n = sizes[k].n, .scheme = RESAMPLE_MULTINOMIAL, .ess = 1, .tau = 1};
        memset(law, 0, sizeof law);
        tape.n = 0;
        trial_init(&t, &gibbs_strategy, "repeat_guard=0");
        t.gen.next = chain;
        toy_judge(&t, chain_reward);
        do {
            rewind_tape();
            if (trial_run(&t) < 0)
                fail_msg("%s", t.err.text);
            law[next_path] += tape.p / z;
        } while (next_outcome());
        trial_done(&t);
        for (int path = 0; path < 1 << n_steps; path++) {
            double pi = 1 / z;

            for (int i = 0; i < n_steps; i++) {
                int x = path >> i & 1;

                pi *= (i ? move[path >> (i - 1) & 1][x] : start[x]) * reward[x];
            }
            if (fabs(law[path] - pi) > 1e-12)
                fail_msg("N=%d T=%d: path %d with %.12g, not %.12g", how.n, n_steps, path,
                         law[path], pi);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_chain_is_that_of_the_specification),
        cmocka_unit_test(the_estimate_is_unbiased_for_every_scheme),
        cmocka_unit_test(the_normalised_sum_is_biased_as_known),
        cmocka_unit_test(a_reference_from_pi_is_followed_by_one_from_pi),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
