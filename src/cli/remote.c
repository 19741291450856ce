/* Questions to a daemon: `solve --host`, and what it shares with `job`. */
#include "cli/cli.h"

#include <inttypes.h>
#include <stdlib.h>

#include "cli/client.h"

#define BODY_MAX  ((size_t)16 << 20)
#define REPLY_MAX ((size_t)256 << 20)

char *cli_path(const char *kind, const char *id, const char *more)
{
    struct pd_buf b = PD_BUF_INIT(1u << 16);

    pd_buf_addz(&b, kind);
    if (id)
        pd_buf_addc(&b, '/');
    for (; id && *id; id++)
        if ((*id >= '0' && *id <= '9') || (*id >= 'A' && *id <= 'Z') ||
            (*id >= 'a' && *id <= 'z') || *id == '_' || *id == '-')
            pd_buf_addc(&b, *id);
        else
            pd_buf_printf(&b, "%%%02X", (unsigned char)*id);
    pd_buf_addz(&b, more);
    return pd_buf_take(&b);
}

char *cli_job_path(const char *id, const char *more)
{
    return cli_path("/v1/jobs", id, more);
}

/* ---- asking ---------------------------------------------------------------------------------- */

static void count_member(struct pd_jw *w, const char *key, uint64_t n)
{
    if (n) {
        pd_jw_put_uint(w, key, n);
    }
}

static void put_messages(struct pd_jw *w, const struct app_request *r)
{
    pd_jw_key(w, "messages");
    pd_jw_array(w);
    if (r->system) {
        pd_jw_object(w);
        pd_jw_put_given(w, "role", "system");
        pd_jw_put_given(w, "content", r->system);
        pd_jw_end_object(w);
    }
    pd_jw_object(w);
    pd_jw_put_given(w, "role", "user");
    pd_jw_put_given(w, "content", r->question);
    pd_jw_end_object(w);
    pd_jw_end_array(w);
}

static int put_options(struct pd_jw *w, const struct app_request *r, struct pd_err *err)
{
    pd_jw_key(w, "options");
    pd_jw_object(w);
    for (size_t i = 0; i < r->n_options; i++) {
        const char *eq = strchr(r->options[i], '=');
        char *key =
            eq ? pd_str_dup((struct pd_str){r->options[i], (size_t)(eq - r->options[i])}) : NULL;

        if (!eq)
            return pd_fail(err, PD_EINVAL, "option '%s' is not of the form KEY=VALUE",
                           r->options[i]);
        if (!key)
            return cli_no_memory(err);
        pd_jw_put_given(w, key, eq + 1);
        free(key);
    }
    pd_jw_end_object(w);
    return 0;
}

int cli_request_body(const struct app_request *r, int64_t priority, struct pd_buf *out,
                     struct pd_err *err)
{
    struct pd_jw w;
    int rc;

    pd_jw_init(&w, out);
    pd_jw_object(&w);
    pd_jw_put_given(&w, "model", r->model);
    put_messages(&w, r);
    app_form_json(r->form, &w);
    pd_jw_key(&w, "ponder");
    pd_jw_object(&w);
    pd_jw_put_given(&w, "strategy", r->strategy);
    rc = put_options(&w, r, err);
    if (rc < 0)
        return rc;
    pd_jw_put_given(&w, "scorer", r->scorer);
    pd_jw_put_given(&w, "draft", r->draft);
    pd_jw_put_given(&w, "kv_type", r->kv_type);
    pd_jw_put_given(&w, "chat_template", r->chat_template);
    pd_jw_put_given(&w, "expect", r->expect);
    if (r->grade != PD_GRADE_EXACT)
        pd_jw_put_given(&w, "grade", pd_grade_name(r->grade));
    pd_jw_key(&w, "budget");
    pd_jw_object(&w);
    count_member(&w, "tokens", r->budget.tokens);
    count_member(&w, "nodes", r->budget.nodes);
    count_member(&w, "samples", r->budget_samples);
    if (r->budget.seconds > 0) {
        pd_jw_put_double(&w, "seconds", r->budget.seconds);
    }
    pd_jw_put_given(&w, "wrap_up", r->budget.wrap_up);
    pd_jw_end_object(&w);
    pd_jw_put_uint(&w, "seed", r->seed);
    count_member(&w, "repeat", r->repeat);
    if (priority) {
        pd_jw_key(&w, "priority");
        pd_jw_int(&w, priority);
    }
    pd_jw_end_object(&w);
    pd_jw_end_object(&w);
    return pd_buf_rc(out) < 0 ? pd_fail(err, PD_ELIMIT, "the request is too large") : 0;
}

