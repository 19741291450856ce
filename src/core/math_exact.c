/* Exact arithmetic on answers. A number or expression is a quotient of two polynomials: sums of
 * terms c · Π aᵢ^eᵢ, c and eᵢ rational, over atoms aᵢ: variables, pi, e, i, primes (their roots: 0
 * < eᵢ < 1) and what else stands for itself, such as sin(x).
 *
 * Roots of different primes are linearly independent over the rationals (Besicovitch 1940), so are
 * different powers of pi, or of e, over the algebraic numbers: as long as nothing stands for itself
 * and pi and e do not meet, two forms are equal only when their terms are. Else a difference of
 * forms proves nothing, and values must tell. */
#include <stdlib.h>

#include "core/math_int.h"

#define TERMS_MAX     256 /* of a polynomial */
#define FACTORS_MAX   16  /* of a term */
#define POWER_MAX     64  /* a sum with a larger exponent stands for itself */
#define EXPONENT_MAX  1000000000
#define TRIAL_MAX     65536 /* the largest divisor that is tried: of what is left nothing is known */
#define ROOT_FUEL     500   /* what looking for divisors costs */
#define FACTORIAL_MAX 500

enum atom_kind { ATOM_I, ATOM_PRIME, ATOM_E, ATOM_PI, ATOM_VAR, ATOM_OTHER };

struct factor {
    enum atom_kind atom;
    uint64_t prime;
    struct pd_str name; /* of a variable; the printed form of what stands for itself */
    int64_t num, den;   /* the exponent, reduced, den > 0 */
};
struct term {
    mpq_srcptr c;
    size_t n;
    struct factor *f; /* in order of atoms */
};
struct poly {
    size_t n;
    struct term *t; /* in descending order; no zeros, none twice */
};
struct math_exact {
    struct poly num, den; /* den is not 0 */
};

/* ---- numbers ------------------------------------------------------------------------------- */

static size_t bits_of(mpq_srcptr q)
{
    return mpz_sizeinbase(mpq_numref(q), 2) + mpz_sizeinbase(mpq_denref(q), 2);
}

static bool q_is(mpq_srcptr q, long i)
{
    return mpz_cmp_si(mpq_numref(q), i) == 0 && mpz_cmp_si(mpq_denref(q), 1) == 0;
}

static bool is_integer(mpq_srcptr q)
{
    return mpz_cmp_si(mpq_denref(q), 1) == 0;
}

static mpq_srcptr q_long(struct math *m, long i)
{
    mpq_set_si(m->tmp[0], i, 1);
    return math_keep(m, m->tmp[0]);
}

/* NULL when one of the numbers is: so several can be worked out before one looks. Products and sums
 * of two numbers within MATH_BITS_MAX have no more than twice as many bits:
 * math_keep refuses what is too long. */
static mpq_srcptr q_mul(struct math *m, mpq_srcptr a, mpq_srcptr b)
{
    if (!a || !b)
        return NULL;
    mpq_mul(m->tmp[0], a, b);
    return math_keep(m, m->tmp[0]);
}

static mpq_srcptr q_add(struct math *m, mpq_srcptr a, mpq_srcptr b)
{
    if (!a || !b)
        return NULL;
    mpq_add(m->tmp[0], a, b);
    return math_keep(m, m->tmp[0]);
}

static mpq_srcptr q_div(struct math *m, mpq_srcptr a, mpq_srcptr b)
{
    if (!a || !b || mpq_sgn(b) == 0)
        return NULL;
    mpq_div(m->tmp[0], a, b);
    return math_keep(m, m->tmp[0]);
}

/* q^k; NULL: too large, or 0 to a negative power. */
static mpq_srcptr q_power(struct math *m, mpq_srcptr q, int64_t k)
{
    uint64_t n = k < 0 ? (uint64_t)-k : (uint64_t)k;

    if (mpq_sgn(q) == 0)
        return k < 0 ? NULL : q_long(m, k == 0);
    if (!q_is(q, 1) && !q_is(q, -1) && n > MATH_BITS_MAX / (bits_of(q) - 1))
        return NULL;
    if (q_is(q, -1) || q_is(q, 1))
        n &= 1;
    mpz_pow_ui(mpq_numref(m->tmp[0]), mpq_numref(q), n);
    mpz_pow_ui(mpq_denref(m->tmp[0]), mpq_denref(q), n);
    if (k < 0)
        mpq_inv(m->tmp[0], m->tmp[0]);
    return math_keep(m, m->tmp[0]);
}

