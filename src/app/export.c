/* Traces as JSON Lines, OTLP, inspect's logs and trace events: see export.h. */
#include "app/export.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "app/app_int.h"
#include "base/clock.h"
#include "base/hash.h"

/* ---- records as JSON ------------------------------------------------------------------------ */

/* A number that may pass 2^53 (a branch key): a decimal string, exact everywhere. */
static void key_member(struct pd_jw *w, const char *key, uint64_t value)
{
    char text[24];

    snprintf(text, sizeof(text), "%llu", (unsigned long long)value);
    pd_jw_put_text(w, key, text);
}

static void raw_member(struct pd_jw *w, const char *key, struct pd_str json)
{
    pd_jw_key(w, key);
    if (json.len > 0)
        pd_jw_raw(w, json);
    else
        pd_jw_null(w);
}

/* -1 (none) is null */
static void index_member(struct pd_jw *w, const char *key, int64_t value)
{
    pd_jw_key(w, key);
    if (value >= 0)
        pd_jw_int(w, value);
    else
        pd_jw_null(w);
}

static void open_record(struct pd_jw *w, const char *type)
{
    pd_jw_object(w);
    pd_jw_put_text(w, "type", type);
}

static void job_json(struct pd_jw *w, const struct pd_job_rec *r, bool texts)
{
    open_record(w, "job");
    pd_jw_put_text(w, "id", r->id);
    pd_jw_put_text(w, "problem", r->problem_key);
    pd_jw_put_int(w, "repeat", r->repeat);
    pd_jw_put_text(w, "strategy", r->strategy);
    raw_member(w, "options", pd_str_of(r->options));
    pd_jw_put_text(w, "model", r->model);
    pd_jw_put_text(w, "scorer", r->scorer);
    pd_jw_put_uint(w, "seed", r->seed);
    pd_jw_put_text(w, "status", r->status);
    pd_jw_put_text(w, "stopped_by", r->stopped_by);
    raw_member(w, "request", texts ? r->request : (struct pd_str){0});
    raw_member(w, "budget", pd_str_of(r->budget));
    pd_jw_put_int(w, "created_ms", r->created_ms);
    pd_jw_put_int(w, "started_ms", r->started_ms);
    pd_jw_put_int(w, "finished_ms", r->finished_ms);
    index_member(w, "answer_node", r->answer_node);
    pd_jw_put_text(w, "answer", texts ? r->answer : NULL);
    pd_jw_key(w, "correct");
    if (r->correct < 0)
        pd_jw_null(w);
    else
        pd_jw_bool(w, r->correct == 1);
    pd_jw_put_text(w, "error", r->error);
    pd_jw_put_text(w, "digest", r->digest);
    pd_jw_put_text(w, "run", r->run_id);
    pd_jw_put_text(w, "variant", r->variant);
    index_member(w, "sequential", r->sequential);
    pd_jw_end_object(w);
}

/* One number a token, NULL: null. */
static void token_numbers(struct pd_jw *w, const char *key, const float *values, uint32_t n)
{
    pd_jw_key(w, key);
    if (!values) {
        pd_jw_null(w);
        return;
    }
    pd_jw_array(w);
    for (uint32_t i = 0; i < n; i++)
        pd_jw_double(w, (double)values[i]);
    pd_jw_end_array(w);
}

