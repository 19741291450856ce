#include "daemon/request.h"

#include "app/settings.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define REQUEST_ARENA ((size_t)64 << 20)
#define SEED_MAX      ((INT64_C(1) << 53) - 1)
#define TOKENS_MAX    16777216
#define NODES_MAX     16777216
#define SAMPLES_MAX   65536
#define PRIORITY_MAX  100
#define OPTIONS_MAX   64
#define OPTION_TEXT   256
#define WRAP_UP_MAX   4096
#define UNKNOWN_MAX   4096

/* ---- checked members ----------------------------------------------------------------------- */

int request_bad(struct request_error *e, const char *code, const char *prefix, const char *key,
                const char *fmt, ...)
{
    va_list args;

    e->code = code;
    snprintf(e->param, sizeof e->param, "%s%.64s", prefix, key);
    va_start(args, fmt);
    vsnprintf(e->err.text, sizeof e->err.text, fmt, args);
    va_end(args);
    return e->err.code = PD_EINVAL;
}

static const struct pd_json *member(struct request_object o, const char *key)
{
    const struct pd_json *v = pd_json_get(o.json, key);

    return v && !pd_json_is_null(v) ? v : NULL;
}

int request_int(struct request_object o, const char *key, int64_t min, int64_t max, int64_t *out,
                struct request_error *e)
{
    const struct pd_json *v = member(o, key);
    int64_t n;

    if (!v)
        return 0;
    if (!pd_json_int(v, &n) || n < min || n > max)
        return request_bad(e, "out_of_range", o.prefix, key,
                           "%s%s must be a whole number from %" PRId64 " to %" PRId64, o.prefix,
                           key, min, max);
    *out = n;
    return 0;
}

int request_number(struct request_object o, const char *key, double min, double max, double *out,
                   struct request_error *e)
{
    const struct pd_json *v = member(o, key);
    double d;

    if (!v)
        return 0;
    if (!pd_json_number(v, &d) || !(d >= min && d <= max))
        return request_bad(e, "out_of_range", o.prefix, key, "%s%s must be a number from %g to %g",
                           o.prefix, key, min, max);
    *out = d;
    return 0;
}

int request_bool(struct request_object o, const char *key, bool *out, struct request_error *e)
{
    const struct pd_json *v = member(o, key);

    if (v && !pd_json_bool(v, out))
        return request_bad(e, "unsupported_value", o.prefix, key, "%s%s must be true or false",
                           o.prefix, key);
    return 0;
}

int request_text(struct request_object o, const char *key, const char **out,
                 struct request_error *e)
{
    const struct pd_json *v = member(o, key);

    if (!v)
        return 0;
    if (!pd_json_string(v))
        return request_bad(e, "unsupported_value", o.prefix, key, "%s%s must be a string", o.prefix,
                           key);
    *out = pd_json_string(v);
    return 0;
}

int request_no_memory(struct request_error *e)
{
    e->code = "memory_limit";
    return pd_fail(&e->err, PD_ENOMEM, "out of memory");
}

/* ---- the parts ----------------------------------------------------------------------------- */

static const char *keep(struct request *q, const char *text)
{
    return text ? pd_arena_dup(&q->arena, pd_str_of(text)) : NULL;
}

int request_option(struct request *q, const char *key, const char *value, struct request_error *e)
{
    const char **list = (const char **)(uintptr_t)q->app.options;
    char text[OPTION_TEXT];

    if (q->app.n_options == OPTIONS_MAX)
        return request_bad(e, "out_of_range", "ponder.", "options", "at most %d options",
                           OPTIONS_MAX);
    if (snprintf(text, sizeof text, "%s=%s", key, value) >= (int)sizeof text)
        return request_bad(e, "unsupported_value", "ponder.options.", key,
                           "the option '%.64s' is too long", key);
    if (!list)
        list = pd_arena_array(&q->arena, OPTIONS_MAX, sizeof *list);
    if (!list || !(list[q->app.n_options] = keep(q, text)))
        return request_no_memory(e);
    q->app.options = list;
    q->app.n_options++;
    return 0;
}

