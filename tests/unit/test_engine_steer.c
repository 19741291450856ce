/* Control vectors (strategies.md §10.4): gamma 0 changes no bit, logits shift by gamma W v where
 * the rest is linear, whoever shares a batch or a beginning; reading the stream; files. */
#include "tests/unit/engine_fixture.h"

#include <unistd.h>

#include "engine/gguf.h"
#include "tests/gguf_builder.h"
#include "tests/support/random_model.h"

enum { N_VOCAB = 512, N_PROMPT = 45, N_TEXT = 100, N_DRAWN = 40 };

static char dir[] = "/tmp/test_engine_steer.XXXXXX";
static char model_path[64], vector_path[64];
static int32_t text[N_TEXT];
static struct eng *e;
static struct eng_model *m;
static float *v; /* [n_embd] */

static int setup(void **state)
{
    (void)state;
    if (!mkdtemp(dir))
        return -1;
    snprintf(model_path, sizeof(model_path), "%s/model.gguf", dir);
    snprintf(vector_path, sizeof(vector_path), "%s/vector.gguf", dir);
    for (int32_t i = 0; i < N_TEXT; i++)
        text[i] = 300 + i * 37 % (N_VOCAB - 310);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    unlink(model_path);
    unlink(vector_path);
    return rmdir(dir);
}

static void open_with(const struct eng_config *config)
{
    struct pd_err err = {0};

    fx_ok(eng_open(config, &e, &err), &err);
    fx_ok(eng_model_open(e, model_path, &m, &err), &err);
    v = malloc(eng_model_info(m)->n_embd * sizeof(*v));
    for (uint32_t i = 0; i < eng_model_info(m)->n_embd; i++)
        v[i] = (float)sin(0.7 * i + 0.3);
}

/* eps: 0, or one that makes norms a multiplication, so that the model's last part is linear. */
static void open_model(float eps)
{
    struct random_model shape = *random_model_find("tiny-llama");
    struct pd_err err = {0};

    if (eps > 0)
        shape.rms_eps = eps;
    fx_ok(random_model_write(&shape, "F32", false, 3, model_path, &err), &err);
    open_with(&(struct eng_config){.kv_type = "f32", .n_threads = 2});
}

static void close_model(void)
{
    fx_no_pages(e);
    eng_model_unref(m);
    eng_close(e);
    free(v);
}

static struct eng_steer *steering(uint32_t layer, float gamma)
{
    struct eng_steer *s;
    struct pd_err err = {0};

    fx_ok(eng_steer_new(m, layer, v, gamma, &s, &err), &err);
    return s;
}

static struct eng_ctx *steered(struct eng_steer *s, size_t n, size_t from)
{
    struct eng_ctx *c = fx_ctx(e, m, text, n);
    struct pd_err err = {0};

    fx_ok(eng_ctx_steer(c, s, from, &err), &err);
    return c;
}

/* What a fresh context reads at the last of n tokens; from: where it is steered. malloc'ed. */
static float *read_last(struct eng_steer *s, size_t n, size_t from, enum eng_read read,
                        uint32_t layer)
{
    struct eng_ctx *c = steered(s, n, from);
    int32_t labels[N_VOCAB];
    uint32_t at = (uint32_t)n - 1;
    struct eng_req q = {.op = ENG_SCORE,
                        .ctx = c,
                        .at = &at,
                        .n_at = 1,
                        .read = read,
                        .layer = layer,
                        .labels = labels,
                        .n_labels = read == ENG_READ_LABELS ? N_VOCAB : 0};
    float *out;

    for (int32_t i = 0; i < N_VOCAB; i++)
        labels[i] = i;
    fx_run(e, &q, 1);
    assert_int_equal(q.finish, ENG_FINISH_NONE);
    out = q.logits;
    q.logits = NULL;
    eng_req_done(&q);
    eng_ctx_free(c);
    return out;
}

static float *tensor(struct gguf *g, const char *name)
{
    const struct gguf_tensor *t = gguf_tensor(g, name);
    struct pd_err err = {0};
    float *out;

    assert_non_null(t);
    assert_int_equal(t->type, GGML_F32);
    fx_ok(gguf_fetch(g, t->data, t->bytes, &err), &err);
    out = malloc(t->bytes);
    memcpy(out, t->data, t->bytes);
    return out;
}

