/* The door of the trace database: opening, closing and the caller's side of writing, on any thread.
 *
 *   caller                          inbox (bounded)            writer thread (writer.c)
 *   store_x_put:  check, copy   --> message ------------->     all that waits = one transaction
 *   store_flush:  wait <---------------------------------      commit, then wake
 */
#include "storage/storage.h"

#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "storage/store_int.h"

#define GC_AT_A_TIME 4096 /* blobs, in one transaction */

/* Copies into one allocation in two equal passes: the first counts (at is NULL, everything is
 * returned as it is), the second moves. */
struct packer {
    char *at;
    size_t bytes;
};

static const void *pack(struct packer *p, const void *src, size_t n)
{
    size_t room = (n + 7) & ~(size_t)7; /* arrays of doubles come through here */
    char *to = p->at;

    p->bytes += room;
    if (!src || !to)
        return src;
    memcpy(to, src, n);
    p->at += room;
    return to;
}

static const char *pack_z(struct packer *p, const char *z)
{
    return z ? pack(p, z, strlen(z) + 1) : NULL;
}

static void pack_job(struct packer *p, struct pd_job_rec *r)
{
    r->id = NULL; /* in job_id */
    r->problem_key = pack_z(p, r->problem_key);
    r->strategy = pack_z(p, r->strategy);
    r->options = pack_z(p, r->options);
    r->model = pack_z(p, r->model);
    r->scorer = pack_z(p, r->scorer);
    r->status = pack_z(p, r->status);
    r->stopped_by = pack_z(p, r->stopped_by);
    r->request.ptr = r->request.len ? pack(p, r->request.ptr, r->request.len) : NULL;
    r->budget = pack_z(p, r->budget);
    r->answer = pack_z(p, r->answer);
    r->error = pack_z(p, r->error);
    r->digest = pack_z(p, r->digest);
    r->run_id = pack_z(p, r->run_id);
    r->variant = pack_z(p, r->variant);
}

static void pack_run(struct packer *p, struct store_run *r)
{
    struct store_artifact *list;

    r->name = pack_z(p, r->name);
    r->status = pack_z(p, r->status);
    r->lock = pack_z(p, r->lock);
    r->host = pack_z(p, r->host);
    r->recipe.ptr = pack(p, r->recipe.ptr, r->recipe.len);
    r->artifacts = pack(p, r->artifacts, r->n_artifacts * sizeof(*r->artifacts));
    list = (struct store_artifact *)(uintptr_t)r->artifacts; /* ours in the second pass */
    for (size_t i = 0; i < r->n_artifacts; i++) {
        const char *kind = pack_z(p, list[i].kind), *name = pack_z(p, list[i].name),
                   *role = pack_z(p, list[i].role);

        if (p->at) {
            list[i].kind = kind;
            list[i].name = name;
            list[i].role = role;
        }
    }
}

