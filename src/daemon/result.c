/* The result of a stored job, from its record: the dispatcher makes the job (only there is it known
 * which models are loaded), a worker lets it read its record. */
#include "daemon/daemon_int.h"

#include <stdio.h>

#include "base/clock.h"

static void result_done(struct api_question *q)
{
    app_job_free(pd_container_of(q, struct result_question, q)->job);
}

void *result_question_new(size_t bytes, struct daemon *d, struct http_request *r,
                          int (*read)(struct api_question *q, struct pd_jw *w, struct pd_err *err))
{
    struct result_question *q = api_question_new(bytes, d, r, read);

    if (q)
        q->q.done = result_done;
    return q;
}

static void on_made(struct daemon *d, void *arg)
{
    struct result_question *r = arg;

    (void)d;
    api_ask(&r->q);
}

static int make(struct app *app, struct result_question *r, struct pd_err *err)
{
    int rc = strlen(r->id) < 30 /* a prefix names no job here */
                 ? pd_fail(err, PD_ENOENT, "there is no job '%s'", r->id)
                 : app_job_stored(app, r->id, PD_JOB_RECORDED, &r->job, err);

    if (rc == 0 && !app_job_is_done(r->job))
        rc = pd_fail(err, PD_EBUSY, "job %s has no result, see its status", r->id);
    return rc < 0 ? rc : app_job_take_tokenizer(r->job, err);
}

/* On the dispatcher's thread. */
static void make_job(struct app *app, void *arg)
{
    struct result_question *r = arg;

    r->q.rc = make(app, r, &r->q.err);
    daemon_post(r->q.d, on_made, r);
}

void result_ask(struct result_question *r)
{
    struct pd_err err;
    int rc = queue_call(r->q.d->queue, make_job, r, &err); /* r is the dispatcher's now */

    if (rc == 0)
        return;
    r->q.rc = rc;
    r->q.err = err;
    api_ask(&r->q);
}

int result_put(struct result_question *r, struct pd_jw *w, struct pd_err *err)
{
    const struct pd_result *result = NULL;
    struct store_job_row *rows = NULL;
    struct pd_result told;
    size_t n = 0;
    int rc;

    if (r->q.rc < 0)
        return r->q.rc; /* there is no job: err says why */
    rc = app_job_start(r->job, err);
    if (rc == 0)
        rc = app_job_wait(r->job, PD_NEVER_NS, &result, err);
    if (rc == 0)
        rc = store_job_list(app_store(r->q.d->app),
                            &(struct store_job_query){.id = r->id, .limit = 1}, &rows, &n, err);
    if (rc == 0 && n == 0) /* deleted meanwhile */
        rc = pd_fail(err, PD_ENOENT, "there is no job '%s'", r->id);
    if (rc == 0) {
        told = *result; /* borrowed, with the time of the run and not of this reading */
        told.elapsed_ns = (rows[0].finished_ms - rows[0].started_ms) * PD_NS_PER_MS;
        app_result_json(w, app_job_core(r->job), &told, true);
    }
    store_job_list_free(rows, n);
    return rc;
}
