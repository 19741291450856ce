/* The engine with its loaded models, and the open database. Used from one thread; jobs run on their
 * own, and models may be loaded and unloaded on others. */
#include "app/app_int.h"

#include <stdlib.h>

#include "proc/proc.h"

int app_check_sandbox(struct pd_err *err)
{
    return proc_check(err);
}

int app_open(const struct app_config *c, struct app **out, struct pd_err *err)
{
    struct app *a = calloc(1, sizeof *a);
    int rc = 0;

    if (!a)
        return pd_fail(err, PD_ENOMEM, "out of memory");
    pthread_mutex_init(&a->lock, NULL);
    if (!c->no_trace) {
        char *path = app_db_path(c->data_dir);

        rc = path ? store_open(path, c->read_only ? STORE_READ : STORE_WRITE, &a->store, err)
                  : pd_fail(err, PD_ENOMEM, "out of memory");
        free(path);
    }
    if (rc < 0) {
        app_close(a);
        return rc;
    }
    a->config = (struct eng_config){.n_threads = c->n_threads,
                                    .memory_bytes = c->memory_bytes,
                                    .prefill_chunk = c->prefill_chunk,
                                    .max_rows = c->max_branches};
    a->named_engines = c->named_engines;
    *out = a;
    return 0;
}

void app_close(struct app *a)
{
    if (!a)
        return;
    for (size_t i = 0; i < a->n_models; i++) {
        eng_model_unref(a->models[i].model);
        free(a->models[i].path);
    }
    free(a->models);
    remote_pool_free(a->remote);
    free(a->missing);
    eng_close(a->eng);
    store_close(a->store);
    pthread_mutex_destroy(&a->lock);
    free(a);
}

struct store *app_store(const struct app *a)
{
    return a->store;
}

struct eng *app_engine(const struct app *a)
{
    return a->eng;
}

int app_start_engine(struct app *a, const char *kv_type, struct pd_err *err)
{
    struct eng_config c = a->config;

    c.kv_type = kv_type ? kv_type : "f16";
    if (!a->eng) {
        struct eng *eng = NULL;
        int rc = eng_open(&c, &eng, err);

        a->eng = eng;
        return rc;
    }
    if (strcmp(eng_kv_type_name(a->eng), c.kv_type) != 0)
        return pd_fail(err, PD_EINVAL,
                       "a job wants the KV cache type %s, but the engine runs with %s", c.kv_type,
                       eng_kv_type_name(a->eng));
    return 0;
}

/* ---- loaded models -------------------------------------------------------------------------- */

/* With the lock held. */
static struct app_model *find_loaded(struct app *a, const char *path)
{
    for (size_t i = 0; i < a->n_models; i++)
        if (strcmp(a->models[i].path, path) == 0)
            return &a->models[i];
    return NULL;
}

struct eng_model *app_loaded_model(struct app *a, const char *path)
{
    struct eng_model *model = NULL;
    struct app_model *m;

    pthread_mutex_lock(&a->lock);
    m = find_loaded(a, path);
    if (m) {
        m->last_use = ++a->n_uses;
        model = eng_model_ref(m->model);
    }
    pthread_mutex_unlock(&a->lock);
    return model;
}

bool app_is_loaded(struct app *a, const char *path, char sha256[PD_SHA256_HEX])
{
    struct app_model *m;

    pthread_mutex_lock(&a->lock);
    m = find_loaded(a, path);
    if (m)
        pd_hex(eng_model_info(m->model)->sha256, PD_SHA256_BYTES, sha256);
    pthread_mutex_unlock(&a->lock);
    return m != NULL;
}

