/* The dispatcher of the job queue; see queue.h.
 *
 * What changes the database is put at once and told later: the messages whose rows wait for their
 * commit are kept in `unsettled`, and settle() commits them together (one fsync for all that one
 * look into the inbox brought) and then calls back. Messages for a running job wait at it until it
 * rests, and are then taken as if they had just come. */
#include "app/queue.h"

#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/id.h"

#define INBOX_MAX   8192    /* messages: more than connections can have requests */
#define LOCK_NAME   "queue" /* what store_job_lock knows the queue as: no job is called that */
#define STATUS_GONE "deleted"

#define LOADS_MAX 64 /* models that wait to be loaded */
#define PINS_MAX  4  /* models of one job, and one more */

enum msg_kind {
    MSG_SUBMIT,
    MSG_TELL,
    MSG_CALL,
    MSG_LOAD,
    MSG_LIMIT,
    MSG_ENDED,
    MSG_LOADED,
    MSG_CLOSE
};

/* Models that were loaded for somebody who waits for more of them: they must not be driven out. */
struct pins {
    struct eng_model *v[PINS_MAX];
    size_t n;
};

struct client {
    struct client *next;
    struct waiting *first; /* by priority, then by seq */
    size_t n_running;
    uint64_t last_start; /* number of the start among all; 0: none */
    char name[];
};

struct waiting {
    struct waiting *next;
    const struct queue_watch *watch;
    void *user;
    int64_t seq;
    int32_t priority;
    bool attached;
    char id[PD_JOB_ID_MAX];
};

struct msg {
    struct pd_link link;
    struct msg *next; /* in unsettled, or of a running job */
    enum msg_kind kind;
    char id[PD_JOB_ID_MAX];
    /* submit */
    struct app_request *request;
    struct store_submission how;
    char *client, *idem_key; /* what how names */
    const struct queue_watch *watch;
    void *user; /* of all kinds */
    enum queue_verdict verdict;
    /* tell */
    enum queue_verb verb;
    void (*told)(void *user, int rc, const char *status, const struct pd_err *err);
    char status[16];
    struct waiting *out; /* taken out of the queue by this message: its watch is to hear */
    /* load */
    char *model;
    /* of submit, tell and load: waits until the model of this file is loaded */
    char *path;
    struct pins pins;
    /* call */
    void (*fn)(struct app *a, void *user);
    unsigned max_jobs; /* limit */
    size_t max_waiting;
    struct running *running; /* ended */
    struct load *load;       /* loaded */
    struct pd_err err;       /* code PD_OK: none */
};

/* A model on its way. */
struct load {
    struct load *next;
    struct pd_link link;
    char *path;
    struct msg loaded;
};

struct running {
    struct running *next;
    struct waiting *place;
    struct client *client;
    struct app_job *job; /* NULL: waits for the model of path */
    char *path;
    struct pins pins;
    struct msg *msgs, **last_msg; /* to be taken when it rests */
    struct msg ended;
    struct queue *q;
};

/* Who is stuck at an engine elsewhere does not keep the models here from being loaded. */
enum { LOADER_HERE, LOADER_ELSEWHERE, N_LOADERS };

struct loader {
    struct queue *q;
    struct pd_queue inbox; /* struct load */
    pthread_t thread;
};

struct queue {
    struct queue_config c;
    struct store *store;
    struct pd_queue inbox,
        over; /* over: the dispatcher's farewell, for who waits with a deadline */
    struct pd_link farewell;
    struct loader loaders[N_LOADERS];
    unsigned n_queues, n_loaders; /* queues that are there, with the loaders'; loaders that run */
    pthread_t thread;
    int lock_fd;
    atomic_bool closing;
    atomic_size_t n_waiting, n_running; /* written by the dispatcher */

    pthread_mutex_t
        look; /* guards the list `running` and the jobs of it, which the dispatcher alone changes */
    struct running *running;

    /* The dispatcher's own. */
    struct client *clients;
    struct msg *unsettled, **last_unsettled;
    struct msg *parked, **last_parked; /* wait for a model */
    struct load *loads;
    size_t n_submitted; /* of unsettled */
    int64_t last_seq;
    uint64_t n_starts;
    bool closed; /* the message has come */
};

/* ---- the order ------------------------------------------------------------------------------ */

static struct client *client_of(struct queue *q, const char *name)
{
    struct client **at = &q->clients, *c;

    for (; *at; at = &(*at)->next)
        if (strcmp((*at)->name, name) == 0)
            return *at;
    c = calloc(1, sizeof *c + strlen(name) + 1);
    if (c) {
        strcpy(c->name, name);
        *at = c;
    }
    return c;
}

static void drop_idle_client(struct queue *q, struct client *c)
{
    struct client **at = &q->clients;

    if (c->first || c->n_running)
        return;
    while (*at != c)
        at = &(*at)->next;
    *at = c->next;
    free(c);
}

static bool goes_before(const struct waiting *a, const struct waiting *b)
{
    return a->priority != b->priority ? a->priority > b->priority : a->seq < b->seq;
}