/* A JSON value that the daemon answered. */
static int parse_reply(const struct pd_buf *body, struct pd_json **out, struct pd_err *err)
{
    if (pd_json_parse(pd_buf_str(body), out, err) == 0)
        return 0;
    pd_err_context(err, "the daemon's answer");
    return err->code = PD_EREMOTE;
}

int cli_submit(struct client *c, struct pd_str body, const char *key, char id[PD_JOB_ID_MAX],
               struct pd_buf *out, struct pd_err *err)
{
    struct pd_json *job = NULL;
    const char *named;
    char *header = NULL;
    int rc = 0;

    if (key && asprintf(&header, "Idempotency-Key: %s", key) < 0)
        return cli_no_memory(err);
    rc = client_call(c, "POST", "/v1/jobs", &body, header, out, err);
    free(header);
    if (rc == 0)
        rc = parse_reply(out, &job, err);
    named = pd_json_string(pd_json_get(job, "id"));
    if (rc == 0 && (!named || strlen(named) >= PD_JOB_ID_MAX))
        rc = pd_fail(err, PD_EREMOTE, "the daemon's answer names no job");
    if (rc == 0)
        strcpy(id, named);
    pd_json_free(job);
    return rc;
}

static int get(struct client *c, const char *id, const char *what, struct pd_json **out,
               struct pd_buf *body, struct pd_err *err)
{
    char *path = cli_job_path(id, what);
    int rc = path ? client_call(c, "GET", path, NULL, NULL, body, err) : cli_no_memory(err);

    free(path);
    return rc < 0 ? rc : parse_reply(body, out, err);
}

#define SAYS_PAUSED 1 /* of a callback; it may have been resumed since */

static int until_paused(void *user, const struct net_sse_event *e)
{
    snprintf(user, NET_SSE_ID_MAX, "%s", e->id);
    return strcmp(e->type, "job.paused") == 0 ? SAYS_PAUSED : 0;
}

/* PD_ECANCEL: it is paused now. */
static int check_paused(struct client *c, const char *id, struct pd_err *err)
{
    struct pd_buf body = PD_BUF_INIT(REPLY_MAX);
    struct pd_json *job = NULL;
    int rc = get(c, id, "", &job, &body, err);
    const char *status = pd_json_string(pd_json_get(job, "status"));

    if (rc == 0 && status && strcmp(status, "paused") == 0)
        rc = pd_fail(err, PD_ECANCEL, "job %s is paused", id);
    pd_json_free(job);
    pd_buf_done(&body);
    return rc;
}

int cli_follow(struct client *c, const char *id, struct pd_err *err)
{
    char last[NET_SSE_ID_MAX] = "0", more[64];
    char *path;
    int rc;

    do {
        snprintf(more, sizeof more, "/events?since=%s", last);
        path = cli_job_path(id, more);
        rc = path ? client_events(c, path, until_paused, last, err) : cli_no_memory(err);
        free(path);
        if (rc != SAYS_PAUSED)
            return rc;
        rc = check_paused(c, id, err);
    } while (rc == 0);
    return rc;
}

/* ---- a result, back from JSON ---------------------------------------------------------------- */

