/* Hyper-parameters and tensors of a model file, checked against each other in full. A file that
 * asks for arithmetic this build does not do is refused: nothing is ever computed silently wrong.
 */
#include "engine/shape.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#define SHOW_BYTES 100 /* of a string in a message */
#define KEY_BYTES  100

/* s for a message: cut, bytes outside printable ASCII as '?'. */
static const char *show(struct pd_str s, char out[SHOW_BYTES + 1])
{
    size_t n = s.len < SHOW_BYTES ? s.len : SHOW_BYTES;

    for (size_t i = 0; i < n; i++)
        out[i] = s.ptr[i] >= 0x20 && s.ptr[i] < 0x7f ? s.ptr[i] : '?';
    out[n] = '\0';
    return out;
}

static int check_arch(const struct gguf *g, const struct eng_arch **out, struct pd_err *err)
{
    struct pd_str name;
    int rc = gguf_str(g, "general.architecture", &name, err);

    if (rc < 0) {
        pd_err_context(err, "'%s'", g->path);
        return rc;
    }
    if (rc == 0)
        return pd_fail(err, PD_EFORMAT, "'%s' has no general.architecture; it is not a model file",
                       g->path);
    *out = eng_arch_find(name);
    if (!*out) {
        char shown[SHOW_BYTES + 1], known[256] = "";

        for (const struct eng_arch *a = eng_archs; a->name; a++)
            snprintf(known + strlen(known), sizeof(known) - strlen(known), "%s%s",
                     a == eng_archs ? "" : ", ", a->name);
        return pd_fail(err, PD_EFORMAT, "'%s' has architecture '%s'; this build runs: %s", g->path,
                       show(name, shown), known);
    }
    return 0;
}

/* ---- hyper-parameters
 * ---------------------------------------------------------------------------- */

/* The keys of one architecture: "llama.block_count" is get_u32(k, "block_count", …). */
struct keys {
    const struct gguf *g;
    const char *arch;
    struct pd_err *err;
    char key[KEY_BYTES]; /* the last one asked for */
};

static const char *key_of(struct keys *k, const char *name)
{
    snprintf(k->key, sizeof(k->key), "%s.%s", k->arch, name);
    return k->key;
}

static int get_u32(struct keys *k, const char *name, uint32_t *out)
{
    return gguf_u32(k->g, key_of(k, name), out, k->err);
}

