/* An engine elsewhere as a core/generator.h generator: a streamed request a lane.
 *
 * A lane's tokens arrive on the HTTP client's thread, in a draft of its attempt. What ended a line is
 * read off its tokens, on the job's thread, and not taken from the engine's words for it: engines
 * cut, hide and name stops in different ways, but all stop drawing there.
 *
 * Races are decided by logical time: with T the m-th smallest number of tokens after which a lane
 * has ended, all lanes are cut off behind T tokens. It is known as soon as all others have more than
 * T, whichever arrives first. */
#include <stdlib.h>

#include "base/clock.h"
#include "remote/remote_int.h"

#define LANES_MAX   8192                 /* of one job in flight */
#define RAW_MAX     ((size_t)1 << 20)    /* kept of an answer for the record; of more, its beginning */
#define EVENT_MAX   ((size_t)16 << 20)   /* of a streamed answer */
#define RACE_NS     (5 * PD_NS_PER_MS)   /* how soon a race is seen to be decided */

struct pd_gctx {
    int32_t *ids;
    size_t n, cap;
};

struct remote_generator {
    struct pd_generator g;
    struct remote_engine *engine;
    remote_render_fn *render;
    void *render_user;
    struct pd_queue mailbox;
    struct flight *ready; /* to be handed out by wait(), linked by next */
    struct race *races;   /* that are not decided */
};

struct draft { /* the tokens of one attempt */
    struct draft *older;
    atomic_uint n;
    int32_t *ids;
    float logprobs[];
};

struct race {
    struct race *next;
    struct flight **flights;
    size_t n, n_open, n_held; /* lanes; on their way; not released */
    uint32_t m, T;
    bool decided;
};

struct flight { /* what a lane needs */
    struct net_call call;
    struct remote_generator *owner;
    struct pd_lane *lane;
    struct flight *next;
    struct pd_link link; /* in the mailbox */
    struct race *race;
    bool landed; /* its end has been seen on the job's thread */
    struct pd_buf body;
    const char **stops;
    uint32_t max;
    bool clipped; /* max is what the context holds */
    uint32_t k;   /* READ: the position that is asked for */
    float *logits;
    /* the attempt; client's thread, then the job's */
    struct draft *first;
    _Atomic(struct draft *) draft;
    struct answer answer;
    struct net_sse sse;
    struct pd_buf raw, whole; /* all that came; a body that is no stream */
    size_t n_raw;
    struct pd_attempt *attempts;
    uint32_t n_attempts, cap_attempts;
    bool oom;
};

static struct remote_generator *self(struct pd_generator *g)
{
    return pd_container_of(g, struct remote_generator, g);
}

/* ---- contexts ---------------------------------------------------------------------------------- */

static int ctx_new(struct pd_generator *g, struct pd_gctx **out, struct pd_err *err)
{
    struct pd_gctx *c = calloc(1, sizeof *c);

    (void)g;
    if (!c)
        return pd_fail(err, PD_ENOMEM, "out of memory for a context");
    *out = c;
    return 0;
}

static void ctx_free(struct pd_generator *g, struct pd_gctx *c)
{
    (void)g;
    if (c)
        free(c->ids);
    free(c);
}

static int ctx_append(struct pd_generator *g, struct pd_gctx *c, const int32_t *ids, size_t n,
                      struct pd_err *err)
{
    (void)g;
    if (c->n + n > c->cap) {
        size_t cap = 2 * c->cap > c->n + n ? 2 * c->cap : c->n + n;
        int32_t *grown = realloc(c->ids, cap * sizeof *grown);

        if (!grown)
            return pd_fail(err, PD_ENOMEM, "out of memory for a context");
        c->ids = grown;
        c->cap = cap;
    }
    if (n)
        memcpy(c->ids + c->n, ids, n * sizeof *ids);
    c->n += n;
    return 0;
}

static int ctx_fork(struct pd_generator *g, struct pd_gctx *c, struct pd_gctx **out,
                    struct pd_err *err)
{
    struct pd_gctx *f = NULL;
    int rc = ctx_new(g, &f, err);

    if (rc == 0)
        rc = ctx_append(g, f, c->ids, c->n, err);
    if (rc == 0)
        *out = f;
    else
        ctx_free(g, f);
    return rc;
}

static int ctx_rollback(struct pd_generator *g, struct pd_gctx *c, size_t n, struct pd_err *err)
{
    (void)g;
    if (n > c->n)
        return pd_fail(err, PD_EINVAL, "a context of %zu tokens cannot go back to %zu", c->n, n);
    c->n = n;
    return 0;
}

