/* Contexts: fork, roll back and join again give the tokens and bits of a fresh run; pages are
 * accounted for exactly; the cheap requests on kept logits. */
#include "tests/unit/engine_fixture.h"

#define QUESTION                                                                                   \
    "Zoe has 9 stamps. She gives away a third of them. Then she loses 2. How many stamps does "    \
    "Zoe have now?"

static struct eng *e;
static struct eng *cold; /* see fx_cold_eng */
static struct eng_model *m;
static int32_t *prompt;
static size_t n_prompt;

static int setup(void **state)
{
    (void)state;
    e = fx_eng(NULL, 2, 16, 0);
    cold = fx_cold_eng();
    m = fx_model(e, "tiny-base-Q8_0.gguf");
    prompt = fx_prompt(m, QUESTION, &n_prompt);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    free(prompt);
    fx_no_pages(e);
    eng_model_unref(m);
    eng_close(e);
    eng_close(cold);
    return 0;
}

/* The logits of every token after every position of ids, in a context of its own. */
static float *fresh_logits(const int32_t *ids, size_t n)
{
    uint32_t n_vocab = eng_model_info(m)->n_vocab;
    int32_t *labels = malloc(n_vocab * sizeof(*labels));
    uint32_t *at = malloc(n * sizeof(*at));
    struct eng_ctx *c = fx_ctx(cold, m, ids, n);
    struct eng_req q = {.op = ENG_SCORE,
                        .ctx = c,
                        .at = at,
                        .n_at = (uint32_t)n,
                        .labels = labels,
                        .n_labels = n_vocab};
    float *out;

    for (uint32_t i = 0; i < n_vocab; i++)
        labels[i] = (int32_t)i;
    for (size_t i = 0; i < n; i++)
        at[i] = (uint32_t)i;
    fx_run(cold, &q, 1);
    out = q.logits;
    q.logits = NULL;
    eng_req_done(&q);
    eng_ctx_free(c);
    free(labels);
    free(at);
    return out;
}

static void generate(struct eng *in, struct eng_ctx *c, uint64_t key, uint32_t n,
                     struct eng_req *out)
{
    *out = fx_generate(c, 0.8f, key, n);
    fx_run(in, out, 1);
    assert_true(out->n_tokens > 0);
}

static void prefill(struct eng_ctx *c)
{
    struct eng_req q = {.op = ENG_PREFILL, .ctx = c};

    fx_run(e, &q, 1);
    assert_int_equal(q.finish, ENG_FINISH_NONE);
    assert_int_equal(eng_ctx_n_cached(c), eng_ctx_n_tokens(c));
}

/* The whole text of c, evaluated anew, gives the same next tokens. */
static void assert_like_fresh(struct eng_ctx *c, const int32_t *ids, size_t n, uint64_t key)
{
    struct eng_ctx *f = fx_ctx(cold, m, ids, n), *d = fx_fork(c);
    struct eng_req a, b;

    assert_int_equal(eng_ctx_n_tokens(c), n);
    generate(e, d, key, 40, &a);
    generate(cold, f, key, 40, &b);
    fx_same(&a, &b);
    eng_req_done(&a);
    eng_req_done(&b);
    eng_ctx_free(d);
    eng_ctx_free(f);
}

static void test_fork(void **state)
{
    struct eng_ctx *root = fx_ctx(e, m, prompt, n_prompt), *late;
    struct eng_req alone[4], forked[4];

    (void)state;
    for (uint64_t i = 0; i < 4; i++) {
        struct eng_ctx *c = fx_ctx(cold, m, prompt, n_prompt);

        generate(cold, c, i, 60, &alone[i]);
        eng_ctx_free(c);
    }
    prefill(root);
    /* Lanes that share the prompt, at once and one after another, the parent freed before the last.
     */
    for (uint64_t i = 0; i < 3; i++)
        forked[i] = fx_generate(fx_fork(root), 0.8f, i, 60);
    fx_run(e, forked, 3);
    late = fx_fork(root);
    eng_ctx_free(root);
    forked[3] = fx_generate(late, 0.8f, 3, 60);
    fx_run(e, &forked[3], 1);
    for (int i = 0; i < 4; i++) {
        fx_same(&alone[i], &forked[i]);
        assert_int_equal(forked[i].n_cached, n_prompt); /* nothing was evaluated twice */
        eng_ctx_free(forked[i].ctx);
        eng_req_done(&alone[i]);
        eng_req_done(&forked[i]);
    }
    fx_no_pages(e);
}

