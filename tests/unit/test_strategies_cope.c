/* What every strategy of the table must cope with, in worlds in which something is missing: the end
 * of a line, answers, differences, rewards, tokens, the scorer, the process itself. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/support/toy.h"

static struct trial t;

/* ---- worlds ------------------------------------------------------------------------------------
 */

static size_t offset(const struct fake *f, const struct fake_place *at, float *out_logprob)
{
    (void)f;
    *out_logprob = -1;
    return at->n - fake_prompt(at->ids, at->n);
}

static int32_t talks_on(struct fake *f, const struct fake_place *at, float *out_logprob)
{
    size_t off = offset(f, at, out_logprob);

    return off % 8 > 5 ? '\n' : 'a' + (int32_t)((off * 7 + at->key) % 26);
}

static int32_t talks_on_in_one_step(struct fake *f, const struct fake_place *at, float *out_logprob)
{
    return 'a' + (int32_t)((offset(f, at, out_logprob) * 7 + at->key) % 26);
}

static int32_t repeats_itself(struct fake *f, const struct fake_place *at, float *out_logprob)
{
    return "same\n\n"[offset(f, at, out_logprob) % 6];
}

static int32_t says_nothing(struct fake *f, const struct fake_place *at, float *out_logprob)
{
    (void)offset(f, at, out_logprob);
    return FAKE_EOS;
}

static int32_t blank_lines(struct fake *f, const struct fake_place *at, float *out_logprob)
{
    (void)offset(f, at, out_logprob);
    return '\n';
}

static int32_t never_answers(struct fake *f, const struct fake_place *at, float *out_logprob)
{
    static const char text[] = "one\n\ntwo</think>\n\nthree";
    size_t off = offset(f, at, out_logprob);

    return off < strlen(text) ? text[off] : FAKE_EOS;
}

static int32_t answers_and_talks_on(struct fake *f, const struct fake_place *at, float *out_logprob)
{
    static const char text[] = "\\boxed{5}\n\n";
    size_t off = offset(f, at, out_logprob);

    return off < strlen(text) ? text[off] : 'a' + (int32_t)((off * 7 + at->key) % 26);
}

/* Half of the keys end with an answer, the others say no step at all. */
static int32_t half_fail(struct fake *f, const struct fake_place *at, float *out_logprob)
{
    return at->key % 2 ? blank_lines(f, at, out_logprob) : fake_babble(f, at, out_logprob);
}

static float no_reward(struct fake *f, const int32_t *ids, size_t n, int32_t label)
{
    (void)f;
    (void)ids;
    (void)n;
    return label == '+' ? -3000 : 3000;
}

static float equal_reward(struct fake *f, const int32_t *ids, size_t n, int32_t label)
{
    (void)f;
    (void)ids;
    (void)n;
    return label == '+' ? 1 : 0;
}

/* ---- runs --------------------------------------------------------------------------------------
 */

static bool has_param(const struct pd_strategy *s, const char *name)
{
    for (const struct pd_param *p = s->params; p && p->name; p++)
        if (strcmp(p->name, name) == 0)
            return true;
    return false;
}

/* Small: n lines, in pairs where lines are expanded. */
static void start(const struct pd_strategy *s, int n, const char *more)
{
    char options[400] = "max_tokens=90 max_steps=6 ";
    static const struct {
        const char *name;
        int most;
    } sizes[] = {{"samples", 4}, {"expand", 2},     {"k", 2},     {"m", 2},
                 {"chains", 2},  {"iterations", 2}, {"window", 2}};

    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        if (has_param(s, sizes[i].name)) {
            size_t len = strlen(options);

            snprintf(options + len, sizeof options - len, "%s=%d ", sizes[i].name,
                     sizes[i].most < n ? sizes[i].most : n);
        }
    if (has_param(s, "fallback")) /* or it would rather say nothing */
        strcat(options, "fallback=best ");
    if (has_param(s, "layers"))
        strcat(options, "layers=generator(samples=3)+generator(beam(samples=2,expand=2),tokens=400)"
                        ";critic;ranker(top_k=2);verifier;unit_test_generator;unit_test_evaluator;"
                        "fuser ");
    if (has_param(s, "table"))
        strcat(options, "n0=2 table=.5;1@1,self_consistency(samples=2),1,1;"
                        "2@1,beam(samples=2,expand=2),1,1 ");
    snprintf(options + strlen(options), sizeof options - strlen(options), "%s", more);
    trial_init(&t, s, options);
}

/* Runs what was started; it must come to an end with an answer (or without), and its record must
 * lead to the very same. */
