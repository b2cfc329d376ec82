/*
 * y = x w^T for weights that are floats. A tile is 16 rows x 4 inputs, so a vector is two rows x 4 inputs, and its lanes are just the four
 * partial sums of each row; x goes in as 4 inputs twice. One token reads the stored weights in one pass; for more, a block of tiles is widened
 * into L1 (f32 needs no widening) and meets every token of a block.
 */
#include "kernels.h"
#include "vector.h"

enum {
    TOKENS = 3,        /* register block: half a panel (4 vectors) x 3 tokens, 3 activations */
    BLOCK_TILES = 32,  /* 8 KB of widened weights */
    BLOCK_TOKENS = 24  /* 6 KB of partial sums */
};

/* Weight elements 8i..8i+7 of a tile as floats. */
typedef __m256 load_fn(const uint8_t *tile, uint32_t i);

ALWAYS_INLINE __m256 tile_f32(const uint8_t *tile, uint32_t i) { return _mm256_loadu_ps((const float *)(const void *)tile + 8 * i); }
ALWAYS_INLINE __m256 tile_f16(const uint8_t *tile, uint32_t i) { return load_f16(tile + 16 * i); }
ALWAYS_INLINE __m256 tile_bf16(const uint8_t *tile, uint32_t i) { return load_bf16(tile + 16 * i); }

ALWAYS_INLINE __m256 inputs_4(const float *x) { return _mm256_broadcast_ps((const __m128 *)(const void *)x); }

/* The last tile when k is no multiple of 4: only its first `rest` inputs take part. */
ALWAYS_INLINE __m256 add_rest(__m256 p, __m256 w, const float *x, uint32_t rest)
{
    __m128i lanes = _mm256_castsi256_si128(lanes_below(rest));
    __m256 mask = _mm256_castsi256_ps(_mm256_broadcastsi128_si256(lanes));
    __m128 inputs = _mm_maskload_ps(x, lanes);
    return _mm256_blendv_ps(p, _mm256_fmadd_ps(w, _mm256_set_m128(inputs, inputs), p), mask);
}

