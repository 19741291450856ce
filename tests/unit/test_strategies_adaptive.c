/* How many lanes are enough: adaptive_consistency and early_stopping_consistency on scripted
 * answers, by exact enumeration where that is small enough; and mbr (§2.4). */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "tests/support/toy.h"

#define MANY 40

static struct trial t;

/* A lane for each character: its answer, or none for '-'. */
static const char *const *say(const char *answers)
{
    static char text[MANY][16];
    static const char *lines[MANY + 2];
    int n = 0;

    for (; answers[n]; n++) {
        assert_true(n < MANY);
        snprintf(text[n], sizeof text[n], answers[n] == '-' ? "no idea" : "answer:%c", answers[n]);
        lines[n] = text[n];
    }
    lines[n] = "one lane too many, answer: 9";
    lines[n + 1] = NULL;
    return lines;
}

static void run(const char *strategy, const char *options, const char *answers)
{
    trial_init(&t, pd_strategy_find(strategy), options);
    trial_script(&t, say(answers));
    if (trial_run(&t) < 0)
        fail_msg("%s %s on %s: %s", strategy, options, answers, t.err.text);
}

static size_t lanes_drawn(void)
{
    return t.result.trace.n_nodes - 1;
}

static void assert_drawn(const char *strategy, const char *options, const char *answers, size_t n,
                         const char *key)
{
    run(strategy, options, answers);
    if (lanes_drawn() != n || strcmp(t.result.key ? t.result.key : "none", key) != 0)
        fail_msg("%s %s on %s: %s after %zu lanes, not %s after %zu", strategy, options, answers,
                 t.result.key ? t.result.key : "none", lanes_drawn(), key, n);
    trial_done(&t);
}

static size_t trail(double *out)
{
    const char *json = NULL;

    assert_true(toy_decision(&t, "safety", 0, &json));
    return toy_numbers(json, "after_each", out, MANY);
}

static uint64_t rnd(uint64_t *x)
{
    *x = *x * 6364136223846793005u + 1442695040888963407u;
    return *x >> 33;
}

/* n answers of the law p1, p2, rest '3', now and then none. */
static const char *draw(uint64_t *x, size_t n, double p1, double p2, double empty)
{
    static char answers[MANY + 1];

    for (size_t i = 0; i < n; i++) {
        double u = (double)(rnd(x) % 1000000) / 1e6, v = (double)(rnd(x) % 1000000) / 1e6;

        answers[i] = v < empty ? '-' : u < p1 ? '1' : u < p1 + p2 ? '2' : '3';
    }
    answers[n] = '\0';
    return answers;
}

/* ---- adaptive_consistency ----------------------------------------------------------------------
 */

/* 2^-(a+b+1) * the sum over j <= a of C(a+b+1, j), in whole numbers. */
static double beta(int a, int b)
{
    uint64_t c[MANY + 2] = {1}, sum = 0;
    int n = a + b + 1;

    for (int i = 1; i <= n; i++)
        for (int j = i; j > 0; j--)
            c[j] += c[j - 1];
    for (int j = 0; j <= a; j++)
        sum += c[j];
    return ldexp((double)sum, -n);
}

static void beta_is_the_exact_sum(void **state)
{
    static const struct {
        int a, b;
        double p;
    } table[] = {{3, 0, .9375},   {4, 0, .96875},  {5, 1, .9375},  {6, 1, .964844},
                 {7, 1, .980469}, {7, 2, .945313}, {8, 2, .967285}};

    (void)state;
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        assert_true(fabs(beta(table[i].a, table[i].b) - table[i].p) < 1e-6);
    for (int b = 0; b <= MANY / 2; b++) { /* b of one answer, then 40 - b of another */
        char answers[MANY + 1];
        double p[MANY];

        for (int i = 0; i < MANY; i++)
            answers[i] = i < b ? '2' : '1';
        answers[MANY] = '\0';
        run("adaptive_consistency", "threshold=2", answers);
        assert_int_equal(trail(p), MANY);
        for (int i = 0; i < MANY; i++) {
            int twos = i < b ? i + 1 : b, ones = i + 1 - twos;
            double want = ones > twos ? beta(ones, twos) : beta(twos, ones);

            if (fabs(p[i] - want) > 0) /* bit for bit */
                fail_msg("%d against %d: %.17g, not %.17g", ones, twos, p[i], want);
        }
        trial_done(&t);
    }
}

