/* engine/kernels*.c, engine/math.c, engine/quant*: every instruction set gives the scalar kernels'
 * bits, a row's result does not depend on its batch, and the scalar kernels compute what they say.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/kernels.h"

#define GUARD 0x5a

static uint64_t rng_state = 0x9e3779b97f4a7c15ULL;

static uint64_t rnd(void)
{
    rng_state ^= rng_state << 13;
    rng_state ^= rng_state >> 7;
    rng_state ^= rng_state << 17;
    return rng_state;
}

static float rnd_float(float range)
{
    return ((float)(rnd() >> 40) / 8388608.0f - 1.0f) * range;
}

static void *xalloc(size_t bytes)
{
    void *p = aligned_alloc(64, (bytes + 127) / 64 * 64);

    assert_non_null(p);
    memset(p, GUARD, (bytes + 127) / 64 * 64);
    return p;
}

static float *rnd_floats(size_t n, float range)
{
    float *p = xalloc(n * sizeof *p);

    for (size_t i = 0; i < n; i++)
        p[i] = rnd_float(range);
    return p;
}

/* Any valid bytes of the type: random bits would hold NaNs, so values are made and converted. */
static void fill_weights(const struct eng_quant *q, unsigned char *dst, size_t n)
{
    for (size_t b = 0; b < n / q->block_elems; b++, dst += q->block_bytes) {
        float f = rnd_float(2);
        uint32_t bits;
        uint16_t h = eng_f32_to_f16(f);

        memcpy(&bits, &f, sizeof bits);
        if (strcmp(q->name, "F32") == 0) {
            memcpy(dst, &f, 4);
        } else if (strcmp(q->name, "F16") == 0) {
            memcpy(dst, &h, 2);
        } else if (strcmp(q->name, "BF16") == 0) {
            h = (uint16_t)(bits >> 16);
            memcpy(dst, &h, 2);
        } else { /* integers, all of them extreme in some blocks, and one or two binary16 scales */
            static const struct {
                const char *name;
                size_t d[2];
            } at[] = {{"Q4_1", {0, 2}}, {"Q5_1", {0, 2}}, {"Q2_K", {80, 82}},  {"Q3_K", {108, 108}},
                      {"Q4_K", {0, 2}}, {"Q5_K", {0, 2}}, {"Q6_K", {208, 208}}};
            const size_t *d = (const size_t[2]){0, 0};
            unsigned char extreme = rnd() % 3 ? 0x80 : 0xff;
            bool some = rnd() % 4 == 0;

            for (size_t i = 0; i < q->block_bytes; i++)
                dst[i] = !some ? (unsigned char)rnd() : rnd() % 8 ? extreme : 0x7f;
            for (size_t i = 0; i < sizeof at / sizeof *at; i++)
                d = strcmp(q->name, at[i].name) == 0 ? at[i].d : d;
            memcpy(dst + d[0], &h, 2);
            h = eng_f32_to_f16(rnd_float(2));
            memcpy(dst + d[1], &h, 2);
        }
    }
}

static void check_mm(const struct eng_quant *q, size_t rows, size_t cols, size_t n)
{
    size_t row_bytes = cols / q->block_elems * q->block_bytes, y_stride = rows + 3,
           y_bytes = n * y_stride * sizeof(float);
    unsigned char *src = malloc(rows * row_bytes);
    float *dense = xalloc(cols * sizeof *dense), *f = rnd_floats(n * cols, 3),
          *want = xalloc(y_bytes);
    float *got = xalloc(y_bytes), *d = xalloc(n * cols / 32 * sizeof *d);
    int8_t *xq = xalloc(n * cols);
    int16_t *s = xalloc(n * cols / 16 * sizeof *s);
    struct eng_act x = {n, cols, f, xq, d, s};
    struct eng_mat m;

    assert_non_null(src);
    fill_weights(q, src, rows * cols);
    for (size_t i = 0; i < cols && n > 1; i++)
        f[i] = rnd() % 3 ? 3.0f : -3.0f; /* q = ±127 throughout a row */
    assert_int_equal(eng_mat_init(&m, q, src, rows, cols, NULL, NULL), 0);
    eng_kernels(ENG_ISA_SCALAR)->quantize_q8(f, n * cols, xq, d, s);
    q->mm[ENG_ISA_SCALAR](&m, 0, m.n_tiles, &x, want, y_stride);

    for (size_t o = 0; o < rows; o++) { /* the reference */
        q->dequant(src + o * row_bytes, dense, cols);
        for (size_t r = 0; r < n; r++) {
            double sum = 0, scale = 0;

            for (size_t k = 0; k < cols; k++) {
                float xv = q->wants_q8 ? d[(r * cols + k) / 32] * (float)xq[r * cols + k]
                                       : f[r * cols + k];

                sum += (double)dense[k] * (double)xv;
                scale += fabs((double)dense[k] * (double)xv);
            }
            assert_true(fabs(sum - (double)want[r * y_stride + o]) <= 1e-5 * scale + 1e-30);
        }
    }
    for (int isa = 0; isa < ENG_N_ISA; isa++) {
        if (!eng_isa_supported((enum eng_isa)isa))
            continue;
        memset(got, GUARD, y_bytes);
        q->mm[isa](&m, 0, m.n_tiles, &x, got, y_stride);
        assert_memory_equal(got, want, y_bytes);
        /* by ranges of tiles */
        memset(got, GUARD, y_bytes);
        q->mm[isa](&m, m.n_tiles / 2, m.n_tiles, &x, got, y_stride);
        q->mm[isa](&m, 0, m.n_tiles / 2, &x, got, y_stride);
        assert_memory_equal(got, want, y_bytes);
        /* row by row: mm(A[i], B) == mm(A, B)[i] */
        memset(got, GUARD, y_bytes);
        for (size_t r = 0; r < n; r++) {
            struct eng_act one = {
                1, cols, f + r * cols, xq + r * cols, d + r * cols / 32, s + r * cols / 16};

            q->mm[isa](&m, 0, m.n_tiles, &one, got + r * y_stride, y_stride);
        }
        assert_memory_equal(got, want, y_bytes);
    }
    eng_mat_done(&m);
    free(src), free(dense), free(f), free(want), free(got), free(d), free(xq), free(s);
}