/* ---- exponents ----------------------------------------------------------------------------- */

static int64_t gcd64(int64_t a, int64_t b)
{
    while (b) {
        int64_t t = a % b;

        a = b;
        b = t;
    }
    return a < 0 ? -a : a;
}

/* e = n / d, reduced; false: it does not fit. */
static bool set_exponent(struct factor *f, int64_t n, int64_t d)
{
    int64_t g = gcd64(n, d);

    f->num = n / g;
    f->den = d / g;
    return llabs(f->num) <= EXPONENT_MAX && f->den <= EXPONENT_MAX;
}

static bool add_exponents(struct factor *out, const struct factor *b)
{
    return set_exponent(out, out->num * b->den + b->num * out->den, out->den * b->den);
}

static int64_t floor_div(int64_t n, int64_t d)
{
    return n / d - (n % d < 0);
}

/* ---- terms --------------------------------------------------------------------------------- */

static int order_atoms(const struct factor *a, const struct factor *b)
{
    size_t n = a->name.len < b->name.len ? a->name.len : b->name.len;
    int c;

    if (a->atom != b->atom)
        return a->atom > b->atom ? 1 : -1;
    if (a->atom == ATOM_PRIME)
        return (a->prime > b->prime) - (a->prime < b->prime);
    c = n ? memcmp(a->name.ptr, b->name.ptr, n) : 0;
    return c ? c : (a->name.len > b->name.len) - (a->name.len < b->name.len);
}

/* Terms with variables before those without, as one writes them: the last atoms count first. */
static int order_terms(const struct term *a, const struct term *b)
{
    size_t i = a->n, j = b->n;

    while (i && j) {
        const struct factor *x = &a->f[i - 1], *y = &b->f[j - 1];
        int c = order_atoms(x, y);

        if (c)
            return c > 0 ? -1 : 1;
        if (x->num * y->den != y->num * x->den)
            return x->num * y->den > y->num * x->den ? -1 : 1;
        i--;
        j--;
    }
    return i ? -1 : j ? 1 : 0;
}

static int by_order(const void *a, const void *b)
{
    return order_terms(a, b);
}

/* Whole powers of primes and even ones of i belong to the number; atoms with exponent 0 go. */
static bool settle(struct math *m, struct term *t)
{
    size_t n = 0;

    for (size_t i = 0; i < t->n; i++) {
        struct factor f = t->f[i];
        int64_t whole = floor_div(f.num, f.den);

        if (f.atom == ATOM_PRIME && whole) {
            mpq_set_ui(m->tmp[1], f.prime, 1);
            t->c = q_mul(m, t->c, q_power(m, m->tmp[1], whole));
            f.num -= whole * f.den;
        } else if (f.atom == ATOM_I) { /* its exponents are whole */
            int64_t left = ((f.num % 4) + 4) % 4;

            if (left >= 2)
                t->c = q_mul(m, t->c, q_long(m, -1));
            f.num = left % 2;
        }
        if (!t->c)
            return false;
        if (f.num)
            t->f[n++] = f;
    }
    t->n = n;
    return true;
}

static bool term_mul(struct math *m, const struct term *a, const struct term *b, struct term *out)
{
    size_t i = 0, j = 0;

    out->c = q_mul(m, a->c, b->c);
    out->n = 0;
    out->f = math_array(m, a->n + b->n + 1, sizeof *out->f);
    if (!out->c || !out->f)
        return false;
    while (i < a->n || j < b->n) {
        int c = i == a->n ? 1 : j == b->n ? -1 : order_atoms(&a->f[i], &b->f[j]);
        struct factor f = c <= 0 ? a->f[i] : b->f[j];

        if (c == 0 && !add_exponents(&f, &b->f[j]))
            return false;
        i += c <= 0;
        j += c >= 0;
        out->f[out->n++] = f;
    }
    return settle(m, out) && out->n <= FACTORS_MAX;
}

