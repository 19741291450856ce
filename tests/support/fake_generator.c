#include "tests/support/fake_generator.h"

#include <assert.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/queue.h" /* pd_container_of */
#include "base/str.h"
#include "base/window.h"
#include "core/search_int.h"

#define LANES_MAX 64 /* from one prompt that fake_lane knows */
#define CHUNK     16 /* tokens that a prefill or a reading evaluates in a step */

struct pd_gctx {
    int32_t *ids;
    size_t n, cap;
    size_t n_kv; /* of them evaluated */
    bool kept;   /* the logits behind the last one are at hand */
    bool busy;
    struct pd_gctx *blocks[64]; /* the evaluated tokens of these are before its own */
    size_t n_blocks;
};

struct fake_flight { /* what a lane needs of its generator */
    struct fake_flight *next;
    struct pd_lane *lane;
    unsigned
        *race; /* how many have finished; shared by the lanes of a submit, freed with the last */
    size_t index;
    int32_t *tokens;
    float *logprobs, *logits, *confidences;
    double confidence_sum;
    struct pd_buf tail; /* text so far: what was before, and what was drawn */
    int32_t *top_ids;
    float *top_logprobs;
    uint32_t n;
    bool ended, delivered, cancelled, doomed;
    bool together; /* a lane of its race sees others: one token each a step */
    int32_t *seen; /* what is before the context's own tokens, and these */
    enum pd_lane_end end;
};

static struct fake *self(struct pd_generator *g)
{
    return pd_container_of(g, struct fake, g);
}

/* ---- hashing ----------------------------------------------------------------------------------
 */

static uint64_t mix(uint64_t h, uint64_t v)
{
    h = (h ^ v) * UINT64_C(0x9E3779B97F4A7C15);
    h ^= h >> 29;
    h *= UINT64_C(0xBF58476D1CE4E5B9);
    return h ^ (h >> 32);
}

static uint64_t mix_ids(uint64_t h, const int32_t *ids, size_t n)
{
    for (size_t i = 0; i < n; i++)
        h = mix(h, (uint64_t)ids[i]);
    return h;
}

/* ---- worlds -----------------------------------------------------------------------------------
 */

int fake_lane(struct fake *f, uint64_t key)
{
    if (f->lane_root != f->root_key || f->lane_key != key) { /* a key is a SHA-256: keep the last */
        f->lane = 0;
        while (f->lane < LANES_MAX && search_subkey(f->root_key, 0, (uint64_t)f->lane) != key)
            f->lane++;
        if (f->lane == LANES_MAX)
            f->lane = -1;
        f->lane_root = f->root_key;
        f->lane_key = key;
    }
    return f->lane;
}

int32_t fake_babble(struct fake *f, const struct fake_place *at, float *out_logprob)
{
    uint64_t key = at->temperature > 0 ? mix(at->key, 1) : 0;
    uint64_t h = mix_ids(mix(key, at->n), at->ids, at->n);
    size_t off = at->n - fake_prompt(at->ids, at->n), in = off % FAKE_FRAME;
    char answer[] = "\\boxed{0}";

    *out_logprob = -(float)(h % 4096) / 1024.0F;
    if (off / FAKE_FRAME < 2 + key % 4)
        return in < FAKE_FRAME - 2 ? 'a' + (int32_t)(h % 26) : '\n';
    answer[7] = (char)('1' + (key >> 8) % f->answers);
    return in < sizeof answer - 1 ? answer[in] : FAKE_EOS;
}

int32_t fake_script(struct fake *f, const struct fake_place *at, float *out_logprob)
{
    const char *const *lines = f->world;
    int lane = fake_lane(f, at->key);
    size_t off = at->n - fake_prompt(at->ids, at->n), i = 0;

    *out_logprob = -0.5F;
    while (lines[i + 1] && (lane < 0 || i < (size_t)lane))
        i++;
    if (off >= strlen(lines[i]))
        return FAKE_EOS;
    return lines[i][off] == '\1' ? FAKE_BREAK : (unsigned char)lines[i][off];
}

size_t fake_prompt(const int32_t *ids, size_t n)
{
    while (n > 0 && ids[n - 1] != FAKE_TURN)
        n--;
    return n;
}

