/* Answers in pieces: see math_lex_int.h. */
#include "core/math_lex_int.h"

#include <ctype.h>

static const struct {
    const char *from; /* UTF-8 */
    int c;
    const char *command;
} symbols[] = {
    {"×", '*', NULL},
    {"·", '*', NULL},
    {"⋅", '*', NULL},
    {"∙", '*', NULL},
    {"÷", '/', NULL},
    {"−", '-', NULL},
    {"–", '-', NULL},
    {"—", '-', NULL},
    {"≤", SIGN_LE, NULL},
    {"≥", SIGN_GE, NULL},
    {"≠", SIGN_NE, NULL},
    {"≈", SIGN_ABOUT, NULL},
    {"∪", SIGN_UNION, NULL},
    {"∩", SIGN_CUT, NULL},
    {"∖", SIGN_LESS, NULL},
    {"∈", SIGN_IN, NULL},
    {"±", SIGN_PM, NULL},
    {"∓", SIGN_MP, NULL},
    {"°", SIGN_DEGREE, NULL},
    {"∞", SIGN_INF, NULL},
    {"ℝ", SIGN_REALS, NULL},
    {"∅", SIGN_EMPTY, NULL},
    {"€", SIGN_EURO, NULL},
    {"£", SIGN_POUND, NULL},
    {"¢", SIGN_CENT, NULL},
    {"’", '\'', NULL},
    {"′", '\'', NULL},
    {"…", 0, "ldots"},
    {"√", 0, "surd"},
    {"π", 0, "pi"},
    {"α", 0, "alpha"},
    {"β", 0, "beta"},
    {"γ", 0, "gamma"},
    {"δ", 0, "delta"},
    {"ε", 0, "epsilon"},
    {"θ", 0, "theta"},
    {"λ", 0, "lambda"},
    {"μ", 0, "mu"},
    {"ρ", 0, "rho"},
    {"σ", 0, "sigma"},
    {"τ", 0, "tau"},
    {"φ", 0, "phi"},
    {"ω", 0, "omega"},
    {"½", 0, "1/2"},
    {"⅓", 0, "1/3"},
    {"⅔", 0, "2/3"},
    {"¼", 0, "1/4"},
    {"¾", 0, "3/4"},
    {"\u00a0", ' ', NULL},
    {"\u2009", ' ', NULL},
    {"\u202f", ' ', NULL},
    {"\u200b", ' ', NULL},
    {"⁰", SIGN_RAISED + '0', NULL},
    {"¹", SIGN_RAISED + '1', NULL},
    {"²", SIGN_RAISED + '2', NULL},
    {"³", SIGN_RAISED + '3', NULL},
    {"⁴", SIGN_RAISED + '4', NULL},
    {"⁵", SIGN_RAISED + '5', NULL},
    {"⁶", SIGN_RAISED + '6', NULL},
    {"⁷", SIGN_RAISED + '7', NULL},
    {"⁸", SIGN_RAISED + '8', NULL},
    {"⁹", SIGN_RAISED + '9', NULL},
    {"⁻", SIGN_RAISED + '-', NULL},
};

#define N_SYMBOLS (sizeof symbols / sizeof *symbols)

static const struct {
    const char *name;
    int c; /* 0: left out */
} commands[] = {
    {"left", 0},
    {"right", 0},
    {"middle", 0},
    {"big", 0},
    {"Big", 0},
    {"bigg", 0},
    {"Bigg", 0},
    {"bigl", 0},
    {"bigr", 0},
    {"Bigl", 0},
    {"Bigr", 0},
    {"displaystyle", 0},
    {"textstyle", 0},
    {"limits", 0},
    {"boxed", 0},
    {"fbox", 0},
    {"quad", ' '},
    {"qquad", ' '},
    {"thinspace", ' '},
    {"cdot", '*'},
    {"times", '*'},
    {"ast", '*'},
    {"div", '/'},
    {"colon", ':'},
    {"mid", '|'},
    {"vert", '|'},
    {"lvert", '|'},
    {"rvert", '|'},
    {"le", SIGN_LE},
    {"leq", SIGN_LE},
    {"leqslant", SIGN_LE},
    {"ge", SIGN_GE},
    {"geq", SIGN_GE},
    {"geqslant", SIGN_GE},
    {"ne", SIGN_NE},
    {"neq", SIGN_NE},
    {"approx", SIGN_ABOUT},
    {"simeq", SIGN_ABOUT},
    {"lt", '<'},
    {"gt", '>'},
    {"cup", SIGN_UNION},
    {"cap", SIGN_CUT},
    {"setminus", SIGN_LESS},
    {"backslash", SIGN_LESS},
    {"in", SIGN_IN},
    {"pm", SIGN_PM},
    {"mp", SIGN_MP},
    {"degree", SIGN_DEGREE},
    {"infty", SIGN_INF},
    {"emptyset", SIGN_EMPTY},
    {"varnothing", SIGN_EMPTY},
    {"lbrace", SIGN_SET},
    {"rbrace", SIGN_SET_END},
    {"lbrack", '['},
    {"rbrack", ']'},
    {"langle", '('},
    {"rangle", ')'},
    {"pounds", SIGN_POUND},
    {"euro", SIGN_EURO},
    {"prime", '\''},
    {"dollar", '$'},
    {"newline", '\n'},
    {"cr", '\n'},
};

