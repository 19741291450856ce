/* The page pool and the prefix tree. See kv.h for the invariants; the lock of the pool is a leaf.
 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "engine/kv.h"

/* Pages that are not full are found by looking through their neighbours: no more of them are kept
 * where so many pages are already. */
#define MAX_SIBLINGS  256
#define FIRST_BUCKETS 256

int kv_pool_init(struct kv_pool *p, uint64_t max_bytes, uint64_t all_bytes, bool keep)
{
    memset(p, 0, sizeof(*p));
    p->max_bytes = max_bytes;
    p->all_bytes = all_bytes;
    p->keep = keep;
    return pthread_mutex_init(&p->lock, NULL) == 0 ? 0 : PD_ENOMEM;
}

/* ---- the tree; the lock is held
 * ---------------------------------------------------------------------------------------- */

uint64_t kv_node_hash(const struct kv_node *before, const int32_t ids[ENG_PAGE])
{
    uint64_t h = (uintptr_t)before;

    for (size_t i = 0; i < ENG_PAGE; i++) {
        h = (h ^ (uint32_t)ids[i]) * UINT64_C(0x9e3779b97f4a7c15);
        h ^= h >> 32;
    }
    return h | 1;
}

static struct kv_page **bucket_of(const struct kv_pool *p, uint64_t hash)
{
    return &p->buckets[hash >> 1 & (p->n_buckets - 1)];
}

/* Room for one more full page. False: out of memory. */
static bool grow_buckets(struct kv_pool *p)
{
    size_t n = p->n_buckets;
    struct kv_page **old = p->buckets, **buckets;

    if (p->n_full < n)
        return true;
    buckets = calloc(n ? 2 * n : FIRST_BUCKETS, sizeof(struct kv_page *));
    if (!buckets)
        return false;
    p->buckets = buckets;
    p->n_buckets = n ? 2 * n : FIRST_BUCKETS;
    for (size_t i = 0; i < n; i++) {
        for (struct kv_page *page = old[i], *next; page; page = next) {
            struct kv_page **to = bucket_of(p, page->hash);

            next = page->chain;
            page->chain = *to;
            *to = page;
        }
    }
    free(old);
    return true;
}

static struct kv_page *find_full(const struct kv_pool *p, const struct kv_node *before,
                                 const int32_t *ids)
{
    uint64_t hash = kv_node_hash(before, ids);
    struct kv_page *page = p->n_buckets ? *bucket_of(p, hash) : NULL;

    while (page && (page->hash != hash || page->parent != before ||
                    memcmp(page->tokens, ids, sizeof(page->tokens)) != 0))
        page = page->chain;
    return page;
}

static void put(struct kv_pool *p, struct kv_node *before, struct kv_page *page)
{
    page->parent = before;
    page->link = &before->children;
    page->sibling = before->children;
    if (page->sibling)
        page->sibling->link = &page->sibling;
    before->children = page;
    before->n_children++;
    if (page->n_tokens == ENG_PAGE) {
        struct kv_page **bucket;

        page->hash = kv_node_hash(before, page->tokens);
        bucket = bucket_of(p, page->hash);
        page->chain = *bucket;
        *bucket = page;
        p->n_full++;
    }
}

static void take_out(struct kv_pool *p, struct kv_page *page)
{
    assert(!page->node.children);
    *page->link = page->sibling;
    if (page->sibling)
        page->sibling->link = page->link;
    page->parent->n_children--;
    page->parent = NULL;
    if (page->n_tokens == ENG_PAGE) {
        struct kv_page **at = bucket_of(p, page->hash);

        while (*at != page)
            at = &(*at)->chain;
        *at = page->chain;
        p->n_full--;
    }
}

/* ---- used, cached, free; the lock is held
 * ---------------------------------------------------------------------------------------- */

static void cache(struct kv_pool *p, struct kv_page *page)
{
    page->prev = p->newest;
    page->next = NULL;
    *(p->newest ? &p->newest->next : &p->oldest) = page;
    p->newest = page;
    atomic_fetch_add(&p->pages_cached, 1);
}