float fake_doubt(struct fake *f, const struct fake_place *at)
{
    (void)f;
    return (float)(mix(at->key, at->n) % 1024) / 128;
}

float fake_opinion(struct fake *f, const int32_t *ids, size_t n, int32_t label)
{
    (void)f;
    return (float)(mix_ids(mix(7, (uint64_t)label), ids, n) % 8192) / 1024.0F - 4.0F;
}

/* ---- text --------------------------------------------------------------------------------------
 */

/* Counts a call that may fail; true when it is the one that is to fail. */
static bool fails(struct fake *f)
{
    return f->n_fallible++ == f->fail_at;
}

static int failed(struct pd_err *err, const char *what)
{
    return pd_fail(err, PD_EREMOTE, "the fake generator was told to fail in %s", what);
}

static int put_bytes(struct pd_str text, int32_t **io_ids, size_t *io_n)
{
    int32_t *ids = realloc(*io_ids, (*io_n + text.len + 1) * sizeof *ids);

    assert(ids);
    for (size_t i = 0; i < text.len; i++)
        ids[*io_n + i] = (unsigned char)text.ptr[i];
    *io_ids = ids;
    *io_n += text.len;
    return 0;
}

static int chat(struct pd_generator *g, const struct pd_chat *c, int32_t **io_ids, size_t *io_n,
                struct pd_err *err)
{
    if (fails(self(g)))
        return failed(err, "chat");
    for (size_t i = 0; i < c->n_messages; i++) {
        if (strcmp(c->messages[i].role, "user") == 0)
            put_bytes(PD_STR("Q:"), io_ids, io_n);
        else if (strcmp(c->messages[i].role, "assistant") == 0)
            put_bytes(PD_STR("A:"), io_ids, io_n);
        put_bytes(c->messages[i].content, io_ids, io_n);
    }
    put_bytes(PD_STR("\n"), io_ids, io_n);
    (*io_ids)[*io_n - 1] = FAKE_TURN;
    return 0;
}

static int tokenize(struct pd_generator *g, struct pd_str text, int32_t **io_ids, size_t *io_n,
                    struct pd_err *err)
{
    return fails(self(g)) ? failed(err, "tokenize") : put_bytes(text, io_ids, io_n);
}

static void put_text(int32_t id, struct pd_buf *out)
{
    if (id == FAKE_TAG)
        pd_buf_addz(out, "<|step|>");
    else if (id == FAKE_BREAK)
        pd_buf_addz(out, ".\n\n");
    else if (id < FAKE_EOS)
        pd_buf_addc(out, (char)id);
}

static int detokenize(struct pd_generator *g, const int32_t *ids, size_t n, struct pd_buf *out,
                      struct pd_err *err)
{
    if (fails(self(g)))
        return failed(err, "detokenize");
    for (size_t i = 0; i < n; i++)
        put_text(ids[i], out);
    return pd_buf_rc(out);
}

static int32_t find_token(struct pd_generator *g, const char *text)
{
    (void)g;
    if (strcmp(text, "<|step|>") == 0)
        return FAKE_TAG;
    return text[0] && !text[1] ? (unsigned char)text[0] : -1;
}

/* ---- contexts ----------------------------------------------------------------------------------
 */

static size_t bounds(struct pd_generator *g, const int32_t **out)
{
    static const int32_t end = FAKE_EOS;

    (void)g;
    *out = &end;
    return 1;
}

static uint32_t n_ctx(struct pd_generator *g)
{
    return self(g)->n_ctx;
}

static void push(struct pd_gctx *c, int32_t id)
{
    if (c->n == c->cap) {
        c->cap = c->cap ? 2 * c->cap : 64;
        c->ids = realloc(c->ids, c->cap * sizeof *c->ids);
        assert(c->ids);
    }
    c->ids[c->n++] = id;
    c->kept = false;
}

static void traits(struct pd_generator *g, struct pd_model_traits *out)
{
    *out = self(g)->traits;
}

static int ctx_new(struct pd_generator *g, struct pd_gctx **out, struct pd_err *err)
{
    if (fails(self(g)))
        return failed(err, "ctx_new");
    *out = calloc(1, sizeof **out);
    assert(*out);
    self(g)->n_ctx_live++;
    return 0;
}