/* With a huge epsilon a norm is x w / sqrt(eps): behind the last block the model is linear, and
 * logits shift by gamma W diag(w) v / sqrt(eps). */
static void test_linear_model_shifts_by_gamma_w_v(void **state)
{
    const float root = 1048576, gammas[] = {0.25F, -1, 8};
    struct gguf *g;
    struct pd_err err = {0};
    float *w, *norm, *plain;
    uint32_t n_embd, last;

    (void)state;
    open_model(root * root);
    n_embd = eng_model_info(m)->n_embd;
    last = eng_model_info(m)->n_layer;
    fx_ok(gguf_open(model_path, &g, &err), &err);
    w = tensor(g, "output.weight");
    norm = tensor(g, "output_norm.weight");
    plain = read_last(NULL, 50, 0, ENG_READ_LABELS, 0);
    for (size_t k = 0; k < sizeof(gammas) / sizeof(*gammas); k++) {
        struct eng_steer *s = steering(last, gammas[k]);
        float *with = read_last(s, 50, 49, ENG_READ_LABELS, 0);
        double most = 0, worst = 0;

        for (size_t id = 0; id < N_VOCAB; id++) {
            double shift = 0;

            for (size_t i = 0; i < n_embd; i++)
                shift += (double)w[id * n_embd + i] * (double)norm[i] * (double)v[i];
            shift *= (double)(gammas[k] / root);
            most = fmax(most, fabs(shift));
            worst = fmax(worst, fabs((double)with[id] - (double)plain[id] - shift));
        }
        assert_true(worst <= 2e-6 * most + 1e-12); /* rounding of sums in F32 */
        free(with);
        eng_steer_unref(s);
    }
    free(plain);
    free(w);
    free(norm);
    gguf_close(g);
    close_model();
}

/* The stream behind each layer: the steered one is the plain one plus gamma v, bit for bit, and the
 * last one normed is the hidden state. */
static void test_stream(void **state)
{
    uint32_t n_embd, n_layer;

    (void)state;
    open_model(0);
    n_embd = eng_model_info(m)->n_embd;
    n_layer = eng_model_info(m)->n_layer;
    for (uint32_t l = 1; l <= n_layer; l++) {
        struct eng_steer *s = steering(l, 0.5F);
        float *plain = read_last(NULL, 50, 0, ENG_READ_LAYER, l);
        float *with = read_last(s, 50, 49, ENG_READ_LAYER, l);
        float *behind = read_last(s, 50, 50, ENG_READ_LAYER, l); /* not there yet */

        for (uint32_t i = 0; i < n_embd; i++)
            plain[i] += 0.5F * v[i];
        assert_memory_equal(plain, with, n_embd * sizeof(*with));
        for (uint32_t i = 0; i < n_embd; i++)
            with[i] = behind[i] + 0.5F * v[i];
        assert_memory_equal(plain, with, n_embd * sizeof(*with));
        free(plain);
        free(with);
        free(behind);
        eng_steer_unref(s);
    }
    close_model();
}

/* A text drawn behind the prompt, steered from there on. */
static void draw(struct eng_steer *s, enum eng_speculate how, struct eng_req *q)
{
    struct eng_ctx *c = steered(s, N_PROMPT, N_PROMPT);

    *q = fx_generate(c, 0.9F, 11, N_DRAWN);
    q->ignore_end = true;
    q->speculate = how;
    q->draft_always = true;
    fx_run(e, q, 1);
    assert_int_equal(q->n_tokens, N_DRAWN);
    eng_ctx_free(c);
}

static void test_gamma_0_is_plain(void **state)
{
    struct eng_stats before, after;
    struct eng_req plain, with;
    struct eng_steer *s;

    (void)state;
    open_model(0);
    draw(NULL, ENG_SPECULATE_OFF, &plain);
    eng_stats(e, &before);
    s = steering(2, 0);
    draw(s, ENG_SPECULATE_OFF, &with);
    eng_stats(e, &after);
    fx_same(&plain, &with);
    /* it even shares what was evaluated */
    assert_int_equal(after.prefix_hit_tokens - before.prefix_hit_tokens, N_PROMPT - 1);
    eng_req_done(&plain);
    eng_req_done(&with);
    eng_steer_unref(s);
    close_model();
}

/* Steered and plain lanes that begin alike share their prompt, and no page behind it, whoever came
 * first. */
