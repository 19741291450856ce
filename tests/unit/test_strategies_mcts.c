/* mcts: which node is expanded when, against a model that counts visits on the
 * whole tree; what is closed, what answers. A node that has ended is visited once: it is closed. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "tests/support/toy.h"

static struct trial t;

static void start(const char *options, uint64_t seed, toy_judge_fn judge)
{
    toy_start(&t, "mcts", options, seed, judge);
}

static void run_tree(const char *options, const struct toy_step *tree)
{
    toy_run_tree(&t, "mcts", options, tree);
}

/* ---- a model -----------------------------------------------------------------------------------
 */

static struct stats {
    int visits, ended_here;
    double sum, max;
    bool drawn, closed;
} stats[TOY_MANY];

struct how {
    const char *select, *mode, *backup;
    int expand, samples;
    double w;
};

static double mean_value(const struct how *how, uint32_t v)
{
    if (stats[v].visits == 0)
        return 1 - toy_all[v].h;
    return strcmp(how->backup, "max") == 0 ? stats[v].max : stats[v].sum / stats[v].visits;
}

static int n_kept(uint32_t v)
{
    int n = 0;

    for (int i = 0; i < toy_all[v].n_child; i++)
        n += !toy_is_double(v, i);
    return n;
}

static double upper_bound(const struct how *how, uint32_t v)
{
    uint32_t up = toy_all[v].parent;
    double n = stats[up].visits, mine = stats[v].visits;

    if (strcmp(how->select, "uct") == 0)
        return mean_value(how, v) + how->w * sqrt(log(n) / fmax(1, mine));
    return mean_value(how, v) + how->w * sqrt(n) / (1 + mine) * (1.0 / n_kept(up)) *
                                    (log((n + 19652 + 1) / 19652) + 1.25);
}

/* The child that is followed (or, of a node just drawn, the best by reward); 0: there is none. */
static uint32_t follow(const struct how *how, uint32_t v, bool by_reward)
{
    uint32_t best = 0;
    double top = 0;

    for (int i = 0; i < toy_all[v].n_child; i++) {
        uint32_t c = toy_all[v].child[i];
        double u;

        if (toy_is_double(v, i) || stats[c].closed)
            continue;
        u = by_reward ? 1 - toy_all[c].h : upper_bound(how, c);
        if (!best || u > top) {
            best = c;
            top = u;
        }
    }
    return best;
}

static void close_parents(uint32_t v)
{
    do {
        v = toy_all[v].parent;
        for (int i = 0; i < toy_all[v].n_child; i++)
            if (!toy_is_double(v, i) && !stats[toy_all[v].child[i]].closed)
                return;
        stats[v].closed = true;
    } while (v);
}

/* Fills drawn[] with the vertices whose children are drawn, in order. */
static int simulate(const struct how *how, uint32_t *drawn)
{
    int n = 0;

    memset(stats, 0, sizeof stats);
    for (int i = 0; i < how->samples && !stats[0].closed; i++) {
        uint32_t v = 0;
        double value;

        while (stats[v].drawn)
            v = follow(how, v, false);
        do {
            if (toy_all[v].goal)
                break;
            stats[v].drawn = true;
            drawn[n++] = v;
            v = follow(how, v, true);
        } while (strcmp(how->mode, "simulate") == 0);
        value = 1 - toy_all[v].h;
        stats[v].ended_here++;
        if (toy_all[v].goal) {
            stats[v].closed = true;
            close_parents(v);
        }
        for (uint32_t up = v;; up = toy_all[up].parent) {
            stats[up].max = stats[up].visits ? fmax(stats[up].max, value) : value;
            stats[up].sum += value;
            stats[up].visits++;
            if (up == 0)
                break;
        }
    }
    return n;
}

static void run_how(const struct how *how, const char *more, uint64_t seed, toy_judge_fn judge)
{
    char options[200];

    snprintf(options, sizeof options, "samples=%d expand=%d select=%s mode=%s backup=%s w=%g %s",
             how->samples, how->expand, how->select, how->mode, how->backup, how->w, more);
    start(options, seed, judge);
    if (trial_run(&t) < 0)
        fail_msg("mcts %s: %s", options, t.err.text);
}

