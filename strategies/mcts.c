/* mcts: Monte Carlo tree search over steps. Hao et al., Reasoning with Language Model is Planning
 * with World Model (RAP), arXiv:2305.14992, §3.3, with the constants of its authors' code;
 * select=puct as in OpenR. Deviations: by default (mode=leaf_value) a
 * new node is worth its process reward and is not simulated to the end; the depth limit is the
 * job's max_steps. */
#include <math.h>

#include "strategies/choose.h"

struct mcts_params {
    int samples, expand, select, mode, backup, output, aggregate;
    double w;
};

enum { SELECT_UCT, SELECT_PUCT };
enum { MODE_LEAF_VALUE, MODE_SIMULATE };
enum { BACKUP_MEAN, BACKUP_MAX };
enum { OUTPUT_MAX_REWARD, OUTPUT_MAX_VISIT, OUTPUT_WEIGHTED };

#define PUCT_BASE 19652.0
#define PUCT_INIT 1.25

struct place { /* what the search knows of a node */
    struct node *node;
    struct place *parent, **child;
    int n_child, visits;
    double reward;   /* its own process reward */
    double sum, max; /* of the values backed up through it */
    bool expanded, closed;
};

struct tree {
    struct search *s;
    const struct mcts_params *p;
    struct place **ends; /* finished lines with an answer */
    int n_ends;
    size_t cap_ends;
};

static double q(const struct tree *t, const struct place *x)
{
    if (x->visits == 0)
        return x->reward;
    return t->p->backup == BACKUP_MAX ? x->max : x->sum / x->visits;
}

static double upper(const struct tree *t, const struct place *x)
{
    const struct place *up = x->parent;
    double n = up->visits;

    if (t->p->select == SELECT_UCT)
        return q(t, x) + t->p->w * sqrt(log(n > 1 ? n : 1) / (x->visits > 1 ? x->visits : 1));
    /* the prior of each child is the same: they are draws from one law */
    return q(t, x) + t->p->w * sqrt(n) / (1 + x->visits) / up->n_child *
                         (log((n + PUCT_BASE + 1) / PUCT_BASE) + PUCT_INIT);
}

static struct place *best_child(const struct tree *t, const struct place *x)
{
    struct place *best = NULL;
    double u, top = 0;

    for (int i = 0; i < x->n_child; i++) {
        if (x->child[i]->closed)
            continue;
        u = upper(t, x->child[i]);
        if (!best || u > top) {
            best = x->child[i];
            top = u;
        }
    }
    return best;
}

static void close_up(struct place *x)
{
    for (; x; x = x->parent) {
        for (int i = 0; i < x->n_child; i++)
            if (!x->child[i]->closed)
                return;
        x->closed = true;
    }
}

static void keep_end(struct tree *t, struct place *x)
{
    if (!search_finished(x->node) || !search_key(x->node)[0])
        return;
    t->ends = search_room(t->s, t->ends, (size_t)t->n_ends, &t->cap_ends, sizeof(struct place *));
    t->ends[t->n_ends++] = x;
}

/* Draws, dedupes and scores the children of x. */
static int expand(struct tree *t, struct place *x, struct pd_err *err)
{
    int m = t->p->expand, n = 0;
    struct node **c = search_array(t->s, m);
    int rc = search_sample(t->s, x->node, m, UNTIL_STEP, c, err);

    for (int i = 0; i < m && rc == 0; i++) {
        bool again = false;

        for (int k = 0; k < n; k++)
            again |= pd_str_eq(search_text(c[k]), search_text(c[i]));
        if (again)
            search_prune(t->s, c[i], "duplicate");
        else if (search_open(c[i]) || search_finished(c[i]))
            c[n++] = c[i];
    }
    if (rc == 0 && n)
        rc = search_score(t->s, c, n, err);
    if (rc < 0)
        return rc;
    x->expanded = true;
    x->child = search_alloc(t->s, (size_t)(n ? n : 1) * sizeof *x->child);
    for (int i = 0; i < n; i++) {
        double r = search_value(c[i], (enum search_aggregate)t->p->aggregate);
        struct place *y = search_alloc(t->s, sizeof *y);

        *y = (struct place){.node = c[i], .parent = x, .reward = r > 0 ? r : 0};
        x->child[x->n_child++] = y;
        keep_end(t, y);
    }
    if (n == 0)
        close_up(x);
    return 0;
}

