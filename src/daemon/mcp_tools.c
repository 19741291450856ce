/* The tools. Those that run a job go through the queue, those that read ask the database on a
 * worker thread. */
#include "daemon/mcp_int.h"

#include <ev.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "daemon/request.h"

#define RESULT_MAX      ((size_t)8 << 20)
#define BODY_MAX        ((size_t)8 << 20)
#define PROGRESS_S      1.0
#define NODES_DEFAULT   50
#define NODES_MAX       10000
#define NODE_TEXT_SHOWN 400

/* ---- arguments ----------------------------------------------------------------------------- */

/* False: the call has ended. known ends with NULL; the first n_needed of it must be there. */
static bool check_args(struct mcp_call *c, const char *const *known, size_t n_needed)
{
    char message[256];

    for (size_t i = 0; i < n_needed; i++)
        if (!pd_json_get(c->args, known[i])) {
            snprintf(message, sizeof message, "%s is missing", known[i]);
            mcp_bad_arguments(c, message);
            return false;
        }
    for (const struct pd_json *v = pd_json_first(c->args); v; v = pd_json_next(v)) {
        size_t i = 0;

        while (known[i] && strcmp(known[i], pd_json_key(v)) != 0)
            i++;
        if (!known[i]) {
            snprintf(message, sizeof message, "%.64s is not an argument of this tool",
                     pd_json_key(v));
            mcp_bad_arguments(c, message);
            return false;
        }
    }
    return true;
}

/* False: the call has ended. */
static bool job_arg(struct mcp_call *c, char out[PD_JOB_ID_MAX])
{
    const char *id = pd_json_string(pd_json_get(c->args, "job"));

    if (!id || strlen(id) >= PD_JOB_ID_MAX) {
        mcp_bad_arguments(c, "job must be the id of a job");
        return false;
    }
    strcpy(out, id);
    return true;
}

/* ---- solve, submit_job --------------------------------------------------------------------- */

struct solve {
    struct daemon *d;
    struct mcp_call *call; /* loop; NULL: it has ended */
    bool wait;
    ev_timer tick;
    bool asking, over; /* loop: a question to the dispatcher is under way; the job has ended */
    struct app_job *running; /* dispatcher */
    uint64_t tokens, limit;  /* of the last look */
    char line[160];
    struct pd_buf result; /* how it ended, as a JSON object */
    bool failed;
    char error[512], id[PD_JOB_ID_MAX];
};

static void solve_free(struct solve *s)
{
    if (!s->over || s->asking)
        return;
    pd_buf_done(&s->result);
    free(s);
}

static void on_over(struct daemon *d, void *arg)
{
    struct solve *s = arg;

    s->over = true;
    ev_timer_stop(d->loop, &s->tick);
    if (s->call && s->failed)
        mcp_failed(s->call, s->error);
    else if (s->call)
        mcp_done(s->call, &s->result, NULL);
    s->call = NULL;
    solve_free(s);
}

static void on_stored(struct daemon *d, void *arg)
{
    struct solve *s = arg;

    (void)d;
    if (s->call && !s->wait) {
        struct pd_buf b = PD_BUF_INIT(1024);
        struct pd_jw w;

        pd_jw_init(&w, &b);
        pd_jw_object(&w);
        pd_jw_put_text(&w, "job", s->id);
        pd_jw_put_text(&w, "status", "queued");
        pd_jw_end_object(&w);
        mcp_done(s->call, &b, NULL);
        s->call = NULL;
    }
}

static void q_stored(void *user, enum queue_verdict v, const char *id, const struct pd_err *err)
{
    struct solve *s = user;

    if (v == QUEUE_STORED || v == QUEUE_KNOWN)
        snprintf(s->id, sizeof s->id, "%s", id);
    switch (v) {
    case QUEUE_STORED:
        daemon_post(s->d, on_stored, s);
        return;
    case QUEUE_KNOWN: /* there is no `ended` to come */
        daemon_post(s->d, on_stored, s);
        break;
    case QUEUE_CONFLICT:
        snprintf(s->error, sizeof s->error,
                 "idempotency_key was used for another job (%s) with other arguments", id);
        break;
    case QUEUE_FULL:
        snprintf(s->error, sizeof s->error, "too many jobs wait already: try again later");
        break;
    case QUEUE_REFUSED:
        snprintf(s->error, sizeof s->error, "%s", err->text);
        break;
    }
    s->failed = s->error[0] != '\0';
    daemon_post(s->d, on_over, s);
}