static void pack_msg(struct packer *p, struct store_msg *m)
{
    switch (m->kind) {
    case STORE_MSG_JOB:
        pack_job(p, &m->u.job);
        break;
    case STORE_MSG_SUBMIT:
        pack_job(p, &m->u.submit.job);
        m->u.submit.how.client = pack_z(p, m->u.submit.how.client);
        m->u.submit.how.idem_key = pack_z(p, m->u.submit.how.idem_key);
        break;
    case STORE_MSG_STATE:
        m->u.state.status = pack_z(p, m->u.state.status);
        m->u.state.stopped_by = pack_z(p, m->u.state.stopped_by);
        m->u.state.error = pack_z(p, m->u.state.error);
        break;
    case STORE_MSG_RUN:
        pack_run(p, &m->u.run);
        break;
    case STORE_MSG_NODE: {
        struct pd_node_rec *r = &m->u.node;
        size_t bytes = (size_t)r->n_tokens * 4;
        r->status = pack_z(p, r->status);
        r->prune_reason = pack_z(p, r->prune_reason);
        r->text.ptr = r->text.len ? pack(p, r->text.ptr, r->text.len) : NULL;
        r->tokens = bytes && r->tokens ? pack(p, r->tokens, bytes) : NULL;
        r->logprobs = bytes && r->logprobs ? pack(p, r->logprobs, bytes) : NULL;
        r->confidences = bytes && r->confidences ? pack(p, r->confidences, bytes) : NULL;
        r->finish = pack_z(p, r->finish);
        r->stop = pack_z(p, r->stop);
        break;
    }
    case STORE_MSG_SCORE: {
        struct pd_score_rec *r = &m->u.score;
        r->scorer = pack_z(p, r->scorer);
        r->kind = pack_z(p, r->kind);
        r->steps = r->steps ? pack(p, r->steps, r->n_steps * sizeof(double)) : NULL;
        break;
    }
    case STORE_MSG_CALL: {
        struct pd_call_rec *r = &m->u.call;
        r->engine = pack_z(p, r->engine);
        r->dialect = pack_z(p, r->dialect);
        r->op = pack_z(p, r->op);
        r->model = pack_z(p, r->model);
        r->outcome = pack_z(p, r->outcome);
        r->error = pack_z(p, r->error);
        r->request.ptr = r->request.len ? pack(p, r->request.ptr, r->request.len) : NULL;
        r->response.ptr = r->response.len ? pack(p, r->response.ptr, r->response.len) : NULL;
        break;
    }
    case STORE_MSG_EVENT:
        m->u.event.type = pack_z(p, m->u.event.type);
        m->u.event.data = pack_z(p, m->u.event.data);
        break;
    case STORE_MSG_DELETE:
    case STORE_MSG_RUN_DELETE:
    case STORE_MSG_GC:
    case STORE_MSG_FLUSH:
        break;
    }
}

static int failed(struct store *s, struct pd_err *err)
{
    int rc;

    pthread_mutex_lock(&s->lock);
    rc = s->failed.code;
    if (rc < 0 && err)
        *err = s->failed;
    pthread_mutex_unlock(&s->lock);
    return rc;
}

/* Copies *borrowed, whose kind and record are set, and queues the copy. Inputs that the schema
 * would refuse are refused here, where the writer's other work does not suffer from it. */
static int put(struct store *s, const char *job_id, struct store_msg *borrowed, struct pd_err *err)
{
    struct packer p = {NULL, 0};
    struct store_msg *m;
    size_t len = job_id ? strlen(job_id) : 0;
    int rc;

    if (s->mode != STORE_WRITE)
        return pd_fail(err, PD_EPERM, "database '%s' is open for reading", s->path);
    if (len == 0 || len >= PD_JOB_ID_MAX)
        return pd_fail(err, PD_EINVAL, "an id has 1 to %d bytes, not %zu", PD_JOB_ID_MAX - 1, len);
    rc = failed(s, err);
    if (rc < 0)
        return rc;
    memcpy(borrowed->job_id, job_id, len + 1);
    pack_msg(&p, borrowed);
    if (p.bytes > STORE_VALUE_MAX)
        return pd_fail(err, PD_ELIMIT, "%zu bytes are too much for one record of the database",
                       p.bytes);
    m = malloc(sizeof(*m) + p.bytes);
    if (!m)
        return pd_fail(err, PD_ENOMEM, "out of memory");
    *m = *borrowed;
    p = (struct packer){(char *)(m + 1), 0};
    pack_msg(&p, m);
    rc = pd_queue_push_wait(&s->inbox, &m->link); /* the writer's now */
    if (rc < 0) {
        free(m);
        return pd_fail(err, PD_ECANCEL, "database '%s' is being closed", s->path);
    }
    return 0;
}

static int missing(struct pd_err *err, const char *what)
{
    return pd_fail(err, PD_EINVAL, "a record without %s cannot be stored", what);
}

int store_job_put(struct store *s, const struct pd_job_rec *job, struct pd_err *err)
{
    struct store_msg m = {.kind = STORE_MSG_JOB, .u.job = *job};

    if (!job->strategy || !job->model || !job->status)
        return missing(err, "strategy, model or status");
    return put(s, job->id, &m, err);
}

