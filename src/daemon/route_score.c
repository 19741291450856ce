/* POST /v1/score, /v1/rerank and MCP's score_steps: texts judged by a reward model, by a job that
 * draws nothing and is not stored. The dispatcher makes and starts it, its own thread says that it
 * is over, the loop answers. When the client leaves (MCP: cancels), it is cancelled. */
#include "daemon/mcp_int.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "daemon/request.h"

#define REPLY_MAX ((size_t)32 << 20)
#define ARENA_MAX ((size_t)64 << 20)

struct scoring {
    struct daemon *d;
    struct http_request *r; /* NULL: the client has left, or it is a tool's */
    struct mcp_call *call;  /* of MCP */
    struct app_job *job;    /* the dispatcher's until `started` */
    bool started, over;     /* loop: both have been heard, in whatever order, and it is done */
    struct pd_arena arena;
    bool rerank;
    const char *model, *problem;
    const char **texts; /* [n], steps with blank lines between */
    size_t *n_steps;    /* [n], of score */
    size_t n;
    bool wants[4];
    int64_t top_n;
    struct pd_err err; /* code PD_OK: none */
};

static const char *const aggregates[] = {"min", "prod", "last", "mean"};

static void scoring_free(struct scoring *s)
{
    app_job_free(s->job);
    pd_arena_done(&s->arena);
    free(s);
}

static void client_left(void *user)
{
    struct scoring *s = user;

    s->r = NULL;
    if (s->started)
        app_job_cancel(s->job);
}

static void call_cancelled(struct mcp_call *call)
{
    struct scoring *s = call->state;

    if (s->started)
        app_job_cancel(s->job);
}

static bool is_wanted(const struct scoring *s)
{
    return s->call ? !s->call->cancelled : s->r != NULL;
}

/* ---- answers -------------------------------------------------------------------------------- */

static double aggregate(const struct pd_score_rec *s, size_t how)
{
    double v = s->steps[0];

    if (how == 2)
        return s->steps[s->n_steps - 1];
    for (uint32_t i = 1; i < s->n_steps; i++) {
        double x = s->steps[i];

        v = how == 0 ? (x < v ? x : v) : how == 1 ? v * x : v + x;
    }
    return how == 3 ? v / s->n_steps : v;
}

static void put_usage(struct pd_jw *w, const struct pd_result *r)
{
    pd_jw_key(w, "usage");
    pd_jw_object(w);
    pd_jw_put_uint(w, "prompt_tokens", r->usage.scored);
    pd_jw_put_uint(w, "total_tokens", r->usage.scored);
    pd_jw_end_object(w);
}

/* Every text has a score of as many steps as it was given. */
static int check_scores(const struct scoring *s, const struct pd_result *r, struct request_error *e)
{
    for (size_t i = 0; i < s->n; i++) {
        uint32_t got = i < r->trace.n_scores ? r->trace.scores[i].n_steps : 0;

        if (got == 0)
            return request_bad(e, "context_length_exceeded", "",
                               s->rerank ? "documents" : "solutions",
                               "text %zu is empty or does not fit into the model's context", i);
        if (!s->rerank && got != s->n_steps[i])
            return request_bad(e, "unsupported_value", "", "solutions",
                               "solution %zu has %zu steps but reads as %u: a step is not empty "
                               "and has no blank line",
                               i, s->n_steps[i], got);
    }
    return 0;
}

/* Members of an open object. */
static void put_score(const struct scoring *s, struct pd_jw *w, const struct pd_score_rec *score)
{
    pd_jw_key(w, "steps");
    pd_jw_array(w);
    for (uint32_t k = 0; k < score->n_steps; k++)
        pd_jw_double(w, score->steps[k]);
    pd_jw_end_array(w);
    pd_jw_key(w, "aggregate");
    pd_jw_object(w);
    for (size_t k = 0; k < 4; k++)
        if (s->wants[k]) {
            pd_jw_put_double(w, aggregates[k], aggregate(score, k));
        }
    pd_jw_end_object(w);
}

static void put_scores(const struct scoring *s, struct pd_jw *w, const struct pd_result *r)
{
    pd_jw_key(w, "data");
    pd_jw_array(w);
    for (size_t i = 0; i < s->n; i++) {
        pd_jw_object(w);
        pd_jw_put_uint(w, "index", i);
        put_score(s, w, &r->trace.scores[i]);
        pd_jw_end_object(w);
    }
    pd_jw_end_array(w);
}

