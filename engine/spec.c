/* Guesses from the text itself (prompt lookup) and from a draft model (Leviathan et al.,
 * arXiv:2211.17192). Deviation from the paper, docs/design/speculation.md: the draft model draws
 * with the random number that the target will draw with, and a guess is right when both drew the
 * same token. */
#include "engine/spec.h"

#include <string.h>

#include "base/clock.h"
#include "engine/forward.h"
#include "engine/sample.h"

#define MIN_MATCH  2 /* tokens that must have been there before what is guessed */
#define MAX_MATCH  8 /* so many are as good as more */
#define KEEP_RATE  0.95
#define KEEP_COST  0.98
#define PRIOR_RATE 0.5 /* of so many guesses: */
#define PRIOR_N    2
#define ROW_SHARE  0.15     /* of a step that a row costs, until steps of other sizes were seen */
#define CATCH_UP   ENG_PAGE /* so many tokens the draft model evaluates beside its guesses */

/* ---- what is worth it
 * ---------------------------------------------------------------------------------------- */

void spec_cost_add(struct spec_cost *c, size_t n_rows, double seconds)
{
    double n = (double)n_rows;

    c->w = KEEP_COST * c->w + 1;
    c->n = KEEP_COST * c->n + n;
    c->nn = KEEP_COST * c->nn + n * n;
    c->t = KEEP_COST * c->t + seconds;
    c->nt = KEEP_COST * c->nt + n * seconds;
}

bool spec_cost_line(const struct spec_cost *c, double *out_step, double *out_row)
{
    double n, t, variance, row;

    if (!(c->w > 0))
        return false;
    n = c->n / c->w;
    t = c->t / c->w;
    variance = c->nn / c->w - n * n;
    row = variance < 0.25 ? ROW_SHARE * t / (1 + ROW_SHARE * n) : (c->nt / c->w - n * t) / variance;
    row = row > t / n ? t / n : row < 0 ? 0 : row;
    *out_row = row;
    *out_step = t - row * n;
    return true;
}

unsigned spec_best(double rate, size_t n_lanes, const struct spec_times *t, unsigned max)
{
    double tokens = 1, all_right = 1, best = 0;
    unsigned best_n = 0;

    for (unsigned n = 0; n <= max; n++) {
        /* a lane's share of the step */
        double seconds =
            (t->step + n * t->draft_step) / (double)n_lanes + (n + 1) * t->row + n * t->draft_row;

        if (n > 0)
            tokens += all_right *= rate;
        if (tokens / seconds > best) {
            best = tokens / seconds;
            best_n = n;
        }
    }
    return best_n;
}

static double mean_rate(const struct spec_rate *r, double prior)
{
    return (PRIOR_N * prior + r->right) / (PRIOR_N + r->tried);
}

static void rate_add(struct spec_rate *r, unsigned n_right, unsigned n)
{
    r->right = KEEP_RATE * r->right + n_right;
    r->tried = KEEP_RATE * r->tried + (n_right < n ? n_right + 1 : n);
}

unsigned spec_length(const struct spec *s, const struct fwd *target, size_t n_lanes)
{
    const struct eng_req *q = s->req;
    unsigned max = q->draft_max ? q->draft_max : ENG_DEFAULT_DRAFT;
    double rate = mean_rate(&s->rate, mean_rate(&target->rate[s->how], PRIOR_RATE));
    struct spec_times t = {0};

    if (q->draft_always)
        return max;
    if (!spec_cost_line(&target->cost, &t.step, &t.row))
        return 0;
    if (s->ctx && !spec_cost_line(&s->ctx->fwd->cost, &t.draft_step, &t.draft_row)) {
        const struct eng_work *a = &s->ctx->fwd->model->info.work, *b = &target->model->info.work;
        double ratio =
            (double)(a->body_bytes + a->head_bytes) / (double)(b->body_bytes + b->head_bytes);

        t.draft_step = ratio * t.step;
        t.draft_row = ratio * t.row;
    }
    return spec_best(rate, n_lanes, &t, max);
}