static int get_f32(struct keys *k, const char *name, float *out)
{
    return gguf_f32(k->g, key_of(k, name), out, k->err);
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

/* One number for all layers, within [1, max]; n_layer as eng_layered_u32. Absent: *out stays, and
 * must be within, too; 0 says that the key is required. */
static int need_u32(struct keys *k, const char *name, uint32_t n_layer, uint32_t max, uint32_t *out)
{
    int rc = eng_layered_u32(k->g, key_of(k, name), n_layer, out, k->err);

    if (rc < 0)
        return rc;
    if (rc == 0 && *out == 0)
        return pd_fail(k->err, PD_EFORMAT, "key '%s' is missing; the file is not a complete model",
                       k->key);
    if (*out < 1 || *out > max)
        return pd_fail(k->err, PD_EFORMAT, "key '%s' is %u; 1 to %u is possible", k->key, *out,
                       max);
    return 0;
}

/* A finite number ≥ 0; absent: *out stays. */
static int get_scale(struct keys *k, const char *name, float *out)
{
    int rc = get_f32(k, name, out);

    if (rc > 0 && !(*out >= 0 && isfinite(*out)))
        return pd_fail(k->err, PD_EFORMAT, "key '%s' is %g; a finite number from 0 on is needed",
                       k->key, (double)*out);
    return rc;
}

/* Keys that are fine at their neutral values only: anything else is arithmetic we do not do. */
static int check_neutral(struct keys *k, const struct eng_shape *s)
{
    static const struct {
        const char *name;
        float neutral, other;
    } scales[] = {
        {"attention.clamp_kqv", 0, 0},      {"attention.max_alibi_bias", 0, 0},
        {"attention.output_scale", 0, 1},   {"attention.temperature_scale", 0, 0},
        {"attention.value_scale", 0, 1},    {"embedding_scale", 0, 1},
        {"expert_weights_scale", 0, 1},     {"logit_scale", 0, 1},
        {"residual_scale", 0, 1},           {"rope.scaling.yarn_log_multiplier", 0, 0},
        {"router_logit_softcapping", 0, 0},
    };
    const struct {
        const char *name;
        uint32_t neutral, other;
    } counts[] = {
        {"attention.key_length_swa", s->head_dim, s->head_dim},
        {"attention.kv_lora_rank", 0, 0},
        {"attention.q_lora_rank", 0, 0},
        {"attention.shared_kv_layers", 0, 0},
        {"attention.value_length_swa", s->head_dim, s->head_dim},
        {"embedding_length_per_layer_input", 0, 0},
        {"expert_gating_func", 0, 1}, /* 1: softmax */
        {"expert_group_count", 0, 1},
        {"expert_shared_count", 0, 0},
        {"expert_shared_feed_forward_length", 0, 0},
        {"interleave_moe_layer_step", 0, 1},
        {"leading_dense_block_count", 0, 0},
        {"nextn_predict_layers", 0, 0},
        {"rope.dimension_count_swa", s->n_rot, s->n_rot},
    };
    static const struct {
        const char *name;
        bool neutral;
        const char *what;
    } flags[] = {
        {"attention.causal", true, "attention is not causal; this build runs generating models"},
        {"expert_weights_norm", true, "the experts' weights are not normalised"},
        {"use_parallel_residual", false, "attention and feed-forward run in parallel"},
    };

    for (size_t i = 0; i < sizeof(scales) / sizeof(*scales); i++) {
        float v = scales[i].neutral;
        int rc = get_f32(k, scales[i].name, &v);

        if (rc < 0)
            return rc;
        if (!(v == scales[i].neutral || v == scales[i].other))
            return pd_fail(k->err, PD_EFORMAT, "key '%s' is %g; this build computes only with %g",
                           k->key, (double)v, (double)scales[i].other);
    }
    for (size_t i = 0; i < sizeof(counts) / sizeof(*counts); i++) {
        uint32_t v = counts[i].neutral;
        int rc = get_u32(k, counts[i].name, &v);

        if (rc < 0)
            return rc;
        if (v != counts[i].neutral && v != counts[i].other)
            return pd_fail(k->err, PD_EFORMAT, "key '%s' is %u; this build computes only with %u",
                           k->key, v, counts[i].other);
    }
    for (size_t i = 0; i < sizeof(flags) / sizeof(*flags); i++) {
        bool v = flags[i].neutral;
        int rc = gguf_bool(k->g, key_of(k, flags[i].name), &v, k->err);

        if (rc < 0)
            return rc;
        if (v != flags[i].neutral)
            return pd_fail(k->err, PD_EFORMAT, "key '%s': %s, which this build does not compute",
                           k->key, flags[i].what);
    }
    return 0;
}

static int read_heads(struct keys *k, struct eng_shape *s)
{
    uint32_t value_length;
    int rc;

    rc = need_u32(k, "attention.head_count", s->n_layer, ENG_MAX_DIM, &s->n_head);
    if (rc < 0)
        return rc;
    s->n_head_kv = s->n_head;
    rc = eng_layered_u32(k->g, key_of(k, "attention.head_count_kv"), s->n_layer, &s->n_head_kv,
                         k->err);
    if (rc < 0)
        return rc;
    if (s->n_head_kv < 1 || s->n_head_kv > s->n_head || s->n_head % s->n_head_kv != 0)
        return pd_fail(k->err, PD_EFORMAT,
                       "attention.head_count %u is not a multiple of attention.head_count_kv %u",
                       s->n_head, s->n_head_kv);
    rc = get_u32(k, "attention.key_length", &s->head_dim);
    if (rc < 0)
        return rc;
    if (rc == 0) {
        if (s->n_embd % s->n_head != 0)
            return pd_fail(k->err, PD_EFORMAT,
                           "embedding_length %u is not a multiple of attention.head_count %u",
                           s->n_embd, s->n_head);
        s->head_dim = s->n_embd / s->n_head;
    }
    if (s->head_dim < 2 || s->head_dim % 2 != 0 || s->head_dim > ENG_MAX_DIM)
        return pd_fail(k->err, PD_EFORMAT,
                       "heads have %u dimensions; an even number from 2 to %u is needed",
                       s->head_dim, ENG_MAX_DIM);
    value_length = s->head_dim;
    rc = get_u32(k, "attention.value_length", &value_length);
    if (rc < 0)
        return rc;
    if (value_length != s->head_dim)
        return pd_fail(
            k->err, PD_EFORMAT,
            "attention.value_length %u differs from the %u of the keys; this build needs "
            "them equal",
            value_length, s->head_dim);
    s->n_rot = s->head_dim;
    rc = get_u32(k, "rope.dimension_count", &s->n_rot);
    if (rc < 0)
        return rc;
    if (s->n_rot < 2 || s->n_rot % 2 != 0 || s->n_rot > s->head_dim)
        return pd_fail(
            k->err, PD_EFORMAT,
            "rope.dimension_count is %u; an even number from 2 to the head's %u is needed",
            s->n_rot, s->head_dim);
    return 0;
}

/* Scores are scaled, soft-capped and, in some layers, limited to a window. */
static int read_attention(struct keys *k, struct eng_shape *s)
{
    const struct eng_arch *a = s->arch;
    bool wide = s->n_layer == a->wide_layers;
    uint32_t window = a->window_default;
    int rc;

    s->attn_scale = 1.0f / sqrtf((float)(wide ? s->n_embd / s->n_head : s->head_dim));
    rc = get_scale(k, "attention.scale", &s->attn_scale);
    if (rc < 0)
        return rc;
    if (!(s->attn_scale > 0))
        return pd_fail(k->err, PD_EFORMAT, "key '%s' is 0; a positive number is needed", k->key);
    s->attn_softcap = a->attn_softcap;
    s->final_softcap = a->final_softcap;
    rc = get_scale(k, "attn_logit_softcapping", &s->attn_softcap);
    if (rc < 0)
        return rc;
    rc = get_scale(k, "final_logit_softcapping", &s->final_softcap);
    if (rc < 0)
        return rc;
    s->window_period = a->window_period;
    rc = get_u32(k, "attention.sliding_window_pattern", &s->window_period);
    if (rc < 0)
        return rc;
    if (rc > 0 && (a->window_period == 0 || s->window_period == 0))
        return pd_fail(k->err, PD_EFORMAT,
                       "key '%s' is %u; this build knows no such pattern for %s", k->key,
                       s->window_period, a->name);
    rc = get_u32(k, "attention.sliding_window", &window);
    if (rc < 0)
        return rc;
    if (rc == 0 && a->window == ENG_MUST)
        return pd_fail(k->err, PD_EFORMAT, "key '%s' is missing; the file is not a complete model",
                       k->key);
    if (window >= s->n_ctx)
        window = 0; /* nothing is ever outside */
    if (window > 0 && a->window == ENG_NO)
        return pd_fail(k->err, PD_EFORMAT,
                       "key '%s' is %u; this build does not know which layers of a %s model "
                       "have the window",
                       k->key, window, a->name);
    s->window = window;
    return 0;
}

/* rope.scaling.*: absent keys leave a plain rotation. */
static int read_rope(struct keys *k, struct eng_shape *s)
{
    static const char *const names[] = {"none", "linear", "yarn", "longrope"};
    struct eng_rope_scaling *r = &s->rope;
    struct pd_str type = PD_STR("linear");
    float more = 1;
    int rc;

    s->freq_base = 10000;
    rc = get_f32(k, "rope.freq_base", &s->freq_base);
    if (rc < 0)
        return rc;
    if (!(s->freq_base > 0) || !isfinite(s->freq_base))
        return pd_fail(k->err, PD_EFORMAT, "rope.freq_base is %g; a positive number is needed",
                       (double)s->freq_base);
    s->local_freq_base = s->arch->local_freq_base;
    if (s->local_freq_base > 0) {
        rc = get_f32(k, "rope.freq_base_swa", &s->local_freq_base);
        if (rc < 0)
            return rc;
        if (!(s->local_freq_base > 0) || !isfinite(s->local_freq_base))
            return pd_fail(k->err, PD_EFORMAT, "key '%s' is %g; a positive number is needed",
                           k->key, (double)s->local_freq_base);
    }
    rc = gguf_str(k->g, key_of(k, "rope.scaling.type"), &type, k->err);
    if (rc < 0)
        return rc;
    for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
        if (pd_str_eq(type, pd_str_of(names[i])))
            s->rope_name = names[i];
    }
    if (!s->rope_name) {
        char shown[SHOW_BYTES + 1];

        return pd_fail(k->err, PD_EFORMAT,
                       "key '%s' asks for '%s', a kind of rope scaling that this build does not "
                       "compute; it knows: none, linear, yarn, longrope",
                       k->key, show(type, shown));
    }
    r->factor = 0;
    rc = get_scale(k, "rope.scaling.factor", &r->factor);
    if (rc == 0)
        rc = get_scale(k, "rope.scale_linear", &r->factor); /* the old name */
    if (rc < 0)
        return rc;
    if (r->factor == 0 || strcmp(s->rope_name, "none") == 0) /* 0: some converters' "none" */
        r->factor = 1;
    r->attn_factor = 1;
    rc = get_scale(k, "rope.scaling.attn_factor", &r->attn_factor);
    if (rc < 0)
        return rc;
    rc = get_scale(k, "rope.scaling.yarn_attn_factor", &more);
    if (rc < 0)
        return rc;
    r->attn_factor *= more;
    if (!(r->attn_factor > 0))
        return pd_fail(k->err, PD_EFORMAT,
                       "rope.scaling.attn_factor is 0; nothing would be rotated");
    r->ext_factor = strcmp(s->rope_name, "yarn") == 0 ? 1 : 0;
    r->beta_fast = 32;
    r->beta_slow = 1;
    r->n_ctx_orig = s->n_ctx;
    rc = get_scale(k, "rope.scaling.yarn_ext_factor", &r->ext_factor);
    if (rc < 0)
        return rc;
    rc = get_scale(k, "rope.scaling.yarn_beta_fast", &r->beta_fast);
    if (rc < 0)
        return rc;
    rc = get_scale(k, "rope.scaling.yarn_beta_slow", &r->beta_slow);
    if (rc < 0)
        return rc;
    if (!(r->beta_fast > 0) || !(r->beta_slow > 0))
        return pd_fail(k->err, PD_EFORMAT,
                       "rope.scaling.yarn_beta_fast and _slow are %g and %g; both must be positive",
                       (double)r->beta_fast, (double)r->beta_slow);
    rc = need_u32(k, "rope.scaling.original_context_length", 0, INT32_MAX, &r->n_ctx_orig);
    if (rc < 0)
        return rc;
    if (r->ext_factor == 0 && r->factor == 1 && strcmp(s->rope_name, "longrope") != 0)
        s->rope_name = "none";
    return 0;
}

