/* single, self_consistency, best_of_n on scripted lines with known rewards. A
 * line's reward is made of its steps': a step beginning with 'z' is worth 0, 'h' one half, 'o' 1.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "tests/support/trial.h"

static struct trial t;

static float reward(struct fake *f, const int32_t *ids, size_t n, int32_t label)
{
    size_t first = n - 1; /* the tag */

    (void)f;
    while (first > fake_prompt(ids, n) && ids[first - 1] != FAKE_TAG)
        first--;
    return label == '-' || ids[first] == 'h' ? 0 : ids[first] == 'o' ? 800 : -800;
}

static void run(const char *strategy, const char *options, const char *const *lines)
{
    trial_init(&t, pd_strategy_find(strategy), options);
    trial_script(&t, lines);
    t.scorer.logit = reward;
    if (trial_run(&t) < 0)
        fail_msg("%s", t.err.text);
}

/* Runs, and checks which line is the answer; key NULL: none. */
static void assert_answer(const char *strategy, const char *options, const char *const *lines,
                          int64_t node, const char *key)
{
    run(strategy, options, lines);
    if (!key)
        assert_null(t.result.key);
    else if (!t.result.key || strcmp(t.result.key, key) != 0)
        fail_msg("%s %s: %s, not %s", strategy, options, t.result.key ? t.result.key : "none", key);
    assert_int_equal(t.result.answer_node, node);
    trial_done(&t);
}

/* ---- single, self_consistency ------------------------------------------------------------------
 */

static void the_first_of_most_wins(void **state)
{
    static const char *const most[] = {"answer: 1", "answer: 2", "answer: 3", "answer: 2.0", NULL};
    static const char *const tie[] = {"no",        "answer: 3", "answer: 2",
                                      "answer: 2", "answer: 3", NULL};
    static const char *const none[] = {"no", "answer: ", NULL};

    (void)state;
    assert_answer("self_consistency", "samples=4", most, 2, "2");
    assert_answer("self_consistency", "samples=5", tie, 2, "3");
    assert_answer("self_consistency", "samples=2", none, -1, NULL);
    assert_answer("single", "", most, 1, "1");
    assert_answer("single", "", none, -1, NULL);
}

static void the_order_of_lanes_does_not_matter(void **state)
{
    static const char *const all[] = {"answer: 1", "answer: 2", "answer: 2", "no",
                                      "answer: 3", "answer: 3", "answer: 3", NULL};
    const char *lines[8] = {0};

    (void)state;
    for (size_t turn = 0; turn < 7; turn++)
        for (size_t step = 1; step < 7; step++) { /* 7 is prime: each step visits all lanes */
            for (size_t i = 0; i < 7; i++)
                lines[i] = all[(turn + i * step) % 7];
            run("self_consistency", "samples=7", lines);
            assert_string_equal(t.result.key, "3");
            assert_int_equal(t.result.agree, 3);
            assert_int_equal(t.result.of, 7);
            trial_done(&t);
        }
}

static void truncated_lanes_do_not_vote(void **state)
{
    static const char *const lines[] = {"answer: 1\n, and so on and on",
                                        "answer: 1, and so on and on", "answer: 2", NULL};

    (void)state;
    assert_answer("self_consistency", "samples=3 max_tokens=12", lines, 3, "2");
}

static void one_sample_is_single(void **state)
{
    static const char *const options[] = {"temperature=0", "temperature=0.8", "temperature=2"};

    (void)state;
    for (int i = 0; i < 3; i++)
        for (uint64_t seed = 0; seed < 10; seed++) {
            struct trial single;
            char one[64];

            trial_init(&single, pd_strategy_find("single"), options[i]);
            single.job.seed = seed;
            assert_int_equal(trial_run(&single), 0);
            snprintf(one, sizeof one, "samples=1 %s", options[i]);
            trial_init(&t, pd_strategy_find("self_consistency"), one);
            t.job.seed = seed;
            assert_int_equal(trial_run(&t), 0);
            assert_int_equal(t.result.trace.n_nodes, 2);
            assert_int_equal(trial_node(&t, 1)->n_tokens, trial_node(&single, 1)->n_tokens);
            assert_memory_equal(trial_node(&t, 1)->tokens, trial_node(&single, 1)->tokens,
                                trial_node(&t, 1)->n_tokens * sizeof(int32_t));
            assert_string_equal(t.result.answer, single.result.answer);
            trial_done(&single);
            trial_done(&t);
        }
}

