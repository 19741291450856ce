/* compute_optimal: the strategy that was best for problems as hard as this one. Snell et al.,
 * Scaling LLM Test-Time Compute Optimally can be More Effective than Scaling Model Parameters,
 * arXiv:2408.03314, §3.2: theta*(q,N) = argmax over theta of E[correct | theta, N, bin(q)],
 * estimated on a calibration run (recipes/calibrate.py writes the table). The bin is that of the
 * mean reward of n0 plain lines; they count toward N and are the first lines of what is chosen,
 * where that draws whole lines. With epsilon, N is no more than the point from which on one line
 * more gains less than that: Wang et al., Scaling over Scaling, arXiv:2505.20522, F(N) = F_max (1 -
 * (1-p)^N).
 *
 * The table: the edges of the bins, falling, then a cell for each bin and N, separated by ';':
 * "0.8,0.6; 1@4,self_consistency(samples=4),0.91,380; 1@16,…", bin 1 the easiest, behind the
 * strategy its accuracy and mean tokens. A value on an edge is of the easier bin. */
#include "core/stats.h"
#include "strategies/nested.h"

#define ARENA_BYTES ((size_t)1 << 20)
#define CELLS_MAX   64
#define EDGES_MAX   16

struct co_params {
    int samples, n0;
    double epsilon;
    char table[4096];
};

struct cell {
    int bin, n;
    const struct pd_strategy *strategy;
    void *params;
    struct pd_str text; /* of both */
    double accuracy, tokens;
};

struct table {
    double edge[EDGES_MAX];
    int n_edges, n_cells;
    struct cell cell[CELLS_MAX];
};

static int number(struct pd_str *io_rest, char separator, double *out, struct pd_err *err)
{
    struct pd_str text = nested_take(io_rest, separator);

    return pd_parse_double(text, out)
               ? 0
               : pd_fail(err, PD_EINVAL, "'%.*s' is not a number", (int)text.len, text.ptr);
}

/* BIN@N,STRATEGY,ACCURACY,TOKENS */
static int parse_cell(struct pd_str text, struct cell *c, struct pd_arena *arena,
                      struct pd_err *err)
{
    double bin = 0, n = 0;
    int rc = number(&text, '@', &bin, err);

    if (rc == 0)
        rc = number(&text, ',', &n, err);
    c->bin = (int)bin;
    c->n = (int)n;
    c->text = nested_take(&text, ',');
    if (rc == 0)
        rc = nested_parse(c->text, arena, &c->strategy, &c->params, err);
    if (rc == 0)
        rc = number(&text, ',', &c->accuracy, err);
    return rc < 0 ? rc : number(&text, ',', &c->tokens, err);
}

static int parse_table(const char *text, struct table *t, struct pd_arena *arena,
                       struct pd_err *err)
{
    struct pd_str rest = pd_str_of(text), edges = nested_take(&rest, ';'), item;
    int rc = 0;

    if (!edges.len)
        return pd_fail(err, PD_EINVAL,
                       "compute_optimal needs a table: recipes/calibrate.py makes one of a run");
    while (edges.len && rc == 0 && t->n_edges < EDGES_MAX)
        rc = number(&edges, ',', &t->edge[t->n_edges++], err);
    while (rest.len && rc == 0 && t->n_cells < CELLS_MAX) {
        item = nested_take(&rest, ';');
        rc = parse_cell(item, &t->cell[t->n_cells++], arena, err);
        if (rc < 0)
            pd_err_context(err, "in cell '%.*s' of the table", (int)item.len, item.ptr);
    }
    if (rc == 0 && (edges.len || rest.len))
        rc = pd_fail(err, PD_ELIMIT, "the table has more than %d edges or %d cells", EDGES_MAX,
                     CELLS_MAX);
    for (int i = 1; i < t->n_edges && rc == 0; i++)
        if (t->edge[i] > t->edge[i - 1])
            rc = pd_fail(err, PD_EINVAL, "the edges of the table do not fall");
    return rc;
}

/* From which N on one line more gains no more than eps, by what the bin's cells came to. */
static double saturation(const struct table *t, int bin, double eps)
{
    double n[CELLS_MAX], f[CELLS_MAX];
    size_t count = 0;
    struct pd_saturation_fit fit;

    for (int i = 0; i < t->n_cells; i++)
        if (t->cell[i].bin == bin) {
            n[count] = t->cell[i].n;
            f[count++] = t->cell[i].accuracy;
        }
    fit = pd_fit_saturation(n, f, count);
    return pd_saturation_point(fit.f_max, fit.p, eps);
}

/* Of the bin's cells with the largest N of at most n (else with the smallest) the most accurate
 * one, ties to the cheaper. */
