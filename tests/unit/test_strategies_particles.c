/* particle_filter, particle_gibbs, parallel_tempering: every number that a run
 * decided by is computed again from its tree; collapses; swaps at known weights. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <unistd.h>

#include <cmocka.h>

#include "strategies/resample.h"
#include "tests/support/toy.h"

#define N_MAX 16

static struct trial t;

static void assert_near(double got, double want)
{
    if (fabs(got - want) > 1e-9 * (1 + fabs(want)))
        fail_msg("%.15g, not %.15g", got, want);
}

/* ---- the record of a filter --------------------------------------------------------------------
 */

struct round {
    double node[N_MAX], w[N_MAX], sum, ess, ancestor[N_MAX], round;
    bool has_z, resampled;
    double log_z;
};

static bool read_round(size_t i, int n, struct round *r)
{
    const char *json = NULL;
    double sum_ess[2];

    if (!toy_decision(&t, "particles", i, &json))
        return false;
    assert_int_equal(toy_numbers(json, "nodes", r->node, N_MAX), n);
    assert_int_equal(toy_numbers(json, "weights", r->w, N_MAX), n);
    assert_int_equal(toy_numbers(json, "sum_ess", sum_ess, 2), 2);
    assert_int_equal(toy_numbers(json, "round", &r->round, 1), 1);
    r->resampled = toy_numbers(json, "ancestors", r->ancestor, N_MAX) == (size_t)n;
    r->has_z = toy_numbers(json, "log_z", &r->log_z, 1) == 1;
    r->sum = sum_ess[0];
    r->ess = sum_ess[1];
    return true;
}

static bool any_open(const struct round *r, int n)
{
    for (int i = 0; i < n; i++)
        if (toy_was(&t, (uint32_t)r->node[i], "open"))
            return true;
    return false;
}

/* What resampling made of r, in the next record. */
static void check_resampled(const struct round *r, const struct round *next, int n)
{
    bool has_copy[N_MAX] = {0};

    for (int i = 0; i < n; i++)
        has_copy[(int)next->ancestor[i]] = true;
    for (int i = 0; i < n; i++) {
        assert_true(next->node[i] == r->node[(int)next->ancestor[i]]);
        assert_true(!has_copy[i] || (int)next->ancestor[i] == i); /* who has one keeps the slot */
        assert_near(next->w[i], 1.0 / n);
    }
    for (int i = 0; i < n; i++)
        if (!has_copy[i] && toy_was(&t, (uint32_t)r->node[i], "open"))
            assert_string_equal(trial_node(&t, (uint32_t)r->node[i])->prune_reason, "resampled");
}

struct law { /* of the weights */
    double ess, tau, tau_end;
    int tau_rounds;
    bool ratio; /* of the lines' least rewards */
};

/* The least reward of a step on the way to the node; 1 of the prompt. */
static double least(toy_judge_fn judge, uint32_t id)
{
    double low = 1;

    for (; id != 0; id = (uint32_t)trial_node(&t, id)->parent)
        low = fmin(low, toy_value(&t, judge, id));
    return low;
}

static double likelihood(const struct law *law, toy_judge_fn judge, uint32_t id, double round)
{
    double tau = law->tau, r = toy_value(&t, judge, id);

    if (law->tau_rounds) {
        double done = fmin(1, (round - 1) / (law->tau_rounds - 1));

        tau = (1 - done) * law->tau + done * law->tau_end;
    }
    if (law->ratio)
        r = least(judge, id) / least(judge, (uint32_t)trial_node(&t, id)->parent);
    return pow(r, 1 / tau);
}

static void check_filter(int n, const struct law *law, toy_judge_fn judge, int *n_resampled)
{
    struct round prev = {.round = 0}, r, next;
    double log_z = 0;

    for (int i = 0; i < n; i++)
        prev.w[i] = 1.0 / n;
    for (size_t k = 0; read_round(k, n, &r); k++) {
        double sum = 0, w[N_MAX];

        for (int i = 0; i < n; i++) {
            bool moved = r.node[i] > prev.node[i] || r.node[i] < prev.node[i];
            double g = 1;

            if (moved) {
                assert_int_equal(trial_node(&t, (uint32_t)r.node[i])->parent, prev.node[i]);
                g = likelihood(law, judge, (uint32_t)r.node[i], r.round);
            } else { /* absorbed */
                assert_true(toy_was(&t, (uint32_t)r.node[i], "finished"));
            }
            w[i] = prev.w[i] * g;
            sum += w[i];
        }
        log_z += log(sum);
        assert_near(r.sum, sum);
        assert_true(r.has_z);
        assert_near(r.log_z, log_z);
        for (int i = 0; i < n; i++)
            assert_near(r.w[i], w[i] / sum);
        assert_near(r.ess, resample_ess(r.w, n));
        prev = r;
        if (read_round(k + 1, n, &next) && next.resampled) {
            assert_true(next.round >= r.round && next.round <= r.round);
            assert_true(any_open(&r, n) && (law->ess >= 1 || r.ess < law->ess * n));
            check_resampled(&r, &next, n);
            prev = next;
            ++*n_resampled;
            k++;
        } else {
            assert_true(!any_open(&r, n) || (law->ess < 1 && r.ess >= law->ess * n));
        }
    }
    assert_false(any_open(&prev, n));
}

