/* Hyper-parameters and tensors of a model file, checked against each other in full. A file that
 * asks for arithmetic this build does not do is refused: nothing is ever computed silently wrong.
 */
#include "engine/shape.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "engine/kernels.h"

#define SHOW_BYTES 100 /* of a string in a message */
#define ARCH       "llama"

/* ---- hyper-parameters
 * ---------------------------------------------------------------------------- */

/* s for a message: cut, bytes outside printable ASCII as '?'. */
static const char *show(struct pd_str s, char out[SHOW_BYTES + 1])
{
    size_t n = s.len < SHOW_BYTES ? s.len : SHOW_BYTES;

    for (size_t i = 0; i < n; i++)
        out[i] = s.ptr[i] >= 0x20 && s.ptr[i] < 0x7f ? s.ptr[i] : '?';
    out[n] = '\0';
    return out;
}

int eng_layered_u32(const struct gguf *g, const char *key, uint32_t n_layer, uint32_t *out,
                    struct pd_err *err)
{
    const struct gguf_kv *kv = gguf_find(g, key);
    int32_t v;

    if (!kv || kv->type != GGUF_ARR)
        return gguf_u32(g, key, out, err);
    if (kv->elem == GGUF_STR || kv->elem == GGUF_BOOL || kv->elem == GGUF_F32 ||
        kv->elem == GGUF_F64)
        return pd_fail(err, PD_EFORMAT, "key '%s' is an array of something else than integers",
                       key);
    if (kv->n == 0 || (n_layer && kv->n != n_layer))
        return pd_fail(err, PD_EFORMAT, "key '%s' has %" PRIu64 " items for %u layers", key, kv->n,
                       n_layer);
    v = gguf_arr_i32(kv, 0);
    for (uint64_t i = 0; i < kv->n; i++) {
        int32_t x = gguf_arr_i32(kv, i);

        if (x < 0)
            return pd_fail(err, PD_EFORMAT, "key '%s', item %" PRIu64 ": %d is negative", key, i,
                           x);
        if (x != v)
            return pd_fail(err, PD_EFORMAT,
                           "key '%s' differs between layers; this build runs uniform layers only",
                           key);
    }
    *out = (uint32_t)v;
    return 1;
}

/* Required, and within [1, max]. */
static int need_u32(const struct gguf *g, const char *key, uint32_t n_layer, uint32_t max,
                    uint32_t *out, struct pd_err *err)
{
    int rc = eng_layered_u32(g, key, n_layer, out, err);

    if (rc < 0)
        return rc;
    if (rc == 0)
        return pd_fail(err, PD_EFORMAT, "key '%s' is missing; the file is not a complete model",
                       key);
    if (*out < 1 || *out > max)
        return pd_fail(err, PD_EFORMAT, "key '%s' is %u; 1 to %u is possible", key, *out, max);
    return 0;
}

static int check_arch(const struct gguf *g, struct pd_err *err)
{
    struct pd_str arch;
    uint32_t n_parts = 1;
    int rc = gguf_str(g, "general.architecture", &arch, err);

    if (rc < 0) {
        pd_err_context(err, "'%s'", g->path);
        return rc;
    }
    if (rc == 0)
        return pd_fail(err, PD_EFORMAT, "'%s' has no general.architecture; it is not a model file",
                       g->path);
    if (!pd_str_eq(arch, PD_STR(ARCH))) {
        char shown[SHOW_BYTES + 1];

        return pd_fail(err, PD_EFORMAT, "'%s' has architecture '%s'; this build runs: " ARCH,
                       g->path, show(arch, shown));
    }
    rc = gguf_u32(g, "split.count", &n_parts, err);
    if (rc < 0)
        return rc;
    if (n_parts > 1)
        return pd_fail(err, PD_EFORMAT,
                       "'%s' is one of %u parts of a split model; merge them into one file",
                       g->path, n_parts);
    return 0;
}

/* Optional numbers that are fine at their neutral value only: anything else is arithmetic we do not
 * do. */
