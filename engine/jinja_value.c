/* Values: what Python's str, ==, <, in, len and json.dumps make of them. */
#include "engine/jinja_int.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

/* ---- strings being built ------------------------------------------------------------------------
 */

struct jinja_text jinja_own(struct jinja *j, struct pd_str s)
{
    uint8_t *origin = j->zeros;

    if (s.len > j->n_zeros) {
        origin = jinja_alloc(j, s.len, 1);
        if (!origin)
            s.len = 0;
    }
    return (struct jinja_text){s.ptr, origin, s.len, false};
}

struct jinja_text jinja_sub(struct jinja_text t, size_t from, size_t to)
{
    if (to > t.len)
        to = t.len;
    if (from > to)
        from = to;
    if (from > 0) { /* an empty text may have no bytes to point to */
        t.ptr += from;
        t.origin += from;
    }
    t.len = to - from;
    return t;
}

void jinja_addt(struct jinja *j, struct jinja_builder *b, struct jinja_text t)
{
    if (jinja_step(j, t.len) < 0 || t.len == 0)
        return;
    if (t.len > JINJA_OUTPUT_MAX_BYTES - b->len) {
        jinja_fail(j, PD_ELIMIT, "a text of more than %zu bytes", JINJA_OUTPUT_MAX_BYTES);
        return;
    }
    if (b->len + t.len > b->cap) {
        size_t cap = 2 * b->cap > b->len + t.len ? 2 * b->cap : b->len + t.len;
        char *ptr = jinja_alloc(j, cap, 1);
        uint8_t *origin = jinja_alloc(j, cap, 1);

        if (!ptr || !origin)
            return;
        if (b->len > 0) {
            memcpy(ptr, b->ptr, b->len);
            memcpy(origin, b->origin, b->len);
        }
        b->ptr = ptr;
        b->origin = origin;
        b->cap = cap;
    }
    memcpy(b->ptr + b->len, t.ptr, t.len);
    memcpy(b->origin + b->len, t.origin, t.len);
    b->len += t.len;
}

void jinja_adds(struct jinja *j, struct jinja_builder *b, struct pd_str s)
{
    jinja_addt(j, b, jinja_own(j, s));
}

/* ---- containers ---------------------------------------------------------------------------------
 */

int jinja_new_list(struct jinja *j, enum jinja_type type, size_t n, struct jinja_value *out)
{
    struct jinja_list *l = jinja_alloc(j, 1, sizeof(*l));

    if (!l)
        return j->rc;
    l->items = jinja_alloc(j, n, sizeof(*l->items));
    if (!l->items)
        return j->rc;
    l->cap = n;
    *out = (struct jinja_value){.type = type, .list = l};
    return jinja_step(j, n);
}

struct jinja_value jinja_bool(bool v)
{
    return (struct jinja_value){.type = JINJA_BOOL, .boolean = v};
}

struct jinja_value jinja_string(struct jinja *j, struct pd_str s, enum jinja_origin origin)
{
    char *ptr = jinja_alloc(j, s.len, 1);
    uint8_t *marks = jinja_alloc(j, s.len, 1);

    if (!ptr || !marks)
        return jinja_none();
    if (s.len > 0) {
        memcpy(ptr, s.ptr, s.len);
        memset(marks, (int)origin, s.len);
    }
    return jinja_of_text((struct jinja_text){ptr, marks, s.len, false});
}

struct jinja_value jinja_list(struct jinja *j)
{
    struct jinja_value v = jinja_none();

    (void)jinja_new_list(j, JINJA_LIST, 4, &v);
    return v;
}

struct jinja_value jinja_dict(struct jinja *j)
{
    struct jinja_dict *d = jinja_alloc(j, 1, sizeof(*d));

    return d ? (struct jinja_value){.type = JINJA_DICT, .dict = d} : jinja_none();
}

/* Room for one more of n elements, or NULL. */
static void *grown(struct jinja *j, void *old, size_t n, size_t *cap, size_t elem_bytes)
{
    size_t new_cap = *cap > 0 ? 2 * *cap : 4;
    void *p;

    if (n < *cap)
        return old;
    p = jinja_alloc(j, new_cap, elem_bytes);
    if (!p)
        return NULL;
    if (n > 0)
        memcpy(p, old, n * elem_bytes);
    *cap = new_cap;
    return p;
}

