/* Heads beside a model, in the safetensors format: a length of 8 bytes, so much JSON that maps
 * names to {"dtype", "shape", "data_offsets"}, and the data. */
#include "engine/head.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "engine/engine.h"
#include "engine/gguf.h"
#include "engine/kernels.h"
#include "engine/shape.h"

#define LENGTH_BYTES     8
#define MAX_HEADER_BYTES ((uint64_t)1 << 20) /* thousands of tensors; a head has four */
#define METADATA         "__metadata__"
#define MAX_TENSORS      4

const struct eng_head_names eng_head_names[] = {
    {"cls", "cls.weight", "cls.bias", "cls.output.weight", "cls.output.bias", ENG_HEAD_TANH},
    /* Qwen2.5-Math-PRM: two linear layers with a ReLU between */
    {"mlp", "score.0.weight", "score.0.bias", "score.2.weight", "score.2.bias", ENG_HEAD_RELU},
    /* TRL's value head, as Skywork-o1-Open-PRM has it */
    {"value", NULL, NULL, "v_head.summary.weight", "v_head.summary.bias", ENG_HEAD_LINEAR},
    /* sequence classification */
    {"score", NULL, NULL, "score.weight", "score.bias", ENG_HEAD_LINEAR},
    {0},
};

struct tensor {
    const char *name;
    uint32_t type;       /* of GGML */
    uint64_t rows, cols; /* a vector has 1 row */
    uint32_t n_dims;
    struct pd_str data;
};

struct header {
    struct pd_json *json;
    struct tensor tensors[MAX_TENSORS];
    size_t n;
    struct pd_err *err;
};

static int bad(struct header *h, const char *name, const char *why)
{
    return pd_fail(h->err, PD_EFORMAT, "tensor '%.80s' of the head %s", name, why);
}

static int read_type(struct header *h, const struct pd_json *v, struct tensor *t)
{
    static const struct {
        const char *name;
        uint32_t type;
    } types[] = {{"F32", GGML_F32}, {"F16", GGML_F16}, {"BF16", GGML_BF16}};
    const char *name = pd_json_string(pd_json_get(v, "dtype"));

    for (size_t i = 0; name && i < sizeof(types) / sizeof(*types); i++) {
        if (strcmp(name, types[i].name) == 0) {
            t->type = types[i].type;
            return 0;
        }
    }
    return bad(h, t->name, "has a dtype other than F32, F16 and BF16");
}

static int read_shape(struct header *h, const struct pd_json *v, struct tensor *t)
{
    const struct pd_json *shape = pd_json_get(v, "shape");
    size_t n = pd_json_is_array(shape) ? pd_json_size(shape) : 0;
    int64_t dims[2] = {1, 1};

    if (n < 1 || n > 2)
        return bad(h, t->name, "has a shape that is neither [n] nor [rows, columns]");
    for (size_t i = 0; i < n; i++) {
        if (!pd_json_int(pd_json_at(shape, i), &dims[i + 2 - n]) || dims[i + 2 - n] < 1 ||
            dims[i + 2 - n] > ENG_MAX_DIM)
            return bad(h, t->name, "has an impossible extent in its shape");
    }
    t->rows = (uint64_t)dims[0];
    t->cols = (uint64_t)dims[1];
    t->n_dims = (uint32_t)n;
    return 0;
}

static int read_place(struct header *h, const struct pd_json *v, struct pd_str data,
                      struct tensor *t)
{
    const struct pd_json *offsets = pd_json_get(v, "data_offsets");
    uint64_t need = t->rows * t->cols * eng_quant_find(t->type)->block_bytes;
    int64_t begin, end;

    if (!pd_json_is_array(offsets) || pd_json_size(offsets) != 2 ||
        !pd_json_int(pd_json_at(offsets, 0), &begin) ||
        !pd_json_int(pd_json_at(offsets, 1), &end) || begin < 0 || end < begin ||
        (uint64_t)end > data.len)
        return bad(h, t->name, "lies outside the file");
    if ((uint64_t)(end - begin) != need)
        return bad(h, t->name, "has another number of bytes than its shape");
    t->data = pd_str_sub(data, (size_t)begin, (size_t)end);
    return 0;
}

