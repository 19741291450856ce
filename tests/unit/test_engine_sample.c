/* Drawing a token: bias and penalties against their definition, the likeliest tokens against a
 * sort; and what is not asked for changes nothing. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/rng.h"
#include "engine/sample.h"

#define N 300

static const struct eng_kernels *k;
static struct sample_scratch scratch;
static struct pd_err err;
static float logits[N];

/* In steps of 1/4, so that there are ties. */
static void make_logits(uint64_t seed)
{
    for (size_t i = 0; i < N; i++)
        logits[i] = (float)(int)(pd_rng_uniform(seed, i, 0) * 64) / 4.0f - 8.0f;
}

static struct sample_drawn draw(const float *x, float temperature, const struct eng_adjust *a,
                                const struct sample_counts *c, uint64_t key)
{
    const struct eng_sampling s = {temperature, 40, 0.95f, 0.01f};
    struct sample_drawn d;

    assert_int_equal(sample_token(k, x, N, &s, a, c, NULL, key, 7, &scratch, &d), 0);
    return d;
}

static void an_adjusted_draw_is_one_from_adjusted_logits(void **state)
{
    static const float temperatures[] = {0.0f, 0.7f, 1.0f};
    struct sample_count items[40];
    struct sample_counts counts = {items, 0};
    const struct pd_bias bias[] = {{3, 9.5f}, {17, -100.0f}, {299, 2.25f}};
    size_t n_other = 0;

    (void)state;
    for (uint64_t seed = 1; seed <= 60; seed++) {
        const struct eng_adjust a = {.presence = seed % 3 ? 0.75f : 0.0f,
                                     .frequency = seed % 2 ? 0.5f : -0.25f,
                                     .bias = bias,
                                     .n_bias = seed % 4 ? 3 : 0};
        float want[N];

        make_logits(seed);
        counts.n = 0;
        for (uint64_t i = 0; i < 40; i++)
            sample_count(&counts, (int32_t)(pd_rng_uniform(seed, i, 1) * 30));
        for (int32_t id = 0; id < N; id++) { /* the definition */
            uint32_t n = 0;

            want[id] = logits[id];
            for (size_t i = 0; i < a.n_bias; i++)
                want[id] += bias[i].token == id ? bias[i].bias : 0.0f;
            for (uint64_t i = 0; i < 40; i++)
                n += (int32_t)(pd_rng_uniform(seed, i, 1) * 30) == id;
            want[id] -= n ? a.presence + a.frequency * (float)n : 0.0f;
        }
        for (size_t t = 0; t < 3; t++) {
            struct sample_drawn d = draw(logits, temperatures[t], &a, &counts, seed);
            struct sample_drawn plain = draw(logits, temperatures[t], NULL, NULL, seed);

            assert_int_equal(d.id, draw(want, temperatures[t], NULL, NULL, seed).id);
            n_other += d.id != plain.id;
            /* the log-probability is the model's, whatever was adjusted */
            assert_true(d.max >= plain.max && d.max <= plain.max);
            assert_true(d.logprob >= (logits[d.id] - plain.max) - plain.log_sum &&
                        d.logprob <= (logits[d.id] - plain.max) - plain.log_sum);
        }
    }
    assert_true(n_other > 20);
}

static void nothing_to_adjust_changes_nothing(void **state)
{
    const struct eng_adjust nothing = {0};
    const struct sample_counts none = {NULL, 0};

    (void)state;
    for (uint64_t seed = 1; seed <= 60; seed++) {
        struct sample_drawn a, b;

        make_logits(seed);
        a = draw(logits, 0.8f, NULL, NULL, seed);
        b = draw(logits, 0.8f, &nothing, &none, seed);
        assert_int_equal(a.id, b.id);
        assert_memory_equal(&a, &b, sizeof a);
    }
}

static int by_logit(const void *a, const void *b)
{
    int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;

    if (logits[x] > logits[y])
        return -1;
    return logits[x] < logits[y] ? 1 : x - y;
}

static void the_likeliest_are_those_of_a_sort(void **state)
{
    int32_t order[N], ids[ENG_MAX_TOP];
    float logprobs[ENG_MAX_TOP];

    (void)state;
    for (uint64_t seed = 1; seed <= 30; seed++) {
        struct sample_drawn d;

        make_logits(seed);
        for (int32_t i = 0; i < N; i++)
            order[i] = i;
        qsort(order, N, sizeof *order, by_logit);
        d = draw(logits, 0.0f, NULL, NULL, seed);
        for (size_t n = 1; n <= ENG_MAX_TOP; n++) {
            sample_top(logits, N, &d, n, ids, logprobs);
            assert_memory_equal(ids, order, n * sizeof *ids);
            assert_int_equal(ids[0], d.id); /* greedy, ties to the lowest id */
            assert_memory_equal(&logprobs[0], &d.logprob, sizeof(float));
            for (size_t i = 1; i < n; i++)
                assert_true(logprobs[i] <= logprobs[i - 1]);
        }
    }
}

