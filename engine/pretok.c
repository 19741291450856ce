/* Pre-tokenizers, through PCRE2. The expressions are those of the models' own tokenizers; only \s
 * is spelled out as Unicode's White_Space, because PCRE2's \s also has U+180E. Each of them matches
 * at every position of valid UTF-8 (letter, number, white space, anything else), so the pieces
 * cover the text. */
#include "engine/pretok.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <stdlib.h>

/* Members of a class: White_Space. */
#define WS                                                                                         \
    "\\x{09}-\\x{0d}\\x{20}\\x{85}\\x{a0}\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}"           \
    "\\x{202f}\\x{205f}\\x{3000}"
#define SPACE     "[" WS "]"
#define NOT_SPACE "[^" WS "]"
#define OTHER     "[^" WS "\\p{L}\\p{N}]" /* no white space, letter or number */

/* The match limit bounds the backtracking of one match: linear in the longest run of white space,
 * so this is enough for 64 MiB of blanks. The heap limit (KiB) bounds the interpreter's frames. */
enum { MATCH_LIMIT = 64 << 20, HEAP_LIMIT_KIB = 64 << 10 };

static const struct kind {
    const char *name;
    bool ignore_merges;
    const char *regex;
} kinds[] = {
    {"gpt-2", false,
     "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?" OTHER "+|" SPACE "+(?!" NOT_SPACE ")|" SPACE
     "+"},
    {"qwen2", false,
     "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?" OTHER
     "+[\\r\\n]*|" SPACE "*[\\r\\n]+|" SPACE "+(?!" NOT_SPACE ")|" SPACE "+"},
    {"llama-bpe", true,
     "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?" OTHER
     "+[\\r\\n]*|" SPACE "*[\\r\\n]+|" SPACE "+(?!" NOT_SPACE ")|" SPACE "+"},
};

struct pretok {
    const struct kind *kind;
    pcre2_code *code;
};

struct pretok_iter {
    const struct pretok *pretok;
    pcre2_match_data *match;
    pcre2_match_context *limits;
    struct pd_str text;
    size_t at;    /* everything before was handed out */
    size_t valid; /* [at, valid) is UTF-8 */
};

int pretok_new(struct pd_str name, struct pretok **out, struct pd_err *err)
{
    const struct kind *kind = NULL;
    struct pretok *p;
    PCRE2_SIZE at = 0;
    int code = 0;

    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
        if (pd_str_eq(name, pd_str_of(kinds[i].name)))
            kind = &kinds[i];
    if (kind == NULL)
        return pd_fail(
            err, PD_EFORMAT,
            "pre-tokenizer '%.*s' is not known to this build (known: gpt-2, qwen2, llama-bpe)",
            (int)(name.len < 64 ? name.len : 64), name.ptr);
    p = calloc(1, sizeof(*p));
    if (p == NULL)
        return pd_fail(err, PD_ENOMEM, "out of memory");
    p->kind = kind;
    /* Anchored here and not at the match, which would do without JIT. */
    p->code = pcre2_compile((PCRE2_SPTR)kind->regex, PCRE2_ZERO_TERMINATED,
                            PCRE2_UTF | PCRE2_UCP | PCRE2_ANCHORED, &code, &at, NULL);
    if (p->code == NULL) {
        pretok_free(p);
        return pd_fail(err, code == PCRE2_ERROR_NOMEMORY ? PD_ENOMEM : PD_EINVAL,
                       "pre-tokenizer '%s' does not compile (PCRE2 error %d at %zu)", kind->name,
                       code, (size_t)at);
    }
    (void)pcre2_jit_compile(p->code,
                            PCRE2_JIT_COMPLETE); /* without: the interpreter, same matches */
    *out = p;
    return 0;
}

void pretok_free(struct pretok *p)
{
    if (p == NULL)
        return;
    pcre2_code_free(p->code);
    free(p);
}

bool pretok_ignores_merges(const struct pretok *p)
{
    return p->kind->ignore_merges;
}

