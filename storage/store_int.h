/* Shared by the files of storage/: the store itself and the small layer over SQLite. */
#ifndef PD_STORAGE_STORE_INT_H
#define PD_STORAGE_STORE_INT_H

#include <pthread.h>
#include <sqlite3.h>
#include <stdatomic.h>

#include "base/arena.h"
#include "base/queue.h"
#include "storage/storage.h"

#define STORE_APPLICATION_ID 0x504F4E44 /* "POND" */
#define STORE_USER_VERSION   3
#define STORE_BUSY_MS        10000 /* another process's commit takes milliseconds; a stuck one is told */
#define STORE_INBOX_MAX      512 /* messages, hence also rows in one transaction: it stays short */
#define STORE_VALUE_MAX      ((size_t)256 << 20) /* bytes of one text or array; SQLite ends at 10^9 */
#define STORE_TRACE_MAX      ((size_t)8 << 30)   /* bytes of one job in memory */

enum store_msg_kind {
    STORE_MSG_JOB,
    STORE_MSG_SUBMIT,
    STORE_MSG_STATE,
    STORE_MSG_DELETE,
    STORE_MSG_RUN,
    STORE_MSG_RUN_DELETE,
    STORE_MSG_GC,
    STORE_MSG_NODE,
    STORE_MSG_SCORE,
    STORE_MSG_CALL,
    STORE_MSG_EVENT,
    STORE_MSG_FLUSH,
};

/* One message to the writer. All that its pointers name lies behind it in the same allocation, so
 * free() is all it takes; a flush lies on the stack of who waits for it. */
struct store_msg {
    struct pd_link link;
    enum store_msg_kind kind;
    char job_id[PD_JOB_ID_MAX]; /* or the run's */
    union {
        struct pd_job_rec job;
        struct {
            struct pd_job_rec job;
            struct store_submission how;
        } submit;
        struct store_job_state state;
        struct store_run run;
        struct pd_node_rec node;
        struct pd_score_rec score;
        struct pd_call_rec call;
        struct pd_event_rec event;
        struct {
            int64_t from, to; /* ids of blobs */
        } gc;
        bool flushed; /* under store.lock */
    } u;
};

enum store_stmt {
    STORE_STMT_BEGIN,
    STORE_STMT_COMMIT,
    STORE_STMT_ROLLBACK,
    STORE_STMT_BLOB_FIND,
    STORE_STMT_BLOB_ADD,
    STORE_STMT_JOB,
    STORE_STMT_JOB_SUBMIT,
    STORE_STMT_SUBMISSION,
    STORE_STMT_JOB_STATE,
    STORE_STMT_JOB_BLOBS,
    STORE_STMT_JOB_DELETE,
    STORE_STMT_RUN,
    STORE_STMT_RUN_DELETE,
    STORE_STMT_ARTIFACT_FIND,
    STORE_STMT_ARTIFACT_ADD,
    STORE_STMT_RUN_ARTIFACT,
    STORE_STMT_GC_BLOBS,
    STORE_STMT_BLOB_FREE,
    STORE_STMT_ASKED_CLEAR,
    STORE_STMT_NODE,
    STORE_STMT_SCORE,
    STORE_STMT_CALL,
    STORE_STMT_EVENT,
    STORE_N_STMTS
};

struct store {
    char *path;
    enum store_open mode;

    /* Writer: its thread's own from start to join. */
    sqlite3 *wdb;
    sqlite3_stmt *stmts[STORE_N_STMTS];
    pthread_t thread;
    bool thread_runs, inbox_ready;
    struct pd_queue inbox;

    atomic_uint_fast64_t n_freed, bytes_freed; /* blobs, since it was opened */

    void (*committed)(void *user, const char *job_id); /* NULL: nobody listens */
    void *committed_user;

    pthread_mutex_t lock; /* guards failed and the flushed flags of waiting flushes; a leaf */
    pthread_cond_t flushed;
    struct pd_err failed; /* code PD_OK: the writer is well */

    pthread_mutex_t read_lock; /* guards rdb: one reading request at a time */
    sqlite3 *rdb;
};

/* db.c */

/* Opens, checks and (writer) creates the schema. *out_db is set on success only. */
int store_db_open(const char *path, enum store_open mode, sqlite3 **out_db, struct pd_err *err);
/* The error of the last call on db, as a code and a sentence about `path`. rc: SQLite's. */
int store_db_fail(sqlite3 *db, const char *path, int rc, struct pd_err *err);
int store_db_exec(sqlite3 *db, const char *path, const char *sql, struct pd_err *err);
/* The first column of the first row of sql. */
int store_db_int(sqlite3 *db, const char *path, const char *sql, int64_t *out, struct pd_err *err);
int store_db_version(sqlite3 *db); /* of its schema; -1: it cannot be read */
int store_db_prepare(sqlite3 *db, const char *path, const char *sql, sqlite3_stmt **out,
                     struct pd_err *err);

/* Binds from left to right; the first failure sticks in rc. */
struct store_bind {
    sqlite3_stmt *st;
    int i, rc;
};
void store_bind_int(struct store_bind *b, int64_t v);
void store_bind_int_or_null(struct store_bind *b, int64_t v, int64_t null_value);
void store_bind_real(struct store_bind *b, double v);
void store_bind_text(struct store_bind *b, const char *z); /* NULL binds NULL */
void store_bind_blob(struct store_bind *b, const void *p, size_t n);

/* writer.c */
int store_writer_prepare(struct store *s, struct pd_err *err);
void store_writer_finalize(struct store *s);
void *store_writer_main(void *store);

/* reader.c: one reading request, with read_lock held: its query, and its first error, after which
 * all of these do nothing. */
struct reading {
    struct store *s;
    struct pd_arena *arena; /* for what take_text and take_blob copy */
    sqlite3_stmt *st;
    int i;  /* next column */
    int rc; /* 0 or a pd_code, with *err filled */
    struct pd_err *err;
};
/* What a pd_trace or a store_feed really is: freed as a whole by store_box_free of either. */
struct store_box {
    union {
        struct pd_trace trace;
        struct store_feed feed;
    } is;
    struct pd_arena arena; /* everything that points to */
};
/* One transaction, so that a request sees one state of the file, under read_lock. */
void store_read_lock(struct reading *r);
void store_read_unlock(struct reading *r);
/* A request in one: load(r, what, box). */
int store_read(struct store *s,
               void (*load)(struct reading *r, const void *what, struct store_box *box),
               const void *what, struct store_box **out, struct pd_err *err);
void store_box_free(void *is); /* NULL is fine */
/* Prepares sql and binds its first parameter, a text (unless NULL). */
void store_read_begin(struct reading *r, const char *sql, const char *param);
void store_read_bind_int(struct reading *r, int i, int64_t v);
void store_read_bind_text(struct reading *r, int i, const char *z); /* z lives until the end */
bool store_read_next(struct reading *r); /* a row is there: its columns, from left to right */
int64_t store_take_int(struct reading *r);
int64_t store_take_int_or(struct reading *r, int64_t when_null);
double store_take_real(struct reading *r);        /* NaN when NULL */
const char *store_take_text(struct reading *r);   /* NULL when NULL */
struct pd_str store_take_blob(struct reading *r); /* a NUL behind it; {NULL, 0} when NULL */
void store_read_end(struct reading *r);
void store_read_no_memory(struct reading *r);

/* schema.c: [v] makes version v + 1 of version v. */
extern const char *const store_schema_steps[STORE_USER_VERSION];

#endif
