/* Values of answers, with proven bounds: every number is an interval whose ends are rounded
 * outwards (MPFR). Intervals that do not meet prove a difference; those that meet at every point
 * though they are tiny count as equal. */
#include <mpfr.h>
#include <stdio.h>

#include "base/hash.h"
#include "base/rng.h"
#include "core/math_int.h"

#define PRECISION  384 /* bits */
#define LARGE_BITS 200 /* beyond 2^this sine and cosine, which need as many bits of pi, give up */
#define AGREE_BITS                                                                                 \
    100 /* values that meet count as equal when they are known to this, absolutely and             \
           relatively */
#define POINTS     12
#define POINTS_MIN 4 /* defined ones that prove anything */
#define VARS_MAX   16
#define EVAL_FUEL  20 /* an operation in so many bits is so much dearer */

struct iv {
    mpfr_t lo, hi;
};

/* Variables and their values at a point. */
struct point {
    struct pd_str names[VARS_MAX];
    size_t n;
    uint32_t number;
};

static void iv_init(struct iv *x)
{
    mpfr_init2(x->lo, PRECISION);
    mpfr_init2(x->hi, PRECISION);
}

static void iv_done(struct iv *x)
{
    mpfr_clear(x->lo);
    mpfr_clear(x->hi);
}

static enum math_eval settle(const struct iv *x)
{
    if (mpfr_nan_p(x->lo) || mpfr_nan_p(x->hi))
        return MATH_EVAL_UNDEFINED;
    return mpfr_inf_p(x->lo) || mpfr_inf_p(x->hi) ? MATH_EVAL_UNKNOWN : MATH_EVAL_OK;
}

static bool has_zero(const struct iv *x)
{
    return mpfr_sgn(x->lo) <= 0 && mpfr_sgn(x->hi) >= 0;
}

static void iv_rational(struct iv *x, mpq_srcptr q)
{
    mpfr_set_q(x->lo, q, MPFR_RNDD);
    mpfr_set_q(x->hi, q, MPFR_RNDU);
}

static void iv_neg(struct iv *x)
{
    mpfr_swap(x->lo, x->hi);
    mpfr_neg(x->lo, x->lo, MPFR_RNDD);
    mpfr_neg(x->hi, x->hi, MPFR_RNDU);
}

static void iv_add(struct iv *x, const struct iv *y)
{
    mpfr_add(x->lo, x->lo, y->lo, MPFR_RNDD);
    mpfr_add(x->hi, x->hi, y->hi, MPFR_RNDU);
}

typedef int (*fn_binary)(mpfr_ptr, mpfr_srcptr, mpfr_srcptr, mpfr_rnd_t);
typedef int (*fn_unary)(mpfr_ptr, mpfr_srcptr, mpfr_rnd_t);

/* x op y of an operation whose extremes lie at the ends: product, quotient by what is not 0. */
static void iv_corners(struct iv *x, const struct iv *y, fn_binary op)
{
    struct iv r;
    mpfr_t t;

    iv_init(&r);
    mpfr_init2(t, PRECISION);
    for (int i = 0; i < 4; i++) {
        mpfr_srcptr a = i & 1 ? x->hi : x->lo, b = i & 2 ? y->hi : y->lo;

        op(t, a, b, MPFR_RNDD);
        if (i == 0 || mpfr_nan_p(t) || mpfr_less_p(t, r.lo))
            mpfr_set(r.lo, t, MPFR_RNDD);
        op(t, a, b, MPFR_RNDU);
        if (i == 0 || mpfr_nan_p(t) || mpfr_greater_p(t, r.hi))
            mpfr_set(r.hi, t, MPFR_RNDU);
    }
    mpfr_swap(x->lo, r.lo);
    mpfr_swap(x->hi, r.hi);
    mpfr_clear(t);
    iv_done(&r);
}

static void iv_rising(struct iv *x, fn_unary f)
{
    f(x->lo, x->lo, MPFR_RNDD);
    f(x->hi, x->hi, MPFR_RNDU);
}

