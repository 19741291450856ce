#include "base/arena.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static void memory_is_zeroed_aligned_and_apart(void **state)
{
    static unsigned char *blocks[3000];
    struct pd_arena a;

    (void)state;
    pd_arena_init(&a, 64 << 20);
    for (size_t i = 0; i < 3000; i++) {
        size_t bytes = i % 700 == 0 ? 50000 : i % 97;

        blocks[i] = pd_arena_alloc(&a, bytes);
        assert_non_null(blocks[i]);
        assert_int_equal((uintptr_t)blocks[i] % 16, 0);
        for (size_t k = 0; k < bytes; k++)
            assert_int_equal(blocks[i][k], 0);
        memset(blocks[i], (int)(i % 251), bytes);
    }
    for (size_t i = 0; i < 3000; i++) {
        size_t bytes = i % 700 == 0 ? 50000 : i % 97;

        for (size_t k = 0; k < bytes; k++)
            assert_int_equal(blocks[i][k], i % 251);
    }
    pd_arena_done(&a);
    pd_arena_done(&a);
    pd_arena_done(NULL);
}

static void ceiling_holds(void **state)
{
    struct pd_arena a;

    (void)state;
    pd_arena_init(&a, 64);
    assert_null(pd_arena_alloc(&a, 65));
    assert_non_null(pd_arena_alloc(&a, 33)); /* 48 after rounding up */
    assert_null(pd_arena_alloc(&a, 17));
    assert_non_null(pd_arena_alloc(&a, 16));
    assert_null(pd_arena_alloc(&a, 0));
    assert_int_equal(a.used, 64);
    pd_arena_done(&a);
}

static void sizes_do_not_overflow(void **state)
{
    struct pd_arena a;

    (void)state;
    pd_arena_init(&a, SIZE_MAX);
    assert_null(pd_arena_array(&a, SIZE_MAX / 2, 3));
    assert_null(pd_arena_alloc(&a, SIZE_MAX));
    assert_null(pd_arena_alloc(&a, SIZE_MAX - 15));
    assert_non_null(pd_arena_array(&a, 10, 8));
    pd_arena_done(&a);
}

static void copies(void **state)
{
    const int numbers[] = {1, 2, 3};
    struct pd_arena a;
    int *copy;

    (void)state;
    pd_arena_init(&a, 1000);
    assert_string_equal(pd_arena_dup(&a, pd_str_sub(PD_STR("hello"), 1, 3)), "el");
    assert_string_equal(pd_arena_dup(&a, (struct pd_str){NULL, 0}), "");
    copy = pd_arena_memdup(&a, numbers, sizeof(numbers));
    assert_memory_equal(copy, numbers, sizeof(numbers));
    assert_non_null(pd_arena_memdup(&a, NULL, 0));
    pd_arena_done(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(memory_is_zeroed_aligned_and_apart),
        cmocka_unit_test(ceiling_holds),
        cmocka_unit_test(sizes_do_not_overflow),
        cmocka_unit_test(copies),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
