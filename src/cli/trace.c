#include "cli/cli.h"

#include <stdlib.h>
#include <time.h>

#include "app/export.h"
#include "base/file.h"

#define LIST_DEFAULT     20
#define IMPORT_MAX_BYTES ((size_t)4 << 30)
#define ANSWER_CHARS     12
#define QUESTION_CHARS   48

struct trace {
    const char *data_dir, *format;
    uint64_t limit;
    bool digest, shrink, redact, content;
};

static const struct cli_usage usage_text = {
    "trace ls | show ID | export ID | import FILE | verify | backup FILE | gc",
    "What jobs did: the newest ones, one as a tree, one for other programs, jobs of a file of JSON "
    "Lines (-:\nstandard input); a check of the database, a copy of it while others use it, and "
    "freeing what nothing\nrefers to any more.",
};

static int print_array(const struct pd_trace *t, struct pd_err *err)
{
    struct pd_buf b = PD_BUF_INIT(SIZE_MAX - 1);
    int rc = 0;

    export_array(t, &b);
    if (pd_buf_rc(&b) < 0)
        rc = cli_no_memory(err);
    else
        fwrite(pd_buf_str(&b).ptr, 1, b.len, stdout);
    pd_buf_done(&b);
    return rc;
}

static int export(const struct pd_trace *t, const struct trace *o, struct pd_err *err)
{
    struct pd_buf b = PD_BUF_INIT(SIZE_MAX - 1);
    const char *format = o->format ? o->format : "jsonl";
    int rc = 0;

    if (strcmp(format, "jsonl") == 0)
        export_jsonl(t, !o->redact, &b);
    else if (strcmp(format, "otlp-json") == 0)
        export_otlp(t, o->content && !o->redact, &b);
    else if (strcmp(format, "inspect") == 0)
        export_inspect(t, !o->redact, &b);
    else
        export_perfetto(t, &b);
    if (pd_buf_rc(&b) < 0)
        rc = cli_no_memory(err);
    else
        fwrite(pd_buf_str(&b).ptr, 1, b.len, stdout);
    pd_buf_done(&b);
    return rc;
}

static int import(const struct cli *cli, struct store *s, const char *file, struct pd_err *err)
{
    struct pd_buf text = PD_BUF_INIT(IMPORT_MAX_BYTES);
    uint64_t n = 0;
    int rc = pd_read_file(file, &text, err);

    if (rc == 0 && (rc = import_jsonl(s, pd_buf_str(&text), &n, err)) < 0)
        pd_err_context(err, "'%s'", file);
    if (rc == 0 && cli->json)
        printf("{\"jobs\":%llu}\n", (unsigned long long)n);
    else if (rc == 0 && !cli->quiet)
        printf("%llu jobs\n", (unsigned long long)n);
    pd_buf_done(&text);
    return rc;
}

static int backup(const struct cli *cli, struct store *s, const char *file, struct pd_err *err)
{
    int rc = store_backup(s, file, err);

    if (rc == 0 && cli->json)
        printf("{\"ok\":true}\n");
    else if (rc == 0 && !cli->quiet)
        printf("backup of %s in %s\n", store_path(s), file);
    return rc;
}

static bool takes_id(const char *verb)
{
    return strcmp(verb, "show") == 0 || strcmp(verb, "export") == 0;
}

/* ---- the verbs ---------------------------------------------------------------------------------
 */

static void show_time(int64_t unix_ms, char out[32])
{
    time_t seconds = (time_t)(unix_ms / 1000);
    struct tm tm;

    if (!localtime_r(&seconds, &tm) || strftime(out, 32, "%Y-%m-%d %H:%M:%S", &tm) == 0)
        snprintf(out, 32, "?");
}

static int row_json(const struct store_job_row *r, struct pd_err *err)
{
    struct pd_buf b = PD_BUF_INIT(SIZE_MAX - 1);
    struct pd_jw w;
    int rc = 0;

    pd_jw_init(&w, &b);
    pd_jw_object(&w);
    pd_jw_put_text(&w, "id", r->id);
    pd_jw_put_int(&w, "created_ms", r->created_ms);
    pd_jw_put_text(&w, "strategy", r->strategy);
    pd_jw_put_text(&w, "model", r->model);
    pd_jw_put_text(&w, "scorer", r->scorer);
    pd_jw_put_int(&w, "seed", (int64_t)r->seed);
    pd_jw_put_text(&w, "status", r->status);
    pd_jw_put_text(&w, "stopped_by", r->stopped_by);
    pd_jw_put_text(&w, "answer", r->answer);
    pd_jw_put_text(&w, "problem", r->problem_key);
    pd_jw_put_text(&w, "question", r->question);
    pd_jw_put_int(&w, "nodes", (int64_t)r->n_nodes);
    pd_jw_put_int(&w, "generated", (int64_t)r->generated);
    pd_jw_end_object(&w);
    if (pd_buf_rc(&b) < 0)
        rc = cli_no_memory(err);
    else
        cli_print_json(&b);
    pd_buf_done(&b);
    return rc;
}

