/* deepconf: lines vote by how sure the model was of them, and unsure ones are cut off. Fu, Wang,
 * Tian and Zhao, Deep Think with Confidence, arXiv:2508.15260, §3. The confidence of a token is
 * C_i = -1/k sum_j log p(j-th likeliest at i); a group is the last `window` tokens, at every token;
 * a line is worth its lowest group (§3.1).
 *   mode=online (Algorithm 2): `warmup` lines run to their ends, tau = the (100 - eta)-th
 * percentile of their confidences; the others end as soon as a group is below tau; mode=offline
 * (Algorithm 1): all lines run to their ends, those of the top eta % vote. The paper weighs votes
 * by confidence, its code counts them: weighed here. Deviations: a line shorter than the window is
 * worth its mean, and does not vote when that is below tau; without a voter the majority of the
 * warm-up answers. consensus is the paper's, its code has none. */
#include <stdlib.h>

#include "base/window.h"
#include "core/search.h"
#include "core/stats.h"

struct dc_params {
    int samples, mode, warmup, window, k, weight;
    double eta, consensus;
};

enum { MODE_ONLINE, MODE_OFFLINE };
enum { WEIGHT_LOWEST, WEIGHT_BOTTOM, WEIGHT_TAIL, WEIGHT_MEAN };

struct dc {
    struct search *s;
    const struct dc_params *p;
    struct node **line;
    double *value, *at; /* confidence of a line; the token at which its lowest group ends */
    int n, weight;
};

/* The group confidences of a line: the means of `window` tokens in a row, or that of all. */
static double *groups(struct dc *d, const struct node *line, uint32_t *out_n, uint32_t *out_tokens)
{
    uint32_t window = (uint32_t)d->p->window, n, first;
    const float *c = search_confidences(line, &n);
    double *group = search_alloc(d->s, (n + 1) * sizeof *group), sum = 0;

    first = n < window ? n : window;
    for (uint32_t i = 1; i <= n; i++) {
        double mean = pd_window_mean(c, i, window, &sum);

        if (i >= first)
            group[i - first] = mean;
    }
    *out_n = n ? n - first + 1 : 0;
    *out_tokens = n;
    return group;
}

static double weigh(struct dc *d, const struct node *line, double *out_at)
{
    uint32_t n, n_tokens, low = 0;
    double *group = groups(d, line, &n, &n_tokens), sum = 0;
    const float *c = search_confidences(line, &n_tokens);

    for (uint32_t g = 1; g < n; g++)
        low = group[g] < group[low] ? g : low;
    *out_at = n_tokens - n + low;
    if (n == 0)
        return 0;
    if (d->weight == WEIGHT_LOWEST)
        return group[low];
    if (d->weight == WEIGHT_TAIL)
        return group[n - 1];
    if (d->weight == WEIGHT_MEAN) {
        for (uint32_t i = 0; i < n_tokens; i++)
            sum += (double)c[i];
        return sum / n_tokens;
    }
    qsort(group, n, sizeof *group, pd_compare_doubles);
    n = n < 10 ? 1 : n / 10;
    for (uint32_t g = 0; g < n; g++)
        sum += group[g];
    return sum / n;
}

/* So many more lines; those of which a group is below tau end there. */
static int draw(struct dc *d, int n, bool watch, double tau, struct pd_err *err)
{
    struct node **line = d->line + d->n;
    int rc;

    search_set_confidence(d->s, d->p->k, watch ? d->p->window : 0, tau);
    rc = search_sample(d->s, search_root(d->s), n, UNTIL_END, line, err);
    for (int i = 0; i < n && rc == 0; i++, d->n++) {
        d->value[d->n] = weigh(d, line[i], &d->at[d->n]);
        if (search_cut_off(line[i]))
            search_prune(d->s, line[i], "low_conf");
    }
    return rc;
}

static double percentile(struct dc *d, double percent)
{
    double *sorted = search_alloc(d->s, (size_t)d->n * sizeof *sorted);

    memcpy(sorted, d->value, (size_t)d->n * sizeof *sorted);
    qsort(sorted, (size_t)d->n, sizeof *sorted, pd_compare_doubles);
    return pd_quantile(sorted, (size_t)d->n, percent / 100);
}

static bool votes(const struct dc *d, int i, double tau)
{
    return search_finished(d->line[i]) && search_key(d->line[i])[0] && d->value[i] >= tau;
}

