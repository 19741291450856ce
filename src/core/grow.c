/* The verbs that make nodes by sampling: extend, race, roll-out. All go through grow(): a request
 * to the engine for what the trace does not already hold.
 *
 * Invariants: (1) a node's tokens depend on the job's seed and its branch path alone; (2) a verb
 * reserves its tokens before it starts, from what recorded nodes have spent, so that the budget is
 * never exceeded and a resumed job reserves the same; (3) what is recorded is recorded once,
 * complete. */
#include <inttypes.h>
#include <stdlib.h>

#include "base/clock.h"
#include "core/answer.h"
#include "core/search_int.h"
#include "core/steps.h"

#define NEVER_BIAS   (-1e9F) /* on a logit */
#define FORM_KEY_MAX ((size_t)1 << 20)
#define PROMPT_END   8 /* tokens at the end of a prompt that may open a thought */

static const char *writer(const struct search *s)
{
    return s->role == ROLE_DRAFT ? s->job->draft : s->job->model;
}

static int each_prefill(struct search *s, struct pd_lane *lane, struct pd_err *err)
{
    int rc = search_lane_ended(s, search_gen(s), lane, "prefill", writer(s), err);

    search_ops(s)->release(search_gen(s), lane);
    return rc < 0 ? rc : 0;
}

/* The context of a node, made again from its ancestors' when it is not at hand. */
int search_node_ctx(struct search *s, struct node *n, struct pd_err *err)
{
    struct pd_generator *g = search_gen(s);
    struct pd_gctx **ctx = &n->ctx[s->role];
    int rc;

    if (*ctx)
        return 0;
    if (s->put_off && s->role == ROLE_BASE) {
        rc = search_catch_up(s, err);
        if (rc < 0 || *ctx)
            return rc;
    }
    if (n->prompt) {
        rc = g->ops->ctx_new(g, ctx, err);
    } else {
        rc = search_node_ctx(s, n->parent, err);
        if (rc == 0)
            rc = g->ops->ctx_fork(g, n->parent->ctx[s->role], ctx, err);
        /* a question behind a line that has ended is asked before its end token */
        if (rc == 0 && strcmp(n->parent->finish, "eos") == 0)
            rc = g->ops->ctx_rollback(g, *ctx, g->ops->ctx_n_tokens(g, *ctx) - 1, err);
    }
    if (rc == 0)
        rc = g->ops->ctx_append(g, *ctx, n->tokens, n->n_tokens, err);
    if (rc == 0 && n->prompt && g->ops->ctx_written)
        rc = g->ops->ctx_written(g, *ctx, err);
    if (rc == 0 && n->gaps && !n->prompt)
        rc = search_forget_in(s, n, *ctx, n->parent, err);
    return rc;
}

/* One child to be made: what grow() knows of it. */
struct sprout {
    struct node *node;
    struct pd_buf heard; /* the text so far, for a listener */
    uint32_t n_heard;    /* tokens of it */
    struct pd_lane lane;
    struct pd_sampling sampling;
    uint32_t cap;    /* most tokens */
    const char *why; /* what the cap was, for stop */
    enum search_until until;
};

void search_node_tokens(struct search *s, struct node *n, const int32_t *tokens,
                        const float *logprobs, uint32_t count)
{
    n->tokens = pd_arena_memdup(s->arena, tokens, count * sizeof *tokens);
    n->logprobs = logprobs ? pd_arena_memdup(s->arena, logprobs, count * sizeof *logprobs) : NULL;
    n->n_tokens = count;
    n->logprob = 0;
    for (uint32_t i = 0; logprobs && i < count; i++)
        n->logprob += (double)logprobs[i];
    if (count && (!n->tokens || (logprobs && !n->logprobs)))
        s->oom = true;
}

/* What is known of each of its tokens besides. */
static void keep_confidences(struct search *s, struct node *n, const float *confidences)
{
    if (!confidences || !n->n_tokens)
        return;
    n->confidences = pd_arena_memdup(s->arena, confidences, n->n_tokens * sizeof *confidences);
    if (!n->confidences)
        s->oom = true;
}

/* The node's text, of which `text` is the beginning that is known: what the listener lacks. */
static void tell(struct search *s, struct node *n, struct pd_str text, struct pd_piece *p)
{
    const struct pd_listener *l = s->job->listener;

    p->node = n->id;
    p->parent = n->parent->id;
    if (p->last && strcmp(n->finish, "stop") == 0) {
        size_t before = search_line(s, n->parent).len, end = search_line(s, n).len;

        text.len = end > before ? end - before : 0;
    } else if (!p->last && !n->apart) {
        text.len = search_stop_free(s->job, text);
    }
    p->text = pd_str_sub(text, n->n_told, text.len);
    if (!p->last)
        p->text.len = pd_utf8_complete(p->text);
    n->n_told += p->text.len;
    if (p->text.len || p->last)
        l->piece(l->self, p);
}

/* A lane is being drawn. Its last token may be the end of its turn, which has no text: that is
 * heard when it is known. */
