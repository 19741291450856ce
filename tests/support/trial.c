#include "tests/support/trial.h"

#include <assert.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include "base/hash.h"
#include "core/search_int.h"

extern const struct pd_verifier verifier_reward;

static void set_option(struct trial *t, const char *kv, size_t len)
{
    size_t eq = strcspn(kv, "=");
    struct pd_str key = {kv, eq}, value = {kv + eq + 1, len - eq - 1};
    int rc = PD_ENOENT;

    if (t->job.strategy->params)
        rc = pd_params_set(t->job.strategy->params, t->params, key, value, &t->err);
    if (rc == PD_ENOENT)
        rc = pd_params_set(pd_common_params, &t->job.common, key, value, &t->err);
    if (rc < 0)
        fail_msg("option '%.*s': %s", (int)len, kv, t->err.text);
}

static uint64_t root_key(const struct pd_job *j)
{
    uint64_t key = search_subkey(search_subkey(j->seed, j->repeat, 0), 0, 0);

    return search_subkey(key, pd_hash64(j->question, strlen(j->question)), 1);
}

void trial_init(struct trial *t, const struct pd_strategy *strategy, const char *options)
{
    *t = (struct trial){0};
    assert(strategy->params_size <= sizeof t->params && strlen(options) < sizeof t->options);
    fake_init(&t->gen, "fake");
    fake_init(&t->scorer, "fake-scorer");
    fake_init(&t->draft, "fake-draft");
    memory_sink_init(&t->sink);
    t->job.id = "job_trial";
    t->job.question = "What is it?";
    t->job.seed = 1;
    t->job.strategy = strategy;
    t->job.params = t->params;
    t->job.verifier = &verifier_reward;
    pd_params_default(verifier_reward.params, t->scorer_params);
    t->job.scorer_params = t->scorer_params;
    t->job.model = t->gen.g.name;
    t->job.scorer = t->scorer.g.name;
    t->job.draft = strategy->needs_draft ? t->draft.g.name : NULL;
    t->job.request = t->job.budget_json = "{}";
    t->job.budget.wrap_reserve = 64;
    snprintf(t->options, sizeof t->options, "%s", options);
    t->job.options = t->options;
    pd_params_default(strategy->params, t->params);
    pd_params_default(pd_common_params, &t->job.common);
    for (const char *o = t->options; *o; o += strspn(o, " ")) {
        set_option(t, o, strcspn(o, " "));
        o += strcspn(o, " ");
    }
}

void trial_script(struct trial *t, const char *const *lines)
{
    t->gen.next = fake_script;
    memcpy(&t->gen.world, &lines, sizeof lines);
}

static int run(struct trial *t, enum pd_job_mode mode, const struct pd_sink *sink,
               const struct pd_trace *stored)
{
    struct fake *const fakes[] = {&t->gen, &t->scorer, &t->draft};
    bool models = mode != PD_JOB_RECORDED;

    pd_result_done(&t->result);
    memset(&t->err, 0, sizeof t->err);
    atomic_store(&t->job.cancel, false);
    for (size_t i = 0; i < sizeof fakes / sizeof *fakes; i++) {
        struct fake *f = fakes[i];

        f->cancel = &t->job.cancel;
        f->root_key = root_key(&t->job);
        f->n_fallible = f->n_steps = 0;
        f->n_drawn = f->n_evaluated = 0;
    }
    t->job.gen = models ? &t->gen.g : NULL;
    t->job.scorer_gen = models ? &t->scorer.g : NULL;
    t->job.draft_gen = models && t->job.draft ? &t->draft.g : NULL;
    t->job.mode = mode;
    t->job.sink = sink;
    t->job.stored = stored;
    t->rc = sink && !stored ? pd_job_store(&t->job, &t->err) : 0;
    if (t->rc == 0)
        t->rc = pd_job_run(&t->job, &t->result, &t->err);
    memcpy(t->digest, t->result.digest, sizeof t->digest);
    return t->rc;
}

int trial_run(struct trial *t)
{
    memory_sink_cut(&t->sink, 0);
    return run(t, PD_JOB_RUN, &t->sink.sink, NULL);
}

int trial_resume(struct trial *t, size_t n)
{
    memory_sink_cut(&t->sink, n);
    return run(t, PD_JOB_RUN, &t->sink.sink, memory_sink_trace(&t->sink, n));
}

int trial_replay(struct trial *t, enum pd_job_mode mode)
{
    return trial_replay_trace(t, mode, memory_sink_trace(&t->sink, t->sink.n));
}

int trial_replay_trace(struct trial *t, enum pd_job_mode mode, const struct pd_trace *stored)
{
    return run(t, mode, NULL, stored);
}

