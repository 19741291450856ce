/* The engine object, its scheduler thread and the life of requests.
 *
 *   eng_submit ──inbox──▶ admitted ──▶ prefill ──▶ decode ──▶ finished ──▶ done()
 *                            │  (kept logits)         ▲
 *                            └────────────────────────┘
 *
 * Each step takes, for every model with work, decode rows first and then at most one prefill chunk
 * of each request, within max_rows; who was left out comes first next time. Invariants:
 *  1. The lanes of a race draw their k-th token only when all live lanes have drawn the one before,
 * and from the second token on all in the same step; the race is judged when all live lanes are
 * level.
 *  2. A request's numbers do not depend on when its rows were computed, so nothing here is visible
 * in them.
 *  3. Of the requests that are about to evaluate the same page only the first does; the others find
 * it in the next step.
 *  4. Lanes of a race that see other contexts (view.c) evaluate one token each in every step, from
 * the first on, pending ones too: what a lane sees is decided by logical time.
 *  5. done() is called with no lock held, after the last use of the request and its context. */
#include "engine/engine.h"

#include <assert.h>
#include <math.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/str.h"
#include "engine/forward.h"
#include "engine/grammar.h"
#include "engine/kv.h"
#include "engine/model.h"
#include "engine/sample.h"
#include "engine/spec.h"

#define DEFAULT_KV_BYTES      (UINT64_C(1) << 30)
#define DEFAULT_PREFILL_CHUNK 128
#define DEFAULT_MAX_ROWS      512
#define MAX_ROWS              65536       /* bounds the working space of a model */
#define MAX_THREADS           1024        /* more is a typing mistake */
#define MAX_SCORE_VALUES      (64u << 20) /* logits of one SCORE request: 256 MiB */
#define MAX_STOP_BYTES        (1u << 20)  /* a stop string and the text of one token */

struct group { /* the lanes of one race in flight */
    struct eng_race *race;
    size_t n, n_live;   /* lanes; those not finished */
    bool together;      /* invariant 4 */
    uint64_t step_seen; /* handled in this step */
    struct run *lanes[];
};

struct run {
    struct run *next;
    struct eng_req *req;
    struct eng_ctx *ctx;
    struct fwd *fwd;
    struct group *group;
    uint32_t cap_tokens;
    struct pd_buf tail; /* end of the text so far, for stop strings */
    size_t n_before;    /* bytes of it that are the request's `before` */
    size_t max_stop;
    struct sample_counts counts;
    struct grammar_text text; /* under a grammar: all of it so far */
    uint64_t *allowed;        /* what may be drawn next; NULL: everything */
    size_t first;             /* SCORE: position of the first pending token */
    struct kv_logits *keep;   /* PREFILL: becomes the context's */
    struct spec spec;
    /* of the step in progress */
    uint64_t step_seen;
    size_t n_rows;
    bool served, draws;
    struct sample_drawn drawn[1 + ENG_MAX_DRAFT]; /* behind the last token and each guess; id -1:
                                                     from logits that are not numbers */
    atomic_bool bad;                              /* logits that are not numbers */
    bool finished;
};

struct batch { /* in eng.rows */
    size_t n_rows;
    size_t n_parts; /* what attention makes of them, max_rows at most */
};

struct eng {
    const struct eng_kernels *k;
    struct eng_pool *pool;
    struct kv_pool kv;
    const struct eng_kv_type *kv_type;
    unsigned prefill_chunk, max_rows;
    bool limited; /* kv.all_bytes is a ceiling that models count for */
    pthread_t thread;
    pthread_mutex_t lock; /* guards inbox, closing, fwds and their reference counts */
    pthread_cond_t wake;
    struct run *inbox, **inbox_end;
    bool closing;
    struct fwd *fwds;
    /* the scheduler's */
    struct run *active;
    uint64_t step;
    struct fwd_row *rows;   /* [max_rows] */
    struct run **instant;   /* [max_rows] drawing from kept logits */
    uint64_t *pages;        /* [max_rows] that the step in progress evaluates (kv_next_page) */
    struct spec **guessing; /* [max_rows] */
    atomic_uint_fast64_t n_steps, n_rows, n_guessed, n_right;
};

/* ---- life
 * ---------------------------------------------------------------------------------------- */

static unsigned usable_cpus(void)
{
    cpu_set_t set;

    if (sched_getaffinity(0, sizeof(set), &set) == 0 && CPU_COUNT(&set) > 0)
        return (unsigned)CPU_COUNT(&set);
    return 1;
}

static const char *const isa_names[ENG_N_ISA] = {"scalar", "avx2", "avx512"};

static int choose_isa(const char *name, enum eng_isa *out, struct pd_err *err)
{
    if (!name || !*name)
        name = getenv("PONDER_ISA");
    for (int i = ENG_N_ISA - 1; i >= 0; i--) {
        if (name && *name ? strcmp(name, isa_names[i]) != 0 : !eng_isa_supported((enum eng_isa)i))
            continue;
        if (!eng_isa_supported((enum eng_isa)i))
            return pd_fail(err, PD_EINVAL, "this CPU does not have %s", name);
        *out = (enum eng_isa)i;
        return 0;
    }
    return pd_fail(err, PD_EINVAL, "'%s' is not an instruction set: scalar, avx2, avx512",
                   name ? name : "");
}

static int choose_threads(unsigned n, unsigned *out, struct pd_err *err)
{
    const char *env = getenv("PONDER_THREADS");
    uint64_t v = n;

    if (v == 0 && env && *env && (!pd_parse_u64(pd_str_of(env), &v) || v == 0))
        return pd_fail(err, PD_EINVAL, "PONDER_THREADS='%s' is not a number of threads", env);
    if (v == 0)
        v = usable_cpus();
    if (v > MAX_THREADS)
        return pd_fail(err, PD_EINVAL, "%llu compute threads are too many (at most %d)",
                       (unsigned long long)v, MAX_THREADS);
    *out = (unsigned)v;
    return 0;
}

static void *scheduler(void *arg);

