/* Bump allocator: everything lives until the arena dies. One owning thread. */
#ifndef PD_BASE_ARENA_H
#define PD_BASE_ARENA_H

#include "base/str.h"

struct pd_arena_chunk;
struct pd_arena {
    struct pd_arena_chunk *chunks;
    size_t used, max; /* bytes handed out; ceiling */
};

void pd_arena_init(struct pd_arena *a, size_t max_bytes);
void pd_arena_done(struct pd_arena *a);
/* Zeroed, aligned to 16; NULL when memory or the ceiling is exhausted. */
void *pd_arena_alloc(struct pd_arena *a, size_t bytes);
void *pd_arena_array(struct pd_arena *a, size_t n, size_t elem_bytes); /* overflow-checked */
char *pd_arena_dup(struct pd_arena *a, struct pd_str s);               /* C string */
void *pd_arena_memdup(struct pd_arena *a, const void *p, size_t n);

#endif