static void test_steps(void **state)
{
    struct eng_ctx *whole = fx_ctx(cold, m, prompt, n_prompt),
                   *cut = fx_ctx(e, m, prompt, n_prompt);
    struct eng_req a, b;
    size_t done = 0;

    (void)state;
    generate(cold, whole, 7, 64, &a);
    /* The same lane in steps of five, each step on a fork of the one before. */
    while (done < a.n_tokens) {
        struct eng_ctx *next = fx_fork(cut);

        generate(e, next, 7, 5, &b);
        assert_true(done + b.n_tokens <= a.n_tokens);
        assert_memory_equal(a.tokens + done, b.tokens, b.n_tokens * sizeof(*b.tokens));
        assert_memory_equal(a.logprobs + done, b.logprobs, b.n_tokens * sizeof(*b.logprobs));
        done += b.n_tokens;
        eng_req_done(&b);
        eng_ctx_free(cut);
        cut = next;
    }
    eng_req_done(&a);
    eng_ctx_free(cut);
    eng_ctx_free(whole);
}

static void test_rollback(void **state)
{
    struct eng_ctx *c = fx_ctx(e, m, prompt, n_prompt), *shared;
    int32_t ids[512];
    struct eng_req q;
    struct pd_err err = {0};
    size_t n;

    (void)state;
    generate(e, c, 1, 80, &q);
    memcpy(ids, prompt, n_prompt * sizeof(*ids));
    memcpy(ids + n_prompt, q.tokens, q.n_tokens * sizeof(*ids));
    n = n_prompt + q.n_tokens;
    eng_req_done(&q);
    /* To places inside a page, at its ends, into the prompt; alone and with the pages shared. */
    for (size_t to = n; to > 1; to -= to > 70 ? 13 : to > 30 ? 1 : 7) {
        struct eng_ctx *d = fx_fork(c);

        fx_ok(eng_ctx_rollback(d, to, &err), &err);
        assert_like_fresh(d, ids, to, to);
        eng_ctx_free(d);
        if (to <= 8)
            break;
    }
    shared = fx_fork(c);
    for (size_t to = n; to > n_prompt; to -= 9) {
        fx_ok(eng_ctx_rollback(c, to, &err), &err);
        assert_like_fresh(c, ids, to, to);
        if (to < n_prompt + 10)
            break;
    }
    assert_like_fresh(shared, ids, n, 3); /* untouched */
    /* And forward again over what was cut off. */
    n = eng_ctx_n_tokens(c);
    fx_ok(eng_ctx_append(c, ids + n, 20, &err), &err);
    assert_like_fresh(c, ids, n + 20, 5);
    assert_int_equal(eng_ctx_rollback(c, n + 21, &err), PD_EINVAL);
    fx_ok(eng_ctx_rollback(c, 0, &err), &err);
    assert_int_equal(eng_ctx_n_tokens(c), 0);
    fx_ok(eng_ctx_append(c, ids, n_prompt, &err), &err);
    assert_like_fresh(c, ids, n_prompt, 6);
    eng_ctx_free(c);
    eng_ctx_free(shared);
    fx_no_pages(e);
}

/* A random walk over contexts: fork, append, roll back, evaluate, free; each against a model that
 * is only a list of ids. */
