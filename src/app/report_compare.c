/* Pictures that compare the variants of a run: a table with intervals, easy and hard problems, what
 * abstaining is worth; and what rewards are worth. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "app/chart.h"
#include "app/report.h"

#define ROW_PX     22.0
#define SERIES_MAX 7 /* in a picture of difficulty: so many can be told apart */

static const struct chart_style own = {.colour = 0};
static const struct chart_style base = {.colour = CHART_GREY, .marker = 3};

static int nothing(struct pd_err *err, const char *why)
{
    return pd_fail(err, PD_EINVAL, "%s: there is nothing to draw", why);
}

/* A row a variant: accuracy with its interval, and the majority at equal cost. */
int report_svg_table(const struct report *r, struct pd_buf *out, struct pd_err *err)
{
    const struct report_run *run = &r->runs[0];
    double low = 1, high = 0, y;
    size_t n = 0;
    struct chart c;
    char text[160];

    for (size_t v = 0; v < run->n_variants; v++)
        if (run->variants[v].n) {
            const struct report_variant *it = &run->variants[v];

            low = it->interval.low < low ? it->interval.low : low;
            high = it->interval.high > high ? it->interval.high : high;
            if (it->has_base) {
                low = it->base_accuracy < low ? it->base_accuracy : low;
                high = it->base_accuracy > high ? it->base_accuracy : high;
            }
            n++;
        }
    if (n == 0)
        return nothing(err, "no job is done");
    snprintf(text, sizeof text, "%.60s: accuracy with 95 %% intervals", run->name);
    chart_open(&c, out, 760, 110 + ROW_PX * (double)n, 170, text);
    c.left = 230;
    c.x_min = floor(low * 10) / 10;
    c.x_max = ceil(high * 10) / 10;
    c.y_min = 0;
    c.y_max = 1;
    chart_x_axis(&c, "accuracy");
    y = c.top + ROW_PX / 2;
    for (size_t v = 0; v < run->n_variants; v++) {
        const struct report_variant *it = &run->variants[v];
        double at;

        if (!it->n)
            continue;
        at = 1 - (y - c.top) / (c.base - c.top);
        chart_text(&c, c.left - 10, y + 4, "end", it->name);
        chart_rule(&c, chart_px(&c, it->interval.low), y, chart_px(&c, it->interval.high), y, 1.5,
                   "", chart_colour(own.colour));
        if (it->has_base)
            chart_marker(&c, it->base_accuracy, at, base);
        chart_marker(&c, it->accuracy, at, own);
        snprintf(text, sizeof text, "%.3f  %.0f tokens", it->accuracy, it->tokens);
        chart_text(&c, c.right + 16, y + 4, "start", text);
        y += ROW_PX;
    }
    c.top = c.base + 8; /* the key stands beneath */
    c.right = 0;
    chart_key(&c, "the variant", false, true, own);
    chart_key(&c, "majority, equal cost", false, true, base);
    chart_close(&c);
    return 0;
}

int report_svg_reliability(const struct report *r, struct pd_buf *out, struct pd_err *err)
{
    const struct report_run *run = &r->runs[0];
    struct chart_style ideal = {.colour = CHART_GREY, .dash = 1};
    struct chart_xy line[REPORT_REWARDS], diagonal[] = {{0, 0}, {1, 1}};
    struct chart c;
    char text[160];

    if (run->n_rewards == 0)
        return nothing(err, "no lines of best_of_n were scored");
    snprintf(text, sizeof text, "%.60s: what rewards are worth", run->name);
    chart_open(&c, out, 760, 430, 260, text);
    c.x_min = c.y_min = 0;
    c.x_max = c.y_max = 1;
    chart_axes(&c, "reward of a line (mean of the bin)", "lines that are right", true);
    chart_line(&c, diagonal, 2, ideal);
    for (size_t i = 0; i < run->n_rewards; i++) {
        const struct report_reward *b = &run->rewards[i];

        line[i] = (struct chart_xy){b->reward, (double)b->n_right / (double)b->n};
        chart_whisker(&c, b->reward, b->interval.low, b->interval.high, own);
    }
    chart_line(&c, line, run->n_rewards, own);
    for (size_t i = 0; i < run->n_rewards; i++) {
        chart_marker(&c, line[i].x, line[i].y, own);
        snprintf(text, sizeof text, "n=%llu", (unsigned long long)run->rewards[i].n);
        chart_note(&c, line[i].x, run->rewards[i].interval.high, text);
    }
    chart_key(&c, "lines by reward", true, true, own);
    chart_key(&c, "as probabilities should be", true, false, ideal);
    snprintf(text, sizeof text, "Brier score %.3f", run->brier);
    chart_key(&c, text, false, false, own);
    snprintf(text, sizeof text, "calibration error %.3f", run->ece);
    chart_key(&c, text, false, false, own);
    chart_close(&c);
    return 0;
}

/* The one of its entry with the most samples: all of them would be too many. */
static bool speaks_for_entry(const struct report_run *run, size_t v)
{
    const struct report_variant *it = &run->variants[v];

    for (size_t i = 0; i < run->n_variants; i++)
        if (i != v && strcmp(run->variants[i].entry, it->entry) == 0 && run->variants[i].n &&
            (run->variants[i].samples > it->samples ||
             (run->variants[i].samples == it->samples && i < v)))
            return false;
    return it->n && !it->added;
}

