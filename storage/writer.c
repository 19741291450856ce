/* The writer thread: the only one that touches the writing connection. It takes all that waits in
 * the inbox into one transaction, so that under load one fsync serves many rows. The first error
 * rolls its transaction back and ends all writing; from then on messages are only freed, so that
 * nobody waits for room or for a flush that never comes. */
#include "storage/store_int.h"

#include <stdlib.h>

#include "base/clock.h"
#include "base/hash.h"
#include "base/json.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
               "token and log-probability arrays are stored as they stand in memory");

/* Updating in place and not INSERT OR REPLACE: that would delete the old row first, and with it, by
 * the foreign keys, all that refers to it. */
#define BLOBS_OF(jobs)                                                                             \
    "INSERT OR IGNORE INTO asked SELECT request_id FROM job WHERE id" jobs                         \
    " UNION SELECT text_id FROM node WHERE job_id" jobs " AND text_id IS NOT NULL"                 \
    " UNION SELECT tokens_id FROM node WHERE job_id" jobs " AND tokens_id IS NOT NULL"             \
    " UNION SELECT logprobs_id FROM node WHERE job_id" jobs " AND logprobs_id IS NOT NULL"         \
    " UNION SELECT request_id FROM call WHERE job_id" jobs " AND request_id IS NOT NULL"           \
    " UNION SELECT response_id FROM call WHERE job_id" jobs " AND response_id IS NOT NULL"
