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

void pd_clock_rfc3339(int64_t unix_ms, char out[PD_RFC3339_SIZE])
{
    time_t seconds = (time_t)(unix_ms / 1000);
    struct tm tm;

    if (!gmtime_r(&seconds, &tm) || strftime(out, PD_RFC3339_SIZE, "%Y-%m-%dT%H:%M:%SZ", &tm) == 0)
        out[0] = '\0'; /* a year of more than four digits */
}