static int check_neutral(const struct gguf *g, struct pd_err *err)
{
    static const struct {
        const char *key;
        float neutral;
    } scales[] = {
        {ARCH ".rope.scale_linear", 1},
        {ARCH ".rope.scaling.attn_factor", 1},
        {ARCH ".embedding_scale", 1},
        {ARCH ".residual_scale", 1},
        {ARCH ".logit_scale", 1},
        {ARCH ".attention.clamp_kqv", 0},
        {ARCH ".attention.max_alibi_bias", 0},
    };
    struct pd_str type = PD_STR("linear");
    float factor = 1;
    uint32_t n = 0;
    bool causal = true;
    int rc;

    rc = gguf_u32(g, ARCH ".expert_count", &n, err);
    if (rc < 0)
        return rc;
    if (n > 0)
        return pd_fail(err, PD_EFORMAT,
                       "a mixture of %u experts; this build runs dense models only", n);
    rc = gguf_bool(g, ARCH ".attention.causal", &causal, err);
    if (rc < 0)
        return rc;
    if (!causal)
        return pd_fail(err, PD_EFORMAT,
                       "attention is not causal; this build runs generating models only");
    rc = gguf_str(g, ARCH ".rope.scaling.type", &type, err);
    if (rc < 0)
        return rc;
    rc = gguf_f32(g, ARCH ".rope.scaling.factor", &factor, err);
    if (rc < 0)
        return rc;
    if (!pd_str_eq(type, PD_STR("none"))) {
        if (!pd_str_eq(type, PD_STR("linear")))
            return pd_fail(
                err, PD_EFORMAT,
                "key '" ARCH
                ".rope.scaling.type' asks for a kind of rope scaling that this build does not "
                "compute; it knows: none");
        if (!(factor == 1 || factor == 0)) /* 0: written by some converters for "none" */
            return pd_fail(err, PD_EFORMAT,
                           "key '" ARCH
                           ".rope.scaling.factor' is %g; this build does not compute rope scaling",
                           (double)factor);
    }
    for (size_t i = 0; i < sizeof(scales) / sizeof(*scales); i++) {
        float v = scales[i].neutral;

        rc = gguf_f32(g, scales[i].key, &v, err);
        if (rc < 0)
            return rc;
        if (!(v == scales[i].neutral))
            return pd_fail(err, PD_EFORMAT, "key '%s' is %g; this build computes only with %g",
                           scales[i].key, (double)v, (double)scales[i].neutral);
    }
    return 0;
}

static int read_head_dim(const struct gguf *g, struct eng_shape *s, struct pd_err *err)
{
    uint32_t value_length;
    int rc;

    rc = gguf_u32(g, ARCH ".attention.key_length", &s->head_dim, err);
    if (rc < 0)
        return rc;
    if (rc == 0) {
        if (s->n_embd % s->n_head != 0)
            return pd_fail(err, PD_EFORMAT,
                           "embedding_length %u is not a multiple of attention.head_count %u",
                           s->n_embd, s->n_head);
        s->head_dim = s->n_embd / s->n_head;
    }
    if (s->head_dim < 2 || s->head_dim % 2 != 0 || s->head_dim > ENG_MAX_DIM)
        return pd_fail(err, PD_EFORMAT,
                       "heads have %u dimensions; an even number from 2 to %u is needed",
                       s->head_dim, ENG_MAX_DIM);
    value_length = s->head_dim;
    rc = gguf_u32(g, ARCH ".attention.value_length", &value_length, err);
    if (rc < 0)
        return rc;
    if (value_length != s->head_dim)
        return pd_fail(
            err, PD_EFORMAT,
            "attention.value_length %u differs from the %u of the keys; this build needs "
            "them equal",
            value_length, s->head_dim);
    s->n_rot = s->head_dim;
    rc = gguf_u32(g, ARCH ".rope.dimension_count", &s->n_rot, err);
    if (rc < 0)
        return rc;
    if (s->n_rot < 2 || s->n_rot % 2 != 0 || s->n_rot > s->head_dim)
        return pd_fail(
            err, PD_EFORMAT,
            "rope.dimension_count is %u; an even number from 2 to the head's %u is needed",
            s->n_rot, s->head_dim);
    return 0;
}

