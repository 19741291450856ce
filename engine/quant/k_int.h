/* What the K types Q2_K … Q6_K share. A block of 256 weights has one or two binary16 scales and,
 * per sub-block of K_SUB weights, a small integer scale and in some types a minimum:
 *   w = d scale (u - K_BIAS)      or, where K_MINS is 1, w = d scale u - dmin min
 * with u unsigned, K_LO + K_HI bits wide. A type's file says how its bytes are read: it defines
 *   struct block                       as in the file
 *   take_apart(in, out)                struct block → struct k_block
 * and K_SUB (16 or 32), K_LO (2 or 4), K_HI (0, 1 or 2), K_BIAS, K_MINS, and K_MAX_ROWS, the rows
 * of activations whose accumulators and dots fit into the registers of AVX-512.
 *
 * A product runs on activations quantised per 32 (kernels->quantize_q8: q, d, and sums s of q over
 * halves). Per 32 weights, ascending, with one accumulator per output:
 *   dot_h = Σ (u - K_BIAS) q                     per sub-block h, exact: |dot_h| < 2^18
 *   t     = Σ_h (-dmin min_h) s_h                products, the second one fused (where K_MINS)
 *   t    += Σ_h (d scale_h) dot_h                fused, h ascending
 *   acc   = fma(t, d_x, acc)
 */
#include <math.h>
#include <string.h>

#include "engine/quant_int.h"

enum {
    K_ELEMS = 256,
    K_N_SUB = K_ELEMS / K_SUB,
    K_N_Q8 = K_ELEMS / ENG_Q8_BLOCK,
    K_HALVES = ENG_Q8_BLOCK / K_SUB, /* scales per block of activations */
};

/* A block, its bit fields taken apart. Scales and minima fit into 7 bits and a sign in every type.
 */
struct k_block {
    uint16_t d, dmin;
    int8_t scale[K_N_SUB], min[K_N_SUB];
    uint8_t u[K_ELEMS];
};
static void take_apart(const struct block *in, struct k_block *out);

/* Of each of four bytes, the field `bits` wide from bit `from` on. */
static inline uint32_t fields4(const uint8_t p[4], size_t from, int bits)
{
    uint32_t v;

    memcpy(&v, p, sizeof v);
    return v >> from & 0x01010101u * ((1u << bits) - 1);
}

/* A block of ENG_TILE rows, about as large as in the file. The low K_LO bits of the u lie in one
 * plane, the high K_HI bits in another: 4 consecutive weights of a row take one field each of 4
 * bytes, and the groups of 4 fill the fields of a byte from the lowest on. */
struct tile_block {
    uint16_t d[ENG_TILE];
#if K_MINS
    uint16_t minus_dmin[ENG_TILE];
#endif
    struct k_q8 { /* what meets a block of activations */
#if K_MINS && K_SUB == 16
        uint8_t scale_min[K_HALVES][ENG_TILE]; /* low nibble, high nibble */
#else
        int8_t scale[K_HALVES][ENG_TILE];
#if K_MINS
        int8_t min[K_HALVES][ENG_TILE];
#endif
#endif
        uint8_t lo[K_LO][ENG_TILE][4];
#if K_HI
        uint8_t hi[K_HI][ENG_TILE][4];
#endif
    } q8[K_N_Q8];
};
_Static_assert(sizeof(struct tile_block) % 64 == 0 &&
                   sizeof(struct tile_block) <= sizeof(struct block) * ENG_TILE * 104 / 100,
               "a K type's tile");

static size_t tile_bytes(size_t cols)
{
    return cols / K_ELEMS * sizeof(struct tile_block);
}

/* src[n / 256] blocks → dst[n] */
static void dequant(const void *src, float *dst, size_t n)
{
    const char *p = src;

    for (size_t b = 0; b < n / K_ELEMS; b++, dst += K_ELEMS) {
        struct block in;
        struct k_block k;

        memcpy(&in, p + b * sizeof in, sizeof in); /* a file promises no alignment */
        take_apart(&in, &k);
        for (size_t i = 0; i < K_ELEMS; i++) {
            dst[i] = eng_f16_to_f32(k.d) * (float)k.scale[i / K_SUB] * (float)(k.u[i] - K_BIAS);
#if K_MINS
            dst[i] -= eng_f16_to_f32(k.dmin) * (float)k.min[i / K_SUB];
#endif
        }
    }
}

