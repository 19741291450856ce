/* Reading experiments back: runs and what their jobs came to. On the caller's thread, each request
 * one statement or one transaction on the reading connection. */
#include "storage/store_int.h"

#include <stdlib.h>
#include <string.h>

#include "base/arena.h"

struct runs_box {
    struct store_runs list;
    struct pd_arena arena;
};

struct jobs_box {
    struct store_run_jobs list;
    struct pd_arena arena;
};

/* The arena and an array in it: rows of what sql counts. */
static void *rows_in(struct reading *r, struct pd_arena *arena, const char *sql, const char *param,
                     size_t elem_bytes, size_t *out_cap)
{
    void *rows;

    pd_arena_init(arena, STORE_TRACE_MAX);
    r->arena = arena;
    *out_cap = 0;
    store_read_begin(r, sql, param);
    if (store_read_next(r))
        *out_cap = (size_t)store_take_int(r);
    store_read_end(r);
    rows = pd_arena_array(arena, *out_cap + 1, elem_bytes);
    if (!rows)
        store_read_no_memory(r);
    return rows;
}

static void take_id(struct reading *r, char id[PD_JOB_ID_MAX])
{
    const char *z = store_take_text(r);

    if (z && strlen(z) < PD_JOB_ID_MAX)
        strcpy(id, z);
    else if (r->rc == 0)
        r->rc =
            pd_fail(r->err, PD_EFORMAT, "database '%s' is damaged: the id of a run", r->s->path);
}

static void take_runs(struct reading *r, const char *asked, struct store_runs *list, size_t cap)
{
    store_read_begin(
        r,
        "SELECT r.id,r.name,r.status,r.lock,r.host,b.data,r.seed,r.created_ms,r.finished_ms,"
        "(SELECT count(*) FROM job j WHERE j.run_id=r.id),"
        "(SELECT count(*) FROM job j WHERE j.run_id=r.id AND j.status='done'),"
        "(SELECT count(*) FROM job j WHERE j.run_id=r.id AND j.status='failed')"
        " FROM run r JOIN blob b ON b.id=r.recipe_id"
        " WHERE ?1 IS NULL OR r.id=?1 OR (r.id BETWEEN ?1 AND ?1||char(1114111)"
        "  AND NOT EXISTS(SELECT 1 FROM run WHERE id=?1))"
        " ORDER BY r.created_ms DESC,r.rowid DESC",
        asked);
    for (; list->n < cap && store_read_next(r); list->n++) {
        struct store_run *run = &list->runs[list->n];

        take_id(r, run->id);
        run->name = store_take_text(r);
        run->status = store_take_text(r);
        run->lock = store_take_text(r);
        run->host = store_take_text(r);
        run->recipe = store_take_blob(r);
        run->seed = (uint64_t)store_take_int(r);
        run->created_ms = store_take_int(r);
        run->finished_ms = store_take_int(r);
        run->n_jobs = (uint64_t)store_take_int(r);
        run->n_done = (uint64_t)store_take_int(r);
        run->n_failed = (uint64_t)store_take_int(r);
    }
    store_read_end(r);
}

int store_run_list(struct store *s, const char *asked, struct store_runs **out, struct pd_err *err)
{
    struct runs_box *b = calloc(1, sizeof(*b));
    struct reading r = {.s = s, .err = err};
    struct store_runs *list;
    size_t cap;

    if (!b)
        return pd_fail(err, PD_ENOMEM, "out of memory");
    list = &b->list;
    store_read_lock(&r);
    list->runs =
        rows_in(&r, &b->arena, "SELECT count(*) FROM run", NULL, sizeof(*list->runs), &cap);
    take_runs(&r, asked, list, cap);
    store_read_unlock(&r);
    if (r.rc == 0 && asked && list->n == 0)
        r.rc = pd_fail(err, PD_ENOENT, "database '%s' has no run '%s' (see ponder runs ls)",
                       s->path, asked);
    else if (r.rc == 0 && asked && list->n > 1)
        r.rc = pd_fail(err, PD_EINVAL, "run id '%s' is ambiguous: %s, %s%s", asked,
                       list->runs[0].id, list->runs[1].id, list->n > 2 ? ", …" : "");
    if (r.rc < 0) {
        store_run_list_free(list);
        return r.rc;
    }
    *out = list;
    return 0;
}

void store_run_list_free(struct store_runs *list)
{
    struct runs_box *b = list ? pd_container_of(list, struct runs_box, list) : NULL;

    if (b)
        pd_arena_done(&b->arena);
    free(b);
}

static const char *or_empty(const char *z)
{
    return z ? z : "";
}

