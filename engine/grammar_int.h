/* What the files of a grammar share: expressions, which the readers of GBNF, JSON Schema and
 * patterns make, and the automata that they become. */
#ifndef PD_ENGINE_GRAMMAR_INT_H
#define PD_ENGINE_GRAMMAR_INT_H

#include "base/arena.h"
#include "engine/grammar.h"

/* ---- expressions -------------------------------------------------------------------------------
 */

#define GRAMMAR_NO_END UINT32_MAX

enum grammar_op {
    GRAMMAR_EMPTY,
    GRAMMAR_BYTES,  /* one byte from lo to hi */
    GRAMMAR_CAT,    /* all of sub */
    GRAMMAR_ALT,    /* one of sub; of none: nothing fits */
    GRAMMAR_REPEAT, /* sub[0], min to max times */
    GRAMMAR_RULE,
    GRAMMAR_JOIN, /* sub[1..] in their order with sub[0] between them; some may be left out */
    GRAMMAR_DFA,
};

struct grammar_expr {
    enum grammar_op op;
    uint8_t lo, hi;
    uint32_t rule, min, max;
    uint32_t n, cap; /* of sub */
    struct grammar_expr **sub;
    bool *optional; /* JOIN: [n] */
    const struct grammar_dfa *dfa;
};

struct grammar_rule {
    const char *name;
    struct grammar_expr *expr; /* NULL: not defined (yet) */
    bool apart;                /* never written out where it is called */
};

#define GRAMMAR_ROOT 1 /* the rule that readers make */

/* Everything that is made while a grammar is read; lives in the arena. When that is full, or memory
 * is, `full` is set and what is made is of no use: one check at the end will do. */
struct grammar_builder {
    struct pd_arena arena;
    struct grammar_rule *rules; /* 0 is the whole text */
    uint32_t n_rules, cap_rules;
    bool full;
    uint64_t work;    /* done so far */
    bool starts[257]; /* bytes at which some range of bytes begins */
};

void grammar_builder_init(struct grammar_builder *b);
void grammar_builder_done(struct grammar_builder *b);
/* Counts what is done; more than a second's worth, and b is full. */
void grammar_work(struct grammar_builder *b, uint64_t n);
int grammar_builder_check(const struct grammar_builder *b, struct pd_err *err);

/* These never return NULL. */
struct grammar_expr *grammar_empty(struct grammar_builder *b);
struct grammar_expr *grammar_bytes(struct grammar_builder *b, uint8_t lo, uint8_t hi);
struct grammar_expr *grammar_literal(struct grammar_builder *b, struct pd_str text);
struct grammar_expr *grammar_list(struct grammar_builder *b, enum grammar_op op); /* CAT, ALT */
void grammar_push(struct grammar_builder *b, struct grammar_expr *list, struct grammar_expr *e);
struct grammar_expr *grammar_cat(struct grammar_builder *b, struct grammar_expr *x,
                                 struct grammar_expr *y);
struct grammar_expr *grammar_alt(struct grammar_builder *b, struct grammar_expr *x,
                                 struct grammar_expr *y);
struct grammar_expr *grammar_repeat(struct grammar_builder *b, struct grammar_expr *e, uint32_t min,
                                    uint32_t max);
struct grammar_expr *grammar_join(struct grammar_builder *b, struct grammar_expr *between);
void grammar_join_add(struct grammar_builder *b, struct grammar_expr *join, struct grammar_expr *e,
                      bool optional);
struct grammar_expr *grammar_of_rule(struct grammar_builder *b, uint32_t rule);
uint32_t grammar_new_rule(struct grammar_builder *b, const char *name);

/* Sets of characters: ascending, disjoint. */
#define GRAMMAR_CHAR_MAX 0x10ffff
struct grammar_range {
    uint32_t lo, hi;
};
struct grammar_chars {
    struct grammar_range *r;
    size_t n, cap;
};
void grammar_chars_add(struct grammar_builder *b, struct grammar_chars *c, uint32_t lo,
                       uint32_t hi);