void jinja_append(struct jinja *j, struct jinja_value list, struct jinja_value item)
{
    struct jinja_value *items;

    if (j->rc < 0)
        return;
    items = grown(j, list.list->items, list.list->n, &list.list->cap, sizeof(*items));
    if (!items)
        return;
    list.list->items = items;
    items[list.list->n++] = item;
}

int jinja_dict_get(struct jinja *j, const struct jinja_dict *d, struct jinja_value key,
                   struct jinja_value *out)
{
    for (size_t i = 0; i < d->n; i++) {
        bool same;
        int rc = jinja_equal(j, &d->pairs[i].key, &key, &same);

        if (rc < 0)
            return rc;
        if (same) {
            *out = d->pairs[i].value;
            return 1;
        }
    }
    return 0;
}

int jinja_dict_put(struct jinja *j, struct jinja_dict *d, struct jinja_value key,
                   struct jinja_value value)
{
    struct jinja_pair *pairs;

    if (key.type == JINJA_LIST || key.type == JINJA_DICT)
        return jinja_fail(j, PD_EINVAL, "a %s cannot be a key", jinja_type_name(&key));
    for (size_t i = 0; i < d->n; i++) {
        bool same;
        int rc = jinja_equal(j, &d->pairs[i].key, &key, &same);

        if (rc < 0)
            return rc;
        if (same) {
            d->pairs[i].value = value;
            return 0;
        }
    }
    pairs = grown(j, d->pairs, d->n, &d->cap, sizeof(*pairs));
    if (!pairs)
        return j->rc;
    d->pairs = pairs;
    pairs[d->n++] = (struct jinja_pair){key, value};
    return 0;
}

void jinja_put(struct jinja *j, struct jinja_value dict, const char *key, struct jinja_value value)
{
    if (j->rc == 0)
        (void)jinja_dict_put(j, dict.dict, jinja_string(j, pd_str_of(key), JINJA_TEMPLATE), value);
}

struct jinja_value jinja_of_json(struct jinja *j, const struct pd_json *v, enum jinja_origin origin)
{
    struct jinja_value out = jinja_none();

    if (pd_json_is_array(v)) {
        out = jinja_list(j);
        for (const struct pd_json *m = pd_json_first(v); m && j->rc == 0; m = pd_json_next(m))
            jinja_append(j, out, jinja_of_json(j, m, origin));
    } else if (pd_json_is_object(v)) {
        out = jinja_dict(j);
        for (const struct pd_json *m = pd_json_first(v); m && j->rc == 0; m = pd_json_next(m))
            (void)jinja_dict_put(j, out.dict, jinja_string(j, pd_str_of(pd_json_key(m)), origin),
                                 jinja_of_json(j, m, origin));
    } else if (pd_json_string(v)) {
        out = jinja_string(j, pd_str_of(pd_json_string(v)), origin);
    } else if (pd_json_bool(v, &out.boolean)) {
        out.type = JINJA_BOOL;
    } else if (pd_json_int(v, &out.integer)) {
        out.type = JINJA_INT;
    } else if (pd_json_number(v, &out.real)) {
        out.type = JINJA_FLOAT;
    }
    return out;
}

int jinja_items(struct jinja *j, const struct jinja_value *v, const struct jinja_value **out_items,
                size_t *out_n)
{
    struct jinja_value list;
    uint32_t cp;
    int rc;

    switch (v->type) {
    case JINJA_UNDEFINED:
        *out_items = NULL;
        *out_n = 0;
        return 0;
    case JINJA_LIST:
    case JINJA_TUPLE:
    case JINJA_VIEW:
        *out_items = v->list->items;
        *out_n = v->list->n;
        return jinja_step(j, 0);
    case JINJA_ITERATOR:
        *out_items = v->list->items + v->list->at;
        *out_n = v->list->n - v->list->at;
        v->list->at = v->list->n;
        return jinja_step(j, 0);
    case JINJA_DICT:
        rc = jinja_new_list(j, JINJA_LIST, v->dict->n, &list);
        if (rc < 0)
            return rc;
        for (size_t i = 0; i < v->dict->n; i++)
            jinja_append(j, list, v->dict->pairs[i].key);
        break;
    case JINJA_STRING:
        rc = jinja_new_list(j, JINJA_LIST, jinja_n_chars(jinja_str(v->text)), &list);
        if (rc < 0)
            return rc;
        for (size_t at = 0, n; at < v->text.len; at += n) {
            n = jinja_char(jinja_str(v->text), at, &cp);
            jinja_append(j, list, jinja_of_text(jinja_sub(v->text, at, at + n)));
        }
        break;
    default:
        return jinja_fail(j, PD_EINVAL, "a %s cannot be iterated over", jinja_type_name(v));
    }
    *out_items = list.list->items;
    *out_n = list.list->n;
    return j->rc;
}

