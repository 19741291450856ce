/* Recipes: see recipe.h. Options go through the tables of core and strategies, so that a recipe
 * takes what the command line takes, and what is wrong is said where it stands. */
#include "app/recipe.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "app/app_int.h"
#include "base/file.h"

#define DATA_MAX_BYTES    ((size_t)1 << 30)
#define PROBLEM_MAX_BYTES ((size_t)1 << 20)
#define ARENA_BYTES       ((size_t)4 << 30)
#define VARIANTS_MAX      1024
#define AXES_MAX          64 /* options that one variant sets */
#define REPEATS_MAX       100000
#define NAME_CHARS        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-"
#define NAME_LEN_MAX      64

/* One option and the values that it takes, one after another. */
struct axis {
    const char *key;
    const struct pd_json *value; /* an array: each of its elements */
    size_t n, at;
};

struct entry {
    const struct pd_json *json;
    const char *name, *scorer, *draft;
    const struct pd_strategy *strategy;
    struct axis axes[AXES_MAX];
    size_t n_axes, n_shared; /* the first are the generator's, unless the entry sets them too */
    bool own_sampling;
};

static int no_memory(struct pd_err *err)
{
    return pd_fail(err, PD_ENOMEM, "out of memory");
}

/* ---- options ------------------------------------------------------------------------------- */

/* A JSON value as the command line would write it; false: no text, number or truth value. */
static bool option_text(const struct pd_json *v, struct pd_buf *out)
{
    double d;
    bool b;

    if (pd_json_string(v))
        pd_buf_addz(out, pd_json_string(v));
    else if (pd_json_bool(v, &b))
        pd_buf_addz(out, b ? "true" : "false");
    else if (pd_json_number(v, &d)) {
        struct pd_jw w;

        pd_jw_init(&w, out); /* the shortest text that is this number: it is part of names */
        pd_jw_double(&w, d);
    } else {
        return false;
    }
    return true;
}

/* The tables that an option may be of; sampling: those of the generator alone. */
static size_t tables_of(const struct pd_strategy *st, bool sampling, const struct pd_param *out[4])
{
    size_t n = 0;

    if (!sampling && st->params)
        out[n++] = st->params;
    out[n++] = pd_common_params;
    if (!sampling) {
        out[n++] = app_decode_params;
        out[n++] = app_steering_params;
    }
    return n;
}

static int unknown_option(const struct recipe *r, const struct axis *a,
                          const struct pd_strategy *st, bool sampling, struct pd_err *err)
{
    const struct pd_param *tables[4];
    size_t n_tables = tables_of(st, sampling, tables);
    const char *names[128], *near;
    size_t n = 0;

    for (size_t t = 0; t < n_tables; t++)
        for (const struct pd_param *p = tables[t]; p->name && n < 127; p++)
            names[n++] = p->name;
    names[n] = NULL;
    near = pd_str_nearest(pd_str_of(a->key), names);
    return pd_jsonc_fail(&r->doc, a->value, err, PD_EFORMAT, "%s has no option '%.60s'%s%s%s",
                         sampling ? "sampling" : st->name, a->key, near ? ": did you mean '" : "",
                         near ? near : " (see ponder solve --strategies)", near ? "'?" : "");
}

/* Whether the tables take this option with this value. */
static int check_value(const struct recipe *r, const struct axis *a, const struct pd_json *v,
                       const struct pd_strategy *st, bool sampling, struct pd_err *err)
{
    const struct pd_param *tables[4];
    size_t n_tables = tables_of(st, sampling, tables);
    struct pd_buf text = PD_BUF_INIT(4096);
    struct pd_err why = {0};
    int rc = PD_ENOENT;

    if (!option_text(v, &text)) {
        pd_buf_done(&text);
        return pd_jsonc_fail(&r->doc, v, err, PD_EFORMAT,
                             "%s: expected a number, a text, true or false, or an array of them",
                             a->key);
    }
    for (size_t t = 0; t < n_tables && rc == PD_ENOENT; t++) {
        /* every table describes a struct, none of them larger than this */
        _Alignas(16) char scratch[4096];

        rc = pd_params_set(tables[t], scratch, pd_str_of(a->key), pd_buf_str(&text), &why);
    }
    pd_buf_done(&text);
    if (rc == PD_ENOENT)
        return unknown_option(r, a, st, sampling, err);
    return rc < 0 ? pd_jsonc_fail(&r->doc, v, err, PD_EFORMAT, "%s", why.text) : 0;
}