static void test_pages_are_not_shared(void **state)
{
    struct eng_steer *s;
    float *plain, *with, *cold_plain, *cold_with;

    (void)state;
    open_model(0);
    for (int first = 0; first < 2; first++) {
        struct eng_stats a, b;

        close_model();
        open_model(0);
        s = steering(1, 2);
        with = first ? read_last(s, N_TEXT, N_PROMPT, ENG_READ_LABELS, 0) : NULL;
        plain = read_last(NULL, N_TEXT, 0, ENG_READ_LABELS, 0);
        eng_stats(e, &a);
        if (!with)
            with = read_last(s, N_TEXT, N_PROMPT, ENG_READ_LABELS, 0);
        eng_stats(e, &b);
        if (!first) /* the prompt's, whole pages or not */
            assert_int_equal(b.prefix_hit_tokens - a.prefix_hit_tokens, N_PROMPT);
        eng_steer_unref(s);
        close_model();
        open_with(&(struct eng_config){.kv_type = "f32", .no_prefix_cache = true});
        s = steering(1, 2);
        cold_plain = read_last(NULL, N_TEXT, 0, ENG_READ_LABELS, 0);
        cold_with = read_last(s, N_TEXT, N_PROMPT, ENG_READ_LABELS, 0);
        assert_memory_equal(plain, cold_plain, N_VOCAB * sizeof(*plain));
        assert_memory_equal(with, cold_with, N_VOCAB * sizeof(*with));
        assert_memory_not_equal(with, plain, N_VOCAB * sizeof(*with));
        free(plain);
        free(with);
        free(cold_plain);
        free(cold_with);
        eng_steer_unref(s);
    }
    close_model();
}

/* The same text alone, beside plain and otherwise steered lanes, in any chunks, threads,
 * instruction set, speculating, from a fork, and rolled back. */
static void test_bits(void **state)
{
    static const struct eng_config ways[] = {
        {.kv_type = "f32", .n_threads = 1, .isa = "scalar", .prefill_chunk = 7},
        {.kv_type = "f32", .n_threads = 3, .prefill_chunk = 1, .max_rows = 5},
        {.kv_type = "f32", .n_threads = 2, .no_prefix_cache = true},
    };
    struct eng_req alone, again, lanes[3];
    struct eng_steer *s, *other;
    struct pd_err err = {0};
    struct eng_ctx *c;

    (void)state;
    open_model(0);
    s = steering(2, 1.5F);
    draw(s, ENG_SPECULATE_OFF, &alone);
    draw(s, ENG_SPECULATE_LOOKUP, &again);
    fx_same(&alone, &again);
    eng_req_done(&again);
    eng_steer_unref(s);
    for (size_t w = 0; w < sizeof(ways) / sizeof(*ways); w++) {
        close_model();
        open_with(&ways[w]);
        s = steering(2, 1.5F);
        other = steering(1, -1);
        for (size_t i = 0; i < 3; i++) {
            lanes[i] = fx_generate(steered(i == 0   ? NULL
                                           : i == 1 ? s
                                                    : other,
                                           N_PROMPT, N_PROMPT),
                                   0.9F, 11, N_DRAWN);
            lanes[i].ignore_end = true;
        }
        fx_run(e, lanes, 3);
        fx_same(&alone, &lanes[1]);
        assert_memory_not_equal(alone.tokens, lanes[0].tokens, N_DRAWN * sizeof(int32_t));
        /* a fork in the midst of the text, rolled back to the prompt */
        c = fx_fork(lanes[1].ctx);
        fx_ok(eng_ctx_rollback(c, N_PROMPT, &err), &err);
        again = fx_generate(c, 0.9F, 11, N_DRAWN);
        again.ignore_end = true;
        fx_run(e, &again, 1);
        fx_same(&alone, &again);
        eng_req_done(&again);
        eng_ctx_free(c);
        for (size_t i = 0; i < 3; i++) {
            eng_ctx_free(lanes[i].ctx);
            eng_req_done(&lanes[i]);
        }
        eng_steer_unref(s);
        eng_steer_unref(other);
    }
    eng_req_done(&alone);
    close_model();
}

