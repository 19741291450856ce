/* What all verbs stand on: memory, chance, the records of calls and events, and the wait for lanes
 * in which cancel and deadline are honoured. On the job's thread. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/rng.h"
#include "core/search_int.h"

#define DECISION_MAX_BYTES ((size_t)16 << 20)
#define POLL_NS            (50 * PD_NS_PER_MS) /* how soon a cancel or a deadline is seen while waiting */
#define LISTEN_NS          (10 * PD_NS_PER_MS) /* how soon what was drawn is heard */

void *search_alloc(struct search *s, size_t bytes)
{
    void *p = pd_arena_alloc(s->arena, bytes ? bytes : 1);

    if (!p) { /* the job ends with PD_ENOMEM at its next verb; until then the strategy needs
                 something to hold */
        s->oom = true;
        p = calloc(1, bytes ? bytes : 1);
        if (!p)
            abort();
    }
    return p;
}

void *search_room(struct search *s, void *items, size_t n, size_t *cap, size_t bytes)
{
    void *grown;

    if (n < *cap)
        return items;
    *cap = *cap ? 2 * *cap : 64;
    grown = search_alloc(s, *cap * bytes);
    if (n)
        memcpy(grown, items, n * bytes);
    return grown;
}

struct node **search_array(struct search *s, int n)
{
    return search_alloc(s, (size_t)(n > 0 ? n : 1) * sizeof(struct node *));
}

struct node *search_root(struct search *s)
{
    return s->nodes[0];
}

double search_random(struct search *s)
{
    return pd_rng_uniform(s->search_key, s->decisions++, 0);
}

int search_max_steps(const struct search *s)
{
    return s->job->common.max_steps;
}

struct pd_str search_question(const struct search *s)
{
    return pd_str_of(s->job->question);
}

uint64_t search_spent(const struct search *s)
{
    return s->spent;
}

double search_temperature(const struct search *s)
{
    return s->temperature;
}

void search_set_temperature(struct search *s, double temperature)
{
    s->temperature = temperature;
}

void search_set_confidence(struct search *s, int top, int window, double least)
{
    s->confidence = (struct pd_confidence){(uint32_t)top, (uint32_t)window, least};
}

int search_event(struct search *s, const char *type, const char *json, struct pd_err *err)
{
    const struct pd_sink *sink = s->job->sink;
    struct pd_event_rec e = {s->n_events + 1, pd_clock_unix_ms(), type, json};

    s->events = search_room(s, s->events, s->n_events, &s->cap_events, sizeof *s->events);
    s->events[s->n_events++] = e;
    return sink ? sink->event(sink->self, s->job->id, &e, err) : 0;
}

struct pd_jw *search_decide(struct search *s, const char *kind)
{
    s->decision = (struct pd_buf)PD_BUF_INIT(DECISION_MAX_BYTES);
    pd_jw_init(&s->decision_jw, &s->decision);
    pd_jw_object(&s->decision_jw);
    pd_jw_key(&s->decision_jw, "kind");
    pd_jw_strz(&s->decision_jw, kind);
    return &s->decision_jw;
}

int search_decided(struct search *s, struct pd_err *err)
{
    const char *json;
    int rc;

    pd_jw_end_object(&s->decision_jw);
    json = pd_arena_dup(s->arena, pd_buf_str(&s->decision));
    rc = pd_buf_rc(&s->decision) < 0 || !json
             ? pd_fail(err, PD_ENOMEM, "out of memory for a decision of the search")
             : search_event(s, "decision", json, err);
    pd_buf_done(&s->decision);
    return rc;
}

void search_put_doubles(struct pd_jw *w, const char *key, const double *values, int n)
{
    pd_jw_key(w, key);
    pd_jw_array(w);
    for (int i = 0; i < n; i++)
        pd_jw_double(w, values[i]);
    pd_jw_end_array(w);
}

