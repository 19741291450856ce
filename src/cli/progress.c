#include "cli/cli.h"

#include <signal.h>
#include <unistd.h>

#define SLICE_NS     (100 * PD_NS_PER_MS)
#define LOG_EVERY_NS (10 * PD_NS_PER_S)

static void wanted_signals(sigset_t *set)
{
    sigemptyset(set);
    sigaddset(set, SIGINT);
    sigaddset(set, SIGTERM);
}

void cli_block_signals(void)
{
    sigset_t set;

    wanted_signals(&set);
    sigprocmask(SIG_BLOCK, &set, NULL);
}

int cli_signal_pending(void)
{
    const struct timespec at_once = {0, 0};
    sigset_t set;
    int sig;

    wanted_signals(&set);
    sig = sigtimedwait(&set, NULL, &at_once);
    return sig > 0 ? sig : 0;
}

struct watch {
    int64_t started_ns, logged_ns;
    bool terminal, drawn;
};

const char *cli_grouped(unsigned long long n, char text[32])
{
    char digits[24];
    int len = snprintf(digits, sizeof digits, "%llu", n), k = 0;

    for (int i = 0; i < len; i++) {
        if (i > 0 && (len - i) % 3 == 0)
            text[k++] = ',';
        text[k++] = digits[i];
    }
    text[k] = '\0';
    return text;
}

static void draw(const struct pd_job *job, unsigned live, unsigned long long tokens, double rate,
                 int seconds)
{
    unsigned steps = atomic_load(&job->progress.steps);
    double best = atomic_load(&job->progress.best);
    char text[32];

    fprintf(stderr, "\r\033[K%s", job->strategy->name);
    if (steps > 1)
        fprintf(stderr, "  step %u/%d", steps, job->common.max_steps);
    fprintf(stderr, "  live %u  tokens %s", live, cli_grouped(tokens, text));
    if (job->budget.tokens > 0)
        fprintf(stderr, "/%s", cli_grouped(job->budget.tokens, text));
    if (best > 0)
        fprintf(stderr, "  best %.3f", best);
    fprintf(stderr, "  %.0f tok/s  %d:%02d%s", rate, seconds / 60, seconds % 60,
            atomic_load(&job->progress.scoring) ? "  scoring" : "");
}

static void progress(struct watch *w, const struct pd_job *job)
{
    int64_t now = pd_clock_now_ns();
    double seconds = (double)(now - w->started_ns) / (double)PD_NS_PER_S;
    unsigned live = atomic_load(&job->progress.live);
    unsigned long long tokens = atomic_load(&job->progress.tokens);
    double rate = seconds > 0 ? (double)tokens / seconds : 0;

    if (w->terminal) {
        draw(job, live, tokens, rate, (int)seconds);
        w->drawn = true;
    } else if (now - w->logged_ns >= LOG_EVERY_NS) {
        fprintf(stderr,
                "strategy=%s step=%u live=%u nodes=%u tokens=%llu best=%.3f tok_s=%.0f "
                "elapsed_s=%.0f\n",
                job->strategy->name, atomic_load(&job->progress.steps), live,
                atomic_load(&job->progress.nodes), tokens, atomic_load(&job->progress.best), rate,
                seconds);
        w->logged_ns = now;
    }
}

void cli_wipe_line(void)
{
    fputs("\r\033[K", stderr);
}

static void wipe(struct watch *w)
{
    if (w->drawn)
        cli_wipe_line();
    w->drawn = false;
}

int cli_run_job(const struct cli *cli, struct app_job *job, const struct pd_result **out_result,
                int *out_signal, struct pd_err *err)
{
    struct watch w = {.started_ns = pd_clock_now_ns(), .terminal = cli_fancy(stderr)};
    int rc;

    *out_signal = 0;
    *out_result = NULL;
    w.logged_ns = w.started_ns;
    rc = app_job_start(job, err);
    if (rc < 0)
        return rc;
    while ((rc = app_job_wait(job, pd_clock_now_ns() + SLICE_NS, out_result, err)) == PD_ETIMEOUT) {
        int sig = cli_signal_pending();

        if (sig > 0 && *out_signal != 0) {
            wipe(&w);
            cli_message(cli, "error", "aborted");
            _exit(CLI_EXIT_SIGNAL + sig); /* the database stays as its last commit left it */
        }
        if (sig > 0) {
            *out_signal = sig;
            app_job_cancel(job);
        }
        if (!cli->quiet)
            progress(&w, app_job_core(job));
    }
    wipe(&w);
    return rc;
}