static void q_started(void *user, struct app_job *job)
{
    struct solve *s = user;

    s->running = job;
}

static void q_ended(void *user, const struct queue_end *end)
{
    struct solve *s = user;
    const struct pd_result *r = end->result;
    struct pd_jw w;

    s->running = NULL;
    if (strcmp(end->status, "paused") == 0)
        return; /* it may go on; who waits, waits */
    s->failed = strcmp(end->status, "failed") == 0 || strcmp(end->status, "deleted") == 0;
    if (s->failed)
        snprintf(s->error, sizeof s->error, "%s",
                 end->err && end->err->text[0] ? end->err->text : "the job was deleted");
    pd_jw_init(&w, &s->result);
    pd_jw_object(&w);
    pd_jw_put_text(&w, "job", end->id);
    if (r) {
        app_result_json(&w, end->job, r, true);
    } else {
        pd_jw_put_text(&w, "status", end->status);
        pd_jw_put_text(&w, "answer", NULL);
    }
    pd_jw_end_object(&w);
    daemon_post(s->d, on_over, s);
}

static const struct queue_watch watch = {q_stored, q_started, q_ended};

static void on_looked(struct daemon *d, void *arg)
{
    struct solve *s = arg;

    (void)d;
    s->asking = false;
    if (s->call && s->line[0])
        mcp_progress(s->call, s->tokens, s->limit, s->line);
    solve_free(s);
}

static void look(struct app *a, void *user)
{
    struct solve *s = user;

    (void)a;
    s->line[0] = '\0';
    if (s->running) {
        const struct pd_job *job = app_job_core(s->running);

        s->tokens = atomic_load(&job->progress.tokens);
        s->limit = job->budget.tokens;
        snprintf(s->line, sizeof s->line, "%s  step %u  live %u  tokens %" PRIu64 "  best %.3f",
                 job->strategy->name, atomic_load(&job->progress.steps),
                 atomic_load(&job->progress.live), s->tokens, atomic_load(&job->progress.best));
    }
    daemon_post(s->d, on_looked, s);
}

static void on_tick(struct ev_loop *loop, ev_timer *w, int events)
{
    struct solve *s = w->data;

    (void)loop, (void)events;
    if (!s->asking)
        s->asking = queue_call(s->d->queue, look, s, NULL) == 0;
}

/* The arguments in the form that every job has: ponder-api(7). */
static int write_body(const struct pd_json *args, struct pd_buf *b)
{
    static const char *const ours[] = {"strategy", "options", "scorer", "budget", "seed"};
    struct pd_jw w;

    pd_jw_init(&w, b);
    pd_jw_object(&w);
    if (pd_json_get(args, "model")) {
        pd_jw_key(&w, "model");
        pd_jw_value(&w, pd_json_get(args, "model"));
    }
    pd_jw_key(&w, "messages");
    pd_jw_array(&w);
    pd_jw_object(&w);
    pd_jw_put_text(&w, "role", "user");
    pd_jw_key(&w, "content");
    pd_jw_value(&w, pd_json_get(args, "question"));
    pd_jw_end_object(&w);
    pd_jw_end_array(&w);
    pd_jw_key(&w, "ponder");
    pd_jw_object(&w);
    for (size_t i = 0; i < sizeof ours / sizeof *ours; i++)
        if (pd_json_get(args, ours[i])) {
            pd_jw_key(&w, ours[i]);
            pd_jw_value(&w, pd_json_get(args, ours[i]));
        }
    pd_jw_end_object(&w);
    pd_jw_end_object(&w);
    return pd_buf_rc(b);
}

