/* `ponder score`: steps of a solution, or what a scorer is worth on labelled ones. */
#include "cli/cli.h"

#include <math.h>
#include <stdlib.h>

#include "app/evaluate.h"

#define THREADS_MAX 1024
#define TEXT_MAX    ((size_t)8 << 20)

struct score {
    const char *scorer, *problem, *steps, *evaluate, *aggregate, *calibrate, *threshold;
    uint64_t threads, memory_limit;
};

static const struct cli_usage usage_text = {
    "score [options]",
    "Scores the steps of a solution: the problem's text, or a bundled problem's name, and the "
    "steps "
    "with\nblank lines between them (- is standard input). Or measures a scorer on labelled "
    "solutions, JSON\nLines with problem, steps and label, the index of the first wrong step or "
    "-1; --calibrate keeps what\nthat comes to with the model.",
};

static const char *const aggregates[] = {"last", "min", "prod", "mean"};

static int choice(const char *what, const char *const *names)
{
    int i = 0;

    while (what && names[i] && strcmp(names[i], what) != 0)
        i++;
    return i;
}

/* Under signals, as any job of this program. */
static int run_job(void *user, struct app_job *j, const struct pd_result **out, struct pd_err *err)
{
    const struct cli *cli = user;
    int sig = 0, rc = cli_run_job(cli, j, out, &sig, err);

    if (sig)
        return pd_fail(err, PD_ECANCEL, "interrupted");
    return rc;
}

static int open_app(const struct score *o, struct app **out, struct pd_err *err)
{
    const struct app_config c = {
        .n_threads = (unsigned)o->threads, .memory_bytes = o->memory_limit, .no_trace = true};

    return app_open(&c, out, err);
}

static int print_json(struct pd_buf *b, struct pd_err *err)
{
    int rc = pd_buf_rc(b) < 0 ? cli_no_memory(err) : 0;

    if (rc == 0)
        cli_print_json(b);
    pd_buf_done(b);
    return rc;
}

static void put_number(struct pd_jw *w, const char *key, double v)
{
    pd_jw_put_double(w, key, v); /* NaN: null */
}

/* ---- one solution -----------------------------------------------------------------------------
 */

/* A file, or a bundled problem's name. */
static int read_problem(const char *name, struct pd_buf *out, struct pd_err *err)
{
    char *question = NULL, *answer = NULL, *truth = NULL;
    int rc;

    if (strcmp(name, "-") == 0 || pd_file_exists(name))
        return pd_read_file(name, out, err);
    rc = app_find_problem(name, &question, &answer, &truth, err);
    if (rc == 0 && pd_buf_addz(out, question) < 0)
        rc = cli_no_memory(err);
    free(question);
    free(answer);
    free(truth);
    return rc;
}

static int print_steps(const struct cli *cli, const char *scorer, struct pd_str *steps,
                       size_t n_steps, const struct pd_result *r, struct pd_err *err)
{
    const struct pd_score_rec *s = &r->trace.scores[0];
    struct pd_buf b = PD_BUF_INIT(TEXT_MAX * 8);
    bool each = s->n_steps == n_steps;
    struct pd_jw w;

    if (!cli->json) {
        for (uint32_t i = 0; i < s->n_steps; i++) {
            printf("%.4f  ", s->steps[i]);
            cli_text_line(stdout, each ? steps[i] : PD_STR("(the whole solution)"), 100);
            putchar('\n');
        }
        for (int k = 0; k < 4 && each; k++)
            printf("%s%s %.4f", k ? "  " : "", aggregates[k],
                   pd_aggregate(s->steps, s->n_steps, (enum search_aggregate)k));
        if (each)
            putchar('\n');
        return 0;
    }
    pd_jw_init(&w, &b);
    pd_jw_object(&w);
    pd_jw_put_text(&w, "scorer", scorer);
    pd_jw_put_text(&w, "kind", s->kind);
    pd_jw_key(&w, "steps");
    pd_jw_array(&w);
    for (size_t i = 0; i < n_steps; i++) {
        pd_jw_object(&w);
        pd_jw_put_str(&w, "text", steps[i]);
        put_number(&w, "score", each ? s->steps[i] : (double)NAN);
        pd_jw_end_object(&w);
    }
    pd_jw_end_array(&w);
    pd_jw_key(&w, "aggregate");
    pd_jw_object(&w);
    for (int k = 0; k < 4; k++)
        put_number(&w, aggregates[k], pd_aggregate(s->steps, s->n_steps, (enum search_aggregate)k));
    pd_jw_end_object(&w);
    pd_jw_put_uint(&w, "scored_tokens", r->usage.scored);
    pd_jw_end_object(&w);
    return print_json(&b, err);
}

