/* Blocks that are written at once and see each other (search_together, search_join): whose context
 * is where, and what was put off.
 *
 * A block's context belongs to its end: a node behind takes it over, a join moves it into the
 * line's. What is served from a record needs no context. Its rounds and joins are put off, and done
 * in their order before the first thing that is not in the record: what a block's cache holds
 * depends on all that was written beside it, so that it is written again, token for token. */
#include "core/search_int.h"

static size_t block_tokens(const struct node *n)
{
    size_t count = n->n_tokens;

    for (; n != n->block; n = n->parent)
        count += n->parent->n_tokens;
    return count;
}

static size_t line_tokens(const struct node *n)
{
    size_t count = n->n_tokens;

    for (; !n->prompt; n = n->parent)
        count += n->parent->n_tokens;
    return count;
}

size_t search_view_tokens(const struct node *n)
{
    size_t count = block_tokens(n);

    for (int i = 0; i < n->block->view.n; i++) {
        const struct node *x = n->block->view.sees[i];

        count += x->block ? block_tokens(x) : line_tokens(x);
    }
    return count;
}

void search_see(struct search *s, struct node *node, struct node *const *sees, int n)
{
    struct search_view v = {search_array(s, n), n};

    memcpy(v.sees, sees, (size_t)n * sizeof *sees);
    node->block->view = v;
}

/* ---- contexts ------------------------------------------------------------------------------ */

/* The context of a block's end, taken over from the node before. */
static int block_ctx(struct search *s, struct node *n, struct pd_err *err)
{
    struct pd_generator *g = s->job->gen;
    int rc;

    if (n->block_ctx)
        return 0;
    if (n == n->block) {
        rc = g->ops->ctx_new(g, &n->block_ctx, err);
        if (rc == 0 && g->ops->ctx_written)
            rc = g->ops->ctx_written(g, n->block_ctx, err);
    } else {
        rc = block_ctx(s, n->parent, err);
        if (rc == 0) {
            n->block_ctx = n->parent->block_ctx;
            n->parent->block_ctx = NULL;
        }
    }
    return rc < 0 ? rc : g->ops->ctx_append(g, n->block_ctx, n->tokens, n->n_tokens, err);
}

void search_block_drop(struct search *s, struct node *n)
{
    if (n->block_ctx)
        s->job->gen->ops->ctx_free(s->job->gen, n->block_ctx);
    n->block_ctx = NULL;
}

static int seen_ctx(struct search *s, struct node *n, struct pd_gctx **out, struct pd_err *err)
{
    int rc = n->block ? block_ctx(s, n, err) : search_node_ctx(s, n, err);

    *out = n->block ? n->block_ctx : n->ctx[ROLE_BASE];
    return rc;
}

static size_t n_pending(const struct search *s, const struct pd_gctx *c)
{
    struct pd_generator *g = s->job->gen;

    return g->ops->ctx_n_tokens(g, c) - g->ops->ctx_n_cached(g, c);
}

static int each_prefill(struct search *s, struct pd_lane *lane, struct pd_err *err)
{
    int rc = search_lane_ended(s, s->job->gen, lane, "prefill", s->job->model, err);

    s->job->gen->ops->release(s->job->gen, lane);
    return rc;
}

static int prefill(struct search *s, struct pd_gctx *c, struct pd_err *err)
{
    struct pd_lane lane = {.op = PD_LANE_PREFILL, .ctx = c}, *list = &lane;

    return search_run_lanes(s, s->job->gen, &list, 1, true, each_prefill, NULL, err);
}

/* What a context sees; a lane of the round is seen as it is written. */
static int set_view(struct search *s, struct pd_gctx *c, const struct search_view *v,
                    const struct search_round *r, struct pd_err *err)
{
    struct pd_gctx **ctx = search_alloc(s, (size_t)v->n * sizeof(struct pd_gctx *));
    int rc = 0;

    for (int i = 0; i < v->n && rc == 0; i++) {
        int lane = 0;

        while (lane < r->n && r->from[lane] != v->sees[i])
            lane++;
        if (lane < r->n)
            ctx[i] = r->lanes[lane]->ctx;
        else
            rc = seen_ctx(s, v->sees[i], &ctx[i], err);
    }
    return rc < 0 ? rc : s->job->gen->ops->ctx_view(s->job->gen, c, ctx, (size_t)v->n, err);
}

static int end_view(struct search *s, struct pd_gctx *c, struct pd_err *err)
{
    return s->job->gen->ops->ctx_view(s->job->gen, c, NULL, 0, err);
}

/* Node x is seen in a round, but not written: it is evaluated now, or beside the round if that is
 * one step. The last token of a block that rests need not be. */
