/* revise, hedged, ab_mcts: what the model is asked beside the question, and who answers. Other
 * prompts than the job's all say what the script's last line says. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "strategies/thompson.h"
#include "tests/support/toy.h"

static struct trial t;

static void start(const char *strategy, const char *options, const char *const *lines)
{
    trial_init(&t, pd_strategy_find(strategy), options);
    trial_script(&t, lines);
}

static void run(const char *strategy, const char *options, const char *const *lines)
{
    start(strategy, options, lines);
    if (trial_run(&t) < 0)
        fail_msg("%s", t.err.text);
}

/* The i-th prompt of the last run but the job's own; ptr NULL: there are fewer. */
static struct pd_str prompt(size_t i)
{
    const struct pd_trace *trace = &t.result.trace;

    for (size_t k = 1; k < trace->n_nodes; k++)
        if (strcmp(trace->nodes[k].finish, "prompt") == 0 && i-- == 0)
            return trace->nodes[k].text;
    return (struct pd_str){0};
}

static int occurrences(struct pd_str text, const char *what)
{
    int n = 0;

    for (ptrdiff_t at; (at = pd_str_find(text, pd_str_of(what))) >= 0; n++)
        text = pd_str_sub(text, (size_t)at + 1, text.len);
    return n;
}

/* ---- revise ------------------------------------------------------------------------------------
 */

static void chains_of_one_answer_are_a_vote(void **state)
{
    char digest[65];

    (void)state;
    for (uint64_t seed = 1; seed <= 20; seed++) { /* worlds of chance */
        toy_run(&t, "self_consistency", "samples=6", seed, toy_even);
        toy_digest(&t, digest);
        trial_done(&t);
        toy_run(&t, "revise", "samples=6 chains=6", seed, toy_even);
        {
            char again[65];

            toy_digest(&t, again);
            assert_string_equal(again, digest);
        }
        trial_done(&t);
    }
}

static void a_revision_sees_the_last_answers_of_its_chain(void **state)
{
    static const char *const lines[] = {"answer: 1", "answer: 2", "answer: 3", NULL};

    (void)state;
    run("revise", "samples=14 chains=2 context=4", lines);
    for (size_t i = 0; i < 12; i++) {
        size_t revision = i / 2, n = revision + 1 < 4 ? revision + 1 : 4;

        assert_non_null(prompt(i).ptr);
        assert_int_equal(occurrences(prompt(i), "Attempt:"), n);
        /* the first answers are the chain's own; the fourth revision no longer sees them */
        assert_int_equal(occurrences(prompt(i), i % 2 ? "answer: 2" : "answer: 1"), revision < 4);
        assert_int_equal(occurrences(prompt(i), i % 2 ? "answer: 1" : "answer: 2"), 0);
    }
    assert_null(prompt(12).ptr);
    assert_string_equal(t.result.key, "3"); /* 12 of 14 */
    assert_int_equal(t.result.agree, 12);
    trial_done(&t);
}

static void what_does_not_fit_is_left_out(void **state)
{
    static const char *const lines[] = {"answer: 1", NULL};

    (void)state;
    start("revise", "samples=6 chains=1", lines);
    t.gen.n_ctx = 220; /* room for three attempts */
    assert_int_equal(trial_run(&t), 0);
    assert_int_equal(t.result.of, 6);
    trial_done(&t);
}

/* The reward of the last step: '1' is worth .2, '2' .9, others .5 */
static double by_answer(const struct pd_str *steps, size_t k)
{
    char c = steps[k].ptr[steps[k].len - 1];

    return c == '1' ? .2 : c == '2' ? .9 : .5;
}

static void a_verifier_chooses_in_chains_then_among_them(void **state)
{
    static const char *const lines[] = {"answer: 1", "answer: 2", "answer: 1", NULL};

    (void)state;
    /* chain 1: 1, 1; chain 2: 2, 1. The majority says 1; winners are 1 (.2) and 2 (.9). */
    start("revise", "samples=4 chains=2 select=verifier", lines);
    toy_judge(&t, by_answer);
    assert_int_equal(trial_run(&t), 0);
    assert_string_equal(t.result.key, "2");
    trial_done(&t);
    run("revise", "samples=4 chains=2", lines);
    assert_string_equal(t.result.key, "1");
    trial_done(&t);
}

