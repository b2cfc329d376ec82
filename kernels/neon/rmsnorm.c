/* y = x * (1 / sqrt(mean(x^2) + eps)) * weight, row by row or head by head. */
#include "neon.h"

void rmsnorm__neon(const void *args, infer_region at)
{
    const infer_norm_args *a = args;

    for (uint32_t t = at.row0; t < at.row1; t++) {
        for (uint32_t c = at.col0; c < at.col1; c += a->width) {
            const float *x = a->x + (size_t)t * a->x_stride + c;
            float *y = a->y + (size_t)t * a->y_stride + c;
            float r = 1.0f / sqrtf(infer_neon_sum(x, a->width, 0, true) / (float)a->width + a->eps);
            uint32_t i = 0;
            for (; i + 4 <= a->width; i += 4)
                vst1q_f32(y + i, vmulq_f32(vmulq_n_f32(vld1q_f32(x + i), r), vld1q_f32(a->weight + i)));
            for (; i < a->width; i++)
                y[i] = x[i] * r * a->weight[i];
        }
    }
}
