/* engine/quant/q*_k.c: the bytes of a block mean what the format says. The tests write blocks in
 * the format's own order, run by run, while the engine reads them weight by weight. That products
 * agree with dequant, for every type and instruction set, is test_engine_kernels.c's matter. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "engine/kernels.h"

enum { Q2_K = 10, Q3_K, Q4_K, Q5_K, Q6_K, N = 256 };

static uint32_t rng_state = 1;

static uint32_t rnd(void)
{
    rng_state = rng_state * 1664525u + 1013904223u;
    return rng_state >> 8;
}

/* The fields of a block. */
struct fields {
    float d, dmin;
    int scale[16], min[16], u[N]; /* as stored: no offset taken off */
};

static void put_half(unsigned char *p, float f)
{
    uint16_t h = eng_f32_to_f16(f);

    memcpy(p, &h, sizeof h);
}

/* Two bits of 128 weights in 32 bytes: four runs, each two bits higher. */
static void put_2_bits(unsigned char *p, const int *u, int from)
{
    for (int l = 0; l < 32; l++)
        p[l] = (unsigned char)((u[l] >> from & 3) | (u[l + 32] >> from & 3) << 2 |
                               (u[l + 64] >> from & 3) << 4 | (u[l + 96] >> from & 3) << 6);
}

/* One bit of 256 weights in 32 bytes: eight runs, each a bit higher. */
static void put_bit(unsigned char *p, const int *u, int from)
{
    memset(p, 0, 32);
    for (int run = 0; run < 8; run++)
        for (int l = 0; l < 32; l++)
            p[l] |= (unsigned char)((u[32 * run + l] >> from & 1) << run);
}

/* The low four bits of 256 weights in 128 bytes: 64 weights in 32 bytes. */
static void put_nibbles(unsigned char *p, const int *u)
{
    for (int run = 0; run < 4; run++, p += 32, u += 64)
        for (int l = 0; l < 32; l++)
            p[l] = (unsigned char)((u[l] & 15) | (u[l + 32] & 15) << 4);
}

/* Eight 6-bit scales and minima in 12 bytes. */
static void put_scales_6(unsigned char *p, const int *scale, const int *min)
{
    for (int i = 0; i < 4; i++) {
        p[i] = (unsigned char)(scale[i] | scale[i + 4] >> 4 << 6);
        p[i + 4] = (unsigned char)(min[i] | min[i + 4] >> 4 << 6);
        p[i + 8] = (unsigned char)((scale[i + 4] & 15) | (min[i + 4] & 15) << 4);
    }
}

static void write_block(uint32_t type, const struct fields *f, unsigned char *p)
{
    switch (type) {
    case Q2_K:
        for (int i = 0; i < 16; i++)
            *p++ = (unsigned char)(f->scale[i] | f->min[i] << 4);
        put_2_bits(p, f->u, 0);
        put_2_bits(p + 32, f->u + 128, 0);
        put_half(p + 64, f->d);
        put_half(p + 66, f->dmin);
        break;
    case Q3_K:
        put_bit(p, f->u, 2);
        put_2_bits(p + 32, f->u, 0);
        put_2_bits(p + 64, f->u + 128, 0);
        p += 96;
        for (int i = 0; i < 8; i++)
            *p++ = (unsigned char)((f->scale[i] & 15) | (f->scale[i + 8] & 15) << 4);
        for (int i = 0; i < 4; i++)
            *p++ = (unsigned char)(f->scale[i] >> 4 | f->scale[i + 4] >> 4 << 2 |
                                   f->scale[i + 8] >> 4 << 4 | f->scale[i + 12] >> 4 << 6);
        put_half(p, f->d);
        break;
    case Q4_K:
    case Q5_K:
        put_half(p, f->d);
        put_half(p + 2, f->dmin);
        put_scales_6(p + 4, f->scale, f->min);
        p += 16;
        if (type == Q5_K) {
            put_bit(p, f->u, 4);
            p += 32;
        }
        put_nibbles(p, f->u);
        break;
    case Q6_K:
        for (int half = 0; half < 2; half++)
            for (int l = 0; l < 64; l++)
                *p++ = (unsigned char)((f->u[128 * half + l] & 15) |
                                       (f->u[128 * half + l + 64] & 15) << 4);
        put_2_bits(p, f->u, 4);
        put_2_bits(p + 32, f->u + 128, 4);
        p += 64;
        for (int i = 0; i < 16; i++)
            *p++ = (unsigned char)f->scale[i];
        put_half(p, f->d);
        break;
    }
}

