/*
 * y = x w^T, weights q8g32 and n4g32, activations q8, without dot product instructions: products of bytes in 16 bits, two tiles added before they
 * are widened. |weight| <= 128 and |activation| <= 127, so a sum of two products is at most 2 x 128 x 127 = 32512: it fits. The nibbles of a stored
 * tile of n4g32 are two tiles, which TBL turns into values.
 *
 * The multiplications dominate: blocks of tokens would save loads, but their sums spill (13 instructions an output and group at 2 x 16, 11
 * at 1 x 16), so tokens go one by one and the panel comes from the cache.
 */
#include "matmul_int.h"

INFER_ALWAYS_INLINE void group_sums(infer_int_sums sum, const uint8_t *w, const int8_t *const *codes, uint32_t tokens, uint32_t vectors, bool n4)
{
    const int8x16_t values = vld1q_s8(infer_n4_values);
    int32x4_t pairs[INFER_INT_MAX_TOKENS][2 * INFER_INT_MAX_VECTORS]; /* lanes: row 0 inputs 0 + 1, 2 + 3, row 1 the same */

#pragma GCC unroll 4
    for (uint32_t c = 0; c < 8; c += 2, w += (size_t)(n4 ? 1 : 2) * INFER_TILE_BYTES) {
        int8x16_t x0[INFER_INT_MAX_TOKENS], x1[INFER_INT_MAX_TOKENS]; /* a tile's four codes, in all four places */
#pragma GCC unroll 4
        for (uint32_t t = 0; t < tokens; t++) {
            int32x2_t both = vreinterpret_s32_s8(vld1_s8(codes[t] + 4 * c));
            x0[t] = vreinterpretq_s8_s32(vdupq_lane_s32(both, 0));
            x1[t] = vreinterpretq_s8_s32(vdupq_lane_s32(both, 1));
        }
#pragma GCC unroll 4
        for (uint32_t v = 0; v < vectors; v++) {
            uint8x16_t bytes = vld1q_u8(w + 16 * v);
            int8x16_t w0 = n4 ? vqtbl1q_s8(values, vandq_u8(bytes, vdupq_n_u8(15))) : vreinterpretq_s8_u8(bytes);
            int8x16_t w1 = n4 ? vqtbl1q_s8(values, vshrq_n_u8(bytes, 4)) : vreinterpretq_s8_u8(vld1q_u8(w + INFER_TILE_BYTES + 16 * v));
#pragma GCC unroll 4
            for (uint32_t t = 0; t < tokens; t++) {
                int16x8_t low = vmlal_s8(vmull_s8(vget_low_s8(w0), vget_low_s8(x0[t])), vget_low_s8(w1), vget_low_s8(x1[t]));
                int16x8_t high = vmlal_high_s8(vmull_high_s8(w0, x0[t]), w1, x1[t]);
                pairs[t][2 * v] = c == 0 ? vpaddlq_s16(low) : vpadalq_s16(pairs[t][2 * v], low);
                pairs[t][2 * v + 1] = c == 0 ? vpaddlq_s16(high) : vpadalq_s16(pairs[t][2 * v + 1], high);
            }
        }
    }
#pragma GCC unroll 4
    for (uint32_t t = 0; t < tokens; t++)
#pragma GCC unroll 4
        for (uint32_t v = 0; v < vectors; v++)
            sum[t][v] = vpaddq_s32(pairs[t][2 * v], pairs[t][2 * v + 1]);
}

static inline void group_q8g32(infer_int_sums sum, const uint8_t *w, const int8_t *const *codes, const int16_t *const *offset8,
                               uint32_t tokens, uint32_t vectors)
{
    (void)offset8;
    group_sums(sum, w, codes, tokens, vectors, false);
}

static inline void group_n4g32(infer_int_sums sum, const uint8_t *w, const int8_t *const *codes, const int16_t *const *offset8,
                               uint32_t tokens, uint32_t vectors)
{
    (void)offset8;
    group_sums(sum, w, codes, tokens, vectors, true);
}

void matmul_q8g32_tile16x4__neon(const void *args, infer_region at)
{
    infer_int_matmul(args, at, INFER_INT_Q8G32, group_q8g32, 1, 4);
}

void matmul_n4g32_tile16x4__neon(const void *args, infer_region at)
{
    infer_int_matmul(args, at, INFER_INT_Q4G32, group_n4g32, 1, 4);
}
