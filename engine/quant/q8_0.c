/* Q8_0: blocks of 32 weights, a binary16 scale d and 32 signed bytes q; w = d q. Any thread; no
 * state. */
#include "engine/kernels.h"

#include <math.h>
#include <string.h>

#include "engine/quant_int.h"

struct block { /* as in the file */
    uint16_t d;
    int8_t q[ENG_Q8_BLOCK];
};
_Static_assert(sizeof(struct block) == 34, "Q8_0 block");

/* u = q + 128 in 8 groups of ENG_TILE rows by 4 consecutive k. As many bytes as in the file. */
struct tile_block {
    uint16_t d[ENG_TILE];
    uint8_t u[ENG_Q8_BLOCK / 4][ENG_TILE][4];
};
_Static_assert(sizeof(struct tile_block) == ENG_TILE * sizeof(struct block), "Q8_0 tile block");

/* src[n / 32] blocks → dst[n] */
static void dequant(const void *src, float *dst, size_t n)
{
    const char *p = src;

    for (size_t b = 0; b < n / ENG_Q8_BLOCK; b++) {
        struct block in;

        memcpy(&in, p + b * sizeof in, sizeof in);
        for (size_t i = 0; i < ENG_Q8_BLOCK; i++)
            dst[b * ENG_Q8_BLOCK + i] = eng_f16_to_f32(in.d) * (float)in.q[i];
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
            for (size_t i = 0; i < ENG_Q8_BLOCK; i++)
                out[b].u[i / 4][o][i % 4] = (uint8_t)in.q[i] ^ 0x80;
        }
    }
}

ENG_INL int32_t weight(const struct tile_block *b, size_t o, size_t i)
{
    return b->u[i / 4][o][i % 4];
}

#ifdef ENG_X86
A2 void a2_weights(const struct tile_block *b, int g, size_t o, __m256i *lo, __m256i *hi)
{
    *lo = _mm256_load_si256((const void *)b->u[g][o]);
    *hi = _mm256_load_si256((const void *)b->u[g + 4][o]);
}

A5 void a5_weights(const struct tile_block *b, int g, size_t o, __m512i *lo, __m512i *hi)
{
    *lo = _mm512_load_si512(b->u[g][o]);
    *hi = _mm512_load_si512(b->u[g + 4][o]);
}
#endif

#define WEIGHT_BITS 8
#define BIAS_BITS   7
#include "engine/quant/int8_mm_int.h"

const struct eng_quant quant_q8_0 = {
    .name = "Q8_0",
    .ggml_type = 8,
    .block_elems = ENG_Q8_BLOCK,
    .block_bytes = sizeof(struct block),
    .wants_q8 = true,
    .dequant = dequant,
    .tile_bytes = tile_bytes,
    .repack = repack,
    .mm = {mm_scalar, mm_avx2, mm_avx512},
};
