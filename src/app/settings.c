/* Settings: rows, files, profiles. See settings.h. */
#include "app/settings.h"

#include <limits.h>
#include <pthread.h>
#include <pwd.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include "app/app_int.h"
#include "base/file.h"

#define SYSTEM_FILE    "/etc/ponder/ponder.json"
#define ENGINE         "local"
#define FILE_MAX_BYTES ((size_t)4 << 20)
#define ARENA_MAX      ((size_t)64 << 20)
#define KEY_MAX        128
#define NAME_MAX_BYTES 64
#define WRAP_UP_MAX    4096

#define AT(member) offsetof(struct settings, member)

const struct settings_row settings_rows[] = {
    {"listen", "listen", SETTINGS_LIST, true, AT(listen), 0, 0, NULL, "URL",
     "unix, unix:///PATH or http://127.0.0.1:PORT (repeatable; none: unix)"},
    {"allow_users", NULL, SETTINGS_LIST, false, AT(allow_users), 0, 0, NULL, "USER",
     "who may come in over the unix socket beside the daemon's user and root (*: all)"},
    {"data_dir", "data-dir", SETTINGS_TEXT, true, AT(data_dir), 0, 0, NULL, "DIR",
     "where traces are kept"},
    {"models_dir", "models-dir", SETTINGS_TEXT, true, AT(models_dir), 0, 0, NULL, "DIR",
     "where models are looked for first"},
    {"engines." ENGINE ".threads", "threads", SETTINGS_COUNT, true, AT(threads), 0, 1024, "0", "N",
     "compute threads (0: all CPUs)"},
    {"engines." ENGINE ".max_branches", NULL, SETTINGS_COUNT, true, AT(max_branches), 0, 4096, "0",
     "N", "branches and prompt tokens that are computed in one step (0: 512)"},
    {"engines." ENGINE ".prefill_chunk", "prefill-chunk", SETTINGS_COUNT, true, AT(prefill_chunk),
     0, 4096, "0", "N", "prompt tokens of one request in a step (0: 128)"},
    {"limits.memory", "memory-limit", SETTINGS_SIZE, true, AT(memory), 0, 9e18, "0", "SIZE",
     "ceiling of models, working space and KV cache together (0: none)"},
    {"limits.max_jobs", "max-jobs", SETTINGS_COUNT, false, AT(max_jobs), 1, 256, "4", "N",
     "jobs that run at once"},
    {"limits.max_queue", "max-queue", SETTINGS_COUNT, false, AT(max_queue), 1, 1000000, "256", "N",
     "jobs that wait; more get 429"},
    {"limits.max_n", NULL, SETTINGS_COUNT, false, AT(max_n), 1, 256, "256", "N",
     "choices that one request may ask for"},
    {"limits.max_body", "max-body", SETTINGS_SIZE, false, AT(max_body), 1024, 1 << 30, "8MiB",
     "SIZE", "most bytes of a request's body"},
    {"limits.max_prompt_tokens", NULL, SETTINGS_COUNT, false, AT(max_prompt_tokens), 0, INT_MAX,
     "0", "N", "longest prompt of a job (0: what the model's context holds)"},
    {"drain_timeout_s", "drain-timeout", SETTINGS_NUMBER, false, AT(drain_timeout_s), 0.001, 1e6,
     "30", "S", "at the end, for requests that are being answered"},
    {"sse_ping_interval_s", NULL, SETTINGS_NUMBER, false, AT(sse_ping_interval_s), -1, 300, "15",
     "S", "seconds of silence before a comment line in a stream (-1: none)"},
    {"reasoning_field", NULL, SETTINGS_CHOICE, false, AT(reasoning_field), 0, 0, "both",
     "both|reasoning_content|reasoning|none", "what answers call the way to them"},
    {"log.level", NULL, SETTINGS_CHOICE, false, AT(log_level), 0, 0, "info",
     "error|warning|info|request|debug", "how much is logged"},
    {"log.format", "log-format", SETTINGS_CHOICE, false, AT(log_format), 0, 0, "text", "text|json",
     "form of messages"},
    {0},
};

_Static_assert(sizeof settings_rows / sizeof *settings_rows <= SETTINGS_MAX_ROWS,
               "each row has an origin");

static int no_memory(struct pd_err *err)
{
    return pd_fail(err, PD_ENOMEM, "out of memory for the configuration");
}

/* ---- values -------------------------------------------------------------------------------- */

static struct pd_str choice(const char *choices, int i)
{
    const char *at = choices;

    for (; i > 0 && at; i--) {
        at = strchr(at, '|');
        at = at ? at + 1 : NULL;
    }
    return at ? (struct pd_str){at, strcspn(at, "|")} : PD_STR("");
}

static int set_list(struct settings *s, const struct settings_row *row, const char *const *values,
                    size_t n, struct pd_err *err)
{
    const char **items = pd_arena_array(&s->arena, n + 1, sizeof *items);

    for (size_t i = 0; items && i < n; i++)
        if (!(items[i] = pd_arena_dup(&s->arena, pd_str_of(values[i]))))
            items = NULL;
    if (!items)
        return no_memory(err);
    *(struct settings_list *)((char *)s + row->offset) = (struct settings_list){items, n};
    return 0;
}

