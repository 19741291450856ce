/* Resume, replay and verification: whatever a job's record is cut to, the job ends in the same
 * digest, and a record that was tampered with is found out. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "tests/support/trial.h"

static const struct {
    const char *strategy, *options;
    uint64_t tokens, nodes;
    const char *wrap_up;
} cases[] = {
    {"single", "", 0, 0, NULL},
    {"self_consistency", "samples=5", 0, 0, NULL},
    {"self_consistency", "samples=5", 150, 0, NULL},
    {"self_consistency", "samples=5", 3, 0, NULL}, /* two lanes may not even begin */
    {"best_of_n", "samples=4 aggregate=min", 0, 0, NULL},
    {"best_of_n", "samples=4 max_tokens=60 vote=none", 0, 0, NULL},
    {"trial_beam", "", 0, 0, NULL},
    {"trial_beam", "max_step_tokens=6 max_steps=4", 0, 0, NULL},
    {"trial_beam", "", 100, 0, NULL},
    {"trial_beam", "", 0, 8, NULL},
    {"trial_beam", "", 100, 0, "\nSo the answer is "},
    {"trial_beam", "", 0, 8, "\nSo the answer is "},
    {"single", "max_tokens=20", 0, 0, "\nSo the answer is "},
    {"self_consistency", "samples=3", 90, 0, "\nSo the answer is "},
    {"trial_race", "", 0, 0, NULL},
    {"trial_race", "", 200, 0, "\n"},
};
#define N_CASES (sizeof cases / sizeof *cases)

static void init(struct trial *t, size_t c)
{
    const char *name = cases[c].strategy;

    trial_init(t,
               strcmp(name, "trial_beam") == 0   ? &trial_beam
               : strcmp(name, "trial_race") == 0 ? &trial_race
                                                 : pd_strategy_find(name),
               cases[c].options);
    t->job.budget.tokens = cases[c].tokens;
    t->job.budget.nodes = cases[c].nodes;
    t->job.budget.wrap_up = cases[c].wrap_up;
}

static void assert_same(const struct trial *t, size_t c, const char *what, size_t at,
                        const char *want)
{
    if (t->rc < 0)
        fail_msg("case %zu, %s %zu: %s", c, what, at, t->err.text);
    if (strcmp(t->digest, want) != 0)
        fail_msg("case %zu, %s %zu: another digest (%s, %s)", c, what, at, t->result.stopped_by,
                 t->result.key ? t->result.key : "no answer");
}

static void assert_recorded(struct trial *t, size_t c, const char *what, size_t at,
                            const char *want)
{
    char hex[65];

    pd_trace_digest(memory_sink_trace(&t->sink, t->sink.n), hex);
    if (strcmp(hex, want) != 0)
        fail_msg("case %zu, %s %zu: the record has another digest than the job", c, what, at);
}

static void resumed_from_every_prefix_it_ends_the_same(void **state)
{
    (void)state;
    for (size_t c = 0; c < N_CASES; c++) {
        struct trial t;
        char want[65];
        size_t n;

        init(&t, c);
        assert_int_equal(trial_run(&t), 0);
        memcpy(want, t.digest, sizeof want);
        n = t.sink.n;
        assert_recorded(&t, c, "run", 0, want);
        for (size_t k = n; k >= 1; k--) {
            /* from the whole record again each time: what follows the cut must not matter */
            trial_run(&t);
            assert_same(&t, c, "run before prefix", k, want);
            trial_resume(&t, k);
            assert_same(&t, c, "prefix", k, want);
            assert_recorded(&t, c, "prefix", k, want);
        }
        trial_done(&t);
    }
}

static void replayed_without_a_model(void **state)
{
    (void)state;
    for (size_t c = 0; c < N_CASES; c++) {
        struct trial t;
        struct pd_usage usage;
        char want[65];

        init(&t, c);
        trial_run(&t);
        memcpy(want, t.digest, sizeof want);
        usage = t.result.usage;
        trial_replay(&t, PD_JOB_RECORDED); /* it has no generators to touch */
        assert_same(&t, c, "replay", 0, want);
        assert_memory_equal(&t.result.usage, &usage, sizeof usage);
        trial_replay(&t, PD_JOB_VERIFY);
        assert_same(&t, c, "verification", 0, want);
        assert_true(t.gen.n_drawn > 0);
        trial_done(&t);
    }
}

static void cancelled_at_every_step_and_resumed(void **state)
{
    (void)state;
    for (size_t c = 0; c < N_CASES; c++) {
        struct trial t;
        char want[65];
        int scoring = 0;

        init(&t, c);
        trial_run(&t);
        memcpy(want, t.digest, sizeof want);
        for (int who = 0; who < 2; who++) {
            struct fake *f = who ? &t.scorer : &t.gen;

            for (long at = 0;; at += 1 + at / 8) {
                f->cancel_at = at;
                trial_run(&t);
                f->cancel_at = -1;
                if (f->n_steps <= at)
                    break;              /* it was over before */
                if (t.rc != PD_ECANCEL) /* the very last step: nothing was left to cancel */
                    assert_same(&t, c, "cancelled too late", (size_t)at, want);
                else
                    assert_string_equal(t.result.status, "cancelled");
                scoring += who;
                trial_resume(&t, t.sink.n);
                assert_same(&t, c, who ? "cancelled scoring" : "cancelled", (size_t)at, want);
                assert_recorded(&t, c, "cancelled", (size_t)at, want);
            }
        }
        assert_true(scoring > 0 || !t.job.strategy->needs_scorer);
        trial_done(&t);
    }
}