static enum math_eval iv_inverse(struct iv *x)
{
    if (has_zero(x))
        return mpfr_zero_p(x->lo) && mpfr_zero_p(x->hi) ? MATH_EVAL_UNDEFINED : MATH_EVAL_UNKNOWN;
    mpfr_swap(x->lo, x->hi);
    mpfr_ui_div(x->lo, 1, x->lo, MPFR_RNDD);
    mpfr_ui_div(x->hi, 1, x->hi, MPFR_RNDU);
    return settle(x);
}

static void iv_abs(struct iv *x)
{
    if (mpfr_sgn(x->hi) < 0) {
        iv_neg(x);
    } else if (mpfr_sgn(x->lo) < 0) {
        mpfr_neg(x->lo, x->lo, MPFR_RNDU);
        mpfr_max(x->hi, x->lo, x->hi, MPFR_RNDU);
        mpfr_set_zero(x->lo, 1);
    }
}

/* f has slope 1 at most and lies in [-1, 1]: sine, cosine. */
static enum math_eval iv_wave(struct iv *x, fn_unary f)
{
    mpfr_t width;

    if ((mpfr_regular_p(x->lo) && mpfr_get_exp(x->lo) > LARGE_BITS) ||
        (mpfr_regular_p(x->hi) && mpfr_get_exp(x->hi) > LARGE_BITS))
        return MATH_EVAL_UNKNOWN;
    mpfr_init2(width, PRECISION);
    mpfr_sub(width, x->hi, x->lo, MPFR_RNDU);
    f(x->hi, x->lo, MPFR_RNDU);
    f(x->lo, x->lo, MPFR_RNDD);
    mpfr_add(x->hi, x->hi, width, MPFR_RNDU);
    mpfr_sub(x->lo, x->lo, width, MPFR_RNDD);
    if (mpfr_cmp_si(x->hi, 1) > 0)
        mpfr_set_si(x->hi, 1, MPFR_RNDU);
    if (mpfr_cmp_si(x->lo, -1) < 0)
        mpfr_set_si(x->lo, -1, MPFR_RNDD);
    mpfr_clear(width);
    return MATH_EVAL_OK;
}

static enum math_eval iv_ln(struct iv *x)
{
    if (mpfr_sgn(x->hi) <= 0)
        return MATH_EVAL_UNDEFINED;
    if (mpfr_sgn(x->lo) <= 0)
        return MATH_EVAL_UNKNOWN;
    iv_rising(x, mpfr_log);
    return settle(x);
}

/* ---- powers -------------------------------------------------------------------------------- */

static enum math_eval whole_power(struct iv *x, long k)
{
    bool inverse = k < 0, even = k % 2 == 0;
    unsigned long n = inverse ? 0ul - (unsigned long)k : (unsigned long)k;

    if (even)
        iv_abs(x); /* from where on it rises */
    mpfr_pow_ui(x->lo, x->lo, n, MPFR_RNDD);
    mpfr_pow_ui(x->hi, x->hi, n, MPFR_RNDU);
    return inverse ? iv_inverse(x) : settle(x);
}

/* x^(p/q), q > 1 */
static enum math_eval root_power(struct iv *x, long p, unsigned long q, bool real)
{
    bool odd = q % 2 && real;

    if (!odd && mpfr_sgn(x->hi) < 0)
        return MATH_EVAL_UNDEFINED;
    if (!odd && mpfr_sgn(x->lo) < 0)
        return MATH_EVAL_UNKNOWN;
    mpfr_rootn_ui(x->lo, x->lo, q, MPFR_RNDD);
    mpfr_rootn_ui(x->hi, x->hi, q, MPFR_RNDU);
    return whole_power(x, p);
}

static enum math_eval eval(struct math *m, const struct math_node *e, const struct point *p,
                           struct iv *x);

static enum math_eval power(struct math *m, const struct math_node *e, const struct point *p,
                            struct iv *x)
{
    const struct math_exact *form = math_exact(m, e->kids[1]);
    mpq_srcptr q = form ? math_exact_number(m, form) : NULL;
    enum math_eval rc = eval(m, e->kids[0], p, x);
    struct iv y;

