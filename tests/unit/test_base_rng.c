#include "base/rng.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

/* The vectors that the authors publish with their code (kat_vectors, philox4x32 10). */
static void known_answers(void **state)
{
    static const struct {
        uint32_t counter[4], key[2], want[4];
    } cases[] = {
        {{0, 0, 0, 0}, {0, 0}, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
        {{0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff},
         {0xffffffff, 0xffffffff},
         {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
        {{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
         {0xa4093822, 0x299f31d0},
         {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        uint32_t out[4];

        pd_philox4x32_10(cases[i].counter, cases[i].key, out);
        assert_memory_equal(out, cases[i].want, sizeof(out));
    }
}

/* Numbers are part of every stored result: which word goes where must never change. */
static void uniform_uses_the_documented_words(void **state)
{
    const uint32_t counter[4] = {0x89abcdef, 0x01234567, 5, 0}, key[2] = {0x76543210, 0xfedcba98};
    uint32_t out[4];
    double want;

    (void)state;
    pd_philox4x32_10(counter, key, out);
    want = (double)((uint64_t)(out[0] >> 5) << 26 | out[1] >> 6) / 9007199254740992.0;
    assert_true(pd_rng_uniform(0xfedcba9876543210, 0x0123456789abcdef, 5) == want);
    want = (double)((uint64_t)(0x6627e8d5 >> 5) << 26 | 0xe169c58d >> 6) / 9007199254740992.0;
    assert_true(pd_rng_uniform(0, 0, 0) == want);
}

static void uniform_fills_the_unit_interval(void **state)
{
    unsigned bins[10] = {0};
    double sum = 0;

    (void)state;
    for (uint64_t i = 0; i < 100000; i++) {
        double u = pd_rng_uniform(42, i, 0);

        assert_true(u >= 0 && u < 1);
        bins[(int)(u * 10)]++;
        sum += u;
    }
    assert_true(sum / 100000 > 0.495 && sum / 100000 < 0.505);
    for (int i = 0; i < 10; i++)
        assert_in_range(bins[i], 9600, 10400);
    assert_true(pd_rng_uniform(42, 0, 0) != pd_rng_uniform(42, 0, 1));
    assert_true(pd_rng_uniform(42, 0, 0) != pd_rng_uniform(43, 0, 0));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(known_answers),
        cmocka_unit_test(uniform_uses_the_documented_words),
        cmocka_unit_test(uniform_fills_the_unit_interval),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
