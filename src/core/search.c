/* The verbs of search.h, on the job's thread. All of them go through grow() and score(): a request to the
 * engine for what the trace does not already hold, then a wait in which cancel and deadline are honoured.
 *
 * Invariants: (1) a node's tokens depend on the job's seed and its branch path alone; (2) a verb reserves its
 * tokens before it starts, from what recorded nodes have spent, so that the budget is never exceeded and a
 * resumed job reserves the same; (3) what is recorded is recorded once, complete. */
#include "core/search.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/hash.h"
#include "base/rng.h"
#include "core/answer.h"
#include "core/search_int.h"
#include "core/steps.h"

#define POLL_NS (50 * PD_NS_PER_MS) /* how soon a cancel or a deadline is seen while waiting */

static const struct pd_generator_ops *ops(const struct search *s)
{
    return s->job->gen->ops;
}

uint64_t search_subkey(uint64_t key, uint64_t a, uint64_t b)
{
    uint64_t words[3] = {key, a, b};

    return pd_hash64(words, sizeof words); /* the engine's supported machines are little-endian */
}

void *search_alloc(struct search *s, size_t bytes)
{
    void *p = pd_arena_alloc(s->arena, bytes ? bytes : 1);

    if (!p) { /* the job ends with PD_ENOMEM at its next verb; until then the strategy needs something to hold */
        s->oom = true;
        p = calloc(1, bytes ? bytes : 1);
        if (!p)
            abort();
    }
    return p;
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

double search_temperature(const struct search *s)
{
    return s->job->common.temperature;
}

bool search_finished(const struct node *n)
{
    return n->status == NODE_FINISHED;
}

bool search_open(const struct node *n)
{
    return n->status == NODE_OPEN;
}

bool search_scored(const struct node *n)
{
    return n->scored && n->n_values > 0;
}

const char *search_key(const struct node *n)
{
    return n->answer_key ? n->answer_key : "";
}

double search_value(const struct node *n, enum search_aggregate how)
{
    double v;

    if (!search_scored(n))
        return -1;
    if (how == AGGREGATE_LAST)
        return n->values[n->n_values - 1];
    v = n->values[0];
    for (size_t i = 1; i < n->n_values; i++) {
        double r = n->values[i];

        if (how == AGGREGATE_MIN)
            v = r < v ? r : v;
        else if (how == AGGREGATE_PROD)
            v *= r;
        else
            v += r;
    }
    return how == AGGREGATE_MEAN ? v / (double)n->n_values : v;
}

const char *search_status_name(enum node_status st)
{
    static const char *const names[] = {"open", "finished", "truncated", "failed", "pruned"};

    return names[st];
}

void search_node_drop_ctx(struct search *s, struct node *n)
{
    if (n->ctx)
        ops(s)->ctx_free(s->job->gen, n->ctx);
    n->ctx = NULL;
}

struct pd_str search_line(struct search *s, const struct node *n)
{
    size_t len = 0;
    char *text;

    for (const struct node *p = n; p->parent; p = p->parent)
        len += p->text.len;
    text = search_alloc(s, len + 1);
    for (const struct node *p = n; p->parent; p = p->parent)
        if (p->text.len) /* a cancelled lane has no text yet */
            memcpy(text + (len -= p->text.len), p->text.ptr, p->text.len);
    return pd_str_of(text);
}

struct node *search_node_new(struct search *s, struct node *parent)
{
    struct node *n = search_alloc(s, sizeof *n);

    if (s->n_nodes == s->cap_nodes) {
        uint32_t cap = s->cap_nodes ? 2 * s->cap_nodes : 64;
        struct node **grown = search_alloc(s, cap * sizeof *grown);

        if (s->n_nodes)
            memcpy(grown, s->nodes, s->n_nodes * sizeof *grown);
        s->nodes = grown;
        s->cap_nodes = cap;
    }
    n->id = s->n_nodes;
    s->nodes[s->n_nodes++] = n;
    n->parent = parent;
    n->call = n->score_call = -1;
    n->created_ms = pd_clock_unix_ms();
    if (parent) {
        uint32_t j = parent->n_children++;

        n->depth = parent->depth + 1;
        n->path_tokens = parent->path_tokens;
        /* lane i from the prompt has path (i); child 0 goes on with its parent's key, child j > 0 is new */
        n->key = !parent->parent ? search_subkey(parent->key, 0, j)
                 : j             ? search_subkey(parent->key, parent->depth, j)
                                 : parent->key;
    }
    return n;
}

void search_node_rec(const struct node *n, struct pd_node_rec *out)
{
    *out = (struct pd_node_rec){
        .id = n->id, .parent = n->parent ? n->parent->id : n->id, .depth = n->depth, .step = n->step,
        .status = search_status_name(n->status), .prune_reason = n->prune_reason, .text = n->text,
        .tokens = n->tokens, .logprobs = n->logprobs, .n_tokens = n->n_tokens, .logprob = n->logprob,
        .finish = n->finish, .stop = n->stop, .seed = n->key, .created_ms = n->created_ms, .call_id = n->call};
}

int search_node_record(struct search *s, struct node *n, struct pd_err *err)
{
    const struct pd_sink *sink = s->job->sink;
    struct pd_node_rec r;

    search_node_rec(n, &r);
    return sink ? sink->node(sink->self, s->job->id, &r, err) : 0;
}

static const struct pd_node_rec *stored_node(const struct search *s, uint32_t id)
{
    const struct pd_trace *t = s->job->stored;
    size_t lo = 0, hi = t ? t->n_nodes : 0;

    while (lo < hi) {
        size_t mid = (lo + hi) / 2;

        if (t->nodes[mid].id < id)
            lo = mid + 1;
        else
            hi = mid;
    }
    return t && lo < t->n_nodes && t->nodes[lo].id == id ? &t->nodes[lo] : NULL;
}

static const struct pd_score_rec *stored_score(const struct search *s, uint32_t node_id)
{
    const struct pd_trace *t = s->job->stored;
    size_t lo = 0, hi = t ? t->n_scores : 0;

    while (lo < hi) {
        size_t mid = (lo + hi) / 2;

        if (t->scores[mid].node_id < node_id)
            lo = mid + 1;
        else
            hi = mid;
    }
    return t && lo < t->n_scores && t->scores[lo].node_id == node_id ? &t->scores[lo] : NULL;
}

int search_event(struct search *s, const char *type, const char *json, struct pd_err *err)
{
    const struct pd_sink *sink = s->job->sink;
    struct pd_event_rec e = {s->n_events + 1, pd_clock_unix_ms(), type, json};

    if (s->n_events == s->cap_events) {
        size_t cap = s->cap_events ? 2 * s->cap_events : 16;
        struct pd_event_rec *grown = search_alloc(s, cap * sizeof *grown);

        if (s->n_events)
            memcpy(grown, s->events, s->n_events * sizeof *grown);
        s->events = grown;
        s->cap_events = cap;
    }
    e.data = json;
    s->events[s->n_events++] = e;
    return sink ? sink->event(sink->self, s->job->id, &e, err) : 0;
}

int search_call_record(struct search *s, struct pd_call_rec *rec, struct pd_err *err)
{
    const struct pd_sink *sink = s->job->sink;
    uint64_t fresh = rec->prompt_tokens - rec->cached_tokens;

    if (s->n_calls == s->cap_calls) {
        size_t cap = s->cap_calls ? 2 * s->cap_calls : 64;
        struct pd_call_rec *grown = search_alloc(s, cap * sizeof *grown);

        if (s->n_calls)
            memcpy(grown, s->calls, s->n_calls * sizeof *grown);
        s->calls = grown;
        s->cap_calls = cap;
    }
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
    return (int)(s->n_calls - 1);
}

static int lane_record(struct search *s, const struct pd_lane *lane, const char *op, const char *model,
                       struct pd_err *err)
{
    struct pd_call_rec r = {
        .engine = "local", .dialect = "gguf", .op = op, .model = model,
        .outcome = lane->end == PD_END_ERROR ? "error" : lane->end == PD_END_CANCEL ? "cancel" : "ok",
        .prompt_tokens = lane->n_prompt, .cached_tokens = lane->n_cached,
        .generated_tokens = lane->op == PD_LANE_GENERATE ? lane->n_tokens : 0,
        .started_ms = lane->started_ms, .ended_ms = lane->ended_ms, .error = NULL};

    if (lane->end == PD_END_ERROR)
        r.error = pd_arena_dup(s->arena, pd_str_of(lane->err.text));
    return search_call_record(s, &r, err);
}

/* 0 while the job may go on. */
static int check(struct search *s, struct pd_err *err)
{
    if (s->oom)
        return pd_fail(err, PD_ENOMEM, "out of memory in the search");
    if (atomic_load(&s->job->cancel))
        return pd_fail(err, PD_ECANCEL, "cancelled");
    return 0;
}

/* Submits lanes and waits for all; calls each(s, lane) as they end. On cancel all are stopped and drained. */
static int run_lanes(struct search *s, struct pd_generator *gen, struct pd_lane *const *lanes, size_t n,
                     bool generating, int (*each)(struct search *, struct pd_lane *, struct pd_err *),
                     struct pd_err *err)
{
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

        rc = gen->ops->wait(gen, now + POLL_NS, &lane);
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
        if (generating) {
            unsigned long long sum = s->usage.generated;

            for (size_t i = 0; i < n; i++)
                sum += over[i] ? 0 : gen->ops->progress(gen, lanes[i]);
            atomic_store(&pg->tokens, sum);
            atomic_store(&pg->live, (unsigned)left);
        }
        if (!stopping && left && (first_rc || atomic_load(&s->job->cancel) || now >= s->deadline_ns)) {
            stopping = true;
            if (now >= s->deadline_ns)
                s->stopped = "seconds";
            for (size_t i = 0; i < n; i++)
                if (!over[i])
                    gen->ops->cancel(gen, lanes[i]);
        }
    }
    atomic_store(&pg->scoring, false);
    atomic_store(&pg->live, 0);
    return first_rc ? first_rc : check(s, err);
}

