/* Reading jobs back, on the caller's thread, one request at a time on the reading connection. Each
 * request is one transaction, so that it sees one state of the file. The file may be foreign: sizes
 * are checked against counts before anything is used. */
#include "storage/store_int.h"

#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"

void store_read_no_memory(struct reading *r)
{
    if (r->rc == 0)
        r->rc = pd_fail(r->err, PD_ENOMEM, "out of memory while reading database '%s'", r->s->path);
}

int64_t store_take_int(struct reading *r)
{
    return sqlite3_column_int64(r->st, r->i++);
}

int64_t store_take_int_or(struct reading *r, int64_t when_null)
{
    int c = r->i++;

    return sqlite3_column_type(r->st, c) == SQLITE_NULL ? when_null
                                                        : sqlite3_column_int64(r->st, c);
}

double store_take_real(struct reading *r)
{
    int c = r->i++;

    return sqlite3_column_type(r->st, c) == SQLITE_NULL ? (double)NAN
                                                        : sqlite3_column_double(r->st, c);
}

const char *store_take_text(struct reading *r)
{
    int c = r->i++;
    const unsigned char *z = sqlite3_column_text(r->st, c);
    char *copy;

    if (!z) {
        if (sqlite3_column_type(r->st, c) != SQLITE_NULL)
            store_read_no_memory(r);
        return NULL;
    }
    copy = pd_arena_dup(r->arena,
                        (struct pd_str){(const char *)z, (size_t)sqlite3_column_bytes(r->st, c)});
    if (!copy)
        store_read_no_memory(r);
    return copy;
}

struct pd_str store_take_blob(struct reading *r)
{
    int c = r->i++;
    struct pd_str none = {NULL, 0};
    const void *p = sqlite3_column_blob(r->st, c);
    size_t n = (size_t)sqlite3_column_bytes(r->st, c);
    char *copy;

    if (sqlite3_column_type(r->st, c) == SQLITE_NULL)
        return none;
    copy = pd_arena_alloc(r->arena, n + 1);
    if (!copy || (n && !p)) {
        store_read_no_memory(r);
        return none;
    }
    if (n)
        memcpy(copy, p, n);
    return (struct pd_str){copy, n};
}

/* As take_blob, for n elements of four bytes; NULL when NULL. */
static const void *take_array(struct reading *r, uint32_t n, const char *what)
{
    struct pd_str b = store_take_blob(r);

    if (!b.ptr)
        return NULL;
    if (b.len != (size_t)n * 4) {
        if (r->rc == 0)
            r->rc = pd_fail(r->err, PD_EFORMAT,
                            "database '%s' is damaged: %zu bytes of %s for %u tokens", r->s->path,
                            b.len, what, n);
        return NULL;
    }
    return b.ptr;
}

void store_read_begin(struct reading *r, const char *sql, const char *param)
{
    int rc;

    r->st = NULL;
    if (r->rc < 0)
        return;
    rc = sqlite3_prepare_v2(r->s->rdb, sql, -1, &r->st, NULL);
    if (rc == SQLITE_OK && param)
        rc = sqlite3_bind_text(r->st, 1, param, -1, SQLITE_STATIC);
    if (rc != SQLITE_OK)
        r->rc = store_db_fail(r->s->rdb, r->s->path, rc, r->err);
}

void store_read_bind_int(struct reading *r, int i, int64_t v)
{
    if (r->rc == 0)
        sqlite3_bind_int64(r->st, i, v);
}

void store_read_bind_text(struct reading *r, int i, const char *z)
{
    if (r->rc == 0 && z && sqlite3_bind_text(r->st, i, z, -1, SQLITE_STATIC) != SQLITE_OK)
        store_read_no_memory(r);
}

bool store_read_next(struct reading *r)
{
    int rc;

    if (r->rc < 0)
        return false;
    rc = sqlite3_step(r->st);
    r->i = 0;
    if (rc == SQLITE_ROW)
        return true;
    if (rc != SQLITE_DONE)
        r->rc = store_db_fail(r->s->rdb, r->s->path, rc, r->err);
    return false;
}

void store_read_end(struct reading *r)
{
    sqlite3_finalize(r->st);
    r->st = NULL;
}

/* Rows of `table` for the job, and an array for them. *out_n is set when the array is there. */
static void *rows_array(struct reading *r, const char *count_sql, const char *job_id,
                        size_t elem_bytes, size_t *out_n)
{
    size_t n = 0;
    void *rows = NULL;

    store_read_begin(r, count_sql, job_id);
    if (store_read_next(r))
        n = (size_t)store_take_int(r);
    store_read_end(r);
    if (r->rc < 0 || n == 0)
        return NULL;
    rows = pd_arena_array(r->arena, n, elem_bytes);
    if (!rows)
        store_read_no_memory(r);
    else
        *out_n = n;
    return rows;
}

