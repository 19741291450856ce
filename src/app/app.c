/* The engine with its loaded models, and the open database. Used from one thread; jobs run on their
 * own. */
#include "app/app_int.h"

#include <stdlib.h>

int app_open(const struct app_config *c, struct app **out, struct pd_err *err)
{
    struct app *a = calloc(1, sizeof *a);
    int rc = a ? 0 : pd_fail(err, PD_ENOMEM, "out of memory");

    if (rc == 0 && !c->no_trace) {
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
    eng_close(a->eng);
    store_close(a->store);
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

int app_model(struct app *a, const char *path, struct eng_model **out, struct pd_err *err)
{
    struct app_model *grown;
    int rc;

    for (size_t i = 0; i < a->n_models; i++)
        if (strcmp(a->models[i].path, path) == 0) {
            *out = a->models[i].model;
            return 0;
        }
    grown = realloc(a->models, (a->n_models + 1) * sizeof *grown);
    if (!grown)
        return pd_fail(err, PD_ENOMEM, "out of memory");
    a->models = grown;
    grown += a->n_models;
    rc = eng_model_open(a->eng, path, &grown->model, err);
    if (rc < 0)
        return rc;
    grown->path = strdup(path);
    if (!grown->path) {
        eng_model_unref(grown->model);
        return pd_fail(err, PD_ENOMEM, "out of memory");
    }
    a->n_models++;
    *out = grown->model;
    return 0;
}