/* A JSON number, string or truth value as an option's text. */
static int option_value(struct request *q, const char *prefix, const struct pd_json *v,
                        struct request_error *e)
{
    const char *key = pd_json_key(v), *text = pd_json_string(v);
    char number[40];
    double d;
    bool b;

    if (pd_json_bool(v, &b))
        text = b ? "true" : "false";
    else if (pd_json_number(v, &d)) {
        snprintf(number, sizeof number, "%.17g", d);
        text = number;
    }
    if (!text)
        return request_bad(e, "unsupported_value", prefix, key,
                           "%s%s must be a number, a string, true or false", prefix, key);
    return request_option(q, key, text, e);
}

/* What OpenAI's clients call by other names than ours, or by the same. */
static int sampling(struct request *q, struct request_object body, struct request_error *e)
{
    static const struct {
        const char *field, *option;
        double min, max;
        bool whole;
    } fields[] = {{"temperature", "temperature", 0, 2, false},
                  {"top_p", "top_p", 0.000001, 1, false},
                  {"min_p", "min_p", 0, 1, false},
                  {"top_k", "top_k", 0, 1000000, true},
                  {"presence_penalty", "presence_penalty", -2, 2, false},
                  {"frequency_penalty", "frequency_penalty", -2, 2, false},
                  {"top_logprobs", "top_logprobs", 0, PD_TOP_MAX, true},
                  {"max_tokens", "max_tokens", 1, 1 << 20, true},
                  {"max_completion_tokens", "max_tokens", 1, 1 << 20, true}};
    int rc = 0;

    if (member(body, "max_tokens") && member(body, "max_completion_tokens"))
        return request_bad(e, "conflict_budget", "", "max_completion_tokens",
                           "max_tokens and max_completion_tokens mean the same: give one");
    for (size_t i = 0; i < sizeof fields / sizeof *fields && rc == 0; i++) {
        char text[40];
        int64_t n = 0;
        double d = 0;

        if (!member(body, fields[i].field))
            continue;
        if (fields[i].whole) {
            rc = request_int(body, fields[i].field, (int64_t)fields[i].min, (int64_t)fields[i].max,
                             &n, e);
            d = (double)n;
        } else {
            rc = request_number(body, fields[i].field, fields[i].min, fields[i].max, &d, e);
        }
        snprintf(text, sizeof text, "%.17g", d);
        if (rc == 0)
            rc = request_option(q, fields[i].option, text, e);
    }
    return rc;
}

static int refuse_unknown(struct request_object o, const char *const *known,
                          struct request_error *e)
{
    for (const struct pd_json *v = pd_json_first(o.json); v; v = pd_json_next(v)) {
        const char *const *k = known;

        while (*k && strcmp(*k, pd_json_key(v)) != 0)
            k++;
        if (!*k)
            return request_bad(e, "unknown_field", o.prefix, pd_json_key(v), "%s%.64s is not known",
                               o.prefix, pd_json_key(v));
    }
    return 0;
}

static int object_member(struct request_object o, const char *key, const struct pd_json **out,
                         struct request_error *e)
{
    *out = member(o, key);
    if (*out && !pd_json_is_object(*out))
        return request_bad(e, "unsupported_value", o.prefix, key, "%s%s must be an object",
                           o.prefix, key);
    return 0;
}

static int budget(struct request *q, struct request_object ext, struct request_object body,
                  struct request_error *e)
{
    static const char *const known[] = {"tokens", "seconds", "nodes", "samples", "wrap_up", NULL};
    struct request_object b = {NULL, "ponder.budget."};
    int64_t tokens = 0, nodes = 0, samples = 0;
    const char *wrap_up = NULL;
    int rc = object_member(ext, "budget", &b.json, e);

