/*
 * The integer matmuls of level neon-i8mm. SMMLA multiplies two rows x eight inputs with two tokens x eight inputs: twice the products of SDOT
 * in one instruction. Its operands are zipped together from two tiles and from two tokens' codes; the four sums of a result (two rows x two
 * tokens) are put back into vectors of rows once a group. One token alone would leave half of it idle and takes SDOT.
 */
#include "dotprod.h"

/* Rows 0, 1 and rows 2, 3 of eight inputs, from the tiles of inputs 0..3 and 4..7. */
INFER_ALWAYS_INLINE void zip_rows(int8x16_t first, int8x16_t second, int8x16_t pairs[2])
{
    int32x4_t a = vreinterpretq_s32_s8(first), b = vreinterpretq_s32_s8(second);

    pairs[0] = vreinterpretq_s8_s32(vzip1q_s32(a, b));
    pairs[1] = vreinterpretq_s8_s32(vzip2q_s32(a, b));
}

/* Sixteen codes of two tokens -> inputs 0..7 and 8..15 of both. */
INFER_ALWAYS_INLINE void zip_tokens(const int8_t *first, const int8_t *second, int8x16_t pairs[2])
{
    int64x2_t a = vreinterpretq_s64_s8(vld1q_s8(first)), b = vreinterpretq_s64_s8(vld1q_s8(second));

    pairs[0] = vreinterpretq_s8_s64(vzip1q_s64(a, b));
    pairs[1] = vreinterpretq_s8_s64(vzip2q_s64(a, b));
}

/* square[p][v][h]: tokens 2p, 2p + 1 x rows 4v + 2h, 4v + 2h + 1, as {row 0 token 0, row 0 token 1, row 1 token 0, row 1 token 1}. */
typedef int32x4_t squares[INFER_INT_MAX_TOKENS / 2][INFER_INT_MAX_VECTORS][2];

INFER_ALWAYS_INLINE void unzip(infer_int_sums sum, squares square, uint32_t tokens, uint32_t vectors)
{
#pragma GCC unroll 2
    for (uint32_t p = 0; p < tokens / 2; p++) {
#pragma GCC unroll 4
        for (uint32_t v = 0; v < vectors; v++) {
            sum[2 * p][v] = vuzp1q_s32(square[p][v][0], square[p][v][1]);
            sum[2 * p + 1][v] = vuzp2q_s32(square[p][v][0], square[p][v][1]);
        }
    }
}

INFER_ALWAYS_INLINE void multiply(squares square, uint32_t v, int8x16_t first, int8x16_t second, int8x16_t x[][2], uint32_t step,
                                  uint32_t tokens)
{
    int8x16_t rows[2];

    zip_rows(first, second, rows);
#pragma GCC unroll 2
    for (uint32_t p = 0; p < tokens / 2; p++) {
        square[p][v][0] = vmmlaq_s32(square[p][v][0], rows[0], x[p][step]);
        square[p][v][1] = vmmlaq_s32(square[p][v][1], rows[1], x[p][step]);
    }
}

INFER_ALWAYS_INLINE void group_q8g32(infer_int_sums sum, const uint8_t *w, const int8_t *const *codes, const int16_t *const *offset8,
                                     uint32_t tokens, uint32_t vectors)
{
    squares square;

    if (tokens == 1) {
        infer_dot_group_q8g32(sum, w, codes, offset8, 1, vectors);
        return;
    }
#pragma GCC unroll 2
    for (uint32_t p = 0; p < tokens / 2; p++)
#pragma GCC unroll 4
        for (uint32_t v = 0; v < vectors; v++)
            square[p][v][0] = square[p][v][1] = vdupq_n_s32(0);
#pragma GCC unroll 2
    for (uint32_t half = 0; half < 2; half++) {
        int8x16_t x[INFER_INT_MAX_TOKENS / 2][2];
#pragma GCC unroll 2
        for (uint32_t p = 0; p < tokens / 2; p++)
            zip_tokens(codes[2 * p] + 16 * half, codes[2 * p + 1] + 16 * half, x[p]);
#pragma GCC unroll 2
        for (uint32_t step = 0; step < 2; step++, w += (size_t)2 * INFER_TILE_BYTES)
#pragma GCC unroll 4
            for (uint32_t v = 0; v < vectors; v++)
                multiply(square, v, vreinterpretq_s8_u8(vld1q_u8(w + 16 * v)),
                         vreinterpretq_s8_u8(vld1q_u8(w + INFER_TILE_BYTES + 16 * v)), x, step, tokens);
    }
    unzip(sum, square, tokens, vectors);
}

INFER_ALWAYS_INLINE void group_q4g32(infer_int_sums sum, const uint8_t *w, const int8_t *const *codes, const int16_t *const *offset8,
                                     uint32_t tokens, uint32_t vectors)
{
    squares square;

    if (tokens == 1) {
        infer_dot_group_q4g32(sum, w, codes, offset8, 1, vectors);
        return;
    }
#pragma GCC unroll 2
    for (uint32_t p = 0; p < tokens / 2; p++) {
        /* -8 x the sum of the activations, for the offset of the nibbles */
        int32_t first = offset8[2 * p][0] + offset8[2 * p][1], second = offset8[2 * p + 1][0] + offset8[2 * p + 1][1];
        int32x4_t start = vzip1q_s32(vdupq_n_s32(first), vdupq_n_s32(second));
#pragma GCC unroll 4
        for (uint32_t v = 0; v < vectors; v++)
            square[p][v][0] = square[p][v][1] = start;
    }
#pragma GCC unroll 2
    for (uint32_t half = 0; half < 2; half++) {
        int8x16_t x[INFER_INT_MAX_TOKENS / 2][2];
#pragma GCC unroll 2
        for (uint32_t p = 0; p < tokens / 2; p++)
            zip_tokens(codes[2 * p] + 16 * half, codes[2 * p + 1] + 16 * half, x[p]);
#pragma GCC unroll 2
        for (uint32_t step = 0; step < 2; step++, w += INFER_TILE_BYTES) {
#pragma GCC unroll 4
            for (uint32_t v = 0; v < vectors; v++) {
                uint8x16_t bytes = vld1q_u8(w + 16 * v);
                multiply(square, v, vreinterpretq_s8_u8(vandq_u8(bytes, vdupq_n_u8(15))), vreinterpretq_s8_u8(vshrq_n_u8(bytes, 4)), x, step,
                         tokens);
            }
        }
    }
    unzip(sum, square, tokens, vectors);
}

void matmul_q8g32_tile16x4__neon_i8mm(const void *args, infer_region at)
{
    infer_int_matmul(args, at, INFER_TILE_Q8_GROUP_BYTES, group_q8g32);
}

void matmul_q4g32_tile16x4__neon_i8mm(const void *args, infer_region at)
{
    infer_int_matmul(args, at, INFER_TILE_Q4_GROUP_BYTES, group_q4g32);
}
