/* Answers as trees. A recursive reader of what models write: LaTeX, plain formulas, lists, sets,
 * intervals, quantities with units, words. Where a notation has two readings, the one that answers
 * use is taken: 2\frac{1}{2} is a mixed number, 1,234 a thousand, 2^10 has a two-digit exponent. */
#include <ctype.h>

#include "core/math_lex_int.h"

struct reader {
    struct math *m;
    const struct tok *t;
    size_t at, off; /* the token, and how much of its text is taken */
    int depth;
    int in_function;                            /* degrees are numbers there */
    enum { NOTHING, BAR, BAR_OR_COLON } closes; /* what else does here */
};

struct items {
    struct math_node *v[MATH_ITEMS_MAX];
    size_t n;
    bool all_and;
};

static struct math_node *sum(struct reader *p);
static struct math_node *factor(struct reader *p);
static struct math_node *primary(struct reader *p);
static struct math_node *element(struct reader *p);
static bool elements(struct reader *p, bool both_signs, struct items *out);

/* ---- tokens -------------------------------------------------------------------------------- */

static struct tok peek(const struct reader *p)
{
    struct tok t = p->t[p->at];

    if (p->off) {
        t.s = pd_str_sub(t.s, p->off, t.s.len);
        t.space = false;
    }
    return t;
}

static void next(struct reader *p)
{
    if (p->t[p->at].type != TOK_END)
        p->at++;
    p->off = 0;
}

/* Takes n bytes of a token's text, and the token when there are no more. */
static void take_part(struct reader *p, size_t n)
{
    p->off += n;
    if (p->off >= p->t[p->at].s.len)
        next(p);
}

static bool sees(const struct reader *p, int c)
{
    return p->t[p->at].type == TOK_SIGN && p->t[p->at].c == c;
}

static bool take(struct reader *p, int c)
{
    bool there = sees(p, c);

    if (there)
        next(p);
    return there;
}

static bool sees_command(const struct reader *p, const char *name)
{
    return p->t[p->at].type == TOK_COMMAND && pd_str_eq(p->t[p->at].s, pd_str_of(name));
}

static bool is_word_token(const struct tok *t)
{
    return t->type == TOK_TEXT || t->type == TOK_LETTERS;
}

static bool sees_word(const struct reader *p, const char *word)
{
    struct pd_str s = p->t[p->at].s;
    size_t n = strlen(word);

    if (!is_word_token(&p->t[p->at]) || s.len != n || p->off)
        return false;
    for (size_t i = 0; i < n; i++)
        if (tolower((unsigned char)s.ptr[i]) != word[i])
            return false;
    return true;
}

static bool sees_separator(const struct reader *p)
{
    return sees(p, ',') || sees(p, ';') || sees_word(p, "and") || sees_word(p, "or");
}

static bool sees_boundary(const struct reader *p)
{
    const struct tok *t = &p->t[p->at];

    return t->type == TOK_END || t->type == TOK_FINISH || sees_separator(p) ||
           (t->type == TOK_SIGN &&
            (t->c == ')' || t->c == ']' || t->c == '}' || t->c == '&' || t->c == '\n' ||
             t->c == SIGN_SET_END || (t->c == '|' && p->closes) ||
             (t->c == ':' && p->closes == BAR_OR_COLON)));
}

static bool enter(struct reader *p)
{
    return ++p->depth <= MATH_DEPTH_MAX;
}

/* ---- nodes --------------------------------------------------------------------------------- */

static struct math_node *one(struct reader *p, enum math_kind kind, struct math_node *a)
{
    struct math_node *e = a ? math_node(p->m, kind, 1) : NULL;

    if (e)
        e->kids[0] = a;
    return e;
}

static struct math_node *apply(struct reader *p, enum math_fn fn, struct math_node *a,
                               struct math_node *b)
{
    struct math_node *e = b ? math_node2(p->m, MATH_FN, a, b) : one(p, MATH_FN, a);

    if (e)
        e->op = (int)fn;
    return e;
}

static struct math_node *root_of(struct reader *p, struct math_node *a, struct math_node *n)
{
    struct math_node *e =
        math_node2(p->m, MATH_POW, a, math_node2(p->m, MATH_DIV, math_integer(p->m, 1), n));

    if (e)
        e->real = true;
    return e;
}

static struct math_node *named(struct reader *p, struct pd_str name, struct math_node *a)
{
    struct math_node *e = one(p, MATH_NAMED, a);

    if (e)
        e->name = name;
    return e;
}

static struct math_node *infinity(struct reader *p, bool negative)
{
    struct math_node *e = math_node(p->m, MATH_INF, 0);

    return negative ? one(p, MATH_NEG, e) : e;
}

/* open a, b close */
static struct math_node *interval(struct reader *p, char open, struct math_node *a,
                                  struct math_node *b, char close)
{
    struct math_node *e = math_node2(p->m, MATH_TUPLE, a, b);

    if (e) {
        e->open = open;
        e->close = close;
    }
    return e;
}

static struct math_node *reals(struct reader *p)
{
    return interval(p, '(', infinity(p, true), infinity(p, false), ')');
}

static struct math_node *of_items(struct reader *p, enum math_kind kind, const struct items *l)
{
    struct math_node *e = math_node(p->m, kind, l->n);

    for (size_t i = 0; e && i < l->n; i++)
        e->kids[i] = l->v[i];
    return e;
}

/* ---- numbers ------------------------------------------------------------------------------- */

static size_t count_digits(struct pd_str s)
{
    size_t n = 0;

    while (n < s.len && isdigit((unsigned char)s.ptr[n]))
        n++;
    return n;
}

/* digits as an integer; they are no more than an answer is long. */
static void set_digits(mpz_ptr z, struct pd_str digits, struct math *m, int base)
{
    char *text = math_text(m, digits);

    mpz_set_ui(z, 0);
    if (text && digits.len)
        mpz_set_str(z, text, base);
}

/* digits [. digits] [e digits], behind it a repetend. */
static struct math_node *decimal(struct math *m, struct pd_str s, struct pd_str repetend)
{
    size_t whole = count_digits(s), part = 0;
    struct pd_str digits = pd_str_sub(s, 0, whole), rest = pd_str_sub(s, whole, s.len);
    struct pd_buf all = PD_BUF_INIT(2 * MATH_TEXT_MAX);
    struct math_node *e = NULL;
    mpq_ptr q = m->tmp[2];
    int64_t ten = 0;
    char *text;

