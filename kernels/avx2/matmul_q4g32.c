/*
 * y = x w^T, weights q4g32 and n4g32. Weights are unsigned and activations signed, which is what vpmaddubsw multiplies.
 *
 * q4g32: nibbles as they are; a group's sums of 32 inputs stay in 16-bit lanes (8 products of pairs, each at most 2 x 15 x 127). The lanes start
 * from the group's offset8 pair instead of zero, which turns codes 0..15 into -8..7 at no cost; 16-bit wrap-around on the way is harmless, since
 * the group's own sum fits. Two lanes make an output (inputs k mod 4 in {0, 1} and {2, 3}); one vpmaddwd joins them.
 *
 * n4g32: vpshufb turns nibbles into values + 64; a vpmaddwd widens every product of pairs, and the sums start from eight times the offset8 pair.
 */
#include "kernels.h"
#include "tile16x4.h"
#include "vector.h"

typedef enum weight_kind { WEIGHT_Q4, WEIGHT_N4 } weight_kind;

enum {
    GROUP_BYTES = INFER_TILE_Q4_GROUP_BYTES,
    TOKENS = 4,            /* register block: 2 accumulators a token, 2 weights, 1 activation */
    DIRECT_TOKENS = 24     /* up to here unpacking into L1 does not pay (measured) */
};

/* What unsigned weights of 4 bits stand for, in both halves. */
ALWAYS_INLINE __m256i value_table(void)
{
    __m128i values = _mm_loadu_si128((const __m128i *)(const void *)infer_n4_values);
    return _mm256_broadcastsi128_si256(_mm_add_epi8(values, _mm_set1_epi8(INFER_N4_OFFSET)));
}

/* Unsigned weights of the low or high nibbles. */
ALWAYS_INLINE __m256i low_weights(__m256i bytes, __m256i values, weight_kind kind)
{
    __m256i codes = _mm256_and_si256(bytes, _mm256_set1_epi8(15));
    return kind == WEIGHT_N4 ? _mm256_shuffle_epi8(values, codes) : codes;
}

ALWAYS_INLINE __m256i high_weights(__m256i bytes, __m256i values, weight_kind kind)
{
    return low_weights(_mm256_srli_epi16(bytes, 4), values, kind);
}

/* Where the sums of a group start. */
ALWAYS_INLINE __m256i start(const int16_t *offset8, weight_kind kind)
{
    __m256i pair = broadcast_32(offset8);
    return kind == WEIGHT_N4 ? _mm256_madd_epi16(pair, _mm256_set1_epi16(INFER_N4_OFFSET / 8)) : pair;
}

/* sums += 8 rows x 4 inputs, in lanes of 16 (q4g32) or 32 bits */
ALWAYS_INLINE __m256i add_products(__m256i sums, __m256i w, __m256i x, weight_kind kind)
{
    __m256i pairs = _mm256_maddubs_epi16(w, x);
    return kind == WEIGHT_N4 ? _mm256_add_epi32(sums, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1))) : _mm256_add_epi16(sums, pairs);
}

/* y += float(sums) * (weight scales * activation scale), 8 rows */
ALWAYS_INLINE __m256 add_group(__m256 y, __m256i sums, __m256 w_scales, __m256 x_scale, weight_kind kind)
{
    __m256i joined = kind == WEIGHT_N4 ? sums : _mm256_madd_epi16(sums, _mm256_set1_epi16(1));
    return _mm256_fmadd_ps(_mm256_cvtepi32_ps(joined), _mm256_mul_ps(w_scales, x_scale), y);
}

/* ---- few tokens: the stored weights as they lie, nothing kept ---- */

ALWAYS_INLINE void direct(const infer_matmul_args *a, uint32_t t0, const uint32_t tokens, uint32_t col0, uint32_t col1, weight_kind kind)
{
    const __m256i values = value_table();
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
                sums[t][0] = sums[t][1] = start(offset8 + 2 * (t * row_groups), kind);
            prefetch_weights(group, GROUP_BYTES);
#pragma GCC unroll 4
            for (int c = 0; c < 4; c++) {
                __m256i w0 = load_256(group + 32 + 64 * c), w1 = load_256(group + 64 + 64 * c);
                __m256i low0 = low_weights(w0, values, kind), high0 = high_weights(w0, values, kind);
                __m256i low1 = low_weights(w1, values, kind), high1 = high_weights(w1, values, kind);
                for (uint32_t t = 0; t < tokens; t++) {
                    const int8_t *inputs = x + 32 * (t * row_groups) + 8 * c;
                    __m256i x_low = broadcast_32(inputs), x_high = broadcast_32(inputs + 4);
                    sums[t][0] = add_products(sums[t][0], low0, x_low, kind);
                    sums[t][1] = add_products(sums[t][1], low1, x_low, kind);
                    sums[t][0] = add_products(sums[t][0], high0, x_high, kind);
                    sums[t][1] = add_products(sums[t][1], high1, x_high, kind);
                }
            }
            for (uint32_t t = 0; t < tokens; t++) {
                __m256 scale = _mm256_set1_ps(x_scale[t * row_groups]);
                y[t][0] = add_group(y[t][0], sums[t][0], scales0, scale, kind);
                y[t][1] = add_group(y[t][1], sums[t][1], scales1, scale, kind);
            }
        }
        for (uint32_t t = 0; t < tokens; t++)
            store_16(a->y + (size_t)(t0 + t) * a->y_stride + o, col1 - o, y[t][0], y[t][1]);
    }
}

