/* Segments, and the KV side of contexts. See kv.h for the invariants. */
#include "engine/kv.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

/* ---- segments
 * ------------------------------------------------------------------------------------ */

static struct kv_seg *seg_ref(struct kv_seg *s)
{
    if (s)
        atomic_fetch_add(&s->refs, 1);
    return s;
}

/* The page i of the contexts that end in s; NULL: before the first. */
static struct kv_page *seg_page(const struct kv_seg *s, ptrdiff_t i)
{
    if (i < 0)
        return NULL;
    while (s->base / ENG_PAGE > (size_t)i)
        s = s->parent;
    return s->pages[(size_t)i - s->base / ENG_PAGE];
}

/* Lets go of the last page of s, which the caller alone has. */
static void seg_pop(struct kv_pool *p, struct kv_seg *s)
{
    struct kv_page *page = s->pages[--s->n_pages];
    ptrdiff_t i = (ptrdiff_t)(s->base / ENG_PAGE + s->n_pages);

    kv_page_unref(p, page, kv_node_behind(page->cls, seg_page(s, i - 1)));
}

static void seg_unref(struct kv_pool *p, struct kv_seg *s)
{
    while (s && atomic_fetch_sub(&s->refs, 1) == 1) {
        struct kv_seg *parent = s->parent;

        while (s->n_pages > 0)
            seg_pop(p, s);
        free(s->pages);
        free(s);
        s = parent;
    }
}

static int seg_reserve(struct kv_seg *s, size_t n_pages)
{
    struct kv_page **pages;
    size_t cap = s->cap_pages ? s->cap_pages : 4;

    if (n_pages <= s->cap_pages)
        return 0;
    while (cap < n_pages)
        cap *= 2;
    pages = realloc(s->pages, cap * sizeof(struct kv_page *));
    if (!pages)
        return PD_ENOMEM;
    s->pages = pages;
    s->cap_pages = cap;
    return 0;
}

/* ---- the KV side of contexts
 * --------------------------------------------------------------------- */

void kv_ctx_init(struct eng_ctx *c, struct kv_pool *pool, struct kv_class *cls)
{
    memset(c, 0, sizeof(*c));
    c->pool = pool;
    c->cls = cls;
}

static void drop_last(struct eng_ctx *c)
{
    kv_logits_unref(c->last);
    c->last = NULL;
}

static size_t n_pages_of(size_t n_positions)
{
    return (n_positions + ENG_PAGE - 1) / ENG_PAGE;
}

static void set_n_kv(struct eng_ctx *c, size_t n)
{
    atomic_fetch_add(&c->pool->pages_seen, n_pages_of(n) - n_pages_of(c->n_kv));
    c->n_kv = n;
}

void kv_ctx_done(struct eng_ctx *c)
{
    seg_unref(c->pool, c->tail);
    c->tail = NULL;
    set_n_kv(c, 0);
    free(c->table);
    c->table = NULL;
    c->n_table = c->cap_table = 0;
    drop_last(c);
}

void kv_ctx_share(struct eng_ctx *c, const struct eng_ctx *from)
{
    c->tail = seg_ref(from->tail);
    set_n_kv(c, from->n_kv);
    c->last = from->last;
    if (c->last)
        atomic_fetch_add(&c->last->refs, 1);
}

/* The flat table of the first n pages, which the tree must have. */
static int gather(struct eng_ctx *c, size_t n)
{
    size_t end = n;

    if (c->n_table >= n)
        return 0;
    if (n > c->cap_table) {
        size_t cap = c->cap_table ? c->cap_table : 8;
        struct kv_page **table;

        while (cap < n)
            cap *= 2;
        table = realloc(c->table, cap * sizeof(struct kv_page *));
        if (!table)
            return PD_ENOMEM;
        c->table = table;
        c->cap_table = cap;
    }
    for (const struct kv_seg *s = c->tail; s && end > 0; s = s->parent) {
        size_t first = s->base / ENG_PAGE;

        for (size_t i = first; i < end; i++)
            c->table[i] = s->pages[i - first];
        if (first < end)
            end = first;
    }
    assert(end == 0);
    c->n_table = n;
    return 0;
}

int kv_gather(struct eng_ctx *c)
{
    return gather(c, n_pages_of(c->n_kv));
}

/* Drops the pages from index n on; the tail is the context's own. */
static void trim(struct eng_ctx *c, size_t n)
{
    struct kv_seg *s = c->tail;

    while (s->n_pages > 0 && s->base / ENG_PAGE + s->n_pages > n)
        seg_pop(c->pool, s);
    if (c->n_table > n)
        c->n_table = n;
}

static bool owns_tail(const struct eng_ctx *c)
{
    return c->tail && atomic_load(&c->tail->refs) == 1;
}

/* A segment from position base on, a page boundary within the context. NULL: out of memory. */
static struct kv_seg *seg_new(size_t base)
{
    struct kv_seg *s = calloc(1, sizeof(*s));

