/* Reading the feed of a job: entries as the schema's triggers left them, each made into a JSON
 * object from the rows it names. On the caller's thread, one transaction a call. The object of an
 * entry is the same whenever it is read: it tells only what does not change. */
#include "storage/store_int.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"

#define PAGE_BYTES     ((size_t)256 << 10)
#define LINE_MAX_BYTES ((size_t)64 << 20)

struct asked {
    const char *job_id;
    uint64_t since;
    size_t max;
    struct pd_str (*answer_of)(struct pd_str line);
};

struct composing {
    struct reading *r;
    const char *job;
    struct pd_str (*answer_of)(struct pd_str line);
    struct pd_jw *w;
    struct store_feed_entry *entry;
    int64_t ref; /* -1: none */
    const char *note;
};

static void text_member(struct composing *c, const char *key, const char *value)
{
    pd_jw_key(c->w, key);
    pd_jw_strz(c->w, value);
}

static void int_member(struct composing *c, const char *key, int64_t value)
{
    pd_jw_key(c->w, key);
    pd_jw_int(c->w, value);
}

static void real_member(struct composing *c, const char *key, double value)
{
    pd_jw_key(c->w, key);
    pd_jw_double(c->w, value);
}

/* The query about one row of the job: parameters job and ref. False: the row is gone. */
static bool row(struct composing *c, const char *sql)
{
    store_read_begin(c->r, sql, c->job);
    store_read_bind_int(c->r, 2, c->ref);
    return store_read_next(c->r);
}

static void node_added(struct composing *c)
{
    char seed[24];

    if (row(c, "SELECT n.parent,n.depth,t.data,n.n_tokens,n.seed,n.finish,n.logprob FROM node n"
               " LEFT JOIN blob t ON t.id=n.text_id WHERE n.job_id=? AND n.id=?")) {
        int64_t parent = store_take_int_or(c->r, -1);

        int_member(c, "node", c->ref);
        pd_jw_key(c->w, "parent");
        if (parent < 0)
            pd_jw_null(c->w);
        else
            pd_jw_int(c->w, parent);
        int_member(c, "depth", store_take_int(c->r));
        pd_jw_key(c->w, "text");
        pd_jw_str(c->w, store_take_blob(c->r));
        int_member(c, "tokens", store_take_int(c->r));
        snprintf(seed, sizeof(seed), "%llu", (unsigned long long)store_take_int(c->r));
        text_member(c, "seed", seed);
        text_member(c, "finish", store_take_text(c->r));
        real_member(c, "logprob", store_take_real(c->r));
    }
    store_read_end(c->r);
}

static void node_scored(struct composing *c)
{
    if (row(c, "SELECT node_id,scorer,value,steps FROM score WHERE job_id=? AND id=?")) {
        const char *steps;

        int_member(c, "node", store_take_int(c->r));
        text_member(c, "scorer", store_take_text(c->r));
        real_member(c, "value", store_take_real(c->r));
        steps = store_take_text(c->r);
        pd_jw_key(c->w, "steps");
        pd_jw_raw(c->w, steps ? pd_str_of(steps) : PD_STR("null"));
    }
    store_read_end(c->r);
}

static void node_pruned(struct composing *c)
{
    int_member(c, "node", c->ref);
    text_member(c, "reason", c->note);
}

/* The line that ends in the node, from its first text on; its prompt is not part of it. */
static void answer_candidate(struct composing *c)
{
    struct pd_buf line = PD_BUF_INIT(LINE_MAX_BYTES);
    struct pd_str answer;
    bool more;

    more = row(c, "WITH RECURSIVE up(id,parent,text_id,finish,n) AS"
                  " (SELECT id,parent,text_id,finish,0 FROM node WHERE job_id=?1 AND id=?2"
                  "  UNION ALL SELECT p.id,p.parent,p.text_id,p.finish,up.n+1 FROM up JOIN node p"
                  "  ON p.job_id=?1 AND p.id=up.parent WHERE up.finish<>'prompt' AND up.n<100000)"
                  " SELECT b.data FROM up JOIN blob b ON b.id=up.text_id WHERE"
                  " up.finish<>'prompt' ORDER BY up.n DESC");
    for (; more; more = store_read_next(c->r))
        pd_buf_adds(&line, store_take_blob(c->r));
    store_read_end(c->r);
    if (pd_buf_rc(&line) < 0)
        store_read_no_memory(c->r);
    answer = c->answer_of(pd_buf_str(&line));
    int_member(c, "node", c->ref);
    pd_jw_key(c->w, "answer");
    if (answer.len)
        pd_jw_str(c->w, answer);
    else
        pd_jw_null(c->w);
    int_member(c, "weight", 1); /* one line, one vote */
    pd_buf_done(&line);
}

