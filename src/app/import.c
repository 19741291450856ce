/* Traces from JSON Lines: see export.h. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "app/export.h"

#define LINE_ARENA_BYTES ((size_t)1 << 30)
#define TEXT_MAX_BYTES   ((size_t)64 << 20)

struct importing {
    struct store *s;
    struct pd_arena arena; /* of one line */
    struct pd_buf raw;     /* of one member that is JSON itself */
    char job[PD_JOB_ID_MAX];
    uint64_t n_jobs;
    struct pd_err *err;
};

static int bad(struct importing *m, const char *key, const char *what)
{
    return pd_fail(m->err, PD_EFORMAT, "'%s' is missing or no %s", key, what);
}

static const char *text_of(const struct pd_json *j, const char *key)
{
    return pd_json_string(pd_json_get(j, key));
}

/* A text that must be there. */
static int take_text(struct importing *m, const struct pd_json *j, const char *key,
                     const char **out)
{
    *out = text_of(j, key);
    return *out ? 0 : bad(m, key, "text");
}

static int take_int(struct importing *m, const struct pd_json *j, const char *key, int64_t min,
                    int64_t *out)
{
    return pd_json_int(pd_json_get(j, key), out) && *out >= min ? 0 : bad(m, key, "number");
}

/* null, or not there: -1. */
static int64_t index_of(const struct pd_json *j, const char *key)
{
    int64_t v;

    return pd_json_int(pd_json_get(j, key), &v) && v >= 0 ? v : -1;
}

static double double_of(const struct pd_json *j, const char *key)
{
    double v;

    return pd_json_number(pd_json_get(j, key), &v) ? v : (double)NAN;
}

/* A member as JSON text, until the line ends; NULL: there is none. */
static const char *raw_of(struct importing *m, const struct pd_json *j, const char *key)
{
    struct pd_jw w;

    if (!pd_json_get(j, key) || pd_json_is_null(pd_json_get(j, key)))
        return NULL;
    pd_buf_clear(&m->raw);
    pd_jw_init(&w, &m->raw);
    pd_jw_value(&w, pd_json_get(j, key));
    return pd_buf_rc(&m->raw) < 0 ? NULL : pd_arena_dup(&m->arena, pd_buf_str(&m->raw));
}

static bool has_run(struct store *s, const char *id)
{
    struct store_runs *runs = NULL;
    bool yes = id && store_run_list(s, id, &runs, NULL) == 0 && strcmp(runs->runs[0].id, id) == 0;

    store_run_list_free(runs);
    return yes;
}

/* The job that was before is whole: are its rows what its digest was made of? */
static int check_digest(struct importing *m)
{
    struct pd_trace *t = NULL;
    char digest[65];
    int rc;

    if (!m->job[0])
        return 0;
    rc = store_flush(m->s, m->err);
    if (rc == 0)
        rc = store_trace_load(m->s, m->job, &t, m->err);
    if (rc == 0 && t->job.digest) {
        pd_trace_digest(t, digest);
        if (strcmp(digest, t->job.digest) != 0) {
            rc = pd_fail(m->err, PD_EINVAL, "job %s has not the digest it says: it is not kept",
                         m->job);
            if (store_job_delete(m->s, m->job, NULL) == 0)
                store_flush(m->s, NULL);
        }
    }
    store_trace_free(t);
    m->n_jobs += rc == 0;
    m->job[0] = '\0';
    return rc;
}