int jinja_length(struct jinja *j, const struct jinja_value *v, size_t *out)
{
    switch (v->type) {
    case JINJA_UNDEFINED:
        *out = 0;
        break;
    case JINJA_STRING:
        *out = jinja_n_chars(jinja_str(v->text));
        return jinja_step(j, v->text.len);
    case JINJA_LIST:
    case JINJA_TUPLE:
    case JINJA_VIEW:
        *out = v->list->n;
        break;
    case JINJA_DICT:
        *out = v->dict->n;
        break;
    default:
        return jinja_fail(j, PD_EINVAL, "a %s has no length", jinja_type_name(v));
    }
    return 0;
}

/* ---- questions ----------------------------------------------------------------------------------
 */

const char *jinja_type_name(const struct jinja_value *v)
{
    static const char *const names[] = {
        [JINJA_UNDEFINED] = "undefined value",
        [JINJA_NONE] = "none",
        [JINJA_BOOL] = "boolean",
        [JINJA_INT] = "number",
        [JINJA_FLOAT] = "number",
        [JINJA_STRING] = "string",
        [JINJA_LIST] = "list",
        [JINJA_TUPLE] = "tuple",
        [JINJA_DICT] = "mapping",
        [JINJA_ITERATOR] = "filter's iterator",
        [JINJA_VIEW] = "range or view",
        [JINJA_NAMESPACE] = "namespace",
        [JINJA_MACRO] = "macro",
        [JINJA_FUNCTION] = "function",
        [JINJA_METHOD] = "method",
        [JINJA_LOOP] = "loop",
    };

    return names[v->type];
}

bool jinja_truth(const struct jinja_value *v)
{
    switch (v->type) {
    case JINJA_UNDEFINED:
    case JINJA_NONE:
        return false;
    case JINJA_BOOL:
        return v->boolean;
    case JINJA_INT:
        return v->integer != 0;
    case JINJA_FLOAT:
        return v->real < 0 || v->real > 0 || isnan(v->real);
    case JINJA_STRING:
        return v->text.len > 0;
    case JINJA_LIST:
    case JINJA_TUPLE:
    case JINJA_VIEW:
        return v->list->n > 0;
    case JINJA_DICT:
        return v->dict->n > 0;
    default:
        return true;
    }
}

bool jinja_is_number(const struct jinja_value *v)
{
    return v->type == JINJA_BOOL || v->type == JINJA_INT || v->type == JINJA_FLOAT;
}

static int64_t as_int(const struct jinja_value *v)
{
    return v->type == JINJA_BOOL ? v->boolean : v->integer;
}

double jinja_as_double(const struct jinja_value *v)
{
    return v->type == JINJA_FLOAT ? v->real : (double)as_int(v);
}

/* -1, 0, 1; exact also between an integer and a float: x87's 64 bits hold both. */
static int number_order(const struct jinja_value *a, const struct jinja_value *b)
{
    long double x = a->type == JINJA_FLOAT ? (long double)a->real : (long double)as_int(a);
    long double y = b->type == JINJA_FLOAT ? (long double)b->real : (long double)as_int(b);

    return x < y ? -1 : x > y;
}

static int list_equal(struct jinja *j, const struct jinja_list *a, const struct jinja_list *b,
                      bool *out)
{
    int rc = jinja_enter(j);

    if (rc < 0)
        return rc;
    *out = a->n == b->n;
    for (size_t i = 0; rc == 0 && *out && i < a->n; i++)
        rc = jinja_equal(j, &a->items[i], &b->items[i], out);
    jinja_leave(j);
    return rc;
}