static int add_axis(const struct recipe *r, struct entry *e, const char *key,
                    const struct pd_json *value, bool sampling, struct pd_err *err)
{
    struct axis a = {.key = key, .value = value, .n = 1};
    bool list = pd_json_is_array(value);
    size_t i = 0;
    int rc = 0;

    if (list && pd_json_size(value) == 0)
        return pd_jsonc_fail(&r->doc, value, err, PD_EFORMAT, "%s: an empty array makes no job",
                             key);
    for (size_t k = 0; k < (list ? pd_json_size(value) : 1) && rc == 0; k++)
        rc = check_value(r, &a, list ? pd_json_at(value, k) : value, e->strategy, sampling, err);
    if (rc < 0)
        return rc;
    a.n = list ? pd_json_size(value) : 1;
    while (i < e->n_axes && strcmp(e->axes[i].key, key) != 0)
        i++;
    if (i == AXES_MAX)
        return pd_jsonc_fail(&r->doc, value, err, PD_EFORMAT, "more than %d options", AXES_MAX);
    if (i < e->n_axes && i >= e->n_shared)
        return pd_jsonc_fail(&r->doc, value, err, PD_EFORMAT, "%s is set twice", key);
    e->axes[i] = a;
    e->n_axes += i == e->n_axes;
    return 0;
}

static int add_axes(const struct recipe *r, struct entry *e, const struct pd_json *obj,
                    bool sampling, struct pd_err *err)
{
    int rc = 0;

    for (const struct pd_json *v = pd_json_first(obj); v && rc == 0; v = pd_json_next(v))
        rc = add_axis(r, e, pd_json_key(v), v, sampling, err);
    return rc;
}

/* ---- variants ------------------------------------------------------------------------------ */

static const struct pd_json *value_at(const struct axis *a)
{
    return pd_json_is_array(a->value) ? pd_json_at(a->value, a->at) : a->value;
}

/* The current point of the grid as a variant. */
static int add_variant(struct recipe *r, struct entry *e, struct pd_err *err)
{
    struct pd_buf name = PD_BUF_INIT(1024);
    const char **options = pd_arena_array(&r->arena, e->n_axes + 1, sizeof *options);
    struct recipe_variant *v = &r->variants[r->n_variants];

    if (!options)
        return no_memory(err);
    *v = (struct recipe_variant){.entry = e->name,
                                 .strategy = e->strategy,
                                 .options = options,
                                 .n_options = e->n_axes,
                                 .scorer = e->scorer,
                                 .draft = e->draft,
                                 .plain = !e->own_sampling};
    pd_buf_addz(&name, e->name);
    for (size_t i = 0; i < e->n_axes; i++) {
        struct pd_buf kv = PD_BUF_INIT(8192), value = PD_BUF_INIT(4096);
        bool samples = strcmp(e->axes[i].key, "samples") == 0;

        option_text(value_at(&e->axes[i]), &value);
        pd_buf_printf(&kv, "%s=%s", e->axes[i].key, pd_buf_str(&value).ptr);
        options[i] = pd_arena_dup(&r->arena, pd_buf_str(&kv));
        if (e->axes[i].n > 1)
            pd_buf_printf(&name, "%s%s%s", samples ? "@" : " ", samples ? "" : e->axes[i].key,
                          samples ? "" : "=");
        if (e->axes[i].n > 1)
            pd_buf_adds(&name, pd_buf_str(&value));
        if (samples)
            pd_parse_u64(pd_buf_str(&value), &v->samples);
        pd_buf_done(&kv);
        pd_buf_done(&value);
        if (!options[i])
            break;
    }
    v->name = pd_arena_dup(&r->arena, pd_buf_str(&name));
    pd_buf_done(&name);
    if (!v->name || (e->n_axes && !options[e->n_axes - 1]))
        return no_memory(err);
    r->n_variants++;
    return 0;
}

/* The number of samples that a variant draws when nothing says so. */
static uint64_t samples_of(const struct recipe_variant *v)
{
    if (v->samples)
        return v->samples;
    for (const struct pd_param *p = v->strategy->params; p && p->name; p++)
        if (strcmp(p->name, "samples") == 0)
            return (uint64_t)p->def;
    return 0;
}

/* All points of the entry's grid, the last axis first. */
static int expand(struct recipe *r, struct entry *e, struct pd_err *err)
{
    size_t i, total = 1;

    for (i = 0; i < e->n_axes; i++) {
        if (total > VARIANTS_MAX / e->axes[i].n)
            total = VARIANTS_MAX + 1;
        else
            total *= e->axes[i].n;
    }
    if (total + r->n_variants > VARIANTS_MAX)
        return pd_jsonc_fail(&r->doc, e->json, err, PD_EFORMAT,
                             "with '%s' there are more than %d variants", e->name, VARIANTS_MAX);
    do {
        int rc = add_variant(r, e, err);

        if (rc < 0)
            return rc;
        r->variants[r->n_variants - 1].samples = samples_of(&r->variants[r->n_variants - 1]);
        for (i = e->n_axes; i > 0 && ++e->axes[i - 1].at == e->axes[i - 1].n; i--)
            e->axes[i - 1].at = 0;
    } while (i > 0);
    return 0;
}

