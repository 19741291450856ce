/* Runs: see run.h.
 *
 *   planned ──start──> running ──its end──> done | failed
 *      ^                  │ run_stop
 *      └──────────────────┘ (stored as paused, goes on where it was)
 */
#include "app/run.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "app/app_int.h"
#include "base/clock.h"
#include "base/energy.h"
#include "base/file.h"
#include "base/id.h"

#define LOCK_MAX_BYTES ((size_t)1 << 20)
#define MODELS_MAX     64

enum state { PLANNED, RUNNING, DONE, FAILED };

struct planned {
    uint32_t variant, problem, repeat;
    enum state state;
    bool asked; /* by --only and --limit */
    int correct;
    char digest[65];
};

struct flight {
    struct run *run;
    struct planned *job; /* NULL: free */
    struct app_job *app_job;
    bool over; /* guarded by run.lock */
};

/* A model file that results depend on. */
struct locked_model {
    const char *role, *name;
    char sha256[PD_SHA256_HEX];
    uint64_t bytes;
    uint64_t weights; /* that a token is multiplied by */
    uint32_t n_layer, n_head, n_head_kv, head_dim;
};

struct run {
    struct app *app;
    struct recipe *recipe;
    struct run_config c;
    char id[PD_JOB_ID_MAX], *dir;
    int64_t created_ms;
    int lock_fd;
    struct locked_model models[MODELS_MAX];
    size_t n_models;
    char template_sha256[PD_SHA256_HEX]; /* "": the model's own */
    struct planned
        *jobs; /* by repeat, then problem, then variant: prompts are next to each other */
    size_t n_jobs, next;
    struct run_progress progress;
    struct flight *flights; /* concurrency of them */
    bool stopping;
    struct pd_err fatal;
    int64_t opened_ns;
    struct pd_energy energy;              /* since then */
    double seconds_before, joules_before; /* of earlier processes; <0: one was killed: not known */
    char digest[65];
    pthread_mutex_t lock; /* guards the flights' over */
    pthread_cond_t ended;
};

static int no_memory(struct pd_err *err)
{
    return pd_fail(err, PD_ENOMEM, "out of memory");
}

/* Below 0: not known. */
static int write_file(const char *dir, const char *name, struct pd_str text, struct pd_err *err)
{
    char *path = pd_path_join(dir, name);
    int rc = path ? pd_write_file(path, text, err) : no_memory(err);

    free(path);
    return rc;
}

/* ---- what results depend on ------------------------------------------------------------------ */

/* A model, or the one of a scorer. */
static int find_model(const char *name, char **out_path, struct pd_err *err)
{
    char *model = app_scorer_model(name);
    int rc = model ? app_find_model(model, out_path, err) : no_memory(err);

    free(model);
    return rc;
}

static bool is_locked(const struct run *r, const char *role, const char *name)
{
    for (size_t i = 0; i < r->n_models; i++)
        if (strcmp(r->models[i].role, role) == 0 && strcmp(r->models[i].name, name) == 0)
            return true;
    return false;
}

static int lock_model(struct run *r, const char *role, const char *name, struct pd_err *err)
{
    struct locked_model *m = &r->models[r->n_models];
    struct eng_model *model = NULL;
    struct stat st;
    char *path = NULL;
    int rc;

    if (is_locked(r, role, name))
        return 0;
    if (r->n_models == MODELS_MAX)
        return pd_fail(err, PD_ELIMIT, "more than %d models", MODELS_MAX);
    rc = find_model(name, &path, err);
    if (rc == 0)
        rc = app_model(r->app, path, &model, err);
    if (rc == 0) {
        const struct eng_model_info *info = eng_model_info(model);

        *m = (struct locked_model){.role = role,
                                   .name = name,
                                   .weights = info->work.body_macs.i8 + info->work.body_macs.f32 +
                                              info->work.head_macs.i8 + info->work.head_macs.f32,
                                   .n_layer = info->n_layer,
                                   .n_head = info->n_head,
                                   .n_head_kv = info->n_head_kv,
                                   .head_dim = info->head_dim};
        pd_hex(info->sha256, PD_SHA256_BYTES, m->sha256);
        m->bytes = stat(path, &st) == 0 ? (uint64_t)st.st_size : 0;
        r->n_models++;
    }
    eng_model_unref(model); /* the app keeps it */
    free(path);
    return rc;
}

