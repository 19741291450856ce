/* Contexts that see others: queries rotated per block in place of keys, one softmax over blocks,
 * lanes that read one another while they write, tokens that move. The reference is ordinary
 * decoding of the concatenated text, wherever that is the same function: with blocks that were
 * evaluated one after the other, or with a single layer, whose K and V depend on the token alone.
 */
#include "tests/unit/engine_fixture.h"

#include <unistd.h>

#include "engine/kernels.h"
#include "tests/support/random_model.h"

enum { N_VOCAB = 512, N_COMMON = 70, N_TEXT = 160, N_LABELS = 48, N_WORKERS = 3 };

/* Weights and KV in F32: what is left is rounding in another order. Largest difference of the
 * logits, which are of order 3: observed 2e-5. */
#define ROUNDING 1e-4

static char dir[] = "/tmp/test_engine_view.XXXXXX";
static char path[64];
static int32_t text[N_TEXT], labels[N_LABELS];

static int setup(void **state)
{
    (void)state;
    if (!mkdtemp(dir))
        return -1;
    snprintf(path, sizeof(path), "%s/model.gguf", dir);
    for (int32_t i = 0; i < N_TEXT; i++)
        text[i] = 300 + i * 37 % (N_VOCAB - 310);
    for (int32_t i = 0; i < N_LABELS; i++)
        labels[i] = 300 + i;
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    unlink(path);
    return rmdir(dir);
}

static void make_model(const char *name, uint32_t n_layer)
{
    struct random_model shape = *random_model_find(name);
    struct pd_err err = {0};

    if (n_layer)
        shape.n_layer = n_layer;
    fx_ok(random_model_write(&shape, "F32", false, 3, path, &err), &err);
}

static struct eng *e;
static struct eng_model *m;

static void open_engine(const struct eng_config *config)
{
    struct pd_err err = {0};

    fx_ok(eng_open(config, &e, &err), &err);
    fx_ok(eng_model_open(e, path, &m, &err), &err);
}

static void open_f32(void)
{
    open_engine(&(struct eng_config){.kv_type = "f32", .n_threads = 2});
}

static void close_engine(void)
{
    fx_no_pages(e);
    eng_model_unref(m);
    eng_close(e);
}

static void view(struct eng_ctx *c, struct eng_ctx *const *blocks, size_t n)
{
    struct pd_err err = {0};

    fx_ok(eng_ctx_view(c, blocks, n, &err), &err);
}

static void move(struct eng_ctx *to, struct eng_ctx *from, size_t first, size_t end)
{
    struct pd_err err = {0};

    fx_ok(eng_ctx_move(to, from, first, end, &err), &err);
}

static void append(struct eng_ctx *c, const int32_t *ids, size_t n)
{
    struct pd_err err = {0};

    fx_ok(eng_ctx_append(c, ids, n, &err), &err);
}

static void prefill(struct eng_ctx *c)
{
    struct eng_req q = {.op = ENG_PREFILL, .ctx = c};

    fx_run(e, &q, 1);
    assert_int_equal(q.finish, ENG_FINISH_NONE);
    eng_req_done(&q);
}

/* A context with text[first, end), behind some blocks. */
static struct eng_ctx *block(size_t first, size_t end, struct eng_ctx *const *blocks, size_t n)
{
    struct eng_ctx *c = fx_ctx(e, m, text + first, end - first);

    view(c, blocks, n);
    prefill(c);
    return c;
}

/* Logits of the labels behind a context and one more token, which is taken back. */
static void next_logits(struct eng_ctx *c, int32_t id, float out[N_LABELS])
{
    uint32_t at = (uint32_t)eng_ctx_n_tokens(c);
    struct eng_req q = {
        .op = ENG_SCORE, .ctx = c, .at = &at, .n_at = 1, .labels = labels, .n_labels = N_LABELS};
    struct pd_err err = {0};

    append(c, &id, 1);
    fx_run(e, &q, 1);
    assert_int_equal(q.finish, ENG_FINISH_NONE);
    memcpy(out, q.logits, N_LABELS * sizeof(*out));
    eng_req_done(&q);
    fx_ok(eng_ctx_rollback(c, at, &err), &err);
}

static void assert_close(const float *a, const float *b, size_t n, double within)
{
    double worst = 0;

    for (size_t i = 0; i < n; i++)
        worst = fmax(worst, fabs((double)a[i] - (double)b[i]));
    if (!(worst <= within))
        fail_msg("largest difference %g", worst);
}

