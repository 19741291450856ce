#include "strategies/smc.h"

#include <math.h>

#define REWARD_MIN 1e-7 /* rewards below are this: a logarithm must exist */

static double uniform(void *s)
{
    return search_random(s);
}

/* Clipped; 0 for a line that leads nowhere. */
static double line_reward(const struct node *n, enum search_aggregate how)
{
    double r = search_value(n, how);

    return search_failed(n) || !search_scored(n) ? 0 : r < REWARD_MIN ? REWARD_MIN : r;
}

/* Of the node's last step. */
static double reward(const struct node *n)
{
    return line_reward(n, AGGREGATE_LAST);
}

static double likelihood(const struct smc *m, const struct node *n)
{
    const struct node *before = search_parent(n);

    if (!m->ratio)
        return reward(n);
    return line_reward(n, m->line) / (search_steps(before) ? line_reward(before, m->line) : 1);
}

static double tau_of(const struct smc *m, int round)
{
    double at = m->tau_rounds > 1 ? (round - 1) / (m->tau_rounds - 1.0) : 1;

    return m->tau_rounds ? m->tau + (m->tau_end - m->tau) * (at < 1 ? at : 1) : m->tau;
}

struct node **smc_path(struct search *s, struct node *end, int *out_n)
{
    int n = (int)search_steps(end) + 1;
    struct node **path = search_array(s, n);

    for (int i = n; i-- > 0; end = search_parent(end))
        path[i] = end;
    *out_n = n;
    return path;
}

double smc_log_weight(struct search *s, struct node *const *path, int n)
{
    double sum = 0;

    (void)s;
    for (int i = 1; i < n; i++)
        sum += log(reward(path[i]));
    return sum;
}

/* One round of growth: open particles take a step, slot 0 its reference's. next[i] is x[i] itself
 * where nothing moved. */
static int step(struct search *s, const struct smc *m, int round, struct node **next,
                struct pd_err *err)
{
    struct node **score = search_array(s, m->n);
    int first = m->ref ? 1 : 0, n = 0, rc;

    for (int i = 0; i < m->n; i++)
        next[i] = m->x[i];
    if (m->ref && round < m->n_ref)
        next[0] = m->ref[round];
    rc = search_advance(s, next + first, m->n - first, UNTIL_STEP, err);
    for (int i = first; i < m->n && rc == 0; i++)
        if (next[i] != m->x[i] && !search_failed(next[i]))
            score[n++] = next[i];
    return rc == 0 && n ? search_score(s, score, n, err) : rc;
}

static int record(struct search *s, const struct smc *m, int round, double sum, double ess,
                  const int *ancestor, struct pd_err *err)
{
    struct pd_jw *w = search_decide(s, "particles");

    pd_jw_key(w, "round");
    pd_jw_int(w, round);
    search_put_nodes(w, "nodes", m->x, m->n);
    search_put_doubles(w, "weights", m->w, m->n);
    search_put_doubles(w, "sum_ess", (double[]){sum, ess}, 2);
    if (isfinite(m->log_z))
        search_put_doubles(w, "log_z", &m->log_z, 1);
    if (ancestor) {
        pd_jw_key(w, "ancestors");
        pd_jw_array(w);
        for (int i = 0; i < m->n; i++)
            pd_jw_int(w, ancestor[i]);
        pd_jw_end_array(w);
    }
    return search_decided(s, err);
}

static void resample(struct search *s, struct smc *m, int *ancestor)
{
    struct node **old = search_array(s, m->n);
    int *copies = search_alloc(s, (size_t)m->n * sizeof *copies);

    if (m->ref) { /* slot 0 keeps the reference, the others draw from all */
        ancestor[0] = 0;
        for (int i = 1; i < m->n; i++)
            ancestor[i] = resample_draw(m->w, m->n, search_random(s));
    } else {
        resample_copies(m->scheme, m->w, m->n, m->n, uniform, s, copies);
        resample_slots(copies, m->n, ancestor);
    }
    for (int i = 0; i < m->n; i++)
        old[i] = m->x[i];
    for (int i = 0; i < m->n; i++) {
        m->x[i] = old[ancestor[i]];
        m->w[i] = 1.0 / m->n;
    }
}

/* Particles that no slot holds any more are given up. */
static void prune_lost(struct search *s, const struct smc *m, struct node *const *old)
{
    for (int i = 0; i < m->n; i++) {
        bool held = !search_open(old[i]);

        for (int k = 0; k < m->n && !held; k++)
            held = m->x[k] == old[i];
        for (int k = 0; k < m->n_ref && m->ref && !held; k++)
            held = m->ref[k] == old[i];
        if (!held)
            search_prune(s, old[i], "resampled");
    }
}

int smc_run(struct search *s, struct smc *m, struct pd_err *err)
{
    struct node **next = search_array(s, m->n), **old = search_array(s, m->n);
    double *g = search_alloc(s, (size_t)m->n * sizeof *g);
    int *ancestor = search_alloc(s, (size_t)m->n * sizeof *ancestor);
    bool redrawn = false;
    int rc = 0;

    m->log_z = 0;
    m->collapsed = false;
    for (int i = 0; i < m->n; i++) {
        m->x[i] = search_root(s);
        m->w[i] = 1.0 / m->n;
    }
    for (int round = 1; rc == 0; round++) {
        double sum = 0, top = 0, tau = tau_of(m, round), mean, ess;
        bool open = false, resampled;

        for (int i = 0; i < m->n; i++)
            open |= search_open(m->x[i]);
        if (!open)
            break;
        /* 1. Every open particle takes a step. */
        rc = step(s, m, round, next, err);
        if (rc < 0)
            break;
        /* 2. Weigh by the reward of the step; what had finished before is absorbed (G = 1). The
         * rewards are taken against the greatest: at a small tau all of them may underflow. */
        for (int i = 0; i < m->n; i++) {
            g[i] = next[i] == m->x[i] ? 1 : likelihood(m, next[i]);
            top = m->w[i] > 0 && g[i] > top ? g[i] : top;
        }
        for (int i = 0; i < m->n && top > 0; i++) {
            g[i] = m->w[i] > 0 ? pow(g[i] / top, 1 / tau) : 0;
            sum += m->w[i] * g[i];
        }
        if (top <= 0) { /* collapse: the estimate is 0 for good; redraw the step, once */
            m->log_z = -INFINITY;
            m->collapsed = redrawn;
            if (redrawn)
                break;
            redrawn = true;
            round--;
            continue;
        }
        redrawn = false;
        m->log_z += log(sum) + log(top) / tau;
        open = false;
        for (int i = 0; i < m->n; i++) {
            m->x[i] = next[i];
            m->w[i] *= g[i] / sum;
            open |= search_open(next[i]);
        }
        mean = sum * pow(top, 1 / tau);
        /* 3. Resample when too few particles carry the weight. */
        ess = resample_ess(m->w, m->n);
        resampled = open && (m->ref || m->ess >= 1 || ess < m->ess * m->n);
        for (int i = 0; i < m->n; i++)
            old[i] = m->x[i];
        rc = record(s, m, round, mean, ess, NULL, err);
        if (rc == 0 && resampled) {
            resample(s, m, ancestor);
            rc = record(s, m, round, mean, m->n, ancestor, err);
            prune_lost(s, m, old);
        }
    }
    return rc;
}
