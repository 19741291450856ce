/* The verb that judges nodes: what the trace does not already hold is asked of the verifier, in one
 * batch. */
#include <inttypes.h>

#include "core/search_int.h"
#include "core/steps.h"

static int each_read(struct search *s, struct pd_lane *lane, struct pd_err *err)
{
    return search_lane_ended(s, s->scorer.gen, lane, "score", s->job->scorer, err);
}

static int scorer_lanes(struct search *s, struct pd_lane *const *lanes, size_t n,
                        struct pd_err *err)
{
    int rc = search_run_lanes(s, s->scorer.gen, lanes, n, false, each_read, NULL, err);

    if (rc == 0)
        for (size_t i = 0; i < n; i++)
            if (lanes[i]->end == PD_END_CANCEL) /* the clock: half-read scores are no scores */
                rc = pd_fail(err, PD_EBUDGET, SEARCH_OUT_OF_TIME);
    return rc;
}

int pd_scorer_run(struct pd_scorer *sc, struct pd_lane *const *lanes, size_t n, struct pd_err *err)
{
    return scorer_lanes(sc->search, lanes, n, err);
}

static int record_score(struct search *s, struct node *n, struct pd_err *err)
{
    const struct pd_sink *sink = s->job->sink;
    struct pd_score_rec r = {
        n->id,     s->job->scorer,        s->scorer.kind, search_value(n, AGGREGATE_LAST),
        n->values, (uint32_t)n->n_values, n->score_call};

    return sink ? sink->score(sink->self, s->job->id, &r, err) : 0;
}

static int verify_score(struct search *s, struct node *n, struct pd_err *err)
{
    const struct pd_score_rec *r = search_stored_score(s, n->id);

    if (!r || r->n_steps != n->n_values)
        return pd_fail(err, PD_EDIFFER, "node %" PRIu32 ": %zu step scores now, %" PRIu32 " stored",
                       n->id, n->n_values, r ? r->n_steps : 0);
    for (uint32_t i = 0; i < r->n_steps; i++)
        if (memcmp(&r->steps[i], &n->values[i], sizeof(double)) != 0)
            return pd_fail(err, PD_EDIFFER,
                           "node %" PRIu32 ", score of step %" PRIu32 ": %.17g now, %.17g stored",
                           n->id, i + 1, n->values[i], r->steps[i]);
    return 0;
}

static void tell_best(const struct search *s, struct node *const *nodes, int n)
{
    const struct pd_listener *l = s->job->listener;
    const struct node *best = NULL;

    if (!l)
        return;
    for (int i = 0; i < n; i++)
        if (search_scored(nodes[i]) &&
            (!best || search_value(nodes[i], AGGREGATE_LAST) > search_value(best, AGGREGATE_LAST)))
            best = nodes[i];
    if (best)
        l->best(l->self, best->id, search_value(best, AGGREGATE_LAST));
}

int search_score(struct search *s, struct node *const *nodes, int n, struct pd_err *err)
{
    struct pd_candidate *cands = search_alloc(s, (size_t)(n > 0 ? n : 1) * sizeof *cands);
    struct node **missing = search_array(s, n);
    size_t n_missing = 0;
    int rc = search_check(s, err);

    if (rc < 0)
        return rc;
    if (!s->job->verifier)
        return pd_fail(err, PD_EINVAL, "strategy '%s' needs a scorer", s->job->strategy->name);
    for (int i = 0; i < n; i++) {
        const struct pd_score_rec *r =
            s->job->mode == PD_JOB_VERIFY ? NULL : search_stored_score(s, nodes[i]->id);

        if (nodes[i]->scored)
            continue;
        nodes[i]->scored = true;
        if (r) {
            nodes[i]->values = pd_arena_memdup(s->arena, r->steps, r->n_steps * sizeof *r->steps);
            nodes[i]->n_values = r->n_steps;
            nodes[i]->score_call = r->call_id;
            s->scorer.kind = r->kind;
        } else {
            missing[n_missing++] = nodes[i];
        }
    }
    if (!n_missing) {
        tell_best(s, nodes, n);
        return 0;
    }
    if (search_clock_stopped(s, "score.stop", missing[0]->id)) {
        rc = search_clock_stop(s, "score.stop", missing[0]->id, err);
        for (size_t i = 0; i < n_missing; i++)
            missing[i]->scored = false;
        return rc < 0 ? rc : pd_fail(err, PD_EBUDGET, SEARCH_OUT_OF_TIME);
    }
    if (s->job->mode == PD_JOB_RECORDED)
        return pd_fail(err, PD_ENOENT, "the score of node %" PRIu32 " is not in the stored trace",
                       missing[0]->id);
    if (!s->scorer_open) {
        rc = s->job->verifier->open(&s->scorer, err);
        if (rc < 0)
            return rc;
        s->scorer_open = true;
    }
    for (size_t i = 0; i < n_missing; i++) {
        struct pd_candidate *c = &cands[i];

        c->steps = pd_steps_split(s->arena, search_line(s, missing[i]), &c->n_steps);
        if (!c->steps)
            s->oom = true;
        for (struct node *p = missing[i]; !p->prompt && !c->parent_state; p = p->parent)
            c->parent_state = p->vstate;
    }
    rc = search_check(s, err);
    if (rc == 0)
        rc = s->job->verifier->score(&s->scorer, cands, n_missing, err);
    if (rc == PD_EBUDGET && search_clock_stop(s, "score.stop", missing[0]->id, err) < 0)
        rc = PD_EIO;
    for (size_t i = 0; i < n_missing; i++) {
        struct node *m = missing[i];

        if (rc < 0) {
            m->scored = false;
            continue;
        }
        m->values = cands[i].values;
        m->n_values = cands[i].n_values;
        m->vstate = cands[i].state;
        m->score_call = s->job->verifier->no_model ? -1 : (int64_t)s->n_calls - 1; /* the last */
        if (search_value(m, AGGREGATE_LAST) > atomic_load(&s->job->progress.best))
            atomic_store(&s->job->progress.best, search_value(m, AGGREGATE_LAST));
        rc = s->job->mode == PD_JOB_VERIFY ? verify_score(s, m, err) : record_score(s, m, err);
    }
    if (rc == 0)
        tell_best(s, nodes, n);
    return rc < 0 ? rc : search_check(s, err);
}
