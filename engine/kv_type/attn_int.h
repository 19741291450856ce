/* attn of a KV type for one instruction set: kv_type/f32.c's attn_scalar() with vectors. Included
 * with V(x), VT and TGT as in kernels_simd_int.h, KVT the stored type of an element, LOADKV(p) 16
 * of them as floats, N_QB queries and N_W vectors of positions (or of head_dim) held in registers
 * at once. */
#include "engine/simd_math_int.h"

/* Calls for the bytes ahead of p in the cache, once a line of them. */
ENG_INL void V(call)(const KVT *p, uintptr_t ahead, size_t i)
{
    if (i * sizeof(KVT) % 64 == 0)
        __builtin_prefetch((const void *)((uintptr_t)p + ahead));
}

/* o[n][w] = Σ_t p[n][t] v[t][d … d + 16 w), merged into out[n] with the factors b and a. */
ENG_INL TGT void V(attn_out)(const float (*p)[ENG_PAGE], const KVT *v, size_t v_stride,
                             const struct eng_span *span, const float *a, const float *b,
                             float *out, size_t o_stride, uintptr_t ahead, const int n,
                             const int n_w)
{
    VT o[N_QB][4];
    size_t first = 0, end = ENG_PAGE;

    ENG_UNROLL
    for (int i = 0; i < n; i++)
        ENG_UNROLL
    for (int w = 0; w < n_w; w++)
        o[i][w] = V(set1)(0);
    if (span) { /* each query ascends through its own positions; together where all see them */
        for (int i = 0; i < n; i++) {
            first = span[i].first > first ? span[i].first : first;
            end = span[i].end < end ? span[i].end : end;
        }
        first = first < end ? first : end;
        ENG_UNROLL
        for (int i = 0; i < n; i++)
            for (size_t t = span[i].first; t < first; t++)
                ENG_UNROLL
        for (int w = 0; w < n_w; w++)
            o[i][w] = V(fma)(V(set1)(p[i][t]), LOADKV(v + t * v_stride + 16 * w), o[i][w]);
    }
    for (size_t t = first; t < end; t++) {
        VT x[4];

        ENG_UNROLL
        for (int w = 0; w < n_w; w++) {
            V(call)(v + t * v_stride + 16 * w, ahead, 16 * (size_t)w);
            x[w] = LOADKV(v + t * v_stride + 16 * w);
        }
        ENG_UNROLL
        for (int i = 0; i < n; i++) {
            VT y = V(set1)(p[i][t]);

            ENG_UNROLL
            for (int w = 0; w < n_w; w++)
                o[i][w] = V(fma)(y, x[w], o[i][w]);
        }
    }
    ENG_UNROLL
    for (int i = 0; i < n; i++) {
        if (span)
            for (size_t t = end > span[i].first ? end : span[i].first; t < span[i].end; t++)
                ENG_UNROLL
        for (int w = 0; w < n_w; w++)
            o[i][w] = V(fma)(V(set1)(p[i][t]), LOADKV(v + t * v_stride + 16 * w), o[i][w]);
        ENG_UNROLL
        for (int w = 0; w < n_w; w++) {
            float *to = out + (size_t)i * o_stride + 16 * w;

            V(store)(to, V(fma)(o[i][w], V(set1)(b[i]), V(mul)(V(load)(to), V(set1)(a[i]))));
        }
    }
}

