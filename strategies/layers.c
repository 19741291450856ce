/* Reading the layers of a pipeline. The construction rules are Archon's (arXiv:2409.15254, §3.3).
 */
#include "strategies/layers.h"

#include "strategies/nested.h"

/* A kind of component: what it may be told, how many may stand side by side, and what has to come
 * next. */
static const struct kind {
    const char *name, *options;
    bool several;
    unsigned next; /* kinds of which one must follow; 0: any, or the end */
} kinds[] = {
    [LAYER_GENERATOR] = {"generator", "samples", true, 0},
    [LAYER_RANKER] = {"ranker", "top_k", false, 0},
    [LAYER_FUSER] = {"fuser", "samples", true, 0},
    [LAYER_CRITIC] = {"critic", "", false, 1u << LAYER_RANKER | 1u << LAYER_FUSER},
    [LAYER_VERIFIER] = {"verifier", "", false, 0},
    [LAYER_TESTS] = {"unit_test_generator", "checks", false, 1u << LAYER_EVALUATOR},
    [LAYER_EVALUATOR] = {"unit_test_evaluator", "top_k", false, 0},
};

#define N_KINDS (sizeof kinds / sizeof *kinds)

static const struct pd_param options_of_layers[] = {
    PD_INT(layer_options, samples, 1, 1, 256, "lines"),
    PD_INT(layer_options, top_k, 0, 0, 256, "candidates that are kept; 0: all"),
    PD_INT(layer_options, checks, 8, 1, 10, "checks that are asked for"),
    PD_INT(layer_options, tokens, 0, 0, 1 << 30, "most tokens of a strategy; 0: the job's"),
    {0},
};

const char *layer_name(enum layer_kind kind)
{
    return kinds[kind].name;
}

static bool has_word(const char *words, struct pd_str word)
{
    struct pd_str rest = pd_str_of(words);

    while (rest.len)
        if (pd_str_eq(nested_take(&rest, ' '), word))
            return true;
    return false;
}

static int set_option(struct layer_use *use, struct pd_str arg, struct pd_arena *arena,
                      struct pd_err *err)
{
    struct pd_str value = arg, key = nested_take(&value, '=');

    if (use->kind == LAYER_GENERATOR && !use->strategy && key.len == arg.len)
        return nested_parse(arg, arena, &use->strategy, &use->params, err);
    if (!has_word(use->strategy ? "tokens" : kinds[use->kind].options, key))
        return pd_fail(err, PD_EINVAL, "%s has no option '%.*s'", layer_name(use->kind),
                       (int)key.len, key.ptr);
    return pd_params_set(options_of_layers, &use->options, key, pd_str_trim(value), err);
}

static int parse_component(struct pd_str text, struct layer_use *use, struct pd_arena *arena,
                           struct pd_err *err)
{
    struct pd_str name, args;
    int rc = nested_split(text, &name, &args, err);

    if (rc < 0)
        return rc;
    pd_params_default(options_of_layers, &use->options);
    while (use->kind < N_KINDS && !pd_str_eq(name, pd_str_of(kinds[use->kind].name)))
        use->kind++;
    if (use->kind == N_KINDS)
        return pd_fail(err, PD_EINVAL,
                       "no component '%.*s' (there are: generator, ranker, fuser, critic, "
                       "verifier, unit_test_generator, unit_test_evaluator)",
                       (int)name.len, name.ptr);
    while (args.len && rc == 0)
        rc = set_option(use, nested_take(&args, ','), arena, err);
    return rc;
}

static int check_order(const struct layers *l, struct pd_err *err)
{
    for (int i = 0; i < l->n; i++) {
        const struct layer_use *u = &l->use[i], *next = i + 1 < l->n ? u + 1 : NULL;
        const struct kind *k = &kinds[u->kind];

        if ((u->kind == LAYER_GENERATOR) != (u->layer == 0))
            return pd_fail(err, PD_EINVAL, "generators are the first layer, and only that");
        if (next && next->layer == u->layer && (next->kind != u->kind || !k->several))
            return pd_fail(err, PD_EINVAL, "%s and %s cannot be in one layer", k->name,
                           layer_name(next->kind));
        if (k->next && (!next || !(k->next >> next->kind & 1)))
            return pd_fail(err, PD_EINVAL, "%s has to come directly before %s", k->name,
                           u->kind == LAYER_CRITIC ? "ranker or fuser" : "unit_test_evaluator");
        if (u->kind == LAYER_EVALUATOR && (i == 0 || u[-1].kind != LAYER_TESTS))
            return pd_fail(err, PD_EINVAL, "%s needs a unit_test_generator before it", k->name);
    }
    return 0;
}

int layers_parse(struct pd_str text, struct pd_arena *arena, struct layers *out, struct pd_err *err)
{
    struct pd_str rest = pd_str_trim(text).len ? text : PD_STR(LAYERS_DEFAULT);
    int rc = 0;

    *out = (struct layers){.n = 0};
    for (; rest.len && rc == 0; out->n_layers++) {
        struct pd_str layer = nested_take(&rest, ';');

        do {
            if (out->n == LAYERS_MAX)
                return pd_fail(err, PD_ELIMIT, "layers: more than %d components", LAYERS_MAX);
            out->use[out->n].layer = out->n_layers;
            rc = parse_component(nested_take(&layer, '+'), &out->use[out->n++], arena, err);
        } while (layer.len && rc == 0);
    }
    if (rc < 0)
        pd_err_context(err, "in layer %d of the pipeline", out->n_layers);
    return rc < 0 ? rc : check_order(out, err);
}