static int score_steps(struct cli *cli, const struct score *o, struct pd_err *err)
{
    struct pd_buf problem = PD_BUF_INIT(TEXT_MAX), text = PD_BUF_INIT(TEXT_MAX);
    const struct pd_result *r = NULL;
    struct app_job *j = NULL;
    struct app *a = NULL;
    struct pd_arena arena;
    struct pd_str *steps;
    const char *question;
    size_t n = 0;
    int rc = read_problem(o->problem, &problem, err);

    pd_arena_init(&arena, TEXT_MAX * 8);
    if (rc == 0)
        rc = pd_read_file(o->steps, &text, err);
    steps = rc == 0 ? pd_steps_split(&arena, pd_buf_str(&text), &n) : NULL;
    if (rc == 0 && !steps)
        rc = cli_no_memory(err);
    if (rc == 0 && n == 0)
        rc = pd_fail(err, PD_EINVAL, "there are no steps in '%s'", o->steps);
    if (rc == 0)
        rc = open_app(o, &a, err);
    question = pd_arena_dup(&arena, pd_str_trim(pd_buf_str(&problem)));
    if (rc == 0 && !question)
        rc = cli_no_memory(err);
    if (rc == 0)
        rc = app_job_score(a, o->scorer, question, &(const char *){text.data}, 1, &j, err);
    if (rc == 0)
        rc = run_job(cli, j, &r, err);
    if (rc == 0 && r->trace.scores[0].n_steps == 0)
        rc = pd_fail(err, PD_ELIMIT, "the steps do not fit into the context of '%s'", o->scorer);
    if (rc == 0)
        rc = print_steps(cli, o->scorer, steps, n, r, err);
    app_job_free(j);
    app_close(a);
    pd_arena_done(&arena);
    pd_buf_done(&problem);
    pd_buf_done(&text);
    return rc;
}

/* ---- labelled solutions -----------------------------------------------------------------------
 */

static void report_text(const struct evaluate_result *r, const char *kept)
{
    printf("lines        %zu", r->n_lines);
    if (r->n_skipped)
        printf(", %zu more do not fit into the model's context", r->n_skipped);
    printf("\n");
    if (!isnan(r->step_auc)) {
        printf("first wrong  F1 %.3f at %g: %.3f of lines with one, %.3f of those without; best "
               "%.3f at %.2f\n",
               r->f1, r->threshold, r->error_accuracy, r->correct_accuracy, r->best_f1,
               r->best_threshold);
        printf("steps        AUC %.3f of %zu\n", r->step_auc, r->n_steps);
    }
    printf("lines by %-4s AUC %.3f, within a problem %.3f (%zu problems)\n",
           aggregates[r->aggregate], r->line_auc, r->within_auc, r->n_within);
    printf("accepted     %.3f of right lines, %.3f of wrong ones (false positives) at %g\n", r->tpr,
           r->fpr, r->threshold);
    printf("             resample_limit: -o accept=%g -o complete=%.3f -o sound=%.3f -o "
           "aggregate=%s\n",
           r->threshold, r->tpr, 1 - r->fpr, aggregates[r->aggregate]);
    printf("calibration  ECE %.3f as it is", r->ece);
    if (kept)
        printf(", %.3f calibrated (each half by the other)\nkept in      %s", r->calibrated_ece,
               kept);
    printf("\n\nsaid        lines  said   right\n");
    for (int k = 0; k < 10; k++)
        if (r->reliability.bins[k].n)
            printf("%.1f to %.1f  %6zu  %.3f  %.3f\n", k / 10.0, (k + 1) / 10.0,
                   r->reliability.bins[k].n, r->reliability.bins[k].said,
                   r->reliability.bins[k].right);
}

static int report_json(const char *scorer, const struct evaluate_result *r, const char *kept,
                       struct pd_err *err)
{
    struct pd_buf b = PD_BUF_INIT(1 << 20);
    struct pd_jw w;

    pd_jw_init(&w, &b);
    pd_jw_object(&w);
    pd_jw_put_text(&w, "scorer", scorer);
    pd_jw_put_uint(&w, "lines", r->n_lines);
    pd_jw_put_uint(&w, "skipped", r->n_skipped);
    pd_jw_put_uint(&w, "steps", r->n_steps);
    put_number(&w, "threshold", r->threshold);
    put_number(&w, "f1", r->f1);
    put_number(&w, "error_accuracy", r->error_accuracy);
    put_number(&w, "correct_accuracy", r->correct_accuracy);
    put_number(&w, "best_f1", r->best_f1);
    put_number(&w, "best_threshold", r->best_threshold);
    put_number(&w, "step_auc", r->step_auc);
    pd_jw_put_text(&w, "aggregate", aggregates[r->aggregate]);
    put_number(&w, "line_auc", r->line_auc);
    put_number(&w, "within_problem_auc", r->within_auc);
    pd_jw_put_uint(&w, "within_problems", r->n_within);
    put_number(&w, "true_positive_rate", r->tpr);
    put_number(&w, "false_positive_rate", r->fpr);
    put_number(&w, "ece", r->ece);
    put_number(&w, "calibrated_ece", kept ? r->calibrated_ece : (double)NAN);
    pd_jw_put_text(&w, "calibration_file", kept);
    pd_jw_key(&w, "reliability");
    pd_jw_array(&w);
    for (int k = 0; k < 10; k++) {
        pd_jw_object(&w);
        put_number(&w, "from", k / 10.0);
        pd_jw_put_uint(&w, "lines", r->reliability.bins[k].n);
        put_number(&w, "said", r->reliability.bins[k].said);
        put_number(&w, "right", r->reliability.bins[k].right);
        pd_jw_end_object(&w);
    }
    pd_jw_end_array(&w);
    pd_jw_end_object(&w);
    return print_json(&b, err);
}