/* The same text in one ordinary context. */
static void assert_as_one(struct eng_ctx *c, size_t n)
{
    struct eng_ctx *whole = fx_ctx(e, m, text, n);
    float a[N_LABELS], b[N_LABELS];

    next_logits(c, 301, a);
    next_logits(whole, 301, b);
    assert_close(a, b, N_LABELS, ROUNDING);
    eng_ctx_free(whole);
}

/* ---- the arithmetic
 * ------------------------------------------------------------------------------ */

/* Keys at their own positions j and a query at i - o make the products of keys at o + j and a query
 * at i. */
static void test_query_rotation_is_key_rotation(void **state)
{
    enum { HD = 64 };
    static const uint32_t places[][3] = {
        {1, 0, 0}, {40, 3, 7}, {500, 499, 0}, {4096, 1000, 31}, {32000, 20000, 1999}};
    const struct eng_kernels *k = eng_kernels(ENG_ISA_SCALAR);
    float freq[HD / 2], cosv[HD / 2], sinv[HD / 2], q[HD], key[HD], qs[2][HD], ks[2][HD];

    (void)state;
    eng_rope_freqs(10000, HD, freq);
    for (size_t d = 0; d < HD; d++) {
        q[d] = (float)sin(1.7 * (double)d + 1);
        key[d] = (float)cos(2.3 * (double)d);
    }
    for (size_t p = 0; p < sizeof(places) / sizeof(*places); p++) {
        uint32_t i = places[p][0], o = places[p][1], j = places[p][2];
        const uint32_t at[2][2] = {{i, o + j}, {i - o, j}};
        double dot[2] = {0}, norm = 0;

        for (int way = 0; way < 2; way++) {
            memcpy(qs[way], q, sizeof(q));
            memcpy(ks[way], key, sizeof(key));
            eng_rope_angles(at[way][0], freq, 1, HD / 2, cosv, sinv);
            k->rope_neox(qs[way], 1, HD, HD, cosv, sinv);
            eng_rope_angles(at[way][1], freq, 1, HD / 2, cosv, sinv);
            k->rope_neox(ks[way], 1, HD, HD, cosv, sinv);
            for (size_t d = 0; d < HD; d++)
                dot[way] += (double)qs[way][d] * (double)ks[way][d];
        }
        for (size_t d = 0; d < HD; d++)
            norm += fabs((double)qs[0][d] * (double)ks[0][d]);
        assert_true(fabs(dot[0] - dot[1]) <= 1e-5 * norm);
    }
}

/* However a text is cut into blocks, of every architecture: rotations of all kinds, windows, caps.
 */
static void test_blocks_are_one_text(void **state)
{
    (void)state;
    for (const struct random_model *shape = random_models; shape->name; shape++) {
        static const size_t cuts[][5] = {{1, 2, 3, 4, 5},
                                         {32, 64, 96, 128, 150},
                                         {31, 33, 90, 91, 140},
                                         {70, 71, 100, 101, 159}};

        if (strncmp(shape->name, "tiny-", 5) != 0)
            continue;
        make_model(shape->name, 0);
        open_f32();
        for (size_t k = 0; k < sizeof(cuts) / sizeof(*cuts); k++) {
            struct eng_ctx *b[5];
            size_t from = 0;

            for (size_t i = 0; i < 5; i++) {
                b[i] = block(from, cuts[k][i], b, i);
                from = cuts[k][i];
                assert_int_equal(eng_ctx_n_before(b[i]) + eng_ctx_n_tokens(b[i]), from);
            }
            assert_as_one(b[4], from);
            for (size_t i = 5; i-- > 0;)
                eng_ctx_free(b[i]);
        }
        close_engine();
    }
}

/* Several blocks are merged into one softmax, whichever way they are put together. */
static void test_merge_is_one_softmax(void **state)
{
    struct eng_ctx *b[4], *c;
    float all[N_LABELS], some[N_LABELS];

    (void)state;
    make_model("tiny-llama", 1); /* K and V depend on the token alone: blocks may be cut anew */
    open_f32();
    for (size_t i = 0; i < 4; i++)
        b[i] = block(i * 37, (i + 1) * 37, NULL, 0);
    c = fx_ctx(e, m, text + 148, 3);
    view(c, b, 4);
    next_logits(c, 301, all);
    assert_as_one(c, 151);
    eng_ctx_free(b[2]);
    b[2] = block(74, 148, NULL, 0);
    view(c, b, 3);
    next_logits(c, 301, some);
    assert_close(all, some, N_LABELS, ROUNDING);
    eng_ctx_free(c);
    for (size_t i = 0; i < 4; i++)
        eng_ctx_free(b[i]);
    close_engine();
}