static void live_sprout(struct search *s, const struct pd_lane *lane)
{
    struct sprout *sp = lane->user;
    uint32_t n;
    struct pd_piece p = {.tokens = lane->tokens,
                         .logprobs = lane->logprobs,
                         .top_ids = lane->top_ids,
                         .top_logprobs = lane->top_logprobs};

    if (!sp) /* evaluated beside others */
        return;
    n = search_ops(s)->progress(search_gen(s), lane);
    if (n < sp->n_heard + 2 || search_ops(s)->detokenize(search_gen(s), lane->tokens + sp->n_heard,
                                                         n - 1 - sp->n_heard, &sp->heard, NULL) < 0)
        return;
    sp->n_heard = p.n_tokens = n - 1;
    tell(s, sp->node, pd_buf_str(&sp->heard), &p);
}

/* Text, status and answer of a node whose tokens and finish are known. */
int search_node_settle(struct search *s, struct node *n, struct pd_err *err)
{
    struct pd_buf key = PD_BUF_INIT(s->job->form ? FORM_KEY_MAX : 4096);

    n->path_tokens = (n->parent ? n->parent->path_tokens : 0) + (n->logprobs ? n->n_tokens : 0);
    if (n->logprobs)
        s->spent += n->n_tokens;
    n->step = n->prompt ? 0 : n->parent->step + 1;
    /* a text that is to have a form has it when it has ended */
    if (!n->apart && (!s->job->form || n->status == NODE_FINISHED))
        pd_form_key(s->job->form, pd_form_answer(s->job->form, search_line(s, n)), &key);
    n->answer_key = key.len ? pd_arena_dup(s->arena, pd_buf_str(&key)) : "";
    pd_buf_done(&key);
    if (s->job->listener && !n->prompt)
        tell(s, n, n->text,
             &(struct pd_piece){.tokens = n->tokens,
                                .logprobs = n->logprobs,
                                .top_ids = n->top_ids,
                                .top_logprobs = n->top_logprobs,
                                .n_tokens = n->n_tokens - (strcmp(n->finish, "eos") == 0),
                                .last = true});
    if (n->status != NODE_OPEN)
        search_node_drop_ctx(s, n);
    atomic_store(&s->job->progress.nodes, s->n_nodes - 1);
    if (n->depth > atomic_load(&s->job->progress.steps))
        atomic_store(&s->job->progress.steps, n->depth);
    atomic_store(&s->job->progress.generated, s->spent);
    return s->oom ? pd_fail(err, PD_ENOMEM, "out of memory in the search") : 0;
}

static int node_text(struct search *s, struct node *n, struct pd_err *err)
{
    struct pd_buf text = PD_BUF_INIT(1 << 24);
    uint32_t count = n->n_tokens;
    int rc;

    if (n->finish && strcmp(n->finish, "eos") == 0 && count)
        count--; /* the end token has no text */
    rc = search_ops(s)->detokenize(search_gen(s), n->tokens, count, &text, err);
    if (rc == 0) {
        struct pd_str t = pd_buf_str(&text);

        n->text = (struct pd_str){pd_arena_dup(s->arena, t), t.len};
        if (!n->text.ptr)
            s->oom = true;
    }
    pd_buf_done(&text);
    return rc;
}

/* A budget that cut a line short is told with the result. */
static void note_cut(struct search *s, const struct node *n)
{
    if (n->stop && (strcmp(n->stop, "tokens") == 0 || strcmp(n->stop, "seconds") == 0))
        s->cut = n->stop;
}

int search_node_serve(struct search *s, struct node *n, const struct pd_node_rec *r,
                      struct pd_err *err)
{
    static const enum node_status all[] = {NODE_OPEN, NODE_FINISHED, NODE_TRUNCATED, NODE_FAILED};

    if (r->seed != n->key || r->parent != (n->parent ? n->parent->id : n->id))
        return pd_fail(err, PD_EDIFFER,
                       "node %" PRIu32 " of the stored trace belongs to another branch", n->id);
    search_node_tokens(s, n, r->tokens, r->logprobs, r->n_tokens);
    keep_confidences(s, n, r->confidences);
    n->text = (struct pd_str){pd_arena_dup(s->arena, r->text), r->text.len};
    n->finish = pd_arena_dup(s->arena, pd_str_of(r->finish));
    n->stop = r->stop ? pd_arena_dup(s->arena, pd_str_of(r->stop)) : NULL;
    n->prune_reason = strcmp(r->status, "failed") == 0
                          ? pd_arena_dup(s->arena, pd_str_of(r->prune_reason))
                          : NULL;
    n->status = NODE_TRUNCATED;
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        if (strcmp(r->status, search_status_name(all[i])) == 0)
            n->status = all[i];
    if (strcmp(r->status, "pruned") == 0) /* what it was before: the strategy will prune it again */
        n->status = strcmp(r->finish, "eos") == 0    ? NODE_FINISHED
                    : strcmp(r->finish, "stop") == 0 ? NODE_FINISHED
                    : strcmp(r->finish, "cut") != 0  ? NODE_OPEN
                    : search_node_held(n)            ? NODE_OPEN
                                                     : NODE_TRUNCATED;
    note_cut(s, n);
    n->call = r->call_id;
    n->created_ms = r->created_ms;
    return search_node_settle(s, n, err);
}

