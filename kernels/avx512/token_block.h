/*
 * Blocking of the integer matmuls of this folder for several tokens. Static functions only.
 *
 * A token block is a copy of the activations of up to 16 tokens for some groups, with the rows at constant distances, so that one pointer
 * reaches all of them, that are no multiple of 4 KB, so that they do not compete for the same lines of L1. It meets panel after panel:
 * the outputs stay in registers over the block's groups, and the weights of a column block stay in L2 and L3 until all tokens have met
 * them: they are read in order, which hides where from, and copying the next tokens for too few panels costs more.
 */
#ifndef INFER_KERNELS_AVX512_TOKEN_BLOCK_H
#define INFER_KERNELS_AVX512_TOKEN_BLOCK_H

#include "kernels.h"
#include "tile16x4.h"

#include <immintrin.h>
#include <string.h>

#define ALWAYS_INLINE static inline __attribute__((always_inline))

enum {
    BLOCK_TOKENS = 16, /* their outputs, a group's eight tiles and the temporaries fill the 32 registers */
    BLOCK_GROUPS = 192, /* a multiple of 16; 6,144 inputs: most layers in one pass, with no sums read back. 123 KB of stack */
    BLOCK_CODE_BYTES = BLOCK_GROUPS * 32 + 64,
    BLOCK_WEIGHT_BYTES = 4 << 20, /* most weights of a column block, for the groups of a token block */
    PREFETCH_BYTES = 4096         /* how far ahead weights are asked for */
};

typedef struct token_block {
    _Alignas(64) uint8_t codes[BLOCK_TOKENS * BLOCK_CODE_BYTES]; /* 16 rows of int8, or 8 of int16: see block_codes */
    float scales[BLOCK_TOKENS][BLOCK_GROUPS];
    int32_t offsets[BLOCK_TOKENS][BLOCK_GROUPS]; /* where a sum of weight code x activation code starts from */
} token_block;

/* How activations are stored in a block, and what its offsets are. */
typedef enum block_kind {
    BLOCK_INT8_OFFSET8,       /* int8; offset8[0] + offset8[1]: weight codes are 8 too large */
    BLOCK_INT8_OFFSET1,       /* int8; an eighth of that: weight codes are 1 too large */
    BLOCK_INT8_OFFSET64,      /* int8; 8 times that: weights are 64 too large */
    BLOCK_INT8_OFFSET128,     /* int8; 16 times that: weight codes are 128 too large */
    BLOCK_INT8_OFFSET8_PAIRS, /* int8; the int16 numbers offset8[0] and offset8[1] as they are */
    BLOCK_INT16               /* int16, in the order 0 2 1 3 of every four inputs; offsets unused */
} block_kind;

/* Codes of token t, group g. */
ALWAYS_INLINE const uint8_t *block_codes(const token_block *block, uint32_t t, size_t g, block_kind kind)
{
    size_t element_bytes = kind == BLOCK_INT16 ? sizeof(int16_t) : sizeof(int8_t);
    return block->codes + element_bytes * ((size_t)t * BLOCK_CODE_BYTES + 32 * g);
}

ALWAYS_INLINE uint32_t block_most_tokens(block_kind kind) { return kind == BLOCK_INT16 ? BLOCK_TOKENS / 2 : BLOCK_TOKENS; }

/* Lanes 0..count-1. */
ALWAYS_INLINE __mmask16 lanes_below(size_t count) { return (__mmask16)(count < 16 ? (1u << count) - 1 : 0xffff); }

/* 32 bits in every lane. */
ALWAYS_INLINE __m512i broadcast_32(const void *p)
{
    int32_t bits;
    memcpy(&bits, p, sizeof bits);
    return _mm512_set1_epi32(bits);
}

ALWAYS_INLINE __m512 load_scales(const uint8_t *group) { return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(const void *)group)); }

ALWAYS_INLINE void prefetch_group(const uint8_t *group, size_t group_bytes)
{
    for (size_t line = 0; line < group_bytes; line += 64)
        _mm_prefetch((const char *)group + PREFETCH_BYTES + line, _MM_HINT_T0);
}

/* What codes of 4 bits stand for in n4g32, + INFER_N4_OFFSET, in every 128 bits: for vpshufb. */
ALWAYS_INLINE __m512i n4_table(void)
{
    __m128i values = _mm_loadu_si128((const __m128i *)(const void *)infer_n4_values);
    return _mm512_broadcast_i32x4(_mm_add_epi8(values, _mm_set1_epi8(INFER_N4_OFFSET)));
}

/* The eight tiles of a panel group of q4g32 or n4g32 as unsigned weights: tile c holds inputs 4c..4c+3 of 16 rows. */
ALWAYS_INLINE void load_nibbles(const uint8_t *group, bool n4, __m512i w[8])
{
    const __m512i low = _mm512_set1_epi8(15), table = n4_table();

#pragma GCC unroll 4
    for (int c = 0; c < 4; c++) {
        __m512i both = _mm512_loadu_si512(group + INFER_TILE_SCALE_BYTES + 64 * c);
        w[2 * c] = _mm512_and_si512(both, low);
        w[2 * c + 1] = _mm512_and_si512(_mm512_srli_epi16(both, 4), low);
        if (n4) {
            w[2 * c] = _mm512_shuffle_epi8(table, w[2 * c]);
            w[2 * c + 1] = _mm512_shuffle_epi8(table, w[2 * c + 1]);
        }
    }
}

