#include "daemon/daemon_int.h"

#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

#include "base/clock.h"

static const char *const names[] = {"error", "warning", "info", "info", "debug"};

/* As logfmt: in quotes where a reader would not know the end. */
static void put_text(struct pd_buf *b, const char *name, const char *text)
{
    bool plain = text[0] != '\0' && strpbrk(text, " \"=\n\r\t\\") == NULL;
    struct pd_jw w;

    pd_buf_printf(b, " %s=", name);
    if (plain) {
        pd_buf_addz(b, text);
    } else {
        pd_jw_init(&w, b);
        pd_jw_strz(&w, text);
    }
}

void daemon_log(const struct daemon *d, enum log_level level, const char *message, ...)
{
    struct pd_buf b = PD_BUF_INIT(65536);
    bool json = atomic_load(&d->log_json);
    char when[PD_RFC3339_SIZE];
    const char *name;
    struct pd_jw w;
    va_list args;

    if ((int)level > atomic_load(&d->log_level))
        return;
    pd_clock_rfc3339(pd_clock_unix_ms(), when);
    pd_jw_init(&w, &b);
    if (json) {
        pd_jw_object(&w);
        pd_jw_key(&w, "time");
        pd_jw_strz(&w, when);
        pd_jw_key(&w, "level");
        pd_jw_strz(&w, names[level]);
        pd_jw_key(&w, "message");
        pd_jw_strz(&w, message);
    } else {
        pd_buf_printf(&b, "%s %s %s", when, names[level], message);
    }
    va_start(args, message);
    while ((name = va_arg(args, const char *)) != NULL) {
        const char *text = va_arg(args, const char *);

        if (json) {
            pd_jw_key(&w, name);
            pd_jw_strz(&w, text ? text : "");
        } else {
            put_text(&b, name, text ? text : "");
        }
    }
    va_end(args);
    if (json)
        pd_jw_end_object(&w);
    pd_buf_addc(&b, '\n');
    if (pd_buf_rc(&b) == 0)
        (void)!write(STDERR_FILENO, b.data, b.len); /* one call: lines of threads stay whole */
    pd_buf_done(&b);
}
