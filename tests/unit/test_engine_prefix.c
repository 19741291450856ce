/* The prefix tree: what begins like something evaluated before is not evaluated again and gives the
 * bits of a fresh run; pages are used, cached or free, and add up; cached ones are given up before
 * an allocation is refused. The numbers of the invariants are those of engine/kv.h. */
#include "tests/unit/engine_fixture.h"

#include <pthread.h>
#include <semaphore.h>

#include "base/rng.h"
#include "engine/forward.h"

#define PAGE 32

static struct eng *cold; /* see fx_cold_eng */
static struct eng_model *m;

static int setup(void **state)
{
    (void)state;
    cold = fx_cold_eng();
    m = fx_model(cold, "tiny-draft-Q8_0.gguf");
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    eng_model_unref(m);
    eng_close(cold);
    return 0;
}

static struct eng *open_small(uint64_t n_pages)
{
    struct eng_config config = {.n_threads = 1, .prefill_chunk = 48};
    struct eng_memory memory;
    struct pd_err err = {0};
    struct eng *e = NULL;

    fx_ok(eng_model_estimate(cold, fx_path("tiny-draft-Q8_0.gguf"), &memory, &err), &err);
    config.kv_bytes = n_pages * memory.kv_page_bytes;
    fx_ok(eng_open(&config, &e, &err), &err);
    return e;
}

/* Text number `which`: any two differ in their first token. */
static void make_text(int32_t *ids, size_t n, uint64_t which)
{
    for (size_t i = 0; i < n; i++)
        ids[i] = 10 + (int32_t)(pd_rng_uniform(which, i, 0) * 600);
    ids[0] = (int32_t)(10 + which);
}

static struct eng_stats stats(const struct eng *e)
{
    struct eng_stats s;

    eng_stats(e, &s);
    return s;
}

/* ---- the invariants, looked at from inside
 * ---------------------------------------------------------------------------------------- */

static void check_node(const struct kv_pool *p, const struct kv_node *node, bool used)
{
    size_t n = 0;

    for (const struct kv_page *page = node->children; page; page = page->sibling, n++) {
        assert_ptr_equal(page->parent, node);
        assert_ptr_equal(*page->link, page);
        assert_in_range(page->n_tokens, 1, PAGE);
        assert_true(page->refs == 0 || used); /* 4 */
        assert_true(page->n_tokens == PAGE || !page->node.children);
        for (const struct kv_page *q = page->sibling; q; q = q->sibling)
            assert_true(page->n_tokens != q->n_tokens ||
                        memcmp(page->tokens, q->tokens, page->n_tokens * sizeof(int32_t)) != 0);
        check_node(p, &page->node, page->refs > 0);
    }
    assert_int_equal(n, node->n_children);
}

/* Of an engine that is at rest. */
static void check_pool(struct eng *e)
{
    const struct kv_pool *p = eng_kv(e);
    struct eng_stats s = stats(e);
    uint64_t n_cached = 0, n_free = 0;

    for (const struct kv_class *c = p->classes; c; c = c->next) {
        check_node(p, &c->root, true);
        for (const struct kv_page *page = c->free; page; page = page->next)
            n_free++;
    }
    for (const struct kv_page *page = p->oldest; page; page = page->next) { /* 5 */
        assert_true(page->refs == 0 && page->parent);
        assert_ptr_equal(page->next ? page->next->prev : p->newest, page);
        for (const struct kv_page *later = page->next; later; later = later->next)
            assert_ptr_not_equal(later->parent, &page->node);
        n_cached++;
    }
    assert_int_equal(s.kv_pages_cached, n_cached);
    assert_int_equal(s.kv_pages_free, n_free);
    assert_int_equal(s.kv_pages_used + s.kv_pages_cached + s.kv_pages_free, s.kv_pages);
    assert_true(p->held_bytes <= kv_pool_ceiling(p));
}

/* ---- finding again
 * ---------------------------------------------------------------------------------------- */

