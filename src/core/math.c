/* Comparing answers: see math.h. Answers are read into trees (math_read.c); here the trees are
 * compared by their kinds, each number or expression in them first exactly (math_exact.c), then by
 * values (math_eval.c). */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/err.h"
#include "core/math_int.h"

#define ARENA_BYTES  ((size_t)32 << 20)
#define ARENA_MARGIN ((size_t)4 << 20) /* no single request is larger */
#define ENDS_MAX     128               /* ends of intervals in two sets of numbers */

/* ---- one comparison's memory --------------------------------------------------------------- */

static void math_init(struct math *m)
{
    *m = (struct math){.fuel = MATH_FUEL};
    pd_arena_init(&m->arena, ARENA_BYTES);
    for (int i = 0; i < 3; i++)
        mpq_init(m->tmp[i]);
}

static void math_done(struct math *m)
{
    for (int i = 0; i < 3; i++)
        mpq_clear(m->tmp[i]);
    pd_arena_done(&m->arena);
}

bool math_spend(struct math *m, long n)
{
    if (m->rc == 0 && (m->fuel -= n) < 0)
        m->rc = PD_ELIMIT;
    return m->rc == 0;
}

void *math_array(struct math *m, size_t n, size_t bytes)
{
    void *p = m->rc ? NULL : pd_arena_array(&m->arena, n, bytes);

    /* the ceiling is a limit like that of time: what fails then fails everywhere */
    if (!p && !m->rc)
        m->rc = m->arena.used > ARENA_BYTES - ARENA_MARGIN ? PD_ELIMIT : PD_ENOMEM;
    return p;
}

void *math_dup(struct math *m, const void *from, size_t bytes)
{
    void *p = math_array(m, 1, bytes + 1);

    if (p && bytes)
        memcpy(p, from, bytes);
    return p;
}

char *math_text(struct math *m, struct pd_str s)
{
    return math_dup(m, s.ptr, s.len); /* zeroed behind it */
}

struct math_node *math_node(struct math *m, enum math_kind kind, size_t n_kids)
{
    struct math_node *e = math_array(m, 1, sizeof *e);

    if (!e || (n_kids && !(e->kids = math_array(m, n_kids, sizeof(struct math_node *)))))
        return NULL;
    e->kind = kind;
    e->n = n_kids;
    e->places = -1;
    return e;
}

struct math_node *math_node2(struct math *m, enum math_kind kind, struct math_node *a,
                             struct math_node *b)
{
    struct math_node *e = a && b ? math_node(m, kind, 2) : NULL;

    if (e) {
        e->kids[0] = a;
        e->kids[1] = b;
    }
    return e;
}

static bool keep_limbs(struct math *m, mpz_srcptr from, mpz_ptr to)
{
    size_t n = mpz_size(from);
    mp_limb_t *limbs = math_array(m, n + 1, sizeof *limbs);

    if (!limbs)
        return false;
    memcpy(limbs, mpz_limbs_read(from), n * sizeof *limbs);
    mpz_roinit_n(to, limbs, mpz_sgn(from) < 0 ? -(mp_size_t)n : (mp_size_t)n);
    return true;
}

mpq_srcptr math_keep(struct math *m, mpq_srcptr q)
{
    mpq_ptr kept;

    if (mpz_sizeinbase(mpq_numref(q), 2) > MATH_BITS_MAX ||
        mpz_sizeinbase(mpq_denref(q), 2) > MATH_BITS_MAX)
        return NULL;
    kept = math_array(m, 1, sizeof *kept);
    if (!kept || !keep_limbs(m, mpq_numref(q), mpq_numref(kept)) ||
        !keep_limbs(m, mpq_denref(q), mpq_denref(kept)))
        return NULL;
    return kept;
}

struct math_node *math_num(struct math *m, mpq_srcptr q)
{
    struct math_node *e = math_node(m, MATH_NUM, 0);

    if (e && !(e->num = math_keep(m, q)))
        return NULL;
    return e;
}

struct math_node *math_integer(struct math *m, long i)
{
    mpq_set_si(m->tmp[0], i, 1);
    return math_num(m, m->tmp[0]);
}

