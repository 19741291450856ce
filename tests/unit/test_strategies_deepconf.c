/* deepconf: lines that are sure vote, and unsure ones end early. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/rng.h"
#include "base/window.h"
#include "tests/support/toy.h"

static struct trial t;

/* Confidence of token `off` of lane i: of the last that is named, where the line is longer. */
static const float *lanes[64];
static size_t n_of[64];

static float of_lane(struct fake *f, const struct fake_place *at)
{
    int i = fake_lane(f, at->key);
    size_t off = at->n - fake_prompt(at->ids, at->n);

    assert_in_range(i, 0, 63);
    return lanes[i][off < n_of[i] ? off : n_of[i] - 1];
}

static void run(const char *options, const char *const *lines)
{
    trial_init(&t, pd_strategy_find("deepconf"), options);
    trial_script(&t, lines);
    t.gen.confidence = of_lane;
    if (trial_run(&t) < 0)
        fail_msg("%s: %s", options, t.err.text);
}

/* Lane i is as sure of all its tokens as of[i] says. */
static void sure(const float *of, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        lanes[i] = &of[i];
        n_of[i] = 1;
    }
}

static double told(const char *member, double *values, size_t most)
{
    const char *json;

    assert_true(toy_decision(&t, "confidence", 0, &json));
    return (double)toy_numbers(json, member, values, most);
}

static double tau(void)
{
    double v = -1;

    told("tau", &v, 1);
    return v;
}

static void the_running_mean_is_the_recomputed_one(void **state)
{
    static float v[5000];

    (void)state;
    for (uint32_t window = 1; window < 3000; window = 3 * window + 1) {
        double sum = 0;

        for (uint32_t n = 1; n <= 5000; n++) {
            double again = 0, mean;
            uint32_t from = n > window ? n - window : 0;

            v[n - 1] = (float)(20 * pd_rng_uniform(7, n, 0));
            mean = pd_window_mean(v, n, window, &sum);
            if (n % 97)
                continue;
            for (uint32_t i = from; i < n; i++)
                again += (double)v[i];
            assert_true(fabs(mean - again / (n - from)) < 1e-9);
        }
    }
}

/* Sixteen numbers: at 10 % the threshold lies half-way between the second and the third, at 90 %
 * half-way between the third last and the second last. */
static void the_threshold_is_a_percentile(void **state)
{
    static const float of[16] = {9, 3, 12, 7, 1, 16, 5, 10, 2, 14, 8, 4, 15, 6, 13, 11};
    static const char *const lines[] = {"answer: 1", NULL};

    (void)state;
    sure(of, 16);
    run("samples=16 eta=90", lines);
    assert_true(fabs(tau() - 2.5) < 1e-12);
    trial_done(&t);
    run("samples=16 eta=10", lines);
    assert_true(fabs(tau() - 14.5) < 1e-12);
    trial_done(&t);
    run("samples=16 eta=40", lines); /* 60 %: exactly the tenth */
    assert_true(fabs(tau() - 10) < 1e-12);
    trial_done(&t);
}

/* Of twelve tokens a line becomes unsure behind the sixth: a group of four is below 6 first when
 * it has three of the unsure ones. */
static void an_unsure_line_ends_at_its_first_unsure_group(void **state)
{
    static const float even[] = {6}, high[] = {9}, falls[] = {8, 8, 8, 8, 8, 8, 5, 5, 5, 5},
                       low[] = {1};
    static const char *const lines[] = {"answer: 123", "answer: 123", "answer: 456", "ans 7", NULL};
    const struct pd_node_rec *n;
    double at[4], value[4];

    (void)state;
    lanes[0] = even, lanes[1] = high, lanes[2] = falls, lanes[3] = low;
    n_of[0] = n_of[1] = n_of[3] = 1;
    n_of[2] = 10;
    run("samples=4 warmup=2 eta=100 window=4", lines);
    assert_true(fabs(tau() - 6) < 1e-12); /* the 0th percentile: the least */
    n = trial_node(&t, 3);
    assert_string_equal(n->status, "pruned");
    assert_string_equal(n->prune_reason, "low_conf");
    assert_string_equal(n->stop, "confidence");
    assert_int_equal(n->n_tokens, 9); /* 8 5 5 5: 5.75 */
    assert_int_equal(told("lowest_at", at, 4), 4);
    assert_true(fabs(at[2] - 8) < 1e-12); /* the group that ends there */
    assert_int_equal(told("confidence", value, 4), 4);
    assert_true(fabs(value[2] - 5.75) < 1e-12);
    assert_int_equal(trial_node(&t, 4)->n_tokens, 4); /* not before its window is full */
    assert_string_equal(t.result.key, "123");
    assert_string_equal(t.result.stopped_by, "answer");
    trial_done(&t);
}

