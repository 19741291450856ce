/* Figures of a report that put lines or problems into bins: rewards against correctness, and how
 * variants do on easy and on hard problems. */
#include <math.h>
#include <stdlib.h>

#include "app/report_int.h"

/* ---- what rewards are worth ------------------------------------------------------------------ */

void report_reliability(struct making *m)
{
    struct report_run *run = m->run;
    struct report_reward bins[REPORT_REWARDS] = {0};
    double errors = 0, n = 0;

    for (size_t i = 0; i < m->n_problems * m->recipe->repeats; i++)
        for (size_t l = 0; l < m->pools[i].n; l++) {
            const struct line *line = &m->pools[i].lines[l];
            size_t at;

            if (!line->key[0] || !(line->value >= 0 && line->value <= 1))
                continue;
            at = (size_t)(line->value * REPORT_REWARDS);
            at = at < REPORT_REWARDS ? at : REPORT_REWARDS - 1; /* a reward of 1 */
            bins[at].n++;
            bins[at].n_right += line->right;
            bins[at].reward += line->value;
            errors += pow(line->value - line->right, 2);
            n++;
        }
    run->brier = errors / n;
    run->ece = 0;
    for (size_t i = 0; i < REPORT_REWARDS; i++) {
        struct report_reward *b = &bins[i];

        if (!b->n)
            continue;
        run->ece += fabs(b->reward - (double)b->n_right) / n;
        b->reward /= (double)b->n;
        b->low = (double)i / REPORT_REWARDS;
        b->high = (double)(i + 1) / REPORT_REWARDS;
        b->interval = pd_wilson(b->n_right, b->n);
        run->rewards[run->n_rewards++] = *b;
    }
}

/* ---- difficulty ------------------------------------------------------------------------------ */

struct by_difficulty {
    struct making *m;
    size_t *bin_of; /* problem; SIZE_MAX: it has no lines */
    uint64_t *n[2]; /* [bins][variants] of each half of the problems: jobs */
    uint64_t *right[2];
    double *tokens[2];
};

static size_t cell(const struct by_difficulty *d, size_t bin, size_t variant)
{
    return bin * d->m->run->n_variants + variant;
}

/* Quintiles of the shares; a share on an edge is of the easier bin. */
static int find_bins(struct by_difficulty *d)
{
    struct making *m = d->m;
    double *share = pd_arena_array(&m->scratch, m->n_problems + 1, sizeof *share);
    double *sorted = pd_arena_array(&m->scratch, m->n_problems + 1, sizeof *sorted);
    size_t n = 0;

    if (!share || !sorted)
        return pd_fail(m->err, PD_ENOMEM, "out of memory for the report");
    for (size_t i = 0; i < m->n_problems; i++) {
        size_t lines = 0, right = 0;

        for (size_t r = 0; r < m->recipe->repeats; r++) {
            const struct pool *p = &m->pools[i * m->recipe->repeats + r];

            lines += p->n;
            for (size_t l = 0; l < p->n; l++)
                right += p->lines[l].right;
        }
        share[i] = lines ? (double)right / (double)lines : (double)NAN;
        if (lines)
            sorted[n++] = share[i];
    }
    qsort(sorted, n, sizeof *sorted, pd_compare_doubles);
    for (size_t i = 0; i < m->n_problems; i++) {
        struct report_difficulty *b;
        size_t at = 0;

        d->bin_of[i] = SIZE_MAX;
        if (isnan(share[i]))
            continue;
        while (at + 1 < REPORT_DIFFICULTIES &&
               share[i] <
                   pd_quantile(sorted, n, 1 - (double)(at + 1) / (double)REPORT_DIFFICULTIES))
            at++;
        d->bin_of[i] = at;
        b = &m->run->difficulty[at];
        b->low = b->n_problems++ && b->low < share[i] ? b->low : share[i];
        b->high = b->high > share[i] ? b->high : share[i];
    }
    return 0;
}

/* The best of these variants by one half of the problems; bin SIZE_MAX: over all bins. SIZE_MAX:
 * that half has no job of them. */
static size_t best_of(const struct by_difficulty *d, uint64_t samples, int half, size_t bin)
{
    const struct report_run *run = d->m->run;
    size_t best = SIZE_MAX;
    double best_rate = -1, best_tokens = 0;

    for (size_t v = 0; v < run->n_variants; v++) {
        double n = 0, right = 0, tokens = 0;

        if (run->variants[v].added || run->variants[v].samples != samples)
            continue;
        for (size_t b = 0; b < REPORT_DIFFICULTIES; b++)
            if (bin == SIZE_MAX || b == bin) {
                n += (double)d->n[half][cell(d, b, v)];
                right += (double)d->right[half][cell(d, b, v)];
                tokens += d->tokens[half][cell(d, b, v)];
            }
        if (n > 0 &&
            (right / n > best_rate || (right / n >= best_rate && tokens / n < best_tokens))) {
            best = v;
            best_rate = right / n;
            best_tokens = tokens / n;
        }
    }
    return best;
}

