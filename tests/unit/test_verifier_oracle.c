/* The oracle: its labels on lines written by hand, its rates, and that chance depends on the job
 * and the text alone. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include <math.h>

#include "core/search_int.h"
#include "core/steps.h"
#include "tests/support/trial.h"

#define TRUTH                                                                                      \
    "{\"answer\":568,\"equations\":[[100,\"*\",2,200],[200,\"+\",126,326],[326,\"+\",12,338],"     \
    "[326,\"+\",338,664],[664,\"-\",41,623],[110,\"/\",2,55],[623,\"-\",55,568]]}"

extern const struct pd_verifier verifier_oracle;

static struct trial t;

struct oracle_fixture {
    struct pd_scorer s;
    struct pd_arena arena;
    struct pd_err err;
    double params[8];
};

static void set_params(void *params, const char *tpr, const char *fpr)
{
    pd_params_default(verifier_oracle.params, params);
    if (tpr)
        assert_int_equal(
            pd_params_set(verifier_oracle.params, params, PD_STR("tpr"), pd_str_of(tpr), NULL), 0);
    if (fpr)
        assert_int_equal(
            pd_params_set(verifier_oracle.params, params, PD_STR("fpr"), pd_str_of(fpr), NULL), 0);
}

static int setup(struct oracle_fixture *f, const char *truth, const char *tpr, const char *fpr)
{
    *f = (struct oracle_fixture){0};
    assert_true(verifier_oracle.params_size <= sizeof f->params);
    pd_arena_init(&f->arena, (size_t)1 << 30);
    set_params(f->params, tpr, fpr);
    f->s = (struct pd_scorer){.verifier = &verifier_oracle,
                              .params = f->params,
                              .arena = &f->arena,
                              .question = "Q",
                              .truth = truth,
                              .key = 1};
    return verifier_oracle.open(&f->s, &f->err);
}

static struct pd_candidate candidate(struct oracle_fixture *f, const char *line)
{
    struct pd_candidate c = {0};

    line = pd_arena_dup(&f->arena, pd_str_of(line)); /* steps are borrowed from it */
    assert_non_null(line);
    c.steps = pd_steps_split(&f->arena, pd_str_of(line), &c.n_steps);
    assert_non_null(c.steps);
    return c;
}

static const double *rewards(struct oracle_fixture *f, const char *line, size_t *out_n)
{
    struct pd_candidate c = candidate(f, line);

    assert_int_equal(verifier_oracle.score(&f->s, &c, 1, &f->err), 0);
    assert_int_equal(c.n_values, c.n_steps);
    *out_n = c.n_values;
    return c.values;
}

/* ---- labels ------------------------------------------------------------------------------------
 */

