/* GGUF v2/v3 container: header, metadata, tensor directory; validated in full before anything is
 * handed out (counts, offsets, overflows, alignment, types, string and array bounds, tensors inside
 * the file and not overlapping). Knows nothing of models.
 *
 * The file has an address range of its size, of which the header is there after opening; tensors
 * are read into their place by gguf_fetch, or elsewhere by gguf_copy. Nothing is mapped: a file
 * that another process makes shorter is an error, not a signal. */
#ifndef PD_ENGINE_GGUF_H
#define PD_ENGINE_GGUF_H

#include "base/err.h"
#include "base/str.h"

enum gguf_type {
    GGUF_U8,
    GGUF_I8,
    GGUF_U16,
    GGUF_I16,
    GGUF_U32,
    GGUF_I32,
    GGUF_F32,
    GGUF_BOOL,
    GGUF_STR,
    GGUF_ARR,
    GGUF_U64,
    GGUF_I64,
    GGUF_F64,
    GGUF_N_TYPES
};

/* ggml tensor types that this build knows; sizes come from the quant table (quant.h). */
enum { GGML_F32 = 0, GGML_F16 = 1, GGML_Q4_0 = 2, GGML_Q8_0 = 8, GGML_BF16 = 30 };

struct gguf_kv {
    struct pd_str key;
    enum gguf_type type, elem; /* elem: of arrays (no arrays of arrays) */
    uint64_t n;                /* of arrays */
    const uint8_t *data;       /* value bytes (unaligned); arrays of strings: see gguf_arr_str */
    struct pd_str str;
    struct pd_str *strs; /* arrays of strings, index built at open */
};

struct gguf_tensor {
    struct pd_str name;
    uint32_t n_dims;
    uint64_t dims[4]; /* dims[0] is the contiguous one; absent dims are 1 */
    uint32_t type;
    const uint8_t *data; /* its place: see gguf_fetch */
    uint64_t bytes;
};

struct gguf { /* a file; of a split model the first, with the tensors of all */
    char *path;
    struct gguf *next; /* the next part of a split model, NULL: the last */
    const uint8_t *map;
    size_t map_bytes;
    uint32_t version, alignment;
    struct gguf_kv *kvs;
    size_t n_kvs;
    struct gguf_tensor *tensors;
    size_t n_tensors;
};

/* Of a split model (key split.count) the first part is opened, and the others found beside it. */
int gguf_open(const char *path, struct gguf **out, struct pd_err *err);
int gguf_open_bytes(const void *bytes, size_t n, struct gguf **out,
                    struct pd_err *err); /* borrowed; fuzzing */
/* Whether the file has been written to since it was opened: PD_EIO, as what was read is of no one
 * state then. Another file that took its name is no change. */
int gguf_unchanged(const struct gguf *g, struct pd_err *err);
void gguf_close(struct gguf *g);
uint64_t gguf_file_bytes(const struct gguf *g); /* all parts */
size_t gguf_bytes(const struct gguf *g);        /* of memory, tensors left out */
/* Reads bytes of the file into their place, or elsewhere. PD_EIO: they are no more there. Any
 * thread, but not two for the same place; does nothing to borrowed bytes. */
int gguf_fetch(const struct gguf *g, const void *place, size_t n, struct pd_err *err);
int gguf_copy(const struct gguf *g, const void *place, size_t n, void *out, struct pd_err *err);
const struct gguf_kv *gguf_find(const struct gguf *g, const char *key);
const struct gguf_tensor *gguf_tensor(const struct gguf *g, const char *name);
/* Typed reads: 1 found, 0 absent (out untouched), PD_EFORMAT wrong type or out of range. */
int gguf_u32(const struct gguf *g, const char *key, uint32_t *out, struct pd_err *err);
int gguf_f32(const struct gguf *g, const char *key, float *out, struct pd_err *err);
int gguf_bool(const struct gguf *g, const char *key, bool *out, struct pd_err *err);
int gguf_str(const struct gguf *g, const char *key, struct pd_str *out, struct pd_err *err);
int32_t gguf_arr_i32(const struct gguf_kv *kv,
                     uint64_t i); /* elements of integer arrays, widened */
float gguf_arr_f32(const struct gguf_kv *kv, uint64_t i);

#endif
