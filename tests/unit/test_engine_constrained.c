/* Requests under a grammar, with the bundled models: every text fits, whoever else is running and
 * however it is cut into requests; what is drawn is drawn from the renormalised distribution. */
#include "tests/unit/engine_fixture.h"

#include "base/rng.h"

static const char schema[] =
    "{\"type\":\"object\",\"properties\":{\"answer\":{\"type\":\"integer\",\"minimum\":0,"
    "\"maximum\":500},\"unit\":{\"enum\":[\"apples\",\"coins\"]},\"sure\":{\"type\":\"boolean\"},"
    "\"note\":{\"type\":\"string\",\"maxLength\":12}},\"required\":[\"answer\",\"sure\"]}";
static const char question[] = "Tom has 3 apples and buys 4 more. How many apples has he?";

enum { N_LANES = 6, MAX_TOKENS = 120 };

static struct eng_grammar *grammar(const struct eng_model *m, enum eng_grammar_kind kind,
                                   const char *text)
{
    const struct eng_grammar_spec spec = {.kind = kind, .text = pd_str_of(text)};
    struct eng_grammar *g = NULL;
    struct pd_err err = {0};

    fx_ok(eng_grammar_new(eng_model_tokenizer(m), &spec, &g, &err), &err);
    return g;
}

static void add_text(const struct eng_model *m, const struct eng_req *q, struct pd_buf *out)
{
    size_t n = q->n_tokens - (q->finish == ENG_FINISH_EOS);

    assert_int_equal(eng_detokenize(eng_model_tokenizer(m), q->tokens, n, true, out, NULL), 0);
}

static enum eng_fit fit(struct eng_grammar *g, struct pd_str text)
{
    enum eng_fit f = ENG_FIT_NOT;
    struct pd_err err = {0};

    fx_ok(eng_grammar_fit(g, text, &f, &err), &err);
    return f;
}

/* Every lane of these requests ends by itself with a text that fits, or is cut within one. */
static void check_lanes(const struct eng_model *m, struct eng_grammar *g,
                        const struct eng_req *reqs, size_t n)
{
    size_t n_whole = 0;

    for (size_t i = 0; i < n; i++) {
        struct pd_buf text = PD_BUF_INIT(1 << 16);
        enum eng_fit f;

        add_text(m, &reqs[i], &text);
        f = fit(g, pd_buf_str(&text));
        assert_int_not_equal(f, ENG_FIT_NOT);
        if (reqs[i].finish == ENG_FINISH_EOS)
            assert_int_equal(f, ENG_FIT_WHOLE);
        n_whole += f == ENG_FIT_WHOLE;
        pd_buf_done(&text);
    }
    assert_true(n_whole > 0);
}

/* Some lanes under the schema, and one that is free among them. */
static void run_lanes(struct eng *e, struct eng_model *m, struct eng_grammar *g,
                      enum eng_speculate speculate, struct eng_req *reqs)
{
    size_t n;
    int32_t *ids = fx_prompt(m, question, &n);
    struct eng_ctx *ctx[N_LANES];

    for (size_t i = 0; i < N_LANES; i++) {
        ctx[i] = fx_ctx(e, m, ids, n);
        reqs[i] = fx_generate(ctx[i], 1.0f, 100 + i, MAX_TOKENS);
        reqs[i].grammar = i < N_LANES - 1 ? g : NULL;
        reqs[i].speculate = speculate;
    }
    fx_run(e, reqs, N_LANES);
    for (size_t i = 0; i < N_LANES; i++)
        eng_ctx_free(ctx[i]);
    free(ids);
}

static void done_lanes(struct eng_req *reqs)
{
    for (size_t i = 0; i < N_LANES; i++)
        eng_req_done(&reqs[i]);
}

static void texts_fit_whatever_runs_beside_them(void **state)
{
    static const struct {
        const char *isa;
        unsigned n_threads, chunk, max_rows;
        enum eng_speculate speculate;
    } engines[] = {{"scalar", 1, 0, 0, ENG_SPECULATE_OFF},
                   {"scalar", 3, 5, 4, ENG_SPECULATE_OFF},
                   {NULL, 2, 0, 0, ENG_SPECULATE_LOOKUP}};
    struct eng_req first[N_LANES], reqs[N_LANES];

    (void)state;
    for (size_t k = 0; k < 3; k++) {
        struct eng *e =
            fx_eng(engines[k].isa, engines[k].n_threads, engines[k].chunk, engines[k].max_rows);
        struct eng_model *m = fx_model(e, "tiny-base-Q8_0.gguf");
        struct eng_grammar *g = grammar(m, ENG_GRAMMAR_SCHEMA, schema);

        run_lanes(e, m, g, engines[k].speculate, k ? reqs : first);
        check_lanes(m, g, k ? reqs : first, N_LANES - 1);
        for (size_t i = 0; k && i < N_LANES; i++)
            fx_same(&first[i], &reqs[i]);
        if (k)
            done_lanes(reqs);
        eng_grammar_unref(g);
        eng_model_unref(m);
        fx_no_pages(e);
        eng_close(e);
    }
    done_lanes(first);
}

