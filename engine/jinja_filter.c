/* Filters and tests: a row of a table each. */
#include "engine/jinja_int.h"

#include <math.h>
#include <stdio.h>

/* Most parameters a filter has. */
#define PARAMS_MAX 4

int jinja_bind(struct jinja *j, const char *what, const struct jinja_call *call,
               const char *const *names, size_t n_needed, struct jinja_value *out)
{
    size_t n = 0;

    while (names[n]) {
        out[n] = jinja_undefined((struct pd_str){NULL, 0});
        n++;
    }
    if (call->n_args > n)
        return jinja_fail(j, PD_EFORMAT, "%s with %zu arguments is not supported", what,
                          call->n_args);
    for (size_t i = 0; i < call->n_args; i++)
        out[i] = call->args[i];
    for (size_t i = 0; i < call->n_keywords; i++) {
        size_t k = 0;

        while (k < n && !pd_str_eq(call->keywords[i].name, pd_str_of(names[k])))
            k++;
        if (k == n || !jinja_absent(&out[k]))
            return jinja_fail(j, PD_EFORMAT, "%s with an argument '%.*s' is not supported", what,
                              JINJA_NAME(call->keywords[i].name));
        out[k] = call->keywords[i].value;
    }
    for (size_t i = 0; i < n_needed; i++)
        if (jinja_absent(&out[i]))
            return jinja_fail(j, PD_EINVAL, "%s needs %zu argument%s", what, n_needed,
                              n_needed == 1 ? "" : "s");
    return 0;
}

/* A string as it is, anything else as str() prints it. */
static int soft(struct jinja *j, const struct jinja_value *v, struct jinja_text *out)
{
    if (v->type != JINJA_STRING)
        return jinja_to_text(j, v, out);
    *out = v->text;
    return 0;
}

static int put_text(int rc, struct jinja_text t, struct jinja_value *out)
{
    if (rc == 0)
        *out = jinja_of_text(t);
    return rc;
}

static bool is_given(const struct jinja_value *v)
{
    return !jinja_absent(v) && v->type != JINJA_NONE;
}

/* What `attribute=` names: "a.b" or "0" or a number. */
static int get_attribute(struct jinja *j, struct jinja_value of, const struct jinja_value *path,
                         struct jinja_value *out)
{
    struct pd_str rest;

    if (path->type == JINJA_INT)
        return jinja_get_item(j, &of, path, out);
    if (path->type != JINJA_STRING)
        return jinja_fail(j, PD_EINVAL, "an attribute's name is a %s", jinja_type_name(path));
    rest = jinja_str(path->text);
    if (memchr(rest.ptr, ',', rest.len))
        return jinja_fail(j, PD_EFORMAT, "several attributes are not supported");
    for (;;) {
        ptrdiff_t dot = pd_str_find(rest, PD_STR("."));
        struct pd_str name = pd_str_sub(rest, 0, dot < 0 ? rest.len : (size_t)dot);
        struct jinja_value key = jinja_of_text(jinja_own(j, name));
        int64_t index;
        int rc;

        if (name.len > 0 && name.ptr[0] >= '0' && name.ptr[0] <= '9' && pd_parse_i64(name, &index))
            key = jinja_int(index);
        rc = jinja_get_item(j, &of, &key, out);
        if (rc < 0 || dot < 0)
            return rc;
        rest = pd_str_sub(rest, (size_t)dot + 1, rest.len);
        of = *out;
    }
}

/* ---- texts --------------------------------------------------------------------------------------
 */

static int filter_trim(struct jinja *j, struct jinja_value in, const struct jinja_value *args,
                       struct jinja_value *out)
{
    struct jinja_text t;
    struct pd_str chars;
    int rc = soft(j, &in, &t);

    if (rc == 0 && is_given(&args[0]) && args[0].type != JINJA_STRING)
        rc = jinja_fail(j, PD_EINVAL, "trim: a %s is no string", jinja_type_name(&args[0]));
    if (rc < 0)
        return rc;
    if (args[0].type == JINJA_STRING)
        chars = jinja_str(args[0].text);
    *out = jinja_of_text(jinja_strip(t, args[0].type == JINJA_STRING ? &chars : NULL, JINJA_BOTH));
    return jinja_step(j, t.len - out->text.len);
}

static int change_case(struct jinja *j, const struct jinja_value *in, enum jinja_case how,
                       struct jinja_value *out)
{
    struct jinja_text t;
    int rc = soft(j, in, &t);

