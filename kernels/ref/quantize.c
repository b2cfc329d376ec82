/* Floats to int8 codes, a scale a group, and for every 32 inputs the two offset8 numbers. */
#include "quantize.h"
#include "kernels.h"

void quantize__ref(const void *args, infer_region at)
{
    const infer_quantize_args *a = args;
    size_t row_groups = a->y.row_groups;

    for (uint32_t t = at.row0; t < at.row1; t++) {
        const float *row = a->x + (size_t)t * a->x_stride;
        for (uint32_t k = at.col0; k < at.col1; k += a->group) {
            uint32_t count = a->k - k < a->group ? a->k - k : a->group;
            int8_t codes[64] = {0};
            float x[64], scale;
            for (uint32_t i = 0; i < count; i++) {
                x[i] = a->factors ? row[k + i] * a->factors[k + i] : row[k + i];
                x[i] = fabsf(x[i]) < a->threshold ? 0 : x[i];
            }
            infer_ref_quantize_group(x, count, codes, &scale);
            for (uint32_t half = 0; half < count; half += 32) {
                size_t g = t * row_groups + (k + half) / 32;
                int32_t sum[2] = {0, 0};
                for (uint32_t i = 0; i < 32; i++)
                    sum[i % 4 / 2] += codes[half + i];
                memcpy(a->y.codes + 32 * g, codes + half, 32);
                a->y.scales[g] = scale;
                a->y.offset8[2 * g] = (int16_t)(-8 * sum[0]);
                a->y.offset8[2 * g + 1] = (int16_t)(-8 * sum[1]);
            }
        }
    }
}