static size_t ctx_n_tokens(struct pd_generator *g, const struct pd_gctx *c)
{
    (void)g;
    return c->n;
}

/* ---- texts ------------------------------------------------------------------------------------- */

static int render(struct remote_generator *r, const struct pd_chat *c, int32_t **ids, size_t *n,
                  struct pd_err *err)
{
    struct pd_buf text = PD_BUF_INIT(REMOTE_REQUEST_MAX);
    int rc = r->engine->dialect->chats
                 ? pd_fail(err, PD_EINVAL,
                           "engine '%s' speaks dialect %s, which renders chats itself: no chat "
                           "template can be named",
                           r->engine->config.name, r->engine->dialect->name)
                 : r->render(r->render_user, c, &text, err);

    if (rc == 0)
        rc = remote_tokenize(r->engine, pd_buf_str(&text), true, false, ids, n, err);
    pd_buf_done(&text);
    return rc;
}

static int chat(struct pd_generator *g, const struct pd_chat *c, int32_t **ids, size_t *n,
                struct pd_err *err)
{
    struct remote_generator *r = self(g);
    int32_t *grown;

    if (c->text.ptr && !r->engine->dialect->chats)
        return remote_tokenize(r->engine, c->text, true, true, ids, n, err);
    if (!c->n_ids || r->engine->dialect->chats)
        return r->render ? render(r, c, ids, n, err) : remote_chat(r->engine, c, ids, n, err);
    grown = realloc(*ids, (*n + c->n_ids) * sizeof *grown);
    if (!grown)
        return pd_fail(err, PD_ENOMEM, "out of memory");
    memcpy(grown + *n, c->ids, c->n_ids * sizeof *grown);
    *ids = grown;
    *n += c->n_ids;
    return 0;
}

static int tokenize(struct pd_generator *g, struct pd_str text, int32_t **ids, size_t *n,
                    struct pd_err *err)
{
    return remote_tokenize(self(g)->engine, text, false, false, ids, n, err);
}

static int detokenize(struct pd_generator *g, const int32_t *ids, size_t n, struct pd_buf *out,
                      struct pd_err *err)
{
    return remote_detokenize(self(g)->engine, ids, n, out, err);
}

static int32_t find_token(struct pd_generator *g, const char *text)
{
    int32_t *ids = NULL, id = REMOTE_NO_TOKEN;
    size_t n = 0;

    if (!self(g)->engine->dialect->chats &&
        remote_tokenize(self(g)->engine, pd_str_of(text), true, false, &ids, &n, NULL) == 0 &&
        n == 1)
        id = ids[0];
    free(ids);
    return id;
}

static uint32_t n_ctx(struct pd_generator *g)
{
    return self(g)->engine->n_ctx;
}

/* ---- an attempt, on the client's thread ---------------------------------------------------------
 */

static int on_value(struct flight *f, struct pd_str text)
{
    struct pd_json *v = NULL;
    struct pd_err err;
    int rc = pd_json_parse(text, &v, &err);

    if (rc < 0)
        rc = answer_nonsense(&f->answer, err.text);
    else
        rc = f->owner->engine->dialect->take(&f->answer, v);
    if (rc == 0 && f->lane->op == PD_LANE_READ)
        rc = f->owner->engine->dialect->take_top(
            f->owner->engine, v, f->lane->labels, f->lane->n_labels,
            f->logits + (size_t)f->k * f->lane->n_labels, &f->call.err);
    pd_json_free(v);
    return rc;
}

static int on_event(void *user, const struct net_sse_event *e)
{
    /* an error says what it is: the type tells nothing more */
    return e->data.len == 0 || pd_str_eq(e->data, PD_STR("[DONE]")) ? 0 : on_value(user, e->data);
}

static bool is_stream(const struct flight *f)
{
    return strcmp(f->call.content_type, "text/event-stream") == 0;
}

