/*
 * y = x w^T, weights t2r, activations q8, without dot product instructions. Codes 0..3 are multiplied as they are and summed in 16 bits over the
 * whole group; the 1 comes off by starting the sums at an eighth of offset8. Per 16-bit lane (one row, one k mod 4): at most 16 x 127 = 2032 to start
 * from and 8 products of at most 3 x 127 = 3048 together; after the pairwise addition at most 10160: it fits.
 */
#include "matmul_int.h"

static inline void group_t2r(infer_int_sums sum, const uint8_t *w, const int8_t *const *codes, const int16_t *const *offset8,
                             uint32_t tokens, uint32_t vectors)
{
    int16x8_t lanes[INFER_INT_MAX_TOKENS][2 * INFER_INT_MAX_VECTORS]; /* two rows x four k mod 4 */

#pragma GCC unroll 4
    for (uint32_t t = 0; t < tokens; t++) {
        /* Each of the two numbers fills a 32-bit place: lane k mod 4 = 0 or 2 gets it, lane 1 or 3 gets 0. */
        uint64_t start = (uint64_t)(uint16_t)(offset8[t][1] / 8) << 32 | (uint16_t)(offset8[t][0] / 8);
#pragma GCC unroll 8
        for (uint32_t v = 0; v < 2 * vectors; v++)
            lanes[t][v] = vreinterpretq_s16_u64(vdupq_n_u64(start));
    }
    for (uint32_t c = 0; c < 2; c++, w += INFER_TILE_BYTES) {
#pragma GCC unroll 4
        for (uint32_t v = 0; v < vectors; v++) {
            const uint8x16_t low = vdupq_n_u8(3);
            uint8x16_t bytes = vld1q_u8(w + 16 * v);
            int8x16_t rows[4] = {vreinterpretq_s8_u8(vandq_u8(bytes, low)), vreinterpretq_s8_u8(vandq_u8(vshrq_n_u8(bytes, 2), low)),
                                 vreinterpretq_s8_u8(vandq_u8(vshrq_n_u8(bytes, 4), low)), vreinterpretq_s8_u8(vshrq_n_u8(bytes, 6))};
#pragma GCC unroll 4
            for (uint32_t t = 0; t < tokens; t++) {
                int32x4_t inputs = vreinterpretq_s32_s8(vld1q_s8(codes[t] + 16 * c));
                int8x16_t x[4] = {vreinterpretq_s8_s32(vdupq_laneq_s32(inputs, 0)), vreinterpretq_s8_s32(vdupq_laneq_s32(inputs, 1)),
                                  vreinterpretq_s8_s32(vdupq_laneq_s32(inputs, 2)), vreinterpretq_s8_s32(vdupq_laneq_s32(inputs, 3))};
#pragma GCC unroll 4
                for (uint32_t b = 0; b < 4; b++) {
                    lanes[t][2 * v] = vmlal_s8(lanes[t][2 * v], vget_low_s8(rows[b]), vget_low_s8(x[b]));
                    lanes[t][2 * v + 1] = vmlal_high_s8(lanes[t][2 * v + 1], rows[b], x[b]);
                }
            }
        }
    }
#pragma GCC unroll 4
    for (uint32_t t = 0; t < tokens; t++)
#pragma GCC unroll 4
        for (uint32_t v = 0; v < vectors; v++)
            sum[t][v] = vpaddlq_s16(vpaddq_s16(lanes[t][2 * v], lanes[t][2 * v + 1]));
}

void matmul_t2r_tile16x4__neon(const void *args, infer_region at)
{
    infer_int_matmul(args, at, INFER_INT_T2R, group_t2r, 2, 4);
}