static int each_prefill(struct search *s, struct pd_lane *lane, struct pd_err *err)
{
    int rc = lane_record(s, lane, "prefill", s->job->model, err);

    if (rc >= 0 && lane->end == PD_END_ERROR)
        rc = pd_fail(err, lane->err.code, "%s", lane->err.text);
    s->job->gen->ops->release(s->job->gen, lane);
    return rc < 0 ? rc : 0;
}

/* The context of a node, made again from its ancestors' when it is not at hand. */
static int node_ctx(struct search *s, struct node *n, struct pd_err *err)
{
    int rc;

    if (n->ctx)
        return 0;
    if (!n->parent) {
        rc = ops(s)->ctx_new(s->job->gen, &n->ctx, err);
    } else {
        rc = node_ctx(s, n->parent, err);
        if (rc == 0)
            rc = ops(s)->ctx_fork(s->job->gen, n->parent->ctx, &n->ctx, err);
    }
    if (rc == 0)
        rc = ops(s)->ctx_append(s->job->gen, n->ctx, n->tokens, n->n_tokens, err);
    return rc;
}

/* One child to be made: what grow() knows of it. */
struct sprout {
    struct node *node;
    struct pd_lane lane;
    struct pd_sampling sampling;
    uint32_t cap;    /* most tokens */
    const char *why; /* what the cap was, for stop */
    enum search_until until;
};

