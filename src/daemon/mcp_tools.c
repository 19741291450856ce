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
        api_put_text(&w, "job", s->id);
        api_put_text(&w, "status", "queued");
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
    api_put_text(&w, "job", end->id);
    api_put_text(&w, "status", end->status);
    api_put_text(&w, "stopped_by", r ? r->stopped_by : NULL);
    api_put_text(&w, "answer", r ? r->answer : NULL);
    pd_jw_key(&w, "reasoning");
    if (r)
        pd_jw_str(&w, r->text);
    else
        pd_jw_null(&w);
    api_put_count(&w, "agree", r ? r->agree : 0);
    api_put_count(&w, "of", r ? r->of : 0);
    api_put_count(&w, "generated_tokens", r ? r->usage.generated : 0);
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
    api_put_text(&w, "role", "user");
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
    struct mcp_call *call; /* loop */
    char id[PD_JOB_ID_MAX];
    size_t max_nodes;
    struct pd_buf structured, text;
    int rc;
    struct pd_err err;
};

static void read_done(struct daemon *d, void *arg)
{
    struct reading *r = arg;

    (void)d;
    if (r->rc < 0)
        mcp_failed(r->call, r->err.text);
    else
        mcp_done(r->call, &r->structured, r->text.len ? pd_buf_str(&r->text).ptr : NULL);
    pd_buf_done(&r->structured);
    pd_buf_done(&r->text);
    free(r);
}

static struct reading *new_reading(struct mcp_call *c)
{
    struct reading *r = calloc(1, sizeof *r);

    if (!r) {
        mcp_failed(c, "out of memory");
        return NULL;
    }
    r->call = c;
    r->structured = PD_BUF_INIT(RESULT_MAX);
    r->text = PD_BUF_INIT(RESULT_MAX);
    return r;
}

static void read_later(struct reading *r, void (*run)(struct daemon *d, void *arg))
{
    struct mcp_call *c = r->call;

    if (!daemon_work(c->d, run, read_done, r)) {
        mcp_failed(c, "too many requests wait for the database: try again later");
        free(r);
    }
}

static void put_row(struct pd_jw *w, const struct store_job_row *row)
{
    api_put_text(w, "job", row->id);
    api_put_text(w, "status", row->status);
    api_put_text(w, "stopped_by", row->stopped_by);
    api_put_text(w, "answer", row->answer);
    api_put_text(w, "error", row->error);
    api_put_text(w, "strategy", row->strategy);
    api_put_text(w, "model", row->model);
    api_put_count(w, "nodes", row->n_nodes);
    api_put_count(w, "generated_tokens", row->generated);
}

static void read_status(struct daemon *d, void *arg)
{
    struct reading *r = arg;
    struct store_job_row *rows = NULL;
    size_t n = 0;
    struct pd_jw w;

    r->rc = store_job_list(app_store(d->app), &(struct store_job_query){.id = r->id, .limit = 1},
                           &rows, &n, &r->err);
    if (r->rc == 0 && n == 0)
        r->rc = pd_fail(&r->err, PD_ENOENT, "there is no job '%s'", r->id);
    if (r->rc == 0) {
        pd_jw_init(&w, &r->structured);
        pd_jw_object(&w);
        put_row(&w, &rows[0]);
        pd_jw_end_object(&w);
    }
    store_job_list_free(rows, n);
}

static bool ended(const char *status)
{
    return strcmp(status, "done") == 0 || strcmp(status, "failed") == 0 ||
           strcmp(status, "cancelled") == 0;
}

static void read_result(struct daemon *d, void *arg)
{
    struct reading *r = arg;
    struct pd_trace *t = NULL;
    struct pd_jw w;

    r->rc = store_trace_load(app_store(d->app), r->id, &t, &r->err);
    if (r->rc == 0 && !ended(t->job.status))
        r->rc = pd_fail(&r->err, PD_EBUSY, "the job is %s: ask again when job_status says done",
                        t->job.status);
    if (r->rc == 0) {
        char *line =
            t->job.answer_node >= 0 ? app_trace_line(t, (uint32_t)t->job.answer_node) : NULL;

        pd_jw_init(&w, &r->structured);
        pd_jw_object(&w);
        api_put_text(&w, "job", t->job.id);
        api_put_text(&w, "status", t->job.status);
        api_put_text(&w, "stopped_by", t->job.stopped_by);
        api_put_text(&w, "answer", t->job.answer);
        api_put_text(&w, "reasoning", line);
        api_put_text(&w, "error", t->job.error);
        pd_jw_end_object(&w);
        free(line);
    }
    store_trace_free(t);
}

