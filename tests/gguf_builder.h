/* Small GGUF files in memory, right or wrong on purpose. Keys and tensors are replaced by name when
 * they are added again; abort() when the test itself is wrong. */
#ifndef PD_TESTS_GGUF_BUILDER_H
#define PD_TESTS_GGUF_BUILDER_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/gguf.h"

#define GB_MAX 512

struct gb_kv {
    char *key;
    size_t key_bytes;
    uint32_t type;
    uint8_t *value;
    size_t value_bytes;
};
struct gb_tensor {
    char *name;
    uint32_t type, n_dims;
    uint64_t dims[4];
    uint64_t offset_plus1; /* 0: the next free place */
    size_t data_bytes;     /* bytes put into the file */
    uint8_t *data;         /* NULL: declared only, gb_head's caller writes the bytes */
};
struct gb {
    char magic[4];
    uint32_t version, alignment;
    uint64_t n_kvs_plus1, n_tensors_plus1; /* what the header says; 0: the truth */
    int keep_duplicates, no_padding;
    struct gb_kv kvs[GB_MAX];
    size_t n_kvs;
    struct gb_tensor tensors[GB_MAX];
    size_t n_tensors;
};

static inline void *gb_alloc(size_t n)
{
    void *p = calloc(1, n ? n : 1);

    if (!p)
        abort();
    return p;
}

static inline void *gb_dup(const void *p, size_t n)
{
    void *q = gb_alloc(n + 1);

    if (n)
        memcpy(q, p, n);
    return q;
}

static inline void gb_init(struct gb *b)
{
    *b = (struct gb){.magic = {'G', 'G', 'U', 'F'}, .version = 3, .alignment = 32};
}

static inline void gb_done(struct gb *b)
{
    for (size_t i = 0; i < b->n_kvs; i++) {
        free(b->kvs[i].key);
        free(b->kvs[i].value);
    }
    for (size_t i = 0; i < b->n_tensors; i++) {
        free(b->tensors[i].name);
        free(b->tensors[i].data);
    }
    b->n_kvs = b->n_tensors = 0;
}

static inline void gb_remove(struct gb *b, const char *name)
{
    for (size_t i = 0; i < b->n_kvs; i++) {
        if (strcmp(b->kvs[i].key, name) == 0) {
            free(b->kvs[i].key);
            free(b->kvs[i].value);
            memmove(&b->kvs[i], &b->kvs[i + 1], (--b->n_kvs - i) * sizeof(b->kvs[0]));
            return;
        }
    }
    for (size_t i = 0; i < b->n_tensors; i++) {
        if (strcmp(b->tensors[i].name, name) == 0) {
            free(b->tensors[i].name);
            free(b->tensors[i].data);
            memmove(&b->tensors[i], &b->tensors[i + 1],
                    (--b->n_tensors - i) * sizeof(b->tensors[0]));
            return;
        }
    }
}

/* value: the bytes behind the type */
static inline void gb_raw_n(struct gb *b, const char *key, size_t key_bytes, uint32_t type,
                            const void *value, size_t n)
{
    if (!b->keep_duplicates)
        gb_remove(b, key);
    if (b->n_kvs == GB_MAX)
        abort();
    b->kvs[b->n_kvs++] =
        (struct gb_kv){gb_dup(key, key_bytes), key_bytes, type, gb_dup(value, n), n};
}

static inline void gb_raw(struct gb *b, const char *key, uint32_t type, const void *value, size_t n)
{
    gb_raw_n(b, key, strlen(key), type, value, n);
}

static inline void gb_u32(struct gb *b, const char *key, uint32_t v)
{
    gb_raw(b, key, GGUF_U32, &v, sizeof(v));
}

static inline void gb_f32(struct gb *b, const char *key, float v)
{
    gb_raw(b, key, GGUF_F32, &v, sizeof(v));
}

static inline void gb_bool(struct gb *b, const char *key, uint8_t v)
{
    gb_raw(b, key, GGUF_BOOL, &v, sizeof(v));
}

static inline void gb_str_n(struct gb *b, const char *key, const void *s, size_t len)
{
    uint64_t n = len;
    uint8_t *v = gb_alloc(8 + len);

    memcpy(v, &n, 8);
    memcpy(v + 8, s, len);
    gb_raw(b, key, GGUF_STR, v, 8 + len);
    free(v);
}

static inline void gb_str(struct gb *b, const char *key, const char *s)
{
    gb_str_n(b, key, s, strlen(s));
}

static inline void gb_arr(struct gb *b, const char *key, uint32_t elem, uint64_t n,
                          const void *items, size_t bytes)
{
    uint8_t *v = gb_alloc(12 + bytes);

    memcpy(v, &elem, 4);
    memcpy(v + 4, &n, 8);
    if (bytes)
        memcpy(v + 12, items, bytes);
    gb_raw(b, key, GGUF_ARR, v, 12 + bytes);
    free(v);
}