    if (rc == 0)
        rc = jinja_case(j, t, how, &t);
    return put_text(rc, t, out);
}

static int filter_upper(struct jinja *j, struct jinja_value in, const struct jinja_value *args,
                        struct jinja_value *out)
{
    (void)args;
    return change_case(j, &in, JINJA_UPPER, out);
}

static int filter_lower(struct jinja *j, struct jinja_value in, const struct jinja_value *args,
                        struct jinja_value *out)
{
    (void)args;
    return change_case(j, &in, JINJA_LOWER, out);
}

static int filter_capitalize(struct jinja *j, struct jinja_value in, const struct jinja_value *args,
                             struct jinja_value *out)
{
    (void)args;
    return change_case(j, &in, JINJA_CAPITALIZE, out);
}

static int filter_title(struct jinja *j, struct jinja_value in, const struct jinja_value *args,
                        struct jinja_value *out)
{
    (void)args;
    return change_case(j, &in, JINJA_TITLE_WORDS, out);
}

static int filter_string(struct jinja *j, struct jinja_value in, const struct jinja_value *args,
                         struct jinja_value *out)
{
    struct jinja_text t;

    (void)args;
    return put_text(soft(j, &in, &t), t, out);
}

static int filter_safe(struct jinja *j, struct jinja_value in, const struct jinja_value *args,
                       struct jinja_value *out)
{
    int rc = filter_string(j, in, args, out);

    if (rc == 0)
        out->text.safe = true;
    return rc;
}

static int filter_escape(struct jinja *j, struct jinja_value in, const struct jinja_value *args,
                         struct jinja_value *out)
{
    struct jinja_text t;
    int rc = soft(j, &in, &t);

    (void)args;
    if (rc == 0)
        rc = jinja_escape(j, t, &t);
    return put_text(rc, t, out);
}

static int filter_replace(struct jinja *j, struct jinja_value in, const struct jinja_value *args,
                          struct jinja_value *out)
{
    struct jinja_text t, from, to;
    int rc = jinja_to_text(j, &in, &t);

    if (rc == 0)
        rc = jinja_to_text(j, &args[0], &from);
    if (rc == 0)
        rc = jinja_to_text(j, &args[1], &to);
    if (rc == 0 && is_given(&args[2]) && args[2].type != JINJA_INT)
        rc = jinja_fail(j, PD_EINVAL, "replace: the count is a %s", jinja_type_name(&args[2]));
    if (rc == 0)
        rc = jinja_replace(j, t, from, to, args[2].type == JINJA_INT ? args[2].integer : -1, &t);
    return put_text(rc, t, out);
}

static int filter_indent(struct jinja *j, struct jinja_value in, const struct jinja_value *args,
                         struct jinja_value *out)
{
    struct jinja_builder b = {NULL, NULL, 0, 0};
    bool first = jinja_truth(&args[1]), blank = jinja_truth(&args[2]);
    struct jinja_text t, by = jinja_own(j, PD_STR("    "));
    struct jinja_value lines;
    int rc = soft(j, &in, &t);

    if (args[0].type == JINJA_STRING) {
        by = args[0].text;
    } else if (args[0].type == JINJA_INT && args[0].integer <= (int64_t)JINJA_SOURCE_MAX_BYTES) {
        struct jinja_builder spaces = {NULL, NULL, 0, 0};

        for (int64_t i = 0; i < args[0].integer; i++)
            jinja_adds(j, &spaces, PD_STR(" "));
        by = jinja_built(&spaces);
    } else if (!jinja_absent(&args[0])) {
        return jinja_fail(j, PD_EINVAL, "indent: the width is a %s", jinja_type_name(&args[0]));
    }
    if (rc < 0)
        return rc;
    jinja_addt(j, &b, t);
    jinja_adds(j, &b, PD_STR("\n")); /* so that an empty last line is one */
    rc = jinja_lines(j, jinja_built(&b), &lines);
    if (rc < 0)
        return rc;
    b = (struct jinja_builder){NULL, NULL, 0, 0};
    for (size_t i = 0; i < lines.list->n && j->rc == 0; i++) {
        struct jinja_text line = lines.list->items[i].text;

        if (i > 0)
            jinja_adds(j, &b, PD_STR("\n"));
        if (i == 0 ? first : blank || line.len > 0)
            jinja_addt(j, &b, by);
        jinja_addt(j, &b, line);
    }
    *out = jinja_of_text(jinja_built(&b));
    out->text.safe = t.safe;
    return j->rc;
}

