/* Speculation: the same bits with it as without, at every temperature, in any company, whatever was
 * guessed; what was guessed wrongly leaves nothing behind; how many guesses are worth their time.
 */
#include "tests/unit/engine_fixture.h"

#include "base/rng.h"
#include "engine/kernels.h"
#include "engine/sample.h"
#include "engine/spec.h"

static const char *const questions[3] = {
    "Zoe has 9 stamps. She gives away a third of them. Then she loses 2. How many stamps does Zoe "
    "have now?",
    "Sam has 18 cups. Sam has 4 more cups than Omar. How many cups do Sam and Omar have together?",
    "Ben buys 5 boxes with 4 pens each. How many pens does Ben have?",
};

static struct eng *e, *cold; /* see fx_cold_eng */
static struct eng_model *base, *small;
static int32_t *prompts[3];
static size_t n_prompts[3];

static int setup(void **state)
{
    (void)state;
    e = fx_eng(NULL, 2, 16, 0);
    cold = fx_cold_eng();
    base = fx_model(e, "tiny-base-Q8_0.gguf");
    small = fx_model(e, "tiny-draft-Q8_0.gguf");
    for (int i = 0; i < 3; i++)
        prompts[i] = fx_prompt(base, questions[i], &n_prompts[i]);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    for (int i = 0; i < 3; i++)
        free(prompts[i]);
    fx_no_pages(e);
    eng_model_unref(base);
    eng_model_unref(small);
    eng_close(e);
    eng_close(cold);
    return 0;
}

static struct eng_req lane(struct eng *in, int question, float temperature, uint64_t key)
{
    struct eng_req q =
        fx_generate(fx_ctx(in, base, prompts[question], n_prompts[question]), temperature, key, 90);

    q.sampling.top_p = key % 2 ? 0.95f : 1.0f;
    return q;
}

static struct eng_req guessed(int question, float temperature, uint64_t key, enum eng_speculate how,
                              uint32_t max)
{
    struct eng_req q = lane(e, question, temperature, key);

    q.speculate = how;
    q.draft = small;
    q.draft_max = max;
    q.draft_always = true;
    return q;
}

/* What each would draw next is the same: the contexts say the same and keep nothing else. */
static void same_behind(const struct eng_req *a, const struct eng_req *b)
{
    struct eng_req q[2] = {fx_generate(fx_fork(a->ctx), 1.0f, 9, 5),
                           fx_generate(fx_fork(b->ctx), 1.0f, 9, 5)};

    assert_int_equal(eng_ctx_n_tokens(a->ctx), eng_ctx_n_tokens(b->ctx));
    assert_int_equal(eng_ctx_n_cached(a->ctx), eng_ctx_n_cached(b->ctx));
    fx_run(cold, &q[0], 1);
    fx_run(e, &q[1], 1);
    fx_same(&q[0], &q[1]);
    for (int i = 0; i < 2; i++) {
        eng_ctx_free(q[i].ctx);
        eng_req_done(&q[i]);
    }
}

static void done(struct eng_req *q)
{
    eng_ctx_free(q->ctx);
    eng_req_done(q);
}

static void test_the_same_text(void **state)
{
    static const float temperatures[] = {0, 0.8f, 1.3f};
    static const uint32_t lengths[] = {1, 4, ENG_MAX_DRAFT};
    static const char *const stops[] = {"\n\n", "=", NULL};
    uint64_t key = 0;

    (void)state;
    for (enum eng_speculate how = ENG_SPECULATE_LOOKUP; how <= ENG_SPECULATE_DRAFT; how++) {
        uint32_t n_guessed = 0, n_right = 0;

        for (int t = 0; t < 3; t++) {
            for (int l = 0; l < 3; l++, key++) {
                struct eng_req a = lane(cold, l, temperatures[t], key);
                struct eng_req b = guessed(l, temperatures[t], key, how, lengths[l]);

                a.stops = b.stops = key % 3 == 2 ? stops : NULL;
                a.ignore_end = b.ignore_end = key % 3 == 1;
                fx_run(cold, &a, 1);
                fx_run(e, &b, 1);
                fx_same(&a, &b);
                same_behind(&a, &b);
                n_guessed += b.n_guessed;
                n_right += b.n_right;
                done(&a);
                done(&b);
            }
        }
        printf("# %s: %u of %u guesses were right\n",
               how == ENG_SPECULATE_DRAFT ? "draft model" : "lookup", n_right, n_guessed);
        assert_true(n_right > 50 && n_right < n_guessed);
    }
}

