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

#define WEIGHT_BITS 5
#define BIAS_BITS   4
#include "engine/quant/nibble_mm_int.h"

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