/* The answer of greatest summed weight among the last population. */
static void check_weighted_answer(int n)
{
    struct round r, last = {.round = 0};
    double sum[10] = {0}, top = 0;

    for (size_t k = 0; read_round(k, n, &r); k++)
        last = r;
    for (int i = 0; i < n; i++)
        sum[strstr(trial_line(&t, (uint32_t)last.node[i]), "\\boxed{")[7] - '0'] += last.w[i];
    for (int a = 0; a < 10; a++)
        top = sum[a] > top ? sum[a] : top;
    assert_near(sum[t.result.key[0] - '0'], top);
}

static void every_weight_follows_from_the_tree(void **state)
{
    static const int sizes[] = {1, 2, 5, 8};
    static const char *const schemes[] = {"systematic", "stratified", "residual", "multinomial"};
    static const double ess[] = {.5, 1, 0}, tau[] = {1, .3, 4};
    int n_resampled = 0;

    (void)state;
    for (uint64_t seed = 0; seed < 5; seed++)
        for (int k = 0; k < 4; k++)
            for (int scheme = 0; scheme < 4; scheme++)
                for (int e = 0; e < 3; e++) {
                    char options[80];

                    snprintf(options, sizeof options, "samples=%d resample=%s ess=%g tau=%g",
                             sizes[k], schemes[scheme], ess[e], tau[seed % 3]);
                    toy_run(&t, "particle_filter", options, seed, toy_opinion);
                    check_filter(sizes[k], &(struct law){.ess = ess[e], .tau = tau[seed % 3]},
                                 toy_opinion, &n_resampled);
                    check_weighted_answer(sizes[k]);
                    trial_done(&t);
                }
    assert_true(n_resampled > 100);
}

static void ratios_telescope_and_tau_anneals(void **state)
{
    static const struct {
        const char *options;
        struct law law;
    } table[] = {
        {"samples=6 ess=1 likelihood=ratio aggregate=min", {.ess = 1, .tau = 1, .ratio = true}},
        {"samples=6 ess=0 likelihood=ratio aggregate=min tau=.5", {.tau = .5, .ratio = true}},
        {"samples=6 tau=4 tau_end=.25 tau_rounds=3",
         {.ess = .5, .tau = 4, .tau_end = .25, .tau_rounds = 3}},
        {"samples=6 tau=.5 tau_end=2 tau_rounds=2 likelihood=ratio aggregate=min",
         {.ess = .5, .tau = .5, .tau_end = 2, .tau_rounds = 2, .ratio = true}},
    };
    int n_resampled = 0;

    (void)state;
    for (size_t k = 0; k < sizeof table / sizeof *table; k++)
        for (uint64_t seed = 0; seed < 8; seed++) {
            struct round r = {.round = 0}, last = r;

            toy_run(&t, "particle_filter", table[k].options, seed, toy_opinion);
            check_filter(6, &table[k].law, toy_opinion, &n_resampled);
            for (size_t i = 0; read_round(i, 6, &r); i++)
                last = r;
            if (k == 1) { /* never resampled: weights are the lines' own rewards */
                double w[6], sum = 0;

                for (int i = 0; i < 6; i++)
                    sum += w[i] = pow(least(toy_opinion, (uint32_t)last.node[i]), 2);
                for (int i = 0; i < 6; i++)
                    assert_near(last.w[i], w[i] / sum);
            }
            trial_done(&t);
        }
    assert_true(n_resampled > 10);
}

/* A product's ratio is the step's reward. */
static void the_ratio_of_products_is_the_step(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 8; seed++) {
        int n_resampled = 0;

        toy_run(&t, "particle_filter", "samples=6 likelihood=ratio aggregate=prod", seed,
                toy_opinion);
        check_filter(6, &(struct law){.ess = .5, .tau = 1}, toy_opinion, &n_resampled);
        trial_done(&t);
    }
}