static void set_tokens(struct search *s, struct node *n, const int32_t *tokens, const float *logprobs, uint32_t count)
{
    n->tokens = pd_arena_memdup(s->arena, tokens, count * sizeof *tokens);
    n->logprobs = logprobs ? pd_arena_memdup(s->arena, logprobs, count * sizeof *logprobs) : NULL;
    n->n_tokens = count;
    n->logprob = 0;
    for (uint32_t i = 0; logprobs && i < count; i++)
        n->logprob += (double)logprobs[i];
    if (count && (!n->tokens || (logprobs && !n->logprobs)))
        s->oom = true;
}

/* Text, status and answer of a node whose tokens and finish are known. */
static int settle(struct search *s, struct node *n, struct pd_err *err)
{
    struct pd_buf key = PD_BUF_INIT(4096);

    n->path_tokens = (n->parent ? n->parent->path_tokens : 0) + (n->logprobs ? n->n_tokens : 0);
    if (n->logprobs)
        s->spent += n->n_tokens;
    n->step = n->parent ? n->parent->step + 1 : 0;
    pd_answer_key(pd_answer_extract(search_line(s, n)), &key);
    n->answer_key = key.len ? pd_arena_dup(s->arena, pd_buf_str(&key)) : "";
    pd_buf_done(&key);
    if (n->status != NODE_OPEN)
        search_node_drop_ctx(s, n);
    atomic_store(&s->job->progress.nodes, s->n_nodes - 1);
    atomic_store(&s->job->progress.generated, s->spent);
    return s->oom ? pd_fail(err, PD_ENOMEM, "out of memory in the search") : 0;
}

