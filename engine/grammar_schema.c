/* JSON Schema (draft 2020-12, the part that structured output is asked for with) as a grammar.
 *
 * What is compiled is always a conjunction: schemas that all must hold. So allOf, what stands
 * beside $ref, and the same property in several schemas need no rules of their own; anyOf is
 * distributed over its neighbours. A conjunction becomes one rule, which is found again when it is
 * met again: that is how recursion ends. Rules wait in a queue and are made one after the other.
 *
 * Every text of the grammar is valid, but not every valid text is of the grammar: members come in
 * the order of the schema, white space is sparse, numbers have at most 16 digits before and behind
 * the point. docs/design/grammar.md has the list. A keyword that is not known or not supported is
 * an error, never ignored. */
#include "engine/grammar_int.h"

#include <float.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/json.h"

#define CONJUNCTION_MAX 32
#define DIGITS          16 /* of a number, before and behind the point */
#define INDENT_MAX      20
#define MULTIPLE_MAX    1000
#define LENGTH_MAX      100000 /* more is too complex in any case */
#define ENUM_MAX        10000
#define COMPARE_WORK    64  /* what it takes to compare two small values */
#define LONG_STRING     256 /* from here on a character is a rule: one state instead of ten */

/* Schemas that must all hold. done: anyOf and oneOf among them of which one alternative has been
 * chosen, and stands in all. */
struct conjunction {
    const struct pd_json *all[CONJUNCTION_MAX], *done[CONJUNCTION_MAX];
    uint32_t n, n_done;
};

struct waiting {
    struct conjunction c;
    uint32_t rule;
    struct waiting *next;
};

struct reader {
    struct grammar_builder *b;
    const struct pd_json *root;
    struct pd_err *err;
    struct waiting *first, **end;                /* all conjunctions so far */
    const struct grammar_dfa *one;               /* character of a string */
    uint32_t string, character, number, integer; /* rules; 0: not made yet */
};

/* ---- errors ------------------------------------------------------------------------------------
 */

/* Appends the JSON pointer from `from` to v; false: it is not there. */
static bool put_pointer(const struct pd_json *from, const struct pd_json *v, struct pd_buf *out)
{
    size_t len = out->len, i = 0;

    if (from == v)
        return true;
    if (!pd_json_is_object(from) && !pd_json_is_array(from))
        return false;
    for (const struct pd_json *m = pd_json_first(from); m; m = pd_json_next(m), i++) {
        pd_buf_addc(out, '/');
        for (const char *k = pd_json_is_object(from) ? pd_json_key(m) : ""; *k; k++) {
            if (*k == '~' || *k == '/')
                pd_buf_addz(out, *k == '~' ? "~0" : "~1");
            else
                pd_buf_addc(out, *k);
        }
        if (pd_json_is_array(from))
            pd_buf_printf(out, "%zu", i);
        if (put_pointer(m, v, out))
            return true;
        out->len = len;
    }
    return false;
}

/* What is wrong with v, a part of the schema. */
static int fail(const struct reader *r, const struct pd_json *v, const char *what)
{
    struct pd_buf at = PD_BUF_INIT(4096);

    pd_buf_addc(&at, '#');
    put_pointer(r->root, v, &at);
    pd_buf_addc(&at, '\0');
    pd_fail(r->err, PD_EINVAL, "at '%.200s': %s", pd_buf_str(&at).ptr, what);
    pd_buf_done(&at);
    return PD_EINVAL;
}

/* ---- keywords ----------------------------------------------------------------------------------
 */

enum {
    TYPE_NULL = 1,
    TYPE_BOOLEAN = 2,
    TYPE_INTEGER = 4,
    TYPE_NUMBER = 8,
    TYPE_STRING = 16,
    TYPE_ARRAY = 32,
    TYPE_OBJECT = 64,
    TYPE_ANY = 127,
};

static const struct {
    const char *name;
    unsigned type;
} types[] = {{"null", TYPE_NULL},     {"boolean", TYPE_BOOLEAN}, {"integer", TYPE_INTEGER},
             {"number", TYPE_NUMBER}, {"string", TYPE_STRING},   {"array", TYPE_ARRAY},
             {"object", TYPE_OBJECT}};

/* What is supported. about: types that it speaks of; 0: of any. */
static const struct keyword {
    const char *name;
    unsigned about;
} keywords[] = {
    {"type", 0},
    {"enum", 0},
    {"const", 0},
    {"$ref", 0},
    {"allOf", 0},
    {"anyOf", 0},
    {"oneOf", 0},
    {"minimum", TYPE_NUMBER | TYPE_INTEGER},
    {"maximum", TYPE_NUMBER | TYPE_INTEGER},
    {"exclusiveMinimum", TYPE_NUMBER | TYPE_INTEGER},
    {"exclusiveMaximum", TYPE_NUMBER | TYPE_INTEGER},
    {"multipleOf", TYPE_NUMBER | TYPE_INTEGER},
    {"minLength", TYPE_STRING},
    {"maxLength", TYPE_STRING},
    {"pattern", TYPE_STRING},
    {"format", TYPE_STRING},
    {"items", TYPE_ARRAY},
    {"prefixItems", TYPE_ARRAY},
    {"minItems", TYPE_ARRAY},
    {"maxItems", TYPE_ARRAY},
    {"uniqueItems", TYPE_ARRAY},
    {"properties", TYPE_OBJECT},
    {"required", TYPE_OBJECT},
    {"additionalProperties", TYPE_OBJECT},
    {"title", 0},
    {"description", 0},
    {"default", 0},
    {"examples", 0},
    {"deprecated", 0},
    {"readOnly", 0},
    {"writeOnly", 0},
    {"discriminator", 0}, /* OpenAPI's; what it says, the alternatives say too */
    {"$schema", 0},
    {"$id", 0},
    {"$comment", 0},
    {"$defs", 0},
    {"definitions", 0},
};

static const struct keyword *find_keyword(const char *name)
{
    for (size_t i = 0; i < sizeof(keywords) / sizeof(*keywords); i++)
        if (strcmp(keywords[i].name, name) == 0)
            return &keywords[i];
    return NULL;
}

/* Types that a schema's keywords speak of, all of which are known. */
static unsigned about(const struct pd_json *schema)
{
    unsigned mask = 0;

    for (const struct pd_json *m = pd_json_first(schema); m; m = pd_json_next(m)) {
        const struct keyword *k = find_keyword(pd_json_key(m));

        mask |= k ? k->about : 0;
    }
    return mask;
}

static int read_types(const struct reader *r, const struct pd_json *v, unsigned *out)
{
    size_t n = pd_json_is_array(v) ? pd_json_size(v) : 1;

    *out = 0;
    for (size_t i = 0; i < n; i++) {
        const struct pd_json *one = pd_json_is_array(v) ? pd_json_at(v, i) : v;
        const char *name = pd_json_string(one);
        unsigned type = 0;

        for (size_t k = 0; k < sizeof(types) / sizeof(*types) && name; k++)
            type |= strcmp(types[k].name, name) == 0 ? types[k].type : 0;
        if (!type)
            return fail(r, one, "this is no type");
        *out |= type;
    }
    if (*out & TYPE_NUMBER)
        *out |= TYPE_INTEGER;
    return 0;
}