static void a_unanimous_run_stops_at_four(void **state)
{
    (void)state;
    assert_drawn("adaptive_consistency", "", "1111111111", 4, "1");
    assert_drawn("adaptive_consistency", "threshold=0.9375", "1111111111", 3, "1");
    assert_drawn("adaptive_consistency", "", "12222222", 7, "2"); /* (6,1) is safe, (5,1) is not */
    assert_drawn("adaptive_consistency", "", "1122222222", 10, "2"); /* (8,2), (7,2) */
    assert_drawn("adaptive_consistency", "", "-1--1-11", 8, "1");    /* empty ones do not count */
    assert_drawn("adaptive_consistency", "samples=5", "12121", 5, "1");
    assert_drawn("adaptive_consistency", "samples=3", "---", 3, "none");
}

static void other_criteria_stop_where_they_say(void **state)
{
    (void)state;
    /* the leader's share, of two answers at least */
    assert_drawn("adaptive_consistency", "criterion=majority threshold=0.8", "1112111", 5, "1");
    assert_drawn("adaptive_consistency", "criterion=majority threshold=0.8 samples=9", "111111111",
                 9, "1");
    /* entropy: H(4,1) = .7219 <= .75 < H(3,1) = .8113; alone, an answer is padded by one */
    assert_drawn("adaptive_consistency", "criterion=entropy threshold=0.25", "1111111", 4, "1");
    assert_drawn("adaptive_consistency", "criterion=entropy threshold=0.25", "1211111", 5, "1");
    assert_drawn("adaptive_consistency", "criterion=entropy threshold=0.25 samples=8", "11221122",
                 8, "1");
    assert_drawn("adaptive_consistency", "criterion=entropy threshold=0", "1111", 2, "1");
    assert_drawn("adaptive_consistency", "criterion=majority threshold=0", "1112", 4, "1");
}

/* P(the first is the last to fill up | any that is not full is the next to get one): the same law,
 * as the race between Poisson processes. */
static double race(int *room, int n)
{
    double sum = 0;
    int live = 0;

    for (int i = 0; i < n; i++)
        live += room[i] > 0;
    if (room[0] == 0 || live == 1)
        return room[0] > 0;
    for (int i = 0; i < n; i++)
        if (room[i] > 0) {
            room[i]--;
            sum += race(room, n);
            room[i]++;
        }
    return sum / live;
}

static void dirichlet_is_the_race_of_the_largest_counts(void **state)
{
    static const struct {
        const char *answers;
        int n, room[5];
    } table[] = {{"1111", 2, {5, 1}},
                 {"1112", 2, {4, 2}},
                 {"11123", 3, {4, 2, 2}},
                 {"132413211", 4, {5, 3, 3, 2}},
                 {"1234561", 5, {3, 2, 2, 2, 2}}}; /* the sixth answer is left out */

    (void)state;
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        const char *answers = table[i].answers;
        int room[5], drawn = (int)strlen(answers);
        double p[MANY], want;
        char options[64];

        memcpy(room, table[i].room, sizeof room);
        want = race(room, table[i].n);
        snprintf(options, sizeof options, "criterion=dirichlet threshold=2 samples=%d", drawn);
        run("adaptive_consistency", options, answers);
        assert_int_equal(trail(p), drawn);
        if (fabs(p[drawn - 1] - want) > 1e-9)
            fail_msg("%s: %.12g, not %.12g", answers, p[drawn - 1], want);
        trial_done(&t);
    }
    assert_drawn("adaptive_consistency", "criterion=dirichlet", "1111111", 4, "1");
}

