#include "tests/support/random_model.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "base/str.h"
#include "engine/kernels.h"
#include "tests/gguf_builder.h"

/* ---- shapes -------------------------------------------------------------------------------------
 */

/* Wide enough for one block of 256, everything else as small as shows the structure: 2 query heads
 * to a key head, a window and an original context that a prompt of 100 tokens leaves, soft caps
 * that bite. */
#define TINY(layers, kv, dim, base)                                                                \
    .n_vocab = 1024, .n_ctx = 4096, .n_layer = layers, .n_embd = 256, .n_head = 4,                 \
    .n_head_kv = kv, .head_dim = dim, .n_ff = 512, .rms_eps = 1e-5f, .rope_base = base

const struct random_model random_models[] = {
    {.name = "tiny-llama", .arch = "llama", .pre = "llama-bpe", TINY(3, 2, 64, 10000)},
    {.name = "tiny-llama3",
     .arch = "llama",
     .pre = "llama-bpe",
     TINY(3, 2, 64, 10000),
     .tied = true,
     .rope = RANDOM_ROPE_LLAMA3,
     .rope_factor = 8,
     .rope_n_ctx = 64},
    {.name = "tiny-llama-linear",
     .arch = "llama",
     .vocab = RANDOM_SPM,
     TINY(3, 2, 64, 10000),
     .rope = RANDOM_ROPE_LINEAR,
     .rope_factor = 4},
    {.name = "tiny-qwen2", .arch = "qwen2", .pre = "qwen2", TINY(3, 2, 64, 10000), .tied = true},
    {.name = "tiny-qwen2-yarn",
     .arch = "qwen2",
     .pre = "qwen2",
     TINY(3, 2, 64, 10000),
     .rope = RANDOM_ROPE_YARN,
     .rope_factor = 4,
     .rope_n_ctx = 64},
    {.name = "tiny-qwen2-cls",
     .arch = "qwen2",
     .pre = "qwen2",
     TINY(3, 2, 64, 10000),
     .tied = true,
     .n_cls = 3},
    {.name = "tiny-qwen3", .arch = "qwen3", .pre = "qwen2", TINY(3, 2, 128, 10000), .tied = true},
    {.name = "tiny-qwen3moe",
     .arch = "qwen3moe",
     .pre = "qwen2",
     TINY(3, 2, 128, 10000),
     .n_expert = 8,
     .n_expert_used = 2},
    {.name = "tiny-phi3", .arch = "phi3", .vocab = RANDOM_SPM, TINY(3, 2, 64, 10000), .window = 40},
    {.name = "tiny-phi3-long",
     .arch = "phi3",
     .vocab = RANDOM_SPM,
     TINY(3, 2, 64, 10000),
     .window = 4096,
     .rope = RANDOM_ROPE_LONGROPE,
     .rope_n_ctx = 64},
    {.name = "tiny-gemma",
     .arch = "gemma",
     .vocab = RANDOM_SPM,
     TINY(3, 1, 128, 10000),
     .tied = true},
    {.name = "tiny-gemma2",
     .arch = "gemma2",
     .vocab = RANDOM_SPM,
     TINY(3, 2, 128, 10000),
     .tied = true,
     .window = 40,
     .attn_softcap = 5,
     .final_softcap = 6},
    {.name = "tiny-gemma3",
     .arch = "gemma3",
     .vocab = RANDOM_SPM,
     TINY(7, 2, 128, 1e6f), /* the sixth layer sees everything */
     .tied = true,
     .window = 40,
     .rope = RANDOM_ROPE_LINEAR,
     .rope_factor = 8},

    /* Of reward models: with the tokens that mark their steps. */
    {.name = "tiny-prm-bpe",
     .arch = "qwen2",
     .pre = "qwen2",
     TINY(3, 2, 64, 10000),
     .tied = true,
     .more = (const char *const[]){"<extra_0>", NULL}},
    {.name = "tiny-prm-spm",
     .arch = "llama",
     .vocab = RANDOM_SPM,
     TINY(3, 2, 64, 10000),
     .more = (const char *const[]){"\xd0\xba", "\xd0\xb8", "\xd0\xba\xd0\xb8",
                                   "\xe2\x96\x81\xd0\xba\xd0\xb8", NULL}},

    /* The bundled models' shape. */
    {.name = "bundled",
     .arch = "llama",
     .pre = "qwen2",
     .n_vocab = 765,
     .n_ctx = 512,
     .n_layer = 5,
     .n_embd = 192,
     .n_head = 6,
     .n_head_kv = 2,
     .head_dim = 32,
     .n_ff = 384,
     .rms_eps = 1e-5f,
     .rope_base = 10000,
     .tied = true},
    {.name = "smollm2-135m",
     .arch = "llama",
     .pre = "smollm",
     .n_vocab = 49152,
     .n_ctx = 8192,
     .n_layer = 30,
     .n_embd = 576,
     .n_head = 9,
     .n_head_kv = 3,
     .head_dim = 64,
     .n_ff = 1536,
     .rms_eps = 1e-5f,
     .rope_base = 100000,
     .tied = true},
    {.name = "qwen2.5-0.5b",
     .arch = "qwen2",
     .pre = "qwen2",
     .n_vocab = 151936,
     .n_ctx = 32768,
     .n_layer = 24,
     .n_embd = 896,
     .n_head = 14,
     .n_head_kv = 2,
     .head_dim = 64,
     .n_ff = 4864,
     .rms_eps = 1e-6f,
     .rope_base = 1e6f,
     .tied = true},
    {.name = "qwen2.5-1.5b",
     .arch = "qwen2",
     .pre = "qwen2",
     .n_vocab = 151936,
     .n_ctx = 32768,
     .n_layer = 28,
     .n_embd = 1536,
     .n_head = 12,
     .n_head_kv = 2,
     .head_dim = 128,
     .n_ff = 8960,
     .rms_eps = 1e-6f,
     .rope_base = 1e6f,
     .tied = true},
    {.name = "qwen3-0.6b",
     .arch = "qwen3",
     .pre = "qwen2",
     .n_vocab = 151936,
     .n_ctx = 40960,
     .n_layer = 28,
     .n_embd = 1024,
     .n_head = 16,
     .n_head_kv = 8,
     .head_dim = 128,
     .n_ff = 3072,
     .rms_eps = 1e-6f,
     .rope_base = 1e6f,
     .tied = true},
    {.name = "llama-3.2-1b",
     .arch = "llama",
     .pre = "llama-bpe",
     .n_vocab = 128256,
     .n_ctx = 131072,
     .n_layer = 16,
     .n_embd = 2048,
     .n_head = 32,
     .n_head_kv = 8,
     .head_dim = 64,
     .n_ff = 8192,
     .rms_eps = 1e-5f,
     .rope_base = 500000,
     .rope = RANDOM_ROPE_LLAMA3,
     .rope_factor = 32,
     .rope_n_ctx = 8192,
     .tied = true},
    {.name = "gemma3-1b",
     .arch = "gemma3",
     .vocab = RANDOM_SPM,
     .n_vocab = 262144,
     .n_ctx = 32768,
     .n_layer = 26,
     .n_embd = 1152,
     .n_head = 4,
     .n_head_kv = 1,
     .head_dim = 256,
     .n_ff = 6912,
     .rms_eps = 1e-6f,
     .rope_base = 1e6f,
     .window = 512,
     .tied = true},
    {0},
};

