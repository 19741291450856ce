/* Stepwise search: beam and lookahead. What a run kept is compared with what
 * a model of the search would have kept, round for round, on the run's own tree; special cases on
 * trees that are written down. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "base/hash.h"
#include "tests/support/toy.h"

#define MANY 2048

static struct trial t;

static void assert_answer(const char *key)
{
    const char *got = t.result.key ? t.result.key : "none";

    if (strcmp(got, key) != 0)
        fail_msg("%s, not %s", got, key);
    trial_done(&t);
}

/* Sorts ids by (value, greatest first; id). */
static void sort(uint32_t *ids, int n, toy_judge_fn judge)
{
    for (int i = 1; i < n; i++)
        for (int k = i; k > 0; k--) {
            double a = toy_value(&t, judge, ids[k - 1]), b = toy_value(&t, judge, ids[k]);
            uint32_t id = ids[k];

            if (a > b || (a >= b && ids[k - 1] < id))
                break;
            ids[k] = ids[k - 1];
            ids[k - 1] = id;
        }
}

/* ---- beam --------------------------------------------------------------------------------------
 */

/* Checks the last run, node for node, against §5.1. */
static void check_beam(int n, int m, const char *mode, toy_judge_fn judge)
{
    uint32_t id = 1, done[MANY], cand[MANY], kept[MANY];
    int n_done = 0, slots = n, n_kept = 1;

    kept[0] = 0;
    for (;;) {
        int n_open = 0;

        for (int i = 0; i < slots; i++, id++) {
            assert_int_equal(trial_node(&t, id)->parent, kept[i % n_kept]);
            if (toy_was(&t, id, "finished"))
                done[n_done++] = id;
            else if (toy_was(&t, id, "open"))
                cand[n_open++] = id;
        }
        if (n_open == 0 || n_done >= n)
            break;
        slots = strcmp(mode, "refill") == 0 ? n : n - n_done;
        if (strcmp(mode, "stay") == 0)
            slots = n - m * (n_done < n / m ? n_done : n / m);
        if (slots == 0)
            break;
        sort(cand, n_open, judge);
        n_kept = (slots + m - 1) / m < n_open ? (slots + m - 1) / m : n_open;
        memcpy(kept, cand, (size_t)n_kept * sizeof *kept);
    }
    assert_int_equal(id, t.result.trace.n_nodes);
    assert_int_equal(t.result.answer_node, toy_vote(&t, done, n_done, judge, true));
}

static void kept_lines_are_the_best(void **state)
{
    static const struct {
        int n, m;
    } sizes[] = {{1, 1}, {4, 4}, {4, 2}, {6, 1}, {8, 2}, {9, 3}, {12, 4}, {16, 4}};
    static const char *const modes[] = {"shrink", "refill", "stay"};
    static const toy_judge_fn judges[] = {toy_opinion, toy_coarse, toy_even};

    (void)state;
    for (uint64_t seed = 0; seed < 6; seed++)
        for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++)
            for (int mode = 0; mode < 3; mode++)
                for (int j = 0; j < 3; j++) {
                    char options[80];

                    snprintf(options, sizeof options, "samples=%d expand=%d finish_mode=%s",
                             sizes[k].n, sizes[k].m, modes[mode]);
                    toy_run(&t, "beam", options, seed, judges[j]);
                    check_beam(sizes[k].n, sizes[k].m, modes[mode], judges[j]);
                    trial_done(&t);
                }
}

static void calls_are_bounded_by_samples_and_steps(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 20; seed++) {
        uint32_t deepest = 0;

        toy_run(&t, "beam", "samples=8 expand=2 finish_mode=refill max_steps=4", seed, toy_opinion);
        for (uint32_t i = 0; i < t.result.trace.n_nodes; i++)
            deepest = trial_node(&t, i)->depth > deepest ? trial_node(&t, i)->depth : deepest;
        assert_true(deepest <= 4);
        assert_true(t.result.trace.n_nodes - 1 <= 8 * deepest);
        trial_done(&t);
    }
}

static void room_beyond_the_longest_line_changes_nothing(void **state)
{
    static const char *const options[] = {"max_tokens=110", "max_tokens=111", "max_tokens=4000"};

    (void)state;
    for (uint64_t seed = 0; seed < 10; seed++) {
        char digest[65], first[65];

        for (int i = 0; i < 3; i++) {
            toy_run(&t, "beam", options[i], seed, toy_opinion);
            toy_digest(&t, digest);
            if (i == 0)
                memcpy(first, digest, sizeof digest);
            assert_string_equal(digest, first);
            trial_done(&t);
        }
    }
}

