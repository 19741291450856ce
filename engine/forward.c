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

#include "engine/sample.h"

/* Least work worth waking another thread for, in multiply-adds or comparable element operations. */
#define GRAIN_MACS  32768u
#define GRAIN_ELEMS 4096u

static void *scratch(size_t n, size_t elem)
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
    for (unsigned t = 0; t < f->n_threads; t++) {
        if (f->attn) {
            free(f->attn[t].acc);
            free(f->attn[t].q);
            free(f->attn[t].n_valid);
        }
        if (f->sample)
            sample_scratch_done(&f->sample[t]);
    }
    free(f->attn);
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
    free(f->half);
    free(f->act_q);
    free(f->act_d);
    free(f->act_s);
    free(f->blocks);
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
    size_t n_acc = (size_t)FWD_ATTN_ROWS * (i->n_head / i->n_head_kv);
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
    f->x = scratch(n * i->n_embd, sizeof(float));
    f->h = scratch(n * max_size(i->n_embd, n_q), sizeof(float));
    f->q = scratch(n * n_q, sizeof(float));
    f->kv_k = scratch(n * n_kv, sizeof(float));
    f->kv_v = scratch(n * n_kv, sizeof(float));
    f->att = scratch(n * n_q, sizeof(float));
    f->gate = scratch(n * i->n_ff, sizeof(float));
    f->up = scratch(n * i->n_ff, sizeof(float));
    f->cosv = scratch(n * rot, sizeof(float));
    f->sinv = scratch(n * rot, sizeof(float));
    f->half = scratch(n * n_kv, sizeof(uint16_t));
    f->act_q = scratch(n * widest, 1);
    f->act_d = scratch(n * (widest / ENG_Q8_BLOCK + 1), sizeof(float));
    f->act_s = scratch(n * (widest / ENG_Q8_BLOCK + 1), sizeof(int32_t));
    f->blocks = scratch(n + 1, sizeof(uint32_t));
    f->logit_rows = scratch(n, sizeof(uint32_t));
    f->logits = scratch((size_t)FWD_LOGIT_ROWS * i->n_vocab, sizeof(float));
    f->attn = calloc(f->n_threads, sizeof(*f->attn));
    f->sample = calloc(f->n_threads, sizeof(*f->sample));
    if (!f->cls || !f->x || !f->h || !f->q || !f->kv_k || !f->kv_v || !f->att || !f->gate ||
        !f->up || !f->cosv || !f->sinv || !f->half || !f->act_q || !f->act_d || !f->act_s ||
        !f->blocks || !f->logit_rows || !f->logits || !f->attn || !f->sample)
        goto nomem;
    for (unsigned t = 0; t < f->n_threads; t++) {
        f->attn[t].acc = calloc(n_acc, sizeof(*f->attn[t].acc));
        f->attn[t].q = calloc(n_acc, sizeof(*f->attn[t].q));
        f->attn[t].n_valid = calloc(n_acc, 1);
        if (!f->attn[t].acc || !f->attn[t].q || !f->attn[t].n_valid ||
            sample_scratch_init(&f->sample[t], i->n_vocab) < 0)
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
                      f->act_s + r * (cols / ENG_Q8_BLOCK));
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

static uint16_t *head_of(const struct eng_model_info *i, struct kv_page *page, size_t layer,
                         size_t head)
{
    return page->data + (layer * i->n_head_kv + head) * i->head_dim * ENG_PAGE * 2;
}

