/* `ponder mcp`: the daemon's MCP on standard input and output, one JSON-RPC message a line. What is
 * asked runs on a thread of its own, so that a cancellation overtakes what it cancels; the daemon
 * does all the work. */
#include "cli/cli.h"

#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cli/client.h"

#define CALLS_MAX     64 /* under way; the next line waits */
#define SESSION_BYTES 64
#define START_S       20
#define INTERNAL      (-32603)

static const struct cli_usage usage_text = {
    "mcp [options]",
    "Model Context Protocol on standard input and output, by a running daemon (--host as for "
    "ponder "
    "job). Ends at the end of its input.",
};

struct bridge {
    const char *host;
    char session[SESSION_BYTES];
    pthread_mutex_t out; /* standard output: a line at a time */
    sem_t calls;
    char folder[64]; /* of a daemon of our own; "" : none */
    char url[96];
    pid_t daemon;
};

struct call {
    struct bridge *b;
    char *line;
};

static int put_line(void *user, const struct net_sse_event *e)
{
    struct bridge *b = user;
    struct pd_str text = pd_str_trim(e->data);
    int rc;

    pthread_mutex_lock(&b->out);
    for (size_t i = 0; i < text.len; i++) /* line ends are blanks in JSON, and not allowed here */
        putchar(text.ptr[i] == '\n' ? ' ' : text.ptr[i]);
    putchar('\n');
    rc = fflush(stdout) == 0 ? 0 : PD_EIO;
    pthread_mutex_unlock(&b->out);
    return rc;
}

/* The daemon has no answer, so the client gets ours; a notification gets none. */
static void put_error(struct bridge *b, const struct pd_json *id, const char *message)
{
    struct pd_buf text = PD_BUF_INIT(8192);
    struct net_sse_event e = {"", "", {NULL, 0}};
    struct pd_jw w;

    if (!id)
        return;
    pd_jw_init(&w, &text);
    pd_jw_object(&w);
    pd_jw_put_text(&w, "jsonrpc", "2.0");
    pd_jw_key(&w, "id");
    pd_jw_value(&w, id);
    pd_jw_key(&w, "error");
    pd_jw_object(&w);
    pd_jw_key(&w, "code");
    pd_jw_int(&w, INTERNAL);
    pd_jw_put_text(&w, "message", message);
    pd_jw_end_object(&w);
    pd_jw_end_object(&w);
    e.data = pd_buf_str(&text);
    put_line(b, &e);
    pd_buf_done(&text);
}

/* One message to the daemon, and what it answers to standard output. */
static void pass_on(struct bridge *b, const char *line)
{
    char header[256];
    struct client *c = NULL;
    struct pd_json *m = NULL;
    struct pd_err err = {0};
    int n = snprintf(header, sizeof header, "Accept: application/json, text/event-stream");
    int rc = pd_json_parse(pd_str_of(line), &m, &err);

    if (rc < 0) { /* the id is not known: null */
        static const char parse[] = "{\"jsonrpc\":\"2.0\",\"id\":null,\"error\":{\"code\":-32700,"
                                    "\"message\":\"this line is "
                                    "not a JSON message\"}}";
        const struct net_sse_event e = {"", "", {parse, sizeof parse - 1}};

        put_line(b, &e);
        return;
    }
    if (b->session[0]) /* curl takes several header lines in one */
        snprintf(header + n, sizeof header - (size_t)n, "\r\nMcp-Session-Id: %s", b->session);
    rc = client_open(b->host, &c, &err);
    if (rc == 0)
        rc = client_post(c, "/mcp", pd_str_of(line), header, put_line, b, NULL, &err);
    if (rc == 0 && client_reply_header(c, "Mcp-Session-Id")[0])
        snprintf(b->session, sizeof b->session, "%s", client_reply_header(c, "Mcp-Session-Id"));
    if (rc < 0)
        put_error(b, pd_json_get(m, "id"), err.text);
    client_close(c);
    pd_json_free(m);
}

static void *call_thread(void *arg)
{
    struct call *c = arg;

    pass_on(c->b, c->line);
    sem_post(&c->b->calls);
    free(c->line);
    free(c);
    return NULL;
}

/* Whether it may take long: everything else keeps its order. */
static bool is_tool_call(const char *line)
{
    struct pd_json *m = NULL;
    const char *method;
    bool is = false;

    if (pd_json_parse(pd_str_of(line), &m, NULL) == 0) {
        method = pd_json_string(pd_json_get(m, "method"));
        is = method && strcmp(method, "tools/call") == 0;
    }
    pd_json_free(m);
    return is;
}

