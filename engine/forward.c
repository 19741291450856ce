/* The transformer step of the llama family, on the scheduler's thread and the compute pool.
 *
 * Per layer: norm, quantise → q,k,v → rope, K and V of all rows into their pages → attention → o →
 * add, norm, quantise → gate,up → swiglu, quantise → down; the last addition is folded into the
 * next norm. Invariant: all K and V of the batch are in the pages before any attention of the layer
 * starts, so that prefill and decode see the same memory. */
#include "engine/forward.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "engine/attention.h"
#include "engine/sample.h"

/* Least work worth waking another thread for, in multiply-adds or comparable element operations. */
#define GRAIN_MACS  32768u
#define GRAIN_ELEMS 4096u

void *fwd_scratch(size_t n, size_t elem)
{
    size_t bytes;

    if (__builtin_mul_overflow(n, elem, &bytes) || bytes > SIZE_MAX - 128)
        return NULL;
    return aligned_alloc(64, (bytes + 127) & ~(size_t)63);
}

static size_t max_size(size_t a, size_t b)
{
    return a > b ? a : b;
}

void fwd_free(struct fwd *f)
{
    if (!f)
        return;
    attn_free(f->attn);
    for (unsigned t = 0; t < f->n_threads && f->sample; t++)
        sample_scratch_done(&f->sample[t]);
    free(f->sample);
    free(f->x);
    free(f->h);
    free(f->q);
    free(f->kv_k);
    free(f->kv_v);
    free(f->att);
    free(f->gate);
    free(f->up);
    free(f->cosv);
    free(f->sinv);
    free(f->act_q);
    free(f->act_d);
    free(f->act_s);
    free(f->logit_rows);
    free(f->logits);
    eng_model_unref(f->model);
    free(f);
}

int fwd_new(struct eng_model *m, const struct eng_kernels *k, struct eng_pool *pool,
            struct kv_pool *kv, unsigned max_rows, struct fwd **out, struct pd_err *err)
{
    const struct eng_model_info *i = &m->info;
    size_t n_q = (size_t)i->n_head * i->head_dim, n_kv = (size_t)i->n_head_kv * i->head_dim;
    size_t widest = max_size(max_size(i->n_embd, n_q), i->n_ff), n = max_rows;
    size_t rot = m->n_rot / 2 ? m->n_rot / 2 : 1;
    struct fwd *f = calloc(1, sizeof(*f));

    if (!f)
        goto nomem;
    f->model = eng_model_ref(m);
    f->k = k;
    f->pool = pool;
    f->max_rows = max_rows;
    f->n_threads = eng_pool_n_threads(pool);
    f->cls = kv_pool_class(kv, (size_t)i->n_layer * n_kv * ENG_PAGE * 2);
    f->x = fwd_scratch(n * i->n_embd, sizeof(float));
    f->h = fwd_scratch(n * max_size(i->n_embd, n_q), sizeof(float));
    f->q = fwd_scratch(n * n_q, sizeof(float));
    f->kv_k = fwd_scratch(n * n_kv, sizeof(float));
    f->kv_v = fwd_scratch(n * n_kv, sizeof(float));
    f->att = fwd_scratch(n * n_q, sizeof(float));
    f->gate = fwd_scratch(n * i->n_ff, sizeof(float));
    f->up = fwd_scratch(n * i->n_ff, sizeof(float));
    f->cosv = fwd_scratch(n * rot, sizeof(float));
    f->sinv = fwd_scratch(n * rot, sizeof(float));
    f->act_q = fwd_scratch(n * widest, 1);
    f->act_d = fwd_scratch(n * (widest / ENG_Q8_BLOCK + 1), sizeof(float));
    f->act_s = fwd_scratch(n * (widest / ENG_Q8_HALF + 1), sizeof(int16_t));
    f->logit_rows = fwd_scratch(n, sizeof(uint32_t));
    f->logits = fwd_scratch((size_t)FWD_LOGIT_ROWS * i->n_vocab, sizeof(float));
    f->attn = attn_new(f);
    f->sample = calloc(f->n_threads, sizeof(*f->sample));
    if (!f->cls || !f->x || !f->h || !f->q || !f->kv_k || !f->kv_v || !f->att || !f->gate ||
        !f->up || !f->cosv || !f->sinv || !f->act_q || !f->act_d || !f->act_s || !f->logit_rows ||
        !f->logits || !f->attn || !f->sample)
        goto nomem;
    for (unsigned t = 0; t < f->n_threads; t++) {
        if (sample_scratch_init(&f->sample[t], i->n_vocab) < 0)
            goto nomem;
    }
    *out = f;
    return 0;
nomem:
    fwd_free(f);
    return pd_fail(err, PD_ENOMEM, "out of memory for the working space of '%s'",
                   i->name ? i->name : i->path);
}