int eng_open(const struct eng_config *config, struct eng **out_eng, struct pd_err *err)
{
    static const struct eng_config defaults;
    const struct eng_config *c = config ? config : &defaults;
    struct eng *e = NULL;
    enum eng_isa isa = ENG_ISA_SCALAR;
    const struct eng_kv_type *kv_type;
    unsigned n_threads = 1;
    uint64_t kv_bytes;
    int rc;

    if ((rc = choose_isa(c->isa, &isa, err)) < 0 ||
        (rc = choose_threads(c->n_threads, &n_threads, err)) < 0)
        return rc;
    kv_type = eng_kv_type_find(c->kv_type && *c->kv_type ? c->kv_type : "f16");
    if (!kv_type)
        return pd_fail(err, PD_EINVAL, "'%s' is not a KV cache type: f32, f16, q8_0", c->kv_type);
    if (c->max_rows > MAX_ROWS)
        return pd_fail(err, PD_EINVAL, "max_rows must be at most %d", MAX_ROWS);
    e = calloc(1, sizeof(*e));
    if (!e)
        return pd_fail(err, PD_ENOMEM, "out of memory for the engine");
    e->k = eng_kernels(isa);
    e->kv_type = kv_type;
    e->prefill_chunk = c->prefill_chunk ? c->prefill_chunk : DEFAULT_PREFILL_CHUNK;
    e->max_rows = c->max_rows ? c->max_rows : DEFAULT_MAX_ROWS;
    e->limited = c->memory_bytes > 0;
    kv_bytes = c->kv_bytes ? c->kv_bytes : e->limited ? UINT64_MAX : DEFAULT_KV_BYTES;
    e->inbox_end = &e->inbox;
    e->rows = calloc(e->max_rows, sizeof(*e->rows));
    e->instant = calloc(e->max_rows, sizeof(struct run *));
    e->pages = calloc(e->max_rows, sizeof(*e->pages));
    e->guessing = calloc(e->max_rows, sizeof(struct spec *));
    if (!e->rows || !e->instant || !e->pages || !e->guessing ||
        kv_pool_init(&e->kv, kv_bytes, e->limited ? c->memory_bytes : UINT64_MAX,
                     !c->no_prefix_cache) < 0) {
        rc = pd_fail(err, PD_ENOMEM, "out of memory for the engine");
        goto fail;
    }
    if (pthread_mutex_init(&e->lock, NULL) != 0 || pthread_cond_init(&e->wake, NULL) != 0) {
        rc = pd_fail(err, PD_ENOMEM, "out of memory for the engine");
        goto fail_kv;
    }
    rc = eng_pool_new(n_threads, &e->pool, err);
    if (rc < 0)
        goto fail_lock;
    rc = pthread_create(&e->thread, NULL, scheduler, e);
    if (rc != 0) {
        rc = pd_fail_errno(err, rc, "cannot start the engine's scheduler");
        eng_pool_free(e->pool);
        goto fail_lock;
    }
    *out_eng = e;
    return 0;
fail_lock:
    pthread_cond_destroy(&e->wake);
    pthread_mutex_destroy(&e->lock);
fail_kv:
    kv_pool_done(&e->kv);
fail:
    free(e->rows);
    free(e->instant);
    free(e->pages);
    free(e->guessing);
    free(e);
    return rc;
}

void eng_close(struct eng *e)
{
    if (!e)
        return;
    pthread_mutex_lock(&e->lock);
    e->closing = true;
    pthread_cond_signal(&e->wake);
    pthread_mutex_unlock(&e->lock);
    pthread_join(e->thread, NULL);
    assert(!e->fwds && atomic_load(&e->kv.pages_used) == 0); /* a context outlived its engine */
    assert(atomic_load(&e->kv.other_bytes) == 0);            /* a model did */
    eng_pool_free(e->pool);
    kv_pool_done(&e->kv);
    pthread_cond_destroy(&e->wake);
    pthread_mutex_destroy(&e->lock);
    free(e->rows);
    free(e->instant);
    free(e->pages);
    free(e->guessing);
    free(e);
}

const char *eng_isa_name(const struct eng *e)
{
    return isa_names[e->k->isa];
}

unsigned eng_n_threads(const struct eng *e)
{
    return eng_pool_n_threads(e->pool);
}

const char *eng_kv_type_name(const struct eng *e)
{
    return e->kv_type->name;
}

uint64_t eng_kv_token_bytes(const struct eng *e, const struct eng_model_info *m)
{
    return (uint64_t)m->n_layer * m->n_head_kv * (e->kv_type->bytes(m->head_dim) / ENG_PAGE);
}

void eng_stats(const struct eng *e, struct eng_stats *out)
{
    out->kv_pages_used = atomic_load(&e->kv.pages_used);
    out->kv_pages_peak = atomic_load(&e->kv.pages_peak);
    out->kv_page_bytes_used = atomic_load(&e->kv.bytes_used);
    out->kv_pages = atomic_load(&e->kv.pages);
    out->kv_pages_cached = atomic_load(&e->kv.pages_cached);
    out->kv_pages_free = atomic_load(&e->kv.pages_free);
    out->kv_pages_seen = atomic_load(&e->kv.pages_seen);
    out->kv_bytes_max = kv_pool_ceiling(&e->kv);
    out->prefix_hit_tokens = atomic_load(&e->kv.hit_tokens);
    out->prefix_evictions = atomic_load(&e->kv.evictions);
    out->guessed_tokens = atomic_load(&e->n_guessed);
    out->right_guesses = atomic_load(&e->n_right);
    out->steps = atomic_load(&e->n_steps);
    out->rows = atomic_load(&e->n_rows);
}

/* ---- models and the memory they take
 * ------------------------------------------------------------ */

/* What a session takes and what its pages are: one is made and thrown away, untouched. */
static int measure_session(struct eng *e, struct eng_model *m, struct eng_memory *out,
                           struct pd_err *err)
{
    struct fwd *f;
    int rc = fwd_new(m, e->k, e->pool, &e->kv, e->kv_type, e->max_rows, &f, err);

    if (rc < 0)
        return rc;
    out->work_bytes = f->n_bytes;
    out->kv_token_bytes = eng_kv_token_bytes(e, &m->info);
    out->kv_page_bytes = f->cls->page_bytes;
    fwd_free(f);
    return 0;
}

int eng_model_estimate(struct eng *e, const char *path, struct eng_memory *out, struct pd_err *err)
{
    struct eng_memory memory = {0};
    struct eng_model *m;
    int rc = eng_model_begin(path, &m, &memory, err);

    if (rc < 0)
        return rc;
    rc = measure_session(e, m, &memory, err);
    eng_model_unref(m);
    if (rc == 0)
        *out = memory;
    return rc;
}

uint64_t eng_memory_fixed(const struct eng_memory *m)
{
    return m->weights_bytes + m->vocab_bytes + m->work_bytes;
}

/* A branch begins on the page that the shared part ends in: it has its own copy of that. */
uint64_t eng_memory_kv(const struct eng_memory *m, uint64_t n_ctx, uint64_t n_branches,
                       uint64_t n_shared)
{
    uint64_t n_pages = (n_shared + ENG_PAGE - 1) / ENG_PAGE;

    if (n_ctx > n_shared)
        n_pages += n_branches * ((n_ctx + ENG_PAGE - 1) / ENG_PAGE - n_shared / ENG_PAGE);
    return n_pages * m->kv_page_bytes;
}

static double megabytes(uint64_t bytes)
{
    return (double)bytes / 1e6;
}

/* Counts m's memory, or refuses it. */
static int reserve(struct eng *e, struct eng_model *m, struct eng_memory *memory,
                   struct pd_err *err)
{
    uint64_t need, left;
    int rc = measure_session(e, m, memory, err);

    if (rc < 0)
        return rc;
    need = eng_memory_fixed(memory);
    if (!kv_pool_reserve(&e->kv, need, &left))
        return pd_fail(
            err, PD_ENOMEM,
            "loading '%s' takes %.1f MB (weights %.1f, vocabulary %.1f, working space %.1f), and "
            "%.1f kB for each token of a context, but of the memory limit of %.1f "
            "MB %.1f MB are left: raise the limit or take a smaller model",
            m->info.path, megabytes(need), megabytes(memory->weights_bytes),
            megabytes(memory->vocab_bytes), megabytes(memory->work_bytes),
            (double)memory->kv_token_bytes / 1e3, megabytes(e->kv.all_bytes), megabytes(left));
    m->reserved_in = &e->kv;
    m->reserved_bytes = need;
    return 0;
}

