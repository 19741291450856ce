/* One job on fakes, made, run, and run again from any prefix of its record; what tests of
 * strategies are written in. On the test thread only. */
#ifndef PD_TESTS_TRIAL_H
#define PD_TESTS_TRIAL_H

#include "tests/support/fake_generator.h"
#include "tests/support/memory_sink.h"

struct trial {
    struct fake gen, scorer, draft; /* change their world before the run */
    struct memory_sink sink;
    struct pd_job job; /* change budget, seed, … before the run */
    struct pd_result result;
    struct pd_err err;
    int rc;
    char options[1024], params[8192], scorer_params[512];
    char digest[65]; /* of the last run; "" when it failed */
};

/* options: "samples=4 max_tokens=50" or ""; the strategy's or common ones. Scorer: reward, kind
 * auto. */
void trial_init(struct trial *t, const struct pd_strategy *strategy, const char *options);
void trial_script(struct trial *t, const char *const *lines); /* see fake_script */
/* A run from nothing; what an earlier run left is forgotten. Returns and keeps rc. */
int trial_run(struct trial *t);
/* As if the process had died after n records: resumes from them, and goes on recording. */
int trial_resume(struct trial *t, size_t n);
/* Replays all that was recorded, without a sink, PD_JOB_RECORDED without generators. */
int trial_replay(struct trial *t, enum pd_job_mode mode);
/* As trial_replay, of a given trace. */
int trial_replay_trace(struct trial *t, enum pd_job_mode mode, const struct pd_trace *stored);
void trial_done(struct trial *t); /* fails the test when a context or a lane was not given back */

/* Two searches of three verbs or more, for tests of what is under them. A beam of two, two children
 * each, by the last reward, finished lines vote with it; and a race of five to two, the shortest
 * wins. */
extern const struct pd_strategy trial_beam, trial_race;

/* The node of the last run with this id; the text of its whole line (valid until the next run). */
const struct pd_node_rec *trial_node(const struct trial *t, uint32_t id);
const char *trial_line(struct trial *t, uint32_t id);

#endif