    if (rc == 0 && b.json)
        rc = refuse_unknown(b, known, e);
    if (rc == 0)
        rc = request_int(b, "tokens", 1, TOKENS_MAX, &tokens, e);
    if (rc == 0)
        rc = request_number(b, "seconds", 0.001, PD_SECONDS_MAX, &q->app.budget.seconds, e);
    if (rc == 0)
        rc = request_int(b, "nodes", 1, NODES_MAX, &nodes, e);
    if (rc == 0)
        rc = request_int(b, "samples", 1, SAMPLES_MAX, &samples, e);
    if (rc == 0)
        rc = request_text(b, "wrap_up", &wrap_up, e);
    if (rc == 0 && wrap_up && strlen(wrap_up) > WRAP_UP_MAX)
        rc = request_bad(e, "out_of_range", b.prefix, "wrap_up",
                         "ponder.budget.wrap_up may have %d bytes", WRAP_UP_MAX);
    if (rc == 0 && samples && member(body, "budget"))
        rc = request_bad(e, "conflict_budget", "", "budget",
                         "budget and ponder.budget.samples mean the same: give one");
    if (rc == 0)
        rc = request_int(body, "budget", 1, SAMPLES_MAX, &samples, e);
    q->app.budget.tokens = (uint64_t)tokens;
    q->app.budget.nodes = (uint64_t)nodes;
    q->app.budget.wrap_up = keep(q, wrap_up);
    q->app.budget_samples = (uint64_t)samples;
    return rc;
}

/* The object `ponder`. Members that the route reads itself are named here too, so that a slip of
 * the pen is found. */
static int extension(struct request *q, struct request_object body, struct request_error *e)
{
    static const char *const known[] = {"strategy",      "options", "scorer",   "draft",
                                        "budget",        "seed",    "priority", "kv_type",
                                        "stream_mode",   "return",  "job",      "expect",
                                        "chat_template", "repeat",  "grade",    NULL};
    struct request_object ext = {NULL, "ponder."};
    const struct pd_json *options = NULL;
    const char *strategy = NULL, *scorer = NULL, *draft = NULL, *kv_type = NULL, *expect = NULL,
               *chat_template = NULL, *grade = NULL;
    struct pd_err why = {0};
    int64_t seed = 0, priority = 0, repeat = 0;
    int rc = object_member(body, "ponder", &ext.json, e);

    q->has_extension = ext.json != NULL;
    if (rc == 0 && ext.json)
        rc = refuse_unknown(ext, known, e);
    if (rc == 0)
        rc = request_text(ext, "strategy", &strategy, e);
    if (rc == 0 && strategy && (q->app.strategy || q->profile))
        rc = request_bad(e, "conflict_budget", ext.prefix, "strategy",
                         "the strategy is given twice: in model and in ponder.strategy");
    if (rc == 0)
        rc = object_member(ext, "options", &options, e);
    for (const struct pd_json *v = pd_json_first(options); v && rc == 0; v = pd_json_next(v))
        rc = option_value(q, "ponder.options.", v, e);
    if (rc == 0)
        rc = request_text(ext, "scorer", &scorer, e);
    if (rc == 0)
        rc = request_text(ext, "draft", &draft, e);
    if (rc == 0)
        rc = request_text(ext, "kv_type", &kv_type, e);
    if (rc == 0)
        rc = request_text(ext, "expect", &expect, e);
    if (rc == 0)
        rc = request_text(ext, "grade", &grade, e);
    if (rc == 0 && grade && pd_grade_find(grade, &q->app.grade, &why) < 0)
        rc = request_bad(e, "unsupported_value", ext.prefix, "grade", "%s", why.text);
    if (rc == 0 && expect && pd_grade_check(q->app.grade, pd_str_of(expect), &why) < 0)
        rc = request_bad(e, "unsupported_value", ext.prefix, "expect", "%s", why.text);
    if (rc == 0)
        rc = request_text(ext, "chat_template", &chat_template, e);
    if (rc == 0 && chat_template && strpbrk(chat_template, "/."))
        rc = request_bad(e, "unsupported_value", ext.prefix, "chat_template",
                         "ponder.chat_template must be the name of a built-in template");
    if (rc == 0)
        rc = request_int(body, "seed", 0, SEED_MAX, &seed, e);
    if (rc == 0)
        rc = request_int(ext, "seed", 0, SEED_MAX, &seed, e);
    if (rc == 0)
        rc = request_int(ext, "repeat", 0, UINT32_MAX, &repeat, e);
    if (rc == 0)
        rc = request_int(ext, "priority", -PRIORITY_MAX, PRIORITY_MAX, &priority, e);
    if (rc == 0)
        rc = budget(q, ext, body, e);
    if (strategy)
        q->app.strategy = keep(q, strategy);
    q->app.scorer = keep(q, scorer);
    q->app.draft = keep(q, draft);
    q->app.kv_type = keep(q, kv_type);
    q->app.expect = keep(q, expect);
    q->app.chat_template = keep(q, chat_template); /* a name: files are not read for clients */
    q->app.seed = (uint64_t)seed;
    q->app.repeat = (uint32_t)repeat;
    q->priority = (int32_t)priority;
    return rc;
}

