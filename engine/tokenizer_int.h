/* The tokenizer's insides, shared by tokenizer.c and chat.c. Everything is immutable after
 * eng_tokenizer_new. */
#ifndef PD_ENGINE_TOKENIZER_INT_H
#define PD_ENGINE_TOKENIZER_INT_H

#include "engine/pretok.h"
#include "engine/tokenizer.h"

enum tok_type { TOK_NORMAL = 1, TOK_UNKNOWN, TOK_CONTROL, TOK_USER, TOK_UNUSED, TOK_BYTE };

struct tok_merge {
    int32_t left, right, merged;
};

struct tok_map { /* open addressing, power of two, at most half full; -1 is free */
    int32_t *slots;
    size_t mask;
};

struct tok_specials { /* ids, ascending by text: found by narrowing the range byte by byte */
    int32_t *ids;
    size_t n;
    bool first[256]; /* bytes that one of them starts with */
};

struct eng_tokenizer {
    struct pretok *pretok;
    uint32_t n_vocab;
    char *text;               /* exact bytes of all tokens, one behind the other */
    size_t *offsets;          /* [n_vocab + 1] into text */
    uint8_t *types;           /* enum tok_type */
    struct tok_map by_text;   /* exact text → id, the first one */
    struct tok_map by_pair;   /* (left, right) → rank */
    struct tok_merge *merges; /* [n_merges], by rank */
    uint32_t n_merges;
    int32_t bytes[256];
    struct tok_specials user, all; /* user-defined; and with control tokens */
    int32_t bos, eos, eot, eom;    /* -1: none */
    bool add_bos;
    char *chat_template; /* NULL: none */
};

static inline struct pd_str tok_text(const struct eng_tokenizer *t, int32_t id)
{
    return (struct pd_str){t->text + t->offsets[id], t->offsets[id + 1] - t->offsets[id]};
}

struct tok_run { /* bytes up to `end` that are all read the same way */
    size_t end;
    enum eng_parse parse;
};

/* As eng_tokenize, of a text whose parts are read in different ways but cut and merged as one:
 * control tokens are found where all their bytes are of one ENG_PARSE_SPECIAL run. The runs ascend,
 * no two neighbours are read alike, and the last ends where the text does. */
int tok_encode(const struct eng_tokenizer *t, struct pd_str text, const struct tok_run *runs,
               int32_t **io_ids, size_t *io_n, struct pd_err *err);

#endif
