#include "cli/cli.h"

#include <stdlib.h>

static const struct cli_usage usage_text = {
    "engine ls | probe NAME",
    "The engines elsewhere that the configuration names; or what one of them, or one that is\n"
    "described as DIALECT+URL, says of itself.",
};

static int list(const struct cli *cli, struct pd_err *err)
{
    struct settings *s = settings_current();
    struct pd_buf b = PD_BUF_INIT(1u << 20);
    struct pd_jw w;
    int rc = 0;

    if (!s)
        return cli_no_memory(err);
    pd_jw_init(&w, &b);
    pd_jw_array(&w);
    for (size_t i = 0; i < s->n_engines; i++) {
        const struct remote_config *e = &s->engines[i];

        if (!cli->json)
            printf("%-16s %-14s %s\n", e->name, e->dialect, e->url);
        pd_jw_object(&w);
        pd_jw_put_text(&w, "name", e->name);
        pd_jw_put_text(&w, "dialect", e->dialect);
        pd_jw_put_text(&w, "url", e->url);
        pd_jw_end_object(&w);
    }
    pd_jw_end_array(&w);
    if (pd_buf_rc(&b) < 0)
        rc = cli_no_memory(err);
    else if (cli->json)
        cli_print_json(&b);
    pd_buf_done(&b);
    settings_unref(s);
    return rc;
}

static int probe(const struct cli *cli, const char *name, struct pd_err *err)
{
    struct pd_buf b = PD_BUF_INIT(1u << 20);
    struct pd_json *v = NULL;
    struct pd_jw w;
    int rc;

    pd_jw_init(&w, &b);
    pd_jw_object(&w);
    rc = app_probe_engine(name, &w, err);
    pd_jw_end_object(&w);
    if (rc == 0 && pd_buf_rc(&b) < 0)
        rc = cli_no_memory(err);
    if (rc == 0 && cli->json) {
        cli_print_json(&b);
    } else if (rc == 0) {
        rc = pd_json_parse(pd_buf_str(&b), &v, err);
        for (const struct pd_json *m = pd_json_first(v); m; m = pd_json_next(m)) {
            struct pd_buf text = PD_BUF_INIT(1u << 16);
            bool yes;

            pd_jw_init(&w, &text);
            if (pd_json_string(m))
                pd_buf_addz(&text, pd_json_string(m));
            else if (pd_json_bool(m, &yes))
                pd_buf_addz(&text, yes ? "yes" : "no");
            else
                pd_jw_value(&w, m);
            printf("%-14s ", pd_json_key(m));
            cli_text_line(stdout, pd_buf_str(&text), 200);
            putchar('\n');
            pd_buf_done(&text);
        }
    }
    pd_json_free(v);
    pd_buf_done(&b);
    return rc;
}

int cli_engine(struct cli *cli, int argc, char **argv, struct pd_err *err)
{
    struct cli_option table[] = {
        {NULL, 0, CLI_FLAG, NULL, NULL, NULL, 0, 0, false, false},
    };
    int n = cli_options(cli, argc, argv, table, &usage_text, err);

    if (n < 0 || cli->help)
        return n < 0 ? n : CLI_EXIT_OK;
    if (n == 1 && strcmp(argv[1], "ls") == 0)
        return list(cli, err);
    if (n == 2 && strcmp(argv[1], "probe") == 0)
        return probe(cli, argv[2], err);
    return pd_fail(err, PD_EINVAL, "engine needs ls, or probe NAME (see ponder engine --help)");
}
