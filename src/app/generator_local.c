/* The built-in engine behind core/generator.h. One instance a job and model; used on the job's
 * thread, but for done(), which the scheduler calls and which only pushes to the mailbox. */
#include "app/generator_local.h"

#include "app/app_int.h"

#include <stdlib.h>

#include "base/clock.h"

#define MAILBOX_MAX 8192 /* lanes of one job in flight */

struct local {
    struct pd_generator g;
    struct eng *eng;
    struct eng_model *model;
    const char *chat_template; /* NULL: the model's */
    struct app_decode decode;
    struct eng_model *draft; /* NULL: none */
    int32_t *bounds;         /* [n_bounds]: NULL before they are asked for */
    size_t n_bounds;
    struct eng_ctx *draft_session; /* empty: keeps the draft model's working space between lanes */
    struct eng_steer *steer;       /* NULL: none */
    const struct pd_form *form;    /* of the grammar; a job has one at most */
    struct eng_grammar *grammar;
    struct pd_queue mailbox;
};

struct race { /* shared by the lanes of one submit, freed with the last of them */
    struct eng_race race;
    size_t n_lanes;
};

struct flight { /* what a lane needs of the engine */
    struct eng_req req;
    struct eng_adjust adjust;
    struct race *race;
    const char *stops[2];
    struct local *local;
    struct pd_lane *lane;
};

static struct local *self(struct pd_generator *g)
{
    return pd_container_of(g, struct local, g);
}

static struct eng_ctx *ctx_of(const struct pd_gctx *c)
{
    return (struct eng_ctx *)(uintptr_t)c;
}

static int chat(struct pd_generator *g, const struct pd_chat *c, int32_t **ids, size_t *n,
                struct pd_err *err)
{
    const struct eng_tokenizer *t = eng_model_tokenizer(self(g)->model);

    return c->n_ids || c->text.ptr ? app_prompt_tokens(t, c, ids, n, err)
                                   : eng_chat(t, self(g)->chat_template, c, ids, n, err);
}

static int tokenize(struct pd_generator *g, struct pd_str text, int32_t **ids, size_t *n,
                    struct pd_err *err)
{
    return eng_tokenize(eng_model_tokenizer(self(g)->model), text, ENG_PARSE_PLAIN, ids, n, err);
}

static int tokenize_start(struct pd_generator *g, struct pd_str text, int32_t **ids, size_t *n,
                          struct pd_err *err)
{
    return eng_tokenize(eng_model_tokenizer(self(g)->model), text,
                        ENG_PARSE_PLAIN | ENG_PARSE_START, ids, n, err);
}

static int detokenize(struct pd_generator *g, const int32_t *ids, size_t n, struct pd_buf *out,
                      struct pd_err *err)
{
    return eng_detokenize(eng_model_tokenizer(self(g)->model), ids, n, true, out, err);
}

static int32_t find_token(struct pd_generator *g, const char *text)
{
    return eng_token_find(eng_model_tokenizer(self(g)->model), pd_str_of(text));
}

static size_t bounds(struct pd_generator *g, const int32_t **out)
{
    struct local *l = self(g);
    const struct eng_tokenizer *t = eng_model_tokenizer(l->model);
    int32_t n = (int32_t)eng_n_vocab(t);

    if (!l->bounds && (l->bounds = malloc((size_t)n * sizeof *l->bounds)) != NULL)
        for (int32_t id = 0; id < n; id++)
            if (id == eng_token_bos(t) || eng_token_is_end(t, id))
                l->bounds[l->n_bounds++] = id;
    *out = l->bounds;
    return l->n_bounds;
}

static uint32_t n_ctx(struct pd_generator *g)
{
    return eng_model_info(self(g)->model)->n_ctx;
}

static void traits(struct pd_generator *g, struct pd_model_traits *out)
{
    const struct eng_model_info *i = eng_model_info(self(g)->model);

    *out = (struct pd_model_traits){.name = i->name,
                                    .head = i->head,
                                    .n_head = i->n_cls,
                                    .bos = eng_token_bos(eng_model_tokenizer(self(g)->model)),
                                    .n_vocab = i->n_vocab};
}

static int ctx_new(struct pd_generator *g, struct pd_gctx **out, struct pd_err *err)
{
    struct eng_ctx *c;
    int rc = eng_ctx_new(self(g)->eng, self(g)->model, &c, err);

    if (rc == 0)
        *out = (struct pd_gctx *)(void *)c;
    return rc;
}

