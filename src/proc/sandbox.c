/* The sandbox: see proc.h. Everything that needs memory is made before the fork; the child only
 * sets itself up and becomes bwrap. Files travel as memory files that bwrap copies into the
 * sandbox's own /tmp, so that nothing of a run is ever on a disk. */
#include "proc/proc.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <seccomp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"

#define BWRAP      "/usr/bin/bwrap"
#define NOBODY     65534
#define ARGS_MAX   128
#define ARG_BYTES  8192
#define STATUS_MAX 1024 /* bytes of bwrap's report */
#define SAID_MAX   300  /* bytes of its complaint in an error */
#define READ_BYTES 65536

const struct proc_spec proc_short = {
    .wall_ns = 10 * PD_NS_PER_S,
    .cpu_s = 10,
    .n_processes = 32,
    .memory_bytes = UINT64_C(1) << 30,
    .file_bytes = UINT64_C(64) << 20,
    .output_bytes = (size_t)1 << 20,
};

struct run {
    const char *argv[ARGS_MAX];
    size_t n_args;
    char text[ARG_BYTES]; /* of arguments that are made here */
    size_t n_text;
    int fds[PROC_FILES_MAX + 1]; /* memory files that the child keeps: the filter, then files */
    size_t n_fds;
    int input, output[2], status[2]; /* pipes: read, write */
    bool full;
};

/* ---- the filter ---------------------------------------------------------------------------- */

/* What no test of a program needs, and what has let programs out of sandboxes before. */
static const int refused[] = {
    SCMP_SYS(ptrace),
    SCMP_SYS(process_vm_readv),
    SCMP_SYS(process_vm_writev),
    SCMP_SYS(process_madvise),
    SCMP_SYS(pidfd_getfd),
    SCMP_SYS(kcmp),
    SCMP_SYS(mount),
    SCMP_SYS(umount2),
    SCMP_SYS(pivot_root),
    SCMP_SYS(chroot),
    SCMP_SYS(move_mount),
    SCMP_SYS(open_tree),
    SCMP_SYS(fsopen),
    SCMP_SYS(fsconfig),
    SCMP_SYS(fsmount),
    SCMP_SYS(fspick),
    SCMP_SYS(mount_setattr),
    SCMP_SYS(unshare),
    SCMP_SYS(setns),
    SCMP_SYS(bpf),
    SCMP_SYS(perf_event_open),
    SCMP_SYS(userfaultfd),
    SCMP_SYS(io_uring_setup),
    SCMP_SYS(io_uring_enter),
    SCMP_SYS(io_uring_register),
    SCMP_SYS(keyctl),
    SCMP_SYS(add_key),
    SCMP_SYS(request_key),
    SCMP_SYS(open_by_handle_at),
    SCMP_SYS(name_to_handle_at),
    SCMP_SYS(init_module),
    SCMP_SYS(finit_module),
    SCMP_SYS(delete_module),
    SCMP_SYS(kexec_load),
    SCMP_SYS(kexec_file_load),
    SCMP_SYS(reboot),
    SCMP_SYS(swapon),
    SCMP_SYS(swapoff),
    SCMP_SYS(acct),
    SCMP_SYS(quotactl),
    SCMP_SYS(syslog),
    SCMP_SYS(personality),
    SCMP_SYS(settimeofday),
    SCMP_SYS(clock_settime),
    SCMP_SYS(adjtimex),
    SCMP_SYS(clock_adjtime),
    SCMP_SYS(iopl),
    SCMP_SYS(ioperm),
    SCMP_SYS(socket),
    SCMP_SYS(vhangup),
    SCMP_SYS(fanotify_init),
};

/* Writes the program of the filter to fd. */
static int write_filter(int fd, struct pd_err *err)
{
    scmp_filter_ctx f = seccomp_init(SCMP_ACT_ALLOW);
    int rc = f ? 0 : -ENOMEM;

    for (size_t i = 0; i < sizeof refused / sizeof *refused && rc == 0; i++)
        rc = seccomp_rule_add(f, SCMP_ACT_ERRNO(EPERM), refused[i], 0);
    /* no new user namespaces, no typing on a terminal; clone3 hides its flags from filters, and
     * without it the C library falls back to clone */
    if (rc == 0)
        rc = seccomp_rule_add(f, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(clone), 1,
                              SCMP_A0(SCMP_CMP_MASKED_EQ, CLONE_NEWUSER, CLONE_NEWUSER));
    if (rc == 0)
        rc = seccomp_rule_add(f, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3), 0);
    if (rc == 0)
        rc = seccomp_rule_add(f, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(ioctl), 1,
                              SCMP_A1(SCMP_CMP_MASKED_EQ, 0xFFFFFFFFu, TIOCSTI));
    if (rc == 0)
        rc = seccomp_export_bpf(f, fd);
    seccomp_release(f);
    if (rc < 0)
        return pd_fail_errno(err, -rc, "cannot make the sandbox's filter of system calls");
    return lseek(fd, 0, SEEK_SET) < 0 ? pd_fail_errno(err, errno, "cannot rewind the filter") : 0;
}

