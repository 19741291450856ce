/* A model's life: the file is checked (shape.c), then its matrices are repacked for the kernels.
 * Loading is the caller's thread; afterwards the model is immutable. */
#include "engine/model.h"

#include <stdlib.h>

#include "base/hash.h"
#include "engine/shape.h"

static void model_free(struct eng_model *m)
{
    if (!m)
        return;
    for (uint32_t l = 0; m->layers && l < m->info.n_layer; l++) {
        struct eng_layer *y = &m->layers[l];

        free(y->attn_norm);
        free(y->ffn_norm);
        eng_mat_done(&y->q);
        eng_mat_done(&y->k);
        eng_mat_done(&y->v);
        eng_mat_done(&y->o);
        eng_mat_done(&y->gate);
        eng_mat_done(&y->up);
        eng_mat_done(&y->down);
    }
    free(m->layers);
    eng_mat_done(&m->output);
    free(m->output_norm);
    free(m->rope_freq);
    eng_tokenizer_free(m->tok);
    eng_model_info_done(&m->info);
    gguf_close(m->gguf);
    free(m);
}

static int load_vector(const struct gguf_tensor *t, float **out, struct pd_err *err)
{
    float *v = aligned_alloc(64, ((size_t)t->bytes + 63) / 64 * 64);

    if (!v)
        return pd_fail(err, PD_ENOMEM, "out of memory for the weights");
    memcpy(v, t->data, (size_t)t->bytes);
    *out = v;
    return 0;
}

static int load_matrix(const struct gguf_tensor *t, struct eng_mat *out, struct pd_err *err)
{
    return eng_mat_init(out, eng_quant_find(t->type), t->data, (size_t)t->dims[1],
                        (size_t)t->dims[0], err);
}

static int load_layer(const struct eng_layer_tensors *t, struct eng_layer *y, struct pd_err *err)
{
    const struct {
        const struct gguf_tensor *t;
        struct eng_mat *m;
    } mats[] = {
        {t->q, &y->q},       {t->k, &y->k},   {t->v, &y->v},       {t->o, &y->o},
        {t->gate, &y->gate}, {t->up, &y->up}, {t->down, &y->down},
    };
    int rc;

    rc = load_vector(t->attn_norm, &y->attn_norm, err);
    if (rc < 0)
        return rc;
    rc = load_vector(t->ffn_norm, &y->ffn_norm, err);
    for (size_t i = 0; i < sizeof(mats) / sizeof(*mats) && rc == 0; i++)
        rc = load_matrix(mats[i].t, mats[i].m, err);
    return rc;
}

static int load_weights(struct eng_model *m, const struct eng_shape *s, struct pd_err *err)
{
    int rc;

    m->layers = calloc(s->n_layer, sizeof(*m->layers));
    m->rope_freq = calloc(s->n_rot / 2, sizeof(*m->rope_freq));
    if (!m->layers || !m->rope_freq)
        return pd_fail(err, PD_ENOMEM, "out of memory for %u layers", s->n_layer);
    m->embd = s->embd->data;
    m->embd_quant = eng_quant_find(s->embd->type);
    m->embd_row_bytes = s->n_embd / m->embd_quant->block_elems * (size_t)m->embd_quant->block_bytes;
    m->n_rot = s->n_rot;
    m->rms_eps = s->rms_eps;
    eng_rope_freqs(s->freq_base, s->n_rot, m->rope_freq);
    for (uint32_t i = 0; s->rope_freqs && i < s->n_rot / 2; i++) {
        float divisor;

        memcpy(&divisor, s->rope_freqs->data + i * sizeof(divisor), sizeof(divisor));
        m->rope_freq[i] /= divisor;
    }
    rc = load_vector(s->output_norm, &m->output_norm, err);
    if (rc < 0)
        return rc;
    for (uint32_t l = 0; l < s->n_layer; l++) {
        rc = load_layer(&s->layers[l], &m->layers[l], err);
        if (rc < 0) {
            pd_err_context(err, "layer %u", l);
            return rc;
        }
    }
    return load_matrix(s->output ? s->output : s->embd, &m->output, err);
}

int eng_model_load(const char *path, struct eng_model **out, struct pd_err *err)
{
    struct eng_model *m = calloc(1, sizeof(*m));
    struct eng_shape s = {0};
    int rc;

    if (!m)
        return pd_fail(err, PD_ENOMEM, "out of memory for '%s'", path);
    atomic_init(&m->refs, 1);
    rc = gguf_open(path, &m->gguf, err);
    if (rc < 0)
        goto out;
    rc = eng_shape_init(m->gguf, &s, err);
    if (rc < 0)
        goto out;
    rc = eng_describe(m->gguf, &m->info, err);
    if (rc < 0)
        goto context;
    m->info.n_vocab = s.n_vocab;
    m->info.n_ctx = s.n_ctx;
    m->info.n_embd = s.n_embd;
    m->info.n_layer = s.n_layer;
    m->info.n_head = s.n_head;
    m->info.n_head_kv = s.n_head_kv;
    m->info.head_dim = s.head_dim;
    m->info.n_ff = s.n_ff;
    rc = eng_tokenizer_new(m->gguf, &m->tok, err);
    if (rc < 0)
        goto context;
    if (eng_n_vocab(m->tok) != s.n_vocab) {
        rc = pd_fail(err, PD_EFORMAT, "the tokenizer has %u tokens, the embedding %u",
                     eng_n_vocab(m->tok), s.n_vocab);
        goto context;
    }
    /* The bytes that are used, whatever happens to the path meanwhile. */
    pd_sha256_bytes(m->gguf->map, m->gguf->map_bytes, m->info.sha256);
    rc = load_weights(m, &s, err);
    if (rc < 0)
        goto context;
    *out = m;
    m = NULL;
context:
    if (rc < 0)
        pd_err_context(err, "'%s'", path);
out:
    eng_shape_done(&s);
    model_free(m);
    return rc;
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

const struct eng_model_info *eng_model_info(const struct eng_model *m)
{
    return &m->info;
}

const struct eng_tokenizer *eng_model_tokenizer(const struct eng_model *m)
{
    return m->tok;
}
