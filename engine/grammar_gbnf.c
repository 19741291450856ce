/* The notation that llama.cpp's users know: rules of literals, classes, groups, repetitions and
 * alternatives.
 *
 *     rules       = { name "::=" alternatives }
 *     alternatives = sequence { "|" sequence }
 *     sequence    = { item [ "*" | "+" | "?" | "{" m [ "," [ n ] ] "}" ] }
 *     item        = "literal" | [class] | "." | name | "(" alternatives ")"
 *
 * "#" begins a comment. A rule ends where its line does, but for what stands in parentheses or
 * begins the next line with "|". */
#include "engine/grammar_int.h"

#include <ctype.h>

#define MAX_DEPTH  100
#define MAX_REPEAT 100000

struct reader {
    struct grammar_builder *b;
    struct pd_str text;
    size_t at;
    unsigned depth;
    struct pd_err *err;
};

static int fail_at(const struct reader *r, size_t at, const char *what)
{
    size_t line = 1, column = 1;

    for (size_t i = 0; i < at && i < r->text.len; i++) {
        column = r->text.ptr[i] == '\n' ? 1 : column + 1;
        line += r->text.ptr[i] == '\n';
    }
    return pd_fail(r->err, PD_EINVAL, "line %zu, column %zu: %s", line, column, what);
}

static int fail(const struct reader *r, const char *what)
{
    return fail_at(r, r->at, what);
}

static char peek(const struct reader *r)
{
    return r->at < r->text.len ? r->text.ptr[r->at] : '\0';
}

/* Blanks and comments; over the end of the line too, or not. */
static void skip(struct reader *r, bool lines)
{
    for (; r->at < r->text.len; r->at++) {
        char c = peek(r);

        if (c == '#')
            while (r->at + 1 < r->text.len && r->text.ptr[r->at + 1] != '\n')
                r->at++;
        else if (c != ' ' && c != '\t' && !(lines && (c == '\n' || c == '\r')))
            return;
    }
}

static bool is_name(char c)
{
    return isalnum((unsigned char)c) || c == '-' || c == '_';
}

static struct pd_str read_name(struct reader *r)
{
    size_t from = r->at;

    while (is_name(peek(r)))
        r->at++;
    return pd_str_sub(r->text, from, r->at);
}

static uint32_t find_rule(struct reader *r, struct pd_str name)
{
    for (uint32_t i = GRAMMAR_ROOT; i < r->b->n_rules; i++)
        if (pd_str_eq(pd_str_of(r->b->rules[i].name), name))
            return i;
    return grammar_new_rule(r->b, pd_arena_dup(&r->b->arena, name));
}

static int read_hex(struct reader *r, int digits, int32_t *out)
{
    uint32_t v = 0;

    for (int i = 0; i < digits; i++, r->at++) {
        char c = peek(r);

        if (!isxdigit((unsigned char)c))
            return fail(r, "hexadecimal digits are missing");
        v = v << 4 | (uint32_t)(isdigit((unsigned char)c) ? c - '0' : tolower(c) - 'a' + 10);
    }
    if (v > GRAMMAR_CHAR_MAX || (v >= 0xd800 && v <= 0xdfff))
        return fail(r, "this is no character");
    *out = (int32_t)v;
    return 0;
}

static int read_char(struct reader *r, int32_t *out)
{
    static const char from[] = "nrt\\\"[]-^/", to[] = "\n\r\t\\\"[]-^/";
    const char *known;
    char c;

    if (peek(r) != '\\') {
        *out = grammar_next_char(r->text, &r->at);
        return *out < 0 ? fail(r, "this is not UTF-8") : 0;
    }
    r->at++;
    c = peek(r);
    r->at++;
    if (c == 'x')
        return read_hex(r, 2, out);
    if (c == 'u')
        return read_hex(r, 4, out);
    if (c == 'U')
        return read_hex(r, 8, out);
    known = c ? strchr(from, c) : NULL;
    if (!known)
        return fail_at(r, r->at - 1, "no such escape");
    *out = to[known - from];
    return 0;
}

static int read_literal(struct reader *r, struct grammar_expr **out)
{
    int rc = 0;

    *out = grammar_list(r->b, GRAMMAR_CAT);
    for (r->at++; peek(r) != '"' && rc == 0;) {
        struct grammar_chars c = {0};
        int32_t cp = 0;

        if (r->at >= r->text.len)
            return fail(r, "the quotation mark that ends a literal is missing");
        rc = read_char(r, &cp);
        grammar_chars_add(r->b, &c, (uint32_t)cp, (uint32_t)cp);
        grammar_push(r->b, *out, grammar_utf8(r->b, &c));
    }
    r->at++;
    return rc;
}

static int read_class(struct reader *r, struct grammar_expr **out)
{
    struct grammar_chars c = {0};
    bool not = false;
    int rc = 0;

    r->at++;
    if (peek(r) == '^') {
        not = true;
        r->at++;
    }
    while (peek(r) != ']' && rc == 0) {
        int32_t lo = 0, hi;

        if (r->at >= r->text.len)
            return fail(r, "the bracket that ends a class is missing");
        rc = read_char(r, &lo);
        hi = lo;
        if (rc == 0 && peek(r) == '-' && r->at + 1 < r->text.len && r->text.ptr[r->at + 1] != ']') {
            r->at++;
            rc = read_char(r, &hi);
        }
        if (rc == 0 && hi < lo)
            return fail(r, "this range of characters is empty");
        grammar_chars_add(r->b, &c, (uint32_t)lo, (uint32_t)hi);
    }
    r->at++;
    grammar_chars_sort(&c);
    if (not )
        grammar_chars_not(r->b, &c);
    *out = grammar_utf8(r->b, &c);
    return rc;
}

