/* Borrowed strings: pointer and length, not NUL-terminated, valid until the call returns unless the
 * taker says longer. */
#ifndef PD_BASE_STR_H
#define PD_BASE_STR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct pd_str {
    const char *ptr;
    size_t len;
};

#define PD_STR(lit) ((struct pd_str){"" lit, sizeof(lit) - 1})

static inline struct pd_str pd_str_of(const char *z)
{
    return (struct pd_str){z, z ? strlen(z) : 0};
}
static inline bool pd_str_eq(struct pd_str a, struct pd_str b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.ptr, b.ptr, a.len) == 0);
}
bool pd_str_starts(struct pd_str s, struct pd_str prefix);
bool pd_str_ends(struct pd_str s, struct pd_str suffix);
struct pd_str pd_str_trim(struct pd_str s);                      /* ASCII white space, both ends */
ptrdiff_t pd_str_find(struct pd_str hay, struct pd_str needle);  /* first offset, or -1 */
ptrdiff_t pd_str_rfind(struct pd_str hay, struct pd_str needle); /* last offset, or -1 */
struct pd_str pd_str_sub(struct pd_str s, size_t from, size_t to); /* clamped to s */
char *pd_str_dup(struct pd_str s);                                 /* malloc'ed C string or NULL */
/* How many letters must be changed, left out, added or swapped with their neighbour to make b of a,
 * without regard to case; SIZE_MAX when one of them is longer than a name (48). */
size_t pd_str_distance(struct pd_str a, struct pd_str b);
/* The word that `s` was probably meant to be (words end with NULL). NULL: none is near. */
const char *pd_str_nearest(struct pd_str s, const char *const *words);
/* Length of the UTF-8 sequence (RFC 3629) that s begins with; 0 when there is none. */
size_t pd_utf8_len(struct pd_str s);
bool pd_utf8_valid(struct pd_str s);
/* Length of the longest prefix of s that does not end inside a UTF-8 sequence. */
size_t pd_utf8_complete(struct pd_str s);

/* Whole-string number parsing: false when s is anything but one number in range. */
bool pd_parse_i64(struct pd_str s, int64_t *out);
bool pd_parse_u64(struct pd_str s, uint64_t *out);
bool pd_parse_double(struct pd_str s, double *out); /* finite only, C locale */
bool pd_parse_bool(struct pd_str s, bool *out);     /* 1/true/on/yes, 0/false/off/no */
/* Bytes: 123, 64KiB or 64k (times 1024), 1.5GB or 714.3 MB (of 1000), up to T. What is less than a
 * byte is cut off. */
bool pd_parse_size(struct pd_str s, uint64_t *out);

#endif
