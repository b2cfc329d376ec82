/* New keys and values into the cache, finite numbers only, so that kernels may multiply what they later mask out. */
#include "attention.h"
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

/* Where a head's position starts; the next dimension is `step` elements further: 16 in k, 1 in v. */
typedef size_t index_fn(uint32_t kv_head, uint32_t positions, uint32_t position, uint32_t head_dim, uint32_t d);

INFER_ALWAYS_INLINE void store_f32(const infer_store_args *a, infer_region at, index_fn *index, uint32_t step)
{
    for (uint32_t t = at.row0; t < at.row1; t++) {
        for (uint32_t c = at.col0; c < at.col1; c += a->head_dim) {
            const float *x = a->x + (size_t)t * a->stride + c;
            float *to = (float *)a->cache + index(c / a->head_dim, a->positions, a->pos0 + t, a->head_dim, 0);
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

INFER_ALWAYS_INLINE void store_f16(const infer_store_args *a, infer_region at, index_fn *index, uint32_t step)
{
    for (uint32_t t = at.row0; t < at.row1; t++) {
        for (uint32_t c = at.col0; c < at.col1; c += a->head_dim) {
            const float *x = a->x + (size_t)t * a->stride + c;
            uint16_t *to = (uint16_t *)a->cache + index(c / a->head_dim, a->positions, a->pos0 + t, a->head_dim, 0);
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

/* x[count], zeros behind it up to 32 -> fp16 scale and 32 codes */
static inline uint16_t quantize_to_f16_scale(const float *x, uint32_t count, int8x16_t codes[2])
{
    float32x4_t group[8], amax = vdupq_n_f32(0), scale;
    float16x4_t half;

#pragma GCC unroll 8
    for (uint32_t v = 0; v < 8; v++) {
        group[v] = finite_within(4 * v < count ? load_partial(x + 4 * v, count - 4 * v) : vdupq_n_f32(0), 127 * 65504.0f);
        amax = vmaxq_f32(amax, vabsq_f32(group[v]));
    }
    half = vcvt_f16_f32(vdupq_n_f32(vmaxvq_f32(amax) / 127.0f));
    scale = vcvt_f32_f16(half);
    codes[0] = codes[1] = vdupq_n_s8(0);
    if (vgetq_lane_f32(scale, 0) > 0) {
        int16x8_t eight[4]; /* narrowing saturates */
#pragma GCC unroll 4
        for (uint32_t v = 0; v < 4; v++)
            eight[v] = vcombine_s16(vqmovn_s32(vcvtnq_s32_f32(vdivq_f32(group[2 * v], scale))),
                                    vqmovn_s32(vcvtnq_s32_f32(vdivq_f32(group[2 * v + 1], scale))));
#pragma GCC unroll 2
        for (uint32_t h = 0; h < 2; h++)
            codes[h] = vmaxq_s8(vcombine_s8(vqmovn_s16(eight[2 * h]), vqmovn_s16(eight[2 * h + 1])), vdupq_n_s8(-127));
    }
    return vget_lane_u16(vreinterpret_u16_f16(half), 0);
}

INFER_ALWAYS_INLINE void store_q8g32(const infer_store_args *a, infer_region at, const int keys)
{
    for (uint32_t t = at.row0; t < at.row1; t++) {
        uint32_t position = a->pos0 + t;
        for (uint32_t c = at.col0; c < at.col1; c += a->head_dim) {
            const float *x = a->x + (size_t)t * a->stride + c;
            uint8_t *group = (uint8_t *)a->cache + infer_cache_q8_offset(c / a->head_dim, a->positions, position, a->head_dim, 0);
            for (uint32_t d = 0; d < a->head_dim; d += 32, group += INFER_TILE_Q8_GROUP_BYTES) {
                int8x16_t codes[2];
                uint16_t scale = quantize_to_f16_scale(x + d, a->head_dim - d, codes);
                memcpy(group + position % 16 * sizeof scale, &scale, sizeof scale);
                if (keys) {
                    int8_t all[32];
                    vst1q_s8(all, codes[0]);
                    vst1q_s8(all + 16, codes[1]);
                    for (uint32_t i = 0; i < 32; i += 4)
                        memcpy(group + infer_tile_q8_offset(position % 16, i), all + i, 4);
                } else {
                    int8_t *to = (int8_t *)group + infer_cache_q8_v_codes(position);
                    vst1q_s8(to, codes[0]);
                    vst1q_s8(to + 16, codes[1]);
                }
            }
        }
    }
}

void store_k_f32__neon(const void *args, infer_region at)
{
    store_f32(args, at, infer_cache_k_index, 16);
}
void store_k_f16__neon(const void *args, infer_region at)
{
    store_f16(args, at, infer_cache_k_index, 16);
}
void store_k_q8g32__neon(const void *args, infer_region at)
{
    store_q8g32(args, at, 1);
}
void store_v_f32__neon(const void *args, infer_region at)
{
    store_f32(args, at, infer_cache_v_index, 1);
}
void store_v_f16__neon(const void *args, infer_region at)
{
    store_f16(args, at, infer_cache_v_index, 1);
}
void store_v_q8g32__neon(const void *args, infer_region at)
{
    store_q8g32(args, at, 0);
}