static void one_particle_is_a_plain_sample(void **state)
{
    static const char *const options[] = {"samples=1", "samples=1 ess=1", "samples=1 mode=puri",
                                          "samples=1 iterations=1", "samples=1 iterations=3"};

    (void)state;
    for (uint64_t seed = 0; seed < 8; seed++)
        for (int i = 0; i < 5; i++) {
            char line[160];

            toy_run(&t, "single", "", seed, toy_opinion);
            snprintf(line, sizeof line, "%s", trial_line(&t, 1));
            trial_done(&t);
            toy_run(&t, i < 3 ? "particle_filter" : "particle_gibbs", options[i], seed,
                    toy_opinion);
            assert_string_equal(trial_line(&t, (uint32_t)t.result.answer_node), line);
            for (uint32_t k = 1; k < t.result.trace.n_nodes; k++)
                assert_int_equal(trial_node(&t, k)->parent, k - 1);
            trial_done(&t);
        }
}

static void equal_weights_resample_nothing(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 8; seed++)
        for (int how = 0; how < 4; how++) {
            static const char *const options[] = {"", "ess=1", "ess=1 resample=stratified",
                                                  "ess=1 resample=residual"};
            char all[80];
            struct round r;
            size_t n_resampled = 0;

            snprintf(all, sizeof all, "samples=8 max_steps=2 %s",
                     options[how]); /* none is absorbed */
            toy_run(&t, "particle_filter", all, seed, toy_even);
            for (size_t k = 0; read_round(k, 8, &r); k++)
                for (int i = 0; i < 8 && r.resampled; i++, n_resampled++)
                    assert_int_equal(r.ancestor[i], i);
            assert_int_equal(n_resampled, how ? 8 : 0);
            trial_done(&t);
        }
}

/* ---- collapse ----------------------------------------------------------------------------------
 */

static const struct toy_step fails_once[] = {
    {"0", "\n\n"}, {"1", "\n\n"}, {"2", "5 a\n\n"}, {"3", "5 b\n\n"}, {"", "5 answer: 1"}, {0}};
static const struct toy_step fails[] = {{"", "\n\n"}, {0}};

static void a_collapse_redraws_the_step_once(void **state)
{
    struct round r;

    (void)state;
    toy_run_tree(&t, "particle_filter", "samples=2", fails_once);
    assert_int_equal(t.result.trace.n_nodes, 1 + 2 + 2 + 2);
    assert_true(read_round(0, 2, &r));
    assert_true(r.node[0] > 2 && !r.has_z); /* the estimate is 0 for good */
    assert_true(read_round(1, 2, &r) && !r.has_z);
    assert_string_equal(t.result.key, "1");
    trial_done(&t);
    toy_run_tree(&t, "particle_filter", "samples=2", fails);
    assert_int_equal(t.result.trace.n_nodes, 1 + 2 + 2);
    assert_string_equal(t.result.stopped_by, "no_candidates");
    trial_done(&t);
}

/* Particles that fail weigh nothing; the line of the others goes on. */
static void a_failed_particle_weighs_nothing(void **state)
{
    static const struct toy_step tree[] = {
        {"0", "\n\n"}, {"1", "9 a\n\n"}, {"2", "\n\n"}, {"", "1 answer: 2"}, {0}};
    struct round r;

    (void)state;
    toy_run_tree(&t, "particle_filter", "samples=3", tree);
    assert_true(read_round(0, 3, &r));
    assert_true(r.w[0] <= 0 && r.w[1] >= 1 && r.w[2] <= 0);
    assert_near(r.log_z, log(.3));
    assert_string_equal(t.result.key, "2");
    trial_done(&t);
}

static void iterations_end_when_a_filter_has_collapsed(void **state)
{
    (void)state;
    toy_run_tree(&t, "particle_gibbs", "samples=2 iterations=4", fails);
    assert_int_equal(t.result.trace.n_nodes, 1 + 2 + 2);
    assert_string_equal(t.result.stopped_by, "no_candidates");
    trial_done(&t);
    toy_run_tree(&t, "parallel_tempering", "samples=2 iterations=3 chains=3", fails);
    assert_string_equal(t.result.stopped_by, "no_candidates");
    trial_done(&t);
    toy_run_tree(&t, "particle_gibbs", "samples=2 iterations=3", fails_once);
    assert_string_equal(t.result.key, "1");
    trial_done(&t);
}

