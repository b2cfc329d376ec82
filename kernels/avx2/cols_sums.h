/*
 * Sums of the layout `cols` in 256 bits. Columns of inputs that are not 0 are taken in pairs (q4g64) or fours (q8g64): interleaving their bytes gives
 * what vpmaddubsw multiplies. Sums: q4g64 of 32 inputs in 16 bits, starting from -8 x the activations (32 x 127 x 8 fits), so that a group
 * of which more are not 0 has two; q8g64 in 32 bits.
 */
#ifndef INFER_KERNELS_AVX2_COLS_SUMS_H
#define INFER_KERNELS_AVX2_COLS_SUMS_H

#include "avx2/vector.h"
#include "cols.h"
#include "kernels.h"

enum {
    HALF = 32,   /* inputs whose sum fits */
    MANY = 28,   /* of 32 inputs: where more are not 0, hardly anything is skipped */
    LINE = 64,   /* bytes */
    LISTED = 256 /* groups whose lists of inputs are kept */
};

/* Numbers of six bits, the bits reversed. */
ALWAYS_INLINE uint32_t reversed(uint32_t i)
{
    i = (i & 7) << 3 | i >> 3;
    return (i & 011) << 2 | (i & 022) | (i & 044) >> 2;
}

ALWAYS_INLINE uint32_t active_mask(const int8_t *codes)
{
    return ~(uint32_t)_mm256_movemask_epi8(_mm256_cmpeq_epi8(load_256(codes), _mm256_setzero_si256()));
}

/*
 * Sums of 32 inputs x 32 outputs x what a byte holds, as interleaving leaves them.
 *   q4g64: four vectors of 16: low nibbles of outputs 0-7 16-23, high nibbles of these, low of 8-15 24-31, high of these
 *   q8g64: four vectors of 8: outputs 0-3 16-19, 4-7 20-23, 8-11 24-27, 12-15 28-31
 */
ALWAYS_INLINE void add_pair(__m256i sums[4], __m256i a, __m256i b, __m256i x)
{
    const __m256i low = _mm256_set1_epi8(15);
    __m256i first = _mm256_unpacklo_epi8(a, b), second = _mm256_unpackhi_epi8(a, b);
    sums[0] = _mm256_add_epi16(sums[0], _mm256_maddubs_epi16(_mm256_and_si256(first, low), x));
    sums[1] = _mm256_add_epi16(sums[1], _mm256_maddubs_epi16(_mm256_and_si256(_mm256_srli_epi16(first, 4), low), x));
    sums[2] = _mm256_add_epi16(sums[2], _mm256_maddubs_epi16(_mm256_and_si256(second, low), x));
    sums[3] = _mm256_add_epi16(sums[3], _mm256_maddubs_epi16(_mm256_and_si256(_mm256_srli_epi16(second, 4), low), x));
}

ALWAYS_INLINE __m256i add_products(__m256i sum, __m256i w, __m256i x, __m256i magnitude)
{
    return _mm256_add_epi32(sum, _mm256_madd_epi16(_mm256_maddubs_epi16(magnitude, _mm256_sign_epi8(w, x)), _mm256_set1_epi16(1)));
}

ALWAYS_INLINE void add_four(__m256i sums[4], __m256i a, __m256i b, __m256i c, __m256i d, __m256i x, __m256i magnitude)
{
    __m256i ab = _mm256_unpacklo_epi8(a, b), cd = _mm256_unpacklo_epi8(c, d);
    sums[0] = add_products(sums[0], _mm256_unpacklo_epi16(ab, cd), x, magnitude);
    sums[1] = add_products(sums[1], _mm256_unpackhi_epi16(ab, cd), x, magnitude);
    ab = _mm256_unpackhi_epi8(a, b);
    cd = _mm256_unpackhi_epi8(c, d);
    sums[2] = add_products(sums[2], _mm256_unpacklo_epi16(ab, cd), x, magnitude);
    sums[3] = add_products(sums[3], _mm256_unpackhi_epi16(ab, cd), x, magnitude);
}

/*
 * Sums that lie in memory, and y, have runs of 32 outputs in the order in which interleaving leaves them: four vectors, outputs 0-3 16-19,
 * 4-7 20-23, 8-11 24-27, 12-15 28-31.
 */

/* y[32] += sums x (scales x activation scale). infer_cols_scale has 16 bits that are not 0. */
ALWAYS_INLINE void add_run(float *y, const __m256i sums[4], const uint8_t *scales, __m256 x_scale)
{
    const __m256i zero = _mm256_setzero_si256(), bits = _mm256_set1_epi16((int16_t)0x83f8), bias = _mm256_set1_epi16(120 << 7);
    __m256i bytes = load_256(scales);
    for (int half = 0; half < 2; half++, y += 16) {
        __m256i top = half ? _mm256_unpackhi_epi8(zero, bytes) : _mm256_unpacklo_epi8(zero, bytes);
        top = _mm256_add_epi16(_mm256_and_si256(_mm256_srai_epi16(top, 5), bits), bias);
        __m256 first = _mm256_castsi256_ps(_mm256_unpacklo_epi16(zero, top)),
               second = _mm256_castsi256_ps(_mm256_unpackhi_epi16(zero, top));
        _mm256_store_ps(y, _mm256_fmadd_ps(_mm256_cvtepi32_ps(sums[2 * half]), _mm256_mul_ps(first, x_scale), _mm256_load_ps(y)));
        _mm256_store_ps(y + 8,
                        _mm256_fmadd_ps(_mm256_cvtepi32_ps(sums[2 * half + 1]), _mm256_mul_ps(second, x_scale), _mm256_load_ps(y + 8)));
    }
}

