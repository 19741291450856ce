/* Every architecture of the table: whatever computes it, the bits are the same. And what can be
 * read from a model beside tokens: hidden states and classification heads. */
#include "tests/unit/engine_fixture.h"

#include <unistd.h>

#include "engine/arch.h"
#include "tests/gguf_builder.h"
#include "tests/support/random_model.h"

enum { N_VOCAB = 512, N_PROMPT = 75, N_FIRST = 40, N_MORE = 3, N_LABELS = 64 };

static char dir[] = "/tmp/test_engine_arch.XXXXXX";
static char path[64];

static int make_dir(void **state)
{
    (void)state;
    if (!mkdtemp(dir))
        return -1;
    snprintf(path, sizeof(path), "%s/model.gguf", dir);
    return 0;
}

static int remove_dir(void **state)
{
    (void)state;
    return rmdir(dir);
}

static struct eng_model *open_model(struct eng *e)
{
    struct pd_err err = {0};
    struct eng_model *m = NULL;

    fx_ok(eng_model_open(e, path, &m, &err), &err);
    return m;
}

/* How a model's numbers come about. */
struct way {
    const char *isa; /* NULL: the best */
    unsigned n_threads, chunk;
    size_t fork_at; /* positions that are evaluated before the rest goes on in a fork */
    size_t n_side; /* so many contexts of other lengths are forked off there, in the same batches */
};

/* Logits after each prompt token from N_FIRST on and after each of N_MORE more tokens,
 * [][N_LABELS]. */
static float *compute(const struct way *w, const char *kv_type, size_t *out_n)
{
    const struct eng_config config = {
        .n_threads = w->n_threads, .isa = w->isa, .kv_type = kv_type, .prefill_chunk = w->chunk};
    struct eng *e = NULL;
    struct eng_model *m;
    int32_t ids[N_PROMPT], labels[N_LABELS];
    uint32_t at[N_PROMPT];
    size_t n_at = N_PROMPT - N_FIRST;
    float *out = calloc((n_at + N_MORE) * N_LABELS, sizeof(*out));
    struct eng_ctx *root, *c, *side[8];
    struct eng_req q[9] = {0};
    struct pd_err err = {0};

    fx_ok(eng_open(&config, &e, &err), &err);
    m = open_model(e);
    for (int32_t i = 0; i < N_PROMPT; i++)
        ids[i] = 300 + i * 37 % (N_VOCAB - 310);
    for (int32_t i = 0; i < N_LABELS; i++)
        labels[i] = 300 + i;
    for (size_t i = 0; i < n_at; i++)
        at[i] = (uint32_t)(N_FIRST + i);
    root = fx_ctx(e, m, ids, w->fork_at);
    q[0] = (struct eng_req){.op = ENG_PREFILL, .ctx = root};
    fx_run(e, q, 1);
    eng_req_done(&q[0]);
    for (size_t i = 0; i < w->n_side; i++) {
        side[i] = fx_fork(root);
        fx_ok(eng_ctx_append(side[i], ids, 3 + 5 * i, &err), &err);
        q[1 + i] = fx_generate(side[i], 1, i, 4 + (uint32_t)i);
    }
    c = fx_fork(root);
    fx_ok(eng_ctx_append(c, ids + w->fork_at, N_PROMPT - w->fork_at, &err), &err);
    q[0] = (struct eng_req){.op = ENG_SCORE,
                            .ctx = c,
                            .at = at,
                            .n_at = (uint32_t)n_at,
                            .labels = labels,
                            .n_labels = N_LABELS};
    fx_run(e, q, 1 + w->n_side);
    memcpy(out, q[0].logits, n_at * N_LABELS * sizeof(*out));
    for (size_t i = 0; i < 1 + w->n_side; i++)
        eng_req_done(&q[i]);
    for (uint32_t i = 0; i < N_MORE; i++) {
        uint32_t last = N_PROMPT + i;

        fx_ok(eng_ctx_append(c, &labels[i], 1, &err), &err);
        q[0] = (struct eng_req){.op = ENG_SCORE,
                                .ctx = c,
                                .at = &last,
                                .n_at = 1,
                                .labels = labels,
                                .n_labels = N_LABELS};
        fx_run(e, q, 1);
        memcpy(out + (n_at + i) * N_LABELS, q[0].logits, N_LABELS * sizeof(*out));
        eng_req_done(&q[0]);
    }
    for (size_t i = 0; i < w->n_side; i++)
        eng_ctx_free(side[i]);
    eng_ctx_free(c);
    eng_ctx_free(root);
    fx_no_pages(e);
    eng_model_unref(m);
    eng_close(e);
    *out_n = (n_at + N_MORE) * N_LABELS;
    return out;
}

