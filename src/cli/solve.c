#include "cli/cli.h"

#include <stdlib.h>
#include <unistd.h>

#define SEED_MAX          ((UINT64_C(1) << 53) - 1)
#define THREADS_MAX       1024
#define UNSAID            UINT64_MAX
#define PROFILE_MAX_BYTES (1u << 20)

struct solve {
    const char *file, *problem, *model, *draft, *chat_template, *kv_type, *strategy, *scorer,
        *wrap_up, *system, *schema, *grammar, *constrain_after, *show, *expect, *grade, *data_dir,
        *resume;
    struct cli_list options;
    uint64_t budget_tokens, budget_nodes, budget_samples, seed, repeat, threads, prefill_chunk,
        memory_limit;
    double budget_seconds;
    bool usage, no_trace, strategies, no_daemon;
    /* of a bundled problem */
    char *question, *answer, *truth;
    struct pd_form form;
    struct pd_buf form_text;
    struct pd_buf text;
    enum pd_grade how; /* grade by its name */
    const char *abstain_below;
};

static const struct cli_usage usage_text = {
    "solve [QUESTION] [options]",
    "Answers one question: the argument, else -f FILE, else the bundled problem of -p ID, else "
    "standard input.",
};

static void list_strategies(bool json)
{
    struct pd_buf out = PD_BUF_INIT(1u << 20);
    struct pd_jw w;

    pd_jw_init(&w, &out);
    if (json)
        pd_jw_array(&w);
    for (size_t i = 0; pd_strategies[i]; i++) {
        const struct pd_strategy *s = pd_strategies[i];
        struct pd_buf options = PD_BUF_INIT(65536);

        pd_params_help(s->params, &options);
        if (json) {
            pd_jw_object(&w);
            pd_jw_put_text(&w, "name", s->name);
            pd_jw_put_text(&w, "summary", s->summary);
            pd_jw_put_text(&w, "paper", s->paper);
            pd_jw_put_str(&w, "options", pd_buf_str(&options));
            pd_jw_end_object(&w);
        } else {
            printf("%s: %s%s%s\n%s\n", s->name, s->summary, s->paper ? ", " : "",
                   s->paper ? s->paper : "", pd_buf_str(&options).ptr);
        }
        pd_buf_done(&options);
    }
    if (json) {
        pd_jw_end_array(&w);
        cli_print_json(&out);
    } else {
        pd_params_help(pd_common_params, &out);
        pd_params_help(app_decode_params, &out);
        pd_params_help(app_steering_params, &out);
        printf("every strategy:\n%s", pd_buf_str(&out).ptr);
    }
    pd_buf_done(&out);
}

static bool given(const struct cli_option *table, const char *name)
{
    while (table->name && strcmp(table->name, name) != 0)
        table++;
    return table->name && table->given;
}

/* Argument, -f, bundled problem, standard input. What stands on the command line beats a variable.
 */
static int find_question(struct solve *o, const struct cli_option *table, const char *operand,
                         struct pd_err *err)
{
    bool from_file = o->file && (!given(table, "problem") || given(table, "file"));
    struct pd_str trimmed;
    char *text;
    int rc;

    if (!operand && !from_file && o->problem)
        return app_find_problem(o->problem, &o->question, &o->answer, &o->truth, err);
    if (!operand && !from_file && isatty(STDIN_FILENO))
        return pd_fail(err, PD_EINVAL,
                       "no question: give it as an argument, with -f FILE, -p ID or on "
                       "standard input (see ponder solve --help)");
    rc = cli_input(operand, from_file ? o->file : NULL, &o->text, err);
    if (rc < 0)
        return rc;
    trimmed = pd_str_trim(pd_buf_str(&o->text));
    if (trimmed.len == 0)
        return pd_fail(err, PD_EINVAL, "no question: the text is empty (see ponder solve --help)");
    if (!pd_utf8_valid(trimmed) || memchr(trimmed.ptr, '\0', trimmed.len))
        return pd_fail(err, PD_EFORMAT, "the question is not valid UTF-8 text");
    o->problem = NULL;
    text = pd_str_dup(trimmed);
    if (!text)
        return cli_no_memory(err);
    o->question = text;
    return 0;
}

