/* Pre-tokenizers, through PCRE2. The expressions are those of the models' own tokenizers; only \s
 * is spelled out as Unicode's White_Space, because PCRE2's \s also has U+180E. */
#include "engine/pretok.h"

#include "base/buf.h"

#include <assert.h>
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <stdlib.h>
#include <uninorm.h>

/* Members of a class: White_Space. */
#define WS                                                                                         \
    "\\x{09}-\\x{0d}\\x{20}\\x{85}\\x{a0}\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}"           \
    "\\x{202f}\\x{205f}\\x{3000}"
#define SPACE     "[" WS "]"
#define NOT_SPACE "[^" WS "]"
#define OTHER     "[^" WS "\\p{L}\\p{N}]" /* no white space, letter or number */

#define SPACES "|" SPACE "+(?!" NOT_SPACE ")|" SPACE "+" /* all but the one before a word */
#define GPT2   "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?" OTHER "+" SPACES

/* cl100k and its kin, which differ in how many digits go together */
#define CL100K(digits)                                                                             \
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|" digits "| ?" OTHER               \
    "+[\\r\\n]*|" SPACE "*[\\r\\n]+" SPACES

/* o200k and its kin: a word is capitals, then small letters, then perhaps a suffix */
#define CAPITALS "[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]"
#define SMALL    "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]"
#define O200K(suffix, digits)                                                                      \
    "[^\\r\\n\\p{L}\\p{N}]?" CAPITALS "*" SMALL "+" suffix "|[^\\r\\n\\p{L}\\p{N}]?" CAPITALS      \
    "+" SMALL "*" suffix "|" digits "| ?" OTHER "+[\\r\\n/]*|" SPACE "*[\\r\\n]+" SPACES

/* U+4E00 … U+9FA5, U+0800 … U+4E00, U+AC00 … U+D7FF: CJK, and what else lies there */
#define CJK "[\\x{4e00}-\\x{9fa5}\\x{800}-\\x{4e00}\\x{ac00}-\\x{d7ff}]+"

/* Members of a class: the letters with case of deepseek-llm, those of a past Unicode without
 * Georgian and mathematical ones. */
#define CASED                                                                                      \
    "\\x{41}-\\x{5a}\\x{61}-\\x{7a}\\x{b5}\\x{c0}-\\x{d6}\\x{d8}-\\x{f6}\\x{f8}-\\x{1ba}"          \
    "\\x{1bc}-\\x{1bf}\\x{1c4}-\\x{293}\\x{295}-\\x{2af}\\x{370}-\\x{373}\\x{376}-\\x{377}"        \
    "\\x{37b}-\\x{37d}\\x{37f}\\x{386}\\x{388}-\\x{38a}\\x{38c}\\x{38e}-\\x{3a1}"                  \
    "\\x{3a3}-\\x{3f5}\\x{3f7}-\\x{481}\\x{48a}-\\x{52f}\\x{531}-\\x{556}\\x{10a0}-\\x{10c5}"      \
    "\\x{13a0}-\\x{13f5}\\x{13f8}-\\x{13fd}\\x{1c90}-\\x{1cba}\\x{1cbd}-\\x{1cbf}"                 \
    "\\x{1d00}-\\x{1d2b}\\x{1d6b}-\\x{1d77}\\x{1d79}-\\x{1d9a}\\x{1e00}-\\x{1f15}"                 \
    "\\x{1f18}-\\x{1f1d}\\x{1f20}-\\x{1f45}\\x{1f48}-\\x{1f4d}\\x{1f50}-\\x{1f57}\\x{1f59}"        \
    "\\x{1f5b}\\x{1f5d}\\x{1f5f}-\\x{1f7d}\\x{1f80}-\\x{1fb4}\\x{1fb6}-\\x{1fbc}\\x{1fbe}"         \
    "\\x{1fc2}-\\x{1fc4}\\x{1fc6}-\\x{1fcc}\\x{1fd0}-\\x{1fd3}\\x{1fd6}-\\x{1fdb}"                 \
    "\\x{1fe0}-\\x{1fec}\\x{1ff2}-\\x{1ff4}\\x{1ff6}-\\x{1ffc}\\x{2102}\\x{2107}"                  \
    "\\x{210a}-\\x{2113}\\x{2115}\\x{2119}-\\x{211d}\\x{2124}\\x{2126}\\x{2128}"                   \
    "\\x{212a}-\\x{212d}\\x{212f}-\\x{2134}\\x{2139}\\x{213c}-\\x{213f}\\x{2145}-\\x{2149}"        \
    "\\x{214e}\\x{2183}-\\x{2184}\\x{2c00}-\\x{2c7b}\\x{2c7e}-\\x{2ce4}\\x{2ceb}-\\x{2cee}"        \
    "\\x{2cf2}-\\x{2cf3}\\x{a640}-\\x{a66d}\\x{a680}-\\x{a69b}\\x{a722}-\\x{a76f}"                 \
    "\\x{a771}-\\x{a787}\\x{a78b}-\\x{a78e}\\x{ab70}-\\x{abbf}\\x{fb00}-\\x{fb06}"                 \
    "\\x{fb13}-\\x{fb17}\\x{ff21}-\\x{ff3a}\\x{ff41}-\\x{ff5a}\\x{10400}-\\x{1044f}"               \
    "\\x{104b0}-\\x{104d3}\\x{104d8}-\\x{104fb}\\x{10c80}-\\x{10cb2}\\x{10cc0}-\\x{10cf2}"         \
    "\\x{118a0}-\\x{118df}\\x{1e900}-\\x{1e943}"

