/* Option tables; any thread, no state. */
#include "core/param.h"

static void put(const struct pd_param *p, void *values, double v)
{
    char *at = (char *)values + p->offset;

    if (p->type == PD_PARAM_DOUBLE)
        memcpy(at, &v, sizeof v);
    else if (p->type == PD_PARAM_BOOL)
        memcpy(at, &(bool){v != 0}, sizeof(bool));
    else if (p->type == PD_PARAM_TEXT)
        *at = '\0';
    else
        memcpy(at, &(int){(int)v}, sizeof(int));
}

static double get(const struct pd_param *p, const void *values)
{
    const char *at = (const char *)values + p->offset;
    double d;
    bool b;
    int i;

    if (p->type == PD_PARAM_DOUBLE)
        return memcpy(&d, at, sizeof d), d;
    if (p->type == PD_PARAM_BOOL)
        return memcpy(&b, at, sizeof b), b;
    return memcpy(&i, at, sizeof i), i;
}

/* The i-th of "a|b|c"; len 0 past the end. */
static struct pd_str choice(const char *choices, int i)
{
    const char *at = choices;

    for (; i > 0 && at; i--) {
        at = strchr(at, '|');
        at = at ? at + 1 : NULL;
    }
    if (!at)
        return (struct pd_str){"", 0};
    return (struct pd_str){at, strcspn(at, "|")};
}

void pd_params_default(const struct pd_param *table, void *values)
{
    for (const struct pd_param *p = table; p && p->name; p++)
        put(p, values, p->def);
}

int pd_params_set(const struct pd_param *table, void *values, struct pd_str key,
                  struct pd_str value, struct pd_err *err)
{
    const struct pd_param *p = table;
    struct pd_str c;
    int64_t i;
    double d;
    bool b;

    while (p && p->name && !pd_str_eq(pd_str_of(p->name), key))
        p++;
    if (!p || !p->name)
        return PD_ENOENT;
    switch (p->type) {
    case PD_PARAM_INT:
        if (!pd_parse_i64(value, &i) || (double)i < p->min || (double)i > p->max)
            return pd_fail(err, PD_EINVAL, "%s=%.*s: expected an integer from %.0f to %.0f",
                           p->name, (int)value.len, value.ptr, p->min, p->max);
        put(p, values, (double)i);
        return 0;
    case PD_PARAM_DOUBLE:
        if (!pd_parse_double(value, &d) || d < p->min || d > p->max)
            return pd_fail(err, PD_EINVAL, "%s=%.*s: expected a number from %g to %g", p->name,
                           (int)value.len, value.ptr, p->min, p->max);
        put(p, values, d);
        return 0;
    case PD_PARAM_BOOL:
        if (!pd_parse_bool(value, &b))
            return pd_fail(err, PD_EINVAL, "%s=%.*s: expected true or false", p->name,
                           (int)value.len, value.ptr);
        put(p, values, b);
        return 0;
    case PD_PARAM_TEXT:
        if ((double)value.len > p->max || memchr(value.ptr, '\0', value.len))
            return pd_fail(err, PD_EINVAL, "%s: expected a text of at most %.0f bytes", p->name,
                           p->max);
        memcpy((char *)values + p->offset, value.ptr, value.len);
        ((char *)values + p->offset)[value.len] = '\0';
        return 0;
    default:
        for (int k = 0; (c = choice(p->choices, k)).len; k++)
            if (pd_str_eq(c, value)) {
                put(p, values, k);
                return 0;
            }
        return pd_fail(err, PD_EINVAL, "%s=%.*s: expected one of %s", p->name, (int)value.len,
                       value.ptr, p->choices);
    }
}

void pd_params_json(const struct pd_param *table, const void *values, struct pd_jw *w)
{
    for (const struct pd_param *p = table; p && p->name; p++) {
        double v = p->type == PD_PARAM_TEXT ? 0 : get(p, values);

        pd_jw_key(w, p->name);
        if (p->type == PD_PARAM_TEXT)
            pd_jw_strz(w, (const char *)values + p->offset);
        else if (p->type == PD_PARAM_DOUBLE)
            pd_jw_double(w, v);
        else if (p->type == PD_PARAM_BOOL)
            pd_jw_bool(w, v != 0);
        else if (p->type == PD_PARAM_CHOICE)
            pd_jw_str(w, choice(p->choices, (int)v));
        else
            pd_jw_int(w, (int64_t)v);
    }
}

void pd_params_help(const struct pd_param *table, struct pd_buf *out)
{
    for (const struct pd_param *p = table; p && p->name; p++) {
        struct pd_str c = p->type == PD_PARAM_CHOICE ? choice(p->choices, (int)p->def) : PD_STR("");

        if (p->type == PD_PARAM_CHOICE)
            pd_buf_printf(out, "    %s=%.*s  %s (%s)\n", p->name, (int)c.len, c.ptr, p->help,
                          p->choices);
        else if (p->type == PD_PARAM_BOOL)
            pd_buf_printf(out, "    %s=%s  %s\n", p->name, p->def != 0 ? "true" : "false", p->help);
        else if (p->type == PD_PARAM_TEXT)
            pd_buf_printf(out, "    %s=  %s (a text of at most %.0f bytes)\n", p->name, p->help,
                          p->max);
        else if (p->type == PD_PARAM_INT)
            pd_buf_printf(out, "    %s=%.0f  %s (%.0f to %.0f)\n", p->name, p->def, p->help, p->min,
                          p->max);
        else
            pd_buf_printf(out, "    %s=%g  %s (%g to %g)\n", p->name, p->def, p->help, p->min,
                          p->max);
    }
}
