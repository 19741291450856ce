#include "base/buf.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/err.h"

static void appends_in_order(void **state)
{
    struct pd_buf b = PD_BUF_INIT(1000);

    (void)state;
    assert_true(pd_str_eq(pd_buf_str(&b), PD_STR("")));
    assert_int_equal(pd_buf_add(&b, "ab", 2), 0);
    assert_int_equal(pd_buf_addc(&b, 'c'), 0);
    assert_int_equal(pd_buf_addz(&b, "de"), 0);
    assert_int_equal(pd_buf_adds(&b, PD_STR("f")), 0);
    assert_int_equal(pd_buf_adds(&b, (struct pd_str){NULL, 0}), 0);
    assert_int_equal(pd_buf_printf(&b, "%d%s", 42, "!"), 0);
    assert_string_equal(b.data, "abcdef42!");
    assert_int_equal(b.len, 9);
    pd_buf_clear(&b);
    assert_string_equal(b.data, "");
    pd_buf_done(&b);
    pd_buf_done(NULL);
}

static void grows(void **state)
{
    struct pd_buf b = PD_BUF_INIT(SIZE_MAX);

    (void)state;
    for (int i = 0; i < 10000; i++)
        assert_int_equal(pd_buf_printf(&b, "%04d", i), 0);
    assert_int_equal(b.len, 40000);
    assert_memory_equal(b.data + 4 * 1234, "1234", 4);
    assert_int_equal(pd_buf_reserve(&b, b.max - b.len), PD_ENOMEM); /* no room for the NUL */
    pd_buf_done(&b);
}

static void ceiling_is_exact_and_sticks(void **state)
{
    struct pd_buf b = PD_BUF_INIT(4);

    (void)state;
    assert_int_equal(pd_buf_addz(&b, "abcd"), 0);
    assert_int_equal(pd_buf_addc(&b, 'e'), PD_ELIMIT);
    assert_int_equal(pd_buf_add(&b, "", 0), PD_ELIMIT);
    assert_int_equal(pd_buf_printf(&b, "%s", ""), PD_ELIMIT);
    assert_int_equal(pd_buf_rc(&b), PD_ELIMIT);
    assert_string_equal(b.data, "abcd");
    assert_null(pd_buf_take(&b));
    pd_buf_clear(&b);
    assert_int_equal(pd_buf_printf(&b, "%d", 12345), PD_ELIMIT);
    pd_buf_clear(&b);
    assert_int_equal(pd_buf_printf(&b, "%d", 1234), 0);
    pd_buf_done(&b);
}

static void take_moves_ownership(void **state)
{
    struct pd_buf b = PD_BUF_INIT(10);
    char *z;

    (void)state;
    z = pd_buf_take(&b);
    assert_string_equal(z, "");
    free(z);
    pd_buf_addz(&b, "abc");
    z = pd_buf_take(&b);
    assert_string_equal(z, "abc");
    assert_null(b.data);
    assert_int_equal(pd_buf_addz(&b, "0123456789"), 0); /* usable again, same ceiling */
    assert_string_equal(z, "abc");
    free(z);
    pd_buf_done(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(appends_in_order),
        cmocka_unit_test(grows),
        cmocka_unit_test(ceiling_is_exact_and_sticks),
        cmocka_unit_test(take_moves_ownership),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
