/* The three tables behind eng_kernels(). */
#ifndef PD_ENGINE_KERNELS_INT_H
#define PD_ENGINE_KERNELS_INT_H

#include "engine/kernels.h"

extern const struct eng_kernels eng_kernels_scalar;
extern const struct eng_kernels eng_kernels_avx2;
extern const struct eng_kernels eng_kernels_avx512;

#endif
