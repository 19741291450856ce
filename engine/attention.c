/* Queries as a matrix against each page, once for all the contexts that share it.
 *
 * The rows of a step are put into the order of the tree of pages, so that the rows that see a page
 * are neighbours. A work item is (some neighbouring rows, kv head): it walks the tree depth first,
 * each page against all of the item's queries that see it, so every query meets its pages in
 * ascending order. Queries are held in tiles of ENG_ATTN_TILE; which tile or item a query is in
 * does not show in its numbers.
 *
 * What is sorted, and walks, is a part: a row and one block of tokens that it sees, with the row's
 * position counted from the block's first token, by which its query is rotated (the keys stay as
 * they are). An ordinary row is one part. The parts of a row that sees blocks (kv.h) have a softmax
 * each, and are merged in the order of its view. */
#include "engine/attention.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define GRAIN_ELEMS 4096u
#define ITEM_TILES                                                                                 \
    16 /* most of an item: the queries and sums of 192 heads of 64 fit into half an L2 cache */
#define ITEMS_PER_THREAD 4 /* so that nobody waits long for the last one */
#define LEAST_TILES      3 /* of an item, so that a page is worth loading */

struct scratch {   /* of a pool thread */
    float *q;      /* [ITEM_TILES][head_dim][ENG_ATTN_TILE] */
    float *o;      /* [ITEM_TILES][ENG_ATTN_TILE][o_stride] */
    float *m, *l;  /* [ITEM_TILES][ENG_ATTN_TILE], and 16 */
    float *page;   /* as F32 */
    float *turned; /* [group][head_dim] */
};

struct part {
    const struct eng_ctx *ctx;
    uint32_t row, pos;
    uint32_t end; /* of the positions in ctx that there are for it */
};

struct attn {
    struct fwd *f;
    const struct eng_kv_type *type;
    size_t head_dim, group, o_stride; /* group: queries of a kv head */
    /* A tile holds tile_rows rows of a group each, or a row's group is spread over row_tiles tiles
     * of tile_heads; one of the two is 1. */
    size_t tile_rows, row_tiles, tile_heads;
    /* the step */
    struct part *parts; /* [n_parts]: of row r itself parts[r], then what rows see besides */
    size_t n_parts;
    bool merges;      /* some row has several */
    uint32_t *seen;   /* [n_rows + 1]: where those of a row begin */
    uint32_t *order;  /* [n_parts]: the parts in the order of the page tree */
    uint32_t *shared; /* [n_parts]: leading pages order[i] has in common with order[i - 1] */
    uint32_t *first;  /* first parts of runs of one context, while they are sorted */
    float *max, *sum; /* [n_parts][n_head]: of the softmax of a part, f->h has the rest */
    size_t max_item_rows, item_rows;
    /* the layer in progress */
    size_t layer;
    uint32_t window; /* a query sees so many positions, its own included; 0: all */
    unsigned n_threads;
    struct scratch scratch[];
};

void attn_free(struct attn *a)
{
    if (!a)
        return;
    for (unsigned t = 0; t < a->n_threads; t++) {
        free(a->scratch[t].q);
        free(a->scratch[t].o);
        free(a->scratch[t].m);
        free(a->scratch[t].l);
        free(a->scratch[t].page);
        free(a->scratch[t].turned);
    }
    free(a->parts);
    free(a->seen);
    free(a->max);
    free(a->sum);
    free(a->order);
    free(a->shared);
    free(a->first);
    free(a);
}

struct attn *attn_new(struct fwd *f)
{
    const struct eng_model_info *i = &f->model->info;
    unsigned n_threads = eng_pool_n_threads(f->pool);
    size_t n_tiles;
    struct attn *a = calloc(1, sizeof(*a) + n_threads * sizeof(*a->scratch));

