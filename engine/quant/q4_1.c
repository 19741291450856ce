/* Q4_1: blocks of 32 weights, a binary16 scale d, a binary16 minimum m and 32 nibbles u; w = d u +
 * m. Byte j holds weight j in its low nibble and weight j + 16 in its high one. Any thread; no
 * state.
 */
#include "engine/kernels.h"

#include <math.h>
#include <string.h>

#include "engine/quant_int.h"

struct block { /* as in the file */
    uint16_t d, m;
    uint8_t u[ENG_Q8_BLOCK / 2];
};
_Static_assert(sizeof(struct block) == 20, "Q4_1 block");

/* The file's bytes in 4 groups of ENG_TILE rows by 4 bytes. */
struct tile_block {
    uint16_t d[ENG_TILE], m[ENG_TILE];
    uint8_t u[ENG_Q8_BLOCK / 8][ENG_TILE][4];
};
_Static_assert(sizeof(struct tile_block) == ENG_TILE * sizeof(struct block), "Q4_1 tile block");

/* src[n / 32] blocks → dst[n] */
static void dequant(const void *src, float *dst, size_t n)
{
    const char *p = src;

    for (size_t b = 0; b < n / ENG_Q8_BLOCK; b++, dst += ENG_Q8_BLOCK) {
        struct block in;
        float d, m;

        memcpy(&in, p + b * sizeof in, sizeof in);
        d = eng_f16_to_f32(in.d);
        m = eng_f16_to_f32(in.m);
        for (size_t j = 0; j < sizeof in.u; j++) {
            dst[j] = d * (float)(in.u[j] & 15) + m;
            dst[j + 16] = d * (float)(in.u[j] >> 4) + m;
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
            out[b].m[o] = in.m;
            for (size_t g = 0; g < 4; g++)
                memcpy(out[b].u[g][o], in.u + 4 * g, 4);
        }
    }
}

ENG_INL int32_t weight(const struct tile_block *b, size_t o, size_t i)
{
    return b->u[i % 16 / 4][o][i % 4] >> (i < 16 ? 0 : 4) & 15;
}

#ifdef ENG_X86
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

#define WEIGHT_BITS 4
#define HAS_MIN     1
#include "engine/quant/int8_mm_int.h"

const struct eng_quant quant_q4_1 = {
    .name = "Q4_1",
    .ggml_type = 3,
    .block_elems = ENG_Q8_BLOCK,
    .block_bytes = sizeof(struct block),
    .wants_q8 = true,
    .dequant = dequant,
    .tile_bytes = tile_bytes,
    .repack = repack,
    .mm = {mm_scalar, mm_avx2, mm_avx512},
};