int eng_model_open(struct eng *e, const char *path, struct eng_model **out_model,
                   struct pd_err *err)
{
    struct eng_memory memory;
    struct eng_model *m;
    int rc = eng_model_begin(path, &m, &memory, err);

    if (rc < 0)
        return rc;
    if (e->limited)
        rc = reserve(e, m, &memory, err);
    if (rc == 0)
        rc = eng_model_finish(m, eng_pool_n_threads(e->pool), err);
    if (rc < 0) {
        eng_model_unref(m);
        return rc;
    }
    *out_model = m;
    return 0;
}

/* ---- sessions
 * ------------------------------------------------------------------------------------ */

struct kv_pool *eng_kv(struct eng *e)
{
    return &e->kv;
}

int eng_fwd_get(struct eng *e, struct eng_model *m, struct fwd **out, struct pd_err *err)
{
    struct fwd *f;
    int rc = 0;

    pthread_mutex_lock(&e->lock);
    for (f = e->fwds; f && f->model != m; f = f->next)
        ;
    if (!f && (rc = fwd_new(m, e->k, e->pool, &e->kv, e->kv_type, e->max_rows, &f, err)) == 0) {
        f->next = e->fwds;
        e->fwds = f;
    }
    if (rc == 0) {
        f->refs++;
        *out = f;
    }
    pthread_mutex_unlock(&e->lock);
    return rc;
}

void eng_fwd_ref(struct eng *e, struct fwd *f)
{
    pthread_mutex_lock(&e->lock);
    f->refs++;
    pthread_mutex_unlock(&e->lock);
}

void eng_fwd_put(struct eng *e, struct fwd *f)
{
    bool last;

    pthread_mutex_lock(&e->lock);
    last = --f->refs == 0;
    if (last) {
        struct fwd **p = &e->fwds;

        while (*p != f)
            p = &(*p)->next;
        *p = f->next;
    }
    pthread_mutex_unlock(&e->lock);
    if (last)
        fwd_free(f);
}

/* ---- submitting
 * ---------------------------------------------------------------------------------- */

static void run_free(struct run *r)
{
    if (!r)
        return;
    if (r->group) {
        struct group *g = r->group;
        size_t i = 0;

        while (g->lanes[i] != r)
            i++;
        g->n--;
        memmove(g->lanes + i, g->lanes + i + 1, (g->n - i) * sizeof(struct run *));
        if (g->n == 0)
            free(g);
    }
    pd_buf_done(&r->tail);
    free(r->counts.items);
    grammar_text_done(&r->text);
    free(r->allowed);
    kv_logits_unref(r->keep);
    spec_give_up(&r->spec);
    free(r);
}

void eng_req_done(struct eng_req *req)
{
    free(req->tokens);
    free(req->logprobs);
    free(req->logits);
    free(req->top_ids);
    free(req->top_logprobs);
    req->tokens = req->top_ids = NULL;
    req->logprobs = req->top_logprobs = NULL;
    req->logits = NULL;
    req->n_tokens = 0;
}

/* What attention makes of a row of c. */
static size_t n_parts(const struct eng_ctx *c)
{
    return c->n_blocks + 1;
}

static int check_speculation(const struct eng_req *q, const struct eng_model_info *info,
                             struct pd_err *err)
{
    if (q->draft_max > ENG_MAX_DRAFT)
        return pd_fail(err, PD_EINVAL, "%u guesses at a time are too many (at most %d)",
                       q->draft_max, ENG_MAX_DRAFT);
    if (q->speculate == ENG_SPECULATE_DRAFT &&
        (!q->draft || eng_model_info(q->draft)->n_vocab != info->n_vocab))
        return pd_fail(err, PD_EINVAL, "speculation needs a draft model with the same tokens");
    return 0;
}

static int check_stops(const char *const *stops, struct pd_err *err)
{
    for (; stops && *stops; stops++)
        if (!**stops || strlen(*stops) > MAX_STOP_BYTES / 2)
            return pd_fail(err, PD_EINVAL, "a stop string must have 1 to %u bytes",
                           MAX_STOP_BYTES / 2);
    return 0;
}

static int check_generate(const struct eng_req *q, const struct eng_model_info *info,
                          struct pd_err *err)
{
    size_t n = kv_before(q->ctx) + eng_ctx_n_tokens(q->ctx);
    int rc = check_speculation(q, info, err);

    if (rc < 0)
        return rc;

    if (q->max_tokens == 0)
        return pd_fail(err, PD_EINVAL, "nothing to generate: max_tokens is 0");
    if (n >= info->n_ctx)
        return pd_fail(err, PD_EINVAL, "the context is full: %zu of %u tokens", n, info->n_ctx);
    if (q->n_top > ENG_MAX_TOP || q->n_top > info->n_vocab)
        return pd_fail(err, PD_EINVAL, "n_top must be at most %u",
                       info->n_vocab < ENG_MAX_TOP ? info->n_vocab : ENG_MAX_TOP);
    if (q->grammar && grammar_tokenizer(q->grammar) != q->ctx->fwd->model->tok)
        return pd_fail(err, PD_EINVAL, "the grammar is for another model's tokens");
    if (q->grammar && q->ignore_end)
        return pd_fail(err, PD_EINVAL, "a text under a grammar ends where that ends");
    if ((rc = check_stops(q->stops, err)) < 0 || (rc = check_stops(q->line_stops, err)) < 0 ||
        (q->adjust && (rc = sample_check_adjust(q->adjust, info->n_vocab, err)) < 0))
        return rc;
    return sample_check(&q->sampling, err);
}

/* Values of a SCORE at each position. */
static size_t n_read(const struct eng_req *q, const struct eng_model_info *info)
{
    return q->read == ENG_READ_HIDDEN ? info->n_embd
           : q->read == ENG_READ_CLS  ? info->n_cls
                                      : q->n_labels;
}

static int check_score(const struct eng_req *q, const struct eng_model_info *info,
                       struct pd_err *err)
{
    size_t n = eng_ctx_n_tokens(q->ctx);

    if (q->ctx->n_pending == 0)
        return pd_fail(err, PD_EINVAL, "nothing to score: no tokens were appended");
    if (q->read == ENG_READ_CLS && info->n_cls == 0)
        return pd_fail(err, PD_EINVAL, "'%s' has no classification head", info->path);
    if (q->read == ENG_READ_LABELS && (q->n_at == 0) != (q->n_labels == 0))
        return pd_fail(err, PD_EINVAL, "positions and labels to score go together");
    if (q->n_at && (uint64_t)q->n_at * n_read(q, info) > MAX_SCORE_VALUES)
        return pd_fail(err, PD_EINVAL, "%u positions with %zu values each are too many", q->n_at,
                       n_read(q, info));
    for (uint32_t i = 0; i < q->n_at; i++) {
        if (q->at[i] < q->ctx->n_kv || q->at[i] >= n || (i && q->at[i] <= q->at[i - 1]))
            return pd_fail(err, PD_EINVAL,
                           "position %u to score is not ascending or not among the new tokens",
                           q->at[i]);
    }
    for (uint32_t i = 0; i < q->n_labels; i++) {
        if (q->labels[i] < 0 || (uint32_t)q->labels[i] >= info->n_vocab)
            return pd_fail(err, PD_EINVAL, "label %d is outside the vocabulary", q->labels[i]);
    }
    return 0;
}

