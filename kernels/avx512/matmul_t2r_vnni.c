/* y = x w^T, weights t2r, with vpdpbusd: codes 0..2 as they are, the 1 off by starting from -1 x the sum of a group's activations. */
#include "avx512/matmul_vnni.h"

/* The eight tiles of a panel group as unsigned codes: tile c holds inputs 4c..4c+3 of 16 rows. */
ALWAYS_INLINE void load_ternary_tiles(const uint8_t *group, __m512i w[8])
{
    const __m512i low = _mm512_set1_epi8(3);

#pragma GCC unroll 2
    for (int c = 0; c < 2; c++) {
        __m512i bytes = _mm512_loadu_si512(group + 64 * c);
#pragma GCC unroll 4
        for (int b = 0; b < 4; b++)
            w[4 * c + b] = _mm512_and_si512(_mm512_srli_epi16(bytes, (unsigned)(2 * b)), low);
    }
}

ALWAYS_INLINE __m512 add_unscaled(__m512 y, __m512i sums, float x_scale)
{
    return _mm512_fmadd_ps(_mm512_cvtepi32_ps(sums), _mm512_set1_ps(x_scale), y);
}

ALWAYS_INLINE void row(const infer_matmul_args *a, uint32_t t, uint32_t col0, uint32_t col1)
{
    size_t groups = infer_q8_groups(a->k), first = (size_t)t * a->xq.row_groups;
    const uint8_t *codes = (const uint8_t *)a->xq.codes + 32 * first;
    const float *x_scales = a->xq.scales + first;
    const int16_t *offset8 = a->xq.offset8 + 2 * first;
    const uint8_t *w = (const uint8_t *)a->w + col0 / 16 * (INFER_TILE_T2_HEAD_BYTES + groups * INFER_TILE_T2_GROUP_BYTES);

    for (uint32_t col = col0; col < col1; col += 16) {
        __m512 sum = _mm512_setzero_ps(), scales = _mm512_loadu_ps(w);
        w += INFER_TILE_T2_HEAD_BYTES;
        for (size_t g = 0; g < groups; g++, w += INFER_TILE_T2_GROUP_BYTES) {
            __m512i tiles[8], even = _mm512_set1_epi32((offset8[2 * g] + offset8[2 * g + 1]) / 8), odd = _mm512_setzero_si512();
            prefetch_group(w, INFER_TILE_T2_GROUP_BYTES);
            load_ternary_tiles(w, tiles);
#pragma GCC unroll 4
            for (int c = 0; c < 8; c += 2) {
                even = add_products(even, tiles[c], codes + 32 * g + 4 * c);
                odd = add_products(odd, tiles[c + 1], codes + 32 * g + 4 * c + 4);
            }
            sum = add_unscaled(sum, _mm512_add_epi32(even, odd), x_scales[g]);
        }
        _mm512_mask_storeu_ps(a->y + (size_t)t * a->y_stride + col, lanes_below(col1 - col), _mm512_mul_ps(sum, scales));
    }
}

ALWAYS_INLINE void panel(const token_block *block, uint32_t shape, uint32_t count, size_t groups, const uint8_t *w, float *y,
                         uint32_t y_stride, __mmask16 rows, bool first)
{
    __m512 sums[BLOCK_TOKENS];

    block_start(sums, shape, count, y, y_stride, rows, first);
    for (size_t g = 0; g < groups; g++, w += INFER_TILE_T2_GROUP_BYTES) {
        __m512i tiles[8];
        prefetch_group(w, INFER_TILE_T2_GROUP_BYTES);
        load_ternary_tiles(w, tiles);
#pragma GCC unroll 8
        for (uint32_t t = 0; t < shape; t += 2) { /* as in vnni_panel */
            const uint8_t *x0 = block_codes(block, t, g, BLOCK_INT8_OFFSET1), *x1 = block_codes(block, t + 1, g, BLOCK_INT8_OFFSET1);
            __m512i s0 = broadcast_32(&block->offsets[t][g]), s1 = broadcast_32(&block->offsets[t + 1][g]);
#pragma GCC unroll 8
            for (int c = 0; c < 8; c++) {
                s0 = add_products(s0, tiles[c], x0 + 4 * c);
                s1 = add_products(s1, tiles[c], x1 + 4 * c);
            }
            sums[t] = add_unscaled(sums[t], s0, block->scales[t][g]);
            sums[t + 1] = add_unscaled(sums[t + 1], s1, block->scales[t + 1][g]);
        }
    }
    block_finish(sums, shape, count, y, y_stride, rows);
}

/* The region's outputs times their rows' scales, after all groups of all blocks. */
ALWAYS_INLINE void scale_rows(const infer_matmul_args *a, infer_region at)
{
    size_t panel_bytes = INFER_TILE_T2_HEAD_BYTES + infer_q8_groups(a->k) * INFER_TILE_T2_GROUP_BYTES;

    for (uint32_t col = at.col0; col < at.col1; col += 16) {
        __mmask16 rows = lanes_below(at.col1 - col);
        __m512 scales = _mm512_loadu_ps((const uint8_t *)a->w + col / 16 * panel_bytes);
        for (uint32_t t = at.row0; t < at.row1; t++) {
            float *y = a->y + (size_t)t * a->y_stride + col;
            _mm512_mask_storeu_ps(y, rows, _mm512_mul_ps(_mm512_maskz_loadu_ps(rows, y), scales));
        }
    }
}

void matmul_t2r_tile16x4__avx512vnni(const void *args, infer_region at)
{
    if (at.row1 - at.row0 == 1) {
        row(args, at.row0, at.col0, at.col1);
    } else {
        block_matmul(args, at, INFER_TILE_T2_HEAD_BYTES, INFER_TILE_T2_GROUP_BYTES, BLOCK_INT8_OFFSET1, panel);
        scale_rows(args, at);
    }
}
