/* Page pool and segment tree. See kv.h for the invariants; the lock of the pool is a leaf. */
#include "engine/kv.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

/* ---- pages
 * --------------------------------------------------------------------------------------- */

int kv_pool_init(struct kv_pool *p, uint64_t max_bytes, uint64_t all_bytes)
{
    memset(p, 0, sizeof(*p));
    p->max_bytes = max_bytes;
    p->all_bytes = all_bytes;
    return pthread_mutex_init(&p->lock, NULL) == 0 ? 0 : PD_ENOMEM;
}

/* Gives the free pages of all classes but keep back to the system. Lock held. */
static void drop_free(struct kv_pool *p, const struct kv_class *keep)
{
    for (struct kv_class *c = p->classes; c; c = c->next) {
        while (c != keep && c->free) {
            struct kv_page *page = c->free;

            c->free = page->next_free;
            p->held_bytes -= c->page_bytes;
            free(page);
        }
    }
}

void kv_pool_done(struct kv_pool *p)
{
    drop_free(p, NULL);
    while (p->classes) {
        struct kv_class *c = p->classes;

        p->classes = c->next;
        free(c);
    }
    pthread_mutex_destroy(&p->lock);
}

/* Of the pages. */
static uint64_t ceiling(const struct kv_pool *p)
{
    uint64_t left = p->all_bytes - p->other_bytes;

    return p->max_bytes < left ? p->max_bytes : left;
}

bool kv_pool_reserve(struct kv_pool *p, uint64_t bytes, uint64_t *out_left)
{
    uint64_t left;
    bool fits;

    pthread_mutex_lock(&p->lock);
    if (bytes > p->all_bytes - p->other_bytes - p->held_bytes)
        drop_free(p, NULL);
    left = p->all_bytes - p->other_bytes - p->held_bytes;
    fits = bytes <= left;
    if (fits)
        p->other_bytes += bytes;
    pthread_mutex_unlock(&p->lock);
    *out_left = left;
    return fits;
}

void kv_pool_release(struct kv_pool *p, uint64_t bytes)
{
    pthread_mutex_lock(&p->lock);
    p->other_bytes -= bytes;
    pthread_mutex_unlock(&p->lock);
}

struct kv_class *kv_pool_class(struct kv_pool *p, size_t n_bytes)
{
    size_t bytes = (sizeof(struct kv_page) + n_bytes + 63) & ~(size_t)63;
    struct kv_class *c;

    pthread_mutex_lock(&p->lock);
    for (c = p->classes; c && c->page_bytes != bytes; c = c->next)
        ;
    if (!c && (c = calloc(1, sizeof(*c))) != NULL) {
        c->page_bytes = bytes;
        c->next = p->classes;
        p->classes = c;
    }
    pthread_mutex_unlock(&p->lock);
    return c;
}

struct kv_page *kv_page_new(struct kv_pool *p, struct kv_class *c)
{
    struct kv_page *page = NULL;
    uint64_t used;

    pthread_mutex_lock(&p->lock);
    if (c->free) {
        page = c->free;
        c->free = page->next_free;
    } else {
        if (p->held_bytes + c->page_bytes > ceiling(p))
            drop_free(p, c);
        if (p->held_bytes + c->page_bytes <= ceiling(p))
            page = aligned_alloc(64, c->page_bytes);
        if (page)
            p->held_bytes += c->page_bytes;
    }
    if (page) {
        used = atomic_fetch_add(&p->pages_used, 1) + 1;
        atomic_fetch_add(&p->bytes_used, c->page_bytes);
        if (used > atomic_load(&p->pages_peak))
            atomic_store(&p->pages_peak, used);
    }
    pthread_mutex_unlock(&p->lock);
    if (page) {
        /* Zeroed, so that a vector load past the last valid position reads numbers, and always the
         * same. */
        memset(page, 0, c->page_bytes);
        page->cls = c;
    }
    return page;
}

void kv_page_free(struct kv_pool *p, struct kv_page *page)
{
    struct kv_class *c = page->cls;

    pthread_mutex_lock(&p->lock);
    page->next_free = c->free;
    c->free = page;
    atomic_fetch_sub(&p->pages_used, 1);
    atomic_fetch_sub(&p->bytes_used, c->page_bytes);
    pthread_mutex_unlock(&p->lock);
}

