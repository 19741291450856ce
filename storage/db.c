/* Opening a database: is it one, is it ours, is it of this version; and SQLite's errors as ours. */
#include "storage/store_int.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "base/clock.h"
#include "base/file.h"

int store_db_fail(sqlite3 *db, const char *path, int rc, struct pd_err *err)
{
    int os = db ? sqlite3_system_errno(db) : 0;
    const char *why = db ? sqlite3_errmsg(db) : sqlite3_errstr(rc);

    switch (rc & 0xff) {
    case SQLITE_NOMEM:
        return pd_fail(err, PD_ENOMEM, "database '%s': out of memory", path);
    case SQLITE_NOTADB:
        return pd_fail(err, PD_EFORMAT, "'%s' is not a database", path);
    case SQLITE_CORRUPT:
        return pd_fail(err, PD_EFORMAT, "database '%s' is damaged: %s", path, why);
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
        return pd_fail(err, PD_EBUSY,
                       "database '%s' has been locked by another process for %d seconds", path,
                       STORE_BUSY_MS / 1000);
    case SQLITE_FULL:
        return pd_fail(err, PD_EIO,
                       "database '%s': the disk is full; free some space and run the job again, "
                       "what was stored before is kept",
                       path);
    case SQLITE_CANTOPEN:
        if (os)
            return pd_fail_errno(err, os, "cannot open database '%s'", path);
        return pd_fail(err, PD_EIO, "cannot open database '%s': %s", path, why);
    case SQLITE_IOERR:
        if (os)
            return pd_fail(err, PD_EIO, "database '%s': %s: %s", path, why, strerrordesc_np(os));
        return pd_fail(err, PD_EIO, "database '%s': %s", path, why);
    case SQLITE_PERM:
    case SQLITE_AUTH:
    case SQLITE_READONLY:
        return pd_fail(err, PD_EPERM, "database '%s' may not be written", path);
    case SQLITE_TOOBIG:
        return pd_fail(err, PD_ELIMIT, "database '%s': a value is too big to be stored", path);
    case SQLITE_CONSTRAINT:
        return pd_fail(err, PD_EINVAL, "database '%s': %s", path, why);
    default: /* SQLITE_ERROR: a table or column is missing, so the file is not what it says */
        return pd_fail(err, PD_EFORMAT, "database '%s': %s", path, why);
    }
}

int store_db_prepare(sqlite3 *db, const char *path, const char *sql, sqlite3_stmt **out,
                     struct pd_err *err)
{
    int rc = sqlite3_prepare_v3(db, sql, -1, SQLITE_PREPARE_PERSISTENT, out, NULL);

    return rc == SQLITE_OK ? 0 : store_db_fail(db, path, rc, err);
}

void store_bind_int(struct store_bind *b, int64_t v)
{
    int rc = sqlite3_bind_int64(b->st, ++b->i, v);

    b->rc = b->rc ? b->rc : rc;
}

void store_bind_int_or_null(struct store_bind *b, int64_t v, int64_t null_value)
{
    int rc =
        v == null_value ? sqlite3_bind_null(b->st, ++b->i) : sqlite3_bind_int64(b->st, ++b->i, v);

    b->rc = b->rc ? b->rc : rc;
}

void store_bind_real(struct store_bind *b, double v)
{
    int rc = sqlite3_bind_double(b->st, ++b->i, v); /* NaN becomes NULL */

    b->rc = b->rc ? b->rc : rc;
}

void store_bind_text(struct store_bind *b, const char *z)
{
    int rc = z ? sqlite3_bind_text64(b->st, ++b->i, z, strlen(z), SQLITE_STATIC, SQLITE_UTF8)
               : sqlite3_bind_null(b->st, ++b->i);

    b->rc = b->rc ? b->rc : rc;
}

void store_bind_blob(struct store_bind *b, const void *p, size_t n)
{
    int rc = sqlite3_bind_blob64(b->st, ++b->i, n ? p : "", n, SQLITE_STATIC);

    b->rc = b->rc ? b->rc : rc;
}

int store_db_int(sqlite3 *db, const char *path, const char *sql, int64_t *out, struct pd_err *err)
{
    sqlite3_stmt *st = NULL;
    int rc = sqlite3_prepare_v2(db, sql, -1, &st, NULL);

    if (rc == SQLITE_OK)
        rc = sqlite3_step(st);
    if (rc == SQLITE_ROW) {
        *out = sqlite3_column_int64(st, 0);
        rc = 0;
    } else {
        rc = store_db_fail(db, path, rc, err);
    }
    sqlite3_finalize(st);
    return rc;
}

int store_db_version(sqlite3 *db)
{
    int64_t v;

    return store_db_int(db, "", "PRAGMA user_version", &v, NULL) < 0 ? -1 : (int)v;
}

int store_db_exec(sqlite3 *db, const char *path, const char *sql, struct pd_err *err)
{
    int rc = sqlite3_exec(db, sql, NULL, NULL, NULL);

    return rc == SQLITE_OK ? 0 : store_db_fail(db, path, rc, err);
}

/* Its schema version, 0 of an empty file, or an error that says whose it is. */
static int whose(sqlite3 *db, const char *path, struct pd_err *err)
{
    int64_t app = 0, version = 0, n_tables = 0;
    int rc;

    rc = store_db_int(db, path, "PRAGMA application_id", &app, err);
    if (rc == 0)
        rc = store_db_int(db, path, "PRAGMA user_version", &version, err);
    if (rc == 0)
        rc = store_db_int(db, path, "SELECT count(*) FROM sqlite_schema", &n_tables, err);
    if (rc < 0)
        return rc;
    if (app == 0 && n_tables == 0)
        return 0;
    if (app != STORE_APPLICATION_ID)
        return pd_fail(err, PD_EFORMAT, "'%s' is a database of another program", path);
    if (version > STORE_USER_VERSION)
        return pd_fail(err, PD_EFORMAT,
                       "database '%s' has schema version %lld, this program knows up to %d: it "
                       "was written by a newer version",
                       path, (long long)version, STORE_USER_VERSION);
    if (version < 1)
        return pd_fail(err, PD_EFORMAT, "database '%s' has schema version %lld, which never was",
                       path, (long long)version);
    return (int)version;
}