    if (rc != MATH_EVAL_OK)
        return rc;
    if (q && mpz_fits_slong_p(mpq_numref(q)) && mpz_fits_ulong_p(mpq_denref(q)) &&
        mpz_cmpabs_ui(mpq_numref(q), 1u << 30) < 0) {
        if (mpz_cmp_ui(mpq_denref(q), 1) == 0)
            return whole_power(x, mpz_get_si(mpq_numref(q)));
        return root_power(x, mpz_get_si(mpq_numref(q)), mpz_get_ui(mpq_denref(q)), e->real);
    }
    iv_init(&y);
    rc = eval(m, e->kids[1], p, &y);
    if (rc == MATH_EVAL_OK)
        rc = iv_ln(x);
    if (rc == MATH_EVAL_OK) {
        iv_corners(x, &y, mpfr_mul);
        iv_rising(x, mpfr_exp);
        rc = settle(x);
    }
    iv_done(&y);
    return rc;
}

/* ---- functions ----------------------------------------------------------------------------- */

/* Of [-1, 1]; what lies around it by rounding alone is let in. */
static enum math_eval inverse_wave(struct iv *x, fn_unary f, bool falling)
{
    if (mpfr_cmp_si(x->lo, 1) > 0 || mpfr_cmp_si(x->hi, -1) < 0)
        return MATH_EVAL_UNDEFINED;
    if (mpfr_cmp_si(x->hi, 1) > 0)
        mpfr_set_si(x->hi, 1, MPFR_RNDU);
    if (mpfr_cmp_si(x->lo, -1) < 0)
        mpfr_set_si(x->lo, -1, MPFR_RNDD);
    if (falling)
        mpfr_swap(x->lo, x->hi);
    iv_rising(x, f);
    return MATH_EVAL_OK;
}

/* a / b of waves: tangent and cotangent; a NULL: 1 / b. */
static enum math_eval wave_quotient(struct iv *x, fn_unary a, fn_unary b)
{
    struct iv y;
    enum math_eval rc;

    iv_init(&y);
    mpfr_set(y.lo, x->lo, MPFR_RNDD);
    mpfr_set(y.hi, x->hi, MPFR_RNDU);
    rc = iv_wave(&y, b);
    if (rc == MATH_EVAL_OK && has_zero(&y))
        rc = MATH_EVAL_UNKNOWN;
    if (rc == MATH_EVAL_OK && a) {
        rc = iv_wave(x, a);
    } else if (!a) {
        mpfr_set_si(x->lo, 1, MPFR_RNDD);
        mpfr_set_si(x->hi, 1, MPFR_RNDU);
    }
    if (rc == MATH_EVAL_OK)
        iv_corners(x, &y, mpfr_div);
    iv_done(&y);
    return rc;
}

static enum math_eval log_to_base(struct math *m, const struct math_node *e, const struct point *p,
                                  struct iv *x)
{
    struct iv y;
    enum math_eval rc;

    iv_init(&y);
    rc = iv_ln(x);
    if (rc == MATH_EVAL_OK)
        rc = eval(m, e->kids[1], p, &y);
    if (rc == MATH_EVAL_OK)
        rc = iv_ln(&y);
    if (rc == MATH_EVAL_OK)
        rc = iv_inverse(&y);
    if (rc == MATH_EVAL_OK)
        iv_corners(x, &y, mpfr_mul);
    iv_done(&y);
    return rc;
}

/* What exact arithmetic says it is: factorials and the like, of natural numbers alone. */
static enum math_eval exact_value(struct math *m, const struct math_node *e, struct iv *x)
{
    const struct math_exact *form = math_exact(m, e);
    mpq_srcptr q = form ? math_exact_number(m, form) : NULL;

    if (!q)
        return MATH_EVAL_UNKNOWN;
    iv_rational(x, q);
    return MATH_EVAL_OK;
}

static enum math_eval function(struct math *m, const struct math_node *e, const struct point *p,
                               struct iv *x)
{
    enum math_eval rc = eval(m, e->kids[0], p, x);