void grammar_chars_sort(struct grammar_chars *c); /* after adding, before all else */
void grammar_chars_not(struct grammar_builder *b, struct grammar_chars *c);
bool grammar_chars_has(const struct grammar_chars *c, uint32_t cp);
/* One of them in UTF-8; surrogates and NUL are left out. */
struct grammar_expr *grammar_utf8(struct grammar_builder *b, const struct grammar_chars *c);
/* One character of text at *io_at, which is moved behind it; -1: not UTF-8. */
int32_t grammar_next_char(struct pd_str text, size_t *io_at);

/* ---- readers -----------------------------------------------------------------------------------
 */

/* Define GRAMMAR_ROOT. PD_EINVAL says what and where. */
int grammar_read_gbnf(struct grammar_builder *b, struct pd_str text, struct pd_err *err);
int grammar_read_schema(struct grammar_builder *b, struct pd_str text, struct pd_err *err);
/* A regular expression of JSON Schema; one_char makes the expression of a set of characters. What
 * it finds may stand anywhere in a text, but where ^ and $ say so. */
typedef struct grammar_expr *(*grammar_one_char)(struct grammar_builder *b,
                                                 const struct grammar_chars *c);
int grammar_read_pattern(struct grammar_builder *b, struct pd_str pattern,
                         grammar_one_char one_char, struct grammar_expr **out, struct pd_err *err);

/* ---- automata ----------------------------------------------------------------------------------
 */

/* Of expressions without rules: state 0 is dead, 1 the first. */
struct grammar_dfa {
    uint32_t n_states;
    uint32_t (*next)[256];
    bool *accepts;
    bool free; /* its states are of text that is not constrained */
};

#define GRAMMAR_MAX_STATES (1u << 15)

/* In the arena; NULL: more states than GRAMMAR_MAX_STATES, and b is full. */
const struct grammar_dfa *grammar_dfa_new(struct grammar_builder *b, const struct grammar_expr *e);
/* What fits both x and y; negate: x but not y. */
const struct grammar_dfa *grammar_dfa_and(struct grammar_builder *b, const struct grammar_dfa *x,
                                          const struct grammar_dfa *y, bool negate);
struct grammar_expr *grammar_of_dfa(struct grammar_builder *b, const struct grammar_dfa *dfa);
bool grammar_dfa_fits_nothing(const struct grammar_dfa *dfa);
/* Whole numbers, in decimal, that are multiples of `of`. */
const struct grammar_dfa *grammar_dfa_multiple(struct grammar_builder *b, uint32_t of);
/* A text up to the first end of `after`. */
const struct grammar_dfa *grammar_dfa_until(struct grammar_builder *b, struct pd_str after);

struct grammar_call { /* in a state: the rule fits, and on goes in state `to` */
    uint32_t rule, to;
};

/* The automata of all rules, one behind the other. State 0 is dead. From every other state an end
 * can be reached. */
struct grammar_automaton {
    uint32_t n_states, n_rules, n_classes;
    uint8_t class_of[256];
    uint32_t *next;     /* [n_states][n_classes] */
    uint32_t *calls_at; /* [n_states + 1] into calls */
    struct grammar_call *calls;
    uint32_t *rule_of;    /* [n_states] */
    bool *accepts, *free; /* [n_states]; free: grammar_dfa.free */
    uint32_t *first;      /* [n_rules] states */
    bool *nullable;       /* [n_rules] */
    uint32_t *returns_at; /* [n_rules + 1] into returns */
    uint32_t *returns;    /* states behind a call */
};
/* What rule 0 stands for. PD_ELIMIT: too complex; PD_EINVAL: no text fits it. */
int grammar_compile(struct grammar_builder *b, struct grammar_automaton *out, struct pd_err *err);
void grammar_automaton_done(struct grammar_automaton *a);

#endif
