/* Models of the llama architecture: hyper-parameters and tensors are checked against each other in
 * full (eng_shape_init), then the matrices are repacked for the kernels. A file that asks for
 * arithmetic this build does not do is refused: nothing is ever computed silently wrong. Loading is
 * the caller's thread; afterwards the model is immutable. */
#include "engine/model.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/hash.h"
#include "engine/model_int.h"

#define KEY_BYTES      160
#define SHOW_BYTES     100 /* of a string in a message or in eng_model_peek's listing */
#define ARCH_MAX_BYTES 64
#define ARCH           "llama"

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

/* A number that some files give once and others once per layer; the layers must agree. */
static int layered_u32(const struct gguf *g, const char *key, uint32_t n_layer, uint32_t *out,
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
    int rc = layered_u32(g, key, n_layer, out, err);

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
    rc = layered_u32(g, ARCH ".attention.head_count_kv", s->n_layer, &s->n_head_kv, err);
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

/* ---- description
 * --------------------------------------------------------------------------------- */

/* The type that most matrices have; of equally many, the one with more elements. "none" without
 * matrices. */
static const char *common_type(const struct gguf *g)
{
    const struct eng_quant *best = NULL;
    uint64_t best_n = 0, best_elems = 0;

    for (const struct eng_quant *const *q = eng_quants; *q; q++) {
        uint64_t n = 0, elems = 0;

        for (size_t i = 0; i < g->n_tensors; i++) {
            const struct gguf_tensor *t = &g->tensors[i];

            if (t->n_dims < 2 || t->type != (*q)->ggml_type)
                continue;
            n++;
            elems += t->bytes / (*q)->block_bytes * (*q)->block_elems;
        }
        if (n > best_n || (n == best_n && elems > best_elems)) {
            best = *q;
            best_n = n;
            best_elems = elems;
        }
    }
    return best ? best->name : "none";
}

/* path, name, arch and file_type are malloc'ed; -Wcast-qual is right but free has no const. */
static void free_const(const char *p)
{
    free((void *)(uintptr_t)p);
}

void eng_model_info_done(struct eng_model_info *info)
{
    if (!info)
        return;
    free_const(info->path);
    free_const(info->name);
    free_const(info->arch);
    free_const(info->file_type);
    *info = (struct eng_model_info){0};
}

/* What any GGUF can tell about itself; the dimensions are the caller's. */
static int describe(const struct gguf *g, struct eng_model_info *info, struct pd_err *err)
{
    struct pd_str arch = PD_STR("unknown"), name = {0};
    const char *slash = strrchr(g->path, '/');

    if (gguf_str(g, "general.architecture", &arch, err) < 0)
        return PD_EFORMAT;
    if (gguf_str(g, "general.name", &name, err) < 0)
        return PD_EFORMAT;
    if (name.len == 0)
        name = pd_str_of(slash ? slash + 1 : g->path);
    info->path = pd_str_dup(pd_str_of(g->path));
    info->name = pd_str_dup(name);
    info->arch = pd_str_dup(arch);
    info->file_type = pd_str_dup(pd_str_of(common_type(g)));
    if (!info->path || !info->name || !info->arch || !info->file_type)
        return pd_fail(err, PD_ENOMEM, "out of memory");
    info->file_bytes = g->map_bytes;
    for (size_t i = 0; i < g->n_tensors; i++) {
        const struct gguf_tensor *t = &g->tensors[i];

        info->n_params += t->dims[0] * t->dims[1] * t->dims[2] * t->dims[3]; /* checked at open */
    }
    return 0;
}

static void print_str(struct pd_buf *out, struct pd_str s)
{
    size_t n = s.len < SHOW_BYTES ? s.len : pd_utf8_complete((struct pd_str){s.ptr, SHOW_BYTES});
    bool utf8 = pd_utf8_valid((struct pd_str){s.ptr, n});

    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)s.ptr[i];

        if (c == '\n')
            pd_buf_addz(out, "\\n");
        else if (c == '\t')
            pd_buf_addz(out, "\\t");
        else if (c == '\\')
            pd_buf_addz(out, "\\\\");
        else if (c < 0x20 || c == 0x7f || (c >= 0x80 && !utf8) ||
                 (c == 0xc2 &&
                  (unsigned char)s.ptr[i + 1] < 0xa0)) /* C1 controls, whose first byte this is */
            pd_buf_printf(out, "\\x%02x", c);
        else if (c >= 0x80 && c < 0xa0 && i > 0 && (unsigned char)s.ptr[i - 1] == 0xc2)
            pd_buf_printf(out, "\\x%02x", c);
        else
            pd_buf_addc(out, (char)c);
    }
    if (n < s.len)
        pd_buf_addz(out, "...");
}

