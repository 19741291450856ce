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

static void dates_are_rfc3339(void **state)
{
    char text[PD_RFC3339_SIZE];

    (void)state;
    pd_clock_rfc3339(0, text);
    assert_string_equal(text, "1970-01-01T00:00:00Z");
    pd_clock_rfc3339(INT64_C(1768642200999), text);
    assert_string_equal(text, "2026-01-17T09:30:00Z");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(monotonic_clock_counts_nanoseconds),
        cmocka_unit_test(wall_clock_counts_milliseconds),
        cmocka_unit_test(dates_are_rfc3339),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
