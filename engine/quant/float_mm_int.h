/* y[r][o] = Σ_k W[o][k] x[r][k], k ascending, one fused multiply-add per k: the block of a float
 * type for one instruction set. Included by f32.c, f16.c and bf16.c with V(x), VT, TGT as in
 * kernels_simd_int.h, WT the stored type, LOADW(p) 16 weights as floats. Tiles are
 * [cols][ENG_TILE]; x is [n_rows][cols]. */
ENG_INL TGT void V(block)(const struct eng_mat *w, size_t t, const struct eng_act *x, size_t r,
                          float *y, size_t y_stride, const int n_rows, const int n_tiles)
{
    const size_t cols = w->cols, tile_elems = w->tile_bytes / sizeof(WT);
    const WT *tiles = (const WT *)w->tiles + t * tile_elems;
    const float *in = x->f + r * cols;
    VT acc[4][8];

    ENG_UNROLL
    for (int i = 0; i < n_rows; i++)
        ENG_UNROLL
    for (int j = 0; j < n_tiles; j++)
        acc[i][j] = V(set1)(0);
    for (size_t k = 0; k < cols; k++) {
        ENG_UNROLL
        for (int j = 0; j < n_tiles; j++) {
            VT wv = LOADW(tiles + (size_t)j * tile_elems + k * ENG_TILE);

            ENG_UNROLL
            for (int i = 0; i < n_rows; i++)
                acc[i][j] = V(fma)(wv, V(set1)(in[(size_t)i * cols + k]), acc[i][j]);
        }
    }
    ENG_UNROLL
    for (int i = 0; i < n_rows; i++)
        ENG_UNROLL
    for (int j = 0; j < n_tiles; j++) {
        size_t tile = t + (size_t)j;

        V(store_n)
        (y + (r + (size_t)i) * y_stride + tile * ENG_TILE, acc[i][j], eng_tile_rows(w, tile));
    }
}