static int by_score(const void *a, const void *b)
{
    const struct pd_score_rec *x = *(const struct pd_score_rec *const *)a,
                              *y = *(const struct pd_score_rec *const *)b;

    if (x->value < y->value || x->value > y->value)
        return x->value > y->value ? -1 : 1;
    return x->node_id < y->node_id ? -1 : 1;
}

static void put_ranks(struct scoring *s, struct pd_jw *w, const struct pd_result *r)
{
    const struct pd_score_rec **order = pd_arena_array(&s->arena, s->n, sizeof *order);

    for (size_t i = 0; i < s->n && order; i++)
        order[i] = &r->trace.scores[i];
    if (order)
        qsort(order, s->n, sizeof *order, by_score);
    pd_jw_key(w, "results");
    pd_jw_array(w);
    for (size_t i = 0; order && i < s->n && (int64_t)i < s->top_n; i++) {
        size_t index = order[i]->node_id - 1;

        pd_jw_object(w);
        pd_jw_put_uint(w, "index", index);
        pd_jw_put_double(w, "relevance_score", order[i]->value);
        pd_jw_key(w, "document");
        pd_jw_object(w);
        pd_jw_put_text(w, "text", s->texts[index]);
        pd_jw_end_object(w);
        pd_jw_end_object(w);
    }
    pd_jw_end_array(w);
}

static void reply(struct scoring *s, const struct pd_result *r)
{
    struct pd_buf b = PD_BUF_INIT(REPLY_MAX);
    struct request_error e = {0};
    struct pd_jw w;

    if (check_scores(s, r, &e) < 0) {
        api_parse_error(s->r, &e);
        return;
    }
    pd_jw_init(&w, &b);
    pd_jw_object(&w);
    pd_jw_put_text(&w, "object", "list");
    pd_jw_put_text(&w, "model", s->model);
    if (s->rerank)
        put_ranks(s, &w, r);
    else
        put_scores(s, &w, r);
    put_usage(&w, r);
    pd_jw_end_object(&w);
    api_json(s->r, 200, &b);
}

static void answer_call(struct scoring *s, const struct pd_result *r)
{
    struct pd_buf b = PD_BUF_INIT(REPLY_MAX);
    struct request_error e = {0};
    struct pd_jw w;

    if (check_scores(s, r, &e) < 0) {
        mcp_failed(s->call, e.err.text);
        return;
    }
    pd_jw_init(&w, &b);
    pd_jw_object(&w);
    pd_jw_put_text(&w, "scorer", s->model);
    put_score(s, &w, &r->trace.scores[0]);
    pd_jw_put_uint(&w, "scored_tokens", r->usage.scored);
    pd_jw_end_object(&w);
    mcp_done(s->call, &b, NULL);
}

/* ---- the way of a request ------------------------------------------------------------------- */

static void finish(struct scoring *s)
{
    const struct pd_result *r = NULL;
    int rc = s->err.code;

    s->d->n_scoring--;
    if (rc == PD_OK)
        rc = app_job_wait(s->job, PD_NEVER_NS, &r, &s->err);
    if (s->call && rc < 0)
        mcp_failed(s->call, s->err.text);
    else if (s->call)
        answer_call(s, r);
    else if (s->r && rc < 0)
        api_fail(s->r, &s->err);
    else if (s->r)
        reply(s, r);
    scoring_free(s);
}

static void on_over(struct daemon *d, void *arg)
{
    struct scoring *s = arg;

    (void)d;
    s->over = true;
    if (s->started)
        finish(s);
}

static void on_started(struct daemon *d, void *arg)
{
    struct scoring *s = arg;

    (void)d;
    s->started = true;
    if (s->over || s->err.code != PD_OK) /* it has ended, or never ran */
        finish(s);
    else if (!is_wanted(s))
        app_job_cancel(s->job);
}

/* On the job's thread. */
static void is_over(void *user)
{
    struct scoring *s = user;

    (void)daemon_post(s->d, on_over, s); /* the daemon does not end before */
}

/* On the dispatcher's. */
static void start(struct app *a, void *user)
{
    struct scoring *s = user;
    int rc = app_job_score(a, s->model, s->problem, s->texts, s->n, &s->job, &s->err);

    if (rc == 0) {
        app_job_on_end(s->job, is_over, s);
        (void)app_job_start(s->job, &s->err);
    }
    (void)daemon_post(s->d, on_started, s);
}