static const char *const sqls[STORE_N_STMTS] = {
    [STORE_STMT_BEGIN] = "BEGIN IMMEDIATE",
    [STORE_STMT_COMMIT] = "COMMIT",
    [STORE_STMT_ROLLBACK] = "ROLLBACK",
    [STORE_STMT_BLOB_FIND] = "SELECT id FROM blob WHERE sha256=?",
    [STORE_STMT_BLOB_ADD] = "INSERT INTO blob(sha256,size,enc,data) VALUES(?,?,?,?)",
    [STORE_STMT_JOB] =
        "INSERT INTO job(id,problem_key,repeat,strategy,options,model,scorer,seed,status,"
        "stopped_by,request_id,budget,created_ms,started_ms,finished_ms,answer_node,answer,"
        "correct,error,digest,run_id,variant,sequential) "
        "VALUES(?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?) "
        "ON CONFLICT(id) DO UPDATE SET problem_key=excluded.problem_key,repeat=excluded.repeat,"
        "strategy=excluded.strategy,options=excluded.options,model=excluded.model,"
        "scorer=excluded.scorer,seed=excluded.seed,status=excluded.status,"
        "stopped_by=excluded.stopped_by,request_id=excluded.request_id,budget=excluded.budget,"
        "created_ms=excluded.created_ms,started_ms=excluded.started_ms,"
        "finished_ms=excluded.finished_ms,answer_node=excluded.answer_node,"
        "answer=excluded.answer,correct=excluded.correct,error=excluded.error,"
        "digest=excluded.digest,sequential=excluded.sequential",
    [STORE_STMT_JOB_SUBMIT] = "UPDATE job SET idem_key=?2,peer_uid=?3 WHERE id=?1",
    [STORE_STMT_SUBMISSION] =
        "INSERT INTO submission(job_id,seq,client,priority,attached,body_sha256) "
        "VALUES(?,?,?,?,?,?)",
    [STORE_STMT_JOB_STATE] =
        "UPDATE job SET status=?2,stopped_by=?3,error=?4,started_ms=coalesce(?5,started_ms),"
        "finished_ms=?6 WHERE id=?1",
    /* Blobs that may be free are put into a table of the connection's, then looked for once more.
     */
    [STORE_STMT_JOB_BLOBS] = BLOBS_OF("=?1"),
    [STORE_STMT_RUN_BLOBS] = BLOBS_OF(
        " IN (SELECT id FROM job WHERE run_id=?1)") " UNION SELECT recipe_id FROM run WHERE id=?1",
    [STORE_STMT_GC_BLOBS] = "INSERT INTO asked SELECT id FROM blob WHERE id BETWEEN ? AND ?",
    [STORE_STMT_BLOB_FREE] =
        "DELETE FROM blob WHERE id IN (SELECT id FROM asked)"
        " AND NOT EXISTS(SELECT 1 FROM node WHERE text_id=blob.id)"
        " AND NOT EXISTS(SELECT 1 FROM node WHERE tokens_id=blob.id)"
        " AND NOT EXISTS(SELECT 1 FROM node WHERE logprobs_id=blob.id)"
        " AND NOT EXISTS(SELECT 1 FROM job WHERE request_id=blob.id)"
        " AND NOT EXISTS(SELECT 1 FROM call WHERE request_id=blob.id)"
        " AND NOT EXISTS(SELECT 1 FROM call WHERE response_id=blob.id)"
        " AND NOT EXISTS(SELECT 1 FROM run WHERE recipe_id=blob.id) RETURNING size",
    [STORE_STMT_ASKED_CLEAR] = "DELETE FROM asked",
    [STORE_STMT_JOB_DELETE] = "DELETE FROM job WHERE id=?",
    [STORE_STMT_RUN] =
        "INSERT INTO run(id,name,created_ms,finished_ms,status,recipe_id,lock,seed,host) "
        "VALUES(?,?,?,?,?,?,?,?,?) "
        "ON CONFLICT(id) DO UPDATE SET name=excluded.name,finished_ms=excluded.finished_ms,"
        "status=excluded.status,recipe_id=excluded.recipe_id,lock=excluded.lock,"
        "seed=excluded.seed,host=excluded.host",
    [STORE_STMT_RUN_DELETE] = "DELETE FROM run WHERE id=?",
    [STORE_STMT_ARTIFACT_FIND] = "SELECT id FROM artifact WHERE kind=? AND name=? AND sha256=?",
    [STORE_STMT_ARTIFACT_ADD] = "INSERT INTO artifact(kind,name,sha256,size) VALUES(?,?,?,?)",
    [STORE_STMT_RUN_ARTIFACT] =
        "INSERT INTO run_artifact(run_id,artifact_id,role) VALUES(?,?,?) ON CONFLICT DO NOTHING",
    [STORE_STMT_NODE] =
        "INSERT INTO node(job_id,id,parent,depth,step,status,prune_reason,text_id,tokens_id,"
        "logprobs_id,n_tokens,logprob,finish,stop,seed,call_id,created_ms) "
        "VALUES(?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?) "
        "ON CONFLICT(job_id,id) DO UPDATE SET parent=excluded.parent,depth=excluded.depth,"
        "step=excluded.step,status=excluded.status,prune_reason=excluded.prune_reason,"
        "text_id=excluded.text_id,tokens_id=excluded.tokens_id,"
        "logprobs_id=excluded.logprobs_id,n_tokens=excluded.n_tokens,logprob=excluded.logprob,"
        "finish=excluded.finish,stop=excluded.stop,seed=excluded.seed,"
        "call_id=excluded.call_id,created_ms=excluded.created_ms",
    [STORE_STMT_SCORE] =
        "INSERT INTO score(job_id,node_id,scorer,kind,value,steps,call_id) VALUES(?,?,?,?,?,?,?) "
        "ON CONFLICT(job_id,node_id,scorer) DO UPDATE SET kind=excluded.kind,"
        "value=excluded.value,steps=excluded.steps,call_id=excluded.call_id",
    [STORE_STMT_CALL] =
        "INSERT INTO call(job_id,engine,dialect,op,model,outcome,prompt_tokens,cached_tokens,"
        "generated_tokens,started_ms,ended_ms,error,attempt,key,seq) "
        "SELECT ?1,?,?,?,?,?,?,?,?,?,?,?,0,x'',coalesce(max(seq)+1,0) FROM call WHERE job_id=?1",
    [STORE_STMT_EVENT] =
        "INSERT INTO event(job_id,seq,t_ms,type,data) VALUES(?,?,?,?,?) "
        "ON CONFLICT(job_id,seq) DO UPDATE SET t_ms=excluded.t_ms,type=excluded.type,"
        "data=excluded.data",
};