static void begin(struct net_call *call)
{
    struct flight *f = pd_container_of(call, struct flight, call);
    struct draft *d = atomic_load(&f->draft);

    if (f->lane->op == PD_LANE_READ) {
        atomic_store(&d->n, 0);
    } else if (call->attempt > 1) { /* the job's thread may look at the last one's */
        d = calloc(1, sizeof *d + ((size_t)f->max + 1) * sizeof(float));
        if (d)
            d->ids = malloc(((size_t)f->max + 1) * sizeof *d->ids);
        if (!d || !d->ids) {
            free(d);
            f->oom = true; /* seen with the first bytes */
            return;
        }
        d->older = atomic_load(&f->draft);
        atomic_store(&f->draft, d);
    }
    pd_buf_done(&f->answer.text);
    f->answer = (struct answer){.engine = f->owner->engine,
                                .ids = d->ids,
                                .logprobs = d->logprobs,
                                .max = f->max,
                                .n = &d->n,
                                .text = PD_BUF_INIT(NET_BODY_MAX),
                                .err = &call->err};
    net_sse_done(&f->sse);
    net_sse_init(&f->sse, EVENT_MAX, on_event, f);
    pd_buf_done(&f->raw);
    pd_buf_done(&f->whole);
    f->raw = (struct pd_buf)PD_BUF_INIT(RAW_MAX);
    f->whole = (struct pd_buf)PD_BUF_INIT(NET_BODY_MAX);
}

static int data(struct net_call *call, struct pd_str bytes)
{
    struct flight *f = pd_container_of(call, struct flight, call);
    int rc;

    if (f->oom)
        return pd_fail(&call->err, PD_ENOMEM, "out of memory for an answer");
    pd_buf_adds(&f->raw, pd_str_sub(bytes, 0, RAW_MAX - f->raw.len));
    if (is_stream(f)) {
        rc = net_sse_add(&f->sse, bytes);
        if (rc == PD_ELIMIT && call->err.code == PD_OK)
            pd_fail(&call->err, rc, "a part of its answer is longer than %zu MiB",
                    EVENT_MAX >> 20);
        return rc;
    }
    if (strcmp(call->content_type, "application/json") != 0)
        return pd_fail(&call->err, PD_EREMOTE, "its answer is '%s', neither JSON nor events",
                       call->content_type);
    return pd_buf_adds(&f->whole, bytes) < 0
               ? pd_fail(&call->err, PD_ELIMIT, "its answer is too large")
               : 0;
}

static void note_attempt(struct flight *f)
{
    const struct net_call *call = &f->call;
    struct pd_attempt *a;

    if (f->n_attempts == f->cap_attempts) {
        uint32_t cap = f->cap_attempts ? 2 * f->cap_attempts : 1;
        struct pd_attempt *grown = realloc(f->attempts, cap * sizeof *grown);

        if (!grown) {
            f->oom = true;
            return;
        }
        f->attempts = grown;
        f->cap_attempts = cap;
    }
    net_host_redact(f->owner->engine->host, &f->raw);
    a = &f->attempts[f->n_attempts++];
    *a = (struct pd_attempt){.number = call->attempt,
                             .http = (int)call->status,
                             .n_prompt = f->answer.counted ? f->answer.n_prompt : 0,
                             .n_cached = f->answer.n_cached,
                             .n_generated = f->answer.n ? atomic_load(f->answer.n) : 0,
                             .started_ms = call->started_ms,
                             .first_ms = call->first_ms,
                             .ended_ms = call->ended_ms};
    if (call->err.code != PD_OK && !(a->error = strdup(call->err.text)))
        f->oom = true;
    a->request = (struct pd_str){pd_str_dup(pd_buf_str(&f->body)), f->body.len};
    a->response.len = f->raw.len;
    a->response.ptr = pd_buf_take(&f->raw);
    if (!a->request.ptr || !a->response.ptr)
        f->oom = true;
    f->raw = (struct pd_buf)PD_BUF_INIT(RAW_MAX);
    if (a->n_cached > a->n_prompt)
        a->n_cached = a->n_prompt;
}

static void put_body(struct flight *f);

/* A server that knows max_tokens by its newer name only says so. */
static bool wants_new_name(const struct flight *f)
{
    struct remote_engine *e = f->owner->engine;

    return e->dialect->chats && f->call.status == 400 && !atomic_load(&e->new_name) &&
           strstr(f->call.err.text, "max_completion_tokens");
}

static enum net_verdict end(struct net_call *call, enum net_verdict verdict)
{
    struct flight *f = pd_container_of(call, struct flight, call);
    struct answer *a = &f->answer;
    bool spoiled = call->err.code == PD_ENOMEM || call->err.code == PD_ELIMIT;

