/* What --scorer names: a judge without a model, with its options, or else a reward model. */
#include "app/app_int.h"

/* The verifier for reward models. */
#define FOR_MODELS "step_tag"

static int set_options(const struct pd_verifier *v, struct pd_str list, void *params,
                       struct pd_err *err)
{
    for (bool more = true; more;) {
        ptrdiff_t comma = pd_str_find(list, PD_STR(","));
        struct pd_str kv = pd_str_sub(list, 0, comma < 0 ? list.len : (size_t)comma);
        ptrdiff_t eq = pd_str_find(kv, PD_STR("="));
        int rc;

        if (eq < 0)
            return pd_fail(err, PD_EINVAL,
                           "option '%.*s' of scorer '%s' is not of the form "
                           "KEY=VALUE",
                           (int)kv.len, kv.ptr, v->name);
        rc = pd_params_set(v->params, params, pd_str_sub(kv, 0, (size_t)eq),
                           pd_str_sub(kv, (size_t)eq + 1, kv.len), err);
        if (rc == PD_ENOENT) {
            struct pd_buf all = PD_BUF_INIT(4096);

            for (const struct pd_param *p = v->params; p && p->name; p++)
                pd_buf_printf(&all, "%s%s", p == v->params ? "" : ", ", p->name);
            rc = pd_fail(err, PD_EINVAL, "scorer '%s' has no option '%.*s' (it has: %s)", v->name,
                         (int)eq, kv.ptr, all.data ? all.data : "none");
            pd_buf_done(&all);
        }
        if (rc < 0)
            return rc;
        more = comma >= 0;
        list = pd_str_sub(list, kv.len + 1, list.len);
    }
    return 0;
}

int app_scorer_parse(const char *scorer, struct pd_arena *arena,
                     const struct pd_verifier **out_verifier, const void **out_params,
                     struct pd_err *err)
{
    struct pd_str name = {scorer, strcspn(scorer, ":")};
    const struct pd_verifier *v = NULL;
    void *params;
    int rc = 0;

    for (size_t i = 0; pd_verifiers[i] && !v; i++)
        if (pd_verifiers[i]->no_model && pd_str_eq(pd_str_of(pd_verifiers[i]->name), name))
            v = pd_verifiers[i];
    if (!v) {
        *out_verifier = pd_verifier_find(FOR_MODELS);
        *out_params = NULL;
        return 0;
    }
    params = pd_arena_alloc(arena, v->params_size + 1);
    if (!params)
        return pd_fail(err, PD_ENOMEM, "out of memory");
    pd_params_default(v->params, params);
    if (scorer[name.len])
        rc = set_options(v, pd_str_of(scorer + name.len + 1), params, err);
    if (rc == 0 && v->check)
        rc = v->check(params, err);
    if (rc < 0)
        return rc;
    *out_verifier = v;
    *out_params = params;
    return 0;
}
