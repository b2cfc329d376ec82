/*
 * What the NEON kernels share. All functions defined here are `static inline`: the levels have different flags, and a function they shared
 * could be taken from the wrong one. FPCR is left as the system sets it: round to nearest even, denormals kept, IEEE half precision.
 */
#ifndef INFER_KERNELS_NEON_H
#define INFER_KERNELS_NEON_H

#include "kernels.h"
#include "ref/mathf.h"

#include <arm_neon.h>
#include <stdbool.h>

#define INFER_ALWAYS_INLINE static inline __attribute__((always_inline))

/* Tokens a matmul takes through all panels of its region before the next ones: their activations then stay in L2. */
enum { INFER_NEON_TOKENS_IN_CACHE = 64 };

/* ---- widening: exact ---- */

/* Four, eight and four fp16 numbers; bf16 are the upper halves of floats. */
static inline float32x4_t infer_neon_f16x4(const void *p)
{
    return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p)));
}

static inline float32x4x2_t infer_neon_f16x8(const void *p)
{
    float16x8_t h = vreinterpretq_f16_u16(vld1q_u16(p));
    return (float32x4x2_t){{vcvt_f32_f16(vget_low_f16(h)), vcvt_high_f32_f16(h)}};
}

static inline float32x4_t infer_neon_bf16x4(const void *p)
{
    return vreinterpretq_f32_u32(vshll_n_u16(vld1_u16(p), 16));
}

/* ---- output ---- */

/* y[0..count) = lanes of rows[], count in 1..4 * vectors. */
INFER_ALWAYS_INLINE void infer_neon_store(float *y, const float32x4_t *rows, uint32_t vectors, uint32_t count)
{
    if (count >= 4 * vectors) {
#pragma GCC unroll 4
        for (uint32_t v = 0; v < vectors; v++)
            vst1q_f32(y + 4 * v, rows[v]);
    } else {
        float all[16];
#pragma GCC unroll 4
        for (uint32_t v = 0; v < vectors; v++)
            vst1q_f32(all + 4 * v, rows[v]);
        memcpy(y, all, count * sizeof *y);
    }
}

/* ---- sums ---- */

/* infer_ref_fold16 of lanes 0..15. */
static inline float infer_neon_fold16(const float32x4_t p[4])
{
    float32x4_t four = vaddq_f32(vaddq_f32(p[0], p[2]), vaddq_f32(p[1], p[3]));
    float32x2_t two = vadd_f32(vget_low_f32(four), vget_high_f32(four));

    return vget_lane_f32(two, 0) + vget_lane_f32(two, 1);
}

/* Sum of x[i] - mean, or of its squares, over sixteen partial sums; four vectors hold them. */
INFER_ALWAYS_INLINE float infer_neon_sum(const float *x, uint32_t n, float mean, bool squares)
{
    float32x4_t p[4] = {vdupq_n_f32(0), vdupq_n_f32(0), vdupq_n_f32(0), vdupq_n_f32(0)};
    float partial[16];
    uint32_t i = 0;

    for (; i + 16 <= n; i += 16) {
#pragma GCC unroll 4
        for (uint32_t v = 0; v < 4; v++) {
            float32x4_t d = vsubq_f32(vld1q_f32(x + i + 4 * v), vdupq_n_f32(mean));
            p[v] = squares ? vfmaq_f32(p[v], d, d) : vaddq_f32(p[v], d);
        }
    }
    if (i == n)
        return infer_neon_fold16(p);
    for (uint32_t v = 0; v < 4; v++)
        vst1q_f32(partial + 4 * v, p[v]);
    for (; i < n; i++) {
        float d = x[i] - mean;
        partial[i % 16] = squares ? fmaf(d, d, partial[i % 16]) : partial[i % 16] + d;
    }
    return infer_ref_fold16(partial);
}

/* ---- exp ---- */

/* infer_ref_expf, operation for operation. FMAX and FMIN hand on NaN, as the two comparisons of the original do. */
static inline float32x4_t infer_neon_exp(float32x4_t x)
{
    const float32x4_t round = vdupq_n_f32(INFER_REF_EXP_ROUND);
    float32x4_t shifted, n, r, q, y;
    int32x4_t i, half;

    x = vmaxq_f32(x, vdupq_n_f32(INFER_REF_EXP_MIN));
    x = vminq_f32(x, vdupq_n_f32(INFER_REF_EXP_MAX));
    shifted = vfmaq_f32(round, x, vdupq_n_f32(INFER_REF_EXP_LOG2E));
    n = vsubq_f32(shifted, round);
    r = vfmaq_f32(x, n, vdupq_n_f32(-INFER_REF_EXP_LN2_HI));
    r = vfmaq_f32(r, n, vdupq_n_f32(-INFER_REF_EXP_LN2_LO));
    q = vfmaq_f32(vdupq_n_f32(INFER_REF_EXP_Q3), vdupq_n_f32(INFER_REF_EXP_Q4), r);
    q = vfmaq_f32(vdupq_n_f32(INFER_REF_EXP_Q2), q, r);
    q = vfmaq_f32(vdupq_n_f32(INFER_REF_EXP_Q1), q, r);
    q = vfmaq_f32(vdupq_n_f32(INFER_REF_EXP_Q0), q, r);
    y = vaddq_f32(vfmaq_f32(r, vmulq_f32(r, r), q), vdupq_n_f32(1.0f));
    i = vsubq_s32(vreinterpretq_s32_f32(shifted), vreinterpretq_s32_f32(round));
    half = vshrq_n_s32(i, 1);
    y = vmulq_f32(y, vreinterpretq_f32_s32(vshlq_n_s32(vaddq_s32(half, vdupq_n_s32(127)), 23)));
    return vmulq_f32(y, vreinterpretq_f32_s32(vshlq_n_s32(vaddq_s32(vsubq_s32(i, half), vdupq_n_s32(127)), 23)));
}

/* infer_ref_softcap, operation for operation. */
static inline float32x4_t infer_neon_softcap(float32x4_t x, float cap)
{
    float32x4_t e = infer_neon_exp(vmulq_n_f32(x, 2.0f / cap)), one = vdupq_n_f32(1.0f);
    return vmulq_n_f32(vsubq_f32(one, vdivq_f32(vdupq_n_f32(2.0f), vaddq_f32(one, e))), cap);
}

/* ---- attention over a q8g32 cache ---- */

/* The kernels of a level, whose matmul of q8g32 gives the scores. Defined in attention_q8g32.c, compiled once, for level neon. */
void infer_neon_attention_q8g32(const infer_attention_args *a, infer_region at, infer_kernel_fn *matmul);
void infer_neon_attention_chunks_q8g32(const infer_attention_args *a, infer_region at, infer_kernel_fn *matmul);

#endif