/* The form that the answer is to have. */
static int find_form(struct solve *o, struct pd_err *err)
{
    const char *file = o->schema ? o->schema : o->grammar;
    struct pd_json *json = NULL;
    int rc;

    if (o->schema && o->grammar)
        return pd_fail(err, PD_EINVAL, "--schema and --grammar exclude each other");
    if (!file)
        return o->constrain_after
                   ? pd_fail(err, PD_EINVAL, "--constrain-after needs --schema or --grammar")
                   : 0;
    o->form_text = PD_BUF_INIT(ENG_GRAMMAR_MAX_BYTES);
    rc = pd_read_file(file, &o->form_text, err);
    if (rc == 0 && o->schema && (rc = pd_json_parse(pd_buf_str(&o->form_text), &json, err)) < 0)
        pd_err_context(err, "in '%s'", file);
    pd_json_free(json);
    if (rc < 0)
        return rc;
    if (!pd_utf8_valid(pd_buf_str(&o->form_text)) ||
        memchr(pd_buf_str(&o->form_text).ptr, '\0', o->form_text.len))
        return pd_fail(err, PD_EFORMAT, "'%s' is not valid UTF-8 text", file);
    o->form = (struct pd_form){.schema = o->schema != NULL,
                               .text = pd_buf_str(&o->form_text).ptr,
                               .after = o->constrain_after};
    return 0;
}

static struct app_request request_of(const struct solve *o)
{
    return (struct app_request){
        .question = o->question,
        .grade = o->how,
        .system = o->system,
        .problem_key = o->problem,
        .expect = o->expect ? o->expect : o->answer,
        .model = o->model,
        .draft = o->draft,
        .chat_template = o->chat_template,
        .kv_type = o->kv_type,
        .scorer = o->scorer,
        .truth = o->truth,
        .strategy = o->strategy,
        .options = o->options.items,
        .n_options = o->options.n,
        .seed = o->seed,
        .repeat = (uint32_t)o->repeat,
        .budget = {.tokens = o->budget_tokens,
                   .seconds = o->budget_seconds,
                   .nodes = o->budget_nodes,
                   .wrap_up = o->wrap_up},
        .budget_samples = o->budget_samples,
        .form = o->form.text ? &o->form : NULL,
    };
}

/* MODEL@PROFILE, or MODEL@STRATEGY as the daemon takes it too. */
static int take_profile(struct app_request *r, const struct settings *s, struct pd_arena *a,
                        struct pd_err *err)
{
    const char *at = r->model && !strchr(r->model, '/') ? strchr(r->model, '@') : NULL;
    const struct settings_profile *p = at ? settings_profile(s, at + 1) : NULL;

    if (!at)
        return 0;
    if (r->strategy)
        return pd_fail(err, PD_EINVAL, "the strategy is given twice: -m %s and -s %s", r->model,
                       r->strategy);
    if (!p && !pd_strategy_find(at + 1))
        return pd_fail(err, PD_EINVAL,
                       "there is no profile or strategy '%s' ('ponder config show' lists profiles, "
                       "'ponder solve --strategies' strategies)",
                       at + 1);
    r->strategy = at + 1;
    r->model =
        at == r->model ? NULL : pd_arena_dup(a, (struct pd_str){r->model, (size_t)(at - r->model)});
    if (!r->model && at != r->model)
        return cli_no_memory(err);
    return p ? settings_apply(p, -1, a, r, err) : 0;
}

static int new_job(const struct solve *o, struct app *a, struct app_job **out, struct pd_err *err)
{
    struct app_request r = request_of(o);
    struct settings *s = settings_current();
    struct pd_arena arena;
    int rc;

    if (o->abstain_below && (!pd_parse_double(pd_str_of(o->abstain_below), &r.abstain_below) ||
                             r.abstain_below <= 0 || r.abstain_below > 1)) {
        settings_unref(s);
        return pd_fail(err, PD_EINVAL, "--abstain-below is a probability, above 0 and up to 1");
    }
    if (!s)
        return cli_no_memory(err);
    pd_arena_init(&arena, PROFILE_MAX_BYTES);
    rc = take_profile(&r, s, &arena, err);
    if (rc == 0)
        rc = app_job_new(a, &r, out, err);
    pd_arena_done(&arena);
    settings_unref(s);
    return rc;
}

