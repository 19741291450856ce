#include "tests/support/toy.h"

#include <assert.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include "base/hash.h"
#include "base/json.h"
#include "core/search_int.h"

#define WIDTH 4
#define DEPTH 6

/* ---- the tree ----------------------------------------------------------------------------------
 */

/* The path of `depth` digits whose key this is: child 0 goes on with its parent's. */
static bool find_path(uint64_t from, uint32_t at, uint32_t depth, uint64_t key, char *path)
{
    if (at == depth) {
        path[at] = '\0';
        return from == key;
    }
    for (uint32_t j = 0; j < WIDTH; j++) {
        uint64_t child = at == 0 ? search_subkey(from, 0, j)
                         : j     ? search_subkey(from, at, j)
                                 : from;

        path[at] = (char)('0' + j);
        if (find_path(child, at + 1, depth, key, path))
            return true;
    }
    return false;
}

int32_t toy_tree(struct fake *f, const struct fake_place *at, float *out_logprob)
{
    static struct {
        uint64_t root, key;
        uint32_t depth;
        char path[DEPTH + 1];
    } last; /* a step asks many times */
    const struct toy_step *step = f->world;
    const char *text = "";
    size_t from = fake_prompt(at->ids, at->n);
    uint32_t depth = 1;

    for (size_t i = from + 1; i < at->n; i++)
        if (at->ids[i] == '\n' && at->ids[i - 1] == '\n') {
            from = ++i; /* "\n\n\n" is one blank line and the beginning of another */
            depth++;
        }
    if (last.root != f->root_key || last.key != at->key || last.depth != depth) {
        assert(depth <= DEPTH);
        if (!find_path(f->root_key, 0, depth, at->key, last.path))
            strcpy(last.path, "?");
        last.root = f->root_key;
        last.key = at->key;
        last.depth = depth;
    }
    for (; step->path && strcmp(step->path, last.path) != 0; step++)
        if (!step->path[0])
            text = step->text;
    text = step->path ? step->text : text;
    *out_logprob = -0.5F;
    return at->n - from < strlen(text) ? (unsigned char)text[at->n - from] : FAKE_EOS;
}

void toy_plant(struct trial *t, const struct toy_step *steps)
{
    t->gen.next = toy_tree;
    memcpy(&t->gen.world, &steps, sizeof steps);
}

/* ---- the judge ---------------------------------------------------------------------------------
 */

static toy_judge_fn the_judge;

static int judge_open(struct pd_scorer *s, struct pd_err *err)
{
    (void)s;
    (void)err;
    return 0;
}

static int judge_score(struct pd_scorer *s, struct pd_candidate *c, size_t n, struct pd_err *err)
{
    (void)err;
    for (size_t i = 0; i < n; i++) {
        c[i].values = pd_arena_array(s->arena, c[i].n_steps + 1, sizeof *c[i].values);
        assert(c[i].values);
        for (size_t k = 0; k < c[i].n_steps; k++)
            c[i].values[k] = the_judge(c[i].steps, k);
        c[i].n_values = c[i].n_steps;
    }
    return 0;
}

static void judge_close(struct pd_scorer *s)
{
    (void)s;
}

void toy_judge(struct trial *t, toy_judge_fn judge)
{
    static const struct pd_verifier verifier = {.name = "toy",
                                                .kind = "step",
                                                .open = judge_open,
                                                .score = judge_score,
                                                .close = judge_close};

    the_judge = judge;
    t->job.verifier = &verifier;
}

void toy_start(struct trial *t, const char *strategy, const char *options, uint64_t seed,
               toy_judge_fn judge)
{
    trial_init(t, pd_strategy_find(strategy), options);
    toy_judge(t, judge);
    t->job.seed = seed;
}

static void run_started(struct trial *t, const char *options)
{
    if (trial_run(t) < 0)
        fail_msg("%s %s: %s", t->job.strategy->name, options, t->err.text);
}