static void what_makes_no_sense_is_refused(void **state)
{
    const struct pd_bias outside = {N, 1.0f}, negative = {-1, 1.0f}, endless = {1, HUGE_VALF};
    const int32_t unknown = N;
    const struct eng_adjust bad[] = {
        {.presence = NAN},
        {.frequency = HUGE_VALF},
        {.bias = &outside, .n_bias = 1},
        {.bias = &negative, .n_bias = 1},
        {.bias = &endless, .n_bias = 1},
        {.seen = &unknown, .n_seen = 1},
    };

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(sample_check_adjust(&bad[i], N, &err), PD_EINVAL);
    assert_int_equal(sample_check_adjust(&(struct eng_adjust){0}, N, &err), 0);
}

static int set_up(void **state)
{
    (void)state;
    k = eng_kernels(ENG_ISA_SCALAR);
    return sample_scratch_init(&scratch, N);
}

static int tear_down(void **state)
{
    (void)state;
    sample_scratch_done(&scratch);
    return 0;
}

/* The token that a uniform number picks among those that are allowed, by enumeration; -1: it is too
 * near to the border between two. */
static int32_t enumerate(const uint64_t *allowed, double temperature, double u)
{
    double total = 0, sum = 0, max = -1e30;
    int32_t id = -1;

    for (size_t i = 0; i < N; i++)
        if (allowed[i / 64] >> (i % 64) & 1)
            max = (double)logits[i] > max ? (double)logits[i] : max;
    for (int pass = 0; pass < 2; pass++)
        for (int32_t i = 0; i < N && id < 0; i++) {
            double w = exp(((double)logits[i] - max) / temperature);

            if (!(allowed[i / 64] >> (i % 64) & 1))
                continue;
            if (pass == 0)
                total += w;
            else if (u * total < (sum += w))
                id = u * total > sum - 1e-5 * total || u * total < sum - w + 1e-5 * total ? N : i;
        }
    return id == N ? -1 : id;
}

static void a_masked_draw_is_one_of_the_renormalised_distribution(void **state)
{
    static const float temperatures[] = {0.5f, 1.0f, 1.7f};
    const struct sample_counts none = {0};
    size_t n_checked = 0;

    (void)state;
    for (uint64_t seed = 1; seed <= 2000; seed++) {
        const struct eng_sampling s = {temperatures[seed % 3], 0, 1.0f, 0.0f},
                                  greedy = {0.0f, 0, 1.0f, 0.0f};
        uint64_t allowed[(N + 63) / 64] = {0};
        struct sample_drawn d;
        int32_t want;

        make_logits(seed);
        for (size_t i = 0; i < N; i++) /* from a few to all */
            if (pd_rng_uniform(seed, i, 1) < (double)(seed % 40) / 39 || i == seed % N)
                allowed[i / 64] |= UINT64_C(1) << (i % 64);
        assert_int_equal(
            sample_token(k, logits, N, &s, NULL, &none, allowed, seed, 7, &scratch, &d), 0);
        assert_true(allowed[d.id / 64] >> (d.id % 64) & 1);
        want = enumerate(allowed, (double)s.temperature, pd_rng_uniform(seed, 7, 0));
        if (want >= 0) {
            assert_int_equal(d.id, want);
            n_checked++;
        }
        assert_int_equal(
            sample_token(k, logits, N, &greedy, NULL, &none, allowed, seed, 7, &scratch, &d), 0);
        for (int32_t i = 0; i < N; i++)
            if (allowed[i / 64] >> (i % 64) & 1)
                assert_true(logits[i] < logits[d.id] || (logits[i] <= logits[d.id] && i >= d.id));
        assert_true(allowed[d.id / 64] >> (d.id % 64) & 1);
    }
    assert_true(n_checked > 1900);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_adjusted_draw_is_one_from_adjusted_logits),
        cmocka_unit_test(nothing_to_adjust_changes_nothing),
        cmocka_unit_test(the_likeliest_are_those_of_a_sort),
        cmocka_unit_test(what_makes_no_sense_is_refused),
        cmocka_unit_test(a_masked_draw_is_one_of_the_renormalised_distribution),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
