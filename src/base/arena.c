#include "base/arena.h"

#include <stdlib.h>

#define ALIGN     ((size_t)16)
#define CHUNK_MIN ((size_t)4 << 10)
#define CHUNK_MAX                                                                                  \
    ((size_t)1 << 20) /* chunks double up to here: few calls, little waste in small jobs */

struct pd_arena_chunk {
    struct pd_arena_chunk *next;
    size_t used, size;
    _Alignas(16) char bytes[]; /* calloc'ed, handed out once: always zero */
};

void pd_arena_init(struct pd_arena *a, size_t max_bytes)
{
    *a = (struct pd_arena){.max = max_bytes};
}

void pd_arena_done(struct pd_arena *a)
{
    struct pd_arena_chunk *next;

    if (!a)
        return;
    for (struct pd_arena_chunk *c = a->chunks; c; c = next) {
        next = c->next;
        free(c);
    }
    a->chunks = NULL;
    a->used = 0;
}

static struct pd_arena_chunk *chunk_new(size_t size)
{
    struct pd_arena_chunk *c = calloc(1, sizeof(*c) + size);

    if (c)
        c->size = size;
    return c;
}

/* A chunk with room for `bytes`, linked in; the head is the one that small allocations come from.
 */
static struct pd_arena_chunk *chunk_with_room(struct pd_arena *a, size_t bytes)
{
    struct pd_arena_chunk *head = a->chunks, *c;
    size_t size = CHUNK_MIN;

    if (head && head->size - head->used >= bytes)
        return head;
    if (head && head->size >= size)
        size = head->size < CHUNK_MAX ? head->size * 2 : CHUNK_MAX;
    if (head && bytes > size / 4) {
        /* A chunk of its own behind the head, so that the rest of the head is not lost. */
        c = chunk_new(bytes);
        if (c) {
            c->next = head->next;
            head->next = c;
        }
        return c;
    }
    c = chunk_new(bytes > size ? bytes : size);
    if (c) {
        c->next = head;
        a->chunks = c;
    }
    return c;
}

void *pd_arena_alloc(struct pd_arena *a, size_t bytes)
{
    struct pd_arena_chunk *c;
    void *p;

    if (bytes == 0)
        bytes = 1; /* distinct pointers, and NULL only ever means failure */
    /* The second test keeps rounding up and the chunk's header from wrapping around. */
    if (bytes > a->max - a->used || bytes > SIZE_MAX / 2)
        return NULL;
    bytes = (bytes + ALIGN - 1) & ~(ALIGN - 1);
    if (bytes > a->max - a->used)
        return NULL;
    c = chunk_with_room(a, bytes);
    if (!c)
        return NULL;
    p = c->bytes + c->used;
    c->used += bytes;
    a->used += bytes;
    return p;
}

void *pd_arena_array(struct pd_arena *a, size_t n, size_t elem_bytes)
{
    size_t bytes;

    if (__builtin_mul_overflow(n, elem_bytes, &bytes))
        return NULL;
    return pd_arena_alloc(a, bytes);
}

char *pd_arena_dup(struct pd_arena *a, struct pd_str s)
{
    char *z = s.len < SIZE_MAX ? pd_arena_alloc(a, s.len + 1) : NULL;

    if (z && s.len > 0)
        memcpy(z, s.ptr, s.len);
    return z;
}

void *pd_arena_memdup(struct pd_arena *a, const void *p, size_t n)
{
    void *copy = pd_arena_alloc(a, n);

    if (copy && n > 0)
        memcpy(copy, p, n);
    return copy;
}
