/* `ponder top`: what a daemon is doing, once or again every second: its running and waiting jobs,
 * tokens a second, KV cache. Plain ANSI; the frame is put together in memory and written at once.
 */
#include "cli/cli.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <termios.h>
#include <unistd.h>

#include "cli/client.h"

#define REPLY_MAX    ((size_t)64 << 20)
#define ROWS_MAX     1000
#define REFRESH_MS   1000
#define QUESTION_MAX 200
#define CTRL_C       3

static const struct cli_usage usage_text = {
    "top [options]",
    "Shows what a daemon is doing, again every second: its jobs with their lanes and tokens, its "
    "KV "
    "cache. Keys: arrows choose a job, c cancels it, q ends. Once and in plain text with --once, "
    "with --json, or off a terminal.",
};

struct row {
    char id[PD_JOB_ID_MAX];
    const struct pd_json *job;
    uint64_t tokens;
    double rate; /* tokens a second; -1: it does not run */
};

struct view { /* of one look */
    struct pd_json *running, *queued;
    struct row *rows; /* running ones first */
    size_t n, n_running;
    double n_queued; /* all of them */
    int64_t at_ns;
    double rate;
    struct {
        double kv_bytes, pages_used, pages_cached, shared, cached, prompt, resident, streams,
            connections;
    } m;
};

struct top {
    struct client *c;
    struct view now;
    char selected[PD_JOB_ID_MAX];
    bool asks;         /* whether the selected one is to be cancelled */
    struct pd_err err; /* of the last look */
    char note[160];
};

static void view_done(struct view *v)
{
    pd_json_free(v->running);
    pd_json_free(v->queued);
    free(v->rows);
    *v = (struct view){0};
}

/* ---- looking --------------------------------------------------------------------------------- */

static int fetch(struct client *c, const char *path, struct pd_buf *out, struct pd_json **out_json,
                 struct pd_err *err)
{
    int rc = client_call(c, "GET", path, NULL, NULL, out, err);

    if (rc == 0 && out_json && pd_json_parse(pd_buf_str(out), out_json, err) < 0) {
        pd_err_context(err, "the daemon's answer");
        rc = err->code = PD_EREMOTE;
    }
    return rc;
}

/* The value of a metric, 0 when it is not there. name: with its labels. */
static double metric(struct pd_str text, const char *name)
{
    char key[128];
    ptrdiff_t at;
    double value = 0;

    snprintf(key, sizeof key, "\nponder_%s ", name);
    at = pd_str_find(text, pd_str_of(key));
    if (at < 0)
        return 0;
    text = pd_str_sub(text, (size_t)at + strlen(key), text.len);
    at = pd_str_find(text, PD_STR("\n"));
    (void)pd_parse_double(pd_str_sub(text, 0, at < 0 ? text.len : (size_t)at), &value);
    return value;
}

static void read_metrics(struct view *v, struct pd_str text)
{
    const struct {
        const char *name;
        double *to;
    } known[] = {
        {"kv_bytes", &v->m.kv_bytes},
        {"kv_pages_used", &v->m.pages_used},
        {"kv_pages_cached", &v->m.pages_cached},
        {"kv_shared_ratio", &v->m.shared},
        {"tokens_total{engine=\"local\",kind=\"cached\"}", &v->m.cached},
        {"tokens_total{engine=\"local\",kind=\"prompt\"}", &v->m.prompt},
        {"resident_bytes", &v->m.resident},
        {"http_streams", &v->m.streams},
        {"http_connections", &v->m.connections},
        {"queue_depth", &v->n_queued},
    };

    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        *known[i].to = metric(text, known[i].name);
}

static const char *text_of(const struct pd_json *o, const char *key)
{
    const char *text = pd_json_string(pd_json_get(o, key));

    return text ? text : "";
}

static int64_t int_of(const struct pd_json *o, const char *key)
{
    int64_t v = 0;

    (void)pd_json_int(pd_json_get(o, key), &v);
    return v;
}

