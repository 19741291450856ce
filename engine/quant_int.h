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

/* Bytes between the weights that are read and those that are prefetched meanwhile: time enough for
 * memory to answer, little enough to stay in the nearest cache. */
#define ENG_MM_AHEAD 4096

/* Defines fn as an eng_quant.mm out of
 *   block(w, t, x, r, y, y_stride, n_rows, n_tiles): the activation rows r.. against the tiles t..,
 * inlined with n_rows and n_tiles constant; at most max_rows (which is at most 8). The rows are
 * dealt out evenly, since a block of few rows has too few independent chains to hide the latency of
 * the multiply-add; a block's shape never changes an element's chain. A tile meets all rows before
 * the next one is touched: it comes from memory once and then from the nearest cache. Up to
 * pair_rows rows (at most 4) wait for memory more than they compute and take two tiles at once:
 * two streams are fetched faster than one. */
#define ENG_MM_DRIVER(fn, tgt, block, max_rows, pair_rows)                                         \
    tgt static void fn(const struct eng_mat *w, size_t tile0, size_t tile1,                        \
                       const struct eng_act *x, float *y, size_t y_stride)                         \
    {                                                                                              \
        const size_t n_passes = (x->n_rows + (max_rows)-1) / (max_rows);                           \
        size_t t = tile0, r = 0;                                                                   \
                                                                                                   \
        for (; x->n_rows <= (pair_rows) && t + 1 < tile1; t += 2) {                                \
            switch (x->n_rows) {                                                                   \
                ENG_MM_CASE(block, 1, pair_rows, 2)                                                \
                ENG_MM_CASE(block, 2, pair_rows, 2)                                                \
                ENG_MM_CASE(block, 3, pair_rows, 2)                                                \
                ENG_MM_CASE(block, 4, pair_rows, 2)                                                \
            }                                                                                      \
        }                                                                                          \
        for (; t < tile1; t++) {                                                                   \
            r = 0;                                                                                 \
            for (size_t pass = n_passes, n; pass > 0; pass--, r += n) {                            \
                n = (x->n_rows - r + pass - 1) / pass;                                             \
                switch (n) {                                                                       \
                    ENG_MM_CASE(block, 1, max_rows, 1)                                             \
                    ENG_MM_CASE(block, 2, max_rows, 1)                                             \
                    ENG_MM_CASE(block, 3, max_rows, 1)                                             \
                    ENG_MM_CASE(block, 4, max_rows, 1)                                             \
                    ENG_MM_CASE(block, 5, max_rows, 1)                                             \
                    ENG_MM_CASE(block, 6, max_rows, 1)                                             \
                    ENG_MM_CASE(block, 7, max_rows, 1)                                             \
                    ENG_MM_CASE(block, 8, max_rows, 1)                                             \
                }                                                                                  \
            }                                                                                      \
        }                                                                                          \
    }
#define ENG_MM_CASE(block, n, most, n_tiles)                                                       \
    case n:                                                                                        \
        if ((n) <= (most))                                                                         \
            block(w, t, x, r, y, y_stride, n, n_tiles);                                            \
        break;

/* The part of ENG_MM_AHEAD further on of `bytes` at p, and of those of the n - 1 tiles that follow
 * `stride` bytes apart. Beyond the end of a matrix it is a wish that nobody grants. */
ENG_INL void eng_prefetch(const void *p, const size_t bytes, const int n, size_t stride)
{
    for (int i = 0; i < n; i++)
        ENG_UNROLL
    for (size_t at = 0; at < bytes; at += 64)
        __builtin_prefetch((const char *)p + (size_t)i * stride + ENG_MM_AHEAD + at);
}

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