/* The answer that wins by weight, when goals weigh what is backed up through them. */
static double weight_of(const struct how *how, char answer)
{
    double sum = 0;

    for (uint32_t v = 1; v < toy_n_all; v++) {
        uint32_t up = toy_all[v].parent;
        bool is_double = false;

        for (int i = 0; i < toy_all[up].n_child; i++)
            is_double |= toy_all[up].child[i] == v && toy_is_double(up, i);
        if (toy_all[v].goal && stats[up].drawn && !is_double && toy_all[v].answer == answer)
            sum += mean_value(how, v);
    }
    return sum;
}

static void nodes_are_expanded_in_the_order_of_their_bounds(void **state)
{
    static const struct how hows[] = {
        {"uct", "leaf_value", "mean", 3, 40, 1},  {"uct", "leaf_value", "mean", 2, 1000, 1},
        {"uct", "leaf_value", "mean", 3, 60, 0},  {"uct", "leaf_value", "max", 3, 60, .3},
        {"uct", "simulate", "mean", 3, 12, 1},    {"uct", "simulate", "max", 2, 1000, 2},
        {"puct", "leaf_value", "mean", 3, 60, 1}, {"puct", "leaf_value", "max", 3, 60, .5},
        {"puct", "simulate", "mean", 2, 20, 1},   {"uct", "leaf_value", "mean", 1, 9, 1}};
    static const toy_judge_fn judges[] = {toy_of_line, toy_coarse};
    static uint32_t drawn[TOY_MANY];

    (void)state;
    for (uint64_t seed = 0; seed < 6; seed++)
        for (size_t k = 0; k < sizeof hows / sizeof *hows; k++) {
            const struct how *how = &hows[k];
            toy_judge_fn judge = judges[seed % 2];
            uint32_t id = 1;
            double top = 0;
            int n;

            toy_grow(how->expand, seed, judge);
            n = simulate(how, drawn);
            run_how(how, "", seed, judge);
            for (int i = 0; i < n; i++, id += (uint32_t)how->expand)
                if (id >= t.result.trace.n_nodes ||
                    toy_find(&t, trial_node(&t, id)->parent) != drawn[i])
                    fail_msg("seed %d case %d: expansion %d is another", (int)seed, (int)k, i);
            assert_int_equal(id, t.result.trace.n_nodes);
            for (char a = '1'; a <= '3'; a++)
                top = fmax(top, weight_of(how, a));
            if (top > 0)
                assert_true(fabs(weight_of(how, t.result.key[0]) - top) < 1e-9);
            trial_done(&t);
            /* of the model: visits below a node, and those that ended at it, are its visits */
            for (uint32_t v = 0; v < toy_n_all; v++) {
                int sum = stats[v].ended_here;

                for (int i = 0; i < toy_all[v].n_child; i++)
                    sum += stats[toy_all[v].child[i]].visits;
                assert_int_equal(sum, stats[v].visits);
            }
        }
}

/* U = Q + w sqrt(ln n / n_child) at counts that are known: the third visit of the root goes to the
 * child that was visited less once w is above (.8 - .5) / (sqrt(ln 2) - sqrt(ln 2 / 2)). */
static void exploration_pays_from_a_known_weight_on(void **state)
{
    static const struct toy_step tree[] = {
        {"0", "9 a\n\n"},  {"1", "5 b\n\n"},  {"00", "7 c\n\n"}, {"01", "1 c\n\n"},
        {"10", "2 e\n\n"}, {"11", "3 f\n\n"}, {"", "0 none"},    {0}};
    /* visit 1 ends at "0" (.9), 2 at "00" (.7): Q("0") = .8, 2 visits; "1" has none, Q = .5 */
    double edge = (.8 - .5) / (sqrt(log(2)) - sqrt(log(2) / 2));

    (void)state;
    for (int above = 0; above < 2; above++) {
        char options[64];

        snprintf(options, sizeof options, "samples=3 expand=2 w=%.9f",
                 edge * (above ? 1.000001 : .999999));
        run_tree(options, tree);
        assert_int_equal(trial_node(&t, 3)->parent, 1);
        assert_int_equal(trial_node(&t, 5)->parent, above ? 2 : 3);
        trial_done(&t);
    }
    /* puct: .8 + w sqrt(2)/3 /2 c < .5 + w sqrt(2)/1 /2 c, c = ln(19655/19652) + 1.25 */
    edge = .3 / (sqrt(2) / 2 * (1 - 1 / 3.) * (log(19655 / 19652.) + 1.25));
    for (int above = 0; above < 2; above++) {
        char options[64];

        snprintf(options, sizeof options, "select=puct samples=3 expand=2 w=%.9f",
                 edge * (above ? 1.000001 : .999999));
        run_tree(options, tree);
        assert_int_equal(trial_node(&t, 5)->parent, above ? 2 : 3);
        trial_done(&t);
    }
}