    if (rc != MATH_EVAL_OK)
        return rc;
    switch ((enum math_fn)e->op) {
    case FN_SIN:
        return iv_wave(x, mpfr_sin);
    case FN_COS:
        return iv_wave(x, mpfr_cos);
    case FN_TAN:
        return wave_quotient(x, mpfr_sin, mpfr_cos);
    case FN_COT:
        return wave_quotient(x, mpfr_cos, mpfr_sin);
    case FN_SEC:
        return wave_quotient(x, NULL, mpfr_cos);
    case FN_CSC:
        return wave_quotient(x, NULL, mpfr_sin);
    case FN_ASIN:
        return inverse_wave(x, mpfr_asin, false);
    case FN_ACOS:
        return inverse_wave(x, mpfr_acos, true);
    case FN_ATAN:
        iv_rising(x, mpfr_atan);
        return settle(x);
    case FN_SINH:
        iv_rising(x, mpfr_sinh);
        return settle(x);
    case FN_TANH:
        iv_rising(x, mpfr_tanh);
        return settle(x);
    case FN_COSH:
        iv_abs(x);
        iv_rising(x, mpfr_cosh);
        return settle(x);
    case FN_LN:
        return iv_ln(x);
    case FN_LOG:
        return log_to_base(m, e, p, x);
    case FN_ABS:
        iv_abs(x);
        return MATH_EVAL_OK;
    case FN_FLOOR:
        mpfr_floor(x->lo, x->lo);
        mpfr_floor(x->hi, x->hi);
        return mpfr_equal_p(x->lo, x->hi) ? MATH_EVAL_OK : MATH_EVAL_UNKNOWN;
    case FN_CEIL:
        mpfr_ceil(x->lo, x->lo);
        mpfr_ceil(x->hi, x->hi);
        return mpfr_equal_p(x->lo, x->hi) ? MATH_EVAL_OK : MATH_EVAL_UNKNOWN;
    case FN_FACTORIAL:
    case FN_BINOMIAL:
        return exact_value(m, e, x);
    }
    return MATH_EVAL_UNKNOWN;
}

/* ---- expressions --------------------------------------------------------------------------- */

/* The variable's value at the point: a fraction of small terms, drawn anew for each point. The
 * first points are positive, where roots and logarithms are defined. */
static void variable(struct pd_str name, const struct point *p, struct iv *x)
{
    double u = pd_rng_uniform(pd_hash64(name.ptr, name.len), p->number, 0);
    double v = p->number < 5 ? 0.2 + 3 * u : p->number < 9 ? 6 * u - 3 : 3 + 30 * u;

    mpfr_set_si(x->lo, (long)(v * 1024), MPFR_RNDD);
    mpfr_div_2ui(x->lo, x->lo, 10, MPFR_RNDD);
    mpfr_set(x->hi, x->lo, MPFR_RNDU);
}

static enum math_eval two(struct math *m, const struct math_node *e, const struct point *p,
                          struct iv *x)
{
    enum math_eval rc = eval(m, e->kids[0], p, x);
    struct iv y;

    if (rc != MATH_EVAL_OK)
        return rc;
    iv_init(&y);
    rc = eval(m, e->kids[1], p, &y);
    if (rc == MATH_EVAL_OK && e->kind == MATH_DIV)
        rc = iv_inverse(&y);
    if (rc == MATH_EVAL_OK && e->kind == MATH_ADD)
        iv_add(x, &y);
    else if (rc == MATH_EVAL_OK)
        iv_corners(x, &y, mpfr_mul);
    iv_done(&y);
    return rc == MATH_EVAL_OK ? settle(x) : rc;
}

/* x = the value of e at p. */
static enum math_eval eval(struct math *m, const struct math_node *e, const struct point *p,
                           struct iv *x)
{
    enum math_eval rc;

    if (!math_spend(m, EVAL_FUEL))
        return MATH_EVAL_UNKNOWN;
    switch (e->kind) {
    case MATH_NUM:
        iv_rational(x, e->num);
        return MATH_EVAL_OK;
    case MATH_VAR:
        variable(e->name, p, x);
        return MATH_EVAL_OK;
    case MATH_PI:
        mpfr_const_pi(x->lo, MPFR_RNDD);
        mpfr_const_pi(x->hi, MPFR_RNDU);
        return MATH_EVAL_OK;
    case MATH_E:
        mpfr_set_si(x->lo, 1, MPFR_RNDD);
        mpfr_set_si(x->hi, 1, MPFR_RNDU);
        iv_rising(x, mpfr_exp);
        return MATH_EVAL_OK;
    case MATH_NEG:
        rc = eval(m, e->kids[0], p, x);
        iv_neg(x);
        return rc;
    case MATH_ADD:
    case MATH_MUL:
    case MATH_DIV:
        return two(m, e, p, x);
    case MATH_POW:
        return power(m, e, p, x);
    case MATH_FN:
        return function(m, e, p, x);
    default:
        return MATH_EVAL_UNKNOWN;
    }
}

