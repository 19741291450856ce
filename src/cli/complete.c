/* Completion. The shells' scripts (src/cli/completion) ask `ponder __complete WORD...` for what the
 * last of the words may become, a line each, with a tab and a description behind it. The answer
 * comes from what parses the command line and prints the help: the table of verbs, the verb's
 * option table and the synopsis in its usage. The line ":files" asks the shell for names of files.
 */
#include "cli/cli.h"

#include <stdlib.h>

#include "cli/client.h"

#define IDS_MAX   50
#define REPLY_MAX ((size_t)16 << 20)
#define WAIT_NS   (300 * PD_NS_PER_MS) /* nobody waits longer for a key */
#define SHOWN_MAX 60
#define MAX_WORDS 256

/* The bytes of a candidate before the word that is chosen: "--show=" or nothing. */
struct asked {
    struct cli *cli;
    const char *before, *word;
};

static void offer(const struct asked *a, const char *text, const char *end, const char *about)
{
    if (strncmp(text, a->word, strlen(a->word)) != 0)
        return;
    printf("%s%s%s\t", a->before, text, end);
    cli_text_line(stdout, pd_str_of(about ? about : ""), SHOWN_MAX);
    putchar('\n');
}

/* ---- what arguments may be ------------------------------------------------------------------- */

static void offer_choices(const struct asked *a, const char *choices)
{
    char *copy = strdup(choices), *save = NULL;

    for (char *c = copy ? strtok_r(copy, "|", &save) : NULL; c; c = strtok_r(NULL, "|", &save))
        offer(a, c, "", NULL);
    free(copy);
}

static void offer_models(const struct asked *a)
{
    struct app_model_file *files = NULL;
    size_t n = 0;

    if (app_list_models(&files, &n, NULL) < 0)
        return;
    for (size_t i = 0; i < n; i++)
        offer(a, files[i].name, "", files[i].alias_of);
    app_list_models_free(files, n);
}

static void offer_strategies(const struct asked *a)
{
    for (size_t i = 0; pd_strategies[i]; i++)
        offer(a, pd_strategies[i]->name, "", pd_strategies[i]->summary);
}

/* Keys of a table, or the values of one when the word has come so far. */
static void offer_params(const struct asked *a, const struct pd_param *table)
{
    const char *eq = strchr(a->word, '=');
    struct asked value = {a->cli, a->word, eq ? eq + 1 : ""};
    char before[128];

    for (; table->name; table++) {
        size_t n = strlen(table->name);

        if (!eq) {
            offer(a, table->name, "=", table->help);
        } else if (strncmp(a->word, table->name, n) == 0 && a->word[n] == '=') {
            snprintf(before, sizeof before, "%s%s=", a->before, table->name);
            value.before = before;
            if (table->type == PD_PARAM_CHOICE)
                offer_choices(&value, table->choices);
            else if (table->type == PD_PARAM_BOOL)
                offer_choices(&value, "true|false");
        }
    }
}

static void offer_options(const struct asked *a, const struct cli_option *all)
{
    const struct pd_strategy *s;

    while (all->name && strcmp(all->name, "strategy") != 0)
        all++;
    s = pd_strategy_find(all->name && *(const char **)all->to ? *(const char **)all->to
                                                              : "best_of_n");
    if (s)
        offer_params(a, s->params);
    offer_params(a, pd_common_params);
    offer_params(a, app_decode_params);
    offer_params(a, app_steering_params);
}

static void offer_daemon_jobs(const struct asked *a)
{
    struct pd_buf reply = PD_BUF_INIT(REPLY_MAX);
    struct pd_json *page = NULL;
    struct client *c = NULL;
    char path[64];

    snprintf(path, sizeof path, "/v1/jobs?limit=%d", IDS_MAX);
    if (client_open(a->cli->host, &c, NULL) == 0) {
        client_deadline(c, pd_clock_now_ns() + WAIT_NS);
        if (client_call(c, "GET", path, NULL, NULL, &reply, NULL) == 0)
            (void)pd_json_parse(pd_buf_str(&reply), &page, NULL);
    }
    for (const struct pd_json *j = pd_json_first(pd_json_get(page, "data")); j; j = pd_json_next(j))
        if (pd_json_string(pd_json_get(j, "id")))
            offer(a, pd_json_string(pd_json_get(j, "id")), "",
                  pd_json_string(pd_json_get(j, "question")));
    pd_json_free(page);
    pd_buf_done(&reply);
    client_close(c);
}