/* ---- lanes that see one another
 * ------------------------------------------------------------------ */

struct way {
    const char *isa; /* NULL: the best */
    unsigned n_threads, chunk, max_rows;
    size_t n_side;  /* other requests in the same steps */
    bool backwards; /* the lanes are submitted the other way round */
};

struct said {
    int32_t ids[N_WORKERS][64];
    float logprobs[N_WORKERS][64];
    size_t n[N_WORKERS];
};

/* Worker w's view: the common text, a heading, the others in order. */
static void look(struct eng_ctx *const worker[N_WORKERS], struct eng_ctx *common,
                 struct eng_ctx *heading)
{
    for (size_t w = 0; w < N_WORKERS; w++) {
        struct eng_ctx *sees[N_WORKERS + 1] = {common, heading};
        size_t n = 2;

        for (size_t o = 0; o < N_WORKERS; o++)
            if (o != w)
                sees[n++] = worker[o];
        view(worker[w], sees, n);
    }
}

/* All go on together, the common context beside them if it has something to evaluate. */
static void go_on(struct eng_ctx *const worker[N_WORKERS], struct eng_ctx *common,
                  const struct way *how, struct said *said)
{
    struct eng_race race = {.m = N_WORKERS};
    struct eng_req q[N_WORKERS + 1 + 8] = {0};
    size_t n = N_WORKERS;

    for (size_t w = 0; w < N_WORKERS; w++) {
        size_t i = how->backwards ? N_WORKERS - 1 - w : w;

        q[i] = fx_generate(worker[w], 1, 100 + w, 14 + (uint32_t)(2 * w));
        q[i].ignore_end = true;
        q[i].race = &race;
    }
    if (eng_ctx_n_cached(common) < eng_ctx_n_tokens(common))
        q[n++] = (struct eng_req){.op = ENG_PREFILL, .ctx = common, .race = &race};
    for (size_t i = 0; i < how->n_side; i++)
        q[n++] = fx_generate(fx_ctx(e, m, text + i, 20 + 11 * i), 1, i, 9);
    fx_run(e, q, n);
    for (size_t w = 0; w < N_WORKERS; w++) {
        const struct eng_req *r = &q[how->backwards ? N_WORKERS - 1 - w : w];

        assert_int_equal(r->finish, ENG_FINISH_LENGTH);
        memcpy(said->ids[w] + said->n[w], r->tokens, r->n_tokens * sizeof(*r->tokens));
        memcpy(said->logprobs[w] + said->n[w], r->logprobs, r->n_tokens * sizeof(*r->logprobs));
        said->n[w] += r->n_tokens;
    }
    for (size_t i = 0; i < n; i++) {
        if (i >= n - how->n_side)
            eng_ctx_free(q[i].ctx);
        eng_req_done(&q[i]);
    }
}

/* Three workers write for a while, the first one's text becomes common, and they go on. */
static void collaborate(const struct way *how, struct said *said)
{
    struct eng_ctx *common, *heading, *worker[N_WORKERS];

    common = block(0, N_COMMON, NULL, 0);
    heading = block(N_COMMON, N_COMMON + 5, &common, 1);
    for (size_t w = 0; w < N_WORKERS; w++) /* with headers of different lengths to evaluate */
        worker[w] = fx_ctx(e, m, text + 80 + 10 * w, 3 + 2 * w);
    look(worker, common, heading);
    go_on(worker, common, how, said);
    move(common, worker[0], 0, eng_ctx_n_tokens(worker[0]));
    eng_ctx_free(worker[0]);
    worker[0] = fx_ctx(e, m, text + 120, 4);
    look(worker, common, heading);
    go_on(worker, common, how, said);
    for (size_t w = 0; w < N_WORKERS; w++)
        eng_ctx_free(worker[w]);
    eng_ctx_free(heading);
    eng_ctx_free(common);
}

