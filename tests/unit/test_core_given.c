/* The verbs for given text, other prompts and readings: reword, prompt, read. Each test is a little
 * strategy; whatever it records must resume from any prefix and replay without a model. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/search_int.h"
#include "tests/support/trial.h"

typedef int body_fn(struct search *, const void *, struct pd_err *);

static struct trial t;
static float (*logit)(struct fake *f, const int32_t *ids, size_t n, int32_t label);

static void prepare(body_fn *body, const char *options, const char *const *lines)
{
    static struct pd_strategy strategy;

    strategy = (struct pd_strategy){.name = "test", .run = body};
    trial_init(&t, &strategy, options);
    trial_script(&t, lines);
    if (logit)
        t.gen.logit = logit;
}

/* Runs the body, and then again from every prefix of its record, from the record alone, and with
 * everything compared: the same digest. */
static void run(body_fn *body, const char *options, const char *const *lines)
{
    char digest[65];
    size_t n;

    prepare(body, options, lines);
    if (trial_run(&t) < 0)
        fail_msg("%s", t.err.text);
    memcpy(digest, t.digest, sizeof digest);
    n = t.sink.n;
    for (size_t i = 0; i <= n; i++) {
        assert_int_equal(trial_run(&t), 0);
        if (trial_resume(&t, i) < 0)
            fail_msg("from record %zu of %zu: %s", i, n, t.err.text);
        assert_string_equal(t.digest, digest);
    }
    for (enum pd_job_mode mode = PD_JOB_RECORDED; mode <= PD_JOB_VERIFY; mode++) {
        if (trial_replay(&t, mode) < 0)
            fail_msg("%s", t.err.text);
        assert_string_equal(t.digest, digest);
    }
}

static int end(void **state)
{
    (void)state;
    trial_done(&t);
    logit = NULL;
    return 0;
}

static void assert_line(struct search *s, const struct node *n, const char *want)
{
    struct pd_str line = search_line(s, n);

    if (!pd_str_eq(line, pd_str_of(want)))
        fail_msg("'%.*s', not '%s'", (int)line.len, line.ptr, want);
}

/* ---- reword ------------------------------------------------------------------------------------
 */

static int think_on(struct search *s, const void *params, struct pd_err *err)
{
    struct node *first, *x, *y;
    int rc = search_sample(s, search_root(s), 1, UNTIL_THOUGHT, &first, err);

    (void)params;
    if (rc == 0)
        rc = search_reword(s, first, PD_STR("</think>"), PD_STR("wait"), &x, err);
    if (rc == 0)
        rc = search_extend(s, &x, 1, UNTIL_END, &y, err);
    if (rc < 0)
        return rc;
    assert_line(s, x, "so wait");
    assert_line(s, y, "so waitink>answer: 3"); /* scripts go by position: "wait" took four tokens */
    assert_string_equal(first->prune_reason, "reworded");
    assert_ptr_equal(search_parent(x), search_root(s));
    /* the mark was drawn and is paid for, on the line and in the budget */
    assert_int_equal(search_tokens(x), 11);
    assert_int_equal(search_tokens(y), 11 + 13 + 1);
    assert_int_equal(s->spent, 11 + 13 + 1);
    return search_answer(s, y, err);
}

static void reword_keeps_the_tokens_before_the_ending(void **state)
{
    static const char *const lines[] = {"so </think>answer: 3", NULL};

    (void)state;
    run(think_on, "", lines);
    assert_string_equal(t.result.key, "3");
    assert_int_equal(t.result.usage.discarded, 0);
}

/* A token that reaches into the ending cannot stay: its text is spelled anew. */
static int split_a_token(struct search *s, const void *params, struct pd_err *err)
{
    struct node *first, *x;
    int rc = search_sample(s, search_root(s), 1, UNTIL_END, &first, err);

    (void)params;
    if (rc == 0)
        rc = search_force(s, search_root(s), PD_STR("abc"), &first, err);
    if (rc == 0)
        rc = search_extend(s, &first, 1, UNTIL_STEP, &first, err);
    if (rc == 0)
        rc = search_reword(s, first, PD_STR("\n"), PD_STR("!"), &x, err);
    if (rc < 0)
        return rc;
    assert_line(s, x, "abcd.\n!"); /* ".\n\n" was one token */
    assert_int_equal(x->n_tokens, 4);
    assert_int_equal(x->tokens[0], 'd');
    assert_int_equal(x->tokens[1], '.');
    return search_answer(s, NULL, err);
}

