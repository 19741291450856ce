/* The lexer: a template's text into tokens, with the white space around tags gone as trim_blocks
 * and lstrip_blocks take it. The whole source at once. */
#include "engine/jinja_int.h"

#include <stdio.h>

struct lexer {
    struct jinja *j;
    struct pd_str s;
    size_t at;
    unsigned line;
    struct jinja_token *tokens;
    size_t n, cap;
    char open[JINJA_NEST_MAX]; /* brackets within the tag */
    unsigned n_open;
};

static bool at_str(const struct lexer *l, size_t at, const char *z)
{
    return pd_str_starts(pd_str_sub(l->s, at, l->s.len), pd_str_of(z));
}

static int lex_fail(const struct lexer *l, const char *what)
{
    l->j->line = l->line;
    return jinja_fail(l->j, PD_EFORMAT, "%s", what);
}

static int emit(struct lexer *l, enum jinja_token_kind kind, size_t from, size_t to, unsigned op)
{
    if (l->n == l->cap) {
        size_t cap = l->cap > 0 ? 2 * l->cap : 256;
        struct jinja_token *t = jinja_alloc(l->j, cap, sizeof(*t));

        if (!t)
            return l->j->rc;
        if (l->n > 0)
            memcpy(t, l->tokens, l->n * sizeof(*t));
        l->tokens = t;
        l->cap = cap;
    }
    l->tokens[l->n++] = (struct jinja_token){kind, l->line, op, pd_str_sub(l->s, from, to)};
    return 0;
}

/* Goes on at `to`, counting lines. */
static void advance(struct lexer *l, size_t to)
{
    for (; l->at < to; l->at++)
        l->line += l->s.ptr[l->at] == '\n';
}

static size_t skip_space(const struct lexer *l, size_t at)
{
    uint32_t cp;

    while (at < l->s.len) {
        size_t n = jinja_char(l->s, at, &cp);

        if (!jinja_is_space(cp))
            break;
        at += n;
    }
    return at;
}

/* Where the text [from, to) ends, when a tag with this sign (- + or NUL) follows it. */
static size_t text_end(const struct lexer *l, size_t from, size_t to, char sign, bool is_print)
{
    struct pd_str text = pd_str_sub(l->s, from, to);
    size_t line_at;

    if (sign == '-') {
        struct jinja_text t = {text.ptr, NULL, text.len, false};

        return from + jinja_strip(t, NULL, JINJA_RIGHT).len;
    }
    if (sign == '+' || is_print)
        return to;
    line_at = (size_t)(pd_str_rfind(text, PD_STR("\n")) + 1);
    /* only white space since the line began: it goes */
    if ((line_at > 0 || from == 0 || l->s.ptr[from - 1] == '\n') &&
        skip_space(l, from + line_at) >= to)
        return from + line_at;
    return to;
}

static int emit_text(struct lexer *l, size_t to, char sign, bool is_print)
{
    size_t end = text_end(l, l->at, to, sign, is_print);
    int rc = end > l->at ? emit(l, TOKEN_DATA, l->at, end, 0) : 0;

    advance(l, to);
    return rc;
}

/* Behind the end of a block or comment that starts at `at` (-%} +%} %}); 0: it is none. */
static size_t block_end(const struct lexer *l, size_t at, char kind, bool trim_line)
{
    const char end[] = {kind, '}', '\0'}, minus[] = {'-', kind, '}', '\0'},
               plus[] = {'+', kind, '}', '\0'};

    if (at_str(l, at, minus))
        return skip_space(l, at + 3);
    if (kind != '}' && at_str(l, at, plus))
        return at + 3;
    if (!at_str(l, at, end))
        return 0;
    at += 2;
    return at + (trim_line && at < l->s.len && l->s.ptr[at] == '\n');
}

static char sign_at(const struct lexer *l, size_t at)
{
    return at < l->s.len && (l->s.ptr[at] == '-' || l->s.ptr[at] == '+') ? l->s.ptr[at] : '\0';
}

/* Behind `{% raw %}` that opens at `at`; 0: it is another tag. */
static size_t raw_begin(const struct lexer *l, size_t at)
{
    at = skip_space(l, at + 2 + (sign_at(l, at + 2) != '\0'));
    if (!at_str(l, at, "raw"))
        return 0;
    at = skip_space(l, at + 3);
    return at_str(l, at, "+%}") ? 0 : block_end(l, at, '%', false);
}

static int raw(struct lexer *l, size_t begin)
{
    advance(l, begin);
    for (size_t open = l->at; open < l->s.len; open++) {
        char sign = sign_at(l, open + 2);
        size_t at, end;
        int rc;

        if (!at_str(l, open, "{%"))
            continue;
        at = skip_space(l, open + 2 + (sign != '\0'));
        if (!at_str(l, at, "endraw"))
            continue;
        end = block_end(l, skip_space(l, at + 6), '%', true);
        if (end == 0)
            continue;
        rc = emit_text(l, open, sign, false);
        advance(l, end);
        return rc;
    }
    return lex_fail(l, "raw block without endraw");
}

