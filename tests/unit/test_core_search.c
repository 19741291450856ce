/* The verbs of search.h, on the fake generator: branch keys, steps, caps, races, failed steps,
 * prunes. Each test is a little strategy, and looks at its nodes from inside the job. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/search_int.h"
#include "tests/support/trial.h"

static struct trial t;

/* Runs a strategy made of one function; what it returns is the job's rc. */
static int run(int (*body)(struct search *, const void *, struct pd_err *), const char *options)
{
    static struct pd_strategy strategy;

    strategy = (struct pd_strategy){.name = "test", .run = body};
    trial_init(&t, &strategy, options);
    return trial_run(&t);
}

static int run_script(int (*body)(struct search *, const void *, struct pd_err *),
                      const char *options, const char *const *lines)
{
    static struct pd_strategy strategy;

    strategy = (struct pd_strategy){.name = "test", .run = body};
    trial_init(&t, &strategy, options);
    trial_script(&t, lines);
    return trial_run(&t);
}

static int end(void **state)
{
    (void)state;
    trial_done(&t);
    return 0;
}

static void assert_text(const struct node *n, const char *want)
{
    if (!pd_str_eq(n->text, pd_str_of(want)))
        fail_msg("node %u says '%.*s', not '%s'", n->id, (int)n->text.len, n->text.ptr, want);
}

/* ---- keys -------------------------------------------------------------------------------------
 */

static int sample_children(struct search *s, const void *params, struct pd_err *err)
{
    struct node *lane[3], *child[3], *grand[2];
    uint64_t root = search_root(s)->key;
    int rc = search_sample(s, search_root(s), 3, UNTIL_STEP, lane, err);

    (void)params;
    if (rc == 0)
        rc = search_sample(s, lane[1], 3, UNTIL_STEP, child, err);
    if (rc == 0)
        rc = search_sample(s, child[2], 2, UNTIL_STEP, grand, err);
    if (rc < 0)
        return rc;
    for (uint64_t i = 0; i < 3; i++)
        assert_int_equal(lane[i]->key, search_subkey(root, 0, i));
    assert_int_equal(child[0]->key, lane[1]->key);
    assert_int_equal(child[1]->key, search_subkey(lane[1]->key, 1, 1));
    assert_int_equal(child[2]->key, search_subkey(lane[1]->key, 1, 2));
    assert_int_equal(grand[0]->key, child[2]->key);
    assert_int_equal(grand[1]->key, search_subkey(child[2]->key, 2, 1));
    for (uint32_t i = 0; i < s->n_nodes; i++)
        for (uint32_t k = 0; k < i; k++)
            if (s->nodes[i] != s->nodes[k]->parent && s->nodes[k] != s->nodes[i]->parent)
                assert_true(s->nodes[i]->key != s->nodes[k]->key);
    /* a later sample of the same parent goes on counting */
    rc = search_sample(s, search_root(s), 1, UNTIL_STEP, lane, err);
    assert_int_equal(lane[0]->key, search_subkey(root, 0, 3));
    return rc;
}

static void child_zero_inherits_its_key_and_others_do_not(void **state)
{
    (void)state;
    assert_int_equal(run(sample_children, ""), 0);
    assert_int_equal(t.gen.root_key, t.result.trace.nodes[0].seed);
}

static int lanes_to_the_end(struct search *s, const void *params, struct pd_err *err)
{
    struct node *lane[4];
    int rc = search_sample(s, search_root(s), 4, UNTIL_END, lane, err);

    (void)params;
    return rc < 0 ? rc : search_answer(s, lane[0], err);
}

static int lanes_by_steps(struct search *s, const void *params, struct pd_err *err)
{
    struct node *lane[4];
    int rc = search_sample(s, search_root(s), 4, UNTIL_STEP, lane, err), n = 4;

    (void)params;
    while (rc == 0 && n) {
        struct node *open[4];
        int k = 0;

        for (int i = 0; i < n; i++)
            if (search_open(lane[i]))
                open[k++] = lane[i];
        n = k;
        if (n)
            rc = search_extend(s, open, n, UNTIL_STEP, lane, err);
    }
    return rc;
}

