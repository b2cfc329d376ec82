/* Floats to int8 codes, a scale a group, and for every 32 inputs the two offset8 numbers. */
#include "neon.h"

/* The largest of `max` and the magnitudes of 32 inputs: they compare as integers, finite numbers in their own order, then infinity, then NaN. */
static uint32x4_t larger_magnitudes(uint32x4_t max, const float *x)
{
    for (uint32_t i = 0; i < 32; i += 4)
        max = vmaxq_u32(max, vandq_u32(vreinterpretq_u32_f32(vld1q_f32(x + i)), vdupq_n_u32(0x7fffffff)));
    return max;
}

/* 32 inputs of a group whose largest magnitude has these bits. */
static void quantize_half(const float *x, uint32_t max_bits, int8_t *codes, float *scale, int16_t *offset8)
{
    float amax = infer_ref_float_from_bits(max_bits), inverse;
    int16x4_t all[4];
    int8x16_t low, high;
    int16x8_t pairs;
    int16x4_t sum;

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
        for (uint32_t k = at.col0; k < at.col1; k += a->group) {
            bool plain = a->k - k >= a->group && !a->factors && !(a->threshold > 0);
            uint32_t halves = a->group == 64 && a->k - k > 32 ? 2 : 1, max;
            uint32x4_t largest = vdupq_n_u32(0);
            const float *in = x + k;
            float copy[64] = {0};
            for (uint32_t i = 0; !plain && i < a->group && k + i < a->k; i++) {
                copy[i] = a->factors ? x[k + i] * a->factors[k + i] : x[k + i];
                copy[i] = fabsf(copy[i]) < a->threshold ? 0 : copy[i];
                in = copy;
            }
            for (uint32_t h = 0; h < halves; h++)
                largest = larger_magnitudes(largest, in + 32 * h);
            max = vmaxvq_u32(largest);
            for (uint32_t h = 0; h < halves; h++) {
                size_t g = t * row_groups + k / 32 + h;
                quantize_half(in + 32 * h, max, a->y.codes + 32 * g, a->y.scales + g, a->y.offset8 + 2 * g);
            }
        }
    }
}
