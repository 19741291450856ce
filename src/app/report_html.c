/* A report as one HTML file without anything from elsewhere. */
#include <stdio.h>
#include <stdlib.h>

#include "app/chart.h"
#include "app/report.h"
#include "base/clock.h"
#include "base/file.h"

#define REPORT_MAX_BYTES ((size_t)64 << 20)

static const char style[] =
    "body{font:15px/1.5 Helvetica,Arial,'DejaVu Sans',sans-serif;color:#222;max-width:66em;"
    "margin:2em auto;padding:0 1em}"
    "h1{font-size:1.5em;margin-bottom:.2em}h2{font-size:1.15em;margin-top:2em}"
    "table{border-collapse:collapse;font-size:13px}"
    "th,td{padding:.25em .55em;border-bottom:1px solid #ddd;text-align:right;white-space:nowrap}"
    "th:first-child,td:first-child{text-align:left}thead th{border-bottom:1px solid #333}"
    "th{white-space:normal;vertical-align:bottom}.scroll{overflow-x:auto}svg{max-width:100%;height:"
    "auto}figure{margin:1em 0}"
    "figcaption,.note{color:#555;font-size:13px}code{font-size:12px}"
    "@media print{body{margin:0}}";

static void cell(struct pd_buf *out, const char *text)
{
    pd_buf_addz(out, "<td>");
    chart_escape(out, text);
    pd_buf_addz(out, "</td>");
}

static void table(const struct report_run *r, struct pd_buf *out)
{
    pd_buf_addz(out,
                "<h2>Comparison</h2>\n<div class=\"scroll\"><table><thead><tr><th>variant</th>"
                "<th>scorer</th><th>n</th><th>answered</th><th>accuracy</th><th>95 % "
                "interval</th><th>tokens</th>"
                "<th>seconds</th><th>majority, equal cost</th><th>difference</th><th>p (Holm)</th>"
                "</tr></thead><tbody>\n");
    for (size_t i = 0; i < r->n_variants; i++) {
        const struct report_variant *v = &r->variants[i];

        pd_buf_addz(out, "<tr>");
        cell(out, v->name);
        cell(out, v->scorer ? v->scorer : "");
        pd_buf_printf(out, "<td>%llu</td><td>%llu</td>", (unsigned long long)v->n,
                      (unsigned long long)v->n_answered);
        if (v->n)
            pd_buf_printf(out, "<td>%.3f</td><td>%.3f to %.3f</td><td>%.0f</td><td>%.2f</td>",
                          v->accuracy, v->interval.low, v->interval.high, v->tokens, v->seconds);
        if (v->n && v->has_base)
            pd_buf_printf(out, "<td>%s%.3f</td><td>%+.3f (%+.3f to %+.3f)</td><td>%s%.3f</td>",
                          v->base_short ? "&gt; " : "", v->base_accuracy,
                          v->accuracy - v->base_accuracy, v->difference.low, v->difference.high,
                          v->p_holm < 0.001 ? "&lt;" : "", v->p_holm < 0.001 ? 0.001 : v->p_holm);
        pd_buf_addz(out, "</tr>\n");
    }
    pd_buf_addz(out,
                "</tbody></table></div>\n<p class=\"note\">Intervals of accuracy are Wilson's. "
                "Tokens are all that a job generated, kept or not. ");
    if (r->lines_of) {
        pd_buf_addz(out, "The majority at equal cost is the vote of as many lines of <code>");
        chart_escape(out, r->lines_of);
        pd_buf_addz(
            out, "</code> as the variant's mean tokens pay for, on the same problems, averaged "
                 "over ways to "
                 "choose them (&gt;: often there were not enough lines, so more tokens might do "
                 "better). The "
                 "difference has a 95 % interval by paired bootstrap over problems; p is "
                 "McNemar's exact test against the first lines alone, corrected for all variants "
                 "by Holm's method. "
                 "Repeats of a problem count as pairs of their own in p, and as one problem "
                 "in the interval.");
    }
    pd_buf_addz(out, "</p>\n");
}

