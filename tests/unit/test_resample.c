/* strategies/resample.c against copies of each particle, on average
 * and at worst, by integrating over all uniforms; slots; draws; the effective sample size. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "strategies/resample.h"

#define N_MAX 5

static const enum resample_scheme schemes[] = {RESAMPLE_SYSTEMATIC, RESAMPLE_STRATIFIED,
                                               RESAMPLE_RESIDUAL, RESAMPLE_MULTINOMIAL};

static const struct weights {
    int n;
    double w[N_MAX];
} weights[] = {
    {3, {.5, .3, .2}},
    {3, {.25, .5, .25}},
    {2, {.9, .1}},
    {2, {1, 0}},
    {3, {0, .4, .6}},
    {3, {.6, 0, .4}},
    {3, {.2, .8, 0}},
    {4, {.25, .25, .25, .25}},
    {4, {.1, .2, .3, .4}},
    {3, {0, 0, 1}},
    {4, {.5, 0, .5, 0}},
    {3, {1 / 3., 1 / 3., 1 / 3.}},
    {4, {.7, .1, .1, .1}},
    {1, {1}},
    {5, {.2, .2, .2, .2, .2}},
    {4, {.05, .9, .04, .01}},
};

/* Uniforms from a list. */
struct tape {
    double u[N_MAX];
    int at;
};

static double play(void *arg)
{
    struct tape *t = arg;

    assert_true(t->at < N_MAX);
    return t->u[t->at++];
}

/* How the copies depend on the uniforms is constant between these points: edges[0] = 0 …
 * edges[n - 1] = 1. */
static int find_edges(const struct weights *x, int m, double *edges)
{
    double cum = 0, rest = 0, part = 0;
    int n = 0;

    edges[n++] = 0;
    edges[n++] = 1;
    for (int i = 0; i < x->n; i++)
        rest += m * x->w[i] - floor(m * x->w[i] + 1e-12);
    for (int i = 0; i < x->n; i++) {
        cum += x->w[i];
        part += m * x->w[i] - floor(m * x->w[i] + 1e-12);
        edges[n++] = cum < 1 ? cum : 1;                      /* multinomial */
        edges[n++] = m * cum - floor(m * cum);               /* systematic, stratified */
        edges[n++] = rest > 1e-9 ? fmin(part / rest, 1) : 1; /* residual */
    }
    for (int i = 1; i < n; i++)
        for (int k = i; k > 0 && edges[k] < edges[k - 1]; k--) {
            double e = edges[k];

            edges[k] = edges[k - 1];
            edges[k - 1] = e;
        }
    return n;
}

struct moments {
    double mean[N_MAX];
    int least[N_MAX], most[N_MAX];
    double total; /* probability */
};

/* Over all cells of all uniforms that the scheme asks for. */
static void integrate(enum resample_scheme scheme, const struct weights *x, struct moments *out)
{
    double edges[3 * N_MAX + 2];
    int n_edges = find_edges(x, x->n, edges), cell[N_MAX] = {0}, n_used;

    *out = (struct moments){0};
    for (int i = 0; i < x->n; i++)
        out->least[i] = N_MAX;
    do {
        struct tape tape = {.at = 0};
        int copies[N_MAX], sum = 0;
        double p = 1;

        for (int i = 0; i < N_MAX; i++)
            tape.u[i] = (edges[cell[i]] + edges[cell[i] + 1]) / 2;
        resample_copies(scheme, x->w, x->n, x->n, play, &tape, copies);
        n_used = tape.at;
        for (int i = 0; i < n_used; i++)
            p *= edges[cell[i] + 1] - edges[cell[i]];
        for (int i = 0; i < x->n && p > 1e-9; i++) {
            sum += copies[i];
            out->mean[i] += p * copies[i];
            out->least[i] = copies[i] < out->least[i] ? copies[i] : out->least[i];
            out->most[i] = copies[i] > out->most[i] ? copies[i] : out->most[i];
        }
        out->total += p;
        if (p > 1e-9)
            assert_int_equal(sum, x->n);
        while (n_used > 0 && ++cell[n_used - 1] == n_edges - 1) /* the next cell */
            cell[--n_used] = 0;
    } while (n_used > 0);
}

