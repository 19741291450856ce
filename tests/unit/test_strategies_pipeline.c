/* pipeline: layers are read as they are written, and each makes what it is said to of what came
 * before. The model says by a script what it is asked to: lane i of the job's prompt its line, and
 * to a question of the pipeline what the test has for it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "strategies/ask.h"
#include "strategies/layers.h"
#include "tests/support/toy.h"

static struct trial t;

/* What is said to a prompt that has `part`, by the number of times that it has been asked. */
static const struct reply {
    const char *part, *said;
} * replies;
static const char *const *lines;

static int32_t answer(struct fake *f, const struct fake_place *at, float *out_logprob)
{
    size_t n = fake_prompt(at->ids, at->n), off = at->n - n;
    int lane = fake_lane(f, at->key), last = 0;
    char text[8192];
    size_t len = 0;
    const char *says;

    *out_logprob = -0.5F;
    for (size_t i = 0; i < n && len + 1 < sizeof text; i++)
        if (at->ids[i] < FAKE_EOS)
            text[len++] = (char)at->ids[i];
    text[len] = '\0';
    while (lines[last + 1])
        last++;
    says = lines[lane >= 0 && lane < last ? lane : last];
    for (const struct reply *r = replies; r && r->part; r++)
        if (strstr(text, r->part)) {
            says = r->said;
            break;
        }
    return off < strlen(says) ? says[off] : FAKE_EOS;
}

static int start(const char *layers, const char *const *lanes, const struct reply *said)
{
    char options[600];

    snprintf(options, sizeof options, "layers=%s", layers);
    trial_init(&t, pd_strategy_find("pipeline"), options);
    lines = lanes;
    replies = said;
    t.gen.next = answer;
    return trial_run(&t);
}

static void run(const char *layers, const char *const *lanes, const struct reply *said)
{
    if (start(layers, lanes, said) < 0)
        fail_msg("%s: %s", layers, t.err.text);
}

/* The candidates behind the i-th component, as the numbers of their nodes. */
static size_t candidates(size_t i, double *out, size_t most)
{
    const char *json;

    assert_true(toy_decision(&t, "layer", i, &json));
    return toy_numbers(json, "candidates", out, most);
}

static void assert_candidates(size_t i, const double *want, size_t n)
{
    double got[16];

    assert_int_equal(candidates(i, got, 16), n);
    for (size_t k = 0; k < n; k++)
        assert_int_equal(got[k], want[k]);
}

static const char *const five[] = {"answer: 1", "answer: 2", "answer: 3",
                                   "answer: 4", "answer: 5", NULL};

static void layers_that_are_no_layers_are_refused(void **state)
{
    static const struct {
        const char *layers, *why;
    } bad[] = {{"ranker", "generators are the first layer"},
               {"generator;generator", "generators are the first layer"},
               {"generator;critic", "critic has to come directly before ranker or fuser"},
               {"generator;critic;verifier", "critic has to come directly before"},
               {"generator;unit_test_generator;fuser", "directly before unit_test_evaluator"},
               {"generator;unit_test_evaluator", "needs a unit_test_generator"},
               {"generator;ranker+ranker", "cannot be in one layer"},
               {"generator;ranker+fuser", "cannot be in one layer"},
               {"generator;;fuser", "no component ''"},
               {"generator;blender", "no component 'blender'"},
               {"generator(samples=0)", "expected an integer from 1"},
               {"generator(top_k=2)", "generator has no option 'top_k'"},
               {"generator(tokens=9)", "generator has no option 'tokens'"},
               {"generator(bream)", "no strategy 'bream'"},
               {"generator(beam(depth=2))", "beam has no option 'depth'"},
               {"generator(beam(samples=2)", "brackets"},
               {"generator;ranker(beam)", "ranker has no option 'beam'"},
               {"generator(spec_reason)", "needs a draft model"}};

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        trial_init(&t, pd_strategy_find("pipeline"), "");
        snprintf(((char *)(uintptr_t)t.job.params), 600, "%s", bad[i].layers);
        t.job.draft_gen = NULL;
        if (trial_run(&t) != PD_EINVAL || !strstr(t.err.text, bad[i].why))
            fail_msg("%s: %s", bad[i].layers, t.err.text);
        trial_done(&t);
    }
}

