/* Paged KV storage (private to the engine): pages, the prefix tree in which they are found again,
 * segments, and the open form of a context.
 *
 * A page holds ENG_PAGE absolute-aligned positions of all layers of one model. A segment is a run
 * of pages from a page boundary on; segments form a tree by their parent pointers and are
 * reference-counted. A context points to its tail segment. Pages that were filled hang in the
 * prefix tree of their model, each behind the page before it, and are referenced by all the
 * segments that hold them. Invariants:
 *  1. A page in the prefix tree is not written to. Any other belongs to one segment, and only a
 * segment with one reference is written to.
 *  2. What a context sees at page p is the page p of the nearest segment up the tree whose base is
 * ≤ p.
 *  3. The token ids of evaluated positions live in the pages, those not yet evaluated in the
 * context.
 *  4. Who holds a page of the prefix tree holds all the pages before it; two contexts that see the
 * same page see the same pages before it.
 *  5. A page is foreign when its K and V are not what its tokens and those before alone make: they
 * saw other blocks, or came from another place (view.c). It never is in the prefix tree, nor is
 * what comes behind it.
 *  6. Each page is used (a segment holds it), cached (in the prefix tree only) or free. Cached
 * pages are given up before an allocation is refused: the one first that was let go first, which
 * has no page behind it (by 4, as who lets go begins with his last page).
 *
 * Threads: contexts are forked, rolled back and freed by their owners while the scheduler extends
 * others; the pool's lock is a leaf, reference counts are atomic. */
#ifndef PD_ENGINE_KV_H
#define PD_ENGINE_KV_H

#include <pthread.h>
#include <stdatomic.h>

#include "base/hash.h"
#include "engine/engine.h"
#include "engine/kernels.h"

struct fwd;
struct kv_class;
struct kv_page;

struct kv_node { /* a place in a prefix tree: its root, or behind a page */
    struct kv_page *children;
    size_t n_children;
};

struct kv_page {
    struct kv_class *cls;
    uint32_t n_tokens; /* filled positions */
    bool foreign;      /* invariant 5 */
    /* the pool's lock */
    unsigned refs;               /* segments that hold it */
    struct kv_page *next, *prev; /* next of the free ones; neighbours among the cached ones */
    struct kv_node *parent;      /* NULL: not in the tree; constant while there are references */
    struct kv_node node;         /* what comes behind it */
    struct kv_page *sibling, **link; /* the next child of its parent; what points to this one */
    struct kv_page *chain;           /* the next full page of its bucket */
    uint64_t hash;                   /* of a full page: parent and tokens */
    int32_t tokens[ENG_PAGE];
    /* per layer, per kv head: K and V as their type keeps them (kernels.h) */
    _Alignas(64) unsigned char data[];
};

struct kv_class { /* the pages of one model, that is of its file's contents */
    struct kv_class *next;
    struct kv_page *free;
    size_t page_bytes; /* header included */
    uint8_t sha256[PD_SHA256_BYTES];
    struct kv_node root;
};

struct kv_pool {
    pthread_mutex_t lock; /* guards all below; the counters may be read without it */
    struct kv_class *classes;
    uint64_t max_bytes, held_bytes;   /* ceiling; used, cached and free pages together */
    uint64_t all_bytes;               /* ceiling of pages and of what else was reserved */
    atomic_uint_fast64_t other_bytes; /* the latter */
    bool keep; /* pages that nobody uses any more; false: the prefix tree stays empty */
    struct kv_page *oldest, *newest; /* the cached ones */
    struct kv_page **buckets;        /* [n_buckets] of full pages in the tree */
    size_t n_buckets, n_full;
    atomic_uint_fast64_t pages, pages_used, pages_peak, bytes_used, pages_cached, pages_free;
    atomic_uint_fast64_t pages_seen; /* by contexts: the sum of what each sees */
    atomic_uint_fast64_t hit_tokens, evictions;
};

int kv_pool_init(struct kv_pool *p, uint64_t max_bytes, uint64_t all_bytes, bool keep);
void kv_pool_done(struct kv_pool *p); /* no page may be in use */
/* Takes bytes that are no pages from the ceiling of all. False: *out_left are left, too few. */
bool kv_pool_reserve(struct kv_pool *p, uint64_t bytes, uint64_t *out_left);
void kv_pool_release(struct kv_pool *p, uint64_t bytes);
uint64_t kv_pool_ceiling(const struct kv_pool *p); /* of the pages; without the lock */
/* The class of a model's pages, with so many bytes of data; NULL: out of memory. Lives as long as
 * the pool. */
struct kv_class *kv_pool_class(struct kv_pool *p, size_t n_bytes,
                               const uint8_t sha256[PD_SHA256_BYTES]);