/* The control vectors that a variant names. */
static int lock_steering(struct run *r, const struct recipe_variant *v, struct pd_err *err)
{
    static const char key[] = "steer=";
    struct app_steering steering;
    int rc = 0;

    for (size_t i = 0; i < v->n_options && rc == 0; i++) {
        const char *file = v->options[i] + sizeof key - 1;
        struct locked_model *m = &r->models[r->n_models];

        if (strncmp(v->options[i], key, sizeof key - 1) != 0 || !*file ||
            is_locked(r, "steer", file))
            continue;
        if (r->n_models == MODELS_MAX)
            return pd_fail(err, PD_ELIMIT, "more than %d models", MODELS_MAX);
        *m = (struct locked_model){.role = "steer", .name = file};
        snprintf(steering.steer, sizeof steering.steer, "%s", file);
        rc = app_steering_sha256(&steering, m->sha256, err);
        r->n_models += rc == 0;
    }
    return rc;
}

static bool by_model(const char *scorer)
{
    const struct pd_verifier *v = NULL;
    const void *params;
    struct pd_arena a;
    bool yes;

    pd_arena_init(&a, 1 << 20);
    yes = app_scorer_parse(scorer, &a, &v, &params, NULL) < 0 || !v->no_model;
    pd_arena_done(&a);
    return yes;
}

static bool drafts(const struct recipe_variant *v)
{
    if (v->strategy->needs_draft)
        return true;
    for (size_t i = 0; i < v->n_options; i++)
        if (strcmp(v->options[i], "speculate=draft") == 0)
            return true;
    return false;
}

static int lock_models(struct run *r, struct pd_err *err)
{
    const struct recipe *re = r->recipe;
    uint8_t sum[PD_SHA256_BYTES];
    char *text = NULL;
    int rc = app_start_engine(r->app, re->kv_type, err);

    if (rc == 0)
        rc = lock_model(r, "generator", re->model, err);
    for (size_t i = 0; i < re->n_variants && rc == 0; i++) {
        const struct recipe_variant *v = &re->variants[i];

        if (v->scorer && by_model(v->scorer))
            rc = lock_model(r, "scorer", v->scorer, err);
        if (rc == 0 && drafts(v))
            rc = lock_model(r, "draft", v->draft ? v->draft : app_default_draft, err);
        if (rc == 0)
            rc = lock_steering(r, v, err);
    }
    if (rc == 0 && re->chat_template) {
        rc = app_find_template(re->chat_template, &text, err);
        if (rc == 0) {
            pd_sha256_bytes(text, strlen(text), sum);
            pd_hex(sum, sizeof sum, r->template_sha256);
        }
        free(text);
    }
    return rc;
}

static bool by_clock(const struct recipe *re)
{
    return re->budget.seconds > 0;
}

static void put_measured(const struct run *r, struct pd_jw *w)
{
    pd_jw_object(w);
    pd_jw_put_double(w, "seconds",
                     r->seconds_before < 0
                         ? (double)NAN
                         : r->seconds_before + (double)(pd_clock_now_ns() - r->opened_ns) / 1e9);
    pd_jw_put_double(w, "energy_j",
                     r->joules_before < 0 || r->energy.n == 0
                         ? (double)NAN
                         : r->joules_before + r->energy.joules);
    pd_jw_end_object(w);
}

/* What earlier processes measured: they left null if they were killed. */
static void take_measured(struct run *r, const struct pd_json *lock)
{
    const struct pd_json *m = pd_json_get(lock, "measured");

    if (!pd_json_number(pd_json_get(m, "seconds"), &r->seconds_before))
        r->seconds_before = -1;
    if (!pd_json_number(pd_json_get(m, "energy_j"), &r->joules_before))
        r->joules_before = -1;
}

/* running: of a process that has not come to its end. */
static void lock_json(const struct run *r, bool running, struct pd_jw *w)
{
    const struct recipe *re = r->recipe;

    pd_jw_object(w);
    pd_jw_put_uint(w, "ponder_lock", 1);
    pd_jw_put_text(w, "run", r->id);
    pd_jw_key(w, "recipe");
    pd_jw_object(w);
    pd_jw_put_text(w, "name", re->name);
    pd_jw_put_text(w, "sha256", re->sha256);
    pd_jw_end_object(w);
    pd_jw_key(w, "dataset");
    pd_jw_object(w);
    pd_jw_put_text(w, "path", re->dataset.path);
    pd_jw_put_text(w, "sha256", re->data_sha256);
    pd_jw_put_uint(w, "problems", re->n_problems);
    pd_jw_end_object(w);
    pd_jw_key(w, "models");
    pd_jw_array(w);
    for (size_t i = 0; i < r->n_models; i++) {
        pd_jw_object(w);
        pd_jw_put_text(w, "role", r->models[i].role);
        pd_jw_put_text(w, "name", r->models[i].name);
        pd_jw_put_text(w, "sha256", r->models[i].sha256);
        pd_jw_key(w, "shape");
        pd_jw_object(w);
        pd_jw_put_uint(w, "weights", r->models[i].weights);
        pd_jw_put_uint(w, "layers", r->models[i].n_layer);
        pd_jw_put_uint(w, "heads", r->models[i].n_head);
        pd_jw_put_uint(w, "heads_kv", r->models[i].n_head_kv);
        pd_jw_put_uint(w, "head_dim", r->models[i].head_dim);
        pd_jw_end_object(w);
        pd_jw_end_object(w);
    }
    pd_jw_end_array(w);
    pd_jw_put_text(w, "chat_template_sha256", r->template_sha256[0] ? r->template_sha256 : NULL);
    pd_jw_put_text(w, "kv_type", re->kv_type ? re->kv_type : "f16");
    pd_jw_key(w, "program");
    pd_jw_object(w);
    pd_jw_put_text(w, "version", PONDER_VERSION);
    pd_jw_put_text(w, "kernels", eng_isa_name(r->app->eng)); /* told, not compared: the same bits */
    pd_jw_end_object(w);
    pd_jw_put_bool(w, "reproducible", !by_clock(re));
    pd_jw_put_uint(w, "jobs", r->n_jobs);
    pd_jw_put_text(w, "digest", r->digest[0] && run_is_whole(r) ? r->digest : NULL);
    pd_jw_key(w, "measured"); /* told, not compared */
    if (running)
        pd_jw_null(w);
    else
        put_measured(r, w);
    pd_jw_end_object(w);
}

