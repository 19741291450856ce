/* The table of tensor types, and matrices repacked for the kernels. Any thread; a matrix is
 * immutable after init. */
#include "engine/kernels.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "engine/quant_int.h"

#define HUGE_PAGE ((size_t)2 << 20)

const struct eng_quant *const eng_quants[] = {
    &quant_f32,  &quant_f16,  &quant_bf16, &quant_q8_0, &quant_q4_0, &quant_q4_1, &quant_q5_0,
    &quant_q5_1, &quant_q2_k, &quant_q3_k, &quant_q4_k, &quant_q5_k, &quant_q6_k, NULL,
};

const struct eng_quant *eng_quant_find(uint32_t ggml_type)
{
    for (const struct eng_quant *const *q = eng_quants; *q; q++)
        if ((*q)->ggml_type == ggml_type)
            return *q;
    return NULL;
}

/* src: [rows][cols / block_elems] blocks as stored in the file; it is copied. */
int eng_mat_shape(struct eng_mat *m, const struct eng_quant *q, size_t rows, size_t cols,
                  struct pd_err *err)
{
    size_t bytes;

    memset(m, 0, sizeof *m);
    if (rows == 0 || cols == 0 || cols % q->block_elems != 0)
        return pd_fail(err, PD_EINVAL, "a %s matrix cannot be %zu x %zu", q->name, rows, cols);
    *m = (struct eng_mat){.quant = q,
                          .rows = rows,
                          .cols = cols,
                          .n_tiles = (rows + ENG_TILE - 1) / ENG_TILE,
                          .tile_bytes = q->tile_bytes(cols)};
    if (__builtin_mul_overflow(m->n_tiles, m->tile_bytes, &bytes)) {
        memset(m, 0, sizeof *m);
        return pd_fail(err, PD_ENOMEM, "a %zu x %zu matrix is too large", rows, cols);
    }
    return 0;
}

struct repacking { /* pool job: tiles of m */
    const struct eng_mat *m;
    const char *src;
};

static void repack_tiles(void *arg, size_t begin, size_t end, unsigned thread)
{
    const struct repacking *r = arg;
    const struct eng_mat *m = r->m;
    size_t row_bytes = m->cols / m->quant->block_elems * m->quant->block_bytes;

    (void)thread;
    for (size_t t = begin; t < end; t++) {
        size_t left = m->rows - t * ENG_TILE;

        m->quant->repack(r->src + t * ENG_TILE * row_bytes, row_bytes,
                         left < ENG_TILE ? left : ENG_TILE, m->cols,
                         (char *)m->tiles + t * m->tile_bytes);
    }
}

int eng_mat_init(struct eng_mat *m, const struct eng_quant *q, const void *src, size_t rows,
                 size_t cols, struct eng_pool *pool, struct pd_err *err)
{
    struct repacking r = {m, src};
    size_t bytes;
    void *tiles;
    int rc = eng_mat_shape(m, q, rows, cols, err);

    if (rc < 0)
        return rc;
    bytes = m->n_tiles * m->tile_bytes;
    if (posix_memalign(&tiles, bytes < HUGE_PAGE ? 64 : HUGE_PAGE, bytes) != 0) {
        memset(m, 0, sizeof *m);
        return pd_fail(err, PD_ENOMEM, "no memory for a matrix of %zu bytes", bytes);
    }
    /* Only faster: far fewer faults while it is filled, fewer misses of the TLB later. */
    if (bytes >= HUGE_PAGE)
        (void)madvise(tiles, bytes, MADV_HUGEPAGE);
    m->tiles = tiles;
    if (pool)
        eng_pool_run(pool, m->n_tiles, 1, repack_tiles, &r);
    else
        repack_tiles(&r, 0, m->n_tiles, 0);
    return 0;
}

void eng_mat_done(struct eng_mat *m)
{
    free(m->tiles);
    memset(m, 0, sizeof *m);
}