static double seconds_of(const struct pd_json *job)
{
    int64_t since = int_of(job, "started_ms");

    return since ? (double)(pd_clock_unix_ms() - since) / 1000 : 0;
}

/* Since the look before; of a job that was not there, since its start. */
static double rate_of(const struct view *before, const struct view *v, const struct row *r)
{
    double s = seconds_of(r->job);

    for (size_t i = 0; i < before->n_running; i++)
        if (strcmp(before->rows[i].id, r->id) == 0 && r->tokens >= before->rows[i].tokens)
            return (double)(r->tokens - before->rows[i].tokens) * PD_NS_PER_S /
                   (double)(v->at_ns - before->at_ns);
    return s > 0 ? (double)r->tokens / s : 0;
}

static void add_rows(struct view *v, const struct pd_json *list, const struct view *before)
{
    for (const struct pd_json *j = pd_json_first(pd_json_get(list, "data")); j;
         j = pd_json_next(j)) {
        const struct pd_json *p = pd_json_get(j, "progress");
        struct row *r = &v->rows[v->n++];

        snprintf(r->id, sizeof r->id, "%s", text_of(j, "id"));
        r->job = j;
        r->tokens = (uint64_t)int_of(pd_json_is_object(p) ? p : j,
                                     pd_json_is_object(p) ? "tokens" : "generated_tokens");
        r->rate = -1;
        if (before) {
            r->rate = rate_of(before, v, r);
            v->rate += r->rate;
            v->n_running++;
        }
    }
}

static int look(struct client *c, const struct view *before, struct view *out, struct pd_err *err)
{
    struct pd_buf reply = PD_BUF_INIT(REPLY_MAX);
    struct view v = {0};
    char path[64];
    int rc;

    snprintf(path, sizeof path, "/v1/jobs?status=running&limit=%d", ROWS_MAX);
    rc = fetch(c, path, &reply, &v.running, err);
    v.at_ns = pd_clock_now_ns();
    snprintf(path, sizeof path, "/v1/jobs?status=queued&limit=%d", ROWS_MAX);
    if (rc == 0)
        rc = fetch(c, path, &reply, &v.queued, err);
    if (rc == 0)
        rc = fetch(c, "/metrics", &reply, NULL, err);
    if (rc == 0) {
        read_metrics(&v, pd_buf_str(&reply));
        v.rows = calloc(pd_json_size(pd_json_get(v.running, "data")) +
                            pd_json_size(pd_json_get(v.queued, "data")) + 1,
                        sizeof *v.rows);
        rc = v.rows ? 0 : cli_no_memory(err);
    }
    pd_buf_done(&reply);
    if (rc < 0) {
        view_done(&v);
        return rc;
    }
    add_rows(&v, v.running, before);
    add_rows(&v, v.queued, NULL);
    *out = v;
    return 0;
}

/* ---- showing --------------------------------------------------------------------------------- */

static void show_summary(FILE *f, const struct view *v)
{
    double prompts = v->m.cached + v->m.prompt;

    fprintf(f, "jobs     %zu running, %.0f waiting   %.1f tokens/s\n", v->n_running, v->n_queued,
            v->rate);
    fprintf(f, "KV       %.0f pages used (%.1f MB), shared %.1fx, %.0f cached", v->m.pages_used,
            v->m.kv_bytes / 1e6, v->m.shared, v->m.pages_cached);
    if (prompts > 0)
        fprintf(f, ", prompt hits %.0f %%", 100 * v->m.cached / prompts);
    fprintf(f, "\ndaemon   %.1f MB resident, %.0f connections, %.0f streams\n\n",
            v->m.resident / 1e6, v->m.connections, v->m.streams);
}

static void show_heading(FILE *f)
{
    fprintf(f, "%-30s %-9s %-20s %8s %4s %5s %17s %7s %6s  %s\n", "JOB", "STATUS", "STRATEGY",
            "TIME", "LIVE", "STEP", "TOKENS", "TOK/S", "BEST", "QUESTION");
}

