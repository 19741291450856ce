#include "cli/cli.h"

#include <stdlib.h>
#include <unistd.h>

#include "app/report.h"
#include "app/run.h"

#define SLICE_NS        (100 * PD_NS_PER_MS)
#define LOG_EVERY_NS    (10 * PD_NS_PER_S)
#define CONCURRENCY_MAX 1024
#define THREADS_MAX     1024

struct run_options {
    const char *out, *only, *data_dir, *expect_digest, *fail_on_error;
    uint64_t limit, concurrency, threads, prefill_chunk, memory_limit;
    bool fresh, dry_run;
};

static const struct cli_usage usage_text = {
    "run RECIPE --out DIR [options]",
    "Runs an experiment: every strategy of the recipe on every problem. The same again goes on "
    "where "
    "it stopped.",
};

/* ---- progress -------------------------------------------------------------------------------- */

struct watch {
    int64_t started_ns, logged_ns;
    bool terminal, drawn;
};

static void show(struct watch *w, const struct run *r)
{
    int64_t now = pd_clock_now_ns();
    double seconds = (double)(now - w->started_ns) / (double)PD_NS_PER_S, rate, left;
    struct run_progress p;
    char tokens[32];
    size_t now_done;

    run_progress(r, &p);
    now_done = p.n_done - p.n_found;
    rate = seconds > 0 ? (double)p.generated / seconds : 0;
    left = now_done ? seconds * (double)(p.n_jobs - p.n_done) / (double)now_done : 0;
    if (w->terminal) {
        fprintf(stderr,
                "\r\033[K%s  %zu/%zu jobs  running %zu  right %zu  failed %zu  tokens %s  %.0f "
                "tok/s  %d:%02d, about %d:%02d left",
                run_recipe(r)->name, p.n_done, p.n_jobs, p.n_running, p.n_right, p.n_failed,
                cli_grouped(p.generated, tokens), rate, (int)seconds / 60, (int)seconds % 60,
                (int)left / 60, (int)left % 60);
        w->drawn = true;
    } else if (now - w->logged_ns >= LOG_EVERY_NS) {
        fprintf(stderr,
                "run=%s jobs=%zu/%zu running=%zu right=%zu failed=%zu tokens=%llu tok_s=%.0f "
                "elapsed_s=%.0f left_s=%.0f\n",
                run_recipe(r)->name, p.n_done, p.n_jobs, p.n_running, p.n_right, p.n_failed,
                (unsigned long long)p.generated, rate, seconds, left);
        w->logged_ns = now;
    }
}

/* Returns as run_step does, but never PD_ETIMEOUT. */
static int work(const struct cli *cli, struct run *r, int *out_signal, struct pd_err *err)
{
    struct watch w = {.started_ns = pd_clock_now_ns(), .terminal = cli_fancy(stderr)};
    int rc;

    w.logged_ns = w.started_ns;
    while ((rc = run_step(r, pd_clock_now_ns() + SLICE_NS, err)) == PD_ETIMEOUT) {
        int sig = cli_signal_pending();

        if (sig && *out_signal) {
            if (w.drawn)
                cli_wipe_line();
            cli_message(cli, "error", "aborted");
            _exit(CLI_EXIT_SIGNAL + sig); /* what was committed is kept */
        }
        if (sig) {
            *out_signal = sig;
            run_stop(r);
        }
        if (!cli->quiet)
            show(&w, r);
    }
    if (w.drawn)
        cli_wipe_line();
    return rc;
}

/* ---- what is printed ------------------------------------------------------------------------- */

