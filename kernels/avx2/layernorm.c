#include "kernels.h"
#include "vector.h"

/* x[0..count) - mean, +0 behind them: that changes no sum of squares. */
ALWAYS_INLINE __m256 centred(const float *x, __m256i lanes, __m256 mean)
{
    return _mm256_and_ps(_mm256_sub_ps(_mm256_maskload_ps(x, lanes), mean), _mm256_castsi256_ps(lanes));
}

static void norm(const float *x, const float *weight, float *y, uint32_t n, float eps)
{
    const uint32_t whole = n / 8 * 8;
    const __m256i lanes = lanes_below(n - whole);
    __m256 p = _mm256_setzero_ps(), other = p, mean, r; /* two sums, in turn: fold16 takes them in either order */

    for (uint32_t i = 0; i < whole; i += 8) {
        __m256 sum = _mm256_add_ps(p, _mm256_loadu_ps(x + i));
        p = other;
        other = sum;
    }
    p = _mm256_add_ps(p, _mm256_maskload_ps(x + whole, lanes)); /* a sum that began with +0 is no -0: +0 changes nothing */
    mean = _mm256_set1_ps(fold16(p, other) / (float)n);
    p = other = _mm256_setzero_ps();
    for (uint32_t i = 0; i < whole; i += 8) {
        __m256 d = _mm256_sub_ps(_mm256_loadu_ps(x + i), mean), sum = _mm256_fmadd_ps(d, d, p);
        p = other;
        other = sum;
    }
    r = centred(x + whole, lanes, mean);
    p = _mm256_fmadd_ps(r, r, p);
    r = _mm256_set1_ps(1.0f / sqrtf(fold16(p, other) / (float)n + eps));
    for (uint32_t i = 0; i < whole; i += 8) {
        __m256 d = _mm256_sub_ps(_mm256_loadu_ps(x + i), mean);
        _mm256_storeu_ps(y + i, _mm256_mul_ps(_mm256_mul_ps(d, r), _mm256_loadu_ps(weight + i)));
    }
    _mm256_maskstore_ps(y + whole, lanes, _mm256_mul_ps(_mm256_mul_ps(centred(x + whole, lanes, mean), r), _mm256_maskload_ps(weight + whole, lanes)));
}

void layernorm__avx2(const void *args, infer_region at)
{
    const infer_norm_args *a = args;

    for (uint32_t t = at.row0; t < at.row1; t++)
        for (uint32_t c = at.col0; c < at.col1; c += a->width)
            norm(a->x + (size_t)t * a->x_stride + c, a->weight, a->y + (size_t)t * a->y_stride + c, a->width, a->eps);
}