const struct random_model *random_model_find(const char *name)
{
    for (const struct random_model *m = random_models; m->name; m++)
        if (strcmp(m->name, name) == 0)
            return m;
    return NULL;
}

static bool is_gemma(const struct random_model *m)
{
    return strncmp(m->arch, "gemma", 5) == 0;
}

/* ---- random bytes and blocks --------------------------------------------------------------------
 */

struct rnd {
    uint32_t key[2], stream;
    uint64_t counter;
};

/* n is rounded up to 16: p has room for it. */
static void rnd_fill(struct rnd *r, uint8_t *p, size_t n)
{
    for (size_t i = 0; i < n; i += 16, r->counter++) {
        const uint32_t c[4] = {(uint32_t)r->counter, (uint32_t)(r->counter >> 32), r->stream, 0};
        uint32_t out[4];

        pd_philox4x32_10(c, r->key, out);
        memcpy(p + i, out, sizeof(out));
    }
}

/* In [0, n). */
static uint32_t rnd_below(struct rnd *r, uint32_t n)
{
    uint8_t bytes[16];
    uint32_t v;

    rnd_fill(r, bytes, sizeof(bytes));
    memcpy(&v, bytes, sizeof(v));
    return (uint32_t)((uint64_t)v * n >> 32);
}

static float rnd_unit(struct rnd *r) /* in [-1, 1) */
{
    return (float)rnd_below(r, 1u << 24) * 0x1p-23f - 1;
}

/* Puts a binary16 of sd times 0.75 to 1.25 over two random bytes; either sign if wanted. Returns
 * what was put. */
static float put_scale(uint8_t *p, float sd, bool either_sign)
{
    uint16_t bits, half;

    memcpy(&bits, p, sizeof(bits));
    half = eng_f32_to_f16(sd * (0.75f + 0.5f * (float)(bits & 0x7fff) * 0x1p-15f));
    half |= either_sign ? bits & 0x8000 : 0;
    memcpy(p, &half, sizeof(half));
    return eng_f16_to_f32(half);
}

static void put_f16(uint8_t *p, float v)
{
    uint16_t half = eng_f32_to_f16(v);

    memcpy(p, &half, sizeof(half));
}

/* About normal with standard deviation 1, of four random bytes: their sum. */
static float normal(const uint8_t *p)
{
    return ((float)(p[0] + p[1] + p[2] + p[3]) - 510) * (1 / 147.8f);
}

/* Each finishes one block of random bytes into weights of standard deviation sd, whose quants stay
 * as they are: all values of every bit field occur. What goes for the types with a minimum: it is
 * chosen such that the block's mean is about 0, as in weights that were quantised. */

static void finish_f32(uint8_t *p, float sd)
{
    float v = sd * normal(p);

    memcpy(p, &v, sizeof(v));
}

/* The same of two. */
static float normal2(const uint8_t *p)
{
    return ((float)(p[0] + p[1]) - 255) * (1 / 104.5f);
}

static void finish_f16(uint8_t *p, float sd)
{
    put_f16(p, sd * normal2(p));
}

static void finish_bf16(uint8_t *p, float sd)
{
    float v = sd * normal2(p);
    uint32_t bits;

    memcpy(&bits, &v, sizeof(bits));
    memcpy(p, (uint8_t *)&bits + 2, 2);
}

static void finish_q8_0(uint8_t *p, float sd)
{
    put_scale(p, sd / 73.9f, false);
    for (int i = 2; i < 34; i++)
        p[i] += p[i] == 0x80; /* quantisers write -127 to 127, and some readers rely on it */
}

static void finish_q4_0(uint8_t *p, float sd)
{
    put_scale(p, sd / 4.6f, true);
}

