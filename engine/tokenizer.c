/* Byte-level BPE (Sennrich et al., arXiv:1508.07909, over bytes as in GPT-2): special tokens by
 * longest match, the text between through the pre-tokenizer, each piece merged by rank. Immutable
 * after opening: any thread.
 *
 * 1. Every byte has a token, so any bytes are encoded and decoded exactly.
 * 2. Text tokenised PLAIN never becomes a control token: neither bytes nor merges may lead to one.
 */
#include "engine/tokenizer_int.h"

#include <stdlib.h>

/* Ids are int32_t, and working memory is 24 bytes a byte of the longest piece. */
#define TEXT_MAX_BYTES ((size_t)256 << 20)
#define VOCAB_MAX      ((uint64_t)1 << 24)

/* ---- opening ------------------------------------------------------------------------------------
 */

/* GPT-2's map from bytes to printable code points, inverted: -1 for code points that stand for no
 * byte. */
static int byte_of_cp(uint32_t cp)
{
    static const uint8_t gaps[][2] = {
        {0, 32}, {127, 160}, {173, 173}}; /* bytes moved to 256… in order */
    uint32_t next = 256;

    if (cp < 256) {
        for (size_t i = 0; i < 3; i++)
            if (cp >= gaps[i][0] && cp <= gaps[i][1])
                return -1;
        return (int)cp;
    }
    for (size_t i = 0; i < 3; i++) {
        uint32_t n = gaps[i][1] - gaps[i][0] + 1u;

        if (cp < next + n)
            return (int)(gaps[i][0] + (cp - next));
        next += n;
    }
    return -1;
}

/* Mapped form → bytes; false when s is not of that form. out has room for s.len bytes. */
static bool unmap(struct pd_str s, char *out, size_t *out_len)
{
    const unsigned char *p = (const unsigned char *)s.ptr;
    size_t n = 0;

    for (size_t i = 0; i < s.len;) {
        uint32_t cp;
        int byte;

        if (p[i] < 0x80)
            cp = p[i++];
        else if (i + 1 < s.len && p[i] >= 0xc2 && p[i] < 0xe0 && (p[i + 1] & 0xc0) == 0x80) {
            cp = (p[i] & 0x1fu) << 6 | (p[i + 1] & 0x3fu);
            i += 2;
        } else
            return false; /* the map ends at U+0143: two bytes */
        byte = byte_of_cp(cp);
        if (byte < 0)
            return false;
        out[n++] = (char)byte;
    }
    *out_len = n;
    return true;
}

static uint64_t hash_bytes(struct pd_str s)
{
    uint64_t h = UINT64_C(0xcbf29ce484222325); /* FNV-1a */

    for (size_t i = 0; i < s.len; i++)
        h = (h ^ (unsigned char)s.ptr[i]) * UINT64_C(0x100000001b3);
    return h ^ h >> 29;
}

static uint64_t hash_pair(int32_t left, int32_t right)
{
    uint64_t h = ((uint64_t)(uint32_t)left << 32 | (uint32_t)right) * UINT64_C(0x9e3779b97f4a7c15);

    return h ^ h >> 32;
}

static int map_init(struct tok_map *m, size_t n, struct pd_err *err)
{
    size_t size = 16;

    while (size < 2 * n)
        size *= 2;
    m->slots = malloc(size * sizeof(*m->slots));
    if (m->slots == NULL)
        return pd_fail(err, PD_ENOMEM, "out of memory");
    memset(m->slots, 0xff, size * sizeof(*m->slots));
    m->mask = size - 1;
    return 0;
}

/* The slot where the text is, or would be. */
static int32_t *text_slot(const struct eng_tokenizer *t, struct pd_str text)
{
    size_t i = hash_bytes(text) & t->by_text.mask;

    while (t->by_text.slots[i] >= 0 && !pd_str_eq(tok_text(t, t->by_text.slots[i]), text))
        i = (i + 1) & t->by_text.mask;
    return &t->by_text.slots[i];
}

static int32_t *pair_slot(const struct eng_tokenizer *t, int32_t left, int32_t right)
{
    size_t i = hash_pair(left, right) & t->by_pair.mask;
    int32_t rank;

    while ((rank = t->by_pair.slots[i]) >= 0 &&
           (t->merges[rank].left != left || t->merges[rank].right != right))
        i = (i + 1) & t->by_pair.mask;
    return &t->by_pair.slots[i];
}

