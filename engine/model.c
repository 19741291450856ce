/* A model's life: the file is checked (shape.c), then its matrices are repacked for the kernels.
 * Loading is the caller's thread and, for the file's digest, a second one; afterwards the model is
 * immutable. */
#include "engine/model.h"

#include <math.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>

#include "base/hash.h"
#include "engine/kv.h"
#include "engine/shape.h"

#define MAX_FREQ     0x1p30f /* a base above 1 gives 1 at most; an angle must stay in 64 bits */
#define DIGEST_CHUNK ((size_t)1 << 20) /* of the file that the digest holds at a time */

static void layer_done(struct eng_layer *y, uint32_t n_expert)
{
    float *const vectors[] = {y->attn_norm, y->ffn_norm, y->attn_post_norm, y->ffn_post_norm,
                              y->q_norm,    y->k_norm,   y->q_bias,         y->k_bias,
                              y->v_bias,    y->o_bias,   y->gate_bias,      y->up_bias,
                              y->down_bias};
    struct eng_mat *const mats[] = {&y->q,  &y->k,    &y->v,    &y->o,
                                    &y->up, &y->gate, &y->down, &y->router};

    for (size_t i = 0; i < sizeof(vectors) / sizeof(*vectors); i++)
        free(vectors[i]);
    for (size_t i = 0; i < sizeof(mats) / sizeof(*mats); i++)
        eng_mat_done(mats[i]);
    for (uint32_t e = 0; y->experts && e < n_expert; e++) {
        eng_mat_done(&y->experts[e].gate);
        eng_mat_done(&y->experts[e].up);
        eng_mat_done(&y->experts[e].down);
    }
    free(y->experts);
}

static void weights_done(struct eng_model *m)
{
    for (uint32_t l = 0; m->layers && l < m->info.n_layer; l++)
        layer_done(&m->layers[l], m->n_expert);
    free(m->layers);
    m->layers = NULL;
    eng_mat_done(&m->output);
    free(m->output_norm);
    m->output_norm = NULL;
    eng_mat_done(&m->head.dense);
    eng_mat_done(&m->head.out);
    free(m->head.dense_bias);
    free(m->head.out_bias);
    m->head = (struct eng_head){0};
    for (int i = 0; i < 2; i++) {
        free(m->rope[i].freq);
        m->rope[i].freq = NULL;
    }
}

static void shape_done(struct eng_model *m)
{
    if (m->shape)
        eng_shape_done(m->shape);
    free(m->shape);
    m->shape = NULL;
}

static void model_free(struct eng_model *m)
{
    if (!m)
        return;
    if (m->reserved_in)
        kv_pool_release(m->reserved_in, m->reserved_bytes);
    weights_done(m);
    shape_done(m);
    eng_tokenizer_free(m->tok);
    eng_model_info_done(&m->info);
    gguf_close(m->gguf);
    free(m);
}

/* The weights are walked twice: measured, then loaded. */
struct loader {
    const struct gguf *g;
    struct eng_pool *pool;
    bool measure;     /* take no memory for weights, only count it */
    uint64_t n_bytes; /* taken so far, or counted */
    uint8_t *stage;   /* a matrix as it is in the file; grows to the largest */
    size_t stage_bytes;
    struct pd_err *err;
};

static int read_stage(struct loader *l, const uint8_t *place, size_t n)
{
    if (n > l->stage_bytes) {
        free(l->stage);
        l->stage = malloc(n);
        l->stage_bytes = l->stage ? n : 0;
        if (!l->stage)
            return pd_fail(l->err, PD_ENOMEM, "out of memory for a matrix of %zu bytes", n);
    }
    return gguf_copy(l->g, place, n, l->stage, l->err);
}

static int load_vector(struct loader *l, const struct gguf_tensor *t, float **out)
{
    size_t bytes = ((size_t)t->bytes + 63) / 64 * 64;
    float *v;

    l->n_bytes += bytes;
    if (l->measure)
        return 0;
    v = aligned_alloc(64, bytes);
    if (!v)
        return pd_fail(l->err, PD_ENOMEM, "out of memory for the weights");
    *out = v;
    return gguf_copy(l->g, t->data, (size_t)t->bytes, v, l->err);
}

