/* /v1/jobs: submitting, asking, steering, and the stream of events.
 *
 * What is asked of the database is read on a worker thread; what is told to the queue is answered
 * by its dispatcher. An event stream is a reader of the job's feed, which is woken by commits of
 * its job: what it sends is stored before. */
#include "daemon/daemon_int.h"

#include <ev.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "core/answer.h"
#include "daemon/request.h"

#define LIST_DEFAULT   20
#define LIST_MAX       1000
#define IDEM_KEY_MAX   255
#define FEED_AT_A_TIME 256
#define LOOK_S         0.5
#define PING_MAX_S     300
#define TREE_MAX       100000
#define DEPTH_MAX      10000

/* ---- a question to the database ------------------------------------------------------------ */

struct asking {
    struct api_question q;
    char id[PD_JOB_ID_MAX];
    struct store_job_query list;
    char *status, *run, *cursor; /* of list */
    size_t depth, max;
    bool flat;
    struct queue_running *running; /* [n_running], when the question was put */
    size_t n_running;
};

static struct asking *asking_of(struct api_question *q)
{
    return pd_container_of(q, struct asking, q);
}

static void asking_done(struct api_question *q)
{
    struct asking *a = asking_of(q);

    free(a->status);
    free(a->run);
    free(a->cursor);
    free(a->running);
}

static void answer_about_job(struct api_question *q)
{
    struct asking *a = asking_of(q);

    if (q->r && q->rc == PD_ENOENT)
        api_no_job(q->r, a->id);
    else if (q->r && q->rc == PD_EINVAL && a->cursor)
        api_error(q->r, 400, "invalid_request_error", "unsupported_value", "cursor", "%s",
                  q->err.text);
    else
        api_answer(q);
}

static struct asking *new_asking(struct daemon *d, struct http_request *r, const char *id,
                                 int (*read)(struct api_question *, struct pd_jw *,
                                             struct pd_err *))
{
    struct asking *a = api_question_new(sizeof *a, d, r, read);

    if (!a)
        return NULL;
    a->q.answer = answer_about_job;
    a->q.done = asking_done;
    snprintf(a->id, sizeof a->id, "%s", id);
    return a;
}

static void ask(struct daemon *d, struct http_request *r, const char *id,
                int (*read)(struct api_question *, struct pd_jw *, struct pd_err *))
{
    struct asking *a = new_asking(d, r, id, read);

    if (a)
        api_ask(&a->q);
}

/* The same for rows of jobs: beside them stands what the running ones are at. */
static void ask_rows(struct asking *a)
{
    const struct daemon *d = a->q.d;

    a->running = calloc((size_t)d->settings->max_jobs, sizeof *a->running);
    if (a->running && d->queue)
        a->n_running = queue_running(d->queue, a->running, (unsigned)d->settings->max_jobs);
    api_ask(&a->q);
}

/* ---- rows as JSON -------------------------------------------------------------------------- */

static void put_time(struct pd_jw *w, const char *key, int64_t ms)
{
    pd_jw_key(w, key);
    if (ms)
        pd_jw_int(w, ms);
    else
        pd_jw_null(w);
}

/* The budget's limits, and what is left of the tokens. */
static void put_budget(struct pd_jw *w, const struct store_job_row *row)
{
    struct pd_json *b = NULL;
    int64_t tokens;

    pd_jw_key(w, "budget");
    pd_jw_raw(w, pd_str_of(row->budget));
    if (pd_json_parse(pd_str_of(row->budget), &b, NULL) < 0)
        return;
    if (pd_json_int(pd_json_get(b, "tokens"), &tokens) && tokens > 0)
        pd_jw_put_uint(w, "tokens_left",
                       (uint64_t)tokens > row->generated ? (uint64_t)tokens - row->generated : 0);
    pd_json_free(b);
}