static int filter_tojson(struct jinja *j, struct jinja_value in, const struct jinja_value *args,
                         struct jinja_value *out)
{
    struct jinja_json_style style = {.ascii = jinja_truth(&args[0]),
                                     .sort_keys = jinja_truth(&args[3]),
                                     .item_end = jinja_own(j, PD_STR(", ")),
                                     .key_end = jinja_own(j, PD_STR(": "))};
    struct jinja_builder spaces = {NULL, NULL, 0, 0};

    if (args[1].type == JINJA_STRING) {
        style.pretty = true;
        style.indent = args[1].text;
    } else if (args[1].type == JINJA_INT && args[1].integer <= JINJA_NEST_MAX) {
        style.pretty = true;
        for (int64_t i = 0; i < args[1].integer; i++)
            jinja_adds(j, &spaces, PD_STR(" "));
        style.indent = jinja_built(&spaces);
    } else if (is_given(&args[1])) {
        return jinja_fail(j, PD_EINVAL, "tojson: this indent is not supported");
    }
    if (style.pretty)
        style.item_end = jinja_own(j, PD_STR(","));
    if (is_given(&args[2])) {
        const struct jinja_list *l = args[2].list;

        if ((args[2].type != JINJA_TUPLE && args[2].type != JINJA_LIST) || l->n != 2 ||
            l->items[0].type != JINJA_STRING || l->items[1].type != JINJA_STRING)
            return jinja_fail(j, PD_EINVAL, "tojson: separators are two strings");
        style.item_end = l->items[0].text;
        style.key_end = l->items[1].text;
    }
    out->type = JINJA_STRING;
    return jinja_json(j, &in, &style, &out->text);
}

/* ---- numbers ------------------------------------------------------------------------------------
 */

/* float() of a string: as the C library reads it, but for what only one of them knows. */
static bool parse_float(struct jinja_text t, double *out)
{
    return pd_parse_double(jinja_str(jinja_strip(t, NULL, JINJA_BOTH)), out);
}

static int filter_int(struct jinja *j, struct jinja_value in, const struct jinja_value *args,
                      struct jinja_value *out)
{
    double d = NAN;
    int64_t i;

    if (in.type == JINJA_STRING) {
        if (memchr(in.text.ptr, '_', in.text.len))
            return jinja_fail(j, PD_EFORMAT, "int of a text with '_' is not supported");
        if (pd_parse_i64(jinja_str(jinja_strip(in.text, NULL, JINJA_BOTH)), &i)) {
            *out = jinja_int(i);
            return 0;
        }
        (void)parse_float(in.text, &d);
    } else if (in.type == JINJA_BOOL || in.type == JINJA_INT) {
        *out = jinja_int(in.type == JINJA_BOOL ? in.boolean : in.integer);
        return 0;
    } else if (in.type == JINJA_FLOAT) {
        d = in.real;
    }
    if (isnan(d) || isinf(d))
        *out = jinja_absent(&args[0]) ? jinja_int(0) : args[0];
    else if (fabs(d) < 0x1p62)
        *out = jinja_int((int64_t)d);
    else
        return jinja_fail(j, PD_EFORMAT, "numbers of more than 64 bits are not supported");
    return 0;
}

static int filter_float(struct jinja *j, struct jinja_value in, const struct jinja_value *args,
                        struct jinja_value *out)
{
    double d;

    (void)j;
    if (jinja_is_number(&in))
        *out = jinja_float(jinja_as_double(&in));
    else if (in.type == JINJA_STRING && parse_float(in.text, &d))
        *out = jinja_float(d);
    else
        *out = jinja_absent(&args[0]) ? jinja_float(0) : args[0];
    return 0;
}

static int filter_abs(struct jinja *j, struct jinja_value in, const struct jinja_value *args,
                      struct jinja_value *out)
{
    (void)args;
    if (in.type == JINJA_FLOAT)
        *out = jinja_float(fabs(in.real));
    else if (jinja_is_number(&in) && (in.type == JINJA_BOOL || in.integer != INT64_MIN))
        *out = jinja_int(in.type == JINJA_BOOL ? in.boolean
                         : in.integer < 0      ? -in.integer
                                               : in.integer);
    else
        return jinja_fail(j, PD_EINVAL, "abs of a %s", jinja_type_name(&in));
    return 0;
}

/* ---- anything -----------------------------------------------------------------------------------
 */

