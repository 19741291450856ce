/* See evaluate.h. */
#include "app/evaluate.h"

#include <math.h>
#include <stdlib.h>

#include "app/app_int.h"
#include "base/file.h"

#define SET_MAX_BYTES ((size_t)256 << 20)

static int no_memory(struct pd_err *err)
{
    return pd_fail(err, PD_ENOMEM, "out of memory for the labelled lines");
}

/* ---- the file ---------------------------------------------------------------------------------
 */

static int read_steps(struct evaluate_set *s, const struct pd_json *j, struct evaluate_line *l,
                      struct pd_err *err)
{
    const struct pd_json *steps = pd_json_get(j, "steps");
    struct pd_buf text = PD_BUF_INIT(SET_MAX_BYTES);
    int rc = 0;

    if (!pd_json_is_array(steps) || pd_json_size(steps) == 0)
        return pd_fail(err, PD_EFORMAT, "steps must be an array of texts");
    for (const struct pd_json *v = pd_json_first(steps); v && rc == 0; v = pd_json_next(v)) {
        struct pd_str step = pd_str_trim(pd_str_of(pd_json_string(v)));

        if (!step.len || pd_str_find(step, PD_STR("\n\n")) >= 0)
            rc = pd_fail(err, PD_EFORMAT,
                         "step %u is no text, empty, or has a blank line, which ends a step",
                         l->n_steps);
        pd_buf_addz(&text, text.len ? "\n\n" : "");
        pd_buf_adds(&text, step);
        l->n_steps++;
    }
    l->text = pd_arena_dup(&s->arena, pd_buf_str(&text));
    if (rc == 0 && (pd_buf_rc(&text) < 0 || !l->text))
        rc = no_memory(err);
    pd_buf_done(&text);
    return rc;
}

static int read_line(struct evaluate_set *s, const struct pd_json *j, struct evaluate_line *l,
                     struct pd_err *err)
{
    const char *problem = pd_json_string(pd_json_get(j, "problem"));
    int rc;

    if (!problem)
        return pd_fail(err, PD_EFORMAT, "problem is missing, or no text");
    l->problem = pd_arena_dup(&s->arena, pd_str_of(problem));
    rc = l->problem ? read_steps(s, j, l, err) : no_memory(err);
    if (rc < 0)
        return rc;
    if (!pd_json_int(pd_json_get(j, "label"), &l->first_wrong) || l->first_wrong < -1 ||
        l->first_wrong >= (int64_t)l->n_steps)
        return pd_fail(err, PD_EFORMAT,
                       "label must be the index of the first wrong step, from 0 to %u, or -1",
                       l->n_steps - 1);
    l->right = l->first_wrong < 0;
    if (pd_json_get(j, "final_answer_correct") &&
        !pd_json_bool(pd_json_get(j, "final_answer_correct"), &l->right))
        return pd_fail(err, PD_EFORMAT, "final_answer_correct must be true or false");
    return 0;
}

int evaluate_load(const char *path, struct evaluate_set *out, struct pd_err *err)
{
    struct pd_buf text = PD_BUF_INIT(SET_MAX_BYTES);
    struct evaluate_set s = {0};
    struct pd_str rest;
    size_t no = 0, max = 1;
    int rc;

    pd_arena_init(&s.arena, SET_MAX_BYTES * 3);
    rc = pd_read_file(path, &text, err);
    for (size_t i = 0; rc == 0 && i < text.len; i++)
        max += text.data[i] == '\n';
    if (rc == 0 && !(s.lines = pd_arena_array(&s.arena, max, sizeof *s.lines)))
        rc = no_memory(err);
    rest = pd_buf_str(&text);
    while (rc == 0 && rest.len) {
        ptrdiff_t end = pd_str_find(rest, PD_STR("\n"));
        struct pd_str line = pd_str_sub(rest, 0, end < 0 ? rest.len : (size_t)end);
        struct pd_json *j = NULL;

        no++;
        rest = pd_str_sub(rest, line.len + 1, rest.len);
        if (!pd_str_trim(line).len)
            continue;
        rc = pd_json_parse(line, &j, err);
        if (rc == 0)
            rc = read_line(&s, j, &s.lines[s.n++], err);
        if (rc < 0)
            pd_err_context(err, "'%s', line %zu", path, no);
        pd_json_free(j);
    }
    if (rc == 0 && s.n == 0)
        rc = pd_fail(err, PD_EFORMAT, "'%s' has no labelled lines", path);
    pd_buf_done(&text);
    if (rc < 0)
        evaluate_free(&s);
    else
        *out = s;
    return rc;
}