static double value_of(const struct pd_trace *t, uint32_t node)
{
    for (size_t i = 0; i < t->n_scores; i++)
        if (t->scores[i].node_id == node)
            return t->scores[i].value;
    return -1;
}

/* The first nodes of the tree in order of their making, each with its parent, and the same as
 * lines of text. */
static void read_tree(struct daemon *d, void *arg)
{
    struct reading *r = arg;
    struct pd_trace *t = NULL;
    struct pd_jw w;

    r->rc = store_trace_load(app_store(d->app), r->id, &t, &r->err);
    if (r->rc < 0)
        return;
    pd_jw_init(&w, &r->structured);
    pd_jw_object(&w);
    api_put_text(&w, "job", t->job.id);
    api_put_text(&w, "strategy", t->job.strategy);
    api_put_text(&w, "answer", t->job.answer);
    api_put_count(&w, "nodes_total", t->n_nodes);
    pd_jw_key(&w, "nodes");
    pd_jw_array(&w);
    pd_buf_printf(&r->text, "%s made %zu nodes, answer: %s\n", t->job.strategy, t->n_nodes,
                  t->job.answer ? t->job.answer : "none");
    for (size_t i = 0; i < t->n_nodes && i < r->max_nodes; i++) {
        const struct pd_node_rec *n = &t->nodes[i];
        struct pd_str shown = pd_str_sub(n->text, 0, NODE_TEXT_SHOWN);
        double value = value_of(t, n->id);

        shown.len = pd_utf8_complete(shown);
        pd_jw_object(&w);
        api_put_count(&w, "node", n->id);
        api_put_count(&w, "parent", n->parent);
        api_put_text(&w, "status", n->status);
        api_put_text(&w, "why_pruned", n->prune_reason);
        pd_jw_key(&w, "score");
        if (value >= 0)
            pd_jw_double(&w, value);
        else
            pd_jw_null(&w);
        pd_jw_key(&w, "text");
        pd_jw_str(&w, shown);
        pd_jw_end_object(&w);
        pd_buf_printf(&r->text, "n%u <- n%u %s", n->id, n->parent, n->status);
        if (value >= 0)
            pd_buf_printf(&r->text, " score %.3f", value);
        pd_buf_printf(&r->text, ": %.*s\n", (int)shown.len, shown.ptr);
    }
    if (t->n_nodes > r->max_nodes)
        pd_buf_printf(&r->text, "(%zu more)\n", t->n_nodes - r->max_nodes);
    pd_jw_end_array(&w);
    pd_jw_end_object(&w);
    store_trace_free(t);
}

static void read_models(struct daemon *d, void *arg)
{
    struct reading *r = arg;
    struct app_model_file *files = NULL;
    struct pd_jw w;
    size_t n = 0;

    (void)d;
    r->rc = app_list_models(&files, &n, &r->err);
    if (r->rc < 0)
        return;
    pd_jw_init(&w, &r->structured);
    pd_jw_object(&w);
    pd_jw_key(&w, "models");
    pd_jw_array(&w);
    for (size_t i = 0; i < n; i++) {
        pd_jw_object(&w);
        api_put_text(&w, "name", files[i].name);
        api_put_text(&w, "alias_of", files[i].alias_of);
        pd_jw_end_object(&w);
    }
    pd_jw_end_array(&w);
    api_put_text(&w, "default", app_default_model);
    pd_jw_end_object(&w);
    app_list_models_free(files, n);
}

