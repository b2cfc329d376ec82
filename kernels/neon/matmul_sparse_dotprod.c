/* y = x w^T, weights in bcsr16x1, bcsr16x4, csr and bitmask, with SDOT: a unit is four of its operands. q4g64: nibbles 0..15 as they are,
 * and 8 x the activations taken off by starting there. */
#include "matmul_sparse.h"

INFER_ALWAYS_INLINE void block_sums(int32x4_t sum[INFER_SPARSE_MAX_TOKENS][4], const uint8_t *values, uint32_t units,
                                    const infer_sparse_x *x, uint32_t tokens, bool nibbles)
{
#pragma GCC unroll 4
    for (uint32_t t = 0; t < tokens; t++)
#pragma GCC unroll 4
        for (uint32_t v = 0; v < 4; v++)
            sum[t][v] = vdupq_n_s32(nibbles ? -8 * x[t].sum : 0);
    for (uint32_t q = 0; q < units; q++, values += nibbles ? 32 : 64) {
        int8x16_t rows[4];
#pragma GCC unroll 4
        for (uint32_t v = 0; v < 4; v++) {
            uint8x16_t bytes = vld1q_u8(values + 16 * (nibbles ? v % 2 : v));
            rows[v] = vreinterpretq_s8_u8(!nibbles ? bytes : v < 2 ? vandq_u8(bytes, vdupq_n_u8(15)) : vshrq_n_u8(bytes, 4));
        }
#pragma GCC unroll 4
        for (uint32_t t = 0; t < tokens; t++) {
            int8x16_t four = infer_sparse_four(x[t].x + 4 * q);
#pragma GCC unroll 4
            for (uint32_t v = 0; v < 4; v++)
                sum[t][v] = vdotq_s32(sum[t][v], rows[v], four);
        }
    }
}

INFER_ALWAYS_INLINE void block_q8g64(int32x4_t sum[INFER_SPARSE_MAX_TOKENS][4], const uint8_t *values, uint32_t units,
                                     const infer_sparse_x *x, uint32_t tokens)
{
    block_sums(sum, values, units, x, tokens, false);
}

INFER_ALWAYS_INLINE void block_q4g64(int32x4_t sum[INFER_SPARSE_MAX_TOKENS][4], const uint8_t *values, uint32_t units,
                                     const infer_sparse_x *x, uint32_t tokens)
{
    block_sums(sum, values, units, x, tokens, true);
}

void matmul_q8g64_bcsr16x1__neon_dotprod(const void *args, infer_region at)
{
    infer_sparse_matmul(args, at, INFER_QTYPE_Q8G64, INFER_LAYOUT_BCSR16X1, block_q8g64, INFER_SPARSE_MAX_TOKENS);
}
void matmul_q4g64_bcsr16x1__neon_dotprod(const void *args, infer_region at)
{
    infer_sparse_matmul(args, at, INFER_QTYPE_Q4G64, INFER_LAYOUT_BCSR16X1, block_q4g64, INFER_SPARSE_MAX_TOKENS);
}
void matmul_q8g64_bcsr16x4__neon_dotprod(const void *args, infer_region at)
{
    infer_sparse_matmul(args, at, INFER_QTYPE_Q8G64, INFER_LAYOUT_BCSR16X4, block_q8g64, INFER_SPARSE_MAX_TOKENS);
}
void matmul_q4g64_bcsr16x4__neon_dotprod(const void *args, infer_region at)
{
    infer_sparse_matmul(args, at, INFER_QTYPE_Q4G64, INFER_LAYOUT_BCSR16X4, block_q4g64, INFER_SPARSE_MAX_TOKENS);
}
void matmul_q8g64_csr__neon_dotprod(const void *args, infer_region at)
{
    infer_sparse_matmul(args, at, INFER_QTYPE_Q8G64, INFER_LAYOUT_CSR, block_q8g64, INFER_SPARSE_MAX_TOKENS);
}
void matmul_q4g64_csr__neon_dotprod(const void *args, infer_region at)
{
    infer_sparse_matmul(args, at, INFER_QTYPE_Q4G64, INFER_LAYOUT_CSR, block_q8g64, INFER_SPARSE_MAX_TOKENS);
}
void matmul_q8g64_bitmask__neon_dotprod(const void *args, infer_region at)
{
    infer_sparse_matmul(args, at, INFER_QTYPE_Q8G64, INFER_LAYOUT_BITMASK, block_q8g64, INFER_SPARSE_MAX_TOKENS);
}
void matmul_q4g64_bitmask__neon_dotprod(const void *args, infer_region at)
{
    infer_sparse_matmul(args, at, INFER_QTYPE_Q4G64, INFER_LAYOUT_BITMASK, block_q8g64, INFER_SPARSE_MAX_TOKENS);
}
