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
    STORE_WRITE, /* creates the file (0600) and its directory (0700) when they are missing */
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
    char *strategy, *model, *status;                             /* never NULL */
    char *scorer, *stopped_by, *answer, *problem_key, *question; /* NULL: none */
    int64_t created_ms;
    uint64_t seed;
    uint64_t n_nodes, generated; /* rows of node; generated tokens of all calls */
};

/* The newest `limit` jobs (0: all), newest first. `question` is that member of the request. */
int store_job_list(struct store *s, size_t limit, struct store_job_row **out, size_t *out_n,
                   struct pd_err *err);
void store_job_list_free(struct store_job_row *rows, size_t n);

/* Checks the file: SQLite's own integrity, foreign keys, every blob against its SHA-256, and the
 * ledger (calls numbered without gaps, calls and parents that nodes name exist, token counts
 * agree). 0, or PD_EDIFFER with one line a finding added to report. */
int store_verify(struct store *s, struct pd_buf *report, struct pd_err *err);

#endif
