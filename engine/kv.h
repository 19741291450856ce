/* Paged KV storage (private to the engine): pages, segments, and the open form of a context.
 *
 * A page holds ENG_PAGE absolute-aligned positions of all layers of one model. A segment is a run
 * of pages from a page boundary on; segments form a tree by their parent pointers and are
 * reference-counted. A context points to its tail segment. Invariants:
 *  1. A page belongs to exactly one segment, and only a segment with one reference is written to.
 *  2. What a context sees at page p is the page p of the nearest segment up the tree whose base is
 * ≤ p.
 *  3. The token ids of evaluated positions live in the pages, those not yet evaluated in the
 * context.
 *
 * Threads: contexts are forked, rolled back and freed by their owners while the scheduler extends
 * others; the pool's lock is a leaf, reference counts are atomic. */
#ifndef PD_ENGINE_KV_H
#define PD_ENGINE_KV_H

#include <pthread.h>
#include <stdatomic.h>

#include "engine/engine.h"
#include "engine/kernels.h"

struct fwd;
struct kv_class;

struct kv_page {
    struct kv_class *cls;
    struct kv_page *next_free;
    int32_t tokens[ENG_PAGE];
    /* per layer, per kv head: K and V as their type keeps them (kernels.h) */
    _Alignas(64) unsigned char data[];
};

struct kv_class { /* pages of one size */
    struct kv_class *next;
    struct kv_page *free;
    size_t page_bytes; /* header included */
};

struct kv_pool {
    pthread_mutex_t lock; /* guards all below; the counters may be read without it */
    struct kv_class *classes;
    uint64_t max_bytes, held_bytes; /* ceiling; used and free pages together */
    uint64_t all_bytes,
        other_bytes; /* ceiling of pages and of what else was reserved; the latter */
    atomic_uint_fast64_t pages_used, pages_peak, bytes_used;
};

int kv_pool_init(struct kv_pool *p, uint64_t max_bytes, uint64_t all_bytes);
void kv_pool_done(struct kv_pool *p); /* no page may be in use */
/* Takes bytes that are no pages from the ceiling of all. False: *out_left are left, too few. */
bool kv_pool_reserve(struct kv_pool *p, uint64_t bytes, uint64_t *out_left);
void kv_pool_release(struct kv_pool *p, uint64_t bytes);
/* The class of pages with so many bytes of data; NULL: out of memory. Lives as long as the pool. */
struct kv_class *kv_pool_class(struct kv_pool *p, size_t n_bytes);
struct kv_page *kv_page_new(struct kv_pool *p,
                            struct kv_class *c); /* zeroed; NULL: ceiling or memory */
void kv_page_free(struct kv_pool *p, struct kv_page *page);

struct kv_seg {
    atomic_uint refs; /* contexts whose tail it is, and child segments */
    struct kv_seg *parent;
    size_t base; /* first position, a multiple of ENG_PAGE */
    size_t n_pages, cap_pages;
    struct kv_page **pages;
};

struct kv_logits { /* of one position; shared by forks, immutable once in a context */
    atomic_uint refs;
    float v[];
};

struct eng_ctx {
    struct eng *eng;
    struct fwd *fwd; /* the model's session */
    struct kv_pool *pool;
    struct kv_class *cls; /* of this model's pages */
    struct kv_seg *tail;  /* NULL: nothing evaluated yet */
    size_t n_kv;
    bool busy;        /* a request is in flight: set by eng_submit, cleared just before done */
    int32_t *pending; /* appended, not evaluated; room for one more is always there */
    size_t n_pending, cap_pending;
    struct kv_page **table; /* flat page table of [0, n_kv) and what kv_extend added; a cache */
    size_t n_table, cap_table;
    struct kv_logits *last; /* of position n_kv - 1, or NULL */
};

void kv_ctx_init(struct eng_ctx *c, struct kv_pool *pool, struct kv_class *cls);
void kv_ctx_done(struct eng_ctx *c); /* the KV part and last; not pending */
void kv_ctx_share(struct eng_ctx *c, const struct eng_ctx *from); /* c is fresh from kv_ctx_init */
/* Makes positions [n_kv, n_kv + n) writable and gathers the page table. PD_ENOMEM leaves the
 * context as it was. */
int kv_extend(struct eng_ctx *c, size_t n, struct pd_err *err);
/* The first n pending tokens have been evaluated. */
void kv_commit(struct eng_ctx *c, size_t n);
void kv_cut(struct eng_ctx *c, size_t n); /* n ≤ n_kv: keep the first n positions */
/* Moves the last evaluated token back to pending (which is empty), so that its logits can be had
 * again. */
int kv_uncache(struct eng_ctx *c, struct pd_err *err);
struct kv_logits *kv_logits_new(size_t n_vocab);
void kv_logits_unref(struct kv_logits *l);

#endif