/* A count: the keyword's greatest (or smallest) value among all; *io stays when it is nowhere. */
static int read_count(const struct reader *r, const struct conjunction *c, const char *key,
                      bool greatest, uint32_t *io)
{
    for (uint32_t i = 0; i < c->n; i++) {
        const struct pd_json *v = pd_json_get(c->all[i], key);
        double d = 0;
        uint32_t n;

        if (!v)
            continue;
        if (!pd_json_number(v, &d) || d < 0 || d > 1e15 || d > floor(d))
            return fail(r, v, "this must be a whole number of at least 0");
        n = d > LENGTH_MAX ? LENGTH_MAX : (uint32_t)d;
        if (greatest && d > LENGTH_MAX) {
            r->b->full = true;
            return 0;
        }
        if (d <= LENGTH_MAX && (*io == GRAMMAR_NO_END || (greatest ? n > *io : n < *io)))
            *io = n;
    }
    return 0;
}

/* ---- conjunctions
 * -------------------------------------------------------------------------------- */

static int add(const struct reader *r, struct conjunction *c, const struct pd_json *schema)
{
    for (uint32_t i = 0; i < c->n; i++)
        if (c->all[i] == schema)
            return 0;
    if (c->n == CONJUNCTION_MAX)
        return fail(r, schema, "too many schemas apply to the same value");
    c->all[c->n++] = schema;
    return 0;
}

static int resolve(const struct reader *r, const struct pd_json *ref, const struct pd_json **out)
{
    const char *p = pd_json_string(ref);
    const struct pd_json *v = r->root;
    char name[256];

    if (!p || p[0] != '#' || (p[1] && p[1] != '/'))
        return fail(r, ref, "only references within the schema are supported: '#/$defs/name'");
    for (p++; *p && v;) {
        size_t n = 0;

        for (p++; *p && *p != '/' && n + 1 < sizeof(name); p++) {
            if (p[0] == '~' && (p[1] == '0' || p[1] == '1'))
                name[n++] = *++p == '0' ? '~' : '/';
            else if (p[0] == '%')
                return fail(r, ref, "references with escapes are not supported");
            else
                name[n++] = *p;
        }
        name[n] = '\0';
        if (pd_json_is_array(v)) {
            uint64_t i;

            v = pd_parse_u64(pd_str_of(name), &i) ? pd_json_at(v, (size_t)i) : NULL;
        } else {
            v = pd_json_get(v, name);
        }
    }
    *out = v;
    return v ? 0 : fail(r, ref, "what this refers to is not there");
}

static int check_keywords(const struct reader *r, const struct pd_json *schema)
{
    for (const struct pd_json *m = pd_json_first(schema); m; m = pd_json_next(m)) {
        bool unique = false;

        if (!find_keyword(pd_json_key(m)))
            return fail(r, m, "this keyword is not supported");
        if (strcmp(pd_json_key(m), "uniqueItems") == 0 && (!pd_json_bool(m, &unique) || unique))
            return fail(r, m, "only uniqueItems: false is supported");
    }
    return 0;
}

static bool is_done(const struct conjunction *c, const struct pd_json *choice)
{
    for (uint32_t i = 0; i < c->n_done; i++)
        if (c->done[i] == choice)
            return true;
    return false;
}

/* Adds what the schemas refer to. *out_choice: an anyOf or oneOf that is not done, or NULL. */
static int flatten(const struct reader *r, struct conjunction *c, const struct pd_json **out_choice)
{
    static const char *const choices[] = {"anyOf", "oneOf"};
    int rc = 0;

    *out_choice = NULL;
    for (uint32_t i = 0; i < c->n && rc == 0; i++) {
        const struct pd_json *s = c->all[i], *ref = pd_json_get(s, "$ref"),
                             *all = pd_json_get(s, "allOf"), *target = NULL;
        bool yes = true;

        if (!pd_json_is_object(s) && (!pd_json_bool(s, &yes) || !yes))
            return fail(r, s, yes ? "a schema must be an object or true" : "nothing fits false");
        rc = check_keywords(r, s);
        if (rc == 0 && ref && (rc = resolve(r, ref, &target)) == 0)
            rc = add(r, c, target);
        if (all && !pd_json_is_array(all))
            return fail(r, all, "this must be an array of schemas");
        for (const struct pd_json *m = pd_json_first(all); m && rc == 0; m = pd_json_next(m))
            rc = add(r, c, m);
        for (int k = 0; k < 2; k++) {
            const struct pd_json *choice = pd_json_get(s, choices[k]);

            if (choice && (!pd_json_is_array(choice) || !pd_json_size(choice)))
                return fail(r, choice, "this must be an array of schemas");
            if (choice && !*out_choice && !is_done(c, choice))
                *out_choice = choice;
        }
    }
    return rc;
}

static bool same(const struct conjunction *x, const struct conjunction *y)
{
    return x->n == y->n && x->n_done == y->n_done &&
           memcmp(x->all, y->all, x->n * sizeof(*x->all)) == 0 &&
           memcmp(x->done, y->done, x->n_done * sizeof(*x->done)) == 0;
}

/* The rule of a conjunction, which is made later. */
static uint32_t rule_of(struct reader *r, const struct conjunction *c)
{
    struct waiting *w;

    for (w = r->first; w; w = w->next)
        if (same(&w->c, c))
            return w->rule;
    w = pd_arena_alloc(&r->b->arena, sizeof(*w));
    if (!w) {
        r->b->full = true;
        return 0;
    }
    w->c = *c;
    w->rule = r->first ? grammar_new_rule(r->b, "") : GRAMMAR_ROOT;
    *r->end = w;
    r->end = &w->next;
    return w->rule;
}

static struct grammar_expr *expr_of(struct reader *r, const struct conjunction *c)
{
    return grammar_of_rule(r->b, rule_of(r, c));
}

/* ---- pieces of JSON
 * ------------------------------------------------------------------------------ */

static struct grammar_expr *text(struct reader *r, const char *z)
{
    return grammar_literal(r->b, pd_str_of(z));
}

static struct grammar_expr *optional(struct reader *r, struct grammar_expr *e)
{
    return grammar_repeat(r->b, e, 0, 1);
}

static struct grammar_expr *range(struct reader *r, char lo, char hi)
{
    return grammar_bytes(r->b, (uint8_t)lo, (uint8_t)hi);
}

/* One blank, or the end of a line and its successor's indentation, or nothing. No line is empty, so
 * that nothing looks like the end of a step. */
static struct grammar_expr *space(struct reader *r)
{
    struct grammar_expr *blank = grammar_alt(r->b, text(r, " "), text(r, "\t")),
                        *line = grammar_cat(r->b, text(r, "\n"),
                                            grammar_repeat(r->b, blank, 0, INDENT_MAX));

    return optional(r, grammar_alt(r->b, text(r, " "), line));
}

static struct grammar_expr *comma(struct reader *r)
{
    return grammar_cat(r->b, text(r, ","), space(r));
}

static struct grammar_expr *enclosed(struct reader *r, const char *open, struct grammar_expr *e,
                                     const char *close)
{
    struct grammar_expr *all = grammar_list(r->b, GRAMMAR_CAT);

    grammar_push(r->b, all, text(r, open));
    grammar_push(r->b, all, space(r));
    grammar_push(r->b, all, e);
    grammar_push(r->b, all, space(r));
    grammar_push(r->b, all, text(r, close));
    return all;
}