static inline void gb_strs(struct gb *b, const char *key, const char *const *items, size_t n)
{
    size_t bytes = 0, at = 0;
    uint8_t *v;

    for (size_t i = 0; i < n; i++)
        bytes += 8 + strlen(items[i]);
    v = gb_alloc(bytes);
    for (size_t i = 0; i < n; i++) {
        uint64_t len = strlen(items[i]);

        memcpy(v + at, &len, 8);
        memcpy(v + at + 8, items[i], len);
        at += 8 + (size_t)len;
    }
    gb_arr(b, key, GGUF_STR, n, v, bytes);
    free(v);
}

/* A tensor without its bytes. */
static inline struct gb_tensor *gb_declare(struct gb *b, const char *name, uint32_t type,
                                           uint32_t n_dims, const uint64_t *dims, size_t bytes)
{
    struct gb_tensor *t;

    if (!b->keep_duplicates)
        gb_remove(b, name);
    if (b->n_tensors == GB_MAX)
        abort();
    t = &b->tensors[b->n_tensors++];
    *t = (struct gb_tensor){.name = gb_dup(name, strlen(name)),
                            .type = type,
                            .n_dims = n_dims,
                            .dims = {1, 1, 1, 1},
                            .data_bytes = bytes};
    memcpy(t->dims, dims, n_dims * sizeof(*dims));
    return t;
}

/* rows 0: a vector of cols. F32 elements are 1, other bytes 0x3c (binary16: about 1). */
static inline struct gb_tensor *gb_tensor(struct gb *b, const char *name, uint32_t type,
                                          uint64_t rows, uint64_t cols)
{
    uint64_t n = cols * (rows ? rows : 1);
    size_t bytes = (size_t)(type == GGML_F32 ? 4 * n : type == GGML_Q8_0 ? n / 32 * 34 : 2 * n);
    struct gb_tensor *t =
        gb_declare(b, name, type, rows ? 2 : 1, (const uint64_t[]){cols, rows}, bytes);

    t->data = gb_alloc(t->data_bytes);
    memset(t->data, 0x3c, t->data_bytes);
    for (uint64_t i = 0; type == GGML_F32 && i < n; i++)
        memcpy(t->data + 4 * i, &(float){1}, 4);
    return t;
}

static inline struct gb_tensor *gb_get(struct gb *b, const char *name)
{
    for (size_t i = 0; i < b->n_tensors; i++) {
        if (strcmp(b->tensors[i].name, name) == 0)
            return &b->tensors[i];
    }
    abort();
}

static inline uint8_t *gb_put(uint8_t *p, const void *v, size_t n)
{
    if (n)
        memcpy(p, v, n);
    return p + n;
}

/* Where the next tensor's bytes begin, behind bytes that end at `end`. */
static inline uint64_t gb_align(const struct gb *b, uint64_t end)
{
    return (end + b->alignment - 1) / b->alignment * b->alignment;
}

/* The file up to the first tensor's bytes, malloc'ed with room_bytes to spare. */
static inline uint8_t *gb_head(const struct gb *b, size_t room_bytes, size_t *out_n)
{
    size_t cap = 24 + (size_t)b->alignment + room_bytes;
    uint64_t n, place = 0;
    uint8_t *bytes, *p;

    for (size_t i = 0; i < b->n_kvs; i++)
        cap += 12 + b->kvs[i].key_bytes + b->kvs[i].value_bytes;
    for (size_t i = 0; i < b->n_tensors; i++)
        cap += 24 + strlen(b->tensors[i].name) + 8 * (size_t)b->tensors[i].n_dims;
    bytes = p = gb_alloc(cap);
    p = gb_put(p, b->magic, 4);
    p = gb_put(p, &b->version, 4);
    n = b->n_tensors_plus1 ? b->n_tensors_plus1 - 1 : b->n_tensors;
    p = gb_put(p, &n, 8);
    n = b->n_kvs_plus1 ? b->n_kvs_plus1 - 1 : b->n_kvs;
    p = gb_put(p, &n, 8);
    for (size_t i = 0; i < b->n_kvs; i++) {
        const struct gb_kv *kv = &b->kvs[i];

        n = kv->key_bytes;
        p = gb_put(p, &n, 8);
        p = gb_put(p, kv->key, kv->key_bytes);
        p = gb_put(p, &kv->type, 4);
        p = gb_put(p, kv->value, kv->value_bytes);
    }
    for (size_t i = 0; i < b->n_tensors; i++) {
        const struct gb_tensor *t = &b->tensors[i];
        uint64_t offset = t->offset_plus1 ? t->offset_plus1 - 1 : place;

        n = strlen(t->name);
        p = gb_put(p, &n, 8);
        p = gb_put(p, t->name, (size_t)n);
        p = gb_put(p, &t->n_dims, 4);
        for (uint32_t d = 0; d < t->n_dims; d++)
            p = gb_put(p, &t->dims[d < 4 ? d : 3], 8);
        p = gb_put(p, &t->type, 4);
        p = gb_put(p, &offset, 8);
        if (!t->offset_plus1)
            place = gb_align(b, place + t->data_bytes);
    }
    if (b->n_tensors && !b->no_padding)
        p += (b->alignment - (size_t)(p - bytes) % b->alignment) % b->alignment;
    *out_n = (size_t)(p - bytes);
    return bytes;
}

