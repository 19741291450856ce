/* The parser: tokens into a tree, by recursive descent along the grammar of Jinja's own parser,
 * with its precedence (a unary minus binds tighter than **, a filter tighter than both). A function
 * that returns NULL has failed. */
#include "engine/jinja_int.h"

#include <stdlib.h>

struct parser {
    struct jinja *j;
    const struct jinja_token *t; /* the current one */
    unsigned depth, loops;
};

struct list { /* of nodes, being built */
    struct jinja_node *first, **end;
};

static struct jinja_node *expression(struct parser *p);
static struct jinja_node *unary(struct parser *p, bool with_filter);
static int statements(struct parser *p, const char *const *ends, struct jinja_node **out);

static void *fail(struct parser *p, const char *what)
{
    static const char *const kinds[] = {
        [TOKEN_DATA] = "text",     [TOKEN_PRINT] = "{{",     [TOKEN_PRINT_END] = "}}",
        [TOKEN_BLOCK] = "{%",      [TOKEN_BLOCK_END] = "%}", [TOKEN_NAME] = "name",
        [TOKEN_STRING] = "string", [TOKEN_INT] = "number",   [TOKEN_FLOAT] = "number",
        [TOKEN_OP] = "operator",   [TOKEN_END] = "the end",
    };
    struct pd_str text = p->t->kind >= TOKEN_NAME ? p->t->text : (struct pd_str){"", 0};

    p->j->line = p->t->line;
    jinja_fail(p->j, PD_EFORMAT, "expected %s, found %s%s%.*s", what, kinds[p->t->kind],
               text.len > 0 ? " " : "", JINJA_NAME(text));
    return NULL;
}

static struct jinja_node *node(struct parser *p, enum jinja_kind kind)
{
    struct jinja_node *n = jinja_alloc(p->j, 1, sizeof(*n));

    if (n) {
        n->kind = kind;
        n->line = p->t->line;
    }
    return n;
}

/* n with its first two parts; NULL when it or one of them is. */
static struct jinja_node *pair(struct parser *p, enum jinja_kind kind, struct jinja_node *a,
                               struct jinja_node *b)
{
    struct jinja_node *n = a && b ? node(p, kind) : NULL;

    if (n) {
        n->line = a->line;
        n->a = a;
        n->b = b;
    }
    return n;
}

static struct jinja_node *single(struct parser *p, enum jinja_kind kind, struct jinja_node *a)
{
    struct jinja_node *n = a ? node(p, kind) : NULL;

    if (n) {
        n->line = a->line;
        n->a = a;
    }
    return n;
}

static bool append(struct list *l, struct jinja_node *n)
{
    if (!n)
        return false;
    if (!l->first)
        l->end = &l->first;
    *l->end = n;
    l->end = &n->next;
    return true;
}

static bool is_op(const struct parser *p, unsigned op)
{
    return p->t->kind == TOKEN_OP && p->t->op == op;
}

static bool is_name(const struct parser *p, const char *name)
{
    return p->t->kind == TOKEN_NAME && pd_str_eq(p->t->text, pd_str_of(name));
}

static bool skip_op(struct parser *p, unsigned op)
{
    bool is = is_op(p, op);

    p->t += is;
    return is;
}

static bool skip_name(struct parser *p, const char *name)
{
    bool is = is_name(p, name);

    p->t += is;
    return is;
}

static bool want_op(struct parser *p, unsigned op, const char *what)
{
    if (skip_op(p, op))
        return true;
    fail(p, what);
    return false;
}

static bool want_name(struct parser *p, struct pd_str *out, const char *what)
{
    if (p->t->kind != TOKEN_NAME) {
        fail(p, what);
        return false;
    }
    *out = p->t++->text;
    return true;
}

static bool enter(struct parser *p)
{
    if (p->depth < JINJA_NEST_MAX) {
        p->depth++;
        return true;
    }
    p->j->line = p->t->line;
    jinja_fail(p->j, PD_ELIMIT, "nested more than %u deep", JINJA_NEST_MAX);
    return false;
}

/* ---- literals -----------------------------------------------------------------------------------
 */

