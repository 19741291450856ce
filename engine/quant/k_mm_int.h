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
    return V(cvt)(V(loadi8)(&q8->scale[h][lane]));
#endif
}

#if K_MINS
ENG_INL TGT VT V(min_)(const struct k_q8 *q8, int h, size_t lane)
{
#if K_SUB == 16
    return V(cvt)(V(nibble)(&q8->scale_min[h][lane], 4));
#else
    return V(cvt)(V(loadi8)(&q8->min[h][lane]));
#endif
}
#endif

ENG_INL TGT void V(block)(const struct eng_mat *w, size_t t, const struct eng_act *x, size_t r,
                          float *y, size_t y_stride, const int n_rows)
{
    const size_t n_q8 = w->cols / ENG_Q8_BLOCK;
    const int n_v = N_V(n_rows);

    for (size_t lane = 0; lane < ENG_TILE; lane += 16 * (size_t)n_v) {
        const struct tile_block *tile =
            (const struct tile_block *)w->tiles + t * (w->cols / K_ELEMS);
        const int8_t *xq = x->q + r * w->cols;
        const int16_t *xs = x->s + r * n_q8 * 2;
        const float *xd = x->d + r * n_q8;
        VT acc[6][2];

        ENG_UNROLL
        for (int i = 0; i < n_rows; i++)
            ENG_UNROLL
        for (int j = 0; j < n_v; j++)
            acc[i][j] = V(set1)(0);
        for (; xq < x->q + r * w->cols + w->cols; tile++) {
            for (size_t b = 0; b < K_N_Q8; b++, xq += ENG_Q8_BLOCK, xs += 2, xd++) {
                const struct k_q8 *q8 = &tile->q8[b];
                VI dot[K_HALVES][6][2];
                VT d[K_HALVES][2], m[K_HALVES][2];

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
                        VI u[2][2];

                        ENG_UNROLL
                        for (int j = 0; j < n_v; j++) {
                            u[0][j] = V(weights)(q8, g, lane + 16 * (size_t)j);
                            u[1][j] = V(weights)(q8, g + 1, lane + 16 * (size_t)j);
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
                    const size_t at = lane + 16 * (size_t)j;

                    d[h][j] = V(mul)(V(loadh)(tile->d + at), V(scale)(q8, h, at));
#if K_MINS
                    m[h][j] = V(mul)(V(loadh)(tile->minus_dmin + at), V(min_)(q8, h, at));
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
        for (int j = 0; j < n_v; j++)
            V(store_tile)
        (w, t, lane + 16 * (size_t)j, y + (r + (size_t)i) * y_stride, acc[i][j]);
    }
}