static int differs(struct pd_err *err, const struct run *r, const char *what, const char *then,
                   const char *now)
{
    return pd_fail(err, PD_EDIFFER,
                   "'%s' is a run with another %s (%.16s… then, %.16s… now): --fresh starts over, "
                   "another --out leaves it alone",
                   r->dir, what, then ? then : "none", now);
}

/* Whether what the lock of then pins is what there is now. */
static int check_lock(const struct run *r, const struct pd_json *lock, struct pd_err *err)
{
    const struct recipe *re = r->recipe;
    const struct pd_json *m = pd_json_get(lock, "models");
    const char *then = pd_json_string(pd_json_get(pd_json_get(lock, "recipe"), "sha256"));

    if (!then || strcmp(then, re->sha256) != 0)
        return differs(err, r, "recipe", then, re->sha256);
    then = pd_json_string(pd_json_get(pd_json_get(lock, "dataset"), "sha256"));
    if (!then || strcmp(then, re->data_sha256) != 0)
        return differs(err, r, "data set", then, re->data_sha256);
    then = pd_json_string(pd_json_get(lock, "chat_template_sha256"));
    if (strcmp(then ? then : "", r->template_sha256) != 0)
        return differs(err, r, "chat template", then, r->template_sha256);
    for (size_t i = 0; i < r->n_models; i++) {
        const char *role = pd_json_string(pd_json_get(pd_json_at(m, i), "role"));

        then = pd_json_string(pd_json_get(pd_json_at(m, i), "sha256"));
        if (!role || strcmp(role, r->models[i].role) != 0 || !then ||
            strcmp(then, r->models[i].sha256) != 0) {
            char what[128];

            snprintf(what, sizeof what, "%s model '%.60s'", r->models[i].role, r->models[i].name);
            return differs(err, r, what, then, r->models[i].sha256);
        }
    }
    return 0;
}

/* The lock of a folder; *out stays NULL when there is none. */
static int read_lock(const char *dir, struct pd_json **out, struct pd_err *err)
{
    struct pd_buf text = PD_BUF_INIT(LOCK_MAX_BYTES);
    char *path = pd_path_join(dir, "lock.json");
    const char *id;
    int64_t version;
    int rc = path ? 0 : no_memory(err);

    if (rc == 0 && pd_file_exists(path)) {
        rc = pd_read_file(path, &text, err);
        if (rc == 0 && (rc = pd_json_parse(pd_buf_str(&text), out, err)) < 0)
            pd_err_context(err, "'%s'", path);
        id = rc == 0 ? pd_json_string(pd_json_get(*out, "run")) : NULL;
        if (rc == 0 && (!pd_json_int(pd_json_get(*out, "ponder_lock"), &version) || version != 1 ||
                        !id || strncmp(id, "run_", 4) != 0 || strlen(id) >= PD_JOB_ID_MAX)) {
            pd_json_free(*out);
            *out = NULL;
            rc = pd_fail(err, PD_EFORMAT, "'%s' is not the lock of a run", path);
        }
    }
    pd_buf_done(&text);
    free(path);
    return rc;
}

