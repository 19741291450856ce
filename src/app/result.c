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

    pd_jw_put_text(w, "answer", r->answer);
    pd_jw_put_text(w, "key", r->key);
    pd_jw_put_text(w, "strategy", job->strategy->name);
    pd_jw_put_text(w, "model", job->model);
    pd_jw_put_text(w, "draft", job->draft);
    pd_jw_put_text(w, "scorer", job->scorer);
    pd_jw_put_text(w, "status", r->status);
    pd_jw_put_text(w, "stopped_by", r->stopped_by);
    pd_jw_put_text(w, "cut", r->cut);
    pd_jw_key(w, "support");
    pd_jw_object(w);
    pd_jw_put_uint(w, "agree", r->agree);
    pd_jw_put_uint(w, "of", r->of);
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
        pd_jw_put_str(w, "text", r->steps[i].text);
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
        pd_jw_put_uint(w, counts[i].name, counts[i].n);
    }
    pd_jw_end_object(w);
    pd_jw_put_uint(w, "seed", job->seed);
    if (r->correct >= 0) {
        pd_jw_put_bool(w, "correct", r->correct == 1);
    }
    if (r->verdict) {
        pd_jw_key(w, "grading");
        pd_jw_object(w);
        pd_jw_put_text(w, "verdict", r->verdict);
        pd_jw_put_text(w, "reason", r->reason);
        pd_jw_end_object(w);
    }
    pd_jw_put_text(w, "digest", r->digest[0] != '\0' ? r->digest : NULL);
    pd_jw_put_text(w, "trace", traced ? job->id : NULL);
    pd_jw_key(w, "elapsed_ms");
    pd_jw_int(w, r->elapsed_ns / PD_NS_PER_MS);
}
