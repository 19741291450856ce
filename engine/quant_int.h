/* What the files of engine/quant/ share: their rows, and how a matrix product is cut into register
 * blocks. */
#ifndef PD_ENGINE_QUANT_INT_H
#define PD_ENGINE_QUANT_INT_H

#include "engine/kernels.h"
#include "engine/simd_int.h"

extern const struct eng_quant quant_f32, quant_f16, quant_bf16, quant_q8_0, quant_q4_0, quant_q4_1,
    quant_q5_0, quant_q5_1;
extern const struct eng_quant quant_q2_k, quant_q3_k, quant_q4_k, quant_q5_k, quant_q6_k;

/* Rows of tile t that exist. */
static inline size_t eng_tile_rows(const struct eng_mat *w, size_t t)
{
    size_t left = w->rows - t * ENG_TILE;

    return left < ENG_TILE ? left : ENG_TILE;
}

/* Defines fn as an eng_quant.mm out of
 *   block(w, t, x, r, y, y_stride, n_rows): the activation rows r.. against tile t, inlined with
 * n_rows constant, at most max_rows (which is at most 8). The rows are dealt out evenly, since a
 * block of few rows has too few independent chains to hide the latency of the multiply-add; a
 * block's shape never changes an element's chain. A tile meets all rows before the next one is
 * touched: it comes from memory once and then from the nearest cache. */
#define ENG_MM_DRIVER(fn, tgt, block, max_rows)                                                    \
    tgt static void fn(const struct eng_mat *w, size_t tile0, size_t tile1,                        \
                       const struct eng_act *x, float *y, size_t y_stride)                         \
    {                                                                                              \
        const size_t n_passes = (x->n_rows + (max_rows)-1) / (max_rows);                           \
                                                                                                   \
        for (size_t t = tile0; t < tile1; t++) {                                                   \
            for (size_t r = 0, pass = n_passes, n; pass > 0; pass--, r += n) {                     \
                n = (x->n_rows - r + pass - 1) / pass;                                             \
                switch (n) {                                                                       \
                    ENG_MM_CASE(block, 1, max_rows)                                                \
                    ENG_MM_CASE(block, 2, max_rows)                                                \
                    ENG_MM_CASE(block, 3, max_rows)                                                \
                    ENG_MM_CASE(block, 4, max_rows)                                                \
                    ENG_MM_CASE(block, 5, max_rows)                                                \
                    ENG_MM_CASE(block, 6, max_rows)                                                \
                    ENG_MM_CASE(block, 7, max_rows)                                                \
                    ENG_MM_CASE(block, 8, max_rows)                                                \
                }                                                                                  \
            }                                                                                      \
        }                                                                                          \
    }
#define ENG_MM_CASE(block, n, max_rows)                                                            \
    case n:                                                                                        \
        if ((n) <= (max_rows))                                                                     \
            block(w, t, x, r, y, y_stride, n);                                                     \
        break;

#ifdef ENG_X86
/* The lanes from `lane` on of tile t into the row y, as far as these output rows exist. */
A2 void a2_store8_tile(const struct eng_mat *w, size_t t, size_t lane, float *y, __m256 v)
{
    size_t n = eng_tile_rows(w, t);
    float lanes[8];

    y += t * ENG_TILE + lane;
    if (n >= lane + 8) {
        _mm256_storeu_ps(y, v);
        return;
    }
    _mm256_storeu_ps(lanes, v);
    for (size_t i = 0; lane + i < n; i++)
        y[i] = lanes[i];
}
A2 void a2_store_tile(const struct eng_mat *w, size_t t, size_t lane, float *y, struct a2_v v)
{
    a2_store8_tile(w, t, lane, y, v.lo);
    a2_store8_tile(w, t, lane + 8, y, v.hi);
}
A5 void a5_store_tile(const struct eng_mat *w, size_t t, size_t lane, float *y, struct a5_v v)
{
    size_t n = eng_tile_rows(w, t), left = n > lane ? n - lane : 0;
    __mmask16 mask = left >= 16 ? (__mmask16)0xffff : (__mmask16)((1u << left) - 1);

    _mm512_mask_storeu_ps(y + t * ENG_TILE + lane, mask, v.x);
}
#endif

#endif
