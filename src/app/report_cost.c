/* What the variants of a run cost by the models of core/cost.h: from the calls that are stored, the
 * shapes of the models in the run's lock, and what `ponder bench` has measured. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "app/report.h"
#include "core/cost.h"

#define SIZES_MAX 64

struct measured {
    struct pd_measured at[SIZES_MAX];
    size_t n;
};

/* A model of the run. */
struct model {
    const char *name, *sha256;
    struct pd_shape shape;
    bool has_shape; /* locks of older versions have none */
    struct measured prefill, step;
};

struct models {
    struct model *models;
    size_t n;
};

static double number(const struct pd_json *j, const char *key)
{
    double v = 0;

    pd_json_number(pd_json_get(j, key), &v);
    return v;
}

static double bytes_of(const char *kv_type)
{
    return !kv_type || strcmp(kv_type, "f16") == 0 ? 2
           : strcmp(kv_type, "f32") == 0           ? 4
                                                   : 34.0 / 32; /* q8_0: 32 bytes and a scale */
}

static void read_models(const struct pd_json *lock, struct models *out)
{
    const struct pd_json *list = pd_json_get(lock, "models");
    double kv_bytes = bytes_of(pd_json_string(pd_json_get(lock, "kv_type")));

    for (size_t i = 0; i < pd_json_size(list); i++) {
        const struct pd_json *j = pd_json_at(list, i), *shape = pd_json_get(j, "shape");

        out->models[out->n++] = (struct model){.name = pd_json_string(pd_json_get(j, "name")),
                                               .sha256 = pd_json_string(pd_json_get(j, "sha256")),
                                               .has_shape = shape,
                                               .shape = {.weights = number(shape, "weights"),
                                                         .layers = number(shape, "layers"),
                                                         .heads = number(shape, "heads"),
                                                         .heads_kv = number(shape, "heads_kv"),
                                                         .head_dim = number(shape, "head_dim"),
                                                         .kv_bytes = kv_bytes}};
    }
}

/* ---- what bench measured --------------------------------------------------------------------- */

/* Keeps the sizes ascending; of one size the first measurement. */
static void add_measured(struct measured *m, double size, double seconds)
{
    size_t i = m->n;

    for (size_t k = 0; k < m->n; k++)
        if (m->at[k].size == size)
            return;
    if (m->n == SIZES_MAX || !(size > 0) || !isfinite(seconds))
        return;
    for (; i > 0 && m->at[i - 1].size > size; i--)
        m->at[i] = m->at[i - 1];
    m->at[i] = (struct pd_measured){size, seconds};
    m->n++;
}

static void take_bench(const struct pd_json *j, struct models *models)
{
    const char *sha256 = pd_json_string(pd_json_get(pd_json_get(j, "model"), "sha256"));
    const struct pd_json *points = pd_json_get(j, "points");

    for (size_t i = 0; i < models->n; i++)
        for (size_t p = 0;
             sha256 && models->models[i].sha256 && strcmp(sha256, models->models[i].sha256) == 0 &&
             p < pd_json_size(points);
             p++) {
            const struct pd_json *at = pd_json_at(points, p);
            const char *what = pd_json_string(pd_json_get(at, "what"));
            double rate = number(at, "median_tokens_s"), tokens = number(at, "tokens"),
                   branches = number(at, "branches");

            if (what && strcmp(what, "prefill") == 0)
                add_measured(&models->models[i].prefill, tokens, tokens / rate);
            else if (what && strcmp(what, "decode") == 0)
                add_measured(&models->models[i].step, branches, branches / rate);
        }
}

/* JSON Lines of `ponder bench --json`. */
static int read_bench(struct pd_str text, struct models *models, struct pd_err *err)
{
    int rc = 0, n = 0;

    for (size_t at = 0; at < text.len && rc == 0; n++) {
        struct pd_str rest = pd_str_sub(text, at, text.len);
        ptrdiff_t end = pd_str_find(rest, PD_STR("\n"));
        struct pd_str line = pd_str_sub(rest, 0, end < 0 ? rest.len : (size_t)end);
        struct pd_json *j = NULL;

        at += line.len + 1;
        if (line.len == 0)
            continue;
        rc = pd_json_parse(line, &j, err);
        if (rc == 0 && !pd_json_is_array(pd_json_get(j, "points")))
            rc = pd_fail(err, PD_EFORMAT, "this is no line of ponder bench --json");
        if (rc < 0)
            pd_err_context(err, "measurements, line %d", n + 1);
        else
            take_bench(j, models);
        pd_json_free(j);
    }
    return rc;
}