static const char *const text_commands[] = {
    "text",         "textbf",  "textit",     "textrm", "textnormal", "texttt", "textsf",
    "mbox",         "mathrm",  "mathbf",     "mathit", "mathsf",     "mathtt", "emph",
    "operatorname", "mathcal", "boldsymbol", "bm",     NULL};

#define RAISED_MAX 8 /* digits of a raised number */

struct lexer {
    struct math *m;
    struct tok *out;
    size_t n;
    int depth;    /* of brackets, in which a comma separates */
    bool in_text; /* of \text{…} */
    bool dollars; /* $ is the currency */
    bool space;
    bool failed;
};

static bool is_digit(struct pd_str s, size_t i)
{
    return i < s.len && isdigit((unsigned char)s.ptr[i]);
}

static bool is_letter(struct pd_str s, size_t i)
{
    return i < s.len && (isalpha((unsigned char)s.ptr[i]) || (unsigned char)s.ptr[i] >= 0x80);
}

static void push(struct lexer *x, struct tok t)
{
    if (x->n == TOKENS_MAX) {
        x->failed = true;
        return;
    }
    t.space = x->space;
    x->space = false;
    x->out[x->n++] = t;
}

/* A raised digit or minus: ^{…} around a run of them. */
static void push_raised(struct lexer *x, char c)
{
    char *digits = math_array(x->m, 1, RAISED_MAX);
    struct tok *last = x->n ? &x->out[x->n - 1] : NULL;

    if (!digits) {
        x->failed = true;
    } else if (c == '-') {
        push(x, (struct tok){.type = TOK_SIGN, .c = '^'});
        push(x, (struct tok){.type = TOK_SIGN, .c = '-'});
    } else if (last && last->raised && !x->space && last->s.len + 1 < RAISED_MAX) {
        memcpy(digits, last->s.ptr, last->s.len);
        digits[last->s.len] = c;
        last->s = (struct pd_str){digits, last->s.len + 1};
    } else {
        if (!last || last->type != TOK_SIGN || last->c != '-' || x->n < 2 ||
            x->out[x->n - 2].type != TOK_SIGN || x->out[x->n - 2].c != '^')
            push(x, (struct tok){.type = TOK_SIGN, .c = '^'});
        digits[0] = c;
        push(x, (struct tok){.type = TOK_NUMBER, .s = {digits, 1}, .raised = true});
    }
}

static void push_sign(struct lexer *x, int c)
{
    if (c == ' ') {
        x->space = true;
    } else if (c > SIGN_RAISED) {
        push_raised(x, (char)(c - SIGN_RAISED));
    } else {
        x->depth += c == '(' || c == '[' || c == SIGN_SET;
        x->depth -= c == ')' || c == ']' || c == SIGN_SET_END;
        push(x, (struct tok){.type = TOK_SIGN, .c = c});
    }
}

/* ---- numbers ------------------------------------------------------------------------------- */

/* Length of what may stand between groups of three digits at i, 0: nothing. */
static size_t group_mark(const struct lexer *x, struct pd_str s, size_t i)
{
    static const char *const marks[] = {"{,}", ",\\!", "\\,", "\\ ", "~", " ", NULL};
    struct pd_str rest = pd_str_sub(s, i, s.len);
    size_t n = 0;

    for (int k = 0; marks[k] && !n; k++)
        if (pd_str_starts(rest, pd_str_of(marks[k])))
            n = strlen(marks[k]);
    if (!n && x->depth <= 0 && pd_str_starts(rest, PD_STR(",")))
        n = 1;
    if (!n || !is_digit(s, i + n) || !is_digit(s, i + n + 1) || !is_digit(s, i + n + 2) ||
        is_digit(s, i + n + 3))
        return 0;
    if (n == 1 && s.ptr[i] == ' ' && i + n + 3 < s.len && s.ptr[i + n + 3] == '/')
        return 0; /* 1 125/250 */
    return n;
}

