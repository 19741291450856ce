/* The AVX2 kernels: kernels_simd_int.h over the a2 vocabulary of simd_int.h. */
#include "engine/kernels_int.h"

#include <float.h>
#include <math.h>

#include "engine/math_int.h"
#include "engine/simd_int.h"

#ifdef ENG_X86
#define V(x) a2_##x
#define VT   struct a2_v
#define TGT  ENG_TGT_AVX2

#include "engine/kernels_simd_int.h"

const struct eng_kernels eng_kernels_avx2 = {
    .isa = ENG_ISA_AVX2,
    .rmsnorm = rmsnorm,
    .quantize_q8 = quantize_q8,
    .rope = rope,
    .rope_neox = rope_neox,
    .swiglu = swiglu,
    .geglu = geglu,
    .softcap = softcap,
    .add = add,
    .axpy = axpy,
    .to_f16 = to_f16,
    .divide = divide,
    .max = max,
    .exp_sum = exp_sum,
};
#else
typedef int eng_kernels_avx2_empty; /* ISO C wants a declaration */
#endif