static int filter_default(struct jinja *j, struct jinja_value in, const struct jinja_value *args,
                          struct jinja_value *out)
{
    *out = in;
    if (in.type == JINJA_UNDEFINED || (jinja_truth(&args[1]) && !jinja_truth(&in)))
        *out = jinja_absent(&args[0]) ? jinja_of_text(jinja_own(j, PD_STR(""))) : args[0];
    return 0;
}

static int filter_length(struct jinja *j, struct jinja_value in, const struct jinja_value *args,
                         struct jinja_value *out)
{
    size_t n = 0;
    int rc = jinja_length(j, &in, &n);

    (void)args;
    *out = jinja_int((int64_t)n);
    return rc;
}

static int filter_attr(struct jinja *j, struct jinja_value in, const struct jinja_value *args,
                       struct jinja_value *out)
{
    if (args[0].type != JINJA_STRING)
        return jinja_fail(j, PD_EINVAL, "attr: a name is a string");
    /* an item is no attribute */
    if (in.type == JINJA_DICT && !jinja_has_method(&in, jinja_str(args[0].text))) {
        *out = jinja_undefined(jinja_str(args[0].text));
        return 0;
    }
    return jinja_get_attr(j, &in, jinja_str(args[0].text), out);
}

/* ---- lists --------------------------------------------------------------------------------------
 */

static int filter_first(struct jinja *j, struct jinja_value in, const struct jinja_value *args,
                        struct jinja_value *out)
{
    const struct jinja_value *items;
    size_t n = 0;
    int rc = jinja_items(j, &in, &items, &n);

    (void)args;
    if (rc == 0)
        *out = n > 0 ? items[0] : jinja_undefined(PD_STR("the first of nothing"));
    if (rc == 0 && n > 0 && in.type == JINJA_ITERATOR)
        in.list->at -= n - 1;
    return rc;
}

static int filter_last(struct jinja *j, struct jinja_value in, const struct jinja_value *args,
                       struct jinja_value *out)
{
    const struct jinja_value *items;
    size_t n = 0;
    int rc = in.type == JINJA_ITERATOR
                 ? jinja_fail(j, PD_EINVAL, "last: an iterator has no end to start from")
                 : jinja_items(j, &in, &items, &n);

    (void)args;
    if (rc == 0)
        *out = n > 0 ? items[n - 1] : jinja_undefined(PD_STR("the last of nothing"));
    return rc;
}

/* A new list of what `in` iterates over, to be changed. */
static int copied(struct jinja *j, const struct jinja_value *in, enum jinja_type type,
                  struct jinja_value *out)
{
    const struct jinja_value *items;
    size_t n;
    int rc = jinja_items(j, in, &items, &n);

    if (rc == 0)
        rc = jinja_new_list(j, type, n, out);
    if (rc == 0 && n > 0)
        memcpy(out->list->items, items, n * sizeof(*items));
    if (rc == 0)
        out->list->n = n;
    return rc;
}

static int filter_list(struct jinja *j, struct jinja_value in, const struct jinja_value *args,
                       struct jinja_value *out)
{
    (void)args;
    return copied(j, &in, JINJA_LIST, out);
}

static int filter_items(struct jinja *j, struct jinja_value in, const struct jinja_value *args,
                        struct jinja_value *out)
{
    struct jinja_method m = {in, PD_STR("items")};
    struct jinja_call none = {NULL, 0, NULL, 0};
    int rc;

    (void)args;
    if (in.type == JINJA_UNDEFINED)
        return jinja_new_list(j, JINJA_ITERATOR, 0, out);
    if (in.type != JINJA_DICT)
        return jinja_fail(j, PD_EINVAL, "items: a %s is no mapping", jinja_type_name(&in));
    rc = jinja_call_method(j, &m, &none, out);
    if (rc == 0)
        out->type = JINJA_ITERATOR;
    return rc;
}

static int filter_reverse(struct jinja *j, struct jinja_value in, const struct jinja_value *args,
                          struct jinja_value *out)
{
    struct jinja_builder b = {NULL, NULL, 0, 0};
    struct jinja_value list;
    int rc = copied(j, &in, in.type == JINJA_ITERATOR ? JINJA_LIST : JINJA_ITERATOR, &list);