/* name: what the user knows the setting as. */
static int set_value(struct settings *s, const struct settings_row *row, const char *name,
                     const char *value, struct pd_err *err)
{
    void *to = (char *)s + row->offset;
    struct pd_str text = pd_str_of(value), c;
    int64_t count;
    uint64_t size;
    double number;

    switch (row->type) {
    case SETTINGS_COUNT:
        if (!pd_parse_i64(text, &count) || (double)count < row->min || (double)count > row->max)
            return pd_fail(err, PD_EINVAL, "%s must be a whole number from %.0f to %.0f, not '%s'",
                           name, row->min, row->max, value);
        *(int64_t *)to = count;
        return 0;
    case SETTINGS_SIZE:
        if (!pd_parse_size(text, &size) || (double)size < row->min || (double)size > row->max)
            return pd_fail(err, PD_EINVAL,
                           "%s must be a size such as 512MiB (or 512M), 6GB or 1.5GiB, not '%s'",
                           name, value);
        *(uint64_t *)to = size;
        return 0;
    case SETTINGS_NUMBER:
        if (!pd_parse_double(text, &number) || number < row->min || number > row->max)
            return pd_fail(err, PD_EINVAL, "%s must be a number from %g to %g, not '%s'", name,
                           row->min, row->max, value);
        *(double *)to = number;
        return 0;
    case SETTINGS_CHOICE:
        for (int i = 0; (c = choice(row->choices, i)).len; i++)
            if (pd_str_eq(c, text)) {
                *(int *)to = i;
                return 0;
            }
        return pd_fail(err, PD_EINVAL, "%s must be one of %s, not '%s'", name, row->choices, value);
    case SETTINGS_TEXT:
        *(const char **)to = pd_arena_dup(&s->arena, text);
        return *(const char **)to ? 0 : no_memory(err);
    case SETTINGS_LIST:
        break;
    }
    return set_list(s, row, &value, 1, err);
}

int settings_set(struct settings *s, const struct settings_row *row, const char *const *values,
                 size_t n, const char *origin, struct pd_err *err)
{
    const char *kept = pd_arena_dup(&s->arena, pd_str_of(origin));
    int rc = row->type == SETTINGS_LIST ? set_list(s, row, values, n, err)
                                        : set_value(s, row, origin, values[0], err);

    if (rc == 0 && !kept)
        rc = no_memory(err);
    if (rc == 0)
        s->origins[row - settings_rows] = kept;
    return rc;
}

void settings_value_json(const struct settings *s, const struct settings_row *row, struct pd_jw *w)
{
    const void *at = (const char *)s + row->offset;
    const struct settings_list *list = at;

    switch (row->type) {
    case SETTINGS_COUNT:
        pd_jw_int(w, *(const int64_t *)at);
        break;
    case SETTINGS_SIZE:
        pd_jw_uint(w, *(const uint64_t *)at);
        break;
    case SETTINGS_NUMBER:
        pd_jw_double(w, *(const double *)at);
        break;
    case SETTINGS_CHOICE:
        pd_jw_str(w, choice(row->choices, *(const int *)at));
        break;
    case SETTINGS_TEXT:
        pd_jw_strz(w, *(const char *const *)at);
        break;
    case SETTINGS_LIST:
        pd_jw_array(w);
        for (size_t i = 0; i < list->n; i++)
            pd_jw_strz(w, list->items[i]);
        pd_jw_end_array(w);
        break;
    }
}

/* ---- reading a file ------------------------------------------------------------------------ */

struct reading {
    struct settings *s;
    const char *path;
    struct pd_str text;
    const struct pd_json *root;
    struct pd_err *err;
};

