/* The table of strategies, generated from the source list: see local.mk. */
#include <string.h>

#include "core/strategy.h"

#define X(name) extern const struct pd_strategy strategy_##name;
#include "strategies/table.inc"
#undef X

const struct pd_strategy *const pd_strategies[] = {
#define X(name) &strategy_##name,
#include "strategies/table.inc"
#undef X
    NULL,
};

const struct pd_strategy *pd_strategy_find(const char *name)
{
    for (size_t i = 0; pd_strategies[i]; i++)
        if (strcmp(pd_strategies[i]->name, name) == 0)
            return pd_strategies[i];
    return NULL;
}