static void finish_q4_1(uint8_t *p, float sd)
{
    float noise = 0.9f + 0.2f * (float)p[2] / 255, d = put_scale(p, sd / 4.6f, false);

    put_f16(p + 2, -7.5f * d * noise);
}

static void finish_q5_0(uint8_t *p, float sd)
{
    put_scale(p, sd / 9.2f, true);
}

static void finish_q5_1(uint8_t *p, float sd)
{
    float noise = 0.9f + 0.2f * (float)p[2] / 255, d = put_scale(p, sd / 9.2f, false);

    put_f16(p + 2, -15.5f * d * noise);
}

static unsigned near(unsigned s, unsigned random, int spread, int max)
{
    int v = (int)s + (int)(random % (unsigned)(2 * spread + 1)) - spread;

    return (unsigned)(v < 0 ? 0 : v > max ? max : v);
}

static void finish_q2_k(uint8_t *p, float sd)
{
    float d = put_scale(p + 80, sd / 10, false);

    for (int i = 0; i < 16; i++)
        p[i] = (uint8_t)((p[i] & 15) | near(p[i] & 15, p[i] >> 4, 1, 15) << 4);
    put_f16(p + 82, 1.5f * d);
}

static void finish_q3_k(uint8_t *p, float sd)
{
    put_scale(p + 108, sd / 43.3f, true);
}

/* 6-bit scales s[0..7] and minima m[0..7] in 12 bytes. */
static void finish_s6m6(uint8_t *p)
{
    unsigned s[8], m[8];

    for (unsigned i = 0; i < 8; i++) {
        s[i] = p[i] & 63u;
        m[i] = near(s[i], p[8 + i % 4] >> i / 4 * 4, 4, 63);
    }
    for (unsigned i = 0; i < 4; i++) {
        p[i] = (uint8_t)(s[i] | s[i + 4] >> 4 << 6);
        p[i + 4] = (uint8_t)(m[i] | m[i + 4] >> 4 << 6);
        p[i + 8] = (uint8_t)((s[i + 4] & 15) | (m[i + 4] & 15) << 4);
    }
}

static void finish_q4_k(uint8_t *p, float sd)
{
    float d = put_scale(p, sd / 169, false);

    put_f16(p + 2, 7.5f * d);
    finish_s6m6(p + 4);
}

static void finish_q5_k(uint8_t *p, float sd)
{
    float d = put_scale(p, sd / 339, false);

    put_f16(p + 2, 15.5f * d);
    finish_s6m6(p + 4);
}

static void finish_q6_k(uint8_t *p, float sd)
{
    put_scale(p + 208, sd / 1366, true);
}

enum { F32, F16, BF16, Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, Q2_K, Q3_K, Q4_K, Q5_K, Q6_K, N_TYPES };
static const struct type {
    const char *name;
    uint32_t ggml, elems, bytes, file_type; /* file_type: of general.file_type */
    void (*finish)(uint8_t *block, float sd);
    int narrow; /* what holds the rows that are no multiple of 256 */
} types[N_TYPES] = {
    [F32] = {"F32", 0, 1, 4, 0, finish_f32, F32},
    [F16] = {"F16", 1, 1, 2, 1, finish_f16, F16},
    [BF16] = {"BF16", 30, 1, 2, 32, finish_bf16, BF16},
    [Q8_0] = {"Q8_0", 8, 32, 34, 7, finish_q8_0, Q8_0},
    [Q4_0] = {"Q4_0", 2, 32, 18, 2, finish_q4_0, Q4_0},
    [Q4_1] = {"Q4_1", 3, 32, 20, 3, finish_q4_1, Q4_1},
    [Q5_0] = {"Q5_0", 6, 32, 22, 8, finish_q5_0, Q5_0},
    [Q5_1] = {"Q5_1", 7, 32, 24, 9, finish_q5_1, Q5_1},
    [Q2_K] = {"Q2_K", 10, 256, 84, 10, finish_q2_k, Q4_0},
    [Q3_K] = {"Q3_K", 11, 256, 110, 11, finish_q3_k, Q4_0},
    [Q4_K] = {"Q4_K", 12, 256, 144, 14, finish_q4_k, Q5_0},
    [Q5_K] = {"Q5_K", 13, 256, 176, 16, finish_q5_k, Q5_1},
    [Q6_K] = {"Q6_K", 14, 256, 210, 18, finish_q6_k, Q8_0},
};

static const struct mix {
    const char *name;
    int base;
    uint32_t file_type;
} mixes[] = {{"Q3_K_M", Q3_K, 12}, {"Q4_K_M", Q4_K, 15}, {"Q5_K_M", Q5_K, 17}};

/* ---- which tensor is of which type --------------------------------------------------------------
 */

enum role { EMBD, OUTPUT, ATTN_Q, ATTN_K, ATTN_V, ATTN_QKV, ATTN_O, FFN_GATE, FFN_UP, FFN_DOWN };

struct plan {
    const struct random_model *m;
    int base;
    bool pure, mix;
};

/* The layers whose attn_v and ffn_down the _M mixes give more bits. */
static bool more_bits(uint32_t layer, uint32_t n_layer)
{
    return layer < n_layer / 8 || layer >= 7 * n_layer / 8 || (layer - n_layer / 8) % 3 == 2;
}