/* Of a job that runs now; else null. */
static void put_progress(struct pd_jw *w, const struct asking *a, const char *id)
{
    size_t i = 0;

    while (i < a->n_running && strcmp(a->running[i].id, id) != 0)
        i++;
    pd_jw_key(w, "progress");
    if (i == a->n_running) {
        pd_jw_null(w);
        return;
    }
    pd_jw_object(w);
    pd_jw_put_uint(w, "live", a->running[i].live);
    pd_jw_put_uint(w, "steps", a->running[i].steps);
    pd_jw_put_uint(w, "tokens", a->running[i].tokens);
    pd_jw_key(w, "best");
    if (a->running[i].best > 0)
        pd_jw_double(w, a->running[i].best);
    else
        pd_jw_null(w);
    pd_jw_put_bool(w, "scoring", a->running[i].scoring);
    pd_jw_end_object(w);
}

static void put_job(struct pd_jw *w, const struct asking *a, const struct store_job_row *row)
{
    pd_jw_object(w);
    pd_jw_put_text(w, "id", row->id);
    pd_jw_put_text(w, "object", "job");
    pd_jw_put_text(w, "status", row->status);
    pd_jw_put_text(w, "stopped_by", row->stopped_by);
    pd_jw_put_text(w, "question", row->question);
    pd_jw_put_text(w, "answer", row->answer);
    pd_jw_put_text(w, "error", row->error);
    pd_jw_put_text(w, "strategy", row->strategy);
    pd_jw_put_text(w, "model", row->model);
    pd_jw_put_text(w, "scorer", row->scorer);
    pd_jw_put_uint(w, "seed", row->seed);
    put_budget(w, row);
    pd_jw_put_uint(w, "nodes", row->n_nodes);
    pd_jw_put_uint(w, "generated_tokens", row->generated);
    put_progress(w, a, row->id);
    put_time(w, "created_ms", row->created_ms);
    put_time(w, "started_ms", row->started_ms);
    put_time(w, "finished_ms", row->finished_ms);
    pd_jw_put_text(w, "digest", row->digest);
    pd_jw_end_object(w);
}

static int read_job(struct api_question *q, struct pd_jw *w, struct pd_err *err)
{
    struct asking *a = asking_of(q);
    struct store_job_row *rows = NULL;
    size_t n = 0;
    int rc = store_job_list(app_store(a->q.d->app),
                            &(struct store_job_query){.id = a->id, .limit = 1}, &rows, &n, err);

    if (rc == 0 && n == 0)
        rc = PD_ENOENT;
    if (rc == 0)
        put_job(w, a, &rows[0]);
    store_job_list_free(rows, n);
    return rc;
}

/* One more row than asked for tells whether there are more. */
static int read_list(struct api_question *q, struct pd_jw *w, struct pd_err *err)
{
    struct asking *a = asking_of(q);
    struct store_job_row *rows = NULL;
    char cursor[STORE_CURSOR_MAX];
    size_t n = 0, shown;
    int rc;

    a->list.limit++;
    rc = store_job_list(app_store(a->q.d->app), &a->list, &rows, &n, err);
    if (rc < 0)
        return rc;
    shown = n < a->list.limit ? n : n - 1;
    pd_jw_object(w);
    pd_jw_put_text(w, "object", "list");
    pd_jw_key(w, "data");
    pd_jw_array(w);
    for (size_t i = 0; i < shown; i++)
        put_job(w, a, &rows[i]);
    pd_jw_end_array(w);
    pd_jw_put_bool(w, "has_more", n > shown);
    if (n > shown)
        store_cursor(&rows[shown - 1], cursor);
    pd_jw_put_text(w, "next_cursor", n > shown ? cursor : NULL);
    pd_jw_end_object(w);
    store_job_list_free(rows, n);
    return 0;
}

static int load(const struct asking *a, struct pd_trace **out, struct pd_err *err)
{
    return strlen(a->id) < 30 ? PD_ENOENT /* a prefix names no job here */
                              : store_trace_load(app_store(a->q.d->app), a->id, out, err);
}