static int read_hyper(const struct gguf *g, struct eng_shape *s, struct pd_err *err)
{
    const struct gguf_kv *tokens = gguf_find(g, "tokenizer.ggml.tokens");
    uint32_t n;
    int rc;

    rc = need_u32(g, ARCH ".block_count", 0, ENG_MAX_LAYERS, &s->n_layer, err);
    if (rc < 0)
        return rc;
    rc = need_u32(g, ARCH ".context_length", 0, INT32_MAX, &s->n_ctx, err);
    if (rc < 0)
        return rc;
    rc = need_u32(g, ARCH ".embedding_length", 0, ENG_MAX_DIM, &s->n_embd, err);
    if (rc < 0)
        return rc;
    rc = need_u32(g, ARCH ".feed_forward_length", s->n_layer, ENG_MAX_DIM, &s->n_ff, err);
    if (rc < 0)
        return rc;
    rc = need_u32(g, ARCH ".attention.head_count", s->n_layer, ENG_MAX_DIM, &s->n_head, err);
    if (rc < 0)
        return rc;
    s->n_head_kv = s->n_head;
    rc = eng_layered_u32(g, ARCH ".attention.head_count_kv", s->n_layer, &s->n_head_kv, err);
    if (rc < 0)
        return rc;
    if (s->n_head_kv < 1 || s->n_head_kv > s->n_head || s->n_head % s->n_head_kv != 0)
        return pd_fail(err, PD_EFORMAT,
                       "attention.head_count %u is not a multiple of attention.head_count_kv %u",
                       s->n_head, s->n_head_kv);
    rc = read_head_dim(g, s, err);
    if (rc < 0)
        return rc;

    rc = gguf_f32(g, ARCH ".attention.layer_norm_rms_epsilon", &s->rms_eps, err);
    if (rc < 0)
        return rc;
    if (rc == 0)
        return pd_fail(err, PD_EFORMAT,
                       "key '" ARCH
                       ".attention.layer_norm_rms_epsilon' is missing; the file is not a "
                       "complete model");
    if (!(s->rms_eps > 0) || !isfinite(s->rms_eps))
        return pd_fail(err, PD_EFORMAT,
                       "attention.layer_norm_rms_epsilon is %g; a positive number is needed",
                       (double)s->rms_eps);
    s->freq_base = 10000;
    rc = gguf_f32(g, ARCH ".rope.freq_base", &s->freq_base, err);
    if (rc < 0)
        return rc;
    if (!(s->freq_base > 0) || !isfinite(s->freq_base))
        return pd_fail(err, PD_EFORMAT, "rope.freq_base is %g; a positive number is needed",
                       (double)s->freq_base);

    if (!tokens || tokens->type != GGUF_ARR || tokens->elem != GGUF_STR || tokens->n < 1 ||
        tokens->n > INT32_MAX)
        return pd_fail(err, PD_EFORMAT,
                       "key 'tokenizer.ggml.tokens' is not a list of strings; the model has no "
                       "vocabulary");
    s->n_vocab = (uint32_t)tokens->n;
    n = s->n_vocab;
    rc = gguf_u32(g, ARCH ".vocab_size", &n, err);
    if (rc < 0)
        return rc;
    if (n != s->n_vocab)
        return pd_fail(err, PD_EFORMAT, "vocab_size is %u but tokenizer.ggml.tokens has %u", n,
                       s->n_vocab);
    n = 0;
    rc = gguf_u32(g, ARCH ".attention.sliding_window", &n, err);
    if (rc < 0)
        return rc;
    if (n != 0 && n < s->n_ctx)
        return pd_fail(err, PD_EFORMAT,
                       "attention has a sliding window of %u; this build runs full attention only",
                       n);
    return check_neutral(g, err);
}

/* ---- tensors
 * ------------------------------------------------------------------------------------- */

struct claims {
    const struct gguf *g;
    bool *taken; /* [n_tensors] */
    struct pd_err *err;
};

/* The tensor of that name with the shape [rows, cols] (a vector when rows is 0), marked as
 * expected. Vectors are F32 and finite. NULL: err is filled, or is untouched when the tensor is
 * absent and optional. */
static const struct gguf_tensor *claim(struct claims *c, const char *name, uint64_t rows,
                                       uint64_t cols, bool required, int *io_rc)
{
    const struct gguf_tensor *t;
    uint32_t n_dims = rows ? 2 : 1;

    if (*io_rc < 0)
        return NULL;
    t = gguf_tensor(c->g, name);
    if (!t) {
        if (required)
            *io_rc = pd_fail(c->err, PD_EFORMAT,
                             "tensor '%s' is missing; the file is not a complete model", name);
        return NULL;
    }
    if (t->dims[0] != cols || t->dims[1] != (rows ? rows : 1) || t->dims[2] != 1 ||
        t->dims[3] != 1 || t->n_dims < n_dims) {
        if (rows)
            *io_rc = pd_fail(c->err, PD_EFORMAT,
                             "tensor '%s' has the shape [%" PRIu64 ", %" PRIu64 ", %" PRIu64
                             ", %" PRIu64 "]; the keys ask for [%" PRIu64 ", %" PRIu64 "]",
                             name, t->dims[0], t->dims[1], t->dims[2], t->dims[3], cols, rows);
        else
            *io_rc = pd_fail(c->err, PD_EFORMAT,
                             "tensor '%s' has the shape [%" PRIu64 ", %" PRIu64 ", %" PRIu64
                             ", %" PRIu64 "]; the keys ask for [%" PRIu64 "]",
                             name, t->dims[0], t->dims[1], t->dims[2], t->dims[3], cols);
        return NULL;
    }
    if (!rows) {
        if (t->type != GGML_F32) {
            const struct eng_quant *q = eng_quant_find(t->type);

            *io_rc = pd_fail(c->err, PD_EFORMAT, "tensor '%s' has type %s where F32 is needed",
                             name, q ? q->name : "unknown");
            return NULL;
        }
        for (uint64_t i = 0; i < cols; i++) {
            float v;

            memcpy(&v, t->data + i * sizeof(v), sizeof(v));
            if (!isfinite(v)) {
                *io_rc = pd_fail(c->err, PD_EFORMAT,
                                 "tensor '%s', element %" PRIu64
                                 ": not a finite number; the file is damaged",
                                 name, i);
                return NULL;
            }
        }
    }
    c->taken[t - c->g->tensors] = true;
    return t;
}

