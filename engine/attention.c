/* Work items are (block of rows of one context, kv head): a page is loaded once for all queries of
 * an item; each query walks the pages in ascending order. */
#include "engine/attention.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define BLOCK_ROWS                                                                                 \
    8 /* consecutive rows of one context whose attention shares the loading of a page */
#define GRAIN_ELEMS 4096u

struct attn {
    const struct fwd *f;
    size_t layer;     /* in progress */
    uint16_t *half;   /* [max_rows][n_head_kv * head_dim] */
    uint32_t *blocks; /* first row of each block, and the end */
    size_t n_blocks;
    unsigned n_threads;
    struct scratch {
        struct eng_attn *acc;
        const float **q;
        uint8_t *n_valid;
    } scratch[];
};

void attn_free(struct attn *a)
{
    if (!a)
        return;
    for (unsigned t = 0; t < a->n_threads; t++) {
        free(a->scratch[t].acc);
        free(a->scratch[t].q);
        free(a->scratch[t].n_valid);
    }
    free(a->half);
    free(a->blocks);
    free(a);
}

struct attn *attn_new(const struct fwd *f)
{
    const struct eng_model_info *i = &f->model->info;
    size_t n_acc = (size_t)BLOCK_ROWS * (i->n_head / i->n_head_kv);
    unsigned n_threads = eng_pool_n_threads(f->pool);
    struct attn *a = calloc(1, sizeof(*a) + n_threads * sizeof(*a->scratch));

    if (!a)
        return NULL;
    a->f = f;
    a->n_threads = n_threads;
    a->half = fwd_scratch((size_t)f->max_rows * i->n_head_kv * i->head_dim, sizeof(*a->half));
    a->blocks = fwd_scratch((size_t)f->max_rows + 1, sizeof(*a->blocks));
    if (!a->half || !a->blocks)
        goto nomem;
    for (unsigned t = 0; t < n_threads; t++) {
        struct scratch *s = &a->scratch[t];

        s->acc = calloc(n_acc, sizeof(*s->acc));
        s->q = calloc(n_acc, sizeof(*s->q));
        s->n_valid = calloc(n_acc, 1);
        if (!s->acc || !s->q || !s->n_valid)
            goto nomem;
    }
    return a;
nomem:
    attn_free(a);
    return NULL;
}

void attn_begin(struct attn *a)
{
    const struct fwd_row *rows = a->f->rows;
    size_t n = a->f->n_rows, nb = 0;

    for (size_t r = 0; r < n; r++) {
        if (r == 0 || rows[r].ctx != rows[r - 1].ctx || r - a->blocks[nb - 1] == BLOCK_ROWS)
            a->blocks[nb++] = (uint32_t)r;
    }
    a->blocks[nb] = (uint32_t)n;
    a->n_blocks = nb;
}

static uint16_t *head_of(const struct eng_model_info *i, struct kv_page *page, size_t layer,
                         size_t head)
{
    return page->data + (layer * i->n_head_kv + head) * i->head_dim * ENG_PAGE * 2;
}

/* Makes q, k and v ready, writes K (transposed) and V of the row into its page. */
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
        uint16_t *half = a->half + r * n_kv;
        size_t at = row->pos % ENG_PAGE;

        fwd_rotate(f, &f->model->layers[a->layer], r);
        f->k->to_f16(f->kv_k + r * n_kv, half, n_kv);
        for (size_t h = 0; h < i->n_head_kv; h++) {
            uint16_t *kp = head_of(i, page, a->layer, h);

            for (size_t d = 0; d < hd; d++)
                kp[d * ENG_PAGE + at] = half[h * hd + d];
            f->k->to_f16(f->kv_v + r * n_kv + h * hd, kp + hd * ENG_PAGE + at * hd, hd);
        }
    }
}

/* One item: a block of rows of one context × one kv head, all its query heads, pages ascending. */
static void attn_items(void *arg, size_t begin, size_t end, unsigned thread)
{
    struct attn *a = arg;
    const struct fwd *f = a->f;
    const struct eng_model_info *i = &f->model->info;
    struct scratch *s = &a->scratch[thread];
    size_t hd = i->head_dim, n_q = i->n_head * hd, group = i->n_head / i->n_head_kv;

    for (size_t item = begin; item < end; item++) {
        size_t b = item / i->n_head_kv, head = item % i->n_head_kv;
        size_t r0 = a->blocks[b], r1 = a->blocks[b + 1], n = 0, done = 0;
        struct kv_page *const *table = f->rows[r0].ctx->table;

        for (size_t r = r0; r < r1; r++) {
            for (size_t g = 0; g < group; g++, n++) {
                size_t off = r * n_q + (head * group + g) * hd;

                s->q[n] = f->q + off;
                s->acc[n] = (struct eng_attn){-INFINITY, 0.0f, f->att + off};
                memset(f->att + off, 0, hd * sizeof(float));
            }
        }
        for (size_t page = 0; done < n; page++) {
            const uint16_t *k = head_of(i, table[page], a->layer, head);

            for (size_t j = done; j < n; j++) {
                size_t left = f->rows[r0 + j / group].pos + 1 - page * ENG_PAGE;

                s->n_valid[j] = (uint8_t)(left < ENG_PAGE ? left : ENG_PAGE);
            }
            f->k->attn_page(s->q + done, n - done, k, k + hd * ENG_PAGE, s->n_valid + done, hd,
                            s->acc + done);
            /* Positions ascend, so those that end in this page are in front. */
            while (done < n && f->rows[r0 + done / group].pos / ENG_PAGE == page)
                done++;
        }
        for (size_t j = 0; j < n; j++) {
            for (size_t d = 0; d < hd; d++)
                s->acc[j].o[d] /= s->acc[j].l;
        }
    }
}

void attn_layer(struct attn *a, size_t layer)
{
    const struct eng_model_info *i = &a->f->model->info;
    size_t n_q = (size_t)i->n_head * i->head_dim;

    a->layer = layer;
    eng_pool_run(a->f->pool, a->f->n_rows, GRAIN_ELEMS / n_q + 1, kv_rows, a);
    eng_pool_run(a->f->pool, a->n_blocks * i->n_head_kv, 1, attn_items, a);
}