/* At a digit, or a point before one. Returns where it ends. */
static size_t number(struct lexer *x, struct pd_str s, size_t i)
{
    char *z = math_array(x->m, 1, s.len - i + 1);
    size_t n = 0, mark, first = i;

    if (!z) {
        x->failed = true;
        return s.len;
    }
    while (is_digit(s, i))
        z[n++] = s.ptr[i++];
    if (n && n <= 3 && s.ptr[first] != '0')
        while ((mark = group_mark(x, s, i))) {
            memcpy(z + n, s.ptr + i + mark, 3);
            n += 3;
            i += mark + 3;
        }
    if (i < s.len && s.ptr[i] == '.' &&
        (is_digit(s, i + 1) || pd_str_starts(pd_str_sub(s, i + 1, s.len), PD_STR("\\overline")) ||
         pd_str_starts(pd_str_sub(s, i + 1, s.len), PD_STR("\\bar")) ||
         pd_str_starts(pd_str_sub(s, i + 1, s.len), PD_STR("\\dot{")))) {
        z[n++] = s.ptr[i++];
        while (is_digit(s, i))
            z[n++] = s.ptr[i++];
    }
    if (i < s.len && (s.ptr[i] == 'e' || s.ptr[i] == 'E')) {
        size_t k = i + 1;

        k += k < s.len && (s.ptr[k] == '-' || s.ptr[k] == '+');
        first = k;
        while (is_digit(s, k))
            k++;
        if (k > first && k - first <= 4 && !is_letter(s, k))
            while (i < k)
                z[n++] = s.ptr[i++];
    }
    push(x, (struct tok){.type = TOK_NUMBER, .s = {z, n}});
    return i;
}

/* ---- commands ------------------------------------------------------------------------------ */

static void lex(struct lexer *x, struct pd_str s);

/* Where the group that opens at i ends, behind its bracket; s.len: nowhere. */
static size_t group_end(struct pd_str s, size_t i)
{
    int depth = 0;

    for (; i < s.len; i++) {
        if (s.ptr[i] == '\\')
            i++;
        else if (s.ptr[i] == '{')
            depth++;
        else if (s.ptr[i] == '}' && --depth == 0)
            return i + 1;
    }
    return s.len;
}

/* The text of a group that begins at *i after white space; empty: none is there. */
static struct pd_str group(struct pd_str s, size_t *i)
{
    size_t from = *i;

    while (from < s.len && s.ptr[from] == ' ')
        from++;
    if (from == s.len || s.ptr[from] != '{')
        return (struct pd_str){"", 0};
    *i = group_end(s, from);
    return pd_str_sub(s, from + 1, *i > from + 1 && s.ptr[*i - 1] == '}' ? *i - 1 : *i);
}

static size_t environment(struct lexer *x, struct pd_str s, size_t i, bool begins)
{
    struct pd_str name = group(s, &i);

    if (begins && pd_str_eq(name, PD_STR("array")))
        group(s, &i); /* how its columns are set */
    push(x, (struct tok){.type = begins ? TOK_BEGIN : TOK_FINISH, .s = name});
    return i;
}

static size_t text_group(struct lexer *x, struct pd_str s, size_t i, struct pd_str name)
{
    struct pd_str inner = group(s, &i);
    bool before = x->in_text;

    /* \mathrm{e}, \mathbf{v}: a letter in another type is no word */
    x->in_text = inner.len > 1 || !pd_str_starts(name, PD_STR("math"));
    x->space |= inner.len && inner.ptr[0] == ' ';
    lex(x, inner);
    x->space |= inner.len && inner.ptr[inner.len - 1] == ' ';
    x->in_text = before;
    return i;
}

/* At a backslash. */
static size_t command(struct lexer *x, struct pd_str s, size_t i)
{
    size_t from = ++i;
    struct pd_str name;

    while (i < s.len && isalpha((unsigned char)s.ptr[i]))
        i++;
    name = pd_str_sub(s, from, i);
    if (!name.len) { /* one that is a sign */
        char c = i < s.len ? s.ptr[i++] : ' ';

        if (strchr(",;:! /", c))
            x->space |= c != '!';
        else if (strchr("[]()", c))
            ; /* mathematics begins or ends */
        else
            push_sign(x, c == '{' ? SIGN_SET : c == '}' ? SIGN_SET_END : c == '\\' ? '\n' : c);
        return i;
    }
    for (size_t k = 0; k < sizeof commands / sizeof *commands; k++)
        if (pd_str_eq(name, pd_str_of(commands[k].name))) {
            if (commands[k].c)
                push_sign(x, commands[k].c);
            else if (pd_str_eq(name, PD_STR("left")) || pd_str_eq(name, PD_STR("right")))
                i += i < s.len && s.ptr[i] == '.'; /* no bracket there */
            return i;
        }
    for (size_t k = 0; text_commands[k]; k++)
        if (pd_str_eq(name, pd_str_of(text_commands[k])))
            return text_group(x, s, i, name);
    if (pd_str_eq(name, PD_STR("begin")) || pd_str_eq(name, PD_STR("end")))
        return environment(x, s, i, name.ptr[0] == 'b');
    if (pd_str_eq(name, PD_STR("mathbb")) || pd_str_eq(name, PD_STR("Bbb"))) {
        struct pd_str set = group(s, &i);

        if (pd_str_eq(set, PD_STR("R")))
            push_sign(x, SIGN_REALS);
        else
            push(x, (struct tok){.type = TOK_TEXT, .s = set});
        return i;
    }
    if (pd_str_eq(name, PD_STR("dfrac")) || pd_str_eq(name, PD_STR("tfrac")) ||
        pd_str_eq(name, PD_STR("cfrac")))
        name = PD_STR("frac");
    else if (pd_str_eq(name, PD_STR("dbinom")) || pd_str_eq(name, PD_STR("tbinom")))
        name = PD_STR("binom");
    else if (pd_str_eq(name, PD_STR("dots")) || pd_str_eq(name, PD_STR("cdots")))
        name = PD_STR("ldots");
    push(x, (struct tok){.type = TOK_COMMAND, .s = name});
    return i;
}