int run_find(const char *asked, char out_id[PD_JOB_ID_MAX], struct pd_err *err)
{
    struct pd_json *lock = NULL;
    struct stat st;
    int rc;

    if (stat(asked, &st) < 0 || !S_ISDIR(st.st_mode)) {
        snprintf(out_id, PD_JOB_ID_MAX, "%s", asked);
        return strlen(asked) < PD_JOB_ID_MAX
                   ? 0
                   : pd_fail(err, PD_ENOENT, "no run '%.80s' (see ponder runs ls)", asked);
    }
    rc = read_lock(asked, &lock, err);
    if (rc == 0 && !lock)
        rc = pd_fail(err, PD_ENOENT, "'%s' has no lock.json: it is not the folder of a run", asked);
    if (rc == 0)
        snprintf(out_id, PD_JOB_ID_MAX, "%s", pd_json_string(pd_json_get(lock, "run")));
    pd_json_free(lock);
    return rc;
}

/* ---- opening --------------------------------------------------------------------------------- */

static bool wants(const struct run_config *c, const struct recipe_variant *v)
{
    return !c->only || strcmp(c->only, v->entry) == 0 || strcmp(c->only, v->name) == 0;
}

static int check_only(const struct recipe *re, const struct run_config *c, struct pd_err *err)
{
    struct pd_buf names = PD_BUF_INIT(300);
    int rc = 0;

    for (size_t i = 0; i < re->n_variants; i++) {
        const struct recipe_variant *v = &re->variants[i];

        if (wants(c, v))
            goto out;
        if (i == 0 || strcmp(v->entry, re->variants[i - 1].entry) != 0)
            pd_buf_printf(&names, "%s%s", i ? ", " : "", v->entry);
    }
    rc = pd_fail(err, PD_EINVAL, "the recipe has no strategy '%.60s' (it has: %s)", c->only,
                 pd_buf_str(&names).ptr);
out:
    pd_buf_done(&names);
    return rc;
}

static int make_plan(struct run *r, struct pd_err *err)
{
    const struct recipe *re = r->recipe;
    size_t n = (size_t)re->repeats * re->n_problems * re->n_variants, i = 0;

    if (re->repeats > 1000000 / (re->n_problems * re->n_variants))
        return pd_fail(err, PD_ELIMIT, "more than a million jobs");
    r->jobs = calloc(n, sizeof *r->jobs);
    r->flights = calloc(r->c.concurrency, sizeof *r->flights);
    if (!r->jobs || !r->flights)
        return no_memory(err);
    for (uint32_t k = 0; k < re->repeats; k++)
        for (uint32_t p = 0; p < re->n_problems; p++)
            for (uint32_t v = 0; v < re->n_variants; v++, i++) {
                bool asked = wants(&r->c, &re->variants[v]) && (!r->c.limit || p < r->c.limit);

                r->jobs[i] = (struct planned){v, p, k, PLANNED, asked, -1, ""};
                r->progress.n_jobs += asked;
            }
    r->n_jobs = n;
    return 0;
}

static void job_id(const struct run *r, const struct planned *j, char out[PD_JOB_ID_MAX])
{
    recipe_job_id(r->id, &r->recipe->variants[j->variant], r->recipe->problems[j->problem].id,
                  j->repeat, out);
}

static int row_by_id(const void *id, const void *row)
{
    return strcmp(id, ((const struct store_run_job *)row)->id);
}

/* Takes over what the database has: jobs that are done are not run again. */
static int find_done(struct run *r, struct pd_err *err)
{
    struct store_run_jobs *rows = NULL;
    int rc = store_run_jobs_load(app_store(r->app), r->id, &rows, err);

    for (size_t i = 0; rc == 0 && i < r->n_jobs; i++) {
        struct planned *j = &r->jobs[i];
        const struct store_run_job *row;
        char id[PD_JOB_ID_MAX];

        job_id(r, j, id);
        row = rows->n ? bsearch(id, rows->jobs, rows->n, sizeof *row, row_by_id) : NULL;
        if (!row || strcmp(row->status, "done") != 0 || !row->digest)
            continue;
        j->state = DONE;
        j->correct = row->correct;
        snprintf(j->digest, sizeof j->digest, "%s", row->digest);
        r->progress.n_done += j->asked;
        r->progress.n_found += j->asked;
        r->progress.n_right += j->asked && j->correct == 1;
    }
    store_run_jobs_free(rows);
    return rc;
}

static void put_artifact(struct store_artifact *a, const char *kind, const char *role,
                         const char *name, const char *hex, uint64_t bytes)
{
    *a = (struct store_artifact){.kind = kind, .name = name, .role = role, .bytes = bytes};
    for (int i = 0; i < PD_SHA256_BYTES; i++) {
        unsigned byte = 0;

        sscanf(hex + (size_t)2 * (size_t)i, "%2x", &byte);
        a->sha256[i] = (uint8_t)byte;
    }
}

