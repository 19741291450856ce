/* Bytes as a GGUF whose tokenizer is opened ('G', its magic), or as a vocabulary and a text for it:
 * the first byte names the family, the second how many words follow, each with its length and its
 * type before it; the rest is the text. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include "engine/tokenizer_int.h"
#include "tests/vocabulary.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes);

static const char *const families[] = {
    "gpt-2",        "qwen2",          "llama-bpe",        "dbrx",   "starcoder", "falcon",
    "deepseek-llm", "deepseek-coder", "tekken",           "gpt-4o", "llama2",    "gemma",
    "phi3",         "unknown",        "deepseek-r1-qwen", "refact", "mpt",       "smollm"};
enum { N_FAMILIES = sizeof(families) / sizeof(families[0]), FIRST_SPM = 10, LAST_SPM = 13 };
enum { QWEN2 = 1, MPT = 16 }; /* bring text to form C, which is another text */
enum { WORDS_MAX = 16, WORD_MAX = 15 };

static bool has(struct pd_str text, const char *what)
{
    return pd_str_find(text, pd_str_of(what)) >= 0;
}

/* exact: the vocabulary promises the text back. */
static void try_text(const struct eng_tokenizer *t, struct pd_str text, enum eng_parse parse,
                     bool exact)
{
    struct pd_buf back = PD_BUF_INIT(SIZE_MAX / 2);
    int32_t *ids = malloc(sizeof(*ids));
    size_t n = 1;

    if (ids == NULL)
        abort();
    ids[0] = 0; /* is what comes before, and stays */
    if (eng_tokenize(t, text, parse, &ids, &n, NULL) < 0 || n < 1 || ids[0] != 0)
        abort();
    n = 0;
    if (eng_tokenize(t, text, parse | ENG_PARSE_START, &ids, &n, NULL) < 0 ||
        eng_detokenize_whole(t, ids, n, true, &back, NULL) < 0)
        abort();
    if (exact && !pd_str_eq(pd_buf_str(&back), text))
        abort();
    for (size_t i = 0; i < n; i++)
        if ((uint32_t)ids[i] >= eng_n_vocab(t) ||
            (!(parse & ENG_PARSE_SPECIAL) && eng_token_is_control(t, ids[i]) &&
             ids[i] != t->unk)) /* what the vocabulary does not know */
            abort();
    free(ids);
    pd_buf_done(&back);
}

static void try_chat(const struct eng_tokenizer *t)
{
    struct pd_message m = {.role = "user", .content = PD_STR("the <|im_end|>")};
    int32_t *ids = NULL;
    size_t n = 0;

    (void)eng_chat(t, NULL, PD_CHAT(&m, 1), &ids, &n, NULL);
    free(ids);
}

static void try_file(const uint8_t *data, size_t n_bytes)
{
    const struct pd_str text = PD_STR("The <|im_end|> of it's 12345.\n\n \xff");
    struct eng_tokenizer *t = NULL;
    struct gguf *g = NULL;

    if (gguf_open_bytes(data, n_bytes, &g, NULL) == 0 && eng_tokenizer_new(g, &t, NULL) == 0) {
        bool exact = t->model == TOK_BPE;

        try_text(t, text, ENG_PARSE_PLAIN, exact);
        try_text(t, text, ENG_PARSE_SPECIAL, exact);
        try_chat(t);
    }
    eng_tokenizer_free(t);
    gguf_close(g);
}

/* A word and all that merging leads to on the way: its beginnings, by one byte or character more
 * each. */
static void add_word(struct vocabulary *v, bool bpe, struct pd_str word, int32_t type)
{
    struct pd_buf written = PD_BUF_INIT(1024);
    size_t first = bpe ? 1 : pd_utf8_len(word);

    if (type != 1 || first == 0) {
        vocabulary_add(v, word, type, 0);
        return;
    }
    for (size_t end = first, step; end < word.len && word.len > first; end += step) {
        step = bpe ? 1 : pd_utf8_len(pd_str_sub(word, end, word.len));
        if (step == 0)
            break;
        pd_buf_clear(&written);
        if (bpe) {
            vocabulary_map(&written, pd_str_sub(word, 0, end));
            pd_buf_addc(&written, ' ');
            vocabulary_map(&written, pd_str_sub(word, end, end + step));
            vocabulary_merge(v, pd_buf_str(&written));
            pd_buf_clear(&written);
            vocabulary_map(&written, pd_str_sub(word, 0, end + step));
        } else
            for (size_t i = 0; i < end + step; i++)
                pd_buf_addz(&written, word.ptr[i] == ' ' ? TOK_BLANK : (char[]){word.ptr[i], '\0'});
        vocabulary_add(v, pd_buf_str(&written), 1,
                       (float)((unsigned char)word.ptr[end] % 5) - (float)end);
    }
    pd_buf_done(&written);
}

static void try_vocabulary(unsigned family, const uint8_t *data, size_t n_bytes)
{
    bool bpe = family < FIRST_SPM || family > LAST_SPM, as_is = family != QWEN2 && family != MPT;
    bool prefix = family != 11, bytes = family != 13, user = false;
    struct pd_str text = {(const char *)data, n_bytes};
    struct vocabulary v;
    struct eng_tokenizer *t = NULL;
    unsigned n_words = n_bytes > 0 ? data[0] % (WORDS_MAX + 1) : 0;

    if (bpe)
        vocabulary_init_bpe(&v, families[family]);
    else {
        vocabulary_init_spm(&v, bytes);
        gb_str(&v.gb, "general.architecture", families[family]);
        gb_bool(&v.gb, "tokenizer.ggml.add_space_prefix", prefix);
    }
    text = pd_str_sub(text, 1, text.len);
    for (unsigned i = 0; i < n_words && text.len > 0; i++) {
        unsigned head = (unsigned char)text.ptr[0];
        int32_t type = head >> 4 == 0 ? 3 : head >> 4 == 1 ? 4 : 1;
        struct pd_str word = pd_str_sub(text, 1, 1 + head % (WORD_MAX + 1));

        user = user || type == 4;
        if (word.len > 0)
            add_word(&v, bpe, word, type);
        text = pd_str_sub(text, 1 + word.len, text.len);
    }
    if (vocabulary_open(&v, &t, NULL) < 0) {
        /* a merge that leads to a control token, or is too long a word */
        return;
    }
    try_text(t, text, ENG_PARSE_PLAIN,
             bpe ? as_is : bytes && !has(text, TOK_BLANK) && (family == 11 || !user));
    try_text(t, text, ENG_PARSE_SPECIAL, bpe && as_is);
    eng_tokenizer_free(t);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes)
{
    if (n_bytes == 0)
        return 0;
    if (data[0] == 'G')
        try_file(data, n_bytes);
    else
        try_vocabulary(data[0] % N_FAMILIES, data + 1, n_bytes - 1);
    return 0;
}
