/*
 * y = x w^T, weights q4g32. Nibbles are unsigned and activations signed, which is what vpmaddubsw multiplies; a group's sums of 32 inputs
 * stay in 16-bit lanes (8 products of pairs, each at most 2 x 15 x 127). The lanes start from the group's offset8 pair instead of zero,
 * which turns codes 0..15 into -8..7 at no cost; 16-bit wrap-around on the way is harmless, since the group's own sum fits. Two lanes make an
 * output (inputs k mod 4 in {0, 1} and {2, 3}); one vpmaddwd joins them.
 */
#include "kernels.h"
#include "tile16x4.h"
#include "vector.h"

enum {
    GROUP_BYTES = INFER_TILE_Q4_GROUP_BYTES,
    TOKENS = 4,            /* register block: 2 accumulators a token, 2 weights, 1 activation */
    DIRECT_TOKENS = 24     /* up to here unpacking into L1 does not pay (measured) */
};

/* y += float(sums) * (weight scales * activation scale), 8 rows */
ALWAYS_INLINE __m256 add_group(__m256 y, __m256i sums, __m256 w_scales, __m256 x_scale)
{
    __m256i joined = _mm256_madd_epi16(sums, _mm256_set1_epi16(1));
    return _mm256_fmadd_ps(_mm256_cvtepi32_ps(joined), _mm256_mul_ps(w_scales, x_scale), y);
}

/* ---- few tokens: the stored weights as they lie, nothing kept ---- */