/* With the place of `at` in front. */
static int bad(const struct reading *r, const struct pd_json *at, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
static int bad(const struct reading *r, const struct pd_json *at, const char *fmt, ...)
{
    struct pd_json_place p = pd_json_find(r->text, r->root, at);
    char why[400];
    va_list args;

    va_start(args, fmt);
    vsnprintf(why, sizeof why, fmt, args);
    va_end(args);
    return pd_fail(r->err, PD_EFORMAT, "%s:%zu:%zu: %s", r->path, p.line, p.column, why);
}

/* The i-th of some names; a NULL ptr: no more. */
typedef struct pd_str next_fn(const void *of, size_t i);

/* The one that is most like key, where one is. */
static struct pd_str nearest(const char *key, next_fn *next, const void *of)
{
    size_t best = strlen(key) / 3 + 2;
    struct pd_str found = {NULL, 0}, name;

    for (size_t i = 0; (name = next(of, i)).ptr; i++) {
        size_t d = pd_str_distance(pd_str_of(key), name);

        if (d < best) {
            best = d;
            found = name;
        }
    }
    return found;
}

static int unknown(const struct reading *r, const struct pd_json *v, const char *prefix,
                   next_fn *next, const void *of)
{
    const char *key = pd_json_key(v);
    struct pd_str like = nearest(key, next, of);

    return like.ptr ? bad(r, v, "%s%.64s is not known; is it %s%.*s?", prefix, key, prefix,
                          (int)like.len, like.ptr)
                    : bad(r, v, "%s%.64s is not known", prefix, key);
}

static struct pd_str next_of_list(const void *of, size_t i)
{
    return pd_str_of(((const char *const *)of)[i]);
}

/* v is an object with keys of `known` (NULL ends it) only. */
static int check_keys(const struct reading *r, const struct pd_json *v, const char *prefix,
                      const char *const *known)
{
    if (!pd_json_is_object(v))
        return bad(r, v, "%.*s must be an object", (int)strlen(prefix) - 1, prefix);
    for (const struct pd_json *m = pd_json_first(v); m; m = pd_json_next(m)) {
        const char *const *k = known;

        while (*k && strcmp(*k, pd_json_key(m)) != 0)
            k++;
        if (!*k)
            return unknown(r, m, prefix, next_of_list, known);
    }
    return 0;
}

/* The text of a member; absent is no error and leaves *out as it is. */
static int take_text(const struct reading *r, const struct pd_json *obj, const char *prefix,
                     const char *key, const char **out)
{
    const struct pd_json *v = pd_json_get(obj, key);

    if (!v)
        return 0;
    if (!pd_json_string(v) || !pd_json_string(v)[0])
        return bad(r, v, "%s%s must be a text", prefix, key);
    *out = pd_arena_dup(&r->s->arena, pd_str_of(pd_json_string(v)));
    return *out ? 0 : no_memory(r->err);
}

static int check_name(const struct reading *r, const struct pd_json *v, const char *what)
{
    const char *name = pd_json_key(v);
    size_t n = strlen(name);
    bool good = n > 0 && n <= NAME_MAX_BYTES && name[0] != '-' && name[0] != '.';

    for (size_t i = 0; good && i < n; i++)
        good = (unsigned char)name[i] > ' ' && name[i] != 0x7f && !strchr("/@:", name[i]);
    return good ? 0
                : bad(r, v,
                      "the name of a %s has 1 to %d bytes without blanks, '/', '@' and ':', and "
                      "does not begin with '-' or '.'",
                      what, NAME_MAX_BYTES);
}

/* ---- settings ------------------------------------------------------------------------------ */

static int set_from_json(const struct reading *r, const struct settings_row *row,
                         const struct pd_json *v)
{
    const char **items = pd_arena_array(&r->s->arena, pd_json_size(v) + 1, sizeof *items);
    struct pd_json_place p = pd_json_find(r->text, r->root, v);
    size_t n = 0;
    char number[40];
    struct pd_buf origin = PD_BUF_INIT(PATH_MAX + 64);
    struct pd_err why;
    double d;
    int rc = 0;

    if (!items)
        return no_memory(r->err);
    if (row->type == SETTINGS_LIST) {
        if (!pd_json_is_array(v))
            return bad(r, v, "%s must be an array of texts", row->key);
        for (const struct pd_json *m = pd_json_first(v); m; m = pd_json_next(m)) {
            if (!pd_json_string(m))
                return bad(r, m, "%s must be an array of texts", row->key);
            items[n++] = pd_json_string(m);
        }
    } else if (pd_json_string(v) && row->type != SETTINGS_COUNT && row->type != SETTINGS_NUMBER) {
        items[n++] = pd_json_string(v);
    } else if (pd_json_number(v, &d) && row->type != SETTINGS_TEXT &&
               row->type != SETTINGS_CHOICE) {
        snprintf(number, sizeof number, "%.17g", d);
        items[n++] = number;
    } else {
        return bad(r, v, "%s must be a %s", row->key,
                   row->type == SETTINGS_TEXT || row->type == SETTINGS_CHOICE ? "text" : "number");
    }
    rc = row->type == SETTINGS_LIST ? set_list(r->s, row, items, n, r->err)
                                    : set_value(r->s, row, row->key, items[0], &why);
    if (rc == PD_EINVAL)
        return bad(r, v, "%s", why.text);
    pd_buf_printf(&origin, "%s:%zu:%zu", r->path, p.line, p.column);
    if (rc == 0) {
        const char *kept = pd_arena_dup(&r->s->arena, pd_buf_str(&origin));

        r->s->origins[row - settings_rows] = kept;
        rc = kept ? 0 : no_memory(r->err);
    }
    pd_buf_done(&origin);
    return rc;
}

/* ---- models and scorers -------------------------------------------------------------------- */

static bool is_sha256(const char *s)
{
    return strlen(s) == PD_SHA256_HEX - 1 && strspn(s, "0123456789abcdef") == PD_SHA256_HEX - 1;
}

/* What only engines elsewhere have. */
static int refuse_remote(const struct reading *r, const struct pd_json *entry, const char *prefix)
{
    static const char *const keys[] = {"step_tag", "aggregate"};

    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        const struct pd_json *v = pd_json_get(entry, keys[i]);

        if (v)
            return bad(r, v, "%s%s belongs to an engine of reward models, and this build has none",
                       prefix, keys[i]);
    }
    return 0;
}

/* An engine elsewhere, or a file here. */
static int check_place(const struct reading *r, const struct pd_json *entry, const char *prefix,
                       const struct settings_model *m)
{
    if (m->engine && !settings_engine(r->s, m->engine))
        return bad(r, pd_json_get(entry, "engine"), "%sengine: no engine '%.64s' in engines",
                   prefix, m->engine);
    if (m->engine && (m->file || m->alias || m->sha256))
        return bad(r, entry,
                   "%.*s is served by an engine: it has an id, and no file, alias or sha256",
                   (int)strlen(prefix) - 1, prefix);
    if (!m->engine && m->id)
        return bad(r, pd_json_get(entry, "id"), "%sid: the local engine knows models by their file",
                   prefix);
    if (!m->engine && !m->file == !m->alias)
        return bad(r, entry, "%.*s needs a file, or the alias of a model", (int)strlen(prefix) - 1,
                   prefix);
    return 0;
}

