#include "quantize.h"
#include "kernels.h"

/* 32 inputs from k on, zeros behind the last. */
ALWAYS_INLINE void load_inputs(const infer_quantize_args *a, uint32_t t, uint32_t k, __m256 x[4])
{
    load_group(a->x + (size_t)t * a->x_stride + k, a->k - k, x);
    if (a->factors) {
        __m256 factors[4];
        load_group(a->factors + k, a->k - k, factors);
        for (int i = 0; i < 4; i++)
            x[i] = _mm256_mul_ps(x[i], factors[i]);
    }
    if (a->threshold > 0)
        for (int i = 0; i < 4; i++) {
            __m256 magnitude = _mm256_andnot_ps(_mm256_set1_ps(-0.0f), x[i]);
            x[i] = _mm256_andnot_ps(_mm256_cmp_ps(magnitude, _mm256_set1_ps(a->threshold), _CMP_LT_OQ), x[i]);
        }
}

void quantize__avx2(const void *args, infer_region at)
{
    const infer_quantize_args *a = args;
    size_t row_groups = a->y.row_groups;

    for (uint32_t t = at.row0; t < at.row1; t++) {
        for (uint32_t k = at.col0; k < at.col1; k += a->group) {
            uint32_t halves = a->group == 64 && a->k - k > 32 ? 2 : 1, amax;
            __m256i largest = _mm256_setzero_si256();
            __m256 x[2][4];
            for (uint32_t h = 0; h < halves; h++) {
                load_inputs(a, t, k + 32 * h, x[h]);
                largest = larger_magnitudes(largest, x[h]);
            }
            amax = largest_integer(largest);
            for (uint32_t h = 0; h < halves; h++) {
                size_t g = t * row_groups + k / 32 + h;
                quantize_half(x[h], amax, a->y.codes + 32 * g, a->y.scales + g, a->y.offset8 + 2 * g);
            }
        }
    }
}
