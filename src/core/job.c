/* The life of a job: root node, strategy, ending rule, result. On the job's own thread. */
#include "core/job.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/hash.h"
#include "core/answer.h"
#include "core/search_int.h"
#include "core/steps.h"

#define JOB_ARENA_BYTES ((size_t)1 << 32) /* a search tree of some millions of nodes */

const struct pd_param pd_common_params[] = {
    PD_DOUBLE(pd_common, temperature, 0.8, 0, 2,
              "sampling temperature; 0 takes the likeliest token"),
    PD_DOUBLE(pd_common, top_p, 1, 0.000001, 1,
              "smallest set of tokens with this much probability; 1: off"),
    PD_DOUBLE(pd_common, min_p, 0, 0, 1, "drop tokens below this share of the likeliest; 0: off"),
    PD_INT(pd_common, top_k, 0, 0, 1000000, "keep the k likeliest tokens; 0: off"),
    PD_INT(pd_common, max_tokens, 2048, 1, 1 << 20, "most tokens of one line of thought"),
    PD_INT(pd_common, max_step_tokens, 256, 1, 1 << 20, "most tokens of one step"),
    PD_INT(pd_common, max_steps, 40, 1, 10000,
           "steps of one line of thought; the last runs to the line's end"),
    PD_INT(pd_common, repeat_guard, 3, 0, 1000,
           "give up a line after this many equal steps; 0: off"),
    PD_DOUBLE(pd_common, presence_penalty, 0, -2, 2,
              "taken off the logits of tokens that the line has; 0: off"),
    PD_DOUBLE(pd_common, frequency_penalty, 0, -2, 2,
              "the same for each time that it has them; 0: off"),
    PD_INT(pd_common, top_logprobs, 0, 0, PD_TOP_MAX,
           "likeliest tokens to tell with each drawn one, to those who ask a daemon"),
    {0},
};

static void tell_prompt(const struct pd_job *job, const struct node *root)
{
    const struct pd_listener *l = job->listener;

    if (l)
        l->prompt(l->self, root->tokens, root->n_tokens);
}

static int make_root(struct search *s, struct pd_err *err)
{
    struct pd_job *job = s->job;
    struct node *root = search_node_new(s, NULL);
    int32_t *ids = NULL;
    size_t n = 0;
    int rc = 0;

    root->key = search_subkey(search_subkey(job->seed, job->repeat, 0), 0, 0);
    {
        /* H(seed, problem, repeat, branch path); the strategy is left out so that strategies share
         * lanes */
        struct pd_buf b = PD_BUF_INIT(1 << 24);

        pd_buf_addz(&b, job->question);
        root->key = search_subkey(root->key, pd_hash64(b.data ? b.data : "", b.len), 1);
        pd_buf_done(&b);
    }
    s->search_key = search_subkey(root->key, UINT64_MAX, 0);
    s->scorer.key = search_subkey(root->key, UINT64_MAX, 1);
    root->prompt = true;
    root->status = NODE_OPEN;
    root->finish = "prompt";
    root->text = PD_STR("");
    root->answer_key = "";
    if (job->mode == PD_JOB_RECORDED) {
        if (!job->stored->n_nodes)
            return pd_fail(err, PD_ENOENT, "the stored trace has no nodes");
        root->tokens = job->stored->nodes[0].tokens;
        root->n_tokens = job->stored->nodes[0].n_tokens;
        tell_prompt(job, root);
        return 0;
    }
    rc = search_chat(s, (struct pd_str){0}, &ids, &n, err);
    if (rc == 0 && n + 1 > job->gen->ops->n_ctx(job->gen))
        rc =
            pd_fail(err, PD_ELIMIT, "the prompt has %zu tokens, the model's context holds %" PRIu32,
                    n, job->gen->ops->n_ctx(job->gen));
    if (rc == 0 && job->max_prompt_tokens && n > job->max_prompt_tokens)
        rc = pd_fail(err, PD_ELIMIT,
                     "the prompt has %zu tokens, limits.max_prompt_tokens allows %" PRIu32, n,
                     job->max_prompt_tokens);
    if (rc == 0) {
        root->tokens = pd_arena_memdup(s->arena, ids, n * sizeof *ids);
        root->n_tokens = (uint32_t)n;
        if (!root->tokens)
            rc = pd_fail(err, PD_ENOMEM, "out of memory for the prompt");
    }
    free(ids);
    if (rc == 0 && job->mode == PD_JOB_VERIFY && job->stored->n_nodes &&
        (job->stored->nodes[0].n_tokens != n ||
         memcmp(job->stored->nodes[0].tokens, root->tokens, n * sizeof *ids)))
        rc = pd_fail(err, PD_EDIFFER, "the prompt's tokens differ from the stored ones");
    if (rc == 0 && !(job->stored && job->stored->n_nodes))
        rc = search_node_record(s, root, err);
    if (rc == 0)
        tell_prompt(job, root);
    return rc;
}

