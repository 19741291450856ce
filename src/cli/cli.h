/* What the verbs of `ponder` share: options, messages, output, running a job. */
#ifndef PD_CLI_CLI_H
#define PD_CLI_CLI_H

#include <stdio.h>

#include "app/settings.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/json.h"

/* Exit codes that are not a pd_code of their own (see cli_exit_code). */
enum cli_exit {
    CLI_EXIT_OK = 0,
    CLI_EXIT_NEGATIVE = 1,
    CLI_EXIT_USAGE = 2,
    CLI_EXIT_BUDGET = 5,
    CLI_EXIT_INTERNAL = 70,
    CLI_EXIT_SIGNAL = 128, /* plus the signal's number */
};

struct cli { /* one run of the program */
    const char *verb;
    bool json, quiet, help, version;
    int verbose;
    const char *log_format, *config, *host;
    bool host_given;  /* on the command line, not by PONDER_HOST */
    bool remote;      /* set by verbs that can talk to a daemon */
    bool no_settings; /* set by verbs that read the configuration themselves */
    bool completing;  /* the words are of a line that is being typed, see complete.c */
};

/* A verb returns its exit code, or a negative pd_code with err filled: main prints and maps it. */
typedef int cli_verb_fn(struct cli *cli, int argc, char **argv, struct pd_err *err);
cli_verb_fn cli_solve, cli_run, cli_runs, cli_report, cli_replay, cli_trace, cli_model, cli_bench,
    cli_config, cli_tokenize, cli_detokenize, cli_completion, cli_doctor, cli_engine, cli_job,
    cli_mcp, cli_score, cli_serve, cli_top;

/* ---- options.c: one table row is parser, PONDER_* variable and help ------------------------- */

enum cli_type {
    CLI_FLAG,    /* bool */
    CLI_COUNT,   /* int, one more each time */
    CLI_TEXT,    /* const char * */
    CLI_CHOICE,  /* const char *, one of arg: "a|b|c" */
    CLI_NUMBER,  /* uint64_t in [min,max] */
    CLI_SECONDS, /* double, more than 0 */
    CLI_SIZE,    /* uint64_t bytes: 512MiB, 6GB */
    CLI_LIST,    /* struct cli_list, repeatable */
    CLI_NUMBERS, /* struct cli_numbers, each in [min,max]: 1,2,4 */
};

#define CLI_VARIABLE_MAX 64
#define CLI_LIST_MAX     64
struct cli_list {
    const char *items[CLI_LIST_MAX];
    size_t n;
    char *owned; /* what came from the environment; free() it */
};

#define CLI_NUMBERS_MAX 32
struct cli_numbers {
    uint64_t v[CLI_NUMBERS_MAX];
    size_t n;
};

struct cli_option {
    const char *name;
    char letter; /* 0: none */
    enum cli_type type;
    void *to;
    const char *arg, *help;
    uint64_t min, max;
    bool of_job; /* part of what determines a job: cannot be changed on a stored one */
    bool given;  /* stood on the command line */
};

struct cli_usage {
    const char *synopsis; /* "solve [QUESTION] [options]" */
    const char *about;
};

/* Parses argv (argv[0] is the verb) against table (ends with a NULL name) and the global options;
 * what the command line does not say comes from the environment. Returns the number of operands,
 * which are moved to argv[1]…, or a negative pd_code. Prints the help and sets cli->help when that
 * is asked. */
int cli_options(struct cli *cli, int argc, char **argv, struct cli_option *table,
                const struct cli_usage *usage, struct pd_err *err);
/* The same for the options before the verb; returns the index of the verb (argc: none). */
int cli_global_options(struct cli *cli, int argc, char **argv, struct pd_err *err);
void cli_global_help(void);
int cli_no_memory(struct pd_err *err);
/* The value of an option's variable, PONDER_MAX_QUEUE of "max-queue", with its name; NULL: not set.
 */
const char *cli_variable(const char *option, char name[CLI_VARIABLE_MAX]);
/* Adds the items of "a=1,b=2", between commas or blanks; what: how the user knows the list. */
int cli_list_split(struct cli_list *list, const char *what, const char *value, struct pd_err *err);

/* ---- config.c ----------------------------------------------------------------------------------
 */

/* The files, with the variables over them. */
int cli_settings(const struct cli *cli, struct settings **out, struct pd_err *err);

int cli_set_value(struct cli_option *o, const char *value, struct pd_err *err);

/* ---- complete.c --------------------------------------------------------------------------------
 */