/* ---- polynomials --------------------------------------------------------------------------- */

/* Sorts n terms and adds up those that differ in nothing but their number. */
static bool gather(struct math *m, struct term *t, size_t n, struct poly *out)
{
    size_t kept = 0;

    qsort(t, n, sizeof *t, by_order);
    for (size_t i = 0; i < n; i++) {
        if (kept && order_terms(&t[kept - 1], &t[i]) == 0) {
            t[kept - 1].c = q_add(m, t[kept - 1].c, t[i].c);
            if (!t[kept - 1].c)
                return false;
        } else {
            t[kept++] = t[i];
        }
        if (mpq_sgn(t[kept - 1].c) == 0)
            kept--;
    }
    *out = (struct poly){kept, t};
    return kept <= TERMS_MAX;
}

static bool poly_mul(struct math *m, const struct poly *a, const struct poly *b, struct poly *out)
{
    struct term *t;
    size_t n = 0;

    if (!math_spend(m, (long)(a->n * b->n)))
        return false;
    t = math_array(m, a->n * b->n + 1, sizeof *t);
    if (!t)
        return false;
    for (size_t i = 0; i < a->n; i++)
        for (size_t j = 0; j < b->n; j++)
            if (!term_mul(m, &a->t[i], &b->t[j], &t[n++]))
                return false;
    return gather(m, t, n, out);
}

/* a + sign * b */
static bool poly_add(struct math *m, const struct poly *a, const struct poly *b, long sign,
                     struct poly *out)
{
    struct term *t = math_array(m, a->n + b->n + 1, sizeof *t);

    if (!t || !math_spend(m, (long)(a->n + b->n)))
        return false;
    for (size_t i = 0; i < a->n; i++)
        t[i] = a->t[i];
    for (size_t i = 0; i < b->n; i++) {
        t[a->n + i] = b->t[i];
        if (sign < 0 && !(t[a->n + i].c = q_mul(m, b->t[i].c, q_long(m, -1))))
            return false;
    }
    return gather(m, t, a->n + b->n, out);
}

static bool poly_equal(const struct poly *a, const struct poly *b)
{
    for (size_t i = 0; i < a->n && a->n == b->n; i++)
        if (order_terms(&a->t[i], &b->t[i]) != 0 || mpq_equal(a->t[i].c, b->t[i].c) == 0)
            return false;
    return a->n == b->n;
}

static bool poly_one(struct math *m, struct poly *out)
{
    struct term *t = math_array(m, 1, sizeof *t);

    if (!t || !(t->c = q_long(m, 1)))
        return false;
    *out = (struct poly){1, t};
    return true;
}

/* The number that p is, NULL: it is none. 0 is the empty sum. */
static mpq_srcptr poly_number(struct math *m, const struct poly *p)
{
    if (p->n == 0)
        return q_long(m, 0);
    return p->n == 1 && p->t[0].n == 0 ? p->t[0].c : NULL;
}

/* ---- quotients ----------------------------------------------------------------------------- */

/* 1 / t, a term that is not 0. */
static bool term_inverse(struct math *m, const struct term *t, struct poly *out)
{
    struct term *r = math_array(m, 1, sizeof *r), one = {q_long(m, 1), 0, NULL}, back;

    if (!r || !one.c)
        return false;
    back = (struct term){q_div(m, one.c, t->c), t->n, math_array(m, t->n + 1, sizeof *t->f)};
    if (!back.c || !back.f)
        return false;
    for (size_t i = 0; i < t->n; i++) {
        back.f[i] = t->f[i];
        back.f[i].num = -back.f[i].num;
    }
    if (!term_mul(m, &back, &one, r))
        return false;
    *out = (struct poly){1, r};
    return true;
}

