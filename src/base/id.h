/* Names for new things: a prefix and 26 characters of Crockford's base 32, 48 bits of Unix
 * milliseconds, then 80 random ones (as ULID): they sort by age. */
#ifndef PD_BASE_ID_H
#define PD_BASE_ID_H

#include "base/err.h"

#define PD_ID_MAX 40

/* out = prefix (at most 12 characters) and 26 more. PD_EIO: the system has no randomness. */
int pd_id_new(const char *prefix, char out[PD_ID_MAX], struct pd_err *err);

#endif