static size_t longest(const char *const *stops, size_t n)
{
    for (; stops && *stops; stops++)
        n = strlen(*stops) > n ? strlen(*stops) : n;
    return n;
}

/* What a GENERATE keeps. PD_ENOMEM. */
static int prepare_generate(struct run *r, size_t room)
{
    struct eng_req *q = r->req;
    const struct eng_adjust *a = q->adjust;

    r->cap_tokens = q->max_tokens < room ? q->max_tokens : (uint32_t)room;
    q->tokens = malloc(r->cap_tokens * sizeof(*q->tokens));
    q->logprobs = calloc(r->cap_tokens, sizeof(*q->logprobs));
    if (!q->tokens || !q->logprobs)
        return PD_ENOMEM;
    if (q->n_top) {
        q->top_ids = calloc(r->cap_tokens, q->n_top * sizeof(*q->top_ids));
        q->top_logprobs = calloc(r->cap_tokens, q->n_top * sizeof(*q->top_logprobs));
        if (!q->top_ids || !q->top_logprobs)
            return PD_ENOMEM;
    }
    if (a && (a->presence != 0.0f || a->frequency != 0.0f)) {
        r->counts.items = calloc((size_t)a->n_seen + r->cap_tokens, sizeof(*r->counts.items));
        if (!r->counts.items)
            return PD_ENOMEM;
        for (uint32_t i = 0; i < a->n_seen; i++)
            sample_count(&r->counts, a->seen[i]);
    }
    r->max_stop = longest(q->line_stops, longest(q->stops, 0));
    if (r->max_stop) {
        size_t keep = longest(q->line_stops, 1) - 1;

        if (pd_buf_reserve(&r->tail, r->max_stop + 256) < 0)
            return PD_ENOMEM;
        pd_buf_adds(&r->tail, pd_str_sub(q->before, q->before.len > keep ? q->before.len - keep : 0,
                                         q->before.len));
        r->n_before = r->tail.len;
    }
    return 0;
}

/* Where the text stands in the grammar. */
static int prepare_grammar(struct run *r, struct pd_err *err)
{
    const struct eng_req *q = r->req;
    int rc;

    if (!q->grammar)
        return 0;
    r->allowed = calloc(grammar_mask_words(r->fwd->model->info.n_vocab), sizeof(*r->allowed));
    if (!r->allowed)
        return pd_fail(err, PD_ENOMEM, "out of memory for a request");
    rc = grammar_text_init(&r->text, q->grammar, err);
    return rc == 0 ? grammar_text_add(&r->text, q->written, err) : rc;
}

/* Checks the request and allocates all it will need; its context is marked busy. */
static int prepare(struct eng *e, struct eng_req *q, struct run **out, struct pd_err *err)
{
    const struct eng_model_info *info;
    struct run *r;
    size_t n, n_values = 0;
    int rc = 0;

    if (!q->ctx || q->ctx->eng != e)
        return pd_fail(err, PD_EINVAL, "a request needs a context of this engine");
    if (q->ctx->busy)
        return pd_fail(err, PD_EINVAL, "the context has a request in flight");
    if (atomic_load(&q->ctx->watchers) > 0)
        return pd_fail(err, PD_EINVAL, "the context is seen by a request in flight");
    info = &q->ctx->fwd->model->info;
    n = eng_ctx_n_tokens(q->ctx);
    if (n == 0)
        return pd_fail(err, PD_EINVAL, "the context is empty");
    if (q->race && (q->op == ENG_SCORE || q->race->m == 0))
        return pd_fail(err, PD_EINVAL,
                       "a race is between generating requests and needs m of at least 1");
    if (n_parts(q->ctx) > e->max_rows)
        return pd_fail(err, PD_EINVAL, "a context that sees %zu others needs steps of more rows",
                       q->ctx->n_blocks);
    if (q->op == ENG_GENERATE)
        rc = check_generate(q, info, err);
    else if (q->op == ENG_SCORE)
        rc = check_score(q, info, err);
    else if (q->op != ENG_PREFILL)
        rc = pd_fail(err, PD_EINVAL, "unknown operation %d", (int)q->op);
    if (rc < 0)
        return rc;

    r = calloc(1, sizeof(*r));
    if (!r)
        goto nomem;
    r->req = q;
    r->ctx = q->ctx;
    r->fwd = q->ctx->fwd;
    r->first = q->ctx->n_kv;
    r->tail = PD_BUF_INIT(MAX_STOP_BYTES);
    q->n_guessed = q->n_right = 0;
    q->tokens = q->top_ids = NULL;
    q->logprobs = q->logits = q->top_logprobs = NULL;
    q->n_tokens = 0;
    q->finish = ENG_FINISH_NONE;
    q->stop = NULL;
    memset(&q->err, 0, sizeof(q->err));
    atomic_store(&q->progress, 0);
    atomic_store(&q->cancelled, false);
    q->n_prompt = (uint32_t)n;
    q->n_cached = (uint32_t)q->ctx->n_kv;
    if (q->op == ENG_GENERATE) {
        if (prepare_generate(r, info->n_ctx - n) < 0)
            goto nomem;
    } else if (q->op == ENG_SCORE) {
        n_values = q->want_logprobs ? q->ctx->n_pending : 0;
        if (q->n_at && !(q->logits = calloc(q->n_at * n_read(q, info), sizeof(float))))
            goto nomem;
    } else if (!(r->keep = kv_logits_new(info->n_vocab))) {
        goto nomem;
    }
    if (n_values && !(q->logprobs = calloc(n_values, sizeof(float))))
        goto nomem;
    if (q->op == ENG_GENERATE) {
        if (kv_reserve_pending(q->ctx, 1 + ENG_MAX_DRAFT) < 0)
            goto nomem;
        rc = prepare_grammar(r, err);
        if (rc == 0)
            rc = spec_init(&r->spec, q, err);
        if (rc < 0) {
            run_free(r);
            eng_req_done(q);
            return rc;
        }
    }
    q->state = r;
    q->ctx->busy = true;
    *out = r;
    return 0;
nomem:
    run_free(r);
    eng_req_done(q);
    return pd_fail(err, PD_ENOMEM, "out of memory for a request");
}