    (void)args;
    if (rc < 0)
        return rc;
    for (size_t a = 0, e = list.list->n; a + 1 < e; a++) {
        struct jinja_value swap = list.list->items[a];

        list.list->items[a] = list.list->items[--e];
        list.list->items[e] = swap;
    }
    *out = list;
    if (in.type == JINJA_STRING) {
        for (size_t i = 0; i < list.list->n; i++)
            jinja_addt(j, &b, list.list->items[i].text);
        *out = jinja_of_text(jinja_built(&b));
        out->text.safe = in.text.safe;
    }
    return j->rc;
}

static int filter_join(struct jinja *j, struct jinja_value in, const struct jinja_value *args,
                       struct jinja_value *out)
{
    struct jinja_builder b = {NULL, NULL, 0, 0};
    struct jinja_text between = jinja_own(j, PD_STR(""));
    const struct jinja_value *items;
    size_t n = 0;
    int rc = jinja_items(j, &in, &items, &n);

    if (rc == 0 && !jinja_absent(&args[0]))
        rc = jinja_to_text(j, &args[0], &between);
    for (size_t i = 0; rc == 0 && i < n; i++) {
        struct jinja_value item = items[i];
        struct jinja_text t;

        if (is_given(&args[1]))
            rc = get_attribute(j, items[i], &args[1], &item);
        if (rc == 0)
            rc = jinja_to_text(j, &item, &t);
        if (rc == 0 && i > 0)
            jinja_addt(j, &b, between);
        if (rc == 0)
            jinja_addt(j, &b, t);
    }
    *out = jinja_of_text(jinja_built(&b));
    return rc < 0 ? rc : j->rc;
}

/* What items are compared by: an attribute of them, in lower case unless case_sensitive. */
static int sort_key(struct jinja *j, struct jinja_value item, const struct jinja_value *attribute,
                    bool case_sensitive, struct jinja_value *out)
{
    int rc = 0;

    *out = item;
    if (attribute && is_given(attribute))
        rc = get_attribute(j, item, attribute, out);
    if (rc == 0 && !case_sensitive && out->type == JINJA_STRING)
        rc = jinja_case(j, out->text, JINJA_LOWER, &out->text);
    return rc;
}

/* Stable, by insertion: lists in templates are short, and steps are counted. */
static int sort_by(struct jinja *j, struct jinja_list *l, struct jinja_value *keys, bool reverse)
{
    for (size_t i = 1; i < l->n; i++) {
        struct jinja_value key = keys[i], item = l->items[i];
        size_t at = i;

        for (; at > 0; at--) {
            int cmp, rc = jinja_order(j, &keys[at - 1], &key, &cmp);

            if (rc < 0)
                return rc;
            if (reverse ? cmp >= 0 : cmp <= 0)
                break;
            keys[at] = keys[at - 1];
            l->items[at] = l->items[at - 1];
        }
        keys[at] = key;
        l->items[at] = item;
    }
    return 0;
}

static int filter_sort(struct jinja *j, struct jinja_value in, const struct jinja_value *args,
                       struct jinja_value *out)
{
    struct jinja_value *keys;
    int rc = copied(j, &in, JINJA_LIST, out);

    if (rc < 0)
        return rc;
    keys = jinja_alloc(j, out->list->n, sizeof(*keys));
    if (!keys)
        return j->rc;
    for (size_t i = 0; rc == 0 && i < out->list->n; i++)
        rc = sort_key(j, out->list->items[i], &args[2], jinja_truth(&args[1]), &keys[i]);
    return rc < 0 ? rc : sort_by(j, out->list, keys, jinja_truth(&args[0]));
}

static int filter_dictsort(struct jinja *j, struct jinja_value in, const struct jinja_value *args,
                           struct jinja_value *out)
{
    bool by_value = false;
    struct jinja_value *keys;
    int rc;

    if (in.type != JINJA_DICT)
        return jinja_fail(j, PD_EINVAL, "dictsort: a %s is no mapping", jinja_type_name(&in));
    if (!jinja_absent(&args[1])) {
        by_value =
            args[1].type == JINJA_STRING && pd_str_eq(jinja_str(args[1].text), PD_STR("value"));
        if (!by_value &&
            (args[1].type != JINJA_STRING || !pd_str_eq(jinja_str(args[1].text), PD_STR("key"))))
            return jinja_fail(j, PD_EINVAL, "dictsort: by is 'key' or 'value'");
    }
    rc = filter_items(j, in, args, out);
    if (rc < 0)
        return rc;
    out->type = JINJA_LIST;
    keys = jinja_alloc(j, out->list->n, sizeof(*keys));
    if (!keys)
        return j->rc;
    for (size_t i = 0; rc == 0 && i < out->list->n; i++)
        rc = sort_key(j, out->list->items[i].list->items[by_value], NULL, jinja_truth(&args[0]),
                      &keys[i]);
    return rc < 0 ? rc : sort_by(j, out->list, keys, jinja_truth(&args[2]));
}

