/* astar against brute force: branch keys are paths, so that the tree a search
 * draws from is a fixed object for a seed. One strategy draws all of it; a model of A* runs on
 * that, pop for pop; and the properties of its costs hold against the best goal there is. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "tests/support/toy.h"

#define MANY TOY_MANY

static struct trial t;

static void start(const char *options, uint64_t seed, toy_judge_fn judge)
{
    toy_start(&t, "astar", options, seed, judge);
}

static void run(const char *options, uint64_t seed)
{
    toy_run(&t, "astar", options, seed, toy_of_line);
}

static void run_tree(const char *options, const struct toy_step *tree)
{
    toy_run_tree(&t, "astar", options, tree);
}

static toy_judge_fn judge = toy_of_line;

/* ---- a model of A* -----------------------------------------------------------------------------
 */

struct how {
    const char *cost, *stop;
    int k, k0, samples, cap, goals;
    uint32_t nodes; /* budget; 0: none */
    double depth_bonus;
};

struct open {
    uint32_t v, id;
    double f, g, h;
    int drawn;
};

static double edge_cost(const char *cost, double from, double to)
{
    double rise = strcmp(cost, "rise") == 0 ? to - from : strcmp(cost, "fall") == 0 ? from - to : 0;

    return rise > 0 ? rise : 0;
}

static bool before(const struct open *a, const struct open *b)
{
    if (a->f != b->f)
        return a->f < b->f;
    if (a->h != b->h)
        return a->h < b->h;
    if (toy_all[a->v].depth != toy_all[b->v].depth)
        return toy_all[a->v].depth > toy_all[b->v].depth;
    return a->id < b->id;
}

static struct pop {
    uint32_t v;
    double f, g, h;
    int n_open;
} pops[MANY];
static int n_pops;

static struct open take(struct open *open, int *n, bool worst)
{
    int best = 0;
    struct open x;

    for (int i = 1; i < *n; i++)
        if (worst ? before(&open[best], &open[i]) : before(&open[i], &open[best]))
            best = i;
    x = open[best];
    open[best] = open[--*n];
    return x;
}

/* Fills pops; returns the goals' vertices in goal[], how many. */
static int simulate(const struct how *how, uint32_t *goal)
{
    static struct open open[MANY];
    int n = 1, n_goals = 0, n_expanded = 0;
    uint32_t n_nodes = 0;

    n_pops = 0;
    open[0] = (struct open){0};
    while (n && n_goals < how->goals) {
        struct open x = take(open, &n, false);
        int draw;

        pops[n_pops++] = (struct pop){x.v, x.f, x.g, x.h, n};
        if (toy_all[x.v].goal) {
            goal[n_goals++] = x.v;
            if (strcmp(how->stop, "m_goals") != 0)
                return n_goals;
            continue;
        }
        draw = how->k - x.drawn;
        draw = how->k0 && how->k0 < draw ? how->k0 : draw;
        if ((how->samples && n_expanded >= how->samples / how->k) ||
            (how->nodes && n_nodes + (uint32_t)draw > how->nodes))
            break;
        n_expanded += x.drawn == 0;
        for (int i = 0; i < draw; i++) {
            uint32_t v = toy_all[x.v].child[x.drawn + i];
            struct open y = {.v = v, .id = n_nodes + (uint32_t)i + 1, .h = toy_all[v].h};

            if (toy_is_double(x.v, x.drawn + i))
                continue;
            y.g = x.g + edge_cost(how->cost, x.h, y.h);
            y.f = y.g + y.h - how->depth_bonus * toy_all[v].depth;
            open[n++] = y;
            if (n > how->cap)
                take(open, &n, true);
        }
        n_nodes += (uint32_t)draw;
        x.drawn += draw;
        if (x.drawn < how->k)
            open[n++] = x;
        if (strcmp(how->stop, "generated") == 0) {
            struct open best = {0};
            bool any = false;

            for (int i = 0; i < n; i++)
                if (toy_all[open[i].v].goal && (!any || before(&open[i], &best))) {
                    best = open[i];
                    any = true;
                }
            if (any) {
                goal[0] = best.v;
                return 1;
            }
        }
    }
    while (n && n_goals == 0) { /* the best goal that was drawn */
        struct open x = take(open, &n, false);

        if (toy_all[x.v].goal)
            goal[n_goals++] = x.v;
    }
    return n_goals;
}

