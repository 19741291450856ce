/* Views, and tokens that move between contexts: the owner's side, as ctx.c.
 *
 * K is kept rotated by positions that are counted in its own context. Who sees it at other
 * positions rotates his query instead (attention.c); when tokens move, K is rotated once by how
 * far. */
#include "engine/kv.h"

#include <stdlib.h>
#include <string.h>

#include "engine/forward.h"
#include "engine/model.h"

int eng_ctx_view(struct eng_ctx *c, struct eng_ctx *const *blocks, size_t n, struct pd_err *err)
{
    struct eng_ctx **copy = NULL;

    if (n > ENG_MAX_BLOCKS)
        return pd_fail(err, PD_EINVAL, "a context sees at most %d others, not %zu", ENG_MAX_BLOCKS,
                       n);
    for (size_t i = 0; i < n; i++)
        if (blocks[i] == c || blocks[i]->fwd != c->fwd)
            return pd_fail(err, PD_EINVAL, "a context sees others of its model, and not itself");
    if (n > 0) {
        copy = malloc(n * sizeof(struct eng_ctx *));
        if (!copy)
            return pd_fail(err, PD_ENOMEM, "out of memory for a view");
        memcpy(copy, blocks, n * sizeof(struct eng_ctx *));
    }
    free(c->blocks);
    c->blocks = copy;
    c->n_blocks = n;
    c->n_before = 0;
    kv_logits_unref(c->last); /* what comes next depends on what is before */
    c->last = NULL;
    return 0;
}

size_t eng_ctx_n_before(const struct eng_ctx *c)
{
    return kv_before(c);
}

/* ---- moving
 * -------------------------------------------------------------------------------------- */

struct mover {
    const struct fwd *f;
    struct eng_ctx *to;
    const struct eng_ctx *from;
    size_t first, at, n; /* from's [first, first + n) become to's [at, at + n) */
    float *page;         /* K and V of a page and head as floats */
    float *k;            /* [head_dim] */
    float *cosv, *sinv;  /* [n_ropes][n_rot/2]: of how far they move */
};

static void mover_done(struct mover *m)
{
    free(m->page);
    free(m->k);
    free(m->cosv);
    free(m->sinv);
}

static int mover_init(struct mover *m)
{
    const struct eng_model *model = m->f->model;
    size_t hd = model->info.head_dim, rot = model->n_rot / 2, bytes = 2 * hd * ENG_PAGE + 16;
    bool back = m->at < m->first;

    m->page = aligned_alloc(64, (bytes * sizeof(float) + 63) & ~(size_t)63);
    m->k = malloc(hd * sizeof(float));
    m->cosv = calloc(model->n_ropes * rot + 1, sizeof(float));
    m->sinv = calloc(model->n_ropes * rot + 1, sizeof(float));
    if (!m->page || !m->k || !m->cosv || !m->sinv)
        return PD_ENOMEM;
    for (size_t j = 0; j < model->n_ropes; j++) {
        float *sinv = m->sinv + j * rot;

        /* K has the scale of its rotation already */
        eng_rope_angles((uint32_t)(back ? m->first - m->at : m->at - m->first), model->rope[j].freq,
                        1.0f, rot, m->cosv + j * rot, sinv);
        for (size_t i = 0; back && i < rot; i++)
            sinv[i] = -sinv[i];
    }
    return 0;
}

/* Of one page of `from`, positions [begin, end) of it, one layer and kv head. */
static void move_head(const struct mover *m, size_t page, size_t begin, size_t end, size_t layer,
                      size_t head)
{
    const struct fwd *f = m->f;
    const struct eng_model *model = f->model;
    const struct eng_kv_type *type = f->kv_type;
    size_t hd = model->info.head_dim;
    size_t angle = (size_t)(model->layers[layer].rope - model->rope) * (model->n_rot / 2);
    const float *kv = fwd_kv(f, m->from->table[page], layer, head);

    if (type->get[f->k->isa]) {
        type->get[f->k->isa](kv, hd, m->page);
        kv = m->page;
    }
    for (size_t i = begin; i < end; i++) {
        size_t pos = page * ENG_PAGE + i - m->first + m->at;
        struct kv_page *to = m->to->table[pos / ENG_PAGE];

        for (size_t d = 0; d < hd; d++)
            m->k[d] = kv[d * ENG_PAGE + i];
        if (m->at != m->first)
            (model->neox ? f->k->rope_neox : f->k->rope)(m->k, 1, hd, model->n_rot, m->cosv + angle,
                                                         m->sinv + angle);
        type->put(f->k, fwd_kv(f, to, layer, head), pos % ENG_PAGE, m->k,
                  kv + hd * ENG_PAGE + i * hd, hd);
    }
}