static void ctx_free(struct pd_generator *g, struct pd_gctx *c)
{
    assert(!c->busy && self(g)->n_ctx_live);
    self(g)->n_ctx_live--;
    free(c->ids);
    free(c);
}

static int ctx_fork(struct pd_generator *g, struct pd_gctx *c, struct pd_gctx **out,
                    struct pd_err *err)
{
    struct pd_gctx *d;

    if (fails(self(g)))
        return failed(err, "ctx_fork");
    assert(!c->busy);
    d = calloc(1, sizeof *d);
    assert(d);
    for (size_t i = 0; i < c->n; i++)
        push(d, c->ids[i]);
    d->n_kv = c->n_kv;
    d->kept = c->kept;
    self(g)->n_ctx_live++;
    *out = d;
    return 0;
}

static int ctx_append(struct pd_generator *g, struct pd_gctx *c, const int32_t *ids, size_t n,
                      struct pd_err *err)
{
    if (fails(self(g)))
        return failed(err, "ctx_append");
    if (n > self(g)->n_ctx - c->n)
        return pd_fail(err, PD_ELIMIT, "%zu tokens do not fit behind %zu", n, c->n);
    for (size_t i = 0; i < n; i++)
        push(c, ids[i]);
    return 0;
}

static int ctx_rollback(struct pd_generator *g, struct pd_gctx *c, size_t n, struct pd_err *err)
{
    if (fails(self(g)))
        return failed(err, "ctx_rollback");
    if (n > c->n)
        return pd_fail(err, PD_EINVAL, "cannot roll back to %zu tokens: there are %zu", n, c->n);
    c->kept = c->kept && n == c->n;
    c->n = n;
    c->n_kv = n < c->n_kv ? n : c->n_kv;
    return 0;
}

static int ctx_view(struct pd_generator *g, struct pd_gctx *c, struct pd_gctx *const *blocks,
                    size_t n, struct pd_err *err)
{
    if (fails(self(g)))
        return failed(err, "ctx_view");
    assert(!c->busy && n <= sizeof c->blocks / sizeof *c->blocks);
    for (size_t i = 0; i < n; i++)
        c->blocks[i] = blocks[i];
    c->n_blocks = n;
    c->kept = false;
    return 0;
}

static int ctx_move(struct pd_generator *g, struct pd_gctx *to, struct pd_gctx *from, size_t n,
                    struct pd_err *err)
{
    if (fails(self(g)))
        return failed(err, "ctx_move");
    assert(!to->busy && !from->busy && to->n_kv == to->n && n <= from->n);
    to->n_kv += n < from->n_kv ? n : from->n_kv;
    for (size_t i = 0; i < n; i++)
        push(to, from->ids[i]);
    return 0;
}

static size_t ctx_n_tokens(struct pd_generator *g, const struct pd_gctx *c)
{
    (void)g;
    return c->n;
}

static size_t ctx_n_cached(struct pd_generator *g, const struct pd_gctx *c)
{
    (void)g;
    return c->n_kv;
}

/* ---- lanes -------------------------------------------------------------------------------------
 */

static uint32_t n_read(const struct fake *f, const struct pd_lane *l)
{
    return l->read == PD_READ_LABELS ? l->n_labels
           : l->read == PD_READ_HEAD ? f->traits.n_head
                                     : PD_READ_NEXT_VALUES;
}

static int check_lane(const struct fake *f, const struct pd_lane *l, struct pd_err *err)
{
    const struct pd_gctx *c = l->ctx;

    if (c->busy || c->n == 0)
        return pd_fail(err, PD_EINVAL, "the context is %s", c->busy ? "busy" : "empty");
    if (l->op == PD_LANE_GENERATE && l->max_tokens == 0)
        return pd_fail(err, PD_EINVAL, "nothing to generate");
    if (l->op == PD_LANE_GENERATE && c->n >= f->n_ctx)
        return pd_fail(err, PD_EINVAL, "the context is full");
    if (l->op == PD_LANE_READ && c->n_kv == c->n)
        return pd_fail(err, PD_EINVAL, "nothing to score");
    for (uint32_t i = 0; l->op == PD_LANE_READ && i < l->n_at; i++)
        if (l->at[i] < c->n_kv || l->at[i] >= c->n || (i && l->at[i] <= l->at[i - 1]))
            return pd_fail(err, PD_EINVAL, "position %u is not among the new tokens", l->at[i]);
    if (l->race_m && l->op == PD_LANE_READ)
        return pd_fail(err, PD_EINVAL, "a race is between generating lanes");
    return 0;
}