static int differs(struct search *s, const struct node *n, const struct pd_node_rec *r,
                   struct pd_err *err)
{
    uint32_t m = n->n_tokens < r->n_tokens ? n->n_tokens : r->n_tokens;

    (void)s;
    for (uint32_t i = 0; i < m; i++) {
        if (n->tokens[i] != r->tokens[i])
            return pd_fail(err, PD_EDIFFER,
                           "node %" PRIu32 ", token %" PRIu32 ": %" PRId32 " now, %" PRId32
                           " stored",
                           n->id, i, n->tokens[i], r->tokens[i]);
        if (n->logprobs && r->logprobs &&
            memcmp(&n->logprobs[i], &r->logprobs[i], sizeof(float)) != 0)
            return pd_fail(err, PD_EDIFFER,
                           "node %" PRIu32 ", token %" PRIu32
                           ": log-probability %.9g now, %.9g stored",
                           n->id, i, (double)n->logprobs[i], (double)r->logprobs[i]);
        if (n->confidences && r->confidences &&
            memcmp(&n->confidences[i], &r->confidences[i], sizeof(float)) != 0)
            return pd_fail(err, PD_EDIFFER,
                           "node %" PRIu32 ", token %" PRIu32 ": confidence %.9g now, %.9g stored",
                           n->id, i, (double)n->confidences[i], (double)r->confidences[i]);
    }
    if (n->n_tokens != r->n_tokens || strcmp(n->finish, r->finish) != 0)
        return pd_fail(err, PD_EDIFFER,
                       "node %" PRIu32 ": %" PRIu32 " tokens, %s now; %" PRIu32 ", %s stored",
                       n->id, n->n_tokens, n->finish, r->n_tokens, r->finish);
    return 0;
}

/* An empty step, or the last of `guard` equal ones, is a failed expansion. */
static void guard_step(struct node *n, int guard)
{
    struct pd_str text = pd_str_trim(n->text);
    const struct node *p = n;
    int equal = 0;

    if (text.len == 0) {
        n->status = NODE_FAILED;
        n->prune_reason = "empty_step";
        return;
    }
    for (; equal < guard && !p->prompt && pd_str_eq(pd_str_trim(p->text), text); p = p->parent)
        equal++;
    if (guard && equal == guard) {
        n->status = NODE_FAILED;
        n->prune_reason = "repeat";
    }
}

static void keep_top(struct search *s, struct node *n, const struct pd_lane *lane)
{
    size_t count = (size_t)lane->n_tokens * lane->sampling->n_top;

    if (!count)
        return;
    n->top_ids = pd_arena_memdup(s->arena, lane->top_ids, count * sizeof *lane->top_ids);
    n->top_logprobs =
        pd_arena_memdup(s->arena, lane->top_logprobs, count * sizeof *lane->top_logprobs);
    if (!n->top_ids || !n->top_logprobs)
        s->oom = true;
}

/* A lane has ended: turn it into its node. */
static int each_sprout(struct search *s, struct pd_lane *lane, struct pd_err *err)
{
    struct sprout *sp = lane->user;
    struct node *n = sp->node;
    bool user_cancel = lane->end == PD_END_CANCEL && !s->timed_out;
    int rc;

    rc = search_lane_record(s, search_gen(s), lane, "generate", writer(s), err);
    if (rc < 0 || user_cancel) /* not recorded: a resumed job draws the very same tokens again */
        goto out;
    if (lane->end == PD_END_ERROR) {
        rc = pd_fail(err, lane->err.code, "%s", lane->err.text);
        goto out;
    }
    n->call = rc;
    if (lane->sampling->confidence.top && !lane->confidences) {
        rc = pd_fail(err, PD_EINVAL, "'%s' does not tell how sure it is of its tokens", writer(s));
        goto out;
    }
    search_node_tokens(s, n, lane->tokens, lane->logprobs, lane->n_tokens);
    keep_top(s, n, lane);
    keep_confidences(s, n, lane->confidences);
    n->status = NODE_TRUNCATED;
    n->finish = "cut";
    switch (lane->end) {
    case PD_END_EOS:
        n->finish = "eos";
        n->status = NODE_FINISHED;
        break;
    case PD_END_STOP:
        n->finish = sp->until == UNTIL_THOUGHT   ? "thought"
                    : sp->until == UNTIL_BRACKET ? "list"
                                                 : "step";
        n->status = NODE_OPEN;
        break;
    case PD_END_LINE:
        n->finish = "stop";
        n->status = NODE_FINISHED;
        break;
    case PD_END_LENGTH:
        n->stop = sp->why;
        if (strcmp(sp->why, "max_step_tokens") == 0 || strcmp(sp->why, "cap") == 0) {
            n->finish = "length"; /* the next step goes on in mid-sentence */
            n->status = NODE_OPEN;
        }
        break;
    case PD_END_RACE:
        n->stop = "race";
        n->status = NODE_OPEN;
        break;
    case PD_END_CONFIDENCE:
        n->stop = "confidence";
        n->status = NODE_OPEN;
        break;
    case PD_END_CTX:
        n->stop = "context";
        break;
    default:
        n->stop = "seconds"; /* what the user cancelled is not recorded */
        break;
    }
    note_cut(s, n);
    rc = node_text(s, n, err);
    if (rc == 0 && strcmp(n->finish, "step") == 0)
        guard_step(n, s->job->common.repeat_guard);
    if (rc == 0)
        rc = search_node_settle(s, n, err);
    if (rc == 0 && s->job->mode == PD_JOB_VERIFY) {
        const struct pd_node_rec *r = search_stored_node(s, n->id);

        rc = r ? differs(s, n, r, err)
               : pd_fail(err, PD_EDIFFER, "node %" PRIu32 " is not in the stored trace", n->id);
    }
    if (rc == 0)
        rc = search_node_record(s, n, err);
out:
    search_ops(s)->release(search_gen(s), lane);
    pd_buf_done(&sp->heard);
    return rc < 0 ? rc : 0;
}