static void insert(struct queue *q, struct client *c, struct waiting *w)
{
    struct waiting **at = &c->first;

    while (*at && goes_before(*at, w))
        at = &(*at)->next;
    w->next = *at;
    *at = w;
    atomic_fetch_add(&q->n_waiting, 1);
}

static struct waiting *take_out(struct queue *q, struct client *c, struct waiting **at)
{
    struct waiting *w = *at;

    *at = w->next;
    w->next = NULL;
    atomic_fetch_sub(&q->n_waiting, 1);
    drop_idle_client(q, c);
    return w;
}

/* The waiting job with this id, taken out; NULL: it does not wait. */
static struct waiting *take_waiting(struct queue *q, const char *id)
{
    for (struct client *c = q->clients; c; c = c->next)
        for (struct waiting **at = &c->first; *at; at = &(*at)->next)
            if (strcmp((*at)->id, id) == 0)
                return take_out(q, c, at);
    return NULL;
}

static struct waiting *take_attached(struct queue *q)
{
    for (struct client *c = q->clients; c; c = c->next)
        for (struct waiting **at = &c->first; *at; at = &(*at)->next)
            if ((*at)->attached)
                return take_out(q, c, at);
    return NULL;
}

static bool waits(const struct queue *q, const char *id)
{
    for (const struct client *c = q->clients; c; c = c->next)
        for (const struct waiting *w = c->first; w; w = w->next)
            if (strcmp(w->id, id) == 0)
                return true;
    return false;
}

static struct running *running_job(const struct queue *q, const char *id)
{
    struct running *r = q->running;

    while (r && strcmp(r->place->id, id) != 0)
        r = r->next;
    return r;
}

/* Whose turn it is; NULL: nobody's. */
static struct client *next_client(const struct queue *q)
{
    struct client *best = NULL;

    for (struct client *c = q->clients; c; c = c->next) {
        if (!c->first)
            continue;
        if (!best || c->first->priority > best->first->priority ||
            (c->first->priority == best->first->priority &&
             (c->n_running < best->n_running ||
              (c->n_running == best->n_running &&
               (c->last_start < best->last_start ||
                (c->last_start == best->last_start && c->first->seq < best->first->seq))))))
            best = c;
    }
    return best;
}

/* A place in the queue for a job whose row says 'queued'. */
static int enqueue(struct queue *q, const char *client, const struct waiting *like,
                   struct pd_err *err)
{
    struct waiting *w = malloc(sizeof *w);
    struct client *c = w ? client_of(q, client) : NULL;

    if (!c) {
        free(w);
        return pd_fail(err, PD_ENOMEM, "out of memory for a place in the queue");
    }
    *w = *like;
    insert(q, c, w);
    return 0;
}

/* ---- telling --------------------------------------------------------------------------------- */

static void tell_end(const struct queue *q, const struct waiting *w, const struct queue_end *end)
{
    if (w->watch && w->watch->ended)
        w->watch->ended(w->user, end);
    if (q->c.ended)
        q->c.ended(q->c.user, end);
}

/* Of a job that did not run. */
static void tell_rest(const struct queue *q, const struct waiting *w, const char *status,
                      const struct pd_err *err)
{
    const struct queue_end end = {.id = w->id, .status = status, .err = err};

    tell_end(q, w, &end);
}

static void tell_stored(struct msg *m)
{
    const struct pd_err *err = m->verdict == QUEUE_REFUSED ? &m->err : NULL;

    if (m->watch && m->watch->stored)
        m->watch->stored(m->user, m->verdict, m->id, err);
}

static void unpin(struct pins *p)
{
    while (p->n)
        eng_model_unref(p->v[--p->n]);
}

static void free_msg(struct msg *m)
{
    unpin(&m->pins);
    free(m->model);
    free(m->path);
    app_request_free(m->request);
    free(m->client);
    free(m->idem_key);
    free(m->out);
    free(m);
}

/* ---- what waits for its commit --------------------------------------------------------------- */

static void keep_unsettled(struct queue *q, struct msg *m)
{
    m->next = NULL;
    *q->last_unsettled = m;
    q->last_unsettled = &m->next;
    q->n_submitted += m->kind == MSG_SUBMIT;
}

static void settle_submit(struct queue *q, struct msg *m)
{
    const struct waiting place = {.watch = m->watch,
                                  .user = m->user,
                                  .seq = m->how.seq,
                                  .priority = m->how.priority,
                                  .attached = m->how.attached};

    if (m->err.code == PD_OK) {
        struct waiting w = place;

        strcpy(w.id, m->id);
        if (enqueue(q, m->how.client, &w, &m->err) < 0)
            m->verdict = QUEUE_REFUSED; /* its row waits for the next start */
    } else {
        m->verdict = QUEUE_REFUSED;
    }
    tell_stored(m);
}

static void settle_tell(struct queue *q, struct msg *m)
{
    int rc = m->err.code;

    if (m->out)
        tell_rest(q, m->out, m->status, NULL);
    if (m->told)
        m->told(m->user, rc, m->status, rc < 0 ? &m->err : NULL);
}

