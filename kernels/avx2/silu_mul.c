#include "kernels.h"
#include "vector.h"

ALWAYS_INLINE __m256 silu_mul(__m256 gate, __m256 up)
{
    __m256 e = exp_8(_mm256_xor_ps(gate, _mm256_set1_ps(-0.0f)));
    return _mm256_mul_ps(_mm256_div_ps(gate, _mm256_add_ps(_mm256_set1_ps(1.0f), e)), up);
}

void silu_mul__avx2(const void *args, infer_region at)
{
    const infer_silu_mul_args *a = args;

    for (uint32_t t = at.row0; t < at.row1; t++) {
        const float *gate = a->gate + (size_t)t * a->stride, *up = a->up + (size_t)t * a->stride;
        float *y = a->y + (size_t)t * a->stride;
        uint32_t c = at.col0;
        for (; c + 8 <= at.col1; c += 8)
            _mm256_storeu_ps(y + c, silu_mul(_mm256_loadu_ps(gate + c), _mm256_loadu_ps(up + c)));
        if (c < at.col1) {
            __m256i lanes = lanes_below(at.col1 - c);
            _mm256_maskstore_ps(y + c, lanes, silu_mul(_mm256_maskload_ps(gate + c, lanes), _mm256_maskload_ps(up + c, lanes)));
        }
    }
}