/* ---- guesses from the text
 * ---------------------------------------------------------------------------------------- */

/* What followed the longest repetition of the text's end, of equal ones the latest. */
static void look_up(struct spec *s)
{
    struct eng_ctx *c = s->req->ctx;
    size_t n = eng_ctx_n_tokens(c), best = MIN_MATCH - 1, from = 0;

    if (kv_gather(c) < 0)
        return;
    for (size_t end = n - 1; end > best && best < MAX_MATCH; end--) {
        size_t m = 0;

        while (m < end && m < MAX_MATCH && kv_token(c, end - 1 - m) == kv_token(c, n - 1 - m))
            m++;
        if (m > best) {
            best = m;
            from = end;
        }
    }
    while (from > 0 && s->n < s->wanted && from + s->n < n) {
        s->guess[s->n] = kv_token(c, from + s->n);
        s->n++;
    }
}

/* ---- guesses of a draft model
 * ---------------------------------------------------------------------------------------- */

void spec_give_up(struct spec *s)
{
    s->how = ENG_SPECULATE_OFF;
    eng_ctx_free(s->ctx);
    s->ctx = NULL;
}

/* In the midst of guessing. */
static void give_up(struct spec *s)
{
    spec_give_up(s);
    s->n = s->wanted = 0;
    s->n_rows = 0;
}

/* Takes the next tokens of a lane into the draft model's batch. catching_up: a lane has much to
 * evaluate in this batch; others that have may find it done next time. */
static void take_rows(struct spec *s, struct fwd_row *rows, size_t *io_rows, size_t max_rows,
                      size_t chunk, bool *catching_up)
{
    struct eng_ctx *c = s->ctx;
    size_t n;

    if (c->n_pending > CATCH_UP)
        kv_adopt(c, eng_ctx_n_tokens(c) - 1);
    n = c->n_pending;
    if (n > CATCH_UP) {
        s->wanted = 0;
        if (*catching_up)
            return;
        *catching_up = true;
        n = n < chunk ? n : chunk;
    }
    if (n > max_rows - *io_rows) {
        s->wanted = 0;
        return;
    }
    if (kv_extend(c, n, NULL) < 0) {
        give_up(s);
        return;
    }
    for (size_t i = 0; i < n; i++)
        rows[*io_rows + i] =
            (struct fwd_row){.ctx = c,
                             .pos = (uint32_t)(c->n_kv + i),
                             .token = c->pending[i],
                             .want = s->wanted > 0 && i + 1 == c->n_pending ? FWD_LOGITS : 0,
                             .user = s};
    *io_rows += n;
    s->n_rows = n;
}

struct drawing { /* pool job */
    struct fwd *f;
    size_t i0;
};

static void draw(void *arg, size_t begin, size_t end, unsigned thread)
{
    static const struct sample_counts
        none; /* a request with penalties or a grammar does not guess */
    const struct drawing *p = arg;
    const struct fwd *f = p->f;

    for (size_t j = begin; j < end; j++) {
        const struct fwd_row *row = &f->rows[f->reads[p->i0 + j].row];
        struct spec *s = row->user;
        struct sample_drawn drawn = {0};

        s->bad = sample_token(f->k, f->out + j * f->n_out, f->model->info.n_vocab,
                              &s->req->sampling, s->req->adjust, &none, NULL, s->req->key,
                              (uint64_t)row->pos + 1, &f->sample[thread], &drawn) < 0;
        s->guess[s->n] = drawn.id;
    }
}