static void node_json(struct pd_jw *w, const struct pd_node_rec *r, bool texts)
{
    open_record(w, "node");
    pd_jw_put_int(w, "id", r->id);
    pd_jw_put_int(w, "parent", r->parent);
    pd_jw_put_int(w, "depth", r->depth);
    pd_jw_put_int(w, "step", r->step);
    pd_jw_put_text(w, "status", r->status);
    pd_jw_put_text(w, "prune_reason", r->prune_reason);
    pd_jw_key(w, "text");
    if (texts)
        pd_jw_str(w, r->text);
    else
        pd_jw_null(w);
    pd_jw_key(w, "tokens");
    if (texts) {
        pd_jw_array(w);
        for (uint32_t i = 0; i < r->n_tokens; i++)
            pd_jw_int(w, r->tokens[i]);
        pd_jw_end_array(w);
    } else {
        pd_jw_int(w, r->n_tokens); /* how many */
    }
    token_numbers(w, "logprobs", r->logprobs, r->n_tokens);
    if (r->confidences)
        token_numbers(w, "confidences", r->confidences, r->n_tokens);
    pd_jw_put_double(w, "logprob", r->logprob);
    pd_jw_put_text(w, "finish", r->finish);
    pd_jw_put_text(w, "stop", r->stop);
    key_member(w, "seed", r->seed);
    pd_jw_put_int(w, "created_ms", r->created_ms);
    index_member(w, "call", r->call_id);
    pd_jw_end_object(w);
}

static void score_json(struct pd_jw *w, const struct pd_score_rec *r)
{
    open_record(w, "score");
    pd_jw_put_int(w, "node", r->node_id);
    pd_jw_put_text(w, "scorer", r->scorer);
    pd_jw_put_text(w, "kind", r->kind);
    pd_jw_put_double(w, "value", r->value);
    pd_jw_key(w, "steps");
    pd_jw_array(w);
    for (uint32_t i = 0; i < r->n_steps; i++)
        pd_jw_double(w, r->steps[i]);
    pd_jw_end_array(w);
    index_member(w, "call", r->call_id);
    pd_jw_end_object(w);
}

static void call_json(struct pd_jw *w, const struct pd_call_rec *r, size_t seq)
{
    open_record(w, "call");
    pd_jw_put_int(w, "seq", (int64_t)seq);
    pd_jw_put_text(w, "engine", r->engine);
    pd_jw_put_text(w, "dialect", r->dialect);
    pd_jw_put_text(w, "op", r->op);
    pd_jw_put_text(w, "model", r->model);
    pd_jw_put_text(w, "outcome", r->outcome);
    pd_jw_put_int(w, "prompt_tokens", (int64_t)r->prompt_tokens);
    pd_jw_put_int(w, "cached_tokens", (int64_t)r->cached_tokens);
    pd_jw_put_int(w, "generated_tokens", (int64_t)r->generated_tokens);
    pd_jw_put_int(w, "started_ms", r->started_ms);
    pd_jw_put_int(w, "ended_ms", r->ended_ms);
    pd_jw_put_text(w, "error", r->error);
    if (r->attempt) { /* a request to an engine elsewhere */
        pd_jw_put_int(w, "attempt", r->attempt);
        pd_jw_put_int(w, "http", r->http);
        pd_jw_put_int(w, "first_ms", r->first_ms);
    }
    pd_jw_end_object(w);
}

static void event_json(struct pd_jw *w, const struct pd_event_rec *r)
{
    open_record(w, "event");
    pd_jw_put_int(w, "seq", (int64_t)r->seq);
    pd_jw_put_int(w, "t_ms", r->t_ms);
    pd_jw_put_text(w, "event", r->type);
    raw_member(w, "data", pd_str_of(r->data));
    pd_jw_end_object(w);
}

static size_t n_records(const struct pd_trace *t)
{
    return 1 + t->n_nodes + t->n_scores + t->n_calls + t->n_events;
}

static void record(const struct pd_trace *t, size_t i, bool texts, struct pd_buf *out)
{
    struct pd_jw w;

    pd_jw_init(&w, out);
    if (i == 0)
        job_json(&w, &t->job, texts);
    else if ((i -= 1) < t->n_nodes)
        node_json(&w, &t->nodes[i], texts);
    else if ((i -= t->n_nodes) < t->n_scores)
        score_json(&w, &t->scores[i]);
    else if ((i -= t->n_scores) < t->n_calls)
        call_json(&w, &t->calls[i], i);
    else
        event_json(&w, &t->events[i - t->n_calls]);
}

void export_jsonl(const struct pd_trace *t, bool texts, struct pd_buf *out)
{
    for (size_t i = 0; i < n_records(t); i++) {
        record(t, i, texts, out);
        pd_buf_addc(out, '\n');
    }
}

