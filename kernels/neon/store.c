/* New keys and values into the cache, finite numbers only, so that kernels may multiply what they later mask out. */
#include "neon.h"

#include <float.h>

/* NaN becomes 0, the rest saturates at +-limit. */
static inline float32x4_t finite_within(float32x4_t x, float limit)
{
    x = vreinterpretq_f32_u32(vandq_u32(vreinterpretq_u32_f32(x), vceqq_f32(x, x)));
    return vmaxq_f32(vminq_f32(x, vdupq_n_f32(limit)), vdupq_n_f32(-limit));
}

static inline float32x4_t finite_f32(float32x4_t x)
{
    return finite_within(x, FLT_MAX);
}
static inline uint16x4_t finite_f16(float32x4_t x)
{
    return vreinterpret_u16_f16(vcvt_f16_f32(finite_within(x, 65504.0f)));
}

/* Up to four values from x, the rest 0. */
static inline float32x4_t load_partial(const float *x, uint32_t count)
{
    float four[4] = {0};

    if (count >= 4)
        return vld1q_f32(x);
    memcpy(four, x, count * sizeof *x);
    return vld1q_f32(four);
}

/* First element of a head's position in k [kv_heads][positions / 16][head_dim][16]; the next dimension is 16 further. */
static size_t k_start(const infer_store_args *a, uint32_t head, uint32_t position)
{
    return ((size_t)head * (a->positions / 16) + position / 16) * a->head_dim * 16 + position % 16;
}

/* The same in v [kv_heads][positions][head_dim]; the next dimension is the next element. */
static size_t v_start(const infer_store_args *a, uint32_t head, uint32_t position)
{
    return ((size_t)head * a->positions + position) * a->head_dim;
}

typedef size_t start_fn(const infer_store_args *a, uint32_t head, uint32_t position);

INFER_ALWAYS_INLINE void store_f32(const infer_store_args *a, infer_region at, start_fn *start, uint32_t step)
{
    for (uint32_t t = at.row0; t < at.row1; t++) {
        for (uint32_t c = at.col0; c < at.col1; c += a->head_dim) {
            const float *x = a->x + (size_t)t * a->stride + c;
            float *to = (float *)a->cache + start(a, c / a->head_dim, a->pos0 + t);
            for (uint32_t d = 0; d < a->head_dim; d += 4, to += 4 * step) {
                uint32_t count = a->head_dim - d < 4 ? a->head_dim - d : 4;
                float four[4];
                vst1q_f32(four, finite_f32(load_partial(x + d, count)));
                for (uint32_t i = 0; i < count; i++)
                    to[i * step] = four[i];
            }
        }
    }
}

INFER_ALWAYS_INLINE void store_f16(const infer_store_args *a, infer_region at, start_fn *start, uint32_t step)
{
    for (uint32_t t = at.row0; t < at.row1; t++) {
        for (uint32_t c = at.col0; c < at.col1; c += a->head_dim) {
            const float *x = a->x + (size_t)t * a->stride + c;
            uint16_t *to = (uint16_t *)a->cache + start(a, c / a->head_dim, a->pos0 + t);
            for (uint32_t d = 0; d < a->head_dim; d += 4, to += 4 * step) {
                uint32_t count = a->head_dim - d < 4 ? a->head_dim - d : 4;
                uint16_t four[4];
                vst1_u16(four, finite_f16(load_partial(x + d, count)));
                for (uint32_t i = 0; i < count; i++)
                    to[i * step] = four[i];
            }
        }
    }
}

void store_k_f32__neon(const void *args, infer_region at)
{
    store_f32(args, at, k_start, 16);
}
void store_k_f16__neon(const void *args, infer_region at)
{
    store_f16(args, at, k_start, 16);
}
void store_v_f32__neon(const void *args, infer_region at)
{
    store_f32(args, at, v_start, 1);
}
void store_v_f16__neon(const void *args, infer_region at)
{
    store_f16(args, at, v_start, 1);
}