static void mm_equal(void **state)
{
    static const size_t cols[] = {32, 64, 96, 288, 512}, rows[] = {1, 5, 15, 16, 17, 33, 70, 150};
    static const size_t batch[] = {1, 2, 3, 4, 5, 7, 8, 16, 33};

    (void)state;
    for (const struct eng_quant *const *q = eng_quants; *q; q++) {
        assert_ptr_equal(eng_quant_find((*q)->ggml_type), *q);
        assert_int_equal((*q)->tile_bytes(256) % 64, 0);
        for (size_t c = 0; c < sizeof cols / sizeof *cols; c++)
            for (size_t r = 0; r < sizeof rows / sizeof *rows; r++)
                for (size_t b = 0; b < sizeof batch / sizeof *batch; b++)
                    if ((*q)->block_elems > 32 ? c < 3 && (c + r + b) % 3 == 0
                                               : c < 2 || (c + r + b) % 5 == 0)
                        check_mm(*q, rows[r], cols[c] * ((*q)->block_elems > 32 ? 8 : 1), batch[b]);
    }
    assert_null(eng_quant_find(9999));
}

/* The 4- and 5-bit types, read from their description: scale, minimum if any, fifth bits if any,
 * nibbles. d u has few enough bits to be exact. */
static void dequant_nibbles(void **state)
{
    static const struct {
        const char *name;
        bool min, five;
    } types[] = {
        {"Q4_0", false, false}, {"Q4_1", true, false}, {"Q5_0", false, true}, {"Q5_1", true, true}};
    enum { N = 32 * 50 };
    float got[N];

    (void)state;
    for (size_t t = 0; t < sizeof types / sizeof *types; t++) {
        const struct eng_quant *const *q = eng_quants;
        unsigned char src[N / 32 * 24], *p = src;

        while (*q && strcmp((*q)->name, types[t].name) != 0)
            q++;
        assert_non_null(*q);
        fill_weights(*q, src, N);
        (*q)->dequant(src, got, N);
        for (size_t i = 0; i < N; i++) {
            size_t j = i % 32, at = types[t].min ? 4 : 2;
            uint16_t d, m;
            double want;
            int u;

            if (i > 0 && j == 0)
                p += (*q)->block_bytes;
            memcpy(&d, p, 2);
            memcpy(&m, p + 2, 2);
            u = p[at + (types[t].five ? 4 : 0) + j % 16];
            u = j < 16 ? u % 16 : u / 16;
            if (types[t].five)
                u += p[at + j / 8] & 1 << j % 8 ? 16 : 0;
            want = (double)eng_f16_to_f32(d);
            if (types[t].min)
                want = want * u + (double)eng_f16_to_f32(m);
            else
                want *= u - (types[t].five ? 16 : 8);
            assert_true(got[i] == (float)want);
        }
    }
}