/* Takes the snapshot or gives it back. */
static void exec(struct reading *r, const char *sql)
{
    int rc = sqlite3_exec(r->s->rdb, sql, NULL, NULL, NULL);

    if (rc != SQLITE_OK && r->rc == 0)
        r->rc = store_db_fail(r->s->rdb, r->s->path, rc, r->err);
}

/* The whole id that `asked` means: itself, or the one id that begins with it. */
static void find_job(struct reading *r, const char *asked, char out_id[PD_JOB_ID_MAX])
{
    struct pd_buf ids = PD_BUF_INIT(4096);
    size_t n = 0;

    if (!asked || !*asked) {
        r->rc = pd_fail(r->err, PD_EINVAL, "a job id is needed");
        return;
    }
    store_read_begin(
        r,
        "SELECT id, id=?1 FROM job WHERE id BETWEEN ?1 AND ?1||char(1114111) ORDER BY id "
        "LIMIT 7",
        asked);
    while (store_read_next(r)) {
        const unsigned char *z = sqlite3_column_text(r->st, 0);
        const char *id = z ? (const char *)z : "";

        if (strlen(id) >= PD_JOB_ID_MAX) {
            r->rc = pd_fail(r->err, PD_EFORMAT, "database '%s' is damaged: a job id of %zu bytes",
                            r->s->path, strlen(id));
            break;
        }
        n++;
        if (n <= 6)
            pd_buf_printf(&ids, "%s%s", n > 1 ? ", " : "", id);
        if (n == 1)
            memcpy(out_id, id, strlen(id) + 1);
        if (sqlite3_column_int(r->st, 1)) /* sorts first; longer ids do not matter then */
            break;
    }
    store_read_end(r);
    if (r->rc == 0 && n == 0)
        r->rc = pd_fail(r->err, PD_ENOENT, "database '%s' has no job '%s'", r->s->path, asked);
    else if (r->rc == 0 && n > 1)
        r->rc = pd_fail(r->err, PD_EINVAL, "job id '%s' is ambiguous: %s%s", asked,
                        pd_buf_str(&ids).ptr, n > 6 ? ", …" : "");
    pd_buf_done(&ids);
}

const char *store_read_column(const struct reading *r, int since, const char *name)
{
    return store_db_version(r->s->rdb) >= since ? name : "NULL";
}

static void load_job(struct reading *r, const char *id, struct pd_job_rec *j)
{
    char sql[400];

    snprintf(sql, sizeof(sql),
             "SELECT j.id,problem_key,repeat,strategy,options,model,scorer,seed,status,stopped_by,"
             "b.data,budget,created_ms,started_ms,finished_ms,answer_node,answer,correct,error,"
             "digest,run_id,%s,%s FROM job j LEFT JOIN blob b ON b.id=j.request_id WHERE j.id=?",
             store_read_column(r, 3, "variant"), store_read_column(r, 4, "sequential"));
    store_read_begin(r, sql, id);
    if (store_read_next(r)) {
        j->id = store_take_text(r);
        j->problem_key = store_take_text(r);
        j->repeat = (uint32_t)store_take_int(r);
        j->strategy = store_take_text(r);
        j->options = store_take_text(r);
        j->model = store_take_text(r);
        j->scorer = store_take_text(r);
        j->seed = (uint64_t)store_take_int(r);
        j->status = store_take_text(r);
        j->stopped_by = store_take_text(r);
        j->request = store_take_blob(r);
        j->budget = store_take_text(r);
        j->created_ms = store_take_int(r);
        j->started_ms = store_take_int(r);
        j->finished_ms = store_take_int(r);
        j->answer_node = store_take_int_or(r, -1);
        j->answer = store_take_text(r);
        j->correct = (int)store_take_int_or(r, -1);
        j->error = store_take_text(r);
        j->digest = store_take_text(r);
        j->run_id = store_take_text(r);
        j->variant = store_take_text(r);
        j->sequential = store_take_int_or(r, -1);
    }
    store_read_end(r);
}