static void every_scheme_is_unbiased(void **state)
{
    (void)state;
    for (size_t k = 0; k < sizeof weights / sizeof *weights; k++)
        for (size_t s = 0; s < sizeof schemes / sizeof *schemes; s++) {
            const struct weights *x = &weights[k];
            struct moments got;

            if (x->n == 5 && s != 0) /* 17^5 cells: too many */
                continue;
            integrate(schemes[s], x, &got);
            assert_true(fabs(got.total - 1) < 1e-9);
            for (int i = 0; i < x->n; i++)
                if (fabs(got.mean[i] - x->n * x->w[i]) > 1e-9)
                    fail_msg("scheme %d, weights %d, particle %d: %.12g copies, not %.12g", (int)s,
                             (int)k, i, got.mean[i], x->n * x->w[i]);
        }
}

static void copies_are_as_near_to_the_mean_as_the_scheme_says(void **state)
{
    (void)state;
    for (size_t k = 0; k < sizeof weights / sizeof *weights; k++) {
        const struct weights *x = &weights[k];
        struct moments systematic, residual = {0}, multinomial = {0};

        integrate(RESAMPLE_SYSTEMATIC, x, &systematic);
        if (x->n < 5) {
            integrate(RESAMPLE_RESIDUAL, x, &residual);
            integrate(RESAMPLE_MULTINOMIAL, x, &multinomial);
        }
        for (int i = 0; i < x->n; i++) {
            double mean = x->n * x->w[i];
            int low = (int)floor(mean + 1e-12), high = (int)ceil(mean - 1e-12);

            assert_true(systematic.least[i] >= low && systematic.most[i] <= high);
            if (x->n == 5)
                continue;
            assert_true(residual.least[i] >= low);
            assert_int_equal(multinomial.most[i], x->w[i] > 0 ? x->n : 0);
        }
    }
}

static void systematic_at_known_points(void **state)
{
    static const double w[] = {.5, .3, .2};
    static const struct {
        double u;
        int copies[3];
    } want[] = {{0, {2, 1, 0}}, {.5, {1, 1, 1}}, {.9, {1, 1, 1}}};

    (void)state;
    /* points u/3, (u+1)/3, (u+2)/3 against .5 and .8: the second is below .5 until u = .5, the
     * third below .8 until u = .4 */
    for (size_t i = 0; i < 3; i++) {
        struct tape tape = {.u = {want[i].u}};
        int copies[3];

        resample_copies(RESAMPLE_SYSTEMATIC, w, 3, 3, play, &tape, copies);
        assert_memory_equal(copies, want[i].copies, sizeof copies);
        assert_int_equal(tape.at, 1);
    }
    for (double u = .4; u < .5; u += .01) {
        struct tape tape = {.u = {u + 1e-9}};
        int copies[3];

        resample_copies(RESAMPLE_SYSTEMATIC, w, 3, 3, play, &tape, copies);
        assert_true(copies[0] == 2 && copies[1] == 0 && copies[2] == 1);
    }
}

static double same(void *arg)
{
    return *(double *)arg;
}

static void equal_weights_move_nothing(void **state)
{
    static const double us[] = {0, .5, 0x1.fffffffffffffp-1};

    (void)state;
    for (int n = 1; n <= 256; n++)
        for (int s = 0; s < 3; s++) /* systematic, stratified, residual */
            for (int at = 0; at < 3; at++) {
                double w[256], u = us[at];
                int copies[256], ancestor[256];

                for (int i = 0; i < n; i++)
                    w[i] = 1.0 / n;
                resample_copies(schemes[s], w, n, n, same, &u, copies);
                resample_slots(copies, n, ancestor);
                for (int i = 0; i < n; i++)
                    assert_int_equal(ancestor[i], i);
            }
}

