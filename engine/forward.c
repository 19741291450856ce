/* The transformer step, on the scheduler's thread and the compute pool.
 *
 * Per layer: norm, quantise → q,k,v → rope, K and V of all rows into their pages → attention → o →
 * add, norm, quantise → gate,up → activation, quantise → down (or the same in a mixture of experts,
 * moe.c); the last addition is folded into the next norm. Biases, the norms of heads and those
 * behind attention and feed-forward ride in the same passes where a model has them. Invariant: all
 * K and V of the batch are in the pages before any attention of the layer starts, so that prefill
 * and decode see the same memory. */
#include "engine/forward.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "engine/attention.h"
#include "engine/moe.h"
#include "engine/sample.h"

/* Least work worth waking another thread for, in multiply-adds or comparable element operations. */
#define GRAIN_MACS  32768u
#define GRAIN_ELEMS 4096u
#define FEW_ROWS    4 /* so few wait for memory in a product of matrices */

void *fwd_scratch(struct fwd *f, size_t n, size_t elem)
{
    size_t bytes;

    if (__builtin_mul_overflow(n, elem, &bytes) || bytes > SIZE_MAX - 128)
        return NULL;
    bytes = (bytes + 127) & ~(size_t)63;
    f->n_bytes += bytes;
    return aligned_alloc(64, bytes);
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
    moe_free(f->moe);
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
    free(f->reads);
    free(f->logits);
    free(f->mid);
    eng_model_unref(f->model);
    free(f);
}

int fwd_new(struct eng_model *m, const struct eng_kernels *k, struct eng_pool *pool,
            struct kv_pool *kv, const struct eng_kv_type *kv_type, unsigned max_rows,
            struct fwd **out, struct pd_err *err)
{
    const struct eng_model_info *i = &m->info;
    size_t n_q = (size_t)i->n_head * i->head_dim, n_kv = (size_t)i->n_head_kv * i->head_dim;
    size_t n = max_rows, slots = n * (m->n_expert_used ? m->n_expert_used : 1);
    size_t n_act = max_size(n * max_size(i->n_embd, n_q), slots * max_size(i->n_embd, i->n_ff));
    size_t rot = (size_t)m->n_ropes * (m->n_rot / 2);
    struct fwd *f;