/* Tokens left to hand out. UINT64_MAX: no limit. */
static uint64_t tokens_left(const struct search *s)
{
    const struct pd_budget *b = &s->job->budget;
    uint64_t reserve = b->wrap_up ? b->wrap_reserve : 0;

    if (!b->tokens)
        return UINT64_MAX;
    return b->tokens > s->spent + reserve ? b->tokens - s->spent - reserve : 0;
}

/* Whether a budget forbids n more nodes now: s->stopped names it. */
static int budget_stop(struct search *s, uint64_t left, int n, struct pd_err *err)
{
    const struct pd_budget *b = &s->job->budget;
    bool late = s->job->mode == PD_JOB_RUN && pd_clock_now_ns() >= s->deadline_ns &&
                !search_stored_node(s, s->n_nodes); /* what is stored costs no time */

    if (left == 0)
        s->stopped = "tokens";
    else if (b->nodes && s->n_nodes - 1 + (uint64_t)n > b->nodes)
        s->stopped = "nodes";
    else if (late || search_clock_stopped(s, "budget.stop", s->n_nodes))
        return search_clock_stop(s, "budget.stop", s->n_nodes, err);
    return 0;
}

/* How children are made. */
struct grow_how {
    enum search_until until;
    int race_m;               /* 0: no race */
    bool aside;               /* beside the tree: not counted as the parent's child */
    bool greedy;              /* arg-max, whatever the job's temperature is */
    bool draft;               /* by the draft model */
    bool together;            /* ends of blocks, which see each other; a race to one */
    const char *const *never; /* see search_together */
    int within; /* most tokens of a child that stays open when it reaches them; 0: the job's */
};

static const char *stop_text(enum search_until until)
{
    static const char *const texts[] = {[UNTIL_STEP] = PD_STEP_DELIMITER,
                                        [UNTIL_THOUGHT] = PD_THINK_END,
                                        [UNTIL_BRACE] = "}",
                                        [UNTIL_BRACKET] = "]",
                                        [UNTIL_END] = NULL};

    return texts[until];
}

/* What the tree goes on from is part of it. */
void search_node_adopt(struct node *n)
{
    if (n->aside && !n->prompt) {
        n->parent->n_children++;
        n->aside = false;
    }
}

/* The child's node and how much it may draw. */
static void plan(struct search *s, struct sprout *sp, struct node *parent,
                 const struct grow_how *how, uint64_t share)
{
    const struct pd_common *c = &s->job->common;

    sp->node = search_node_new(s, parent);
    if (how->aside) {
        sp->node->aside = true;
        parent->n_children--;
    } else {
        search_node_adopt(parent);
    }
    if (how->draft) /* a second model on the same line draws from a stream of its own */
        sp->node->key = search_subkey(sp->node->key, ROLE_DRAFT, UINT64_MAX);
    sp->until = how->until;
    if (how->until == UNTIL_STEP && sp->node->depth >= (uint32_t)c->max_steps)
        sp->until = UNTIL_END; /* the last step that a line may have runs to the line's end */
    sp->cap = (uint32_t)c->max_tokens > parent->path_tokens
                  ? (uint32_t)c->max_tokens - parent->path_tokens
                  : 0;
    sp->why = "max_tokens";
    if (sp->until == UNTIL_STEP && (uint32_t)c->max_step_tokens < sp->cap) {
        sp->cap = (uint32_t)c->max_step_tokens;
        sp->why = "max_step_tokens";
    }
    if (how->within && (uint32_t)how->within <= sp->cap) {
        sp->cap = (uint32_t)how->within;
        sp->why = "cap";
    }
    if (share < sp->cap) {
        sp->cap = (uint32_t)share;
        sp->why = "tokens";
    }
}