static void put_utf8(char **w, uint32_t cp)
{
    if (cp < 0x80) {
        *(*w)++ = (char)cp;
        return;
    }
    if (cp < 0x800) {
        *(*w)++ = (char)(0xc0 | cp >> 6);
    } else {
        if (cp < 0x10000) {
            *(*w)++ = (char)(0xe0 | cp >> 12);
        } else {
            *(*w)++ = (char)(0xf0 | cp >> 18);
            *(*w)++ = (char)(0x80 | (cp >> 12 & 0x3f));
        }
        *(*w)++ = (char)(0x80 | (cp >> 6 & 0x3f));
    }
    *(*w)++ = (char)(0x80 | (cp & 0x3f));
}

/* Up to `most` digits of this base at *at; how many there were. */
static size_t code_point(struct pd_str s, size_t *at, size_t most, unsigned base, uint32_t *out)
{
    size_t n = 0;

    for (*out = 0; n < most && *at < s.len; n++, ++*at) {
        char c = s.ptr[*at];
        unsigned d = c >= '0' && c <= '9'   ? (unsigned)(c - '0')
                     : c >= 'a' && c <= 'f' ? (unsigned)(c - 'a') + 10
                     : c >= 'A' && c <= 'F' ? (unsigned)(c - 'A') + 10
                                            : 16;

        if (d >= base)
            break;
        *out = *out * base + d;
    }
    return n;
}

/* Python's escapes; the value is never longer than the source. */
static bool unescape(struct parser *p, struct pd_str s, struct jinja_text *out)
{
    static const char from[] = "\\'\"abfnrtv", to[] = "\\'\"\a\b\f\n\r\t\v";
    char *text = jinja_alloc(p->j, s.len + 1, 1), *w = text;

    if (!text)
        return false;
    for (size_t i = 0; i < s.len;) {
        const char *known;
        uint32_t cp;
        char c = s.ptr[i++];

        if (c != '\\') {
            *w++ = c;
            continue;
        }
        c = s.ptr[i++]; /* a string does not end with a backslash */
        known = c != '\0' ? strchr(from, c) : NULL;
        if (known) {
            *w++ = to[known - from];
        } else if (c == '\n') {
            continue;
        } else if (c == 'x' || c == 'u' || c == 'U') {
            size_t want = c == 'x' ? 2 : c == 'u' ? 4 : 8;

            if (code_point(s, &i, want, 16, &cp) != want || cp > 0x10ffff ||
                (cp >= 0xd800 && cp < 0xe000))
                return fail(p, "a whole escape");
            put_utf8(&w, cp);
        } else if (c >= '0' && c <= '7') {
            i--;
            code_point(s, &i, 3, 8, &cp);
            put_utf8(&w, cp);
        } else if (c == 'N') {
            return fail(p, "an escape other than \\N");
        } else {
            *w++ = '\\';
            *w++ = c;
        }
    }
    *out = jinja_own(p->j, (struct pd_str){text, (size_t)(w - text)});
    return true;
}

static struct jinja_node *string_literal(struct parser *p)
{
    struct jinja_node *n = node(p, N_CONST);
    struct jinja_builder b = {NULL, NULL, 0, 0};

    if (!n)
        return NULL;
    for (; p->t->kind == TOKEN_STRING; p->t++) { /* neighbours are one */
        struct jinja_text t;

        if (!unescape(p, pd_str_sub(p->t->text, 1, p->t->text.len - 1), &t))
            return NULL;
        jinja_addt(p->j, &b, t);
    }
    n->value = jinja_of_text(jinja_built(&b));
    return p->j->rc < 0 ? NULL : n;
}

static struct jinja_node *number_literal(struct parser *p)
{
    struct jinja_node *n = node(p, N_CONST);
    char digits[64];
    size_t len = 0;

    if (!n)
        return NULL;
    for (size_t i = 0; i < p->t->text.len && len < sizeof(digits); i++)
        if (p->t->text.ptr[i] != '_')
            digits[len++] = p->t->text.ptr[i];
    if (p->t->kind == TOKEN_FLOAT) {
        n->value = jinja_float(0);
        if (!pd_parse_double((struct pd_str){digits, len}, &n->value.real))
            return fail(p, "a number within bounds");
    } else {
        n->value = jinja_int(0);
        if (!pd_parse_i64((struct pd_str){digits, len}, &n->value.integer) ||
            (digits[0] == '0' && n->value.integer != 0))
            return fail(p, "a number within bounds");
    }
    p->t++;
    return n;
}

/* ---- expressions --------------------------------------------------------------------------------
 */