void evaluate_free(struct evaluate_set *s)
{
    pd_arena_done(&s->arena);
    *s = (struct evaluate_set){0};
}

/* ---- scoring ----------------------------------------------------------------------------------
 */

static bool same_problem(const struct evaluate_line *a, const struct evaluate_line *b)
{
    return strcmp(a->problem, b->problem) == 0;
}

static int keep_scores(struct evaluate_set *s, size_t from, size_t to, const struct pd_result *r,
                       struct pd_err *err)
{
    for (size_t i = from; i < to; i++) {
        const struct pd_score_rec *score = &r->trace.scores[i - from];
        struct evaluate_line *l = &s->lines[i];

        if (score->n_steps > 1 && score->n_steps != l->n_steps)
            return pd_fail(err, PD_EFORMAT, "a line of %u steps reads as one of %u: '%.60s…'",
                           l->n_steps, score->n_steps, l->text);
        l->n_values = score->n_steps;
        l->values = pd_arena_memdup(&s->arena, score->steps, score->n_steps * sizeof *l->values);
        if (!l->values)
            return no_memory(err);
    }
    return 0;
}

int evaluate_score(struct app *a, const char *scorer, struct evaluate_set *s,
                   int (*run)(void *user, struct app_job *j, const struct pd_result **out,
                              struct pd_err *err),
                   void *user, struct pd_err *err)
{
    const char **texts = pd_arena_array(&s->arena, s->n, sizeof *texts);
    int rc = texts ? 0 : no_memory(err);

    for (size_t i = 0, to; rc == 0 && i < s->n; i = to) {
        const struct pd_result *r = NULL;
        struct app_job *j = NULL;

        for (to = i;
             to < s->n && to - i < APP_SCORE_MAX && same_problem(&s->lines[i], &s->lines[to]); to++)
            texts[to - i] = s->lines[to].text;
        rc = app_job_score(a, scorer, s->lines[i].problem, texts, to - i, &j, err);
        if (rc == 0)
            rc = run(user, j, &r, err);
        if (rc == 0)
            rc = keep_scores(s, i, to, r, err);
        app_job_free(j);
    }
    return rc;
}

/* ---- measuring --------------------------------------------------------------------------------
 */

/* Index of the first step below the threshold, -1: none is. */
static int64_t predicted(const struct evaluate_line *l, double threshold)
{
    for (uint32_t k = 0; k < l->n_values; k++)
        if (l->values[k] < threshold)
            return k;
    return -1;
}

static bool has_steps(const struct evaluate_line *l)
{
    return l->n_values == l->n_steps && l->n_values > 0;
}

static void process_bench(const struct evaluate_set *s, double threshold, double *error,
                          double *correct, double *f1)
{
    double n[2] = {0}, hit[2] = {0}; /* with a wrong step, without */

    for (size_t i = 0; i < s->n; i++) {
        const struct evaluate_line *l = &s->lines[i];
        int without = l->first_wrong < 0;

        if (!has_steps(l))
            continue;
        n[without]++;
        hit[without] += predicted(l, threshold) == l->first_wrong;
    }
    *error = n[0] > 0 ? hit[0] / n[0] : (double)NAN;
    *correct = n[1] > 0 ? hit[1] / n[1] : (double)NAN;
    *f1 = hit[0] + hit[1] > 0 ? 2 * *error * *correct / (*error + *correct) : 0;
    if (isnan(*error) || isnan(*correct))
        *f1 = (double)NAN;
}

static size_t judged_steps(const struct evaluate_set *s, struct pd_judged *out)
{
    size_t n = 0;

    for (size_t i = 0; i < s->n; i++) {
        const struct evaluate_line *l = &s->lines[i];
        uint32_t end = l->first_wrong < 0 ? l->n_steps : (uint32_t)l->first_wrong + 1;

        for (uint32_t k = 0; has_steps(l) && k < end; k++)
            out[n++] = (struct pd_judged){l->values[k], (int64_t)k != l->first_wrong};
    }
    return n;
}

/* Lines [from, to) that have scores. */
static size_t judged_lines(const struct evaluate_set *s, size_t from, size_t to,
                           enum search_aggregate how, struct pd_judged *out)
{
    size_t n = 0;

    for (size_t i = from; i < to; i++)
        if (s->lines[i].n_values)
            out[n++] = (struct pd_judged){
                pd_aggregate(s->lines[i].values, s->lines[i].n_values, how), s->lines[i].right};
    return n;
}

static size_t end_of_problem(const struct evaluate_set *s, size_t i)
{
    size_t to = i;

    while (to < s->n && same_problem(&s->lines[i], &s->lines[to]))
        to++;
    return to;
}

