/* step_tag: a process-reward model that marks each step at a tag token. Wang et al., Math-Shepherd,
 * arXiv:2312.08935, §3.4: the step's reward is the probability of the good label against the bad
 * one at the tag, r = softmax over {'+','-'} = 1 / (1 + exp(l(-) - l(+))).
 *
 * The context is: prompt, then for each step its text, a blank line, the tag. Tags stay in the
 * context, so one pass reads a whole line, and a longer line costs only its new tokens: the nearest
 * scored ancestor's context is forked, rolled back to the common prefix, and extended. Step text is
 * tokenised plainly: a tag that a model writes into its own text is text. */
#include <stdlib.h>

#include "core/verifier.h"

/* Tags by which a vocabulary shows that its model marks steps, most specific first. */
static const char *const tags[] = {"<|step|>", "\xd0\xba\xd0\xb8",
                                   NULL}; /* the second is Math-Shepherd's */

struct tag_state { /* of the job */
    int32_t tag, labels[2];
    int32_t *prompt;
    size_t n_prompt;
    struct line *lines; /* every context handed out, freed at close */
};

struct line { /* what is left at a scored node */
    struct line *next;
    struct pd_gctx *ctx;
    const int32_t *ids;
    size_t n_ids;
    const double *values;
    size_t n_values;
    const size_t *ends; /* token count up to and with the k-th tag */
};

static int tag_open(struct pd_scorer *s, struct pd_err *err)
{
    struct pd_generator *g = s->gen;
    struct tag_state *t = pd_arena_alloc(s->arena, sizeof *t);
    struct pd_message room[2];
    struct pd_chat ask = pd_chat_ask(s->system, pd_str_of(s->question), room);

    if (!t)
        return pd_fail(err, PD_ENOMEM, "out of memory for the scorer");
    t->tag = -1;
    for (size_t i = 0; tags[i] && t->tag < 0; i++)
        t->tag = g->ops->find_token(g, tags[i]);
    t->labels[0] = g->ops->find_token(g, "+");
    t->labels[1] = g->ops->find_token(g, "-");
    if (t->tag < 0 || t->labels[0] < 0 || t->labels[1] < 0)
        return pd_fail(err, PD_EFORMAT,
                       "scorer '%s' is not a step-tag reward model: its vocabulary has no step tag "
                       "with labels + and -",
                       g->name);
    s->state = t;
    return g->ops->chat(g, &ask, &t->prompt, &t->n_prompt, err);
}

static void tag_close(struct pd_scorer *s)
{
    struct tag_state *t = s->state;

    for (struct line *l = t->lines; l; l = l->next)
        s->gen->ops->ctx_free(s->gen, l->ctx);
    free(t->prompt);
}

/* The whole line as token ids; ends[k] = count up to and with the k-th tag. */
static int line_ids(struct pd_scorer *s, const struct pd_candidate *c, int32_t **ids, size_t *n,
                    size_t *ends, struct pd_err *err)
{
    const struct tag_state *t = s->state;
    int rc;

    *ids = malloc((t->n_prompt + 1) * sizeof **ids);
    if (!*ids)
        return pd_fail(err, PD_ENOMEM, "out of memory for the scorer");
    memcpy(*ids, t->prompt, t->n_prompt * sizeof **ids);
    *n = t->n_prompt;
    for (size_t k = 0; k < c->n_steps; k++) {
        struct pd_buf text = PD_BUF_INIT(1 << 24);
        int32_t *grown;

        pd_buf_adds(&text, c->steps[k]);
        pd_buf_addz(&text, "\n\n");
        rc = pd_buf_rc(&text) ? pd_fail(err, pd_buf_rc(&text), "a step is too long to score")
                              : s->gen->ops->tokenize(s->gen, pd_buf_str(&text), ids, n, err);
        pd_buf_done(&text);
        if (rc < 0)
            return rc;
        grown = realloc(*ids, (*n + 1) * sizeof **ids);
        if (!grown)
            return pd_fail(err, PD_ENOMEM, "out of memory for the scorer");
        *ids = grown;
        grown[(*n)++] = t->tag;
        ends[k] = *n;
    }
    return 0;
}

/* Logistic function of the difference of the two labels' logits, in double: exp of the C library is
 * avoided, its last bit differs between versions. e^x = 2^k e^r, |r| ≤ ln2/2, Taylor to 1e-17. */
static double sigmoid(double x)
{
    double z = x < 0 ? x : -x, k, r, e = 1, term = 1;

    if (z < -700)
        return x < 0 ? 0 : 1;
    k = (double)(long)(z * 1.4426950408889634 - 0.5);
    r = (z - k * 0.693147180369123816490) - k * 1.90821492927058770002e-10;
    for (int i = 1; i < 20; i++) {
        term = term * r / i;
        e += term;
    }
    for (; k < 0; k++)
        e *= 0.5;
    return x < 0 ? e / (1 + e) : 1 / (1 + e);
}

struct reading { /* one candidate on its way */
    struct pd_lane lane;
    uint32_t *at;
    size_t first; /* step of at[0] */
    struct line *line;
};

