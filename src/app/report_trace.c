/* Pictures of one job: its search as a tree over tokens, and its calls over time. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "app/chart.h"
#include "app/report.h"

#define ROW_PX    16.0
#define LANE_PX   12.0
#define ROWS_MAX  2000 /* a picture that is longer is not looked at */
#define LEGEND_PX 190.0

/* ---- the tree -------------------------------------------------------------------------------- */

struct place {
    size_t parent, first, last, next; /* children; SIZE_MAX: none */
    double from, to;                  /* tokens behind the prompt's begin */
    double row;
    bool answers; /* it is on the answer's line */
};

static size_t find(const struct pd_trace *t, uint32_t id)
{
    size_t low = 0, high = t->n_nodes;

    while (low < high) {
        size_t mid = low + (high - low) / 2;

        if (t->nodes[mid].id < id)
            low = mid + 1;
        else
            high = mid;
    }
    return low < t->n_nodes && t->nodes[low].id == id ? low : SIZE_MAX;
}

static void link_nodes(const struct pd_trace *t, struct place *p)
{
    for (size_t i = 0; i < t->n_nodes; i++) {
        size_t up = i ? find(t, t->nodes[i].parent) : SIZE_MAX;

        p[i] = (struct place){up < i ? up : SIZE_MAX, SIZE_MAX, SIZE_MAX, SIZE_MAX, 0, 0, 0, false};
        up = p[i].parent; /* a parent comes before its children */
        p[i].from = up == SIZE_MAX ? 0 : p[up].to;
        p[i].to = p[i].from + (up == SIZE_MAX ? 0 : t->nodes[i].n_tokens);
        if (up == SIZE_MAX)
            continue;
        if (p[up].first == SIZE_MAX)
            p[up].first = i;
        else
            p[p[up].last].next = i;
        p[up].last = i;
    }
    if (t->job.answer_node >= 0)
        for (size_t i = find(t, (uint32_t)t->job.answer_node); i != SIZE_MAX; i = p[i].parent)
            p[i].answers = true;
}

/* Leaves are rows from the top, a node stands in the middle of its children. Returns the rows. */
static size_t lay_out(struct place *p, size_t n)
{
    size_t rows = 0, i = 0;

    while (i < n) { /* depth first; down as long as there are children */
        if (p[i].first != SIZE_MAX) {
            i = p[i].first;
            continue;
        }
        p[i].row = (double)rows++;
        while (i != SIZE_MAX && p[i].next == SIZE_MAX) {
            i = p[i].parent;
            if (i != SIZE_MAX)
                p[i].row = (p[p[i].first].row + p[p[i].last].row) / 2;
        }
        if (i == SIZE_MAX)
            break;
        i = p[i].next;
    }
    return rows;
}

static void draw_edge(struct chart *c, const struct pd_trace *t, const struct place *p, size_t i)
{
    const struct pd_node_rec *n = &t->nodes[i];
    const struct pd_score_rec *s = pd_trace_score(t, n->id);
    bool pruned = strcmp(n->status, "pruned") == 0 || strcmp(n->status, "failed") == 0;
    double y = c->top + (p[i].row + 0.5) * ROW_PX,
           up = c->top + (p[p[i].parent].row + 0.5) * ROW_PX;
    double from = chart_px(c, p[i].from), to = chart_px(c, p[i].to);
    char colour[8] = "#999999";
    double value = s ? (s->n_steps ? s->steps[s->n_steps - 1] : s->value) : 0;

    if (s)
        chart_shade(value, colour);
    chart_rule(c, from, up, from, y, 0.8, "", "#999999");
    chart_rule(c, from, y, to, y, p[i].answers ? 5 : 3, pruned ? "2 2" : "", colour);
    if (p[i].answers)
        chart_rule(c, from, y + 4, to, y + 4, 1.2, "", "#000000");
    if (strcmp(n->status, "finished") == 0)
        pd_buf_printf(c->out,
                      "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"3.6\" fill=\"%s\" "
                      "stroke=\"#000000\" stroke-width=\"%s\"/>\n",
                      to, y, colour, p[i].answers ? "2" : "0.8");
    else if (pruned)
        pd_buf_printf(c->out,
                      "<path d=\"M%.1f %.1fl5 5m0 -5l-5 5\" stroke=\"#555555\" "
                      "fill=\"none\"/>\n",
                      to - 2, y - 2.5);
}

static void tree_key(struct chart *c)
{
    double x = c->right + 16, y = c->top + 6;
    char colour[8];

    for (int i = 0; i <= 10; i++) {
        chart_shade(i / 10.0, colour);
        pd_buf_printf(c->out,
                      "<rect x=\"%.1f\" y=\"%.1f\" width=\"10\" height=\"10\" fill=\"%s\"/>\n",
                      x + 10 * i, y, colour);
    }
    chart_text(c, x, y + 26, "start", "0");
    chart_text(c, x + 110, y + 26, "end", "1");
    chart_text(c, x + 55, y + 26, "middle", "reward");
    chart_rule(c, x, y + 44, x + 30, y + 44, 3, "", "#999999");
    chart_text(c, x + 38, y + 48, "start", "not scored");
    chart_rule(c, x, y + 62, x + 30, y + 62, 3, "2 2", "#999999");
    chart_text(c, x + 38, y + 66, "start", "\xc3\x97 given up");
    pd_buf_printf(c->out,
                  "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"3.6\" fill=\"#ffffff\" "
                  "stroke=\"#000000\" stroke-width=\"0.8\"/>\n",
                  x + 15, y + 80);
    chart_text(c, x + 38, y + 84, "start", "finished");
    chart_rule(c, x, y + 98, x + 30, y + 98, 1.2, "", "#000000");
    chart_text(c, x + 38, y + 102, "start", "the answer's line");
}

