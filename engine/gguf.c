/* GGUF container: one pass over the header checks everything, then sorted indexes make look-ups and
 * the search for duplicates cheap. Strings and tensors point into the file's address range. Any
 * thread may read an open gguf; open and close are the owner's.
 *
 * A split model is several files: the first has all keys, each some tensors and split.no,
 * split.count and split.tensors.count. */
#include "engine/gguf.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <float.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/engine.h"
#include "engine/kernels.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "GGUF values are read in place");

#define NAME_MAX_BYTES    65535u /* the format's limit for keys */
#define PARTS_MAX         500u   /* each keeps a descriptor, of which a process has 1,024 */
#define ALIGNMENT_DEFAULT 32u
#define ALIGNMENT_MIN     8u
#define ALIGNMENT_MAX     (1u << 20) /* beyond, padding would be all the file */
#define KV_MIN_BYTES      14u        /* key length, one byte of key, type, one byte of value */
#define TENSOR_MIN_BYTES  33u /* name length, one byte of name, n_dims, one extent, type, offset */
#define READ_AHEAD        ((size_t)16 << 10) /* of the header */
#define SHOW_BYTES        100u
#define SHOW_BUF          (4 * SHOW_BYTES + 4)

struct file { /* what gguf_open hands out is its first member */
    struct gguf g;
    void *place;         /* anonymous memory, reserved; NULL: borrowed bytes */
    size_t header_bytes; /* that are there, those read ahead too */
    int fd;              /* -1: borrowed bytes */
    struct stat stat;    /* when it was opened */
    const struct gguf_kv **kv_index;
    const struct gguf_tensor **tensor_index;
};

struct reader {
    struct file *f;
    const uint8_t *bytes;
    size_t n, at;
};

static const struct {
    const char *name;
    uint8_t bytes; /* 0: not fixed */
} types[GGUF_N_TYPES] = {
    [GGUF_U8] = {"u8", 1},   [GGUF_I8] = {"i8", 1},     [GGUF_U16] = {"u16", 2},
    [GGUF_I16] = {"i16", 2}, [GGUF_U32] = {"u32", 4},   [GGUF_I32] = {"i32", 4},
    [GGUF_F32] = {"f32", 4}, [GGUF_BOOL] = {"bool", 1}, [GGUF_STR] = {"str", 0},
    [GGUF_ARR] = {"arr", 0}, [GGUF_U64] = {"u64", 8},   [GGUF_I64] = {"i64", 8},
    [GGUF_F64] = {"f64", 8},
};

/* Names for error texts only; what this build can compute is the quant table's business. */
static const char *const ggml_names[] = {
    "F32",   "F16",        "Q4_0",       "Q4_1",       "Q4_2",     "Q4_3",     "Q5_0",
    "Q5_1",  "Q8_0",       "Q8_1",       "Q2_K",       "Q3_K",     "Q4_K",     "Q5_K",
    "Q6_K",  "Q8_K",       "IQ2_XXS",    "IQ2_XS",     "IQ3_XXS",  "IQ1_S",    "IQ4_NL",
    "IQ3_S", "IQ2_S",      "IQ4_XS",     "I8",         "I16",      "I32",      "I64",
    "F64",   "IQ1_M",      "BF16",       "Q4_0_4_4",   "Q4_0_4_8", "Q4_0_8_8", "TQ1_0",
    "TQ2_0", "IQ4_NL_4_4", "IQ4_NL_4_8", "IQ4_NL_8_8", "MXFP4",
};

/* s for a message: at most SHOW_BYTES of it, bytes outside printable ASCII escaped. */
static const char *show(struct pd_str s, char out[SHOW_BUF])
{
    size_t n = s.len < SHOW_BYTES ? s.len : SHOW_BYTES;
    char *p = out;

    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)s.ptr[i];

        if (c >= 0x20 && c < 0x7f)
            *p++ = (char)c;
        else
            p += snprintf(p, 5, "\\x%02x", c);
    }
    if (n < s.len) {
        memcpy(p, "...", 3);
        p += 3;
    }
    *p = '\0';
    return out;
}

static int truncated(const struct reader *r, const char *what, struct pd_err *err)
{
    return pd_fail(
        err, PD_EFORMAT,
        "the file ends inside %s (byte %zu of %zu); it is truncated or damaged, fetch it again",
        what, r->at, r->n);
}

static size_t left(const struct reader *r)
{
    return r->n - r->at;
}

/* Reads into dst[n] what lies at g->map + at. */
static int read_file(const struct file *f, size_t at, void *dst, size_t n, struct pd_err *err)
{
    char *to = dst;

    while (n > 0) {
        ssize_t k = pread(f->fd, to, n, (off_t)at);

        if (k < 0 && errno == EINTR)
            continue;
        if (k < 0)
            return pd_fail_errno(err, errno, "cannot read '%s'", f->g.path);
        if (k == 0)
            return pd_fail(err, PD_EIO,
                           "the file became shorter while it was read (nothing at byte %zu); put a "
                           "new model in place by renaming it, and try again",
                           at);
        at += (size_t)k;
        to += k;
        n -= (size_t)k;
    }
    return 0;
}