/* ---- verdicts ------------------------------------------------------------------------------ */

__attribute__((format(printf, 3, 4))) static enum pd_math_verdict
say(struct pd_math_result *r, enum pd_math_verdict v, const char *fmt, ...)
{
    va_list ap;

    r->verdict = v;
    va_start(ap, fmt);
    vsnprintf(r->reason, sizeof r->reason, fmt, ap);
    va_end(ap);
    return v;
}

static enum pd_math_verdict equal(struct pd_math_result *r, const char *why)
{
    return say(r, PD_MATH_EQUAL, "%s", why);
}

static enum pd_math_verdict different(struct pd_math_result *r, const char *why)
{
    return say(r, PD_MATH_DIFFERENT, "%s", why);
}

static enum pd_math_verdict undecided(struct pd_math_result *r, const char *why)
{
    return say(r, PD_MATH_UNDECIDED, "%s", why);
}

static enum pd_math_verdict compare(struct math *m, const struct math_node *a,
                                    const struct math_node *b, struct pd_math_result *r);

/* ---- expressions --------------------------------------------------------------------------- */

static bool is_expression(const struct math_node *e)
{
    return e->kind <= MATH_FN && e->kind != MATH_INF && e->kind != MATH_PM;
}

/* One of them is a decimal to which the other rounds: whether that is enough is the problem's. */
static bool is_rounding(struct math *m, const struct math_node *a, const struct math_node *b)
{
    return a->kind == MATH_NUM && a->places >= 0 && math_rounds_to(m, b, a->num, a->places) != 0;
}

static enum pd_math_verdict compare_values(struct math *m, const struct math_node *a,
                                           const struct math_node *b, struct pd_math_result *r)
{
    const struct math_exact *x = math_exact(m, a), *y = math_exact(m, b);
    enum pd_math_verdict v = x && y ? math_exact_compare(m, x, y) : PD_MATH_UNDECIDED;
    bool about = (a->kind == MATH_NUM && a->about) || (b->kind == MATH_NUM && b->about);

    if (v == PD_MATH_EQUAL && !about)
        return equal(r, "they are the same in exact arithmetic");
    if (v == PD_MATH_UNDECIDED && !m->rc)
        v = math_eval_compare(m, a, b, r->reason, sizeof r->reason);
    else
        different(r, "they differ in exact arithmetic");
    if (m->rc)
        return undecided(r, "they take too long to work out");
    if (v != PD_MATH_EQUAL && (is_rounding(m, a, b) || is_rounding(m, b, a)))
        return undecided(r, "one is the other rounded, which is for the problem to allow");
    if (about && v == PD_MATH_EQUAL)
        return undecided(r, "where the digits go on, they may differ");
    r->verdict = v;
    return v;
}

/* ---- quantities ---------------------------------------------------------------------------- */

/* The number in basic units. */
static struct math_node *scaled(struct math *m, const struct math_node *e)
{
    struct math_node *v = math_node2(m, MATH_MUL, e->kids[0], math_num(m, e->unit->factor));

    return e->unit->degrees ? math_node2(m, MATH_MUL, v, math_node(m, MATH_PI, 0)) : v;
}

static bool has_word(struct pd_str words, struct pd_str w)
{
    while (words.len) {
        ptrdiff_t at = pd_str_find(words, PD_STR(" "));
        struct pd_str first = pd_str_sub(words, 0, at < 0 ? words.len : (size_t)at);

        if (pd_str_eq(first, w) ||
            (first.len == w.len + 1 && first.ptr[w.len] == 's' && pd_str_starts(first, w)) ||
            (w.len == first.len + 1 && w.ptr[first.len] == 's' && pd_str_starts(w, first)))
            return true;
        words = pd_str_sub(words, first.len + 1, words.len);
    }
    return false;
}

/* Whether all words of a are in b: apples in red apples. */
static bool words_within(struct pd_str a, struct pd_str b)
{
    while (a.len) {
        ptrdiff_t at = pd_str_find(a, PD_STR(" "));
        struct pd_str first = pd_str_sub(a, 0, at < 0 ? a.len : (size_t)at);

        if (first.len && !has_word(b, first))
            return false;
        a = pd_str_sub(a, first.len + 1, a.len);
    }
    return true;
}