static int dict_equal(struct jinja *j, const struct jinja_dict *a, const struct jinja_dict *b,
                      bool *out)
{
    int rc = jinja_enter(j);

    if (rc < 0)
        return rc;
    *out = a->n == b->n;
    for (size_t i = 0; rc >= 0 && *out && i < a->n; i++) {
        struct jinja_value other;

        rc = jinja_dict_get(j, b, a->pairs[i].key, &other);
        *out = rc > 0;
        if (rc > 0)
            rc = jinja_equal(j, &a->pairs[i].value, &other, out);
    }
    jinja_leave(j);
    return rc < 0 ? rc : 0;
}

int jinja_equal(struct jinja *j, const struct jinja_value *a, const struct jinja_value *b,
                bool *out)
{
    int rc = jinja_step(j, 0);

    if (rc < 0)
        return rc;
    if (jinja_is_number(a) && jinja_is_number(b)) {
        *out = number_order(a, b) == 0;
        return 0;
    }
    if (a->type != b->type) {
        *out = false;
        return 0;
    }
    switch (a->type) {
    case JINJA_UNDEFINED:
    case JINJA_NONE:
        *out = true;
        return 0;
    case JINJA_STRING:
        *out = pd_str_eq(jinja_str(a->text), jinja_str(b->text));
        return jinja_step(j, *out ? a->text.len : 0);
    case JINJA_LIST:
    case JINJA_TUPLE:
        return list_equal(j, a->list, b->list, out);
    case JINJA_DICT:
        return dict_equal(j, a->dict, b->dict, out);
    default:
        return jinja_fail(j, PD_EFORMAT, "comparing a %s is not supported", jinja_type_name(a));
    }
}

int jinja_order(struct jinja *j, const struct jinja_value *a, const struct jinja_value *b, int *out)
{
    int rc = jinja_step(j, 0);

    if (rc < 0)
        return rc;
    if (jinja_is_number(a) && jinja_is_number(b)) {
        *out = number_order(a, b);
        return 0;
    }
    if (a->type == JINJA_STRING && b->type == JINJA_STRING) {
        size_t n = a->text.len < b->text.len ? a->text.len : b->text.len;

        *out = n > 0 ? memcmp(a->text.ptr, b->text.ptr, n) : 0;
        if (*out == 0)
            *out = a->text.len < b->text.len ? -1 : a->text.len > b->text.len;
        return jinja_step(j, n);
    }
    if (a->type == b->type && (a->type == JINJA_LIST || a->type == JINJA_TUPLE)) {
        bool same = true;
        size_t i = 0;

        rc = jinja_enter(j);
        if (rc < 0)
            return rc;
        while (i < a->list->n && i < b->list->n) {
            rc = jinja_equal(j, &a->list->items[i], &b->list->items[i], &same);
            if (rc < 0 || !same)
                break;
            i++;
        }
        if (rc == 0 && !same)
            rc = jinja_order(j, &a->list->items[i], &b->list->items[i], out);
        else if (rc == 0)
            *out = a->list->n < b->list->n ? -1 : a->list->n > b->list->n;
        jinja_leave(j);
        return rc;
    }
    return jinja_fail(j, PD_EINVAL, "a %s and a %s have no order", jinja_type_name(a),
                      jinja_type_name(b));
}

int jinja_contains(struct jinja *j, const struct jinja_value *in, const struct jinja_value *what,
                   bool *out)
{
    const struct jinja_value *items;
    struct jinja_value value;
    size_t n;
    int rc;

    *out = false;
    if (in->type == JINJA_STRING) {
        if (what->type != JINJA_STRING)
            return jinja_fail(j, PD_EINVAL, "a %s cannot be in a string", jinja_type_name(what));
        *out = pd_str_find(jinja_str(in->text), jinja_str(what->text)) >= 0;
        return jinja_step(j, in->text.len);
    }
    if (in->type == JINJA_DICT) {
        if (what->type == JINJA_LIST || what->type == JINJA_DICT)
            return jinja_fail(j, PD_EINVAL, "a %s cannot be a key", jinja_type_name(what));
        rc = jinja_dict_get(j, in->dict, *what, &value);
        *out = rc > 0;
        return rc < 0 ? rc : 0;
    }
    rc = jinja_items(j, in, &items, &n);
    for (size_t i = 0; rc == 0 && !*out && i < n; i++) {
        rc = jinja_equal(j, &items[i], what, out);
        if (rc == 0 && *out && in->type == JINJA_ITERATOR)
            in->list->at -= n - i - 1; /* what follows is not consumed */
    }
    return rc;
}