static int find_strategy(const struct recipe *r, const struct pd_json *json, const char *name,
                         const struct pd_strategy **out, struct pd_err *err)
{
    const char *names[128], *near;
    size_t n = 0;

    *out = pd_strategy_find(name);
    if (*out)
        return 0;
    for (; pd_strategies[n] && n < 127; n++)
        names[n] = pd_strategies[n]->name;
    names[n] = NULL;
    near = pd_str_nearest(pd_str_of(name), names);
    return pd_jsonc_fail(&r->doc, pd_json_get(json, "strategy"), err, PD_EFORMAT,
                         "no strategy '%.60s'%s%s%s", name, near ? ": did you mean '" : "",
                         near ? near : " (see ponder solve --strategies)", near ? "'?" : "");
}

static int check_name(const struct recipe *r, const struct pd_json *v, const char *name,
                      struct pd_err *err)
{
    if (!name[0] || strlen(name) > NAME_LEN_MAX || name[strspn(name, NAME_CHARS)])
        return pd_jsonc_fail(&r->doc, v, err, PD_EFORMAT,
                             "a name has 1 to %d letters, digits, dots, dashes or underscores",
                             NAME_LEN_MAX);
    return 0;
}

/* Whether any point of the grid needs a scorer. */
static bool needs_scorer(const struct entry *e)
{
    const struct pd_strategy *st = e->strategy;
    _Alignas(16) char scratch[4096];

    if (!st->scores)
        return st->needs_scorer;
    pd_params_default(st->params, scratch);
    for (size_t i = 0; i < e->n_axes; i++)
        for (size_t k = 0; k < e->axes[i].n; k++) {
            struct pd_buf text = PD_BUF_INIT(4096);
            const struct pd_json *v = pd_json_is_array(e->axes[i].value)
                                          ? pd_json_at(e->axes[i].value, k)
                                          : e->axes[i].value;

            option_text(v, &text);
            pd_params_set(st->params, scratch, pd_str_of(e->axes[i].key), pd_buf_str(&text), NULL);
            pd_buf_done(&text);
            if (st->scores(scratch))
                return true;
        }
    return st->scores(scratch);
}

static int read_entry(struct recipe *r, const struct pd_json *json, const struct entry *shared,
                      struct pd_err *err)
{
    static const char *const keys[] = {"name",     "strategy", "samples", "options",
                                       "sampling", "scorer",   "draft",   NULL};
    const struct pd_json *options = NULL, *sampling = NULL, *samples = pd_json_get(json, "samples");
    struct entry e = *shared;
    const char *strategy = NULL;
    int rc;

    if (!pd_json_is_object(json))
        return pd_jsonc_fail(&r->doc, json, err, PD_EFORMAT, "expected an object, {…}");
    e.json = json;
    e.scorer = r->scorer ? r->scorer : app_default_scorer;
    e.draft = r->draft;
    e.n_shared = e.n_axes;
    rc = pd_jsonc_keys(&r->doc, json, keys, err);
    if (rc == 0)
        rc = pd_jsonc_string(&r->doc, json, "strategy", &strategy, err);
    if (rc == 0 && !strategy)
        rc = pd_jsonc_fail(&r->doc, json, err, PD_EFORMAT, "\"strategy\" is missing");
    if (rc == 0)
        rc = find_strategy(r, json, strategy, &e.strategy, err);
    e.name = strategy;
    if (rc == 0)
        rc = pd_jsonc_string(&r->doc, json, "name", &e.name, err);
    if (rc == 0)
        rc = check_name(r, pd_json_get(json, "name"), e.name, err);
    for (size_t i = 0; i < r->n_variants && rc == 0; i++)
        if (strcmp(r->variants[i].entry, e.name) == 0)
            rc = pd_jsonc_fail(&r->doc, json, err, PD_EFORMAT, "there are two strategies '%s'",
                               e.name);
    if (rc == 0)
        rc = pd_jsonc_string(&r->doc, json, "scorer", &e.scorer, err);
    if (rc == 0)
        rc = pd_jsonc_string(&r->doc, json, "draft", &e.draft, err);
    if (rc == 0)
        rc = pd_jsonc_object(&r->doc, json, "sampling", &sampling, err);
    if (rc == 0)
        rc = pd_jsonc_object(&r->doc, json, "options", &options, err);
    e.own_sampling = sampling != NULL;
    if (rc == 0)
        rc = add_axes(r, &e, sampling, true, err);
    if (rc == 0 && samples)
        rc = add_axis(r, &e, "samples", samples, false, err);
    if (rc == 0)
        rc = add_axes(r, &e, options, false, err);
    if (rc == 0 && !needs_scorer(&e))
        e.scorer = NULL;
    return rc < 0 ? rc : expand(r, &e, err);
}

/* A majority over plain lines, as many as the most expensive variant draws, unless there is one:
 * what every strategy is compared with at equal cost. */
