/*
 * y = x w^T with the 256-bit vpdpbusd of AVX-VNNI: eight output rows x four inputs an instruction. Weights are made unsigned (q4g32
 * codes are stored 8 too large, q8g32 codes get 128 added, vpshufb turns n4g32 codes into values + 64) and the sum of a group starts from
 * -offset x the sum of its activation codes, so that it ends as the exact sum. Static functions only.
 */
#ifndef INFER_KERNELS_AVXVNNI_MATMUL_VNNI_H
#define INFER_KERNELS_AVXVNNI_MATMUL_VNNI_H

#include "avx2/vector.h"
#include "kernels.h"
#include "tile16x4.h"

enum {
    TOKENS = 4,         /* register block: 2 sums a token, 2 weights, 1 activation, 2 scales */
    BLOCK_TOKENS = 128, /* 8 KB of outputs */
    BLOCK_GROUPS = 16   /* 8 KB of unsigned weights */
};

typedef enum weight_kind { WEIGHT_Q8, WEIGHT_Q4, WEIGHT_N4 } weight_kind;

ALWAYS_INLINE size_t weight_group_bytes(weight_kind kind)
{
    return kind == WEIGHT_Q8 ? INFER_TILE_Q8_GROUP_BYTES : INFER_TILE_Q4_GROUP_BYTES;
}

/* Where the sums of a group start, in every lane. */
ALWAYS_INLINE __m256i start(const int16_t offset8[2], weight_kind kind)
{
    const int16_t eighth = kind == WEIGHT_Q8 ? 128 / 8 : kind == WEIGHT_Q4 ? 8 / 8 : INFER_N4_OFFSET / 8;
    return _mm256_madd_epi16(broadcast_32(offset8), _mm256_set1_epi16(eighth));
}

/* Unsigned weights of inputs 4c..4c+3: rows 0-7 (half 0) or 8-15 (half 1) of a panel group. */
ALWAYS_INLINE __m256i load_codes(const uint8_t *group, int c, int half, weight_kind kind)
{
    const uint8_t *tiles = group + INFER_TILE_SCALE_BYTES + 32 * half;
    __m256i nibbles, values;

    if (kind == WEIGHT_Q8)
        return _mm256_xor_si256(load_256(tiles + 64 * c), _mm256_set1_epi8((char)0x80));
    nibbles = _mm256_and_si256(_mm256_srli_epi16(load_256(tiles + c / 2 * 64), c % 2 * 4), _mm256_set1_epi8(15));
    if (kind == WEIGHT_Q4)
        return nibbles;
    values = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)(const void *)infer_n4_values));
    return _mm256_shuffle_epi8(_mm256_add_epi8(values, _mm256_set1_epi8(INFER_N4_OFFSET)), nibbles);
}

/* y += float(sums) * (weight scales * activation scale), 8 rows */
ALWAYS_INLINE __m256 add_group(__m256 y, __m256i sums, __m256 w_scales, __m256 x_scale)
{
    return _mm256_fmadd_ps(_mm256_cvtepi32_ps(sums), _mm256_mul_ps(w_scales, x_scale), y);
}

/* ---- few tokens: one pass over the stored weights, nothing kept ---- */

ALWAYS_INLINE void direct(const infer_matmul_args *a, uint32_t t0, const uint32_t tokens, uint32_t col0, uint32_t col1, weight_kind kind)
{
    size_t groups = infer_q8_groups(a->k), row_groups = a->xq.row_groups, group_bytes = weight_group_bytes(kind);
    const uint8_t *group = (const uint8_t *)a->w + col0 / 16 * groups * group_bytes;

    for (uint32_t o = col0; o < col1; o += 16) {
        const int8_t *x = a->xq.codes + 32 * (t0 * row_groups);
        __m256 y[TOKENS][2];
        for (uint32_t t = 0; t < tokens; t++)
            y[t][0] = y[t][1] = _mm256_setzero_ps();
        for (size_t g = 0; g < groups; g++, group += group_bytes, x += 32) {
            const float *x_scale = a->xq.scales + t0 * row_groups + g;
            const int16_t *offset8 = a->xq.offset8 + 2 * (t0 * row_groups + g);
            __m256 scales0 = load_f16(group), scales1 = load_f16(group + 16);
            __m256i sums[TOKENS][2];
            for (uint32_t t = 0; t < tokens; t++)
                sums[t][0] = sums[t][1] = start(offset8 + 2 * (t * row_groups), kind);
            prefetch_weights(group + WEIGHTS_AHEAD, group_bytes);
#pragma GCC unroll 8
            for (int c = 0; c < 8; c++) {
                __m256i w0 = load_codes(group, c, 0, kind), w1 = load_codes(group, c, 1, kind);
                for (uint32_t t = 0; t < tokens; t++) {
                    __m256i inputs = broadcast_32(x + 32 * (t * row_groups) + 4 * c);
                    sums[t][0] = _mm256_dpbusd_avx_epi32(sums[t][0], w0, inputs);
                    sums[t][1] = _mm256_dpbusd_avx_epi32(sums[t][1], w1, inputs);
                }
            }
            for (uint32_t t = 0; t < tokens; t++) {
                __m256 scale = _mm256_set1_ps(x_scale[t * row_groups]);
                y[t][0] = add_group(y[t][0], sums[t][0], scales0, scale);
                y[t][1] = add_group(y[t][1], sums[t][1], scales1, scale);
            }
        }
        for (uint32_t t = 0; t < tokens; t++)
            store_16(a->y + (size_t)(t0 + t) * a->y_stride + o, col1 - o, y[t][0], y[t][1]);
    }
}