/* Best aggregate, then longest, then lowest id: the line on which the ending rule goes on. */
static struct node *best_open(const struct search *s)
{
    struct node *best = NULL;

    for (uint32_t i = 0; i < s->n_nodes; i++) {
        struct node *n = s->nodes[i];
        double v, w;

        if (n->n_children || n->apart || (n->prompt && n->parent) ||
            (n->status != NODE_OPEN && n->status != NODE_TRUNCATED))
            continue;
        v = search_value(n, AGGREGATE_LAST);
        w = best ? search_value(best, AGGREGATE_LAST) : 0;
        if (!best || v > w || (!(v < w) && n->path_tokens > best->path_tokens))
            best = n;
    }
    return best;
}

/* The words that make a line come to its answer. A form that has begun would not take them, and one
 * that has not needs its beginning. */
static int force_wrap_up(struct search *s, struct node *open, struct node **out, struct pd_err *err)
{
    const struct pd_form *form = s->job->form ? search_form(s) : NULL;
    struct pd_buf text = PD_BUF_INIT(1 << 16);
    int rc;

    *out = open;
    if (form && !pd_form_is_ahead(form, search_line(s, open)))
        return 0;
    pd_buf_addz(&text, s->job->budget.wrap_up);
    if (form)
        pd_buf_printf(&text, "\n%s\n", form->after);
    rc = pd_buf_rc(&text) < 0 ? pd_fail(err, PD_ENOMEM, "out of memory for a wrap-up")
                              : search_force(s, open, pd_buf_str(&text), out, err);
    pd_buf_done(&text);
    return rc;
}

/* Finished lanes with an answer; else wrap up the best open one; else nothing.
 */
static int ending_rule(struct search *s, struct pd_err *err)
{
    struct tally *votes = tally_new(s);
    struct node *open, *forced, *last;
    int rc;

    for (uint32_t i = 0; i < s->n_nodes; i++)
        if (search_finished(s->nodes[i]))
            tally_vote(votes, s->nodes[i], 1);
    s->answer = tally_winner(votes);
    if (s->answer || !s->job->budget.wrap_up)
        return 0;
    open = best_open(s);
    if (!open)
        return 0;
    rc = force_wrap_up(s, open, &forced, err);
    if (rc == 0)
        rc = search_wrap(s, forced, s->job->budget.wrap_reserve, &last, err);
    if (rc == 0 && search_key(last)[0])
        s->answer = last;
    return rc == PD_EBUDGET || rc == PD_ELIMIT ? 0 : rc; /* no room for it: no answer */
}