int pretok_iter_new(const struct pretok *p, struct pretok_iter **out, struct pd_err *err)
{
    struct pretok_iter *it = calloc(1, sizeof(*it));

    if (it != NULL) {
        it->pretok = p;
        it->match = pcre2_match_data_create(1, NULL);
        it->limits = pcre2_match_context_create(NULL);
    }
    if (it == NULL || it->match == NULL || it->limits == NULL) {
        pretok_iter_free(it);
        return pd_fail(err, PD_ENOMEM, "out of memory");
    }
    pcre2_set_match_limit(it->limits, MATCH_LIMIT);
    pcre2_set_heap_limit(it->limits, HEAP_LIMIT_KIB);
    *out = it;
    return 0;
}

void pretok_iter_free(struct pretok_iter *it)
{
    if (it == NULL)
        return;
    pcre2_match_data_free(it->match);
    pcre2_match_context_free(it->limits);
    free(it);
}

void pretok_iter_set(struct pretok_iter *it, struct pd_str text)
{
    it->text = text;
    it->at = 0;
    it->valid = 0;
}

/* Length of the UTF-8 sequence at s (n > 0 bytes are there), 0 when it is none: RFC 3629, which is
 * also what PCRE2 demands (no surrogates, nothing overlong, at most U+10FFFF). */
static size_t utf8_len(const unsigned char *s, size_t n)
{
    unsigned char lo = 0x80, hi = 0xbf; /* bounds of the second byte */
    size_t len;

    if (s[0] < 0x80)
        return 1;
    if (s[0] < 0xc2 || s[0] > 0xf4)
        return 0;
    len = s[0] < 0xe0 ? 2 : s[0] < 0xf0 ? 3 : 4;
    if (s[0] == 0xe0)
        lo = 0xa0;
    else if (s[0] == 0xed)
        hi = 0x9f;
    else if (s[0] == 0xf0)
        lo = 0x90;
    else if (s[0] == 0xf4)
        hi = 0x8f;
    if (n < len || s[1] < lo || s[1] > hi)
        return 0;
    for (size_t i = 2; i < len; i++)
        if (s[i] < 0x80 || s[i] > 0xbf)
            return 0;
    return len;
}

/* First place from `at` on that is not UTF-8, or the end. */
static size_t utf8_end(struct pd_str text, size_t at)
{
    while (at < text.len) {
        size_t n = utf8_len((const unsigned char *)text.ptr + at, text.len - at);

        if (n == 0)
            break;
        at += n;
    }
    return at;
}

int pretok_iter_next(struct pretok_iter *it, struct pd_str *out_piece, struct pd_err *err)
{
    const PCRE2_SIZE *span;
    PCRE2_SPTR text = (PCRE2_SPTR)it->text.ptr;
    int rc;

    if (it->at >= it->text.len)
        return 0;
    if (it->at >= it->valid)
        it->valid = utf8_end(it->text, it->at);
    if (it->at == it->valid) { /* not UTF-8: this byte alone */
        *out_piece = (struct pd_str){it->text.ptr + it->at, 1};
        it->at++;
        return 1;
    }
    rc = pcre2_match(it->pretok->code, text, it->valid, it->at, PCRE2_NO_UTF_CHECK, it->match,
                     it->limits);
    if (rc == PCRE2_ERROR_JIT_STACKLIMIT) /* the interpreter has the heap */
        rc = pcre2_match(it->pretok->code, text, it->valid, it->at,
                         PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT, it->match, it->limits);
    if (rc == PCRE2_ERROR_NOMEMORY)
        return pd_fail(err, PD_ENOMEM, "out of memory");
    if (rc < 0)
        return pd_fail(err, PD_ELIMIT,
                       "text at byte %zu cannot be cut by pre-tokenizer '%s' (PCRE2 error %d)",
                       it->at, it->pretok->kind->name, rc);
    span = pcre2_get_ovector_pointer(it->match);
    if (span[0] != it->at || span[1] <= span[0])
        return pd_fail(err, PD_ELIMIT, "pre-tokenizer '%s' matched nothing at byte %zu",
                       it->pretok->kind->name, it->at);
    *out_piece = (struct pd_str){it->text.ptr + span[0], span[1] - span[0]};
    it->at = span[1];
    return 1;
}