int store_job_submit(struct store *s, const struct pd_job_rec *job,
                     const struct store_submission *how, struct pd_err *err)
{
    struct store_msg m = {.kind = STORE_MSG_SUBMIT, .u.submit = {*job, *how}};

    if (!job->strategy || !job->model || !job->status || !how->client)
        return missing(err, "strategy, model, status or client");
    return put(s, job->id, &m, err);
}

int store_job_state_put(struct store *s, const char *job_id, const struct store_job_state *state,
                        struct pd_err *err)
{
    struct store_msg m = {.kind = STORE_MSG_STATE, .u.state = *state};

    if (!state->status)
        return missing(err, "status");
    return put(s, job_id, &m, err);
}

int store_run_put(struct store *s, const struct store_run *r, struct pd_err *err)
{
    struct store_msg m = {.kind = STORE_MSG_RUN, .u.run = *r};

    if (!r->name || !r->status || !r->lock || !r->host)
        return missing(err, "name, status, lock or host");
    return put(s, r->id, &m, err);
}

int store_run_delete(struct store *s, const char *run_id, struct pd_err *err)
{
    struct store_msg m = {.kind = STORE_MSG_RUN_DELETE};

    return put(s, run_id, &m, err);
}

int store_job_delete(struct store *s, const char *job_id, struct pd_err *err)
{
    struct store_msg m = {.kind = STORE_MSG_DELETE};

    return put(s, job_id, &m, err);
}

void store_on_commit(struct store *s, void (*committed)(void *user, const char *job_id), void *user)
{
    s->committed = committed;
    s->committed_user = user;
}

int store_node_put(struct store *s, const char *job_id, const struct pd_node_rec *node,
                   struct pd_err *err)
{
    struct store_msg m = {.kind = STORE_MSG_NODE, .u.node = *node};

    if (!node->status)
        return missing(err, "status");
    return put(s, job_id, &m, err);
}

int store_score_put(struct store *s, const char *job_id, const struct pd_score_rec *score,
                    struct pd_err *err)
{
    struct store_msg m = {.kind = STORE_MSG_SCORE, .u.score = *score};

    if (!score->scorer || !score->kind)
        return missing(err, "scorer or kind");
    if (isnan(score->value))
        return missing(err, "a number as its value");
    return put(s, job_id, &m, err);
}

int store_call_put(struct store *s, const char *job_id, const struct pd_call_rec *call,
                   struct pd_err *err)
{
    struct store_msg m = {.kind = STORE_MSG_CALL, .u.call = *call};

    if (!call->engine || !call->dialect || !call->op || !call->model || !call->outcome)
        return missing(err, "engine, dialect, op, model or outcome");
    return put(s, job_id, &m, err);
}

int store_event_put(struct store *s, const char *job_id, const struct pd_event_rec *event,
                    struct pd_err *err)
{
    struct store_msg m = {.kind = STORE_MSG_EVENT, .u.event = *event};

    if (!event->type)
        return missing(err, "type");
    return put(s, job_id, &m, err);
}

int store_flush(struct store *s, struct pd_err *err)
{
    struct store_msg m = {.kind = STORE_MSG_FLUSH};
    int rc;

    if (s->mode != STORE_WRITE)
        return 0;
    rc = pd_queue_push_wait(&s->inbox, &m.link);
    if (rc < 0)
        return pd_fail(err, PD_ECANCEL, "database '%s' is being closed", s->path);
    pthread_mutex_lock(&s->lock);
    while (!m.u.flushed)
        pthread_cond_wait(&s->flushed, &s->lock);
    rc = s->failed.code;
    if (rc < 0 && err)
        *err = s->failed;
    pthread_mutex_unlock(&s->lock);
    return rc;
}

int store_version(struct store *s, int64_t *out, struct pd_err *err)
{
    int rc;

    pthread_mutex_lock(&s->read_lock);
    rc = store_db_int(s->rdb, s->path, "PRAGMA data_version", out, err);
    pthread_mutex_unlock(&s->read_lock);
    return rc;
}

/* On a connection of its own: the writer's is its thread's. */
static int shrink_file(const struct store *s, struct pd_err *err)
{
    sqlite3 *db = NULL;
    int rc = store_db_open(s->path, STORE_WRITE, &db, err);

    if (rc == 0)
        rc = store_db_exec(db, s->path, "VACUUM; PRAGMA wal_checkpoint(TRUNCATE)", err);
    sqlite3_close(db);
    return rc;
}