void app_loaded_json(struct app *a, struct pd_jw *w)
{
    char hex[PD_SHA256_HEX];

    pd_jw_array(w);
    pthread_mutex_lock(&a->lock);
    for (size_t i = 0; i < a->n_models; i++) {
        pd_hex(eng_model_info(a->models[i].model)->sha256, PD_SHA256_BYTES, hex);
        pd_jw_object(w);
        pd_jw_put_text(w, "file", a->models[i].path);
        pd_jw_put_text(w, "sha256", hex);
        pd_jw_put_bool(w, "in_use", eng_model_is_shared(a->models[i].model));
        pd_jw_end_object(w);
    }
    pthread_mutex_unlock(&a->lock);
    pd_jw_end_array(w);
}

/* With the lock held: its reference is the caller's. */
static struct eng_model *take_out(struct app *a, struct app_model *m)
{
    struct eng_model *model = m->model;

    free(m->path);
    *m = a->models[--a->n_models];
    return model;
}

/* The model that nobody uses and that was used last before all others. False: all are in use. */
static bool evict(struct app *a)
{
    struct app_model *oldest = NULL;
    struct eng_model *model = NULL;

    pthread_mutex_lock(&a->lock);
    for (struct app_model *m = a->models; m < a->models + a->n_models; m++)
        if (!eng_model_is_shared(m->model) && (!oldest || m->last_use < oldest->last_use))
            oldest = m;
    if (oldest)
        model = take_out(a, oldest);
    pthread_mutex_unlock(&a->lock);
    eng_model_unref(model); /* gives its memory back: not under the lock */
    return oldest != NULL;
}

int app_load_model(struct app *a, const char *path, struct pd_err *err)
{
    struct eng_model *model = app_loaded_model(a, path);
    struct remote_engine *engine;
    struct app_model *grown;
    char *copy;
    int rc;

    if (path[0] != '/') {
        rc = app_remote_engine(a, path, &engine, err);
        return rc == 1 ? remote_probe(engine, err) : rc;
    }
    if (model) {
        eng_model_unref(model);
        return 0;
    }
    do
        rc = eng_model_open(a->eng, path, &model, err);
    while (rc == PD_ENOMEM && a->config.memory_bytes && evict(a));
    if (rc < 0)
        return rc;
    copy = strdup(path);
    pthread_mutex_lock(&a->lock);
    grown = copy ? realloc(a->models, (a->n_models + 1) * sizeof *grown) : NULL;
    if (grown) {
        a->models = grown;
        grown[a->n_models++] = (struct app_model){copy, model, ++a->n_uses};
    }
    pthread_mutex_unlock(&a->lock);
    if (grown)
        return 0;
    free(copy);
    eng_model_unref(model);
    return pd_fail(err, PD_ENOMEM, "out of memory");
}

int app_unload_model(struct app *a, const char *path, struct pd_err *err)
{
    struct eng_model *model = NULL;
    struct app_model *m;
    int rc = 0;

    pthread_mutex_lock(&a->lock);
    m = find_loaded(a, path);
    if (m && eng_model_is_shared(m->model))
        rc = pd_fail(err, PD_EBUSY, "the model is in use: its jobs must end first");
    else if (m)
        model = take_out(a, m);
    pthread_mutex_unlock(&a->lock);
    eng_model_unref(model);
    return rc;
}

void app_load_elsewhere(struct app *a, bool on)
{
    a->elsewhere = on;
}

char *app_take_missing(struct app *a)
{
    char *path = a->missing;

    a->missing = NULL;
    return path;
}

int app_miss(struct app *a, const char *what, struct pd_err *err)
{
    free(a->missing);
    a->missing = strdup(what);
    return a->missing ? pd_fail(err, PD_EBUSY, "'%s' is not loaded", what)
                      : pd_fail(err, PD_ENOMEM, "out of memory");
}

int app_model(struct app *a, const char *path, struct eng_model **out, struct pd_err *err)
{
    int rc = 0;

    while (rc == 0 && !(*out = app_loaded_model(a, path)))
        rc = a->elsewhere ? app_miss(a, path, err) : app_load_model(a, path, err);
    return rc;
}