int store_writer_prepare(struct store *s, struct pd_err *err)
{
    int rc = store_db_exec(
        s->wdb, s->path,
        "PRAGMA temp_store=MEMORY; CREATE TEMP TABLE asked(id INTEGER PRIMARY KEY)", err);

    for (int i = 0; i < STORE_N_STMTS && rc == 0; i++)
        rc = store_db_prepare(s->wdb, s->path, sqls[i], &s->stmts[i], err);
    return rc;
}

void store_writer_finalize(struct store *s)
{
    for (int i = 0; i < STORE_N_STMTS; i++) {
        sqlite3_finalize(s->stmts[i]);
        s->stmts[i] = NULL;
    }
}

/* Runs a statement that returns no rows; bind_rc: how binding its parameters went. */
static int run(struct store *s, enum store_stmt which, int bind_rc, struct pd_err *err)
{
    sqlite3_stmt *st = s->stmts[which];
    int rc = bind_rc ? bind_rc : sqlite3_step(st);

    rc = rc == SQLITE_DONE || rc == SQLITE_OK ? 0 : store_db_fail(s->wdb, s->path, rc, err);
    sqlite3_reset(st);
    sqlite3_clear_bindings(st);
    return rc;
}

static int put_blob(struct store *s, const void *bytes, size_t n, const char *enc, int64_t *out_id,
                    struct pd_err *err)
{
    uint8_t sha[PD_SHA256_BYTES];
    struct store_bind f = {s->stmts[STORE_STMT_BLOB_FIND], 0, 0};
    struct store_bind a = {s->stmts[STORE_STMT_BLOB_ADD], 0, 0};
    int rc, step;

    pd_sha256_bytes(n ? bytes : "", n, sha);
    store_bind_blob(&f, sha, sizeof(sha));
    step = f.rc ? f.rc : sqlite3_step(f.st);
    rc = 0;
    if (step == SQLITE_ROW)
        *out_id = sqlite3_column_int64(f.st, 0);
    else if (step != SQLITE_DONE)
        rc = store_db_fail(s->wdb, s->path, step, err);
    sqlite3_reset(f.st);
    sqlite3_clear_bindings(f.st);
    if (step != SQLITE_DONE)
        return rc;

    store_bind_blob(&a, sha, sizeof(sha));
    store_bind_int(&a, (int64_t)n);
    store_bind_text(&a, enc);
    store_bind_blob(&a, bytes, n);
    rc = run(s, STORE_STMT_BLOB_ADD, a.rc, err);
    if (rc == 0)
        *out_id = sqlite3_last_insert_rowid(s->wdb);
    return rc;
}

static int put_job(struct store *s, const char *id, const struct pd_job_rec *r, struct pd_err *err)
{
    struct store_bind b = {s->stmts[STORE_STMT_JOB], 0, 0};
    int64_t request_id = 0;
    int rc = put_blob(s, r->request.ptr, r->request.len, "raw", &request_id, err);

    if (rc < 0)
        return rc;
    store_bind_text(&b, id);
    store_bind_text(&b, r->problem_key);
    store_bind_int(&b, r->repeat);
    store_bind_text(&b, r->strategy);
    store_bind_text(&b, r->options ? r->options : "{}");
    store_bind_text(&b, r->model);
    store_bind_text(&b, r->scorer);
    store_bind_int(&b, (int64_t)r->seed);
    store_bind_text(&b, r->status);
    store_bind_text(&b, r->stopped_by);
    store_bind_int(&b, request_id);
    store_bind_text(&b, r->budget ? r->budget : "{}");
    store_bind_int(&b, r->created_ms);
    store_bind_int_or_null(&b, r->started_ms, 0);
    store_bind_int_or_null(&b, r->finished_ms, 0);
    store_bind_int_or_null(&b, r->answer_node, -1);
    store_bind_text(&b, r->answer);
    store_bind_int_or_null(&b, r->correct, -1);
    store_bind_text(&b, r->error);
    store_bind_text(&b, r->digest);
    store_bind_text(&b, r->run_id);
    store_bind_text(&b, r->variant);
    store_bind_int_or_null(&b, r->sequential, -1);
    return run(s, STORE_STMT_JOB, b.rc, err);
}