/* The lines of the leaves of the last run, in the order of their first node. */
static void leaf_lines(const char *out[4])
{
    for (uint32_t i = 1; i < t.result.trace.n_nodes; i++) {
        uint32_t first = i;

        if (strcmp(trial_node(&t, i)->status, "finished") != 0)
            continue;
        while (trial_node(&t, first)->parent)
            first = trial_node(&t, first)->parent;
        out[first - 1] = trial_line(&t, i);
    }
}

static void a_lane_cut_into_steps_says_the_same(void **state)
{
    static const char *const options[] = {"", "max_step_tokens=6", "max_step_tokens=16",
                                          "temperature=0"};

    (void)state;
    for (size_t o = 0; o < 4; o++) {
        const char *whole[4] = {0}, *cut[4] = {0};
        char copy[4][256];

        if (o)
            trial_done(&t);
        assert_int_equal(run(lanes_to_the_end, options[o]), 0);
        leaf_lines(whole);
        for (int i = 0; i < 4; i++)
            strcpy(copy[i], whole[i]);
        trial_done(&t);
        assert_int_equal(run(lanes_by_steps, options[o]), 0);
        assert_true(t.result.trace.n_nodes >= 1 + 4 * 3);
        leaf_lines(cut);
        for (int i = 0; i < 4; i++)
            assert_string_equal(cut[i], copy[i]);
        if (o < 3)
            assert_string_not_equal(cut[0], cut[1]);
        else
            assert_string_equal(cut[0], cut[1]); /* greedy: all lanes are one */
    }
}

/* ---- steps and caps (1.2) ----------------------------------------------------------------------
 */

static int steps_of_a_line(struct search *s, const void *params, struct pd_err *err)
{
    struct node *n = search_root(s);
    int rc = 0;

    (void)params;
    while (rc == 0 && search_open(n))
        rc = search_extend(s, &n, 1, UNTIL_STEP, &n, err);
    return rc;
}

struct want_node {
    const char *text, *status, *finish, *stop;
};

static void assert_nodes(const struct want_node *want)
{
    uint32_t i = 1;

    for (; want[i - 1].text; i++) {
        const struct pd_node_rec *n = trial_node(&t, i);

        if (!pd_str_eq(n->text, pd_str_of(want[i - 1].text)))
            fail_msg("node %u says '%.*s', not '%s'", i, (int)n->text.len, n->text.ptr,
                     want[i - 1].text);
        assert_string_equal(n->status, want[i - 1].status);
        assert_string_equal(n->finish, want[i - 1].finish);
        if (want[i - 1].stop)
            assert_string_equal(n->stop, want[i - 1].stop);
        else
            assert_null(n->stop);
    }
    assert_int_equal(t.result.trace.n_nodes, i);
}

static void a_step_keeps_its_delimiter_even_inside_a_token(void **state)
{
    static const char *const lines[] = {"one\n\ntwo\1three", NULL};
    static const struct want_node want[] = {{"one\n\n", "open", "step", NULL},
                                            {"two.\n\n", "open", "step", NULL},
                                            {"three", "finished", "eos", NULL},
                                            {0}};

    (void)state;
    assert_int_equal(run_script(steps_of_a_line, "", lines), 0);
    assert_nodes(want);
    assert_int_equal(trial_node(&t, 2)->n_tokens, 4);
    assert_int_equal(trial_node(&t, 2)->tokens[3], FAKE_BREAK);
    assert_int_equal(trial_node(&t, 3)->n_tokens, 6); /* with the end token, which has no text */
    assert_int_equal(trial_node(&t, 3)->tokens[5], FAKE_EOS);
    assert_true(trial_node(&t, 1)->logprob < -2.4 && trial_node(&t, 1)->logprob > -2.6);
}