static void ctx_free(struct pd_generator *g, struct pd_gctx *c)
{
    (void)g;
    eng_ctx_free(ctx_of(c));
}

static int ctx_fork(struct pd_generator *g, struct pd_gctx *c, struct pd_gctx **out,
                    struct pd_err *err)
{
    struct eng_ctx *f;
    int rc = eng_ctx_fork(ctx_of(c), &f, err);

    (void)g;
    if (rc == 0)
        *out = (struct pd_gctx *)(void *)f;
    return rc;
}

static int ctx_append(struct pd_generator *g, struct pd_gctx *c, const int32_t *ids, size_t n,
                      struct pd_err *err)
{
    (void)g;
    return n ? eng_ctx_append(ctx_of(c), ids, n, err) : 0;
}

static int ctx_rollback(struct pd_generator *g, struct pd_gctx *c, size_t n, struct pd_err *err)
{
    (void)g;
    return eng_ctx_rollback(ctx_of(c), n, err);
}

static int ctx_view(struct pd_generator *g, struct pd_gctx *c, struct pd_gctx *const *blocks,
                    size_t n, struct pd_err *err)
{
    struct eng_ctx *seen[ENG_MAX_BLOCKS];

    (void)g;
    for (size_t i = 0; i < n && i < ENG_MAX_BLOCKS; i++)
        seen[i] = ctx_of(blocks[i]);
    return eng_ctx_view(ctx_of(c), seen, n, err);
}

static int ctx_move(struct pd_generator *g, struct pd_gctx *to, struct pd_gctx *from, size_t n,
                    struct pd_err *err)
{
    (void)g;
    return eng_ctx_move(ctx_of(to), ctx_of(from), 0, n, err);
}

static int ctx_written(struct pd_generator *g, struct pd_gctx *c, struct pd_err *err)
{
    return eng_ctx_steer(ctx_of(c), self(g)->steer, eng_ctx_n_tokens(ctx_of(c)), err);
}

static size_t ctx_n_tokens(struct pd_generator *g, const struct pd_gctx *c)
{
    (void)g;
    return eng_ctx_n_tokens(ctx_of(c));
}

static size_t ctx_n_cached(struct pd_generator *g, const struct pd_gctx *c)
{
    (void)g;
    return eng_ctx_n_cached(ctx_of(c));
}

static void done(struct eng_req *req)
{
    struct flight *f = req->user;

    /* the mailbox holds more than submit lets out: it cannot be full */
    pd_queue_push(&f->local->mailbox, &req->link);
}

static void release(struct pd_generator *g, struct pd_lane *lane)
{
    struct flight *f = lane->impl;

    (void)g;
    if (!f)
        return;
    eng_req_done(&f->req);
    if (f->race && --f->race->n_lanes == 0)
        free(f->race);
    free(f);
    lane->impl = NULL;
    lane->tokens = lane->top_ids = NULL;
    lane->logprobs = lane->logits = lane->top_logprobs = lane->confidences = NULL;
}

static struct flight *flight_new(struct local *l, struct pd_lane *p, struct race *race)
{
    static const enum eng_op op[] = {[PD_LANE_PREFILL] = ENG_PREFILL,
                                     [PD_LANE_GENERATE] = ENG_GENERATE,
                                     [PD_LANE_READ] = ENG_SCORE};
    static const enum eng_read read[] = {[PD_READ_LABELS] = ENG_READ_LABELS,
                                         [PD_READ_HEAD] = ENG_READ_CLS,
                                         [PD_READ_NEXT] = ENG_READ_NEXT};
    struct flight *f = calloc(1, sizeof *f);