/* Lanes that guess and lanes that do not, in the same steps; also with too few rows for all. */
static void test_in_company(void **state)
{
    static const unsigned rows[] = {0, 20, 5};

    (void)state;
    for (int k = 0; k < 3; k++) {
        struct eng *in = fx_eng(NULL, 2, 16, rows[k]);
        struct eng_req q[8];

        for (int i = 0; i < 8; i++) {
            q[i] = lane(in, i % 3, i % 2 ? 0.8f : 0, (uint64_t)i);
            q[i].speculate = (enum eng_speculate)(i % 3);
            q[i].draft = small;
            q[i].draft_always = i < 6;
        }
        fx_run(in, q, 8);
        for (int i = 0; i < 8; i++) {
            struct eng_req a = lane(cold, i % 3, i % 2 ? 0.8f : 0, (uint64_t)i);

            fx_run(cold, &a, 1);
            fx_same(&a, &q[i]);
            if (k == 0 && i < 6)
                assert_int_equal(q[i].n_guessed > 0, q[i].speculate > 0);
            done(&a);
            done(&q[i]);
        }
        fx_no_pages(in);
        eng_close(in);
    }
}

/* Where there is no room for guesses there are none. */
static void test_in_a_full_pool(void **state)
{
    struct eng_config config = {.n_threads = 1};
    struct eng_memory memory;
    struct pd_err err = {0};
    struct eng *in = NULL;
    struct eng_req a = lane(cold, 0, 0.8f, 3), b;

    (void)state;
    a.ignore_end = true;
    fx_run(cold, &a, 1);
    fx_ok(eng_model_estimate(cold, fx_path("tiny-base-Q8_0.gguf"), &memory, &err), &err);
    config.kv_bytes = memory.kv_page_bytes * ((n_prompts[0] + 90 - 1 + 31) / 32);
    fx_ok(eng_open(&config, &in, &err), &err);
    b = lane(in, 0, 0.8f, 3);
    b.ignore_end = true;
    b.speculate = ENG_SPECULATE_DRAFT;
    b.draft = small;
    b.draft_max = ENG_MAX_DRAFT;
    b.draft_always = true;
    fx_run(in, &b, 1);
    assert_int_equal(b.finish, ENG_FINISH_LENGTH);
    fx_same(&a, &b);
    done(&a);
    done(&b);
    fx_no_pages(in);
    eng_close(in);
}

/* A race is decided by who needs the fewest tokens, so nobody runs ahead in it. */
static void test_races_do_not_guess(void **state)
{
    struct eng_race race[2] = {{.m = 2}, {.m = 2}};
    struct eng_req q[2][4];

    (void)state;
    for (int k = 0; k < 2; k++) {
        for (int i = 0; i < 4; i++) {
            q[k][i] =
                guessed(0, 0.8f, (uint64_t)i, k ? ENG_SPECULATE_LOOKUP : ENG_SPECULATE_OFF, 8);
            q[k][i].race = &race[k];
        }
        fx_run(e, q[k], 4);
    }
    for (int i = 0; i < 4; i++) {
        fx_same(&q[0][i], &q[1][i]);
        assert_int_equal(q[1][i].n_guessed, 0);
        done(&q[0][i]);
        done(&q[1][i]);
    }
}

/* With a bias texts are guessed at, with penalties they are not; both are the same. */
static void test_adjusted_logits(void **state)
{
    static const struct pd_bias bias[] = {{20, 2.0f}, {33, -3.0f}};
    static const struct eng_adjust adjust[2] = {{.bias = bias, .n_bias = 2},
                                                {.presence = 0.5f, .frequency = 0.2f}};

    (void)state;
    for (int k = 0; k < 2; k++) {
        struct eng_req a = lane(cold, k, 0.8f, 4), b = guessed(k, 0.8f, 4, ENG_SPECULATE_DRAFT, 4);

        a.adjust = b.adjust = &adjust[k];
        a.n_top = b.n_top = 3;
        fx_run(cold, &a, 1);
        fx_run(e, &b, 1);
        fx_same(&a, &b);
        assert_memory_equal(a.top_ids, b.top_ids, a.n_tokens * 3 * sizeof(*a.top_ids));
        assert_memory_equal(a.top_logprobs, b.top_logprobs, a.n_tokens * 3 * sizeof(float));
        assert_int_equal(b.n_guessed > 0, k == 0);
        done(&a);
        done(&b);
    }
}