static bool is_literal(unsigned type) /* its string is text, not the mapped form */
{
    return type == TOK_CONTROL || type == TOK_USER || type == TOK_UNKNOWN;
}

static bool is_hidden(unsigned type) /* never from plain text */
{
    return type == TOK_CONTROL || type == TOK_UNKNOWN;
}

static int load_tokens(struct eng_tokenizer *t, const struct gguf *g, struct pd_err *err)
{
    const struct gguf_kv *kv = gguf_find(g, "tokenizer.ggml.tokens");
    const struct gguf_kv *types = gguf_find(g, "tokenizer.ggml.token_type");
    size_t total = 0, at = 0;
    int rc;

    if (kv == NULL || kv->type != GGUF_ARR || kv->elem != GGUF_STR)
        return pd_fail(err, PD_EFORMAT, "tokenizer.ggml.tokens is missing or no list of strings");
    if (kv->n == 0 || kv->n > VOCAB_MAX)
        return pd_fail(err, PD_EFORMAT, "tokenizer.ggml.tokens has %llu entries",
                       (unsigned long long)kv->n);
    if (types != NULL &&
        (types->type != GGUF_ARR || (types->elem != GGUF_I32 && types->elem != GGUF_U32) ||
         types->n != kv->n))
        return pd_fail(
            err, PD_EFORMAT,
            "tokenizer.ggml.token_type is no list of integers as long as the token list");
    t->n_vocab = (uint32_t)kv->n;
    for (size_t i = 0; i < t->n_vocab; i++)
        total += kv->strs[i].len;
    t->text = malloc(total + 1);
    t->offsets = malloc((t->n_vocab + (size_t)1) * sizeof(*t->offsets));
    t->types = malloc(t->n_vocab);
    if (t->text == NULL || t->offsets == NULL || t->types == NULL)
        return pd_fail(err, PD_ENOMEM, "out of memory");
    for (uint32_t i = 0; i < t->n_vocab; i++) {
        int32_t type = types != NULL ? gguf_arr_i32(types, i) : TOK_NORMAL;
        size_t len = kv->strs[i].len;

        if (type < TOK_NORMAL || type > TOK_BYTE)
            return pd_fail(err, PD_EFORMAT, "token %u has the unknown type %d", i, type);
        t->types[i] = (uint8_t)type;
        t->offsets[i] = at;
        if (is_literal((unsigned)type) || !unmap(kv->strs[i], t->text + at, &len)) {
            len = kv->strs[i].len;
            if (len > 0)
                memcpy(t->text + at, kv->strs[i].ptr, len);
        }
        at += len;
    }
    t->offsets[t->n_vocab] = at;
    t->text[at] = '\0';

    /* Two passes: a text that is both a normal and a control token is found as the normal one, so
     * that merges do not lead to the other; among equals the first one is found. */
    rc = map_init(&t->by_text, t->n_vocab, err);
    for (int hidden = 0; rc == 0 && hidden < 2; hidden++)
        for (uint32_t i = 0; i < t->n_vocab; i++) {
            int32_t *slot;

            if (is_hidden(t->types[i]) != (hidden == 1))
                continue;
            slot = text_slot(t, tok_text(t, (int32_t)i));
            if (*slot < 0)
                *slot = (int32_t)i;
        }
    return rc;
}

static int load_bytes(struct eng_tokenizer *t, struct pd_err *err)
{
    for (int b = 0; b < 256; b++) {
        char c = (char)b;

        t->bytes[b] = *text_slot(t, (struct pd_str){&c, 1});
        if (t->bytes[b] < 0 || is_hidden(t->types[t->bytes[b]]))
            return pd_fail(err, PD_EFORMAT, "the vocabulary has no token for byte 0x%02x",
                           (unsigned)b);
    }
    return 0;
}

/* The id of one half of a merge, -1 when there is none. buf has room for s.len bytes. */
static int32_t find_mapped(const struct eng_tokenizer *t, struct pd_str s, char *buf)
{
    size_t n;
    int32_t id;

    if (s.len == 0 || !unmap(s, buf, &n))
        return -1;
    id = *text_slot(t, (struct pd_str){buf, n});
    return id >= 0 && !is_hidden(t->types[id]) ? id : -1;
}

