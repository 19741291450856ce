/* Pools and engines: descriptions, keys, probes. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/file.h"
#include "remote/remote_int.h"

#define KEY_MAX    ((size_t)64 << 10)
#define CONFIG_MAX ((size_t)1 << 20)

struct remote_pool {
    struct net_client *client;
    pthread_mutex_t lock; /* guards engines; they stay */
    struct remote_engine *engines;
};

static const struct dialect *const dialects[] = {&dialect_vllm,         &dialect_sglang,
                                                 &dialect_llama_server, &dialect_openai,
                                                 &dialect_anthropic,    NULL};

/* ---- descriptions ------------------------------------------------------------------------------
 */

static const struct dialect *find_dialect(const char *name)
{
    for (size_t i = 0; dialects[i]; i++)
        if (strcmp(dialects[i]->name, name) == 0)
            return dialects[i];
    return NULL;
}

bool remote_is_dialect(const char *name)
{
    return find_dialect(name) != NULL;
}

const char *remote_dialects(void)
{
    return "vllm, sglang, llama-server, openai, anthropic";
}

static int set_int(int64_t *to, const char *key, const char *value, struct pd_err *err)
{
    return pd_parse_i64(pd_str_of(value), to) && *to >= 1 && *to <= 65536
               ? 0
               : pd_fail(err, PD_EINVAL, "%s must be a whole number from 1 to 65536, not '%s'", key,
                         value);
}

static int set_seconds(double *to, const char *key, const char *value, struct pd_err *err)
{
    return pd_parse_double(pd_str_of(value), to) && *to >= 0.01 && *to <= 86400
               ? 0
               : pd_fail(err, PD_EINVAL, "%s must be a number of seconds, not '%s'", key, value);
}

int remote_set(struct remote_config *c, const char *key, const char *value, struct pd_err *err)
{
    const struct {
        const char *key, **text;
        int64_t *count;
        double *seconds;
    } members[] = {{.key = "type", .text = &c->dialect},
                   {.key = "url", .text = &c->url},
                   {.key = "key_file", .text = &c->key_file},
                   {.key = "key_env", .text = &c->key_env},
                   {.key = "key_credential", .text = &c->key_credential},
                   {.key = "max_inflight", .count = &c->max_inflight},
                   {.key = "retries", .count = &c->tries},
                   {.key = "connect_timeout_s", .seconds = &c->connect_s},
                   {.key = "stall_timeout_s", .seconds = &c->stall_s}};

    for (size_t i = 0; i < sizeof members / sizeof *members; i++) {
        if (strcmp(members[i].key, key) != 0)
            continue;
        if (members[i].count)
            return set_int(members[i].count, key, value, err);
        if (members[i].seconds)
            return set_seconds(members[i].seconds, key, value, err);
        *members[i].text = value;
        return 0;
    }
    return pd_fail(err, PD_ENOENT, "an engine has no '%s'", key);
}

int remote_check(const struct remote_config *c, struct pd_err *err)
{
    int n = (c->key_file != NULL) + (c->key_env != NULL) + (c->key_credential != NULL);

    if (!c->dialect || !find_dialect(c->dialect))
        return pd_fail(err, PD_EINVAL, "engine '%s': no dialect '%s' (there are: %s)", c->name,
                       c->dialect ? c->dialect : "", remote_dialects());
    if (!c->url)
        return pd_fail(err, PD_EINVAL, "engine '%s' has no url", c->name);
    if (n > 1)
        return pd_fail(err, PD_EINVAL,
                       "engine '%s' has its key in one place: key_file, key_env or key_credential",
                       c->name);
    return 0;
}

static int parse_query(struct pd_str query, struct pd_arena *a, struct remote_config *c,
                       struct pd_err *err)
{
    int rc = 0;

    for (size_t from = 0; from < query.len && rc == 0;) {
        struct pd_str rest = pd_str_sub(query, from, query.len);
        ptrdiff_t amp = pd_str_find(rest, PD_STR("&"));
        struct pd_str pair = pd_str_sub(rest, 0, amp < 0 ? rest.len : (size_t)amp);
        ptrdiff_t eq = pd_str_find(pair, PD_STR("="));
        char *key = eq > 0 ? pd_arena_dup(a, pd_str_sub(pair, 0, (size_t)eq)) : NULL;
        char *value = eq > 0 ? pd_arena_dup(a, pd_str_sub(pair, (size_t)eq + 1, pair.len)) : NULL;

        from += pair.len + 1;
        rc = !key || !value ? pd_fail(err, PD_EINVAL, "'%.*s' is not of the form KEY=VALUE",
                                      (int)pair.len, pair.ptr)
             : strcmp(key, "url") == 0 || strcmp(key, "type") == 0
                 ? pd_fail(err, PD_EINVAL, "%s stands before the ?", key)
                 : remote_set(c, key, value, err);
    }
    return rc == PD_ENOENT ? pd_fail(err, PD_EINVAL, "an engine has no such member") : rc;
}