    if (call->err.code == PD_OK && f->whole.len)
        on_value(f, pd_buf_str(&f->whole));
    if (call->err.code == PD_ECANCEL || spoiled) {
        verdict = NET_DONE;
    } else if (call->status == 200 && a->end != ANSWER_OPEN && !a->again &&
               (call->err.code == PD_OK || verdict == NET_AGAIN)) {
        call->err.code = PD_OK; /* whole, even if the connection broke off behind it */
        verdict = NET_DONE;
    } else if (call->err.code == PD_OK) {
        pd_fail(&call->err, PD_EREMOTE, "engine '%s': its answer ended before its last part",
                f->owner->engine->config.name);
        verdict = NET_AGAIN;
    } else if (a->again) {
        verdict = NET_AGAIN;
    } else if (wants_new_name(f)) {
        verdict = NET_AGAIN;
    }
    note_attempt(f);
    if (verdict == NET_AGAIN && wants_new_name(f)) {
        atomic_store(&f->owner->engine->new_name, true);
        put_body(f);
        call->body = pd_buf_str(&f->body);
    }
    return verdict;
}

static void done(struct net_call *call)
{
    struct flight *f = pd_container_of(call, struct flight, call);

    if (call->err.code == PD_OK && f->lane->op == PD_LANE_READ && ++f->k < f->lane->n_at) {
        put_body(f);
        call->body = pd_buf_str(&f->body);
        net_call_start(f->owner->engine->host, call);
        return;
    }
    /* the mailbox holds more than submit lets out: it cannot be full */
    pd_queue_push(&f->owner->mailbox, &f->link);
}

/* ---- lanes, on the job's thread -----------------------------------------------------------------
 */

static void put_body(struct flight *f)
{
    static const struct pd_sampling greedy = {.top_p = 1};
    const struct pd_lane *p = f->lane;
    bool reads = p->op == PD_LANE_READ;
    struct ask ask = {.ids = p->ctx->ids,
                      .n_ids = reads ? (size_t)p->at[f->k] + 1 : p->ctx->n,
                      .max_tokens = f->max,
                      .key = p->key,
                      .sampling = reads ? &greedy : p->sampling,
                      .stops = f->stops,
                      .n_top = reads ? f->owner->engine->dialect->n_top_max : 0};
    struct pd_jw w;

    pd_buf_clear(&f->body);
    pd_jw_init(&w, &f->body);
    pd_jw_object(&w);
    f->owner->engine->dialect->put_ask(f->owner->engine, &ask, &w);
    pd_jw_end_object(&w);
}

/* What the dialect, or any engine elsewhere, cannot do. */
static int check_lane(const struct remote_generator *r, const struct pd_lane *p, struct pd_err *err)
{
    const struct dialect *d = r->engine->dialect;
    const struct pd_sampling *s = p->sampling;
    const char *what = NULL;

    if (p->op == PD_LANE_READ && !d->n_top_max)
        what = "readings of what would come next";
    else if (p->op == PD_LANE_GENERATE && (s->presence_penalty != 0 || s->frequency_penalty != 0))
        what = "penalties that count a whole line";
    else if (p->op == PD_LANE_GENERATE && s->n_top)
        what = "top_logprobs";
    else if (p->op == PD_LANE_GENERATE && s->confidence.top)
        what = "confidences of tokens";
    else if (p->form)
        what = "answers of a given form (a schema or a grammar)";
    else if (p->op == PD_LANE_GENERATE && d->chats && p->stop)
        what = "searches by steps, only whole answers";
    else if (p->op == PD_LANE_GENERATE && d->chats && p->ctx->n != 1)
        what = "answers that are gone on with, only whole ones";
    else if (p->op == PD_LANE_GENERATE && d->chats && (s->top_k || s->min_p > 0 || s->n_bias))
        what = "top_k, min_p and logit_bias";
    return what ? pd_fail(err, PD_EINVAL, "engine '%s' (dialect %s) has no %s",
                          r->engine->config.name, d->name, what)
                : 0;
}

static void draft_free(struct draft *d)
{
    while (d) {
        struct draft *older = d->older;

        free(d->ids);
        free(d);
        d = older;
    }
}

static void race_drop(struct race *r)
{
    if (r && --r->n_held == 0) {
        free(r->flights);
        free(r);
    }
}

static void release(struct pd_generator *g, struct pd_lane *lane)
{
    struct flight *f = lane->impl;

    (void)g;
    if (!f)
        return;
    for (uint32_t i = 0; i < f->n_attempts; i++) {
        free((char *)(uintptr_t)f->attempts[i].request.ptr);
        free((char *)(uintptr_t)f->attempts[i].response.ptr);
        free((char *)(uintptr_t)f->attempts[i].error);
    }
    free(f->attempts);
    draft_free(atomic_load(&f->draft));
    net_sse_done(&f->sse);
    pd_buf_done(&f->answer.text);
    pd_buf_done(&f->raw);
    pd_buf_done(&f->whole);
    pd_buf_done(&f->body);
    free(f->stops);
    free(f->logits);
    race_drop(f->race);
    free(f);
    lane->impl = NULL;
    lane->tokens = NULL;
    lane->logprobs = lane->logits = NULL;
    lane->attempts = NULL;
    lane->n_attempts = 0;
}