    if (!a)
        return NULL;
    a->f = f;
    a->type = f->kv_type;
    a->n_threads = n_threads;
    a->head_dim = i->head_dim;
    a->o_stride = (a->head_dim + 15) & ~(size_t)15;
    a->group = i->n_head / i->n_head_kv;
    a->row_tiles = (a->group + ENG_ATTN_TILE - 1) / ENG_ATTN_TILE;
    a->tile_heads = (a->group + a->row_tiles - 1) / a->row_tiles;
    a->tile_rows = a->row_tiles == 1 ? ENG_ATTN_TILE / a->group : 1;
    a->parts = fwd_scratch(f, f->max_rows, sizeof(*a->parts));
    a->seen = fwd_scratch(f, f->max_rows + 1, sizeof(*a->seen));
    a->max = fwd_scratch(f, (size_t)f->max_rows * i->n_head, sizeof(float));
    a->sum = fwd_scratch(f, (size_t)f->max_rows * i->n_head, sizeof(float));
    a->order = fwd_scratch(f, f->max_rows, sizeof(*a->order));
    a->shared = fwd_scratch(f, f->max_rows, sizeof(*a->shared));
    a->first = fwd_scratch(f, f->max_rows, sizeof(*a->first));
    if (!a->parts || !a->seen || !a->max || !a->sum || !a->order || !a->shared || !a->first)
        goto nomem;
    /* A group that is more than an item's tiles is an item all the same. */
    n_tiles = a->row_tiles > ITEM_TILES ? a->row_tiles : ITEM_TILES;
    a->max_item_rows = n_tiles / a->row_tiles * a->tile_rows;
    for (unsigned t = 0; t < n_threads; t++) {
        struct scratch *s = &a->scratch[t];

        s->q = fwd_scratch(f, n_tiles * a->head_dim * ENG_ATTN_TILE, sizeof(float));
        s->o = fwd_scratch(f, n_tiles * ENG_ATTN_TILE * a->o_stride, sizeof(float));
        s->m = fwd_scratch(f, n_tiles * ENG_ATTN_TILE + 16, sizeof(float));
        s->l = fwd_scratch(f, n_tiles * ENG_ATTN_TILE + 16, sizeof(float));
        s->page = fwd_scratch(f, 2 * a->head_dim * ENG_PAGE + 16, sizeof(float));
        s->turned = fwd_scratch(f, a->group * a->head_dim, sizeof(float));
        if (!s->q || !s->o || !s->m || !s->l || !s->page || !s->turned)
            goto nomem;
    }
    return a;
nomem:
    attn_free(a);
    return NULL;
}

/* ---- the order of the page tree
 * ----------------------------------------------------------------- */

/* Leading pages that two contexts share. A page hangs on one segment and with it on all the pages
 * before (kv.h), so the common ones are a prefix. */
