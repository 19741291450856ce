/* A search algorithm: one file in strategies/, which includes core/search.h only. */
#ifndef PD_CORE_STRATEGY_H
#define PD_CORE_STRATEGY_H

#include "core/form.h"
#include "core/param.h"

struct search;

struct pd_strategy {
    const char *name, *paper, *summary;
    const struct pd_param *params;
    size_t params_size;
    bool needs_scorer;
    /* Whether these options need a scorer, where that depends on them. NULL: needs_scorer says. */
    bool (*scores)(const void *params);
    const struct pd_form *form; /* that its lines have; NULL: what the job says */
    bool needs_draft;           /* a second, cheaper model with the same tokens: search_draft */
    /* Straight-line code over the verbs of search.h. Returns what the verbs return. */
    int (*run)(struct search *s, const void *params, struct pd_err *err);
};

const struct pd_strategy *pd_strategy_find(const char *name); /* strategies/table.c */
/* Of a strategy with these (parsed) options. */
static inline bool pd_strategy_scores(const struct pd_strategy *st, const void *params)
{
    return st->scores ? st->scores(params) : st->needs_scorer;
}
extern const struct pd_strategy *const pd_strategies[]; /* NULL-terminated */

#endif