/* ---- hedged ------------------------------------------------------------------------------------
 */

static void one_line_is_the_greedy_one(void **state)
{
    char text[65];

    (void)state;
    for (uint64_t seed = 1; seed <= 10; seed++) {
        toy_run(&t, "single", "temperature=0", seed, toy_even);
        snprintf(text, sizeof text, "%.*s", (int)t.result.text.len, t.result.text.ptr);
        trial_done(&t);
        toy_run(&t, "hedged", "samples=1", seed, toy_even);
        assert_true(strncmp(text, t.result.text.ptr, strlen(text)) == 0);
        assert_int_equal(t.result.usage.generated, toy_generated(&t));
        trial_done(&t);
    }
}

static void the_judge_names_a_number(void **state)
{
    static const struct {
        const char *said, *key;
    } cases[] = {
        {"number 3, I think", "3"}, {"2", "2"},   {"the first", "1"}, {"", "1"},
        {"17 or 0 or 4", "4"},      {"100", "1"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const char *lines[] = {"answer: 1", "answer: 2",   "answer: 3",
                               "answer: 4", cases[i].said, NULL};

        run("hedged", "samples=4", lines);
        if (strcmp(t.result.key, cases[i].key) != 0)
            fail_msg("'%s': %s", cases[i].said, t.result.key);
        /* a checklist, then all answers under their numbers */
        assert_int_equal(occurrences(prompt(0), "checklist"), 1);
        assert_int_equal(occurrences(prompt(1), "Answer 4:\nanswer: 4"), 1);
        assert_null(prompt(2).ptr);
        assert_int_equal(t.result.of, 4); /* what judges say is no answer */
        trial_done(&t);
    }
}

static void the_vote_asks_nobody(void **state)
{
    static const char *const lines[] = {"answer: 1", "answer: 2", "answer: 2", NULL};

    (void)state;
    run("hedged", "samples=3 select=vote", lines);
    assert_string_equal(t.result.key, "2");
    assert_null(prompt(0).ptr);
    trial_done(&t);
}

/* ---- ab_mcts -----------------------------------------------------------------------------------
 */

static void the_posterior_by_hand(void **state)
{
    struct arm a = {0}, b = {0};
    struct arm_gaussian g = arm_posterior(&a);

    (void)state;
    assert_true(fabs(g.m) < 1e-12 && fabs(g.tau2 - 0.1) < 1e-12); /* nothing seen: the prior */
    arm_observe(&a, 0.5);
    arm_observe(&a, 0.9);
    g = arm_posterior(&a);
    assert_true(fabs(g.m - 0.466667) < 1e-6 && fabs(g.tau2 - 0.168889) < 1e-6);
    assert_true(fabs(g.kappa - 3) < 1e-12 && fabs(g.nu - 3) < 1e-12);
    arm_observe(&b, 0.9);
    arm_observe(&b, 0.5);
    assert_true(fabs(arm_posterior(&b).m - g.m) < 1e-15); /* in whatever order */
    for (int i = 0; i < 100; i++)
        arm_observe(&b, 0.7);
    b = (struct arm){0};
    for (int i = 0; i < 100; i++)
        arm_observe(&b, 0.7);
    assert_true(arm_posterior(&b).tau2 > 0); /* equal rewards: no variance below zero */
}

static const struct arm *drawn_from;
static enum arm_prior drawn_how;

/* 20,000 draws have the mean and the spread that the posterior has. */
static int draw_many(struct search *s, const void *params, struct pd_err *err)
{
    double sum = 0, squares = 0, n = 20000, mean, variance, want_mean, want_variance;

    (void)params;
    (void)err;
    for (int i = 0; i < (int)n; i++) {
        double x = arm_draw(drawn_from, drawn_how, s);

        assert_true(isfinite(x));
        assert_true(drawn_how == PRIOR_GAUSSIAN || (x >= 0 && x <= 1));
        sum += x;
        squares += x * x;
    }
    mean = sum / n;
    variance = squares / n - mean * mean;
    if (drawn_how ==
        PRIOR_GAUSSIAN) { /* a scaled t distribution: variance tau² nu / (nu - 2) / kappa */
        struct arm_gaussian g = arm_posterior(drawn_from);

        want_mean = g.m;
        want_variance = g.tau2 * g.nu / (g.nu - 2) / g.kappa;
    } else {
        double a = 0.5 + drawn_from->sum, b = 0.5 + drawn_from->n - drawn_from->sum;

        want_mean = a / (a + b);
        want_variance = a * b / (a + b) / (a + b) / (a + b + 1);
    }
    if (fabs(mean - want_mean) > 5 * sqrt(want_variance / n))
        fail_msg("mean %g, not %g", mean, want_mean);
    if (fabs(variance / want_variance - 1) > 0.15)
        fail_msg("variance %g, not %g", variance, want_variance);
    return 0;
}

static void draws_follow_the_posterior(void **state)
{
    static struct pd_strategy strategy = {.name = "test", .run = draw_many};
    struct arm few = {0}, many = {0}, none = {0};

    (void)state;
    for (int i = 0; i < 40; i++)
        arm_observe(&many, i % 3 ? 0.8 : 0.1);
    for (int i = 0; i < 10; i++)
        arm_observe(&few, 0.5);
    for (int how = PRIOR_GAUSSIAN; how <= PRIOR_BETA; how++)
        for (int i = 0; i < 3; i++) {
            if (how == PRIOR_GAUSSIAN && i == 2) /* nu = 1: it has no variance */
                continue;
            drawn_how = (enum arm_prior)how;
            drawn_from = i == 0 ? &few : i == 1 ? &many : &none;
            trial_init(&t, &strategy, "");
            assert_int_equal(trial_run(&t), 0);
            trial_done(&t);
        }
}

static void a_leaf_is_always_widened_and_rewards_decide(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 5; seed++)
        for (int batch = 1; batch <= 4; batch += 3) {
            char options[64];
            const char *json;
            double best = -1, answers = -1;

            snprintf(options, sizeof options, "samples=24 batch=%d prior=%s", batch,
                     seed % 2 ? "gaussian" : "beta");
            toy_run(&t, "ab_mcts", options, seed, toy_opinion);
            assert_true(toy_decision(&t, "descent", 23, &json));
            assert_false(toy_decision(&t, "descent", 24, &json));
            /* the first descent finds no children, so that it draws nothing */
            assert_true(toy_decision(&t, "descent", 0, &json));
            assert_non_null(strstr(json, "\"draws\":[]"));
            assert_int_equal(t.result.trace.n_scores, 24);
            for (size_t i = 0; i < 24; i++) {
                const struct pd_score_rec *r = &t.result.trace.scores[i];

                best = r->value > best ? r->value : best;
                answers = r->node_id == t.result.answer_node ? r->value : answers;
            }
            assert_true(answers >= best);
            trial_done(&t);
        }
}