static int filter_unique(struct jinja *j, struct jinja_value in, const struct jinja_value *args,
                         struct jinja_value *out)
{
    struct jinja_value seen = jinja_list(j);
    const struct jinja_value *items;
    size_t n = 0;
    int rc = jinja_items(j, &in, &items, &n);

    if (rc == 0)
        rc = jinja_new_list(j, JINJA_ITERATOR, n, out);
    for (size_t i = 0; rc == 0 && i < n; i++) {
        struct jinja_value key;
        bool known = false;

        rc = sort_key(j, items[i], &args[1], jinja_truth(&args[0]), &key);
        if (rc == 0 && (key.type == JINJA_LIST || key.type == JINJA_DICT))
            rc = jinja_fail(j, PD_EINVAL, "unique: of a %s", jinja_type_name(&key));
        if (rc == 0)
            rc = jinja_contains(j, &seen, &key, &known);
        if (rc == 0 && !known) {
            jinja_append(j, seen, key);
            jinja_append(j, *out, items[i]);
        }
    }
    return rc < 0 ? rc : j->rc;
}

/* ---- filters with a filter or a test ------------------------------------------------------------
 */

/* The arguments behind the first n. */
static struct jinja_call behind(const struct jinja_call *call, size_t n)
{
    return (struct jinja_call){call->args + n, call->n_args - n, call->keywords, call->n_keywords};
}

static int name_of(struct jinja *j, const struct jinja_value *v, struct pd_str *out)
{
    if (v->type != JINJA_STRING)
        return jinja_fail(j, PD_EINVAL, "the name of a filter or test is a %s", jinja_type_name(v));
    *out = jinja_str(v->text);
    return 0;
}

static int filter_map(struct jinja *j, struct jinja_value in, const struct jinja_call *call,
                      struct jinja_value *out)
{
    static const char *const names[] = {"attribute", "default", NULL};
    struct jinja_value args[2];
    const struct jinja_value *items;
    struct pd_str name;
    size_t n = 0;
    int rc = jinja_truth(&in) ? jinja_items(j, &in, &items, &n) : 0; /* also of none: nothing */

    if (rc == 0)
        rc = jinja_new_list(j, JINJA_ITERATOR, n, out);
    if (rc == 0 && call->n_args == 0)
        rc = jinja_bind(j, "map", call, names, 1, args);
    else if (rc == 0)
        rc = name_of(j, &call->args[0], &name);
    for (size_t i = 0; rc == 0 && i < n; i++) {
        struct jinja_value v;

        if (call->n_args > 0) {
            struct jinja_call rest = behind(call, 1);

            rc = jinja_filter(j, name, items[i], &rest, &v);
        } else {
            rc = get_attribute(j, items[i], &args[0], &v);
            if (rc == 0 && v.type == JINJA_UNDEFINED && is_given(&args[1]))
                v = args[1];
        }
        jinja_append(j, *out, v);
    }
    return rc < 0 ? rc : j->rc;
}

/* select, reject; selectattr, rejectattr (by_attribute) */
static int choose(struct jinja *j, struct jinja_value in, const struct jinja_call *call,
                  bool by_attribute, bool wanted, struct jinja_value *out)
{
    const struct jinja_value *items;
    size_t n = 0, used = by_attribute;
    struct pd_str test = {NULL, 0};
    int rc = jinja_truth(&in) ? jinja_items(j, &in, &items, &n) : 0; /* also of none: nothing */

    if (rc == 0 && call->n_args < used)
        rc = jinja_fail(j, PD_EINVAL, "selectattr needs an attribute");
    if (rc == 0)
        rc = jinja_new_list(j, JINJA_ITERATOR, n, out);
    if (rc == 0 && call->n_args > used)
        rc = name_of(j, &call->args[used++], &test);
    for (size_t i = 0; rc == 0 && i < n; i++) {
        struct jinja_value v = items[i];
        bool is = false;

        if (by_attribute)
            rc = get_attribute(j, items[i], &call->args[0], &v);
        if (rc == 0 && test.ptr) {
            struct jinja_call rest = behind(call, used);

            rc = jinja_test(j, test, &v, &rest, &is);
        } else {
            is = jinja_truth(&v);
        }
        if (rc == 0 && is == wanted)
            jinja_append(j, *out, items[i]);
    }
    return rc < 0 ? rc : j->rc;
}

