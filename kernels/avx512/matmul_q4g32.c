/*
 * y = x w^T, weights q4g32, without VNNI. vpmaddubsw multiplies the stored codes 0..15 with the activations; a group's sums of pairs stay
 * in 16-bit lanes, which start from the group's offset8 pair and so end as the sums for codes -8..7 (at most 16 x 8 x 127 in magnitude).
 * One vpmaddwd a group joins the two lanes of an output.
 */
#include "avx512/token_block.h"
#include "tile16x4.h"

enum { GROUP_BYTES = INFER_TILE_Q4_GROUP_BYTES };

ALWAYS_INLINE void load_tiles(const uint8_t *group, __m512i w[8])
{
    const __m512i low = _mm512_set1_epi8(15);

#pragma GCC unroll 4
    for (int c = 0; c < 4; c++) {
        __m512i both = _mm512_loadu_si512(group + INFER_TILE_SCALE_BYTES + 64 * c);
        w[2 * c] = _mm512_and_si512(both, low);
        w[2 * c + 1] = _mm512_and_si512(_mm512_srli_epi16(both, 4), low);
    }
}

/* 16-bit sums of a group, from its offset8 pair */
ALWAYS_INLINE __m512i group_sums(const void *offset8, const __m512i w[8], const uint8_t *x)
{
    __m512i sums = broadcast_32(offset8);

#pragma GCC unroll 8
    for (int c = 0; c < 8; c++)
        sums = _mm512_add_epi16(sums, _mm512_maddubs_epi16(w[c], broadcast_32(x + 4 * c)));
    return sums;
}

/* y += float(joined sums) * (weight scales * activation scale) */
ALWAYS_INLINE __m512 add_group(__m512 y, __m512i sums, __m512 w_scales, float x_scale)
{
    __m512i joined = _mm512_madd_epi16(sums, _mm512_set1_epi16(1));
    return _mm512_fmadd_ps(_mm512_cvtepi32_ps(joined), _mm512_mul_ps(w_scales, _mm512_set1_ps(x_scale)), y);
}

ALWAYS_INLINE void row(const infer_matmul_args *a, uint32_t t, uint32_t col0, uint32_t col1)
{
    size_t groups = infer_q8_groups(a->k), first = (size_t)t * a->xq.row_groups;
    const uint8_t *codes = (const uint8_t *)a->xq.codes + 32 * first;
    const float *x_scales = a->xq.scales + first;
    const int16_t *offset8 = a->xq.offset8 + 2 * first;
    const uint8_t *w = (const uint8_t *)a->w + col0 / 16 * groups * GROUP_BYTES;

    for (uint32_t col = col0; col < col1; col += 16) {
        __m512 sum = _mm512_setzero_ps();
        for (size_t g = 0; g < groups; g++, w += GROUP_BYTES) {
            __m512i tiles[8];
            prefetch_group(w, GROUP_BYTES);
            load_tiles(w, tiles);
            sum = add_group(sum, group_sums(offset8 + 2 * g, tiles, codes + 32 * g), load_scales(w), x_scales[g]);
        }
        _mm512_mask_storeu_ps(a->y + (size_t)t * a->y_stride + col, lanes_below(col1 - col), sum);
    }
}

ALWAYS_INLINE void panel(const token_block *block, uint32_t shape, uint32_t count, size_t groups, const uint8_t *w, float *y,
                         uint32_t y_stride, __mmask16 rows, bool first)
{
    __m512 sums[BLOCK_TOKENS];

    block_start(sums, shape, count, y, y_stride, rows, first);
    for (size_t g = 0; g < groups; g++, w += GROUP_BYTES) {
        __m512 scales = load_scales(w);
        __m512i tiles[8];
        prefetch_group(w, GROUP_BYTES);
        load_tiles(w, tiles);
#pragma GCC unroll 16
        for (uint32_t t = 0; t < shape; t++) {
            __m512i s = group_sums(&block->offsets[t][g], tiles, block_codes(block, t, g, BLOCK_INT8_OFFSET8_PAIRS));
            sums[t] = add_group(sums[t], s, scales, block->scales[t][g]);
        }
    }
    block_finish(sums, shape, count, y, y_stride, rows);
}

void matmul_q4g32_tile16x4__avx512(const void *args, infer_region at)
{
    if (at.row1 - at.row0 == 1)
        row(args, at.row0, at.col0, at.col1);
    else
        block_matmul(args, at, 0, GROUP_BYTES, BLOCK_INT8_OFFSET8_PAIRS, panel);
}