static void answers_below_others_refine_them(void **state)
{
    static const char *const lines[] = {"answer: 1", "answer: 2", "answer: 3", NULL};
    size_t n = 0;

    (void)state;
    start("ab_mcts", "samples=32", lines);
    toy_judge(&t, by_answer);
    assert_int_equal(trial_run(&t), 0);
    for (; prompt(n).ptr; n++)
        assert_true(occurrences(prompt(n), "answer: 1") + occurrences(prompt(n), "answer: 2") +
                        occurrences(prompt(n), "answer: 3") ==
                    1);
    assert_true(n > 0 && n < 32); /* wider and deeper */
    assert_string_equal(t.result.key, "2");
    trial_done(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(chains_of_one_answer_are_a_vote),
        cmocka_unit_test(a_revision_sees_the_last_answers_of_its_chain),
        cmocka_unit_test(what_does_not_fit_is_left_out),
        cmocka_unit_test(a_verifier_chooses_in_chains_then_among_them),
        cmocka_unit_test(one_line_is_the_greedy_one),
        cmocka_unit_test(the_judge_names_a_number),
        cmocka_unit_test(the_vote_asks_nobody),
        cmocka_unit_test(the_posterior_by_hand),
        cmocka_unit_test(draws_follow_the_posterior),
        cmocka_unit_test(a_leaf_is_always_widened_and_rewards_decide),
        cmocka_unit_test(answers_below_others_refine_them),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