static struct grammar_expr *quoted(struct reader *r, struct grammar_expr *e)
{
    struct grammar_expr *all = grammar_list(r->b, GRAMMAR_CAT);

    grammar_push(r->b, all, text(r, "\""));
    grammar_push(r->b, all, e);
    grammar_push(r->b, all, text(r, "\""));
    return all;
}

/* Characters that stand for themselves in a string. */
static struct grammar_expr *plain_char(struct reader *r)
{
    struct grammar_chars c = {0};

    grammar_chars_add(r->b, &c, ' ', '!');
    grammar_chars_add(r->b, &c, '#', '[');
    grammar_chars_add(r->b, &c, ']', GRAMMAR_CHAR_MAX);
    return grammar_utf8(r->b, &c);
}

static struct grammar_expr *hex(struct reader *r, uint32_t n)
{
    struct grammar_expr *digit = grammar_list(r->b, GRAMMAR_ALT);

    grammar_push(r->b, digit, range(r, '0', '9'));
    grammar_push(r->b, digit, range(r, 'a', 'f'));
    grammar_push(r->b, digit, range(r, 'A', 'F'));
    return grammar_repeat(r->b, digit, n, n);
}

static struct grammar_expr *one_of(struct reader *r, const char *bytes)
{
    struct grammar_expr *alt = grammar_list(r->b, GRAMMAR_ALT);

    for (; *bytes; bytes++)
        grammar_push(r->b, alt, range(r, *bytes, *bytes));
    return alt;
}

/* One character of a string in any spelling but NUL's: no surrogate stands alone. */
static struct grammar_expr *any_char(struct reader *r)
{
    struct grammar_builder *b = r->b;
    struct grammar_expr *all = grammar_list(b, GRAMMAR_ALT), *u = grammar_list(b, GRAMMAR_ALT),
                        *pair = grammar_list(b, GRAMMAR_CAT), *dx,
                        *zero = grammar_list(b, GRAMMAR_ALT);
    const char *const zeros[] = {"", "0", "00"};

    for (size_t i = 0; i < 3; i++) /* 0nnn, 00nn, 000n with n not 0 */
        grammar_push(b, zero,
                     grammar_cat(b, text(r, zeros[i]),
                                 grammar_cat(b, one_of(r, "123456789abcdefABCDEF"),
                                             hex(r, 2 - (uint32_t)i))));
    grammar_push(b, u, grammar_cat(b, text(r, "0"), zero));
    grammar_push(b, u, grammar_cat(b, one_of(r, "123456789abcefABCEF"), hex(r, 3)));
    dx = grammar_cat(b, one_of(r, "dD"), range(r, '0', '7'));
    grammar_push(b, u, grammar_cat(b, dx, hex(r, 2)));
    grammar_push(b, pair, one_of(r, "dD"));
    grammar_push(b, pair, one_of(r, "89abAB"));
    grammar_push(b, pair, hex(r, 2));
    grammar_push(b, pair, text(r, "\\u"));
    grammar_push(b, pair, one_of(r, "dD"));
    grammar_push(b, pair, one_of(r, "cdefCDEF"));
    grammar_push(b, pair, hex(r, 2));
    grammar_push(b, u, pair);
    grammar_push(b, all, plain_char(r));
    grammar_push(b, all, grammar_cat(b, text(r, "\\"), one_of(r, "\"\\/bfnrt")));
    grammar_push(b, all, grammar_cat(b, text(r, "\\u"), u));
    return all;
}

/* One character of a set, in one spelling: that of a JSON writer. */
static struct grammar_expr *spelled_char(struct grammar_builder *b, const struct grammar_chars *c)
{
    static const char *const shorts[0x20] = {
        ['\b'] = "\\b", ['\t'] = "\\t", ['\n'] = "\\n", ['\f'] = "\\f", ['\r'] = "\\r"};
    struct grammar_chars plain = {0};
    struct grammar_expr *alt = grammar_list(b, GRAMMAR_ALT);
    char escape[8];

    for (size_t i = 0; i < c->n; i++) {
        static const struct grammar_range parts[] = {
            {' ', '!'}, {'#', '['}, {']', GRAMMAR_CHAR_MAX}};

        for (size_t k = 0; k < 3; k++) {
            uint32_t lo = c->r[i].lo > parts[k].lo ? c->r[i].lo : parts[k].lo,
                     hi = c->r[i].hi < parts[k].hi ? c->r[i].hi : parts[k].hi;

            if (lo <= hi)
                grammar_chars_add(b, &plain, lo, hi);
        }
    }
    grammar_push(b, alt, grammar_utf8(b, &plain));
    if (grammar_chars_has(c, '"'))
        grammar_push(b, alt, grammar_literal(b, PD_STR("\\\"")));
    if (grammar_chars_has(c, '\\'))
        grammar_push(b, alt, grammar_literal(b, PD_STR("\\\\")));
    for (uint32_t cp = 1; cp < 0x20; cp++) {
        if (!grammar_chars_has(c, cp))
            continue;
        snprintf(escape, sizeof(escape), "\\u%04x", cp);
        grammar_push(b, alt, grammar_literal(b, pd_str_of(shorts[cp] ? shorts[cp] : escape)));
    }
    return alt;
}

/* ---- strings -----------------------------------------------------------------------------------
 */

#define YEAR "[1-9]\\d{3}"
#define LEAP "([1-9]\\d(0[48]|[2468][048]|[13579][26])|([2468][048]|[13579][26])00)"
#define DATE                                                                                       \
    "(" YEAR "-(((0[13578]|1[02])-(0[1-9]|[12]\\d|3[01]))|((0[469]|11)-(0[1-9]|[12]\\d|30))|02-"   \
    "(0[1-9]|1\\d|2[0-8]))|" LEAP "-02-29)"
#define TIME  "([01]\\d|2[0-3]):[0-5]\\d:[0-5]\\d(\\.\\d{1,6})?(Z|[+-]([01]\\d|2[0-3]):[0-5]\\d)"
#define OCTET "(25[0-5]|2[0-4]\\d|1\\d\\d|[1-9]?\\d)"
#define WORD  "[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
#define HEX   "[0-9a-fA-F]"

static const struct {
    const char *name, *pattern;
} formats[] = {
    {"date", "^" DATE "$"},
    {"time", "^" TIME "$"},
    {"date-time", "^" DATE "T" TIME "$"},
    {"duration",
     "^P(\\d{1,4}W|(\\d{1,4}Y(\\d{1,4}M(\\d{1,4}D)?)?|\\d{1,4}M(\\d{1,4}D)?|\\d{1,4}D)(T("
     "\\d{1,4}H(\\d{1,4}M(\\d{1,4}S)?)?|\\d{1,4}M(\\d{1,4}S)?|\\d{1,4}S))?|T(\\d{1,4}H(\\"
     "d{1,4}M(\\d{1,4}S)?)?|\\d{1,4}M(\\d{1,4}S)?|\\d{1,4}S))$"},
    {"uuid", "^" HEX "{8}-" HEX "{4}-" HEX "{4}-" HEX "{4}-" HEX "{12}$"},
    {"ipv4", "^(" OCTET "\\.){3}" OCTET "$"},
    {"ipv6", "^(" HEX "{1,4}:){7}" HEX "{1,4}$"},
    {"hostname", "^" WORD "(\\." WORD "){0,3}$"},
    {"email", "^[A-Za-z0-9_%+-]{1,32}(\\.[A-Za-z0-9_%+-]{1,32}){0,3}@" WORD "(\\." WORD "){1,3}$"},
    {"uri", "^[a-z][a-z0-9+-]{0,15}://[A-Za-z0-9._~:/?#@!$&'()*+,;=-]+$"},
};