/* The tensors cover the data, one behind the other: what nothing points to could be anything. */
static int check_cover(struct header *h, struct pd_str data)
{
    const char *at = data.ptr;

    for (size_t i = 0; i < h->n; i++) {
        size_t k = 0;

        while (k < h->n && h->tensors[k].data.ptr != at)
            k++;
        if (k == h->n)
            return pd_fail(
                h->err, PD_EFORMAT,
                "the tensors of the head overlap, or leave a gap at byte %zu of the data",
                (size_t)(at - data.ptr));
        at += h->tensors[k].data.len;
    }
    return at == data.ptr + data.len
               ? 0
               : pd_fail(h->err, PD_EFORMAT,
                         "%zu bytes behind the tensors of the head are no tensor's",
                         (size_t)(data.ptr + data.len - at));
}

static int read_header(struct header *h, struct pd_str bytes)
{
    uint64_t length = 0;
    struct pd_str data;
    int rc;

    for (size_t i = 0; i < LENGTH_BYTES && i < bytes.len; i++)
        length |= (uint64_t)(unsigned char)bytes.ptr[i] << 8 * i;
    if (bytes.len < LENGTH_BYTES || length > bytes.len - LENGTH_BYTES || length > MAX_HEADER_BYTES)
        return pd_fail(h->err, PD_EFORMAT,
                       "not a safetensors file: its header has %" PRIu64 " bytes, the file %zu",
                       length, bytes.len);
    rc = pd_json_parse(pd_str_sub(bytes, LENGTH_BYTES, LENGTH_BYTES + (size_t)length), &h->json,
                       h->err);
    if (rc < 0) {
        pd_err_context(h->err, "not a safetensors file: in its header");
        return rc;
    }
    if (!pd_json_is_object(h->json))
        return pd_fail(h->err, PD_EFORMAT, "not a safetensors file: its header is no object");
    data = pd_str_sub(bytes, LENGTH_BYTES + (size_t)length, bytes.len);
    for (const struct pd_json *v = pd_json_first(h->json); v && rc == 0; v = pd_json_next(v)) {
        struct tensor *t = &h->tensors[h->n];

        if (strcmp(pd_json_key(v), METADATA) == 0)
            continue;
        if (h->n == MAX_TENSORS)
            return pd_fail(h->err, PD_EFORMAT,
                           "the head has more than %d tensors: it is not one that this build knows",
                           MAX_TENSORS);
        t->name = pd_json_key(v);
        if ((rc = read_type(h, v, t)) == 0 && (rc = read_shape(h, v, t)) == 0)
            rc = read_place(h, v, data, t);
        h->n++;
    }
    return rc < 0 ? rc : check_cover(h, data);
}

static const struct tensor *find(const struct header *h, const char *name)
{
    for (size_t i = 0; name && i < h->n; i++) {
        if (strcmp(h->tensors[i].name, name) == 0)
            return &h->tensors[i];
    }
    return NULL;
}

/* t [rows, cols], or a vector of cols when rows is 0, as F32. NULL stays NULL. */
static int take(struct header *h, const struct tensor *t, uint64_t rows, uint64_t cols, float **out)
{
    uint64_t n;

    if (!t)
        return 0;
    if (t->n_dims != (rows ? 2 : 1) || t->cols != cols || (rows && t->rows != rows))
        return pd_fail(h->err, PD_EFORMAT,
                       rows ? "tensor '%.80s' of the head is [%" PRIu64 ", %" PRIu64
                              "], the model asks for [%" PRIu64 ", %" PRIu64 "]"
                            : "tensor '%.80s' of the head is [%" PRIu64 ", %" PRIu64
                              "], its matrix asks for %" PRIu64 "*[%" PRIu64 "]",
                       t->name, t->rows, t->cols, rows ? rows : 1, cols);
    n = t->rows * t->cols;
    *out = malloc(n * sizeof(**out));
    if (!*out)
        return pd_fail(h->err, PD_ENOMEM, "out of memory for the head");
    eng_quant_find(t->type)->dequant(t->data.ptr, *out, n);
    for (uint64_t i = 0; i < n; i++) {
        if (!isfinite((*out)[i]))
            return bad(h, t->name, "holds values that are no finite numbers");
    }
    return 0;
}

/* All tensors are those of names, and its inner matrix is there; that of the classes is *out. */
static bool is_layout(const struct header *h, const struct eng_head_names *names,
                      const struct tensor **out)
{
    const char *const known[] = {names->dense, names->dense_bias, names->out, names->out_bias};
    size_t n = 0;

    *out = find(h, names->out);
    for (size_t i = 0; i < MAX_TENSORS; i++)
        n += find(h, known[i]) != NULL;
    return *out && n == h->n && (!names->dense || find(h, names->dense));
}