/* ---- what the child is given --------------------------------------------------------------- */

static void arg(struct run *r, const char *text)
{
    if (r->n_args + 1 < ARGS_MAX)
        r->argv[r->n_args++] = text;
    else
        r->full = true;
}

__attribute__((format(printf, 2, 3))) static void arg_printf(struct run *r, const char *fmt, ...)
{
    char *at = r->text + r->n_text;
    size_t left = sizeof r->text - r->n_text;
    va_list ap;
    int n;

    va_start(ap, fmt);
    n = vsnprintf(at, left, fmt, ap);
    va_end(ap);
    if (n < 0 || (size_t)n >= left) {
        r->full = true;
        return;
    }
    r->n_text += (size_t)n + 1;
    arg(r, at);
}

static void args(struct run *r, const char *const *list)
{
    for (size_t i = 0; list[i]; i++)
        arg(r, list[i]);
}

/* A file in memory; -1 and err. */
static int memory_file(struct pd_str text, struct pd_err *err)
{
    int fd = memfd_create("ponder", MFD_CLOEXEC);
    size_t done = 0;

    while (fd >= 0 && done < text.len) {
        ssize_t n = write(fd, text.ptr + done, text.len - done);

        if (n < 0 && errno != EINTR)
            break;
        done += n > 0 ? (size_t)n : 0;
    }
    if (fd >= 0 && done == text.len && lseek(fd, 0, SEEK_SET) == 0)
        return fd;
    pd_fail_errno(err, errno, "cannot keep a file of the sandbox in memory");
    if (fd >= 0)
        close(fd);
    return -1;
}

static int make_arguments(struct run *r, const struct proc_spec *spec, struct pd_err *err)
{
    static const char *const before[] = {BWRAP,
                                         "--unshare-all",
                                         "--unshare-user",
                                         "--disable-userns",
                                         "--die-with-parent",
                                         "--new-session",
                                         "--hostname",
                                         "sandbox",
                                         "--cap-drop",
                                         "ALL",
                                         "--clearenv",
                                         "--setenv",
                                         "PATH",
                                         "/usr/bin:/bin",
                                         "--setenv",
                                         "HOME",
                                         "/tmp",
                                         "--setenv",
                                         "LANG",
                                         "C.UTF-8",
                                         "--ro-bind",
                                         "/usr",
                                         "/usr",
                                         "--symlink",
                                         "usr/bin",
                                         "/bin",
                                         "--symlink",
                                         "usr/sbin",
                                         "/sbin",
                                         "--symlink",
                                         "usr/lib",
                                         "/lib",
                                         "--symlink",
                                         "usr/lib64",
                                         "/lib64",
                                         "--ro-bind-try",
                                         "/etc/ld.so.cache",
                                         "/etc/ld.so.cache",
                                         "--ro-bind-try",
                                         "/etc/alternatives",
                                         "/etc/alternatives",
                                         "--proc",
                                         "/proc",
                                         "--dev",
                                         "/dev",
                                         NULL};

    args(r, before);
    arg(r, "--size");
    arg_printf(r, "%llu", (unsigned long long)spec->file_bytes);
    args(r, (const char *const[]){"--tmpfs", "/tmp", "--chdir", "/tmp", NULL});
    for (size_t i = 0; i <= spec->n_files; i++) {
        const struct proc_file *f = i ? &spec->files[i - 1] : NULL;
        int fd = memory_file(f ? f->text : PD_STR(""), err);

        if (fd < 0)
            return PD_EIO;
        r->fds[r->n_fds++] = fd;
        if (!f) {
            if (write_filter(fd, err) < 0)
                return PD_EIO;
            arg(r, "--seccomp");
            arg_printf(r, "%d", fd);
            continue;
        }
        if (!f->name[0] || strchr(f->name, '/') || f->name[0] == '.')
            return pd_fail(err, PD_EINVAL, "'%.60s' is no name of a file in a sandbox", f->name);
        arg(r, "--file");
        arg_printf(r, "%d", fd);
        arg_printf(r, "/tmp/%s", f->name);
    }
    arg(r, "--remount-ro");
    arg(r, "/");
    arg(r, "--json-status-fd");
    arg_printf(r, "%d", r->status[1]);
    arg(r, "--");
    arg(r, "/usr/bin/prlimit");
    arg_printf(r, "--as=%llu", (unsigned long long)spec->memory_bytes);
    arg_printf(r, "--cpu=%u", spec->cpu_s);
    arg_printf(r, "--nproc=%u", spec->n_processes);
    arg_printf(r, "--fsize=%llu", (unsigned long long)spec->file_bytes);
    args(r, (const char *const[]){"--nofile=256", "--core=0", "--", NULL});
    args(r, spec->argv);
    r->argv[r->n_args] = NULL;
    return r->full ? pd_fail(err, PD_EINVAL, "the sandbox's command line is too long") : 0;
}