static void test_same_bits_whoever_computes(void **state)
{
    static const struct way ways[] = {
        {"scalar", 1, 0, 0, 0, false}, {"avx2", 2, 0, 0, 8, true}, {NULL, 1, 1, 24, 0, true},
        {NULL, 3, 7, 40, 5, false},    {NULL, 2, 0, 0, 0, true},
    };
    static const char *const shapes[] = {"tiny-qwen2", "tiny-gemma2", "tiny-qwen3moe"};

    (void)state;
    for (size_t s = 0; s < sizeof(shapes) / sizeof(*shapes); s++) {
        static struct said said[sizeof(ways) / sizeof(*ways)];

        make_model(shapes[s], 0);
        memset(said, 0, sizeof(said));
        for (size_t i = 0; i < sizeof(ways) / sizeof(*ways); i++) {
            const struct way *w = &ways[i];

            if (w->isa && strcmp(w->isa, "avx2") == 0 && !eng_isa_supported(ENG_ISA_AVX2))
                continue;
            open_engine(&(struct eng_config){.isa = w->isa,
                                             .n_threads = w->n_threads,
                                             .prefill_chunk = w->chunk,
                                             .max_rows = w->max_rows});
            collaborate(w, &said[i]);
            close_engine();
            assert_memory_equal(&said[i], &said[0], sizeof(said[0]));
        }
    }
}

/* With one layer a lane's law is that of the concatenated text as it is in this step: of all lanes
 * as far as they are, in the order of its view. */
static void test_lanes_see_this_steps_tokens(void **state)
{
    const struct way how = {0};
    struct eng_ctx *common, *worker[N_WORKERS], *whole;
    struct said said = {0};

    (void)state;
    make_model("tiny-llama", 1);
    open_f32();
    common = block(0, N_COMMON, NULL, 0);
    for (size_t w = 0; w < N_WORKERS; w++)
        worker[w] = fx_ctx(e, m, text + 80 + 10 * w, 3);
    look(worker, common, common);
    go_on(worker, common, &how, &said);
    for (size_t w = 0; w < N_WORKERS; w++) {
        for (size_t t = 0; t < said.n[w]; t++) {
            struct eng_req q = {.op = ENG_SCORE, .want_logprobs = true};

            whole = fx_ctx(e, m, text, N_COMMON);
            append(whole, text, N_COMMON);
            for (size_t k = 0; k < N_WORKERS; k++) {
                size_t o = k + 1 < N_WORKERS ? k + (k >= w) : w; /* the others, then its own */

                append(whole, text + 80 + 10 * o, 3);
                append(whole, said.ids[o], t < said.n[o] ? t : said.n[o] - 1);
            }
            append(whole, &said.ids[w][t], 1);
            q.ctx = whole;
            fx_run(e, &q, 1);
            assert_true(fabsf(q.logprobs[q.n_prompt - 1] - said.logprobs[w][t]) <= (float)ROUNDING);
            eng_req_done(&q);
            eng_ctx_free(whole);
        }
        eng_ctx_free(worker[w]);
    }
    eng_ctx_free(common);
    close_engine();
}

/* A view of nothing is no view, bit for bit. */
static void test_alone_is_ordinary(void **state)
{
    struct eng_race race = {.m = 1};
    struct eng_ctx *empty;
    struct eng_req a, b;

    (void)state;
    make_model("tiny-qwen2", 0);
    open_engine(&(struct eng_config){.n_threads = 2});
    empty = fx_ctx(e, m, text, 0);
    a = fx_generate(fx_ctx(e, m, text, 50), 1, 7, 20);
    b = fx_generate(fx_ctx(e, m, text, 50), 1, 7, 20);
    a.race = &race;
    view(a.ctx, &empty, 1);
    view(a.ctx, NULL, 0);
    fx_run(e, &b, 1);
    fx_run(e, &a, 1);
    fx_same(&a, &b);
    eng_ctx_free(a.ctx);
    eng_req_done(&a);
    /* and of blocks without a token, too */
    a = fx_generate(fx_ctx(e, m, text, 50), 1, 7, 20);
    view(a.ctx, &empty, 1);
    fx_run(e, &a, 1);
    fx_same(&a, &b);
    eng_ctx_free(a.ctx);
    eng_ctx_free(b.ctx);
    eng_ctx_free(empty);
    eng_req_done(&a);
    eng_req_done(&b);
    close_engine();
}

/* ---- tokens that move
 * ---------------------------------------------------------------------------- */

