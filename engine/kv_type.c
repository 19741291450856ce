/* The table of KV cache types. Any thread; no state. */
#include "engine/kernels.h"

#include <string.h>

#include "engine/kv_type_int.h"

const struct eng_kv_type *const eng_kv_types[] = {&eng_kv_f32, &eng_kv_f16, &eng_kv_q8_0, NULL};

const struct eng_kv_type *eng_kv_type_find(const char *name)
{
    for (const struct eng_kv_type *const *t = eng_kv_types; *t; t++)
        if (strcmp((*t)->name, name) == 0)
            return *t;
    return NULL;
}