static void test_refusals(void **state)
{
    struct eng_req q = guessed(0, 0, 0, ENG_SPECULATE_DRAFT, ENG_MAX_DRAFT + 1), *list = &q;
    struct eng_model *other = fx_model(e, "tiny-base-F16.gguf");
    struct pd_err err = {0};

    (void)state;
    assert_int_equal(eng_submit(e, &list, 1, &err), PD_EINVAL);
    q.draft_max = 4;
    q.draft = NULL;
    assert_int_equal(eng_submit(e, &list, 1, &err), PD_EINVAL);
    q.draft = other; /* any model will do that has these tokens */
    fx_run(e, &q, 1);
    assert_true(q.n_right > 0);
    done(&q);
    eng_model_unref(other);
}

/* ---- whose numbers
 * ---------------------------------------------------------------------------------------- */

/* Shares of the tokens, as logits. */
static int32_t draw(const double *share, size_t n, uint64_t pos)
{
    const struct eng_sampling s = {1.0f, 0, 1.0f, 0.0f};
    struct sample_scratch scratch;
    static const struct sample_counts none;
    struct sample_drawn drawn = {0};
    float logits[8];

    for (size_t i = 0; i < n; i++)
        logits[i] = (float)log(share[i]);
    assert_int_equal(sample_scratch_init(&scratch, n), 0);
    assert_int_equal(sample_token(eng_kernels(ENG_ISA_SCALAR), logits, n, &s, NULL, &none, NULL, 77, pos,
                                  &scratch, &drawn),
                     0);
    sample_scratch_done(&scratch);
    return drawn.id;
}

/* Of two laws, what their cumulative sums have in common: so often both draw the same token. */
static double overlap(const double *p, const double *q, size_t n)
{
    double sum = 0, a = 0, b = 0;

    for (size_t i = 0; i < n; a += p[i], b += q[i], i++) {
        double lo = a > b ? a : b, hi = a + p[i] < b + q[i] ? a + p[i] : b + q[i];

        sum += hi > lo ? hi - lo : 0;
    }
    return sum;
}

/* The emitted tokens are the target's own draws, so their law is the target's; a guess is right
 * with the probability that docs/design/speculation.md gives. */
static void test_law_on_three_symbols(void **state)
{
    static const double p[3] = {.5, .3, .2}, q[3] = {.2, .5, .3};
    enum { N = 40000 };
    int right = 0, drawn[3] = {0};

    (void)state;
    for (uint64_t pos = 0; pos < N; pos++) {
        int32_t x = draw(p, 3, pos);

        drawn[x]++;
        right += draw(q, 3, pos) == x;
    }
    for (int i = 0; i < 3; i++)
        assert_true(fabs((double)drawn[i] / N - p[i]) < 0.01);
    assert_true(fabs(overlap(p, q, 3) - .6) < 1e-12);
    assert_true(fabs((double)right / N - .6) < 0.01);
}

/* The probabilities of all tokens behind each of ids[from … n). */
static double *laws(struct eng_model *m, const int32_t *ids, size_t from, size_t n,
                    float temperature)
{
    uint32_t n_vocab = eng_model_info(m)->n_vocab;
    int32_t *labels = malloc(n_vocab * sizeof(*labels));
    uint32_t *at = malloc((n - from) * sizeof(*at));
    double *out = malloc((n - from) * n_vocab * sizeof(*out));
    struct eng_req q = {.op = ENG_SCORE,
                        .ctx = fx_ctx(e, m, ids, n),
                        .at = at,
                        .n_at = (uint32_t)(n - from),
                        .labels = labels,
                        .n_labels = n_vocab};

    for (uint32_t i = 0; i < n_vocab; i++)
        labels[i] = (int32_t)i;
    for (size_t i = from; i < n; i++)
        at[i - from] = (uint32_t)i;
    fx_run(e, &q, 1);
    for (size_t i = 0; i < n - from; i++) {
        double sum = 0, *p = out + i * n_vocab;

        for (uint32_t k = 0; k < n_vocab; k++)
            sum += p[k] = exp((double)q.logits[i * n_vocab + k] / (double)temperature);
        for (uint32_t k = 0; k < n_vocab; k++)
            p[k] /= sum;
    }
    done(&q);
    free(labels);
    free(at);
    return out;
}

/* On texts of the bundled pair, how often a guess is right, with common random numbers and with the
 * rule of the paper, which is the most that any rule can have. */