/* ---- phases: pool functions over rows, tiles or (block, head) items
 * -------------------------------- */

struct phase {
    struct fwd *f;
    const struct eng_layer *l;
    size_t layer;
    const float *norm; /* NULL: no normalisation */
    bool add, q8;
};

struct mm_job { /* up to three matrices with the same input */
    const struct eng_mat *w[3];
    float *y[3];
    size_t n;
    const struct eng_act *x;
    enum eng_isa isa;
};

static void quantize_row(const struct fwd *f, const float *x, size_t r, size_t cols)
{
    f->k->quantize_q8(x, cols, f->act_q + r * cols, f->act_d + r * (cols / ENG_Q8_BLOCK),
                      f->act_s + r * (cols / ENG_Q8_HALF));
}

static void run_rows(struct phase *p, size_t n_rows, size_t row_elems, eng_pool_fn fn)
{
    eng_pool_run(p->f->pool, n_rows, max_size(1, GRAIN_ELEMS / max_size(1, row_elems)), fn, p);
}

static void mm_tiles(void *arg, size_t begin, size_t end, unsigned thread)
{
    const struct mm_job *j = arg;
    size_t first = 0;

    (void)thread;
    for (size_t i = 0; i < j->n; i++) {
        size_t n = j->w[i]->n_tiles, b = begin > first ? begin - first : 0, e = end - first;

        if (end > first && b < n)
            j->w[i]->quant->mm[j->isa](j->w[i], b, e < n ? e : n, j->x, j->y[i], j->w[i]->rows);
        first += n;
    }
}

static void run_mm(struct fwd *f, struct mm_job *j)
{
    size_t n_tiles = 0, work = j->x->n_rows * j->x->cols * ENG_TILE;

    for (size_t i = 0; i < j->n; i++)
        n_tiles += j->w[i]->n_tiles;
    j->isa = f->k->isa;
    eng_pool_run(f->pool, n_tiles, GRAIN_MACS / work + 1, mm_tiles, j);
}

static struct eng_act act_of(const struct fwd *f, const float *x, size_t n_rows, size_t cols)
{
    return (struct eng_act){n_rows, cols, x, f->act_q, f->act_d, f->act_s};
}

static void embed_rows(void *arg, size_t begin, size_t end, unsigned thread)
{
    const struct phase *p = arg;
    struct fwd *f = p->f;
    const struct eng_model *m = f->model;
    size_t n = m->info.n_embd, rot = m->n_rot / 2;

    (void)thread;
    for (size_t r = begin; r < end; r++) {
        const struct fwd_row *row = &f->rows[r];

        m->embd_quant->dequant(m->embd + (size_t)row->token * m->embd_row_bytes, f->x + r * n, n);
        eng_rope_angles(row->pos, m->rope_freq, rot, f->cosv + r * rot, f->sinv + r * rot);
    }
}

/* x += h (if add); h = norm(x); quantised if wanted */
static void norm_rows(void *arg, size_t begin, size_t end, unsigned thread)
{
    const struct phase *p = arg;
    struct fwd *f = p->f;
    size_t n = f->model->info.n_embd;

    (void)thread;
    for (size_t r = begin; r < end; r++) {
        float *x = f->x + r * n, *h = f->h + r * n;

        if (p->add)
            f->k->add(x, h, n);
        if (!p->norm)
            continue;
        f->k->rmsnorm(h, x, p->norm, n, f->model->rms_eps);
        if (p->q8)
            quantize_row(f, h, r, n);
    }
}

static void att_q8_rows(void *arg, size_t begin, size_t end, unsigned thread)
{
    const struct phase *p = arg;
    size_t n = (size_t)p->f->model->info.n_head * p->f->model->info.head_dim;

    (void)thread;
    for (size_t r = begin; r < end; r++)
        quantize_row(p->f, p->f->att + r * n, r, n);
}