static void mm_any_cols(void **state) /* float types take any number of columns */
{
    (void)state;
    for (const struct eng_quant *const *q = eng_quants; *q; q++) {
        struct pd_err err;
        struct eng_mat m;
        const char src[64] = {0};

        if ((*q)->block_elems == 1) {
            check_mm(*q, 37, 33, 6);
            check_mm(*q, 3, 1, 1);
        } else {
            assert_int_equal(eng_mat_init(&m, *q, src, 1, 33, NULL, &err), PD_EINVAL);
        }
        assert_int_equal(eng_mat_init(&m, *q, src, 0, 32, NULL, &err), PD_EINVAL);
        assert_int_equal(eng_mat_init(&m, *q, src, SIZE_MAX / 2, 1 << 20, NULL, &err),
                         (*q)->block_elems ? PD_ENOMEM : 0);
    }
}

/* Runs body for every supported vector set, as k; s is the scalar set. */
#define FOR_ISA(k, s)                                                                              \
    for (const struct eng_kernels *s = eng_kernels(ENG_ISA_SCALAR), *k = s; s; s = NULL)           \
        for (int isa_ = 1; isa_ < ENG_N_ISA; isa_++)                                               \
            if (eng_isa_supported((enum eng_isa)isa_) &&                                           \
                (k = eng_kernels((enum eng_isa)isa_)) != NULL)

static void vectors_equal(void **state)
{
    (void)state;
    for (size_t n = 1; n < 200; n += n < 70 ? 1 : 13) {
        size_t bytes = (n + 16) * sizeof(float);
        float *x = rnd_floats(n, 20), *w = rnd_floats(n, 2), *a = xalloc(bytes), *b = xalloc(bytes);

        x[rnd() % n] = 0.0f;
        x[rnd() % n] = -0.0f;
        FOR_ISA(k, s)
        {
            assert_int_equal(k->isa, isa_);
            memset(a, GUARD, bytes), memset(b, GUARD, bytes);
            s->rmsnorm(a, x, w, n, 1e-5f), k->rmsnorm(b, x, w, n, 1e-5f);
            assert_memory_equal(a, b, bytes);
            memcpy(a, x, n * 4), memcpy(b, x, n * 4);
            s->rmsnorm(a, a, w, n, 1e-5f), k->rmsnorm(b, b, w, n, 1e-5f);
            assert_memory_equal(a, b, bytes);
            memcpy(a, x, n * 4), memcpy(b, x, n * 4);
            a[0] = b[0] = -200.0f;
            s->swiglu(a, w, n), k->swiglu(b, w, n);
            assert_memory_equal(a, b, bytes);
            memcpy(a, x, n * 4), memcpy(b, x, n * 4);
            a[n - 1] = b[n - 1] = -2e19f; /* its square is infinite */
            s->geglu(a, w, n), k->geglu(b, w, n);
            assert_memory_equal(a, b, bytes);
            assert_true(a[n - 1] == 0);
            s->add(a, w, n), k->add(b, w, n);
            assert_memory_equal(a, b, bytes);
            s->axpy(a, 0.3f, x, n), k->axpy(b, 0.3f, x, n);
            assert_memory_equal(a, b, bytes);
            s->softcap(a, n, 1.5f), k->softcap(b, n, 1.5f);
            assert_memory_equal(a, b, bytes);
            s->divide(a, w, n, 1.7f), k->divide(b, w, n, 1.7f);
            assert_memory_equal(a, b, bytes);
            memset(a, GUARD, bytes), memset(b, GUARD, bytes);
            s->to_f16(x, (uint16_t *)(void *)a, n), k->to_f16(x, (uint16_t *)(void *)b, n);
            assert_memory_equal(a, b, bytes);
            {
                float ma = s->max(x, n), mb = k->max(x, n), sa, sb;

                assert_memory_equal(&ma, &mb, sizeof ma);
                memset(a, GUARD, bytes), memset(b, GUARD, bytes);
                sa = s->exp_sum(x, n, ma, 3.7f, a), sb = k->exp_sum(x, n, ma, 3.7f, b);
                assert_memory_equal(&sa, &sb, sizeof sa);
                assert_memory_equal(a, b, bytes);
            }
        }
        free(x), free(w), free(a), free(b);
    }
}

static void max_zero(void **state) /* ±0 in any order is +0 */
{
    float x[40], m;

    (void)state;
    for (int isa = 0; isa < ENG_N_ISA; isa++)
        for (size_t z = 0; z < 40 && eng_isa_supported((enum eng_isa)isa); z++) {
            for (size_t i = 0; i < 40; i++)
                x[i] = i == z ? 0.0f : -0.0f;
            for (size_t n = 1; n <= 40; n++) {
                m = eng_kernels((enum eng_isa)isa)->max(x, n);
                assert_true(m == 0 && !signbit(m));
            }
        }
}

