#include "cli/cli.h"

#include <ctype.h>
#include <getopt.h>
#include <stdlib.h>

#define MAX_OPTIONS 48
#define LONG_BASE   256 /* getopt's value of row i is LONG_BASE + i */
#define N_GLOBALS   8
#define GLOBAL_HOST 1 /* its row */

int cli_no_memory(struct pd_err *err)
{
    return pd_fail(err, PD_ENOMEM, "out of memory");
}

static void global_table(struct cli *cli, struct cli_option table[N_GLOBALS + 1])
{
    const struct cli_option rows[N_GLOBALS + 1] = {
        {"config", 'c', CLI_TEXT, &cli->config, "FILE",
         "configuration, in place of the system's and the user's", 0, 0, false, false},
        {"host", 'H', CLI_TEXT, &cli->host, "URL",
         "daemon to talk to: unix, unix:///PATH or http://127.0.0.1:PORT", 0, 0, false, false},
        {"json", 0, CLI_FLAG, &cli->json, NULL, "print JSON and nothing else", 0, 0, false, false},
        {"quiet", 'q', CLI_FLAG, &cli->quiet, NULL, "no progress, no hints", 0, 0, false, false},
        {"verbose", 'v', CLI_COUNT, &cli->verbose, NULL,
         "say what runs on what; twice: every decision too", 0, 0, false, false},
        {"log-format", 0, CLI_CHOICE, &cli->log_format, "text|json", "form of messages", 0, 0,
         false, false},
        {"help", 'h', CLI_FLAG, &cli->help, NULL, "this text", 0, 0, false, false},
        {"version", 0, CLI_FLAG, &cli->version, NULL, "print the version", 0, 0, false, false},
        {NULL, 0, CLI_FLAG, NULL, NULL, NULL, 0, 0, false, false},
    };

    memcpy(table, rows, sizeof(rows));
}

static bool is_choice(const char *choices, const char *value)
{
    size_t n = strlen(value);

    for (const char *p = choices; n > 0 && (p = strstr(p, value)) != NULL; p += n)
        if ((p == choices || p[-1] == '|') && (p[n] == '|' || p[n] == '\0'))
            return true;
    return false;
}

static int add_item(struct cli_list *list, const char *item, const char *what, struct pd_err *err)
{
    if (list->n == CLI_LIST_MAX)
        return pd_fail(err, PD_EINVAL, "%s: at most %d are possible", what, CLI_LIST_MAX);
    list->items[list->n++] = item;
    return 0;
}

/* "1,2,4" replaces what the list held. */
static int set_numbers(const struct cli_option *o, const char *what, const char *value,
                       struct pd_err *err)
{
    struct cli_numbers *list = o->to;
    struct pd_str rest = pd_str_of(value);

    list->n = 0;
    for (bool more = true; more;) {
        ptrdiff_t comma = pd_str_find(rest, PD_STR(","));
        struct pd_str item = pd_str_sub(rest, 0, comma < 0 ? rest.len : (size_t)comma);
        uint64_t number;

        if (list->n == CLI_NUMBERS_MAX)
            return pd_fail(err, PD_EINVAL, "%s: at most %d numbers are possible", what,
                           CLI_NUMBERS_MAX);
        if (!pd_parse_u64(item, &number) || number < o->min || number > o->max)
            return pd_fail(err, PD_EINVAL,
                           "%s must be whole numbers from %llu to %llu with commas between, not "
                           "'%s'",
                           what, (unsigned long long)o->min, (unsigned long long)o->max, value);
        list->v[list->n++] = number;
        more = comma >= 0;
        rest = pd_str_sub(rest, item.len + 1, rest.len);
    }
    return 0;
}

/* what: how the user knows it, "--seed" or "PONDER_SEED". */
static int set_value(struct cli_option *o, const char *what, const char *value, struct pd_err *err)
{
    struct pd_str s = pd_str_of(value);
    uint64_t number;
    double seconds;

    switch (o->type) {
    case CLI_FLAG:
        *(bool *)o->to = true;
        return 0;
    case CLI_COUNT:
        ++*(int *)o->to;
        return 0;
    case CLI_TEXT:
        *(const char **)o->to = value;
        return 0;
    case CLI_CHOICE:
        if (!is_choice(o->arg, value))
            return pd_fail(err, PD_EINVAL, "%s must be one of %s, not '%s'", what, o->arg, value);
        *(const char **)o->to = value;
        return 0;
    case CLI_NUMBER:
        if (!pd_parse_u64(s, &number) || number < o->min || number > o->max)
            return pd_fail(err, PD_EINVAL, "%s must be a whole number from %llu to %llu, not '%s'",
                           what, (unsigned long long)o->min, (unsigned long long)o->max, value);
        *(uint64_t *)o->to = number;
        return 0;
    case CLI_SECONDS:
        if (!pd_parse_double(s, &seconds) || seconds <= 0 || seconds > PD_SECONDS_MAX)
            return pd_fail(err, PD_EINVAL, "%s must be a number above 0 and at most %.0f, not '%s'",
                           what, PD_SECONDS_MAX, value);
        *(double *)o->to = seconds;
        return 0;
    case CLI_SIZE:
        if (!pd_parse_size(s, &number) || number < o->min || number > o->max)
            return pd_fail(err, PD_EINVAL,
                           "%s must be a size such as 512MiB (or 512M), 6GB or 1.5GiB, not '%s'",
                           what, value);
        *(uint64_t *)o->to = number;
        return 0;
    case CLI_LIST:
        return add_item(o->to, value, what, err);
    case CLI_NUMBERS:
        return set_numbers(o, what, value, err);
    }
    return pd_fail(err, PD_EINVAL, "%s has no type", what);
}

