/* The arithmetic (private to the engine). The scalar kernels are the specification; AVX2 and
 * AVX-512 give the same bits. How: lanes are output rows (weights repacked in tiles of ENG_TILE
 * rows), each lane accumulates over k in ascending order by fused multiply-add; integer dots are
 * exact; reductions over a vector use 16 partial results, partial j taking the elements i ≡ j (mod
 * 16) in ascending order, merged by the tree of eng_merge16(); exp, sin and cos are ours. No
 * allocation, no locks. */
#ifndef PD_ENGINE_KERNELS_H
#define PD_ENGINE_KERNELS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "engine/isa.h"

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
struct eng_kernels;
struct eng_pool;

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
/* All of m but the tiles: what eng_mat_init will allocate is n_tiles * tile_bytes. */
int eng_mat_shape(struct eng_mat *m, const struct eng_quant *q, size_t rows, size_t cols,
                  struct pd_err *err);
/* cols % block_elems == 0. The pool repacks; NULL: the caller alone. */
int eng_mat_init(struct eng_mat *m, const struct eng_quant *q, const void *src, size_t rows,
                 size_t cols, struct eng_pool *pool, struct pd_err *err);
void eng_mat_done(struct eng_mat *m);

/* ---- attention over one page
 * -------------------------------------------------------------------- */

#define ENG_ATTN_TILE                                                                              \
    12 /* queries of a tile: with two vectors of 16 scores each they fill 24 registers of 32 */

/* Up to ENG_ATTN_TILE queries of one kv head and the running state of their softmax. m: maximum, l:
 * Σ exp(score - m), o: Σ exp(score - m) v. Before the first page m = -inf, l = 0, o = -0 (the
 * neutral element of addition). */
struct eng_attn_tile {
    size_t head_dim, o_stride; /* o_stride: head_dim rounded up to 16 */
    const float *q;            /* [head_dim][ENG_ATTN_TILE], scaled */
    float *m, *l;              /* [ENG_ATTN_TILE + 16]: vectors may be loaded at any query */
    float *o;                  /* [ENG_ATTN_TILE][o_stride] */
    float softcap;             /* scores become tanh(score / softcap) * softcap; 0: as they are */
    const void *next;          /* K and V that are wanted next, brought near; NULL: none */
};

struct eng_span { /* what a query sees of a page: first ≤ position < end, at least one */
    uint8_t first, end;
};

/* How K and V are kept: one row of the table in kv_type.c. kv: K and V of one page and one kv head,
 * 64-byte aligned, 64 readable bytes behind it. */
struct eng_kv_type {
    const char *name;
    size_t dim_multiple;              /* head_dim must be one */
    size_t (*bytes)(size_t head_dim); /* of kv; a multiple of 64 */
    /* k[head_dim], v[head_dim] of position at (0 … ENG_PAGE - 1) into kv. */
    void (*put)(const struct eng_kernels *kernels, void *kv, size_t at, const float *k,
                const float *v, size_t head_dim);
    /* kv as a page of type F32, exact; out has room for 16 floats more. NULL: it is one. */
    void (*get[ENG_N_ISA])(const void *kv, size_t head_dim, float *out);
    /* Queries [i0, i0 + n) of the tile against the page; span[n], NULL: all see all of it. Scores:
     * fma over d ascending; the page's maximum; p = exp(score - max); l = Σ p (16 partials); o = Σ
     * p v (fma over positions ascending); merged into the tile, so pages must come in ascending
     * order. NULL: get, then F32's; the bits are the same. */
    void (*attn[ENG_N_ISA])(const struct eng_attn_tile *t, size_t i0, size_t n, const void *kv,
                            const struct eng_span *span);
};
extern const struct eng_kv_type *const eng_kv_types[];        /* NULL-terminated */
extern const struct eng_kv_type eng_kv_f32;                   /* K [head_dim][ENG_PAGE], then V
                                                                 [ENG_PAGE][head_dim] */
const struct eng_kv_type *eng_kv_type_find(const char *name); /* NULL: unknown */

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
    void (*divide)(float *y, const float *x, size_t n, float by); /* y = x / by */
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
int eng_pool_new(unsigned n_threads, struct eng_pool **out, struct pd_err *err);
void eng_pool_free(struct eng_pool *p);
unsigned eng_pool_n_threads(const struct eng_pool *p);
/* Calls fn(arg, begin, end, thread) so that [0, n_items) is covered once; returns when all are
 * done. Which thread gets which items must not matter. Only one thread may call run at a time.
 * Workers spin briefly, then sleep. */
typedef void (*eng_pool_fn)(void *arg, size_t begin, size_t end, unsigned thread);
void eng_pool_run(struct eng_pool *p, size_t n_items, size_t grain, eng_pool_fn fn, void *arg);

#endif