static void test_rate_of_the_bundled_pair(void **state)
{
    static const float temperatures[] = {0.6f, 0.8f, 1.0f};
    uint32_t n_vocab = eng_model_info(base)->n_vocab;

    (void)state;
    for (int t = 0; t < 3; t++) {
        double common = 0, most = 0, n_laws = 0;
        uint32_t n_guessed = 0, n_right = 0;

        for (uint64_t key = 0; key < 24; key++) {
            int k = (int)key % 3;
            struct eng_req q = guessed(k, temperatures[t], key, ENG_SPECULATE_DRAFT, 1);
            int32_t ids[512];
            double *p, *d;
            size_t n;

            q.sampling.top_p = 1;
            fx_run(e, &q, 1);
            memcpy(ids, prompts[k], n_prompts[k] * sizeof(*ids));
            memcpy(ids + n_prompts[k], q.tokens, q.n_tokens * sizeof(*ids));
            n = n_prompts[k] + q.n_tokens - 1;
            p = laws(base, ids, n_prompts[k], n, temperatures[t]);
            d = laws(small, ids, n_prompts[k], n, temperatures[t]);
            for (size_t i = 0; i < n - n_prompts[k]; i++) {
                common += overlap(p + i * n_vocab, d + i * n_vocab, n_vocab);
                for (uint32_t j = 0; j < n_vocab; j++)
                    most += fmin(p[i * n_vocab + j], d[i * n_vocab + j]);
                n_laws++;
            }
            n_guessed += q.n_guessed;
            n_right += q.n_right;
            free(p);
            free(d);
            done(&q);
        }
        printf("# temperature %.1f: %.3f right of %u guesses; expected %.3f; the paper's rule: "
               "%.3f\n",
               (double)temperatures[t], (double)n_right / n_guessed, n_guessed, common / n_laws,
               most / n_laws);
        assert_true(common <= most + 1e-9);
        assert_true(fabs((double)n_right / n_guessed - common / n_laws) < 0.05);
    }
}

/* ---- how many
 * ---------------------------------------------------------------------------------------- */

static void test_as_many_as_are_worth_it(void **state)
{
    /* Fixture: 0.7 right, four guesses: 2.7731 tokens a pass. */
    const struct spec_times free_rows = {1, 0, 0, 0};

    (void)state;
    assert_true(fabs((1 - pow(.7, 5)) / (1 - .7) - 2.7731) < 1e-12);
    assert_int_equal(spec_best(.7, 1, &free_rows, 16), 16);
    assert_int_equal(spec_best(0, 1, &free_rows, 16), 0);
    for (uint64_t i = 0; i < 2000; i++) {
        double rate = pd_rng_uniform(i, 0, 0), best = 0;
        const struct spec_times t = {1, pd_rng_uniform(i, 1, 0) * .3, pd_rng_uniform(i, 2, 0) * .3,
                                     pd_rng_uniform(i, 3, 0) * .03};
        size_t lanes = 1 + (size_t)(pd_rng_uniform(i, 4, 0) * 8);
        unsigned n = spec_best(rate, lanes, &t, 12);
        double of_n = 0;

        for (unsigned k = 0; k <= 12; k++) {
            double tokens = (1 - pow(rate, k + 1.0)) / (1 - rate);
            double seconds = t.step + (double)lanes * (k + 1) * t.row +
                             k * (t.draft_step + (double)lanes * t.draft_row);

            best = tokens / seconds > best ? tokens / seconds : best;
            of_n = k == n ? tokens / seconds : of_n;
        }
        assert_true(of_n >= best * (1 - 1e-12));
    }
}

static void test_cost_of_a_step(void **state)
{
    struct spec_cost c = {0};
    double step, row;

    (void)state;
    assert_false(spec_cost_line(&c, &step, &row));
    spec_cost_add(&c, 4, 1.6); /* one size tells nothing about rows: an assumption does */
    assert_true(spec_cost_line(&c, &step, &row));
    assert_true(fabs(step + 4 * row - 1.6) < 1e-9 && row > 0 && row < step);
    for (size_t n = 1; n < 40; n++) { /* what was long ago counts little */
        spec_cost_add(&c, 1 + n % 7, 10 + 0.5 * (double)(1 + n % 7));
        if (n > 1)
            assert_true(spec_cost_line(&c, &step, &row) && step >= 0 && row >= 0);
    }
    for (size_t n = 0; n < 1000; n++)
        spec_cost_add(&c, 1 + n % 7, 10 + 0.5 * (double)(1 + n % 7));
    assert_true(spec_cost_line(&c, &step, &row));
    assert_true(fabs(step - 10) < 1e-6 && fabs(row - 0.5) < 1e-6);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_same_text),
        cmocka_unit_test(test_in_company),
        cmocka_unit_test(test_in_a_full_pool),
        cmocka_unit_test(test_races_do_not_guess),
        cmocka_unit_test(test_adjusted_logits),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_law_on_three_symbols),
        cmocka_unit_test(test_rate_of_the_bundled_pair),
        cmocka_unit_test(test_as_many_as_are_worth_it),
        cmocka_unit_test(test_cost_of_a_step),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