/* Per type: weights per scale, bits of scale and minimum, what is taken off scale and u, bits of u
 */
static const struct kind {
    int sub, scale_bits, min_bits, scale_off, u_bits, u_off;
} kinds[] = {{16, 4, 4, 0, 2, 0},
             {16, 6, 0, 32, 3, 4},
             {32, 6, 6, 0, 4, 0},
             {32, 6, 6, 0, 5, 0},
             {16, 8, 0, 0, 6, 32}};

static int rnd_bits(int bits, bool extreme)
{
    int max = (1 << bits) - 1;

    return extreme ? (rnd() % 2 ? max : 0) : (int)(rnd() & (uint32_t)max);
}

static void blocks_read_as_written(void **state)
{
    (void)state;
    for (uint32_t type = Q2_K; type <= Q6_K; type++) {
        const struct eng_quant *q = eng_quant_find(type);
        const struct kind *k = &kinds[type - Q2_K];

        assert_non_null(q);
        assert_int_equal(q->block_elems, N);
        for (int round = 0; round < 500; round++) {
            bool extreme = round % 4 == 0;
            /* one byte more, at an odd address: exactly the block's bytes are read */
            unsigned char *p = malloc(q->block_bytes + 1);
            struct fields f = {.d = (float)(rnd() % 2047 + 1) / 1024 * (rnd() % 2 ? 1 : -1),
                               .dmin = (float)(rnd() % 2047 + 1) / 1024 * (rnd() % 2 ? 1 : -1)};
            float got[N];

            assert_non_null(p);
            for (int i = 0; i < 16; i++) {
                f.scale[i] = rnd_bits(k->scale_bits, extreme);
                f.min[i] = rnd_bits(k->min_bits, extreme);
            }
            for (int i = 0; i < N; i++)
                f.u[i] = rnd_bits(k->u_bits, extreme);
            write_block(type, &f, p + 1);
            q->dequant(p + 1, got, N);
            for (int i = 0; i < N; i++) {
                int scale = f.scale[i / k->sub] - k->scale_off;

                if (type == Q6_K)
                    scale = (int8_t)scale; /* the only stored sign */
                /* every product is exact in binary32, so the only rounding is the difference's */
                double want =
                    (double)f.d * scale * (f.u[i] - k->u_off) - (double)f.dmin * f.min[i / k->sub];

                assert_true(got[i] == (float)want);
            }
            free(p);
        }
    }
}

/* Single fields, worked out by hand; d = 2, dmin = 0.5, all other bytes 0. */
static void worked_values(void **state)
{
    static const struct {
        uint32_t type;
        struct {
            int at, byte;
        } set[4];
        int weight;
        float value;
    } cases[] = {
        /* scale 7, minimum 9 of weights 16-31; weight 17 is bits 0-1 of byte 16 + 17: 2 */
        {Q2_K, {{1, 0x97}, {16 + 17, 0x1e}}, 17, 2 * 7 * 2 - 0.5f * 9},
        /* weight 128 + 96 + 5: bits 6-7 of byte 16 + 32 + 5, sub-block 14 */
        {Q2_K, {{14, 0xf1}, {16 + 37, 0xc0}}, 229, 2 * 1 * 3 - 0.5f * 15},
        /* a scale of 0 is -32, and without its high bit a weight is 4 less */
        {Q3_K, {{0, 0}}, 0, 2 * -32 * -4},
        /* sub-block 15: nibble 5 of byte 96 + 7, bits 1 of byte 96 + 11 → 16 + 5 - 32; high bit 7
         */
        {Q3_K, {{103, 0x50}, {107, 0x40}, {31, 0x80}, {32 + 63, 0x80}}, 255, 2 * -11 * 2},
        /* sub-block 5: scale nibble 3 and upper bits 2, minimum nibble 12 and upper bits 1 */
        {Q4_K,
         {{4 + 1, 0x80}, {4 + 5, 0x40}, {4 + 9, 0xc3}, {16 + 64 + 7, 0xd2}},
         167,
         2 * 35 * 13 - 0.5f * 28},
        {Q4_K, {{4 + 3, 0x3f}, {4 + 7, 0x3f}, {16 + 32 + 31, 0xf1}}, 127, 2 * 63 * 15 - 0.5f * 63},
        /* weight 6 * 32 + 3: bit 6 of byte 16 + 3, the low nibble of byte 48 + 96 + 3 */
        {Q5_K, {{4 + 10, 0x21}, {16 + 3, 0x40}, {48 + 99, 0x0b}}, 195, 2 * 1 * 27 - 0.5f * 2},
        /* weight 70: the high nibble of byte 6, bits 4-5 of byte 128 + 6, scale 4 = -3 */
        {Q6_K, {{6, 0xa0}, {134, 0x10}, {196, 0xfd}}, 70, 2 * -3 * (26 - 32)},
        /* weight 128 + 33: the low nibble of byte 64 + 33, bits 2-3 of byte 160 + 1 */
        {Q6_K, {{97, 0x0f}, {161, 0x0c}, {202, 0x80}}, 161, 2 * -128 * (63 - 32)},
    };
    static const size_t d_at[] = {80, 108, 0, 0, 208};

    (void)state;
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        const struct eng_quant *q = eng_quant_find(cases[c].type);
        unsigned char p[256] = {0};
        float got[N];

        for (size_t i = 0; i < 4; i++)
            p[cases[c].set[i].at] |= (unsigned char)cases[c].set[i].byte;
        put_half(p + d_at[cases[c].type - Q2_K], 2);
        if (kinds[cases[c].type - Q2_K].min_bits)
            put_half(p + d_at[cases[c].type - Q2_K] + 2, 0.5f);
        q->dequant(p, got, N);
        assert_true(got[cases[c].weight] == cases[c].value);
    }
}

