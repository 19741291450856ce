/* Programs that are not trusted, run in a sandbox: bubblewrap's namespaces, a seccomp filter and
 * limits of resources. There is no network, no home, nothing to write to but a private /tmp that is
 * gone afterwards; /usr is read-only, the environment empty. Started as root, the program runs as
 * nobody. When the call returns, no process of it is left. docs/design/sandbox.md
 *
 * Any thread; the caller waits. Without a sandbox nothing is run: there is no other way. */
#ifndef PD_PROC_PROC_H
#define PD_PROC_PROC_H

#include "base/buf.h"
#include "base/err.h"

struct proc_file {
    const char *name; /* in /tmp, without a slash */
    struct pd_str text;
};

struct proc_spec {
    const char *const *argv; /* NULL-terminated; argv[0] is looked for in /usr/bin */
    const struct proc_file *files;
    size_t n_files; /* PROC_FILES_MAX at most */
    struct pd_str input;
    int64_t wall_ns;                   /* of the whole run */
    unsigned cpu_s, n_processes;       /* of each process; of all together */
    uint64_t memory_bytes, file_bytes; /* address space of each process; all of /tmp */
    size_t output_bytes;               /* of both outputs together */
};
#define PROC_FILES_MAX 8

enum proc_end {
    PROC_EXITED,  /* status is what it returned; 128 + N: signal N ended it */
    PROC_TIMEOUT, /* wall_ns passed */
    PROC_FLOODED, /* it wrote more than output_bytes */
};
struct proc_result {
    enum proc_end end;
    int status;
};

/* Limits that suit a short test of a program; argv, files and input are empty. */
extern const struct proc_spec proc_short;

/* Runs it and appends what it writes (standard output and error, as they come) to output, which is
 * cut at output_bytes. PD_ENOENT: there is no safe sandbox, and why; PD_EIO, PD_ENOMEM, PD_EINVAL.
 */
int proc_run(const struct proc_spec *spec, struct pd_buf *output, struct proc_result *out,
             struct pd_err *err);
/* Whether there is a sandbox, by running a program that does nothing. As proc_run. */
int proc_check(struct pd_err *err);

#endif
