/* KV as F16: K [head_dim][ENG_PAGE], then V [ENG_PAGE][head_dim], binary16. Any thread; no state.
 */
#include "engine/kv_type_int.h"

#include <math.h>

#include "engine/math_int.h"
#include "engine/simd_int.h"

static size_t bytes(size_t head_dim)
{
    return 2 * head_dim * ENG_PAGE * sizeof(uint16_t);
}

static void put(const struct eng_kernels *kernels, void *kv, size_t at, const float *k,
                const float *v, size_t head_dim)
{
    uint16_t *to = kv, half[64];

    for (size_t d0 = 0; d0 < head_dim; d0 += 64) {
        size_t n = head_dim - d0 < 64 ? head_dim - d0 : 64;

        kernels->to_f16(k + d0, half, n);
        for (size_t d = 0; d < n; d++)
            to[(d0 + d) * ENG_PAGE + at] = half[d];
    }
    kernels->to_f16(v, to + head_dim * ENG_PAGE + at * head_dim, head_dim);
}

static void get_scalar(const void *kv, size_t head_dim, float *out)
{
    const uint16_t *from = kv;

    for (size_t i = 0; i < 2 * head_dim * ENG_PAGE; i++)
        out[i] = eng_f16_to_f32(from[i]);
}

#ifdef ENG_X86
#define KVT    uint16_t
#define LOADKV V(loadh)
#define DEF_GET(tgt)                                                                               \
    tgt static void V(get)(const void *kv, size_t head_dim, float *out)                            \
    {                                                                                              \
        const uint16_t *from = kv;                                                                 \
                                                                                                   \
        for (size_t i = 0; i < 2 * head_dim * ENG_PAGE; i += 16)                                   \
            V(store)(out + i, V(loadh)(from + i));                                                 \
    }

#define V(x) a2_##x
#define VT   struct a2_v
#define TGT  ENG_TGT_AVX2
#define N_QB 6
#define N_W  1
#include "engine/kv_type/attn_int.h"
DEF_GET(TGT)
#undef V
#undef VT
#undef TGT
#undef N_QB
#undef N_W

#define V(x) a5_##x
#define VT   struct a5_v
#define TGT  ENG_TGT_AVX512
#define N_QB 12
#define N_W  2
#include "engine/kv_type/attn_int.h"
DEF_GET(TGT)
#else
#define a2_get  get_scalar
#define a5_get  get_scalar
#define a2_attn NULL
#define a5_attn NULL
#endif

const struct eng_kv_type eng_kv_f16 = {
    .name = "f16",
    .dim_multiple = 1,
    .bytes = bytes,
    .put = put,
    .get = {get_scalar, a2_get, a5_get},
    .attn = {NULL, a2_attn, a5_attn},
};