/* A context of its own with these tokens, and what is drawn behind them. */
static struct eng_ctx *draw(struct eng *e, const int32_t *ids, size_t n, uint64_t key,
                            uint32_t n_tokens, struct eng_req *out)
{
    struct eng_ctx *c = fx_ctx(e, m, ids, n);

    *out = fx_generate(c, 0.8f, key, n_tokens);
    out->ignore_end = true;
    fx_run(e, out, 1);
    assert_int_equal(out->finish, ENG_FINISH_LENGTH);
    return c;
}

/* The same drawn in e, where n_cached tokens are found, and in the cold engine. */
static void assert_finds(struct eng *e, const int32_t *ids, size_t n, uint64_t key, size_t n_cached)
{
    struct eng_req a, b;

    eng_ctx_free(draw(e, ids, n, key, 20, &a));
    eng_ctx_free(draw(cold, ids, n, key, 20, &b));
    assert_int_equal(b.n_cached, 0);
    assert_int_equal(a.n_cached, n_cached);
    assert_int_equal(a.n_prompt, n);
    fx_same(&a, &b);
    eng_req_done(&a);
    eng_req_done(&b);
}

static void test_second_job_prefills_nothing(void **state)
{
    struct eng *e = fx_eng(NULL, 2, 0, 0);
    int32_t ids[150];

    (void)state;
    make_text(ids, 150, 1);
    assert_finds(e, ids, 150, 1, 0);
    fx_no_pages(e);
    assert_finds(e, ids, 150, 2, 149); /* the last one is evaluated for its logits */
    assert_int_equal(stats(e).prefix_hit_tokens, 149);
    check_pool(e);
    eng_close(e);
}

/* Texts that begin alike share so many tokens, wherever they part. */
static void test_every_length(void **state)
{
    struct eng *e = fx_eng(NULL, 2, 0, 0);
    int32_t first[100], ids[110];

    (void)state;
    make_text(first, 100, 1);
    assert_finds(e, first, 100, 1, 0);
    for (size_t n = 1; n <= 100; n += n < 30 ? 7 : 1) {
        make_text(ids, 110, n + 1);
        memcpy(ids, first, n * sizeof(*ids));
        if (n < 100 && ids[n] == first[n])
            ids[n]++;
        /* one that is as long, one that goes on otherwise, one that is all found */
        if (n > 1)
            assert_finds(e, ids, n, n, n - 1);
        assert_finds(e, ids, 110, n, n);
        assert_finds(e, ids, 110, n + 1, 109);
    }
    check_pool(e);
    eng_close(e);
}

static void test_contents_of_the_model_are_the_key(void **state)
{
    struct eng *e = fx_eng(NULL, 1, 0, 0);
    struct eng_model *base = fx_model(cold, "tiny-base-Q8_0.gguf"), *again;
    int32_t ids[70];
    struct eng_req q;

    (void)state;
    make_text(ids, 70, 1);
    assert_finds(e, ids, 70, 1, 0);
    q = fx_generate(fx_ctx(e, base, ids, 70), 0, 1, 1);
    fx_run(e, &q, 1);
    assert_int_equal(q.n_cached, 0);
    eng_ctx_free(q.ctx);
    eng_req_done(&q);
    again = fx_model(cold, "tiny-draft-Q8_0.gguf");
    q = fx_generate(fx_ctx(e, again, ids, 70), 0, 1, 1);
    fx_run(e, &q, 1);
    assert_int_equal(q.n_cached, 69);
    eng_ctx_free(q.ctx);
    eng_req_done(&q);
    eng_model_unref(again);
    eng_model_unref(base);
    eng_close(e);
}

/* Contexts that run at the same time end up with the same pages. */
static void test_running_contexts_share(void **state)
{
    struct eng *e = fx_eng(NULL, 2, 0, 0);
    struct eng_req q[4];
    int32_t ids[70];

    (void)state;
    make_text(ids, 70, 1);
    for (int i = 0; i < 3; i++)
        q[i] = (struct eng_req){.op = ENG_PREFILL, .ctx = fx_ctx(e, m, ids, 70)};
    fx_run(e, q, 3);
    q[3] = (struct eng_req){.op = ENG_PREFILL, .ctx = fx_ctx(e, m, ids, 70)};
    fx_run(e, &q[3], 1);
    assert_int_equal(q[0].n_cached + q[1].n_cached + q[2].n_cached, 2 * 64);
    assert_int_equal(q[3].n_cached, 64); /* nobody has let go of his third page */
    assert_int_equal(stats(e).kv_pages_used, 2 + 4);
    assert_int_equal(stats(e).kv_pages_seen, 4 * 3);
    check_pool(e);
    for (int i = 0; i < 4; i++)
        eng_ctx_free(q[i].ctx);
    assert_int_equal(stats(e).kv_pages_cached, 3);
    fx_no_pages(e);
    eng_close(e);
}

