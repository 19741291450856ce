/* A report for the terminal: tables, and a chart in braille dots or plain ASCII. */
#include <math.h>
#include <stdio.h>

#include "app/report.h"

#define COLUMNS 64 /* of the chart, in characters */
#define ROWS    16
#define DOTS_X  (2 * COLUMNS) /* braille has 2 by 4 dots a character */
#define DOTS_Y  (4 * ROWS)

struct canvas {
    unsigned char dots[ROWS][COLUMNS];
    char letters[ROWS][COLUMNS]; /* 0: none */
    double x_min, x_max, y_min, y_max;
};

static double at_x(const struct canvas *c, double x)
{
    return (log(x) - log(c->x_min)) / (log(c->x_max) - log(c->x_min)) * (DOTS_X - 1);
}

static double at_y(const struct canvas *c, double y)
{
    return (1 - (y - c->y_min) / (c->y_max - c->y_min)) * (DOTS_Y - 1);
}

static void dot(struct canvas *c, double x, double y)
{
    static const unsigned char bit[4][2] = {{0x01, 0x08}, {0x02, 0x10}, {0x04, 0x20}, {0x40, 0x80}};
    int i = (int)lround(x), k = (int)lround(y);

    if (i >= 0 && i < DOTS_X && k >= 0 && k < DOTS_Y)
        c->dots[k / 4][i / 2] |= bit[k % 4][i % 2];
}

static void line(struct canvas *c, double x0, double y0, double x1, double y1)
{
    double ax = at_x(c, x0), ay = at_y(c, y0), bx = at_x(c, x1), by = at_y(c, y1);
    int n = (int)(fabs(bx - ax) > fabs(by - ay) ? fabs(bx - ax) : fabs(by - ay)) + 1;

    for (int i = 0; i <= n; i++)
        dot(c, ax + (bx - ax) * i / n, ay + (by - ay) * i / n);
}

static void letter(struct canvas *c, double x, double y, char z)
{
    int i = (int)lround(at_x(c, x)) / 2, k = (int)lround(at_y(c, y)) / 4;

    if (i >= 0 && i < COLUMNS && k >= 0 && k < ROWS)
        c->letters[k][i] = c->letters[k][i] && c->letters[k][i] != z ? '*' : z;
}

static void add_dots(struct pd_buf *out, unsigned char dots, bool ascii)
{
    if (!dots)
        pd_buf_addc(out, ' ');
    else if (ascii)
        pd_buf_addc(out, '.');
    else /* U+2800 and the dots, in UTF-8 */
        pd_buf_printf(out, "\xe2%c%c", 0xa0 | dots >> 6, 0x80 | (dots & 0x3f));
}

static bool is_shown(const struct report *rep, const struct report_variant *v)
{
    return v->n && !v->added && report_x(rep, v) > 0;
}

static void chart(const struct report *rep, const struct report_run *r, bool ascii,
                  struct pd_buf *out)
{
    struct canvas c = {.x_min = 1e300, .x_max = 0, .y_min = 1, .y_max = 0};
    char z = 'a', label[96], low[16], high[16];
    bool drawn = false;