    pd_buf_adds(&all, digits);
    if (rest.len && rest.ptr[0] == '.') {
        rest = pd_str_sub(rest, 1, rest.len);
        part = count_digits(rest);
        pd_buf_adds(&all, pd_str_sub(rest, 0, part));
        rest = pd_str_sub(rest, part, rest.len);
    }
    if (rest.len > 1 && !pd_parse_i64(pd_str_sub(rest, 1 + (rest.ptr[1] == '+'), rest.len), &ten))
        goto out;
    if (all.len + repetend.len > MATH_BITS_MAX / 4 || ten > 2000 || ten < -2000)
        goto out;
    text = pd_buf_rc(&all) == 0 ? math_text(m, pd_buf_str(&all)) : NULL;
    if (!text)
        goto out;
    set_digits(mpq_numref(q), pd_str_of(text), m, 10);
    mpz_ui_pow_ui(mpq_denref(q), 10, part);
    if (repetend.len) { /* (all repetend - all) / 10^part (10^n - 1) */
        mpz_t more, nines;

        mpz_init(more);
        mpz_init(nines);
        mpz_ui_pow_ui(nines, 10, repetend.len);
        mpz_sub_ui(nines, nines, 1);
        set_digits(more, repetend, m, 10);
        mpz_mul(mpq_numref(q), mpq_numref(q), nines);
        mpz_add(mpq_numref(q), mpq_numref(q), more);
        mpz_mul(mpq_denref(q), mpq_denref(q), nines);
        mpz_clear(more);
        mpz_clear(nines);
    }
    mpz_ui_pow_ui(mpq_numref(m->tmp[1]), 10, (unsigned long)(ten < 0 ? -ten : ten));
    mpz_mul(ten < 0 ? mpq_denref(q) : mpq_numref(q), ten < 0 ? mpq_denref(q) : mpq_numref(q),
            mpq_numref(m->tmp[1]));
    mpq_canonicalize(q);
    e = m->rc ? NULL : math_num(m, q);
    if (e && part && !repetend.len && ten == 0)
        e->places = (int)part;
out:
    pd_buf_done(&all);
    return e;
}

/* Takes \overline{3} or \dot{3}: the repetend. */
static struct pd_str take_repetend(struct reader *p)
{
    struct pd_str s = {"", 0};

    if ((sees_command(p, "overline") || sees_command(p, "bar") || sees_command(p, "dot")) &&
        p->t[p->at + 1].type == TOK_SIGN && p->t[p->at + 1].c == '{' &&
        p->t[p->at + 2].type == TOK_NUMBER &&
        count_digits(p->t[p->at + 2].s) == p->t[p->at + 2].s.len &&
        p->t[p->at + 3].type == TOK_SIGN && p->t[p->at + 3].c == '}') {
        s = p->t[p->at + 2].s;
        p->at += 4;
    }
    return s;
}

/* digits_base: NULL when a digit is none of that base. */
static struct math_node *in_base(struct reader *p, struct pd_str digits)
{
    bool group;
    int64_t base;
    mpq_ptr q = p->m->tmp[2];

    next(p); /* _ */
    group = take(p, '{');
    if (p->t[p->at].type != TOK_NUMBER || !pd_parse_i64(peek(p).s, &base) || base < 2 || base > 36)
        return NULL;
    for (size_t i = 0; i < digits.len; i++)
        if (digits.ptr[i] - '0' >= base)
            return NULL;
    next(p);
    if (group && !take(p, '}'))
        return NULL;
    set_digits(mpq_numref(q), digits, p->m, (int)base);
    mpz_set_ui(mpq_denref(q), 1);
    return p->m->rc ? NULL : math_num(p->m, q);
}

static bool is_natural(const struct math_node *e)
{
    return e->kind == MATH_NUM && e->places < 0 && mpz_cmp_ui(mpq_denref(e->num), 1) == 0;
}

/* A proper fraction of whole numbers, as it stands behind the whole part of a mixed number. */
static bool is_proper(const struct math_node *e)
{
    return e && e->kind == MATH_DIV && is_natural(e->kids[0]) && is_natural(e->kids[1]) &&
           mpq_sgn(e->kids[0]->num) > 0 && mpq_cmp(e->kids[0]->num, e->kids[1]->num) < 0;
}

/* The fraction that makes a whole number before it a mixed one; NULL: none, and nothing taken. */
static struct math_node *take_fraction(struct reader *p)
{
    struct reader back = *p;
    const struct tok *t = &p->t[p->at];
    struct math_node *f = NULL, *a, *b;

    if (sees_command(p, "frac") ? t[1].type == TOK_NUMBER || t[2].type == TOK_NUMBER
                                : t->type == TOK_COMMAND && isdigit((unsigned char)t->s.ptr[0])) {
        f = primary(p);
    } else if (p->t[p->at].type == TOK_NUMBER && p->t[p->at].space) {
        a = decimal(p->m, peek(p).s, PD_STR(""));
        next(p);
        if (a && take(p, '/') && p->t[p->at].type == TOK_NUMBER &&
            (b = decimal(p->m, peek(p).s, PD_STR("")))) {
            next(p);
            f = math_node2(p->m, MATH_DIV, a, b);
        }
    }
    if (is_proper(f))
        return f;
    *p = back;
    return NULL;
}

/* A number without a fraction behind it. */
static struct math_node *plain_number(struct reader *p)
{
    struct pd_str s = peek(p).s, repetend;
    bool digits = count_digits(s) == s.len;
    struct math_node *e;

    next(p);
    if (digits && sees(p, '_'))
        return in_base(p, s);
    repetend = digits ? PD_STR("") : take_repetend(p);
    e = decimal(p->m, s, repetend);
    if (!e)
        return NULL;
    if (e->places >= 0 && sees_command(p, "ldots")) {
        next(p);
        e->about = true;
    }
    return e;
}

static struct math_node *number(struct reader *p)
{
    struct math_node *e = plain_number(p), *f = e && is_natural(e) ? take_fraction(p) : NULL;

    return f ? math_node2(p->m, MATH_ADD, e, f) : e;
}

/* ---- names --------------------------------------------------------------------------------- */