    if (s) {
        atomic_init(&s->refs, 1);
        s->base = base;
    }
    return s;
}

/* Puts s behind the context's pages before it, in place of what was there. */
static void put_tail(struct eng_ctx *c, struct kv_seg *s)
{
    size_t first = s->base / ENG_PAGE;
    struct kv_seg *parent = c->tail;

    if (owns_tail(c))
        trim(c, first);
    /* Segments that the new one hides completely are not part of this context. */
    while (parent && parent->base >= s->base)
        parent = parent->parent;
    s->parent = seg_ref(parent);
    seg_unref(c->pool, c->tail);
    c->tail = s;
    if (c->n_table > first)
        c->n_table = first; /* the entries below are unchanged */
}

/* A page with the first n tokens of another and their K and V. NULL: no room. */
static struct kv_page *copy_page(struct eng_ctx *c, const struct kv_page *old, uint32_t n)
{
    struct kv_page *page = kv_page_new(c->pool, c->cls);

    if (page) {
        memcpy(page->tokens, old->tokens, c->cls->page_bytes - offsetof(struct kv_page, tokens));
        page->n_tokens = n;
        page->foreign = old->foreign;
    }
    return page;
}

/* A tail of the context's own, of which the page that is filled in part may be written: if need be
 * a child of the shared one, with a copy of that page. */
static int own_tail(struct eng_ctx *c)
{
    size_t i = c->n_kv / ENG_PAGE, n = c->n_kv % ENG_PAGE;
    const struct kv_page *old;
    struct kv_seg *s;

    if (owns_tail(c) && (n == 0 || !seg_page(c->tail, (ptrdiff_t)i)->parent))
        return 0;
    s = seg_new(i * ENG_PAGE);
    if (!s)
        return PD_ENOMEM;
    if (n > 0) {
        old = seg_page(c->tail, (ptrdiff_t)i);
        if (seg_reserve(s, 1) == 0)
            s->pages[0] = copy_page(c, old, (uint32_t)n);
        if (!s->pages || !s->pages[0]) {
            free(s->pages);
            free(s);
            return PD_ENOMEM;
        }
        s->n_pages = 1;
    }
    put_tail(c, s);
    return 0;
}

int kv_extend(struct eng_ctx *c, size_t n, struct pd_err *err)
{
    size_t want = n_pages_of(c->n_kv + n), have, first;
    int rc = own_tail(c);

    if (rc < 0)
        goto out;
    first = c->tail->base / ENG_PAGE;
    have = n_pages_of(c->n_kv);
    trim(c, have); /* what somebody who shared this tail had behind our end */
    rc = seg_reserve(c->tail, want - first);
    while (rc == 0 && first + c->tail->n_pages < want) {
        struct kv_page *page = kv_page_new(c->pool, c->cls);

        if (!page)
            rc = PD_ENOMEM;
        else
            c->tail->pages[c->tail->n_pages++] = page;
    }
    if (rc == 0)
        rc = gather(c, want);
    if (rc < 0)
        trim(c, have);
out:
    if (rc < 0)
        return pd_fail(err, PD_ENOMEM,
                       "the KV cache is full (ceiling %llu MiB); use fewer or shorter branches or "
                       "raise the ceiling (--memory-limit)",
                       (unsigned long long)(kv_pool_ceiling(c->pool) >> 20));
    return 0;
}

void kv_estrange(struct eng_ctx *c)
{
    for (size_t i = c->n_kv / ENG_PAGE; i < c->n_table; i++)
        c->table[i]->foreign = true;
}

/* The first n pending tokens have K and V in the pages. */
static void drop_pending(struct eng_ctx *c, size_t n)
{
    set_n_kv(c, c->n_kv + n);
    c->n_pending -= n;
    memmove(c->pending, c->pending + n, c->n_pending * sizeof(*c->pending));
    drop_last(c);
}

void kv_commit(struct eng_ctx *c, size_t n)
{
    size_t first = c->n_kv / ENG_PAGE, tail = c->tail->base / ENG_PAGE;

    assert(n <= c->n_pending);
    for (size_t i = 0; i < n; i++) {
        size_t pos = c->n_kv + i;
        struct kv_page *page = c->table[pos / ENG_PAGE];

        page->tokens[pos % ENG_PAGE] = c->pending[i];
        page->n_tokens = (uint32_t)(pos % ENG_PAGE + 1);
    }
    drop_pending(c, n);
    trim(c, n_pages_of(c->n_kv));
    for (size_t i = first; i < c->n_kv / ENG_PAGE; i++) {
        struct kv_node *before = kv_node_behind(c->cls, i > 0 ? c->table[i - 1] : NULL);

        if (before && !c->table[i]->foreign)
            c->table[i] = c->tail->pages[i - tail] = kv_node_put(c->pool, before, c->table[i]);
    }
}