static void submit(struct mcp_call *c, bool wait)
{
    static const char *const none[] = {NULL};
    const char *key = pd_json_string(pd_json_get(c->args, "idempotency_key"));
    struct pd_buf text = PD_BUF_INIT(BODY_MAX);
    struct queue_submission sub = {
        .idem_key = key, .client = "mcp", .peer_uid = -1, .watch = &watch};
    struct pd_json *body = NULL;
    struct request *q = NULL;
    struct request_error e = {0};
    struct solve *s = calloc(1, sizeof *s);
    int rc = s ? write_body(c->args, &text) : PD_ENOMEM;

    if (rc == 0)
        rc = pd_json_parse(pd_buf_str(&text), &body, &e.err);
    if (rc == 0)
        rc = request_parse(body, none, &q, &e);
    if (rc < 0) {
        mcp_bad_arguments(c, e.err.text[0] ? e.err.text : "the arguments are too large");
        free(s);
    } else {
        *s = (struct solve){.d = c->d, .call = c, .wait = wait, .result = PD_BUF_INIT(RESULT_MAX)};
        ev_timer_init(&s->tick, on_tick, PROGRESS_S, PROGRESS_S);
        s->tick.data = s;
        sub.request = q->app;
        sub.body = pd_buf_str(&text);
        sub.user = s;
        rc = queue_submit(c->d->queue, &sub, c->job, &e.err);
        if (rc < 0) {
            mcp_failed(c, e.err.text);
            free(s);
        } else if (wait) {
            ev_timer_start(c->d->loop, &s->tick);
        } else {
            c->job[0] = '\0'; /* it does not wait for it */
        }
    }
    request_free(q);
    pd_json_free(body);
    pd_buf_done(&text);
}

static void run_solve(struct mcp_call *c)
{
    static const char *const known[] = {"question", "model",  "strategy", "options",
                                        "scorer",   "budget", "seed",     NULL};

    if (check_args(c, known, 1))
        submit(c, true);
}

static void run_submit(struct mcp_call *c)
{
    static const char *const known[] = {"question", "model", "strategy",        "options", "scorer",
                                        "budget",   "seed",  "idempotency_key", NULL};

    if (check_args(c, known, 1))
        submit(c, false);
}

/* ---- reading ------------------------------------------------------------------------------- */

struct reading {
    struct result_question r;
    struct mcp_call *call; /* loop */
    size_t max_nodes;
    struct pd_buf text; /* to be shown in place of the JSON; empty: that */
};

static struct reading *reading_of(struct api_question *q)
{
    return pd_container_of(q, struct reading, r.q);
}

static void tell_read(struct api_question *q)
{
    struct reading *r = reading_of(q);

    if (q->busy)
        mcp_failed(r->call, "too many requests wait for the database: try again later");
    else if (q->rc < 0)
        mcp_failed(r->call, q->err.text);
    else
        mcp_done(r->call, &q->reply, r->text.len ? pd_buf_str(&r->text).ptr : NULL);
    pd_buf_done(&r->text);
}

/* NULL: the call has ended. */
static struct reading *new_reading(struct mcp_call *c,
                                   int (*read)(struct api_question *q, struct pd_jw *w,
                                               struct pd_err *err))
{
    struct reading *r = result_question_new(sizeof *r, c->d, NULL, read);

    if (!r) {
        mcp_failed(c, "out of memory");
        return NULL;
    }
    r->r.q.answer = tell_read;
    r->call = c;
    r->text = PD_BUF_INIT(RESULT_MAX);
    return r;
}

static void put_row(struct pd_jw *w, const struct store_job_row *row)
{
    pd_jw_put_text(w, "job", row->id);
    pd_jw_put_text(w, "status", row->status);
    pd_jw_put_text(w, "stopped_by", row->stopped_by);
    pd_jw_put_text(w, "answer", row->answer);
    pd_jw_put_text(w, "error", row->error);
    pd_jw_put_text(w, "strategy", row->strategy);
    pd_jw_put_text(w, "model", row->model);
    pd_jw_put_uint(w, "nodes", row->n_nodes);
    pd_jw_put_uint(w, "generated_tokens", row->generated);
}

static int read_status(struct api_question *q, struct pd_jw *w, struct pd_err *err)
{
    const char *id = reading_of(q)->r.id;
    struct store_job_row *rows = NULL;
    size_t n = 0;
    int rc = store_job_list(app_store(q->d->app), &(struct store_job_query){.id = id, .limit = 1},
                            &rows, &n, err);

    if (rc == 0 && n == 0)
        rc = pd_fail(err, PD_ENOENT, "there is no job '%s'", id);
    if (rc == 0) {
        pd_jw_object(w);
        put_row(w, &rows[0]);
        pd_jw_end_object(w);
    }
    store_job_list_free(rows, n);
    return rc;
}

static int read_result(struct api_question *q, struct pd_jw *w, struct pd_err *err)
{
    struct reading *r = reading_of(q);
    int rc;

    pd_jw_object(w);
    pd_jw_put_text(w, "job", r->r.id);
    rc = result_put(&r->r, w, err);
    pd_jw_end_object(w);
    return rc;
}