/* Moving a block into the common text changes no logit beyond rounding. */
static void test_moved_block(void **state)
{
    static const char *const shapes[] = {"tiny-llama", "tiny-qwen2-yarn", "tiny-gemma3",
                                         "tiny-phi3-long"};

    (void)state;
    for (size_t s = 0; s < sizeof(shapes) / sizeof(*shapes); s++) {
        struct eng_ctx *common, *part, *c;
        float seen[N_LABELS], moved[N_LABELS];

        make_model(shapes[s], 0);
        open_f32();
        common = block(0, N_COMMON, NULL, 0);
        part = block(N_COMMON, N_COMMON + 45, &common, 1);
        c = fx_ctx(e, m, text + N_COMMON + 45, 8);
        view(c, (struct eng_ctx *[]){common, part}, 2);
        prefill(c);
        next_logits(c, 301, seen);
        move(common, part, 0, 45);
        assert_int_equal(eng_ctx_n_cached(common), N_COMMON + 45);
        view(c, &common, 1);
        next_logits(c, 301, moved);
        assert_close(seen, moved, N_LABELS, ROUNDING);
        assert_as_one(common, N_COMMON + 45);
        eng_ctx_free(c);
        eng_ctx_free(part);
        eng_ctx_free(common);
        close_engine();
    }
}

/* What stays is contiguous; with one layer, as a fresh prefill of it. */
static void test_dropped_tokens(void **state)
{
    static const size_t holes[][2] = {{40, 60}, {0, 32}, {32, 96}, {5, 6}, {100, 130}, {10, 10}};
    struct eng_stats before, after;

    (void)state;
    make_model("tiny-llama", 1);
    open_f32();
    for (size_t k = 0; k < sizeof(holes) / sizeof(*holes); k++) {
        size_t first = holes[k][0], end = holes[k][1], n = 120;
        struct eng_ctx *c = fx_ctx(e, m, text, n), *fresh;
        float a[N_LABELS], b[N_LABELS];
        struct pd_err err = {0};

        prefill(c);
        append(c, text + n, 20); /* not evaluated yet */
        eng_stats(e, &before);
        fx_ok(eng_ctx_drop(c, first, end, &err), &err);
        eng_stats(e, &after);
        assert_int_equal(eng_ctx_n_tokens(c), n + 20 - (end - first));
        assert_int_equal(after.kv_pages_used, (eng_ctx_n_cached(c) + ENG_PAGE - 1) / ENG_PAGE);
        assert_true(after.kv_pages_used <= before.kv_pages_used);
        fresh = fx_ctx(e, m, text, first);
        append(fresh, text + end, n + 20 - end);
        next_logits(c, 301, a);
        next_logits(fresh, 301, b);
        assert_close(a, b, N_LABELS, ROUNDING);
        eng_ctx_free(fresh);
        eng_ctx_free(c);
    }
    close_engine();
}

/* What saw other blocks, or came from elsewhere, is never taken for what its tokens alone make. */
static void test_foreign_pages_are_not_found(void **state)
{
    struct eng_ctx *common, *c;
    struct eng_req fresh, again;

    (void)state;
    make_model("tiny-llama", 0);
    open_engine(&(struct eng_config){.n_threads = 1});
    fresh = fx_generate(fx_ctx(e, m, text + 40, 90), 1, 7, 4);
    common = block(0, 40, NULL, 0);
    c = block(40, 130, &common, 1);
    eng_ctx_free(c);
    c = fx_ctx(e, m, text + 40, 20);
    prefill(c);
    common = (eng_ctx_free(common), block(0, 40, NULL, 0));
    {
        struct eng_ctx *seen = block(60, 130, &common, 1);

        move(c, seen, 0, 70);
        eng_ctx_free(seen);
    }
    again = fx_generate(fx_fork(c), 1, 7, 4);
    eng_ctx_free(c);
    fx_run(e, &fresh, 1);
    assert_in_range(fresh.n_cached, 0, 20); /* of the ordinary beginning of c */
    eng_ctx_free(fresh.ctx);
    eng_req_done(&fresh);
    eng_ctx_free(again.ctx);
    fresh = fx_generate(fx_ctx(e, m, text + 40, 90), 1, 7, 4);
    fx_run(e, &fresh, 1);
    again = fx_generate(fx_ctx(e, m, text + 40, 90), 1, 7, 4);
    eng_ctx_free(common);
    fx_run(e, &again, 1);
    fx_same(&fresh, &again);
    eng_ctx_free(fresh.ctx);
    eng_ctx_free(again.ctx);
    eng_req_done(&fresh);
    eng_req_done(&again);
    close_engine();
}

/* ---- what is refused
 * ----------------------------------------------------------------------------- */