static void put_scores(struct pd_jw *w, const struct pd_trace *t, uint32_t node)
{
    const struct pd_score_rec *s = pd_trace_score(t, node);

    pd_jw_key(w, "score");
    if (s)
        pd_jw_double(w, s->value);
    else
        pd_jw_null(w);
    pd_jw_key(w, "step_scores");
    pd_jw_array(w);
    for (uint32_t i = 0; s && i < s->n_steps; i++)
        pd_jw_double(w, s->steps[i]);
    pd_jw_end_array(w);
}

static int read_calls(struct api_question *q, struct pd_jw *w, struct pd_err *err)
{
    struct asking *a = asking_of(q);
    struct pd_trace *t = NULL;
    int rc = load(a, &t, err);

    if (rc < 0)
        return rc;
    pd_jw_object(w);
    pd_jw_put_text(w, "object", "list");
    pd_jw_key(w, "data");
    pd_jw_array(w);
    for (size_t i = 0; i < t->n_calls; i++) {
        const struct pd_call_rec *c = &t->calls[i];

        pd_jw_object(w);
        pd_jw_put_uint(w, "seq", i);
        pd_jw_put_text(w, "engine", c->engine);
        pd_jw_put_text(w, "op", c->op);
        pd_jw_put_text(w, "model", c->model);
        pd_jw_put_text(w, "outcome", c->outcome);
        pd_jw_put_uint(w, "prompt_tokens", c->prompt_tokens);
        pd_jw_put_uint(w, "cached_tokens", c->cached_tokens);
        pd_jw_put_uint(w, "generated_tokens", c->generated_tokens);
        put_time(w, "started_ms", c->started_ms);
        put_time(w, "ended_ms", c->ended_ms);
        pd_jw_put_text(w, "error", c->error);
        pd_jw_end_object(w);
    }
    pd_jw_end_array(w);
    pd_jw_end_object(w);
    store_trace_free(t);
    return 0;
}

static void put_node(struct pd_jw *w, const struct pd_trace *t, const struct pd_node_rec *n)
{
    pd_jw_put_uint(w, "node", n->id);
    pd_jw_key(w, "parent");
    if (n->parent == n->id)
        pd_jw_null(w);
    else
        pd_jw_uint(w, n->parent);
    pd_jw_put_uint(w, "depth", n->depth);
    pd_jw_put_text(w, "status", n->status);
    pd_jw_put_text(w, "prune_reason", n->prune_reason);
    pd_jw_put_text(w, "finish", n->finish);
    pd_jw_put_text(w, "stop", n->stop);
    pd_jw_put_uint(w, "tokens", n->n_tokens);
    pd_jw_put_double(w, "logprob", n->logprob);
    put_scores(w, t, n->id);
    pd_jw_put_str(w, "text", n->text);
}

struct children { /* of each node, in order: lists through next */
    uint32_t first, last, next;
};
#define NO_NODE UINT32_MAX

static void put_nested(struct pd_jw *w, const struct pd_trace *t, const struct children *c,
                       uint32_t id, size_t depth, size_t *left)
{
    pd_jw_object(w);
    put_node(w, t, &t->nodes[id]);
    pd_jw_key(w, "children");
    pd_jw_array(w);
    if (depth > 0)
        for (uint32_t k = c[id].first; k != NO_NODE && *left > 0; k = c[k].next) {
            --*left;
            put_nested(w, t, c, k, depth - 1, left);
        }
    pd_jw_end_array(w);
    pd_jw_end_object(w);
}

static int put_tree(const struct asking *a, struct pd_jw *w, const struct pd_trace *t,
                    struct pd_err *err)
{
    struct children *c = malloc((t->n_nodes + 1) * sizeof *c);
    size_t left = a->max - 1;

    if (!c)
        return pd_fail(err, PD_ENOMEM, "out of memory");
    for (size_t i = 0; i < t->n_nodes; i++) {
        const struct pd_node_rec *n = &t->nodes[i];

        c[i] = (struct children){NO_NODE, NO_NODE, NO_NODE};
        if (n->parent >= i)
            continue;
        if (c[n->parent].first == NO_NODE)
            c[n->parent].first = (uint32_t)i;
        else
            c[c[n->parent].last].next = (uint32_t)i;
        c[n->parent].last = (uint32_t)i;
    }
    pd_jw_key(w, "root");
    if (t->n_nodes)
        put_nested(w, t, c, 0, a->depth, &left);
    else
        pd_jw_null(w);
    free(c);
    return 0;
}

