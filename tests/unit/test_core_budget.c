/* Budgets of tokens, nodes and seconds, the ledger, and the ending rule. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "base/clock.h"
#include "core/search.h"
#include "tests/support/trial.h"

static struct trial t;

static const struct pd_strategy *strategy_of(int i)
{
    switch (i) {
    case 0:
        return pd_strategy_find("single");
    case 1:
        return pd_strategy_find("self_consistency");
    case 2:
        return pd_strategy_find("best_of_n");
    case 3:
        return &trial_beam;
    default:
        return &trial_race;
    }
}
#define N_STRATEGIES 5

static void assert_ledger(void)
{
    const struct pd_trace *tr = &t.result.trace;
    struct pd_usage u = {0};
    uint64_t drawn = 0;

    for (size_t i = 0; i < tr->n_calls; i++) {
        const struct pd_call_rec *c = &tr->calls[i];

        u.generated += c->generated_tokens;
        u.cached += c->cached_tokens;
        *(strcmp(c->op, "score") == 0 ? &u.scored : &u.prefilled) +=
            c->prompt_tokens - c->cached_tokens;
    }
    for (size_t i = 0; i < tr->n_nodes; i++)
        drawn += tr->nodes[i].logprobs ? tr->nodes[i].n_tokens : 0;
    assert_int_equal(u.generated, t.result.usage.generated);
    assert_int_equal(u.prefilled, t.result.usage.prefilled);
    assert_int_equal(u.cached, t.result.usage.cached);
    assert_int_equal(u.scored, t.result.usage.scored);
    assert_int_equal(drawn, u.generated);
    assert_int_equal(t.gen.n_drawn, u.generated);
    assert_int_equal(t.scorer.n_evaluated, u.scored);
}

static void tokens_are_never_exceeded(void **state)
{
    (void)state;
    for (int i = 0; i < N_STRATEGIES; i++)
        for (uint64_t tokens = 1; tokens < 400; tokens += 1 + tokens / 6)
            for (int wrap = 0; wrap < 2; wrap++) {
                trial_init(&t, strategy_of(i), wrap ? "max_step_tokens=10" : "");
                t.job.seed = tokens;
                t.job.budget.tokens = tokens;
                t.job.budget.wrap_up = wrap ? "\nanswer: " : NULL;
                t.job.budget.wrap_reserve = 20;
                if (trial_run(&t) < 0)
                    fail_msg("strategy %d, %d tokens: %s", i, (int)tokens, t.err.text);
                if (t.gen.n_drawn > tokens)
                    fail_msg("strategy %d: %d tokens of %d", i, (int)t.gen.n_drawn, (int)tokens);
                assert_ledger();
                if (!wrap && tokens < 20) { /* too little for any line */
                    assert_string_equal(t.result.stopped_by, "tokens");
                    assert_int_equal(t.gen.n_drawn, tokens);
                    assert_null(t.result.answer);
                }
                trial_done(&t);
            }
}

static void the_budget_is_dealt_evenly_to_the_lanes(void **state)
{
    static const char *const lines[] = {"answer: 1", "the answer: 2 and more", NULL};

    (void)state;
    /* 23 tokens for two lanes: 12 and 11; the first ends by itself at 10, the second is cut at 11
     */
    trial_init(&t, pd_strategy_find("self_consistency"), "samples=2");
    trial_script(&t, lines);
    t.job.budget.tokens = 23;
    assert_int_equal(trial_run(&t), 0);
    assert_int_equal(trial_node(&t, 1)->n_tokens, 10);
    assert_int_equal(trial_node(&t, 2)->n_tokens, 11);
    assert_string_equal(trial_node(&t, 2)->stop, "tokens");
    assert_string_equal(t.result.stopped_by, "answer");
    assert_string_equal(t.result.key, "1");
    assert_int_equal(t.result.usage.discarded, 11);
    trial_done(&t);
}

static void nodes_are_never_exceeded(void **state)
{
    (void)state;
    for (int i = 0; i < N_STRATEGIES; i++)
        for (uint64_t nodes = 1; nodes < 24; nodes++) {
            trial_init(&t, strategy_of(i), "");
            t.job.budget.nodes = nodes;
            assert_int_equal(trial_run(&t), 0);
            assert_true(t.result.trace.n_nodes - 1 <= nodes);
            if (nodes < 4 && i)
                assert_string_equal(t.result.stopped_by, "nodes");
            trial_done(&t);
        }
}

/* ---- the ending rule ----------------------------------------------------------------------------
 */

