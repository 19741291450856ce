#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#define READ_CHUNK_BYTES 16384
#define COPY_CHUNK_BYTES ((size_t)1 << 20)

int pd_read_file(const char *path, struct pd_buf *out, struct pd_err *err)
{
    bool is_stdin = strcmp(path, "-") == 0;
    const char *name = is_stdin ? "standard input" : path;
    char chunk[READ_CHUNK_BYTES];
    size_t old_len = out->len;
    int fd, rc = 0;
    ssize_t n;

    fd = is_stdin ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return pd_fail_errno(err, errno, "cannot open '%s'", name);
    do {
        n = read(fd, chunk, sizeof(chunk));
        if (n > 0)
            rc = pd_buf_add(out, chunk, (size_t)n);
    } while (rc == 0 && (n > 0 || (n < 0 && errno == EINTR)));
    if (n == 0 && rc == 0)
        rc = pd_buf_reserve(out, 0); /* an empty file gives "", not NULL */
    if (n < 0)
        rc = pd_fail_errno(err, errno, "cannot read '%s'", name);
    else if (rc == PD_ELIMIT)
        rc = pd_fail(err, PD_ELIMIT, "'%s' is larger than the limit of %zu bytes", name, out->max);
    else if (rc < 0)
        rc = pd_fail(err, PD_ENOMEM, "out of memory while reading '%s'", name);
    if (rc < 0 && out->data) { /* no half files */
        out->len = old_len;
        out->data[old_len] = '\0';
    }
    if (!is_stdin)
        close(fd);
    return rc;
}

static bool is_dir(const char *path)
{
    struct stat st;

    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

static int make_dir(const char *path, unsigned mode, struct pd_err *err)
{
    int why;

    if (mkdir(path, (mode_t)mode) == 0)
        return 0;
    /* Not only EEXIST: a read-only file system may complain first about a directory that is there.
     */
    why = errno;
    if (is_dir(path))
        return 0;
    return pd_fail_errno(err, why == EEXIST ? ENOTDIR : why, "cannot create directory '%s'", path);
}

int pd_mkdirs(const char *path, unsigned mode, struct pd_err *err)
{
    char *partial;
    int rc = 0;

    if (path[0] == '\0')
        return pd_fail(err, PD_EINVAL, "cannot create a directory with an empty name");
    partial = pd_str_dup(pd_str_of(path));
    if (!partial)
        return pd_fail(err, PD_ENOMEM, "out of memory while creating directory '%s'", path);
    /* From 1: the slash of an absolute path ends no name. */
    for (size_t i = 1; rc == 0 && partial[i] != '\0'; i++) {
        if (partial[i] != '/' || partial[i - 1] == '/')
            continue;
        partial[i] = '\0';
        rc = make_dir(partial, mode, err);
        partial[i] = '/';
    }
    if (rc == 0)
        rc = make_dir(partial, mode, err);
    free(partial);
    return rc;
}

bool pd_file_exists(const char *path)
{
    struct stat st;

    return stat(path, &st) == 0;
}

char *pd_path_join(const char *dir, const char *name)
{
    struct pd_buf path = PD_BUF_INIT(SIZE_MAX - 1);
    char *joined;

    pd_buf_addz(&path, dir);
    if (path.len > 0 && path.data[path.len - 1] != '/')
        pd_buf_addc(&path, '/');
    pd_buf_addz(&path, name);
    joined = pd_buf_take(&path);
    pd_buf_done(&path);
    return joined;
}

/* ---- drafts ---------------------------------------------------------------------------------- */

/* "dir/.name.part" */
static char *part_of(const char *path)
{
    const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
    struct pd_buf part = PD_BUF_INIT(SIZE_MAX - 1);
    char *taken;

    pd_buf_printf(&part, "%.*s.%s.part", (int)(name - path), path, name);
    taken = pd_buf_take(&part);
    pd_buf_done(&part);
    return taken;
}

/* Opens and locks the file at path. Its writer before us may have renamed it while we waited to see
 * whether the lock is free: then ours is another file than the one that stands there now. */
static int open_locked(const char *path, int *out_fd)
{
    for (;;) {
        int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
        struct stat ours, there;

        if (fd < 0)
            return errno;
        if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
            int why = errno;

            close(fd);
            return why;
        }
        if (fstat(fd, &ours) == 0 && stat(path, &there) == 0 && ours.st_ino == there.st_ino &&
            ours.st_dev == there.st_dev) {
            *out_fd = fd;
            return 0;
        }
        close(fd);
    }
}

