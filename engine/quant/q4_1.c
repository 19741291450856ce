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

#define WEIGHT_BITS 4
#define HAS_MIN     1
#include "engine/quant/nibble_mm_int.h"

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