static size_t common_pages(const struct eng_ctx *a, const struct eng_ctx *b)
{
    size_t lo = 0, hi = a->n_table < b->n_table ? a->n_table : b->n_table;

    while (lo < hi) {
        size_t mid = (lo + hi) / 2;

        if (a->table[mid] == b->table[mid])
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

/* Any order will do that keeps together those who share pages. Blocks that rest come first: they
 * are the long ones, which all rows see, and so begin an item. */
static bool tree_before(const struct eng_ctx *a, const struct eng_ctx *b)
{
    size_t n;

    if ((a->n_step == 0) != (b->n_step == 0))
        return a->n_step == 0;
    n = common_pages(a, b);
    if (n == a->n_table || n == b->n_table)
        return a->n_table < b->n_table;
    return (uintptr_t)a->table[n] < (uintptr_t)b->table[n];
}

static void seen_angles(void *arg, size_t begin, size_t end, unsigned thread)
{
    const struct attn *a = arg;

    (void)thread;
    for (size_t i = a->f->n_rows + begin; i < a->f->n_rows + end; i++)
        fwd_angles(a->f, i, a->parts[i].pos);
}

/* The parts of all rows. */
static void make_parts(struct attn *a)
{
    const struct fwd_row *rows = a->f->rows;
    size_t n = a->f->n_rows;

    a->n_parts = n;
    a->merges = false;
    for (size_t r = 0; r < n; r++) {
        const struct eng_ctx *c = rows[r].ctx;
        size_t pos = kv_before(c) + rows[r].pos; /* from the first token of the view */

        a->parts[r] = (struct part){c, (uint32_t)r, rows[r].pos, rows[r].pos + 1};
        a->seen[r] = (uint32_t)a->n_parts;
        a->merges = a->merges || c->n_blocks > 0;
        for (size_t i = 0; i < c->n_blocks; i++) {
            const struct eng_ctx *b = c->blocks[i];
            size_t end = b->n_kv + b->n_step;

            if (end > 0)
                a->parts[a->n_parts++] =
                    (struct part){b, (uint32_t)r, (uint32_t)pos, (uint32_t)end};
            pos -= end;
        }
    }
    a->seen[n] = (uint32_t)a->n_parts;
    fwd_run(a->f, a->n_parts - n, GRAIN_ELEMS, seen_angles, a);
}

void attn_begin(struct attn *a)
{
    const struct part *p = a->parts;
    size_t n, n_runs = 0, n_order = 0, n_head_kv = a->f->model->info.n_head_kv;
    size_t parts, least;

    make_parts(a);
    n = a->n_parts;
    for (size_t i = 0; i < n; i++) { /* binary insertion */
        size_t lo = 0, hi = n_runs;

        if (i > 0 && p[i].ctx == p[i - 1].ctx)
            continue;
        while (lo < hi) {
            size_t mid = hi == n_runs ? hi - 1 : (lo + hi) / 2; /* often sorted already */

            if (tree_before(p[i].ctx, p[a->first[mid]].ctx))
                hi = mid;
            else
                lo = mid + 1;
        }
        memmove(a->first + lo + 1, a->first + lo, (n_runs - lo) * sizeof(*a->first));
        a->first[lo] = (uint32_t)i;
        n_runs++;
    }
    for (size_t c = 0; c < n_runs; c++) {
        const struct eng_ctx *ctx = p[a->first[c]].ctx;

        a->shared[n_order] = c > 0 ? (uint32_t)common_pages(p[a->first[c - 1]].ctx, ctx) : 0;
        for (size_t i = a->first[c]; i < n && p[i].ctx == ctx; i++) {
            if (i > a->first[c])
                a->shared[n_order] = UINT32_MAX;
            a->order[n_order++] = (uint32_t)i;
        }
    }
    /* As many items as keep all threads busy to the end, but of a few tiles each if there are
     * threads enough: every item of a head loads the page anew. */
    parts = (a->n_threads * ITEMS_PER_THREAD + n_head_kv - 1) / n_head_kv;
    a->item_rows = (n + parts - 1) / parts;
    parts = (a->n_threads + n_head_kv - 1) / n_head_kv;
    least = (n + parts - 1) / parts;
    least = least < LEAST_TILES * a->tile_rows ? least : LEAST_TILES * a->tile_rows;
    a->item_rows = a->item_rows < least ? least : a->item_rows;
    a->item_rows = (a->item_rows + a->tile_rows - 1) / a->tile_rows * a->tile_rows;
    if (a->n_threads == 1 || a->item_rows > a->max_item_rows)
        a->item_rows = a->max_item_rows;
}

/* ---- K and V of the batch
 * ----------------------------------------------------------------------- */

/* Makes q, k and v ready, writes K and V of the row into its page. */
static void kv_rows(void *arg, size_t begin, size_t end, unsigned thread)
{
    const struct attn *a = arg;
    const struct fwd *f = a->f;
    const struct eng_model_info *i = &f->model->info;
    size_t hd = i->head_dim, n_kv = i->n_head_kv * hd;

    (void)thread;
    for (size_t r = begin; r < end; r++) {
        const struct fwd_row *row = &f->rows[r];
        struct kv_page *page = row->ctx->table[row->pos / ENG_PAGE];
        const float *k = f->kv_k + r * n_kv, *v = f->kv_v + r * n_kv;

        fwd_rotate(f, &f->model->layers[a->layer], r);
        for (size_t h = 0; h < i->n_head_kv; h++)
            a->type->put(f->k, fwd_kv(f, page, a->layer, h), row->pos % ENG_PAGE, k + h * hd,
                         v + h * hd, hd);
    }
}

/* ---- the queries
 * -------------------------------------------------------------------------------- */

struct item { /* parts [r0, r1) of the order, one kv head */
    const struct attn *a;
    struct scratch *s;
    size_t r0, r1, head;
};

static const struct part *part_at(const struct attn *a, size_t r)
{
    return &a->parts[a->order[r]];
}

/* Whether it is one of several of its row. */
static bool is_one_of(const struct attn *a, const struct part *p)
{
    return a->f->rows[p->row].ctx->n_blocks > 0;
}

/* First position that it sees. */
static size_t part_first(const struct attn *a, const struct part *p)
{
    return a->window && p->pos >= a->window ? p->pos + 1 - a->window : 0;
}

/* Does part r see anything of the page, and what? */
static bool part_span(const struct attn *a, size_t r, size_t page, struct eng_span *out)
{
    const struct part *p = part_at(a, r);
    size_t first = part_first(a, p), end = p->end, base = page * ENG_PAGE;

    if (first >= base + ENG_PAGE || end <= base || first >= end)
        return false;
    out->first = (uint8_t)(first > base ? first - base : 0);
    out->end = (uint8_t)(end < base + ENG_PAGE ? end - base : ENG_PAGE);
    return true;
}

/* Slots [i0, i0 + n) of the item's tile t. */
static void attend(const struct item *it, const struct eng_kv_type *type, const void *kv,
                   const void *next, size_t t, size_t i0, size_t n, const struct eng_span *span)
{
    const struct attn *a = it->a;
    const struct scratch *s = it->s;
    const struct eng_attn_tile tile = {
        .head_dim = a->head_dim,
        .o_stride = a->o_stride,
        .q = s->q + t * a->head_dim * ENG_ATTN_TILE,
        .m = s->m + t * ENG_ATTN_TILE,
        .l = s->l + t * ENG_ATTN_TILE,
        .o = s->o + t * ENG_ATTN_TILE * a->o_stride,
        .softcap = a->f->model->attn_softcap,
        .next = next,
    };

    type->attn[a->f->k->isa](&tile, i0, n, kv, span);
}

/* Heads of part p of a row's group. */
static size_t part_heads(const struct attn *a, size_t p)
{
    size_t left = a->group - p * a->tile_heads;

    return left < a->tile_heads ? left : a->tile_heads;
}

/* The page against the queries of parts [r0, r1), which all have it. */
static void attend_page(const struct item *it, size_t r0, size_t r1, size_t page)
{
    const struct attn *a = it->a;
    const struct eng_kv_type *type = a->type;
    const struct eng_ctx *ctx = part_at(a, r0)->ctx;
    const char *kv = fwd_kv(a->f, ctx->table[page], a->layer, it->head), *next = NULL;

    if (page + 1 < ctx->n_table)
        next = fwd_kv(a->f, ctx->table[page + 1], a->layer, it->head);
    if (!type->attn[a->f->k->isa]) {
        type->get[a->f->k->isa](kv, a->head_dim, it->s->page);
        for (size_t i = 0; next && i < type->bytes(a->head_dim); i += 64)
            __builtin_prefetch(next + i);
        kv = (const char *)it->s->page;
        next = NULL;
        type = &eng_kv_f32;
    }
    for (size_t r = r0, end; r < r1; r = end) {
        struct eng_span span[ENG_ATTN_TILE], one;
        size_t at = r - it->r0, n = 0;
        bool whole = true;

        /* The parts of the same tile that see the page, without a gap. */
        end = r + a->tile_rows - at % a->tile_rows;
        end = end < r1 ? end : r1;
        for (size_t i = r; i < end; i++) {
            if (!part_span(a, i, page, &one)) {
                end = i > r ? i : r + 1;
                break;
            }
            whole = whole && one.first == 0 && one.end == ENG_PAGE;
            for (size_t g = 0; g < a->tile_heads; g++)
                span[n++] = one;
        }
        if (n == 0)
            continue;
        for (size_t p = 0; p < a->row_tiles; p++, next = NULL)
            attend(it, type, kv, next, at / a->tile_rows * a->row_tiles + p,
                   at % a->tile_rows * a->group, a->row_tiles > 1 ? part_heads(a, p) : n,
                   whole ? NULL : span);
    }
}

/* Parts [r0, r1) share the pages before this one: walks the tree from here on. */
static void walk(const struct item *it, size_t r0, size_t r1, size_t page)
{
    const struct attn *a = it->a;
    size_t shared = SIZE_MAX, first = SIZE_MAX, end = 0;

    for (size_t r = r0; r < r1; r++) {
        const struct part *p = part_at(a, r);
        size_t f = part_first(a, p) / ENG_PAGE, e = (p->end + ENG_PAGE - 1) / ENG_PAGE;

        first = f < first ? f : first;
        end = e > end ? e : end;
        if (r > r0 && a->shared[r] < shared)
            shared = a->shared[r];
    }
    page = first > page ? first : page;
    for (; page < end && page < shared; page++)
        attend_page(it, r0, r1, page);
    for (size_t r = r0, next; page < end && r < r1; r = next) {
        for (next = r + 1; next < r1 && a->shared[next] > shared; next++)
            ;
        walk(it, r, next, page);
    }
}

/* Where query g of part r of the order is: tile * ENG_ATTN_TILE + slot. */
static size_t query_at(const struct item *it, size_t r, size_t g)
{
    const struct attn *a = it->a;
    size_t at = r - it->r0;

    if (a->row_tiles > 1)
        return (at * a->row_tiles + g / a->tile_heads) * ENG_ATTN_TILE + g % a->tile_heads;
    return at / a->tile_rows * ENG_ATTN_TILE + at % a->tile_rows * a->group + g;
}

/* The queries of a part for one kv head [group][head_dim], rotated. */
static const float *queries(const struct attn *a, const struct part *p, size_t head, float *turned)
{
    const struct fwd *f = a->f;
    size_t n = a->group * a->head_dim;
    const float *q = f->q + (p->row * (size_t)f->model->info.n_head_kv + head) * n;

    if (!is_one_of(a, p))
        return q;
    memcpy(turned, q, n * sizeof(*q));
    fwd_turn_q(f, &f->model->layers[a->layer], (size_t)(p - a->parts), turned, a->group);
    return turned;
}

/* Query g of part r is done: the row's output, or what is to be merged. */
static void put_out(const struct item *it, size_t r, size_t g)
{
    const struct attn *a = it->a;
    const struct fwd *f = a->f;
    const struct part *p = part_at(a, r);
    size_t n_head = f->model->info.n_head, head = it->head * a->group + g, hd = a->head_dim;
    size_t at = query_at(it, r, g), i = (size_t)(p - a->parts);
    const float *o = it->s->o + at * a->o_stride;

    if (!is_one_of(a, p)) {
        f->k->divide(f->att + (p->row * n_head + head) * hd, o, hd, it->s->l[at]);
        return;
    }
    memcpy(f->h + (i * n_head + head) * hd, o, hd * sizeof(*o));
    a->max[i * n_head + head] = it->s->m[at];
    a->sum[i * n_head + head] = it->s->l[at];
}

/* All queries of an item, pages ascending. */
static void attn_items(void *arg, size_t begin, size_t end, unsigned thread)
{
    struct attn *a = arg;
    const struct fwd *f = a->f;
    struct scratch *s = &a->scratch[thread];
    size_t hd = a->head_dim, n_head_kv = f->model->info.n_head_kv;
    size_t n_runs = (a->n_parts + a->item_rows - 1) / a->item_rows;

    for (size_t i = begin; i < end; i++) {
        /* Long blocks are in the first items of a head: one thread is not to take those of all. */
        size_t run = a->merges ? i % n_runs : i / n_head_kv;
        struct item it = {.a = a,
                          .s = s,
                          .r0 = run * a->item_rows,
                          .head = a->merges ? i / n_runs : i % n_head_kv};

        it.r1 = it.r0 + a->item_rows < a->n_parts ? it.r0 + a->item_rows : a->n_parts;
        for (size_t r = it.r0; r < it.r1; r++) {
            const float *q = queries(a, part_at(a, r), it.head, s->turned);

            for (size_t g = 0; g < a->group; g++, q += hd) {
                size_t at = query_at(&it, r, g);
                float *to = s->q + at / ENG_ATTN_TILE * hd * ENG_ATTN_TILE + at % ENG_ATTN_TILE;

                for (size_t d = 0; d < hd; d++)
                    to[d * ENG_ATTN_TILE] = q[d];
                s->m[at] = -INFINITY;
                s->l[at] = 0.0f;
                for (size_t d = 0; d < a->o_stride; d++)
                    s->o[at * a->o_stride + d] = -0.0f;
            }
        }
        walk(&it, it.r0, it.r1, 0);
        for (size_t r = it.r0; r < it.r1; r++)
            for (size_t g = 0; g < a->group; g++)
                put_out(&it, r, g);
    }
}

/* One softmax of those of a row's parts: Σ exp(m_b - m) o_b / Σ exp(m_b - m) l_b, m the greatest
 * m_b; in the order of the view, the row's own part last. */
static void merge_head(const struct attn *a, size_t r, size_t head)
{
    const struct fwd *f = a->f;
    size_t n_head = f->model->info.n_head, hd = a->head_dim, end = a->seen[r + 1];
    float *to = f->att + (r * n_head + head) * hd, max = a->max[r * n_head + head], sum = 0.0f;

    for (size_t i = a->seen[r]; i < end; i++)
        max = fmaxf(max, a->max[i * n_head + head]);
    memset(to, 0, hd * sizeof(*to));
    for (size_t i = a->seen[r]; i <= end; i++) {
        size_t part = (i < end ? i : r), at = part * n_head + head;
        float w = eng_exp(a->max[at] - max);

        sum = fmaf(w, a->sum[at], sum);
        f->k->axpy(to, w, f->h + at * hd, hd);
    }
    f->k->divide(to, to, hd, sum);
}

static void merge_rows(void *arg, size_t begin, size_t end, unsigned thread)
{
    const struct attn *a = arg;

    (void)thread;
    for (size_t r = begin; r < end; r++)
        for (size_t h = 0; a->f->rows[r].ctx->n_blocks > 0 && h < a->f->model->info.n_head; h++)
            merge_head(a, r, h);
}

void attn_layer(struct attn *a, size_t layer)
{
    const struct eng_model_info *i = &a->f->model->info;
    size_t n_q = (size_t)i->n_head * i->head_dim;
    size_t n_items = (a->n_parts + a->item_rows - 1) / a->item_rows;

    a->layer = layer;
    a->window = a->f->model->layers[layer].window;
    eng_pool_run(a->f->pool, a->f->n_rows, GRAIN_ELEMS / n_q + 1, kv_rows, a);
    eng_pool_run(a->f->pool, n_items * i->n_head_kv, 1, attn_items, a);
    if (a->merges)
        fwd_run(a->f, a->f->n_rows, n_q, merge_rows, a);
}