static int read_model(const struct reading *r, const struct pd_json *v, bool is_scorer)
{
    static const char *const keys[] = {"engine", "id", "file", "alias", "sha256", NULL},
                             *const scorer_keys[] = {"engine", "id",   "file", "alias",
                                                     "sha256", "kind", NULL};
    struct settings_model m = {.name = pd_arena_dup(&r->s->arena, pd_str_of(pd_json_key(v))),
                               .is_scorer = is_scorer},
                          *to = NULL, *grown;
    char prefix[KEY_MAX];
    const char *kind = NULL;
    int rc = m.name ? check_name(r, v, is_scorer ? "scorer" : "model") : no_memory(r->err);

    snprintf(prefix, sizeof prefix, "%s.%.64s.", is_scorer ? "scorers" : "models", pd_json_key(v));
    if (rc == 0)
        rc = refuse_remote(r, v, prefix);
    if (rc == 0)
        rc = check_keys(r, v, prefix, is_scorer ? scorer_keys : keys);
    if (rc < 0 || (rc = take_text(r, v, prefix, "engine", &m.engine)) < 0 ||
        (rc = take_text(r, v, prefix, "id", &m.id)) < 0 ||
        (rc = take_text(r, v, prefix, "file", &m.file)) < 0 ||
        (rc = take_text(r, v, prefix, "alias", &m.alias)) < 0 ||
        (rc = take_text(r, v, prefix, "sha256", &m.sha256)) < 0 ||
        (rc = take_text(r, v, prefix, "kind", &kind)) < 0)
        return rc;
    if (m.engine && strcmp(m.engine, ENGINE) == 0)
        m.engine = NULL;
    rc = check_place(r, v, prefix, &m);
    if (rc < 0)
        return rc;
    if (m.sha256 && !is_sha256(m.sha256))
        return bad(r, pd_json_get(v, "sha256"), "%ssha256 must be 64 digits from 0 to f", prefix);
    if (kind && strcmp(kind, "step") != 0)
        return bad(r, pd_json_get(v, "kind"), "%skind: this build has scorers of steps only: step",
                   prefix);
    for (size_t i = 0; i < r->s->n_models; i++)
        if (strcmp(r->s->models[i].name, m.name) == 0)
            to = &r->s->models[i];
    if (to) { /* of a file before, or both model and scorer in this one */
        *to = m;
        return 0;
    }
    grown = pd_arena_array(&r->s->arena, r->s->n_models + 1, sizeof *grown);
    if (!grown)
        return no_memory(r->err);
    if (r->s->n_models)
        memcpy(grown, r->s->models, r->s->n_models * sizeof *grown);
    grown[r->s->n_models++] = m;
    r->s->models = grown;
    return 0;
}

/* ---- profiles ------------------------------------------------------------------------------ */

static int take_count(const struct reading *r, const struct pd_json *obj, const char *prefix,
                      const char *key, uint64_t *out)
{
    const struct pd_json *v = pd_json_get(obj, key);
    int64_t n;

    if (!v)
        return 0;
    if (!pd_json_int(v, &n) || n < 1)
        return bad(r, v, "%s%s must be a whole number of 1 or more", prefix, key);
    *out = (uint64_t)n;
    return 0;
}

static int read_budget(const struct reading *r, const struct pd_json *v, const char *prefix,
                       struct settings_budget *out)
{
    static const char *const keys[] = {"tokens", "seconds", "nodes", "samples", "wrap_up", NULL};
    const struct pd_json *seconds = pd_json_get(v, "seconds");
    int rc = check_keys(r, v, prefix, keys);

    if (rc < 0 || (rc = take_count(r, v, prefix, "tokens", &out->tokens)) < 0 ||
        (rc = take_count(r, v, prefix, "nodes", &out->nodes)) < 0 ||
        (rc = take_count(r, v, prefix, "samples", &out->samples)) < 0 ||
        (rc = take_text(r, v, prefix, "wrap_up", &out->wrap_up)) < 0)
        return rc;
    if (seconds && (!pd_json_number(seconds, &out->seconds) || !(out->seconds > 0) ||
                    out->seconds > PD_SECONDS_MAX))
        return bad(r, seconds, "%sseconds must be a number above 0 and at most %.0f", prefix,
                   PD_SECONDS_MAX);
    if (out->wrap_up && strlen(out->wrap_up) > WRAP_UP_MAX)
        return bad(r, pd_json_get(v, "wrap_up"), "%swrap_up may have %d bytes", prefix,
                   WRAP_UP_MAX);
    return 0;
}

static const char *const effort_names[N_EFFORTS + 1] = {"low", "medium", "high", NULL};

static int read_efforts(const struct reading *r, const struct pd_json *v, const char *prefix,
                        struct settings_profile *p)
{
    char inner[KEY_MAX + 32];
    int rc;

    snprintf(inner, sizeof inner, "%seffort.", prefix);
    rc = check_keys(r, v, inner, effort_names);
    for (int i = 0; rc == 0 && i < N_EFFORTS; i++) {
        const struct pd_json *level = pd_json_get(v, effort_names[i]);

        snprintf(inner, sizeof inner, "%seffort.%s.", prefix, effort_names[i]);
        if (level)
            rc = read_budget(r, level, inner, &p->efforts[i]);
    }
    p->has_efforts = true;
    return rc;
}

enum { N_OPTION_TABLES = 4 };

struct option_tables {
    const struct pd_param *of[N_OPTION_TABLES];
};

static struct pd_str next_option(const void *of, size_t i)
{
    const struct option_tables *t = of;

    for (size_t k = 0; k < N_OPTION_TABLES; k++)
        for (const struct pd_param *p = t->of[k]; p && p->name; p++)
            if (i-- == 0)
                return pd_str_of(p->name);
    return (struct pd_str){NULL, 0};
}

/* A value as the text that -o takes; false: it is none that an option can have. */
static bool option_text(const struct pd_json *v, char *out, size_t n)
{
    const char *text = pd_json_string(v);
    double d;
    bool b;

    if (text)
        return snprintf(out, n, "%s", text) < (int)n;
    if (pd_json_bool(v, &b))
        return snprintf(out, n, "%s", b ? "true" : "false") < (int)n;
    return pd_json_number(v, &d) && snprintf(out, n, "%.17g", d) < (int)n;
}

