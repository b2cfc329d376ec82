/* y = a + b: the residual connection. */
#include "neon.h"

void add__neon(const void *args, infer_region at)
{
    const infer_add_args *a = args;

    for (uint32_t t = at.row0; t < at.row1; t++) {
        size_t i = (size_t)t * a->stride + at.col0, end = (size_t)t * a->stride + at.col1;
        for (; i + 4 <= end; i += 4)
            vst1q_f32(a->y + i, vaddq_f32(vld1q_f32(a->a + i), vld1q_f32(a->b + i)));
        for (; i < end; i++)
            a->y[i] = a->a[i] + a->b[i];
    }
}
