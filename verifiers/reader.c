/* See reader.h. */
#include "verifiers/reader.h"

#include <stdlib.h>

#define TEXT_MAX_BYTES (1 << 24)

int reader_no_memory(struct pd_err *err)
{
    return pd_fail(err, PD_ENOMEM, "out of memory for the scorer");
}

/* ---- tokens -----------------------------------------------------------------------------------
 */

int reader_token(struct pd_generator *g, const char *text, int32_t *out, struct pd_err *err)
{
    struct pd_buf said = PD_BUF_INIT(TEXT_MAX_BYTES);
    int32_t *ids = NULL;
    size_t n = 0;
    int rc = g->ops->tokenize_start(g, pd_str_of(text), &ids, &n, err);

    if (rc == 0 && n > 0)
        rc = g->ops->detokenize(g, &ids[n - 1], 1, &said, err);
    if (rc == 0) {
        bool whole =
            n > 0 && pd_str_eq(pd_str_trim(pd_buf_str(&said)), pd_str_trim(pd_str_of(text)));

        *out = whole ? ids[n - 1] : g->ops->find_token(g, text); /* it may be a control token */
        if (*out < 0)
            rc = pd_fail(err, PD_EFORMAT, "'%s' is no token of model '%s'", text, g->name);
    }
    pd_buf_done(&said);
    free(ids);
    return rc;
}

int reader_add_token(int32_t id, int32_t **io_ids, size_t *io_n, struct pd_err *err)
{
    int32_t *grown = realloc(*io_ids, (*io_n + 1) * sizeof *grown);

    if (!grown)
        return reader_no_memory(err);
    *io_ids = grown;
    grown[(*io_n)++] = id;
    return 0;
}

/* Behind the first character of the next place where text says what the token does. */
static size_t next_cut(struct pd_str text, struct pd_str token)
{
    ptrdiff_t at = pd_str_find(text, token);
    size_t cut;

    if (at < 0)
        return text.len;
    cut = (size_t)at + 1;
    while (cut < text.len && ((unsigned char)text.ptr[cut] & 0xc0) == 0x80)
        cut++;
    return cut;
}

int reader_add_text(struct pd_generator *g, struct pd_str text, int32_t not_id, int32_t **io_ids,
                    size_t *io_n, struct pd_err *err)
{
    size_t before = *io_n;
    struct pd_buf said = PD_BUF_INIT(TEXT_MAX_BYTES);
    bool there = false;
    int rc = g->ops->tokenize(g, text, io_ids, io_n, err);

    for (size_t i = before; rc == 0 && not_id >= 0 && i < *io_n; i++)
        there |= (*io_ids)[i] == not_id;
    if (!there)
        return rc;
    *io_n = before;
    rc = g->ops->detokenize(g, &not_id, 1, &said, err);
    for (size_t cut; rc == 0 && text.len; text = pd_str_sub(text, cut, text.len)) {
        cut = next_cut(text, pd_str_trim(pd_buf_str(&said)));
        rc = g->ops->tokenize(g, pd_str_sub(text, 0, cut), io_ids, io_n, err);
    }
    pd_buf_done(&said);
    return rc;
}

/* ---- reading ----------------------------------------------------------------------------------
 */

void reader_done(struct reader *r)
{
    for (struct reader_line *l = r->lines; l; l = l->next)
        r->s->gen->ops->ctx_free(r->s->gen, l->ctx);
    r->lines = NULL;
}

/* Tokens that both begin with. */
static size_t common(const struct reading *w, const struct reader_line *l)
{
    size_t n = 0;

    while (n < w->n_ids && n < l->n_ids && w->ids[n] == l->ids[n])
        n++;
    return n;
}

/* A context with the line's tokens. The parent's values that hold for it are taken over: *first is
 * the index of the next position. */
static int begin_line(struct reader *r, const struct reading *w, struct reader_line *l,
                      size_t *first, struct pd_err *err)
{
    struct pd_generator *g = r->s->gen;
    const struct reader_line *from = w->parent ? w->parent : r->lines;
    size_t need = r->read == PD_READ_NEXT ? 2 : 1; /* tokens that a value depends on, from at on */
    size_t keep = from ? common(w, from) : 0;
    int rc;

    while (w->parent && *first < w->n_at && *first < from->n_at &&
           w->at[*first] == from->at[*first] && w->at[*first] + need <= keep)
        ++*first;
    memcpy(l->values, from ? from->values : l->values, *first * r->n_values * sizeof *l->values);
    /* back to the last position that both share: what follows is evaluated as in a fresh context */
    if (*first)
        keep = w->at[*first - 1] + 1;
    else if (keep > r->n_prompt)
        keep = r->n_prompt;
    if (*first < w->n_at && keep > w->at[*first])
        keep = w->at[*first];
    if (from) {
        rc = g->ops->ctx_fork(g, from->ctx, &l->ctx, err);
        if (rc == 0)
            rc = g->ops->ctx_rollback(g, l->ctx, keep, err);
    } else {
        rc = g->ops->ctx_new(g, &l->ctx, err);
    }
    if (l->ctx) { /* even when it could not be rolled back: done frees it */
        l->next = r->lines;
        r->lines = l;
    }
    return rc < 0 ? rc : g->ops->ctx_append(g, l->ctx, w->ids + keep, w->n_ids - keep, err);
}