/* The next n bytes are in the file, and there. */
static int need(struct reader *r, size_t n, const char *what, struct pd_err *err)
{
    struct file *f = r->f;
    size_t want;
    int rc;

    if (n > left(r))
        return truncated(r, what, err);
    if (!f->place || r->at + n <= f->header_bytes)
        return 0;
    want = r->n - r->at - n < READ_AHEAD ? r->n : r->at + n + READ_AHEAD;
    rc = read_file(f, f->header_bytes, (char *)f->place + f->header_bytes, want - f->header_bytes,
                   err);
    if (rc == 0)
        f->header_bytes = want;
    return rc;
}

static int read_u32(struct reader *r, const char *what, uint32_t *out, struct pd_err *err)
{
    int rc = need(r, 4, what, err);

    if (rc < 0)
        return rc;
    memcpy(out, r->bytes + r->at, 4);
    r->at += 4;
    return 0;
}

static int read_u64(struct reader *r, const char *what, uint64_t *out, struct pd_err *err)
{
    int rc = need(r, 8, what, err);

    if (rc < 0)
        return rc;
    memcpy(out, r->bytes + r->at, 8);
    r->at += 8;
    return 0;
}

static int read_str(struct reader *r, const char *what, struct pd_str *out, struct pd_err *err)
{
    uint64_t n = 0;
    int rc = read_u64(r, what, &n, err);

    if (rc < 0)
        return rc;
    if (n > left(r))
        return truncated(r, what, err);
    rc = need(r, (size_t)n, what, err);
    if (rc < 0)
        return rc;
    *out = (struct pd_str){(const char *)r->bytes + r->at, (size_t)n};
    r->at += (size_t)n;
    return 0;
}

/* A key or a tensor's name: not empty, UTF-8, at most NAME_MAX_BYTES. */
static int read_name(struct reader *r, const char *what, size_t i, struct pd_str *out,
                     struct pd_err *err)
{
    size_t at = r->at;
    char shown[SHOW_BUF];
    int rc = read_str(r, what, out, err);

    if (rc < 0)
        return rc;
    if (out->len == 0)
        return pd_fail(err, PD_EFORMAT, "%s %zu at byte %zu is empty; the file is damaged", what, i,
                       at);
    if (out->len > NAME_MAX_BYTES)
        return pd_fail(err, PD_EFORMAT,
                       "%s %zu at byte %zu has %zu bytes, more than the %u allowed", what, i, at,
                       out->len, NAME_MAX_BYTES);
    if (!pd_utf8_valid(*out))
        return pd_fail(err, PD_EFORMAT, "%s %zu at byte %zu is not UTF-8: '%s'", what, i, at,
                       show(*out, shown));
    return 0;
}

static int check_bools(const uint8_t *p, uint64_t n, struct pd_str key, size_t at,
                       struct pd_err *err)
{
    char shown[SHOW_BUF];

    for (uint64_t i = 0; i < n; i++) {
        if (p[i] > 1)
            return pd_fail(err, PD_EFORMAT,
                           "key '%s' at byte %zu: a bool has the value %u instead of 0 or 1",
                           show(key, shown), at, p[i]);
    }
    return 0;
}

static int read_array(struct reader *r, struct gguf_kv *kv, struct pd_err *err)
{
    char shown[SHOW_BUF];
    size_t at = r->at;
    uint32_t elem = 0;
    int rc;

    rc = read_u32(r, "an array's header", &elem, err);
    if (rc < 0)
        return rc;
    rc = read_u64(r, "an array's header", &kv->n, err);
    if (rc < 0)
        return rc;
    if (elem >= GGUF_N_TYPES)
        return pd_fail(err, PD_EFORMAT, "key '%s' at byte %zu: an array of the unknown type %u",
                       show(kv->key, shown), at, elem);
    if (elem == GGUF_ARR)
        return pd_fail(err, PD_EFORMAT, "key '%s' at byte %zu: arrays of arrays are not supported",
                       show(kv->key, shown), at);
    kv->elem = (enum gguf_type)elem;
    kv->data = r->bytes + r->at;
    if (elem != GGUF_STR) {
        if (kv->n > left(r) / types[elem].bytes)
            return pd_fail(err, PD_EFORMAT,
                           "key '%s' at byte %zu: an array of %llu %s does not fit into the %zu "
                           "bytes left; the file "
                           "is truncated or damaged",
                           show(kv->key, shown), at, (unsigned long long)kv->n, types[elem].name,
                           left(r));
        rc = need(r, (size_t)kv->n * types[elem].bytes, "an array", err);
        if (rc < 0)
            return rc;
        r->at += (size_t)kv->n * types[elem].bytes;
        return elem == GGUF_BOOL ? check_bools(kv->data, kv->n, kv->key, at, err) : 0;
    }
    if (kv->n > left(r) / 8)
        return pd_fail(err, PD_EFORMAT,
                       "key '%s' at byte %zu: an array of %llu strings does not fit into the %zu "
                       "bytes left; the file "
                       "is truncated or damaged",
                       show(kv->key, shown), at, (unsigned long long)kv->n, left(r));
    if (kv->n == 0)
        return 0;
    kv->strs = calloc((size_t)kv->n, sizeof(*kv->strs));
    if (!kv->strs)
        return pd_fail(err, PD_ENOMEM, "out of memory for the %llu strings of key '%s'",
                       (unsigned long long)kv->n, show(kv->key, shown));
    for (uint64_t i = 0; i < kv->n; i++) {
        rc = read_str(r, "an array of strings", &kv->strs[i], err);
        if (rc < 0) {
            pd_err_context(err, "key '%s', item %llu", show(kv->key, shown), (unsigned long long)i);
            return rc;
        }
    }
    return 0;
}