static void take_jobs(struct reading *r, const char *run_id, struct store_run_jobs *list,
                      size_t cap)
{
    store_read_begin(
        r,
        "SELECT j.id,j.variant,j.problem_key,j.strategy,j.status,j.stopped_by,j.answer,j.digest,"
        "j.error,j.repeat,j.correct,(SELECT count(*) FROM node n WHERE n.job_id=j.id),"
        "sum(c.generated_tokens),"
        "sum(CASE WHEN c.op<>'score' THEN c.prompt_tokens-c.cached_tokens END),"
        "sum(c.cached_tokens),"
        "sum(CASE WHEN c.op='score' THEN c.prompt_tokens-c.cached_tokens END),"
        "j.finished_ms-j.started_ms"
        " FROM job j LEFT JOIN call c ON c.job_id=j.id WHERE j.run_id=? GROUP BY j.id"
        " ORDER BY j.id",
        run_id);
    for (; list->n < cap && store_read_next(r); list->n++) {
        struct store_run_job *j = &list->jobs[list->n];

        j->id = or_empty(store_take_text(r));
        j->variant = or_empty(store_take_text(r));
        j->problem_key = or_empty(store_take_text(r));
        j->strategy = or_empty(store_take_text(r));
        j->status = or_empty(store_take_text(r));
        j->stopped_by = store_take_text(r);
        j->answer = store_take_text(r);
        j->digest = store_take_text(r);
        j->error = store_take_text(r);
        j->repeat = (uint32_t)store_take_int(r);
        j->correct = (int)store_take_int_or(r, -1);
        j->n_nodes = (uint64_t)store_take_int(r);
        j->generated = (uint64_t)store_take_int(r);
        j->prefilled = (uint64_t)store_take_int(r);
        j->cached = (uint64_t)store_take_int(r);
        j->scored = (uint64_t)store_take_int(r);
        j->wall_ms = store_take_int_or(r, -1);
    }
    store_read_end(r);
}

int store_run_jobs_load(struct store *s, const char *run_id, struct store_run_jobs **out,
                        struct pd_err *err)
{
    struct jobs_box *b = calloc(1, sizeof(*b));
    struct reading r = {.s = s, .err = err};
    size_t cap;

    if (!b)
        return pd_fail(err, PD_ENOMEM, "out of memory");
    store_read_lock(&r);
    b->list.jobs = rows_in(&r, &b->arena, "SELECT count(*) FROM job WHERE run_id=?", run_id,
                           sizeof(*b->list.jobs), &cap);
    take_jobs(&r, run_id, &b->list, cap);
    store_read_unlock(&r);
    if (r.rc < 0) {
        store_run_jobs_free(&b->list);
        return r.rc;
    }
    *out = &b->list;
    return 0;
}

void store_run_jobs_free(struct store_run_jobs *list)
{
    struct jobs_box *b = list ? pd_container_of(list, struct jobs_box, list) : NULL;

    if (b)
        pd_arena_done(&b->arena);
    free(b);
}

int store_rates(struct store *s, const char *model, double *out_line_tokens, double *out_tokens_s,
                struct pd_err *err)
{
    struct reading r = {.s = s, .err = err};
    double line = 0, rate = 0;

    pthread_mutex_lock(&s->read_lock);
    /* The newest are enough, and soon found. Jobs run beside each other: the time is that in which
     * any of them ran. */
    store_read_begin(&r,
                     "WITH j AS (SELECT id,started_ms AS a,finished_ms AS b FROM job WHERE"
                     "  status='done' AND model=? ORDER BY created_ms DESC LIMIT 1000),"
                     " t AS (SELECT sum(max(0,b-max(a,coalesce(before,a)))) AS ms FROM"
                     "  (SELECT a,b,max(b) OVER (ORDER BY a,b ROWS BETWEEN UNBOUNDED PRECEDING"
                     "   AND 1 PRECEDING) AS before FROM j))"
                     " SELECT coalesce((SELECT avg(n.n_tokens) FROM j JOIN node n ON n.job_id=j.id"
                     "  WHERE n.depth=1 AND n.finish='eos'),0),"
                     " coalesce(1000.0*(SELECT sum(c.generated_tokens) FROM j JOIN call c"
                     "  ON c.job_id=j.id)/(SELECT ms FROM t),0)",
                     model);
    if (store_read_next(&r)) {
        line = store_take_real(&r);
        rate = store_take_real(&r);
    }
    store_read_end(&r);
    pthread_mutex_unlock(&s->read_lock);
    if (r.rc < 0)
        return r.rc;
    *out_line_tokens = line;
    *out_tokens_s = rate;
    return 0;
}