    for (size_t i = 0; i < r->n_variants; i++) {
        const struct report_variant *v = &r->variants[i];
        double x = report_x(rep, v);

        if (!is_shown(rep, v))
            continue;
        c.x_min = x < c.x_min ? x : c.x_min;
        c.x_max = x > c.x_max ? x : c.x_max;
        c.y_min = v->accuracy < c.y_min ? v->accuracy : c.y_min;
        c.y_max = v->accuracy > c.y_max ? v->accuracy : c.y_max;
    }
    if (c.x_max <= 0)
        return;
    for (size_t i = 0; i < r->n_coverage; i++)
        if (report_x_of_lines(rep, r, r->majority[i].k) <= c.x_max) {
            c.y_min = r->majority[i].value < c.y_min ? r->majority[i].value : c.y_min;
            c.y_max = r->majority[i].value > c.y_max ? r->majority[i].value : c.y_max;
        }
    c.x_min /= 1.1;
    c.x_max *= 1.1;
    c.y_min = floor(c.y_min * 20) / 20;
    c.y_max = ceil(c.y_max * 20 + 1e-9) / 20;
    for (size_t i = 1; i < r->n_coverage; i++)
        if (report_x_of_lines(rep, r, r->majority[i].k) <= c.x_max) {
            line(&c, report_x_of_lines(rep, r, r->majority[i - 1].k), r->majority[i - 1].value,
                 report_x_of_lines(rep, r, r->majority[i].k), r->majority[i].value);
            drawn = true;
        }
    for (size_t i = 0; i < r->n_variants; i++)
        if (is_shown(rep, &r->variants[i]) && z <= 'z')
            letter(&c, report_x(rep, &r->variants[i]), r->variants[i].accuracy, z++);
    pd_buf_addz(out, "\n  accuracy\n");
    for (int k = 0; k < ROWS; k++) {
        double y = c.y_max - (c.y_max - c.y_min) * k / (ROWS - 1);

        if (k % 5 == 0)
            pd_buf_printf(out, "%6.0f %% %s", 100 * y, ascii ? "|" : "┤");
        else
            pd_buf_printf(out, "%8s %s", "", ascii ? "|" : "│");
        for (int i = 0; i < COLUMNS; i++)
            if (c.letters[k][i])
                pd_buf_addc(out, c.letters[k][i]);
            else
                add_dots(out, c.dots[k][i], ascii);
        pd_buf_addc(out, '\n');
    }
    pd_buf_printf(out, "%9s%s", "", ascii ? "+" : "└");
    for (int i = 0; i < COLUMNS; i++)
        pd_buf_addz(out, ascii ? "-" : "─");
    snprintf(label, sizeof label, "%s (log)", report_x_label(rep->x));
    pd_buf_printf(out, "\n%10s%-*s%*s\n%10s%*s\n", "", COLUMNS / 2, report_si(c.x_min, low),
                  COLUMNS / 2, report_si(c.x_max, high), "", COLUMNS / 2 + 18, label);
    z = 'a';
    for (size_t i = 0; i < r->n_variants && z <= 'z'; i++)
        if (is_shown(rep, &r->variants[i]))
            pd_buf_printf(out, "  %c %s\n", z++, r->variants[i].name);
    if (drawn)
        pd_buf_printf(out, "  %s majority at equal cost; * two at one place\n",
                      ascii ? "." : "\xe2\xa0\x92");
}

static void table(const struct report_run *r, struct pd_buf *out)
{
    pd_buf_printf(out, "%-30s %5s %8s %16s %9s %9s %19s %8s\n", "variant", "n", "accuracy",
                  "95 % interval", "tokens", "majority", "difference", "p (Holm)");
    for (size_t i = 0; i < r->n_variants; i++) {
        const struct report_variant *v = &r->variants[i];

        if (!v->n) {
            pd_buf_printf(out, "%-30s %5s\n", v->name, "0");
            continue;
        }
        pd_buf_printf(out, "%-30s %5llu %8.3f   %.3f to %.3f %9.0f", v->name,
                      (unsigned long long)v->n, v->accuracy, v->interval.low, v->interval.high,
                      v->tokens);
        if (v->has_base)
            pd_buf_printf(out, " %8.3f%s %+6.3f to %+6.3f %*s%.3f", v->base_accuracy,
                          v->base_short ? ">" : " ", v->difference.low, v->difference.high,
                          v->p_holm < 0.001 ? 4 : 3, v->p_holm < 0.001 ? "<" : "",
                          v->p_holm < 0.001 ? 0.001 : v->p_holm);
        if (v->n_failed)
            pd_buf_printf(out, "  %llu failed", (unsigned long long)v->n_failed);
        pd_buf_addc(out, '\n');
    }
}

/* Only when some job did. */
static void abstained(const struct report_run *r, struct pd_buf *out)
{
    bool any = false;

    for (size_t i = 0; i < r->n_variants; i++) {
        const struct report_variant *v = &r->variants[i];

        if (v->n_answered == v->n || v->n == 0)
            continue;
        if (!any)
            pd_buf_printf(out, "\n%-30s %9s %22s\n", "not always an answer", "answered",
                          "right of the answers");
        any = true;
        pd_buf_printf(out, "%-30s %9.3f", v->name, (double)v->n_answered / (double)v->n);
        if (v->n_answered)
            pd_buf_printf(out, " %22.3f", (double)v->n_right / (double)v->n_answered);
        pd_buf_addc(out, '\n');
    }
}

/* Accuracy on fifths of the problems, and what choosing by them would gain. */
static void choices(const struct report_run *r, struct pd_buf *out)
{
    if (r->n_choices == 0)
        return;
    pd_buf_printf(out, "\n%-30s", "accuracy, easy to hard");
    for (size_t b = 0; b < r->n_difficulties; b++)
        if (r->difficulty[b].n_problems)
            pd_buf_printf(out, " %4.0f-%3.0f%%", 100 * r->difficulty[b].low,
                          100 * r->difficulty[b].high);
    pd_buf_addc(out, '\n');
    for (size_t v = 0; v < r->n_variants; v++) {
        if (r->variants[v].added || !r->variants[v].n)
            continue;
        pd_buf_printf(out, "%-30s", r->variants[v].name);
        for (size_t b = 0; b < r->n_difficulties; b++)
            if (r->difficulty[b].variants[v].n)
                pd_buf_printf(out, " %9.3f",
                              (double)r->difficulty[b].variants[v].n_right /
                                  (double)r->difficulty[b].variants[v].n);
            else if (r->difficulty[b].n_problems)
                pd_buf_printf(out, " %9s", "-");
        pd_buf_addc(out, '\n');
    }
    for (size_t i = 0; i < r->n_choices; i++)
        pd_buf_printf(out,
                      "of %llu variants with %llu samples: %.3f for %.0f tokens when chosen by "
                      "difficulty, %.3f for %.0f when one for all\n",
                      (unsigned long long)r->choices[i].n_variants,
                      (unsigned long long)r->choices[i].samples, r->choices[i].accuracy,
                      r->choices[i].tokens, r->choices[i].one_accuracy, r->choices[i].one_tokens);
}

