/* The layers of a pipeline, read from its option: "generator(samples=10); ranker(top_k=5); fuser".
 * Layers follow each other after ';', '+' puts components of one kind side by side in a layer. A
 * generator may be another strategy, with options and a budget: "generator(beam(samples=4,
 * expand=2), tokens=2000)", "generator(pipeline(layers=(…)))". */
#ifndef PD_STRATEGIES_LAYERS_H
#define PD_STRATEGIES_LAYERS_H

#include "base/arena.h"
#include "core/search.h"

#define LAYERS_MAX     32 /* components */
#define LAYERS_DEFAULT "generator(samples=10); ranker(top_k=5); fuser"

enum layer_kind {
    LAYER_GENERATOR,
    LAYER_RANKER,
    LAYER_FUSER,
    LAYER_CRITIC,
    LAYER_VERIFIER,
    LAYER_TESTS,    /* unit_test_generator */
    LAYER_EVALUATOR /* unit_test_evaluator */
};

struct layer_options {
    int samples, top_k, checks, tokens;
};

struct layer_use { /* a component */
    enum layer_kind kind;
    int layer; /* from 0 */
    struct layer_options options;
    const struct pd_strategy *strategy; /* of a generator; NULL: plain lines */
    void *params;                       /* its */
};

struct layers {
    struct layer_use use[LAYERS_MAX];
    int n, n_layers;
};

/* text "": LAYERS_DEFAULT. PD_EINVAL says what is wrong, and where. */
int layers_parse(struct pd_str text, struct pd_arena *arena, struct layers *out,
                 struct pd_err *err);
const char *layer_name(enum layer_kind kind);

#endif