/* ---- costs ----------------------------------------------------------------------------------- */

static const struct model *find_model(const struct models *models, const char *name)
{
    for (size_t i = 0; i < models->n; i++)
        if (models->models[i].name && strcmp(models->models[i].name, name) == 0)
            return &models->models[i];
    return NULL;
}

/* Adds what these calls cost. */
static void add(struct report_cost *io, const struct models *models, double intensity,
                const struct store_run_work *w, double share)
{
    const struct model *m = find_model(models, w->model);
    struct pd_work work = {.tokens = share * (double)(w->prefilled + w->generated),
                           .attended = share * w->attended,
                           .read = share * w->read};
    double flop = m && m->has_shape ? pd_cost_flop(&m->shape, &work) : (double)NAN;
    double bytes = m && m->has_shape ? pd_cost_bytes(&m->shape, &work) : (double)NAN;

    io->flop += flop;
    io->bytes += bytes;
    io->eflop += pd_cost_eflop(flop, bytes, intensity);
}

/* Prefill by the calls, and as many steps in a row as the job had, each of as many lines as decoded
 * together on average; of two models that draw, each has its share of the steps. */
static double ideal_seconds(const struct models *models, const struct store_run_works *list,
                            const struct report_variant *v)
{
    double n = (double)v->n, steps = v->sequential - 1, seconds = 0;

    if (!(v->sequential > 0))
        return (double)NAN;
    for (size_t i = 0; i < list->n; i++) {
        const struct store_run_work *w = &list->works[i];
        const struct model *m = find_model(models, w->model);
        double calls = (double)w->n_calls;

        if (strcmp(w->variant, v->name) != 0)
            continue;
        if (!m)
            return (double)NAN;
        if (w->prefilled)
            seconds += calls / n *
                       pd_cost_seconds(m->prefill.at, m->prefill.n, (double)w->prefilled / calls);
        if (w->generated)
            seconds += steps * (double)w->generated / (v->tokens * n) *
                       pd_cost_seconds(m->step.at, m->step.n, v->tokens / v->sequential);
    }
    return seconds;
}

static void cost_of(const struct models *models, const struct report_config *c,
                    const struct store_run_works *list, struct report_variant *v)
{
    v->cost = (struct report_cost){0};
    for (size_t i = 0; i < list->n; i++)
        if (strcmp(list->works[i].variant, v->name) == 0)
            add(&v->cost, models, c->intensity, &list->works[i], 1 / (double)v->n);
    v->cost.ideal_s = ideal_seconds(models, list, v);
}

/* Of the plain lines: what a prompt costs, and each line behind it. */
static void cost_of_lines(const struct models *models, const struct report_config *c,
                          const struct store_run_works *list, struct report_run *run)
{
    double jobs = 0;

    run->prompt_cost = run->line_cost = (struct report_cost){.ideal_s = (double)NAN};
    for (size_t i = 0; i < run->n_variants; i++)
        if (run->lines_of && strcmp(run->variants[i].name, run->lines_of) == 0)
            jobs = (double)run->variants[i].n;
    for (size_t i = 0; i < list->n && jobs > 0; i++) {
        const struct store_run_work *w = &list->works[i];

        if (strcmp(w->variant, run->lines_of) != 0 || strcmp(w->op, "score") == 0)
            continue;
        if (w->generated)
            add(&run->line_cost, models, c->intensity, w, 1 / (double)run->n_lines);
        else
            add(&run->prompt_cost, models, c->intensity, w, 1 / jobs);
    }
}

static void share_energy(struct report_run *run, double joules)
{
    double seconds = 0;

    for (size_t i = 0; i < run->n_variants; i++)
        seconds += (double)run->variants[i].n * run->variants[i].seconds;
    for (size_t i = 0; i < run->n_variants; i++)
        run->variants[i].cost.joules =
            seconds > 0 ? joules * run->variants[i].seconds / seconds : (double)NAN;
}

