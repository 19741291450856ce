/* y[r][o] = W[o,:] · x[r,:] of a type with blocks of 32 weights w = d (u - BIAS), or w = d u + m,
 * where u is unsigned and has WEIGHT_BITS bits. Included by such a type's file, which defines
 *   struct tile_block        one block of ENG_TILE rows: binary16 d[ENG_TILE], m[ENG_TILE] where
 *                            HAS_MIN, and the u, grouped by 4 consecutive k for vpdpbusd
 *   WEIGHT_BITS              4, 5 or 8
 *   BIAS_BITS                BIAS is 2^BIAS_BITS; unless HAS_MIN
 *   weight(b, o, i)          u of row o, element i
 *   a2_weights(b, g, o, lo, hi), a5_weights
 *                            u of the rows o.. (8 of them, 16) of the elements 4g..4g+3 (lo) and
 *                            16+4g..16+4g+3 (hi), g in 0..3
 *
 * The activations are quantised alike (kernels->quantize_q8): s is the sum of a block's q. Per
 * block, ascending, one accumulator per output: dot = Σ (u - BIAS) q                 exact: 32 *
 * 255 * 127 < 2^24, in float as well acc = fma(d_w d_x, dot, acc) acc = fma(m_w, d_x s, acc) where
 * HAS_MIN The vector kernels take Σ u q - BIAS s, the same integer; s comes as two 16-bit halves in
 * a 32-bit lane, which vpmaddwd adds and multiplies. */

#ifdef HAS_MIN
#define BIAS_BITS 0 /* unused */
#else
#define HAS_MIN 0
#endif

