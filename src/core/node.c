/* The tree of a search: nodes, their lines, their rows in the trace. */
#include <stdlib.h>

#include "base/clock.h"
#include "base/hash.h"
#include "core/search_int.h"

#define FORGOT UINT64_C(0x464f5247) /* no depth */

uint64_t search_subkey(uint64_t key, uint64_t a, uint64_t b)
{
    uint64_t words[3] = {key, a, b};

    return pd_hash64(words, sizeof words); /* the engine's supported machines are little-endian */
}

bool search_finished(const struct node *n)
{
    return n->status == NODE_FINISHED;
}

bool search_open(const struct node *n)
{
    return n->status == NODE_OPEN;
}

bool search_failed(const struct node *n)
{
    return n->status == NODE_FAILED;
}

bool search_node_held(const struct node *n)
{
    return n->stop && (strcmp(n->stop, "race") == 0 || strcmp(n->stop, "confidence") == 0);
}

bool search_cut_off(const struct node *n)
{
    return n->status == NODE_OPEN && search_node_held(n);
}

const float *search_confidences(const struct node *n, uint32_t *out_n)
{
    *out_n = n->confidences ? n->n_tokens : 0;
    return n->confidences;
}

uint32_t search_id(const struct node *n)
{
    return n->id;
}

uint32_t search_steps(const struct node *n)
{
    return n->depth;
}

uint32_t search_tokens(const struct node *n)
{
    return n->path_tokens;
}

struct node *search_parent(const struct node *n)
{
    return n->parent;
}

struct pd_str search_text(const struct node *n)
{
    return n->text;
}

bool search_scored(const struct node *n)
{
    return n->scored && n->n_values > 0;
}

const char *search_key(const struct node *n)
{
    return n->answer_key ? n->answer_key : "";
}

double pd_aggregate(const double *rewards, size_t n, enum search_aggregate how)
{
    double v = rewards[0];

    if (how == AGGREGATE_LAST)
        return rewards[n - 1];
    for (size_t i = 1; i < n; i++) {
        double r = rewards[i];

        if (how == AGGREGATE_MIN)
            v = r < v ? r : v;
        else if (how == AGGREGATE_PROD)
            v *= r;
        else
            v += r;
    }
    return how == AGGREGATE_MEAN ? v / (double)n : v;
}

double search_value(const struct node *n, enum search_aggregate how)
{
    return search_scored(n) ? pd_aggregate(n->values, n->n_values, how) : -1;
}

const char *search_status_name(enum node_status st)
{
    static const char *const names[] = {"open", "finished", "truncated", "failed", "pruned"};

    return names[st];
}

void search_node_drop_ctx(struct search *s, struct node *n)
{
    struct pd_generator *const gens[N_ROLES] = {s->job->gen, s->job->draft_gen};

    for (int role = 0; role < N_ROLES; role++) {
        if (n->ctx[role])
            gens[role]->ops->ctx_free(gens[role], n->ctx[role]);
        n->ctx[role] = NULL;
    }
}

struct pd_str search_line(struct search *s, const struct node *n)
{
    size_t len = 0;
    char *text;

    for (const struct node *p = n; !p->prompt; p = p->parent)
        len += p->text.len;
    text = search_alloc(s, len + 1);
    for (const struct node *p = n; !p->prompt; p = p->parent)
        if (p->text.len) /* a cancelled lane has no text yet */
            memcpy(text + (len -= p->text.len), p->text.ptr, p->text.len);
    if (n->finish && strcmp(n->finish, "stop") == 0) {
        len = pd_stop_at(s->job->stops, pd_str_of(text), n->text.len);
        text[len] = '\0';
    }
    return pd_str_of(text);
}

struct node *search_node_new(struct search *s, struct node *parent)
{
    struct node *n = search_alloc(s, sizeof *n);

