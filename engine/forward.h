/* One batch through one model (private to the engine). A session `fwd` is a model with the scratch
 * memory of its steps; it lives as long as there are contexts of the model. Used by the scheduler
 * thread only, but for its reference count (the engine's lock). No allocation inside a step.
 *
 * A row's numbers depend on its own inputs only: every phase works on output tiles, rows or (row,
 * head) items, and each item's order of operations is fixed by the kernels. */
#ifndef PD_ENGINE_FORWARD_H
#define PD_ENGINE_FORWARD_H

#include "engine/kernels.h"
#include "engine/kv.h"
#include "engine/model.h"
#include "engine/spec.h"

#define FWD_LOGIT_ROWS                                                                             \
    64 /* rows whose logits exist at the same time: bounds memory for large vocabularies */

enum fwd_want { FWD_LOGITS = 1, FWD_HIDDEN = 2 /* after the final norm */ };

struct fwd_row {
    struct eng_ctx *ctx; /* kv_extend has been called for all its rows, kv_gather for its blocks */
    uint32_t pos;        /* in the context; rows of one context are adjacent and ascending */
    int32_t token;
    unsigned want; /* of enum fwd_want, or-ed */
    void *user;
};

struct fwd {
    /* the engine's lock */
    unsigned refs;
    struct fwd *next;
    /* constant */
    struct eng_model *model;
    const struct eng_kernels *k;
    struct eng_pool *pool;
    const struct eng_kv_type *kv_type;
    struct kv_class *cls;
    unsigned max_rows;
    uint64_t n_bytes; /* of the scratch */
    /* scratch: [max_rows][…] */
    const struct fwd_row *rows;
    size_t n_rows;
    float *x, *h, *q, *kv_k, *kv_v, *att;
    float *gate, *up;   /* [max_rows * experts of a row][n_ff] */
    float *cosv, *sinv; /* [n_ropes][max_rows][n_rot/2] */
    int8_t *act_q;
    float *act_d;
    int16_t *act_s;
    struct fwd_read {
        uint32_t row;
        enum fwd_want what;
    } * reads; /* what the rows want, sorted by kind */
    size_t n_reads;
    float *logits;    /* [FWD_LOGIT_ROWS][n_vocab] */
    float *mid;       /* [n_threads] of the classification head */
    const float *out; /* of the last fwd_read_out: [rows][n_out] */
    size_t n_out;
    struct attn *attn;
    struct moe *moe;               /* NULL: dense */
    struct sample_scratch *sample; /* per pool thread */
    unsigned n_threads;
    /* how guessing at its texts fares, and what its steps take (spec.h) */
    struct spec_rate rate[ENG_SPECULATE_DRAFT + 1];
    struct spec_cost cost;
};

int fwd_new(struct eng_model *m, const struct eng_kernels *k, struct eng_pool *pool,
            struct kv_pool *kv, const struct eng_kv_type *kv_type, unsigned max_rows,
            struct fwd **out, struct pd_err *err);
void fwd_free(struct fwd *f);
/* Evaluates the rows: their K and V are in the pages, the hidden states in the scratch. n ≤
 * max_rows. */
void fwd_step(struct fwd *f, const struct fwd_row *rows, size_t n);
/* Computes f->reads from the i0-th on, all of one kind, into f->out; at most FWD_LOGIT_ROWS:
 * returns how many. */
size_t fwd_read_out(struct fwd *f, size_t i0);

/* Row r of q and k as attention wants them: biases, norms of the heads, rotation, q scaled. The q
 * of a row that sees blocks is left for fwd_turn_q. */
void fwd_rotate(const struct fwd *f, const struct eng_layer *w, size_t r);
/* Rotates n_heads heads of queries by the angles that fwd_angles put into place i, and scales them.
 */
void fwd_turn_q(const struct fwd *f, const struct eng_layer *w, size_t i, float *q, size_t n_heads);
/* The angles of a position, for every rotation of the model, into place i < max_rows: of row i, or
 * one that no row has. */
void fwd_angles(struct fwd *f, size_t i, uint32_t pos);
/* K and V of a page. */
static inline void *fwd_kv(const struct fwd *f, struct kv_page *page, size_t layer, size_t head)
{
    const struct eng_model_info *i = &f->model->info;

    return page->data + (layer * i->n_head_kv + head) * f->kv_type->bytes(i->head_dim);
}

/* y = W x for several matrices at once: the pool shares out all their tiles. */
struct fwd_mm {
    const struct eng_mat *w;
    const struct eng_act *x;
    float *y; /* [x->n_rows][w->rows] */
};
void fwd_mm(struct fwd *f, const struct fwd_mm *parts, size_t n);
/* n_rows rows from x[0] on, with their quantised form from f's scratch row r0 on. */
struct eng_act fwd_act(const struct fwd *f, const float *x, size_t r0, size_t n_rows, size_t cols);
/* Quantises x into row r of f's scratch. */
void fwd_quantize(const struct fwd *f, const float *x, size_t r, size_t cols);
/* gate[n] = act(gate + gate_bias) * (up + up_bias) */
void fwd_glu(const struct fwd *f, const struct eng_layer *w, float *gate, float *up, size_t n);
/* Items of about the same cost, elems element operations each. */
void fwd_run(struct fwd *f, size_t n_items, size_t elems, eng_pool_fn fn, void *arg);

/* 64-byte aligned, not initialised, counted in f->n_bytes; NULL: out of memory or absurd. free()
 * releases. */
void *fwd_scratch(struct fwd *f, size_t n, size_t elem);

/* What the engine (sched.c) lends to contexts. */
struct kv_pool *eng_kv(struct eng *e);
int eng_fwd_get(struct eng *e, struct eng_model *m, struct fwd **out, struct pd_err *err);
void eng_fwd_ref(struct eng *e, struct fwd *f);
void eng_fwd_put(struct eng *e, struct fwd *f);

#endif
