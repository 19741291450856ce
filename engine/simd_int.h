/* Sixteen float lanes under one vocabulary for AVX2 (a2_, two ymm) and AVX-512 (a5_, one zmm), so
 * that each vector kernel is written once (kernels_simd_int.h, quant/float_mm_int.h) and both
 * instruction sets run the same sequence of operations. Private to the engine's kernels; everything
 * here is inlined. */
#ifndef PD_ENGINE_SIMD_INT_H
#define PD_ENGINE_SIMD_INT_H

#include <stddef.h>
#include <stdint.h>

#include "engine/kernels.h"

#if defined(__x86_64__)
#define ENG_X86 1
#include <immintrin.h>

#define ENG_TGT_AVX2 __attribute__((target("avx2,fma,f16c")))
#define ENG_TGT_AVX512                                                                             \
    __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")))
#define ENG_INL static inline __attribute__((always_inline, unused))
/* Before a loop of a small constant count whose arrays must become registers. */
#ifdef __clang__
#define ENG_UNROLL _Pragma("unroll")
#else
#define ENG_UNROLL _Pragma("GCC unroll 16")
#endif
#define A2 ENG_INL ENG_TGT_AVX2
#define A5 ENG_INL ENG_TGT_AVX512

struct a2_v {
    __m256 lo, hi;
};
struct a5_v {
    __m512 x;
};

#define A2_BOTH(expr_lo, expr_hi) ((struct a2_v){expr_lo, expr_hi})