/* In one piece, in odd chunks, token by token; forked at a page's border, inside one and nowhere
 * near; alone and in company. */
static void same_bits(const struct random_model *shape, const char *type, const char *kv_type)
{
    static const struct way ways[] = {
        {"scalar", 1, 512, 1, 0}, {"avx2", 3, 64, 32, 8}, {NULL, 1, 1, 1, 0}, {NULL, 3, 7, 37, 3}};
    float *want = NULL;
    size_t n = 0, n_ways = 0;

    for (size_t i = 0; i < sizeof(ways) / sizeof(*ways); i++) {
        const struct way *w = &ways[i];
        float *got;

        if (w->isa && strcmp(w->isa, "avx2") == 0 && !eng_isa_supported(ENG_ISA_AVX2))
            continue;
        got = compute(w, kv_type, &n);
        for (size_t j = 0; j < n; j++)
            assert_true(isfinite(got[j]));
        if (want && memcmp(got, want, n * sizeof(*got)) != 0)
            fail_msg("%s %s, KV %s: %s, %u threads, chunks of %u, fork at %zu, %zu others: other "
                     "bits",
                     shape->name, type, kv_type, w->isa ? w->isa : "best", w->n_threads, w->chunk,
                     w->fork_at, w->n_side);
        if (want)
            free(got);
        else
            want = got;
        n_ways++;
    }
    assert_true(n_ways >= 2 && want[0] != want[N_LABELS]);
    print_message("# %s %s, KV %s: %zu ways of computing it, the same bits\n", shape->name, type,
                  kv_type, n_ways);
    free(want);
}

/* Branches that are computed together are what each is alone: once for each architecture. */
static void same_branches(const char *kv_type)
{
    const struct eng_config config = {.n_threads = 3, .kv_type = kv_type};
    enum { N = 64, N_ROOT = 45, N_DRAWN = 2 };
    struct eng *e = NULL;
    struct eng_model *m;
    struct eng_ctx *root;
    struct eng_req q[N], alone;
    struct pd_err err = {0};
    int32_t ids[N_ROOT];

    fx_ok(eng_open(&config, &e, &err), &err);
    m = open_model(e);
    for (int32_t i = 0; i < N_ROOT; i++)
        ids[i] = 300 + i * 29 % (N_VOCAB - 310);
    root = fx_ctx(e, m, ids, N_ROOT);
    alone = (struct eng_req){.op = ENG_PREFILL, .ctx = root};
    fx_run(e, &alone, 1);
    for (int i = 0; i < N; i++) {
        q[i] = fx_generate(fx_fork(root), 1, (uint64_t)i, N_DRAWN);
        q[i].ignore_end = true;
        fx_ok(eng_ctx_append(q[i].ctx, ids, 1 + (size_t)i % 3, &err), &err);
    }
    fx_run(e, q, N);
    for (int i = 0; i < N; i++) {
        alone = fx_generate(fx_fork(root), 1, (uint64_t)i, N_DRAWN);
        alone.ignore_end = true;
        fx_ok(eng_ctx_append(alone.ctx, ids, 1 + (size_t)i % 3, &err), &err);
        fx_run(e, &alone, 1);
        fx_same(&alone, &q[i]);
        eng_ctx_free(alone.ctx);
        eng_ctx_free(q[i].ctx);
        eng_req_done(&alone);
        eng_req_done(&q[i]);
    }
    eng_ctx_free(root);
    fx_no_pages(e);
    eng_model_unref(m);
    eng_close(e);
}