static int read_kv(struct reader *r, size_t i, struct gguf_kv *kv, struct pd_err *err)
{
    char shown[SHOW_BUF];
    size_t at;
    uint32_t type = 0;
    int rc;

    rc = read_name(r, "key", i, &kv->key, err);
    if (rc < 0)
        return rc;
    at = r->at;
    rc = read_u32(r, "a key's type", &type, err);
    if (rc < 0)
        return rc;
    if (type >= GGUF_N_TYPES)
        return pd_fail(err, PD_EFORMAT, "key '%s' at byte %zu has the unknown value type %u",
                       show(kv->key, shown), at, type);
    kv->type = (enum gguf_type)type;
    if (type == GGUF_ARR)
        return read_array(r, kv, err);
    kv->data = r->bytes + r->at;
    if (type == GGUF_STR) {
        rc = read_str(r, "a string value", &kv->str, err);
        if (rc < 0)
            pd_err_context(err, "key '%s'", show(kv->key, shown));
        else
            kv->data = (const uint8_t *)kv->str.ptr;
        return rc;
    }
    rc = need(r, types[type].bytes, "a value", err);
    if (rc < 0) {
        pd_err_context(err, "key '%s'", show(kv->key, shown));
        return rc;
    }
    r->at += types[type].bytes;
    return type == GGUF_BOOL ? check_bools(kv->data, 1, kv->key, at, err) : 0;
}

/* A directory entry; its data pointer is set by place_tensors. */
static int read_tensor(struct reader *r, size_t i, struct gguf_tensor *t, uint64_t *out_offset,
                       struct pd_err *err)
{
    char shown[SHOW_BUF];
    const struct eng_quant *q;
    uint64_t n = 1, bytes;
    size_t at;
    int rc;

    rc = read_name(r, "tensor name", i, &t->name, err);
    if (rc < 0)
        return rc;
    at = r->at;
    rc = read_u32(r, "a tensor's entry", &t->n_dims, err);
    if (rc < 0)
        return rc;
    if (t->n_dims < 1 || t->n_dims > 4)
        return pd_fail(err, PD_EFORMAT,
                       "tensor '%s' at byte %zu has %u dimensions; 1 to 4 are possible",
                       show(t->name, shown), at, t->n_dims);
    for (uint32_t d = 0; d < 4; d++)
        t->dims[d] = 1;
    for (uint32_t d = 0; d < t->n_dims; d++) {
        rc = read_u64(r, "a tensor's entry", &t->dims[d], err);
        if (rc < 0)
            return rc;
        if (t->dims[d] == 0)
            return pd_fail(err, PD_EFORMAT, "tensor '%s' at byte %zu: dimension %u is 0",
                           show(t->name, shown), at, d);
        if (__builtin_mul_overflow(n, t->dims[d], &n) || n > INT64_MAX)
            return pd_fail(err, PD_EFORMAT,
                           "tensor '%s' at byte %zu: its dimensions multiply to more than 2^63",
                           show(t->name, shown), at);
    }
    rc = read_u32(r, "a tensor's entry", &t->type, err);
    if (rc < 0)
        return rc;
    rc = read_u64(r, "a tensor's entry", out_offset, err);
    if (rc < 0)
        return rc;
    q = eng_quant_find(t->type);
    if (!q) {
        const char *name =
            t->type < sizeof(ggml_names) / sizeof(*ggml_names) ? ggml_names[t->type] : "unknown";

        return pd_fail(err, PD_EFORMAT,
                       "tensor '%s' has type %s (%u), which this build cannot read; use a file of "
                       "another quantisation",
                       show(t->name, shown), name, t->type);
    }
    if (t->dims[0] % q->block_elems != 0)
        return pd_fail(err, PD_EFORMAT,
                       "tensor '%s' has rows of %llu elements, not a multiple of %s's block of %u",
                       show(t->name, shown), (unsigned long long)t->dims[0], q->name,
                       q->block_elems);
    if (__builtin_mul_overflow(n / q->block_elems, (uint64_t)q->block_bytes, &bytes) ||
        bytes > INT64_MAX)
        return pd_fail(err, PD_EFORMAT, "tensor '%s' at byte %zu would have more than 2^63 bytes",
                       show(t->name, shown), at);
    t->bytes = bytes;
    return 0;
}

static int compare_str(struct pd_str a, struct pd_str b)
{
    size_t n = a.len < b.len ? a.len : b.len;
    int c = n ? memcmp(a.ptr, b.ptr, n) : 0;

    return c ? c : (a.len > b.len) - (a.len < b.len);
}

static int compare_kvs(const void *a, const void *b)
{
    return compare_str((*(const struct gguf_kv *const *)a)->key,
                       (*(const struct gguf_kv *const *)b)->key);
}

static int compare_tensors(const void *a, const void *b)
{
    return compare_str((*(const struct gguf_tensor *const *)a)->name,
                       (*(const struct gguf_tensor *const *)b)->name);
}

static int compare_places(const void *a, const void *b)
{
    const struct gguf_tensor *x = *(const struct gguf_tensor *const *)a;
    const struct gguf_tensor *y = *(const struct gguf_tensor *const *)b;

    return (x->data > y->data) - (x->data < y->data);
}