static void move_pages(const struct mover *m)
{
    const struct eng_model_info *i = &m->f->model->info;

    for (size_t pos = m->first, next; pos < m->first + m->n; pos = next) {
        size_t page = pos / ENG_PAGE, end;

        next = (page + 1) * ENG_PAGE;
        next = next < m->first + m->n ? next : m->first + m->n;
        end = next - page * ENG_PAGE;
        for (size_t l = 0; l < i->n_layer; l++)
            for (size_t h = 0; h < i->n_head_kv; h++)
                move_head(m, page, pos % ENG_PAGE, end, l, h);
    }
}

/* The first n of to's pending tokens are from's, from `first` on. */
static int move_evaluated(struct eng_ctx *to, struct eng_ctx *from, size_t first, size_t n,
                          struct pd_err *err)
{
    struct mover m = {.f = to->fwd, .to = to, .from = from, .first = first, .at = to->n_kv, .n = n};
    int rc = mover_init(&m);

    if (rc < 0)
        rc = pd_fail(err, rc, "out of memory for moving tokens");
    else
        rc = kv_extend(to, n, err);
    if (rc == 0) {
        kv_estrange(to);
        move_pages(&m);
        kv_commit(to, n);
    }
    mover_done(&m);
    return rc;
}

int eng_ctx_move(struct eng_ctx *to, struct eng_ctx *from, size_t first, size_t end,
                 struct pd_err *err)
{
    size_t n = end - first, n_kv = end < from->n_kv ? end : from->n_kv;
    int32_t *ids;
    int rc;

    if (first > end || end > eng_ctx_n_tokens(from))
        return pd_fail(err, PD_EINVAL, "there are no tokens %zu to %zu: the context has %zu", first,
                       end, eng_ctx_n_tokens(from));
    if (to == from || to->fwd != from->fwd || (to->n_pending > 0 && n_kv > first))
        return pd_fail(err, PD_EINVAL,
                       "tokens move between two contexts of a model, behind evaluated ones");
    if (n == 0)
        return 0;
    ids = malloc(n * sizeof(*ids));
    if (!ids || kv_gather(from) < 0) {
        free(ids);
        return pd_fail(err, PD_ENOMEM, "out of memory for %zu tokens", n);
    }
    for (size_t i = 0; i < n; i++)
        ids[i] = kv_token(from, first + i);
    rc = eng_ctx_append(to, ids, n, err);
    if (rc == 0 && n_kv > first) {
        rc = move_evaluated(to, from, first, n_kv - first, err);
        if (rc < 0)
            to->n_pending = 0;
    }
    free(ids);
    return rc;
}

int eng_ctx_drop(struct eng_ctx *c, size_t first, size_t end, struct pd_err *err)
{
    struct eng_ctx *d, was;
    int rc;

    if (first > end || end > eng_ctx_n_tokens(c))
        return pd_fail(err, PD_EINVAL, "there are no tokens %zu to %zu: the context has %zu", first,
                       end, eng_ctx_n_tokens(c));
    rc = eng_ctx_fork(c, &d, err);
    if (rc < 0)
        return rc;
    (void)eng_ctx_rollback(d, first, NULL); /* it has so many */
    rc = eng_ctx_move(d, c, end, eng_ctx_n_tokens(c), err);
    if (rc == 0) { /* c becomes what d is */
        was = *c;
        *c = *d;
        *d = was;
    }
    eng_ctx_free(d);
    kv_tidy(c);
    return rc;
}