static int add_baseline(struct recipe *r, const struct entry *shared, struct pd_err *err)
{
    const struct pd_json *given = pd_json_get(r->doc.root, "baseline");
    struct entry e = *shared;
    char text[64];
    const char **options;
    struct recipe_variant *v;
    uint64_t most = 1, plain = 0;
    int rc;

    for (size_t i = 0; i < r->n_variants; i++) {
        v = &r->variants[i];
        most = v->samples > most ? v->samples : most;
        if (v->plain && v->samples > plain &&
            (strcmp(v->strategy->name, "self_consistency") == 0 ||
             strcmp(v->strategy->name, "best_of_n") == 0))
            plain = v->samples;
    }
    rc = pd_jsonc_uint(&r->doc, r->doc.root, "baseline", 0, 256, &most, err);
    if (rc < 0 || plain >= most || (most < 2 && !given) || most == 0)
        return rc;
    if (most > 256)
        most = 256;
    if (r->n_variants == VARIANTS_MAX)
        return pd_jsonc_fail(&r->doc, given, err, PD_EFORMAT, "there are more than %d variants",
                             VARIANTS_MAX);
    e.strategy = pd_strategy_find("self_consistency");
    e.name = "baseline";
    rc = add_variant(r, &e, err);
    if (rc < 0)
        return rc;
    v = &r->variants[r->n_variants - 1];
    v->added = true;
    v->samples = most;
    snprintf(text, sizeof text, "samples=%" PRIu64, most);
    options = pd_arena_array(&r->arena, v->n_options + 1, sizeof *options);
    if (!options)
        return no_memory(err);
    for (size_t i = 0; i < v->n_options; i++)
        options[i] = v->options[i];
    options[v->n_options++] = pd_arena_dup(&r->arena, pd_str_of(text));
    v->options = options;
    return options[v->n_options - 1] ? 0 : no_memory(err);
}

/* ---- the rest of the file ------------------------------------------------------------------- */

static int read_dataset(struct recipe *r, struct pd_err *err)
{
    static const char *const keys[] = {"path",     "sha256", "format", "id",
                                       "question", "answer", "limit",  NULL};
    const struct pd_json *d = NULL;
    const char *format = "plain";
    struct pd_err why = {0};
    int rc = pd_jsonc_object(&r->doc, r->doc.root, "dataset", &d, err);

    if (rc == 0 && !d)
        return pd_jsonc_fail(&r->doc, NULL, err, PD_EFORMAT, "\"dataset\" is missing");
    if (rc == 0)
        rc = pd_jsonc_keys(&r->doc, d, keys, err);
    if (rc == 0)
        rc = pd_jsonc_string(&r->doc, d, "path", &r->dataset.path, err);
    if (rc == 0 && !r->dataset.path)
        return pd_jsonc_fail(&r->doc, d, err, PD_EFORMAT, "\"path\" is missing");
    if (rc == 0)
        rc = pd_jsonc_string(&r->doc, d, "sha256", &r->dataset.sha256, err);
    if (rc == 0)
        rc = pd_jsonc_string(&r->doc, d, "format", &format, err);
    if (rc == 0 && dataset_format_find(format, &r->dataset.format, &why) < 0)
        return pd_jsonc_fail(&r->doc, pd_json_get(d, "format"), err, PD_EFORMAT, "%s", why.text);
    if (rc == 0)
        rc = pd_jsonc_string(&r->doc, d, "id", &r->dataset.id, err);
    if (rc == 0)
        rc = pd_jsonc_string(&r->doc, d, "question", &r->dataset.question, err);
    if (rc == 0)
        rc = pd_jsonc_string(&r->doc, d, "answer", &r->dataset.answer, err);
    if (rc == 0)
        rc = pd_jsonc_uint(&r->doc, d, "limit", 1, UINT32_MAX, &r->dataset.limit, err);
    return rc;
}