static void show_row(FILE *f, const struct row *r, size_t max_question)
{
    const struct pd_json *p = pd_json_get(r->job, "progress");
    int64_t limit = int_of(pd_json_get(r->job, "budget"), "tokens"),
            s = (int64_t)seconds_of(r->job);
    char time[24] = "-", tokens[48], rate[24] = "-", best[24] = "-";
    double value;

    if (r->rate >= 0) {
        snprintf(time, sizeof time, "%" PRId64 ":%02d", s / 60, (int)(s % 60));
        snprintf(rate, sizeof rate, "%.1f", r->rate);
    }
    if (limit > 0)
        snprintf(tokens, sizeof tokens, "%" PRIu64 "/%" PRId64, r->tokens, limit);
    else
        snprintf(tokens, sizeof tokens, "%" PRIu64, r->tokens);
    if (pd_json_number(pd_json_get(p, "best"), &value))
        snprintf(best, sizeof best, "%.3f", value);
    fprintf(f, "%-30s %-9s %-20.20s %8s %4" PRId64 " %5" PRId64 " %17s %7s %6s  ", r->id,
            text_of(r->job, "status"), text_of(r->job, "strategy"), time, int_of(p, "live"),
            int_of(p, "steps"), tokens, rate, best);
    cli_text_line(f, pd_str_of(text_of(r->job, "question")), max_question);
    fputc('\n', f);
}

static void put_value(struct pd_jw *w, const char *key, double value)
{
    pd_jw_put_double(w, key, value);
}

static int show_json(const struct view *v, struct pd_err *err)
{
    struct pd_buf b = PD_BUF_INIT(REPLY_MAX);
    struct pd_jw w;
    int rc = 0;

    pd_jw_init(&w, &b);
    pd_jw_object(&w);
    put_value(&w, "running", (double)v->n_running);
    put_value(&w, "waiting", v->n_queued);
    put_value(&w, "tokens_per_second", v->rate);
    pd_jw_key(&w, "kv");
    pd_jw_object(&w);
    put_value(&w, "bytes", v->m.kv_bytes);
    put_value(&w, "pages_used", v->m.pages_used);
    put_value(&w, "pages_cached", v->m.pages_cached);
    put_value(&w, "shared_ratio", v->m.shared);
    put_value(&w, "prompt_tokens", v->m.prompt);
    put_value(&w, "cached_tokens", v->m.cached);
    pd_jw_end_object(&w);
    put_value(&w, "resident_bytes", v->m.resident);
    put_value(&w, "connections", v->m.connections);
    put_value(&w, "streams", v->m.streams);
    pd_jw_key(&w, "jobs");
    pd_jw_array(&w);
    for (size_t i = 0; i < v->n; i++)
        pd_jw_value(&w, v->rows[i].job);
    pd_jw_end_array(&w);
    pd_jw_end_object(&w);
    if (pd_buf_rc(&b) < 0)
        rc = cli_no_memory(err);
    else
        cli_print_json(&b);
    pd_buf_done(&b);
    return rc;
}

static int show_once(const struct cli *cli, struct client *c, struct pd_err *err)
{
    const struct view none = {0};
    struct view v;
    int rc = look(c, &none, &v, err);

    if (rc < 0)
        return rc;
    if (cli->json) {
        rc = show_json(&v, err);
    } else {
        show_summary(stdout, &v);
        show_heading(stdout);
        for (size_t i = 0; i < v.n; i++)
            show_row(stdout, &v.rows[i], QUESTION_MAX);
    }
    view_done(&v);
    return rc;
}

/* ---- the screen ------------------------------------------------------------------------------ */

static size_t selected_row(const struct top *t)
{
    for (size_t i = 0; i < t->now.n; i++)
        if (strcmp(t->now.rows[i].id, t->selected) == 0)
            return i;
    return 0;
}

