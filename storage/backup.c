/* A copy of the database, on the caller's thread with a reading connection of its own. */
#include "storage/store_int.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define PAGES_AT_A_TIME 4096 /* between these, writers of the source go on */
#define PATH_MAX_BYTES  4096

/* When somebody writes meanwhile, SQLite begins again; with a reading transaction open on the
 * source connection there is one state to copy, and it does not. */
static int copy(sqlite3 *from, const char *from_path, sqlite3 *to, const char *path,
                struct pd_err *err)
{
    const struct timespec nap = {0, 1000000};
    sqlite3_backup *b = sqlite3_backup_init(to, "main", from, "main");
    int rc;

    if (!b)
        return store_db_fail(to, path, sqlite3_errcode(to), err);
    while ((rc = sqlite3_backup_step(b, PAGES_AT_A_TIME)) == SQLITE_OK || rc == SQLITE_BUSY ||
           rc == SQLITE_LOCKED)
        if (rc != SQLITE_OK)
            nanosleep(&nap, NULL);
    sqlite3_backup_finish(b);
    return rc == SQLITE_DONE ? 0 : store_db_fail(from, from_path, rc, err);
}

int store_backup(struct store *s, const char *path, struct pd_err *err)
{
    char part[PATH_MAX_BYTES];
    sqlite3 *from = NULL, *to = NULL;
    int rc;

    if (snprintf(part, sizeof(part), "%s.part", path) >= (int)sizeof(part))
        return pd_fail(err, PD_EINVAL, "the path of the backup is too long");
    if (access(path, F_OK) == 0)
        return pd_fail(err, PD_EINVAL, "'%s' is there already: a backup overwrites nothing", path);
    rc = store_db_open(s->path, STORE_READ, &from, err);
    if (rc < 0)
        return rc;
    unlink(part); /* of one that was interrupted */
    rc = sqlite3_open_v2(part, &to, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, NULL);
    rc = rc == SQLITE_OK ? store_db_exec(from, s->path, "BEGIN; SELECT 1 FROM sqlite_schema", err)
                         : store_db_fail(to, part, rc, err);
    if (rc == 0)
        rc = copy(from, s->path, to, part, err);
    sqlite3_close(to);
    sqlite3_close(from);
    if (rc == 0 && rename(part, path) < 0)
        rc = pd_fail(err, PD_EIO, "cannot rename '%s': %s", part, strerror(errno));
    if (rc < 0)
        unlink(part);
    return rc;
}