/* y += what a line of a group's columns gave: 128 outputs of q4g64, 64 of q8g64. `second`: q4g64's other part of the sums. */
ALWAYS_INLINE void add_line(float *y, const __m256i first[8], const __m256i second[8], const uint8_t *scales, __m256 x_scale,
                            const uint32_t bits)
{
    const __m256i ones = _mm256_set1_epi16(1);
    for (uint32_t h = 0; h < 2; h++)
        for (uint32_t high = 0; high < (bits == 4 ? 2 : 1); high++) {
            __m256i sums[4];
            for (uint32_t v = 0; v < 4; v++) {
                if (bits == 4) {
                    __m256i a = first[4 * h + v / 2 * 2 + high], b = second[4 * h + v / 2 * 2 + high];
                    sums[v] = _mm256_madd_epi16(v % 2 ? _mm256_unpackhi_epi16(a, b) : _mm256_unpacklo_epi16(a, b), ones);
                } else {
                    sums[v] = first[4 * h + v];
                }
            }
            add_run(y + 32 * h + 64 * high, sums, scales + 32 * h + 64 * high, x_scale);
        }
}

/* out[count] = y x row */
ALWAYS_INLINE void finish(float *out, const float *y, const float *row, uint32_t count)
{
    for (uint32_t o = 0; o < count; o += 32) {
        __m256 v[4] = {_mm256_load_ps(y + o), _mm256_load_ps(y + o + 8), _mm256_load_ps(y + o + 16), _mm256_load_ps(y + o + 24)};
        store_16(out + o, count - o, _mm256_mul_ps(_mm256_permute2f128_ps(v[0], v[1], 0x20), _mm256_loadu_ps(row + o)),
                 _mm256_mul_ps(_mm256_permute2f128_ps(v[2], v[3], 0x20), _mm256_loadu_ps(row + o + 8)));
        if (count - o > 16)
            store_16(out + o + 16, count - o - 16, _mm256_mul_ps(_mm256_permute2f128_ps(v[0], v[1], 0x31), _mm256_loadu_ps(row + o + 16)),
                     _mm256_mul_ps(_mm256_permute2f128_ps(v[2], v[3], 0x31), _mm256_loadu_ps(row + o + 24)));
    }
}

/* ---- one token: which inputs are not 0 ---- */

/*
 * A group's inputs that are not 0, and their codes, up to `end` in whole units; what fills them up is times 0. Where some are skipped, they are not
 * in the order of memory: the hardware would take it for a pattern, and read what is skipped.
 */
typedef struct active {
    uint32_t end;
    bool scattered;
    int16_t start[2];        /* q4g64: of the sums of the first 32, of the others */
    uint8_t input[4 * HALF]; /* behind `end` the last one */
    int8_t x[4 * HALF];
} active;

/* In bit-reversed order, or `streams` of them in turn, each in order. Without branches: which inputs are silent cannot be predicted. */
ALWAYS_INLINE void list_inputs(active *a, const int8_t codes[2 * HALF], const bool scattered, const uint32_t streams)
{
    uint32_t n = 0;
#pragma GCC unroll 64
    for (uint32_t i = 0; i < 2 * HALF; i++) {
        uint32_t input = scattered ? reversed(i) : i % streams * (2 * HALF / streams) + i / streams;
        a->input[n] = (uint8_t)input;
        a->x[n] = codes[input];
        n += codes[input] != 0;
    }
}

ALWAYS_INLINE void list_active(active *a, const int8_t *codes, size_t halves, const uint32_t streams, const uint32_t unit)
{
    int8_t all[2 * HALF] = {0};
    uint32_t n;
    memcpy(all, codes, halves == 2 ? 2 * HALF : HALF);
    n = (uint32_t)__builtin_popcount(active_mask(all)) + (uint32_t)__builtin_popcount(active_mask(all + HALF));
    a->scattered = n < MANY * halves;
    if (a->scattered)
        list_inputs(a, all, true, streams);
    else
        list_inputs(a, all, false, streams);
    memset(a->input + n, n ? a->input[n - 1] : 0, 2 * HALF);
    memset(a->x + n, 0, 2 * HALF);
    a->end = (n + unit - 1) / unit * unit;
    for (int part = 0; part < 2; part++) {
        int32_t sum = 0;
        for (int i = 0; i < HALF; i++)
            sum += a->x[HALF * part + i];
        a->start[part] = (int16_t)(-8 * sum);
    }
}

/* The lists of groups first.. of a token. */
typedef struct lists {
    size_t first;
    uint32_t mean; /* inputs of a group that are not 0 */
    active of[LISTED];
} lists;

/* That of group g, which follows the one asked for before, or is the token's first. */
ALWAYS_INLINE const active *list_of(lists *l, const infer_matmul_args *a, uint32_t t, size_t g, size_t groups, const uint32_t streams,
                                    const uint32_t unit)
{
    if (g % LISTED == 0 && l->first != g) {
        const int8_t *codes = a->xq.codes + HALF * (t * (size_t)a->xq.row_groups);
        size_t halves = infer_q8_groups(a->k), count = groups - g < LISTED ? groups - g : LISTED;
        uint32_t all = 0;
        for (size_t i = 0; i < count; i++) {
            list_active(&l->of[i], codes + 2 * HALF * (g + i), halves - 2 * (g + i) < 2 ? 1 : 2, streams, unit);
            all += l->of[i].end;
        }
        l->first = g;
        l->mean = all / (uint32_t)count;
    }
    return &l->of[g % LISTED];
}

#endif