static int node_text(struct search *s, struct node *n, struct pd_err *err)
{
    struct pd_buf text = PD_BUF_INIT(1 << 24);
    uint32_t count = n->n_tokens;
    int rc;

    if (n->finish && strcmp(n->finish, "eos") == 0 && count)
        count--; /* the end token has no text */
    rc = ops(s)->detokenize(s->job->gen, n->tokens, count, &text, err);
    if (rc == 0) {
        struct pd_str t = pd_buf_str(&text);

        n->text = (struct pd_str){pd_arena_dup(s->arena, t), t.len};
        if (!n->text.ptr)
            s->oom = true;
    }
    pd_buf_done(&text);
    return rc;
}

static int serve_stored(struct search *s, struct node *n, const struct pd_node_rec *r, struct pd_err *err)
{
    static const enum node_status all[] = {NODE_OPEN, NODE_FINISHED, NODE_TRUNCATED, NODE_FAILED};

    if (r->seed != n->key || r->parent != (n->parent ? n->parent->id : n->id))
        return pd_fail(err, PD_EDIFFER, "node %" PRIu32 " of the stored trace belongs to another branch", n->id);
    set_tokens(s, n, r->tokens, r->logprobs, r->n_tokens);
    n->text = (struct pd_str){pd_arena_dup(s->arena, r->text), r->text.len};
    n->finish = pd_arena_dup(s->arena, pd_str_of(r->finish));
    n->stop = r->stop ? pd_arena_dup(s->arena, pd_str_of(r->stop)) : NULL;
    n->prune_reason = strcmp(r->status, "failed") == 0 ? pd_arena_dup(s->arena, pd_str_of(r->prune_reason)) : NULL;
    n->status = NODE_TRUNCATED;
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        if (strcmp(r->status, search_status_name(all[i])) == 0)
            n->status = all[i];
    if (strcmp(r->status, "pruned") == 0) /* what it was before: the strategy will prune it again */
        n->status = strcmp(r->finish, "eos") == 0                                    ? NODE_FINISHED
                    : strcmp(r->finish, "cut") == 0 || strcmp(r->finish, "abort") == 0 ? NODE_TRUNCATED
                                                                                     : NODE_OPEN;
    if (n->stop && (strcmp(n->stop, "tokens") == 0 || strcmp(n->stop, "seconds") == 0))
        s->cut = n->stop;
    n->call = r->call_id;
    n->created_ms = r->created_ms;
    return settle(s, n, err);
}

static int differs(struct search *s, const struct node *n, const struct pd_node_rec *r, struct pd_err *err)
{
    uint32_t m = n->n_tokens < r->n_tokens ? n->n_tokens : r->n_tokens;

    (void)s;
    for (uint32_t i = 0; i < m; i++) {
        if (n->tokens[i] != r->tokens[i])
            return pd_fail(err, PD_EDIFFER, "node %" PRIu32 ", token %" PRIu32 ": %" PRId32 " now, %" PRId32 " stored",
                           n->id, i, n->tokens[i], r->tokens[i]);
        if (n->logprobs && r->logprobs && memcmp(&n->logprobs[i], &r->logprobs[i], sizeof(float)) != 0)
            return pd_fail(err, PD_EDIFFER,
                           "node %" PRIu32 ", token %" PRIu32 ": log-probability %.9g now, %.9g stored", n->id, i,
                           (double)n->logprobs[i], (double)r->logprobs[i]);
    }
    if (n->n_tokens != r->n_tokens || strcmp(n->finish, r->finish) != 0)
        return pd_fail(err, PD_EDIFFER, "node %" PRIu32 ": %" PRIu32 " tokens, %s now; %" PRIu32 ", %s stored", n->id,
                       n->n_tokens, n->finish, r->n_tokens, r->finish);
    return 0;
}

/* strategies.md §1.2: an empty step, or the last of `guard` equal ones, is a failed expansion. */
static void guard_step(struct node *n, int guard)
{
    struct pd_str text = pd_str_trim(n->text);
    const struct node *p = n;
    int equal = 0;

    if (text.len == 0) {
        n->status = NODE_FAILED;
        n->prune_reason = "empty_step";
        return;
    }
    for (; equal < guard && p->parent && pd_str_eq(pd_str_trim(p->text), text); p = p->parent)
        equal++;
    if (guard && equal == guard) {
        n->status = NODE_FAILED;
        n->prune_reason = "repeat";
    }
}