static int read_tree(struct api_question *q, struct pd_jw *w, struct pd_err *err)
{
    struct asking *a = asking_of(q);
    struct pd_trace *t = NULL;
    int rc = load(a, &t, err);
    size_t shown = 0;

    if (rc < 0)
        return rc;
    pd_jw_object(w);
    pd_jw_put_text(w, "id", t->job.id);
    pd_jw_put_text(w, "object", "job.tree");
    pd_jw_put_text(w, "status", t->job.status);
    pd_jw_key(w, "answer_node");
    if (t->job.answer_node >= 0)
        pd_jw_int(w, t->job.answer_node);
    else
        pd_jw_null(w);
    pd_jw_put_uint(w, "nodes_total", t->n_nodes);
    if (a->flat) {
        pd_jw_key(w, "nodes");
        pd_jw_array(w);
        for (size_t i = 0; i < t->n_nodes && shown < a->max; i++) {
            if (t->nodes[i].depth > a->depth)
                continue;
            shown++;
            pd_jw_object(w);
            put_node(w, t, &t->nodes[i]);
            pd_jw_end_object(w);
        }
        pd_jw_end_array(w);
    } else {
        rc = put_tree(a, w, t, err);
    }
    pd_jw_end_object(w);
    store_trace_free(t);
    return rc;
}

/* ---- the query of a URL -------------------------------------------------------------------- */

/* False: it has been replied to. */
static bool query_number(struct http_request *r, const char *key, uint64_t max, uint64_t *out)
{
    const char *text = http_query(r, key);
    uint64_t n;

    if (!text)
        return true;
    if (!pd_parse_u64(pd_str_of(text), &n) || n > max) {
        api_error(r, 400, "invalid_request_error", "out_of_range", key,
                  "%s must be a whole number from 0 to %" PRIu64, key, max);
        return false;
    }
    *out = n;
    return true;
}

/* False: there is another parameter, and it has been replied to. */
static bool query_only(struct http_request *r, const char *const *known)
{
    const char *key, *value;

    for (unsigned i = 0; http_query_at(r, i, &key, &value); i++) {
        size_t k = 0;

        while (known[k] && strcmp(known[k], key) != 0)
            k++;
        if (!known[k]) {
            api_error(r, 400, "invalid_request_error", "unknown_field", key,
                      "the parameter %.64s is not known here", key);
            return false;
        }
    }
    return true;
}

static char *dup_query(const struct http_request *r, const char *key)
{
    const char *v = http_query(r, key);

    return v ? strdup(v) : NULL;
}

/* ---- GET ----------------------------------------------------------------------------------- */

static void list(struct daemon *d, struct http_request *r, const struct route_args *args)
{
    static const char *const known[] = {"status", "run", "limit", "cursor", NULL};
    static const char *const states[] = {"queued", "running",   "paused", "done",
                                         "failed", "cancelled", NULL};
    uint64_t limit = LIST_DEFAULT;
    const char *status = http_query(r, "status");
    struct asking *a;
    size_t i = 0;

    (void)args;
    if (!query_only(r, known) || !query_number(r, "limit", LIST_MAX, &limit))
        return;
    while (status && states[i] && strcmp(states[i], status) != 0)
        i++;
    if (status && !states[i]) {
        api_error(r, 400, "invalid_request_error", "unsupported_value", "status",
                  "status must be queued, running, paused, done, failed or cancelled");
        return;
    }
    a = new_asking(d, r, "", read_list);
    if (!a)
        return;
    a->list.status = a->status = dup_query(r, "status");
    a->list.run_id = a->run = dup_query(r, "run");
    a->list.cursor = a->cursor = dup_query(r, "cursor");
    a->list.limit = limit ? limit : LIST_DEFAULT;
    ask_rows(a);
}

