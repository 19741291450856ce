/* Counter-based random numbers: Philox4x32-10 (Salmon et al., SC 2011). A number is a pure function
 * of (key, counter, stream): nothing to seed, nothing to save. */
#ifndef PD_BASE_RNG_H
#define PD_BASE_RNG_H

#include <stdint.h>

/* The 128-bit counter is {c0,c1,c2,c3}, the 64-bit key {k0,k1}; out gets the four 32-bit words. */
void pd_philox4x32_10(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4]);

/* Uniform in [0,1) with 53 bits. key: the branch's key; counter: absolute token position (or
 * decision index); stream: which of several numbers at the same place (0 = sample, 1 = accept, …).
 * Words: counter = {lo(counter), hi(counter), stream, 0}; u = (out0 >> 5) * 2^26 + (out1 >> 6),
 * times 2^-53. */
double pd_rng_uniform(uint64_t key, uint64_t counter, uint32_t stream);

#endif