/* Up to a page of the context's tokens from position at on, below limit: how many. */
static size_t copy_ids(const struct eng_ctx *c, size_t at, size_t limit, int32_t ids[ENG_PAGE])
{
    size_t n = at < limit ? limit - at : 0;

    n = n < ENG_PAGE ? n : ENG_PAGE;
    for (size_t i = 0; i < n; i++)
        ids[i] =
            at + i < c->n_kv
                ? seg_page(c->tail, (ptrdiff_t)((at + i) / ENG_PAGE))->tokens[(at + i) % ENG_PAGE]
                : c->pending[at + i - c->n_kv];
    return n;
}

/* Where the prefix tree has the page that the context writes to next; NULL: nowhere. */
static struct kv_node *next_place(const struct eng_ctx *c)
{
    ptrdiff_t i = (ptrdiff_t)(c->n_kv / ENG_PAGE);

    if (c->n_blocks > 0 || (c->n_kv % ENG_PAGE > 0 && seg_page(c->tail, i)->foreign))
        return NULL;
    return kv_node_behind(c->cls, seg_page(c->tail, i - 1));
}

uint64_t kv_next_page(const struct eng_ctx *c, size_t limit)
{
    size_t i = c->n_kv / ENG_PAGE;
    struct kv_node *before = next_place(c);
    int32_t ids[ENG_PAGE];

    return c->pool->keep && before && copy_ids(c, i * ENG_PAGE, limit, ids) == ENG_PAGE
               ? kv_node_hash(before, ids)
               : 0;
}

size_t kv_adopt(struct eng_ctx *c, size_t limit)
{
    size_t first = c->n_kv / ENG_PAGE, at = c->n_kv, i = first, n = ENG_PAGE, n_ids;
    struct kv_seg *s = NULL;
    struct kv_node *before;
    struct kv_page *page;
    int32_t ids[ENG_PAGE];

    before = next_place(c);
    for (; before && n == ENG_PAGE; i++) {
        n_ids = copy_ids(c, i * ENG_PAGE, limit, ids);
        page = n_ids > 0 ? kv_node_find(c->pool, before, ids, n_ids, &n) : NULL;
        if (!page)
            break;
        if (i * ENG_PAGE + n > at && !s)
            s = seg_new(first * ENG_PAGE);
        if (i * ENG_PAGE + n <= at || !s || seg_reserve(s, i - first + 1) < 0) {
            kv_page_unref(c->pool, page, NULL);
            break;
        }
        if (n < ENG_PAGE) { /* it goes on otherwise, or ends */
            struct kv_page *copy = copy_page(c, page, (uint32_t)n);

            kv_page_unref(c->pool, page, NULL);
            page = copy;
            if (!page)
                break;
        }
        s->pages[s->n_pages++] = page;
        at = i * ENG_PAGE + n;
        before = &page->node;
    }
    if (!s)
        return 0;
    n = at - c->n_kv;
    if (n == 0) { /* there was no room for the copy */
        free(s->pages);
        free(s);
        return 0;
    }
    put_tail(c, s);
    drop_pending(c, n);
    atomic_fetch_add(&c->pool->hit_tokens, n);
    return n;
}

void kv_cut(struct eng_ctx *c, size_t n)
{
    struct kv_seg *s = c->tail;

    assert(n <= c->n_kv);
    if (n == c->n_kv)
        return;
    drop_last(c);
    set_n_kv(c, n);
    while (s && n <= s->base)
        s = s->parent;
    if (s != c->tail) {
        seg_ref(s);
        seg_unref(c->pool, c->tail);
        c->tail = s;
        c->n_table = 0; /* the parent's pages may be others than the copies */
    }
    if (s && atomic_load(&s->refs) == 1)
        trim(c, n_pages_of(n));
    if (c->n_table > n_pages_of(n))
        c->n_table = n_pages_of(n);
}

void kv_tidy(struct eng_ctx *c)
{
    for (struct kv_seg *s = c->tail;
         s && s->parent && atomic_load(&s->refs) == 1 && atomic_load(&s->parent->refs) == 1;
         s = s->parent)
        while (s->parent->base / ENG_PAGE + s->parent->n_pages > s->base / ENG_PAGE)
            seg_pop(c->pool, s->parent);
}

int kv_uncache(struct eng_ctx *c, struct pd_err *err)
{
    assert(c->n_pending == 0 && c->n_kv > 0);
    if (gather(c, n_pages_of(c->n_kv)) < 0)
        return pd_fail(err, PD_ENOMEM, "out of memory for a page table");
    c->pending[0] = c->table[(c->n_kv - 1) / ENG_PAGE]->tokens[(c->n_kv - 1) % ENG_PAGE];
    kv_cut(c, c->n_kv - 1);
    c->n_pending = 1;
    return 0;
}

struct kv_logits *kv_logits_new(size_t n_vocab)
{
    struct kv_logits *l = malloc(sizeof(*l) + n_vocab * sizeof(float));

    if (l)
        atomic_init(&l->refs, 1);
    return l;
}

void kv_logits_unref(struct kv_logits *l)
{
    if (l && atomic_fetch_sub(&l->refs, 1) == 1)
        free(l);
}
