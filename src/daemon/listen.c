/* The sockets: from systemd, or opened here; and the token of TCP clients.
 *
 * A socket file that nobody listens on any more is replaced. Two daemons that start at once are
 * kept apart by a lock on PATH.lock, which is held as long as the daemon runs. */
#include "daemon/daemon_int.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/file.h"
#include "base/hash.h"
#include "config.h"

#ifdef HAVE_LIBSYSTEMD
#include <systemd/sd-daemon.h>
#endif

#define BACKLOG     1024
#define TOKEN_BYTES 32

/* ---- unix ---------------------------------------------------------------------------------- */

static int lock_socket(struct daemon *d, const char *path, struct pd_err *err)
{
    char *name = NULL;
    int rc = 0;

    if (asprintf(&name, "%s.lock", path) < 0)
        return pd_fail(err, PD_ENOMEM, "out of memory");
    d->lock_fd = open(name, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (d->lock_fd < 0)
        rc = pd_fail_errno(err, errno, "cannot open '%s'", name);
    else if (flock(d->lock_fd, LOCK_EX | LOCK_NB) < 0)
        rc = errno == EWOULDBLOCK ? pd_fail(err, PD_EBUSY, "another ponder serves '%s'", path)
                                  : pd_fail_errno(err, errno, "cannot lock '%s'", name);
    free(name);
    return rc;
}

static int make_folder(const char *path, struct pd_err *err)
{
    char *folder = strdup(path), *slash;
    int rc = folder ? 0 : pd_fail(err, PD_ENOMEM, "out of memory");

    slash = folder ? strrchr(folder, '/') : NULL;
    if (slash && slash > folder) {
        *slash = '\0';
        rc = pd_mkdirs(folder, 0700, err);
    }
    free(folder);
    return rc;
}

static int listen_unix(struct daemon *d, const char *path, struct pd_err *err)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    mode_t mask;
    int fd, rc, e;

    if (strlen(path) >= sizeof a.sun_path)
        return pd_fail(err, PD_EINVAL, "the path of a socket may have %zu bytes, '%s' has %zu",
                       sizeof a.sun_path - 1, path, strlen(path));
    if (d->socket_path)
        return pd_fail(err, PD_EINVAL, "one unix socket can be listened on, not two");
    strcpy(a.sun_path, path);
    rc = make_folder(path, err);
    if (rc == 0)
        rc = lock_socket(d, path, err);
    if (rc < 0)
        return rc;
    unlink(path); /* under the lock: nobody listens there */
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    mask = umask(0177); /* 0600 from its first moment */
    rc = fd < 0 ? -1 : bind(fd, (struct sockaddr *)&a, sizeof a);
    e = errno;
    umask(mask);
    if (rc == 0 && listen(fd, BACKLOG) < 0) {
        rc = -1;
        e = errno;
    }
    if (rc < 0) {
        if (fd >= 0)
            close(fd);
        return pd_fail_errno(err, e, "cannot listen on '%s'", path);
    }
    d->socket_path = strdup(path);
    daemon_log(d, LOG_INFO, "listening", "address", path, NULL);
    return http_server_listen(d->http, fd, err);
}

/* ---- TCP ----------------------------------------------------------------------------------- */

/* The token in the runtime folder; a new one when there is none that only we can read. */
static int have_token(struct daemon *d, struct pd_err *err)
{
    struct pd_buf text = PD_BUF_INIT(4096);
    uint8_t bits[TOKEN_BYTES];
    char hex[2 * TOKEN_BYTES + 2];
    struct pd_draft draft;
    struct stat st;
    char *path;
    int rc = 0;

    if (d->token)
        return 0;
    path = app_runtime_path("token");
    if (!path)
        return pd_fail(err, PD_ENOMEM, "out of memory");
    if (lstat(path, &st) == 0 && S_ISREG(st.st_mode) && st.st_uid == geteuid() &&
        (st.st_mode & 077) == 0 && pd_read_file(path, &text, NULL) == 0 &&
        pd_str_trim(pd_buf_str(&text)).len >= 2 * TOKEN_BYTES) {
        d->token = pd_str_dup(pd_str_trim(pd_buf_str(&text)));
    } else if (getrandom(bits, sizeof bits, 0) != sizeof bits) {
        rc = pd_fail_errno(err, errno, "cannot draw a token");
    } else {
        pd_hex(bits, sizeof bits, hex);
        d->token = strdup(hex);
        strcat(hex, "\n");
        rc = make_folder(path, err);
        if (rc == 0)
            rc = pd_draft_open(&draft, path, err);
        if (rc == 0) {
            rc = fchmod(draft.fd, 0600) < 0 ? pd_fail_errno(err, errno, "cannot protect '%s'", path)
                                            : pd_draft_write(&draft, pd_str_of(hex), err);
            if (rc == 0)
                rc = pd_draft_commit(&draft, err);
            pd_draft_done(&draft);
        }
    }
    if (rc == 0 && !d->token)
        rc = pd_fail(err, PD_ENOMEM, "out of memory");
    if (rc == 0)
        daemon_log(d, LOG_INFO, "TCP clients need the token", "file", path, NULL);
    pd_buf_done(&text);
    free(path);
    return rc;
}