static int within_problems(const struct evaluate_set *s, struct pd_judged *room,
                           struct evaluate_result *out, struct pd_err *err)
{
    double sum = 0, auc;
    int rc = 0;

    for (size_t i = 0, to; rc == 0 && i < s->n; i = to) {
        to = end_of_problem(s, i);
        rc = pd_auc(room, judged_lines(s, i, to, out->aggregate, room), &auc, err);
        if (rc == 0 && !isnan(auc)) {
            sum += auc;
            out->n_within++;
        }
    }
    out->within_auc = out->n_within ? sum / (double)out->n_within : (double)NAN;
    return rc;
}

/* Scores of each half of the problems become what the fit to the other half says of them. */
static int cross_calibrate(const struct evaluate_set *s, enum pd_calibration_method method,
                           struct evaluate_result *out, struct pd_judged *all, struct pd_err *err)
{
    struct pd_judged *half = malloc((s->n + 1) * sizeof *half);
    size_t n = 0;
    int rc = half ? 0 : no_memory(err);

    for (int side = 0; side < 2 && rc == 0; side++) {
        struct pd_calibration c;
        size_t n_half = 0, group = 0;

        for (size_t i = 0, to; i < s->n; i = to, group++) {
            to = end_of_problem(s, i);
            if (group % 2 != (size_t)side)
                n_half += judged_lines(s, i, to, out->aggregate, half + n_half);
        }
        rc = pd_calibration_fit(half, n_half, method, &c, err);
        group = 0;
        for (size_t i = 0, to; rc == 0 && i < s->n; i = to, group++) {
            to = end_of_problem(s, i);
            if (group % 2 == (size_t)side) {
                size_t more = judged_lines(s, i, to, out->aggregate, all + n);

                for (size_t k = n; k < n + more; k++)
                    all[k].score = pd_calibrated(&c, all[k].score);
                n += more;
            }
        }
    }
    free(half);
    if (rc == 0) {
        pd_reliability(all, n, &out->reliability);
        out->calibrated_ece = out->reliability.ece;
    } else {
        pd_err_context(err, "half of the problems");
    }
    return rc;
}

int evaluate_measure(const struct evaluate_set *s, double threshold,
                     enum search_aggregate aggregate, int method, struct evaluate_result *out,
                     struct pd_err *err)
{
    struct evaluate_result r = {.threshold = threshold, .aggregate = aggregate, .best_f1 = -1};
    double right = 0, wrong = 0;
    struct pd_judged *room;
    size_t n_room = 1, n;
    int rc;

    for (size_t i = 0; i < s->n; i++) {
        r.n_lines += s->lines[i].n_values > 0;
        r.n_skipped += s->lines[i].n_values == 0;
        n_room += s->lines[i].n_steps;
    }
    room = malloc(n_room * sizeof *room);
    if (!room)
        return no_memory(err);
    process_bench(s, threshold, &r.error_accuracy, &r.correct_accuracy, &r.f1);
    for (int k = 1; k < 100; k++) {
        double f1, e, c;

        process_bench(s, k / 100.0, &e, &c, &f1);
        if (f1 > r.best_f1) {
            r.best_f1 = f1;
            r.best_threshold = k / 100.0;
        }
    }
    if (r.best_f1 < 0)
        r.best_f1 = r.best_threshold = (double)NAN;
    r.n_steps = judged_steps(s, room);
    rc = pd_auc(room, r.n_steps, &r.step_auc, err);
    if (rc == 0)
        rc = within_problems(s, room, &r, err);
    n = judged_lines(s, 0, s->n, aggregate, room);
    if (rc == 0)
        rc = pd_auc(room, n, &r.line_auc, err);
    for (size_t i = 0; i < n; i++) {
        right += room[i].right;
        wrong += !room[i].right;
        *(room[i].right ? &r.tpr : &r.fpr) += room[i].score >= threshold;
    }
    r.tpr = right > 0 ? r.tpr / right : (double)NAN;
    r.fpr = wrong > 0 ? r.fpr / wrong : (double)NAN;
    pd_reliability(room, n, &r.reliability);
    r.ece = r.reliability.ece;
    if (rc == 0 && method >= 0)
        rc = pd_calibration_fit(room, n, (enum pd_calibration_method)method, &r.calibration, err);
    if (rc == 0 && method >= 0)
        rc = cross_calibrate(s, (enum pd_calibration_method)method, &r, room, err);
    free(room);
    if (rc == 0)
        *out = r;
    return rc;
}