static int list(const struct cli *cli, struct store *s, const struct trace *o, struct pd_err *err)
{
    struct store_job_row *rows = NULL;
    size_t n = 0;
    int rc =
        store_job_list(s, &(struct store_job_query){.limit = (size_t)o->limit}, &rows, &n, err);

    for (size_t i = 0; i < n && rc == 0; i++) {
        const struct store_job_row *r = &rows[i];
        char when[32];

        if (cli->json) {
            rc = row_json(r, err);
            continue;
        }
        show_time(r->created_ms, when);
        printf("%s  %s  %-9s %s  %llu nodes  %llu tokens  ", r->id, when, r->status, r->strategy,
               (unsigned long long)r->n_nodes, (unsigned long long)r->generated);
        cli_text_line(stdout, pd_str_of(r->answer ? r->answer : "-"), ANSWER_CHARS);
        fputs("  ", stdout);
        cli_text_line(stdout, pd_str_of(r->question), QUESTION_CHARS);
        putchar('\n');
    }
    store_job_list_free(rows, n);
    return rc;
}

static void show_question(const struct pd_job_rec *job)
{
    struct pd_json *request = NULL;
    const char *question = NULL;

    if (pd_json_parse(job->request, &request, NULL) == 0)
        question = pd_json_string(pd_json_get(request, "question"));
    if (question) {
        fputs("question ", stdout);
        cli_text(stdout, pd_str_of(question), 9);
        putchar('\n');
    }
    pd_json_free(request);
}

static int show(const struct cli *cli, const struct pd_trace *t, const struct trace *o,
                struct pd_err *err)
{
    const struct pd_job_rec *job = &t->job;
    char digest[65], when[32];
    int rc;

    pd_trace_digest(t, digest);
    if (o->digest) {
        printf(cli->json ? "\"%s\"\n" : "%s\n", digest);
        return 0;
    }
    if (cli->json)
        return print_array(t, err);
    show_time(job->created_ms, when);
    printf("trace    %s  %s  %s%s%s\n", job->id, when, job->status,
           job->stopped_by ? ", stopped by " : "", job->stopped_by ? job->stopped_by : "");
    show_question(job);
    printf("search   %s %s on %s%s%s, seed %llu\n", job->strategy, job->options ? job->options : "",
           job->model, job->scorer ? " scored by " : "", job->scorer ? job->scorer : "",
           (unsigned long long)job->seed);
    printf("answer   ");
    cli_text(stdout, pd_str_of(job->answer ? job->answer : "none"), 9);
    printf("%s\n", cli_verdict(job->answer, job->correct));
    if (job->error) {
        printf("error    ");
        cli_text(stdout, pd_str_of(job->error), 9);
        putchar('\n');
    }
    printf("digest   %s\n\n", digest);
    rc = cli_tree(stdout, t, err);
    printf("\n%zu nodes, %zu scores, %zu calls\n", t->n_nodes, t->n_scores, t->n_calls);
    return rc;
}

/* What SQL cannot say: that the rows of each finished job still have the digest it ended with. */
static int verify_digests(struct store *s, struct pd_buf *report, int rc, struct pd_err *err)
{
    struct store_job_row *rows = NULL;
    size_t n = 0, changed = 0;
    int rc2 = store_job_list(s, &(struct store_job_query){.status = "done"}, &rows, &n, err);

    for (size_t i = 0; i < n && rc2 == 0; i++) {
        struct pd_trace *t = NULL;
        char digest[65];

        rc2 = store_trace_load(s, rows[i].id, &t, err);
        if (rc2 < 0)
            break;
        pd_trace_digest(t, digest);
        if (!t->job.digest || strcmp(digest, t->job.digest) != 0) {
            pd_buf_printf(report, "job %s: its rows have not the digest it ended with\n",
                          rows[i].id);
            changed++;
        }
        store_trace_free(t);
    }
    store_job_list_free(rows, n);
    if (rc2 < 0)
        return rc2;
    return changed ? pd_fail(rc == 0 ? err : NULL, PD_EDIFFER, "%zu jobs were changed", changed)
                   : rc;
}

static int verify(const struct cli *cli, struct store *s, struct pd_err *err)
{
    struct pd_buf report = PD_BUF_INIT(1u << 20);
    int rc = store_verify(s, &report, err);

    if (rc == 0 || rc == PD_EDIFFER)
        rc = verify_digests(s, &report, rc, err);

    if (rc == 0 || rc == PD_EDIFFER) {
        if (cli->json) {
            struct pd_buf b = PD_BUF_INIT(4u << 20);
            struct pd_jw w;

            pd_jw_init(&w, &b);
            pd_jw_object(&w);
            pd_jw_put_bool(&w, "ok", rc == 0);
            pd_jw_put_text(&w, "database", store_path(s));
            pd_jw_put_str(&w, "report", pd_buf_str(&report));
            pd_jw_end_object(&w);
            cli_print_json(&b);
            pd_buf_done(&b);
        } else if (rc == 0) {
            printf("ok: %s\n", store_path(s));
        } else {
            cli_text(stdout, pd_buf_str(&report), 0);
        }
    }
    if (rc == PD_EDIFFER && err->text[0] == '\0')
        pd_fail(err, PD_EDIFFER, "the database is damaged: %s", store_path(s));
    pd_buf_done(&report);
    return rc;
}

