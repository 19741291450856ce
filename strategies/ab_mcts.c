/* ab_mcts: adaptive branching Monte Carlo tree search. Inoue et al., Wider or Deeper? Scaling LLM
 * Inference-Time Compute with Adaptive Branching Tree Search, arXiv:2503.04412, §3, variant A.
 * Every node is a whole answer with a reward in [0,1]; from the root down, Thompson sampling
 * decides at each node between a new answer (GEN; ties) and going on below one of its children
 * (CONT). A new answer at the root is a fresh one, elsewhere it refines the node's. Posteriors:
 * prior=gaussian, a normal-inverse-gamma; beta, Beta(1/2, 1/2). `batch` descents are made before
 * their answers are drawn, together. */
#include "strategies/thompson.h"

struct ab_params {
    int samples, batch, prior;
};

struct place {
    struct node *node;
    struct place *parent, **child;
    int n_child;
    size_t cap_child;
    struct arm gen, cont, self; /* self: this place as its parent's child */
};

/* Draws for n arms; they go into the trace. */
static void draw_all(struct search *s, const struct ab_params *p, struct pd_jw *w,
                     const struct arm *const *arms, double *theta, int n)
{
    pd_jw_array(w);
    for (int i = 0; i < n; i++) {
        theta[i] = arm_draw(arms[i], (enum arm_prior)p->prior, s);
        pd_jw_double(w, theta[i]);
    }
    pd_jw_end_array(w);
}

/* From the root to the place that gets a new answer. */
static int descend(struct search *s, const struct ab_params *p, struct place *x, struct place **out,
                   struct pd_err *err)
{
    struct pd_jw *w = search_decide(s, "descent");

    pd_jw_key(w, "draws");
    pd_jw_array(w);
    while (x->n_child) {
        const struct arm **arms = search_alloc(s, (size_t)x->n_child * sizeof(struct arm *));
        double *theta = search_alloc(s, (size_t)x->n_child * sizeof *theta), two[2];
        int best = 0;

        draw_all(s, p, w, (const struct arm *const[]){&x->gen, &x->cont}, two, 2);
        if (two[0] >= two[1])
            break;
        for (int i = 0; i < x->n_child; i++)
            arms[i] = &x->child[i]->self;
        draw_all(s, p, w, arms, theta, x->n_child);
        for (int i = 1; i < x->n_child; i++)
            best = theta[i] > theta[best] ? i : best;
        x = x->child[best];
    }
    pd_jw_end_array(w);
    search_put_nodes(w, "to", &x->node, 1);
    *out = x;
    return search_decided(s, err);
}

/* The prompt of a refinement. */
static int refine(struct search *s, struct node *from, struct node **out, struct pd_err *err)
{
    struct pd_buf b = PD_BUF_INIT(1u << 24);
    int rc;

    pd_buf_adds(&b, search_question(s));
    pd_buf_addz(&b, "\n\nHere is an answer, which may be wrong:\n");
    pd_buf_adds(&b, pd_str_trim(search_line(s, from)));
    pd_buf_addz(&b, "\n\nWrite a better answer.");
    rc = pd_buf_rc(&b) < 0 ? pd_fail(err, PD_ENOMEM, "out of memory for a prompt")
                           : search_prompt(s, pd_buf_str(&b), false, out, err);
    pd_buf_done(&b);
    return rc;
}

/* x is a new answer below `at`: its reward is observed on the way up. */
static void tell(struct search *s, struct place *at, struct node *x, double r)
{
    struct place *y = search_alloc(s, sizeof *y);

    *y = (struct place){.node = x, .parent = at};
    at->child =
        search_room(s, at->child, (size_t)at->n_child, &at->cap_child, sizeof(struct place *));
    at->child[at->n_child++] = y;
    arm_observe(&at->gen, r);
    arm_observe(&y->self, r);
    for (struct place *c = at; c->parent; c = c->parent) {
        arm_observe(&c->parent->cont, r);
        arm_observe(&c->self, r);
    }
}

static int round_of(struct search *s, const struct ab_params *p, struct place *root, int n,
                    struct node **best, struct pd_err *err)
{
    struct place **at = search_alloc(s, (size_t)n * sizeof(struct place *));
    struct node **x = search_array(s, n);
    double *reward = search_alloc(s, (size_t)n * sizeof *reward);
    struct pd_jw *w;
    int rc = 0;

    for (int i = 0; i < n && rc == 0; i++) {
        rc = descend(s, p, root, &at[i], err);
        x[i] = at[i]->node;
        if (rc == 0 && at[i] != root)
            rc = refine(s, at[i]->node, &x[i], err);
        if (rc == 0 && search_failed(x[i])) { /* too long to be shown: a fresh answer */
            at[i] = root;
            x[i] = root->node;
        }
    }
    if (rc == 0)
        rc = search_extend(s, x, n, UNTIL_END, x, err);
    if (rc == 0)
        rc = search_score(s, x, n, err);
    if (rc < 0)
        return rc;
    for (int i = 0; i < n; i++) {
        bool answers = search_finished(x[i]) && search_key(x[i])[0];
        double r = search_value(x[i], AGGREGATE_LAST);

        reward[i] = answers && r > 0 ? r : 0; /* no answer is worth nothing */
        tell(s, at[i], x[i], reward[i]);
        if (answers && (!*best || r > search_value(*best, AGGREGATE_LAST)))
            *best = x[i];
    }
    w = search_decide(s, "round");
    search_put_nodes(w, "answers", x, n);
    search_put_doubles(w, "rewards", reward, n);
    return search_decided(s, err);
}

static int run(struct search *s, const void *params, struct pd_err *err)
{
    const struct ab_params *p = params;
    struct place root = {.node = search_root(s)};
    struct node *best = NULL;
    int rc = 0;

    for (int done = 0; done < p->samples && rc == 0;) {
        int n = p->batch < p->samples - done ? p->batch : p->samples - done;

        rc = round_of(s, p, &root, n, &best, err);
        done += n;
    }
    return rc < 0 && rc != PD_EBUDGET ? rc : search_end(s, best, rc, err);
}

static const struct pd_param params[] = {
    PD_INT(ab_params, samples, 16, 1, 4096, "answers to draw"),
    PD_INT(ab_params, batch, 1, 1, 64, "answers drawn side by side before their rewards are known"),
    PD_CHOICE(ab_params, prior, PRIOR_GAUSSIAN, ARM_PRIORS, "what a reward is taken for"),
    {0},
};

extern const struct pd_strategy strategy_ab_mcts;
const struct pd_strategy strategy_ab_mcts = {
    .name = "ab_mcts",
    .paper = "arXiv:2503.04412",
    .summary = "a tree of whole answers, wider or deeper by Thompson sampling",
    .params = params,
    .params_size = sizeof(struct ab_params),
    .needs_scorer = true,
    .run = run,
};