/* Whether this atom is in p, and in no other power than this one. */
static bool only_so(const struct poly *p, const struct factor *root)
{
    for (size_t i = 0; i < p->n; i++)
        for (size_t k = 0; k < p->t[i].n; k++)
            if (order_atoms(&p->t[i].f[k], root) == 0 && p->t[i].f[k].den != root->den)
                return false;
    return true;
}

/* A square root or i in p, by which a quotient can be made free of it. */
static const struct factor *find_square_root(const struct poly *p)
{
    for (size_t i = 0; i < p->n; i++)
        for (size_t k = 0; k < p->t[i].n; k++) {
            const struct factor *f = &p->t[i].f[k];

            if (f->atom == ATOM_I || (f->atom == ATOM_PRIME && f->den == 2 && only_so(p, f)))
                return f;
        }
    return NULL;
}

/* p with the other sign of this root. */
static bool conjugate(struct math *m, const struct poly *p, const struct factor *root,
                      struct poly *out)
{
    out->n = p->n;
    out->t = math_dup(m, p->t, p->n * sizeof *p->t);
    if (!out->t)
        return false;
    for (size_t i = 0; i < p->n; i++)
        for (size_t k = 0; k < p->t[i].n; k++)
            if (order_atoms(&p->t[i].f[k], root) == 0 &&
                !(out->t[i].c = q_mul(m, p->t[i].c, q_long(m, -1))))
                return false;
    return true;
}

/* One form of each quotient, as far as it goes: no square roots below, a single term goes up, the
 * first number below is 1. Common factors of longer polynomials stay. */
static const struct math_exact *reduce(struct math *m, struct poly num, struct poly den)
{
    struct math_exact *x = math_array(m, 1, sizeof *x);
    const struct factor *root;
    struct poly other;

    if (!x || den.n == 0)
        return NULL;
    while (den.n > 1 && (root = find_square_root(&den)))
        if (!conjugate(m, &den, root, &other) || !poly_mul(m, &num, &other, &num) ||
            !poly_mul(m, &den, &other, &den))
            return NULL;
    if (den.n == 1) {
        if (!term_inverse(m, &den.t[0], &other) || !poly_mul(m, &num, &other, &num) ||
            !poly_one(m, &den))
            return NULL;
    } else {
        struct term lead = {den.t[0].c, 0, NULL};

        if (!term_inverse(m, &lead, &other) || !poly_mul(m, &num, &other, &num) ||
            !poly_mul(m, &den, &other, &den))
            return NULL;
        if (poly_equal(&num, &den) && (!poly_one(m, &num) || !poly_one(m, &den)))
            return NULL;
    }
    if (num.n == 0 && !poly_one(m, &den))
        return NULL;
    *x = (struct math_exact){num, den};
    return x;
}

static const struct math_exact *of_number(struct math *m, mpq_srcptr q)
{
    struct math_exact *x = math_array(m, 1, sizeof *x);

    if (!x || !q || !poly_one(m, &x->num) || !poly_one(m, &x->den))
        return NULL;
    x->num.t[0].c = q;
    x->num.n = mpq_sgn(q) != 0;
    return x;
}

static const struct math_exact *of_atom(struct math *m, struct factor f)
{
    struct math_exact *x = math_array(m, 1, sizeof *x);

    if (!x || !poly_one(m, &x->num) || !poly_one(m, &x->den))
        return NULL;
    x->num.t[0].n = 1;
    x->num.t[0].f = math_dup(m, &f, sizeof f);
    return x->num.t[0].f && settle(m, &x->num.t[0]) ? x : NULL;
}

mpq_srcptr math_exact_number(struct math *m, const struct math_exact *x)
{
    return poly_number(m, &x->den) ? poly_number(m, &x->num) : NULL; /* reduced: below is 1 */
}

