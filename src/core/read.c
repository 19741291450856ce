/* The verb that reads what the model would say, without drawing it. What was read is an event of
 * the trace ("read": [node, p, …]), so that a replay needs no model. */
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

#include "core/search_int.h"

static int each_read(struct search *s, struct pd_lane *lane, struct pd_err *err)
{
    return search_lane_ended(s, search_gen(s), lane, "read", s->job->model, err);
}

/* The stored reading of node n: 1. 0: there is none. */
static int stored_reading(const struct search *s, const struct node *n, double *out, int n_labels,
                          struct pd_err *err)
{
    const struct pd_trace *t = s->job->stored;

    for (size_t i = 0; t && i < t->n_events; i++) {
        char *at;

        if (strcmp(t->events[i].type, "read") != 0 ||
            strtoul(t->events[i].data + 1, &at, 10) != n->id)
            continue;
        for (int k = 0; k < n_labels; k++) {
            if (*at != ',')
                return pd_fail(err, PD_EFORMAT,
                               "the stored reading of node %" PRIu32 " is incomplete", n->id);
            out[k] = strtod(at + 1, &at);
        }
        return 1;
    }
    return 0;
}

static int record_reading(struct search *s, const struct node *n, const double *p, int n_labels,
                          struct pd_err *err)
{
    struct pd_buf b = PD_BUF_INIT(1 << 20);
    struct pd_jw w;
    const char *json;
    int rc;

    pd_jw_init(&w, &b);
    pd_jw_array(&w);
    pd_jw_uint(&w, n->id);
    for (int k = 0; k < n_labels; k++)
        pd_jw_double(&w, p[k]);
    pd_jw_end_array(&w);
    json = pd_arena_dup(s->arena, pd_buf_str(&b));
    rc = pd_buf_rc(&b) < 0 || !json ? pd_fail(err, PD_ENOMEM, "out of memory for a reading")
                                    : search_event(s, "read", json, err);
    pd_buf_done(&b);
    return rc;
}

static int find_labels(struct search *s, const char *const *labels, int n, int32_t *ids,
                       struct pd_err *err)
{
    for (int k = 0; k < n; k++) {
        ids[k] = search_ops(s)->find_token(search_gen(s), labels[k]);
        if (ids[k] < 0)
            return pd_fail(err, PD_EINVAL, "model '%s' has no token '%s' to read", s->job->model,
                           labels[k]);
    }
    return 0;
}

static void softmax(const float *logits, int n, double *out)
{
    double max = (double)logits[0], sum = 0;

    for (int k = 1; k < n; k++)
        max = (double)logits[k] > max ? (double)logits[k] : max;
    for (int k = 0; k < n; k++)
        sum += out[k] = exp((double)logits[k] - max);
    for (int k = 0; k < n; k++)
        out[k] /= sum;
}

/* One reading to be made. */
struct reading {
    struct pd_lane lane;
    struct node *node; /* the text behind the line */
    uint32_t at;
    double *out;
};

static int prepare(struct search *s, struct reading *r, const int32_t *ids, int n_labels,
                   struct pd_err *err)
{
    struct pd_gctx *c;
    size_t n;
    int rc = search_node_ctx(s, r->node, err);

    if (rc < 0)
        return rc;
    c = r->node->ctx[s->role];
    n = search_ops(s)->ctx_n_tokens(search_gen(s), c);
    if (n > search_ops(s)->n_ctx(search_gen(s)))
        return pd_fail(err, PD_ELIMIT,
                       "no room in the model's context to read behind node %" PRIu32,
                       r->node->parent->id);
    r->at = (uint32_t)n - 1;
    r->lane = (struct pd_lane){.op = PD_LANE_READ,
                               .ctx = c,
                               .at = &r->at,
                               .n_at = 1,
                               .labels = ids,
                               .n_labels = (uint32_t)n_labels,
                               .user = r};
    return 0;
}

