/* spec_reason and elastic: who writes which step, and how much. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "tests/support/trial.h"

static struct trial t;

/* The last step's reward: 'g' 1, 'b' 0, anything else .5 */
static float reward(struct fake *f, const int32_t *ids, size_t n, int32_t label)
{
    size_t first = n - 1;

    (void)f;
    while (first > fake_prompt(ids, n) && ids[first - 1] != FAKE_TAG)
        first--;
    if (label == '-')
        return 0;
    return ids[first] == 'g' ? 800 : ids[first] == 'b' ? -800 : 0;
}

static const char *const base[] = {"1\n\n2\n\n3\n\nanswer: 1", NULL};

/* base and draft say the same bytes a step apart in their first letter only: scripts go by
 * position, so that a step of one can stand for a step of the other. */
static void spec(const char *options, const char *const *drafts, const char *const *bases)
{
    trial_init(&t, pd_strategy_find("spec_reason"), options);
    trial_script(&t, bases);
    t.draft.next = fake_script;
    memcpy(&t.draft.world, &drafts, sizeof drafts);
    t.scorer.logit = reward;
    if (trial_run(&t) < 0)
        fail_msg("%s", t.err.text);
}

static void assert_text(const char *want)
{
    if (!pd_str_eq(t.result.text, pd_str_of(want)))
        fail_msg("'%.*s', not '%s'", (int)t.result.text.len, t.result.text.ptr, want);
}

static void good_drafts_are_kept_and_bad_ones_rewritten(void **state)
{
    static const char *const drafts[] = {"g\n\nb\n\ng\n\nanswer: 7", NULL};

    (void)state;
    spec("threshold=5", drafts, base); /* the answer step is worth .5: 4.5 < 5, so the base's */
    assert_text("g\n\n2\n\ng\n\nanswer: 1");
    assert_string_equal(t.result.key, "1");
    /* 4 drafts and 2 rewritten steps, all paid for */
    assert_int_equal(t.result.usage.scorer_passes, 4);
    assert_int_equal(t.result.usage.generated, 3 + 3 + 3 + 10 + 3 + 10);
    trial_done(&t);
}

static void the_threshold_is_strict(void **state)
{
    static const char *const drafts[] = {"x\n\ny\n\nz\n\nanswer: 7", NULL};

    (void)state;
    spec("threshold=4.5", drafts, base); /* u = 9 * .5: not below */
    assert_text("x\n\ny\n\nz\n\nanswer: 7");
    trial_done(&t);
    spec("threshold=4.6", drafts, base);
    assert_text(base[0]);
    trial_done(&t);
}

static void an_unreachable_threshold_is_the_base_alone(void **state)
{
    char alone[65];

    (void)state;
    for (uint64_t seed = 1; seed <= 20; seed++) { /* worlds of chance: the same keys, so the same */
        trial_init(&t, pd_strategy_find("single"), "");
        t.job.seed = seed;
        assert_int_equal(trial_run(&t), 0);
        snprintf(alone, sizeof alone, "%.*s", (int)t.result.text.len, t.result.text.ptr);
        trial_done(&t);
        trial_init(&t, pd_strategy_find("spec_reason"), "threshold=10");
        t.job.seed = seed;
        assert_int_equal(trial_run(&t), 0);
        assert_true(strncmp(alone, t.result.text.ptr, strlen(alone)) == 0);
        trial_done(&t);
    }
}

static void the_first_steps_may_be_the_bases(void **state)
{
    static const char *const drafts[] = {"g\n\ng\n\ng\n\nganswer", NULL};

    (void)state;
    spec("first_n_base=2 threshold=5", drafts, base);
    assert_true(strncmp(t.result.text.ptr, "1\n\n2\n\ng\n\n", 9) == 0);
    trial_done(&t);
}

/* Behind a draft that begins with 'g' the base would write 8 twice as likely as 5, else 2. */
static float digit(struct fake *f, const int32_t *ids, size_t n, int32_t label)
{
    size_t step = fake_prompt(ids, n), end = n;
    static const char question[] = "\n\nHow good";

    (void)f;
    for (size_t i = step; i + 10 < n && end == n; i++) {
        bool here = true;

        for (size_t k = 0; question[k]; k++)
            here &= ids[i + k] == question[k];
        end = here ? i : n;
    }
    for (size_t i = step; i + 2 < end; i++)
        if (ids[i] == '\n' && ids[i + 1] == '\n')
            step = i + 2;
    if (ids[step] != 'g')
        return label == '2' ? 100 : 0;
    return label == '8' ? 100.6931472F : label == '5' ? 100 : 0;
}

