/* Jinja: the subset that chat templates use, as transformers renders it (trim_blocks,
 * lstrip_blocks, sandboxed, Undefined that prints as nothing). docs/design/templates.md lists what
 * is known; what is not is an error with the line and the construct, never other text.
 *
 * Every byte of a string knows where it is from: from the template, or from data that it was given.
 * The origin goes with the bytes through slices, filters and methods into the output.
 *
 * One thread at a time. A template is parsed, given its variables, and rendered; all memory is its
 * own and goes with jinja_free. Steps, output, memory and nesting are bounded. */
#ifndef PD_ENGINE_JINJA_H
#define PD_ENGINE_JINJA_H

#include "base/buf.h"
#include "base/err.h"
#include "base/json.h"

enum jinja_origin { JINJA_TEMPLATE, JINJA_DATA };

struct jinja_text {
    const char *ptr;
    const uint8_t *origin; /* [len], enum jinja_origin */
    size_t len;
    bool safe; /* went through `safe` or `escape`: what is added to it is escaped */
};

enum jinja_type {
    JINJA_UNDEFINED,
    JINJA_NONE,
    JINJA_BOOL,
    JINJA_INT,
    JINJA_FLOAT,
    JINJA_STRING,
    JINJA_LIST,
    JINJA_TUPLE,
    JINJA_DICT,
    JINJA_ITERATOR,  /* what map, select, … return: is consumed, has no length */
    JINJA_VIEW,      /* of a dict's keys, values or items; a range */
    JINJA_NAMESPACE, /* its attributes can be set */
    JINJA_MACRO,
    JINJA_FUNCTION, /* a global */
    JINJA_METHOD,   /* of a string, list or dict, bound to it */
    JINJA_LOOP,     /* the variable `loop` */
};

struct jinja_list;
struct jinja_dict;
struct jinja_macro;
struct jinja_method;
struct jinja_loop;

struct jinja_value {
    enum jinja_type type;
    union {
        bool boolean;
        int64_t integer;
        double real;
        struct jinja_text text;
        struct jinja_list *list; /* LIST TUPLE ITERATOR VIEW */
        struct jinja_dict *dict; /* DICT NAMESPACE */
        const struct jinja_macro *macro;
        const struct jinja_method *method;
        struct jinja_loop *loop;
        int function;
        struct pd_str name; /* UNDEFINED: what is */
    };
};

struct jinja; /* one template */

/* PD_EFORMAT: not a template, or one with a statement that is not supported. source is copied. */
int jinja_new(struct pd_str source, struct jinja **out, struct pd_err *err);
void jinja_free(struct jinja *j);

/* Values for variables; bytes are copied. A failure (memory) sticks and is told by jinja_render. */
struct jinja_value jinja_bool(bool v);
struct jinja_value jinja_string(struct jinja *j, struct pd_str s, enum jinja_origin origin);
struct jinja_value jinja_list(struct jinja *j);
struct jinja_value jinja_dict(struct jinja *j);
void jinja_append(struct jinja *j, struct jinja_value list, struct jinja_value item);
void jinja_put(struct jinja *j, struct jinja_value dict, const char *key, struct jinja_value value);
void jinja_set(struct jinja *j, const char *name, struct jinja_value value);
/* All strings of it, keys too, are of that origin. NULL: none. */
struct jinja_value jinja_of_json(struct jinja *j, const struct pd_json *v,
                                 enum jinja_origin origin);

/* Once. The text is the template's memory. PD_EINVAL: the template itself raised an exception, or
 * the values do not fit it; PD_EFORMAT: something that is not supported; PD_ELIMIT. */
int jinja_render(struct jinja *j, struct jinja_text *out, struct pd_err *err);

#endif
