#include "base/clock.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <time.h>

#include <cmocka.h>

static void monotonic_clock_counts_nanoseconds(void **state)
{
    const struct timespec pause = {0, 5 * 1000 * 1000};
    int64_t before = pd_clock_now_ns(), after;

    (void)state;
    nanosleep(&pause, NULL);
    after = pd_clock_now_ns();
    assert_true(before > 0);
    assert_true(after - before >= 5 * PD_NS_PER_MS);
    assert_true(after - before < 60 * PD_NS_PER_S);
}

static void wall_clock_counts_milliseconds(void **state)
{
    int64_t difference_ms = pd_clock_unix_ms() - (int64_t)time(NULL) * 1000;

    (void)state;
    assert_true(difference_ms > -2000 && difference_ms < 2000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(monotonic_clock_counts_nanoseconds),
        cmocka_unit_test(wall_clock_counts_milliseconds),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
