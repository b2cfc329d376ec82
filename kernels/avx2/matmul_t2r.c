/*
 * y = x w^T, weights t2r. Codes 0..2 are unsigned and activations signed, which is what vpmaddubsw multiplies; a group's sums stay in 16-bit
 * lanes (8 products of pairs, each at most 2 x 3 x 127) that start from an eighth of the group's offset8 pair, which turns the codes into -1..1. One
 * vpmaddwd joins the two lanes of an output (inputs k mod 4 in {0, 1} and {2, 3}). The scales of the rows wait until the end.
 *
 * Four tokens at a time, panel by panel: 2,048 inputs are 8 KB of codes, which stay in L1 for all tokens, and taking them apart is three
 * instructions for every eight products of a token.
 */
#include "kernels.h"
#include "tile16x4.h"
#include "vector.h"

enum { TOKENS = 4 }; /* register block: 2 accumulators a token, 2 weights, 1 activation */

/* y += float(sums) * activation scale, 8 rows */
ALWAYS_INLINE __m256 add_group(__m256 y, __m256i sums, __m256 x_scale)
{
    return _mm256_fmadd_ps(_mm256_cvtepi32_ps(_mm256_madd_epi16(sums, _mm256_set1_epi16(1))), x_scale, y);
}

/* One panel x `tokens` tokens from t0, a constant. */
ALWAYS_INLINE void multiply(const infer_matmul_args *a, const uint8_t *panel, uint32_t col, uint32_t col1, uint32_t t0, const uint32_t tokens)
{
    const __m256i low_bits = _mm256_set1_epi8(3);
    size_t groups = infer_q8_groups(a->k), row_groups = a->xq.row_groups;
    const int8_t *x = a->xq.codes + 32 * (t0 * row_groups);
    const float *x_scale = a->xq.scales + t0 * row_groups;
    const int16_t *offset8 = a->xq.offset8 + 2 * (t0 * row_groups);
    const uint8_t *group = panel + INFER_TILE_T2_HEAD_BYTES;
    __m256 scales0 = _mm256_loadu_ps((const float *)(const void *)panel), scales1 = _mm256_loadu_ps((const float *)(const void *)(panel + 32));
    __m256 y[TOKENS][2];

    for (uint32_t t = 0; t < tokens; t++)
        y[t][0] = y[t][1] = _mm256_setzero_ps();
    for (size_t g = 0; g < groups; g++, group += INFER_TILE_T2_GROUP_BYTES, x += 32, x_scale++, offset8 += 2) {
        __m256i sums[TOKENS][2];
        for (uint32_t t = 0; t < tokens; t++)
            sums[t][0] = sums[t][1] = _mm256_srai_epi16(broadcast_32(offset8 + 2 * (t * row_groups)), 3);
#pragma GCC unroll 2
        for (int c = 0; c < 2; c++) {
            __m256i bytes0 = load_256(group + 64 * c), bytes1 = load_256(group + 64 * c + 32);
#pragma GCC unroll 4
            for (int b = 0; b < 4; b++) {
                __m256i w0 = _mm256_and_si256(_mm256_srli_epi16(bytes0, 2 * b), low_bits);
                __m256i w1 = _mm256_and_si256(_mm256_srli_epi16(bytes1, 2 * b), low_bits);
                for (uint32_t t = 0; t < tokens; t++) {
                    __m256i inputs = broadcast_32(x + 32 * (t * row_groups) + 16 * c + 4 * b);
                    sums[t][0] = _mm256_add_epi16(sums[t][0], _mm256_maddubs_epi16(w0, inputs));
                    sums[t][1] = _mm256_add_epi16(sums[t][1], _mm256_maddubs_epi16(w1, inputs));
                }
            }
        }
        for (uint32_t t = 0; t < tokens; t++) {
            __m256 scale = _mm256_set1_ps(x_scale[t * row_groups]);
            y[t][0] = add_group(y[t][0], sums[t][0], scale);
            y[t][1] = add_group(y[t][1], sums[t][1], scale);
        }
    }
    for (uint32_t t = 0; t < tokens; t++)
        store_16(a->y + (size_t)(t0 + t) * a->y_stride + col, col1 - col, _mm256_mul_ps(y[t][0], scales0), _mm256_mul_ps(y[t][1], scales1));
}

void matmul_t2r_tile16x4__avx2(const void *args, infer_region at)
{
    const infer_matmul_args *a = args;
    size_t panel_bytes = INFER_TILE_T2_HEAD_BYTES + infer_q8_groups(a->k) * INFER_TILE_T2_GROUP_BYTES;
    const uint8_t *panel = (const uint8_t *)a->w + at.col0 / 16 * panel_bytes;

    for (uint32_t col = at.col0; col < at.col1; col += 16, panel += panel_bytes) {
        uint32_t t = at.row0;
        for (; at.row1 - t >= TOKENS; t += TOKENS)
            multiply(a, panel, col, at.col1, t, TOKENS);
        for (; t < at.row1; t++)
            multiply(a, panel, col, at.col1, t, 1);
    }
}
