/* engine/pool.c: every item is computed exactly once, by a thread of the pool, before run returns.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "engine/kernels.h"

#define MAX_ITEMS 5000

struct count {
    unsigned char seen[MAX_ITEMS]; /* an item has one owner: no atomics wanted */
    size_t n_items, grain;
    unsigned n_threads;
    atomic_uint n_bad;
};

static void count_items(void *arg, size_t begin, size_t end, unsigned thread)
{
    struct count *c = arg;

    if (begin >= end || end > c->n_items || thread >= c->n_threads)
        atomic_fetch_add(&c->n_bad, 1);
    for (size_t i = begin; i < end && i < MAX_ITEMS; i++)
        c->seen[i]++;
}

static void run_once(struct eng_pool *p, struct count *c, size_t n_items, size_t grain)
{
    memset(c->seen, 0, sizeof c->seen);
    c->n_items = n_items;
    c->grain = grain;
    c->n_threads = eng_pool_n_threads(p);
    atomic_store(&c->n_bad, 0);
    eng_pool_run(p, n_items, grain, count_items, c);
    assert_int_equal(atomic_load(&c->n_bad), 0);
    for (size_t i = 0; i < MAX_ITEMS; i++)
        assert_int_equal(c->seen[i], i < n_items);
}

static void covers_once(void **state)
{
    static const size_t sizes[] = {0, 1, 2, 3, 7, 64, 100, 1000, MAX_ITEMS},
                        grains[] = {0, 1, 3, 16, 10000};
    static struct count c;
    const struct timespec nap = {.tv_nsec = 300000};

    (void)state;
    for (unsigned n = 0; n <= 4; n++) {
        struct eng_pool *p;

        assert_int_equal(eng_pool_new(n, &p, NULL), 0);
        assert_int_equal(eng_pool_n_threads(p), n ? n : 1);
        for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
            for (size_t j = 0; j < sizeof grains / sizeof *grains; j++)
                run_once(p, &c, sizes[i], grains[j]);
        for (int i = 0; i < 300; i++) /* hot workers, and workers just falling asleep */
            run_once(p, &c, 40, 1);
        for (int i = 0; i < 20; i++) {
            nanosleep(&nap, NULL);
            run_once(p, &c, 40, 1);
        }
        eng_pool_free(p);
    }
    eng_pool_free(NULL);
}

static void free_at_once(void **state)
{
    (void)state;
    for (int i = 0; i < 50; i++) {
        struct eng_pool *p;

        assert_int_equal(eng_pool_new(3, &p, NULL), 0);
        eng_pool_free(p);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(covers_once),
                                       cmocka_unit_test(free_at_once)};

    return cmocka_run_group_tests_name("engine_pool", tests, NULL, NULL);
}
