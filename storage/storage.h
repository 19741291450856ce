/* The trace database: one SQLite file with everything that jobs did. The only door of storage/.
 *
 * A store owns a writer thread, which holds the only writing connection. store_*_put() copies what
 * it is given, queues it and returns; the writer takes everything that waits into one transaction
 * (group commit). store_flush() returns when all that was put before is durable, and nothing may be
 * reported as done before that. An error of the writer sticks: every later put and every flush
 * returns it, and nothing after the failing transaction is written; the file stays as its last
 * commit left it.
 *
 * Puts for one job must come in an order in which each refers to what was put before: the job
 * first, a node before its scores. Putting again what exists replaces it: a job by its id, a node
 * by (job, id), a score by (job, node, scorer), an event by (job, seq). Calls only append: the n-th
 * call put for a job is its call n-1, which is what call_id of nodes and scores means (column
 * call.seq; not call.id, which counts over all jobs).
 *
 * Any thread may call any function but store_open and store_close. Several processes may write to
 * one file at once; a lock that is held for more than ten seconds is PD_EBUSY.
 *
 * Errors: PD_EFORMAT not a database, a foreign or a newer one; PD_ENOENT no such file or job;
 * PD_EPERM not allowed; PD_EBUSY locked by another process; PD_EIO the disk is full or failed. */
#ifndef PD_STORAGE_STORAGE_H
#define PD_STORAGE_STORAGE_H

#include "base/buf.h"
#include "base/err.h"
#include "base/record.h"

struct store; /* one database file: the writer thread and its connection */

enum store_open {
    STORE_READ,  /* the file must exist; puts are PD_EPERM */
    STORE_WRITE, /* creates the file (0600) and its directory (0700) when they are missing, and
                    brings a file of an older version up to date */
};

int store_open(const char *path, enum store_open mode, struct store **out, struct pd_err *err);
/* Flushes; NULL is fine. Who has to know whether the flush worked calls store_flush before. */
void store_close(struct store *s);
const char *store_path(const struct store *s);
const char *store_sqlite_version(void); /* of the library that is loaded */

/* Appends: copy what they are given, queue it for the writer, return at once (block only while the
 * bounded inbox is full). An earlier write error is returned by every later call. */
int store_job_put(struct store *s, const struct pd_job_rec *job, struct pd_err *err);
int store_node_put(struct store *s, const char *job_id, const struct pd_node_rec *node,
                   struct pd_err *err);
int store_score_put(struct store *s, const char *job_id, const struct pd_score_rec *score,
                    struct pd_err *err);
int store_call_put(struct store *s, const char *job_id, const struct pd_call_rec *call,
                   struct pd_err *err);
int store_event_put(struct store *s, const char *job_id, const struct pd_event_rec *event,
                    struct pd_err *err);
/* Returns when everything put before (by any thread) is durable. */
int store_flush(struct store *s, struct pd_err *err);
/* After each commit, for every job of which it has rows (for some more than once): a call on the
 * writer's thread, which must be quick and must not call back into the store. To be set before the
 * first put. */
void store_on_commit(struct store *s, void (*committed)(void *user, const char *job_id),
                     void *user);

/* What changes of a job while it waits, runs or rests; the rest of its row stays. */
struct store_job_state {
    const char *status, *stopped_by, *error; /* the last two: NULL: none */
    int64_t started_ms;                      /* 0: as it was */
    int64_t finished_ms;                     /* 0: none */
};
int store_job_state_put(struct store *s, const char *job_id, const struct store_job_state *state,
                        struct pd_err *err);
/* With all its rows, and the texts that no other job uses. */
int store_job_delete(struct store *s, const char *job_id, struct pd_err *err);

/* Frees texts that nothing refers to: what a job leaves that was put again with others, and what
 * older versions left of deleted jobs. In small transactions, beside whoever else writes. Their
 * room in the file is used again; shrink gives it back to the file system, which takes as long as
 * copying the file and as much room. The counts (may be NULL) are of this call. */
int store_gc(struct store *s, bool shrink, uint64_t *out_n, uint64_t *out_bytes,
             struct pd_err *err);