/* What a job that was stopped leaves: its id, to go on. */
static int stopped(const struct cli *cli, const struct pd_job *job, bool traced, int sig, int rc)
{
    char line[128];

    if (sig == 0)
        return rc;
    if (traced) {
        snprintf(line, sizeof(line), "resumable: ponder solve --resume %s", job->id);
        cli_message(cli, "info", line);
    } else {
        cli_message(cli, "info", "interrupted; nothing was recorded");
    }
    return CLI_EXIT_SIGNAL + sig;
}

static int print_result(const struct cli *cli, const struct solve *o, const struct pd_job *job,
                        const struct pd_result *r, bool traced, struct pd_err *err)
{
    const char *show = o->show ? o->show : "steps";
    struct cli_shown what = {
        .traced = traced,
        .replayed = job->mode == PD_JOB_RECORDED, /* the job was done already */
        .usage = o->usage,
        .tree = strcmp(show, "tree") == 0,
        .steps = strcmp(show, "answer") != 0,
    };
    struct pd_buf b = PD_BUF_INIT(SIZE_MAX - 1);
    struct pd_jw w;
    int rc = 0;

    if (!cli->json) {
        cli_show_result(cli, job, r, &what);
        return 0;
    }
    pd_jw_init(&w, &b);
    pd_jw_object(&w);
    app_result_json(&w, job, r, traced);
    pd_jw_end_object(&w);
    if (pd_buf_rc(&b) < 0)
        rc = cli_no_memory(err);
    else
        cli_print_json(&b);
    pd_buf_done(&b);
    return rc;
}

static void say_more(const struct app *a, const struct pd_job *job)
{
    const struct eng *e = app_engine(a);

    if (e) /* a job that is done needs none */
        fprintf(stderr, "ponder: engine %s kernels, %u threads, KV in %s\n", eng_isa_name(e),
                eng_n_threads(e), eng_kv_type_name(e));
    fprintf(stderr, "ponder: request %s\n", job->request);
    fprintf(stderr, "ponder: database %s\n", app_store(a) ? store_path(app_store(a)) : "none");
}

static struct app_config config_of(const struct solve *o, const struct settings *s)
{
    struct app_config c = settings_app(s);

    if (o->threads != UNSAID)
        c.n_threads = (unsigned)o->threads;
    if (o->prefill_chunk)
        c.prefill_chunk = (unsigned)o->prefill_chunk;
    if (o->memory_limit)
        c.memory_bytes = o->memory_limit;
    if (o->data_dir)
        c.data_dir = o->data_dir;
    c.no_trace = o->no_trace && !o->resume;
    return c;
}

static int solve(struct cli *cli, const struct solve *o, struct pd_err *err)
{
    struct settings *s = settings_current();
    struct app_config config;
    const struct pd_result *r = NULL;
    struct app *a = NULL;
    struct app_job *j = NULL;
    const struct pd_job *job;
    bool steps = !o->show || strcmp(o->show, "answer") != 0;
    int rc, printed, sig = 0;

    if (!s)
        return cli_no_memory(err);
    config = config_of(o, s);
    cli_block_signals();
    rc = app_open(&config, &a, err);
    settings_unref(s);
    if (rc == 0)
        rc = o->resume ? app_job_stored(a, o->resume, PD_JOB_RUN, &j, err) : new_job(o, a, &j, err);
    if (rc == 0) {
        job = app_job_core(j);
        if (cli->verbose)
            say_more(a, job);
        if (o->problem && !o->resume && steps && !cli->json && !cli->quiet) {
            cli_text(stdout, pd_str_of(o->question), 0);
            fputs("\n\n", stdout);
            fflush(stdout);
        }
        rc = cli_run_job(cli, j, &r, &sig, err);
        for (size_t i = 0; cli->verbose > 1 && r && i < r->trace.n_events; i++)
            fprintf(stderr, "ponder: %s %s\n", r->trace.events[i].type, r->trace.events[i].data);
        if (rc == 0 || (rc == PD_ECANCEL && r && cli->json)) {
            printed = print_result(cli, o, job, r, !config.no_trace, err);
            rc = printed < 0 ? printed : rc;
        }
        if (rc == PD_ECANCEL)
            rc = stopped(cli, job, !config.no_trace, sig, rc);
        else if (rc == 0 && !r->answer)
            rc = pd_fail(err, strcmp(r->stopped_by, "no_candidates") == 0 ? PD_EDIFFER : PD_EBUDGET,
                         "no answer: stopped by %s", r->stopped_by);
        else if (rc == 0 && o->expect && r->correct != 1)
            rc = CLI_EXIT_NEGATIVE;
    }
    app_job_free(j);
    app_close(a);
    return rc;
}

