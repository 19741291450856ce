/* Q4_K: blocks of 256 weights, 4 bits each, a 6-bit scale and a 6-bit minimum per 32. Any thread;
 * no state. */
#include "engine/kernels.h"

struct block { /* as in the file */
    uint16_t d, dmin;
    uint8_t scales[12];
    uint8_t u[4][32]; /* 64 weights each, the first 32 in the low nibbles */
};
_Static_assert(sizeof(struct block) == 144, "Q4_K block");

#define K_SUB      32
#define K_LO       4
#define K_HI       0
#define K_BIAS     0
#define K_MINS     1
#define K_MAX_ROWS 6
#include "engine/quant/k_int.h"
#include "engine/quant/k_scales_int.h"

static void take_apart(const struct block *in, struct k_block *out)
{
    out->d = in->d;
    out->dmin = in->dmin;
    k_scales(in->scales, out->scale, out->min);
    for (size_t b = 0; b < 8; b++)
        for (size_t i = 0; i < 32; i += 4) {
            uint32_t u = fields4(&in->u[b / 2][i], b % 2 * 4, 4);

            memcpy(&out->u[32 * b + i], &u, sizeof u);
        }
}

const struct eng_quant quant_q4_k = {
    .name = "Q4_K",
    .ggml_type = 12,
    .block_elems = K_ELEMS,
    .block_bytes = sizeof(struct block),
    .wants_q8 = true,
    .dequant = dequant,
    .tile_bytes = tile_bytes,
    .repack = repack,
    .mm = {mm_scalar, mm_avx2, mm_avx512},
};