static double picture_height(double rows, double row_px)
{
    double height = rows * row_px + 94;

    return height < 230 ? 230 : height;
}

static void title_of(const struct pd_trace *t, const char *what, char out[200])
{
    snprintf(out, 200, "%s of %.40s on %.40s: %.40s%s", what,
             t->job.variant ? t->job.variant : t->job.strategy,
             t->job.problem_key ? t->job.problem_key : "a question",
             t->job.answer ? t->job.answer : "no answer",
             t->job.correct < 0    ? ""
             : t->job.correct == 1 ? ", right"
                                   : ", wrong");
}

int report_svg_tree(const struct pd_trace *t, struct pd_buf *out, struct pd_err *err)
{
    struct place *p = calloc(t->n_nodes + 1, sizeof *p);
    double most = 1;
    size_t rows;
    struct chart c;
    char title[200];

    if (!p)
        return pd_fail(err, PD_ENOMEM, "out of memory for the picture");
    link_nodes(t, p);
    rows = lay_out(p, t->n_nodes);
    if (t->n_nodes < 2 || rows > ROWS_MAX) {
        free(p);
        return pd_fail(err, PD_EINVAL,
                       t->n_nodes < 2 ? "job %s has no nodes: there is nothing to draw"
                                      : "job %s has more branches than a picture can show",
                       t->job.id);
    }
    for (size_t i = 0; i < t->n_nodes; i++)
        most = p[i].to > most ? p[i].to : most;
    title_of(t, "Search", title);
    chart_open(&c, out, 860, picture_height((double)rows, ROW_PX), LEGEND_PX, title);
    c.left = 24;
    c.x_min = 0;
    c.x_max = most * 1.02;
    chart_x_axis(&c, "tokens behind the prompt");
    for (size_t i = 1; i < t->n_nodes; i++)
        if (p[i].parent != SIZE_MAX)
            draw_edge(&c, t, p, i);
    tree_key(&c);
    chart_close(&c);
    free(p);
    return 0;
}

/* ---- the timeline ---------------------------------------------------------------------------- */

static const char *const ops[] = {"generate", "prefill", "score", "read"};
static const char *const op_labels[] = {"decoding", "reading a prompt", "scoring", "asking"};
#define N_OPS (sizeof ops / sizeof *ops)

static size_t op_of(const struct pd_call_rec *call)
{
    size_t i = 0;

    while (i + 1 < N_OPS && strcmp(ops[i], call->op) != 0)
        i++;
    return i;
}

static int64_t end_of(const struct pd_call_rec *call)
{
    return call->ended_ms > call->started_ms ? call->ended_ms : call->started_ms;
}

/* The first row that is free when the call begins. */
static size_t row_for(int64_t *free_from, size_t *io_rows, const struct pd_call_rec *call)
{
    size_t row = 0;

    while (row < *io_rows && free_from[row] > call->started_ms)
        row++;
    if (row == *io_rows)
        ++*io_rows;
    free_from[row] = end_of(call) > call->started_ms ? end_of(call) : call->started_ms + 1;
    return row;
}

int report_svg_timeline(const struct pd_trace *t, struct pd_buf *out, struct pd_err *err)
{
    int64_t *free_from = calloc(t->n_calls + 1, sizeof *free_from), begin = INT64_MAX, end = 0;
    size_t *row = calloc(t->n_calls + 1, sizeof *row), rows = 0;
    bool seen[N_OPS] = {false};
    struct chart c;
    char title[200];
    int rc = free_from && row ? 0 : pd_fail(err, PD_ENOMEM, "out of memory for the picture");

    for (size_t i = 0; i < t->n_calls && rc == 0; i++) {
        const struct pd_call_rec *call = &t->calls[i];

        begin = call->started_ms < begin ? call->started_ms : begin;
        end = end_of(call) > end ? end_of(call) : end;
        row[i] = row_for(free_from, &rows, call);
    }
    if (rc == 0 && (t->n_calls == 0 || rows > ROWS_MAX))
        rc = pd_fail(err, PD_EINVAL,
                     t->n_calls ? "job %s has more calls at a time than a picture can show"
                                : "job %s has no calls: there is nothing to draw",
                     t->job.id);
    if (rc < 0)
        goto out;
    title_of(t, "Calls", title);
    chart_open(&c, out, 860, picture_height((double)rows, LANE_PX), LEGEND_PX, title);
    c.left = 24;
    c.x_min = 0;
    c.x_max = end > begin ? (double)(end - begin) / 1000 : 0.001;
    chart_x_axis(&c, "seconds since the first call");
    for (size_t i = 0; i < t->n_calls; i++) {
        const struct pd_call_rec *call = &t->calls[i];
        double from = chart_px(&c, (double)(call->started_ms - begin) / 1000);
        double width = chart_px(&c, (double)(end_of(call) - begin) / 1000) - from;
        size_t op = op_of(call);

        pd_buf_printf(out,
                      "<rect x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\" fill=\"%s\" "
                      "stroke=\"#ffffff\" stroke-width=\"0.5\"/>\n",
                      from, c.top + (double)row[i] * LANE_PX + 1, width < 1 ? 1 : width,
                      op == 0 ? LANE_PX - 2 : LANE_PX - 6, chart_colour((unsigned)op));
        seen[op] = true;
    }
    for (size_t op = 0; op < N_OPS; op++)
        if (seen[op])
            chart_key(&c, op_labels[op], false, true,
                      (struct chart_style){.colour = (unsigned)op, .marker = 1});
    chart_close(&c);
out:
    free(free_from);
    free(row);
    return rc;
}
