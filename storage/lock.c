/* Who runs a job: a lock that ends with its owner, however that ends. One byte a job in one file
 * beside the database. The locks belong to the open file (F_OFD_SETLK), so two owners in one
 * process exclude each other too. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/hash.h"
#include "storage/store_int.h"

int store_job_lock(struct store *s, const char *job_id, int *out_fd, struct pd_err *err)
{
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_len = 1};
    char *path;
    int fd, rc = 0;

    if (asprintf(&path, "%s-lock", s->path) < 0)
        return pd_fail(err, PD_ENOMEM, "out of memory");
    lock.l_start = (off_t)(pd_hash64(job_id, strlen(job_id)) >> 2); /* 62 bits: no two jobs meet */
    fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0) {
        rc = pd_fail_errno(err, errno, "cannot open '%s'", path);
    } else if (fcntl(fd, F_OFD_SETLK, &lock) < 0) {
        if (errno == EAGAIN || errno == EACCES)
            rc = pd_fail(err, PD_EBUSY, "job %s is running in another process", job_id);
        else
            rc = pd_fail_errno(err, errno, "cannot lock job %s in '%s'", job_id, path);
        close(fd);
    }
    free(path);
    if (rc == 0)
        *out_fd = fd;
    return rc;
}
