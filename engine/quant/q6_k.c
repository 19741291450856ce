/* Q6_K: blocks of 256 weights, 6 bits each, an 8-bit scale per 16. Any thread; no state. */
#include "engine/kernels.h"

struct block { /* as in the file */
    /* Either half of the weights: 64 bytes of low nibbles, of weights 0-31 and 32-63 in the low
     * ones, 64-95 and 96-127 in the high ones; 32 bytes of upper bits, of weight i + 32 k at bit 2
     * k of byte i. */
    uint8_t lo[2][64], hi[2][32];
    int8_t scale[16];
    uint16_t d;
};
_Static_assert(sizeof(struct block) == 210, "Q6_K block");

#define K_SUB      16
#define K_LO       4
#define K_HI       2
#define K_BIAS     32
#define K_MINS     0
#define K_MAX_ROWS 4
#include "engine/quant/k_int.h"

static void take_apart(const struct block *in, struct k_block *out)
{
    out->d = in->d;
    memcpy(out->scale, in->scale, sizeof out->scale);
    for (size_t b = 0; b < 8; b++)
        for (size_t i = 0; i < 32; i += 4) {
            uint32_t u = fields4(&in->lo[b / 4][b % 2 * 32 + i], b % 4 / 2 * 4, 4) |
                         fields4(&in->hi[b / 4][i], b % 4 * 2, 2) << 4;

            memcpy(&out->u[32 * b + i], &u, sizeof u);
        }
}

const struct eng_quant quant_q6_k = {
    .name = "Q6_K",
    .ggml_type = 14,
    .block_elems = K_ELEMS,
    .block_bytes = sizeof(struct block),
    .wants_q8 = true,
    .dequant = dequant,
    .tile_bytes = tile_bytes,
    .repack = repack,
    .mm = {mm_scalar, mm_avx2, mm_avx512},
};
