#include "cli/cli.h"

#include <stdlib.h>

static const struct cli_usage usage_text = {
    "config show | check [FILE]",
    "The settings in force, each with what it comes from; or whether a file, or those that are "
    "read\n"
    "by themselves, are good.",
};

/* What a row's variable says, over what the files say. */
static int from_variable(struct settings *s, const struct settings_row *row, struct pd_err *err)
{
    char name[CLI_VARIABLE_MAX];
    const char *value = cli_variable(row->option, name);
    struct cli_list list = {0};
    int rc = 0;

    if (value && row->type == SETTINGS_LIST)
        rc = cli_list_split(&list, name, value, err);
    else if (value)
        list.items[list.n++] = value;
    if (value && rc == 0)
        rc = settings_set(s, row, list.items, list.n, name, err);
    free(list.owned);
    return rc;
}

int cli_settings(const struct cli *cli, struct settings **out, struct pd_err *err)
{
    struct settings *s = settings_new();
    int rc = s ? settings_add_files(s, cli->config, err) : cli_no_memory(err);

    for (const struct settings_row *row = settings_rows; rc == 0 && row->key; row++)
        if (row->option)
            rc = from_variable(s, row, err);
    if (rc == 0)
        rc = settings_check(s, err);
    if (rc < 0) {
        settings_unref(s);
        return rc;
    }
    *out = s;
    return 0;
}

static int check(const struct cli *cli, const char *file, struct pd_err *err)
{
    struct settings *s = settings_new();
    int rc = s ? settings_add_files(s, file ? file : cli->config, err) : cli_no_memory(err);

    if (rc == 0)
        rc = settings_check(s, err);
    settings_unref(s);
    if (rc == 0 && cli->json)
        puts("{\"ok\":true}");
    else if (rc == 0 && !cli->quiet)
        puts("ok");
    return rc;
}

static int show_json(const struct settings *s, struct pd_err *err)
{
    struct pd_buf b = PD_BUF_INIT(16u << 20);
    struct pd_jw w;
    int rc = 0;

    pd_jw_init(&w, &b);
    pd_jw_object(&w);
    pd_jw_key(&w, "settings");
    pd_jw_object(&w);
    for (const struct settings_row *row = settings_rows; row->key; row++) {
        pd_jw_key(&w, row->key);
        pd_jw_object(&w);
        pd_jw_key(&w, "value");
        settings_value_json(s, row, &w);
        pd_jw_put_text(&w, "origin", s->origins[row - settings_rows]);
        pd_jw_end_object(&w);
    }
    pd_jw_end_object(&w);
    pd_jw_key(&w, "models");
    settings_models_json(s, &w);
    pd_jw_key(&w, "profiles");
    settings_profiles_json(s, &w);
    pd_jw_end_object(&w);
    if (pd_buf_rc(&b) < 0)
        rc = cli_no_memory(err);
    else
        cli_print_json(&b);
    pd_buf_done(&b);
    return rc;
}

static int show_text(const struct settings *s, struct pd_err *err)
{
    struct pd_buf b = PD_BUF_INIT(1u << 20);
    struct pd_jw w;
    int rc = 0;

    for (const struct settings_row *row = settings_rows; row->key && rc == 0; row++) {
        pd_buf_clear(&b);
        pd_jw_init(&w, &b);
        settings_value_json(s, row, &w);
        if (pd_buf_rc(&b) < 0)
            rc = cli_no_memory(err);
        printf("%-30s ", row->key);
        cli_text(stdout, pd_buf_str(&b), -1);
        fputs("  # ", stdout);
        cli_text(stdout, pd_str_of(s->origins[row - settings_rows]), -1);
        printf(": %s\n", row->help);
    }
    for (size_t i = 0; i < s->n_engines; i++)
        printf("engines.%s %s %s\n", s->engines[i].name, s->engines[i].dialect, s->engines[i].url);
    for (size_t i = 0; i < s->n_models; i++) {
        const struct settings_model *m = &s->models[i];
        const char *what = m->alias ? m->alias : m->file ? m->file : m->id ? m->id : "";

        printf("%s.%s %s%s%s%s\n", m->is_scorer ? "scorers" : "models", m->name,
               m->alias ? "-> " : "", m->engine ? m->engine : "", m->engine ? " " : "", what);
    }
    for (size_t i = 0; i < s->n_profiles; i++)
        printf("profiles.%s %s\n", s->profiles[i].name, s->profiles[i].strategy);
    pd_buf_done(&b);
    return rc;
}

int cli_config(struct cli *cli, int argc, char **argv, struct pd_err *err)
{
    struct cli_option table[] = {
        {NULL, 0, CLI_FLAG, NULL, NULL, NULL, 0, 0, false, false},
    };
    struct settings *s = NULL;
    int n, rc;

    cli->no_settings = true;
    n = cli_options(cli, argc, argv, table, &usage_text, err);
    if (n < 0 || cli->help)
        return n < 0 ? n : CLI_EXIT_OK;
    if (n >= 1 && n <= 2 && strcmp(argv[1], "check") == 0)
        return check(cli, n == 2 ? argv[2] : NULL, err);
    if (n != 1 || strcmp(argv[1], "show") != 0)
        return pd_fail(err, PD_EINVAL,
                       "config needs show, or check [FILE] (see ponder config --help)");
    rc = cli_settings(cli, &s, err);
    if (rc == 0)
        rc = cli->json ? show_json(s, err) : show_text(s, err);
    settings_unref(s);
    return rc;
}