/* A child that may draw nothing: a truncated line of no tokens. */
static int settle_empty(struct search *s, struct sprout *sp, struct pd_err *err)
{
    struct node *n = sp->node;
    int rc;

    n->status = NODE_TRUNCATED;
    n->finish = "cut";
    n->stop = sp->why;
    note_cut(s, n);
    n->text = PD_STR("");
    n->logprobs = search_alloc(s, sizeof(float));
    rc = search_node_settle(s, n, err);
    return rc < 0 ? rc : search_node_record(s, n, err);
}

/* Whether the model's context has no room behind the line of n. */
static bool line_is_full(const struct search *s, const struct node *n)
{
    const struct node *line = n;
    size_t count = 0;

    for (; !n->prompt; n = n->parent)
        count += n->n_tokens;
    count += n->n_tokens - search_forgotten(line);
    return count >= search_ops(s)->n_ctx(search_gen(s));
}

/* The same of the end of a block and what it sees, which grows by a token each as well. */
static bool view_is_full(const struct search *s, const struct node *n)
{
    return search_view_tokens(n) + (size_t)n->block->view.n + 1 >=
           search_ops(s)->n_ctx(search_gen(s));
}

/* Tokens of the line that ends in n. */
static const int32_t *line_tokens(struct search *s, const struct node *n, uint32_t *out_n)
{
    uint32_t count = 0;
    int32_t *ids;

    for (const struct node *p = n; !p->prompt; p = p->parent)
        count += p->n_tokens;
    ids = search_alloc(s, count * sizeof *ids);
    *out_n = count;
    for (; !n->prompt; n = n->parent)
        if (n->n_tokens)
            memcpy(ids + (count -= n->n_tokens), n->tokens, n->n_tokens * sizeof *ids);
    return ids;
}

/* Whether the prompt has opened a thought (1), or has one that is closed already (-1). */
static int prompt_thought(struct search *s)
{
    const struct node *root = s->nodes[0];
    struct pd_buf b = PD_BUF_INIT(1 << 16);
    uint32_t n = root->n_tokens < PROMPT_END ? root->n_tokens : PROMPT_END;
    struct pd_str text;
    int is = 0;

    if (search_ops(s)->detokenize(search_gen(s), root->tokens + root->n_tokens - n, n, &b, NULL) ==
        0) {
        text = pd_str_trim(pd_buf_str(&b));
        is = pd_str_ends(text, PD_STR(PD_THINK))       ? 1
             : pd_str_ends(text, PD_STR(PD_THINK_END)) ? -1
                                                       : 0;
    }
    pd_buf_done(&b);
    return is;
}

const struct pd_form *search_form(struct search *s)
{
    struct pd_form *f = &s->form;
    int thought;

    if (f->text)
        return f;
    *f = *s->job->form;
    if (f->after)
        return f;
    thought = prompt_thought(s);
    /* a model that has a token for it may open a thought itself */
    if (thought == 0 && search_ops(s)->find_token(search_gen(s), PD_THINK) >= 0)
        f->begin = PD_THINK;
    if (thought > 0 || f->begin)
        f->after = PD_THINK_END;
    return f;
}

/* What a request says of its answer, on the lane behind n: where it stops, and what it is to say.
 */
static void shape(struct search *s, const struct node *n, struct pd_sampling *sampling,
                  struct pd_lane *lane)
{
    const struct pd_job *job = s->job;

    sampling->presence_penalty = job->common.presence_penalty;
    sampling->frequency_penalty = job->common.frequency_penalty;
    sampling->bias = job->logit_bias;
    sampling->n_bias = job->n_logit_bias;
    if (sampling->presence_penalty != 0 || sampling->frequency_penalty != 0)
        lane->seen = line_tokens(s, n, &lane->n_seen);
    lane->line_stops = job->stops;
    if (job->stops)
        lane->before = search_stop_before(s, n);
    if (job->form) {
        lane->form = search_form(s);
        lane->written = search_line(s, n);
    }
}

/* What is not to be drawn, besides what the request says. */
static void forbid(struct search *s, const char *const *never, struct pd_sampling *sampling)
{
    const struct pd_generator_ops *ops = search_ops(s);
    const int32_t *bounds;
    size_t n = 0, n_bounds = ops->bounds(search_gen(s), &bounds);
    struct pd_bias *all;

    while (never[n])
        n++;
    all = search_alloc(s, (sampling->n_bias + n_bounds + n) * sizeof *all);
    if (sampling->n_bias)
        memcpy(all, sampling->bias, sampling->n_bias * sizeof *all);
    for (size_t i = 0; i < n_bounds; i++)
        all[sampling->n_bias++] = (struct pd_bias){bounds[i], NEVER_BIAS};
    for (size_t i = 0; i < n; i++) {
        int32_t id = ops->find_token(search_gen(s), never[i]);

        if (id >= 0)
            all[sampling->n_bias++] = (struct pd_bias){id, NEVER_BIAS};
    }
    sampling->bias = all;
}