static int read_experts(struct keys *k, struct eng_shape *s)
{
    int rc;

    rc = get_u32(k, "expert_count", &s->n_expert);
    if (rc < 0)
        return rc;
    if (s->n_expert == 0 && s->arch->experts == ENG_MUST)
        return pd_fail(k->err, PD_EFORMAT, "key '%s' is missing; the file is not a complete model",
                       k->key);
    if (s->n_expert == 0)
        return 0;
    if (s->arch->experts == ENG_NO || s->n_expert > ENG_MAX_EXPERTS)
        return pd_fail(k->err, PD_EFORMAT,
                       "key '%s' is %u; this build runs mixtures of up to %u experts in llama and "
                       "qwen3moe models",
                       k->key, s->n_expert, ENG_MAX_EXPERTS);
    rc = need_u32(k, "expert_used_count", 0, s->n_expert, &s->n_expert_used);
    if (rc < 0)
        return rc;
    return need_u32(k, "expert_feed_forward_length", s->n_layer, ENG_MAX_DIM, &s->n_ff);
}

static int read_pooling(struct keys *k, struct eng_shape *s)
{
    static const char *const names[] = {"none", "mean", "cls", "last", "rank"};
    uint32_t n = 0;
    int rc = get_u32(k, "pooling_type", &n);

    if (rc > 0 && n >= sizeof(names) / sizeof(*names))
        return pd_fail(k->err, PD_EFORMAT, "key '%s' is %u; 0 to 4 are known", k->key, n);
    if (rc > 0)
        s->pooling = names[n];
    return rc;
}