static void print_kv(struct pd_buf *out, const struct gguf_kv *kv)
{
    struct gguf_kv one = *kv; /* a scalar is an array of one */

    print_str(out, kv->key);
    pd_buf_addz(out, " = ");
    one.type = GGUF_ARR;
    one.elem = kv->type;
    one.n = 1;
    switch (kv->type) {
    case GGUF_STR:
        print_str(out, kv->str);
        break;
    case GGUF_ARR:
        pd_buf_printf(out, "[%" PRIu64 " items]", kv->n);
        break;
    case GGUF_BOOL:
        pd_buf_addz(out, kv->data[0] ? "true" : "false");
        break;
    case GGUF_F32:
        pd_buf_printf(out, "%.9g", (double)gguf_arr_f32(&one, 0));
        break;
    case GGUF_F64: {
        double d;

        memcpy(&d, kv->data, sizeof(d));
        pd_buf_printf(out, "%.17g", d);
        break;
    }
    case GGUF_U32: {
        uint32_t v;

        memcpy(&v, kv->data, sizeof(v));
        pd_buf_printf(out, "%" PRIu32, v);
        break;
    }
    case GGUF_U64: {
        uint64_t v;

        memcpy(&v, kv->data, sizeof(v));
        pd_buf_printf(out, "%" PRIu64, v);
        break;
    }
    case GGUF_I64: {
        int64_t v;

        memcpy(&v, kv->data, sizeof(v));
        pd_buf_printf(out, "%" PRId64, v);
        break;
    }
    default: /* the integers of 32 bits and fewer */
        pd_buf_printf(out, "%" PRId32, gguf_arr_i32(&one, 0));
        break;
    }
    pd_buf_addc(out, '\n');
}

/* Any architecture, also vocabulary-only: what is absent or strange stays 0. */
static void peek_dims(const struct gguf *g, struct eng_model_info *info)
{
    const struct gguf_kv *tokens = gguf_find(g, "tokenizer.ggml.tokens");
    struct {
        const char *name;
        uint32_t *slot;
    } dims[] = {
        {"vocab_size", &info->n_vocab},
        {"context_length", &info->n_ctx},
        {"embedding_length", &info->n_embd},
        {"block_count", &info->n_layer},
        {"feed_forward_length", &info->n_ff},
        {"attention.head_count", &info->n_head},
        {"attention.head_count_kv", &info->n_head_kv},
        {"attention.key_length", &info->head_dim},
    };

    if (strlen(info->arch) <= ARCH_MAX_BYTES) {
        for (size_t i = 0; i < sizeof(dims) / sizeof(*dims); i++) {
            char key[KEY_BYTES];

            snprintf(key, sizeof(key), "%s.%s", info->arch, dims[i].name);
            (void)layered_u32(g, key, 0, dims[i].slot, NULL);
        }
    }
    if (tokens && tokens->type == GGUF_ARR && tokens->n <= UINT32_MAX)
        info->n_vocab = (uint32_t)tokens->n;
    if (info->n_head_kv == 0)
        info->n_head_kv = info->n_head;
    if (info->head_dim == 0 && info->n_head > 0)
        info->head_dim = info->n_embd / info->n_head;
}

/* sha256 stays zero: hashing would read the weights. */
int eng_model_peek(const char *path, struct eng_model_info *out, struct pd_buf *kv,
                   struct pd_err *err)
{
    struct eng_model_info info = {0};
    struct gguf *g = NULL;
    int rc;

    rc = gguf_open(path, &g, err);
    if (rc < 0)
        return rc;
    rc = describe(g, &info, err);
    if (rc < 0) {
        pd_err_context(err, "'%s'", path);
        goto out;
    }
    peek_dims(g, &info);
    if (kv) {
        for (size_t i = 0; i < g->n_kvs; i++)
            print_kv(kv, &g->kvs[i]);
        rc = pd_buf_rc(kv);
        if (rc < 0) {
            rc = pd_fail(err, rc, "'%s': its keys do not fit into the buffer for their listing",
                         path);
            goto out;
        }
    }
    *out = info;
    info = (struct eng_model_info){0};
out:
    eng_model_info_done(&info);
    gguf_close(g);
    return rc;
}

/* ---- life cycle
 * ---------------------------------------------------------------------------------- */

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
    rc = describe(m->gguf, &m->info, err);
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