static void run_how(const struct how *how, uint64_t seed)
{
    char options[200];

    snprintf(options, sizeof options,
             "k=%d cost=%s stop=%s samples=%d cap=%d goals=%d k0=%d depth_bonus=%g", how->k,
             how->cost, how->stop, how->samples, how->cap, how->goals, how->k0, how->depth_bonus);
    start(options, seed, judge);
    t.job.budget.nodes = how->nodes;
    if (trial_run(&t) < 0)
        fail_msg("astar %s: %s", options, t.err.text);
}

static void check_pops(void)
{
    const char *json = NULL;

    for (int i = 0; i < n_pops; i++) {
        double id, fgh[3], n_open;

        if (!toy_decision(&t, "pop", (size_t)i, &json))
            fail_msg("only %d pops, not %d", i, n_pops);
        toy_numbers(json, "node", &id, 1);
        toy_numbers(json, "fgh", fgh, 3);
        toy_numbers(json, "open", &n_open, 1);
        assert_int_equal(toy_find(&t, (uint32_t)id), pops[i].v);
        assert_true(fabs(fgh[0] - pops[i].f) < 1e-12 && fabs(fgh[1] - pops[i].g) < 1e-12 &&
                    fabs(fgh[2] - pops[i].h) < 1e-12);
        if ((int)n_open != pops[i].n_open)
            fail_msg("pop %d leaves %d open, not %d", i, (int)n_open, pops[i].n_open);
    }
    assert_false(toy_decision(&t, "pop", (size_t)n_pops, &json));
}

static void pop_for_pop_as_the_model(void **state)
{
    static const struct how hows[] = {{"rise", "popped", 3, 0, 0, 1024, 1, 0, 0},
                                      {"fall", "popped", 3, 0, 0, 1024, 1, 0, 0},
                                      {"zero", "popped", 3, 0, 0, 1024, 1, 0, 0},
                                      {"rise", "generated", 3, 0, 0, 1024, 1, 0, 0},
                                      {"fall", "generated", 2, 0, 0, 1024, 1, 0, 0},
                                      {"fall", "m_goals", 2, 0, 0, 1024, 4, 0, 0},
                                      {"rise", "m_goals", 3, 0, 0, 1024, 3, 0, 0},
                                      {"rise", "popped", 3, 1, 0, 1024, 1, 0, 0},
                                      {"fall", "popped", 3, 2, 0, 1024, 1, 0, 0},
                                      {"fall", "popped", 3, 0, 12, 1024, 1, 0, 0},
                                      {"rise", "popped", 3, 0, 0, 4, 1, 0, 0},
                                      {"fall", "popped", 3, 0, 0, 1, 1, 0, 0},
                                      {"fall", "popped", 3, 0, 0, 1024, 1, 30, 0},
                                      {"rise", "popped", 2, 0, 0, 1024, 1, 9, 0},
                                      {"rise", "popped", 3, 0, 0, 1024, 1, 0, .2},
                                      {"zero", "m_goals", 3, 1, 0, 9, 2, 0, .1},
                                      {"fall", "popped", 3, 1, 6, 1024, 1, 0, 0}};

    (void)state;
    for (uint64_t seed = 0; seed < 12; seed++)
        for (size_t i = 0; i < sizeof hows / sizeof *hows; i++) {
            uint32_t goal[8];
            int n_goals;

            judge = seed % 2 ? toy_coarse : toy_of_line; /* many ties, or none */
            toy_grow(hows[i].k, seed, judge);
            n_goals = simulate(&hows[i], goal);
            run_how(&hows[i], seed);
            check_pops();
            if (n_goals == 0) {
                assert_null(t.result.key);
            } else if (n_goals == 1) {
                assert_int_equal(toy_find(&t, (uint32_t)t.result.answer_node), goal[0]);
            } else { /* a weighted vote */
                double sum[10] = {0}, top = 0;

                for (int g = 0; g < n_goals; g++) {
                    sum[toy_all[goal[g]].answer - '0'] += 1 - toy_all[goal[g]].h;
                    top = fmax(top, sum[toy_all[goal[g]].answer - '0']);
                }
                assert_true(fabs(sum[t.result.key[0] - '0'] - top) < 1e-12);
            }
            trial_done(&t);
        }
    judge = toy_of_line;
}

/* ---- what the costs promise --------------------------------------------------------------------
 */

/* The objective of a goal: the costs on its path, and its h. */
static double objective(uint32_t v, const char *cost)
{
    double j = toy_all[v].h;

    for (; v; v = toy_all[v].parent)
        j += edge_cost(cost, toy_all[toy_all[v].parent].h, toy_all[v].h);
    return j;
}