/* ---- segments
 * ------------------------------------------------------------------------------------ */

static struct kv_seg *seg_ref(struct kv_seg *s)
{
    if (s)
        atomic_fetch_add(&s->refs, 1);
    return s;
}

static void seg_unref(struct kv_pool *p, struct kv_seg *s)
{
    while (s && atomic_fetch_sub(&s->refs, 1) == 1) {
        struct kv_seg *parent = s->parent;

        for (size_t i = 0; i < s->n_pages; i++)
            kv_page_free(p, s->pages[i]);
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

void kv_ctx_done(struct eng_ctx *c)
{
    seg_unref(c->pool, c->tail);
    c->tail = NULL;
    c->n_kv = 0;
    free(c->table);
    c->table = NULL;
    c->n_table = c->cap_table = 0;
    drop_last(c);
}

void kv_ctx_share(struct eng_ctx *c, const struct eng_ctx *from)
{
    c->tail = seg_ref(from->tail);
    c->n_kv = from->n_kv;
    c->last = from->last;
    if (c->last)
        atomic_fetch_add(&c->last->refs, 1);
}

static size_t n_pages_of(size_t n_positions)
{
    return (n_positions + ENG_PAGE - 1) / ENG_PAGE;
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

/* Drops the pages from index n on; the tail is the context's own. */
static void trim(struct eng_ctx *c, size_t n)
{
    struct kv_seg *s = c->tail;

    while (s->n_pages > 0 && s->base / ENG_PAGE + s->n_pages > n)
        kv_page_free(c->pool, s->pages[--s->n_pages]);
    if (c->n_table > n)
        c->n_table = n;
}

/* A tail of the context's own: a child of the shared one, with a copy of the partial page. */
static int own_tail(struct eng_ctx *c)
{
    size_t base = c->n_kv / ENG_PAGE * ENG_PAGE;
    struct kv_seg *s, *parent = c->tail;
    int rc;

    if (c->tail && atomic_load(&c->tail->refs) == 1)
        return 0;
    s = calloc(1, sizeof(*s));
    if (!s)
        return PD_ENOMEM;
    atomic_init(&s->refs, 1);
    s->base = base;
    if (c->n_kv > base) {
        struct kv_page *page;
        const struct kv_page *old;

        rc = gather(c, base / ENG_PAGE + 1);
        if (rc == 0)
            rc = seg_reserve(s, 1);
        page = rc == 0 ? kv_page_new(c->pool, c->cls) : NULL;
        if (!page) {
            free(s->pages);
            free(s);
            return PD_ENOMEM;
        }
        old = c->table[base / ENG_PAGE];
        memcpy(page->tokens, old->tokens, page->cls->page_bytes - offsetof(struct kv_page, tokens));
        s->pages[s->n_pages++] = page;
    }
    /* Segments that the new one hides completely are not part of this context. */
    while (parent && parent->base >= base)
        parent = parent->parent;
    s->parent = seg_ref(parent);
    seg_unref(c->pool, c->tail);
    c->tail = s;
    if (c->n_table > base / ENG_PAGE)
        c->n_table = base / ENG_PAGE; /* the entries below are unchanged */
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
                       (unsigned long long)(ceiling(c->pool) >> 20));
    return 0;
}

void kv_commit(struct eng_ctx *c, size_t n)
{
    assert(n <= c->n_pending);
    for (size_t i = 0; i < n; i++) {
        size_t pos = c->n_kv + i;

        c->table[pos / ENG_PAGE]->tokens[pos % ENG_PAGE] = c->pending[i];
    }
    c->n_kv += n;
    c->n_pending -= n;
    memmove(c->pending, c->pending + n, c->n_pending * sizeof(*c->pending));
    drop_last(c);
}

void kv_cut(struct eng_ctx *c, size_t n)
{
    struct kv_seg *s = c->tail;

    assert(n <= c->n_kv);
    if (n == c->n_kv)
        return;
    drop_last(c);
    c->n_kv = n;
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