int remote_parse(const char *text, struct pd_arena *a, struct remote_config *out,
                 struct pd_err *err)
{
    struct pd_str whole = pd_str_of(text), url, query = {0}, model = {0};
    ptrdiff_t plus = pd_str_find(whole, PD_STR("+http")), at;
    struct remote_config c = {.name = text};
    int rc;

    if (plus <= 0 || !pd_str_starts(pd_str_sub(whole, (size_t)plus + 5, whole.len),
                                    whole.ptr[plus + 5] == 's' ? PD_STR("s://") : PD_STR("://")))
        return 0;
    url = pd_str_sub(whole, (size_t)plus + 1, whole.len);
    at = pd_str_find(url, PD_STR("#"));
    if (at >= 0) {
        model = pd_str_sub(url, (size_t)at + 1, url.len);
        url = pd_str_sub(url, 0, (size_t)at);
    }
    at = pd_str_find(url, PD_STR("?"));
    if (at >= 0) {
        query = pd_str_sub(url, (size_t)at + 1, url.len);
        url = pd_str_sub(url, 0, (size_t)at);
    }
    c.name = pd_arena_dup(a, url);
    c.dialect = pd_arena_dup(a, pd_str_sub(whole, 0, (size_t)plus));
    c.url = c.name;
    c.model = model.len ? pd_arena_dup(a, model) : NULL;
    if (!c.name || !c.dialect || (model.len && !c.model))
        return pd_fail(err, PD_ENOMEM, "out of memory");
    rc = parse_query(query, a, &c, err);
    if (rc < 0) {
        pd_err_context(err, "in '%s'", text);
        return rc;
    }
    rc = remote_check(&c, err);
    if (rc < 0)
        return rc;
    *out = c;
    return 1;
}

/* ---- engines -----------------------------------------------------------------------------------
 */

int remote_pool_new(struct remote_pool **out, struct pd_err *err)
{
    struct remote_pool *p = calloc(1, sizeof *p);
    int rc;

    if (!p)
        return pd_fail(err, PD_ENOMEM, "out of memory");
    rc = net_client_new(&p->client, err);
    if (rc < 0) {
        free(p);
        return rc;
    }
    pthread_mutex_init(&p->lock, NULL);
    *out = p;
    return 0;
}

static void engine_free(struct remote_engine *e)
{
    remote_pieces_free(e);
    pthread_mutex_destroy(&e->lock);
    pthread_mutex_destroy(&e->probe_lock);
    free(e->model);
    free(e->anchor_text);
    pd_arena_done(&e->arena);
    free(e);
}

void remote_pool_end(struct remote_pool *p)
{
    if (p)
        net_client_end(p->client);
}

void remote_pool_free(struct remote_pool *p)
{
    struct remote_engine *next;

    if (!p)
        return;
    net_client_free(p->client);
    for (struct remote_engine *e = p->engines; e; e = next) {
        next = e->next;
        engine_free(e);
    }
    pthread_mutex_destroy(&p->lock);
    free(p);
}

static bool same(const char *a, const char *b)
{
    return a && b ? strcmp(a, b) == 0 : a == b;
}

static bool is_engine(const struct remote_engine *e, const struct remote_config *c)
{
    const struct remote_config *d = &e->config;

    return same(d->name, c->name) && same(d->dialect, c->dialect) && same(d->url, c->url) &&
           same(d->model, c->model) && same(d->key_file, c->key_file) &&
           same(d->key_env, c->key_env) && same(d->key_credential, c->key_credential) &&
           d->max_inflight == c->max_inflight && d->tries == c->tries &&
           !(d->connect_s < c->connect_s) && !(d->connect_s > c->connect_s) &&
           !(d->stall_s < c->stall_s) && !(d->stall_s > c->stall_s);
}

