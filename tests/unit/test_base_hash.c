#include "base/hash.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

static void assert_sum(const uint8_t sum[PD_SHA256_BYTES], const char *want)
{
    char hex[PD_SHA256_HEX];

    pd_hex(sum, PD_SHA256_BYTES, hex);
    assert_string_equal(hex, want);
}

/* FIPS 180-2, appendix B, and the empty message. */
static const struct {
    const char *text, *sum;
} cases[] = {
    {"", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
    {"abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},
    {"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
     "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"},
};
static const char million_a[] = "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0";

static void known_answers(void **state)
{
    uint8_t sum[PD_SHA256_BYTES];

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        pd_sha256_bytes(cases[i].text, strlen(cases[i].text), sum);
        assert_sum(sum, cases[i].sum);
    }
    pd_sha256_bytes(NULL, 0, sum);
    assert_sum(sum, cases[0].sum);
    assert_true(pd_hash64("abc", 3) == UINT64_C(0xeacf018fbf1678ba));
}

static void running_hash_is_the_same(void **state)
{
    struct pd_sha256 *h = pd_sha256_new();
    uint8_t sum[PD_SHA256_BYTES], want[PD_SHA256_BYTES];

    (void)state;
    assert_non_null(h);
    for (int i = 0; i < 1000000; i += 500) {
        char a[500];

        memset(a, 'a', sizeof(a));
        pd_sha256_add(h, a, sizeof(a));
    }
    pd_sha256_add(h, NULL, 0);
    pd_sha256_end(h, sum);
    pd_sha256_free(h);
    pd_sha256_free(NULL);
    assert_sum(sum, million_a);

    h = pd_sha256_new();
    assert_non_null(h);
    pd_sha256_add_u64(h, UINT64_C(0x0102030405060708));
    pd_sha256_add_str(h, PD_STR("xyz"));
    pd_sha256_end(h, sum);
    pd_sha256_free(h);
    pd_sha256_bytes("\x08\x07\x06\x05\x04\x03\x02\x01\x03\0\0\0\0\0\0\0xyz", 19, want);
    assert_memory_equal(sum, want, sizeof(sum));
}

static void hashes_files(void **state)
{
    char path[] = "/tmp/test_base_hash.XXXXXX";
    uint8_t sum[PD_SHA256_BYTES];
    struct pd_err err = {0};
    int fd = mkstemp(path);
    FILE *f;

    (void)state;
    assert_true(fd >= 0);
    f = fdopen(fd, "w");
    assert_non_null(f);
    for (int i = 0; i < 1000000; i++)
        assert_int_equal(putc('a', f), 'a');
    assert_int_equal(fclose(f), 0);
    assert_int_equal(pd_sha256_file(path, sum, &err), 0);
    assert_sum(sum, million_a);
    unlink(path);
    assert_int_equal(pd_sha256_file(path, sum, &err), PD_ENOENT);
    assert_non_null(strstr(err.text, path));
    assert_int_equal(pd_sha256_file("/", sum, &err), PD_EIO);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(known_answers),
        cmocka_unit_test(running_hash_is_the_same),
        cmocka_unit_test(hashes_files),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