static void random_is_a_coin(void **state)
{
    double p[MANY];

    (void)state;
    run("adaptive_consistency", "criterion=random threshold=2 samples=40",
        "1111111111111111111111111111111111111111");
    assert_int_equal(trail(p), MANY);
    for (int i = 0; i < MANY; i++)
        assert_true(p[i] >= 0 && p[i] < 1 && (i == 0 || p[i] != p[i - 1]));
    trial_done(&t);
    assert_drawn("adaptive_consistency", "criterion=random threshold=0", "12345", 1, "1");
}

static void an_unreachable_threshold_is_self_consistency(void **state)
{
    uint64_t x = 1;

    (void)state;
    for (int i = 0; i < 40; i++) {
        const char *answers = draw(&x, MANY, .4, .4, i % 2 * .3);
        char key[8];
        int64_t node;

        run("self_consistency", "samples=40", answers);
        snprintf(key, sizeof key, "%s", t.result.key);
        node = t.result.answer_node;
        trial_done(&t);
        run("adaptive_consistency", i % 3 ? "threshold=2" : "threshold=2 chunk=7", answers);
        assert_int_equal(lanes_drawn(), MANY);
        assert_string_equal(t.result.key, key);
        assert_int_equal(t.result.answer_node, node);
        trial_done(&t);
    }
}

static void it_stops_at_the_first_safe_lane_whatever_the_chunk(void **state)
{
    uint64_t x = 2;

    (void)state;
    for (int i = 0; i < 60; i++) {
        const char *answers = draw(&x, MANY, .6, .3, i % 2 * .2);
        int count[3] = {0}, n = 0, top = 0;
        double p[MANY];
        bool safe = false;

        for (; n < MANY && !safe; n++) {
            int a = 0, b = 0;

            if (answers[n] != '-')
                count[answers[n] - '1']++;
            for (int k = 0; k < 3; k++) {
                b = count[k] > a ? a : count[k] > b ? count[k] : b;
                a = count[k] > a ? count[k] : a;
            }
            safe = a > 0 && beta(a, b) >= .95;
            top = a;
        }
        for (int chunk = 1; chunk < 9; chunk += 3) {
            char options[32];
            size_t drawn = (size_t)((n + chunk - 1) / chunk * chunk);

            snprintf(options, sizeof options, "chunk=%d", chunk);
            run("adaptive_consistency", options, answers);
            assert_int_equal(trail(p), n);
            assert_int_equal(lanes_drawn(), drawn < MANY ? drawn : MANY);
            if (safe) /* the leader, and none beside it, has as many */
                assert_int_equal(count[t.result.key[0] - '1'], top);
            trial_done(&t);
        }
    }
}

/* ---- early_stopping_consistency ----------------------------------------------------------------
 */

static double expected(const double *p, int n_answers, int w, int l)
{
    double q = 0;

    for (int i = 0; i < n_answers; i++)
        q += pow(p[i], w);
    return q > 0 ? w * (1 - pow(1 - q, l / w)) / q : l;
}