int cli_list_split(struct cli_list *list, const char *what, const char *value, struct pd_err *err)
{
    char *save = NULL;
    int rc = 0;

    list->owned = strdup(value);
    if (!list->owned)
        return cli_no_memory(err);
    for (char *item = strtok_r(list->owned, ", \t\n", &save); item && rc == 0;
         item = strtok_r(NULL, ", \t\n", &save))
        rc = add_item(list, item, what, err);
    return rc;
}

const char *cli_variable(const char *option, char name[CLI_VARIABLE_MAX])
{
    size_t n = strlen(strcpy(name, "PONDER_"));
    const char *value;

    for (const char *p = option; *p != '\0' && n + 1 < CLI_VARIABLE_MAX; p++)
        name[n++] = *p == '-' ? '_' : (char)toupper((unsigned char)*p);
    name[n] = '\0';
    value = getenv(name);
    return value && value[0] != '\0' ? value : NULL;
}

static int from_variable(struct cli_option *o, struct pd_err *err)
{
    char name[CLI_VARIABLE_MAX];
    const char *value = cli_variable(o->name, name);
    uint64_t count;
    bool flag;

    if (!value)
        return 0;
    if (o->type == CLI_LIST)
        return cli_list_split(o->to, name, value, err);
    if (o->type == CLI_FLAG) {
        if (!pd_parse_bool(pd_str_of(value), &flag))
            return pd_fail(err, PD_EINVAL,
                           "%s must be 1, true, on, yes, 0, false, off or no, not '%s'", name,
                           value);
        *(bool *)o->to = flag;
        return 0;
    }
    if (o->type == CLI_COUNT) {
        if (!pd_parse_u64(pd_str_of(value), &count) || count > 9)
            return pd_fail(err, PD_EINVAL, "%s must be a number from 0 to 9, not '%s'", name,
                           value);
        *(int *)o->to = (int)count;
        return 0;
    }
    return set_value(o, name, value, err);
}

static void print_rows(const struct cli_option *table)
{
    char left[64];

    for (; table->name; table++) {
        const char *arg = table->arg ? table->arg : "";

        if (table->letter)
            snprintf(left, sizeof(left), "-%c, --%s %s", table->letter, table->name, arg);
        else
            snprintf(left, sizeof(left), "    --%s %s", table->name, arg);
        printf("  %-32s %s\n", left, table->help);
    }
}

void cli_global_help(void)
{
    struct cli dummy = {0};
    struct cli_option globals[N_GLOBALS + 1];

    global_table(&dummy, globals);
    puts("\nGlobal options:");
    print_rows(globals);
    puts("\nEvery option has a variable: --budget-tokens is PONDER_BUDGET_TOKENS. An option wins.");
}

static const char *see_help(const struct cli *cli, char *out, size_t n)
{
    snprintf(out, n, "see ponder %s%s--help", cli->verb ? cli->verb : "", cli->verb ? " " : "");
    return out;
}

