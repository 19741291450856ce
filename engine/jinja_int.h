/* The inside of the template interpreter, shared by engine/jinja_*.c. */
#ifndef PD_ENGINE_JINJA_INT_H
#define PD_ENGINE_JINJA_INT_H

#include "base/arena.h"
#include "engine/jinja.h"

/* Templates come with model files from anywhere: each bound keeps a hostile one from more than a
 * second of work and the memory below; the longest real ones have 40 KiB and need 10^5 steps. */
#define JINJA_SOURCE_MAX_BYTES ((size_t)1 << 20)
#define JINJA_MEMORY_MAX_BYTES                                                                     \
    ((size_t)256 << 20)                           /* a message is copied a few times on its way    \
                                                   */
#define JINJA_OUTPUT_MAX_BYTES ((size_t)32 << 20) /* more tokens than any context holds */
#define JINJA_STEPS_MAX        UINT64_C(20000000) /* nodes evaluated, and 64 bytes moved, each */
#define JINJA_NEST_MAX         200u /* of the source; each level takes a few frames of the stack */
#define JINJA_DEPTH_MAX        500u /* of evaluation and of values, the same; below 1 MiB */

/* ---- source -------------------------------------------------------------------------------------
 */

enum jinja_token_kind {
    TOKEN_DATA, /* text outside of tags */
    TOKEN_PRINT,
    TOKEN_PRINT_END,
    TOKEN_BLOCK,
    TOKEN_BLOCK_END,
    TOKEN_NAME,
    TOKEN_STRING, /* with quotes and escapes */
    TOKEN_INT,
    TOKEN_FLOAT,
    TOKEN_OP,
    TOKEN_END,
};

/* An operator's characters as one number, so that it can be a case label. */
#define OP(a)     ((unsigned)(a))
#define OP2(a, b) ((unsigned)(a) | (unsigned)(b) << 8)

struct jinja_token {
    enum jinja_token_kind kind;
    unsigned line;
    unsigned op; /* TOKEN_OP */
    struct pd_str text;
};

/* What a, b, c, d are. A list is linked by next; [] is one that may be empty, ? may be NULL. */
enum jinja_kind {
    /* expressions */
    N_CONST,   /* value */
    N_NAME,    /* name */
    N_LIST,    /* a[] */
    N_TUPLE,   /* a[] */
    N_DICT,    /* a[]: N_PAIR */
    N_PAIR,    /* a: b, of N_DICT; a = b, of N_WITH */
    N_ATTR,    /* a.name */
    N_ITEM,    /* a[b] */
    N_SLICE,   /* a? : b? : c?, within N_ITEM */
    N_CALL,    /* a(b[]) */
    N_KEYWORD, /* name=a, among arguments */
    N_FILTER,  /* a?|name(b[]); a is NULL in a block's chain: its body */
    N_TEST,    /* a is name(b[]) */
    N_NEGATE,
    N_PLUS,
    N_NOT,
    N_BINARY, /* a op b */
    N_AND,
    N_OR,
    N_COMPARE, /* a, then b[]: N_OPERAND */
    N_OPERAND, /* op a; `in` is OP('i'), `not in` OP('n') */
    N_COND,    /* a if b else c? */
    /* statements */
    N_DATA,         /* value */
    N_PRINT,        /* a */
    N_IF,           /* a? (NULL: else), b[] body, c? the next branch */
    N_FOR,          /* for a in b if cond?: body c[], else d[] */
    N_SET,          /* a = b */
    N_SET_BLOCK,    /* a = b?(c[]), b a chain of filters */
    N_FILTER_BLOCK, /* b(c[]) */
    N_WITH,         /* a[]: N_PAIR, body c[] */
    N_MACRO,        /* name(a[]: N_PARAM) body b[] */
    N_PARAM,        /* name=a? */
    N_BREAK,
    N_CONTINUE,
};

struct jinja_node {
    enum jinja_kind kind;
    unsigned line;
    unsigned op;
    struct pd_str name;
    struct jinja_value value;
    struct jinja_node *a, *b, *c, *d, *cond;
    struct jinja_node *next;
};

