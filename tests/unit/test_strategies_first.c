/* first_finish and short_m_at_k on scripted lanes, against a model of who wins:
 * a token is a byte, so lengths are known beforehand. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "tests/support/toy.h"

#define N   6
#define CAP 40 /* max_tokens */

static struct trial t;

static void start(const char *strategy, const char *options, const char *const *lines)
{
    char all[160];

    snprintf(all, sizeof all, "%s max_tokens=%d", options, CAP);
    trial_init(&t, pd_strategy_find(strategy), all);
    if (lines)
        trial_script(&t, lines);
}

static void run(const char *strategy, const char *options, const char *const *lines)
{
    start(strategy, options, lines);
    if (trial_run(&t) < 0)
        fail_msg("%s %s: %s", strategy, options, t.err.text);
}

/* What ends with the answer `key` (NULL: none) at `node`, and prints which it was if not. */
static void assert_won(const char *what, int64_t node, const char *key)
{
    const char *got = t.result.key ? t.result.key : "none";

    if (t.result.answer_node != node || strcmp(got, key ? key : "none") != 0)
        fail_msg("%s: node %lld, %s; not %lld, %s", what, (long long)t.result.answer_node, got,
                 (long long)node, key ? key : "none");
    trial_done(&t);
}

/* ---- random lanes ------------------------------------------------------------------------------
 */

static struct lane {
    char text[64];
    int thought, len; /* tokens up to the event; whole line with its end token */
    bool finishes, has_answer;
    char answer;
} lanes[N];
static const char *lines[N + 1];

static uint64_t rnd(uint64_t *x)
{
    *x = *x * 6364136223846793005u + 1442695040888963407u;
    return *x >> 33;
}

/* "…</think>… answer: d" of few lengths, so that many tie; some think without end, some have no
 * answer, some never stop. */
static void make_lanes(uint64_t seed, bool all_finish)
{
    uint64_t x = seed;

    for (int i = 0; i < N; i++) {
        struct lane *l = &lanes[i];
        int kind = (int)(rnd(&x) % 8), think = (int)(rnd(&x) % 4), more = (int)(rnd(&x) % 3);

        l->answer = (char)('1' + rnd(&x) % 3);
        l->has_answer = all_finish || kind > 1;
        l->finishes = all_finish || kind != 7;
        snprintf(l->text, sizeof l->text, "%.*s%s%.*s%s%c%s", think, "hmmmmm",
                 kind == 6 ? "" : "</think>", more, "so so", l->has_answer ? "answer:" : "none",
                 l->has_answer ? l->answer : '.',
                 l->finishes ? "" : "0000000000000000000000000000");
        l->len = (int)strlen(l->text) + 1;
        l->thought = kind == 6 ? l->len : think + (int)strlen("</think>");
        if (l->len > CAP)
            l->finishes = false;
        lines[i] = l->text;
    }
    lines[N] = NULL;
}

/* Lanes by length (of what), shortest or longest first, ties to the lowest. */
static void rank(int order[N], bool by_thought, bool longest)
{
    for (int i = 0; i < N; i++) {
        int k = i, mine = by_thought ? lanes[i].thought : lanes[i].len;

        for (; k > 0; k--) {
            const struct lane *other = &lanes[order[k - 1]];
            int its = by_thought ? other->thought : other->len;

            if (longest ? its >= mine : its <= mine)
                break;
            order[k] = order[k - 1];
        }
        order[k] = i;
    }
}

/* The majority of n voters; of equals the one first in the list. -1: nobody has an answer. */
static int majority(const int *voter, int n)
{
    int best = -1, most = 0;

    for (int i = 0; i < n; i++) {
        int count = 0;

        for (int k = 0; k < n; k++)
            count += lanes[voter[k]].has_answer && lanes[voter[k]].answer == lanes[voter[i]].answer;
        if (lanes[voter[i]].has_answer && count > most) {
            best = voter[i];
            most = count;
        }
    }
    return best;
}

static void sort_ids(int *ids, int n)
{
    for (int i = 1; i < n; i++)
        for (int k = i; k > 0 && ids[k] < ids[k - 1]; k--) {
            int id = ids[k];

            ids[k] = ids[k - 1];
            ids[k - 1] = id;
        }
}

