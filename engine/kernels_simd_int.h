/* The vector kernels, included once per instruction set with
 *   V(x)  the name x of that set in simd_int.h, VT its vector type, TGT its target attribute.
 * Shapes and meaning: kernels.c, whose bits these give. Tails run the scalar code; fmaf() is one
 * instruction here. */
#include "engine/simd_math_int.h"

TGT static void rmsnorm(float *y, const float *x, const float *w, size_t n, float eps)
{
    VT sum = V(set1)(0), scale;
    float p[16], r;
    size_t i;

    for (i = 0; i + 16 <= n; i += 16)
        sum = V(fma)(V(load)(x + i), V(load)(x + i), sum);
    V(store)(p, sum);
    for (; i < n; i++)
        p[i % 16] = fmaf(x[i], x[i], p[i % 16]);
    r = 1.0f / sqrtf(eng_merge16(p) / (float)n + eps);
    scale = V(set1)(r);
    for (i = 0; i + 16 <= n; i += 16)
        V(store)(y + i, V(mul)(V(mul)(V(load)(x + i), scale), V(load)(w + i)));
    for (; i < n; i++)
        y[i] = x[i] * r * w[i];
}

TGT static void quantize_q8(const float *x, size_t n, int8_t *q, float *d, int16_t *s)
{
    for (size_t b = 0; b < n / ENG_Q8_BLOCK; b++, x += ENG_Q8_BLOCK, q += ENG_Q8_BLOCK) {
        VT lo = V(load)(x), hi = V(load)(x + 16), inv;
        float scale = V(hmax)(V(max)(V(abs)(lo), V(abs)(hi))) / 127.0f;

        if (scale < FLT_MIN)
            scale = 0;
        inv = V(set1)(scale > 0 ? 1.0f / scale : 0);
        V(store_i8)(q, V(mul)(lo, inv));
        V(store_i8)(q + 16, V(mul)(hi, inv));
        d[b] = scale;
        s[2 * b] = a2_sum16_i8(q);
        s[2 * b + 1] = a2_sum16_i8(q + ENG_Q8_HALF);
    }
}

/* Four pairs a step: even lanes a c - b s, odd lanes a s + b c, which is what fmaddsub does. */
TGT static void rope(float *x, size_t n_heads, size_t head_dim, size_t n_rot, const float *cosv,
                     const float *sinv)
{
    for (size_t h = 0; h < n_heads; h++, x += head_dim) {
        size_t i = 0;

        for (; i + 4 <= n_rot / 2; i += 4) {
            __m128 c = _mm_loadu_ps(cosv + i), s = _mm_loadu_ps(sinv + i);
            __m256 cs = _mm256_set_m128(_mm_unpackhi_ps(c, s), _mm_unpacklo_ps(c, s));
            __m256 sc = _mm256_permute_ps(cs, 0xb1);
            __m256 ab = _mm256_loadu_ps(x + 2 * i);
            __m256 t = _mm256_mul_ps(_mm256_movehdup_ps(ab), sc);

            _mm256_storeu_ps(x + 2 * i, _mm256_fmaddsub_ps(_mm256_moveldup_ps(ab), cs, t));
        }
        for (; i < n_rot / 2; i++) {
            float a = x[2 * i], b = x[2 * i + 1];

            x[2 * i] = fmaf(a, cosv[i], -(b * sinv[i]));
            x[2 * i + 1] = fmaf(a, sinv[i], b * cosv[i]);
        }
    }
}

TGT static void rope_neox(float *x, size_t n_heads, size_t head_dim, size_t n_rot,
                          const float *cosv, const float *sinv)
{
    size_t half = n_rot / 2;

    for (size_t h = 0; h < n_heads; h++, x += head_dim) {
        size_t i = 0;

        for (; i + 16 <= half; i += 16) {
            VT a = V(load)(x + i), b = V(load)(x + half + i);
            VT c = V(load)(cosv + i), s = V(load)(sinv + i);

            V(store)(x + i, V(fma)(a, c, V(neg)(V(mul)(b, s))));
            V(store)(x + half + i, V(fma)(a, s, V(mul)(b, c)));
        }
        for (; i < half; i++) {
            float a = x[i], b = x[half + i];

            x[i] = fmaf(a, cosv[i], -(b * sinv[i]));
            x[half + i] = fmaf(a, sinv[i], b * cosv[i]);
        }
    }
}

