/* Philox4x32-10 in the symbols of Salmon, Moraes, Dror, Shaw, "Parallel Random Numbers: As Easy as
 * 1, 2, 3", SC 2011: M are the round multipliers, W the Weyl constants that step the key. */
#include "base/rng.h"

#define M0     UINT32_C(0xD2511F53)
#define M1     UINT32_C(0xCD9E8D57)
#define W0     UINT32_C(0x9E3779B9) /* golden ratio */
#define W1     UINT32_C(0xBB67AE85) /* sqrt(3) - 1 */
#define ROUNDS 10

void pd_philox4x32_10(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4])
{
    uint32_t c0 = counter[0], c1 = counter[1], c2 = counter[2], c3 = counter[3];
    uint32_t k0 = key[0], k1 = key[1];

    for (int round = 0; round < ROUNDS; round++) {
        uint64_t p0 = (uint64_t)M0 * c0;
        uint64_t p1 = (uint64_t)M1 * c2;

        c0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0;
        c1 = (uint32_t)p1;
        c2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
        c3 = (uint32_t)p0;
        k0 += W0;
        k1 += W1;
    }
    out[0] = c0;
    out[1] = c1;
    out[2] = c2;
    out[3] = c3;
}

double pd_rng_uniform(uint64_t key, uint64_t counter, uint32_t stream)
{
    const uint32_t c[4] = {(uint32_t)counter, (uint32_t)(counter >> 32), stream, 0};
    const uint32_t k[2] = {(uint32_t)key, (uint32_t)(key >> 32)};
    uint32_t out[4];

    pd_philox4x32_10(c, k, out);
    /* 27 high bits and 26 low bits: an exact integer below 2^53, so the product is exact too. */
    return ((double)(out[0] >> 5) * 0x1p26 + (double)(out[1] >> 6)) * 0x1p-53;
}