static int read_options(const struct reading *r, const struct pd_json *v, const char *prefix,
                        const struct pd_strategy *st, struct settings_list *out)
{
    const struct option_tables tables = {
        {st->params, pd_common_params, app_decode_params, app_steering_params}};
    void *scratch[N_OPTION_TABLES] = {pd_arena_alloc(&r->s->arena, st->params_size + 1),
                                      pd_arena_alloc(&r->s->arena, sizeof(struct pd_common)),
                                      pd_arena_alloc(&r->s->arena, sizeof(struct app_decode)),
                                      pd_arena_alloc(&r->s->arena, sizeof(struct app_steering))};
    const char **items = pd_arena_array(&r->s->arena, pd_json_size(v) + 1, sizeof *items);

    if (!items || !scratch[0] || !scratch[1] || !scratch[2] || !scratch[3])
        return no_memory(r->err);
    if (!pd_json_is_object(v))
        return bad(r, v, "%.*s must be an object", (int)strlen(prefix) - 1, prefix);
    for (const struct pd_json *m = pd_json_first(v); m; m = pd_json_next(m)) {
        struct pd_str key = pd_str_of(pd_json_key(m));
        char text[256], kv[400];
        struct pd_err why = {0};
        int rc = PD_ENOENT;

        if (!option_text(m, text, sizeof text))
            return bad(r, m, "%s%.64s must be a number, a text, true or false", prefix, key.ptr);
        for (size_t k = 0; rc == PD_ENOENT && k < N_OPTION_TABLES; k++)
            if (tables.of[k])
                rc = pd_params_set(tables.of[k], scratch[k], key, pd_str_of(text), &why);
        if (rc == PD_ENOENT)
            return unknown(r, m, prefix, next_option, &tables);
        if (rc < 0)
            return bad(r, m, "%s%s", prefix, why.text);
        snprintf(kv, sizeof kv, "%s=%s", key.ptr, text);
        items[out->n] = pd_arena_dup(&r->s->arena, pd_str_of(kv));
        if (!items[out->n++])
            return no_memory(r->err);
    }
    out->items = items;
    return 0;
}

static struct pd_str next_strategy(const void *of, size_t i)
{
    (void)of;
    return pd_str_of(pd_strategies[i] ? pd_strategies[i]->name : NULL);
}

static int keep_profile(const struct reading *r, const struct settings_profile *p)
{
    struct settings_profile *grown;

    for (size_t i = 0; i < r->s->n_profiles; i++)
        if (strcmp(r->s->profiles[i].name, p->name) == 0) {
            r->s->profiles[i] = *p;
            return 0;
        }
    grown = pd_arena_array(&r->s->arena, r->s->n_profiles + 1, sizeof *grown);
    if (!grown)
        return no_memory(r->err);
    if (r->s->n_profiles)
        memcpy(grown, r->s->profiles, r->s->n_profiles * sizeof *grown);
    grown[r->s->n_profiles++] = *p;
    r->s->profiles = grown;
    return 0;
}

static int read_profile(const struct reading *r, const struct pd_json *v)
{
    static const char *const keys[] = {"strategy", "options", "scorer", "draft",
                                       "budget",   "effort",  NULL};
    struct settings_profile p = {.name = pd_arena_dup(&r->s->arena, pd_str_of(pd_json_key(v)))};
    const struct pd_json *options = pd_json_get(v, "options"), *budget = pd_json_get(v, "budget"),
                         *effort = pd_json_get(v, "effort");
    const struct pd_strategy *st;
    char prefix[KEY_MAX], inner[KEY_MAX + 16];
    int rc = p.name ? check_name(r, v, "profile") : no_memory(r->err);

    snprintf(prefix, sizeof prefix, "profiles.%.64s.", pd_json_key(v));
    if (rc == 0)
        rc = check_keys(r, v, prefix, keys);
    if (rc < 0 || (rc = take_text(r, v, prefix, "strategy", &p.strategy)) < 0 ||
        (rc = take_text(r, v, prefix, "scorer", &p.scorer)) < 0 ||
        (rc = take_text(r, v, prefix, "draft", &p.draft)) < 0)
        return rc;
    if (!p.strategy)
        return bad(r, v, "%sstrategy is missing", prefix);
    st = pd_strategy_find(p.strategy);
    if (!st) {
        struct pd_str like = nearest(p.strategy, next_strategy, NULL);

        return bad(r, pd_json_get(v, "strategy"),
                   "%sstrategy: there is no strategy '%.64s'%s%.*s ('ponder solve --strategies' "
                   "lists them)",
                   prefix, p.strategy, like.ptr ? "; is it " : "", (int)like.len,
                   like.ptr ? like.ptr : "");
    }
    snprintf(inner, sizeof inner, "%soptions.", prefix);
    if (options)
        rc = read_options(r, options, inner, st, &p.options);
    snprintf(inner, sizeof inner, "%sbudget.", prefix);
    if (rc == 0 && budget)
        rc = read_budget(r, budget, inner, &p.budget);
    if (rc == 0 && effort)
        rc = read_efforts(r, effort, prefix, &p);
    return rc < 0 ? rc : keep_profile(r, &p);
}

/* ---- the whole of a file ------------------------------------------------------------------- */

/* Top-level keys with readers of their own. */
static const char *const sections[] = {"ponder_config", "engines", "models", "scorers",
                                       "profiles",      "trace",   NULL};

/* The i-th name that can stand behind a prefix of keys, "" or "limits."; some come twice. */
static struct pd_str next_key(const void *of, size_t i)
{
    const char *prefix = of;
    size_t n = strlen(prefix);

    for (const char *const *section = sections; n == 0 && *section; section++)
        if (i-- == 0)
            return pd_str_of(*section);
    for (const struct settings_row *row = settings_rows; row->key; row++)
        if (strncmp(row->key, prefix, n) == 0 && i-- == 0)
            return (struct pd_str){row->key + n, strcspn(row->key + n, ".")};
    return (struct pd_str){NULL, 0};
}

static bool is_section(const char *key)
{
    const char *const *section = sections;

    while (*section && strcmp(*section, key) != 0)
        section++;
    return *section != NULL;
}

