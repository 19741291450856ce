/* Lines of which lanes do not see everything (search_forget): what is forgotten stays in the tree
 * and in the trace, but is not in the contexts of the nodes behind.
 *
 * What is kept behind a gap is evaluated again where it is now: its context is, bit for bit, that
 * of the text that is left, found in the prefix tree and made again on resume like any other. */
#include "core/search_int.h"

/* The gaps of a line: those of the last node on it that has some of its own. */
static const struct node *gaps_of(const struct node *n)
{
    while (!n->gaps && !n->prompt)
        n = n->parent;
    return n;
}

size_t search_forgotten(const struct node *n)
{
    const struct node *g = gaps_of(n);
    size_t count = 0;

    for (size_t i = 0; i < g->n_gaps; i++)
        count += g->gaps[i].end - g->gaps[i].first;
    return count;
}

/* Whether token i of the line is in a gap. */
static bool is_gap(const struct node *g, size_t i)
{
    for (size_t k = 0; k < g->n_gaps; k++)
        if (i >= g->gaps[k].first && i < g->gaps[k].end)
            return true;
    return false;
}

static size_t line_tokens(const struct node *n)
{
    size_t count = 0;

    for (; !n->prompt; n = n->parent)
        count += n->n_tokens;
    return count;
}

static int32_t line_token(const struct node *n, size_t i, size_t n_line)
{
    for (size_t first = n_line - n->n_tokens; i < first; first -= n->n_tokens)
        n = n->parent, n_line = first;
    return n->tokens[i - (n_line - n->n_tokens)];
}

static const struct node *prompt_of(const struct node *n)
{
    while (!n->prompt)
        n = n->parent;
    return n;
}

int search_forget_in(struct search *s, struct node *n, struct pd_gctx *c, const struct node *was,
                     struct pd_err *err)
{
    struct pd_generator *g = search_gen(s);
    const struct node *now = gaps_of(n), *old = gaps_of(was);
    size_t count = line_tokens(n), at = prompt_of(n)->n_tokens, first = 0;
    int rc;

    if (now == old)
        return 0;
    for (; first < count && is_gap(now, first) == is_gap(old, first); first++)
        at += !is_gap(now, first);
    rc = g->ops->ctx_rollback(g, c, at, err);
    for (size_t i = first; i < count && rc == 0; i++) {
        int32_t id = line_token(n, i, count);

        if (!is_gap(now, i))
            rc = g->ops->ctx_append(g, c, &id, 1, err);
    }
    return rc;
}

/* The tokens that lie wholly in bytes [begin, end) of the line. */
static int tokens_in(struct search *s, const struct node *n, size_t begin, size_t end,
                     struct search_gap *out, struct pd_err *err)
{
    struct pd_generator *g = s->job->gen;
    size_t count = line_tokens(n), at = 0;
    int rc = 0;

    *out = (struct search_gap){count, count};
    for (size_t i = 0; i < count && rc == 0 && at < end; i++) {
        struct pd_buf text = PD_BUF_INIT(1 << 20);
        int32_t id = line_token(n, i, count);

        rc = g->ops->detokenize(g, &id, 1, &text, err);
        if (at >= begin && at + text.len <= end) {
            if (out->first == count)
                out->first = i;
            out->end = i + 1;
        }
        at += text.len;
        pd_buf_done(&text);
    }
    return rc;
}

int search_forget(struct search *s, struct node *node, size_t begin, size_t end, struct pd_err *err)
{
    const struct node *was = gaps_of(node);
    struct search_gap gap, *gaps;
    size_t n = 0;
    struct node before;
    int rc;

    node->n_forgets++; /* what is drawn next has random numbers of its own */
    if (s->job->mode == PD_JOB_RECORDED)
        return 0;
    rc = tokens_in(s, node, begin, end, &gap, err);
    if (rc < 0 || gap.first == gap.end)
        return rc;
    gaps = search_alloc(s, (was->n_gaps + 1) * sizeof *gaps);
    for (size_t i = 0; i < was->n_gaps; i++) {
        struct search_gap old = was->gaps[i];

        if (old.end < gap.first || old.first > gap.end) {
            gaps[n++] = old;
        } else { /* one with the new one */
            gap.first = old.first < gap.first ? old.first : gap.first;
            gap.end = old.end > gap.end ? old.end : gap.end;
        }
    }
    gaps[n++] = gap;
    before = *was;
    node->gaps = gaps;
    node->n_gaps = n;
    for (int role = 0; role < N_ROLES && rc == 0; role++) {
        if (!node->ctx[role])
            continue;
        s->role = (enum search_role)role;
        rc = search_forget_in(s, node, node->ctx[role], &before, err);
        s->role = ROLE_BASE;
    }
    /* who is before on the line holds pages of what was forgotten */
    for (struct node *p = node->parent; p && !p->prompt && rc == 0; p = p->parent)
        if (p->n_children == 1)
            search_node_drop_ctx(s, p);
    return rc;
}
