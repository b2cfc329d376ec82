/*
 * y = x w^T, weights in bcsr16x1, bcsr16x4, csr and bitmask, without dot product instructions: products of bytes in 16 bits. q4g64: nibbles
 * 0..15 as they are, a block's 17 units at most in one 16-bit sum (17 x 15 x 127 = 32385), and 8 x the activations taken off. q8g64: two
 * units, then widened: see matmul_q8g32.c.
 */
#include "matmul_sparse.h"

INFER_ALWAYS_INLINE void block_q4g64(int32x4_t sum[INFER_SPARSE_MAX_TOKENS][4], const uint8_t *values, uint32_t units,
                                     const infer_sparse_x *x, uint32_t tokens)
{
    int16x8_t lanes[8]; /* two rows x four inputs */

    (void)tokens; /* 1 */
#pragma GCC unroll 8
    for (uint32_t v = 0; v < 8; v++)
        lanes[v] = vdupq_n_s16(0);
    for (uint32_t q = 0; q < units; q++, values += 32) {
        int8x16_t four = infer_sparse_four(x->x + 4 * q);
#pragma GCC unroll 2
        for (uint32_t v = 0; v < 2; v++) {
            uint8x16_t bytes = vld1q_u8(values + 16 * v);
            int8x16_t low = vreinterpretq_s8_u8(vandq_u8(bytes, vdupq_n_u8(15))), high = vreinterpretq_s8_u8(vshrq_n_u8(bytes, 4));
            lanes[2 * v] = vmlal_s8(lanes[2 * v], vget_low_s8(low), vget_low_s8(four));
            lanes[2 * v + 1] = vmlal_high_s8(lanes[2 * v + 1], low, four);
            lanes[4 + 2 * v] = vmlal_s8(lanes[4 + 2 * v], vget_low_s8(high), vget_low_s8(four));
            lanes[5 + 2 * v] = vmlal_high_s8(lanes[5 + 2 * v], high, four);
        }
    }
#pragma GCC unroll 4
    for (uint32_t v = 0; v < 4; v++)
        sum[0][v] = vsubq_s32(vpaddq_s32(vpaddlq_s16(lanes[2 * v]), vpaddlq_s16(lanes[2 * v + 1])), vdupq_n_s32(8 * x->sum));
}

INFER_ALWAYS_INLINE void block_q8g64(int32x4_t sum[INFER_SPARSE_MAX_TOKENS][4], const uint8_t *values, uint32_t units,
                                     const infer_sparse_x *x, uint32_t tokens)
{
    int32x4_t pairs[8]; /* two rows x two pairs of inputs */

    (void)tokens; /* 1 */
#pragma GCC unroll 8
    for (uint32_t v = 0; v < 8; v++)
        pairs[v] = vdupq_n_s32(0);
    for (uint32_t q = 0; q < units; q += 2, values += 128) {
        const uint8_t *second = values + (q + 1 < units ? 64 : 0); /* where there is none, any times zeros */
        int8x16_t x0 = infer_sparse_four(x->x + 4 * q), x1 = infer_sparse_four(x->x + 4 * q + 4);
#pragma GCC unroll 4
        for (uint32_t v = 0; v < 4; v++) {
            int8x16_t w0 = vreinterpretq_s8_u8(vld1q_u8(values + 16 * v)), w1 = vreinterpretq_s8_u8(vld1q_u8(second + 16 * v));
            int16x8_t low = vmlal_s8(vmull_s8(vget_low_s8(w0), vget_low_s8(x0)), vget_low_s8(w1), vget_low_s8(x1));
            int16x8_t high = vmlal_high_s8(vmull_high_s8(w0, x0), w1, x1);
            pairs[2 * v] = vpadalq_s16(pairs[2 * v], low);
            pairs[2 * v + 1] = vpadalq_s16(pairs[2 * v + 1], high);
        }
    }
#pragma GCC unroll 4
    for (uint32_t v = 0; v < 4; v++)
        sum[0][v] = vpaddq_s32(pairs[2 * v], pairs[2 * v + 1]);
}

void matmul_q8g64_bcsr16x1__neon(const void *args, infer_region at)
{
    infer_sparse_matmul(args, at, INFER_QTYPE_Q8G64, INFER_LAYOUT_BCSR16X1, block_q8g64, 1);
}
void matmul_q4g64_bcsr16x1__neon(const void *args, infer_region at)
{
    infer_sparse_matmul(args, at, INFER_QTYPE_Q4G64, INFER_LAYOUT_BCSR16X1, block_q4g64, 1);
}
void matmul_q8g64_bcsr16x4__neon(const void *args, infer_region at)
{
    infer_sparse_matmul(args, at, INFER_QTYPE_Q8G64, INFER_LAYOUT_BCSR16X4, block_q8g64, 1);
}
void matmul_q4g64_bcsr16x4__neon(const void *args, infer_region at)
{
    infer_sparse_matmul(args, at, INFER_QTYPE_Q4G64, INFER_LAYOUT_BCSR16X4, block_q4g64, 1);
}
void matmul_q8g64_csr__neon(const void *args, infer_region at)
{
    infer_sparse_matmul(args, at, INFER_QTYPE_Q8G64, INFER_LAYOUT_CSR, block_q8g64, 1);
}
void matmul_q4g64_csr__neon(const void *args, infer_region at)
{
    infer_sparse_matmul(args, at, INFER_QTYPE_Q4G64, INFER_LAYOUT_CSR, block_q8g64, 1);
}
void matmul_q8g64_bitmask__neon(const void *args, infer_region at)
{
    infer_sparse_matmul(args, at, INFER_QTYPE_Q8G64, INFER_LAYOUT_BITMASK, block_q8g64, 1);
}
void matmul_q4g64_bitmask__neon(const void *args, infer_region at)
{
    infer_sparse_matmul(args, at, INFER_QTYPE_Q4G64, INFER_LAYOUT_BITMASK, block_q8g64, 1);
}
