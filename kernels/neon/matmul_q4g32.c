/*
 * y = x w^T, weights q4g32, activations q8, without dot product instructions. Nibbles 0..15 are multiplied as they are and summed in 16
 * bits over the whole group; the offset of 8 comes off by starting the sums at offset8. Per 16-bit lane (one row, one k mod 4): |offset8|
 * <= 8 x 16 x 127 = 16256, 8 products of at most 15 x 127 = 15240 together, so at most 31496: it fits. After the pairwise addition (k mod 4
 * in {0, 1}, {2, 3}) a lane is a sum of 16 products of -8..7 and a code, at most 16256.
 */
#include "matmul_int.h"

static inline void group_q4g32(infer_int_sums sum, const uint8_t *w, const int8_t *const *codes, const int16_t *const *offset8,
                               uint32_t tokens, uint32_t vectors)
{
    int16x8_t lanes[INFER_INT_MAX_TOKENS][2 * INFER_INT_MAX_VECTORS]; /* two rows x four k mod 4 */

#pragma GCC unroll 4
    for (uint32_t t = 0; t < tokens; t++) {
        /* Each of the two numbers fills a 32-bit place: lane k mod 4 = 0 or 2 gets it, lane 1 or 3 gets 0. */
        uint64_t start = (uint64_t)(uint16_t)offset8[t][1] << 32 | (uint16_t)offset8[t][0];
#pragma GCC unroll 8
        for (uint32_t v = 0; v < 2 * vectors; v++)
            lanes[t][v] = vreinterpretq_s16_u64(vdupq_n_u64(start));
    }
    for (uint32_t c = 0; c < 4; c++, w += INFER_TILE_BYTES) {
        int8x16_t x0[INFER_INT_MAX_TOKENS], x1[INFER_INT_MAX_TOKENS]; /* codes 8c..8c+3 and 8c+4..8c+7, in all four places */
#pragma GCC unroll 4
        for (uint32_t t = 0; t < tokens; t++) {
            int32x2_t both = vreinterpret_s32_s8(vld1_s8(codes[t] + 8 * c));
            x0[t] = vreinterpretq_s8_s32(vdupq_lane_s32(both, 0));
            x1[t] = vreinterpretq_s8_s32(vdupq_lane_s32(both, 1));
        }
#pragma GCC unroll 4
        for (uint32_t v = 0; v < vectors; v++) {
            uint8x16_t bytes = vld1q_u8(w + 16 * v);
            int8x16_t w0 = vreinterpretq_s8_u8(vandq_u8(bytes, vdupq_n_u8(15))), w1 = vreinterpretq_s8_u8(vshrq_n_u8(bytes, 4));
#pragma GCC unroll 4
            for (uint32_t t = 0; t < tokens; t++) {
                int16x8_t low = vmlal_s8(lanes[t][2 * v], vget_low_s8(w0), vget_low_s8(x0[t]));
                int16x8_t high = vmlal_high_s8(lanes[t][2 * v + 1], w0, x0[t]);
                lanes[t][2 * v] = vmlal_s8(low, vget_low_s8(w1), vget_low_s8(x1[t]));
                lanes[t][2 * v + 1] = vmlal_high_s8(high, w1, x1[t]);
            }
        }
    }
#pragma GCC unroll 4
    for (uint32_t t = 0; t < tokens; t++)
#pragma GCC unroll 4
        for (uint32_t v = 0; v < vectors; v++)
            sum[t][v] = vpaddlq_s16(vpaddq_s16(lanes[t][2 * v], lanes[t][2 * v + 1]));
}

void matmul_q4g32_tile16x4__neon(const void *args, infer_region at)
{
    infer_int_matmul(args, at, INFER_INT_Q4G32, group_q4g32, 2, 4);
}