/* A lane has ended: turn it into its node. */
static int each_sprout(struct search *s, struct pd_lane *lane, struct pd_err *err)
{
    struct sprout *sp = lane->user;
    struct node *n = sp->node;
    bool user_cancel = lane->end == PD_END_CANCEL && !s->stopped;
    int rc;

    rc = lane_record(s, lane, "generate", s->job->model, err);
    if (rc < 0 || user_cancel) /* not recorded: a resumed job draws the very same tokens again */
        goto out;
    if (lane->end == PD_END_ERROR) {
        rc = pd_fail(err, lane->err.code, "%s", lane->err.text);
        goto out;
    }
    n->call = rc;
    set_tokens(s, n, lane->tokens, lane->logprobs, lane->n_tokens);
    n->status = NODE_TRUNCATED;
    n->finish = "cut";
    switch (lane->end) {
    case PD_END_EOS:
        n->finish = "eos";
        n->status = NODE_FINISHED;
        break;
    case PD_END_STOP:
        n->finish = "step";
        n->status = NODE_OPEN;
        break;
    case PD_END_LENGTH:
        n->stop = sp->why;
        if (strcmp(sp->why, "tokens") == 0)
            s->cut = "tokens";
        if (strcmp(sp->why, "max_step_tokens") == 0) {
            n->finish = "length"; /* the next step goes on in mid-sentence */
            n->status = NODE_OPEN;
        }
        break;
    case PD_END_RACE:
        n->stop = "race";
        break;
    case PD_END_CTX:
        n->stop = "context";
        break;
    default:
        n->stop = s->cut = s->stopped ? s->stopped : "cancel";
        break;
    }
    rc = node_text(s, n, err);
    if (rc == 0 && sp->until == UNTIL_STEP && n->status == NODE_OPEN)
        guard_step(n, s->job->common.repeat_guard);
    if (rc == 0)
        rc = settle(s, n, err);
    if (rc == 0 && s->job->mode == PD_JOB_VERIFY) {
        const struct pd_node_rec *r = stored_node(s, n->id);

        rc = r ? differs(s, n, r, err)
               : pd_fail(err, PD_EDIFFER, "node %" PRIu32 " is not in the stored trace", n->id);
    }
    if (rc == 0)
        rc = search_node_record(s, n, err);
out:
    s->job->gen->ops->release(s->job->gen, lane);
    return rc < 0 ? rc : 0;
}

/* Tokens left to hand out. UINT64_MAX: no limit. */
static uint64_t tokens_left(const struct search *s)
{
    const struct pd_budget *b = &s->job->budget;
    uint64_t reserve = b->wrap_up ? b->wrap_reserve : 0;

    if (!b->tokens)
        return UINT64_MAX;
    return b->tokens > s->spent + reserve ? b->tokens - s->spent - reserve : 0;
}

static int grow(struct search *s, struct node *const *parents, int n, int race_m, enum search_until until,
                struct node **out, struct pd_err *err)
{
    const struct pd_job *job = s->job;
    struct sprout *sprouts = search_alloc(s, (size_t)n * sizeof *sprouts);
    struct pd_lane **lanes = search_alloc(s, (size_t)n * sizeof *lanes);
    struct pd_lane *pre = search_alloc(s, (size_t)n * sizeof *pre);
    struct pd_lane **pres = search_alloc(s, (size_t)n * sizeof *pres);
    uint64_t left = tokens_left(s);
    size_t n_lanes = 0, n_pres = 0;
    bool all_stored = true;
    int rc = check(s, err);

    if (rc < 0)
        return rc;
    for (int i = 0; i < n; i++)
        if (!search_open(parents[i]))
            return pd_fail(err, PD_EINVAL, "node %" PRIu32 " cannot be extended: it is %s", parents[i]->id,
                           search_status_name(parents[i]->status));
    if (left == 0)
        s->stopped = "tokens";
    else if (job->budget.nodes && s->n_nodes - 1 + (uint64_t)n > job->budget.nodes)
        s->stopped = "nodes";
    if (!s->stopped && job->mode != PD_JOB_RUN) { /* the clock's decision is part of the record */
        for (size_t i = 0; i < job->stored->n_events; i++)
            if (strcmp(job->stored->events[i].type, "budget.stop") == 0 &&
                strtoul(job->stored->events[i].data, NULL, 10) == s->n_nodes)
                s->stopped = "seconds";
    } else if (!s->stopped && pd_clock_now_ns() >= s->deadline_ns) {
        s->stopped = "seconds";
        if (!stored_node(s, s->n_nodes)) {
            char *at = search_alloc(s, 24);

            snprintf(at, 24, "%" PRIu32, s->n_nodes);
            rc = search_event(s, "budget.stop", at, err);
            if (rc < 0)
                return rc;
        } else {
            s->stopped = NULL; /* stored results cost no time */
        }
    }
    if (s->stopped)
        return pd_fail(err, PD_EBUDGET, "the budget of %s is spent", s->stopped);

