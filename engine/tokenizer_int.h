/* The tokenizer's insides, shared by vocab.c, tokenizer.c and chat.c. Everything is immutable after
 * eng_tokenizer_new. */
#ifndef PD_ENGINE_TOKENIZER_INT_H
#define PD_ENGINE_TOKENIZER_INT_H

#include "engine/pretok.h"
#include "engine/tokenizer.h"

#define TOK_BLANK "\xe2\x96\x81" /* U+2581, which SentencePiece writes for a blank */

enum tok_type { TOK_NORMAL = 1, TOK_UNKNOWN, TOK_CONTROL, TOK_USER, TOK_UNUSED, TOK_BYTE };

enum tok_model {
    TOK_BPE, /* over bytes, within pieces of the pre-tokenizer, by a list of merges */
    TOK_SPM, /* SentencePiece BPE: over characters, by the scores of what is merged */
};

struct tok_merge {
    int32_t left, right, merged;
};

struct tok_map { /* open addressing, power of two, at most half full; id -1 is free */
    struct tok_slot {
        uint32_t hash;
        int32_t id;
    } * slots;
    size_t mask;
};

struct tok_specials { /* ids, ascending by text: found by narrowing the range byte by byte */
    int32_t *ids;
    size_t n;
    bool first[256]; /* bytes that one of them starts with */
};

/* What tokens are written as, as a tree; nodes come before what is behind them. */
struct tok_node {
    uint32_t end;   /* of what is behind it */
    uint32_t first; /* of its tokens, in ids */
    uint16_t n_ids, depth;
    uint8_t byte;
};

struct tok_tree {
    struct tok_node *nodes;
    int32_t *ids; /* of the tree, by text; then the control tokens */
    uint32_t n_nodes, n_ids, n_control;
};

struct eng_tokenizer {
    enum tok_model model;
    uint32_t n_vocab;
    char *text;                    /* exact bytes of all tokens, one behind the other */
    size_t *offsets;               /* [n_vocab + 1] into text */
    size_t max_bytes;              /* of the longest token */
    uint8_t *types;                /* enum tok_type */
    struct tok_map by_text;        /* exact text → id, the first one */
    int32_t bytes[256];            /* -1: SPM without byte tokens, which has unk instead */
    struct tok_specials user, all; /* user-defined; and with control tokens */
    int32_t bos, eos, unk;         /* -1: none */
    bool *ends;                    /* [n_vocab] generation ends here */
    bool add_bos;
    char *chat_template; /* NULL: none */
    _Atomic(struct tok_tree *) tree; /* NULL: nobody has asked for it */

    /* BPE */
    struct pretok *pretok;
    struct tok_map by_pair;   /* (left, right) → rank */
    struct tok_merge *merges; /* [n_merges], by rank */
    uint32_t n_merges;

    /* SPM */
    uint32_t *ranks;   /* [n_vocab] of the scores: the lowest is merged first */
    bool space_prefix; /* a blank goes before a text and behind each special token */
    bool rstrip;       /* Phi-3: most special tokens swallow the white space behind them */
    bool words;        /* no token has a blank behind anything else: words merge apart */
};

static inline struct pd_str tok_text(const struct eng_tokenizer *t, int32_t id)
{
    return (struct pd_str){t->text + t->offsets[id], t->offsets[id + 1] - t->offsets[id]};
}

/* never from plain text */
static inline bool tok_is_hidden(const struct eng_tokenizer *t, int32_t id)
{
    return t->types[id] == TOK_CONTROL || t->types[id] == TOK_UNKNOWN;
}

int32_t tok_find(const struct eng_tokenizer *t, struct pd_str text); /* -1: none */
/* The rank of a merge, -1: none. */
int32_t tok_find_merge(const struct eng_tokenizer *t, int32_t left, int32_t right);

/* The tree of the tokens that are text, made when somebody asks for it; any thread. NULL: out of
 * memory. */
const struct tok_tree *tok_tree_of(const struct eng_tokenizer *t);
void tok_tree_free(struct tok_tree *tree);

/* Writes s with blanks for U+2581; out has room for s.len bytes. Returns how many were written. */
size_t tok_unescape(struct pd_str s, char *out);

struct tok_run { /* bytes up to `end` that are all read the same way */
    size_t end;
    enum eng_parse parse;
};

/* As eng_tokenize, of a text whose parts are read in different ways but cut and merged as one:
 * control tokens are found where all their bytes are of one ENG_PARSE_SPECIAL run. The runs ascend,
 * no two neighbours are read alike, and the last ends where the text does. ENG_PARSE_START counts
 * in the first run. */
int tok_encode(const struct eng_tokenizer *t, struct pd_str text, const struct tok_run *runs,
               int32_t **io_ids, size_t *io_n, struct pd_err *err);

#endif