/* The run's row and lock.json, with this status. */
static int store_state(struct run *r, const char *status, struct pd_err *err)
{
    const struct recipe *re = r->recipe;
    struct store_artifact list[MODELS_MAX + 1];
    struct pd_buf lock = PD_BUF_INIT(LOCK_MAX_BYTES);
    char host[256] = "";
    struct pd_jw w;
    int rc;

    for (size_t i = 0; i < r->n_models; i++)
        put_artifact(&list[i], "model", r->models[i].role, r->models[i].name, r->models[i].sha256,
                     r->models[i].bytes);
    put_artifact(&list[r->n_models], "dataset", "dataset", re->dataset.path, re->data_sha256,
                 re->data_bytes);
    gethostname(host, sizeof host - 1);
    pd_jw_init(&w, &lock);
    pd_energy_read(&r->energy);
    lock_json(r, strcmp(status, "running") == 0, &w);
    rc = pd_buf_rc(&lock) < 0 ? no_memory(err) : 0;
    if (rc == 0) {
        struct store_run row = {.name = re->name,
                                .status = status,
                                .lock = pd_buf_str(&lock).ptr,
                                .host = host,
                                .recipe = re->text,
                                .seed = re->seed,
                                .created_ms = r->created_ms,
                                .artifacts = list,
                                .n_artifacts = r->n_models + 1};

        memcpy(row.id, r->id, sizeof row.id);
        if (strcmp(status, "done") == 0)
            row.finished_ms = pd_clock_unix_ms();
        rc = store_run_put(app_store(r->app), &row, err);
    }
    if (rc == 0)
        rc = store_flush(app_store(r->app), err);
    pd_buf_addc(&lock, '\n');
    if (rc == 0)
        rc = write_file(r->dir, "lock.json", pd_buf_str(&lock), err);
    pd_buf_done(&lock);
    return rc;
}

static int lock_run(struct run *r, struct pd_err *err)
{
    int rc = store_job_lock(app_store(r->app), r->id, &r->lock_fd, err);

    return rc == PD_EBUSY ? pd_fail(err, rc, "run %s is running in another process", r->id) : rc;
}

/* The folder's run, or a new one. */
static int find_run(struct run *r, struct pd_err *err)
{
    struct store *s = app_store(r->app);
    struct store_runs *rows = NULL;
    struct pd_json *lock = NULL;
    int rc = read_lock(r->dir, &lock, err);

    if (rc == 0 && lock) {
        snprintf(r->id, sizeof r->id, "%s", pd_json_string(pd_json_get(lock, "run")));
        rc = lock_run(r, err);
        if (rc == 0 && r->c.fresh) {
            rc = store_run_delete(s, r->id, err);
            if (rc == 0)
                rc = store_flush(s, err);
            close(r->lock_fd);
            r->lock_fd = -1;
            r->id[0] = '\0';
        } else if (rc == 0) {
            rc = check_lock(r, lock, err);
            take_measured(r, lock);
        }
    }
    pd_json_free(lock);
    if (rc == 0 && !r->id[0]) {
        rc = pd_id_new("run_", r->id, err);
        if (rc == 0)
            rc = lock_run(r, err);
    }
    r->created_ms = pd_clock_unix_ms();
    if (rc == 0 && store_run_list(s, NULL, &rows, err) == 0)
        for (size_t i = 0; i < rows->n; i++)
            if (strcmp(rows->runs[i].id, r->id) == 0)
                r->created_ms = rows->runs[i].created_ms;
    store_run_list_free(rows);
    return rc;
}

int run_open(struct app *a, const struct run_config *c, struct run **out, struct pd_err *err)
{
    struct run *r = calloc(1, sizeof *r);
    pthread_condattr_t attr;
    int rc;

    if (!r)
        return no_memory(err);
    pthread_mutex_init(&r->lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&r->ended, &attr);
    pthread_condattr_destroy(&attr);
    r->app = a;
    r->c = *c;
    r->lock_fd = -1;
    r->opened_ns = pd_clock_now_ns();
    pd_energy_start(&r->energy, PD_ENERGY_ROOT);
    r->dir = strdup(c->dir);
    rc = r->dir ? recipe_load(c->recipe, &r->recipe, err) : no_memory(err);
    if (rc == 0)
        rc = check_only(r->recipe, c, err);
    if (rc == 0)
        rc = recipe_problems(r->recipe, err);
    if (rc == 0)
        rc = make_plan(r, err);
    if (rc == 0)
        rc = lock_models(r, err);
    if (rc == 0)
        rc = pd_mkdirs(r->dir, 0777, err);
    if (rc == 0)
        rc = find_run(r, err);
    if (rc == 0)
        rc = write_file(r->dir, "recipe.json", r->recipe->text, err);
    if (rc == 0)
        rc = store_state(r, "running", err);
    if (rc == 0)
        rc = find_done(r, err);
    if (rc < 0) {
        run_close(r);
        return rc;
    }
    *out = r;
    return 0;
}

