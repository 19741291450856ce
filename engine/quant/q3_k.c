/* Q3_K: blocks of 256 weights, 3 bits each, a 6-bit scale per 16. Any thread; no state. */
#include "engine/kernels.h"

struct block {          /* as in the file */
    uint8_t hi[32];     /* bit k of byte i belongs to weight 32 k + i */
    uint8_t lo[2][32];  /* of either half, weight 32 k + i at bit 2 k of byte i */
    uint8_t scales[12]; /* + 32: low nibbles of 0-7, and above them of 8-15, in 8 bytes; in the last
                         * four, the upper bits of scale 4 k + i at bit 2 k of byte i */
    uint16_t d;
};
_Static_assert(sizeof(struct block) == 110, "Q3_K block");

#define K_SUB      16
#define K_LO       2
#define K_HI       1
#define K_BIAS     4
#define K_MINS     0
#define K_MAX_ROWS 4
#include "engine/quant/k_int.h"

static void take_apart(const struct block *in, struct k_block *out)
{
    out->d = in->d;
    for (size_t h = 0; h < K_N_SUB; h++) {
        int lo = in->scales[h % 8] >> h / 8 * 4 & 15, hi = in->scales[8 + h % 4] >> h / 4 * 2 & 3;

        out->scale[h] = (int8_t)((lo | hi << 4) - 32);
    }
    for (size_t b = 0; b < 8; b++)
        for (size_t i = 0; i < 32; i += 4) {
            uint32_t u = fields4(&in->lo[b / 4][i], b % 4 * 2, 2) | fields4(&in->hi[i], b, 1) << 2;

            memcpy(&out->u[32 * b + i], &u, sizeof u);
        }
}

const struct eng_quant quant_q3_k = {
    .name = "Q3_K",
    .ggml_type = 11,
    .block_elems = K_ELEMS,
    .block_bytes = sizeof(struct block),
    .wants_q8 = true,
    .dequant = dequant,
    .tile_bytes = tile_bytes,
    .repack = repack,
    .mm = {mm_scalar, mm_avx2, mm_avx512},
};