static void answer_final(struct composing *c)
{
    if (row(c, "SELECT j.answer,(SELECT value FROM score s WHERE s.job_id=j.id AND s.node_id=?2)"
               " FROM job j WHERE j.id=?1")) {
        text_member(c, "answer", store_take_text(c->r));
        int_member(c, "node", c->ref);
        real_member(c, "score", store_take_real(c->r));
    }
    store_read_end(c->r);
}

static void limit_left(struct composing *c, const struct pd_json *budget, const char *what,
                       double used)
{
    double limit;

    if (pd_json_number(pd_json_get(budget, what), &limit) && limit > 0) {
        pd_jw_key(c->w, what);
        pd_jw_double(c->w, limit > used ? limit - used : 0);
    }
}

/* What was used by then, and what was left of the limits there are. */
static void budget_entry(struct composing *c)
{
    struct pd_json *budget = NULL;
    int64_t tokens = 0;
    double seconds;

    store_read_begin(
        c->r,
        "SELECT j.budget,(SELECT t_ms FROM feed INDEXED BY feed_latest WHERE job_id=j.id AND"
        " type='job.started' AND seq<?2 ORDER BY seq DESC LIMIT 1) FROM job j"
        " WHERE j.id=?1",
        c->job);
    store_read_bind_int(c->r, 2, (int64_t)c->entry->seq);
    if (store_read_next(c->r)) {
        const char *json = store_take_text(c->r);
        int64_t started_ms = store_take_int_or(c->r, c->entry->t_ms);

        if (c->note)
            pd_parse_i64(pd_str_of(c->note), &tokens);
        seconds = (double)(c->entry->t_ms - started_ms) / 1000;
        int_member(c, "tokens", tokens);
        real_member(c, "seconds", seconds);
        if (json && pd_json_parse(pd_str_of(json), &budget, NULL) == 0) {
            pd_jw_key(c->w, "left");
            pd_jw_object(c->w);
            limit_left(c, budget, "tokens", (double)tokens);
            limit_left(c, budget, "seconds", seconds);
            pd_jw_end_object(c->w);
        }
        pd_json_free(budget);
    }
    store_read_end(c->r);
}

static void engine_retry(struct composing *c)
{
    struct pd_json *data = NULL;

    if (row(c, "SELECT data FROM event WHERE job_id=? AND seq=?")) {
        const char *json = store_take_text(c->r);

        if (json && pd_json_parse(pd_str_of(json), &data, NULL) == 0)
            for (const struct pd_json *v = pd_json_first(data); v; v = pd_json_next(v)) {
                pd_jw_key(c->w, pd_json_key(v));
                pd_jw_value(c->w, v);
            }
        pd_json_free(data);
    }
    store_read_end(c->r);
}

static void job_begins(struct composing *c)
{
    if (row(c, "SELECT strategy,model,scorer FROM job WHERE id=?")) {
        text_member(c, "strategy", store_take_text(c->r));
        text_member(c, "model", store_take_text(c->r));
        text_member(c, "scorer", store_take_text(c->r));
    }
    store_read_end(c->r);
}

static void job_done(struct composing *c)
{
    text_member(c, "stopped_by", c->note);
    if (row(c, "SELECT answer,digest FROM job WHERE id=?")) {
        text_member(c, "answer", store_take_text(c->r));
        text_member(c, "digest", store_take_text(c->r));
    }
    store_read_end(c->r);
}

static void job_stopped(struct composing *c)
{
    if (c->note)
        text_member(c, "stopped_by", c->note);
}

static void job_failed(struct composing *c)
{
    text_member(c, "error", c->note);
}

static const struct {
    const char *type;
    void (*compose)(struct composing *c);
} types[] = {
    {"node.added", node_added},     {"node.scored", node_scored},
    {"node.pruned", node_pruned},   {"answer.candidate", answer_candidate},
    {"answer.final", answer_final}, {"budget", budget_entry},
    {"engine.retry", engine_retry}, {"job.queued", job_begins},
    {"job.started", job_begins},    {"job.done", job_done},
    {"job.failed", job_failed},     {"job.cancelled", job_stopped},
    {"job.paused", job_stopped},
};