static int read_hyper(struct keys *k, struct eng_shape *s)
{
    const struct gguf_kv *tokens = gguf_find(k->g, "tokenizer.ggml.tokens");
    uint32_t n;
    int rc;

    rc = need_u32(k, "block_count", 0, ENG_MAX_LAYERS, &s->n_layer);
    if (rc < 0)
        return rc;
    rc = need_u32(k, "context_length", 0, INT32_MAX, &s->n_ctx);
    if (rc < 0)
        return rc;
    rc = need_u32(k, "embedding_length", 0, ENG_MAX_DIM, &s->n_embd);
    if (rc < 0)
        return rc;
    rc = need_u32(k, "feed_forward_length", s->n_layer, ENG_MAX_DIM, &s->n_ff);
    if (rc < 0)
        return rc;
    rc = read_heads(k, s);
    if (rc < 0)
        return rc;
    rc = get_f32(k, "attention.layer_norm_rms_epsilon", &s->rms_eps);
    if (rc < 0)
        return rc;
    if (rc == 0)
        return pd_fail(k->err, PD_EFORMAT, "key '%s' is missing; the file is not a complete model",
                       k->key);
    if (!(s->rms_eps > 0) || !isfinite(s->rms_eps))
        return pd_fail(k->err, PD_EFORMAT,
                       "attention.layer_norm_rms_epsilon is %g; a positive number is needed",
                       (double)s->rms_eps);
    rc = read_attention(k, s);
    if (rc < 0)
        return rc;
    rc = read_rope(k, s);
    if (rc < 0)
        return rc;
    rc = read_experts(k, s);
    if (rc < 0)
        return rc;
    rc = read_pooling(k, s);
    if (rc < 0)
        return rc;
    if (!tokens || tokens->type != GGUF_ARR || tokens->elem != GGUF_STR || tokens->n < 1 ||
        tokens->n > INT32_MAX)
        return pd_fail(k->err, PD_EFORMAT,
                       "key 'tokenizer.ggml.tokens' is not a list of strings; the model has no "
                       "vocabulary");
    s->n_vocab = (uint32_t)tokens->n;
    n = s->n_vocab;
    rc = get_u32(k, "vocab_size", &n);
    if (rc < 0)
        return rc;
    if (n != s->n_vocab)
        return pd_fail(k->err, PD_EFORMAT, "vocab_size is %u but tokenizer.ggml.tokens has %u", n,
                       s->n_vocab);
    return check_neutral(k, s);
}

