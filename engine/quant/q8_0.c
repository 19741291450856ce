/* Q8_0: blocks of 32 weights, a binary16 scale d and 32 signed bytes q; w = d q. Any thread; no
 * state.
 *
 * A product runs on activations quantised the same way (kernels->quantize_q8): per block an exact
 * integer dot product, then acc = fma(d_w d_x, dot, acc), blocks ascending, one accumulator per
 * output. */
#include "engine/kernels.h"

#include <math.h>
#include <string.h>

#include "engine/quant_int.h"

struct block { /* as in the file */
    uint16_t d;
    int8_t q[ENG_Q8_BLOCK];
};
_Static_assert(sizeof(struct block) == 34, "Q8_0 block");

/* One block of a tile. q is grouped for vpdpbusd: 8 groups of 16 rows by 4 consecutive k, and
 * biased by 128, since that instruction wants one unsigned side: Σ (w + 128) x - 128 Σ x, where Σ x
 * comes with the activations. */
struct tile_block {
    float d[ENG_TILE];
    uint8_t q[ENG_Q8_BLOCK / 4][ENG_TILE][4];
};
_Static_assert(sizeof(struct tile_block) == 576, "Q8_0 tile block");

static size_t tile_bytes(size_t cols)
{
    return cols / ENG_Q8_BLOCK * sizeof(struct tile_block);
}

/* src[n / 32] blocks → dst[n] */
static void dequant(const void *src, float *dst, size_t n)
{
    const char *p = src;

    for (size_t b = 0; b < n / ENG_Q8_BLOCK; b++) {
        struct block in;

        memcpy(&in, p + b * sizeof in, sizeof in);
        for (size_t i = 0; i < ENG_Q8_BLOCK; i++)
            dst[b * ENG_Q8_BLOCK + i] = eng_f16_to_f32(in.d) * (float)in.q[i];
    }
}

static void repack(const void *src, size_t row_bytes, size_t n_rows, size_t cols, void *tile)
{
    const char *p = src;
    struct tile_block *out = tile;

    for (size_t b = 0; b < cols / ENG_Q8_BLOCK; b++) {
        memset(out[b].d, 0, sizeof out[b].d);
        memset(out[b].q, 0x80, sizeof out[b].q); /* zero weights */
        for (size_t o = 0; o < n_rows; o++) {
            struct block in;

            memcpy(&in, p + o * row_bytes + b * sizeof in, sizeof in);
            out[b].d[o] = eng_f16_to_f32(in.d);
            for (size_t i = 0; i < ENG_Q8_BLOCK; i++)
                out[b].q[i / 4][o][i % 4] = (uint8_t)((uint8_t)in.q[i] ^ 0x80);
        }
    }
}

/* The specification. */
static void mm_scalar(const struct eng_mat *w, size_t tile0, size_t tile1, const struct eng_act *x,
                      float *y, size_t y_stride)
{
    const size_t n_blocks = w->cols / ENG_Q8_BLOCK;

    for (size_t t = tile0; t < tile1; t++) {
        const struct tile_block *tile = (const struct tile_block *)w->tiles + t * n_blocks;

        for (size_t r = 0; r < x->n_rows; r++) {
            float acc[ENG_TILE] = {0};

            for (size_t b = 0; b < n_blocks; b++) {
                const int8_t *xq = x->q + r * w->cols + b * ENG_Q8_BLOCK;
                float dx = x->d[r * n_blocks + b];

                for (size_t o = 0; o < ENG_TILE; o++) {
                    int32_t dot = 0;

                    for (size_t i = 0; i < ENG_Q8_BLOCK; i++)
                        dot += ((int32_t)tile[b].q[i / 4][o][i % 4] - 128) * xq[i];
                    acc[o] = fmaf(tile[b].d[o] * dx, (float)dot, acc[o]);
                }
            }
            memcpy(y + r * y_stride + t * ENG_TILE, acc, eng_tile_rows(w, t) * sizeof *acc);
        }
    }
}

#ifdef ENG_X86

ENG_INL int32_t load_i32(const void *p)
{
    int32_t v;

    memcpy(&v, p, sizeof v);
    return v;
}

/* maddubs saturates at 16 bits: |w| x sign(w) has at most 2 * 128 * 127, which fits. n_tiles is
 * always 1 or 2. */