/* The fields `bits` wide of four weights of row o: group g of a plane. */
static inline void put4(uint8_t (*plane)[ENG_TILE][4], int bits, size_t o, size_t g,
                        uint32_t fields)
{
    const size_t per_byte = 8 / (size_t)bits;
    uint32_t v;

    memcpy(&v, plane[g / per_byte][o], sizeof v);
    v |= fields << g % per_byte * (size_t)bits;
    memcpy(plane[g / per_byte][o], &v, sizeof v);
}

static inline int get(const uint8_t (*plane)[ENG_TILE][4], int bits, size_t o, size_t i)
{
    const size_t g = i / 4, per_byte = 8 / (size_t)bits;

    return plane[g / per_byte][o][i % 4] >> g % per_byte * (size_t)bits & ((1 << bits) - 1);
}

static void repack(const void *src, size_t row_bytes, size_t n_rows, size_t cols, void *tile)
{
    const char *p = src;
    struct tile_block *out = tile;

    memset(tile, 0, tile_bytes(cols)); /* d = 0: zero weights */
    for (size_t b = 0; b < cols / K_ELEMS; b++, out++) {
        for (size_t o = 0; o < n_rows; o++) {
            struct block in;
            struct k_block k;

            memcpy(&in, p + o * row_bytes + b * sizeof in, sizeof in);
            take_apart(&in, &k);
            out->d[o] = k.d;
#if K_MINS
            out->minus_dmin[o] = k.dmin ^ 0x8000;
#endif
            for (size_t g = 0; g < K_ELEMS / 4; g++) {
                struct k_q8 *q8 = &out->q8[g / 8];

                put4(q8->lo, K_LO, o, g % 8, fields4(&k.u[4 * g], 0, K_LO));
#if K_HI
                put4(q8->hi, K_HI, o, g % 8, fields4(&k.u[4 * g], K_LO, K_HI));
#endif
            }
            for (size_t h = 0; h < K_N_SUB; h++) {
                struct k_q8 *q8 = &out->q8[h / K_HALVES];

#if K_MINS && K_SUB == 16
                q8->scale_min[h % K_HALVES][o] = (uint8_t)(k.scale[h] | k.min[h] << 4);
#else
                q8->scale[h % K_HALVES][o] = k.scale[h];
#if K_MINS
                q8->min[h % K_HALVES][o] = k.min[h];
#endif
#endif
            }
        }
    }
}

/* Row o of a tile: u - K_BIAS of element i, the integers of sub-block h. */
static int weight(const struct k_q8 *q8, size_t o, size_t i)
{
#if K_HI
    return (get(q8->lo, K_LO, o, i) | get(q8->hi, K_HI, o, i) << K_LO) - K_BIAS;
#else
    return get(q8->lo, K_LO, o, i) - K_BIAS;
#endif
}

static float scale(const struct k_q8 *q8, size_t o, int h)
{
#if K_MINS && K_SUB == 16
    return (float)(q8->scale_min[h][o] & 15);
#else
    return (float)q8->scale[h][o];
#endif
}

#if K_MINS
static float min(const struct k_q8 *q8, size_t o, int h)
{
#if K_SUB == 16
    return (float)(q8->scale_min[h][o] >> 4);
#else
    return (float)q8->min[h][o];
#endif
}
#endif

/* Σ q of sub-block h of a block of activations */
static inline int k_sum(const int16_t s[2], int h)
{
    return K_HALVES == 2 ? s[h] : s[0] + s[1];
}

