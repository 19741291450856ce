/* A run: the jobs of a recipe, on one engine, into the trace database and a folder.
 *
 * The folder has recipe.json (as it was read), lock.json (all that determines the results, and the
 * run's id), results.jsonl (a line a job) and report/. A run is continued by opening it again: what
 * is stored is not computed again, also after kill -9. Its digest is a function of the digests of
 * its jobs in the order of the plan, so threads, concurrency and interruptions leave no mark.
 *
 * All functions on the thread of the app. Jobs run on their own threads and share the engine and
 * its prefix tree. */
#ifndef PD_APP_RUN_H
#define PD_APP_RUN_H

#include "app/recipe.h"

struct run;

struct run_config {
    const char *recipe, *dir; /* paths */
    bool fresh;               /* drop what the folder's run has done */
    const char *only;         /* this strategy, or variant; NULL: all */
    uint64_t limit;           /* the first problems; 0: all */
    unsigned concurrency;     /* jobs at a time, at least 1 */
    double max_failed;        /* below 1: a share of the jobs; stop when more failed; <0: never */
};

/* PD_EDIFFER: the folder is of another recipe, data set or model: what is different. PD_EBUSY:
 * another process is at it. Loads the models. */
int run_open(struct app *a, const struct run_config *c, struct run **out, struct pd_err *err);
/* Starts what there is room for, and waits for an end until deadline_ns. 0: all jobs that were
 * asked for are done; PD_ETIMEOUT: they are not yet; PD_ECANCEL: run_stop, and nothing runs any
 * more; PD_ELIMIT: too many failed. Else an error after which no job can be right (disk, memory).
 */
int run_step(struct run *r, int64_t deadline_ns, struct pd_err *err);
void run_stop(struct run *r); /* jobs that run come to rest; what they have is kept */
/* Writes results.jsonl and lock.json, and what the run came to, to its row. */
int run_finish(struct run *r, struct pd_err *err);
void run_close(struct run *r); /* NULL is fine */

struct run_progress {
    size_t n_jobs, n_done, n_failed; /* of those asked for */
    size_t n_found;                  /* of n_done: found done */
    size_t n_running, n_right;
    uint64_t generated; /* tokens, of jobs done now, and of running ones */
};
void run_progress(const struct run *r, struct run_progress *out);
const char *run_id(const struct run *r);
const struct recipe *run_recipe(const struct run *r);
/* Of the jobs asked for, when they are done (run_step has returned 0); else "". */
const char *run_digest(const struct run *r);
bool run_is_whole(const struct run *r); /* and these are all of the recipe's */

/* The id of a run by its id, a prefix of it, or its folder. */
int run_find(const char *asked, char out_id[PD_JOB_ID_MAX], struct pd_err *err);

/* What a recipe would take, loading nothing. */
struct run_plan_row {
    const struct recipe_variant *variant;
    uint64_t n_jobs;
    double lines;  /* of thought a job, about */
    double tokens; /* of all its jobs, about; 0: not known */
};
struct run_plan {
    struct run_plan_row *rows;
    size_t n_rows;
    uint64_t n_problems;
    double line_tokens;             /* of a line of thought so far with this model; 0: not known */
    double tokens_per_s;            /* the same */
    uint64_t fixed_bytes, kv_bytes; /* models; KV of the largest jobs at this concurrency */
};
int run_plan(struct app *a, const struct recipe *r, const struct run_config *c,
             struct run_plan *out, struct pd_err *err);
void run_plan_done(struct run_plan *p);

#endif
