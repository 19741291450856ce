/* Q5_0: blocks of 32 weights, a binary16 scale d and 32 numbers u of five bits; w = d (u - 16).
 * Byte j holds the low four bits of weight j in its low nibble and those of weight j + 16 in its
 * high one; the fifth bit of weight i is bit i of the 32-bit h. Any thread; no state. */
#include "engine/kernels.h"

#include <math.h>
#include <string.h>

#include "engine/quant_int.h"

struct block { /* as in the file */
    uint16_t d;
    uint8_t h[4]; /* little-endian */
    uint8_t u[ENG_Q8_BLOCK / 2];
};
_Static_assert(sizeof(struct block) == 22, "Q5_0 block");

/* The file's bytes u in 4 groups of ENG_TILE rows by 4 bytes. Bit p of h[o][j] is the fifth bit of
 * weight 4p + j of row o, so that a shift puts it where the nibbles of group p want it. */
struct tile_block {
    uint16_t d[ENG_TILE];
    uint8_t h[ENG_TILE][4];
    uint8_t u[ENG_Q8_BLOCK / 8][ENG_TILE][4];
};
_Static_assert(sizeof(struct tile_block) == ENG_TILE * sizeof(struct block), "Q5_0 tile block");

/* The fifth bit of weight i, in its place. */
static int fifth(const uint8_t h[4], size_t i)
{
    return (h[i / 8] >> i % 8 & 1) << 4;
}

/* src[n / 32] blocks → dst[n] */
static void dequant(const void *src, float *dst, size_t n)
{
    const char *p = src;

    for (size_t b = 0; b < n / ENG_Q8_BLOCK; b++, dst += ENG_Q8_BLOCK) {
        struct block in;
        float d;

        memcpy(&in, p + b * sizeof in, sizeof in);
        d = eng_f16_to_f32(in.d);
        for (size_t j = 0; j < sizeof in.u; j++) {
            dst[j] = d * (float)(((in.u[j] & 15) | fifth(in.h, j)) - 16);
            dst[j + 16] = d * (float)((in.u[j] >> 4 | fifth(in.h, j + 16)) - 16);
        }
    }
}

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
            for (size_t g = 0; g < 4; g++)
                memcpy(out[b].u[g][o], in.u + 4 * g, 4);
            for (size_t i = 0; i < ENG_Q8_BLOCK; i++)
                out[b].h[o][i % 4] |= (uint8_t)((in.h[i / 8] >> i % 8 & 1) << i / 4);
        }
    }
}

ENG_INL int32_t weight(const struct tile_block *b, size_t o, size_t i)
{
    return (b->u[i % 16 / 4][o][i % 4] >> (i < 16 ? 0 : 4) & 15) | (b->h[o][i % 4] >> i / 4 & 1)
                                                                       << 4;
}

#ifdef ENG_X86
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
#endif

#define WEIGHT_BITS 5
#define BIAS_BITS   4
#include "engine/quant/int8_mm_int.h"

const struct eng_quant quant_q5_0 = {
    .name = "Q5_0",
    .ggml_type = 6,
    .block_elems = ENG_Q8_BLOCK,
    .block_bytes = sizeof(struct block),
    .wants_q8 = true,
    .dequant = dequant,
    .tile_bytes = tile_bytes,
    .repack = repack,
    .mm = {mm_scalar, mm_avx2, mm_avx512},
};