static const struct {
    const char *name;
    int fn;
} functions[] = {
    {"sin", FN_SIN},     {"cos", FN_COS},     {"tan", FN_TAN},   {"tg", FN_TAN},
    {"cot", FN_COT},     {"sec", FN_SEC},     {"csc", FN_CSC},   {"arcsin", FN_ASIN},
    {"arccos", FN_ACOS}, {"arctan", FN_ATAN}, {"asin", FN_ASIN}, {"acos", FN_ACOS},
    {"atan", FN_ATAN},   {"sinh", FN_SINH},   {"cosh", FN_COSH}, {"tanh", FN_TANH},
    {"ln", FN_LN},       {"log", FN_LOG},     {"abs", FN_ABS},   {"floor", FN_FLOOR},
    {"ceil", FN_CEIL},
};
enum { NO_FUNCTION = -1, SQUARE_ROOT = -2, CUBE_ROOT = -3, EXPONENTIAL = -4 };

static int find_function(const struct tok *t)
{
    if (t->type != TOK_COMMAND && !is_word_token(t))
        return NO_FUNCTION;
    for (size_t i = 0; i < sizeof functions / sizeof *functions; i++)
        if (pd_str_eq(t->s, pd_str_of(functions[i].name)))
            return functions[i].fn;
    if (pd_str_eq(t->s, PD_STR("exp")))
        return EXPONENTIAL;
    if (t->type == TOK_COMMAND)
        return NO_FUNCTION;
    return pd_str_eq(t->s, PD_STR("sqrt"))   ? SQUARE_ROOT
           : pd_str_eq(t->s, PD_STR("cbrt")) ? CUBE_ROOT
                                             : NO_FUNCTION;
}

/* Takes a subscript; its text, empty when there is none. */
static struct pd_str take_subscript(struct reader *p)
{
    struct pd_str s = {"", 0};
    bool group;

    if (!sees(p, '_'))
        return s;
    next(p);
    group = take(p, '{');
    if (p->t[p->at].type == TOK_NUMBER || is_word_token(&p->t[p->at])) {
        s = peek(p).s;
        next(p);
    }
    if (group)
        take(p, '}');
    return s;
}

static struct math_node *variable(struct reader *p, struct pd_str name)
{
    struct math_node *e = math_node(p->m, MATH_VAR, 0);
    struct pd_str sub = take_subscript(p);
    struct pd_buf b = PD_BUF_INIT(MATH_TEXT_MAX);
    char *z;

    pd_buf_adds(&b, name);
    if (sub.len)
        pd_buf_printf(&b, "_%.*s", (int)sub.len, sub.ptr);
    z = math_text(p->m, pd_buf_str(&b));
    if (e && z)
        e->name = (struct pd_str){z, b.len};
    pd_buf_done(&b);
    return z ? e : NULL;
}

/* One argument of a command: a group, or one digit, letter or command. */
static struct math_node *argument(struct reader *p)
{
    struct tok t = peek(p);
    struct math_node *e;

    if (take(p, '{')) {
        e = sum(p);
        return e && take(p, '}') ? e : NULL;
    }
    if (t.type == TOK_NUMBER) {
        e = isdigit((unsigned char)t.s.ptr[0]) ? math_integer(p->m, t.s.ptr[0] - '0') : NULL;
        take_part(p, 1);
        return e;
    }
    return primary(p);
}

/* What a function is applied to, when there is no bracket: factors up to the next function. */
static struct math_node *bare_argument(struct reader *p)
{
    struct math_node *e = factor(p), *f;

    while (e) {
        struct tok t = peek(p);

        if ((t.type != TOK_NUMBER && t.type != TOK_LETTERS && t.type != TOK_COMMAND) ||
            find_function(&t) != NO_FUNCTION || sees_boundary(p) || t.s.len > 2 ||
            (t.type == TOK_NUMBER && !p->off))
            if (!sees_command(p, "pi") && !sees_command(p, "theta") && !sees_command(p, "alpha"))
                break;
        f = factor(p);
        e = f ? math_node2(p->m, MATH_MUL, e, f) : NULL;
    }
    return e;
}

static struct math_node *function_of(struct reader *p, int fn, struct math_node *a,
                                     struct math_node *base)
{
    if (!a)
        return NULL;
    if (fn == SQUARE_ROOT || fn == CUBE_ROOT)
        return root_of(p, a, math_integer(p->m, fn == SQUARE_ROOT ? 2 : 3));
    if (fn == EXPONENTIAL)
        return math_node2(p->m, MATH_POW, math_node(p->m, MATH_E, 0), a);
    if (fn == FN_LOG && !base)
        base = math_integer(p->m, 10);
    return apply(p, (enum math_fn)fn, a, fn == FN_LOG ? base : NULL);
}

static const enum math_fn inverses[] = {[FN_SIN] = FN_ASIN, [FN_COS] = FN_ACOS, [FN_TAN] = FN_ATAN};

/* \sin x, \sin^2 x, \sin^{-1} x, \log_2 8 */
static struct math_node *function(struct reader *p, int fn)
{
    struct math_node *base = NULL, *up = NULL, *a = NULL;
    bool bracket;

    next(p);
    if (fn == FN_LOG && take(p, '_'))
        if (!(base = argument(p)))
            return NULL;
    if (take(p, '^')) {
        bool minus;

        bracket = take(p, '{');
        minus = take(p, '-');
        up = p->t[p->at].type == TOK_NUMBER ? argument(p) : NULL;
        if (!up || (bracket && !take(p, '}')))
            return NULL;
        if (minus) { /* the inverse function */
            if (fn < 0 || fn > FN_TAN || mpq_cmp_ui(up->num, 1, 1) != 0)
                return NULL;
            fn = (int)inverses[fn];
            up = NULL;
        }
    }
    p->in_function++;
    bracket = sees(p, '(') || sees(p, '{') || sees(p, '[');
    a = bracket ? primary(p) : enter(p) ? bare_argument(p) : NULL;
    p->depth -= !bracket;
    p->in_function--;
    if (!(a = function_of(p, fn, a, base)))
        return NULL;
    return up ? math_node2(p->m, MATH_POW, a, up) : a;
}

static struct math_node *letters(struct reader *p)
{
    struct tok t = peek(p);
    int fn = find_function(&t);
    size_t n;