/* Lines of text as lines of the screen: cut where it ends, the rest of each blank. */
static void put_lines(const char *text, size_t n_lines, size_t n_cols, struct pd_buf *out)
{
    for (size_t line = 0; *text && line < n_lines; line++) {
        size_t n = strcspn(text, "\n"), cols = 0, i = 0;

        for (; i < n; i++) { /* escape sequences take no room, nor do bytes inside of a character */
            if (text[i] == '\033') {
                i += strcspn(text + i, "m");
                continue;
            }
            cols += ((unsigned char)text[i] & 0xc0) != 0x80;
            if (cols > n_cols)
                break;
        }
        pd_buf_adds(out, (struct pd_str){text, i});
        pd_buf_addz(out, line + 1 < n_lines ? "\033[0m\033[K\r\n" : "\033[0m\033[K");
        text += n + (text[n] == '\n');
    }
}

static void draw(const struct top *t)
{
    struct winsize size = {.ws_row = 24, .ws_col = 80};
    struct pd_buf out = PD_BUF_INIT((size_t)1 << 22);
    size_t len = 0, at = selected_row(t), first;
    char *text = NULL;
    FILE *f = open_memstream(&text, &len);

    if (!f)
        return;
    (void)ioctl(STDOUT_FILENO, TIOCGWINSZ, &size);
    show_summary(f, &t->now);
    fputs("\033[1m", f);
    show_heading(f);
    first = size.ws_row > 7 && at >= size.ws_row - 7u ? at - (size.ws_row - 7u) : 0;
    for (size_t i = first; i < t->now.n && i < first + size.ws_row; i++) {
        fputs(i == at ? "\033[7m" : "", f);
        show_row(f, &t->now.rows[i], size.ws_col);
    }
    fclose(f);
    pd_buf_addz(&out, "\033[H");
    put_lines(text, size.ws_row > 1 ? size.ws_row - 1u : 1, size.ws_col, &out);
    pd_buf_printf(&out, "\033[J\033[%u;1H", size.ws_row);
    free(text);
    text = NULL;
    if (t->asks)
        (void)!asprintf(&text, "cancel %s? y/n", t->selected);
    else if (t->err.code != PD_OK)
        (void)!asprintf(&text, "%s", t->err.text);
    else
        (void)!asprintf(&text, "%s", t->note[0] ? t->note : "arrows choose  c cancel  q quit");
    if (text)
        put_lines(text, 1, size.ws_col, &out);
    free(text);
    if (pd_buf_rc(&out) == 0)
        (void)!write(STDOUT_FILENO, out.data, out.len);
    pd_buf_done(&out);
}

static void cancel_selected(struct top *t)
{
    struct pd_buf reply = PD_BUF_INIT(REPLY_MAX);
    struct pd_err err;
    char *path = cli_job_path(t->selected, "/cancel");

    if (path && client_call(t->c, "POST", path, NULL, NULL, &reply, &err) == 0)
        snprintf(t->note, sizeof t->note, "%s was cancelled", t->selected);
    else
        snprintf(t->note, sizeof t->note, "%.150s", path ? err.text : "out of memory");
    pd_buf_done(&reply);
    free(path);
}

static void move(struct top *t, int by)
{
    size_t at = selected_row(t);

    if (t->now.n == 0)
        return;
    if (by < 0 ? at > 0 : at + 1 < t->now.n)
        at = by < 0 ? at - 1 : at + 1;
    strcpy(t->selected, t->now.rows[at].id);
}

/* False: the end. */
static bool take_keys(struct top *t)
{
    char keys[64];
    ssize_t n = read(STDIN_FILENO, keys, sizeof keys);

    if (n <= 0)
        return n < 0 && errno == EINTR;
    t->note[0] = '\0';
    for (ssize_t i = 0; i < n; i++) {
        if (keys[i] == CTRL_C || (keys[i] == 'q' && !t->asks))
            return false;
        if (t->asks) {
            t->asks = false;
            if (keys[i] == 'y')
                cancel_selected(t);
        } else if (keys[i] == '\033' && i + 2 < n && keys[i + 1] == '[') {
            move(t, keys[i + 2] == 'A' ? -1 : keys[i + 2] == 'B' ? 1 : 0);
            i += 2;
        } else if (keys[i] == 'k' || keys[i] == 'j') {
            move(t, keys[i] == 'k' ? -1 : 1);
        } else if (keys[i] == 'c' && t->now.n > 0) {
            strcpy(t->selected, t->now.rows[selected_row(t)].id);
            t->asks = true;
        }
    }
    return true;
}