/* Takes what a lane has read: 0, or PD_EBUDGET when the clock stopped it. */
static int take(struct search *s, struct reading *r, int n_labels, struct pd_err *err)
{
    double *stored;

    if (r->lane.end == PD_END_CANCEL)
        return pd_fail(err, PD_EBUDGET, SEARCH_OUT_OF_TIME);
    softmax(r->lane.logits, n_labels, r->out);
    if (s->job->mode != PD_JOB_VERIFY)
        return 0;
    stored = search_alloc(s, (size_t)n_labels * sizeof *stored);
    if (stored_reading(s, r->node, stored, n_labels, NULL) != 1 ||
        memcmp(stored, r->out, (size_t)n_labels * sizeof *stored) != 0)
        return pd_fail(err, PD_EDIFFER,
                       "what was read behind node %" PRIu32 " differs from the stored",
                       r->node->parent->id);
    return 0;
}

static int run_readings(struct search *s, struct reading *reads, int n, const int32_t *ids,
                        int n_labels, struct pd_err *err)
{
    struct pd_lane **lanes = search_alloc(s, (size_t)n * sizeof *lanes);
    int rc = 0;

    for (int i = 0; i < n && rc == 0; i++) {
        rc = prepare(s, &reads[i], ids, n_labels, err);
        lanes[i] = &reads[i].lane;
    }
    if (rc < 0)
        return rc;
    rc = search_run_lanes(s, search_gen(s), lanes, (size_t)n, false, each_read, NULL, err);
    for (int i = 0; i < n && rc == 0; i++)
        rc = take(s, &reads[i], n_labels, err);
    for (int i = 0; i < n; i++) {
        if (rc == 0)
            rc = record_reading(s, reads[i].node, reads[i].out, n_labels, err);
        search_ops(s)->release(search_gen(s), &reads[i].lane);
    }
    if (rc == PD_EBUDGET && search_clock_stop(s, "read.stop", reads[0].node->id, err) < 0)
        rc = PD_EIO;
    return rc;
}

int search_read(struct search *s, struct node *const *nodes, int n, struct pd_str text,
                const char *const *labels, int n_labels, double *out, struct pd_err *err)
{
    struct reading *reads = search_alloc(s, (size_t)(n > 0 ? n : 1) * sizeof *reads);
    struct node **asked = search_array(s, n);
    int32_t *ids = search_alloc(s, (size_t)(n_labels > 0 ? n_labels : 1) * sizeof *ids);
    int missing = 0, n_asked = 0, rc = search_check(s, err);

    if (rc == 0 && (n_labels < 1 || text.len == 0))
        rc = pd_fail(err, PD_EINVAL, "nothing to read");
    /* What is stored is served; the rest become lanes. */
    for (int i = 0; i < n && rc == 0; i++) {
        struct reading *r = &reads[missing];

        r->out = out + (ptrdiff_t)i * n_labels;
        rc = search_node_give(s, nodes[i], text, true, &r->node, err);
        asked[n_asked++] = r->node;
        if (rc == 0 && s->job->mode != PD_JOB_VERIFY)
            rc = stored_reading(s, r->node, r->out, n_labels, err);
        if (rc == 0)
            missing++;
        else if (rc == 1)
            rc = record_reading(s, r->node, r->out, n_labels, err);
    }
    if (rc == 0 && missing) {
        if (search_clock_stopped(s, "read.stop", reads[0].node->id)) {
            rc = search_clock_stop(s, "read.stop", reads[0].node->id, err);
            rc = rc < 0 ? rc : pd_fail(err, PD_EBUDGET, SEARCH_OUT_OF_TIME);
        } else if (s->job->mode == PD_JOB_RECORDED) {
            rc = pd_fail(err, PD_ENOENT,
                         "what was read at node %" PRIu32 " is not in the stored trace",
                         reads[0].node->id);
        } else {
            rc = find_labels(s, labels, n_labels, ids, err);
            if (rc == 0)
                rc = run_readings(s, reads, missing, ids, n_labels, err);
        }
    }
    for (int i = 0; i < n_asked; i++)
        search_prune(s, asked[i], "read");
    return rc < 0 ? rc : search_check(s, err);
}