/* Everything that cli_show_result reads; texts stand in the JSON trees. */
struct shown {
    struct pd_job job;
    struct pd_result r;
    struct pd_json *result, *tree, *calls;
};

static void shown_done(struct shown *s)
{
    pd_result_done(&s->r);
    pd_json_free(s->result);
    pd_json_free(s->tree);
    pd_json_free(s->calls);
}

static const char *text_of(const struct pd_json *o, const char *key)
{
    return pd_json_string(pd_json_get(o, key));
}

static int64_t int_of(const struct pd_json *o, const char *key, int64_t absent)
{
    int64_t v;

    return pd_json_int(pd_json_get(o, key), &v) ? v : absent;
}

static struct pd_str str_of(const struct pd_json *o, const char *key)
{
    const char *z = text_of(o, key);

    return z ? pd_str_of(z) : PD_STR("");
}

static int read_steps(struct shown *s, struct pd_err *err)
{
    const struct pd_json *steps = pd_json_get(s->result, "steps");

    s->r.n_steps = pd_json_size(steps);
    s->r.steps = pd_arena_array(&s->r.arena, s->r.n_steps + 1, sizeof *s->r.steps);
    if (!s->r.steps)
        return cli_no_memory(err);
    for (size_t i = 0; i < s->r.n_steps; i++) {
        const struct pd_json *v = pd_json_at(steps, i);
        double score;

        s->r.steps[i] = (struct pd_result_step){
            .text = str_of(v, "text"),
            .score = pd_json_number(pd_json_get(v, "score"), &score) ? score : -1,
            .n_tokens = int_of(v, "tokens", -1)};
    }
    return 0;
}

static int read_result(struct shown *s, const char *id, struct pd_err *err)
{
    const struct pd_json *q = s->result, *u = pd_json_get(q, "usage"),
                         *support = pd_json_get(q, "support");
    const char *strategy = text_of(q, "strategy"), *digest = text_of(q, "digest");
    bool correct;

    s->job.id = id;
    s->job.strategy = strategy ? pd_strategy_find(strategy) : NULL;
    s->job.model = text_of(q, "model");
    s->job.draft = text_of(q, "draft");
    s->job.scorer = text_of(q, "scorer");
    s->job.seed = (uint64_t)int_of(q, "seed", 0);
    s->r.status = text_of(q, "status");
    s->r.stopped_by = text_of(q, "stopped_by");
    s->r.cut = text_of(q, "cut");
    s->r.answer = text_of(q, "answer");
    s->r.key = text_of(q, "key");
    s->r.agree = (uint32_t)int_of(support, "agree", 0);
    s->r.of = (uint32_t)int_of(support, "of", 0);
    if (!pd_json_number(pd_json_get(q, "confidence"), &s->r.confidence))
        s->r.confidence = -1;
    s->r.usage = (struct pd_usage){.generated = (uint64_t)int_of(u, "generated", 0),
                                   .prefilled = (uint64_t)int_of(u, "prefilled", 0),
                                   .cached = (uint64_t)int_of(u, "cached", 0),
                                   .scored = (uint64_t)int_of(u, "scored", 0),
                                   .discarded = (uint64_t)int_of(u, "discarded", 0),
                                   .sequential = (uint64_t)int_of(u, "sequential", 0),
                                   .scorer_passes = (uint64_t)int_of(u, "scorer_passes", 0)};
    s->r.elapsed_ns = int_of(q, "elapsed_ms", 0) * PD_NS_PER_MS;
    s->r.verdict = text_of(pd_json_get(q, "grading"), "verdict");
    s->r.reason = text_of(pd_json_get(q, "grading"), "reason");
    s->r.correct = pd_json_bool(pd_json_get(q, "correct"), &correct) ? correct : -1;
    if (digest)
        snprintf(s->r.digest, sizeof s->r.digest, "%s", digest);
    if (!s->job.strategy || !s->job.model || !s->r.stopped_by)
        return pd_fail(err, PD_EREMOTE,
                       "the daemon's answer is not a result that this version knows");
    return read_steps(s, err);
}