/* Requests that come together evaluate the pages they have in common once. */
static void test_evaluated_by_one_of_many(void **state)
{
    enum { N = 16 };
    struct eng *e = fx_eng(NULL, 2, 32, 0);
    struct eng_req q[N], alone;
    struct eng_stats before = stats(e), after;
    int32_t ids[150];
    size_t n_cached = 0;

    (void)state;
    for (int i = 0; i < N; i++) {
        make_text(ids, 150, 1);
        ids[140] = 20 + i; /* they part here */
        q[i] = fx_generate(fx_ctx(e, m, ids, 150), 0.8f, (uint64_t)i, 1);
    }
    fx_run(e, q, N);
    after = stats(e);
    for (int i = 0; i < N; i++) {
        make_text(ids, 150, 1);
        ids[140] = 20 + i;
        eng_ctx_free(draw(cold, ids, 150, (uint64_t)i, 1, &alone));
        assert_int_equal(alone.tokens[0], q[i].tokens[0]);
        assert_memory_equal(alone.logprobs, q[i].logprobs, sizeof(float));
        n_cached += q[i].n_cached;
        eng_req_done(&alone);
        eng_ctx_free(q[i].ctx);
        eng_req_done(&q[i]);
    }
    assert_int_equal(after.rows - before.rows, 128 + N * 22); /* four pages, then each his own */
    assert_int_equal(n_cached, (N - 1) * 128);
    eng_close(e);
}

/* What is read is evaluated: all of it when log-probabilities are wanted, else from the first
 * position on. */
static void test_what_is_scored_is_evaluated(void **state)
{
    struct eng *in[2] = {fx_eng(NULL, 1, 0, 0), cold};
    int32_t ids[100], labels[3] = {5, 7, 600};
    uint32_t at[2] = {70, 99};
    struct eng_req q[2], p;

    (void)state;
    make_text(ids, 100, 1);
    p = (struct eng_req){.op = ENG_PREFILL, .ctx = fx_ctx(in[0], m, ids, 100)};
    fx_run(in[0], &p, 1);
    for (int k = 0; k < 2; k++) {
        for (int i = 0; i < 2; i++) {
            q[i] = (struct eng_req){.op = ENG_SCORE,
                                    .ctx = fx_ctx(in[i], m, ids, 100),
                                    .at = at,
                                    .n_at = 2,
                                    .labels = labels,
                                    .n_labels = 3,
                                    .want_logprobs = k == 1};
            fx_run(in[i], &q[i], 1);
            eng_ctx_free(q[i].ctx);
        }
        assert_int_equal(q[0].n_cached, k == 1 ? 0 : 70);
        assert_memory_equal(q[0].logits, q[1].logits, 6 * sizeof(float));
        if (k == 1)
            assert_memory_equal(q[0].logprobs, q[1].logprobs, 100 * sizeof(float));
        eng_req_done(&q[0]);
        eng_req_done(&q[1]);
    }
    eng_ctx_free(p.ctx);
    eng_close(in[0]);
}

static void test_nothing_is_kept_without_it(void **state)
{
    struct eng_req q;
    int32_t ids[70];

    (void)state;
    make_text(ids, 70, 1);
    for (int i = 0; i < 2; i++) {
        eng_ctx_free(draw(cold, ids, 70, 1, 20, &q));
        assert_int_equal(q.n_cached, 0);
        eng_req_done(&q);
        assert_int_equal(stats(cold).kv_pages_cached, 0);
    }
    assert_int_equal(stats(cold).prefix_hit_tokens, 0);
}