static void a_token_that_reaches_into_the_ending_is_spelled_anew(void **state)
{
    static const char *const lines[] = {"x", "123d\1rest", NULL};

    (void)state;
    run(split_a_token, "", lines);
}

static int wrong_ending(struct search *s, const void *params, struct pd_err *err)
{
    struct node *x;
    int rc = search_sample(s, search_root(s), 1, UNTIL_END, &x, err);

    (void)params;
    return rc < 0 ? rc : search_reword(s, x, PD_STR("</think>"), PD_STR(""), &x, err);
}

static void reword_wants_the_ending(void **state)
{
    static const char *const lines[] = {"so", NULL};

    (void)state;
    prepare(wrong_ending, "", lines);
    assert_int_equal(trial_run(&t), PD_EINVAL);
    assert_non_null(strstr(t.err.text, "</think>"));
}

/* ---- prompt ------------------------------------------------------------------------------------
 */

static int ask_others(struct search *s, const void *params, struct pd_err *err)
{
    struct node *lane[2], *other, *apart, *a, *b;
    int rc = search_sample(s, search_root(s), 1, UNTIL_END, lane, err);

    (void)params;
    if (rc == 0)
        rc = search_prompt(s, PD_STR("Again?"), false, &other, err);
    if (rc == 0)
        rc = search_prompt(s, PD_STR("What do you make of it?"), true, &apart, err);
    if (rc == 0)
        rc = search_extend(s, &other, 1, UNTIL_END, &a, err);
    if (rc == 0)
        rc = search_extend(s, &apart, 1, UNTIL_END, &b, err);
    /* the lanes of the job's question are what they would be without all that */
    if (rc == 0)
        rc = search_sample(s, search_root(s), 1, UNTIL_END, lane + 1, err);
    if (rc < 0)
        return rc;
    assert_int_equal(lane[1]->key, search_subkey(search_root(s)->key, 0, 1));
    assert_line(s, lane[1], "answer: 2");
    assert_line(s, other, "");
    assert_line(s, a, "answer: 4");
    assert_string_equal(search_key(a), "4");
    assert_string_equal(search_key(b), ""); /* it answers something else */
    assert_int_equal(search_steps(a), 1);
    assert_true(other->key != apart->key && a->key != b->key);
    return 0;
}

static void other_prompts_stand_beside_the_tree(void **state)
{
    static const char *const lines[] = {"answer: 1", "answer: 2", "answer: 4", NULL};

    (void)state;
    run(ask_others, "", lines);
    /* the ending rule: three voters, the first wins the tie; what is apart has no say */
    assert_string_equal(t.result.key, "1");
    assert_int_equal(t.result.agree, 1);
    assert_int_equal(t.result.of, 3);
    assert_string_equal(trial_node(&t, 2)->finish, "prompt");
    assert_true(pd_str_eq(trial_node(&t, 2)->text, PD_STR("Again?")));
}

/* The text of a prompt's tokens, the fake generator's, without the mark that ends it. */
static const char *prompt_of(uint32_t node)
{
    static char text[256];
    const struct pd_node_rec *n = trial_node(&t, node);

    assert_true(n->n_tokens < sizeof text);
    for (uint32_t i = 0; i + 1 < n->n_tokens; i++)
        text[i] = (char)n->tokens[i];
    text[n->n_tokens - 1] = '\0';
    return text;
}

static void another_question_is_asked_in_the_same_conversation(void **state)
{
    static const char *const lines[] = {"answer: 1", "answer: 2", "answer: 4", NULL};
    static const struct pd_message m[] = {{.role = "system", .content = PD_STR("S.")},
                                          {.role = "user", .content = PD_STR("One?")},
                                          {.role = "assistant", .content = PD_STR("1.")},
                                          {.role = "user", .content = PD_STR("Two?")},
                                          {.role = "assistant", .content = PD_STR("So")}};
    static const struct pd_chat chat = {.messages = m, .n_messages = 5, .continue_last = true};
    uint64_t key;

    (void)state;
    run(ask_others, "", lines);
    key = trial_node(&t, 1)->seed;
    trial_done(&t);
    prepare(ask_others, "", lines);
    t.job.chat = &chat; /* the lanes are those of the question, whatever came before it */
    assert_int_equal(trial_run(&t), 0);
    assert_true(trial_node(&t, 1)->seed == key);
    assert_string_equal(prompt_of(0), "S.Q:One?A:1.Q:Two?A:So");
    assert_string_equal(prompt_of(2), "S.Q:One?A:1.Q:Again?");
    assert_int_equal(trial_replay(&t, PD_JOB_VERIFY), 0);
    t.job.chat = NULL;
    assert_int_equal(trial_replay(&t, PD_JOB_VERIFY), PD_EDIFFER);
    assert_non_null(strstr(t.err.text, "prompt"));
}