/* Of all lines that ended or were cut (not of those a search gave up), how many agree. */
static void count_support(struct search *s, struct pd_result *r)
{
    for (uint32_t i = 1; i < s->n_nodes; i++) {
        struct node *n = s->nodes[i];

        if (n->n_children || n->apart || n->prompt ||
            (n->status != NODE_FINISHED && n->status != NODE_TRUNCATED &&
             !(n->prune_reason && strcmp(n->prune_reason, "race") == 0)))
            continue;
        r->of++;
        r->agree += s->answer && n->status == NODE_FINISHED &&
                    strcmp(search_key(n), search_key(s->answer)) == 0;
    }
    if (s->answer && r->agree == 0)
        r->agree = 1; /* the wrapped-up line itself */
}

/* The answer's line as steps with scores and token counts: a token belongs to the step in which it
 * begins. */
static int fill_steps(struct search *s, struct pd_result *r, struct node *end, struct pd_err *err)
{
    struct pd_generator *g = s->job->gen;
    struct pd_str line = search_line(s, end), *steps;
    size_t n, k = 0, at = 0;
    struct node **path = search_array(s, (int)end->depth + 1);
    const struct node *scored = end;

    steps = pd_steps_split(s->arena, line, &n);
    r->text = line;
    if (!steps)
        return pd_fail(err, PD_ENOMEM, "out of memory for the answer's steps");
    r->steps = search_alloc(s, (n ? n : 1) * sizeof *r->steps);
    r->n_steps = n;
    while (!scored->prompt && !scored->n_values)
        scored = scored->parent; /* the part of the line that was judged */
    for (size_t i = 0; i < n; i++)
        r->steps[i] = (struct pd_result_step){
            steps[i], i < scored->n_values ? scored->values[i] : -1, g ? 0 : -1};
    for (struct node *p = end; !p->prompt; p = p->parent)
        path[p->depth] = p;
    for (uint32_t d = 1; d <= end->depth && n && g; d++)
        for (uint32_t i = 0; i < path[d]->n_tokens; i++) {
            struct pd_buf piece = PD_BUF_INIT(1 << 16);

            while (k + 1 < n && at >= (size_t)(steps[k + 1].ptr - line.ptr))
                k++;
            r->steps[k].n_tokens++;
            if (g->ops->detokenize(g, &path[d]->tokens[i], 1, &piece, NULL) == 0)
                at += piece.len;
            pd_buf_done(&piece);
        }
    return 0;
}

static void fill_trace(struct search *s, struct pd_result *r)
{
    struct pd_trace *t = &r->trace;
    size_t n_scores = 0;

    t->nodes = search_alloc(s, s->n_nodes * sizeof *t->nodes);
    t->scores = search_alloc(s, s->n_nodes * sizeof *t->scores);
    for (uint32_t i = 0; i < s->n_nodes; i++) {
        struct node *n = s->nodes[i];

        search_node_rec(n, (uint32_t)s->job->common.top_logprobs, &t->nodes[i]);
        if (n->scored)
            t->scores[n_scores++] = (struct pd_score_rec){
                n->id,     s->job->scorer,        s->scorer.kind, search_value(n, AGGREGATE_LAST),
                n->values, (uint32_t)n->n_values, n->score_call};
    }
    t->n_nodes = s->n_nodes;
    t->n_scores = n_scores;
    t->calls = s->calls;
    t->n_calls = s->n_calls;
    t->events = s->events;
    t->n_events = s->n_events;
}

void pd_job_record(const struct pd_job *j, const char *status, struct pd_job_rec *out)
{
    *out = (struct pd_job_rec){.id = j->id,
                               .problem_key = j->problem_key,
                               .run_id = j->run_id,
                               .variant = j->variant,
                               .repeat = j->repeat,
                               .strategy = j->strategy->name,
                               .options = j->options,
                               .model = j->model,
                               .scorer = j->verifier ? j->scorer : NULL,
                               .seed = j->seed,
                               .status = status,
                               .request = pd_str_of(j->request),
                               .budget = j->budget_json,
                               .created_ms = j->created_ms,
                               .started_ms = j->started_ms,
                               .answer_node = -1,
                               .correct = -1,
                               .sequential = -1};
}