static void an_exhausted_tree_ends_the_search(void **state)
{
    static const struct toy_step tree[] = {{"0", "9 a\n\n"}, {"1", "2 answer: 2"}, {"00", "\n\n"},
                                           {"01", "\n\n"},   {"", "1 answer: 1"},  {0}};

    (void)state;
    run_tree("samples=1000 expand=2", tree); /* all below "0" fails: it is closed, "1" answers */
    assert_int_equal(t.result.trace.n_nodes, 1 + 2 + 2);
    assert_string_equal(t.result.key, "2");
    trial_done(&t);
    for (uint64_t seed = 0; seed < 5; seed++) {
        uint32_t n_inner = 0;

        toy_grow(2, seed, toy_of_line);
        for (uint32_t v = 0; v < toy_n_all; v++)
            n_inner += !toy_all[v].goal;
        start("samples=100000 expand=2", seed, toy_of_line);
        assert_int_equal(trial_run(&t), 0);
        assert_int_equal(t.result.trace.n_nodes, 1 + 2 * n_inner); /* all there is */
        trial_done(&t);
    }
}

/* A node below which all has failed takes no more visits: three are enough to see the other. */
static void failed_branches_take_no_visits(void **state)
{
    static const struct toy_step tree[] = {{"0", "9 a\n\n"},
                                           {"1", "1 b\n\n"},
                                           {"00", "\n\n"},
                                           {"01", "\n\n"},
                                           {"10", "1 answer: 5"},
                                           {"", "0 answer: 6"},
                                           {0}};

    (void)state;
    run_tree("samples=3 expand=2 w=0", tree);
    assert_int_equal(trial_node(&t, 5)->parent, 2);
    assert_string_equal(t.result.key, "5");
    trial_done(&t);
}

static void each_output_has_its_favourite(void **state)
{
    /* by reward "1" (.8), by weight the three others (.4 + .4 + .3) */
    static const struct toy_step tree[] = {{"0", "4 answer: 1"},
                                           {"1", "8 answer: 2"},
                                           {"2", "4 and answer: 1"},
                                           {"3", "3 answer: 1"},
                                           {0}};

    (void)state;
    run_tree("samples=9 output=max_reward", tree);
    assert_string_equal(t.result.key, "2");
    trial_done(&t);
    run_tree("samples=9 output=weighted", tree);
    assert_string_equal(t.result.key, "1");
    trial_done(&t);
    run_tree("samples=1 output=max_visit", tree);
    assert_string_equal(t.result.key, "2");
    trial_done(&t);
    run_tree("samples=9 output=max_visit", tree); /* all were visited once: the best of them */
    assert_string_equal(t.result.key, "2");
    trial_done(&t);
}

static void children_of_equal_text_are_one(void **state)
{
    static const struct toy_step tree[] = {{"0", "5 a\n\n"}, {"1", "5 a\n\n"},    {"2", "4 b\n\n"},
                                           {"3", "4 b\n\n"}, {"", "9 answer: 1"}, {0}};

    (void)state;
    run_tree("samples=50", tree);
    assert_string_equal(trial_node(&t, 2)->prune_reason, "duplicate");
    assert_string_equal(trial_node(&t, 4)->prune_reason, "duplicate");
    assert_int_equal(t.result.trace.n_nodes, 1 + 4 + 4 + 4);
    trial_done(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nodes_are_expanded_in_the_order_of_their_bounds),
        cmocka_unit_test(exploration_pays_from_a_known_weight_on),
        cmocka_unit_test(an_exhausted_tree_ends_the_search),
        cmocka_unit_test(failed_branches_take_no_visits),
        cmocka_unit_test(each_output_has_its_favourite),
        cmocka_unit_test(children_of_equal_text_are_one),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
