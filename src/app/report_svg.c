/* The pictures of a report. */
#include <stdio.h>
#include <stdlib.h>

#include "app/chart.h"
#include "app/report.h"

#define SERIES_MAX 64
#define POINTS_MAX 64
#define SHIFT      3.0 /* pixels between series of the same cost */

/* ---- accuracy against tokens ----------------------------------------------------------------- */

struct bounds {
    double x_min, x_max, y_min, y_max;
};

static void include(struct bounds *b, double x, double low, double high)
{
    b->x_min = x < b->x_min ? x : b->x_min;
    b->x_max = x > b->x_max ? x : b->x_max;
    b->y_min = low < b->y_min ? low : b->y_min;
    b->y_max = high > b->y_max ? high : b->y_max;
}

static struct bounds bounds_of(const struct report *r)
{
    struct bounds b = {1e300, 0, 1, 0};

    for (size_t i = 0; i < r->n_runs; i++) {
        const struct report_run *run = &r->runs[i];

        for (size_t v = 0; v < run->n_variants; v++)
            if (run->variants[v].n && run->variants[v].tokens > 0)
                include(&b, run->variants[v].tokens, run->variants[v].interval.low,
                        run->variants[v].interval.high);
        for (size_t k = 0; k < run->n_coverage; k++) {
            include(&b, run->coverage[k].tokens, run->coverage[k].value, run->coverage[k].value);
            include(&b, run->majority[k].tokens, run->majority[k].value, run->majority[k].value);
        }
    }
    return b;
}

static int by_tokens(const void *a, const void *b)
{
    const struct report_variant *x = *(const struct report_variant *const *)a,
                                *y = *(const struct report_variant *const *)b;

    return (x->tokens > y->tokens) - (x->tokens < y->tokens);
}

/* Other options than the number of samples make another line: the name without "@N". */
static void series_name(const struct report_variant *v, char out[96])
{
    const char *at = strchr(v->name, '@'), *rest = at ? at + strcspn(at, " ") : NULL;

    if (at)
        snprintf(out, 96, "%.*s%s", (int)(at - v->name), v->name, rest);
    else
        snprintf(out, 96, "%s", v->name);
}

static void draw_series(struct chart *c, const struct report_run *run, size_t first, unsigned no,
                        bool many_runs)
{
    const struct report_variant *points[POINTS_MAX];
    struct chart_style s = {.colour = no, .marker = no};
    struct chart_xy line[POINTS_MAX];
    char name[96], other[96], label[200];
    size_t n = 0;

    series_name(&run->variants[first], name);
    for (size_t v = first; v < run->n_variants && n < POINTS_MAX; v++) {
        series_name(&run->variants[v], other);
        if (strcmp(name, other) == 0 && run->variants[v].n && run->variants[v].tokens > 0)
            points[n++] = &run->variants[v];
    }
    if (n == 0)
        return;
    qsort(points, n, sizeof *points, by_tokens);
    for (size_t i = 0; i < n; i++)
        line[i] = (struct chart_xy){points[i]->tokens, points[i]->accuracy};
    for (size_t i = 0; i < n; i++)
        chart_whisker(c, points[i]->tokens, points[i]->interval.low, points[i]->interval.high, s);
    chart_line(c, line, n, s);
    for (size_t i = 0; i < n; i++)
        chart_marker(c, line[i].x, line[i].y, s);
    snprintf(label, sizeof label, "%s%s%s", many_runs ? run->name : "", many_runs ? ": " : "",
             name);
    chart_key(c, label, n > 1, true, s);
}

static bool starts_series(const struct report_run *run, size_t v)
{
    char name[96], other[96];

    series_name(&run->variants[v], name);
    for (size_t i = 0; i < v; i++) {
        series_name(&run->variants[i], other);
        if (strcmp(name, other) == 0)
            return false;
    }
    return !run->variants[v].added;
}

static int scaling(const struct report *r, struct pd_buf *out, struct pd_err *err)
{
    struct bounds b = bounds_of(r);
    struct chart_style grey = {.colour = CHART_GREY, .dash = 1};
    struct chart_xy line[REPORT_K_MAX];
    struct chart c;
    char title[160];
    unsigned no = 0, n_series = 0;

    if (b.x_max <= 0)
        return pd_fail(err, PD_EINVAL, "no job is done: there is nothing to draw");
    snprintf(title, sizeof title, "%.60s: accuracy against cost", r->runs[0].name);
    chart_open(&c, out, 760, 430, 212, title);
    c.x_log = true;
    c.x_min = b.x_min / 1.25;
    c.x_max = b.x_max * 1.25;
    c.y_min = b.y_min;
    c.y_max = b.y_max;
    chart_round_rates(&c.y_min, &c.y_max);
    chart_axes(&c, "generated tokens per problem (log scale)", "accuracy", true);
    for (size_t i = 0; i < r->n_runs; i++) {
        const struct report_run *run = &r->runs[i];

        for (size_t k = 0; k < run->n_coverage; k++)
            line[k] = (struct chart_xy){run->coverage[k].tokens, run->coverage[k].value};
        grey.dash = 2;
        chart_line(&c, line, run->n_coverage, grey);
        for (size_t k = 0; k < run->n_coverage; k++)
            line[k] = (struct chart_xy){run->majority[k].tokens, run->majority[k].value};
        grey.dash = 1;
        chart_line(&c, line, run->n_coverage, grey);
    }
    for (size_t i = 0; i < r->n_runs; i++)
        for (size_t v = 0; v < r->runs[i].n_variants; v++)
            n_series += starts_series(&r->runs[i], v);
    for (size_t i = 0; i < r->n_runs; i++)
        for (size_t v = 0; v < r->runs[i].n_variants; v++) {
            c.shift = SHIFT * (no - (n_series - 1) / 2.0);
            if (starts_series(&r->runs[i], v))
                draw_series(&c, &r->runs[i], v, no++, r->n_runs > 1);
        }
    c.shift = 0;
    if (r->runs[0].n_coverage > 1) {
        grey.dash = 1;
        chart_key(&c, "majority, equal cost", true, false, grey);
        grey.dash = 2;
        chart_key(&c, "any line right (pass@k)", true, false, grey);
    }
    chart_close(&c);
    return 0;
}