static void check(const char *what, bool may_answer)
{
    const struct pd_strategy *s = t.job.strategy;
    char digest[65];
    static const enum pd_job_mode modes[] = {PD_JOB_RECORDED, PD_JOB_VERIFY};

    if (trial_run(&t) < 0)
        fail_msg("%s, %s: %s", s->name, what, t.err.text);
    memcpy(digest, t.digest, sizeof digest);
    if (t.result.key && !may_answer)
        fail_msg("%s, %s: it answers %s", s->name, what, t.result.key);
    if (t.result.answer_node >= 0)
        assert_string_equal(trial_node(&t, (uint32_t)t.result.answer_node)->status, "finished");
    else if (strcmp(t.result.stopped_by, "answer") == 0)
        fail_msg("%s, %s: stopped by an answer that it does not have", s->name, what);
    if (t.job.budget.tokens && t.result.usage.generated > t.job.budget.tokens)
        fail_msg("%s, %s: %d tokens", s->name, what, (int)t.result.usage.generated);
    if (t.result.usage.generated != toy_generated(&t))
        fail_msg("%s, %s: the ledger is wrong", s->name, what);
    for (int m = 0; m < 2; m++)
        if (trial_replay(&t, modes[m]) < 0 || strcmp(t.digest, digest) != 0)
            fail_msg("%s, %s: replay %d: %s", s->name, what, m, t.err.text);
    trial_done(&t);
}

static void lines_without_an_end_or_an_answer(void **state)
{
    static const struct {
        const char *what;
        int32_t (*next)(struct fake *f, const struct fake_place *at, float *out_logprob);
    } worlds[] = {{"a model that talks on", talks_on},
                  {"a model that talks on in one step", talks_on_in_one_step},
                  {"a model that repeats itself", repeats_itself},
                  {"a model that says nothing", says_nothing},
                  {"blank lines", blank_lines},
                  {"lines without an answer", never_answers},
                  {"an answer, but no end", answers_and_talks_on}};

    (void)state;
    for (size_t i = 0; pd_strategies[i]; i++)
        for (size_t w = 0; w < sizeof worlds / sizeof *worlds; w++)
            for (int n = 1; n <= 4; n += 3) {
                start(pd_strategies[i], n, "");
                t.gen.next = t.draft.next = worlds[w].next;
                check(worlds[w].what, false);
            }
}

static void rewards_that_say_nothing(void **state)
{
    (void)state;
    for (size_t i = 0; pd_strategies[i]; i++)
        for (int n = 1; n <= 4; n += 3)
            for (uint64_t seed = 0; seed < 3; seed++) {
                start(pd_strategies[i], n, "");
                t.job.seed = seed;
                t.scorer.logit = equal_reward;
                check("equal rewards", true);
                start(pd_strategies[i], n, "");
                t.job.seed = seed;
                t.scorer.logit = no_reward;
                check("no reward", true);
                start(pd_strategies[i], n, "");
                t.job.seed = seed;
                t.scorer.n_ctx = 40; /* lines soon do not fit the reward model */
                check("lines too long to score", true);
            }
}

/* Where all lines are good, there is an answer, however little a strategy has to choose from. */
static void equal_lines_and_single_ones(void **state)
{
    (void)state;
    for (size_t i = 0; pd_strategies[i]; i++)
        for (int n = 1; n <= 4; n++) {
            start(pd_strategies[i], n == 3 ? 4 : n, n == 4 ? "" : "temperature=0");
            t.job.seed = (uint64_t)n;
            if (trial_run(&t) < 0)
                fail_msg("%s, %d lines: %s", t.job.strategy->name, n, t.err.text);
            if (!t.result.key && strcmp(t.job.strategy->name, "mcts") != 0 &&
                strcmp(t.job.strategy->name, "astar") != 0) /* they count steps, not lines */
                fail_msg("%s, %d lines: no answer", t.job.strategy->name, n);
            check("few lines", true);
        }
}

static void half_of_the_lines_fail(void **state)
{
    (void)state;
    for (size_t i = 0; pd_strategies[i]; i++)
        for (uint64_t seed = 0; seed < 12; seed++) {
            start(pd_strategies[i], 4, "");
            t.job.seed = seed;
            t.gen.next = t.draft.next = half_fail;
            check("half of the lines fail", true);
        }
}

static void budgets_of_less_than_a_step(void **state)
{
    (void)state;
    for (size_t i = 0; pd_strategies[i]; i++) {
        for (uint64_t tokens = 1; tokens < 400; tokens += 1 + tokens / 4) {
            start(pd_strategies[i], 4, "");
            t.job.budget.tokens = tokens;
            check("few tokens", true);
            start(pd_strategies[i], 4, "");
            t.job.budget.tokens = tokens;
            t.gen.next = t.draft.next = talks_on;
            check("few tokens and no end", false);
        }
        for (uint64_t nodes = 1; nodes < 12; nodes++) {
            start(pd_strategies[i], 4, "");
            t.job.budget.nodes = nodes;
            check("few nodes", true);
        }
    }
}

/* What has finished when a budget ends the search is weighed as it always is: one line of .9
 * against two of .2. */