/* ---- str() and repr() ---------------------------------------------------------------------------
 */

/* The shortest decimal that reads back equal, laid out as Python does. */
static void add_float(struct jinja *j, struct jinja_builder *b, double v)
{
    char digits[32] = "", text[64];
    int exponent, n = 0;

    if (!isfinite(v)) {
        jinja_adds(j, b, pd_str_of(isnan(v) ? "nan" : v > 0 ? "inf" : "-inf"));
        return;
    }
    for (int precision = 0; precision < 17; precision++) {
        double back;

        snprintf(text, sizeof(text), "%.*e", precision, fabs(v));
        back = strtod(text, NULL);
        if (!(back < fabs(v)) && !(back > fabs(v)))
            break;
    }
    exponent = atoi(strchr(text, 'e') + 1);
    for (const char *c = text; *c != 'e'; c++)
        if (*c != '.')
            digits[n++] = *c;
    jinja_adds(j, b, signbit(v) ? PD_STR("-") : PD_STR(""));
    if (exponent < -4 || exponent >= 16)
        snprintf(text, sizeof(text), "%c%s%se%c%02d", digits[0], n > 1 ? "." : "", digits + 1,
                 exponent < 0 ? '-' : '+', abs(exponent));
    else if (exponent < 0)
        snprintf(text, sizeof(text), "0.%.*s%s", -exponent - 1, "000", digits);
    else if (n > exponent + 1)
        snprintf(text, sizeof(text), "%.*s.%s", exponent + 1, digits, digits + exponent + 1);
    else
        snprintf(text, sizeof(text), "%s%.*s.0", digits, exponent + 1 - n, "0000000000000000");
    jinja_adds(j, b, pd_str_of(text));
}

/* repr(): single quotes unless the text has some and no double ones. Which characters beyond ASCII
 * Python prints as they are is a table of Unicode's: not supported. */
static int add_quoted(struct jinja *j, struct jinja_builder *b, struct jinja_text t)
{
    char quote = memchr(t.ptr, '\'', t.len) && !memchr(t.ptr, '"', t.len) ? '"' : '\'';
    struct pd_str q = {&quote, 1};

    jinja_adds(j, b, q);
    for (size_t i = 0; i < t.len; i++) {
        unsigned char c = (unsigned char)t.ptr[i];
        char escape[8];

        if (c >= 0x80)
            return jinja_fail(j, PD_EFORMAT,
                              "printing a list or mapping with text that is not ASCII is not "
                              "supported");
        if (c == '\\' || c == (unsigned char)quote)
            snprintf(escape, sizeof(escape), "\\%c", c);
        else if (c == '\n' || c == '\r' || c == '\t')
            snprintf(escape, sizeof(escape), "\\%c", c == '\n' ? 'n' : c == '\r' ? 'r' : 't');
        else if (c < 0x20 || c == 0x7f)
            snprintf(escape, sizeof(escape), "\\x%02x", c);
        else {
            jinja_addt(j, b, jinja_sub(t, i, i + 1));
            continue;
        }
        jinja_adds(j, b, pd_str_of(escape));
    }
    jinja_adds(j, b, q);
    return j->rc;
}

static int add_repr(struct jinja *j, struct jinja_builder *b, const struct jinja_value *v);

static int add_items(struct jinja *j, struct jinja_builder *b, const struct jinja_value *v)
{
    bool tuple = v->type == JINJA_TUPLE;
    int rc = 0;

    jinja_adds(j, b, tuple ? PD_STR("(") : PD_STR("["));
    for (size_t i = 0; rc == 0 && i < v->list->n; i++) {
        if (i > 0)
            jinja_adds(j, b, PD_STR(", "));
        rc = add_repr(j, b, &v->list->items[i]);
    }
    if (tuple && v->list->n == 1)
        jinja_adds(j, b, PD_STR(","));
    jinja_adds(j, b, tuple ? PD_STR(")") : PD_STR("]"));
    return rc;
}

static int add_pairs(struct jinja *j, struct jinja_builder *b, const struct jinja_dict *d)
{
    int rc = 0;

    jinja_adds(j, b, PD_STR("{"));
    for (size_t i = 0; rc == 0 && i < d->n; i++) {
        if (i > 0)
            jinja_adds(j, b, PD_STR(", "));
        rc = add_repr(j, b, &d->pairs[i].key);
        jinja_adds(j, b, PD_STR(": "));
        if (rc == 0)
            rc = add_repr(j, b, &d->pairs[i].value);
    }
    jinja_adds(j, b, PD_STR("}"));
    return rc;
}