static int only_apart(struct search *s, const void *params, struct pd_err *err)
{
    struct node *apart;
    int rc = search_prompt(s, PD_STR("What do you make of it?"), true, &apart, err);

    (void)params;
    return rc < 0 ? rc : search_extend(s, &apart, 1, UNTIL_STEP, &apart, err);
}

static void what_is_apart_is_not_wrapped_up(void **state)
{
    static const char *const lines[] = {"well\n\nyes", NULL};

    (void)state;
    prepare(only_apart, "", lines);
    t.job.budget.wrap_up = "\nThe answer is ";
    assert_int_equal(trial_run(&t), 0);
    assert_int_equal(t.result.of, 1); /* the wrapped-up line, which begins at the question */
    assert_int_equal(trial_node(&t, 3)->parent, 0);
}

static int too_long(struct search *s, const void *params, struct pd_err *err)
{
    struct node *n, *x;
    int rc = search_sample(s, search_root(s), 1, UNTIL_END, &x, err);

    (void)params;
    if (rc == 0)
        rc = search_prompt(s, PD_STR("a question of a good many more words than that"), false, &n,
                           err);
    if (rc < 0)
        return rc;
    assert_true(search_failed(n));
    assert_string_equal(n->prune_reason, "too_long");
    return search_answer(s, x, err);
}

static void a_prompt_that_does_not_fit_leads_nowhere(void **state)
{
    static const char *const lines[] = {"answer: 1", NULL};
    char digest[65];

    (void)state;
    prepare(too_long, "", lines);
    t.gen.n_ctx = 40;
    assert_int_equal(trial_run(&t), 0);
    memcpy(digest, t.digest, sizeof digest);
    for (enum pd_job_mode mode = PD_JOB_RECORDED; mode <= PD_JOB_VERIFY; mode++) {
        assert_int_equal(trial_replay(&t, mode), 0);
        assert_string_equal(t.digest, digest);
    }
}

/* ---- read --------------------------------------------------------------------------------------
 */

static const char *const yes_no[] = {"Y", "N"};

/* The logit of Y is the number of tokens that it stands behind, of N 0. */
static float by_length(struct fake *f, const int32_t *ids, size_t n, int32_t label)
{
    (void)f;
    return label == 'Y' ? (float)(n - fake_prompt(ids, n)) / 8 : 0;
}

static int read_lines(struct search *s, const void *params, struct pd_err *err)
{
    struct node *lane[2], *step[2];
    double p[4], share;
    int rc = search_sample(s, search_root(s), 2, UNTIL_END, lane, err);

    (void)params;
    if (rc == 0)
        rc = search_read(s, lane, 2, PD_STR("ok?"), yes_no, 2, p, err);
    if (rc < 0)
        return rc;
    /* 9 and 10 characters, without the end token, and the question */
    for (int i = 0; i < 2; i++) {
        share = 1 / (1 + exp(-(9.0 + i + 3) / 8));
        assert_true(fabs(p[2 * i] - share) < 1e-9 && fabs(p[2 * i + 1] - (1 - share)) < 1e-9);
    }
    /* lines go on as if nothing had been asked */
    rc = search_sample(s, search_root(s), 2, UNTIL_STEP, step, err);
    if (rc == 0)
        rc = search_read(s, step, 1, PD_STR("?"), yes_no, 2, p, err);
    if (rc == 0)
        rc = search_extend(s, step, 2, UNTIL_END, step, err);
    if (rc < 0)
        return rc;
    assert_line(s, step[0], "a\n\nb\n\nanswer: 7");
    assert_int_equal(step[0]->key, search_subkey(search_root(s)->key, 0, 2)); /* still child 0 */
    return search_answer(s, lane[p[0] > 0.5 ? 1 : 0], err);
}

static void readings_are_shares_and_leave_no_trace_on_the_lines(void **state)
{
    static const char *const lines[] = {"answer: 1", "answer: 22", "a\n\nb\n\nanswer: 7", NULL};

    (void)state;
    logit = by_length;
    run(read_lines, "", lines);
    assert_string_equal(t.result.key, "22");
    assert_int_equal(t.result.of, 4);
    for (size_t i = 0; i < t.result.trace.n_calls; i++)
        assert_true(strcmp(t.result.trace.calls[i].op, "read") != 0 ||
                    t.result.trace.calls[i].generated_tokens == 0);
}