/* Commits what was put, then tells everybody who waits for it. */
static void settle(struct queue *q)
{
    struct pd_err err = {0};
    struct msg *m = q->unsettled, *next;
    int rc;

    if (!m)
        return;
    rc = store_flush(q->store, &err);
    q->unsettled = NULL;
    q->last_unsettled = &q->unsettled;
    q->n_submitted = 0;
    for (; m; m = next) {
        next = m->next;
        if (rc < 0 && m->err.code == PD_OK)
            m->err = err;
        if (m->kind == MSG_SUBMIT)
            settle_submit(q, m);
        else
            settle_tell(q, m);
        free_msg(m);
    }
}

static const struct msg *unsettled_submit(const struct queue *q, const char *id, const char *key)
{
    const struct msg *m = q->n_submitted ? q->unsettled : NULL;

    for (; m; m = m->next)
        if (m->kind == MSG_SUBMIT &&
            ((id && strcmp(m->id, id) == 0) ||
             (key && m->how.idem_key && strcmp(m->how.idem_key, key) == 0)))
            return m;
    return NULL;
}

static int put_state(struct queue *q, const char *id, const char *status, const char *stopped_by,
                     const char *error, struct pd_err *err)
{
    bool ends = stopped_by || error;
    const struct store_job_state state = {.status = status,
                                          .stopped_by = stopped_by,
                                          .error = error,
                                          .finished_ms = ends ? pd_clock_unix_ms() : 0};

    return store_job_state_put(q->store, id, &state, err);
}

/* ---- loading models -------------------------------------------------------------------------- */

static void *loader(void *arg)
{
    struct loader *of = arg;
    struct queue *q = of->q;
    struct pd_link *l;

    while (pd_queue_pop_wait(&of->inbox, PD_NEVER_NS, &l) == 0) {
        struct load *load = pd_container_of(l, struct load, link);

        struct pd_err err; /* also filled by a try that another one made good */

        if (app_load_model(q->c.app, load->path, &err) < 0)
            load->loaded.err = err;
        pd_queue_push_wait(&q->inbox, &load->loaded.link);
    }
    return NULL;
}

static void unlink_load(struct queue *q, const struct load *l)
{
    struct load **at = &q->loads;

    while (*at != l)
        at = &(*at)->next;
    *at = l->next;
}

static void free_load(struct load *l)
{
    free(l->path);
    free(l);
}

/* A model that is being loaded is waited for, an engine elsewhere is not; the rest nobody wants any
 * more. */
static void end_loaders(struct queue *q)
{
    app_leave_engines(q->c.app);
    while (q->n_loaders > 0) {
        struct loader *of = &q->loaders[--q->n_loaders];

        for (struct pd_link *l = pd_queue_pop(&of->inbox); l; l = pd_queue_pop(&of->inbox)) {
            struct load *load = pd_container_of(l, struct load, link);

            unlink_load(q, load);
            free_load(load);
        }
        pd_queue_close(&of->inbox);
        pthread_join(of->thread, NULL);
    }
}

/* 0, or an errno. */
static int start_loaders(struct queue *q)
{
    int rc = 0;

    for (; rc == 0 && q->n_loaders < N_LOADERS; q->n_loaders += rc == 0) {
        struct loader *of = &q->loaders[q->n_loaders];

        of->q = q;
        rc = pthread_create(&of->thread, NULL, loader, of);
    }
    return rc;
}

/* Sees to it that the model of this file, or of this name elsewhere, is on its way. */
static int load(struct queue *q, const char *path, struct pd_err *err)
{
    struct load *l = q->loads;

    while (l && strcmp(l->path, path) != 0)
        l = l->next;
    if (l)
        return 0;
    l = calloc(1, sizeof *l);
    if (!l || !(l->path = strdup(path))) {
        free(l);
        return pd_fail(err, PD_ENOMEM, "out of memory");
    }
    l->loaded = (struct msg){.kind = MSG_LOADED, .load = l};
    l->next = q->loads;
    q->loads = l;
    if (pd_queue_push(&q->loaders[path[0] == '/' ? LOADER_HERE : LOADER_ELSEWHERE].inbox,
                      &l->link) == 0)
        return 0;
    unlink_load(q, l);
    free_load(l);
    return pd_fail(err, PD_ENOMEM, "too many models are being loaded already");
}

/* Whether a job was refused as a model of it must be loaded first, which is then on its way. */
static bool must_load(struct queue *q, int rc, char **out_path, struct pd_err *err)
{
    char *path = app_take_missing(q->c.app);

    if (rc != PD_EBUSY || !path || load(q, path, err) < 0) {
        free(path);
        return false;
    }
    free(*out_path);
    *out_path = path;
    return true;
}

static void park(struct queue *q, struct msg *m)
{
    m->err = (struct pd_err){0};
    m->next = NULL;
    *q->last_parked = m;
    q->last_parked = &m->next;
}

static const struct msg *parked_submit(const struct queue *q, const char *id)
{
    const struct msg *m = q->parked;

    while (m && (m->kind != MSG_SUBMIT || strcmp(m->id, id) != 0))
        m = m->next;
    return m;
}

