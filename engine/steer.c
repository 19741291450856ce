/* Control vectors: files of them, and what a context adds to the residual stream (forward.c adds
 * it). The layout is the one that llama.cpp reads: tensors direction.N, F32, added behind block N,
 * counted from 0. It passes over direction.0; we do not. */
#include "engine/steer.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "engine/forward.h"
#include "engine/gguf.h"

#define ARCHITECTURE   "controlvector"
#define TENSOR_PREFIX  "direction."
#define FILE_ALIGNMENT 32
#define MAX_FILE_BYTES ((size_t)16 << 20)

static struct eng_steer *new_steer(const struct eng_model_info *info)
{
    struct eng_steer *s = calloc(1, sizeof(*s) + info->n_layer * sizeof(float *));

    if (s) {
        atomic_init(&s->refs, 1);
        s->nothing = true;
        s->n_embd = info->n_embd;
        s->n_layer = info->n_layer;
    }
    return s;
}

/* Behind block i; v may be unaligned. */
static int put_vector(struct eng_steer *s, uint32_t i, float gamma, const void *v,
                      struct pd_err *err)
{
    float *scaled = malloc(s->n_embd * sizeof(*scaled));

    if (!scaled)
        return pd_fail(err, PD_ENOMEM, "out of memory for a control vector");
    memcpy(scaled, v, s->n_embd * sizeof(*scaled));
    s->scaled[i] = scaled;
    for (uint32_t j = 0; j < s->n_embd; j++) {
        scaled[j] *= gamma;
        if (!isfinite(scaled[j]))
            return pd_fail(err, PD_EFORMAT, "the control vector of block %u is not of numbers", i);
        s->nothing = s->nothing && scaled[j] == 0.0f;
    }
    return 0;
}

int eng_steer_new(const struct eng_model *m, uint32_t layer, const float *v, float gamma,
                  struct eng_steer **out, struct pd_err *err)
{
    const struct eng_model_info *info = eng_model_info(m);
    struct eng_steer *s;
    int rc;

    if (layer < 1 || layer > info->n_layer)
        return pd_fail(err, PD_EINVAL, "there is no layer %u: the model has 1 to %u", layer,
                       info->n_layer);
    s = new_steer(info);
    if (!s)
        return pd_fail(err, PD_ENOMEM, "out of memory for a control vector");
    rc = put_vector(s, layer - 1, gamma, v, err);
    if (rc < 0) {
        eng_steer_unref(s);
        return rc;
    }
    *out = s;
    return 0;
}

struct eng_steer *eng_steer_ref(struct eng_steer *s)
{
    if (s)
        atomic_fetch_add(&s->refs, 1);
    return s;
}

void eng_steer_unref(struct eng_steer *s)
{
    if (!s || atomic_fetch_sub(&s->refs, 1) > 1)
        return;
    for (uint32_t i = 0; i < s->n_layer; i++)
        free(s->scaled[i]);
    free(s);
}

/* ---- files
 * --------------------------------------------------------------------------------------- */

/* Which block a tensor is for. False: its name is of another kind. */
static bool block_of(struct pd_str name, uint64_t *out)
{
    struct pd_str prefix = PD_STR(TENSOR_PREFIX);

    return pd_str_starts(name, prefix) && pd_parse_u64(pd_str_sub(name, prefix.len, name.len), out);
}

static int read_vectors(const struct gguf *g, struct eng_steer *s, float gamma, struct pd_err *err)
{
    int rc = 0;

    for (size_t i = 0; i < g->n_tensors && rc == 0; i++) {
        const struct gguf_tensor *t = &g->tensors[i];
        uint64_t block;

        if (!block_of(t->name, &block))
            rc = pd_fail(err, PD_EFORMAT, "tensor '%.*s' is no direction.N", (int)t->name.len,
                         t->name.ptr);
        else if (block >= s->n_layer || t->type != GGML_F32 || t->n_dims != 1 ||
                 t->dims[0] != s->n_embd)
            rc = pd_fail(err, PD_EFORMAT,
                         "tensor '%.*s' does not fit the model, which has blocks 0 to %u and is "
                         "%u wide (F32): these vectors were made for another one",
                         (int)t->name.len, t->name.ptr, s->n_layer - 1, s->n_embd);
        else if (s->scaled[block])
            rc = pd_fail(err, PD_EFORMAT, "block %u has two vectors", (unsigned)block);
        else if ((rc = gguf_fetch(g, t->data, t->bytes, err)) == 0)
            rc = put_vector(s, (uint32_t)block, gamma, t->data, err);
    }
    if (rc == 0 && g->n_tensors == 0)
        rc = pd_fail(err, PD_EFORMAT, "there are no vectors in it");
    return rc;
}

