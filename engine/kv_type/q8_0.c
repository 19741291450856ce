/* KV as Q8_0: blocks of 32 along head_dim, a binary16 scale each; q = nearest-even(x / scale) as
 * activations are quantised. K and V keep F32's order of elements; the scales stand behind, in the
 * order of their blocks: K q [head_dim][ENG_PAGE], V q [ENG_PAGE][head_dim], K scales
 * [head_dim / 32][ENG_PAGE], V scales [ENG_PAGE][head_dim / 32]. scale * q has 19 bits, so its
 * float is exact. Any thread; no state. */
#include "engine/kv_type_int.h"

#include <math.h>
#include <string.h>

#include "engine/math_int.h"
#include "engine/simd_int.h"

#define BLOCK ENG_Q8_BLOCK

static size_t bytes(size_t head_dim)
{
    size_t n = 2 * head_dim * ENG_PAGE;

    return (n + n / BLOCK * sizeof(uint16_t) + 63) / 64 * 64;
}

static void put(const struct eng_kernels *kernels, void *kv, size_t at, const float *k,
                const float *v, size_t head_dim)
{
    int8_t *qk = kv, *qv = qk + head_dim * ENG_PAGE;
    uint16_t *dk = (uint16_t *)(void *)(qv + head_dim * ENG_PAGE), *dv = dk + head_dim;

    for (size_t b = 0; b < head_dim / BLOCK; b++) {
        int8_t q[BLOCK];
        float d;
        int16_t sums[2];

        kernels->quantize_q8(k + b * BLOCK, BLOCK, q, &d, sums);
        dk[b * ENG_PAGE + at] = eng_f32_to_f16(d);
        for (size_t i = 0; i < BLOCK; i++)
            qk[(b * BLOCK + i) * ENG_PAGE + at] = q[i];
        kernels->quantize_q8(v + b * BLOCK, BLOCK, qv + at * head_dim + b * BLOCK, &d, sums);
        dv[at * (head_dim / BLOCK) + b] = eng_f32_to_f16(d);
    }
}

static void get_scalar(const void *kv, size_t head_dim, float *out)
{
    const int8_t *qk = kv, *qv = qk + head_dim * ENG_PAGE;
    const uint16_t *dk = (const uint16_t *)(const void *)(qv + head_dim * ENG_PAGE);
    const uint16_t *dv = dk + head_dim;

    for (size_t d = 0; d < head_dim; d++)
        for (size_t t = 0; t < ENG_PAGE; t++)
            *out++ = eng_f16_to_f32(dk[d / BLOCK * ENG_PAGE + t]) * (float)qk[d * ENG_PAGE + t];
    for (size_t i = 0; i < ENG_PAGE * head_dim; i++)
        *out++ = eng_f16_to_f32(dv[i / BLOCK]) * (float)qv[i];
}

#ifdef ENG_X86
/* K: the 32 positions of a block share nothing but the load of their scales; V: 32 elements of a
 * position share one scale. */
#define DEF_GET(tgt)                                                                               \
    tgt static void V(get)(const void *kv, size_t head_dim, float *out)                            \
    {                                                                                              \
        const int8_t *qk = kv, *qv = qk + head_dim * ENG_PAGE;                                     \
        const uint16_t *dk = (const uint16_t *)(const void *)(qv + head_dim * ENG_PAGE);           \
        const uint16_t *dv = dk + head_dim;                                                        \
                                                                                                   \
        for (size_t b = 0; b < head_dim / BLOCK; b++) {                                            \
            VT d0 = V(loadh)(dk + b * ENG_PAGE), d1 = V(loadh)(dk + b * ENG_PAGE + 16);            \
                                                                                                   \
            for (size_t i = 0; i < BLOCK; i++, qk += ENG_PAGE, out += ENG_PAGE) {                  \
                V(store)(out, V(mul)(d0, V(loadi8)(qk)));                                          \
                V(store)(out + 16, V(mul)(d1, V(loadi8)(qk + 16)));                                \
            }                                                                                      \
        }                                                                                          \
        for (size_t b = 0; b < head_dim; b++, qv += BLOCK, out += BLOCK) {                         \
            VT d = V(set1)(_cvtsh_ss(dv[b]));                                                      \
                                                                                                   \
            V(store)(out, V(mul)(d, V(loadi8)(qv)));                                               \
            V(store)(out + 16, V(mul)(d, V(loadi8)(qv + 16)));                                     \
        }                                                                                          \
    }

#define V(x) a2_##x
#define VT   struct a2_v
DEF_GET(ENG_TGT_AVX2)
#undef V
#undef VT

#define V(x) a5_##x
#define VT   struct a5_v
DEF_GET(ENG_TGT_AVX512)
#else
#define a2_get get_scalar
#define a5_get get_scalar
#endif

const struct eng_kv_type eng_kv_q8_0 = {
    .name = "q8_0",
    .dim_multiple = BLOCK,
    .bytes = bytes,
    .put = put,
    .get = {get_scalar, a2_get, a5_get},
};