static void labels_of_lines(void **state)
{
    static const struct {
        const char *line, *labels; /* one '+' or '-' a step */
    } cases[] = {
        {"Her apples are 100 * 2 = 200.\n\nShe has 200 + 126 = 326.", "++"},
        {"It is 100 * 2 = 201.", "-"},                     /* result */
        {"It is 100 * 3 = 200.", "-"},                     /* operand */
        {"It is 100 + 2 = 200.", "-"},                     /* operator */
        {"It is 1 + 1 = 2.", "-"},                         /* true, but not of this problem */
        {"It is 2 * 100 = 200.\n\n126 + 200 = 326", "++"}, /* commuted */
        {"It is 41 - 664 = 623.", "-"},                    /* does not commute */
        {"It is 2 / 110 = 55.", "-"},
        {"338 + 326 = 664\n\n664 - 41 = 623\n\n110 / 2 = 55\n\n623 - 55 = 568", "++++"},
        {"664 - 41 = 623\n\n100 * 2 = 200", "++"}, /* in any order */
        {"It is 0100 * 02 = 200.", "+"},           /* numbers, not digits */
        {"It is 100 * 2 = 2000.", "-"},
        {"It is 18446744073709551716 * 2 = 200.", "-"}, /* 2^64 + 100 */
        {"It is 100*2=200.", "-"},                      /* not how equations are written */
        {"It is 100 * 2  = 200.", "-"},
        {"It is -100 * 2 = 200.", "+"},                   /* the sign is not part of it */
        {"It is 100 * 2 = 201. No, 100 * 2 = 200.", "+"}, /* the last counts */
        {"It is 100 * 2 = 200, 200 + 126 = 325.", "-"},
        {"5 + 100 * 2 = 200 is meant", "+"}, /* the first number is passed over */
        {"100 * 2 = 200 + 126 = 326", "+"},  /* the second one has no first number */
        {"100 * 2 = 201 + 126 = 326", "-"},
        {"100 * 2 =\n200 * 2 = 400 \n= 100 * 2 = 200 *", "+"}, /* several lines, one step */
        {"Then 100 * 2 = 200\nand 200 + 126 = 327.", "-"},
        {"100 * 2 = 201\n\n200 + 126 = 326", "--"}, /* an error stays */
        {"100 * 2 = 201\n\nWait, no. 100 * 2 = 200.\n\n200 + 126 = 326", "-++"},
        {"100 * 2 = 201\n\nWait, let me see.\n\n200 + 126 = 326", "---"},
        {"100 * 2 = 201\n\nWait, 100 * 2 = 202.\n\nWait, 100 * 2 = 200.", "--+"},
        {"100 * 2 = 201\n\nNo. Wait, 100 * 2 = 200.", "--"},
        {"100 * 2 = 201\n\nwait, 100 * 2 = 200.", "--"},
        {"Wait, 100 * 2 = 200.", "+"},
        {"Let me think.\n\n100 * 2 = 200", "--"}, /* nothing is no progress */
        {"100 * 2 = 200\n\nLet me think.\n\nWait, 100 * 2 = 200", "+-+"},
        {"100 * 2 = 200\n</think>\nThe answer is \\boxed{568}.", "++"},
        {"100 * 2 = 200\n</think>\nThe answer is \\boxed{567}.", "+-"},
        {"100 * 2 = 201\n</think>\nThe answer is \\boxed{568}.", "--"},
        {"100 * 2 = 200\n</think>\n\nThe answer is \\boxed{568}.", "+++"},
        {"100 * 2 = 200\n</think>\n\nThe answer is \\boxed{56}.", "++-"},
        {"100 * 2 = 200\n</think>\nThe answer is \\boxed{56", "++"}, /* not said yet */
        {"100 * 2 = 200\n</think>\nThe ans", "++"},
        {"100 * 2 = 200\n\n$\\boxed{0568.0}$", "++"}, /* by its canonical key */
        {"100 * 2 = 200\n\nThe answer is 568.", "++"},
        {"100 * 2 = 200\n\nThe answer is 5.", "+-"},
        {"100 * 2 = 200\n\n\\boxed{5}\n\n\\boxed{568}", "+--"},
        {"100 * 2 = 200, so \\boxed{200}", "-"}, /* a wrong answer is never right */
        {"623 - 55 = 568, so \\boxed{568}", "+"},
    };
    struct oracle_fixture f;

    (void)state;
    assert_int_equal(setup(&f, TRUTH, NULL, NULL), 0);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        size_t n;
        const double *r = rewards(&f, cases[i].line, &n);

        if (n != strlen(cases[i].labels))
            fail_msg("%s: %zu steps", cases[i].line, n);
        for (size_t k = 0; k < n; k++)
            if (!(r[k] == (cases[i].labels[k] == '+' ? 1 : 0)))
                fail_msg("%s: step %zu is %g, not %c", cases[i].line, k + 1, r[k],
                         cases[i].labels[k]);
    }
    pd_arena_done(&f.arena);
}

/* ---- rates -------------------------------------------------------------------------------------
 */

#define N_TEXTS 20000

/* Of N_TEXTS lines that differ in their words, how many are seen as right at the second step. */
static int count_seen(struct oracle_fixture *f, bool right, double tpr, double fpr)
{
    double seen = tpr / (tpr + fpr), unseen = (1 - tpr) / ((1 - tpr) + (1 - fpr));
    int n_seen = 0;

    for (int i = 0; i < N_TEXTS; i++) {
        char line[100];
        const double *r;
        size_t n;

        snprintf(line, sizeof line, "Thing %d: 100 * 2 = %s\n\n200 + 126 = 326", i,
                 right ? "200" : "202");
        r = rewards(f, line, &n);
        assert_true(r[1] == seen || r[1] == unseen);
        n_seen += r[1] == seen;
    }
    return n_seen;
}