/* (p[0] + p[1]) + (p[2] + p[3]) of 8 rows; p: 4 vectors of two rows */
ALWAYS_INLINE __m256 join(const __m256 p[4])
{
    __m256 even_odd = _mm256_hadd_ps(_mm256_hadd_ps(p[0], p[1]), _mm256_hadd_ps(p[2], p[3])); /* rows 0 2 4 6, 1 3 5 7 */
    return _mm256_permutevar8x32_ps(even_odd, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
}

/* ---- one token ---- */

ALWAYS_INLINE void direct(const infer_matmul_args *a, uint32_t t, uint32_t col0, uint32_t col1, size_t tile_bytes, load_fn *load)
{
    uint32_t tiles = a->k / 4, rest = a->k % 4;
    const uint8_t *tile = (const uint8_t *)a->w + col0 / 16 * ((size_t)(a->k + 3) / 4) * tile_bytes;

    for (uint32_t o = col0; o < col1; o += 16) {
        const float *x = a->x + (size_t)t * a->x_stride;
        __m256 p[8];
        for (uint32_t i = 0; i < 8; i++)
            p[i] = _mm256_setzero_ps();
        for (uint32_t c = 0; c < tiles; c++, tile += tile_bytes, x += 4) {
            __m256 inputs = inputs_4(x);
#pragma GCC unroll 8
            for (uint32_t i = 0; i < 8; i++)
                p[i] = _mm256_fmadd_ps(load(tile, i), inputs, p[i]);
        }
        if (rest) {
            for (uint32_t i = 0; i < 8; i++)
                p[i] = add_rest(p[i], load(tile, i), x, rest);
            tile += tile_bytes;
        }
        store_16(a->y + (size_t)t * a->y_stride + o, col1 - o, join(p), join(p + 4));
    }
}

/* ---- several tokens ---- */

/* p[t][64] += tiles x tokens, rows 0-7 or 8-15 of the panel (p and w at the first of them) */
ALWAYS_INLINE void multiply(const float *w, uint32_t tiles, const float *x, size_t x_stride, const uint32_t tokens, float (*p)[64])
{
    __m256 sums[TOKENS][4];

    for (uint32_t t = 0; t < tokens; t++)
        for (uint32_t i = 0; i < 4; i++)
            sums[t][i] = _mm256_load_ps(p[t] + 8 * i);
    for (uint32_t c = 0; c < tiles; c++) {
        __m256 inputs[TOKENS];
        for (uint32_t t = 0; t < tokens; t++)
            inputs[t] = inputs_4(x + t * x_stride + 4 * c);
#pragma GCC unroll 4
        for (uint32_t i = 0; i < 4; i++) {
            __m256 weights = _mm256_loadu_ps(w + 64 * c + 8 * i);
            for (uint32_t t = 0; t < tokens; t++)
                sums[t][i] = _mm256_fmadd_ps(weights, inputs[t], sums[t][i]);
        }
    }
    for (uint32_t t = 0; t < tokens; t++)
        for (uint32_t i = 0; i < 4; i++)
            _mm256_store_ps(p[t] + 8 * i, sums[t][i]);
}

static void multiply_3(const float *w, uint32_t tiles, const float *x, size_t x_stride, float (*p)[64])
{
    multiply(w, tiles, x, x_stride, 3, p);
}

static void multiply_1(const float *w, uint32_t tiles, const float *x, size_t x_stride, float (*p)[64])
{
    multiply(w, tiles, x, x_stride, 1, p);
}

ALWAYS_INLINE void blocked(const infer_matmul_args *a, infer_region at, size_t tile_bytes, load_fn *load)
{
    uint32_t tiles = a->k / 4, rest = a->k % 4;
    size_t panel_bytes = ((size_t)(a->k + 3) / 4) * tile_bytes;
    _Alignas(64) float widened[BLOCK_TILES * 64];
    _Alignas(64) float p[BLOCK_TOKENS][64];

    for (uint32_t t0 = at.row0; t0 < at.row1; t0 += BLOCK_TOKENS) {
        uint32_t tokens = at.row1 - t0 < BLOCK_TOKENS ? at.row1 - t0 : BLOCK_TOKENS;
        const float *x = a->x + (size_t)t0 * a->x_stride;
        for (uint32_t o = at.col0; o < at.col1; o += 16) {
            const uint8_t *panel = (const uint8_t *)a->w + o / 16 * panel_bytes;
            memset(p, 0, tokens * sizeof p[0]);
            for (uint32_t c = 0; c < tiles; c += BLOCK_TILES) {
                uint32_t count = tiles - c < BLOCK_TILES ? tiles - c : BLOCK_TILES;
                const float *w = (const float *)(const void *)(panel + c * tile_bytes);
                if (tile_bytes != 64 * sizeof(float)) {
                    for (uint32_t i = 0; i < 8 * count; i++)
                        _mm256_store_ps(widened + 8 * i, load(panel + c * tile_bytes, i));
                    w = widened;
                }
                for (int half = 0; half < 64; half += 32) {
                    uint32_t t = 0;
                    for (; t + 3 <= tokens; t += 3)
                        multiply_3(w + half, count, x + (size_t)t * a->x_stride + 4 * c, a->x_stride, (float(*)[64])(p[t] + half));
                    for (; t < tokens; t++)
                        multiply_1(w + half, count, x + (size_t)t * a->x_stride + 4 * c, a->x_stride, (float(*)[64])(p[t] + half));
                }
            }
            for (uint32_t t = 0; t < tokens; t++) {
                __m256 sums[8];
                for (uint32_t i = 0; i < 8; i++) {
                    sums[i] = _mm256_load_ps(p[t] + 8 * i);
                    if (rest)
                        sums[i] = add_rest(sums[i], load(panel + tiles * tile_bytes, i), x + (size_t)t * a->x_stride + 4 * tiles, rest);
                }
                store_16(a->y + (size_t)(t0 + t) * a->y_stride + o, at.col1 - o, join(sums), join(sums + 4));
            }
        }
    }
}

ALWAYS_INLINE void matmul(const infer_matmul_args *a, infer_region at, size_t tile_bytes, load_fn *load)
{
    if (at.row1 - at.row0 == 1)
        direct(a, at.row0, at.col0, at.col1, tile_bytes, load);
    else
        blocked(a, at, tile_bytes, load);
}

void matmul_f32_tile16x4__avx2(const void *args, infer_region at) { matmul(args, at, 64 * sizeof(float), tile_f32); }
void matmul_f16_tile16x4__avx2(const void *args, infer_region at) { matmul(args, at, 64 * sizeof(uint16_t), tile_f16); }
void matmul_bf16_tile16x4__avx2(const void *args, infer_region at) { matmul(args, at, 64 * sizeof(uint16_t), tile_bf16); }