static bool is_tuple_end(const struct parser *p, const char *end_name)
{
    return p->t->kind == TOKEN_PRINT_END || p->t->kind == TOKEN_BLOCK_END || is_op(p, OP(')')) ||
           (end_name && is_name(p, end_name));
}

static struct jinja_node *or_expression(struct parser *p);

/* One element, or several with commas: a tuple. In parentheses it may be empty. */
static struct jinja_node *tuple(struct parser *p, struct jinja_node *(*element)(struct parser *),
                                bool parenthesised, const char *end_name)
{
    struct jinja_node *n = node(p, N_TUPLE);
    struct list items = {NULL, NULL};
    bool comma = false;

    if (!n)
        return NULL;
    while (!is_tuple_end(p, end_name)) {
        if (!append(&items, element(p)))
            return NULL;
        if (!skip_op(p, OP(',')))
            break;
        comma = true;
    }
    if (!items.first && !parenthesised)
        return fail(p, "an expression");
    if (items.first && !comma)
        return items.first;
    n->a = items.first;
    return n;
}

static struct jinja_node *list_literal(struct parser *p)
{
    struct jinja_node *n = node(p, N_LIST);
    struct list items = {NULL, NULL};

    if (!n)
        return NULL;
    p->t++;
    while (!skip_op(p, OP(']'))) {
        if (items.first && !want_op(p, OP(','), "',' or ']'"))
            return NULL;
        if (skip_op(p, OP(']')))
            break;
        if (!append(&items, expression(p)))
            return NULL;
    }
    n->a = items.first;
    return n;
}

static struct jinja_node *dict_literal(struct parser *p)
{
    struct jinja_node *n = node(p, N_DICT);
    struct list items = {NULL, NULL};

    if (!n)
        return NULL;
    p->t++;
    while (!skip_op(p, OP('}'))) {
        struct jinja_node *key;

        if (items.first && !want_op(p, OP(','), "',' or '}'"))
            return NULL;
        if (skip_op(p, OP('}')))
            break;
        key = expression(p);
        if (!key || !want_op(p, OP(':'), "':'") ||
            !append(&items, pair(p, N_PAIR, key, expression(p))))
            return NULL;
    }
    n->a = items.first;
    return n;
}

static struct jinja_node *primary(struct parser *p)
{
    static const struct {
        const char *name;
        struct jinja_value value;
    } constants[] = {
        {"true", {.type = JINJA_BOOL, .boolean = true}},
        {"True", {.type = JINJA_BOOL, .boolean = true}},
        {"false", {.type = JINJA_BOOL, .boolean = false}},
        {"False", {.type = JINJA_BOOL, .boolean = false}},
        {"none", {.type = JINJA_NONE}},
        {"None", {.type = JINJA_NONE}},
    };
    struct jinja_node *n;

    switch (p->t->kind) {
    case TOKEN_STRING:
        return string_literal(p);
    case TOKEN_INT:
    case TOKEN_FLOAT:
        return number_literal(p);
    case TOKEN_NAME:
        n = node(p, N_NAME);
        if (!n)
            return NULL;
        n->name = p->t->text;
        for (size_t i = 0; i < sizeof(constants) / sizeof(constants[0]); i++)
            if (skip_name(p, constants[i].name)) {
                n->kind = N_CONST;
                n->value = constants[i].value;
                return n;
            }
        p->t++;
        return n;
    default:
        if (is_op(p, OP('[')))
            return list_literal(p);
        if (is_op(p, OP('{')))
            return dict_literal(p);
        if (skip_op(p, OP('('))) {
            n = tuple(p, expression, true, NULL);
            return n && want_op(p, OP(')'), "')'") ? n : NULL;
        }
        return fail(p, "an expression");
    }
}

/* a, a:b, a:b:c within brackets */
static struct jinja_node *subscript(struct parser *p)
{
    struct jinja_node *n, *first = NULL, **parts[2];

    if (!is_op(p, OP(':'))) {
        first = expression(p);
        if (!first || !is_op(p, OP(':')))
            return first;
    }
    n = node(p, N_SLICE);
    if (!n)
        return NULL;
    n->a = first;
    parts[0] = &n->b;
    parts[1] = &n->c;
    for (int i = 0; i < 2 && skip_op(p, OP(':')); i++)
        if (!is_op(p, OP(':')) && !is_op(p, OP(']')) && !is_op(p, OP(',')) &&
            !(*parts[i] = expression(p)))
            return NULL;
    return n;
}

