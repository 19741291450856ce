#include "cli/cli.h"

#include <langinfo.h>
#include <locale.h>
#include <stdlib.h>
#include <unistd.h>

#define INPUT_MAX_BYTES (8u << 20)

int cli_exit_code(int code)
{
    switch (code) {
    case PD_EDIFFER:
        return 1;
    case PD_EINVAL:
        return 2;
    case PD_EFORMAT:
    case PD_ENOENT:
    case PD_ECOMPLEX:
        return 3;
    case PD_EBUSY:
    case PD_EREMOTE:
    case PD_ETIMEOUT:
        return 4;
    case PD_EBUDGET:
        return 5;
    case PD_ECANCEL:
        return 6;
    case PD_EPERM:
        return 7;
    case PD_ENOMEM:
    case PD_ELIMIT:
    case PD_EIO:
        return 8;
    default:
        return CLI_EXIT_INTERNAL;
    }
}

bool cli_fancy(FILE *f)
{
    const char *no_color = getenv("NO_COLOR"), *term = getenv("TERM");

    return isatty(fileno(f)) && !(no_color && no_color[0] != '\0') &&
           !(term && strcmp(term, "dumb") == 0);
}

const char *cli_bold(FILE *f)
{
    return cli_fancy(f) ? "\033[1m" : "";
}

const char *cli_dim(FILE *f)
{
    return cli_fancy(f) ? "\033[2m" : "";
}

const char *cli_plain(FILE *f)
{
    return cli_fancy(f) ? "\033[0m" : "";
}

bool cli_speaks_utf8(void)
{
    setlocale(LC_CTYPE, "");
    return strcmp(nl_langinfo(CODESET), "UTF-8") == 0;
}

/* Bytes of the valid UTF-8 character at s, 0 when there is none. */
static size_t utf8_char(struct pd_str s)
{
    unsigned char c = (unsigned char)s.ptr[0];
    size_t n = c < 0x80 ? 1 : c < 0xe0 ? 2 : c < 0xf0 ? 3 : 4;

    return n <= s.len && pd_utf8_valid(pd_str_sub(s, 0, n)) ? n : 0;
}

/* Writes the character at s, harmless; returns its bytes. */
static size_t put_char(FILE *f, struct pd_str s)
{
    unsigned char c = (unsigned char)s.ptr[0];
    size_t n = utf8_char(s);
    bool c1 = n == 2 && c == 0xc2 && (unsigned char)s.ptr[1] < 0xa0;

    if (n == 0 || (n == 1 && (c < 0x20 || c == 0x7f))) {
        if (c == '\n')
            fputs("\\n", f);
        else if (c == '\t')
            fputs("\\t", f);
        else
            fprintf(f, "\\x%02x", c);
        return 1;
    }
    if (c1)
        fprintf(f, "\\u%04x", (unsigned char)s.ptr[1]);
    else
        fwrite(s.ptr, 1, n, f);
    return n;
}

void cli_text(FILE *f, struct pd_str text, int indent)
{
    for (size_t i = 0; i < text.len;) {
        char c = text.ptr[i];

        if (c == '\n' && indent >= 0) {
            fprintf(f, "\n%*s", indent, "");
            i++;
        } else if (c == '\t' && indent >= 0) {
            fputc(c, f);
            i++;
        } else {
            i += put_char(f, pd_str_sub(text, i, text.len));
        }
    }
}

void cli_text_line(FILE *f, struct pd_str text, size_t max)
{
    size_t i = 0;

    for (size_t n = 0; i < text.len && n < max; n++) {
        if (text.ptr[i] == '\n' || text.ptr[i] == '\t') {
            fputc(' ', f);
            i++;
        } else {
            i += put_char(f, pd_str_sub(text, i, text.len));
        }
    }
    if (i < text.len)
        fputs("…", f);
}

void cli_message(const struct cli *cli, const char *level, const char *text)
{
    if (cli->log_format && strcmp(cli->log_format, "json") == 0) {
        struct pd_buf b = PD_BUF_INIT(65536);
        struct pd_jw w;

        pd_jw_init(&w, &b);
        pd_jw_object(&w);
        pd_jw_put_text(&w, "level", level);
        pd_jw_put_text(&w, "message", text);
        pd_jw_end_object(&w);
        if (pd_buf_rc(&b) == 0)
            fprintf(stderr, "%s\n", b.data);
        pd_buf_done(&b);
        return;
    }
    fputs("ponder: ", stderr);
    cli_text(stderr, pd_str_of(text), -1);
    fputc('\n', stderr);
}

uint64_t cli_resident_bytes(void)
{
    unsigned long pages = 0;
    FILE *f = fopen("/proc/self/statm", "r");

    if (!f)
        return 0;
    if (fscanf(f, "%*u %lu", &pages) != 1)
        pages = 0;
    fclose(f);
    return (uint64_t)pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

void cli_print_json(struct pd_buf *b)
{
    struct pd_str s = pd_buf_str(b);

    fwrite(s.ptr, 1, s.len, stdout);
    putchar('\n');
}

void cli_print_bytes(struct pd_str s)
{
    if (isatty(STDOUT_FILENO)) {
        cli_text(stdout, s, 0);
        putchar('\n');
    } else {
        fwrite(s.ptr, 1, s.len, stdout);
    }
}

int cli_input(const char *operand, const char *file, struct pd_buf *out, struct pd_err *err)
{
    *out = PD_BUF_INIT(INPUT_MAX_BYTES);
    if (operand) {
        if (pd_buf_addz(out, operand) < 0 || pd_buf_reserve(out, 0) < 0)
            return cli_no_memory(err);
        return 0;
    }
    if (file)
        return pd_read_file(file, out, err);
    if (isatty(STDIN_FILENO))
        return pd_fail(err, PD_EINVAL,
                       "no text: give it as an argument, with -f FILE or on standard input");
    return pd_read_file("-", out, err);
}