static void load_nodes(struct reading *r, const char *id, struct pd_trace *t)
{
    char sql[500];

    t->nodes = rows_array(r, "SELECT count(*) FROM node WHERE job_id=?", id, sizeof(*t->nodes),
                          &t->n_nodes);
    snprintf(sql, sizeof(sql),
             "SELECT n.id,n.parent,n.depth,n.step,n.status,n.prune_reason,t.data,n.n_tokens,k.data,"
             "l.data,c.data,n.logprob,n.finish,n.stop,n.seed,n.created_ms,n.call_id FROM node n"
             " LEFT JOIN blob t ON t.id=n.text_id LEFT JOIN blob k ON k.id=n.tokens_id"
             " LEFT JOIN blob l ON l.id=n.logprobs_id LEFT JOIN blob c ON c.id=%s"
             " WHERE n.job_id=? ORDER BY n.id",
             store_read_column(r, 4, "n.confidences_id"));
    store_read_begin(r, sql, id);
    for (size_t i = 0; i < t->n_nodes && store_read_next(r); i++) {
        struct pd_node_rec *n = &t->nodes[i];

        n->id = (uint32_t)store_take_int(r);
        n->parent = (uint32_t)store_take_int_or(r, n->id);
        n->depth = (uint32_t)store_take_int(r);
        n->step = (uint32_t)store_take_int(r);
        n->status = store_take_text(r);
        n->prune_reason = store_take_text(r);
        n->text = store_take_blob(r);
        n->n_tokens = (uint32_t)store_take_int(r);
        n->tokens = take_array(r, n->n_tokens, "token numbers");
        n->logprobs = take_array(r, n->n_tokens, "log-probabilities");
        n->confidences = take_array(r, n->n_tokens, "confidences");
        n->logprob = store_take_real(r);
        n->finish = store_take_text(r);
        n->stop = store_take_text(r);
        n->seed = (uint64_t)store_take_int(r);
        n->created_ms = store_take_int(r);
        n->call_id = store_take_int_or(r, -1);
    }
    store_read_end(r);
}

/* score.steps: a JSON array of numbers; null is what was not finite. */
static void parse_steps(struct reading *r, const char *json, struct pd_score_rec *score)
{
    struct pd_json *root = NULL;
    const struct pd_json *v;
    double *steps;
    size_t n, i = 0;

    if (!json || r->rc < 0)
        return;
    r->rc = pd_json_parse(pd_str_of(json), &root, r->err);
    if (r->rc == 0 && (!pd_json_is_array(root) || pd_json_size(root) > UINT32_MAX))
        r->rc = pd_fail(r->err, PD_EFORMAT, "not an array");
    if (r->rc < 0) {
        pd_err_context(r->err, "database '%s' is damaged: steps of a score", r->s->path);
        pd_json_free(root);
        return;
    }
    n = pd_json_size(root);
    steps = pd_arena_array(r->arena, n ? n : 1, sizeof(*steps));
    if (!steps)
        store_read_no_memory(r);
    for (v = pd_json_first(root); steps && v && i < n; v = pd_json_next(v), i++)
        if (!pd_json_number(v, &steps[i]))
            steps[i] = (double)NAN;
    score->steps = steps;
    score->n_steps = steps ? (uint32_t)n : 0;
    pd_json_free(root);
}

static void load_scores(struct reading *r, const char *id, struct pd_trace *t)
{
    t->scores = rows_array(r, "SELECT count(*) FROM score WHERE job_id=?", id, sizeof(*t->scores),
                           &t->n_scores);
    store_read_begin(
        r,
        "SELECT node_id,scorer,kind,value,call_id,steps FROM score WHERE job_id=? ORDER BY "
        "node_id,id",
        id);
    for (size_t i = 0; i < t->n_scores && store_read_next(r); i++) {
        struct pd_score_rec *c = &t->scores[i];

        c->node_id = (uint32_t)store_take_int(r);
        c->scorer = store_take_text(r);
        c->kind = store_take_text(r);
        c->value = store_take_real(r);
        c->call_id = store_take_int_or(r, -1);
        parse_steps(r, store_take_text(r), c);
    }
    store_read_end(r);
}

static void load_calls(struct reading *r, const char *id, struct pd_trace *t)
{
    t->calls = rows_array(r, "SELECT count(*) FROM call WHERE job_id=?", id, sizeof(*t->calls),
                          &t->n_calls);
    store_read_begin(
        r,
        "SELECT engine,dialect,op,model,outcome,prompt_tokens,cached_tokens,generated_tokens,"
        "started_ms,ended_ms,error,attempt,http,first_ms FROM call WHERE job_id=? ORDER BY seq",
        id);
    for (size_t i = 0; i < t->n_calls && store_read_next(r); i++) {
        struct pd_call_rec *c = &t->calls[i];

        c->engine = store_take_text(r);
        c->dialect = store_take_text(r);
        c->op = store_take_text(r);
        c->model = store_take_text(r);
        c->outcome = store_take_text(r);
        c->prompt_tokens = (uint64_t)store_take_int(r);
        c->cached_tokens = (uint64_t)store_take_int(r);
        c->generated_tokens = (uint64_t)store_take_int(r);
        c->started_ms = store_take_int(r);
        c->ended_ms = store_take_int(r);
        c->error = store_take_text(r);
        c->attempt = (uint32_t)store_take_int(r);
        c->http = (int)store_take_int_or(r, 0);
        c->first_ms = store_take_int_or(r, 0);
    }
    store_read_end(r);
}