void run_close(struct run *r)
{
    if (!r)
        return;
    for (size_t i = 0; r->flights && i < r->c.concurrency; i++)
        app_job_free(r->flights[i].app_job);
    if (r->lock_fd >= 0)
        close(r->lock_fd);
    recipe_free(r->recipe);
    free(r->flights);
    free(r->jobs);
    free(r->dir);
    pthread_cond_destroy(&r->ended);
    pthread_mutex_destroy(&r->lock);
    free(r);
}

/* ---- at work --------------------------------------------------------------------------------- */

/* On the job's thread. */
static void job_ended(void *user)
{
    struct flight *f = user;

    pthread_mutex_lock(&f->run->lock);
    f->over = true;
    pthread_cond_signal(&f->run->ended);
    pthread_mutex_unlock(&f->run->lock);
}

static int start(struct run *r, struct flight *f, struct planned *j, struct pd_err *err)
{
    const struct recipe *re = r->recipe;
    char id[PD_JOB_ID_MAX];
    struct app_request request =
        recipe_request(re, &re->variants[j->variant], &re->problems[j->problem], j->repeat);
    int rc;

    job_id(r, j, id);
    request.id = id;
    request.run_id = r->id;
    rc = app_job_stored(r->app, id, PD_JOB_RUN, &f->app_job, err); /* begun before */
    if (rc == PD_ENOENT)
        rc = app_job_new(r->app, &request, &f->app_job, err);
    if (rc < 0) {
        pd_err_context(err, "%s on %s", re->variants[j->variant].name, re->problems[j->problem].id);
        return rc;
    }
    f->run = r;
    f->over = false;
    app_job_on_end(f->app_job, job_ended, f);
    rc = app_job_start(f->app_job, err);
    if (rc < 0) {
        app_job_free(f->app_job);
        f->app_job = NULL;
        return rc;
    }
    f->job = j;
    j->state = RUNNING;
    r->progress.n_running++;
    return 0;
}

/* Whether no other job can go well after this error. */
static bool is_fatal(int rc)
{
    return rc == PD_EIO || rc == PD_ENOMEM || rc == PD_EPERM || rc == PD_EBUSY;
}

static void land(struct run *r, struct flight *f)
{
    const struct pd_result *result = NULL;
    struct planned *j = f->job;
    struct pd_err err = {0};
    int rc = app_job_wait(f->app_job, PD_NEVER_NS, &result, &err);

    r->progress.n_running--;
    if (rc == 0) {
        j->state = DONE;
        j->correct = result->correct;
        memcpy(j->digest, result->digest, sizeof j->digest);
        r->progress.n_done++;
        r->progress.n_right += j->correct == 1;
        r->progress.generated += result->usage.generated;
    } else if (rc == PD_ECANCEL) {
        j->state = PLANNED;
    } else {
        j->state = FAILED;
        r->progress.n_failed++;
        if (is_fatal(rc) && r->fatal.code == PD_OK) {
            r->fatal = err;
            pd_err_context(&r->fatal, "%s on %s", r->recipe->variants[j->variant].name,
                           r->recipe->problems[j->problem].id);
        }
    }
    app_job_free(f->app_job);
    f->app_job = NULL;
    f->job = NULL;
}

/* Starts jobs while there is room for them. */
static int fill(struct run *r, struct pd_err *err)
{
    for (size_t i = 0; i < r->c.concurrency; i++) {
        int rc;

        if (r->flights[i].job)
            continue;
        while (r->next < r->n_jobs &&
               (!r->jobs[r->next].asked || r->jobs[r->next].state != PLANNED))
            r->next++;
        if (r->next == r->n_jobs)
            return 0;
        rc = start(r, &r->flights[i], &r->jobs[r->next], err);
        if (rc < 0)
            return rc;
    }
    return 0;
}

/* Waits for an end until the deadline, and takes all there are. */
static void reap(struct run *r, int64_t deadline_ns)
{
    struct timespec ts = {deadline_ns / PD_NS_PER_S, deadline_ns % PD_NS_PER_S};
    bool any = false, late = false;

    pthread_mutex_lock(&r->lock);
    while (!any && !late) {
        for (size_t i = 0; i < r->c.concurrency; i++)
            any |= r->flights[i].job && r->flights[i].over;
        if (!any)
            late = pthread_cond_timedwait(&r->ended, &r->lock, &ts) == ETIMEDOUT;
    }
    pthread_mutex_unlock(&r->lock);
    for (size_t i = 0; i < r->c.concurrency; i++) {
        struct flight *f = &r->flights[i];
        bool over;

        pthread_mutex_lock(&r->lock);
        over = f->job && f->over;
        pthread_mutex_unlock(&r->lock);
        if (over)
            land(r, f);
    }
}

