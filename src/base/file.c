#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define READ_CHUNK_BYTES 16384

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
