/* y[r][o] = Σ_k W[o][k] x[r][k], k ascending, one fused multiply-add per k: the block of a float
 * type for one instruction set. Included by f32.c, f16.c and bf16.c with V(x), VT, TGT as in
 * kernels_simd_int.h, WT the stored type, LOADW(p) 16 weights as floats, N_V the vectors of a tile
 * that n_rows rows of accumulators leave room for (1 or 2). Tiles are [cols][ENG_TILE]; x is
 * [n_rows][cols]. */
ENG_INL TGT void V(block)(const struct eng_mat *w, size_t t, const struct eng_act *x, size_t r,
                          float *y, size_t y_stride, const int n_rows)
{
    const size_t cols = w->cols;
    const int n_v = N_V(n_rows);

    for (size_t lane = 0; lane < ENG_TILE; lane += 16 * (size_t)n_v) {
        const WT *tile = (const WT *)(const void *)((const char *)w->tiles + t * w->tile_bytes);
        const float *in = x->f + r * cols;
        VT acc[8][2];

        ENG_UNROLL
        for (int i = 0; i < n_rows; i++)
            ENG_UNROLL
        for (int j = 0; j < n_v; j++)
            acc[i][j] = V(set1)(0);
        for (size_t k = 0; k < cols; k++, tile += ENG_TILE) {
            VT wv[2];

            ENG_UNROLL
            for (int j = 0; j < n_v; j++)
                wv[j] = LOADW(tile + lane + 16 * j);
            ENG_UNROLL
            for (int i = 0; i < n_rows; i++)
                ENG_UNROLL
            for (int j = 0; j < n_v; j++)
                acc[i][j] = V(fma)(wv[j], V(set1)(in[(size_t)i * cols + k]), acc[i][j]);
        }
        ENG_UNROLL
        for (int i = 0; i < n_rows; i++)
            ENG_UNROLL
        for (int j = 0; j < n_v; j++)
            V(store_tile)
        (w, t, lane + 16 * (size_t)j, y + (r + (size_t)i) * y_stride, acc[i][j]);
    }
}