/* The contents of a string by one pattern or format. */
static int read_form(struct reader *r, const struct pd_json *v, bool is_format,
                     struct grammar_expr **out)
{
    const char *name = pd_json_string(v), *pattern = is_format ? NULL : name;
    struct pd_err why;
    int rc;

    for (size_t i = 0; i < sizeof(formats) / sizeof(*formats) && is_format && name; i++)
        if (strcmp(formats[i].name, name) == 0)
            pattern = formats[i].pattern;
    if (!pattern)
        return fail(r, v, is_format ? "this format is not supported" : "this must be a string");
    rc = grammar_read_pattern(r->b, pd_str_of(pattern), spelled_char, out, &why);
    return rc < 0 ? fail(r, v, why.text) : 0;
}

static const struct grammar_dfa *lengths(struct reader *r, uint32_t min, uint32_t max)
{
    struct grammar_chars any = {0};
    const struct grammar_dfa *one;

    grammar_chars_add(r->b, &any, 1, GRAMMAR_CHAR_MAX);
    one = grammar_dfa_new(r->b, spelled_char(r->b, &any));
    return grammar_dfa_new(r->b, grammar_repeat(r->b, grammar_of_dfa(r->b, one), min, max));
}

/* Of a string of so many. */
static struct grammar_expr *one_char(struct reader *r, uint32_t min, uint32_t max)
{
    if (!r->one)
        r->one = grammar_dfa_new(r->b, any_char(r));
    if (min < LONG_STRING && (max < LONG_STRING || max == GRAMMAR_NO_END))
        return grammar_of_dfa(r->b, r->one);
    if (!r->character) {
        r->character = grammar_new_rule(r->b, "");
        r->b->rules[r->character].expr = grammar_of_dfa(r->b, r->one);
        r->b->rules[r->character].apart = true;
    }
    return grammar_of_rule(r->b, r->character);
}

static int read_string(struct reader *r, const struct conjunction *c, struct grammar_expr **out)
{
    static const char *const keys[] = {"pattern", "format"};
    uint32_t min = 0, max = GRAMMAR_NO_END, n = 0;
    const struct grammar_dfa *dfa = NULL;
    struct grammar_expr *form = NULL;
    int rc = read_count(r, c, "minLength", true, &min);

    if (rc == 0)
        rc = read_count(r, c, "maxLength", false, &max);
    if (rc == 0 && min > max)
        return fail(r, c->all[0], "minLength is greater than maxLength");
    for (uint32_t i = 0; i < c->n && rc == 0; i++)
        for (int k = 0; k < 2 && rc == 0; k++) {
            const struct pd_json *v = pd_json_get(c->all[i], keys[k]);

            rc = v ? read_form(r, v, k == 1, &form) : 0;
            if (!v || rc < 0)
                continue;
            if (n++ == 0 && min == 0 && max == GRAMMAR_NO_END && c->n == 1 &&
                !(pd_json_get(c->all[i], keys[0]) && pd_json_get(c->all[i], keys[1])))
                continue; /* nothing to compare it with */
            dfa = dfa ? grammar_dfa_and(r->b, dfa, grammar_dfa_new(r->b, form), false)
                      : grammar_dfa_new(r->b, form);
        }
    if (rc < 0)
        return rc;
    if (n && (min > 0 || max < GRAMMAR_NO_END))
        dfa = grammar_dfa_and(r->b, dfa, lengths(r, min, max), false);
    if (grammar_dfa_fits_nothing(dfa))
        return fail(r, c->all[0], "no string has this form and length");
    if (n == 0 && min == 0 && max == GRAMMAR_NO_END) {
        if (!r->string) {
            r->string = grammar_new_rule(r->b, "");
            r->b->rules[r->string].expr =
                quoted(r, grammar_repeat(r->b, one_char(r, 0, GRAMMAR_NO_END), 0, GRAMMAR_NO_END));
        }
        *out = grammar_of_rule(r->b, r->string);
    } else if (n == 0) {
        *out = quoted(r, grammar_repeat(r->b, one_char(r, min, max), min, max));
    } else {
        *out = quoted(r, dfa || r->b->full ? grammar_of_dfa(r->b, dfa) : form);
    }
    return 0;
}

/* ---- numbers -----------------------------------------------------------------------------------
 */

struct bound {
    double v;  /* not finite: none */
    bool open; /* v itself is outside */
};

struct span { /* of magnitudes, as digits */
    struct reader *r;
    const char *lo, *hi; /* [n_whole + n_part]; NULL: no bound */
    bool lo_open, hi_open, whole;
    uint32_t n_whole, n_part;
};

static bool zeros(const char *digits, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        if (digits[i] != '0')
            return false;
    return true;
}

static struct grammar_expr *digits(struct reader *r, uint32_t min, uint32_t max)
{
    return grammar_repeat(r->b, range(r, '0', '9'), min, max);
}

/* Behind all digits that the bounds have: what has been written equals the lower one, the upper
 * one, or both. */
static struct grammar_expr *beyond(const struct span *s, bool at_lo, bool at_hi)
{
    struct reader *r = s->r;
    uint32_t left = DIGITS - s->n_part;
    struct grammar_expr *zero = grammar_repeat(r->b, text(r, "0"), 0, left);

    if (at_hi)
        return s->hi_open || (at_lo && s->lo_open) ? grammar_list(r->b, GRAMMAR_ALT) : zero;
    if (!at_lo || !s->lo_open)
        return digits(r, 0, left);
    return grammar_cat(r->b, grammar_repeat(r->b, text(r, "0"), 0, left - 1),
                       grammar_cat(r->b, range(r, '1', '9'), digits(r, 0, 1)));
}

/* Digits from the i-th on; at_lo: those before are the lower bound's. */
static struct grammar_expr *digits_from(const struct span *s, uint32_t i, bool at_lo, bool at_hi)
{
    struct reader *r = s->r;
    uint32_t n = s->n_whole + s->n_part;
    bool ends = (!at_lo || (zeros(s->lo + i, n - i) && !s->lo_open)) &&
                (!at_hi || !zeros(s->hi + i, n - i) || !s->hi_open);
    struct grammar_expr *alt = grammar_list(r->b, GRAMMAR_ALT);
    char lo, hi;

    if (i == n)
        return !s->whole ? beyond(s, at_lo, at_hi) : ends ? grammar_empty(r->b) : alt;
    lo = at_lo ? s->lo[i] : '0';
    hi = at_hi ? s->hi[i] : '9';
    if (at_lo && (!at_hi || lo < hi))
        grammar_push(r->b, alt,
                     grammar_cat(r->b, range(r, lo, lo), digits_from(s, i + 1, true, false)));
    if (at_hi && (!at_lo || lo < hi))
        grammar_push(r->b, alt,
                     grammar_cat(r->b, range(r, hi, hi), digits_from(s, i + 1, false, true)));
    if (at_lo && at_hi && lo == hi)
        grammar_push(r->b, alt,
                     grammar_cat(r->b, range(r, lo, lo), digits_from(s, i + 1, true, true)));
    else if (lo + at_lo <= hi - at_hi)
        grammar_push(r->b, alt,
                     grammar_cat(r->b, range(r, (char)(lo + at_lo), (char)(hi - at_hi)),
                                 digits_from(s, i + 1, false, false)));
    if (i == s->n_whole)
        alt = grammar_cat(r->b, text(r, "."), alt);
    return i >= s->n_whole && ends ? optional(r, alt) : alt;
}