/* Groups [g0, g0 + groups) of tokens [t0, t0 + count) of x as rows 0..shape; the rows from count on repeat the last token. */
ALWAYS_INLINE void block_load(token_block *block, const infer_q8_rows *x, uint32_t t0, uint32_t count, uint32_t shape, size_t g0,
                              size_t groups, block_kind kind)
{
    for (uint32_t t = 0; t < shape; t++) {
        size_t from = (size_t)(t0 + (t < count ? t : count - 1)) * x->row_groups + g0;
        uint8_t *codes = block->codes + (block_codes(block, t, 0, kind) - block->codes);
        memcpy(block->scales[t], x->scales + from, groups * sizeof(float));
        if (kind == BLOCK_INT16) {
            const __m512i order = _mm512_broadcast_i32x4(_mm_setr_epi8(0, 1, 4, 5, 2, 3, 6, 7, 8, 9, 12, 13, 10, 11, 14, 15));
            for (size_t g = 0; g < groups; g++) {
                __m512i wide = _mm512_cvtepi8_epi16(_mm256_loadu_si256((const __m256i *)(const void *)(x->codes + 32 * (from + g))));
                _mm512_storeu_si512(codes + 64 * g, _mm512_shuffle_epi8(wide, order));
            }
            continue;
        }
        memcpy(codes, x->codes + 32 * from, 32 * groups);
        for (size_t g = 0; g < groups; g += 16) {
            __m512i pairs = _mm512_maskz_loadu_epi32(lanes_below(groups - g), x->offset8 + 2 * (from + g));
            if (kind != BLOCK_INT8_OFFSET8_PAIRS)
                pairs = _mm512_madd_epi16(pairs, _mm512_set1_epi16(kind == BLOCK_INT8_OFFSET128 ? 16 : kind == BLOCK_INT8_OFFSET64 ? 8 : 1));
            if (kind == BLOCK_INT8_OFFSET1)
                pairs = _mm512_srai_epi32(pairs, 3);
            _mm512_storeu_si512(block->offsets[t] + g, pairs);
        }
    }
}

/* Adds the block's groups to the 16 outputs of one panel, of which `rows` exist: y[0..count) = (first ? 0 : y) + ... `shape` is a constant
 * of 4, 8, 12 or 16 tokens, at least count. */
typedef void panel_fn(const token_block *block, uint32_t shape, uint32_t count, size_t groups, const uint8_t *w, float *y,
                      uint32_t y_stride, __mmask16 rows, bool first);

ALWAYS_INLINE void block_start(__m512 *sums, uint32_t shape, uint32_t count, const float *y, uint32_t y_stride, __mmask16 rows, bool first)
{
#pragma GCC unroll 16
    for (uint32_t t = 0; t < shape; t++)
        sums[t] = first || t >= count ? _mm512_setzero_ps() : _mm512_maskz_loadu_ps(rows, y + (size_t)t * y_stride);
}

ALWAYS_INLINE void block_finish(const __m512 *sums, uint32_t shape, uint32_t count, float *y, uint32_t y_stride, __mmask16 rows)
{
#pragma GCC unroll 16
    for (uint32_t t = 0; t < shape; t++)
        if (t < count)
            _mm512_mask_storeu_ps(y + (size_t)t * y_stride, rows, sums[t]);
}

/* The block's part of columns [col0, col1). */
ALWAYS_INLINE void block_columns(const infer_matmul_args *a, const token_block *block, uint32_t shape, uint32_t t0, uint32_t count,
                                 size_t g0, size_t groups, uint32_t col0, uint32_t col1, size_t head_bytes, size_t group_bytes,
                                 panel_fn *panel)
{
    size_t panel_bytes = head_bytes + infer_q8_groups(a->k) * group_bytes;
    const uint8_t *w = (const uint8_t *)a->w + col0 / 16 * panel_bytes + head_bytes + g0 * group_bytes;
    float *y = a->y + (size_t)t0 * a->y_stride;

    for (uint32_t col = col0; col < col1; col += 16, w += panel_bytes)
        panel(block, shape, count, groups, w, y + col, a->y_stride, lanes_below(col1 - col), g0 == 0);
}

ALWAYS_INLINE void block_matmul(const infer_matmul_args *a, infer_region at, size_t head_bytes, size_t group_bytes, block_kind kind,
                                panel_fn *panel)
{
    size_t all_groups = infer_q8_groups(a->k);
    uint32_t cols_each = (uint32_t)(BLOCK_WEIGHT_BYTES / (BLOCK_GROUPS * group_bytes) * 16), tokens_each = block_most_tokens(kind);
    token_block block;

    for (uint32_t col0 = at.col0; col0 < at.col1; col0 += cols_each) {
        uint32_t col1 = at.col1 - col0 < cols_each ? at.col1 : col0 + cols_each;
        for (size_t g0 = 0; g0 < all_groups; g0 += BLOCK_GROUPS) {
            size_t groups = all_groups - g0 < BLOCK_GROUPS ? all_groups - g0 : BLOCK_GROUPS;
            for (uint32_t t0 = at.row0; t0 < at.row1; t0 += tokens_each) {
                uint32_t count = at.row1 - t0 < tokens_each ? at.row1 - t0 : tokens_each, shape = (count + 3) / 4 * 4;
                block_load(&block, &a->xq, t0, count, shape, g0, groups, kind);
                if (shape == 4)
                    block_columns(a, &block, 4, t0, count, g0, groups, col0, col1, head_bytes, group_bytes, panel);
                else if (shape == 8)
                    block_columns(a, &block, 8, t0, count, g0, groups, col0, col1, head_bytes, group_bytes, panel);
                else if (tokens_each > 8 && shape == 12)
                    block_columns(a, &block, 12, t0, count, g0, groups, col0, col1, head_bytes, group_bytes, panel);
                else if (tokens_each > 8)
                    block_columns(a, &block, 16, t0, count, g0, groups, col0, col1, head_bytes, group_bytes, panel);
            }
        }
    }
}

#endif