/* The specification. */
static void mm_scalar(const struct eng_mat *w, size_t tile0, size_t tile1, const struct eng_act *x,
                      float *y, size_t y_stride)
{
    const size_t n_q8 = w->cols / ENG_Q8_BLOCK;

    for (size_t t = tile0; t < tile1; t++) {
        const struct tile_block *tile =
            (const struct tile_block *)w->tiles + t * (w->cols / K_ELEMS);

        for (size_t r = 0; r < x->n_rows; r++) {
            float acc[ENG_TILE] = {0};

            for (size_t b = 0; b < n_q8; b++) {
                const struct k_q8 *q8 = &tile[b / K_N_Q8].q8[b % K_N_Q8];
                const int8_t *q = x->q + (r * n_q8 + b) * ENG_Q8_BLOCK;

                for (size_t o = 0; o < ENG_TILE; o++) {
                    const float d = eng_f16_to_f32(tile[b / K_N_Q8].d[o]);
                    int dot[K_HALVES] = {0};
                    float term;

                    for (size_t i = 0; i < ENG_Q8_BLOCK; i++)
                        dot[i / K_SUB] += weight(q8, o, i) * q[i];
#if K_MINS
                    const float m = eng_f16_to_f32(tile[b / K_N_Q8].minus_dmin[o]);
                    const int16_t *s = x->s + (r * n_q8 + b) * 2;

                    term = m * min(q8, o, 0) * (float)k_sum(s, 0);
                    for (int h = 1; h < K_HALVES; h++)
                        term = fmaf(m * min(q8, o, h), (float)k_sum(s, h), term);
                    term = fmaf(d * scale(q8, o, 0), (float)dot[0], term);
#else
                    term = d * scale(q8, o, 0) * (float)dot[0];
#endif
                    for (int h = 1; h < K_HALVES; h++)
                        term = fmaf(d * scale(q8, o, h), (float)dot[h], term);
                    acc[o] = fmaf(term, x->d[r * n_q8 + b], acc[o]);
                }
            }
            memcpy(y + r * y_stride + t * ENG_TILE, acc, eng_tile_rows(w, t) * sizeof *acc);
        }
    }
}

#ifdef ENG_X86

ENG_INL int32_t k_load32(const int8_t *p)
{
    int32_t v;

    memcpy(&v, p, sizeof v);
    return v;
}

/* Sixteen lanes of 32 bits. */
struct a2_i {
    __m256i lo, hi;
};
struct a5_i {
    __m512i x;
};
#define A2_BOTH_I(expr_lo, expr_hi) ((struct a2_i){expr_lo, expr_hi})

A2 struct a2_i a2_seti(int32_t v)
{
    return A2_BOTH_I(_mm256_set1_epi32(v), _mm256_set1_epi32(v));
}
A5 struct a5_i a5_seti(int32_t v)
{
    return (struct a5_i){_mm512_set1_epi32(v)};
}
A2 struct a2_i a2_or(struct a2_i a, struct a2_i b)
{
    return A2_BOTH_I(_mm256_or_si256(a.lo, b.lo), _mm256_or_si256(a.hi, b.hi));
}
A5 struct a5_i a5_or(struct a5_i a, struct a5_i b)
{
    return (struct a5_i){_mm512_or_si512(a.x, b.x)};
}
/* 64 bytes: in each the field `bits` wide at bit `from` moves to bit `to`. */
A2 struct a2_i a2_field(const void *p, const int bits, const int from, const int to)
{
    const __m256i mask = _mm256_set1_epi8((char)(((1 << bits) - 1) << to));
    __m256i lo = _mm256_load_si256(p), hi = _mm256_load_si256((const __m256i *)p + 1);

    if (from > to)
        lo = _mm256_srli_epi16(lo, from - to), hi = _mm256_srli_epi16(hi, from - to);
    else if (from < to)
        lo = _mm256_slli_epi16(lo, to - from), hi = _mm256_slli_epi16(hi, to - from);
    return A2_BOTH_I(_mm256_and_si256(lo, mask), _mm256_and_si256(hi, mask));
}
A5 struct a5_i a5_field(const void *p, const int bits, const int from, const int to)
{
    __m512i v = _mm512_load_si512(p);

    if (from > to)
        v = _mm512_srli_epi16(v, (unsigned)(from - to));
    else if (from < to)
        v = _mm512_slli_epi16(v, (unsigned)(to - from));
    return (struct a5_i){_mm512_and_si512(v, _mm512_set1_epi8((char)(((1 << bits) - 1) << to)))};
}
/* acc + Σ u q of 8 elements: 4 in u0, 4 in u1, which are the same for all lanes in q[8]. u < 64, so
 * that vpmaddubsw does not saturate: 4 * 63 * 127 = 32004. */