static void a_capped_step_goes_on_in_mid_sentence(void **state)
{
    static const char *const lines[] = {"abcdefgh\n\nij", NULL};
    static const struct want_node want[] = {{"abcd", "open", "length", "max_step_tokens"},
                                            {"efgh", "open", "length", "max_step_tokens"},
                                            {"\n\n", "failed", "step", NULL},
                                            {0}};
    static const struct want_node capped[] = {{"abcde", "open", "length", "max_step_tokens"},
                                              {"fgh\n\n", "open", "step", NULL},
                                              {"i", "truncated", "cut", "max_tokens"},
                                              {0}};

    (void)state;
    assert_int_equal(run_script(steps_of_a_line, "max_step_tokens=4", lines), 0);
    assert_nodes(want);
    assert_string_equal(trial_node(&t, 3)->prune_reason, "empty_step");
    trial_done(&t);
    assert_int_equal(run_script(steps_of_a_line, "max_step_tokens=5 max_tokens=11", lines), 0);
    assert_nodes(capped);
}

static void the_last_step_runs_to_the_end_of_the_line(void **state)
{
    static const char *const lines[] = {"a\n\nb\n\nc\n\nd", NULL};
    static const struct want_node want[] = {
        {"a\n\n", "open", "step", NULL}, {"b\n\nc\n\nd", "finished", "eos", NULL}, {0}};

    (void)state;
    /* nor does the cap of a step bind it */
    assert_int_equal(run_script(steps_of_a_line, "max_steps=2 max_step_tokens=4", lines), 0);
    assert_nodes(want);
}

static void an_empty_or_repeated_step_fails(void **state)
{
    static const char *const empty[] = {"a\n\n \n\nb", NULL};
    static const char *const repeat[] = {"x\n\na\n\n a\n\na\n\na\n\nb", NULL};

    (void)state;
    assert_int_equal(run_script(steps_of_a_line, "", empty), 0);
    assert_int_equal(t.result.trace.n_nodes, 3);
    assert_string_equal(trial_node(&t, 2)->status, "failed");
    assert_string_equal(trial_node(&t, 2)->prune_reason, "empty_step");
    trial_done(&t);
    assert_int_equal(run_script(steps_of_a_line, "", repeat), 0);
    assert_int_equal(t.result.trace.n_nodes, 5);
    assert_string_equal(trial_node(&t, 3)->status, "open");
    assert_string_equal(trial_node(&t, 4)->status, "failed");
    assert_string_equal(trial_node(&t, 4)->prune_reason, "repeat");
    trial_done(&t);
    assert_int_equal(run_script(steps_of_a_line, "repeat_guard=0", repeat), 0);
    assert_int_equal(t.result.trace.n_nodes, 7);
    assert_string_equal(trial_node(&t, 6)->status, "finished");
}

static void a_line_that_fills_the_context_is_cut(void **state)
{
    static const char *const lines[] = {"abcdefgh\n\nijkl", NULL};
    static const struct want_node want[] = {
        {"abcdefgh\n\n", "open", "step", NULL}, {"ij", "truncated", "cut", "context"}, {0}};
    static const struct want_node none[] = {
        {"abcdefgh\n\n", "open", "step", NULL}, {"", "truncated", "cut", "context"}, {0}};
    static const struct pd_strategy strategy = {.name = "test", .run = steps_of_a_line};

    (void)state;
    for (uint32_t room = 12; room >= 10; room -= 2) {
        trial_init(&t, &strategy, "");
        trial_script(&t, lines);
        t.gen.n_ctx = (uint32_t)strlen("Q:What is it?\n") + room;
        if (trial_run(&t) < 0)
            fail_msg("%s", t.err.text);
        assert_nodes(room == 12 ? want : none);
        if (room == 12)
            trial_done(&t);
    }
}

/* ---- races -------------------------------------------------------------------------------------
 */

static int race_m;

static int race_of_four(struct search *s, const void *params, struct pd_err *err)
{
    struct node *root = search_root(s), *lane[] = {root, root, root, root};

    (void)params;
    return search_race(s, lane, 4, race_m, UNTIL_END, lane, err);
}

