/* The step_tag reward model on a fake: what it reads and where, that a longer line scores the same
 * from its parent's state as from scratch and costs only what is new, and lines that do not fit. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <stdlib.h>

#include "core/search_int.h"
#include "core/steps.h"
#include "tests/support/trial.h"

static struct trial t;

static int end(void **state)
{
    (void)state;
    trial_done(&t);
    return 0;
}

/* Grows one line, and a sibling beside it at every step, to its end; scores every `stride`-th step
 * as it goes, and the end. */
static int stride;

static int grow_and_score(struct search *s, const void *params, struct pd_err *err)
{
    struct node *pair[2] = {search_root(s)};
    int rc = 0;

    (void)params;
    for (int depth = 1; rc == 0 && search_open(pair[0]); depth++) {
        rc = search_sample(s, pair[0], 2, UNTIL_STEP, pair, err);
        if (rc == 0 && (depth % stride == 0 || !search_open(pair[0])))
            rc = search_score(s, pair, 2, err);
    }
    return rc;
}

static void run(int every, const char *options)
{
    static const struct pd_strategy strategy = {.name = "test", .run = grow_and_score};

    stride = every;
    trial_init(&t, &strategy, options);
    t.job.system = "S.";
    if (trial_run(&t) < 0)
        fail_msg("%s", t.err.text);
}

/* The definition: prompt, then each step, a blank line, the tag; r = 1 / (1 + exp(l(-) - l(+))). */
static double by_hand(struct pd_str *steps, size_t k)
{
    struct pd_message room[2];
    struct pd_chat ask = pd_chat_ask("S.", PD_STR("What is it?"), room);
    int32_t *ids = NULL;
    size_t n = 0;
    double plus, minus;

    assert_int_equal(t.scorer.g.ops->chat(&t.scorer.g, &ask, &ids, &n, NULL), 0);
    for (size_t i = 0; i <= k; i++) {
        struct pd_buf text = PD_BUF_INIT(1 << 16);

        pd_buf_adds(&text, steps[i]);
        pd_buf_addz(&text, "\n\n");
        assert_int_equal(t.scorer.g.ops->tokenize(&t.scorer.g, pd_buf_str(&text), &ids, &n, NULL),
                         0);
        ids = realloc(ids, (n + 1) * sizeof *ids);
        ids[n++] = FAKE_TAG;
        pd_buf_done(&text);
    }
    plus = (double)fake_opinion(&t.scorer, ids, n, '+');
    minus = (double)fake_opinion(&t.scorer, ids, n, '-');
    free(ids);
    return 1 / (1 + exp(minus - plus));
}

static void reads_the_labels_at_the_tag_behind_each_step(void **state)
{
    size_t n_values = 0;

    (void)state;
    run(1, "");
    for (size_t i = 0; i < t.result.trace.n_scores; i++) {
        const struct pd_score_rec *r = &t.result.trace.scores[i];
        struct pd_str *steps;
        size_t n = 0;

        steps = pd_steps_split(&t.result.arena, pd_str_of(trial_line(&t, r->node_id)), &n);
        assert_int_equal(r->n_steps, n);
        assert_string_equal(r->kind, "step");
        assert_true(r->value == r->steps[n - 1]);
        for (size_t k = 0; k < n; k++) {
            double want = by_hand(steps, k);

            if (!(fabs(r->steps[k] - want) < 1e-15)) /* against the C library's exp: seen 1.2e-16 */
                fail_msg("step %zu of node %u: %.17g, not %.17g", k, r->node_id, r->steps[k], want);
        }
        n_values += n;
    }
    assert_true(n_values >= 12);
}

