/* compute_optimal: the bin of a problem, the cell that is chosen, and what becomes of the probes.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "tests/support/toy.h"

static struct trial t;

#define TABLE                                                                                      \
    "0.8,0.5;1@1,single,.9,90;1@4,self_consistency(samples=4),.95,360;"                            \
    "2@4,best_of_n(samples=4),.7,400;2@4,beam(samples=4,expand=2),.7,390;2@4,mbr,.6,1;"            \
    "2@8,best_of_n(samples=8),.75,800;3@2,self_consistency(samples=2),.1,200;"                     \
    "3@16,particle_filter(samples=4),.3,1600"

static double reward;

static double constant(const struct pd_str *steps, size_t k)
{
    (void)steps;
    (void)k;
    return reward;
}

static int start(const char *more, double probes_are_worth)
{
    char options[1000];

    reward = probes_are_worth;
    snprintf(options, sizeof options, "max_tokens=90 %s", more);
    trial_init(&t, pd_strategy_find("compute_optimal"), options);
    toy_judge(&t, constant);
    return trial_run(&t);
}

static void assert_chosen(const char *options, double value, int bin, const char *cell)
{
    char more[900], want[120];
    const char *json;
    double got;

    snprintf(more, sizeof more, "%s table=" TABLE, options);
    if (start(more, value) < 0)
        fail_msg("%s: %s", options, t.err.text);
    assert_true(toy_decision(&t, "predicted", 0, &json));
    toy_numbers(json, "bin", &got, 1);
    assert_int_equal(got, bin);
    snprintf(want, sizeof want, "\"cell\":\"%s\"", cell);
    if (!strstr(json, want))
        fail_msg("%s, %g: %s", options, value, json);
    assert_true(toy_decision(&t, "came", 0, &json));
    toy_numbers(json, "tokens", &got, 1);
    assert_int_equal(got, t.result.usage.generated);
    assert_non_null(t.result.key);
    trial_done(&t);
}

static void the_cell_is_that_of_the_bin_and_of_n(void **state)
{
    (void)state;
    assert_chosen("samples=4", .95, 1, "self_consistency(samples=4)");
    assert_chosen("samples=4", .8, 1, "self_consistency(samples=4)");  /* on the edge: the easier */
    assert_chosen("samples=64", .9, 1, "self_consistency(samples=4)"); /* the nearest lower N */
    assert_chosen("samples=3", .9, 1, "single");
    assert_chosen("samples=4", .79, 2, "beam(samples=4,expand=2)"); /* equal: the cheaper */
    assert_chosen("samples=8", .5, 2, "best_of_n(samples=8)");
    assert_chosen("samples=2", .6, 2, "beam(samples=4,expand=2)"); /* nothing so small */
    assert_chosen("samples=15", .1, 3, "self_consistency(samples=2)");
    assert_chosen("samples=16", .1, 3, "particle_filter(samples=4)");
}

/* .9 at 1 and .95 at 4 lines: F(N) has risen to all it can at once. */
static void saturation_limits_n(void **state)
{
    (void)state;
    assert_chosen("samples=4 epsilon=0.2", .9, 1, "single");
    assert_chosen("samples=4 epsilon=0", .9, 1, "self_consistency(samples=4)");
}

/* Probes are the first lines of a strategy that draws whole lines, and are drawn once. */
static void probes_are_the_first_lines(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 20; seed++) {
        char want[16];
        uint64_t tokens;
        int64_t node;

        toy_run(&t, "self_consistency", "max_tokens=90 samples=4", seed, constant);
        snprintf(want, sizeof want, "%s", t.result.key);
        tokens = t.result.usage.generated;
        node = t.result.answer_node;
        trial_done(&t);
        for (int n0 = 1; n0 <= 4; n0++) {
            char options[900];

            snprintf(options, sizeof options, "max_tokens=90 samples=4 n0=%d table=" TABLE, n0);
            reward = .9;
            toy_run(&t, "compute_optimal", options, seed, constant);
            assert_string_equal(t.result.key, want);
            assert_int_equal(t.result.usage.generated, tokens);
            assert_int_equal(t.result.answer_node, node);
            assert_int_equal(t.result.trace.n_nodes, 5);
            trial_done(&t);
        }
    }
}

static void a_table_that_is_none_is_refused(void **state)
{
    static const struct {
        const char *table, *why;
    } bad[] = {{"", "needs a table"},
               {"x;1@1,single,1,1", "'x' is not a number"},
               {".5,.6;1@1,single,1,1", "do not fall"},
               {".5;1@1,sing,1,1", "in cell '1@1,sing,1,1' of the table: no strategy 'sing'"},
               {".5;1,single,1,1", "is not a number"},
               {".5;1@1,single,1", "'' is not a number"},
               {".5;1@1,single(x=1),1,1", "single has no option 'x'"},
               {".5;2@1,single,1,1", "no cell for bin 1"}};

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char more[200];

        snprintf(more, sizeof more, "table=%s", bad[i].table);
        if (start(more, .9) != PD_EINVAL || !strstr(t.err.text, bad[i].why))
            fail_msg("%s: %s", bad[i].table, t.err.text);
        trial_done(&t);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_cell_is_that_of_the_bin_and_of_n),
        cmocka_unit_test(saturation_limits_n),
        cmocka_unit_test(probes_are_the_first_lines),
        cmocka_unit_test(a_table_that_is_none_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