static void show(struct daemon *d, struct http_request *r, const struct route_args *args)
{
    struct asking *a = new_asking(d, r, args->v[0], read_job);

    if (a)
        ask_rows(a);
}

static int read_answer(struct api_question *q, struct pd_jw *w, struct pd_err *err)
{
    int rc;

    pd_jw_object(w);
    rc = result_put(pd_container_of(q, struct result_question, q), w, err);
    pd_jw_end_object(w);
    return rc;
}

static void tell_answer(struct api_question *q)
{
    if (q->r && q->rc == PD_ENOENT)
        api_no_job(q->r, pd_container_of(q, struct result_question, q)->id);
    else
        api_answer(q);
}

static void answer(struct daemon *d, struct http_request *r, const struct route_args *args)
{
    struct result_question *a = result_question_new(sizeof *a, d, r, read_answer);

    if (!a)
        return;
    a->q.answer = tell_answer;
    snprintf(a->id, sizeof a->id, "%s", args->v[0]);
    result_ask(a);
}

static void calls(struct daemon *d, struct http_request *r, const struct route_args *args)
{
    ask(d, r, args->v[0], read_calls);
}

static void tree(struct daemon *d, struct http_request *r, const struct route_args *args)
{
    static const char *const known[] = {"depth", "max", "form", NULL};
    const char *form = http_query(r, "form");
    uint64_t depth = DEPTH_MAX, max = TREE_MAX;
    struct asking *a;

    if (!query_only(r, known) || !query_number(r, "depth", DEPTH_MAX, &depth) ||
        !query_number(r, "max", TREE_MAX, &max))
        return;
    if (form && strcmp(form, "flat") != 0 && strcmp(form, "nested") != 0) {
        api_error(r, 400, "invalid_request_error", "unsupported_value", "form",
                  "form must be nested or flat");
        return;
    }
    a = new_asking(d, r, args->v[0], read_tree);
    if (!a)
        return;
    a->depth = depth;
    a->max = max ? max : TREE_MAX;
    a->flat = form && strcmp(form, "flat") == 0;
    api_ask(&a->q);
}

/* ---- POST ---------------------------------------------------------------------------------- */

struct submitting {
    struct asking *a; /* what shows the job once it is stored */
    enum queue_verdict verdict;
    struct pd_err err;
};

static void on_submitted(struct daemon *d, void *arg)
{
    struct submitting *s = arg;
    struct asking *a = s->a;
    struct http_request *r = a->q.r;
    char where[PD_JOB_ID_MAX + 16];

    (void)d;
    if (r && (s->verdict == QUEUE_STORED || s->verdict == QUEUE_KNOWN)) {
        snprintf(where, sizeof where, "/v1/jobs/%s", a->id);
        http_set_header(r, "Location", where);
        a->q.status = s->verdict == QUEUE_STORED ? 202 : 200;
        free(s);
        ask_rows(a);
        return;
    }
    if (r && s->verdict == QUEUE_CONFLICT) {
        api_error(r, 409, "conflict_error", "idempotency_mismatch", NULL,
                  "this Idempotency-Key was used for %s with another body", a->id);
    } else if (r && s->verdict == QUEUE_FULL) {
        api_queue_full(r, 5, "too many jobs wait already");
    } else if (r) {
        api_fail(r, &s->err);
    }
    free(s);
    api_question_free(&a->q);
}

static void q_stored(void *user, enum queue_verdict v, const char *id, const struct pd_err *err)
{
    struct submitting *s = user;

    s->verdict = v;
    if (id)
        snprintf(s->a->id, sizeof s->a->id, "%s", id);
    if (err)
        s->err = *err;
    daemon_post(s->a->q.d, on_submitted, s);
}