static void glu_rows(void *arg, size_t begin, size_t end, unsigned thread)
{
    const struct phase *p = arg;
    struct fwd *f = p->f;
    size_t n = f->model->info.n_ff;

    (void)thread;
    for (size_t r = begin; r < end; r++) {
        f->k->swiglu(f->gate + r * n, f->up + r * n, n);
        if (p->q8)
            quantize_row(f, f->gate + r * n, r, n);
    }
}

/* ---- the step
 * ------------------------------------------------------------------------------------ */

void fwd_step(struct fwd *f, const struct fwd_row *rows, size_t n)
{
    const struct eng_model *m = f->model;
    const struct eng_model_info *i = &m->info;
    size_t n_q = (size_t)i->n_head * i->head_dim;
    struct phase p = {.f = f};

    f->rows = rows;
    f->n_rows = n;
    f->n_logit_rows = 0;
    for (size_t r = 0; r < n; r++) {
        if (rows[r].want_logits)
            f->logit_rows[f->n_logit_rows++] = (uint32_t)r;
    }
    attn_begin(f->attn);
    run_rows(&p, n, i->n_embd, embed_rows);
    for (size_t l = 0; l < i->n_layer; l++) {
        const struct eng_layer *w = &m->layers[l];
        struct eng_act x;

        p.l = w;
        p.layer = l;
        p.add = l > 0;
        p.norm = w->attn_norm;
        p.q8 = w->q.quant->wants_q8 || w->k.quant->wants_q8 || w->v.quant->wants_q8;
        run_rows(&p, n, i->n_embd, norm_rows);
        x = act_of(f, f->h, n, i->n_embd);
        run_mm(f, &(struct mm_job){
                      .w = {&w->q, &w->k, &w->v}, .y = {f->q, f->kv_k, f->kv_v}, .n = 3, .x = &x});
        attn_layer(f->attn, l);
        if (w->o.quant->wants_q8)
            run_rows(&p, n, n_q, att_q8_rows);
        x = act_of(f, f->att, n, n_q);
        run_mm(f, &(struct mm_job){.w = {&w->o}, .y = {f->h}, .n = 1, .x = &x});
        p.add = true;
        p.norm = w->ffn_norm;
        p.q8 = w->gate.quant->wants_q8 || w->up.quant->wants_q8;
        run_rows(&p, n, i->n_embd, norm_rows);
        x = act_of(f, f->h, n, i->n_embd);
        run_mm(f,
               &(struct mm_job){.w = {&w->gate, &w->up}, .y = {f->gate, f->up}, .n = 2, .x = &x});
        p.q8 = w->down.quant->wants_q8;
        run_rows(&p, n, i->n_ff, glu_rows);
        x = act_of(f, f->gate, n, i->n_ff);
        run_mm(f, &(struct mm_job){.w = {&w->down}, .y = {f->h}, .n = 1, .x = &x});
    }
    p.add = true;
    p.norm = NULL;
    run_rows(&p, n, i->n_embd, norm_rows);
}

struct final {
    struct fwd *f;
    size_t i0;
};

static void final_rows(void *arg, size_t begin, size_t end, unsigned thread)
{
    const struct final *p = arg;
    struct fwd *f = p->f;
    size_t n = f->model->info.n_embd;

    (void)thread;
    for (size_t j = begin; j < end; j++) {
        f->k->rmsnorm(f->h + j * n, f->x + f->logit_rows[p->i0 + j] * n, f->model->output_norm, n,
                      f->model->rms_eps);
        if (f->model->output.quant->wants_q8)
            quantize_row(f, f->h + j * n, j, n);
    }
}

size_t fwd_logits(struct fwd *f, size_t i0)
{
    const struct eng_model *m = f->model;
    size_t left = f->n_logit_rows - i0, n = left < FWD_LOGIT_ROWS ? left : FWD_LOGIT_ROWS;
    struct final p = {f, i0};
    struct eng_act x = act_of(f, f->h, n, m->info.n_embd);

    if (n == 0)
        return 0;
    eng_pool_run(f->pool, n, GRAIN_ELEMS / m->info.n_embd + 1, final_rows, &p);
    run_mm(f, &(struct mm_job){.w = {&m->output}, .y = {f->logits}, .n = 1, .x = &x});
    return n;
}