void export_array(const struct pd_trace *t, struct pd_buf *out)
{
    for (size_t i = 0; i < n_records(t); i++) {
        pd_buf_addz(out, i ? ",\n" : "[");
        record(t, i, true, out);
    }
    pd_buf_addz(out, "]\n");
}

/* ---- OTLP ------------------------------------------------------------------------------------ */

/* 64-bit integers are decimal texts, enums are numbers, ids are hex. */

static void hex_id(const char *job, int64_t call, size_t n_bytes, char *out)
{
    uint8_t sum[PD_SHA256_BYTES];
    char name[PD_JOB_ID_MAX + 32];

    snprintf(name, sizeof name, "%s/%lld", job, (long long)call);
    pd_sha256_bytes(name, strlen(name), sum);
    pd_hex(sum, n_bytes, out);
}

static void nanos(struct pd_jw *w, const char *key, int64_t unix_ms)
{
    char text[32];

    snprintf(text, sizeof text, "%lld000000", (long long)unix_ms);
    pd_jw_put_text(w, key, unix_ms > 0 ? text : "0");
}

static void attribute(struct pd_jw *w, const char *key, const char *kind)
{
    pd_jw_object(w);
    pd_jw_put_text(w, "key", key);
    pd_jw_key(w, "value");
    pd_jw_object(w);
    pd_jw_key(w, kind);
}

static void end_attribute(struct pd_jw *w)
{
    pd_jw_end_object(w);
    pd_jw_end_object(w);
}

static void text_attribute(struct pd_jw *w, const char *key, const char *value)
{
    if (!value)
        return;
    attribute(w, key, "stringValue");
    pd_jw_strz(w, value);
    end_attribute(w);
}

static void int_attribute(struct pd_jw *w, const char *key, uint64_t value)
{
    char text[24];

    snprintf(text, sizeof text, "%llu", (unsigned long long)value);
    attribute(w, key, "intValue");
    pd_jw_strz(w, text);
    end_attribute(w);
}

static void double_attribute(struct pd_jw *w, const char *key, double value)
{
    if (!isfinite(value))
        return;
    attribute(w, key, "doubleValue");
    pd_jw_double(w, value);
    end_attribute(w);
}

static void bool_attribute(struct pd_jw *w, const char *key, bool value)
{
    attribute(w, key, "boolValue");
    pd_jw_bool(w, value);
    end_attribute(w);
}

static void list_attribute(struct pd_jw *w, const char *key, const char *value)
{
    if (!value)
        return;
    attribute(w, key, "arrayValue");
    pd_jw_object(w);
    pd_jw_key(w, "values");
    pd_jw_array(w);
    pd_jw_object(w);
    pd_jw_put_text(w, "stringValue", value);
    pd_jw_end_object(w);
    pd_jw_end_array(w);
    pd_jw_end_object(w);
    end_attribute(w);
}

static void sum_calls(const struct pd_trace *t, uint64_t *out_input, uint64_t *out_output)
{
    *out_input = *out_output = 0;
    for (size_t i = 0; i < t->n_calls; i++) {
        *out_input += strcmp(t->calls[i].op, "prefill") == 0 ? t->calls[i].prompt_tokens : 0;
        *out_output += t->calls[i].generated_tokens;
    }
}

/* The options of the search that have a name in the conventions. */
static void sampling_attributes(struct pd_jw *w, const char *options)
{
    static const char *const names[][2] = {
        {"temperature", "gen_ai.request.temperature"},
        {"top_p", "gen_ai.request.top_p"},
    };
    struct pd_json *j = NULL;
    double v;

    if (!options || pd_json_parse(pd_str_of(options), &j, NULL) < 0)
        return;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (pd_json_number(pd_json_get(j, names[i][0]), &v))
            double_attribute(w, names[i][1], v);
    if (pd_json_number(pd_json_get(j, "max_tokens"), &v) && v >= 0)
        int_attribute(w, "gen_ai.request.max_tokens", (uint64_t)v);
    pd_json_free(j);
}