/* The lane's stop strings in one list: those of the line go first. */
static const char **list_stops(const struct pd_lane *p)
{
    size_t n = 0, k = 0;
    const char **list;

    while (p->line_stops && p->line_stops[n])
        n++;
    list = calloc(n + 2, sizeof *list);
    for (; list && k < n; k++)
        list[k] = p->line_stops[k];
    if (list)
        list[k] = p->stop;
    return list;
}

static int flight_new(struct remote_generator *r, struct pd_lane *p, struct race *race,
                      struct pd_err *err)
{
    struct flight *f = calloc(1, sizeof *f);
    size_t room = r->engine->n_ctx > p->ctx->n ? r->engine->n_ctx - p->ctx->n : 0;

    if (!f)
        return pd_fail(err, PD_ENOMEM, "out of memory for a lane");
    p->impl = f;
    f->owner = r;
    f->lane = p;
    f->race = race;
    if (race) {
        race->n_held++;
        race->flights[race->n++] = f;
    }
    f->clipped = p->op == PD_LANE_GENERATE && p->max_tokens > room;
    f->max = p->op == PD_LANE_READ ? 1 : f->clipped ? (uint32_t)room : p->max_tokens;
    f->body = (struct pd_buf)PD_BUF_INIT(REMOTE_REQUEST_MAX);
    f->stops = list_stops(p);
    f->first = calloc(1, sizeof *f->first + ((size_t)f->max + 1) * sizeof(float));
    if (f->first)
        f->first->ids = malloc(((size_t)f->max + 1) * sizeof(int32_t));
    atomic_store(&f->draft, f->first);
    if (p->op == PD_LANE_READ)
        f->logits = calloc((size_t)p->n_at * p->n_labels + 1, sizeof(float));
    if (!f->stops || !f->first || !f->first->ids || (p->op == PD_LANE_READ && !f->logits))
        return pd_fail(err, PD_ENOMEM, "out of memory for a lane");
    p->tokens = f->first->ids;
    p->logprobs = f->first->logprobs;
    f->call.path = r->engine->by_openai ? "/v1/completions" : r->engine->dialect->generate_path;
    f->call.begin = begin;
    f->call.data = data;
    f->call.end = end;
    f->call.done = done;
    if (p->op == PD_LANE_PREFILL || f->max == 0 || (p->op == PD_LANE_READ && !p->n_at))
        return 0;
    put_body(f);
    f->call.body = pd_buf_str(&f->body);
    return pd_buf_rc(&f->body) < 0 ? pd_fail(err, PD_ELIMIT, "a prompt is too long to be sent") : 0;
}

static int submit(struct pd_generator *g, struct pd_lane *const *lanes, size_t n,
                  struct pd_err *err)
{
    struct remote_generator *r = self(g);
    struct race *race = NULL;
    int rc = 0;

    if (n > LANES_MAX)
        rc = pd_fail(err, PD_ELIMIT, "%zu lanes at once are too many (most: %d)", n, LANES_MAX);
    for (size_t i = 0; i < n && rc == 0; i++) {
        lanes[i]->impl = NULL;
        rc = check_lane(r, lanes[i], err);
    }
    if (rc == 0 && n && lanes[0]->race_m) {
        race = calloc(1, sizeof *race);
        if (race)
            race->flights = calloc(n, sizeof(struct flight *));
        if (!race || !race->flights) {
            free(race);
            return pd_fail(err, PD_ENOMEM, "out of memory for a race");
        }
        race->m = lanes[0]->race_m;
        race->n_open = n;
        race->n_held = 1;
    }
    for (size_t i = 0; i < n && rc == 0; i++) {
        lanes[i]->started_ms = pd_clock_unix_ms();
        rc = flight_new(r, lanes[i], race, err);
    }
    if (rc < 0) {
        for (size_t i = 0; i < n; i++)
            release(g, lanes[i]);
        race_drop(race);
        return rc;
    }
    if (race) {
        race->next = r->races;
        r->races = race;
    }
    for (size_t i = 0; i < n; i++) {
        struct flight *f = lanes[i]->impl;

        if (f->call.body.ptr)
            net_call_start(r->engine->host, &f->call);
        else
            pd_queue_push(&r->mailbox, &f->link);
    }
    return 0;
}