/* ---- giving up
 * ---------------------------------------------------------------------------------------- */

/* A roll-back into a page of the tree goes on in a copy of it (1). */
static void test_pages_of_the_tree_are_not_written(void **state)
{
    struct eng *e = fx_eng(NULL, 1, 0, 0);
    struct pd_err err = {0};
    struct eng_ctx *c;
    struct eng_req q;
    int32_t ids[64];

    (void)state;
    make_text(ids, 64, 1);
    c = draw(e, ids, 64, 1, 40, &q);
    eng_req_done(&q);
    for (size_t to = 63; to > 33; to -= 10) {
        fx_ok(eng_ctx_rollback(c, to, &err), &err);
        fx_ok(eng_ctx_append(c, ids, 20, &err), &err);
        q = (struct eng_req){.op = ENG_PREFILL, .ctx = c};
        fx_run(e, &q, 1);
        check_pool(e);
    }
    eng_ctx_free(c);
    assert_finds(e, ids, 64, 1, 63);
    eng_close(e);
}

static void test_eviction(void **state)
{
    struct eng *e = open_small(12);
    struct eng_ctx *held;
    struct eng_req q;
    int32_t ids[400], first[64];
    size_t n = 0;

    (void)state;
    make_text(first, 64, 1);
    held = draw(e, first, 64, 1, 1, &q); /* 2 pages; the token drawn waits */
    eng_req_done(&q);
    for (uint64_t i = 2; i < 12; i++) { /* 3 pages each */
        make_text(ids, 64, i);
        assert_finds(e, ids, 64, i, 0);
        check_pool(e);
        n++;
    }
    assert_in_range(stats(e).kv_pages, 11, 12);
    assert_in_range(stats(e).prefix_evictions, n * 3 - 12, n * 3);
    /* What was used last is there, what was used first is not, and what is held always is. */
    make_text(ids, 64, 11);
    assert_finds(e, ids, 64, 11, 63);
    make_text(ids, 64, 2);
    assert_finds(e, ids, 64, 2, 0);
    assert_finds(e, first, 64, 1, 63);
    /* Everything is given up for one that needs it; what is held is not. */
    make_text(ids, 400, 20);
    q = (struct eng_req){.op = ENG_PREFILL, .ctx = fx_ctx(e, m, ids, 10 * PAGE)};
    fx_run(e, &q, 1);
    assert_int_equal(q.finish, ENG_FINISH_NONE);
    assert_int_equal(stats(e).kv_pages_used, 12);
    eng_ctx_free(q.ctx);
    q = (struct eng_req){.op = ENG_PREFILL, .ctx = fx_ctx(e, m, ids, 11 * PAGE)};
    fx_run(e, &q, 1);
    assert_int_equal(q.finish, ENG_FINISH_ERROR);
    assert_int_equal(q.err.code, PD_ENOMEM);
    eng_ctx_free(q.ctx);
    check_pool(e);
    eng_ctx_free(held);
    assert_finds(e, first, 64, 1, 63);
    fx_no_pages(e);
    eng_close(e);
}

/* A model that is loaded is worth more than what might be asked for again. */
static void test_a_model_takes_the_room(void **state)
{
    const char *path = fx_path("tiny-draft-Q8_0.gguf");
    struct eng_config config = {.n_threads = 1};
    struct eng_memory memory;
    struct eng_model *one, *two;
    struct pd_err err = {0};
    struct eng *e = NULL;
    struct eng_req q;
    int32_t ids[400];

    (void)state;
    fx_ok(eng_model_estimate(cold, path, &memory, &err), &err);
    config.memory_bytes = 2 * eng_memory_fixed(&memory) + 4 * memory.kv_page_bytes;
    fx_ok(eng_open(&config, &e, &err), &err);
    fx_ok(eng_model_open(e, path, &one, &err), &err);
    make_text(ids, 400, 1);
    q = (struct eng_req){.op = ENG_PREFILL, .ctx = fx_ctx(e, one, ids, 400)};
    fx_run(e, &q, 1);
    assert_int_equal(q.finish, ENG_FINISH_NONE);
    eng_ctx_free(q.ctx);
    assert_int_equal(stats(e).kv_pages_cached, 13);
    fx_ok(eng_model_open(e, path, &two, &err), &err);
    assert_in_range(stats(e).kv_pages_cached, 0, 4);
    check_pool(e);
    eng_model_unref(one);
    eng_model_unref(two);
    eng_close(e);
}