static void first_goals_are_as_good_as_the_cost_says(void **state)
{
    int worse = 0;

    (void)state;
    for (uint64_t seed = 0; seed < 25; seed++) {
        double best_fall = INFINITY, best_rise = INFINITY, top_h = 0, last = 0;
        double j;
        const char *json = NULL;

        toy_grow(3, seed, judge);
        for (uint32_t v = 1; v < toy_n_all; v++) {
            top_h = fmax(top_h, toy_all[v].h);
            if (toy_all[v].goal) {
                best_fall = fmin(best_fall, objective(v, "fall"));
                best_rise = fmin(best_rise, objective(v, "rise"));
            }
        }
        run("k=3 cost=fall", seed); /* consistent: the first goal is the best of all */
        j = objective(toy_find(&t, (uint32_t)t.result.answer_node), "fall");
        assert_true(fabs(j - best_fall) < 1e-12);
        for (size_t i = 0; toy_decision(&t, "pop", i, &json); i++) { /* and f never falls */
            double f;

            toy_numbers(json, "fgh", &f, 1);
            assert_true(f >= last - 1e-12);
            last = f;
        }
        trial_done(&t);
        run("k=3 cost=rise", seed); /* at most the largest h worse */
        j = objective(toy_find(&t, (uint32_t)t.result.answer_node), "rise");
        assert_true(j <= best_rise + top_h + 1e-12);
        worse += j > best_rise + 1e-12;
        trial_done(&t);
    }
    assert_true(worse > 0); /* nor is that a bound that nobody needs */
}

static void one_child_is_a_plain_sample(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 10; seed++) {
        char line[160];

        trial_init(&t, pd_strategy_find("single"), "");
        t.job.seed = seed;
        assert_int_equal(trial_run(&t), 0);
        snprintf(line, sizeof line, "%s", trial_line(&t, 1));
        trial_done(&t);
        run("k=1", seed);
        assert_string_equal(trial_line(&t, (uint32_t)t.result.answer_node), line);
        assert_int_equal(trial_node(&t, (uint32_t)t.result.answer_node)->depth,
                         t.result.trace.n_nodes - 1);
        trial_done(&t);
    }
}

static void budgets_are_never_exceeded(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 10; seed++)
        for (uint64_t tokens = 1; tokens < 1500; tokens += 1 + tokens / 3) {
            start("k=3", seed, toy_of_line);
            t.job.budget.tokens = tokens;
            assert_int_equal(trial_run(&t), 0);
            assert_true(t.result.usage.generated <= tokens);
            assert_int_equal(t.result.usage.generated, toy_generated(&t));
            trial_done(&t);
        }
}

static void children_of_equal_text_are_one(void **state)
{
    static const struct toy_step same[] = {{"0", "5 a\n\n"}, {"1", "5 a\n\n"},    {"2", "4 b\n\n"},
                                           {"3", "5 a\n\n"}, {"", "9 answer: 1"}, {0}};
    static const struct toy_step empty[] = {
        {"0", "X none"}, {"1", "2 answer:"}, {"2", "\n\n"}, {"3", "1 answer: 2"}, {0}};
    static const char *const options[] = {"k=4 cost=zero", "k=4 k0=1 cost=zero",
                                          "k=4 k0=3 cost=zero"};

    (void)state;
    for (int i = 0; i < 3; i++) {
        run_tree(options[i], same);
        assert_string_equal(trial_node(&t, 2)->prune_reason, "duplicate");
        for (uint32_t k = 1; k < t.result.trace.n_nodes; k++)
            if (trial_node(&t, k)->parent == 0 && k != 1 &&
                pd_str_eq(trial_node(&t, k)->text, PD_STR("5 a\n\n")))
                assert_string_equal(trial_node(&t, k)->prune_reason, "duplicate");
        trial_done(&t);
        run_tree(options[i], empty); /* a goal without an answer is none */
        assert_string_equal(t.result.key, "2");
        assert_string_equal(trial_node(&t, 1)->prune_reason, "no_answer");
        trial_done(&t);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pop_for_pop_as_the_model),
        cmocka_unit_test(first_goals_are_as_good_as_the_cost_says),
        cmocka_unit_test(one_child_is_a_plain_sample),
        cmocka_unit_test(budgets_are_never_exceeded),
        cmocka_unit_test(children_of_equal_text_are_one),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