void trial_done(struct trial *t)
{
    pd_result_done(&t->result);
    memory_sink_done(&t->sink);
    for (int i = 0; i < 3; i++) {
        const struct fake *f = i == 0 ? &t->gen : i == 1 ? &t->scorer : &t->draft;

        if (f->n_ctx_live || f->n_lanes_live)
            fail_msg("%s: %zu contexts and %zu lanes were left behind", f->g.name, f->n_ctx_live,
                     f->n_lanes_live);
    }
}

const struct pd_node_rec *trial_node(const struct trial *t, uint32_t id)
{
    assert(id < t->result.trace.n_nodes);
    return &t->result.trace.nodes[id];
}

const char *trial_line(struct trial *t, uint32_t id)
{
    struct pd_buf b = PD_BUF_INIT(1 << 20);
    const char *line;

    while (id) {
        const struct pd_node_rec *n = trial_node(t, id);
        struct pd_buf longer = PD_BUF_INIT(1 << 20);

        if (strcmp(n->finish, "prompt") == 0)
            break;
        pd_buf_adds(&longer, n->text);
        pd_buf_adds(&longer, pd_buf_str(&b));
        pd_buf_done(&b);
        b = longer;
        id = n->parent;
    }
    line = pd_arena_dup(&t->result.arena, pd_buf_str(&b));
    pd_buf_done(&b);
    return line;
}

/* ---- searches ----------------------------------------------------------------------------------
 */

/* Splits scored lanes: finished ones vote, of the n_open open ones the best two are kept. */
static int choose(struct search *s, struct node **lane, int n, struct tally *votes,
                  struct node *kept[2], int *n_open)
{
    int n_kept = 0;

    *n_open = 0;
    for (int i = 0; i < n; i++)
        *n_open += search_open(lane[i]);
    for (int i = 0; i < n; i++)
        if (search_finished(lane[i]))
            tally_vote(votes, lane[i], search_value(lane[i], AGGREGATE_LAST));
    for (; n_kept < 2; n_kept++) {
        int best = -1;

        for (int i = 0; i < n; i++)
            if (search_open(lane[i]) && (n_kept == 0 || lane[i] != kept[0]) &&
                (best < 0 ||
                 search_value(lane[i], AGGREGATE_LAST) > search_value(lane[best], AGGREGATE_LAST)))
                best = i;
        if (best < 0)
            break;
        kept[n_kept] = lane[best];
    }
    for (int i = 0; i < n; i++)
        if (!search_finished(lane[i]) && (n_kept < 1 || lane[i] != kept[0]) &&
            (n_kept < 2 || lane[i] != kept[1]))
            search_prune(s, lane[i], "beam");
    return n_kept;
}

static int run_beam(struct search *s, const void *params, struct pd_err *err)
{
    struct tally *votes = tally_new(s);
    struct node *lane[4], *kept[2];
    int rc = search_sample(s, search_root(s), 4, UNTIL_STEP, lane, err), n = 4;

    (void)params;
    while (rc == 0 && n) {
        int n_kept, n_open;

        rc = search_score(s, lane, n, err);
        if (rc < 0)
            break;
        n_kept = choose(s, lane, n, votes, kept, &n_open);
        if (n_kept == 2 && search_random(s) * n_open < 1.5) { /* a decision of the search itself */
            struct node *first = kept[0];

            kept[0] = kept[1];
            kept[1] = first;
        }
        n = 2 * n_kept;
        for (int k = 0; k < n_kept && rc == 0; k++)
            rc = search_sample(s, kept[k], 2, UNTIL_STEP, &lane[2 * k], err);
    }
    return rc < 0 ? rc : search_answer(s, tally_winner(votes), err);
}

const struct pd_strategy trial_beam = {.name = "trial_beam", .needs_scorer = true, .run = run_beam};

static int run_race(struct search *s, const void *params, struct pd_err *err)
{
    struct node *root = search_root(s), *lane[] = {root, root, root, root, root}, *best = NULL;
    int rc = search_race(s, lane, 5, 2, UNTIL_END, lane, err);

    (void)params;
    for (int i = 0; i < 5 && rc == 0; i++)
        if (search_finished(lane[i]) && (!best || lane[i]->n_tokens < best->n_tokens))
            best = lane[i];
    for (int i = 0; i < 5 && rc == 0; i++)
        if (search_cut_off(lane[i]))
            search_prune(s, lane[i], "race");
    return rc < 0 ? rc : search_answer(s, best, err);
}

const struct pd_strategy trial_race = {.name = "trial_race", .run = run_race};