static int read_tree(struct shown *s, struct pd_err *err)
{
    const struct pd_json *nodes = pd_json_get(s->tree, "nodes");
    struct pd_trace *t = &s->r.trace;
    size_t n = pd_json_size(nodes), i = 0;

    t->nodes = pd_arena_array(&s->r.arena, n + 1, sizeof *t->nodes);
    t->scores = pd_arena_array(&s->r.arena, n + 1, sizeof *t->scores);
    if (!t->nodes || !t->scores)
        return cli_no_memory(err);
    t->job.answer_node = int_of(s->tree, "answer_node", -1);
    for (const struct pd_json *v = pd_json_first(nodes); v && i < n; v = pd_json_next(v), i++) {
        struct pd_node_rec *r = &t->nodes[i];
        double score;

        r->id = (uint32_t)int_of(v, "node", 0);
        r->parent = (uint32_t)int_of(v, "parent", r->id);
        r->status = text_of(v, "status");
        r->prune_reason = text_of(v, "prune_reason");
        r->finish = text_of(v, "finish");
        r->stop = text_of(v, "stop");
        r->n_tokens = (uint32_t)int_of(v, "tokens", 0);
        r->text = str_of(v, "text");
        if (pd_json_number(pd_json_get(v, "score"), &score))
            t->scores[t->n_scores++] = (struct pd_score_rec){.node_id = r->id, .value = score};
    }
    t->n_nodes = i;
    return 0;
}

static int read_calls(struct shown *s, struct pd_err *err)
{
    const struct pd_json *calls = pd_json_get(s->calls, "data");
    struct pd_trace *t = &s->r.trace;
    size_t n = pd_json_size(calls);

    t->calls = pd_arena_array(&s->r.arena, n + 1, sizeof *t->calls);
    if (!t->calls)
        return cli_no_memory(err);
    for (const struct pd_json *v = pd_json_first(calls); v && t->n_calls < n; v = pd_json_next(v)) {
        const char *op = text_of(v, "op");

        t->calls[t->n_calls++] =
            (struct pd_call_rec){.op = op ? op : "",
                                 .prompt_tokens = (uint64_t)int_of(v, "prompt_tokens", 0),
                                 .cached_tokens = (uint64_t)int_of(v, "cached_tokens", 0),
                                 .generated_tokens = (uint64_t)int_of(v, "generated_tokens", 0)};
    }
    return 0;
}

/* ---- solve ----------------------------------------------------------------------------------- */

/* How a job without a result ended, in the words and the code of an embedded run. */
static int no_result(const struct pd_json *job, struct pd_err *err)
{
    const char *status = text_of(job, "status"), *error = text_of(job, "error");

    if (status && strcmp(status, "failed") == 0)
        return pd_fail(err, PD_EDIFFER, "%s", error ? error : "the job failed");
    return pd_fail(err, PD_ECANCEL, "the job is %s", status ? status : "not known");
}

static int show_result(struct cli *cli, struct client *c, const char *id,
                       const struct cli_remote *s, struct shown *shown, struct pd_err *err)
{
    const char *show = s->show ? s->show : "steps";
    const struct cli_shown what = {.traced = true,
                                   .usage = s->usage,
                                   .tree = strcmp(show, "tree") == 0,
                                   .steps = strcmp(show, "answer") != 0};
    struct pd_buf body = PD_BUF_INIT(REPLY_MAX);
    int rc = get(c, id, "/answer", &shown->result, &body, err);

    if (rc == 0)
        rc = read_result(shown, id, err);
    if (rc == 0 && cli->json) {
        body.len -= body.len && body.data[body.len - 1] == '\n';
        cli_print_json(&body);
    } else {
        if (rc == 0 && what.tree)
            rc = get(c, id, "/tree?form=flat", &shown->tree, &body, err);
        if (rc == 0 && what.tree)
            rc = read_tree(shown, err);
        if (rc == 0 && what.usage)
            rc = get(c, id, "/calls", &shown->calls, &body, err);
        if (rc == 0 && what.usage)
            rc = read_calls(shown, err);
        if (rc == 0)
            cli_show_result(cli, &shown->job, &shown->r, &what);
    }
    pd_buf_done(&body);
    return rc;
}