static int read_level(const struct reading *r, const struct pd_json *v, const char *prefix)
{
    int rc = 0;

    if (!pd_json_is_object(v))
        return bad(r, v, "%.*s must be an object", (int)strlen(prefix) - 1, prefix);
    for (const struct pd_json *m = pd_json_first(v); m && rc == 0; m = pd_json_next(m)) {
        const char *key = pd_json_key(m);
        const struct settings_row *row = settings_rows;
        char path[KEY_MAX];
        size_t n = (size_t)snprintf(path, sizeof path, "%s%.64s", prefix, key);
        bool inner = false;

        if ((!*prefix && is_section(key)) || strcmp(path, "engines." ENGINE ".type") == 0)
            continue; /* has been, or will be, looked at */
        for (; row->key && strcmp(row->key, path) != 0; row++)
            inner |= strncmp(row->key, path, n) == 0 && row->key[n] == '.';
        if (row->key) {
            rc = set_from_json(r, row, m);
        } else if (inner) {
            strcat(path, ".");
            rc = read_level(r, m, path);
        } else {
            rc = unknown(r, m, prefix, next_key, prefix);
        }
    }
    return rc;
}

static const char *const engine_keys[] = {
    "type",         "url",     "key_file",          "key_env",         "key_credential",
    "max_inflight", "retries", "connect_timeout_s", "stall_timeout_s", NULL};

static int read_engine(const struct reading *r, const struct pd_json *v)
{
    struct remote_config c = {.name = pd_arena_dup(&r->s->arena, pd_str_of(pd_json_key(v)))},
                         *grown, *to = NULL;
    struct pd_err err;
    char prefix[KEY_MAX];
    int rc = c.name ? check_name(r, v, "engine") : no_memory(r->err);

    snprintf(prefix, sizeof prefix, "engines.%.64s.", pd_json_key(v));
    if (rc == 0)
        rc = check_keys(r, v, prefix, engine_keys);
    for (const struct pd_json *m = pd_json_first(v); m && rc == 0; m = pd_json_next(m)) {
        char number[32];
        const char *text = pd_json_string(m);
        double n;

        if (!text && pd_json_number(m, &n)) {
            snprintf(number, sizeof number, "%.17g", n);
            text = number;
        }
        text = text ? pd_arena_dup(&r->s->arena, pd_str_of(text)) : "";
        if (!text)
            return no_memory(r->err);
        if (remote_set(&c, pd_json_key(m), text, &err) < 0)
            rc = bad(r, m, "%s%s", prefix, err.text);
    }
    if (rc == 0 && remote_check(&c, &err) < 0)
        rc = bad(r, pd_json_get(v, "type") ? pd_json_get(v, "type") : v, "%s", err.text);
    if (rc < 0)
        return rc;
    for (size_t i = 0; i < r->s->n_engines; i++)
        if (strcmp(r->s->engines[i].name, c.name) == 0)
            to = &r->s->engines[i];
    if (to) {
        *to = c;
        return 0;
    }
    grown = pd_arena_array(&r->s->arena, r->s->n_engines + 1, sizeof *grown);
    if (!grown)
        return no_memory(r->err);
    if (r->s->n_engines)
        memcpy(grown, r->s->engines, r->s->n_engines * sizeof *grown);
    grown[r->s->n_engines++] = c;
    r->s->engines = grown;
    return 0;
}

static int read_engines(const struct reading *r, const struct pd_json *v)
{
    int rc = 0;

    if (!pd_json_is_object(v))
        return bad(r, v, "engines must be an object");
    for (const struct pd_json *m = pd_json_first(v); m && rc == 0; m = pd_json_next(m)) {
        const char *type = pd_json_string(pd_json_get(m, "type"));
        bool local = strcmp(pd_json_key(m), ENGINE) == 0;

        if (local && type && strcmp(type, "gguf") != 0)
            return bad(r, pd_json_get(m, "type"),
                       "engines." ENGINE " is the engine of this program, of type gguf: call one "
                       "of type '%.64s' by another name",
                       type);
        if (!local && (!type || strcmp(type, "gguf") == 0))
            return bad(r, m, "engines.%.64s: the engine of type gguf is called '" ENGINE "'",
                       pd_json_key(m));
        rc = local ? read_level(r, m, "engines." ENGINE ".") : read_engine(r, m);
    }
    return rc;
}

/* Traces are kept whole and until they are deleted; to say so is no error. */
static int read_trace(const struct reading *r, const struct pd_json *v)
{
    static const char *const keys[] = {"content", "keep_days", "max_bytes", NULL};
    int rc = check_keys(r, v, "trace.", keys);
    bool content = true;

    if (rc == 0 && pd_json_get(v, "content") &&
        (!pd_json_bool(pd_json_get(v, "content"), &content) || !content))
        rc = bad(r, pd_json_get(v, "content"),
                 "trace.content can only be true: jobs go on and are verified by their texts");
    for (int i = 1; rc == 0 && i < 3; i++)
        if (pd_json_get(v, keys[i]))
            rc = bad(r, pd_json_get(v, keys[i]),
                     "trace.%s: this build deletes no traces by itself; 'ponder job rm' does",
                     keys[i]);
    return rc;
}

static int each(const struct reading *r, const char *key,
                int (*read)(const struct reading *r, const struct pd_json *v, bool flag), bool flag)
{
    const struct pd_json *v = pd_json_get(r->root, key);
    int rc = 0;

    if (v && !pd_json_is_object(v))
        return bad(r, v, "%s must be an object", key);
    for (const struct pd_json *m = pd_json_first(v); m && rc == 0; m = pd_json_next(m))
        rc = read(r, m, flag);
    return rc;
}

static int read_profile_of(const struct reading *r, const struct pd_json *v, bool unused)
{
    (void)unused;
    return read_profile(r, v);
}