/* Zeroed, with one reference; NULL: ceiling or memory. */
struct kv_page *kv_page_new(struct kv_pool *p, struct kv_class *c);
/* Gives up a reference. A page that nobody else holds goes into the tree behind `before` if there
 * is room and nothing like it; NULL: it does not. */
void kv_page_unref(struct kv_pool *p, struct kv_page *page, struct kv_node *before);

/* The place behind a page, the root before the first (page NULL); NULL: the page is not in the
 * tree. */
struct kv_node *kv_node_behind(struct kv_class *c, struct kv_page *page);
/* Puts a full page into the tree. If there is one like it the reference moves to that one. Returns
 * the page that is held now. */
struct kv_page *kv_node_put(struct kv_pool *p, struct kv_node *before, struct kv_page *page);
/* Of a page with these tokens behind `before`; never 0. */
uint64_t kv_node_hash(const struct kv_node *before, const int32_t ids[ENG_PAGE]);
/* The page behind `before` that begins like ids[n], 1 ≤ n ≤ ENG_PAGE, for as many tokens as
 * possible: *out_n, at least 1. With a reference; NULL: none. */
struct kv_page *kv_node_find(struct kv_pool *p, struct kv_node *before, const int32_t *ids,
                             size_t n, size_t *out_n);

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
    int32_t *pending; /* appended, not evaluated; room for one more is always there, in a GENERATE
                         for guesses */
    size_t n_pending, cap_pending;
    struct kv_page **table; /* flat page table of [0, n_kv) and what kv_extend added; a cache */
    size_t n_table, cap_table;
    struct kv_logits *last; /* of position n_kv - 1, or NULL */
    /* The view (view.c): borrowed contexts whose evaluated tokens are before its own. */
    struct eng_ctx **blocks;
    size_t n_blocks;
    size_t n_before;      /* tokens that its last row saw there; 0: no view */
    size_t n_step;        /* its own rows in the step in progress */
    atomic_uint watchers; /* requests in flight on contexts that see it */
};

/* Tokens before c's own: what the blocks have, and get in this step. */
static inline size_t kv_before(const struct eng_ctx *c)
{
    size_t n = 0;

    for (size_t i = 0; i < c->n_blocks; i++)
        n += c->blocks[i]->n_kv + c->blocks[i]->n_step;
    return n;
}

/* Room for n more pending tokens, and one. PD_ENOMEM. */
int kv_reserve_pending(struct eng_ctx *c, size_t n);
void kv_ctx_init(struct eng_ctx *c, struct kv_pool *pool, struct kv_class *cls);
void kv_ctx_done(struct eng_ctx *c); /* the KV part and last; not pending */
void kv_ctx_share(struct eng_ctx *c, const struct eng_ctx *from); /* c is fresh from kv_ctx_init */
/* Makes positions [n_kv, n_kv + n) writable and gathers the page table. PD_ENOMEM leaves the
 * context as it was. */
int kv_extend(struct eng_ctx *c, size_t n, struct pd_err *err);
/* What kv_extend made writable becomes foreign. */
void kv_estrange(struct eng_ctx *c);
/* Gathers the page table of what is evaluated. PD_ENOMEM. */
int kv_gather(struct eng_ctx *c);
/* Of a gathered context. */
static inline int32_t kv_token(const struct eng_ctx *c, size_t pos)
{
    return pos < c->n_kv ? c->table[pos / ENG_PAGE]->tokens[pos % ENG_PAGE]
                         : c->pending[pos - c->n_kv];
}
/* Takes what the prefix tree has of the pending tokens, up to position limit (more are not
 * pending): how many tokens need not be evaluated. */
size_t kv_adopt(struct eng_ctx *c, size_t limit);
/* Where the prefix tree will have the next page of the context, up to position limit: contexts that
 * say the same are about to evaluate the same. 0: nowhere, or less than a page is left. */
uint64_t kv_next_page(const struct eng_ctx *c, size_t limit);
/* The first n pending tokens have been evaluated; what kv_extend made room for behind them goes. */
void kv_commit(struct eng_ctx *c, size_t n);
void kv_cut(struct eng_ctx *c, size_t n); /* n ≤ n_kv: keep the first n positions */
/* Lets go of the pages that only c's segments hold and that it does not see any more: those which a
 * fork that has gone left behind. */
void kv_tidy(struct eng_ctx *c);
/* Moves the last evaluated token back to pending (which is empty), so that its logits can be had
 * again. */
int kv_uncache(struct eng_ctx *c, struct pd_err *err);
struct kv_logits *kv_logits_new(size_t n_vocab);
void kv_logits_unref(struct kv_logits *l);

#endif