/* Rotates q and k, scales q, writes K (transposed) and V of the row into its page. */
static void kv_rows(void *arg, size_t begin, size_t end, unsigned thread)
{
    const struct phase *p = arg;
    struct fwd *f = p->f;
    const struct eng_model_info *i = &f->model->info;
    size_t hd = i->head_dim, n_q = i->n_head * hd, n_kv = i->n_head_kv * hd,
           n_rot = f->model->n_rot;
    const float scale = 1.0f / sqrtf((float)hd);

    (void)thread;
    for (size_t r = begin; r < end; r++) {
        const struct fwd_row *row = &f->rows[r];
        struct kv_page *page = row->ctx->table[row->pos / ENG_PAGE];
        const float *cosv = f->cosv + r * (n_rot / 2), *sinv = f->sinv + r * (n_rot / 2);
        float *q = f->q + r * n_q, *k = f->kv_k + r * n_kv;
        uint16_t *half = f->half + r * n_kv;
        size_t at = row->pos % ENG_PAGE;

        f->k->rope(q, i->n_head, hd, n_rot, cosv, sinv);
        f->k->rope(k, i->n_head_kv, hd, n_rot, cosv, sinv);
        for (size_t j = 0; j < n_q; j++)
            q[j] *= scale;
        f->k->to_f16(k, half, n_kv);
        for (size_t h = 0; h < i->n_head_kv; h++) {
            uint16_t *kp = head_of(i, page, p->layer, h);

            for (size_t d = 0; d < hd; d++)
                kp[d * ENG_PAGE + at] = half[h * hd + d];
            f->k->to_f16(f->kv_v + r * n_kv + h * hd, kp + hd * ENG_PAGE + at * hd, hd);
        }
    }
}

/* One item: a block of rows of one context × one kv head, all its query heads, pages ascending. */
static void attn_items(void *arg, size_t begin, size_t end, unsigned thread)
{
    const struct phase *p = arg;
    struct fwd *f = p->f;
    const struct eng_model_info *i = &f->model->info;
    struct fwd_attn_scratch *s = &f->attn[thread];
    size_t hd = i->head_dim, n_q = i->n_head * hd, group = i->n_head / i->n_head_kv;

    for (size_t item = begin; item < end; item++) {
        size_t b = item / i->n_head_kv, head = item % i->n_head_kv;
        size_t r0 = f->blocks[b], r1 = f->blocks[b + 1], n = 0, done = 0;
        struct kv_page *const *table = f->rows[r0].ctx->table;

        for (size_t r = r0; r < r1; r++) {
            for (size_t g = 0; g < group; g++, n++) {
                size_t off = r * n_q + (head * group + g) * hd;

                s->q[n] = f->q + off;
                s->acc[n] = (struct eng_attn){-INFINITY, 0.0f, f->att + off};
                memset(f->att + off, 0, hd * sizeof(float));
            }
        }
        for (size_t page = 0; done < n; page++) {
            const uint16_t *k = head_of(i, table[page], p->layer, head);

            for (size_t j = done; j < n; j++) {
                size_t left = f->rows[r0 + j / group].pos + 1 - page * ENG_PAGE;

                s->n_valid[j] = (uint8_t)(left < ENG_PAGE ? left : ENG_PAGE);
            }
            f->k->attn_page(s->q + done, n - done, k, k + hd * ENG_PAGE, s->n_valid + done, hd,
                            s->acc + done);
            /* Positions ascend, so those that end in this page are in front. */
            while (done < n && f->rows[r0 + done / group].pos / ENG_PAGE == page)
                done++;
        }
        for (size_t j = 0; j < n; j++) {
            for (size_t d = 0; d < hd; d++)
                s->acc[j].o[d] /= s->acc[j].l;
        }
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

static void find_blocks(struct fwd *f, const struct fwd_row *rows, size_t n)
{
    size_t nb = 0, nl = 0;

    for (size_t r = 0; r < n; r++) {
        if (r == 0 || rows[r].ctx != rows[r - 1].ctx || r - f->blocks[nb - 1] == FWD_ATTN_ROWS)
            f->blocks[nb++] = (uint32_t)r;
        if (rows[r].want_logits)
            f->logit_rows[nl++] = (uint32_t)r;
    }
    f->blocks[nb] = (uint32_t)n;
    f->n_blocks = nb;
    f->n_logit_rows = nl;
}

void fwd_step(struct fwd *f, const struct fwd_row *rows, size_t n)
{
    const struct eng_model *m = f->model;
    const struct eng_model_info *i = &m->info;
    size_t n_q = (size_t)i->n_head * i->head_dim;
    struct phase p = {.f = f};

    f->rows = rows;
    f->n_rows = n;
    find_blocks(f, rows, n);
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
        run_rows(&p, n, n_q, kv_rows);
        eng_pool_run(f->pool, f->n_blocks * i->n_head_kv, 1, attn_items, &p);
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