/* A quantity and a bare number. */
static enum pd_math_verdict compare_bare(struct math *m, const struct math_node *q,
                                         const struct math_node *b, struct pd_math_result *r)
{
    enum pd_math_verdict v = compare(m, q->kids[0], b, r), w;
    struct pd_math_result other;
    struct math_node *value;

    if (v == PD_MATH_EQUAL)
        return equal(r, "they are the same number, one without its unit");
    if (!q->unit->scale || !is_expression(q->kids[0]) || !is_expression(b) ||
        !(value = scaled(m, q)))
        return v;
    w = compare_values(m, value, b, &other);
    if (w == PD_MATH_EQUAL || (w == PD_MATH_UNDECIDED && v == PD_MATH_DIFFERENT))
        *r = other;
    return r->verdict;
}

static enum pd_math_verdict compare_quantities(struct math *m, const struct math_node *a,
                                               const struct math_node *b, struct pd_math_result *r)
{
    const struct math_unit *u = a->unit, *v = b->unit;
    struct math_node *x, *y;
    enum pd_math_verdict got;

    if (!u->words.len && !v->words.len) {
        if (memcmp(u->dim, v->dim, sizeof u->dim) != 0)
            return different(r, "their units measure different things");
        if (!is_expression(a->kids[0]) || !is_expression(b->kids[0]))
            return mpq_equal(u->factor, v->factor) ? compare(m, a->kids[0], b->kids[0], r)
                                                   : undecided(r, "their units differ");
        x = scaled(m, a);
        y = scaled(m, b);
        return x && y ? compare_values(m, x, y, r) : undecided(r, "they are too large");
    }
    got = compare(m, a->kids[0], b->kids[0], r);
    if (u->words.len && v->words.len &&
        (words_within(u->words, v->words) || words_within(v->words, u->words)))
        return got;
    if (u->scaled_otherwise && v->scaled_otherwise)
        return undecided(r, "their scales of temperature differ");
    return got == PD_MATH_DIFFERENT ? got
                                    : undecided(r, "they are the same number of different things");
}

/* ---- sets of numbers ----------------------------------------------------------------------- */

/* Where the intervals of two sets begin and end, in order; a set is then a row of bits: bit 2k+1 is
 * the k-th end itself, bit 2k+2 what lies between it and the next, bit 0 what lies before all. */
struct ends {
    const struct math_node *v[ENDS_MAX];
    size_t n;
};
struct bits {
    bool at[2 * ENDS_MAX + 1];
};

static bool is_infinite(const struct math_node *e)
{
    return e->kind == MATH_INF || (e->kind == MATH_NEG && e->kids[0]->kind == MATH_INF);
}

static bool is_interval(const struct math_node *e)
{
    return e->kind == MATH_TUPLE && e->n == 2;
}

/* Whether it can be nothing but a set of numbers. */
static bool is_range(const struct math_node *e)
{
    if (e->kind == MATH_NAMED)
        return is_range(e->kids[0]);
    if (e->kind == MATH_LIST)
        for (size_t i = 0; i < e->n; i++)
            if (is_range(e->kids[i]))
                return true;
    return e->kind == MATH_JOIN || (is_interval(e) && (e->open == '[') != (e->close == ']')) ||
           (is_interval(e) && (is_infinite(e->kids[0]) || is_infinite(e->kids[1])));
}

/* Whether it can be one when the other is. */
static bool may_be_range(const struct math_node *e)
{
    return is_range(e) || is_interval(e) || e->kind == MATH_SET ||
           (e->kind == MATH_NAMED && may_be_range(e->kids[0]));
}

static bool add_end(struct math *m, struct ends *s, const struct math_node *e)
{
    size_t i = 0;

    if (is_infinite(e))
        return true;
    if (!is_expression(e) || s->n == ENDS_MAX)
        return false;
    for (; i < s->n; i++) {
        int order = math_order(m, s->v[i], e);

        if (order == 0)
            return true;
        if (order == 2)
            return false;
        if (order > 0)
            break;
    }
    memmove(&s->v[i + 1], &s->v[i], (s->n - i) * sizeof *s->v);
    s->v[i] = e;
    s->n++;
    return true;
}