static void read_job(struct mcp_call *c, void (*run)(struct daemon *d, void *arg))
{
    static const char *const known[] = {"job", NULL};
    struct reading *r;
    char id[PD_JOB_ID_MAX];

    if (!check_args(c, known, 1) || !job_arg(c, id) || !(r = new_reading(c)))
        return;
    strcpy(r->id, id);
    read_later(r, run);
}

static void run_status(struct mcp_call *c)
{
    read_job(c, read_status);
}

static void run_result(struct mcp_call *c)
{
    read_job(c, read_result);
}

static void run_explain(struct mcp_call *c)
{
    static const char *const known[] = {"job", "max_nodes", NULL};
    const struct pd_json *max = pd_json_get(c->args, "max_nodes");
    int64_t n = NODES_DEFAULT;
    struct reading *r;
    char id[PD_JOB_ID_MAX];

    if (!check_args(c, known, 1) || !job_arg(c, id))
        return;
    if (max && (!pd_json_int(max, &n) || n < 1 || n > NODES_MAX)) {
        mcp_bad_arguments(c, "max_nodes must be a whole number from 1 to 10000");
        return;
    }
    r = new_reading(c);
    if (!r)
        return;
    strcpy(r->id, id);
    r->max_nodes = (size_t)n;
    read_later(r, read_tree);
}

