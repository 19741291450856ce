#include "core/cost.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static const struct pd_shape qwen = {
    .weights = 1.7e9, .head_dim = 128, .layers = 28, .heads = 16, .heads_kv = 8, .kv_bytes = 2};

static void near(double got, double want)
{
    if (!(fabs(got - want) <= 1e-6 * fabs(want)))
        fail_msg("%.9g is not %.9g", got, want);
}

/* Worked out from the paper's formulas: prompt 512, lines of 4096. */
static void the_papers_figures(void **state)
{
    struct pd_work one = pd_work_of_lines(1, 512, 4096), eight = pd_work_of_lines(8, 512, 4096);

    (void)state;
    near(pd_cost_flop(&qwen, &one), 1.633158e13);
    near(pd_cost_bytes(&qwen, &one), 1.202591e12);
    near(pd_cost_eflop(1.633158e13, 1.202591e12, PD_COST_INTENSITY), 6.927889e14);
    near(pd_cost_flop(&qwen, &eight), 1.306527e14);
    near(pd_cost_bytes(&qwen, &eight), 7.937100e12);
    near(pd_cost_eflop(1.306527e14, 7.937100e12, PD_COST_INTENSITY), 4.595271e15);
}

/* Lines one after another cost the operations of lines together; only together they share reads. */
static void sharing_saves_reads_alone(void **state)
{
    struct pd_work one = pd_work_of_lines(1, 512, 100), four = pd_work_of_lines(4, 512, 100);

    (void)state;
    near(four.tokens, 4 * one.tokens);
    near(four.attended, 4 * one.attended);
    near(4 * one.read - four.read, 3 * 512 * 100);
}

/* A line in two parts is the line. */
static void parts_add_up(void **state)
{
    struct pd_work a = pd_work_of_lines(1, 10, 6), b = pd_work_of_lines(1, 16, 4),
                   all = pd_work_of_lines(1, 10, 10);

    (void)state;
    near(a.attended + b.attended, all.attended);
    near(a.read + b.read, all.read);
}

static void seconds_are_looked_up(void **state)
{
    static const struct pd_measured m[] = {{64, 0.1}, {256, 0.2}};

    (void)state;
    near(pd_cost_seconds(m, 2, 64), 0.1);
    near(pd_cost_seconds(m, 2, 32), 0.05);
    near(pd_cost_seconds(m, 2, 65), 0.2 * 65 / 256);
    near(pd_cost_seconds(m, 2, 1024), 0.8);
    near(pd_cost_seconds(m, 2, 0), 0);
    assert_true(isnan(pd_cost_seconds(m, 0, 5)));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_papers_figures),
        cmocka_unit_test(sharing_saves_reads_alone),
        cmocka_unit_test(parts_add_up),
        cmocka_unit_test(seconds_are_looked_up),
    };

    return cmocka_run_group_tests_name("core/cost", tests, NULL, NULL);
}
