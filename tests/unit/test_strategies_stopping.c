/* budget_force, trim, adaptive_restart: when thinking, or trying, is enough. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "tests/support/toy.h"

static struct trial t;

static void start(const char *strategy, const char *options, const char *const *lines)
{
    trial_init(&t, pd_strategy_find(strategy), options);
    trial_script(&t, lines);
}

static void run(const char *strategy, const char *options, const char *const *lines)
{
    start(strategy, options, lines);
    if (trial_run(&t) < 0)
        fail_msg("%s", t.err.text);
}

static void assert_text(const char *want)
{
    if (!pd_str_eq(t.result.text, pd_str_of(want)))
        fail_msg("'%.*s', not '%s'", (int)t.result.text.len, t.result.text.ptr, want);
}

/* ---- budget_force ------------------------------------------------------------------------------
 */

static void without_force_it_is_plain_decoding(void **state)
{
    static const char *const lines[] = {"one two</think>\nanswer: 5", NULL};

    (void)state;
    run("budget_force", "num_ignore=0", lines);
    assert_text(lines[0]);
    assert_string_equal(t.result.key, "5");
    assert_int_equal(t.result.usage.generated, strlen(lines[0]) + 1); /* and the end */
    trial_done(&t);
}

static void the_end_of_thinking_is_ignored_so_many_times(void **state)
{
    /* By position: each "Wait" takes the place of four of the eight letters that it replaces. */
    static const char *const lines[] = {"a</think>0123b</think>0123c</think>0123d</think>answer: 7",
                                        NULL};
    static const char *const want[] = {
        "a</think>0123b</think>0123c</think>0123d</think>answer: 7",
        "aWaitink>0123b</think>0123c</think>0123d</think>answer: 7",
        "aWaitink>0123bWaitink>0123c</think>0123d</think>answer: 7",
        "aWaitink>0123bWaitink>0123cWaitink>0123d</think>answer: 7",
        "aWaitink>0123bWaitink>0123cWaitink>0123dWaitink>answer: 7", /* the turn ends first */
        "aWaitink>0123bWaitink>0123cWaitink>0123dWaitink>answer: 7",
    };
    char options[64];

    (void)state;
    for (int n = 0; n < 6; n++) {
        int waits = 0;

        snprintf(options, sizeof options, "num_ignore=%d", n);
        run("budget_force", options, lines);
        assert_text(want[n]);
        assert_string_equal(t.result.key, "7");
        for (size_t i = 0; i < t.result.trace.n_nodes; i++)
            waits += strcmp(t.result.trace.nodes[i].finish, "forced") == 0;
        assert_int_equal(waits, n < 4 ? n : 4);
        trial_done(&t);
    }
}

static void thinking_never_passes_its_cap(void **state)
{
    static const char *const lines[] = {"a</think>0123b</think>0123c</think>answer: 7", NULL};

    (void)state;
    for (int cap = 1; cap < 40; cap++)
        for (int ignore = 0; ignore < 4; ignore++) {
            char options[64];
            uint32_t thought = 0;

            snprintf(options, sizeof options, "max_thinking=%d num_ignore=%d", cap, ignore);
            run("budget_force", options, lines);
            /* what was drawn before the last node, which is the answer's */
            for (size_t i = 1; i + 1 < t.result.trace.n_nodes; i++)
                thought += t.result.trace.nodes[i].logprobs ? t.result.trace.nodes[i].n_tokens : 0;
            assert_true(thought <= (uint32_t)cap);
            trial_done(&t);
        }
    run("budget_force", "max_thinking=4", lines);
    assert_true(strncmp(t.result.text.ptr, "a</t\n</think>\n", 14) == 0);
    trial_done(&t);
}

/* ---- trim --------------------------------------------------------------------------------------
 */

static size_t n_asked;

/* A thought holds an answer when it has a digit; two answer alike when their last digits are one.
 */
static float verdict(struct fake *f, const int32_t *ids, size_t n, int32_t label)
{
    char text[4096], *at, last[2] = {0};
    size_t len = 0;
    bool same;

    (void)f;
    for (size_t i = 0; i < n && len < sizeof text - 1; i++)
        text[len++] = ids[i] < 256 ? (char)ids[i] : '\n';
    text[len] = 0;
    same = strstr(text, "Another thought:") != NULL;
    n_asked += label == 'Y';
    at = strstr(text, "Thought:");
    for (char *end = strstr(text, same ? "\n\nDo these" : "\n\nDoes this"); at < end; at++) {
        if (strncmp(at, "Another thought:", 16) == 0)
            last[1] = last[0], last[0] = 0;
        if (*at >= '0' && *at <= '9')
            last[0] = *at;
    }
    return (label == 'Y') == (same ? last[0] == last[1] : last[0] != 0) ? 5 : -5;
}

