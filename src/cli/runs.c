#include "cli/cli.h"

#include <stdlib.h>
#include <unistd.h>

#include "app/report.h"
#include "app/run.h"

#define FAILURES_MAX 20 /* shown */

struct runs {
    const char *data_dir;
    uint64_t limit;
};

static const struct cli_usage usage_text = {
    "runs ls|show RUN|diff RUN RUN|rm RUN… [options]",
    "Experiments that were run: a run by its id, a prefix of it, or its folder.",
};

static int print_json(struct pd_buf *b, struct pd_err *err)
{
    int rc = pd_buf_rc(b) < 0 ? cli_no_memory(err) : 0;

    if (rc == 0)
        cli_print_json(b);
    pd_buf_done(b);
    return rc;
}

/* The members of a run's row, into an open object. */
static void put_run(struct pd_jw *w, const struct store_run *r)
{
    char when[PD_RFC3339_SIZE];

    pd_clock_rfc3339(r->created_ms, when);
    pd_jw_put_text(w, "id", r->id);
    pd_jw_put_text(w, "name", r->name);
    pd_jw_put_text(w, "status", r->status);
    pd_jw_put_text(w, "created", when);
    pd_jw_put_text(w, "host", r->host);
    pd_jw_put_uint(w, "seed", r->seed);
    pd_jw_put_uint(w, "jobs", r->n_jobs);
    pd_jw_put_uint(w, "done", r->n_done);
    pd_jw_put_uint(w, "failed", r->n_failed);
}

static int list(const struct cli *cli, struct store *s, const struct runs *o, struct pd_err *err)
{
    struct store_runs *rows = NULL;
    int rc = store_run_list(s, NULL, &rows, err);

    for (size_t i = 0; rc == 0 && i < rows->n && (o->limit == 0 || i < o->limit); i++) {
        const struct store_run *r = &rows->runs[i];
        struct pd_buf b = PD_BUF_INIT(SIZE_MAX - 1);
        char when[PD_RFC3339_SIZE];
        struct pd_jw w;

        if (cli->json) {
            pd_jw_init(&w, &b);
            pd_jw_object(&w);
            put_run(&w, r);
            pd_jw_end_object(&w);
            rc = print_json(&b, err);
            continue;
        }
        pd_clock_rfc3339(r->created_ms, when);
        printf("%s  %s  %-8s %6llu of %llu jobs", r->id, when, r->status,
               (unsigned long long)r->n_done, (unsigned long long)r->n_jobs);
        if (r->n_failed)
            printf(", %llu failed", (unsigned long long)r->n_failed);
        printf("  %s\n", r->name);
    }
    store_run_list_free(rows);
    return rc;
}

/* ---- show ------------------------------------------------------------------------------------ */

static void show_lock(const struct pd_json *lock)
{
    const struct pd_json *d = pd_json_get(lock, "dataset"), *r = pd_json_get(lock, "recipe");
    const char *digest = pd_json_string(pd_json_get(lock, "digest"));
    const char *path = pd_json_string(pd_json_get(d, "path")),
               *data = pd_json_string(pd_json_get(d, "sha256")),
               *recipe = pd_json_string(pd_json_get(r, "sha256"));

    printf("recipe   %s\n", recipe ? recipe : "?");
    printf("dataset  %s  %s\n", data ? data : "?", path ? path : "?");
    for (const struct pd_json *m = pd_json_first(pd_json_get(lock, "models")); m;
         m = pd_json_next(m)) {
        const char *sha = pd_json_string(pd_json_get(m, "sha256")),
                   *name = pd_json_string(pd_json_get(m, "name")),
                   *role = pd_json_string(pd_json_get(m, "role"));

        printf("model    %s  %s, %s\n", sha ? sha : "?", name ? name : "?", role ? role : "?");
    }
    printf("digest   %s\n", digest ? digest : "not known before all jobs are done");
}

static int show(const struct cli *cli, struct store *s, const struct store_run *r,
                struct pd_err *err)
{
    struct store_run_jobs *jobs = NULL;
    struct pd_buf b = PD_BUF_INIT(SIZE_MAX - 1);
    struct pd_json *lock = NULL;
    char when[PD_RFC3339_SIZE];
    size_t failures = 0;
    struct pd_jw w;
    int rc = store_run_jobs_load(s, r->id, &jobs, err);

