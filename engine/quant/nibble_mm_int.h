/* int8_mm_int.h for types whose weights are nibbles, with or without a fifth bit (WEIGHT_BITS 4 or
 * 5). Included by such a type's file, which defines WEIGHT_BITS, BIAS_BITS or HAS_MIN, and
 *   struct block             as in the file: d, with HAS_MIN m, with a fifth bit h[4] (bit i of its 32
 *                            bits is that of weight i), u[16] (byte j holds weight j in its low
 *                            nibble and weight j + 16 in its high one)
 *   struct tile_block        of ENG_TILE rows: d, m, with a fifth bit h[ENG_TILE][4], whose bit p of
 *                            h[o][j] is that of weight 4p + j of row o, so that a shift puts it where
 *                            the nibbles of group p want it; the bytes u in 4 groups of ENG_TILE rows
 *                            by 4 bytes */

static void repack(const void *src, size_t row_bytes, size_t n_rows, size_t cols, void *tile)
{
    const char *p = src;
    struct tile_block *out = tile;

    for (size_t b = 0; b < cols / ENG_Q8_BLOCK; b++) {
        memset(&out[b], 0, sizeof out[b]);
        for (size_t o = 0; o < n_rows; o++) {
            struct block in;

            memcpy(&in, p + o * row_bytes + b * sizeof in, sizeof in);
            out[b].d[o] = in.d;
#ifdef HAS_MIN
            out[b].m[o] = in.m;
#endif
            for (size_t g = 0; g < 4; g++)
                memcpy(out[b].u[g][o], in.u + 4 * g, 4);
#if WEIGHT_BITS == 5
            for (size_t i = 0; i < ENG_Q8_BLOCK; i++)
                out[b].h[o][i % 4] |= (uint8_t)((in.h[i / 8] >> i % 8 & 1) << i / 4);
#endif
        }
    }
}

#if WEIGHT_BITS == 5
ENG_INL int32_t weight(const struct tile_block *b, size_t o, size_t i)
{
    return (b->u[i % 16 / 4][o][i % 4] >> (i < 16 ? 0 : 4) & 15) | (b->h[o][i % 4] >> i / 4 & 1)
                                                                       << 4;
}
#else
ENG_INL int32_t weight(const struct tile_block *b, size_t o, size_t i)
{
    return b->u[i % 16 / 4][o][i % 4] >> (i < 16 ? 0 : 4) & 15;
}
#endif

#ifdef ENG_X86
#if WEIGHT_BITS == 5
/* Bit p of each byte of h becomes bit 4; the others are rubbish. */
A2 __m256i a2_fifth(__m256i h, int p)
{
    return p < 4 ? _mm256_slli_epi16(h, 4 - p) : _mm256_srli_epi16(h, p - 4);
}
A2 void a2_weights(const struct tile_block *b, int g, size_t o, __m256i *lo, __m256i *hi)
{
    __m256i u = _mm256_load_si256((const void *)b->u[g][o]), mask = _mm256_set1_epi8(15);
    __m256i h = _mm256_load_si256((const void *)b->h[o]), bit = _mm256_set1_epi8(16);

    *lo = _mm256_or_si256(_mm256_and_si256(u, mask), _mm256_and_si256(a2_fifth(h, g), bit));
    *hi = _mm256_or_si256(_mm256_and_si256(_mm256_srli_epi16(u, 4), mask),
                          _mm256_and_si256(a2_fifth(h, g + 4), bit));
}

A5 __m512i a5_fifth(__m512i h, int p)
{
    return p < 4 ? _mm512_slli_epi16(h, (unsigned)(4 - p))
                 : _mm512_srli_epi16(h, (unsigned)(p - 4));
}
A5 void a5_weights(const struct tile_block *b, int g, size_t o, __m512i *lo, __m512i *hi)
{
    __m512i u = _mm512_load_si512(b->u[g][o]), mask = _mm512_set1_epi8(15);
    __m512i h = _mm512_load_si512(b->h[o]);

    /* bits 0 to 3 of u, the others of the fifth; of these only bit 4 is meant */
    *lo = _mm512_ternarylogic_epi32(mask, u, a5_fifth(h, g), 0xca);
    *hi = _mm512_ternarylogic_epi32(mask, _mm512_srli_epi16(u, 4), a5_fifth(h, g + 4), 0xca);
    *lo = _mm512_and_si512(*lo, _mm512_set1_epi8(31));
    *hi = _mm512_and_si512(*hi, _mm512_set1_epi8(31));
}
#else
A2 void a2_weights(const struct tile_block *b, int g, size_t o, __m256i *lo, __m256i *hi)
{
    __m256i u = _mm256_load_si256((const void *)b->u[g][o]), mask = _mm256_set1_epi8(15);

    *lo = _mm256_and_si256(u, mask);
    *hi = _mm256_and_si256(_mm256_srli_epi16(u, 4), mask);
}

A5 void a5_weights(const struct tile_block *b, int g, size_t o, __m512i *lo, __m512i *hi)
{
    __m512i u = _mm512_load_si512(b->u[g][o]), mask = _mm512_set1_epi8(15);

    *lo = _mm512_and_si512(u, mask);
    *hi = _mm512_and_si512(_mm512_srli_epi16(u, 4), mask);
}
#endif
#endif

#include "engine/quant/int8_mm_int.h"