static int index_kvs(struct file *f, struct pd_err *err)
{
    struct gguf *g = &f->g;
    char shown[SHOW_BUF];

    if (g->n_kvs == 0)
        return 0;
    f->kv_index = calloc(g->n_kvs, sizeof(*f->kv_index));
    if (!f->kv_index)
        return pd_fail(err, PD_ENOMEM, "out of memory for %zu keys", g->n_kvs);
    for (size_t i = 0; i < g->n_kvs; i++)
        f->kv_index[i] = &g->kvs[i];
    qsort(f->kv_index, g->n_kvs, sizeof(*f->kv_index), compare_kvs);
    for (size_t i = 1; i < g->n_kvs; i++) {
        if (pd_str_eq(f->kv_index[i - 1]->key, f->kv_index[i]->key))
            return pd_fail(err, PD_EFORMAT, "key '%s' is there twice; the file is damaged",
                           show(f->kv_index[i]->key, shown));
    }
    return 0;
}

static int read_alignment(struct gguf *g, struct pd_err *err)
{
    uint32_t a = ALIGNMENT_DEFAULT;
    int rc = gguf_u32(g, "general.alignment", &a, err);

    if (rc < 0)
        return rc;
    if (a < ALIGNMENT_MIN || a > ALIGNMENT_MAX || (a & (a - 1)) != 0)
        return pd_fail(err, PD_EFORMAT,
                       "general.alignment is %u; a power of two from %u to %u is needed", a,
                       ALIGNMENT_MIN, ALIGNMENT_MAX);
    g->alignment = a;
    return 0;
}

static int index_tensors(struct file *f, struct pd_err *err)
{
    size_t n = f->g.n_tensors;

    f->tensor_index = calloc(n, sizeof(*f->tensor_index));
    if (!f->tensor_index)
        return pd_fail(err, PD_ENOMEM, "out of memory for %zu tensors", n);
    for (size_t i = 0; i < n; i++)
        f->tensor_index[i] = &f->g.tensors[i];
    return 0;
}

/* Sorts the index by name. */
static int check_names(struct file *f, struct pd_err *err)
{
    char shown[SHOW_BUF];

    qsort(f->tensor_index, f->g.n_tensors, sizeof(*f->tensor_index), compare_tensors);
    for (size_t i = 1; i < f->g.n_tensors; i++) {
        if (pd_str_eq(f->tensor_index[i - 1]->name, f->tensor_index[i]->name))
            return pd_fail(err, PD_EFORMAT, "tensor '%s' is there twice; the file is damaged",
                           show(f->tensor_index[i]->name, shown));
    }
    return 0;
}

/* Offsets become pointers once each tensor is known to lie inside the file, then names are indexed
 * and the places checked against each other. */
static int place_tensors(struct file *f, const uint64_t *offsets, size_t header_bytes,
                         struct pd_err *err)
{
    struct gguf *g = &f->g;
    size_t n = g->n_tensors, pad = (g->alignment - header_bytes % g->alignment) % g->alignment,
           base;
    char a[SHOW_BUF], b[SHOW_BUF];
    int rc;

    if (n == 0)
        return 0; /* a vocabulary: the padding may be missing too */
    if (pad > g->map_bytes - header_bytes)
        return pd_fail(err, PD_EFORMAT,
                       "the file ends before the tensor data (byte %zu of %zu); it is truncated, "
                       "fetch it again",
                       header_bytes, g->map_bytes);
    base = header_bytes + pad;
    for (size_t i = 0; i < n; i++) {
        struct gguf_tensor *t = &g->tensors[i];
        size_t room = g->map_bytes - base;

        if (offsets[i] % g->alignment != 0)
            return pd_fail(err, PD_EFORMAT,
                           "tensor '%s' starts at offset %llu, not a multiple of the alignment %u",
                           show(t->name, a), (unsigned long long)offsets[i], g->alignment);
        if (offsets[i] > room || t->bytes > room - offsets[i])
            return pd_fail(err, PD_EFORMAT,
                           "tensor '%s' (offset %llu, %llu bytes) reaches past the end of the file "
                           "(%zu bytes of "
                           "tensor data); it is truncated, fetch it again",
                           show(t->name, a), (unsigned long long)offsets[i],
                           (unsigned long long)t->bytes, room);
        t->data = g->map + base + (size_t)offsets[i];
    }
    rc = index_tensors(f, err);
    if (rc < 0)
        return rc;
    qsort(f->tensor_index, n, sizeof(*f->tensor_index), compare_places);
    for (size_t i = 1; i < n; i++) {
        const struct gguf_tensor *prev = f->tensor_index[i - 1], *t = f->tensor_index[i];

        if (prev->bytes > (size_t)(t->data - prev->data))
            return pd_fail(err, PD_EFORMAT,
                           "tensors '%s' and '%s' overlap at byte %zu; the file is damaged",
                           show(prev->name, a), show(t->name, b), (size_t)(t->data - g->map));
    }
    return check_names(f, err);
}

