/* y = x * (1 / sqrt(mean(x^2) + eps)) * weight, row by row or head by head. */
#include "kernels.h"
#include "mathf.h"

void rmsnorm__ref(const void *args, infer_region at)
{
    const infer_norm_args *a = args;

    for (uint32_t t = at.row0; t < at.row1; t++) {
        for (uint32_t c = at.col0; c < at.col1; c += a->width) {
            const float *x = a->x + (size_t)t * a->x_stride + c;
            float *y = a->y + (size_t)t * a->y_stride + c;
            float p[16] = {0}, r;
            for (uint32_t i = 0; i < a->width; i++)
                p[i % 16] = fmaf(x[i], x[i], p[i % 16]);
            r = 1.0f / sqrtf(infer_ref_fold16(p) / (float)a->width + a->eps);
            for (uint32_t i = 0; i < a->width; i++)
                y[i] = x[i] * r * a->weight[i];
        }
    }
}