static int refuse_rest(const struct claims *c)
{
    for (size_t i = 0; i < c->g->n_tensors; i++) {
        const struct pd_str name = c->g->tensors[i].name;
        char shown[SHOW_BYTES + 1];

        if (c->taken[i])
            continue;
        if (pd_str_ends(name, PD_STR(".bias")))
            return pd_fail(c->err, PD_EFORMAT,
                           "tensor '%s' is a bias; this build runs models without biases only",
                           show(name, shown));
        return pd_fail(c->err, PD_EFORMAT,
                       "tensor '%s' is not part of a " ARCH
                       " model of these dimensions; this build does not know its use",
                       show(name, shown));
    }
    return 0;
}

static int find_tensors(const struct gguf *g, struct eng_shape *s, struct pd_err *err)
{
    const uint64_t n_q = (uint64_t)s->n_head * s->head_dim,
                   n_kv = (uint64_t)s->n_head_kv * s->head_dim;
    struct claims c = {g, calloc(g->n_tensors + 1, sizeof(bool)), err};
    int rc = 0;

    s->layers = calloc(s->n_layer, sizeof(*s->layers));
    if (!c.taken || !s->layers) {
        rc = pd_fail(err, PD_ENOMEM, "out of memory for %u layers", s->n_layer);
        goto out;
    }
    s->embd = claim(&c, "token_embd.weight", s->n_vocab, s->n_embd, true, &rc);
    s->output_norm = claim(&c, "output_norm.weight", 0, s->n_embd, true, &rc);
    s->output = claim(&c, "output.weight", s->n_vocab, s->n_embd, false, &rc);
    s->rope_freqs = claim(&c, "rope_freqs.weight", 0, s->n_rot / 2, false, &rc);
    if (rc == 0 && s->rope_freqs) {
        for (uint32_t i = 0; i < s->n_rot / 2; i++) {
            float v;

            memcpy(&v, s->rope_freqs->data + i * sizeof(v), sizeof(v));
            if (!(v > 0)) {
                rc = pd_fail(err, PD_EFORMAT,
                             "tensor 'rope_freqs.weight', element %u: %g is not positive", i,
                             (double)v);
                goto out;
            }
        }
    }
    for (uint32_t l = 0; l < s->n_layer && rc == 0; l++) {
        struct eng_layer_tensors *t = &s->layers[l];
        const struct {
            const struct gguf_tensor **slot;
            const char *name;
            uint64_t rows, cols;
        } parts[] = {
            {&t->attn_norm, "attn_norm", 0, s->n_embd}, {&t->q, "attn_q", n_q, s->n_embd},
            {&t->k, "attn_k", n_kv, s->n_embd},         {&t->v, "attn_v", n_kv, s->n_embd},
            {&t->o, "attn_output", s->n_embd, n_q},     {&t->ffn_norm, "ffn_norm", 0, s->n_embd},
            {&t->gate, "ffn_gate", s->n_ff, s->n_embd}, {&t->up, "ffn_up", s->n_ff, s->n_embd},
            {&t->down, "ffn_down", s->n_embd, s->n_ff},
        };

        for (size_t i = 0; i < sizeof(parts) / sizeof(*parts); i++) {
            char name[64];

            snprintf(name, sizeof(name), "blk.%u.%s.weight", l, parts[i].name);
            *parts[i].slot = claim(&c, name, parts[i].rows, parts[i].cols, true, &rc);
        }
    }
    if (rc == 0)
        rc = refuse_rest(&c);
out:
    free(c.taken);
    return rc;
}

int eng_shape_init(const struct gguf *g, struct eng_shape *out, struct pd_err *err)
{
    struct eng_shape s = {0};
    int rc;

    rc = check_arch(g, err);
    if (rc < 0)
        return rc; /* names the file itself */
    rc = read_hyper(g, &s, err);
    if (rc == 0)
        rc = find_tensors(g, &s, err);
    if (rc < 0) {
        pd_err_context(err, "'%s'", g->path);
        eng_shape_done(&s);
        return rc;
    }
    *out = s;
    return 0;
}

void eng_shape_done(struct eng_shape *s)
{
    free(s->layers);
    s->layers = NULL;
}