/* In the child. What it says is read as bwrap's own complaint would be. */
_Noreturn static void give_up(struct pd_str why)
{
    ssize_t n = write(2, why.ptr, why.len);

    _exit(n < 0 ? 126 : 127);
}

/* Only what may be called between fork and exec in a program with threads. */
_Noreturn static void become_bwrap(const struct run *r)
{
    static char *const environment[] = {NULL};
    sigset_t none;

    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    signal(SIGPIPE, SIG_DFL);
    if (dup2(r->input, 0) < 0 || dup2(r->output[1], 1) < 0 || dup2(r->output[1], 2) < 0 ||
        close_range(3, ~0u, CLOSE_RANGE_CLOEXEC) < 0)
        give_up(PD_STR("its descriptors cannot be set up"));
    for (size_t i = 0; i < r->n_fds; i++)
        fcntl(r->fds[i], F_SETFD, 0);
    fcntl(r->status[1], F_SETFD, 0);
    /* raw calls: those of the C library would reach for the other threads, which are not here */
    if (geteuid() == 0 && (syscall(SYS_setgroups, 0, NULL) < 0 ||
                           syscall(SYS_setresgid, NOBODY, NOBODY, NOBODY) < 0 ||
                           syscall(SYS_setresuid, NOBODY, NOBODY, NOBODY) < 0))
        give_up(PD_STR("root cannot become the user nobody here"));
    execve(BWRAP, (char *const *)(uintptr_t)r->argv, environment);
    give_up(PD_STR("bwrap cannot be executed"));
}

/* ---- while it runs ------------------------------------------------------------------------- */

/* Takes what is there to read; false: the pipe has ended, or there is too much. */
static bool drain(int fd, struct pd_buf *out, size_t start, size_t max, bool *flooded)
{
    static _Thread_local char bytes[READ_BYTES];
    ssize_t n;

    while ((n = read(fd, bytes, sizeof bytes)) > 0) {
        size_t left = max - (out->len - start);

        if ((size_t)n > left) {
            pd_buf_add(out, bytes, left);
            *flooded = true;
            return false;
        }
        if (pd_buf_add(out, bytes, (size_t)n) < 0)
            return false;
    }
    return n < 0 && (errno == EAGAIN || errno == EINTR);
}

/* Until bwrap has ended or must end: it takes the namespace's processes with it. */
static enum proc_end watch(int pidfd, const struct run *r, const struct proc_spec *spec,
                           struct pd_buf *out)
{
    int64_t end_ns = pd_clock_now_ns() + spec->wall_ns;
    size_t start = out->len;
    bool flooded = false, reads = true;

    for (;;) {
        struct pollfd p[2] = {{pidfd, POLLIN, 0}, {reads ? r->output[0] : -1, POLLIN, 0}};
        int64_t left_ns = end_ns - pd_clock_now_ns();

        if (left_ns <= 0)
            return PROC_TIMEOUT;
        if (poll(p, 2, (int)(left_ns / PD_NS_PER_MS) + 1) < 0 && errno != EINTR)
            return PROC_TIMEOUT;
        if (reads && p[1].revents)
            reads = drain(r->output[0], out, start, spec->output_bytes, &flooded);
        if (flooded)
            return PROC_FLOODED;
        if (p[0].revents) {
            if (reads) /* what it wrote last */
                drain(r->output[0], out, start, spec->output_bytes, &flooded);
            return flooded ? PROC_FLOODED : PROC_EXITED;
        }
    }
}