static int read_key(const struct remote_config *c, struct pd_buf *out, struct pd_err *err)
{
    const char *dir = getenv("CREDENTIALS_DIRECTORY");
    char *path = NULL;
    int rc = 0;

    if (c->key_env && getenv(c->key_env))
        pd_buf_addz(out, getenv(c->key_env));
    else if (c->key_env)
        rc = pd_fail(err, PD_EPERM, "the variable %s, which has its key, is not set", c->key_env);
    else if (c->key_credential && !dir)
        rc = pd_fail(err, PD_EPERM, "its key is a credential, and this is no service that has any");
    else if (c->key_credential && !(path = pd_path_join(dir, c->key_credential)))
        rc = pd_fail(err, PD_ENOMEM, "out of memory");
    else if (c->key_file || path)
        rc = pd_read_file(c->key_file ? c->key_file : path, out, err);
    free(path);
    if (rc == 0 && (c->key_env || c->key_file || c->key_credential) &&
        !pd_str_trim(pd_buf_str(out)).len)
        rc = pd_fail(err, PD_EPERM, "its key is empty");
    if (rc < 0)
        pd_err_context(err, "engine '%s'", c->name);
    return rc;
}

static int connect_host(struct remote_engine *e, struct pd_err *err)
{
    const struct remote_config *c = &e->config;
    struct pd_buf key = PD_BUF_INIT(KEY_MAX);
    struct net_host_config h = {
        .url = c->url,
        .key_header = e->dialect->key_header,
        .header = e->dialect->header,
        .max_inflight = (unsigned)(c->max_inflight ? c->max_inflight : REMOTE_INFLIGHT),
        .tries = (unsigned)(c->tries ? c->tries : REMOTE_TRIES),
        .connect_ns = (int64_t)((c->connect_s > 0 ? c->connect_s : REMOTE_CONNECT_S) * 1e9),
        .stall_ns = (int64_t)((c->stall_s > 0 ? c->stall_s : REMOTE_STALL_S) * 1e9)};
    struct pd_str trimmed;
    char *name = NULL, *text = NULL;
    int rc = read_key(c, &key, err);

    trimmed = pd_str_trim(pd_buf_str(&key));
    if (rc == 0 &&
        ((same(c->name, c->url) ? asprintf(&name, "engine %s", c->url)
                                : asprintf(&name, "engine '%s' (%s)", c->name, c->url)) < 0 ||
         (trimmed.len && !(text = pd_str_dup(trimmed)))))
        rc = pd_fail(err, PD_ENOMEM, "out of memory");
    h.name = name;
    h.key = text;
    if (rc == 0)
        rc = net_host_new(e->pool->client, &h, &e->host, err);
    if (text)
        explicit_bzero(text, strlen(text));
    if (key.data)
        explicit_bzero(key.data, key.len);
    free(name);
    free(text);
    pd_buf_done(&key);
    return rc;
}

/* In front of *list. */
static int engine_new(struct remote_pool *p, const struct remote_config *c,
                      struct remote_engine **list, struct pd_err *err)
{
    struct remote_engine *e = calloc(1, sizeof *e);
    const char **texts[] = {&e->config.name,          &e->config.dialect, &e->config.url,
                            &e->config.model,         &e->config.key_env, &e->config.key_file,
                            &e->config.key_credential};
    int rc = 0;

    if (!e)
        return pd_fail(err, PD_ENOMEM, "out of memory");
    e->pool = p;
    e->config = *c;
    e->dialect = find_dialect(c->dialect);
    e->n_ctx = REMOTE_CTX_MAX;
    e->eos = e->anchor = REMOTE_NO_TOKEN;
    pd_arena_init(&e->arena, CONFIG_MAX);
    pthread_mutex_init(&e->lock, NULL);
    pthread_mutex_init(&e->probe_lock, NULL);
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        if (*texts[i] && !(*texts[i] = pd_arena_dup(&e->arena, pd_str_of(*texts[i]))))
            rc = pd_fail(err, PD_ENOMEM, "out of memory");
    if (rc == 0 && c->model && !(e->model = strdup(c->model)))
        rc = pd_fail(err, PD_ENOMEM, "out of memory");
    if (rc == 0)
        rc = connect_host(e, err);
    if (rc < 0) {
        engine_free(e);
        return rc;
    }
    e->next = *list;
    *list = e;
    return 0;
}