static bool find_ends(struct math *m, const struct math_node *e, struct ends *s)
{
    if (is_expression(e) || is_infinite(e))
        return add_end(m, s, e);
    if (!may_be_range(e) && e->kind != MATH_LIST)
        return false;
    for (size_t i = 0; i < e->n; i++)
        if (!find_ends(m, e->kids[i], s))
            return false;
    return true;
}

/* The bit of an end. */
static size_t place(struct math *m, const struct ends *s, const struct math_node *e)
{
    size_t i = 0;

    while (i < s->n && math_order(m, s->v[i], e) != 0)
        i++;
    return 2 * i + 1;
}

static void mark(struct math *m, const struct math_node *e, const struct ends *s, struct bits *out)
{
    size_t n = 2 * s->n + 1, from = 0, to = n;
    struct bits one;

    memset(out, 0, sizeof *out);
    if (e->kind == MATH_NAMED) {
        mark(m, e->kids[0], s, out);
    } else if (is_expression(e)) {
        out->at[place(m, s, e)] = true;
    } else if (is_interval(e)) {
        if (!is_infinite(e->kids[0]))
            from = place(m, s, e->kids[0]) + (e->open == '(');
        if (!is_infinite(e->kids[1]))
            to = place(m, s, e->kids[1]) + (e->close == ']');
        for (size_t i = from; i < to; i++)
            out->at[i] = true;
    } else {
        int op = e->kind == MATH_JOIN || (e->kind == MATH_LIST && is_range(e)) ? e->op : '|';

        for (size_t k = 0; k < e->n; k++) {
            mark(m, e->kids[k], s, &one);
            for (size_t i = 0; i < n; i++)
                out->at[i] = k == 0      ? one.at[i]
                             : op == '|' ? out->at[i] || one.at[i]
                             : op == '&' ? out->at[i] && one.at[i]
                                         : out->at[i] && !one.at[i];
        }
    }
}

static enum pd_math_verdict compare_ranges(struct math *m, const struct math_node *a,
                                           const struct math_node *b, struct pd_math_result *r)
{
    struct ends *s = math_array(m, 1, sizeof *s);
    struct bits x, y;

    if (!s || !find_ends(m, a, s) || !find_ends(m, b, s))
        return undecided(r, "the ends of the intervals cannot be put in order");
    mark(m, a, s, &x);
    mark(m, b, s, &y);
    if (m->rc)
        return undecided(r, "they take too long to work out");
    return memcmp(&x, &y, sizeof x) == 0 ? equal(r, "they are the same set of numbers")
                                         : different(r, "they are different sets of numbers");
}

/* ---- lists, sets, tuples, matrices --------------------------------------------------------- */

static enum pd_math_verdict compare_in_order(struct math *m, const struct math_node *a,
                                             const struct math_node *b, struct pd_math_result *r)
{
    enum pd_math_verdict v = PD_MATH_EQUAL;
    struct pd_math_result one;

    if (a->n != b->n)
        return say(r, PD_MATH_DIFFERENT, "one has %zu parts, the other %zu",
                   a->n < b->n ? a->n : b->n, a->n < b->n ? b->n : a->n);
    for (size_t i = 0; i < a->n; i++) {
        enum pd_math_verdict w = compare(m, a->kids[i], b->kids[i], &one);

        if (w == PD_MATH_DIFFERENT)
            return say(r, w, "part %zu: %.150s", i + 1, one.reason);
        if (w == PD_MATH_UNDECIDED && v == PD_MATH_EQUAL)
            v = say(r, w, "part %zu: %.150s", i + 1, one.reason);
    }
    return v == PD_MATH_EQUAL ? equal(r, "all parts are equal, in their order") : v;
}

