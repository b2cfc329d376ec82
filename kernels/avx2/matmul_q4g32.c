/*
 * y = x w^T, weights q4g32 and n4g32. Weights are unsigned and activations signed, which is what vpmaddubsw multiplies.
 *
 * q4g32: nibbles as they are; a group's sums of 32 inputs stay in 16-bit lanes (8 products of pairs, each at most 2 x 15 x 127). The lanes start
 * from the group's offset8 pair instead of zero, which turns codes 0..15 into -8..7 at no cost; 16-bit wrap-around on the way is harmless, since
 * the group's own sum fits. Two lanes make an output (inputs k mod 4 in {0, 1} and {2, 3}); one vpmaddwd joins them.
 *
 * n4g32: vpshufb turns nibbles into values + 64; a vpmaddwd widens every product of pairs, and the sums start from eight times the offset8 pair.
 */
#include "panels.h"
#include "tile16x4.h"

typedef enum weight_kind { WEIGHT_Q4, WEIGHT_N4 } weight_kind;

enum { GROUP_BYTES = INFER_TILE_Q4_GROUP_BYTES };

/* What unsigned weights of 4 bits stand for, in both halves. */
ALWAYS_INLINE __m256i value_table(void)
{
    __m128i values = load_128(infer_n4_values);
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

/*
 * Some tokens x one panel, what follows asked for; or (Zen) one token x some panels, which are read side by side, a line of each in turn, and what
 * lies at the same place of the panels behind them asked for, if that is not far: in long panels the hardware is better left alone.
 */
ALWAYS_INLINE void direct_panels(const infer_matmul_args *a, uint32_t t0, const uint32_t tokens, uint32_t o, const uint32_t panels, uint32_t col1,
                                 weight_kind kind)
{
    const __m256i values = value_table();
    size_t groups = infer_q8_groups(a->k), row_groups = a->xq.row_groups, first = t0 * row_groups, panel_bytes = groups * GROUP_BYTES;
    const int8_t *x = a->xq.codes + 32 * first;
    const float *x_scale = a->xq.scales + first;
    const int16_t *offset8 = a->xq.offset8 + 2 * first;
    const uint8_t *group = (const uint8_t *)a->w + o / 16 * panel_bytes;
    _Alignas(32) float y[TOKENS][2][8] = {{{0}}}; /* [tokens, or panels] */

    for (size_t g = 0; g < groups; g++, group += GROUP_BYTES, x += 32, x_scale++, offset8 += 2) {
        __m256i sums[TOKENS][2];
        KEEP_IN_MEMORY();
        if (panels == 1)
            prefetch_weights(group + WEIGHTS_AHEAD, GROUP_BYTES);
        for (uint32_t p = 0; p < panels; p++)
            for (uint32_t t = 0; t < tokens; t++)
                sums[p + t][0] = sums[p + t][1] = start(offset8 + 2 * (t * row_groups), kind);
#pragma GCC unroll 4
        for (int c = 0; c < 4; c++)
            for (uint32_t p = 0; p < panels; p++) {
                const uint8_t *tile = group + p * panel_bytes + 32 + 64 * c;
                __m256i w0 = load_256(tile), low0 = low_weights(w0, values, kind), high0 = high_weights(w0, values, kind);
                __m256i w1 = load_256(tile + 32), low1 = low_weights(w1, values, kind), high1 = high_weights(w1, values, kind);
                if (panels > 1 && panels * panel_bytes <= MOST_AHEAD)
                    prefetch_weights(tile + panels * panel_bytes, 64);
                for (uint32_t t = 0; t < tokens; t++) {
                    const int8_t *inputs = x + 32 * (t * row_groups) + 8 * c;
                    __m256i x_low = broadcast_32(inputs), x_high = broadcast_32(inputs + 4);
                    sums[p + t][0] = add_products(sums[p + t][0], low0, x_low, kind);
                    sums[p + t][1] = add_products(sums[p + t][1], low1, x_low, kind);
                    sums[p + t][0] = add_products(sums[p + t][0], high0, x_high, kind);
                    sums[p + t][1] = add_products(sums[p + t][1], high1, x_high, kind);
                }
            }
        for (uint32_t p = 0; p < panels; p++)
            for (int half = 0; half < 2; half++) {
                __m256 scales = load_f16(group + p * panel_bytes + 16 * half);
                for (uint32_t t = 0; t < tokens; t++)
                    _mm256_store_ps(y[p + t][half], add_group(_mm256_load_ps(y[p + t][half]), sums[p + t][half], scales,
                                                              _mm256_set1_ps(x_scale[t * row_groups]), kind));
            }
    }
    for (uint32_t p = 0; p < panels && o + 16 * p < col1; p++)
        for (uint32_t t = 0; t < tokens; t++)
            store_16(a->y + (size_t)(t0 + t) * a->y_stride + o + 16 * p, col1 - o - 16 * p, _mm256_load_ps(y[p + t][0]), _mm256_load_ps(y[p + t][1]));
}

/* ---- many tokens: groups of up to four panels are unpacked into L1, then meet the tokens of a block one by one: a token's inputs, broadcast
 * once, serve 64 rows ---- */

enum {
    BLOCK_GROUPS = 8, /* 16 KB of codes */
    BLOCK_TOKENS = 64 /* 16 KB of sums */
};

typedef struct unpacked {
    uint8_t weights[8][PANELS][2][32]; /* inputs 4c..4c+3 of 8 rows */
    float scales[PANELS][2][8];
} unpacked;

ALWAYS_INLINE void unpack(unpacked *w, uint32_t panel, const uint8_t *group, weight_kind kind)
{
    const __m256i values = value_table();

    for (int half = 0; half < 2; half++, group += 32) {
        _mm256_store_ps(w->scales[panel][half], load_f16(group - 16 * half));
        for (int c = 0; c < 8; c += 2) {
            __m256i both = load_256(group + 32 + 32 * c);
            _mm256_store_si256((__m256i *)w->weights[c][panel][half], low_weights(both, values, kind));
            _mm256_store_si256((__m256i *)w->weights[c + 1][panel][half], high_weights(both, values, kind));
        }
    }
}

/* y[panels][16] += unpacked weights x token t, groups g0.. */
ALWAYS_INLINE void multiply(const unpacked *w, uint32_t groups, const uint32_t panels, const infer_q8_rows *xq, uint32_t t, size_t g0, float (*y)[2][8],
                            weight_kind kind)
{
    size_t first = (size_t)t * xq->row_groups + g0;
    const int8_t *x = xq->codes + 32 * first;
    const float *x_scale = xq->scales + first;
    const int16_t *offset8 = xq->offset8 + 2 * first;

    for (uint32_t g = 0; g < groups; g++, w++, x += 32, x_scale++, offset8 += 2) {
        __m256i sums[PANELS][2];
        KEEP_IN_MEMORY();
        for (uint32_t p = 0; p < panels; p++)
            sums[p][0] = sums[p][1] = start(offset8, kind);
#pragma GCC unroll 8
        for (int c = 0; c < 8; c++) {
            __m256i inputs = broadcast_32(x + 4 * c);
            for (uint32_t p = 0; p < panels; p++)
                for (int half = 0; half < 2; half++)
                    sums[p][half] = add_products(sums[p][half], load_256(w->weights[c][p][half]), inputs, kind);
        }
        for (uint32_t p = 0; p < panels; p++)
            for (int half = 0; half < 2; half++)
                _mm256_store_ps(y[p][half], add_group(_mm256_load_ps(y[p][half]), sums[p][half], _mm256_load_ps(w->scales[p][half]),
                                                      _mm256_set1_ps(*x_scale), kind));
    }
}

/* Columns o.. of `panels` panels. */
ALWAYS_INLINE void blocked_panels(const infer_matmul_args *a, infer_region at, uint32_t o, const uint32_t panels, weight_kind kind)
{
    uint32_t groups = (uint32_t)infer_q8_groups(a->k);
    const uint8_t *panel = (const uint8_t *)a->w + (size_t)(o / 16) * groups * GROUP_BYTES;
    _Alignas(64) unpacked w[BLOCK_GROUPS];
    _Alignas(64) float y[BLOCK_TOKENS][PANELS][2][8];

    for (uint32_t t0 = at.row0; t0 < at.row1; t0 += BLOCK_TOKENS) {
        uint32_t tokens = at.row1 - t0 < BLOCK_TOKENS ? at.row1 - t0 : BLOCK_TOKENS;
        memset(y, 0, tokens * sizeof y[0]);
        for (uint32_t g0 = 0; g0 < groups; g0 += BLOCK_GROUPS) {
            uint32_t count = groups - g0 < BLOCK_GROUPS ? groups - g0 : BLOCK_GROUPS;
            for (uint32_t p = 0; p < panels; p++) {
                const uint8_t *group = panel + ((size_t)p * groups + g0) * GROUP_BYTES;
                size_t ahead = (g0 + BLOCK_GROUPS < groups ? BLOCK_GROUPS : (size_t)panels * groups - g0) * GROUP_BYTES;
                for (uint32_t g = 0; g < count; g++, group += GROUP_BYTES) {
                    prefetch_weights(group + ahead, GROUP_BYTES);
                    unpack(w + g, p, group, kind);
                }
            }
            for (uint32_t t = 0; t < tokens; t++) { /* tokens' inputs are far apart: the hardware does not ask for the next ones */
                size_t next = (size_t)(t0 + t + (t + 1 < tokens)) * a->xq.row_groups + g0;
                prefetch(a->xq.codes + 32 * next, 32 * BLOCK_GROUPS);
                multiply(w, count, panels, &a->xq, t0 + t, g0, y[t], kind);
            }
        }
        for (uint32_t t = 0; t < tokens; t++)
            for (uint32_t p = 0; p < panels && o + 16 * p < at.col1; p++)
                store_16(a->y + (size_t)(t0 + t) * a->y_stride + o + 16 * p, at.col1 - o - 16 * p, _mm256_load_ps(y[t][p][0]), _mm256_load_ps(y[t][p][1]));
    }
}

ALWAYS_INLINE void one_token_q4(const infer_matmul_args *a, infer_region at, uint32_t o, const uint32_t panels)
{
    direct_panels(a, at.row0, 1, o, panels, at.col1, WEIGHT_Q4);
}

ALWAYS_INLINE void few_tokens_q4(const infer_matmul_args *a, infer_region at, uint32_t o, uint32_t t0, const uint32_t tokens)
{
    direct_panels(a, t0, tokens, o, 1, at.col1, WEIGHT_Q4);
}

ALWAYS_INLINE void many_tokens_q4(const infer_matmul_args *a, infer_region at, uint32_t o, const uint32_t panels)
{
    blocked_panels(a, at, o, panels, WEIGHT_Q4);
}

ALWAYS_INLINE void one_token_n4(const infer_matmul_args *a, infer_region at, uint32_t o, const uint32_t panels)
{
    direct_panels(a, at.row0, 1, o, panels, at.col1, WEIGHT_N4);
}

ALWAYS_INLINE void few_tokens_n4(const infer_matmul_args *a, infer_region at, uint32_t o, uint32_t t0, const uint32_t tokens)
{
    direct_panels(a, t0, tokens, o, 1, at.col1, WEIGHT_N4);
}

ALWAYS_INLINE void many_tokens_n4(const infer_matmul_args *a, infer_region at, uint32_t o, const uint32_t panels)
{
    blocked_panels(a, at, o, panels, WEIGHT_N4);
}

ALWAYS_INLINE void matmul(const infer_matmul_args *a, infer_region at, tokens_fn *few, panels_fn *many)
{
    if (at.row1 - at.row0 <= TOKENS) /* unpacking does not pay (measured) */
        by_tokens(a, at, few);
    else
        by_panels(a, at, many);
}

void matmul_q4g32_tile16x4__avx2(const void *args, infer_region at) { matmul(args, at, few_tokens_q4, many_tokens_q4); }
void matmul_n4g32_tile16x4__avx2(const void *args, infer_region at) { matmul(args, at, few_tokens_n4, many_tokens_n4); }

void matmul_q4g32_tile16x4__zen(const void *args, infer_region at)
{
    if (at.row1 - at.row0 == 1)
        by_panels(args, at, one_token_q4);
    else
        matmul_q4g32_tile16x4__avx2(args, at);
}

void matmul_n4g32_tile16x4__zen(const void *args, infer_region at)
{
    if (at.row1 - at.row0 == 1)
        by_panels(args, at, one_token_n4);
    else
        matmul_n4g32_tile16x4__avx2(args, at);
}