int report_cost(struct store *s, const struct report_config *c, struct report_run *run,
                struct pd_err *err)
{
    struct store_run_works *list = NULL;
    struct pd_json *lock = NULL;
    struct models models = {0};
    double joules = (double)NAN;
    int rc = pd_json_parse(pd_str_of(run->lock), &lock, err);

    if (rc == 0) {
        models.models =
            calloc(pd_json_size(pd_json_get(lock, "models")) + 1, sizeof *models.models);
        rc = models.models ? 0 : pd_fail(err, PD_ENOMEM, "out of memory for the report");
    }
    if (rc == 0) {
        read_models(lock, &models);
        rc = read_bench(c->bench, &models, err);
    }
    if (rc == 0)
        rc = store_run_work_load(s, run->id, &list, err);
    if (rc == 0) {
        pd_json_number(pd_json_get(pd_json_get(lock, "measured"), "energy_j"), &joules);
        for (size_t i = 0; i < run->n_variants; i++)
            if (run->variants[i].n)
                cost_of(&models, c, list, &run->variants[i]);
        cost_of_lines(&models, c, list, run);
        share_energy(run, joules);
        run->joules = joules;
    }
    store_run_work_free(list);
    free(models.models);
    pd_json_free(lock);
    return rc;
}

static const struct {
    const char *name, *label;
} axes[] = {
    [REPORT_X_TOKENS] = {"tokens", "generated tokens per problem"},
    [REPORT_X_FLOP] = {"flop", "FLOP per problem"},
    [REPORT_X_BYTES] = {"bytes", "bytes of the KV cache read per problem"},
    [REPORT_X_EFLOP] = {"eflop", "eFLOP per problem"},
    [REPORT_X_SECONDS] = {"seconds", "seconds per problem, as measured"},
    [REPORT_X_IDEAL] = {"ideal", "seconds per problem, alone on this machine"},
    [REPORT_X_JOULES] = {"joules", "joules per problem"},
};

int report_x_find(const char *name, enum report_x *out, struct pd_err *err)
{
    for (size_t i = 0; i < sizeof axes / sizeof *axes; i++)
        if (strcmp(axes[i].name, name) == 0) {
            *out = (enum report_x)i;
            return 0;
        }
    return pd_fail(err, PD_EINVAL, "'%s' is no axis (there are: " REPORT_X_CHOICES ")", name);
}

const char *report_x_label(enum report_x x)
{
    return axes[x].label;
}

const char *report_si(double v, char out[16])
{
    static const char prefixes[] = " kMGTPE";
    size_t i = 0;

    if (!isfinite(v)) {
        snprintf(out, 16, "-");
        return out;
    }
    while (fabs(v) >= 999.5 && i + 2 < sizeof prefixes) {
        v /= 1000;
        i++;
    }
    snprintf(out, 16, i ? "%.3g %c" : "%.3g", v, prefixes[i]);
    return out;
}

double report_x(const struct report *r, const struct report_variant *v)
{
    switch (r->x) {
    case REPORT_X_FLOP:
        return v->cost.flop;
    case REPORT_X_BYTES:
        return v->cost.bytes;
    case REPORT_X_EFLOP:
        return v->cost.eflop;
    case REPORT_X_SECONDS:
        return v->seconds;
    case REPORT_X_IDEAL:
        return v->cost.ideal_s;
    case REPORT_X_JOULES:
        return v->cost.joules;
    case REPORT_X_TOKENS:
        break;
    }
    return v->tokens;
}

double report_x_of_lines(const struct report *r, const struct report_run *run, double k)
{
    switch (r->x) {
    case REPORT_X_TOKENS:
        return k * run->line_tokens;
    case REPORT_X_FLOP:
        return run->prompt_cost.flop + k * run->line_cost.flop;
    case REPORT_X_BYTES:
        return run->prompt_cost.bytes + k * run->line_cost.bytes;
    case REPORT_X_EFLOP:
        return run->prompt_cost.eflop + k * run->line_cost.eflop;
    case REPORT_X_SECONDS:
    case REPORT_X_IDEAL:
    case REPORT_X_JOULES:
        break;
    }
    return (double)NAN; /* time is not proportional to lines: they decode together */
}