static int type_of(const struct plan *p, enum role role, uint32_t layer, uint64_t cols)
{
    const struct random_model *m = p->m;
    bool many = m->n_expert >= 4, q3 = p->base == Q3_K;
    int t = p->base;

    if (!p->pure && role == OUTPUT && t >= Q4_0)
        t = Q6_K;
    if (p->mix) {
        if (many && (role == ATTN_K || role == ATTN_V))
            t = Q8_0;
        else if (role == ATTN_V)
            t = q3 ? (layer < 2 ? Q5_K : Q4_K) : more_bits(layer, m->n_layer) ? Q6_K : t;
        else if (role == FFN_DOWN)
            t = q3                             ? (layer < m->n_layer / 16 ? Q5_K : Q4_K)
                : more_bits(layer, m->n_layer) ? Q6_K
                                               : t;
        else if (role == ATTN_O && many)
            t = p->base == Q5_K ? t : Q5_K;
        else if (role == ATTN_O)
            t = q3 ? Q4_K : t;
        else if (role == ATTN_QKV)
            t = t + 1; /* Q3_K → Q4_K → Q5_K → Q6_K */
    }
    return cols % types[t].elems ? types[t].narrow : t;
}

/* ---- tensors ------------------------------------------------------------------------------------
 */

struct item { /* how a tensor is filled, in the order of gb.tensors */
    int type;
    float sd; /* of a matrix; 0: a vector of numbers around mean, or the values given */
    float mean, spread;
    float *values; /* malloc'ed, or NULL */
};

struct file {
    struct gb gb;
    struct item items[GB_MAX];
    struct plan plan;
    uint64_t seed;
};

static void item(struct file *f, const char *name, struct item it, uint32_t n_dims,
                 const uint64_t *dims)
{
    const struct type *t = &types[it.type];
    uint64_t n = dims[0] / t->elems * t->bytes;

    for (uint32_t d = 1; d < n_dims; d++)
        n *= dims[d];
    gb_declare(&f->gb, name, t->ggml, n_dims, dims, (size_t)n);
    f->items[f->gb.n_tensors - 1] = it;
}

static void vector(struct file *f, const char *name, uint32_t n, float mean, float spread)
{
    item(f, name, (struct item){.type = F32, .mean = mean, .spread = spread}, 1,
         (const uint64_t[]){n});
}

static void values(struct file *f, const char *name, uint32_t n, float *v)
{
    item(f, name, (struct item){.type = F32, .values = v}, 1, (const uint64_t[]){n});
}

/* n_expert 0: two extents. gain: the output's standard deviation for inputs of 1. */
static void matrix(struct file *f, const char *name, enum role role, uint32_t layer, uint32_t rows,
                   uint32_t cols, uint32_t n_expert, float gain)
{
    item(f, name,
         (struct item){.type = type_of(&f->plan, role, layer, cols),
                       .sd = gain / sqrtf((float)cols)},
         n_expert ? 3 : 2, (const uint64_t[]){cols, rows, n_expert});
}

/* The same in F32, of whatever type the others are. */
static void f32_matrix(struct file *f, const char *name, uint32_t rows, uint32_t cols, float gain)
{
    item(f, name, (struct item){.type = F32, .sd = gain / sqrtf((float)cols)}, 2,
         (const uint64_t[]){cols, rows});
}

/* Divisors of the rotation's frequencies. */
static float *rope_divisors(const struct random_model *m, float shortest, float longest)
{
    uint32_t n = m->head_dim / 2;
    float *v = malloc(n * sizeof(*v));

    if (!v)
        abort();
    for (uint32_t i = 0; i < n; i++)
        v[i] = shortest + (longest - shortest) * (float)i / (float)n;
    return v;
}

/* Llama 3.1's: wavelengths below n_ctx / 4 stay, above n_ctx are divided by the factor, between
 * interpolated. */
static float *llama3_divisors(const struct random_model *m)
{
    uint32_t n = m->head_dim / 2;
    float *v = malloc(n * sizeof(*v));

    if (!v)
        abort();
    for (uint32_t i = 0; i < n; i++) {
        double freq = pow((double)m->rope_base, -2.0 * i / m->head_dim);
        double turns = (double)m->rope_n_ctx * freq / (2 * 3.14159265358979323846);
        double smooth = (turns - 1) / (4 - 1);

        smooth = smooth < 0 ? 0 : smooth > 1 ? 1 : smooth;
        v[i] = (float)(1 / ((1 - smooth) / (double)m->rope_factor + smooth));
    }
    return v;
}