/* Rewards to a high power underflow; their ratios do not. */
static void small_temperatures_are_no_collapse(void **state)
{
    static const struct toy_step tree[] = {{"0", "1 a\n\n"},      {"1", "2 b\n\n"},
                                           {"00", "9 answer: 1"}, {"10", "9 answer: 2"},
                                           {"", "9 answer: 3"},   {0}};
    struct round r;

    (void)state;
    toy_run_tree(&t, "particle_filter", "samples=2 tau=0.002 ess=0", tree);
    assert_int_equal(t.result.trace.n_nodes, 1 + 2 + 2);
    assert_true(read_round(0, 2, &r));
    assert_near(r.w[1], 1);
    assert_near(r.log_z, log(.2) / .002 + log(.5));
    assert_string_equal(t.result.key, "2");
    trial_done(&t);
}

/* ---- mode=puri ---------------------------------------------------------------------------------
 */

static void puri_weighs_by_the_softmax_of_logits(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 8; seed++) {
        const char *json = NULL;
        uint32_t id = 1;

        toy_run(&t, "particle_filter", "samples=6 mode=puri tau=0.7", seed, toy_opinion);
        for (size_t k = 0; toy_decision(&t, "particles", k, &json); k++) {
            double w[N_MAX], want[N_MAX], sum = 0;
            size_t n = toy_numbers(json, "weights", w, N_MAX);

            for (size_t i = 0; i < n; i++) { /* of the particles that were open, in their slots */
                double v = toy_value(&t, toy_opinion, id + (uint32_t)i);

                want[i] = pow(v / (1 - v), 1 / .7);
                sum += want[i];
            }
            for (size_t i = 0; i < n; i++)
                assert_near(w[i], want[i] / sum);
            id += (uint32_t)n;
        }
        assert_int_equal(id, t.result.trace.n_nodes);
        trial_done(&t);
    }
}

static void argmax_takes_the_best_line(void **state)
{
    static const struct toy_step tree[] = {{"0", "2 answer: 1"},
                                           {"1", "8 answer: 2"},
                                           {"2", "7 answer: 1"},
                                           {"3", "7 answer: 1"},
                                           {0}};

    (void)state;
    toy_run_tree(&t, "particle_filter", "samples=4 select=argmax", tree);
    assert_string_equal(t.result.key, "2");
    trial_done(&t);
    toy_run_tree(&t, "particle_filter", "samples=4 select=weighted", tree);
    assert_string_equal(t.result.key, "1");
    trial_done(&t);
    toy_run_tree(&t, "particle_filter", "samples=4 select=sample", tree);
    assert_non_null(t.result.key);
    trial_done(&t);
}

/* ---- particle Gibbs ----------------------------------------------------------------------------
 */

static void slot_0_follows_the_reference(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 10; seed++) {
        const char *json = NULL;
        double path[16] = {0}, last = 1;
        size_t n_path = 0, iteration = 0;
        struct round r, next;

        toy_run(&t, "particle_gibbs", "samples=4 iterations=3", seed, toy_opinion);
        for (size_t k = 0; read_round(k, 4, &r); k++) {
            if (r.round < last) { /* the next iteration */
                assert_true(toy_decision(&t, "reference", iteration++, &json));
                n_path = toy_numbers(json, "path", path, 16);
            }
            last = r.round;
            if (!r.resampled && any_open(&r, 4)) /* in every round, whatever the weights */
                assert_true(read_round(k + 1, 4, &next) && next.resampled);
            if (!n_path)
                continue;
            assert_true(r.node[0] >= path[(size_t)r.round < n_path ? (size_t)r.round : n_path - 1]);
            assert_true(r.node[0] <= path[(size_t)r.round < n_path ? (size_t)r.round : n_path - 1]);
            if (r.resampled)
                assert_true(r.ancestor[0] <= 0);
        }
        assert_int_equal(iteration, 2);
        assert_true(toy_decision(&t, "reference", 2, &json));
        trial_done(&t);
    }
}

/* ---- parallel tempering ------------------------------------------------------------------------
 */

static double by_letter(const struct pd_str *steps, size_t k) /* e^-0.8 is .44932896… */
{
    return steps[k].ptr[0] == 'a' ? exp(-.8) : steps[k].ptr[0] == 'b' ? 1 : .3;
}

