/* Elementary functions and conversions in our own arithmetic: libm's differ between versions and
 * machines, ours do not. Only fma, sqrt and exact operations are taken from the C library. Any
 * thread; no state. */
#include "engine/kernels.h"

#include <math.h>
#include <string.h>

#include "engine/math_int.h"

static float f32_of(uint32_t bits)
{
    float f;

    memcpy(&f, &bits, sizeof f);
    return f;
}

static uint32_t bits_of(float f)
{
    uint32_t bits;

    memcpy(&bits, &f, sizeof bits);
    return bits;
}

static double f64_of(uint64_t bits)
{
    double f;

    memcpy(&f, &bits, sizeof f);
    return f;
}

/* The vector forms (simd_math_int.h) are this, operation by operation. The comparisons are
 * written so that a NaN stays one, as maxps and minps do with the constant first. */
float eng_exp(float x)
{
    float t, n, r, p, s1, s2;
    int32_t i, h;

    x = ENG_EXP_LO > x ? ENG_EXP_LO : x;
    x = ENG_EXP_HI < x ? ENG_EXP_HI : x;
    t = fmaf(x, ENG_LOG2E, ENG_MAGIC);
    n = t - ENG_MAGIC;
    r = fmaf(n, -ENG_LN2_HI, x);
    r = fmaf(n, -ENG_LN2_LO, r);
    p = fmaf(ENG_EXP_P0, r, ENG_EXP_P1);
    p = fmaf(p, r, ENG_EXP_P2);
    p = fmaf(p, r, ENG_EXP_P3);
    p = fmaf(p, r, ENG_EXP_P4);
    p = fmaf(p, r, ENG_EXP_P5);
    p = fmaf(p, r * r, r) + 1.0f;
    /* 2^n in two factors: each is a normal number, the first product is exact, the second rounds
     * once, so that subnormal results and overflow agree everywhere. */
    i = (int32_t)(bits_of(t) - (uint32_t)ENG_MAGIC_BITS);
    h = i >> 1;
    s1 = f32_of((uint32_t)(h + 127) << 23);
    s2 = f32_of((uint32_t)(i - h + 127) << 23);
    return p * s1 * s2;
}

float eng_tanh(float x)
{
    return 1.0f - 2.0f / (1.0f + eng_exp(x + x));
}

/* log(m 2^e) = e ln2 + 2 atanh((m - 1) / (m + 1)), m in [sqrt(1/2), sqrt(2)): |s| ≤ 0.1716. x:
 * positive, normal. */
static double log_f64(double x)
{
    uint64_t bits;
    int e;
    double m, s, z, p = 1.0 / 23;

    memcpy(&bits, &x, sizeof bits);
    e = (int)(bits >> 52) - 1023;
    m = f64_of((bits & 0xfffffffffffffULL) | 0x3ff0000000000000ULL);
    if (m > 1.4142135623730951) {
        m *= 0.5;
        e++;
    }
    s = (m - 1.0) / (m + 1.0);
    z = s * s;
    for (int k = 21; k >= 3; k -= 2)
        p = fma(p, z, 1.0 / k);
    /* ln2 in two parts, the first with 21 trailing zero bits: e * hi is exact */
    return fma(e, 6.93147180369123816490e-01,
               fma(e, 1.90821492927058770002e-10, fma(2.0 * s * z, p, 2.0 * s)));
}

float eng_log(float x)
{
    if (x != x || x < 0)
        return NAN;
    if (x == 0)
        return -INFINITY;
    if (x > 3.4028235e38f)
        return x;
    return (float)log_f64((double)x); /* every float is a normal double */
}

/* 2^x for |x| < 1000: Taylor of exp(f ln2) to degree 14, |f ln2| ≤ 0.3466. */
static double exp2_f64(double x)
{
    double n = (x + 6755399441055744.0) - 6755399441055744.0; /* 1.5 * 2^52: nearest integer */
    double t = (x - n) * 0.693147180559945309417, p = 1.0;

    for (int k = 14; k >= 1; k--)
        p = fma(p * t, 1.0 / k, 1.0);
    return p * f64_of((uint64_t)((int64_t)n + 1023) << 52);
}

void eng_rope_freqs(float base, size_t n_rot, float *freq)
{
    double log2_base = log_f64((double)base) * 1.44269504088896340736;

    for (size_t i = 0; i < n_rot / 2; i++)
        freq[i] = (float)exp2_f64(-((double)(2 * i) / (double)n_rot) * log2_base);
}

/* YaRN (arXiv:2309.00071, section 3.2): dimension pair i turns n_ctx freq[i] / 2pi times within the
 * original context; the pairs at which that is beta_fast and beta_slow bound a linear ramp. */