static bool too_many_failed(const struct run *r)
{
    double failed = (double)r->progress.n_failed, most = r->c.max_failed;

    if (most < 0)
        return false;
    return failed > (most < 1 ? most * (double)r->progress.n_jobs : most);
}

static void make_digest(struct run *r)
{
    struct pd_sha256 *h = pd_sha256_new();
    uint8_t sum[PD_SHA256_BYTES];

    if (!h)
        return;
    pd_sha256_add_str(h, PD_STR("ponder run 1"));
    for (size_t i = 0; i < r->n_jobs; i++) {
        const struct planned *j = &r->jobs[i];

        if (!j->asked)
            continue;
        pd_sha256_add_str(h, pd_str_of(r->recipe->variants[j->variant].name));
        pd_sha256_add_str(h, pd_str_of(r->recipe->problems[j->problem].id));
        pd_sha256_add_u64(h, j->repeat);
        pd_sha256_add_str(h, j->state == DONE ? pd_str_of(j->digest) : PD_STR("failed"));
    }
    pd_sha256_end(h, sum);
    pd_sha256_free(h);
    pd_hex(sum, sizeof sum, r->digest);
}

int run_step(struct run *r, int64_t deadline_ns, struct pd_err *err)
{
    struct pd_err why = {0};

    if (!r->stopping && r->fatal.code == PD_OK && fill(r, &why) < 0) {
        r->fatal = why;
        run_stop(r);
    }
    if (r->progress.n_running)
        reap(r, deadline_ns);
    pd_energy_read(&r->energy);
    if (!r->stopping && (r->fatal.code != PD_OK || too_many_failed(r)))
        run_stop(r);
    if (r->progress.n_running)
        return PD_ETIMEOUT;
    if (r->fatal.code != PD_OK) {
        if (err)
            *err = r->fatal;
        return r->fatal.code;
    }
    if (too_many_failed(r))
        return pd_fail(err, PD_ELIMIT, "%zu of %zu jobs failed, more than were allowed",
                       r->progress.n_failed, r->progress.n_jobs);
    if (r->progress.n_done + r->progress.n_failed < r->progress.n_jobs)
        return r->stopping ? pd_fail(err, PD_ECANCEL, "the run was interrupted") : PD_ETIMEOUT;
    make_digest(r);
    return 0;
}

void run_stop(struct run *r)
{
    r->stopping = true;
    for (size_t i = 0; i < r->c.concurrency; i++)
        if (r->flights[i].job)
            app_job_stop(r->flights[i].app_job, "paused");
}

/* ---- the end --------------------------------------------------------------------------------- */

static void result_line(const struct recipe *re, const struct planned *j,
                        const struct store_run_job *row, struct pd_buf *out)
{
    struct pd_jw w;

    pd_jw_init(&w, out);
    pd_jw_object(&w);
    pd_jw_put_text(&w, "variant", row->variant);
    pd_jw_put_text(&w, "strategy", row->strategy);
    pd_jw_put_text(&w, "problem", row->problem_key);
    pd_jw_put_uint(&w, "repeat", row->repeat);
    pd_jw_put_text(&w, "status", row->status);
    pd_jw_put_text(&w, "answer", row->answer);
    pd_jw_put_text(&w, "expected", re->problems[j->problem].expect);
    pd_jw_key(&w, "correct");
    if (row->correct < 0)
        pd_jw_null(&w);
    else
        pd_jw_bool(&w, row->correct == 1);
    pd_jw_put_text(&w, "stopped_by", row->stopped_by);
    if (row->error)
        pd_jw_put_text(&w, "error", row->error);
    pd_jw_key(&w, "usage");
    pd_jw_object(&w);
    pd_jw_put_uint(&w, "generated", row->generated);
    pd_jw_put_uint(&w, "prefilled", row->prefilled);
    pd_jw_put_uint(&w, "cached", row->cached);
    pd_jw_put_uint(&w, "scored", row->scored);
    pd_jw_put_uint(&w, "nodes", row->n_nodes);
    pd_jw_put_uint(&w, "scorer_passes", row->n_scores);
    pd_jw_put_int(&w, "sequential", row->sequential);
    pd_jw_end_object(&w);
    pd_jw_put_int(&w, "wall_ms", row->wall_ms);
    pd_jw_put_text(&w, "digest", row->digest);
    pd_jw_put_text(&w, "trace", row->id);
    pd_jw_end_object(&w);
    pd_buf_addc(out, '\n');
}

