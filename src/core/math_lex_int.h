/* Answers in pieces: numbers without the marks between thousands, letters, commands of LaTeX and
 * signs. What only sets them (\left, \,, $) is gone, text commands are opened. */
#ifndef PD_CORE_MATH_LEX_INT_H
#define PD_CORE_MATH_LEX_INT_H

#include "core/math_int.h"

#define TOKENS_MAX 1024

enum tok_type {
    TOK_END,
    TOK_NUMBER,  /* s: digits, a point, an exponent of ten */
    TOK_LETTERS, /* s: a run of them */
    TOK_TEXT,    /* s: a word of a \text{…} */
    TOK_COMMAND, /* s: its name */
    TOK_SIGN,    /* c: an ASCII character, or one of these */
    TOK_BEGIN,   /* s: the environment */
    TOK_FINISH,
};
enum {
    SIGN_LE = 256,
    SIGN_GE,
    SIGN_NE,
    SIGN_ABOUT,
    SIGN_UNION,
    SIGN_CUT,
    SIGN_LESS,
    SIGN_IN,
    SIGN_PM,
    SIGN_MP,
    SIGN_DEGREE,
    SIGN_INF,
    SIGN_REALS,
    SIGN_EMPTY,
    SIGN_SET,
    SIGN_SET_END,
    SIGN_EURO,
    SIGN_POUND,
    SIGN_CENT,
    SIGN_RAISED = 512, /* and the character that is raised */
};
struct tok {
    enum tok_type type;
    struct pd_str s;
    int c;
    bool space;  /* there is room before it */
    bool raised; /* a number of raised digits */
};

/* Ended by TOK_END; NULL: too many, or no memory. */
const struct tok *math_lex(struct math *m, struct pd_str s, size_t *out_n);

#endif
