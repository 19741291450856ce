#include "cli/cli.h"

#include <sys/stat.h>

#include "app/run.h"

#define THREADS_MAX 1024

struct replay {
    const char *engine, *data_dir;
    uint64_t threads, prefill_chunk, memory_limit;
    bool verify, live;
};

static const struct cli_usage usage_text = {
    "replay ID|RUN [options]",
    "Runs a stored job again, or all of a run: from its record (no model needed), or live, "
    "compared "
    "with its record.",
};

static int print(const struct cli *cli, const struct replay *o, const struct pd_job *job,
                 const struct pd_result *r, bool identical, struct pd_err *err)
{
    const struct cli_shown what = {.traced = true, .replayed = !o->live, .steps = true};
    struct pd_buf b = PD_BUF_INIT(SIZE_MAX - 1);
    struct pd_jw w;
    int rc = 0;

    if (!cli->json) {
        if (!o->verify)
            cli_show_result(cli, job, r, &what);
        else if (identical)
            printf("identical: digest %s\n", r->digest);
        return 0;
    }
    pd_jw_init(&w, &b);
    pd_jw_object(&w);
    app_result_json(&w, job, r, true);
    pd_jw_put_text(&w, "engine", o->live ? "live" : "recorded");
    pd_jw_put_bool(&w, "identical", identical);
    pd_jw_end_object(&w);
    if (pd_buf_rc(&b) < 0)
        rc = cli_no_memory(err);
    else
        cli_print_json(&b);
    pd_buf_done(&b);
    return rc;
}

/* of_run: nothing is printed, and every difference counts. */
static int compare(const struct cli *cli, const struct replay *o, const struct pd_job *job,
                   const struct pd_result *r, const char *recorded, bool of_run, struct pd_err *err)
{
    const char *then = job->stored->job.answer, *now = r->answer;
    bool same_answer = then && now ? strcmp(then, now) == 0 : then == now;
    bool identical = strcmp(recorded, r->digest) == 0 && same_answer;
    int rc = of_run ? 0 : print(cli, o, job, r, identical, err);

    if (rc == 0 && !identical && (of_run || o->verify || o->live))
        rc = same_answer
                 ? pd_fail(err, PD_EDIFFER, "differs: digest %s, recorded %s", r->digest, recorded)
                 : pd_fail(err, PD_EDIFFER, "differs: answer %s, recorded %s", now ? now : "none",
                           then ? then : "none");
    return rc;
}

/* The stored job once more; a difference is an error, and said where it is. */
static int replay_job(const struct cli *cli, const struct replay *o, struct app *a, const char *id,
                      bool of_run, struct pd_err *err)
{
    const struct pd_result *r = NULL;
    const struct pd_job *job;
    struct app_job *j = NULL;
    char recorded[65] = "";
    int rc, sig = 0;

    rc = app_job_stored(a, id, o->live ? PD_JOB_VERIFY : PD_JOB_RECORDED, &j, err);
    if (rc == 0) {
        job = app_job_core(j);
        if (job->stored && job->stored->job.digest)
            snprintf(recorded, sizeof(recorded), "%s", job->stored->job.digest);
        if (recorded[0] == '\0')
            rc = pd_fail(err, PD_ENOENT, "job %s has not finished: ponder solve --resume %s",
                         job->id, job->id);
        else
            rc = cli_run_job(cli, j, &r, &sig, err);
        if (rc == 0)
            rc = compare(cli, o, job, r, recorded, of_run, err);
        else if (rc == PD_ECANCEL && sig != 0)
            rc = CLI_EXIT_SIGNAL + sig;
    }
    app_job_free(j);
    return rc;
}

/* All jobs of a run that are done, up to the first difference. */
static int replay_run(const struct cli *cli, const struct replay *o, struct app *a, const char *id,
                      struct pd_err *err)
{
    struct store_run_jobs *jobs = NULL;
    struct store_runs *runs = NULL;
    struct cli quiet = *cli;
    size_t n = 0, left = 0;
    int rc = store_run_list(app_store(a), id, &runs, err);

    quiet.quiet = true;
    if (rc == 0)
        rc = store_run_jobs_load(app_store(a), runs->runs[0].id, &jobs, err);
    for (size_t i = 0; rc == 0 && i < jobs->n; i++) {
        const struct store_run_job *j = &jobs->jobs[i];

        if (strcmp(j->status, "done") != 0) {
            left++;
            continue;
        }
        rc = replay_job(&quiet, o, a, j->id, true, err);
        if (rc < 0)
            pd_err_context(err, "%s on %s (job %s)", j->variant, j->problem_key, j->id);
        n += rc == 0;
    }
    if (rc == 0 && cli->json)
        printf("{\"run\":\"%s\",\"engine\":\"%s\",\"identical\":true,\"jobs\":%zu}\n",
               runs->runs[0].id, o->live ? "live" : "recorded", n);
    else if (rc == 0)
        printf("identical: %zu jobs, %s%s\n", n, o->live ? "computed again" : "from their records",
               left ? "; some are not done" : "");
    store_run_jobs_free(jobs);
    store_run_list_free(runs);
    return rc;
}

static bool is_run(const char *asked)
{
    struct stat st;

    return strncmp(asked, "run_", 4) == 0 || (stat(asked, &st) == 0 && S_ISDIR(st.st_mode));
}

static int replay(const struct cli *cli, const struct replay *o, const char *asked,
                  struct pd_err *err)
{
    const struct app_config config = {
        .n_threads = (unsigned)o->threads,
        .prefill_chunk = (unsigned)o->prefill_chunk,
        .memory_bytes = o->memory_limit,
        .data_dir = o->data_dir,
        .read_only = true,
    };
    struct app *a = NULL;
    char id[PD_JOB_ID_MAX];
    int rc;

    cli_block_signals();
    rc = app_open(&config, &a, err);
    if (rc == 0 && is_run(asked)) {
        rc = run_find(asked, id, err);
        if (rc == 0)
            rc = replay_run(cli, o, a, id, err);
    } else if (rc == 0) {
        rc = replay_job(cli, o, a, asked, false, err);
    }
    app_close(a);
    return rc;
}

int cli_replay(struct cli *cli, int argc, char **argv, struct pd_err *err)
{
    struct replay o = {0};
    struct cli_option table[] = {
        {"engine", 0, CLI_CHOICE, &o.engine, "recorded|live",
         "answer from the record, or compute (recorded)", 0, 0, false, false},
        {"verify", 0, CLI_FLAG, &o.verify, NULL, "exit 1 at the first difference (computes: live)",
         0, 0, false, false},
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
    int n = cli_options(cli, argc, argv, table, &usage_text, err);

    if (n < 0 || cli->help)
        return n < 0 ? n : CLI_EXIT_OK;
    if (n != 1)
        return pd_fail(err, PD_EINVAL, "replay needs one id (see ponder trace ls, ponder runs ls)");
    o.live = o.engine ? strcmp(o.engine, "live") == 0 : o.verify;
    return replay(cli, &o, argv[1], err);
}