/* rows × cols of src (not read when it is measured). */
static int load_mat(struct loader *l, const struct eng_quant *q, const void *src, size_t rows,
                    size_t cols, struct eng_mat *out)
{
    int rc = l->measure ? eng_mat_shape(out, q, rows, cols, l->err)
                        : eng_mat_init(out, q, src, rows, cols, l->pool, l->err);

    l->n_bytes += (uint64_t)out->n_tiles * out->tile_bytes;
    return rc;
}

/* The rows of s, or of the e-th of its experts. */
static int load_matrix(struct loader *l, const struct eng_slice *s, uint64_t e, struct eng_mat *out)
{
    const struct gguf_tensor *t = s->t;
    uint64_t row_bytes = t->bytes / (t->dims[1] * t->dims[2] * t->dims[3]);
    const uint8_t *src = t->data + (s->row0 + e * s->rows) * row_bytes;
    size_t bytes = (size_t)(s->rows * row_bytes);
    int rc = l->measure ? 0 : read_stage(l, src, bytes);

    if (rc == 0)
        rc = load_mat(l, eng_quant_find(t->type), l->stage, (size_t)s->rows, (size_t)t->dims[0],
                      out);
    return rc;
}

static int load_experts(struct loader *l, const struct eng_layer_tensors *t, uint32_t n,
                        struct eng_layer *y)
{
    int rc = load_matrix(l, &t->router, 0, &y->router);

    if (rc < 0)
        return rc;
    l->n_bytes += n * sizeof(*y->experts);
    y->experts = calloc(n, sizeof(*y->experts));
    if (!y->experts)
        return pd_fail(l->err, PD_ENOMEM, "out of memory for %u experts", n);
    for (uint32_t e = 0; e < n && rc == 0; e++) {
        rc = load_matrix(l, &t->gate, e, &y->experts[e].gate);
        if (rc == 0)
            rc = load_matrix(l, &t->up, e, &y->experts[e].up);
        if (rc == 0)
            rc = load_matrix(l, &t->down, e, &y->experts[e].down);
    }
    return rc;
}

static int load_layer(struct loader *l, const struct eng_layer_tensors *t, uint32_t n_expert,
                      struct eng_layer *y)
{
    const struct {
        const struct gguf_tensor *t;
        float **v;
    } vectors[] = {
        {t->attn_norm, &y->attn_norm},
        {t->ffn_norm, &y->ffn_norm},
        {t->attn_post_norm, &y->attn_post_norm},
        {t->ffn_post_norm, &y->ffn_post_norm},
        {t->q_norm, &y->q_norm},
        {t->k_norm, &y->k_norm},
        {t->q_bias, &y->q_bias},
        {t->k_bias, &y->k_bias},
        {t->v_bias, &y->v_bias},
        {t->o_bias, &y->o_bias},
        {t->gate_bias, &y->gate_bias},
        {t->up_bias, &y->up_bias},
        {t->down_bias, &y->down_bias},
    };
    const struct {
        const struct eng_slice *s;
        struct eng_mat *m;
    } mats[] = {
        {&t->q, &y->q},       {&t->k, &y->k},   {&t->v, &y->v},       {&t->o, &y->o},
        {&t->gate, &y->gate}, {&t->up, &y->up}, {&t->down, &y->down},
    };
    size_t n_mats = t->router.t ? 4 : 7;
    int rc = 0;

    for (size_t i = 0; i < sizeof(vectors) / sizeof(*vectors) && rc == 0; i++) {
        if (vectors[i].t)
            rc = load_vector(l, vectors[i].t, vectors[i].v);
    }
    for (size_t i = 0; i < n_mats && rc == 0; i++)
        rc = load_matrix(l, mats[i].s, 0, mats[i].m);
    if (rc == 0 && t->router.t)
        rc = load_experts(l, t, n_expert, y);
    return rc;
}