static int take_tensors(struct header *h, uint32_t n_embd, struct eng_head_file *out)
{
    const struct eng_head_names *names = eng_head_names;
    const struct tensor *dense, *last = NULL;
    int rc;

    while (names->kind && !is_layout(h, names, &last))
        names++;
    if (!names->kind || !last)
        return pd_fail(h->err, PD_EFORMAT,
                       "the head has not the tensors of one that this build knows: cls.weight and "
                       "cls.output.weight, score.0.weight and score.2.weight, "
                       "v_head.summary.weight, or score.weight");
    dense = find(h, names->dense);
    out->names = names;
    out->n_embd = n_embd;
    out->n_mid = dense ? (uint32_t)dense->rows : n_embd;
    out->n_cls = (uint32_t)last->rows;
    if (last->rows > ENG_HEAD_MAX_CLASSES)
        return bad(h, last->name, "has more rows than a head has classes");
    rc = take(h, dense, out->n_mid, n_embd, &out->dense);
    if (rc == 0)
        rc = take(h, find(h, names->dense_bias), 0, out->n_mid, &out->dense_bias);
    if (rc == 0)
        rc = take(h, last, out->n_cls, out->n_mid, &out->out);
    if (rc == 0)
        rc = take(h, find(h, names->out_bias), 0, out->n_cls, &out->out_bias);
    return rc;
}

int eng_head_parse(struct pd_str bytes, uint32_t n_embd, struct eng_head_file *out,
                   struct pd_err *err)
{
    struct header h = {.err = err};
    struct eng_head_file f = {.bytes = PD_BUF_INIT(ENG_HEAD_MAX_BYTES)};
    int rc = read_header(&h, bytes);

    if (rc == 0)
        rc = take_tensors(&h, n_embd, &f);
    pd_json_free(h.json);
    if (rc < 0)
        eng_head_done(&f);
    else
        *out = f;
    return rc;
}

int eng_head_open(const char *path, uint32_t n_embd, struct eng_head_file *out, struct pd_err *err)
{
    struct pd_buf bytes = PD_BUF_INIT(ENG_HEAD_MAX_BYTES);
    int rc = pd_read_file(path, &bytes, err);

    if (rc == 0 && (rc = eng_head_parse(pd_buf_str(&bytes), n_embd, out, err)) < 0)
        pd_err_context(err, "'%s'", path);
    if (rc < 0)
        pd_buf_done(&bytes);
    else
        out->bytes = bytes; /* nothing was in it */
    return rc;
}

void eng_head_done(struct eng_head_file *h)
{
    free(h->dense);
    free(h->dense_bias);
    free(h->out);
    free(h->out_bias);
    pd_buf_done(&h->bytes);
    *h = (struct eng_head_file){0};
}

char *eng_head_path(const char *path)
{
    struct pd_str stem = pd_str_of(path);
    struct eng_part part;
    char *out;

    if (eng_model_part(path, &part))
        stem = part.stem;
    else if (pd_str_ends(stem, PD_STR(".gguf")))
        stem.len -= 5;
    out = malloc(stem.len + sizeof(ENG_HEAD_ENDING));
    if (out) {
        memcpy(out, stem.ptr, stem.len);
        memcpy(out + stem.len, ENG_HEAD_ENDING, sizeof(ENG_HEAD_ENDING));
    }
    return out;
}

int eng_head_beside(const char *path, const char *file, struct eng_model_info *info,
                    struct eng_head_file *out, struct pd_err *err)
{
    char *beside = file ? NULL : eng_head_path(path);
    int rc = 0;

    *out = (struct eng_head_file){0};
    if (!file && !beside)
        return pd_fail(err, PD_ENOMEM, "out of memory");
    if (file || pd_file_exists(beside))
        rc = eng_head_open(file ? file : beside, info->n_embd, out, err);
    if (rc == 0 && out->names && info->n_cls) {
        rc = pd_fail(err, PD_EFORMAT, "'%s' has a head of its own: '%s' cannot be another", path,
                     file ? file : beside);
        eng_head_done(out);
    } else if (rc == 0 && out->names) {
        info->head = out->names->kind;
        info->n_cls = out->n_cls;
    }
    free(beside);
    return rc;
}