static void quantize_equal(void **state)
{
    enum { N = 32 * 9 };
    float d[2][N / 32], *x = rnd_floats(N, 5);
    int8_t q[2][N];
    int16_t s[2][N / 16];

    (void)state;
    memset(x, 0, 32 * sizeof *x);
    for (size_t i = 32; i < 64; i++)
        x[i] = rnd_float(1e-39f); /* d below FLT_MIN */
    for (size_t i = 64; i < 96; i++)
        x[i] = (float)(int)(i - 80) * 0.5f; /* ties */
    x[64] = 127.0f;
    for (size_t i = 96; i < 128; i++)
        x[i] = rnd_float(3e38f);
    FOR_ISA(k, sc)
    {
        memset(q, GUARD, sizeof q);
        sc->quantize_q8(x, N, q[0], d[0], s[0]);
        k->quantize_q8(x, N, q[1], d[1], s[1]);
        assert_memory_equal(q[0], q[1], sizeof q[0]);
        assert_memory_equal(d[0], d[1], sizeof d[0]);
        assert_memory_equal(s[0], s[1], sizeof s[0]);
    }
    eng_kernels(ENG_ISA_SCALAR)->quantize_q8(x, N, q[0], d[0], s[0]);
    for (size_t i = 0; i < N; i++) {
        assert_true(q[0][i] >= -127);
        assert_true(fabsf(x[i] - d[0][i / 32] * (float)q[0][i]) <= d[0][i / 32] * 0.5001f + 1e-37f);
    }
    for (size_t h = 0; h < N / 16; h++) {
        int sum = 0;

        for (size_t i = 0; i < 16; i++)
            sum += q[0][h * 16 + i];
        assert_int_equal(s[0][h], sum);
    }
    assert_int_equal(q[0][65], -8); /* -7.5 */
    assert_int_equal(q[0][67], -6); /* -6.5 */
    free(x);
}

static void rope_equal(void **state)
{
    static const size_t dims[][2] = {{2, 2},   {6, 6},   {8, 8},    {10, 4},
                                     {64, 64}, {66, 50}, {128, 128}};

    (void)state;
    for (size_t i = 0; i < sizeof dims / sizeof *dims; i++) {
        size_t hd = dims[i][0], n_rot = dims[i][1], n = 3 * hd;
        float freq[64], c[64], s[64], *x = rnd_floats(n, 4), *a = rnd_floats(n, 0),
                                      *b = rnd_floats(n, 0);

        eng_rope_freqs(10000.0f, n_rot, freq);
        eng_rope_angles(1234, freq, 1, n_rot / 2, c, s);
        FOR_ISA(k, sc)
        {
            memcpy(a, x, n * 4), memcpy(b, x, n * 4);
            sc->rope(a, 3, hd, n_rot, c, s), k->rope(b, 3, hd, n_rot, c, s);
            assert_memory_equal(a, b, n * 4);
            memcpy(a, x, n * 4), memcpy(b, x, n * 4);
            sc->rope_neox(a, 3, hd, n_rot, c, s), k->rope_neox(b, 3, hd, n_rot, c, s);
            assert_memory_equal(a, b, n * 4);
        }
        free(x), free(a), free(b);
    }
}

/* The two orders are one rotation of differently sorted vectors. */
static void rope_orders(void **state)
{
    enum { HD = 40, ROT = 36 };
    float freq[ROT / 2], c[ROT / 2], s[ROT / 2], *x = rnd_floats(HD, 4), neox[HD];

    (void)state;
    eng_rope_freqs(10000.0f, ROT, freq);
    eng_rope_angles(77, freq, 1, ROT / 2, c, s);
    for (size_t i = 0; i < HD; i++)
        neox[i] = x[i >= ROT ? i : i < ROT / 2 ? 2 * i : 2 * (i - ROT / 2) + 1];
    eng_kernels(ENG_ISA_SCALAR)->rope(x, 1, HD, ROT, c, s);
    eng_kernels(ENG_ISA_SCALAR)->rope_neox(neox, 1, HD, ROT, c, s);
    for (size_t i = 0; i < HD; i++)
        assert_true(neox[i] == x[i >= ROT ? i : i < ROT / 2 ? 2 * i : 2 * (i - ROT / 2) + 1]);
    free(x);
}

struct attn_case {
    const struct eng_kv_type *type;
    size_t hd, n_q;
    float softcap;
    int spans; /* 0: whole pages, 1: the last page ends early, 2: any, 3: span is NULL */
};

/* Room for a tile in the state before its first page. */
static struct eng_attn_tile new_tile(const struct attn_case *c, const float *q)
{
    size_t o_stride = (c->hd + 15) / 16 * 16;
    struct eng_attn_tile t = {.head_dim = c->hd,
                              .o_stride = o_stride,
                              .q = q,
                              .m = xalloc((ENG_ATTN_TILE + 16) * 4),
                              .l = xalloc((ENG_ATTN_TILE + 16) * 4),
                              .o = xalloc(ENG_ATTN_TILE * o_stride * 4),
                              .softcap = c->softcap};

