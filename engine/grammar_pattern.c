/* Regular expressions as JSON Schemas have them, as far as they are regular: characters, escapes,
 * classes, groups, alternatives, repetitions, and ^ and $ at the ends of alternatives. What looks
 * around or back is refused. */
#include "engine/grammar_int.h"

#include <ctype.h>

#define MAX_DEPTH  100
#define MAX_REPEAT 100000

struct reader {
    struct grammar_builder *b;
    struct pd_str text;
    size_t at;
    unsigned depth;
    grammar_one_char one_char;
    struct pd_err *err;
};

static int fail(const struct reader *r, const char *what)
{
    return pd_fail(r->err, PD_EINVAL, "character %zu of the pattern: %s", r->at + 1, what);
}

static char peek(const struct reader *r)
{
    return r->at < r->text.len ? r->text.ptr[r->at] : '\0';
}

static void add(struct reader *r, struct grammar_chars *c, uint32_t lo, uint32_t hi)
{
    grammar_chars_add(r->b, c, lo, hi);
}

/* \d \w \s and their opposites. False: it is another escape. */
static bool read_shorthand(struct reader *r, char letter, struct grammar_chars *out)
{
    struct grammar_chars c = {0};

    switch (tolower((unsigned char)letter)) {
    case 'd':
        add(r, &c, '0', '9');
        break;
    case 'w':
        add(r, &c, '0', '9');
        add(r, &c, 'A', 'Z');
        add(r, &c, 'a', 'z');
        add(r, &c, '_', '_');
        break;
    case 's':
        add(r, &c, '\t', '\r');
        add(r, &c, ' ', ' ');
        add(r, &c, 0xa0, 0xa0);
        add(r, &c, 0x1680, 0x1680);
        add(r, &c, 0x2000, 0x200a);
        add(r, &c, 0x2028, 0x2029);
        add(r, &c, 0x202f, 0x202f);
        add(r, &c, 0x205f, 0x205f);
        add(r, &c, 0x3000, 0x3000);
        add(r, &c, 0xfeff, 0xfeff);
        break;
    default:
        return false;
    }
    grammar_chars_sort(&c);
    if (isupper((unsigned char)letter))
        grammar_chars_not(r->b, &c);
    for (size_t i = 0; i < c.n; i++)
        add(r, out, c.r[i].lo, c.r[i].hi);
    return true;
}

static int read_hex(struct reader *r, int digits, uint32_t *out)
{
    *out = 0;
    for (int i = 0; i < digits; i++, r->at++) {
        char c = peek(r);

        if (!isxdigit((unsigned char)c))
            return fail(r, "hexadecimal digits are missing");
        *out = *out << 4 | (uint32_t)(isdigit((unsigned char)c) ? c - '0' : tolower(c) - 'a' + 10);
    }
    return 0;
}

/* Behind the backslash; *single: it is one character, not a set. */
static int read_escape(struct reader *r, struct grammar_chars *out, bool *single)
{
    static const char from[] = "nrtfv0", to[] = "\n\r\t\f\v\0";
    char c = peek(r);
    const char *known;
    uint32_t cp;
    int rc = 0;

    *single = true;
    r->at++;
    if (read_shorthand(r, c, out)) {
        *single = false;
        return 0;
    }
    known = c ? strchr(from, c) : NULL;
    if (c == 'x') {
        rc = read_hex(r, 2, &cp);
    } else if (c == 'u') {
        rc = read_hex(r, 4, &cp);
    } else if (known) {
        cp = (uint8_t)to[known - from];
    } else if (c && ispunct((unsigned char)c)) {
        cp = (uint8_t)c;
    } else {
        r->at--;
        return fail(r, "this escape is not supported");
    }
    if (rc == 0)
        add(r, out, cp, cp);
    return rc;
}

/* One member of a class, or one character outside of any. */
static int read_one(struct reader *r, struct grammar_chars *out, bool *single)
{
    int32_t cp;

    *single = true;
    if (peek(r) == '\\') {
        r->at++;
        return read_escape(r, out, single);
    }
    cp = grammar_next_char(r->text, &r->at);
    if (cp < 0)
        return fail(r, "this is not UTF-8");
    add(r, out, (uint32_t)cp, (uint32_t)cp);
    return 0;
}

static int read_class(struct reader *r, struct grammar_chars *c)
{
    bool not = false, single;
    int rc = 0;

    r->at++;
    if (peek(r) == '^') {
        not = true;
        r->at++;
    }
    while (peek(r) != ']' && rc == 0) {
        struct grammar_chars hi = {0};
        size_t last = c->n;

        if (r->at >= r->text.len)
            return fail(r, "the bracket that ends a class is missing");
        if (peek(r) == '\\' && r->at + 1 < r->text.len && r->text.ptr[r->at + 1] == 'b') {
            add(r, c, '\b', '\b');
            r->at += 2;
            continue;
        }
        rc = read_one(r, c, &single);
        if (rc < 0 || !single || peek(r) != '-' || r->at + 1 >= r->text.len ||
            r->text.ptr[r->at + 1] == ']')
            continue;
        r->at++;
        rc = read_one(r, &hi, &single);
        if (rc < 0 || r->b->full)
            return rc;
        if (!single || hi.r[0].lo < c->r[last].lo)
            return fail(r, "this is no range of characters");
        c->r[last].hi = hi.r[0].hi;
    }
    r->at++;
    grammar_chars_sort(c);
    if (not )
        grammar_chars_not(r->b, c);
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
    return 0;
}