static void layer_tensors(struct file *f, uint32_t l)
{
    const struct random_model *m = f->plan.m;
    uint32_t n_q = m->n_head * m->head_dim, n_kv = m->n_head_kv * m->head_dim;
    bool phi3 = strcmp(m->arch, "phi3") == 0, qwen2 = strcmp(m->arch, "qwen2") == 0;
    bool gemma3 = strcmp(m->arch, "gemma3") == 0, gemma2 = strcmp(m->arch, "gemma2") == 0;
    bool qk_norm = gemma3 || strncmp(m->arch, "qwen3", 5) == 0;
    char name[64];
#define N(what) (snprintf(name, sizeof(name), "blk.%u." what, l), name)

    vector(f, N("attn_norm.weight"), m->n_embd, 1, 0.25f);
    if (phi3) {
        matrix(f, N("attn_qkv.weight"), ATTN_QKV, l, n_q + 2 * n_kv, m->n_embd, 0, 1.1f);
    } else {
        matrix(f, N("attn_q.weight"), ATTN_Q, l, n_q, m->n_embd, 0, 1.1f);
        matrix(f, N("attn_k.weight"), ATTN_K, l, n_kv, m->n_embd, 0, 1.1f);
        matrix(f, N("attn_v.weight"), ATTN_V, l, n_kv, m->n_embd, 0, 1);
    }
    if (qwen2) {
        vector(f, N("attn_q.bias"), n_q, 0, 1);
        vector(f, N("attn_k.bias"), n_kv, 0, 1);
        vector(f, N("attn_v.bias"), n_kv, 0, 0.5f);
    }
    if (qk_norm) {
        vector(f, N("attn_q_norm.weight"), m->head_dim, 1.1f, 0.3f);
        vector(f, N("attn_k_norm.weight"), m->head_dim, 1.1f, 0.3f);
    }
    matrix(f, N("attn_output.weight"), ATTN_O, l, m->n_embd, n_q, 0, 1.5f);
    if (gemma2 || gemma3)
        vector(f, N("post_attention_norm.weight"), m->n_embd, 1, 0.25f);
    vector(f, N("ffn_norm.weight"), m->n_embd, 1, 0.25f);
    if (m->n_expert) {
        f32_matrix(f, N("ffn_gate_inp.weight"), m->n_expert, m->n_embd, 2);
        matrix(f, N("ffn_gate_exps.weight"), FFN_GATE, l, m->n_ff, m->n_embd, m->n_expert, 1);
        matrix(f, N("ffn_up_exps.weight"), FFN_UP, l, m->n_ff, m->n_embd, m->n_expert, 1);
        matrix(f, N("ffn_down_exps.weight"), FFN_DOWN, l, m->n_embd, m->n_ff, m->n_expert, 1.5f);
    } else {
        if (!phi3)
            matrix(f, N("ffn_gate.weight"), FFN_GATE, l, m->n_ff, m->n_embd, 0, 1);
        matrix(f, N("ffn_up.weight"), FFN_UP, l, phi3 ? 2 * m->n_ff : m->n_ff, m->n_embd, 0, 1);
        matrix(f, N("ffn_down.weight"), FFN_DOWN, l, m->n_embd, m->n_ff, 0, 1.5f);
    }
    if (gemma2 || gemma3)
        vector(f, N("post_ffw_norm.weight"), m->n_embd, 1, 0.25f);
#undef N
}

static void tensors(struct file *f)
{
    const struct random_model *m = f->plan.m;
    /* Small beside what the layers add to it, else a tied model's best next token is the last one
     * again. Gemma multiplies the embedding by the root of the width. */
    float embd = is_gemma(m) ? 1 / sqrtf((float)m->n_embd) : 0.5f, output = m->tied ? embd : 1;

    matrix(f, "token_embd.weight", m->tied ? OUTPUT : EMBD, 0, m->n_vocab, m->n_embd, 0, embd);
    for (uint32_t l = 0; l < m->n_layer; l++)
        layer_tensors(f, l);
    vector(f, "output_norm.weight", m->n_embd, 3 / output, 0.75f / output);
    if (!m->tied)
        matrix(f, "output.weight", OUTPUT, 0, m->n_vocab, m->n_embd, 0, output);
    if (m->rope == RANDOM_ROPE_LLAMA3)
        values(f, "rope_freqs.weight", m->head_dim / 2, llama3_divisors(m));
    if (m->rope == RANDOM_ROPE_LONGROPE) {
        values(f, "rope_factors_long.weight", m->head_dim / 2, rope_divisors(m, 1, 40));
        values(f, "rope_factors_short.weight", m->head_dim / 2, rope_divisors(m, 1, 3));
    }
    if (m->n_cls) {
        f32_matrix(f, "cls.weight", m->n_embd, m->n_embd, output / 3);
        vector(f, "cls.bias", m->n_embd, 0, 0.5f);
        f32_matrix(f, "cls.output.weight", m->n_cls, m->n_embd, 3);
        vector(f, "cls.output.bias", m->n_cls, 0, 0.5f);
    }
}

/* ---- vocabulary ---------------------------------------------------------------------------------
 */

struct vocab {
    char **text; /* as in the file */
    int32_t *kind;
    float *score;
    char **merge; /* BPE */
    uint32_t n, max, n_merges;
    uint32_t *slots, mask; /* ids by text; UINT32_MAX: free */
    struct rnd rnd;
};

enum { NORMAL = 1, UNKNOWN = 2, CONTROL = 3, BYTE = 6 };

static uint32_t *vocab_slot(const struct vocab *v, const char *text)
{
    uint32_t h = 2166136261u;

    for (const char *c = text; *c; c++)
        h = (h ^ (uint8_t)*c) * 16777619u;
    for (h &= v->mask; v->slots[h] != UINT32_MAX; h = (h + 1) & v->mask)
        if (strcmp(v->text[v->slots[h]], text) == 0)
            break;
    return &v->slots[h];
}

static bool vocab_has(const struct vocab *v, const char *text)
{
    return *vocab_slot(v, text) != UINT32_MAX;
}

static void vocab_add(struct vocab *v, const char *text, int32_t kind, float score)
{
    if (v->n == v->max)
        abort();
    *vocab_slot(v, text) = v->n;
    v->text[v->n] = gb_dup(text, strlen(text));
    v->kind[v->n] = kind;
    v->score[v->n] = score;
    v->n++;
}

static void vocab_init(struct vocab *v, uint32_t max, struct rnd rnd)
{
    uint32_t size = 16;

    while (size < 2 * max)
        size *= 2;
    *v = (struct vocab){.max = max, .mask = size - 1, .rnd = rnd};
    v->text = gb_alloc(max * sizeof(*v->text));
    v->kind = gb_alloc(max * sizeof(*v->kind));
    v->score = gb_alloc(max * sizeof(*v->score));
    v->merge = gb_alloc(max * sizeof(*v->merge));
    v->slots = gb_alloc(size * sizeof(*v->slots));
    memset(v->slots, 0xff, size * sizeof(*v->slots));
}