static void open_span(struct pd_jw *w, const struct pd_trace *t, int64_t call, const char *name,
                      int kind, int64_t from_ms, int64_t to_ms)
{
    char id[33];

    pd_jw_object(w);
    hex_id(t->job.id, -2, 16, id);
    pd_jw_put_text(w, "traceId", id);
    hex_id(t->job.id, call, 8, id);
    pd_jw_put_text(w, "spanId", id);
    if (call >= 0) {
        hex_id(t->job.id, -1, 8, id);
        pd_jw_put_text(w, "parentSpanId", id);
    }
    pd_jw_put_text(w, "name", name);
    pd_jw_put_int(w, "kind", kind);
    nanos(w, "startTimeUnixNano", from_ms);
    nanos(w, "endTimeUnixNano", to_ms > from_ms ? to_ms : from_ms);
    pd_jw_key(w, "attributes");
    pd_jw_array(w);
}

static void end_span(struct pd_jw *w, bool failed, const char *error)
{
    pd_jw_key(w, "status");
    pd_jw_object(w);
    pd_jw_put_int(w, "code", failed ? 2 : 1);
    if (failed && error)
        pd_jw_put_text(w, "message", error);
    pd_jw_end_object(w);
    pd_jw_end_object(w);
}

static void score_events(struct pd_jw *w, const struct pd_trace *t)
{
    pd_jw_key(w, "events");
    pd_jw_array(w);
    for (size_t i = 0; i < t->n_scores; i++) {
        const struct pd_score_rec *s = &t->scores[i];
        bool timed = s->call_id >= 0 && (uint64_t)s->call_id < t->n_calls;

        pd_jw_object(w);
        nanos(w, "timeUnixNano", timed ? t->calls[s->call_id].ended_ms : t->job.finished_ms);
        pd_jw_put_text(w, "name", "gen_ai.evaluation.result");
        pd_jw_key(w, "attributes");
        pd_jw_array(w);
        text_attribute(w, "gen_ai.evaluation.name", s->scorer);
        double_attribute(w, "gen_ai.evaluation.score.value", s->value);
        int_attribute(w, "ponder.node", s->node_id);
        pd_jw_end_array(w);
        pd_jw_end_object(w);
    }
    pd_jw_end_array(w);
}

static void job_span(struct pd_jw *w, const struct pd_trace *t, bool texts)
{
    const struct pd_job_rec *j = &t->job;
    uint64_t input, output;
    char name[128];

    snprintf(name, sizeof name, "invoke_agent %s", j->strategy);
    sum_calls(t, &input, &output);
    open_span(w, t, -1, name, 1, j->started_ms, j->finished_ms);
    text_attribute(w, "gen_ai.operation.name", "invoke_agent");
    text_attribute(w, "gen_ai.provider.name", "ponder");
    text_attribute(w, "gen_ai.agent.name", j->strategy);
    text_attribute(w, "gen_ai.request.model", j->model);
    int_attribute(w, "gen_ai.request.seed", j->seed);
    sampling_attributes(w, j->options);
    int_attribute(w, "gen_ai.usage.input_tokens", input);
    int_attribute(w, "gen_ai.usage.output_tokens", output);
    text_attribute(w, "ponder.job", j->id);
    text_attribute(w, "ponder.run", j->run_id);
    text_attribute(w, "ponder.variant", j->variant);
    text_attribute(w, "ponder.problem", j->problem_key);
    text_attribute(w, "ponder.status", j->status);
    text_attribute(w, "ponder.stopped_by", j->stopped_by);
    text_attribute(w, "ponder.digest", j->digest);
    int_attribute(w, "ponder.nodes", t->n_nodes);
    if (j->correct >= 0)
        bool_attribute(w, "ponder.correct", j->correct == 1);
    if (texts)
        text_attribute(w, "ponder.answer", j->answer);
    pd_jw_end_array(w);
    score_events(w, t);
    end_span(w, strcmp(j->status, "failed") == 0, j->error);
}

