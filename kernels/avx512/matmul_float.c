/*
 * y = x w^T for weights that are floats. A tile is 16 rows x 4 inputs, so a vector is four rows x 4 inputs, and its lanes are just the
 * four partial sums of each row; x goes in as 4 inputs four times. The partial sums of a panel's outputs stay in registers from the first
 * input to the last, for as many tokens as fit, and the weights of a column block stay in L2 until all tokens have met them.
 */
#include "kernels.h"

#include <immintrin.h>

#define ALWAYS_INLINE static inline __attribute__((always_inline))

enum {
    TOKENS = 6, /* 4 vectors of partial sums each, 4 of weights, 1 of activations: 29 registers */
    BLOCK_WEIGHT_BYTES = 512 << 10,
    PREFETCH_BYTES = 4096
};

/* Weights of rows 4i..4i+3 of a tile as floats. */
typedef __m512 load_fn(const uint8_t *tile, uint32_t i);

ALWAYS_INLINE __m512 tile_f32(const uint8_t *tile, uint32_t i) { return _mm512_loadu_ps(tile + 64 * i); }

ALWAYS_INLINE __m512 tile_f16(const uint8_t *tile, uint32_t i)
{
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(const void *)(tile + 32 * i)));
}

ALWAYS_INLINE __m512 tile_bf16(const uint8_t *tile, uint32_t i)
{
    __m256i bits = _mm256_loadu_si256((const __m256i *)(const void *)(tile + 32 * i));
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16));
}

/* (p[0] + p[1]) + (p[2] + p[3]) of 16 rows; p: 4 vectors of four rows */
ALWAYS_INLINE __m512 join(const __m512 p[4])
{
    const __m512i rows = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    __m512 sums[4];

#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) { /* every lane of a quad gets the row's sum */
        __m512 pairs = _mm512_add_ps(p[i], _mm512_permute_ps(p[i], _MM_SHUFFLE(2, 3, 0, 1)));
        sums[i] = _mm512_add_ps(pairs, _mm512_permute_ps(pairs, _MM_SHUFFLE(1, 0, 3, 2)));
    }
    sums[0] = _mm512_mask_blend_ps(0xaaaa, sums[0], sums[1]);
    sums[2] = _mm512_mask_blend_ps(0xaaaa, sums[2], sums[3]);
    return _mm512_permutexvar_ps(rows, _mm512_mask_blend_ps(0xcccc, sums[0], sums[2]));
}

/* One panel, `tokens` (a constant) tokens from t on. */
ALWAYS_INLINE void panel(const infer_matmul_args *a, const uint8_t *tile, uint32_t t, const uint32_t tokens, uint32_t col, __mmask16 rows,
                         size_t tile_bytes, load_fn *load)
{
    const float *x = a->x + (size_t)t * a->x_stride;
    uint32_t rest = a->k % 4;
    __m512 p[TOKENS][4];

#pragma GCC unroll 6
    for (uint32_t i = 0; i < tokens; i++)
        p[i][0] = p[i][1] = p[i][2] = p[i][3] = _mm512_setzero_ps();
    for (uint32_t c = 0; c < a->k / 4; c++, tile += tile_bytes, x += 4) {
        __m512 w[4] = {load(tile, 0), load(tile, 1), load(tile, 2), load(tile, 3)};
        for (size_t line = 0; line < tile_bytes; line += 64)
            _mm_prefetch((const char *)tile + PREFETCH_BYTES + line, _MM_HINT_T0);
#pragma GCC unroll 6
        for (uint32_t i = 0; i < tokens; i++) {
            __m512 inputs = _mm512_broadcast_f32x4(_mm_loadu_ps(x + (size_t)i * a->x_stride));
#pragma GCC unroll 4
            for (int r = 0; r < 4; r++)
                p[i][r] = _mm512_fmadd_ps(w[r], inputs, p[i][r]);
        }
    }
    if (rest) { /* only the tile's first inputs take part */
        __mmask8 valid = (__mmask8)((1u << rest) - 1);
#pragma GCC unroll 6
        for (uint32_t i = 0; i < tokens; i++) {
            __m512 inputs = _mm512_broadcast_f32x4(_mm_maskz_loadu_ps(valid, x + (size_t)i * a->x_stride));
#pragma GCC unroll 4
            for (int r = 0; r < 4; r++)
                p[i][r] = _mm512_mask3_fmadd_ps(load(tile, (uint32_t)r), inputs, p[i][r], (__mmask16)(valid * 0x1111u));
        }
    }
#pragma GCC unroll 6
    for (uint32_t i = 0; i < tokens; i++)
        _mm512_mask_storeu_ps(a->y + (size_t)(t + i) * a->y_stride + col, rows, join(p[i]));
}

ALWAYS_INLINE void columns(const infer_matmul_args *a, uint32_t t, const uint32_t tokens, uint32_t col0, uint32_t col1, size_t tile_bytes,
                           load_fn *load)
{
    size_t panel_bytes = ((size_t)(a->k + 3) / 4) * tile_bytes;
    const uint8_t *w = (const uint8_t *)a->w + col0 / 16 * panel_bytes;

    for (uint32_t col = col0; col < col1; col += 16, w += panel_bytes)
        panel(a, w, t, tokens, col, (__mmask16)(col1 - col < 16 ? (1u << (col1 - col)) - 1 : 0xffff), tile_bytes, load);
}

ALWAYS_INLINE void matmul(const infer_matmul_args *a, infer_region at, size_t tile_bytes, load_fn *load)
{
    size_t panels_each = BLOCK_WEIGHT_BYTES / ((size_t)(a->k + 3) / 4 * tile_bytes) + 1;

    for (uint32_t col0 = at.col0, col1; col0 < at.col1; col0 = col1) {
        uint32_t t = at.row0;
        col1 = (at.col1 - col0) / 16 < panels_each ? at.col1 : col0 + (uint32_t)panels_each * 16;
        for (; at.row1 - t >= TOKENS; t += TOKENS)
            columns(a, t, TOKENS, col0, col1, tile_bytes, load);
        for (; at.row1 - t >= 2; t += 2)
            columns(a, t, 2, col0, col1, tile_bytes, load);
        if (t < at.row1)
            columns(a, t, 1, col0, col1, tile_bytes, load);
    }
}

void matmul_f32_tile16x4__avx512(const void *args, infer_region at) { matmul(args, at, 64 * sizeof(float), tile_f32); }
void matmul_f16_tile16x4__avx512(const void *args, infer_region at) { matmul(args, at, 64 * sizeof(uint16_t), tile_f16); }
void matmul_bf16_tile16x4__avx512(const void *args, infer_region at) { matmul(args, at, 64 * sizeof(uint16_t), tile_bf16); }
