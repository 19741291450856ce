/* Programs that want out of the sandbox. Each says on its output what it could do; afterwards we
 * are unhurt, and no process and no file of it is left. Skipped where there can be no sandbox. */
#include "proc/proc.h"

#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/file.h"

static char mark[64]; /* in the arguments of every process of a run: none must be left with it */

/* Limits for programs that end by themselves, on a machine that is busy with other things. */
static struct proc_spec patient(void)
{
    struct proc_spec spec = proc_short;

    spec.wall_ns = 300 * PD_NS_PER_S;
    spec.cpu_s = 100;
    return spec;
}

static void run(const char *const *argv, struct proc_spec spec, struct pd_buf *out,
                struct proc_result *result)
{
    struct pd_err err = {0};

    spec.argv = argv;
    if (proc_run(&spec, out, result, &err) < 0)
        fail_msg("%s", err.text);
}

/* Processes of this machine with the mark in their arguments. */
static int count_marked(void)
{
    DIR *d = opendir("/proc");
    struct dirent *e;
    int n = 0;

    assert_non_null(d);
    while ((e = readdir(d))) {
        char path[300], text[4096];
        FILE *f;
        size_t len;

        snprintf(path, sizeof path, "/proc/%s/cmdline", e->d_name);
        if (atoi(e->d_name) <= 0 || !(f = fopen(path, "r")))
            continue;
        len = fread(text, 1, sizeof text, f);
        fclose(f);
        n += memmem(text, len, mark, strlen(mark)) != NULL;
    }
    closedir(d);
    return n;
}

static struct proc_result python(const char *code, struct proc_spec spec, const char *says)
{
    const char *const argv[] = {"python3", "-c", code, mark, NULL};
    struct pd_buf out = PD_BUF_INIT(4 << 20);
    struct proc_result result;

    run(argv, spec, &out, &result);
    if (says && !pd_str_eq(pd_buf_str(&out), pd_str_of(says)))
        fail_msg("it says: %.*s", (int)out.len, out.data ? out.data : "");
    pd_buf_done(&out);
    while (count_marked()) /* the kernel has them to end */
        usleep(1000);
    return result;
}

static void runs_a_program(void **state)
{
    static const char *const argv[] = {"python3", "/tmp/a.py", NULL};
    const struct proc_file file = {"a.py", PD_STR("import sys\nprint(6 * int(input()))\n"
                                                  "sys.exit(3)")};
    struct proc_spec spec = patient();
    struct proc_result result;
    struct pd_buf out = PD_BUF_INIT(1024);

    (void)state;
    spec.files = &file;
    spec.n_files = 1;
    spec.input = PD_STR("7\n");
    run(argv, spec, &out, &result);
    assert_int_equal(result.end, PROC_EXITED);
    assert_int_equal(result.status, 3);
    assert_string_equal(out.data, "42\n");
    pd_buf_done(&out);
}

static void a_fork_bomb_ends(void **state)
{
    struct proc_spec spec = patient();

    (void)state;
    spec.wall_ns = 2 * PD_NS_PER_S;
    assert_int_equal(
        python("import os\nwhile True:\n try: os.fork()\n except OSError: pass", spec, "").end,
        PROC_TIMEOUT);
}

static void memory_is_bounded(void **state)
{
    (void)state;
    python("try: bytearray(10 << 30)\nexcept MemoryError: print('no memory')", patient(),
           "no memory\n");
}

static void output_is_bounded(void **state)
{
    static const char *const argv[] = {"yes", mark, NULL};
    struct proc_spec spec = patient();
    struct pd_buf out = PD_BUF_INIT(4 << 20);
    struct proc_result result;

    (void)state;
    spec.output_bytes = 100000;
    run(argv, spec, &out, &result);
    assert_int_equal(result.end, PROC_FLOODED);
    assert_int_equal(out.len, 100000);
    pd_buf_done(&out);
    while (count_marked())
        usleep(1000);
}

static void what_leaves_the_session_ends_too(void **state)
{
    (void)state;
    assert_int_equal(python("import os, time\n"
                            "if os.fork() == 0:\n"
                            " os.setsid()\n"
                            " if os.fork() == 0:\n"
                            "  time.sleep(1000)\n"
                            " os._exit(0)\n"
                            "os.wait()",
                            patient(), "")
                         .end,
                     PROC_EXITED);
}

