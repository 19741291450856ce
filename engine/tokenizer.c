/* Text to tokens and back. Special tokens are found by longest match; the text between is merged
 * pair by pair: byte-level BPE (Sennrich et al., arXiv:1508.07909, over bytes as in GPT-2) merges
 * the pieces of the pre-tokenizer by the ranks of its merges, SentencePiece BPE (Kudo and
 * Richardson, arXiv:1808.06226) merges characters by the scores of its tokens. Both are one
 * algorithm, n log n in the longest piece. A tokenizer is immutable: any thread. */
#include "engine/tokenizer_int.h"

#include <stdlib.h>

/* Ids and places are 32 bits wide, and working memory is 44 bytes a byte of the longest piece. */
#define TEXT_MAX_BYTES ((size_t)64 << 20)

#define NONE UINT32_MAX

struct symbol {  /* of a piece that is being merged: a list in an array */
    uint32_t at; /* its first byte in the piece */
    uint32_t prev, next;
    int32_t id;   /* SPM: -1 while it is a character */
    int32_t pair; /* what merges it with the next, -1: nothing. BPE: a merge; SPM: a token */
};

struct encoder {
    const struct eng_tokenizer *t;
    struct pretok_iter *pieces; /* BPE */
    char *blanks;               /* SPM: a text whose blanks had to be written out */
    size_t blanks_cap;
    bool unknown; /* SPM: the last token is UNK for a character before */

    struct symbol *symbols;
    size_t symbols_cap;
    uint64_t
        *heap; /* rank << 32 | place of the left one: lowest rank first, of these the leftmost */
    size_t n_heap, heap_cap;

    int32_t *ids; /* the caller's */
    size_t n_ids, ids_cap;
};

/* p with room for n elements, possibly moved; NULL (and p as it was) without memory. */
static void *grown(void *p, size_t *cap, size_t n, size_t elem)
{
    size_t want = *cap > 0 ? *cap : 64;
    void *q;

    if (n <= *cap)
        return p;
    while (want < n)
        want *= 2;
    q = realloc(p, want * elem);
    if (q != NULL)
        *cap = want;
    return q;
}

/* Room for a piece of n bytes: as many symbols and new ids, and n - 1 pairs at first, then two for
 * each of at most n - 1 merges. */
static int make_room(struct encoder *e, size_t n, struct pd_err *err)
{
    void *p;

    if ((p = grown(e->symbols, &e->symbols_cap, n, sizeof(*e->symbols))) == NULL)
        goto no_memory;
    e->symbols = p;
    if ((p = grown(e->heap, &e->heap_cap, 3 * n, sizeof(*e->heap))) == NULL)
        goto no_memory;
    e->heap = p;
    if ((p = grown(e->ids, &e->ids_cap, e->n_ids + n, sizeof(*e->ids))) == NULL)
        goto no_memory;
    e->ids = p;
    return 0;
no_memory:
    return pd_fail(err, PD_ENOMEM, "out of memory");
}

static void emit(struct encoder *e, int32_t id)
{
    e->ids[e->n_ids++] = id;
    e->unknown = false;
}

/* ---- merging ------------------------------------------------------------------------------------
 */

static struct pd_str symbol_text(const struct encoder *e, struct pd_str piece, uint32_t from,
                                 uint32_t next)
{
    return pd_str_sub(piece, e->symbols[from].at, next != NONE ? e->symbols[next].at : piece.len);
}

/* What merges the symbol at place with the next, -1: nothing. */
static int32_t find_pair(const struct encoder *e, struct pd_str piece, uint32_t place)
{
    const struct eng_tokenizer *t = e->t;
    uint32_t next = e->symbols[place].next;
    struct pd_str text;
    int32_t id;

    if (next == NONE)
        return -1;
    if (t->model == TOK_BPE)
        return tok_find_merge(t, e->symbols[place].id, e->symbols[next].id);
    text = symbol_text(e, piece, place, e->symbols[next].next);
    if (text.len > t->max_bytes)
        return -1;
    id = tok_find(t, text);
    return id >= 0 && (t->types[id] == TOK_NORMAL || t->types[id] == TOK_USER) ? id : -1;
}

static uint32_t pair_rank(const struct eng_tokenizer *t, int32_t pair)
{
    return t->model == TOK_BPE ? (uint32_t)pair : t->ranks[pair];
}

static void push_pair(struct encoder *e, struct pd_str piece, uint32_t place)
{
    int32_t pair = find_pair(e, piece, place);
    uint64_t key;
    size_t i;

    e->symbols[place].pair = pair;
    if (pair < 0)
        return;
    key = (uint64_t)pair_rank(e->t, pair) << 32 | place;
    for (i = e->n_heap++; i > 0 && e->heap[(i - 1) / 2] > key; i = (i - 1) / 2)
        e->heap[i] = e->heap[(i - 1) / 2];
    e->heap[i] = key;
}