    if (i->head_dim % kv_type->dim_multiple != 0)
        return pd_fail(
            err, PD_EINVAL,
            "the KV cache type %s wants heads of a multiple of %zu values, those of '%s' "
            "have %u: use f16",
            kv_type->name, kv_type->dim_multiple, i->name ? i->name : i->path, i->head_dim);
    f = calloc(1, sizeof(*f));
    if (!f)
        goto nomem;
    f->model = eng_model_ref(m);
    f->k = k;
    f->pool = pool;
    f->max_rows = max_rows;
    f->n_threads = eng_pool_n_threads(pool);
    f->kv_type = kv_type;
    /* 64 bytes behind: vectors may read past the last V */
    f->cls = kv_pool_class(kv, (size_t)i->n_layer * i->n_head_kv * kv_type->bytes(i->head_dim) + 64,
                           i->sha256);
    f->x = fwd_scratch(f, n * i->n_embd, sizeof(float));
    f->h = fwd_scratch(f, n * max_size(i->n_embd, n_q), sizeof(float));
    f->q = fwd_scratch(f, n * n_q, sizeof(float));
    f->kv_k = fwd_scratch(f, n * n_kv, sizeof(float));
    f->kv_v = fwd_scratch(f, n * n_kv, sizeof(float));
    f->att = fwd_scratch(f, n * n_q, sizeof(float));
    f->gate = fwd_scratch(f, slots * i->n_ff, sizeof(float));
    f->up = fwd_scratch(f, slots * i->n_ff, sizeof(float));
    f->cosv = fwd_scratch(f, n * rot, sizeof(float));
    f->sinv = fwd_scratch(f, n * rot, sizeof(float));
    f->act_q = fwd_scratch(f, n_act, 1);
    f->act_d = fwd_scratch(f, n_act / ENG_Q8_BLOCK + 1, sizeof(float));
    f->act_s = fwd_scratch(f, n_act / ENG_Q8_HALF + 1, sizeof(int16_t));
    f->reads = fwd_scratch(f, 2 * n, sizeof(*f->reads));
    f->logits = fwd_scratch(f, (size_t)FWD_LOGIT_ROWS * i->n_vocab, sizeof(float));
    f->mid = fwd_scratch(f, f->n_threads * m->head.dense.rows, sizeof(float));
    f->attn = attn_new(f);
    f->moe = m->n_expert ? moe_new(f) : NULL;
    f->sample = calloc(f->n_threads, sizeof(*f->sample));
    f->n_bytes += f->n_threads * sample_scratch_bytes(i->n_vocab);
    if (!f->cls || !f->x || !f->h || !f->q || !f->kv_k || !f->kv_v || !f->att || !f->gate ||
        !f->up || !f->cosv || !f->sinv || !f->act_q || !f->act_d || !f->act_s || !f->reads ||
        !f->mid || !f->logits || !f->attn || !f->sample || (m->n_expert && !f->moe))
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

/* ---- work on rows and tiles, shared with attention.c and moe.c
 * ---------------------------------------------------------------------------------------- */

void fwd_quantize(const struct fwd *f, const float *x, size_t r, size_t cols)
{
    f->k->quantize_q8(x, cols, f->act_q + r * cols, f->act_d + r * (cols / ENG_Q8_BLOCK),
                      f->act_s + r * (cols / ENG_Q8_HALF));
}

struct eng_act fwd_act(const struct fwd *f, const float *x, size_t r0, size_t n_rows, size_t cols)
{
    return (struct eng_act){n_rows,
                            cols,
                            x,
                            f->act_q + r0 * cols,
                            f->act_d + r0 * (cols / ENG_Q8_BLOCK),
                            f->act_s + r0 * (cols / ENG_Q8_HALF)};
}

void fwd_run(struct fwd *f, size_t n_items, size_t elems, eng_pool_fn fn, void *arg)
{
    eng_pool_run(f->pool, n_items, max_size(1, GRAIN_ELEMS / max_size(1, elems)), fn, arg);
}

struct mm_job {
    const struct fwd_mm *parts;
    size_t n;
    enum eng_isa isa;
};

static void mm_tiles(void *arg, size_t begin, size_t end, unsigned thread)
{
    const struct mm_job *j = arg;
    size_t first = 0;

    (void)thread;
    for (size_t i = 0; i < j->n && first < end; i++) {
        const struct fwd_mm *p = &j->parts[i];
        size_t n = p->w->n_tiles, b = begin > first ? begin - first : 0, e = end - first;

        if (b < n)
            p->w->quant->mm[j->isa](p->w, b, e < n ? e : n, p->x, p->y, p->w->rows);
        first += n;
    }
}

void fwd_mm(struct fwd *f, const struct fwd_mm *parts, size_t n)
{
    struct mm_job j = {parts, n, f->k->isa};
    size_t n_tiles = 0, macs = 0, grain;

    for (size_t i = 0; i < n; i++) {
        n_tiles += parts[i].w->n_tiles;
        macs += parts[i].w->n_tiles * parts[i].x->n_rows * parts[i].x->cols * ENG_TILE;
    }
    grain = GRAIN_MACS / (macs / n_tiles) + 1;
    if (parts[0].x->n_rows <= FEW_ROWS)
        grain += grain % 2; /* the products take tiles in pairs */
    eng_pool_run(f->pool, n_tiles, grain, mm_tiles, &j);
}

void fwd_glu(const struct fwd *f, const struct eng_layer *w, float *gate, float *up, size_t n)
{
    if (w->gate_bias)
        f->k->add(gate, w->gate_bias, n);
    if (w->up_bias)
        f->k->add(up, w->up_bias, n);
    if (f->model->gelu)
        f->k->geglu(gate, up, n);
    else
        f->k->swiglu(gate, up, n);
}

void fwd_angles(struct fwd *f, size_t i, uint32_t pos)
{
    const struct eng_model *m = f->model;
    size_t rot = m->n_rot / 2;

    for (size_t j = 0; j < m->n_ropes; j++) {
        size_t angle = (j * f->max_rows + i) * rot;

        eng_rope_angles(pos, m->rope[j].freq, m->rope[j].scale, rot, f->cosv + angle,
                        f->sinv + angle);
    }
}

/* Rotates n_heads heads by the angles of place i. */
static void turn(const struct fwd *f, const struct eng_layer *w, size_t i, float *x, size_t n_heads)
{
    const struct eng_model *m = f->model;
    size_t angle = ((size_t)(w->rope - m->rope) * f->max_rows + i) * (m->n_rot / 2);

    (m->neox ? f->k->rope_neox : f->k->rope)(x, n_heads, m->info.head_dim, m->n_rot,
                                             f->cosv + angle, f->sinv + angle);
}

void fwd_turn_q(const struct fwd *f, const struct eng_layer *w, size_t i, float *q, size_t n_heads)
{
    size_t n = n_heads * f->model->info.head_dim;

    turn(f, w, i, q, n_heads);
    for (size_t j = 0; j < n; j++)
        q[j] *= f->model->attn_scale;
}

void fwd_rotate(const struct fwd *f, const struct eng_layer *w, size_t r)
{
    const struct eng_model *m = f->model;
    const struct eng_model_info *i = &m->info;
    size_t hd = i->head_dim, n_q = i->n_head * hd, n_kv = i->n_head_kv * hd;
    float *q = f->q + r * n_q, *k = f->kv_k + r * n_kv, *v = f->kv_v + r * n_kv;

    if (w->q_bias)
        f->k->add(q, w->q_bias, n_q);
    if (w->k_bias)
        f->k->add(k, w->k_bias, n_kv);
    if (w->v_bias)
        f->k->add(v, w->v_bias, n_kv);
    for (size_t h = 0; w->q_norm && h < i->n_head; h++)
        f->k->rmsnorm(q + h * hd, q + h * hd, w->q_norm, hd, m->rms_eps);
    for (size_t h = 0; w->k_norm && h < i->n_head_kv; h++)
        f->k->rmsnorm(k + h * hd, k + h * hd, w->k_norm, hd, m->rms_eps);
    turn(f, w, r, k, i->n_head_kv);
    if (f->rows[r].ctx->n_blocks == 0)
        fwd_turn_q(f, w, r, q, i->n_head);
}

/* ---- phases: pool functions over rows
 * ---------------------------------------------------------------------------------------- */

struct phase {
    struct fwd *f;
    bool intact; /* the file, of which embeddings are read */
    const struct eng_layer *w;
    /* the residual: x += post_norm(h + bias) */
    bool add;
    const float *bias, *post_norm; /* NULL: none */
    const float *norm;             /* then h = norm(x); NULL: no h */
    bool q8;                       /* quantise what comes out */
};

static void run_rows(struct phase *p, size_t row_elems, eng_pool_fn fn)
{
    fwd_run(p->f, p->f->n_rows, row_elems, fn, p);
}

/* A row that cannot be read any more is no number, and so is all that depends on it: the scheduler
 * ends those requests. h is not in use yet: it takes the row as stored. */
static void embed_row(const struct phase *p, size_t r)
{
    struct fwd *f = p->f;
    const struct eng_model *m = f->model;
    size_t n = m->info.n_embd;
    const uint8_t *place = m->embd + (size_t)f->rows[r].token * m->embd_row_bytes;
    float *x = f->x + r * n;
    void *stored = f->h + r * n;

    if (p->intact && gguf_copy(m->gguf, place, m->embd_row_bytes, stored, NULL) == 0)
        m->embd_quant->dequant(stored, x, n);
    else
        for (size_t i = 0; i < n; i++)
            x[i] = NAN;
}

static void embed_rows(void *arg, size_t begin, size_t end, unsigned thread)
{
    const struct phase *p = arg;
    struct fwd *f = p->f;
    const struct eng_model *m = f->model;
    size_t n = m->info.n_embd;

    (void)thread;
    for (size_t r = begin; r < end; r++) {
        float *x = f->x + r * n;

        embed_row(p, r);
        if (m->embd_scale != 1) {
            for (size_t i = 0; i < n; i++)
                x[i] *= m->embd_scale;
        }
        fwd_angles(f, r, f->rows[r].pos);
    }
}

static void norm_rows(void *arg, size_t begin, size_t end, unsigned thread)
{
    const struct phase *p = arg;
    struct fwd *f = p->f;
    size_t n = f->model->info.n_embd;

    (void)thread;
    for (size_t r = begin; r < end; r++) {
        float *x = f->x + r * n, *h = f->h + r * n;

        if (p->add) {
            if (p->bias)
                f->k->add(h, p->bias, n);
            if (p->post_norm)
                f->k->rmsnorm(h, h, p->post_norm, n, f->model->rms_eps);
            f->k->add(x, h, n);
        }
        if (!p->norm)
            continue;
        f->k->rmsnorm(h, x, p->norm, n, f->model->rms_eps);
        if (p->q8)
            fwd_quantize(f, h, r, n);
    }
}

static void att_q8_rows(void *arg, size_t begin, size_t end, unsigned thread)
{
    const struct phase *p = arg;
    size_t n = (size_t)p->f->model->info.n_head * p->f->model->info.head_dim;

    (void)thread;
    for (size_t r = begin; r < end; r++)
        fwd_quantize(p->f, p->f->att + r * n, r, n);
}

static void glu_rows(void *arg, size_t begin, size_t end, unsigned thread)
{
    const struct phase *p = arg;
    struct fwd *f = p->f;
    size_t n = f->model->info.n_ff;

    (void)thread;
    for (size_t r = begin; r < end; r++) {
        fwd_glu(f, p->w, f->gate + r * n, f->up + r * n, n);
        if (p->q8)
            fwd_quantize(f, f->gate + r * n, r, n);
    }
}

/* ---- the step
 * ------------------------------------------------------------------------------------ */

/* f->h, normalised → f->h */
static void dense(struct fwd *f, struct phase *p)
{
    const struct eng_layer *w = p->w;
    size_t n_embd = f->model->info.n_embd, n_ff = f->model->info.n_ff;
    struct eng_act x = fwd_act(f, f->h, 0, f->n_rows, n_embd);

    fwd_mm(f, (const struct fwd_mm[]){{&w->gate, &x, f->gate}, {&w->up, &x, f->up}}, 2);
    p->q8 = w->down.quant->wants_q8;
    run_rows(p, n_ff, glu_rows);
    x = fwd_act(f, f->gate, 0, f->n_rows, n_ff);
    fwd_mm(f, &(struct fwd_mm){&w->down, &x, f->h}, 1);
}

void fwd_step(struct fwd *f, const struct fwd_row *rows, size_t n)
{
    const struct eng_model *m = f->model;
    const struct eng_model_info *i = &m->info;
    size_t n_q = (size_t)i->n_head * i->head_dim;
    struct phase p = {.f = f, .intact = gguf_unchanged(m->gguf, NULL) == 0};

    f->rows = rows;
    f->n_rows = n;
    f->n_reads = 0;
    for (unsigned what = FWD_LOGITS; what <= FWD_HIDDEN; what *= 2) {
        for (size_t r = 0; r < n; r++) {
            if (rows[r].want & what)
                f->reads[f->n_reads++] = (struct fwd_read){(uint32_t)r, (enum fwd_want)what};
        }
    }
    attn_begin(f->attn);
    run_rows(&p, i->n_embd, embed_rows);
    for (size_t l = 0; l < i->n_layer; l++) {
        const struct eng_layer *w = &m->layers[l];
        struct eng_act x;

        p.w = w;
        p.norm = w->attn_norm;
        p.q8 = w->q.quant->wants_q8 || w->k.quant->wants_q8 || w->v.quant->wants_q8;
        run_rows(&p, i->n_embd, norm_rows);
        x = fwd_act(f, f->h, 0, n, i->n_embd);
        fwd_mm(
            f,
            (const struct fwd_mm[]){{&w->q, &x, f->q}, {&w->k, &x, f->kv_k}, {&w->v, &x, f->kv_v}},
            3);
        attn_layer(f->attn, l);
        if (w->o.quant->wants_q8)
            run_rows(&p, n_q, att_q8_rows);
        x = fwd_act(f, f->att, 0, n, n_q);
        fwd_mm(f, &(struct fwd_mm){&w->o, &x, f->h}, 1);
        p.add = true;
        p.bias = w->o_bias;
        p.post_norm = w->attn_post_norm;
        p.norm = w->ffn_norm;
        p.q8 = w->experts ? w->router.quant->wants_q8
                          : w->gate.quant->wants_q8 || w->up.quant->wants_q8;
        run_rows(&p, i->n_embd, norm_rows);
        if (w->experts)
            moe_layer(f->moe, w);
        else
            dense(f, &p);
        p.bias = w->down_bias;
        p.post_norm = w->ffn_post_norm;
    }
    p.norm = NULL;
    run_rows(&p, i->n_embd, norm_rows);
}

/* ---- what the last layer's rows are read for
 * ---------------------------------------------------------------------------------------- */

struct final {
    struct fwd *f;
    const struct fwd_read *reads;
    bool q8;
};

static void final_rows(void *arg, size_t begin, size_t end, unsigned thread)
{
    const struct final *p = arg;
    struct fwd *f = p->f;
    size_t n = f->model->info.n_embd;

    (void)thread;
    for (size_t j = begin; j < end; j++) {
        f->k->rmsnorm(f->h + j * n, f->x + p->reads[j].row * n, f->model->output_norm, n,
                      f->model->rms_eps);
        if (p->q8)
            fwd_quantize(f, f->h + j * n, j, n);
    }
}

static void cap_rows(void *arg, size_t begin, size_t end, unsigned thread)
{
    const struct final *p = arg;
    size_t n = p->f->model->info.n_vocab;

    (void)thread;
    for (size_t j = begin; j < end; j++)
        p->f->k->softcap(p->f->logits + j * n, n, p->f->model->final_softcap);
}

size_t fwd_read_out(struct fwd *f, size_t i0)
{
    const struct eng_model *m = f->model;
    struct final p = {.f = f, .reads = f->reads + i0};
    enum fwd_want what;
    size_t n = 0;

    if (i0 == f->n_reads)
        return 0;
    what = p.reads[0].what;
    while (n < FWD_LOGIT_ROWS && i0 + n < f->n_reads && p.reads[n].what == what)
        n++;
    p.q8 = what == FWD_LOGITS && m->output.quant->wants_q8;
    fwd_run(f, n, m->info.n_embd, final_rows, &p);
    f->out = f->h;
    f->n_out = m->info.n_embd;
    if (what == FWD_LOGITS) {
        struct eng_act x = fwd_act(f, f->h, 0, n, m->info.n_embd);

        fwd_mm(f, &(struct fwd_mm){&m->output, &x, f->logits}, 1);
        if (m->final_softcap > 0)
            fwd_run(f, n, m->info.n_vocab, cap_rows, &p);
        f->out = f->logits;
        f->n_out = m->info.n_vocab;
    }
    return n;
}
