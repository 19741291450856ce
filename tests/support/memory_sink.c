#include "tests/support/memory_sink.h"

#include <assert.h>
#include <stdlib.h>

enum kind { JOB, NODE, SCORE, CALL, EVENT };

struct memory_record {
    enum kind kind;
    union {
        struct pd_job_rec job;
        struct pd_node_rec node;
        struct pd_score_rec score;
        struct pd_call_rec call;
        struct pd_event_rec event;
    };
};

static void *keep(struct memory_sink *m, const void *p, size_t bytes)
{
    void *copy = p && bytes ? pd_arena_memdup(&m->arena, p, bytes) : NULL;

    assert(copy || !p || !bytes);
    return copy;
}

static const char *keep_str(struct memory_sink *m, const char *z)
{
    return z ? keep(m, z, strlen(z) + 1) : NULL;
}

/* NULL: the sink is broken. */
static struct memory_record *add(struct memory_sink *m, enum kind kind, struct pd_err *err)
{
    struct memory_record *r;

    m->broken |= m->fail_at >= 0 && m->n >= (size_t)m->fail_at;
    if (m->broken) {
        pd_fail(err, PD_EIO, "the memory sink was told to fail");
        return NULL;
    }
    if (m->n == m->cap) {
        m->cap = m->cap ? 2 * m->cap : 64;
        m->records = realloc(m->records, m->cap * sizeof(struct memory_record *));
        assert(m->records);
    }
    r = pd_arena_alloc(&m->arena, sizeof *r);
    assert(r);
    r->kind = kind;
    m->records[m->n++] = r;
    return r;
}

static int put_job(void *self, const struct pd_job_rec *j, struct pd_err *err)
{
    struct memory_sink *m = self;
    struct memory_record *r = add(m, JOB, err);

    if (!r)
        return PD_EIO;
    r->job = *j;
    r->job.id = keep_str(m, j->id);
    r->job.problem_key = keep_str(m, j->problem_key);
    r->job.strategy = keep_str(m, j->strategy);
    r->job.options = keep_str(m, j->options);
    r->job.model = keep_str(m, j->model);
    r->job.scorer = keep_str(m, j->scorer);
    r->job.status = keep_str(m, j->status);
    r->job.stopped_by = keep_str(m, j->stopped_by);
    r->job.request.ptr = keep(m, j->request.ptr, j->request.len);
    r->job.budget = keep_str(m, j->budget);
    r->job.answer = keep_str(m, j->answer);
    r->job.error = keep_str(m, j->error);
    r->job.digest = keep_str(m, j->digest);
    return 0;
}

static int put_node(void *self, const char *job, const struct pd_node_rec *n, struct pd_err *err)
{
    struct memory_sink *m = self;
    struct memory_record *r = add(m, NODE, err);

    (void)job;
    if (!r)
        return PD_EIO;
    r->node = *n;
    r->node.status = keep_str(m, n->status);
    r->node.prune_reason = keep_str(m, n->prune_reason);
    r->node.text.ptr = keep(m, n->text.ptr, n->text.len);
    r->node.tokens = keep(m, n->tokens, n->n_tokens * sizeof *n->tokens);
    r->node.logprobs = keep(m, n->logprobs, n->n_tokens * sizeof *n->logprobs);
    r->node.confidences = keep(m, n->confidences, n->n_tokens * sizeof *n->confidences);
    r->node.finish = keep_str(m, n->finish);
    r->node.stop = keep_str(m, n->stop);
    return 0;
}

static int put_score(void *self, const char *job, const struct pd_score_rec *s, struct pd_err *err)
{
    struct memory_sink *m = self;
    struct memory_record *r = add(m, SCORE, err);

    (void)job;
    if (!r)
        return PD_EIO;
    r->score = *s;
    r->score.scorer = keep_str(m, s->scorer);
    r->score.kind = keep_str(m, s->kind);
    r->score.steps = keep(m, s->steps, s->n_steps * sizeof *s->steps);
    return 0;
}

static int put_call(void *self, const char *job, const struct pd_call_rec *c, struct pd_err *err)
{
    struct memory_sink *m = self;
    struct memory_record *r = add(m, CALL, err);

    (void)job;
    if (!r)
        return PD_EIO;
    r->call = *c;
    r->call.engine = keep_str(m, c->engine);
    r->call.dialect = keep_str(m, c->dialect);
    r->call.op = keep_str(m, c->op);
    r->call.model = keep_str(m, c->model);
    r->call.outcome = keep_str(m, c->outcome);
    r->call.error = keep_str(m, c->error);
    return 0;
}

static int put_event(void *self, const char *job, const struct pd_event_rec *e, struct pd_err *err)
{
    struct memory_sink *m = self;
    struct memory_record *r = add(m, EVENT, err);

    (void)job;
    if (!r)
        return PD_EIO;
    r->event = *e;
    r->event.type = keep_str(m, e->type);
    r->event.data = keep_str(m, e->data);
    return 0;
}

static int flush(void *self, struct pd_err *err)
{
    struct memory_sink *m = self;

    m->n_flush++;
    return m->broken ? pd_fail(err, PD_EIO, "the memory sink was told to fail") : 0;
}

void memory_sink_init(struct memory_sink *m)
{
    *m = (struct memory_sink){.sink = {m, put_job, put_node, put_score, put_call, put_event, flush},
                              .fail_at = -1};
    pd_arena_init(&m->arena, (size_t)1 << 30);
}

void memory_sink_done(struct memory_sink *m)
{
    pd_arena_done(&m->arena);
    free(m->records);
}

void memory_sink_cut(struct memory_sink *m, size_t n)
{
    assert(n <= m->n);
    m->n = n;
    m->broken = false;
}

/* Puts a row where its key belongs, over one of the same key. */
#define PUT_ROW(rows, n_rows, row, key)                                                            \
    do {                                                                                           \
        size_t at_ = 0;                                                                            \
        while (at_ < (n_rows) && (rows)[at_].key < (row).key)                                      \
            at_++;                                                                                 \
        if (at_ == (n_rows) || (rows)[at_].key != (row).key)                                       \
            memmove(&(rows)[at_ + 1], &(rows)[at_], ((n_rows)++ - at_) * sizeof *(rows));          \
        (rows)[at_] = (row);                                                                       \
    } while (0)

struct pd_trace *memory_sink_trace(struct memory_sink *m, size_t n)
{
    struct pd_trace *t = pd_arena_alloc(&m->arena, sizeof *t);

    assert(t);
    n = n < m->n ? n : m->n;
    t->nodes = pd_arena_array(&m->arena, n + 1, sizeof *t->nodes);
    t->scores = pd_arena_array(&m->arena, n + 1, sizeof *t->scores);
    t->calls = pd_arena_array(&m->arena, n + 1, sizeof *t->calls);
    t->events = pd_arena_array(&m->arena, n + 1, sizeof *t->events);
    assert(t->nodes && t->scores && t->calls && t->events);
    t->job.answer_node = -1;
    for (size_t i = 0; i < n; i++) {
        const struct memory_record *r = m->records[i];

        if (r->kind == JOB)
            t->job = r->job;
        else if (r->kind == NODE)
            PUT_ROW(t->nodes, t->n_nodes, r->node, id);
        else if (r->kind == SCORE)
            PUT_ROW(t->scores, t->n_scores, r->score, node_id);
        else if (r->kind == EVENT)
            PUT_ROW(t->events, t->n_events, r->event, seq);
        else
            t->calls[t->n_calls++] = r->call;
    }
    return t;
}