static int read_root(const struct reading *r)
{
    const struct pd_json *version = pd_json_get(r->root, "ponder_config");
    const struct pd_json *engines = pd_json_get(r->root, "engines"),
                         *trace = pd_json_get(r->root, "trace");
    int64_t n;
    int rc = 0;

    if (!pd_json_is_object(r->root))
        return bad(r, r->root, "a configuration is an object: {\"ponder_config\": 1, …}");
    if (!version)
        return bad(r, r->root, "ponder_config is missing: it must be 1");
    if (!pd_json_int(version, &n) || n != 1)
        return bad(r, version, "ponder_config must be 1, which is what this build reads");
    rc = read_level(r, r->root, "");
    if (rc == 0 && engines)
        rc = read_engines(r, engines);
    if (rc == 0)
        rc = each(r, "models", read_model, false);
    if (rc == 0)
        rc = each(r, "scorers", read_model, true);
    if (rc == 0)
        rc = each(r, "profiles", read_profile_of, false);
    return rc < 0 || !trace ? rc : read_trace(r, trace);
}

int settings_add_file(struct settings *s, const char *path, struct pd_err *err)
{
    struct pd_buf text = PD_BUF_INIT(FILE_MAX_BYTES);
    struct pd_json *root = NULL;
    int rc = pd_read_file(path, &text, err);

    if (rc == 0 && text.len > 0) {
        rc = pd_json_uncomment(text.data, text.len, err);
        /* nothing but comments is nothing, as /dev/null is */
        if (rc == 0 && pd_str_trim(pd_buf_str(&text)).len > 0)
            rc = pd_json_parse(pd_buf_str(&text), &root, err);
        if (rc < 0)
            pd_err_context(err, "%s", path);
    }
    if (rc == 0 && root)
        rc = read_root(&(struct reading){s, path, pd_buf_str(&text), root, err});
    pd_json_free(root);
    pd_buf_done(&text);
    return rc;
}

int settings_add_files(struct settings *s, const char *path, struct pd_err *err)
{
    char *user = settings_user_path();
    int rc = 0;

    if (!user)
        return no_memory(err);
    if (path)
        rc = settings_add_file(s, path, err);
    if (!path && pd_file_exists(SYSTEM_FILE))
        rc = settings_add_file(s, SYSTEM_FILE, err);
    if (!path && rc == 0 && pd_file_exists(user))
        rc = settings_add_file(s, user, err);
    free(user);
    return rc;
}

/* Users by name or number. */
static int find_users(struct settings *s, struct pd_err *err)
{
    s->allow_uids = pd_arena_array(&s->arena, s->allow_users.n + 1, sizeof *s->allow_uids);
    if (!s->allow_uids)
        return no_memory(err);
    for (size_t i = 0; i < s->allow_users.n; i++) {
        const char *name = s->allow_users.items[i];
        const struct passwd *user = getpwnam(name);
        uint64_t uid;

        if (strcmp(name, "*") == 0)
            s->allow_all = true;
        else if (user)
            s->allow_uids[s->n_allow_uids++] = user->pw_uid;
        else if (pd_parse_u64(pd_str_of(name), &uid) && uid < UINT32_MAX)
            s->allow_uids[s->n_allow_uids++] = (uid_t)uid;
        else
            return pd_fail(err, PD_EFORMAT, "configuration: allow_users: there is no user '%.64s'",
                           name);
    }
    return 0;
}

const struct remote_config *settings_engine(const struct settings *s, const char *name)
{
    for (size_t i = 0; i < s->n_engines; i++)
        if (strcmp(s->engines[i].name, name) == 0)
            return &s->engines[i];
    return NULL;
}

int settings_check(struct settings *s, struct pd_err *err)
{
    for (size_t i = 0; i < s->n_models; i++) {
        const struct settings_model *m = &s->models[i],
                                    *target = m->alias ? settings_model(s, m->alias) : NULL;

        if (target && target->alias)
            return pd_fail(err, PD_EFORMAT,
                           "configuration: model '%s' is an alias of '%s', which is one itself",
                           m->name, m->alias);
    }
    return find_users(s, err);
}

/* ---- life ---------------------------------------------------------------------------------- */

struct settings *settings_new(void)
{
    struct settings *s = calloc(1, sizeof *s);

    if (!s)
        return NULL;
    atomic_init(&s->refs, 1);
    pd_arena_init(&s->arena, ARENA_MAX);
    for (const struct settings_row *row = settings_rows; row->key; row++) {
        s->origins[row - settings_rows] = "default";
        if (row->def && set_value(s, row, row->key, row->def, NULL) < 0) {
            settings_unref(s);
            return NULL;
        }
    }
    return s;
}

struct settings *settings_ref(struct settings *s)
{
    atomic_fetch_add_explicit(&s->refs, 1, memory_order_relaxed);
    return s;
}

void settings_unref(struct settings *s)
{
    if (!s || atomic_fetch_sub_explicit(&s->refs, 1, memory_order_acq_rel) > 1)
        return;
    pd_arena_done(&s->arena);
    free(s);
}

static pthread_mutex_t current_lock = PTHREAD_MUTEX_INITIALIZER; /* guards current */
static struct settings *current;

struct settings *settings_current(void)
{
    struct settings *s;

    pthread_mutex_lock(&current_lock);
    s = current ? settings_ref(current) : settings_new();
    pthread_mutex_unlock(&current_lock);
    return s;
}

void settings_install(struct settings *s)
{
    struct settings *before;

    pthread_mutex_lock(&current_lock);
    before = current;
    current = s;
    pthread_mutex_unlock(&current_lock);
    settings_unref(before);
}

const struct settings_model *settings_model(const struct settings *s, const char *name)
{
    for (size_t i = 0; i < s->n_models; i++)
        if (strcmp(s->models[i].name, name) == 0)
            return &s->models[i];
    return NULL;
}

const struct settings_profile *settings_profile(const struct settings *s, const char *name)
{
    for (size_t i = 0; i < s->n_profiles; i++)
        if (strcmp(s->profiles[i].name, name) == 0)
            return &s->profiles[i];
    return NULL;
}