void toy_run(struct trial *t, const char *strategy, const char *options, uint64_t seed,
             toy_judge_fn judge)
{
    toy_start(t, strategy, options, seed, judge);
    run_started(t, options);
}

void toy_run_tree(struct trial *t, const char *strategy, const char *options,
                  const struct toy_step *tree)
{
    toy_start(t, strategy, options, 1, toy_tenths);
    toy_plant(t, tree);
    run_started(t, options);
}

double toy_tenths(const struct pd_str *steps, size_t k)
{
    char c = steps[k].len ? steps[k].ptr[0] : ' ';

    return c == 'X' ? 1 : c >= '0' && c <= '9' ? (c - '0') / 10.0 : 0.5;
}

double toy_opinion(const struct pd_str *steps, size_t k)
{
    return (double)(pd_hash64(steps[k].ptr, steps[k].len) % 9999 + 1) / 10001.0;
}

double toy_of_line(const struct pd_str *steps, size_t k)
{
    uint64_t h = 0;

    for (size_t i = 0; i <= k; i++)
        h = h * 31 + pd_hash64(steps[i].ptr, steps[i].len);
    return (double)(h % 99991 + 1) / 99993;
}

double toy_coarse(const struct pd_str *steps, size_t k)
{
    return (double)(1 + pd_hash64(steps[k].ptr, steps[k].len) % 4) / 4;
}

double toy_even(const struct pd_str *steps, size_t k)
{
    (void)steps;
    (void)k;
    return .5;
}

/* ---- what was decided --------------------------------------------------------------------------
 */

bool toy_decision(const struct trial *t, const char *kind, size_t i, const char **out_json)
{
    char head[64];

    snprintf(head, sizeof head, "{\"kind\":\"%s\"", kind);
    for (size_t e = 0; e < t->result.trace.n_events; e++) {
        const struct pd_event_rec *r = &t->result.trace.events[e];

        if (strcmp(r->type, "decision") == 0 && strncmp(r->data, head, strlen(head)) == 0 &&
            i-- == 0) {
            *out_json = r->data;
            return true;
        }
    }
    return false;
}

size_t toy_numbers(const char *json, const char *member, double *out, size_t most)
{
    struct pd_json *root = NULL;
    const struct pd_json *v, *item;
    size_t n = 0;

    if (pd_json_parse(pd_str_of(json), &root, NULL) < 0)
        fail_msg("not JSON: %s", json);
    v = pd_json_get(root, member);
    if (v && pd_json_is_array(v)) {
        for (item = pd_json_first(v); item; item = pd_json_next(item), n++)
            if (n < most && !pd_json_number(item, &out[n]))
                fail_msg("not a number in %s", json);
    } else if (v && most && pd_json_number(v, out)) {
        n = 1;
    }
    pd_json_free(root);
    return n;
}

void toy_digest(const struct trial *t, char hex[65])
{
    struct pd_trace trace = t->result.trace;

    trace.job.strategy = trace.job.options = "";
    pd_trace_digest(&trace, hex);
}

uint64_t toy_generated(const struct trial *t)
{
    uint64_t sum = 0;

    for (size_t i = 0; i < t->result.trace.n_nodes; i++)
        if (t->result.trace.nodes[i].logprobs)
            sum += t->result.trace.nodes[i].n_tokens;
    return sum;
}

bool toy_was(const struct trial *t, uint32_t id, const char *status)
{
    const struct pd_node_rec *n = trial_node(t, id);

    /* what was pruned was open, or finished, before */
    return strcmp(status, "finished") == 0 ? strcmp(n->finish, "eos") == 0
                                           : strcmp(n->finish, "step") == 0;
}

double toy_value(const struct trial *t, toy_judge_fn judge, uint32_t id)
{
    struct pd_str step = pd_str_trim(trial_node(t, id)->text);

    return judge(&step, 0);
}