/* An infinity or a NaN for a scale makes its own row not finite, on every instruction set alike,
 * and leaves the others alone. */
static void non_finite_scales(void **state)
{
    enum { ROWS = 37, N_X = 5 };
    static const float bad[] = {INFINITY, -INFINITY, NAN};
    static float x[N_X * N], d[N_X * N / 32], want[N_X * ROWS], got[N_X * ROWS];
    static int8_t xq[N_X * N];
    static int16_t s[N_X * N / 16];
    const struct eng_act act = {N_X, N, x, xq, d, s};

    (void)state;
    for (size_t i = 0; i < N_X * N; i++)
        x[i] = (float)(rnd() % 2001) / 1000 - 1;
    eng_kernels(ENG_ISA_SCALAR)->quantize_q8(x, N_X * N, xq, d, s);
    for (uint32_t type = Q2_K; type <= Q6_K; type++) {
        const struct eng_quant *q = eng_quant_find(type);
        const struct kind *k = &kinds[type - Q2_K];
        unsigned char *src = calloc(ROWS, q->block_bytes);
        struct eng_mat m;

        assert_non_null(src);
        for (size_t o = 0; o < ROWS; o++) {
            struct fields f = {.d = o % 7 == 3 ? bad[o % 3] : 1, .dmin = 0.25f};

            for (int i = 0; i < 16; i++) {
                f.scale[i] = rnd_bits(k->scale_bits, false);
                f.min[i] = rnd_bits(k->min_bits, false);
            }
            for (int i = 0; i < N; i++)
                f.u[i] = rnd_bits(k->u_bits, false);
            write_block(type, &f, src + o * q->block_bytes);
        }
        assert_int_equal(eng_mat_init(&m, q, src, ROWS, N, NULL, NULL), 0);
        for (int isa = 0; isa < ENG_N_ISA; isa++) {
            float *y = isa == ENG_ISA_SCALAR ? want : got;

            if (!eng_isa_supported((enum eng_isa)isa))
                continue;
            q->mm[isa](&m, 0, m.n_tiles, &act, y, ROWS);
            for (size_t i = 0; i < N_X * ROWS; i++) {
                assert_true(isfinite(y[i]) == (i % ROWS % 7 != 3));
                assert_true(isnan(y[i]) ? isnan(want[i]) : memcmp(&y[i], &want[i], 4) == 0);
            }
        }
        eng_mat_done(&m);
        free(src);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(blocks_read_as_written),
        cmocka_unit_test(worked_values),
        cmocka_unit_test(non_finite_scales),
    };

    return cmocka_run_group_tests_name("engine_quants", tests, NULL, NULL);
}
