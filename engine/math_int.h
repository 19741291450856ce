/* Constants that eng_exp() and its vector forms share, so that they are the same function. */
#ifndef PD_ENGINE_MATH_INT_H
#define PD_ENGINE_MATH_INT_H

/* 1.5 * 2^23: adding it rounds a small float to the nearest even integer, which then sits in the
 * low bits. */
#define ENG_MAGIC      12582912.0f
#define ENG_MAGIC_BITS 0x4b400000
#define ENG_EXP_LO     (-104.0f) /* exp(-104) is below half the least subnormal: 0 */
#define ENG_EXP_HI     89.0f     /* exp(89) is above the greatest float: infinity */
#define ENG_LOG2E      1.44269504088896341f
#define ENG_LN2_HI     0.693359375f /* 9 bits: n * hi is exact */
#define ENG_LN2_LO     (-2.12194440e-4f)
/* Cephes expf: exp(r) = 1 + r + r² P(r) on |r| ≤ ln2 / 2 */
#define ENG_EXP_P0 1.9875691500E-4f
#define ENG_EXP_P1 1.3981999507E-3f
#define ENG_EXP_P2 8.3334519073E-3f
#define ENG_EXP_P3 4.1665795894E-2f
#define ENG_EXP_P4 1.6666665459E-1f
#define ENG_EXP_P5 5.0000001201E-1f
/* GELU in its tanh form: 2u = x (A + B x²) */
#define ENG_GELU_A 1.5957691216057308f
#define ENG_GELU_B 0.0713548162726009f

#endif