    for (size_t i = 0; i < ENG_ATTN_TILE; i++)
        t.m[i] = -INFINITY, t.l[i] = 0;
    for (size_t i = 0; i < ENG_ATTN_TILE * o_stride; i++)
        t.o[i] = -0.0f;
    return t;
}

static void free_tile(struct eng_attn_tile *t)
{
    free(t->m), free(t->l), free(t->o);
}

/* The type's own way if it has one, or by way of F32. */
static void attn_page(const struct attn_case *c, int isa, bool direct,
                      const struct eng_attn_tile *t, size_t i0, size_t n, const void *kv,
                      const struct eng_span *span)
{
    float *page;

    if (direct && c->type->attn[isa]) {
        c->type->attn[isa](t, i0, n, kv, span);
        return;
    }
    page = xalloc((2 * c->hd * ENG_PAGE + 16) * 4);
    if (c->type->get[isa])
        c->type->get[isa](kv, c->hd, page);
    else
        memcpy(page, kv, 2 * c->hd * ENG_PAGE * 4);
    eng_kv_f32.attn[isa](t, i0, n, page, span);
    free(page);
}

static void same_tile(const struct attn_case *c, const struct eng_attn_tile *a,
                      const struct eng_attn_tile *b, size_t i0, size_t n)
{
    for (size_t i = i0; i < i0 + n; i++) {
        assert_memory_equal(&a->m[i], &b->m[i], 4);
        assert_memory_equal(&a->l[i], &b->l[i], 4);
        assert_memory_equal(a->o + i * a->o_stride, b->o + i * b->o_stride, c->hd * 4);
    }
}

static void check_attn(const struct attn_case *c)
{
    enum { PAGES = 3 };
    size_t hd = c->hd, n_q = c->n_q, bytes = c->type->bytes(hd);
    float *q = rnd_floats(hd * ENG_ATTN_TILE, 1), *k = rnd_floats(PAGES * ENG_PAGE * hd, 2),
          *v = rnd_floats(PAGES * ENG_PAGE * hd, 2), *page = xalloc((2 * hd * ENG_PAGE + 16) * 4);
    unsigned char *kv[ENG_N_ISA] = {0};
    struct eng_span span[PAGES][ENG_ATTN_TILE];
    struct eng_attn_tile want = new_tile(c, q);

    assert_int_equal(bytes % 64, 0);
    for (size_t p = 0; p < PAGES; p++) {
        for (size_t i = 0; i < n_q; i++) {
            unsigned first = c->spans == 2 ? rnd() % ENG_PAGE : 0, end = ENG_PAGE;

            if (c->spans == 2 || (c->spans == 1 && p + 1 == PAGES))
                end = first + 1 + rnd() % (ENG_PAGE - first);
            span[p][i] = (struct eng_span){(uint8_t)first, (uint8_t)end};
        }
    }
    for (int isa = 0; isa < ENG_N_ISA; isa++) {
        if (!eng_isa_supported((enum eng_isa)isa))
            continue;
        /* Positions nobody was to see are NaN where the type can say so. */
        kv[isa] = xalloc(PAGES * bytes + 64);
        memset(kv[isa], strcmp(c->type->name, "q8_0") ? 0xff : 0x7b, PAGES * bytes + 64);
        for (size_t t = 0; t < PAGES * ENG_PAGE; t++) {
            bool seen = false;

            for (size_t i = 0; i < n_q; i++)
                seen |= t % ENG_PAGE >= span[t / ENG_PAGE][i].first &&
                        t % ENG_PAGE < span[t / ENG_PAGE][i].end;
            if (seen)
                c->type->put(eng_kernels((enum eng_isa)isa), kv[isa] + t / ENG_PAGE * bytes,
                             t % ENG_PAGE, k + t * hd, v + t * hd, hd);
        }
        assert_memory_equal(kv[isa], kv[0], PAGES * bytes);
    }
    for (size_t p = 0; p < PAGES; p++)
        attn_page(c, 0, true, &want, 0, n_q, kv[0] + p * bytes, c->spans == 3 ? NULL : span[p]);
    for (int isa = 0; isa < ENG_N_ISA; isa++) {
        for (int way = 0; way < 2 && eng_isa_supported((enum eng_isa)isa); way++) {
            struct eng_attn_tile all = new_tile(c, q), cut = new_tile(c, q);
            size_t at = rnd() % n_q;

            for (size_t p = 0; p < PAGES; p++) {
                const void *from = kv[isa] + p * bytes;
                const struct eng_span *sp = c->spans == 3 ? NULL : span[p];

                attn_page(c, isa, way, &all, 0, n_q, from, sp);
                /* in two calls, and alone */
                attn_page(c, isa, way, &cut, 0, at, from, sp);
                attn_page(c, isa, way, &cut, at, 1, from, sp ? sp + at : NULL);
                attn_page(c, isa, way, &cut, at + 1, n_q - at - 1, from, sp ? sp + at + 1 : NULL);
            }
            same_tile(c, &all, &want, 0, n_q);
            same_tile(c, &cut, &want, 0, n_q);
            for (size_t i = n_q; i < ENG_ATTN_TILE; i++) /* the other slots are untouched */
                assert_true(isinf(all.m[i]) && all.l[i] == 0 && all.o[i * all.o_stride] == 0);
            free_tile(&all), free_tile(&cut);
        }
    }
    for (size_t i = 0; i < n_q; i++) { /* the reference */
        double sum = 0, *o = calloc(hd, sizeof *o);

        for (size_t p = 0; p < PAGES; p++) {
            if (c->type->get[0])
                c->type->get[0](kv[0] + p * bytes, hd, page);
            else
                memcpy(page, kv[0] + p * bytes, 2 * hd * ENG_PAGE * 4);
            for (size_t t = span[p][i].first; t < span[p][i].end; t++) {
                double x = 0;

                for (size_t d = 0; d < hd; d++)
                    x += (double)q[d * ENG_ATTN_TILE + i] * (double)page[d * ENG_PAGE + t];
                if (c->softcap > 0)
                    x = (double)c->softcap * tanh(x / (double)c->softcap);
                sum += exp(x);
                for (size_t d = 0; d < hd; d++)
                    o[d] += exp(x) * (double)page[(ENG_PAGE + t) * hd + d];
            }
        }
        for (size_t d = 0; d < hd; d++)
            assert_true(fabs(o[d] / sum - (double)(want.o[i * want.o_stride + d] / want.l[i])) <
                        1e-4);
        free(o);
    }
    free(q), free(k), free(v), free(page), free_tile(&want);
    for (int isa = 0; isa < ENG_N_ISA; isa++)
        free(kv[isa]);
}