    if (fn != NO_FUNCTION)
        return function(p, fn);
    if (pd_str_eq(t.s, PD_STR("pi"))) {
        next(p);
        return math_node(p->m, MATH_PI, 0);
    }
    if (pd_str_eq(t.s, PD_STR("inf")) || pd_str_eq(t.s, PD_STR("infinity")) ||
        pd_str_eq(t.s, PD_STR("oo"))) {
        next(p);
        return infinity(p, false);
    }
    if (pd_str_eq(t.s, PD_STR("theta")) || pd_str_eq(t.s, PD_STR("alpha")) ||
        pd_str_eq(t.s, PD_STR("beta"))) {
        next(p);
        return variable(p, t.s);
    }
    if (t.s.len > 3 || (t.type == TOK_TEXT && t.s.len > 1))
        return NULL; /* a word */
    n = pd_utf8_len(t.s);
    if (!n)
        return NULL;
    t.s = pd_str_sub(t.s, 0, n); /* a product of letters: one after another */
    take_part(p, n);
    if (pd_str_eq(t.s, PD_STR("e")) && !sees(p, '_'))
        return math_node(p->m, MATH_E, 0);
    if (pd_str_eq(t.s, PD_STR("i")) && !sees(p, '_'))
        return math_node(p->m, MATH_I, 0);
    return variable(p, t.s);
}

/* ---- brackets ------------------------------------------------------------------------------ */

/* (a), (a, b), [a, b): what stands alone in round brackets is itself. */
static struct math_node *brackets(struct reader *p)
{
    char open = (char)peek(p).c;
    int closes = (int)p->closes;
    struct items *l = math_array(p->m, 1, sizeof *l);
    struct math_node *e = NULL;

    next(p);
    p->closes = NOTHING;
    if (l && elements(p, false, l) && (sees(p, ')') || sees(p, ']'))) {
        char close = (char)peek(p).c;

        next(p);
        e = l->n == 1 ? l->v[0] : of_items(p, MATH_TUPLE, l);
        if (l->n == 1 && (open == '(') != (close == ')'))
            e = NULL;
        if (e && l->n > 1) {
            e->open = open;
            e->close = close;
        }
    }
    p->closes = closes;
    return e;
}

/* {a, b} of \{ and \}, or of plain braces with commas; a plain group is what it holds. */
static struct math_node *braces(struct reader *p)
{
    bool set = sees(p, SIGN_SET);
    int end = set ? SIGN_SET_END : '}', closes = (int)p->closes;
    struct items *l = math_array(p->m, 1, sizeof *l);
    struct math_node *e = NULL;

    next(p);
    p->closes = NOTHING;
    if (set && take(p, end)) {
        p->closes = closes;
        return math_node(p->m, MATH_SET, 0);
    }
    if (!l)
        return NULL;
    p->closes = set ? BAR_OR_COLON : NOTHING; /* { x | x > 3 } */
    if (elements(p, set, l)) {
        if (set && l->n == 1 && (take(p, '|') || take(p, ':'))) {
            p->closes = NOTHING;
            if (!elements(p, false, l) || l->n != 1 || !take(p, end))
                return NULL;
            e = l->v[0];
        } else if (take(p, end)) {
            e = !set && l->n == 1 ? l->v[0] : of_items(p, MATH_SET, l);
        }
    }
    p->closes = closes;
    return e;
}

static struct math_node *absolute(struct reader *p)
{
    struct math_node *e;
    int closes = (int)p->closes;

    next(p);
    p->closes = BAR;
    e = sum(p);
    p->closes = closes;
    return e && take(p, '|') ? apply(p, FN_ABS, e, NULL) : NULL;
}

/* \lfloor x \rfloor */
static struct math_node *rounded(struct reader *p, enum math_fn fn, const char *end)
{
    struct math_node *e;

    next(p);
    e = sum(p);
    if (!e || !sees_command(p, end))
        return NULL;
    next(p);
    return apply(p, fn, e, NULL);
}

static struct math_node *matrix(struct reader *p)
{
    struct pd_str name = p->t[p->at].s;
    struct items *l = math_array(p->m, 1, sizeof *l);
    size_t columns = 0, row = 0;
    struct math_node *e;

    if (!l || !(pd_str_ends(name, PD_STR("matrix")) || pd_str_eq(name, PD_STR("array"))) ||
        pd_str_starts(name, PD_STR("v")) || pd_str_starts(name, PD_STR("V")))
        return NULL; /* a determinant is another thing */
    next(p);
    for (;;) {
        if (p->t[p->at].type == TOK_FINISH && row == 0 && l->n)
            break; /* a row's end before the matrix's */
        if (l->n == MATH_ITEMS_MAX || !(l->v[l->n] = sum(p)))
            return NULL;
        l->n++;
        row++;
        if (take(p, '&'))
            continue;
        if (columns && row != columns)
            return NULL;
        columns = row;
        row = 0;
        if (!take(p, '\n'))
            break;
    }
    if (p->t[p->at].type != TOK_FINISH || !pd_str_eq(p->t[p->at].s, name))
        return NULL;
    next(p);
    e = of_items(p, MATH_MATRIX, l);
    if (e)
        e->rows = l->n / columns;
    return e;
}

/* ---- commands ------------------------------------------------------------------------------ */

static struct math_node *square_root(struct reader *p)
{
    struct math_node *n = NULL, *a;

    next(p);
    if (take(p, '[')) {
        n = sum(p);
        if (!n || !take(p, ']'))
            return NULL;
    }
    a = argument(p);
    return a ? root_of(p, a, n ? n : math_integer(p->m, 2)) : NULL;
}

static struct math_node *vulgar(struct reader *p)
{
    struct pd_str s = p->t[p->at].s;

    next(p);
    return math_node2(p->m, MATH_DIV, math_integer(p->m, s.ptr[0] - '0'),
                      math_integer(p->m, s.ptr[2] - '0'));
}

static struct math_node *command(struct reader *p)
{
    static const char *const greek[] = {
        "alpha", "beta",  "gamma", "delta", "epsilon", "varepsilon", "theta", "lambda", "mu", "nu",
        "rho",   "sigma", "tau",   "phi",   "varphi",  "psi",        "omega", "ell",    NULL};
    struct tok t = peek(p);
    int fn = find_function(&t);
    struct math_node *a, *b;