bool eng_shape_local(const struct eng_shape *s, uint32_t l)
{
    return s->window_period == 0 || (l + 1) % s->window_period != 0;
}

/* ---- tensors
 * ------------------------------------------------------------------------------------- */

struct claims {
    const struct gguf *g;
    const char *arch;
    bool *taken; /* [n_tensors] */
    struct pd_err *err;
};

static int check_vector(const struct gguf *g, const struct gguf_tensor *t, const char *name,
                        struct pd_err *err)
{
    int rc;

    if (t->type != GGML_F32) {
        const struct eng_quant *q = eng_quant_find(t->type);

        return pd_fail(err, PD_EFORMAT, "tensor '%s' has type %s where F32 is needed", name,
                       q ? q->name : "unknown");
    }
    rc = gguf_fetch(g, t->data, (size_t)t->bytes, err);
    if (rc < 0)
        return rc;
    for (uint64_t i = 0; i < t->dims[0]; i++) {
        float v;

        memcpy(&v, t->data + i * sizeof(v), sizeof(v));
        if (!isfinite(v))
            return pd_fail(err, PD_EFORMAT,
                           "tensor '%s', element %" PRIu64
                           ": not a finite number; the file is damaged",
                           name, i);
    }
    return 0;
}

/* The tensor of that name with the shape [planes, rows, cols] (rows 0: a vector), marked as
 * expected. Vectors are F32 and finite. NULL: err is filled, or is untouched when the tensor is
 * absent and need not be there. */
