/* KV as F32: the values themselves, and the layout the other types are expanded to when many
 * queries look at a page. Any thread; no state. */
#include "engine/kv_type_int.h"

#include <math.h>
#include <string.h>

#include "engine/math_int.h"
#include "engine/simd_int.h"

static size_t bytes(size_t head_dim)
{
    return 2 * head_dim * ENG_PAGE * sizeof(float);
}

static void put(const struct eng_kernels *kernels, void *kv, size_t at, const float *k,
                const float *v, size_t head_dim)
{
    float *to = kv;

    (void)kernels;
    for (size_t d = 0; d < head_dim; d++)
        to[d * ENG_PAGE + at] = k[d];
    memcpy(to + head_dim * ENG_PAGE + at * head_dim, v, head_dim * sizeof(*v));
}

/* The specification. */
static void attn_scalar(const struct eng_attn_tile *tile, size_t i0, size_t n, const void *kv,
                        const struct eng_span *span)
{
    const size_t hd = tile->head_dim;
    const float *k = kv, *v = k + hd * ENG_PAGE;

    for (size_t i = i0; i < i0 + n; i++) {
        float p[ENG_PAGE] = {0}, part[16] = {0}, m = -INFINITY, m_new, a, b;
        size_t first = span ? span[i - i0].first : 0, end = span ? span[i - i0].end : ENG_PAGE;
        float *o = tile->o + i * tile->o_stride;

        for (size_t d = 0; d < hd; d++)
            for (size_t t = first; t < end; t++)
                p[t] = fmaf(tile->q[d * ENG_ATTN_TILE + i], k[d * ENG_PAGE + t], p[t]);
        for (size_t t = first; t < end; t++) {
            if (tile->softcap > 0)
                p[t] = eng_tanh(p[t] / tile->softcap) * tile->softcap;
            m = p[t] > m ? p[t] : m;
        }
        m += 0.0f; /* -0 → +0, as eng_max16() */
        for (size_t t = first; t < end; t++) {
            p[t] = eng_exp(p[t] - m);
            part[t % 16] += p[t];
        }
        /* Online softmax: both sides are brought to the new maximum. */
        m_new = m > tile->m[i] ? m : tile->m[i];
        a = eng_exp(tile->m[i] - m_new);
        b = eng_exp(m - m_new);
        for (size_t d = 0; d < hd; d++) {
            float x = 0;

            for (size_t t = first; t < end; t++)
                x = fmaf(p[t], v[t * hd + d], x);
            o[d] = fmaf(x, b, o[d] * a);
        }
        tile->l[i] = fmaf(eng_merge16(part), b, tile->l[i] * a);
        tile->m[i] = m_new;
    }
}

#ifdef ENG_X86
#define KVT    float
#define LOADKV V(load)

#define V(x) a2_##x
#define VT   struct a2_v
#define TGT  ENG_TGT_AVX2
#define N_QB 6
#define N_W  1
#include "engine/kv_type/attn_int.h"
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
#else
#define a2_attn attn_scalar
#define a5_attn attn_scalar
#endif

const struct eng_kv_type eng_kv_f32 = {
    .name = "f32",
    .dim_multiple = 1,
    .bytes = bytes,
    .put = put,
    .attn = {attn_scalar, a2_attn, a5_attn},
};