static void a_race_ends_with_its_mth_finisher(void **state)
{
    static const char *const lines[] = {"abcdef", "ab", "abcd", "abcdefgh", NULL};
    static const struct want_node one[] = {{"abc", "open", "cut", "race"},
                                           {"ab", "finished", "eos", NULL},
                                           {"abc", "open", "cut", "race"},
                                           {"abc", "open", "cut", "race"},
                                           {0}};
    static const struct want_node three[] = {{"abcdef", "finished", "eos", NULL},
                                             {"ab", "finished", "eos", NULL},
                                             {"abcd", "finished", "eos", NULL},
                                             {"abcdefg", "open", "cut", "race"},
                                             {0}};

    (void)state;
    race_m = 1;
    assert_int_equal(run_script(race_of_four, "", lines), 0);
    assert_nodes(one);
    assert_int_equal(t.result.usage.generated, 4 * 3); /* lockstep: N times the shortest */
    trial_done(&t);
    race_m = 3;
    assert_int_equal(run_script(race_of_four, "", lines), 0);
    assert_nodes(three);
    assert_int_equal(t.result.usage.generated, 7 + 3 + 5 + 7);
}

static void a_lane_at_its_cap_has_not_finished_the_race(void **state)
{
    static const char *const lines[] = {"abcdef", "abcdefgh", "abcdefgh", "abcd", NULL};
    static const struct want_node want[] = {{"abcde", "truncated", "cut", "max_tokens"},
                                            {"abcde", "truncated", "cut", "max_tokens"},
                                            {"abcde", "truncated", "cut", "max_tokens"},
                                            {"abcd", "finished", "eos", NULL},
                                            {0}};

    (void)state;
    race_m = 2;
    assert_int_equal(run_script(race_of_four, "max_tokens=5", lines), 0);
    assert_nodes(want);
}

static void lanes_that_finish_at_the_same_moment_both_have(void **state)
{
    static const char *const lines[] = {"abcdef", "ab", "ab", "abcd", NULL};
    static const struct want_node want[] = {{"abc", "open", "cut", "race"},
                                            {"ab", "finished", "eos", NULL},
                                            {"ab", "finished", "eos", NULL},
                                            {"abc", "open", "cut", "race"},
                                            {0}};

    (void)state;
    race_m = 1;
    assert_int_equal(run_script(race_of_four, "", lines), 0);
    assert_nodes(want);
}

static void a_race_needs_a_sensible_m(void **state)
{
    (void)state;
    race_m = 5;
    assert_int_equal(run(race_of_four, ""), PD_EINVAL);
    trial_done(&t);
    race_m = -1;
    assert_int_equal(run(race_of_four, ""), PD_EINVAL);
    trial_done(&t);
    race_m = 0;
    assert_int_equal(run(race_of_four, ""), PD_EINVAL);
}

/* ---- prunes, values, ranges --------------------------------------------------------------------
 */

static int prune_some(struct search *s, const void *params, struct pd_err *err)
{
    struct node *lane[3], *child;
    int rc = search_sample(s, search_root(s), 3, UNTIL_STEP, lane, err);

    (void)params;
    if (rc < 0)
        return rc;
    assert_true(search_open(lane[0]) && search_open(lane[1]) && !search_open(lane[2]));
    search_prune(s, lane[1], "worse");
    search_prune(s, lane[1], "again");
    search_prune(s, lane[2], "worse");
    assert_false(search_open(lane[1]));
    assert_int_equal(search_extend(s, &lane[1], 1, UNTIL_STEP, &child, err), PD_EINVAL);
    assert_int_equal(search_extend(s, &lane[2], 1, UNTIL_STEP, &child, err), PD_EINVAL);
    assert_int_equal(search_sample(s, lane[0], 0, UNTIL_STEP, &child, err), PD_EINVAL);
    assert_int_equal(search_extend(s, lane, 5000, UNTIL_STEP, &child, err), PD_EINVAL);
    return search_extend(s, &lane[0], 1, UNTIL_END, &child, err);
}

static void a_prune_keeps_its_first_reason(void **state)
{
    static const char *const lines[] = {"a\n\nthe answer is 1", "b\n\n", "\n\n", NULL};

    (void)state;
    assert_int_equal(run_script(prune_some, "", lines), 0);
    assert_string_equal(trial_node(&t, 2)->status, "pruned");
    assert_string_equal(trial_node(&t, 2)->prune_reason, "worse");
    /* a failed step has its reason already, and stays what it is when it is read back */
    assert_string_equal(trial_node(&t, 3)->status, "failed");
    assert_string_equal(trial_node(&t, 3)->prune_reason, "empty_step");
    assert_int_equal(t.result.answer_node, 4);
    assert_string_equal(t.result.key, "1");
}