static bool find_variables(const struct math_node *e, struct point *p)
{
    size_t i = 0;

    if (e->kind == MATH_VAR) {
        while (i < p->n && !pd_str_eq(p->names[i], e->name))
            i++;
        if (i == VARS_MAX)
            return false;
        p->names[i] = e->name;
        p->n += i == p->n;
    }
    for (i = 0; i < e->n; i++)
        if (!find_variables(e->kids[i], p))
            return false;
    return true;
}

/* ---- comparing ----------------------------------------------------------------------------- */

/* Lets numbers be as large as MPFR can have them, on this thread. */
static void widen(void)
{
    mpfr_set_emax(mpfr_get_emax_max());
    mpfr_set_emin(mpfr_get_emin_min());
}

enum meeting { APART, CLOSE, RELATIVELY, TOGETHER };

/* d = x - y: apart, for certain; or tiny around 0, or tiny beside x and y; or neither. */
static enum meeting meet(const struct iv *x, const struct iv *y, struct iv *d)
{
    enum meeting how = CLOSE;
    mpfr_t width, size;

    mpfr_sub(d->lo, x->lo, y->hi, MPFR_RNDD);
    mpfr_sub(d->hi, x->hi, y->lo, MPFR_RNDU);
    if (!has_zero(d))
        return APART;
    mpfr_init2(width, PRECISION);
    mpfr_init2(size, PRECISION);
    mpfr_sub(width, d->hi, d->lo, MPFR_RNDU);
    mpfr_max(size, x->hi, y->hi, MPFR_RNDU); /* size = max |x|, |y| */
    mpfr_abs(size, size, MPFR_RNDU);
    if (mpfr_cmpabs(x->lo, size) > 0)
        mpfr_abs(size, x->lo, MPFR_RNDU);
    mpfr_mul_2ui(width, width, AGREE_BITS, MPFR_RNDU);
    if (mpfr_lessequal_p(width, size) || mpfr_cmp_ui_2exp(size, 1, -2 * AGREE_BITS) <= 0)
        how = mpfr_cmp_ui(width, 1) <= 0 ? TOGETHER : RELATIVELY;
    mpfr_clear(width);
    mpfr_clear(size);
    return how;
}

static void say_apart(char *reason, size_t size, const struct point *p, const struct iv *x,
                      const struct iv *y)
{
    struct iv at;
    double value;

    if (!p->n) {
        snprintf(reason, size, "their values differ: %.9g and %.9g", mpfr_get_d(x->lo, MPFR_RNDN),
                 mpfr_get_d(y->lo, MPFR_RNDN));
        return;
    }
    iv_init(&at);
    variable(p->names[0], p, &at);
    value = mpfr_get_d(at.lo, MPFR_RNDN);
    iv_done(&at);
    snprintf(reason, size, "their values differ at %.20s = %.9g%s: %.9g and %.9g", p->names[0].ptr,
             value, p->n > 1 ? ", …" : "", mpfr_get_d(x->lo, MPFR_RNDN),
             mpfr_get_d(y->lo, MPFR_RNDN));
}