/* On the dispatcher's: the model is there, and only this request has waited for it. One that is not
 * found may be no model's name at all: the job says what is wrong. */
static void is_loaded(void *user, int rc, const char *status, const struct pd_err *err)
{
    struct scoring *s = user;

    (void)status;
    if (rc == 0 || rc == PD_ENOENT)
        rc = queue_call(s->d->queue, start, s, &s->err);
    else
        s->err = *err;
    if (rc < 0)
        (void)daemon_post(s->d, on_started, s);
}

/* ---- requests ------------------------------------------------------------------------------- */

static int take_text(struct scoring *s, const char *text, struct request_error *e)
{
    s->texts[s->n] = pd_arena_dup(&s->arena, pd_str_of(text));
    return s->texts[s->n++] ? 0 : request_no_memory(e);
}

static int take_steps(struct scoring *s, const struct pd_json *steps, struct request_error *e)
{
    struct pd_buf b = PD_BUF_INIT(REPLY_MAX);
    int rc = 0;

    if (!pd_json_is_array(steps) || pd_json_size(steps) == 0)
        return request_bad(e, "unsupported_value", "", "solutions",
                           "solutions must be arrays of steps");
    for (const struct pd_json *v = pd_json_first(steps); v && rc == 0; v = pd_json_next(v)) {
        if (!pd_json_string(v))
            rc = request_bad(e, "unsupported_value", "", "solutions", "a step must be a string");
        else
            pd_buf_printf(&b, "%s%s", b.len ? "\n\n" : "", pd_json_string(v));
    }
    if (rc == 0 && pd_buf_rc(&b) < 0)
        rc = request_no_memory(e);
    s->n_steps[s->n] = pd_json_size(steps);
    if (rc == 0)
        rc = take_text(s, pd_buf_str(&b).ptr, e);
    pd_buf_done(&b);
    return rc;
}

static int take_document(struct scoring *s, const struct pd_json *v, struct request_error *e)
{
    const char *text =
        pd_json_string(v) ? pd_json_string(v) : pd_json_string(pd_json_get(v, "text"));

    return text ? take_text(s, text, e)
                : request_bad(e, "unsupported_value", "", "documents",
                              "documents must be strings or objects with a text");
}

static int parse_aggregates(struct scoring *s, const struct pd_json *body, struct request_error *e)
{
    const struct pd_json *list = pd_json_get(body, "aggregate");

    for (size_t k = 0; k < 4; k++)
        s->wants[k] = !list;
    for (const struct pd_json *v = pd_json_first(list); v; v = pd_json_next(v)) {
        const char *name = pd_json_string(v);
        size_t k = 0;

        while (k < 4 && !(name && strcmp(name, aggregates[k]) == 0))
            k++;
        if (k == 4)
            return request_bad(e, "unsupported_value", "", "aggregate",
                               "aggregate must be an array of min, prod, last, mean");
        s->wants[k] = true;
    }
    return 0;
}

static int parse(struct scoring *s, const struct pd_json *body, struct request_error *e)
{
    const char *what = s->rerank ? "documents" : "solutions", *problem = NULL, *model = NULL;
    const struct pd_json *list = pd_json_get(body, what);
    struct request_object o = {body, ""};
    int rc = request_model(body, &model, e);

    if (rc == 0)
        rc = request_text(o, s->rerank ? "query" : "problem", &problem, e);
    if (rc == 0 && !problem)
        rc = request_bad(e, "missing_field", "", s->rerank ? "query" : "problem", "%s is missing",
                         s->rerank ? "query" : "problem");
    if (rc == 0 &&
        (!pd_json_is_array(list) || pd_json_size(list) == 0 || pd_json_size(list) > APP_SCORE_MAX))
        rc = request_bad(e, list ? "out_of_range" : "missing_field", "", what,
                         "%s must be an array of 1 to %d", what, APP_SCORE_MAX);
    if (rc == 0)
        rc = request_int(o, "top_n", 1, APP_SCORE_MAX, &s->top_n, e);
    if (rc == 0)
        rc = parse_aggregates(s, body, e);
    if (rc < 0)
        return rc;
    s->model = pd_arena_dup(&s->arena, pd_str_of(model ? model : app_default_scorer));
    s->problem = pd_arena_dup(&s->arena, pd_str_of(problem));
    s->texts = pd_arena_array(&s->arena, pd_json_size(list), sizeof *s->texts);
    s->n_steps = pd_arena_array(&s->arena, pd_json_size(list), sizeof *s->n_steps);
    if (!s->model || !s->problem || !s->texts || !s->n_steps)
        return request_no_memory(e);
    for (const struct pd_json *v = pd_json_first(list); v && rc == 0; v = pd_json_next(v))
        rc = s->rerank ? take_document(s, v, e) : take_steps(s, v, e);
    return rc;
}