    if (fn != NO_FUNCTION)
        return function(p, fn);
    if (sees_command(p, "frac") || sees_command(p, "binom")) {
        next(p);
        a = argument(p);
        b = a ? argument(p) : NULL;
        if (!b)
            return NULL;
        return t.s.ptr[0] == 'f' ? math_node2(p->m, MATH_DIV, a, b) : apply(p, FN_BINOMIAL, a, b);
    }
    if (sees_command(p, "sqrt"))
        return square_root(p);
    if (sees_command(p, "surd")) {
        next(p);
        a = primary(p);
        return a ? root_of(p, a, math_integer(p->m, 2)) : NULL;
    }
    if (sees_command(p, "pi")) {
        next(p);
        return math_node(p->m, MATH_PI, 0);
    }
    if (sees_command(p, "lfloor"))
        return rounded(p, FN_FLOOR, "rfloor");
    if (sees_command(p, "lceil"))
        return rounded(p, FN_CEIL, "rceil");
    if (isdigit((unsigned char)t.s.ptr[0]))
        return vulgar(p);
    for (int i = 0; greek[i]; i++)
        if (pd_str_eq(t.s, pd_str_of(greek[i]))) {
            next(p);
            return variable(p, t.s);
        }
    return NULL;
}

static struct math_node *primary_at(struct reader *p)
{
    struct tok t = peek(p);

    switch (t.type) {
    case TOK_NUMBER:
        return number(p);
    case TOK_LETTERS:
    case TOK_TEXT:
        return letters(p);
    case TOK_COMMAND:
        return command(p);
    case TOK_BEGIN:
        return matrix(p);
    case TOK_SIGN:
        break;
    default:
        return NULL;
    }
    switch (t.c) {
    case '(':
    case '[':
        return brackets(p);
    case '{':
    case SIGN_SET:
        return braces(p);
    case '|':
        return absolute(p);
    case SIGN_INF:
        next(p);
        return infinity(p, false);
    case SIGN_REALS:
        next(p);
        return reals(p);
    case SIGN_EMPTY:
        next(p);
        return math_node(p->m, MATH_SET, 0);
    default:
        return NULL;
    }
}

static struct math_node *primary(struct reader *p)
{
    struct math_node *e = enter(p) ? primary_at(p) : NULL;

    p->depth--;
    return e;
}

/* ---- products and sums --------------------------------------------------------------------- */

/* ^\circ, ^{\circ}, °: how many tokens; 0: none. */
static size_t degree_sign(const struct reader *p)
{
    const struct tok *t = &p->t[p->at];
    bool group;

    if (sees(p, SIGN_DEGREE))
        return 1;
    if (!sees(p, '^'))
        return 0;
    group = t[1].type == TOK_SIGN && t[1].c == '{';
    if (t[1 + group].type == TOK_COMMAND && pd_str_eq(t[1 + group].s, PD_STR("circ")))
        return 2 + 2 * (size_t)group;
    return 0;
}

static struct math_node *exponent(struct reader *p)
{
    bool minus = take(p, '-');
    struct math_node *e = p->t[p->at].type == TOK_NUMBER ? plain_number(p) : argument(p);

    if (e && take(p, '^')) {
        e = enter(p) ? math_node2(p->m, MATH_POW, e, exponent(p)) : NULL;
        p->depth--;
    }
    return minus ? one(p, MATH_NEG, e) : e;
}

static struct math_node *power(struct reader *p)
{
    struct math_node *e = primary(p);
    size_t n;

    while (e) {
        if ((n = degree_sign(p))) {
            if (!p->in_function)
                return e; /* a unit */
            p->at += n;
            e = math_node2(
                p->m, MATH_MUL, e,
                math_node2(p->m, MATH_DIV, math_node(p->m, MATH_PI, 0), math_integer(p->m, 180)));
        } else if (take(p, '^')) {
            e = math_node2(p->m, MATH_POW, e, exponent(p));
        } else if (take(p, '!')) {
            e = apply(p, FN_FACTORIAL, e, NULL);
        } else {
            return e;
        }
    }
    return e;
}

static struct math_node *factor_at(struct reader *p)
{
    if (take(p, '-'))
        return one(p, MATH_NEG, factor(p));
    return take(p, '+') ? factor(p) : power(p);
}

static struct math_node *factor(struct reader *p)
{
    struct math_node *e = enter(p) ? factor_at(p) : NULL;

    p->depth--;
    return e;
}

static const struct math_unit *find_unit(struct reader *p, struct pd_str name)
{
    const struct math_unit *u = math_unit_find(p->m, name);
    char *z;

    if (u || name.len < 3 || !(z = math_text(p->m, name)))
        return u;
    for (size_t i = 0; i < name.len; i++)
        z[i] = (char)tolower((unsigned char)z[i]);
    return math_unit_find(p->m, (struct pd_str){z, name.len});
}

/* Whether a unit or a noun begins here, behind a number. */
static bool sees_unit(struct reader *p)
{
    struct tok t = peek(p);
    const struct tok *after = &p->t[p->at + 1];

    if (sees(p, '%') || sees(p, SIGN_CENT) || degree_sign(p))
        return true;
    if (p->off || sees_separator(p) || !is_word_token(&t) || find_function(&t) != NO_FUNCTION)
        return false;
    if (t.type == TOK_TEXT)
        return true;
    if (t.s.len == 1) /* 5 m, but not 5m, 5 x and 5 m + 1 */
        return t.space && p->at && p->t[p->at - 1].type == TOK_NUMBER &&
               strchr("mgshlLNJWtK", t.s.ptr[0]) &&
               (after->type == TOK_END ||
                (after->type == TOK_SIGN && strchr("/^),;]", after->c < 128 ? after->c : 0)));
    if (pd_str_eq(t.s, PD_STR("pi")) || pd_str_eq(t.s, PD_STR("theta")) ||
        pd_str_eq(t.s, PD_STR("alpha")) || pd_str_eq(t.s, PD_STR("beta")))
        return false;
    return t.s.len > 3 || (t.s.len == 3 && t.space) || find_unit(p, t.s);
}