static enum pd_math_verdict compare_unordered(struct math *m, const struct math_node *a,
                                              const struct math_node *b, struct pd_math_result *r)
{
    enum pd_math_verdict v = PD_MATH_EQUAL;
    struct pd_math_result one;

    if (!a->n != !b->n)
        return different(r, "one is empty, the other is not");
    for (int side = 0; side < 2; side++) {
        const struct math_node *x = side ? b : a, *y = side ? a : b;

        for (size_t i = 0; i < x->n; i++) {
            enum pd_math_verdict best = PD_MATH_DIFFERENT;

            for (size_t k = 0; k < y->n && best != PD_MATH_EQUAL; k++) {
                enum pd_math_verdict w = compare(m, x->kids[i], y->kids[k], &one);

                best = w == PD_MATH_DIFFERENT ? best : w;
            }
            if (best == PD_MATH_DIFFERENT)
                return different(r, "one has an element that the other has not");
            if (best == PD_MATH_UNDECIDED)
                v = best;
        }
    }
    return v == PD_MATH_EQUAL
               ? equal(r, "they have the same elements")
               : undecided(r, "it cannot be told whether they have the same elements");
}

static enum pd_math_verdict compare_tuples(struct math *m, const struct math_node *a,
                                           const struct math_node *b, struct pd_math_result *r)
{
    enum pd_math_verdict v;

    if (a->n == 2 && b->n == 2 && (is_range(a) || is_range(b)))
        return compare_ranges(m, a, b, r);
    v = compare_in_order(m, a, b, r);
    if (v == PD_MATH_EQUAL && a->n == 2 && (a->open != b->open || a->close != b->close))
        return undecided(r, "they have the same parts, but may be an open and a closed interval");
    return v;
}

/* A list without brackets and a tuple: the list may be one, or a set. */
static enum pd_math_verdict compare_list_tuple(struct math *m, const struct math_node *a,
                                               const struct math_node *b, struct pd_math_result *r)
{
    if (compare_in_order(m, a, b, r) == PD_MATH_EQUAL)
        return r->verdict;
    return compare_unordered(m, a, b, r) == PD_MATH_EQUAL
               ? undecided(r, "they have the same elements in another order")
               : r->verdict;
}

static bool is_vector(const struct math_node *e)
{
    return e->kind == MATH_MATRIX && (e->rows == 1 || e->rows == e->n);
}

/* ---- relations ----------------------------------------------------------------------------- */

/* Both sides of a relation, as what is compared with 0. */
static const struct math_exact *left_minus_right(struct math *m, const struct math_node *e)
{
    struct math_node *minus = math_node(m, MATH_NEG, 1), *d;

    if (!minus || !is_expression(e->kids[0]) || !is_expression(e->kids[1]))
        return NULL;
    minus->kids[0] = e->kids[1];
    d = math_node2(m, MATH_ADD, e->kids[0], minus);
    return d ? math_exact(m, d) : NULL;
}

static enum pd_math_verdict compare_relations(struct math *m, const struct math_node *a,
                                              const struct math_node *b, struct pd_math_result *r)
{
    const struct math_exact *x = left_minus_right(m, a), *y = left_minus_right(m, b);
    bool less_a = a->op == '<' || a->op == 'l', less_b = b->op == '<' || b->op == 'l', strict;
    int sign = 0;

    if (!x || !y)
        return undecided(r, "the relations cannot be put in one form");
    strict = (a->op == '<' || a->op == '>') == (b->op == '<' || b->op == '>');
    if ((a->op == '=') != (b->op == '=') || (a->op == '!') != (b->op == '!') || !strict)
        return different(r, "one is an equation, the other is not, or an end is in only one");
    if (!math_exact_proportional(m, x, y, &sign))
        return undecided(r, "neither relation is a multiple of the other");
    if (a->op != '=' && a->op != '!' && (less_a == less_b) != (sign > 0))
        return different(r, "the relations point in opposite directions");
    return equal(r, "each relation is a multiple of the other");
}

/* name = expression as a relation. */
static struct math_node *as_relation(struct math *m, const struct math_node *e)
{
    struct math_node *v, *rel;