static int print_plan(const struct cli *cli, const struct recipe *re, const struct run_plan *p,
                      uint64_t concurrency, struct pd_err *err)
{
    struct pd_buf b = PD_BUF_INIT(SIZE_MAX - 1);
    double tokens = 0;
    uint64_t jobs = 0;
    char text[32];
    struct pd_jw w;
    int rc = 0;

    for (size_t i = 0; i < p->n_rows; i++) {
        tokens += p->rows[i].tokens;
        jobs += p->rows[i].n_jobs;
    }
    if (!cli->json) {
        printf("%s: %llu problems, %u times each\n\n%-32s %8s %8s %14s\n", re->name,
               (unsigned long long)p->n_problems, re->repeats, "variant", "jobs", "lines",
               "tokens, about");
        for (size_t i = 0; i < p->n_rows; i++)
            printf("%-32s %8llu %8.0f %14s%s\n", p->rows[i].variant->name,
                   (unsigned long long)p->rows[i].n_jobs, p->rows[i].lines,
                   p->rows[i].tokens > 0 ? cli_grouped((unsigned long long)p->rows[i].tokens, text)
                                         : "?",
                   p->rows[i].variant->added ? "  (for comparison at equal cost)" : "");
        printf("%-32s %8llu %8s %14s\n\n", "together", (unsigned long long)jobs, "",
               tokens > 0 ? cli_grouped((unsigned long long)tokens, text) : "?");
        if (tokens > 0)
            printf("time     about %.0f s, at the %.0f tokens/s of earlier jobs with this model\n",
                   tokens / p->tokens_per_s, p->tokens_per_s);
        else
            puts("time     not known before the first job with this model: try --limit 1");
        printf("memory   %.0f MB for models, at most %.0f MB for KV of %llu jobs at a time\n",
               (double)p->fixed_bytes / 1e6, (double)p->kv_bytes / 1e6,
               (unsigned long long)concurrency);
        return 0;
    }
    pd_jw_init(&w, &b);
    pd_jw_object(&w);
    pd_jw_key(&w, "variants");
    pd_jw_array(&w);
    for (size_t i = 0; i < p->n_rows; i++) {
        pd_jw_object(&w);
        pd_jw_put_text(&w, "variant", p->rows[i].variant->name);
        pd_jw_put_uint(&w, "jobs", p->rows[i].n_jobs);
        pd_jw_put_double(&w, "tokens", p->rows[i].tokens);
        pd_jw_end_object(&w);
    }
    pd_jw_end_array(&w);
    pd_jw_put_uint(&w, "jobs", jobs);
    pd_jw_put_double(&w, "tokens", tokens);
    pd_jw_put_double(&w, "tokens_per_s", p->tokens_per_s);
    pd_jw_put_uint(&w, "model_bytes", p->fixed_bytes);
    pd_jw_put_uint(&w, "kv_bytes", p->kv_bytes);
    pd_jw_end_object(&w);
    if (pd_buf_rc(&b) < 0)
        rc = cli_no_memory(err);
    else
        cli_print_json(&b);
    pd_buf_done(&b);
    return rc;
}

static int print_end(const struct cli *cli, const struct run_options *o, const struct run *r,
                     struct pd_err *err)
{
    struct pd_buf b = PD_BUF_INIT(SIZE_MAX - 1);
    struct run_progress p;
    struct pd_jw w;
    int rc = 0;

    run_progress(r, &p);
    if (!cli->json) {
        printf("run      %s in %s\njobs     %zu done (%zu of them before), %zu failed%s\n"
               "digest   %s\n",
               run_id(r), o->out, p.n_done, p.n_found, p.n_failed,
               run_is_whole(r) ? "" : "; not all of the recipe's", run_digest(r));
        return 0;
    }
    pd_jw_init(&w, &b);
    pd_jw_object(&w);
    pd_jw_put_text(&w, "run", run_id(r));
    pd_jw_put_text(&w, "name", run_recipe(r)->name);
    pd_jw_put_uint(&w, "jobs", p.n_jobs);
    pd_jw_put_uint(&w, "done", p.n_done);
    pd_jw_put_uint(&w, "found", p.n_found);
    pd_jw_put_uint(&w, "failed", p.n_failed);
    pd_jw_put_uint(&w, "right", p.n_right);
    pd_jw_put_bool(&w, "whole", run_is_whole(r));
    pd_jw_put_text(&w, "digest", run_digest(r));
    pd_jw_end_object(&w);
    if (pd_buf_rc(&b) < 0)
        rc = cli_no_memory(err);
    else
        cli_print_json(&b);
    pd_buf_done(&b);
    return rc;
}

/* Into the run's folder, and to a reader of text. */
static int print_report(const struct cli *cli, const struct run_options *o, struct store *s,
                        const struct run *r, struct pd_err *err)
{
    struct pd_buf text = PD_BUF_INIT((size_t)16 << 20);
    struct report_config config = REPORT_CONFIG_DEFAULT;
    struct report *report = NULL;
    const char *id = run_id(r);
    char *dir = pd_path_join(o->out, "report");
    int rc = dir ? report_make(s, &id, 1, &config, &report, err) : cli_no_memory(err);

    if (rc == 0)
        rc = report_write(report, dir, err);
    if (rc == 0 && !cli->json && !cli->quiet) {
        report_text(report, !cli_speaks_utf8(), &text);
        printf("\n%s", pd_buf_str(&text).ptr);
    }
    report_free(report);
    pd_buf_done(&text);
    free(dir);
    return rc;
}

/* ---- the verb -------------------------------------------------------------------------------- */

static int dry_run(const struct cli *cli, struct app *a, const struct run_config *c,
                   struct pd_err *err)
{
    struct recipe *re = NULL;
    struct run_plan p = {0};
    int rc = recipe_load(c->recipe, &re, err);

    if (rc == 0)
        rc = recipe_problems(re, err);
    if (rc == 0)
        rc = run_plan(a, re, c, &p, err);
    if (rc == 0)
        rc = print_plan(cli, re, &p, c->concurrency, err);
    run_plan_done(&p);
    recipe_free(re);
    return rc;
}

