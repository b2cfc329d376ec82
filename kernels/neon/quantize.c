/* Floats to int8 codes in groups of 32, with a float scale and the two offset8 numbers a group. */
#include "neon.h"

static void quantize_group(const float *x, int8_t *codes, float *scale, int16_t *offset8)
{
    const uint32x4_t magnitude_bits = vdupq_n_u32(0x7fffffff);
    uint32x4_t max = vdupq_n_u32(0);
    uint32_t max_bits;
    float amax, inverse;
    int16x4_t all[4];
    int8x16_t low, high;
    int16x8_t pairs;
    int16x4_t sum;

    /* Magnitudes compare as integers: finite numbers in their own order, then infinity, then NaN. */
    for (uint32_t i = 0; i < 32; i += 4)
        max = vmaxq_u32(max, vandq_u32(vreinterpretq_u32_f32(vld1q_f32(x + i)), magnitude_bits));
    max_bits = vmaxvq_u32(max);
    amax = infer_ref_float_from_bits(max_bits);
    if (max_bits >= 0x7f800000 || amax < 0x1p-100f) {
        *scale = max_bits >= 0x7f800000 ? NAN : 0;
        memset(codes, 0, 32);
        offset8[0] = offset8[1] = 0;
        return;
    }
    *scale = amax / 127.0f;
    inverse = 127.0f / amax;
#pragma GCC unroll 2
    for (uint32_t h = 0; h < 2; h++) {
#pragma GCC unroll 4
        for (uint32_t v = 0; v < 4; v++)
            all[v] = vmovn_s32(vcvtnq_s32_f32(vmulq_n_f32(vld1q_f32(x + 16 * h + 4 * v), inverse)));
        low = vcombine_s8(vmovn_s16(vcombine_s16(all[0], all[1])), vmovn_s16(vcombine_s16(all[2], all[3])));
        vst1q_s8(codes + 16 * h, low);
        if (h == 0)
            high = low;
    }
    /* Sums of neighbours lie in turn at k mod 4 = 0, 1 and at 2, 3; eight of each, at most 16 x 127 together. */
    pairs = vaddq_s16(vpaddlq_s8(low), vpaddlq_s8(high));
    sum = vadd_s16(vget_low_s16(pairs), vget_high_s16(pairs));
    sum = vmul_n_s16(vadd_s16(sum, vext_s16(sum, sum, 2)), -8);
    offset8[0] = vget_lane_s16(sum, 0);
    offset8[1] = vget_lane_s16(sum, 1);
}

void quantize__neon(const void *args, infer_region at)
{
    const infer_quantize_args *a = args;
    size_t row_groups = a->y.row_groups;

    for (uint32_t t = at.row0; t < at.row1; t++) {
        const float *x = a->x + (size_t)t * a->x_stride;
        for (uint32_t k = at.col0; k < at.col1; k += 32) {
            size_t g = t * row_groups + k / 32;
            bool plain = a->k - k >= 32 && !a->factors && !(a->threshold > 0);
            float copy[32] = {0};
            for (uint32_t i = 0; !plain && i < 32 && k + i < a->k; i++) {
                copy[i] = a->factors ? x[k + i] * a->factors[k + i] : x[k + i];
                copy[i] = fabsf(copy[i]) < a->threshold ? 0 : copy[i];
            }
            quantize_group(plain ? x + k : copy, a->y.codes + 32 * g, a->y.scales + g, a->y.offset8 + 2 * g);
        }
    }
}