static const struct gguf_tensor *claim(struct claims *c, const char *name, uint64_t planes,
                                       uint64_t rows, uint64_t cols, enum eng_want want, int *io_rc)
{
    const uint64_t dims[4] = {cols, rows ? rows : 1, planes, 1};
    uint32_t n_dims = planes > 1 ? 3 : rows ? 2 : 1;
    const struct gguf_tensor *t;

    if (*io_rc < 0 || want == ENG_NO)
        return NULL;
    t = gguf_tensor(c->g, name);
    if (!t) {
        if (want == ENG_MUST)
            *io_rc = pd_fail(c->err, PD_EFORMAT,
                             "tensor '%s' is missing; the file is not a complete model", name);
        return NULL;
    }
    if (memcmp(t->dims, dims, sizeof(dims)) != 0 || t->n_dims < n_dims) {
        char asked[80];
        int n = snprintf(asked, sizeof(asked), "%" PRIu64, cols);

        for (uint32_t d = 1; d < n_dims; d++)
            n += snprintf(asked + n, sizeof(asked) - (size_t)n, ", %" PRIu64, dims[d]);
        *io_rc = pd_fail(c->err, PD_EFORMAT,
                         "tensor '%s' has the shape [%" PRIu64 ", %" PRIu64 ", %" PRIu64
                         ", %" PRIu64 "]; the keys ask for [%s]",
                         name, t->dims[0], t->dims[1], t->dims[2], t->dims[3], asked);
        return NULL;
    }
    if (!rows) {
        *io_rc = check_vector(c->g, t, name, c->err);
        if (*io_rc < 0)
            return NULL;
    }
    c->taken[t - c->g->tensors] = true;
    return t;
}

static int refuse_rest(const struct claims *c)
{
    for (size_t i = 0; i < c->g->n_tensors; i++) {
        char shown[SHOW_BYTES + 1];

        if (!c->taken[i])
            return pd_fail(c->err, PD_EFORMAT,
                           "tensor '%s' is not part of a %s model of these dimensions; this build "
                           "does not know its use",
                           show(c->g->tensors[i].name, shown), c->arch);
    }
    return 0;
}

/* Divisors of the rotation's frequencies: Llama 3.1 has one set. Phi-3 has two, the second for
 * texts longer than the model was first trained on: a model whose context allows such texts uses
 * that one from the first token on, so that what is computed does not depend on what follows. */
static const struct gguf_tensor *find_rope_freqs(struct claims *c, struct eng_shape *s, int *io_rc)
{
    bool fused = s->arch->fused, is_long = s->n_ctx > s->rope.n_ctx_orig;
    const struct gguf_tensor *t, *lo, *hi;
    uint64_t n = s->n_rot / 2;

    t = claim(c, "rope_freqs.weight", 1, 0, n, ENG_MAY, io_rc);
    if (t)
        s->rope_name = "llama3";
    lo = claim(c, "rope_factors_short.weight", 1, 0, n, fused ? ENG_MAY : ENG_NO, io_rc);
    hi = claim(c, "rope_factors_long.weight", 1, 0, n, lo ? ENG_MUST : ENG_NO, io_rc);
    if (lo && hi) {
        t = is_long ? hi : lo;
        s->rope_name = "longrope";
    } else if (*io_rc == 0 && strcmp(s->rope_name, "longrope") == 0) {
        *io_rc = pd_fail(c->err, PD_EFORMAT,
                         "rope scaling is longrope, but there is no tensor "
                         "'rope_factors_short.weight'");
    }
    for (uint64_t i = 0; *io_rc == 0 && t && i < n; i++) {
        float v;

        memcpy(&v, t->data + i * sizeof(v), sizeof(v));
        if (!(v > 0)) {
            char shown[SHOW_BYTES + 1];

            *io_rc =
                pd_fail(c->err, PD_EFORMAT, "tensor '%s', element %" PRIu64 ": %g is not positive",
                        show(t->name, shown), i, (double)v);
        }
    }
    return t;
}