static struct scoring *scoring_new(struct daemon *d)
{
    struct scoring *s = calloc(1, sizeof *s);

    if (!s)
        return NULL;
    pd_arena_init(&s->arena, ARENA_MAX);
    s->d = d;
    s->top_n = APP_SCORE_MAX;
    return s;
}

/* PD_EBUSY: not now. */
static int begin(struct scoring *s, struct pd_err *err)
{
    struct daemon *d = s->d;
    char *model;
    int rc;

    if (d->n_scoring >= (unsigned)d->settings->max_jobs)
        return pd_fail(err, PD_EBUSY, "as many requests are scored already as jobs may run");
    model = app_scorer_model(s->model);
    rc = model ? queue_load(d->queue, model, is_loaded, s, err)
               : pd_fail(err, PD_ENOMEM, "out of memory");
    free(model);
    if (rc < 0)
        return err->code = PD_EBUSY;
    d->n_scoring++;
    return 0;
}

static void judge(struct daemon *d, struct http_request *r, struct pd_json *body, bool rerank)
{
    struct scoring *s = scoring_new(d);
    struct request_error e = {0};

    if (!s) {
        pd_json_free(body);
        api_no_memory(r);
        return;
    }
    s->r = r;
    s->rerank = rerank;
    if (parse(s, body, &e) < 0) {
        api_parse_error(r, &e);
        scoring_free(s);
    } else if (begin(s, &e.err) < 0) {
        api_queue_full(r, 1, e.err.text);
        scoring_free(s);
    } else {
        http_on_close(r, client_left, s);
    }
    pd_json_free(body);
}

/* The arguments as a body of /v1/score. */
static int score_body(const struct pd_json *args, struct pd_json **out, struct pd_err *err)
{
    static const char *const keys[][2] = {{"scorer", "model"}, {"problem", "problem"}};
    struct pd_buf b = PD_BUF_INIT(ARENA_MAX);
    struct pd_jw w;
    int rc;

    pd_jw_init(&w, &b);
    pd_jw_object(&w);
    for (size_t i = 0; i < 2; i++)
        if (pd_json_get(args, keys[i][0])) {
            pd_jw_key(&w, keys[i][1]);
            pd_jw_value(&w, pd_json_get(args, keys[i][0]));
        }
    pd_jw_key(&w, "solutions");
    pd_jw_array(&w);
    pd_jw_value(&w, pd_json_get(args, "steps"));
    pd_jw_end_array(&w);
    pd_jw_end_object(&w);
    rc = pd_buf_rc(&b) < 0 ? pd_fail(err, PD_ENOMEM, "out of memory")
                           : pd_json_parse(pd_buf_str(&b), out, err);
    pd_buf_done(&b);
    return rc;
}

void mcp_score_steps(struct mcp_call *call)
{
    struct scoring *s = scoring_new(call->d);
    struct pd_json *body = NULL;
    struct request_error e = {0};
    int rc;

    if (!s) {
        mcp_failed(call, "out of memory");
        return;
    }
    rc = score_body(call->args, &body, &e.err);
    if (rc == 0)
        rc = parse(s, body, &e);
    pd_json_free(body);
    s->call = call;
    call->state = s;
    call->cancel = call_cancelled;
    if (rc == 0)
        rc = begin(s, &e.err);
    if (rc == 0)
        return;
    scoring_free(s);
    if (rc == PD_EINVAL)
        mcp_bad_arguments(call, e.err.text);
    else
        mcp_failed(call, e.err.text);
}

static void score(struct daemon *d, struct http_request *r, const struct route_args *args)
{
    judge(d, r, args->body, false);
}

static void rerank(struct daemon *d, struct http_request *r, const struct route_args *args)
{
    judge(d, r, args->body, true);
}

const struct route routes_score[] = {
    {HTTP_POST, "/v1/score", score, ROUTE_JSON},
    {HTTP_POST, "/v1/rerank", rerank, ROUTE_JSON},
    {HTTP_GET, NULL, NULL, 0},
};
