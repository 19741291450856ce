/* Sampling. Order: bias and penalties; what a grammar forbids; temperature, top-k, top-p over what
 * is left, min-p relative to the most probable token; then one categorical draw in id order. Ties
 * in the filters go to the lower id. Sums are double, in a fixed order; the uniform is a pure
 * function of (branch key, absolute position). */
#include "engine/sample.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"

/* Below this, 1/T overflows the exponent long before a second token could have any weight. */
#define MIN_TEMPERATURE 1e-6f
#define PICK_BLOCKS     256

size_t sample_scratch_bytes(size_t n_vocab)
{
    struct sample_scratch *s;

    return n_vocab * (sizeof(*s->w) + sizeof(*s->x) + sizeof(*s->heap) + sizeof(*s->keep));
}

int sample_scratch_init(struct sample_scratch *s, size_t n_vocab)
{
    s->w = calloc(n_vocab, sizeof(*s->w));
    s->x = calloc(n_vocab, sizeof(*s->x));
    s->heap = calloc(n_vocab, sizeof(*s->heap));
    s->keep = calloc(n_vocab, 1);
    if (s->w && s->x && s->heap && s->keep)
        return 0;
    sample_scratch_done(s);
    return PD_ENOMEM;
}

void sample_scratch_done(struct sample_scratch *s)
{
    free(s->w);
    free(s->x);
    free(s->heap);
    free(s->keep);
    memset(s, 0, sizeof(*s));
}

int sample_check(const struct eng_sampling *s, struct pd_err *err)
{
    if (!(s->temperature >= 0.0f) || !isfinite(s->temperature))
        return pd_fail(err, PD_EINVAL, "temperature must be a number of at least 0");
    if (!(s->top_p >= 0.0f && s->top_p <= 1.0f))
        return pd_fail(err, PD_EINVAL, "top_p must be between 0 and 1");
    if (!(s->min_p >= 0.0f && s->min_p <= 1.0f))
        return pd_fail(err, PD_EINVAL, "min_p must be between 0 and 1");
    return 0;
}

int sample_check_adjust(const struct eng_adjust *a, size_t n_vocab, struct pd_err *err)
{
    if (!isfinite(a->presence) || !isfinite(a->frequency))
        return pd_fail(err, PD_EINVAL, "penalties must be numbers");
    for (uint32_t i = 0; i < a->n_bias; i++)
        if (a->bias[i].token < 0 || (size_t)a->bias[i].token >= n_vocab ||
            !isfinite(a->bias[i].bias))
            return pd_fail(err, PD_EINVAL,
                           "logit bias of token %d: it must be a number, of one of %zu tokens",
                           a->bias[i].token, n_vocab);
    for (uint32_t i = 0; i < a->n_seen; i++)
        if (a->seen[i] < 0 || (size_t)a->seen[i] >= n_vocab)
            return pd_fail(err, PD_EINVAL, "token %d is outside the vocabulary", a->seen[i]);
    return 0;
}

void sample_count(struct sample_counts *c, int32_t id)
{
    size_t i = 0;

    while (i < c->n && c->items[i].id != id)
        i++;
    if (i == c->n)
        c->items[c->n++] = (struct sample_count){.id = id};
    c->items[i].n++;
}

int sample_norm(const struct eng_kernels *k, const float *logits, size_t n, float *w,
                float *out_max, float *out_log_sum)
{
    float max = k->max(logits, n), sum;

    if (!isfinite(max))
        return PD_EFORMAT;
    sum = k->exp_sum(logits, n, max, 1.0f, w);
    if (!isfinite(sum) || !(sum > 0.0f))
        return PD_EFORMAT;
    *out_max = max;
    *out_log_sum = eng_log(sum);
    return 0;
}

/* Is a before b in descending order? */
static bool before(const float *x, int32_t a, int32_t b)
{
    return x[a] > x[b] || (x[a] == x[b] && a < b);
}

static void sift(const float *x, int32_t *heap, size_t n, size_t i)
{
    int32_t v = heap[i];

    for (size_t c; (c = 2 * i + 1) < n; i = c) {
        if (c + 1 < n && before(x, heap[c + 1], heap[c]))
            c++;
        if (!before(x, heap[c], v))
            break;
        heap[i] = heap[c];
    }
    heap[i] = v;
}

static int32_t pop(const float *x, int32_t *heap, size_t *n)
{
    int32_t top = heap[0];

    heap[0] = heap[--*n];
    if (*n)
        sift(x, heap, *n, 0);
    return top;
}

/* Marks in keep what top-k and top-p leave. x: logits, w: their weights. */
static void filter(const struct eng_sampling *s, const float *x, const float *w, size_t n,
                   int32_t *heap, uint8_t *keep)
{
    size_t k = s->top_k && s->top_k < n ? s->top_k : n, m = n;
    double total = 0.0, sum = 0.0;

    for (size_t i = 0; i < n; i++)
        heap[i] = (int32_t)i;
    for (size_t i = n / 2; i-- > 0;)
        sift(x, heap, n, i);
    memset(keep, 0, n);
    if (k < n) {
        /* The popped ids fill the room that the shrinking heap leaves: from the end, in descending
         * order. */
        for (size_t i = 0; i < k; i++) {
            int32_t id = pop(x, heap, &m);

            heap[m] = id;
            keep[id] = 1;
        }
        if (s->top_p >= 1.0f)
            return;
        for (size_t i = 0; i < n; i++)
            total += keep[i] ? (double)w[i] : 0.0;
        memset(keep, 0, n);
        for (size_t i = 0; i < k && (i == 0 || sum < (double)s->top_p * total); i++) {
            int32_t id = heap[n - 1 - i];

            sum += (double)w[id];
            keep[id] = 1;
        }
        return;
    }
    for (size_t i = 0; i < n; i++)
        total += (double)w[i];
    do {
        int32_t id = pop(x, heap, &m);

        sum += (double)w[id];
        keep[id] = 1;
    } while (m > 0 && sum < (double)s->top_p * total);
}