ENG_INL ENG_TGT_AVX2 void a2_block(const struct eng_mat *w, size_t t, const struct eng_act *x,
                                   size_t r, float *y, size_t y_stride, const int n_rows,
                                   const int n_tiles)
{
    const size_t n_blocks = w->cols / ENG_Q8_BLOCK;
    const struct tile_block *tiles = (const struct tile_block *)w->tiles + t * n_blocks;
    const __m256i flip = _mm256_set1_epi8((char)0x80), ones = _mm256_set1_epi16(1);
    struct a2_v acc[4][2];

    ENG_UNROLL
    for (int i = 0; i < n_rows; i++)
        ENG_UNROLL
    for (int j = 0; j < n_tiles; j++)
        acc[i][j] = a2_set1(0);
    for (size_t b = 0; b < n_blocks; b++) {
        ENG_UNROLL
        for (int j = 0; j < n_tiles; j++) {
            const struct tile_block *tb = tiles + (size_t)j * n_blocks + b;
            __m256i lo[4], hi[4];

            ENG_UNROLL
            for (int i = 0; i < n_rows; i++)
                lo[i] = hi[i] = _mm256_setzero_si256();
            for (int g = 0; g < ENG_Q8_BLOCK / 4; g++) {
                const __m256i *wp = (const __m256i *)(const void *)tb->q[g];
                __m256i w0 = _mm256_xor_si256(_mm256_load_si256(wp), flip);
                __m256i w1 = _mm256_xor_si256(_mm256_load_si256(wp + 1), flip);
                __m256i u0 = _mm256_abs_epi8(w0), u1 = _mm256_abs_epi8(w1);

                ENG_UNROLL
                for (int i = 0; i < n_rows; i++) {
                    const int8_t *xq = x->q + (r + (size_t)i) * w->cols + b * ENG_Q8_BLOCK + 4 * g;
                    __m256i xv = _mm256_set1_epi32(load_i32(xq));
                    __m256i d0 = _mm256_maddubs_epi16(u0, _mm256_sign_epi8(xv, w0));
                    __m256i d1 = _mm256_maddubs_epi16(u1, _mm256_sign_epi8(xv, w1));

                    lo[i] = _mm256_add_epi32(lo[i], _mm256_madd_epi16(d0, ones));
                    hi[i] = _mm256_add_epi32(hi[i], _mm256_madd_epi16(d1, ones));
                }
            }
            ENG_UNROLL
            for (int i = 0; i < n_rows; i++) {
                struct a2_v d =
                    a2_mul(a2_load(tb->d), a2_set1(x->d[(r + (size_t)i) * n_blocks + b]));
                struct a2_v dot = A2_BOTH(_mm256_cvtepi32_ps(lo[i]), _mm256_cvtepi32_ps(hi[i]));

                acc[i][j] = a2_fma(d, dot, acc[i][j]);
            }
        }
    }
    ENG_UNROLL
    for (int i = 0; i < n_rows; i++)
        ENG_UNROLL
    for (int j = 0; j < n_tiles; j++)
        a2_store_n(y + (r + (size_t)i) * y_stride + (t + (size_t)j) * ENG_TILE, acc[i][j],
                   eng_tile_rows(w, t + (size_t)j));
}
ENG_MM_DRIVER(mm_avx2, ENG_TGT_AVX2, a2_block, 2, 1)

ENG_INL ENG_TGT_AVX512 void a5_block(const struct eng_mat *w, size_t t, const struct eng_act *x,
                                     size_t r, float *y, size_t y_stride, const int n_rows,
                                     const int n_tiles)
{
    const size_t n_blocks = w->cols / ENG_Q8_BLOCK;
    const struct tile_block *tiles = (const struct tile_block *)w->tiles + t * n_blocks;
    const int8_t *xq = x->q + r * w->cols;
    const float *xd = x->d + r * n_blocks;
    const int16_t *xs = x->s + r * 2 * n_blocks;
    const __m512i bias = _mm512_set1_epi16(-128);
    __m512 acc[4][4];

    ENG_UNROLL
    for (int i = 0; i < n_rows; i++)
        ENG_UNROLL
    for (int j = 0; j < n_tiles; j++)
        acc[i][j] = _mm512_setzero_ps();
    for (size_t b = 0; b < n_blocks; b++) {
        __m512i dot[4][4];

        ENG_UNROLL
        for (int i = 0; i < n_rows; i++)
            ENG_UNROLL
        for (int j = 0; j < n_tiles; j++)
            dot[i][j] = _mm512_madd_epi16(
                bias, _mm512_set1_epi32(load_i32(xs + 2 * ((size_t)i * n_blocks + b))));
        ENG_UNROLL
        for (int g = 0; g < ENG_Q8_BLOCK / 4; g++) {
            __m512i wv[4];

            ENG_UNROLL
            for (int j = 0; j < n_tiles; j++)
                wv[j] = _mm512_load_si512(tiles[(size_t)j * n_blocks + b].q[g]);
            ENG_UNROLL
            for (int i = 0; i < n_rows; i++) {
                __m512i xv = _mm512_set1_epi32(
                    load_i32(xq + (size_t)i * w->cols + b * ENG_Q8_BLOCK + (size_t)g * 4));

                ENG_UNROLL
                for (int j = 0; j < n_tiles; j++)
                    dot[i][j] = _mm512_dpbusd_epi32(dot[i][j], wv[j], xv);
            }
        }
        ENG_UNROLL
        for (int j = 0; j < n_tiles; j++) {
            __m512 dw = _mm512_load_ps(tiles[(size_t)j * n_blocks + b].d);

            ENG_UNROLL
            for (int i = 0; i < n_rows; i++) {
                __m512 d = _mm512_mul_ps(dw, _mm512_set1_ps(xd[(size_t)i * n_blocks + b]));

                acc[i][j] = _mm512_fmadd_ps(d, _mm512_cvtepi32_ps(dot[i][j]), acc[i][j]);
            }
        }
    }
    ENG_UNROLL
    for (int i = 0; i < n_rows; i++)
        ENG_UNROLL
    for (int j = 0; j < n_tiles; j++)
        a5_store_n(y + (r + (size_t)i) * y_stride + (t + (size_t)j) * ENG_TILE,
                   (struct a5_v){acc[i][j]}, eng_tile_rows(w, t + (size_t)j));
}
ENG_MM_DRIVER(mm_avx512, ENG_TGT_AVX512, a5_block, 4, 2)

#else
#define mm_avx2   mm_scalar
#define mm_avx512 mm_scalar
#endif

const struct eng_quant quant_q8_0 = {
    .name = "Q8_0",
    .ggml_type = 8,
    .block_elems = ENG_Q8_BLOCK,
    .block_bytes = sizeof(struct block),
    .wants_q8 = true,
    .dequant = dequant,
    .tile_bytes = tile_bytes,
    .repack = repack,
    .mm = {mm_scalar, mm_avx2, mm_avx512},
};
