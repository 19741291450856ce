#include "base/err.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/str.h"

static void fills_and_returns_the_code(void **state)
{
    struct pd_err err;

    (void)state;
    assert_int_equal(pd_fail(&err, PD_EFORMAT, "bad %s %d", "thing", 7), PD_EFORMAT);
    assert_int_equal(err.code, PD_EFORMAT);
    assert_string_equal(err.text, "bad thing 7");
    assert_int_equal(pd_fail(NULL, PD_EIO, "nobody listens"), PD_EIO);
}

static void context_comes_first(void **state)
{
    struct pd_err err;

    (void)state;
    pd_fail(&err, PD_EINVAL, "no such key");
    pd_err_context(&err, "in recipe '%s'", "a.json");
    assert_string_equal(err.text, "in recipe 'a.json': no such key");
    assert_int_equal(err.code, PD_EINVAL);
    pd_err_context(NULL, "nobody listens");
}

static void old_text_may_be_an_argument(void **state)
{
    struct pd_err err;

    (void)state;
    pd_fail(&err, PD_EIO, "inner");
    pd_fail(&err, PD_EREMOTE, "outer (%s)", err.text);
    assert_string_equal(err.text, "outer (inner)");
}

static void errno_gives_code_and_reason(void **state)
{
    static const struct {
        int errno_value;
        enum pd_code code;
    } cases[] = {
        {ENOENT, PD_ENOENT}, {EACCES, PD_EPERM},  {EPERM, PD_EPERM},
        {EROFS, PD_EPERM},   {ENOMEM, PD_ENOMEM}, {ENOSPC, PD_EIO},
    };
    struct pd_err err;

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        assert_int_equal(pd_fail_errno(&err, cases[i].errno_value, "x"), cases[i].code);
        assert_int_equal(pd_fail_errno(NULL, cases[i].errno_value, "x"), cases[i].code);
    }
    pd_fail_errno(&err, ENOSPC, "cannot write '%s'", "f");
    assert_string_equal(err.text, "cannot write 'f': No space left on device");
}

/* A text that is too long is cut between two characters. */
static void long_text_stays_utf8(void **state)
{
    char text[2 * sizeof(((struct pd_err *)NULL)->text) + 1];
    struct pd_err err;

    (void)state;
    for (size_t offset = 0; offset < 2; offset++) {
        memset(text, 'x', offset);
        for (size_t i = offset; i + 2 < sizeof(text); i += 2)
            memcpy(text + i, "\xC3\xA4", 3);
        pd_fail(&err, PD_EIO, "%s", text);
        assert_true(strlen(err.text) >= sizeof(err.text) - 2);
        assert_true(pd_utf8_valid(pd_str_of(err.text)));
        pd_err_context(&err, "ctx");
        assert_true(strlen(err.text) >= sizeof(err.text) - 2);
        assert_true(pd_utf8_valid(pd_str_of(err.text)));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fills_and_returns_the_code),
        cmocka_unit_test(context_comes_first),
        cmocka_unit_test(old_text_may_be_an_argument),
        cmocka_unit_test(errno_gives_code_and_reason),
        cmocka_unit_test(long_text_stays_utf8),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
