/* Cost models: see cost.h. */
#include "core/cost.h"

#include <math.h>

struct pd_work pd_work_of_lines(double n, double context, double length)
{
    double own = length * length / 2;

    return (struct pd_work){.tokens = n * length,
                            .attended = n * (context * length + own),
                            .read = context * length + n * own};
}

double pd_cost_flop(const struct pd_shape *m, const struct pd_work *w)
{
    /* a multiplication and an addition each; attention has two products, with K and with V */
    return 2 * m->weights * w->tokens + 4 * m->heads * m->head_dim * m->layers * w->attended;
}

double pd_cost_bytes(const struct pd_shape *m, const struct pd_work *w)
{
    return 2 * m->kv_bytes * m->heads_kv * m->head_dim * m->layers * w->read;
}

double pd_cost_eflop(double flop, double bytes, double intensity)
{
    return flop + intensity * bytes;
}

double pd_cost_seconds(const struct pd_measured *m, size_t n, double size)
{
    size_t i = 0;

    if (n == 0)
        return (double)NAN;
    while (i + 1 < n && m[i].size < size)
        i++;
    return m[i].seconds * size / m[i].size;
}