static void load_events(struct reading *r, const char *id, struct pd_trace *t)
{
    t->events = rows_array(r, "SELECT count(*) FROM event WHERE job_id=?", id, sizeof(*t->events),
                           &t->n_events);
    store_read_begin(r, "SELECT seq,t_ms,type,data FROM event WHERE job_id=? ORDER BY seq", id);
    for (size_t i = 0; i < t->n_events && store_read_next(r); i++) {
        struct pd_event_rec *e = &t->events[i];

        e->seq = (uint64_t)store_take_int(r);
        e->t_ms = store_take_int(r);
        e->type = store_take_text(r);
        e->data = store_take_text(r);
    }
    store_read_end(r);
}

void store_read_lock(struct reading *r)
{
    pthread_mutex_lock(&r->s->read_lock);
    exec(r, "BEGIN");
}

void store_read_unlock(struct reading *r)
{
    if (!sqlite3_get_autocommit(r->s->rdb))
        exec(r, "ROLLBACK");
    pthread_mutex_unlock(&r->s->read_lock);
}

int store_read(struct store *s,
               void (*load)(struct reading *r, const void *what, struct store_box *box),
               const void *what, struct store_box **out, struct pd_err *err)
{
    struct store_box *box = calloc(1, sizeof(*box));
    struct reading r = {.s = s, .err = err};

    if (!box)
        return pd_fail(err, PD_ENOMEM, "out of memory");
    pd_arena_init(&box->arena, STORE_TRACE_MAX);
    r.arena = &box->arena;
    store_read_lock(&r);
    load(&r, what, box);
    store_read_unlock(&r);
    if (r.rc < 0)
        store_box_free(box);
    else
        *out = box;
    return r.rc;
}

void store_box_free(void *is)
{
    struct store_box *box = is; /* its first member */

    if (!box)
        return;
    pd_arena_done(&box->arena);
    free(box);
}

static void load_trace(struct reading *r, const void *asked, struct store_box *box)
{
    struct pd_trace *t = &box->is.trace;
    char id[PD_JOB_ID_MAX] = "";

    find_job(r, asked, id);
    load_job(r, id, &t->job);
    load_nodes(r, id, t);
    load_scores(r, id, t);
    load_calls(r, id, t);
    load_events(r, id, t);
}

int store_trace_load(struct store *s, const char *job_id, struct pd_trace **out, struct pd_err *err)
{
    struct store_box *box;
    int rc = store_read(s, load_trace, job_id, &box, err);

    if (rc == 0)
        *out = &box->is.trace;
    return rc;
}

void store_trace_free(struct pd_trace *t)
{
    store_box_free(t);
}

/* A malloc'ed copy of the next column; NULL stays NULL, unless it must not. */
static char *take_copy(struct reading *r, bool must)
{
    const unsigned char *z = sqlite3_column_text(r->st, r->i++);
    char *copy = z || must ? strdup(z ? (const char *)z : "") : NULL;

    if (!copy && (z || must))
        store_read_no_memory(r);
    return copy;
}

/* "created_ms-rowid" of the last row that was listed. */
static bool parse_cursor(const char *cursor, int64_t *out_ms, int64_t *out_rowid)
{
    struct pd_str s = pd_str_of(cursor);
    ptrdiff_t dash = pd_str_find(s, PD_STR("-"));

    return dash >= 0 && pd_parse_i64(pd_str_sub(s, 0, (size_t)dash), out_ms) &&
           pd_parse_i64(pd_str_sub(s, (size_t)dash + 1, s.len), out_rowid);
}

void store_cursor(const struct store_job_row *row, char out[STORE_CURSOR_MAX])
{
    snprintf(out, STORE_CURSOR_MAX, "%lld-%lld", (long long)row->created_ms, (long long)row->place);
}