static int make_seen(struct search *s, struct node *x, const struct search_round *r,
                     struct pd_lane **lanes, size_t *io_n, struct pd_err *err)
{
    struct pd_gctx *c;
    int rc = seen_ctx(s, x, &c, err);
    struct pd_lane *lane;

    if (rc < 0 || n_pending(s, c) == 0)
        return rc;
    if (x->block) {
        if (s->job->gen->ops->ctx_n_cached(s->job->gen, c) > 0)
            return 0;
        rc = set_view(s, c, &x->block->view, r, err);
        if (rc == 0)
            rc = prefill(s, c, err);
        return rc < 0 ? rc : end_view(s, c, err);
    }
    if (n_pending(s, c) > 1)
        return prefill(s, c, err);
    for (size_t i = (size_t)r->n; i < *io_n; i++)
        if (lanes[i]->ctx == c)
            return 0;
    lane = search_alloc(s, sizeof *lane);
    *lane = (struct pd_lane){.op = PD_LANE_PREFILL, .ctx = c, .race_m = r->lanes[0]->race_m};
    lanes[(*io_n)++] = lane;
    return 0;
}

static bool is_written(const struct search_round *r, const struct node *x)
{
    for (int i = 0; i < r->n; i++)
        if (r->from[i] == x)
            return true;
    return false;
}

int search_round_begin(struct search *s, struct search_round *r, struct pd_lane ***out,
                       size_t *out_n, struct pd_err *err)
{
    size_t most = (size_t)r->n;
    struct pd_lane **lanes;
    int rc = 0;

    for (int i = 0; i < r->n; i++)
        most += (size_t)r->view[i].n;
    lanes = search_alloc(s, most * sizeof *lanes);
    *out = lanes;
    *out_n = (size_t)r->n;
    for (int i = 0; i < r->n && rc == 0; i++) {
        lanes[i] = r->lanes[i];
        rc = block_ctx(s, r->from[i], err);
        lanes[i]->ctx = r->from[i]->block_ctx;
    }
    for (int i = 0; i < r->n; i++) {
        const struct search_view *v = &r->view[i];

        for (int k = 0; k < v->n && rc == 0; k++)
            if (!is_written(r, v->sees[k]))
                rc = make_seen(s, v->sees[k], r, lanes, out_n, err);
    }
    for (int i = 0; i < r->n && rc == 0; i++)
        rc = set_view(s, lanes[i]->ctx, &r->view[i], r, err);
    for (int i = 0; i < r->n && rc == 0; i++) {
        r->to[i]->block_ctx = r->from[i]->block_ctx;
        r->from[i]->block_ctx = NULL;
    }
    return rc;
}

int search_round_end(struct search *s, const struct search_round *r, struct pd_err *err)
{
    int rc = 0;

    for (int i = 0; i < r->n && rc == 0; i++)
        rc = end_view(s, r->to[i]->block_ctx, err);
    return rc;
}

/* The block that ends in `from` moves behind onto, whose context becomes that of `to`. */
static int join(struct search *s, struct node *from, struct node *onto, struct node *to,
                struct pd_err *err)
{
    struct pd_generator *g = s->job->gen;
    size_t n = block_tokens(from) - (strcmp(from->finish, "eos") == 0);
    struct pd_gctx *c;
    int rc = seen_ctx(s, onto, &c, err);

    if (rc == 0)
        rc = block_ctx(s, from, err);
    if (rc == 0 && n_pending(s, c) > 0)
        rc = prefill(s, c, err);
    if (rc == 0)
        rc = g->ops->ctx_move(g, c, from->block_ctx, n, err);
    if (rc < 0)
        return rc;
    to->ctx[ROLE_BASE] = c;
    onto->ctx[ROLE_BASE] = NULL;
    search_block_drop(s, from);
    return 0;
}

/* ---- what is put off ----------------------------------------------------------------------- */

void search_put_off(struct search *s, struct search_round *r)
{
    struct search_round **end = &s->put_off;

    while (*end)
        end = &(*end)->next;
    *end = r;
}

int search_catch_up(struct search *s, struct pd_err *err)
{
    struct search_round *r = s->put_off;
    int rc = 0;

    s->put_off = NULL; /* making contexts does not come here again */
    for (; r && rc == 0; r = r->next)
        rc = r->joined ? join(s, r->joined, r->onto, r->to[0], err) : search_run_round(s, r, err);
    return rc;
}

int search_join(struct search *s, struct node *onto, struct node *node, struct node **out,
                struct pd_err *err)
{
    struct search_round *r = search_alloc(s, sizeof *r);
    int rc = search_node_give_block(s, onto, node, out, err);

    if (rc < 0 || s->job->mode == PD_JOB_RECORDED)
        return rc;
    r->joined = node;
    r->onto = onto;
    r->to = search_array(s, 1);
    r->to[0] = *out;
    search_put_off(s, r);
    return 0;
}