static uint64_t pop_pair(struct encoder *e)
{
    uint64_t top = e->heap[0], last = e->heap[--e->n_heap];
    size_t i = 0, child;

    while ((child = 2 * i + 1) < e->n_heap) {
        if (child + 1 < e->n_heap && e->heap[child + 1] < e->heap[child])
            child++;
        if (e->heap[child] >= last)
            break;
        e->heap[i] = e->heap[child];
        i = child;
    }
    e->heap[i] = last;
    return top;
}

/* The symbols of the piece are in place, in text order. */
static void merge(struct encoder *e, struct pd_str piece, uint32_t n)
{
    const struct eng_tokenizer *t = e->t;

    e->n_heap = 0;
    for (uint32_t i = 0; i < n; i++) {
        e->symbols[i].prev = i > 0 ? i - 1 : NONE;
        e->symbols[i].next = i + 1 < n ? i + 1 : NONE;
    }
    for (uint32_t i = 0; i < n; i++)
        push_pair(e, piece, i);
    while (e->n_heap > 0) {
        uint64_t key = pop_pair(e);
        uint32_t place = (uint32_t)key;
        struct symbol *left = &e->symbols[place], *right;

        /* A pair that is no more; one of the same rank and place that came since has this key, too,
         * and is due now. */
        if (left->pair < 0 || pair_rank(t, left->pair) != key >> 32)
            continue;
        right = &e->symbols[left->next];
        left->id = t->model == TOK_BPE ? t->merges[left->pair].merged : left->pair;
        right->pair = -1;
        left->next = right->next;
        if (left->next != NONE)
            e->symbols[left->next].prev = place;
        if (left->prev != NONE)
            push_pair(e, piece, left->prev);
        push_pair(e, piece, place);
    }
}

/* ---- byte-level BPE -----------------------------------------------------------------------------
 */

static int encode_bpe_piece(struct encoder *e, struct pd_str piece, struct pd_err *err)
{
    const struct eng_tokenizer *t = e->t;
    int rc = make_room(e, piece.len, err);

    if (rc < 0)
        return rc;
    if (piece.len == 1) {
        emit(e, t->bytes[(unsigned char)piece.ptr[0]]);
        return 0;
    }
    if (pretok_ignores_merges(t->pretok) && piece.len <= t->max_bytes) {
        int32_t id = tok_find(t, piece);

        if (id >= 0 && !tok_is_hidden(t, id)) {
            emit(e, id);
            return 0;
        }
    }
    for (uint32_t i = 0; i < piece.len; i++)
        e->symbols[i] = (struct symbol){.at = i, .id = t->bytes[(unsigned char)piece.ptr[i]]};
    merge(e, piece, (uint32_t)piece.len);
    for (uint32_t i = 0; i != NONE; i = e->symbols[i].next)
        emit(e, e->symbols[i].id);
    return 0;
}

static int encode_bpe(struct encoder *e, struct pd_str text, struct pd_err *err)
{
    struct pd_str piece;
    int rc = pretok_iter_set(e->pieces, text, err);

    while (rc >= 0 && (rc = pretok_iter_next(e->pieces, &piece, err)) > 0)
        if ((rc = encode_bpe_piece(e, piece, err)) < 0)
            break;
    return rc;
}

/* ---- SentencePiece BPE --------------------------------------------------------------------------
 */

/* A character that nothing was merged with. */
static void emit_character(struct encoder *e, struct pd_str text)
{
    const struct eng_tokenizer *t = e->t;
    int32_t id = tok_find(t, text);

    if (id >= 0 && (t->types[id] == TOK_NORMAL || t->types[id] == TOK_USER))
        emit(e, id);
    else if (t->bytes[0] >= 0)
        for (size_t i = 0; i < text.len; i++)
            emit(e, t->bytes[(unsigned char)text.ptr[i]]);
    else if (!e->unknown) { /* a run of them is one */
        emit(e, t->unk);
        e->unknown = true;
    }
}

static int encode_spm_piece(struct encoder *e, struct pd_str piece, struct pd_err *err)
{
    uint32_t n = 0;
    int rc = make_room(e, piece.len, err);

    if (rc < 0)
        return rc;
    for (size_t i = 0; i < piece.len; n++) {
        size_t len = pd_utf8_len(pd_str_sub(piece, i, piece.len));

        e->symbols[n] = (struct symbol){.at = (uint32_t)i, .id = -1};
        i += len > 0 ? len : 1; /* a byte that is not UTF-8 stands alone */
    }
    merge(e, piece, n);
    for (uint32_t i = 0, next; i != NONE; i = next) {
        next = e->symbols[i].next;
        if (e->symbols[i].id >= 0)
            emit(e, e->symbols[i].id);
        else
            emit_character(e, symbol_text(e, piece, i, next));
    }
    return 0;
}