static int comment(struct lexer *l, size_t at)
{
    for (at += 2 + (sign_at(l, at + 2) != '\0'); at < l->s.len; at++) {
        size_t end = block_end(l, at, '#', true);

        if (end > 0) {
            advance(l, end);
            return 0;
        }
    }
    return lex_fail(l, "comment without an end");
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool is_name_char(char c)
{
    return is_digit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}

static size_t digits_end(const struct lexer *l, size_t at)
{
    while (at < l->s.len && (is_digit(l->s.ptr[at]) || (l->s.ptr[at] == '_' && at + 1 < l->s.len &&
                                                        is_digit(l->s.ptr[at + 1]))))
        at++;
    return at;
}

static int number(struct lexer *l)
{
    size_t end = digits_end(l, l->at), at = end;
    bool is_float = false;
    int rc;

    if (at + 1 < l->s.len && l->s.ptr[at] == '.' && is_digit(l->s.ptr[at + 1])) {
        at = end = digits_end(l, at + 1);
        is_float = true;
    }
    if (at < l->s.len && (l->s.ptr[at] == 'e' || l->s.ptr[at] == 'E')) {
        at += 1 + (sign_at(l, at + 1) != '\0');
        if (at < l->s.len && is_digit(l->s.ptr[at])) {
            end = digits_end(l, at);
            is_float = true;
        }
    }
    if (end < l->s.len && is_name_char(l->s.ptr[end]))
        return lex_fail(l, "a number that is not decimal is not supported");
    rc = emit(l, is_float ? TOKEN_FLOAT : TOKEN_INT, l->at, end, 0);
    advance(l, end);
    return rc;
}

static int string(struct lexer *l)
{
    char quote = l->s.ptr[l->at];

    for (size_t end = l->at + 1; end < l->s.len; end++) {
        if (l->s.ptr[end] == '\\')
            end++;
        else if (l->s.ptr[end] == quote) {
            int rc = emit(l, TOKEN_STRING, l->at, end + 1, 0);

            advance(l, end + 1);
            return rc;
        }
    }
    return lex_fail(l, "string without an end");
}

static int operator(struct lexer *l)
{
    static const char *const pairs[] = {"//", "**", "==", "!=", ">=", "<=", NULL};
    char c = l->s.ptr[l->at];
    size_t n = 1;
    unsigned op = OP((unsigned char)c);
    int rc;

    for (size_t i = 0; pairs[i]; i++)
        if (at_str(l, l->at, pairs[i])) {
            n = 2;
            op = OP2(pairs[i][0], pairs[i][1]);
        }
    if (n == 1 && (c == '\0' || !strchr("+-/*%~[](){}<>=.:|,;", c))) {
        l->j->line = l->line;
        return jinja_fail(l->j, PD_EFORMAT, "unexpected byte 0x%02x", (unsigned char)c);
    }
    if (n == 1 && strchr("([{", c)) {
        if (l->n_open == JINJA_NEST_MAX)
            return lex_fail(l, "brackets are nested too deeply");
        l->open[l->n_open++] = c == '(' ? ')' : c == '[' ? ']' : '}';
    } else if (n == 1 && strchr(")]}", c)) {
        if (l->n_open == 0 || l->open[--l->n_open] != c) {
            l->j->line = l->line;
            return jinja_fail(l->j, PD_EFORMAT, "unexpected '%c'", c);
        }
    }
    rc = emit(l, TOKEN_OP, l->at, l->at + n, op);
    advance(l, l->at + n);
    return rc;
}

/* The inside of {{ … }} or {% … %} up to and with its end. */
static int tag(struct lexer *l, char kind)
{
    int rc = 0;

    l->n_open = 0;
    while (rc == 0) {
        size_t end, at = l->at;
        char c;

        /* within brackets, }} closes two of them */
        end = l->n_open == 0 ? block_end(l, at, kind, kind == '%') : 0;
        if (end > 0) {
            rc = emit(l, kind == '%' ? TOKEN_BLOCK_END : TOKEN_PRINT_END, at, at, 0);
            advance(l, end);
            return rc;
        }
        end = skip_space(l, at);
        if (end > at) {
            advance(l, end);
            continue;
        }
        if (at == l->s.len)
            return lex_fail(l, "tag without an end");
        c = l->s.ptr[at];
        if (is_digit(c)) {
            rc = number(l);
        } else if (is_name_char(c)) {
            for (end = at; end < l->s.len && is_name_char(l->s.ptr[end]);)
                end++;
            rc = emit(l, TOKEN_NAME, at, end, 0);
            advance(l, end);
        } else {
            rc = c == '\'' || c == '"' ? string(l) : operator(l);
        }
    }
    return rc;
}

int jinja_lex(struct jinja *j, struct jinja_token **out)
{
    struct lexer l = {.j = j, .s = j->source, .line = 1};
    int rc = 0;

    while (rc == 0 && l.at < l.s.len) {
        size_t open = l.at, begin;
        char kind;

        while (open < l.s.len && !(l.s.ptr[open] == '{' && open + 1 < l.s.len &&
                                   strchr("{%#", l.s.ptr[open + 1]) && l.s.ptr[open + 1] != '\0'))
            open++;
        if (open == l.s.len) {
            rc = emit(&l, TOKEN_DATA, l.at, open, 0);
            break;
        }
        kind = l.s.ptr[open + 1];
        rc = emit_text(&l, open, sign_at(&l, open + 2), kind == '{');
        if (rc < 0)
            break;
        begin = kind == '%' ? raw_begin(&l, open) : 0;
        if (begin > 0) {
            rc = raw(&l, begin);
        } else if (kind == '#') {
            rc = comment(&l, open);
        } else {
            rc = emit(&l, kind == '%' ? TOKEN_BLOCK : TOKEN_PRINT, open, open + 2, 0);
            advance(&l, open + 2 + (sign_at(&l, open + 2) != '\0'));
            if (rc == 0)
                rc = tag(&l, kind == '%' ? '%' : '}');
        }
    }
    if (rc == 0)
        rc = emit(&l, TOKEN_END, l.s.len, l.s.len, 0);
    *out = l.tokens;
    return rc;
}