/* Until a key or a signal ends it; a daemon that is away for a while is waited for. */
static int watch(struct top *t, int signals, struct pd_err *err)
{
    struct pollfd in[] = {{STDIN_FILENO, POLLIN, 0}, {signals, POLLIN, 0}};
    int64_t next_ns = 0;
    int rc = 0;

    for (;;) {
        int64_t left_ms = (next_ns - pd_clock_now_ns()) / PD_NS_PER_MS;

        if (left_ms <= 0) {
            struct view v;

            rc = look(t->c, &t->now, &v, &t->err);
            if (client_signal(t->c))
                return CLI_EXIT_SIGNAL + client_signal(t->c);
            if (rc < 0 && rc != PD_EREMOTE && rc != PD_EBUSY) {
                *err = t->err;
                return rc;
            }
            if (rc == 0) {
                view_done(&t->now);
                t->now = v;
                t->err = (struct pd_err){0};
            }
            left_ms = REFRESH_MS;
            next_ns = pd_clock_now_ns() + REFRESH_MS * PD_NS_PER_MS;
        }
        draw(t);
        if (poll(in, 2, (int)left_ms) < 0 && errno != EINTR)
            return pd_fail_errno(err, errno, "cannot wait for keys");
        if (in[1].revents) {
            struct signalfd_siginfo info;

            return read(signals, &info, sizeof info) == (ssize_t)sizeof info
                       ? CLI_EXIT_SIGNAL + (int)info.ssi_signo
                       : CLI_EXIT_OK;
        }
        if (in[0].revents && !take_keys(t))
            return CLI_EXIT_OK;
    }
}

static int show_screen(struct client *c, struct pd_err *err)
{
    static const char enter[] = "\033[?1049h\033[?25l", leave[] = "\033[?25h\033[?1049l";
    struct top t = {.c = c};
    struct termios before, raw;
    sigset_t set;
    int signals, rc;

    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGTERM);
    signals = signalfd(-1, &set, SFD_CLOEXEC);
    if (signals < 0 || tcgetattr(STDIN_FILENO, &before) < 0) {
        rc = pd_fail_errno(err, errno, "cannot read keys");
        if (signals >= 0)
            close(signals);
        return rc;
    }
    raw = before;
    raw.c_lflag &= ~(tcflag_t)(ICANON | ECHO | ISIG);
    tcsetattr(STDIN_FILENO, TCSAFLUSH, &raw);
    (void)!write(STDOUT_FILENO, enter, sizeof enter - 1);
    rc = watch(&t, signals, err);
    (void)!write(STDOUT_FILENO, leave, sizeof leave - 1);
    tcsetattr(STDIN_FILENO, TCSAFLUSH, &before);
    close(signals);
    view_done(&t.now);
    return rc;
}

int cli_top(struct cli *cli, int argc, char **argv, struct pd_err *err)
{
    bool once = false;
    struct cli_option table[] = {
        {"once", 0, CLI_FLAG, &once, NULL, "print one table and end", 0, 0, false, false},
        {NULL, 0, CLI_FLAG, NULL, NULL, NULL, 0, 0, false, false},
    };
    struct client *c = NULL;
    int n, rc;

    cli->remote = true;
    n = cli_options(cli, argc, argv, table, &usage_text, err);
    if (n < 0 || cli->help)
        return n < 0 ? n : CLI_EXIT_OK;
    if (n > 0)
        return pd_fail(err, PD_EINVAL, "top takes no arguments (see ponder top --help)");
    cli_block_signals();
    rc = client_open(cli->host, &c, err);
    if (rc < 0)
        return rc;
    once = once || cli->json || !isatty(STDIN_FILENO) || !isatty(STDOUT_FILENO);
    rc = once ? show_once(cli, c, err) : show_screen(c, err);
    if (rc == PD_ECANCEL && client_signal(c))
        rc = CLI_EXIT_SIGNAL + client_signal(c);
    client_close(c);
    return rc;
}