/* How many digits behind the point say v exactly; -1: more than DIGITS - 1. */
static int part_digits(double v)
{
    char z[64];

    for (int n = 0; n < DIGITS; n++) {
        snprintf(z, sizeof(z), "%.*f", n, v);
        if (!(strtod(z, NULL) < v) && !(strtod(z, NULL) > v))
            return n;
    }
    return -1;
}

/* v with so many digits before and behind the point, without that. */
static void write_digits(double v, uint32_t n_whole, uint32_t n_part, char out[2 * DIGITS + 1])
{
    char z[64];
    size_t n = 0;

    snprintf(z, sizeof(z), "%0*.*f", (int)(n_whole + n_part + (n_part > 0)), (int)n_part, v);
    for (const char *c = z; *c && n < 2 * DIGITS; c++)
        if (*c != '.')
            out[n++] = *c;
    out[n] = '\0';
}

/* Numbers without a sign from lo (at least 0) to hi, by how many digits they have before the
 * point. */
static struct grammar_expr *magnitudes(struct reader *r, struct bound lo, struct bound hi,
                                       bool whole, uint32_t n_part)
{
    struct grammar_expr *alt = grammar_list(r->b, GRAMMAR_ALT);
    double base = 0, top = 10;

    for (uint32_t n = 1; n <= DIGITS; n++, base = n == 2 ? 10 : base * 10, top *= 10) {
        char from[2 * DIGITS + 1], to[2 * DIGITS + 1];
        bool has_hi = isfinite(hi.v) && hi.v < top;
        struct span s = {r, from, to, lo.v >= base && lo.open, hi.open, whole, n, n_part};

        if (lo.v >= top || (has_hi && hi.v < base))
            continue;
        write_digits(lo.v > base ? lo.v : base, n, n_part, from);
        if (has_hi)
            write_digits(hi.v, n, n_part, to);
        grammar_push(r->b, alt, digits_from(&s, 0, true, has_hi));
    }
    return alt;
}

/* The bounds of all schemas together. */
static int read_bounds(const struct reader *r, const struct conjunction *c, struct bound *lo,
                       struct bound *hi)
{
    static const char *const keys[] = {"minimum", "exclusiveMinimum", "maximum",
                                       "exclusiveMaximum"};

    *lo = (struct bound){-HUGE_VAL, false};
    *hi = (struct bound){HUGE_VAL, false};
    for (uint32_t i = 0; i < c->n; i++)
        for (int k = 0; k < 4; k++) {
            const struct pd_json *v = pd_json_get(c->all[i], keys[k]);
            struct bound *b = k < 2 ? lo : hi;
            double d;

            if (!v)
                continue;
            if (!pd_json_number(v, &d))
                return fail(r, v, "this must be a number");
            if (k < 2 ? d > b->v : d < b->v)
                *b = (struct bound){d, k % 2 == 1};
            else if (!(d < b->v) && !(d > b->v))
                b->open = b->open || k % 2 == 1;
        }
    return 0;
}

/* The least whole number inside. */
static struct bound first_whole(struct bound lo)
{
    double up = ceil(lo.v);

    return isfinite(lo.v) ? (struct bound){up + (lo.open && !(up > lo.v)), false} : lo;
}

static struct bound negative(struct bound b)
{
    return (struct bound){-b.v, b.open};
}

static struct grammar_expr *plain_number(struct reader *r, bool whole)
{
    uint32_t *rule = whole ? &r->integer : &r->number;
    struct grammar_builder *b = r->b;
    struct grammar_expr *n, *part;

    if (*rule)
        return grammar_of_rule(b, *rule);
    *rule = grammar_new_rule(b, "");
    n = grammar_cat(b, range(r, '1', '9'), digits(r, 0, DIGITS - 1));
    if (whole) {
        n = grammar_alt(b, text(r, "0"), grammar_cat(b, optional(r, text(r, "-")), n));
    } else {
        n = grammar_cat(b, optional(r, text(r, "-")), grammar_alt(b, text(r, "0"), n));
        part = grammar_cat(b, text(r, "."), digits(r, 1, DIGITS));
        n = grammar_cat(b, n, optional(r, part));
        part = grammar_cat(b, optional(r, one_of(r, "+-")), digits(r, 1, 2));
        n = grammar_cat(b, n, optional(r, grammar_cat(b, one_of(r, "eE"), part)));
    }
    b->rules[*rule].expr = n;
    return grammar_of_rule(b, *rule);
}

/* Between bounds, of which one at least is finite. */
static int read_interval(struct reader *r, const struct conjunction *c, struct bound lo,
                         struct bound hi, bool whole, struct grammar_expr **out)
{
    static const struct bound zero;
    struct grammar_expr *alt = grammar_list(r->b, GRAMMAR_ALT);
    int n_lo, n_hi, n;

    if (whole) {
        lo = first_whole(lo);
        hi = negative(first_whole(negative(hi)));
    }
    if (lo.v > hi.v || (!(lo.v < hi.v) && (lo.open || hi.open)))
        return fail(r, c->all[0], "no number is within these bounds");
    if (lo.v < -1e15 || hi.v > 1e15) { /* more than the digits that are written */
        lo.v = lo.v < -1e15 ? -HUGE_VAL : lo.v;
        hi.v = hi.v > 1e15 ? HUGE_VAL : hi.v;
    }
    n_lo = isfinite(lo.v) ? part_digits(lo.v) : 0;
    n_hi = isfinite(hi.v) ? part_digits(hi.v) : 0;
    n = whole ? 0 : n_lo > n_hi ? n_lo : n_hi;
    if (lo.v > 1e15 || hi.v < -1e15 || n_lo < 0 || n_hi < 0)
        return fail(r, c->all[0], "bounds of more than 15 digits are not supported");
    n = !whole && n == 0 ? 1 : n;
    if (hi.v > 0 || (!(hi.v < 0) && !hi.open))
        grammar_push(r->b, alt, magnitudes(r, lo.v < 0 ? zero : lo, hi, whole, (uint32_t)n));
    if (lo.v < 0) {
        struct bound least = hi.v <= 0 ? negative(hi) : (struct bound){whole, false};

        least.v = whole && least.v < 1 ? 1 : least.v; /* -0 is not written */
        grammar_push(r->b, alt,
                     grammar_cat(r->b, text(r, "-"),
                                 magnitudes(r, least, negative(lo), whole, (uint32_t)n)));
    }
    *out = alt;
    return 0;
}

static int read_number(struct reader *r, const struct conjunction *c, bool whole,
                       struct grammar_expr **out)
{
    const struct grammar_dfa *dfa = NULL;
    struct bound lo, hi;
    int rc = read_bounds(r, c, &lo, &hi);
    double d = 0;