/* The first nodes of the tree in order of their making, each with its parent, and the same as
 * lines of text. */
static int read_tree(struct api_question *q, struct pd_jw *w, struct pd_err *err)
{
    struct reading *r = reading_of(q);
    struct pd_trace *t = NULL;
    int rc = store_trace_load(app_store(q->d->app), r->r.id, &t, err);

    if (rc < 0)
        return rc;
    pd_jw_object(w);
    pd_jw_put_text(w, "job", t->job.id);
    pd_jw_put_text(w, "strategy", t->job.strategy);
    pd_jw_put_text(w, "answer", t->job.answer);
    pd_jw_put_uint(w, "nodes_total", t->n_nodes);
    pd_jw_key(w, "nodes");
    pd_jw_array(w);
    pd_buf_printf(&r->text, "%s made %zu nodes, answer: %s\n", t->job.strategy, t->n_nodes,
                  t->job.answer ? t->job.answer : "none");
    for (size_t i = 0; i < t->n_nodes && i < r->max_nodes; i++) {
        const struct pd_node_rec *n = &t->nodes[i];
        struct pd_str shown = pd_str_sub(n->text, 0, NODE_TEXT_SHOWN);
        const struct pd_score_rec *score = pd_trace_score(t, n->id);

        shown.len = pd_utf8_complete(shown);
        pd_jw_object(w);
        pd_jw_put_uint(w, "node", n->id);
        pd_jw_put_uint(w, "parent", n->parent);
        pd_jw_put_text(w, "status", n->status);
        pd_jw_put_text(w, "why_pruned", n->prune_reason);
        pd_jw_key(w, "score");
        if (score)
            pd_jw_double(w, score->value);
        else
            pd_jw_null(w);
        pd_jw_put_str(w, "text", shown);
        pd_jw_end_object(w);
        pd_buf_printf(&r->text, "n%u <- n%u %s", n->id, n->parent, n->status);
        if (score)
            pd_buf_printf(&r->text, " score %.3f", score->value);
        pd_buf_printf(&r->text, ": %.*s\n", (int)shown.len, shown.ptr);
    }
    if (t->n_nodes > r->max_nodes)
        pd_buf_printf(&r->text, "(%zu more)\n", t->n_nodes - r->max_nodes);
    pd_jw_end_array(w);
    pd_jw_end_object(w);
    store_trace_free(t);
    return 0;
}

static int read_models(struct api_question *q, struct pd_jw *w, struct pd_err *err)
{
    struct app_model_file *files = NULL;
    size_t n = 0;
    int rc = app_list_models(&files, &n, err);

    (void)q;
    if (rc < 0)
        return rc;
    pd_jw_object(w);
    pd_jw_key(w, "models");
    pd_jw_array(w);
    for (size_t i = 0; i < n; i++) {
        pd_jw_object(w);
        pd_jw_put_text(w, "name", files[i].name);
        pd_jw_put_text(w, "alias_of", files[i].alias_of);
        pd_jw_end_object(w);
    }
    pd_jw_end_array(w);
    pd_jw_put_text(w, "default", app_default_model);
    pd_jw_end_object(w);
    app_list_models_free(files, n);
    return 0;
}

/* NULL: the call has ended. */
static struct reading *job_reading(struct mcp_call *c, const char *const *known,
                                   int (*read)(struct api_question *q, struct pd_jw *w,
                                               struct pd_err *err))
{
    struct reading *r;
    char id[PD_JOB_ID_MAX];

    if (!check_args(c, known, 1) || !job_arg(c, id) || !(r = new_reading(c, read)))
        return NULL;
    strcpy(r->r.id, id);
    return r;
}

static const char *const job_args[] = {"job", NULL};

static void run_status(struct mcp_call *c)
{
    struct reading *r = job_reading(c, job_args, read_status);

    if (r)
        api_ask(&r->r.q);
}

static void run_result(struct mcp_call *c)
{
    struct reading *r = job_reading(c, job_args, read_result);

    if (r)
        result_ask(&r->r);
}

static void run_explain(struct mcp_call *c)
{
    static const char *const known[] = {"job", "max_nodes", NULL};
    const struct pd_json *max = pd_json_get(c->args, "max_nodes");
    int64_t n = NODES_DEFAULT;
    struct reading *r;

    if (max && (!pd_json_int(max, &n) || n < 1 || n > NODES_MAX)) {
        mcp_bad_arguments(c, "max_nodes must be a whole number from 1 to 10000");
        return;
    }
    r = job_reading(c, known, read_tree);
    if (!r)
        return;
    r->max_nodes = (size_t)n;
    api_ask(&r->r.q);
}