int remote_engine(struct remote_pool *p, const struct remote_config *c, struct remote_engine **out,
                  struct pd_err *err)
{
    struct remote_engine *e;
    int rc = remote_check(c, err);

    if (rc < 0)
        return rc;
    pthread_mutex_lock(&p->lock);
    for (e = p->engines; e && !is_engine(e, c); e = e->next)
        ;
    if (!e)
        rc = engine_new(p, c, &p->engines, err);
    *out = e ? e : p->engines;
    pthread_mutex_unlock(&p->lock);
    return rc;
}

int remote_ask(struct remote_engine *e, const char *path, const struct pd_buf *body,
               struct pd_json **out, struct pd_err *err)
{
    struct pd_buf reply = PD_BUF_INIT(NET_BODY_MAX);
    struct net_call call = {.path = path, .body = body ? pd_buf_str(body) : (struct pd_str){0}};
    int rc;

    if (body && pd_buf_rc(body) < 0)
        return pd_fail(err, pd_buf_rc(body), "a request to engine '%s' is too large",
                       e->config.name);
    rc = net_calls_wait(e->host, &call, &reply, 1, err);
    if (rc == 0) {
        rc = pd_json_parse(pd_buf_str(&reply), out, err);
        if (rc < 0) {
            pd_err_context(err, "engine '%s' answers %s with what is no JSON", e->config.name,
                           path);
            rc = err ? (err->code = PD_EREMOTE) : PD_EREMOTE;
        }
    }
    pd_buf_done(&reply);
    return rc;
}

int remote_list_models(struct remote_engine *e, struct pd_err *err)
{
    struct pd_json *v = NULL;
    const struct pd_json *m;
    const char *id = NULL;
    struct pd_buf all = PD_BUF_INIT(4096);
    int64_t n;
    int rc = remote_ask(e, "/v1/models", NULL, &v, err);

    m = pd_json_first(pd_json_get(v, "data"));
    for (; rc == 0 && m; m = pd_json_next(m)) {
        id = pd_json_string(pd_json_get(m, "id"));
        pd_buf_printf(&all, "%s%s", all.len ? ", " : "", id ? id : "");
        if (id && (!e->model || strcmp(e->model, id) == 0))
            break;
    }
    if (rc == 0 && !m) {
        /* llama-server serves one model, whatever it is asked for */
        if (!e->model || e->dialect != &dialect_llama_server)
            rc = pd_fail(err, PD_ENOENT, "engine '%s' has no model '%s' (it has: %s)",
                         e->config.name, e->model ? e->model : "", all.data ? all.data : "none");
    } else if (rc == 0) {
        if (!e->model && !(e->model = strdup(id)))
            rc = pd_fail(err, PD_ENOMEM, "out of memory");
        if (pd_json_int(pd_json_get(m, "max_model_len"), &n) && n > 0 && n < REMOTE_CTX_MAX)
            e->n_ctx = (uint32_t)n;
    }
    pd_buf_done(&all);
    pd_json_free(v);
    return rc;
}

int remote_probe(struct remote_engine *e, struct pd_err *err)
{
    int rc = 0;

    pthread_mutex_lock(&e->probe_lock);
    if (!remote_is_probed(e)) {
        rc = e->dialect->probe(e, err);
        if (rc == 0 && !e->dialect->chats)
            rc = remote_anchor(e, err);
        atomic_store(&e->probed, rc == 0);
    }
    pthread_mutex_unlock(&e->probe_lock);
    return rc;
}

bool remote_is_probed(const struct remote_engine *e)
{
    return atomic_load(&e->probed);
}

const char *remote_engine_model(const struct remote_engine *e)
{
    return e->model;
}

void remote_engine_json(const struct remote_engine *e, struct pd_jw *w)
{
    pd_jw_put_text(w, "dialect", e->dialect->name);
    pd_jw_put_text(w, "model", e->model);
    if (e->n_ctx != REMOTE_CTX_MAX)
        pd_jw_put_int(w, "context", e->n_ctx);
    pd_jw_put_bool(w, "token_ids", !e->dialect->chats);
    pd_jw_put_bool(w, "steps", !e->dialect->chats);
    pd_jw_put_bool(w, "readings", e->dialect->n_top_max > 0);
    pd_jw_put_bool(w, "seeds", !e->dialect->no_seeds);
    pd_jw_put_bool(w, "chat_template", e->dialect->chats || e->dialect->chat_path);
}
