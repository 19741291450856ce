/* Engines and residency: GET /v1/engines, /props, POST /v1/engines/{name}/probe,
 * /v1/models/{id}/load and /unload. Loading is the queue's, on a thread of its own; unloading
 * happens on a worker thread. */
#include "daemon/daemon_int.h"

#include <stdlib.h>

#define ENGINE       "local"
#define REPLY_MAX    ((size_t)8 << 20)
#define TEMPLATE_MAX ((size_t)1 << 20)

/* ---- engines -------------------------------------------------------------------------------- */

static void put_engine(struct daemon *d, struct pd_jw *w)
{
    const struct eng *engine = app_engine(d->app);
    struct eng_stats s = {0};

    if (engine)
        eng_stats(engine, &s);
    pd_jw_object(w);
    pd_jw_put_text(w, "name", ENGINE);
    pd_jw_put_text(w, "type", "gguf");
    pd_jw_key(w, "up"); /* opened by the first job or load */
    pd_jw_bool(w, engine != NULL);
    pd_jw_put_text(w, "isa", engine ? eng_isa_name(engine) : NULL);
    pd_jw_put_text(w, "kv_type", engine ? eng_kv_type_name(engine) : NULL);
    pd_jw_key(w, "threads");
    if (engine)
        pd_jw_uint(w, eng_n_threads(engine));
    else
        pd_jw_null(w);
    pd_jw_key(w, "memory_limit_bytes");
    if (d->c->settings->memory)
        pd_jw_uint(w, d->c->settings->memory);
    else
        pd_jw_null(w);
    pd_jw_put_uint(w, "kv_bytes", s.kv_page_bytes_used);
    pd_jw_put_uint(w, "kv_bytes_max", engine ? s.kv_bytes_max : 0);
    pd_jw_key(w, "models");
    app_loaded_json(d->app, w);
    pd_jw_end_object(w);
}

/* Members of an open object. Where its key is nobody is told. */
static void put_elsewhere(const struct remote_config *c, struct pd_jw *w)
{
    pd_jw_put_text(w, "name", c->name);
    pd_jw_put_text(w, "type", c->dialect);
    pd_jw_put_text(w, "url", c->url);
}

static void engines(struct daemon *d, struct http_request *r, const struct route_args *args)
{
    struct pd_buf b = PD_BUF_INIT(REPLY_MAX);
    struct pd_jw w;

    (void)args;
    pd_jw_init(&w, &b);
    pd_jw_object(&w);
    pd_jw_put_text(&w, "object", "list");
    pd_jw_key(&w, "data");
    pd_jw_array(&w);
    put_engine(d, &w);
    for (size_t i = 0; i < d->settings->n_engines; i++) {
        pd_jw_object(&w);
        put_elsewhere(&d->settings->engines[i], &w);
        pd_jw_end_object(&w);
    }
    pd_jw_end_array(&w);
    pd_jw_end_object(&w);
    api_json(r, 200, &b);
}

/* ---- a question about one model -------------------------------------------------------------- */

struct asking {
    struct daemon *d;
    struct http_request *r; /* loop; NULL: the client has left */
    char *name;
    struct pd_buf reply;
    int rc;
    struct pd_err err;
};

static void asking_free(struct asking *a)
{
    pd_buf_done(&a->reply);
    free(a->name);
    free(a);
}

static void client_left(void *user)
{
    struct asking *a = user;

    a->r = NULL;
}

static void answer(struct daemon *d, void *arg)
{
    struct asking *a = arg;

    (void)d;
    if (a->r && a->rc == 0)
        api_json(a->r, 200, &a->reply);
    else if (a->r)
        api_fail(a->r, &a->err);
    asking_free(a);
}

/* NULL: it has been replied to. */
static struct asking *asking_new(struct daemon *d, struct http_request *r, const char *name)
{
    struct asking *a = calloc(1, sizeof *a);

    if (a && (a->name = strdup(name))) {
        a->d = d;
        a->r = r;
        a->reply = (struct pd_buf)PD_BUF_INIT(REPLY_MAX);
        return a;
    }
    free(a);
    api_no_memory(r);
    return NULL;
}

static void under_way(struct asking *a, bool accepted)
{
    if (accepted) {
        http_on_close(a->r, client_left, a);
        return;
    }
    http_set_header(a->r, "Retry-After", "1");
    api_error(a->r, 503, "unavailable_error", "engine_down", NULL, "too many requests wait");
    asking_free(a);
}

/* ---- probing -------------------------------------------------------------------------------- */