    for (uint32_t i = 0; i < c->n && rc == 0; i++) {
        const struct pd_json *v = pd_json_get(c->all[i], "multipleOf");
        const struct grammar_dfa *one;

        if (!v)
            continue;
        if (!pd_json_number(v, &d) || d < 1 || d > MULTIPLE_MAX || d > floor(d))
            return fail(r, v, "only whole numbers from 1 to 1000 are supported");
        whole = true;
        one = grammar_dfa_multiple(r->b, (uint32_t)d);
        dfa = dfa ? grammar_dfa_and(r->b, dfa, one, false) : one;
    }
    if (rc == 0 && !isfinite(lo.v) && !isfinite(hi.v))
        *out = plain_number(r, whole);
    else if (rc == 0)
        rc = read_interval(r, c, lo, hi, whole, out);
    if (rc < 0 || !dfa || r->b->full)
        return rc;
    if ((*out)->op == GRAMMAR_RULE) /* an automaton takes no rules */
        *out = r->b->rules[(*out)->rule].expr;
    dfa = grammar_dfa_and(r->b, dfa, grammar_dfa_new(r->b, *out), false);
    if (grammar_dfa_fits_nothing(dfa))
        return fail(r, c->all[0], "no number within the bounds is such a multiple");
    *out = grammar_of_dfa(r->b, dfa);
    return 0;
}

/* ---- arrays ------------------------------------------------------------------------------------
 */

/* What is said of the i-th item. *out_says: somebody says something of it; *out_fits: something
 * fits. */
static int read_item(const struct reader *r, const struct conjunction *c, uint32_t i,
                     struct conjunction *out, bool *out_fits)
{
    memset(out, 0, sizeof(*out));
    *out_fits = true;
    for (uint32_t k = 0; k < c->n; k++) {
        const struct pd_json *prefix = pd_json_get(c->all[k], "prefixItems"),
                             *rest = pd_json_get(c->all[k], "items"), *v;
        bool yes = true;
        int rc;

        if (prefix && !pd_json_is_array(prefix))
            return fail(r, prefix, "this must be an array of schemas");
        v = i < pd_json_size(prefix) ? pd_json_at(prefix, i) : rest;
        if (v && pd_json_bool(v, &yes) && !yes)
            *out_fits = false;
        else if (v && (rc = add(r, out, v)) < 0)
            return rc;
    }
    return 0;
}

static int read_array(struct reader *r, const struct conjunction *c, struct grammar_expr **out)
{
    uint32_t min = 0, max = GRAMMAR_NO_END, n_prefix = 0, n;
    struct grammar_expr *list = grammar_list(r->b, GRAMMAR_CAT), *item = NULL;
    struct conjunction of;
    bool fits, open = true;
    int rc = read_count(r, c, "minItems", true, &min);

    if (rc == 0)
        rc = read_count(r, c, "maxItems", false, &max);
    for (uint32_t i = 0; i < c->n; i++) {
        uint32_t k = (uint32_t)pd_json_size(pd_json_get(c->all[i], "prefixItems"));

        n_prefix = k > n_prefix ? k : n_prefix;
        open = open && (!k || pd_json_get(c->all[i], "items"));
    }
    /* as many as are described, but no more than there may be */
    for (n = 0; n < n_prefix && n < max && rc == 0; n++) {
        rc = read_item(r, c, n, &of, &fits);
        if (rc == 0 && !fits)
            break;
        item = expr_of(r, &of);
        if (n)
            grammar_push(r->b, list, comma(r));
        grammar_push(r->b, list, item);
    }
    if (rc == 0)
        rc = read_item(r, c, n_prefix, &of, &fits);
    if (rc < 0)
        return rc;
    if (!fits || n < n_prefix)
        max = max < n ? max : n;
    else if (!open && min <= n)
        max = n; /* more could be anything: none is asked for */
    if (min > max)
        return fail(r, c->all[0], "no array has so few and so many items");
    if (max > n) {
        struct grammar_expr *more;

        item = expr_of(r, &of);
        more = grammar_cat(r->b, comma(r), item);
        if (n) {
            more = grammar_repeat(r->b, more, min > n ? min - n : 0,
                                  max == GRAMMAR_NO_END ? max : max - n);
        } else {
            more = grammar_repeat(r->b, more, min > 1 ? min - 1 : 0,
                                  max == GRAMMAR_NO_END ? max : max - 1);
            more = grammar_cat(r->b, item, more);
            more = min == 0 ? optional(r, more) : more;
        }
        grammar_push(r->b, list, more);
    }
    *out = enclosed(r, "[", list, "]");
    return 0;
}

/* ---- objects -----------------------------------------------------------------------------------
 */

static struct grammar_expr *member(struct reader *r, struct grammar_expr *key,
                                   struct grammar_expr *value)
{
    struct grammar_expr *all = grammar_list(r->b, GRAMMAR_CAT);

    grammar_push(r->b, all, key);
    grammar_push(r->b, all, text(r, ":"));
    grammar_push(r->b, all, optional(r, text(r, " ")));
    grammar_push(r->b, all, value);
    return all;
}

static struct grammar_expr *written(struct reader *r, const struct pd_json *v, const char *key)
{
    struct pd_buf out = PD_BUF_INIT(ENG_GRAMMAR_MAX_BYTES);
    struct grammar_expr *e;
    struct pd_jw w;

    pd_jw_init(&w, &out);
    if (key)
        pd_jw_strz(&w, key);
    else
        pd_jw_value(&w, v);
    r->b->full = r->b->full || pd_buf_rc(&out) < 0;
    e = grammar_literal(r->b, pd_buf_str(&out));
    pd_buf_done(&out);
    return e;
}

static bool is_required(const struct conjunction *c, const char *name)
{
    for (uint32_t i = 0; i < c->n; i++) {
        const struct pd_json *v = pd_json_get(c->all[i], "required");

        for (v = pd_json_first(v); v; v = pd_json_next(v))
            if (pd_json_string(v) && strcmp(pd_json_string(v), name) == 0)
                return true;
    }
    return false;
}

/* Whether one of the first n schemas has a property of this name. */
static bool is_property(const struct conjunction *c, uint32_t n, const char *name)
{
    for (uint32_t i = 0; i < n; i++)
        if (pd_json_get(pd_json_get(c->all[i], "properties"), name))
            return true;
    return false;
}

/* What is said of a member, by its name (NULL: one that no schema names). *out_fits: it may be
 * there. */
static int read_member(const struct reader *r, const struct conjunction *c, const char *name,
                       struct conjunction *out, bool *out_fits)
{
    memset(out, 0, sizeof(*out));
    *out_fits = true;
    for (uint32_t i = 0; i < c->n; i++) {
        const struct pd_json *v = NULL;
        bool yes = true;
        int rc;

        if (name)
            v = pd_json_get(pd_json_get(c->all[i], "properties"), name);
        v = v ? v : pd_json_get(c->all[i], "additionalProperties");
        if (v && pd_json_bool(v, &yes) && !yes)
            *out_fits = false;
        else if (v && (rc = add(r, out, v)) < 0)
            return rc;
    }
    return 0;
}

/* A key that no property has. */
static struct grammar_expr *other_key(struct reader *r, const struct conjunction *c)
{
    struct grammar_expr *known = grammar_list(r->b, GRAMMAR_ALT), *any;