    for (int i = 0; i < n; i++) {
        struct sprout *sp = &sprouts[i];
        uint64_t share = left == UINT64_MAX ? left : left / (uint64_t)n + ((uint64_t)i < left % (uint64_t)n);
        struct node *c = search_node_new(s, parents[i]);
        uint32_t path = parents[i]->path_tokens, room;

        out[i] = sp->node = c;
        /* the last step that a line may have runs to the line's end */
        sp->until = c->depth >= (uint32_t)job->common.max_steps ? UNTIL_END : until;
        room = (uint32_t)job->common.max_tokens > path ? (uint32_t)job->common.max_tokens - path : 0;
        sp->cap = room;
        sp->why = "max_tokens";
        if (sp->until == UNTIL_STEP && (uint32_t)job->common.max_step_tokens < sp->cap) {
            sp->cap = (uint32_t)job->common.max_step_tokens;
            sp->why = "max_step_tokens";
        }
        if (share < sp->cap) {
            sp->cap = (uint32_t)share;
            sp->why = "tokens";
        }
        if (race_m)
            all_stored &= stored_node(s, c->id) != NULL;
    }
    for (int i = 0; i < n; i++) {
        struct sprout *sp = &sprouts[i];
        const struct pd_node_rec *r = stored_node(s, sp->node->id);
        struct node *p = parents[i];

        /* a race is decided by all of its lanes together, so it is served or run as a whole */
        if (r && job->mode != PD_JOB_VERIFY && (!race_m || all_stored)) {
            rc = serve_stored(s, sp->node, r, err);
            if (rc < 0)
                return rc;
            continue;
        }
        if (job->mode == PD_JOB_RECORDED)
            return pd_fail(err, PD_ENOENT, "node %" PRIu32 " is not in the stored trace", sp->node->id);
        if (r && job->mode == PD_JOB_VERIFY && r->stop && strcmp(r->stop, "seconds") == 0) {
            sp->cap = r->n_tokens; /* cut by the clock then: cut at the same token now */
            sp->why = "seconds";
        }
        if (sp->cap == 0) { /* nothing may be drawn: a truncated line of no tokens */
            sp->node->status = NODE_TRUNCATED;
            sp->node->finish = "cut";
            sp->node->stop = sp->why;
            if (strcmp(sp->why, "tokens") == 0)
                s->cut = "tokens";
            sp->node->text = PD_STR("");
            sp->node->logprobs = search_alloc(s, sizeof(float));
            rc = settle(s, sp->node, err);
            if (rc == 0)
                rc = search_node_record(s, sp->node, err);
            if (rc < 0)
                return rc;
            continue;
        }
        rc = node_ctx(s, p, err);
        if (rc < 0)
            return rc;
        sp->sampling = (struct pd_sampling){job->common.temperature, job->common.top_k, job->common.top_p,
                                            job->common.min_p};
        sp->lane = (struct pd_lane){.op = PD_LANE_GENERATE, .sampling = &sp->sampling, .key = sp->node->key,
                                    .max_tokens = sp->cap, .stop = sp->until == UNTIL_STEP ? PD_STEP_DELIMITER : NULL,
                                    .race_m = (uint32_t)race_m, .user = sp};
        lanes[n_lanes++] = &sp->lane;
        /* a parent of several children is evaluated once, and they start from its logits */
        if (i + 1 < n && parents[i + 1] == p && (n_pres == 0 || pre[n_pres - 1].user != p) &&
            ops(s)->ctx_n_cached(job->gen, p->ctx) < ops(s)->ctx_n_tokens(job->gen, p->ctx)) {
            pre[n_pres] = (struct pd_lane){.op = PD_LANE_PREFILL, .ctx = p->ctx, .user = p};
            pres[n_pres] = &pre[n_pres];
            n_pres++;
        }
    }
    if (n_pres) {
        rc = run_lanes(s, job->gen, pres, n_pres, true, each_prefill, err);
        if (rc < 0)
            return rc;
    }
    for (size_t i = 0; i < n_lanes; i++) {
        struct sprout *sp = lanes[i]->user;

        rc = ops(s)->ctx_fork(job->gen, sp->node->parent->ctx, &sp->node->ctx, err);
        if (rc < 0)
            return rc;
        sp->lane.ctx = sp->node->ctx;
    }
    if (n_lanes) {
        rc = run_lanes(s, job->gen, lanes, n_lanes, true, each_sprout, err);
        if (rc < 0)
            return rc;
    }
    return check(s, err);
}

