/* A picture as PNG. rsvg-convert draws it: the SVG is then the only drawing there is, and neither a
 * graphics library nor fonts are loaded by every other command. */
#include <errno.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "app/report.h"

#define CONVERTER "rsvg-convert"

extern char **environ;

static int convert(FILE *from, FILE *to, struct pd_err *err)
{
    char *argv[] = {(char[]){CONVERTER}, (char[]){"--format=png"}, (char[]){"--zoom=2"}, NULL};
    posix_spawn_file_actions_t actions;
    int status = 0, rc;
    pid_t pid;

    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, fileno(from), STDIN_FILENO);
    posix_spawn_file_actions_adddup2(&actions, fileno(to), STDOUT_FILENO);
    rc = posix_spawnp(&pid, CONVERTER, &actions, NULL, argv, environ);
    posix_spawn_file_actions_destroy(&actions);
    if (rc == ENOENT)
        return pd_fail(err, PD_ENOENT,
                       "PNG needs " CONVERTER " (Debian: apt install librsvg2-bin); SVG does not");
    if (rc)
        return pd_fail(err, PD_EIO, "cannot run " CONVERTER ": %s", strerror(rc));
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    return WIFEXITED(status) && WEXITSTATUS(status) == 0
               ? 0
               : pd_fail(err, PD_EIO, CONVERTER " could not draw the picture");
}

static int read_all(FILE *f, struct pd_buf *out, struct pd_err *err)
{
    char chunk[16384];
    size_t n;

    rewind(f);
    while ((n = fread(chunk, 1, sizeof chunk, f)) > 0)
        pd_buf_add(out, chunk, n);
    return pd_buf_rc(out) < 0 ? pd_fail(err, PD_ENOMEM, "out of memory for the picture") : 0;
}

int report_png(struct pd_str svg, struct pd_buf *out, struct pd_err *err)
{
    FILE *from = tmpfile(), *to = tmpfile(); /* not pipes: neither side has to wait */
    int rc = from && to && fwrite(svg.ptr, 1, svg.len, from) == svg.len && fflush(from) == 0
                 ? 0
                 : pd_fail(err, PD_EIO, "cannot write a temporary file: %s", strerror(errno));

    if (rc == 0) {
        rewind(from);
        rc = convert(from, to, err);
    }
    if (rc == 0)
        rc = read_all(to, out, err);
    if (from)
        fclose(from);
    if (to)
        fclose(to);
    return rc;
}