/* The lane that FFS-k@N or LFS-k@N answers with. */
static int who_finishes_first(int k, bool longest, bool skip_empty)
{
    int order[N], won[N], n = 0;

    rank(order, false, longest);
    for (int i = 0; i < N && n < k; i++)
        if (lanes[order[i]].finishes && (lanes[order[i]].has_answer || !skip_empty))
            won[n++] = order[i];
    sort_ids(won, n);
    return majority(won, n);
}

/* The answer's line is the whole of this lane; where a race was resumed, its node has another id.
 */
static void assert_said(const char *what, int lane)
{
    if (t.result.answer_node < 0)
        fail_msg("%s: none, not lane %d", what, lane);
    if (strcmp(trial_line(&t, (uint32_t)t.result.answer_node), lanes[lane].text) != 0 ||
        t.result.key[0] != lanes[lane].answer)
        fail_msg("%s: '%s', not lane %d: '%s'", what,
                 trial_line(&t, (uint32_t)t.result.answer_node), lane, lanes[lane].text);
    trial_done(&t);
}

/* ---- first_finish ------------------------------------------------------------------------------
 */

static void the_first_k_vote(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 150; seed++)
        for (int k = 1; k <= N; k++)
            for (int how = 0; how < 4; how++) {
                char options[80], what[128];
                int want;

                make_lanes(seed, false);
                want = who_finishes_first(k, how & 1, how & 2);
                snprintf(options, sizeof options, "samples=%d k=%d order=%s skip_empty=%d", N, k,
                         how & 1 ? "longest" : "shortest", (how & 2) != 0);
                snprintf(what, sizeof what, "seed %d %s", (int)seed, options);
                run("first_finish", options, lines);
                if (want >= 0)
                    assert_said(what, want);
                else if (how != 1) /* else the ending rule finds another line that ended */
                    assert_won(what, -1, NULL);
                else
                    trial_done(&t);
            }
}

static void first_of_all_is_a_majority(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 100; seed++)
        for (int longest = 0; longest < 2; longest++) {
            char options[80], key[8] = "";
            int64_t node;

            make_lanes(seed, seed % 2);
            run("self_consistency", "samples=6", lines);
            node = t.result.answer_node;
            snprintf(key, sizeof key, "%s", t.result.key ? t.result.key : "");
            trial_done(&t);
            snprintf(options, sizeof options, "samples=6 k=6 order=%s skip_empty=%d",
                     longest ? "longest" : "shortest", (int)(seed / 2 % 2));
            run("first_finish", options, lines);
            assert_won(options, node, key[0] ? key : NULL);
        }
}

static void tokens_are_those_of_the_lockstep(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 60; seed++) {
        int order[N], winner;
        uint64_t sum = 0;

        make_lanes(seed, true);
        rank(order, false, false);
        winner = order[0];
        for (int i = 0; i < N; i++)
            sum += (uint64_t)(lanes[i].len < lanes[winner].len ? lanes[i].len : lanes[winner].len);
        run("first_finish", "samples=6", lines);
        assert_int_equal(t.result.answer_node, winner + 1);
        assert_int_equal(t.result.usage.generated, sum);
        assert_int_equal(t.result.usage.sequential, lanes[winner].len);
        assert_int_equal(toy_generated(&t), sum);
        for (uint32_t i = 1; i <= N; i++)
            if ((int)i != winner + 1) {
                assert_string_equal(trial_node(&t, i)->status, "pruned");
                assert_string_equal(trial_node(&t, i)->prune_reason, "race");
            }
        trial_done(&t);
    }
}

/* Of the lanes 1 to n of a run, keeps their tokens. */
static uint32_t tokens[16][64], n_tokens[16];