    if (rc == 0)
        rc = pd_json_parse(pd_str_of(r->lock), &lock, err);
    if (rc == 0 && cli->json) {
        pd_jw_init(&w, &b);
        pd_jw_object(&w);
        put_run(&w, r);
        pd_jw_key(&w, "lock");
        pd_jw_value(&w, lock);
        pd_jw_key(&w, "failures");
        pd_jw_array(&w);
        for (size_t i = 0; i < jobs->n; i++)
            if (strcmp(jobs->jobs[i].status, "failed") == 0) {
                pd_jw_object(&w);
                pd_jw_put_text(&w, "job", jobs->jobs[i].id);
                pd_jw_put_text(&w, "variant", jobs->jobs[i].variant);
                pd_jw_put_text(&w, "problem", jobs->jobs[i].problem_key);
                pd_jw_put_text(&w, "error", jobs->jobs[i].error);
                pd_jw_end_object(&w);
            }
        pd_jw_end_array(&w);
        pd_jw_end_object(&w);
        rc = print_json(&b, err);
    } else if (rc == 0) {
        pd_clock_rfc3339(r->created_ms, when);
        printf("run      %s  %s, on %s, %s\nname     %s\n", r->id, when, r->host, r->status,
               r->name);
        printf("jobs     %llu of %llu done, %llu failed\n", (unsigned long long)r->n_done,
               (unsigned long long)r->n_jobs, (unsigned long long)r->n_failed);
        show_lock(lock);
        for (size_t i = 0; i < jobs->n; i++)
            if (strcmp(jobs->jobs[i].status, "failed") == 0 && failures++ < FAILURES_MAX) {
                printf("failed   %s  %s on %s: ", jobs->jobs[i].id, jobs->jobs[i].variant,
                       jobs->jobs[i].problem_key);
                cli_text(stdout, pd_str_of(jobs->jobs[i].error ? jobs->jobs[i].error : "?"), 9);
                putchar('\n');
            }
        if (failures > FAILURES_MAX)
            printf("         and %zu more\n", failures - FAILURES_MAX);
    }
    pd_json_free(lock);
    store_run_jobs_free(jobs);
    return rc;
}

/* ---- diff ------------------------------------------------------------------------------------ */

/* The job of b that is the same as j but for its run. */
static const struct store_run_job *counterpart(const struct store_run_jobs *b,
                                               const struct store_run_job *j)
{
    for (size_t i = 0; i < b->n; i++)
        if (b->jobs[i].repeat == j->repeat && strcmp(b->jobs[i].variant, j->variant) == 0 &&
            strcmp(b->jobs[i].problem_key, j->problem_key) == 0)
            return &b->jobs[i];
    return NULL;
}

static bool same(const char *a, const char *b)
{
    return a && b ? strcmp(a, b) == 0 : a == b;
}

struct agreement {
    size_t n, n_same;                  /* of jobs that both have done */
    const struct store_run_job *a, *b; /* the first that differ; NULL: none */
};

static struct agreement compare(const struct store_run_jobs *a, const struct store_run_jobs *b,
                                const char *variant)
{
    struct agreement g = {0};

    for (size_t i = 0; i < a->n; i++) {
        const struct store_run_job *j = &a->jobs[i], *k;

        if (strcmp(j->variant, variant) != 0 || !j->digest)
            continue;
        k = counterpart(b, j);
        if (!k || !k->digest)
            continue;
        g.n++;
        g.n_same += same(j->digest, k->digest);
        if (!g.a && !same(j->digest, k->digest)) {
            g.a = j;
            g.b = k;
        }
    }
    return g;
}

static const struct report_variant *find_variant(const struct report_run *r, const char *name)
{
    for (size_t i = 0; i < r->n_variants; i++)
        if (strcmp(r->variants[i].name, name) == 0)
            return &r->variants[i];
    return NULL;
}

