/* Small vocabularies made up by a test, as GGUF files in memory; abort() when the test itself is
 * wrong. */
#ifndef PD_TESTS_VOCABULARY_H
#define PD_TESTS_VOCABULARY_H

#include "base/buf.h"
#include "engine/tokenizer.h"
#include "tests/gguf_builder.h"

#define VOCABULARY_MAX 2048

struct vocabulary {
    struct gb gb;                 /* keys may be added until it is opened */
    struct pd_buf tokens, merges; /* as a GGUF has them: lengths and bytes */
    int32_t types[VOCABULARY_MAX];
    float scores[VOCABULARY_MAX];
    uint32_t n_tokens, n_merges;
};

static inline void vocabulary_put(struct pd_buf *b, struct pd_str s)
{
    uint64_t n = s.len;

    pd_buf_add(b, &n, sizeof(n));
    if (pd_buf_adds(b, s) < 0)
        abort();
}

/* Appends bytes as byte-level BPE writes them: GPT-2's printable stand-ins. */
static inline void vocabulary_map(struct pd_buf *b, struct pd_str bytes)
{
    for (size_t i = 0; i < bytes.len; i++) {
        unsigned c = (unsigned char)bytes.ptr[i];
        unsigned cp = c <= 32 ? 256 + c : c >= 127 && c <= 160 ? 289 + c - 127 : c == 173 ? 323 : c;

        if (cp < 128) {
            pd_buf_addc(b, (char)cp);
        } else {
            pd_buf_addc(b, (char)(0xc0 | cp >> 6));
            pd_buf_addc(b, (char)(0x80 | (cp & 0x3f)));
        }
    }
}

/* A token as the file writes it; its id. type: 1 normal, 2 unknown, 3 control, 4 user-defined,
 * 5 unused, 6 byte. */
static inline int32_t vocabulary_add(struct vocabulary *v, struct pd_str written, int32_t type,
                                     float score)
{
    if (v->n_tokens == VOCABULARY_MAX)
        abort();
    vocabulary_put(&v->tokens, written);
    v->types[v->n_tokens] = type;
    v->scores[v->n_tokens] = score;
    return (int32_t)v->n_tokens++;
}

static inline void vocabulary_merge(struct vocabulary *v, struct pd_str written)
{
    vocabulary_put(&v->merges, written);
    v->n_merges++;
}

static inline void vocabulary_init(struct vocabulary *v, const char *model)
{
    v->tokens = (struct pd_buf)PD_BUF_INIT(1 << 24);
    v->merges = (struct pd_buf)PD_BUF_INIT(1 << 24);
    v->n_tokens = v->n_merges = 0;
    gb_init(&v->gb);
    gb_str(&v->gb, "tokenizer.ggml.model", model);
}

static inline void vocabulary_done(struct vocabulary *v)
{
    gb_done(&v->gb);
    pd_buf_done(&v->tokens);
    pd_buf_done(&v->merges);
}

/* Byte-level BPE: token b is byte b. */
static inline void vocabulary_init_bpe(struct vocabulary *v, const char *pre)
{
    vocabulary_init(v, "gpt2");
    gb_str(&v->gb, "tokenizer.ggml.pre", pre);
    for (unsigned b = 0; b < 256; b++) {
        struct pd_buf mapped = PD_BUF_INIT(2);

        vocabulary_map(&mapped, (struct pd_str){(const char[]){(char)b}, 1});
        vocabulary_add(v, pd_buf_str(&mapped), 1, 0);
        pd_buf_done(&mapped);
    }
}

/* SentencePiece BPE: 0 <unk>, 1 <s>, 2 </s>; byte b is token 3 + b, if wanted. */
static inline void vocabulary_init_spm(struct vocabulary *v, bool with_bytes)
{
    vocabulary_init(v, "llama");
    vocabulary_add(v, PD_STR("<unk>"), 2, 0);
    vocabulary_add(v, PD_STR("<s>"), 3, 0);
    vocabulary_add(v, PD_STR("</s>"), 3, 0);
    for (unsigned b = 0; b < 256 && with_bytes; b++) {
        char name[8];

        snprintf(name, sizeof(name), "<0x%02X>", b);
        vocabulary_add(v, pd_str_of(name), 6, 0);
    }
}

/* v is spent. */
static inline int vocabulary_open(struct vocabulary *v, struct eng_tokenizer **out,
                                  struct pd_err *err)
{
    struct gguf *g = NULL;
    uint8_t *bytes;
    size_t n;
    int rc;

    gb_arr(&v->gb, "tokenizer.ggml.tokens", GGUF_STR, v->n_tokens, v->tokens.data, v->tokens.len);
    gb_arr(&v->gb, "tokenizer.ggml.token_type", GGUF_I32, v->n_tokens, v->types,
           v->n_tokens * sizeof(*v->types));
    gb_arr(&v->gb, "tokenizer.ggml.scores", GGUF_F32, v->n_tokens, v->scores,
           v->n_tokens * sizeof(*v->scores));
    gb_arr(&v->gb, "tokenizer.ggml.merges", GGUF_STR, v->n_merges, v->merges.data, v->merges.len);
    bytes = gb_finish(&v->gb, &n);
    rc = gguf_open_bytes(bytes, n, &g, err);
    if (rc == 0)
        rc = eng_tokenizer_new(g, out, err);
    gguf_close(g);
    free(bytes);
    vocabulary_done(v);
    return rc;
}

#endif