static int load_merge(struct eng_tokenizer *t, uint32_t rank, struct pd_str s, struct pd_buf *buf,
                      struct pd_err *err)
{
    struct tok_merge *m = &t->merges[rank];
    const char *gap = s.len > 1 ? memchr(s.ptr + 1, ' ', s.len - 1) : NULL;
    size_t left_len = gap != NULL ? (size_t)(gap - s.ptr) : 0;
    struct pd_str left, right;
    int32_t *slot;

    if (gap == NULL)
        goto bad;
    pd_buf_clear(buf);
    if (pd_buf_reserve(buf, s.len) < 0)
        return pd_fail(err, PD_ENOMEM, "out of memory");
    m->left = find_mapped(t, (struct pd_str){s.ptr, left_len}, buf->data);
    m->right = find_mapped(t, (struct pd_str){gap + 1, s.len - left_len - 1}, buf->data);
    if (m->left < 0 || m->right < 0)
        goto bad;
    left = tok_text(t, m->left);
    right = tok_text(t, m->right);
    pd_buf_adds(buf, left);
    if (pd_buf_adds(buf, right) < 0)
        return pd_fail(err, PD_ENOMEM, "out of memory");
    m->merged = *text_slot(t, pd_buf_str(buf));
    if (m->merged < 0 || is_hidden(t->types[m->merged]))
        goto bad;
    slot = pair_slot(t, m->left, m->right);
    if (*slot < 0) /* the first, lowest rank wins */
        *slot = (int32_t)rank;
    return 0;
bad:
    return pd_fail(
        err, PD_EFORMAT,
        "merge %u ('%.*s') is not two tokens of the vocabulary whose concatenation is a third",
        rank, (int)(s.len < 64 ? s.len : 64), s.ptr);
}

static int load_merges(struct eng_tokenizer *t, const struct gguf *g, struct pd_err *err)
{
    const struct gguf_kv *kv = gguf_find(g, "tokenizer.ggml.merges");
    struct pd_buf buf = PD_BUF_INIT(SIZE_MAX / 2); /* a merge's text: bounded by the file */
    int rc;

    if (kv == NULL || kv->type != GGUF_ARR || kv->elem != GGUF_STR)
        return pd_fail(err, PD_EFORMAT, "tokenizer.ggml.merges is missing or no list of strings");
    if (kv->n > VOCAB_MAX)
        return pd_fail(err, PD_EFORMAT, "tokenizer.ggml.merges has %llu entries",
                       (unsigned long long)kv->n);
    rc = map_init(&t->by_pair, (size_t)kv->n, err);
    if (rc < 0)
        return rc;
    t->merges = malloc((kv->n + 1) * sizeof(*t->merges));
    if (t->merges == NULL)
        return pd_fail(err, PD_ENOMEM, "out of memory");
    t->n_merges = (uint32_t)kv->n;
    for (uint32_t i = 0; rc == 0 && i < t->n_merges; i++)
        rc = load_merge(t, i, kv->strs[i], &buf, err);
    pd_buf_done(&buf);
    return rc;
}

static int compare_text(const void *a, const void *b, void *arg)
{
    const struct eng_tokenizer *t = arg;
    int32_t ia = *(const int32_t *)a, ib = *(const int32_t *)b;
    struct pd_str sa = tok_text(t, ia), sb = tok_text(t, ib);
    int d = memcmp(sa.ptr, sb.ptr, sa.len < sb.len ? sa.len : sb.len);

    if (d != 0)
        return d;
    if (sa.len != sb.len)
        return sa.len < sb.len ? -1 : 1;
    return ia < ib ? -1 : ia > ib;
}

static int load_specials(struct eng_tokenizer *t, struct tok_specials *s, bool hidden,
                         struct pd_err *err)
{
    size_t n = 0;