static void an_end_with_finished_lines_is_a_vote(void **state)
{
    static const char *const lines[] = {"go on\n\nand on", "answer: 1", "answer: 2", "answer: 2",
                                        NULL};

    (void)state;
    trial_init(&t, &trial_beam, "");
    trial_script(&t, lines);
    t.job.budget.nodes = 4;
    t.job.budget.wrap_up = "not needed"; /* there are finished lines */
    assert_int_equal(trial_run(&t), 0);
    assert_string_equal(t.result.key, "2");
    assert_string_equal(t.result.stopped_by, "nodes");
    assert_int_equal(t.result.trace.n_nodes, 5);
    trial_done(&t);
}

static bool scored;

static int two_steps(struct search *s, const void *params, struct pd_err *err)
{
    struct node *lane[3];
    int rc = search_sample(s, search_root(s), 3, UNTIL_STEP, lane, err);

    (void)params;
    if (rc == 0 && scored)
        rc = search_score(s, lane, 3, err);
    return rc < 0 ? rc : search_extend(s, lane, 3, UNTIL_STEP, lane, err);
}

/* A forced "answer: " makes any line end in 77. */
static int32_t wrapped(struct fake *f, const struct fake_place *at, float *out_logprob)
{
    *out_logprob = -1;
    if (at->ids[at->n - 1] == ':' || at->ids[at->n - 2] == ':')
        return at->temperature > 0 ? 'x' : '7';
    if (at->ids[at->n - 1] == '7')
        return FAKE_EOS;
    return fake_script(f, at, out_logprob);
}

static void an_end_with_open_lines_wraps_up_the_best(void **state)
{
    static const char *const lines[] = {"aa\n\nb", "longer\n\nb", "cc\n\nb", NULL};
    static const struct pd_strategy strategy = {.name = "test", .run = two_steps};
    static const char *const cut[] = {"aaaa", "bbbbbbbb", "cccccccc", NULL};
    const struct pd_score_rec *sc;
    uint32_t best;

    (void)state;
    for (int how = 0; how < 2; how++) {
        scored = how == 0; /* by the greatest reward; nothing scored: by length */
        trial_init(&t, &strategy, "");
        trial_script(&t, lines);
        t.gen.next = wrapped;
        t.job.budget.nodes = 4;
        t.job.budget.wrap_up = "answer:";
        assert_int_equal(trial_run(&t), 0);
        sc = t.result.trace.scores;
        best = scored ? 1 : 2;
        for (uint32_t i = 1; scored && i < 3; i++)
            best = sc[i].value > sc[best - 1].value ? i + 1 : best;
        assert_true(scored == (best != 2)); /* the longest is not that of the greatest reward */
        assert_int_equal(t.result.trace.n_nodes, 6);
        assert_int_equal(trial_node(&t, 4)->parent, best);
        assert_string_equal(trial_node(&t, 4)->finish, "forced");
        assert_null(trial_node(&t, 4)->logprobs);
        assert_int_equal(t.result.answer_node, 5);
        assert_string_equal(t.result.key, "77");
        assert_string_equal(t.result.stopped_by, "nodes");
        assert_int_equal(t.result.agree, 1);
        trial_done(&t);
    }
    /* of equal ones the first; the reserve is held back for it */
    trial_init(&t, pd_strategy_find("self_consistency"), "samples=3");
    trial_script(&t, cut);
    t.gen.next = wrapped;
    t.job.budget.tokens = 6 + 7 + 5 + 4;
    t.job.budget.wrap_up = "answer:";
    t.job.budget.wrap_reserve = 4;
    assert_int_equal(trial_run(&t), 0);
    assert_int_equal(trial_node(&t, 2)->n_tokens, 6);
    assert_int_equal(trial_node(&t, 3)->n_tokens, 6);
    assert_int_equal(trial_node(&t, 4)->parent, 2);
    assert_string_equal(t.result.key, "77");
    assert_true(t.result.usage.generated <= 22);
    trial_done(&t);
}

static void an_end_without_anything_names_the_budget(void **state)
{
    static const char *const lines[] = {"aaaaaaaaaaaaaaaaaaaa", "bb\n\nbbbbbbbbbb", "bbbbbb", NULL};
    static const char *const forced[] = {NULL, "\nhm "};

    (void)state;
    for (int wrap = 0; wrap < 2; wrap++) {
        trial_init(&t, pd_strategy_find("self_consistency"), "samples=2");
        trial_script(&t, lines);
        t.job.budget.tokens = 10 + (wrap ? 3 : 0);
        t.job.budget.wrap_up = forced[wrap];
        t.job.budget.wrap_reserve = 3;
        assert_int_equal(trial_run(&t), 0);
        assert_null(t.result.answer);
        assert_int_equal(t.result.answer_node, -1);
        assert_string_equal(t.result.stopped_by, "tokens");
        assert_string_equal(t.result.status, "done");
        assert_true(t.result.text.len >= 5 &&
                    t.result.text.ptr[0] == 'a'); /* the best partial one */
        trial_done(&t);

        trial_init(&t, &trial_beam, "");
        trial_script(&t, lines);
        t.job.budget.nodes = 4;
        t.job.budget.wrap_up = forced[wrap];
        assert_int_equal(trial_run(&t), 0);
        assert_null(t.result.answer);
        assert_string_equal(t.result.stopped_by, "nodes");
        assert_int_equal(t.job.budget.nodes, 4); /* the budget is the caller's */
        trial_done(&t);
    }
}