static void pin(struct queue *q, struct pins *p, const char *path)
{
    struct eng_model *m = p->n < PINS_MAX ? app_loaded_model(q->c.app, path) : NULL;

    if (m)
        p->v[p->n++] = m;
}

/* ---- submitting ------------------------------------------------------------------------------ */

/* Whether its key is taken: the verdict is set, and m->id is the earlier job's. */
static bool known(struct queue *q, struct msg *m)
{
    const struct msg *other = unsettled_submit(q, NULL, m->how.idem_key);
    uint8_t sha[PD_SHA256_BYTES];
    int rc = 0;

    if (other) {
        strcpy(m->id, other->id);
        memcpy(sha, other->how.body_sha256, sizeof sha);
    } else {
        rc = store_idem_find(q->store, m->how.idem_key, m->id, sha, &m->err);
    }
    if (rc == PD_ENOENT) {
        m->err.code = PD_OK;
        return false;
    }
    if (rc < 0)
        m->verdict = QUEUE_REFUSED;
    else
        m->verdict =
            memcmp(sha, m->how.body_sha256, sizeof sha) == 0 ? QUEUE_KNOWN : QUEUE_CONFLICT;
    if (other && rc == 0)
        settle(q); /* what is known is durable */
    return true;
}

static void take_submit(struct queue *q, struct msg *m)
{
    if (q->closed) {
        m->verdict = QUEUE_REFUSED;
        pd_fail(&m->err, PD_ECANCEL, "the queue is being closed");
    } else if (m->how.idem_key && known(q, m)) {
        ;
    } else if (atomic_load(&q->n_waiting) + q->n_submitted >= q->c.max_waiting) {
        m->verdict = QUEUE_FULL;
    } else {
        int rc;

        m->how.seq = q->last_seq + 1;
        app_load_elsewhere(q->c.app, true);
        rc = app_job_submit(q->c.app, m->request, m->id, &m->how, &m->err);
        app_load_elsewhere(q->c.app, false);
        if (rc == 0) {
            q->last_seq++;
            m->verdict = QUEUE_STORED;
            keep_unsettled(q, m);
            return;
        }
        if (must_load(q, rc, &m->path, &m->err)) {
            park(q, m);
            return;
        }
        m->verdict = QUEUE_REFUSED;
    }
    tell_stored(m);
    free_msg(m);
}

/* ---- verbs on jobs that do not run ----------------------------------------------------------- */

static void answer(struct msg *m, const char *status)
{
    snprintf(m->status, sizeof m->status, "%s", status);
}

static void take_verb_waiting(struct queue *q, struct msg *m)
{
    if (m->verb == QUEUE_RESUME) {
        answer(m, "queued");
        return;
    }
    m->out = take_waiting(q, m->id);
    if (m->verb == QUEUE_DELETE) {
        answer(m, STATUS_GONE);
        store_job_delete(q->store, m->id, &m->err);
    } else if (m->verb == QUEUE_PAUSE) {
        answer(m, "paused");
        put_state(q, m->id, "paused", NULL, NULL, &m->err);
    } else {
        answer(m, "cancelled");
        put_state(q, m->id, "cancelled", "user", NULL, &m->err);
    }
}

static bool is_terminal(const char *status)
{
    return strcmp(status, "done") == 0 || strcmp(status, "failed") == 0 ||
           strcmp(status, "cancelled") == 0;
}

static void resume(struct queue *q, struct msg *m, const struct store_place *p)
{
    struct waiting w = {.seq = p->seq, .priority = p->priority, .attached = p->attached};

    strcpy(w.id, p->id);
    answer(m, "queued");
    if (put_state(q, m->id, "queued", NULL, NULL, &m->err) == 0)
        enqueue(q, p->client, &w, &m->err);
}

/* Paused, ended, or in the hands of another process: by its row. */
static void take_verb_stored(struct queue *q, struct msg *m, const struct store_place *p)
{
    int fd = -1;

    answer(m, p->status);
    if (is_terminal(p->status) && m->verb != QUEUE_DELETE)
        return;
    if (!p->seq && (m->verb == QUEUE_PAUSE || m->verb == QUEUE_RESUME)) {
        pd_fail(&m->err, PD_EINVAL, "job %s was not submitted to a daemon", p->id);
        return;
    }
    if (store_job_lock(q->store, p->id, &fd, &m->err) < 0)
        return;
    if (m->verb == QUEUE_DELETE) {
        answer(m, STATUS_GONE);
        store_job_delete(q->store, m->id, &m->err);
    } else if (m->verb == QUEUE_CANCEL) {
        answer(m, "cancelled");
        put_state(q, m->id, "cancelled", "user", NULL, &m->err);
    } else if (m->verb == QUEUE_RESUME) {
        resume(q, m, p);
    } else if (strcmp(p->status, "paused") != 0) {
        answer(m, "paused");
        put_state(q, m->id, "paused", NULL, NULL, &m->err);
    }
    close(fd);
}

