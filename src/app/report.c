/* The figures of a report; see report.h. */
#include "app/report_int.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "app/app_int.h"
#include "core/answer.h"
#include "core/search.h"

#define ARENA_BYTES ((size_t)8 << 30)
#define RESAMPLINGS 10000
#define KEY_MAX     4096

static int no_memory(struct pd_err *err)
{
    return pd_fail(err, PD_ENOMEM, "out of memory for the report");
}

static const char *keep(struct making *m, const char *z)
{
    return z ? pd_arena_dup(m->arena, pd_str_of(z)) : NULL;
}

/* ---- jobs ------------------------------------------------------------------------------------ */

static int compare_texts(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static int find_problems(struct making *m)
{
    m->problems = pd_arena_array(&m->scratch, m->jobs->n + 1, sizeof *m->problems);
    if (!m->problems)
        return no_memory(m->err);
    for (size_t i = 0; i < m->jobs->n; i++)
        m->problems[i] = m->jobs->jobs[i].problem_key;
    qsort(m->problems, m->jobs->n, sizeof *m->problems, compare_texts);
    for (size_t i = 0; i < m->jobs->n; i++)
        if (i == 0 || strcmp(m->problems[i], m->problems[m->n_problems - 1]) != 0)
            m->problems[m->n_problems++] = m->problems[i];
    m->run->n_problems = m->n_problems;
    m->pools =
        pd_arena_array(&m->scratch, m->n_problems * m->recipe->repeats + 1, sizeof *m->pools);
    return m->pools ? 0 : no_memory(m->err);
}

/* Where a job stands in tables over problems and repeats. */
size_t report_place(const struct making *m, const struct store_run_job *j)
{
    const char **at =
        bsearch(&j->problem_key, m->problems, m->n_problems, sizeof *m->problems, compare_texts);

    return (size_t)(at - m->problems) * m->recipe->repeats + j->repeat;
}

bool report_is_of(const struct store_run_job *j, const char *variant)
{
    return strcmp(j->variant, variant) == 0 && strcmp(j->status, "done") == 0 && j->correct >= 0;
}

static int make_variant(struct making *m, const struct recipe_variant *v, struct report_variant *o)
{
    *o = (struct report_variant){.run = m->run->name,
                                 .name = keep(m, v->name),
                                 .entry = keep(m, v->entry),
                                 .strategy = v->strategy->name,
                                 .scorer = keep(m, v->scorer),
                                 .samples = v->samples,
                                 .added = v->added,
                                 .p = 1,
                                 .p_holm = 1};
    if (!o->name || !o->entry)
        return no_memory(m->err);
    for (size_t i = 0; i < m->jobs->n; i++) {
        const struct store_run_job *j = &m->jobs->jobs[i];

        o->n_failed += strcmp(j->variant, v->name) == 0 && strcmp(j->status, "failed") == 0;
        if (!report_is_of(j, v->name))
            continue;
        o->n++;
        o->n_answered += j->answer != NULL;
        o->n_right += j->correct == 1;
        o->tokens += (double)j->generated;
        o->prefilled += (double)j->prefilled;
        o->scored += (double)j->scored;
        o->nodes += (double)j->n_nodes;
        o->seconds += (double)j->wall_ms / 1000;
        o->sequential += j->sequential < 0 ? (double)NAN : (double)j->sequential;
    }
    if (o->n) {
        double n = (double)o->n;

        o->accuracy = (double)o->n_right / n;
        o->tokens /= n;
        o->prefilled /= n;
        o->scored /= n;
        o->nodes /= n;
        o->seconds /= n;
        o->sequential /= n;
    }
    o->interval = pd_wilson(o->n_right, o->n);
    return 0;
}

/* ---- lines of thought ------------------------------------------------------------------------ */

/* The variant with the most lines that were drawn one like the other. */
static const struct recipe_variant *variant_with_lines(const struct making *m)
{
    static const char *const independent[] = {"best_of_n", "self_consistency"};
    const struct recipe_variant *best = NULL;

    for (size_t s = 0; s < sizeof independent / sizeof *independent; s++)
        for (size_t i = 0; i < m->recipe->n_variants; i++) {
            const struct recipe_variant *v = &m->recipe->variants[i];

            if (v->plain && strcmp(v->strategy->name, independent[s]) == 0 &&
                (!best || v->samples > best->samples) && m->run->variants[i].n)
                best = v;
        }
    return best;
}

static int read_line(struct making *m, const struct pd_trace *t, uint32_t node,
                     const struct pd_json *request, struct line *out)
{
    const char *expect = pd_json_string(pd_json_get(request, "expect"));
    struct pd_buf key = PD_BUF_INIT(KEY_MAX);
    char *text = app_trace_line(t, node);
    struct pd_str answer = pd_answer_extract(pd_str_of(text ? text : ""));

    *out = (struct line){.key = "", .n_tokens = t->nodes[node].n_tokens, .value = (double)NAN};
    if (strcmp(t->nodes[node].status, "finished") == 0 && answer.len &&
        pd_answer_key(answer, &key) == 0) {
        out->key = pd_arena_dup(&m->scratch, pd_buf_str(&key));
        out->right = expect && pd_grade(m->recipe->grade, answer, pd_str_of(expect));
    }
    for (size_t i = 0; i < t->n_scores; i++)
        if (t->scores[i].node_id == t->nodes[node].id && t->scores[i].n_steps) {
            out->steps = pd_arena_memdup(&m->scratch, t->scores[i].steps,
                                         t->scores[i].n_steps * sizeof *t->scores[i].steps);
            out->n_steps = out->steps ? t->scores[i].n_steps : 0;
            out->value = t->scores[i].value;
            for (int how = 0; how < REPORT_AGGREGATES && out->n_steps; how++)
                out->rewards[how] =
                    pd_aggregate(out->steps, out->n_steps, (enum search_aggregate)how);
        }
    pd_buf_done(&key);
    free(text);
    return out->key ? 0 : no_memory(m->err);
}

static int read_pool(struct making *m, const struct store_run_job *j, struct pool *out)
{
    struct pd_json *request = NULL;
    struct pd_trace *t = NULL;
    int rc = store_trace_load(m->s, j->id, &t, m->err);

    if (rc == 0)
        rc = pd_json_parse(t->job.request, &request, m->err);
    if (rc == 0) {
        out->lines = pd_arena_array(&m->scratch, t->n_nodes + 1, sizeof *out->lines);
        out->votes = pd_arena_array(&m->scratch, t->n_nodes + 1, sizeof *out->votes);
        rc = out->lines && out->votes ? 0 : no_memory(m->err);
    }
    for (uint32_t i = 1; rc == 0 && i < t->n_nodes; i++)
        if (t->nodes[i].depth == 1) /* whole lines: beneath the prompt, and nothing beneath them */
            rc = read_line(m, t, i, request, &out->lines[out->n++]);
    for (size_t i = 0; rc == 0 && i < out->n; i++)
        while (strcmp(out->lines[out->lines[i].like].key, out->lines[i].key) != 0)
            out->lines[i].like++;
    pd_json_free(request);
    store_trace_free(t);
    return rc;
}

/* Line i of those that begin with `first`, in a circle. By turning the circle, n lines make n
 * samples of any size: votes of few lines are means over them all. */
static const struct line *line_at(const struct pool *p, size_t first, size_t i)
{
    return &p->lines[(first + i) % p->n];
}

/* The majority of k lines, ties to the first; NULL: nobody votes. */
static const struct line *majority(const struct pool *p, size_t first, size_t k)
{
    const struct line *best = NULL;

    k = k < p->n ? k : p->n;
    for (size_t i = 0; i < k; i++)
        p->votes[line_at(p, first, i)->like]++;
    for (size_t i = 0; i < k; i++) {
        const struct line *line = line_at(p, first, i);

        if (line->key[0] && (!best || p->votes[line->like] > p->votes[best->like]))
            best = line;
    }
    for (size_t i = 0; i < k; i++)
        p->votes[line_at(p, first, i)->like] = 0;
    return best;
}

/* The share of the votes of k lines that are right. */
static double majority_rate(const struct pool *p, size_t k)
{
    size_t right = 0;

    for (size_t first = 0; first < p->n; first++) {
        const struct line *winner = majority(p, first, k);

        right += winner && winner->right;
    }
    return (double)right / (double)p->n;
}

/* How many lines so many tokens pay for, at least one. */
static size_t affordable(const struct pool *p, size_t first, double tokens, size_t *io_short)
{
    double spent = 0;
    size_t k = 0;

    while (k < p->n && (k == 0 || spent + line_at(p, first, k)->n_tokens <= tokens))
        spent += line_at(p, first, k++)->n_tokens;
    *io_short += k == p->n && spent < tokens * 0.99;
    return k;
}

static int compare_at_equal_cost(struct making *m, struct report_variant *o)
{
    double *difference = pd_arena_array(&m->scratch, m->n_problems + 1, sizeof *difference);
    uint32_t *counts = pd_arena_array(&m->scratch, m->n_problems + 1, sizeof *counts);
    double lines = 0, rates = 0;
    size_t n = 0, n_draws = 0, n_short = 0;

    if (!difference || !counts)
        return no_memory(m->err);
    for (size_t i = 0; i < m->jobs->n; i++) {
        const struct store_run_job *j = &m->jobs->jobs[i];
        const struct line *winner;
        const struct pool *p;
        double right = 0;
        bool first;
        size_t at;

        if (!report_is_of(j, o->name) || j->repeat >= m->recipe->repeats)
            continue;
        at = report_place(m, j);
        p = &m->pools[at];
        if (!p->n)
            continue;
        for (size_t f = 0; f < p->n; f++) {
            size_t k = affordable(p, f, o->tokens, &n_short);

            winner = majority(p, f, k);
            right += winner && winner->right;
            lines += (double)k / (double)p->n;
        }
        right /= (double)p->n;
        n_draws += p->n;
        winner = majority(p, 0, affordable(p, 0, o->tokens, &n_short));
        first = winner && winner->right; /* one draw: a test needs whole pairs */
        n++;
        rates += right;
        o->only_it += j->correct == 1 && !first;
        o->only_base += j->correct != 1 && first;
        difference[at / m->recipe->repeats] += (double)(j->correct == 1) - right;
        counts[at / m->recipe->repeats]++;
    }
    if (n == 0)
        return 0;
    o->has_base = true;
    o->base_short = n_short > n_draws / 4;
    o->base_accuracy = rates / (double)n;
    o->base_lines = lines / (double)n;
    o->p = o->p_holm = pd_mcnemar(o->only_it, o->only_base);
    n = 0;
    for (size_t i = 0; i < m->n_problems; i++)
        if (counts[i])
            difference[n++] = difference[i] / counts[i];
    o->difference = pd_bootstrap(difference, n, RESAMPLINGS, m->recipe->seed);
    return 0;
}

static void correct_for_all(struct report_run *run)
{
    double p[1024];
    size_t n = 0;

    for (size_t i = 0; i < run->n_variants && n < 1024; i++)
        if (run->variants[i].has_base && !run->variants[i].added)
            p[n++] = run->variants[i].p;
    pd_holm(p, n);
    n = 0;
    for (size_t i = 0; i < run->n_variants && n < 1024; i++)
        if (run->variants[i].has_base && !run->variants[i].added)
            run->variants[i].p_holm = p[n++];
}

/* Coverage over all lines of a problem, and majorities of k lines of each repeat. */
static void make_curves(struct making *m)
{
    struct report_run *run = m->run;
    size_t repeats = m->recipe->repeats, fewest = SIZE_MAX;
    double k_of[REPORT_K_MAX], value[REPORT_K_MAX], tokens = 0, vote[REPORT_K_MAX];

    for (size_t i = 0; i < m->n_problems * repeats; i++) {
        const struct pool *p = &m->pools[i];

        if (p->n)
            fewest = p->n < fewest ? p->n : fewest;
        for (size_t l = 0; l < p->n; l++) {
            tokens += p->lines[l].n_tokens;
            run->n_lines++;
            run->n_lines_right += p->lines[l].right;
        }
    }
    if (!run->n_lines)
        return;
    run->line_tokens = tokens / (double)run->n_lines;
    for (size_t k = 1; k <= fewest && run->n_coverage < REPORT_K_MAX; k *= 2) {
        double cover = 0, right = 0;
        size_t n = 0, n_votes = 0, at = run->n_coverage++;

        for (size_t i = 0; i < m->n_problems; i++) {
            uint64_t all = 0, c = 0;

            for (size_t r = 0; r < repeats; r++) {
                const struct pool *p = &m->pools[i * repeats + r];

                for (size_t l = 0; l < p->n; l++)
                    c += p->lines[l].right;
                all += p->n;
                right += p->n ? majority_rate(p, k) : 0;
                n_votes += p->n > 0;
            }
            if (all) {
                cover += pd_pass_at_k(all, c, k);
                n++;
            }
        }
        k_of[at] = (double)k;
        value[at] = cover / (double)n;
        vote[at] = right / (double)n_votes;
        run->coverage[at] =
            (struct report_point){(double)k, (double)k * run->line_tokens, value[at]};
        run->majority[at] =
            (struct report_point){(double)k, (double)k * run->line_tokens, vote[at]};
    }
    run->fit = pd_fit_coverage(k_of, value, run->n_coverage);
    run->saturation = pd_fit_saturation(k_of, vote, run->n_coverage);
}

/* ---- other rules on the same lines ------------------------------------------------------------
 */

enum rule_kind { MAJORITY, WEIGHTED, BEST };

static const struct {
    const char *name;
    enum rule_kind kind;
    enum search_aggregate how;
} rules[] = {
    {"majority", MAJORITY, AGGREGATE_LAST},      {"weighted:last", WEIGHTED, AGGREGATE_LAST},
    {"weighted:min", WEIGHTED, AGGREGATE_MIN},   {"weighted:prod", WEIGHTED, AGGREGATE_PROD},
    {"weighted:mean", WEIGHTED, AGGREGATE_MEAN}, {"best:last", BEST, AGGREGATE_LAST},
    {"best:min", BEST, AGGREGATE_MIN},           {"best:prod", BEST, AGGREGATE_PROD},
    {"best:mean", BEST, AGGREGATE_MEAN},
};
#define N_RULES (sizeof rules / sizeof *rules)

/* The line that the rule picks of k, ties to the first: by its own reward, or by the weights of
 * the lines with the same answer. weights: room, [p->n] of zeros. */
static const struct line *pick(const struct pool *p, size_t first, size_t k, size_t rule,
                               double *weights)
{
    const struct line *best = NULL;

    for (size_t i = 0; i < k; i++) {
        const struct line *line = line_at(p, first, i);

        if (!line->key[0] || (rules[rule].kind != MAJORITY && !line->n_steps))
            continue;
        if (rules[rule].kind != BEST)
            weights[line->like] += rules[rule].kind == MAJORITY ? 1 : line->rewards[rules[rule].how];
        else if (!best || line->rewards[rules[rule].how] > best->rewards[rules[rule].how])
            best = line;
    }
    for (size_t i = 0; i < k && rules[rule].kind != BEST; i++) {
        const struct line *line = line_at(p, first, i);

        if (line->key[0] && (!best || weights[line->like] > weights[best->like]))
            best = line;
    }
    for (size_t i = 0; i < k; i++)
        weights[line_at(p, first, i)->like] = 0;
    return best;
}

static double rule_accuracy(const struct making *m, size_t rule, size_t k, double *weights)
{
    double right = 0;
    size_t n = 0;

    for (size_t i = 0; i < m->n_problems * m->recipe->repeats; i++) {
        const struct pool *p = &m->pools[i];
        size_t hits = 0;

        for (size_t first = 0; first < p->n; first++) {
            const struct line *picked = pick(p, first, k, rule, weights);

            hits += picked && picked->right;
        }
        right += p->n ? (double)hits / (double)p->n : 0;
        n += p->n > 0;
    }
    return n ? right / (double)n : 0;
}

/* Rules that read rewards are only tried on lines that have them. */
static int try_rules(struct making *m, bool scored)
{
    struct report_run *run = m->run;
    size_t most = 0, n_rules = scored ? N_RULES : 1;
    double *weights, best = -1;

    for (size_t i = 0; i < m->n_problems * m->recipe->repeats; i++)
        most = m->pools[i].n > most ? m->pools[i].n : most;
    weights = pd_arena_array(&m->scratch, most + 1, sizeof *weights);
    run->rules = pd_arena_array(m->arena, REPORT_K_MAX * N_RULES, sizeof *run->rules);
    if (!weights || !run->rules)
        return no_memory(m->err);
    for (size_t c = 0; c < run->n_coverage; c++) {
        double here = best;

        for (size_t i = 0; i < n_rules; i++) {
            struct report_rule *r = &run->rules[run->n_rules++];

            *r = (struct report_rule){
                .name = rules[i].name, .k = run->coverage[c].k, .tokens = run->coverage[c].tokens};
            r->accuracy = rule_accuracy(m, i, (size_t)r->k, weights);
            here = r->accuracy > here ? r->accuracy : here;
        }
        /* of equally good ones at one cost, the first is enough */
        for (size_t i = 0; i < n_rules && here > best; i++) {
            struct report_rule *r = &run->rules[run->n_rules - n_rules + i];

            if (r->accuracy >= here) {
                r->best = true;
                best = here;
            }
        }
    }
    return 0;
}

/* ---- steps and lengths ----------------------------------------------------------------------- */

static int fill_fan(struct making *m, bool right, struct report_fan *fan)
{
    size_t n_pools = m->n_problems * m->recipe->repeats;
    double *values = pd_arena_array(&m->scratch, m->run->n_lines + 1, sizeof *values);

    if (!values)
        return no_memory(m->err);
    for (size_t d = 0; d < REPORT_DEPTH_MAX; d++) {
        static const double q[REPORT_QUANTILES] = {.1, .25, .5, .75, .9};
        size_t n = 0;

        for (size_t i = 0; i < n_pools; i++)
            for (size_t l = 0; l < m->pools[i].n; l++) {
                const struct line *line = &m->pools[i].lines[l];

                if (line->key[0] && line->right == right && d < line->n_steps)
                    values[n++] = line->steps[d];
            }
        if (n == 0)
            break;
        qsort(values, n, sizeof *values, pd_compare_doubles);
        for (size_t k = 0; k < REPORT_QUANTILES; k++)
            fan->q[d][k] = pd_quantile(values, n, q[k]);
        fan->n[d] = n;
        fan->n_depths = d + 1;
    }
    return 0;
}

static int by_length(const void *a, const void *b)
{
    const struct line *x = *(const struct line *const *)a, *y = *(const struct line *const *)b;

    return (x->n_tokens > y->n_tokens) - (x->n_tokens < y->n_tokens);
}

/* As many finished lines in each bin; equally long ones are in one. */
static int fill_bins(struct making *m)
{
    size_t n_pools = m->n_problems * m->recipe->repeats, n = 0;
    const struct line **lines = pd_arena_array(&m->scratch, m->run->n_lines + 1, sizeof *lines);

    if (!lines)
        return no_memory(m->err);
    for (size_t i = 0; i < n_pools; i++)
        for (size_t l = 0; l < m->pools[i].n; l++)
            if (m->pools[i].lines[l].key[0])
                lines[n++] = &m->pools[i].lines[l];
    qsort(lines, n, sizeof *lines, by_length);
    for (size_t from = 0; from < n && m->run->n_bins < REPORT_BINS;) {
        size_t left = REPORT_BINS - m->run->n_bins, to = from + (n - from + left - 1) / left;
        struct report_bin *b = &m->run->bins[m->run->n_bins++];

        while (to < n && lines[to]->n_tokens == lines[to - 1]->n_tokens)
            to++;
        b->low = lines[from]->n_tokens;
        b->high = lines[to - 1]->n_tokens;
        for (; from < to; from++) {
            b->n++;
            b->n_right += lines[from]->right;
            b->tokens += lines[from]->n_tokens;
        }
        b->tokens /= (double)b->n;
        b->interval = pd_wilson(b->n_right, b->n);
    }
    return 0;
}

/* ---- the whole ------------------------------------------------------------------------------- */

static int read_lines(struct making *m)
{
    const struct recipe_variant *v = variant_with_lines(m);
    bool scored = false;
    int rc = 0;

    if (!v)
        return 0;
    m->run->lines_of = keep(m, v->name);
    for (size_t i = 0; i < m->jobs->n && rc == 0; i++) {
        const struct store_run_job *j = &m->jobs->jobs[i];

        if (report_is_of(j, v->name) && j->repeat < m->recipe->repeats)
            rc = read_pool(m, j, &m->pools[report_place(m, j)]);
    }
    for (size_t i = 0; i < m->run->n_variants && rc == 0; i++)
        rc = compare_at_equal_cost(m, &m->run->variants[i]);
    if (rc < 0)
        return rc;
    correct_for_all(m->run);
    make_curves(m);
    rc = fill_bins(m);
    if (rc == 0)
        rc = report_difficulty(m);
    report_reliability(m);
    for (size_t i = 0; i < m->n_problems * m->recipe->repeats; i++)
        for (size_t l = 0; l < m->pools[i].n; l++)
            scored |= m->pools[i].lines[l].n_steps > 0;
    if (rc == 0)
        rc = try_rules(m, scored);
    if (rc == 0 && scored) {
        m->run->fan_of = m->run->lines_of;
        rc = fill_fan(m, true, &m->run->right);
        if (rc == 0)
            rc = fill_fan(m, false, &m->run->wrong);
    }
    return rc;
}

/* The job that was asked for; else the largest tree that can be taken in at a glance. */
static int find_example(struct making *m)
{
    const struct store_run_job *best = NULL;

    if (m->config->job)
        return store_trace_load(m->s, m->config->job, &m->run->example, m->err);
    for (size_t i = 0; i < m->jobs->n; i++) {
        const struct store_run_job *j = &m->jobs->jobs[i];

        if (strcmp(j->status, "done") == 0 && j->n_nodes <= REPORT_TREE_NODES &&
            (!best || j->n_nodes > best->n_nodes))
            best = j;
    }
    return best ? store_trace_load(m->s, best->id, &m->run->example, m->err) : 0;
}

static bool lock_says_reproducible(const char *lock)
{
    struct pd_json *j = NULL;
    bool yes = false;

    if (pd_json_parse(pd_str_of(lock), &j, NULL) == 0)
        pd_json_bool(pd_json_get(j, "reproducible"), &yes);
    pd_json_free(j);
    return yes;
}

static int make_run(struct making *m, const struct store_run *row)
{
    struct report_run *run = m->run;
    int rc = recipe_parse("the run's recipe", row->recipe, &m->recipe, m->err);

    if (rc < 0)
        return rc;
    memcpy(run->id, row->id, sizeof run->id);
    memcpy(run->recipe_sha256, m->recipe->sha256, sizeof run->recipe_sha256);
    run->name = keep(m, row->name);
    run->status = keep(m, row->status);
    run->lock = keep(m, row->lock);
    run->model = keep(m, m->recipe->model);
    run->created_ms = row->created_ms;
    run->n_jobs = row->n_jobs;
    run->n_done = row->n_done;
    run->n_failed = row->n_failed;
    run->repeats = m->recipe->repeats;
    run->views = m->recipe->views;
    run->n_variants = m->recipe->n_variants;
    run->variants = pd_arena_array(m->arena, run->n_variants + 1, sizeof *run->variants);
    if (!run->name || !run->status || !run->lock || !run->model || !run->variants)
        return no_memory(m->err);
    run->reproducible = lock_says_reproducible(run->lock);
    rc = store_run_jobs_load(m->s, row->id, &m->jobs, m->err);
    if (rc == 0)
        rc = find_problems(m);
    for (size_t i = 0; i < run->n_variants && rc == 0; i++)
        rc = make_variant(m, &m->recipe->variants[i], &run->variants[i]);
    if (rc < 0 || m->config->brief)
        return rc;
    rc = read_lines(m);
    if (rc == 0)
        rc = find_example(m);
    return rc < 0 ? rc : report_cost(m->s, m->config, run, m->err);
}

int report_make(struct store *s, const char *const *ids, size_t n, const struct report_config *c,
                struct report **out, struct pd_err *err)
{
    struct report *r = calloc(1, sizeof *r);
    int rc = 0;

    if (!r)
        return no_memory(err);
    pd_arena_init(&r->arena, ARENA_BYTES);
    r->x = c->x;
    r->runs = pd_arena_array(&r->arena, n + 1, sizeof *r->runs);
    if (!r->runs)
        rc = no_memory(err);
    for (size_t i = 0; i < n && rc == 0; i++) {
        struct making m = {.s = s, .arena = &r->arena, .config = c, .run = &r->runs[i], .err = err};
        struct store_runs *rows = NULL;

        pd_arena_init(&m.scratch, ARENA_BYTES);
        rc = store_run_list(s, ids[i], &rows, err);
        if (rc == 0)
            rc = make_run(&m, &rows->runs[0]);
        r->n_runs++;
        store_run_list_free(rows);
        store_run_jobs_free(m.jobs);
        recipe_free(m.recipe);
        pd_arena_done(&m.scratch);
    }
    if (rc < 0) {
        report_free(r);
        return rc;
    }
    *out = r;
    return 0;
}

void report_free(struct report *r)
{
    if (!r)
        return;
    for (size_t i = 0; i < r->n_runs; i++)
        store_trace_free(r->runs[i].example);
    pd_arena_done(&r->arena);
    free(r);
}