static int take_job(struct importing *m, const struct pd_json *j)
{
    struct store_job_row *rows = NULL;
    struct pd_job_rec r = {.problem_key = text_of(j, "problem"),
                           .run_id = text_of(j, "run"),
                           .variant = text_of(j, "variant"),
                           .options = raw_of(m, j, "options"),
                           .scorer = text_of(j, "scorer"),
                           .stopped_by = text_of(j, "stopped_by"),
                           .budget = raw_of(m, j, "budget"),
                           .answer_node = index_of(j, "answer_node"),
                           .answer = text_of(j, "answer"),
                           .correct = -1,
                           .error = text_of(j, "error"),
                           .digest = text_of(j, "digest"),
                           .sequential = index_of(j, "sequential")};
    int64_t repeat = 0, seed = 0;
    const char *request = raw_of(m, j, "request");
    size_t n = 0;
    bool right;
    int rc = check_digest(m);

    if (rc == 0)
        rc = take_text(m, j, "id", &r.id);
    if (rc == 0)
        rc = take_text(m, j, "strategy", &r.strategy);
    if (rc == 0)
        rc = take_text(m, j, "model", &r.model);
    if (rc == 0)
        rc = take_text(m, j, "status", &r.status);
    if (rc == 0)
        rc = take_int(m, j, "repeat", 0, &repeat);
    if (rc == 0)
        rc = take_int(m, j, "seed", 0, &seed);
    if (rc == 0)
        rc = take_int(m, j, "created_ms", 0, &r.created_ms);
    if (rc == 0)
        rc = take_int(m, j, "started_ms", 0, &r.started_ms);
    if (rc == 0)
        rc = take_int(m, j, "finished_ms", 0, &r.finished_ms);
    if (rc == 0 && !request)
        rc = pd_fail(m->err, PD_EFORMAT, "it was exported without texts, which cannot be undone");
    if (rc == 0 && strlen(r.id) >= sizeof m->job)
        rc = bad(m, "id", "id of a job");
    if (rc == 0)
        rc = store_job_list(m->s, &(struct store_job_query){.id = r.id, .limit = 1}, &rows, &n,
                            m->err);
    if (rc == 0 && n)
        rc = pd_fail(m->err, PD_EINVAL, "job %s is in the database already", r.id);
    store_job_list_free(rows, n);
    if (rc < 0)
        return rc;
    if (pd_json_bool(pd_json_get(j, "correct"), &right))
        r.correct = right;
    if (!has_run(m->s, r.run_id))
        r.run_id = r.variant = NULL;
    r.repeat = (uint32_t)repeat;
    r.seed = (uint64_t)seed;
    r.request = pd_str_of(request);
    strcpy(m->job, r.id);
    return store_job_put(m->s, &r, m->err);
}

/* An array of numbers into the line's arena; NULL with *n 0: there is none. */
static const double *take_numbers(struct importing *m, const struct pd_json *j, const char *key,
                                  size_t *n, int *rc)
{
    const struct pd_json *list = pd_json_get(j, key), *at = pd_json_first(list);
    double *v = NULL;

    *n = 0;
    if (!pd_json_is_array(list))
        return NULL;
    v = pd_arena_array(&m->arena, pd_json_size(list) + 1, sizeof *v);
    for (; at && v && *rc == 0; at = pd_json_next(at))
        if (pd_json_is_null(at))
            v[(*n)++] = (double)NAN;
        else if (!pd_json_number(at, &v[(*n)++]))
            *rc = bad(m, key, "array of numbers");
    return v;
}

/* One number for each of n tokens; absent or null: *out is NULL. */
static int take_of_tokens(struct importing *m, const struct pd_json *j, const char *key, size_t n,
                          const float **out)
{
    size_t n_values = 0;
    int rc = 0;
    const double *values = take_numbers(m, j, key, &n_values, &rc);
    float *kept;

    *out = NULL;
    if (rc < 0 || !values)
        return rc;
    if (n_values != n)
        return bad(m, key, "array of as many as tokens");
    kept = pd_arena_array(&m->arena, n + 1, sizeof *kept);
    if (!kept)
        return pd_fail(m->err, PD_ENOMEM, "out of memory");
    for (size_t i = 0; i < n; i++)
        kept[i] = (float)values[i];
    *out = kept;
    return 0;
}

