/*
 * The integer matmuls of level neon-dotprod. SDOT by lane: four inputs of four rows times one 4-byte lane of the activations. Counted in
 * the code of gcc 12, per group of 4 tokens x 8 rows: 144 instructions for q8g32, 64 of them SDOT (1,024 products); 167 for q4g32.
 *
 * There is no kernel with SMMLA (level neon-i8mm). It needs half as many multiplications, 32, but its operands have to be zipped together
 * from two tiles and two tokens and its results unzipped, 32 instructions on the same pipes, and the multiply-adds with the scales stay:
 * tried, 142 instructions for q8g32 and 192 for q4g32.
 */
#include "matmul_int.h"

/* Lane c of x, a compile-time constant once the loops are unrolled. */
INFER_ALWAYS_INLINE int32x4_t dot_lane(int32x4_t sum, int8x16_t w, int8x16_t x, uint32_t c)
{
    switch (c) {
    case 0:
        return vdotq_laneq_s32(sum, w, x, 0);
    case 1:
        return vdotq_laneq_s32(sum, w, x, 1);
    case 2:
        return vdotq_laneq_s32(sum, w, x, 2);
    default:
        return vdotq_laneq_s32(sum, w, x, 3);
    }
}

/* The weights of two tiles of 4-bit codes: as unsigned codes, or (n4g32) as the values they stand for. */
INFER_ALWAYS_INLINE void nibble_tiles(int8x16_t w[2], const uint8_t *at, bool n4)
{
    uint8x16_t bytes = vld1q_u8(at), low = vandq_u8(bytes, vdupq_n_u8(15)), high = vshrq_n_u8(bytes, 4);
    const int8x16_t values = vld1q_s8(infer_n4_values);

    w[0] = n4 ? vqtbl1q_s8(values, low) : vreinterpretq_s8_u8(low);
    w[1] = n4 ? vqtbl1q_s8(values, high) : vreinterpretq_s8_u8(high);
}

static inline void group_q8g32(infer_int_sums sum, const uint8_t *w, const int8_t *const *codes, const int16_t *const *offset8,
                               uint32_t tokens, uint32_t vectors)
{
    (void)offset8;
#pragma GCC unroll 2
    for (uint32_t half = 0; half < 2; half++) {
        int8x16_t x[INFER_INT_MAX_TOKENS];
#pragma GCC unroll 4
        for (uint32_t t = 0; t < tokens; t++)
            x[t] = vld1q_s8(codes[t] + 16 * half);
#pragma GCC unroll 4
        for (uint32_t c = 0; c < 4; c++, w += INFER_TILE_BYTES) {
#pragma GCC unroll 4
            for (uint32_t v = 0; v < vectors; v++) {
                int8x16_t rows = vreinterpretq_s8_u8(vld1q_u8(w + 16 * v));
#pragma GCC unroll 4
                for (uint32_t t = 0; t < tokens; t++)
                    sum[t][v] = dot_lane(half == 0 && c == 0 ? vdupq_n_s32(0) : sum[t][v], rows, x[t], c);
            }
        }
    }
}

INFER_ALWAYS_INLINE void group_nibbles(infer_int_sums sum, const uint8_t *w, const int8_t *const *codes, const int16_t *const *offset8,
                                       uint32_t tokens, uint32_t vectors, bool n4)
{
#pragma GCC unroll 4
    for (uint32_t t = 0; t < tokens; t++)
#pragma GCC unroll 4
        for (uint32_t v = 0; v < vectors; v++)
            sum[t][v] = vdupq_n_s32(n4 ? 0 : offset8[t][0] + offset8[t][1]);
#pragma GCC unroll 2
    for (uint32_t half = 0; half < 2; half++) {
        int8x16_t x[INFER_INT_MAX_TOKENS];
#pragma GCC unroll 4
        for (uint32_t t = 0; t < tokens; t++)
            x[t] = vld1q_s8(codes[t] + 16 * half);
#pragma GCC unroll 2
        for (uint32_t c = 0; c < 4; c += 2, w += INFER_TILE_BYTES) {
#pragma GCC unroll 4
            for (uint32_t v = 0; v < vectors; v++) {
                int8x16_t rows[2];
                nibble_tiles(rows, w + 16 * v, n4);
#pragma GCC unroll 4
                for (uint32_t t = 0; t < tokens; t++)
                    sum[t][v] = dot_lane(dot_lane(sum[t][v], rows[0], x[t], c), rows[1], x[t], c + 1);
            }
        }
    }
}