/* (a, b, name=c): the arguments, with both parentheses */
static bool arguments(struct parser *p, struct jinja_node **out)
{
    struct list args = {NULL, NULL};
    bool keyword = false;

    if (!want_op(p, OP('('), "'('"))
        return false;
    while (!skip_op(p, OP(')'))) {
        struct jinja_node *n;

        if (args.first && !want_op(p, OP(','), "',' or ')'"))
            return false;
        if (skip_op(p, OP(')')))
            break;
        if (p->t->kind == TOKEN_NAME && p->t[1].kind == TOKEN_OP && p->t[1].op == OP('=')) {
            n = node(p, N_KEYWORD);
            if (!n)
                return false;
            n->name = p->t->text;
            p->t += 2;
            n->a = expression(p);
            if (!n->a)
                return false;
            keyword = true;
        } else if (is_op(p, OP('*')) || is_op(p, OP2('*', '*'))) {
            fail(p, "an argument (* and ** are not supported)");
            return false;
        } else if (keyword) {
            fail(p, "a keyword argument");
            return false;
        } else {
            n = expression(p);
        }
        if (!append(&args, n))
            return false;
    }
    *out = args.first;
    return true;
}

static struct jinja_node *call(struct parser *p, struct jinja_node *callee)
{
    struct jinja_node *n = single(p, N_CALL, callee);

    return n && arguments(p, &n->b) ? n : NULL;
}

static struct jinja_node *postfix(struct parser *p, struct jinja_node *of)
{
    while (of) {
        struct jinja_node *n;

        if (is_op(p, OP('('))) {
            of = call(p, of);
        } else if (skip_op(p, OP('.'))) {
            if (p->t->kind == TOKEN_INT) {
                of = pair(p, N_ITEM, of, number_literal(p));
                continue;
            }
            n = single(p, N_ATTR, of);
            of = n && want_name(p, &n->name, "an attribute's name") ? n : NULL;
        } else if (skip_op(p, OP('['))) {
            of = pair(p, N_ITEM, of, subscript(p));
            if (of && is_op(p, OP(',')))
                return fail(p, "']' (several subscripts are not supported)");
            if (of && !want_op(p, OP(']'), "']'"))
                return NULL;
        } else {
            break;
        }
    }
    return of;
}

/* name(args), with a dotted name, behind | */
static struct jinja_node *filter(struct parser *p, struct jinja_node *of)
{
    struct jinja_node *n = node(p, N_FILTER);

    if (!n || !want_name(p, &n->name, "a filter's name"))
        return NULL;
    n->a = of;
    if (is_op(p, OP('(')) && !arguments(p, &n->b))
        return NULL;
    return n;
}

static struct jinja_node *test(struct parser *p, struct jinja_node *of)
{
    static const char *const not_arguments[] = {"else", "or", "and", NULL};
    struct jinja_node *n = single(p, N_TEST, of);
    bool negated = skip_name(p, "not"), has_argument;

    if (!n || !want_name(p, &n->name, "a test's name"))
        return NULL;
    if (is_op(p, OP('('))) {
        if (!arguments(p, &n->b))
            return NULL;
    } else {
        has_argument = (p->t->kind >= TOKEN_NAME && p->t->kind <= TOKEN_FLOAT) ||
                       is_op(p, OP('[')) || is_op(p, OP('{'));
        for (size_t i = 0; not_arguments[i]; i++)
            has_argument = has_argument && !is_name(p, not_arguments[i]);
        if (has_argument && is_name(p, "is"))
            return fail(p, "another thing than a second test");
        if (has_argument && !(n->b = postfix(p, primary(p))))
            return NULL;
    }
    return negated ? single(p, N_NOT, n) : n;
}

static struct jinja_node *filters(struct parser *p, struct jinja_node *n)
{
    while (n) {
        if (skip_op(p, OP('|')))
            n = filter(p, n);
        else if (skip_name(p, "is"))
            n = test(p, n);
        else if (is_op(p, OP('(')))
            n = call(p, n);
        else
            break;
    }
    return n;
}

static struct jinja_node *unary(struct parser *p, bool with_filter)
{
    struct jinja_node *n;