/* Σ w[n] in 16 partial sums, which do not wait for each other. */
static double sum_weights(const float *w, size_t n)
{
    double p[16] = {0};
    size_t i = 0;

    for (; i + 16 <= n; i += 16)
        for (size_t j = 0; j < 16; j++)
            p[j] += (double)w[i + j];
    for (; i < n; i++)
        p[i % 16] += (double)w[i];
    for (size_t h = 8; h > 0; h /= 2)
        for (size_t j = 0; j < h; j++)
            p[j] += p[j + h];
    return p[0];
}

/* The id at which the sum of the weights passes u times their total: first the block of ids, then
 * the id in it. If rounding leaves the target above all sums it is the last positive weight. */
static int32_t pick(const float *w, size_t n, double u)
{
    double sums[PICK_BLOCKS], total = 0.0, sum = 0.0;
    size_t block = (n + PICK_BLOCKS - 1) / PICK_BLOCKS, last = 0, b = 0;
    int32_t id = 0;

    for (size_t i = 0; i * block < n; i++) {
        sums[i] = sum_weights(w + i * block, n - i * block < block ? n - i * block : block);
        total += sums[i];
        last = sums[i] > 0.0 ? i : last;
    }
    for (; b < last && u * total >= sum + sums[b]; b++)
        sum += sums[b];
    for (size_t i = b * block; i < n && i < (b + 1) * block; i++) {
        if (!(w[i] > 0.0f))
            continue;
        id = (int32_t)i;
        sum += (double)w[i];
        if (u * total < sum)
            break;
    }
    return id;
}

static void adjust_logits(const struct eng_adjust *a, const struct sample_counts *counts, float *x)
{
    for (uint32_t i = 0; i < a->n_bias; i++)
        x[a->bias[i].token] += a->bias[i].bias;
    for (size_t i = 0; i < counts->n; i++)
        x[counts->items[i].id] -= a->presence + a->frequency * (float)counts->items[i].n;
}

/* What is not allowed becomes v. */
static void forbid(const uint64_t *allowed, float *x, size_t n, float v)
{
    for (size_t i = 0; i < n; i += 64) {
        uint64_t bits = allowed[i / 64];
        size_t m = n - i < 64 ? n - i : 64;

        if (bits == 0) {
            for (size_t j = 0; j < m; j++)
                x[i + j] = v;
            continue;
        }
        bits = ~bits & (m < 64 ? (UINT64_C(1) << m) - 1 : UINT64_MAX);
        for (; bits; bits &= bits - 1)
            x[i + (size_t)__builtin_ctzll(bits)] = v;
    }
}

int sample_token(const struct eng_kernels *k, const float *logits, size_t n,
                 const struct eng_sampling *s, const struct eng_adjust *adjust,
                 const struct sample_counts *counts, const uint64_t *allowed, uint64_t key,
                 uint64_t pos, struct sample_scratch *scratch, struct sample_drawn *out)
{
    float *w = scratch->w, max;
    const float *x = logits;
    int32_t id = 0;
    int rc = sample_norm(k, logits, n, w, &out->max, &out->log_sum);

    if (rc < 0)
        return rc;
    max = out->max;
    if (adjust || allowed) {
        memcpy(scratch->x, logits, n * sizeof(*logits));
        if (adjust)
            adjust_logits(adjust, counts, scratch->x);
        if (allowed)
            forbid(allowed, scratch->x, n, -FLT_MAX);
        x = scratch->x;
        max = k->max(x, n);
        if (!isfinite(max))
            return PD_EFORMAT;
    }
    if (s->temperature < MIN_TEMPERATURE) {
        while (x[id] != max)
            id++;
    } else {
        bool filtered = (s->top_k && s->top_k < n) || s->top_p < 1.0f;

        if (x != logits || s->temperature != 1.0f)
            k->exp_sum(x, n, max, 1.0f / s->temperature, w);
        if (allowed) /* whatever the exponential is of a number so small */
            forbid(allowed, w, n, 0.0f);
        if (filtered) {
            filter(s, x, w, n, scratch->heap, scratch->keep);
            for (size_t i = 0; i < n; i++)
                w[i] = scratch->keep[i] ? w[i] : 0.0f;
        }
        if (s->min_p > 0.0f) { /* the most probable token has the weight exp(0) = 1 */
            for (size_t i = 0; i < n; i++)
                w[i] = w[i] >= s->min_p ? w[i] : 0.0f;
        }
        id = pick(w, n, pd_rng_uniform(key, pos, 0));
    }
    out->id = id;
    out->logprob = (logits[id] - out->max) - out->log_sum;
    return 0;
}

void sample_top(const float *logits, size_t n, const struct sample_drawn *norm, size_t n_top,
                int32_t *ids, float *logprobs)
{
    size_t m = 0;

    for (size_t i = 0; i < n; i++) {
        size_t at = m;

        if (m == n_top && !(logits[i] > logits[ids[m - 1]]))
            continue;
        m += m < n_top;
        for (; at > 0 && logits[i] > logits[ids[at - 1]]; at--)
            if (at < n_top)
                ids[at] = ids[at - 1];
        ids[at] = (int32_t)i;
    }
    for (size_t i = 0; i < m; i++)
        logprobs[i] = (logits[ids[i]] - norm->max) - norm->log_sum;
}
