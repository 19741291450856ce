/* The durable job queue of a daemon: jobs are stored before they are acknowledged, run some at a
 * time, and go on after a restart inside the tree they had, also after kill -9.
 *
 * Thread: the queue has one, the dispatcher, and `struct app` is the dispatcher's alone from
 * queue_open to queue_close; only app_store(app) may be used elsewhere. The functions below may be
 * called on any thread; none of them waits but queue_open and queue_close. They put a message into
 * the dispatcher's inbox and return: PD_ELIMIT when it is full, PD_ECANCEL when the queue is being
 * closed, and then no callback comes. Messages of one thread are taken in their order, so a
 * queue_tell right behind the queue_submit of the same id finds the job.
 *
 * Callbacks all come on the dispatcher's thread. They must be quick, must not wait and may call
 * queue_submit, queue_tell and queue_call. What they are handed is borrowed for the call. A `user`
 * pointer must live until the last callback that it is for: after `stored` with another verdict
 * than QUEUE_STORED that was it, otherwise it is `ended`.
 *
 * The life of a job, by its row's status; what runs or waits at the time of a crash waits after it:
 *
 *     submit --> queued --start--> running --> done | failed
 *                 ^  |  ^             |  |
 *          resume |  |  +--close------+  +--cancel--> cancelled
 *                 |  +--pause--> paused <--pause--+
 *                 +----------------+--cancel--> cancelled
 *
 * Order: greater priority first; then the client (see queue_submission.client) of which fewest jobs
 * run, then the one whose last start is longest ago; then first come. A waiting job is its row and
 * some ninety bytes here.
 *
 * Models are loaded on a thread of their own. A submission whose model is not loaded waits for it,
 * unstored, and so does a job that is to start, in its slot; all others go on.
 *
 * Other processes may work on the same database: a job whose lock another has (`ponder solve
 * --resume`) is left alone, and jobs that were not submitted to a daemon are never adopted. */
#ifndef PD_APP_QUEUE_H
#define PD_APP_QUEUE_H

#include "app/app.h"

struct queue;

/* How a job ended, or came to rest. job and result are NULL when it did not run in this process
 * since its last rest, and belong to the dispatcher: copy what is to be kept. */
struct queue_end {
    /* done failed cancelled paused queued; deleted: its rows are gone; running: it was not started,
     * as another process runs it */
    const char *id, *status;
    const struct pd_job *job;
    const struct pd_result *result; /* whatever it has, also when it failed */
    const struct pd_err *err;       /* NULL when done */
};

struct queue_config {
    struct app *app;   /* has a store; not of the queue: close it after */
    unsigned max_jobs; /* running at once */
    size_t
        max_waiting; /* more are QUEUE_FULL; resumed and recovered jobs do not count against it */
    /* For every job that ends or comes to rest, after its own callback; may be NULL. */
    void (*ended)(void *user, const struct queue_end *end);
    void *user;
};

/* Takes over the database's queue: recovers what waited or ran, starts the dispatcher. PD_EBUSY:
 * another daemon has it. */
int queue_open(const struct queue_config *c, struct queue **out, struct pd_err *err);
/* Accepts nothing more, brings running jobs to rest as 'queued' (attached ones, and attached ones
 * that wait, are cancelled), and frees. PD_ETIMEOUT: some did not rest in time; then nothing is
 * freed, the caller must end the process, and the jobs go on at the next start as after a crash. */
int queue_close(struct queue *q, int64_t timeout_ns, struct pd_err *err);

enum queue_verdict {
    QUEUE_STORED,   /* new; durable as 'queued' */
    QUEUE_KNOWN,    /* its idempotency key and body are those of an earlier job: id is that one's */
    QUEUE_CONFLICT, /* its key is that of a job with another body */
    QUEUE_FULL,     /* max_waiting wait already */
    QUEUE_REFUSED, /* err says why: a request that makes no sense, a model that is not there, … */
};

/* Of one submission; functions may be NULL. */
struct queue_watch {
    /* Once. id: of the job (the earlier one's for KNOWN and CONFLICT). err: NULL unless REFUSED. */
    void (*stored)(void *user, enum queue_verdict v, const char *id, const struct pd_err *err);
    /* Before its thread starts, each time it does. job lives until `ended` returns; what of it may
     * be read, its header says (progress: by any thread). */
    void (*started)(void *user, struct app_job *job);
    /* Once: when it is resumed after a rest, nobody watches any more. */
    void (*ended)(void *user, const struct queue_end *end);
};

struct queue_submission {
    struct app_request request; /* copied in depth */
    const char *idem_key;       /* NULL: none */
    struct pd_str body;         /* what must be the same under one key; only its hash is kept */
    const char *client;         /* whose share it counts to; NULL: the peer's */
    int64_t peer_uid;           /* -1: not known */
    int32_t priority;           /* 0: usual */
    bool attached; /* to a client that waits for it: not recovered when the process ends */
    const struct queue_watch *watch; /* lives as long as the queue; NULL: nobody watches */
    void *user;
};

/* out_id: the new job's, already now, for queue_tell. */
int queue_submit(struct queue *q, const struct queue_submission *s, char out_id[PD_JOB_ID_MAX],
                 struct pd_err *err);

enum queue_verb {
    QUEUE_CANCEL, /* done, failed and cancelled jobs stay as they are: so are all verbs idempotent
                   */
    QUEUE_PAUSE,
    QUEUE_RESUME, /* of a paused job: its place is that of its submission */
    QUEUE_DELETE, /* cancels what runs, then its rows go */
};

/* told (may be NULL), when the job has come to rest, durably: rc 0 and its status then; PD_ENOENT
 * no such job (by its whole id); PD_EINVAL not a job of this queue; PD_EBUSY in the hands of
 * another process. A `user` must live until then. */
int queue_tell(struct queue *q, enum queue_verb verb, const char *id,
               void (*told)(void *user, int rc, const char *status, const struct pd_err *err),
               void *user, struct pd_err *err);

/* fn(app, user) on the dispatcher's thread: for what else needs the app (loading a model, a
 * tokenizer). Not for long work: nothing is started meanwhile. */
int queue_call(struct queue *q, void (*fn)(struct app *a, void *user), void *user,
               struct pd_err *err);

/* Loads a model by its name; told with rc 0 when it is there (PD_ENOENT, PD_EFORMAT, PD_ENOMEM).
 * Jobs load theirs by themselves: this is for who wants it before. */
int queue_load(struct queue *q, const char *model,
               void (*told)(void *user, int rc, const char *status, const struct pd_err *err),
               void *user, struct pd_err *err);

/* Other limits than it was opened with; what runs and waits already stays. */
int queue_limit(struct queue *q, unsigned max_jobs, size_t max_waiting, struct pd_err *err);

struct queue_counts {
    size_t waiting, running;
};
struct queue_counts queue_counts(const struct queue *q); /* of this moment; any thread */

/* What running jobs are at, at most max of them: how many. Any thread. */
struct queue_running {
    char id[PD_JOB_ID_MAX];
    unsigned live, steps; /* see pd_progress */
    uint64_t tokens;
    double best;
    bool scoring;
};
size_t queue_running(struct queue *q, struct queue_running *out, size_t max);

#endif