static void mean_samples_by_enumeration(void **state)
{
    static const struct {
        int w, l, n;
        double p[3];
    } cases[] = {{2, 8, 2, {.8, .2}},     {2, 8, 2, {.5, .5}}, {3, 9, 2, {.8, .2}},
                 {4, 8, 2, {.7, .3}},     {1, 6, 2, {.6, .4}}, {2, 4, 3, {.5, .3, .2}},
                 {2, 6, 3, {.4, .3, .3}}, {2, 6, 2, {1, 0}}};

    (void)state;
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        int w = cases[c].w, l = cases[c].l, n = cases[c].n, total = 1;
        double mean = 0;
        char options[32];

        snprintf(options, sizeof options, "window=%d samples=%d", w, l);
        for (int i = 0; i < l; i++)
            total *= n;
        for (int x = 0; x < total; x++) {
            char answers[MANY + 1] = "";
            double p = 1;

            for (int i = 0, y = x; i < l; i++, y /= n) {
                answers[i] = (char)('1' + y % n);
                p *= cases[c].p[y % n];
            }
            run("early_stopping_consistency", options, answers);
            mean += p * (double)lanes_drawn();
            trial_done(&t);
        }
        if (fabs(mean - expected(cases[c].p, n, w, l)) > 1e-9)
            fail_msg("case %d: %.9g samples, not %.9g", (int)c, mean,
                     expected(cases[c].p, n, w, l));
    }
}

static void mean_samples_of_the_paper(void **state)
{
    static const struct {
        double p[2], mean;
    } cases[] = {{{.8, .2}, 14.609959}, {{.5, .5}, 32.262442}, {{1, 0}, 5}};
    uint64_t x = 3;

    (void)state;
    for (size_t c = 0; c < 3; c++) {
        double sum = 0, squares = 0, n = 250, mean, sigma;

        assert_true(fabs(expected(cases[c].p, 2, 5, MANY) - cases[c].mean) < 1e-6);
        for (int i = 0; i < (int)n; i++) {
            double drawn;

            run("early_stopping_consistency", "", draw(&x, MANY, cases[c].p[0], cases[c].p[1], 0));
            drawn = (double)lanes_drawn();
            sum += drawn;
            squares += drawn * drawn;
            trial_done(&t);
        }
        mean = sum / n;
        sigma = sqrt((squares / n - mean * mean) / n);
        if (fabs(mean - cases[c].mean) > 4 * sigma)
            fail_msg("%.3f samples, not %.3f (sigma %.3f)", mean, cases[c].mean, sigma);
    }
}

static void a_window_of_all_is_self_consistency(void **state)
{
    uint64_t x = 4;

    (void)state;
    for (int i = 0; i < 60; i++) {
        const char *answers = draw(&x, 6, .5, .3, i % 2 * .3);
        char key[8];
        int64_t node;

        run("self_consistency", "samples=6", answers);
        snprintf(key, sizeof key, "%s", t.result.key ? t.result.key : "none");
        node = t.result.answer_node;
        trial_done(&t);
        run("early_stopping_consistency", i % 3 ? "samples=6 window=6" : "samples=6 window=9",
            answers);
        assert_int_equal(lanes_drawn(), 6);
        assert_int_equal(t.result.answer_node, node);
        assert_string_equal(t.result.key ? t.result.key : "none", key);
        trial_done(&t);
    }
}

static void only_a_whole_window_that_agrees_stops(void **state)
{
    static const char *const esc = "early_stopping_consistency";

    (void)state;
    assert_drawn(esc, "window=1", "21111", 1, "2");
    assert_drawn(esc, "window=1", "-2111", 2, "2"); /* an empty answer is no agreement */
    assert_drawn(esc, "window=3 samples=9", "112222111", 6, "2");
    assert_drawn(esc, "window=3 samples=9", "1-1---122", 9,
                 "1"); /* majority of all; a tie: first */
    assert_drawn(esc, "window=3 samples=9", "---111---", 6, "1");
    assert_drawn(esc, "window=3 samples=8", "12112133", 8, "1"); /* the short one stops nothing */
    assert_drawn(esc, "window=2 samples=8", "13322323", 8, "3"); /* of all, not of a window */
    assert_drawn(esc, "window=2 samples=5", "12131", 5, "1");
    assert_drawn(esc, "window=4 samples=4", "----", 4, "none");
}

/* ---- mbr ---------------------------------------------------------------------------------------
 */