static void eta_100_cuts_only_what_is_below_all_of_the_warm_up(void **state)
{
    static const float of[] = {5, 3, 4, 3, 2.999F};
    static const char *const lines[] = {"answer: 1", NULL};

    (void)state;
    sure(of, 5);
    run("samples=5 warmup=3 eta=100 window=3", lines);
    for (uint32_t i = 1; i <= 4; i++)
        assert_string_equal(trial_node(&t, i)->status, "finished");
    assert_string_equal(trial_node(&t, 5)->status, "pruned");
    assert_int_equal(t.result.agree, 4);
    trial_done(&t);
}

static float equal(struct fake *f, const struct fake_place *at)
{
    (void)f;
    (void)at;
    return 7.5F;
}

static void constant_confidence_is_a_majority(void **state)
{
    static const char *const how[] = {"samples=9 warmup=4 window=5", "samples=9 mode=offline",
                                      "samples=9 mode=offline weight=tail eta=10",
                                      "samples=9 mode=offline weight=bottom window=8",
                                      "samples=9 mode=offline weight=mean"};

    (void)state;
    for (uint64_t seed = 0; seed < 40; seed++) {
        char key[16];
        int64_t node;

        trial_init(&t, pd_strategy_find("self_consistency"), "samples=9");
        t.job.seed = seed;
        assert_int_equal(trial_run(&t), 0);
        snprintf(key, sizeof key, "%s", t.result.key);
        node = t.result.answer_node;
        trial_done(&t);
        for (size_t i = 0; i < sizeof how / sizeof *how; i++) {
            trial_init(&t, pd_strategy_find("deepconf"), how[i]);
            t.job.seed = seed;
            t.gen.confidence = equal;
            assert_int_equal(trial_run(&t), 0);
            assert_string_equal(t.result.key, key);
            assert_int_equal(t.result.answer_node, node);
            trial_done(&t);
        }
    }
}

/* One line of 20 + 1 tokens (the last ends its turn), one group of ten tokens at each of twelve
 * places: the lowest is the last, 1; the lowest tenth of twelve is one group. */
static void a_line_is_weighed_in_four_ways(void **state)
{
    static const float falls[21] = {9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2};
    static const float dips[21] = {9, 9, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 9, 9, 9, 9, 9, 9, 9, 9, 9};
    static const char *const lines[] = {"0123456789 answer: 1", NULL};
    static const struct {
        const char *weight;
        double falls, dips;
    } want[] = {
        {"lowest", 2, 1}, {"bottom", 2, 1}, {"tail", 2, 8.2}, {"mean", 112 / 21., 109 / 21.}};
    char options[80];
    double v[2];

    (void)state;
    lanes[0] = falls, lanes[1] = dips;
    n_of[0] = n_of[1] = 21;
    for (size_t i = 0; i < sizeof want / sizeof *want; i++) {
        snprintf(options, sizeof options, "samples=2 mode=offline window=10 eta=100 weight=%s",
                 want[i].weight);
        run(options, lines);
        assert_int_equal(told("confidence", v, 2), 2);
        assert_true(fabs(v[0] - want[i].falls) < 1e-6);
        assert_true(fabs(v[1] - want[i].dips) < 1e-6);
        trial_done(&t);
    }
    /* window 1: the lowest tenth of 21 groups are two of ten ones, or of eleven twos */
    run("samples=2 mode=offline window=1 eta=100 weight=bottom", lines);
    assert_int_equal(told("confidence", v, 2), 2);
    assert_true(fabs(v[0] - 2) < 1e-12 && fabs(v[1] - 1) < 1e-12);
    trial_done(&t);
}