static int load_f32(struct loader *l, const struct gguf_tensor *t, struct eng_mat *out)
{
    const struct eng_quant *f32 = eng_quant_find(GGML_F32);
    size_t rows = (size_t)t->dims[1], cols = (size_t)t->dims[0];
    float *f;
    int rc;

    if (l->measure)
        return load_mat(l, f32, NULL, rows, cols, out);
    f = malloc(rows * cols * sizeof(*f));
    if (!f)
        return pd_fail(l->err, PD_ENOMEM, "out of memory for the weights");
    rc = read_stage(l, t->data, (size_t)t->bytes);
    if (rc == 0) {
        eng_quant_find(t->type)->dequant(l->stage, f, rows * cols);
        rc = load_mat(l, f32, f, rows, cols, out);
    }
    free(f);
    return rc;
}

static int load_head(struct loader *l, struct eng_model *m, const struct eng_shape *s)
{
    struct eng_head *h = &m->head;
    int rc = 0;

    if (s->cls)
        rc = load_f32(l, s->cls, &h->dense);
    if (rc == 0 && s->cls_bias)
        rc = load_vector(l, s->cls_bias, &h->dense_bias);
    if (rc == 0 && s->cls_out)
        rc = load_f32(l, s->cls_out, &h->out);
    if (rc == 0 && s->cls_out_bias)
        rc = load_vector(l, s->cls_out_bias, &h->out_bias);
    return rc;
}

static void head_mat(const struct eng_mat *w, const float *bias, const struct eng_kernels *k,
                     const float *x, float *y)
{
    const struct eng_act act = {.n_rows = 1, .cols = w->cols, .f = x};

    w->quant->mm[k->isa](w, 0, w->n_tiles, &act, y, w->rows);
    if (bias)
        k->add(y, bias, w->rows);
}

void eng_head_run(const struct eng_model *m, const struct eng_kernels *k, const float *hidden,
                  float *mid, float *out)
{
    const struct eng_head *h = &m->head;

    if (h->dense.rows) {
        head_mat(&h->dense, h->dense_bias, k, hidden, mid);
        k->softcap(mid, h->dense.rows, 1);
        hidden = mid;
    }
    if (h->out.rows)
        head_mat(&h->out, h->out_bias, k, hidden, out);
    else
        memcpy(out, mid, h->dense.rows * sizeof(*out));
}

int eng_classify(const struct eng_model *m, const float *hidden, float *out, struct pd_err *err)
{
    float *mid = malloc((m->head.dense.rows + 1) * sizeof(*mid));

    if (m->info.n_cls == 0) {
        free(mid);
        return pd_fail(err, PD_EINVAL, "'%s' has no classification head", m->info.path);
    }
    if (!mid)
        return pd_fail(err, PD_ENOMEM, "out of memory");
    eng_head_run(m, eng_kernels(ENG_ISA_SCALAR), hidden, mid, out);
    free(mid);
    return 0;
}

/* The rotation of all layers, and of those with a window where it is another. */
static int load_ropes(struct eng_model *m, const struct eng_shape *s, struct pd_err *err)
{
    const float base[] = {s->freq_base, s->local_freq_base};

    m->n_rot = s->n_rot;
    m->n_ropes = s->local_freq_base > 0 ? 2 : 1;
    for (uint32_t j = 0; j < m->n_ropes; j++) {
        m->rope[j] = (struct eng_rope){calloc(s->n_rot / 2, sizeof(float)), 1};
        if (!m->rope[j].freq)
            return pd_fail(err, PD_ENOMEM, "out of memory for %u frequencies", s->n_rot);
        eng_rope_freqs(base[j], s->n_rot, m->rope[j].freq);
    }
    for (uint32_t i = 0; s->rope_freqs && i < s->n_rot / 2; i++) {
        float divisor;

        memcpy(&divisor, s->rope_freqs->data + i * sizeof(divisor), sizeof(divisor));
        m->rope[0].freq[i] /= divisor;
    }
    m->rope[0].scale = eng_rope_scale(&s->rope, s->freq_base, s->n_rot, m->rope[0].freq);
    for (uint32_t j = 0; j < m->n_ropes; j++) {
        for (uint32_t i = 0; i < s->n_rot / 2; i++) {
            float freq = m->rope[j].freq[i];

            if (!(fabsf(freq) <= MAX_FREQ))
                return pd_fail(err, PD_EFORMAT,
                               "the keys rope.* make %g of frequency %u of the rotation, where at "
                               "most %g is possible",
                               (double)freq, i, (double)MAX_FREQ);
        }
    }
    if (!isfinite(m->rope[0].scale))
        return pd_fail(err, PD_EFORMAT, "the keys rope.* make %g of the rotation's scale",
                       (double)m->rope[0].scale);
    return 0;
}