static void take_off(struct fake *f, struct pd_lane *l, size_t index, unsigned *race)
{
    struct fake_flight *x = calloc(1, sizeof *x);
    struct pd_gctx *c = l->ctx;
    size_t room = f->n_ctx > c->n ? f->n_ctx - c->n : 0;

    assert(x);
    if (l->op != PD_LANE_READ && c->n_kv == c->n && !c->kept)
        c->n_kv--; /* its logits are gone: the last token is evaluated again */
    x->lane = l;
    x->race = race;
    x->index = index;
    x->doomed = fails(f);
    x->tail = PD_BUF_INIT(1 << 20);
    if (l->op == PD_LANE_GENERATE) {
        room = l->max_tokens < room ? l->max_tokens : room;
        x->tokens = malloc(room * sizeof *x->tokens);
        x->logprobs = malloc(room * sizeof *x->logprobs);
        assert(x->tokens && x->logprobs);
        if (l->sampling->confidence.top) {
            x->confidences = malloc(room * sizeof *x->confidences);
            assert(x->confidences);
        }
        if (l->line_stops)
            pd_buf_adds(&x->tail, l->before);
        if (l->sampling->n_top) {
            x->top_ids = malloc(room * l->sampling->n_top * sizeof *x->top_ids);
            x->top_logprobs = malloc(room * l->sampling->n_top * sizeof *x->top_logprobs);
            assert(x->top_ids && x->top_logprobs);
        }
    } else if (l->op == PD_LANE_READ) {
        x->logits = malloc(((size_t)l->n_at * n_read(f, l) + 1) * sizeof *x->logits);
        assert(x->logits);
    }
    l->impl = x;
    l->tokens = x->tokens;
    l->logprobs = x->logprobs;
    l->top_ids = x->top_ids;
    l->top_logprobs = x->top_logprobs;
    l->confidences = x->confidences;
    l->n_prompt = (uint32_t)c->n;
    l->n_cached = (uint32_t)c->n_kv;
    c->busy = true;
    x->next = f->flights;
    f->flights = x;
    f->n_lanes_live++;
}

static int submit(struct pd_generator *g, struct pd_lane *const *lanes, size_t n,
                  struct pd_err *err)
{
    struct fake *f = self(g);
    unsigned *race = NULL;
    bool together = false;

    if (fails(f))
        return failed(err, "submit");
    for (size_t i = 0; i < n; i++) {
        int rc = check_lane(f, lanes[i], err);

        if (rc < 0)
            return rc;
    }
    for (size_t i = 0; i < n; i++)
        together = together || lanes[i]->ctx->n_blocks > 0;
    if (n && lanes[0]->race_m) {
        race = calloc(2, sizeof *race);
        assert(race);
        race[1] = (unsigned)n;
    }
    for (size_t i = 0; i < n; i++) {
        take_off(f, lanes[i], i, race);
        ((struct fake_flight *)lanes[i]->impl)->together = race && together;
    }
    return 0;
}

/* Evaluates at most so many pending tokens; true when none is left. */
static bool evaluate(struct fake *f, struct pd_gctx *c, size_t most)
{
    size_t n = c->n - c->n_kv < most ? c->n - c->n_kv : most;

    f->n_evaluated += n;
    c->n_kv += n;
    return c->n_kv == c->n;
}

static void end(struct fake_flight *x, enum pd_lane_end how)
{
    x->ended = true;
    x->end = how;
    x->lane->ctx->busy = false;
    if (x->race && (how == PD_END_EOS || how == PD_END_STOP || how == PD_END_LINE))
        x->race[0]++;
}

/* Whether what was drawn last, behind n_old bytes, completes one of the line's stop strings. */
static bool line_ends(const struct fake_flight *x, size_t n_old)
{
    for (const char *const *s = x->lane->line_stops; s && *s; s++) {
        size_t len = strlen(*s), from = n_old + 1 > len ? n_old + 1 - len : 0;

        if (pd_str_find(pd_str_sub(pd_buf_str(&x->tail), from, x->tail.len), pd_str_of(*s)) >= 0)
            return true;
    }
    return false;
}