/* By the daemon that --host names. What is a matter of its own, the command line cannot say. */
static int solve_remote(struct cli *cli, const struct solve *o, const struct cli_option *table,
                        struct pd_err *err)
{
    static const char *const own[] = {"no-trace",      "data-dir",     "threads",
                                      "prefill-chunk", "memory-limit", NULL};
    const struct app_request r = request_of(o);
    const struct cli_remote s = {
        .request = &r,
        .resume = o->resume,
        .show = o->show,
        .usage = o->usage,
        .shows_question = o->problem && !o->resume && !cli->json && !cli->quiet &&
                          !(o->show && strcmp(o->show, "answer") == 0),
        .expects = o->expect,
    };

    for (size_t i = 0; own[i]; i++)
        if (given(table, own[i]))
            return pd_fail(err, PD_EINVAL, "--%s is the daemon's to decide: not with --host",
                           own[i]);
    if (o->abstain_below)
        return pd_fail(err, PD_EINVAL,
                       "--abstain-below: calibrations are this machine's: not with --host");
    if (o->truth && o->scorer && strncmp(o->scorer, "oracle", 6) == 0)
        return pd_fail(err, PD_EINVAL,
                       "--scorer %s knows the bundled problems of this machine "
                       "only: not with --host",
                       o->scorer);
    return cli_solve_remote(cli, &s, err);
}