/* The lane of a sprout behind p; not its context. */
static void prepare(struct search *s, struct sprout *sp, const struct node *p,
                    const struct grow_how *how)
{
    const struct pd_common *c = &s->job->common;

    sp->sampling = (struct pd_sampling){.temperature = how->greedy ? 0 : s->temperature,
                                        .top_k = c->top_k,
                                        .top_p = c->top_p,
                                        .min_p = c->min_p,
                                        .n_top = (uint32_t)c->top_logprobs,
                                        .confidence = s->confidence};
    sp->heard = PD_BUF_INIT(1 << 24);
    sp->lane = (struct pd_lane){.op = PD_LANE_GENERATE,
                                .sampling = &sp->sampling,
                                .key = sp->node->key,
                                .max_tokens = sp->cap,
                                .stop = stop_text(sp->until),
                                .race_m = (uint32_t)how->race_m,
                                .user = sp};
    if (!p->apart)
        shape(s, p, &sp->sampling, &sp->lane);
    if (how->never)
        forbid(s, how->never, &sp->sampling);
}

/* A lane of a round that is done again has ended: the same as it did. */
static int each_again(struct search *s, struct pd_lane *lane, struct pd_err *err)
{
    const struct sprout *sp = lane->user;
    int rc = search_lane_ended(s, search_gen(s), lane, sp ? "generate" : "prefill", writer(s), err);

    if (rc == 0 && sp && lane->end != PD_END_CANCEL &&
        (lane->n_tokens != sp->node->n_tokens ||
         memcmp(lane->tokens, sp->node->tokens, lane->n_tokens * sizeof *lane->tokens) != 0))
        rc = pd_fail(err, PD_EDIFFER, "node %" PRIu32 " comes out differently when drawn again",
                     sp->node->id);
    search_ops(s)->release(search_gen(s), lane);
    return rc;
}

static int each_of_round(struct search *s, struct pd_lane *lane, struct pd_err *err)
{
    return lane->user ? each_sprout(s, lane, err) : each_prefill(s, lane, err);
}

int search_run_round(struct search *s, struct search_round *r, struct pd_err *err)
{
    struct pd_lane **lanes;
    size_t n;
    int rc = search_round_begin(s, r, &lanes, &n, err);

    if (rc == 0)
        rc = search_run_lanes(s, search_gen(s), lanes, n, true,
                              r->again ? each_again : each_of_round, r->again ? NULL : live_sprout,
                              err);
    return rc < 0 ? rc : search_round_end(s, r, err);
}

/* The lanes go on at once, now, or when what was drawn is known and a context is wanted. */
static int make_round(struct search *s, struct pd_lane **lanes, size_t n, bool again,
                      struct pd_err *err)
{
    struct search_round *r = search_alloc(s, sizeof *r);
    int rc;

    *r = (struct search_round){.n = (int)n,
                               .lanes = lanes,
                               .from = search_array(s, (int)n),
                               .view = search_alloc(s, n * sizeof *r->view),
                               .to = search_array(s, (int)n),
                               .again = again};
    for (size_t i = 0; i < n; i++) {
        const struct sprout *sp = lanes[i]->user;

        r->to[i] = sp->node;
        r->from[i] = sp->node->parent;
        r->view[i] = r->from[i]->block->view;
    }
    if (again) {
        search_put_off(s, r);
        return 0;
    }
    rc = search_catch_up(s, err);
    return rc < 0 ? rc : search_run_round(s, r, err);
}

