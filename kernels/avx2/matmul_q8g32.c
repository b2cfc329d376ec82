/*
 * y = x w^T, weights q8g32: vpmaddubsw of |w| and x with the sign of w, whose pairs stay below 2^15 (128 x 127 x 2), joined by vpmaddwd. The
 * stored codes are used as they lie, for up to four tokens at once. Widening both sides to 16 bits for vpmaddwd alone looks better by the
 * count of operations; measured on Zen 4 with 8 to 256 tokens, with its doubled loads, it was a third slower.
 */
#include "kernels.h"
#include "tile16x4.h"
#include "vector.h"

enum {
    GROUP_BYTES = INFER_TILE_Q8_GROUP_BYTES,
    TOKENS = 4 /* register block: 2 accumulators a token, 2 weights and their magnitudes, 1 activation */
};

/* y += float(sums) * (weight scales * activation scale), 8 rows */
ALWAYS_INLINE __m256 add_group(__m256 y, __m256i sums, __m256 w_scales, __m256 x_scale)
{
    return _mm256_fmadd_ps(_mm256_cvtepi32_ps(sums), _mm256_mul_ps(w_scales, x_scale), y);
}

/* sums += 8 rows x 4 inputs */
ALWAYS_INLINE __m256i add_products(__m256i sums, __m256i magnitudes, __m256i w, __m256i x)
{
    __m256i pairs = _mm256_maddubs_epi16(magnitudes, _mm256_sign_epi8(x, w));
    return _mm256_add_epi32(sums, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
}

ALWAYS_INLINE void direct(const infer_matmul_args *a, uint32_t t0, const uint32_t tokens, uint32_t col0, uint32_t col1)
{
    size_t groups = infer_q8_groups(a->k), row_groups = a->xq.row_groups;
    const uint8_t *group = (const uint8_t *)a->w + col0 / 16 * groups * GROUP_BYTES;

    for (uint32_t o = col0; o < col1; o += 16) {
        const int8_t *x = a->xq.codes + 32 * (t0 * row_groups);
        __m256 y[TOKENS][2];
        for (uint32_t t = 0; t < tokens; t++)
            y[t][0] = y[t][1] = _mm256_setzero_ps();
        for (size_t g = 0; g < groups; g++, group += GROUP_BYTES, x += 32) {
            const float *x_scale = a->xq.scales + t0 * row_groups + g;
            __m256 scales0 = load_f16(group), scales1 = load_f16(group + 16);
            __m256i sums[TOKENS][2];
            for (uint32_t t = 0; t < tokens; t++)
                sums[t][0] = sums[t][1] = _mm256_setzero_si256();
            prefetch_weights(group, GROUP_BYTES);
#pragma GCC unroll 8
            for (int c = 0; c < 8; c++) {
                __m256i w0 = load_256(group + 32 + 64 * c), w1 = load_256(group + 64 + 64 * c);
                __m256i magnitudes0 = _mm256_abs_epi8(w0), magnitudes1 = _mm256_abs_epi8(w1);
                for (uint32_t t = 0; t < tokens; t++) {
                    __m256i inputs = broadcast_32(x + 32 * (t * row_groups) + 4 * c);
                    sums[t][0] = add_products(sums[t][0], magnitudes0, w0, inputs);
                    sums[t][1] = add_products(sums[t][1], magnitudes1, w1, inputs);
                }
            }
            for (uint32_t t = 0; t < tokens; t++) {
                __m256 scale = _mm256_set1_ps(x_scale[t * row_groups]);
                y[t][0] = add_group(y[t][0], sums[t][0], scales0, scale);
                y[t][1] = add_group(y[t][1], sums[t][1], scales1, scale);
            }
        }
        for (uint32_t t = 0; t < tokens; t++)
            store_16(a->y + (size_t)(t0 + t) * a->y_stride + o, col1 - o, y[t][0], y[t][1]);
    }
}

/* Tokens t0..t1, at most TOKENS. */
static void direct_tokens(const infer_matmul_args *a, uint32_t t0, uint32_t t1, uint32_t col0, uint32_t col1)
{
    switch (t1 - t0) {
    case 1:
        direct(a, t0, 1, col0, col1);
        break;
    case 2:
        direct(a, t0, 2, col0, col1);
        break;
    case 3:
        direct(a, t0, 3, col0, col1);
        break;
    case 4:
        direct(a, t0, 4, col0, col1);
    }
}

void matmul_q8g32_tile16x4__avx2(const void *args, infer_region at)
{
    if (at.row1 - at.row0 <= TOKENS) {
        direct_tokens(args, at.row0, at.row1, at.col0, at.col1);
        return;
    }
    for (uint32_t o = at.col0; o < at.col1; o += 16) /* a panel stays in the cache for all tokens */
        for (uint32_t t = at.row0; t < at.row1; t += TOKENS)
            direct_tokens(args, t, at.row1 - t < TOKENS ? at.row1 : t + TOKENS, o, at.col1 - o < 16 ? at.col1 : o + 16);
}