/* The text behind which a lane draws. */
static struct fake_place place(struct fake_flight *x)
{
    const struct pd_lane *l = x->lane;
    const struct pd_gctx *c = l->ctx;
    size_t n = c->n, at = 0;

    if (c->n_blocks == 0)
        return (struct fake_place){c->ids, c->n, l->key, l->sampling->temperature};
    for (size_t i = 0; i < c->n_blocks; i++)
        n += c->blocks[i]->n_kv;
    x->seen = realloc(x->seen, n * sizeof *x->seen);
    assert(x->seen);
    for (size_t i = 0; i < c->n_blocks; at += c->blocks[i++]->n_kv)
        if (c->blocks[i]->n_kv)
            memcpy(x->seen + at, c->blocks[i]->ids, c->blocks[i]->n_kv * sizeof *x->seen);
    memcpy(x->seen + at, c->ids, c->n * sizeof *x->seen);
    return (struct fake_place){x->seen, n, l->key, l->sampling->temperature};
}

static bool loses_confidence(struct fake_flight *x)
{
    const struct pd_confidence *c = &x->lane->sampling->confidence;

    return c->top && c->window &&
           pd_window_mean(x->confidences, x->n, c->window, &x->confidence_sum) < c->least &&
           x->n >= c->window;
}

static void draw(struct fake *f, struct fake_flight *x)
{
    struct pd_lane *l = x->lane;
    struct pd_gctx *c = l->ctx;
    struct fake_place at = place(x);
    size_t n_before = l->line_stops ? l->before.len : 0, n_old = x->tail.len;
    uint32_t n_top = l->sampling->n_top;

    evaluate(f, c, SIZE_MAX);
    x->tokens[x->n] = f->next(f, &at, &x->logprobs[x->n]);
    if (x->confidences)
        x->confidences[x->n] = f->confidence(f, &at);
    for (uint32_t k = 0; k < n_top; k++) { /* itself, and its neighbours */
        x->top_ids[x->n * n_top + k] = (x->tokens[x->n] + (int32_t)k) % FAKE_EOS;
        x->top_logprobs[x->n * n_top + k] = x->logprobs[x->n] - (float)k;
    }
    push(c, x->tokens[x->n]);
    put_text(x->tokens[x->n], &x->tail);
    f->n_drawn++;
    if (x->tokens[x->n++] == FAKE_EOS)
        end(x, PD_END_EOS);
    else if (line_ends(x, n_old))
        end(x, PD_END_LINE);
    else if (l->stop && pd_str_find(pd_str_sub(pd_buf_str(&x->tail), n_before, x->tail.len),
                                    pd_str_of(l->stop)) >= 0)
        end(x, PD_END_STOP);
    else if (loses_confidence(x))
        end(x, PD_END_CONFIDENCE);
    else if (x->n == l->max_tokens)
        end(x, PD_END_LENGTH);
    else if (at.n + 1 + c->n_blocks >= f->n_ctx)
        end(x, PD_END_CTX);
}

static void read_labels(struct fake *f, struct fake_flight *x)
{
    struct pd_lane *l = x->lane;

    if (!evaluate(f, l->ctx, CHUNK))
        return;
    for (uint32_t i = 0; i < l->n_at; i++)
        for (uint32_t k = 0; k < n_read(f, l); k++)
            x->logits[i * n_read(f, l) + k] =
                f->logit(f, l->ctx->ids, l->at[i] + 1,
                         l->read == PD_READ_LABELS ? l->labels[k] : -1 - (int32_t)k);
    end(x, PD_END_LENGTH);
}

static void advance(struct fake *f, struct fake_flight *x)
{
    struct pd_gctx *c = x->lane->ctx;

    if (x->cancelled) {
        end(x, PD_END_CANCEL);
    } else if (x->doomed && (x->lane->op != PD_LANE_GENERATE || x->n)) {
        failed(&x->lane->err, "a lane");
        end(x, PD_END_ERROR);
    } else if (x->together && c->n_kv < c->n) {
        return; /* not through with what is pending */
    } else if (x->lane->op == PD_LANE_GENERATE) {
        draw(f, x);
    } else if (x->lane->op == PD_LANE_READ) {
        read_labels(f, x);
    } else if (evaluate(f, c, CHUNK)) {
        c->kept = true;
        end(x, PD_END_LENGTH);
    }
}

