/* Rotary position embedding: every pair (a, b) of a head is rotated by its own frequency times the position. */
#include "kernels.h"
#include "mathf.h"

void rope__ref(const void *args, infer_region at)
{
    const infer_rope_args *a = args;
    uint32_t half = a->rope_dim / 2;

    for (uint32_t t = at.row0; t < at.row1; t++) {
        const float *cos = a->cos + (size_t)(a->pos0 + t) * half, *sin = a->sin + (size_t)(a->pos0 + t) * half;
        for (uint32_t c = at.col0; c < at.col1; c += a->head_dim) {
            float *head = a->x + (size_t)t * a->stride + c;
            for (uint32_t i = 0; i < half; i++) {
                float *first = a->pairs == INFER_ROPE_ADJACENT ? &head[2 * i] : &head[i];
                float *second = a->pairs == INFER_ROPE_ADJACENT ? &head[2 * i + 1] : &head[i + half];
                float u = *first, v = *second;
                *first = fmaf(u, cos[i], -(v * sin[i]));
                *second = fmaf(u, sin[i], v * cos[i]);
            }
        }
    }
}