/* ---- the table ----------------------------------------------------------------------------------
 */

int jinja_filter(struct jinja *j, struct pd_str name, struct jinja_value in,
                 const struct jinja_call *call, struct jinja_value *out)
{
    static const struct {
        const char *name;
        int (*run)(struct jinja *j, struct jinja_value in, const struct jinja_value *args,
                   struct jinja_value *out);
        size_t n_needed;
        const char *params[PARAMS_MAX + 1];
    } filters[] = {
        {"trim", filter_trim, 0, {"chars"}},
        {"upper", filter_upper, 0, {NULL}},
        {"lower", filter_lower, 0, {NULL}},
        {"capitalize", filter_capitalize, 0, {NULL}},
        {"title", filter_title, 0, {NULL}},
        {"string", filter_string, 0, {NULL}},
        {"safe", filter_safe, 0, {NULL}},
        {"e", filter_escape, 0, {NULL}},
        {"escape", filter_escape, 0, {NULL}},
        {"replace", filter_replace, 2, {"old", "new", "count"}},
        {"indent", filter_indent, 0, {"width", "first", "blank"}},
        {"tojson", filter_tojson, 0, {"ensure_ascii", "indent", "separators", "sort_keys"}},
        {"int", filter_int, 0, {"default"}},
        {"float", filter_float, 0, {"default"}},
        {"abs", filter_abs, 0, {NULL}},
        {"default", filter_default, 0, {"default_value", "boolean"}},
        {"d", filter_default, 0, {"default_value", "boolean"}},
        {"length", filter_length, 0, {NULL}},
        {"count", filter_length, 0, {NULL}},
        {"attr", filter_attr, 1, {"name"}},
        {"first", filter_first, 0, {NULL}},
        {"last", filter_last, 0, {NULL}},
        {"list", filter_list, 0, {NULL}},
        {"items", filter_items, 0, {NULL}},
        {"reverse", filter_reverse, 0, {NULL}},
        {"join", filter_join, 0, {"d", "attribute"}},
        {"sort", filter_sort, 0, {"reverse", "case_sensitive", "attribute"}},
        {"dictsort", filter_dictsort, 0, {"case_sensitive", "by", "reverse"}},
        {"unique", filter_unique, 0, {"case_sensitive", "attribute"}},
    };
    int rc = jinja_step(j, 0);

    if (rc < 0)
        return rc;
    for (size_t i = 0; i < sizeof(filters) / sizeof(filters[0]); i++)
        if (pd_str_eq(name, pd_str_of(filters[i].name))) {
            struct jinja_value args[PARAMS_MAX + 1];

            rc = jinja_bind(j, filters[i].name, call, filters[i].params, filters[i].n_needed, args);
            return rc < 0 ? rc : filters[i].run(j, in, args, out);
        }
    if (pd_str_eq(name, PD_STR("map")))
        return filter_map(j, in, call, out);
    if (pd_str_eq(name, PD_STR("select")) || pd_str_eq(name, PD_STR("reject")))
        return choose(j, in, call, false, name.ptr[0] == 's', out);
    if (pd_str_eq(name, PD_STR("selectattr")) || pd_str_eq(name, PD_STR("rejectattr")))
        return choose(j, in, call, true, name.ptr[0] == 's', out);
    return jinja_fail(j, PD_EFORMAT, "filter '%.*s' is not supported", JINJA_NAME(name));
}

/* ---- tests --------------------------------------------------------------------------------------
 */