enum { STAGES_MAX = 6, NAMES_MAX = 8 };

/* The match limit bounds the backtracking of one match: linear in the longest run of white space,
 * so this is enough for 64 MiB of blanks. The heap limit (KiB) bounds the interpreter's frames. */
enum { MATCH_LIMIT = 64 << 20, HEAP_LIMIT_KIB = 64 << 10 };

static const struct kind {
    const char *names[NAMES_MAX]; /* what files call it in tokenizer.ggml.pre */
    bool ignore_merges, add_bos, nfc;
    const char *regexes[STAGES_MAX];
} kinds[] = {
    {.names = {"gpt-2", "phi-2", "mellum", "a.x-4.0"}, .regexes = {GPT2}},
    {.names = {"mpt", "olmo"}, .nfc = true, .regexes = {GPT2}},
    {.names = {"qwen2"}, .nfc = true, .regexes = {CL100K("\\p{N}")}},
    {.names = {"deepseek-r1-qwen", "megrez", "kormo", "stablelm2"}, .regexes = {CL100K("\\p{N}")}},
    {.names = {"llama-bpe", "llama3", "llama-v3", "falcon3", "pixtral", "midm-2.0"},
     .ignore_merges = true,
     .add_bos = true,
     .regexes = {CL100K("\\p{N}{1,3}")}},
    {.names = {"dbrx", "smaug-bpe"}, .regexes = {CL100K("\\p{N}{1,3}")}},
    {.names = {"starcoder", "refact", "smollm", "command-r", "codeshell", "minerva-7b"},
     .regexes = {"\\p{N}", GPT2}},
    /* The original's step for digits comes behind the map from bytes to letters, where only ASCII
     * digits are left (and six continuation bytes, which no merge of its vocabulary joins). */
    {.names = {"falcon"}, .regexes = {"[\\p{P}$+<=>^`|~]+", GPT2, "[0-9]+", "[0-9][0-9][0-9]"}},
    {.names = {"deepseek-llm"},
     .regexes = {"[\\r\\n]", SPACE "?[" CASED "]+",
                 SPACE "?[!-/:-~\\x{ff01}-\\x{ff0f}\\x{ff1a}-\\x{ff5e}"
                       "\\x{2018}-\\x{201f}\\x{3000}-\\x{3002}]+",
                 /* \s+$; from the first blank of a run only, else it were quadratic */
                 "(?<!" SPACE ")" SPACE "++\\z", CJK, "\\p{N}+"}},
    {.names = {"deepseek-coder"},
     .regexes = {"[\\r\\n]", SPACE "?\\p{L}+", SPACE "?\\p{P}+", CJK, "\\p{N}"}},
    {.names = {"tekken"}, .ignore_merges = true, .add_bos = true, .regexes = {O200K("", "\\p{N}")}},
    {.names = {"gpt-4o", "llama4"},
     .regexes = {O200K("(?i:'s|'t|'re|'ve|'m|'ll|'d)?", "\\p{N}{1,3}")}},
};
enum { N_KINDS = sizeof(kinds) / sizeof(kinds[0]) };