static int read_generator(struct recipe *r, struct entry *shared, struct pd_err *err)
{
    static const char *const keys[] = {"model",   "draft",    "system", "chat_template",
                                       "kv_type", "sampling", "step",   NULL};
    static const char *const step_keys[] = {"delimiter", "max_steps", NULL};
    const struct pd_json *g = NULL, *sampling = NULL, *step = NULL;
    const char *delimiter = "\n\n";
    int rc = pd_jsonc_object(&r->doc, r->doc.root, "generator", &g, err);

    r->model = app_default_model;
    if (rc < 0 || !g)
        return rc;
    rc = pd_jsonc_keys(&r->doc, g, keys, err);
    if (rc == 0)
        rc = pd_jsonc_string(&r->doc, g, "model", &r->model, err);
    if (rc == 0)
        rc = pd_jsonc_string(&r->doc, g, "draft", &r->draft, err);
    if (rc == 0)
        rc = pd_jsonc_string(&r->doc, g, "system", &r->system, err);
    if (rc == 0)
        rc = pd_jsonc_string(&r->doc, g, "chat_template", &r->chat_template, err);
    if (rc == 0)
        rc = pd_jsonc_string(&r->doc, g, "kv_type", &r->kv_type, err);
    if (rc == 0)
        rc = pd_jsonc_object(&r->doc, g, "sampling", &sampling, err);
    if (rc == 0)
        rc = pd_jsonc_object(&r->doc, g, "step", &step, err);
    if (rc == 0)
        rc = add_axes(r, shared, sampling, true, err);
    if (rc == 0 && step)
        rc = pd_jsonc_keys(&r->doc, step, step_keys, err);
    if (rc == 0)
        rc = pd_jsonc_string(&r->doc, step, "delimiter", &delimiter, err);
    if (rc == 0 && strcmp(delimiter, "\n\n") != 0)
        rc = pd_jsonc_fail(&r->doc, pd_json_get(step, "delimiter"), err, PD_EFORMAT,
                           "delimiter: steps end with an empty line, \"\\n\\n\", in this build");
    if (rc == 0 && pd_json_get(step, "max_steps"))
        rc = add_axis(r, shared, "max_steps", pd_json_get(step, "max_steps"), true, err);
    for (size_t i = 0; i < shared->n_axes && rc == 0; i++)
        if (pd_json_is_array(shared->axes[i].value))
            rc = pd_jsonc_fail(&r->doc, shared->axes[i].value, err, PD_EFORMAT,
                               "%s: one value here; an array of them belongs to a strategy",
                               shared->axes[i].key);
    return rc;
}

static int read_budget(struct recipe *r, struct pd_err *err)
{
    static const char *const keys[] = {"tokens_per_problem", "seconds_per_problem",
                                       "nodes_per_problem",  "wrap_up",
                                       "wrap_reserve",       NULL};
    const struct pd_json *b = NULL;
    uint64_t reserve = 0;
    int rc = pd_jsonc_object(&r->doc, r->doc.root, "budget", &b, err);

    if (rc < 0 || !b)
        return rc;
    rc = pd_jsonc_keys(&r->doc, b, keys, err);
    if (rc == 0)
        rc = pd_jsonc_uint(&r->doc, b, "tokens_per_problem", 1, INT64_MAX, &r->budget.tokens, err);
    if (rc == 0)
        rc = pd_jsonc_double(&r->doc, b, "seconds_per_problem", 0.001, PD_SECONDS_MAX,
                             &r->budget.seconds, err);
    if (rc == 0)
        rc = pd_jsonc_uint(&r->doc, b, "nodes_per_problem", 1, INT64_MAX, &r->budget.nodes, err);
    if (rc == 0)
        rc = pd_jsonc_string(&r->doc, b, "wrap_up", &r->budget.wrap_up, err);
    if (rc == 0)
        rc = pd_jsonc_uint(&r->doc, b, "wrap_reserve", 1, 1 << 20, &reserve, err);
    r->budget.wrap_reserve = (uint32_t)reserve;
    return rc;
}

static int read_grade(struct recipe *r, struct pd_err *err)
{
    static const char *const keys[] = {"type", NULL};
    const struct pd_json *g = NULL;
    const char *type = pd_grade_name(r->dataset.format->grade);
    struct pd_err why = {0};
    int rc = pd_jsonc_object(&r->doc, r->doc.root, "grade", &g, err);

    if (rc == 0 && g)
        rc = pd_jsonc_keys(&r->doc, g, keys, err);
    if (rc == 0 && g)
        rc = pd_jsonc_string(&r->doc, g, "type", &type, err);
    if (rc == 0 && pd_grade_find(type, &r->grade, &why) < 0)
        rc = pd_jsonc_fail(&r->doc, pd_json_get(g, "type"), err, PD_EFORMAT, "%s", why.text);
    return rc;
}

static int read_report(struct recipe *r, struct pd_err *err)
{
    static const char *const views[] = RECIPE_VIEWS;
    const struct pd_json *list = NULL;
    int rc = pd_jsonc_array(&r->doc, r->doc.root, "report", &list, err);

    r->views = list ? 0 : ~0u;
    for (const struct pd_json *v = pd_json_first(list); v && rc == 0; v = pd_json_next(v)) {
        const char *name = pd_json_string(v);
        size_t i = 0;

        while (name && views[i] && strcmp(views[i], name) != 0)
            i++;
        if (!name || !views[i])
            rc = pd_jsonc_fail(&r->doc, v, err, PD_EFORMAT,
                               "report: expected scaling, table, steps or length");
        else
            r->views |= 1u << i;
    }
    return rc;
}

