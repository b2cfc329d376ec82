/* One group of activations to int8. Only `static` functions: see mathf.h. */
#ifndef INFER_KERNELS_REF_QUANTIZE_H
#define INFER_KERNELS_REF_QUANTIZE_H

#include "mathf.h"

#include <stdbool.h>

/* x[count] -> count codes and the scale; see infer_quantize_args. */
static inline void infer_ref_quantize_group(const float *x, uint32_t count, int8_t *codes, float *scale)
{
    float amax = 0, inverse;
    bool finite = true;

    for (uint32_t i = 0; i < count; i++) {
        float magnitude = fabsf(x[i]);
        finite = finite && magnitude < INFINITY; /* false for NaN too */
        amax = magnitude > amax ? magnitude : amax;
    }
    memset(codes, 0, count);
    *scale = finite ? 0 : NAN;
    if (!finite || amax < 0x1p-100f)
        return;
    *scale = amax / 127.0f;
    inverse = 127.0f / amax;
    for (uint32_t i = 0; i < count; i++)
        codes[i] = (int8_t)rintf(x[i] * inverse);
}

#endif