ENG_INL TGT void V(attn_n)(const struct eng_attn_tile *t, size_t i0, const KVT *k,
                           const struct eng_span *span, const int n)
{
    const size_t hd = t->head_dim;
    const float *q = t->q + i0;
    const KVT *v = k + hd * ENG_PAGE;
    float p[N_QB][ENG_PAGE], m[16] = {0}, l[16] = {0}, a[16], b[16];
    float *out = t->o + i0 * t->o_stride;
    uintptr_t ahead = t->next ? (uintptr_t)t->next - (uintptr_t)k : 0;
    size_t d = 0;
    VT vm, vm_old, va, vb;

    for (int w = 0; w < ENG_PAGE / 16; w += N_W) {
        VT s[N_QB][N_W];

        ENG_UNROLL
        for (int i = 0; i < n; i++)
            ENG_UNROLL
        for (int j = 0; j < N_W; j++)
            s[i][j] = V(set1)(0);
        for (size_t e = 0; e < hd; e++) {
            VT x[N_W];

            ENG_UNROLL
            for (int j = 0; j < N_W; j++) {
                V(call)(k + e * ENG_PAGE + 16 * (w + j), ahead, 16 * (size_t)(w + j));
                x[j] = LOADKV(k + e * ENG_PAGE + 16 * (w + j));
            }
            ENG_UNROLL
            for (int i = 0; i < n; i++) {
                VT y = V(set1)(q[e * ENG_ATTN_TILE + (size_t)i]);

                ENG_UNROLL
                for (int j = 0; j < N_W; j++)
                    s[i][j] = V(fma)(y, x[j], s[i][j]);
            }
        }
        ENG_UNROLL
        for (int i = 0; i < n; i++)
            ENG_UNROLL
        for (int j = 0; j < N_W; j++)
            V(store)(p[i] + 16 * (w + j), s[i][j]);
    }
    for (int i = 0; i < n; i++) {
        VT s0 = V(load)(p[i]), s1 = V(load)(p[i] + 16), max;

        if (t->softcap > 0) {
            VT cap = V(set1)(t->softcap);

            s0 = V(mul)(V(tanh)(V(div)(s0, cap)), cap);
            s1 = V(mul)(V(tanh)(V(div)(s1, cap)), cap);
        }
        if (span) { /* unseen positions become -inf, whose exponential is an exact 0 */
            s0 = V(keep)(s0, 0, span[i].first, span[i].end, -INFINITY);
            s1 = V(keep)(s1, 16, span[i].first, span[i].end, -INFINITY);
        }
        m[i] = V(hmax)(V(max)(s0, s1));
        max = V(set1)(m[i]);
        s0 = V(exp)(V(sub)(s0, max));
        s1 = V(exp)(V(sub)(s1, max));
        V(store)(p[i], s0);
        V(store)(p[i] + 16, s1);
        l[i] = V(merge16)(V(add)(s0, s1));
    }
    /* Online softmax, a query a lane: both sides are brought to the new maximum. */
    vm_old = V(load)(t->m + i0);
    vm = V(max)(V(load)(m), vm_old);
    va = V(exp)(V(sub)(vm_old, vm));
    vb = V(exp)(V(sub)(V(load)(m), vm));
    V(store)(a, va);
    V(store)(b, vb);
    V(store_n)(t->m + i0, vm, (size_t)n);
    V(store_n)(t->l + i0, V(fma)(V(load)(l), vb, V(mul)(V(load)(t->l + i0), va)), (size_t)n);

    /* Few queries need more vectors each to keep the multipliers busy. */
    if (n * 4 <= N_QB * N_W)
        for (; d + 64 <= t->o_stride; d += 64)
            V(attn_out)(p, v + d, hd, span, a, b, out + d, t->o_stride, ahead, n, 4);
    if (n * 2 <= N_QB * N_W)
        for (; d + 32 <= t->o_stride; d += 32)
            V(attn_out)(p, v + d, hd, span, a, b, out + d, t->o_stride, ahead, n, 2);
    for (; d < t->o_stride; d += 16)
        V(attn_out)(p, v + d, hd, span, a, b, out + d, t->o_stride, ahead, n, 1);
}

TGT static void V(attn)(const struct eng_attn_tile *t, size_t i0, size_t n, const void *kv,
                        const struct eng_span *span)
{
    while (n > 0) {
        size_t n_parts = (n + N_QB - 1) / N_QB, c = (n + n_parts - 1) / n_parts;

        switch (c) {
#define CASE(c)                                                                                    \
    case c:                                                                                        \
        V(attn_n)(t, i0, kv, span, c);                                                             \
        break;
            CASE(1)
            CASE(2)
            CASE(3)
            CASE(4)
            CASE(5)
            CASE(6)
#if N_QB > 6
            CASE(7)
            CASE(8)
            CASE(9)
            CASE(10)
            CASE(11)
            CASE(12)
#endif
#undef CASE
        default:
            break;
        }
        i0 += c;
        n -= c;
        span = span ? span + c : NULL;
    }
}
