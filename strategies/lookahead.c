/* lookahead: beam search that judges a line by where greedy steps lead from it. Snell et al.,
 * arXiv:2408.03314, §5.1. Beam search with lookahead=k, which see. */
#include "strategies/beam.h"

static const struct pd_param params[] = {BEAM_PARAMS(1), {0}};

extern const struct pd_strategy strategy_lookahead;
const struct pd_strategy strategy_lookahead = {
    .name = "lookahead",
    .paper = "arXiv:2408.03314",
    .summary = "beam search that looks some steps ahead",
    .params = params,
    .params_size = sizeof(struct beam_params),
    .needs_scorer = true,
    .run = beam_run,
};