static int load_weights(struct loader *l, struct eng_model *m)
{
    const struct eng_shape *s = m->shape;
    const struct gguf_tensor *output = s->output ? s->output : s->embd;
    int rc;

    l->n_bytes += s->n_layer * sizeof(*m->layers);
    m->layers = calloc(s->n_layer, sizeof(*m->layers));
    if (!m->layers)
        return pd_fail(l->err, PD_ENOMEM, "out of memory for %u layers", s->n_layer);
    m->embd = s->embd->data;
    m->embd_quant = eng_quant_find(s->embd->type);
    m->embd_row_bytes = s->n_embd / m->embd_quant->block_elems * (size_t)m->embd_quant->block_bytes;
    m->embd_scale = s->arch->scale_embd ? sqrtf((float)s->n_embd) : 1;
    m->rms_eps = s->rms_eps;
    m->attn_scale = s->attn_scale;
    m->attn_softcap = s->attn_softcap;
    m->final_softcap = s->final_softcap;
    m->n_expert = s->n_expert;
    m->n_expert_used = s->n_expert_used;
    m->neox = s->arch->neox;
    m->gelu = s->arch->gelu;
    rc = load_ropes(m, s, l->err);
    if (rc == 0)
        rc = load_vector(l, s->output_norm, &m->output_norm);
    if (rc == 0)
        rc = load_head(l, m, s);
    for (uint32_t i = 0; i < s->n_layer && rc == 0; i++) {
        bool local = eng_shape_local(s, i);

        m->layers[i].window = local ? s->window : 0;
        m->layers[i].rope = &m->rope[local && m->n_ropes > 1];
        rc = load_layer(l, &s->layers[i], s->n_expert, &m->layers[i]);
        if (rc < 0)
            pd_err_context(l->err, "layer %u", i);
    }
    if (rc == 0)
        rc = load_matrix(l, &(struct eng_slice){output, 0, s->n_vocab}, 0, &m->output);
    return rc;
}

struct digest {
    struct eng_model *m;
    int rc;
    struct pd_err err;
};

/* Of the file that is used, whatever happens to the path meanwhile. */
static void *digest_main(void *arg)
{
    struct digest *d = arg;
    struct pd_sha256 *h = pd_sha256_new();
    uint8_t *chunk = malloc(DIGEST_CHUNK);

    if (!h || !chunk)
        d->rc = pd_fail(&d->err, PD_ENOMEM, "out of memory for the file's digest");
    for (const struct gguf *g = d->m->gguf; d->rc == 0 && g; g = g->next)
        for (size_t at = 0, n; d->rc == 0 && at < g->map_bytes; at += n) {
            n = g->map_bytes - at < DIGEST_CHUNK ? g->map_bytes - at : DIGEST_CHUNK;
            d->rc = gguf_copy(g, g->map + at, n, chunk, &d->err);
            if (d->rc == 0)
                pd_sha256_add(h, chunk, n);
        }
    if (d->rc == 0)
        pd_sha256_end(h, d->m->info.sha256);
    pd_sha256_free(h);
    free(chunk);
    return NULL;
}

/* The digest depends on nothing else, so it runs beside the repacking. */
static int load_data(struct eng_model *m, unsigned n_threads, struct pd_err *err)
{
    struct loader l = {.g = m->gguf, .err = err};
    struct digest digest = {.m = m};
    sigset_t all, old;
    pthread_t thread;
    int rc = eng_pool_new(n_threads, &l.pool, err), failed;

    if (rc < 0)
        return rc;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &old); /* signals are not for this thread */
    failed = pthread_create(&thread, NULL, digest_main, &digest);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    rc = load_weights(&l, m);
    if (failed == 0)
        pthread_join(thread, NULL);
    else
        digest_main(&digest);
    eng_pool_free(l.pool);
    free(l.stage);
    if (rc == 0 && digest.rc < 0) {
        rc = digest.rc;
        if (err)
            *err = digest.err;
    }
    return rc;
}

