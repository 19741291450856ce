#include "cli/cli.h"

#include <stdlib.h>

#include "daemon/daemon.h"

#define LOG_FORMAT "log-format" /* a global option already */

static const struct cli_usage usage_text = {
    "serve [options]",
    "Runs the daemon in the foreground until SIGTERM or SIGINT: jobs over HTTP on a unix socket, "
    "and\non loopback TCP when asked.",
};

struct serve {
    const struct cli *cli;
    bool foreground;
    struct cli_list listen;
    const char *texts[SETTINGS_MAX_ROWS];
    const struct settings_row *rows[SETTINGS_MAX_ROWS]; /* of the options, in their order */
    struct cli_option options[SETTINGS_MAX_ROWS + 2];
};

/* An option for each setting that has one; its value is for the setting's own parser. */
static void make_options(struct serve *o)
{
    size_t n = 0;

    for (const struct settings_row *row = settings_rows; row->key; row++) {
        bool list = row->type == SETTINGS_LIST;

        if (!row->option || strcmp(row->option, LOG_FORMAT) == 0)
            continue;
        o->options[n] = (struct cli_option){
            .name = row->option,
            .letter = list ? 'l' : 0,
            .type = list ? CLI_LIST : CLI_TEXT,
            .to = list ? (void *)&o->listen : (void *)&o->texts[n],
            .arg = row->choices,
            .help = row->help,
        };
        o->rows[n++] = row;
    }
    o->options[n] = (struct cli_option){.name = "foreground",
                                        .type = CLI_FLAG,
                                        .to = &o->foreground,
                                        .help = "what it always does"};
}

static const struct settings_row *row_of(const char *key)
{
    const struct settings_row *row = settings_rows;

    while (strcmp(row->key, key) != 0)
        row++;
    return row;
}

/* The settings as files, variables and the command line have them; at the start and at SIGHUP. */
static int read_settings(void *user, struct settings **out, struct pd_err *err)
{
    const struct serve *o = user;
    const struct cli *cli = o->cli;
    const char *level = cli->quiet         ? "warning"
                        : cli->verbose > 1 ? "debug"
                        : cli->verbose > 0 ? "request"
                                           : NULL;
    struct settings *s = NULL;
    int rc = cli_settings(cli, &s, err);

    for (size_t i = 0; rc == 0 && o->rows[i]; i++) {
        const struct cli_option *option = &o->options[i];
        char origin[CLI_VARIABLE_MAX];

        snprintf(origin, sizeof origin, "--%s", option->name);
        if (option->given && option->type == CLI_LIST)
            rc = settings_set(s, o->rows[i], o->listen.items, o->listen.n, origin, err);
        else if (option->given)
            rc = settings_set(s, o->rows[i], &o->texts[i], 1, origin, err);
    }
    if (rc == 0 && level)
        rc = settings_set(s, row_of("log.level"), &level, 1, cli->quiet ? "-q" : "-v", err);
    if (rc == 0 && cli->log_format)
        rc = settings_set(s, row_of("log.format"), &cli->log_format, 1, "--" LOG_FORMAT, err);
    if (rc < 0) {
        settings_unref(s);
        return rc;
    }
    *out = s;
    return 0;
}

int cli_serve(struct cli *cli, int argc, char **argv, struct pd_err *err)
{
    struct serve o = {.cli = cli};
    struct daemon_config c = {.reload = read_settings, .user = &o};
    int n, rc;

    make_options(&o);
    cli->no_settings = true;
    n = cli_options(cli, argc, argv, o.options, &usage_text, err);
    rc = n < 0 ? n : CLI_EXIT_OK;
    if (n > 0)
        rc = pd_fail(err, PD_EINVAL, "serve takes no arguments (see ponder serve --help)");
    if (rc == 0 && !cli->help) {
        rc = read_settings(&o, &c.settings, err);
        if (rc == 0) {
            settings_install(settings_ref(c.settings));
            rc = daemon_run(&c, err);
        }
        settings_unref(c.settings);
    }
    free(o.listen.owned);
    return rc;
}