static int begin(struct client *c, const struct cli_remote *s, char id[PD_JOB_ID_MAX],
                 struct pd_err *err)
{
    struct pd_buf body = PD_BUF_INIT(BODY_MAX), reply = PD_BUF_INIT(REPLY_MAX);
    char *path = NULL;
    int rc;

    if (s->resume) {
        path = cli_job_path(s->resume, "/resume");
        snprintf(id, PD_JOB_ID_MAX, "%s", s->resume);
        rc = path ? client_call(c, "POST", path, NULL, NULL, &reply, err) : cli_no_memory(err);
    } else {
        rc = cli_request_body(s->request, 0, &body, err);
        if (rc == 0)
            rc = cli_submit(c, pd_buf_str(&body), NULL, id, &reply, err);
    }
    free(path);
    pd_buf_done(&body);
    pd_buf_done(&reply);
    return rc;
}

/* The first signal pauses the job, so that it can go on; its code is that of an embedded run. */
static int interrupted(const struct cli *cli, struct client *c, const char *id, int sig)
{
    struct pd_buf reply = PD_BUF_INIT(REPLY_MAX);
    char *path = cli_job_path(id, "/pause");
    char line[128];

    if (path && client_call(c, "POST", path, NULL, NULL, &reply, NULL) == 0) {
        snprintf(line, sizeof line, "resumable: ponder solve --host … --resume %s", id);
        cli_message(cli, "info", line);
    }
    free(path);
    pd_buf_done(&reply);
    return CLI_EXIT_SIGNAL + sig;
}

int cli_solve_remote(struct cli *cli, const struct cli_remote *s, struct pd_err *err)
{
    struct pd_buf body = PD_BUF_INIT(REPLY_MAX);
    struct shown shown = {0};
    struct pd_json *job = NULL;
    struct client *c = NULL;
    char id[PD_JOB_ID_MAX] = "";
    int rc;

    pd_arena_init(&shown.r.arena, REPLY_MAX);
    cli_block_signals();
    rc = client_open(cli->host, &c, err);
    if (rc == 0)
        rc = begin(c, s, id, err);
    if (rc == 0 && s->shows_question) {
        cli_text(stdout, pd_str_of(s->request->question), 0);
        fputs("\n\n", stdout);
        fflush(stdout);
    }
    if (rc == 0)
        rc = cli_follow(c, id, err);
    if (rc == 0)
        rc = get(c, id, "", &job, &body, err);
    if (rc == 0 && (!text_of(job, "status") || strcmp(text_of(job, "status"), "done") != 0))
        rc = no_result(job, err);
    if (rc == 0)
        rc = show_result(cli, c, id, s, &shown, err);
    if (rc == 0 && !shown.r.answer)
        rc =
            pd_fail(err, strcmp(shown.r.stopped_by, "no_candidates") == 0 ? PD_EDIFFER : PD_EBUDGET,
                    "no answer: stopped by %s", shown.r.stopped_by);
    else if (rc == 0 && s->expects && shown.r.correct != 1)
        rc = CLI_EXIT_NEGATIVE;
    if (rc == PD_ECANCEL && client_signal(c) && id[0])
        rc = interrupted(cli, c, id, client_signal(c));
    pd_json_free(job);
    shown_done(&shown);
    pd_buf_done(&body);
    client_close(c);
    return rc;
}
