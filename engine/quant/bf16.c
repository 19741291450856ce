/* BF16: bfloat16, the upper half of a binary32. Any thread; no state. */
#include "engine/kernels.h"

#include <math.h>
#include <string.h>

#include "engine/quant_int.h"

/* Tile: [cols][ENG_TILE] uint16_t, the row innermost. */
static size_t tile_bytes(size_t cols)
{
    return (cols * ENG_TILE * sizeof(uint16_t) + 63) / 64 * 64;
}

static float from_bf16(uint16_t h)
{
    uint32_t bits = (uint32_t)h << 16;
    float f;

    memcpy(&f, &bits, sizeof f);
    return f;
}

/* src[n] as stored → dst[n] */
static void dequant(const void *src, float *dst, size_t n)
{
    const char *p = src;

    for (size_t i = 0; i < n; i++) {
        uint16_t w;

        memcpy(&w, p + i * sizeof w, sizeof w); /* a file promises no alignment */
        dst[i] = from_bf16(w);
    }
}

static void repack(const void *src, size_t row_bytes, size_t n_rows, size_t cols, void *tile)
{
    const char *p = src;
    uint16_t *out = tile;

    memset(out, 0, tile_bytes(cols));
    for (size_t o = 0; o < n_rows; o++)
        for (size_t k = 0; k < cols; k++)
            memcpy(&out[k * ENG_TILE + o], p + o * row_bytes + k * sizeof *out, sizeof *out);
}

/* The specification. */
static void mm_scalar(const struct eng_mat *m, size_t tile0, size_t tile1, const struct eng_act *x,
                      float *y, size_t y_stride)
{
    for (size_t t = tile0; t < tile1; t++) {
        const uint16_t *tile =
            (const uint16_t *)(const void *)((const char *)m->tiles + t * m->tile_bytes);

        for (size_t r = 0; r < x->n_rows; r++) {
            float acc[ENG_TILE] = {0};

            for (size_t k = 0; k < m->cols; k++)
                for (size_t o = 0; o < ENG_TILE; o++) {
                    uint16_t w = tile[k * ENG_TILE + o];

                    acc[o] = fmaf(from_bf16(w), x->f[r * m->cols + k], acc[o]);
                }
            memcpy(y + r * y_stride + t * ENG_TILE, acc, eng_tile_rows(m, t) * sizeof *acc);
        }
    }
}

#ifdef ENG_X86
#define WT    uint16_t
#define LOADW V(loadb)

#define V(x)   a2_##x
#define VT     struct a2_v
#define TGT    ENG_TGT_AVX2
#define N_V(n) ((n) <= 2 ? 2 : 1)
#include "engine/quant/float_mm_int.h"
ENG_MM_DRIVER(mm_avx2, TGT, V(block), 6, 0)
#undef V
#undef VT
#undef TGT
#undef N_V

#define V(x)   a5_##x
#define VT     struct a5_v
#define TGT    ENG_TGT_AVX512
#define N_V(n) 2
#include "engine/quant/float_mm_int.h"
ENG_MM_DRIVER(mm_avx512, TGT, V(block), 8, 4)
#else
#define mm_avx2   mm_scalar
#define mm_avx512 mm_scalar
#endif

const struct eng_quant quant_bf16 = {
    .name = "BF16",
    .ggml_type = 30,
    .block_elems = 1,
    .block_bytes = 2,
    .dequant = dequant,
    .tile_bytes = tile_bytes,
    .repack = repack,
    .mm = {mm_scalar, mm_avx2, mm_avx512},
};