static void call_span(struct pd_jw *w, const struct pd_trace *t, size_t i,
                      const struct pd_node_rec *node, bool texts)
{
    const struct pd_call_rec *c = &t->calls[i];
    bool draws = strcmp(c->op, "generate") == 0, local = strcmp(c->engine, "local") == 0;
    const char *op = draws ? "text_completion" : c->op;
    char name[256];

    snprintf(name, sizeof name, "%s %s", op, c->model);
    open_span(w, t, (int64_t)i, name, local ? 1 : 3, c->started_ms, c->ended_ms);
    text_attribute(w, "gen_ai.operation.name", op);
    text_attribute(w, "gen_ai.provider.name", local ? "ponder" : c->dialect);
    text_attribute(w, "gen_ai.request.model", c->model);
    text_attribute(w, "gen_ai.response.model", c->model);
    if (draws)
        int_attribute(w, "gen_ai.request.choice.count", 1);
    int_attribute(w, "gen_ai.usage.input_tokens", c->prompt_tokens);
    int_attribute(w, "gen_ai.usage.output_tokens", c->generated_tokens);
    int_attribute(w, "ponder.cached_tokens", c->cached_tokens);
    text_attribute(w, "ponder.engine", c->engine);
    text_attribute(w, "ponder.outcome", c->outcome);
    if (node) {
        int_attribute(w, "ponder.node", node->id);
        list_attribute(w, "gen_ai.response.finish_reasons", node->finish);
        if (texts) {
            attribute(w, "ponder.text", "stringValue");
            pd_jw_str(w, node->text);
            end_attribute(w);
        }
    }
    pd_jw_end_array(w);
    end_span(w, strcmp(c->outcome, "error") == 0, c->error);
}

/* The node of each call, NULL: none; malloc'ed, NULL: out of memory. */
static const struct pd_node_rec **nodes_of_calls(const struct pd_trace *t)
{
    const struct pd_node_rec **of = calloc(t->n_calls + 1, sizeof *of);

    for (size_t i = 0; of && i < t->n_nodes; i++)
        if (t->nodes[i].call_id >= 0 && (uint64_t)t->nodes[i].call_id < t->n_calls)
            of[t->nodes[i].call_id] = &t->nodes[i];
    return of;
}

void export_otlp(const struct pd_trace *t, bool texts, struct pd_buf *out)
{
    const struct pd_node_rec **of = nodes_of_calls(t);
    struct pd_jw w;

    pd_jw_init(&w, out);
    pd_jw_object(&w);
    pd_jw_key(&w, "resourceSpans");
    pd_jw_array(&w);
    pd_jw_object(&w);
    pd_jw_key(&w, "resource");
    pd_jw_object(&w);
    pd_jw_key(&w, "attributes");
    pd_jw_array(&w);
    text_attribute(&w, "service.name", "ponder");
    text_attribute(&w, "service.version", PONDER_VERSION);
    pd_jw_end_array(&w);
    pd_jw_end_object(&w);
    pd_jw_key(&w, "scopeSpans");
    pd_jw_array(&w);
    pd_jw_object(&w);
    pd_jw_key(&w, "scope");
    pd_jw_object(&w);
    pd_jw_put_text(&w, "name", "ponder");
    pd_jw_end_object(&w);
    pd_jw_key(&w, "spans");
    pd_jw_array(&w);
    job_span(&w, t, texts);
    for (size_t i = 0; i < t->n_calls; i++)
        call_span(&w, t, i, of ? of[i] : NULL, texts);
    pd_jw_end_array(&w);
    pd_jw_end_object(&w);
    pd_jw_end_array(&w);
    pd_jw_end_object(&w);
    pd_jw_end_array(&w);
    pd_jw_end_object(&w);
    pd_buf_addc(out, '\n');
    free(of);
}

/* ---- inspect --------------------------------------------------------------------------------- */

static void time_member(struct pd_jw *w, const char *key, int64_t unix_ms)
{
    char when[PD_RFC3339_SIZE];

    pd_clock_rfc3339(unix_ms, when);
    pd_jw_put_text(w, key, when);
}