static void mbr_by_answers_is_a_majority(void **state)
{
    uint64_t x = 5;

    (void)state;
    for (int i = 0; i < 80; i++) {
        const char *answers = draw(&x, 7, .4, .3, i % 2 * .4);
        int64_t node;

        run("self_consistency", "samples=7", answers);
        node = t.result.answer_node;
        trial_done(&t);
        run("mbr", "samples=7", answers);
        assert_int_equal(t.result.answer_node, node);
        trial_done(&t);
    }
    run("mbr", "samples=1", "2");
    assert_string_equal(t.result.key, "2");
    trial_done(&t);
}

static void assert_utility(const char *options, const char *const *lines, const double *want,
                           size_t n, int64_t node)
{
    const char *json = NULL;
    double got[8];

    trial_init(&t, pd_strategy_find("mbr"), options);
    trial_script(&t, lines);
    assert_int_equal(trial_run(&t), 0);
    assert_true(toy_decision(&t, "utility", 0, &json));
    assert_int_equal(toy_numbers(json, "mean", got, 8), n);
    for (size_t i = 0; i < n; i++)
        if (fabs(got[i] - want[i]) > 1e-12)
            fail_msg("%s: line %zu: %.9g, not %.9g", options, i, got[i], want[i]);
    assert_int_equal(t.result.answer_node, node);
    trial_done(&t);
}

static void mbr_by_texts_at_hand_computed_overlaps(void **state)
{
    static const char *const words[] = {"red  fox answer: 1", "no answer", "red dog answer: 2",
                                        "a b c answer: 1", NULL};
    static const char *const twice[] = {"go go answer: 1", "go answer: 2", NULL};
    static const char *const chars[] = {"\\boxed{1}", "\\boxed{2}", NULL};
    static const char *const longer[] = {"\\boxed{1}", "x\\boxed{1}", NULL};
    /* lines 1, 3 and 4: F1(1,3) = 2/4, F1(1,4) = 2*2/(4+5), F1(3,4) = 2*1/(4+5) */
    double f1[] = {(.5 + 4 / 9.) / 2, (.5 + 2 / 9.) / 2, (4 / 9. + 2 / 9.) / 2};
    double bag[] = {2 * 2 / 7., 2 * 2 / 7.}; /* "go" and "answer:" are shared once each */
    double same = (8 / 9. + 6 / 8. + 5 / 7. + 4 / 6. + 3 / 5. + 2 / 4.) / 6;
    double chrf[] = {same, same}, recall[2] = {0};

    (void)state;
    for (int k = 4; k <= 9; k++) { /* k groups of characters against k + 1; beta = 2 */
        double r = k / (k + 1.);

        recall[0] += 5 * 1 * r / (4 * 1 + r) / 6;
        recall[1] += 5 * r * 1 / (4 * r + 1) / 6;
    }
    assert_utility("samples=4 utility=f1", words, f1, 3, 1);
    assert_utility("samples=2 utility=f1", twice, bag, 2, 1);
    assert_utility("samples=2 utility=chrf", chars, chrf, 2, 1);
    assert_utility("samples=2 utility=chrf", longer, recall, 2, 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(beta_is_the_exact_sum),
        cmocka_unit_test(a_unanimous_run_stops_at_four),
        cmocka_unit_test(other_criteria_stop_where_they_say),
        cmocka_unit_test(dirichlet_is_the_race_of_the_largest_counts),
        cmocka_unit_test(random_is_a_coin),
        cmocka_unit_test(an_unreachable_threshold_is_self_consistency),
        cmocka_unit_test(it_stops_at_the_first_safe_lane_whatever_the_chunk),
        cmocka_unit_test(mean_samples_by_enumeration),
        cmocka_unit_test(mean_samples_of_the_paper),
        cmocka_unit_test(a_window_of_all_is_self_consistency),
        cmocka_unit_test(only_a_whole_window_that_agrees_stops),
        cmocka_unit_test(mbr_by_answers_is_a_majority),
        cmocka_unit_test(mbr_by_texts_at_hand_computed_overlaps),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
