/* The mean of the last so many of numbers that come one by one. Any thread, no errors. */
#ifndef PD_BASE_WINDOW_H
#define PD_BASE_WINDOW_H

#include <stdint.h>

/* values[n - 1] has come, *io_sum is the sum of the window before it (0 at first). Returns the mean
 * of the last `window` (at least 1) of values[n], of all while there are fewer. */
static inline double pd_window_mean(const float *values, uint32_t n, uint32_t window,
                                    double *io_sum)
{
    *io_sum += (double)values[n - 1];
    if (n > window)
        *io_sum -= (double)values[n - 1 - window];
    return *io_sum / (n < window ? n : window);
}

#endif
