/*
 * y = x w^T, weights q4g32 and n4g32, without VNNI. vpmaddubsw multiplies unsigned weights with the activations.
 *
 * q4g32: the stored codes 0..15. A group's sums of pairs stay in 16-bit lanes, which start from the group's offset8 pair and so end as the sums
 * for codes -8..7 (at most 16 x 8 x 127 in magnitude). One vpmaddwd a group joins the two lanes of an output.
 *
 * n4g32: values + 64. A vpmaddwd widens every product of pairs; the sums start from -64 x the sum of the activations.
 */
#include "avx512/token_block.h"

enum { GROUP_BYTES = INFER_TILE_Q4_GROUP_BYTES };

/* 32-bit sums of a group; `offset` is where they start, for q4g32 as a pair of 16-bit numbers */
ALWAYS_INLINE __m512i group_sums(__m512i offset, const __m512i w[8], const uint8_t *x, bool n4)
{
    const __m512i ones = _mm512_set1_epi16(1);
    __m512i sums = offset;

#pragma GCC unroll 8
    for (int c = 0; c < 8; c++) {
        __m512i pairs = _mm512_maddubs_epi16(w[c], broadcast_32(x + 4 * c));
        sums = n4 ? _mm512_add_epi32(sums, _mm512_madd_epi16(pairs, ones)) : _mm512_add_epi16(sums, pairs);
    }
    return n4 ? sums : _mm512_madd_epi16(sums, ones);
}

/* y += float(sums) * (weight scales * activation scale) */
ALWAYS_INLINE __m512 add_group(__m512 y, __m512i sums, __m512 w_scales, float x_scale)
{
    return _mm512_fmadd_ps(_mm512_cvtepi32_ps(sums), _mm512_mul_ps(w_scales, _mm512_set1_ps(x_scale)), y);
}

ALWAYS_INLINE void row(const infer_matmul_args *a, uint32_t t, uint32_t col0, uint32_t col1, bool n4)
{
    size_t groups = infer_q8_groups(a->k), first = (size_t)t * a->xq.row_groups;
    const uint8_t *codes = (const uint8_t *)a->xq.codes + 32 * first;
    const float *x_scales = a->xq.scales + first;
    const int16_t *offset8 = a->xq.offset8 + 2 * first;
    const uint8_t *w = (const uint8_t *)a->w + col0 / 16 * groups * GROUP_BYTES;

    for (uint32_t col = col0; col < col1; col += 16) {
        __m512 sum = _mm512_setzero_ps();
        for (size_t g = 0; g < groups; g++, w += GROUP_BYTES) {
            __m512i tiles[8], offset = broadcast_32(offset8 + 2 * g);
            prefetch_group(w, GROUP_BYTES);
            load_nibbles(w, n4, tiles);
            if (n4)
                offset = _mm512_madd_epi16(offset, _mm512_set1_epi16(INFER_N4_OFFSET / 8));
            sum = add_group(sum, group_sums(offset, tiles, codes + 32 * g, n4), load_scales(w), x_scales[g]);
        }
        _mm512_mask_storeu_ps(a->y + (size_t)t * a->y_stride + col, lanes_below(col1 - col), sum);
    }
}

ALWAYS_INLINE void panel(const token_block *block, uint32_t shape, uint32_t count, size_t groups, const uint8_t *w, float *y,
                         uint32_t y_stride, __mmask16 rows, bool first, bool n4)
{
    __m512 sums[BLOCK_TOKENS];

    block_start(sums, shape, count, y, y_stride, rows, first);
    for (size_t g = 0; g < groups; g++, w += GROUP_BYTES) {
        __m512 scales = load_scales(w);
        __m512i tiles[8];
        prefetch_group(w, GROUP_BYTES);
        load_nibbles(w, n4, tiles);
#pragma GCC unroll 16
        for (uint32_t t = 0; t < shape; t++) {
            __m512i s = group_sums(broadcast_32(&block->offsets[t][g]), tiles, block_codes(block, t, g, BLOCK_INT8_OFFSET8_PAIRS), n4);
            sums[t] = add_group(sums[t], s, scales, block->scales[t][g]);
        }
    }
    block_finish(sums, shape, count, y, y_stride, rows);
}

ALWAYS_INLINE void panel_q4(const token_block *block, uint32_t shape, uint32_t count, size_t groups, const uint8_t *w, float *y,
                            uint32_t y_stride, __mmask16 rows, bool first)
{
    panel(block, shape, count, groups, w, y, y_stride, rows, first, false);
}

ALWAYS_INLINE void panel_n4(const token_block *block, uint32_t shape, uint32_t count, size_t groups, const uint8_t *w, float *y,
                            uint32_t y_stride, __mmask16 rows, bool first)
{
    panel(block, shape, count, groups, w, y, y_stride, rows, first, true);
}

void matmul_q4g32_tile16x4__avx512(const void *args, infer_region at)
{
    if (at.row1 - at.row0 == 1)
        row(args, at.row0, at.col0, at.col1, false);
    else
        block_matmul(args, at, 0, GROUP_BYTES, BLOCK_INT8_OFFSET8_PAIRS, panel_q4);
}

void matmul_n4g32_tile16x4__avx512(const void *args, infer_region at)
{
    if (at.row1 - at.row0 == 1)
        row(args, at.row0, at.col0, at.col1, true);
    else
        block_matmul(args, at, 0, GROUP_BYTES, BLOCK_INT8_OFFSET64, panel_n4);
}