static void step(struct fake *f)
{
    if (f->n_steps == f->cancel_at && f->cancel)
        atomic_store(f->cancel, true);
    if (f->n_steps == f->stall_at)
        for (int64_t until = pd_clock_now_ns() + f->stall_ns; pd_clock_now_ns() < until;)
            ;
    f->n_steps++;
    for (struct fake_flight *x = f->flights; x; x = x->next)
        if (!x->ended && x->together) /* all of them before anything is drawn */
            evaluate(f, x->lane->ctx, 1);
    for (struct fake_flight *x = f->flights; x; x = x->next)
        if (!x->ended)
            advance(f, x);
    for (struct fake_flight *x = f->flights; x; x = x->next)
        if (!x->ended && x->race && x->race[0] >= x->lane->race_m)
            end(x, PD_END_RACE);
}

static struct fake_flight *ready(const struct fake *f)
{
    struct fake_flight *best = NULL;

    for (struct fake_flight *x = f->flights; x; x = x->next)
        if (x->ended && !x->delivered && (!best || x->index > best->index))
            best = x;
    return best;
}

static int wait_one(struct pd_generator *g, int64_t deadline_ns, struct pd_lane **out)
{
    struct fake *f = self(g);
    struct fake_flight *x = ready(f);

    (void)deadline_ns;
    if (!x) {
        step(f);
        x = ready(f);
    }
    if (!x)
        return PD_ETIMEOUT;
    x->delivered = true;
    x->lane->tokens = x->tokens;
    x->lane->logprobs = x->logprobs;
    x->lane->logits = x->logits;
    x->lane->n_tokens = x->n;
    x->lane->end = x->end;
    *out = x->lane;
    return 0;
}

static void cancel(struct pd_generator *g, struct pd_lane *lane)
{
    struct fake_flight *x = lane->impl;

    (void)g;
    if (x)
        x->cancelled = true;
}

static uint32_t progress(struct pd_generator *g, const struct pd_lane *lane)
{
    const struct fake_flight *x = lane->impl;

    (void)g;
    return x ? x->n : 0;
}

static void release(struct pd_generator *g, struct pd_lane *lane)
{
    struct fake *f = self(g);
    struct fake_flight *x = lane->impl, **p = &f->flights;

    if (!x)
        return;
    assert(x->delivered);
    while (*p != x)
        p = &(*p)->next;
    *p = x->next;
    f->n_lanes_live--;
    if (x->race && --x->race[1] == 0)
        free(x->race);
    pd_buf_done(&x->tail);
    free(x->seen);
    free(x->tokens);
    free(x->logprobs);
    free(x->logits);
    free(x->top_ids);
    free(x->top_logprobs);
    free(x->confidences);
    free(x);
    lane->impl = NULL;
    lane->tokens = lane->top_ids = NULL;
    lane->logprobs = lane->logits = lane->top_logprobs = lane->confidences = NULL;
}

static const struct pd_generator_ops ops = {
    .chat = chat,
    .tokenize = tokenize,
    .tokenize_start = tokenize,
    .detokenize = detokenize,
    .find_token = find_token,
    .bounds = bounds,
    .n_ctx = n_ctx,
    .traits = traits,
    .ctx_new = ctx_new,
    .ctx_free = ctx_free,
    .ctx_fork = ctx_fork,
    .ctx_append = ctx_append,
    .ctx_rollback = ctx_rollback,
    .ctx_view = ctx_view,
    .ctx_move = ctx_move,
    .ctx_n_tokens = ctx_n_tokens,
    .ctx_n_cached = ctx_n_cached,
    .submit = submit,
    .wait = wait_one,
    .cancel = cancel,
    .progress = progress,
    .release = release,
};

void fake_init(struct fake *f, const char *name)
{
    *f = (struct fake){.g = {&ops, name},
                       .next = fake_babble,
                       .logit = fake_opinion,
                       .confidence = fake_doubt,
                       .n_ctx = 4096,
                       .traits = {.bos = -1},
                       .answers = 3,
                       .fail_at = -1,
                       .cancel_at = -1,
                       .stall_at = -1};
}
