/* The program `ponder`: finds the verb, prints what went wrong, says so in the exit code. */
#include "cli/cli.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

static const struct {
    const char *name;
    cli_verb_fn *run;
    const char *summary;
} verbs[] = {
    {"solve", cli_solve, "answer one question by search"},
    {"run", cli_run, "run an experiment: a recipe's strategies on its problems"},
    {"runs", cli_runs, "list, show, compare and remove experiments"},
    {"report", cli_report, "show what runs came to: tables, charts, HTML"},
    {"score", cli_score, "score steps; measure and calibrate a scorer on labelled ones"},
    {"serve", cli_serve, "run the daemon: jobs over a local socket"},
    {"replay", cli_replay, "run a stored job again from its record, or against it"},
    {"mcp", cli_mcp, "Model Context Protocol on standard input and output, by a daemon"},
    {"job", cli_job, "submit jobs to a daemon, follow and steer them"},
    {"top", cli_top, "watch what a daemon is doing"},
    {"trace", cli_trace, "list, show, export and check what jobs did"},
    {"model", cli_model, "list and show models"},
    {"engine", cli_engine, "list engines elsewhere, and ask them what they have"},
    {"config", cli_config, "show and check the configuration"},
    {"bench", cli_bench, "measure the engine against this machine's limits"},
    {"tokenize", cli_tokenize, "text to token ids"},
    {"detokenize", cli_detokenize, "token ids to text"},
    {"doctor", cli_doctor, "check this machine and installation"},
    {"completion", cli_completion, "completion of these words in bash, zsh or fish"},
};
#define N_VERBS (sizeof(verbs) / sizeof(verbs[0]))

static void help(void)
{
    puts("usage: ponder VERB [options] [arguments]\n"
         "Answers questions with a local language model by searching over lines of "
         "thought.\n\nVerbs:");
    for (size_t i = 0; i < N_VERBS; i++)
        printf("  %-12s %s\n", verbs[i].name, verbs[i].summary);
    cli_global_help();
    puts("`ponder VERB --help` tells more.");
}

static int run(struct cli *cli, int argc, char **argv, struct pd_err *err)
{
    int at;

    cli->completing = argc > 2 && strcmp(argv[1], "__complete") == 0;
    if (cli->completing) {
        argc--;
        argv++;
    }
    at = cli_global_options(cli, argc, argv, err);
    if (at < 0)
        return at;
    if (cli->completing && at == argc - 1)
        for (size_t i = 0; i < N_VERBS; i++)
            cli_complete_verb(argv[at], verbs[i].name, verbs[i].summary);
    if (cli->completing && at >= argc - 1)
        return CLI_EXIT_OK;
    if (cli->version) {
        puts("ponder " PONDER_VERSION);
        return CLI_EXIT_OK;
    }
    if (cli->help) {
        help();
        return CLI_EXIT_OK;
    }
    if (at == argc)
        return pd_fail(err, PD_EINVAL, "no verb given (see ponder --help)");
    for (size_t i = 0; i < N_VERBS; i++)
        if (strcmp(argv[at], verbs[i].name) == 0) {
            cli->verb = verbs[i].name;
            return verbs[i].run(cli, argc - at, argv + at, err);
        }
    return pd_fail(err, PD_EINVAL, "unknown verb '%s' (see ponder --help)", argv[at]);
}

/* A descriptor that was closed for us must not become the database's: writing there fails instead.
 */
static void hold_standard_files(void)
{
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
        if (fcntl(fd, F_GETFD) < 0 && errno == EBADF)
            (void)!open("/dev/null", fd == STDIN_FILENO ? O_WRONLY : O_RDONLY);
}

int main(int argc, char **argv)
{
    struct cli cli = {0};
    struct pd_err err = {0};
    int rc;

    hold_standard_files();
    signal(SIGPIPE, SIG_IGN);
    rc = run(&cli, argc, argv, &err);
    if (rc < 0) {
        cli_message(&cli, "error",
                    err.text[0] != '\0' ? err.text : "internal error, please report it");
        rc = cli_exit_code(rc);
    }
    if (fflush(stdout) != 0 || ferror(stdout)) {
        int e = errno;

        pd_fail_errno(&err, e, "cannot write to standard output");
        if (e != EPIPE) /* `| head` has seen enough: that is no news */
            cli_message(&cli, "error", err.text);
        rc = rc == CLI_EXIT_OK ? cli_exit_code(PD_EIO) : rc;
    }
    return rc;
}
