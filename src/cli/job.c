/* `ponder job`: a client of the daemon's job routes. */
#include "cli/cli.h"

#include <inttypes.h>
#include <stdlib.h>

#include "cli/client.h"

#define BODY_MAX     ((size_t)16 << 20)
#define REPLY_MAX    ((size_t)256 << 20)
#define SEED_MAX     ((UINT64_C(1) << 53) - 1)
#define LIST_DEFAULT 20
#define ANSWER_CHARS 12
#define TEXT_CHARS   60

struct job {
    const char *file, *key, *status, *model, *strategy, *scorer, *system, *expect;
    struct cli_list options;
    uint64_t limit, since, budget_tokens, budget_nodes, budget_samples, seed, priority;
    double timeout, budget_seconds;
};

static const struct cli_usage usage_text = {
    "job submit [QUESTION] | ls | show ID | watch ID | wait ID | cancel ID | pause ID | "
    "resume ID | rm ID",
    "Jobs of a running daemon: submit one (a question, or the body of POST /v1/jobs with -f), list "
    "and show them, follow one's events or wait for its end, steer and remove them.",
};

static const char *text_of(const struct pd_json *o, const char *key)
{
    return pd_json_string(pd_json_get(o, key));
}

static long long int_of(const struct pd_json *o, const char *key)
{
    int64_t v;

    return pd_json_int(pd_json_get(o, key), &v) ? v : 0;
}

static int call(struct client *c, const char *method, const char *id, const char *more,
                struct pd_buf *reply, struct pd_json **out, struct pd_err *err)
{
    char *path = cli_job_path(id, more);
    int rc = path ? client_call(c, method, path, NULL, NULL, reply, err) : cli_no_memory(err);

    free(path);
    if (rc == 0 && reply->len && pd_json_parse(pd_buf_str(reply), out, err) < 0) {
        pd_err_context(err, "the daemon's answer");
        rc = err->code = PD_EREMOTE;
    }
    return rc;
}

/* A reply as it came, on one line. */
static void print_reply(struct pd_buf *reply)
{
    if (reply->len && reply->data[reply->len - 1] == '\n')
        reply->len--;
    cli_print_json(reply);
}

/* ---- submit ---------------------------------------------------------------------------------- */

static int question_body(const struct job *o, const char *question, struct pd_buf *body,
                         struct pd_err *err)
{
    struct pd_buf text = PD_BUF_INIT(BODY_MAX);
    int rc = cli_input(question, NULL, &text, err);
    char *trimmed = rc == 0 ? pd_str_dup(pd_str_trim(pd_buf_str(&text))) : NULL;
    const struct app_request r = {.question = trimmed,
                                  .system = o->system,
                                  .expect = o->expect,
                                  .model = o->model,
                                  .scorer = o->scorer,
                                  .strategy = o->strategy,
                                  .options = o->options.items,
                                  .n_options = o->options.n,
                                  .seed = o->seed,
                                  .budget = {.tokens = o->budget_tokens,
                                             .seconds = o->budget_seconds,
                                             .nodes = o->budget_nodes},
                                  .budget_samples = o->budget_samples};

    if (rc == 0)
        rc = trimmed ? cli_request_body(&r, (int64_t)o->priority, body, err) : cli_no_memory(err);
    free(trimmed);
    pd_buf_done(&text);
    return rc;
}

static int submit(const struct cli *cli, struct client *c, const struct job *o,
                  const char *question, struct pd_err *err)
{
    struct pd_buf body = PD_BUF_INIT(BODY_MAX), reply = PD_BUF_INIT(REPLY_MAX);
    char id[PD_JOB_ID_MAX];
    int rc = o->file ? pd_read_file(o->file, &body, err) : question_body(o, question, &body, err);

    if (rc == 0)
        rc = cli_submit(c, pd_buf_str(&body), o->key, id, &reply, err);
    if (rc == 0 && cli->json)
        print_reply(&reply);
    else if (rc == 0)
        puts(id);
    pd_buf_done(&body);
    pd_buf_done(&reply);
    return rc;
}

/* ---- ls, show -------------------------------------------------------------------------------- */

static void show_row(const struct pd_json *job)
{
    const char *answer = text_of(job, "answer"), *question = text_of(job, "question");
    char when[PD_RFC3339_SIZE];

    pd_clock_rfc3339(int_of(job, "created_ms"), when);
    printf("%s  %s  %-9s %s  %lld nodes  %lld tokens  ", text_of(job, "id"), when,
           text_of(job, "status"), text_of(job, "strategy"), int_of(job, "nodes"),
           int_of(job, "generated_tokens"));
    cli_text_line(stdout, pd_str_of(answer ? answer : "-"), ANSWER_CHARS);
    fputs("  ", stdout);
    cli_text_line(stdout, pd_str_of(question ? question : ""), TEXT_CHARS);
    putchar('\n');
}