/* ---- what ended a line -------------------------------------------------------------------------- */

/* Whether one of the strings ends in the text behind byte `from`. */
static bool stops_in(struct pd_str text, size_t from, const char *stop)
{
    struct pd_str s = pd_str_of(stop);
    size_t begin = from + 1 > s.len ? from + 1 - s.len : 0;

    return pd_str_find(pd_str_sub(text, begin, text.len), s) >= 0;
}

/* How many of n tokens the line has, and what ended it: 0 when none of them did. */
static int find_end(struct flight *f, const int32_t *ids, uint32_t n, uint32_t *out_n,
                    enum pd_lane_end *out_end, struct pd_err *err)
{
    const struct pd_lane *p = f->lane;
    struct remote_engine *e = f->owner->engine;
    struct pd_buf text = PD_BUF_INIT(NET_BODY_MAX);
    bool spelled = f->stops[0] != NULL, found = false;
    size_t own;
    int rc = 0;

    pd_buf_adds(&text, p->line_stops ? p->before : PD_STR(""));
    own = text.len;
    for (uint32_t i = 0; i < n && !found && rc == 0; i++) {
        size_t from = text.len;

        *out_n = i + 1;
        if (ids[i] == e->eos && e->eos != REMOTE_NO_TOKEN) {
            *out_end = PD_END_EOS;
            found = true;
            break;
        }
        rc = spelled ? remote_spell(e, ids[i], &text, err) : 0;
        for (const char *const *s = p->line_stops; s && *s && rc == 0 && !found; s++) {
            found = stops_in(pd_buf_str(&text), from, *s);
            *out_end = PD_END_LINE;
        }
        if (rc == 0 && !found && p->stop) {
            found = stops_in(pd_str_sub(pd_buf_str(&text), own, text.len), from - own, p->stop);
            *out_end = PD_END_STOP;
        }
    }
    pd_buf_done(&text);
    return rc < 0 ? rc : found;
}

/* An engine streams no token that is only a part of a character, so that their ids are missing: the
 * text is spelled anew, and the log-probabilities of what is spelled otherwise are not known. */
static int spell_anew(struct flight *f, struct draft *d, uint32_t *io_n, struct pd_err *err)
{
    struct answer *a = &f->answer;
    int32_t *ids = NULL;
    size_t n = 0, head = 0, tail = 0, old = *io_n, last;
    float *lp;
    int rc;

    last = old && d->ids[old - 1] == a->engine->eos; /* the end token has no text */
    if (a->end == ANSWER_STOPPED && !last && f->lane->stop)
        pd_buf_addz(&a->text, f->lane->stop); /* which was cut off */
    rc = remote_tokenize(a->engine, pd_buf_str(&a->text), true, false, &ids, &n, err);
    if (rc == 0 && n + last > f->max)
        n = f->max - last;
    lp = rc == 0 ? calloc(n + 2, sizeof *lp) : NULL;
    if (rc == 0 && !lp)
        rc = pd_fail(err, PD_ENOMEM, "out of memory for an answer");
    if (rc == 0) {
        while (head < n && head < old - last && ids[head] == d->ids[head])
            lp[head] = d->logprobs[head], head++;
        while (head + tail < n && head + tail < old - last &&
               ids[n - 1 - tail] == d->ids[old - last - 1 - tail])
            lp[n - 1 - tail] = d->logprobs[old - last - 1 - tail], tail++;
        if (last)
            lp[n] = d->logprobs[old - 1];
        memcpy(d->ids, ids, n * sizeof *ids);
        if (last)
            d->ids[n] = a->engine->eos;
        memcpy(d->logprobs, lp, (n + last) * sizeof *lp);
        *io_n = (uint32_t)(n + last);
    }
    free(lp);
    free(ids);
    return rc;
}