static bool sees_factor(struct reader *p)
{
    const struct tok *t = &p->t[p->at];

    if (sees_boundary(p) || sees_unit(p))
        return false;
    if (t->type == TOK_NUMBER)
        return p->off > 0; /* the rest of \frac12 3, but not 2 3 */
    return t->type == TOK_LETTERS || sees(p, '(') || sees(p, '{') ||
           (t->type == TOK_TEXT && t->s.len == 1) ||
           (t->type == TOK_COMMAND && !sees_command(p, "ldots") && !sees_command(p, "rfloor") &&
            !sees_command(p, "rceil"));
}

static struct math_node *product(struct reader *p)
{
    struct math_node *e = factor(p), *f;

    while (e) {
        enum math_kind kind = MATH_MUL;

        if (take(p, '/') || (p->closes != BAR_OR_COLON && take(p, ':')))
            kind = MATH_DIV;
        else if (!take(p, '*') && !sees_factor(p))
            break;
        f = factor(p);
        e = f ? math_node2(p->m, kind, e, f) : NULL;
    }
    return e;
}

static struct math_node *sum_at(struct reader *p)
{
    struct math_node *e = sees(p, SIGN_PM) || sees(p, SIGN_MP) ? math_integer(p->m, 0) : product(p);

    while (e) {
        struct math_node *f;
        int c = p->t[p->at].type == TOK_SIGN ? p->t[p->at].c : 0;

        if (c != '+' && c != '-' && c != SIGN_PM && c != SIGN_MP)
            break;
        next(p);
        f = product(p);
        if (c == '-' && f && f->kind == MATH_SET) { /* sets: all but these */
            e = math_node2(p->m, MATH_JOIN, e, f);
            if (e)
                e->op = '\\';
            continue;
        }
        if (c == '-')
            f = one(p, MATH_NEG, f);
        e = f ? math_node2(p->m, c == '+' || c == '-' ? MATH_ADD : MATH_PM, e, f) : NULL;
        if (e && c == SIGN_MP)
            e->op = '-';
    }
    return e;
}

static struct math_node *sum(struct reader *p)
{
    struct math_node *e = enter(p) ? sum_at(p) : NULL;

    p->depth--;
    return e;
}

/* ---- quantities ---------------------------------------------------------------------------- */

static int take_unit_power(struct reader *p)
{
    int64_t k = 1;
    bool group;

    if (sees_word(p, "squared") || sees_word(p, "cubed")) {
        k = sees_word(p, "squared") ? 2 : 3;
        next(p);
        return (int)k;
    }
    if (!sees(p, '^') || degree_sign(p))
        return 1;
    next(p);
    group = take(p, '{');
    if (p->t[p->at].type != TOK_NUMBER || !pd_parse_i64(peek(p).s, &k) || k < 1 || k > 6)
        return 0;
    next(p);
    return !group || take(p, '}') ? (int)k : 0;
}

/* A unit of known ones, or the nouns that stand in its place. */
static const struct math_unit *unit(struct reader *p)
{
    struct math_unit *nouns = math_array(p->m, 1, sizeof *nouns);
    const struct math_unit *u = NULL, *v;
    struct pd_buf words = PD_BUF_INIT(MATH_TEXT_MAX);
    int sign = 1, k, before = 1;

    if (!nouns)
        return NULL;
    mpq_set_ui(p->m->tmp[1], 1, 1);
    nouns->factor = math_keep(p->m, p->m->tmp[1]);
    for (;;) {
        struct tok t = peek(p);
        struct pd_str name = t.s;

        if (sees_boundary(p))
            break;
        if (sees_word(p, "per") || (sees(p, '/') && u)) {
            sign = -1;
            next(p);
            continue;
        }
        if (sees_word(p, "square") || sees_word(p, "sq") || sees_word(p, "cubic")) {
            before = sees_word(p, "cubic") ? 3 : 2;
            next(p);
            continue;
        }
        if (sees(p, '*') || sees(p, '.')) {
            next(p);
            continue;
        }
        if (sees(p, '%')) {
            name = PD_STR("%");
            next(p);
        } else if (sees(p, SIGN_CENT)) {
            name = PD_STR("cent");
            next(p);
        } else if (degree_sign(p)) {
            p->at += degree_sign(p);
            name = PD_STR("°");
            if (sees_word(p, "c") || sees_word(p, "f")) {
                name = sees_word(p, "c") ? PD_STR("celsius") : PD_STR("fahrenheit");
                nouns->scaled_otherwise = true;
                next(p);
            }
        } else if (is_word_token(&t) || (t.type == TOK_SIGN && (t.c == '-' || t.c == '\''))) {
            next(p);
        } else {
            pd_buf_done(&words);
            return NULL;
        }
        v = name.len ? find_unit(p, name) : NULL;
        if (v && !words.len) {
            k = take_unit_power(p) * before;
            v = k ? math_unit_power(p->m, v, k) : NULL;
            u = !v ? NULL : u ? math_unit_mul(p->m, u, v, sign) : v;
            if (!u)
                break;
            sign = before = 1;
        } else if (!u) { /* behind a unit nouns say of what it is */
            pd_buf_printf(&words, "%s%.*s", words.len ? " " : "", (int)name.len, name.ptr);
        }
    }
    if (words.len) {
        struct pd_str plain = {math_text(p->m, pd_buf_str(&words)), words.len};

        nouns->words = plain.ptr ? math_fold(p->m, plain) : plain;
        u = nouns;
    }
    pd_buf_done(&words);
    return u;
}

static struct math_node *set_expression(struct reader *p)
{
    struct math_node *e = sum(p), *f;

    while (e) {
        int op = take(p, SIGN_UNION)  ? '|'
                 : take(p, SIGN_CUT)  ? '&'
                 : take(p, SIGN_LESS) ? '\\'
                                      : 0;

        if (!op)
            break;
        f = sum(p);
        e = f ? math_node2(p->m, MATH_JOIN, e, f) : NULL;
        if (e)
            e->op = op;
    }
    return e;
}

/* A value with its unit, if it has one: 5 km, $5, 50%. */
static struct math_node *quantity(struct reader *p)
{
    bool minus = sees(p, '-') && p->t[p->at + 1].type == TOK_SIGN &&
                 (p->t[p->at + 1].c == '$' || p->t[p->at + 1].c == SIGN_EURO ||
                  p->t[p->at + 1].c == SIGN_POUND);
    const struct math_unit *u = NULL, *more = NULL;
    struct math_node *e;