static void run_models(struct mcp_call *c)
{
    static const char *const known[] = {NULL};
    struct reading *r;

    if (check_args(c, known, 0) && (r = new_reading(c)))
        read_later(r, read_models);
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
    api_put_text(&w, "job", t->id);
    api_put_text(&w, "status", t->status);
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
    static const char *const known[] = {"job", NULL};
    char id[PD_JOB_ID_MAX];
    struct telling *t;
    struct pd_err err;

    if (!check_args(c, known, 1) || !job_arg(c, id))
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

/* ---- the table ----------------------------------------------------------------------------- */

#define OBJECT(required, properties)                                                               \
    "{\"type\":\"object\",\"properties\":{" properties "},\"required\":[" required "],"            \
    "\"additionalProperties\":false}"
#define TEXT(name, about) "\"" name "\":{\"type\":\"string\",\"description\":\"" about "\"}"
#define MAYBE(name)       "\"" name "\":{\"type\":[\"string\",\"null\"]}"
#define COUNT(name)       "\"" name "\":{\"type\":\"integer\",\"minimum\":0}"
#define JOB_ARG           OBJECT("\"job\"", TEXT("job", "the id of a job"))
#define SOLVE_ARGS                                                                                 \
    TEXT("question", "what is to be answered")                                                     \
    "," TEXT("model", "a name that list_models has; without it the default") "," TEXT(             \
        "strategy",                                                                                \
        "how to search, such as best_of_n, beam or self_consistency") ","                          \
                                                                      "\"options\":{\"type\":"     \
                                                                      "\"object\","                \
                                                                      "\"description\":\"of the "  \
                                                                      "strategy, such as "         \
                                                                      "samples\"}," TEXT(          \
                                                                          "scorer",                \
                                                                          "the reward model that " \
                                                                          "judges steps") ","      \
                                                                                          "\"budg" \
                                                                                          "et\":{" \
                                                                                          "\"type" \
                                                                                          "\":"    \
                                                                                          "\"obje" \
                                                                                          "ct\","  \
                                                                                          "\"prop" \
                                                                                          "erties" \
                                                                                          "\":{"   \
                                                                                          "\"toke" \
                                                                                          "ns\":{" \
                                                                                          "\"type" \
                                                                                          "\":"    \
                                                                                          "\"inte" \
                                                                                          "ger\"," \
                                                                                          "\"mini" \
                                                                                          "mum\":" \
                                                                                          "1},"    \
                                                                                          "\"seco" \
                                                                                          "nds\":" \
                                                                                          "{\"typ" \
                                                                                          "e\":"   \
                                                                                          "\"numb" \
                                                                                          "er\"}," \
                                                                                          "\"samp" \
                                                                                          "les\":" \
                                                                                          "{\"typ" \
                                                                                          "e\":"   \
                                                                                          "\"inte" \
                                                                                          "ger\"," \
                                                                                          "\"mini" \
                                                                                          "mum\":" \
                                                                                          "1}},"   \
                                                                                          "\"desc" \
                                                                                          "riptio" \
                                                                                          "n\":"   \
                                                                                          "\"the " \
                                                                                          "most "  \
                                                                                          "it "    \
                                                                                          "may "   \
                                                                                          "cost\"" \
                                                                                          "},"     \
                                                                                          "\"seed" \
                                                                                          "\":{"   \
                                                                                          "\"type" \
                                                                                          "\":"    \
                                                                                          "\"inte" \
                                                                                          "ger\"," \
                                                                                          "\"mini" \
                                                                                          "mum\":" \
                                                                                          "0}"
#define RESULT_OF(more)                                                                            \
    OBJECT("\"job\",\"status\",\"answer\"",                                                        \
           TEXT("job", "its id") "," TEXT("status", "done, failed or cancelled") "," MAYBE(        \
               "stopped_by") "," MAYBE("answer") "," MAYBE("reasoning") more)
#define READS  "{\"readOnlyHint\":true,\"openWorldHint\":false}"
#define WRITES "{\"readOnlyHint\":false,\"destructiveHint\":false,\"openWorldHint\":false}"
#define CANCELS                                                                                    \
    "{\"readOnlyHint\":false,\"destructiveHint\":false,\"idempotentHint\":true,"                   \
    "\"openWorldHint\":false}"

const struct mcp_tool mcp_tools[] = {
    {"solve", "Think hard about a question",
     "Answers one question by search over many lines of thought of a local model, and waits "
     "for the "
     "answer.",
     OBJECT("\"question\"", SOLVE_ARGS),
     RESULT_OF("," COUNT("agree") "," COUNT("of") "," COUNT("generated_tokens")), WRITES,
     run_solve},
    {"submit_job", "Begin to think about a question",
     "As solve, but returns at once with the id of a durable job.",
     OBJECT("\"question\"",
            SOLVE_ARGS "," TEXT("idempotency_key", "the same key and arguments: the same job")),
     OBJECT("\"job\",\"status\"", TEXT("job", "its id") "," TEXT("status", "queued")), WRITES,
     run_submit},
    {"job_status", "State of a job", "What a job is doing, and how much it did.", JOB_ARG,
     OBJECT(
         "\"job\",\"status\"",
         TEXT("job", "its id") "," TEXT(
             "status",
             "queued running paused done failed "
             "cancelled") "," MAYBE("stopped_by") "," MAYBE("answer") "," MAYBE("error") "," MAYBE("strategy") "," MAYBE("model") "," COUNT("nodes") "," COUNT("generated_tokens")),
     READS, run_status},
    {"job_result", "Answer of a job", "The answer of a job that has ended, with its reasoning.",
     JOB_ARG, RESULT_OF("," MAYBE("error")), READS, run_result},
    {"cancel_job", "Cancel a job", "Ends a job; what it did so far stays.", JOB_ARG,
     OBJECT("\"job\",\"status\"", TEXT("job", "its id") "," TEXT("status", "what it is now")),
     CANCELS, run_cancel},
    {"list_models", "Models", "The models that can be named.", OBJECT("", ""),
     OBJECT("\"models\",\"default\"",
            "\"models\":{\"type\":\"array\",\"items\":" OBJECT(
                "\"name\"", TEXT("name", "of the model") "," MAYBE(
                                "alias_of")) "}," TEXT("default", "the model when none is named")),
     READS, run_models},
    {"explain_trace", "Search tree of a job",
     "The search tree of a job: every step with its score, and why it was given up.",
     OBJECT("\"job\"", TEXT("job", "the id of a job") ","
                                                      "\"max_nodes\":{\"type\":\"integer\","
                                                      "\"minimum\":1,\"maximum\":10000}"),
     OBJECT("\"job\",\"nodes\"",
            TEXT("job", "its id") "," MAYBE("strategy") "," MAYBE("answer") "," COUNT(
                "nodes_total") ",\"nodes\":{\"type\":\"array\",\"items\":{\"type\":\"object\"}}"),
     READS, run_explain},
    {NULL, NULL, NULL, NULL, NULL, NULL, NULL},
};