static void raw_or_empty(struct pd_jw *w, const char *json)
{
    pd_jw_raw(w, json && *json ? pd_str_of(json) : PD_STR("{}"));
}

static void message(struct pd_jw *w, const char *role, struct pd_str content)
{
    pd_jw_object(w);
    pd_jw_put_text(w, "role", role);
    pd_jw_put_str(w, "content", content);
    pd_jw_end_object(w);
}

static void usage(struct pd_jw *w, const struct pd_trace *t)
{
    uint64_t input, output;

    sum_calls(t, &input, &output);
    pd_jw_object(w);
    pd_jw_key(w, t->job.model);
    pd_jw_object(w);
    pd_jw_put_int(w, "input_tokens", (int64_t)input);
    pd_jw_put_int(w, "output_tokens", (int64_t)output);
    pd_jw_put_int(w, "total_tokens", (int64_t)(input + output));
    pd_jw_end_object(w);
    pd_jw_end_object(w);
}

static void sample(struct pd_jw *w, const struct pd_trace *t, const struct pd_json *request,
                   const char *line)
{
    const struct pd_job_rec *j = &t->job;
    const char *question = pd_json_string(pd_json_get(request, "question")),
               *expect = pd_json_string(pd_json_get(request, "expect"));

    pd_jw_object(w);
    pd_jw_put_text(w, "id", j->problem_key ? j->problem_key : j->id);
    pd_jw_put_int(w, "epoch", (int64_t)j->repeat + 1);
    pd_jw_put_text(w, "input", question ? question : "");
    pd_jw_put_text(w, "target", expect ? expect : "");
    pd_jw_key(w, "messages");
    pd_jw_array(w);
    if (question)
        message(w, "user", pd_str_of(question));
    if (line)
        message(w, "assistant", pd_str_of(line));
    pd_jw_end_array(w);
    pd_jw_key(w, "output");
    pd_jw_object(w);
    pd_jw_put_text(w, "model", j->model);
    pd_jw_key(w, "choices");
    pd_jw_array(w);
    if (line) {
        pd_jw_object(w);
        pd_jw_key(w, "message");
        message(w, "assistant", pd_str_of(line));
        pd_jw_put_text(w, "stop_reason", j->answer ? "stop" : "max_tokens");
        pd_jw_end_object(w);
    }
    pd_jw_end_array(w);
    pd_jw_end_object(w);
    pd_jw_key(w, "scores");
    pd_jw_object(w);
    if (j->correct >= 0) {
        pd_jw_key(w, "ponder");
        pd_jw_object(w);
        pd_jw_put_text(w, "value", j->correct == 1 ? "C" : "I");
        pd_jw_put_text(w, "answer", line ? j->answer : NULL);
        pd_jw_end_object(w);
    }
    pd_jw_end_object(w);
    pd_jw_key(w, "metadata");
    pd_jw_object(w);
    pd_jw_put_text(w, "job", j->id);
    pd_jw_put_text(w, "digest", j->digest);
    pd_jw_put_text(w, "stopped_by", j->stopped_by);
    pd_jw_put_int(w, "nodes", (int64_t)t->n_nodes);
    pd_jw_end_object(w);
    pd_jw_key(w, "model_usage");
    usage(w, t);
    pd_jw_key(w, "events");
    pd_jw_array(w);
    pd_jw_end_array(w);
    pd_jw_end_object(w);
}