/* Answers 1 to 3 with chances p, independent: how often the vote of n is 1. All ways that n lines
 * can answer are run; the same by counts, where of k leaders that tie each was voted for first as
 * often. */
static double accuracy_by_runs(int n, const double *p)
{
    static const char *const answers[] = {"answer: 1", "answer: 2", "answer: 3"};
    const char *lines[9] = {0};
    char options[32];
    double sum = 0;
    int ways = 1;

    snprintf(options, sizeof options, "samples=%d", n);
    for (int i = 0; i < n; i++)
        ways *= 3;
    for (int w = 0; w < ways; w++) {
        double chance = 1;

        for (int i = 0, v = w; i < n; i++, v /= 3) {
            lines[i] = answers[v % 3];
            chance *= p[v % 3];
        }
        run("self_consistency", options, lines);
        sum += strcmp(t.result.key, "1") == 0 ? chance : 0;
        trial_done(&t);
    }
    return sum;
}

static double accuracy_by_counts(int n, const double *p)
{
    double sum = 0, factorial[9] = {1};

    for (int i = 1; i <= n; i++)
        factorial[i] = factorial[i - 1] * i;
    for (int a = 0; a <= n; a++)
        for (int b = 0; a + b <= n; b++) {
            int c = n - a - b, ties = 1 + (b == a) + (c == a);

            if (a >= b && a >= c)
                sum += factorial[n] / factorial[a] / factorial[b] / factorial[c] * pow(p[0], a) *
                       pow(p[1], b) * pow(p[2], c) / ties;
        }
    return sum;
}

static void accuracy_of_independent_answers_is_that_of_multinomials(void **state)
{
    static const double laws[][3] = {{.5, .3, .2}, {.4, .45, .15}, {1 / 3., 1 / 3., 1 / 3.}};

    (void)state;
    for (size_t i = 0; i < sizeof laws / sizeof *laws; i++)
        for (int n = 1; n <= 6; n++)
            assert_true(fabs(accuracy_by_runs(n, laws[i]) - accuracy_by_counts(n, laws[i])) <
                        1e-12);
}

/* ---- best_of_n ----------------------------------------------------------------------------------
 */

/* Six lanes with answers 1 to 3 by the digits of x, each behind a step of the given worth. */
static const char *const *random_lanes(uint64_t x, const char *worth)
{
    static char text[6][32];
    static const char *lines[7];

    for (int i = 0; i < 6; i++) {
        snprintf(text[i], sizeof text[i], "%c answer: %d", worth[i], 1 + (int)(x % 3));
        x /= 3;
        lines[i] = text[i];
    }
    lines[6] = NULL;
    return lines;
}

static void equal_weights_are_a_majority(void **state)
{
    (void)state;
    for (uint64_t x = 0; x < 729; x += 7)
        for (int w = 0; w < 2; w++) { /* of all the ways in which six lanes can answer */
            const char *const *lines = random_lanes(x, w ? "hhhhhh" : "oooooo");
            int64_t node;
            char key[8];

            run("best_of_n", "samples=6 vote=majority", lines);
            node = t.result.answer_node;
            snprintf(key, sizeof key, "%s", t.result.key);
            trial_done(&t);
            assert_answer("best_of_n", "samples=6 vote=weighted", lines, node, key);
            if (w == 0)
                assert_answer("self_consistency", "samples=6", lines, node, key);
        }
}

static void one_certain_lane_decides_as_without_a_vote(void **state)
{
    (void)state;
    for (uint64_t x = 0; x < 729; x += 31)
        for (int i = 0; i < 6; i++) {
            char worth[] = "zzzzzz", key[8];
            const char *const *lines;

            worth[i] = 'o';
            lines = random_lanes(x, worth);
            snprintf(key, sizeof key, "%s", lines[i] + strlen("o answer: "));
            assert_answer("best_of_n", "samples=6 vote=none", lines, i + 1, key);
            assert_answer("best_of_n", "samples=6 vote=weighted", lines, i + 1, key);
        }
}

static void votes_add_up_their_weights(void **state)
{
    static const char *const lines[] = {"o answer: 1", "h answer: 2", "h answer: 3",
                                        "h answer: 2", "z answer: 3", "h answer: 2",
                                        "z answer: 3", "z answer: 3", NULL};

    (void)state;
    assert_answer("best_of_n", "samples=8 vote=none", lines, 1, "1");
    assert_answer("best_of_n", "samples=8 vote=weighted", lines, 2, "2");  /* 1 < 1.5 > 0.5 */
    assert_answer("best_of_n", "samples=8 vote=majority", lines, 3, "3");  /* 1 < 3 < 4 */
    assert_answer("best_of_n", "samples=4 vote=weighted", lines, 1, "1");  /* 1 = 1: the first */
    assert_answer("best_of_n", "samples=8 max_tokens=3", lines, -1, NULL); /* all were cut */
}