int cli_solve(struct cli *cli, int argc, char **argv, struct pd_err *err)
{
    struct solve o = {.seed = 1, .threads = UNSAID};
    struct cli_option table[] = {
        {"file", 'f', CLI_TEXT, &o.file, "FILE",
         "read the question from FILE (- is standard input)", 0, 0, true, false},
        {"problem", 'p', CLI_TEXT, &o.problem, "PROBLEM", "a bundled problem, such as dev-0002", 0,
         0, true, false},
        {"model", 'm', CLI_TEXT, &o.model, "MODEL[@PROFILE]",
         "name or GGUF file (tiny-base), and a profile of the configuration", 0, 0, true, false},
        {"chat-template", 0, CLI_TEXT, &o.chat_template, "NAME|FILE",
         "of the prompt, in place of the model's (none: the question as it is)", 0, 0, true, false},
        {"kv-type", 0, CLI_CHOICE, &o.kv_type, "f32|f16|q8_0",
         "how the KV cache keeps numbers (f16); other types give other results", 0, 0, true, false},
        {"strategy", 's', CLI_TEXT, &o.strategy, "STRATEGY", "how to search (best_of_n)", 0, 0,
         true, false},
        {"option", 'o', CLI_LIST, &o.options, "KEY=VALUE", "option of the strategy (repeatable)", 0,
         0, true, false},
        {"scorer", 0, CLI_TEXT, &o.scorer, "MODEL",
         "reward model, name or GGUF file (tiny-prm), [:kind=KIND,…]; or oracle[:tpr=P,fpr=P]", 0,
         0, true, false},
        {"abstain-below", 0, CLI_TEXT, &o.abstain_below, "P",
         "no answer when its calibrated confidence is less (see ponder score)", 0, 0, true, false},
        {"draft", 0, CLI_TEXT, &o.draft, "MODEL", "drafting model, name or GGUF file (tiny-draft)",
         0, 0, true, false},
        {"budget-tokens", 0, CLI_NUMBER, &o.budget_tokens, "N", "generate at most N tokens", 1,
         SEED_MAX, true, false},
        {"budget-seconds", 0, CLI_SECONDS, &o.budget_seconds, "S", "search for at most S seconds",
         0, 0, true, false},
        {"budget-nodes", 0, CLI_NUMBER, &o.budget_nodes, "N", "grow at most N nodes", 1, SEED_MAX,
         true, false},
        {"budget-samples", 0, CLI_NUMBER, &o.budget_samples, "N", "draw N samples", 1, UINT32_MAX,
         true, false},
        {"wrap-up", 0, CLI_TEXT, &o.wrap_up, "TEXT", "forces an answer when the budget ends", 0, 0,
         true, false},
        {"seed", 0, CLI_NUMBER, &o.seed, "N", "same seed, same result (1)", 0, SEED_MAX, true,
         false},
        {"repeat", 0, CLI_NUMBER, &o.repeat, "N", "which repetition under this seed (0)", 0,
         UINT32_MAX, true, false},
        {"system", 0, CLI_TEXT, &o.system, "TEXT", "system message", 0, 0, true, false},
        {"schema", 0, CLI_TEXT, &o.schema, "FILE", "the answer fits this JSON Schema", 0, 0, true,
         false},
        {"grammar", 0, CLI_TEXT, &o.grammar, "FILE", "the answer fits this grammar (GBNF)", 0, 0,
         true, false},
        {"constrain-after", 0, CLI_TEXT, &o.constrain_after, "TEXT",
         "free text comes first, up to TEXT (</think>, if the model thinks)", 0, 0, true, false},
        {"expect", 0, CLI_TEXT, &o.expect, "ANSWER", "exit 1 when the answer differs", 0, 0, true,
         false},
        {"grade", 0, CLI_CHOICE, &o.grade, PD_GRADES, "how it is compared (exact)", 0, 0, true,
         false},
        {"no-trace", 0, CLI_FLAG, &o.no_trace, NULL, "record nothing", 0, 0, true, false},
        {"resume", 0, CLI_TEXT, &o.resume, "ID", "go on with a stored job", 0, 0, false, false},
        {"show", 0, CLI_CHOICE, &o.show, "tree|steps|answer", "how much to print", 0, 0, false,
         false},
        {"usage", 0, CLI_FLAG, &o.usage, NULL, "print the work by operation", 0, 0, false, false},
        {"data-dir", 0, CLI_TEXT, &o.data_dir, "DIR", "where traces are kept", 0, 0, false, false},
        {"threads", 0, CLI_NUMBER, &o.threads, "N", "compute threads (0: all CPUs)", 0, THREADS_MAX,
         false, false},
        {"prefill-chunk", 0, CLI_NUMBER, &o.prefill_chunk, "N", "prompt tokens a step (128)", 1,
         4096, false, false},
        {"memory-limit", 0, CLI_SIZE, &o.memory_limit, "SIZE",
         "ceiling of models, working space and KV cache: 6GB (10^9), 6GiB = 6G (2^30)", 1,
         INT64_MAX, false, false},
        {"no-daemon", 0, CLI_FLAG, &o.no_daemon, NULL, "work here, whatever PONDER_HOST says", 0, 0,
         false, false},
        {"strategies", 0, CLI_FLAG, &o.strategies, NULL, "list strategies and their options", 0, 0,
         false, false},
        {NULL, 0, CLI_FLAG, NULL, NULL, NULL, 0, 0, false, false},
    };
    int n, rc;

    cli->remote = true;
    n = cli_options(cli, argc, argv, table, &usage_text, err);
    rc = n < 0 ? n : 0;

    if (rc == 0 && cli->help)
        goto out;
    if (rc == 0 && o.strategies) {
        list_strategies(cli->json);
        goto out;
    }
    if (rc == 0 && n > 1)
        rc = pd_fail(err, PD_EINVAL,
                     "one question only: put it in quotes (see ponder solve --help)");
    for (size_t i = 0; rc == 0 && o.resume && table[i].name; i++)
        if (table[i].of_job && table[i].given)
            rc = pd_fail(err, PD_EINVAL, "--%s cannot be changed with --resume", table[i].name);
    if (rc == 0 && o.resume && n > 0)
        rc = pd_fail(err, PD_EINVAL, "--resume takes no question: the job has its own");
    if (rc == 0 && !o.resume)
        rc = find_question(&o, table, n > 0 ? argv[1] : NULL, err);
    if (rc == 0 && !o.resume)
        rc = find_form(&o, err);
    if (rc == 0 && o.grade)
        rc = pd_grade_find(o.grade, &o.how, err);
    if (rc == 0 && o.expect)
        rc = pd_grade_check(o.how, pd_str_of(o.expect), err);
    if (rc == 0)
        rc = cli->host && !o.no_daemon ? solve_remote(cli, &o, table, err) : solve(cli, &o, err);
out:
    free(o.options.owned);
    free(o.question);
    free(o.answer);
    free(o.truth);
    pd_buf_done(&o.text);
    pd_buf_done(&o.form_text);
    return rc;
}