static void choose(const struct by_difficulty *d, struct report_choice *c)
{
    double right = 0, tokens = 0, one_right = 0, one_tokens = 0, one_n = 0;

    for (int half = 0; half < 2; half++) {
        size_t one = best_of(d, c->samples, half, SIZE_MAX);

        for (size_t b = 0; b < REPORT_DIFFICULTIES; b++) {
            size_t v = best_of(d, c->samples, half, b);

            v = v == SIZE_MAX ? one : v; /* no problem of the kind in this half */
            if (v == SIZE_MAX)
                continue;
            c->n += d->n[!half][cell(d, b, v)];
            right += (double)d->right[!half][cell(d, b, v)];
            tokens += d->tokens[!half][cell(d, b, v)];
            one_n += (double)d->n[!half][cell(d, b, one)];
            one_right += (double)d->right[!half][cell(d, b, one)];
            one_tokens += d->tokens[!half][cell(d, b, one)];
        }
    }
    c->accuracy = right / (double)c->n;
    c->tokens = tokens / (double)c->n;
    c->one_accuracy = one_right / one_n;
    c->one_tokens = one_tokens / one_n;
}

/* For each number of samples that more than one variant has, in their order. */
static void make_choices(const struct by_difficulty *d)
{
    struct report_run *run = d->m->run;

    for (size_t v = 0; v < run->n_variants && run->n_choices < REPORT_CHOICES; v++) {
        struct report_choice c = {.samples = run->variants[v].samples};
        bool seen = false;

        for (size_t i = 0; i < run->n_variants; i++) {
            bool same = !run->variants[i].added && run->variants[i].samples == c.samples &&
                        run->variants[i].n;

            seen |= same && i < v;
            c.n_variants += same;
        }
        if (seen || c.n_variants < 2 || c.samples == 0)
            continue;
        choose(d, &c);
        if (c.n)
            run->choices[run->n_choices++] = c;
    }
}

int report_difficulty(struct making *m)
{
    struct by_difficulty d = {.m = m};
    size_t cells = REPORT_DIFFICULTIES * m->run->n_variants;
    int rc;

    d.bin_of = pd_arena_array(&m->scratch, m->n_problems + 1, sizeof *d.bin_of);
    for (int half = 0; half < 2; half++) {
        d.n[half] = pd_arena_array(&m->scratch, cells + 1, sizeof *d.n[half]);
        d.right[half] = pd_arena_array(&m->scratch, cells + 1, sizeof *d.right[half]);
        d.tokens[half] = pd_arena_array(&m->scratch, cells + 1, sizeof *d.tokens[half]);
        if (!d.n[half] || !d.right[half] || !d.tokens[half])
            return pd_fail(m->err, PD_ENOMEM, "out of memory for the report");
    }
    for (size_t b = 0; b < REPORT_DIFFICULTIES; b++) {
        m->run->difficulty[b].variants = pd_arena_array(m->arena, m->run->n_variants + 1,
                                                        sizeof *m->run->difficulty[b].variants);
        if (!m->run->difficulty[b].variants)
            return pd_fail(m->err, PD_ENOMEM, "out of memory for the report");
    }
    rc = d.bin_of ? find_bins(&d) : pd_fail(m->err, PD_ENOMEM, "out of memory for the report");
    if (rc < 0)
        return rc;
    m->run->n_difficulties = REPORT_DIFFICULTIES;
    for (size_t v = 0; v < m->run->n_variants; v++)
        for (size_t i = 0; i < m->jobs->n; i++) {
            const struct store_run_job *j = &m->jobs->jobs[i];
            size_t problem, bin;

            if (!report_is_of(j, m->run->variants[v].name) || j->repeat >= m->recipe->repeats)
                continue;
            problem = report_place(m, j) / m->recipe->repeats;
            bin = d.bin_of[problem];
            if (bin == SIZE_MAX)
                continue;
            m->run->difficulty[bin].variants[v].n++;
            m->run->difficulty[bin].variants[v].n_right += j->correct == 1;
            d.n[problem & 1][cell(&d, bin, v)]++;
            d.right[problem & 1][cell(&d, bin, v)] += j->correct == 1;
            d.tokens[problem & 1][cell(&d, bin, v)] += (double)j->generated;
        }
    make_choices(&d);
    return 0;
}