static void costs(const struct report_run *r, struct pd_buf *out)
{
    pd_buf_addz(out, "<h2>Costs of a job</h2>\n<div class=\"scroll\"><table data-testid=\"costs\">"
                     "<thead><tr><th>variant</th><th>tokens</th><th>in a row</th><th>prefilled</th>"
                     "<th>scored</th><th>FLOP</th><th>KV bytes</th><th>eFLOP</th><th>seconds</th>"
                     "<th>ideal seconds</th><th>joules</th></tr></thead><tbody>\n");
    for (size_t i = 0; i < r->n_variants; i++) {
        const struct report_variant *v = &r->variants[i];
        const double figures[] = {v->tokens,       v->sequential, v->prefilled,  v->scored,
                                  v->cost.flop,    v->cost.bytes, v->cost.eflop, v->seconds,
                                  v->cost.ideal_s, v->cost.joules};
        char text[16];

        if (!v->n)
            continue;
        pd_buf_addz(out, "<tr>");
        cell(out, v->name);
        for (size_t k = 0; k < sizeof figures / sizeof *figures; k++)
            cell(out, report_si(figures[k], text));
        pd_buf_addz(out, "</tr>\n");
    }
    pd_buf_addz(
        out,
        "</tbody></table></div>\n<p class=\"note\">In a row: tokens of the longest chain of "
        "steps that depend on one another. FLOP: two for each weight of the models and token, "
        "and attention; KV bytes: what decoding reads of the cache, a shared beginning once a "
        "step; eFLOP: both, a byte as 562.5 operations unless asked otherwise (Kinetics, arXiv "
        "2506.05333). Seconds are measured, jobs beside each other; ideal ones are of a job "
        "alone, by measurements of <code>ponder bench</code> (arXiv 2305.02440); joules are "
        "the machine's, shared out by seconds. -: not known.</p>\n");
}

static void coverage(const struct report_run *r, struct pd_buf *out)
{
    if (r->n_coverage < 2)
        return;
    pd_buf_addz(out,
                "<h2>Lines of thought</h2>\n<div class=\"scroll\"><table><thead><tr><th>k</th>");
    for (size_t k = 0; k < r->n_coverage; k++)
        pd_buf_printf(out, "<th>%.0f</th>", r->coverage[k].k);
    pd_buf_addz(out, "</tr></thead><tbody><tr><td>any of k right (pass@k)</td>");
    for (size_t k = 0; k < r->n_coverage; k++)
        pd_buf_printf(out, "<td>%.3f</td>", r->coverage[k].value);
    pd_buf_addz(out, "</tr><tr><td>majority of k</td>");
    for (size_t k = 0; k < r->n_coverage; k++)
        pd_buf_printf(out, "<td>%.3f</td>", r->majority[k].value);
    pd_buf_addz(out, "</tr></tbody></table></div>\n<p class=\"note\">");
    pd_buf_printf(out, "%llu lines of ", (unsigned long long)r->n_lines);
    chart_escape(out, r->lines_of);
    pd_buf_printf(out, ", %.1f %% right, %.0f tokens each.",
                  100 * (double)r->n_lines_right / (double)r->n_lines, r->line_tokens);
    if (r->fit.n_used > 2)
        pd_buf_printf(out, " pass@k is about exp(%.3f k<sup>%.3f</sup>), residual %.3f.", r->fit.a,
                      r->fit.b, r->fit.rms);
    pd_buf_printf(out,
                  " The majority saturates like %.3f (1 - (1 - %.3f)<sup>k</sup>), residual %.3f: "
                  "from %.0f lines on, one more gains less than a point.</p>\n",
                  r->saturation.f_max, r->saturation.p, r->saturation.rms,
                  pd_saturation_point(r->saturation.f_max, r->saturation.p, 0.01));
}