void search_put_nodes(struct pd_jw *w, const char *key, struct node *const *nodes, int n)
{
    pd_jw_key(w, key);
    pd_jw_array(w);
    for (int i = 0; i < n; i++)
        pd_jw_uint(w, nodes[i]->id);
    pd_jw_end_array(w);
}

bool search_clock_stopped(const struct search *s, const char *type, uint32_t node)
{
    const struct pd_trace *t = s->job->stored;

    for (size_t i = 0; t && i < t->n_events; i++)
        if (strcmp(t->events[i].type, type) == 0 && strtoul(t->events[i].data, NULL, 10) == node)
            return true;
    return false;
}

int search_clock_stop(struct search *s, const char *type, uint32_t node, struct pd_err *err)
{
    char *at = search_alloc(s, 24);

    s->stopped = "seconds";
    snprintf(at, 24, "%" PRIu32, node);
    return search_event(s, type, at, err);
}

int search_call_record(struct search *s, struct pd_call_rec *rec, struct pd_err *err)
{
    const struct pd_sink *sink = s->job->sink;
    uint64_t fresh = rec->prompt_tokens - rec->cached_tokens;

    s->calls = search_room(s, s->calls, s->n_calls, &s->cap_calls, sizeof *s->calls);
    s->calls[s->n_calls++] = *rec;
    s->usage.generated += rec->generated_tokens;
    s->usage.cached += rec->cached_tokens;
    if (strcmp(rec->op, "score") == 0)
        s->usage.scored += fresh;
    else
        s->usage.prefilled += fresh;
    if (sink) {
        int rc = sink->call(sink->self, s->job->id, rec, err);

        if (rc < 0)
            return rc;
    }
    s->calls[s->n_calls - 1].request = s->calls[s->n_calls - 1].response = (struct pd_str){0};
    return (int)(s->n_calls - 1);
}

/* A lane's requests: failed ones have rows of their own, the last one is the lane's. */
static void take_attempt(struct search *s, const struct pd_attempt *a, struct pd_call_rec *r)
{
    r->attempt = a->number;
    r->http = a->http;
    r->request = a->request;
    r->response = a->response;
    r->started_ms = a->started_ms;
    r->first_ms = a->first_ms;
    r->ended_ms = a->ended_ms;
    r->prompt_tokens = a->n_prompt;
    r->cached_tokens = a->n_cached;
    r->generated_tokens = a->n_generated;
    r->error = a->error ? pd_arena_dup(s->arena, pd_str_of(a->error)) : NULL;
    r->outcome = a->error ? "error" : "ok";
}

int search_lane_record(struct search *s, const struct pd_generator *gen, const struct pd_lane *lane,
                       const char *op, const char *model, struct pd_err *err)
{
    struct pd_call_rec r = {.engine = gen->engine ? gen->engine : "local",
                            .dialect = gen->dialect ? gen->dialect : "gguf",
                            .op = op,
                            .model = model,
                            .outcome = "ok",
                            .prompt_tokens = lane->n_prompt,
                            .cached_tokens = lane->n_cached,
                            .generated_tokens = lane->op == PD_LANE_GENERATE ? lane->n_tokens : 0,
                            .started_ms = lane->started_ms,
                            .ended_ms = lane->ended_ms};
    struct pd_call_rec extra = r;
    int rc = 0, index;

    for (uint32_t i = 0; i + 1 < lane->n_attempts && rc >= 0; i++) {
        take_attempt(s, &lane->attempts[i], &extra);
        rc = search_call_record(s, &extra, err);
    }
    if (lane->n_attempts)
        take_attempt(s, &lane->attempts[lane->n_attempts - 1], &r);
    if (lane->end == PD_END_ERROR) {
        r.outcome = "error";
        r.error = pd_arena_dup(s->arena, pd_str_of(lane->err.text));
    } else {
        r.outcome = lane->end == PD_END_CANCEL ? "cancel" : "ok";
        r.error = NULL;
    }
    index = rc < 0 ? rc : search_call_record(s, &r, err);
    if (index >= 0 && lane->n_overrun) {
        extra = (struct pd_call_rec){.engine = r.engine,
                                     .dialect = r.dialect,
                                     .op = "overrun",
                                     .model = model,
                                     .outcome = "ok",
                                     .generated_tokens = lane->n_overrun,
                                     .started_ms = r.started_ms,
                                     .ended_ms = r.ended_ms};
        rc = search_call_record(s, &extra, err);
    }
    return rc < 0 ? rc : index;
}