static int make_children(struct search *s, struct node *const *parents, int n,
                         const struct grow_how *how, struct node **out, struct pd_err *err)
{
    const struct pd_job *job = s->job;
    struct sprout *sprouts = search_alloc(s, (size_t)n * sizeof *sprouts);
    struct pd_lane **lanes = search_alloc(s, (size_t)n * sizeof *lanes);
    struct pd_lane *pre = search_alloc(s, (size_t)n * sizeof *pre);
    struct pd_lane **pres = search_alloc(s, (size_t)n * sizeof *pres);
    uint64_t left = tokens_left(s), count = (uint64_t)n;
    size_t n_lanes = 0, n_pres = 0;
    uint32_t longest = 0;
    size_t pending;
    bool all_stored = true;
    int rc = search_check(s, err);

    for (int i = 0; i < n && rc == 0; i++)
        if (!search_open(parents[i]))
            rc = pd_fail(err, PD_EINVAL, "node %" PRIu32 " cannot be extended: it is %s",
                         parents[i]->id, search_status_name(parents[i]->status));
    if (rc == 0)
        rc = budget_stop(s, left, n, err);
    if (rc < 0)
        return rc;
    if (s->stopped)
        return pd_fail(err, PD_EBUDGET, "the budget of %s is spent", s->stopped);

    for (int i = 0; i < n; i++)
        parents[i]->n_sprouts = 0;
    /* 1. All nodes first: their ids and shares do not depend on what is stored. */
    for (int i = 0; i < n; i++) {
        parents[i]->n_sprouts++;
        plan(s, &sprouts[i], parents[i], how,
             left == UINT64_MAX ? left : left / count + ((uint64_t)i < left % count));
        out[i] = sprouts[i].node;
        all_stored &= search_stored_node(s, out[i]->id) != NULL;
    }
    /* 2. What is stored is served; the rest become lanes. */
    for (int i = 0; i < n; i++) {
        struct sprout *sp = &sprouts[i];
        const struct pd_node_rec *r = search_stored_node(s, sp->node->id);
        struct node *p = sp->node->parent; /* out may be parents: that is overwritten by now */

        /* a race is decided by all of its lanes together, so it is served or run as a whole */
        if (r && job->mode != PD_JOB_VERIFY && (!how->race_m || all_stored)) {
            rc = search_node_serve(s, sp->node, r, err);
            if (rc < 0)
                return rc;
            if (how->together && job->mode == PD_JOB_RUN && sp->cap && !view_is_full(s, p)) {
                prepare(s, sp, p, how);
                lanes[n_lanes++] = &sp->lane;
            }
            continue;
        }
        if (job->mode == PD_JOB_RECORDED)
            return pd_fail(err, PD_ENOENT, "node %" PRIu32 " is not in the stored trace",
                           sp->node->id);
        if (r && job->mode == PD_JOB_VERIFY && r->stop && strcmp(r->stop, "seconds") == 0) {
            sp->cap = r->n_tokens; /* cut by the clock then: cut at the same token now */
            sp->why = "seconds";
        }
        if (how->together ? view_is_full(s, p) : line_is_full(s, p)) {
            sp->cap = 0;
            sp->why = "context";
        }
        rc = !sp->cap ? settle_empty(s, sp, err) : !how->together ? search_node_ctx(s, p, err) : 0;
        if (rc < 0)
            return rc;
        if (!sp->cap)
            continue;
        prepare(s, sp, p, how);
        lanes[n_lanes++] = &sp->lane;
        if (how->together)
            continue;
        /* a parent of several children, or with more than its last token to evaluate, is
         * evaluated once: these children and later ones start from its logits */
        pending = search_ops(s)->ctx_n_tokens(search_gen(s), p->ctx[s->role]) -
                  search_ops(s)->ctx_n_cached(search_gen(s), p->ctx[s->role]);
        if (p->n_sprouts && pending > (p->n_sprouts == 1)) {
            pre[n_pres] =
                (struct pd_lane){.op = PD_LANE_PREFILL, .ctx = p->ctx[s->role], .user = p};
            pres[n_pres] = &pre[n_pres];
            n_pres++;
        }
        p->n_sprouts = 0; /* once a call */
    }
    if (how->together && n_lanes)
        rc = make_round(s, lanes, n_lanes, all_stored && job->mode == PD_JOB_RUN, err);
    if (n_pres)
        rc = search_run_lanes(s, search_gen(s), pres, n_pres, true, each_prefill, NULL, err);
    for (size_t i = 0; i < n_lanes && !how->together && rc == 0; i++) {
        struct sprout *sp = lanes[i]->user;

        rc = search_ops(s)->ctx_fork(search_gen(s), sp->node->parent->ctx[s->role],
                                     &sp->node->ctx[s->role], err);
        sp->lane.ctx = sp->node->ctx[s->role];
    }
    if (n_lanes && !how->together && rc == 0)
        rc =
            search_run_lanes(s, search_gen(s), lanes, n_lanes, true, each_sprout, live_sprout, err);
    for (int i = 0; i < n; i++)
        longest = out[i]->n_tokens > longest ? out[i]->n_tokens : longest;
    s->usage.sequential += longest; /* what is made next depends on all of these */
    return rc < 0 ? rc : search_check(s, err);
}

/* Children of parents[0..n), out[i] of parents[i]; out may be parents. */
static int grow(struct search *s, struct node *const *parents, int n, const struct grow_how *how,
                struct node **out, struct pd_err *err)
{
    int rc;

    s->role = how->draft ? ROLE_DRAFT : ROLE_BASE;
    rc = make_children(s, parents, n, how, out, err);
    s->role = ROLE_BASE;
    return rc;
}

static int check_count(int n, struct pd_err *err)
{
    return n >= 1 && n <= 4096
               ? 0
               : pd_fail(err, PD_EINVAL, "cannot make %d nodes at once (1 to 4096)", n);
}

/* The lines that were lent stand for the first of n: how many. */
static int take_lent(struct search *s, struct node *const *nodes, int n, enum search_until until,
                     struct node **out)
{
    int k = 0;

    if (until != UNTIL_END || s->temperature < s->job->common.temperature ||
        s->temperature > s->job->common.temperature)
        return 0;
    for (; k < n && s->n_lent && nodes[k] == s->nodes[0]; k++, s->n_lent--)
        out[k] = *s->lent++;
    return k;
}

int search_extend(struct search *s, struct node *const *nodes, int n, enum search_until until,
                  struct node **out, struct pd_err *err)
{
    int rc = check_count(n, err), k = rc < 0 ? 0 : take_lent(s, nodes, n, until, out);