/* ---- anything
 * ---------------------------------------------------------------------------------------- */

#define N_TWINS 6
#define MAX_IDS 200

struct twin { /* a context and what it must hold */
    struct eng_ctx *c;
    int32_t ids[MAX_IDS];
    size_t n;
    size_t from; /* where it is steered; SIZE_MAX: nowhere */
};

static struct eng_steer *soak_steer;

static void steer(struct eng_ctx *c, size_t from)
{
    struct pd_err err = {0};

    fx_ok(eng_ctx_steer(c, from == SIZE_MAX ? NULL : soak_steer, from, &err), &err);
}

static void twin_done(struct twin *t)
{
    eng_ctx_free(t->c);
    t->c = NULL;
}

static void twin_new(struct eng *e, struct twin *t, uint64_t rnd)
{
    twin_done(t);
    t->n = 1 + rnd % 90;
    make_text(t->ids, t->n, 1 + (rnd >> 20) % 3);
    t->c = fx_ctx(e, m, t->ids, t->n);
    t->from = (rnd >> 24) % 3 == 0 ? (rnd >> 26) % (t->n + 1) : SIZE_MAX;
    steer(t->c, t->from);
}

static void post(struct eng_req *q)
{
    sem_post(q->user);
}

/* Runs it, or cancels it at some point on its way. */
static void run_or_cancel(struct eng *e, struct eng_req *q, bool cancel)
{
    struct pd_err err = {0};
    sem_t over;

    assert_int_equal(sem_init(&over, 0, 0), 0);
    q->done = post;
    q->user = &over;
    fx_ok(eng_submit(e, &q, 1, &err), &err);
    if (cancel)
        eng_cancel(e, q);
    while (sem_wait(&over) != 0)
        ;
    sem_destroy(&over);
}

/* One request of any kind; it may find no room, and then its context is given up. */
static void twin_request(struct eng *e, struct twin *t, uint64_t rnd)
{
    uint32_t at = (uint32_t)t->n - 1;
    int32_t label = 5;
    struct eng_req q = fx_generate(t->c, 0.9f, rnd % 5, 1 + (uint32_t)(rnd >> 8) % 20);

    q.ignore_end = true;
    q.speculate = (enum eng_speculate)((rnd >> 14) % 3);
    q.draft = m;
    q.draft_max = 1 + (uint32_t)(rnd >> 16) % ENG_MAX_DRAFT;
    q.draft_always = true;
    if (rnd >> 30 & 1)
        q = (struct eng_req){.op = ENG_PREFILL, .ctx = t->c};
    else if ((rnd >> 31 & 1) && eng_ctx_n_cached(t->c) < t->n)
        q = (struct eng_req){.op = ENG_SCORE,
                             .ctx = t->c,
                             .at = &at,
                             .n_at = 1,
                             .labels = &label,
                             .n_labels = 1,
                             .want_logprobs = rnd >> 32 & 1};
    if (t->n + q.max_tokens > MAX_IDS)
        q.max_tokens = 1;
    if (t->n + 1 > MAX_IDS)
        return;
    run_or_cancel(e, &q, (rnd >> 20) % 4 == 0);
    if (q.op == ENG_GENERATE) {
        memcpy(t->ids + t->n, q.tokens, q.n_tokens * sizeof(*q.tokens));
        t->n += q.n_tokens;
    }
    assert_int_equal(eng_ctx_n_tokens(t->c), t->n);
    if (q.finish == ENG_FINISH_ERROR) {
        assert_int_equal(q.err.code, PD_ENOMEM);
        twin_done(t);
    }
    eng_req_done(&q);
}

