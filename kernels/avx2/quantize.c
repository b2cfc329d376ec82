#include "kernels.h"
#include "vector.h"

/* The largest of eight integers. */
ALWAYS_INLINE uint32_t largest_lane(__m256i v)
{
    __m128i m = _mm_max_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
    m = _mm_max_epi32(m, _mm_shuffle_epi32(m, _MM_SHUFFLE(1, 0, 3, 2)));
    m = _mm_max_epi32(m, _mm_shuffle_epi32(m, _MM_SHUFFLE(2, 3, 0, 1)));
    return (uint32_t)_mm_cvtsi128_si32(m);
}

/* x: 32 inputs, zeros behind the last */
ALWAYS_INLINE void quantize_group(const __m256 x[4], int8_t *codes, float *scale, int16_t *offset8)
{
    const __m256i magnitude = _mm256_set1_epi32(0x7fffffff);
    __m256i largest = _mm256_setzero_si256(), all;
    uint32_t amax_bits;
    float amax;

    /* As integers, magnitudes are in the order of the floats, infinity and NaN above all others. */
    for (int i = 0; i < 4; i++)
        largest = _mm256_max_epi32(largest, _mm256_and_si256(_mm256_castps_si256(x[i]), magnitude));
    amax_bits = largest_lane(largest);
    amax = infer_ref_float_from_bits(amax_bits);
    all = _mm256_setzero_si256();
    if (amax_bits >= 0x7f800000) {
        *scale = NAN;
    } else if (amax < 0x1p-100f) {
        *scale = 0;
    } else {
        __m256 inverse = _mm256_set1_ps(127.0f / amax);
        __m256i c0 = _mm256_cvtps_epi32(_mm256_mul_ps(x[0], inverse)), c1 = _mm256_cvtps_epi32(_mm256_mul_ps(x[1], inverse));
        __m256i c2 = _mm256_cvtps_epi32(_mm256_mul_ps(x[2], inverse)), c3 = _mm256_cvtps_epi32(_mm256_mul_ps(x[3], inverse));
        all = _mm256_packs_epi16(_mm256_packs_epi32(c0, c1), _mm256_packs_epi32(c2, c3)); /* fours 0 2 4 6, 1 3 5 7 */
        all = _mm256_permutevar8x32_epi32(all, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
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

void quantize__avx2(const void *args, infer_region at)
{
    const infer_quantize_args *a = args;
    size_t row_groups = a->y.row_groups;

    for (uint32_t t = at.row0; t < at.row1; t++) {
        for (uint32_t k = at.col0; k < at.col1; k += 32) {
            const float *in = a->x + (size_t)t * a->x_stride + k;
            size_t g = t * row_groups + k / 32;
            __m256 x[4];
            for (uint32_t i = 0; i < 4; i++) {
                uint32_t left = k + 8 * i < a->k ? a->k - k - 8 * i : 0;
                x[i] = left >= 8 ? _mm256_loadu_ps(in + 8 * i) : left ? _mm256_maskload_ps(in + 8 * i, lanes_below(left)) : _mm256_setzero_ps();
            }
            quantize_group(x, a->y.codes + 32 * g, a->y.scales + g, a->y.offset8 + 2 * g);
        }
    }
}