static void take_verb(struct queue *q, struct msg *m)
{
    struct store_place *p = NULL;
    size_t n = 0;

    if (waits(q, m->id)) {
        take_verb_waiting(q, m);
    } else {
        settle(q); /* its row may be about to change */
        if (store_queue_load(q->store, m->id, &p, &n, NULL, &m->err) == 0)
            take_verb_stored(q, m, p);
        store_queue_free(p, n);
    }
    keep_unsettled(q, m);
}

/* True: m waits at the running job until that rests. */
static bool stop_running(struct running *r, struct msg *m)
{
    if (m->verb == QUEUE_RESUME && !r->msgs)
        return false;
    if (m->verb == QUEUE_PAUSE && !r->msgs)
        app_job_stop(r->job, "paused");
    else if (m->verb == QUEUE_CANCEL || m->verb == QUEUE_DELETE)
        app_job_stop(r->job, NULL);
    m->next = NULL;
    *r->last_msg = m;
    r->last_msg = &m->next;
    return true;
}

static void unlink_running(struct queue *q, struct running *r)
{
    struct running **at = &q->running;

    while (*at != r)
        at = &(*at)->next;
    pthread_mutex_lock(&q->look);
    *at = r->next;
    pthread_mutex_unlock(&q->look);
    atomic_fetch_sub(&q->n_running, 1);
}

/* A job that waits for its model is one that waits, again. */
static void unstart(struct queue *q, struct running *r)
{
    unlink_running(q, r);
    r->client->n_running--;
    insert(q, r->client, r->place);
    unpin(&r->pins);
    free(r->path);
    free(r);
}

static void take_tell(struct queue *q, struct msg *m)
{
    const struct msg *submit = parked_submit(q, m->id);
    struct running *r;

    free(m->path); /* of an earlier wait */
    m->path = submit ? strdup(submit->path) : NULL;
    if (m->path) {
        park(q, m); /* behind it */
        return;
    }
    if (unsettled_submit(q, m->id, NULL))
        settle(q);
    r = running_job(q, m->id);
    if (r && !r->job) {
        unstart(q, r);
        r = NULL;
    }
    if (r && stop_running(r, m))
        return;
    if (r) {
        answer(m, "running");
        keep_unsettled(q, m);
    } else {
        take_verb(q, m);
    }
}

/* ---- running --------------------------------------------------------------------------------- */

/* On the job's thread. */
static void job_ended(void *user)
{
    struct running *r = user;

    pd_queue_push_wait(&r->q->inbox, &r->ended.link);
}

static void rest(struct queue *q, struct running *r)
{
    struct msg *m = r->msgs, *next;

    app_job_free(r->job);
    r->client->n_running--;
    drop_idle_client(q, r->client);
    unpin(&r->pins);
    free(r->path);
    free(r->place);
    free(r);
    for (; m; m = next) {
        next = m->next;
        take_tell(q, m);
    }
}

static void take_ended(struct queue *q, struct running *r)
{
    struct queue_end end = {.id = r->place->id, .job = app_job_core(r->job)};
    struct pd_err err = {0};
    int rc;

    unlink_running(q, r);
    rc = app_job_wait(r->job, PD_NEVER_NS, &end.result, &err);
    end.status = end.result->status;
    end.err = rc < 0 ? &err : NULL;
    tell_end(q, r->place, &end);
    rest(q, r);
}

/* It does not run, and this is what becomes of it. */
static void end_start(struct queue *q, struct running *r, const char *status,
                      const struct pd_err *err)
{
    unlink_running(q, r);
    tell_rest(q, r->place, status, err);
    rest(q, r);
}

/* A job that cannot be started fails alone: its model's file is gone, say. */
static void fail_start(struct queue *q, struct running *r, const struct pd_err *err)
{
    struct pd_err err2 = {0};

    if (put_state(q, r->place->id, "failed", NULL, err->text, &err2) == 0)
        store_flush(q->store, &err2);
    end_start(q, r, "failed", err);
}

/* Makes the job of a running place run, as soon as its models are there. */
static void launch(struct queue *q, struct running *r)
{
    struct app_job *job = NULL;
    struct pd_err err = {0};
    int rc;

    app_load_elsewhere(q->c.app, true);
    rc = app_job_stored(q->c.app, r->place->id, PD_JOB_RUN, &job, &err);
    app_load_elsewhere(q->c.app, false);
    pthread_mutex_lock(&q->look);
    r->job = job;
    pthread_mutex_unlock(&q->look);
    if (rc < 0 && must_load(q, rc, &r->path, &err))
        return;
    if (rc == PD_EBUSY) { /* `ponder solve --resume` has it: the row will say how it ends */
        end_start(q, r, "running", &err);
        return;
    }
    if (rc == 0 && app_job_core(r->job)->mode == PD_JOB_RECORDED) { /* or had it */
        end_start(q, r, "done", NULL);
        return;
    }
    if (rc == 0) {
        app_job_on_end(r->job, job_ended, r);
        if (r->place->watch && r->place->watch->started)
            r->place->watch->started(r->place->user, r->job);
        rc = app_job_start(r->job, &err);
    }
    if (rc < 0)
        fail_start(q, r, &err);
    else
        unpin(&r->pins); /* the job has them now */
}