    for (uint32_t i = 0; i < t->n_vocab; i++)
        n += t->types[i] == TOK_USER || (hidden && is_hidden(t->types[i]));
    s->ids = malloc((n + 1) * sizeof(*s->ids));
    if (s->ids == NULL)
        return pd_fail(err, PD_ENOMEM, "out of memory");
    for (uint32_t i = 0; i < t->n_vocab; i++) {
        struct pd_str text = tok_text(t, (int32_t)i);

        if (text.len == 0 || !(t->types[i] == TOK_USER || (hidden && is_hidden(t->types[i]))))
            continue;
        s->ids[s->n++] = (int32_t)i;
        s->first[(unsigned char)text.ptr[0]] = true;
    }
    qsort_r(s->ids, s->n, sizeof(*s->ids), compare_text, t);
    return 0;
}

static int load_id(const struct eng_tokenizer *t, const struct gguf *g, const char *key,
                   int32_t *out, struct pd_err *err)
{
    uint32_t id = 0;
    int rc = gguf_u32(g, key, &id, err);

    *out = -1;
    if (rc <= 0)
        return rc;
    if (id >= t->n_vocab)
        return pd_fail(err, PD_EFORMAT, "%s is %u, but there are only %u tokens", key, id,
                       t->n_vocab);
    *out = (int32_t)id;
    return 0;
}

static int load(struct eng_tokenizer *t, const struct gguf *g, struct pd_err *err)
{
    struct pd_str model = {NULL, 0}, pre = {NULL, 0}, chat = {NULL, 0};
    int rc;

    if ((rc = gguf_str(g, "tokenizer.ggml.model", &model, err)) < 0)
        return rc;
    if (rc == 0)
        return pd_fail(err, PD_EFORMAT, "tokenizer.ggml.model is missing");
    if (!pd_str_eq(model, PD_STR("gpt2")))
        return pd_fail(
            err, PD_EFORMAT,
            "tokenizer model '%.*s' is not known to this build (known: gpt2, byte-level BPE)",
            (int)(model.len < 64 ? model.len : 64), model.ptr);
    if ((rc = gguf_str(g, "tokenizer.ggml.pre", &pre, err)) < 0)
        return rc;
    if (rc == 0)
        return pd_fail(err, PD_EFORMAT,
                       "tokenizer.ggml.pre is missing: the pre-tokenizer is not known");
    if ((rc = pretok_new(pre, &t->pretok, err)) < 0 || (rc = load_tokens(t, g, err)) < 0 ||
        (rc = load_bytes(t, err)) < 0 || (rc = load_merges(t, g, err)) < 0 ||
        (rc = load_specials(t, &t->user, false, err)) < 0 ||
        (rc = load_specials(t, &t->all, true, err)) < 0 ||
        (rc = load_id(t, g, "tokenizer.ggml.bos_token_id", &t->bos, err)) < 0 ||
        (rc = load_id(t, g, "tokenizer.ggml.eos_token_id", &t->eos, err)) < 0 ||
        (rc = load_id(t, g, "tokenizer.ggml.eot_token_id", &t->eot, err)) < 0 ||
        (rc = load_id(t, g, "tokenizer.ggml.eom_token_id", &t->eom, err)) < 0 ||
        (rc = gguf_bool(g, "tokenizer.ggml.add_bos_token", &t->add_bos, err)) < 0)
        return rc;
    if (t->add_bos && t->bos < 0)
        return pd_fail(err, PD_EFORMAT,
                       "tokenizer.ggml.add_bos_token is set, but there is no bos_token_id");
    if ((rc = gguf_str(g, "tokenizer.chat_template", &chat, err)) < 0)
        return rc;
    if (rc > 0) {
        t->chat_template = pd_str_dup(chat);
        if (t->chat_template == NULL)
            return pd_fail(err, PD_ENOMEM, "out of memory");
    }
    return 0;
}

int eng_tokenizer_new(const struct gguf *g, struct eng_tokenizer **out, struct pd_err *err)
{
    struct eng_tokenizer *t = calloc(1, sizeof(*t));
    int rc;

    if (t == NULL)
        return pd_fail(err, PD_ENOMEM, "out of memory");
    rc = load(t, g, err);
    if (rc < 0) {
        eng_tokenizer_free(t);
        return rc;
    }
    *out = t;
    return 0;
}