static int find_layer(struct claims *c, const struct eng_shape *s, uint32_t l,
                      struct eng_layer_tensors *t)
{
    const struct eng_arch *a = s->arch;
    const uint64_t d = s->n_embd, hd = s->head_dim, n_q = s->n_head * hd, n_kv = s->n_head_kv * hd;
    const uint64_t n_ff = s->n_ff, n_expert = s->n_expert;
    const enum eng_want split = a->fused ? ENG_NO : ENG_MUST, fused = a->fused ? ENG_MUST : ENG_NO;
    const enum eng_want qk_norm = a->qk_norm ? ENG_MUST : ENG_NO;
    const enum eng_want post = a->post_norm ? ENG_MUST : ENG_NO;
    const enum eng_want exps = n_expert ? ENG_MUST : ENG_NO;
    const enum eng_want down = n_expert ? ENG_NO : ENG_MUST;
    const enum eng_want gate = n_expert ? ENG_NO : split, gate_up = n_expert ? ENG_NO : fused;
    const enum eng_want ff_bias = n_expert ? ENG_NO : a->bias;
    const struct {
        const struct gguf_tensor **slot;
        const char *name;
        uint64_t cols;
        enum eng_want want;
    } vectors[] = {
        {&t->attn_norm, "attn_norm.weight", d, ENG_MUST},
        {&t->q_bias, "attn_q.bias", n_q, a->qkv_bias},
        {&t->k_bias, "attn_k.bias", n_kv, a->qkv_bias},
        {&t->v_bias, "attn_v.bias", n_kv, a->qkv_bias},
        {&t->q_norm, "attn_q_norm.weight", hd, qk_norm},
        {&t->k_norm, "attn_k_norm.weight", hd, qk_norm},
        {&t->o_bias, "attn_output.bias", d, a->bias},
        {&t->attn_post_norm, "post_attention_norm.weight", d, post},
        {&t->ffn_norm, "ffn_norm.weight", d, ENG_MUST},
        {&t->gate_bias, "ffn_gate.bias", n_ff, ff_bias},
        {&t->up_bias, "ffn_up.bias", n_ff, ff_bias},
        {&t->down_bias, "ffn_down.bias", d, ff_bias},
        {&t->ffn_post_norm, "post_ffw_norm.weight", d, post},
    };
    const struct {
        struct eng_slice *first, *second, *third; /* stacked in this order */
        const char *name;
        uint64_t rows[3], cols, planes;
        enum eng_want want;
    } matrices[] = {
        {&t->q, NULL, NULL, "attn_q", {n_q}, d, 1, split},
        {&t->k, NULL, NULL, "attn_k", {n_kv}, d, 1, split},
        {&t->v, NULL, NULL, "attn_v", {n_kv}, d, 1, split},
        {&t->q, &t->k, &t->v, "attn_qkv", {n_q, n_kv, n_kv}, d, 1, fused},
        {&t->o, NULL, NULL, "attn_output", {d}, n_q, 1, ENG_MUST},
        {&t->gate, NULL, NULL, "ffn_gate", {n_ff}, d, 1, gate},
        {&t->up, NULL, NULL, "ffn_up", {n_ff}, d, 1, gate},
        {&t->gate, &t->up, NULL, "ffn_up", {n_ff, n_ff}, d, 1, gate_up},
        {&t->down, NULL, NULL, "ffn_down", {d}, n_ff, 1, down},
        {&t->router, NULL, NULL, "ffn_gate_inp", {n_expert}, d, 1, exps},
        {&t->gate, NULL, NULL, "ffn_gate_exps", {n_ff}, d, n_expert, exps},
        {&t->up, NULL, NULL, "ffn_up_exps", {n_ff}, d, n_expert, exps},
        {&t->down, NULL, NULL, "ffn_down_exps", {d}, n_ff, n_expert, exps},
    };
    char name[64];
    int rc = 0;