static void from_the_parents_state_as_from_scratch(void **state)
{
    static const char *const options[] = {"", "max_step_tokens=6", "max_step_tokens=9 max_steps=5"};

    (void)state;
    for (size_t o = 0; o < 3; o++) {
        double fresh[2][64];
        uint64_t all_new;
        uint32_t n_steps, last;

        run(1000, options[o]); /* at the end only */
        assert_int_equal(t.result.trace.n_scores, 2);
        n_steps = t.result.trace.scores[0].n_steps;
        last = t.result.trace.scores[0].node_id;
        assert_true(n_steps >= 3 && n_steps < 64);
        for (int i = 0; i < 2; i++)
            memcpy(fresh[i], t.result.trace.scores[i].steps,
                   t.result.trace.scores[i].n_steps * sizeof(double));
        all_new = t.result.usage.scored;
        trial_done(&t);
        for (int every = 1; every <= 3; every++) {
            const struct pd_score_rec *r;

            run(every, options[o]);
            assert_true(t.result.trace.n_scores > 2);
            for (int i = 0; i < 2; i++) {
                r = &t.result.trace.scores[t.result.trace.n_scores - 2 + (size_t)i];
                assert_int_equal(r->node_id, last + (uint32_t)i);
                assert_memory_equal(r->steps, fresh[i], r->n_steps * sizeof(double));
            }
            assert_int_equal(t.result.usage.scored, t.scorer.n_evaluated);
            if (every == 1 && o == 0) { /* a step each time, twice; and the prompt once */
                size_t tokens = strlen("S.Q:What is it?\n");

                for (uint32_t i = 1; i < t.result.trace.n_nodes; i++)
                    tokens += pd_str_trim(trial_node(&t, i)->text).len + 3;
                assert_int_equal(t.result.usage.scored, tokens);
                assert_true(t.result.usage.scored < 2 * all_new);
            }
            trial_done(&t);
        }
    }
    run(1, "");
}

static void a_line_that_does_not_fit_has_no_values(void **state)
{
    static const struct pd_strategy strategy = {.name = "test", .run = grow_and_score};
    static const char *const lines[] = {"abcd\n\nefgh\n\nthe answer is 1", NULL};
    size_t prompt = strlen("Q:What is it?\n"), step = 4 + 2 + 1;

    (void)state;
    stride = 1;
    for (int fits = 0; fits < 2; fits++) {
        trial_init(&t, &strategy, "");
        trial_script(&t, lines);
        t.scorer.n_ctx = (uint32_t)(prompt + 2 * step) - !fits;
        assert_int_equal(trial_run(&t), 0);
        assert_int_equal(t.result.trace.n_scores, 6); /* that there is none is recorded, too */
        for (int i = 0; i < 6; i++)
            assert_int_equal(t.result.trace.scores[i].n_steps, i < 2 ? 1 : i < 4 && fits ? 2 : 0);
        assert_true(t.result.trace.scores[5].value == -1);
        if (!fits)
            trial_done(&t);
    }
}

static float labels_of_step(struct fake *f, const int32_t *ids, size_t n, int32_t label)
{
    static const float at[] = {0, 800, -800, 36, -36};

    (void)f;
    return label == '-' ? 0 : at[ids[n - 4] - 'a'];
}

static void rewards_stay_in_range_at_the_extremes(void **state)
{
    static const char *const lines[] = {"xa\n\nxb\n\nxc\n\nxd\n\nxe", NULL};
    static const struct pd_strategy strategy = {.name = "test", .run = grow_and_score};
    const double *r;

    (void)state;
    stride = 1000;
    trial_init(&t, &strategy, "");
    trial_script(&t, lines);
    t.scorer.logit = labels_of_step;
    assert_int_equal(trial_run(&t), 0);
    assert_int_equal(t.result.trace.scores[0].n_steps, 5);
    r = t.result.trace.scores[0].steps;
    assert_true(r[0] == 0.5 && r[1] == 1 && r[2] == 0);
    assert_true(r[3] < 1 && r[3] > 1 - 3e-16 && r[4] > 0 && r[4] < 3e-16);
}

static int32_t no_tag(struct pd_generator *g, const char *text)
{
    (void)g;
    return text[0] == '<' || text[1] ? -1 : text[0];
}

static void a_model_without_a_tag_is_refused(void **state)
{
    static const struct pd_strategy strategy = {.name = "test", .run = grow_and_score};
    static struct pd_generator_ops ops;

    (void)state;
    stride = 1;
    trial_init(&t, &strategy, "");
    ops = *t.scorer.g.ops;
    ops.find_token = no_tag;
    t.scorer.g.ops = &ops;
    assert_int_equal(trial_run(&t), PD_EFORMAT);
    assert_string_equal(t.err.text,
                        "scorer 'fake-scorer' is no reward model that its name, its head or its "
                        "tokens tell: say how it is read, as in --scorer "
                        "fake-scorer:kind=math_shepherd");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(reads_the_labels_at_the_tag_behind_each_step, end),
        cmocka_unit_test_teardown(from_the_parents_state_as_from_scratch, end),
        cmocka_unit_test_teardown(a_line_that_does_not_fit_has_no_values, end),
        cmocka_unit_test_teardown(rewards_stay_in_range_at_the_extremes, end),
        cmocka_unit_test_teardown(a_model_without_a_tag_is_refused, end),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