    p->at += minus;
    if (take(p, '$')) {
        u = math_unit_find(p->m, PD_STR("$"));
    } else if (sees(p, SIGN_EURO) || sees(p, SIGN_POUND)) {
        struct math_unit *noun = math_array(p->m, 1, sizeof *noun);

        if (!noun)
            return NULL;
        mpq_set_ui(p->m->tmp[1], 1, 1);
        noun->factor = math_keep(p->m, p->m->tmp[1]);
        noun->words = sees(p, SIGN_EURO) ? PD_STR("euro") : PD_STR("pound sterling");
        u = noun;
        next(p);
    }
    e = set_expression(p);
    if (minus)
        e = one(p, MATH_NEG, e);
    if (e && sees_unit(p) && !(more = unit(p)))
        return NULL;
    u = u ? u : more; /* $5 dollars */
    if (!e || !u)
        return e;
    e = one(p, MATH_QTY, e);
    if (e)
        e->unit = u;
    return e;
}

/* ---- relations ----------------------------------------------------------------------------- */

static int take_relation(struct reader *p)
{
    static const int signs[][2] = {{'=', '='},        {'<', '<'},     {'>', '>'},
                                   {SIGN_LE, 'l'},    {SIGN_GE, 'g'}, {SIGN_NE, '!'},
                                   {SIGN_ABOUT, '='}, {SIGN_IN, 'E'}};

    for (size_t i = 0; i < sizeof signs / sizeof *signs; i++)
        if (take(p, signs[i][0]))
            return signs[i][1];
    return 0;
}

static int flipped(int op)
{
    return op == '<' ? '>' : op == '>' ? '<' : op == 'l' ? 'g' : op == 'g' ? 'l' : op;
}

/* name op bound, as the numbers that it may be. */
static struct math_node *bounded(struct reader *p, struct pd_str name, int op,
                                 struct math_node *bound)
{
    struct math_node *set = NULL;

    if (op == '=' || op == 'E')
        set = bound;
    else if (op == '<' || op == 'l')
        set = interval(p, '(', infinity(p, true), bound, op == 'l' ? ']' : ')');
    else if (op == '>' || op == 'g')
        set = interval(p, op == 'g' ? '[' : '(', bound, infinity(p, false), ')');
    else if ((set = math_node2(p->m, MATH_JOIN, reals(p), one(p, MATH_SET, bound))))
        set->op = '\\';
    return named(p, name, set);
}

/* a op b */
static struct math_node *single_relation(struct reader *p, struct math_node *a, int op,
                                         struct math_node *b)
{
    struct math_node *e;

    if (a->kind == MATH_VAR)
        return bounded(p, a->name, op, b);
    if (b->kind == MATH_VAR && op != 'E')
        return bounded(p, b->name, flipped(op), a);
    if (op == 'E' || (op == '=' && a->kind == MATH_TUPLE))
        return op == '=' ? b : NULL;
    e = math_node2(p->m, MATH_REL, a, b);
    if (e)
        e->op = op;
    return e;
}

/* a op b op c: bounds of a variable, or what a calculation comes to. */
static struct math_node *double_relation(struct reader *p, struct math_node *a, int op,
                                         struct math_node *b, int op2, struct math_node *c)
{
    bool rises = (op == '<' || op == 'l') && (op2 == '<' || op2 == 'l');

    if (op == '=' && op2 == '=')
        return a->kind == MATH_VAR ? named(p, a->name, c) : c;
    if (b->kind != MATH_VAR)
        return NULL;
    if (!rises) {
        struct math_node *t = a;
        int low = flipped(op2);

        a = c;
        c = t;
        op2 = flipped(op);
        op = low;
        if ((op != '<' && op != 'l') || (op2 != '<' && op2 != 'l'))
            return NULL;
    }
    return named(p, b->name, interval(p, op == 'l' ? '[' : '(', a, c, op2 == 'l' ? ']' : ')'));
}

/* Passes over "Area =" and "f(x) =". */
static void skip_label(struct reader *p)
{
    size_t i = p->at;
    bool words = false;

    while (is_word_token(&p->t[i])) {
        words |= p->t[i].type == TOK_TEXT || p->t[i].s.len > 1;
        i++;
    }
    if (i > p->at && !words && p->t[i].type == TOK_SIGN && p->t[i].c == '(' &&
        p->t[i + 1].type == TOK_LETTERS && p->t[i + 2].type == TOK_SIGN && p->t[i + 2].c == ')') {
        words = true;
        i += 3;
    }
    if (words && i > p->at && p->t[i].type == TOK_SIGN &&
        (p->t[i].c == '=' || p->t[i].c == SIGN_ABOUT))
        p->at = i + 1;
}

static struct math_node *relation(struct reader *p)
{
    struct math_node *a, *b, *c;
    int op, op2;

    skip_label(p);
    if (sees(p, SIGN_ABOUT) || sees(p, '=')) /* what it is equal to is not said */
        next(p);
    a = quantity(p);
    if (!a || !(op = take_relation(p)))
        return a;
    b = quantity(p);
    if (!b || !(op2 = take_relation(p)))
        return b ? single_relation(p, a, op, b) : NULL;
    c = quantity(p);
    return c ? double_relation(p, a, op, b, op2, c) : NULL;
}

/* ---- words --------------------------------------------------------------------------------- */

/* The text of tokens, with one blank where there was room. */
static struct pd_str plain_text(struct math *m, const struct tok *t, size_t n)
{
    struct pd_buf b = PD_BUF_INIT(2 * MATH_TEXT_MAX);
    struct pd_str s = {"", 0};

    for (size_t i = 0; i < n; i++) {
        if (t[i].space && b.len)
            pd_buf_addc(&b, ' ');
        if (t[i].type == TOK_COMMAND)
            pd_buf_addc(&b, '\\');
        if (t[i].type == TOK_SIGN && t[i].c < 128)
            pd_buf_addc(&b, (char)t[i].c);
        else if (t[i].type == TOK_SIGN)
            pd_buf_printf(&b, "\\%d", t[i].c);
        else
            pd_buf_adds(&b, t[i].s);
    }
    if (b.len)
        s = (struct pd_str){math_text(m, pd_buf_str(&b)), b.len};
    pd_buf_done(&b);
    return s.ptr ? s : (struct pd_str){"", 0};
}

