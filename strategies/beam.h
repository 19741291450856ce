/* The beam search of beam.c, which lookahead.c runs with other defaults. */
#ifndef PD_STRATEGIES_BEAM_H
#define PD_STRATEGIES_BEAM_H

#include "strategies/choose.h"

struct beam_params {
    int samples, expand, lookahead, aggregate, vote, finish_mode;
    bool dedupe;
};

/* The rows of the option table; the two strategies differ in how far they look by default. */
#define BEAM_PARAMS(look)                                                                          \
    PD_INT(beam_params, samples, 16, 1, 256, "continuations a round (N)"),                         \
        PD_INT(beam_params, expand, 4, 0, 256, "of each line that is kept (M); 0: the root of N"), \
        PD_INT(beam_params, lookahead, look, 0, 40, "greedy steps to look ahead when scoring"),    \
        PD_CHOICE(beam_params, aggregate, AGGREGATE_LAST, SEARCH_AGGREGATES,                       \
                  "step rewards to the reward of a line"),                                         \
        PD_CHOICE(beam_params, vote, VOTE_WEIGHTED, CHOOSE_VOTES,                                  \
                  "how finished lines with equal answers add up"),                                 \
        PD_CHOICE(beam_params, finish_mode, 0, "shrink|refill|stay",                               \
                  "finished lines narrow the beam, leave it, or stay in it"),                      \
        PD_BOOL(beam_params, dedupe, 0, "keep one of several equal lines")

int beam_run(struct search *s, const void *params, struct pd_err *err);

#endif