static int read_number(struct reader *r, uint32_t *out)
{
    *out = 0;
    if (!isdigit((unsigned char)peek(r)))
        return fail(r, "a number is missing");
    for (; isdigit((unsigned char)peek(r)); r->at++)
        if ((*out = 10 * *out + (uint32_t)(peek(r) - '0')) > MAX_REPEAT)
            return fail(r, "this is too often");
    skip(r, false);
    return 0;
}

/* {m}, {m,}, {m,n} */
static int read_bounds(struct reader *r, uint32_t *min, uint32_t *max)
{
    int rc;

    r->at++;
    skip(r, false);
    rc = read_number(r, min);
    *max = *min;
    if (rc == 0 && peek(r) == ',') {
        r->at++;
        skip(r, false);
        *max = GRAMMAR_NO_END;
        if (peek(r) != '}')
            rc = read_number(r, max);
    }
    if (rc < 0)
        return rc;
    if (peek(r) != '}')
        return fail(r, "the brace that ends a repetition is missing");
    if (*max < *min)
        return fail(r, "the most times are fewer than the least");
    r->at++;
    return 0;
}

/* What may stand behind an item, also more than once. */
static int read_times(struct reader *r, struct grammar_expr **io)
{
    int rc = 0;

    for (unsigned n = 0; rc == 0; n++) {
        char c = peek(r);
        uint32_t min = c == '+', max = c == '?' ? 1 : GRAMMAR_NO_END;

        if (!c || !strchr("*+?{", c))
            return 0;
        if (n == MAX_DEPTH)
            return fail(r, "too many repetitions of each other");
        if (c == '{')
            rc = read_bounds(r, &min, &max);
        else
            r->at++;
        *io = grammar_repeat(r->b, *io, min, max);
    }
    return rc;
}

static int read_alternatives(struct reader *r, bool nested, struct grammar_expr **out);

static int read_item(struct reader *r, struct grammar_expr **out)
{
    struct grammar_chars any = {0};
    char c = peek(r);
    int rc;

    if (c == '"')
        return read_literal(r, out);
    if (c == '[')
        return read_class(r, out);
    if (c == '.') {
        r->at++;
        grammar_chars_add(r->b, &any, 0, GRAMMAR_CHAR_MAX);
        *out = grammar_utf8(r->b, &any);
        return 0;
    }
    if (is_name(c)) {
        *out = grammar_of_rule(r->b, find_rule(r, read_name(r)));
        return 0;
    }
    if (r->depth == MAX_DEPTH)
        return fail(r, "groups are nested too deeply");
    r->at++;
    r->depth++;
    rc = read_alternatives(r, true, out);
    r->depth--;
    if (rc == 0 && peek(r) != ')')
        rc = fail(r, "the parenthesis that ends a group is missing");
    r->at++;
    return rc;
}

static int read_sequence(struct reader *r, bool nested, struct grammar_expr **out)
{
    int rc = 0;

    *out = grammar_list(r->b, GRAMMAR_CAT);
    for (;;) {
        struct grammar_expr *item;
        char c = peek(r);

        if (!c || !(is_name(c) || strchr("\"[.(", c)))
            return rc;
        rc = read_item(r, &item);
        if (rc == 0)
            rc = read_times(r, &item);
        if (rc < 0)
            return rc;
        grammar_push(r->b, *out, item);
        skip(r, nested);
    }
}

static int read_alternatives(struct reader *r, bool nested, struct grammar_expr **out)
{
    struct grammar_expr *one;
    int rc;

    *out = grammar_list(r->b, GRAMMAR_ALT);
    for (;;) {
        size_t end;

        skip(r, true);
        rc = read_sequence(r, nested, &one);
        if (rc < 0)
            return rc;
        grammar_push(r->b, *out, one);
        end = r->at;
        skip(r, true);
        if (peek(r) != '|') {
            r->at = nested ? r->at : end;
            return 0;
        }
        r->at++;
    }
}

static int read_rule(struct reader *r)
{
    size_t from = r->at;
    struct pd_str name = read_name(r);
    struct grammar_expr *expr;
    uint32_t rule;
    char c;
    int rc;

    if (name.len == 0)
        return fail(r, "a rule is to begin here, with its name");
    rule = find_rule(r, name);
    if (r->b->rules[rule].expr)
        return fail_at(r, from, "this rule is there already");
    skip(r, false);
    if (!pd_str_starts(pd_str_sub(r->text, r->at, r->text.len), PD_STR("::=")))
        return fail(r, "'::=' is missing behind a rule's name");
    r->at += 3;
    rc = read_alternatives(r, false, &expr);
    if (rc < 0)
        return rc;
    r->b->rules[rule].expr = expr;
    c = peek(r);
    return c == '\n' || c == '\r' || r->at == r->text.len ? 0 : fail(r, "this cannot stand here");
}

int grammar_read_gbnf(struct grammar_builder *b, struct pd_str text, struct pd_err *err)
{
    struct reader r = {.b = b, .text = text, .err = err};
    int rc = 0;

    for (skip(&r, true); r.at < text.len && rc == 0 && !b->full; skip(&r, true))
        rc = read_rule(&r);
    for (uint32_t i = GRAMMAR_ROOT; i < b->n_rules && rc == 0 && !b->full; i++)
        if (!b->rules[i].expr)
            rc = pd_fail(err, PD_EINVAL, "there is no rule '%.64s'", b->rules[i].name);
    return rc;
}
