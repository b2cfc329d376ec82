/*
 * The scalar mathematics that all levels repeat operation for operation: conversions between number types, folded sums, exp. All `static
 * inline`: a function shared between files compiled for different CPUs could be merged by the linker into the wrong one.
 */
#ifndef INFER_KERNELS_REF_MATHF_H
#define INFER_KERNELS_REF_MATHF_H

#include <math.h>
#include <stdint.h>
#include <string.h>

static inline uint32_t infer_ref_float_bits(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

static inline float infer_ref_float_from_bits(uint32_t bits)
{
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* ---- fp16 and bf16: widening is exact, narrowing rounds to nearest even, overflow gives infinity, NaN stays NaN ---- */

static inline float infer_ref_f16_to_f32(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000) << 16, exponent = h >> 10 & 31, mantissa = h & 0x3ff;

    if (exponent == 0) /* zero and subnormals: a multiple of 2^-24 */
        return infer_ref_float_from_bits(sign | infer_ref_float_bits((float)mantissa * 0x1p-24f));
    if (exponent == 31)
        return infer_ref_float_from_bits(sign | 0x7f800000 | mantissa << 13);
    return infer_ref_float_from_bits(sign | (exponent + 127 - 15) << 23 | mantissa << 13);
}

static inline uint16_t infer_ref_f32_to_f16(float x)
{
    uint32_t bits = infer_ref_float_bits(x), sign = bits >> 16 & 0x8000, magnitude = bits & 0x7fffffff;

    if (magnitude > 0x7f800000)
        return (uint16_t)(sign | 0x7e00);
    if (magnitude >= 0x477ff000) /* 65520: halfway from the largest fp16 to the next power of two */
        return (uint16_t)(sign | 0x7c00);
    if (magnitude < 0x38800000) { /* below 2^-14 the results are multiples of 2^-24, which is also the unit in the last place of 0.5f */
        float shifted = infer_ref_float_from_bits(magnitude) + 0.5f;
        return (uint16_t)(sign | (infer_ref_float_bits(shifted) - infer_ref_float_bits(0.5f)));
    }
    magnitude += 0xfff + (magnitude >> 13 & 1);
    return (uint16_t)(sign | (magnitude - ((127 - 15) << 23)) >> 13);
}

static inline float infer_ref_bf16_to_f32(uint16_t h) { return infer_ref_float_from_bits((uint32_t)h << 16); }

static inline uint16_t infer_ref_f32_to_bf16(float x)
{
    uint32_t bits = infer_ref_float_bits(x);

    if ((bits & 0x7fffffff) > 0x7f800000)
        return (uint16_t)(bits >> 16 | 0x40);
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

/* ---- sums ---- */

/* Sum of sixteen partial sums, halving: a fixed order that vectors of 4, 8 and 16 lanes all reproduce. Overwrites p. */
static inline float infer_ref_fold16(float p[16])
{
    for (int half = 8; half > 0; half /= 2)
        for (int j = 0; j < half; j++)
            p[j] += p[j + half];
    return p[0];
}

/* ---- exp ---- */

/*
 * x = n ln 2 + r with n the integer nearest to x / ln 2 and |r| <= ln 2 / 2; exp(r) = 1 + (r + r^2 q(r)), q of degree 4 fitted for the
 * least relative error of exp (3.7e-9); then the scaling by 2^n in two exact halves, so that subnormal results are rounded once.
 *
 * Largest error, measured over all floats: below INFER_REF_EXPF_ULP units in the last place (of the smallest subnormal for subnormal results).
 * exp(+-0) = 1, exp(-inf) = 0, exp(+inf) = inf, exp(NaN) = NaN; 0 below -103.98, inf above 88.73. Never raises a floating-point trap.
 */
#define INFER_REF_EXPF_ULP 1.01

#define INFER_REF_EXP_MIN (-104.0f)   /* exp rounds to 0 here, and n still fits the two halves */
#define INFER_REF_EXP_MAX 89.0f       /* exp overflows here */
#define INFER_REF_EXP_LOG2E 0x1.715476p+0f
#define INFER_REF_EXP_LN2_HI 0x1.62e43p-1f
#define INFER_REF_EXP_LN2_LO (-0x1.05c61p-29f)
#define INFER_REF_EXP_ROUND 0x1.8p23f /* adding it rounds to an integer, which then lies in the low bits */
#define INFER_REF_EXP_Q0 0x1.fffffcp-2f
#define INFER_REF_EXP_Q1 0x1.555492p-3f
#define INFER_REF_EXP_Q2 0x1.5558f2p-5f
#define INFER_REF_EXP_Q3 0x1.123a2p-7f
#define INFER_REF_EXP_Q4 0x1.6a23cep-10f

static inline float infer_ref_expf(float x)
{
    float shifted, n, r, q, y;
    int32_t i, half;

    x = INFER_REF_EXP_MIN > x ? INFER_REF_EXP_MIN : x; /* both comparisons are false for NaN, which stays */
    x = INFER_REF_EXP_MAX < x ? INFER_REF_EXP_MAX : x;
    shifted = fmaf(x, INFER_REF_EXP_LOG2E, INFER_REF_EXP_ROUND);
    n = shifted - INFER_REF_EXP_ROUND;
    r = fmaf(n, -INFER_REF_EXP_LN2_HI, x);
    r = fmaf(n, -INFER_REF_EXP_LN2_LO, r);
    q = fmaf(INFER_REF_EXP_Q4, r, INFER_REF_EXP_Q3);
    q = fmaf(q, r, INFER_REF_EXP_Q2);
    q = fmaf(q, r, INFER_REF_EXP_Q1);
    q = fmaf(q, r, INFER_REF_EXP_Q0);
    y = fmaf(r * r, q, r) + 1.0f;
    i = (int32_t)(infer_ref_float_bits(shifted) - infer_ref_float_bits(INFER_REF_EXP_ROUND)); /* n; -151 to 129, or anything for NaN */
    half = i >> 1;
    y *= infer_ref_float_from_bits((uint32_t)(half + 127) << 23);
    return y * infer_ref_float_from_bits((uint32_t)(i - half + 127) << 23);
}

/* cap * tanh(x / cap) as cap * (1 - 2 / (1 + exp(x * (2 / cap)))), cap > 0: off by at most INFER_REF_SOFTCAP_EPS * cap. */
#define INFER_REF_SOFTCAP_EPS 0x1p-22

static inline float infer_ref_softcap(float x, float cap) { return cap * (1.0f - 2.0f / (1.0f + infer_ref_expf(x * (2.0f / cap)))); }

#endif