/* A copy of the whole file as it is now, beside whoever reads and writes; it appears at path when
 * it is whole. PD_EINVAL: there is a file already. */
int store_backup(struct store *s, const char *path, struct pd_err *err);

/* A number that another one follows after a commit of another connection, in this process or not.
 */
int store_version(struct store *s, int64_t *out, struct pd_err *err);

/* ---- the queue of a daemon: jobs that were submitted to it ---------------------------------- */

struct store_submission {
    int64_t seq; /* of all submissions: a new one has a greater one */
    const char *client;
    const char *idem_key; /* NULL: none; no other job may have it (store_idem_find) */
    int64_t peer_uid;     /* -1: not known */
    int32_t priority;
    bool attached;
    uint8_t body_sha256[32];
};
/* A new job and its place in the queue, both or none. */
int store_job_submit(struct store *s, const struct pd_job_rec *job,
                     const struct store_submission *how, struct pd_err *err);
/* The job with this idempotency key. PD_ENOENT: none. */
int store_idem_find(struct store *s, const char *key, char out_id[PD_JOB_ID_MAX],
                    uint8_t out_body_sha256[32], struct pd_err *err);

struct store_place { /* of a job in the queue */
    char id[PD_JOB_ID_MAX], status[16];
    int64_t seq; /* 0: it was not submitted, and the rest says nothing */
    int32_t priority;
    bool attached;
    char *client;
};
/* Of the one job with this id (PD_ENOENT: none), or (NULL) of all submitted ones that wait or run
 * by their rows, running ones first. *out_last_seq (may be NULL): of all submissions. */
int store_queue_load(struct store *s, const char *job_id, struct store_place **out, size_t *out_n,
                     int64_t *out_last_seq, struct pd_err *err);
void store_queue_free(struct store_place *places, size_t n);

/* ---- experiments: jobs that one recipe asks for ------------------------------------------------
 */

struct store_artifact {
    const char *kind; /* model dataset recipe */
    const char *name; /* a path or a name */
    const char *role; /* what it is to the run: generator scorer draft dataset */
    uint8_t sha256[32];
    uint64_t bytes;
};
struct store_run {
    char id[PD_JOB_ID_MAX];
    const char *name, *status; /* running paused done */
    const char *lock;          /* JSON: all that determines the results */
    const char *host;
    struct pd_str recipe; /* its text */
    uint64_t seed;
    int64_t created_ms, finished_ms; /* 0: not yet */
    const struct store_artifact *artifacts;
    size_t n_artifacts;                /* read back: 0 */
    uint64_t n_jobs, n_done, n_failed; /* read back only */
};
/* A new run, or what changed of one. */
int store_run_put(struct store *s, const struct store_run *run, struct pd_err *err);
/* With all its jobs, and the texts that nothing else uses. */
int store_run_delete(struct store *s, const char *run_id, struct pd_err *err);
struct store_runs {
    struct store_run *runs;
    size_t n;
};
/* Newest first; asked NULL: all, else the one with this id or unique prefix (PD_ENOENT, PD_EINVAL).
 * Freed by store_run_list_free. */
int store_run_list(struct store *s, const char *asked, struct store_runs **out, struct pd_err *err);
void store_run_list_free(struct store_runs *list);

struct store_run_job {
    const char *id, *variant, *problem_key, *strategy, *status; /* never NULL */
    const char *stopped_by, *answer, *digest, *error;           /* NULL: none */
    uint32_t repeat;
    int correct; /* 1, 0, -1: not graded */
    uint64_t n_nodes, n_scores, generated, prefilled, cached, scored;
    int64_t wall_ms;    /* -1: not finished */
    int64_t sequential; /* longest chain of dependent decode steps; -1: not known */
};
struct store_run_jobs {
    struct store_run_job *jobs; /* in the order of their ids */
    size_t n;
};
/* What the models did in the done jobs of a variant, by model and kind of call (op), summed. A line
 * of g tokens behind p others attends to pg + g²/2 positions. Lines from one node are taken to
 * decode together, so that they read what is before it once in each step. */