/* ---- step rewards ---------------------------------------------------------------------------- */

/* Depths that few lines reach say nothing. */
static size_t depths_shown(const struct report_fan *f)
{
    size_t n = 0;

    while (n < f->n_depths && f->n[n] >= 5)
        n++;
    return n;
}

static void draw_fan(struct chart *c, const struct report_fan *f, const char *label,
                     struct chart_style s)
{
    struct chart_xy q[REPORT_QUANTILES][REPORT_DEPTH_MAX];
    size_t n = depths_shown(f);

    for (size_t k = 0; k < REPORT_QUANTILES; k++)
        for (size_t d = 0; d < n; d++)
            q[k][d] = (struct chart_xy){(double)d + 1, f->q[d][k]};
    s.opacity = 0.14;
    chart_band(c, q[0], q[4], n, s);
    s.opacity = 0.22;
    chart_band(c, q[1], q[3], n, s);
    chart_line(c, q[2], n, s);
    for (size_t d = 0; d < n; d++)
        chart_marker(c, q[2][d].x, q[2][d].y, s);
    chart_key(c, label, true, true, s);
}

static int steps(const struct report *r, struct pd_buf *out, struct pd_err *err)
{
    const struct report_run *run = &r->runs[0];
    size_t right = depths_shown(&run->right), wrong = depths_shown(&run->wrong);
    size_t depths = right > wrong ? right : wrong;
    struct chart c;
    char title[160];

    if (!run->fan_of)
        return pd_fail(err, PD_EINVAL,
                       "no lines of best_of_n were scored: there is nothing to draw");
    snprintf(title, sizeof title, "%.60s: rewards of steps", run->name);
    chart_open(&c, out, 760, 380, 212, title);
    c.x_min = 0.7;
    c.x_max = (double)(depths > 1 ? depths : 2) + 0.3;
    c.y_min = 0;
    c.y_max = 1;
    chart_axes(&c, "step", "reward", false);
    draw_fan(&c, &run->wrong, "lines that end wrong",
             (struct chart_style){.colour = 1, .marker = 1, .dash = 1});
    draw_fan(&c, &run->right, "lines that end right", (struct chart_style){.colour = 0});
    chart_key(&c, "median; 25 to 75 %,", false, false, (struct chart_style){0});
    chart_key(&c, "10 to 90 % of the lines", false, false, (struct chart_style){0});
    chart_close(&c);
    return 0;
}

/* ---- length against correctness -------------------------------------------------------------- */

static int length(const struct report *r, struct pd_buf *out, struct pd_err *err)
{
    const struct report_run *run = &r->runs[0];
    struct chart_style s = {.colour = 0};
    struct chart_style mean = {.colour = CHART_GREY, .dash = 1};
    struct chart_xy line[REPORT_BINS], level[2];
    uint64_t n = 0, n_right = 0;
    double high = 0;
    struct chart c;
    char title[160], text[64];

    if (!run->n_bins)
        return pd_fail(err, PD_EINVAL, "no plain line has ended: there is nothing to draw");
    for (size_t i = 0; i < run->n_bins; i++) {
        high = run->bins[i].interval.high > high ? run->bins[i].interval.high : high;
        n += run->bins[i].n;
        n_right += run->bins[i].n_right;
    }
    snprintf(title, sizeof title, "%.60s: length against correctness", run->name);
    chart_open(&c, out, 760, 380, 212, title);
    c.x_log = true;
    c.x_min = run->bins[0].tokens / 1.2;
    c.x_max = run->bins[run->n_bins - 1].tokens * 1.2;
    c.y_min = 0;
    c.y_max = high + 0.04;
    chart_round_rates(&c.y_min, &c.y_max);
    c.y_max = c.y_max > 1 ? 1 : c.y_max;
    chart_axes(&c, "tokens of a finished line (log scale)", "lines that are right", true);
    level[0] = (struct chart_xy){c.x_min, (double)n_right / (double)n};
    level[1] = (struct chart_xy){c.x_max, (double)n_right / (double)n};
    chart_line(&c, level, 2, mean);
    for (size_t i = 0; i < run->n_bins; i++) {
        const struct report_bin *b = &run->bins[i];

        line[i] = (struct chart_xy){b->tokens, (double)b->n_right / (double)b->n};
        chart_whisker(&c, b->tokens, b->interval.low, b->interval.high, s);
    }
    chart_line(&c, line, run->n_bins, s);
    for (size_t i = 0; i < run->n_bins; i++) {
        chart_marker(&c, line[i].x, line[i].y, s);
        snprintf(text, sizeof text, "n=%llu", (unsigned long long)run->bins[i].n);
        chart_note(&c, line[i].x, run->bins[i].interval.high, text);
    }
    chart_key(&c, "lines by length", true, true, s);
    chart_key(&c, "all lines", true, false, mean);
    chart_close(&c);
    return 0;
}

int report_svg(const struct report *r, const char *view, struct pd_buf *out, struct pd_err *err)
{
    if (strcmp(view, "scaling") == 0)
        return scaling(r, out, err);
    if (strcmp(view, "steps") == 0)
        return steps(r, out, err);
    return length(r, out, err);
}
