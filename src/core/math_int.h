/* What the files of math.h share: the form that answers are read into, exact arithmetic on it, and
 * evaluation in intervals. Everything lives in one arena, GMP's numbers too: their limbs are copied
 * there, so that nothing of them has to be freed. */
#ifndef PD_CORE_MATH_INT_H
#define PD_CORE_MATH_INT_H

#include <gmp.h>

#include "base/arena.h"
#include "base/err.h"
#include "core/math.h"

#define MATH_TEXT_MAX  4096   /* bytes of an answer */
#define MATH_BITS_MAX  8192   /* of a numerator or denominator: 2,400 digits */
#define MATH_DEPTH_MAX 64     /* brackets within brackets */
#define MATH_ITEMS_MAX 256    /* of a list, set or matrix */
#define MATH_FUEL      100000 /* products of terms, evaluations of nodes, … in one comparison */

enum math_kind {
    MATH_NUM, /* num; places, about */
    MATH_VAR, /* name */
    MATH_PI,
    MATH_E,
    MATH_I,
    MATH_INF,
    MATH_ADD, /* kids[0] + kids[1] */
    MATH_MUL,
    MATH_DIV,
    MATH_NEG,    /* kids[0] */
    MATH_POW,    /* kids[0] ^ kids[1]; real: the real root of a negative number */
    MATH_PM,     /* kids[0] ± kids[1]; op '-': the other sign of the two first */
    MATH_FN,     /* op: enum math_fn, of kids */
    MATH_QTY,    /* kids[0] of unit */
    MATH_LIST,   /* a, b: in any order */
    MATH_SET,    /* {a, b} */
    MATH_TUPLE,  /* open a, b close: a point, a vector or an interval */
    MATH_JOIN,   /* sets: kids[0] op kids[1], op one of | & \ */
    MATH_MATRIX, /* rows × n / rows */
    MATH_REL,    /* kids[0] op kids[1]: = < > l g ! (≤ ≥ ≠) */
    MATH_NAMED,  /* name = kids[0]; an interval that name is in: its bounds */
    MATH_WORD,   /* name, folded */
    MATH_CHOICE, /* op: its letter */
    MATH_DATE,   /* date: year (0: none), month, day (0: none) */
    MATH_CLOCK,  /* date[0]: minutes after midnight */
    MATH_TEXT,   /* name, folded: what could not be read */
};

enum math_fn {
    FN_SIN,
    FN_COS,
    FN_TAN,
    FN_COT,
    FN_SEC,
    FN_CSC,
    FN_ASIN,
    FN_ACOS,
    FN_ATAN,
    FN_SINH,
    FN_COSH,
    FN_TANH,
    FN_LN,
    FN_LOG, /* kids[1]: the base */
    FN_ABS,
    FN_FLOOR,
    FN_CEIL,
    FN_FACTORIAL,
    FN_BINOMIAL,
};

/* factor in units of length m, mass kg, time s, temperature, money, and months; words: a noun that
 * is no known unit. */
#define MATH_DIMS 6
struct math_unit {
    signed char dim[MATH_DIMS];
    bool scale;            /* a number by another name: percent, degrees */
    bool degrees;          /* factor is to be taken times pi */
    bool scaled_otherwise; /* degrees of temperature: zero is elsewhere in each */
    mpq_srcptr factor;
    struct pd_str words;
};

struct math_node {
    enum math_kind kind;
    int op;
    char open, close; /* of a tuple */
    bool real;        /* of a power */
    bool about;       /* of a number: "0.333…" */
    int places;       /* of a number: digits after the point; -1: none */
    mpq_srcptr num;
    struct pd_str name; /* NUL-terminated */
    const struct math_unit *unit;
    int date[3];
    struct math_node **kids;
    size_t n, rows;
};

struct math {
    struct pd_arena arena;
    mpq_t tmp[3]; /* scratch of the exact arithmetic */
    long fuel;
    int rc; /* 0, PD_ENOMEM, or PD_ELIMIT: given up */
};

/* Zeroed memory that lives as long as m does, a copy, a copy as a C string; NULL, and m->rc says
 * why: without memory, or once something else has failed. */
void *math_array(struct math *m, size_t n, size_t bytes);
void *math_dup(struct math *m, const void *from, size_t bytes);
char *math_text(struct math *m, struct pd_str s);
/* A new node; NULL as above. */
struct math_node *math_node(struct math *m, enum math_kind kind, size_t n_kids);
struct math_node *math_node2(struct math *m, enum math_kind kind, struct math_node *a,
                             struct math_node *b);
struct math_node *math_num(struct math *m, mpq_srcptr q);
struct math_node *math_integer(struct math *m, long i);
/* q in the arena; NULL: too large, or no memory. */
mpq_srcptr math_keep(struct math *m, mpq_srcptr q);
/* Takes n off what is left to be spent; false: there is no more. */
bool math_spend(struct math *m, long n);

/* math_read.c. NULL only without memory: what is no mathematics is a word or MATH_TEXT. */
struct math_node *math_read(struct math *m, struct pd_str text);
/* math_word.c: reads of whole answers; NULL: it is none. text: plain. */
struct math_node *math_read_date(struct math *m, struct pd_str plain);
struct math_node *math_read_clock(struct math *m, struct pd_str plain, bool half_days_only);
struct math_node *math_read_choice(struct math *m, struct pd_str plain);
struct math_node *math_read_number_word(struct math *m, struct pd_str folded);
/* Letters in one case, no punctuation, one space between words, articles left out. */
struct pd_str math_fold(struct math *m, struct pd_str plain);

/* math_unit.c. A unit by its name or symbol, NULL: none is known by it. */
const struct math_unit *math_unit_find(struct math *m, struct pd_str name);
const struct math_unit *math_unit_power(struct math *m, const struct math_unit *u, int k);
const struct math_unit *math_unit_mul(struct math *m, const struct math_unit *a,
                                      const struct math_unit *b, int sign);

/* math_exact.c: quotients of polynomials over the rationals in variables, pi, e, i, roots of primes
 * and what else stands for itself. */
struct math_exact;
/* NULL: it has no such form, or a too large one. */
const struct math_exact *math_exact(struct math *m, const struct math_node *e);
enum pd_math_verdict math_exact_compare(struct math *m, const struct math_exact *a,
                                        const struct math_exact *b);
/* Whether they are multiples of each other by a number; out_sign: its sign. */
bool math_exact_proportional(struct math *m, const struct math_exact *a, const struct math_exact *b,
                             int *out_sign);
mpq_srcptr math_exact_number(struct math *m, const struct math_exact *a); /* NULL: none */
bool math_exact_print(struct math *m, const struct math_exact *a, struct pd_buf *out);

/* math_eval.c */
enum math_eval {
    MATH_EVAL_OK,
    MATH_EVAL_UNDEFINED, /* no real value */
    MATH_EVAL_UNKNOWN,   /* too large, or nothing that is evaluated */
};
/* Order of two numbers without variables: -1, 0, 1; 2: not known. 0 is not proven. */
int math_order(struct math *m, const struct math_node *a, const struct math_node *b);
/* By values at several points of the variables. */
enum pd_math_verdict math_eval_compare(struct math *m, const struct math_node *a,
                                       const struct math_node *b, char *reason, size_t size);
/* Whether number e rounds to q with this many places; -1: not known. */
int math_rounds_to(struct math *m, const struct math_node *e, mpq_srcptr q, int places);

#endif
