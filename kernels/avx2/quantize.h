/* One group of activations to int8. Only `static` functions: see ref/mathf.h. */
#ifndef INFER_KERNELS_AVX2_QUANTIZE_H
#define INFER_KERNELS_AVX2_QUANTIZE_H

#include "vector.h"

/* The largest of eight integers. */
ALWAYS_INLINE uint32_t largest_integer(__m256i v)
{
    __m128i m = _mm_max_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
    m = _mm_max_epi32(m, _mm_shuffle_epi32(m, _MM_SHUFFLE(1, 0, 3, 2)));
    m = _mm_max_epi32(m, _mm_shuffle_epi32(m, _MM_SHUFFLE(2, 3, 0, 1)));
    return (uint32_t)_mm_cvtsi128_si32(m);
}

/* 32 integers to 32 bytes, in order, saturating. */
ALWAYS_INLINE __m256i pack_codes(const __m256i c[4])
{
    __m256i fours = _mm256_packs_epi16(_mm256_packs_epi32(c[0], c[1]), _mm256_packs_epi32(c[2], c[3])); /* 0 2 4 6, 1 3 5 7 */
    return _mm256_permutevar8x32_epi32(fours, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
}

/* The largest magnitude of 32 inputs and what `largest` has: as integers, magnitudes are in the order of the floats, infinity and NaN above all
 * others. */
ALWAYS_INLINE __m256i larger_magnitudes(__m256i largest, const __m256 x[4])
{
    const __m256i magnitude = _mm256_set1_epi32(0x7fffffff);
    for (int i = 0; i < 4; i++)
        largest = _mm256_max_epi32(largest, _mm256_and_si256(_mm256_castps_si256(x[i]), magnitude));
    return largest;
}

/* x: 32 inputs, zeros behind the last, of a group whose largest magnitude has these bits; see infer_quantize_args. */
ALWAYS_INLINE void quantize_half(const __m256 x[4], uint32_t amax_bits, int8_t *codes, float *scale, int16_t *offset8)
{
    __m256i all = _mm256_setzero_si256();
    float amax = infer_ref_float_from_bits(amax_bits);

    if (amax_bits >= 0x7f800000) {
        *scale = NAN;
    } else if (amax < 0x1p-100f) {
        *scale = 0;
    } else {
        __m256 inverse = _mm256_set1_ps(127.0f / amax);
        __m256i c[4];
        for (int i = 0; i < 4; i++)
            c[i] = _mm256_cvtps_epi32(_mm256_mul_ps(x[i], inverse));
        all = pack_codes(c);
        *scale = amax / 127.0f;
    }
    _mm256_storeu_si256((__m256i *)codes, all);
    /* Sums of pairs in 16-bit lanes: even lanes k mod 4 in {0, 1}, odd lanes {2, 3}; folded to one of each. */
    all = _mm256_maddubs_epi16(_mm256_set1_epi8(1), all);
    {
        __m128i sums = _mm_add_epi16(_mm256_castsi256_si128(all), _mm256_extracti128_si256(all, 1));
        int32_t pair;
        sums = _mm_add_epi16(sums, _mm_shuffle_epi32(sums, _MM_SHUFFLE(1, 0, 3, 2)));
        sums = _mm_add_epi16(sums, _mm_shuffle_epi32(sums, _MM_SHUFFLE(2, 3, 0, 1)));
        pair = _mm_cvtsi128_si32(_mm_mullo_epi16(sums, _mm_set1_epi16(-8)));
        memcpy(offset8, &pair, sizeof pair);
    }
}

/* The same of a group of 32. */
ALWAYS_INLINE void quantize_group(const __m256 x[4], int8_t *codes, float *scale, int16_t *offset8)
{
    quantize_half(x, largest_integer(larger_magnitudes(_mm256_setzero_si256(), x)), codes, scale, offset8);
}

/* x[0..32), of which only the first count are read; zeros behind them. */
ALWAYS_INLINE void load_group(const float *x, uint32_t count, __m256 group[4])
{
    for (uint32_t i = 0; i < 4; i++) {
        uint32_t left = 8 * i < count ? count - 8 * i : 0;
        group[i] = left >= 8 ? _mm256_loadu_ps(x + 8 * i) : left ? _mm256_maskload_ps(x + 8 * i, lanes_below(left)) : _mm256_setzero_ps();
    }
}

#endif