static void run_models(struct mcp_call *c)
{
    static const char *const known[] = {NULL};
    struct reading *r;

    if (check_args(c, known, 0) && (r = new_reading(c, read_models)))
        api_ask(&r->r.q);
}

/* ---- score_steps --------------------------------------------------------------------------- */

static void run_score(struct mcp_call *c)
{
    static const char *const known[] = {"problem", "steps", "scorer", NULL};

    if (check_args(c, known, 2))
        mcp_score_steps(c);
}

/* ---- cancel_job ---------------------------------------------------------------------------- */

struct telling {
    struct daemon *d;
    struct mcp_call *call;
    char id[PD_JOB_ID_MAX], status[16];
    int rc;
    struct pd_err err;
};

static void on_told(struct daemon *d, void *arg)
{
    struct telling *t = arg;
    struct pd_buf b = PD_BUF_INIT(1024);
    struct pd_jw w;

    (void)d;
    pd_jw_init(&w, &b);
    pd_jw_object(&w);
    pd_jw_put_text(&w, "job", t->id);
    pd_jw_put_text(&w, "status", t->status);
    pd_jw_end_object(&w);
    if (t->rc < 0)
        mcp_failed(t->call, t->err.text);
    else
        mcp_done(t->call, &b, NULL);
    pd_buf_done(&b);
    free(t);
}

static void q_told(void *user, int rc, const char *status, const struct pd_err *err)
{
    struct telling *t = user;

    t->rc = rc;
    snprintf(t->status, sizeof t->status, "%s", status ? status : "");
    if (rc < 0 && err)
        t->err = *err;
    daemon_post(t->d, on_told, t);
}

static void run_cancel(struct mcp_call *c)
{
    char id[PD_JOB_ID_MAX];
    struct telling *t;
    struct pd_err err;

    if (!check_args(c, job_args, 1) || !job_arg(c, id))
        return;
    t = calloc(1, sizeof *t);
    if (!t) {
        mcp_failed(c, "out of memory");
        return;
    }
    t->d = c->d;
    t->call = c;
    strcpy(t->id, id);
    if (queue_tell(c->d->queue, QUEUE_CANCEL, id, q_told, t, &err) < 0) {
        mcp_failed(c, err.text);
        free(t);
    }
}

/* ---- the table: JSON is written as it is, see JSON() -------------------------------------- */

/* clang-format off */
#define JSON(...) #__VA_ARGS__
#define OBJECT(required, properties)                                                               \
    "{\"type\":\"object\",\"properties\":{" properties "},\"required\":[" required "],"            \
    "\"additionalProperties\":false}"

#define JOB JSON("job": {"type": "string", "description": "the id of a job"})
#define SCORER JSON("scorer": {"type": "string", "description": "the reward model that judges steps"})
#define SOLVE_ARGS                                                                                 \
    JSON("question": {"type": "string", "description": "what is to be answered"}) ","              \
    JSON("model": {"type": "string",                                                               \
                   "description": "a name that list_models has; without it the default"}) ","      \
    JSON("strategy": {"type": "string",                                                            \
                      "description": "how to search: best_of_n, beam, self_consistency, ..."}) "," \
    JSON("options": {"type": "object", "description": "of the strategy, such as samples"}) ","     \
    SCORER ","                                                                                     \
    JSON("budget": {"type": "object", "description": "the most it may cost",                       \
                    "properties": {"tokens": {"type": "integer", "minimum": 1},                    \
                                   "seconds": {"type": "number"},                                  \
                                   "samples": {"type": "integer", "minimum": 1}}}) ","             \
    JSON("seed": {"type": "integer", "minimum": 0})
#define STATUS JSON("status": {"type": "string",                                                   \
    "enum": ["queued", "running", "paused", "done", "failed", "cancelled"]})