ALWAYS_INLINE void direct(const infer_matmul_args *a, uint32_t t0, const uint32_t tokens, uint32_t col0, uint32_t col1)
{
    const __m256i low_nibbles = _mm256_set1_epi8(15);
    size_t groups = infer_q8_groups(a->k), row_groups = a->xq.row_groups;
    const uint8_t *group = (const uint8_t *)a->w + col0 / 16 * groups * GROUP_BYTES;

    for (uint32_t o = col0; o < col1; o += 16) {
        const int8_t *x = a->xq.codes + 32 * (t0 * row_groups);
        __m256 y[TOKENS][2];
        for (uint32_t t = 0; t < tokens; t++)
            y[t][0] = y[t][1] = _mm256_setzero_ps();
        for (size_t g = 0; g < groups; g++, group += GROUP_BYTES, x += 32) {
            const float *x_scale = a->xq.scales + t0 * row_groups + g;
            const int16_t *offset8 = a->xq.offset8 + 2 * (t0 * row_groups + g);
            __m256 scales0 = load_f16(group), scales1 = load_f16(group + 16);
            __m256i sums[TOKENS][2];
            for (uint32_t t = 0; t < tokens; t++)
                sums[t][0] = sums[t][1] = broadcast_32(offset8 + 2 * (t * row_groups));
#pragma GCC unroll 4
            for (int c = 0; c < 4; c++) {
                __m256i w0 = load_256(group + 32 + 64 * c), w1 = load_256(group + 64 + 64 * c);
                __m256i low0 = _mm256_and_si256(w0, low_nibbles), high0 = _mm256_and_si256(_mm256_srli_epi16(w0, 4), low_nibbles);
                __m256i low1 = _mm256_and_si256(w1, low_nibbles), high1 = _mm256_and_si256(_mm256_srli_epi16(w1, 4), low_nibbles);
                for (uint32_t t = 0; t < tokens; t++) {
                    const int8_t *inputs = x + 32 * (t * row_groups) + 8 * c;
                    __m256i x_low = broadcast_32(inputs), x_high = broadcast_32(inputs + 4);
                    sums[t][0] = _mm256_add_epi16(sums[t][0], _mm256_maddubs_epi16(low0, x_low));
                    sums[t][1] = _mm256_add_epi16(sums[t][1], _mm256_maddubs_epi16(low1, x_low));
                    sums[t][0] = _mm256_add_epi16(sums[t][0], _mm256_maddubs_epi16(high0, x_high));
                    sums[t][1] = _mm256_add_epi16(sums[t][1], _mm256_maddubs_epi16(high1, x_high));
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

/* Tokens t0..t1, at most TOKENS. */
static void direct_tokens(const infer_matmul_args *a, uint32_t t0, uint32_t t1, uint32_t col0, uint32_t col1)
{
    switch (t1 - t0) {
    case 1:
        direct(a, t0, 1, col0, col1);
        break;
    case 2:
        direct(a, t0, 2, col0, col1);
        break;
    case 3:
        direct(a, t0, 3, col0, col1);
        break;
    case 4:
        direct(a, t0, 4, col0, col1);
    }
}

/* ---- many tokens: a panel's groups are unpacked into L1, then meet every token of a block ---- */

enum {
    BLOCK_GROUPS = 16, /* 8 KB of codes */
    BLOCK_TOKENS = 64  /* 4 KB of sums */
};

typedef struct unpacked {
    uint8_t codes[BLOCK_GROUPS][8][64]; /* one nibble a byte; tile c: inputs 4c..4c+3 */
    float scales[BLOCK_GROUPS][16];
} unpacked;

static void unpack(unpacked *w, const uint8_t *group, uint32_t groups)
{
    const __m256i low_nibbles = _mm256_set1_epi8(15);

    for (uint32_t g = 0; g < groups; g++, group += GROUP_BYTES) {
        _mm256_store_ps(w->scales[g], load_f16(group));
        _mm256_store_ps(w->scales[g] + 8, load_f16(group + 16));
        for (int i = 0; i < 8; i++) { /* half tiles of 8 rows */
            __m256i both = load_256(group + 32 + 32 * i);
            uint8_t *low = w->codes[g][i / 2 * 2] + i % 2 * 32;
            _mm256_store_si256((__m256i *)low, _mm256_and_si256(both, low_nibbles));
            _mm256_store_si256((__m256i *)(low + 64), _mm256_and_si256(_mm256_srli_epi16(both, 4), low_nibbles));
        }
    }
}

/* y[t][16] += unpacked weights x tokens t0.. , groups g0.. */
ALWAYS_INLINE void multiply(const unpacked *w, uint32_t groups, const infer_q8_rows *xq, uint32_t t0, const uint32_t tokens, size_t g0,
                            float (*y)[16])
{
    size_t row_groups = xq->row_groups, first = t0 * row_groups + g0;
    const int8_t *x = xq->codes + 32 * first;
    const float *x_scale = xq->scales + first;
    const int16_t *offset8 = xq->offset8 + 2 * first;

    for (uint32_t g = 0; g < groups; g++) {
        KEEP_IN_MEMORY();
        __m256i sums[TOKENS][2];
        __m256 scales0 = _mm256_load_ps(w->scales[g]), scales1 = _mm256_load_ps(w->scales[g] + 8);
        for (uint32_t t = 0; t < tokens; t++)
            sums[t][0] = sums[t][1] = broadcast_32(offset8 + 2 * (t * row_groups + g));
#pragma GCC unroll 8
        for (int c = 0; c < 8; c++) {
            __m256i w0 = load_256(w->codes[g][c]), w1 = load_256(w->codes[g][c] + 32);
            for (uint32_t t = 0; t < tokens; t++) {
                __m256i inputs = broadcast_32(x + 32 * (t * row_groups + g) + 4 * c);
                sums[t][0] = _mm256_add_epi16(sums[t][0], _mm256_maddubs_epi16(w0, inputs));
                sums[t][1] = _mm256_add_epi16(sums[t][1], _mm256_maddubs_epi16(w1, inputs));
            }
        }
        for (uint32_t t = 0; t < tokens; t++) {
            __m256 scale = _mm256_set1_ps(x_scale[t * row_groups + g]);
            _mm256_store_ps(y[t], add_group(_mm256_load_ps(y[t]), sums[t][0], scales0, scale));
            _mm256_store_ps(y[t] + 8, add_group(_mm256_load_ps(y[t] + 8), sums[t][1], scales1, scale));
        }
    }
}

static void multiply_4(const unpacked *w, uint32_t groups, const infer_q8_rows *xq, uint32_t t0, size_t g0, float (*y)[16])
{
    multiply(w, groups, xq, t0, 4, g0, y);
}

static void multiply_1(const unpacked *w, uint32_t groups, const infer_q8_rows *xq, uint32_t t0, size_t g0, float (*y)[16])
{
    multiply(w, groups, xq, t0, 1, g0, y);
}

static void blocked(const infer_matmul_args *a, infer_region at)
{
    uint32_t groups = (uint32_t)infer_q8_groups(a->k);
    _Alignas(64) unpacked w;
    _Alignas(64) float y[BLOCK_TOKENS][16];

    for (uint32_t t0 = at.row0; t0 < at.row1; t0 += BLOCK_TOKENS) {
        uint32_t tokens = at.row1 - t0 < BLOCK_TOKENS ? at.row1 - t0 : BLOCK_TOKENS;
        for (uint32_t o = at.col0; o < at.col1; o += 16) {
            const uint8_t *panel = (const uint8_t *)a->w + (size_t)(o / 16) * groups * GROUP_BYTES;
            memset(y, 0, tokens * sizeof y[0]);
            for (uint32_t g = 0; g < groups; g += BLOCK_GROUPS) {
                uint32_t count = groups - g < BLOCK_GROUPS ? groups - g : BLOCK_GROUPS, t = 0;
                unpack(&w, panel + (size_t)g * GROUP_BYTES, count);
                for (; t + 4 <= tokens; t += 4)
                    multiply_4(&w, count, &a->xq, t0 + t, g, y + t);
                for (; t < tokens; t++)
                    multiply_1(&w, count, &a->xq, t0 + t, g, y + t);
            }
            for (uint32_t t = 0; t < tokens; t++)
                store_16(a->y + (size_t)(t0 + t) * a->y_stride + o, at.col1 - o, _mm256_load_ps(y[t]), _mm256_load_ps(y[t] + 8));
        }
    }
}

void matmul_q4g32_tile16x4__avx2(const void *args, infer_region at)
{
    if (at.row1 - at.row0 <= TOKENS) {
        direct_tokens(args, at.row0, at.row1, at.col0, at.col1);
    } else if (at.row1 - at.row0 <= DIRECT_TOKENS) {
        for (uint32_t o = at.col0; o < at.col1; o += 16)
            for (uint32_t t = at.row0; t < at.row1; t += TOKENS)
                direct_tokens(args, t, at.row1 - t < TOKENS ? at.row1 : t + TOKENS, o, at.col1 - o < 16 ? at.col1 : o + 16);
    } else {
        blocked(args, at);
    }
}