/* Nibbles 0..15 as they are; the offset of 8 comes off by starting at -8 x the sum of the activations. */
static inline void group_q4g32(infer_int_sums sum, const uint8_t *w, const int8_t *const *codes, const int16_t *const *offset8,
                               uint32_t tokens, uint32_t vectors)
{
    group_nibbles(sum, w, codes, offset8, tokens, vectors, false);
}

static inline void group_n4g32(infer_int_sums sum, const uint8_t *w, const int8_t *const *codes, const int16_t *const *offset8,
                               uint32_t tokens, uint32_t vectors)
{
    group_nibbles(sum, w, codes, offset8, tokens, vectors, true);
}

/* Codes 0..2 as they are, and 1 off by starting at -1 x the sum of the activations. */
static inline void group_t2r(infer_int_sums sum, const uint8_t *w, const int8_t *const *codes, const int16_t *const *offset8,
                             uint32_t tokens, uint32_t vectors)
{
#pragma GCC unroll 4
    for (uint32_t t = 0; t < tokens; t++)
#pragma GCC unroll 4
        for (uint32_t v = 0; v < vectors; v++)
            sum[t][v] = vdupq_n_s32((offset8[t][0] + offset8[t][1]) / 8);
#pragma GCC unroll 2
    for (uint32_t half = 0; half < 2; half++, w += INFER_TILE_BYTES) {
        int8x16_t x[INFER_INT_MAX_TOKENS];
#pragma GCC unroll 4
        for (uint32_t t = 0; t < tokens; t++)
            x[t] = vld1q_s8(codes[t] + 16 * half);
#pragma GCC unroll 4
        for (uint32_t v = 0; v < vectors; v++) {
            const uint8x16_t low = vdupq_n_u8(3);
            uint8x16_t bytes = vld1q_u8(w + 16 * v);
            int8x16_t rows[4] = {vreinterpretq_s8_u8(vandq_u8(bytes, low)), vreinterpretq_s8_u8(vandq_u8(vshrq_n_u8(bytes, 2), low)),
                                 vreinterpretq_s8_u8(vandq_u8(vshrq_n_u8(bytes, 4), low)), vreinterpretq_s8_u8(vshrq_n_u8(bytes, 6))};
#pragma GCC unroll 4
            for (uint32_t b = 0; b < 4; b++)
#pragma GCC unroll 4
                for (uint32_t t = 0; t < tokens; t++)
                    sum[t][v] = dot_lane(sum[t][v], rows[b], x[t], b);
        }
    }
}

void matmul_q8g32_tile16x4__neon_dotprod(const void *args, infer_region at)
{
    infer_int_matmul(args, at, INFER_INT_Q8G32, group_q8g32, 4, 2);
}

void matmul_q4g32_tile16x4__neon_dotprod(const void *args, infer_region at)
{
    infer_int_matmul(args, at, INFER_INT_Q4G32, group_q4g32, 4, 2);
}

void matmul_n4g32_tile16x4__neon_dotprod(const void *args, infer_region at)
{
    infer_int_matmul(args, at, INFER_INT_Q4G32, group_n4g32, 4, 2);
}

void matmul_t2r_tile16x4__neon_dotprod(const void *args, infer_region at)
{
    infer_int_matmul(args, at, INFER_INT_T2R, group_t2r, 4, 2);
}
