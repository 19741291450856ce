/* The arithmetic (private to the engine). The scalar kernels are the specification; AVX2 and
 * AVX-512 give the same bits. How: lanes are output rows (weights repacked in tiles of ENG_TILE
 * rows), each lane accumulates over k in ascending order by fused multiply-add; integer dots are
 * exact; reductions over a vector use 16 partial results, partial j taking the elements i ≡ j (mod
 * 16) in ascending order, merged by the tree of eng_merge16(); exp, sin and cos are ours. No
 * allocation, no locks. */
#ifndef PD_ENGINE_KERNELS_H
#define PD_ENGINE_KERNELS_H

#include <stddef.h>
#include <stdint.h>

#include "engine/engine.h"

#define ENG_TILE     32 /* output rows of a weight tile: two zmm of floats */
#define ENG_PAGE     32 /* positions of a KV page = the fixed block of attention */
#define ENG_Q8_BLOCK 32
#define ENG_Q8_HALF  16

/* Activations of a batch, rows contiguous. f: [n_rows][cols]. The quantised form is filled by
 * kernels->quantize_q8 when the weight type wants it: q [n_rows][cols], d [n_rows][cols/32] scale,
 * s [n_rows][cols/16] sums of q over halves of a block. The two sums of a block make one 32-bit
 * lane, so a multiply-add of 16-bit pairs with two integers per lane gives their weighted sum: a
 * bias or a minimum of the weights, one per 32 or one per 16 of them. */
struct eng_act {
    size_t n_rows, cols;
    const float *f;
    const int8_t *q;
    const float *d;
    const int16_t *s;
};

struct eng_mat; /* below */

/* A tensor type: one row of the table in quant.c. */
struct eng_quant {
    const char *name;
    uint32_t ggml_type;
    uint32_t block_elems, block_bytes;
    bool wants_q8; /* mm reads act->q,d,s instead of act->f */
    /* The reference: what the stored bytes mean. n % block_elems == 0. */
    void (*dequant)(const void *src, float *dst, size_t n);
    /* Bytes of one repacked tile of ENG_TILE rows, 64-byte multiple. */
    size_t (*tile_bytes)(size_t cols);
    /* rows ≤ ENG_TILE source rows, row_bytes apart, into one tile; missing rows are zero weights.
     */
    void (*repack)(const void *src, size_t row_bytes, size_t n_rows, size_t cols, void *tile);
    /* y[r * y_stride + o] = W[o,:] · x[r,:] for the rows o of tiles [tile0, tile1) (o < w->rows).
     */
    void (*mm[ENG_N_ISA])(const struct eng_mat *w, size_t tile0, size_t tile1,
                          const struct eng_act *x, float *y, size_t y_stride);
};

/* NULL when the type is unknown. */
const struct eng_quant *eng_quant_find(uint32_t ggml_type);
extern const struct eng_quant
    *const eng_quants[]; /* NULL-terminated: tests and benchmarks walk it */

struct eng_mat { /* W[rows, cols], repacked */
    const struct eng_quant *quant;
    size_t rows, cols, n_tiles, tile_bytes;
    void *tiles; /* 64-byte aligned, n_tiles * tile_bytes */
};
int eng_mat_init(struct eng_mat *m, const struct eng_quant *q, const void *src, size_t rows,
                 size_t cols, struct pd_err *err); /* cols % block_elems == 0 */
void eng_mat_done(struct eng_mat *m);

/* Running state of one query's attention: m = maximum, l = sum of exp(score - m), o[head_dim] not
 * yet divided. */
struct eng_attn {
    float m, l;
    float *o;
};

