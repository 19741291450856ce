/* Every architecture and every tensor type against an independent forward pass in double precision
 * (tests/reference/forward.py): models with random weights, made here again from the same shape,
 * type and seed. One test is one shape. */
#include "tests/unit/engine_fixture.h"

#include <unistd.h>

#include "tests/support/random_model.h"
#include "tests/unit/engine_tolerance.h"

enum { MAX_PROMPT = 64, MAX_STEPS = 32, MAX_TEXT = 2048 };

static const char *const shapes[] = {
    "tiny-llama",     "tiny-llama3", "tiny-llama-linear", "tiny-qwen2", "tiny-qwen2-yarn",
    "tiny-qwen2-cls", "tiny-qwen3",  "tiny-qwen3moe",     "tiny-phi3",  "tiny-phi3-long",
    "tiny-gemma",     "tiny-gemma2", "tiny-gemma3",       "bundled",
};

static struct pd_json *load(const char *shape)
{
    const char *dir = getenv("PONDER_TEST_SRCDIR");
    char path[4096];

    snprintf(path, sizeof(path), "%s/tests/reference/%s.json", dir ? dir : ".", shape);
    return fx_json(path);
}

/* The model of a case; its file is gone when this returns. */
static struct eng_model *random_model(struct eng *e, const char *shape, const char *type,
                                      uint64_t seed)
{
    bool pure = strstr(type, "_M") == NULL;
    char path[] = "/tmp/test_engine_models.XXXXXX";
    struct pd_err err = {0};
    struct eng_model *m = NULL;
    int fd = mkstemp(path);

    assert_true(fd >= 0 && close(fd) == 0);
    fx_ok(random_model_write(random_model_find(shape), type, pure, seed, path, &err), &err);
    fx_ok(eng_model_open(e, path, &m, &err), &err);
    assert_int_equal(unlink(path), 0);
    return m;
}

/* What of a case's file is compared, and how far it was off. */
struct comparison {
    const char *shape, *type;
    double tolerance, rare;
    size_t n_logits, n_beyond, n_argmax, n_greedy;
    double worst, perplexity; /* perplexity: its relative error */
};

static double largest(const struct pd_json *step, size_t i)
{
    return fx_number(pd_json_at(pd_json_at(step, i), 1));
}

static bool is_close_call(const struct comparison *c, const struct pd_json *step)
{
    return largest(step, 0) - largest(step, 1) < 2 * c->tolerance;
}

static uint32_t argmax(const float *x, uint32_t n)
{
    uint32_t best = 0;

    for (uint32_t i = 1; i < n; i++)
        best = x[i] > x[best] ? i : best;
    return best;
}

static void check_off(struct comparison *c, double got, double want)
{
    double off = fabs(got - want);

    c->worst = off > c->worst ? off : c->worst;
    c->n_beyond += !(off <= c->tolerance);
    c->n_logits++;
}

/* The logits after prompt and continuation as the reference has it, each step's own. */
static void check_logits(struct comparison *c, const struct pd_json *top, const struct eng_req *q)
{
    size_t i = 0;

    for (const struct pd_json *step = pd_json_first(top); step; step = pd_json_next(step), i++) {
        const float *logits = q->logits + i * q->n_labels;

        for (const struct pd_json *p = pd_json_first(step); p; p = pd_json_next(p))
            check_off(c, (double)logits[(uint32_t)fx_number(pd_json_at(p, 0))],
                      fx_number(pd_json_at(p, 1)));
        if (!is_close_call(c, step) && c->rare == 0) {
            assert_int_equal(argmax(logits, q->n_labels),
                             (int)fx_number(pd_json_at(pd_json_at(step, 0), 0)));
            c->n_argmax++;
        }
    }
    assert_int_equal(i, q->n_at);
}

/* The engine's own continuation, until one that is as good begins. */
static void check_greedy(struct comparison *c, const struct pd_json *top, const struct eng_req *q)
{
    for (const struct pd_json *step = pd_json_first(top);
         step && !is_close_call(c, step) && c->rare == 0; step = pd_json_next(step)) {
        assert_true(c->n_greedy < q->n_tokens);
        assert_int_equal(q->tokens[c->n_greedy],
                         (int)fx_number(pd_json_at(pd_json_at(step, 0), 0)));
        c->n_greedy++;
    }
}

/* The classification head at each step. */
static void check_head(struct comparison *c, struct eng *e, struct eng_model *m,
                       const struct pd_json *cls, const int32_t *ids, const uint32_t *at, size_t n)
{
    struct eng_ctx *x = fx_ctx(e, m, ids, at[n - 1] + 1);
    struct eng_req q = {
        .op = ENG_SCORE, .ctx = x, .read = ENG_READ_CLS, .at = at, .n_at = (uint32_t)n};
    size_t i = 0;

    fx_run(e, &q, 1);
    assert_int_equal(q.finish, ENG_FINISH_NONE);
    for (const struct pd_json *step = pd_json_first(cls); step; step = pd_json_next(step))
        for (const struct pd_json *v = pd_json_first(step); v; v = pd_json_next(v))
            check_off(c, (double)q.logits[i++], fx_number(v));
    assert_int_equal(i, n * eng_model_info(m)->n_cls);
    eng_req_done(&q);
    eng_ctx_free(x);
}