static void test_walk(void **state)
{
    struct twin {
        struct eng_ctx *c;
        int32_t ids[160];
        size_t n;
    } t[6];
    uint64_t rnd = 12345;
    struct pd_err err = {0};

    (void)state;
    for (int i = 0; i < 6; i++) {
        t[i].c = fx_ctx(e, m, prompt, 4);
        memcpy(t[i].ids, prompt, 4 * sizeof(int32_t));
        t[i].n = 4;
    }
    for (int step = 0; step < 300; step++) {
        struct twin *a, *b;
        size_t k;

        rnd = rnd * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        a = &t[(rnd >> 33) % 6];
        b = &t[(rnd >> 40) % 6];
        k = (rnd >> 48) % 45;
        switch ((rnd >> 60) % 5) {
        case 0:
            if (a == b)
                break;
            eng_ctx_free(b->c);
            b->c = fx_fork(a->c);
            memcpy(b->ids, a->ids, sizeof(a->ids));
            b->n = a->n;
            break;
        case 1:
        case 2:
            for (size_t i = 0; i < k && a->n < 160; i++) {
                a->ids[a->n] = (int32_t)((rnd >> 20) + i * 31) % 700;
                a->ids[a->n] = a->ids[a->n] < 0 ? 1 : a->ids[a->n];
                fx_ok(eng_ctx_append(a->c, &a->ids[a->n], 1, &err), &err);
                a->n++;
            }
            break;
        case 3:
            a->n = a->n > k + 1 ? a->n - k : 1;
            fx_ok(eng_ctx_rollback(a->c, a->n, &err), &err);
            break;
        default: {
            struct eng_req q = {.op = ENG_PREFILL, .ctx = a->c};

            fx_run(e, &q, 1);
            break;
        }
        }
        assert_int_equal(eng_ctx_n_tokens(a->c), a->n);
        if (step % 10 == 0) {
            struct eng_ctx *d = fx_fork(a->c), *f = fx_ctx(cold, m, a->ids, a->n);
            struct eng_req q[2] = {fx_generate(d, 1.0f, (uint64_t)step, 3),
                                   fx_generate(f, 1.0f, (uint64_t)step, 3)};

            fx_run(e, &q[0], 1);
            fx_run(cold, &q[1], 1);
            fx_same(&q[0], &q[1]);
            eng_req_done(&q[0]);
            eng_req_done(&q[1]);
            eng_ctx_free(d);
            eng_ctx_free(f);
        }
    }
    for (int i = 0; i < 6; i++)
        eng_ctx_free(t[i].c);
    fx_no_pages(e);
}

static void test_pages(void **state)
{
    struct eng_ctx *root = fx_ctx(e, m, prompt, n_prompt), *lane[8];
    size_t n_pages = (n_prompt + 31) / 32;
    struct eng_stats s;
    struct pd_err err = {0};

    (void)state;
    eng_stats(e, &s);
    assert_int_equal(s.kv_pages_used, 0);
    prefill(root);
    eng_stats(e, &s);
    assert_int_equal(s.kv_pages_used, n_pages);
    assert_true(s.kv_page_bytes_used >= n_pages * 32 * eng_model_info(m)->n_layer * 4);
    for (int i = 0; i < 8; i++)
        lane[i] = fx_fork(root);
    eng_stats(e, &s);
    assert_int_equal(s.kv_pages_used, n_pages); /* sharing is free */
    for (int i = 0; i < 8; i++) {
        fx_ok(eng_ctx_append(lane[i], prompt, 1, &err), &err);
        prefill(lane[i]);
    }
    eng_stats(e, &s);
    assert_true(n_prompt % 32 != 0);
    assert_int_equal(s.kv_pages_used, n_pages + 8); /* each its own copy of the partial page */
    for (int i = 0; i < 8; i++)
        fx_ok(eng_ctx_rollback(lane[i], n_prompt / 32 * 32, &err), &err);
    eng_stats(e, &s);
    assert_int_equal(s.kv_pages_used, n_pages);
    eng_ctx_free(root); /* the lanes still need its full pages only, but they hang on one segment */
    for (int i = 0; i < 8; i++)
        eng_ctx_free(lane[i]);
    fx_no_pages(e);
}

/* Many branches of one prompt, in the same steps, are what each is alone: for every KV type. */
static void test_branches(void **state)
{
    static const char *const types[] = {"f32", "f16", "q8_0"};
    enum { N = 64 };

    (void)state;
    for (size_t k = 0; k < sizeof types / sizeof *types; k++) {
        struct eng_config config = {.n_threads = 3, .kv_type = types[k]};
        struct pd_err err = {0};
        struct eng *wide = NULL, *alone_in = NULL;
        struct eng_model *mm;
        struct eng_ctx *root;
        struct eng_req q[N], pre = {.op = ENG_PREFILL};

        fx_ok(eng_open(&config, &wide, &err), &err);
        config.no_prefix_cache = true;
        fx_ok(eng_open(&config, &alone_in, &err), &err);
        mm = fx_model(wide, "tiny-base-Q8_0.gguf");
        root = fx_ctx(wide, mm, prompt, n_prompt);
        pre.ctx = root;
        fx_run(wide, &pre, 1);
        for (int i = 0; i < N; i++)
            q[i] = fx_generate(fx_fork(root), 0.8f, (uint64_t)i, 12);
        fx_run(wide, q, N);
        for (int i = 0; i < N; i++) {
            struct eng_ctx *c = fx_ctx(alone_in, mm, prompt, n_prompt);
            struct eng_req alone = fx_generate(c, 0.8f, (uint64_t)i, 12);

            fx_run(alone_in, &alone, 1);
            fx_same(&alone, &q[i]);
            eng_req_done(&alone);
            eng_ctx_free(c);
            eng_ctx_free(q[i].ctx);
            eng_req_done(&q[i]);
        }
        eng_ctx_free(root);
        fx_no_pages(wide);
        eng_model_unref(mm);
        eng_close(wide);
        eng_close(alone_in);
    }
}