/* Puts the requests of each race into a group. */
static int make_groups(struct eng *e, struct eng_req *const *reqs, size_t n, struct pd_err *err)
{
    for (size_t i = 0; i < n; i++) {
        struct run *r = reqs[i]->state;
        struct group *g;
        size_t n_lanes = 0, parts = 0;
        bool together = false, drawing = true;

        if (!reqs[i]->race || r->group)
            continue;
        for (size_t j = i; j < n; j++) {
            if (reqs[j]->race != reqs[i]->race)
                continue;
            if (reqs[j]->ctx->fwd != r->fwd)
                return pd_fail(err, PD_EINVAL, "a race must be between lanes of one model");
            n_lanes++;
            parts += n_parts(reqs[j]->ctx);
            together = together || reqs[j]->ctx->n_blocks > 0;
            drawing = drawing && reqs[j]->op == ENG_GENERATE;
        }
        if (!together && !drawing)
            return pd_fail(err, PD_EINVAL, "a race is between generating requests");
        if (parts > e->max_rows)
            return pd_fail(err, PD_EINVAL,
                           "a race of %zu lanes does not fit into a step of %u rows", parts,
                           e->max_rows);
        g = calloc(1, sizeof(*g) + n_lanes * sizeof(struct run *));
        if (!g)
            return pd_fail(err, PD_ENOMEM, "out of memory for a race");
        g->race = reqs[i]->race;
        g->race->n_finished = 0;
        g->together = together;
        for (size_t j = i; j < n; j++) {
            struct run *lane = reqs[j]->state;

            if (reqs[j]->race == g->race) {
                lane->group = g;
                g->lanes[g->n++] = lane;
            }
        }
        g->n_live = g->n;
    }
    return 0;
}

/* What a request sees is at rest, or goes on in step with it. */
static int check_view(const struct eng_req *q, struct pd_err *err)
{
    const struct run *r = q->state;

    if (r->group && r->group->together && q->ctx->n_pending == 0)
        return pd_fail(err, PD_EINVAL,
                       "a lane that is seen by others, or sees them, begins with a "
                       "token to evaluate");
    for (size_t i = 0; i < q->ctx->n_blocks; i++) {
        const struct eng_ctx *b = q->ctx->blocks[i];
        bool mate = false;

        for (size_t j = 0; r->group && j < r->group->n; j++)
            mate = mate || r->group->lanes[j]->ctx == b;
        if (b->busy && !mate)
            return pd_fail(err, PD_EINVAL,
                           "a context that is seen has a request in flight that is not of the "
                           "same race");
    }
    return 0;
}

static void watch(const struct eng_ctx *c, int more)
{
    for (size_t i = 0; i < c->n_blocks; i++)
        atomic_fetch_add(&c->blocks[i]->watchers, (unsigned)more);
}

int eng_submit(struct eng *e, struct eng_req *const *reqs, size_t n, struct pd_err *err)
{
    struct run *chain = NULL, **end = &chain;
    size_t i;
    int rc = 0;

    if (n == 0)
        return 0;
    for (i = 0; i < n && rc == 0; i++) {
        struct run *r = NULL;

        rc = prepare(e, reqs[i], &r, err);
        if (rc < 0)
            break;
        *end = r;
        end = &r->next;
    }
    if (rc == 0)
        rc = make_groups(e, reqs, n, err);
    for (size_t j = 0; j < n && rc == 0; j++)
        rc = check_view(reqs[j], err);
    if (rc == 0) {
        for (size_t j = 0; j < n; j++)
            watch(reqs[j]->ctx, 1);
        pthread_mutex_lock(&e->lock);
        if (e->closing) {
            rc = PD_ECANCEL;
        } else {
            *e->inbox_end = chain;
            e->inbox_end = end;
            pthread_cond_signal(&e->wake);
        }
        pthread_mutex_unlock(&e->lock);
        if (rc == 0)
            return 0;
        for (size_t j = 0; j < n; j++)
            watch(reqs[j]->ctx, -1);
        pd_fail(err, PD_ECANCEL, "the engine is closing");
    }
    while (i-- > 0) {
        reqs[i]->ctx->busy = false;
        run_free(reqs[i]->state);
        reqs[i]->state = NULL;
        eng_req_done(reqs[i]);
    }
    return rc;
}

void eng_cancel(struct eng *e, struct eng_req *req)
{
    (void)e; /* a scheduler with this request is awake */
    atomic_store(&req->cancelled, true);
}

struct waiter {
    pthread_mutex_t lock; /* guards n_left */
    pthread_cond_t all;
    size_t n_left;
};

static void run_one_done(struct eng_req *q)
{
    struct waiter *w = q->user;

    pthread_mutex_lock(&w->lock);
    if (--w->n_left == 0)
        pthread_cond_signal(&w->all);
    pthread_mutex_unlock(&w->lock);
}

int eng_run(struct eng *e, struct eng_req *const *reqs, size_t n, struct pd_err *err)
{
    struct waiter w = {.n_left = n};
    struct saved {
        void (*done)(struct eng_req *);
        void *user;
    } * saved;
    int rc;

    saved = calloc(n ? n : 1, sizeof(*saved));
    if (!saved || pthread_mutex_init(&w.lock, NULL) != 0 || pthread_cond_init(&w.all, NULL) != 0) {
        free(saved);
        return pd_fail(err, PD_ENOMEM, "out of memory for a request");
    }
    for (size_t i = 0; i < n; i++) {
        saved[i] = (struct saved){reqs[i]->done, reqs[i]->user};
        reqs[i]->done = run_one_done;
        reqs[i]->user = &w;
    }
    rc = eng_submit(e, reqs, n, err);
    if (rc == 0) {
        pthread_mutex_lock(&w.lock);
        while (w.n_left)
            pthread_cond_wait(&w.all, &w.lock);
        pthread_mutex_unlock(&w.lock);
    }
    for (size_t i = 0; i < n; i++) {
        reqs[i]->done = saved[i].done;
        reqs[i]->user = saved[i].user;
    }
    pthread_cond_destroy(&w.all);
    pthread_mutex_destroy(&w.lock);
    free(saved);
    return rc;
}

/* ---- the scheduler's thread
 * ---------------------------------------------------------------------- */

static void finish(struct run *r, enum eng_finish how)
{
    assert(!r->finished);
    r->finished = true;
    r->req->finish = how;
    if (r->group) {
        r->group->n_live--;
        if (how == ENG_FINISH_EOS || how == ENG_FINISH_STOP)
            r->group->race->n_finished++;
    }
}

static void finish_bad(struct run *r)
{
    const struct eng_model_info *info = &r->fwd->model->info;

    pd_fail(&r->req->err, PD_EFORMAT,
            "model '%s' computed logits that are not numbers: its weights are damaged, "
            "or its file was written to while it was in use",
            info->path ? info->path : "?");
    finish(r, ENG_FINISH_ERROR);
}

/* What may be drawn next, if not everything. */
static void allow(struct run *r)
{
    int64_t n;

    if (!r->allowed)
        return;
    n = grammar_mask(&r->text, r->allowed, r->fwd->model->info.n_vocab, &r->req->err);
    if (n == 0)
        pd_fail(&r->req->err, PD_EINVAL,
                "no token of model '%s' can go on here under the grammar, not even one byte",
                r->fwd->model->info.path);
    if (n <= 0)
        finish(r, ENG_FINISH_ERROR);
}