#define MAYBE(name) "\"" name "\":" JSON({"type": ["string", "null"]})
#define COUNT(name) "\"" name "\":" JSON({"type": "integer", "minimum": 0})
/* The main ones of app_result_json. */
#define RESULT                                                                                     \
    "{\"type\":\"object\",\"properties\":{" JOB "," STATUS "," MAYBE("answer") ","                 \
    MAYBE("stopped_by") "," MAYBE("strategy") "," MAYBE("model") "," MAYBE("digest") ","           \
    JSON("support": {"type": "object",                                                             \
                     "properties": {"agree": {"type": "integer"}, "of": {"type": "integer"}}}) "," \
    JSON("steps": {"type": "array", "description": "the line of thought",                          \
                   "items": {"type": "object",                                                     \
                             "properties": {"text": {"type": "string"},                            \
                                            "score": {"type": ["number", "null"]},                 \
                                            "tokens": {"type": ["integer", "null"]}}}}) ","        \
    JSON("usage": {"type": "object", "additionalProperties": {"type": "integer"}})                 \
    "},\"required\":[\"job\",\"status\",\"answer\"]}"

#define READS JSON({"readOnlyHint": true, "openWorldHint": false})
#define WRITES JSON({"readOnlyHint": false, "destructiveHint": false, "openWorldHint": false})
#define CANCELS JSON({"readOnlyHint": false, "destructiveHint": false, "idempotentHint": true,     \
                      "openWorldHint": false})

const struct mcp_tool mcp_tools[] = {
    {"solve", "Think hard about a question",
     "Answers one question by search over many lines of thought of a local model, and waits for "
     "the answer.",
     OBJECT("\"question\"", SOLVE_ARGS), RESULT, WRITES, run_solve},
    {"submit_job", "Begin to think about a question",
     "As solve, but returns at once with the id of a durable job.",
     OBJECT("\"question\"",
            SOLVE_ARGS ","
            JSON("idempotency_key": {"type": "string",
                                     "description": "the same key and arguments: the same job"})),
     OBJECT("\"job\",\"status\"", JOB "," STATUS), WRITES, run_submit},
    {"job_status", "State of a job", "What a job is doing, and how much it did.",
     OBJECT("\"job\"", JOB),
     OBJECT("\"job\",\"status\"",
            JOB "," STATUS "," MAYBE("stopped_by") "," MAYBE("answer") "," MAYBE("error") ","
            MAYBE("strategy") "," MAYBE("model") "," COUNT("nodes") "," COUNT("generated_tokens")),
     READS, run_status},
    {"job_result", "Result of a job", "The answer of a job that is done, with its line of thought.",
     OBJECT("\"job\"", JOB), RESULT, READS, run_result},
    {"cancel_job", "Cancel a job", "Ends a job; what it did so far stays.", OBJECT("\"job\"", JOB),
     OBJECT("\"job\",\"status\"", JOB "," STATUS), CANCELS, run_cancel},
    {"score_steps", "Judge steps", "How right each step of a solution looks to a reward model, 0 to 1.",
     OBJECT("\"problem\",\"steps\"",
            JSON("problem": {"type": "string", "description": "the question"}) ","
            JSON("steps": {"type": "array", "minItems": 1, "description": "of one solution, in order",
                           "items": {"type": "string", "minLength": 1}}) "," SCORER),
     OBJECT("\"scorer\",\"steps\"",
            JSON("scorer": {"type": "string"}) ","
            JSON("steps": {"type": "array", "items": {"type": "number"}}) ","
            JSON("aggregate": {"type": "object", "additionalProperties": {"type": "number"}}) ","
            COUNT("scored_tokens")),
     READS, run_score},
    {"list_models", "Models", "The models that can be named.", OBJECT("", ""),
     OBJECT("\"models\",\"default\"",
            JSON("default": {"type": "string", "description": "the model when none is named"}) ","
            "\"models\":{\"type\":\"array\",\"items\":"
            OBJECT("\"name\"", JSON("name": {"type": "string"}) "," MAYBE("alias_of")) "}"),
     READS, run_models},
    {"explain_trace", "Search tree of a job",
     "The search tree of a job: every step with its score, and why it was given up.",
     OBJECT("\"job\"", JOB ","
            JSON("max_nodes": {"type": "integer", "minimum": 1, "maximum": 10000})),
     OBJECT("\"job\",\"nodes\"",
            JOB "," MAYBE("strategy") "," MAYBE("answer") "," COUNT("nodes_total") ","
            JSON("nodes": {"type": "array", "items": {"type": "object"}})),
     READS, run_explain},
    {NULL, NULL, NULL, NULL, NULL, NULL, NULL},
};
/* clang-format on */
