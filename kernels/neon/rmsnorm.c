/* y = x * (1 / sqrt(mean(x^2) + eps)) * weight, row by row. The sixteen partial sums are four vectors. */
#include "neon.h"

static float sum_of_squares(const float *x, uint32_t n)
{
    float32x4_t p[4] = {vdupq_n_f32(0), vdupq_n_f32(0), vdupq_n_f32(0), vdupq_n_f32(0)};
    uint32_t i = 0;

    for (; i + 16 <= n; i += 16) {
#pragma GCC unroll 4
        for (uint32_t v = 0; v < 4; v++) {
            float32x4_t value = vld1q_f32(x + i + 4 * v);
            p[v] = vfmaq_f32(p[v], value, value);
        }
    }
    if (i < n) {
        float partial[16];
        for (uint32_t v = 0; v < 4; v++)
            vst1q_f32(partial + 4 * v, p[v]);
        for (; i < n; i++)
            partial[i % 16] = fmaf(x[i], x[i], partial[i % 16]);
        return infer_ref_fold16(partial);
    }
    return infer_neon_fold16(p);
}

void rmsnorm__neon(const void *args, infer_region at)
{
    const infer_rmsnorm_args *a = args;

    for (uint32_t t = at.row0; t < at.row1; t++) {
        const float *x = a->x + (size_t)t * a->x_stride;
        float *y = a->y + (size_t)t * a->y_stride;
        float r = 1.0f / sqrtf(sum_of_squares(x, a->n) / (float)a->n + a->eps);
        uint32_t i = 0;
        for (; i + 4 <= a->n; i += 4)
            vst1q_f32(y + i, vmulq_f32(vmulq_n_f32(vld1q_f32(x + i), r), vld1q_f32(a->weight + i)));
        for (; i < a->n; i++)
            y[i] = x[i] * r * a->weight[i];
    }
}