    s->nodes = search_room(s, s->nodes, s->n_nodes, &s->cap_nodes, sizeof *s->nodes);
    n->id = s->n_nodes;
    s->nodes[s->n_nodes++] = n;
    n->parent = parent;
    n->call = n->score_call = -1;
    n->created_ms = pd_clock_unix_ms();
    if (parent) {
        uint32_t j = parent->n_children++;

        n->depth = parent->depth + 1;
        n->path_tokens = parent->path_tokens;
        n->apart = parent->apart;
        n->block = parent->block;
        n->joined_tokens = parent->joined_tokens;
        /* lane i from the prompt has path (i); child 0 goes on with its parent's key, child j > 0
         * is new */
        n->key = parent->prompt ? search_subkey(parent->key, 0, j)
                 : j            ? search_subkey(parent->key, parent->depth, j)
                                : parent->key;
        if (parent->n_forgets) /* positions come again, their random numbers must not */
            n->key = search_subkey(n->key, FORGOT, parent->n_forgets + ((uint64_t)n->depth << 32));
    }
    return n;
}

void search_node_rec(const struct node *n, uint32_t n_top, struct pd_node_rec *out)
{
    *out = (struct pd_node_rec){.id = n->id,
                                .parent = n->parent ? n->parent->id : n->id,
                                .depth = n->depth,
                                .step = n->step,
                                .status = search_status_name(n->status),
                                .prune_reason = n->prune_reason,
                                .text = n->text,
                                .tokens = n->tokens,
                                .logprobs = n->logprobs,
                                .confidences = n->confidences,
                                .top_ids = n->top_ids,
                                .top_logprobs = n->top_logprobs,
                                .n_top = n->top_ids ? n_top : 0,
                                .n_tokens = n->n_tokens,
                                .logprob = n->logprob,
                                .finish = n->finish,
                                .stop = n->stop,
                                .seed = n->key,
                                .created_ms = n->created_ms,
                                .call_id = n->call};
}

int search_node_record(struct search *s, struct node *n, struct pd_err *err)
{
    const struct pd_sink *sink = s->job->sink;
    struct pd_node_rec r;

    search_node_rec(n, (uint32_t)s->job->common.top_logprobs, &r);
    return sink ? sink->node(sink->self, s->job->id, &r, err) : 0;
}

static int node_by_id(const void *id, const void *rec)
{
    uint32_t a = *(const uint32_t *)id, b = ((const struct pd_node_rec *)rec)->id;

    return (a > b) - (a < b);
}

const struct pd_node_rec *search_stored_node(const struct search *s, uint32_t id)
{
    const struct pd_trace *t = s->job->stored;

    return t && t->n_nodes ? bsearch(&id, t->nodes, t->n_nodes, sizeof *t->nodes, node_by_id)
                           : NULL;
}

static int score_by_node(const void *id, const void *rec)
{
    uint32_t a = *(const uint32_t *)id, b = ((const struct pd_score_rec *)rec)->node_id;

    return (a > b) - (a < b);
}

/* A job has one scorer, hence one score a node. */
const struct pd_score_rec *search_stored_score(const struct search *s, uint32_t node_id)
{
    const struct pd_trace *t = s->job->stored;

    return t && t->n_scores
               ? bsearch(&node_id, t->scores, t->n_scores, sizeof *t->scores, score_by_node)
               : NULL;
}

int search_close(struct search *s, struct node *n, struct pd_err *err)
{
    if (n->status != NODE_OPEN)
        return 0;
    n->status = NODE_FINISHED;
    search_node_drop_ctx(s, n);
    return s->job->mode == PD_JOB_RUN ? search_node_record(s, n, err) : 0;
}

void search_prune(struct search *s, struct node *n, const char *why)
{
    if (n->status == NODE_PRUNED || n->status == NODE_FAILED)
        return; /* out already, for a reason of its own */
    n->status = NODE_PRUNED;
    n->prune_reason = why;
    search_node_drop_ctx(s, n);
    search_block_drop(s, n);
    if (s->job->mode == PD_JOB_RUN)
        search_node_record(
            s, n,
            s->err); /* an error sticks in the sink: the next record or the flush returns it */
}