static int read_header(struct reader *r, struct gguf *g, uint64_t *out_n_tensors,
                       uint64_t *out_n_kvs, struct pd_err *err)
{
    int rc = r->n < 4 ? 0 : need(r, 4, "the header", err);

    if (rc < 0)
        return rc;
    if (r->n < 4 || memcmp(r->bytes, "GGUF", 4) != 0)
        return pd_fail(err, PD_EFORMAT,
                       "not a GGUF file (it does not begin with 'GGUF'); give a GGUF model");
    r->at = 4;
    rc = read_u32(r, "the header", &g->version, err);
    if (rc < 0)
        return rc;
    if (g->version != 0 && (g->version & 0xffff) == 0)
        return pd_fail(err, PD_EFORMAT,
                       "a big-endian GGUF file; this build reads little-endian ones, convert it or "
                       "fetch the other");
    if (g->version != 2 && g->version != 3)
        return pd_fail(err, PD_EFORMAT,
                       "GGUF version %u; this build reads 2 and 3, convert the model again",
                       g->version);
    rc = read_u64(r, "the header", out_n_tensors, err);
    if (rc < 0)
        return rc;
    rc = read_u64(r, "the header", out_n_kvs, err);
    if (rc < 0)
        return rc;
    if (*out_n_kvs > left(r) / KV_MIN_BYTES)
        return pd_fail(err, PD_EFORMAT,
                       "%llu keys cannot fit into %zu bytes; the file is truncated or damaged",
                       (unsigned long long)*out_n_kvs, r->n);
    if (*out_n_tensors > left(r) / TENSOR_MIN_BYTES)
        return pd_fail(err, PD_EFORMAT,
                       "%llu tensors cannot fit into %zu bytes; the file is truncated or damaged",
                       (unsigned long long)*out_n_tensors, r->n);
    return 0;
}

static int parse(struct file *f, struct pd_err *err)
{
    struct gguf *g = &f->g;
    struct reader r = {f, g->map, g->map_bytes, 0};
    uint64_t n_tensors = 0, n_kvs = 0, *offsets = NULL;
    int rc;

    rc = read_header(&r, g, &n_tensors, &n_kvs, err);
    if (rc < 0)
        return rc;
    if (n_kvs) {
        g->kvs = calloc((size_t)n_kvs, sizeof(*g->kvs));
        if (!g->kvs)
            return pd_fail(err, PD_ENOMEM, "out of memory for %llu keys",
                           (unsigned long long)n_kvs);
        g->n_kvs = (size_t)n_kvs;
    }
    for (size_t i = 0; i < g->n_kvs; i++) {
        rc = read_kv(&r, i, &g->kvs[i], err);
        if (rc < 0)
            return rc;
    }
    rc = index_kvs(f, err);
    if (rc < 0)
        return rc;
    rc = read_alignment(g, err);
    if (rc < 0)
        return rc;
    if (n_tensors) {
        g->tensors = calloc((size_t)n_tensors, sizeof(*g->tensors));
        offsets = calloc((size_t)n_tensors, sizeof(*offsets));
        if (!g->tensors || !offsets) {
            rc = pd_fail(err, PD_ENOMEM, "out of memory for %llu tensors",
                         (unsigned long long)n_tensors);
            goto out;
        }
        g->n_tensors = (size_t)n_tensors;
    }
    for (size_t i = 0; i < g->n_tensors; i++) {
        rc = read_tensor(&r, i, &g->tensors[i], &offsets[i], err);
        if (rc < 0)
            goto out;
    }
    rc = place_tensors(f, offsets, r.at, err);
out:
    free(offsets);
    return rc;
}

/* Takes the place (unless NULL) also when it fails, its descriptor only when not. */
static int open_common(const char *path, void *place, int fd, const void *bytes, size_t n,
                       struct gguf **out, struct pd_err *err)
{
    struct file *f = calloc(1, sizeof(*f));
    int rc;

    if (!f || !(f->g.path = pd_str_dup(pd_str_of(path)))) {
        free(f);
        if (place)
            munmap(place, n);
        return pd_fail(err, PD_ENOMEM, "out of memory for '%s'", path);
    }
    f->place = place;
    f->fd = fd;
    f->g.map = bytes;
    f->g.map_bytes = n;
    rc = parse(f, err);
    if (rc < 0) {
        pd_err_context(err, "'%s'", path);
        f->fd = -1;
        gguf_close(&f->g);
        return rc;
    }
    *out = &f->g;
    return 0;
}