static bool sane(int n)
{
    return n >= 1 && n <= 4096;
}

int search_sample(struct search *s, struct node *parent, int n, enum search_until until, struct node **out,
                  struct pd_err *err)
{
    return search_race(s, parent, n, 0, until, out, err);
}

int search_race(struct search *s, struct node *parent, int n, int m, enum search_until until, struct node **out,
                struct pd_err *err)
{
    struct node **parents;

    if (!sane(n) || m < 0 || m > n)
        return pd_fail(err, PD_EINVAL, "cannot take the first %d of %d lanes", m, n);
    parents = search_array(s, n);
    for (int i = 0; i < n; i++)
        parents[i] = parent;
    return grow(s, parents, n, m, until, out, err);
}

int search_extend(struct search *s, struct node *const *nodes, int n, enum search_until until, struct node **out,
                  struct pd_err *err)
{
    if (!sane(n))
        return pd_fail(err, PD_EINVAL, "cannot extend %d nodes", n);
    return grow(s, nodes, n, 0, until, out, err);
}

static int each_read(struct search *s, struct pd_lane *lane, struct pd_err *err)
{
    int rc = lane_record(s, lane, "score", s->job->scorer, err);

    if (rc >= 0 && lane->end == PD_END_ERROR)
        rc = pd_fail(err, lane->err.code, "%s", lane->err.text);
    return rc < 0 ? rc : 0;
}

int search_scorer_lanes(struct search *s, struct pd_lane *const *lanes, size_t n, struct pd_err *err)
{
    int rc = run_lanes(s, s->scorer.gen, lanes, n, false, each_read, err);

    if (rc == 0)
        for (size_t i = 0; i < n; i++)
            if (lanes[i]->end == PD_END_CANCEL) /* the clock: half-read scores are no scores */
                rc = pd_fail(err, PD_EBUDGET, "the budget of seconds is spent");
    return rc;
}

int pd_scorer_run(struct pd_scorer *sc, struct pd_lane *const *lanes, size_t n, struct pd_err *err)
{
    return search_scorer_lanes(sc->search, lanes, n, err);
}

static int record_score(struct search *s, struct node *n, struct pd_err *err)
{
    const struct pd_sink *sink = s->job->sink;
    struct pd_score_rec r = {n->id, s->job->scorer, s->job->verifier->kind, search_value(n, AGGREGATE_LAST),
                             n->values, (uint32_t)n->n_values, n->score_call};

    return sink ? sink->score(sink->self, s->job->id, &r, err) : 0;
}

static int verify_score(struct search *s, struct node *n, struct pd_err *err)
{
    const struct pd_score_rec *r = stored_score(s, n->id);

    if (!r || r->n_steps != n->n_values)
        return pd_fail(err, PD_EDIFFER, "node %" PRIu32 ": %zu step scores now, %" PRIu32 " stored", n->id, n->n_values,
                       r ? r->n_steps : 0);
    for (uint32_t i = 0; i < r->n_steps; i++)
        if (memcmp(&r->steps[i], &n->values[i], sizeof(double)) != 0)
            return pd_fail(err, PD_EDIFFER, "node %" PRIu32 ", score of step %" PRIu32 ": %.17g now, %.17g stored",
                           n->id, i + 1, n->values[i], r->steps[i]);
    return 0;
}