/* Leaves optind at the first operand. */
static int parse(struct cli *cli, int argc, char **argv, struct cli_option *all,
                 bool stop_at_operand, struct pd_err *err)
{
    struct option longs[MAX_OPTIONS + 1] = {0};
    char shorts[3 + 2 * MAX_OPTIONS], see[64], what[64];
    size_t n = 0, n_shorts = 0;
    int c, rc = 0;

    if (stop_at_operand)
        shorts[n_shorts++] = '+';
    shorts[n_shorts++] = ':';
    for (; all[n].name; n++) {
        bool has_arg = all[n].type != CLI_FLAG && all[n].type != CLI_COUNT;

        longs[n] = (struct option){all[n].name, has_arg, NULL, (int)(LONG_BASE + n)};
        if (all[n].letter) {
            shorts[n_shorts++] = all[n].letter;
            if (has_arg)
                shorts[n_shorts++] = ':';
        }
    }
    shorts[n_shorts] = '\0';
    opterr = 0;
    optind = 0; /* glibc: start afresh */
    while (rc == 0 && (c = getopt_long(argc, argv, shorts, longs, NULL)) != -1) {
        size_t i = 0;

        if (c == '?' || c == ':') {
            const char *word = optind > 0 ? argv[optind - 1] : "";

            if (optopt > 0 && optopt < LONG_BASE)
                snprintf(what, sizeof(what), "-%c", optopt);
            else
                snprintf(what, sizeof(what), "%.60s", word);
            see_help(cli, see, sizeof(see));
            if (c == ':')
                return pd_fail(err, PD_EINVAL, "option %s needs an argument (%s)", what, see);
            if (optopt >= LONG_BASE)
                return pd_fail(err, PD_EINVAL, "option %s takes no argument (%s)", what, see);
            return pd_fail(err, PD_EINVAL, "unknown option %s (%s)", what, see);
        }
        if (c >= LONG_BASE)
            i = (size_t)(c - LONG_BASE);
        else
            while (i < n && all[i].letter != (char)c)
                i++;
        all[i].given = true;
        snprintf(what, sizeof(what), "--%s", all[i].name);
        rc = set_value(&all[i], what, optarg, err);
    }
    return rc;
}

static int check_globals(const struct cli *cli, struct pd_err *err)
{
    if (cli->help || cli->version)
        return 0;
    if (cli->host_given && !cli->remote)
        return pd_fail(err, PD_EINVAL,
                       "--host: %s works on the files of this machine; solve, job, top and mcp "
                       "talk to a daemon",
                       cli->verb);
    return 0;
}

static int use_settings(struct cli *cli, struct pd_err *err)
{
    struct settings *s = NULL;
    int rc = cli_settings(cli, &s, err);

    if (rc < 0)
        return rc;
    if (!cli->log_format)
        cli->log_format = s->log_format == 1 ? "json" : "text";
    settings_install(s);
    return 0;
}

/* The environment comes first: what the command line says replaces it, or is added to a list. */
static int variables(struct cli_option *table, struct pd_err *err)
{
    int rc = 0;

    for (; table->name && rc == 0; table++)
        if (strcmp(table->name, "help") != 0 && strcmp(table->name, "version") != 0)
            rc = from_variable(table, err);
    return rc;
}

int cli_set_value(struct cli_option *o, const char *value, struct pd_err *err)
{
    return set_value(o, o->name, value, err);
}

int cli_global_options(struct cli *cli, int argc, char **argv, struct pd_err *err)
{
    struct cli_option globals[N_GLOBALS + 1];
    int rc;

    global_table(cli, globals);
    rc = variables(globals, err);
    if (rc == 0 && cli->completing)
        return cli_complete(cli, argc, argv, globals, NULL);
    if (rc == 0)
        rc = parse(cli, argc, argv, globals, true, err);
    cli->host_given = globals[GLOBAL_HOST].given;
    return rc < 0 ? rc : optind;
}

int cli_options(struct cli *cli, int argc, char **argv, struct cli_option *table,
                const struct cli_usage *usage, struct pd_err *err)
{
    struct cli_option all[MAX_OPTIONS + 1];
    size_t n = 0;
    int rc, n_operands;

    while (table[n].name)
        n++;
    if (n + N_GLOBALS > MAX_OPTIONS)
        return pd_fail(err, PD_ELIMIT, "too many options");
    rc = variables(table, err);
    if (rc < 0)
        return rc;
    memcpy(all, table, n * sizeof(all[0]));
    global_table(cli, all + n);
    if (cli->completing) {
        cli_complete(cli, argc, argv, all, usage->synopsis);
        cli->help = true; /* the verb has nothing more to do */
        return 0;
    }
    rc = parse(cli, argc, argv, all, false, err);
    cli->host_given = cli->host_given || all[n + GLOBAL_HOST].given;
    if (rc == 0)
        rc = check_globals(cli, err);
    if (rc == 0 && !cli->help && !cli->no_settings)
        rc = use_settings(cli, err);
    if (rc < 0)
        return rc;
    n_operands = argc - optind;
    for (int i = 0; i < n_operands; i++)
        argv[1 + i] = argv[optind + i];
    argv[1 + n_operands] = NULL;
    memcpy(table, all, n * sizeof(all[0]));
    if (cli->help) {
        printf("usage: ponder %s\n%s\n", usage->synopsis, usage->about);
        if (n > 0)
            puts("\nOptions:");
        print_rows(table);
        cli_global_help();
    }
    return n_operands;
}