static void costs(const struct report_run *r, struct pd_buf *out)
{
    pd_buf_printf(out, "\n%-30s %9s %9s %9s %9s %9s %9s %9s\n", "cost a job", "in a row", "FLOP",
                  "KV bytes", "eFLOP", "seconds", "ideal s", "joules");
    for (size_t i = 0; i < r->n_variants; i++) {
        const struct report_variant *v = &r->variants[i];
        const double figures[] = {v->sequential, v->cost.flop,    v->cost.bytes, v->cost.eflop,
                                  v->seconds,    v->cost.ideal_s, v->cost.joules};
        char text[16];

        if (!v->n)
            continue;
        pd_buf_printf(out, "%-30s", v->name);
        for (size_t k = 0; k < sizeof figures / sizeof *figures; k++)
            pd_buf_printf(out, " %9s", report_si(figures[k], text));
        pd_buf_addc(out, '\n');
    }
}

/* The cheapest way to each accuracy that other rules would have reached. */
static void rules(const struct report_run *r, struct pd_buf *out)
{
    if (r->n_coverage < 2)
        return;
    pd_buf_addz(out, "best of other rules on the same lines\n");
    for (size_t i = 0; i < r->n_rules; i++)
        if (r->rules[i].best)
            pd_buf_printf(out, "  %-14s of %-4.0f %.3f for %.0f tokens\n", r->rules[i].name,
                          r->rules[i].k, r->rules[i].accuracy, r->rules[i].tokens);
}

void report_text(const struct report *rep, bool ascii, struct pd_buf *out)
{
    for (size_t i = 0; i < rep->n_runs; i++) {
        const struct report_run *r = &rep->runs[i];
        bool too_few = false;

        pd_buf_printf(out, "%s%s  %s\n%llu problems", i ? "\n" : "", r->name, r->id,
                      (unsigned long long)r->n_problems);
        if (r->repeats > 1)
            pd_buf_printf(out, ", %u times each", r->repeats);
        pd_buf_printf(out, ", on %s; %llu of %llu jobs done%s\n\n", r->model,
                      (unsigned long long)r->n_done, (unsigned long long)r->n_jobs,
                      r->reproducible ? "" : "; budgets of seconds: another time, another result");
        table(r, out);
        for (size_t v = 0; v < r->n_variants; v++)
            too_few |= r->variants[v].base_short;
        if (r->lines_of)
            pd_buf_printf(
                out,
                "majority: the vote of as many lines of %s as the mean tokens pay "
                "for%s\ndifference: paired bootstrap over problems; p: McNemar, corrected "
                "for all variants\n",
                r->lines_of,
                too_few ? " (>: there were too few, more tokens might do better)" : "");
        else
            pd_buf_addz(out,
                        "no majority at equal cost: no lines of self_consistency or best_of_n\n");
        if (r->n_coverage > 1) {
            pd_buf_printf(out, "\n%llu lines, %.3f right, %.0f tokens each\n%-10s",
                          (unsigned long long)r->n_lines,
                          (double)r->n_lines_right / (double)r->n_lines, r->line_tokens, "k");
            for (size_t k = 0; k < r->n_coverage; k++)
                pd_buf_printf(out, "%8.0f", r->coverage[k].k);
            pd_buf_printf(out, "\n%-10s", "pass@k");
            for (size_t k = 0; k < r->n_coverage; k++)
                pd_buf_printf(out, "%8.3f", r->coverage[k].value);
            pd_buf_printf(out, "\n%-10s", "majority");
            for (size_t k = 0; k < r->n_coverage; k++)
                pd_buf_printf(out, "%8.3f", r->majority[k].value);
            pd_buf_addc(out, '\n');
        }
        if (r->fit.n_used > 2)
            pd_buf_printf(out, "pass@k is about exp(%.3f k^%.3f), within %.3f\n", r->fit.a,
                          r->fit.b, r->fit.rms);
        rules(r, out);
        abstained(r, out);
        choices(r, out);
        costs(r, out);
        chart(rep, r, ascii, out);
    }
}