/* What the context would draw next is what a fresh one draws. */
static void twin_check(struct eng *e, const struct twin *t)
{
    struct eng_req a = fx_generate(fx_fork(t->c), 1.0f, 3, 3), b;

    fx_run(e, &a, 1);
    if (a.finish != ENG_FINISH_ERROR) {
        b = fx_generate(fx_ctx(cold, m, t->ids, t->n), 1.0f, 3, 3);
        steer(b.ctx, t->from);
        fx_run(cold, &b, 1);
        fx_same(&a, &b);
        eng_ctx_free(b.ctx);
        eng_req_done(&b);
    }
    eng_ctx_free(a.ctx);
    eng_req_done(&a);
}

/* Two guests that see both twins and each other write at once; one may be cancelled. What they
 * wrote moves behind a copy of the first twin, something is dropped there, and it goes on. */
static void guests(struct eng *e, struct twin *a, struct twin *b, uint64_t rnd)
{
    struct eng_race race = {.m = 1 + rnd % 2};
    struct eng_ctx *g[2], *both = fx_fork(a->c);
    struct eng_req q[2], *list[2] = {&q[0], &q[1]};
    struct pd_err err = {0};
    size_t n, first;
    sem_t over;
    int32_t ids[20];

    assert_int_equal(sem_init(&over, 0, 0), 0);
    make_text(ids, 20, 4);
    for (size_t i = 0; i < 2; i++)
        g[i] = fx_ctx(e, m, ids, 1 + (rnd >> (2 + 3 * i)) % 8);
    for (size_t i = 0; i < 2; i++) {
        struct eng_ctx *sees[] = {a->c, b->c, g[1 - i]};

        fx_ok(eng_ctx_view(g[i], sees, 3, &err), &err);
        q[i] = fx_generate(g[i], 0.9f, rnd % 5 + i, 1 + (uint32_t)(rnd >> 8) % 40);
        q[i].race = &race;
        q[i].done = post;
        q[i].user = &over;
    }
    fx_ok(eng_submit(e, list, 2, &err), &err);
    if ((rnd >> 16) % 3 == 0)
        eng_cancel(e, &q[1]);
    for (size_t i = 0; i < 2; i++)
        while (sem_wait(&over) != 0)
            ;
    check_pool(e);
    for (size_t i = 0; i < 2; i++) {
        n = eng_ctx_n_tokens(g[i]);
        first = (rnd >> 20) % n;
        if (eng_ctx_n_cached(both) == eng_ctx_n_tokens(both) &&
            eng_ctx_move(both, g[i], first, n, &err) < 0)
            assert_true(err.code == PD_ENOMEM);
    }
    n = eng_ctx_n_tokens(both);
    first = (rnd >> 28) % n;
    if (eng_ctx_drop(both, first, first + (rnd >> 36) % (n - first + 1), &err) < 0)
        assert_int_equal(err.code, PD_ENOMEM);
    for (size_t i = 0; i < 2; i++) {
        eng_req_done(&q[i]);
        eng_ctx_free(g[i]);
    }
    if (eng_ctx_n_tokens(both) > 0) {
        q[0] = fx_generate(both, 0.9f, 1, 3);
        run_or_cancel(e, &q[0], rnd >> 40 & 1);
        eng_req_done(&q[0]);
    }
    eng_ctx_free(both);
    sem_destroy(&over);
}