static int take_node(struct importing *m, const struct pd_json *j)
{
    struct pd_node_rec r = {.prune_reason = text_of(j, "prune_reason"),
                            .text = pd_str_of(text_of(j, "text") ? text_of(j, "text") : ""),
                            .logprob = double_of(j, "logprob"),
                            .finish = text_of(j, "finish"),
                            .stop = text_of(j, "stop"),
                            .call_id = index_of(j, "call")};
    int64_t id = 0, parent = 0, depth = 0, step = 0;
    size_t n = 0;
    const double *tokens;
    int32_t *ids;
    const char *seed = NULL;
    int rc = take_text(m, j, "status", &r.status);

    tokens = take_numbers(m, j, "tokens", &n, &rc);
    if (rc == 0)
        rc = take_text(m, j, "seed", &seed);
    if (rc == 0 && !pd_parse_u64(pd_str_of(seed), &r.seed))
        rc = bad(m, "seed", "decimal text");
    if (rc == 0)
        rc = take_int(m, j, "id", 0, &id);
    if (rc == 0)
        rc = take_int(m, j, "parent", 0, &parent);
    if (rc == 0)
        rc = take_int(m, j, "depth", 0, &depth);
    if (rc == 0)
        rc = take_int(m, j, "step", 0, &step);
    if (rc == 0)
        rc = take_int(m, j, "created_ms", 0, &r.created_ms);
    if (rc == 0 && !tokens)
        rc = bad(m, "tokens", "array");
    if (rc == 0)
        rc = take_of_tokens(m, j, "logprobs", n, &r.logprobs);
    if (rc == 0)
        rc = take_of_tokens(m, j, "confidences", n, &r.confidences);
    if (rc < 0)
        return rc;
    ids = pd_arena_array(&m->arena, n + 1, sizeof *ids);
    if (!ids)
        return pd_fail(m->err, PD_ENOMEM, "out of memory");
    for (size_t i = 0; i < n; i++)
        ids[i] = (int32_t)tokens[i];
    r.id = (uint32_t)id;
    r.parent = (uint32_t)parent;
    r.depth = (uint32_t)depth;
    r.step = (uint32_t)step;
    r.tokens = ids;
    r.n_tokens = (uint32_t)n;
    return store_node_put(m->s, m->job, &r, m->err);
}

static int take_score(struct importing *m, const struct pd_json *j)
{
    struct pd_score_rec r = {.value = double_of(j, "value"), .call_id = index_of(j, "call")};
    int64_t node = 0;
    size_t n = 0;
    int rc = take_int(m, j, "node", 0, &node);

    r.steps = take_numbers(m, j, "steps", &n, &rc);
    if (n == 0)
        r.steps = NULL;
    if (rc == 0)
        rc = take_text(m, j, "scorer", &r.scorer);
    if (rc == 0)
        rc = take_text(m, j, "kind", &r.kind);
    r.node_id = (uint32_t)node;
    r.n_steps = (uint32_t)n;
    return rc < 0 ? rc : store_score_put(m->s, m->job, &r, m->err);
}

static int take_call(struct importing *m, const struct pd_json *j)
{
    struct pd_call_rec r = {.error = text_of(j, "error")};
    int64_t prompt = 0, cached = 0, generated = 0, attempt = 0, http = 0;
    int rc = take_text(m, j, "engine", &r.engine);

    if (rc == 0)
        rc = take_text(m, j, "dialect", &r.dialect);
    if (rc == 0)
        rc = take_text(m, j, "op", &r.op);
    if (rc == 0)
        rc = take_text(m, j, "model", &r.model);
    if (rc == 0)
        rc = take_text(m, j, "outcome", &r.outcome);
    if (rc == 0)
        rc = take_int(m, j, "prompt_tokens", 0, &prompt);
    if (rc == 0)
        rc = take_int(m, j, "cached_tokens", 0, &cached);
    if (rc == 0)
        rc = take_int(m, j, "generated_tokens", 0, &generated);
    if (rc == 0)
        rc = take_int(m, j, "started_ms", 0, &r.started_ms);
    if (rc == 0)
        rc = take_int(m, j, "ended_ms", 0, &r.ended_ms);
    if (rc == 0 && pd_json_get(j, "attempt")) { /* a request to an engine elsewhere */
        rc = take_int(m, j, "attempt", 1, &attempt);
        if (rc == 0)
            rc = take_int(m, j, "http", 0, &http);
        if (rc == 0)
            rc = take_int(m, j, "first_ms", 0, &r.first_ms);
    }
    r.attempt = (uint32_t)attempt;
    r.http = (int)http;
    r.prompt_tokens = (uint64_t)prompt;
    r.cached_tokens = (uint64_t)cached;
    r.generated_tokens = (uint64_t)generated;
    return rc < 0 ? rc : store_call_put(m->s, m->job, &r, m->err);
}

