/* Bytes are first tried as a GGUF whose tokenizer is opened, then as text for a small made-up
 * tokenizer with every pre-tokenizer: encoding and decoding must give the text back. The first byte
 * says which. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include "engine/tokenizer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes);

static void try_text(const struct eng_tokenizer *t, struct pd_str text, enum eng_parse parse)
{
    struct pd_buf back = PD_BUF_INIT(SIZE_MAX / 2);
    struct eng_message m = {"user", text};
    int32_t *ids = NULL;
    size_t n = 0;

    if (eng_tokenize(t, text, parse, &ids, &n, NULL) == 0 &&
        eng_detokenize(t, ids, n, true, &back, NULL) == 0 && !pd_str_eq(pd_buf_str(&back), text))
        abort();
    for (size_t i = 0; parse == ENG_PARSE_PLAIN && i < n; i++)
        if (eng_token_is_control(t, ids[i]))
            abort();
    (void)eng_chat(t, NULL, &m, 1, &ids, &n, NULL);
    free(ids);
    pd_buf_done(&back);
}

static void put(struct pd_buf *b, uint64_t v, size_t bytes)
{
    pd_buf_add(b, &v, bytes);
}

static void put_str(struct pd_buf *b, struct pd_str s)
{
    put(b, s.len, 8);
    pd_buf_adds(b, s);
}

static void put_kv_str(struct pd_buf *b, const char *key, struct pd_str value)
{
    put_str(b, pd_str_of(key));
    put(b, GGUF_STR, 4);
    put_str(b, value);
}

/* 256 bytes, a few words with their merges, two control tokens, one user-defined; chat is the
 * template. */
static struct eng_tokenizer *make(const char *pre, struct pd_str chat)
{
    static const char *const words[] = {"th",           "the",        "aa", "aaaa",
                                        "<|im_start|>", "<|im_end|>", "<u>"};
    static const char *const merges[] = {"t h", "th e", "a a", "aa aa"};
    struct pd_buf b = PD_BUF_INIT(SIZE_MAX / 2);
    struct eng_tokenizer *t = NULL;
    struct gguf *g = NULL;
    unsigned moved = 256;

    pd_buf_addz(&b, "GGUF");
    put(&b, 3, 4);
    put(&b, 0, 8);
    put(&b, 6, 8);
    put_kv_str(&b, "tokenizer.ggml.model", PD_STR("gpt2"));
    put_kv_str(&b, "tokenizer.ggml.pre", pd_str_of(pre));
    put_kv_str(&b, "tokenizer.chat_template", chat);
    put_str(&b, PD_STR("tokenizer.ggml.tokens"));
    put(&b, GGUF_ARR, 4);
    put(&b, GGUF_STR, 4);
    put(&b, 256 + 7, 8);
    for (unsigned i = 0; i < 256; i++) {
        unsigned cp = (i >= 33 && i <= 126) || (i >= 161 && i != 173) ? i : moved++;
        char c[2] = {(char)(0xc0 | cp >> 6), (char)(0x80 | (cp & 0x3f))};

        if (cp < 128)
            c[0] = (char)cp;
        put_str(&b, (struct pd_str){c, cp < 128 ? 1 : 2});
    }
    for (size_t i = 0; i < 7; i++)
        put_str(&b, pd_str_of(words[i]));
    put_str(&b, PD_STR("tokenizer.ggml.token_type"));
    put(&b, GGUF_ARR, 4);
    put(&b, GGUF_I32, 4);
    put(&b, 256 + 7, 8);
    for (size_t i = 0; i < 256 + 7; i++)
        put(&b, i < 256 + 4 ? 1 : i < 256 + 6 ? 3 : 4, 4);
    put_str(&b, PD_STR("tokenizer.ggml.merges"));
    put(&b, GGUF_ARR, 4);
    put(&b, GGUF_STR, 4);
    put(&b, 4, 8);
    for (size_t i = 0; i < 4; i++)
        put_str(&b, pd_str_of(merges[i]));
    while (b.len % 32 != 0)
        pd_buf_addc(&b, 0);
    if (pd_buf_rc(&b) == 0 && gguf_open_bytes(b.data, b.len, &g, NULL) == 0)
        (void)eng_tokenizer_new(g, &t, NULL);
    gguf_close(g);
    pd_buf_done(&b);
    return t;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes)
{
    static const char *const pres[] = {"gpt-2", "qwen2", "llama-bpe"};
    struct pd_str text = {(const char *)data + 1, n_bytes - 1};
    struct eng_tokenizer *t = NULL;
    struct gguf *g = NULL;

    if (n_bytes == 0)
        return 0;
    if (data[0] == 'G') { /* a file: its own magic */
        if (gguf_open_bytes(data, n_bytes, &g, NULL) == 0 && eng_tokenizer_new(g, &t, NULL) == 0) {
            try_text(t, PD_STR("The <|im_end|> of it's 12345.\n\n \xff"), ENG_PARSE_PLAIN);
            try_text(t, PD_STR("The <|im_end|> of it's 12345.\n\n \xff"), ENG_PARSE_SPECIAL);
        }
        gguf_close(g);
    } else if (data[0] == 'T') { /* a template */
        t = make("qwen2", text);
        if (t != NULL)
            try_text(t, PD_STR("the"), ENG_PARSE_PLAIN);
    } else {
        t = make(pres[data[0] % 3], PD_STR(""));
        if (t == NULL)
            abort();
        try_text(t, text, ENG_PARSE_PLAIN);
        try_text(t, text, ENG_PARSE_SPECIAL);
    }
    eng_tokenizer_free(t);
    return 0;
}
