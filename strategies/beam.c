/* beam: stepwise search under a process-reward model. Snell et al., Scaling LLM Test-Time Compute
 * Optimally can be More Effective than Scaling Model Parameters, arXiv:2408.03314, §5.1. N
 * continuations a round, M of each kept line; finished lines narrow the beam and vote at the end,
 * weighted by their reward. With lookahead=k a line is judged by where k greedy steps lead from it;
 * the steps themselves are thrown away. */
#include "strategies/beam.h"

enum { FINISH_SHRINK, FINISH_REFILL, FINISH_STAY };

struct beam {
    struct search *s;
    const struct beam_params *p;
    struct node **cand, **done, **spare, **look;
    double *value, *spare_value;
    int n_cand, n_done, n_spare; /* open candidates; finished lines; those not kept last round */
};

/* Scores the candidates, moves the finished ones to done, leaves the open ones with their values.
 */
static int judge(struct beam *b, struct pd_err *err)
{
    struct search *s = b->s;
    int n = 0, rc;

    for (int i = 0; i < b->n_cand; i++)
        if (search_open(b->cand[i]) || search_finished(b->cand[i]))
            b->cand[n++] = b->cand[i];
    b->n_cand = n;
    rc = n ? search_score(s, b->cand, n, err) : 0;
    n = 0;
    for (int i = 0; i < b->n_cand && rc == 0; i++) {
        if (search_finished(b->cand[i]))
            b->done[b->n_done++] = b->cand[i];
        else
            b->cand[n++] = b->cand[i];
    }
    b->n_cand = n;
    if (rc == 0 && n && b->p->lookahead)
        rc = search_rollout(s, b->cand, n, b->p->lookahead, b->look, err);
    if (rc == 0 && n && b->p->lookahead)
        rc = search_score(s, b->look, n, err);
    for (int i = 0; i < n && rc == 0; i++) {
        struct node *seen = b->p->lookahead ? b->look[i] : b->cand[i];

        b->value[i] = search_value(seen, (enum search_aggregate)b->p->aggregate);
        if (seen != b->cand[i])
            search_prune(s, seen, "lookahead");
    }
    return rc;
}

static bool is_double(const struct beam *b, int i)
{
    for (int k = 0; k < i && b->p->dedupe; k++)
        if (pd_str_eq(search_line(b->s, b->cand[k]), search_line(b->s, b->cand[i])))
            return true;
    return false;
}

/* The best `width` candidates to the front, the others aside. Returns how many were kept. */
static int keep(struct beam *b, int width)
{
    int n = 0;

    choose_sort(b->cand, b->value, b->n_cand);
    b->n_spare = 0;
    for (int i = 0; i < b->n_cand; i++) {
        if (n < width && !is_double(b, i)) {
            b->cand[n++] = b->cand[i];
        } else {
            b->spare[b->n_spare] = b->cand[i];
            b->spare_value[b->n_spare++] = b->value[i];
        }
    }
    return n;
}

int beam_run(struct search *s, const void *params, struct pd_err *err)
{
    const struct beam_params *p = params;
    int n = p->samples, m = p->expand, rc;
    struct beam b = {.s = s, .p = p};
    struct pd_jw *w;
    struct node *best;
    bool went_back = false;

    while (p->expand == 0 && m * m < n) /* M = ceil(sqrt(N)) */
        m++;
    if (p->expand == 0)
        n = m * m;
    if (n % m)
        return pd_fail(err, PD_EINVAL, "samples=%d is not a multiple of expand=%d", n, m);
    b.cand = search_array(s, n);
    b.spare = search_array(s, n);
    b.look = search_array(s, n);
    b.done = search_array(s, n * (search_max_steps(s) + 1));
    b.value = search_alloc(s, (size_t)n * sizeof *b.value);
    b.spare_value = search_alloc(s, (size_t)n * sizeof *b.spare_value);

    /* 1. N first steps. */
    rc = search_sample(s, search_root(s), n, UNTIL_STEP, b.cand, err);
    b.n_cand = n;
    while (rc == 0) {
        int slots, kept;

        /* 2. Judge them; finished ones are done. */
        rc = judge(&b, err);
        if (rc < 0)
            break;
        if (b.n_cand == 0 && b.n_done == 0 && b.n_spare && !went_back) {
            /* all failed: once, the next best of the round before */
            went_back = true;
            b.n_cand = b.n_spare;
            for (int i = 0; i < b.n_spare; i++) {
                b.cand[i] = b.spare[i];
                b.value[i] = b.spare_value[i];
            }
            b.n_spare = 0;
        }
        for (int i = 0; i < b.n_spare; i++)
            search_prune(s, b.spare[i], "beam");
        b.n_spare = 0;
        if (b.n_cand == 0 || b.n_done >= n)
            break;
        /* 3. Keep the best; deal the continuations round-robin. */
        slots = p->finish_mode == FINISH_REFILL ? n : n - b.n_done;
        if (p->finish_mode == FINISH_STAY) { /* a finished line holds its place in the beam */
            slots = n - m * (b.n_done < n / m ? b.n_done : n / m);
            if (slots == 0)
                break;
        }
        kept = keep(&b, (slots + m - 1) / m);
        w = search_decide(s, "beam");
        search_put_nodes(w, "kept", b.cand, kept);
        search_put_doubles(w, "values", b.value, b.n_cand);
        rc = search_decided(s, err);
        for (int i = slots; i-- > 0;)
            b.cand[i] = b.cand[i % kept];
        if (rc == 0)
            rc = search_extend(s, b.cand, slots, UNTIL_STEP, b.cand, err);
        b.n_cand = slots;
    }
    for (int i = 0; i < b.n_cand && rc == 0; i++)
        search_prune(s, b.cand[i], "beam");
    /* 4. Best-of-N over what has finished; also over what a budget left. */
    if (rc < 0 && rc != PD_EBUDGET)
        return rc;
    best =
        choose(s, b.done, b.n_done, (enum choose_vote)p->vote, (enum search_aggregate)p->aggregate);
    return search_end(s, best, rc, err);
}

static const struct pd_param params[] = {BEAM_PARAMS(0), {0}};

extern const struct pd_strategy strategy_beam;
const struct pd_strategy strategy_beam = {
    .name = "beam",
    .paper = "arXiv:2408.03314",
    .summary = "step by step, the best lines go on",
    .params = params,
    .params_size = sizeof(struct beam_params),
    .needs_scorer = true,
    .run = beam_run,
};