    return rc < 0 || k == n
               ? rc
               : grow(s, nodes + k, n - k, &(struct grow_how){.until = until}, out + k, err);
}

int search_sample(struct search *s, struct node *parent, int n, enum search_until until,
                  struct node **out, struct pd_err *err)
{
    int rc = check_count(n, err);
    struct node **parents = search_array(s, n);

    for (int i = 0; i < n; i++)
        parents[i] = parent;
    return rc < 0 ? rc : search_extend(s, parents, n, until, out, err);
}

int search_race(struct search *s, struct node *const *nodes, int n, int m, enum search_until until,
                struct node **out, struct pd_err *err)
{
    int rc = check_count(n, err);

    if (rc == 0 && (m < 1 || m > n))
        rc = pd_fail(err, PD_EINVAL, "cannot take the first %d of %d lines", m, n);
    return rc < 0 ? rc
                  : grow(s, nodes, n, &(struct grow_how){.until = until, .race_m = m}, out, err);
}

/* The open ones of n nodes go on, in place. PD_ENOENT: none is open. */
static int advance(struct search *s, struct node **nodes, int n, const struct grow_how *how,
                   struct pd_err *err)
{
    struct node **open = search_array(s, n);
    int rc, live = 0;

    for (int i = 0; i < n; i++)
        if (search_open(nodes[i]))
            open[live++] = nodes[i];
    if (live == 0)
        return PD_ENOENT;
    rc = check_count(live, err);
    if (rc == 0)
        rc = grow(s, open, live, how, open, err);
    for (int i = n; i-- > 0 && rc == 0;)
        if (search_open(nodes[i]))
            nodes[i] = open[--live];
    return rc;
}

int search_advance(struct search *s, struct node **nodes, int n, enum search_until until,
                   struct pd_err *err)
{
    int rc = advance(s, nodes, n, &(struct grow_how){.until = until}, err);

    return rc == PD_ENOENT ? 0 : rc;
}

int search_extend_within(struct search *s, struct node *const *nodes, int n,
                         enum search_until until, int max_tokens, struct node **out,
                         struct pd_err *err)
{
    int rc = check_count(n, err);

    if (rc == 0 && max_tokens < 1)
        rc = pd_fail(err, PD_EINVAL, "cannot make nodes of %d tokens", max_tokens);
    return rc < 0 ? rc
                  : grow(s, nodes, n, &(struct grow_how){.until = until, .within = max_tokens}, out,
                         err);
}

int search_draft(struct search *s, struct node *const *nodes, int n, enum search_until until,
                 struct node **out, struct pd_err *err)
{
    const struct grow_how how = {.until = until, .aside = true, .draft = true};
    int rc = check_count(n, err);

    return rc < 0 ? rc : grow(s, nodes, n, &how, out, err);
}

int search_together(struct search *s, struct node **nodes, int n, int max_tokens,
                    const char *const *never, struct pd_err *err)
{
    const struct grow_how how = {.until = UNTIL_STEP,
                                 .race_m = n > 1,
                                 .together = n > 1 || nodes[0]->block,
                                 .within = max_tokens,
                                 .never = never};
    int rc = check_count(n, err);

    for (int i = 0; i < n && rc == 0; i++)
        if (how.together && !nodes[i]->block)
            rc = pd_fail(err, PD_EINVAL, "node %" PRIu32 " is not of a block", nodes[i]->id);
    if (rc == 0 && max_tokens < 1)
        rc = pd_fail(err, PD_EINVAL, "cannot make nodes of %d tokens", max_tokens);
    return rc < 0 ? rc : grow(s, nodes, n, &how, nodes, err);
}

int search_rollout(struct search *s, struct node *const *nodes, int n, int steps, struct node **out,
                   struct pd_err *err)
{
    const struct grow_how how = {.until = UNTIL_STEP, .aside = true, .greedy = true};
    int rc = 0;

    for (int i = 0; i < n; i++)
        out[i] = nodes[i];
    for (int k = 0; k < steps && rc == 0; k++)
        rc = advance(s, out, n, &how, err);
    return rc == PD_ENOENT ? 0 : rc;
}

int search_wrap(struct search *s, struct node *parent, uint32_t max, struct node **out,
                struct pd_err *err)
{
    struct pd_common common = s->job->common;
    struct pd_budget budget = s->job->budget;
    struct pd_confidence confidence = s->confidence;
    const char *stopped = s->stopped;
    int rc;

    /* the reserve is spent now: greedy, within it */
    s->stopped = NULL;
    s->deadline_ns = PD_NEVER_NS;
    s->job->common.max_tokens = (int)(parent->path_tokens + max);
    s->job->budget.wrap_up = NULL;
    s->job->budget.nodes = 0;
    s->confidence = (struct pd_confidence){0};
    rc = grow(s, &parent, 1, &(struct grow_how){.until = UNTIL_END, .greedy = true}, out, err);
    s->job->common = common;
    s->job->budget = budget;
    s->confidence = confidence;
    s->stopped = stopped;
    return rc;
}
