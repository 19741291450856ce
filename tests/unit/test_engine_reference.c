/* Our numbers against a float64 forward pass over the stored weights (recipes/models/reference). */
#include "tests/unit/engine_fixture.h"

#include "engine/gguf.h"
#include "engine/kernels.h"
#include "engine/model.h"
#include "tests/unit/engine_tolerance.h"

static void exact_mat(const struct eng_model *m, struct eng_mat *w, const char *name)
{
    const struct gguf_tensor *t = gguf_tensor(m->gguf, name);
    size_t rows = w->rows, cols = w->cols;
    float *f = malloc(rows * cols * sizeof(*f));
    struct pd_err err = {0};

    assert_non_null(t);
    fx_ok(gguf_fetch(m->gguf, t->data, (size_t)t->bytes, &err), &err);
    eng_quant_find(t->type)->dequant(t->data, f, rows * cols);
    eng_mat_done(w);
    fx_ok(eng_mat_init(w, eng_quant_find(GGML_F32), f, rows, cols, NULL, &err), &err);
    free(f);
}

/* Puts the stored weights as F32 in the place of the quantised ones. Nobody else uses the model
 * yet. */
static void exact_weights(struct eng_model *m)
{
    static const char *const names[7] = {"attn_q",   "attn_k", "attn_v",  "attn_output",
                                         "ffn_gate", "ffn_up", "ffn_down"};

    for (uint32_t l = 0; l < m->info.n_layer; l++) {
        struct eng_layer *w = &m->layers[l];
        struct eng_mat *mats[7] = {&w->q, &w->k, &w->v, &w->o, &w->gate, &w->up, &w->down};

        for (int i = 0; i < 7; i++) {
            char name[64];

            snprintf(name, sizeof(name), "blk.%u.%s.weight", l, names[i]);
            exact_mat(m, mats[i], name);
        }
    }
    exact_mat(m, &m->output, "token_embd.weight");
}

static void greedy(const char *model, const char *file, double tolerance, double rare, bool exact)
{
    struct eng *e = fx_eng(NULL, 2, 0, 0);
    struct eng_model *m = fx_model(e, model);
    uint32_t n_vocab = eng_model_info(m)->n_vocab;
    struct pd_json *root = fx_json(fx_path(file));
    int32_t *labels = malloc(n_vocab * sizeof(*labels));
    double worst = 0.0;
    size_t n_problems = 0, n_steps = 0, n_cut = 0, n_values = 0, n_rare = 0;

    if (exact)
        exact_weights(m);
    for (uint32_t i = 0; i < n_vocab; i++)
        labels[i] = (int32_t)i;
    for (const struct pd_json *g = pd_json_first(pd_json_get(root, "greedy")); g;
         g = pd_json_next(g)) {
        int32_t ids[1024];
        uint32_t at[1024];
        size_t n_prompt = fx_ints(pd_json_get(g, "prompt_ids"), ids, 512);
        size_t n = fx_ints(pd_json_get(g, "ids"), ids + n_prompt, 512);
        const struct pd_json *top5 = pd_json_get(g, "top5");
        struct eng_ctx *c = fx_ctx(e, m, ids, n_prompt), *s = fx_ctx(e, m, ids, n_prompt + n - 1);
        struct eng_req q[2] = {fx_generate(c, 0.0f, 0, (uint32_t)n),
                               {.op = ENG_SCORE,
                                .ctx = s,
                                .at = at,
                                .n_at = (uint32_t)n,
                                .labels = labels,
                                .n_labels = n_vocab}};
        bool same = true;

        for (size_t i = 0; i < n; i++)
            at[i] = (uint32_t)(n_prompt - 1 + i);
        fx_run(e, q, 2);
        assert_int_equal(q[1].finish, ENG_FINISH_NONE);
        for (size_t i = 0; i < n; i++) {
            const struct pd_json *step = pd_json_at(top5, i);
            double first = fx_number(pd_json_at(pd_json_at(step, 0), 1));
            double second = fx_number(pd_json_at(pd_json_at(step, 1), 1));

            for (const struct pd_json *p = pd_json_first(step); p; p = pd_json_next(p)) {
                int64_t id = -1;
                double off;

                assert_true(pd_json_int(pd_json_at(p, 0), &id));
                off =
                    fabs((double)q[1].logits[i * n_vocab + (size_t)id] - fx_number(pd_json_at(p, 1)));
                worst = off > worst ? off : worst;
                n_values++;
                n_rare += off > tolerance;
                if (!(off <= rare))
                    fail_msg("%s: problem %zu step %zu token %d: logit off by %g", model,
                             n_problems, i, (int)id, off);
            }
            if (same && first - second < 2 * tolerance) {
                same = false; /* from here on another continuation is as good */
                n_cut++;
            }
            if (same) {
                assert_true(i < q[0].n_tokens);
                assert_int_equal(q[0].tokens[i], ids[n_prompt + i]);
                n_steps++;
            }
        }
        n_problems++;
        eng_req_done(&q[0]);
        eng_req_done(&q[1]);
        eng_ctx_free(c);
        eng_ctx_free(s);
    }
    assert_true(n_problems >= 10);
    assert_true((double)n_rare <= RARE * (double)n_values);
    printf("# %s%s: largest logit error %.4f, %zu of %zu above %g; %zu greedy steps equal, %zu of "
           "%zu problems "
           "end at a close call\n",
           model, exact ? " with exact activations" : "", worst, n_rare, n_values, tolerance,
           n_steps, n_cut, n_problems);
    fflush(stdout);
    free(labels);
    pd_json_free(root);
    fx_no_pages(e);
    eng_model_unref(m);
    eng_close(e);
}