/* False: not now; the next message brings another try. */
static bool start(struct queue *q, struct client *c)
{
    struct running *r = calloc(1, sizeof *r);

    if (!r)
        return false;
    *r = (struct running){.q = q, .client = c, .last_msg = &r->msgs, .next = q->running};
    r->ended = (struct msg){.kind = MSG_ENDED, .running = r};
    c->n_running++;
    c->last_start = ++q->n_starts;
    r->place = take_out(q, c, &c->first);
    pthread_mutex_lock(&q->look);
    q->running = r;
    pthread_mutex_unlock(&q->look);
    atomic_fetch_add(&q->n_running, 1);
    launch(q, r);
    return true;
}

/* ---- models asked for, models loaded --------------------------------------------------------- */

static void take_load(struct queue *q, struct msg *m)
{
    struct eng_model *model = NULL;
    char *path = NULL;
    int rc = q->closed ? pd_fail(&m->err, PD_ECANCEL, "the queue is being closed")
                       : app_find_model(m->model, &path, &m->err);

    if (rc == 0 && !app_engine(q->c.app))
        rc = app_start_engine(q->c.app, NULL, &m->err);
    if (rc == 0 && !(model = app_loaded_model(q->c.app, path)) &&
        (rc = load(q, path, &m->err)) == 0) {
        free(m->path);
        m->path = path;
        park(q, m);
        return;
    }
    if (rc == 0)
        rc = app_check_model(m->model, eng_model_info(model), &m->err);
    m->told(m->user, rc, "loaded", rc < 0 ? &m->err : NULL);
    eng_model_unref(model);
    free(path);
    free_msg(m);
}

static void take_parked(struct queue *q, struct msg *m, const struct load *l)
{
    if (l && l->loaded.err.code == PD_OK)
        pin(q, &m->pins, l->path);
    if (m->kind == MSG_TELL) {
        take_tell(q, m);
    } else if (!l || l->loaded.err.code == PD_OK) {
        m->kind == MSG_SUBMIT ? take_submit(q, m) : take_load(q, m);
    } else if (m->kind == MSG_SUBMIT) {
        m->verdict = QUEUE_REFUSED;
        m->err = l->loaded.err;
        tell_stored(m);
        free_msg(m);
    } else {
        m->told(m->user, l->loaded.err.code, "failed", &l->loaded.err);
        free_msg(m);
    }
}

/* Whoever waits for this model goes on; l NULL: whoever waits for any, as the queue is closed. */
static void release(struct queue *q, const struct load *l)
{
    struct msg *m = q->parked, *next;

    q->parked = NULL;
    q->last_parked = &q->parked;
    for (; m; m = next) {
        next = m->next;
        if (l && strcmp(m->path, l->path) != 0)
            park(q, m);
        else
            take_parked(q, m, l);
    }
}

static void take_loaded(struct queue *q, struct load *l)
{
    struct running *next;

    unlink_load(q, l); /* who finds the model gone again asks for another load */
    release(q, l);
    for (struct running *r = q->running; r; r = next) {
        next = r->next;
        if (r->job || strcmp(r->path, l->path) != 0)
            continue;
        if (l->loaded.err.code != PD_OK) {
            fail_start(q, r, &l->loaded.err);
        } else {
            pin(q, &r->pins, l->path);
            launch(q, r);
        }
    }
    free_load(l);
}

/* ---- the thread ------------------------------------------------------------------------------ */

static void take_close(struct queue *q)
{
    struct waiting *w;

    q->closed = true;
    release(q, NULL);
    settle(q);
    for (struct running *r = q->running, *next; r; r = next) {
        next = r->next;
        if (!r->job)
            unstart(q, r);
    }
    for (struct running *r = q->running; r; r = r->next)
        if (!r->msgs) /* what is being stopped already is stopped as it was asked */
            app_job_stop(r->job, r->place->attached ? NULL : "queued");
    while ((w = take_attached(q))) {
        put_state(q, w->id, "cancelled", "user", NULL, NULL);
        tell_rest(q, w, "cancelled", NULL);
        free(w);
    }
    store_flush(q->store, NULL);
}

static void take(struct queue *q, struct msg *m)
{
    switch (m->kind) {
    case MSG_SUBMIT:
        take_submit(q, m);
        break;
    case MSG_TELL:
        take_tell(q, m);
        break;
    case MSG_CALL:
        m->fn(q->c.app, m->user);
        free_msg(m);
        break;
    case MSG_LOAD:
        take_load(q, m);
        break;
    case MSG_LOADED:
        take_loaded(q, m->load);
        break;
    case MSG_LIMIT:
        q->c.max_jobs = m->max_jobs;
        q->c.max_waiting = m->max_waiting;
        free_msg(m);
        break;
    case MSG_ENDED:
        take_ended(q, m->running);
        break;
    case MSG_CLOSE:
        take_close(q);
        free_msg(m);
        break;
    }
}

