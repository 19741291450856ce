#include "base/hash.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <unistd.h>

#define FILE_CHUNK_BYTES ((size_t)256 << 10)

struct pd_sha256 {
    EVP_MD_CTX *ctx;
};

/* Hashing memory fails only when libcrypto itself is broken or cannot get a few bytes. There is no
 * return code for that, and going on would store a wrong identity. */
static void must(int ok)
{
    if (!ok)
        abort();
}

struct pd_sha256 *pd_sha256_new(void)
{
    struct pd_sha256 *h = calloc(1, sizeof(*h));

    if (!h)
        return NULL;
    h->ctx = EVP_MD_CTX_new();
    if (!h->ctx || !EVP_DigestInit_ex(h->ctx, EVP_sha256(), NULL)) {
        pd_sha256_free(h);
        return NULL;
    }
    return h;
}

void pd_sha256_free(struct pd_sha256 *h)
{
    if (!h)
        return;
    EVP_MD_CTX_free(h->ctx);
    free(h);
}

void pd_sha256_add(struct pd_sha256 *h, const void *bytes, size_t n)
{
    if (n > 0)
        must(EVP_DigestUpdate(h->ctx, bytes, n));
}

void pd_sha256_add_u64(struct pd_sha256 *h, uint64_t v)
{
    uint8_t bytes[8];

    for (int i = 0; i < 8; i++)
        bytes[i] = (uint8_t)(v >> (8 * i));
    pd_sha256_add(h, bytes, sizeof(bytes));
}

void pd_sha256_add_str(struct pd_sha256 *h, struct pd_str s)
{
    pd_sha256_add_u64(h, s.len);
    pd_sha256_add(h, s.ptr, s.len);
}

void pd_sha256_end(struct pd_sha256 *h, uint8_t out[PD_SHA256_BYTES])
{
    must(EVP_DigestFinal_ex(h->ctx, out, NULL));
}

void pd_sha256_bytes(const void *bytes, size_t n, uint8_t out[PD_SHA256_BYTES])
{
    must(EVP_Digest(n > 0 ? bytes : "", n, out, NULL, EVP_sha256(), NULL));
}

int pd_sha256_add_file(struct pd_sha256 *h, const char *path, struct pd_err *err)
{
    uint8_t *chunk = malloc(FILE_CHUNK_BYTES);
    int fd = -1, rc = 0;
    ssize_t n;

    if (!chunk)
        return pd_fail(err, PD_ENOMEM, "out of memory while hashing '%s'", path);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        rc = pd_fail_errno(err, errno, "cannot open '%s'", path);
        goto out;
    }
    /* Advice only: model files are large and read once from start to end. */
    (void)posix_fadvise(fd, 0, 0, POSIX_FADV_SEQUENTIAL);
    do {
        n = read(fd, chunk, FILE_CHUNK_BYTES);
        if (n > 0)
            pd_sha256_add(h, chunk, (size_t)n);
    } while (n > 0 || (n < 0 && errno == EINTR));
    if (n < 0)
        rc = pd_fail_errno(err, errno, "cannot read '%s'", path);
out:
    if (fd >= 0)
        close(fd);
    free(chunk);
    return rc;
}

int pd_sha256_file(const char *path, uint8_t out[PD_SHA256_BYTES], struct pd_err *err)
{
    struct pd_sha256 *h = pd_sha256_new();
    int rc = h ? pd_sha256_add_file(h, path, err)
               : pd_fail(err, PD_ENOMEM, "out of memory while hashing '%s'", path);

    if (rc == 0)
        pd_sha256_end(h, out);
    pd_sha256_free(h);
    return rc;
}

void pd_hex(const uint8_t *bytes, size_t n, char *out)
{
    static const char digits[] = "0123456789abcdef";

    for (size_t i = 0; i < n; i++) {
        out[2 * i] = digits[bytes[i] >> 4];
        out[2 * i + 1] = digits[bytes[i] & 15];
    }
    out[2 * n] = '\0';
}

uint64_t pd_hash64(const void *bytes, size_t n)
{
    uint8_t sum[PD_SHA256_BYTES];
    uint64_t v = 0;

    pd_sha256_bytes(bytes, n, sum);
    for (int i = 7; i >= 0; i--)
        v = v << 8 | sum[i];
    return v;
}
