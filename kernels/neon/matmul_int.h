/*
 * The frame of the integer matmuls: regions, token blocks, scales, output. A kernel gives `group`, which turns one panel group into exact
 * int32 sums; everything here is inlined with its counts as constants.
 *
 * Blocks: one token takes all 16 rows of a panel. Several tokens take as many rows as keep the integer and float sums, the weights and the
 * activations in the 32 registers: that is each kernel's choice.
 */
#ifndef INFER_KERNELS_NEON_MATMUL_INT_H
#define INFER_KERNELS_NEON_MATMUL_INT_H

#include "neon.h"
#include "tile16x4.h"

enum { INFER_INT_MAX_TOKENS = 4, INFER_INT_MAX_VECTORS = 4 };

/* sum[t][v]: outputs of token t, rows 4v..4v+3 of the block. */
typedef int32x4_t infer_int_sums[INFER_INT_MAX_TOKENS][INFER_INT_MAX_VECTORS];

/* What the frame must know of a type in tile16x4. group_scale_bytes: fp16 scales at the start of each group; 0: float scales in the panel's head. */
typedef struct infer_int_type {
    size_t head_bytes, group_bytes, group_scale_bytes;
} infer_int_type;

/* Sets sum[t][v] for `tokens` tokens and 4 * `vectors` rows. w: the block's first row in the group's first tile; codes[t]: the token's 32
 * codes; offset8[t]: its two numbers for this group. */
typedef void infer_int_group_fn(infer_int_sums sum, const uint8_t *w, const int8_t *const *codes, const int16_t *const *offset8,
                                uint32_t tokens, uint32_t vectors);

INFER_ALWAYS_INLINE void infer_int_block(const infer_matmul_args *a, const uint8_t *panel, uint32_t col, uint32_t col_end, uint32_t t0,
                                         uint32_t tokens, uint32_t row, uint32_t vectors, infer_int_type type, infer_int_group_fn *group)
{
    size_t groups = infer_q8_groups(a->k), row_groups = a->xq.row_groups;
    const int8_t *codes[INFER_INT_MAX_TOKENS];
    const int16_t *offset8[INFER_INT_MAX_TOKENS];
    const float *scales[INFER_INT_MAX_TOKENS];
    float32x4_t y[INFER_INT_MAX_TOKENS][INFER_INT_MAX_VECTORS];
    const uint8_t *w = panel + type.head_bytes;

#pragma GCC unroll 4
    for (uint32_t t = 0; t < tokens; t++) {
        codes[t] = a->xq.codes + 32 * ((t0 + t) * row_groups);
        offset8[t] = a->xq.offset8 + (t0 + t) * row_groups * 2;
        scales[t] = a->xq.scales + (t0 + t) * row_groups;
#pragma GCC unroll 4
        for (uint32_t v = 0; v < vectors; v++)
            y[t][v] = vdupq_n_f32(0);
    }
    for (size_t g = 0; g < groups; g++, w += type.group_bytes) {
        infer_int_sums sum;
        float32x4_t scale[INFER_INT_MAX_VECTORS];
        group(sum, w + type.group_scale_bytes + 4 * row, codes, offset8, tokens, vectors);
        if (type.group_scale_bytes) {
#pragma GCC unroll 2
            for (uint32_t v = 0; v < vectors; v += 2) {
                float32x4x2_t eight = infer_neon_f16x8(w + 2 * (row + 4 * v));
                scale[v] = eight.val[0];
                scale[v + 1] = eight.val[1];
            }
        }
#pragma GCC unroll 4
        for (uint32_t t = 0; t < tokens; t++) {
#pragma GCC unroll 4
            for (uint32_t v = 0; v < vectors; v++)
                y[t][v] = vfmaq_f32(y[t][v], vcvtq_f32_s32(sum[t][v]),
                                    type.group_scale_bytes ? vmulq_n_f32(scale[v], scales[t][g]) : vdupq_n_f32(scales[t][g]));
            codes[t] += 32;
            offset8[t] += 2;
        }
    }
    if (!type.group_scale_bytes) {
#pragma GCC unroll 4
        for (uint32_t v = 0; v < vectors; v++) {
            float32x4_t scale = vreinterpretq_f32_u8(vld1q_u8(panel + 4 * (row + 4 * v)));
#pragma GCC unroll 4
            for (uint32_t t = 0; t < tokens; t++)
                y[t][v] = vmulq_f32(y[t][v], scale);
        }
    }
#pragma GCC unroll 4
    for (uint32_t t = 0; t < tokens; t++)
        if (col + row < col_end)
            infer_neon_store(a->y + (size_t)(t0 + t) * a->y_stride + col + row, y[t], vectors, col_end - col - row);
}

#define INFER_INT_Q8G32 ((infer_int_type){0, INFER_TILE_Q8_GROUP_BYTES, INFER_TILE_SCALE_BYTES})
#define INFER_INT_Q4G32 ((infer_int_type){0, INFER_TILE_Q4_GROUP_BYTES, INFER_TILE_SCALE_BYTES})
#define INFER_INT_T2R ((infer_int_type){INFER_TILE_T2_HEAD_BYTES, INFER_TILE_T2_GROUP_BYTES, 0})

/* Blocks of `most` tokens (a power of two) x 4 * `vectors` rows, the remaining tokens in blocks of half as many and so on; all of it
 * constant. */
INFER_ALWAYS_INLINE void infer_int_matmul(const infer_matmul_args *a, infer_region at, infer_int_type type, infer_int_group_fn *group,
                                          uint32_t most, uint32_t vectors)
{
    size_t panel_bytes = type.head_bytes + infer_q8_groups(a->k) * type.group_bytes;

    for (uint32_t first = at.row0; first < at.row1; first += INFER_NEON_TOKENS_IN_CACHE) {
        uint32_t end = at.row1 - first < INFER_NEON_TOKENS_IN_CACHE ? at.row1 : first + INFER_NEON_TOKENS_IN_CACHE;
        for (uint32_t col = at.col0; col < at.col1; col += 16) {
            const uint8_t *panel = (const uint8_t *)a->w + col / 16 * panel_bytes;
            uint32_t t = first;
#pragma GCC unroll 4
            for (uint32_t tokens = most; tokens > 1; tokens /= 2)
                for (; end - t >= tokens; t += tokens)
                    for (uint32_t row = 0; row < 16; row += 4 * vectors)
                        infer_int_block(a, panel, col, at.col1, t, tokens, row, vectors, type, group);
            for (; t < end; t++)
                infer_int_block(a, panel, col, at.col1, t, 1, 0, 4, type, group);
        }
    }
}

#endif