static const struct math_exact *add(struct math *m, const struct math_exact *a,
                                    const struct math_exact *b, long sign)
{
    struct poly x, y, num, den = a->den;

    if (poly_equal(&a->den, &b->den))
        return poly_add(m, &a->num, &b->num, sign, &num) ? reduce(m, num, den) : NULL;
    if (!poly_mul(m, &a->num, &b->den, &x) || !poly_mul(m, &b->num, &a->den, &y) ||
        !poly_add(m, &x, &y, sign, &num) || !poly_mul(m, &a->den, &b->den, &den))
        return NULL;
    return reduce(m, num, den);
}

static const struct math_exact *mul(struct math *m, const struct math_exact *a,
                                    const struct math_exact *b)
{
    struct poly num, den;

    return poly_mul(m, &a->num, &b->num, &num) && poly_mul(m, &a->den, &b->den, &den)
               ? reduce(m, num, den)
               : NULL;
}

static const struct math_exact *inverse(struct math *m, const struct math_exact *a)
{
    return a->num.n ? reduce(m, a->den, a->num) : NULL;
}

/* ---- what stands for itself ---------------------------------------------------------------- */

static bool put(struct pd_buf *b, struct math *m, const struct math_exact *x)
{
    return x && math_exact_print(m, x, b);
}

/* NAME(a, b) as an atom; b may be NULL. */
static const struct math_exact *stands_for_itself(struct math *m, const char *name,
                                                  const struct math_exact *a,
                                                  const struct math_exact *b)
{
    struct pd_buf text = PD_BUF_INIT(MATH_TEXT_MAX);
    const struct math_exact *x = NULL;
    char *z = NULL;

    pd_buf_printf(&text, "%s(", name);
    if (put(&text, m, a) && (!b || (pd_buf_addz(&text, ",") == 0 && put(&text, m, b))) &&
        pd_buf_addz(&text, ")") == 0)
        z = math_dup(m, text.data, text.len + 1);
    if (z)
        x = of_atom(m,
                    (struct factor){.atom = ATOM_OTHER, .name = {z, text.len}, .num = 1, .den = 1});
    pd_buf_done(&text);
    return x;
}

/* ---- powers -------------------------------------------------------------------------------- */

static const struct math_exact *whole_power(struct math *m, const struct math_exact *a, int64_t k)
{
    const struct math_exact *r = of_number(m, q_long(m, 1));

    if (k < 0)
        return (a = inverse(m, a)) ? whole_power(m, a, -k) : NULL;
    if (a->num.n == 0)
        return k ? a : r;
    if (a->num.n == 1 && a->den.n == 1) { /* one term, below it 1 */
        struct math_exact *x = math_dup(m, a, sizeof *a);
        struct term *t = math_dup(m, a->num.t, sizeof *t);

        if (!x || !t || !(t->c = q_power(m, t->c, k)))
            return NULL;
        if (t->n && !(t->f = math_dup(m, t->f, t->n * sizeof *t->f)))
            return NULL;
        for (size_t i = 0; i < t->n; i++)
            if (k > EXPONENT_MAX || !set_exponent(&t->f[i], t->f[i].num * k, t->f[i].den))
                return NULL;
        x->num.t = t;
        return settle(m, t) ? x : NULL;
    }
    if (k > POWER_MAX)
        return NULL;
    for (; r && k; k >>= 1) {
        if (k & 1)
            r = mul(m, r, a);
        if (k > 1 && !(a = mul(m, a, a)))
            return NULL;
    }
    return r;
}

/* Multiplies x by u^(p/q), u > 0: by roots of its primes. */
static const struct math_exact *times_root(struct math *m, const struct math_exact *x, uint64_t u,
                                           int64_t p, int64_t q)
{
    for (uint64_t d = 2; u > 1 && x; d += d == 2 ? 1 : 2) {
        int64_t k = 0;
        struct factor f = {.atom = ATOM_PRIME};
        const struct math_exact *y;

        if (d > TRIAL_MAX) {
            if (u / TRIAL_MAX > TRIAL_MAX)
                return NULL; /* perhaps no prime */
            d = u;
        } else if (d * d > u) {
            d = u;
        }
        while (u % d == 0) {
            u /= d;
            k++;
        }
        if (!k)
            continue;
        f.prime = d;
        if (!set_exponent(&f, k * p, q))
            return NULL;
        y = of_atom(m, f);
        x = y ? mul(m, x, y) : NULL;
    }
    return math_spend(m, ROOT_FUEL) ? x : NULL;
}