int search_lane_ended(struct search *s, const struct pd_generator *gen, const struct pd_lane *lane,
                      const char *op, const char *model, struct pd_err *err)
{
    int rc = search_lane_record(s, gen, lane, op, model, err);

    if (rc >= 0 && lane->end == PD_END_ERROR)
        rc = pd_fail(err, lane->err.code, "%s", lane->err.text);
    return rc < 0 ? rc : 0;
}

/* 0 while the job may go on. */
int search_check(struct search *s, struct pd_err *err)
{
    if (s->oom)
        return pd_fail(err, PD_ENOMEM, "out of memory in the search");
    if (atomic_load(&s->job->cancel))
        return pd_fail(err, PD_ECANCEL, "cancelled");
    return 0;
}

int search_run_lanes(struct search *s, struct pd_generator *gen, struct pd_lane *const *lanes,
                     size_t n, bool generating,
                     int (*each)(struct search *, struct pd_lane *, struct pd_err *),
                     void (*live)(struct search *, const struct pd_lane *), struct pd_err *err)
{
    bool heard = live && s->job->listener;
    struct pd_progress *pg = &s->job->progress;
    bool stopping = false, *over = search_alloc(s, n * sizeof *over);
    size_t left = n;
    int rc, first_rc = 0;

    rc = gen->ops->submit(gen, lanes, n, err);
    if (rc < 0)
        return rc;
    atomic_store(&pg->scoring, !generating);
    while (left) {
        struct pd_lane *lane = NULL;
        int64_t now = pd_clock_now_ns();

        rc = gen->ops->wait(gen, now + (heard ? LISTEN_NS : POLL_NS), &lane);
        if (rc == 0) {
            for (size_t i = 0; i < n; i++)
                over[i] |= lanes[i] == lane;
            left--;
            rc = each(s, lane, first_rc ? NULL : err);
            if (rc < 0 && !first_rc) {
                first_rc = rc;
                stopping = false; /* stop the others below */
            }
        }
        for (size_t i = 0; heard && i < n; i++)
            if (!over[i])
                live(s, lanes[i]);
        if (generating) {
            unsigned long long sum = s->usage.generated;

            for (size_t i = 0; i < n; i++)
                sum += over[i] ? 0 : gen->ops->progress(gen, lanes[i]);
            atomic_store(&pg->tokens, sum);
            atomic_store(&pg->live, (unsigned)left);
        }
        if (!stopping && left &&
            (first_rc || atomic_load(&s->job->cancel) || now >= s->deadline_ns)) {
            stopping = true;
            s->timed_out = !first_rc && !atomic_load(&s->job->cancel);
            for (size_t i = 0; i < n; i++)
                if (!over[i])
                    gen->ops->cancel(gen, lanes[i]);
        }
    }
    atomic_store(&pg->scoring, false);
    atomic_store(&pg->live, 0);
    return first_rc ? first_rc : search_check(s, err);
}

int search_end(struct search *s, struct node *node, int rc, struct pd_err *err)
{
    int named = search_answer(s, node, err);

    return named < 0 ? named : rc;
}

int search_abstain(struct search *s, struct pd_err *err)
{
    s->abstained = true;
    return search_answer(s, NULL, err);
}

int search_answer(struct search *s, struct node *n, struct pd_err *err)
{
    s->answer = n;
    s->answered = true;
    return search_check(s, err);
}