static void assert_rate(int n, double p)
{
    double sigma = sqrt(N_TEXTS * p * (1 - p));

    if (!(fabs(n - N_TEXTS * p) <= 4 * sigma))
        fail_msg("%d of %d, expected %.1f, sigma %.1f", n, N_TEXTS, N_TEXTS * p, sigma);
}

static void steps_are_seen_at_the_stated_rates(void **state)
{
    static const struct {
        const char *tpr, *fpr;
        double t, f;
    } rates[] = {{"0.9", "0.1", 0.9, 0.1},
                 {"0.6", "0.35", 0.6, 0.35},
                 {"1", "0.2", 1, 0.2},
                 {"0.7", "0", 0.7, 0}};

    (void)state;
    for (size_t i = 0; i < sizeof rates / sizeof *rates; i++) {
        struct oracle_fixture f;

        assert_int_equal(setup(&f, TRUTH, rates[i].tpr, rates[i].fpr), 0);
        assert_rate(count_seen(&f, true, rates[i].t, rates[i].f), rates[i].t);
        assert_rate(count_seen(&f, false, rates[i].t, rates[i].f), rates[i].f);
        pd_arena_done(&f.arena);
    }
}

static void an_uninformed_oracle_says_one_half(void **state)
{
    static const char *const rates[] = {"0", "0.3", "1"};

    (void)state;
    for (size_t i = 0; i < 3; i++) {
        struct oracle_fixture f;
        const double *r;
        size_t n;

        assert_int_equal(setup(&f, TRUTH, rates[i], rates[i]), 0);
        r = rewards(&f, "100 * 2 = 200\n\n1 + 1 = 2\n\n\\boxed{1}", &n);
        assert_true(n == 3 && r[0] == 0.5 && r[1] == 0.5 && r[2] == 0.5);
        pd_arena_done(&f.arena);
    }
}

/* The steps of a line, two lines with equal steps, and two jobs, err independently of each other.
 */
static void errors_are_independent(void **state)
{
    struct oracle_fixture f, g;
    int both_steps = 0, both_lines = 0, both_jobs = 0;

    (void)state;
    assert_int_equal(setup(&f, TRUTH, "0.7", "0.3"), 0);
    assert_int_equal(setup(&g, TRUTH, "0.7", "0.3"), 0);
    g.s.key = 2;
    for (int i = 0; i < N_TEXTS; i++) {
        char line[100], other[100];
        const double *r, *o, *j;
        size_t n;

        snprintf(line, sizeof line, "Thing %d: 100 * 2 = 200\n\n200 + 126 = 326", i);
        snprintf(other, sizeof other, "Other %d: 100 * 2 = 200\n\n200 + 126 = 326", i);
        r = rewards(&f, line, &n);
        o = rewards(&f, other, &n);
        j = rewards(&g, line, &n);
        both_steps += r[0] > 0.5 && r[1] > 0.5;
        both_lines += r[1] > 0.5 && o[1] > 0.5;
        both_jobs += r[1] > 0.5 && j[1] > 0.5;
    }
    assert_rate(both_steps, 0.49);
    assert_rate(both_lines, 0.49);
    assert_rate(both_jobs, 0.49);
    pd_arena_done(&f.arena);
    pd_arena_done(&g.arena);
}

static void equal_text_has_equal_verdicts(void **state)
{
    struct oracle_fixture f, g;
    struct pd_candidate batch[64];

    (void)state;
    assert_int_equal(setup(&f, TRUTH, "0.6", "0.4"), 0);
    assert_int_equal(setup(&g, TRUTH, "0.6", "0.4"), 0);
    for (int i = 0; i < 64; i++) {
        char line[200];

        snprintf(line, sizeof line, "Thing %d: 100 * 2 = 200\n\n200 + 126 = 32%d\n\nWait, %d.",
                 i % 16, i % 8, i % 4);
        batch[i] = candidate(&f, line);
    }
    assert_int_equal(verifier_oracle.score(&f.s, batch, 64, NULL), 0);
    for (int i = 0; i < 64; i++) {
        struct pd_candidate alone = {.steps = batch[i].steps, .n_steps = batch[i].n_steps};

        assert_int_equal(batch[i].n_values, 3);
        assert_memory_equal(batch[i].values, batch[i % 16].values, 3 * sizeof(double));
        alone.n_steps = (size_t)i % 4;
        assert_int_equal(verifier_oracle.score(&g.s, &alone, 1, NULL), 0);
        assert_int_equal(alone.n_values, i % 4);
        assert_memory_equal(alone.values, batch[i].values, alone.n_values * sizeof(double));
    }
    pd_arena_done(&f.arena);
    pd_arena_done(&g.arena);
}