static int take_event(struct importing *m, const struct pd_json *j)
{
    struct pd_event_rec r = {.data = raw_of(m, j, "data")};
    int64_t seq = 0;
    int rc = take_int(m, j, "seq", 0, &seq);

    if (rc == 0)
        rc = take_int(m, j, "t_ms", 0, &r.t_ms);
    if (rc == 0)
        rc = take_text(m, j, "event", &r.type);
    r.seq = (uint64_t)seq;
    return rc < 0 ? rc : store_event_put(m->s, m->job, &r, m->err);
}

static int take_line(struct importing *m, struct pd_str line)
{
    static const struct {
        const char *type;
        int (*take)(struct importing *m, const struct pd_json *j);
    } types[] = {
        {"node", take_node}, {"score", take_score}, {"call", take_call}, {"event", take_event}};
    struct pd_json *j = NULL;
    const char *type = NULL;
    int rc = pd_json_parse(line, &j, m->err);

    if (rc == 0)
        rc = take_text(m, j, "type", &type);
    if (rc == 0 && strcmp(type, "job") == 0) {
        rc = take_job(m, j);
    } else if (rc == 0) {
        size_t i = 0;

        while (i < sizeof types / sizeof *types && strcmp(types[i].type, type) != 0)
            i++;
        if (i == sizeof types / sizeof *types)
            rc = pd_fail(m->err, PD_EFORMAT,
                         "'%.40s' is no type of a record (job, node, score, call, event)", type);
        else if (!m->job[0])
            rc = pd_fail(m->err, PD_EFORMAT, "a %s before any job", type);
        else
            rc = types[i].take(m, j);
    }
    pd_json_free(j);
    return rc;
}

int import_jsonl(struct store *s, struct pd_str text, uint64_t *out_n_jobs, struct pd_err *err)
{
    struct pd_err local = {0};
    struct importing m = {.s = s, .err = err ? err : &local};
    size_t no = 0;
    int rc = 0;

    m.raw = (struct pd_buf)PD_BUF_INIT(TEXT_MAX_BYTES);
    for (size_t at = 0; at < text.len && rc == 0; no++) {
        struct pd_str rest = pd_str_sub(text, at, text.len);
        ptrdiff_t end = pd_str_find(rest, PD_STR("\n"));
        struct pd_str line = pd_str_sub(rest, 0, end < 0 ? rest.len : (size_t)end);

        at += line.len + 1;
        if (line.len == 0)
            continue;
        pd_arena_init(&m.arena, LINE_ARENA_BYTES);
        rc = take_line(&m, line);
        pd_arena_done(&m.arena);
        if (rc < 0)
            pd_err_context(m.err, "line %zu", no + 1);
    }
    if (rc == 0)
        rc = check_digest(&m);
    else if (m.job[0] && store_job_delete(s, m.job, NULL) == 0) /* a job in part is none */
        store_flush(s, NULL);
    pd_buf_done(&m.raw);
    if (rc == 0)
        *out_n_jobs = m.n_jobs;
    return rc;
}