int pd_draft_open(struct pd_draft *d, const char *path, struct pd_err *err)
{
    int why = ENOMEM;

    *d = (struct pd_draft){-1, pd_str_dup(pd_str_of(path)), part_of(path)};
    if (d->path && d->part)
        why = open_locked(d->part, &d->fd);
    if (why == 0 && ftruncate(d->fd, 0) < 0)
        why = errno;
    if (why == 0)
        return 0;
    pd_draft_done(d);
    if (why == EWOULDBLOCK)
        return pd_fail(err, PD_EBUSY, "'%s' is being written by another process", path);
    return pd_fail_errno(err, why, "cannot write '%s'", path);
}

int pd_draft_write(struct pd_draft *d, struct pd_str bytes, struct pd_err *err)
{
    while (bytes.len > 0) {
        ssize_t n = write(d->fd, bytes.ptr, bytes.len);

        if (n < 0 && errno != EINTR)
            return pd_fail_errno(err, errno, "cannot write '%s'", d->path);
        if (n > 0)
            bytes = pd_str_sub(bytes, (size_t)n, bytes.len);
    }
    return 0;
}

int pd_draft_copy(struct pd_draft *d, const char *from, struct pd_err *err)
{
    int fd = open(from, O_RDONLY | O_CLOEXEC), rc = 0;
    char *chunk = NULL;
    ssize_t n;

    if (fd < 0)
        return pd_fail_errno(err, errno, "cannot open '%s'", from);
    if (ioctl(d->fd, FICLONE, fd) == 0)
        goto out;
    chunk = malloc(COPY_CHUNK_BYTES);
    if (!chunk) {
        rc = pd_fail(err, PD_ENOMEM, "out of memory while copying '%s'", from);
        goto out;
    }
    do {
        n = read(fd, chunk, COPY_CHUNK_BYTES);
        if (n > 0)
            rc = pd_draft_write(d, (struct pd_str){chunk, (size_t)n}, err);
        else if (n < 0 && errno != EINTR)
            rc = pd_fail_errno(err, errno, "cannot read '%s'", from);
    } while (rc == 0 && n != 0);
out:
    free(chunk);
    close(fd);
    return rc;
}

/* The name is as durable as the content only when its directory is synced, too. */
static void sync_parent(const char *path)
{
    const char *slash = strrchr(path, '/');
    char *dir = slash ? pd_str_dup((struct pd_str){path, (size_t)(slash - path) + 1}) : NULL;
    int fd = open(dir ? dir : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    if (fd >= 0) {
        (void)fsync(fd); /* some file systems have no such thing */
        close(fd);
    }
    free(dir);
}

int pd_draft_commit(struct pd_draft *d, struct pd_err *err)
{
    if (fsync(d->fd) < 0 || rename(d->part, d->path) < 0)
        return pd_fail_errno(err, errno, "cannot write '%s'", d->path);
    sync_parent(d->path);
    free(d->part);
    d->part = NULL;
    return 0;
}

void pd_draft_done(struct pd_draft *d)
{
    if (d->fd >= 0) {
        if (d->part)
            unlink(d->part);
        close(d->fd);
    }
    free(d->path);
    free(d->part);
    *d = (struct pd_draft){-1, NULL, NULL};
}

int pd_write_file(const char *path, struct pd_str bytes, struct pd_err *err)
{
    struct pd_draft d;
    int rc = pd_draft_open(&d, path, err);

    if (rc < 0)
        return rc;
    rc = pd_draft_write(&d, bytes, err);
    if (rc == 0)
        rc = pd_draft_commit(&d, err);
    pd_draft_done(&d);
    return rc;
}
