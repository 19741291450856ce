/* A search algorithm: one file in strategies/, which includes core/search.h only. */
#ifndef PD_CORE_STRATEGY_H
#define PD_CORE_STRATEGY_H

#include "core/param.h"

struct search;

struct pd_strategy {
    const char *name, *paper, *summary;
    const struct pd_param *params;
    size_t params_size;
    bool needs_scorer;
    bool needs_draft; /* a second, cheaper model with the same tokens: search_draft */
    /* Straight-line code over the verbs of search.h. Returns what the verbs return. */
    int (*run)(struct search *s, const void *params, struct pd_err *err);
};

const struct pd_strategy *pd_strategy_find(const char *name); /* strategies/table.c */
extern const struct pd_strategy *const pd_strategies[];       /* NULL-terminated */

#endif