static bool is_type(const struct jinja_value *v, struct pd_str name, bool *out)
{
    enum jinja_type t = v->type;
    bool sized = t == JINJA_STRING || t == JINJA_LIST || t == JINJA_TUPLE || t == JINJA_DICT;
    const struct {
        const char *name;
        bool is;
    } tests[] = {
        {"defined", t != JINJA_UNDEFINED},
        {"undefined", t == JINJA_UNDEFINED},
        {"none", t == JINJA_NONE},
        {"boolean", t == JINJA_BOOL},
        {"true", t == JINJA_BOOL && v->boolean},
        {"false", t == JINJA_BOOL && !v->boolean},
        {"integer", t == JINJA_INT},
        {"float", t == JINJA_FLOAT},
        {"number", jinja_is_number(v)},
        {"string", t == JINJA_STRING},
        {"mapping", t == JINJA_DICT},
        /* an undefined value iterates over nothing and has the length 0 */
        {"iterable", sized || t == JINJA_UNDEFINED || t == JINJA_ITERATOR || t == JINJA_VIEW ||
                         t == JINJA_LOOP},
        {"sequence", sized || t == JINJA_UNDEFINED || (t == JINJA_VIEW && v->list->is_range)},
        {"callable", t == JINJA_UNDEFINED || t == JINJA_MACRO || t == JINJA_FUNCTION ||
                         t == JINJA_METHOD || t == JINJA_LOOP},
    };

    for (size_t i = 0; i < sizeof(tests) / sizeof(tests[0]); i++)
        if (pd_str_eq(name, pd_str_of(tests[i].name))) {
            *out = tests[i].is;
            return true;
        }
    return false;
}

static int is_whole(struct jinja *j, const struct jinja_value *v, int64_t *out)
{
    if (v->type != JINJA_INT && v->type != JINJA_BOOL)
        return jinja_fail(j, PD_EINVAL, "a %s is no whole number", jinja_type_name(v));
    *out = v->type == JINJA_BOOL ? v->boolean : v->integer;
    return 0;
}

static bool is_one_of(struct pd_str name, const char *a, const char *b, const char *c)
{
    return pd_str_eq(name, pd_str_of(a)) || pd_str_eq(name, pd_str_of(b)) ||
           pd_str_eq(name, pd_str_of(c));
}

int jinja_test(struct jinja *j, struct pd_str name, const struct jinja_value *v,
               const struct jinja_call *call, bool *out)
{
    static const char *const nothing[] = {NULL}, *const one[] = {"other", NULL};
    struct jinja_value other;
    int64_t n = 0, by = 0;
    int cmp = 0, rc = jinja_step(j, 0);

    if (rc < 0)
        return rc;
    if (is_type(v, name, out))
        return jinja_bind(j, "this test", call, nothing, 0, NULL);
    if (pd_str_eq(name, PD_STR("odd")) || pd_str_eq(name, PD_STR("even"))) {
        rc = jinja_bind(j, "this test", call, nothing, 0, NULL);
        if (rc == 0)
            rc = is_whole(j, v, &n);
        *out = (n % 2 != 0) == (name.ptr[0] == 'o');
        return rc;
    }
    if (pd_str_eq(name, PD_STR("upper")) || pd_str_eq(name, PD_STR("lower")) ||
        pd_str_eq(name, PD_STR("sameas")) || pd_str_eq(name, PD_STR("escaped")) ||
        pd_str_eq(name, PD_STR("filter")) || pd_str_eq(name, PD_STR("test")))
        return jinja_fail(j, PD_EFORMAT, "test '%.*s' is not supported", JINJA_NAME(name));
    rc = jinja_bind(j, "this test", call, one, 0, &other);
    if (rc < 0)
        return rc;
    if (pd_str_eq(name, PD_STR("in"))) {
        rc = jinja_contains(j, &other, v, out);
    } else if (is_one_of(name, "==", "eq", "equalto")) {
        rc = jinja_equal(j, v, &other, out);
    } else if (is_one_of(name, "!=", "ne", "ne")) {
        rc = jinja_equal(j, v, &other, out);
        *out = !*out;
    } else if (is_one_of(name, "<", "lt", "lessthan")) {
        rc = jinja_order(j, v, &other, &cmp);
        *out = cmp < 0;
    } else if (is_one_of(name, ">", "gt", "greaterthan")) {
        rc = jinja_order(j, v, &other, &cmp);
        *out = cmp > 0;
    } else if (is_one_of(name, "<=", "le", "le")) {
        rc = jinja_order(j, v, &other, &cmp);
        *out = cmp <= 0;
    } else if (is_one_of(name, ">=", "ge", "ge")) {
        rc = jinja_order(j, v, &other, &cmp);
        *out = cmp >= 0;
    } else if (pd_str_eq(name, PD_STR("divisibleby"))) {
        rc = is_whole(j, v, &n);
        if (rc == 0)
            rc = is_whole(j, &other, &by);
        if (rc == 0 && by == 0)
            rc = jinja_fail(j, PD_EINVAL, "division by zero");
        *out = rc == 0 && (by == -1 || n % by == 0);
    } else {
        rc = jinja_fail(j, PD_EFORMAT, "test '%.*s' is not supported", JINJA_NAME(name));
    }
    return rc;
}