/* The file's bytes, malloc'ed. */
static inline uint8_t *gb_finish(const struct gb *b, size_t *out_n)
{
    size_t room = 0, head;
    uint64_t place = 0;
    uint8_t *bytes, *p;

    for (size_t i = 0; i < b->n_tensors; i++)
        room += b->tensors[i].data_bytes + (size_t)b->alignment;
    bytes = gb_head(b, room, &head);
    p = bytes + head;
    for (size_t i = 0; i < b->n_tensors; i++) {
        const struct gb_tensor *t = &b->tensors[i];

        if (t->offset_plus1)
            continue;
        p = gb_put(bytes + head + place, t->data, t->data_bytes);
        place = gb_align(b, place + t->data_bytes);
    }
    *out_n = (size_t)(p - bytes);
    return bytes;
}

/* The 256 byte tokens of byte-level BPE, then "<eos>" (control). */
static inline void gb_vocabulary(struct gb *b)
{
    static char text[256][3];
    const char *tokens[257];
    int32_t kinds[257];
    unsigned next = 256;

    for (unsigned c = 0; c < 256; c++) {
        int shown = (c >= 0x21 && c <= 0x7e) || (c >= 0xa1 && c <= 0xac) || c >= 0xae;
        unsigned u = shown ? c : next++;

        if (u < 0x80)
            snprintf(text[c], sizeof(text[c]), "%c", (char)u);
        else
            snprintf(text[c], sizeof(text[c]), "%c%c", (char)(0xc0 | u >> 6),
                     (char)(0x80 | (u & 0x3f)));
        tokens[c] = text[c];
        kinds[c] = 1;
    }
    tokens[256] = "<eos>";
    kinds[256] = 3;
    gb_str(b, "tokenizer.ggml.model", "gpt2");
    gb_str(b, "tokenizer.ggml.pre", "qwen2");
    gb_strs(b, "tokenizer.ggml.tokens", tokens, 257);
    gb_arr(b, "tokenizer.ggml.token_type", GGUF_I32, 257, kinds, sizeof(kinds));
    gb_strs(b, "tokenizer.ggml.merges", (const char *const[]){"a b"}, 0);
    gb_u32(b, "tokenizer.ggml.eos_token_id", 256);
    gb_bool(b, "tokenizer.ggml.add_bos_token", 0);
}

/* A whole llama with one layer: n_embd 8, 2 heads of 4, 1 kv head, n_ff 16, 257 tokens, all F32,
 * tied. */
static inline void gb_llama(struct gb *b)
{
    gb_init(b);
    gb_str(b, "general.architecture", "llama");
    gb_str(b, "general.name", "speck");
    gb_u32(b, "llama.block_count", 1);
    gb_u32(b, "llama.context_length", 64);
    gb_u32(b, "llama.embedding_length", 8);
    gb_u32(b, "llama.feed_forward_length", 16);
    gb_u32(b, "llama.attention.head_count", 2);
    gb_u32(b, "llama.attention.head_count_kv", 1);
    gb_f32(b, "llama.attention.layer_norm_rms_epsilon", 1e-5f);
    gb_vocabulary(b);
    gb_tensor(b, "token_embd.weight", GGML_F32, 257, 8);
    gb_tensor(b, "output_norm.weight", GGML_F32, 0, 8);
    gb_tensor(b, "blk.0.attn_norm.weight", GGML_F32, 0, 8);
    gb_tensor(b, "blk.0.attn_q.weight", GGML_F32, 8, 8);
    gb_tensor(b, "blk.0.attn_k.weight", GGML_F32, 4, 8);
    gb_tensor(b, "blk.0.attn_v.weight", GGML_F32, 4, 8);
    gb_tensor(b, "blk.0.attn_output.weight", GGML_F32, 8, 8);
    gb_tensor(b, "blk.0.ffn_norm.weight", GGML_F32, 0, 8);
    gb_tensor(b, "blk.0.ffn_gate.weight", GGML_F32, 16, 8);
    gb_tensor(b, "blk.0.ffn_up.weight", GGML_F32, 16, 8);
    gb_tensor(b, "blk.0.ffn_down.weight", GGML_F32, 8, 16);
}

#endif