/* A request enters the scheduler: what needs no step is settled here. */
static void admit(struct run *r)
{
    struct eng_req *q = r->req;
    struct eng_ctx *c = r->ctx;

    allow(r);
    if (r->finished)
        return;

    if (q->op == ENG_SCORE && q->want_logprobs) {
        /* The first pending token's predecessor: nothing, kept logits, or evaluated and gone. */
        float max, log_sum;

        if (c->n_kv == 0)
            q->logprobs[0] = 0.0f;
        else if (!c->last)
            q->logprobs[0] = NAN;
        else if (sample_norm(r->fwd->k, c->last->v, r->fwd->model->info.n_vocab,
                             r->fwd->sample[0].w, &max, &log_sum) < 0)
            finish_bad(r);
        else
            q->logprobs[0] = (c->last->v[c->pending[0]] - max) - log_sum;
        return;
    }
    if (c->n_pending > 0)
        return;
    if (c->last) {
        if (q->op == ENG_PREFILL)
            finish(r, ENG_FINISH_NONE);
    } else if (kv_uncache(c, &q->err) < 0) {
        finish(r, ENG_FINISH_ERROR);
    } else {
        q->n_cached = (uint32_t)c->n_kv;
    }
}

/* What others have evaluated is not evaluated again. The last token is, for its logits, and so is
 * what is read. Returns where the next page would be found. */
static uint64_t adopt(struct run *r)
{
    struct eng_req *q = r->req;
    size_t limit = eng_ctx_n_tokens(r->ctx) - 1;

    if (q->op == ENG_SCORE && q->want_logprobs)
        return 0;
    if (q->op == ENG_SCORE && q->n_at > 0)
        limit = q->at[0];
    q->n_cached += (uint32_t)kv_adopt(r->ctx, limit);
    return kv_next_page(r->ctx, limit);
}

static bool decoding(const struct run *r)
{
    return r->group && r->group->together ? r->ctx->n_pending > 0
                                          : r->req->op == ENG_GENERATE && r->req->n_tokens > 0;
}

/* Every live lane has drawn its first token, or all go together anyway. */
static bool group_level(const struct group *g)
{
    for (size_t i = 0; i < g->n && !g->together; i++) {
        if (!g->lanes[i]->finished && g->lanes[i]->req->n_tokens == 0)
            return false;
    }
    return true;
}

static bool wants_logprob(const struct run *r, size_t pos)
{
    return r->req->want_logprobs && pos + 1 < r->ctx->n_kv + r->ctx->n_pending;
}