static int read_recipe(struct recipe *r, struct pd_err *err)
{
    static const char *const keys[] = {
        "ponder_recipe", "name",    "seed",   "dataset", "generator", "scorer",  "strategies",
        "baseline",      "repeats", "budget", "grade",   "report",    "$schema", NULL};
    const struct pd_json *root = r->doc.root, *list = NULL;
    struct entry shared = {0};
    uint64_t version = 0, repeats = 1;
    int rc = pd_jsonc_keys(&r->doc, root, keys, err);

    if (rc == 0)
        rc = pd_jsonc_uint(&r->doc, root, "ponder_recipe", 1, 1, &version, err);
    if (rc == 0 && version != 1)
        rc = pd_jsonc_fail(&r->doc, NULL, err, PD_EFORMAT,
                           "not a recipe: \"ponder_recipe\": 1 is missing");
    if (rc == 0)
        rc = pd_jsonc_string(&r->doc, root, "name", &r->name, err);
    if (rc == 0 && !r->name)
        rc = pd_jsonc_fail(&r->doc, NULL, err, PD_EFORMAT, "\"name\" is missing");
    if (rc == 0)
        rc = check_name(r, pd_json_get(root, "name"), r->name, err);
    if (rc == 0)
        rc = pd_jsonc_uint(&r->doc, root, "seed", 0, (UINT64_C(1) << 53) - 1, &r->seed, err);
    if (rc == 0)
        rc = read_dataset(r, err);
    if (rc == 0)
        rc = read_generator(r, &shared, err);
    if (rc == 0)
        rc = pd_jsonc_string(&r->doc, root, "scorer", &r->scorer, err);
    if (rc == 0)
        rc = pd_jsonc_uint(&r->doc, root, "repeats", 1, REPEATS_MAX, &repeats, err);
    r->repeats = (uint32_t)repeats;
    if (rc == 0)
        rc = read_budget(r, err);
    if (rc == 0)
        rc = read_grade(r, err);
    if (rc == 0)
        rc = read_report(r, err);
    if (rc == 0)
        rc = pd_jsonc_array(&r->doc, root, "strategies", &list, err);
    if (rc == 0 && pd_json_size(list) == 0)
        rc = pd_jsonc_fail(&r->doc, list, err, PD_EFORMAT,
                           "\"strategies\" is missing or empty: nothing is to be done");
    r->variants = pd_arena_array(&r->arena, VARIANTS_MAX, sizeof *r->variants);
    if (rc == 0 && !r->variants)
        rc = no_memory(err);
    for (const struct pd_json *v = pd_json_first(list); v && rc == 0; v = pd_json_next(v))
        rc = read_entry(r, v, &shared, err);
    return rc < 0 ? rc : add_baseline(r, &shared, err);
}

int recipe_parse(const char *path, struct pd_str text, struct recipe **out, struct pd_err *err)
{
    struct recipe *r = calloc(1, sizeof *r);
    uint8_t sum[PD_SHA256_BYTES];
    int rc;

    if (!r)
        return no_memory(err);
    pd_arena_init(&r->arena, ARENA_BYTES);
    r->path = pd_arena_dup(&r->arena, pd_str_of(path));
    r->text = (struct pd_str){pd_arena_dup(&r->arena, text), text.len};
    rc = r->path && r->text.ptr ? pd_jsonc_parse(&r->doc, path, text, err) : no_memory(err);
    if (rc == 0)
        rc = read_recipe(r, err);
    if (rc < 0) {
        recipe_free(r);
        return rc;
    }
    pd_sha256_bytes(text.ptr, text.len, sum);
    pd_hex(sum, sizeof sum, r->sha256);
    *out = r;
    return 0;
}

int recipe_load(const char *path, struct recipe **out, struct pd_err *err)
{
    struct pd_buf text = PD_BUF_INIT(RECIPE_MAX_BYTES);
    int rc = pd_read_file(path, &text, err);

    if (rc == 0)
        rc = recipe_parse(path, pd_buf_str(&text), out, err);
    pd_buf_done(&text);
    return rc;
}

void recipe_free(struct recipe *r)
{
    if (!r)
        return;
    free(r->data_path);
    pd_jsonc_done(&r->doc);
    pd_arena_done(&r->arena);
    free(r);
}

/* ---- problems ------------------------------------------------------------------------------ */

static int find_data(struct recipe *r, struct pd_err *err)
{
    const char *slash = strrchr(r->path, '/');
    char *folder, *path;

    if (r->dataset.path[0] == '/' || !slash) {
        path = strdup(r->dataset.path);
    } else {
        folder = pd_str_dup((struct pd_str){r->path, (size_t)(slash - r->path)});
        path = folder ? pd_path_join(folder, r->dataset.path) : NULL;
        free(folder);
    }
    for (int i = 1; path && !pd_file_exists(path) && (folder = app_data_folder("problems", i));
         i++) {
        char *bundled = pd_path_join(folder, r->dataset.path);

        free(folder);
        if (bundled && pd_file_exists(bundled)) {
            free(path);
            path = bundled;
        } else {
            free(bundled);
        }
    }
    if (!path)
        return no_memory(err);
    if (!pd_file_exists(path)) {
        int rc = pd_jsonc_fail(
            &r->doc, pd_json_get(pd_json_get(r->doc.root, "dataset"), "path"), err, PD_ENOENT,
            "no data set '%s', neither there nor among the bundled problems", path);

        free(path);
        return rc;
    }
    r->data_path = path;
    return 0;
}