static void uncache(struct kv_pool *p, struct kv_page *page)
{
    *(page->prev ? &page->prev->next : &p->oldest) = page->next;
    *(page->next ? &page->next->prev : &p->newest) = page->prev;
    atomic_fetch_sub(&p->pages_cached, 1);
}

static void make_free(struct kv_pool *p, struct kv_page *page)
{
    page->next = page->cls->free;
    page->cls->free = page;
    atomic_fetch_add(&p->pages_free, 1);
}

static void ref(struct kv_pool *p, struct kv_page *page)
{
    uint64_t used;

    if (page->refs++ > 0)
        return;
    if (page->parent)
        uncache(p, page);
    used = atomic_fetch_add(&p->pages_used, 1) + 1;
    atomic_fetch_add(&p->bytes_used, page->cls->page_bytes);
    if (used > atomic_load(&p->pages_peak))
        atomic_store(&p->pages_peak, used);
}

static void unref(struct kv_pool *p, struct kv_page *page)
{
    if (--page->refs > 0)
        return;
    if (page->parent)
        cache(p, page);
    else
        make_free(p, page);
    atomic_fetch_sub(&p->pages_used, 1);
    atomic_fetch_sub(&p->bytes_used, page->cls->page_bytes);
}

/* The page that was let go first becomes a free one. */
static void evict(struct kv_pool *p)
{
    struct kv_page *page = p->oldest;

    uncache(p, page);
    take_out(p, page);
    make_free(p, page);
    atomic_fetch_add(&p->evictions, 1);
}

/* Gives the free pages of all classes but keep back to the system. True: there were some. */
static bool drop_free(struct kv_pool *p, const struct kv_class *keep)
{
    uint64_t before = p->held_bytes;

    for (struct kv_class *c = p->classes; c; c = c->next) {
        while (c != keep && c->free) {
            struct kv_page *page = c->free;

            c->free = page->next;
            p->held_bytes -= c->page_bytes;
            atomic_fetch_sub(&p->pages, 1);
            atomic_fetch_sub(&p->pages_free, 1);
            free(page);
        }
    }
    return p->held_bytes < before;
}

/* Gives up something that nobody uses, so that there may be room, or a free page of class c. */
static bool make_room(struct kv_pool *p, const struct kv_class *c)
{
    if (drop_free(p, c))
        return true;
    if (!p->oldest)
        return false;
    evict(p);
    return true;
}

/* ---- the pool
 * ---------------------------------------------------------------------------------------- */

void kv_pool_done(struct kv_pool *p)
{
    while (make_room(p, NULL))
        ;
    while (p->classes) {
        struct kv_class *c = p->classes;

        p->classes = c->next;
        free(c);
    }
    free(p->buckets);
    pthread_mutex_destroy(&p->lock);
}

uint64_t kv_pool_ceiling(const struct kv_pool *p)
{
    uint64_t left = p->all_bytes - atomic_load(&p->other_bytes);

    return p->max_bytes < left ? p->max_bytes : left;
}

bool kv_pool_reserve(struct kv_pool *p, uint64_t bytes, uint64_t *out_left)
{
    uint64_t left;
    bool fits;

    pthread_mutex_lock(&p->lock);
    do {
        left = p->all_bytes - atomic_load(&p->other_bytes) - p->held_bytes;
        fits = bytes <= left;
    } while (!fits && make_room(p, NULL));
    if (fits)
        atomic_fetch_add(&p->other_bytes, bytes);
    pthread_mutex_unlock(&p->lock);
    *out_left = left;
    return fits;
}

void kv_pool_release(struct kv_pool *p, uint64_t bytes)
{
    pthread_mutex_lock(&p->lock);
    atomic_fetch_sub(&p->other_bytes, bytes);
    pthread_mutex_unlock(&p->lock);
}