static int settle_answer(struct flight *f, struct draft *d, struct pd_err *err)
{
    struct pd_lane *p = f->lane;
    struct answer *a = &f->answer;
    struct remote_engine *e = a->engine;
    uint32_t n = atomic_load(&d->n);
    int rc = 0;

    if (e->dialect == &dialect_llama_server && a->counted && a->n_generated > n)
        rc = spell_anew(f, d, &n, err);
    if (rc == 0)
        rc = find_end(f, d->ids, n, &p->n_tokens, &p->end, err);
    if (rc != 0)
        return rc < 0 ? rc : 0;
    p->n_tokens = n;
    if (a->end == ANSWER_LENGTH || (n >= f->max && a->end != ANSWER_EOS)) {
        p->end = f->clipped ? PD_END_CTX : PD_END_LENGTH;
    } else if (e->eos != REMOTE_NO_TOKEN && (a->end == ANSWER_EOS || e->dialect->chats)) {
        d->ids[n] = e->eos; /* it was not told */
        d->logprobs[n] = 0;
        p->n_tokens++;
        p->end = PD_END_EOS;
    } else if (n && (a->end == ANSWER_EOS || !f->stops[0])) {
        p->end = PD_END_EOS; /* whichever token it is */
    } else {
        return pd_fail(err, PD_EREMOTE,
                       "engine '%s': its answer was stopped, but nothing in it says by what",
                       e->config.name);
    }
    return 0;
}

/* A lane whose last request is over. */
static void settle(struct flight *f)
{
    struct pd_lane *p = f->lane;
    struct draft *d = atomic_load(&f->draft);
    int rc = 0;

    f->landed = true;
    p->ended_ms = pd_clock_unix_ms();
    p->tokens = d->ids;
    p->logprobs = d->logprobs;
    p->n_tokens = 0;
    p->end = PD_END_LENGTH;
    if (p->op == PD_LANE_READ)
        p->logits = f->logits;
    if (!f->call.body.ptr) {
        p->end = p->op == PD_LANE_GENERATE ? PD_END_CTX : PD_END_LENGTH;
        return;
    }
    if (f->oom) {
        rc = pd_fail(&p->err, PD_ENOMEM, "out of memory for an answer");
    } else if (f->call.err.code == PD_ECANCEL) {
        p->n_tokens = p->op == PD_LANE_GENERATE && f->n_attempts ? atomic_load(&d->n) : 0;
        p->end = PD_END_CANCEL;
    } else if (f->call.err.code != PD_OK) {
        p->err = f->call.err;
        rc = p->err.code;
    } else if (p->op == PD_LANE_GENERATE) {
        rc = settle_answer(f, d, &p->err);
    }
    if (rc < 0)
        p->end = PD_END_ERROR;
    p->attempts = f->attempts;
    p->n_attempts = f->n_attempts;
    if (f->n_attempts) {
        p->n_prompt = (uint32_t)f->attempts[f->n_attempts - 1].n_prompt;
        p->n_cached = (uint32_t)f->attempts[f->n_attempts - 1].n_cached;
    }
}

/* What was drawn and does not count. */
static void count_overrun(struct flight *f)
{
    struct pd_attempt *last = f->n_attempts ? &f->attempts[f->n_attempts - 1] : NULL;

    if (!last || f->lane->op != PD_LANE_GENERATE || f->lane->end == PD_END_ERROR)
        return;
    f->lane->n_overrun = last->n_generated > f->lane->n_tokens
                             ? (uint32_t)(last->n_generated - f->lane->n_tokens)
                             : 0;
    last->n_generated = f->lane->n_tokens;
}

/* ---- races -------------------------------------------------------------------------------------- */

static void hand_out(struct remote_generator *r, struct flight *f)
{
    struct flight **at = &r->ready;

    while (*at)
        at = &(*at)->next;
    f->next = NULL;
    *at = f;
}

/* A lane of a race that has been decided: cut off where the race ended. */
static void cut(struct remote_generator *r, struct flight *f)
{
    struct pd_lane *p = f->lane;

    if (p->end != PD_END_ERROR && p->n_tokens > f->race->T) {
        p->n_tokens = f->race->T;
        p->end = PD_END_RACE;
    }
    hand_out(r, f);
}

static bool has_ended(const struct flight *f)
{
    enum pd_lane_end end = f->lane->end;

    return f->landed && (end == PD_END_EOS || end == PD_END_STOP || end == PD_END_LINE);
}

/* The m-th smallest length of a lane that has ended; UINT32_MAX: fewer have. */
static uint32_t mth_length(const struct race *race)
{
    uint32_t T = 0;

    for (size_t count = 0; count < race->m;) { /* the next greater length, until m have it */
        uint32_t next = UINT32_MAX;
        size_t more = 0;

        for (size_t i = 0; i < race->n; i++) {
            const struct flight *f = race->flights[i];

            if (has_ended(f) && f->lane->n_tokens >= T + (count > 0) && f->lane->n_tokens < next)
                next = f->lane->n_tokens;
        }
        if (next == UINT32_MAX)
            return next;
        for (size_t i = 0; i < race->n; i++)
            more += has_ended(race->flights[i]) && race->flights[i]->lane->n_tokens == next;
        T = next;
        count += more;
    }
    return T;
}

