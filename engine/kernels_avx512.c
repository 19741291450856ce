/* The AVX-512 kernels: kernels_simd_int.h over the a5 vocabulary of simd_int.h. */
#include "engine/kernels_int.h"

#include <float.h>
#include <math.h>

#include "engine/math_int.h"
#include "engine/simd_int.h"

#ifdef ENG_X86
#define V(x) a5_##x
#define VT   struct a5_v
#define TGT  ENG_TGT_AVX512

#include "engine/kernels_simd_int.h"

const struct eng_kernels eng_kernels_avx512 = {
    .isa = ENG_ISA_AVX512,
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
typedef int eng_kernels_avx512_empty; /* ISO C wants a declaration */
#endif