static int put_artifact(struct store *s, const char *run_id, const struct store_artifact *a,
                        struct pd_err *err)
{
    struct store_bind f = {s->stmts[STORE_STMT_ARTIFACT_FIND], 0, 0};
    struct store_bind n = {s->stmts[STORE_STMT_ARTIFACT_ADD], 0, 0};
    struct store_bind l = {s->stmts[STORE_STMT_RUN_ARTIFACT], 0, 0};
    int64_t id = 0;
    int rc = 0, step;

    store_bind_text(&f, a->kind);
    store_bind_text(&f, a->name);
    store_bind_blob(&f, a->sha256, sizeof(a->sha256));
    step = f.rc ? f.rc : sqlite3_step(f.st);
    if (step == SQLITE_ROW)
        id = sqlite3_column_int64(f.st, 0);
    else if (step != SQLITE_DONE)
        rc = store_db_fail(s->wdb, s->path, step, err);
    sqlite3_reset(f.st);
    sqlite3_clear_bindings(f.st);
    if (step == SQLITE_DONE) {
        store_bind_text(&n, a->kind);
        store_bind_text(&n, a->name);
        store_bind_blob(&n, a->sha256, sizeof(a->sha256));
        store_bind_int(&n, (int64_t)a->bytes);
        rc = run(s, STORE_STMT_ARTIFACT_ADD, n.rc, err);
        id = sqlite3_last_insert_rowid(s->wdb);
    }
    if (rc < 0)
        return rc;
    store_bind_text(&l, run_id);
    store_bind_int(&l, id);
    store_bind_text(&l, a->role);
    return run(s, STORE_STMT_RUN_ARTIFACT, l.rc, err);
}

static int put_run(struct store *s, const char *id, const struct store_run *r, struct pd_err *err)
{
    struct store_bind b = {s->stmts[STORE_STMT_RUN], 0, 0};
    int64_t recipe_id = 0;
    int rc = put_blob(s, r->recipe.ptr, r->recipe.len, "raw", &recipe_id, err);

    if (rc < 0)
        return rc;
    store_bind_text(&b, id);
    store_bind_text(&b, r->name);
    store_bind_int(&b, r->created_ms);
    store_bind_int_or_null(&b, r->finished_ms, 0);
    store_bind_text(&b, r->status);
    store_bind_int(&b, recipe_id);
    store_bind_text(&b, r->lock);
    store_bind_int(&b, (int64_t)r->seed);
    store_bind_text(&b, r->host);
    rc = run(s, STORE_STMT_RUN, b.rc, err);
    for (size_t i = 0; i < r->n_artifacts && rc == 0; i++)
        rc = put_artifact(s, id, &r->artifacts[i], err);
    return rc;
}

