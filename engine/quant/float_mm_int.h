/* y[r][o] = Σ_k W[o][k] x[r][k], k ascending, one fused multiply-add per k: the block of a float
 * type for one instruction set. Included by f32.c, f16.c and bf16.c with V(x), VT, TGT as in
 * kernels_simd_int.h, WT the stored type, LOADW(p) 16 weights as floats, N_V the vectors of a tile
 * that n_rows rows of accumulators leave room for (1 or 2). Tiles are [cols][ENG_TILE]; x is
 * [n_rows][cols]. */
ENG_INL TGT void V(block)(const struct eng_mat *w, size_t t, const struct eng_act *x, size_t r,
                          float *y, size_t y_stride, const int n_rows, const int n_tiles)
{
    const size_t cols = w->cols, tile_elems = w->tile_bytes / sizeof(WT);
    const int n_v = n_tiles == 2 ? 2 * ENG_TILE / 16 : N_V(n_rows);

    for (size_t lane = 0; lane < ENG_TILE; lane += 16 * (size_t)n_v) {
        const WT *tile = (const WT *)w->tiles + t * tile_elems;
        const float *in = x->f + r * cols;
        VT acc[8][4];

        ENG_UNROLL
        for (int i = 0; i < n_rows; i++)
            ENG_UNROLL
        for (int j = 0; j < n_v; j++)
            acc[i][j] = V(set1)(0);
        for (size_t k = 0; k < cols; k++, tile += ENG_TILE) {
            VT wv[4];

            if (r == 0 && lane == 0)
                eng_prefetch(tile, ENG_TILE * sizeof(WT), n_tiles, w->tile_bytes);
            ENG_UNROLL
            for (int j = 0; j < n_v; j++) {
                const size_t at = lane + 16 * (size_t)j;

                wv[j] = LOADW(tile + at / ENG_TILE * tile_elems + at % ENG_TILE);
            }
            ENG_UNROLL
            for (int i = 0; i < n_rows; i++)
                ENG_UNROLL
            for (int j = 0; j < n_v; j++)
                acc[i][j] = V(fma)(wv[j], V(set1)(in[(size_t)i * cols + k]), acc[i][j]);
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
