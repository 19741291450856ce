/* adaptive_restart: the model says whether starting over would help. Manvi, Singh and Ermon,
 * Adaptive Inference-Time Compute: LLMs Can Predict if They Can Do Better, Even Mid-Generation,
 * arXiv:2410.02725, §3. The question is put behind a line and its answer is read, not drawn:
 * s = P(N) / (P(N) + P(Y)).
 *   mode=restart: lines one after another at temperatures 0, 1/2, 3/4, …, until s >= gamma (§3.3);
 *   mode=prune: lines side by side; at 64, 128, 256, … tokens the better half goes on (§3.4).
 * The line of greatest s answers, ties to the earliest. Deviation: `keep` and the checkpoints are
 * ours; the question ends in one letter, which every tokenizer has as a token. */
#include <math.h>

#include "strategies/choose.h"

#define QUESTION                                                                                   \
    "\n\nWould a better answer be found by starting over? Reply Y for yes or N for no.\nReply: "
#define FIRST_CHECKPOINT 64

struct restart_params {
    int samples, mode;
    double gamma, keep;
};

enum { MODE_RESTART, MODE_PRUNE };

/* value[i] = s of nodes[i] */
static int ask(struct search *s, struct node *const *nodes, int n, double *value,
               struct pd_err *err)
{
    static const char *const labels[] = {"Y", "N"};
    double *p = search_alloc(s, (size_t)n * 2 * sizeof *p);
    int rc = search_read(s, nodes, n, PD_STR(QUESTION), labels, 2, p, err);
    struct pd_jw *w;

    if (rc < 0)
        return rc;
    for (int i = 0; i < n; i++)
        value[i] = p[2 * i + 1];
    w = search_decide(s, "would_not_restart");
    search_put_nodes(w, "nodes", nodes, n);
    search_put_doubles(w, "s", value, n);
    return search_decided(s, err);
}

static int restart(struct search *s, const struct restart_params *p, struct node **out,
                   struct pd_err *err)
{
    double value, best = -1;
    int rc = 0;

    for (int i = 0; i < p->samples && best < p->gamma; i++) {
        struct node *line;

        search_set_temperature(s, 1 - exp2(-i));
        rc = search_sample(s, search_root(s), 1, UNTIL_END, &line, err);
        if (rc < 0)
            return rc;
        if (!search_finished(line) || !search_key(line)[0])
            continue;
        rc = ask(s, &line, 1, &value, err);
        if (rc < 0)
            return rc;
        if (value > best) {
            best = value;
            *out = line;
        }
    }
    return 0;
}

/* The open ones of n lines go on, at most cap tokens; then only what is open or has an answer is
 * left: how many. Lines that went on are to be asked (again): value -1. */
static int go_on(struct search *s, struct node **line, double *value, int n, int cap,
                 struct pd_err *err)
{
    struct node **open = search_array(s, n);
    int n_open = 0, live = 0, rc;

    for (int i = 0; i < n; i++)
        if (search_open(line[i]))
            open[n_open++] = line[i];
    rc = search_extend_within(s, open, n_open, UNTIL_END, cap, open, err);
    if (rc < 0)
        return rc;
    for (int i = n; i-- > 0;)
        if (search_open(line[i])) {
            line[i] = open[--n_open];
            value[i] = -1;
        }
    for (int i = 0; i < n; i++)
        if (search_open(line[i]) || (search_finished(line[i]) && search_key(line[i])[0])) {
            line[live] = line[i];
            value[live++] = value[i];
        }
    return live;
}

static int ask_new(struct search *s, struct node *const *line, double *value, int n,
                   struct pd_err *err)
{
    struct node **fresh = search_array(s, n);
    double *v = search_alloc(s, (size_t)n * sizeof *v);
    int n_fresh = 0, rc;

    for (int i = 0; i < n; i++)
        if (value[i] < 0)
            fresh[n_fresh++] = line[i];
    rc = ask(s, fresh, n_fresh, v, err);
    for (int i = n; i-- > 0 && rc == 0;)
        if (value[i] < 0)
            value[i] = v[--n_fresh];
    return rc;
}

static int prune(struct search *s, const struct restart_params *p, struct node **out,
                 struct pd_err *err)
{
    struct node **line = search_array(s, p->samples);
    double *value = search_alloc(s, (size_t)p->samples * sizeof *value);
    int n = p->samples, at = 0, next = FIRST_CHECKPOINT, rc = 0;
    bool open = true;

    for (int i = 0; i < n; i++)
        line[i] = search_root(s);
    for (; n && open; at = next, next *= 2) {
        int most = (int)ceil(p->keep * n);

        n = go_on(s, line, value, n, next - at, err);
        if (n <= 0)
            return n;
        rc = ask_new(s, line, value, n, err);
        if (rc < 0)
            return rc;
        choose_sort(line, value, n);
        for (; n > most; n--)
            search_prune(s, line[n - 1], "would_restart");
        open = false;
        *out = NULL;
        for (int i = n; i-- > 0;) { /* sorted: the best comes last */
            open |= search_open(line[i]);
            *out = search_finished(line[i]) ? line[i] : *out;
        }
    }
    return rc;
}

static int run(struct search *s, const void *params, struct pd_err *err)
{
    const struct restart_params *p = params;
    struct node *best = NULL;
    int rc = p->mode == MODE_RESTART ? restart(s, p, &best, err) : prune(s, p, &best, err);

    return rc < 0 && rc != PD_EBUDGET ? rc : search_end(s, best, rc, err);
}

static const struct pd_param params[] = {
    PD_INT(restart_params, samples, 16, 1, 256, "most lines"),
    PD_CHOICE(restart_params, mode, MODE_RESTART, "restart|prune",
              "one line after another until one is good, or side by side and the best go on"),
    PD_DOUBLE(restart_params, gamma, 0.9, 0, 2, "restart: good enough; above 1: never"),
    PD_DOUBLE(restart_params, keep, 0.5, 0.01, 1, "prune: share that goes on at a checkpoint"),
    {0},
};

extern const struct pd_strategy strategy_adaptive_restart;
const struct pd_strategy strategy_adaptive_restart = {
    .name = "adaptive_restart",
    .paper = "arXiv:2410.02725",
    .summary = "the model says whether starting over would help",
    .params = params,
    .params_size = sizeof(struct restart_params),
    .run = run,
};