    if (!f)
        return NULL;
    f->local = l;
    f->lane = p;
    f->race = race;
    f->stops[0] = p->stop;
    f->req.op = op[p->op];
    f->req.ctx = ctx_of(p->ctx);
    f->req.key = p->key;
    f->req.max_tokens = p->max_tokens;
    f->req.stops = p->stop ? f->stops : NULL;
    f->req.line_stops = p->line_stops;
    f->req.before = p->before;
    f->req.race = race ? &race->race : NULL;
    f->req.read = read[p->read];
    f->req.at = p->at;
    f->req.n_at = p->n_at;
    f->req.labels = p->labels;
    f->req.n_labels = p->n_labels;
    f->req.grammar = p->form ? l->grammar : NULL;
    f->req.written = p->written;
    f->req.speculate = (enum eng_speculate)l->decode.speculate;
    f->req.draft = l->draft;
    f->req.draft_max = (uint32_t)l->decode.draft_max;
    f->req.draft_always = l->decode.draft_always;
    f->req.done = done;
    f->req.user = f;
    if (p->sampling) {
        f->req.sampling.temperature = (float)p->sampling->temperature;
        f->req.sampling.top_k = (uint32_t)p->sampling->top_k;
        f->req.sampling.top_p = (float)p->sampling->top_p;
        f->req.sampling.min_p = (float)p->sampling->min_p;
        f->req.n_top = p->sampling->n_top;
        f->req.confidence =
            (struct eng_confidence){p->sampling->confidence.top, p->sampling->confidence.window,
                                    p->sampling->confidence.least};
        f->adjust = (struct eng_adjust){.presence = (float)p->sampling->presence_penalty,
                                        .frequency = (float)p->sampling->frequency_penalty,
                                        .seen = p->seen,
                                        .n_seen = p->n_seen,
                                        .bias = p->sampling->bias,
                                        .n_bias = (uint32_t)p->sampling->n_bias};
        if (f->adjust.presence != 0 || f->adjust.frequency != 0 || f->adjust.n_bias)
            f->req.adjust = &f->adjust;
    }
    if (race)
        race->n_lanes++;
    return f;
}

/* The grammar of the lanes' form, which is compiled when it is first met. */
static int set_grammar(struct local *l, struct pd_lane *const *lanes, size_t n, struct pd_err *err)
{
    const struct pd_form *f = NULL;
    struct eng_grammar *grammar;
    int rc;

    for (size_t i = 0; i < n && !f; i++)
        f = lanes[i]->form;
    if (!f || f == l->form)
        return 0;
    rc = app_grammar_new(eng_model_tokenizer(l->model), f, &grammar, err);
    if (rc < 0)
        return rc;
    eng_grammar_unref(l->grammar);
    l->grammar = grammar;
    l->form = f;
    return 0;
}

static int submit(struct pd_generator *g, struct pd_lane *const *lanes, size_t n,
                  struct pd_err *err)
{
    struct local *l = self(g);
    struct eng_req **reqs = calloc(n ? n : 1, sizeof *reqs);
    struct race *race = NULL;
    int rc = 0;

    if (n > MAILBOX_MAX)
        rc = pd_fail(err, PD_ELIMIT, "%zu lanes at once are too many (most: %d)", n, MAILBOX_MAX);
    else if (!reqs)
        rc = pd_fail(err, PD_ENOMEM, "out of memory for %zu lanes", n);
    if (rc == 0 && n && lanes[0]->race_m) {
        race = calloc(1, sizeof *race);
        if (!race)
            rc = pd_fail(err, PD_ENOMEM, "out of memory for a race");
        else
            race->race.m = lanes[0]->race_m;
    }
    if (rc == 0)
        rc = set_grammar(l, lanes, n, err);
    for (size_t i = 0; i < n && rc == 0; i++) {
        struct flight *f = flight_new(l, lanes[i], race);

        lanes[i]->impl = f;
        lanes[i]->started_ms = pd_clock_unix_ms();
        if (f)
            reqs[i] = &f->req;
        else
            rc = pd_fail(err, PD_ENOMEM, "out of memory for a lane");
    }
    if (rc == 0)
        rc = eng_submit(l->eng, reqs, n, err);
    for (size_t i = 0; i < n && rc == 0; i++) {
        lanes[i]->tokens = reqs[i]->tokens;
        lanes[i]->logprobs = reqs[i]->logprobs;
        lanes[i]->top_ids = reqs[i]->top_ids;
        lanes[i]->top_logprobs = reqs[i]->top_logprobs;
        lanes[i]->confidences = reqs[i]->confidences;
    }
    if (rc < 0) {
        if (race && race->n_lanes == 0)
            free(race);
        for (size_t i = 0; i < n; i++)
            release(g, lanes[i]);
    }
    free(reqs);
    return rc;
}