static void verification_names_the_first_difference(void **state)
{
    struct trial t;
    struct pd_trace *tr;
    float logprobs[256];
    int32_t tokens[256];
    double steps[8];
    struct pd_node_rec *n;

    (void)state;
    init(&t, 6);
    trial_run(&t);
    tr = memory_sink_trace(&t.sink, t.sink.n);
    n = &tr->nodes[3];
    assert_true(n->n_tokens >= 8 && n->n_tokens <= 256);
    memcpy(tokens, n->tokens, n->n_tokens * sizeof *tokens);
    memcpy(logprobs, n->logprobs, n->n_tokens * sizeof *logprobs);

    tokens[7]++;
    n->tokens = tokens;
    assert_int_equal(trial_replay_trace(&t, PD_JOB_VERIFY, tr), PD_EDIFFER);
    assert_non_null(strstr(t.err.text, "node 3, token 7: "));
    tokens[7]--;
    logprobs[5] *= 1.0000001F;
    n->logprobs = logprobs;
    assert_int_equal(trial_replay_trace(&t, PD_JOB_VERIFY, tr), PD_EDIFFER);
    assert_non_null(strstr(t.err.text, "node 3, token 5: log-probability"));
    logprobs[5] = t.result.trace.nodes ? n->logprobs[5] : 0;

    tr = memory_sink_trace(&t.sink, t.sink.n); /* afresh */
    tr->nodes[3].n_tokens--;
    assert_int_equal(trial_replay_trace(&t, PD_JOB_VERIFY, tr), PD_EDIFFER);
    tr = memory_sink_trace(&t.sink, t.sink.n);
    tr->nodes[3].finish = "eos";
    assert_int_equal(trial_replay_trace(&t, PD_JOB_VERIFY, tr), PD_EDIFFER);
    tr = memory_sink_trace(&t.sink, t.sink.n);
    tr->n_nodes = 3;
    assert_int_equal(trial_replay_trace(&t, PD_JOB_VERIFY, tr), PD_EDIFFER);

    tr = memory_sink_trace(&t.sink, t.sink.n);
    assert_true(tr->n_scores > 5 && tr->scores[5].n_steps <= 8);
    memcpy(steps, tr->scores[5].steps, tr->scores[5].n_steps * sizeof *steps);
    steps[0] += 1e-15;
    tr->scores[5].steps = steps;
    assert_int_equal(trial_replay_trace(&t, PD_JOB_VERIFY, tr), PD_EDIFFER);
    assert_non_null(strstr(t.err.text, "node 6, score of step 1: "));
    tr = memory_sink_trace(&t.sink, t.sink.n);
    tr->n_scores--;
    assert_int_equal(trial_replay_trace(&t, PD_JOB_VERIFY, tr), PD_EDIFFER);
    tr = memory_sink_trace(&t.sink, t.sink.n);
    tokens[0] = tr->nodes[0].tokens[0] + 1;
    tr->nodes[0].tokens = tokens;
    assert_int_equal(trial_replay_trace(&t, PD_JOB_VERIFY, tr), PD_EDIFFER);
    /* and the record itself is good */
    assert_int_equal(trial_replay(&t, PD_JOB_VERIFY), 0);
    trial_done(&t);
}

static void a_record_with_a_hole_cannot_be_replayed(void **state)
{
    struct trial t;
    struct pd_trace *tr;

    (void)state;
    init(&t, 6);
    trial_run(&t);
    tr = memory_sink_trace(&t.sink, t.sink.n);
    tr->n_nodes--;
    assert_int_equal(trial_replay_trace(&t, PD_JOB_RECORDED, tr), PD_ENOENT);
    tr->n_nodes = 0;
    assert_int_equal(trial_replay_trace(&t, PD_JOB_RECORDED, tr), PD_ENOENT);
    tr = memory_sink_trace(&t.sink, t.sink.n);
    tr->n_scores = 2;
    assert_int_equal(trial_replay_trace(&t, PD_JOB_RECORDED, tr), PD_ENOENT);
    tr = memory_sink_trace(&t.sink, t.sink.n);
    tr->nodes[2].seed++; /* of another branch */
    assert_int_equal(trial_replay_trace(&t, PD_JOB_RECORDED, tr), PD_EDIFFER);
    trial_done(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(resumed_from_every_prefix_it_ends_the_same),
        cmocka_unit_test(replayed_without_a_model),
        cmocka_unit_test(cancelled_at_every_step_and_resumed),
        cmocka_unit_test(verification_names_the_first_difference),
        cmocka_unit_test(a_record_with_a_hole_cannot_be_replayed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
