/* Options as tables: one row (name, type, default, bounds, help) is the only source of parser,
 * validation, error text and documentation. */
#ifndef PD_CORE_PARAM_H
#define PD_CORE_PARAM_H

#include <stddef.h>

#include "base/err.h"
#include "base/json.h"

enum pd_param_type {
    PD_PARAM_END,
    PD_PARAM_INT,
    PD_PARAM_DOUBLE,
    PD_PARAM_BOOL,
    PD_PARAM_CHOICE,
    PD_PARAM_TEXT
};

struct pd_param {
    const char *name;
    enum pd_param_type type;
    size_t offset; /* int, double, bool, int, char [max + 1] */
    double def, min, max;
    const char *choices; /* CHOICE: "a|b|c", the value is the index */
    const char *help;
};

#define PD_INT(S, f, def, min, max, help)                                                          \
    {                                                                                              \
#f, PD_PARAM_INT, offsetof(struct S, f), def, min, max, NULL, help                         \
    }
#define PD_DOUBLE(S, f, def, min, max, help)                                                       \
    {                                                                                              \
#f, PD_PARAM_DOUBLE, offsetof(struct S, f), def, min, max, NULL, help                      \
    }
#define PD_BOOL(S, f, def, help)                                                                   \
    {                                                                                              \
#f, PD_PARAM_BOOL, offsetof(struct S, f), def, 0, 1, NULL, help                            \
    }
#define PD_CHOICE(S, f, def, choices, help)                                                        \
    {                                                                                              \
#f, PD_PARAM_CHOICE, offsetof(struct S, f), def, 0, 0, choices, help                       \
    }
/* f is an array of char, "" by default. */
#define PD_TEXT(S, f, help)                                                                        \
    {                                                                                              \
#f, PD_PARAM_TEXT, offsetof(struct S, f), 0, 0, sizeof(((struct S *)0)->f) - 1, NULL, help \
    }

void pd_params_default(const struct pd_param *table, void *values);
/* PD_ENOENT: no such row (err untouched); PD_EINVAL: bad value, err says what would be good. */
int pd_params_set(const struct pd_param *table, void *values, struct pd_str key,
                  struct pd_str value, struct pd_err *err);
/* Writes "name":value members into an open object, in table order. */
void pd_params_json(const struct pd_param *table, const void *values, struct pd_jw *w);
/* "name=default  help" lines. */
void pd_params_help(const struct pd_param *table, struct pd_buf *out);

#endif
