/* dvts against a model of what it keeps, on the run's own tree; special cases
 * on trees that are written down. */
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

/* ---- dvts --------------------------------------------------------------------------------------
 */

static void check_dvts(int n, int m, bool weighted, toy_judge_fn judge)
{
    uint32_t id = 1, at[MANY] = {0}, done[MANY];
    int n_trees = n / m, n_done = 0;

    while (n_trees) {
        int live = 0;

        for (int i = 0; i < n_trees; i++) {
            uint32_t best = id, first = id;

            for (int k = 0; k < m; k++, id++) {
                assert_int_equal(trial_node(&t, id)->parent, at[i]);
                best = toy_value(&t, judge, id) > toy_value(&t, judge, best) ? id : best;
            }
            if (!toy_was(&t, best, "finished"))
                at[live++] = best;
            for (uint32_t k = first; k < id && toy_was(&t, best, "finished"); k++)
                if (toy_was(&t, k, "finished"))
                    done[n_done++] = k;
        }
        n_trees = live;
    }
    assert_int_equal(id, t.result.trace.n_nodes);
    assert_int_equal(t.result.answer_node, toy_vote(&t, done, n_done, judge, weighted));
}

static void every_tree_is_greedy(void **state)
{
    static const struct {
        int n, m;
    } sizes[] = {{1, 1}, {4, 4}, {4, 2}, {6, 1}, {12, 3}, {16, 4}};
    static const toy_judge_fn judges[] = {toy_opinion, toy_coarse, toy_even};

    (void)state;
    for (uint64_t seed = 0; seed < 8; seed++)
        for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++)
            for (int j = 0; j < 6; j++) {
                char options[80];

                snprintf(options, sizeof options, "samples=%d expand=%d vote=%s", sizes[k].n,
                         sizes[k].m, j < 3 ? "none" : "weighted");
                toy_run(&t, "dvts", options, seed, judges[j % 3]);
                check_dvts(sizes[k].n, sizes[k].m, j >= 3, judges[j % 3]);
                trial_done(&t);
            }
}

/* The parent of the nodes of each depth, up to the depth at which the first line ends. */
static int greedy_path(uint32_t path[16])
{
    uint32_t last = 15;

    memset(path, 0, 16 * sizeof *path);
    for (uint32_t i = 1; i < t.result.trace.n_nodes; i++) {
        const struct pd_node_rec *n = trial_node(&t, i);

        if (n->depth <= last)
            path[n->depth] = n->parent;
        if (toy_was(&t, i, "finished") && n->depth < last)
            last = n->depth;
    }
    return (int)last;
}

static void one_tree_is_a_beam_of_one(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 20; seed++) {
        uint32_t beam[16], dvts[16];
        int last;

        toy_run(&t, "beam", "samples=4 expand=4", seed, toy_opinion);
        last = greedy_path(beam);
        trial_done(&t);
        toy_run(&t, "dvts", "samples=4 expand=4", seed, toy_opinion);
        assert_int_equal(greedy_path(dvts), last);
        for (int d = 0; d <= last; d++)
            assert_int_equal(dvts[d], beam[d]);
        trial_done(&t);
    }
}

static uint64_t changed_key;

static int32_t babble_but_one(struct fake *f, const struct fake_place *at, float *out_logprob)
{
    int32_t id = fake_babble(f, at, out_logprob);

    return fake_lane(f, at->key) == (int)changed_key && id >= 'a' && id <= 'z' ? id - 32 : id;
}

static void trees_share_nothing_but_the_prompt(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 10; seed++) {
        struct {
            uint32_t parent_depth;
            uint64_t key;
            char text[FAKE_FRAME + 1];
        } was[64];
        size_t n_was = 0, differ = 0;

        for (int again = 0; again < 2; again++) {
            toy_start(&t, "dvts", "samples=12 expand=4", seed, toy_opinion);
            t.gen.next = babble_but_one;
            changed_key = again ? 5 : 99; /* of the second tree */
            assert_int_equal(trial_run(&t), 0);
            for (uint32_t i = 1; i < t.result.trace.n_nodes; i++) {
                const struct pd_node_rec *n = trial_node(&t, i);
                uint32_t lane = i;
                size_t k = 0;

                while (trial_node(&t, lane)->depth > 1)
                    lane = trial_node(&t, lane)->parent;
                if ((lane - 1) / 4 == 1) {
                    differ += again && n->text.ptr[0] >= 'A' && n->text.ptr[0] <= 'Z';
                    continue;
                }
                if (!again) {
                    assert_true(n_was < 64);
                    was[n_was].parent_depth = n->depth;
                    was[n_was].key = n->seed;
                    snprintf(was[n_was++].text, FAKE_FRAME + 1, "%s", n->text.ptr);
                    continue;
                }
                while (k < n_was && (was[k].parent_depth != n->depth || was[k].key != n->seed ||
                                     strcmp(was[k].text, n->text.ptr) != 0))
                    k++;
                assert_true(k < n_was);
                was[k].parent_depth = 0;
            }
            trial_done(&t);
        }
        for (size_t k = 0; k < n_was; k++)
            assert_int_equal(was[k].parent_depth, 0); /* found again */
        assert_true(differ > 0);
    }
}

static void only_finished_proposals_answer(void **state)
{
    /* tree 0: its best step ends it; of its siblings 1 has ended too, 2 has not */
    static const struct toy_step tree[] = {{"0", "8 answer: 1"},
                                           {"1", "7 answer: 2"},
                                           {"2", "6 open, answer: 2\n\n"},
                                           {"3", "7 answer: 2"},
                                           {0}};
    /* a failed proposal is none; a tree whose proposals all fail is out */
    static const struct toy_step failed[] = {{"0", "\n\n"},
                                             {"1", "\n\n"},
                                             {"2", "\n\n"},
                                             {"3", "1 a\n\n"},
                                             {"30", "0 answer: 3"},
                                             {"31", "\n\n"},
                                             {0}};

    (void)state;
    toy_run_tree(&t, "dvts", "samples=4 expand=4 vote=weighted", tree);
    assert_string_equal(trial_node(&t, 3)->prune_reason, "dvts");
    assert_answer("2"); /* .7 + .7 > .8 */
    toy_run_tree(&t, "dvts", "samples=4 expand=4", tree);
    assert_answer("1");
    toy_run_tree(&t, "dvts", "samples=3 expand=3 vote=weighted", tree);
    assert_answer("1"); /* .7 < .8: the open one says nothing */
    toy_run_tree(&t, "dvts", "samples=4 expand=2", failed);
    assert_int_equal(t.result.trace.n_nodes, 1 + 4 + 2);
    assert_answer("3");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_tree_is_greedy),
        cmocka_unit_test(one_tree_is_a_beam_of_one),
        cmocka_unit_test(trees_share_nothing_but_the_prompt),
        cmocka_unit_test(only_finished_proposals_answer),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
