#include "base/err.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/str.h"

/* Formats into a buffer of the caller, never straight into err->text: the arguments may well be the
 * old err->text. */
static void format_text(char *out, size_t out_bytes, const char *fmt, va_list args)
    __attribute__((format(printf, 3, 0)));
static void format_text(char *out, size_t out_bytes, const char *fmt, va_list args)
{
    if (vsnprintf(out, out_bytes, fmt, args) < 0)
        out[0] = '\0';
}

/* Joins two parts. What does not fit is cut between characters: the text goes to terminals and into
 * JSON. */
static void set_text(struct pd_err *err, const char *first, const char *separator,
                     const char *second)
{
    int n = snprintf(err->text, sizeof(err->text), "%s%s%s", first, separator, second);

    if (n >= (int)sizeof(err->text))
        err->text[pd_utf8_complete(pd_str_of(err->text))] = '\0';
}

int pd_fail(struct pd_err *err, enum pd_code code, const char *fmt, ...)
{
    char text[sizeof(err->text) + 1]; /* one more byte, so that set_text() sees what did not fit */
    va_list args;

    if (!err)
        return code;
    va_start(args, fmt);
    format_text(text, sizeof(text), fmt, args);
    va_end(args);
    err->code = code;
    set_text(err, text, "", "");
    return code;
}

static enum pd_code code_of_errno(int errno_value)
{
    switch (errno_value) {
    case ENOENT:
        return PD_ENOENT;
    case EACCES:
    case EPERM:
    case EROFS:
        return PD_EPERM;
    case ENOMEM:
        return PD_ENOMEM;
    default:
        return PD_EIO;
    }
}

int pd_fail_errno(struct pd_err *err, int errno_value, const char *fmt, ...)
{
    enum pd_code code = code_of_errno(errno_value);
    char text[sizeof(err->text)];
    va_list args;

    if (!err)
        return code;
    va_start(args, fmt);
    format_text(text, sizeof(text), fmt, args);
    va_end(args);
    err->code = code;
    set_text(err, text, ": ", strerror(errno_value)); /* glibc: safe in threads since 2.32 */
    return code;
}

void pd_err_context(struct pd_err *err, const char *fmt, ...)
{
    char context[sizeof(err->text)], old[sizeof(err->text)];
    va_list args;

    if (!err)
        return;
    va_start(args, fmt);
    format_text(context, sizeof(context), fmt, args);
    va_end(args);
    memcpy(old, err->text, sizeof(old));
    set_text(err, context, ": ", old);
}
