/*
 * y = x w^T with vpdpbusd: sixteen output rows x four inputs an instruction. Weights are made unsigned (q4g32 codes are stored 8 too
 * large, q8g32 codes get 128 added, vpshufb turns n4g32 codes into values + 64), activations are broadcast from memory, and the sum of a
 * group starts from -offset x the sum of its activation codes, so that it ends as the exact sum. Static functions only.
 *
 * For 16 outputs of a token a group of 32 inputs costs 8 vpdpbusd, a product of scales and a fused multiply-add, and on Zen 4 all of them
 * need the same two pipes: 0.80 of the peak of vpdpbusd alone is what the formula of kernels.h can reach there.
 */
#ifndef INFER_KERNELS_AVX512_MATMUL_VNNI_H
#define INFER_KERNELS_AVX512_MATMUL_VNNI_H

#include "avx512/token_block.h"

typedef enum weight_kind { WEIGHT_Q8, WEIGHT_Q4, WEIGHT_N4 } weight_kind;

ALWAYS_INLINE size_t weight_group_bytes(weight_kind kind)
{
    return kind == WEIGHT_Q8 ? INFER_TILE_Q8_GROUP_BYTES : INFER_TILE_Q4_GROUP_BYTES;
}

/* sums += 16 rows x 4 inputs. The broadcast is part of the instruction; gcc 12 would make it one of its own: a tenth slower. */
ALWAYS_INLINE __m512i add_products(__m512i sums, __m512i w, const uint8_t *x)
{
    __asm__("vpdpbusd %2%{1to16%}, %1, %0" : "+v"(sums) : "v"(w), "m"(*(const uint8_t(*)[4])x));
    return sums;
}

/* The eight tiles of a panel group as unsigned weights: tile c holds inputs 4c..4c+3 of 16 rows. */
ALWAYS_INLINE void load_tiles(const uint8_t *group, weight_kind kind, __m512i w[8])
{
    if (kind != WEIGHT_Q8) {
        load_nibbles(group, kind == WEIGHT_N4, w);
    } else {
        const __m512i sign = _mm512_set1_epi8((char)0x80);
#pragma GCC unroll 8
        for (int c = 0; c < 8; c++)
            w[c] = _mm512_xor_si512(_mm512_loadu_si512(group + INFER_TILE_SCALE_BYTES + 64 * c), sign);
    }
}

/* y += float(sums) * (weight scales * activation scale) */
ALWAYS_INLINE __m512 add_group(__m512 y, __m512i sums, __m512 w_scales, float x_scale)
{
    return _mm512_fmadd_ps(_mm512_cvtepi32_ps(sums), _mm512_mul_ps(w_scales, _mm512_set1_ps(x_scale)), y);
}

/* One token: every weight is used once, so this is about reading them. */
ALWAYS_INLINE void vnni_row(const infer_matmul_args *a, uint32_t t, uint32_t col0, uint32_t col1, weight_kind kind)
{
    size_t groups = infer_q8_groups(a->k), first = (size_t)t * a->xq.row_groups, group_bytes = weight_group_bytes(kind);
    const uint8_t *codes = (const uint8_t *)a->xq.codes + 32 * first;
    const float *x_scales = a->xq.scales + first;
    const int16_t *offset8 = a->xq.offset8 + 2 * first;
    const __m512i times = _mm512_set1_epi16(kind == WEIGHT_Q8 ? 128 / 8 : kind == WEIGHT_Q4 ? 8 / 8 : INFER_N4_OFFSET / 8);
    const uint8_t *w = (const uint8_t *)a->w + col0 / 16 * groups * group_bytes;

    for (uint32_t col = col0; col < col1; col += 16) {
        __m512 sum = _mm512_setzero_ps();
        for (size_t g = 0; g < groups; g++, w += group_bytes) {
            __m512i tiles[8], even = _mm512_madd_epi16(times, broadcast_32(offset8 + 2 * g)), odd = _mm512_setzero_si512();
            prefetch_group(w, group_bytes);
            load_tiles(w, kind, tiles);
#pragma GCC unroll 4
            for (int c = 0; c < 8; c += 2) {
                even = add_products(even, tiles[c], codes + 32 * g + 4 * c);
                odd = add_products(odd, tiles[c + 1], codes + 32 * g + 4 * c + 4);
            }
            sum = add_group(sum, _mm512_add_epi32(even, odd), load_scales(w), x_scales[g]);
        }
        _mm512_mask_storeu_ps(a->y + (size_t)t * a->y_stride + col, lanes_below(col1 - col), sum);
    }
}

/* A panel_fn, but for `kind`. */
ALWAYS_INLINE void vnni_panel(const token_block *block, uint32_t shape, uint32_t count, size_t groups, const uint8_t *w, float *y,
                              uint32_t y_stride, __mmask16 rows, bool first, weight_kind kind)
{
    __m512 sums[BLOCK_TOKENS];

    block_start(sums, shape, count, y, y_stride, rows, first);
    for (size_t g = 0; g < groups; g++, w += weight_group_bytes(kind)) {
        __m512 scales = load_scales(w);
        __m512i tiles[8];
        prefetch_group(w, weight_group_bytes(kind));
        load_tiles(w, kind, tiles);
#pragma GCC unroll 8
        for (uint32_t t = 0; t < shape; t += 2) { /* two chains at a time cover the latency of vpdpbusd */
            const uint8_t *x0 = block_codes(block, t, g, BLOCK_INT8_OFFSET8), *x1 = block_codes(block, t + 1, g, BLOCK_INT8_OFFSET8);
            __m512i s0 = broadcast_32(&block->offsets[t][g]), s1 = broadcast_32(&block->offsets[t + 1][g]);
#pragma GCC unroll 8
            for (int c = 0; c < 8; c++) {
                s0 = add_products(s0, tiles[c], x0 + 4 * c);
                s1 = add_products(s1, tiles[c], x1 + 4 * c);
            }
            sums[t] = add_group(sums[t], s0, scales, block->scales[t][g]);
            sums[t + 1] = add_group(sums[t + 1], s1, scales, block->scales[t + 1][g]);
        }
    }
    block_finish(sums, shape, count, y, y_stride, rows);
}

#endif
