/*
 * y = x w^T, weights q8g32: vpmaddubsw of |w| and x with the sign of w, whose pairs stay below 2^15 (128 x 127 x 2), joined by vpmaddwd. The
 * stored codes are used as they lie, for up to four tokens at once. Widening both sides to 16 bits for vpmaddwd alone looks better by the
 * count of operations; measured with 8 to 256 tokens, with its doubled loads, it was a third slower on Zen 4, and slower on Zen 3.
 */
#include "panels.h"
#include "tile16x4.h"

enum {
    GROUP_BYTES = INFER_TILE_Q8_GROUP_BYTES,
    AHEAD_BYTES = 6 << 10 /* from what is read to what is asked for, into L1 (measured) */
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

/*
 * Some tokens x one panel, what follows asked for; or (Zen) one token x some panels, which are read side by side, a line of each in turn, and what
 * lies at the same place of the panels behind them asked for, if that is not far: in long panels the hardware is better left alone.
 */
ALWAYS_INLINE void multiply(const infer_matmul_args *a, uint32_t t0, const uint32_t tokens, uint32_t o, const uint32_t panels, uint32_t col1)
{
    size_t groups = infer_q8_groups(a->k), row_groups = a->xq.row_groups, first = t0 * row_groups, panel_bytes = groups * GROUP_BYTES;
    const int8_t *x = a->xq.codes + 32 * first;
    const float *x_scale = a->xq.scales + first;
    const uint8_t *group = (const uint8_t *)a->w + o / 16 * panel_bytes;
    __m256 y[TOKENS][2]; /* [tokens, or panels] */

    for (uint32_t i = 0; i < panels + tokens - 1; i++)
        y[i][0] = y[i][1] = _mm256_setzero_ps();
    for (size_t g = 0; g < groups; g++, group += GROUP_BYTES, x += 32, x_scale++) {
        __m256i sums[TOKENS][2];
        if (panels == 1)
            prefetch(group + AHEAD_BYTES, GROUP_BYTES);
        for (uint32_t p = 0; p < panels; p++)
            for (uint32_t t = 0; t < tokens; t++)
                sums[p + t][0] = sums[p + t][1] = _mm256_setzero_si256();
#pragma GCC unroll 8
        for (int c = 0; c < 8; c++)
            for (uint32_t p = 0; p < panels; p++) {
                const uint8_t *tile = group + p * panel_bytes + 32 + 64 * c;
                __m256i w0 = load_256(tile), magnitudes0 = _mm256_abs_epi8(w0), w1 = load_256(tile + 32), magnitudes1 = _mm256_abs_epi8(w1);
                if (panels > 1 && panels * panel_bytes <= MOST_AHEAD)
                    prefetch_weights(tile + panels * panel_bytes, 64);
                for (uint32_t t = 0; t < tokens; t++) {
                    __m256i inputs = broadcast_32(x + 32 * (t * row_groups) + 4 * c);
                    sums[p + t][0] = add_products(sums[p + t][0], magnitudes0, w0, inputs);
                    sums[p + t][1] = add_products(sums[p + t][1], magnitudes1, w1, inputs);
                }
            }
        for (uint32_t p = 0; p < panels; p++)
            for (int half = 0; half < 2; half++) {
                __m256 scales = load_f16(group + p * panel_bytes + 16 * half);
                for (uint32_t t = 0; t < tokens; t++)
                    y[p + t][half] = add_group(y[p + t][half], sums[p + t][half], scales, _mm256_set1_ps(x_scale[t * row_groups]));
            }
    }
    for (uint32_t p = 0; p < panels && o + 16 * p < col1; p++)
        for (uint32_t t = 0; t < tokens; t++)
            store_16(a->y + (size_t)(t0 + t) * a->y_stride + o + 16 * p, col1 - o - 16 * p, y[p + t][0], y[p + t][1]);
}

ALWAYS_INLINE void one_token(const infer_matmul_args *a, infer_region at, uint32_t o, const uint32_t panels)
{
    multiply(a, at.row0, 1, o, panels, at.col1);
}

ALWAYS_INLINE void some_tokens(const infer_matmul_args *a, infer_region at, uint32_t o, uint32_t t0, const uint32_t tokens)
{
    multiply(a, t0, tokens, o, 1, at.col1);
}

void matmul_q8g32_tile16x4__avx2(const void *args, infer_region at) { by_tokens(args, at, some_tokens); }

void matmul_q8g32_tile16x4__zen(const void *args, infer_region at)
{
    if (at.row1 - at.row0 == 1)
        by_panels(args, at, one_token);
    else
        matmul_q8g32_tile16x4__avx2(args, at);
}
