/* A router's logits choose the best k of the experts for each row; equal logits: the lowest index.
 * Their weights are the softmax over all experts, scaled so that the k sum to 1, which is the
 * softmax over the k. Every (row, chosen expert) is a slot; slots are sorted by expert, so that
 * each expert's matrices are read once for all its rows. A row's result is the sum over its
 * experts, best first: it does not depend on the other rows. */
#include "engine/moe.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

struct moe {
    struct fwd *f;
    const struct eng_layer *w; /* in progress */
    size_t n_expert, k;
    float *logits;     /* [max_rows][n_expert] */
    uint32_t *expert;  /* [max_rows][k], best first */
    float *weight;     /* [max_rows][k] */
    uint32_t *slot;    /* [max_rows][k] */
    uint32_t *row;     /* of a slot */
    uint32_t *start;   /* [n_expert + 1]: an expert's first slot */
    float *in, *out;   /* [slots][n_embd] */
    struct eng_act *x; /* [n_expert] */
    struct fwd_mm *mm; /* [2 * n_expert] */
    bool in_q8, down_q8;
};

void moe_free(struct moe *x)
{
    if (!x)
        return;
    free(x->logits);
    free(x->expert);
    free(x->weight);
    free(x->slot);
    free(x->row);
    free(x->start);
    free(x->in);
    free(x->out);
    free(x->x);
    free(x->mm);
    free(x);
}

struct moe *moe_new(struct fwd *f)
{
    size_t n = f->max_rows, n_expert = f->model->n_expert, k = f->model->n_expert_used;
    size_t n_embd = f->model->info.n_embd;
    struct moe *x = calloc(1, sizeof(*x));

    if (!x)
        return NULL;
    x->f = f;
    x->n_expert = n_expert;
    x->k = k;
    x->logits = fwd_scratch(f, n * n_expert, sizeof(*x->logits));
    x->expert = fwd_scratch(f, n * k, sizeof(*x->expert));
    x->weight = fwd_scratch(f, n * k, sizeof(*x->weight));
    x->slot = fwd_scratch(f, n * k, sizeof(*x->slot));
    x->row = fwd_scratch(f, n * k, sizeof(*x->row));
    x->start = fwd_scratch(f, n_expert + 1, sizeof(*x->start));
    x->in = fwd_scratch(f, n * k * n_embd, sizeof(*x->in));
    x->out = fwd_scratch(f, n * k * n_embd, sizeof(*x->out));
    x->x = fwd_scratch(f, n_expert, sizeof(*x->x));
    x->mm = fwd_scratch(f, 2 * n_expert, sizeof(*x->mm));
    if (!x->logits || !x->expert || !x->weight || !x->slot || !x->row || !x->start || !x->in ||
        !x->out || !x->x || !x->mm) {
        moe_free(x);
        return NULL;
    }
    return x;
}

/* Takes the k best of a row's logits out of it. */
static void choose_rows(void *arg, size_t begin, size_t end, unsigned thread)
{
    const struct moe *x = arg;

    (void)thread;
    for (size_t r = begin; r < end; r++) {
        float *logits = x->logits + r * x->n_expert, *weight = x->weight + r * x->k, sum = 0;
        uint32_t *expert = x->expert + r * x->k;

        for (size_t j = 0; j < x->k; j++) {
            uint32_t best = 0;

            for (uint32_t e = 1; e < x->n_expert; e++) {
                if (logits[e] > logits[best])
                    best = e;
            }
            expert[j] = best;
            weight[j] = logits[best];
            logits[best] = -INFINITY;
        }
        for (size_t j = x->k; j-- > 0;) { /* the first one last: the others refer to it */
            weight[j] = eng_exp(weight[j] - weight[0]);
            sum += weight[j];
        }
        for (size_t j = 0; j < x->k; j++)
            weight[j] /= sum;
    }
}