static void a_wrap_up_that_does_not_fit_is_no_answer(void **state)
{
    static const char *const lines[] = {"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", NULL};

    (void)state;
    trial_init(&t, pd_strategy_find("single"), "");
    trial_script(&t, lines);
    t.gen.n_ctx = 30;
    t.job.budget.wrap_up = "answer:";
    if (trial_run(&t) < 0)
        fail_msg("%s", t.err.text);
    assert_null(t.result.answer);
    assert_string_equal(trial_node(&t, 1)->stop, "context");
    assert_int_equal(t.result.usage.generated, 30 - strlen("Q:What is it?\n"));
    trial_done(&t);
}

/* ---- seconds ------------------------------------------------------------------------------------
 */

static void assert_replays(const char *what, long at)
{
    char want[65], hex[65];

    if (t.rc < 0)
        fail_msg("%s %ld: %s", what, at, t.err.text);
    memcpy(want, t.digest, sizeof want);
    pd_trace_digest(memory_sink_trace(&t.sink, t.sink.n), hex);
    assert_string_equal(hex, want);
    for (int mode = PD_JOB_RECORDED; mode <= PD_JOB_VERIFY; mode++)
        if (trial_replay(&t, (enum pd_job_mode)mode) < 0 || strcmp(t.digest, want) != 0)
            fail_msg("%s %ld, mode %d: %s", what, at, mode,
                     t.rc < 0 ? t.err.text : "another digest");
    /* died before its last row, resumed where time is plenty: what the clock decided stays decided
     */
    t.job.budget.seconds = 0;
    if (trial_resume(&t, t.sink.n - 1) < 0 || strcmp(t.digest, want) != 0)
        fail_msg("%s %ld, resumed: %s", what, at, t.rc < 0 ? t.err.text : "another digest");
}

static void a_deadline_that_has_passed_lets_nothing_begin(void **state)
{
    (void)state;
    for (int i = 0; i < N_STRATEGIES; i++) {
        trial_init(&t, strategy_of(i), "");
        t.job.budget.seconds = 1e-9;
        assert_int_equal(trial_run(&t), 0);
        assert_string_equal(t.result.stopped_by, "seconds");
        assert_int_equal(t.result.trace.n_nodes, 1);
        assert_int_equal(t.gen.n_drawn, 0);
        assert_int_equal(t.result.trace.n_events, 2);
        assert_string_equal(t.result.trace.events[0].type, "budget.stop");
        assert_string_equal(t.result.trace.events[0].data, "1");
        assert_replays("deadline before strategy", i);
        trial_done(&t);
    }
}

static void a_deadline_anywhere_replays_without_a_clock(void **state)
{
    (void)state;
    for (int i = 0; i < N_STRATEGIES; i++)
        for (int who = 0; who < 2; who++)
            for (long at = 0;; at += 1 + at / 3) {
                struct fake *f;

                trial_init(&t, strategy_of(i), "");
                f = who ? &t.scorer : &t.gen;
                t.job.budget.seconds = 0.001;
                t.job.budget.wrap_up = at % 2 ? "\nanswer: " : NULL;
                f->stall_at = at;
                f->stall_ns =
                    PD_NS_PER_MS + 1; /* longer than the job may take: it passes here, or earlier */
                trial_run(&t);
                f->stall_at = -1;
                if (f->n_steps <= at) {
                    trial_done(&t);
                    break;
                }
                assert_replays(who ? "stalled scorer" : "stalled generator", at);
                trial_done(&t);
            }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tokens_are_never_exceeded),
        cmocka_unit_test(the_budget_is_dealt_evenly_to_the_lanes),
        cmocka_unit_test(nodes_are_never_exceeded),
        cmocka_unit_test(an_end_with_finished_lines_is_a_vote),
        cmocka_unit_test(an_end_with_open_lines_wraps_up_the_best),
        cmocka_unit_test(an_end_without_anything_names_the_budget),
        cmocka_unit_test(a_wrap_up_that_does_not_fit_is_no_answer),
        cmocka_unit_test(a_deadline_that_has_passed_lets_nothing_begin),
        cmocka_unit_test(a_deadline_anywhere_replays_without_a_clock),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