static void refused(struct eng_req *reqs, size_t n, const char *why)
{
    struct eng_req *list[4];
    struct pd_err err = {0};

    for (size_t i = 0; i < n; i++)
        list[i] = &reqs[i];
    assert_int_equal(eng_run(e, list, n, &err), PD_EINVAL);
    if (!strstr(err.text, why))
        fail_msg("'%s' is not in '%s'", why, err.text);
}

static void test_refusals(void **state)
{
    struct eng_race race = {.m = 1};
    struct eng_ctx *a, *b, *many[ENG_MAX_BLOCKS + 1];
    struct eng_req q[2];
    struct pd_err err = {0};

    (void)state;
    make_model("tiny-llama", 0);
    open_engine(&(struct eng_config){.n_threads = 1, .max_rows = 3});
    a = fx_ctx(e, m, text, 10);
    b = fx_ctx(e, m, text, 10);
    for (size_t i = 0; i <= ENG_MAX_BLOCKS; i++)
        many[i] = b;
    assert_int_equal(eng_ctx_view(a, many, ENG_MAX_BLOCKS + 1, &err), PD_EINVAL);
    assert_int_equal(eng_ctx_view(a, &a, 1, &err), PD_EINVAL);
    assert_int_equal(eng_ctx_move(a, b, 0, 10, &err), 0); /* pending behind pending */
    prefill(b);
    assert_int_equal(eng_ctx_move(a, b, 0, 10, &err), PD_EINVAL);
    assert_int_equal(eng_ctx_move(b, b, 0, 0, &err), PD_EINVAL);
    assert_int_equal(eng_ctx_move(a, b, 0, 11, &err), PD_EINVAL);
    assert_int_equal(eng_ctx_drop(b, 4, 3, &err), PD_EINVAL);
    append(b, text, 1);
    view(a, many, 3);
    q[0] = fx_generate(a, 1, 1, 4);
    refused(q, 1, "steps of more rows");
    view(a, many, 1);
    q[1] = fx_generate(b, 1, 1, 4);
    refused(q, 2, "not of the same race");
    q[0].race = q[1].race = &race;
    view(b, &a, 1);
    refused(q, 2, "does not fit into a step");
    view(b, NULL, 0);
    fx_ok(eng_ctx_rollback(b, 10, &err), &err);
    refused(q, 2, "begins with a token");
    eng_ctx_free(a);
    eng_ctx_free(b);
    close_engine();
}

/* A lane ends where its view and its own text fill the model's context. */
static void test_full_context(void **state)
{
    struct eng_race race = {.m = 2};
    struct eng_ctx *c[2];
    struct eng_req q[2];
    uint32_t n_ctx, n_drawn;

    (void)state;
    make_model("tiny-llama", 0);
    open_engine(&(struct eng_config){.n_threads = 1});
    n_ctx = eng_model_info(m)->n_ctx;
    for (size_t i = 0; i < 2; i++) {
        c[i] = fx_ctx(e, m, text, 4);
        while (eng_ctx_n_tokens(c[i]) + 20 < n_ctx / 2)
            append(c[i], text, 10);
        prefill(c[i]);
        append(c[i], text, 1);
        q[i] = fx_generate(c[i], 1, i, 1000);
        q[i].ignore_end = true;
        q[i].race = &race;
    }
    view(c[0], &c[1], 1);
    view(c[1], &c[0], 1);
    fx_run(e, q, 2);
    n_drawn = q[0].n_tokens;
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(q[i].finish, ENG_FINISH_CTX);
        assert_int_equal(q[i].n_tokens, n_drawn);
        assert_in_range(eng_ctx_n_before(c[i]) + eng_ctx_n_tokens(c[i]), n_ctx - 2, n_ctx);
        eng_req_done(&q[i]);
    }
    eng_ctx_free(c[0]);
    eng_ctx_free(c[1]);
    close_engine();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_query_rotation_is_key_rotation),
        cmocka_unit_test(test_blocks_are_one_text),
        cmocka_unit_test(test_merge_is_one_softmax),
        cmocka_unit_test(test_same_bits_whoever_computes),
        cmocka_unit_test(test_lanes_see_this_steps_tokens),
        cmocka_unit_test(test_alone_is_ordinary),
        cmocka_unit_test(test_moved_block),
        cmocka_unit_test(test_dropped_tokens),
        cmocka_unit_test(test_foreign_pages_are_not_found),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_full_context),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