/* A row a rule, a column a number of lines. */
static void rules(const struct report_run *r, struct pd_buf *out)
{
    size_t n = r->n_coverage ? r->n_rules / r->n_coverage : 0;

    if (n < 2)
        return;
    pd_buf_addz(out, "<h2>Other rules on the same lines</h2>\n<div class=\"scroll\"><table><thead>"
                     "<tr><th>k</th>");
    for (size_t k = 0; k < r->n_coverage; k++)
        pd_buf_printf(out, "<th>%.0f</th>", r->coverage[k].k);
    pd_buf_addz(out, "</tr></thead><tbody>");
    for (size_t i = 0; i < n; i++) {
        pd_buf_printf(out, "<tr><td>%s</td>", r->rules[i].name);
        for (size_t k = 0; k < r->n_coverage; k++) {
            const struct report_rule *rule = &r->rules[k * n + i];

            pd_buf_printf(out, rule->best ? "<td><b>%.3f</b></td>" : "<td>%.3f</td>",
                          rule->accuracy);
        }
        pd_buf_addz(out, "</tr>");
    }
    pd_buf_addz(out,
                "</tbody></table></div>\n<p class=\"note\">What these rules make of k of the "
                "stored lines, without decoding anything again: votes that count lines, votes "
                "that add up rewards, and the line of greatest reward, with four ways to make "
                "one reward of those of the steps. Bold: better than everything cheaper.</p>\n");
}

/* Whether some job answered nothing. */
static bool abstains(const struct report_run *r)
{
    for (size_t i = 0; i < r->n_variants; i++)
        if (r->variants[i].n_answered < r->variants[i].n)
            return true;
    return false;
}

static void choices(const struct report_run *r, struct pd_buf *out)
{
    if (r->n_choices == 0)
        return;
    pd_buf_addz(out, "<h2>A strategy for each difficulty</h2>\n<div class=\"scroll\"><table><thead>"
                     "<tr><th>samples</th><th>variants</th><th>chosen by difficulty</th>"
                     "<th>tokens</th><th>one for all</th><th>tokens</th></tr></thead><tbody>\n");
    for (size_t i = 0; i < r->n_choices; i++) {
        const struct report_choice *c = &r->choices[i];

        pd_buf_printf(out,
                      "<tr><td>%llu</td><td>%llu</td><td>%.3f</td><td>%.0f</td><td>%.3f</td>"
                      "<td>%.0f</td></tr>\n",
                      (unsigned long long)c->samples, (unsigned long long)c->n_variants,
                      c->accuracy, c->tokens, c->one_accuracy, c->one_tokens);
    }
    pd_buf_addz(out,
                "</tbody></table></div>\n<p class=\"note\">The variant of each fifth of the "
                "problems, and one for all of them, chosen on half of the problems and told of "
                "the other half, and the other way round. How hard a problem is, is taken from "
                "its plain lines, whose tokens are not counted here.</p>\n");
}

static void figure(const struct report *rep, size_t i, const char *view, const char *caption,
                   struct pd_buf *out)
{
    const struct report one = {.runs = &rep->runs[i], .n_runs = 1};
    struct pd_err err;
    size_t len = out->len;

    pd_buf_printf(out, "<figure data-testid=\"%s\">\n", view);
    if (report_svg(&one, view, out, &err) < 0) {
        out->len = len; /* nothing of that kind */
        return;
    }
    pd_buf_printf(out, "<figcaption>%s</figcaption></figure>\n", caption);
}

