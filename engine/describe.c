/* What any GGUF can tell about itself, without loading weights. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "engine/model.h"
#include "engine/shape.h"

#define KEY_BYTES      160
#define SHOW_BYTES     100 /* of a string in the listing */
#define ARCH_MAX_BYTES 64

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

/* Most bytes first. */
static void count_types(const struct gguf *g, struct eng_model_info *info)
{
    for (size_t i = 0; i < g->n_tensors; i++) {
        const char *name = eng_quant_find(g->tensors[i].type)->name; /* checked at open */
        uint32_t k = 0;

        while (k < info->n_types && info->types[k].name != name)
            k++;
        if (k == ENG_MAX_TYPES)
            continue;
        info->types[k].name = name;
        info->types[k].n_tensors++;
        info->types[k].bytes += g->tensors[i].bytes;
        info->n_types += k == info->n_types;
    }
    for (uint32_t i = 1; i < info->n_types; i++)
        for (uint32_t k = i; k > 0 && info->types[k].bytes > info->types[k - 1].bytes; k--) {
            __typeof__(info->types[0]) swap = info->types[k];

            info->types[k] = info->types[k - 1];
            info->types[k - 1] = swap;
        }
}

static bool has_name(const struct gguf_tensor *t, const char *name)
{
    return pd_str_eq(t->name, pd_str_of(name));
}

static void count_work(const struct gguf *g, struct pd_str arch, struct eng_work *w)
{
    const char *head = "token_embd.weight"; /* tied, unless there is an output matrix */
    char key[KEY_BYTES];

    if (arch.len <= ARCH_MAX_BYTES) {
        snprintf(key, sizeof(key), "%.*s.expert_count", (int)arch.len, arch.ptr);
        (void)gguf_u32(g, key, &w->n_experts, NULL);
        snprintf(key, sizeof(key), "%.*s.expert_used_count", (int)arch.len, arch.ptr);
        (void)gguf_u32(g, key, &w->n_experts_used, NULL);
    }
    for (size_t i = 0; i < g->n_tensors; i++)
        head = has_name(&g->tensors[i], "output.weight") ? "output.weight" : head;
    for (size_t i = 0; i < g->n_tensors; i++) {
        const struct gguf_tensor *t = &g->tensors[i];
        const struct eng_quant *q = eng_quant_find(t->type);
        uint64_t macs = t->dims[0] * t->dims[1] * t->dims[2] * t->dims[3]; /* checked at open */
        bool is_head = has_name(t, head);
        uint64_t *to;

        if (!q || t->n_dims < 2 || (has_name(t, "token_embd.weight") && !is_head))
            continue;
        if (pd_str_find(t->name, PD_STR("_exps.")) >= 0) {
            w->experts_bytes += t->bytes;
            if (w->n_experts > 0)
                macs = macs / w->n_experts * w->n_experts_used;
        } else {
            *(is_head ? &w->head_bytes : &w->body_bytes) += t->bytes;
        }
        if (is_head)
            to = q->wants_q8 ? &w->head_macs.i8 : &w->head_macs.f32;
        else
            to = q->wants_q8 ? &w->body_macs.i8 : &w->body_macs.f32;
        *to += macs;
    }
}

/* All but the words of the shape and of types are malloc'ed; -Wcast-qual is right but free has no
 * const. */
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
    free_const(info->tokenizer);
    free_const(info->pretokenizer);
    *info = (struct eng_model_info){0};
}

void eng_describe_shape(const struct eng_shape *s, struct eng_model_info *info)
{
    info->n_vocab = s->n_vocab;
    info->n_ctx = s->n_ctx;
    info->n_embd = s->n_embd;
    info->n_layer = s->n_layer;
    info->n_head = s->n_head;
    info->n_head_kv = s->n_head_kv;
    info->head_dim = s->head_dim;
    info->n_ff = s->n_ff;
    info->n_expert = s->n_expert;
    info->n_expert_used = s->n_expert_used;
    info->window = s->window;
    info->n_cls = (uint32_t)(s->cls_out ? s->cls_out->dims[1] : s->cls ? s->cls->dims[1] : 0);
    info->head = s->head ? s->head->kind : NULL;
    info->rope = s->rope_name;
    info->rope_base = s->freq_base;
    info->rope_factor = s->rope.factor;
    info->n_ctx_orig = s->rope.n_ctx_orig;
    info->attn_softcap = s->attn_softcap;
    info->final_softcap = s->final_softcap;
    info->pooling = s->pooling;
}

/* What any GGUF can tell about itself; what is in the shape is the caller's. */
int eng_describe(const struct gguf *g, struct eng_model_info *info, struct pd_err *err)
{
    struct pd_str arch = PD_STR("unknown"), name = {0}, tokenizer = {0}, pretokenizer = {0};
    const char *slash = strrchr(g->path, '/');

    if (gguf_str(g, "general.architecture", &arch, err) < 0)
        return PD_EFORMAT;
    if (gguf_str(g, "general.name", &name, err) < 0)
        return PD_EFORMAT;
    if (name.len == 0)
        name = pd_str_of(slash ? slash + 1 : g->path);
    (void)gguf_str(g, "tokenizer.ggml.model", &tokenizer, NULL);
    (void)gguf_str(g, "tokenizer.ggml.pre", &pretokenizer, NULL);
    info->tokenizer = tokenizer.ptr ? pd_str_dup(tokenizer) : NULL;
    info->pretokenizer = pretokenizer.ptr ? pd_str_dup(pretokenizer) : NULL;
    info->path = pd_str_dup(pd_str_of(g->path));
    info->name = pd_str_dup(name);
    info->arch = pd_str_dup(arch);
    info->file_type = pd_str_dup(pd_str_of(common_type(g)));
    if (!info->path || !info->name || !info->arch || !info->file_type ||
        (tokenizer.ptr && !info->tokenizer) || (pretokenizer.ptr && !info->pretokenizer))
        return pd_fail(err, PD_ENOMEM, "out of memory");
    info->file_bytes = gguf_file_bytes(g);
    count_work(g, arch, &info->work);
    count_types(g, info);
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
            (void)eng_layered_u32(g, key, 0, dims[i].slot, NULL);
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
    struct eng_head_file head = {0};
    struct eng_shape shape;
    struct gguf *g = NULL;
    int rc;

    rc = gguf_open(path, &g, err);
    if (rc < 0)
        return rc;
    rc = eng_describe(g, &info, err);
    if (rc < 0) {
        pd_err_context(err, "'%s'", path);
        goto out;
    }
    peek_dims(g, &info);
    if (eng_shape_init(g, &shape, NULL) == 0) {
        eng_describe_shape(&shape, &info);
        eng_shape_done(&shape);
        rc = eng_head_beside(path, NULL, &info, &head, err);
        eng_head_done(&head);
        if (rc < 0)
            goto out;
    }
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

int eng_model_template(const char *path, struct pd_buf *out, struct pd_err *err)
{
    struct pd_str text = {0};
    struct gguf *g;
    int rc = gguf_open(path, &g, err);

    if (rc < 0)
        return rc;
    rc = gguf_str(g, "tokenizer.chat_template", &text, err);
    if (rc == 0)
        rc = pd_fail(err, PD_ENOENT, "'%s' has no chat template", path);
    else if (rc > 0 && pd_buf_adds(out, text) < 0)
        rc = pd_fail(err, pd_buf_rc(out), "'%s': a chat template of %zu bytes is too long", path,
                     text.len);
    gguf_close(g);
    return rc < 0 ? rc : 0;
}