static void surplus_copies_fill_free_slots_in_order(void **state)
{
    static const struct {
        int n, copies[6], ancestor[6];
    } cases[] = {
        {3, {1, 1, 1}, {0, 1, 2}},
        {3, {0, 0, 3}, {2, 2, 2}},
        {3, {3, 0, 0}, {0, 0, 0}},
        {4, {0, 2, 0, 2}, {1, 1, 3, 3}},
        {4, {2, 0, 2, 0}, {0, 0, 2, 2}},
        {5, {0, 3, 0, 2, 0}, {1, 1, 1, 3, 3}},
        {6, {0, 2, 1, 0, 3, 0}, {1, 1, 2, 4, 4, 4}},
        {1, {1}, {0}},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int ancestor[6];

        resample_slots(cases[i].copies, cases[i].n, ancestor);
        assert_memory_equal(ancestor, cases[i].ancestor, (size_t)cases[i].n * sizeof(int));
    }
}

static void every_split_of_six_copies_finds_its_slots(void **state)
{
    (void)state;
    for (int x = 0; x < 46656; x++) { /* all functions from six points to six particles */
        int copies[6] = {0}, seen[6] = {0}, ancestor[6];

        for (int i = 0, y = x; i < 6; i++, y /= 6)
            copies[y % 6]++;
        resample_slots(copies, 6, ancestor);
        for (int i = 0; i < 6; i++) {
            seen[ancestor[i]]++;
            assert_true(copies[i] == 0 || ancestor[i] == i);
        }
        assert_memory_equal(seen, copies, sizeof seen);
    }
}

static void a_draw_takes_the_first_weight_above_u(void **state)
{
    static const double w[] = {0, .25, 0, .5, .25, 0};
    static const double thirds[] = {1 / 3., 1 / 3., 1 / 3. - 1e-3, 0};
    static const double none[] = {0, 0, 0};

    (void)state;
    assert_int_equal(resample_draw(w, 6, 0), 1);
    assert_int_equal(resample_draw(w, 6, 0x1.fffffffffffffp-3), 1);
    assert_int_equal(resample_draw(w, 6, .25), 3); /* u < sum, strictly */
    assert_int_equal(resample_draw(w, 6, .7499), 3);
    assert_int_equal(resample_draw(w, 6, .75), 4);
    assert_int_equal(resample_draw(w, 6, 0x1.fffffffffffffp-1), 4);
    assert_int_equal(resample_draw(thirds, 4, .9995), 2); /* beyond the sum: the last positive */
    assert_int_equal(resample_draw(none, 3, .5), 0);
}

static void effective_sample_size(void **state)
{
    static const double even[] = {.25, .25, .25, .25}, one[] = {0, 1, 0}, w[] = {.5, .3, .2};
    static const double none[] = {0, 0};

    (void)state;
    assert_true(resample_ess(even, 4) == 4);
    assert_true(resample_ess(one, 3) == 1);
    assert_true(fabs(resample_ess(w, 3) - 1 / .38) < 1e-12);
    assert_true(resample_ess(none, 2) == 0);
}

/* 3/10 of ten copies are three, though .1 + .1 + .1 is a little more than .3. */
static void rounding_makes_no_copies(void **state)
{
    static const double w[] = {.1, .1, .1, .7};
    static const double us[] = {0, 1e-15, .5, 0x1.fffffffffffffp-1};

    (void)state;
    for (size_t i = 0; i < sizeof us / sizeof *us; i++)
        for (int s = 0; s < 3; s += 2) {
            struct tape tape = {.u = {us[i]}};
            int copies[4];

            resample_copies(schemes[s], w, 4, 10, play, &tape, copies);
            assert_true(copies[0] == 1 && copies[1] == 1 && copies[2] == 1 && copies[3] == 7);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_scheme_is_unbiased),
        cmocka_unit_test(copies_are_as_near_to_the_mean_as_the_scheme_says),
        cmocka_unit_test(systematic_at_known_points),
        cmocka_unit_test(equal_weights_move_nothing),
        cmocka_unit_test(surplus_copies_fill_free_slots_in_order),
        cmocka_unit_test(every_split_of_six_copies_finds_its_slots),
        cmocka_unit_test(a_draw_takes_the_first_weight_above_u),
        cmocka_unit_test(effective_sample_size),
        cmocka_unit_test(rounding_makes_no_copies),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
