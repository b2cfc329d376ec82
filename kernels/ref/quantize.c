/* Floats to int8 codes in groups of 32, with a float scale and the two offset8 numbers a group. */
#include "kernels.h"
#include "mathf.h"

static void quantize_group(const float *x, uint32_t count, int8_t codes[32], float *scale, int16_t offset8[2])
{
    float amax = 0, inverse;
    int32_t sum[2] = {0, 0};
    bool finite = true;

    for (uint32_t i = 0; i < count; i++) {
        float magnitude = fabsf(x[i]);
        finite = finite && magnitude < INFINITY; /* false for NaN too */
        amax = magnitude > amax ? magnitude : amax;
    }
    memset(codes, 0, 32);
    offset8[0] = offset8[1] = 0;
    if (!finite) {
        *scale = NAN;
        return;
    }
    if (amax < 0x1p-100f) {
        *scale = 0;
        return;
    }
    *scale = amax / 127.0f;
    inverse = 127.0f / amax;
    for (uint32_t i = 0; i < count; i++) {
        codes[i] = (int8_t)rintf(x[i] * inverse);
        sum[i % 4 / 2] += codes[i];
    }
    offset8[0] = (int16_t)(-8 * sum[0]);
    offset8[1] = (int16_t)(-8 * sum[1]);
}

void quantize__ref(const void *args, infer_region at)
{
    const infer_quantize_args *a = args;
    size_t row_groups = a->y.row_groups;

    for (uint32_t t = at.row0; t < at.row1; t++) {
        const float *x = a->x + (size_t)t * a->x_stride;
        for (uint32_t k = at.col0; k < at.col1; k += 32) {
            size_t g = t * row_groups + k / 32;
            uint32_t count = a->k - k < 32 ? a->k - k : 32;
            quantize_group(x + k, count, a->y.codes + 32 * g, a->y.scales + g, a->y.offset8 + 2 * g);
        }
    }
}