void export_inspect(const struct pd_trace *t, bool texts, struct pd_buf *out)
{
    const struct pd_job_rec *j = &t->job;
    struct pd_json *request = NULL;
    uint32_t at = 0;
    char *line = NULL;
    struct pd_jw w;

    while (at < t->n_nodes && (int64_t)t->nodes[at].id != j->answer_node)
        at++;
    if (texts && pd_json_parse(j->request, &request, NULL) == 0 && j->answer_node >= 0 &&
        at < t->n_nodes)
        line = app_trace_line(t, at);
    pd_jw_init(&w, out);
    pd_jw_object(&w);
    pd_jw_put_int(&w, "version", 2);
    pd_jw_put_text(&w, "status", strcmp(j->status, "done") == 0 ? "success" : "error");
    pd_jw_key(&w, "eval");
    pd_jw_object(&w);
    pd_jw_put_text(&w, "eval_id", j->id);
    pd_jw_put_text(&w, "run_id", j->run_id ? j->run_id : j->id);
    pd_jw_put_text(&w, "task", j->strategy);
    pd_jw_put_text(&w, "task_id", j->variant ? j->variant : j->strategy);
    pd_jw_put_text(&w, "model", j->model);
    time_member(&w, "created", j->created_ms);
    pd_jw_key(&w, "dataset");
    pd_jw_object(&w);
    pd_jw_put_int(&w, "samples", 1);
    pd_jw_end_object(&w);
    pd_jw_key(&w, "config");
    raw_or_empty(&w, j->options);
    pd_jw_end_object(&w);
    pd_jw_key(&w, "plan");
    pd_jw_object(&w);
    pd_jw_put_text(&w, "name", "plan");
    pd_jw_key(&w, "steps");
    pd_jw_array(&w);
    pd_jw_object(&w);
    pd_jw_put_text(&w, "solver", j->strategy);
    pd_jw_key(&w, "params");
    raw_or_empty(&w, j->options);
    pd_jw_end_object(&w);
    pd_jw_end_array(&w);
    pd_jw_end_object(&w);
    pd_jw_key(&w, "results");
    pd_jw_object(&w);
    pd_jw_put_int(&w, "total_samples", 1);
    pd_jw_put_int(&w, "completed_samples", strcmp(j->status, "done") == 0);
    pd_jw_key(&w, "scores");
    pd_jw_array(&w);
    if (j->correct >= 0) {
        pd_jw_object(&w);
        pd_jw_put_text(&w, "name", "ponder");
        pd_jw_put_text(&w, "scorer", "ponder");
        pd_jw_key(&w, "metrics");
        pd_jw_object(&w);
        pd_jw_key(&w, "accuracy");
        pd_jw_object(&w);
        pd_jw_put_text(&w, "name", "accuracy");
        pd_jw_put_int(&w, "value", j->correct);
        pd_jw_end_object(&w);
        pd_jw_end_object(&w);
        pd_jw_end_object(&w);
    }
    pd_jw_end_array(&w);
    pd_jw_end_object(&w);
    pd_jw_key(&w, "stats");
    pd_jw_object(&w);
    time_member(&w, "started_at", j->started_ms);
    time_member(&w, "completed_at", j->finished_ms);
    pd_jw_key(&w, "model_usage");
    usage(&w, t);
    pd_jw_end_object(&w);
    pd_jw_key(&w, "samples");
    pd_jw_array(&w);
    sample(&w, t, request, line);
    pd_jw_end_array(&w);
    pd_jw_end_object(&w);
    pd_buf_addc(out, '\n');
    pd_json_free(request);
    free(line);
}

/* ---- trace events ---------------------------------------------------------------------------- */

/* A process is an engine's model, a thread a node; the calls without one (prompts) are thread 0. */

static void open_event(struct pd_jw *w, const char *phase, const char *name, size_t pid,
                       uint64_t tid)
{
    pd_jw_object(w);
    pd_jw_put_text(w, "ph", phase);
    pd_jw_put_text(w, "name", name);
    pd_jw_put_int(w, "pid", (int64_t)pid);
    pd_jw_put_int(w, "tid", (int64_t)tid);
}

/* Of the first call with this model. */
static size_t pid_of(const struct pd_trace *t, size_t call)
{
    size_t i = 0;

    while (strcmp(t->calls[i].model, t->calls[call].model) != 0)
        i++;
    return i + 1;
}

static void name_process(struct pd_jw *w, size_t pid, const struct pd_call_rec *c)
{
    char name[256];

    snprintf(name, sizeof name, "%s: %s", c->engine, c->model);
    open_event(w, "M", "process_name", pid, 0);
    pd_jw_key(w, "args");
    pd_jw_object(w);
    pd_jw_put_text(w, "name", name);
    pd_jw_end_object(w);
    pd_jw_end_object(w);
}