static void attn_equal(void **state)
{
    static const size_t dims[] = {2, 6, 16, 32, 38, 64, 80, 96, 128, 256};

    (void)state;
    for (const struct eng_kv_type *const *type = eng_kv_types; *type; type++) {
        assert_ptr_equal(eng_kv_type_find((*type)->name), *type);
        for (size_t i = 0; i < sizeof dims / sizeof *dims; i++) {
            for (size_t n_q = 1; n_q <= ENG_ATTN_TILE && dims[i] % (*type)->dim_multiple == 0;
                 n_q++) {
                for (int spans = 0; spans < 4; spans++)
                    check_attn(&(struct attn_case){
                        *type, dims[i], n_q, (n_q + (size_t)spans) % 3 == 0 ? 5.0f : 0, spans});
            }
        }
    }
    assert_null(eng_kv_type_find("f17"));
}

/* What put keeps is as near as the type can say. */
static void kv_type_accuracy(void **state)
{
    enum { HD = 96 };
    float *k = rnd_floats(HD, 3), *v = rnd_floats(HD, 3);

    (void)state;
    for (const struct eng_kv_type *const *type = eng_kv_types; *type; type++) {
        float *page = xalloc((2 * HD * ENG_PAGE + 16) * 4);
        double tolerance = strcmp((*type)->name, "f32") == 0   ? 0
                           : strcmp((*type)->name, "f16") == 0 ? 3.0 / 2048
                                                               : 3.0 / 127 / 2 + 3.0 / 2048;
        void *kv = xalloc((*type)->bytes(HD) + 64);

        (*type)->put(eng_kernels(ENG_ISA_SCALAR), kv, 7, k, v, HD);
        if ((*type)->get[0])
            (*type)->get[0](kv, HD, page);
        else
            memcpy(page, kv, 2 * HD * ENG_PAGE * 4);
        for (size_t d = 0; d < HD; d++) {
            assert_true(fabs((double)(page[d * ENG_PAGE + 7] - k[d])) <= tolerance);
            assert_true(fabs((double)(page[HD * ENG_PAGE + 7 * HD + d] - v[d])) <= tolerance);
        }
        free(page), free(kv);
    }
    free(k), free(v);
}

static double ulps(float got, long double want)
{
    float w = (float)want, next = nextafterf(fabsf(w), INFINITY);

    return (double)(fabsl((long double)got - want) / ((long double)next - fabsl((long double)w)));
}