static int put_submission(struct store *s, const char *id, const struct pd_job_rec *job,
                          const struct store_submission *how, struct pd_err *err)
{
    struct store_bind u = {s->stmts[STORE_STMT_JOB_SUBMIT], 0, 0};
    struct store_bind b = {s->stmts[STORE_STMT_SUBMISSION], 0, 0};
    int rc = put_job(s, id, job, err);

    if (rc < 0)
        return rc;
    store_bind_text(&u, id);
    store_bind_text(&u, how->idem_key);
    store_bind_int_or_null(&u, how->peer_uid, -1);
    rc = run(s, STORE_STMT_JOB_SUBMIT, u.rc, err);
    if (rc < 0)
        return rc;
    store_bind_text(&b, id);
    store_bind_int(&b, how->seq);
    store_bind_text(&b, how->client);
    store_bind_int(&b, how->priority);
    store_bind_int(&b, how->attached);
    store_bind_blob(&b, how->body_sha256, sizeof(how->body_sha256));
    return run(s, STORE_STMT_SUBMISSION, b.rc, err);
}

static int put_state(struct store *s, const char *id, const struct store_job_state *r,
                     struct pd_err *err)
{
    struct store_bind b = {s->stmts[STORE_STMT_JOB_STATE], 0, 0};

    store_bind_text(&b, id);
    store_bind_text(&b, r->status);
    store_bind_text(&b, r->stopped_by);
    store_bind_text(&b, r->error);
    store_bind_int_or_null(&b, r->started_ms, 0);
    store_bind_int_or_null(&b, r->finished_ms, 0);
    return run(s, STORE_STMT_JOB_STATE, b.rc, err);
}

/* Deletes those of the blobs asked about that nothing refers to. */
static int free_blobs(struct store *s, struct pd_err *err)
{
    sqlite3_stmt *st = s->stmts[STORE_STMT_BLOB_FREE];
    int rc;

    while ((rc = sqlite3_step(st)) == SQLITE_ROW) {
        atomic_fetch_add(&s->n_freed, 1);
        atomic_fetch_add(&s->bytes_freed, (uint64_t)sqlite3_column_int64(st, 0));
    }
    rc = rc == SQLITE_DONE ? 0 : store_db_fail(s->wdb, s->path, rc, err);
    sqlite3_reset(st);
    return rc < 0 ? rc : run(s, STORE_STMT_ASKED_CLEAR, 0, err);
}

/* Which blobs may be free is asked before the rows go that tell it. */
static int delete_with_blobs(struct store *s, enum store_stmt blobs, enum store_stmt rows,
                             const char *id, struct pd_err *err)
{
    struct store_bind ask = {s->stmts[blobs], 0, 0};
    struct store_bind b = {s->stmts[rows], 0, 0};
    int rc;

    store_bind_text(&ask, id);
    rc = run(s, blobs, ask.rc, err);
    store_bind_text(&b, id);
    if (rc == 0)
        rc = run(s, rows, b.rc, err);
    return rc < 0 ? rc : free_blobs(s, err);
}

static int gc(struct store *s, int64_t from, int64_t to, struct pd_err *err)
{
    struct store_bind b = {s->stmts[STORE_STMT_GC_BLOBS], 0, 0};
    int rc;

    store_bind_int(&b, from);
    store_bind_int(&b, to);
    rc = run(s, STORE_STMT_GC_BLOBS, b.rc, err);
    return rc < 0 ? rc : free_blobs(s, err);
}

static int put_node(struct store *s, const char *job_id, const struct pd_node_rec *r,
                    struct pd_err *err)
{
    struct store_bind b = {s->stmts[STORE_STMT_NODE], 0, 0};
    size_t array_bytes = (size_t)r->n_tokens * 4;
    int64_t text_id = 0, tokens_id = 0, logprobs_id = 0; /* 0: none */
    int rc = put_blob(s, r->text.ptr, r->text.len, "raw", &text_id, err);