static void submit(struct daemon *d, struct http_request *r, const struct route_args *args)
{
    static const struct queue_watch watch = {q_stored, NULL, NULL};
    static const char *const none[] = {NULL};
    const char *key = http_header(r, "Idempotency-Key");
    struct submitting *s = NULL;
    struct request *q = NULL;
    struct request_error e;
    char id[PD_JOB_ID_MAX];

    if (key && (strlen(key) > IDEM_KEY_MAX || !key[0])) {
        api_error(r, 400, "invalid_request_error", "out_of_range", "Idempotency-Key",
                  "an Idempotency-Key has 1 to %d bytes", IDEM_KEY_MAX);
    } else if (request_parse(args->body, none, &q, &e) < 0) {
        api_parse_error(r, &e);
    } else if (q->unknown.len) {
        api_error(r, 400, "invalid_request_error", "unknown_field", NULL, "not known here: %s",
                  pd_buf_str(&q->unknown).ptr);
    } else if (!(s = calloc(1, sizeof *s))) {
        api_no_memory(r);
    } else if (!(s->a = new_asking(d, r, "", read_job))) {
        free(s);
    } else {
        struct queue_submission sub = {.request = q->app,
                                       .idem_key = key,
                                       .body = http_body(r),
                                       .client = q->client,
                                       .peer_uid = (int64_t)(int32_t)http_peer_uid(r),
                                       .priority = q->priority,
                                       .watch = &watch,
                                       .user = s};

        if (queue_submit(d->queue, &sub, id, &e.err) < 0) {
            api_queue_full(r, 1, e.err.text);
            api_question_free(&s->a->q);
            free(s);
        }
    }
    request_free(q);
    pd_json_free(args->body);
}

/* ---- cancel, pause, resume, delete --------------------------------------------------------- */

struct steering {
    struct asking *a;
    bool deletes;
    int rc;
    struct pd_err err;
};

static void on_steered(struct daemon *d, void *arg)
{
    struct steering *s = arg;
    struct asking *a = s->a;
    struct http_request *r = a->q.r;

    (void)d;
    if (s->rc == 0 && !s->deletes && r) {
        free(s);
        ask_rows(a);
        return;
    }
    if (r && s->rc == 0)
        http_reply(r, 204, NULL, PD_STR(""));
    else if (r && s->rc == PD_ENOENT)
        api_no_job(r, a->id);
    else if (r && (s->rc == PD_EINVAL || s->rc == PD_EBUSY))
        api_error(r, 409, "conflict_error", "bad_state", NULL, "%s", s->err.text);
    else if (r)
        api_fail(r, &s->err);
    free(s);
    api_question_free(&a->q);
}

static void q_told(void *user, int rc, const char *status, const struct pd_err *err)
{
    struct steering *s = user;

    (void)status;
    s->rc = rc;
    if (rc < 0 && err)
        s->err = *err;
    daemon_post(s->a->q.d, on_steered, s);
}

static void steer(struct daemon *d, struct http_request *r, const char *id, enum queue_verb verb)
{
    struct steering *s = calloc(1, sizeof *s);
    struct pd_err err;

    if (!s)
        api_no_memory(r);
    if (!s || !(s->a = new_asking(d, r, id, read_job))) {
        free(s);
        return;
    }
    s->deletes = verb == QUEUE_DELETE;
    if (queue_tell(d->queue, verb, s->a->id, q_told, s, &err) < 0) {
        api_fail(r, &err);
        api_question_free(&s->a->q);
        free(s);
    }
}

static void cancel(struct daemon *d, struct http_request *r, const struct route_args *args)
{
    steer(d, r, args->v[0], QUEUE_CANCEL);
}

static void pause_job(struct daemon *d, struct http_request *r, const struct route_args *args)
{
    steer(d, r, args->v[0], QUEUE_PAUSE);
}

static void resume(struct daemon *d, struct http_request *r, const struct route_args *args)
{
    steer(d, r, args->v[0], QUEUE_RESUME);
}

static void delete_job(struct daemon *d, struct http_request *r, const struct route_args *args)
{
    steer(d, r, args->v[0], QUEUE_DELETE);
}

/* ---- events -------------------------------------------------------------------------------- */