struct kv_class *kv_pool_class(struct kv_pool *p, size_t n_bytes,
                               const uint8_t sha256[PD_SHA256_BYTES])
{
    size_t bytes = (sizeof(struct kv_page) + n_bytes + 63) & ~(size_t)63;
    struct kv_class *c;

    pthread_mutex_lock(&p->lock);
    for (c = p->classes;
         c && (c->page_bytes != bytes || memcmp(c->sha256, sha256, sizeof(c->sha256)) != 0);
         c = c->next)
        ;
    if (!c && (c = calloc(1, sizeof(*c))) != NULL) {
        c->page_bytes = bytes;
        memcpy(c->sha256, sha256, sizeof(c->sha256));
        c->next = p->classes;
        p->classes = c;
    }
    pthread_mutex_unlock(&p->lock);
    return c;
}

struct kv_page *kv_page_new(struct kv_pool *p, struct kv_class *c)
{
    struct kv_page *page = NULL;

    pthread_mutex_lock(&p->lock);
    do {
        if (c->free) {
            page = c->free;
            c->free = page->next;
            atomic_fetch_sub(&p->pages_free, 1);
        } else if (p->held_bytes + c->page_bytes <= kv_pool_ceiling(p)) {
            page = aligned_alloc(64, c->page_bytes);
            if (page) {
                p->held_bytes += c->page_bytes;
                atomic_fetch_add(&p->pages, 1);
            }
        }
    } while (!page && make_room(p, c));
    if (page) {
        page->cls = c;
        page->refs = 0;
        page->parent = NULL;
        ref(p, page);
    }
    pthread_mutex_unlock(&p->lock);
    if (page) {
        /* Zeroed, so that a vector load past the last valid position reads numbers, and always the
         * same. */
        memset(page->tokens, 0, c->page_bytes - offsetof(struct kv_page, tokens));
        memset(&page->node, 0, sizeof(page->node));
        page->n_tokens = 0;
        page->foreign = false;
    }
    return page;
}

/* ---- the tree
 * ---------------------------------------------------------------------------------------- */

/* How many tokens of the page are ids[0 … n). */
static size_t common(const struct kv_page *page, const int32_t *ids, size_t n)
{
    size_t i = 0;

    while (i < n && i < page->n_tokens && page->tokens[i] == ids[i])
        i++;
    return i;
}

static struct kv_page *find_longest(const struct kv_node *before, const int32_t *ids, size_t n,
                                    size_t *out_n)
{
    struct kv_page *best = NULL;

    *out_n = 0;
    for (struct kv_page *page = before->children; page && *out_n < n; page = page->sibling) {
        size_t m = common(page, ids, n);

        if (m > *out_n) {
            *out_n = m;
            best = page;
        }
    }
    return best;
}

struct kv_node *kv_node_behind(struct kv_class *c, struct kv_page *page)
{
    return !page ? &c->root : page->parent ? &page->node : NULL;
}

struct kv_page *kv_node_put(struct kv_pool *p, struct kv_node *before, struct kv_page *page)
{
    struct kv_page *like;

    if (!p->keep)
        return page;
    pthread_mutex_lock(&p->lock);
    like = find_full(p, before, page->tokens);
    if (like) {
        ref(p, like);
        unref(p, page);
        page = like;
    } else if (grow_buckets(p)) {
        put(p, before, page);
    }
    pthread_mutex_unlock(&p->lock);
    return page;
}

struct kv_page *kv_node_find(struct kv_pool *p, struct kv_node *before, const int32_t *ids,
                             size_t n, size_t *out_n)
{
    struct kv_page *page = NULL;

    pthread_mutex_lock(&p->lock);
    *out_n = ENG_PAGE;
    if (n == ENG_PAGE)
        page = find_full(p, before, ids);
    if (!page)
        page = find_longest(before, ids, n, out_n);
    if (page)
        ref(p, page);
    pthread_mutex_unlock(&p->lock);
    return page;
}

void kv_page_unref(struct kv_pool *p, struct kv_page *page, struct kv_node *before)
{
    size_t n;

    pthread_mutex_lock(&p->lock);
    if (before && p->keep && !page->parent && !page->foreign && page->n_tokens > 0 &&
        before->n_children < MAX_SIBLINGS && grow_buckets(p)) {
        find_longest(before, page->tokens, page->n_tokens, &n);
        if (n < page->n_tokens)
            put(p, before, page);
    }
    unref(p, page);
    pthread_mutex_unlock(&p->lock);
}