TGT static void swiglu(float *gate, const float *up, size_t n)
{
    VT one = V(set1)(1.0f);
    size_t i;

    for (i = 0; i + 16 <= n; i += 16) {
        VT g = V(load)(gate + i);

        g = V(div)(g, V(add)(one, V(exp)(V(neg)(g))));
        V(store)(gate + i, V(mul)(g, V(load)(up + i)));
    }
    for (; i < n; i++)
        gate[i] = gate[i] / (1.0f + eng_exp(-gate[i])) * up[i];
}

TGT static void geglu(float *gate, const float *up, size_t n)
{
    VT one = V(set1)(1.0f), a = V(set1)(ENG_GELU_A), b = V(set1)(ENG_GELU_B);
    size_t i;

    for (i = 0; i + 16 <= n; i += 16) {
        VT g = V(load)(gate + i), u2 = V(mul)(g, V(fma)(V(mul)(g, g), b, a));

        g = V(div)(g, V(add)(one, V(exp)(V(neg)(u2))));
        V(store)(gate + i, V(mul)(g, V(load)(up + i)));
    }
    for (; i < n; i++) {
        float g = gate[i], u2 = g * fmaf(g * g, ENG_GELU_B, ENG_GELU_A);

        gate[i] = g / (1.0f + eng_exp(-u2)) * up[i];
    }
}

TGT static void softcap(float *x, size_t n, float cap)
{
    VT c = V(set1)(cap);
    size_t i;

    for (i = 0; i + 16 <= n; i += 16)
        V(store)(x + i, V(mul)(V(tanh)(V(div)(V(load)(x + i), c)), c));
    for (; i < n; i++)
        x[i] = eng_tanh(x[i] / cap) * cap;
}

TGT static void add(float *x, const float *y, size_t n)
{
    size_t i;

    for (i = 0; i + 16 <= n; i += 16)
        V(store)(x + i, V(add)(V(load)(x + i), V(load)(y + i)));
    for (; i < n; i++)
        x[i] += y[i];
}

TGT static void axpy(float *y, float a, const float *x, size_t n)
{
    VT va = V(set1)(a);
    size_t i;

    for (i = 0; i + 16 <= n; i += 16)
        V(store)(y + i, V(fma)(va, V(load)(x + i), V(load)(y + i)));
    for (; i < n; i++)
        y[i] = fmaf(a, x[i], y[i]);
}

TGT static void to_f16(const float *x, uint16_t *y, size_t n)
{
    size_t i;

    for (i = 0; i + 16 <= n; i += 16)
        V(storeh)(y + i, V(load)(x + i));
    for (; i < n; i++)
        y[i] = eng_f32_to_f16(x[i]);
}

TGT static void divide(float *y, const float *x, size_t n, float by)
{
    size_t i;

    for (i = 0; i + 16 <= n; i += 16)
        V(store)(y + i, V(div)(V(load)(x + i), V(set1)(by)));
    for (; i < n; i++)
        y[i] = x[i] / by;
}

TGT static float max(const float *x, size_t n)
{
    float m = -INFINITY;
    size_t i = 0;

    if (n >= 16) {
        VT v = V(load)(x);

        for (i = 16; i + 16 <= n; i += 16)
            v = V(max)(v, V(load)(x + i));
        m = V(hmax)(v);
    }
    for (; i < n; i++)
        m = x[i] > m ? x[i] : m;
    return m + 0.0f;
}

TGT static float exp_sum(const float *x, size_t n, float max_x, float scale, float *y)
{
    VT sum = V(set1)(0);
    float p[16];
    size_t i;

    for (i = 0; i + 16 <= n; i += 16) {
        VT e = V(exp)(V(mul)(V(sub)(V(load)(x + i), V(set1)(max_x)), V(set1)(scale)));

        V(store)(y + i, e);
        sum = V(add)(sum, e);
    }
    V(store)(p, sum);
    for (; i < n; i++) {
        y[i] = eng_exp((x[i] - max_x) * scale);
        p[i % 16] += y[i];
    }
    return eng_merge16(p);
}