    if (!enter(p))
        return NULL;
    if (skip_op(p, OP('-')))
        n = single(p, N_NEGATE, unary(p, false));
    else if (skip_op(p, OP('+')))
        n = single(p, N_PLUS, unary(p, false));
    else
        n = primary(p);
    n = postfix(p, n);
    if (with_filter)
        n = filters(p, n);
    p->depth--;
    return n;
}

/* Left-associative operators, from the loosest level down. */
static struct jinja_node *binary(struct parser *p, size_t level)
{
    static const unsigned levels[][5] = {
        {OP('+'), OP('-')},
        {OP('~')},
        {OP('*'), OP('/'), OP2('/', '/'), OP('%')},
        {OP2('*', '*')},
    };
    struct jinja_node *n;

    if (level == sizeof(levels) / sizeof(levels[0]))
        return unary(p, true);
    n = binary(p, level + 1);
    while (n && p->t->kind == TOKEN_OP) {
        unsigned op = p->t->op;
        size_t i = 0;

        while (levels[level][i] != 0 && levels[level][i] != op)
            i++;
        if (levels[level][i] == 0)
            break;
        p->t++;
        n = pair(p, N_BINARY, n, binary(p, level + 1));
        if (n)
            n->op = op;
    }
    return n;
}

static bool comparison(struct parser *p, unsigned *op)
{
    static const unsigned ops[] = {OP2('=', '='), OP2('!', '='), OP('<'),
                                   OP('>'),       OP2('<', '='), OP2('>', '=')};

    if (skip_name(p, "in")) {
        *op = OP('i');
        return true;
    }
    if (is_name(p, "not") && p->t[1].kind == TOKEN_NAME && pd_str_eq(p->t[1].text, PD_STR("in"))) {
        p->t += 2;
        *op = OP('n');
        return true;
    }
    for (size_t i = 0; i < sizeof(ops) / sizeof(ops[0]); i++)
        if (skip_op(p, ops[i])) {
            *op = ops[i];
            return true;
        }
    return false;
}

static struct jinja_node *compare(struct parser *p)
{
    struct jinja_node *first = binary(p, 0), *n;
    struct list operands = {NULL, NULL};
    unsigned op;

    while (first && comparison(p, &op)) {
        n = single(p, N_OPERAND, binary(p, 0));
        if (!append(&operands, n))
            return NULL;
        n->op = op;
    }
    return first && operands.first ? pair(p, N_COMPARE, first, operands.first) : first;
}

static struct jinja_node *not_expression(struct parser *p)
{
    struct jinja_node *n;

    if (!is_name(p, "not"))
        return compare(p);
    if (!enter(p))
        return NULL;
    p->t++;
    n = single(p, N_NOT, not_expression(p));
    p->depth--;
    return n;
}

static struct jinja_node *and_expression(struct parser *p)
{
    struct jinja_node *n = not_expression(p);

    while (n && skip_name(p, "and"))
        n = pair(p, N_AND, n, not_expression(p));
    return n;
}

static struct jinja_node *or_expression(struct parser *p)
{
    struct jinja_node *n = and_expression(p);

    while (n && skip_name(p, "or"))
        n = pair(p, N_OR, n, and_expression(p));
    return n;
}

static struct jinja_node *expression(struct parser *p)
{
    struct jinja_node *n;

    if (!enter(p))
        return NULL;
    n = or_expression(p);
    while (n && skip_name(p, "if")) {
        n = pair(p, N_COND, n, or_expression(p));
        if (n && skip_name(p, "else") && !(n->c = expression(p)))
            n = NULL;
    }
    p->depth--;
    return n;
}

/* ---- statements ---------------------------------------------------------------------------------
 */

static struct jinja_node *target_name(struct parser *p)
{
    struct jinja_node *n;

    if (skip_op(p, OP('('))) {
        if (!enter(p))
            return NULL;
        n = tuple(p, target_name, true, NULL);
        p->depth--;
        return n && want_op(p, OP(')'), "')'") ? n : NULL;
    }
    n = node(p, N_NAME);
    return n && want_name(p, &n->name, "a variable's name") ? n : NULL;
}

/* What for and set assign to: a name, several, or (set) an attribute of a namespace. */
static struct jinja_node *target(struct parser *p, bool attributes, const char *end_name)
{
    struct jinja_node *n;