static void vocab_done(struct vocab *v)
{
    for (uint32_t i = 0; i < v->n; i++)
        free(v->text[i]);
    for (uint32_t i = 0; i < v->n_merges; i++)
        free(v->merge[i]);
    free(v->text);
    free(v->kind);
    free(v->score);
    free(v->merge);
    free(v->slots);
}

/* Grows the vocabulary to n tokens by joining two of those so far, often ones first, so that
 * ordinary text is cut into pieces of a few letters. letters: the single characters, most frequent
 * first, the first of them the space, which stands at the front of a token only. */
static void vocab_grow(struct vocab *v, uint32_t n, const char *const *letters, uint32_t n_letters)
{
    const char **pool = gb_alloc((n_letters + n) * sizeof(*pool));
    const char *space = letters[0];
    uint32_t n_pool = n_letters;
    float score = 0;

    memcpy(pool, letters, n_letters * sizeof(*pool));
    while (v->n < n) {
        /* The product of two uniform numbers prefers the front of the pool. */
        uint32_t i = rnd_below(&v->rnd, 1 + rnd_below(&v->rnd, n_pool));
        uint32_t j = rnd_below(&v->rnd, 1 + rnd_below(&v->rnd, n_pool));
        const char *left = pool[i], *right = pool[j];
        char text[64], pair[72];

        if (strlen(left) + strlen(right) > 24 || strncmp(right, space, strlen(space)) == 0)
            continue;
        snprintf(text, sizeof(text), "%s%s", left, right);
        if (vocab_has(v, text))
            continue;
        snprintf(pair, sizeof(pair), "%s %s", left, right);
        v->merge[v->n_merges++] = gb_dup(pair, strlen(pair));
        vocab_add(v, text, NORMAL, score -= 1);
        pool[n_pool++] = v->text[v->n - 1];
    }
    free(pool);
}

static const char frequent[] = "etaoinshrdlucmwfgypbvkETAOINS0123456789HRDLUCMWFGYPBVKxjqzXJQZ.,'-";

static void vocab_put(const struct vocab *v, struct gb *b)
{
    gb_strs(b, "tokenizer.ggml.tokens", (const char *const *)v->text, v->n);
    gb_arr(b, "tokenizer.ggml.token_type", GGUF_I32, v->n, v->kind, v->n * sizeof(*v->kind));
}

/* The text of a token as GPT-2 writes byte c. */
static void byte_text(unsigned c, char out[3])
{
    unsigned below = 0, u = c;

    if (!((c >= 0x21 && c <= 0x7e) || (c >= 0xa1 && c <= 0xac) || c >= 0xae)) {
        for (unsigned i = 0; i < c; i++)
            below += !((i >= 0x21 && i <= 0x7e) || (i >= 0xa1 && i <= 0xac) || i >= 0xae);
        u = 256 + below;
    }
    snprintf(out, 3, u < 0x80 ? "%c" : "%c%c", u < 0x80 ? (int)u : (int)(0xc0 | u >> 6),
             (int)(0x80 | (u & 0x3f)));
}

/* 256 bytes, merges, then the control tokens of ChatML. */
static void bpe(struct file *f, struct rnd rnd)
{
    static const char *const control[] = {"<|endoftext|>", "<|im_start|>", "<|im_end|>"};
    enum { N_CONTROL = sizeof(control) / sizeof(*control) };
    const struct random_model *m = f->plan.m;
    struct gb *b = &f->gb;
    char texts[256][3], letter[sizeof(frequent)][2];
    const char *letters[sizeof(frequent)];
    uint32_t n_more;
    struct vocab v;

    vocab_init(&v, m->n_vocab, rnd);
    for (unsigned c = 0; c < 256; c++) {
        byte_text(c, texts[c]);
        vocab_add(&v, texts[c], NORMAL, 0);
    }
    letters[0] = texts[' '];
    for (uint32_t i = 0; frequent[i]; i++) {
        letter[i][0] = frequent[i];
        letter[i][1] = '\0';
        letters[i + 1] = letter[i];
    }
    for (n_more = 0; m->more && m->more[n_more]; n_more++)
        ;
    vocab_grow(&v, m->n_vocab - N_CONTROL - n_more, letters, sizeof(frequent));
    for (uint32_t i = 0; i < n_more; i++)
        vocab_add(&v, m->more[i], CONTROL, 0);
    for (int i = 0; i < N_CONTROL; i++)
        vocab_add(&v, control[i], CONTROL, 0);
    gb_str(b, "tokenizer.ggml.model", "gpt2");
    gb_str(b, "tokenizer.ggml.pre", m->pre);
    vocab_put(&v, b);
    gb_strs(b, "tokenizer.ggml.merges", (const char *const *)v.merge, v.n_merges);
    gb_u32(b, "tokenizer.ggml.bos_token_id", m->n_vocab - N_CONTROL);
    gb_u32(b, "tokenizer.ggml.eos_token_id", m->n_vocab - 1);
    gb_bool(b, "tokenizer.ggml.add_bos_token", 0);
    gb_str(b, "tokenizer.chat_template",
           "{% for message in messages %}"
           "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
           "{% endfor %}"
           "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}");
    vocab_done(&v);
}

