/* A grammar or a schema of foreign bytes: the first byte says which it is and how a text under it
 * is drawn. What can be drawn fits, token by token; the text can be finished, and then it fits as a
 * whole; and a schema's is JSON. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include "base/json.h"
#include "base/rng.h"
#include "engine/grammar.h"
#include "engine/tokenizer_int.h"
#include "tests/vocabulary.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes);

enum { MAX_BYTES = 4096, MAX_TOKENS = 24, MAX_LAST = 600, END = 256 };

static void check(bool ok)
{
    if (!ok)
        abort();
}

/* All bytes, some pieces of JSON, and the end. */
static const struct eng_tokenizer *tokenizer(void)
{
    static const char *const pieces[] = {"{\"",   "\":",  "\",\"", "[[",  "]]", "\"}",
                                         "tru",   "null", "12",    "},",  ", ", "ab",
                                         "\\u00", "aa",   "</",    "\xc3"};
    static struct eng_tokenizer *t;
    struct vocabulary v;

    if (t)
        return t;
    vocabulary_init_bpe(&v, "gpt-2");
    vocabulary_add(&v, PD_STR("<end>"), 3, 0);
    for (size_t i = 0; i < sizeof(pieces) / sizeof(*pieces); i++) {
        struct pd_buf mapped = PD_BUF_INIT(64);

        vocabulary_map(&mapped, pd_str_of(pieces[i]));
        vocabulary_add(&v, pd_buf_str(&mapped), 1, 0);
        pd_buf_done(&mapped);
    }
    gb_u32(&v.gb, "tokenizer.ggml.eos_token_id", END);
    check(vocabulary_open(&v, &t, NULL) == 0);
    return t;
}

/* One of the tokens that are allowed; `closing`: of those the first that brings an end near, by the
 * order in which they are asked for. */
static int32_t choose(const uint64_t *mask, int64_t n, uint64_t seed, uint64_t step, bool closing)
{
    static const char ends[] = "\"}]0e";
    int64_t k = (int64_t)(pd_rng_uniform(seed, step, 0) * (double)n);

    if (closing && mask[END / 64] >> (END % 64) & 1)
        return END;
    for (const char *c = ends; *c && closing && step % 3; c++)
        if (mask[*c / 64] >> (*c % 64) & 1)
            return *c;
    for (int32_t id = 0;; id++)
        if ((mask[id / 64] >> (id % 64) & 1) && k-- == 0)
            return id;
}

/* Draws a text; true: it has been finished. */
static bool draw(struct eng_grammar *g, uint64_t seed, struct pd_buf *out)
{
    const struct eng_tokenizer *t = tokenizer();
    uint64_t mask[8];
    struct grammar_text text;
    int32_t id = -1;

    check(grammar_mask_words(eng_n_vocab(t)) <= 8);
    check(grammar_text_init(&text, g, NULL) == 0);
    for (uint64_t step = 0; step < MAX_TOKENS + MAX_LAST && id != END; step++) {
        int64_t n = grammar_mask(&text, mask, eng_n_vocab(t), NULL);

        if (n == PD_ELIMIT || n == PD_ENOMEM)
            break;
        check(n > 0);
        id = choose(mask, n, seed, step, step >= MAX_TOKENS);
        if (id == END)
            break;
        pd_buf_adds(out, tok_text(t, id));
        if (grammar_text_add_token(&text, id, NULL) == PD_ELIMIT)
            break;
        check(!text.open);
    }
    check(id != END || grammar_text_whole(&text));
    grammar_text_done(&text);
    return id == END;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes)
{
    struct eng_grammar_spec spec = {.text = {(const char *)data + 1, n_bytes - 1}};
    struct eng_grammar *g = NULL;

    if (n_bytes == 0 || n_bytes > MAX_BYTES)
        return 0;
    spec.kind = data[0] & 1 ? ENG_GRAMMAR_SCHEMA : ENG_GRAMMAR_GBNF;
    spec.after = data[0] & 2 ? "</t>" : NULL;
    spec.begin = (data[0] & 6) == 6 ? "<t>" : NULL;
    if (eng_grammar_new(tokenizer(), &spec, &g, NULL) < 0)
        return 0;
    for (uint64_t seed = data[0]; seed < data[0] + UINT64_C(2); seed++) {
        struct pd_buf text = PD_BUF_INIT(SIZE_MAX / 2);
        struct pd_str json;
        enum eng_fit fit = ENG_FIT_NOT;
        bool ended = draw(g, seed, &text);

        check(pd_buf_rc(&text) == 0);
        if (eng_grammar_fit(g, pd_buf_str(&text), &fit, NULL) == 0)
            check(fit == ENG_FIT_WHOLE || (!ended && fit == ENG_FIT_BEGINS));
        json = pd_buf_str(&text);
        if (ended && spec.kind == ENG_GRAMMAR_SCHEMA && !spec.after) {
            struct pd_err err = {0};
            struct pd_json *v = NULL;

            /* valid, but for what pd_json does not take */
            if (pd_json_parse(json, &v, &err) < 0)
                check(strstr(err.text, "twice") || strstr(err.text, "deep") ||
                      strstr(err.text, "duplicate"));
            pd_json_free(v);
        }
        pd_buf_done(&text);
    }
    eng_grammar_unref(g);
    return 0;
}