int pd_job_store(const struct pd_job *j, struct pd_err *err)
{
    struct pd_job_rec rec;
    int rc;

    if (!j->sink)
        return 0;
    pd_job_record(j, "running", &rec);
    rc = j->sink->job(j->sink->self, &rec, err);
    return rc < 0 ? rc : j->sink->flush(j->sink->self, err);
}

/* Whether the answer is the expected one, and of math_equal why. */
static int grade(struct search *s, struct pd_result *r, struct pd_err *err)
{
    struct pd_str expect = pd_str_of(s->job->expect), answer = pd_str_of(r->answer);
    struct pd_buf key = PD_BUF_INIT(1 << 20);
    struct pd_math_result why;

    if (s->job->form) {
        pd_form_key(s->job->form, expect, &key);
        r->correct = r->key && pd_str_eq(pd_buf_str(&key), pd_str_of(r->key));
        pd_buf_done(&key);
    } else if (s->job->grade == PD_GRADE_MATH) {
        pd_math_compare(answer, expect, &why);
        r->correct = why.verdict == PD_MATH_EQUAL;
        r->verdict = pd_math_verdict_name(why.verdict);
        r->reason = pd_arena_dup(s->arena, pd_str_of(why.reason));
        if (!r->reason)
            return pd_fail(err, PD_ENOMEM, "out of memory for the result");
    } else {
        r->correct = r->answer && pd_grade(s->job->grade, answer, expect);
    }
    return 0;
}

static int finish(struct search *s, struct pd_result *r, int rc, struct pd_err *err)
{
    struct pd_job_rec *rec = &r->trace.job;
    struct node *a = s->answer, *shown;
    uint32_t line = a ? a->path_tokens + a->joined_tokens : 0;
    const char *stop_as;
    bool rests;
    int rc2;

    r->stopped_by = rc == PD_ECANCEL   ? "user"
                    : rc < 0           ? "error"
                    : s->answered && a ? "answer"
                    : s->stopped       ? s->stopped
                    : s->cut           ? s->cut
                    : a                ? "answer"
                                       : "no_candidates";
    r->cut = s->cut;
    if (rc == 0 && a) {
        struct pd_str text = pd_form_answer(s->job->form, search_line(s, a));

        r->answer = pd_arena_dup(s->arena, text);
        r->key = search_key(a);
        r->answer_node = a->id;
    }
    count_support(s, r);
    shown = a ? a : best_open(s);
    if (shown && !shown->prompt) {
        rc2 = fill_steps(s, r, shown, err);
        rc = rc < 0 ? rc : rc2;
    }
    if (s->job->expect && rc == 0)
        rc = grade(s, r, err);
    r->usage = s->usage;
    r->usage.discarded = s->usage.generated > line ? s->usage.generated - line : 0;
    for (uint32_t i = 0; i < s->n_nodes; i++)
        r->usage.scorer_passes += s->nodes[i]->scored;
    stop_as = atomic_load(&s->job->stop_as);
    rests = rc == PD_ECANCEL && stop_as;
    r->status = rc == 0 ? "done" : rests ? stop_as : rc == PD_ECANCEL ? "cancelled" : "failed";
    fill_trace(s, r);
    pd_job_record(s->job, r->status, rec);
    if (!rests) {
        rec->stopped_by = r->stopped_by;
        rec->finished_ms = pd_clock_unix_ms();
        rec->sequential = (int64_t)s->usage.sequential;
    }
    rec->answer_node = r->answer_node;
    rec->answer = r->answer;
    rec->correct = r->correct;
    if (rc == 0) {
        pd_trace_digest(&r->trace, r->digest);
        rec->digest = r->digest;
    }
    return rc;
}