struct eng_kernels {
    enum eng_isa isa;
    /* y = x * w / sqrt(mean(x²) + eps); x, y, w [n]; y may be x */
    void (*rmsnorm)(float *y, const float *x, const float *w, size_t n, float eps);
    /* per 32-block: d = max|x| / 127, q = nearest-even(x * (1/d)) (d = 0 → all 0); per half block
     * s = Σ q. n % 32 == 0 */
    void (*quantize_q8)(const float *x, size_t n, int8_t *q, float *d, int16_t *s);
    /* pairs (2i,2i+1) of each of n_heads vectors of head_dim are rotated, i < n_rot/2:
     * (a,b) → (a c - b s, a s + b c) as fma(a, c, -(b*s)), fma(a, s, b*c) */
    void (*rope)(float *x, size_t n_heads, size_t head_dim, size_t n_rot, const float *cosv,
                 const float *sinv);
    /* the same with pairs (i,i+n_rot/2) */
    void (*rope_neox)(float *x, size_t n_heads, size_t head_dim, size_t n_rot, const float *cosv,
                      const float *sinv);
    void (*swiglu)(float *gate, const float *up,
                   size_t n); /* gate = gate / (1 + exp(-gate)) * up */
    /* the same with the tanh form of GELU: g (1 + tanh u) / 2 = g / (1 + exp(-2u)),
     * 2u = g (a + b g²), a = sqrt(8/pi), b = 0.044715 a */
    void (*geglu)(float *gate, const float *up, size_t n);
    void (*softcap)(float *x, size_t n, float cap);            /* x = tanh(x / cap) * cap */
    void (*add)(float *x, const float *y, size_t n);           /* x += y */
    void (*axpy)(float *y, float a, const float *x, size_t n); /* y = fma(a, x, y) */
    void (*to_f16)(const float *x, uint16_t *y,
                   size_t n); /* round to nearest even, overflow to infinity */
    /* K page of one kv head: k[head_dim][ENG_PAGE] (position innermost), v[ENG_PAGE][head_dim],
     * both binary16. For each of n_q queries q[i][head_dim] (already scaled): scores over the first
     * n_valid[i] positions (fma over d ascending), the page's maximum, p = exp(score - max), l = Σ
     * p (16 partials), o = Σ p v (fma over positions ascending), merged into acc[i]: pages must
     * come in ascending order. */
    void (*attn_page)(const float *const *q, size_t n_q, const uint16_t *k, const uint16_t *v,
                      const uint8_t *n_valid, size_t head_dim, struct eng_attn *acc);
    float (*max)(const float *x, size_t n);
    /* y[i] = exp((x[i] - max) * scale); returns Σ y (16 partials) */
    float (*exp_sum)(const float *x, size_t n, float max, float scale, float *y);
};
const struct eng_kernels *eng_kernels(enum eng_isa isa);

/* Scalar helpers, the same code everywhere. */
float eng_exp(float x);  /* ≤ 2 ulp; underflows to 0 below -104, inf above 89 */
float eng_tanh(float x); /* 1 - 2 / (1 + exp(2x)): within 2^-23, not relatively */
float eng_log(
    float x); /* natural logarithm in our own arithmetic (computed in double, rounded once) */
float eng_merge16(
    const float p[16]); /* ((0+8)+(4+12)) + ((2+10)+(6+14)) + … : for h = 8,4,2,1: p[j] += p[j+h] */
float eng_max16(const float p[16]);
float eng_f16_to_f32(uint16_t h);
uint16_t eng_f32_to_f16(float f);
/* freq[i] = base^(-2i/n_rot) (own arithmetic in double), n_rot/2 of them. */
void eng_rope_freqs(float base, size_t n_rot, float *freq);
/* How a rotation is stretched for contexts longer than n_ctx_orig. All frequencies are divided by
 * factor; YaRN (ext_factor > 0) spares those that turn more than beta_fast times within n_ctx_orig,
 * and some of those that turn more than beta_slow times. */
struct eng_rope_scaling {
    float factor, ext_factor, attn_factor, beta_fast, beta_slow;
    uint32_t n_ctx_orig;
};
/* Stretches freq (of eng_rope_freqs, perhaps divided); returns what cosines and sines are
 * multiplied with. */
float eng_rope_scale(const struct eng_rope_scaling *s, float base, size_t n_rot, float *freq);
/* cosv[i], sinv[i] of pos * freq[i], times scale (own arithmetic in double, rounded to float). */
void eng_rope_angles(uint32_t pos, const float *freq, float scale, size_t n, float *cosv,
                     float *sinv);

/* ---- compute pool (pool.c): n_threads - 1 workers and the caller --------------------------------
 */
struct eng_pool;
int eng_pool_new(unsigned n_threads, struct eng_pool **out, struct pd_err *err);
void eng_pool_free(struct eng_pool *p);
unsigned eng_pool_n_threads(const struct eng_pool *p);
/* Calls fn(arg, begin, end, thread) so that [0, n_items) is covered once; returns when all are
 * done. Which thread gets which items must not matter. Only one thread may call run at a time.
 * Workers spin briefly, then sleep. */
typedef void (*eng_pool_fn)(void *arg, size_t begin, size_t end, unsigned thread);
void eng_pool_run(struct eng_pool *p, size_t n_items, size_t grain, eng_pool_fn fn, void *arg);

#endif