static void back_up(struct place *x, double value)
{
    for (; x; x = x->parent) {
        x->max = x->visits == 0 || value > x->max ? value : x->max;
        x->visits++;
        x->sum += value;
    }
}

/* One iteration: select, expand, (simulate,) back up. A budget that runs out backs up nothing. */
static int iterate(struct tree *t, struct place *root, struct pd_err *err)
{
    struct place *x = root, *next;
    int rc = 0;

    while (x->expanded && (next = best_child(t, x)))
        x = next;
    do {
        if (search_open(x->node) && !x->expanded)
            rc = expand(t, x, err);
        if (rc < 0)
            return rc;
        for (next = NULL; next == NULL && x->n_child;) { /* the child of greatest reward */
            next = x->child[0];
            for (int i = 1; i < x->n_child; i++)
                next = x->child[i]->reward > next->reward ? x->child[i] : next;
        }
        x = next ? next : x;
    } while (t->p->mode == MODE_SIMULATE && next && search_open(x->node));
    back_up(x, x->reward);
    if (!search_open(x->node)) { /* nothing is below it: visiting it again tells nothing new */
        x->closed = true;
        close_up(x->parent);
    }
    return 0;
}

static struct node *output(struct tree *t)
{
    struct tally *votes = tally_new(t->s);
    struct place *best = NULL;

    for (int i = 0; i < t->n_ends; i++) {
        struct place *x = t->ends[i];

        tally_vote(votes, x->node, q(t, x));
        if (!best || (t->p->output == OUTPUT_MAX_VISIT && x->visits != best->visits
                          ? x->visits > best->visits
                          : x->reward > best->reward))
            best = x;
    }
    return t->p->output == OUTPUT_WEIGHTED ? tally_winner(votes) : best ? best->node : NULL;
}

static int run(struct search *s, const void *params, struct pd_err *err)
{
    const struct mcts_params *p = params;
    struct tree t = {.s = s, .p = p};
    struct place root = {.node = search_root(s)};
    int rc = 0;

    for (int i = 0; i < p->samples && !root.closed && rc == 0; i++)
        rc = iterate(&t, &root, err);
    if (rc < 0 && rc != PD_EBUDGET)
        return rc;
    return search_end(s, output(&t), rc, err);
}

static const struct pd_param params[] = {
    PD_INT(mcts_params, samples, 32, 1, 100000, "iterations"),
    PD_INT(mcts_params, expand, 4, 1, 256, "children of a node"),
    PD_CHOICE(mcts_params, select, SELECT_UCT, "uct|puct", "which child is followed"),
    PD_DOUBLE(mcts_params, w, 1, 0, 100, "weight of exploration"),
    PD_CHOICE(mcts_params, mode, MODE_LEAF_VALUE, "leaf_value|simulate",
              "a new node's worth: its reward, or that of the end of its line"),
    PD_CHOICE(mcts_params, backup, BACKUP_MEAN, "mean|max", "of the values below a node"),
    PD_CHOICE(mcts_params, output, OUTPUT_WEIGHTED, "max_reward|max_visit|weighted",
              "which finished line answers"),
    PD_CHOICE(mcts_params, aggregate, AGGREGATE_LAST, SEARCH_AGGREGATES,
              "step rewards to the reward of a line"),
    {0},
};

extern const struct pd_strategy strategy_mcts;
const struct pd_strategy strategy_mcts = {
    .name = "mcts",
    .paper = "arXiv:2305.14992",
    .summary = "Monte Carlo tree search over steps",
    .params = params,
    .params_size = sizeof(struct mcts_params),
    .needs_scorer = true,
    .run = run,
};
