/* The life of a job: result, support, grading; and what happens when the generator, the scorer or
 * the sink fails, at every single call in turn: a clean error, nothing left behind, and a record
 * from which the job still ends as if nothing had happened. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "core/search_int.h"
#include "tests/support/trial.h"

static struct trial t;

static const char *const lines[] = {"one\n\nanswer: 1", "two\n\nanswer: 2", "2\n\nanswer: 2.0",
                                    "no end", NULL};

static void the_result_tells_the_answer_and_its_support(void **state)
{
    (void)state;
    trial_init(&t, pd_strategy_find("self_consistency"), "samples=4 max_tokens=15");
    trial_script(&t, lines);
    t.job.expect = "$2$";
    assert_int_equal(trial_run(&t), 0);
    assert_string_equal(t.result.status, "done");
    assert_string_equal(t.result.stopped_by, "answer");
    assert_string_equal(t.result.answer, "2");
    assert_string_equal(t.result.key, "2");
    assert_int_equal(t.result.answer_node, 2);
    assert_int_equal(t.result.agree, 2);
    assert_int_equal(t.result.of, 4);
    assert_int_equal(t.result.correct, 1);
    assert_true(pd_str_eq(t.result.text, PD_STR("two\n\nanswer: 2")));
    assert_int_equal(t.result.n_steps, 2);
    assert_true(pd_str_eq(t.result.steps[0].text, PD_STR("two")));
    assert_true(pd_str_eq(t.result.steps[1].text, PD_STR("answer: 2")));
    assert_int_equal(t.result.steps[0].n_tokens, 5);
    assert_int_equal(t.result.steps[1].n_tokens, 10); /* with the end token */
    assert_true(t.result.steps[0].score == -1);
    assert_int_equal(t.result.usage.generated, 15 + 15 + 15 + 7);
    assert_int_equal(t.result.usage.discarded, 15 + 15 + 7);
    assert_int_equal(t.result.usage.sequential, 15);
    assert_int_equal(t.result.usage.prefilled, strlen("Q:What is it?\n"));
    t.job.expect = "3";
    trial_run(&t);
    assert_int_equal(t.result.correct, 0);
    trial_done(&t);
}

static void the_first_row_is_durable_before_anything_else(void **state)
{
    const struct pd_trace *tr;

    (void)state;
    trial_init(&t, pd_strategy_find("single"), "");
    t.job.sink = &t.sink.sink;
    assert_int_equal(pd_job_store(&t.job, NULL), 0);
    assert_int_equal(t.sink.n, 1);
    assert_int_equal(t.sink.n_flush, 1);
    assert_int_equal(trial_run(&t), 0);
    tr = memory_sink_trace(&t.sink, 1);
    assert_string_equal(tr->job.status, "running");
    assert_null(tr->job.digest);
    tr = memory_sink_trace(&t.sink, t.sink.n);
    assert_string_equal(tr->job.status, "done");
    assert_string_equal(tr->job.digest, t.digest);
    assert_string_equal(tr->job.answer, t.result.answer);
    assert_int_equal(tr->job.answer_node, 1);
    assert_int_equal(t.sink.n_flush, 3);
    trial_done(&t);
}

static void seed_repeat_and_question_make_the_digest(void **state)
{
    char first[65];

    (void)state;
    trial_init(&t, pd_strategy_find("single"), "");
    trial_run(&t);
    memcpy(first, t.digest, sizeof first);
    trial_run(&t);
    assert_string_equal(t.digest, first);
    t.job.repeat = 1;
    trial_run(&t);
    assert_string_not_equal(t.digest, first);
    t.job.repeat = 0;
    t.job.seed = 2;
    trial_run(&t);
    assert_string_not_equal(t.digest, first);
    t.job.seed = 1;
    t.job.question = "What is that?";
    trial_run(&t);
    assert_string_not_equal(t.digest, first);
    t.job.question = "What is it?";
    trial_run(&t);
    assert_string_equal(t.digest, first);
    trial_done(&t);
}

static void a_prompt_must_leave_room_for_a_token(void **state)
{
    uint32_t prompt = (uint32_t)strlen("Q:What is it?\n");

    (void)state;
    trial_init(&t, pd_strategy_find("single"), "");
    t.gen.n_ctx = prompt;
    assert_int_equal(trial_run(&t), PD_ELIMIT);
    assert_string_equal(t.err.text, "the prompt has 14 tokens, the model's context holds 14");
    assert_string_equal(t.result.status, "failed");
    t.gen.n_ctx = prompt + 1;
    assert_int_equal(trial_run(&t), 0);
    assert_int_equal(trial_node(&t, 1)->n_tokens, 1);
    trial_done(&t);
}

static void a_strategy_that_scores_needs_a_scorer(void **state)
{
    (void)state;
    trial_init(&t, &trial_beam, "");
    t.job.verifier = NULL;
    assert_int_equal(trial_run(&t), PD_EINVAL);
    assert_string_equal(t.err.text, "strategy 'trial_beam' needs a scorer");
    trial_done(&t);
}