static void graded(const char *options)
{
    static const char *const drafts[] = {"g\n\nb\n\ng\n\nanswer: 7", NULL};

    trial_init(&t, pd_strategy_find("spec_reason"), options);
    trial_script(&t, base);
    t.draft.next = fake_script;
    memcpy(&t.draft.world, &(const char *const *){drafts}, sizeof(char **));
    t.gen.logit = digit;
    t.job.verifier = NULL;
    if (trial_run(&t) < 0)
        fail_msg("%s", t.err.text);
}

static void the_base_may_grade_with_a_digit(void **state)
{
    (void)state;
    graded("judge=greedy threshold=8"); /* 8 for 'g', 2 for others */
    assert_text("g\n\n2\n\ng\n\nanswer: 1");
    assert_int_equal(t.result.usage.scorer_passes, 0);
    trial_done(&t);
    graded("judge=greedy threshold=8.1");
    assert_text(base[0]);
    trial_done(&t);
    graded("judge=average threshold=6.9"); /* (2 * 8 + 5) / 3 = 7 */
    assert_text("g\n\n2\n\ng\n\nanswer: 1");
    trial_done(&t);
    graded("judge=average threshold=7.1");
    assert_text(base[0]);
    trial_done(&t);
}

static void every_prefix_of_its_record_resumes(void **state)
{
    static const char *const drafts[] = {"g\n\nb\n\ng\n\nanswer: 7", NULL};
    char digest[65];
    size_t n;

    (void)state;
    spec("threshold=5", drafts, base);
    memcpy(digest, t.digest, sizeof digest);
    n = t.sink.n;
    for (size_t i = 0; i <= n; i++) {
        assert_int_equal(trial_run(&t), 0);
        assert_int_equal(trial_resume(&t, i), 0);
        assert_string_equal(t.digest, digest);
    }
    assert_int_equal(trial_replay(&t, PD_JOB_RECORDED), 0);
    assert_string_equal(t.digest, digest);
    assert_int_equal(trial_replay(&t, PD_JOB_VERIFY), 0);
    assert_string_equal(t.digest, digest);
    trial_done(&t);
}

/* ---- elastic -------------------------------------------------------------------------------- */

static void both_budgets_hold(void **state)
{
    static const char *const lines[] = {"one two three four five six seven</think>\nanswer: 5",
                                        NULL};
    char options[64];

    (void)state;
    for (int think = 0; think < 50; think++)
        for (int solution = 1; solution < 20; solution++) {
            snprintf(options, sizeof options, "think=%d solution=%d", think, solution);
            trial_init(&t, pd_strategy_find("elastic"), options);
            trial_script(&t, lines);
            assert_int_equal(trial_run(&t), 0);
            assert_true(t.result.usage.generated <= (uint64_t)(think + solution));
            trial_done(&t);
        }
}

static void ends_before_the_caps_are_plain_decoding(void **state)
{
    static const char *const lines[] = {"one two</think>\nanswer: 5", NULL};

    (void)state;
    trial_init(&t, pd_strategy_find("elastic"), "");
    trial_script(&t, lines);
    assert_int_equal(trial_run(&t), 0);
    assert_text(lines[0]);
    assert_string_equal(t.result.key, "5");
    assert_int_equal(t.result.usage.generated, strlen(lines[0]) + 1); /* and the end */
    trial_done(&t);
}

static void thinking_over_its_budget_is_ended(void **state)
{
    static const char *const lines[] = {"one two three, the end is near, answer: 5", NULL};

    (void)state;
    trial_init(&t, pd_strategy_find("elastic"), "think=8");
    trial_script(&t, lines);
    assert_int_equal(trial_run(&t), 0);
    assert_true(strncmp(t.result.text.ptr, "one two \n</think>\n", 18) == 0);
    trial_done(&t);
    trial_init(&t, pd_strategy_find("elastic"), "think=0");
    trial_script(&t, lines);
    assert_int_equal(trial_run(&t), 0);
    assert_true(strncmp(t.result.text.ptr, "\n</think>\n", 10) == 0);
    trial_done(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(good_drafts_are_kept_and_bad_ones_rewritten),
        cmocka_unit_test(the_threshold_is_strict),
        cmocka_unit_test(an_unreachable_threshold_is_the_base_alone),
        cmocka_unit_test(the_first_steps_may_be_the_bases),
        cmocka_unit_test(the_base_may_grade_with_a_digit),
        cmocka_unit_test(every_prefix_of_its_record_resumes),
        cmocka_unit_test(both_budgets_hold),
        cmocka_unit_test(ends_before_the_caps_are_plain_decoding),
        cmocka_unit_test(thinking_over_its_budget_is_ended),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