static void nothing_outside_is_written_or_read(void **state)
{
    char secret[] = "/tmp/ponder-secret-XXXXXX", code[2048];
    struct pd_buf text = PD_BUF_INIT(64);
    int fd = mkstemp(secret);

    (void)state;
    assert_true(fd >= 0 && write(fd, "secret", 6) == 6);
    close(fd);
    setenv("PONDER_SECRET", "in the environment", 1);
    snprintf(code, sizeof code,
             "import os\n"
             "did = []\n"
             "for p in ['/x', '/usr/x', '/etc/x', '/proc/sys/kernel/core_pattern', '/dev/x/y',\n"
             "          '/proc/self/root/etc/x', '/proc/1/root/x']:\n"
             " try: open(p, 'w'); did.append(p)\n"
             " except OSError: pass\n"
             "os.symlink('%s', '/tmp/link')\n"
             "for p in ['/tmp/link', '/etc/shadow', '/root', '/home', '/proc/1/root%s', '/boot']:\n"
             " try: os.listdir(p) if os.path.isdir(p) else open(p).read(); did.append(p)\n"
             " except OSError: pass\n"
             "if 'PONDER_SECRET' in os.environ: did.append('environment')\n"
             "for p in os.listdir('/proc'):\n"
             " if p.isdigit() and b'SECRET' in open('/proc/%%s/environ' %% p, 'rb').read():\n"
             "  did.append('environment of ' + p)\n"
             "if os.getuid() == 0: did.append('root')\n"
             "open('/tmp/%s-kept', 'w').write('x')\n"
             "print(did)",
             secret, secret, mark);
    python(code, patient(), "[]\n");
    assert_int_equal(pd_read_file(secret, &text, NULL), 0);
    assert_string_equal(text.data, "secret");
    unlink(secret);
    snprintf(code, sizeof code, "/tmp/%s-kept", mark);
    assert_false(pd_file_exists(code));
    pd_buf_done(&text);
}

static void there_is_no_network(void **state)
{
    (void)state;
    python("import os, socket\n"
           "for f in [socket.AF_INET, socket.AF_INET6, socket.AF_UNIX, socket.AF_NETLINK]:\n"
           " try: socket.socket(f, socket.SOCK_DGRAM); print(f)\n"
           " except OSError: pass\n"
           "print(os.listdir('/sys/class/net') if os.path.exists('/sys/class/net') else [])",
           patient(), "[]\n");
}

static void signals_stay_inside(void **state)
{
    char code[256];

    (void)state;
    snprintf(code, sizeof code,
             "import os\n"
             "for p in [%d, os.getppid(), 1, -1]:\n"
             " try: os.kill(p, 9)\n"
             " except OSError: pass\n"
             "print('alive')",
             (int)getpid());
    python(code, patient(), "alive\n");
}

static void nothing_is_traced_or_mounted(void **state)
{
    (void)state;
    python("import ctypes, os\n"
           "c = ctypes.CDLL(None, use_errno=True)\n"
           "print(c.ptrace(0, 0, 0, 0), c.ptrace(16, os.getppid(), 0, 0), c.unshare(0x10000000),\n"
           "      c.mount(b'none', b'/tmp', b'tmpfs', 0, None), c.chroot(b'/tmp'))",
           patient(), "-1 -1 -1 -1 -1\n");
}

static void time_is_bounded(void **state)
{
    struct proc_spec spec = patient();

    (void)state;
    spec.wall_ns = PD_NS_PER_S;
    assert_int_equal(python("import time, signal\n"
                            "for s in range(1, 32):\n"
                            " try: signal.signal(s, signal.SIG_IGN)\n"
                            " except (OSError, ValueError): pass\n"
                            "time.sleep(1000)",
                            spec, "")
                         .end,
                     PROC_TIMEOUT);
    spec = patient();
    spec.cpu_s = 1;
    assert_int_equal(python("while True: pass", spec, "").status, 128 + 9);
}

static void files_are_bounded(void **state)
{
    struct proc_spec spec = patient();

    (void)state;
    spec.file_bytes = 1 << 20;
    python("try:\n"
           " for i in range(100): open('/tmp/%d' % i, 'wb').write(bytes(100000))\n"
           "except OSError: print('full')",
           spec, "full\n");
}

static void asks_for_sense(void **state)
{
    static const char *const argv[] = {"true", NULL};
    const struct proc_file file = {"../a", PD_STR("")};
    struct proc_spec spec = patient();
    struct proc_result result;
    struct pd_buf out = PD_BUF_INIT(64);
    struct pd_err err = {0};

    (void)state;
    spec.argv = argv;
    spec.files = &file;
    spec.n_files = 1;
    assert_int_equal(proc_run(&spec, &out, &result, &err), PD_EINVAL);
    assert_string_equal(err.text, "'../a' is no name of a file in a sandbox");
    pd_buf_done(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(runs_a_program),
        cmocka_unit_test(a_fork_bomb_ends),
        cmocka_unit_test(memory_is_bounded),
        cmocka_unit_test(output_is_bounded),
        cmocka_unit_test(what_leaves_the_session_ends_too),
        cmocka_unit_test(nothing_outside_is_written_or_read),
        cmocka_unit_test(there_is_no_network),
        cmocka_unit_test(signals_stay_inside),
        cmocka_unit_test(nothing_is_traced_or_mounted),
        cmocka_unit_test(time_is_bounded),
        cmocka_unit_test(files_are_bounded),
        cmocka_unit_test(asks_for_sense),
    };
    struct pd_err err = {0};

    snprintf(mark, sizeof mark, "ponder-escape-%d", (int)getpid());
    if (proc_check(&err) < 0) {
        printf("1..0 # SKIP %s\n", err.text);
        return 0;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
