/* JSON: reading through cJSON with strict checks, writing by a small streaming writer (keeps key
 * order and exact integers, and streams JSON Lines). cJSON is named in json.c only. */
#ifndef PD_BASE_JSON_H
#define PD_BASE_JSON_H

#include "base/buf.h"
#include "base/err.h"

struct pd_json; /* a value; every value of a tree is owned by its root */

/* One whole JSON value; refuses trailing text, invalid UTF-8, NUL (also \u0000), duplicate keys,
 * depth > 64. */
int pd_json_parse(struct pd_str text, struct pd_json **out_root, struct pd_err *err);
void pd_json_free(struct pd_json *root);
/* Makes JSON of JSON with // and slash-star comments: blanks them in place, so that every place
 * keeps its line and column. PD_EFORMAT: a comment has no end. */
int pd_json_uncomment(char *text, size_t n, struct pd_err *err);
/* Where v stands in the text that root was parsed from, counted from 1 in lines and bytes: a member
 * by its key. */
struct pd_json_place {
    size_t line, column;
};
struct pd_json_place pd_json_find(struct pd_str text, const struct pd_json *root,
                                  const struct pd_json *v);
const struct pd_json *pd_json_get(const struct pd_json *obj,
                                  const char *key); /* NULL: absent or not an object */
size_t pd_json_size(const struct pd_json *arr_or_obj);
const struct pd_json *pd_json_at(const struct pd_json *arr_or_obj, size_t i);
const struct pd_json *
pd_json_first(const struct pd_json *arr_or_obj); /* iteration in O(1) a step */
const struct pd_json *pd_json_next(const struct pd_json *v);
const char *pd_json_key(const struct pd_json *v);    /* member's name */
const char *pd_json_string(const struct pd_json *v); /* NULL when not a string; borrowed */
bool pd_json_is_object(const struct pd_json *v);
bool pd_json_is_array(const struct pd_json *v);
bool pd_json_is_null(const struct pd_json *v);
bool pd_json_number(const struct pd_json *v, double *out);
bool pd_json_int(const struct pd_json *v, int64_t *out); /* integral and |v| ≤ 2^53 */
bool pd_json_bool(const struct pd_json *v, bool *out);

/* Writer: commas and escaping are its business. Invalid UTF-8 in strings becomes U+FFFD. */
struct pd_jw {
    struct pd_buf *out;
    bool comma; /* a value was written at this level */
    bool after_key;
};
void pd_jw_init(struct pd_jw *w, struct pd_buf *out);
void pd_jw_object(struct pd_jw *w);
void pd_jw_end_object(struct pd_jw *w);
void pd_jw_array(struct pd_jw *w);
void pd_jw_end_array(struct pd_jw *w);
void pd_jw_key(struct pd_jw *w, const char *key);
void pd_jw_str(struct pd_jw *w, struct pd_str s);
void pd_jw_strz(struct pd_jw *w, const char *z); /* NULL → null */
void pd_jw_int(struct pd_jw *w, int64_t v);
void pd_jw_uint(struct pd_jw *w, uint64_t v);
void pd_jw_double(struct pd_jw *w,
                  double v); /* shortest that reads back equal; not finite → null */
void pd_jw_bool(struct pd_jw *w, bool v);
void pd_jw_null(struct pd_jw *w);
void pd_jw_raw(struct pd_jw *w, struct pd_str json);        /* a value that is already JSON */
void pd_jw_value(struct pd_jw *w, const struct pd_json *v); /* a value that was read; NULL → null */

/* A member of an object: its key and its value. */
void pd_jw_put_text(struct pd_jw *w, const char *key, const char *z);  /* NULL → null */
void pd_jw_put_given(struct pd_jw *w, const char *key, const char *z); /* NULL → no member */
void pd_jw_put_str(struct pd_jw *w, const char *key, struct pd_str s);
void pd_jw_put_int(struct pd_jw *w, const char *key, int64_t v);
void pd_jw_put_uint(struct pd_jw *w, const char *key, uint64_t v);
void pd_jw_put_double(struct pd_jw *w, const char *key, double v);
void pd_jw_put_bool(struct pd_jw *w, const char *key, bool v);

#endif
