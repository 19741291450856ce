/* Two clocks: monotonic nanoseconds for everything that measures or waits, wall-clock milliseconds
 * for what is stored. */
#ifndef PD_BASE_CLOCK_H
#define PD_BASE_CLOCK_H

#include <stdint.h>

#define PD_NS_PER_S  INT64_C(1000000000)
#define PD_NS_PER_MS INT64_C(1000000)
#define PD_NEVER_NS  INT64_MAX

int64_t pd_clock_now_ns(void);
int64_t pd_clock_unix_ms(void);
#define PD_RFC3339_SIZE 32
void pd_clock_rfc3339(int64_t unix_ms, char out[PD_RFC3339_SIZE]); /* 2026-01-17T09:30:00Z */

#endif
