/*
 * y = x w^T, weights q8g32. Few tokens: vpmaddubsw of |w| and x with the sign of w, whose pairs stay below 2^15 (128 x 127 x 2), joined by
 * vpmaddwd; cheap enough to keep up with memory. Many tokens: both sides widened to 16 bits, which needs a vpmaddwd more and two operations
 * less for the same products, and wins as soon as the widened weights meet a few tokens.
 */
#include "kernels.h"
#include "tile16x4.h"
#include "vector.h"

enum {
    GROUP_BYTES = INFER_TILE_Q8_GROUP_BYTES,
    PREFETCH_BYTES = 2048,
    TOKENS = 4
};

/* y += float(sums) * (weight scales * activation scale), 8 rows */
ALWAYS_INLINE __m256 add_group(__m256 y, __m256i sums, __m256 w_scales, __m256 x_scale)
{
    return _mm256_fmadd_ps(_mm256_cvtepi32_ps(sums), _mm256_mul_ps(w_scales, x_scale), y);
}

/* ---- few tokens: one pass over the stored weights, nothing kept ---- */

/* sums += 8 rows x 4 inputs */
ALWAYS_INLINE __m256i add_products(__m256i sums, __m256i magnitudes, __m256i w, __m256i x)
{
    __m256i pairs = _mm256_maddubs_epi16(magnitudes, _mm256_sign_epi8(x, w));
    return _mm256_add_epi32(sums, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
}

ALWAYS_INLINE void direct(const infer_matmul_args *a, uint32_t t0, const uint32_t tokens, uint32_t col0, uint32_t col1)
{
    size_t groups = a->xq.k_padded / 32;
    const uint8_t *group = (const uint8_t *)a->w + col0 / 16 * groups * GROUP_BYTES;

    for (uint32_t o = col0; o < col1; o += 16) {
        const int8_t *x = a->xq.codes + (size_t)t0 * a->xq.k_padded;
        __m256 y[TOKENS][2];
        for (uint32_t t = 0; t < tokens; t++)
            y[t][0] = y[t][1] = _mm256_setzero_ps();
        for (size_t g = 0; g < groups; g++, group += GROUP_BYTES, x += 32) {
            const float *x_scale = a->xq.scales + t0 * groups + g;
            __m256 scales0 = load_f16(group), scales1 = load_f16(group + 16);
            __m256i sums[TOKENS][2];
            for (uint32_t t = 0; t < tokens; t++)
                sums[t][0] = sums[t][1] = _mm256_setzero_si256();
            for (int line = 0; line < GROUP_BYTES; line += 64)
                _mm_prefetch((const char *)group + PREFETCH_BYTES + line, _MM_HINT_T0);
#pragma GCC unroll 8
            for (int c = 0; c < 8; c++) {
                __m256i w0 = load_256(group + 32 + 64 * c), w1 = load_256(group + 64 + 64 * c);
                __m256i magnitudes0 = _mm256_abs_epi8(w0), magnitudes1 = _mm256_abs_epi8(w1);
                for (uint32_t t = 0; t < tokens; t++) {
                    __m256i inputs = broadcast_32(x + (size_t)t * a->xq.k_padded + 4 * c);
                    sums[t][0] = add_products(sums[t][0], magnitudes0, w0, inputs);
                    sums[t][1] = add_products(sums[t][1], magnitudes1, w1, inputs);
                }
            }
            for (uint32_t t = 0; t < tokens; t++) {
                __m256 scale = _mm256_set1_ps(x_scale[t * groups]);
                y[t][0] = add_group(y[t][0], sums[t][0], scales0, scale);
                y[t][1] = add_group(y[t][1], sums[t][1], scales1, scale);
            }
        }
        for (uint32_t t = 0; t < tokens; t++)
            store_16(a->y + (size_t)(t0 + t) * a->y_stride + o, col1 - o, y[t][0], y[t][1]);
    }
}

/* ---- many tokens: a block of activations is widened once for all panels, a panel's groups once for the block's tokens ---- */

enum {
    BLOCK_GROUPS = 16, /* 16 KB of weights */
    BLOCK_TOKENS = 48  /* 48 KB of activations, in L2; 3 KB of sums */
};

typedef struct widened {
    int16_t codes[BLOCK_GROUPS][16][32]; /* pair c: 16 rows x inputs 2c, 2c + 1 */
    float scales[BLOCK_GROUPS][16];
} widened;

static void widen_weights(widened *w, const uint8_t *group, uint32_t groups)
{
    /* in each half: inputs 0 and 1 of four rows, then inputs 2 and 3 */
    const __m256i split = _mm256_setr_epi8(0, 1, 4, 5, 8, 9, 12, 13, 2, 3, 6, 7, 10, 11, 14, 15, 0, 1, 4, 5, 8, 9, 12, 13, 2, 3, 6, 7, 10, 11,
                                           14, 15);

    for (uint32_t g = 0; g < groups; g++, group += GROUP_BYTES) {
        _mm256_store_ps(w->scales[g], load_f16(group));
        _mm256_store_ps(w->scales[g] + 8, load_f16(group + 16));
        for (int i = 0; i < 16; i++) { /* half tiles of 8 rows */
            __m256i codes = _mm256_shuffle_epi8(load_256(group + 32 + 32 * i), split);
            int16_t *pair = w->codes[g][i / 2 * 2] + i % 2 * 16;
            codes = _mm256_permute4x64_epi64(codes, _MM_SHUFFLE(3, 1, 2, 0));
            _mm256_store_si256((__m256i *)pair, _mm256_cvtepi8_epi16(_mm256_castsi256_si128(codes)));
            _mm256_store_si256((__m256i *)(pair + 32), _mm256_cvtepi8_epi16(_mm256_extracti128_si256(codes, 1)));
        }
    }
}

/* y[t][16] += widened weights x tokens; x, x_scale: of the first token */
ALWAYS_INLINE void multiply(const widened *w, uint32_t groups, const int16_t (*x)[32 * BLOCK_GROUPS], const float *x_scale, size_t scale_stride,
                            const uint32_t tokens, float (*y)[16])
{
    for (uint32_t g = 0; g < groups; g++) {
        KEEP_IN_MEMORY();
        __m256i sums[TOKENS][2];
        __m256 scales0 = _mm256_load_ps(w->scales[g]), scales1 = _mm256_load_ps(w->scales[g] + 8);
        for (uint32_t t = 0; t < tokens; t++)
            sums[t][0] = sums[t][1] = _mm256_setzero_si256();
#pragma GCC unroll 16
        for (int c = 0; c < 16; c++) {
            __m256i w0 = load_256(w->codes[g][c]), w1 = load_256(w->codes[g][c] + 16);
            for (uint32_t t = 0; t < tokens; t++) {
                __m256i inputs = broadcast_32(x[t] + 32 * g + 2 * c);
                sums[t][0] = _mm256_add_epi32(sums[t][0], _mm256_madd_epi16(w0, inputs));
                sums[t][1] = _mm256_add_epi32(sums[t][1], _mm256_madd_epi16(w1, inputs));
            }
        }
        for (uint32_t t = 0; t < tokens; t++) {
            __m256 scale = _mm256_set1_ps(x_scale[t * scale_stride + g]);
            _mm256_store_ps(y[t], add_group(_mm256_load_ps(y[t]), sums[t][0], scales0, scale));
            _mm256_store_ps(y[t] + 8, add_group(_mm256_load_ps(y[t] + 8), sums[t][1], scales1, scale));
        }
    }
}

static void multiply_4(const widened *w, uint32_t groups, const int16_t (*x)[32 * BLOCK_GROUPS], const float *x_scale, size_t scale_stride,
                       float (*y)[16])
{
    multiply(w, groups, x, x_scale, scale_stride, 4, y);
}

static void multiply_1(const widened *w, uint32_t groups, const int16_t (*x)[32 * BLOCK_GROUPS], const float *x_scale, size_t scale_stride,
                       float (*y)[16])
{
    multiply(w, groups, x, x_scale, scale_stride, 1, y);
}

/* Tokens t0.., groups g0..: adds to y, or starts it where g0 is 0. */
static void block(const infer_matmul_args *a, uint32_t t0, uint32_t tokens, uint32_t g0, uint32_t count, uint32_t col0, uint32_t col1)
{
    uint32_t groups = a->xq.k_padded / 32;
    _Alignas(64) widened w;
    _Alignas(64) int16_t x[BLOCK_TOKENS][32 * BLOCK_GROUPS];
    _Alignas(64) float y[BLOCK_TOKENS][16];

    for (uint32_t t = 0; t < tokens; t++) {
        const int8_t *codes = a->xq.codes + (size_t)(t0 + t) * a->xq.k_padded + 32 * (size_t)g0;
        for (uint32_t i = 0; i < 32 * count; i += 16)
            _mm256_store_si256((__m256i *)(x[t] + i), _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(codes + i))));
    }
    for (uint32_t o = col0; o < col1; o += 16) {
        const float *x_scale = a->xq.scales + (size_t)t0 * groups + g0;
        uint32_t t = 0, width = col1 - o < 16 ? col1 - o : 16;
        float *out = a->y + (size_t)t0 * a->y_stride + o;
        if (g0 == 0)
            memset(y, 0, tokens * sizeof y[0]);
        else
            for (uint32_t i = 0; i < tokens; i++)
                memcpy(y[i], out + (size_t)i * a->y_stride, width * sizeof(float));
        widen_weights(&w, (const uint8_t *)a->w + ((size_t)(o / 16) * groups + g0) * GROUP_BYTES, count);
        for (; t + 4 <= tokens; t += 4)
            multiply_4(&w, count, x + t, x_scale + (size_t)t * groups, groups, y + t);
        for (; t < tokens; t++)
            multiply_1(&w, count, x + t, x_scale + (size_t)t * groups, groups, y + t);
        for (uint32_t i = 0; i < tokens; i++)
            store_16(out + (size_t)i * a->y_stride, width, _mm256_load_ps(y[i]), _mm256_load_ps(y[i] + 8));
    }
}

static void blocked(const infer_matmul_args *a, infer_region at)
{
    uint32_t groups = a->xq.k_padded / 32;

    for (uint32_t t0 = at.row0; t0 < at.row1; t0 += BLOCK_TOKENS) {
        uint32_t tokens = at.row1 - t0 < BLOCK_TOKENS ? at.row1 - t0 : BLOCK_TOKENS;
        for (uint32_t g0 = 0; g0 < groups; g0 += BLOCK_GROUPS)
            block(a, t0, tokens, g0, groups - g0 < BLOCK_GROUPS ? groups - g0 : BLOCK_GROUPS, at.col0, at.col1);
    }
}

void matmul_q8g32_tile16x4__avx2(const void *args, infer_region at)
{
    switch (at.row1 - at.row0) {
    case 1:
        direct(args, at.row0, 1, at.col0, at.col1);
        break;
    case 2:
        direct(args, at.row0, 2, at.col0, at.col1);
        break;
    case 3:
        direct(args, at.row0, 3, at.col0, at.col1);
        break;
    case 4:
        direct(args, at.row0, 4, at.col0, at.col1);
        break;
    default:
        blocked(args, at);
    }
}