int eng_tokenizer_open(const char *path, struct eng_tokenizer **out, struct pd_err *err)
{
    struct gguf *g = NULL;
    int rc = gguf_open(path, &g, err);

    if (rc < 0)
        return rc;
    rc = eng_tokenizer_new(g, out, err);
    if (rc < 0)
        pd_err_context(err, "in '%s'", path);
    gguf_close(g);
    return rc;
}

void eng_tokenizer_free(struct eng_tokenizer *t)
{
    if (t == NULL)
        return;
    pretok_free(t->pretok);
    free(t->text);
    free(t->offsets);
    free(t->types);
    free(t->by_text.slots);
    free(t->by_pair.slots);
    free(t->merges);
    free(t->user.ids);
    free(t->all.ids);
    free(t->chat_template);
    free(t);
}

/* ---- encoding -----------------------------------------------------------------------------------
 */

struct symbol { /* a token of the piece; a list in array order */
    int32_t id; /* -1: merged away */
    uint32_t prev, next;
};
#define NONE UINT32_MAX

struct encoder {
    const struct eng_tokenizer *t;
    struct pretok_iter *pieces;
    struct symbol *symbols;
    size_t symbols_cap;
    uint64_t *heap; /* rank << 32 | place of the left symbol: lowest rank first, then leftmost */
    size_t n_heap, heap_cap;
    int32_t *ids; /* room for one per byte of text */
    size_t n_ids;
};

static void *grown(void *p, size_t *cap, size_t want, size_t elem)
{
    size_t n = *cap < 64 ? 64 : *cap;
    void *q;

    while (n < want)
        n *= 2;
    q = realloc(p, n * elem);
    if (q != NULL)
        *cap = n;
    return q;
}

/* The pair that starts at place joins the heap if it merges. The heap has room: a piece of n bytes
 * pushes n - 1 pairs at first, and two for each of at most n - 1 merges. */
static void push_pair(struct encoder *e, uint32_t place)
{
    uint32_t next = e->symbols[place].next;
    int32_t rank;
    uint64_t key;
    size_t i;

    if (next == NONE)
        return;
    rank = *pair_slot(e->t, e->symbols[place].id, e->symbols[next].id);
    if (rank < 0)
        return;
    key = (uint64_t)(uint32_t)rank << 32 | place;
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

static int encode_piece(struct encoder *e, struct pd_str piece, struct pd_err *err)
{
    const struct eng_tokenizer *t = e->t;
    uint32_t n = (uint32_t)piece.len;

    if (n == 1) {
        e->ids[e->n_ids++] = t->bytes[(unsigned char)piece.ptr[0]];
        return 0;
    }
    if (pretok_ignores_merges(t->pretok)) {
        int32_t id = *text_slot(t, piece);

        if (id >= 0 && !is_hidden(t->types[id])) {
            e->ids[e->n_ids++] = id;
            return 0;
        }
    }
    if (n > e->symbols_cap) {
        void *p = grown(e->symbols, &e->symbols_cap, n, sizeof(*e->symbols));

        if (p == NULL)
            return pd_fail(err, PD_ENOMEM, "out of memory");
        e->symbols = p;
    }
    if ((size_t)3 * n > e->heap_cap) {
        void *p = grown(e->heap, &e->heap_cap, (size_t)3 * n, sizeof(*e->heap));

        if (p == NULL)
            return pd_fail(err, PD_ENOMEM, "out of memory");
        e->heap = p;
    }
    for (uint32_t i = 0; i < n; i++)
        e->symbols[i] = (struct symbol){t->bytes[(unsigned char)piece.ptr[i]], i > 0 ? i - 1 : NONE,
                                        i + 1 < n ? i + 1 : NONE};
    e->n_heap = 0;
    for (uint32_t i = 0; i + 1 < n; i++)
        push_pair(e, i);
    while (e->n_heap > 0) {
        uint64_t key = pop_pair(e);
        const struct tok_merge *m = &t->merges[key >> 32];
        struct symbol *left = &e->symbols[(uint32_t)key];
        struct symbol *right;

        if (left->id != m->left || left->next == NONE)
            continue; /* a pair that is no more */
        right = &e->symbols[left->next];
        if (right->id != m->right)
            continue;
        left->id = m->merged;
        right->id = -1;
        left->next = right->next;
        if (left->next != NONE)
            e->symbols[left->next].prev = (uint32_t)key;
        if (left->prev != NONE)
            push_pair(e, left->prev);
        push_pair(e, (uint32_t)key);
    }
    for (uint32_t i = 0; i != NONE; i = e->symbols[i].next)
        e->ids[e->n_ids++] = e->symbols[i].id;
    return 0;
}

static int encode_text(struct encoder *e, struct pd_str text, struct pd_err *err)
{
    struct pd_str piece;
    int rc;

    pretok_iter_set(e->pieces, text);
    while ((rc = pretok_iter_next(e->pieces, &piece, err)) > 0)
        if ((rc = encode_piece(e, piece, err)) < 0)
            break;
    return rc;
}

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
    size_t from = 0, at = 0;
    int rc;

    while (at < text.len) {
        int32_t id = -1;

        while (runs->end <= at)
            runs++;
        if (e->t->all.first[(unsigned char)text.ptr[at]])
            id = special_at(e->t, text, at, runs->parse == ENG_PARSE_SPECIAL ? runs->end : at);
        if (id < 0) {
            at++;
            continue;
        }
        if ((rc = encode_text(e, pd_str_sub(text, from, at), err)) < 0)
            return rc;
        e->ids[e->n_ids++] = id;
        at += tok_text(e->t, id).len;
        from = at;
    }
    return encode_text(e, pd_str_sub(text, from, text.len), err);
}