static void sort_slots(struct moe *x)
{
    size_t n = x->f->n_rows * x->k;
    uint32_t *start = x->start;

    memset(start, 0, (x->n_expert + 1) * sizeof(*start));
    for (size_t i = 0; i < n; i++)
        start[x->expert[i] + 1]++;
    for (size_t e = 0; e < x->n_expert; e++)
        start[e + 1] += start[e];
    for (size_t i = 0; i < n; i++) {
        x->slot[i] = start[x->expert[i]]++;
        x->row[x->slot[i]] = (uint32_t)(i / x->k);
    }
    memmove(start + 1, start, x->n_expert * sizeof(*start)); /* each had moved on to the next */
    start[0] = 0;
}

static void gather_slots(void *arg, size_t begin, size_t end, unsigned thread)
{
    const struct moe *x = arg;
    size_t n = x->f->model->info.n_embd;

    (void)thread;
    for (size_t s = begin; s < end; s++) {
        memcpy(x->in + s * n, x->f->h + x->row[s] * n, n * sizeof(float));
        if (x->in_q8)
            fwd_quantize(x->f, x->in + s * n, s, n);
    }
}

static void glu_slots(void *arg, size_t begin, size_t end, unsigned thread)
{
    const struct moe *x = arg;
    struct fwd *f = x->f;
    size_t n = f->model->info.n_ff;

    (void)thread;
    for (size_t s = begin; s < end; s++) {
        fwd_glu(f, x->w, f->gate + s * n, f->up + s * n, n);
        if (x->down_q8)
            fwd_quantize(f, f->gate + s * n, s, n);
    }
}

static void sum_rows(void *arg, size_t begin, size_t end, unsigned thread)
{
    const struct moe *x = arg;
    size_t n = x->f->model->info.n_embd;

    (void)thread;
    for (size_t r = begin; r < end; r++) {
        float *h = x->f->h + r * n;

        memset(h, 0, n * sizeof(float));
        for (size_t i = r * x->k; i < (r + 1) * x->k; i++)
            x->f->k->axpy(h, x->weight[i], x->out + x->slot[i] * n, n);
    }
}

void moe_layer(struct moe *x, const struct eng_layer *w)
{
    struct fwd *f = x->f;
    size_t n_embd = f->model->info.n_embd, n_ff = f->model->info.n_ff, n_mm = 0;
    size_t n_slots = f->n_rows * x->k;
    struct eng_act h = fwd_act(f, f->h, 0, f->n_rows, n_embd);

    x->w = w;
    x->in_q8 = w->experts[0].gate.quant->wants_q8 || w->experts[0].up.quant->wants_q8;
    x->down_q8 = w->experts[0].down.quant->wants_q8; /* the experts of a layer are one tensor */
    fwd_mm(f, &(struct fwd_mm){&w->router, &h, x->logits}, 1);
    fwd_run(f, f->n_rows, x->n_expert * x->k, choose_rows, x);
    sort_slots(x);
    fwd_run(f, n_slots, n_embd, gather_slots, x);
    for (size_t e = 0; e < x->n_expert; e++) {
        size_t s = x->start[e], n = x->start[e + 1] - s;

        if (n == 0)
            continue;
        x->x[e] = fwd_act(f, x->in + s * n_embd, s, n, n_embd);
        x->mm[n_mm++] = (struct fwd_mm){&w->experts[e].gate, &x->x[e], f->gate + s * n_ff};
        x->mm[n_mm++] = (struct fwd_mm){&w->experts[e].up, &x->x[e], f->up + s * n_ff};
    }
    fwd_mm(f, x->mm, n_mm);
    fwd_run(f, n_slots, n_ff, glu_slots, x);
    n_mm = 0;
    for (size_t e = 0; e < x->n_expert; e++) {
        size_t s = x->start[e], n = x->start[e + 1] - s;

        if (n == 0)
            continue;
        x->x[e] = fwd_act(f, f->gate + s * n_ff, s, n, n_ff);
        x->mm[n_mm++] = (struct fwd_mm){&w->experts[e].down, &x->x[e], x->out + s * n_embd};
    }
    fwd_mm(f, x->mm, n_mm);
    fwd_run(f, f->n_rows, n_embd * x->k, sum_rows, x);
}