static int evaluate(struct cli *cli, const struct score *o, double threshold, struct pd_err *err)
{
    static const char *const methods[] = {"isotonic", "platt", NULL};
    int method = o->calibrate ? choice(o->calibrate, methods) : -1;
    struct evaluate_set s = {0};
    struct evaluate_result r;
    struct app *a = NULL;
    char *kept = NULL;
    int rc = evaluate_load(o->evaluate, &s, err);

    if (rc < 0)
        return rc;
    rc = open_app(o, &a, err);
    if (rc == 0)
        rc = evaluate_score(a, o->scorer, &s, run_job, cli, err);
    if (rc == 0)
        rc = evaluate_measure(
            &s, threshold,
            (enum search_aggregate)choice(o->aggregate ? o->aggregate : "last", aggregates), method,
            &r, err);
    if (rc == 0 && method >= 0)
        rc = evaluate_store(o->scorer, (enum pd_calibration_method)method, &r, &kept, err);
    if (rc == 0 && cli->json)
        rc = report_json(o->scorer, &r, kept, err);
    else if (rc == 0)
        report_text(&r, kept);
    free(kept);
    app_close(a);
    evaluate_free(&s);
    return rc;
}

int cli_score(struct cli *cli, int argc, char **argv, struct pd_err *err)
{
    struct score o = {0};
    struct cli_option table[] = {
        {"scorer", 0, CLI_TEXT, &o.scorer, "MODEL",
         "name or GGUF file (tiny-prm), [:kind=KIND,key=value,…]", 0, 0, false, false},
        {"problem", 'p', CLI_TEXT, &o.problem, "FILE|PROBLEM",
         "the problem's text, or a bundled one's name", 0, 0, false, false},
        {"steps", 0, CLI_TEXT, &o.steps, "FILE", "the steps, blank lines between them", 0, 0, false,
         false},
        {"evaluate", 0, CLI_TEXT, &o.evaluate, "FILE", "labelled solutions, JSON Lines", 0, 0,
         false, false},
        {"threshold", 0, CLI_TEXT, &o.threshold, "P",
         "evaluate: a step, or a line, of less is wrong (0.5)", 0, 0, false, false},
        {"aggregate", 0, CLI_CHOICE, &o.aggregate, SEARCH_AGGREGATES,
         "evaluate: step rewards to that of a line (last)", 0, 0, false, false},
        {"calibrate", 0, CLI_CHOICE, &o.calibrate, PD_CALIBRATION_METHODS,
         "evaluate: fit a curve and keep it with the model", 0, 0, false, false},
        {"threads", 0, CLI_NUMBER, &o.threads, "N", "compute threads (0: all CPUs)", 0, THREADS_MAX,
         false, false},
        {"memory-limit", 0, CLI_SIZE, &o.memory_limit, "SIZE",
         "ceiling of models, working space and KV cache", 1, INT64_MAX, false, false},
        {NULL, 0, CLI_FLAG, NULL, NULL, NULL, 0, 0, false, false},
    };
    double threshold = 0.5;
    int n = cli_options(cli, argc, argv, table, &usage_text, err);

    if (n < 0 || cli->help)
        return n < 0 ? n : CLI_EXIT_OK;
    if (n > 0)
        return pd_fail(err, PD_EINVAL, "score takes no operands (see ponder score --help)");
    if (!o.evaluate == !(o.problem && o.steps) || (o.evaluate && (o.problem || o.steps)))
        return pd_fail(
            err, PD_EINVAL,
            "score needs --problem and --steps, or --evaluate (see ponder score --help)");
    if (!o.evaluate && (o.threshold || o.aggregate || o.calibrate))
        return pd_fail(err, PD_EINVAL,
                       "--threshold, --aggregate and --calibrate are of --evaluate: give both");
    if (o.threshold &&
        (!pd_parse_double(pd_str_of(o.threshold), &threshold) || threshold < 0 || threshold > 1))
        return pd_fail(err, PD_EINVAL, "--threshold is a probability, from 0 to 1");
    o.scorer = o.scorer ? o.scorer : app_default_scorer;
    cli_block_signals();
    return o.evaluate ? evaluate(cli, &o, threshold, err) : score_steps(cli, &o, err);
}