/* bwrap's own account of how the program ended; false: it never began. */
static bool read_status(int fd, int *status)
{
    char text[STATUS_MAX];
    ssize_t n = read(fd, text, sizeof text - 1);
    const char *at;

    text[n > 0 ? n : 0] = '\0';
    at = strstr(text, "\"exit-code\":");
    if (at)
        *status = atoi(at + strlen("\"exit-code\":"));
    return at != NULL;
}

static int supervise(struct run *r, const struct proc_spec *spec, struct pd_buf *output,
                     struct proc_result *out, struct pd_err *err)
{
    size_t start = output->len;
    int pidfd, wait_status, rc = 0;
    pid_t pid = fork();

    if (pid == 0)
        become_bwrap(r);
    if (pid < 0)
        return pd_fail_errno(err, errno, "cannot start a process");
    close(r->output[1]);
    close(r->status[1]);
    r->output[1] = r->status[1] = -1;
    pidfd = pidfd_open(pid, 0);
    if (pidfd < 0)
        rc = pd_fail_errno(err, errno, "cannot watch the sandbox");
    else
        out->end = watch(pidfd, r, spec, output);
    kill(pid, SIGKILL);
    while (waitpid(pid, &wait_status, 0) < 0 && errno == EINTR)
        ;
    if (pidfd >= 0)
        close(pidfd);
    if (rc == 0 && pd_buf_rc(output) < 0)
        rc = pd_fail(err, PD_ENOMEM, "out of memory for what the program writes");
    if (rc == 0 && out->end == PROC_EXITED && !read_status(r->status[0], &out->status)) {
        struct pd_str said = pd_str_trim(pd_str_sub(pd_buf_str(output), start, start + SAID_MAX));

        rc = pd_fail(err, PD_ENOENT, "the sandbox did not start: %.*s", (int)said.len, said.ptr);
    }
    return rc;
}

static void close_all(struct run *r)
{
    for (size_t i = 0; i < r->n_fds; i++)
        close(r->fds[i]);
    for (int i = 0; i < 2; i++) {
        if (r->output[i] >= 0)
            close(r->output[i]);
        if (r->status[i] >= 0)
            close(r->status[i]);
    }
    if (r->input >= 0)
        close(r->input);
}

int proc_run(const struct proc_spec *spec, struct pd_buf *output, struct proc_result *out,
             struct pd_err *err)
{
    struct proc_result result = {0};
    struct run *r;
    int rc = 0;

    if (spec->n_files > PROC_FILES_MAX)
        return pd_fail(err, PD_EINVAL, "more than %d files for a sandbox", PROC_FILES_MAX);
    if (access(BWRAP, X_OK) < 0)
        return pd_fail(err, PD_ENOENT,
                       "there is no sandbox: " BWRAP " is missing; on Debian: "
                       "apt-get install bubblewrap");
    r = calloc(1, sizeof *r);
    if (!r)
        return pd_fail(err, PD_ENOMEM, "out of memory for a sandbox");
    r->input = r->output[0] = r->output[1] = r->status[0] = r->status[1] = -1;
    if (pipe2(r->output, O_CLOEXEC) < 0 || pipe2(r->status, O_CLOEXEC) < 0 ||
        fcntl(r->output[0], F_SETFL, O_NONBLOCK) < 0 ||
        fcntl(r->status[0], F_SETFL, O_NONBLOCK) < 0)
        rc = pd_fail_errno(err, errno, "cannot make the pipes of a sandbox");
    if (rc == 0 && (r->input = memory_file(spec->input, err)) < 0)
        rc = PD_EIO;
    if (rc == 0)
        rc = make_arguments(r, spec, err);
    if (rc == 0)
        rc = supervise(r, spec, output, &result, err);
    close_all(r);
    free(r);
    if (rc == 0)
        *out = result;
    return rc;
}

int proc_check(struct pd_err *err)
{
    static const char *const nothing[] = {"true", NULL};
    struct proc_spec spec = proc_short;
    struct proc_result result;
    struct pd_buf output = PD_BUF_INIT(1 << 20);
    int rc;

    spec.argv = nothing;
    spec.wall_ns = 60 * PD_NS_PER_S; /* a busy machine is no reason */
    spec.output_bytes = 4096;
    rc = proc_run(&spec, &output, &result, err);
    if (rc == 0 && (result.end != PROC_EXITED || result.status != 0))
        rc = pd_fail(err, PD_ENOENT, "the sandbox does not run programs: %.*s",
                     (int)(output.len < SAID_MAX ? output.len : SAID_MAX),
                     output.len ? output.data : "status of 'true' is not 0");
    pd_buf_done(&output);
    return rc;
}