/* Changing to WAL may find two processes waiting for each other's lock; SQLite then says busy at
 * once, without its timeout, so the waiting is ours. */
static int use_wal(sqlite3 *db, const char *path, struct pd_err *err)
{
    const struct timespec nap = {0, 5000000};
    int64_t deadline_ns = pd_clock_now_ns() + STORE_BUSY_MS * PD_NS_PER_MS;
    int rc;

    for (;;) {
        rc = sqlite3_exec(db, "PRAGMA journal_mode=WAL", NULL, NULL, NULL);
        if ((rc & 0xff) != SQLITE_BUSY || pd_clock_now_ns() >= deadline_ns)
            break;
        nanosleep(&nap, NULL);
    }
    return rc == SQLITE_OK ? 0 : store_db_fail(db, path, rc, err);
}

/* All or nothing: a file has the tables of one version and our marks, or none. */
static int make_schema(sqlite3 *db, const char *path, struct pd_err *err)
{
    char marks[96];
    int version, rc = store_db_exec(db, path, "BEGIN IMMEDIATE", err);

    if (rc < 0)
        return rc;
    rc = version = whose(db, path, err); /* another process may have been faster */
    for (; version < STORE_USER_VERSION && rc >= 0; version++)
        rc = store_db_exec(db, path, store_schema_steps[version], err);
    if (rc >= 0) {
        snprintf(marks, sizeof(marks), "PRAGMA application_id=%d; PRAGMA user_version=%d",
                 STORE_APPLICATION_ID, STORE_USER_VERSION);
        rc = store_db_exec(db, path, marks, err);
    }
    if (rc >= 0)
        rc = store_db_exec(db, path, "COMMIT", err);
    if (rc < 0)
        sqlite3_exec(db, "ROLLBACK", NULL, NULL, NULL);
    return rc;
}

/* The folder and an empty file, for us only. mknod and not open: closing a descriptor would drop
 * the locks of any connection that this process already has on the file. */
static int create_file(const char *path, struct pd_err *err)
{
    const char *slash = strrchr(path, '/');
    char *dir;
    int rc = 0;

    if (slash && slash != path) {
        dir = pd_str_dup((struct pd_str){path, (size_t)(slash - path)});
        if (!dir)
            return pd_fail(err, PD_ENOMEM, "out of memory");
        if (!pd_file_exists(dir))
            rc = pd_mkdirs(dir, 0700, err);
        free(dir);
    }
    if (rc == 0 && mknod(path, S_IFREG | 0600, 0) < 0 && errno != EEXIST)
        rc = pd_fail_errno(err, errno, "cannot create database '%s'", path);
    return rc;
}

int store_db_open(const char *path, enum store_open mode, sqlite3 **out_db, struct pd_err *err)
{
    int flags =
        SQLITE_OPEN_NOMUTEX | (mode == STORE_WRITE ? SQLITE_OPEN_READWRITE : SQLITE_OPEN_READONLY);
    sqlite3 *db = NULL;
    struct stat st;
    int version, rc = 0;

    if (mode == STORE_WRITE && stat(path, &st) < 0)
        rc = create_file(path, err);
    if (rc < 0)
        return rc;
    if (stat(path, &st) < 0)
        return pd_fail_errno(err, errno, "cannot open database '%s'", path);
    if (!S_ISREG(st.st_mode))
        return pd_fail(err, PD_EFORMAT, "'%s' is not a file, so not a database", path);

    rc = sqlite3_open_v2(path, &db, flags, NULL);
    if (rc != SQLITE_OK) {
        rc = store_db_fail(db, path, rc, err);
        goto out;
    }
    sqlite3_extended_result_codes(db, 1);
    sqlite3_busy_timeout(db, STORE_BUSY_MS);
    sqlite3_db_config(db, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
    rc = store_db_exec(
        db, path, "PRAGMA trusted_schema=OFF; PRAGMA foreign_keys=ON; PRAGMA cell_size_check=ON",
        err);
    if (rc == 0)
        rc = store_db_exec(db, path, "BEGIN",
                           err);   /* one state for all that it asks: another process may */
    if (rc == 0) {                 /* be creating the schema right now */
        rc = whose(db, path, err); /* before anything is written to it */
        sqlite3_exec(db, "COMMIT", NULL, NULL, NULL);
    }
    if (rc < 0)
        goto out;
    version = rc;
    if (mode == STORE_READ) {
        rc = version ? store_db_exec(db, path, "PRAGMA query_only=ON", err)
                     : pd_fail(err, PD_EFORMAT, "database '%s' is empty", path);
        goto out;
    }
    if (sqlite3_db_readonly(db, "main")) {
        rc = pd_fail(err, PD_EPERM, "database '%s' may not be written", path);
        goto out;
    }
    rc = use_wal(db, path, err);
    if (rc == 0)
        rc = store_db_exec(db, path, "PRAGMA synchronous=FULL; PRAGMA journal_size_limit=67108864",
                           err);
    if (rc == 0 && version < STORE_USER_VERSION)
        rc = make_schema(db, path, err);
out:
    if (rc < 0) {
        sqlite3_close(db);
        return rc;
    }
    *out_db = db;
    return 0;
}