/* ---- the rest ------------------------------------------------------------------------------ */

/* Its place in the table, or the table's length. */
static size_t find_symbol(struct pd_str rest)
{
    size_t k = 0;

    while (k < N_SYMBOLS && !pd_str_starts(rest, pd_str_of(symbols[k].from)))
        k++;
    return k;
}

/* Takes a symbol; returns its length, 0: none is here. */
static size_t symbol(struct lexer *x, struct pd_str rest)
{
    size_t k = find_symbol(rest);

    if (k == N_SYMBOLS)
        return 0;
    if (symbols[k].command)
        push(x, (struct tok){.type = TOK_COMMAND, .s = pd_str_of(symbols[k].command)});
    else
        push_sign(x, symbols[k].c);
    return strlen(symbols[k].from);
}

static size_t sign(struct lexer *x, struct pd_str rest)
{
    static const struct {
        const char *text;
        int c;
    } twos[] = {{"<=", SIGN_LE},  {">=", SIGN_GE}, {"!=", SIGN_NE}, {"**", '^'},
                {"+/-", SIGN_PM}, {"+-", SIGN_PM}, {"==", '='}};

    for (size_t k = 0; k < sizeof twos / sizeof *twos; k++)
        if (pd_str_starts(rest, pd_str_of(twos[k].text))) {
            push_sign(x, twos[k].c);
            return strlen(twos[k].text);
        }
    if (pd_str_starts(rest, PD_STR("..."))) {
        push(x, (struct tok){.type = TOK_COMMAND, .s = PD_STR("ldots")});
        return 3;
    }
    push_sign(x, (unsigned char)rest.ptr[0]);
    return 1;
}

static void lex(struct lexer *x, struct pd_str s)
{
    size_t i = 0;

    while (i < s.len && !x->failed) {
        char c = s.ptr[i];
        size_t n;

        if (c == ' ' || c == '~' || c == '\t' || c == '\n' || c == '\r') {
            x->space = true;
            i++;
        } else if (c == '$' && !(x->dollars && is_digit(s, i + 1))) {
            i++;
        } else if (c == '\\') {
            i = command(x, s, i);
        } else if (is_digit(s, i) || (c == '.' && is_digit(s, i + 1))) {
            i = number(x, s, i);
        } else if ((n = symbol(x, pd_str_sub(s, i, s.len)))) {
            i += n;
        } else if (is_letter(s, i)) {
            size_t from = i;

            while (is_letter(s, i) && find_symbol(pd_str_sub(s, i, s.len)) == N_SYMBOLS)
                i++;
            push(x, (struct tok){.type = x->in_text ? TOK_TEXT : TOK_LETTERS,
                                 .s = pd_str_sub(s, from, i)});
        } else {
            i += sign(x, pd_str_sub(s, i, s.len));
        }
    }
}

const struct tok *math_lex(struct math *m, struct pd_str s, size_t *out_n)
{
    struct lexer x = {.m = m};
    size_t dollars = 0;

    x.out = math_array(m, TOKENS_MAX + 1, sizeof *x.out);
    if (!x.out)
        return NULL;
    for (size_t i = 0; i < s.len; i++)
        dollars += s.ptr[i] == '$' && (!i || s.ptr[i - 1] != '\\');
    x.dollars = dollars % 2; /* one that has no partner opens no mathematics */
    lex(&x, s);
    x.out[x.n] = (struct tok){.type = TOK_END};
    *out_n = x.n;
    return x.failed ? NULL : x.out;
}