/* The member's text, of a number too; NULL: not there or of another kind. */
static const char *member_text(struct recipe *r, const struct pd_json *obj, const char *key)
{
    const struct pd_json *v = pd_json_get(obj, key);
    struct pd_buf b = PD_BUF_INIT(1 << 20);
    const char *text = NULL;

    if (v && option_text(v, &b))
        text = pd_arena_dup(&r->arena, pd_buf_str(&b));
    pd_buf_done(&b);
    return text;
}

/* The member that the recipe names, or the first of the format's that is there. */
static const char *member_name(const struct pd_json *j, const char *named, const char *const *usual)
{
    if (named)
        return named;
    for (size_t i = 0; usual[i]; i++)
        if (pd_json_get(j, usual[i]))
            return usual[i];
    return usual[0];
}

/* Question and answer as the format makes them of the members' texts. */
static int finish_problem(struct recipe *r, struct recipe_problem *p, const struct pd_json *j,
                          struct pd_err *err)
{
    struct pd_buf question = PD_BUF_INIT(PROBLEM_MAX_BYTES),
                  answer = PD_BUF_INIT(PROBLEM_MAX_BYTES);
    int rc;

    pd_buf_addz(&question, p->question);
    pd_buf_addz(&answer, p->expect);
    rc = pd_buf_rc(&question) || pd_buf_rc(&answer)
             ? pd_fail(err, PD_ELIMIT, "the problem is too large")
             : r->dataset.format->finish(j, p->id, &question, &answer, err);
    if (rc == 0) {
        p->question = pd_arena_dup(&r->arena, pd_buf_str(&question));
        p->expect = pd_arena_dup(&r->arena, pd_buf_str(&answer));
        rc = pd_buf_rc(&question) || pd_buf_rc(&answer) || !p->question || !p->expect
                 ? no_memory(err)
                 : 0;
    }
    pd_buf_done(&question);
    pd_buf_done(&answer);
    return rc;
}

static int read_problem(struct recipe *r, const struct pd_json *j, size_t line, struct pd_err *err)
{
    const struct dataset_format *f = r->dataset.format;
    const char *question = member_name(j, r->dataset.question, f->question),
               *answer = member_name(j, r->dataset.answer, f->answer);
    struct recipe_problem *p = &r->problems[r->n_problems];
    char number[32], *truth;

    snprintf(number, sizeof number, "line-%zu", line);
    p->id = member_text(r, j, member_name(j, r->dataset.id, f->id));
    if (!p->id)
        p->id = pd_arena_dup(&r->arena, pd_str_of(number));
    p->question = member_text(r, j, question);
    p->expect = member_text(r, j, answer);
    if (!p->id)
        return no_memory(err);
    if (!p->question || !pd_str_trim(pd_str_of(p->question)).len)
        return pd_fail(err, PD_EFORMAT, "%s:%zu: it has no question: no text is its member '%s'",
                       r->data_path, line, question);
    if (!p->expect)
        return pd_fail(err, PD_EFORMAT, "%s:%zu: it has no answer: nothing is its member '%s'",
                       r->data_path, line, answer);
    if (f->finish && finish_problem(r, p, j, err) < 0) {
        pd_err_context(err, "%s:%zu", r->data_path, line);
        return PD_EFORMAT;
    }
    if (pd_grade_check(r->grade, pd_str_of(p->expect), err) < 0) {
        pd_err_context(err, "%s:%zu: the answer cannot be graded by (%s)", r->data_path, line,
                       pd_grade_name(r->grade));
        return PD_EFORMAT;
    }
    truth = app_problem_truth(j);
    p->truth = truth ? pd_arena_dup(&r->arena, pd_str_of(truth)) : NULL;
    free(truth);
    r->n_problems++;
    return 0;
}

static int by_id(const void *a, const void *b)
{
    const struct recipe_problem *const *x = a, *const *y = b;

    return strcmp((*x)->id, (*y)->id);
}

static int check_ids(const struct recipe *r, struct pd_err *err)
{
    const struct recipe_problem **sorted = calloc(r->n_problems + 1, sizeof *sorted);
    int rc = 0;

    if (!sorted)
        return no_memory(err);
    for (size_t i = 0; i < r->n_problems; i++)
        sorted[i] = &r->problems[i];
    qsort(sorted, r->n_problems, sizeof *sorted, by_id);
    for (size_t i = 1; i < r->n_problems && rc == 0; i++)
        if (strcmp(sorted[i - 1]->id, sorted[i]->id) == 0)
            rc = pd_fail(err, PD_EFORMAT, "%s: two problems are called '%s'", r->data_path,
                         sorted[i]->id);
    free(sorted);
    return rc;
}