/* Every architecture with every KV type, its variants with one of them, the tensor types in turn:
 * every one of them is somewhere. */
static void test_architectures(void **state)
{
    static const char *const types[] = {"F32",  "Q8_0", "Q4_0", "Q4_K", "F16",  "Q6_K", "Q5_0",
                                        "Q2_K", "BF16", "Q4_1", "Q5_K", "Q5_1", "Q3_K"};
    static const char *const kv_types[] = {"f16", "q8_0", "f32"};
    enum { N_TYPES = sizeof(types) / sizeof(*types) };
    size_t turn = 0, n_models = 0;

    (void)state;
    for (const struct eng_arch *a = eng_archs; a->name; a++) {
        size_t n = 0;

        for (const struct random_model *s = random_models; s->name; s++) {
            struct random_model shape = *s;

            if (strncmp(s->name, "tiny-", 5) != 0 || strcmp(s->arch, a->name) != 0)
                continue;
            shape.n_vocab = N_VOCAB; /* the walk is long, and these two are where the time goes */
            shape.n_ff = 256;
            for (size_t k = 0; k < 3; k++) {
                const char *type = types[turn % N_TYPES];
                struct pd_err err = {0};

                if (n > 0 && n_models % 3 != k)
                    continue;
                fx_ok(random_model_write(&shape, type, true, 1, path, &err), &err);
                same_bits(&shape, type, kv_types[k]);
                if (n == 0 && n_models % 3 == k)
                    same_branches(kv_types[k]);
                unlink(path);
                turn++;
            }
            n++;
            n_models++;
        }
        if (n == 0)
            fail_msg("architecture %s has no tiny shape in tests/support/random_model.c", a->name);
    }
    assert_true(turn >= N_TYPES);
}

