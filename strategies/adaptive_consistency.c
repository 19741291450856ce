/* adaptive_consistency: sample until the majority is safe. Aggarwal et al., Let's Sample Step by
 * Step: Adaptive-Consistency for Efficient Reasoning and Coding with LLMs, arXiv:2305.11860, §3.
 * criterion=beta: P(p > 1/2 | Beta(a+1, b+1)) of the two largest counts a >= b; majority: the
 * leader's share; entropy: of the counts, normalised. Lines are drawn `chunk` at a time, the test
 * is made after each line in order of ids. */
#include <math.h>

#include "core/search.h"

struct ac_params {
    int samples, chunk, criterion;
    double threshold;
};

enum { CRITERION_BETA, CRITERION_MAJORITY, CRITERION_ENTROPY };

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

/* The number the criterion looks at: the more, the safer; -1: it cannot say yet. */
static double safety(const struct ac_params *p, const struct counts *c)
{
    int a = 0, b = 0;
    double h = 0;

    for (int i = 0; i < c->n; i++) {
        if (c->count[i] > a) {
            b = a;
            a = c->count[i];
        } else if (c->count[i] > b) {
            b = c->count[i];
        }
    }
    if (p->criterion == CRITERION_BETA)
        return beta_above_half(a, b);
    if (p->criterion == CRITERION_MAJORITY)
        return c->n >= 2 ? (double)a / c->total : -1;
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
            trail[n] = safety(p, &c);
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
    PD_CHOICE(ac_params, criterion, CRITERION_BETA, "beta|majority|entropy",
              "what says that the majority is safe"),
    PD_DOUBLE(ac_params, threshold, 0.95, 0, 2,
              "stop at this safety: beta .95, majority .8, entropy .25 are usual"),
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