/* One batch of the draft model: the next guess of each lane that wants one. False: none does. */
static bool draft(struct fwd *f, struct spec *const *lanes, size_t n, struct fwd_row *rows,
                  size_t max_rows, size_t chunk, bool *catching_up)
{
    struct drawing drawing = {.f = f};
    int64_t t0 = pd_clock_now_ns();
    size_t n_rows = 0, n_out;

    for (size_t i = 0; i < n; i++) {
        struct spec *s = lanes[i];

        s->n_rows = 0;
        if (s->ctx && s->ctx->fwd == f && s->n < s->wanted)
            take_rows(s, rows, &n_rows, max_rows, chunk, catching_up);
    }
    if (n_rows == 0)
        return false;
    fwd_step(f, rows, n_rows);
    for (; (n_out = fwd_read_out(f, drawing.i0)) > 0; drawing.i0 += n_out)
        eng_pool_run(f->pool, n_out, 1, draw, &drawing);
    for (size_t i = 0; i < n; i++) {
        struct spec *s = lanes[i];

        if (s->n_rows == 0)
            continue;
        kv_commit(s->ctx, s->n_rows);
        if (s->wanted == 0)
            continue;
        if (s->bad || eng_ctx_append(s->ctx, &s->guess[s->n], 1, NULL) < 0)
            give_up(s);
        else
            s->n++;
    }
    if (!*catching_up)
        spec_cost_add(&f->cost, n_rows, (double)(pd_clock_now_ns() - t0) / 1e9);
    return true;
}

void spec_guess(struct spec *const *lanes, size_t n, struct fwd_row *rows, size_t max_rows,
                size_t chunk)
{
    for (size_t i = 0; i < n; i++) {
        lanes[i]->n = 0;
        if (lanes[i]->how == ENG_SPECULATE_LOOKUP)
            look_up(lanes[i]);
    }
    for (size_t i = 0; i < n; i++) { /* nobody wants anything of a draft model that was here */
        bool catching_up = false;

        while (lanes[i]->ctx &&
               draft(lanes[i]->ctx->fwd, lanes, n, rows, max_rows, chunk, &catching_up))
            ;
    }
}

/* ---- the life of a request
 * ---------------------------------------------------------------------------------------- */

int spec_init(struct spec *s, const struct eng_req *req, struct pd_err *err)
{
    const struct eng_adjust *a = req->adjust;
    struct eng_ctx *c = req->ctx;
    size_t n = eng_ctx_n_tokens(c);
    int rc;

    s->req = req;
    s->n_prompt = (uint32_t)n;
    /* What was said just before decides on penalties and masks: neither can be known for the token
     * behind a guess. */
    s->how = req->race || req->grammar || c->n_blocks > 0 ||
                     (a && (a->presence != 0.0f || a->frequency != 0.0f))
                 ? ENG_SPECULATE_OFF
                 : req->speculate;
    if (s->how != ENG_SPECULATE_DRAFT)
        return 0;
    if (n > eng_model_info(req->draft)->n_ctx) {
        s->how = ENG_SPECULATE_OFF;
        return 0;
    }
    rc = eng_ctx_new(c->eng, req->draft, &s->ctx, err);
    if (rc == 0 && kv_gather(c) < 0)
        rc = pd_fail(err, PD_ENOMEM, "out of memory for a page table");
    for (size_t i = 0; i < n && rc == 0; i++) {
        int32_t id = kv_token(c, i);

        rc = eng_ctx_append(s->ctx, &id, 1, err);
    }
    return rc;
}

void spec_settle(struct spec *s, struct fwd *target, unsigned n_right)
{
    const struct eng_req *q = s->req;
    size_t keep = s->n_prompt + q->n_tokens - 1, n;

    /* also when nothing was guessed: what was not worth it may be again */
    rate_add(&s->rate, n_right, s->n);
    rate_add(&target->rate[s->how], n_right, s->n);
    s->n = 0;
    if (!s->ctx)
        return;
    n = eng_ctx_n_tokens(s->ctx);
    if (n > keep) {
        n = keep;
        eng_ctx_rollback(s->ctx, n, NULL);
    }
    if (eng_ctx_append(s->ctx, q->tokens + (n - s->n_prompt), q->n_tokens - (n - s->n_prompt),
                       NULL) < 0)
        spec_give_up(s);
}