static const struct cell *choose_cell(const struct table *t, int bin, double n)
{
    const struct cell *best = NULL;
    int at = 0;

    for (int i = 0; i < t->n_cells; i++) {
        const struct cell *c = &t->cell[i];

        if (c->bin == bin && (at == 0 || (c->n <= n ? c->n > at || at > n : c->n < at)))
            at = c->n;
    }
    for (int i = 0; i < t->n_cells; i++) {
        const struct cell *c = &t->cell[i];

        if (c->bin == bin && c->n == at &&
            (!best || c->accuracy > best->accuracy ||
             (c->accuracy >= best->accuracy && c->tokens < best->tokens)))
            best = c;
    }
    return best;
}

/* Mean reward of the lines that ended; 0, the hardest, when none did. */
static double difficulty(struct node *const *line, int n)
{
    double sum = 0;
    int count = 0;

    for (int i = 0; i < n; i++)
        if (search_finished(line[i]) && search_scored(line[i])) {
            sum += search_value(line[i], AGGREGATE_LAST);
            count++;
        }
    return count ? sum / count : 0;
}

static int tell(struct search *s, struct node *const *probe, int n, double value, double limit,
                const struct cell *c, struct pd_err *err)
{
    struct pd_jw *w = search_decide(s, "predicted");

    search_put_nodes(w, "probes", probe, n);
    pd_jw_put_double(w, "value", value);
    pd_jw_key(w, "bin");
    pd_jw_int(w, c->bin);
    pd_jw_put_double(w, "n_limit", limit);
    pd_jw_put_str(w, "cell", c->text);
    pd_jw_put_double(w, "accuracy", c->accuracy);
    pd_jw_put_double(w, "tokens", c->tokens);
    return search_decided(s, err);
}

static int tell_came(struct search *s, const struct node *answer, struct pd_err *err)
{
    struct pd_jw *w = search_decide(s, "came");

    pd_jw_put_text(w, "answer", answer ? search_key(answer) : NULL);
    pd_jw_put_uint(w, "tokens", search_spent(s));
    return search_decided(s, err);
}

static int run_table(struct search *s, const struct co_params *p, const struct table *t,
                     struct pd_err *err)
{
    int n0 = p->n0 < p->samples ? p->n0 : p->samples, bin = 1, told;
    struct node **probe = search_array(s, n0), *answer = NULL;
    struct search_nested nested = {.lines = probe, .n_lines = n0};
    struct tally *votes = tally_new(s);
    double value, limit = p->samples, point;
    const struct cell *c;
    int rc = search_sample(s, search_root(s), n0, UNTIL_END, probe, err);

    /* 1. How hard is it? */
    if (rc == 0)
        rc = search_score(s, probe, n0, err);
    if (rc < 0)
        return rc;
    value = difficulty(probe, n0);
    while (bin <= t->n_edges && value < t->edge[bin - 1])
        bin++;
    /* 2. What was best for such problems, with so many lines? */
    point = p->epsilon > 0 ? saturation(t, bin, p->epsilon) : limit;
    limit = point < limit ? point : limit;
    c = choose_cell(t, bin, limit);
    if (!c)
        return pd_fail(err, PD_EINVAL, "the table has no cell for bin %d", bin);
    rc = tell(s, probe, n0, value, limit, c, err);
    /* 3. Do that. */
    nested.strategy = c->strategy;
    nested.params = c->params;
    if (rc == 0)
        rc = search_nest(s, &nested, &answer, err);
    if (rc < 0 && rc != PD_EBUDGET)
        return rc;
    for (int i = 0; i < n0 && !answer; i++)
        if (search_finished(probe[i]))
            tally_vote(votes, probe[i], 1);
    answer = answer ? answer : tally_winner(votes);
    told = tell_came(s, answer, err);
    return told < 0 ? told : search_end(s, answer, rc, err);
}

static int run(struct search *s, const void *params, struct pd_err *err)
{
    const struct co_params *p = params;
    struct table *t = search_alloc(s, sizeof *t);
    struct pd_arena arena;
    int rc;

    pd_arena_init(&arena, ARENA_BYTES);
    rc = parse_table(p->table, t, &arena, err);
    if (rc == 0)
        rc = run_table(s, p, t, err);
    pd_arena_done(&arena);
    return rc;
}

static const struct pd_param params[] = {
    PD_INT(co_params, samples, 16, 1, 4096, "lines that a problem may take (N), probes included"),
    PD_INT(co_params, n0, 4, 1, 256, "lines whose rewards say how hard the problem is"),
    PD_DOUBLE(co_params, epsilon, 0, 0, 1,
              "no more lines than up to where one more gains less than this; 0: off"),
    PD_TEXT(co_params, table, "edges of the bins, then cells: recipes/calibrate.py writes it"),
    {0},
};

extern const struct pd_strategy strategy_compute_optimal;
const struct pd_strategy strategy_compute_optimal = {
    .name = "compute_optimal",
    .paper = "arXiv:2408.03314",
    .summary = "the strategy that was best for problems as hard as this one",
    .params = params,
    .params_size = sizeof(struct co_params),
    .needs_scorer = true,
    .run = run,
};