/* ---- in a job ----------------------------------------------------------------------------------
 */

static int end(void **state)
{
    (void)state;
    trial_done(&t);
    return 0;
}

static void init(const struct pd_strategy *strategy)
{
    static double params[8];

    set_params(params, "0.7", "0.3");
    trial_init(&t, strategy, "");
    t.job.verifier = &verifier_oracle;
    t.job.scorer_params = params;
    t.job.scorer = "oracle:tpr=0.7,fpr=0.3";
    t.job.truth = TRUTH;
}

/* Grows one line, and a sibling at every step, to its end; scores every `stride`-th step, and the
 * end. */
static int stride;

static int grow_and_score(struct search *s, const void *params, struct pd_err *err)
{
    struct node *pair[2] = {search_root(s)};
    int rc = 0;

    (void)params;
    for (int depth = 1; rc == 0 && search_open(pair[0]); depth++) {
        rc = search_sample(s, pair[0], 2, UNTIL_STEP, pair, err);
        if (rc == 0 && (depth % stride == 0 || !search_open(pair[0])))
            rc = search_score(s, pair, 2, err);
    }
    return rc;
}

static const struct pd_score_rec *last_two(int every, const char *const *lines)
{
    static const struct pd_strategy strategy = {.name = "test", .run = grow_and_score};

    stride = every;
    init(&strategy);
    if (lines)
        trial_script(&t, lines);
    assert_int_equal(trial_run(&t), 0);
    return &t.result.trace.scores[t.result.trace.n_scores - 2];
}

static void from_an_ancestor_as_from_scratch(void **state)
{
    static const char *const script[] = {
        "100 * 2 = 200\n\n200 + 126 = 327\n\nWait, 200 + 126 = 326\n\n326 + 12 = 338\n\n326 + 338 "
        "= 664\n</think>\nThe answer is \\boxed{568}.",
        NULL};

    (void)state;
    for (int i = 0; i < 2; i++) {
        const struct pd_score_rec *r = last_two(1000, i ? script : NULL); /* at the end only */
        uint32_t id = r->node_id, n = r->n_steps;
        double fresh[64];

        assert_true(t.result.trace.n_scores == 2 && n >= 2 && n < 64);
        memcpy(fresh, r->steps, n * sizeof(double));
        for (int every = 1; every <= 3; every++) {
            trial_done(&t);
            r = last_two(every, i ? script : NULL);
            assert_true(every == 3 || t.result.trace.n_scores > 2);
            assert_int_equal(r->node_id, id);
            assert_int_equal(r->n_steps, n);
            assert_memory_equal(r->steps, fresh, n * sizeof(double));
        }
        if (i == 0)
            trial_done(&t);
    }
}

static void costs_nothing_and_replays(void **state)
{
    char digest[65];
    size_t n;

    (void)state;
    init(&trial_beam);
    assert_int_equal(trial_run(&t), 0);
    memcpy(digest, t.digest, sizeof digest);
    n = t.sink.n;
    assert_true(t.result.trace.n_scores > 0);
    assert_int_equal(t.result.usage.scored, 0);
    assert_int_equal(t.result.usage.scorer_passes, t.result.trace.n_scores);
    for (size_t i = 0; i < t.result.trace.n_scores; i++) {
        assert_int_equal(t.result.trace.scores[i].call_id, -1);
        assert_string_equal(t.result.trace.scores[i].scorer, "oracle:tpr=0.7,fpr=0.3");
    }
    for (size_t i = 0; i < t.result.trace.n_calls; i++)
        assert_string_not_equal(t.result.trace.calls[i].op, "score");
    assert_int_equal(t.scorer.n_fallible, 0);
    assert_int_equal(trial_replay(&t, PD_JOB_RECORDED), 0);
    assert_string_equal(t.digest, digest);
    assert_int_equal(trial_replay(&t, PD_JOB_VERIFY), 0);
    assert_string_equal(t.digest, digest);
    for (size_t k = 1; k < n; k += 7) {
        assert_int_equal(trial_run(&t), 0);
        assert_int_equal(trial_resume(&t, k), 0);
        assert_string_equal(t.digest, digest);
    }
    t.job.seed = 2; /* another job: other errors, even on the same text */
    assert_int_equal(trial_run(&t), 0);
    assert_string_not_equal(t.digest, digest);
}