struct pretok {
    const struct kind *kind;
    pcre2_code *codes[STAGES_MAX];
    size_t n_stages;
};

struct stage {             /* offsets into the text */
    size_t begin, at, end; /* the piece that is cut; [begin, at) was handed on */
    size_t from, to;       /* its next match; to ≤ at: not searched yet */
};

struct pretok_iter {
    const struct pretok *pretok;
    pcre2_match_data *match;
    pcre2_match_context *limits;
    struct pd_str text;
    struct pd_buf composed;          /* the text in form C, where that may be another */
    struct stage stages[STAGES_MAX]; /* each cuts the piece that the one before gave out last */
};

static const struct kind *find_kind(struct pd_str name)
{
    for (size_t i = 0; i < N_KINDS; i++)
        for (size_t j = 0; j < NAMES_MAX && kinds[i].names[j] != NULL; j++)
            if (pd_str_eq(name, pd_str_of(kinds[i].names[j])))
                return &kinds[i];
    return NULL;
}

static int unknown(struct pd_str name, struct pd_err *err)
{
    struct pd_buf known = PD_BUF_INIT(4096);
    int rc;

    for (size_t i = 0; i < N_KINDS; i++)
        for (size_t j = 0; j < NAMES_MAX && kinds[i].names[j] != NULL; j++)
            pd_buf_printf(&known, " %s", kinds[i].names[j]);
    rc = pd_fail(err, PD_EFORMAT, "pre-tokenizer '%.*s' is not known to this build (known:%s)",
                 (int)(name.len < 64 ? name.len : 64), name.ptr,
                 known.data != NULL ? known.data : "");
    pd_buf_done(&known);
    return rc;
}

int pretok_new(struct pd_str name, struct pretok **out, struct pd_err *err)
{
    const struct kind *kind = find_kind(name);
    struct pretok *p;

    if (kind == NULL)
        return unknown(name, err);
    p = calloc(1, sizeof(*p));
    if (p == NULL)
        return pd_fail(err, PD_ENOMEM, "out of memory");
    p->kind = kind;
    for (; p->n_stages < STAGES_MAX && kind->regexes[p->n_stages] != NULL; p->n_stages++) {
        const char *regex = kind->regexes[p->n_stages];
        PCRE2_SIZE at = 0;
        int code = 0;

        p->codes[p->n_stages] = pcre2_compile((PCRE2_SPTR)regex, PCRE2_ZERO_TERMINATED,
                                              PCRE2_UTF | PCRE2_UCP, &code, &at, NULL);
        if (p->codes[p->n_stages] == NULL) {
            pretok_free(p);
            return pd_fail(err, code == PCRE2_ERROR_NOMEMORY ? PD_ENOMEM : PD_EINVAL,
                           "pre-tokenizer '%s' does not compile (PCRE2 error %d at %zu of '%s')",
                           kind->names[0], code, (size_t)at, regex);
        }
        /* where there is no JIT: the interpreter, same matches */
        (void)pcre2_jit_compile(p->codes[p->n_stages], PCRE2_JIT_COMPLETE);
    }
    *out = p;
    return 0;
}

void pretok_free(struct pretok *p)
{
    if (p == NULL)
        return;
    for (size_t i = 0; i < p->n_stages; i++)
        pcre2_code_free(p->codes[i]);
    free(p);
}

bool pretok_ignores_merges(const struct pretok *p)
{
    return p->kind->ignore_merges;
}

bool pretok_adds_bos(const struct pretok *p)
{
    return p->kind->add_bos;
}