/* Tokens t0..t1, at most TOKENS. */
ALWAYS_INLINE void direct_tokens(const infer_matmul_args *a, uint32_t t0, uint32_t t1, uint32_t col0, uint32_t col1, weight_kind kind)
{
    switch (t1 - t0) {
    case 1:
        direct(a, t0, 1, col0, col1, kind);
        break;
    case 2:
        direct(a, t0, 2, col0, col1, kind);
        break;
    case 3:
        direct(a, t0, 3, col0, col1, kind);
        break;
    case 4:
        direct(a, t0, 4, col0, col1, kind);
    }
}

/* ---- many tokens: a panel's groups are unpacked into L1, then meet every token of a block ---- */

enum {
    BLOCK_GROUPS = 16, /* 8 KB of codes */
    BLOCK_TOKENS = 64  /* 4 KB of sums */
};

typedef struct unpacked {
    uint8_t weights[BLOCK_GROUPS][8][64]; /* tile c: inputs 4c..4c+3 */
    float scales[BLOCK_GROUPS][16];
} unpacked;

ALWAYS_INLINE void unpack(unpacked *w, const uint8_t *group, uint32_t groups, weight_kind kind)
{
    const __m256i values = value_table();

    for (uint32_t g = 0; g < groups; g++, group += GROUP_BYTES) {
        _mm256_store_ps(w->scales[g], load_f16(group));
        _mm256_store_ps(w->scales[g] + 8, load_f16(group + 16));
        for (int i = 0; i < 8; i++) { /* half tiles of 8 rows */
            __m256i both = load_256(group + 32 + 32 * i);
            uint8_t *low = w->weights[g][i / 2 * 2] + i % 2 * 32;
            _mm256_store_si256((__m256i *)low, low_weights(both, values, kind));
            _mm256_store_si256((__m256i *)(low + 64), high_weights(both, values, kind));
        }
    }
}

/* y[t][16] += unpacked weights x tokens t0.. , groups g0.. */
ALWAYS_INLINE void multiply(const unpacked *w, uint32_t groups, const infer_q8_rows *xq, uint32_t t0, const uint32_t tokens, size_t g0,
                            float (*y)[16], weight_kind kind)
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
            sums[t][0] = sums[t][1] = start(offset8 + 2 * (t * row_groups + g), kind);
#pragma GCC unroll 8
        for (int c = 0; c < 8; c++) {
            __m256i w0 = load_256(w->weights[g][c]), w1 = load_256(w->weights[g][c] + 32);
            for (uint32_t t = 0; t < tokens; t++) {
                __m256i inputs = broadcast_32(x + 32 * (t * row_groups + g) + 4 * c);
                sums[t][0] = add_products(sums[t][0], w0, inputs, kind);
                sums[t][1] = add_products(sums[t][1], w1, inputs, kind);
            }
        }
        for (uint32_t t = 0; t < tokens; t++) {
            __m256 scale = _mm256_set1_ps(x_scale[t * row_groups + g]);
            _mm256_store_ps(y[t], add_group(_mm256_load_ps(y[t]), sums[t][0], scales0, scale, kind));
            _mm256_store_ps(y[t] + 8, add_group(_mm256_load_ps(y[t] + 8), sums[t][1], scales1, scale, kind));
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
            const uint8_t *panel = (const uint8_t *)a->w + (size_t)(o / 16) * groups * GROUP_BYTES;
            memset(y, 0, tokens * sizeof y[0]);
            for (uint32_t g = 0; g < groups; g += BLOCK_GROUPS) {
                uint32_t count = groups - g < BLOCK_GROUPS ? groups - g : BLOCK_GROUPS, t = 0;
                unpack(&w, panel + (size_t)g * GROUP_BYTES, count, kind);
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
    if (at.row1 - at.row0 <= TOKENS) {
        direct_tokens(a, at.row0, at.row1, at.col0, at.col1, kind);
    } else if (at.row1 - at.row0 <= DIRECT_TOKENS) {
        for (uint32_t o = at.col0; o < at.col1; o += 16)
            for (uint32_t t = at.row0; t < at.row1; t += TOKENS)
                direct_tokens(a, t, at.row1 - t < TOKENS ? at.row1 : t + TOKENS, o, at.col1 - o < 16 ? at.col1 : o + 16, kind);
    } else {
        blocked(a, at, kind);
    }
}

void matmul_q4g32_tile16x4__avx2(const void *args, infer_region at) { matmul(args, at, WEIGHT_Q4); }
void matmul_n4g32_tile16x4__avx2(const void *args, infer_region at) { matmul(args, at, WEIGHT_N4); }