    for (uint32_t i = 0; i < c->n; i++) {
        const struct pd_json *m = pd_json_first(pd_json_get(c->all[i], "properties"));

        for (; m; m = pd_json_next(m))
            grammar_push(r->b, known, grammar_literal(r->b, pd_str_of(pd_json_key(m))));
    }
    /* without escapes, so that no key is written in another way */
    any = grammar_repeat(r->b, plain_char(r), 0, GRAMMAR_NO_END);
    if (known->n)
        any = grammar_of_dfa(r->b, grammar_dfa_and(r->b, grammar_dfa_new(r->b, any),
                                                   grammar_dfa_new(r->b, known), true));
    return quoted(r, any);
}

static int add_member(struct reader *r, const struct conjunction *c, const char *name,
                      const struct pd_json *where, struct grammar_expr *join)
{
    bool fits, required = is_required(c, name);
    struct conjunction of;
    int rc = read_member(r, c, name, &of, &fits);

    if (rc == 0 && !fits && required)
        return fail(r, where, "this is required, but additionalProperties or false forbid it");
    if (rc == 0 && fits)
        grammar_join_add(r->b, join, member(r, written(r, NULL, name), expr_of(r, &of)), !required);
    return rc;
}

static int read_object(struct reader *r, const struct conjunction *c, struct grammar_expr **out)
{
    struct grammar_expr *join = grammar_join(r->b, comma(r)), *more;
    struct conjunction of;
    bool named = false, open = false, fits;
    int rc = 0;

    for (uint32_t i = 0; i < c->n && rc == 0; i++) {
        const struct pd_json *p = pd_json_get(c->all[i], "properties"),
                             *m = pd_json_get(c->all[i], "additionalProperties");
        bool yes;

        if (p && !pd_json_is_object(p))
            return fail(r, p, "this must be an object of schemas");
        if (m && !pd_json_is_object(m) && !pd_json_bool(m, &yes))
            return fail(r, m, "this must be a schema");
        named = named || p;
        open = open || m;
        for (m = pd_json_first(p); m && rc == 0 && !r->b->full; m = pd_json_next(m))
            if (!is_property(c, i, pd_json_key(m)))
                rc = add_member(r, c, pd_json_key(m), m, join);
    }
    for (uint32_t i = 0; i < c->n && rc == 0; i++) {
        const struct pd_json *all = pd_json_get(c->all[i], "required"), *m;

        if (all && !pd_json_is_array(all))
            return fail(r, all, "this must be an array of names");
        for (m = pd_json_first(all); m && rc == 0 && !r->b->full; m = pd_json_next(m)) {
            const char *name = pd_json_string(m);
            bool again = false;

            if (!name)
                return fail(r, m, "this must be a name");
            for (uint32_t k = 0; k < i && !again; k++)
                again = is_required(&(struct conjunction){.all = {c->all[k]}, .n = 1}, name);
            for (const struct pd_json *o = pd_json_first(all); o != m; o = pd_json_next(o))
                again = again || (pd_json_string(o) && strcmp(pd_json_string(o), name) == 0);
            if (!again && !is_property(c, c->n, name)) {
                named = true;
                rc = add_member(r, c, name, m, join);
            }
        }
    }
    if (rc == 0)
        rc = read_member(r, c, NULL, &of, &fits);
    if (rc < 0)
        return rc;
    if (fits && (open || !named)) {
        more = member(r, other_key(r, c), expr_of(r, &of));
        more = grammar_cat(
            r->b, more, grammar_repeat(r->b, grammar_cat(r->b, comma(r), more), 0, GRAMMAR_NO_END));
        grammar_join_add(r->b, join, more, true);
    }
    *out = enclosed(r, "{", join, "}");
    return 0;
}

/* ---- values ------------------------------------------------------------------------------------
 */

static unsigned type_of(const struct pd_json *v)
{
    double d;
    bool b;

    if (pd_json_is_object(v))
        return TYPE_OBJECT;
    if (pd_json_is_array(v))
        return TYPE_ARRAY;
    if (pd_json_string(v))
        return TYPE_STRING;
    if (pd_json_bool(v, &b))
        return TYPE_BOOLEAN;
    if (pd_json_number(v, &d))
        return d > floor(d) ? TYPE_NUMBER : TYPE_INTEGER;
    return TYPE_NULL;
}

/* As JSON says it; members in another order are another text. */
static bool equal(struct grammar_builder *b, const struct pd_json *x, const struct pd_json *y)
{
    struct pd_buf p = PD_BUF_INIT(ENG_GRAMMAR_MAX_BYTES), q = PD_BUF_INIT(ENG_GRAMMAR_MAX_BYTES);
    struct pd_jw w;
    bool yes;

    pd_jw_init(&w, &p);
    pd_jw_value(&w, x);
    pd_jw_init(&w, &q);
    pd_jw_value(&w, y);
    yes = pd_str_eq(pd_buf_str(&p), pd_buf_str(&q));
    grammar_work(b, COMPARE_WORK + p.len + q.len);
    pd_buf_done(&p);
    pd_buf_done(&q);
    return yes;
}

/* The values that enum or const of a schema name: *out_n of them, from *out_first on. */
static const struct pd_json *named_values(const struct pd_json *schema, size_t *out_n)
{
    const struct pd_json *all = pd_json_get(schema, "enum"), *one = pd_json_get(schema, "const");

    *out_n = one ? 1 : pd_json_size(all);
    return one ? one : pd_json_first(all);
}

static bool is_named(struct grammar_builder *b, const struct pd_json *schema,
                     const struct pd_json *v)
{
    size_t n;
    const struct pd_json *o = named_values(schema, &n);

    for (; o && n > 0 && !b->full; n--, o = n ? pd_json_next(o) : NULL)
        if (equal(b, o, v))
            return true;
    return false;
}

/* The values that all schemas with enum or const name. */
static int read_values(struct reader *r, const struct conjunction *c, uint32_t by, unsigned mask,
                       struct grammar_expr **out)
{
    struct grammar_expr *alt = grammar_list(r->b, GRAMMAR_ALT);
    const struct pd_json *v;
    size_t n;

    for (uint32_t i = 0; i < c->n; i++) {
        const struct pd_json *all = pd_json_get(c->all[i], "enum");

        if (all && (!pd_json_is_array(all) || pd_json_size(all) > ENUM_MAX))
            return fail(r, all, "this must be an array of at most 10000 values");
        if (all && pd_json_get(c->all[i], "const"))
            return fail(r, all, "enum beside const is not supported");
        if (about(c->all[i]))
            return fail(r, c->all[i], "enum and const are supported beside type alone");
    }
    v = named_values(c->all[by], &n);
    for (; v && n > 0; n--, v = n ? pd_json_next(v) : NULL) {
        bool fits = (type_of(v) & mask) != 0;

        for (uint32_t i = 0; i < c->n && fits; i++)
            if (i != by && (pd_json_get(c->all[i], "enum") || pd_json_get(c->all[i], "const")))
                fits = is_named(r->b, c->all[i], v);
        if (fits)
            grammar_push(r->b, alt, written(r, v, NULL));
    }
    *out = alt;
    return alt->n ? 0 : fail(r, c->all[by], "none of these values fits");
}