/* The probability with which a hot chain that holds x and a cold one that holds y swap. */
static double swap_probability(char x, char y, const char *hottest)
{
    char text[2][16], options[80];
    const char *lines[3] = {text[0], text[1], NULL};
    const char *json = NULL;
    double a_u[2];

    snprintf(text[0], sizeof text[0], "%c answer: 1", x);
    snprintf(text[1], sizeof text[1], "%c answer: 2", y);
    snprintf(options, sizeof options, "samples=1 chains=2 iterations=1 hottest=%s", hottest);
    toy_start(&t, "parallel_tempering", options, 1, by_letter);
    trial_script(&t, lines);
    assert_int_equal(trial_run(&t), 0);
    assert_string_equal(t.result.key, "2"); /* the cold chain answers */
    assert_true(toy_decision(&t, "swap", 0, &json));
    assert_int_equal(toy_numbers(json, "a_u", a_u, 2), 2);
    trial_done(&t);
    return a_u[0];
}

static void swaps_at_known_weights(void **state)
{
    static const char letters[] = "abc";

    (void)state;
    assert_near(swap_probability('a', 'b', "2"), .670320046); /* exp((1/2 - 1) 0.8) */
    assert_near(swap_probability('b', 'a', "2"), 1);          /* the colder holds the lower */
    for (int i = 0; i < 9; i++)
        assert_near(swap_probability(letters[i / 3], letters[i % 3], "1"), 1);
    for (int i = 0; i < 9; i++) { /* detailed balance of pi_hot(x) pi_cold(y), T = 3 and 1 */
        char x = letters[i / 3], y = letters[i % 3];
        double r[] = {exp(-.8), 1, .3}, gx = r[i / 3], gy = r[i % 3];

        assert_near(pow(gx, 1 / 3.) * gy * swap_probability(x, y, "3"),
                    pow(gy, 1 / 3.) * gx * swap_probability(y, x, "3"));
    }
}

static void a_swap_is_made_when_it_is_drawn(void **state)
{
    int made = 0, refused = 0;

    (void)state;
    for (uint64_t seed = 0; seed < 40; seed++) {
        static const char *const lines[] = {"a answer: 1", "b answer: 2", NULL};
        const char *json = NULL;
        double a_u[2];
        struct round hot, cold;

        toy_start(&t, "parallel_tempering", "samples=1 chains=2 iterations=2 hottest=2", seed,
                  by_letter);
        trial_script(&t, lines);
        assert_int_equal(trial_run(&t), 0);
        assert_int_equal(t.result.trace.n_nodes, 3); /* references are not generated again */
        assert_true(toy_decision(&t, "swap", 0, &json));
        toy_numbers(json, "a_u", a_u, 2);
        assert_true(read_round(2, 1, &hot) && read_round(3, 1, &cold)); /* of iteration 2 */
        assert_int_equal(hot.node[0], a_u[1] < a_u[0] ? 2 : 1);
        assert_int_equal(cold.node[0], a_u[1] < a_u[0] ? 1 : 2);
        made += a_u[1] < a_u[0];
        refused += a_u[1] >= a_u[0];
        trial_done(&t);
    }
    assert_true(made > 15 && refused > 3); /* .67 of 40 */
}

static void even_and_odd_pairs_swap_in_turn(void **state)
{
    static const int want[] = {0, 2, 1, 3, 0, 2};
    const char *json = NULL;

    (void)state;
    toy_run(&t, "parallel_tempering", "samples=2 chains=5 iterations=3", 1, toy_opinion);
    for (size_t i = 0; i < 6; i++) {
        double chain;

        assert_true(toy_decision(&t, "swap", i, &json));
        toy_numbers(json, "chain", &chain, 1);
        assert_int_equal(chain, want[i]);
    }
    assert_false(toy_decision(&t, "swap", 6, &json));
    trial_done(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_weight_follows_from_the_tree),
        cmocka_unit_test(ratios_telescope_and_tau_anneals),
        cmocka_unit_test(the_ratio_of_products_is_the_step),
        cmocka_unit_test(one_particle_is_a_plain_sample),
        cmocka_unit_test(equal_weights_resample_nothing),
        cmocka_unit_test(a_collapse_redraws_the_step_once),
        cmocka_unit_test(a_failed_particle_weighs_nothing),
        cmocka_unit_test(iterations_end_when_a_filter_has_collapsed),
        cmocka_unit_test(small_temperatures_are_no_collapse),
        cmocka_unit_test(puri_weighs_by_the_softmax_of_logits),
        cmocka_unit_test(argmax_takes_the_best_line),
        cmocka_unit_test(slot_0_follows_the_reference),
        cmocka_unit_test(swaps_at_known_weights),
        cmocka_unit_test(a_swap_is_made_when_it_is_drawn),
        cmocka_unit_test(even_and_odd_pairs_swap_in_turn),
    };

    alarm(300); /* a search that does not end fails, too */
    return cmocka_run_group_tests(tests, NULL, NULL);
}