enum pd_math_verdict math_eval_compare(struct math *m, const struct math_node *a,
                                       const struct math_node *b, char *reason, size_t size)
{
    enum pd_math_verdict v = PD_MATH_UNDECIDED;
    struct point p = {.n = 0};
    uint32_t points, agree = 0, half = 0, close = 0, large = 0;
    struct iv x, y, d;

    if (!find_variables(a, &p) || !find_variables(b, &p)) {
        snprintf(reason, size, "there are more than %d variables", VARS_MAX);
        return v;
    }
    widen();
    iv_init(&x);
    iv_init(&y);
    iv_init(&d);
    points = p.n ? POINTS : 1;
    for (p.number = 0; p.number < points && v != PD_MATH_DIFFERENT; p.number++) {
        enum math_eval rx = eval(m, a, &p, &x), ry = eval(m, b, &p, &y);
        enum meeting how = CLOSE;

        if (rx == MATH_EVAL_OK && ry == MATH_EVAL_OK) {
            how = meet(&x, &y, &d);
            agree += how == TOGETHER;
            close += how == CLOSE;
            large += how == RELATIVELY; /* proves nothing, at a point where both are large */
        } else {
            half += rx != ry && rx != MATH_EVAL_UNKNOWN && ry != MATH_EVAL_UNKNOWN;
        }
        if (how == APART) {
            v = PD_MATH_DIFFERENT;
            say_apart(reason, size, &p, &x, &y);
        }
    }
    if (v == PD_MATH_DIFFERENT)
        ;
    else if (m->rc)
        snprintf(reason, size, "they take too long to evaluate");
    else if (half)
        snprintf(reason, size, "there are values for which only one of them is defined");
    else if (close || (large && agree < (p.n ? POINTS_MIN : 1)))
        snprintf(reason, size, "their values are too close to tell");
    else if (agree < (p.n ? POINTS_MIN : 1))
        snprintf(reason, size, "they cannot be evaluated");
    else
        v = PD_MATH_EQUAL;
    if (v == PD_MATH_EQUAL && p.n)
        snprintf(reason, size, "their values agree to %d bits at %u points", AGREE_BITS,
                 (unsigned)agree);
    else if (v == PD_MATH_EQUAL)
        snprintf(reason, size, "their values agree to %d bits", AGREE_BITS);
    iv_done(&x);
    iv_done(&y);
    iv_done(&d);
    mpfr_free_cache2(MPFR_FREE_LOCAL_CACHE); /* of this thread, which may end */
    return v;
}

int math_order(struct math *m, const struct math_node *a, const struct math_node *b)
{
    const struct math_exact *x = math_exact(m, a), *y = math_exact(m, b);
    struct point p = {.n = 0};
    struct iv u, v, d;
    int order = 2;

    if (x && y && math_exact_compare(m, x, y) == PD_MATH_EQUAL)
        return 0;
    if (!find_variables(a, &p) || !find_variables(b, &p) || p.n)
        return 2;
    widen();
    iv_init(&u);
    iv_init(&v);
    iv_init(&d);
    if (eval(m, a, &p, &u) == MATH_EVAL_OK && eval(m, b, &p, &v) == MATH_EVAL_OK)
        switch (meet(&u, &v, &d)) {
        case APART:
            order = mpfr_sgn(d.lo) > 0 ? 1 : -1;
            break;
        case TOGETHER:
            order = 0;
            break;
        case CLOSE:
        case RELATIVELY:
            break;
        }
    iv_done(&u);
    iv_done(&v);
    iv_done(&d);
    mpfr_free_cache2(MPFR_FREE_LOCAL_CACHE);
    return order;
}

int math_rounds_to(struct math *m, const struct math_node *e, mpq_srcptr q, int places)
{
    struct point p = {.n = 0};
    struct iv x, y;
    int yes = -1;

    if (!find_variables(e, &p) || p.n)
        return -1;
    iv_init(&x);
    iv_init(&y);
    if (eval(m, e, &p, &x) == MATH_EVAL_OK) { /* |e - q| * 2 * 10^places against 1 */
        iv_rational(&y, q);
        iv_neg(&y);
        iv_add(&x, &y);
        iv_abs(&x);
        mpfr_ui_pow_ui(y.hi, 10, (unsigned long)places, MPFR_RNDU);
        mpfr_ui_pow_ui(y.lo, 10, (unsigned long)places, MPFR_RNDD);
        iv_corners(&x, &y, mpfr_mul);
        mpfr_mul_2ui(x.lo, x.lo, 1, MPFR_RNDD);
        mpfr_mul_2ui(x.hi, x.hi, 1, MPFR_RNDU);
        yes = mpfr_cmp_ui(x.hi, 1) <= 0 ? 1 : mpfr_cmp_ui(x.lo, 1) > 0 ? 0 : -1;
    }
    iv_done(&x);
    iv_done(&y);
    mpfr_free_cache2(MPFR_FREE_LOCAL_CACHE);
    return yes;
}
