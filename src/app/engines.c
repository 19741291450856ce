/* Models that engines elsewhere serve: by a name of the configuration, or described where a model is
 * named. Any thread. */
#include "app/app_int.h"

#include "app/settings.h"

#define CONFIG_MAX ((size_t)1 << 20)

static int use(struct app *a, const struct remote_config *c, struct remote_engine **out,
               struct pd_err *err)
{
    int rc = 0;

    pthread_mutex_lock(&a->lock);
    if (!a->remote)
        rc = remote_pool_new(&a->remote, err);
    pthread_mutex_unlock(&a->lock);
    return rc < 0 ? rc : remote_engine(a->remote, c, out, err);
}

void app_leave_engines(struct app *a)
{
    pthread_mutex_lock(&a->lock);
    remote_pool_end(a->remote);
    pthread_mutex_unlock(&a->lock);
}

int app_remote_engine(struct app *a, const char *name, struct remote_engine **out,
                      struct pd_err *err)
{
    struct settings *s = settings_current();
    const struct settings_model *m = s ? settings_model(s, name) : NULL;
    struct remote_config c;
    struct pd_arena arena;
    int rc;

    pd_arena_init(&arena, CONFIG_MAX);
    if (m && m->alias)
        m = settings_model(s, m->alias);
    if (m && m->engine) {
        c = *settings_engine(s, m->engine); /* the reader saw that there is one */
        c.model = m->id;
        rc = 1;
    } else {
        rc = remote_parse(name, &arena, &c, err);
        if (rc == 1 && a->named_engines)
            rc = pd_fail(err, PD_EPERM,
                         "engines elsewhere are named in the daemon's configuration, not in "
                         "requests: '%s'",
                         name);
    }
    if (rc == 1) {
        rc = use(a, &c, out, err);
        rc = rc < 0 ? rc : 1;
    }
    pd_arena_done(&arena);
    settings_unref(s);
    return rc;
}

int app_probe_engine(const char *name, struct pd_jw *w, struct pd_err *err)
{
    struct settings *s = settings_current();
    const struct remote_config *known = s ? settings_engine(s, name) : NULL;
    struct remote_pool *pool = NULL;
    struct remote_engine *e = NULL;
    struct remote_config c;
    struct pd_arena arena;
    int rc = 1;

    pd_arena_init(&arena, CONFIG_MAX);
    if (known)
        c = *known;
    else
        rc = remote_parse(name, &arena, &c, err);
    if (rc == 0)
        rc = pd_fail(err, PD_ENOENT, "no engine '%s' in the configuration, nor DIALECT+URL", name);
    if (rc == 1)
        rc = remote_pool_new(&pool, err);
    if (rc == 0)
        rc = remote_engine(pool, &c, &e, err);
    if (rc == 0)
        rc = remote_probe(e, err);
    if (rc == 0)
        remote_engine_json(e, w);
    remote_pool_free(pool);
    pd_arena_done(&arena);
    settings_unref(s);
    return rc;
}
