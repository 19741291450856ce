/* Votes: groups by key, ties to the first vote, the best line of the winning group. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "core/search_int.h"
#include "tests/support/trial.h"

struct vote {
    const char *key;
    double weight;
    bool unfinished;
};

static const struct vote *votes; /* what the strategy below casts; ends with key NULL */
static int64_t winner;           /* index of the vote that won, or -1 */

static int cast(struct search *s, const void *params, struct pd_err *err)
{
    struct tally *tally = tally_new(s);
    struct node voters[8] = {0}, *w;

    (void)params;
    (void)err;
    for (uint32_t i = 0; votes[i].key; i++) {
        voters[i].id = i;
        voters[i].answer_key = votes[i].key;
        voters[i].status = votes[i].unfinished ? NODE_TRUNCATED : NODE_FINISHED;
        tally_vote(tally, &voters[i], votes[i].weight);
    }
    w = tally_winner(tally);
    winner = w ? (int64_t)w->id : -1;
    return 0;
}

static const char *groups; /* the decision as it was recorded */

static int64_t elect(const struct vote *v)
{
    static const struct pd_strategy strategy = {.name = "test", .run = cast};
    static char json[512];
    struct trial t;

    trial_init(&t, &strategy, "");
    votes = v;
    assert_int_equal(trial_run(&t), 0);
    assert_true(t.result.trace.n_events >= 1);
    assert_string_equal(t.result.trace.events[0].type, "decision");
    snprintf(json, sizeof json, "%s", t.result.trace.events[0].data);
    groups = json;
    trial_done(&t);
    return winner;
}

static void the_heaviest_answer_wins(void **state)
{
    static const struct vote v[] = {{"1", 1, 0}, {"2", 1, 0}, {"2", 1, 0}, {0}};
    static const struct vote w[] = {{"1", 1, 0}, {"2", 0.75, 0}, {"2", 0.5, 0}, {0}};
    static const struct vote x[] = {{"1", 1.5, 0}, {"2", 0.75, 0}, {"2", 0.5, 0}, {0}};

    (void)state;
    assert_int_equal(elect(v), 1);
    assert_int_equal(elect(w), 1);
    assert_string_equal(groups, "{\"kind\":\"vote\",\"groups\":["
                                "{\"answer\":\"1\",\"weight\":1,\"node\":0},"
                                "{\"answer\":\"2\",\"weight\":1.25,\"node\":1}]}");
    assert_int_equal(elect(x), 0);
}

static void a_tie_goes_to_the_answer_first_voted_for(void **state)
{
    static const struct vote v[] = {{"2", 1, 0}, {"1", 1, 0}, {"1", 1, 0}, {"2", 1, 0}, {0}};
    static const struct vote zero[] = {{"2", 0, 0}, {"1", 0, 0}, {"1", 0, 0}, {0}};

    (void)state;
    assert_int_equal(elect(v), 0);
    assert_int_equal(elect(zero), 0);
}

static void the_groups_heaviest_line_speaks_for_it(void **state)
{
    static const struct vote v[] = {
        {"1", 0.25, 0}, {"2", 0.5, 0}, {"1", 0.5, 0}, {"1", 0.5, 0}, {0}};
    static const struct vote negative[] = {{"1", -2, 0}, {"1", -1, 0}, {0}};

    (void)state;
    assert_int_equal(elect(v), 2); /* of equal ones the first */
    assert_int_equal(elect(negative), 1);
}

static void lines_without_an_answer_have_no_vote(void **state)
{
    static const struct vote v[] = {{"", 9, 0}, {"1", 1, 0}, {"", 9, true}, {0}};
    static const struct vote none[] = {{"", 9, true}, {"", 9, 0}, {0}};

    (void)state;
    assert_int_equal(elect(v), 1);
    assert_int_equal(elect(none), -1);
    assert_string_equal(groups, "{\"kind\":\"vote\",\"groups\":[]}");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_heaviest_answer_wins),
        cmocka_unit_test(a_tie_goes_to_the_answer_first_voted_for),
        cmocka_unit_test(the_groups_heaviest_line_speaks_for_it),
        cmocka_unit_test(lines_without_an_answer_have_no_vote),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