static int read_strange(struct search *s, const void *params, struct pd_err *err)
{
    static const char *const strange[] = {"Yes"};
    struct node *root = search_root(s);
    double p;

    (void)params;
    return search_read(s, &root, 1, PD_STR("ok?"), strange, 1, &p, err);
}

static void a_label_must_be_a_token(void **state)
{
    static const char *const lines[] = {"", NULL};

    (void)state;
    prepare(read_strange, "", lines);
    assert_int_equal(trial_run(&t), PD_EINVAL);
    assert_non_null(strstr(t.err.text, "'Yes'"));
}

/* What the clock cut off is not read again by a replay. */
static int read_until_late(struct search *s, const void *params, struct pd_err *err)
{
    struct node *x;
    double p[2];
    int rc = search_sample(s, search_root(s), 1, UNTIL_END, &x, err);

    (void)params;
    if (rc == 0)
        rc = search_read(s, &x, 1, PD_STR("a question that takes more than one step to be read"),
                         yes_no, 2, p, err);
    return rc < 0 && rc != PD_EBUDGET ? rc : search_end(s, x, rc, err);
}

static void a_reading_that_the_clock_cuts_off_replays(void **state)
{
    static const char *const lines[] = {"answer: 1", NULL};
    char digest[65];

    (void)state;
    prepare(read_until_late, "", lines);
    assert_int_equal(trial_run(&t), 0);
    t.gen.stall_at = t.gen.n_steps - 3; /* the last steps are the reading's */
    t.gen.stall_ns = 200000000;
    t.job.budget.seconds = 0.1;
    assert_int_equal(trial_run(&t), 0);
    assert_string_equal(t.result.stopped_by, "seconds");
    assert_string_equal(t.result.key, "1");
    memcpy(digest, t.digest, sizeof digest);
    t.gen.stall_at = -1;
    for (enum pd_job_mode mode = PD_JOB_RECORDED; mode <= PD_JOB_VERIFY; mode++) {
        assert_int_equal(trial_replay(&t, mode), 0);
        assert_string_equal(t.digest, digest);
    }
}

static int warm_and_cold(struct search *s, const void *params, struct pd_err *err)
{
    struct node *warm, *cold, *again;
    double before = search_temperature(s);
    int rc;

    (void)params;
    rc = search_sample(s, search_root(s), 1, UNTIL_END, &warm, err);
    search_set_temperature(s, 0);
    if (rc == 0)
        rc = search_sample(s, search_root(s), 1, UNTIL_END, &cold, err);
    if (rc == 0)
        rc = search_sample(s, search_root(s), 1, UNTIL_END, &again, err);
    if (rc < 0)
        return rc;
    assert_true(pd_str_eq(search_text(cold), search_text(again)));
    assert_false(pd_str_eq(search_text(cold), search_text(warm)));
    search_set_temperature(s, before);
    return search_answer(s, cold, err);
}

static void the_temperature_of_what_is_sampled_can_be_set(void **state)
{
    static struct pd_strategy strategy = {.name = "test", .run = warm_and_cold};

    (void)state;
    trial_init(&t, &strategy, ""); /* babble: at T = 0 there is one line */
    assert_int_equal(trial_run(&t), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(reword_keeps_the_tokens_before_the_ending, end),
        cmocka_unit_test_teardown(a_token_that_reaches_into_the_ending_is_spelled_anew, end),
        cmocka_unit_test_teardown(reword_wants_the_ending, end),
        cmocka_unit_test_teardown(other_prompts_stand_beside_the_tree, end),
        cmocka_unit_test_teardown(another_question_is_asked_in_the_same_conversation, end),
        cmocka_unit_test_teardown(what_is_apart_is_not_wrapped_up, end),
        cmocka_unit_test_teardown(a_prompt_that_does_not_fit_leads_nowhere, end),
        cmocka_unit_test_teardown(readings_are_shares_and_leave_no_trace_on_the_lines, end),
        cmocka_unit_test_teardown(a_label_must_be_a_token, end),
        cmocka_unit_test_teardown(a_reading_that_the_clock_cuts_off_replays, end),
        cmocka_unit_test_teardown(the_temperature_of_what_is_sampled_can_be_set, end),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