static bool is_path(const char *name)
{
    return strchr(name, '/') || strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
}

int request_model(const struct pd_json *body, const char **out, struct request_error *e)
{
    int rc = request_text((struct request_object){body, ""}, "model", out, e);

    return rc == 0 && *out && is_path(*out)
               ? request_bad(e, "unsupported_value", "", "model",
                             "model must be the name of a model that was added, not a path")
               : rc;
}

/* "name", "name@profile" or "name@strategy". */
static int model(struct request *q, const struct settings *s, struct request_object body,
                 struct request_error *e)
{
    const char *name = NULL;
    int rc = request_model(body.json, &name, e);
    char *copy, *at;

    if (rc < 0 || !name)
        return rc;
    q->shown_model = keep(q, name);
    copy = pd_arena_dup(&q->arena, pd_str_of(name));
    if (!copy || !q->shown_model)
        return request_no_memory(e);
    at = strchr(copy, '@');
    if (at) {
        *at = '\0';
        if (settings_profile(s, at + 1))
            q->profile = at + 1;
        else
            q->app.strategy = at + 1;
    }
    if (copy[0] == '\0' || (at && at[1] == '\0'))
        return request_bad(e, "unsupported_value", "", "model",
                           "model must be a name, name@profile or name@strategy, not '%.64s'",
                           name);
    q->app.model = copy;
    return 0;
}

static int stops_and_bias(struct request *q, struct request_object body, struct request_error *e)
{
    const char *what = "stop";
    int rc = app_stops_parse(body.json, &q->arena, &q->app.stops, &q->app.n_stops, &e->err);

    if (rc == 0) {
        what = "logit_bias";
        rc =
            app_bias_parse(body.json, &q->arena, &q->app.logit_bias, &q->app.n_logit_bias, &e->err);
    }
    if (rc < 0) {
        e->code = "out_of_range";
        snprintf(e->param, sizeof e->param, "%s", what);
        rc = PD_EINVAL;
    }
    return rc;
}

static int form(struct request *q, struct request_object body, struct request_error *e)
{
    int rc = app_form_parse(body.json, &q->arena, &q->app.form, &e->err);

    if (rc < 0) {
        e->code = rc == PD_ECOMPLEX ? "schema_too_complex" : "unsupported_value";
        snprintf(e->param, sizeof e->param, "%s",
                 member(body, "response_format") ? "response_format"
                 : member(body, "grammar")       ? "grammar"
                                                 : "json_schema");
        rc = PD_EINVAL;
    }
    return rc;
}

static bool is_one_of(const char *const *names, const char *name)
{
    while (*names && strcmp(*names, name) != 0)
        names++;
    return *names != NULL;
}

static int messages(struct request *q, struct request_object body, const char *const *known,
                    struct request_error *e)
{
    struct pd_chat *chat = NULL;