    if (rc == 0 && r->tokens)
        rc = put_blob(s, r->tokens, array_bytes, "i32", &tokens_id, err);
    if (rc == 0 && r->logprobs)
        rc = put_blob(s, r->logprobs, array_bytes, "f32", &logprobs_id, err);
    if (rc < 0)
        return rc;
    store_bind_text(&b, job_id);
    store_bind_int(&b, r->id);
    store_bind_int_or_null(&b, r->parent, r->id);
    store_bind_int(&b, r->depth);
    store_bind_int(&b, r->step);
    store_bind_text(&b, r->status);
    store_bind_text(&b, r->prune_reason);
    store_bind_int(&b, text_id);
    store_bind_int_or_null(&b, tokens_id, 0);
    store_bind_int_or_null(&b, logprobs_id, 0);
    store_bind_int(&b, r->n_tokens);
    store_bind_real(&b, r->logprob);
    store_bind_text(&b, r->finish);
    store_bind_text(&b, r->stop);
    store_bind_int(&b, (int64_t)r->seed);
    store_bind_int_or_null(&b, r->call_id, -1);
    store_bind_int(&b, r->created_ms);
    return run(s, STORE_STMT_NODE, b.rc, err);
}

static int put_score(struct store *s, const char *job_id, const struct pd_score_rec *r,
                     struct pd_err *err)
{
    struct store_bind b = {s->stmts[STORE_STMT_SCORE], 0, 0};
    struct pd_buf steps = PD_BUF_INIT(STORE_VALUE_MAX);
    struct pd_jw w;
    int rc;

    if (r->steps) {
        pd_jw_init(&w, &steps);
        pd_jw_array(&w);
        for (uint32_t i = 0; i < r->n_steps; i++)
            pd_jw_double(&w, r->steps[i]);
        pd_jw_end_array(&w);
        if (pd_buf_rc(&steps) < 0) {
            rc = pd_fail(err, (enum pd_code)pd_buf_rc(&steps), "cannot hold %u step values",
                         r->n_steps);
            pd_buf_done(&steps);
            return rc;
        }
    }
    store_bind_text(&b, job_id);
    store_bind_int(&b, r->node_id);
    store_bind_text(&b, r->scorer);
    store_bind_text(&b, r->kind);
    store_bind_real(&b, r->value);
    store_bind_text(&b, r->steps ? pd_buf_str(&steps).ptr : NULL);
    store_bind_int_or_null(&b, r->call_id, -1);
    rc = run(s, STORE_STMT_SCORE, b.rc, err);
    pd_buf_done(&steps);
    return rc;
}

static int put_call(struct store *s, const char *job_id, const struct pd_call_rec *r,
                    struct pd_err *err)
{
    struct store_bind b = {s->stmts[STORE_STMT_CALL], 0, 0};

    store_bind_text(&b, job_id);
    store_bind_text(&b, r->engine);
    store_bind_text(&b, r->dialect);
    store_bind_text(&b, r->op);
    store_bind_text(&b, r->model);
    store_bind_text(&b, r->outcome);
    store_bind_int(&b, (int64_t)r->prompt_tokens);
    store_bind_int(&b, (int64_t)r->cached_tokens);
    store_bind_int(&b, (int64_t)r->generated_tokens);
    store_bind_int(&b, r->started_ms);
    store_bind_int_or_null(&b, r->ended_ms, 0);
    store_bind_text(&b, r->error);
    return run(s, STORE_STMT_CALL, b.rc, err);
}

static int put_event(struct store *s, const char *job_id, const struct pd_event_rec *r,
                     struct pd_err *err)
{
    struct store_bind b = {s->stmts[STORE_STMT_EVENT], 0, 0};

    store_bind_text(&b, job_id);
    store_bind_int(&b, (int64_t)r->seq);
    store_bind_int(&b, r->t_ms);
    store_bind_text(&b, r->type);
    store_bind_text(&b, r->data ? r->data : "{}");
    return run(s, STORE_STMT_EVENT, b.rc, err);
}