/* ---- refusals ----------------------------------------------------------------------------------
 */

static void bad_truth_is_refused(void **state)
{
    static const struct {
        const char *truth;
        int rc;
        const char *words;
    } cases[] = {
        {NULL, PD_EINVAL, "scorer 'oracle' needs the truth about the problem"},
        {"{", PD_EFORMAT, "in the truth about the problem"},
        {"[]", PD_EFORMAT, "the truth about the problem holds no equations"},
        {"{\"answer\":1}", PD_EFORMAT, "the truth about the problem holds no equations"},
        {"{\"answer\":1,\"equations\":{\"a\":1}}", PD_EFORMAT, "holds no equations"},
        {"{\"answer\":1,\"equations\":[[1,\"+\",1,2],[1,\"+\",1]]}", PD_EFORMAT, "equation 2 of"},
        {"{\"answer\":1,\"equations\":[[1,\"+\",1,2,3]]}", PD_EFORMAT, "equation 1 of"},
        {"{\"answer\":1,\"equations\":[[1,\"^\",1,2]]}", PD_EFORMAT, "equation 1 of"},
        {"{\"answer\":1,\"equations\":[[1,\"\",1,2]]}", PD_EFORMAT, "equation 1 of"},
        {"{\"answer\":1,\"equations\":[[1,\"+\",\"1\",2]]}", PD_EFORMAT, "equation 1 of"},
        {"{\"answer\":1,\"equations\":[[1.5,\"+\",1,2.5]]}", PD_EFORMAT, "equation 1 of"},
        {"{\"answer\":1,\"equations\":[1]}", PD_EFORMAT, "equation 1 of"},
        {"{\"equations\":[[1,\"+\",1,2]]}", PD_EFORMAT, "holds no usable answer"},
        {"{\"answer\":\" \",\"equations\":[[1,\"+\",1,2]]}", PD_EFORMAT, "holds no usable answer"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct oracle_fixture f;
        int rc = setup(&f, cases[i].truth, NULL, NULL);

        if (rc != cases[i].rc || !strstr(f.err.text, cases[i].words))
            fail_msg("%s: %d, %s", cases[i].truth, rc, f.err.text);
        pd_arena_done(&f.arena);
    }
}

static void an_answer_may_be_a_text(void **state)
{
    struct oracle_fixture f;
    const double *r;
    size_t n;

    (void)state;
    assert_int_equal(setup(&f, "{\"answer\":\"1/2\",\"equations\":[[1,\"+\",1,2]]}", NULL, NULL),
                     0);
    r = rewards(&f, "\\boxed{0.5}", &n);
    assert_true(n == 1 && r[0] == 1);
    pd_arena_done(&f.arena);
}

static void rates_must_make_sense(void **state)
{
    struct oracle_fixture f;

    (void)state;
    assert_int_equal(setup(&f, TRUTH, "0.1", "0.9"), PD_EINVAL);
    assert_non_null(strstr(f.err.text, "tpr=0.1 is below fpr=0.9"));
    assert_int_equal(verifier_oracle.check(f.params, NULL), PD_EINVAL);
    assert_int_equal(
        pd_params_set(verifier_oracle.params, f.params, PD_STR("tpr"), PD_STR("1.1"), &f.err),
        PD_EINVAL);
    pd_arena_done(&f.arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(labels_of_lines),
        cmocka_unit_test(steps_are_seen_at_the_stated_rates),
        cmocka_unit_test(an_uninformed_oracle_says_one_half),
        cmocka_unit_test(errors_are_independent),
        cmocka_unit_test(equal_text_has_equal_verdicts),
        cmocka_unit_test_teardown(from_an_ancestor_as_from_scratch, end),
        cmocka_unit_test_teardown(costs_nothing_and_replays, end),
        cmocka_unit_test(bad_truth_is_refused),
        cmocka_unit_test(an_answer_may_be_a_text),
        cmocka_unit_test(rates_must_make_sense),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
