/* What --scorer names: a judge without a model, with its options, or else a model and how it is
 * read. */
#include "app/app_int.h"

/* The verifier for reward models. */
#define FOR_MODELS "reward"

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

/* How a reward model is read stands behind its name: MODEL:kind=KIND,key=value. NULL: nothing does.
 */
static const char *model_options(const char *scorer)
{
    static const char mark[] = ":kind=";
    const char *last = NULL;

    for (const char *at = strstr(scorer, mark); at; at = strstr(at + 1, mark))
        last = at;
    return last;
}

char *app_scorer_model(const char *scorer)
{
    const char *options = model_options(scorer);

    return pd_str_dup(
        (struct pd_str){scorer, options ? (size_t)(options - scorer) : strlen(scorer)});
}

static const struct pd_verifier *without_model(const char *scorer)
{
    struct pd_str name = {scorer, strcspn(scorer, ":")};

    for (size_t i = 0; pd_verifiers[i]; i++)
        if (pd_verifiers[i]->no_model && pd_str_eq(pd_str_of(pd_verifiers[i]->name), name))
            return pd_verifiers[i];
    return NULL;
}

/* The verifier for a model: one that the kind names, else the one whose option the kind is. */
static const struct pd_verifier *with_model(struct pd_str *io_options)
{
    struct pd_str kind = *io_options;
    ptrdiff_t comma;

    if (kind.len)
        kind = pd_str_sub(kind, strlen("kind="), kind.len);
    comma = pd_str_find(kind, PD_STR(","));
    if (comma >= 0)
        kind.len = (size_t)comma;
    for (size_t i = 0; pd_verifiers[i]; i++)
        if (!pd_verifiers[i]->no_model && strcmp(pd_verifiers[i]->name, FOR_MODELS) != 0 &&
            pd_str_eq(pd_str_of(pd_verifiers[i]->name), kind)) {
            *io_options = comma < 0 ? PD_STR("")
                                    : pd_str_sub(*io_options, strlen("kind=") + kind.len + 1,
                                                 io_options->len);
            return pd_verifiers[i];
        }
    return pd_verifier_find(FOR_MODELS);
}

int app_scorer_parse(const char *scorer, struct pd_arena *arena,
                     const struct pd_verifier **out_verifier, const void **out_params,
                     struct pd_err *err)
{
    const struct pd_verifier *v = without_model(scorer);
    const char *said = v ? strchr(scorer, ':') : model_options(scorer);
    struct pd_str options = pd_str_of(said ? said + 1 : NULL);
    void *params;
    int rc = 0;

    if (!v)
        v = with_model(&options);
    params = pd_arena_alloc(arena, v->params_size + 1);
    if (!params)
        rc = pd_fail(err, PD_ENOMEM, "out of memory");
    if (rc == 0 && v->params)
        pd_params_default(v->params, params);
    if (rc == 0 && (options.len || (said && v->no_model)))
        rc = set_options(v, options, params, err);
    if (rc == 0 && v->check)
        rc = v->check(params, err);
    if (rc < 0)
        return rc;
    *out_verifier = v;
    *out_params = params;
    return 0;
}
