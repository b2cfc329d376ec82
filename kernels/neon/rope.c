/* Rotary position embedding: every pair (a, b) of a head is rotated by its own frequency times the position; four pairs at a time. */
#include "neon.h"

static inline void rotate(float32x4_t *u, float32x4_t *v, float32x4_t cos, float32x4_t sin)
{
    float32x4_t first = vfmaq_f32(vnegq_f32(vmulq_f32(*v, sin)), *u, cos);

    *v = vfmaq_f32(vmulq_f32(*v, cos), *u, sin);
    *u = first;
}

static void rotate_adjacent(float *head, const float *cos, const float *sin, uint32_t half)
{
    uint32_t i = 0;

    for (; i + 4 <= half; i += 4) {
        float32x4x2_t pairs = vld2q_f32(head + 2 * i);
        rotate(&pairs.val[0], &pairs.val[1], vld1q_f32(cos + i), vld1q_f32(sin + i));
        vst2q_f32(head + 2 * i, pairs);
    }
    for (; i < half; i++) {
        float u = head[2 * i], v = head[2 * i + 1];
        head[2 * i] = fmaf(u, cos[i], -(v * sin[i]));
        head[2 * i + 1] = fmaf(u, sin[i], v * cos[i]);
    }
}

static void rotate_halves(float *head, const float *cos, const float *sin, uint32_t half)
{
    uint32_t i = 0;

    for (; i + 4 <= half; i += 4) {
        float32x4_t u = vld1q_f32(head + i), v = vld1q_f32(head + half + i);
        rotate(&u, &v, vld1q_f32(cos + i), vld1q_f32(sin + i));
        vst1q_f32(head + i, u);
        vst1q_f32(head + half + i, v);
    }
    for (; i < half; i++) {
        float u = head[i], v = head[half + i];
        head[i] = fmaf(u, cos[i], -(v * sin[i]));
        head[half + i] = fmaf(u, sin[i], v * cos[i]);
    }
}

void rope__neon(const void *args, infer_region at)
{
    const infer_rope_args *a = args;
    uint32_t half = a->rope_dim / 2;

    for (uint32_t t = at.row0; t < at.row1; t++) {
        const float *cos = a->cos + (size_t)(a->pos0 + t) * half, *sin = a->sin + (size_t)(a->pos0 + t) * half;
        for (uint32_t c = at.col0; c < at.col1; c += a->head_dim) {
            float *head = a->x + (size_t)t * a->stride + c;
            if (a->pairs == INFER_ROPE_ADJACENT)
                rotate_adjacent(head, cos, sin, half);
            else
                rotate_halves(head, cos, sin, half);
        }
    }
}