/* An answer that has no score has no confidence, and is withheld where some is asked for. */
static void doubt(struct search *s, struct pd_result *r)
{
    const struct pd_doubt *d = &s->job->doubt;

    if (!d->curve.n || !s->answer)
        return;
    if (search_scored(s->answer))
        r->confidence =
            pd_calibrated(&d->curve, search_value(s->answer, (enum search_aggregate)d->aggregate));
    if (d->abstain_below > 0 && r->confidence < d->abstain_below) {
        s->answer = NULL;
        s->abstained = true;
    }
}

int pd_job_run(struct pd_job *job, struct pd_result *r, struct pd_err *err)
{
    const struct pd_sink *sink = job->sink;
    struct search *s;
    struct pd_err local = {0};
    int rc, rc2;

    memset(r, 0, sizeof *r);
    pd_arena_init(&r->arena, JOB_ARENA_BYTES);
    r->answer_node = -1;
    r->correct = -1;
    r->confidence = -1;
    r->status = "running";
    s = pd_arena_alloc(&r->arena, sizeof *s);
    if (!s)
        return pd_fail(err, PD_ENOMEM, "out of memory for the job");
    err = err ? err : &local;
    s->job = job;
    s->result = r;
    s->temperature = job->common.temperature;
    s->arena = &r->arena;
    s->err = &local;
    s->started_ns = pd_clock_now_ns();
    s->deadline_ns =
        job->budget.seconds > 0 && job->budget.seconds < PD_SECONDS_MAX && job->mode == PD_JOB_RUN
            ? s->started_ns + (int64_t)(job->budget.seconds * (double)PD_NS_PER_S)
            : PD_NEVER_NS;
    s->scorer = (struct pd_scorer){.verifier = job->verifier,
                                   .kind = job->verifier ? job->verifier->kind : NULL,
                                   .params = job->scorer_params,
                                   .gen = job->scorer_gen,
                                   .arena = s->arena,
                                   .question = job->question,
                                   .system = job->system,
                                   .truth = job->truth,
                                   .search = s};
    if (job->stored && job->mode != PD_JOB_VERIFY) { /* the ledger goes on where it was */
        for (size_t i = 0; i < job->stored->n_calls; i++) {
            struct pd_call_rec c = job->stored->calls[i];
            const struct pd_sink *keep = job->sink;

            job->sink = NULL; /* stored already */
            search_call_record(s, &c, NULL);
            job->sink = keep;
        }
    }
    rc = make_root(s, err);
    if (rc == 0)
        rc = job->strategy->run(s, job->params, err);
    if (rc == PD_EBUDGET || (rc == 0 && !s->answer && !s->abstained)) {
        s->answered = false; /* the search was ended, it did not end */
        rc = s->answer ? 0 : ending_rule(s, err);
    }
    if (rc == 0)
        doubt(s, r);
    rc = finish(s, r, rc, err);
    for (uint32_t i = 0; i < s->n_nodes; i++)
        search_node_drop_ctx(s, s->nodes[i]);
    for (uint32_t i = 0; i < s->n_nodes; i++)
        search_block_drop(s, s->nodes[i]);
    if (s->scorer_open && job->verifier->close)
        job->verifier->close(&s->scorer);
    if (sink) {
        struct pd_job_rec rec = r->trace.job;

        if (rc < 0 && rec.stopped_by) /* what rests did not fail */
            rec.error = err->text;
        rc2 = sink->job(sink->self, &rec, rc < 0 ? NULL : err);
        if (rc2 == 0)
            rc2 = sink->flush(sink->self, rc < 0 ? NULL : err);
        if (rc == 0 && rc2 < 0) {
            r->status = "failed"; /* what is not durable is not done */
            rc = rc2;
        }
    }
    r->elapsed_ns = pd_clock_now_ns() - s->started_ns;
    return rc;
}

void pd_result_done(struct pd_result *r)
{
    pd_arena_done(&r->arena);
    memset(r, 0, sizeof *r);
}