static void expand_1_is_best_of_n_lane_for_lane(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 30; seed++) {
        char lines[6][160], answer[160];
        int n_ended = 0;

        toy_run(&t, "best_of_n", "samples=6 vote=weighted", seed, toy_of_line);
        for (uint32_t i = 0; i < 6; i++)
            snprintf(lines[i], sizeof lines[i], "%s", trial_line(&t, i + 1));
        snprintf(answer, sizeof answer, "%s", trial_line(&t, (uint32_t)t.result.answer_node));
        trial_done(&t);
        toy_run(&t, "beam", "samples=6 expand=1", seed, toy_of_line);
        for (uint32_t i = 7; i < t.result.trace.n_nodes; i++) {
            uint32_t lane = i;

            while (trial_node(&t, lane)->depth > 1)
                lane = trial_node(&t, lane)->parent;
            if (toy_was(&t, i, "finished")) {
                assert_string_equal(trial_line(&t, i), lines[lane - 1]);
                n_ended++;
            }
        }
        assert_int_equal(n_ended, 6);
        assert_string_equal(trial_line(&t, (uint32_t)t.result.answer_node), answer);
        trial_done(&t);
    }
}

static void expand_n_is_greedy(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 20; seed++) {
        uint32_t parent_at[16] = {0};

        toy_run(&t, "beam", "samples=5 expand=5", seed, toy_opinion);
        for (uint32_t i = 1; i < t.result.trace.n_nodes; i++) {
            const struct pd_node_rec *n = trial_node(&t, i);

            if (n->depth > 1 && !parent_at[n->depth])
                parent_at[n->depth] = n->parent;
            assert_int_equal(n->parent, parent_at[n->depth]);
        }
        trial_done(&t);
    }
}

static void expand_0_is_the_root_of_samples(void **state)
{
    static const struct {
        const char *options;
        uint32_t n, m;
    } cases[] = {{"samples=16 expand=0", 16, 4},
                 {"samples=10 expand=0", 16, 4},
                 {"samples=9 expand=0", 9, 3},
                 {"samples=1 expand=0", 1, 1}};

    (void)state;
    for (int i = 0; i < 4; i++) {
        toy_run(&t, "beam", cases[i].options, 1, toy_opinion);
        check_beam((int)cases[i].n, (int)cases[i].m, "shrink", toy_opinion);
        trial_done(&t);
    }
    toy_start(&t, "beam", "samples=6 expand=4", 1, toy_opinion);
    assert_int_equal(trial_run(&t), PD_EINVAL);
    trial_done(&t);
    toy_start(&t, "dvts", "samples=6 expand=4", 1, toy_opinion);
    assert_int_equal(trial_run(&t), PD_EINVAL);
    trial_done(&t);
}

static void a_round_in_which_all_fail_goes_back_once(void **state)
{
    static const struct toy_step once[] = {{"0", "9 a\n\n"},
                                           {"1", "8 b\n\n"},
                                           {"2", "2 c\n\n"},
                                           {"3", "1 d\n\n"},
                                           {"00", "\n\n"},
                                           {"01", "\n\n"},
                                           {"10", "\n\n"},
                                           {"11", " \n\n"},
                                           {"20", "3 answer: 1"},
                                           {"21", "\n\n"},
                                           {"30", "4 answer: 2"},
                                           {"31", "5 answer: 1"},
                                           {0}};
    static const struct toy_step twice[] = {{"0", "9 a\n\n"}, {"1", "8 b\n\n"}, {"2", "2 c\n\n"},
                                            {"3", "1 d\n\n"}, {"", "\n\n"},     {0}};

    (void)state;
    toy_run_tree(&t, "beam", "samples=4 expand=2", once);
    assert_int_equal(t.result.trace.n_nodes, 1 + 4 + 4 + 4);
    assert_int_equal(trial_node(&t, 9)->parent, 3); /* the next best: 2 and 3, in turn */
    assert_int_equal(trial_node(&t, 10)->parent, 4);
    assert_answer("1");
    toy_run_tree(&t, "beam", "samples=4 expand=4", twice); /* two more are left, and left alone */
    assert_int_equal(t.result.trace.n_nodes, 1 + 4 + 4 + 4);
    assert_string_equal(t.result.stopped_by, "no_candidates");
    assert_answer("none");
}

static void finished_lines_narrow_leave_or_stay(void **state)
{
    static const struct toy_step tree[] = {{"0", "1 answer: 1"}, {"1", "2 a\n\n"},
                                           {"2", "3 b\n\n"},     {"3", "4 c\n\n"},
                                           {"", "5 answer: 2"},  {0}};
    static const struct {
        const char *mode;
        size_t second;
    } cases[] = {{"shrink", 3}, {"refill", 4}, {"stay", 2}};

    (void)state;
    for (int i = 0; i < 3; i++) {
        char options[64];

        snprintf(options, sizeof options, "samples=4 expand=2 finish_mode=%s", cases[i].mode);
        toy_run_tree(&t, "beam", options, tree);
        assert_int_equal(t.result.trace.n_nodes, 1 + 4 + cases[i].second);
        assert_int_equal(trial_node(&t, 5)->parent, 4);
        assert_string_equal(trial_node(&t, 2)->status, "pruned");
        assert_answer("2");
    }
}