static void check_continuation(struct comparison *c, struct eng *e, struct eng_model *m,
                               const struct pd_json *want, const int32_t *prompt, size_t n_prompt)
{
    const struct pd_json *top = pd_json_get(want, "top"), *logprobs = pd_json_get(want, "logprobs");
    uint32_t n_vocab = eng_model_info(m)->n_vocab, at[MAX_STEPS];
    int32_t ids[MAX_PROMPT + MAX_STEPS], *labels = malloc(n_vocab * sizeof(*labels));
    size_t n = fx_ints(pd_json_get(want, "greedy"), ids + n_prompt, MAX_STEPS), i = 1;
    struct eng_ctx *g = fx_ctx(e, m, prompt, n_prompt), *s;
    struct eng_req q[2] = {fx_generate(g, 0.0f, 0, (uint32_t)n)};

    assert_non_null(labels);
    memcpy(ids, prompt, n_prompt * sizeof(*ids));
    for (uint32_t j = 0; j < n_vocab; j++)
        labels[j] = (int32_t)j;
    for (size_t j = 0; j < n; j++)
        at[j] = (uint32_t)(n_prompt - 1 + j);
    s = fx_ctx(e, m, ids, n_prompt + n);
    q[1] = (struct eng_req){.op = ENG_SCORE,
                            .ctx = s,
                            .at = at,
                            .n_at = (uint32_t)n,
                            .labels = labels,
                            .n_labels = n_vocab,
                            .want_logprobs = true};
    fx_run(e, q, 2);
    assert_int_equal(q[1].finish, ENG_FINISH_NONE);
    check_greedy(c, top, &q[0]);
    check_logits(c, top, &q[1]);
    for (const struct pd_json *p = pd_json_first(logprobs); p; p = pd_json_next(p))
        check_off(c, (double)q[1].logprobs[i++], fx_number(p));
    assert_int_equal(i, n_prompt + n);
    if (eng_model_info(m)->n_cls)
        check_head(c, e, m, pd_json_get(want, "cls"), ids, at, n);
    eng_req_done(&q[0]);
    eng_req_done(&q[1]);
    eng_ctx_free(g);
    eng_ctx_free(s);
    free(labels);
}

static void check_text(struct comparison *c, struct eng *e, struct eng_model *m,
                       const struct pd_json *want, const int32_t *text, size_t n)
{
    struct eng_ctx *x = fx_ctx(e, m, text, n);
    struct eng_req q = {.op = ENG_SCORE, .ctx = x, .want_logprobs = true};
    double nll = 0;

    fx_run(e, &q, 1);
    assert_int_equal(q.finish, ENG_FINISH_NONE);
    for (size_t i = 1; i < n; i++)
        nll -= (double)q.logprobs[i];
    c->perplexity = fabs(exp(nll / (double)(n - 1) - fx_number(pd_json_get(want, "nll"))) - 1);
    eng_req_done(&q);
    eng_ctx_free(x);
}

/* Weights that are multiplied with the activations as they are. */
static bool is_exact(const char *type)
{
    return strchr(type, 'F') != NULL;
}

static void check_case(struct comparison *c, const struct pd_json *root, const struct pd_json *want)
{
    int32_t prompt[MAX_PROMPT], text[MAX_TEXT];
    size_t n_prompt = fx_ints(pd_json_get(root, "prompt"), prompt, MAX_PROMPT);
    size_t n_text = fx_ints(pd_json_get(root, "text"), text, MAX_TEXT);
    struct eng *e = fx_eng(NULL, 2, 0, 0);
    struct eng_model *m =
        random_model(e, c->shape, c->type, (uint64_t)fx_number(pd_json_get(root, "seed")));

    check_continuation(c, e, m, want, prompt, n_prompt);
    if (n_text)
        check_text(c, e, m, want, text, n_text);
    printf("# %s %s: largest error %.4f, %zu of %zu above %g; %zu arg-maxima, %zu greedy steps "
           "equal; perplexity of %zu tokens off by %.3f %%\n",
           c->shape, c->type, c->worst, c->n_beyond, c->n_logits, c->tolerance, c->n_argmax,
           c->n_greedy, n_text, 100 * c->perplexity);
    fflush(stdout);
    assert_true((double)c->n_beyond <= c->rare * (double)c->n_logits);
    assert_true(c->perplexity <=
                (is_exact(c->type) ? TOLERANCE_PERPLEXITY_EXACT : TOLERANCE_PERPLEXITY_INT8));
    fx_no_pages(e);
    eng_model_unref(m);
    eng_close(e);
}

static void test_shape(void **state)
{
    const char *shape = *state;
    struct pd_json *root = load(shape);
    const struct pd_json *cases = pd_json_get(root, "cases");
    bool experts = random_model_find(shape)->n_expert > 0;
    size_t n_argmax = 0;

    assert_true(pd_json_size(cases) >= 3);
    for (const struct pd_json *want = pd_json_first(cases); want; want = pd_json_next(want)) {
        const char *type = pd_json_string(pd_json_get(want, "type"));
        bool exact = is_exact(type);
        struct comparison c = {.shape = shape,
                               .type = type,
                               .tolerance = exact ? TOLERANCE_EXACT : TOLERANCE_INT8,
                               .rare = experts && !exact ? RARE_EXPERTS : 0};
        check_case(&c, root, want);
        n_argmax += c.n_argmax;
    }
    assert_true(n_argmax >= 12);
    pd_json_free(root);
}

int main(void)
{
    struct CMUnitTest tests[sizeof(shapes) / sizeof(*shapes)];

    for (size_t i = 0; i < sizeof(shapes) / sizeof(*shapes); i++)
        tests[i] = (struct CMUnitTest){.name = shapes[i],
                                       .test_func = test_shape,
                                       .initial_state = (void *)(uintptr_t)shapes[i]};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