static int put_msg(struct store *s, const struct store_msg *m, struct pd_err *err)
{
    switch (m->kind) {
    case STORE_MSG_JOB:
        return put_job(s, m->job_id, &m->u.job, err);
    case STORE_MSG_SUBMIT:
        return put_submission(s, m->job_id, &m->u.submit.job, &m->u.submit.how, err);
    case STORE_MSG_STATE:
        return put_state(s, m->job_id, &m->u.state, err);
    case STORE_MSG_DELETE:
        return delete_with_blobs(s, STORE_STMT_JOB_BLOBS, STORE_STMT_JOB_DELETE, m->job_id, err);
    case STORE_MSG_RUN:
        return put_run(s, m->job_id, &m->u.run, err);
    case STORE_MSG_RUN_DELETE:
        return delete_with_blobs(s, STORE_STMT_RUN_BLOBS, STORE_STMT_RUN_DELETE, m->job_id, err);
    case STORE_MSG_GC:
        return gc(s, m->u.gc.from, m->u.gc.to, err);
    case STORE_MSG_NODE:
        return put_node(s, m->job_id, &m->u.node, err);
    case STORE_MSG_SCORE:
        return put_score(s, m->job_id, &m->u.score, err);
    case STORE_MSG_CALL:
        return put_call(s, m->job_id, &m->u.call, err);
    case STORE_MSG_EVENT:
        return put_event(s, m->job_id, &m->u.event, err);
    case STORE_MSG_FLUSH:
        break;
    }
    return 0;
}

static struct store_msg *msg_of(struct pd_link *l)
{
    return l ? pd_container_of(l, struct store_msg, link) : NULL;
}

/* One transaction of all messages of the chain; all of them are in the file or none is. */
static int write_batch(struct store *s, struct pd_link *chain, struct pd_err *err)
{
    bool begun = false;
    int rc = 0;

    for (struct pd_link *l = chain; l && rc == 0; l = l->next) {
        const struct store_msg *m = msg_of(l);

        if (m->kind == STORE_MSG_FLUSH)
            continue;
        if (!begun)
            rc = run(s, STORE_STMT_BEGIN, 0, err);
        begun = begun || rc == 0;
        if (rc == 0) {
            rc = put_msg(s, m, err);
            if (rc < 0)
                pd_err_context(err, "'%s'", m->job_id);
        }
    }
    if (rc == 0 && begun)
        rc = run(s, STORE_STMT_COMMIT, 0, err);
    if (rc < 0 && !sqlite3_get_autocommit(s->wdb))
        run(s, STORE_STMT_ROLLBACK, 0, NULL);
    return rc;
}

/* Runs of rows of one job are told once. */
static void tell_commit(const struct store *s, struct pd_link *chain)
{
    const char *last = NULL;

    for (struct pd_link *l = chain; l && s->committed; l = l->next) {
        const struct store_msg *m = msg_of(l);

        if (m->kind == STORE_MSG_FLUSH || m->kind == STORE_MSG_GC || m->kind == STORE_MSG_RUN ||
            m->kind == STORE_MSG_RUN_DELETE || (last && strcmp(last, m->job_id) == 0))
            continue;
        s->committed(s->committed_user, m->job_id);
        last = m->job_id;
    }
}

void *store_writer_main(void *store)
{
    struct store *s = store;
    struct pd_link *chain, *next;
    struct pd_err err = {.code = PD_OK};
    bool well = true; /* our own copy of failed.code == PD_OK */

    while (pd_queue_pop_wait(&s->inbox, PD_NEVER_NS, &chain) == 0) {
        chain->next = pd_queue_take_all(&s->inbox);
        if (well && write_batch(s, chain, &err) < 0)
            well = false;
        if (well)
            tell_commit(s, chain);
        pthread_mutex_lock(&s->lock);
        if (!well)
            s->failed = err;
        for (struct pd_link *l = chain; l; l = next) {
            struct store_msg *m = msg_of(l);

            next = l->next; /* a flush is gone as soon as its owner gets the lock */
            if (m->kind == STORE_MSG_FLUSH)
                m->u.flushed = true;
            else
                free(m);
        }
        pthread_cond_broadcast(&s->flushed);
        pthread_mutex_unlock(&s->lock);
    }
    return NULL;
}
