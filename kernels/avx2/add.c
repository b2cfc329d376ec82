#include "kernels.h"
#include "vector.h"

void add__avx2(const void *args, infer_region at)
{
    const infer_add_args *a = args;

    for (uint32_t t = at.row0; t < at.row1; t++) {
        const float *u = a->a + (size_t)t * a->stride, *v = a->b + (size_t)t * a->b_stride;
        float *y = a->y + (size_t)t * a->stride;
        uint32_t c = at.col0;
        for (; c + 8 <= at.col1; c += 8)
            _mm256_storeu_ps(y + c, _mm256_add_ps(_mm256_loadu_ps(u + c), _mm256_loadu_ps(v + c)));
        if (c < at.col1) {
            __m256i lanes = lanes_below(at.col1 - c);
            _mm256_maskstore_ps(y + c, lanes, _mm256_add_ps(_mm256_maskload_ps(u + c, lanes), _mm256_maskload_ps(v + c, lanes)));
        }
    }
}