/* The text with ' ' for U+2581, which is the same to SentencePiece, and perhaps a blank before. */
static int write_blanks(struct encoder *e, struct pd_str *text, bool prefix, struct pd_err *err)
{
    char *p = grown(e->blanks, &e->blanks_cap, text->len + 1, 1);
    size_t n = 0;

    if (p == NULL)
        return pd_fail(err, PD_ENOMEM, "out of memory");
    e->blanks = p;
    if (prefix)
        p[n++] = ' ';
    n += tok_unescape(*text, p + n);
    *text = (struct pd_str){p, n};
    return 0;
}

static int encode_spm(struct encoder *e, struct pd_str text, bool prefix, struct pd_err *err)
{
    int rc = 0;

    e->unknown = false;
    if ((prefix || pd_str_find(text, PD_STR(TOK_BLANK)) >= 0) &&
        (rc = write_blanks(e, &text, prefix, err)) < 0)
        return rc;
    for (size_t from = 0, to; rc == 0 && from < text.len; from = to) {
        to = from + 1;
        while (to < text.len && !(e->t->words && text.ptr[to] == ' ' && text.ptr[to - 1] != ' '))
            to++;
        rc = encode_spm_piece(e, pd_str_sub(text, from, to), err);
    }
    return rc;
}

/* ---- special tokens -----------------------------------------------------------------------------
 */

/* The longest special token that text starts with, -1 if none does. */
static int32_t match_special(const struct eng_tokenizer *t, const struct tok_specials *s,
                             struct pd_str text)
{
    size_t lo = 0, hi = s->n; /* those that agree with text so far */
    int32_t found = -1;

    for (size_t depth = 0; lo < hi; depth++) {
        unsigned char c;
        size_t a, b;

        if (tok_text(t, s->ids[lo]).len ==
            depth) { /* the shortest sorts first; of equals the first id */
            found = s->ids[lo];
            while (lo < hi && tok_text(t, s->ids[lo]).len == depth)
                lo++;
        }
        if (depth == text.len)
            break;
        c = (unsigned char)text.ptr[depth];
        for (a = lo, b = hi; a < b;) { /* first whose byte is ≥ c */
            size_t mid = a + (b - a) / 2;

            if ((unsigned char)tok_text(t, s->ids[mid]).ptr[depth] < c)
                a = mid + 1;
            else
                b = mid;
        }
        lo = a;
        for (b = hi; a < b;) { /* first whose byte is > c */
            size_t mid = a + (b - a) / 2;

            if ((unsigned char)tok_text(t, s->ids[mid]).ptr[depth] <= c)
                a = mid + 1;
            else
                b = mid;
        }
        hi = a;
    }
    return found;
}

static bool is_special(const struct eng_tokenizer *t, int32_t id)
{
    return eng_token_is_control(t, id) ||
           (id >= 0 && (uint32_t)id < t->n_vocab && t->types[id] == TOK_USER);
}

/* Whether a special token swallows the white space behind it. */
static bool strips(const struct eng_tokenizer *t, int32_t id)
{
    return t->rstrip && id != t->bos && id != t->unk &&
           !pd_str_eq(tok_text(t, id), PD_STR("<|endoftext|>"));
}

