/* Comments are blanks when the text is read as JSON, so that every value keeps its place. */
#include "base/jsonc.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define LIST_MAX 400 /* characters of a list of keys in an error */

int pd_jsonc_parse(struct pd_jsonc *d, const char *name, struct pd_str text, struct pd_err *err)
{
    int rc;

    *d = (struct pd_jsonc){
        .name = pd_str_dup(pd_str_of(name)), .text = pd_str_dup(text), .len = text.len};
    if (!d->name || !d->text) {
        pd_jsonc_done(d);
        return pd_fail(err, PD_ENOMEM, "out of memory");
    }
    rc = pd_json_uncomment(d->text, d->len, err);
    if (rc == 0)
        rc = pd_json_parse((struct pd_str){d->text, d->len}, &d->root, err);
    if (rc < 0)
        pd_err_context(err, "%s", name);
    else if (!pd_json_is_object(d->root))
        rc = pd_jsonc_fail(d, d->root, err, PD_EFORMAT, "expected an object, {…}");
    if (rc < 0)
        pd_jsonc_done(d);
    return rc;
}

void pd_jsonc_done(struct pd_jsonc *d)
{
    pd_json_free(d->root);
    free(d->text);
    free(d->name);
    *d = (struct pd_jsonc){0};
}

int pd_jsonc_fail(const struct pd_jsonc *d, const struct pd_json *v, struct pd_err *err,
                  enum pd_code code, const char *fmt, ...)
{
    struct pd_json_place at =
        pd_json_find((struct pd_str){d->text, d->len}, d->root, v ? v : d->root);
    char why[sizeof err->text];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(why, sizeof why, fmt, ap);
    va_end(ap);
    return pd_fail(err, code, "%s:%zu:%zu: %s", d->name, at.line, at.column, why);
}

int pd_jsonc_keys(const struct pd_jsonc *d, const struct pd_json *obj, const char *const *keys,
                  struct pd_err *err)
{
    for (const struct pd_json *v = pd_json_first(obj); v; v = pd_json_next(v)) {
        struct pd_buf all = PD_BUF_INIT(LIST_MAX);
        const char *near;
        size_t i = 0;
        int rc;

        while (keys[i] && strcmp(keys[i], pd_json_key(v)) != 0)
            i++;
        if (keys[i])
            continue;
        near = pd_str_nearest(pd_str_of(pd_json_key(v)), keys);
        for (i = 0; keys[i]; i++)
            pd_buf_printf(&all, "%s%s", i ? ", " : "", keys[i]);
        rc = near ? pd_jsonc_fail(d, v, err, PD_EFORMAT, "unknown key '%.60s': did you mean '%s'?",
                                  pd_json_key(v), near)
                  : pd_jsonc_fail(d, v, err, PD_EFORMAT, "unknown key '%.60s' (there are: %s)",
                                  pd_json_key(v), pd_buf_str(&all).ptr);
        pd_buf_done(&all);
        return rc;
    }
    return 0;
}

int pd_jsonc_string(const struct pd_jsonc *d, const struct pd_json *obj, const char *key,
                    const char **out, struct pd_err *err)
{
    const struct pd_json *v = pd_json_get(obj, key);

    if (v && !pd_json_string(v))
        return pd_jsonc_fail(d, v, err, PD_EFORMAT, "%s: expected a text", key);
    *out = v ? pd_json_string(v) : *out;
    return 0;
}

int pd_jsonc_uint(const struct pd_jsonc *d, const struct pd_json *obj, const char *key,
                  uint64_t min, uint64_t max, uint64_t *out, struct pd_err *err)
{
    const struct pd_json *v = pd_json_get(obj, key);
    int64_t n;

    if (!v)
        return 0;
    if (!pd_json_int(v, &n) || n < 0 || (uint64_t)n < min || (uint64_t)n > max)
        return pd_jsonc_fail(d, v, err, PD_EFORMAT, "%s: expected a whole number from %llu to %llu",
                             key, (unsigned long long)min, (unsigned long long)max);
    *out = (uint64_t)n;
    return 0;
}

int pd_jsonc_double(const struct pd_jsonc *d, const struct pd_json *obj, const char *key,
                    double min, double max, double *out, struct pd_err *err)
{
    const struct pd_json *v = pd_json_get(obj, key);
    double n;

    if (!v)
        return 0;
    if (!pd_json_number(v, &n) || n < min || n > max)
        return pd_jsonc_fail(d, v, err, PD_EFORMAT, "%s: expected a number from %g to %g", key, min,
                             max);
    *out = n;
    return 0;
}

int pd_jsonc_bool(const struct pd_jsonc *d, const struct pd_json *obj, const char *key, bool *out,
                  struct pd_err *err)
{
    const struct pd_json *v = pd_json_get(obj, key);

    if (v && !pd_json_bool(v, out))
        return pd_jsonc_fail(d, v, err, PD_EFORMAT, "%s: expected true or false", key);
    return 0;
}

int pd_jsonc_object(const struct pd_jsonc *d, const struct pd_json *obj, const char *key,
                    const struct pd_json **out, struct pd_err *err)
{
    const struct pd_json *v = pd_json_get(obj, key);

    if (v && !pd_json_is_object(v))
        return pd_jsonc_fail(d, v, err, PD_EFORMAT, "%s: expected an object, {…}", key);
    *out = v ? v : *out;
    return 0;
}

int pd_jsonc_array(const struct pd_jsonc *d, const struct pd_json *obj, const char *key,
                   const struct pd_json **out, struct pd_err *err)
{
    const struct pd_json *v = pd_json_get(obj, key);

    if (v && !pd_json_is_array(v))
        return pd_jsonc_fail(d, v, err, PD_EFORMAT, "%s: expected an array, […]", key);
    *out = v ? v : *out;
    return 0;
}
