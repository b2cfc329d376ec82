/* y = a + b: the residual connection, or a bias. */
#include "neon.h"

void add__neon(const void *args, infer_region at)
{
    const infer_add_args *a = args;

    for (uint32_t t = at.row0; t < at.row1; t++) {
        const float *u = a->a + (size_t)t * a->stride, *v = a->b + (size_t)t * a->b_stride;
        float *y = a->y + (size_t)t * a->stride;
        uint32_t c = at.col0;
        for (; c + 4 <= at.col1; c += 4)
            vst1q_f32(y + c, vaddq_f32(vld1q_f32(u + c), vld1q_f32(v + c)));
        for (; c < at.col1; c++)
            y[c] = u[c] + v[c];
    }
}