static void *dispatcher(void *arg)
{
    struct queue *q = arg;
    struct client *c;
    struct pd_link *l, *next;

    while (!q->closed || q->running) {
        while (!q->closed && atomic_load(&q->n_running) < q->c.max_jobs && (c = next_client(q)) &&
               start(q, c))
            ;
        if (pd_queue_pop_wait(&q->inbox, PD_NEVER_NS, &l) < 0)
            break;
        l->next = pd_queue_take_all(&q->inbox);
        for (; l; l = next) {
            next = l->next;
            take(q, pd_container_of(l, struct msg, link));
        }
        settle(q);
    }
    end_loaders(q);
    pd_queue_push(&q->over, &q->farewell);
    return NULL;
}

/* ---- life ------------------------------------------------------------------------------------ */

/* What waited or ran when the process before ended. */
static struct pd_queue *queue_of(struct queue *q, unsigned i)
{
    return i == 0 ? &q->inbox : i == 1 ? &q->over : &q->loaders[i - 2].inbox;
}

static int recover(struct queue *q, struct pd_err *err)
{
    struct store_place *places = NULL;
    size_t n = 0;
    int rc = store_queue_load(q->store, NULL, &places, &n, &q->last_seq, err);

    for (size_t i = 0; i < n && rc == 0; i++) {
        const struct store_place *p = &places[i];
        struct waiting w = {.seq = p->seq, .priority = p->priority};

        strcpy(w.id, p->id);
        if (p->attached) { /* whoever waited for it has left */
            rc = put_state(q, p->id, "cancelled", "user", NULL, err);
            continue;
        }
        if (strcmp(p->status, "queued") != 0) {
            int fd = -1;

            if (store_job_lock(q->store, p->id, &fd, NULL) < 0)
                continue; /* it runs, in another process */
            close(fd);
            rc = put_state(q, p->id, "queued", NULL, NULL, err);
        }
        if (rc == 0)
            rc = enqueue(q, p->client, &w, err);
    }
    store_queue_free(places, n);
    return rc < 0 ? rc : store_flush(q->store, err);
}

static void free_queue(struct queue *q)
{
    struct client *next_c;
    struct waiting *next;

    for (struct client *c = q->clients; c; c = next_c) {
        next_c = c->next;
        for (struct waiting *w = c->first; w; w = next) {
            next = w->next;
            free(w);
        }
        free(c);
    }
    while (q->n_queues > 0)
        pd_queue_done(queue_of(q, --q->n_queues));
    if (q->lock_fd >= 0)
        close(q->lock_fd);
    pthread_mutex_destroy(&q->look);
    free(q);
}

static int init_queues(struct queue *q, struct pd_err *err)
{
    static const size_t max[] = {INBOX_MAX, 1};

    for (; q->n_queues < 2 + N_LOADERS; q->n_queues++)
        if (pd_queue_init(queue_of(q, q->n_queues), q->n_queues < 2 ? max[q->n_queues] : LOADS_MAX) <
            0)
            return pd_fail(err, PD_ENOMEM, "out of memory");
    return 0;
}

int queue_open(const struct queue_config *c, struct queue **out, struct pd_err *err)
{
    struct queue *q = calloc(1, sizeof *q);
    sigset_t all, before;
    int rc;

    if (!q)
        return pd_fail(err, PD_ENOMEM, "out of memory");
    q->c = *c;
    q->store = app_store(c->app);
    q->lock_fd = -1;
    pthread_mutex_init(&q->look, NULL);
    q->last_unsettled = &q->unsettled;
    q->last_parked = &q->parked;
    rc = store_job_lock(q->store, LOCK_NAME, &q->lock_fd, err);
    if (rc == PD_EBUSY)
        pd_fail(err, PD_EBUSY, "another daemon works on the jobs of database '%s'",
                store_path(q->store));
    if (rc == 0)
        rc = init_queues(q, err);
    if (rc == 0)
        rc = recover(q, err);
    if (rc == 0) {
        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &before); /* inherited, by the jobs' threads too */
        rc = start_loaders(q);
        if (rc == 0)
            rc = pthread_create(&q->thread, NULL, dispatcher, q);
        if (rc != 0)
            end_loaders(q);
        pthread_sigmask(SIG_SETMASK, &before, NULL);
        if (rc != 0)
            rc = pd_fail_errno(err, rc, "cannot start the threads of the job queue");
    }
    if (rc < 0) {
        free_queue(q);
        return rc;
    }
    *out = q;
    return 0;
}

/* The message is the queue's, or freed. */
static int push(struct queue *q, struct msg *m, struct pd_err *err)
{
    int rc = atomic_load(&q->closing) ? PD_ECANCEL : pd_queue_push(&q->inbox, &m->link);

    if (rc == 0)
        return 0;
    free_msg(m);
    return rc == PD_ELIMIT ? pd_fail(err, rc, "the job queue has too many messages to take")
                           : pd_fail(err, PD_ECANCEL, "the job queue is being closed");
}