static void exp_log_accuracy(void **state)
{
    double worst = 0, worst_log = 0;

    (void)state;
    for (float x = -103.0f; x < 88.7f; x += 0.00137f) {
        double u = ulps(eng_exp(x), expl((long double)x));

        worst = u > worst ? u : worst;
    }
    for (float x = 1e-40f; x < 1e38f; x *= 1.00037f) {
        double u = ulps(eng_log(x), logl((long double)x));

        worst_log = u > worst_log ? u : worst_log;
    }
    print_message("# exp: %.3f ulp, log: %.3f ulp\n", worst, worst_log);
    assert_true(worst <= 2.0);
    assert_true(worst_log <= 0.51);
    assert_true(eng_exp(0.0f) == 1.0f && eng_exp(-0.0f) == 1.0f);
    assert_true(eng_exp(-104.0f) == 0 && eng_exp(-1e30f) == 0 && eng_exp(-INFINITY) == 0);
    assert_true(isinf(eng_exp(89.0f)) && isinf(eng_exp(INFINITY)) && isnan(eng_exp(NAN)));
    assert_true(eng_log(1.0f) == 0 && eng_log(0.0f) == -INFINITY && isnan(eng_log(-1.0f)) &&
                isinf(eng_log(INFINITY)));
}

/* Every float of a wide range, and infinities: the vector exponentials are eng_exp(). */
static void exp_equal(void **state)
{
    enum { N = 4096 };
    float *x = xalloc(N * 4), *y = xalloc(N * 4);
    uint32_t bits = 0;

    (void)state;
    FOR_ISA(k, s)
    {
        for (int round = 0; round < 200; round++) {
            for (size_t i = 0; i < N; i++) {
                bits = (uint32_t)rnd();
                memcpy(&x[i], &bits, 4);
                if (isnan(x[i]) || round % 2)
                    x[i] = rnd_float(110);
            }
            x[0] = -INFINITY, x[1] = INFINITY, x[2] = -104.0f, x[3] = -103.97f, x[4] = 88.72f;
            k->exp_sum(x, N, 0, 1, y);
            for (size_t i = 0; i < N; i++) {
                float want = eng_exp(x[i]);

                assert_memory_equal(&want, &y[i], 4);
            }
        }
    }
    free(x), free(y);
}

static void rope_accuracy(void **state)
{
    float freq[64], c[64], s[64];

    (void)state;
    eng_rope_freqs(500000.0f, 128, freq);
    for (size_t i = 0; i < 64; i++)
        assert_true(ulps(freq[i], powl(500000.0L, -(long double)(2 * i) / 128)) <= 0.51);
    for (uint32_t pos = 0; pos < 100000; pos += pos < 300 ? 1 : 97) {
        eng_rope_angles(pos, freq, 1, 64, c, s);
        for (size_t i = 0; i < 64; i++) {
            long double a = (long double)pos * (long double)freq[i];

            assert_true(ulps(c[i], cosl(a)) <= 0.51 && ulps(s[i], sinl(a)) <= 0.51);
        }
    }
    eng_rope_angles(1048575, freq, 1, 1, c, s);
    assert_true(ulps(s[0], sinl(1048575.0L)) <= 0.51);
}

/* Llama-2-7B stretched from 4096 to 65536 as the paper has it, beside a formula in long double. */
static void rope_yarn(void **state)
{
    enum { ROT = 128 };
    const struct eng_rope_scaling yarn = {16, 1, 1, 32, 1, 4096},
                                  linear = {4, 0, 0.5f, 32, 1, 4096};
    const long double pi = 3.14159265358979323846264L;
    float plain[ROT / 2], freq[ROT / 2], c[ROT / 2], s[ROT / 2], scale;
    size_t n_spared = 0, n_ramp = 0;

    (void)state;
    eng_rope_freqs(10000.0f, ROT, plain);
    memcpy(freq, plain, sizeof(freq));
    scale = eng_rope_scale(&yarn, 10000.0f, ROT, freq);
    assert_true(ulps(scale, 0.1L * logl(16) + 1) <= 0.51);
    for (size_t i = 0; i < ROT / 2; i++) {
        long double at_fast = ROT * logl(4096 / (32 * 2 * pi)) / (2 * logl(10000));
        long double at_slow = ROT * logl(4096 / (1 * 2 * pi)) / (2 * logl(10000));
        long double low = floorl(at_fast), high = ceill(at_slow);
        long double ramp = fminl(1, fmaxl(0, ((long double)i - low) / (high - low)));
        long double f = (long double)plain[i], want = f / 16 * ramp + f * (1 - ramp);

        assert_true(ulps(freq[i], want) <= 0.51);
        n_spared += freq[i] == plain[i];
        n_ramp += ramp > 0 && ramp < 1;
    }
    assert_true(n_spared > 15 && n_ramp > 15 && n_spared + n_ramp < 55);
    memcpy(freq, plain, sizeof(freq));
    assert_true(eng_rope_scale(&linear, 10000.0f, ROT, freq) == 0.5f);
    for (size_t i = 0; i < ROT / 2; i++)
        assert_true(freq[i] == plain[i] / 4);
    eng_rope_angles(0, freq, 0.5f, ROT / 2, c, s);
    assert_true(c[3] == 0.5f && s[3] == 0);
}