/* gb_llama with other embeddings and, if asked for, a head of [8] → tanh → [8] → [n_cls]. */
static void write_head(bool dense, size_t n_cls)
{
    struct gb b;
    uint8_t *bytes;
    size_t n;
    FILE *f;

    gb_llama(&b);
    for (size_t t = 0; t < 4; t++) {
        static const char *const names[] = {"token_embd.weight", "cls.weight", "cls.bias",
                                            "cls.output.weight"};
        static const uint64_t rows[] = {257, 8, 0, 3};
        struct gb_tensor *x;

        if (((t == 1 || t == 2) && !dense) || (t == 3 && n_cls == 0))
            continue;
        x = gb_tensor(&b, names[t], GGML_F32, t == 3 ? n_cls : rows[t], 8);
        for (size_t i = 0; i < x->data_bytes / 4; i++) {
            float v = (float)((int)(i * 2654435761u >> 8 & 1023) - 512) / 700;

            memcpy(x->data + 4 * i, &v, 4);
        }
    }
    if (n_cls)
        gb_tensor(&b, "cls.output.bias", GGML_F32, 0, n_cls);
    gb_u32(&b, "llama.pooling_type", 4);
    bytes = gb_finish(&b, &n);
    f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(bytes, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
    free(bytes);
    gb_done(&b);
}

/* A matrix of write_head as test and engine see it: the test's own arithmetic in double. */
static double head_value(size_t i)
{
    return (double)((float)((int)(i * 2654435761u >> 8 & 1023) - 512) / 700);
}

static void test_readouts(void **state)
{
    static const int32_t ids[] = {5, 9, 100, 42, 7, 256, 3}, labels[] = {0, 17, 256};
    static const uint32_t at[] = {1, 2, 6};
    static const struct {
        bool dense;
        uint32_t n_out;
    } heads[] = {{false, 0}, {true, 0}, {false, 3}, {true, 3}};

    (void)state;
    for (size_t h = 0; h < sizeof(heads) / sizeof(*heads); h++) {
        uint32_t n_cls = heads[h].n_out ? heads[h].n_out : heads[h].dense ? 8 : 0;
        struct eng *e = fx_eng(NULL, 2, 4, 0);
        struct eng_model *m;
        struct eng_ctx *c;
        struct eng_req q[3] = {0}, *list[3];
        struct pd_err err = {0};

        write_head(heads[h].dense, heads[h].n_out);
        m = open_model(e);
        assert_int_equal(eng_model_info(m)->n_cls, n_cls);
        assert_string_equal(eng_model_info(m)->pooling, "rank");
        for (size_t i = 0; i < 3; i++) {
            q[i] = (struct eng_req){.op = ENG_SCORE,
                                    .ctx = c = fx_ctx(e, m, ids, 7),
                                    .at = at,
                                    .n_at = 3,
                                    .read = (enum eng_read)i,
                                    .labels = i == 0 ? labels : NULL,
                                    .n_labels = i == 0 ? 3 : 0,
                                    .want_logprobs = true};
            list[i] = &q[i];
        }
        if (n_cls == 0) {
            assert_int_equal(eng_submit(e, &list[2], 1, &err), PD_EINVAL);
            assert_non_null(strstr(err.text, "has no classification head"));
            assert_int_equal(eng_classify(m, (float[8]){0}, (float[1]){0}, &err), PD_EINVAL);
        }
        fx_run(e, q, n_cls ? 3 : 2);
        assert_memory_equal(q[0].logprobs, q[1].logprobs, 7 * sizeof(float));
        assert_true(q[0].logprobs[1] < 0 && q[0].logprobs[6] < 0);
        for (size_t i = 0; i < 3; i++) {
            const float *hidden = q[1].logits + 8 * i;
            double mid[8], square = 0;
            float out[8];

            for (size_t j = 0; j < 8; j++)
                square += (double)hidden[j] * (double)hidden[j];
            assert_true(fabs(square / 8 - 1) < 1e-3); /* the norm's weights are 1 */
            for (size_t l = 0; l < 3; l++) {          /* logits are the tied matrix times it */
                double logit = 0;

                for (size_t j = 0; j < 8; j++)
                    logit += head_value((size_t)labels[l] * 8 + j) * (double)hidden[j];
                assert_true(fabs(logit - (double)q[0].logits[3 * i + l]) < 1e-5);
            }
            if (n_cls == 0)
                continue;
            fx_ok(eng_classify(m, hidden, out, &err), &err);
            assert_memory_equal(out, q[2].logits + i * n_cls, n_cls * sizeof(float));
            for (size_t j = 0; j < 8; j++) {
                mid[j] = heads[h].dense ? head_value(j) : (double)hidden[j];
                for (size_t k = 0; heads[h].dense && k < 8; k++)
                    mid[j] += head_value(j * 8 + k) * (double)hidden[k];
                mid[j] = heads[h].dense ? tanh(mid[j]) : mid[j];
            }
            for (size_t j = 0; j < n_cls; j++) {
                double want = heads[h].n_out ? 1 : mid[j]; /* the last bias is 1 */

                for (size_t k = 0; heads[h].n_out && k < 8; k++)
                    want += head_value(j * 8 + k) * mid[k];
                assert_true(fabs(want - (double)out[j]) < 1e-5);
            }
        }
        for (size_t i = 0; i < 3; i++) {
            c = q[i].ctx;
            eng_req_done(&q[i]);
            eng_ctx_free(c);
        }
        eng_model_unref(m);
        eng_close(e);
        unlink(path);
    }
}

/* A base that makes frequencies overflow. */
static void test_rotation_refused(void **state)
{
    struct eng_model *m = NULL;
    struct pd_err err = {0};
    struct gb b;
    uint8_t *bytes;
    size_t n;
    FILE *f;

    (void)state;
    gb_llama(&b);
    gb_f32(&b, "llama.rope.freq_base", 1e-38f);
    bytes = gb_finish(&b, &n);
    f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(bytes, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
    assert_int_equal(eng_model_open(NULL, path, &m, &err), PD_EFORMAT);
    assert_non_null(strstr(err.text, "of the rotation"));
    free(bytes);
    gb_done(&b);
    unlink(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_architectures),
        cmocka_unit_test(test_readouts),
        cmocka_unit_test(test_rotation_refused),
    };

    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