static int prepare(struct pd_scorer *s, struct pd_candidate *c, struct reading *r,
                   struct pd_err *err)
{
    struct pd_generator *g = s->gen;
    struct tag_state *t = s->state;
    struct line *parent = c->parent_state, *l = pd_arena_alloc(s->arena, sizeof *l);
    size_t *ends = pd_arena_array(s->arena, c->n_steps + 1, sizeof *ends), n = 0, same = 0;
    int32_t *ids = NULL;
    int rc;

    c->values = pd_arena_array(s->arena, c->n_steps + 1, sizeof *c->values);
    r->at = pd_arena_array(s->arena, c->n_steps + 1, sizeof *r->at);
    if (!l || !ends || !c->values || !r->at)
        return pd_fail(err, PD_ENOMEM, "out of memory for the scorer");
    rc = line_ids(s, c, &ids, &n, ends, err);
    if (rc < 0 ||
        n > g->ops->n_ctx(g)) /* too long for the reward model: no score rather than part of one */
        goto out;
    l->ids = pd_arena_memdup(s->arena, ids, n * sizeof *ids);
    l->n_ids = n;
    if (!l->ids) {
        rc = pd_fail(err, PD_ENOMEM, "out of memory for the scorer");
        goto out;
    }
    if (parent) {
        while (same < n && same < parent->n_ids && ids[same] == parent->ids[same])
            same++;
        while (r->first < c->n_steps && r->first < parent->n_values && ends[r->first] <= same) {
            c->values[r->first] = parent->values[r->first];
            r->first++;
        }
        /* back to the last tag that both share: what follows is evaluated as in a fresh context */
        same = r->first ? ends[r->first - 1] : t->n_prompt < same ? t->n_prompt : same;
        rc = g->ops->ctx_fork(g, parent->ctx, &l->ctx, err);
        if (rc == 0)
            rc = g->ops->ctx_rollback(g, l->ctx, same, err);
    } else if (t->lines) { /* the prompt's pages are shared by all lines of the job */
        same = t->n_prompt;
        rc = g->ops->ctx_fork(g, t->lines->ctx, &l->ctx, err);
        if (rc == 0)
            rc = g->ops->ctx_rollback(g, l->ctx, same, err);
    } else {
        rc = g->ops->ctx_new(g, &l->ctx, err);
    }
    if (l->ctx) { /* even when it could not be rolled back: close frees it */
        l->next = t->lines;
        t->lines = l;
    }
    if (rc < 0)
        goto out;
    rc = g->ops->ctx_append(g, l->ctx, ids + same, n - same, err);
    if (rc < 0)
        goto out;
    for (size_t k = r->first; k < c->n_steps; k++)
        r->at[k - r->first] = (uint32_t)ends[k] - 1;
    l->values = c->values;
    l->n_values = c->n_steps;
    l->ends = ends;
    r->line = l;
    r->lane = (struct pd_lane){.op = PD_LANE_READ,
                               .ctx = l->ctx,
                               .at = r->at,
                               .n_at = (uint32_t)(c->n_steps - r->first),
                               .labels = t->labels,
                               .n_labels = 2};
    c->state = l;
    c->n_values = c->n_steps;
out:
    free(ids);
    return rc;
}

/* Reads candidates [from, to) in one batch. */
static int read_batch(struct pd_scorer *s, struct pd_candidate *cands, size_t from, size_t to,
                      struct pd_err *err)
{
    struct reading *rs = pd_arena_array(s->arena, to - from, sizeof *rs);
    struct pd_lane **lanes = pd_arena_array(s->arena, to - from, sizeof *lanes);
    size_t n = 0;
    int rc = rs && lanes ? 0 : pd_fail(err, PD_ENOMEM, "out of memory for the scorer");

    for (size_t i = from; i < to && rc == 0; i++) {
        rc = prepare(s, &cands[i], &rs[i - from], err);
        if (rc == 0 && rs[i - from].lane.n_at)
            lanes[n++] = &rs[i - from].lane;
    }
    if (rc == 0 && n)
        rc = pd_scorer_run(s, lanes, n, err);
    for (size_t i = from; i < to && rc == 0; i++) {
        struct reading *r = &rs[i - from];

        for (uint32_t k = 0; k < r->lane.n_at; k++)
            cands[i].values[r->first + k] =
                sigmoid((double)r->lane.logits[2 * k] - (double)r->lane.logits[2 * k + 1]);
    }
    for (size_t i = 0; i < n; i++)
        s->gen->ops->release(s->gen, lanes[i]);
    return rc;
}

static int tag_score(struct pd_scorer *s, struct pd_candidate *cands, size_t n, struct pd_err *err)
{
    struct tag_state *t = s->state;
    size_t first =
        !t->lines && n > 1; /* the first line of a job evaluates the prompt for all others */
    int rc = first ? read_batch(s, cands, 0, 1, err) : 0;

    return rc < 0 ? rc : read_batch(s, cands, first, n, err);
}

extern const struct pd_verifier verifier_step_tag;
const struct pd_verifier verifier_step_tag = {
    .name = "step_tag",
    .paper = "arXiv:2312.08935",
    .summary = "probability of + against - at a tag behind each step",
    .kind = "step",
    .open = tag_open,
    .score = tag_score,
    .close = tag_close,
};