int search_score(struct search *s, struct node *const *nodes, int n, struct pd_err *err)
{
    struct pd_candidate *cands = search_alloc(s, (size_t)(n > 0 ? n : 1) * sizeof *cands);
    struct node **missing = search_array(s, n);
    size_t n_missing = 0;
    int rc = check(s, err);

    if (rc < 0)
        return rc;
    if (!s->job->verifier)
        return pd_fail(err, PD_EINVAL, "strategy '%s' needs a scorer", s->job->strategy->name);
    for (int i = 0; i < n; i++) {
        const struct pd_score_rec *r = s->job->mode == PD_JOB_VERIFY ? NULL : stored_score(s, nodes[i]->id);

        if (nodes[i]->scored)
            continue;
        nodes[i]->scored = true;
        if (r) {
            nodes[i]->values = pd_arena_memdup(s->arena, r->steps, r->n_steps * sizeof *r->steps);
            nodes[i]->n_values = r->n_steps;
            nodes[i]->score_call = r->call_id;
        } else {
            missing[n_missing++] = nodes[i];
        }
    }
    if (!n_missing)
        return 0;
    if (s->job->mode == PD_JOB_RECORDED)
        return pd_fail(err, PD_ENOENT, "the score of node %" PRIu32 " is not in the stored trace", missing[0]->id);
    if (!s->scorer_open) {
        rc = s->job->verifier->open(&s->scorer, err);
        if (rc < 0)
            return rc;
        s->scorer_open = true;
    }
    for (size_t i = 0; i < n_missing; i++) {
        struct pd_candidate *c = &cands[i];

        c->steps = pd_steps_split(s->arena, search_line(s, missing[i]), &c->n_steps);
        if (!c->steps)
            s->oom = true;
        for (struct node *p = missing[i]->parent; p && !c->parent_state; p = p->parent)
            c->parent_state = p->vstate;
    }
    rc = check(s, err);
    if (rc == 0)
        rc = s->job->verifier->score(&s->scorer, cands, n_missing, err);
    for (size_t i = 0; i < n_missing; i++) {
        struct node *m = missing[i];

        if (rc < 0) {
            m->scored = false;
            continue;
        }
        m->values = cands[i].values;
        m->n_values = cands[i].n_values;
        m->vstate = cands[i].state;
        m->score_call = (int64_t)s->n_calls - 1; /* the batch's last call */
        rc = s->job->mode == PD_JOB_VERIFY ? verify_score(s, m, err) : record_score(s, m, err);
    }
    return rc < 0 ? rc : check(s, err);
}

void search_prune(struct search *s, struct node *n, const char *why)
{
    if (n->status == NODE_PRUNED)
        return;
    n->status = NODE_PRUNED;
    n->prune_reason = why;
    search_node_drop_ctx(s, n);
    if (s->job->mode == PD_JOB_RUN)
        search_node_record(s, n, s->err); /* an error sticks in the sink: the next record or the flush returns it */
}

int search_answer(struct search *s, struct node *n, struct pd_err *err)
{
    s->answer = n;
    s->answered = true;
    return check(s, err);
}

int search_force(struct search *s, struct node *parent, struct pd_str text, struct node **out, struct pd_err *err)
{
    struct node *n = search_node_new(s, parent);
    int32_t *ids = NULL;
    size_t count = 0;
    int rc = 0;

    if (s->job->mode == PD_JOB_RECORDED || stored_node(s, n->id)) {
        const struct pd_node_rec *r = stored_node(s, n->id);

        if (!r)
            return pd_fail(err, PD_ENOENT, "node %" PRIu32 " is not in the stored trace", n->id);
        *out = n;
        return serve_stored(s, n, r, err);
    }
    rc = ops(s)->tokenize(s->job->gen, text, &ids, &count, err);
    if (rc == 0) {
        set_tokens(s, n, ids, NULL, (uint32_t)count);
        n->finish = "forced";
        n->text = (struct pd_str){pd_arena_dup(s->arena, text), text.len};
        rc = settle(s, n, err);
    }
    free(ids);
    if (rc == 0)
        rc = search_node_record(s, n, err);
    *out = n;
    return rc;
}

int search_wrap(struct search *s, struct node *parent, uint32_t max, struct node **out, struct pd_err *err)
{
    struct pd_common saved = s->job->common;
    const char *wrap = s->job->budget.wrap_up;
    uint64_t tokens = s->job->budget.tokens;
    int rc;

    /* the reserve is spent now: greedy, within it */
    s->stopped = NULL;
    s->deadline_ns = PD_NEVER_NS;
    s->job->common.temperature = 0;
    s->job->common.max_tokens = (int)(parent->path_tokens + max);
    s->job->budget.wrap_up = NULL;
    s->job->budget.nodes = 0;
    rc = grow(s, &parent, 1, 0, UNTIL_END, out, err);
    s->job->common = saved;
    s->job->budget.wrap_up = wrap;
    s->job->budget.tokens = tokens;
    return rc;
}