    for (size_t i = 0; i < sizeof(vectors) / sizeof(*vectors); i++) {
        snprintf(name, sizeof(name), "blk.%u.%s", l, vectors[i].name);
        *vectors[i].slot = claim(c, name, 1, 0, vectors[i].cols, vectors[i].want, &rc);
    }
    for (size_t i = 0; i < sizeof(matrices) / sizeof(*matrices); i++) {
        struct eng_slice *const part[] = {matrices[i].first, matrices[i].second, matrices[i].third};
        const uint64_t *rows = matrices[i].rows;
        const struct gguf_tensor *m;
        uint64_t row0 = 0;

        snprintf(name, sizeof(name), "blk.%u.%s.weight", l, matrices[i].name);
        m = claim(c, name, matrices[i].planes, rows[0] + rows[1] + rows[2], matrices[i].cols,
                  matrices[i].want, &rc);
        for (size_t j = 0; m && j < 3 && part[j]; row0 += rows[j], j++)
            *part[j] = (struct eng_slice){m, row0, rows[j]};
    }
    return rc;
}

static const struct eng_head_names *which_head(const struct gguf *g)
{
    const struct eng_head_names *h = eng_head_names;

    while (h->kind && !gguf_tensor(g, h->out) && !(h->dense && gguf_tensor(g, h->dense)))
        h++;
    return h->kind ? h : NULL;
}

/* The classification head, by the names of its tensors; of cls and cls.output either may be alone.
 * How many values come out is what the tensor says. */
static void find_head(struct claims *c, struct eng_shape *s, int *io_rc)
{
    const struct eng_head_names *h = which_head(c->g);
    const struct gguf_tensor *dense, *out;
    enum eng_want want;
    uint64_t mid;

    s->head = h;
    if (!h)
        return;
    want = h->act == ENG_HEAD_TANH ? ENG_MAY : ENG_MUST;
    dense = h->dense ? gguf_tensor(c->g, h->dense) : NULL;
    out = gguf_tensor(c->g, h->out);
    mid = dense ? dense->dims[1] : s->n_embd;
    if (h->dense) {
        s->cls = claim(c, h->dense, 1, mid, s->n_embd, want, io_rc);
        s->cls_bias = claim(c, h->dense_bias, 1, 0, mid, s->cls ? ENG_MAY : ENG_NO, io_rc);
    }
    s->cls_out = claim(c, h->out, 1, out ? out->dims[1] : 1, mid, want, io_rc);
    s->cls_out_bias =
        claim(c, h->out_bias, 1, 0, out ? out->dims[1] : 1, s->cls_out ? ENG_MAY : ENG_NO, io_rc);
}

static int find_tensors(const struct gguf *g, struct eng_shape *s, struct pd_err *err)
{
    struct claims c = {g, s->arch->name, calloc(g->n_tensors + 1, sizeof(bool)), err};
    int rc = 0;

    s->layers = calloc(s->n_layer, sizeof(*s->layers));
    if (!c.taken || !s->layers) {
        rc = pd_fail(err, PD_ENOMEM, "out of memory for %u layers", s->n_layer);
        goto out;
    }
    s->embd = claim(&c, "token_embd.weight", 1, s->n_vocab, s->n_embd, ENG_MUST, &rc);
    s->output_norm = claim(&c, "output_norm.weight", 1, 0, s->n_embd, ENG_MUST, &rc);
    s->output = claim(&c, "output.weight", 1, s->n_vocab, s->n_embd, ENG_MAY, &rc);
    s->rope_freqs = find_rope_freqs(&c, s, &rc);
    find_head(&c, s, &rc);
    for (uint32_t l = 0; l < s->n_layer && rc == 0; l++)
        rc = find_layer(&c, s, l, &s->layers[l]);
    if (rc == 0)
        rc = refuse_rest(&c);
out:
    free(c.taken);
    return rc;
}

int eng_shape_init(const struct gguf *g, struct eng_shape *out, struct pd_err *err)
{
    struct eng_shape s = {0};
    struct keys k = {.g = g, .err = err};
    int rc;

    rc = check_arch(g, &s.arch, err);
    if (rc < 0)
        return rc; /* names the file itself */
    k.arch = s.arch->name;
    rc = read_hyper(&k, &s);
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
