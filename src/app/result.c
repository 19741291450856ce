/* The result of a job as JSON: what `ponder solve --json` prints and the daemon answers. */
#include "app/app.h"
#include "base/clock.h"
#include "base/json.h"

void app_result_json(struct pd_jw *w, const struct pd_job *job, const struct pd_result *r,
                     bool traced)
{
    const struct pd_usage *u = &r->usage;
    const struct {
        const char *name;
        uint64_t n;
    } counts[] = {{"generated", u->generated},  {"discarded", u->discarded},
                  {"prefilled", u->prefilled},  {"cached", u->cached},
                  {"scored", u->scored},        {"scorer_passes", u->scorer_passes},
                  {"sequential", u->sequential}};

    pd_jw_key(w, "answer");
    pd_jw_strz(w, r->answer);
    pd_jw_key(w, "key");
    pd_jw_strz(w, r->key);
    pd_jw_key(w, "strategy");
    pd_jw_strz(w, job->strategy->name);
    pd_jw_key(w, "model");
    pd_jw_strz(w, job->model);
    pd_jw_key(w, "draft");
    pd_jw_strz(w, job->draft);
    pd_jw_key(w, "scorer");
    pd_jw_strz(w, job->scorer);
    pd_jw_key(w, "status");
    pd_jw_strz(w, r->status);
    pd_jw_key(w, "stopped_by");
    pd_jw_strz(w, r->stopped_by);
    pd_jw_key(w, "cut");
    pd_jw_strz(w, r->cut);
    pd_jw_key(w, "support");
    pd_jw_object(w);
    pd_jw_key(w, "agree");
    pd_jw_uint(w, r->agree);
    pd_jw_key(w, "of");
    pd_jw_uint(w, r->of);
    pd_jw_end_object(w);
    pd_jw_key(w, "confidence");
    if (r->confidence >= 0)
        pd_jw_double(w, r->confidence);
    else
        pd_jw_null(w);
    pd_jw_key(w, "steps");
    pd_jw_array(w);
    for (size_t i = 0; i < r->n_steps; i++) {
        pd_jw_object(w);
        pd_jw_key(w, "text");
        pd_jw_str(w, r->steps[i].text);
        pd_jw_key(w, "score");
        if (r->steps[i].score >= 0)
            pd_jw_double(w, r->steps[i].score);
        else
            pd_jw_null(w);
        pd_jw_key(w, "tokens");
        if (r->steps[i].n_tokens >= 0)
            pd_jw_int(w, r->steps[i].n_tokens);
        else
            pd_jw_null(w);
        pd_jw_end_object(w);
    }
    pd_jw_end_array(w);
    pd_jw_key(w, "usage");
    pd_jw_object(w);
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        pd_jw_key(w, counts[i].name);
        pd_jw_uint(w, counts[i].n);
    }
    pd_jw_end_object(w);
    pd_jw_key(w, "seed");
    pd_jw_uint(w, job->seed);
    if (r->correct >= 0) {
        pd_jw_key(w, "correct");
        pd_jw_bool(w, r->correct == 1);
    }
    if (r->verdict) {
        pd_jw_key(w, "grading");
        pd_jw_object(w);
        pd_jw_key(w, "verdict");
        pd_jw_strz(w, r->verdict);
        pd_jw_key(w, "reason");
        pd_jw_strz(w, r->reason);
        pd_jw_end_object(w);
    }
    pd_jw_key(w, "digest");
    pd_jw_strz(w, r->digest[0] != '\0' ? r->digest : NULL);
    pd_jw_key(w, "trace");
    pd_jw_strz(w, traced ? job->id : NULL);
    pd_jw_key(w, "elapsed_ms");
    pd_jw_int(w, r->elapsed_ns / PD_NS_PER_MS);
}
