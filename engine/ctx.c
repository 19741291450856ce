/* Contexts: the owner's side of kv.h. Called by the owner's thread, never while a request on the
 * context is in flight; the scheduler has the context to itself meanwhile. */
#include "engine/kv.h"

#include <stdlib.h>
#include <string.h>

#include "engine/forward.h"
#include "engine/model.h"

static int new_ctx(struct eng *e, struct fwd *f, size_t n_pending, struct eng_ctx **out)
{
    struct eng_ctx *c = malloc(sizeof(*c));
    size_t cap = n_pending + 1 < 16 ? 16 : n_pending + 1;

    if (!c)
        return PD_ENOMEM;
    kv_ctx_init(c, eng_kv(e), f->cls);
    c->eng = e;
    c->fwd = f;
    c->pending = malloc(cap * sizeof(*c->pending));
    if (!c->pending) {
        free(c);
        return PD_ENOMEM;
    }
    c->cap_pending = cap;
    *out = c;
    return 0;
}

int eng_ctx_new(struct eng *e, struct eng_model *m, struct eng_ctx **out_ctx, struct pd_err *err)
{
    struct fwd *f;
    int rc = eng_fwd_get(e, m, &f, err);

    if (rc < 0)
        return rc;
    rc = new_ctx(e, f, 0, out_ctx);
    if (rc < 0) {
        eng_fwd_put(e, f);
        return pd_fail(err, PD_ENOMEM, "out of memory for a context");
    }
    return 0;
}

void eng_ctx_free(struct eng_ctx *c)
{
    if (!c)
        return;
    kv_ctx_done(c);
    eng_fwd_put(c->eng, c->fwd);
    free(c->pending);
    free(c->blocks);
    free(c);
}

int eng_ctx_fork(struct eng_ctx *c, struct eng_ctx **out_ctx, struct pd_err *err)
{
    struct eng_ctx *d;

    if (new_ctx(c->eng, c->fwd, c->n_pending, &d) < 0)
        return pd_fail(err, PD_ENOMEM, "out of memory for a context");
    eng_fwd_ref(c->eng, c->fwd);
    if (eng_ctx_view(d, c->blocks, c->n_blocks, err) < 0) {
        eng_ctx_free(d);
        return PD_ENOMEM;
    }
    d->n_before = c->n_before;
    memcpy(d->pending, c->pending, c->n_pending * sizeof(*c->pending));
    d->n_pending = c->n_pending;
    kv_ctx_share(d, c);
    *out_ctx = d;
    return 0;
}

int kv_reserve_pending(struct eng_ctx *c, size_t n)
{
    size_t cap = c->cap_pending;
    int32_t *p;

    if (c->n_pending + n + 1 <= cap)
        return 0;
    while (cap < c->n_pending + n + 1)
        cap *= 2;
    p = realloc(c->pending, cap * sizeof(*p));
    if (!p)
        return PD_ENOMEM;
    c->pending = p;
    c->cap_pending = cap;
    return 0;
}

int eng_ctx_append(struct eng_ctx *c, const int32_t *ids, size_t n, struct pd_err *err)
{
    const struct eng_model_info *info = &c->fwd->model->info;
    size_t have = kv_before(c) + eng_ctx_n_tokens(c);

    if (have > info->n_ctx || n > info->n_ctx - have)
        return pd_fail(err, PD_ELIMIT,
                       "%zu tokens do not fit behind %zu: the context of '%s' holds %u", n, have,
                       info->name ? info->name : "the model", info->n_ctx);
    for (size_t i = 0; i < n; i++) {
        if (ids[i] < 0 || (uint32_t)ids[i] >= info->n_vocab)
            return pd_fail(err, PD_EINVAL, "token id %d is outside the vocabulary of %u", ids[i],
                           info->n_vocab);
    }
    if (kv_reserve_pending(c, n) < 0)
        return pd_fail(err, PD_ENOMEM, "out of memory for %zu tokens", n);
    if (n)
        memcpy(c->pending + c->n_pending, ids, n * sizeof(*ids));
    c->n_pending += n;
    return 0;
}

int eng_ctx_rollback(struct eng_ctx *c, size_t n_tokens, struct pd_err *err)
{
    if (n_tokens > eng_ctx_n_tokens(c))
        return pd_fail(err, PD_EINVAL, "cannot roll back to %zu tokens: the context has %zu",
                       n_tokens, eng_ctx_n_tokens(c));
    if (n_tokens >= c->n_kv) {
        c->n_pending = n_tokens - c->n_kv;
        return 0;
    }
    c->n_pending = 0;
    kv_cut(c, n_tokens);
    return 0;
}

size_t eng_ctx_n_tokens(const struct eng_ctx *c)
{
    return c->n_kv + c->n_pending;
}

size_t eng_ctx_n_cached(const struct eng_ctx *c)
{
    return c->n_kv;
}