static int read_lines(struct recipe *r, struct pd_str text, struct pd_err *err)
{
    size_t n = 1, line = 0;
    int rc = 0;

    for (size_t i = 0; i < text.len; i++)
        n += text.ptr[i] == '\n';
    r->problems = pd_arena_array(&r->arena, n, sizeof *r->problems);
    if (!r->problems)
        return no_memory(err);
    while (rc == 0 && text.len && (!r->dataset.limit || r->n_problems < r->dataset.limit)) {
        ptrdiff_t nl = pd_str_find(text, PD_STR("\n"));
        struct pd_str one = pd_str_sub(text, 0, nl < 0 ? text.len : (size_t)nl);
        struct pd_json *j = NULL;

        text = pd_str_sub(text, one.len + 1, text.len);
        line++;
        if (!pd_str_trim(one).len)
            continue;
        rc = pd_json_parse(one, &j, err);
        if (rc < 0)
            pd_err_context(err, "%s:%zu", r->data_path, line);
        else
            rc = read_problem(r, j, line, err);
        pd_json_free(j);
    }
    if (rc == 0 && r->n_problems == 0)
        rc = pd_fail(err, PD_EFORMAT, "%s: there are no problems in it", r->data_path);
    return rc < 0 ? rc : check_ids(r, err);
}

int recipe_problems(struct recipe *r, struct pd_err *err)
{
    struct pd_buf text = PD_BUF_INIT(DATA_MAX_BYTES);
    uint8_t sum[PD_SHA256_BYTES];
    int rc = find_data(r, err);

    if (rc == 0)
        rc = pd_read_file(r->data_path, &text, err);
    if (rc == 0) {
        pd_sha256_bytes(pd_buf_str(&text).ptr, text.len, sum);
        pd_hex(sum, sizeof sum, r->data_sha256);
        r->data_bytes = text.len;
    }
    if (rc == 0 && r->dataset.sha256 && strcmp(r->dataset.sha256, r->data_sha256) != 0)
        rc = pd_jsonc_fail(&r->doc, pd_json_get(pd_json_get(r->doc.root, "dataset"), "sha256"), err,
                           PD_EFORMAT, "'%s' is another data set: its SHA-256 is %s", r->data_path,
                           r->data_sha256);
    if (rc == 0)
        rc = read_lines(r, pd_buf_str(&text), err);
    pd_buf_done(&text);
    return rc;
}

/* ---- jobs ---------------------------------------------------------------------------------- */

/* Four 64-bit numbers as bytes that are the same on every machine. */
static void put_u64s(const uint64_t v[4], uint8_t out[32])
{
    for (int i = 0; i < 32; i++)
        out[i] = (uint8_t)(v[i / 8] >> 8 * (i % 8));
}

static uint64_t hash_text(const char *z)
{
    return pd_hash64(z, strlen(z));
}

uint64_t recipe_seed(const struct recipe *r, const struct recipe_variant *v, const char *problem,
                     uint32_t repeat)
{
    uint8_t bytes[32];

    put_u64s((uint64_t[]){r->seed, hash_text(problem), hash_text(v->strategy->name), repeat},
             bytes);
    return pd_hash64(bytes, sizeof bytes) & ((UINT64_C(1) << RECIPE_SEED_BITS) - 1);
}

void recipe_job_id(const char *run_id, const struct recipe_variant *v, const char *problem,
                   uint32_t repeat, char out[PD_JOB_ID_MAX])
{
    static const char digits[] = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";
    uint8_t bytes[32], sum[PD_SHA256_BYTES];
    size_t n;

    put_u64s((uint64_t[]){hash_text(run_id), hash_text(v->name), hash_text(problem), repeat},
             bytes);
    pd_sha256_bytes(bytes, sizeof bytes, sum);
    /* the run's age stands in front, so that its jobs sort as others do */
    n = (size_t)snprintf(out, PD_JOB_ID_MAX, "job_%.10s",
                         strlen(run_id) > 4 ? run_id + 4 : "0000000000");
    for (int i = 0; i < 16; i++)
        out[n++] = digits[sum[i] & 31];
    out[n] = '\0';
}

struct app_request recipe_request(const struct recipe *r, const struct recipe_variant *v,
                                  const struct recipe_problem *p, uint32_t repeat)
{
    return (struct app_request){.question = p->question,
                                .system = r->system,
                                .problem_key = p->id,
                                .expect = p->expect,
                                .grade = r->grade,
                                .variant = v->name,
                                .model = r->model,
                                .draft = v->draft,
                                .chat_template = r->chat_template,
                                .kv_type = r->kv_type,
                                .scorer = v->scorer,
                                .truth = p->truth,
                                .strategy = v->strategy->name,
                                .options = v->options,
                                .n_options = v->n_options,
                                .seed = recipe_seed(r, v, p->id, repeat),
                                .repeat = repeat,
                                .budget = r->budget};
}