static void a_budget_leaves_the_vote_to_what_has_finished(void **state)
{
    static const struct toy_step tree[] = {{"0", "9 answer: 1"},       {"1", "2 answer: 2"},
                                           {"2", "2 also, answer: 2"}, {"3", "8 open\n\n"},
                                           {"", "X answer: 3"},        {0}};
    static const char *const runs[][2] = {{"beam", "samples=4 expand=2"},
                                          {"lookahead", "samples=4 expand=2 lookahead=0"},
                                          {"dvts", "samples=4 expand=1"},
                                          {"particle_filter", "samples=4"},
                                          {"particle_gibbs", "samples=4"},
                                          {"parallel_tempering", "samples=4 chains=1"},
                                          {"mcts", "expand=4"},
                                          {"astar", "k=4 cost=zero"}};

    (void)state;
    for (size_t i = 0; i < sizeof runs / sizeof *runs; i++) {
        trial_init(&t, pd_strategy_find(runs[i][0]), runs[i][1]);
        toy_judge(&t, toy_tenths);
        toy_plant(&t, tree);
        t.job.budget.nodes = 4;
        if (trial_run(&t) < 0)
            fail_msg("%s: %s", runs[i][0], t.err.text);
        if (!t.result.key || strcmp(t.result.key, "1") != 0)
            fail_msg("%s: %s", runs[i][0], t.result.key ? t.result.key : "none");
        if (strcmp(runs[i][0], "astar") != 0) /* its best state was a goal */
            assert_string_equal(t.result.stopped_by, "nodes");
        trial_done(&t);
    }
}

static void a_wrapped_up_line_answers(void **state)
{
    (void)state;
    for (size_t i = 0; pd_strategies[i]; i++) {
        start(pd_strategies[i], 4, "");
        t.gen.next = t.draft.next = talks_on;
        t.job.budget.tokens = 200;
        t.job.budget.wrap_up = "\n\nThe final answer is 7";
        t.job.budget.wrap_reserve = 4;
        if (trial_run(&t) < 0)
            fail_msg("%s: %s", t.job.strategy->name, t.err.text);
        assert_true(t.result.usage.generated <= 200);
        if (!t.result.answer || strncmp(t.result.answer, "7", 1) != 0)
            fail_msg("%s: %s", t.job.strategy->name, t.result.answer ? t.result.answer : "none");
        trial_done(&t);
    }
}

static void a_failing_scorer_fails_the_job(void **state)
{
    (void)state;
    for (size_t i = 0; pd_strategies[i]; i++)
        for (long at = 0;; at += 1 + at / 3) {
            bool reached;

            start(pd_strategies[i], 4, "");
            t.scorer.fail_at = at;
            trial_run(&t);
            reached = t.scorer.n_fallible > at;
            if (t.rc != (reached ? PD_EREMOTE : 0) && !(t.rc == 0 && at > 0))
                fail_msg("%s, call %ld: %d", t.job.strategy->name, at, t.rc);
            if (t.rc < 0)
                assert_string_equal(t.result.status, "failed");
            t.scorer.fail_at = -1; /* it works again: what was recorded is taken up */
            if (t.rc < 0 && trial_resume(&t, t.sink.n) < 0)
                fail_msg("%s, after call %ld: %s", t.job.strategy->name, at, t.err.text);
            trial_done(&t);
            if (!reached)
                break;
        }
}

static void cancelled_at_any_step_it_resumes_to_the_same(void **state)
{
    (void)state;
    for (size_t i = 0; pd_strategies[i]; i++)
        for (int w = 0; w < 2; w++) {
            char digest[65];

            start(pd_strategies[i], 4, "");
            t.gen.next = t.draft.next = w ? half_fail : fake_babble;
            assert_int_equal(trial_run(&t), 0);
            memcpy(digest, t.digest, sizeof digest);
            for (long at = 0;; at += 1 + at / 6) {
                t.gen.cancel_at = at;
                trial_run(&t);
                t.gen.cancel_at = -1;
                if (t.gen.n_steps <= at)
                    break;
                if (t.rc != PD_ECANCEL && t.rc != 0)
                    fail_msg("%s at %ld: %s", pd_strategies[i]->name, at, t.err.text);
                if (t.rc == PD_ECANCEL && trial_resume(&t, t.sink.n) < 0)
                    fail_msg("%s at %ld: %s", pd_strategies[i]->name, at, t.err.text);
                if (strcmp(t.digest, digest) != 0)
                    fail_msg("%s, cancelled at step %ld: another digest", pd_strategies[i]->name,
                             at);
            }
            trial_done(&t);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lines_without_an_end_or_an_answer),
        cmocka_unit_test(rewards_that_say_nothing),
        cmocka_unit_test(equal_lines_and_single_ones),
        cmocka_unit_test(half_of_the_lines_fail),
        cmocka_unit_test(budgets_of_less_than_a_step),
        cmocka_unit_test(a_budget_leaves_the_vote_to_what_has_finished),
        cmocka_unit_test(a_wrapped_up_line_answers),
        cmocka_unit_test(a_failing_scorer_fails_the_job),
        cmocka_unit_test(cancelled_at_any_step_it_resumes_to_the_same),
    };

    alarm(300); /* a search that does not end fails, too */
    return cmocka_run_group_tests(tests, NULL, NULL);
}
