#include "cli/cli.h"

static void step_lines(const struct pd_result *r)
{
    FILE *f = stdout;

    for (size_t i = 0; i < r->n_steps; i++) {
        const struct pd_result_step *step = &r->steps[i];

        printf("%2zu. %s", i + 1, cli_dim(f));
        if (step->score >= 0)
            printf("[%.2f]", step->score);
        else
            printf("[ -- ]");
        printf("%s ", cli_plain(f));
        cli_text(f, pd_str_trim(step->text), 11);
        putchar('\n');
    }
    if (r->n_steps > 0)
        putchar('\n');
}

const char *cli_verdict(const char *answer, int correct)
{
    return !answer || correct < 0 ? "" : correct == 1 ? "  (correct)" : "  (wrong)";
}

static void ledger(const struct pd_job *job, const struct pd_result *r, bool replayed)
{
    const struct pd_usage *u = &r->usage;
    double seconds = (double)r->elapsed_ns / (double)PD_NS_PER_S;

    printf("tokens   %llu generated (%llu discarded), %llu prefilled, %llu cached, %llu scored\n",
           (unsigned long long)u->generated, (unsigned long long)u->discarded,
           (unsigned long long)u->prefilled, (unsigned long long)u->cached,
           (unsigned long long)u->scored);
    if (!replayed)
        printf("time     %.2f s, %.0f tokens/s\n", seconds,
               seconds > 0 ? (double)u->generated / seconds : 0.0);
    printf("search   %s on %s%s%s%s%s, seed %llu, stopped by %s", job->strategy->name, job->model,
           job->draft ? " drafted by " : "", job->draft ? job->draft : "",
           job->scorer ? " scored by " : "", job->scorer ? job->scorer : "",
           (unsigned long long)job->seed, r->stopped_by ? r->stopped_by : "nothing");
    if (r->cut && strcmp(r->cut, r->stopped_by) != 0)
        printf("; the budget of %s cut lines short", r->cut);
    putchar('\n');
}

static void usage_by_operation(const struct pd_result *r)
{
    static const char *const ops[] = {"generate", "prefill", "score", "read"};

    for (size_t i = 0; i < sizeof(ops) / sizeof(ops[0]); i++) {
        unsigned long long n = 0, prompt = 0, cached = 0, generated = 0;

        for (size_t k = 0; k < r->trace.n_calls; k++) {
            const struct pd_call_rec *c = &r->trace.calls[k];

            if (strcmp(c->op, ops[i]) != 0)
                continue;
            n++;
            prompt += c->prompt_tokens;
            cached += c->cached_tokens;
            generated += c->generated_tokens;
        }
        printf("%-8s %llu calls, %llu prompt tokens (%llu cached), %llu generated\n", ops[i], n,
               prompt, cached, generated);
    }
    printf("longest  %llu dependent decode steps; %llu nodes scored\n",
           (unsigned long long)r->usage.sequential, (unsigned long long)r->usage.scorer_passes);
}

static bool has_option(const struct pd_strategy *s, const char *name)
{
    const struct pd_param *p = s->params;

    while (p && p->type != PD_PARAM_END && strcmp(p->name, name) != 0)
        p++;
    return p && p->type != PD_PARAM_END;
}

static void hints(const struct pd_job *job)
{
    printf("\n%snext     ponder trace show %s\n         ponder replay %s --verify\n"
           "         another seed: --seed %llu%s%s\n",
           cli_dim(stdout), job->id, job->id, (unsigned long long)job->seed + 1,
           has_option(job->strategy, "vote") ? "; no vote: -o vote=none" : "", cli_plain(stdout));
}

void cli_show_result(const struct cli *cli, const struct pd_job *job, const struct pd_result *r,
                     const struct cli_shown *what)
{
    FILE *f = stdout;
    bool brief = !what->tree && !what->steps;
    struct pd_err err;

    if (brief) {
        if (r->answer) {
            cli_text(f, pd_str_of(r->answer), 0);
            putchar('\n');
        }
        if (!what->usage)
            return;
    }
    if (what->tree && cli_tree(f, &r->trace, &err) < 0)
        cli_message(cli, "warning", err.text);
    if (what->tree)
        putchar('\n');
    if (what->steps)
        step_lines(r);
    if (!brief) {
        printf("answer   %s", cli_bold(f));
        cli_text(f, pd_str_of(r->answer ? r->answer : "none"), 9);
        printf("%s%s\n", cli_plain(f),
               r->correct == 1   ? "  (correct)"
               : r->correct == 0 ? "  (wrong)"
                                 : "");
        if (r->verdict)
            printf("grading  %s: %s\n", r->verdict, r->reason);
        printf("support  %u of %u lines agree\n", r->agree, r->of);
        if (r->confidence >= 0)
            printf("confidence %.2f that it is right, by the scorer's calibration\n",
                   r->confidence);
    }
    ledger(job, r, what->replayed);
    if (what->usage)
        usage_by_operation(r);
    if (r->digest[0] != '\0')
        printf("digest   %s\n", r->digest);
    if (!what->traced)
        return;
    printf("trace    %s\n", job->id);
    if (!cli->quiet && !brief && !what->replayed)
        hints(job);
}