static int print_row(const struct cli *cli, const struct pd_json *job, struct pd_err *err)
{
    struct pd_buf line = PD_BUF_INIT(REPLY_MAX);
    struct pd_jw w;
    int rc = 0;

    if (!cli->json) {
        show_row(job);
        return 0;
    }
    pd_jw_init(&w, &line);
    pd_jw_value(&w, job);
    if (pd_buf_rc(&line) < 0)
        rc = cli_no_memory(err);
    else
        cli_print_json(&line);
    pd_buf_done(&line);
    return rc;
}

/* Page by page, until there are o->limit (0: all). */
static int list(const struct cli *cli, struct client *c, const struct job *o, struct pd_err *err)
{
    struct pd_buf reply = PD_BUF_INIT(REPLY_MAX);
    uint64_t left = o->limit ? o->limit : UINT64_MAX;
    char query[256] = "", cursor[64] = "";
    int rc;

    do {
        struct pd_json *page = NULL;
        const char *next;

        snprintf(query, sizeof query, "?limit=%" PRIu64 "%s%s%s%s", left < 1000 ? left : 1000,
                 o->status ? "&status=" : "", o->status ? o->status : "",
                 cursor[0] ? "&cursor=" : "", cursor);
        rc = call(c, "GET", NULL, query, &reply, &page, err);
        for (const struct pd_json *v = pd_json_first(pd_json_get(page, "data")); v && rc == 0;
             v = pd_json_next(v), left--)
            rc = print_row(cli, v, err);
        next = text_of(page, "next_cursor");
        snprintf(cursor, sizeof cursor, "%s", next ? next : "");
        pd_json_free(page);
    } while (rc == 0 && cursor[0] && left > 0);
    pd_buf_done(&reply);
    return rc;
}

static void line_of(const char *what, const char *text)
{
    if (!text)
        return;
    printf("%-9s", what);
    cli_text(stdout, pd_str_of(text), 9);
    putchar('\n');
}

static void time_line(const char *what, const struct pd_json *job, const char *key)
{
    char when[PD_RFC3339_SIZE];

    if (!int_of(job, key))
        return;
    pd_clock_rfc3339(int_of(job, key), when);
    line_of(what, when);
}

static int show(const struct cli *cli, struct client *c, const char *id, struct pd_err *err)
{
    struct pd_buf reply = PD_BUF_INIT(REPLY_MAX);
    struct pd_json *job = NULL;
    int rc = call(c, "GET", id, "", &reply, &job, err);

    if (rc == 0 && cli->json) {
        print_reply(&reply);
    } else if (rc == 0) {
        line_of("job", text_of(job, "id"));
        line_of("status", text_of(job, "status"));
        line_of("stopped", text_of(job, "stopped_by"));
        line_of("question", text_of(job, "question"));
        line_of("strategy", text_of(job, "strategy"));
        line_of("model", text_of(job, "model"));
        line_of("scorer", text_of(job, "scorer"));
        printf("work     %lld nodes, %lld tokens\n", int_of(job, "nodes"),
               int_of(job, "generated_tokens"));
        line_of("answer", text_of(job, "answer"));
        line_of("error", text_of(job, "error"));
        time_line("created", job, "created_ms");
        time_line("started", job, "started_ms");
        time_line("finished", job, "finished_ms");
        line_of("digest", text_of(job, "digest"));
    }
    pd_json_free(job);
    pd_buf_done(&reply);
    return rc;
}

/* ---- watch, wait ----------------------------------------------------------------------------- */

static void show_event(const struct net_sse_event *e)
{
    static const char *const texts[] = {"text", "reason", "answer", "error", "stopped_by"};
    struct pd_json *data = NULL;

    printf("%-5s %-17s", e->id, e->type);
    if (pd_json_parse(e->data, &data, NULL) == 0) {
        double value;

        if (pd_json_get(data, "node") && !pd_json_is_null(pd_json_get(data, "node")))
            printf(" node %lld", int_of(data, "node"));
        if (pd_json_number(pd_json_get(data, "value"), &value))
            printf(" %.3f", value);
        if (strcmp(e->type, "budget") == 0)
            printf(" %lld tokens", int_of(data, "tokens"));
        for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
            if (text_of(data, texts[i])) {
                fputs("  ", stdout);
                cli_text_line(stdout, pd_str_of(text_of(data, texts[i])), TEXT_CHARS);
            }
        pd_json_free(data);
    }
    putchar('\n');
}