/* Prints what argv's last word may become: an option of all, an option's argument, or an operand as
 * the synopsis has it. With synopsis NULL the words are those before a verb, and what is returned
 * is the index of the first that is no option; argc: the last word was one. */
int cli_complete(struct cli *cli, int argc, char **argv, struct cli_option *all,
                 const char *synopsis);
/* Prints the verb if it begins with word. */
void cli_complete_verb(const char *word, const char *name, const char *summary);

/* ---- ui.c --------------------------------------------------------------------------------------
 */

int cli_exit_code(int code); /* of a negative pd_code */
bool cli_fancy(FILE *f);     /* a terminal, and NO_COLOR is unset */
bool cli_speaks_utf8(void);  /* by its locale */
const char *cli_bold(FILE *f), *cli_dim(FILE *f), *cli_plain(FILE *f); /* "" when not fancy */
/* Text from models and files: control characters and bad UTF-8 are escaped; newlines are kept with
 * `indent` blanks behind them, or shown as \n when indent is negative. */
void cli_text(FILE *f, struct pd_str text, int indent);
/* One line of at most max characters. */
void cli_text_line(FILE *f, struct pd_str text, size_t max);
void cli_message(const struct cli *cli, const char *level,
                 const char *text);    /* ponder: … on stderr */
uint64_t cli_resident_bytes(void);     /* memory of this process; 0: not known */
void cli_print_json(struct pd_buf *b); /* a line on stdout */
void cli_print_bytes(struct pd_str s); /* exact, unless stdout is a terminal */
/* The operand's text, else -f's, else standard input's when it is not a terminal; PD_EINVAL: none.
 */
int cli_input(const char *operand, const char *file, struct pd_buf *out, struct pd_err *err);

/* ---- progress.c: a job under SIGINT and SIGTERM, with progress
 * --------------------------------------
 */

void cli_block_signals(void); /* before the first thread starts */
int cli_signal_pending(void); /* a blocked one that has come since, or 0 */
void cli_wipe_line(void);     /* of progress, on a terminal */
const char *cli_grouped(unsigned long long n, char text[32]); /* 12,345 */
/* Returns the job's code; *out_signal is what cancelled it, or 0. */
int cli_run_job(const struct cli *cli, struct app_job *job, const struct pd_result **out_result,
                int *out_signal, struct pd_err *err);

/* ---- remote.c: questions to a daemon -----------------------------------------------------------
 */

struct client;
/* The body of POST /v1/jobs that means this request; problem_key and truth have no place there. */
int cli_request_body(const struct app_request *r, int64_t priority, struct pd_buf *out,
                     struct pd_err *err);
/* Submits a body; the daemon's answer, a job as JSON, is left in out, its id in id. key NULL: none.
 */
int cli_submit(struct client *c, struct pd_str body, const char *key, char id[PD_JOB_ID_MAX],
               struct pd_buf *out, struct pd_err *err);
/* Returns when the job has come to its end, or rests as paused (PD_ECANCEL). */
int cli_follow(struct client *c, const char *id, struct pd_err *err);
/* "/v1/jobs/ID" and more behind it, escaped. malloc'ed; NULL: out of memory. */
char *cli_job_path(const char *id, const char *more);
/* The same of another kind: "/v1/models". */
char *cli_path(const char *kind, const char *id, const char *more);
struct cli_remote { /* of `solve`: what is asked and what is to be seen */
    const struct app_request *request;
    const char *resume; /* a job's id in place of the request */
    const char *show;
    bool usage, shows_question;
    bool expects; /* another answer than request->expect is a negative result */
};
/* Returns as cli_solve does. */
int cli_solve_remote(struct cli *cli, const struct cli_remote *s, struct pd_err *err);

/* ---- perplexity.c: bench --perplexity ----------------------------------------------------------
 */

/* Of the text in file ("-": standard input), in chunks of n_ctx tokens: printed. */
int cli_perplexity(const struct cli *cli, const struct eng_config *config, const char *model,
                   const char *file, uint64_t n_ctx, struct pd_err *err);

/* ---- show.c, tree.c ----------------------------------------------------------------------------
 */

struct cli_shown {
    bool traced;      /* it is in the database */
    bool replayed;    /* not new: no hints, and its time says nothing */
    bool usage;       /* more about the work */
    bool tree, steps; /* neither: the answer alone */
};
void cli_show_result(const struct cli *cli, const struct pd_job *job, const struct pd_result *r,
                     const struct cli_shown *what);
const char *cli_verdict(const char *answer, int correct); /* "  (correct)", "  (wrong)" or "" */
int cli_tree(FILE *f, const struct pd_trace *t, struct pd_err *err);

#endif