float eng_rope_scale(const struct eng_rope_scaling *s, float base, size_t n_rot, float *freq)
{
    double per_turn = (double)n_rot / (2 * log_f64((double)base)), low = 0, high = 0;
    double scale = (double)s->attn_factor;

    if (s->ext_factor > 0) {
        double turns = (double)s->n_ctx_orig / 6.283185307179586477;

        low = floor(per_turn * log_f64(turns / (double)s->beta_fast));
        high = ceil(per_turn * log_f64(turns / (double)s->beta_slow));
        low = low < 0 ? 0 : low;
        high = high > (double)(n_rot - 1) ? (double)(n_rot - 1) : high;
        high = high - low < 0.001 ? low + 0.001 : high;
        scale *= 1 + 0.1 * log_f64((double)s->factor);
    }
    for (size_t i = 0; i < n_rot / 2; i++) {
        double spared = 0;

        if (s->ext_factor > 0) {
            double ramp = ((double)i - low) / (high - low);

            spared = (double)s->ext_factor * (1 - (ramp < 0 ? 0 : ramp > 1 ? 1 : ramp));
        }
        freq[i] =
            (float)((double)freq[i] / (double)s->factor * (1 - spared) + (double)freq[i] * spared);
    }
    return (float)scale;
}

/* Cody–Waite with three parts of pi/2 (33 bits each, fdlibm's): k < 2^20, so k * part is exact. */
static void sincos_f64(double x, double *out_sin, double *out_cos)
{
    static const double sin_c[] = {-7.6471637318198164759e-13, 1.6059043836821614599e-10,
                                   -2.5052108385441718775e-8,  2.7557319223985890653e-6,
                                   -1.9841269841269841270e-4,  8.3333333333333333333e-3,
                                   -1.6666666666666666667e-1}; /* ±1/15! … -1/3! */
    static const double cos_c[] = {4.7794773323873852974e-14, -1.1470745597729724714e-11,
                                   2.0876756987868098979e-9,  -2.7557319223985890653e-7,
                                   2.4801587301587301587e-5,  -1.3888888888888888889e-3,
                                   4.1666666666666666667e-2,  -0.5}; /* 1/16! … -1/2! */
    double k = fma(x, 6.36619772367581382433e-01, 6755399441055744.0) - 6755399441055744.0;
    double r = fma(-k, 1.57079632673412561417e+00, x), z, s, c;
    unsigned quadrant = (unsigned)((int64_t)k & 3);

    r = fma(-k, 6.07710050630396597660e-11, r);
    r = fma(-k, 2.02226624871116645580e-21, r);
    z = r * r;
    s = sin_c[0];
    for (size_t i = 1; i < sizeof sin_c / sizeof *sin_c; i++)
        s = fma(s, z, sin_c[i]);
    s = fma(s * z, r, r);
    c = cos_c[0];
    for (size_t i = 1; i < sizeof cos_c / sizeof *cos_c; i++)
        c = fma(c, z, cos_c[i]);
    c = fma(c, z, 1.0);
    *out_sin = quadrant == 0 ? s : quadrant == 1 ? c : quadrant == 2 ? -s : -c;
    *out_cos = quadrant == 0 ? c : quadrant == 1 ? -s : quadrant == 2 ? -c : s;
}

void eng_rope_angles(uint32_t pos, const float *freq, float scale, size_t n, float *cosv,
                     float *sinv)
{
    for (size_t i = 0; i < n; i++) {
        double s, c;

        sincos_f64((double)pos * (double)freq[i], &s,
                   &c); /* the product of 20 and 24 bits is exact */
        cosv[i] = (float)(c * (double)scale);
        sinv[i] = (float)(s * (double)scale);
    }
}

float eng_merge16(const float p[16])
{
    float t[8];

    for (int j = 0; j < 8; j++)
        t[j] = p[j] + p[j + 8];
    for (int h = 4; h > 0; h /= 2)
        for (int j = 0; j < h; j++)
            t[j] += t[j + h];
    return t[0];
}

float eng_max16(const float p[16])
{
    float m = p[0];

    for (int j = 1; j < 16; j++)
        m = p[j] > m ? p[j] : m;
    return m + 0.0f; /* -0 → +0: which of two equal zeros came first must not show */
}

float eng_f16_to_f32(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000) << 16, e = (h >> 10) & 31, m = h & 0x3ff;

    if (e == 31)
        return f32_of(sign | 0x7f800000 | m << 13 | (m ? 0x400000 : 0));
    if (e > 0)
        return f32_of(sign | (e + 112) << 23 | m << 13);
    /* subnormal: m * 2^-24, exact */
    return f32_of(sign | bits_of((float)m * 5.9604644775390625e-8f));
}

uint16_t eng_f32_to_f16(float f)
{
    uint32_t b = bits_of(f), sign = b >> 16 & 0x8000, a = b & 0x7fffffff;

    if (a > 0x7f800000)
        return (uint16_t)(sign | 0x7e00);
    if (a >= 0x477ff000) /* 65520 and above round to infinity */
        return (uint16_t)(sign | 0x7c00);
    if (a < 0x38800000) { /* below 2^-14: a multiple of 2^-24; adding 0.5 (ulp 2^-24) rounds to
                             nearest even */
        return (uint16_t)(sign | (bits_of(f32_of(a) + 0.5f) - 0x3f000000));
    }
    a += 0xfff + (a >> 13 & 1);
    return (uint16_t)(sign | (a - 0x38000000) >> 13);
}
