/* Opening a tokenizer: everything a GGUF says about it, checked and indexed.
 *
 * 1. BPE: every byte has a token. SPM: so it does, or UNK stands for what has none.
 * 2. Text tokenised PLAIN never becomes a control token: neither bytes nor merges may lead to one.
 */
#include "engine/tokenizer_int.h"

#include <malloc.h>
#include <math.h>
#include <stdlib.h>

#define VOCAB_MAX ((uint64_t)1 << 24)

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

static uint32_t hash_text(struct pd_str s)
{
    uint64_t h = s.len * UINT64_C(0x9e3779b97f4a7c15);
    uint64_t word = 0;
    size_t i = 0;

    for (; i + 8 <= s.len; i += 8) {
        memcpy(&word, s.ptr + i, 8);
        h = (h ^ word) * UINT64_C(0xff51afd7ed558ccd);
        h ^= h >> 32;
    }
    word = 0;
    for (size_t k = i; k < s.len; k++)
        word = word << 8 | (unsigned char)s.ptr[k];
    h = (h ^ word) * UINT64_C(0xff51afd7ed558ccd);
    return (uint32_t)(h >> 32);
}

static uint32_t hash_pair(int32_t left, int32_t right)
{
    uint64_t h = ((uint64_t)(uint32_t)left << 32 | (uint32_t)right) * UINT64_C(0x9e3779b97f4a7c15);

    return (uint32_t)((h ^ h >> 29) >> 16);
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
static struct tok_slot *text_slot(const struct eng_tokenizer *t, uint32_t hash, struct pd_str text)
{
    const struct tok_map *m = &t->by_text;
    size_t i = hash & m->mask;

    while (m->slots[i].id >= 0 &&
           (m->slots[i].hash != hash || !pd_str_eq(tok_text(t, m->slots[i].id), text)))
        i = (i + 1) & m->mask;
    return &m->slots[i];
}

static struct tok_slot *pair_slot(const struct eng_tokenizer *t, uint32_t hash, int32_t left,
                                  int32_t right)
{
    const struct tok_map *m = &t->by_pair;
    size_t i = hash & m->mask;

    while (m->slots[i].id >= 0 &&
           (m->slots[i].hash != hash || t->merges[m->slots[i].id].left != left ||
            t->merges[m->slots[i].id].right != right))
        i = (i + 1) & m->mask;
    return &m->slots[i];
}

int32_t tok_find(const struct eng_tokenizer *t, struct pd_str text)
{
    return text_slot(t, hash_text(text), text)->id;
}

int32_t tok_find_merge(const struct eng_tokenizer *t, int32_t left, int32_t right)
{
    return pair_slot(t, hash_pair(left, right), left, right)->id;
}

/* ---- tokens -------------------------------------------------------------------------------------
 */

/* Tokens that end a chat turn or a text, whatever type the file gives them: files name one or two
 * of them by id, models use more. */
static bool is_end_text(struct pd_str text)
{
    static const char *const names[] = {
        "<|eot_id|>",    "<|eom_id|>",    "<|im_end|>",
        "<|end|>",       "<|endoftext|>", "<|end_of_text|>",
        "<end_of_turn>", "<EOT>",         "<｜end▁of▁sentence｜>",
    };

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        if (pd_str_eq(text, pd_str_of(names[i])))
            return true;
    return false;
}

size_t tok_unescape(struct pd_str s, char *out)
{
    size_t n = 0;

    for (size_t i = 0; i < s.len;) {
        bool blank = pd_str_starts(pd_str_sub(s, i, s.len), PD_STR(TOK_BLANK));

        out[n++] = blank ? ' ' : s.ptr[i];
        i += blank ? sizeof(TOK_BLANK) - 1 : 1;
    }
    return n;
}

static int hex_digit(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* "<0x0A>" → 10, -1 when it is not of that form. */
static int byte_of_name(struct pd_str s)
{
    int high, low;

    if (s.len != 6 || memcmp(s.ptr, "<0x", 3) != 0 || s.ptr[5] != '>')
        return -1;
    high = hex_digit(s.ptr[3]);
    low = hex_digit(s.ptr[4]);
    return high < 0 || low < 0 ? -1 : high * 16 + low;
}

/* The exact bytes that token id stands for; out has room for s.len of them. */
static int token_bytes(const struct eng_tokenizer *t, uint32_t id, struct pd_str s, char *out,
                       size_t *out_n, struct pd_err *err)
{
    bool literal = t->types[id] == TOK_CONTROL || t->types[id] == TOK_UNKNOWN;

    if (t->model == TOK_SPM && t->types[id] == TOK_BYTE) {
        int byte = byte_of_name(s);

        if (byte < 0)
            return pd_fail(err, PD_EFORMAT, "token %u is a byte, but called '%.*s', not <0xNN>", id,
                           (int)(s.len < 64 ? s.len : 64), s.ptr);
        out[0] = (char)byte;
        *out_n = 1;
    } else if (t->model == TOK_SPM && !literal)
        *out_n = tok_unescape(s, out);
    else if (literal || t->types[id] == TOK_USER || !unmap(s, out, out_n)) {
        if (s.len > 0)
            memcpy(out, s.ptr, s.len);
        *out_n = s.len;
    }
    return 0;
}

/* Two passes: a text that is both a word and a control token, or a byte, is found as the word, so
 * that merges do not lead to the other; among equals the first one is found. */
static int index_tokens(struct eng_tokenizer *t, struct pd_err *err)
{
    int rc = map_init(&t->by_text, t->n_vocab, err);

    for (int pass = 0; rc == 0 && pass < 2; pass++)
        for (uint32_t i = 0; i < t->n_vocab; i++) {
            struct pd_str text = tok_text(t, (int32_t)i);
            uint32_t hash = hash_text(text);
            bool later = tok_is_hidden(t, (int32_t)i) || t->types[i] == TOK_BYTE;
            struct tok_slot *slot;

            if (later != (pass == 1))
                continue;
            slot = text_slot(t, hash, text);
            if (slot->id < 0)
                *slot = (struct tok_slot){hash, (int32_t)i};
        }
    return rc;
}

static int load_tokens(struct eng_tokenizer *t, const struct gguf *g, struct pd_err *err)
{
    const struct gguf_kv *kv = gguf_find(g, "tokenizer.ggml.tokens");
    const struct gguf_kv *types = gguf_find(g, "tokenizer.ggml.token_type");
    size_t total = 0, at = 0;

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
    t->ends = calloc(t->n_vocab, sizeof(*t->ends));
    if (t->text == NULL || t->offsets == NULL || t->types == NULL || t->ends == NULL)
        return pd_fail(err, PD_ENOMEM, "out of memory");
    for (uint32_t i = 0; i < t->n_vocab; i++) {
        int32_t type = types != NULL ? gguf_arr_i32(types, i) : TOK_NORMAL;
        size_t len = 0;
        int rc;

        if (type < TOK_NORMAL || type > TOK_BYTE)
            return pd_fail(err, PD_EFORMAT, "token %u has the unknown type %d", i, type);
        t->ends[i] = is_end_text(kv->strs[i]);
        t->types[i] = (uint8_t)(t->ends[i] ? TOK_CONTROL : type);
        t->offsets[i] = at;
        rc = token_bytes(t, i, kv->strs[i], t->text + at, &len, err);
        if (rc < 0)
            return rc;
        at += len;
        if (len > t->max_bytes)
            t->max_bytes = len;
    }
    t->offsets[t->n_vocab] = at;
    t->text[at] = '\0';
    return index_tokens(t, err);
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

static bool is_special(const struct eng_tokenizer *t, uint32_t id, bool hidden)
{
    return t->types[id] == TOK_USER || (hidden && tok_is_hidden(t, (int32_t)id));
}

static int load_specials(struct eng_tokenizer *t, struct tok_specials *s, bool hidden,
                         struct pd_err *err)
{
    size_t n = 0;

    for (uint32_t i = 0; i < t->n_vocab; i++)
        n += is_special(t, i, hidden);
    s->ids = malloc((n + 1) * sizeof(*s->ids));
    if (s->ids == NULL)
        return pd_fail(err, PD_ENOMEM, "out of memory");
    for (uint32_t i = 0; i < t->n_vocab; i++) {
        struct pd_str text = tok_text(t, (int32_t)i);

        if (text.len == 0 || !is_special(t, i, hidden))
            continue;
        s->ids[s->n++] = (int32_t)i;
        s->first[(unsigned char)text.ptr[0]] = true;
    }
    qsort_r(s->ids, s->n, sizeof(*s->ids), compare_text, t);
    return 0;
}

/* An id that the file may name; absent, it is `otherwise`, or -1 if there is no such token. */
static int load_id(const struct eng_tokenizer *t, const struct gguf *g, const char *key,
                   int32_t otherwise, int32_t *out, struct pd_err *err)
{
    uint32_t id = 0;
    int rc = gguf_u32(g, key, &id, err);

    if (rc < 0)
        return rc;
    if (rc > 0 && id >= t->n_vocab)
        return pd_fail(err, PD_EFORMAT, "%s is %u, but there are only %u tokens", key, id,
                       t->n_vocab);
    *out = rc > 0 ? (int32_t)id : otherwise < (int64_t)t->n_vocab ? otherwise : -1;
    return 0;
}

/* ---- byte-level BPE -----------------------------------------------------------------------------
 */

static int load_bytes(struct eng_tokenizer *t, struct pd_err *err)
{
    for (int b = 0; b < 256; b++) {
        char c = (char)b;

        t->bytes[b] = tok_find(t, (struct pd_str){&c, 1});
        if (t->bytes[b] < 0 || tok_is_hidden(t, t->bytes[b]))
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
    id = tok_find(t, (struct pd_str){buf, n});
    return id >= 0 && !tok_is_hidden(t, id) ? id : -1;
}

static int load_merge(struct eng_tokenizer *t, uint32_t rank, struct pd_str s, struct pd_buf *buf,
                      struct pd_err *err)
{
    struct tok_merge *m = &t->merges[rank];
    const char *gap = s.len > 1 ? memchr(s.ptr + 1, ' ', s.len - 1) : NULL;
    size_t left_len = gap != NULL ? (size_t)(gap - s.ptr) : 0;
    struct pd_str left, right;
    struct tok_slot *slot;
    uint32_t hash;

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
    m->merged = tok_find(t, pd_buf_str(buf));
    if (m->merged < 0 || tok_is_hidden(t, m->merged))
        goto bad;
    hash = hash_pair(m->left, m->right);
    slot = pair_slot(t, hash, m->left, m->right);
    if (slot->id < 0) /* the first, lowest rank wins */
        *slot = (struct tok_slot){hash, (int32_t)rank};
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

static int load_bpe(struct eng_tokenizer *t, const struct gguf *g, struct pd_err *err)
{
    struct pd_str pre = {NULL, 0};
    int rc = gguf_str(g, "tokenizer.ggml.pre", &pre, err);

    if (rc < 0)
        return rc;
    if (rc == 0 || pd_str_eq(pre, PD_STR("default")))
        return pd_fail(err, PD_EFORMAT,
                       "tokenizer.ggml.pre is %s: the file does not say how text is cut before it "
                       "is merged; convert the model again, with a newer converter",
                       rc == 0 ? "missing" : "'default'");
    if ((rc = pretok_new(pre, &t->pretok, err)) < 0 || (rc = load_tokens(t, g, err)) < 0 ||
        (rc = load_bytes(t, err)) < 0)
        return rc;
    return load_merges(t, g, err);
}

/* ---- SentencePiece BPE --------------------------------------------------------------------------
 */

/* Scores as unsigned numbers in descending order. */
static int load_scores(struct eng_tokenizer *t, const struct gguf *g, struct pd_err *err)
{
    const struct gguf_kv *kv = gguf_find(g, "tokenizer.ggml.scores");

    if (kv == NULL || kv->type != GGUF_ARR || kv->elem != GGUF_F32 || kv->n != t->n_vocab)
        return pd_fail(err, PD_EFORMAT,
                       "tokenizer.ggml.scores is missing or no list of F32 as long as the token "
                       "list");
    t->ranks = malloc(t->n_vocab * sizeof(*t->ranks));
    if (t->ranks == NULL)
        return pd_fail(err, PD_ENOMEM, "out of memory");
    for (uint32_t i = 0; i < t->n_vocab; i++) {
        float score = gguf_arr_f32(kv, i) + 0.0f; /* -0 becomes 0 */
        uint32_t bits;

        if (isnan(score))
            return pd_fail(err, PD_EFORMAT, "the score of token %u is not a number", i);
        memcpy(&bits, &score, sizeof(bits));
        t->ranks[i] = bits >> 31 ? bits : 0x7fffffff - bits;
    }
    return 0;
}

static int load_fallback(struct eng_tokenizer *t, struct pd_err *err)
{
    int n = 0;

    for (int b = 0; b < 256; b++)
        t->bytes[b] = -1;
    for (uint32_t i = 0; i < t->n_vocab; i++)
        if (t->types[i] == TOK_BYTE) {
            int32_t *id = &t->bytes[(unsigned char)t->text[t->offsets[i]]];

            n += *id < 0;
            *id = (int32_t)i;
        }
    if (n != 0 && n != 256)
        return pd_fail(err, PD_EFORMAT, "the vocabulary has tokens for %d bytes, not for all 256",
                       n);
    if (n == 0 && t->unk < 0)
        return pd_fail(err, PD_EFORMAT,
                       "the vocabulary has neither tokens for bytes nor an unknown token");
    return 0;
}

static bool has_inner_blank(struct pd_str s)
{
    for (size_t i = 1; i < s.len; i++)
        if (s.ptr[i] == ' ' && s.ptr[i - 1] != ' ')
            return true;
    return false;
}

static int load_spm(struct eng_tokenizer *t, const struct gguf *g, struct pd_err *err)
{
    struct pd_str arch = {NULL, 0};
    bool squeeze = false;
    int rc;

    t->space_prefix = true;
    if ((rc = load_tokens(t, g, err)) < 0 || (rc = load_scores(t, g, err)) < 0 ||
        (rc = load_id(t, g, "tokenizer.ggml.unknown_token_id", 0, &t->unk, err)) < 0 ||
        (rc = load_fallback(t, err)) < 0 ||
        (rc = gguf_bool(g, "tokenizer.ggml.add_space_prefix", &t->space_prefix, err)) < 0 ||
        (rc = gguf_bool(g, "tokenizer.ggml.remove_extra_whitespaces", &squeeze, err)) < 0 ||
        (rc = gguf_str(g, "general.architecture", &arch, err)) < 0)
        return rc;
    if (squeeze)
        return pd_fail(err, PD_EFORMAT,
                       "tokenizer.ggml.remove_extra_whitespaces is set, which this build does not "
                       "do");
    t->rstrip = pd_str_eq(arch, PD_STR("phi3"));
    t->words = true;
    for (uint32_t i = 0; i < t->n_vocab && t->words; i++)
        t->words = tok_is_hidden(t, (int32_t)i) || !has_inner_blank(tok_text(t, (int32_t)i));
    return 0;
}

/* ---- the whole ----------------------------------------------------------------------------------
 */

static int load_ends(struct eng_tokenizer *t, const struct gguf *g, struct pd_err *err)
{
    static const char *const keys[] = {"tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id",
                                       "tokenizer.ggml.eom_token_id"};

    for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
        int32_t id;
        int rc = load_id(t, g, keys[i], i == 0 && t->model == TOK_SPM ? 2 : -1, &id, err);

        if (rc < 0)
            return rc;
        if (id >= 0)
            t->ends[id] = true;
        if (i == 0)
            t->eos = id;
    }
    return 0;
}

static int load_bos(struct eng_tokenizer *t, const struct gguf *g, struct pd_err *err)
{
    bool spm = t->model == TOK_SPM;
    int rc = load_id(t, g, "tokenizer.ggml.bos_token_id", spm ? 1 : -1, &t->bos, err);

    if (rc < 0)
        return rc;
    t->add_bos = t->bos >= 0 && (spm || pretok_adds_bos(t->pretok));
    if ((rc = gguf_bool(g, "tokenizer.ggml.add_bos_token", &t->add_bos, err)) < 0)
        return rc;
    if (t->add_bos && t->bos < 0)
        return pd_fail(err, PD_EFORMAT,
                       "tokenizer.ggml.add_bos_token is set, but there is no bos_token_id");
    return 0;
}

static int load(struct eng_tokenizer *t, const struct gguf *g, struct pd_err *err)
{
    struct pd_str model = {NULL, 0}, chat = {NULL, 0};
    int rc;

    if ((rc = gguf_str(g, "tokenizer.ggml.model", &model, err)) < 0)
        return rc;
    if (rc == 0)
        return pd_fail(err, PD_EFORMAT, "tokenizer.ggml.model is missing");
    if (pd_str_eq(model, PD_STR("gpt2")))
        t->model = TOK_BPE;
    else if (pd_str_eq(model, PD_STR("llama")))
        t->model = TOK_SPM;
    else
        return pd_fail(err, PD_EFORMAT,
                       "tokenizer model '%.*s' is not known to this build (known: gpt2, which is "
                       "byte-level BPE, and llama, which is SentencePiece BPE)",
                       (int)(model.len < 64 ? model.len : 64), model.ptr);
    t->unk = -1;
    if ((rc = t->model == TOK_BPE ? load_bpe(t, g, err) : load_spm(t, g, err)) < 0 ||
        (rc = load_specials(t, &t->user, false, err)) < 0 ||
        (rc = load_specials(t, &t->all, true, err)) < 0 || (rc = load_ends(t, g, err)) < 0 ||
        (rc = load_bos(t, g, err)) < 0 ||
        (rc = gguf_str(g, "tokenizer.chat_template", &chat, err)) < 0)
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

size_t eng_tokenizer_bytes(const struct eng_tokenizer *t)
{
    void *const blocks[] = {t->text,          t->offsets,       t->types,        t->ends,
                            t->by_text.slots, t->by_pair.slots, t->merges,       t->ranks,
                            t->user.ids,      t->all.ids,       t->chat_template};
    size_t n = sizeof(*t);

    for (size_t i = 0; i < sizeof(blocks) / sizeof(*blocks); i++)
        n += malloc_usable_size(blocks[i]);
    return n;
}

void eng_tokenizer_free(struct eng_tokenizer *t)
{
    if (t == NULL)
        return;
    pretok_free(t->pretok);
    free(t->text);
    free(t->offsets);
    free(t->types);
    free(t->ends);
    free(t->by_text.slots);
    free(t->by_pair.slots);
    free(t->merges);
    free(t->ranks);
    free(t->user.ids);
    free(t->all.ids);
    free(t->chat_template);
    tok_tree_free(atomic_load(&t->tree));
    free(t);
}