static int write_results(const struct run *r, struct pd_err *err)
{
    struct pd_buf out = PD_BUF_INIT((size_t)4 << 30);
    struct store_run_jobs *rows = NULL;
    int rc = store_run_jobs_load(app_store(r->app), r->id, &rows, err);

    for (size_t i = 0; rc == 0 && i < r->n_jobs; i++) {
        const struct store_run_job *row;
        char id[PD_JOB_ID_MAX];

        job_id(r, &r->jobs[i], id);
        row = rows->n ? bsearch(id, rows->jobs, rows->n, sizeof *row, row_by_id) : NULL;
        if (row)
            result_line(r->recipe, &r->jobs[i], row, &out);
    }
    if (rc == 0 && pd_buf_rc(&out) < 0)
        rc = no_memory(err);
    if (rc == 0)
        rc = write_file(r->dir, "results.jsonl", pd_buf_str(&out), err);
    store_run_jobs_free(rows);
    pd_buf_done(&out);
    return rc;
}

int run_finish(struct run *r, struct pd_err *err)
{
    int rc = write_results(r, err);

    return rc < 0 ? rc : store_state(r, run_is_whole(r) ? "done" : "paused", err);
}

void run_progress(const struct run *r, struct run_progress *out)
{
    *out = r->progress;
    for (size_t i = 0; i < r->c.concurrency; i++)
        if (r->flights[i].job)
            out->generated += atomic_load(&app_job_core(r->flights[i].app_job)->progress.tokens);
}

const char *run_id(const struct run *r)
{
    return r->id;
}

const struct recipe *run_recipe(const struct run *r)
{
    return r->recipe;
}

const char *run_digest(const struct run *r)
{
    return r->digest;
}

bool run_is_whole(const struct run *r)
{
    for (size_t i = 0; i < r->n_jobs; i++)
        if (r->jobs[i].state != DONE && r->jobs[i].state != FAILED)
            return false;
    return true;
}

/* ---- plans ----------------------------------------------------------------------------------- */

static int add_memory(struct app *a, const char *name, double lines, uint64_t n_at_once,
                      struct run_plan *p, struct pd_err *err)
{
    struct eng_memory m;
    struct eng_model_info info;
    char *path = NULL;
    int rc = find_model(name, &path, err);

    if (rc == 0)
        rc = eng_model_peek(path, &info, NULL, err);
    if (rc == 0) {
        rc = eng_model_estimate(a->eng, path, &m, err);
        if (rc == 0) {
            p->fixed_bytes += eng_memory_fixed(&m);
            p->kv_bytes += eng_memory_kv(&m, info.n_ctx, (uint64_t)lines * n_at_once, 0);
        }
        eng_model_info_done(&info);
    }
    free(path);
    return rc;
}

int run_plan(struct app *a, const struct recipe *re, const struct run_config *c,
             struct run_plan *out, struct pd_err *err)
{
    struct run_plan p = {.rows = calloc(re->n_variants, sizeof *p.rows)};
    const char *scorer = NULL, *draft = NULL;
    double most = 1;
    int rc = p.rows ? check_only(re, c, err) : no_memory(err);

    p.n_problems = c->limit && c->limit < re->n_problems ? c->limit : (uint64_t)re->n_problems;
    if (rc == 0 && a->store)
        rc = store_rates(a->store, re->model, &p.line_tokens, &p.tokens_per_s, err);
    for (size_t i = 0; i < re->n_variants && rc == 0; i++) {
        const struct recipe_variant *v = &re->variants[i];
        struct run_plan_row *row = &p.rows[p.n_rows];
        double each;

        if (!wants(c, v))
            continue;
        *row = (struct run_plan_row){.variant = v,
                                     .n_jobs = p.n_problems * re->repeats,
                                     .lines = v->samples ? (double)v->samples : 1};
        each = row->lines * p.line_tokens;
        if (re->budget.tokens && each > (double)re->budget.tokens)
            each = (double)re->budget.tokens;
        row->tokens = each * (double)row->n_jobs;
        most = row->lines > most ? row->lines : most;
        scorer = v->scorer && by_model(v->scorer) ? v->scorer : scorer;
        draft = drafts(v) ? (v->draft ? v->draft : app_default_draft) : draft;
        p.n_rows++;
    }
    if (rc == 0)
        rc = app_start_engine(a, re->kv_type, err);
    if (rc == 0)
        rc = add_memory(a, re->model, most, c->concurrency, &p, err);
    if (rc == 0 && scorer)
        rc = add_memory(a, scorer, most, c->concurrency, &p, err);
    if (rc == 0 && draft)
        rc = add_memory(a, draft, most, c->concurrency, &p, err);
    if (rc < 0) {
        run_plan_done(&p);
        return rc;
    }
    *out = p;
    return 0;
}

void run_plan_done(struct run_plan *p)
{
    free(p->rows);
    *p = (struct run_plan){0};
}