static int go(const struct cli *cli, const struct run_options *o, struct app *a,
              const struct run_config *c, struct pd_err *err)
{
    struct run_progress p;
    struct run *r = NULL;
    char line[256];
    int rc, finished, sig = 0;

    rc = run_open(a, c, &r, err);
    if (rc < 0)
        return rc;
    rc = work(cli, r, &sig, err);
    finished = run_finish(r, rc < 0 ? NULL : err);
    run_progress(r, &p);
    if (rc == 0)
        rc = finished;
    if (rc == 0)
        rc = print_end(cli, o, r, err);
    if (rc == 0)
        rc = print_report(cli, o, app_store(a), r, err);
    if (rc == 0 && o->expect_digest && strcmp(o->expect_digest, run_digest(r)) != 0)
        rc = pd_fail(err, PD_EDIFFER,
                     "differs: digest %s, expected %s (ponder runs diff, ponder "
                     "replay --verify say where)",
                     run_digest(r), o->expect_digest);
    if (rc == PD_ECANCEL && sig) {
        snprintf(line, sizeof line, "%zu of %zu jobs are done; the same command goes on", p.n_done,
                 p.n_jobs);
        cli_message(cli, "info", line);
        rc = CLI_EXIT_SIGNAL + sig;
    }
    if (rc == 0 && p.n_failed)
        rc = pd_fail(err, PD_EDIFFER, "%zu jobs failed (ponder runs show %s)", p.n_failed,
                     run_id(r));
    run_close(r);
    return rc;
}

static int parse_limit(const char *text, double *out, struct pd_err *err)
{
    *out = -1;
    if (text && (!pd_parse_double(pd_str_of(text), out) || *out < 0))
        return pd_fail(err, PD_EINVAL,
                       "--fail-on-error must be a share below 1 or a number of jobs, not '%s'",
                       text);
    return 0;
}

int cli_run(struct cli *cli, int argc, char **argv, struct pd_err *err)
{
    struct run_options o = {.concurrency = 4};
    struct cli_option table[] = {
        {"out", 'o', CLI_TEXT, &o.out, "DIR", "folder of the run: lock, results, report", 0, 0,
         false, false},
        {"fresh", 0, CLI_FLAG, &o.fresh, NULL, "forget what the folder's run has done", 0, 0, false,
         false},
        {"only", 0, CLI_TEXT, &o.only, "STRATEGY", "jobs of this strategy of the recipe", 0, 0,
         false, false},
        {"limit", 0, CLI_NUMBER, &o.limit, "N", "jobs on the first N problems", 1, UINT32_MAX,
         false, false},
        {"concurrency", 0, CLI_NUMBER, &o.concurrency, "N", "jobs at a time (4)", 1,
         CONCURRENCY_MAX, false, false},
        {"fail-on-error", 0, CLI_TEXT, &o.fail_on_error, "RATE|COUNT",
         "stop when more jobs fail: a share below 1, or a number", 0, 0, false, false},
        {"expect-digest", 0, CLI_TEXT, &o.expect_digest, "HEX",
         "exit 1 when these jobs have another digest", 0, 0, false, false},
        {"dry-run", 0, CLI_FLAG, &o.dry_run, NULL, "only tell jobs, tokens, time and memory", 0, 0,
         false, false},
        {"data-dir", 0, CLI_TEXT, &o.data_dir, "DIR", "where traces are kept", 0, 0, false, false},
        {"threads", 0, CLI_NUMBER, &o.threads, "N", "compute threads (0: all CPUs)", 0, THREADS_MAX,
         false, false},
        {"prefill-chunk", 0, CLI_NUMBER, &o.prefill_chunk, "N", "prompt tokens a step (128)", 1,
         4096, false, false},
        {"memory-limit", 0, CLI_SIZE, &o.memory_limit, "SIZE",
         "ceiling of models, working space and KV cache: 6GB (10^9), 6GiB = 6G (2^30)", 1,
         INT64_MAX, false, false},
        {NULL, 0, CLI_FLAG, NULL, NULL, NULL, 0, 0, false, false},
    };
    int n = cli_options(cli, argc, argv, table, &usage_text, err), rc;
    struct app_config config;
    struct run_config c;
    struct app *a = NULL;

    if (n < 0 || cli->help)
        return n < 0 ? n : CLI_EXIT_OK;
    if (n != 1)
        return pd_fail(err, PD_EINVAL, "run needs one recipe (see ponder run --help)");
    if (!o.out && !o.dry_run)
        return pd_fail(err, PD_EINVAL,
                       "where to? --out DIR names the folder for lock, results and report");
    c = (struct run_config){.recipe = argv[1],
                            .dir = o.out,
                            .fresh = o.fresh,
                            .only = o.only,
                            .limit = o.limit,
                            .concurrency = (unsigned)o.concurrency};
    rc = parse_limit(o.fail_on_error, &c.max_failed, err);
    if (rc < 0)
        return rc;
    config = (struct app_config){.n_threads = (unsigned)o.threads,
                                 .prefill_chunk = (unsigned)o.prefill_chunk,
                                 .memory_bytes = o.memory_limit,
                                 .data_dir = o.data_dir};
    cli_block_signals();
    rc = app_open(&config, &a, err);
    if (rc == 0)
        rc = o.dry_run ? dry_run(cli, a, &c, err) : go(cli, &o, a, &c, err);
    app_close(a);
    return rc;
}