/* ---- values -------------------------------------------------------------------------------------
 */

struct jinja_list {
    struct jinja_value *items;
    size_t n, cap;
    size_t at;     /* ITERATOR: how many are consumed */
    bool is_range; /* VIEW: can be indexed */
};

struct jinja_pair {
    struct jinja_value key, value;
};
struct jinja_dict { /* in the order of insertion */
    struct jinja_pair *pairs;
    size_t n, cap;
};

struct jinja_binding {
    struct jinja_binding *next;
    struct pd_str name;
    struct jinja_value value;
};
struct jinja_scope {
    struct jinja_scope *parent;
    struct jinja_binding *vars;
};

struct jinja_macro {
    const struct jinja_node *node;
    struct jinja_scope *scope; /* where it was defined */
};

struct jinja_method {
    struct jinja_value of;
    struct pd_str name;
};

struct jinja_keyword {
    struct pd_str name;
    struct jinja_value value;
};
struct jinja_call {
    struct jinja_value *args;
    size_t n_args;
    struct jinja_keyword *keywords;
    size_t n_keywords;
};

struct jinja_builder { /* of a string */
    char *ptr;
    uint8_t *origin;
    size_t len, cap;
};

struct jinja {
    struct pd_arena arena;
    struct pd_str source;
    uint8_t *zeros; /* [n_zeros], the origin of all that the template says itself */
    size_t n_zeros;
    struct jinja_node *body;
    struct jinja_scope globals;
    uint64_t steps;
    unsigned depth; /* of evaluation, of values */
    unsigned line;  /* where evaluation is, for errors */
    int rc;         /* the first failure */
    struct pd_err err;
};

/* Records the first failure with its line; returns its code. */
int jinja_fail(struct jinja *j, enum pd_code code, const char *fmt, ...)
    __attribute__((format(printf, 3, 4), cold));
int jinja_no_memory(struct jinja *j);
void *jinja_alloc(struct jinja *j, size_t n, size_t elem_bytes); /* zeroed; NULL: has failed */
int jinja_step(struct jinja *j, size_t n_bytes);                 /* pays for work */
int jinja_enter(struct jinja *j); /* one level deeper; on success jinja_leave follows */
void jinja_leave(struct jinja *j);

/* For messages: at most 40 bytes of a name. */
#define JINJA_NAME(s) (int)((s).len < 40 ? (s).len : 40), (s).ptr

/* jinja_parse.c */
int jinja_lex(struct jinja *j, struct jinja_token **out);
int jinja_parse(struct jinja *j, const struct jinja_token *tokens);

/* jinja_value.c */
static inline struct jinja_value jinja_undefined(struct pd_str name)
{
    return (struct jinja_value){.type = JINJA_UNDEFINED, .name = name};
}
static inline struct jinja_value jinja_none(void)
{
    return (struct jinja_value){.type = JINJA_NONE};
}
static inline struct jinja_value jinja_int(int64_t v)
{
    return (struct jinja_value){.type = JINJA_INT, .integer = v};
}
static inline struct jinja_value jinja_float(double v)
{
    return (struct jinja_value){.type = JINJA_FLOAT, .real = v};
}
static inline struct jinja_value jinja_of_text(struct jinja_text t)
{
    return (struct jinja_value){.type = JINJA_STRING, .text = t};
}
static inline struct pd_str jinja_str(struct jinja_text t)
{
    return (struct pd_str){t.ptr, t.len};
}
struct jinja_text jinja_own(struct jinja *j, struct pd_str s); /* s lives as long as j */
struct jinja_text jinja_sub(struct jinja_text t, size_t from, size_t to);
void jinja_addt(struct jinja *j, struct jinja_builder *b, struct jinja_text t);
void jinja_adds(struct jinja *j, struct jinja_builder *b, struct pd_str s);
static inline struct jinja_text jinja_built(const struct jinja_builder *b)
{
    return (struct jinja_text){b->len > 0 ? b->ptr : "", b->origin, b->len, false};
}
int jinja_dict_put(struct jinja *j, struct jinja_dict *d, struct jinja_value key,
                   struct jinja_value value);