/* What the file says, checked, and the tokenizer. */
static int open_checked(struct eng_model *m, const char *path, struct pd_err *err)
{
    struct eng_shape *s = calloc(1, sizeof(*s));
    int rc;

    if (!s)
        return pd_fail(err, PD_ENOMEM, "out of memory for '%s'", path);
    m->shape = s;
    rc = gguf_open(path, &m->gguf, err);
    if (rc == 0)
        rc = eng_shape_init(m->gguf, s, err);
    if (rc < 0)
        return rc; /* both name the file */
    rc = eng_describe(m->gguf, &m->info, err);
    eng_describe_shape(s, &m->info);
    if (rc == 0)
        rc = eng_tokenizer_new(m->gguf, &m->tok, err);
    if (rc == 0 && eng_n_vocab(m->tok) != s->n_vocab)
        rc = pd_fail(err, PD_EFORMAT, "the tokenizer has %u tokens, the embedding %u",
                     eng_n_vocab(m->tok), s->n_vocab);
    if (rc < 0)
        pd_err_context(err, "'%s'", path);
    return rc;
}

int eng_model_begin(const char *path, struct eng_model **out, struct eng_memory *out_memory,
                    struct pd_err *err)
{
    struct eng_model *m = calloc(1, sizeof(*m));
    struct loader l = {.measure = true, .err = err};
    int rc;

    if (!m)
        return pd_fail(err, PD_ENOMEM, "out of memory for '%s'", path);
    atomic_init(&m->refs, 1);
    rc = open_checked(m, path, err);
    if (rc == 0) {
        rc = load_weights(&l, m);
        if (rc < 0)
            pd_err_context(err, "'%s'", path);
    }
    if (rc < 0) {
        model_free(m);
        return rc;
    }
    *out_memory =
        (struct eng_memory){.weights_bytes = l.n_bytes,
                            .vocab_bytes = eng_tokenizer_bytes(m->tok) + gguf_bytes(m->gguf)};
    *out = m;
    return 0;
}

int eng_model_finish(struct eng_model *m, unsigned n_threads, struct pd_err *err)
{
    int rc;

    weights_done(m); /* measured only */
    rc = load_data(m, n_threads, err);
    if (rc == 0)
        rc = gguf_unchanged(m->gguf, err);
    if (rc < 0)
        pd_err_context(err, "'%s'", m->info.path);
    shape_done(m);
    return rc;
}

int eng_model_check(const char *path, struct pd_err *err)
{
    struct eng_memory memory;
    struct eng_model *m;
    int rc = eng_model_begin(path, &m, &memory, err);

    if (rc < 0)
        return rc;
    model_free(m);
    return 0;
}

int eng_model_load(const char *path, struct eng_model **out, struct pd_err *err)
{
    struct eng_memory memory;
    struct eng_model *m;
    int rc = eng_model_begin(path, &m, &memory, err);

    if (rc < 0)
        return rc;
    rc = eng_model_finish(m, 1, err);
    if (rc < 0) {
        model_free(m);
        return rc;
    }
    *out = m;
    return 0;
}

struct eng_model *eng_model_ref(struct eng_model *m)
{
    atomic_fetch_add_explicit(&m->refs, 1, memory_order_relaxed);
    return m;
}

void eng_model_unref(struct eng_model *m)
{
    if (m && atomic_fetch_sub_explicit(&m->refs, 1, memory_order_acq_rel) == 1)
        model_free(m);
}

bool eng_model_is_shared(const struct eng_model *m)
{
    return atomic_load_explicit(&m->refs, memory_order_acquire) > 1;
}

const struct eng_model_info *eng_model_info(const struct eng_model *m)
{
    return &m->info;
}

const struct eng_tokenizer *eng_model_tokenizer(const struct eng_model *m)
{
    return m->tok;
}