static void the_best_line_of_the_group_is_returned(void **state)
{
    static const char *const lines[] = {"z answer: 2", "h answer: 1", "o answer: 2",
                                        "h answer: 2", "o answer: 2", NULL};

    (void)state;
    assert_answer("best_of_n", "samples=5 vote=weighted", lines, 3, "2");
}

static void an_empty_answer_changes_nothing(void **state)
{
    static const char *const lines[] = {"o no answer here", "h answer: 1", "h answer: 2",
                                        "h answer: 2",      "o answer:",   NULL};
    static const char *const options[] = {"vote=none", "vote=weighted", "vote=majority"};
    static const int64_t node[] = {2, 3, 3};

    (void)state;
    for (int v = 0; v < 3; v++)
        for (int first = 0; first < 2; first++)
            for (int last = 4; last < 6; last++) {
                char o[64];

                snprintf(o, sizeof o, "samples=%d %s", last - first, options[v]);
                assert_answer("best_of_n", o, lines + first, node[v] - first, v ? "2" : "1");
            }
}

static void each_aggregate_has_its_favourite(void **state)
{
    /* last: .5 .5 1 .5   min: .5 .5 0 0   prod: .125 .5 0 0   mean: .5 .5 .5 .625 */
    static const char *const lines[] = {"h\n\nh.\n\nh answer: 1", "h answer: 2", "z\n\no answer: 3",
                                        "z\n\no\n\no.\n\nh answer: 4", NULL};

    (void)state;
    assert_answer("best_of_n", "samples=4 vote=none aggregate=last", lines, 3, "3");
    assert_answer("best_of_n", "samples=4 vote=none aggregate=min", lines, 1, "1");
    assert_answer("best_of_n", "samples=4 vote=none aggregate=prod", lines, 2, "2");
    assert_answer("best_of_n", "samples=4 vote=none aggregate=mean", lines, 4, "4");
    run("best_of_n", "samples=4 vote=none aggregate=mean", lines);
    assert_int_equal(t.result.n_steps, 4);
    assert_true(t.result.steps[0].score == 0 && t.result.steps[1].score == 1 &&
                t.result.steps[2].score == 1 && t.result.steps[3].score == 0.5);
    assert_int_equal(t.result.steps[1].n_tokens, 3);
    trial_done(&t);
}

static void a_line_too_long_to_score_weighs_nothing(void **state)
{
    static const char *const lines[] = {"o and a very long way to say it, answer: 1", "z answer: 2",
                                        "h answer: 3", NULL};
    static const char *const beside[] = {"o and a very long way to say it, answer: 2",
                                         "h answer: 3", "h answer: 2", NULL};
    static const char *const alone[] = {"o and a very long way to say it, answer: 1", NULL};
    static const struct {
        const char *const *lines;
        const char *options, *key;
    } cases[] = {{lines, "samples=3 vote=weighted", "3"},
                 {lines, "samples=2 vote=none", "2"},
                 {beside, "samples=3 vote=weighted", "2"}, /* 0 + 0.5 = 0.5, and voted for first */
                 {alone, "samples=2 vote=weighted", "1"},
                 {alone, "samples=2 vote=none", "1"}};

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        trial_init(&t, pd_strategy_find("best_of_n"), cases[i].options);
        trial_script(&t, cases[i].lines);
        t.scorer.logit = reward;
        t.scorer.n_ctx = 40;
        assert_int_equal(trial_run(&t), 0);
        assert_string_equal(t.result.key, cases[i].key);
        trial_done(&t);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_first_of_most_wins),
        cmocka_unit_test(the_order_of_lanes_does_not_matter),
        cmocka_unit_test(truncated_lanes_do_not_vote),
        cmocka_unit_test(one_sample_is_single),
        cmocka_unit_test(accuracy_of_independent_answers_is_that_of_multinomials),
        cmocka_unit_test(equal_weights_are_a_majority),
        cmocka_unit_test(one_certain_lane_decides_as_without_a_vote),
        cmocka_unit_test(votes_add_up_their_weights),
        cmocka_unit_test(the_best_line_of_the_group_is_returned),
        cmocka_unit_test(an_empty_answer_changes_nothing),
        cmocka_unit_test(each_aggregate_has_its_favourite),
        cmocka_unit_test(a_line_too_long_to_score_weighs_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