    if (!is_expression(e->kids[0]) || !(v = math_node(m, MATH_VAR, 0)))
        return NULL;
    v->name = e->name;
    rel = math_node2(m, MATH_REL, v, e->kids[0]);
    if (rel)
        rel->op = '=';
    return rel;
}

static enum pd_math_verdict compare_named(struct math *m, const struct math_node *a,
                                          const struct math_node *b, struct pd_math_result *r)
{
    struct math_node *x, *y;

    if (pd_str_eq(a->name, b->name))
        return compare(m, a->kids[0], b->kids[0], r);
    x = as_relation(m, a);
    y = as_relation(m, b);
    if (x && y && compare_relations(m, x, y, r) == PD_MATH_EQUAL)
        return r->verdict;
    return different(r, "they are about different variables");
}

/* ---- any two ------------------------------------------------------------------------------- */

static enum pd_math_verdict compare_dates(const struct math_node *a, const struct math_node *b,
                                          struct pd_math_result *r)
{
    bool left_out = false;

    for (int i = 0; i < 3; i++) {
        if (a->date[i] == b->date[i])
            continue;
        if (a->date[i] && b->date[i])
            return different(r, "they are different dates");
        left_out = true;
    }
    return left_out ? undecided(r, "one of the dates leaves something out")
                    : equal(r, "they are the same date");
}

static enum pd_math_verdict compare_words(const struct math_node *a, const struct math_node *b,
                                          struct pd_math_result *r)
{
    if (pd_str_eq(a->name, b->name))
        return equal(r, "they are the same words");
    if (a->kind == MATH_TEXT || b->kind == MATH_TEXT)
        return undecided(r, "one of them cannot be read");
    if (words_within(a->name, b->name) || words_within(b->name, a->name))
        return undecided(r, "one of them says more");
    return different(r, "they are different words");
}

static bool is_sequence(const struct math_node *e)
{
    return e->kind == MATH_LIST || e->kind == MATH_SET || e->kind == MATH_TUPLE || is_vector(e);
}

/* Of one element, what is compared with what stands alone: {3}, x = 3. NULL: it is none. */
static const struct math_node *alone(const struct math_node *e)
{
    return (e->kind == MATH_SET && e->n == 1) || e->kind == MATH_NAMED ? e->kids[0] : NULL;
}

static enum pd_math_verdict compare_sequences(struct math *m, const struct math_node *a,
                                              const struct math_node *b, struct pd_math_result *r)
{
    bool order_a = a->kind == MATH_TUPLE || a->kind == MATH_MATRIX,
         order_b = b->kind == MATH_TUPLE || b->kind == MATH_MATRIX;

    if (a->kind == MATH_MATRIX && b->kind == MATH_MATRIX && a->rows != b->rows)
        return different(r, "one is a row, the other a column");
    if (a->kind == MATH_TUPLE && b->kind == MATH_TUPLE)
        return compare_tuples(m, a, b, r);
    if (order_a && order_b)
        return compare_in_order(m, a, b, r);
    if (!order_a && !order_b)
        return compare_unordered(m, a, b, r);
    if (a->kind == MATH_LIST || b->kind == MATH_LIST)
        return compare_list_tuple(m, a, b, r);
    return compare_unordered(m, a, b, r) == PD_MATH_EQUAL
               ? undecided(r, "one is a set, the other has an order")
               : r->verdict;
}