uint32_t toy_vote(struct trial *t, const uint32_t *done, int n, toy_judge_fn judge, bool weighted)
{
    double sum[10] = {0}, top = -1;
    uint32_t best = 0;
    char winner = 0;

    for (int i = 0; i < n; i++) {
        const char *at = strstr(trial_line(t, done[i]), "\\boxed{");
        double v = toy_value(t, judge, done[i]);

        assert_non_null(at);
        if (!weighted && v > top) {
            best = done[i];
            top = v;
        }
        sum[at[7] - '0'] += v;
    }
    for (int i = 0; i < n && weighted; i++) { /* of equal sums, the one that came first */
        char a = strstr(trial_line(t, done[i]), "\\boxed{")[7];

        if (sum[a - '0'] > top) {
            top = sum[a - '0'];
            winner = a;
        }
    }
    for (int i = 0; i < n && weighted; i++)
        if (strstr(trial_line(t, done[i]), "\\boxed{")[7] == winner &&
            (!best || toy_value(t, judge, done[i]) > toy_value(t, judge, best)))
            best = done[i];
    return best;
}

/* ---- the whole tree ----------------------------------------------------------------------------
 */

struct toy_vertex toy_all[TOY_MANY];
uint32_t toy_n_all;
static int branching;

static int expand_all(struct search *s, const void *params, struct pd_err *err)
{
    struct node **level = search_array(s, TOY_MANY), **next = search_array(s, TOY_MANY);
    int n = 1, rc = 0;

    (void)params;
    level[0] = search_root(s);
    while (n && rc == 0) {
        int n_next = 0;

        for (int i = 0; i < n && rc == 0; i++, n_next += branching)
            rc = search_sample(s, level[i], branching, UNTIL_STEP, next + n_next, err);
        if (rc == 0)
            rc = search_score(s, next, n_next, err);
        n = 0;
        for (int i = 0; i < n_next; i++)
            if (search_open(next[i]))
                level[n++] = next[i];
    }
    return rc;
}

void toy_grow(int n_children, uint64_t seed, toy_judge_fn judge)
{
    static const struct pd_strategy all = {.name = "all", .needs_scorer = true, .run = expand_all};
    struct trial t;

    branching = n_children;
    trial_init(&t, &all, "");
    toy_judge(&t, judge);
    t.job.seed = seed;
    if (trial_run(&t) < 0)
        fail_msg("%s", t.err.text);
    toy_n_all = (uint32_t)t.result.trace.n_nodes;
    assert_true(toy_n_all < TOY_MANY);
    for (uint32_t i = 0; i < toy_n_all; i++) {
        const struct pd_node_rec *n = trial_node(&t, i);
        struct toy_vertex *v = &toy_all[i];

        *v = (struct toy_vertex){.key = n->seed, .depth = n->depth, .parent = n->parent};
        v->goal = strcmp(n->status, "finished") == 0;
        if (v->goal)
            v->answer = strstr(trial_line(&t, i), "\\boxed{")[7];
        if (i)
            toy_all[n->parent].child[toy_all[n->parent].n_child++] = i;
    }
    for (size_t i = 0; i < t.result.trace.n_scores; i++)
        toy_all[t.result.trace.scores[i].node_id].h = 1 - t.result.trace.scores[i].value;
    trial_done(&t);
}

uint32_t toy_find(const struct trial *t, uint32_t id)
{
    const struct pd_node_rec *n = trial_node(t, id);

    for (uint32_t i = 0; i < toy_n_all; i++)
        if (toy_all[i].key == n->seed && toy_all[i].depth == n->depth)
            return i;
    fail_msg("node %u is not of the tree", id);
    return 0;
}

bool toy_is_double(uint32_t vertex, int i)
{
    const struct toy_vertex *c = &toy_all[toy_all[vertex].child[i]];

    for (int k = 0; k < i && c->goal; k++)
        if (toy_all[toy_all[vertex].child[k]].goal &&
            toy_all[toy_all[vertex].child[k]].answer == c->answer)
            return true;
    return false;
}