/* Runs trim on a line; which thought ended it, 0: none did. */
static int stopped_at(const char *options, const char *line)
{
    const char *lines[] = {line, NULL};
    const char *json;
    int at = 0;

    start("trim", options, lines);
    t.gen.logit = verdict;
    n_asked = 0;
    assert_int_equal(trial_run(&t), 0);
    for (size_t i = 0; toy_decision(&t, "thought", i, &json); i++) {
        double number;

        assert_int_equal(toy_numbers(json, "number", &number, 1), 1);
        assert_int_equal((int)number, (int)i + 1); /* each is judged once, in order */
        if (strstr(json, "\"stop\":true"))
            at = (int)number;
    }
    return at;
}

static void agreement_stops_thinking(void **state)
{
    static const struct {
        const char *line;
        int agree, at;
    } cases[] = {
        /* thoughts: begin | 1 | 1 | 1 | 2; the third agreeing one makes two comparisons */
        {"begin\n\nWait 1\n\nHmm 1\n\nWait, 1\n\nWait 2\n\nWait 3\n\n</think>answer: 9", 2, 4},
        {"begin\n\nWait 1\n\nHmm 1\n\nWait, 1\n\nWait 2\n\nWait 3\n\n</think>answer: 9", 1, 3},
        {"begin\n\nWait 1\n\nHmm 1\n\nWait, 1\n\nWait 2\n\nWait 3\n\n</think>answer: 9", 3, 0},
        /* a disagreement begins the count again */
        {"x\n\nWait 1\n\nHmm 1\n\nWait 2\n\nHmm 2\n\nWait 2\n\nHmm\n\n</think>answer: 9", 2, 6},
        /* thoughts without an answer neither agree nor disagree */
        {"x\n\nWait 1\n\nHmm so\n\nWait, 1\n\nHmm\n\nHmm 1\n\nWait\n\n</think>answer: 9", 2, 6},
        /* a step that does not reflect belongs to the thought under way */
        {"x\n\nWait 1\n\n2\n\nHmm 1\n\n2\n\nWait no 2\n\nHmm\n\n</think>answer: 9", 2, 4},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char options[64];
        int at;

        snprintf(options, sizeof options, "agree=%d", cases[i].agree);
        at = stopped_at(options, cases[i].line);
        if (at != cases[i].at)
            fail_msg("%s, agree=%d: stopped at %d, not %d", cases[i].line, cases[i].agree, at,
                     cases[i].at);
        if (!at) {
            assert_text(cases[i].line);
            assert_string_equal(t.result.key, "9");
        }
        trial_done(&t);
    }
}

static void equal_thoughts_and_too_many_stop_it_too(void **state)
{
    (void)state;
    assert_int_equal(stopped_at("", "a\n\nHmm\n\nx\n\nHmm\n\nx\n\nHmm\n\nx\n\nWait\n\nb"), 4);
    trial_done(&t);
    /* more than three thoughts and more than half of 40 tokens, and no agreement */
    assert_int_equal(stopped_at("thoughts=3 max_thinking=40 share=0.5",
                                "a\n\nHmm 1\n\nWait 2\n\nHmm 3\n\nWait 4\n\nHmm 5\n\nWait"),
                     4);
    trial_done(&t);
    assert_int_equal(stopped_at("thoughts=3 max_thinking=400 share=0.5",
                                "a\n\nHmm 1\n\nWait 2\n\nHmm 3\n\nWait 4\n\nHmm 5\n\nWait"),
                     0);
    trial_done(&t);
}

static void a_stopped_line_answers_gently_or_by_force(void **state)
{
    static const char gentle[] = "I have thought about this for long enough";
    char line[600] = "a\n\nHmm\n\nx\n\nHmm\n\nx\n\nHmm\n\nx\n\nWait\n\n";
    size_t at = strlen(line);

    (void)state;
    /* By position: behind the gentle text the line says its answer. */
    memset(line + at, '.', 80);
    snprintf(line + at + 80, 100, "answer: 4");
    assert_int_equal(stopped_at("", line), 4);
    assert_non_null(strstr(t.result.text.ptr, gentle));
    assert_string_equal(t.result.key, "4");
    trial_done(&t);
    /* and where it has none, the answer is begun for it */
    snprintf(line + at, 100, "%s", "                                no}");
    assert_int_equal(stopped_at("", line), 4);
    assert_null(strstr(t.result.text.ptr, gentle));
    assert_non_null(strstr(t.result.text.ptr, "\\boxed{"));
    trial_done(&t);
}

static void without_reflection_nothing_is_asked(void **state)
{
    (void)state;
    assert_int_equal(stopped_at("", "a\n\nb\n\nc</think>\nanswer: 3"), 0);
    assert_int_equal(n_asked, 0);
    assert_text("a\n\nb\n\nc</think>\nanswer: 3");
    trial_done(&t);
}

/* ---- adaptive_restart --------------------------------------------------------------------------
 */

/* How many lines were drawn. */
static int lines_drawn(void)
{
    int n = 0;

    for (size_t i = 1; i < t.result.trace.n_nodes; i++)
        n += t.result.trace.nodes[i].parent == 0;
    return n;
}