int tok_encode(const struct eng_tokenizer *t, struct pd_str text, const struct tok_run *runs,
               int32_t **io_ids, size_t *io_n, struct pd_err *err)
{
    struct encoder e = {.t = t};
    int32_t *ids;
    int rc;

    if (text.len == 0)
        return 0;
    if (text.len > TEXT_MAX_BYTES)
        return pd_fail(err, PD_ELIMIT, "a text of %zu bytes is too long to tokenise (at most %zu)",
                       text.len, TEXT_MAX_BYTES);
    if (*io_n > SIZE_MAX / sizeof(*ids) - text.len)
        return pd_fail(err, PD_ELIMIT, "too many tokens");
    ids = realloc(*io_ids, (*io_n + text.len) * sizeof(*ids)); /* a token has at least one byte */
    if (ids == NULL)
        return pd_fail(err, PD_ENOMEM, "out of memory");
    *io_ids = ids;
    e.ids = ids + *io_n;
    rc = pretok_iter_new(t->pretok, &e.pieces, err);
    if (rc == 0)
        rc = encode(&e, text, runs, err);
    pretok_iter_free(e.pieces);
    free(e.symbols);
    free(e.heap);
    if (rc < 0)
        return rc;
    *io_n += e.n_ids;
    ids = realloc(*io_ids, *io_n * sizeof(*ids));
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

int eng_detokenize(const struct eng_tokenizer *t, const int32_t *ids, size_t n, bool special,
                   struct pd_buf *out, struct pd_err *err)
{
    for (size_t i = 0; i < n; i++)
        if (ids[i] < 0 || (uint32_t)ids[i] >= t->n_vocab)
            return pd_fail(err, PD_EINVAL, "token id %d is not in the vocabulary of %u", ids[i],
                           t->n_vocab);
    for (size_t i = 0; i < n; i++)
        if (special || !is_hidden(t->types[ids[i]]))
            pd_buf_adds(out, tok_text(t, ids[i]));
    if (pd_buf_rc(out) < 0)
        return pd_fail(err, (enum pd_code)pd_buf_rc(out), "the text of %zu tokens has no room", n);
    return 0;
}

int32_t eng_token_find(const struct eng_tokenizer *t, struct pd_str text)
{
    return text.len == 0 ? -1 : *text_slot(t, text);
}

bool eng_token_is_end(const struct eng_tokenizer *t, int32_t id)
{
    return id >= 0 && (id == t->eos || id == t->eot || id == t->eom);
}

bool eng_token_is_control(const struct eng_tokenizer *t, int32_t id)
{
    return id >= 0 && (uint32_t)id < t->n_vocab && is_hidden(t->types[id]);
}

uint32_t eng_n_vocab(const struct eng_tokenizer *t)
{
    return t->n_vocab;
}