static void offer_stored_jobs(const struct asked *a)
{
    char *path = app_db_path(NULL);
    struct store_job_row *rows = NULL;
    struct store *s = NULL;
    size_t n = 0;

    if (path && pd_file_exists(path) && store_open(path, STORE_READ, &s, NULL) == 0 &&
        store_job_list(s, &(struct store_job_query){.limit = IDS_MAX}, &rows, &n, NULL) == 0)
        for (size_t i = 0; i < n; i++)
            offer(a, rows[i].id, "", rows[i].question);
    store_job_list_free(rows, n);
    store_close(s);
    free(path);
}

/* kind: an argument as the help shows it, without brackets around. Of ID|RUN and MODEL[@PROFILE]
 * the first is known. */
static void offer_kind(const struct asked *a, struct pd_str kind, const struct cli_option *all)
{
    for (size_t i = 0; i < kind.len; i++)
        if (kind.ptr[i] == '|' || kind.ptr[i] == '[')
            kind.len = i;
    if (pd_str_eq(kind, PD_STR("MODEL")))
        offer_models(a);
    else if (pd_str_eq(kind, PD_STR("STRATEGY")))
        offer_strategies(a);
    else if (pd_str_eq(kind, PD_STR("KEY=VALUE")))
        offer_options(a, all);
    else if (pd_str_eq(kind, PD_STR("ID")) && strcmp(a->cli->verb, "job") == 0)
        offer_daemon_jobs(a);
    else if (pd_str_eq(kind, PD_STR("ID")))
        offer_stored_jobs(a);
    else if (pd_str_find(kind, PD_STR("FILE")) >= 0 || pd_str_eq(kind, PD_STR("DIR")))
        puts(":files");
}

static void offer_argument(const struct asked *a, const struct cli_option *o,
                           const struct cli_option *all)
{
    if (o->type == CLI_CHOICE)
        offer_choices(a, o->arg);
    else
        offer_kind(a, pd_str_of(o->arg), all);
}

/* ---- operands: from the synopsis ------------------------------------------------------------- */

/* The next word of *rest. */
static struct pd_str next_word(struct pd_str *rest)
{
    struct pd_str s = pd_str_trim(*rest), word;
    ptrdiff_t end = pd_str_find(s, PD_STR(" "));

    word = pd_str_sub(s, 0, end < 0 ? s.len : (size_t)end);
    *rest = pd_str_sub(s, word.len, s.len);
    return word;
}

static bool is_name(struct pd_str word) /* not an argument: those are in capitals or brackets */
{
    return word.len && word.ptr[0] >= 'a' && word.ptr[0] <= 'z';
}

/* "verb one A | two [B…]": operands so far, then the word that is asked about. */
static void offer_operand(const struct asked *a, const char *synopsis, char **operands, size_t n,
                          const struct cli_option *all)
{
    struct pd_str rest = pd_str_of(synopsis);

    next_word(&rest); /* the verb */
    for (bool more = true; more;) {
        ptrdiff_t bar = pd_str_find(rest, PD_STR(" | "));
        struct pd_str one = pd_str_sub(rest, 0, bar < 0 ? rest.len : (size_t)bar);
        struct pd_str word = next_word(&one);
        size_t at = 0;

        more = bar >= 0;
        rest = pd_str_sub(rest, (size_t)bar + 3, rest.len);
        if (is_name(word) && pd_str_find(word, PD_STR("|")) >= 0) { /* bash|zsh|fish */
            char *choices = n == 0 ? pd_str_dup(word) : NULL;

            if (choices)
                offer_choices(a, choices);
            free(choices);
            continue;
        }
        if (is_name(word)) {
            char *name = pd_str_dup(word);

            if (name && n == 0)
                offer(a, name, "", NULL);
            at = name && n > 0 && strcmp(name, operands[0]) == 0 ? 1 : SIZE_MAX;
            free(name);
            if (at == SIZE_MAX)
                continue;
            word = next_word(&one);
        }
        for (bool again = false; word.len; word = again ? word : next_word(&one), at++) {
            bool optional = pd_str_starts(word, PD_STR("["));
            struct pd_str kind = pd_str_sub(word, optional, word.len - optional);

            if (pd_str_starts(word, PD_STR("[options]")))
                break;
            again = pd_str_ends(kind, PD_STR("…"));
            if (again)
                kind.len -= sizeof "…" - 1;
            if (at == n) {
                offer_kind(a, kind, all);
                break;
            }
            if (again && at > n)
                break;
        }
    }
}

/* ---- options --------------------------------------------------------------------------------- */

static bool takes_argument(const struct cli_option *o)
{
    return o->type != CLI_FLAG && o->type != CLI_COUNT;
}

/* The row of "--name", "--name=value", "-x" or "-xvalue", and the value in the word, or NULL. */
static struct cli_option *row_of(struct cli_option *all, const char *word, const char **out_value)
{
    const char *name = word + 2;
    size_t n = strcspn(name, "=");

