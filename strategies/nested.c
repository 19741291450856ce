#include "strategies/nested.h"

struct pd_str nested_take(struct pd_str *io_rest, char separator)
{
    struct pd_str all = *io_rest;
    size_t i = 0;

    for (int depth = 0; i < all.len && (depth > 0 || all.ptr[i] != separator); i++)
        depth += (all.ptr[i] == '(') - (all.ptr[i] == ')');
    *io_rest = pd_str_sub(all, i + 1, all.len);
    return pd_str_trim(pd_str_sub(all, 0, i));
}

int nested_split(struct pd_str text, struct pd_str *out_name, struct pd_str *out_args,
                 struct pd_err *err)
{
    ptrdiff_t open = pd_str_find(text, PD_STR("("));
    size_t at = open < 0 ? text.len : (size_t)open;
    int depth = 0;

    for (size_t i = 0; i < text.len; i++)
        depth += (text.ptr[i] == '(') - (text.ptr[i] == ')');
    if (depth != 0 || (open >= 0 && text.ptr[text.len - 1] != ')'))
        return pd_fail(err, PD_EINVAL, "the brackets of '%.*s' do not match", (int)text.len,
                       text.ptr);
    *out_name = pd_str_trim(pd_str_sub(text, 0, at));
    *out_args = open < 0 ? PD_STR("") : pd_str_sub(text, at + 1, text.len - 1);
    return 0;
}

static int set_option(const struct pd_strategy *st, void *params, struct pd_str arg,
                      struct pd_err *err)
{
    struct pd_str value = arg, key = nested_take(&value, '=');
    int rc;

    value = pd_str_trim(value);
    if (value.len > 1 && value.ptr[0] == '(' && value.ptr[value.len - 1] == ')')
        value = pd_str_sub(value, 1, value.len - 1);
    rc = st->params ? pd_params_set(st->params, params, key, value, err) : PD_ENOENT;
    return rc == PD_ENOENT
               ? pd_fail(err, PD_EINVAL, "%s has no option '%.*s'", st->name, (int)key.len, key.ptr)
               : rc;
}

int nested_parse(struct pd_str text, struct pd_arena *arena, const struct pd_strategy **out,
                 void **out_params, struct pd_err *err)
{
    struct pd_str name, args;
    int rc = nested_split(text, &name, &args, err);
    char *z = rc < 0 ? NULL : pd_arena_dup(arena, name);

    if (rc < 0)
        return rc;
    *out = z ? pd_strategy_find(z) : NULL;
    if (!*out)
        return pd_fail(err, PD_EINVAL,
                       "no strategy '%.*s' ('ponder solve --strategies' lists them)", (int)name.len,
                       name.ptr);
    *out_params = pd_arena_alloc(arena, (*out)->params_size + 1);
    if (!*out_params)
        return pd_fail(err, PD_ENOMEM, "out of memory for options");
    pd_params_default((*out)->params, *out_params);
    while (args.len && rc == 0)
        rc = set_option(*out, *out_params, nested_take(&args, ','), err);
    return rc;
}
