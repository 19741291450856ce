/* The table of verifiers, generated from the source list: see local.mk. */
#include <string.h>

#include "core/verifier.h"

#define X(name) extern const struct pd_verifier verifier_##name;
#include "verifiers/table.inc"
#undef X

const struct pd_verifier *const pd_verifiers[] = {
#define X(name) &verifier_##name,
#include "verifiers/table.inc"
#undef X
    NULL,
};

const struct pd_verifier *pd_verifier_find(const char *name)
{
    for (size_t i = 0; pd_verifiers[i]; i++)
        if (strcmp(pd_verifiers[i]->name, name) == 0)
            return pd_verifiers[i];
    return NULL;
}