static void rewards(const char *model, const char *file)
{
    struct eng *e = fx_eng(NULL, 2, 0, 0);
    struct eng_model *m = fx_model(e, model);
    struct pd_json *root = fx_json(fx_path(file));
    double worst = 0.0;
    size_t n_rewards = 0;

    for (const struct pd_json *g = pd_json_first(pd_json_get(root, "rewards")); g;
         g = pd_json_next(g)) {
        int32_t ids[1024], labels[2];
        uint32_t at[1024], n_at = 0;
        size_t n = fx_ints(pd_json_get(g, "ids"), ids, 1024);
        const struct pd_json *want = pd_json_get(g, "rewards");
        double tag = fx_number(pd_json_get(g, "tag"));
        struct eng_ctx *c = fx_ctx(e, m, ids, n);
        struct eng_req q = {.op = ENG_SCORE, .ctx = c, .at = at, .labels = labels, .n_labels = 2};

        labels[0] = (int32_t)fx_number(pd_json_get(g, "plus"));
        labels[1] = (int32_t)fx_number(pd_json_get(g, "minus"));
        for (size_t i = 0; i < n; i++) {
            if (ids[i] == (int32_t)tag)
                at[n_at++] = (uint32_t)i;
        }
        q.n_at = n_at;
        assert_int_equal(n_at, pd_json_size(want));
        fx_run(e, &q, 1);
        for (size_t i = 0; i < n_at; i++) {
            double r = 1.0 / (1.0 + exp((double)q.logits[2 * i + 1] - (double)q.logits[2 * i]));
            double off = fabs(r - fx_number(pd_json_at(want, i)));

            worst = off > worst ? off : worst;
            if (!(off <= TOLERANCE_REWARD))
                fail_msg("%s: reward %zu is %g, off by %g", model, i, r, off);
            n_rewards++;
        }
        eng_req_done(&q);
        eng_ctx_free(c);
    }
    assert_true(n_rewards >= 10);
    printf("# %s: largest error of %zu rewards %.5f\n", model, n_rewards, worst);
    fflush(stdout);
    pd_json_free(root);
    fx_no_pages(e);
    eng_model_unref(m);
    eng_close(e);
}

static void test_base_f16(void **state)
{
    (void)state;
    greedy("tiny-base-F16.gguf", "reference/greedy-base-F16.json", TOLERANCE_F16, TOLERANCE_F16, false);
}

static void test_base_q8_0(void **state)
{
    (void)state;
    greedy("tiny-base-Q8_0.gguf", "reference/greedy-base-Q8_0.json", TOLERANCE_Q8_0, TOLERANCE_Q8_0_RARE,
           false);
}

static void test_draft_f16(void **state)
{
    (void)state;
    greedy("tiny-draft-F16.gguf", "reference/greedy-draft-F16.json", TOLERANCE_F16, TOLERANCE_F16, false);
}

static void test_draft_q8_0(void **state)
{
    (void)state;
    greedy("tiny-draft-Q8_0.gguf", "reference/greedy-draft-Q8_0.json", TOLERANCE_Q8_0, TOLERANCE_Q8_0_RARE,
           false);
}

static void test_q8_0_exact(void **state)
{
    (void)state;
    greedy("tiny-base-Q8_0.gguf", "reference/greedy-base-Q8_0.json", TOLERANCE_F16, TOLERANCE_F16, true);
    greedy("tiny-draft-Q8_0.gguf", "reference/greedy-draft-Q8_0.json", TOLERANCE_F16, TOLERANCE_F16, true);
}

static void test_prm_f16(void **state)
{
    (void)state;
    rewards("tiny-prm-F16.gguf", "reference/rewards-prm-F16.json");
}

static void test_prm_q8_0(void **state)
{
    (void)state;
    rewards("tiny-prm-Q8_0.gguf", "reference/rewards-prm-Q8_0.json");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_base_f16),   cmocka_unit_test(test_base_q8_0),
        cmocka_unit_test(test_draft_f16),  cmocka_unit_test(test_draft_q8_0),
        cmocka_unit_test(test_q8_0_exact), cmocka_unit_test(test_prm_f16),
        cmocka_unit_test(test_prm_q8_0),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