static void sure_lines_outvote_more_of_unsure_ones(void **state)
{
    static const float of[] = {9, 2, 2, 2, 8};
    static const char *const lines[] = {"answer: 1", "answer: 2", "answer: 2",
                                        "answer: 2", "answer: 1", NULL};

    (void)state;
    sure(of, 5);
    run("samples=5 mode=offline eta=100", lines); /* 17 to 6 */
    assert_string_equal(t.result.key, "1");
    trial_done(&t);
    run("samples=4 mode=offline eta=100", lines); /* 9 to 6 */
    assert_string_equal(t.result.key, "1");
    trial_done(&t);
    run("samples=4 mode=offline eta=10", lines); /* the others are not kept */
    assert_string_equal(t.result.key, "1");
    trial_done(&t);
}

static void without_a_voter_the_warm_up_has_a_majority(void **state)
{
    static const float of[] = {9, 2, 3, 4};
    static const char *const lines[] = {"nothing", "answer: 1", "answer: 2", "answer: 2", NULL};

    (void)state;
    sure(of, 4);
    run("samples=4 warmup=4 eta=0", lines); /* the one line that is kept has no answer */
    assert_true(fabs(tau() - 9) < 1e-12);
    assert_string_equal(t.result.key, "2");
    assert_string_equal(t.result.stopped_by, "answer");
    trial_done(&t);
}

static void a_consensus_ends_it(void **state)
{
    static const float of[] = {5, 5, 5, 5, 5, 5, 5, 5, 5, 5};
    static const char *const lines[] = {"answer: 1", "answer: 2", "answer: 1", "answer: 1",
                                        "answer: 1", "answer: 1", NULL};

    (void)state;
    sure(of, 10);
    run("samples=10 warmup=2 consensus=.75", lines); /* 1/2, 3/4 */
    assert_int_equal(t.result.of, 4);
    trial_done(&t);
    run("samples=10 warmup=2 consensus=.8", lines); /* 1/2, 3/4, 5/6 */
    assert_int_equal(t.result.of, 6);
    trial_done(&t);
    run("samples=10 warmup=2", lines);
    assert_int_equal(t.result.of, 10);
    trial_done(&t);
}

/* Confidences are of the record: it resumes from any prefix, and one that differs is named. */
static void confidences_are_of_the_record(void **state)
{
    static const char options[] = "samples=6 warmup=2 window=8 eta=50";
    struct pd_trace changed;
    struct pd_node_rec *nodes;
    float other[128];
    char digest[65];

    (void)state;
    for (uint64_t seed = 0; seed < 6; seed++) {
        trial_init(&t, pd_strategy_find("deepconf"), options);
        t.job.seed = seed;
        assert_int_equal(trial_run(&t), 0);
        memcpy(digest, t.digest, sizeof digest);
        for (size_t n = t.sink.n; n-- > 1;) {
            if (trial_resume(&t, n) < 0)
                fail_msg("after %zu records: %s", n, t.err.text);
            assert_string_equal(t.digest, digest);
        }
        trial_done(&t);
    }
    trial_init(&t, pd_strategy_find("deepconf"), options);
    assert_int_equal(trial_run(&t), 0);
    changed = t.result.trace;
    nodes = malloc(changed.n_nodes * sizeof *nodes);
    assert_non_null(nodes);
    memcpy(nodes, changed.nodes, changed.n_nodes * sizeof *nodes);
    assert_in_range(nodes[1].n_tokens, 2, 128);
    memcpy(other, nodes[1].confidences, nodes[1].n_tokens * sizeof *other);
    other[1] += 1;
    nodes[1].confidences = other;
    changed.nodes = nodes;
    pd_trace_digest(&changed, digest);
    assert_string_not_equal(digest, t.digest);
    free(nodes);
    trial_done(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_running_mean_is_the_recomputed_one),
        cmocka_unit_test(the_threshold_is_a_percentile),
        cmocka_unit_test(an_unsure_line_ends_at_its_first_unsure_group),
        cmocka_unit_test(eta_100_cuts_only_what_is_below_all_of_the_warm_up),
        cmocka_unit_test(constant_confidence_is_a_majority),
        cmocka_unit_test(a_line_is_weighed_in_four_ways),
        cmocka_unit_test(sure_lines_outvote_more_of_unsure_ones),
        cmocka_unit_test(without_a_voter_the_warm_up_has_a_majority),
        cmocka_unit_test(a_consensus_ends_it),
        cmocka_unit_test(confidences_are_of_the_record),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