static int collect(const struct cli *cli, struct store *s, bool shrink, struct pd_err *err)
{
    uint64_t n = 0, bytes = 0;
    int rc = store_gc(s, shrink, &n, &bytes, err);

    if (rc == 0 && cli->json)
        printf("{\"freed\":%llu,\"bytes\":%llu}\n", (unsigned long long)n,
               (unsigned long long)bytes);
    else if (rc == 0 && !cli->quiet)
        printf("freed %llu texts, %.1f MB\n", (unsigned long long)n, (double)bytes / 1e6);
    return rc;
}

static bool writes(const char *verb)
{
    return strcmp(verb, "gc") == 0 || strcmp(verb, "import") == 0;
}

/* operand: an id, or of import and backup a file. */
static int with_store(const struct cli *cli, const struct trace *o, const char *verb,
                      const char *operand, struct pd_err *err)
{
    const char *id = takes_id(verb) ? operand : NULL;
    char *path = app_db_path(o->data_dir);
    struct store *s = NULL;
    struct pd_trace *t = NULL;
    int rc;

    if (path && (strcmp(verb, "ls") == 0 || strcmp(verb, "gc") == 0) &&
        !pd_file_exists(path)) { /* before the first job */
        if (cli->json)
            fputs("", stdout);
        else
            cli_message(cli, "info", "no jobs yet");
        free(path);
        return 0;
    }
    rc = path ? store_open(path, writes(verb) ? STORE_WRITE : STORE_READ, &s, err)
              : cli_no_memory(err);
    if (rc == 0 && id)
        rc = store_trace_load(s, id, &t, err);
    if (rc == 0 && strcmp(verb, "ls") == 0)
        rc = list(cli, s, o, err);
    else if (rc == 0 && strcmp(verb, "verify") == 0)
        rc = verify(cli, s, err);
    else if (rc == 0 && strcmp(verb, "gc") == 0)
        rc = collect(cli, s, o->shrink, err);
    else if (rc == 0 && strcmp(verb, "show") == 0)
        rc = show(cli, t, o, err);
    else if (rc == 0 && strcmp(verb, "import") == 0)
        rc = import(cli, s, operand, err);
    else if (rc == 0 && strcmp(verb, "backup") == 0)
        rc = backup(cli, s, operand, err);
    else if (rc == 0)
        rc = export(t, o, err);
    if (t)
        store_trace_free(t);
    store_close(s);
    free(path);
    return rc;
}

int cli_trace(struct cli *cli, int argc, char **argv, struct pd_err *err)
{
    struct trace o = {.limit = LIST_DEFAULT};
    struct cli_option table[] = {
        {"limit", 0, CLI_NUMBER, &o.limit, "N", "ls: the newest N jobs (20; 0: all)", 0, INT64_MAX,
         false, false},
        {"digest", 0, CLI_FLAG, &o.digest, NULL, "show: only the hash over what must repeat", 0, 0,
         false, false},
        {"format", 0, CLI_CHOICE, &o.format, EXPORT_FORMATS, "export: form of the output (jsonl)",
         0, 0, false, false},
        {"redact", 0, CLI_FLAG, &o.redact, NULL, "export: without texts", 0, 0, false, false},
        {"content", 0, CLI_FLAG, &o.content, NULL, "export to otlp-json: with texts", 0, 0, false,
         false},
        {"shrink", 0, CLI_FLAG, &o.shrink, NULL, "gc: give room back to the file system", 0, 0,
         false, false},
        {"data-dir", 0, CLI_TEXT, &o.data_dir, "DIR", "where traces are kept", 0, 0, false, false},
        {NULL, 0, CLI_FLAG, NULL, NULL, NULL, 0, 0, false, false},
    };
    int n = cli_options(cli, argc, argv, table, &usage_text, err);
    const char *verb = n > 0 ? argv[1] : "";
    bool needs_one = takes_id(verb) || strcmp(verb, "import") == 0 || strcmp(verb, "backup") == 0;

    if (n < 0 || cli->help)
        return n < 0 ? n : CLI_EXIT_OK;
    if (!needs_one && strcmp(verb, "ls") != 0 && strcmp(verb, "verify") != 0 &&
        strcmp(verb, "gc") != 0)
        return pd_fail(err, PD_EINVAL,
                       "trace needs ls, show, export, import, verify, backup or gc (see ponder "
                       "trace --help)");
    if (n != (needs_one ? 2 : 1))
        return pd_fail(err, PD_EINVAL,
                       takes_id(verb) ? "trace %s needs one id (see ponder trace ls)"
                       : needs_one    ? "trace %s needs one file"
                                      : "trace %s takes no arguments",
                       verb);
    return with_store(cli, &o, verb, needs_one ? argv[2] : NULL, err);
}