static bool decide(struct remote_generator *r, struct race *race)
{
    uint32_t T = mth_length(race);

    if (T == UINT32_MAX && race->n_open)
        return false;
    for (size_t i = 0; i < race->n; i++) {
        struct flight *f = race->flights[i];

        if (!f->landed && atomic_load(&atomic_load(&f->draft)->n) <= T)
            return false; /* it may still end as soon as that */
    }
    race->T = T;
    race->decided = true;
    for (size_t i = 0; i < race->n; i++) {
        if (race->flights[i]->landed)
            cut(r, race->flights[i]);
        else
            net_call_cancel(&race->flights[i]->call);
    }
    return true;
}

static void judge_races(struct remote_generator *r)
{
    for (struct race **at = &r->races; *at;) {
        struct race *race = *at;

        if (!decide(r, race)) {
            at = &race->next;
            continue;
        }
        *at = race->next;
        race_drop(race);
    }
}

/* ---- waiting ------------------------------------------------------------------------------------ */

static int wait_one(struct pd_generator *g, int64_t deadline_ns, struct pd_lane **out)
{
    struct remote_generator *r = self(g);

    for (;;) {
        int64_t now = pd_clock_now_ns(), until = deadline_ns;
        struct pd_link *link;
        struct flight *f;
        int rc;

        judge_races(r);
        if (r->ready) {
            f = r->ready;
            r->ready = f->next;
            count_overrun(f);
            if (f->lane->op == PD_LANE_GENERATE && f->lane->end != PD_END_ERROR &&
                ctx_append(g, f->lane->ctx, f->lane->tokens, f->lane->n_tokens, &f->lane->err) < 0)
                f->lane->end = PD_END_ERROR;
            *out = f->lane;
            return 0;
        }
        if (r->races && now + RACE_NS < until)
            until = now + RACE_NS;
        rc = pd_queue_pop_wait(&r->mailbox, until, &link);
        if (rc == PD_ETIMEOUT && until < deadline_ns)
            continue;
        if (rc < 0)
            return rc;
        f = pd_container_of(link, struct flight, link);
        settle(f);
        if (f->race && !f->race->decided)
            f->race->n_open--;
        else if (f->race)
            cut(r, f);
        else
            hand_out(r, f);
    }
}

static void cancel(struct pd_generator *g, struct pd_lane *lane)
{
    struct flight *f = lane->impl;

    (void)g;
    if (f && f->call.body.ptr && !f->landed)
        net_call_cancel(&f->call);
}

static uint32_t progress(struct pd_generator *g, const struct pd_lane *lane)
{
    const struct flight *f = lane->impl;

    (void)g;
    return f && f->first ? atomic_load_explicit(&f->first->n, memory_order_acquire) : 0;
}

static void gen_free(struct pd_generator *g)
{
    pd_queue_done(&self(g)->mailbox);
    free(self(g));
}

static const struct pd_generator_ops ops = {
    .chat = chat,
    .tokenize = tokenize,
    .detokenize = detokenize,
    .find_token = find_token,
    .n_ctx = n_ctx,
    .ctx_new = ctx_new,
    .ctx_free = ctx_free,
    .ctx_fork = ctx_fork,
    .ctx_append = ctx_append,
    .ctx_rollback = ctx_rollback,
    .ctx_n_tokens = ctx_n_tokens,
    .ctx_n_cached = ctx_n_tokens, /* nothing is to be evaluated before a lane is asked for */
    .submit = submit,
    .wait = wait_one,
    .cancel = cancel,
    .progress = progress,
    .release = release,
    .free = gen_free,
};

int remote_generator_new(struct remote_engine *e, const char *name, remote_render_fn *render_fn,
                         void *user, struct pd_generator **out, struct pd_err *err)
{
    struct remote_generator *r;
    int rc = remote_probe(e, err);

    if (rc < 0)
        return rc;
    r = calloc(1, sizeof *r);
    if (!r || pd_queue_init(&r->mailbox, LANES_MAX) < 0) {
        free(r);
        return pd_fail(err, PD_ENOMEM, "out of memory for model '%s'", name);
    }
    r->g = (struct pd_generator){
        .ops = &ops, .name = name, .engine = e->config.name, .dialect = e->dialect->name};
    r->engine = e;
    r->render = render_fn;
    r->render_user = user;
    *out = &r->g;
    return 0;
}