/* A text in requests of a few tokens each is that of one request. */
static void a_text_goes_on_where_it_was(void **state)
{
    struct eng *e = fx_eng(NULL, 1, 0, 0);
    struct eng_model *m = fx_model(e, "tiny-base-Q8_0.gguf");
    struct eng_grammar *g = grammar(m, ENG_GRAMMAR_SCHEMA, schema);
    size_t n, at = 0;
    int32_t *ids = fx_prompt(m, question, &n);
    struct eng_ctx *whole = fx_ctx(e, m, ids, n), *parts = fx_ctx(e, m, ids, n);
    struct eng_req one = fx_generate(whole, 1.0f, 7, MAX_TOKENS);
    struct pd_buf text = PD_BUF_INIT(1 << 16);

    (void)state;
    one.grammar = g;
    fx_run(e, &one, 1);
    assert_true(one.n_tokens > 10);
    while (at < one.n_tokens) {
        struct eng_req part = fx_generate(parts, 1.0f, 7, 3);

        part.grammar = g;
        part.written = pd_buf_str(&text);
        fx_run(e, &part, 1);
        assert_true(at + part.n_tokens <= one.n_tokens);
        assert_memory_equal(part.tokens, one.tokens + at, part.n_tokens * sizeof(*part.tokens));
        at += part.n_tokens;
        add_text(m, &part, &text);
        eng_req_done(&part);
    }
    pd_buf_done(&text);
    eng_req_done(&one);
    eng_ctx_free(whole);
    eng_ctx_free(parts);
    free(ids);
    eng_grammar_unref(g);
    eng_model_unref(m);
    eng_close(e);
}

/* All texts of a small grammar have the probability of their tokens among those allowed: the share
 * of each among many draws against it. */
static void shares_are_those_of_what_is_allowed(void **state)
{
    enum { DRAWS = 1500 };
    struct eng *e = fx_eng(NULL, 2, 0, 0);
    struct eng_model *m = fx_model(e, "tiny-base-Q8_0.gguf");
    const struct eng_tokenizer *t = eng_model_tokenizer(m);
    struct eng_grammar *g = grammar(m, ENG_GRAMMAR_GBNF, "root ::= [0-9]");
    size_t n, n_digits[10] = {0};
    int32_t *ids = fx_prompt(m, question, &n), labels[10];
    struct eng_ctx *root = fx_ctx(e, m, ids, n), *read = fx_fork(root);
    uint32_t at = (uint32_t)n - 1;
    struct eng_req score = {
        .op = ENG_SCORE, .ctx = read, .at = &at, .n_at = 1, .labels = labels, .n_labels = 10};
    double p[10], total = 0;

    (void)state;
    for (int i = 0; i < 10; i++) {
        char digit[] = {(char)('0' + i), '\0'};

        labels[i] = eng_token_find(t, pd_str_of(digit));
        assert_true(labels[i] >= 0);
    }
    fx_run(e, &score, 1);
    for (int i = 0; i < 10; i++)
        total += p[i] = exp((double)score.logits[i]);
    for (uint64_t k = 0; k < DRAWS; k++) {
        struct eng_ctx *c = fx_fork(root);
        struct eng_req q = fx_generate(c, 1.0f, k, 2);

        q.grammar = g;
        fx_run(e, &q, 1);
        assert_int_equal(q.finish, ENG_FINISH_EOS);
        for (int i = 0; i < 10; i++)
            n_digits[i] += q.tokens[0] == labels[i];
        eng_req_done(&q);
        eng_ctx_free(c);
    }
    for (int i = 0; i < 10; i++) { /* within four standard deviations; the draws are always these */
        double want = p[i] / total, sigma = sqrt(want * (1 - want) / DRAWS);

        assert_true(fabs((double)n_digits[i] / DRAWS - want) <= 4 * sigma + 1e-3);
    }
    eng_req_done(&score);
    eng_ctx_free(read);
    eng_ctx_free(root);
    free(ids);
    eng_grammar_unref(g);
    eng_model_unref(m);
    eng_close(e);
}

static void what_makes_no_sense_is_refused(void **state)
{
    struct eng *e = fx_eng(NULL, 1, 0, 0);
    struct eng_model *m = fx_model(e, "tiny-base-Q8_0.gguf"),
                     *other = fx_model(e, "tiny-draft-Q8_0.gguf");
    struct eng_grammar *g = grammar(m, ENG_GRAMMAR_SCHEMA, "{\"type\":\"integer\"}");
    int32_t id = 1;
    struct eng_ctx *c = fx_ctx(e, m, &id, 1), *d = fx_ctx(e, other, &id, 1);
    struct eng_req q = fx_generate(d, 1.0f, 1, 1), *list = &q;
    struct pd_err err = {0};

    (void)state;
    q.grammar = g;
    assert_int_equal(eng_submit(e, &list, 1, &err), PD_EINVAL);
    assert_non_null(strstr(err.text, "another model's tokens"));
    q.ctx = c;
    q.written = PD_STR("12x");
    assert_int_equal(eng_submit(e, &list, 1, &err), PD_EINVAL);
    assert_non_null(strstr(err.text, "byte 3 of the text does not fit the grammar"));
    q.written = PD_STR("12");
    q.ignore_end = true;
    assert_int_equal(eng_submit(e, &list, 1, &err), PD_EINVAL);
    eng_ctx_free(c);
    eng_ctx_free(d);
    eng_grammar_unref(g);
    eng_model_unref(m);
    eng_model_unref(other);
    eng_close(e);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(texts_fit_whatever_runs_beside_them),
        cmocka_unit_test(a_text_goes_on_where_it_was),
        cmocka_unit_test(shares_are_those_of_what_is_allowed),
        cmocka_unit_test(what_makes_no_sense_is_refused),
    };

    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