    if (attributes && p->t->kind == TOKEN_NAME && p->t[1].kind == TOKEN_OP &&
        p->t[1].op == OP('.')) {
        n = single(p, N_ATTR, target_name(p));
        p->t++;
        return n && want_name(p, &n->name, "an attribute's name") ? n : NULL;
    }
    n = node(p, N_TUPLE);
    if (!n)
        return NULL;
    struct list names = {NULL, NULL};
    bool comma = false;

    do {
        if (names.first && (is_op(p, OP('=')) || (end_name && is_name(p, end_name))))
            break;
        if (!append(&names, target_name(p)))
            return NULL;
        comma = is_op(p, OP(',')) || comma;
    } while (skip_op(p, OP(',')));
    if (!comma)
        return names.first;
    n->a = names.first;
    return n;
}

static bool end_block(struct parser *p)
{
    if (p->t->kind == TOKEN_BLOCK_END) {
        p->t++;
        return true;
    }
    fail(p, "the end of the block");
    return false;
}

/* The statements up to {% end %}, with that tag. */
static bool body(struct parser *p, const char *end, struct jinja_node **out)
{
    const char *const ends[] = {end, NULL};

    return end_block(p) && statements(p, ends, out) == 0 && skip_name(p, end) && end_block(p);
}

static struct jinja_node *if_statement(struct parser *p)
{
    static const char *const ends[] = {"elif", "else", "endif", NULL};
    static const char *const last[] = {"endif", NULL};
    struct jinja_node *first = node(p, N_IF), *n = first;

    while (n) {
        n->a = tuple(p, or_expression, false, NULL);
        if (!n->a || !end_block(p) || statements(p, ends, &n->b) < 0)
            return NULL;
        if (skip_name(p, "elif")) {
            n = n->c = node(p, N_IF);
            continue;
        }
        if (skip_name(p, "else")) {
            n = n->c = node(p, N_IF);
            if (!n || !end_block(p) || statements(p, last, &n->b) < 0)
                return NULL;
        }
        return skip_name(p, "endif") && end_block(p) ? first : NULL;
    }
    return NULL;
}

static struct jinja_node *for_statement(struct parser *p)
{
    static const char *const ends[] = {"else", "endfor", NULL};
    struct jinja_node *n = node(p, N_FOR);

    if (!n)
        return NULL;
    n->a = target(p, false, "in");
    if (!n->a)
        return NULL;
    if (!skip_name(p, "in"))
        return fail(p, "in");
    n->b = tuple(p, or_expression, false, "recursive");
    if (!n->b || (skip_name(p, "if") && !(n->cond = expression(p))))
        return NULL;
    if (is_name(p, "recursive"))
        return fail(p, "the end of the block (recursive loops are not supported)");
    p->loops++;
    if (!end_block(p) || statements(p, ends, &n->c) < 0)
        return NULL;
    p->loops--;
    if (skip_name(p, "else"))
        return body(p, "endfor", &n->d) ? n : NULL;
    return skip_name(p, "endfor") && end_block(p) ? n : NULL;
}

/* name(args)|name(args)…, for what a block prints */
static struct jinja_node *filter_chain(struct parser *p)
{
    struct jinja_node *n = filter(p, NULL);

    while (n && skip_op(p, OP('|')))
        n = filter(p, n);
    return n;
}

static struct jinja_node *set_statement(struct parser *p)
{
    struct jinja_node *n = node(p, N_SET);

    if (!n || !(n->a = target(p, true, NULL)))
        return NULL;
    if (skip_op(p, OP('='))) {
        n->b = tuple(p, expression, false, NULL);
        return n->b && end_block(p) ? n : NULL;
    }
    n->kind = N_SET_BLOCK;
    if (skip_op(p, OP('|')) && !(n->b = filter_chain(p)))
        return NULL;
    return body(p, "endset", &n->c) ? n : NULL;
}

static struct jinja_node *macro_statement(struct parser *p)
{
    struct jinja_node *n = node(p, N_MACRO);
    struct list params = {NULL, NULL};
    unsigned loops = p->loops;

    if (!n || !want_name(p, &n->name, "the macro's name") || !want_op(p, OP('('), "'('"))
        return NULL;
    while (!skip_op(p, OP(')'))) {
        struct jinja_node *param;

        if (params.first && !want_op(p, OP(','), "',' or ')'"))
            return NULL;
        param = node(p, N_PARAM);
        if (!param || !want_name(p, &param->name, "a parameter's name") ||
            (skip_op(p, OP('=')) && !(param->a = expression(p))))
            return NULL;
        append(&params, param);
    }
    n->a = params.first;
    p->loops = 0; /* break belongs to a loop of the macro's own */
    if (!body(p, "endmacro", &n->b))
        return NULL;
    p->loops = loops;
    return n;
}

