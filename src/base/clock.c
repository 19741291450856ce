#include "base/clock.h"

#include <time.h>

/* Neither clock_gettime() can fail: both clocks exist and the pointer is good. */

int64_t pd_clock_now_ns(void)
{
    struct timespec t = {0};

    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * PD_NS_PER_S + t.tv_nsec;
}

int64_t pd_clock_unix_ms(void)
{
    struct timespec t = {0};

    (void)clock_gettime(CLOCK_REALTIME, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / PD_NS_PER_MS;
}