/* The control tokens of the family and 256 byte tokens in front, single characters, then pieces,
 * each with a lower score than the one before. */
static void spm(struct file *f, struct rnd rnd)
{
    static const struct family {
        const char *arch, *control[10];
        uint32_t bos, eos, unknown;
        int space_prefix;
        const char *chat_template;
    } families[] = {
        {"llama",
         {"<unk>", "<s>", "</s>", "<|im_start|>", "<|im_end|>"},
         1,
         2,
         0,
         1,
         "{% for message in messages %}"
         "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
         "{% endfor %}"
         "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"},
        {"phi3",
         {"<unk>", "<s>", "</s>", "<|endoftext|>", "<|assistant|>", "<|end|>", "<|system|>",
          "<|user|>"},
         1,
         3,
         0,
         1,
         "{% for message in messages %}"
         "{{ '<|' + message['role'] + '|>\\n' + message['content'] + '<|end|>\\n' }}"
         "{% endfor %}"
         "{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% endif %}"},
        {"gemma",
         {"<pad>", "<eos>", "<bos>", "<unk>", "<start_of_turn>", "<end_of_turn>"},
         2,
         1,
         3,
         0,
         "{{ bos_token }}{% for message in messages %}"
         "{% if message['role'] == 'assistant' %}{% set role = 'model' %}"
         "{% else %}{% set role = message['role'] %}{% endif %}"
         "{{ '<start_of_turn>' + role + '\\n' + message['content'] | trim + '<end_of_turn>\\n' }}"
         "{% endfor %}"
         "{% if add_generation_prompt %}{{ '<start_of_turn>model\\n' }}{% endif %}"},
    };
    const struct random_model *m = f->plan.m;
    const struct family *y = families;
    struct gb *b = &f->gb;
    char letter[sizeof(frequent)][2], byte[8];
    const char *letters[sizeof(frequent)] = {"\xe2\x96\x81"}; /* U+2581, the space */
    struct vocab v;

    while (strncmp(m->arch, y->arch, strlen(y->arch)) != 0)
        y++;
    vocab_init(&v, m->n_vocab, rnd);
    for (uint32_t i = 0; y->control[i]; i++)
        vocab_add(&v, y->control[i], i == y->unknown ? UNKNOWN : CONTROL, 0);
    for (unsigned c = 0; c < 256; c++) {
        snprintf(byte, sizeof(byte), "<0x%02X>", c);
        vocab_add(&v, byte, BYTE, 0);
    }
    vocab_add(&v, letters[0], NORMAL, -1e6f);
    for (uint32_t i = 0; frequent[i]; i++) {
        letter[i][0] = frequent[i];
        letter[i][1] = '\0';
        letters[i + 1] = letter[i];
        vocab_add(&v, letter[i], NORMAL, -1e6f);
    }
    for (uint32_t i = 0; m->more && m->more[i]; i++) /* single letters last, the longest first */
        vocab_add(&v, m->more[i], NORMAL, i < 2 ? -1e6f : -1 / (float)(i + 1));
    vocab_grow(&v, m->n_vocab, letters, sizeof(frequent));
    gb_str(b, "tokenizer.ggml.model", "llama");
    gb_str(b, "tokenizer.ggml.pre", "default");
    vocab_put(&v, b);
    gb_arr(b, "tokenizer.ggml.scores", GGUF_F32, v.n, v.score, v.n * sizeof(*v.score));
    gb_u32(b, "tokenizer.ggml.bos_token_id", y->bos);
    gb_u32(b, "tokenizer.ggml.eos_token_id", y->eos);
    gb_u32(b, "tokenizer.ggml.unknown_token_id", y->unknown);
    gb_bool(b, "tokenizer.ggml.add_bos_token", 1);
    gb_bool(b, "tokenizer.ggml.add_space_prefix", (uint8_t)y->space_prefix);
    gb_str(b, "tokenizer.chat_template", y->chat_template);
    vocab_done(&v);
}

/* ---- the file -----------------------------------------------------------------------------------
 */

static void hyper(struct file *f, uint32_t file_type)
{
    const struct random_model *m = f->plan.m;
    struct gb *b = &f->gb;
    char key[96];
#define K(what) (snprintf(key, sizeof(key), "%s." what, m->arch), key)

    gb_str(b, "general.architecture", m->arch);
    gb_str(b, "general.name", m->name);
    gb_u32(b, "general.file_type", file_type);
    gb_u32(b, "general.quantization_version", 2);
    gb_u32(b, K("vocab_size"), m->n_vocab);
    gb_u32(b, K("context_length"), m->n_ctx);
    gb_u32(b, K("embedding_length"), m->n_embd);
    gb_u32(b, K("block_count"), m->n_layer);
    gb_u32(b, K("feed_forward_length"), m->n_ff);
    gb_u32(b, K("attention.head_count"), m->n_head);
    gb_u32(b, K("attention.head_count_kv"), m->n_head_kv);
    gb_u32(b, K("attention.key_length"), m->head_dim);
    gb_u32(b, K("attention.value_length"), m->head_dim);
    gb_f32(b, K("attention.layer_norm_rms_epsilon"), m->rms_eps);
    gb_u32(b, K("rope.dimension_count"), m->head_dim);
    gb_f32(b, K("rope.freq_base"), m->rope_base);
    if (m->n_expert) {
        gb_u32(b, K("expert_count"), m->n_expert);
        gb_u32(b, K("expert_used_count"), m->n_expert_used);
        gb_u32(b, K("expert_feed_forward_length"), m->n_ff);
    }
    if (m->window)
        gb_u32(b, K("attention.sliding_window"), m->window);
    if (m->n_cls)
        gb_u32(b, K("pooling_type"), 4); /* rank: of the last position */
    if (m->attn_softcap > 0)
        gb_f32(b, K("attn_logit_softcapping"), m->attn_softcap);
    if (m->final_softcap > 0)
        gb_f32(b, K("final_logit_softcapping"), m->final_softcap);
    if (m->rope == RANDOM_ROPE_LINEAR || m->rope == RANDOM_ROPE_YARN) {
        gb_str(b, K("rope.scaling.type"), m->rope == RANDOM_ROPE_YARN ? "yarn" : "linear");
        gb_f32(b, K("rope.scaling.factor"), m->rope_factor);
    }
    if (m->rope == RANDOM_ROPE_YARN || m->rope == RANDOM_ROPE_LONGROPE)
        gb_u32(b, K("rope.scaling.original_context_length"), m->rope_n_ctx);
    if (m->rope == RANDOM_ROPE_LONGROPE) /* Phi-3's, of the ratio of the contexts */
        gb_f32(b, K("rope.scaling.attn_factor"),
               (float)sqrt(1 + log((double)m->n_ctx / m->rope_n_ctx) / log(m->rope_n_ctx)));
#undef K
}