static size_t tile_bytes(size_t cols)
{
    return cols / ENG_Q8_BLOCK * sizeof(struct tile_block);
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
                        dot += (weight(&tile[b], o, i) - (HAS_MIN ? 0 : 1 << BIAS_BITS)) * xq[i];
                    acc[o] = fmaf(eng_f16_to_f32(tile[b].d[o]) * dx, (float)dot, acc[o]);
#if HAS_MIN
                    const int16_t *s = x->s + 2 * (r * n_blocks + b);

                    acc[o] = fmaf(eng_f16_to_f32(tile[b].m[o]), dx * (float)(s[0] + s[1]), acc[o]);
#endif
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

/* n_rows rows by 8 n_v lanes at a time, n_v so that the accumulators fit into 16 registers.
 *
 * vpmaddubsw saturates at 16 bits, so its exactness: 8-bit weights are given their sign back, |u -
 * 128| times ±q, at most 2 * 128 * 127 = 32512 a pair. Below 8 bits u itself goes in, at most
 * 2 * 15 * 127 = 3810 or 2 * 31 * 127 = 7874 a pair, and 8 or 4 pairs are summed in 16 bits, at
 * most 30480 or 31496. */
ENG_INL ENG_TGT_AVX2 void a2_block(const struct eng_mat *w, size_t t, const struct eng_act *x,
                                   size_t r, float *y, size_t y_stride, const int n_rows,
                                   const int n_tiles)
{
    const size_t n_blocks = w->cols / ENG_Q8_BLOCK;
    const struct tile_block *tile = (const struct tile_block *)w->tiles + t * n_blocks;
    const __m256i ones = _mm256_set1_epi16(1);
    const __m256i s_factor = _mm256_set1_epi16(HAS_MIN ? 1 : -(1 << BIAS_BITS));
    const int n_v = n_rows == 1 ? 4 : n_rows == 2 ? 2 : 1;

    (void)n_tiles; /* 1: there are no registers for more */

    for (size_t o = 0; o < ENG_TILE; o += 8 * (size_t)n_v) {
        __m256 acc[4][4];

        ENG_UNROLL
        for (int i = 0; i < n_rows; i++)
            ENG_UNROLL
        for (int j = 0; j < n_v; j++)
            acc[i][j] = _mm256_setzero_ps();
        for (size_t b = 0; b < n_blocks; b++) {
            const int8_t *xq = x->q + r * w->cols + b * ENG_Q8_BLOCK;
            __m256i dot[4][4], part[4][4];

            ENG_UNROLL
            for (int i = 0; i < n_rows; i++)
                ENG_UNROLL
            for (int j = 0; j < n_v; j++)
                dot[i][j] = part[i][j] = _mm256_setzero_si256();
            ENG_UNROLL
            for (int g = 0; g < 4; g++) {
                ENG_UNROLL
                for (int j = 0; j < n_v; j++) {
                    __m256i u[2];

                    a2_weights(&tile[b], g, o + 8 * (size_t)j, &u[0], &u[1]);
                    ENG_UNROLL
                    for (int h = 0; h < 2; h++) {
#if WEIGHT_BITS == 8
                        __m256i s = _mm256_xor_si256(u[h], _mm256_set1_epi8((char)0x80));

                        u[h] = _mm256_abs_epi8(s);
#endif
                        ENG_UNROLL
                        for (int i = 0; i < n_rows; i++) {
                            __m256i q = _mm256_set1_epi32(
                                load_i32(xq + (size_t)i * w->cols + 16 * h + 4 * g));
#if WEIGHT_BITS == 8
                            __m256i p = _mm256_maddubs_epi16(u[h], _mm256_sign_epi8(q, s));

                            dot[i][j] = _mm256_add_epi32(dot[i][j], _mm256_madd_epi16(p, ones));
#else
                            part[i][j] =
                                _mm256_add_epi16(part[i][j], _mm256_maddubs_epi16(u[h], q));
#endif
                        }
                    }
                    if (WEIGHT_BITS == 8 || (WEIGHT_BITS == 4 ? g < 3 : g % 2 == 0))
                        continue;
                    ENG_UNROLL
                    for (int i = 0; i < n_rows; i++) {
                        dot[i][j] =
                            _mm256_add_epi32(dot[i][j], _mm256_madd_epi16(part[i][j], ones));
                        part[i][j] = _mm256_setzero_si256();
                    }
                }
            }
            ENG_UNROLL
            for (int i = 0; i < n_rows; i++) {
                const size_t at = (r + (size_t)i) * n_blocks + b;
                const __m256 dx = _mm256_set1_ps(x->d[at]);
                const __m256i s =
                    _mm256_madd_epi16(_mm256_set1_epi32(load_i32(x->s + 2 * at)), s_factor);

                ENG_UNROLL
                for (int j = 0; j < n_v; j++) {
                    const size_t lane = o + 8 * (size_t)j;
                    __m256 d = _mm256_mul_ps(a2_load8h(tile[b].d + lane), dx);

                    if (WEIGHT_BITS < 8 && !HAS_MIN)
                        dot[i][j] = _mm256_add_epi32(dot[i][j], s);
                    acc[i][j] = _mm256_fmadd_ps(d, _mm256_cvtepi32_ps(dot[i][j]), acc[i][j]);
#if HAS_MIN
                    acc[i][j] =
                        _mm256_fmadd_ps(a2_load8h(tile[b].m + lane),
                                        _mm256_mul_ps(dx, _mm256_cvtepi32_ps(s)), acc[i][j]);
#endif
                }
            }
        }
        ENG_UNROLL
        for (int i = 0; i < n_rows; i++)
            ENG_UNROLL
        for (int j = 0; j < n_v; j++)
            a2_store8_tile(w, t, o + 8 * (size_t)j, y + (r + (size_t)i) * y_stride, acc[i][j]);
    }
}
ENG_MM_DRIVER(mm_avx2, ENG_TGT_AVX2, a2_block, 4, 0)

/* n_rows rows by the two vectors of each tile: 6 by 2 are 12 chains of vpdpbusd and 12 of the
 * multiply-add, and 27 registers. */
ENG_INL ENG_TGT_AVX512 void a5_block(const struct eng_mat *w, size_t t, const struct eng_act *x,
                                     size_t r, float *y, size_t y_stride, const int n_rows,
                                     const int n_tiles)
{
    const size_t n_blocks = w->cols / ENG_Q8_BLOCK;
    const struct tile_block *tile = (const struct tile_block *)w->tiles + t * n_blocks;
    const int8_t *xq = x->q + r * w->cols;
    const float *xd = x->d + r * n_blocks;
    const int16_t *xs = x->s + 2 * r * n_blocks;
    const __m512i s_factor = _mm512_set1_epi16(HAS_MIN ? 1 : -(1 << BIAS_BITS));
    __m512 acc[6][4];

    ENG_UNROLL
    for (int i = 0; i < n_rows; i++)
        ENG_UNROLL
    for (int j = 0; j < 2 * n_tiles; j++)
        acc[i][j] = _mm512_setzero_ps();
    for (size_t b = 0; b < n_blocks; b++, tile++, xq += ENG_Q8_BLOCK) {
        __m512i dot[6][4], s[6];

        if (r == 0) /* the others find it in a cache */
            eng_prefetch(tile, sizeof(*tile), n_tiles, n_blocks * sizeof(*tile));
        ENG_UNROLL
        for (int i = 0; i < n_rows; i++) {
            s[i] = _mm512_madd_epi16(
                _mm512_set1_epi32(load_i32(xs + 2 * ((size_t)i * n_blocks + b))), s_factor);
            ENG_UNROLL
            for (int j = 0; j < 2 * n_tiles; j++)
                dot[i][j] = HAS_MIN ? _mm512_setzero_si512() : s[i];
        }
        ENG_UNROLL
        for (int g = 0; g < 4; g++) {
            __m512i u[2][4];

            ENG_UNROLL
            for (int j = 0; j < 2 * n_tiles; j++)
                a5_weights(tile + (size_t)(j / 2) * n_blocks, g, 16 * (size_t)(j % 2), &u[0][j],
                           &u[1][j]);
            ENG_UNROLL
            for (int h = 0; h < 2; h++)
                ENG_UNROLL
            for (int i = 0; i < n_rows; i++) {
                __m512i q = _mm512_set1_epi32(load_i32(xq + (size_t)i * w->cols + 16 * h + 4 * g));

                ENG_UNROLL
                for (int j = 0; j < 2 * n_tiles; j++)
                    dot[i][j] = _mm512_dpbusd_epi32(dot[i][j], u[h][j], q);
            }
        }
        ENG_UNROLL
        for (int i = 0; i < n_rows; i++) {
            const __m512 dx = _mm512_set1_ps(xd[(size_t)i * n_blocks + b]);

            ENG_UNROLL
            for (int j = 0; j < 2 * n_tiles; j++) {
                const struct tile_block *from = tile + (size_t)(j / 2) * n_blocks;
                const size_t lane = 16 * (size_t)(j % 2);

                acc[i][j] = _mm512_fmadd_ps(_mm512_mul_ps(a5_loadh(from->d + lane).x, dx),
                                            _mm512_cvtepi32_ps(dot[i][j]), acc[i][j]);
#if HAS_MIN
                acc[i][j] = _mm512_fmadd_ps(a5_loadh(from->m + lane).x,
                                            _mm512_mul_ps(dx, _mm512_cvtepi32_ps(s[i])), acc[i][j]);
#endif
            }
        }
    }
    ENG_UNROLL
    for (int i = 0; i < n_rows; i++)
        ENG_UNROLL
    for (int j = 0; j < 2 * n_tiles; j++)
        a5_store_tile(w, t + (size_t)(j / 2), 16 * (size_t)(j % 2),
                      y + (r + (size_t)i) * y_stride, (struct a5_v){acc[i][j]});
}
ENG_MM_DRIVER(mm_avx512, ENG_TGT_AVX512, a5_block, 6, 3)

#else
#define mm_avx2   mm_scalar
#define mm_avx512 mm_scalar
#endif