static int each_event(void *user, const struct net_sse_event *e)
{
    const struct cli *cli = user;
    bool is_object = e->data.len > 1 && e->data.ptr[0] == '{';

    if (cli->json)
        printf("{\"event\":\"%s\"%s%.*s\n", e->type, is_object ? "," : "}",
               is_object ? (int)e->data.len - 1 : 0, e->data.ptr + 1);
    else
        show_event(e);
    fflush(stdout);
    return 0;
}

static int watch(struct cli *cli, struct client *c, const struct job *o, const char *id,
                 struct pd_err *err)
{
    char more[64];
    char *path;
    int rc;

    snprintf(more, sizeof more, "/events?since=%" PRIu64, o->since);
    path = cli_job_path(id, more);
    rc = path ? client_events(c, path, each_event, cli, err) : cli_no_memory(err);
    free(path);
    return rc;
}

/* The answer, or why there is none, in the exit code too. */
static int wait_for(const struct cli *cli, struct client *c, const struct job *o, const char *id,
                    struct pd_err *err)
{
    struct pd_buf reply = PD_BUF_INIT(REPLY_MAX);
    struct pd_json *job = NULL;
    const char *status, *answer, *why;
    int rc;

    if (o->timeout > 0)
        client_deadline(c, pd_clock_now_ns() + (int64_t)(o->timeout * (double)PD_NS_PER_S));
    rc = cli_follow(c, id, err);
    client_deadline(c, PD_NEVER_NS);
    if (rc == 0)
        rc = call(c, "GET", id, "", &reply, &job, err);
    status = text_of(job, "status");
    answer = text_of(job, "answer");
    why = text_of(job, "stopped_by");
    if (rc == 0 && cli->json) {
        print_reply(&reply);
    } else if (rc == 0 && answer) {
        cli_text(stdout, pd_str_of(answer), 0);
        putchar('\n');
    }
    if (rc == 0 && strcmp(status ? status : "", "failed") == 0)
        rc = pd_fail(err, PD_EDIFFER, "%s",
                     text_of(job, "error") ? text_of(job, "error") : "the job failed");
    else if (rc == 0 && strcmp(status ? status : "", "cancelled") == 0)
        rc = pd_fail(err, PD_ECANCEL, "job %s was cancelled", id);
    else if (rc == 0 && !answer)
        rc = pd_fail(err, why && strcmp(why, "no_candidates") == 0 ? PD_EDIFFER : PD_EBUDGET,
                     "no answer: stopped by %s", why ? why : "nothing");
    pd_json_free(job);
    pd_buf_done(&reply);
    return rc;
}

/* ---- cancel, pause, resume, rm --------------------------------------------------------------- */

static int steer(const struct cli *cli, struct client *c, const char *verb, const char *id,
                 struct pd_err *err)
{
    struct pd_buf reply = PD_BUF_INIT(REPLY_MAX);
    struct pd_json *job = NULL;
    bool removes = strcmp(verb, "rm") == 0;
    char more[16];
    int rc;

    snprintf(more, sizeof more, "/%s", verb);
    rc = call(c, removes ? "DELETE" : "POST", id, removes ? "" : more, &reply, &job, err);
    if (rc == 0 && cli->json && !removes)
        print_reply(&reply);
    else if (rc == 0 && !cli->quiet && !cli->json)
        printf("%s %s\n", id, removes ? "removed" : text_of(job, "status"));
    pd_json_free(job);
    pd_buf_done(&reply);
    return rc;
}

/* ---- the verb -------------------------------------------------------------------------------- */

static int run(struct cli *cli, const struct job *o, const char *verb, const char *operand,
               struct pd_err *err)
{
    struct client *c = NULL;
    int rc;

    cli_block_signals();
    rc = client_open(cli->host, &c, err);
    if (rc < 0)
        return rc;
    if (strcmp(verb, "submit") == 0)
        rc = submit(cli, c, o, operand, err);
    else if (strcmp(verb, "ls") == 0)
        rc = list(cli, c, o, err);
    else if (strcmp(verb, "show") == 0)
        rc = show(cli, c, operand, err);
    else if (strcmp(verb, "watch") == 0)
        rc = watch(cli, c, o, operand, err);
    else if (strcmp(verb, "wait") == 0)
        rc = wait_for(cli, c, o, operand, err);
    else
        rc = steer(cli, c, verb, operand, err);
    if (rc == PD_ECANCEL && client_signal(c))
        rc = CLI_EXIT_SIGNAL + client_signal(c);
    client_close(c);
    return rc;
}