static void soak(uint64_t seed, int n_steps)
{
    struct eng *e = open_small(20);
    struct twin t[N_TWINS] = {0};
    struct pd_err err = {0};

    for (int step = 0; step < n_steps; step++) {
        uint64_t rnd = (uint64_t)(pd_rng_uniform(seed, (uint64_t)step, 0) * 0x1p53);
        struct twin *a = &t[rnd % N_TWINS], *b = &t[(rnd >> 8) % N_TWINS];

        rnd >>= 16;
        if (!a->c) {
            twin_new(e, a, rnd);
            continue;
        }
        switch (rnd % 8) {
        case 0:
            twin_new(e, a, rnd >> 3);
            break;
        case 1:
            if (a != b) {
                twin_done(b);
                *b = *a;
                b->c = fx_fork(a->c);
            }
            break;
        case 2:
            a->n -= (rnd >> 3) % a->n;
            fx_ok(eng_ctx_rollback(a->c, a->n, &err), &err);
            break;
        case 3:
            if (a->n + 40 <= MAX_IDS) {
                size_t n = (rnd >> 3) % 40;

                make_text(a->ids + a->n, n ? n : 1, (rnd >> 10) % 2);
                fx_ok(eng_ctx_append(a->c, a->ids + a->n, n, &err), &err);
                a->n += n;
            }
            break;
        case 4:
            twin_done(a);
            break;
        case 5:
            if (a != b && b->c)
                guests(e, a, b, rnd >> 3);
            break;
        default:
            twin_request(e, a, rnd >> 3);
            break;
        }
        if (step % 10 == 0)
            check_pool(e);
        if (step % 50 == 0 && a->c)
            twin_check(e, a);
    }
    printf("# seed %llu: %llu tokens found again, %llu pages given up\n", (unsigned long long)seed,
           (unsigned long long)stats(e).prefix_hit_tokens,
           (unsigned long long)stats(e).prefix_evictions);
    assert_true(stats(e).prefix_hit_tokens > 0 && stats(e).prefix_evictions > 0);
    for (int i = 0; i < N_TWINS; i++)
        twin_done(&t[i]);
    check_pool(e);
    fx_no_pages(e);
    eng_close(e);
}

static void test_soak(void **state)
{
    uint32_t n_embd = eng_model_info(m)->n_embd;
    float *v = malloc(n_embd * sizeof(*v));
    struct pd_err err = {0};

    (void)state;
    for (uint32_t i = 0; i < n_embd; i++)
        v[i] = (float)(i % 7) - 3;
    fx_ok(eng_steer_new(m, 2, v, 1, &soak_steer, &err), &err);
    soak(1, 5000);
    soak(2, 5000);
    eng_steer_unref(soak_steer);
    free(v);
}

/* Jobs that begin alike, each on a thread of its own, in a pool that is too small to keep all. */
static void *one_job(void *arg)
{
    struct eng *e = arg;
    int32_t ids[100];

    for (uint64_t i = 0; i < 40; i++) {
        struct eng_ctx *root = NULL, *lane = NULL;
        struct eng_req q, *list = &q;

        make_text(ids, 100, 1 + i % 5);
        if (eng_ctx_new(e, m, &root, NULL) < 0 || eng_ctx_append(root, ids, 60 + i, NULL) < 0)
            return NULL;
        for (int k = 0; k < 3; k++) {
            if (eng_ctx_fork(root, &lane, NULL) < 0)
                return NULL;
            q = fx_generate(lane, 0.9f, i, 5);
            if (eng_run(e, &list, 1, NULL) < 0)
                return NULL;
            eng_req_done(&q);
            eng_ctx_free(lane);
        }
        eng_ctx_free(root);
    }
    return e;
}

static void test_jobs_at_once(void **state)
{
    struct eng *e = open_small(24);
    pthread_t jobs[4];
    void *how;

    (void)state;
    for (int i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&jobs[i], NULL, one_job, e), 0);
    for (int i = 0; i < 4; i++) {
        assert_int_equal(pthread_join(jobs[i], &how), 0);
        assert_ptr_equal(how, e);
    }
    check_pool(e);
    fx_no_pages(e);
    assert_true(stats(e).prefix_hit_tokens > 0);
    eng_close(e);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_second_job_prefills_nothing),
        cmocka_unit_test(test_every_length),
        cmocka_unit_test(test_contents_of_the_model_are_the_key),
        cmocka_unit_test(test_running_contexts_share),
        cmocka_unit_test(test_evaluated_by_one_of_many),
        cmocka_unit_test(test_what_is_scored_is_evaluated),
        cmocka_unit_test(test_nothing_is_kept_without_it),
        cmocka_unit_test(test_pages_of_the_tree_are_not_written),
        cmocka_unit_test(test_eviction),
        cmocka_unit_test(test_a_model_takes_the_room),
        cmocka_unit_test(test_soak),
        cmocka_unit_test(test_jobs_at_once),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