static void run(const struct report *rep, size_t i, struct pd_buf *out)
{
    const struct report_run *r = &rep->runs[i];
    char when[PD_RFC3339_SIZE];

    pd_clock_rfc3339(r->created_ms, when);
    pd_buf_addz(out, "<h1>");
    chart_escape(out, r->name);
    pd_buf_addz(out, "</h1>\n<p class=\"note\">");
    pd_buf_printf(out, "%llu problems, ", (unsigned long long)r->n_problems);
    if (r->repeats > 1)
        pd_buf_printf(out, "%u times each, ", r->repeats);
    pd_buf_addz(out, "with ");
    chart_escape(out, r->model);
    pd_buf_printf(out,
                  "; %llu of %llu jobs done, %llu failed; %s<br>run <code>%s</code>, begun %s; "
                  "recipe SHA-256 <code>%.16s…</code></p>\n",
                  (unsigned long long)r->n_done, (unsigned long long)r->n_jobs,
                  (unsigned long long)r->n_failed,
                  r->reproducible ? "reproducible: recipe and lock give the same results anywhere"
                                  : "not reproducible: it has budgets of seconds",
                  r->id, when, r->recipe_sha256);
    if (r->views & RECIPE_SCALING)
        figure(rep, i, "scaling",
               "Accuracy against generated tokens per problem, with 95 % intervals (Wilson). "
               "Dashed: the majority vote at the same cost; dotted: problems that any of the lines "
               "solves, what a perfect verifier would reach. Points of the same cost stand side by side.",
               out);
    if (r->views & RECIPE_TABLE) {
        table(r, out);
        costs(r, out);
        coverage(r, out);
        rules(r, out);
    }
    if (r->views & RECIPE_STEPS)
        figure(rep, i, "steps",
               "What the scorer says of each step, of lines that end right and "
               "wrong.",
               out);
    if (r->views & RECIPE_LENGTH)
        figure(rep, i, "length", "Finished lines by their length, as many in each group.", out);
    if (r->views & RECIPE_RELIABILITY)
        figure(rep, i, "reliability",
               "How many of the lines with such a reward are right: on the diagonal, rewards would "
               "be probabilities.",
               out);
    if (r->views & RECIPE_DIFFICULTY) {
        figure(rep, i, "difficulty",
               "Accuracy on fifths of the problems, by how many of their plain lines are right.",
               out);
        choices(r, out);
    }
    if (r->views & RECIPE_ABSTENTION && abstains(r))
        figure(rep, i, "abstention",
               "How often a variant answers, and how often it is right when it does; beside the "
               "points the number of samples.",
               out);
    if (r->views & RECIPE_TREE)
        figure(rep, i, "tree", "One search, as far as it went.", out);
    if (r->views & RECIPE_TIMELINE)
        figure(rep, i, "timeline", "Its calls of the models; those above each other ran at a time.",
               out);
}

void report_html(const struct report *r, struct pd_buf *out)
{
    pd_buf_addz(out, "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">"
                     "<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">"
                     "<link rel=\"icon\" href=\"data:,\"><title>");
    chart_escape(out, r->n_runs ? r->runs[0].name : "report");
    pd_buf_printf(out, "</title><style>%s</style></head><body>\n", style);
    for (size_t i = 0; i < r->n_runs; i++)
        run(r, i, out);
    pd_buf_addz(out, "<p class=\"note\">ponder " PONDER_VERSION "</p>\n</body></html>\n");
}

static int write_one(const char *dir, const char *name, const struct pd_buf *b, struct pd_err *err)
{
    char *path = pd_path_join(dir, name);
    int rc = pd_buf_rc(b) < 0 || !path ? pd_fail(err, PD_ENOMEM, "out of memory for the report")
                                       : pd_write_file(path, pd_buf_str(b), err);

    free(path);
    return rc;
}

int report_write(const struct report *r, const char *dir, struct pd_err *err)
{
    static const char *const views[] = RECIPE_VIEWS;
    struct pd_buf b = PD_BUF_INIT(REPORT_MAX_BYTES);
    int rc = pd_mkdirs(dir, 0777, err);

    report_html(r, &b);
    if (rc == 0)
        rc = write_one(dir, "report.html", &b, err);
    pd_buf_clear(&b);
    report_csv(r, &b);
    if (rc == 0)
        rc = write_one(dir, "table.csv", &b, err);
    for (size_t i = 0; views[i] && rc == 0; i++) {
        char name[32];

        if (r->n_runs && !(r->runs[0].views >> i & 1))
            continue;

        pd_buf_clear(&b);
        snprintf(name, sizeof name, "%s.svg", views[i]);
        if (report_svg(r, views[i], &b, NULL) == 0) /* else there is nothing of the kind */
            rc = write_one(dir, name, &b, err);
    }
    pd_buf_done(&b);
    return rc;
}