static int open_file(const char *path, struct gguf **out, struct pd_err *err)
{
    struct stat st;
    void *place;
    int fd, rc;

    fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a FIFO must not block us */
    if (fd < 0)
        return pd_fail_errno(err, errno, "cannot open '%s'", path);
    if (fstat(fd, &st) < 0) {
        rc = pd_fail_errno(err, errno, "cannot stat '%s'", path);
        goto out;
    }
    if (S_ISDIR(st.st_mode)) {
        rc = pd_fail(err, PD_EFORMAT, "'%s' is a directory; give the path of a GGUF file", path);
        goto out;
    }
    if (!S_ISREG(st.st_mode)) {
        rc = pd_fail(err, PD_EFORMAT, "'%s' is not a regular file; give the path of a GGUF file",
                     path);
        goto out;
    }
    if (st.st_size == 0) {
        rc = pd_fail(err, PD_EFORMAT, "'%s' is empty; give the path of a GGUF file", path);
        goto out;
    }
    place = mmap(NULL, (size_t)st.st_size, PROT_READ | PROT_WRITE,
                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (place == MAP_FAILED) {
        rc = pd_fail_errno(err, errno, "no room for the %lld bytes of '%s'", (long long)st.st_size,
                           path);
        goto out;
    }
    rc = open_common(path, place, fd, place, (size_t)st.st_size, out, err);
    if (rc == 0) {
        ((struct file *)(void *)*out)->stat = st;
        return 0;
    }
out:
    close(fd);
    return rc;
}

int gguf_unchanged(const struct gguf *g, struct pd_err *err)
{
    for (; g; g = g->next) {
        const struct file *f = (const struct file *)(const void *)g;
        struct stat now;

        if (f->fd < 0)
            continue;
        if (fstat(f->fd, &now) < 0)
            return pd_fail_errno(err, errno, "cannot stat '%s'", g->path);
        if (now.st_size != f->stat.st_size || now.st_mtim.tv_sec != f->stat.st_mtim.tv_sec ||
            now.st_mtim.tv_nsec != f->stat.st_mtim.tv_nsec)
            return pd_fail(err, PD_EIO,
                           "the file was written to while it was read; put a new model in place by "
                           "renaming it, and try again");
    }
    return 0;
}

/* ---- split models
 * -------------------------------------------------------------------------------- */

struct split {
    uint32_t no, count, n_tensors; /* n_tensors: of all parts; 0: not said */
};

static int read_split(const struct gguf *g, struct split *out, struct pd_err *err)
{
    struct split s = {.count = 1};
    int rc = gguf_u32(g, "split.count", &s.count, err);

    if (rc >= 0)
        rc = gguf_u32(g, "split.no", &s.no, err);
    if (rc >= 0)
        rc = gguf_u32(g, "split.tensors.count", &s.n_tensors, err);
    if (rc < 0)
        pd_err_context(err, "'%s'", g->path);
    *out = s;
    return rc < 0 ? rc : 0;
}

/* That the first part, at path, is named so that the others can be found. */
static int check_first(const char *path, const struct split *s, struct eng_part *out,
                       struct pd_err *err)
{
    bool named = eng_model_part(path, out) && out->count == s->count;
    char *first;
    int rc;

    if (s->count > PARTS_MAX)
        return pd_fail(err, PD_EFORMAT, "'%s' is one of %u parts; at most %u are possible", path,
                       s->count, PARTS_MAX);
    if (s->no == 0 && named && out->no == 1)
        return 0;
    if (s->no == 0 || !named)
        return pd_fail(err, PD_EFORMAT,
                       "'%s' is part %u of %u of a split model, but its name does not end in "
                       "-%05u-of-%05u.gguf: give the parts their names again",
                       path, s->no + 1, s->count, s->no + 1, s->count);
    first = eng_model_part_path(out, 1);
    rc = pd_fail(err, PD_EFORMAT, "'%s' is part %u of %u of a split model: give the first, '%s'",
                 path, s->no + 1, s->count, first ? first : "");
    free(first);
    return rc;
}

static int open_part(const struct gguf *first, const struct split *s, const struct eng_part *name,
                     uint32_t no, struct gguf **out, struct pd_err *err)
{
    char *path = eng_model_part_path(name, no + 1);
    struct gguf *g = NULL;
    struct split t;
    int rc = path ? open_file(path, &g, err) : pd_fail(err, PD_ENOMEM, "out of memory");

    if (rc == PD_ENOENT)
        rc = pd_fail(err, PD_ENOENT,
                     "part %u of %u of the model is missing: there is no '%s' beside the first",
                     no + 1, s->count, path);
    free(path);
    if (rc == 0)
        rc = read_split(g, &t, err);
    if (rc == 0 && (t.no != no || t.count != s->count || t.n_tensors != s->n_tensors))
        rc = pd_fail(err, PD_EFORMAT,
                     "'%s' is part %u of %u with %u tensors in all, where part %u of %u with %u of "
                     "the same model as '%s' is needed",
                     g->path, t.no + 1, t.count, t.n_tensors, no + 1, s->count, s->n_tensors,
                     first->path);
    if (rc < 0) {
        gguf_close(g);
        return rc;
    }
    *out = g;
    return 0;
}

/* The first part's tensors become those of all. */
static int join_tensors(struct file *f, const struct split *s, struct pd_err *err)
{
    struct gguf *g = &f->g;
    struct gguf_tensor *all;
    size_t n = 0, at = 0;
    int rc;

    for (const struct gguf *p = g; p; p = p->next)
        n += p->n_tensors;
    if (s->n_tensors != 0 && n != s->n_tensors)
        return pd_fail(err, PD_EFORMAT,
                       "the %u parts have %zu tensors, split.tensors.count says %u: they are not "
                       "of one model",
                       s->count, n, s->n_tensors);
    all = calloc(n + 1, sizeof(*all));
    if (!all)
        return pd_fail(err, PD_ENOMEM, "out of memory for %zu tensors", n);
    for (struct gguf *p = g; p; p = p->next) {
        struct file *part = (struct file *)(void *)p;

        if (p->n_tensors)
            memcpy(all + at, p->tensors, p->n_tensors * sizeof(*all));
        at += p->n_tensors;
        free(p->tensors);
        free(part->tensor_index);
        p->tensors = NULL;
        part->tensor_index = NULL;
        p->n_tensors = 0;
    }
    g->tensors = all;
    g->n_tensors = n;
    rc = n ? index_tensors(f, err) : 0;
    if (rc == 0 && n)
        rc = check_names(f, err);
    return rc;
}

/* The other parts of a split model, which are where the first really is: it may be a link. */
static int open_parts(struct gguf *g, struct pd_err *err)
{
    struct gguf **next = &g->next;
    struct eng_part name;
    struct split s;
    char *real = NULL;
    int rc = read_split(g, &s, err);

    if (rc < 0 || s.count <= 1)
        return rc;
    if (!eng_model_part(g->path, &name))
        real = realpath(g->path, NULL);
    rc = check_first(real ? real : g->path, &s, &name, err);
    for (uint32_t no = 1; rc == 0 && no < s.count; no++) {
        rc = open_part(g, &s, &name, no, next, err);
        if (rc == 0)
            next = &(*next)->next;
    }
    free(real); /* name points into it */
    if (rc == 0) {
        rc = join_tensors((struct file *)(void *)g, &s, err);
        if (rc < 0)
            pd_err_context(err, "'%s'", g->path);
    }
    return rc;
}

bool eng_model_part(const char *path, struct eng_part *out)
{
    static const char form[] = "-00000-of-00000.gguf";
    size_t n = strlen(path), n_form = sizeof(form) - 1;
    const char *end = path + n - n_form;
    unsigned v[2] = {0}, k = 0;

    if (n <= n_form)
        return false;
    for (size_t i = 0; i < n_form; i++) {
        if (form[i] != '0' && end[i] != form[i])
            return false;
        if (form[i] == '0' && (end[i] < '0' || end[i] > '9'))
            return false;
        if (form[i] == '0')
            v[k] = 10 * v[k] + (unsigned)(end[i] - '0');
        k += i == 5; /* behind the first number */
    }
    if (v[0] < 1 || v[0] > v[1])
        return false;
    *out = (struct eng_part){{path, n - n_form}, v[0], v[1]};
    return true;
}

char *eng_model_part_path(const struct eng_part *p, unsigned no)
{
    char *path = malloc(p->stem.len + 64);

    if (path)
        snprintf(path, p->stem.len + 64, "%.*s-%05u-of-%05u.gguf", (int)p->stem.len, p->stem.ptr,
                 no, p->count);
    return path;
}

static int with_parts(int rc, struct gguf *g, struct gguf **out, struct pd_err *err)
{
    if (rc == 0)
        rc = open_parts(g, err);
    if (rc == 0)
        *out = g;
    else
        gguf_close(g);
    return rc;
}

int gguf_open(const char *path, struct gguf **out, struct pd_err *err)
{
    struct gguf *g = NULL;
    int rc = open_file(path, &g, err);

    return with_parts(rc, g, out, err);
}

int gguf_open_bytes(const void *bytes, size_t n, struct gguf **out, struct pd_err *err)
{
    struct gguf *g = NULL;
    int rc = open_common("(memory)", NULL, -1, bytes, n, &g, err);

    return with_parts(rc, g, out, err);
}

void gguf_close(struct gguf *g)
{
    while (g) {
        struct file *f = (struct file *)(void *)g;
        struct gguf *next = g->next;

        for (size_t i = 0; i < g->n_kvs; i++)
            free(g->kvs[i].strs);
        free(g->kvs);
        free(g->tensors);
        free(g->path);
        free(f->kv_index);
        free(f->tensor_index);
        if (f->place)
            munmap(f->place, g->map_bytes);
        if (f->fd >= 0)
            close(f->fd);
        free(f);
        g = next;
    }
}

uint64_t gguf_file_bytes(const struct gguf *g)
{
    uint64_t n = 0;

    for (; g; g = g->next)
        n += g->map_bytes;
    return n;
}

size_t gguf_bytes(const struct gguf *g)
{
    size_t n = 0;

    for (; g; g = g->next) {
        const struct file *f = (const struct file *)(const void *)g;

        n += sizeof(*f) + f->header_bytes + g->n_kvs * (sizeof(*g->kvs) + sizeof(void *)) +
             g->n_tensors * (sizeof(*g->tensors) + sizeof(void *));
        for (size_t i = 0; i < g->n_kvs; i++)
            n += g->kvs[i].strs ? (size_t)g->kvs[i].n * sizeof(*g->kvs[i].strs) : 0;
    }
    return n;
}

/* The part that they are in; NULL: borrowed bytes, or none of ours. */
static const struct file *file_of(const struct gguf *g, const void *place)
{
    const struct file *f;

    while (g &&
           ((const uint8_t *)place < g->map || (const uint8_t *)place >= g->map + g->map_bytes))
        g = g->next;
    f = (const struct file *)(const void *)g;
    return f && f->place ? f : NULL;
}

int gguf_fetch(const struct gguf *g, const void *place, size_t n, struct pd_err *err)
{
    const struct file *f = file_of(g, place);
    size_t at = f ? (size_t)((const uint8_t *)place - f->g.map) : 0;

    return f ? read_file(f, at, (char *)f->place + at, n, err) : 0;
}

int gguf_copy(const struct gguf *g, const void *place, size_t n, void *out, struct pd_err *err)
{
    const struct file *f = file_of(g, place);

    if (f)
        return read_file(f, (size_t)((const uint8_t *)place - f->g.map), out, n, err);
    memcpy(out, place, n);
    return 0;
}

const struct gguf_kv *gguf_find(const struct gguf *g, const char *key)
{
    const struct file *f = (const struct file *)(const void *)g;
    struct gguf_kv want = {.key = pd_str_of(key)};
    const struct gguf_kv *p = &want;
    const struct gguf_kv *const *hit;

    if (!f->kv_index)
        return NULL;
    hit = bsearch(&p, f->kv_index, g->n_kvs, sizeof(*f->kv_index), compare_kvs);
    return hit ? *hit : NULL;
}

const struct gguf_tensor *gguf_tensor(const struct gguf *g, const char *name)
{
    const struct file *f = (const struct file *)(const void *)g;
    struct gguf_tensor want = {.name = pd_str_of(name)};
    const struct gguf_tensor *p = &want;
    const struct gguf_tensor *const *hit;

    if (!f->tensor_index)
        return NULL;
    hit = bsearch(&p, f->tensor_index, g->n_tensors, sizeof(*f->tensor_index), compare_tensors);
    return hit ? *hit : NULL;
}

/* Any integer type as a sign and 64 bits: false when it is not one. */
static bool load_int(enum gguf_type type, const uint8_t *p, bool *out_negative, uint64_t *out)
{
    int64_t v = 0;
    uint64_t u = 0;

    switch (type) {
    case GGUF_U8:
    case GGUF_U16:
    case GGUF_U32:
    case GGUF_U64:
        memcpy(&u, p, types[type].bytes); /* little-endian: the low bytes */
        *out_negative = false;
        *out = u;
        return true;
    case GGUF_I8:
        v = (int8_t)p[0];
        break;
    case GGUF_I16: {
        int16_t x;
        memcpy(&x, p, 2);
        v = x;
        break;
    }
    case GGUF_I32: {
        int32_t x;
        memcpy(&x, p, 4);
        v = x;
        break;
    }
    case GGUF_I64:
        memcpy(&v, p, 8);
        break;
    default:
        return false;
    }
    *out_negative = v < 0;
    *out = (uint64_t)v;
    return true;
}

static int wrong_type(const struct gguf_kv *kv, const char *want, struct pd_err *err)
{
    char shown[SHOW_BUF];

    return pd_fail(err, PD_EFORMAT, "key '%s' has type %s where %s is needed", show(kv->key, shown),
                   types[kv->type].name, want);
}

int gguf_u32(const struct gguf *g, const char *key, uint32_t *out, struct pd_err *err)
{
    const struct gguf_kv *kv = gguf_find(g, key);
    bool negative;
    uint64_t v;

    if (!kv)
        return 0;
    if (!load_int(kv->type, kv->data, &negative, &v))
        return wrong_type(kv, "an integer", err);
    if (negative || v > UINT32_MAX)
        return pd_fail(err, PD_EFORMAT, "key '%s' is %s%llu, outside 0 to 2^32-1", key,
                       negative ? "-" : "", (unsigned long long)(negative ? 0 - v : v));
    *out = (uint32_t)v;
    return 1;
}

int gguf_f32(const struct gguf *g, const char *key, float *out, struct pd_err *err)
{
    const struct gguf_kv *kv = gguf_find(g, key);
    double v;

    if (!kv)
        return 0;
    if (kv->type == GGUF_F32) {
        memcpy(out, kv->data, 4);
        return 1;
    }
    if (kv->type != GGUF_F64)
        return wrong_type(kv, "f32", err);
    memcpy(&v, kv->data, 8);
    if (v > (double)FLT_MAX || v < -(double)FLT_MAX)
        return pd_fail(err, PD_EFORMAT, "key '%s' is %g, outside the range of f32", key, v);
    *out = (float)v;
    return 1;
}

int gguf_bool(const struct gguf *g, const char *key, bool *out, struct pd_err *err)
{
    const struct gguf_kv *kv = gguf_find(g, key);

    if (!kv)
        return 0;
    if (kv->type != GGUF_BOOL)
        return wrong_type(kv, "bool", err);
    *out = kv->data[0] != 0;
    return 1;
}

int gguf_str(const struct gguf *g, const char *key, struct pd_str *out, struct pd_err *err)
{
    const struct gguf_kv *kv = gguf_find(g, key);

    if (!kv)
        return 0;
    if (kv->type != GGUF_STR)
        return wrong_type(kv, "str", err);
    *out = kv->str;
    return 1;
}

/* Values outside 32 bits are clamped; bools and what is no integer read as 0. */
int32_t gguf_arr_i32(const struct gguf_kv *kv, uint64_t i)
{
    bool negative;
    uint64_t v;

    assert(kv->type == GGUF_ARR && i < kv->n);
    if (!load_int(kv->elem, kv->data + i * types[kv->elem].bytes, &negative, &v))
        return 0;
    if (negative)
        return (int64_t)v < INT32_MIN ? INT32_MIN : (int32_t)(int64_t)v;
    return v > INT32_MAX ? INT32_MAX : (int32_t)v;
}

float gguf_arr_f32(const struct gguf_kv *kv, uint64_t i)
{
    const uint8_t *p;
    double d;
    float f;

    assert(kv->type == GGUF_ARR && i < kv->n);
    p = kv->data + i * types[kv->elem].bytes;
    if (kv->elem == GGUF_F32) {
        memcpy(&f, p, 4);
        return f;
    }
    if (kv->elem == GGUF_F64) {
        memcpy(&d, p, 8);
        return d > (double)FLT_MAX || d < -(double)FLT_MAX ? (d > 0 ? FLT_MAX : -FLT_MAX)
                                                           : (float)d;
    }
    return (float)gguf_arr_i32(kv, i);
}
