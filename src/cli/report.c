#include "cli/cli.h"

#include <stdlib.h>
#include <unistd.h>

#include "app/report.h"
#include "app/run.h"
#include "base/file.h"

#define RUNS_MAX         32
#define REPORT_MAX_BYTES ((size_t)64 << 20)

struct report_options {
    const char *format, *view, *job, *output, *data_dir, *x, *bench;
    uint64_t intensity;
    bool ascii;
};

static const struct cli_usage usage_text = {
    "report RUN… [options]",
    "Shows what runs came to, from the trace database: a run by its id, a prefix of it, or its "
    "folder.",
};

static int render_png(const struct report *r, const struct report_options *o, struct pd_buf *out,
                      struct pd_err *err)
{
    struct pd_buf svg = PD_BUF_INIT(REPORT_MAX_BYTES);
    int rc = report_svg(r, o->view ? o->view : "scaling", &svg, err);

    if (rc == 0 && pd_buf_rc(&svg) < 0)
        rc = cli_no_memory(err);
    if (rc == 0)
        rc = report_png(pd_buf_str(&svg), out, err);
    pd_buf_done(&svg);
    return rc;
}

static int render(const struct report *r, const struct report_options *o, struct pd_buf *out,
                  struct pd_err *err)
{
    const char *format = o->format ? o->format : "text";

    if (strcmp(format, "json") == 0)
        report_json(r, out);
    else if (strcmp(format, "csv") == 0)
        report_csv(r, out);
    else if (strcmp(format, "html") == 0)
        report_html(r, out);
    else if (strcmp(format, "svg") == 0)
        return report_svg(r, o->view ? o->view : "scaling", out, err);
    else if (strcmp(format, "png") == 0)
        return render_png(r, o, out, err);
    else
        report_text(r, o->ascii || (!o->output && !cli_speaks_utf8()), out);
    return 0;
}

static int write_out(const struct report_options *o, const struct pd_buf *b, struct pd_err *err)
{
    if (!o->output) {
        fwrite(pd_buf_str(b).ptr, 1, b->len, stdout);
        return 0;
    }
    return pd_write_file(o->output, pd_buf_str(b), err);
}

static int configure(const struct report_options *o, struct report_config *c, struct pd_buf *bench,
                     struct pd_err *err)
{
    int rc = o->x ? report_x_find(o->x, &c->x, err) : 0;

    if (o->intensity)
        c->intensity = (double)o->intensity;
    if (rc == 0 && o->bench)
        rc = pd_read_file(o->bench, bench, err);
    c->bench = pd_buf_str(bench);
    c->job = o->job;
    return rc;
}

static int make(const struct report_options *o, char **runs, size_t n, struct pd_err *err)
{
    struct report_config config = REPORT_CONFIG_DEFAULT;
    struct pd_buf bench = PD_BUF_INIT(REPORT_MAX_BYTES);
    char ids[RUNS_MAX][PD_JOB_ID_MAX];
    const char *list[RUNS_MAX];
    struct pd_buf out = PD_BUF_INIT(REPORT_MAX_BYTES);
    struct report *r = NULL;
    struct store *s = NULL;
    char *path = app_db_path(o->data_dir);
    int rc = path ? 0 : cli_no_memory(err);

    for (size_t i = 0; i < n && rc == 0; i++) {
        rc = run_find(runs[i], ids[i], err);
        list[i] = ids[i];
    }
    if (rc == 0)
        rc = configure(o, &config, &bench, err);
    if (rc == 0)
        rc = store_open(path, STORE_READ, &s, err);
    if (rc == 0)
        rc = report_make(s, list, n, &config, &r, err);
    if (rc == 0)
        rc = render(r, o, &out, err);
    if (rc == 0 && pd_buf_rc(&out) < 0)
        rc = cli_no_memory(err);
    if (rc == 0)
        rc = write_out(o, &out, err);
    report_free(r);
    store_close(s);
    free(path);
    pd_buf_done(&bench);
    pd_buf_done(&out);
    return rc;
}

int cli_report(struct cli *cli, int argc, char **argv, struct pd_err *err)
{
    struct report_options o = {0};
    struct cli_option table[] = {
        {"format", 0, CLI_CHOICE, &o.format, "text|json|csv|svg|png|html",
         "form of the report (text)", 0, 0, false, false},
        {"view", 0, CLI_CHOICE, &o.view, REPORT_VIEW_CHOICES, "svg, png: which picture (scaling)",
         0, 0, false, false},
        {"job", 0, CLI_TEXT, &o.job, "ID", "tree, timeline: of this job (a large one that fits)", 0,
         0, false, false},
        {"output", 'o', CLI_TEXT, &o.output, "FILE", "write it there", 0, 0, false, false},
        {"x", 0, CLI_CHOICE, &o.x, REPORT_X_CHOICES, "what curves are drawn over (tokens)", 0, 0,
         false, false},
        {"bench", 0, CLI_TEXT, &o.bench, "FILE",
         "lines of ponder bench --json of the models: for ideal seconds", 0, 0, false, false},
        {"intensity", 0, CLI_NUMBER, &o.intensity, "N",
         "operations that a byte counts as in eFLOP (562.5)", 1, 1000000, false, false},
        {"ascii", 0, CLI_FLAG, &o.ascii, NULL, "text: no braille", 0, 0, false, false},
        {"data-dir", 0, CLI_TEXT, &o.data_dir, "DIR", "where traces are kept", 0, 0, false, false},
        {NULL, 0, CLI_FLAG, NULL, NULL, NULL, 0, 0, false, false},
    };
    int n = cli_options(cli, argc, argv, table, &usage_text, err);

    if (n < 0 || cli->help)
        return n < 0 ? n : CLI_EXIT_OK;
    if (cli->json)
        o.format = "json";
    if (o.format && strcmp(o.format, "png") == 0 && !o.output && isatty(STDOUT_FILENO))
        return pd_fail(err, PD_EINVAL, "a PNG is nothing for a terminal: -o FILE");
    if (n < 1 || n > RUNS_MAX)
        return pd_fail(err, PD_EINVAL, "report needs 1 to %d runs (see ponder runs ls)", RUNS_MAX);
    return make(&o, argv + 1, (size_t)n, err);
}