static void diff_locks(const struct report *r)
{
    static const char *const parts[] = {"recipe", "dataset", "models", "chat_template_sha256",
                                        "kv_type"};
    struct pd_json *lock[2] = {NULL, NULL};

    for (int i = 0; i < 2; i++)
        if (pd_json_parse(pd_str_of(r->runs[i].lock), &lock[i], NULL) < 0)
            lock[i] = NULL;
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        struct pd_buf b[2] = {PD_BUF_INIT(1 << 20), PD_BUF_INIT(1 << 20)};

        for (int k = 0; k < 2; k++) {
            struct pd_jw w;

            pd_jw_init(&w, &b[k]);
            pd_jw_value(&w, pd_json_get(lock[k], parts[i]));
        }
        if (!pd_str_eq(pd_buf_str(&b[0]), pd_buf_str(&b[1])))
            printf("%-8s %s\n         %s\n", parts[i], pd_buf_str(&b[0]).ptr,
                   pd_buf_str(&b[1]).ptr);
        pd_buf_done(&b[0]);
        pd_buf_done(&b[1]);
    }
    pd_json_free(lock[0]);
    pd_json_free(lock[1]);
}

static void diff_text(const struct report *r, struct store_run_jobs *const jobs[2])
{
    diff_locks(r);
    printf("\n%-30s %8s %8s %9s %9s  %s\n", "variant", "accuracy", "", "tokens", "", "same jobs");
    for (size_t i = 0; i < r->runs[0].n_variants; i++) {
        const struct report_variant *a = &r->runs[0].variants[i];
        const struct report_variant *b = find_variant(&r->runs[1], a->name);
        struct agreement g = compare(jobs[0], jobs[1], a->name);

        if (!b) {
            printf("%-30s %8.3f %8s %9.0f %9s\n", a->name, a->accuracy, "-", a->tokens, "-");
            continue;
        }
        printf("%-30s %8.3f %8.3f %9.0f %9.0f  %zu of %zu", a->name, a->accuracy, b->accuracy,
               a->tokens, b->tokens, g.n_same, g.n);
        if (g.a)
            printf("; first on %s: %s (%s), %s (%s)", g.a->problem_key,
                   g.a->answer ? g.a->answer : "none", g.a->id, g.b->answer ? g.b->answer : "none",
                   g.b->id);
        putchar('\n');
    }
    for (size_t i = 0; i < r->runs[1].n_variants; i++) {
        const struct report_variant *b = &r->runs[1].variants[i];

        if (!find_variant(&r->runs[0], b->name))
            printf("%-30s %8s %8.3f %9s %9.0f\n", b->name, "-", b->accuracy, "-", b->tokens);
    }
}

static int diff_json(const struct report *r, struct store_run_jobs *const jobs[2],
                     struct pd_err *err)
{
    struct pd_buf b = PD_BUF_INIT(SIZE_MAX - 1);
    struct pd_jw w;

    pd_jw_init(&w, &b);
    pd_jw_array(&w);
    for (size_t i = 0; i < r->runs[0].n_variants; i++) {
        const struct report_variant *v = &r->runs[0].variants[i];
        const struct report_variant *o = find_variant(&r->runs[1], v->name);
        struct agreement g = compare(jobs[0], jobs[1], v->name);

        if (!o)
            continue;
        pd_jw_object(&w);
        pd_jw_put_text(&w, "variant", v->name);
        pd_jw_key(&w, "accuracy");
        pd_jw_array(&w);
        pd_jw_double(&w, v->accuracy);
        pd_jw_double(&w, o->accuracy);
        pd_jw_end_array(&w);
        pd_jw_key(&w, "tokens");
        pd_jw_array(&w);
        pd_jw_double(&w, v->tokens);
        pd_jw_double(&w, o->tokens);
        pd_jw_end_array(&w);
        pd_jw_put_uint(&w, "jobs", g.n);
        pd_jw_put_uint(&w, "same", g.n_same);
        pd_jw_put_text(&w, "first_difference", g.a ? g.a->problem_key : NULL);
        pd_jw_end_object(&w);
    }
    pd_jw_end_array(&w);
    return print_json(&b, err);
}

static int diff(const struct cli *cli, struct store *s, const char *const ids[2],
                struct pd_err *err)
{
    struct store_run_jobs *jobs[2] = {NULL, NULL};
    struct report_config config = REPORT_CONFIG_DEFAULT;
    struct report *r = NULL;
    int rc;