static void test_kv_type_unknown(void **state)
{
    struct eng_config config = {.kv_type = "q4_0"};
    struct pd_err err = {0};
    struct eng *none = NULL;

    (void)state;
    assert_int_equal(eng_open(&config, &none, &err), PD_EINVAL);
    assert_non_null(strstr(err.text, "q4_0"));
}

/* A pool that is too small is an error of the request, not of the process. */
static void test_ceiling(void **state)
{
    struct eng_config config = {.n_threads = 1, .kv_bytes = 40000};
    struct pd_err err = {0};
    struct eng *small = NULL;
    struct eng_model *mm;
    struct eng_ctx *c, *d;
    struct eng_req q, r;

    (void)state;
    fx_ok(eng_open(&config, &small, &err), &err);
    mm = fx_model(small, "tiny-draft-Q8_0.gguf");
    c = fx_ctx(small, mm, prompt, n_prompt);
    q = (struct eng_req){.op = ENG_PREFILL, .ctx = c};
    for (int i = 0; i < 4; i++)
        fx_ok(eng_ctx_append(c, prompt, n_prompt, &err), &err);
    fx_run(small, &q, 1);
    assert_int_equal(q.finish, ENG_FINISH_ERROR);
    assert_int_equal(q.err.code, PD_ENOMEM);
    eng_ctx_free(c);
    d = fx_ctx(small, mm, prompt, 10);
    r = fx_generate(d, 0.0f, 0, 3);
    fx_run(small, &r, 1);
    assert_int_equal(r.finish, ENG_FINISH_LENGTH);
    eng_req_done(&r);
    eng_ctx_free(d);
    fx_no_pages(small);
    eng_model_unref(mm);
    eng_close(small);
}

static void test_score(void **state)
{
    uint32_t n_vocab = eng_model_info(m)->n_vocab;
    float *logits = fresh_logits(prompt, n_prompt);
    struct eng_ctx *c = fx_ctx(e, m, prompt, n_prompt), *d = fx_ctx(e, m, prompt, 10);
    struct eng_req a = {.op = ENG_SCORE, .ctx = c, .want_logprobs = true}, b;
    uint32_t at[2] = {12, 20};
    int32_t labels[3] = {5, 700, 33};
    struct pd_err err = {0};

    (void)state;
    fx_run(e, &a, 1);
    assert_true(a.logprobs[0] == 0.0f);
    for (size_t i = 1; i < n_prompt; i++) {
        const float *x = logits + (i - 1) * n_vocab;
        double sum = 0.0;

        for (uint32_t j = 0; j < n_vocab; j++)
            sum += exp((double)x[j] - (double)x[prompt[i]]);
        assert_true(fabs((double)a.logprobs[i] + log(sum)) < 1e-4);
    }
    eng_req_done(&a);
    /* Behind a prefix whose logits were kept every log-probability is there, and the same bits. */
    prefill(d);
    fx_ok(eng_ctx_append(d, prompt + 10, n_prompt - 10, &err), &err);
    b = (struct eng_req){.op = ENG_SCORE,
                         .ctx = d,
                         .want_logprobs = true,
                         .at = at,
                         .n_at = 2,
                         .labels = labels,
                         .n_labels = 3};
    fx_run(e, &b, 1);
    fx_ok(eng_ctx_rollback(c, 0, &err), &err);
    fx_ok(eng_ctx_append(c, prompt, n_prompt, &err), &err);
    fx_run(e, &a, 1);
    assert_memory_equal(b.logprobs, a.logprobs + 10, (n_prompt - 10) * sizeof(float));
    for (int i = 0; i < 2; i++) {
        for (int j = 0; j < 3; j++)
            assert_memory_equal(&b.logits[i * 3 + j], &logits[at[i] * n_vocab + (size_t)labels[j]],
                                sizeof(float));
    }
    eng_req_done(&a);
    eng_req_done(&b);
    /* Without them the first one cannot be known. */
    fx_ok(eng_ctx_rollback(d, 10, &err), &err);
    fx_ok(eng_ctx_append(d, prompt + 10, 5, &err), &err);
    b = (struct eng_req){.op = ENG_SCORE, .ctx = d, .want_logprobs = true};
    fx_run(e, &b, 1);
    assert_true(isnan(b.logprobs[0]) && isfinite(b.logprobs[1]));
    eng_req_done(&b);
    eng_ctx_free(c);
    eng_ctx_free(d);
    free(logits);
}

