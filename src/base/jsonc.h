/* JSON that people write: with // and block comments, as config files and recipes have it. Errors
 * say where, "NAME:LINE:COLUMN: …", and what was probably meant. One owning thread. */
#ifndef PD_BASE_JSONC_H
#define PD_BASE_JSONC_H

#include "base/json.h"

struct pd_jsonc {
    char *name, *text; /* comments are blanks in it */
    size_t len;
    struct pd_json *root;
};

/* As pd_json_parse, of text with comments; an object. name: what errors call it, such as a path. */
int pd_jsonc_parse(struct pd_jsonc *d, const char *name, struct pd_str text, struct pd_err *err);
void pd_jsonc_done(struct pd_jsonc *d);

/* Fills err with the place of v, a value of d (a member's is its key; NULL: the whole), and returns
 * code. */
int pd_jsonc_fail(const struct pd_jsonc *d, const struct pd_json *v, struct pd_err *err,
                  enum pd_code code, const char *fmt, ...)
    __attribute__((format(printf, 5, 6), cold));
/* Every member of obj is named in keys, which ends with NULL; PD_EFORMAT suggests the one that is
 * most like it, or lists them all. */
int pd_jsonc_keys(const struct pd_jsonc *d, const struct pd_json *obj, const char *const *keys,
                  struct pd_err *err);

/* The member `key` of obj. Absent: *out stays as it is. PD_EFORMAT: it is of another type, or out
 * of bounds. Strings are borrowed from d. */
int pd_jsonc_string(const struct pd_jsonc *d, const struct pd_json *obj, const char *key,
                    const char **out, struct pd_err *err);
int pd_jsonc_uint(const struct pd_jsonc *d, const struct pd_json *obj, const char *key,
                  uint64_t min, uint64_t max, uint64_t *out, struct pd_err *err);
int pd_jsonc_double(const struct pd_jsonc *d, const struct pd_json *obj, const char *key,
                    double min, double max, double *out, struct pd_err *err);
int pd_jsonc_bool(const struct pd_jsonc *d, const struct pd_json *obj, const char *key, bool *out,
                  struct pd_err *err);
int pd_jsonc_object(const struct pd_jsonc *d, const struct pd_json *obj, const char *key,
                    const struct pd_json **out, struct pd_err *err);
int pd_jsonc_array(const struct pd_jsonc *d, const struct pd_json *obj, const char *key,
                   const struct pd_json **out, struct pd_err *err);

#endif