static int wait_one(struct pd_generator *g, int64_t deadline_ns, struct pd_lane **out)
{
    static const enum pd_lane_end end[] = {[ENG_FINISH_NONE] = PD_END_LENGTH,
                                           [ENG_FINISH_EOS] = PD_END_EOS,
                                           [ENG_FINISH_STOP] = PD_END_STOP,
                                           [ENG_FINISH_LENGTH] = PD_END_LENGTH,
                                           [ENG_FINISH_CTX] = PD_END_CTX,
                                           [ENG_FINISH_RACE] = PD_END_RACE,
                                           [ENG_FINISH_CONFIDENCE] = PD_END_CONFIDENCE,
                                           [ENG_FINISH_CANCEL] = PD_END_CANCEL,
                                           [ENG_FINISH_ERROR] = PD_END_ERROR};
    struct pd_link *link;
    struct eng_req *r;
    struct pd_lane *lane;
    int rc = pd_queue_pop_wait(&self(g)->mailbox, deadline_ns, &link);

    if (rc < 0)
        return rc;
    r = pd_container_of(link, struct eng_req, link);
    lane = ((struct flight *)r->user)->lane;
    lane->tokens = r->tokens;
    lane->logprobs = r->logprobs;
    lane->logits = r->logits;
    lane->n_tokens = r->n_tokens;
    lane->n_prompt = r->n_prompt;
    lane->n_cached = r->n_cached;
    lane->end = end[r->finish];
    for (const char *const *s = r->line_stops; s && *s; s++)
        if (r->finish == ENG_FINISH_STOP && r->stop == *s)
            lane->end = PD_END_LINE;
    lane->err = r->err;
    lane->ended_ms = pd_clock_unix_ms();
    *out = lane;
    return 0;
}

static void cancel(struct pd_generator *g, struct pd_lane *lane)
{
    struct flight *f = lane->impl;

    if (f)
        eng_cancel(self(g)->eng, &f->req);
}

static uint32_t progress(struct pd_generator *g, const struct pd_lane *lane)
{
    struct flight *f = lane->impl;

    (void)g;
    return f ? atomic_load_explicit(&f->req.progress, memory_order_acquire) : 0;
}

static void gen_free(struct pd_generator *g)
{
    eng_ctx_free(self(g)->draft_session);
    eng_grammar_unref(self(g)->grammar);
    eng_steer_unref(self(g)->steer);
    eng_model_unref(self(g)->draft);
    eng_model_unref(self(g)->model);
    pd_queue_done(&self(g)->mailbox);
    free(self(g)->bounds);
    free(self(g));
}

static const struct pd_generator_ops ops = {
    .chat = chat,
    .tokenize = tokenize,
    .tokenize_start = tokenize_start,
    .detokenize = detokenize,
    .find_token = find_token,
    .bounds = bounds,
    .n_ctx = n_ctx,
    .traits = traits,
    .ctx_new = ctx_new,
    .ctx_free = ctx_free,
    .ctx_fork = ctx_fork,
    .ctx_append = ctx_append,
    .ctx_rollback = ctx_rollback,
    .ctx_view = ctx_view,
    .ctx_move = ctx_move,
    .ctx_written = ctx_written,
    .ctx_n_tokens = ctx_n_tokens,
    .ctx_n_cached = ctx_n_cached,
    .submit = submit,
    .wait = wait_one,
    .cancel = cancel,
    .progress = progress,
    .release = release,
    .free = gen_free,
};

int app_grammar_new(const struct eng_tokenizer *t, const struct pd_form *f,
                    struct eng_grammar **out, struct pd_err *err)
{
    const struct eng_grammar_spec spec = {.kind = f->schema ? ENG_GRAMMAR_SCHEMA : ENG_GRAMMAR_GBNF,
                                          .text = pd_str_of(f->text),
                                          .after = f->after,
                                          .begin = f->begin};

    return eng_grammar_new(t, &spec, out, err);
}

int app_generator_new(struct eng *e, struct eng_model *m, const char *name,
                      const char *chat_template, struct pd_generator **out, struct pd_err *err)
{
    struct local *l = calloc(1, sizeof *l);

    if (!l || pd_queue_init(&l->mailbox, MAILBOX_MAX) < 0) {
        free(l);
        return pd_fail(err, PD_ENOMEM, "out of memory for model '%s'", name);
    }
    l->g.ops = &ops;
    l->g.name = name;
    l->eng = e;
    l->model = eng_model_ref(m);
    l->chat_template = chat_template;
    *out = &l->g;
    return 0;
}

int app_generator_speculate(struct pd_generator *g, const struct app_decode *how,
                            struct eng_model *draft, struct pd_err *err)
{
    struct local *l = self(g);
    int rc = draft ? eng_ctx_new(l->eng, draft, &l->draft_session, err) : 0;

    if (rc < 0)
        return rc;
    l->decode = *how;
    l->draft = draft ? eng_model_ref(draft) : NULL;
    return 0;
}

void app_generator_steer(struct pd_generator *g, struct eng_steer *s)
{
    eng_steer_unref(self(g)->steer);
    self(g)->steer = s;
}