/* ---- failures -----------------------------------------------------------------------------------
 */

static const struct {
    const char *strategy, *options, *wrap_up;
    uint64_t tokens;
} cases[] = {
    {"single", "", NULL, 0},
    {"best_of_n", "samples=3", NULL, 0},
    {"trial_beam", "max_step_tokens=10 max_steps=3", NULL, 0},
    {"trial_beam", "", "\nanswer: ", 90},
    {"trial_race", "", NULL, 0},
};

static void init(size_t c)
{
    const char *name = cases[c].strategy;

    trial_init(&t,
               strcmp(name, "trial_beam") == 0   ? &trial_beam
               : strcmp(name, "trial_race") == 0 ? &trial_race
                                                 : pd_strategy_find(name),
               cases[c].options);
    t.job.budget.tokens = cases[c].tokens;
    t.job.budget.wrap_up = cases[c].wrap_up;
}

static void assert_failed_cleanly(size_t c, long at, enum pd_code code, const char *text)
{
    if (t.rc != (int)code || strncmp(t.err.text, text, strlen(text)) != 0)
        fail_msg("case %zu, call %ld: rc %d, '%s'", c, at, t.rc, t.err.text);
    if (t.gen.n_ctx_live || t.gen.n_lanes_live || t.scorer.n_ctx_live || t.scorer.n_lanes_live)
        fail_msg("case %zu, call %ld: %zu + %zu contexts and %zu + %zu lanes left behind", c, at,
                 t.gen.n_ctx_live, t.scorer.n_ctx_live, t.gen.n_lanes_live, t.scorer.n_lanes_live);
}

static void assert_resumes_to(size_t c, long at, const char *want)
{
    trial_resume(&t, t.sink.n);
    if (t.rc < 0 || strcmp(t.digest, want) != 0)
        fail_msg("case %zu, resumed after call %ld: %s", c, at,
                 t.rc < 0 ? t.err.text : "another digest");
}

static void every_call_of_a_model_may_fail(void **state)
{
    (void)state;
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        char want[65];
        int n_failed = 0;

        init(c);
        assert_int_equal(trial_run(&t), 0);
        memcpy(want, t.digest, sizeof want);
        for (int who = 0; who < 2; who++) {
            struct fake *f = who ? &t.scorer : &t.gen;

            for (long at = 0;; at++) {
                f->fail_at = at;
                trial_run(&t);
                f->fail_at = -1;
                if (f->n_fallible <= at) {
                    assert_int_equal(t.rc, 0);
                    break;
                }
                if (t.rc == 0) { /* a count of tokens by step that the result can do without */
                    assert_string_equal(t.digest, want);
                    continue;
                }
                n_failed++;
                assert_failed_cleanly(c, at, PD_EREMOTE, "the fake generator was told to fail in ");
                assert_string_equal(t.result.status, "failed");
                assert_string_equal(memory_sink_trace(&t.sink, t.sink.n)->job.error, t.err.text);
                assert_resumes_to(c, at, want);
            }
        }
        assert_true(n_failed >= 7);
        trial_done(&t);
    }
}

static void every_record_may_fail(void **state)
{
    (void)state;
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        char want[65];
        size_t n;

        init(c);
        assert_int_equal(trial_run(&t), 0);
        memcpy(want, t.digest, sizeof want);
        n = t.sink.n;
        for (long at = 0; at < (long)n; at++) {
            t.sink.fail_at = at;
            trial_run(&t);
            t.sink.fail_at = -1;
            assert_int_equal(t.sink.n, at);
            assert_failed_cleanly(c, at, PD_EIO, "the memory sink was told to fail");
            if (at)
                assert_resumes_to(c, at, want);
        }
        trial_done(&t);
    }
}

static void a_job_cancelled_in_its_first_step_records_no_lane(void **state)
{
    (void)state;
    trial_init(&t, pd_strategy_find("single"), "");
    t.gen.cancel_at = 0;
    assert_int_equal(trial_run(&t), PD_ECANCEL);
    assert_string_equal(t.result.status, "cancelled");
    assert_string_equal(memory_sink_trace(&t.sink, t.sink.n)->job.status, "cancelled");
    assert_int_equal(memory_sink_trace(&t.sink, t.sink.n)->n_nodes, 1);
    trial_done(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_result_tells_the_answer_and_its_support),
        cmocka_unit_test(the_first_row_is_durable_before_anything_else),
        cmocka_unit_test(seed_repeat_and_question_make_the_digest),
        cmocka_unit_test(a_prompt_must_leave_room_for_a_token),
        cmocka_unit_test(a_strategy_that_scores_needs_a_scorer),
        cmocka_unit_test(every_call_of_a_model_may_fail),
        cmocka_unit_test(every_record_may_fail),
        cmocka_unit_test(a_job_cancelled_in_its_first_step_records_no_lane),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