static void gelu_accuracy(void **state)
{
    (void)state;
    for (float x = -12; x < 12; x += 0.001f) {
        float g = x, one = 1, t = x;
        long double u = sqrtl(2 / 3.14159265358979323846264L) *
                        ((long double)x + 0.044715L * powl((long double)x, 3));

        eng_kernels(ENG_ISA_SCALAR)->geglu(&g, &one, 1);
        assert_true(fabsl((long double)g - 0.5L * (long double)x * (1 + tanhl(u))) <
                    3e-7L * fmaxl(1, fabsl((long double)x)));
        eng_kernels(ENG_ISA_SCALAR)->softcap(&t, 1, 3);
        assert_true(fabsl((long double)t - 3 * tanhl((long double)x / 3)) < 9e-7L);
    }
    assert_true(eng_tanh(1e30f) == 1 && eng_tanh(-1e30f) == -1 && isnan(eng_tanh(NAN)));
}

static void f16_round_trip(void **state)
{
    (void)state;
    for (uint32_t h = 0; h < 65536; h++) {
        float f = eng_f16_to_f32((uint16_t)h);

        if ((h & 0x7c00) == 0x7c00 && (h & 0x3ff)) {
            assert_true(isnan(f) && isnan(eng_f16_to_f32(eng_f32_to_f16(f))));
            continue;
        }
        assert_int_equal(eng_f32_to_f16(f), h);
        if ((h & 0x7c00) != 0x7c00) {
            int e = (int)(h >> 10 & 31);
            double want = ldexp((double)((h & 0x3ff) + (e ? 1024 : 0)), (e ? e : 1) - 25);

            assert_true((double)f == (h & 0x8000 ? -want : want));
        }
    }
    assert_int_equal(eng_f32_to_f16(65519.99f), 0x7bff);
    assert_int_equal(eng_f32_to_f16(65520.0f), 0x7c00);
    assert_int_equal(eng_f32_to_f16(-INFINITY), 0xfc00);
    assert_int_equal(eng_f32_to_f16(2.98023224e-8f),
                     0); /* half the least subnormal: ties to even */
    assert_int_equal(eng_f32_to_f16(2.98023259e-8f), 1);
}

/* All floats but NaNs, thinned out: the conversion instruction agrees with ours. */
static void f16_equal(void **state)
{
    enum { N = 4096 };
    float *x = xalloc(N * 4);
    uint16_t *y = xalloc(N * 2);

    (void)state;
    FOR_ISA(k, s)
    {
        uint32_t bits = 0;

        for (int round = 0; round < 256; round++) {
            for (size_t i = 0; i < N; i++, bits += 4093) {
                memcpy(&x[i], &bits, 4);
                if (isnan(x[i]))
                    x[i] = 0;
            }
            k->to_f16(x, y, N);
            for (size_t i = 0; i < N; i++)
                assert_int_equal(y[i], eng_f32_to_f16(x[i]));
        }
    }
    free(x), free(y);
}

static void merge_order(void **state)
{
    float p[16];

    (void)state;
    for (size_t i = 0; i < 16; i++)
        p[i] = rnd_float(1);
    float want[16];
    memcpy(want, p, sizeof p);
    for (size_t h = 8; h > 0; h /= 2)
        for (size_t j = 0; j < h; j++)
            want[j] += want[j + h];
    assert_true(eng_merge16(p) == want[0]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(mm_equal),         cmocka_unit_test(mm_any_cols),
        cmocka_unit_test(dequant_nibbles),  cmocka_unit_test(vectors_equal),
        cmocka_unit_test(max_zero),         cmocka_unit_test(quantize_equal),
        cmocka_unit_test(rope_equal),       cmocka_unit_test(attn_equal),
        cmocka_unit_test(kv_type_accuracy), cmocka_unit_test(exp_log_accuracy),
        cmocka_unit_test(exp_equal),        cmocka_unit_test(rope_accuracy),
        cmocka_unit_test(rope_orders),      cmocka_unit_test(rope_yarn),
        cmocka_unit_test(gelu_accuracy),    cmocka_unit_test(f16_round_trip),
        cmocka_unit_test(f16_equal),        cmocka_unit_test(merge_order),
    };

    return cmocka_run_group_tests_name("engine_kernels", tests, NULL, NULL);
}