static void numbers_are_read_from_left_to_right(void **state)
{
    static const struct {
        const char *text;
        int n, want[5];
    } table[] = {{"[4] > [2] > [1] > [3] > [5]", 5, {4, 2, 1, 3, 5}},
                 {"[2] > [2] > [1]", 2, {2, 1}},             /* repeated */
                 {"[9] > [3] > [0] > [6] > [1]", 2, {3, 1}}, /* unknown */
                 {"The order is [5] > [4]. Both are fine.", 2, {5, 4}},
                 {"", 0, {0}},
                 {"2 > 1, [ 3 ], [4", 0, {0}},
                 {"none of them", 0, {0}},
                 {"99999999999999999999 [1]", 1, {1}}};

    (void)state;
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        int got[5];

        assert_int_equal(ask_numbers(pd_str_of(table[i].text), 5, true, got), table[i].n);
        for (int k = 0; k < table[i].n; k++)
            assert_int_equal(got[k], table[i].want[k]);
    }
}

static void who_is_not_named_comes_last(void **state)
{
    static const struct reply two[] = {{"Rank these", "[4] > [2] and the others"}, {0}};
    static const double all[] = {4, 2, 1, 3, 5};

    (void)state;
    run("generator(samples=5);ranker", five, two);
    assert_candidates(1, all, 5);
    assert_string_equal(t.result.key, "4");
    trial_done(&t);
    run("generator(samples=5);ranker(top_k=3)", five, two);
    assert_candidates(1, all, 3);
    trial_done(&t);
}

static void one_line_is_single(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 30; seed++) {
        char want[65], got[65];

        toy_run(&t, "single", "", seed, toy_even);
        toy_digest(&t, want);
        trial_done(&t);
        toy_run(&t, "pipeline", "layers=generator(samples=1)", seed, toy_even);
        toy_digest(&t, got);
        assert_string_equal(got, want);
        trial_done(&t);
    }
}

static void layers_that_pass_through_change_nothing(void **state)
{
    static const struct reply nothing[] = {{"Rank these", "who knows"},
                                           {"Is this answer right", "It is. [Correct]"},
                                           {"Write 8 checks", ""},
                                           {0}};
    static const double all[] = {1, 2, 3, 4, 5};

    (void)state;
    run("generator(samples=5);ranker;verifier;unit_test_generator;unit_test_evaluator", five,
        nothing);
    for (size_t i = 0; i < 5; i++)
        assert_candidates(i, all, 5);
    assert_string_equal(t.result.key, "1");
    trial_done(&t);
}

static void wrong_candidates_are_dropped_but_not_all(void **state)
{
    static const struct reply two[] = {{"right? Think", ""}, {0}};
    static const struct reply some[] = {{"Answer:\nanswer: 2", "so [Correct]"},
                                        {"Answer:\nanswer: 4", "[Incorrect]? No: [Correct]"},
                                        {"Is this answer right", "[Correct]? No: [Incorrect]"},
                                        {0}};
    static const struct reply none[] = {{"Is this answer right", "[Incorrect]"}, {0}};
    static const double all[] = {1, 2, 3, 4, 5}, right[] = {2, 4};

    (void)state;
    run("generator(samples=5);verifier", five, some);
    assert_candidates(1, right, 2);
    assert_string_equal(t.result.key, "2");
    trial_done(&t);
    run("generator(samples=5);verifier", five, none);
    assert_candidates(1, all, 5);
    trial_done(&t);
    run("generator(samples=1);verifier", five, two); /* asked once, and ten times more */
    assert_candidates(1, all, 1);
    assert_int_equal(t.result.trace.n_nodes, 2 + 1 + 11);
    trial_done(&t);
}

static void candidates_are_ordered_by_checks_passed(void **state)
{
    static const struct reply said[] = {
        {"Write 3 checks", "1. It is short.\n- It names a number\n\n3) It is right\n4. Too many"},
        {"Answer:\nanswer: 1", "1 [Passed] 2 [Failed] 3 [Failed]"},
        {"Answer:\nanswer: 3", "1 [Passed] 2 [Passed] 3 [Failed]"},
        {"Answer:\nanswer: 4", "1 [Passed] 2 [Passed] 3 [Failed]"},
        {"Go through these checks", "1 [Failed] 2 [Failed] 3 [Failed]"},
        {0}};
    static const double all[] = {3, 4, 1, 2, 5};
    const char *json;

    (void)state;
    run("generator(samples=5);unit_test_generator(checks=3);unit_test_evaluator", five, said);
    assert_candidates(2, all, 5);
    assert_true(toy_decision(&t, "layer", 1, &json));
    assert_non_null(
        strstr(json, "\"checks\":[\"It is short.\",\"It names a number\",\"It is right\"]"));
    trial_done(&t);
    run("generator(samples=5);unit_test_generator(checks=3);unit_test_evaluator(top_k=2)", five,
        said);
    assert_candidates(2, all, 2);
    trial_done(&t);
}

