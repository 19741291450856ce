#include "cli/cli.h"

#include <stdlib.h>

#include "daemon/daemon.h"

static const struct cli_usage usage_text = {
    "serve [options]",
    "Runs the daemon in the foreground until SIGTERM or SIGINT: jobs over HTTP on a unix socket, "
    "and "
    "on loopback TCP when asked.",
};

int cli_serve(struct cli *cli, int argc, char **argv, struct pd_err *err)
{
    struct cli_list listen = {0};
    const char *data_dir = NULL, *models_dir = NULL;
    uint64_t threads = 0, memory_limit = 0, max_jobs = 4, max_queue = 256, max_body = 8u << 20;
    double drain = 30;
    bool foreground = false;
    struct cli_option table[] = {
        {"listen", 'l', CLI_LIST, &listen, "URL",
         "unix, unix:///PATH or http://127.0.0.1:PORT (repeatable)", 0, 0, false, false},
        {"data-dir", 0, CLI_TEXT, &data_dir, "DIR", "where traces are kept", 0, 0, false, false},
        {"models-dir", 0, CLI_TEXT, &models_dir, "DIR", "where models are looked for first", 0, 0,
         false, false},
        {"threads", 0, CLI_NUMBER, &threads, "N", "compute threads (0: all CPUs)", 0, 1024, false,
         false},
        {"memory-limit", 0, CLI_SIZE, &memory_limit, "SIZE",
         "ceiling of models, working space and KV cache together", 1, UINT64_MAX, false, false},
        {"max-jobs", 0, CLI_NUMBER, &max_jobs, "N", "jobs that run at once", 1, 256, false, false},
        {"max-queue", 0, CLI_NUMBER, &max_queue, "N", "jobs that wait; more get 429", 1, 1000000,
         false, false},
        {"max-body", 0, CLI_SIZE, &max_body, "SIZE", "most bytes of a request's body", 1024,
         1u << 30, false, false},
        {"drain-timeout", 0, CLI_SECONDS, &drain, "S",
         "at the end, for requests that are being answered", 0, 0, false, false},
        {"foreground", 0, CLI_FLAG, &foreground, NULL, "what it always does", 0, 0, false, false},
        {NULL, 0, CLI_FLAG, NULL, NULL, NULL, 0, 0, false, false},
    };
    struct daemon_config c = {0};
    int n = cli_options(cli, argc, argv, table, &usage_text, err), rc;

    if (n < 0 || cli->help) {
        free(listen.owned);
        return n < 0 ? n : CLI_EXIT_OK;
    }
    if (n > 0) {
        free(listen.owned);
        return pd_fail(err, PD_EINVAL, "serve takes no arguments (see ponder serve --help)");
    }
    if (models_dir)
        setenv("PONDER_MODELS_DIR", models_dir, 1); /* before the first thread */
    c.listen = listen.items;
    c.n_listen = listen.n;
    c.app = (struct app_config){
        .n_threads = (unsigned)threads, .memory_bytes = memory_limit, .data_dir = data_dir};
    c.max_jobs = (unsigned)max_jobs;
    c.max_queue = (unsigned)max_queue;
    c.max_body = max_body;
    c.drain_s = drain;
    c.verbose = cli->verbose;
    c.quiet = cli->quiet;
    c.log_json = cli->log_format && strcmp(cli->log_format, "json") == 0;
    rc = daemon_run(&c, err);
    free(listen.owned);
    return rc;
}