static int prepare(struct reader *r, struct reading *w, struct pd_lane *lane, size_t *first,
                   struct pd_err *err)
{
    struct reader_line *l = pd_arena_alloc(r->s->arena, sizeof *l);
    int rc;

    if (!l)
        return reader_no_memory(err);
    if (w->n_ids > r->s->gen->ops->n_ctx(r->s->gen))
        return 0; /* no score rather than part of one */
    *l = (struct reader_line){
        .ids = pd_arena_memdup(r->s->arena, w->ids, w->n_ids * sizeof *w->ids),
        .n_ids = w->n_ids,
        .at = w->at,
        .n_at = w->n_at,
        .values = pd_arena_array(r->s->arena, w->n_at * r->n_values + 1, sizeof *l->values)};
    if (!l->ids || !l->values)
        return reader_no_memory(err);
    rc = begin_line(r, w, l, first, err);
    if (rc < 0)
        return rc;
    w->line = l;
    *lane = (struct pd_lane){.op = PD_LANE_READ,
                             .ctx = l->ctx,
                             .read = r->read,
                             .at = w->at + *first,
                             .n_at = (uint32_t)(w->n_at - *first),
                             .labels = r->labels,
                             .n_labels = r->n_labels};
    return 0;
}

static int read_batch(struct reader *r, struct reading *ws, size_t n, struct pd_err *err)
{
    struct pd_lane *lane = pd_arena_array(r->s->arena, n + 1, sizeof *lane);
    struct pd_lane **lanes = pd_arena_array(r->s->arena, n + 1, sizeof *lanes);
    size_t *first = pd_arena_array(r->s->arena, n + 1, sizeof *first), n_lanes = 0;
    int rc = lane && lanes && first ? 0 : reader_no_memory(err);

    for (size_t i = 0; i < n && rc == 0; i++) {
        rc = prepare(r, &ws[i], &lane[i], &first[i], err);
        if (rc == 0 && lane[i].n_at)
            lanes[n_lanes++] = &lane[i];
    }
    if (rc == 0 && n_lanes)
        rc = pd_scorer_run(r->s, lanes, n_lanes, err);
    for (size_t i = 0; i < n && rc == 0; i++)
        if (lane[i].n_at)
            memcpy(ws[i].line->values + first[i] * r->n_values, lane[i].logits,
                   lane[i].n_at * r->n_values * sizeof(float));
    for (size_t i = 0; i < n_lanes; i++)
        r->s->gen->ops->release(r->s->gen, lanes[i]);
    return rc;
}

int reader_run(struct reader *r, struct reading *rs, size_t n, struct pd_err *err)
{
    size_t first = !r->lines && n > 1;
    int rc = first ? read_batch(r, rs, 1, err) : 0;

    return rc < 0 ? rc : read_batch(r, rs + first, n - first, err);
}

/* ---- numbers ----------------------------------------------------------------------------------
 */

/* In double; exp of the C library is avoided, its last bit differs between versions. e^x = 2^k e^r,
 * |r| ≤ ln2/2, Taylor to 1e-17. */
double reader_exp(double x)
{
    double k, r, e = 1, term = 1;

    if (x < -700)
        return 0;
    k = (double)(long)(x * 1.4426950408889634 - 0.5);
    r = (x - k * 0.693147180369123816490) - k * 1.90821492927058770002e-10;
    for (int i = 1; i < 20; i++) {
        term = term * r / i;
        e += term;
    }
    for (; k < 0; k++)
        e *= 0.5;
    return e;
}

double reader_sigmoid(double x)
{
    double e = reader_exp(x < 0 ? x : -x);

    return x < 0 ? e / (1 + e) : 1 / (1 + e);
}

/* n = m 2^k, 1 ≤ m < 2; ln m = 2 (q + q^3/3 + …), q = (m - 1) / (m + 1) ≤ 1/3. */
double reader_ln(uint32_t n)
{
    double m = n, k = 0, q, power, sum = 0;

    for (; m >= 2; k++)
        m *= 0.5;
    q = (m - 1) / (m + 1);
    power = q;
    for (int i = 1; i < 36; i += 2, power *= q * q)
        sum += power / i;
    return k * 0.69314718055994530942 + 2 * sum;
}
