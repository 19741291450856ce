/* mbr: minimum Bayes risk: the line that all the others are most like. Kumar and Byrne, Minimum
 * Bayes-Risk Decoding for Statistical Machine Translation, 2004:
 * y* = argmax over y of the mean of U(y, e) over the other lines e. utility=exact compares answers
 * (a majority vote), f1 words, chrf groups of characters. */
#include <ctype.h>
#include <stdlib.h>

#include "core/search.h"

#define CHRF_N    6 /* Popović 2015: up to 6 characters, recall counts twice */
#define CHRF_BETA 2.0

struct mbr_params {
    int samples, utility;
};

enum { UTILITY_EXACT, UTILITY_F1, UTILITY_CHRF };

/* Items of a text, as hashes in ascending order; duplicates stay. */
struct bag {
    uint64_t *items;
    int n;
};

static int ascending(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return (x > y) - (x < y);
}

static struct bag words(struct search *s, struct pd_str text)
{
    struct bag b = {search_alloc(s, (text.len / 2 + 1) * sizeof *b.items), 0};

    for (size_t i = 0; i < text.len;) {
        uint64_t h = 1469598103934665603u; /* FNV-1a */
        size_t from = i;

        for (; i < text.len && !isspace((unsigned char)text.ptr[i]); i++)
            h = (h ^ (unsigned char)text.ptr[i]) * 1099511628211u;
        if (i > from)
            b.items[b.n++] = h;
        else
            i++;
    }
    qsort(b.items, (size_t)b.n, sizeof *b.items, ascending);
    return b;
}

static struct bag grams(struct search *s, struct pd_str text, int size)
{
    struct bag b = {search_alloc(s, (text.len + 1) * sizeof *b.items), 0};

    for (size_t i = 0; i + (size_t)size <= text.len; i++) {
        uint64_t h = 1469598103934665603u;

        for (int k = 0; k < size; k++)
            h = (h ^ (unsigned char)text.ptr[i + (size_t)k]) * 1099511628211u;
        b.items[b.n++] = h;
    }
    qsort(b.items, (size_t)b.n, sizeof *b.items, ascending);
    return b;
}

/* F_beta of the items two bags share. */
static double overlap(const struct bag *y, const struct bag *e, double beta)
{
    int both = 0;
    double precision, recall;

    for (int i = 0, k = 0; i < y->n && k < e->n;) {
        if (y->items[i] == e->items[k]) {
            both++;
            i++;
            k++;
        } else if (y->items[i] < e->items[k]) {
            i++;
        } else {
            k++;
        }
    }
    if (both == 0)
        return 0;
    precision = (double)both / y->n;
    recall = (double)both / e->n;
    return (1 + beta * beta) * precision * recall / (beta * beta * precision + recall);
}

static int run(struct search *s, const void *params, struct pd_err *err)
{
    const struct mbr_params *p = params;
    struct node **lane = search_array(s, p->samples), *best = NULL;
    struct bag *bags = search_alloc(s, (size_t)p->samples * CHRF_N * sizeof *bags);
    double *risk = search_alloc(s, (size_t)p->samples * sizeof *risk), top = -1;
    int n = 0, n_bags = p->utility == UTILITY_CHRF ? CHRF_N : 1;
    int rc = search_sample(s, search_root(s), p->samples, UNTIL_END, lane, err);

    if (rc < 0)
        return rc;
    for (int i = 0; i < p->samples; i++)
        if (search_finished(lane[i]) && search_key(lane[i])[0])
            lane[n++] = lane[i];
    for (int i = 0; i < n && p->utility != UTILITY_EXACT; i++)
        for (int k = 0; k < n_bags; k++)
            bags[i * n_bags + k] = p->utility == UTILITY_F1 ? words(s, search_text(lane[i]))
                                                            : grams(s, search_text(lane[i]), k + 1);
    for (int y = 0; y < n; y++) {
        for (int e = 0; e < n; e++) {
            if (e == y)
                continue;
            if (p->utility == UTILITY_EXACT)
                risk[y] += strcmp(search_key(lane[y]), search_key(lane[e])) == 0;
            for (int k = 0; k < n_bags && p->utility != UTILITY_EXACT; k++)
                risk[y] += overlap(&bags[y * n_bags + k], &bags[e * n_bags + k],
                                   p->utility == UTILITY_F1 ? 1 : CHRF_BETA) /
                           n_bags;
        }
        if (n > 1)
            risk[y] /= n - 1;
        if (!best || risk[y] > top) {
            best = lane[y];
            top = risk[y];
        }
    }
    search_put_doubles(search_decide(s, "utility"), "mean", risk, n);
    rc = search_decided(s, err);
    return rc < 0 ? rc : search_answer(s, best, err);
}

static const struct pd_param params[] = {
    PD_INT(mbr_params, samples, 16, 1, 256, "lines to sample"),
    PD_CHOICE(mbr_params, utility, UTILITY_EXACT, "exact|f1|chrf", "what makes two lines alike"),
    {0},
};

extern const struct pd_strategy strategy_mbr;
const struct pd_strategy strategy_mbr = {
    .name = "mbr",
    .summary = "minimum Bayes risk: the line most like the others",
    .params = params,
    .params_size = sizeof(struct mbr_params),
    .run = run,
};