int store_gc(struct store *s, bool shrink, uint64_t *out_n, uint64_t *out_bytes, struct pd_err *err)
{
    uint64_t n = atomic_load(&s->n_freed), bytes = atomic_load(&s->bytes_freed);
    int64_t last = 0;
    int rc;

    pthread_mutex_lock(&s->read_lock);
    rc = store_db_int(s->rdb, s->path, "SELECT coalesce(max(id),0) FROM blob", &last, err);
    pthread_mutex_unlock(&s->read_lock);
    for (int64_t id = 1; rc == 0 && id <= last; id += GC_AT_A_TIME) {
        struct store_msg m = {.kind = STORE_MSG_GC, .u.gc = {id, id + GC_AT_A_TIME - 1}};

        rc = put(s, "gc", &m, err);
        if (rc == 0)
            rc = store_flush(s, err); /* others come in between */
    }
    if (rc == 0 && shrink)
        rc = shrink_file(s, err);
    if (rc == 0 && out_n)
        *out_n = atomic_load(&s->n_freed) - n;
    if (rc == 0 && out_bytes)
        *out_bytes = atomic_load(&s->bytes_freed) - bytes;
    return rc;
}

const char *store_sqlite_version(void)
{
    return sqlite3_libversion();
}

const char *store_path(const struct store *s)
{
    return s->path;
}

int store_open(const char *path, enum store_open mode, struct store **out, struct pd_err *err)
{
    struct store *s;
    sigset_t all, before;
    bool special;
    int rc;

    if (!path || !*path)
        return pd_fail(err, PD_EINVAL, "a database needs a path");
    s = calloc(1, sizeof(*s));
    if (!s)
        return pd_fail(err, PD_ENOMEM, "out of memory");
    s->mode = mode;
    pthread_mutex_init(&s->lock, NULL);
    pthread_mutex_init(&s->read_lock, NULL);
    pthread_cond_init(&s->flushed, NULL);
    /* ":memory:" and "file:…" mean something to SQLite; "./:memory:" is a file like any other. */
    special = *path == ':' || strncmp(path, "file:", 5) == 0;
    if (asprintf(&s->path, "%s%s", special ? "./" : "", path) < 0) {
        s->path = NULL;
        rc = pd_fail(err, PD_ENOMEM, "out of memory");
        goto out;
    }
    rc = 0;
    if (mode == STORE_WRITE)
        rc = store_db_open(s->path, STORE_WRITE, &s->wdb, err);
    if (rc == 0)
        rc = store_db_open(s->path, STORE_READ, &s->rdb, err);
    if (rc < 0 || mode == STORE_READ)
        goto out;
    rc = store_writer_prepare(s, err);
    if (rc < 0)
        goto out;
    if (pd_queue_init(&s->inbox, STORE_INBOX_MAX) < 0) {
        rc = pd_fail(err, PD_ENOMEM, "out of memory");
        goto out;
    }
    s->inbox_ready = true;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all,
                    &before); /* inherited: signals are other threads' business */
    rc = pthread_create(&s->thread, NULL, store_writer_main, s);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    s->thread_runs = rc == 0;
    if (rc != 0)
        rc = pd_fail_errno(err, rc, "cannot start the thread that writes '%s'", s->path);
out:
    if (rc < 0) {
        store_close(s);
        return rc;
    }
    *out = s;
    return 0;
}

void store_close(struct store *s)
{
    if (!s)
        return;
    if (s->thread_runs) {
        pd_queue_close(&s->inbox); /* the writer drains it first */
        pthread_join(s->thread, NULL);
    }
    if (s->inbox_ready)
        pd_queue_done(&s->inbox);
    store_writer_finalize(s);
    sqlite3_close(s->rdb);
    sqlite3_close(s->wdb); /* the last connection of all takes the WAL into the file */
    pthread_cond_destroy(&s->flushed);
    pthread_mutex_destroy(&s->read_lock);
    pthread_mutex_destroy(&s->lock);
    free(s->path);
    free(s);
}