static void flow(struct pd_jw *w, const struct pd_trace *t, const struct pd_node_rec *from,
                 const struct pd_node_rec *to)
{
    const struct pd_call_rec *a = &t->calls[from->call_id], *b = &t->calls[to->call_id];

    for (int end = 0; end < 2; end++) {
        open_event(w, end ? "f" : "s", "child", pid_of(t, (size_t)(end ? to : from)->call_id),
                   (end ? to : from)->id);
        pd_jw_put_text(w, "cat", "tree");
        if (end)
            pd_jw_put_text(w, "bp", "e");
        pd_jw_put_int(w, "id", to->id);
        pd_jw_put_int(w, "ts", (end ? b->started_ms : a->started_ms) * 1000);
        pd_jw_end_object(w);
    }
}

static const struct pd_node_rec *parent_of(const struct pd_trace *t, const struct pd_node_rec *n)
{
    for (size_t low = 0, high = t->n_nodes; low < high;) {
        size_t mid = low + (high - low) / 2;

        if (t->nodes[mid].id == n->parent)
            return &t->nodes[mid];
        if (t->nodes[mid].id < n->parent)
            low = mid + 1;
        else
            high = mid;
    }
    return NULL;
}

void export_perfetto(const struct pd_trace *t, struct pd_buf *out)
{
    const struct pd_node_rec **of = nodes_of_calls(t);
    uint64_t drawn = 0;
    struct pd_jw w;

    pd_jw_init(&w, out);
    pd_jw_object(&w);
    pd_jw_key(&w, "traceEvents");
    pd_jw_array(&w);
    for (size_t i = 0; i < t->n_calls; i++) {
        const struct pd_call_rec *c = &t->calls[i];
        size_t pid = pid_of(t, i);

        if (pid == i + 1)
            name_process(&w, pid, c);
        open_event(&w, "X", c->op, pid, of && of[i] ? of[i]->id : 0);
        pd_jw_put_text(&w, "cat", "call");
        pd_jw_put_int(&w, "ts", c->started_ms * 1000);
        pd_jw_put_int(&w, "dur",
                      c->ended_ms > c->started_ms ? (c->ended_ms - c->started_ms) * 1000 : 0);
        pd_jw_key(&w, "args");
        pd_jw_object(&w);
        pd_jw_put_int(&w, "call", (int64_t)i);
        pd_jw_put_int(&w, "prompt_tokens", (int64_t)c->prompt_tokens);
        pd_jw_put_int(&w, "cached_tokens", (int64_t)c->cached_tokens);
        pd_jw_put_int(&w, "generated_tokens", (int64_t)c->generated_tokens);
        pd_jw_put_text(&w, "outcome", c->outcome);
        pd_jw_end_object(&w);
        pd_jw_end_object(&w);
        drawn += c->generated_tokens;
        if (c->generated_tokens) {
            open_event(&w, "C", "generated tokens", pid, 0);
            pd_jw_put_int(&w, "ts", c->ended_ms * 1000);
            pd_jw_key(&w, "args");
            pd_jw_object(&w);
            pd_jw_put_int(&w, "tokens", (int64_t)drawn);
            pd_jw_end_object(&w);
            pd_jw_end_object(&w);
        }
    }
    for (size_t i = 1; i < t->n_nodes; i++) {
        const struct pd_node_rec *n = &t->nodes[i], *up = parent_of(t, n);

        if (n->call_id >= 0 && up && up != n && up->call_id >= 0 &&
            (uint64_t)n->call_id < t->n_calls && (uint64_t)up->call_id < t->n_calls)
            flow(&w, t, up, n);
    }
    pd_jw_end_array(&w);
    pd_jw_put_text(&w, "displayTimeUnit", "ms");
    pd_jw_end_object(&w);
    pd_buf_addc(out, '\n');
    free(of);
}