/* "127.0.0.1:7433": loopback only. */
static int listen_tcp(struct daemon *d, const char *where, struct pd_err *err)
{
    union {
        struct sockaddr any;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
    } a = {0};
    const char *colon = strrchr(where, ':');
    size_t n = colon ? (size_t)(colon - where) : 0;
    struct pd_str host = {where, n};
    socklen_t size;
    char told[64];
    uint64_t port;
    int fd, one = 1, rc;

    if (!colon || !pd_parse_u64(pd_str_of(colon + 1), &port) || port > 65535)
        return pd_fail(err, PD_EINVAL, "'http://%s' is not of the form http://127.0.0.1:PORT",
                       where);
    if (pd_str_eq(host, PD_STR("127.0.0.1")) || pd_str_eq(host, PD_STR("localhost"))) {
        a.v4 = (struct sockaddr_in){.sin_family = AF_INET,
                                    .sin_port = htons((uint16_t)port),
                                    .sin_addr = {htonl(INADDR_LOOPBACK)}};
        size = sizeof a.v4;
    } else if (pd_str_eq(host, PD_STR("[::1]"))) {
        a.v6 = (struct sockaddr_in6){.sin6_family = AF_INET6,
                                     .sin6_port = htons((uint16_t)port),
                                     .sin6_addr = IN6ADDR_LOOPBACK_INIT};
        size = sizeof a.v6;
    } else {
        return pd_fail(err, PD_EINVAL,
                       "only this machine is served over TCP: 127.0.0.1, localhost or [::1], not "
                       "'%.*s' (for others put a proxy in front that knows who they are)",
                       (int)n, where);
    }
    rc = have_token(d, err);
    if (rc < 0)
        return rc;
    fd = socket(a.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return pd_fail_errno(err, errno, "cannot listen on http://%s", where);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(fd, &a.any, size) < 0 || listen(fd, BACKLOG) < 0 ||
        getsockname(fd, &a.any, &size) < 0) {
        rc = errno == EADDRINUSE
                 ? pd_fail(err, PD_EBUSY, "something else listens on http://%s", where)
                 : pd_fail_errno(err, errno, "cannot listen on http://%s", where);
        close(fd);
        return rc;
    }
    snprintf(told, sizeof told, "http://%.*s:%u", (int)n, where,
             ntohs(a.any.sa_family == AF_INET ? a.v4.sin_port : a.v6.sin6_port));
    daemon_log(d, LOG_INFO, "listening", "address", told, NULL);
    return http_server_listen(d->http, fd, err);
}

/* ---- all ----------------------------------------------------------------------------------- */

#ifdef HAVE_LIBSYSTEMD
/* Whether others than its user may open the unix socket of this descriptor. */
static bool is_shared(int fd)
{
    struct sockaddr_un a = {0};
    socklen_t n = sizeof a;
    struct stat st;

    return getsockname(fd, (struct sockaddr *)&a, &n) == 0 && a.sun_family == AF_UNIX &&
           a.sun_path[0] == '/' && stat(a.sun_path, &st) == 0 &&
           (st.st_mode & (S_IWGRP | S_IWOTH)) != 0;
}
#endif

/* Sockets that systemd opened for us; their number, 0 without it. */
static int take_activated(struct daemon *d, struct pd_err *err)
{
#ifdef HAVE_LIBSYSTEMD
    int n = sd_listen_fds(1), rc;

    for (int i = 0; i < n; i++) {
        int fd = SD_LISTEN_FDS_START + i;

        if (sd_is_socket(fd, AF_UNSPEC, SOCK_STREAM, 1) <= 0)
            return pd_fail(err, PD_EINVAL,
                           "descriptor %d from systemd is not a listening stream socket", fd);
        if (sd_is_socket(fd, AF_UNIX, 0, -1) <= 0 && (rc = have_token(d, err)) < 0)
            return rc;
        d->socket_shared |= is_shared(fd);
        rc = http_server_listen(d->http, fd, err);
        if (rc < 0)
            return rc;
        daemon_log(d, LOG_INFO, "listening", "address", "from systemd", NULL);
    }
    return n > 0 ? n : 0;
#else
    (void)d, (void)err;
    return 0;
#endif
}

static int listen_on(struct daemon *d, const char *url, struct pd_err *err)
{
    char *path;
    int rc;

    if (strcmp(url, "unix") == 0) {
        path = app_runtime_path("ponder.sock");
        rc = path ? listen_unix(d, path, err) : pd_fail(err, PD_ENOMEM, "out of memory");
        free(path);
        return rc;
    }
    if (strncmp(url, "unix://", 7) == 0 && url[7] == '/')
        return listen_unix(d, url + 7, err);
    if (strncmp(url, "http://", 7) == 0)
        return listen_tcp(d, url + 7, err);
    return pd_fail(err, PD_EINVAL,
                   "cannot listen on '%s': give unix, unix:///PATH or http://127.0.0.1:PORT", url);
}

int daemon_listen(struct daemon *d, struct pd_err *err)
{
    int rc;

    if (d->settings->listen.n == 0) {
        rc = take_activated(d, err);
        return rc > 0 ? 0 : rc < 0 ? rc : listen_on(d, "unix", err);
    }
    for (size_t i = 0; i < d->settings->listen.n; i++) {
        rc = listen_on(d, d->settings->listen.items[i], err);
        if (rc < 0)
            return rc;
    }
    return 0;
}

void daemon_unlisten(struct daemon *d)
{
    if (d->socket_path)
        unlink(d->socket_path);
    free(d->socket_path);
    free(d->token);
    if (d->lock_fd >= 0)
        close(d->lock_fd);
}