static enum pd_math_verdict compare(struct math *m, const struct math_node *a,
                                    const struct math_node *b, struct pd_math_result *r)
{
    if (!math_spend(m, 1))
        return undecided(r, "they take too long to work out");
    if (a->kind == MATH_TEXT || b->kind == MATH_TEXT)
        return a->kind == b->kind ? compare_words(a, b, r)
                                  : undecided(r, "one of them cannot be read");
    if (is_expression(a) && is_expression(b))
        return compare_values(m, a, b, r);
    if (a->kind == MATH_QTY && b->kind == MATH_QTY)
        return compare_quantities(m, a, b, r);
    if (a->kind == MATH_QTY && (is_expression(b) || is_sequence(b)))
        return compare_bare(m, a, b, r);
    if (b->kind == MATH_QTY && (is_expression(a) || is_sequence(a)))
        return compare_bare(m, b, a, r);
    if (a->kind == MATH_NAMED && b->kind == MATH_NAMED)
        return compare_named(m, a, b, r);
    if (is_range(a) || is_range(b)) {
        if (may_be_range(a) && may_be_range(b))
            return compare_ranges(m, a, b, r);
        return different(r, "one is a range of numbers, the other is not");
    }
    if (is_infinite(a) || is_infinite(b)) {
        if (is_infinite(a) && is_infinite(b))
            return a->kind == b->kind ? equal(r, "both are infinite")
                                      : different(r, "they are infinite with opposite signs");
        return alone(a) || alone(b) ? undecided(r, "only one is infinite")
                                    : different(r, "only one of them is infinite");
    }
    if (a->kind == MATH_REL && b->kind == MATH_REL)
        return compare_relations(m, a, b, r);
    if (a->kind == MATH_REL && b->kind == MATH_NAMED) {
        const struct math_node *y = as_relation(m, b);

        return y ? compare_relations(m, a, y, r) : undecided(r, "one of them is a relation");
    }
    if (b->kind == MATH_REL && a->kind == MATH_NAMED)
        return compare(m, b, a, r);
    if (is_sequence(a) && is_sequence(b))
        return compare_sequences(m, a, b, r);
    if (a->kind == MATH_MATRIX && b->kind == MATH_MATRIX)
        return a->rows == b->rows ? compare_in_order(m, a, b, r)
                                  : different(r, "the matrices have different shapes");
    if (alone(a) && !alone(b) && b->kind != MATH_REL && b->kind != MATH_CHOICE)
        return compare(m, alone(a), b, r);
    if (alone(b) && !alone(a) && a->kind != MATH_REL && a->kind != MATH_CHOICE)
        return compare(m, a, alone(b), r);
    if (alone(a) && alone(b))
        return compare(m, alone(a), alone(b), r);
    if (a->kind == MATH_CHOICE && b->kind == MATH_CHOICE)
        return a->op == b->op ? equal(r, "they are the same choice")
                              : different(r, "they are different choices");
    if (a->kind == MATH_CHOICE || b->kind == MATH_CHOICE)
        return undecided(r, "one is the letter of a choice, the other is not");
    if (a->kind == MATH_DATE && b->kind == MATH_DATE)
        return compare_dates(a, b, r);
    if (a->kind == MATH_CLOCK && b->kind == MATH_CLOCK)
        return a->date[0] == b->date[0] ? equal(r, "they are the same time of day")
                                        : different(r, "they are different times of day");
    if (a->kind == MATH_WORD && b->kind == MATH_WORD)
        return compare_words(a, b, r);
    if (a->kind == MATH_WORD || b->kind == MATH_WORD || a->kind == MATH_DATE ||
        b->kind == MATH_DATE || a->kind == MATH_CLOCK || b->kind == MATH_CLOCK ||
        a->kind == MATH_REL || b->kind == MATH_REL)
        return undecided(r, "they are of different kinds");
    return different(r, "they are of different kinds");
}

/* Text that is the same but for room and what only sets it has one meaning, readable or not. */
static bool same_text(struct pd_str a, struct pd_str b)
{
    return pd_str_eq(pd_str_trim(a), pd_str_trim(b));
}

void pd_math_compare(struct pd_str answer, struct pd_str expect, struct pd_math_result *out)
{
    struct math_node *a, *b, *clock;
    struct math m;

    *out = (struct pd_math_result){0};
    answer = pd_str_trim(answer);
    expect = pd_str_trim(expect);
    if (!answer.len || !expect.len) {
        undecided(out, "there is no answer");
        return;
    }
    if (same_text(answer, expect)) {
        equal(out, "they are the same text");
        return;
    }
    if (answer.len > MATH_TEXT_MAX || expect.len > MATH_TEXT_MAX) {
        undecided(out, "an answer is longer than 4,096 bytes");
        return;
    }
    math_init(&m);
    a = math_read(&m, answer);
    b = math_read(&m, expect);
    /* 15:30 is a ratio, unless the other is a time of day */
    if (a && b && (a->kind == MATH_CLOCK) != (b->kind == MATH_CLOCK) &&
        (clock = math_read_clock(&m, a->kind == MATH_CLOCK ? expect : answer, false)))
        *(a->kind == MATH_CLOCK ? &b : &a) = clock;
    if (!a || !b)
        undecided(out, m.rc == PD_ENOMEM ? "out of memory" : "one of them is too long to be read");
    else
        compare(&m, a, b, out);
    math_done(&m);
}

