/* What the files of engine/quant/ share: their rows, and how a matrix product is cut into register
 * blocks. */
#ifndef PD_ENGINE_QUANT_INT_H
#define PD_ENGINE_QUANT_INT_H

#include "engine/kernels.h"
#include "engine/simd_int.h"

extern const struct eng_quant quant_f32, quant_f16, quant_bf16, quant_q8_0;

/* Rows of tile t that exist. */
static inline size_t eng_tile_rows(const struct eng_mat *w, size_t t)
{
    size_t left = w->rows - t * ENG_TILE;

    return left < ENG_TILE ? left : ENG_TILE;
}

/* Defines fn as an eng_quant.mm out of
 *   block(w, t, x, r, y, y_stride, n_rows, n_tiles): activation rows r.. against tiles t.., inlined
 * with both counts constant. Many independent chains hide the latency of the multiply-add; a
 * block's shape never changes an element's chain. One row alone (decoding) takes nt1 tiles at once,
 * several rows take ntb tiles by 4 rows. */
#define ENG_MM_DRIVER(fn, tgt, block, nt1, ntb)                                                    \
    ENG_INL tgt void fn##_rows(const struct eng_mat *w, size_t t, const struct eng_act *x,         \
                               float *y, size_t y_stride, const int n_tiles)                       \
    {                                                                                              \
        size_t r = 0;                                                                              \
                                                                                                   \
        for (; r + 4 <= x->n_rows; r += 4)                                                         \
            block(w, t, x, r, y, y_stride, 4, n_tiles);                                            \
        if (x->n_rows - r == 3)                                                                    \
            block(w, t, x, r, y, y_stride, 3, n_tiles);                                            \
        else if (x->n_rows - r == 2)                                                               \
            block(w, t, x, r, y, y_stride, 2, n_tiles);                                            \
        else if (x->n_rows - r == 1)                                                               \
            block(w, t, x, r, y, y_stride, 1, n_tiles);                                            \
    }                                                                                              \
    tgt static void fn(const struct eng_mat *w, size_t tile0, size_t tile1,                        \
                       const struct eng_act *x, float *y, size_t y_stride)                         \
    {                                                                                              \
        size_t t = tile0;                                                                          \
                                                                                                   \
        if (x->n_rows == 1)                                                                        \
            for (; t + (nt1) <= tile1; t += (nt1))                                                 \
                block(w, t, x, 0, y, y_stride, 1, nt1);                                            \
        for (; t + (ntb) <= tile1; t += (ntb))                                                     \
            fn##_rows(w, t, x, y, y_stride, ntb);                                                  \
        for (; t < tile1; t++)                                                                     \
            fn##_rows(w, t, x, y, y_stride, 1);                                                    \
    }

#endif