int pretok_iter_new(const struct pretok *p, struct pretok_iter **out, struct pd_err *err)
{
    struct pretok_iter *it = calloc(1, sizeof(*it));

    if (it != NULL) {
        it->pretok = p;
        it->composed = PD_BUF_INIT(SIZE_MAX);
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
    pd_buf_done(&it->composed);
    free(it);
}

/* Stage s gets [from, to) to cut. */
static void stage_set(struct stage *s, size_t from, size_t to)
{
    *s = (struct stage){.begin = from, .at = from, .end = to};
}

/* First place from `at` on that is not UTF-8, or the end. */
static size_t utf8_end(struct pd_str text, size_t at)
{
    size_t n;

    while ((n = pd_utf8_len(pd_str_sub(text, at, text.len))) > 0)
        at += n;
    return at;
}

/* Appends text, which is UTF-8, in form C. */
static int compose(struct pretok_iter *it, struct pd_str text, struct pd_err *err)
{
    size_t n = 0;
    uint8_t *s;

    if (text.len == 0)
        return 0;
    s = u8_normalize(UNINORM_NFC, (const uint8_t *)text.ptr, text.len, NULL, &n);
    if (s == NULL || pd_buf_add(&it->composed, s, n) < 0) {
        free(s);
        return pd_fail(err, PD_ENOMEM, "out of memory");
    }
    free(s);
    return 0;
}

static bool is_ascii(struct pd_str text)
{
    unsigned char seen = 0;

    for (size_t i = 0; i < text.len; i++)
        seen |= (unsigned char)text.ptr[i];
    return seen < 0x80;
}

int pretok_iter_set(struct pretok_iter *it, struct pd_str text, struct pd_err *err)
{
    int rc = 0;

    memset(it->stages, 0, sizeof(it->stages));
    it->text = text;
    if (!it->pretok->kind->nfc || is_ascii(text))
        return 0;
    pd_buf_clear(&it->composed);
    for (size_t from = 0, to; rc == 0 && from < text.len; from = to + 1) {
        to = utf8_end(text, from);
        rc = compose(it, pd_str_sub(text, from, to), err);
        if (rc == 0 && to < text.len && pd_buf_addc(&it->composed, text.ptr[to]) < 0)
            rc = pd_fail(err, PD_ENOMEM, "out of memory");
    }
    it->text = pd_buf_str(&it->composed);
    return rc;
}

/* The next match in what is left of the stage's piece; [end, end) when there is none. The piece
 * alone is the subject: an expression sees nothing before and behind it. */
static int search(struct pretok_iter *it, size_t i, struct pd_err *err)
{
    struct stage *s = &it->stages[i];
    const pcre2_code *code = it->pretok->codes[i];
    PCRE2_SPTR subject = (PCRE2_SPTR)it->text.ptr + s->begin;
    const PCRE2_SIZE *span = pcre2_get_ovector_pointer(it->match);
    int rc = pcre2_match(code, subject, s->end - s->begin, s->at - s->begin, PCRE2_NO_UTF_CHECK,
                         it->match, it->limits);

    if (rc == PCRE2_ERROR_JIT_STACKLIMIT) /* the interpreter has the heap */
        rc = pcre2_match(code, subject, s->end - s->begin, s->at - s->begin,
                         PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT, it->match, it->limits);
    if (rc == PCRE2_ERROR_NOMATCH) {
        s->from = s->to = s->end;
        return 0;
    }
    if (rc == PCRE2_ERROR_NOMEMORY)
        return pd_fail(err, PD_ENOMEM, "out of memory");
    if (rc < 0)
        return pd_fail(err, PD_ELIMIT,
                       "text at byte %zu cannot be cut by pre-tokenizer '%s' (PCRE2 error %d)",
                       s->at, it->pretok->kind->names[0], rc);
    assert(span[1] > span[0]); /* none of the expressions matches nothing */
    s->from = s->begin + span[0];
    s->to = s->begin + span[1];
    return 0;
}

int pretok_iter_next(struct pretok_iter *it, struct pd_str *out_piece, struct pd_err *err)
{
    size_t n = it->pretok->n_stages, i = n; /* stages from i on have nothing left */
    size_t from, to;

    while (i > 0 && it->stages[i - 1].at == it->stages[i - 1].end)
        i--;
    if (i == 0) {
        from = it->stages[0].end;
        if (from == it->text.len)
            return 0;
        to = utf8_end(it->text, from);
        if (to == from) { /* not UTF-8: this byte alone */
            stage_set(&it->stages[0], from + 1, from + 1);
            *out_piece = pd_str_sub(it->text, from, from + 1);
            return 1;
        }
        stage_set(&it->stages[0], from, to);
        i = 1;
    }
    for (;; i++) {
        struct stage *s = &it->stages[i - 1];

        if (s->to <= s->at) {
            int rc = search(it, i - 1, err);

            if (rc < 0)
                return rc;
        }
        from = s->at;
        to = s->at < s->from ? s->from : s->to;
        s->at = to;
        if (i == n)
            break;
        stage_set(&it->stages[i], from, to);
    }
    *out_piece = pd_str_sub(it->text, from, to);
    return 1;
}