static int add_repr(struct jinja *j, struct jinja_builder *b, const struct jinja_value *v)
{
    char text[32];
    int rc = jinja_enter(j);

    if (rc < 0)
        return rc;
    switch (v->type) {
    case JINJA_UNDEFINED:
        jinja_adds(j, b, PD_STR("Undefined"));
        break;
    case JINJA_NONE:
        jinja_adds(j, b, PD_STR("None"));
        break;
    case JINJA_BOOL:
        jinja_adds(j, b, v->boolean ? PD_STR("True") : PD_STR("False"));
        break;
    case JINJA_INT:
        snprintf(text, sizeof(text), "%" PRId64, v->integer);
        jinja_adds(j, b, pd_str_of(text));
        break;
    case JINJA_FLOAT:
        add_float(j, b, v->real);
        break;
    case JINJA_STRING:
        rc = v->text.safe ? jinja_fail(j, PD_EFORMAT,
                                       "printing a list of safe strings is not "
                                       "supported")
                          : add_quoted(j, b, v->text);
        break;
    case JINJA_LIST:
    case JINJA_TUPLE:
        rc = add_items(j, b, v);
        break;
    case JINJA_DICT:
        rc = add_pairs(j, b, v->dict);
        break;
    default:
        rc = jinja_fail(j, PD_EFORMAT, "printing a %s is not supported", jinja_type_name(v));
    }
    jinja_leave(j);
    return rc < 0 ? rc : j->rc;
}

int jinja_to_text(struct jinja *j, const struct jinja_value *v, struct jinja_text *out)
{
    struct jinja_builder b = {NULL, NULL, 0, 0};
    int rc = 0;

    if (v->type == JINJA_STRING) {
        *out = v->text;
        out->safe = false;
        return 0;
    }
    if (v->type != JINJA_UNDEFINED)
        rc = add_repr(j, &b, v);
    *out = jinja_built(&b);
    return rc;
}

/* ---- json.dumps() -------------------------------------------------------------------------------
 */

static int add_json_string(struct jinja *j, struct jinja_builder *b, struct jinja_text t,
                           bool ascii)
{
    jinja_adds(j, b, PD_STR("\""));
    for (size_t at = 0, n; at < t.len && j->rc == 0; at += n) {
        static const char named[] = "\"\\\n\r\t\b\f", names[] = "\"\\nrtbf";
        char escape[16];
        uint32_t cp;
        const char *known;

        n = jinja_char(jinja_str(t), at, &cp);
        known = cp > 0 && cp < 0x80 ? strchr(named, (int)cp) : NULL;
        if (known)
            snprintf(escape, sizeof(escape), "\\%c", names[known - named]);
        else if (cp < 0x20 || (ascii && cp >= 0x7f && cp < 0x10000 && cp != 0x7f))
            snprintf(escape, sizeof(escape), "\\u%04x", cp);
        else if (ascii && cp >= 0x10000)
            snprintf(escape, sizeof(escape), "\\u%04x\\u%04x", 0xd800 + ((cp - 0x10000) >> 10),
                     0xdc00 + ((cp - 0x10000) & 0x3ff));
        else {
            jinja_addt(j, b, jinja_sub(t, at, at + n));
            continue;
        }
        jinja_adds(j, b, pd_str_of(escape));
    }
    jinja_adds(j, b, PD_STR("\""));
    return j->rc;
}

static void add_line(struct jinja *j, struct jinja_builder *b, const struct jinja_json_style *style,
                     unsigned level)
{
    if (!style->pretty)
        return;
    jinja_adds(j, b, PD_STR("\n"));
    for (unsigned i = 0; i < level; i++)
        jinja_addt(j, b, style->indent);
}

static int add_json(struct jinja *j, struct jinja_builder *b, const struct jinja_value *v,
                    const struct jinja_json_style *style, unsigned level);

