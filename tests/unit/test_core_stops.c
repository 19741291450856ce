/* Stop strings of a job end a line and are not of it, wherever tokens and steps are cut; who
 * listens does not hear of them; and the likeliest tokens go with what was drawn. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "core/search_int.h"
#include "tests/support/trial.h"

static struct trial t;
static struct pd_buf heard;

static void hear(void *self, const struct pd_piece *p)
{
    (void)self;
    pd_buf_adds(&heard, p->text);
}

static void hear_prompt(void *self, const int32_t *tokens, uint32_t n)
{
    (void)self, (void)tokens, (void)n;
}

static const struct pd_listener listener = {NULL, hear_prompt, hear, NULL};

/* Steps to the end, one after the other. */
static int run_steps(struct search *s, const void *params, struct pd_err *err)
{
    struct node *n = search_root(s);
    int rc = 0;

    (void)params;
    while (rc == 0 && search_open(n))
        rc = search_extend(s, &n, 1, UNTIL_STEP, &n, err);
    return rc < 0 ? rc : search_answer(s, n, err);
}

static const struct pd_strategy steps = {.name = "steps", .run = run_steps};

static int end(void **state)
{
    (void)state;
    trial_done(&t);
    pd_buf_done(&heard);
    heard = (struct pd_buf)PD_BUF_INIT(1 << 16);
    return 0;
}

static void a_line_ends_before_the_stop(void **state)
{
    static const struct {
        const char *script;
        const char *stops[4];
        const char *line, *finish;
        uint32_t n_tokens; /* drawn */
    } cases[] = {
        {"one\n\nanswer: 2 END of it", {"END", NULL}, "one\n\nanswer: 2 ", "stop", 18},
        {"one\n\nanswer: 2 END of it", {"it!", "ND", NULL}, "one\n\nanswer: 2 E", "stop", 18},
        {"one\n\nanswer: 2", {"END", NULL}, "one\n\nanswer: 2", "eos", 15},
        /* the one that is complete first; of those the one that is listed first */
        {"abcdef", {"bcde", "cd", "d", NULL}, "ab", "stop", 4},
        {"abcdef", {"d", "cd", NULL}, "abc", "stop", 4},
        {"abc", {"a", NULL}, "", "stop", 1},
        /* across the steps */
        {"one\n\nQuestion: two", {"\n\nQuest", NULL}, "one", "stop", 10},
        {"one\n\nQuestion: two", {"e\n\nQ", NULL}, "on", "stop", 6},
        /* it is the delimiter: the line ends, not the step */
        {"one\n\ntwo", {"\n\n", NULL}, "one", "stop", 5},
        /* a token that holds more than the stop; here \1 is ".\n\n" in one */
        {"one\1two", {".\n", NULL}, "one", "stop", 4},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        for (int k = 0; k < 2; k++) {
            const char *const lines[] = {cases[i].script, NULL};
            const struct pd_node_rec *last;
            char digest[65];

            trial_init(&t, k ? &steps : pd_strategy_find("single"), "");
            trial_script(&t, lines);
            t.job.stops = cases[i].stops;
            t.job.listener = &listener;
            if (trial_run(&t) < 0)
                fail_msg("%s", t.err.text);
            memcpy(digest, t.digest, sizeof digest);
            last = trial_node(&t, (uint32_t)t.result.trace.n_nodes - 1);
            assert_string_equal(last->finish, cases[i].finish);
            assert_string_equal(last->status, "finished");
            if (k) /* single has no answer where a line names none */
                assert_true(pd_str_eq(t.result.text, pd_str_of(cases[i].line)));
            assert_int_equal(t.result.usage.generated, cases[i].n_tokens);
            if (k == 0) /* a step that has been told cannot be taken back */
                assert_true(pd_str_eq(pd_buf_str(&heard), pd_str_of(cases[i].line)));
            assert_int_equal(trial_replay(&t, PD_JOB_RECORDED), 0);
            assert_string_equal(t.digest, digest);
            assert_int_equal(trial_replay(&t, PD_JOB_VERIFY), 0);
            assert_string_equal(t.digest, digest);
            end(NULL);
        }
}

/* What is behind a stop is no answer. */
static void the_answer_is_what_stands_before(void **state)
{
    static const char *const lines[] = {"answer: 1 STOP answer: 2", "answer: 2", "answer: 1 STOP",
                                        NULL};
    static const char *const stops[] = {"STOP", NULL};

    (void)state;
    trial_init(&t, pd_strategy_find("self_consistency"), "samples=3");
    trial_script(&t, lines);
    t.job.stops = stops;
    assert_int_equal(trial_run(&t), 0);
    assert_string_equal(t.result.key, "1");
    assert_int_equal(t.result.agree, 2);
    assert_int_equal(t.result.of, 3);
}

/* Beginnings of a stop are told when it is clear that they are none. */
static void beginnings_are_heard_late(void **state)
{
    static const char *const lines[] = {"<b><br><brr>done", NULL};
    static const char *const stops[] = {"<brrr>", "<br/>", NULL};

    (void)state;
    trial_init(&t, pd_strategy_find("single"), "");
    trial_script(&t, lines);
    t.job.stops = stops;
    t.job.listener = &listener;
    assert_int_equal(trial_run(&t), 0);
    assert_string_equal(heard.data, lines[0]);
}

static void a_race_is_won_by_a_stop(void **state)
{
    static const char *const lines[] = {"a very long one, longer than all",
                                        "short STOP and more",
                                        "not so short STOP",
                                        "no",
                                        "never ends at all in time",
                                        NULL};
    static const char *const stops[] = {"STOP", NULL};

    (void)state;
    trial_init(&t, &trial_race, "");
    trial_script(&t, lines);
    t.job.stops = stops;
    assert_int_equal(trial_run(&t), 0);
    assert_string_equal(trial_node(&t, 2)->finish, "stop");
    assert_string_equal(trial_node(&t, 4)->finish, "eos");
    assert_string_equal(trial_node(&t, 1)->finish, "cut");
}

static void the_likeliest_go_with_the_tokens(void **state)
{
    const struct pd_node_rec *n;

    (void)state;
    trial_init(&t, pd_strategy_find("self_consistency"), "samples=2 top_logprobs=3");
    assert_int_equal(trial_run(&t), 0);
    n = trial_node(&t, 2);
    assert_int_equal(n->n_top, 3);
    for (uint32_t i = 0; i < n->n_tokens; i++) {
        assert_int_equal(n->top_ids[3 * i], n->tokens[i] % FAKE_EOS);
        assert_memory_equal(&n->top_logprobs[3 * i], &n->logprobs[i], sizeof(float));
        assert_true(n->top_logprobs[3 * i + 2] < n->top_logprobs[3 * i]);
    }
    assert_int_equal(trial_replay(&t, PD_JOB_RECORDED), 0); /* they are not stored */
    assert_null(trial_node(&t, 2)->top_ids);
    assert_int_equal(trial_node(&t, 2)->n_top, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_line_ends_before_the_stop),
        cmocka_unit_test_teardown(the_answer_is_what_stands_before, end),
        cmocka_unit_test_teardown(beginnings_are_heard_late, end),
        cmocka_unit_test_teardown(a_race_is_won_by_a_stop, end),
        cmocka_unit_test_teardown(the_likeliest_go_with_the_tokens, end),
    };

    heard = (struct pd_buf)PD_BUF_INIT(1 << 16);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