struct watcher {
    struct watcher *prev, *next;
    struct daemon *d;
    struct http_request *r; /* NULL: the client has left */
    char id[PD_JOB_ID_MAX];
    uint64_t since;
    bool loading, woken, begun;
    bool ours; /* a commit of this process has woken it since the last look at those of others */
    double ping_s;
    struct store_feed *feed; /* of the load that is under way, or has just ended */
    int rc;
    struct pd_err err;
};

struct events {
    struct watcher *watchers; /* loop */
    atomic_uint n;            /* how many: commits look whether it is worth telling */
    /* Commits of other processes: as long as somebody watches, the database's version is asked for
     * every now and then. */
    ev_timer look;
    bool looking;
    int64_t version; /* as of the last look */
    bool changed;    /* since the one before */
};

static void watcher_free(struct watcher *w)
{
    struct events *e = w->d->events;

    if (w->prev)
        w->prev->next = w->next;
    else
        e->watchers = w->next;
    if (w->next)
        w->next->prev = w->prev;
    if (atomic_fetch_sub(&e->n, 1) == 1)
        ev_timer_stop(w->d->loop, &e->look);
    free(w);
}

static void watcher_left(void *user)
{
    struct watcher *w = user;

    w->r = NULL;
    if (!w->loading)
        watcher_free(w);
}

static void load_feed(struct daemon *d, void *arg)
{
    struct watcher *w = arg;

    w->rc = store_feed_load(app_store(d->app), w->id, w->since, FEED_AT_A_TIME, pd_answer_extract,
                            &w->feed, &w->err);
}

static void on_feed(struct daemon *d, void *arg);

static void look_at_feed(struct watcher *w)
{
    w->woken = false;
    w->loading = daemon_work(w->d, load_feed, on_feed, w);
    if (w->loading)
        return;
    if (w->begun)
        http_stream_abort(w->r); /* it comes again with Last-Event-ID */
    else
        api_busy(w->r);
    watcher_free(w);
}

/* PD_ELIMIT: the client reads too slowly. */
static int send_entries(struct watcher *w)
{
    struct pd_buf b = PD_BUF_INIT(HTTP_STREAM_BACKLOG);
    int rc;

    for (size_t i = 0; i < w->feed->n; i++) {
        const struct store_feed_entry *e = &w->feed->entries[i];

        pd_buf_printf(&b, "id: %" PRIu64 "\nevent: %s\ndata: ", e->seq, e->type);
        pd_buf_adds(&b, e->data);
        pd_buf_addz(&b, "\n\n");
        w->since = e->seq;
    }
    rc = pd_buf_rc(&b) < 0 ? PD_ELIMIT : b.len ? http_stream_write(w->r, pd_buf_str(&b)) : 0;
    pd_buf_done(&b);
    return rc;
}

static void on_feed(struct daemon *d, void *arg)
{
    struct watcher *w = arg;
    struct store_feed *feed = w->feed;
    bool full = feed && feed->n > 0, over = feed && feed->ended;

    (void)d;
    w->loading = false;
    if (w->r && w->rc < 0) {
        if (w->begun)
            http_stream_abort(w->r);
        else if (w->rc == PD_ENOENT)
            api_no_job(w->r, w->id);
        else
            api_fail(w->r, &w->err);
        w->r = NULL;
    } else if (w->r) {
        if (!w->begun) {
            w->begun = true;
            http_set_header(w->r, "Cache-Control", "no-store");
            http_stream_begin(w->r, 200, "text/event-stream");
            http_stream_ping(w->r, w->ping_s);
        }
        if (send_entries(w) < 0) {
            http_stream_abort(w->r);
            w->r = NULL;
        } else if (over) {
            http_stream_end(w->r);
            w->r = NULL;
        }
    }
    store_feed_free(feed);
    w->feed = NULL;
    if (!w->r)
        watcher_free(w);
    else if (w->woken || full)
        look_at_feed(w);
}

static void wake(struct watcher *w)
{
    w->woken = true;
    if (!w->loading)
        look_at_feed(w);
}

static void read_version(struct daemon *d, void *arg)
{
    struct events *e = arg;
    int64_t before = e->version;

    e->changed = store_version(app_store(d->app), &e->version, NULL) == 0 && e->version != before;
}