A2 struct a2_v a2_set1(float f)
{
    return A2_BOTH(_mm256_set1_ps(f), _mm256_set1_ps(f));
}
A5 struct a5_v a5_set1(float f)
{
    return (struct a5_v){_mm512_set1_ps(f)};
}
A2 struct a2_v a2_load(const float *p)
{
    return A2_BOTH(_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8));
}
A5 struct a5_v a5_load(const float *p)
{
    return (struct a5_v){_mm512_loadu_ps(p)};
}
A2 void a2_store(float *p, struct a2_v v)
{
    _mm256_storeu_ps(p, v.lo);
    _mm256_storeu_ps(p + 8, v.hi);
}
A5 void a5_store(float *p, struct a5_v v)
{
    _mm512_storeu_ps(p, v.x);
}
/* The first n lanes. */
A2 void a2_store_n(float *p, struct a2_v v, size_t n)
{
    float lanes[16];

    a2_store(lanes, v);
    for (size_t i = 0; i < n; i++)
        p[i] = lanes[i];
}
A5 void a5_store_n(float *p, struct a5_v v, size_t n)
{
    _mm512_mask_storeu_ps(p, (__mmask16)((1u << n) - 1), v.x);
}
/* 16 binary16 values. */
A2 struct a2_v a2_loadh(const uint16_t *p)
{
    return A2_BOTH(_mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(const void *)p)),
                   _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(const void *)(p + 8))));
}
A5 struct a5_v a5_loadh(const uint16_t *p)
{
    return (struct a5_v){_mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(const void *)p))};
}
A2 void a2_storeh(uint16_t *p, struct a2_v v)
{
    _mm_storeu_si128((__m128i *)(void *)p, _mm256_cvtps_ph(v.lo, _MM_FROUND_TO_NEAREST_INT));
    _mm_storeu_si128((__m128i *)(void *)(p + 8), _mm256_cvtps_ph(v.hi, _MM_FROUND_TO_NEAREST_INT));
}
A5 void a5_storeh(uint16_t *p, struct a5_v v)
{
    _mm256_storeu_si256((__m256i *)(void *)p, _mm512_cvtps_ph(v.x, _MM_FROUND_TO_NEAREST_INT));
}
A2 __m256 a2_load8h(const uint16_t *p)
{
    return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(const void *)p));
}
/* 16 bfloat16 values: the upper halves of floats. */
A2 struct a2_v a2_loadb(const uint16_t *p)
{
    __m256i lo = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)(const void *)p));
    __m256i hi = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)(const void *)(p + 8)));

    return A2_BOTH(_mm256_castsi256_ps(_mm256_slli_epi32(lo, 16)),
                   _mm256_castsi256_ps(_mm256_slli_epi32(hi, 16)));
}
A5 struct a5_v a5_loadb(const uint16_t *p)
{
    __m512i w = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)(const void *)p));

    return (struct a5_v){_mm512_castsi512_ps(_mm512_slli_epi32(w, 16))};
}
/* 16 signed bytes. */
A2 struct a2_v a2_loadi8(const int8_t *p)
{
    __m128i b = _mm_loadu_si128((const __m128i *)(const void *)p);

    return A2_BOTH(_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(b)),
                   _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_srli_si128(b, 8))));
}
A5 struct a5_v a5_loadi8(const int8_t *p)
{
    __m128i b = _mm_loadu_si128((const __m128i *)(const void *)p);

    return (struct a5_v){_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(b))};
}
A2 struct a2_v a2_add(struct a2_v a, struct a2_v b)
{
    return A2_BOTH(_mm256_add_ps(a.lo, b.lo), _mm256_add_ps(a.hi, b.hi));
}
A5 struct a5_v a5_add(struct a5_v a, struct a5_v b)
{
    return (struct a5_v){_mm512_add_ps(a.x, b.x)};
}
A2 struct a2_v a2_sub(struct a2_v a, struct a2_v b)
{
    return A2_BOTH(_mm256_sub_ps(a.lo, b.lo), _mm256_sub_ps(a.hi, b.hi));
}
A5 struct a5_v a5_sub(struct a5_v a, struct a5_v b)
{
    return (struct a5_v){_mm512_sub_ps(a.x, b.x)};
}
A2 struct a2_v a2_mul(struct a2_v a, struct a2_v b)
{
    return A2_BOTH(_mm256_mul_ps(a.lo, b.lo), _mm256_mul_ps(a.hi, b.hi));
}
A5 struct a5_v a5_mul(struct a5_v a, struct a5_v b)
{
    return (struct a5_v){_mm512_mul_ps(a.x, b.x)};
}
A2 struct a2_v a2_div(struct a2_v a, struct a2_v b)
{
    return A2_BOTH(_mm256_div_ps(a.lo, b.lo), _mm256_div_ps(a.hi, b.hi));
}
A5 struct a5_v a5_div(struct a5_v a, struct a5_v b)
{
    return (struct a5_v){_mm512_div_ps(a.x, b.x)};
}
A2 struct a2_v a2_fma(struct a2_v a, struct a2_v b, struct a2_v c)
{
    return A2_BOTH(_mm256_fmadd_ps(a.lo, b.lo, c.lo), _mm256_fmadd_ps(a.hi, b.hi, c.hi));
}
A5 struct a5_v a5_fma(struct a5_v a, struct a5_v b, struct a5_v c)
{
    return (struct a5_v){_mm512_fmadd_ps(a.x, b.x, c.x)};
}
/* a > b ? a : b, so b when a is NaN or the two are equal. */
A2 struct a2_v a2_max(struct a2_v a, struct a2_v b)
{
    return A2_BOTH(_mm256_max_ps(a.lo, b.lo), _mm256_max_ps(a.hi, b.hi));
}
A5 struct a5_v a5_max(struct a5_v a, struct a5_v b)
{
    return (struct a5_v){_mm512_max_ps(a.x, b.x)};
}
/* a < b ? a : b */
A2 struct a2_v a2_min(struct a2_v a, struct a2_v b)
{
    return A2_BOTH(_mm256_min_ps(a.lo, b.lo), _mm256_min_ps(a.hi, b.hi));
}
A5 struct a5_v a5_min(struct a5_v a, struct a5_v b)
{
    return (struct a5_v){_mm512_min_ps(a.x, b.x)};
}
/* eng_max16() and eng_merge16() of the lanes: the same pairs are added. */
A2 float a2_hmax(struct a2_v a)
{
    __m256 h = _mm256_max_ps(a.lo, a.hi);
    __m128 q = _mm_max_ps(_mm256_castps256_ps128(h), _mm256_extractf128_ps(h, 1));

    q = _mm_max_ps(q, _mm_movehl_ps(q, q));
    return _mm_cvtss_f32(_mm_max_ss(q, _mm_movehdup_ps(q))) + 0.0f; /* -0 → +0 */
}
A2 float a2_merge16(struct a2_v a)
{
    __m256 h = _mm256_add_ps(a.lo, a.hi);
    __m128 q = _mm_add_ps(_mm256_castps256_ps128(h), _mm256_extractf128_ps(h, 1));

    q = _mm_add_ps(q, _mm_movehl_ps(q, q));
    return _mm_cvtss_f32(_mm_add_ss(q, _mm_movehdup_ps(q)));
}
A5 float a5_hmax(struct a5_v a)
{
    return a2_hmax(A2_BOTH(_mm512_castps512_ps256(a.x), _mm512_extractf32x8_ps(a.x, 1)));
}
A5 float a5_merge16(struct a5_v a)
{
    return a2_merge16(A2_BOTH(_mm512_castps512_ps256(a.x), _mm512_extractf32x8_ps(a.x, 1)));
}
A2 struct a2_v a2_abs(struct a2_v a)
{
    __m256 sign = _mm256_set1_ps(-0.0f);

    return A2_BOTH(_mm256_andnot_ps(sign, a.lo), _mm256_andnot_ps(sign, a.hi));
}
A5 struct a5_v a5_abs(struct a5_v a)
{
    return (struct a5_v){_mm512_abs_ps(a.x)};
}
A2 struct a2_v a2_neg(struct a2_v a)
{
    __m256 sign = _mm256_set1_ps(-0.0f);

    return A2_BOTH(_mm256_xor_ps(sign, a.lo), _mm256_xor_ps(sign, a.hi));
}
A5 struct a5_v a5_neg(struct a5_v a)
{
    return (struct a5_v){_mm512_xor_ps(_mm512_set1_ps(-0.0f), a.x)};
}
/* Lanes i with first <= lane0 + i < end keep their value, the others become f. */
A2 struct a2_v a2_keep(struct a2_v a, int lane0, int first, int end, float f)
{
    __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7), below = _mm256_set1_epi32(first);
    __m256i lo = _mm256_add_epi32(lane, _mm256_set1_epi32(lane0));
    __m256i hi = _mm256_add_epi32(lane, _mm256_set1_epi32(lane0 + 8));
    __m256i above = _mm256_set1_epi32(end);
    __m256 fill = _mm256_set1_ps(f);

    lo = _mm256_andnot_si256(_mm256_cmpgt_epi32(below, lo), _mm256_cmpgt_epi32(above, lo));
    hi = _mm256_andnot_si256(_mm256_cmpgt_epi32(below, hi), _mm256_cmpgt_epi32(above, hi));
    return A2_BOTH(_mm256_blendv_ps(fill, a.lo, _mm256_castsi256_ps(lo)),
                   _mm256_blendv_ps(fill, a.hi, _mm256_castsi256_ps(hi)));
}
A5 struct a5_v a5_keep(struct a5_v a, int lane0, int first, int end, float f)
{
    __m512i lane =
        _mm512_add_epi32(_mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15),
                         _mm512_set1_epi32(lane0));
    __mmask16 keep = _mm512_cmpge_epi32_mask(lane, _mm512_set1_epi32(first)) &
                     _mm512_cmplt_epi32_mask(lane, _mm512_set1_epi32(end));

    return (struct a5_v){_mm512_mask_blend_ps(keep, _mm512_set1_ps(f), a.x)};
}
/* t = magic + n (n a small integer): 2^(n >> 1) and 2^(n - (n >> 1)). */
A2 void a2_pow2_halves(struct a2_v t, int32_t magic_bits, struct a2_v *out_s1, struct a2_v *out_s2)
{
    __m256i magic = _mm256_set1_epi32(magic_bits), bias = _mm256_set1_epi32(127);
    __m256i n_lo = _mm256_sub_epi32(_mm256_castps_si256(t.lo), magic);
    __m256i n_hi = _mm256_sub_epi32(_mm256_castps_si256(t.hi), magic);
    __m256i h_lo = _mm256_srai_epi32(n_lo, 1), h_hi = _mm256_srai_epi32(n_hi, 1);

    n_lo = _mm256_sub_epi32(n_lo, h_lo);
    n_hi = _mm256_sub_epi32(n_hi, h_hi);
    out_s1->lo = _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(h_lo, bias), 23));
    out_s1->hi = _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(h_hi, bias), 23));
    out_s2->lo = _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(n_lo, bias), 23));
    out_s2->hi = _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(n_hi, bias), 23));
}
A5 void a5_pow2_halves(struct a5_v t, int32_t magic_bits, struct a5_v *out_s1, struct a5_v *out_s2)
{
    __m512i bias = _mm512_set1_epi32(127);
    __m512i n = _mm512_sub_epi32(_mm512_castps_si512(t.x), _mm512_set1_epi32(magic_bits));
    __m512i h = _mm512_srai_epi32(n, 1);

    out_s1->x = _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_add_epi32(h, bias), 23));
    out_s2->x =
        _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_add_epi32(_mm512_sub_epi32(n, h), bias), 23));
}
/* Σ p[16] */
A2 int16_t a2_sum16_i8(const int8_t *p)
{
    __m128i u = _mm_xor_si128(_mm_loadu_si128((const __m128i *)(const void *)p),
                              _mm_set1_epi8((char)0x80)); /* p + 128 */
    __m128i t = _mm_sad_epu8(u, _mm_setzero_si128());

    return (int16_t)(_mm_cvtsi128_si32(t) + _mm_extract_epi16(t, 4) - 16 * 128);
}
/* Nearest-even integers of 16 values in [-127, 127] as bytes. */
A2 void a2_store_i8(int8_t *p, struct a2_v v)
{
    __m256i lo = _mm256_cvtps_epi32(v.lo), hi = _mm256_cvtps_epi32(v.hi);
    __m256i w = _mm256_permute4x64_epi64(_mm256_packs_epi32(lo, hi), 0xd8);
    __m128i b = _mm_packs_epi16(_mm256_castsi256_si128(w), _mm256_extracti128_si256(w, 1));

    _mm_storeu_si128((__m128i *)(void *)p, b);
}
A5 void a5_store_i8(int8_t *p, struct a5_v v)
{
    _mm_storeu_si128((__m128i *)(void *)p, _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(v.x)));
}

#endif /* __x86_64__ */
#endif