A2 struct a2_i a2_dot8(struct a2_i acc, struct a2_i u0, struct a2_i u1, const int8_t *q)
{
    const __m256i ones = _mm256_set1_epi16(1);
    const __m256i q0 = _mm256_set1_epi32(k_load32(q)), q1 = _mm256_set1_epi32(k_load32(q + 4));
    __m256i lo = _mm256_add_epi16(_mm256_maddubs_epi16(u0.lo, q0), _mm256_maddubs_epi16(u1.lo, q1));
    __m256i hi = _mm256_add_epi16(_mm256_maddubs_epi16(u0.hi, q0), _mm256_maddubs_epi16(u1.hi, q1));

    return A2_BOTH_I(_mm256_add_epi32(acc.lo, _mm256_madd_epi16(lo, ones)),
                     _mm256_add_epi32(acc.hi, _mm256_madd_epi16(hi, ones)));
}
A5 struct a5_i a5_dot8(struct a5_i acc, struct a5_i u0, struct a5_i u1, const int8_t *q)
{
    acc.x = _mm512_dpbusd_epi32(acc.x, u0.x, _mm512_set1_epi32(k_load32(q)));
    acc.x = _mm512_dpbusd_epi32(acc.x, u1.x, _mm512_set1_epi32(k_load32(q + 4)));
    return acc;
}
A2 struct a2_v a2_cvt(struct a2_i v)
{
    return A2_BOTH(_mm256_cvtepi32_ps(v.lo), _mm256_cvtepi32_ps(v.hi));
}
A5 struct a5_v a5_cvt(struct a5_i v)
{
    return (struct a5_v){_mm512_cvtepi32_ps(v.x)};
}
/* 16 bytes as 32-bit integers. */
A2 struct a2_i a2_widen8(const int8_t *p)
{
    return A2_BOTH_I(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const void *)p)),
                     _mm256_cvtepi8_epi32(_mm_loadl_epi64((const void *)(p + 8))));
}
A5 struct a5_i a5_widen8(const int8_t *p)
{
    return (struct a5_i){_mm512_cvtepi8_epi32(_mm_load_si128((const void *)p))};
}
A2 struct a2_i a2_nibble(const uint8_t *p, const int shift)
{
    const __m256i mask = _mm256_set1_epi32(15);
    struct a2_i v = a2_widen8((const int8_t *)p);

    return A2_BOTH_I(_mm256_and_si256(_mm256_srli_epi32(v.lo, shift), mask),
                     _mm256_and_si256(_mm256_srli_epi32(v.hi, shift), mask));
}
A5 struct a5_i a5_nibble(const uint8_t *p, const int shift)
{
    __m512i v = _mm512_srli_epi32(a5_widen8((const int8_t *)p).x, (unsigned)shift);

    return (struct a5_i){_mm512_and_si512(v, _mm512_set1_epi32(15))};
}

#define V(x)   a2_##x
#define VT     struct a2_v
#define VI     struct a2_i
#define TGT    ENG_TGT_AVX2
#define N_V(n) ((n) == 1 ? 2 : 1)
#include "engine/quant/k_mm_int.h"
ENG_MM_DRIVER(mm_avx2, TGT, V(block), 2, 0)
#undef V
#undef VT
#undef VI
#undef TGT
#undef N_V

#define V(x)   a5_##x
#define VT     struct a5_v
#define VI     struct a5_i
#define TGT    ENG_TGT_AVX512
#define N_V(n) 2
#include "engine/quant/k_mm_int.h"
ENG_MM_DRIVER(mm_avx512, TGT, V(block), K_MAX_ROWS, K_MAX_ROWS / 2)

#else
#define mm_avx2   mm_scalar
#define mm_avx512 mm_scalar
#endif