/* ---- many tokens: a panel's groups are made unsigned once for the block's tokens ---- */

typedef struct unpacked {
    uint8_t codes[BLOCK_GROUPS][8][64]; /* tile c: 16 rows x inputs 4c..4c+3 */
    float scales[BLOCK_GROUPS][16];
} unpacked;

ALWAYS_INLINE void unpack(unpacked *w, const uint8_t *group, uint32_t groups, weight_kind kind)
{
    for (uint32_t g = 0; g < groups; g++, group += weight_group_bytes(kind)) {
        _mm256_store_ps(w->scales[g], load_f16(group));
        _mm256_store_ps(w->scales[g] + 8, load_f16(group + 16));
#pragma GCC unroll 8
        for (int c = 0; c < 8; c++) {
            _mm256_store_si256((__m256i *)(void *)w->codes[g][c], load_codes(group, c, 0, kind));
            _mm256_store_si256((__m256i *)(void *)(w->codes[g][c] + 32), load_codes(group, c, 1, kind));
        }
    }
}

/* y[t][16] += unpacked weights x tokens t0.., groups g0.. */
ALWAYS_INLINE void multiply(const unpacked *w, uint32_t groups, const infer_q8_rows *xq, uint32_t t0, const uint32_t tokens, size_t g0,
                            float (*y)[16], weight_kind kind)
{
    size_t row_groups = xq->row_groups, first = t0 * row_groups + g0;
    const int8_t *x = xq->codes + 32 * first;
    const float *x_scale = xq->scales + first;
    const int16_t *offset8 = xq->offset8 + 2 * first;

    for (uint32_t g = 0; g < groups; g++) {
        __m256i sums[TOKENS][2];
        __m256 scales0 = _mm256_load_ps(w->scales[g]), scales1 = _mm256_load_ps(w->scales[g] + 8);
        for (uint32_t t = 0; t < tokens; t++)
            sums[t][0] = sums[t][1] = start(offset8 + 2 * (t * row_groups + g), kind);
#pragma GCC unroll 8
        for (int c = 0; c < 8; c++) {
            __m256i w0 = load_256(w->codes[g][c]), w1 = load_256(w->codes[g][c] + 32);
            for (uint32_t t = 0; t < tokens; t++) {
                __m256i inputs = broadcast_32(x + 32 * (t * row_groups + g) + 4 * c);
                sums[t][0] = _mm256_dpbusd_avx_epi32(sums[t][0], w0, inputs);
                sums[t][1] = _mm256_dpbusd_avx_epi32(sums[t][1], w1, inputs);
            }
        }
        for (uint32_t t = 0; t < tokens; t++) {
            __m256 scale = _mm256_set1_ps(x_scale[t * row_groups + g]);
            _mm256_store_ps(y[t], add_group(_mm256_load_ps(y[t]), sums[t][0], scales0, scale));
            _mm256_store_ps(y[t] + 8, add_group(_mm256_load_ps(y[t] + 8), sums[t][1], scales1, scale));
        }
    }
}

ALWAYS_INLINE void blocked(const infer_matmul_args *a, infer_region at, weight_kind kind)
{
    uint32_t groups = (uint32_t)infer_q8_groups(a->k);
    _Alignas(64) unpacked w;
    _Alignas(64) float y[BLOCK_TOKENS][16];

    for (uint32_t t0 = at.row0; t0 < at.row1; t0 += BLOCK_TOKENS) {
        uint32_t tokens = at.row1 - t0 < BLOCK_TOKENS ? at.row1 - t0 : BLOCK_TOKENS;
        for (uint32_t o = at.col0; o < at.col1; o += 16) {
            const uint8_t *panel = (const uint8_t *)a->w + (size_t)(o / 16) * groups * weight_group_bytes(kind);
            memset(y, 0, tokens * sizeof y[0]);
            for (uint32_t g = 0; g < groups; g += BLOCK_GROUPS) {
                uint32_t count = groups - g < BLOCK_GROUPS ? groups - g : BLOCK_GROUPS, t = 0;
                unpack(&w, panel + (size_t)g * weight_group_bytes(kind), count, kind);
                for (; t + 4 <= tokens; t += 4)
                    multiply(&w, count, &a->xq, t0 + t, 4, g, y + t, kind);
                for (; t < tokens; t++)
                    multiply(&w, count, &a->xq, t0 + t, 1, g, y + t, kind);
            }
            for (uint32_t t = 0; t < tokens; t++)
                store_16(a->y + (size_t)(t0 + t) * a->y_stride + o, at.col1 - o, _mm256_load_ps(y[t]), _mm256_load_ps(y[t] + 8));
        }
    }
}

ALWAYS_INLINE void matmul(const infer_matmul_args *a, infer_region at, weight_kind kind)
{
    switch (at.row1 - at.row0) {
    case 1:
        direct(a, at.row0, 1, at.col0, at.col1, kind);
        break;
    case 2:
        direct(a, at.row0, 2, at.col0, at.col1, kind);
        break;
    case 3:
        direct(a, at.row0, 3, at.col0, at.col1, kind);
        break;
    case 4:
        direct(a, at.row0, 4, at.col0, at.col1, kind);
        break;
    default:
        blocked(a, at, kind);
    }
}

#endif