static struct math_node *word(struct reader *p, struct pd_str folded)
{
    static const char *const nothing[] = {"no solution",      "no solutions",      "empty set",
                                          "no real solution", "no real solutions", NULL};
    static const char *const everything[] = {"all real numbers", "all reals", "real numbers", NULL};
    struct math_node *e = math_read_number_word(p->m, folded);

    if (e || p->m->rc)
        return e;
    for (int i = 0; nothing[i]; i++)
        if (pd_str_eq(folded, pd_str_of(nothing[i])))
            return math_node(p->m, MATH_SET, 0);
    for (int i = 0; everything[i]; i++)
        if (pd_str_eq(folded, pd_str_of(everything[i])))
            return reals(p);
    if (pd_str_eq(folded, PD_STR("infinity")) || pd_str_eq(folded, PD_STR("negative infinity")))
        return infinity(p, folded.ptr[0] == 'n');
    e = math_node(p->m, MATH_WORD, 0);
    if (e)
        e->name = folded;
    return e;
}

/* Words up to the next separator. */
static struct math_node *words(struct reader *p)
{
    size_t from = p->at;
    bool any = false;

    for (; !sees_boundary(p); next(p)) {
        const struct tok *t = &p->t[p->at];

        any |= is_word_token(t) && (t->type == TOK_TEXT || t->s.len > 1);
        if (!is_word_token(t) && t->type != TOK_NUMBER &&
            !(t->type == TOK_SIGN && t->c < 128 && strchr("-'.:!?\"/`", t->c)))
            return NULL;
    }
    return any ? word(p, math_fold(p->m, plain_text(p->m, p->t + from, p->at - from))) : NULL;
}

/* Whether all up to the next separator is words: then it is no product of letters. */
static bool only_words(const struct reader *p)
{
    struct reader q = *p;
    size_t n = 0, longest = 0;

    for (; !sees_boundary(&q); next(&q)) {
        const struct tok *t = &q.t[q.at];

        if (!is_word_token(t) || find_function(t) != NO_FUNCTION || pd_str_eq(t->s, PD_STR("pi")))
            return false;
        if (t->type == TOK_TEXT && t->s.len > 1)
            longest = 3;
        longest = t->s.len > longest ? t->s.len : longest;
        n++;
    }
    return n &&
           (longest > 2 || (n == 1 && longest == 2 && (sees_word(p, "no") || sees_word(p, "ok"))));
}

/* ---- lists --------------------------------------------------------------------------------- */

static struct math_node *element_at(struct reader *p)
{
    struct reader back = *p;
    struct math_node *e = only_words(p) ? NULL : relation(p);

    if (e && sees_boundary(p))
        return e;
    *p = back;
    return words(p);
}

static struct math_node *element(struct reader *p)
{
    struct math_node *e = enter(p) && !p->m->rc ? element_at(p) : NULL;

    p->depth--;
    return e;
}

static bool has_two_signs(const struct math_node *e)
{
    bool yes = e->kind == MATH_PM;

    for (size_t i = 0; i < e->n && !yes; i++)
        yes = has_two_signs(e->kids[i]);
    return yes;
}

/* e with one of its signs. */
static struct math_node *with_sign(struct reader *p, const struct math_node *e, bool minus)
{
    struct math_node *r = math_node(p->m, e->kind, e->n), **kids;

    if (!r)
        return NULL;
    kids = r->kids;
    *r = *e;
    r->kids = kids;
    for (size_t i = 0; i < e->n; i++)
        if (!(kids[i] = with_sign(p, e->kids[i], minus)))
            return NULL;
    if (e->kind == MATH_PM) {
        r->kind = MATH_ADD;
        if ((e->op == '-') != minus) {
            kids[1] = one(p, MATH_NEG, kids[1]);
            if (!kids[1])
                return NULL;
        }
    }
    return r;
}

static bool add_item(struct items *l, struct math_node *e)
{
    if (!e || l->n == MATH_ITEMS_MAX)
        return false;
    l->v[l->n++] = e;
    return true;
}

/* Elements up to a boundary that separates none; both_signs: a ± b counts as two. */
static bool elements(struct reader *p, bool both_signs, struct items *out)
{
    out->n = 0;
    out->all_and = true;
    for (;;) {
        struct math_node *e = element(p);

        if (!e)
            return false;
        if (both_signs && has_two_signs(e)
                ? !add_item(out, with_sign(p, e, false)) || !add_item(out, with_sign(p, e, true))
                : !add_item(out, e))
            return false;
        if (!sees_separator(p))
            return true;
        while (sees_separator(p)) {
            out->all_and &= sees_word(p, "and");
            next(p);
        }
    }
}

/* ---- answers ------------------------------------------------------------------------------- */

static struct pd_str strip(struct pd_str s)
{
    size_t before;

    do {
        before = s.len;
        s = pd_str_trim(s);
        if (s.len && (s.ptr[s.len - 1] == '.' || s.ptr[s.len - 1] == ',') &&
            !pd_str_ends(s, PD_STR("...")))
            s.len--;
    } while (s.len != before);
    return s;
}

struct math_node *math_read(struct math *m, struct pd_str text)
{
    struct reader p = {.m = m};
    struct items *l = math_array(m, 1, sizeof *l);
    struct math_node *e = NULL;
    struct pd_str plain;
    size_t n;

    text = strip(text);
    if (!l || text.len > MATH_TEXT_MAX)
        return NULL;
    p.t = math_lex(m, text, &n);
    if (!p.t)
        return NULL;
    plain = plain_text(m, p.t, n);
    if ((e = math_read_choice(m, plain)) || (e = math_read_date(m, plain)) ||
        (e = math_read_clock(m, plain, true)) ||
        (e = math_read_number_word(m, math_fold(m, plain))))
        return e;
    if (n && elements(&p, true, l) && p.t[p.at].type == TOK_END && !p.off) {
        e = l->n == 1 ? l->v[0] : of_items(&p, MATH_LIST, l);
        if (e && l->n > 1)
            e->op = l->all_and ? '&' : '|';
    } else if ((e = math_node(m, MATH_TEXT, 0))) {
        e->name = plain;
    }
    return e;
}
