/* SHA-256 (libcrypto). Identities of blobs, models, keys and digests. */
#ifndef PD_BASE_HASH_H
#define PD_BASE_HASH_H

#include <stdint.h>

#include "base/err.h"
#include "base/str.h"

#define PD_SHA256_BYTES 32
#define PD_SHA256_HEX   65 /* with the NUL */

struct pd_sha256;                      /* a running hash */
struct pd_sha256 *pd_sha256_new(void); /* NULL: out of memory */
void pd_sha256_free(struct pd_sha256 *h);
void pd_sha256_add(struct pd_sha256 *h, const void *bytes, size_t n);
int pd_sha256_add_file(struct pd_sha256 *h, const char *path, struct pd_err *err);
void pd_sha256_add_u64(struct pd_sha256 *h, uint64_t v);      /* little-endian */
void pd_sha256_add_str(struct pd_sha256 *h, struct pd_str s); /* length (u64), then bytes */
void pd_sha256_end(struct pd_sha256 *h,
                   uint8_t out[PD_SHA256_BYTES]); /* h may only be freed after */

void pd_sha256_bytes(const void *bytes, size_t n, uint8_t out[PD_SHA256_BYTES]);
int pd_sha256_file(const char *path, uint8_t out[PD_SHA256_BYTES], struct pd_err *err);
void pd_hex(const uint8_t *bytes, size_t n, char *out /* 2n+1 */);
uint64_t pd_hash64(const void *bytes, size_t n); /* first 8 bytes of SHA-256, little-endian */

#endif