static void cut_lanes_say_what_whole_ones_say(void **state)
{
    static const char *const races[][2] = {{"first_finish", "samples=12 k=2"},
                                           {"first_finish", "samples=12 skip_empty=0"},
                                           {"short_m_at_k", "samples=12 m=3 event=eos"}};

    (void)state;
    for (uint64_t seed = 0; seed < 10; seed++)
        for (size_t r = 0; r < 3; r++) {
            size_t n_cut = 0;

            trial_init(&t, pd_strategy_find("self_consistency"), "samples=12");
            t.job.seed = seed;
            assert_int_equal(trial_run(&t), 0);
            for (uint32_t i = 0; i < 12; i++) {
                const struct pd_node_rec *n = trial_node(&t, i + 1);

                assert_true(n->n_tokens <= 96);
                n_tokens[i] = n->n_tokens;
                memcpy(tokens[i], n->tokens, (n->n_tokens < 64 ? n->n_tokens : 64) * sizeof(int));
            }
            trial_done(&t);
            trial_init(&t, pd_strategy_find(races[r][0]), races[r][1]);
            t.job.seed = seed;
            assert_int_equal(trial_run(&t), 0);
            for (uint32_t i = 0; i < 12; i++) {
                const struct pd_node_rec *n = trial_node(&t, i + 1);

                assert_true(n->n_tokens <= n_tokens[i]);
                n_cut += n->n_tokens < n_tokens[i];
                assert_memory_equal(tokens[i], n->tokens,
                                    (n->n_tokens < 64 ? n->n_tokens : 64) * sizeof(int));
            }
            assert_true(n_cut > 0);
            trial_done(&t);
        }
}

static void an_empty_answer_does_not_win_unless_it_may(void **state)
{
    /* lanes 1 and 2 end together; lane 3 later */
    static const char *const together[] = {"no answer", "answer: 2", "longer answer: 3", NULL};
    static const char *const later[] = {"none", "longer answer: 2", "answer: 3", NULL};
    static const char *const none[] = {"none", "never", "nothing at all", NULL};

    (void)state;
    run("first_finish", "samples=3", together);
    assert_won("together", 2, "2");
    run("first_finish", "samples=3 skip_empty=0", together);
    assert_won("together, empty allowed", -1, NULL);
    run("first_finish", "samples=3", later);
    assert_int_equal(t.result.usage.sequential, 10);
    assert_won("later", 5, "3"); /* node 3 was cut and raced on: nodes 4 (lane 2) and 5 (lane 3) */
    run("first_finish", "samples=3", none);
    assert_string_equal(t.result.stopped_by, "no_candidates");
    assert_won("none", -1, NULL);
}

static void a_cut_lane_has_not_finished(void **state)
{
    static const char *const lanes_[] = {"answer: 1 and on and on and on and on and on and on",
                                         "a long way to the answer: 2", NULL};

    (void)state;
    run("first_finish", "samples=2", lanes_);
    assert_won("cut", 2, "2");
    run("first_finish", "samples=1", lanes_);
    assert_won("all cut", -1, NULL);
}

/* ---- short_m_at_k ------------------------------------------------------------------------------
 */

struct shape { /* what is compared of a run, lane for lane */
    char lines[2 * N + 2][160];
    size_t n;
    int64_t node;
};

static void shape_of(struct shape *x)
{
    memset(x, 0, sizeof *x);
    x->n = t.result.trace.n_nodes;
    x->node = t.result.answer_node;
    assert_true(x->n <= 2 * N + 2);
    for (uint32_t i = 0; i < x->n; i++) {
        const struct pd_node_rec *n = trial_node(&t, i);

        snprintf(x->lines[i], sizeof x->lines[i], "%u %s %s %s %s %u '%.*s'", (unsigned)n->parent,
                 n->status, n->finish, n->stop ? n->stop : "-",
                 n->prune_reason ? n->prune_reason : "-", (unsigned)n->n_tokens, (int)n->text.len,
                 n->text.ptr);
    }
    trial_done(&t);
}

static void short_1_is_first_finish_lane_for_lane(void **state)
{
    static const char *const events[] = {"event=think_end", "event=eos"};

    (void)state;
    for (uint64_t seed = 0; seed < 100; seed++)
        for (int e = 0; e < 2; e++) {
            struct shape a, b;
            char options[80];
            int order[N];

            make_lanes(seed, seed % 2);
            rank(order, true, false);
            if (e == 0 && !lanes[order[0]].finishes)
                continue; /* its solution is cut: one waits for the next, the other does not */
            snprintf(options, sizeof options, "samples=6 m=1 %s", events[e]);
            run("short_m_at_k", options, lines);
            shape_of(&a);
            snprintf(options, sizeof options, "samples=6 k=1 skip_empty=0 %s", events[e]);
            run("first_finish", options, lines);
            shape_of(&b);
            assert_int_equal(a.n, b.n);
            assert_int_equal(a.node, b.node);
            for (size_t i = 0; i < a.n; i++)
                assert_string_equal(a.lines[i], b.lines[i]);
        }
}