/* On a worker thread. */
static void ask_engine(struct daemon *d, void *arg)
{
    struct asking *a = arg;
    struct settings *s = settings_current();
    const struct remote_config *c = s ? settings_engine(s, a->name) : NULL;
    struct pd_jw w;

    pd_jw_init(&w, &a->reply);
    if (strcmp(a->name, ENGINE) == 0) { /* which cannot be out of reach */
        put_engine(d, &w);
    } else if (!s) {
        a->rc = pd_fail(&a->err, PD_ENOMEM, "out of memory");
    } else if (!c) {
        a->rc = pd_fail(&a->err, PD_ENOENT, "there is no engine '%.64s'", a->name);
    } else {
        pd_jw_object(&w);
        put_elsewhere(c, &w);
        a->rc = app_probe_engine(a->name, &w, &a->err);
        pd_jw_end_object(&w);
    }
    settings_unref(s);
}

static void probe(struct daemon *d, struct http_request *r, const struct route_args *args)
{
    struct asking *a = asking_new(d, r, args->v[0]);

    if (a)
        under_way(a, daemon_work(d, ask_engine, answer, a));
}

/* ---- residency ------------------------------------------------------------------------------ */

static void put_moved(struct asking *a, bool loaded)
{
    struct pd_jw w;

    pd_jw_init(&w, &a->reply);
    pd_jw_object(&w);
    pd_jw_put_text(&w, "id", a->name);
    pd_jw_put_text(&w, "object", "model");
    pd_jw_put_bool(&w, "loaded", loaded);
    pd_jw_end_object(&w);
}

/* On the dispatcher's thread. */
static void loaded(void *user, int rc, const char *status, const struct pd_err *err)
{
    struct asking *a = user;

    (void)status;
    a->rc = rc;
    if (err)
        a->err = *err;
    put_moved(a, true);
    if (!daemon_post(a->d, answer, a)) /* the loop has ended, and every client has left */
        asking_free(a);
}

static void load(struct daemon *d, struct http_request *r, const struct route_args *args)
{
    struct asking *a = asking_new(d, r, args->v[0]);

    if (a)
        under_way(a, queue_load(d->queue, a->name, loaded, a, &a->err) == 0);
}

/* On a worker thread. */
static void take_out(struct daemon *d, void *arg)
{
    struct asking *a = arg;
    char *path = NULL;

    a->rc = app_find_model(a->name, &path, &a->err);
    if (a->rc == 0)
        a->rc = app_unload_model(d->app, path, &a->err);
    put_moved(a, false);
    free(path);
}

static void unload(struct daemon *d, struct http_request *r, const struct route_args *args)
{
    struct asking *a = asking_new(d, r, args->v[0]);

    if (a)
        under_way(a, daemon_work(d, take_out, answer, a));
}

/* ---- what llama-server's clients ask -------------------------------------------------------- */

static void read_props(struct daemon *d, void *arg)
{
    struct asking *a = arg;
    struct pd_buf template = PD_BUF_INIT(TEMPLATE_MAX);
    struct eng_model_info info = {0};
    char *path = NULL;
    struct pd_jw w;

    a->rc = app_find_model(a->name, &path, &a->err);
    if (a->rc == 0)
        a->rc = eng_model_peek(path, &info, NULL, &a->err);
    if (a->rc == 0) {
        bool chats = eng_model_template(path, &template, NULL) == 0;

        pd_jw_init(&w, &a->reply);
        pd_jw_object(&w);
        pd_jw_put_text(&w, "model_alias", a->name);
        pd_jw_put_text(&w, "model_path", path);
        pd_jw_put_uint(&w, "total_slots", (uint64_t)d->c->settings->max_jobs);
        pd_jw_put_text(&w, "build_info", "ponder-" PONDER_VERSION);
        pd_jw_key(&w, "chat_template");
        if (chats)
            pd_jw_str(&w, pd_buf_str(&template));
        else
            pd_jw_null(&w);
        pd_jw_key(&w, "default_generation_settings");
        pd_jw_object(&w);
        pd_jw_put_uint(&w, "n_ctx", info.n_ctx);
        pd_jw_end_object(&w);
        pd_jw_end_object(&w);
        eng_model_info_done(&info);
    }
    pd_buf_done(&template);
    free(path);
}

static void props(struct daemon *d, struct http_request *r, const struct route_args *args)
{
    const char *model = http_query(r, "model");
    struct asking *a;

    (void)args;
    if (model && strchr(model, '/')) {
        api_error(r, 400, "invalid_request_error", "unsupported_value", "model",
                  "model must be the name of a model that was added, not a path");
        return;
    }
    a = asking_new(d, r, model ? model : app_default_model);
    if (a)
        under_way(a, daemon_work(d, read_props, answer, a));
}

const struct route routes_engine[] = {
    {HTTP_GET, "/v1/engines", engines, false},
    {HTTP_POST, "/v1/engines/{name}/probe", probe, false},
    {HTTP_POST, "/v1/models/{id}/load", load, false},
    {HTTP_POST, "/v1/models/{id}/unload", unload, false},
    {HTTP_GET, "/props", props, false},
    {HTTP_GET, NULL, NULL, false},
};
