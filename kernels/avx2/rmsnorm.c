#include "kernels.h"
#include "vector.h"

static void norm(const float *x, const float *weight, float *y, uint32_t n, float eps)
{
    __m256 p = _mm256_setzero_ps(), other = p, r; /* two sums, in turn: fold16 takes them in either order */
    uint32_t i = 0;

    for (; i + 8 <= n; i += 8) {
        __m256 v = _mm256_loadu_ps(x + i), sum = _mm256_fmadd_ps(v, v, p);
        p = other;
        other = sum;
    }
    if (i < n) {
        __m256 v = _mm256_maskload_ps(x + i, lanes_below(n - i)); /* adding +0 to a sum of squares changes nothing */
        p = _mm256_fmadd_ps(v, v, p);
    }
    r = _mm256_set1_ps(1.0f / sqrtf(fold16(p, other) / (float)n + eps));
    for (i = 0; i + 8 <= n; i += 8)
        _mm256_storeu_ps(y + i, _mm256_mul_ps(_mm256_mul_ps(_mm256_loadu_ps(x + i), r), _mm256_loadu_ps(weight + i)));
    if (i < n) {
        __m256i lanes = lanes_below(n - i);
        __m256 v = _mm256_mul_ps(_mm256_maskload_ps(x + i, lanes), r);
        _mm256_maskstore_ps(y + i, lanes, _mm256_mul_ps(v, _mm256_maskload_ps(weight + i, lanes)));
    }
}

void rmsnorm__avx2(const void *args, infer_region at)
{
    const infer_norm_args *a = args;

    for (uint32_t t = at.row0; t < at.row1; t++)
        for (uint32_t c = at.col0; c < at.col1; c += a->width)
            norm(a->x + (size_t)t * a->x_stride + c, a->weight, a->y + (size_t)t * a->y_stride + c, a->width, a->eps);
}
