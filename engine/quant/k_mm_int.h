/* The block of a K type for one instruction set: n_rows rows of activations against a tile.
 * Included by k_int.h, which says what is computed, with V(x), VT, TGT as in kernels_simd_int.h, VI
 * the integer vectors, N_V the vectors of a tile that n_rows rows of accumulators leave room for (1
 * or 2). */

/* u of the 16 rows from lane on, elements 4g..4g+3 */
ENG_INL TGT VI V(weights)(const struct k_q8 *q8, const int g, size_t lane)
{
    VI u = V(field)(q8->lo[g * K_LO / 8][lane], K_LO, g * K_LO % 8, 0);

#if K_HI
    u = V(or)(u, V(field)(q8->hi[g * K_HI / 8][lane], K_HI, g * K_HI % 8, K_LO));
#endif
    return u;
}

ENG_INL TGT VT V(scale)(const struct k_q8 *q8, int h, size_t lane)
{
#if K_MINS && K_SUB == 16
    return V(cvt)(V(nibble)(&q8->scale_min[h][lane], 0));
#else
    return V(cvt)(V(widen8)(&q8->scale[h][lane]));
#endif
}

#if K_MINS
ENG_INL TGT VT V(min_)(const struct k_q8 *q8, int h, size_t lane)
{
#if K_SUB == 16
    return V(cvt)(V(nibble)(&q8->scale_min[h][lane], 4));
#else
    return V(cvt)(V(widen8)(&q8->min[h][lane]));
#endif
}
#endif

ENG_INL TGT void V(block)(const struct eng_mat *w, size_t t, const struct eng_act *x, size_t r,
                          float *y, size_t y_stride, const int n_rows, const int n_tiles)
{
    const size_t n_q8 = w->cols / ENG_Q8_BLOCK, n_blocks = w->cols / K_ELEMS;
    const int n_v = n_tiles == 2 ? 2 * ENG_TILE / 16 : N_V(n_rows);

    for (size_t lane = 0; lane < ENG_TILE; lane += 16 * (size_t)n_v) {
        const struct tile_block *tile = (const struct tile_block *)w->tiles + t * n_blocks;
        const int8_t *xq = x->q + r * w->cols;
        const int16_t *xs = x->s + r * n_q8 * 2;
        const float *xd = x->d + r * n_q8;
        VT acc[6][4];

        ENG_UNROLL
        for (int i = 0; i < n_rows; i++)
            ENG_UNROLL
        for (int j = 0; j < n_v; j++)
            acc[i][j] = V(set1)(0);
        for (; xq < x->q + r * w->cols + w->cols; tile++) {
            for (size_t b = 0; b < K_N_Q8; b++, xq += ENG_Q8_BLOCK, xs += 2, xd++) {
                VI dot[K_HALVES][6][4];
                VT d[K_HALVES][4], m[K_HALVES][4];

                if (r == 0 && lane == 0)
                    eng_prefetch(&tile->q8[b], sizeof(tile->q8[b]), n_tiles,
                                 n_blocks * sizeof(*tile));
                ENG_UNROLL
                for (int h = 0; h < K_HALVES; h++) {
                    ENG_UNROLL
                    for (int i = 0; i < n_rows; i++) {
                        VI bias = V(seti)(K_BIAS ? -K_BIAS * k_sum(xs + i * 2 * n_q8, h) : 0);

                        ENG_UNROLL
                        for (int j = 0; j < n_v; j++)
                            dot[h][i][j] = bias;
                    }
                    ENG_UNROLL
                    for (int g = h * K_SUB / 4; g < (h + 1) * K_SUB / 4; g += 2) {
                        VI u[2][4];

                        ENG_UNROLL
                        for (int j = 0; j < n_v; j++) {
                            const size_t at = lane + 16 * (size_t)j;
                            const struct k_q8 *q8 = &tile[at / ENG_TILE * n_blocks].q8[b];

                            u[0][j] = V(weights)(q8, g, at % ENG_TILE);
                            u[1][j] = V(weights)(q8, g + 1, at % ENG_TILE);
                        }
                        ENG_UNROLL
                        for (int i = 0; i < n_rows; i++)
                            ENG_UNROLL
                        for (int j = 0; j < n_v; j++)
                            dot[h][i][j] = V(dot8)(dot[h][i][j], u[0][j], u[1][j],
                                                   xq + (size_t)i * w->cols + 4 * g);
                    }
                }
                ENG_UNROLL
                for (int j = 0; j < n_v; j++)
                    ENG_UNROLL
                for (int h = 0; h < K_HALVES; h++) {
                    const size_t at = (lane + 16 * (size_t)j) % ENG_TILE;
                    const struct tile_block *from =
                        tile + (lane + 16 * (size_t)j) / ENG_TILE * n_blocks;

                    d[h][j] = V(mul)(V(loadh)(from->d + at), V(scale)(&from->q8[b], h, at));
#if K_MINS
                    m[h][j] =
                        V(mul)(V(loadh)(from->minus_dmin + at), V(min_)(&from->q8[b], h, at));
#endif
                }
                ENG_UNROLL
                for (int i = 0; i < n_rows; i++) {
                    VT dx = V(set1)(xd[(size_t)i * n_q8]);

                    ENG_UNROLL
                    for (int j = 0; j < n_v; j++) {
                        VT term;

#if K_MINS
                        const int16_t *s = xs + (size_t)i * n_q8 * 2;

                        term = V(mul)(m[0][j], V(set1)((float)k_sum(s, 0)));
                        ENG_UNROLL
                        for (int h = 1; h < K_HALVES; h++)
                            term = V(fma)(m[h][j], V(set1)((float)k_sum(s, h)), term);
                        term = V(fma)(d[0][j], V(cvt)(dot[0][i][j]), term);
#else
                        (void)m;
                        term = V(mul)(d[0][j], V(cvt)(dot[0][i][j]));
#endif
                        ENG_UNROLL
                        for (int h = 1; h < K_HALVES; h++)
                            term = V(fma)(d[h][j], V(cvt)(dot[h][i][j]), term);
                        acc[i][j] = V(fma)(term, dx, acc[i][j]);
                    }
                }
            }
        }
        ENG_UNROLL
        for (int i = 0; i < n_rows; i++)
            ENG_UNROLL
        for (int j = 0; j < n_v; j++) {
            const size_t at = lane + 16 * (size_t)j;

            V(store_tile)
            (w, t + at / ENG_TILE, at % ENG_TILE, y + (r + (size_t)i) * y_stride, acc[i][j]);
        }
    }
}