struct app_config settings_app(const struct settings *s)
{
    return (struct app_config){.n_threads = (unsigned)s->threads,
                               .prefill_chunk = (unsigned)s->prefill_chunk,
                               .max_branches = (unsigned)s->max_branches,
                               .memory_bytes = s->memory,
                               .data_dir = s->data_dir};
}

/* ---- profiles at work ---------------------------------------------------------------------- */

const uint64_t settings_effort_samples[N_EFFORTS] = {4, 16, 64};

int settings_effort(const char *name)
{
    for (int i = 0; i < N_EFFORTS; i++)
        if (strcmp(effort_names[i], name) == 0)
            return i;
    return -1;
}

static bool says_samples(const char *const *options, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (strncmp(options[i], "samples=", 8) == 0)
            return true;
    return false;
}

int settings_apply(const struct settings_profile *p, int effort, struct pd_arena *a,
                   struct app_request *r, struct pd_err *err)
{
    const struct settings_budget usual = {.samples =
                                              effort >= 0 ? settings_effort_samples[effort] : 0};
    const struct settings_budget *over =
        effort >= 0 && p->has_efforts ? &p->efforts[effort] : &usual;
    const char **options = pd_arena_array(a, r->n_options + p->options.n + 1, sizeof *options);
    const char *wrap_up = over->wrap_up ? over->wrap_up : p->budget.wrap_up;
    uint64_t samples = over->samples ? over->samples : p->budget.samples;
    size_t n = 0;

    if (!options)
        return no_memory(err);
    if (r->budget_samples || says_samples(r->options, r->n_options))
        samples = 0; /* the request says how many */
    for (size_t i = 0; i < p->options.n; i++)
        if (strncmp(p->options.items[i], "samples=", 8) != 0 ||
            !(samples || r->budget_samples || says_samples(r->options, r->n_options)))
            options[n++] = pd_arena_dup(a, pd_str_of(p->options.items[i]));
    for (size_t i = 0; i < n; i++)
        if (!options[i])
            return no_memory(err);
    for (size_t i = 0; i < r->n_options; i++)
        options[n++] = r->options[i]; /* the last of a name counts */
    r->options = options;
    r->n_options = n;
    r->strategy = pd_arena_dup(a, pd_str_of(p->strategy));
    if (!r->scorer && p->scorer && !(r->scorer = pd_arena_dup(a, pd_str_of(p->scorer))))
        return no_memory(err);
    if (!r->draft && p->draft && !(r->draft = pd_arena_dup(a, pd_str_of(p->draft))))
        return no_memory(err);
    if (!r->budget.wrap_up && wrap_up && !(r->budget.wrap_up = pd_arena_dup(a, pd_str_of(wrap_up))))
        return no_memory(err);
    if (samples)
        r->budget_samples = samples;
    if (!r->budget.tokens)
        r->budget.tokens = over->tokens ? over->tokens : p->budget.tokens;
    if (!r->budget.nodes)
        r->budget.nodes = over->nodes ? over->nodes : p->budget.nodes;
    if (!(r->budget.seconds > 0))
        r->budget.seconds = over->seconds > 0 ? over->seconds : p->budget.seconds;
    return r->strategy ? 0 : no_memory(err);
}

/* ---- as JSON ------------------------------------------------------------------------------- */

void settings_models_json(const struct settings *s, struct pd_jw *w)
{
    pd_jw_object(w);
    for (size_t i = 0; i < s->n_models; i++) {
        pd_jw_key(w, s->models[i].name);
        pd_jw_object(w);
        pd_jw_put_given(w, "kind", s->models[i].is_scorer ? "scorer" : "model");
        pd_jw_put_given(w, "engine", s->models[i].engine ? s->models[i].engine : ENGINE);
        pd_jw_put_given(w, "id", s->models[i].id);
        pd_jw_put_given(w, "file", s->models[i].file);
        pd_jw_put_given(w, "alias", s->models[i].alias);
        pd_jw_put_given(w, "sha256", s->models[i].sha256);
        pd_jw_end_object(w);
    }
    pd_jw_end_object(w);
}

static void put_count(struct pd_jw *w, const char *key, uint64_t n)
{
    if (n) {
        pd_jw_put_uint(w, key, n);
    }
}

static void put_budget(struct pd_jw *w, const char *key, const struct settings_budget *b)
{
    pd_jw_key(w, key);
    pd_jw_object(w);
    put_count(w, "tokens", b->tokens);
    if (b->seconds > 0) {
        pd_jw_put_double(w, "seconds", b->seconds);
    }
    put_count(w, "nodes", b->nodes);
    put_count(w, "samples", b->samples);
    pd_jw_put_given(w, "wrap_up", b->wrap_up);
    pd_jw_end_object(w);
}

void settings_profiles_json(const struct settings *s, struct pd_jw *w)
{
    pd_jw_object(w);
    for (size_t i = 0; i < s->n_profiles; i++) {
        const struct settings_profile *p = &s->profiles[i];

        pd_jw_key(w, p->name);
        pd_jw_object(w);
        pd_jw_put_given(w, "strategy", p->strategy);
        pd_jw_key(w, "options");
        pd_jw_array(w);
        for (size_t k = 0; k < p->options.n; k++)
            pd_jw_strz(w, p->options.items[k]);
        pd_jw_end_array(w);
        pd_jw_put_given(w, "scorer", p->scorer);
        pd_jw_put_given(w, "draft", p->draft);
        put_budget(w, "budget", &p->budget);
        if (p->has_efforts) {
            pd_jw_key(w, "effort");
            pd_jw_object(w);
            for (int k = 0; k < N_EFFORTS; k++)
                put_budget(w, effort_names[k], &p->efforts[k]);
            pd_jw_end_object(w);
        }
        pd_jw_end_object(w);
    }
    pd_jw_end_object(w);
}