/* 1: found, 0: not, negative: failed */
int jinja_dict_get(struct jinja *j, const struct jinja_dict *d, struct jinja_value key,
                   struct jinja_value *out);
const char *jinja_type_name(const struct jinja_value *v);
bool jinja_truth(const struct jinja_value *v);
bool jinja_is_number(const struct jinja_value *v); /* bool, int, float */
double jinja_as_double(const struct jinja_value *v);
int jinja_equal(struct jinja *j, const struct jinja_value *a, const struct jinja_value *b,
                bool *out);
/* *out < 0, 0, > 0; of numbers, strings, lists */
int jinja_order(struct jinja *j, const struct jinja_value *a, const struct jinja_value *b,
                int *out);
int jinja_contains(struct jinja *j, const struct jinja_value *in, const struct jinja_value *what,
                   bool *out);
int jinja_to_text(struct jinja *j, const struct jinja_value *v, struct jinja_text *out); /* str() */
/* What iterating gives; an iterator is consumed. */
int jinja_items(struct jinja *j, const struct jinja_value *v, const struct jinja_value **out_items,
                size_t *out_n);
int jinja_length(struct jinja *j, const struct jinja_value *v, size_t *out); /* len() */
struct jinja_json_style {
    bool ascii, sort_keys, pretty;
    struct jinja_text indent, item_end, key_end;
};
int jinja_json(struct jinja *j, const struct jinja_value *v, const struct jinja_json_style *style,
               struct jinja_text *out);
int jinja_new_list(struct jinja *j, enum jinja_type type, size_t n, struct jinja_value *out);

/* jinja_text.c: strings as Python has them */
size_t jinja_char(struct pd_str s, size_t at, uint32_t *out_cp); /* bytes of the character there */
size_t jinja_n_chars(struct pd_str s);
bool jinja_is_space(uint32_t cp);
enum jinja_side { JINJA_LEFT = 1, JINJA_RIGHT = 2, JINJA_BOTH = 3 };
/* chars NULL: white space */
struct jinja_text jinja_strip(struct jinja_text t, const struct pd_str *chars,
                              enum jinja_side side);
enum jinja_case { JINJA_UPPER, JINJA_LOWER, JINJA_CAPITALIZE, JINJA_TITLE, JINJA_TITLE_WORDS };
int jinja_case(struct jinja *j, struct jinja_text t, enum jinja_case how, struct jinja_text *out);
int jinja_replace(struct jinja *j, struct jinja_text t, struct jinja_text from,
                  struct jinja_text to, int64_t count, struct jinja_text *out);
/* For HTML; a safe text is escaped already. */
int jinja_escape(struct jinja *j, struct jinja_text t, struct jinja_text *out);
int jinja_lines(struct jinja *j, struct jinja_text t, struct jinja_value *out);
/* The method of a string, list, dict or view; PD_ENOENT (nothing recorded): it has none. */
bool jinja_has_method(const struct jinja_value *v, struct pd_str name);
int jinja_call_method(struct jinja *j, const struct jinja_method *m, const struct jinja_call *call,
                      struct jinja_value *out);

/* jinja_filter.c */
int jinja_filter(struct jinja *j, struct pd_str name, struct jinja_value in,
                 const struct jinja_call *call, struct jinja_value *out);
int jinja_test(struct jinja *j, struct pd_str name, const struct jinja_value *v,
               const struct jinja_call *call, bool *out);
/* Arguments by position or name into out[]; an absent one is undefined without a name. names ends
 * with NULL; the first n_needed must be there. */
int jinja_bind(struct jinja *j, const char *what, const struct jinja_call *call,
               const char *const *names, size_t n_needed, struct jinja_value *out);
static inline bool jinja_absent(const struct jinja_value *v)
{
    return v->type == JINJA_UNDEFINED && !v->name.ptr;
}

/* jinja_eval.c */
int jinja_get_attr(struct jinja *j, const struct jinja_value *of, struct pd_str name,
                   struct jinja_value *out);
int jinja_get_item(struct jinja *j, const struct jinja_value *of, const struct jinja_value *key,
                   struct jinja_value *out);

#endif