static void the_m_shortest_thoughts_vote(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 150; seed++)
        for (int m = 1; m <= N; m++) {
            int order[N], d[N], n = 0, want, last = 0;
            char options[80], what[128];
            uint64_t sum = 0, solution = 0;

            make_lanes(seed, seed % 2);
            snprintf(options, sizeof options, "samples=%d m=%d", N, m);
            snprintf(what, sizeof what, "seed %d %s", (int)seed, options);
            rank(order, true, false);
            for (int i = 0; i < N && i < m; i++) { /* all think within the cap */
                if (lanes[order[i]].finishes)
                    d[n++] = order[i];
                last = lanes[order[i]].thought;
            }
            for (int i = 0; i < N; i++) {
                const struct lane *l = &lanes[i];
                int rest = (l->len < CAP ? l->len : CAP) - l->thought;
                bool in = false;

                for (int k = 0; k < m; k++)
                    in |= order[k] == i;
                sum +=
                    (uint64_t)(l->thought < last ? l->thought : last) + (in ? (uint64_t)rest : 0);
                solution = in && (uint64_t)rest > solution ? (uint64_t)rest : solution;
            }
            want = majority(d, n); /* in order of thinking: ties to the shortest */
            run("short_m_at_k", options, lines);
            assert_int_equal(t.result.usage.generated, sum);
            assert_int_equal(t.result.usage.sequential, (uint64_t)last + solution);
            if (want < 0)
                assert_won(what, -1, NULL);
            else
                assert_said(what, want);
        }
}

static void short_k_of_k_is_a_majority(void **state)
{
    int untied = 0;

    (void)state;
    for (uint64_t seed = 0; seed < 100; seed++) {
        int count[3] = {0}, top = 0, n_top = 0;
        char key[8];

        make_lanes(seed, true);
        for (int i = 0; i < N; i++)
            count[lanes[i].answer - '1']++;
        for (int a = 0; a < 3; a++)
            top = count[a] > top ? count[a] : top;
        for (int a = 0; a < 3; a++)
            n_top += count[a] == top;
        if (n_top > 1)
            continue; /* the two break ties in their own ways */
        untied++;
        run("self_consistency", "samples=6", lines);
        snprintf(key, sizeof key, "%s", t.result.key);
        trial_done(&t);
        run("short_m_at_k", "samples=6 m=6", lines);
        assert_string_equal(t.result.key, key);
        trial_done(&t);
    }
    assert_true(untied > 30);
}

static void a_tie_goes_to_the_shortest_thought(void **state)
{
    static const char *const tie[] = {"hmmm</think>answer: 1", "h</think>answer: 2",
                                      "hm</think>answer: 1",   "hmm</think>answer: 2",
                                      "hmmmmm</think>",        NULL};
    static const char *const equal[] = {"hm</think>answer: 3", "hm</think>answer: 2", NULL};

    (void)state;
    run("short_m_at_k", "samples=4 m=4", tie);
    assert_string_equal(t.result.key, "2");
    trial_done(&t);
    run("short_m_at_k", "samples=2 m=2", equal);
    assert_string_equal(t.result.key, "3");
    trial_done(&t);
}

static void more_winners_than_lines_are_refused(void **state)
{
    (void)state;
    start("first_finish", "samples=2 k=3", NULL);
    assert_int_equal(trial_run(&t), PD_EINVAL);
    trial_done(&t);
    start("short_m_at_k", "samples=2 m=3", NULL);
    assert_int_equal(trial_run(&t), PD_EINVAL);
    trial_done(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_first_k_vote),
        cmocka_unit_test(first_of_all_is_a_majority),
        cmocka_unit_test(tokens_are_those_of_the_lockstep),
        cmocka_unit_test(cut_lanes_say_what_whole_ones_say),
        cmocka_unit_test(an_empty_answer_does_not_win_unless_it_may),
        cmocka_unit_test(a_cut_lane_has_not_finished),
        cmocka_unit_test(short_1_is_first_finish_lane_for_lane),
        cmocka_unit_test(the_m_shortest_thoughts_vote),
        cmocka_unit_test(short_k_of_k_is_a_majority),
        cmocka_unit_test(a_tie_goes_to_the_shortest_thought),
        cmocka_unit_test(more_winners_than_lines_are_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