/* What was dropped before the steered part does not move it. */
static void test_drop_moves_the_beginning(void **state)
{
    struct eng_steer *s;
    struct eng_ctx *c, *d;
    struct eng_req q[2];
    struct pd_err err = {0};

    (void)state;
    open_model(0);
    s = steering(1, 2);
    c = steered(s, 60, 50);
    d = steered(s, 60, 50);
    fx_ok(eng_ctx_drop(c, 10, 20, &err), &err); /* nothing is evaluated yet */
    fx_ok(eng_ctx_rollback(d, 10, &err), &err);
    fx_ok(eng_ctx_append(d, text + 20, 40, &err), &err);
    fx_ok(eng_ctx_steer(d, s, 40, &err), &err);
    q[0] = fx_generate(c, 0, 1, 8);
    q[1] = fx_generate(d, 0, 1, 8);
    fx_run(e, q, 2);
    fx_same(&q[0], &q[1]);
    for (int i = 0; i < 2; i++)
        eng_req_done(&q[i]);
    eng_ctx_free(c);
    eng_ctx_free(d);
    eng_steer_unref(s);
    close_model();
}

static void test_files(void **state)
{
    struct eng_steer *s, *t;
    struct pd_err err = {0};
    float *a, *b;

    (void)state;
    open_model(0);
    fx_ok(eng_steer_write(vector_path, m, 2, v, &err), &err);
    fx_ok(eng_steer_open(vector_path, 0.75F, m, &s, &err), &err);
    t = steering(2, 0.75F);
    a = read_last(s, 50, 45, ENG_READ_LABELS, 0);
    b = read_last(t, 50, 45, ENG_READ_LABELS, 0);
    assert_memory_equal(a, b, N_VOCAB * sizeof(*a));
    free(a);
    free(b);
    eng_steer_unref(s);
    eng_steer_unref(t);
    close_model();
}

/* A file with one tensor that is not as it should be, or of another kind. */
static void refuse(const char *arch, const char *tensor_name, uint64_t width, uint32_t type,
                   float value, const char *what)
{
    struct eng_steer *s = NULL;
    struct pd_err err = {0};
    struct gb b;
    uint8_t *bytes;
    size_t n;

    gb_init(&b);
    gb_str(&b, "general.architecture", arch);
    if (tensor_name)
        memcpy(gb_tensor(&b, tensor_name, type, 0, width)->data, &value, sizeof(value));
    bytes = gb_finish(&b, &n);
    fx_ok(pd_write_file(vector_path, (struct pd_str){(char *)bytes, n}, &err), &err);
    free(bytes);
    gb_done(&b);
    assert_int_equal(eng_steer_open(vector_path, 1, m, &s, &err), PD_EFORMAT);
    assert_non_null(strstr(err.text, what));
    assert_non_null(strstr(err.text, vector_path));
}

static void test_errors(void **state)
{
    struct eng_steer *s = NULL;
    struct pd_err err = {0};
    uint64_t n;

    (void)state;
    open_model(0);
    n = eng_model_info(m)->n_embd;
    refuse("llama", "direction.1", n, GGML_F32, 1, "architecture is 'llama'");
    refuse("controlvector", "token_embd.weight", n, GGML_F32, 1, "no direction.N");
    refuse("controlvector", "direction.x", n, GGML_F32, 1, "no direction.N");
    refuse("controlvector", "direction.9", n, GGML_F32, 1, "does not fit the model");
    refuse("controlvector", "direction.1", n + 32, GGML_F32, 1, "does not fit the model");
    refuse("controlvector", "direction.1", n, GGML_F16, 1, "does not fit the model");
    refuse("controlvector", "direction.1", n, GGML_F32, NAN, "not of numbers");
    refuse("controlvector", NULL, n, GGML_F32, 1, "no vectors");
    assert_int_equal(eng_steer_new(m, 0, v, 1, &s, &err), PD_EINVAL);
    assert_int_equal(eng_steer_new(m, eng_model_info(m)->n_layer + 1, v, 1, &s, &err), PD_EINVAL);
    assert_int_equal(eng_steer_open(vector_path, INFINITY, m, &s, &err), PD_EINVAL);
    close_model();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_linear_model_shifts_by_gamma_w_v),
        cmocka_unit_test(test_stream),
        cmocka_unit_test(test_gamma_0_is_plain),
        cmocka_unit_test(test_pages_are_not_shared),
        cmocka_unit_test(test_bits),
        cmocka_unit_test(test_drop_moves_the_beginning),
        cmocka_unit_test(test_files),
        cmocka_unit_test(test_errors),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