static void on_version(struct daemon *d, void *arg)
{
    struct events *e = arg;
    struct watcher *next;

    (void)d;
    e->looking = false;
    for (struct watcher *w = e->watchers; w; w = next) {
        next = w->next;
        if (e->changed && !w->ours)
            wake(w);
        else
            w->ours = false;
    }
}

static void on_look(struct ev_loop *loop, ev_timer *t, int events)
{
    struct daemon *d = t->data;
    struct events *e = d->events;

    (void)loop, (void)events;
    if (!e->looking)
        e->looking = daemon_work(d, read_version, on_version, e);
}

static void events(struct daemon *d, struct http_request *r, const struct route_args *args)
{
    static const char *const known[] = {"since", "ping", NULL};
    const char *last = http_header(r, "Last-Event-ID");
    uint64_t since = 0, ping = d->settings->sse_ping_interval_s > 0
                                   ? (uint64_t)d->settings->sse_ping_interval_s
                                   : 0;
    struct watcher *w;

    if (!query_only(r, known) || !query_number(r, "since", INT64_MAX, &since) ||
        !query_number(r, "ping", PING_MAX_S, &ping))
        return;
    if (last && (!pd_parse_u64(pd_str_of(last), &since) || since > INT64_MAX)) {
        api_error(r, 400, "invalid_request_error", "out_of_range", "Last-Event-ID",
                  "Last-Event-ID must be the id of an event of this job");
        return;
    }
    w = calloc(1, sizeof *w);
    if (!w) {
        api_no_memory(r);
        return;
    }
    w->d = d;
    w->r = r;
    w->since = since;
    w->ping_s = (double)ping;
    snprintf(w->id, sizeof w->id, "%s", args->v[0]);
    w->next = d->events->watchers;
    if (w->next)
        w->next->prev = w;
    d->events->watchers = w;
    if (atomic_fetch_add(&d->events->n, 1) == 0) {
        ev_timer_init(&d->events->look, on_look, LOOK_S, LOOK_S);
        d->events->look.data = d;
        ev_timer_start(d->loop, &d->events->look);
    }
    http_on_close(r, watcher_left, w);
    look_at_feed(w);
}

static void on_commit(struct daemon *d, void *arg)
{
    char *id = arg;
    struct watcher *next;

    for (struct watcher *w = d->events->watchers; w; w = next) {
        next = w->next;
        if (strcmp(w->id, id) != 0)
            continue;
        w->ours = true;
        wake(w);
    }
    free(id);
}

void events_committed(void *daemon, const char *job_id)
{
    struct daemon *d = daemon;
    char *id;

    if (atomic_load(&d->events->n) == 0 || !(id = strdup(job_id)))
        return;
    if (!daemon_post(d, on_commit, id))
        free(id);
}

unsigned events_watched(const struct events *e)
{
    return atomic_load(&e->n);
}

struct events *events_new(void)
{
    return calloc(1, sizeof(struct events));
}

const struct route routes_jobs[] = {
    {HTTP_POST, "/v1/jobs", submit, ROUTE_JSON},
    {HTTP_GET, "/v1/jobs", list, 0},
    {HTTP_GET, "/v1/jobs/{id}", show, 0},
    {HTTP_DELETE, "/v1/jobs/{id}", delete_job, 0},
    {HTTP_GET, "/v1/jobs/{id}/events", events, 0},
    {HTTP_GET, "/v1/jobs/{id}/tree", tree, 0},
    {HTTP_GET, "/v1/jobs/{id}/answer", answer, 0},
    {HTTP_GET, "/v1/jobs/{id}/calls", calls, 0},
    {HTTP_POST, "/v1/jobs/{id}/cancel", cancel, 0},
    {HTTP_POST, "/v1/jobs/{id}/pause", pause_job, 0},
    {HTTP_POST, "/v1/jobs/{id}/resume", resume, 0},
    {HTTP_GET, NULL, NULL, 0},
};
