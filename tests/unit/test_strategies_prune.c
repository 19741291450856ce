/* subtask_prune (strategies.md §10.5): what lanes see when lists of subtasks have closed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "tests/support/trial.h"

static struct trial t;

/* A tree with lists in lists, brackets and quotes in strings, a list without items. */
static const char tree[] =
    "{\"thought\":\"a [b\\\"]\",\"subtasks\":["
    "{\"thought\":\"c\",\"subtasks\":[{\"thought\":\"d\",\"conclusion\":\"e\"},"
    "{\"thought\":\"f\",\"conclusion\":\"g]\"}],\"conclusion\":\"h\"},"
    "{\"thought\":\"i\",\"subtasks\":[],\"conclusion\":\"j\"},"
    "{\"thought\":\"k\",\"subtasks\":[{\"thought\":\"l\",\"conclusion\":\"m\"}],"
    "\"conclusion\":\"n\"}],\"conclusion\":\" 42 \"}";

#define LEN (sizeof tree - 1)

struct world {
    size_t keep; /* lists, of those that closed last */
    char seen[LEN + 1][LEN + 1];
};

/* What is left of the first k bytes. Lists by hand: the places of their brackets. */
static void see(struct world *w, size_t k)
{
    bool gone[LEN] = {false}, quoted = false;
    size_t open[8], depth = 0, n = 0, begin[8], end[8];
    char *out = w->seen[k];

    for (size_t i = 0; i < k; i++) {
        if (quoted && tree[i] == '\\')
            i++;
        else if (tree[i] == '"')
            quoted = !quoted;
        else if (!quoted && tree[i] == '[')
            open[depth++] = i;
        else if (!quoted && tree[i] == ']') {
            begin[n] = open[--depth] + 1;
            end[n++] = i;
        }
    }
    for (size_t l = 0; l + w->keep < n; l++)
        memset(gone + begin[l], true, end[l] - begin[l]);
    for (size_t i = 0; i < k; i++)
        if (!gone[i])
            *out++ = tree[i];
    *out = '\0';
}

/* The next byte behind exactly what is to be seen; anything else ends the line at once. */
static int32_t next(struct fake *f, const struct fake_place *at, float *out_logprob)
{
    const struct world *w = f->world;
    size_t first = fake_prompt(at->ids, at->n), n = at->n - first;

    *out_logprob = -1;
    for (size_t k = LEN + 1; k-- > 0;) {
        size_t i = 0;

        if (strlen(w->seen[k]) != n)
            continue;
        while (i < n && at->ids[first + i] == (unsigned char)w->seen[k][i])
            i++;
        if (i == n)
            return k == LEN ? FAKE_EOS : (unsigned char)tree[k];
    }
    return FAKE_EOS;
}

static struct world *world(size_t keep)
{
    struct world *w = calloc(1, sizeof *w);

    w->keep = keep;
    for (size_t k = 0; k <= LEN; k++)
        see(w, k);
    return w;
}

static void start(const char *strategy, const char *options, struct world *w)
{
    trial_init(&t, pd_strategy_find(strategy), options);
    t.job.form = pd_strategy_find("subtask_prune")->form;
    t.gen.next = next;
    t.gen.world = w;
}

/* Whatever is kept, the whole tree is written: each token was drawn behind what should be seen, and
 * the trace has all of it. */
static void lanes_see_what_is_kept(void **state)
{
    (void)state;
    for (size_t keep = 0; keep <= 5; keep++) {
        char options[64];
        struct world *w = world(keep);

        snprintf(options, sizeof options, "prune_buffer=%zu", keep);
        start("subtask_prune", options, w);
        if (trial_run(&t) < 0)
            fail_msg("%s", t.err.text);
        assert_true(pd_str_eq(t.result.text, pd_str_of(tree)));
        assert_string_equal(t.result.key, "42");
        assert_int_equal(t.result.usage.generated, LEN + 1);
        trial_done(&t);
        free(w);
    }
}

/* A buffer for all lists: the tokens and their random numbers are those of a plain line. */
static void an_endless_buffer_prunes_nothing(void **state)
{
    struct world *w = world(100);
    uint64_t seed;

    (void)state;
    start("single", "", w);
    assert_int_equal(trial_run(&t), 0);
    seed = trial_node(&t, 1)->seed;
    assert_true(pd_str_eq(t.result.text, pd_str_of(tree)));
    trial_done(&t);
    start("subtask_prune", "prune_buffer=1000000", w);
    assert_int_equal(trial_run(&t), 0);
    assert_true(pd_str_eq(t.result.text, pd_str_of(tree)));
    for (uint32_t id = 1; id < t.result.trace.n_nodes; id++)
        assert_true(trial_node(&t, id)->seed == seed);
    for (size_t i = 0; i < t.result.trace.n_events; i++)
        assert_string_not_equal(t.result.trace.events[i].type, "prune");
    trial_done(&t);
    free(w);
}

/* Positions come again behind what was forgotten, and must not bring their random numbers. */
static void keys_change_where_positions_come_again(void **state)
{
    struct world *w = world(0);
    uint64_t last = 0;
    int changes = 0;

    (void)state;
    start("subtask_prune", "prune_buffer=0", w);
    assert_int_equal(trial_run(&t), 0);
    for (uint32_t id = 1; id < t.result.trace.n_nodes; id++) {
        changes += last && trial_node(&t, id)->seed != last;
        last = trial_node(&t, id)->seed;
    }
    assert_int_equal(changes, 4); /* lists */
    trial_done(&t);
    free(w);
}

/* From any prefix of the record the rest is the same; replayed with and without a model. */
static void it_resumes_and_replays(void **state)
{
    (void)state;
    for (size_t keep = 0; keep <= 2; keep++) {
        char options[64], digest[65];
        struct world *w = world(keep);
        size_t n;

        snprintf(options, sizeof options, "prune_buffer=%zu", keep);
        start("subtask_prune", options, w);
        assert_int_equal(trial_run(&t), 0);
        n = t.sink.n;
        memcpy(digest, t.digest, sizeof digest);
        for (size_t i = 0; i <= n; i++) {
            if (trial_resume(&t, i) < 0)
                fail_msg("after %zu records: %s", i, t.err.text);
            assert_string_equal(t.digest, digest);
        }
        assert_int_equal(trial_replay(&t, PD_JOB_VERIFY), 0);
        assert_string_equal(t.digest, digest);
        assert_int_equal(trial_replay(&t, PD_JOB_RECORDED), 0);
        assert_string_equal(t.digest, digest);
        trial_done(&t);
        free(w);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lanes_see_what_is_kept),
        cmocka_unit_test(an_endless_buffer_prunes_nothing),
        cmocka_unit_test(keys_change_where_positions_come_again),
        cmocka_unit_test(it_resumes_and_replays),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