int queue_close(struct queue *q, int64_t timeout_ns, struct pd_err *err)
{
    int64_t deadline_ns = pd_clock_now_ns() + timeout_ns;
    struct pd_link *farewell;
    struct msg *m;

    if (!q)
        return 0;
    m = calloc(1, sizeof *m);
    if (!m)
        return pd_fail(err, PD_ENOMEM, "out of memory");
    m->kind = MSG_CLOSE;
    atomic_store(&q->closing, true);
    pd_queue_push_wait(&q->inbox, &m->link);
    if (pd_queue_pop_wait(&q->over, deadline_ns, &farewell) < 0)
        return pd_fail(err, PD_ETIMEOUT, "jobs did not stop in time; they go on at the next start");
    pthread_join(q->thread, NULL);
    for (struct pd_link *l = pd_queue_pop(&q->inbox); l; l = pd_queue_pop(&q->inbox))
        take(q, pd_container_of(l, struct msg, link)); /* came beside the last of all: refused */
    settle(q);
    free_queue(q);
    return 0;
}

int queue_submit(struct queue *q, const struct queue_submission *s, char out_id[PD_JOB_ID_MAX],
                 struct pd_err *err)
{
    struct msg *m = calloc(1, sizeof *m);
    int rc = 0;

    if (!m)
        return pd_fail(err, PD_ENOMEM, "out of memory");
    m->kind = MSG_SUBMIT;
    m->request = app_request_copy(&s->request);
    if (s->client)
        m->client = strdup(s->client);
    else if (asprintf(&m->client, "uid:%lld", (long long)s->peer_uid) < 0)
        m->client = NULL;
    m->idem_key = s->idem_key ? strdup(s->idem_key) : NULL;
    m->how = (struct store_submission){.client = m->client,
                                       .idem_key = m->idem_key,
                                       .peer_uid = s->peer_uid,
                                       .priority = s->priority,
                                       .attached = s->attached};
    pd_sha256_bytes(s->body.len ? s->body.ptr : "", s->body.len, m->how.body_sha256);
    m->watch = s->watch;
    m->user = s->user;
    if (!m->request || !m->client || (s->idem_key && !m->idem_key))
        rc = pd_fail(err, PD_ENOMEM, "out of memory");
    if (rc == 0)
        rc = pd_id_new("job_", m->id, err);
    if (rc < 0) {
        free_msg(m);
        return rc;
    }
    strcpy(out_id, m->id);
    return push(q, m, err);
}

int queue_tell(struct queue *q, enum queue_verb verb, const char *id,
               void (*told)(void *user, int rc, const char *status, const struct pd_err *err),
               void *user, struct pd_err *err)
{
    struct msg *m = strlen(id) < PD_JOB_ID_MAX ? calloc(1, sizeof *m) : NULL;

    if (strlen(id) >= PD_JOB_ID_MAX)
        return pd_fail(err, PD_ENOENT, "no job is named '%.60s'", id);
    if (!m)
        return pd_fail(err, PD_ENOMEM, "out of memory");
    m->kind = MSG_TELL;
    strcpy(m->id, id);
    m->verb = verb;
    m->told = told;
    m->user = user;
    return push(q, m, err);
}

int queue_call(struct queue *q, void (*fn)(struct app *a, void *user), void *user,
               struct pd_err *err)
{
    struct msg *m = calloc(1, sizeof *m);

    if (!m)
        return pd_fail(err, PD_ENOMEM, "out of memory");
    m->kind = MSG_CALL;
    m->fn = fn;
    m->user = user;
    return push(q, m, err);
}

int queue_limit(struct queue *q, unsigned max_jobs, size_t max_waiting, struct pd_err *err)
{
    struct msg *m = calloc(1, sizeof *m);

    if (!m)
        return pd_fail(err, PD_ENOMEM, "out of memory");
    m->kind = MSG_LIMIT;
    m->max_jobs = max_jobs;
    m->max_waiting = max_waiting;
    return push(q, m, err);
}

int queue_load(struct queue *q, const char *model,
               void (*told)(void *user, int rc, const char *status, const struct pd_err *err),
               void *user, struct pd_err *err)
{
    struct msg *m = calloc(1, sizeof *m);

    if (!m || !(m->model = strdup(model))) {
        free(m);
        return pd_fail(err, PD_ENOMEM, "out of memory");
    }
    m->kind = MSG_LOAD;
    m->told = told;
    m->user = user;
    return push(q, m, err);
}

struct queue_counts queue_counts(const struct queue *q)
{
    return (struct queue_counts){atomic_load(&q->n_waiting), atomic_load(&q->n_running)};
}

size_t queue_running(struct queue *q, struct queue_running *out, size_t max)
{
    size_t n = 0;

    pthread_mutex_lock(&q->look);
    for (const struct running *r = q->running; r && n < max; r = r->next) {
        const struct pd_progress *p;

        if (!r->job) /* waits for its model */
            continue;
        p = &app_job_core(r->job)->progress;
        strcpy(out[n].id, r->place->id);
        out[n].live = atomic_load(&p->live);
        out[n].steps = atomic_load(&p->steps);
        out[n].tokens = atomic_load(&p->tokens);
        out[n].best = atomic_load(&p->best);
        out[n].scoring = atomic_load(&p->scoring);
        n++;
    }
    pthread_mutex_unlock(&q->look);
    return n;
}