const char *pd_math_verdict_name(enum pd_math_verdict v)
{
    static const char *const names[] = {"undecided", "equal", "different"};

    return names[v];
}

/* ---- keys ---------------------------------------------------------------------------------- */

static bool put_key(struct math *m, const struct math_node *e, struct pd_buf *out);

static int by_text(const void *a, const void *b)
{
    const char *const *x = a, *const *y = b;

    return strcmp(*x, *y);
}

/* Elements of a set in the order of their keys, each once. */
static bool put_sorted(struct math *m, const struct math_node *e, struct pd_buf *out)
{
    char **keys = math_array(m, e->n + 1, sizeof *keys);

    for (size_t i = 0; keys && i < e->n; i++) {
        struct pd_buf b = PD_BUF_INIT(MATH_TEXT_MAX);
        bool ok = put_key(m, e->kids[i], &b) && (keys[i] = math_text(m, pd_buf_str(&b)));

        pd_buf_done(&b);
        if (!ok)
            return false;
    }
    if (!keys)
        return false;
    qsort(keys, e->n, sizeof *keys, by_text);
    pd_buf_addc(out, '{');
    for (size_t i = 0, put = 0; i < e->n; i++)
        if (!i || strcmp(keys[i - 1], keys[i]) != 0)
            pd_buf_printf(out, "%s%s", put++ ? "," : "", keys[i]);
    pd_buf_addc(out, '}');
    return pd_buf_rc(out) == 0;
}

static bool put_in_order(struct math *m, const struct math_node *e, struct pd_buf *out)
{
    for (size_t i = 0; i < e->n; i++) {
        if (i)
            pd_buf_addc(out, ',');
        if (!put_key(m, e->kids[i], out))
            return false;
    }
    return true;
}

static bool put_key(struct math *m, const struct math_node *e, struct pd_buf *out)
{
    const struct math_exact *x;

    if (!math_spend(m, 1))
        return false;
    if (is_infinite(e))
        return pd_buf_addz(out, e->kind == MATH_INF ? "inf" : "-inf") == 0;
    if (is_expression(e))
        return !(e->kind == MATH_NUM && e->about) && (x = math_exact(m, e)) &&
               math_exact_print(m, x, out);
    switch (e->kind) {
    case MATH_LIST:
        return !is_range(e) && put_sorted(m, e, out);
    case MATH_SET:
        return put_sorted(m, e, out);
    case MATH_TUPLE:
        pd_buf_addc(out, e->open);
        if (!put_in_order(m, e, out))
            return false;
        pd_buf_addc(out, e->close);
        return pd_buf_rc(out) == 0;
    case MATH_MATRIX:
        pd_buf_printf(out, "matrix %zu:", e->rows);
        return put_in_order(m, e, out);
    case MATH_QTY: /* the unit is not part of the key: most answers leave it out */
        return put_key(m, e->kids[0], out);
    default:
        return false;
    }
}

int pd_math_key(struct pd_str answer, struct pd_buf *out)
{
    struct pd_buf key = PD_BUF_INIT(MATH_TEXT_MAX);
    struct math_node *e;
    struct math m;
    int rc = PD_ENOENT;

    if (answer.len > MATH_TEXT_MAX)
        return rc;
    math_init(&m);
    e = math_read(&m, answer);
    if (e && put_key(&m, e, &key))
        rc = pd_buf_adds(out, pd_buf_str(&key));
    if (m.rc == PD_ENOMEM)
        rc = PD_ENOMEM;
    pd_buf_done(&key);
    math_done(&m);
    return rc;
}