/* The WHERE of what is asked for, so that an index serves each; its parameters are ?2 to ?6. */
static void list_sql(const struct store_job_query *q, struct pd_buf *sql)
{
    pd_buf_addz(sql,
                "SELECT j.id,j.rowid,j.strategy,j.model,j.status,j.budget,j.scorer,j.stopped_by,"
                "j.answer,j.problem_key,"
                "(SELECT CASE WHEN json_valid(CAST(b.data AS TEXT))"
                " THEN json_extract(CAST(b.data AS TEXT),'$.question') END"
                " FROM blob b WHERE b.id=j.request_id),"
                "j.error,j.digest,j.created_ms,j.started_ms,j.finished_ms,j.seed,"
                "(SELECT count(*) FROM node n WHERE n.job_id=j.id),"
                "(SELECT coalesce(sum(c.generated_tokens),0) FROM call c WHERE c.job_id=j.id)"
                " FROM job j WHERE 1");
    if (q->id)
        pd_buf_addz(sql, " AND j.id=?2");
    if (q->status)
        pd_buf_addz(sql, " AND j.status=?3");
    if (q->run_id)
        pd_buf_addz(sql, " AND j.run_id=?4");
    if (q->cursor)
        pd_buf_addz(sql, " AND (j.created_ms,j.rowid)<(?5,?6)");
    pd_buf_addz(sql, " ORDER BY j.created_ms DESC, j.rowid DESC LIMIT ?1");
}

static void take_row(struct reading *r, struct store_job_row *row)
{
    const unsigned char *id = sqlite3_column_text(r->st, r->i++);

    if (id) /* longer ids are not ours */
        strncpy(row->id, (const char *)id, sizeof(row->id) - 1);
    row->place = store_take_int(r);
    row->strategy = take_copy(r, true);
    row->model = take_copy(r, true);
    row->status = take_copy(r, true);
    row->budget = take_copy(r, true);
    row->scorer = take_copy(r, false);
    row->stopped_by = take_copy(r, false);
    row->answer = take_copy(r, false);
    row->problem_key = take_copy(r, false);
    row->question = take_copy(r, false);
    row->error = take_copy(r, false);
    row->digest = take_copy(r, false);
    row->created_ms = store_take_int(r);
    row->started_ms = store_take_int(r);
    row->finished_ms = store_take_int(r);
    row->seed = (uint64_t)store_take_int(r);
    row->n_nodes = (uint64_t)store_take_int(r);
    row->generated = (uint64_t)store_take_int(r);
}

int store_job_list(struct store *s, const struct store_job_query *q, struct store_job_row **out,
                   size_t *out_n, struct pd_err *err)
{
    struct reading r = {.s = s, .err = err};
    struct pd_buf sql = PD_BUF_INIT(4096);
    struct store_job_row *rows = NULL, *more;
    int64_t ms = 0, rowid = 0;
    size_t n = 0, cap = 0;

    if (q->cursor && !parse_cursor(q->cursor, &ms, &rowid))
        return pd_fail(err, PD_EINVAL, "'%s' is not a cursor of a list of jobs", q->cursor);
    list_sql(q, &sql);
    if (pd_buf_rc(&sql) < 0) {
        pd_buf_done(&sql);
        return pd_fail(err, PD_ENOMEM, "out of memory");
    }
    pthread_mutex_lock(&s->read_lock);
    store_read_begin(&r, pd_buf_str(&sql).ptr, NULL);
    store_read_bind_int(&r, 1, q->limit == 0 || q->limit > INT64_MAX ? -1 : (int64_t)q->limit);
    store_read_bind_text(&r, 2, q->id);
    store_read_bind_text(&r, 3, q->status);
    store_read_bind_text(&r, 4, q->run_id);
    store_read_bind_int(&r, 5, ms);
    store_read_bind_int(&r, 6, rowid);
    while (store_read_next(&r)) {
        if (n == cap) {
            cap = cap ? cap * 2 : 32;
            more = reallocarray(rows, cap, sizeof(*rows));
            if (!more) {
                store_read_no_memory(&r);
                break;
            }
            rows = more;
        }
        memset(&rows[n], 0, sizeof(*rows));
        take_row(&r, &rows[n++]); /* counted, so that an error frees what it has */
    }
    store_read_end(&r);
    pthread_mutex_unlock(&s->read_lock);
    pd_buf_done(&sql);

    if (r.rc < 0) {
        store_job_list_free(rows, n);
        return r.rc;
    }
    *out = rows;
    *out_n = n;
    return 0;
}

void store_job_list_free(struct store_job_row *rows, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        free(rows[i].strategy);
        free(rows[i].model);
        free(rows[i].status);
        free(rows[i].scorer);
        free(rows[i].stopped_by);
        free(rows[i].answer);
        free(rows[i].problem_key);
        free(rows[i].question);
        free(rows[i].budget);
        free(rows[i].error);
        free(rows[i].digest);
    }
    free(rows);
}