int eng_steer_open(const char *path, float gamma, const struct eng_model *m, struct eng_steer **out,
                   struct pd_err *err)
{
    struct eng_steer *s = NULL;
    struct pd_str arch = {0};
    struct gguf *g;
    int rc;

    if (!isfinite(gamma))
        return pd_fail(err, PD_EINVAL, "a control vector's strength must be a number");
    rc = gguf_open(path, &g, err);
    if (rc < 0)
        return rc;
    rc = gguf_str(g, "general.architecture", &arch, err);
    if (rc >= 0 && !pd_str_eq(arch, PD_STR(ARCHITECTURE)))
        rc = pd_fail(err, PD_EFORMAT, "its architecture is '%.*s', not " ARCHITECTURE,
                     (int)arch.len, arch.len ? arch.ptr : "");
    if (rc >= 0 && !(s = new_steer(eng_model_info(m))))
        rc = pd_fail(err, PD_ENOMEM, "out of memory for control vectors");
    if (rc >= 0)
        rc = read_vectors(g, s, gamma, err);
    if (rc == 0)
        rc = gguf_unchanged(g, err);
    gguf_close(g);
    if (rc < 0) {
        eng_steer_unref(s);
        pd_err_context(err, "control vectors '%s'", path);
        return rc;
    }
    *out = s;
    return 0;
}

static void put_u32(struct pd_buf *b, uint32_t v)
{
    pd_buf_add(b, &v, sizeof(v));
}

static void put_u64(struct pd_buf *b, uint64_t v)
{
    pd_buf_add(b, &v, sizeof(v));
}

static void put_str(struct pd_buf *b, const char *z)
{
    put_u64(b, strlen(z));
    pd_buf_addz(b, z);
}

int eng_steer_write(const char *path, const struct eng_model *m, uint32_t layer, const float *v,
                    struct pd_err *err)
{
    const struct eng_model_info *info = eng_model_info(m);
    struct pd_buf b = PD_BUF_INIT(MAX_FILE_BYTES);
    char name[32];
    int rc;

    snprintf(name, sizeof(name), TENSOR_PREFIX "%u", layer - 1);
    pd_buf_addz(&b, "GGUF");
    put_u32(&b, 3);
    put_u64(&b, 1); /* tensors */
    put_u64(&b, 3); /* keys */
    put_str(&b, "general.architecture");
    put_u32(&b, GGUF_STR);
    put_str(&b, ARCHITECTURE);
    put_str(&b, ARCHITECTURE ".model_hint");
    put_u32(&b, GGUF_STR);
    put_str(&b, info->arch);
    put_str(&b, ARCHITECTURE ".layer_count");
    put_u32(&b, GGUF_U32);
    put_u32(&b, 1);
    put_str(&b, name);
    put_u32(&b, 1); /* dimensions */
    put_u64(&b, info->n_embd);
    put_u32(&b, GGML_F32);
    put_u64(&b, 0); /* its offset */
    while (b.len % FILE_ALIGNMENT > 0 && pd_buf_rc(&b) == 0)
        pd_buf_addc(&b, 0);
    pd_buf_add(&b, v, info->n_embd * sizeof(*v));
    while (b.len % FILE_ALIGNMENT > 0 && pd_buf_rc(&b) == 0)
        pd_buf_addc(&b, 0);
    rc = pd_buf_rc(&b) < 0 ? pd_fail(err, PD_ENOMEM, "out of memory for a control vector")
                           : pd_write_file(path, pd_buf_str(&b), err);
    pd_buf_done(&b);
    return rc;
}

/* ---- contexts
 * ------------------------------------------------------------------------------------ */

int eng_ctx_steer(struct eng_ctx *c, struct eng_steer *s, size_t from, struct pd_err *err)
{
    const struct eng_model_info *info = &c->fwd->model->info;

    if (s && (s->n_embd != info->n_embd || s->n_layer != info->n_layer))
        return pd_fail(err, PD_EINVAL, "control vectors of another model");
    s = s && s->nothing ? NULL : eng_steer_ref(s);
    eng_steer_unref(c->steer);
    c->steer = s;
    c->steer_from = from;
    return 0;
}
