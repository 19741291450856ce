/* The pictures of a report. */
#include <stdio.h>
#include <stdlib.h>

#include "app/chart.h"
#include "app/report.h"

#define SERIES_MAX 64
#define POINTS_MAX 64
#define SHIFT      3.0 /* pixels between series of the same cost */

/* ---- accuracy against tokens ----------------------------------------------------------------- */

struct chart_point {
    struct chart_xy at;
    struct pd_interval interval;
};

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

/* It has a place on the axis. */
static bool is_shown(const struct report *r, const struct report_variant *v)
{
    return v->n && report_x(r, v) > 0;
}

static struct bounds bounds_of(const struct report *r)
{
    struct bounds b = {1e300, 0, 1, 0};

    for (size_t i = 0; i < r->n_runs; i++) {
        const struct report_run *run = &r->runs[i];

        for (size_t v = 0; v < run->n_variants; v++)
            if (is_shown(r, &run->variants[v]))
                include(&b, report_x(r, &run->variants[v]), run->variants[v].interval.low,
                        run->variants[v].interval.high);
        for (size_t k = 0; k < run->n_coverage; k++) {
            double x = report_x_of_lines(r, run, run->coverage[k].k);

            if (x > 0) { /* not when it is not known */
                include(&b, x, run->coverage[k].value, run->coverage[k].value);
                include(&b, x, run->majority[k].value, run->majority[k].value);
            }
        }
    }
    return b;
}

static int by_x(const void *a, const void *b)
{
    const struct chart_point *x = a, *y = b;

    return (x->at.x > y->at.x) - (x->at.x < y->at.x);
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

static void draw_series(struct chart *c, const struct report *r, const struct report_run *run,
                        size_t first, unsigned no)
{
    struct chart_point points[POINTS_MAX];
    struct chart_style s = {.colour = no, .marker = no + no / 7}; /* no two series alike */
    struct chart_xy line[POINTS_MAX];
    char name[96], other[96], label[200];
    size_t n = 0;

    series_name(&run->variants[first], name);
    for (size_t v = first; v < run->n_variants && n < POINTS_MAX; v++) {
        series_name(&run->variants[v], other);
        if (strcmp(name, other) == 0 && is_shown(r, &run->variants[v]))
            points[n++] =
                (struct chart_point){{report_x(r, &run->variants[v]), run->variants[v].accuracy},
                                     run->variants[v].interval};
    }
    if (n == 0)
        return;
    qsort(points, n, sizeof *points, by_x);
    for (size_t i = 0; i < n; i++)
        line[i] = points[i].at;
    for (size_t i = 0; i < n; i++)
        chart_whisker(c, line[i].x, points[i].interval.low, points[i].interval.high, s);
    chart_line(c, line, n, s);
    for (size_t i = 0; i < n; i++)
        chart_marker(c, line[i].x, line[i].y, s);
    snprintf(label, sizeof label, "%s%s%s", r->n_runs > 1 ? run->name : "",
             r->n_runs > 1 ? ": " : "", name);
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
    bool has_lines = false;
    unsigned no = 0, n_series = 0;

    if (b.x_max <= 0)
        return r->x == REPORT_X_TOKENS
                   ? pd_fail(err, PD_EINVAL, "no job is done: there is nothing to draw")
                   : pd_fail(err, PD_EINVAL, "%s are not known of any variant: nothing to draw",
                             report_x_label(r->x));
    snprintf(title, sizeof title, "%.60s: accuracy against cost", r->runs[0].name);
    chart_open(&c, out, 760, 430, 212, title);
    c.x_log = true;
    c.x_min = b.x_min / 1.25;
    c.x_max = b.x_max * 1.25;
    c.y_min = b.y_min;
    c.y_max = b.y_max;
    chart_round_rates(&c.y_min, &c.y_max);
    snprintf(title, sizeof title, "%s (log scale)", report_x_label(r->x));
    chart_axes(&c, title, "accuracy", true);
    for (size_t i = 0; i < r->n_runs; i++) {
        const struct report_run *run = &r->runs[i];

        if (!(report_x_of_lines(r, run, 1) > 0))
            continue;
        has_lines |= run->n_coverage > 1;
        for (size_t k = 0; k < run->n_coverage; k++)
            line[k] = (struct chart_xy){report_x_of_lines(r, run, run->coverage[k].k),
                                        run->coverage[k].value};
        grey.dash = 2;
        chart_line(&c, line, run->n_coverage, grey);
        for (size_t k = 0; k < run->n_coverage; k++)
            line[k].y = run->majority[k].value;
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
                draw_series(&c, r, &r->runs[i], v, no++);
        }
    c.shift = 0;
    if (has_lines) {
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
    c.x_whole = true;
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

static int of_example(const struct report *r, bool tree, struct pd_buf *out, struct pd_err *err)
{
    const struct pd_trace *t = r->runs[0].example;

    if (!t)
        return pd_fail(err, PD_EINVAL, "no job of the run can be drawn (--job names one)");
    return tree ? report_svg_tree(t, out, err) : report_svg_timeline(t, out, err);
}

int report_svg(const struct report *r, const char *view, struct pd_buf *out, struct pd_err *err)
{
    static const struct {
        const char *view;
        int (*draw)(const struct report *r, struct pd_buf *out, struct pd_err *err);
    } views[] = {
        {"scaling", scaling},
        {"table", report_svg_table},
        {"steps", steps},
        {"length", length},
        {"reliability", report_svg_reliability},
        {"difficulty", report_svg_difficulty},
        {"abstention", report_svg_abstention},
    };

    for (size_t i = 0; i < sizeof views / sizeof *views; i++)
        if (strcmp(view, views[i].view) == 0)
            return views[i].draw(r, out, err);
    return of_example(r, strcmp(view, "tree") == 0, out, err);
}