static int read_value(struct reader *r, const struct conjunction *c, struct grammar_expr **out)
{
    struct grammar_expr *alt = grammar_list(r->b, GRAMMAR_ALT), *e = alt;
    unsigned mask = TYPE_ANY, speaks_of = 0, one;
    bool typed = false;
    int rc = 0;

    for (uint32_t i = 0; i < c->n && rc == 0; i++) {
        const struct pd_json *type = pd_json_get(c->all[i], "type");

        rc = type ? read_types(r, type, &one) : 0;
        if (type && rc == 0) {
            mask &= one;
            typed = true;
        }
        speaks_of |= about(c->all[i]);
    }
    if (rc < 0)
        return rc;
    for (uint32_t i = 0; i < c->n; i++)
        if (pd_json_get(c->all[i], "enum") || pd_json_get(c->all[i], "const"))
            return read_values(r, c, i, mask, out);
    if (!typed && speaks_of) /* what it speaks of is what is meant */
        mask = speaks_of;
    if (!mask)
        return fail(r, c->all[0], "no type fits");
    if (mask & TYPE_NULL)
        grammar_push(r->b, alt, text(r, "null"));
    if (mask & TYPE_BOOLEAN)
        grammar_push(r->b, alt, grammar_alt(r->b, text(r, "true"), text(r, "false")));
    if (mask & TYPE_INTEGER) {
        rc = read_number(r, c, !(mask & TYPE_NUMBER), &e);
        grammar_push(r->b, alt, e);
    }
    if (rc == 0 && mask & TYPE_STRING) {
        rc = read_string(r, c, &e);
        grammar_push(r->b, alt, e);
    }
    if (rc == 0 && mask & TYPE_ARRAY) {
        rc = read_array(r, c, &e);
        grammar_push(r->b, alt, e);
    }
    if (rc == 0 && mask & TYPE_OBJECT) {
        rc = read_object(r, c, &e);
        grammar_push(r->b, alt, e);
    }
    *out = alt;
    return rc;
}

/* ---- alternatives
 * -------------------------------------------------------------------------------- */

/* Types of what fits a schema; written: of what is written by it. */
static unsigned types_of(const struct reader *r, const struct pd_json *schema, bool is_written)
{
    unsigned mask = TYPE_ANY, named = 0;
    size_t n;
    const struct pd_json *v = named_values(schema, &n), *type = pd_json_get(schema, "type");

    if (type && read_types(r, type, &mask) < 0)
        return TYPE_ANY;
    for (; v && n > 0; n--, v = n ? pd_json_next(v) : NULL)
        named |= type_of(v);
    if (named)
        return mask & named;
    return is_written && !type && about(schema) ? about(schema) : mask;
}

/* Whether two schemas name values, and none in common. */
static bool name_apart(struct grammar_builder *b, const struct pd_json *x, const struct pd_json *y)
{
    size_t n, m;
    const struct pd_json *v = named_values(x, &n);

    if (!v || !named_values(y, &m))
        return false;
    for (; v && n > 0; n--, v = n ? pd_json_next(v) : NULL)
        if (is_named(b, y, v))
            return false;
    return true;
}

/* Whether there is more to a schema than its own keywords. */
static bool is_composed(const struct pd_json *schema)
{
    return pd_json_get(schema, "$ref") || pd_json_get(schema, "allOf") ||
           pd_json_get(schema, "anyOf") || pd_json_get(schema, "oneOf");
}

/* Whether what is written by x never fits y: a member that y asks for is not among x's, or both
 * ask for one of which the values differ. */
static bool writes_apart(struct grammar_builder *b, const struct pd_json *x,
                         const struct pd_json *y)
{
    const struct pd_json *px = pd_json_get(x, "properties"), *py = pd_json_get(y, "properties");
    const struct pd_json *more = pd_json_get(x, "additionalProperties");
    bool open = more && (pd_json_is_object(more) || (pd_json_bool(more, &open) && open));

    for (const struct pd_json *m = pd_json_first(pd_json_get(y, "required")); m;
         m = pd_json_next(m)) {
        const char *name = pd_json_string(m);
        const struct pd_json *vx = name ? pd_json_get(px, name) : NULL;

        if (!name || (!vx && (open || !px || is_composed(x))))
            continue;
        if (!vx)
            return !is_required(&(struct conjunction){.all = {x}, .n = 1}, name);
        if (is_required(&(struct conjunction){.all = {x}, .n = 1}, name) && pd_json_get(py, name) &&
            name_apart(b, vx, pd_json_get(py, name)))
            return true;
    }
    return false;
}

static const struct pd_json *follow(const struct reader *r, const struct pd_json *schema)
{
    const struct pd_json *to = schema;

    for (int i = 0; i < CONJUNCTION_MAX && pd_json_get(to, "$ref"); i++)
        if (resolve(r, pd_json_get(to, "$ref"), &to) < 0)
            return schema;
    return to;
}

/* Whether nothing that is written by x fits y. */
static bool are_apart(const struct reader *r, const struct pd_json *x, const struct pd_json *y)
{
    unsigned both = types_of(r, x, true) & types_of(r, y, false);

    return !both || name_apart(r->b, x, y) || (both == TYPE_OBJECT && writes_apart(r->b, x, y));
}

/* What is written by one alternative of a oneOf must not fit another. */
static int check_apart(const struct reader *r, const struct pd_json *choice)
{
    for (const struct pd_json *x = pd_json_first(choice); x; x = pd_json_next(x))
        for (const struct pd_json *y = pd_json_next(x); y; y = pd_json_next(y)) {
            const struct pd_json *a = follow(r, x), *b = follow(r, y);

            grammar_work(r->b, COMPARE_WORK);
            if (r->b->full)
                return 0;
            if (!are_apart(r, a, b) || !are_apart(r, b, a))
                return fail(r, y,
                            "this alternative of oneOf is not seen to exclude those before "
                            "it: write anyOf, or give them properties whose const differs");
        }
    return 0;
}

/* One of a choice, with all that stands beside it. */
static int read_choice(struct reader *r, const struct conjunction *c, const struct pd_json *choice,
                       struct grammar_expr **out)
{
    struct grammar_expr *alt = grammar_list(r->b, GRAMMAR_ALT);
    int rc = strcmp(pd_json_key(choice), "oneOf") == 0 ? check_apart(r, choice) : 0;

    if (rc == 0 && c->n_done == CONJUNCTION_MAX)
        return fail(r, choice, "too many choices apply to the same value");
    for (const struct pd_json *m = pd_json_first(choice); m && rc == 0 && !r->b->full;
         m = pd_json_next(m)) {
        struct conjunction one = *c;

        one.done[one.n_done++] = choice;
        rc = add(r, &one, m);
        grammar_push(r->b, alt, expr_of(r, &one));
    }
    *out = alt;
    return rc;
}

int grammar_read_schema(struct grammar_builder *b, struct pd_str schema, struct pd_err *err)
{
    struct reader r = {.b = b, .err = err};
    struct conjunction whole = {.n = 1};
    struct pd_json *root = NULL;
    int rc = pd_json_parse(schema, &root, err);

    if (rc < 0)
        return rc == PD_ENOMEM ? rc : PD_EINVAL;
    r.root = whole.all[0] = root;
    r.end = &r.first;
    rule_of(&r, &whole);
    for (struct waiting *w = r.first; w && rc == 0 && !b->full; w = w->next) {
        struct conjunction c = w->c;
        const struct pd_json *choice;
        struct grammar_expr *e = NULL;

        rc = flatten(&r, &c, &choice);
        if (rc == 0)
            rc = choice ? read_choice(&r, &c, choice, &e) : read_value(&r, &c, &e);
        b->rules[w->rule].expr = e;
    }
    pd_json_free(root);
    return rc;
}