/* t^(p/q), q > 1, p and q without a common factor; NULL: it is not among the forms. real: odd roots
 * of negative numbers are real ones. */
static const struct math_exact *term_root(struct math *m, const struct term *t, int64_t p,
                                          int64_t q, bool real)
{
    bool positive = mpq_sgn(t->c) > 0;
    const struct math_exact *x = of_number(m, q_long(m, 1)), *y;
    size_t unsure = 0;

    for (size_t i = 0; i < t->n; i++) {
        const struct factor *f = &t->f[i];

        if (f->atom == ATOM_I)
            return NULL;
        /* (x²)^½ is not x: the root of a power of what may be negative is that of its exponent
         * only when this lies in (0, 1], and when nothing else may be negative */
        if (f->atom >= ATOM_VAR && (++unsure > 1 || !positive || f->num <= 0 || f->num > f->den))
            return NULL;
    }
    if (mpz_cmpabs_ui(mpq_numref(t->c), UINT64_MAX) > 0 ||
        mpz_cmp_ui(mpq_denref(t->c), UINT64_MAX) > 0)
        return NULL;
    if (!positive) { /* 1 or -1, or i to some power */
        if (q == 2)
            y = of_atom(m, (struct factor){.atom = ATOM_I, .num = p, .den = 1});
        else if (q % 2 && real)
            y = of_number(m, q_long(m, p % 2 ? -1 : 1));
        else
            y = NULL;
        x = x && y ? mul(m, x, y) : NULL;
    }
    if (x)
        x = times_root(m, x, mpz_get_ui(mpq_numref(t->c)), p, q);
    if (x)
        x = times_root(m, x, mpz_get_ui(mpq_denref(t->c)), -p, q);
    for (size_t i = 0; i < t->n && x; i++) {
        struct factor f = t->f[i];

        if (!set_exponent(&f, f.num * p, f.den * q))
            return NULL;
        y = of_atom(m, f);
        x = y ? mul(m, x, y) : NULL;
    }
    return x;
}

static const struct math_exact *power(struct math *m, const struct math_exact *a,
                                      const struct math_exact *b, bool real)
{
    mpq_srcptr e = math_exact_number(m, b);
    const struct math_exact *x = NULL;
    int64_t p, q;

    if (e && mpz_fits_slong_p(mpq_numref(e)) && mpz_cmp_ui(mpq_denref(e), 1000) <= 0) {
        p = mpz_get_si(mpq_numref(e));
        q = mpz_get_si(mpq_denref(e));
        if (a->num.n == 0) /* 0^0 is 1, as everywhere in polynomials */
            return p < 0 ? NULL : p == 0 ? of_number(m, q_long(m, 1)) : a;
        if (llabs(p) > EXPONENT_MAX)
            return NULL;
        if (q == 1)
            x = whole_power(m, a, p);
        else if (a->num.n == 1 && a->den.n == 1)
            x = term_root(m, &a->num.t[0], p, q, real);
        if (x || m->rc)
            return x;
    }
    if (a->num.n == 0)
        return NULL;
    if (a->num.n == 1 && q_is(a->num.t[0].c, 1) && a->num.t[0].n == 0 && a->den.n == 1)
        return a; /* 1 to any power */
    return stands_for_itself(m, real ? "root" : "power", a, b);
}

/* ---- functions ----------------------------------------------------------------------------- */

static const char *const fn_names[] = {
    [FN_SIN] = "sin",
    [FN_COS] = "cos",
    [FN_TAN] = "tan",
    [FN_COT] = "cot",
    [FN_SEC] = "sec",
    [FN_CSC] = "csc",
    [FN_ASIN] = "asin",
    [FN_ACOS] = "acos",
    [FN_ATAN] = "atan",
    [FN_SINH] = "sinh",
    [FN_COSH] = "cosh",
    [FN_TANH] = "tanh",
    [FN_LN] = "ln",
    [FN_LOG] = "log",
    [FN_ABS] = "abs",
    [FN_FLOOR] = "floor",
    [FN_CEIL] = "ceil",
    [FN_FACTORIAL] = "factorial",
    [FN_BINOMIAL] = "binomial",
};