static void fusers_see_critiques_and_take_the_place_of_candidates(void **state)
{
    static const struct reply said[] = {
        {"Name the strengths", "It is too short."},
        {"What was said of it: It is too short.\n\nAnswer [2]", "fused answer: 7"},
        {0}};
    static const struct reply no_answer[] = {{"Weigh them", "I cannot"}, {0}};
    static const double all[] = {1, 2};
    double got[8];

    (void)state;
    run("generator(samples=2);critic;fuser(samples=2)+fuser", five, said);
    assert_int_equal(candidates(3, got, 8), 3);
    assert_string_equal(t.result.key, "7");
    assert_string_equal(trial_line(&t, (uint32_t)t.result.answer_node), "fused answer: 7");
    trial_done(&t);
    run("generator(samples=2);fuser", five, no_answer); /* nothing came of it: they stay */
    assert_candidates(1, all, 2);
    trial_done(&t);
}

/* Any strategy is a generator: it gives its answer, in the same tree. */
static void any_strategy_is_a_generator(void **state)
{
    (void)state;
    for (size_t i = 0; pd_strategies[i]; i++) {
        char options[300];
        const struct pd_strategy *s = pd_strategies[i];
        const char *json;
        double got[4];

        if (s->needs_draft || strcmp(s->name, "compute_optimal") == 0) /* which needs a table */
            continue;
        snprintf(options, sizeof options,
                 "max_tokens=90 max_steps=6 layers=generator(%s,tokens=700)+generator", s->name);
        trial_init(&t, pd_strategy_find("pipeline"), options);
        toy_judge(&t, toy_opinion);
        if (trial_run(&t) < 0)
            fail_msg("%s: %s", s->name, t.err.text);
        if (!toy_decision(&t, "layer", 1, &json) || !toy_numbers(json, "candidates", got, 4))
            fail_msg("%s: no candidate: %s", s->name, t.result.stopped_by);
        assert_string_equal(t.result.stopped_by, "answer");
        trial_done(&t);
    }
}

/* The nested budget bounds what is in it, the outer one all; to the token. */
static void budgets_are_nested(void **state)
{
    (void)state;
    for (int inner = 20; inner < 500; inner += 37)
        for (uint64_t outer = 0; outer < 900; outer += 111) {
            char options[200];
            uint64_t spent = 0;
            const struct pd_trace *tr = &t.result.trace;

            snprintf(options, sizeof options,
                     "max_tokens=90 layers=generator(beam(samples=4,expand=2),tokens=%d)+generator",
                     inner);
            trial_init(&t, pd_strategy_find("pipeline"), options);
            toy_judge(&t, toy_opinion);
            t.job.budget.tokens = outer;
            assert_int_equal(trial_run(&t), 0);
            if (outer)
                assert_true(t.result.usage.generated <= outer);
            else
                assert_string_not_equal(t.result.stopped_by, "tokens");
            /* without an outer budget the last node is the plain generator's */
            for (size_t i = 1; i < tr->n_nodes - (outer == 0); i++)
                spent += tr->nodes[i].n_tokens;
            assert_true(spent <= (uint64_t)inner || outer);
            trial_done(&t);
        }
}

static void a_nested_strategy_is_scored_when_it_needs_that(void **state)
{
    char params[8192] = "generator(beam(samples=4,expand=2))";
    const struct pd_strategy *s = pd_strategy_find("pipeline");

    (void)state;
    assert_true(pd_strategy_scores(s, params));
    strcpy(params, "generator(self_consistency);ranker");
    assert_false(pd_strategy_scores(s, params));
    strcpy(params, "generator(pipeline(layers=(generator(best_of_n)+generator;ranker)))");
    assert_true(pd_strategy_scores(s, params));
    trial_init(&t, s, "");
    snprintf(((char *)(uintptr_t)t.job.params), 600, "generator(best_of_n)");
    t.job.verifier = NULL;
    assert_int_equal(trial_run(&t), PD_EINVAL);
    assert_non_null(strstr(t.err.text, "needs a scorer"));
    trial_done(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(layers_that_are_no_layers_are_refused),
        cmocka_unit_test(numbers_are_read_from_left_to_right),
        cmocka_unit_test(who_is_not_named_comes_last),
        cmocka_unit_test(one_line_is_single),
        cmocka_unit_test(layers_that_pass_through_change_nothing),
        cmocka_unit_test(wrong_candidates_are_dropped_but_not_all),
        cmocka_unit_test(candidates_are_ordered_by_checks_passed),
        cmocka_unit_test(fusers_see_critiques_and_take_the_place_of_candidates),
        cmocka_unit_test(any_strategy_is_a_generator),
        cmocka_unit_test(budgets_are_nested),
        cmocka_unit_test(a_nested_strategy_is_scored_when_it_needs_that),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