static void test_refusals(void **state)
{
    uint32_t n_ctx = eng_model_info(m)->n_ctx;
    struct eng_ctx *c = NULL;
    struct eng_req q, *list[1] = {&q};
    struct pd_err err = {0};
    int32_t bad[2] = {-1, (int32_t)eng_model_info(m)->n_vocab}, one = 5;
    int32_t *many = calloc(n_ctx + 1, sizeof(*many));
    uint32_t at[1] = {0};

    (void)state;
    fx_ok(eng_ctx_new(e, m, &c, &err), &err);
    assert_int_equal(eng_ctx_append(c, &bad[0], 1, &err), PD_EINVAL);
    assert_int_equal(eng_ctx_append(c, &bad[1], 1, &err), PD_EINVAL);
    assert_int_equal(eng_ctx_append(c, many, n_ctx + 1, &err), PD_ELIMIT);
    assert_int_equal(eng_ctx_n_tokens(c), 0);
    q = fx_generate(c, 0.0f, 0, 5);
    assert_int_equal(eng_submit(e, list, 1, &err), PD_EINVAL); /* empty */
    fx_ok(eng_ctx_append(c, &one, 1, &err), &err);
    q.max_tokens = 0;
    assert_int_equal(eng_submit(e, list, 1, &err), PD_EINVAL);
    q = fx_generate(c, -1.0f, 0, 5);
    assert_int_equal(eng_submit(e, list, 1, &err), PD_EINVAL);
    q = fx_generate(c, NAN, 0, 5);
    assert_int_equal(eng_submit(e, list, 1, &err), PD_EINVAL);
    q = (struct eng_req){.op = ENG_SCORE, .ctx = c, .at = at, .n_at = 1};
    assert_int_equal(eng_submit(e, list, 1, &err), PD_EINVAL);
    at[0] = 1;
    q = (struct eng_req){
        .op = ENG_SCORE, .ctx = c, .at = at, .n_at = 1, .labels = &one, .n_labels = 1};
    assert_int_equal(eng_submit(e, list, 1, &err), PD_EINVAL);
    /* To the brim and not beyond. */
    fx_ok(eng_ctx_append(c, many, n_ctx - 6, &err), &err);
    q = fx_generate(c, 1.0f, 3, 100);
    fx_run(e, &q, 1);
    assert_true(q.finish == ENG_FINISH_EOS || (q.finish == ENG_FINISH_CTX && q.n_tokens == 5));
    eng_req_done(&q);
    fx_ok(eng_ctx_append(c, many, n_ctx - eng_ctx_n_tokens(c), &err), &err);
    assert_int_equal(eng_submit(e, list, 1, &err), PD_EINVAL);
    assert_int_equal(eng_ctx_append(c, many, 1, &err), PD_ELIMIT);
    q = (struct eng_req){.op = ENG_PREFILL, .ctx = c};
    fx_run(e, &q, 1);
    assert_int_equal(eng_ctx_n_cached(c), n_ctx);
    eng_ctx_free(c);
    free(many);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fork),
        cmocka_unit_test(test_steps),
        cmocka_unit_test(test_rollback),
        cmocka_unit_test(test_walk),
        cmocka_unit_test(test_pages),
        cmocka_unit_test(test_branches),
        cmocka_unit_test(test_kv_type_unknown),
        cmocka_unit_test(test_ceiling),
        cmocka_unit_test(test_score),
        cmocka_unit_test(test_refusals),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