static void gamma_says_how_many_lines(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 20; seed++) {
        int before = 1;

        for (int tenth = 0; tenth <= 11; tenth++) { /* babble, and opinions of chance */
            char options[64];

            snprintf(options, sizeof options, "samples=8 gamma=%g", tenth / 10.0);
            toy_run(&t, "adaptive_restart", options, seed, toy_even);
            assert_true(lines_drawn() >= before);
            before = lines_drawn();
            if (tenth == 0)
                assert_int_equal(before, 1);
            if (tenth == 11)
                assert_int_equal(before, 8);
            trial_done(&t);
        }
    }
}

/* s by the line's last character: 'a' .1, 'b' about .5, 'c' .9 */
static float by_letter(struct fake *f, const int32_t *ids, size_t n, int32_t label)
{
    size_t i = fake_prompt(ids, n);

    (void)f;
    while (i < n && ids[i] != '!')
        i++;
    if (label == 'Y' || i == n)
        return 0;
    return ids[i - 1] == 'a' ? -2.2F : ids[i - 1] == 'b' ? 0 : 2.2F;
}

static void the_best_line_answers_and_ties_go_to_the_first(void **state)
{
    static const char *const lines[] = {"a! answer: 1", "b! answer: 2", "b! answer: 3",
                                        "a! answer: 4", NULL};

    (void)state;
    start("adaptive_restart", "samples=4", lines);
    t.gen.logit = by_letter;
    assert_int_equal(trial_run(&t), 0);
    assert_string_equal(t.result.key, "2");
    assert_int_equal(t.result.usage.generated, 4 * 13); /* questions are read, not drawn */
    trial_done(&t);
}

static void lines_are_drawn_ever_warmer(void **state)
{
    (void)state;
    /* at T = 0 babble has one line; the first of every seed is that one */
    for (uint64_t seed = 1; seed <= 5; seed++) {
        char text[65];

        toy_run(&t, "single", "temperature=0", 9, toy_even);
        snprintf(text, sizeof text, "%.*s", (int)t.result.text.len, t.result.text.ptr);
        trial_done(&t);
        toy_run(&t, "adaptive_restart", "samples=3 gamma=2", seed, toy_even);
        assert_true(strncmp(text, trial_line(&t, 1), strlen(text)) == 0);
        trial_done(&t);
    }
}

static void the_better_half_goes_on_at_each_checkpoint(void **state)
{
    char text[4][400];
    const char *lines[5] = {0};

    (void)state;
    for (int i = 0; i < 4; i++) { /* 'c' is best, then 'b'; all are 150 tokens and more long */
        snprintf(text[i], sizeof text[i], "%c!%140s answer: %d", "abca"[i], "", i + 1);
        lines[i] = text[i];
    }
    start("adaptive_restart", "mode=prune samples=4 keep=0.5", lines);
    t.gen.logit = by_letter;
    assert_int_equal(trial_run(&t), 0);
    assert_string_equal(t.result.key, "3");
    /* four to 64, two to 128, one to its end; a share of one is never below one line */
    assert_int_equal(t.result.usage.generated, 4 * 64 + 2 * 64 + (2 + 140 + 10 + 1 - 128));
    trial_done(&t);
    start("adaptive_restart", "mode=prune samples=4 keep=1", lines);
    t.gen.logit = by_letter;
    assert_int_equal(trial_run(&t), 0);
    assert_string_equal(t.result.key, "3");
    assert_int_equal(t.result.usage.generated, 4 * (2 + 140 + 10 + 1));
    trial_done(&t);
}

/* ---- all of them -------------------------------------------------------------------------------
 */

static void every_prefix_of_a_record_resumes(void **state)
{
    static const char *const lines[] = {"x\n\nWait 1\n\nHmm 1\n\nWait 1\n\nHmm</think>answer: 9",
                                        NULL};
    static const char *const jobs[][2] = {{"budget_force", "num_ignore=2"},
                                          {"trim", ""},
                                          {"adaptive_restart", "samples=3"},
                                          {"adaptive_restart", "mode=prune samples=3"}};

    (void)state;
    for (size_t k = 0; k < sizeof jobs / sizeof *jobs; k++) {
        char digest[65];
        size_t n;

        start(jobs[k][0], jobs[k][1], lines);
        t.gen.logit = k == 1 ? verdict : by_letter;
        assert_int_equal(trial_run(&t), 0);
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
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_force_it_is_plain_decoding),
        cmocka_unit_test(the_end_of_thinking_is_ignored_so_many_times),
        cmocka_unit_test(thinking_never_passes_its_cap),
        cmocka_unit_test(agreement_stops_thinking),
        cmocka_unit_test(equal_thoughts_and_too_many_stop_it_too),
        cmocka_unit_test(a_stopped_line_answers_gently_or_by_force),
        cmocka_unit_test(without_reflection_nothing_is_asked),
        cmocka_unit_test(gamma_says_how_many_lines),
        cmocka_unit_test(the_best_line_answers_and_ties_go_to_the_first),
        cmocka_unit_test(lines_are_drawn_ever_warmer),
        cmocka_unit_test(the_better_half_goes_on_at_each_checkpoint),
        cmocka_unit_test(every_prefix_of_a_record_resumes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