/* Share of the weight that the answer of `leader` has; 0 when there is none. */
static double share(const struct dc *d, struct node *leader, double tau)
{
    double all = 0, its = 0;

    for (int i = 0; i < d->n && leader; i++)
        if (votes(d, i, tau)) {
            all += d->value[i];
            its += strcmp(search_key(d->line[i]), search_key(leader)) == 0 ? d->value[i] : 0;
        }
    return all > 0 ? its / all : 0;
}

static struct node *weighted_vote(const struct dc *d, double tau)
{
    struct tally *t = tally_new(d->s);

    for (int i = 0; i < d->n; i++)
        if (votes(d, i, tau))
            tally_vote(t, d->line[i], d->value[i]);
    return tally_winner(t);
}

static struct node *majority(const struct dc *d, int n)
{
    struct tally *t = tally_new(d->s);

    for (int i = 0; i < n; i++)
        if (search_finished(d->line[i]))
            tally_vote(t, d->line[i], 1);
    return tally_winner(t);
}

static int tell(const struct dc *d, double tau, struct pd_err *err)
{
    struct pd_jw *w = search_decide(d->s, "confidence");

    pd_jw_put_double(w, "tau", tau);
    search_put_nodes(w, "nodes", d->line, d->n);
    search_put_doubles(w, "confidence", d->value, d->n);
    search_put_doubles(w, "lowest_at", d->at, d->n);
    return search_decided(d->s, err);
}

static int run(struct search *s, const void *params, struct pd_err *err)
{
    const struct dc_params *p = params;
    bool online = p->mode == MODE_ONLINE;
    int most = p->samples, n_warm = online && p->warmup < most ? p->warmup : most, rc, told;
    struct dc d = {.s = s,
                   .p = p,
                   .line = search_array(s, most),
                   .value = search_alloc(s, (size_t)most * sizeof(double)),
                   .at = search_alloc(s, (size_t)most * sizeof(double)),
                   .weight = online ? WEIGHT_LOWEST : p->weight};
    struct node *leader;
    double tau;

    /* 1. Warm-up; offline: all of them. */
    rc = draw(&d, n_warm, false, 0, err);
    if (rc < 0)
        return rc;
    tau = percentile(&d, 100 - p->eta);
    leader = weighted_vote(&d, tau);
    /* 2. The others, as long as they are sure, and while there is no consensus. */
    while (d.n < most && rc == 0 && !(p->consensus > 0 && share(&d, leader, tau) >= p->consensus)) {
        int left = most - d.n;

        rc = search_answer(s, leader, err);
        if (rc == 0)
            rc = draw(&d, p->consensus > 0 && n_warm < left ? n_warm : left, true, tau, err);
        leader = weighted_vote(&d, tau);
    }
    search_set_confidence(s, 0, 0, 0);
    if (rc < 0 && rc != PD_EBUDGET)
        return rc;
    /* 3. What is left votes by its confidence. */
    told = tell(&d, tau, err);
    return told < 0 ? told : search_end(s, leader ? leader : majority(&d, n_warm), rc, err);
}

static const struct pd_param params[] = {
    PD_INT(dc_params, samples, 256, 1, 4096, "lines, the warm-up's among them"),
    PD_CHOICE(dc_params, mode, MODE_ONLINE, "online|offline",
              "unsure lines are cut off, or all run to their ends"),
    PD_INT(dc_params, warmup, 16, 1, 4096, "online: lines that run to their ends first"),
    PD_DOUBLE(dc_params, eta, 90, 0, 100, "share of the lines that is kept, in percent"),
    PD_INT(dc_params, window, 2048, 1, 1 << 20, "tokens of a group"),
    PD_INT(dc_params, k, 20, 1, 20, "likeliest tokens that say how sure the model is of one"),
    PD_CHOICE(dc_params, weight, WEIGHT_LOWEST, "lowest|bottom|tail|mean",
              "offline: the lowest group, the mean of the lowest tenth, the last, all tokens"),
    PD_DOUBLE(dc_params, consensus, 0, 0, 1,
              "online: no more lines when an answer has this share of the weight; 0: off"),
    {0},
};

extern const struct pd_strategy strategy_deepconf;
const struct pd_strategy strategy_deepconf = {
    .name = "deepconf",
    .paper = "arXiv:2508.15260",
    .summary = "lines vote by how sure the model is of them, unsure ones are cut off",
    .params = params,
    .params_size = sizeof(struct dc_params),
    .run = run,
};