static size_t compose(struct composing *c)
{
    struct pd_buf b = PD_BUF_INIT(2 * LINE_MAX_BYTES);
    struct reading *r = c->r;
    struct pd_jw w;

    c->w = &w;
    pd_jw_init(&w, &b);
    pd_jw_object(&w);
    int_member(c, "seq", (int64_t)c->entry->seq);
    int_member(c, "t_ms", c->entry->t_ms);
    text_member(c, "job", c->job);
    for (size_t i = 0; i < sizeof(types) / sizeof(*types); i++)
        if (strcmp(types[i].type, c->entry->type) == 0)
            types[i].compose(c);
    pd_jw_end_object(&w);
    c->entry->data.ptr = pd_buf_rc(&b) == 0 ? pd_arena_dup(r->arena, pd_buf_str(&b)) : NULL;
    c->entry->data.len = b.len;
    if (!c->entry->data.ptr)
        store_read_no_memory(r);
    pd_buf_done(&b);
    return c->entry->data.len;
}

/* The entries without their data; refs and notes go beside them. */
static void load_entries(struct reading *r, const struct asked *a, struct store_feed *f,
                         struct composing *of)
{
    store_read_begin(r,
                     "SELECT seq,t_ms,type,ref,note FROM feed WHERE job_id=? AND seq>?"
                     " ORDER BY seq LIMIT ?",
                     a->job_id);
    store_read_bind_int(r, 2, a->since > INT64_MAX ? INT64_MAX : (int64_t)a->since);
    store_read_bind_int(r, 3, (int64_t)a->max);
    while (f->n < a->max && store_read_next(r)) {
        struct store_feed_entry *e = &f->entries[f->n];

        e->seq = (uint64_t)store_take_int(r);
        e->t_ms = store_take_int(r);
        e->type = store_take_text(r);
        of[f->n].ref = store_take_int_or(r, -1);
        of[f->n].note = store_take_text(r);
        f->n += e->type != NULL;
    }
    store_read_end(r);
}

static bool is_terminal(const char *status)
{
    return strcmp(status, "done") == 0 || strcmp(status, "failed") == 0 ||
           strcmp(status, "cancelled") == 0;
}

static void load(struct reading *r, const void *what, struct store_box *box)
{
    const struct asked *a = what;
    struct store_feed *f = &box->is.feed;
    struct composing *of = pd_arena_array(r->arena, a->max, sizeof(*of));
    const char *status = NULL;
    size_t n = 0, bytes = 0;
    int64_t last = 0;

    f->entries = pd_arena_array(r->arena, a->max, sizeof(*f->entries));
    if (!of || !f->entries) {
        store_read_no_memory(r);
        return;
    }
    store_read_begin(r,
                     "SELECT status,(SELECT max(seq) FROM feed WHERE job_id=j.id) FROM job j"
                     " WHERE id=?",
                     a->job_id);
    if (store_read_next(r)) {
        status = store_take_text(r);
        last = store_take_int(r);
    }
    store_read_end(r);
    if (r->rc == 0 && !status)
        r->rc = pd_fail(r->err, PD_ENOENT, "no job is named '%s'", a->job_id);
    load_entries(r, a, f, of);
    for (; n < f->n && r->rc == 0 && bytes < PAGE_BYTES; n++) {
        of[n].r = r;
        of[n].job = a->job_id;
        of[n].answer_of = a->answer_of;
        of[n].entry = &f->entries[n];
        bytes += compose(&of[n]);
    }
    f->n = n;
    f->ended = r->rc == 0 && is_terminal(status) &&
               (n ? f->entries[n - 1].seq : a->since) >= (uint64_t)last;
}

int store_feed_load(struct store *s, const char *job_id, uint64_t since, size_t max,
                    struct pd_str (*answer_of)(struct pd_str line), struct store_feed **out,
                    struct pd_err *err)
{
    const struct asked asked = {job_id, since, max, answer_of};
    struct store_box *box;
    int rc = store_read(s, load, &asked, &box, err);

    if (rc == 0)
        *out = &box->is.feed;
    return rc;
}

void store_feed_free(struct store_feed *f)
{
    store_box_free(f);
}