static int values(struct search *s, const void *params, struct pd_err *err)
{
    static double r[] = {0.5, 0.25, 0.75};
    struct node scored = {.scored = true, .values = r, .n_values = 3};
    struct node too_long = {.scored = true}, fresh = {0};

    (void)params;
    (void)err;
    assert_true(search_value(&scored, AGGREGATE_LAST) == 0.75);
    assert_true(search_value(&scored, AGGREGATE_MIN) == 0.25);
    assert_true(search_value(&scored, AGGREGATE_PROD) == 0.09375);
    assert_true(search_value(&scored, AGGREGATE_MEAN) == 0.5);
    for (int how = AGGREGATE_LAST; how <= AGGREGATE_MEAN; how++) {
        assert_true(search_value(&too_long, (enum search_aggregate)how) == -1);
        assert_true(search_value(&fresh, (enum search_aggregate)how) == -1);
    }
    assert_false(search_scored(&too_long) || search_scored(&fresh));
    for (int i = 0; i < 100; i++) {
        double u = search_random(s), v = search_random(s);

        assert_true(u >= 0 && u < 1 && u != v);
    }
    return 0;
}

static void values_are_aggregated(void **state)
{
    (void)state;
    assert_int_equal(run(values, ""), 0);
    assert_string_equal(t.result.stopped_by, "no_candidates");
}

/* ---- cache and ledger ---------------------------------------------------------------------------
 */

static int two_rounds(struct search *s, const void *params, struct pd_err *err)
{
    struct node *lane[3], *child[4];
    int rc = search_sample(s, search_root(s), 3, UNTIL_STEP, lane, err);

    (void)params;
    if (rc == 0)
        rc = search_sample(s, lane[0], 4, UNTIL_STEP, child, err);
    assert_text(lane[0], "ab\n\n");
    return rc;
}

static void a_parent_is_evaluated_once_for_all_children(void **state)
{
    static const char *const lines[] = {"ab\n\nc", NULL};
    uint64_t prompt = strlen("Q:What is it?\n"), cached = 0, fresh = 0;

    (void)state;
    assert_int_equal(run_script(two_rounds, "", lines), 0);
    for (size_t i = 0; i < t.result.trace.n_calls; i++) {
        cached += t.result.trace.calls[i].cached_tokens;
        fresh += t.result.trace.calls[i].prompt_tokens - t.result.trace.calls[i].cached_tokens;
    }
    assert_int_equal(t.result.usage.prefilled, fresh);
    assert_int_equal(t.result.usage.cached, cached);
    /* the prompt, and the last token of lane 0, which was drawn but not evaluated */
    assert_int_equal(fresh, prompt + 1);
    assert_int_equal(t.result.usage.sequential, 4 + 2);
    assert_int_equal(t.result.usage.generated, t.gen.n_drawn);
    assert_int_equal(t.result.usage.generated, 3 * 4 + 4 * 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(child_zero_inherits_its_key_and_others_do_not, end),
        cmocka_unit_test_teardown(a_lane_cut_into_steps_says_the_same, end),
        cmocka_unit_test_teardown(a_step_keeps_its_delimiter_even_inside_a_token, end),
        cmocka_unit_test_teardown(a_capped_step_goes_on_in_mid_sentence, end),
        cmocka_unit_test_teardown(the_last_step_runs_to_the_end_of_the_line, end),
        cmocka_unit_test_teardown(an_empty_or_repeated_step_fails, end),
        cmocka_unit_test_teardown(a_line_that_fills_the_context_is_cut, end),
        cmocka_unit_test_teardown(a_race_ends_with_its_mth_finisher, end),
        cmocka_unit_test_teardown(a_lane_at_its_cap_has_not_finished_the_race, end),
        cmocka_unit_test_teardown(lanes_that_finish_at_the_same_moment_both_have, end),
        cmocka_unit_test_teardown(a_race_needs_a_sensible_m, end),
        cmocka_unit_test_teardown(a_prune_keeps_its_first_reason, end),
        cmocka_unit_test_teardown(values_are_aggregated, end),
        cmocka_unit_test_teardown(a_parent_is_evaluated_once_for_all_children, end),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
