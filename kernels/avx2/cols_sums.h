/*
 * Sums of the layout `cols` in 256 bits. Columns of inputs that are not 0 are taken in pairs (q4g64) or fours (q8g64): interleaving their bytes gives
 * what vpmaddubsw multiplies. Sums: q4g64 of 32 inputs in 16 bits, starting from -8 x the activations (32 x 127 x 8 fits), so that a group
 * of which more are not 0 has two; q8g64 in 32 bits.
 */
#ifndef INFER_KERNELS_AVX2_COLS_SUMS_H
#define INFER_KERNELS_AVX2_COLS_SUMS_H

#include "avx2/vector.h"
#include "cols.h"
#include "compress8.h"
#include "kernels.h"

enum {
    HALF = 32,   /* inputs whose sum fits */
    MANY = 28,   /* of 32 inputs: where more are not 0, hardly anything is skipped */
    LINE = 64,   /* bytes */
    COLUMN = 256, /* bytes of a column, but in a narrow last stripe */
    LISTED = 120 /* groups whose lists of inputs are kept: all up to 7,680 inputs */
};

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

/* A group's inputs that are not 0, and their codes, up to `end` in whole units; what fills them up is times 0. */
typedef struct active {
    uint32_t end;
    int16_t start[2];              /* q4g64: of the sums of the first 32, of the others */
    uint16_t column[2 * HALF + 8]; /* COLUMN x the input: where its codes begin, behind those of input 0 */
    int8_t x[2 * HALF + 8];
} active;

/* The codes of listed input i, pitch bytes a column; codes: those of input 0. */
ALWAYS_INLINE const uint8_t *column_of(const active *a, uint32_t i, const uint8_t *codes, const size_t pitch)
{
    return codes + (pitch == COLUMN ? a->column[i] : a->column[i] / COLUMN * pitch);
}

/* The lists of groups first.. of a token. Where some inputs are skipped, the others are in bit-reversed order: the hardware would take their own for a
 * pattern, and read what is skipped. */
typedef struct lists {
    size_t first, count;
    bool scattered;
    active of[LISTED];
} lists;

/* A byte of each of 64 inputs, in bit-reversed order of these. */
ALWAYS_INLINE void reverse_bits(__m128i v[4])
{
    const __m128i reversed = _mm_setr_epi8(0, 8, 4, 12, 2, 10, 6, 14, 1, 9, 5, 13, 3, 11, 7, 15);
    __m128i even[2], odd[2];
    for (int i = 0; i < 4; i++)
        v[i] = _mm_shuffle_epi8(v[i], reversed);
    even[0] = _mm_unpacklo_epi8(v[0], v[2]);
    even[1] = _mm_unpackhi_epi8(v[0], v[2]);
    odd[0] = _mm_unpacklo_epi8(v[1], v[3]);
    odd[1] = _mm_unpackhi_epi8(v[1], v[3]);
    for (int i = 0; i < 2; i++) {
        v[2 * i] = _mm_unpacklo_epi16(even[i], odd[i]);
        v[2 * i + 1] = _mm_unpackhi_epi16(even[i], odd[i]);
    }
}

/* Returns how many. Without branches: which inputs are silent cannot be predicted. */
ALWAYS_INLINE uint32_t list_inputs(active *a, const int8_t codes[2 * HALF], const bool scattered)
{
    const __m128i zero = _mm_setzero_si128();
    __m128i number[4], code[4];
    uint32_t n = 0;
    for (int i = 0; i < 4; i++) {
        number[i] = _mm_add_epi8(_mm_setr_epi8(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15), _mm_set1_epi8((char)(16 * i)));
        code[i] = load_128(codes + 16 * i);
    }
    if (scattered) {
        reverse_bits(number);
        reverse_bits(code);
    }
#pragma GCC unroll 8
    for (int i = 0; i < 8; i++) {
        __m128i c = code[i / 2], k = number[i / 2], places;
        uint32_t mask = ~(uint32_t)_mm_movemask_epi8(_mm_cmpeq_epi8(c, zero));
        if (i % 2) {
            mask >>= 8;
            c = _mm_unpackhi_epi64(c, c);
            k = _mm_unpackhi_epi64(k, k);
        }
        mask &= 255;
        places = _mm_loadl_epi64((const __m128i *)(const void *)&infer_compress8[mask]);
        _mm_storel_epi64((__m128i *)(void *)(a->x + n), _mm_shuffle_epi8(c, places));
        _mm_storeu_si128((__m128i *)(void *)(a->column + n), _mm_slli_epi16(_mm_cvtepu8_epi16(_mm_shuffle_epi8(k, places)), 8)); /* x COLUMN */
        n += (uint32_t)__builtin_popcount(mask);
    }
    return n;
}

/* -8 x the sum of 32 activations */
ALWAYS_INLINE int16_t start_of(const int8_t *x)
{
    __m256i fours = _mm256_madd_epi16(_mm256_maddubs_epi16(_mm256_set1_epi8(1), load_256(x)), _mm256_set1_epi16(-8));
    __m128i sum = _mm_add_epi32(_mm256_castsi256_si128(fours), _mm256_extracti128_si256(fours, 1));
    sum = _mm_add_epi32(sum, _mm_unpackhi_epi64(sum, sum));
    return (int16_t)(_mm_cvtsi128_si32(sum) + _mm_extract_epi32(sum, 1));
}

/* unit: 2 or 4 inputs */
ALWAYS_INLINE void list_active(active *a, const int8_t *codes, size_t halves, const bool scattered, const uint32_t unit)
{
    int8_t all[2 * HALF] = {0};
    uint32_t n;
    memcpy(all, codes, halves == 2 ? 2 * HALF : HALF);
    n = list_inputs(a, all, scattered);
    memset(a->x + n, 0, sizeof a->x - n);
    for (a->end = n; a->end % unit; a->end++)
        a->column[a->end] = a->column[n - 1];
    for (int part = 0; part < 2; part++)
        a->start[part] = start_of(a->x + HALF * part);
}

/* Those of groups first.., as many as there is room for. */
ALWAYS_INLINE void make_lists(lists *l, const infer_matmul_args *a, uint32_t t, size_t first, const uint32_t unit)
{
    size_t halves = infer_q8_groups(a->k) - 2 * first, groups = (halves + 1) / 2;
    const int8_t *codes = a->xq.codes + HALF * (t * (size_t)a->xq.row_groups + 2 * first);
    size_t inputs = 0;

    l->first = first;
    l->count = groups < LISTED ? groups : LISTED;
    halves = halves < 2 * LISTED ? halves : 2 * LISTED;
    for (size_t h = 0; h < halves; h++)
        inputs += (size_t)__builtin_popcount(active_mask(codes + HALF * h));
    l->scattered = inputs < MANY * halves;
    for (size_t g = 0; g < l->count; g++, codes += 2 * HALF)
        if (l->scattered)
            list_active(&l->of[g], codes, halves - 2 * g < 2 ? 1 : 2, true, unit);
        else
            list_active(&l->of[g], codes, halves - 2 * g < 2 ? 1 : 2, false, unit);
}

#endif
