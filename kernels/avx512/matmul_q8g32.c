/*
 * y = x w^T, weights q8g32, without VNNI. One token: vpmaddubsw of |w| and x with the sign of w, whose pairs stay below 2^15 (128 x 127 x
 * 2), joined by vpmaddwd. Several tokens: both sides widened to 16 bits, inputs 0 and 2 of every four in one vector and 1 and 3 in the
 * other; the same number of operations a product, but none left for the signs.
 */
#include "avx512/token_block.h"
#include "tile16x4.h"

enum { GROUP_BYTES = INFER_TILE_Q8_GROUP_BYTES };

/* y += float(sums) * (weight scales * activation scale) */
ALWAYS_INLINE __m512 add_group(__m512 y, __m512i sums, __m512 w_scales, float x_scale)
{
    return _mm512_fmadd_ps(_mm512_cvtepi32_ps(sums), _mm512_mul_ps(w_scales, _mm512_set1_ps(x_scale)), y);
}

/* sums += 16 rows x 4 inputs */
ALWAYS_INLINE __m512i add_products(__m512i sums, __m512i w, __m512i x)
{
    __m512i signed_x = _mm512_mask_sub_epi8(x, _mm512_movepi8_mask(w), _mm512_setzero_si512(), x);
    __m512i pairs = _mm512_maddubs_epi16(_mm512_abs_epi8(w), signed_x);
    return _mm512_add_epi32(sums, _mm512_madd_epi16(pairs, _mm512_set1_epi16(1)));
}

ALWAYS_INLINE void row(const infer_matmul_args *a, uint32_t t, uint32_t col0, uint32_t col1)
{
    size_t groups = infer_q8_groups(a->k), first = (size_t)t * a->xq.row_groups;
    const int8_t *codes = a->xq.codes + 32 * first;
    const float *x_scales = a->xq.scales + first;
    const uint8_t *w = (const uint8_t *)a->w + col0 / 16 * groups * GROUP_BYTES;

    for (uint32_t col = col0; col < col1; col += 16) {
        __m512 sum = _mm512_setzero_ps();
        for (size_t g = 0; g < groups; g++, w += GROUP_BYTES) {
            __m512i s = _mm512_setzero_si512();
            prefetch_group(w, GROUP_BYTES);
#pragma GCC unroll 8
            for (int c = 0; c < 8; c++)
                s = add_products(s, _mm512_loadu_si512(w + INFER_TILE_SCALE_BYTES + 64 * c), broadcast_32(codes + 32 * g + 4 * c));
            sum = add_group(sum, s, load_scales(w), x_scales[g]);
        }
        _mm512_mask_storeu_ps(a->y + (size_t)t * a->y_stride + col, lanes_below(col1 - col), sum);
    }
}

ALWAYS_INLINE void panel(const token_block *block, uint32_t shape, uint32_t count, size_t groups, const uint8_t *w, float *y,
                         uint32_t y_stride, __mmask16 rows, bool first)
{
    __m512 sums[BLOCK_TOKENS / 2];

    block_start(sums, shape, count, y, y_stride, rows, first);
    for (size_t g = 0; g < groups; g++, w += GROUP_BYTES) {
        __m512 scales = load_scales(w);
        __m512i wide[16]; /* 2c: inputs 4c and 4c + 2 of 16 rows; 2c + 1: 4c + 1 and 4c + 3 */
        prefetch_group(w, GROUP_BYTES);
#pragma GCC unroll 8
        for (int c = 0; c < 8; c++) {
            __m512i tile = _mm512_loadu_si512(w + INFER_TILE_SCALE_BYTES + 64 * c);
            wide[2 * c] = _mm512_srai_epi16(_mm512_slli_epi16(tile, 8), 8);
            wide[2 * c + 1] = _mm512_srai_epi16(tile, 8);
        }
#pragma GCC unroll 8
        for (uint32_t t = 0; t < shape; t++) {
            const uint8_t *x = block_codes(block, t, g, BLOCK_INT16);
            __m512i s = _mm512_madd_epi16(wide[0], broadcast_32(x));
#pragma GCC unroll 16
            for (int i = 1; i < 16; i++)
                s = _mm512_add_epi32(s, _mm512_madd_epi16(wide[i], broadcast_32(x + 4 * i)));
            sums[t] = add_group(sums[t], s, scales, block->scales[t][g]);
        }
    }
    block_finish(sums, shape, count, y, y_stride, rows);
}

void matmul_q8g32_tile16x4__avx512(const void *args, infer_region at)
{
    if (at.row1 - at.row0 == 1)
        row(args, at.row0, at.col0, at.col1);
    else
        block_matmul(args, at, 0, GROUP_BYTES, BLOCK_INT16, panel);
}