static struct jinja_node *with_statement(struct parser *p)
{
    struct jinja_node *n = node(p, N_WITH);
    struct list pairs = {NULL, NULL};

    while (n && p->t->kind != TOKEN_BLOCK_END) {
        struct jinja_node *to;

        if (pairs.first && !want_op(p, OP(','), "','"))
            return NULL;
        to = target_name(p);
        if (!to || !want_op(p, OP('='), "'='") ||
            !append(&pairs, pair(p, N_PAIR, to, expression(p))))
            return NULL;
    }
    if (!n || !body(p, "endwith", &n->c))
        return NULL;
    n->a = pairs.first;
    return n;
}

static struct jinja_node *filter_statement(struct parser *p)
{
    struct jinja_node *n = node(p, N_FILTER_BLOCK);

    return n && (n->b = filter_chain(p)) && body(p, "endfilter", &n->c) ? n : NULL;
}

/* {% generation %} marks what a model is trained on; it prints its body. */
static struct jinja_node *generation_statement(struct parser *p)
{
    struct jinja_node *n = node(p, N_WITH);

    return n && body(p, "endgeneration", &n->c) ? n : NULL;
}

static struct jinja_node *jump(struct parser *p, enum jinja_kind kind)
{
    struct jinja_node *n;

    if (p->loops == 0)
        return fail(p, "a loop around break or continue");
    n = node(p, kind);
    return n && end_block(p) ? n : NULL;
}

static struct jinja_node *break_statement(struct parser *p)
{
    return jump(p, N_BREAK);
}

static struct jinja_node *continue_statement(struct parser *p)
{
    return jump(p, N_CONTINUE);
}

static struct jinja_node *statement(struct parser *p)
{
    static const struct {
        const char *name;
        struct jinja_node *(*parse)(struct parser *);
    } known[] = {
        {"if", if_statement},
        {"for", for_statement},
        {"set", set_statement},
        {"macro", macro_statement},
        {"with", with_statement},
        {"filter", filter_statement},
        {"break", break_statement},
        {"continue", continue_statement},
        {"generation", generation_statement},
    };

    if (p->t->kind != TOKEN_NAME)
        return fail(p, "a statement's name");
    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
        if (skip_name(p, known[i].name))
            return known[i].parse(p);
    if (pd_str_starts(p->t->text, PD_STR("end")) || is_name(p, "else") || is_name(p, "elif"))
        return fail(p, "a statement's begin");
    p->j->line = p->t->line;
    jinja_fail(p->j, PD_EFORMAT, "statement '%.*s' is not supported", JINJA_NAME(p->t->text));
    return NULL;
}

/* Up to a block that starts with one of these names, which is then the current token. ends NULL: up
 * to the end. */
static int statements(struct parser *p, const char *const *ends, struct jinja_node **out)
{
    struct list list = {NULL, NULL};

    if (!enter(p))
        return p->j->rc;
    for (;;) {
        struct jinja_node *n = NULL;

        if (p->t->kind == TOKEN_DATA) {
            n = node(p, N_DATA);
            if (n)
                n->value = jinja_of_text(jinja_own(p->j, p->t->text));
            p->t++;
        } else if (p->t->kind == TOKEN_PRINT) {
            p->t++;
            n = single(p, N_PRINT, tuple(p, expression, false, NULL));
            if (n && p->t->kind != TOKEN_PRINT_END)
                n = fail(p, "the end of the expression");
            p->t++;
        } else if (p->t->kind == TOKEN_BLOCK) {
            p->t++;
            for (size_t i = 0; ends && ends[i]; i++)
                if (is_name(p, ends[i]))
                    goto done;
            n = statement(p);
        } else if (ends) {
            while (ends[1])
                ends++;
            fail(p, ends[0]);
        } else {
            goto done;
        }
        if (!append(&list, n))
            return p->j->rc;
    }
done:
    *out = list.first;
    p->depth--;
    return 0;
}

int jinja_parse(struct jinja *j, const struct jinja_token *tokens)
{
    struct parser p = {.j = j, .t = tokens};

    return statements(&p, NULL, &j->body);
}