/* Many whole blocks of every type. */
#define CHUNK_BLOCKS 4096u

static int write_tensor(FILE *out, const struct file *f, size_t i)
{
    const struct item *it = &f->items[i];
    const struct type *t = &types[it->type];
    size_t n = f->gb.tensors[i].data_bytes / t->bytes;
    struct rnd rnd = {{(uint32_t)f->seed, (uint32_t)(f->seed >> 32)}, (uint32_t)i + 1, 0};
    uint8_t *chunk = gb_alloc(CHUNK_BLOCKS * t->bytes + 16);
    bool ok = true;

    for (size_t b = 0; b < n && ok; b += CHUNK_BLOCKS) {
        size_t count = n - b < CHUNK_BLOCKS ? n - b : CHUNK_BLOCKS;

        if (it->sd > 0)
            rnd_fill(&rnd, chunk, count * t->bytes);
        for (size_t j = 0; j < count; j++) {
            float v;

            if (it->sd > 0) {
                t->finish(chunk + j * t->bytes, it->sd);
                continue;
            }
            v = it->values ? it->values[b + j] : it->mean + it->spread * rnd_unit(&rnd);
            memcpy(chunk + j * sizeof(v), &v, sizeof(v));
        }
        ok = fwrite(chunk, t->bytes, count, out) == count;
    }
    free(chunk);
    return ok ? 0 : -1;
}

static int write_file(FILE *out, const struct file *f)
{
    size_t n;
    uint8_t *head = gb_head(&f->gb, 0, &n);
    int rc = fwrite(head, 1, n, out) == n ? 0 : -1;

    free(head);
    for (size_t i = 0; i < f->gb.n_tensors && rc == 0; i++) {
        size_t end = f->gb.tensors[i].data_bytes;

        rc = write_tensor(out, f, i);
        for (size_t pad = (size_t)gb_align(&f->gb, end) - end; pad > 0 && rc == 0; pad--)
            rc = putc(0, out) == 0 ? 0 : -1;
    }
    return rc;
}

/* The type's number in types[], or -1; a mix's base and number too. */
static int find_type(const char *name, bool *out_mix, uint32_t *out_file_type)
{
    for (size_t i = 0; i < sizeof(mixes) / sizeof(*mixes); i++) {
        if (strcmp(mixes[i].name, name) == 0) {
            *out_mix = true;
            *out_file_type = mixes[i].file_type;
            return mixes[i].base;
        }
    }
    for (int t = 0; t < N_TYPES; t++) {
        if (strcmp(types[t].name, name) == 0) {
            *out_mix = false;
            *out_file_type = types[t].file_type;
            return t;
        }
    }
    return -1;
}

int random_model_write(const struct random_model *m, const char *type, bool pure, uint64_t seed,
                       const char *path, struct pd_err *err)
{
    struct file *f = gb_alloc(sizeof(*f));
    struct rnd rnd = {{(uint32_t)seed, (uint32_t)(seed >> 32)}, 0, 0};
    uint32_t file_type;
    FILE *out = NULL;
    int rc;

    f->seed = seed;
    f->plan = (struct plan){.m = m, .pure = pure};
    f->plan.base = find_type(type, &f->plan.mix, &file_type);
    if (f->plan.base < 0) {
        rc = pd_fail(err, PD_EINVAL, "'%s' is no tensor type and no mix of them", type);
        goto out;
    }
    if (m->n_embd % 32 || m->n_ff % 32 || m->n_head * m->head_dim % 32) {
        rc = pd_fail(err, PD_EINVAL, "'%s' has rows that are no multiple of 32", m->name);
        goto out;
    }
    gb_init(&f->gb);
    hyper(f, file_type);
    if (m->vocab == RANDOM_BPE)
        bpe(f, rnd);
    else
        spm(f, rnd);
    tensors(f);
    out = fopen(path, "wb");
    if (!out) {
        rc = pd_fail_errno(err, errno, "cannot create '%s'", path);
        goto out;
    }
    rc = write_file(out, f);
    if (fclose(out) != 0 || rc < 0)
        rc = pd_fail_errno(err, errno, "cannot write '%s'", path);
out:
    for (size_t i = 0; i < f->gb.n_tensors; i++)
        free(f->items[i].values);
    gb_done(&f->gb);
    free(f);
    return rc;
}