static void take_line(struct bridge *b, const char *line)
{
    struct call *c;
    pthread_t thread;

    if (!is_tool_call(line)) {
        pass_on(b, line);
        return;
    }
    while (sem_wait(&b->calls) < 0)
        ;
    c = calloc(1, sizeof *c);
    if (c) {
        c->b = b;
        c->line = strdup(line);
    }
    if (c && c->line && pthread_create(&thread, NULL, call_thread, c) == 0) {
        pthread_detach(thread);
        return;
    }
    if (c)
        free(c->line);
    free(c);
    pass_on(b, line); /* no thread to be had: then one after the other */
    sem_post(&b->calls);
}

/* ---- a daemon of our own ------------------------------------------------------------------- */

static int start_daemon(struct bridge *b, struct pd_err *err)
{
    struct pd_buf answer = PD_BUF_INIT(4096);
    int64_t until = pd_clock_now_ns() + START_S * PD_NS_PER_S;
    pid_t parent = getpid();
    int rc = PD_EREMOTE, status;

    strcpy(b->folder, "/tmp/ponder-mcp-XXXXXX");
    if (!mkdtemp(b->folder)) {
        b->folder[0] = '\0';
        return pd_fail_errno(err, errno, "cannot make a folder in /tmp");
    }
    snprintf(b->url, sizeof b->url, "unix://%s/ponder.sock", b->folder);
    b->daemon = fork();
    if (b->daemon < 0)
        return pd_fail_errno(err, errno, "cannot start a daemon");
    if (b->daemon == 0) {
        prctl(PR_SET_PDEATHSIG, SIGTERM);
        if (getppid() != parent)
            _exit(1);
        dup2(STDERR_FILENO, STDOUT_FILENO); /* standard output speaks MCP only */
        execl("/proc/self/exe", "ponder", "serve", "--quiet", "--listen", b->url, (char *)NULL);
        _exit(1);
    }
    b->host = b->url;
    while (rc == PD_EREMOTE && pd_clock_now_ns() < until) {
        struct client *c = NULL;

        if (waitpid(b->daemon, &status, WNOHANG) == b->daemon) {
            b->daemon = 0;
            rc = pd_fail(err, PD_EREMOTE, "the daemon did not start; it said why");
            break;
        }
        rc = client_open(b->host, &c, err);
        if (rc == 0)
            rc = client_call(c, "GET", "/health", NULL, NULL, &answer, err);
        client_close(c);
        if (rc == PD_EREMOTE)
            usleep(20000);
    }
    pd_buf_done(&answer);
    return rc;
}

static void end_daemon(struct bridge *b)
{
    char path[128];

    if (b->daemon > 0) {
        kill(b->daemon, SIGTERM);
        while (waitpid(b->daemon, NULL, 0) < 0 && errno == EINTR)
            ;
    }
    if (!b->folder[0])
        return;
    snprintf(path, sizeof path, "%s/ponder.sock.lock", b->folder);
    unlink(path);
    rmdir(b->folder);
}

int cli_mcp(struct cli *cli, int argc, char **argv, struct pd_err *err)
{
    bool standalone = false;
    struct cli_option table[] = {
        {"standalone", 0, CLI_FLAG, &standalone, NULL, "start a daemon, and end it with this", 0, 0,
         false, false},
        {NULL, 0, CLI_FLAG, NULL, NULL, NULL, 0, 0, false, false},
    };
    static struct bridge bridge; /* threads may outlive this function, until exit */
    struct bridge *b = &bridge;
    char *line = NULL;
    size_t cap = 0;
    ssize_t n;
    int rc;

    cli->remote = true;
    rc = cli_options(cli, argc, argv, table, &usage_text, err);
    if (rc < 0 || cli->help)
        return rc < 0 ? rc : CLI_EXIT_OK;
    if (rc > 0)
        return pd_fail(err, PD_EINVAL, "mcp takes no arguments (see ponder mcp --help)");
    if (standalone && cli->host)
        return pd_fail(err, PD_EINVAL, "--standalone and --host exclude each other");
    b->host = cli->host;
    pthread_mutex_init(&b->out, NULL);
    sem_init(&b->calls, 0, CALLS_MAX);
    rc = standalone ? start_daemon(b, err) : 0;
    while (rc == 0 && (n = getline(&line, &cap, stdin)) > 0) {
        while (n > 0 && (line[n - 1] == '\n' || line[n - 1] == '\r'))
            line[--n] = '\0';
        if (n > 0)
            take_line(b, line);
    }
    free(line);
    end_daemon(b);
    return rc;
}