    *out_value = NULL;
    for (; all->name; all++) {
        if (word[1] != '-' && all->letter == word[1]) {
            *out_value = word[2] ? word + 2 : NULL;
            return all;
        }
        if (word[1] == '-' && strlen(all->name) == n && strncmp(all->name, name, n) == 0) {
            *out_value = name[n] ? name + n + 1 : NULL;
            return all;
        }
    }
    return NULL;
}

/* Whether the option is one of the verb's part `part` ("" : none was said so far): its help begins
 * with the parts that it is for. */
static bool is_for(const struct cli_option *o, const char *synopsis, const char *part)
{
    size_t n = strcspn(o->help, ": ");
    char *name = o->help[n] == ':' || strncmp(o->help + n, " --", 3) == 0
                     ? pd_str_dup((struct pd_str){o->help, n})
                     : NULL;
    bool other = name && synopsis && strstr(synopsis, name) && strcmp(name, part) != 0;

    free(name);
    return !other;
}

static void offer_names(const struct asked *a, const struct cli_option *all, const char *synopsis,
                        const char *part)
{
    char name[80];

    for (; all->name; all++)
        if (is_for(all, synopsis, part)) {
            snprintf(name, sizeof name, "--%s", all->name);
            offer(a, name, "", all->help);
        }
}

/* The last word is of an option: "--sho", "--show=tr". */
static void offer_option(const struct asked *a, struct cli_option *all, const char *synopsis,
                         const char *part)
{
    const char *value;
    const struct cli_option *o = strchr(a->word, '=') ? row_of(all, a->word, &value) : NULL;
    char before[80];

    if (!strchr(a->word, '=')) {
        offer_names(a, all, synopsis, part);
    } else if (o && takes_argument(o) && value) {
        snprintf(before, sizeof before, "--%s=", o->name);
        offer_argument(&(struct asked){a->cli, before, value}, o, all);
    }
}

int cli_complete(struct cli *cli, int argc, char **argv, struct cli_option *all,
                 const char *synopsis)
{
    struct asked a = {cli, "", argv[argc - 1]};
    struct cli_option *wants = NULL; /* its argument is the next word */
    char *operands[MAX_WORDS];
    bool options = true; /* no "--" so far */
    const char *value;
    size_t n = 0;

    for (int i = 1; i + 1 < argc; i++) {
        if (wants) {
            (void)cli_set_value(wants, argv[i], NULL);
            wants = NULL;
        } else if (options && strcmp(argv[i], "--") == 0) {
            options = false;
        } else if (options && argv[i][0] == '-' && argv[i][1]) {
            struct cli_option *o = row_of(all, argv[i], &value);

            if (o && takes_argument(o) && value)
                (void)cli_set_value(o, value, NULL);
            else if (o && takes_argument(o))
                wants = o;
        } else if (!synopsis) {
            return i;
        } else if (n < MAX_WORDS) {
            operands[n++] = argv[i];
        }
    }
    if (wants)
        offer_argument(&a, wants, all);
    else if (options && a.word[0] == '-')
        offer_option(&a, all, synopsis, n ? operands[0] : "");
    else if (synopsis)
        offer_operand(&a, synopsis, operands, n, all);
    else
        return argc - 1;
    return argc;
}

void cli_complete_verb(const char *word, const char *name, const char *summary)
{
    offer(&(struct asked){NULL, "", word}, name, "", summary);
}

/* ---- the verb: the shells' scripts ----------------------------------------------------------- */

static const char bash_script[] =
#include "cli/completion/bash.inc"
    ;
static const char zsh_script[] =
#include "cli/completion/zsh.inc"
    ;
static const char fish_script[] =
#include "cli/completion/fish.inc"
    ;

int cli_completion(struct cli *cli, int argc, char **argv, struct pd_err *err)
{
    static const struct cli_usage usage_text = {
        "completion bash|zsh|fish",
        "Prints what makes the shell complete verbs, options, models, strategies and their "
        "options, "
        "and jobs: source <(ponder completion bash). Installed packages have it already.",
    };
    static const struct {
        const char *shell, *script;
    } scripts[] = {{"bash", bash_script}, {"zsh", zsh_script}, {"fish", fish_script}};
    struct cli_option none = {NULL, 0, CLI_FLAG, NULL, NULL, NULL, 0, 0, false, false};
    int n = cli_options(cli, argc, argv, &none, &usage_text, err);

    if (n < 0 || cli->help)
        return n < 0 ? n : CLI_EXIT_OK;
    for (size_t i = 0; n == 1 && i < sizeof scripts / sizeof *scripts; i++)
        if (strcmp(scripts[i].shell, argv[1]) == 0) {
            fputs(scripts[i].script, stdout);
            return CLI_EXIT_OK;
        }
    return pd_fail(err, PD_EINVAL, "completion needs bash, zsh or fish");
}