    if (is_one_of(known, "prompt"))
        return 0;
    if (!member(body, "messages"))
        return request_bad(e, "missing_field", "", "messages", "messages is missing");
    if (app_chat_parse(body.json, &q->arena, &chat, &e->err) < 0) {
        e->code = "unsupported_value";
        snprintf(e->param, sizeof e->param, "messages");
        return PD_EINVAL;
    }
    q->app.chat = chat;
    return 0;
}

/* The profile, and reasoning_effort. */
static int effort(struct request *q, const struct settings *s, struct request_object body,
                  struct request_error *e)
{
    const char *name = NULL;
    int rc = request_text(body, "reasoning_effort", &name, e), level = -1;

    if (rc == 0 && name && (level = settings_effort(name)) < 0)
        rc = request_bad(e, "unsupported_value", "", "reasoning_effort",
                         "reasoning_effort must be low, medium or high");
    if (rc < 0)
        return rc;
    if (q->profile)
        return settings_apply(settings_profile(s, q->profile), level, &q->arena, &q->app, &e->err) <
                       0
                   ? request_no_memory(e)
                   : 0;
    if (level >= 0 && !q->app.strategy)
        q->warning = "reasoning_effort has no effect without a strategy";
    else if (level >= 0 && !q->app.budget_samples)
        q->app.budget_samples = settings_effort_samples[level];
    return 0;
}

static void note_unknown(struct request *q, const struct pd_json *body, const char *const *known)
{
    static const char *const ours[] = {"model",
                                       "messages",
                                       "tools",
                                       "chat_template_kwargs",
                                       "continue_final_message",
                                       "temperature",
                                       "top_p",
                                       "min_p",
                                       "top_k",
                                       "max_tokens",
                                       "seed",
                                       "budget",
                                       "user",
                                       "max_completion_tokens",
                                       "presence_penalty",
                                       "frequency_penalty",
                                       "top_logprobs",
                                       "stop",
                                       "logit_bias",
                                       "reasoning_effort",
                                       "response_format",
                                       "json_schema",
                                       "grammar",
                                       "constrain_after",
                                       "ponder",
                                       NULL};

    for (const struct pd_json *v = pd_json_first(body); v; v = pd_json_next(v)) {
        if (!is_one_of(ours, pd_json_key(v)) && !is_one_of(known, pd_json_key(v)))
            pd_buf_printf(&q->unknown, "%s%.64s", q->unknown.len ? ", " : "", pd_json_key(v));
    }
}

int request_parse(const struct pd_json *body, const char *const *known, struct request **out,
                  struct request_error *e)
{
    struct request_object o = {body, ""};
    struct request *q = calloc(1, sizeof *q);
    struct settings *s = settings_current();
    const char *user = NULL;
    int rc;

    memset(e, 0, sizeof *e);
    if (!q || !s) {
        free(q);
        settings_unref(s);
        return request_no_memory(e);
    }
    pd_arena_init(&q->arena, REQUEST_ARENA);
    q->unknown = PD_BUF_INIT(UNKNOWN_MAX);
    rc = model(q, s, o, e);
    if (rc == 0)
        rc = messages(q, o, known, e);
    if (rc == 0)
        rc = sampling(q, o, e);
    if (rc == 0)
        rc = stops_and_bias(q, o, e);
    if (rc == 0)
        rc = form(q, o, e);
    if (rc == 0)
        rc = extension(q, o, e);
    if (rc == 0)
        rc = effort(q, s, o, e);
    if (rc == 0)
        rc = request_text(o, "user", &user, e);
    settings_unref(s);
    q->client = keep(q, user);
    note_unknown(q, body, known);
    if (rc < 0) {
        request_free(q);
        return rc;
    }
    *out = q;
    return 0;
}

void request_free(struct request *q)
{
    if (!q)
        return;
    pd_buf_done(&q->unknown);
    pd_arena_done(&q->arena);
    free(q);
}