static int read_times(struct reader *r, struct grammar_expr **io)
{
    char c = peek(r);
    uint32_t min = c == '+', max = c == '?' ? 1 : GRAMMAR_NO_END;
    int rc = 0;

    if (!c || !strchr("*+?{", c))
        return 0;
    r->at++;
    if (c == '{') {
        rc = read_number(r, &min);
        max = min;
        if (rc == 0 && peek(r) == ',') {
            r->at++;
            max = GRAMMAR_NO_END;
            if (peek(r) != '}')
                rc = read_number(r, &max);
        }
        if (rc == 0 && (peek(r) != '}' || max < min))
            rc = fail(r, "this is no repetition");
        r->at++;
    }
    if (rc == 0 && peek(r) == '?') /* as few as possible: the same texts */
        r->at++;
    if (rc == 0 && peek(r) && strchr("*+{", peek(r)))
        rc = fail(r, "a repetition cannot follow a repetition");
    *io = grammar_repeat(r->b, *io, min, max);
    return rc;
}

static int read_alternatives(struct reader *r, struct grammar_expr **out);

static int read_group(struct reader *r, struct grammar_expr **out)
{
    int rc;

    r->at++;
    if (peek(r) == '?') {
        if (!pd_str_starts(pd_str_sub(r->text, r->at, r->text.len), PD_STR("?:")))
            return fail(r, "groups that look around, or have a name, are not supported");
        r->at += 2;
    }
    if (r->depth == MAX_DEPTH)
        return fail(r, "groups are nested too deeply");
    r->depth++;
    rc = read_alternatives(r, out);
    r->depth--;
    if (rc == 0 && peek(r) != ')')
        rc = fail(r, "the parenthesis that ends a group is missing");
    r->at++;
    return rc;
}

static int read_item(struct reader *r, struct grammar_expr **out)
{
    static const struct grammar_range line_ends[] = {{'\n', '\n'}, {'\r', '\r'}, {0x2028, 0x2029}};
    struct grammar_chars c = {0};
    bool single;
    char first = peek(r);
    int rc = 0;

    if (first == '(')
        return read_group(r, out);
    if (first == '^' || first == '$')
        return fail(r, "^ and $ are supported at the ends of a pattern's alternatives only");
    if (strchr("*+?{}])", first))
        return fail(r, "this cannot stand here without a backslash");
    if (first == '[') {
        rc = read_class(r, &c);
    } else if (first == '.') {
        r->at++;
        for (size_t i = 0; i < 3; i++)
            add(r, &c, line_ends[i].lo, line_ends[i].hi);
        grammar_chars_sort(&c);
        grammar_chars_not(r->b, &c);
    } else {
        rc = read_one(r, &c, &single);
        grammar_chars_sort(&c);
    }
    if (rc == 0)
        *out = r->one_char(r->b, &c);
    return rc;
}

static struct grammar_expr *anything(struct reader *r)
{
    struct grammar_chars c = {0};

    add(r, &c, 0, GRAMMAR_CHAR_MAX);
    return grammar_repeat(r->b, r->one_char(r->b, &c), 0, GRAMMAR_NO_END);
}

static bool ends_here(const struct reader *r)
{
    return r->at >= r->text.len || peek(r) == '|' || (r->depth && peek(r) == ')');
}

static int read_sequence(struct reader *r, struct grammar_expr **out)
{
    int rc = 0;

    *out = grammar_list(r->b, GRAMMAR_CAT);
    if (r->depth == 0 && peek(r) == '^')
        r->at++;
    else if (r->depth == 0)
        grammar_push(r->b, *out, anything(r));
    while (!ends_here(r) && rc == 0 && !r->b->full) {
        struct grammar_expr *item = NULL;

        if (r->depth == 0 && peek(r) == '$') {
            r->at++;
            return ends_here(r) ? 0 : fail(r, "behind $ nothing fits");
        }
        rc = read_item(r, &item);
        if (rc == 0)
            rc = read_times(r, &item);
        if (rc == 0)
            grammar_push(r->b, *out, item);
    }
    if (r->depth == 0)
        grammar_push(r->b, *out, anything(r));
    return rc;
}

static int read_alternatives(struct reader *r, struct grammar_expr **out)
{
    struct grammar_expr *one;
    int rc;

    *out = grammar_list(r->b, GRAMMAR_ALT);
    for (;;) {
        rc = read_sequence(r, &one);
        if (rc < 0)
            return rc;
        grammar_push(r->b, *out, one);
        if (peek(r) != '|')
            return 0;
        r->at++;
    }
}

int grammar_read_pattern(struct grammar_builder *b, struct pd_str pattern,
                         grammar_one_char one_char, struct grammar_expr **out, struct pd_err *err)
{
    struct reader r = {.b = b, .text = pattern, .one_char = one_char, .err = err};

    return read_alternatives(&r, out);
}
