/* Models of what jobs cost, in units that do not depend on who else uses the machine. Pure
 * functions: any thread, no state.
 *
 * Sadhukhan et al., Kinetics: Rethinking Test-Time Scaling Laws, arXiv 2506.05333: arithmetic,
 * reads of the KV cache, and both as eFLOPs. Narayanan et al., Cheaply Evaluating Inference
 * Efficiency Metrics for Autoregressive Transformer APIs, arXiv 2305.02440: idealised runtime. */
#ifndef PD_CORE_COST_H
#define PD_CORE_COST_H

#include <stddef.h>

/* What a model asks of a machine for one token. */
struct pd_shape {
    double weights;  /* that a token is multiplied by; of a mixture, those of its experts */
    double head_dim; /* numbers of a head */
    double layers, heads, heads_kv;
    double kv_bytes; /* of one number in the cache: 2 for f16 */
};

/* What a model did, summed over lines. A line of L tokens behind C others attends to CL + L²/2
 * positions. Lines that decode together read the C that they share once for all, their own apart:
 * N lines read CL + N L²/2. */
struct pd_work {
    double tokens;   /* evaluated: drawn and read */
    double attended; /* positions, summed over the tokens */
    double read;     /* positions of the cache, summed over decoding steps */
};

/* Of n lines of `length` tokens each, behind a prompt of `context` that is there already. */
struct pd_work pd_work_of_lines(double n, double context, double length);

double pd_cost_flop(const struct pd_shape *m, const struct pd_work *w);
/* Of the cache. The weights are taken for free, as in a large batch. */
double pd_cost_bytes(const struct pd_shape *m, const struct pd_work *w);

/* Operations that an accelerator could have made while it read a byte: 4.5 PFLOP/s and 8 TB/s, as
 * in the paper. */
#define PD_COST_INTENSITY 562.5
double pd_cost_eflop(double flop, double bytes, double intensity);

/* Seconds that were measured for some sizes, ascending: of prompts, or of one step of a batch. */
struct pd_measured {
    double size, seconds;
};
/* The smallest that is not smaller, in proportion; beyond the last in proportion to that. NaN when
 * there are none. */
double pd_cost_seconds(const struct pd_measured *m, size_t n, double size);

#endif