int report_svg_difficulty(const struct report *r, struct pd_buf *out, struct pd_err *err)
{
    const struct report_run *run = &r->runs[0];
    unsigned no = 0, n_series = 0;
    struct chart c;
    char text[160];

    if (run->n_difficulties == 0)
        return nothing(err, "no lines of self_consistency or best_of_n");
    snprintf(text, sizeof text, "%.60s: easy and hard problems", run->name);
    chart_open(&c, out, 760, 430, 212, text);
    c.base -= 16; /* for what the bins are */
    c.x_whole = true;
    c.x_min = 0.5;
    for (size_t b = 0; b < run->n_difficulties; b++)
        if (run->difficulty[b].n_problems)
            c.x_max = (double)b + 1.5;
    c.y_min = 0;
    c.y_max = 1;
    chart_axes(&c, "problems, from easy to hard, by the share of plain lines that are right",
               "accuracy", true);
    for (size_t v = 0; v < run->n_variants && n_series < SERIES_MAX; v++)
        n_series += speaks_for_entry(run, v);
    for (size_t v = 0; v < run->n_variants && no < n_series; v++) {
        struct chart_xy line[REPORT_DIFFICULTIES];
        struct chart_style s = {.colour = no, .marker = no};
        size_t n = 0;

        if (!speaks_for_entry(run, v))
            continue;
        c.shift = 7.0 * (no - (n_series - 1) / 2.0);
        for (size_t b = 0; b < run->n_difficulties; b++) {
            uint64_t jobs = run->difficulty[b].variants[v].n,
                     right = run->difficulty[b].variants[v].n_right;
            struct pd_interval i = pd_wilson(right, jobs);

            if (!jobs)
                continue;
            line[n++] = (struct chart_xy){(double)b + 1, (double)right / (double)jobs};
            chart_whisker(&c, (double)b + 1, i.low, i.high, s);
        }
        for (size_t i = 0; i < n; i++)
            chart_marker(&c, line[i].x, line[i].y, s);
        chart_key(&c, run->variants[v].name, false, true, s);
        no++;
    }
    c.shift = 0;
    for (size_t b = 0; b < run->n_difficulties; b++)
        if (run->difficulty[b].n_problems) {
            const struct report_difficulty *d = &run->difficulty[b];

            snprintf(text, sizeof text, "%llu: %.0f to %.0f %%",
                     (unsigned long long)d->n_problems, 100 * d->low, 100 * d->high);
            chart_text(&c, chart_px(&c, (double)b + 1), c.base + 34, "middle", text);
        }
    chart_close(&c);
    return 0;
}

/* The value by which the variant's name differs from others of its entry: "16 k=4" of "x@16 k=4". */
static const char *what_varies(const struct report_variant *v)
{
    const char *rest = v->name + strlen(v->entry), *equals = strchr(rest, '=');

    return *rest == '@' ? rest + 1 : equals ? equals + 1 : rest;
}

/* How often a variant answers, and how often it is right when it does. */
int report_svg_abstention(const struct report *r, struct pd_buf *out, struct pd_err *err)
{
    const struct report_run *run = &r->runs[0];
    const char *entry = NULL;
    struct chart_xy line[64];
    struct chart_style s = {0};
    unsigned no = 0;
    size_t n = 0;
    struct chart c;
    char text[160];

    snprintf(text, sizeof text, "%.60s: answers and silence", run->name);
    chart_open(&c, out, 760, 430, 212, text);
    c.x_min = 0;
    c.x_max = c.y_min = 1;
    for (size_t v = 0; v < run->n_variants; v++)
        if (run->variants[v].n_answered && !run->variants[v].added) {
            struct pd_interval i = pd_wilson(run->variants[v].n_right, run->variants[v].n_answered);

            c.y_min = i.low < c.y_min ? i.low : c.y_min;
        }
    c.y_max = 1;
    chart_round_rates(&c.y_min, &c.y_max);
    c.y_max = 1;
    chart_axes(&c, "share of the problems that are answered", "answers that are right", true);
    for (size_t v = 0; v <= run->n_variants; v++) {
        const struct report_variant *it = v < run->n_variants ? &run->variants[v] : NULL;

        if (it && (it->added || !it->n_answered))
            continue;
        if (entry && (!it || strcmp(it->entry, entry) != 0)) {
            chart_line(&c, line, n, s);
            for (size_t i = 0; i < n; i++)
                chart_marker(&c, line[i].x, line[i].y, s);
            chart_key(&c, entry, n > 1, true, s);
            no++;
            n = 0;
        }
        if (!it)
            break;
        entry = it->entry;
        s = (struct chart_style){.colour = no, .marker = no};
        if (n < sizeof line / sizeof *line) {
            struct pd_interval i = pd_wilson(it->n_right, it->n_answered);

            line[n++] = (struct chart_xy){(double)it->n_answered / (double)it->n,
                                          (double)it->n_right / (double)it->n_answered};
            chart_whisker(&c, line[n - 1].x, i.low, i.high, s);
            chart_note(&c, line[n - 1].x, i.high, what_varies(it));
        }
    }
    chart_close(&c);
    return entry ? 0 : nothing(err, "no job has an answer");
}