static bool small_natural(mpq_srcptr q)
{
    return q && is_integer(q) && mpq_sgn(q) >= 0 && mpz_cmp_ui(mpq_numref(q), FACTORIAL_MAX) <= 0;
}

/* What a function of a rational number is, NULL: it stands for itself. */
static mpq_srcptr function_number(struct math *m, enum math_fn fn, mpq_srcptr a, mpq_srcptr b)
{
    mpz_ptr z = mpq_numref(m->tmp[0]);

    mpq_set_ui(m->tmp[0], 0, 1);
    if (fn == FN_ABS)
        mpq_abs(m->tmp[0], a);
    else if (fn == FN_FLOOR)
        mpz_fdiv_q(z, mpq_numref(a), mpq_denref(a));
    else if (fn == FN_CEIL)
        mpz_cdiv_q(z, mpq_numref(a), mpq_denref(a));
    else if (fn == FN_FACTORIAL && small_natural(a))
        mpz_fac_ui(z, mpz_get_ui(mpq_numref(a)));
    else if (fn == FN_BINOMIAL && small_natural(a) && small_natural(b))
        mpz_bin_uiui(z, mpz_get_ui(mpq_numref(a)), mpz_get_ui(mpq_numref(b)));
    else
        return NULL;
    return math_keep(m, m->tmp[0]);
}

static const struct math_exact *function(struct math *m, const struct math_node *e)
{
    const struct math_exact *a = math_exact(m, e->kids[0]),
                            *b = e->n > 1 ? math_exact(m, e->kids[1]) : NULL;
    mpq_srcptr p = a ? math_exact_number(m, a) : NULL, q = b ? math_exact_number(m, b) : NULL;

    if (!a || (e->n > 1 && !b))
        return NULL;
    q = p && (e->n == 1 || q) ? function_number(m, (enum math_fn)e->op, p, q) : NULL;
    return q ? of_number(m, q) : stands_for_itself(m, fn_names[e->op], a, b);
}

const struct math_exact *math_exact(struct math *m, const struct math_node *e)
{
    const struct math_exact *a = NULL, *b = NULL;
    struct factor f = {.name = e->name, .num = 1, .den = 1};

    if (!math_spend(m, 1))
        return NULL;
    switch (e->kind) {
    case MATH_NUM:
        return of_number(m, e->num);
    case MATH_VAR:
        f.atom = ATOM_VAR;
        return of_atom(m, f);
    case MATH_PI:
        f.atom = ATOM_PI;
        return of_atom(m, f);
    case MATH_E:
        f.atom = ATOM_E;
        return of_atom(m, f);
    case MATH_I:
        f.atom = ATOM_I;
        return of_atom(m, f);
    case MATH_FN:
        return function(m, e);
    case MATH_NEG:
        a = math_exact(m, e->kids[0]);
        b = of_number(m, q_long(m, -1));
        return a && b ? mul(m, a, b) : NULL;
    case MATH_ADD:
    case MATH_MUL:
    case MATH_DIV:
    case MATH_POW:
        break;
    default:
        return NULL;
    }
    if (!(a = math_exact(m, e->kids[0])) || !(b = math_exact(m, e->kids[1])))
        return NULL;
    switch (e->kind) {
    case MATH_ADD:
        return add(m, a, b, 1);
    case MATH_DIV:
        return (b = inverse(m, b)) ? mul(m, a, b) : NULL;
    case MATH_POW:
        return power(m, a, b, e->real);
    default:
        return mul(m, a, b);
    }
}

/* ---- comparing ----------------------------------------------------------------------------- */