static void equal_lines_are_kept_once_when_asked(void **state)
{
    static const struct toy_step tree[] = {{"0", "9 a\n\n"}, {"1", "9 a\n\n"},    {"2", "8 b\n\n"},
                                           {"3", "9 a\n\n"}, {"", "X answer: 1"}, {0}};

    (void)state;
    for (int dedupe = 0; dedupe < 2; dedupe++) {
        toy_run_tree(&t, "beam", dedupe ? "samples=4 expand=2 dedupe=1" : "samples=4 expand=2",
                     tree);
        assert_int_equal(trial_node(&t, 5)->parent, 1);
        assert_int_equal(trial_node(&t, 6)->parent, dedupe ? 3 : 2);
        assert_answer("1");
    }
}

/* ---- lookahead ---------------------------------------------------------------------------------
 */

static void no_lookahead_is_beam(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 10; seed++) {
        char beam[65], lookahead[65];

        toy_run(&t, "beam", "samples=8 expand=2", seed, toy_opinion);
        toy_digest(&t, beam);
        trial_done(&t);
        toy_run(&t, "lookahead", "samples=8 expand=2 lookahead=0", seed, toy_opinion);
        toy_digest(&t, lookahead);
        assert_string_equal(lookahead, beam);
        trial_done(&t);
    }
}

static void a_line_is_worth_where_it_leads(void **state)
{
    static const struct toy_step tree[] = {{"0", "9 a\n\n"},
                                           {"00", "0 x\n\n"},
                                           {"000", "X answer: 1"},
                                           {"1", "1 b\n\n"},
                                           {"10", "8 y\n\n"},
                                           {"100", "0 answer: 2"},
                                           {"101", "0 answer: 2"},
                                           {"11", "7 z\n\n"},
                                           {"110", "X answer: 3"},
                                           {"", "0 answer: 4"},
                                           {0}};

    (void)state;
    toy_run_tree(&t, "beam", "samples=2 expand=2", tree);
    assert_int_equal(trial_node(&t, 3)->parent, 1);
    trial_done(&t);
    toy_run_tree(&t, "lookahead", "samples=2 expand=2",
                 tree); /* one step ahead: 0 < 8, then 0 < X */
    assert_string_equal(trial_node(&t, 3)->prune_reason, "lookahead");
    assert_int_equal(trial_node(&t, 5)->parent, 2);
    assert_true(pd_str_eq(trial_node(&t, 5)->text, PD_STR("8 y\n\n"))); /* child 0, as without */
    assert_int_equal(trial_node(&t, 9)->parent, 6);
    assert_answer("3");
    toy_run_tree(&t, "lookahead", "samples=2 expand=2 lookahead=2",
                 tree); /* X behind 0, 0 behind 1 */
    assert_answer("1");
}

static void lookahead_leaves_the_tree_as_it_was(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 10; seed++) {
        char answer[160];
        uint64_t without;

        toy_run(&t, "beam", "samples=6 expand=2", seed, toy_even);
        snprintf(answer, sizeof answer, "%s", trial_line(&t, (uint32_t)t.result.answer_node));
        without = t.result.usage.generated;
        trial_done(&t);
        toy_run(&t, "lookahead", "samples=6 expand=2 lookahead=2", seed, toy_even);
        assert_string_equal(trial_line(&t, (uint32_t)t.result.answer_node), answer);
        assert_true(t.result.usage.generated > without); /* but it is paid for */
        trial_done(&t);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(kept_lines_are_the_best),
        cmocka_unit_test(calls_are_bounded_by_samples_and_steps),
        cmocka_unit_test(room_beyond_the_longest_line_changes_nothing),
        cmocka_unit_test(expand_1_is_best_of_n_lane_for_lane),
        cmocka_unit_test(expand_n_is_greedy),
        cmocka_unit_test(expand_0_is_the_root_of_samples),
        cmocka_unit_test(a_round_in_which_all_fail_goes_back_once),
        cmocka_unit_test(finished_lines_narrow_leave_or_stay),
        cmocka_unit_test(equal_lines_are_kept_once_when_asked),
        cmocka_unit_test(no_lookahead_is_beam),
        cmocka_unit_test(a_line_is_worth_where_it_leads),
        cmocka_unit_test(lookahead_leaves_the_tree_as_it_was),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