struct store_run_work {
    const char *variant, *model, *op;
    uint64_t n_calls, prefilled, generated;
    double attended, read;
};
struct store_run_works {
    struct store_run_work *works; /* by variant */
    size_t n;
};
int store_run_work_load(struct store *s, const char *run_id, struct store_run_works **out,
                        struct pd_err *err);
void store_run_work_free(struct store_run_works *list);

int store_run_jobs_load(struct store *s, const char *run_id, struct store_run_jobs **out,
                        struct pd_err *err);
void store_run_jobs_free(struct store_run_jobs *list);

/* Of done jobs with this model, for plans: tokens of a line of thought, tokens a second. 0: not
 * known. */
int store_rates(struct store *s, const char *model, double *out_line_tokens, double *out_tokens_s,
                struct pd_err *err);

/* The right to run a job, until *out_fd is closed or its process ends. PD_EBUSY: another has it. */
int store_job_lock(struct store *s, const char *job_id, int *out_fd, struct pd_err *err);

/* Reading: own connections; sees what is committed, also by other processes. */

/* The whole of one job. A unique prefix of its id is enough; one of several is PD_EINVAL with the
 * candidates in the text, none PD_ENOENT. Freed by store_trace_free. */
int store_trace_load(struct store *s, const char *job_id, struct pd_trace **out,
                     struct pd_err *err);
void store_trace_free(struct pd_trace *t);

struct store_job_row {
    char id[PD_JOB_ID_MAX];
    char *strategy, *model, *status, *budget;                    /* never NULL */
    char *scorer, *stopped_by, *answer, *problem_key, *question; /* NULL: none */
    char *error, *digest;                                        /* the same */
    int64_t created_ms, started_ms, finished_ms;                 /* 0: not yet */
    uint64_t seed;
    uint64_t n_nodes, generated; /* rows of node; generated tokens of all calls */
    int64_t place;               /* for store_cursor */
};

struct store_job_query {
    const char *id;     /* this one (its whole id); NULL: any */
    const char *status; /* of these; NULL: any */
    const char *run_id;
    const char *cursor; /* behind this place of an earlier list; NULL: from the newest */
    size_t limit;       /* 0: all */
};
#define STORE_CURSOR_MAX 48
/* Newest first. `question` is that member of the request. PD_EINVAL: not a cursor. */
int store_job_list(struct store *s, const struct store_job_query *q, struct store_job_row **out,
                   size_t *out_n, struct pd_err *err);
void store_job_list_free(struct store_job_row *rows, size_t n);
/* The place behind a row, opaque. */
void store_cursor(const struct store_job_row *row, char out[STORE_CURSOR_MAX]);

/* The feed of a job: what watchers see, numbered from 1 without gaps, durable with the rows it
 * tells of. Types: job.queued job.started job.paused job.done job.failed job.cancelled node.added
 * node.scored node.pruned answer.candidate answer.final budget (at most one a second) engine.retry.
 */
struct store_feed_entry {
    uint64_t seq;
    int64_t t_ms;
    const char *type;
    struct pd_str data; /* a JSON object with seq, t_ms, job and what the type has to tell */
};
struct store_feed {
    struct store_feed_entry *entries;
    size_t n;
    bool ended; /* the job is done, failed or cancelled, and nothing follows these */
};
/* Entries after `since` (0: from the first), at most `max` and, but for the first, no more than
 * about 256 KiB. answer_of: what a line of thought answers (pd_answer_extract), which only core
 * knows. PD_ENOENT: no job has this (whole) id. Freed by store_feed_free. */
int store_feed_load(struct store *s, const char *job_id, uint64_t since, size_t max,
                    struct pd_str (*answer_of)(struct pd_str line), struct store_feed **out,
                    struct pd_err *err);
void store_feed_free(struct store_feed *f);

/* Checks the file: SQLite's own integrity, foreign keys, every blob against its SHA-256, and the
 * ledger (calls and feeds numbered without gaps, what they and nodes name exists, token counts
 * agree). 0, or PD_EDIFFER with one line a finding added to report. */
int store_verify(struct store *s, struct pd_buf *report, struct pd_err *err);

#endif