/* Whether a difference of forms is one of values. */
static bool proves(const struct poly *p, bool *pi, bool *e)
{
    for (size_t i = 0; i < p->n; i++)
        for (size_t k = 0; k < p->t[i].n; k++) {
            const struct factor *f = &p->t[i].f[k];

            *pi |= f->atom == ATOM_PI;
            *e |= f->atom == ATOM_E;
            if (f->atom == ATOM_OTHER)
                return false;
        }
    return !(*pi && *e);
}

enum pd_math_verdict math_exact_compare(struct math *m, const struct math_exact *a,
                                        const struct math_exact *b)
{
    struct poly x, y;
    bool pi = false, e = false;

    if (!poly_mul(m, &a->num, &b->den, &x) || !poly_mul(m, &b->num, &a->den, &y))
        return PD_MATH_UNDECIDED;
    if (poly_equal(&x, &y))
        return PD_MATH_EQUAL;
    return proves(&x, &pi, &e) && proves(&y, &pi, &e) ? PD_MATH_DIFFERENT : PD_MATH_UNDECIDED;
}

bool math_exact_proportional(struct math *m, const struct math_exact *a, const struct math_exact *b,
                             int *out_sign)
{
    struct poly x, y;
    mpq_srcptr k;

    if (!a->num.n || !b->num.n || !poly_mul(m, &a->num, &b->den, &x) ||
        !poly_mul(m, &b->num, &a->den, &y) || x.n != y.n || !(k = q_div(m, x.t[0].c, y.t[0].c)))
        return false;
    for (size_t i = 0; i < x.n; i++) {
        mpq_srcptr c = q_mul(m, y.t[i].c, k);

        if (!c || order_terms(&x.t[i], &y.t[i]) != 0 || !mpq_equal(x.t[i].c, c))
            return false;
    }
    *out_sign = mpq_sgn(k);
    return true;
}

/* ---- printing ------------------------------------------------------------------------------ */

static void print_number(struct pd_buf *out, mpq_srcptr q)
{
    char *z = malloc(mpz_sizeinbase(mpq_numref(q), 10) + mpz_sizeinbase(mpq_denref(q), 10) + 3);

    if (z)
        pd_buf_addz(out, mpq_get_str(z, 10, q));
    else
        out->rc = PD_ENOMEM;
    free(z);
}

static void print_factor(struct pd_buf *out, const struct factor *f)
{
    if (f->atom == ATOM_PRIME)
        pd_buf_printf(out, "%llu", (unsigned long long)f->prime);
    else if (f->atom >= ATOM_VAR)
        pd_buf_adds(out, f->name);
    else
        pd_buf_addz(out, f->atom == ATOM_I ? "i" : f->atom == ATOM_E ? "e" : "pi");
    if (f->den != 1)
        pd_buf_printf(out, "^(%lld/%lld)", (long long)f->num, (long long)f->den);
    else if (f->num != 1)
        pd_buf_printf(out, "^%lld", (long long)f->num);
}

static void print_poly(struct pd_buf *out, const struct poly *p)
{
    if (p->n == 0)
        pd_buf_addc(out, '0');
    for (size_t i = 0; i < p->n; i++) {
        const struct term *t = &p->t[i];

        if (i && mpq_sgn(t->c) > 0)
            pd_buf_addc(out, '+');
        if (t->n && q_is(t->c, -1))
            pd_buf_addc(out, '-');
        else if (!t->n || !q_is(t->c, 1))
            print_number(out, t->c);
        for (size_t k = 0; k < t->n; k++) {
            if (k || !(q_is(t->c, 1) || q_is(t->c, -1)))
                pd_buf_addc(out, '*');
            print_factor(out, &t->f[k]);
        }
    }
}

bool math_exact_print(struct math *m, const struct math_exact *x, struct pd_buf *out)
{
    mpq_srcptr below = poly_number(m, &x->den);

    if (below) { /* 1 */
        print_poly(out, &x->num);
        return pd_buf_rc(out) == 0;
    }
    pd_buf_addc(out, '(');
    print_poly(out, &x->num);
    pd_buf_addz(out, ")/(");
    print_poly(out, &x->den);
    pd_buf_addc(out, ')');
    return pd_buf_rc(out) == 0;
}