static int add_json_list(struct jinja *j, struct jinja_builder *b, const struct jinja_list *l,
                         const struct jinja_json_style *style, unsigned level)
{
    int rc = 0;

    jinja_adds(j, b, PD_STR("["));
    for (size_t i = 0; rc == 0 && i < l->n; i++) {
        if (i > 0)
            jinja_addt(j, b, style->item_end);
        add_line(j, b, style, level + 1);
        rc = add_json(j, b, &l->items[i], style, level + 1);
    }
    if (l->n > 0)
        add_line(j, b, style, level);
    jinja_adds(j, b, PD_STR("]"));
    return rc;
}

static int add_json_key(struct jinja *j, struct jinja_builder *b, const struct jinja_value *key,
                        const struct jinja_json_style *style)
{
    int rc;

    if (key->type == JINJA_STRING)
        return add_json(j, b, key, style, 0);
    if (key->type != JINJA_NONE && !jinja_is_number(key))
        return jinja_fail(j, PD_EINVAL, "a %s cannot be a key in JSON", jinja_type_name(key));
    jinja_adds(j, b, PD_STR("\""));
    rc = add_json(j, b, key, style, 0);
    jinja_adds(j, b, PD_STR("\""));
    return rc;
}

/* Insertion sort of the places of d's pairs by key. */
static int sorted_pairs(struct jinja *j, const struct jinja_dict *d, size_t **out)
{
    size_t *order = jinja_alloc(j, d->n, sizeof(*order));

    if (!order)
        return j->rc;
    for (size_t i = 0; i < d->n; i++) {
        size_t at = i;

        for (; at > 0; at--) {
            int cmp, rc = jinja_order(j, &d->pairs[order[at - 1]].key, &d->pairs[i].key, &cmp);

            if (rc < 0)
                return rc;
            if (cmp <= 0)
                break;
            order[at] = order[at - 1];
        }
        order[at] = i;
    }
    *out = order;
    return 0;
}

static int add_json_dict(struct jinja *j, struct jinja_builder *b, const struct jinja_dict *d,
                         const struct jinja_json_style *style, unsigned level)
{
    size_t *order = NULL;
    int rc = style->sort_keys ? sorted_pairs(j, d, &order) : 0;

    jinja_adds(j, b, PD_STR("{"));
    for (size_t i = 0; rc == 0 && i < d->n; i++) {
        const struct jinja_pair *pair = &d->pairs[order ? order[i] : i];

        if (i > 0)
            jinja_addt(j, b, style->item_end);
        add_line(j, b, style, level + 1);
        rc = add_json_key(j, b, &pair->key, style);
        jinja_addt(j, b, style->key_end);
        if (rc == 0)
            rc = add_json(j, b, &pair->value, style, level + 1);
    }
    if (d->n > 0)
        add_line(j, b, style, level);
    jinja_adds(j, b, PD_STR("}"));
    return rc;
}

static int add_json(struct jinja *j, struct jinja_builder *b, const struct jinja_value *v,
                    const struct jinja_json_style *style, unsigned level)
{
    int rc = jinja_enter(j);

    if (rc < 0)
        return rc;
    switch (v->type) {
    case JINJA_NONE:
        jinja_adds(j, b, PD_STR("null"));
        break;
    case JINJA_BOOL:
        jinja_adds(j, b, v->boolean ? PD_STR("true") : PD_STR("false"));
        break;
    case JINJA_FLOAT:
        if (!isfinite(v->real)) {
            jinja_adds(j, b,
                       pd_str_of(isnan(v->real) ? "NaN"
                                 : v->real > 0  ? "Infinity"
                                                : "-Infinity"));
            break;
        }
        __attribute__((fallthrough));
    case JINJA_INT:
        rc = add_repr(j, b, v);
        break;
    case JINJA_STRING:
        rc = add_json_string(j, b, v->text, style->ascii);
        break;
    case JINJA_LIST:
    case JINJA_TUPLE:
        rc = add_json_list(j, b, v->list, style, level);
        break;
    case JINJA_DICT:
        rc = add_json_dict(j, b, v->dict, style, level);
        break;
    default:
        rc = jinja_fail(j, PD_EINVAL, "a %s cannot become JSON", jinja_type_name(v));
    }
    jinja_leave(j);
    return rc < 0 ? rc : j->rc;
}

int jinja_json(struct jinja *j, const struct jinja_value *v, const struct jinja_json_style *style,
               struct jinja_text *out)
{
    struct jinja_builder b = {NULL, NULL, 0, 0};
    int rc = add_json(j, &b, v, style, 0);

    *out = jinja_built(&b);
    return rc;
}