/* Index of pos among the positions to read, n_at when it is none of them. */
static size_t find_at(const struct eng_req *q, size_t pos)
{
    size_t lo = 0, hi = q->n_at;

    while (lo < hi) {
        size_t mid = (lo + hi) / 2;

        if (q->at[mid] < pos)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo < q->n_at && q->at[lo] == pos ? lo : q->n_at;
}

static unsigned score_wants(const struct run *r, size_t pos)
{
    const struct eng_req *q = r->req;
    unsigned want = wants_logprob(r, pos) ? FWD_LOGITS : 0;

    if (find_at(q, pos) < q->n_at)
        want |= q->read == ENG_READ_LABELS ? FWD_LOGITS : FWD_HIDDEN;
    return want;
}

/* Room for the next *io_n pending tokens of r. Guesses, and what they are made with, give way. */
static int extend(struct eng *e, struct run *r, size_t *io_n)
{
    struct eng_ctx *c = r->ctx;

    if (kv_extend(c, *io_n, NULL) == 0)
        return 0;
    c->n_pending -= r->spec.n;
    *io_n -= r->spec.n;
    r->spec.n = 0;
    for (struct run *o = e->active; o; o = o->next)
        spec_give_up(&o->spec);
    return kv_extend(c, *io_n, &r->req->err);
}

/* The tables of what c sees. */
static int gather_view(const struct eng_ctx *c, struct pd_err *err)
{
    for (size_t i = 0; i < c->n_blocks; i++)
        if (kv_gather(c->blocks[i]) < 0)
            return pd_fail(err, PD_ENOMEM, "out of memory for a page table");
    return 0;
}

/* Takes the next n pending tokens of r into the batch. */
static void take_rows(struct eng *e, struct run *r, size_t n, struct batch *b)
{
    struct eng_ctx *c = r->ctx;

    if (extend(e, r, &n) < 0 || gather_view(c, &r->req->err) < 0) {
        finish(r, ENG_FINISH_ERROR);
        return;
    }
    if (c->n_blocks > 0)
        kv_estrange(c);
    for (size_t i = 0; i < n; i++) {
        size_t pos = c->n_kv + i;

        e->rows[b->n_rows + i] = (struct fwd_row){
            .ctx = c,
            .pos = (uint32_t)pos,
            .token = c->pending[i],
            .want = r->req->op == ENG_SCORE             ? score_wants(r, pos)
                    : i + 1 + r->spec.n >= c->n_pending ? FWD_LOGITS
                                                        : 0,
            .user = r,
        };
    }
    b->n_rows += n;
    b->n_parts += n * n_parts(c);
    r->n_rows = c->n_step = n;
    r->draws = r->req->op == ENG_GENERATE && n == c->n_pending;
    r->served = true;
}

struct reading { /* pool job: what to do with a chunk of f->out */
    struct eng *e;
    struct fwd *f;
    size_t i0; /* rows: index into f->reads; instant draws: unused */
    bool instant;
};

static void draw(struct run *r, const struct reading *p, const float *logits, size_t pos,
                 unsigned thread)
{
    const struct eng_req *q = r->req;
    size_t i = pos + r->spec.n - (r->ctx->n_kv + r->n_rows);
    size_t n_vocab = p->f->model->info.n_vocab, top = (q->n_tokens + i) * q->n_top;

    if (sample_token(p->f->k, logits, n_vocab, &q->sampling, q->adjust, &r->counts, r->allowed,
                     q->key, r->ctx->n_before + pos, &p->f->sample[thread], &r->drawn[i]) < 0)
        r->drawn[i].id = -1;
    else if (q->n_top)
        sample_top(logits, n_vocab, &r->drawn[i], q->n_top, q->top_ids + top,
                   q->top_logprobs + top);
}

static void read_logprob(struct run *r, const struct reading *p, const float *logits, size_t pos,
                         unsigned thread)
{
    const struct eng_ctx *c = r->ctx;
    float max, log_sum;

    if (sample_norm(p->f->k, logits, p->f->model->info.n_vocab, p->f->sample[thread].w, &max,
                    &log_sum) < 0)
        atomic_store(&r->bad, true);
    else
        r->req->logprobs[pos + 1 - r->first] =
            (logits[c->pending[pos + 1 - c->n_kv]] - max) - log_sum;
}

/* The i-th of the positions to read; from: logits, or the hidden state. */
static void read_at(struct run *r, const struct reading *p, const float *from, size_t i,
                    unsigned thread)
{
    const struct eng_req *q = r->req;
    const struct eng_model *m = p->f->model;
    size_t n = n_read(q, &m->info);
    float *out = q->logits + i * n;

    if (q->read == ENG_READ_CLS)
        eng_head_run(m, p->f->k, from, p->f->mid + thread * m->head.dense.rows, out);
    else if (q->read == ENG_READ_HIDDEN)
        memcpy(out, from, n * sizeof(*out));
    else
        for (size_t j = 0; j < n; j++)
            out[j] = from[q->labels[j]];
    for (size_t j = 0; j < n; j++) {
        if (!isfinite(out[j]))
            atomic_store(&r->bad, true);
    }
}

static void read_score(struct run *r, const struct reading *p, enum fwd_want what,
                       const float *from, size_t pos, unsigned thread)
{
    const struct eng_req *q = r->req;
    size_t i = find_at(q, pos);

    if (what == FWD_LOGITS && wants_logprob(r, pos))
        read_logprob(r, p, from, pos, thread);
    if (i < q->n_at && (what == FWD_LOGITS) == (q->read == ENG_READ_LABELS))
        read_at(r, p, from, i, thread);
}

static void read_out(void *arg, size_t begin, size_t end, unsigned thread)
{
    const struct reading *p = arg;

    for (size_t j = begin; j < end; j++) {
        const struct fwd_read *read;
        const struct fwd_row *row;
        const float *out;
        struct run *r;

        if (p->instant) {
            r = p->e->instant[j];
            draw(r, p, r->ctx->last->v, r->ctx->n_kv, thread);
            continue;
        }
        read = &p->f->reads[p->i0 + j];
        row = &p->f->rows[read->row];
        out = p->f->out + j * p->f->n_out;
        r = row->user;
        if (r->req->op == ENG_GENERATE)
            draw(r, p, out, (size_t)row->pos + 1, thread);
        else if (r->req->op == ENG_PREFILL)
            memcpy(r->keep->v, out, p->f->n_out * sizeof(float));
        else
            read_score(r, p, read->what, out, row->pos, thread);
    }
}

/* The one of stops that text completes first, behind its first n_old bytes and before *io_end;
 * equal ends: the one listed first. It begins at `from` or later. */
static void find_first(struct pd_str text, size_t n_old, size_t from, const char *const *stops,
                       const char **io_best, size_t *io_end)
{
    for (; stops && *stops; stops++) {
        struct pd_str stop = pd_str_of(*stops);
        size_t begin = n_old + 1 > stop.len + from ? n_old + 1 - stop.len : from;
        ptrdiff_t at = pd_str_find(pd_str_sub(text, begin, text.len), stop);

        if (at >= 0 && begin + (size_t)at + stop.len < *io_end) {
            *io_end = begin + (size_t)at + stop.len;
            *io_best = *stops;
        }
    }
}

/* The stop string that the next token completes. */
static const char *find_stop(struct run *r, int32_t id, struct pd_err *err)
{
    const char *best = NULL;
    size_t end = SIZE_MAX, n_old;

    if (r->tail.len >= r->max_stop) {
        size_t drop = r->tail.len - (r->max_stop - 1);

        memmove(r->tail.data, r->tail.data + drop, r->tail.len - drop);
        r->tail.len -= drop;
        r->n_before -= r->n_before < drop ? r->n_before : drop;
    }
    n_old = r->tail.len;
    if (eng_detokenize(r->fwd->model->tok, &id, 1, true, &r->tail, err) < 0)
        return NULL;
    find_first(pd_buf_str(&r->tail), n_old, 0, r->req->line_stops, &best, &end);
    find_first(pd_buf_str(&r->tail), n_old, r->n_before, r->req->stops, &best, &end);
    return best;
}

/* The i-th of what was drawn is the request's next token. */
static void take_token(struct run *r, unsigned i)
{
    struct eng_req *q = r->req;
    int32_t id = r->drawn[i].id;

    q->tokens[q->n_tokens] = id;
    q->logprobs[q->n_tokens] = r->drawn[i].logprob;
    q->n_tokens++;
    if (r->counts.items)
        sample_count(&r->counts, id);
    atomic_store_explicit(&q->progress, q->n_tokens, memory_order_release);
    if (!q->ignore_end && eng_token_is_end(r->fwd->model->tok, id)) {
        finish(r, ENG_FINISH_EOS);
        return;
    }
    if (r->max_stop) {
        q->stop = find_stop(r, id, &q->err);
        if (q->stop) {
            finish(r, ENG_FINISH_STOP);
            return;
        }
        if (q->err.code) {
            finish(r, ENG_FINISH_ERROR);
            return;
        }
    }
    if (q->n_tokens == q->max_tokens)
        finish(r, ENG_FINISH_LENGTH);
    else if (r->ctx->n_before + r->ctx->n_blocks + q->n_prompt + q->n_tokens >=
             r->fwd->model->info.n_ctx) /* each of what it sees may have got one token more */
        finish(r, ENG_FINISH_CTX);
    else if (r->allowed && grammar_text_add_token(&r->text, id, &q->err) < 0)
        finish(r, ENG_FINISH_ERROR);
    else
        allow(r);
}

/* Takes what was drawn as far as it was guessed, and one more. Of the guesses the context keeps
 * those that were taken; the last token waits to be evaluated, as always. */
static void settle_drawn(struct eng *e, struct run *r)
{
    struct eng_req *q = r->req;
    struct eng_ctx *c = r->ctx;
    unsigned n = 0, n_guessed = r->spec.n, n_right;

    while (r->drawn[n].id >= 0) {
        take_token(r, n);
        if (r->finished || n == n_guessed || r->drawn[n].id != r->spec.guess[n])
            break;
        n++;
    }
    if (r->n_rows > 0)
        kv_commit(c, r->n_rows - n_guessed + n);
    c->n_pending = 0;
    if (r->drawn[n].id < 0) {
        finish_bad(r);
        return;
    }
    c->pending[c->n_pending++] = r->drawn[n].id;
    n_right = n + (n < n_guessed && r->drawn[n].id == r->spec.guess[n]); /* it ended the request */
    q->n_guessed += n_guessed;
    q->n_right += n_right;
    atomic_fetch_add(&e->n_guessed, n_guessed);
    atomic_fetch_add(&e->n_right, n_right);
    spec_settle(&r->spec, r->fwd, n_right);
}

/* After the batch: the context and the request catch up. */
static void settle(struct eng *e, struct run *r)
{
    if (r->draws)
        settle_drawn(e, r);
    else if (r->n_rows > 0)
        kv_commit(r->ctx, r->n_rows);
    r->n_rows = r->ctx->n_step = 0;
    if (atomic_load(&r->bad)) {
        finish_bad(r);
    } else if (r->req->op != ENG_GENERATE && r->ctx->n_pending == 0) {
        if (r->keep) {
            r->ctx->last = r->keep;
            r->keep = NULL;
        }
        finish(r, ENG_FINISH_NONE);
    }
    r->draws = false;
}

static void end_race(struct group *g)
{
    if (g->n_live == 0 || g->race->n_finished < g->race->m || !group_level(g))
        return;
    for (size_t i = 0; i < g->n; i++) {
        if (!g->lanes[i]->finished)
            finish(g->lanes[i], ENG_FINISH_RACE);
    }
}

static void take_decode(struct eng *e, struct run *r, struct batch *b)
{
    struct group *g = r->group;
    size_t parts = 0, left = e->max_rows - b->n_parts;

    if (!g) {
        if (n_parts(r->ctx) <= left)
            take_rows(e, r, r->ctx->n_pending, b);
        return;
    }
    if (g->step_seen == e->step)
        return;
    g->step_seen = e->step;
    for (size_t i = 0; i < g->n; i++)
        parts += g->lanes[i]->finished ? 0 : n_parts(g->lanes[i]->ctx);
    if (!group_level(g) || parts > left)
        return;
    for (size_t i = 0; i < g->n; i++) {
        if (!g->lanes[i]->finished)
            take_rows(e, g->lanes[i], 1, b);
    }
}

/* Puts guesses behind the last tokens of the lanes that want some, as far as there is room in the
 * step after a row for everybody. */
static void guess(struct eng *e, struct fwd *f)
{
    size_t n_lanes = 0, n = 0, parts = 0, room;

    for (struct run *r = e->active; r; r = r->next) {
        if (r->fwd != f || r->finished || !decoding(r))
            continue;
        n_lanes++;
        parts += n_parts(r->ctx);
        if (r->spec.how != ENG_SPECULATE_OFF && n < e->max_rows)
            e->guessing[n++] = &r->spec;
    }
    if (n == 0 || parts >= e->max_rows)
        return;
    room = (e->max_rows - parts) / n;
    for (size_t i = 0; i < n; i++) {
        struct spec *s = e->guessing[i];
        const struct run *r = pd_container_of(s, struct run, spec);
        size_t left = r->cap_tokens - r->req->n_tokens - 1;

        s->wanted = spec_length(s, f, n_lanes);
        s->wanted = s->wanted < left ? s->wanted : (unsigned)left;
        s->wanted = s->wanted < room ? s->wanted : (unsigned)room;
    }
    spec_guess(e->guessing, n, e->rows, e->max_rows, e->prefill_chunk);
    for (size_t i = 0; i < n; i++) {
        struct eng_ctx *c = e->guessing[i]->req->ctx;

        memcpy(c->pending + c->n_pending, e->guessing[i]->guess,
               e->guessing[i]->n * sizeof(*c->pending));
        c->n_pending += e->guessing[i]->n;
    }
}

/* Whether somebody evaluates this page in this step already; if not, the caller does now. */
static bool is_taken(struct eng *e, uint64_t page, size_t *io_n)
{
    for (size_t i = 0; i < *io_n; i++)
        if (e->pages[i] == page)
            return true;
    if (page && *io_n < e->max_rows)
        e->pages[(*io_n)++] = page;
    return false;
}

/* One batch of one model. */
static void step_model(struct eng *e, struct fwd *f)
{
    struct reading reading = {.e = e, .f = f};
    struct batch batch = {0};
    size_t n_instant = 0, n_pages = 0, n_decoding, n;
    int64_t t0;

    guess(e, f);
    t0 = pd_clock_now_ns();
    for (struct run *r = e->active; r; r = r->next) {
        if (r->fwd != f)
            continue;
        r->step_seen = e->step;
        if (!r->finished && decoding(r))
            take_decode(e, r, &batch);
    }
    n_decoding = batch.n_rows;
    for (struct run *r = e->active; r; r = r->next) {
        size_t left = (e->max_rows - batch.n_parts) / n_parts(r->ctx);

        if (r->fwd != f || r->finished || decoding(r))
            continue;
        if (r->ctx->n_pending > 1 && left > 0 && is_taken(e, adopt(r), &n_pages))
            continue;
        n = r->ctx->n_pending;
        if (n == 0) { /* kept logits */
            if (n_instant < e->max_rows) {
                e->instant[n_instant++] = r;
                r->served = r->draws = true;
            }
            continue;
        }
        if (n > e->prefill_chunk)
            n = e->prefill_chunk;
        if (n > left)
            n = left;
        if (n)
            take_rows(e, r, n, &batch);
    }
    if (n_instant) {
        reading.instant = true;
        eng_pool_run(e->pool, n_instant, 1, read_out, &reading);
        reading.instant = false;
    }
    if (batch.n_rows) {
        for (size_t i = 0; i < batch.n_rows; i++)
            e->rows[i].ctx->n_before = kv_before(e->rows[i].ctx);
        fwd_step(f, e->rows, batch.n_rows);
        for (reading.i0 = 0; (n = fwd_read_out(f, reading.i0)) > 0; reading.i0 += n)
            eng_pool_run(e->pool, n, 1, read_out, &reading);
        atomic_fetch_add(&e->n_rows, batch.n_rows);
    }
    if (batch.n_rows > 0 && batch.n_rows == n_decoding)
        spec_cost_add(&f->cost, batch.n_rows, (double)(pd_clock_now_ns() - t0) / 1e9);
    for (struct run *r = e->active; r; r = r->next) {
        if (r->fwd == f && r->served && !r->finished)
            settle(e, r);
    }
}

static void step(struct eng *e)
{
    struct run *left_out = NULL, **left_out_end = &left_out, *served = NULL, **served_end = &served;
    struct run *finished = NULL, **finished_end = &finished;

    e->step++;
    for (struct run *r = e->active; r; r = r->next) {
        if (!r->finished && atomic_load(&r->req->cancelled))
            finish(r, ENG_FINISH_CANCEL);
    }
    for (struct run *r = e->active; r; r = r->next) {
        if (r->step_seen != e->step && !r->finished)
            step_model(e, r->fwd);
    }
    for (struct run *r = e->active; r; r = r->next) {
        if (r->group)
            end_race(r->group);
    }
    for (struct run *r = e->active, *next; r; r = next) {
        next = r->next;
        r->next = NULL;
        if (r->finished) {
            *finished_end = r;
            finished_end = &r->next;
        } else if (r->served) {
            *served_end = r;
            served_end = &r->next;
        } else {
            *left_out_end = r;
            left_out_end = &r->next;
        }
        r->served = false;
    }
    *left_out_end = served; /* who was left out comes first next time */
    e->active = left_out;
    atomic_fetch_add(&e->n_steps, 1);
    while (finished) {
        struct run *r = finished;
        struct eng_req *q = r->req;

        finished = r->next;
        r->ctx->busy = false;
        watch(r->ctx, -1);
        q->state = NULL;
        run_free(r);
        if (q->done)
            q->done(q);
    }
}

static void *scheduler(void *arg)
{
    struct eng *e = arg;

    for (;;) {
        struct run *in, **end;
        bool closing;

        pthread_mutex_lock(&e->lock);
        while (!e->inbox && !e->active && !e->closing)
            pthread_cond_wait(&e->wake, &e->lock);
        in = e->inbox;
        e->inbox = NULL;
        e->inbox_end = &e->inbox;
        closing = e->closing;
        pthread_mutex_unlock(&e->lock);
        for (end = &e->active; *end; end = &(*end)->next)
            ;
        *end = in;
        for (struct run *r = in; r; r = r->next)
            admit(r);
        if (closing) {
            for (struct run *r = e->active; r; r = r->next)
                atomic_store(&r->req->cancelled, true);
            if (!e->active)
                return NULL;
        }
        step(e);
    }
}