static bool is_space(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

/* blank: a SentencePiece text that starts here begins with a blank. */
static int encode_text(struct encoder *e, struct pd_str text, bool blank, struct pd_err *err)
{
    if (text.len == 0)
        return 0;
    return e->t->model == TOK_BPE ? encode_bpe(e, text, err)
                                  : encode_spm(e, text, blank && e->t->space_prefix, err);
}

/* The longest special token at text[at]: a control token that ends before plain text starts, or a
 * user-defined one. -1: none. */
static int32_t special_at(const struct eng_tokenizer *t, struct pd_str text, size_t at,
                          size_t plain_at)
{
    int32_t user = match_special(t, &t->user, pd_str_sub(text, at, text.len));
    int32_t any = match_special(t, &t->all, pd_str_sub(text, at, plain_at));

    return any < 0 || (user >= 0 && tok_text(t, user).len > tok_text(t, any).len) ? user : any;
}

static int encode(struct encoder *e, struct pd_str text, const struct tok_run *runs,
                  struct pd_err *err)
{
    const struct eng_tokenizer *t = e->t;
    bool blank = e->n_ids > 0 ? is_special(t, e->ids[e->n_ids - 1]) : runs->parse & ENG_PARSE_START;
    size_t from = 0, at = 0;
    int rc;

    while (at < text.len) {
        int32_t id = -1;

        while (runs->end <= at)
            runs++;
        if (t->all.first[(unsigned char)text.ptr[at]])
            id = special_at(t, text, at, runs->parse & ENG_PARSE_SPECIAL ? runs->end : at);
        if (id < 0) {
            at++;
            continue;
        }
        if ((rc = encode_text(e, pd_str_sub(text, from, at), blank, err)) < 0 ||
            (rc = make_room(e, 1, err)) < 0)
            return rc;
        emit(e, id);
        blank = true;
        at += tok_text(t, id).len;
        while (at < text.len && strips(t, id) && is_space(text.ptr[at]))
            at++;
        from = at;
    }
    return encode_text(e, pd_str_sub(text, from, text.len), blank, err);
}

int tok_encode(const struct eng_tokenizer *t, struct pd_str text, const struct tok_run *runs,
               int32_t **io_ids, size_t *io_n, struct pd_err *err)
{
    struct encoder e = {.t = t, .ids = *io_ids, .n_ids = *io_n, .ids_cap = *io_n};
    int32_t *ids;
    int rc = 0;

    if (text.len > TEXT_MAX_BYTES)
        return pd_fail(err, PD_ELIMIT, "a text of %zu bytes is too long to tokenise (at most %zu)",
                       text.len, TEXT_MAX_BYTES);
    if (t->model == TOK_BPE)
        rc = pretok_iter_new(t->pretok, &e.pieces, err);
    if (rc == 0)
        rc = encode(&e, text, runs, err);
    pretok_iter_free(e.pieces);
    free(e.blanks);
    free(e.symbols);
    free(e.heap);
    *io_ids = e.ids;
    if (rc < 0)
        return rc;
    *io_n = e.n_ids;
    ids = e.n_ids > 0 ? realloc(e.ids, e.n_ids * sizeof(*ids)) : NULL;
    if (ids != NULL)
        *io_ids = ids;
    return 0;
}

int eng_tokenize(const struct eng_tokenizer *t, struct pd_str text, enum eng_parse parse,
                 int32_t **io_ids, size_t *io_n, struct pd_err *err)
{
    return tok_encode(t, text, &(struct tok_run){text.len, parse}, io_ids, io_n, err);
}

/* ---- the rest -----------------------------------------------------------------------------------
 */

static int detokenize(const struct eng_tokenizer *t, const int32_t *ids, size_t n, bool special,
                      bool blank, struct pd_buf *out, struct pd_err *err)
{
    for (size_t i = 0; i < n; i++)
        if (ids[i] < 0 || (uint32_t)ids[i] >= t->n_vocab)
            return pd_fail(err, PD_EINVAL, "token id %d is not in the vocabulary of %u", ids[i],
                           t->n_vocab);
    for (size_t i = 0; i < n; i++) {
        struct pd_str text = tok_text(t, ids[i]);

        if (!special && tok_is_hidden(t, ids[i]))
            continue;
        if (blank && text.len > 0) {
            text = pd_str_sub(text, text.ptr[0] == ' ', text.len);
            blank = false;
        }
        pd_buf_adds(out, text);
    }
    if (pd_buf_rc(out) < 0)
        return pd_fail(err, (enum pd_code)pd_buf_rc(out), "the text of %zu tokens has no room", n);
    return 0;
}

int eng_detokenize(const struct eng_tokenizer *t, const int32_t *ids, size_t n, bool special,
                   struct pd_buf *out, struct pd_err *err)
{
    return detokenize(t, ids, n, special, false, out, err);
}

int eng_detokenize_whole(const struct eng_tokenizer *t, const int32_t *ids, size_t n, bool special,
                         struct pd_buf *out, struct pd_err *err)
{
    return detokenize(t, ids, n, special, t->space_prefix, out, err);
}

int32_t eng_token_find(const struct eng_tokenizer *t, struct pd_str text)
{
    return text.len == 0 ? -1 : tok_find(t, text);
}

int32_t eng_token_bos(const struct eng_tokenizer *t)
{
    return t->bos;
}

bool eng_token_adds_bos(const struct eng_tokenizer *t)
{
    return t->add_bos;
}

bool eng_token_is_end(const struct eng_tokenizer *t, int32_t id)
{
    return id >= 0 && (uint32_t)id < t->n_vocab && t->ends[id];
}

bool eng_token_is_control(const struct eng_tokenizer *t, int32_t id)
{
    return id >= 0 && (uint32_t)id < t->n_vocab && tok_is_hidden(t, id);
}

uint32_t eng_n_vocab(const struct eng_tokenizer *t)
{
    return t->n_vocab;
}
