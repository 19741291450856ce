/* adaptive_consistency: sample until the majority is safe. Aggarwal et al., Let's Sample Step by
 * Step: Adaptive-Consistency for Efficient Reasoning and Coding with LLMs, arXiv:2305.11860, §3.
 * criterion=beta: P(p > 1/2 | Beta(a+1, b+1)) of the two largest counts a >= b; dirichlet: P(the
 * leader's share is the largest) of the five largest; majority: the leader's share; entropy: of the
 * counts, normalised; random: a number from [0, 1), the baseline that looks at nothing. Lines are
 * drawn `chunk` at a time, the test is made after each line in order of ids. */
#include <math.h>

#include "core/search.h"

struct ac_params {
    int samples, chunk, criterion;
    double threshold;
};

enum {
    CRITERION_BETA,
    CRITERION_DIRICHLET,
    CRITERION_MAJORITY,
    CRITERION_ENTROPY,
    CRITERION_RANDOM
};

enum { SHARES = 5 }; /* that criterion=dirichlet compares */

struct counts {
    const char **key;
    int *count;
    int n, total; /* different answers; lines with an answer */
};

static void count(struct counts *c, const char *key)
{
    int i = 0;

    while (i < c->n && strcmp(c->key[i], key) != 0)
        i++;
    c->n += i == c->n;
    c->key[i] = key;
    c->count[i]++;
    c->total++;
}

/* 2^-(a+b+1) * sum over j <= a of C(a+b+1, j): the incomplete beta integral, exactly. */
static double beta_above_half(int a, int b)
{
    int n = a + b + 1;
    double term = exp2(-n), sum = 0;

    for (int j = 0; j <= a; j++) {
        sum += term;
        term = term * (n - j) / (j + 1); /* the product first: without rounding up to n = 45 */
    }
    return sum;
}

/* The largest counts, descending; 0 where there are no more answers. */
static void largest(const struct counts *c, int top[SHARES])
{
    for (int i = 0; i < SHARES; i++)
        top[i] = 0;
    for (int i = 0; i < c->n; i++)
        for (int k = 0, x = c->count[i], y; k < SHARES; k++)
            if (x > top[k]) {
                y = top[k];
                top[k] = x;
                x = y;
            }
}

/* P(the first share is the largest | Dirichlet(top + 1)) of n shares. Shares are as independent
 * Gamma(top[i] + 1) variables: the density of the first at x times P(the others are below x), by
 * Simpson's rule up to where nothing is left. */
static double dirichlet_leads(const int *top, int n)
{
    enum { PANELS = 2048 };
    double h = (top[0] + 40 + 10 * sqrt(top[0])) / PANELS, sum = 0;

    for (int k = 1; k <= PANELS; k++) {
        double x = k * h, p = 1;

        for (int i = 0; i < n; i++) {
            double term = exp(-x), below = 1 - term; /* of top[i] + 1 events, in time x */

            for (int j = 1; j <= top[i]; j++) {
                term *= x / j;
                below -= term;
            }
            p *= i == 0 ? term : below;
        }
        sum += p * (k == PANELS ? 1 : k % 2 ? 4 : 2);
    }
    return sum * h / 3;
}

/* The number the criterion looks at: the more, the safer; -1: it cannot say yet. */
static double safety(struct search *s, const struct ac_params *p, const struct counts *c)
{
    int top[SHARES];
    double h = 0;

    largest(c, top);
    if (p->criterion == CRITERION_RANDOM)
        return search_random(s);
    if (p->criterion == CRITERION_BETA)
        return beta_above_half(top[0], top[1]);
    if (p->criterion == CRITERION_DIRICHLET) /* one answer alone is compared with none */
        return dirichlet_leads(top, c->n < 2 ? 2 : c->n < SHARES ? c->n : SHARES);
    if (p->criterion == CRITERION_MAJORITY)
        return c->n >= 2 ? (double)top[0] / c->total : -1;
    if (c->total < 2)
        return -1;
    /* one answer alone is padded with one pseudo-count of another */
    for (int i = 0; i < (c->n > 1 ? c->n : 2); i++) {
        double share = (i < c->n ? c->count[i] : 1) / (double)(c->total + (c->n == 1));

        h -= share * log(share);
    }
    return 1 - h / log(c->n > 1 ? c->n : 2);
}

static int run(struct search *s, const void *params, struct pd_err *err)
{
    const struct ac_params *p = params;
    struct node **lane = search_array(s, p->samples);
    struct tally *votes = tally_new(s);
    struct counts c = {.key = search_alloc(s, (size_t)p->samples * sizeof *c.key),
                       .count = search_alloc(s, (size_t)p->samples * sizeof *c.count)};
    double *trail = search_alloc(s, (size_t)p->samples * sizeof *trail);
    int end, rc = 0, n = 0, drawn = 0;
    bool safe = false;

    while (rc == 0 && !safe && drawn < p->samples) {
        int more = p->chunk < p->samples - drawn ? p->chunk : p->samples - drawn;

        rc = search_sample(s, search_root(s), more, UNTIL_END, lane + drawn, err);
        drawn += rc == 0 ? more : 0;
        for (; n < drawn && !safe; n++) { /* lines without an answer count as drawn only */
            if (search_finished(lane[n]) && search_key(lane[n])[0]) {
                count(&c, search_key(lane[n]));
                tally_vote(votes, lane[n], 1);
            }
            trail[n] = safety(s, p, &c);
            safe = c.total && trail[n] >= p->threshold;
        }
    }
    if (rc < 0 && rc != PD_EBUDGET)
        return rc;
    search_put_doubles(search_decide(s, "safety"), "after_each", trail, n);
    end = search_decided(s, err);
    return end < 0 ? end : search_end(s, tally_winner(votes), rc, err);
}

static const struct pd_param params[] = {
    PD_INT(ac_params, samples, 40, 1, 256, "most lines"),
    PD_INT(ac_params, chunk, 1, 1, 256, "lines drawn at a time"),
    PD_CHOICE(ac_params, criterion, CRITERION_BETA, "beta|dirichlet|majority|entropy|random",
              "what says that the majority is safe"),
    PD_DOUBLE(ac_params, threshold, 0.95, 0, 2,
              "stop at this safety: beta and dirichlet .95, majority .8, entropy .25 are usual"),
    {0},
};

extern const struct pd_strategy strategy_adaptive_consistency;
const struct pd_strategy strategy_adaptive_consistency = {
    .name = "adaptive_consistency",
    .paper = "arXiv:2305.11860",
    .summary = "sample until the majority is safe",
    .params = params,
    .params_size = sizeof(struct ac_params),
    .run = run,
};
