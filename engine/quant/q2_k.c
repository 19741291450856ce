/* Q2_K: blocks of 256 weights, 2 bits each, a 4-bit scale and a 4-bit minimum per 16. Any thread;
 * no state. */
#include "engine/kernels.h"

struct block {             /* as in the file */
    uint8_t scale_min[16]; /* low nibble, high nibble */
    uint8_t u[2][32];      /* of either half, weight 32 k + i at bit 2 k of byte i */
    uint16_t d, dmin;
};
_Static_assert(sizeof(struct block) == 84, "Q2_K block");

#define K_SUB      16
#define K_LO       2
#define K_HI       0
#define K_BIAS     0
#define K_MINS     1
#define K_MAX_ROWS 4
#include "engine/quant/k_int.h"

static void take_apart(const struct block *in, struct k_block *out)
{
    out->d = in->d;
    out->dmin = in->dmin;
    for (size_t h = 0; h < K_N_SUB; h++) {
        out->scale[h] = in->scale_min[h] & 15;
        out->min[h] = in->scale_min[h] >> 4;
    }
    for (size_t b = 0; b < 8; b++)
        for (size_t i = 0; i < 32; i += 4) {
            uint32_t u = fields4(&in->u[b / 4][i], b % 4 * 2, 2);

            memcpy(&out->u[32 * b + i], &u, sizeof u);
        }
}

const struct eng_quant quant_q2_k = {
    .name = "Q2_K",
    .ggml_type = 10,
    .block_elems = K_ELEMS,
    .block_bytes = sizeof(struct block),
    .wants_q8 = true,
    .dequant = dequant,
    .tile_bytes = tile_bytes,
    .repack = repack,
    .mm = {mm_scalar, mm_avx2, mm_avx512},
};