int cli_job(struct cli *cli, int argc, char **argv, struct pd_err *err)
{
    static const char *const verbs[] = {"submit", "ls",    "show",   "watch", "wait",
                                        "cancel", "pause", "resume", "rm",    NULL};
    struct job o = {.limit = LIST_DEFAULT, .seed = 1};
    struct cli_option table[] = {
        {"file", 'f', CLI_TEXT, &o.file, "FILE",
         "submit: the body of POST /v1/jobs (- is standard input)", 0, 0, false, false},
        {"idempotency-key", 0, CLI_TEXT, &o.key, "KEY",
         "submit: the same key and body give the same job", 0, 0, false, false},
        {"model", 'm', CLI_TEXT, &o.model, "MODEL", "submit: NAME or NAME@STRATEGY (tiny-base)", 0,
         0, false, false},
        {"strategy", 's', CLI_TEXT, &o.strategy, "STRATEGY", "submit: how to search (best_of_n)", 0,
         0, false, false},
        {"option", 'o', CLI_LIST, &o.options, "KEY=VALUE",
         "submit: option of the strategy (repeatable)", 0, 0, false, false},
        {"scorer", 0, CLI_TEXT, &o.scorer, "MODEL", "submit: reward model", 0, 0, false, false},
        {"budget-tokens", 0, CLI_NUMBER, &o.budget_tokens, "N", "submit: generate at most N tokens",
         1, SEED_MAX, false, false},
        {"budget-seconds", 0, CLI_SECONDS, &o.budget_seconds, "S",
         "submit: search for at most S seconds", 0, 0, false, false},
        {"budget-nodes", 0, CLI_NUMBER, &o.budget_nodes, "N", "submit: grow at most N nodes", 1,
         SEED_MAX, false, false},
        {"budget-samples", 0, CLI_NUMBER, &o.budget_samples, "N", "submit: draw N samples", 1,
         UINT32_MAX, false, false},
        {"seed", 0, CLI_NUMBER, &o.seed, "N", "submit: same seed, same result (1)", 0, SEED_MAX,
         false, false},
        {"system", 0, CLI_TEXT, &o.system, "TEXT", "submit: system message", 0, 0, false, false},
        {"expect", 0, CLI_TEXT, &o.expect, "ANSWER", "submit: grade the answer by this", 0, 0,
         false, false},
        {"priority", 0, CLI_NUMBER, &o.priority, "N", "submit: greater ones go first (0)", 0, 100,
         false, false},
        {"status", 0, CLI_CHOICE, &o.status, "queued|running|paused|done|failed|cancelled",
         "ls: only these", 0, 0, false, false},
        {"limit", 0, CLI_NUMBER, &o.limit, "N", "ls: the newest N jobs (20; 0: all)", 0, INT64_MAX,
         false, false},
        {"since", 0, CLI_NUMBER, &o.since, "SEQ", "watch: events after this one", 0, INT64_MAX,
         false, false},
        {"timeout", 0, CLI_SECONDS, &o.timeout, "S", "wait: no longer than that", 0, 0, false,
         false},
        {NULL, 0, CLI_FLAG, NULL, NULL, NULL, 0, 0, false, false},
    };
    const char *verb;
    size_t i = 0;
    bool known, wants_id, asks;
    int n, rc;

    cli->remote = true;
    n = cli_options(cli, argc, argv, table, &usage_text, err);
    verb = n > 0 ? argv[1] : "";
    while (verbs[i] && strcmp(verbs[i], verb) != 0)
        i++;
    known = verbs[i] != NULL;
    asks = strcmp(verb, "submit") == 0;
    wants_id = known && !asks && strcmp(verb, "ls") != 0;
    if (n < 0 || cli->help)
        rc = n < 0 ? n : CLI_EXIT_OK;
    else if (!known)
        rc = pd_fail(err, PD_EINVAL,
                     "job needs submit, ls, show, watch, wait, cancel, pause, resume or rm (see "
                     "ponder job --help)");
    else if (wants_id && n != 2)
        rc = pd_fail(err, PD_EINVAL, "job %s needs one id (see ponder job ls)", verb);
    else if (!wants_id && n > 1 + asks)
        rc = pd_fail(err, PD_EINVAL,
                     asks ? "one question only: put it in quotes (see ponder job --help)"
                          : "job ls takes no arguments (see ponder job --help)");
    else if (asks && o.file && n > 1)
        rc = pd_fail(err, PD_EINVAL, "a question and -f FILE: give one of them");
    else
        rc = run(cli, &o, verb, n > 1 ? argv[2] : NULL, err);
    free(o.options.owned);
    return rc;
}