    config.brief = true;
    rc = report_make(s, ids, 2, &config, &r, err);

    for (int i = 0; i < 2 && rc == 0; i++)
        rc = store_run_jobs_load(s, r->runs[i].id, &jobs[i], err);
    if (rc == 0 && cli->json)
        rc = diff_json(r, jobs, err);
    else if (rc == 0)
        diff_text(r, jobs);
    store_run_jobs_free(jobs[0]);
    store_run_jobs_free(jobs[1]);
    report_free(r);
    return rc;
}

/* ---- the verb -------------------------------------------------------------------------------- */

static int remove_run(struct store *s, const struct store_run *r, struct pd_err *err)
{
    int fd, rc = store_job_lock(s, r->id, &fd, err);

    if (rc == PD_EBUSY)
        return pd_fail(err, rc, "run %s is running in another process", r->id);
    if (rc < 0)
        return rc;
    rc = store_run_delete(s, r->id, err);
    if (rc == 0)
        rc = store_flush(s, err);
    close(fd);
    return rc;
}

static int with_runs(const struct cli *cli, struct store *s, const char *verb, char **asked, int n,
                     struct pd_err *err)
{
    char ids[2][PD_JOB_ID_MAX];
    int rc = 0;

    for (int i = 0; i < n && rc == 0; i++) {
        struct store_runs *rows = NULL;
        char id[PD_JOB_ID_MAX];

        rc = run_find(asked[i], id, err);
        if (rc == 0)
            rc = store_run_list(s, id, &rows, err);
        if (rc == 0 && i < 2)
            memcpy(ids[i], rows->runs[0].id, PD_JOB_ID_MAX);
        if (rc == 0 && strcmp(verb, "show") == 0)
            rc = show(cli, s, &rows->runs[0], err);
        else if (rc == 0 && strcmp(verb, "rm") == 0)
            rc = remove_run(s, &rows->runs[0], err);
        store_run_list_free(rows);
    }
    if (rc == 0 && strcmp(verb, "diff") == 0)
        rc = diff(cli, s, (const char *const[]){ids[0], ids[1]}, err);
    return rc;
}

int cli_runs(struct cli *cli, int argc, char **argv, struct pd_err *err)
{
    struct runs o = {.limit = 20};
    struct cli_option table[] = {
        {"limit", 0, CLI_NUMBER, &o.limit, "N", "ls: the newest N runs (20; 0: all)", 0, INT64_MAX,
         false, false},
        {"data-dir", 0, CLI_TEXT, &o.data_dir, "DIR", "where traces are kept", 0, 0, false, false},
        {NULL, 0, CLI_FLAG, NULL, NULL, NULL, 0, 0, false, false},
    };
    int n = cli_options(cli, argc, argv, table, &usage_text, err), rc;
    const char *verb = n > 0 ? argv[1] : "";
    bool ls = strcmp(verb, "ls") == 0, rm = strcmp(verb, "rm") == 0;
    struct store *s = NULL;
    char *path;

    if (n < 0 || cli->help)
        return n < 0 ? n : CLI_EXIT_OK;
    if (!ls && !rm && strcmp(verb, "show") != 0 && strcmp(verb, "diff") != 0)
        return pd_fail(err, PD_EINVAL, "runs needs ls, show, diff or rm (see ponder runs --help)");
    if ((ls && n != 1) || (strcmp(verb, "show") == 0 && n != 2) ||
        (strcmp(verb, "diff") == 0 && n != 3) || (rm && n < 2))
        return pd_fail(err, PD_EINVAL, "usage: ponder %s", usage_text.synopsis);
    path = app_db_path(o.data_dir);
    if (!path)
        return cli_no_memory(err);
    if (ls && !pd_file_exists(path)) { /* before the first job */
        if (!cli->json)
            cli_message(cli, "info", "no runs yet");
        free(path);
        return CLI_EXIT_OK;
    }
    rc = store_open(path, rm ? STORE_WRITE : STORE_READ, &s, err);
    if (rc == 0)
        rc = ls ? list(cli, s, &o, err) : with_runs(cli, s, verb, argv + 2, n - 1, err);
    store_close(s);
    free(path);
    return rc;
}
