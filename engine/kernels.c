/* The scalar kernels, which are the specification, and the choice of an instruction set. Any
 * thread; no state. */
#include "engine/kernels.h"

#include <float.h>
#include <math.h>
#include <string.h>

#include "engine/kernels_int.h"
#include "engine/math_int.h"

/* y[n] = x[n] * w[n] / rms(x) */
static void rmsnorm(float *y, const float *x, const float *w, size_t n, float eps)
{
    float p[16] = {0}, scale;

    for (size_t i = 0; i < n; i++)
        p[i % 16] = fmaf(x[i], x[i], p[i % 16]);
    scale = 1.0f / sqrtf(eng_merge16(p) / (float)n + eps);
    for (size_t i = 0; i < n; i++)
        y[i] = x[i] * scale * w[i];
}

/* x[n] → q[n], d[n / 32], s[n / 16]. A d below FLT_MIN counts as 0, so that 1/d is finite. */
static void quantize_q8(const float *x, size_t n, int8_t *q, float *d, int16_t *s)
{
    for (size_t b = 0; b < n / ENG_Q8_BLOCK; b++, x += ENG_Q8_BLOCK, q += ENG_Q8_BLOCK) {
        int sum[2] = {0};
        float amax = 0, scale, inv;

        for (int i = 0; i < ENG_Q8_BLOCK; i++)
            amax = fabsf(x[i]) > amax ? fabsf(x[i]) : amax;
        scale = amax / 127.0f;
        if (scale < FLT_MIN)
            scale = 0;
        inv = scale > 0 ? 1.0f / scale : 0;
        for (int i = 0; i < ENG_Q8_BLOCK; i++) {
            float t = x[i] * inv + ENG_MAGIC; /* rounds to nearest even */
            uint32_t bits;

            memcpy(&bits, &t, sizeof bits);
            q[i] = (int8_t)(bits - (uint32_t)ENG_MAGIC_BITS);
            sum[i / ENG_Q8_HALF] += q[i];
        }
        d[b] = scale;
        s[2 * b] = (int16_t)sum[0];
        s[2 * b + 1] = (int16_t)sum[1];
    }
}

/* x[n_heads][head_dim], cosv and sinv [n_rot / 2] */
static void rope(float *x, size_t n_heads, size_t head_dim, size_t n_rot, const float *cosv,
                 const float *sinv)
{
    for (size_t h = 0; h < n_heads; h++, x += head_dim) {
        for (size_t i = 0; i < n_rot / 2; i++) {
            float a = x[2 * i], b = x[2 * i + 1];

            x[2 * i] = fmaf(a, cosv[i], -(b * sinv[i]));
            x[2 * i + 1] = fmaf(a, sinv[i], b * cosv[i]);
        }
    }
}

/* as rope */
static void rope_neox(float *x, size_t n_heads, size_t head_dim, size_t n_rot, const float *cosv,
                      const float *sinv)
{
    size_t half = n_rot / 2;

    for (size_t h = 0; h < n_heads; h++, x += head_dim) {
        for (size_t i = 0; i < half; i++) {
            float a = x[i], b = x[half + i];

            x[i] = fmaf(a, cosv[i], -(b * sinv[i]));
            x[half + i] = fmaf(a, sinv[i], b * cosv[i]);
        }
    }
}

/* gate[n], up[n] */
static void swiglu(float *gate, const float *up, size_t n)
{
    for (size_t i = 0; i < n; i++)
        gate[i] = gate[i] / (1.0f + eng_exp(-gate[i])) * up[i];
}

/* gate[n], up[n] */
static void geglu(float *gate, const float *up, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        float g = gate[i], u2 = g * fmaf(g * g, ENG_GELU_B, ENG_GELU_A);

        gate[i] = g / (1.0f + eng_exp(-u2)) * up[i];
    }
}

static void softcap(float *x, size_t n, float cap)
{
    for (size_t i = 0; i < n; i++)
        x[i] = eng_tanh(x[i] / cap) * cap;
}

static void add(float *x, const float *y, size_t n)
{
    for (size_t i = 0; i < n; i++)
        x[i] += y[i];
}

static void axpy(float *y, float a, const float *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        y[i] = fmaf(a, x[i], y[i]);
}

static void to_f16(const float *x, uint16_t *y, size_t n)
{
    for (size_t i = 0; i < n; i++)
        y[i] = eng_f32_to_f16(x[i]);
}

static void divide(float *y, const float *x, size_t n, float by)
{
    for (size_t i = 0; i < n; i++)
        y[i] = x[i] / by;
}

static float max(const float *x, size_t n)
{
    float m = -INFINITY;

    for (size_t i = 0; i < n; i++)
        m = x[i] > m ? x[i] : m;
    return m + 0.0f;
}

static float exp_sum(const float *x, size_t n, float max_x, float scale, float *y)
{
    float p[16] = {0};

    for (size_t i = 0; i < n; i++) {
        y[i] = eng_exp((x[i] - max_x) * scale);
        p[i % 16] += y[i];
    }
    return eng_merge16(p);
}

const struct eng_kernels eng_kernels_scalar = {
    .isa = ENG_ISA_SCALAR,
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

bool eng_isa_supported(enum eng_isa isa)
{
    if (isa == ENG_ISA_SCALAR)
        return true;
#if defined(__x86_64__)
    __builtin_cpu_init();
    /* Every CPU with AVX2 has F16C; gcc 12 and clang 14 cannot ask for it. */
    if (isa == ENG_ISA_AVX2)
        return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    if (isa == ENG_ISA_AVX512)
        return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
               __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
               __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
               __builtin_cpu_supports("avx512vnni");
#endif
    return false;
}

const struct eng_kernels *eng_kernels(enum eng_isa isa)
{
#if defined(__x86_64__)
    if (isa == ENG_ISA_AVX2)
        return &eng_kernels_avx2;
    if (isa == ENG_ISA_AVX512)
        return &eng_kernels_avx512;
#endif
    (void)isa;
    return &eng_kernels_scalar;
}
