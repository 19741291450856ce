/* astar: best-first search over steps, f = g + h, with h = 1 - reward. Chatziveroglou, A*-Decoding:
 * Token-Efficient Inference Scaling, arXiv:2505.13672; docs/strategies/astar.md says what the
 * source leaves open and how we read it. cost=rise adds up only increases of h, as the source has
 * it; cost=fall is consistent, so that the first goal taken is the best of the tree; cost=zero is
 * greedy. */
#include "strategies/choose.h"

struct astar_params {
    int samples, k, cost, stop, goals, cap, k0, aggregate;
    double depth_bonus;
};

enum { COST_RISE, COST_FALL, COST_ZERO };
enum { STOP_POPPED, STOP_GENERATED, STOP_GOALS };

struct state {
    struct node *node;
    double f, g, h;
    int left; /* children still to be drawn (lazy_k) */
    struct node **child;
    int n_child; /* drawn and kept so far */
};

struct frontier { /* worst first, so that the best is taken from the end */
    struct state *states;
    int n;
};

/* (f, h, -depth, id): smallest first. */
static bool better(const struct state *a, const struct state *b)
{
    uint32_t ta = search_steps(a->node), tb = search_steps(b->node);

    if (a->f < b->f || a->f > b->f)
        return a->f < b->f;
    if (a->h < b->h || a->h > b->h)
        return a->h < b->h;
    return ta != tb ? ta > tb : search_id(a->node) < search_id(b->node);
}

static void push(struct frontier *open, const struct state *x)
{
    int i = open->n++;

    for (; i > 0 && better(&open->states[i - 1], x); i--)
        open->states[i] = open->states[i - 1];
    open->states[i] = *x;
}

static void drop_worst(struct search *s, struct frontier *open)
{
    search_prune(s, open->states[0].node, "frontier_cap");
    memmove(open->states, open->states + 1, (size_t)--open->n * sizeof *open->states);
}

static double cost(int how, double from, double to)
{
    double rise = to - from;

    if (how == COST_ZERO)
        return 0;
    if (how == COST_FALL)
        rise = -rise;
    return rise > 0 ? rise : 0;
}

/* Draws up to `count` children of x, scores those that count, and pushes them. */
static int expand(struct search *s, const struct astar_params *p, struct frontier *open,
                  struct state *x, int count, struct pd_err *err)
{
    struct node **child;
    int n = 0, rc;

    if (!x->child)
        x->child = search_array(s, p->k);
    child = x->child + x->n_child;
    rc = search_sample(s, x->node, count, UNTIL_STEP, child, err);

    for (int i = 0; i < count && rc == 0; i++) {
        bool again = false;

        for (int j = 0; j < x->n_child + n; j++) /* those of earlier draws, too */
            again |= search_finished(x->child[j]) == search_finished(child[i]) &&
                     pd_str_eq(search_text(x->child[j]), search_text(child[i]));
        if (again)
            search_prune(s, child[i], "duplicate");
        else if (search_finished(child[i]) && !search_key(child[i])[0])
            search_prune(s, child[i], "no_answer");
        else if (search_open(child[i]) || search_finished(child[i]))
            child[n++] = child[i];
    }
    x->n_child += n;
    if (rc == 0 && n)
        rc = search_score(s, child, n, err);
    for (int i = 0; i < n && rc == 0; i++) {
        double r = search_value(child[i], (enum search_aggregate)p->aggregate);
        struct state y = {.node = child[i], .h = 1 - (r < 0 ? 0 : r), .left = p->k};

        y.g = x->g + cost(p->cost, x->h, y.h);
        y.f = y.g + y.h - p->depth_bonus * search_steps(y.node);
        push(open, &y);
        if (open->n > p->cap)
            drop_worst(s, open);
    }
    return rc;
}

static int run(struct search *s, const void *params, struct pd_err *err)
{
    const struct astar_params *p = params;
    int size = p->cap + p->k + 1, n_goals = 0, draw, rc = 0;
    struct frontier open = {search_alloc(s, (size_t)size * sizeof *open.states), 0};
    struct node **goal = search_array(s, p->goals);
    struct state x = {.node = search_root(s), .left = p->k}; /* nothing is known of it: h = 0 */

    push(&open, &x);
    for (int expansions = 0; open.n && n_goals < p->goals;) {
        /* 1. Take the best state. */
        struct pd_jw *w = search_decide(s, "pop");

        x = open.states[--open.n];
        search_put_nodes(w, "node", &x.node, 1);
        search_put_doubles(w, "fgh", (double[]){x.f, x.g, x.h}, 3);
        pd_jw_key(w, "open");
        pd_jw_int(w, open.n);
        rc = search_decided(s, err);
        if (rc < 0)
            return rc;
        /* 2. A goal, or children to be drawn; with k0 the state comes back for the rest. */
        if (search_finished(x.node)) {
            goal[n_goals++] = x.node;
            if (p->stop != STOP_GOALS)
                break;
            continue;
        }
        if (p->samples && expansions > 0 && expansions >= p->samples / p->k)
            break;
        draw = p->k0 && p->k0 < x.left ? p->k0 : x.left;
        rc = expand(s, p, &open, &x, draw, err);
        if (rc < 0)
            break;
        expansions += x.left == p->k;
        x.left -= draw;
        if (x.left > 0)
            push(&open, &x);
        for (int i = open.n; i-- > 0 && p->stop == STOP_GENERATED && !n_goals;)
            if (search_finished(open.states[i].node))
                goal[n_goals++] = open.states[i].node;
        if (p->stop == STOP_GENERATED && n_goals)
            break;
    }
    /* 3. Out of expansions or budget: the best goal there is, though it was not its turn. */
    for (int i = open.n; i-- > 0 && n_goals == 0;)
        if (search_finished(open.states[i].node))
            goal[n_goals++] = open.states[i].node;
    if (rc < 0 && rc != PD_EBUDGET)
        return rc;
    return search_end(
        s,
        n_goals == 1 ? goal[0]
                     : choose(s, goal, n_goals, VOTE_WEIGHTED, (enum search_aggregate)p->aggregate),
        rc, err);
}

static const struct pd_param params[] = {
    PD_INT(astar_params, samples, 0, 0, 100000, "most children to draw, at least k; 0: no limit"),
    PD_INT(astar_params, k, 4, 1, 256, "children of a state"),
    PD_CHOICE(astar_params, cost, COST_RISE, "rise|fall|zero", "what a step costs in changes of h"),
    PD_CHOICE(astar_params, stop, STOP_POPPED, "popped|generated|m_goals", "which goal ends it"),
    PD_INT(astar_params, goals, 1, 1, 256, "goals to collect with stop=m_goals; they vote"),
    PD_INT(astar_params, cap, 1024, 1, 1 << 20, "states on the frontier; the worst are dropped"),
    PD_INT(astar_params, k0, 0, 0, 256, "children drawn at a time (lazy); 0: all"),
    PD_CHOICE(astar_params, aggregate, AGGREGATE_LAST, SEARCH_AGGREGATES,
              "step rewards to the reward of a state"),
    PD_DOUBLE(astar_params, depth_bonus, 0, 0, 1, "taken off f for each step"),
    {0},
};

extern const struct pd_strategy strategy_astar;
const struct pd_strategy strategy_astar = {
    .name = "astar",
    .paper = "arXiv:2505.13672",
    .summary = "best-first search, f = cost so far + 1 - reward",
    .params = params,
    .params_size = sizeof(struct astar_params),
    .needs_scorer = true,
    .run = run,
};
