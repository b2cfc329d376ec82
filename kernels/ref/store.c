/* New keys and values into the cache, finite numbers only, so that kernels may multiply what they later mask out. */
#include "attention.h"

#include <float.h>

/* NaN becomes 0, the rest saturates at +-limit. */
static float finite_within(float x, float limit)
{
    if (isnan(x))
        return 0;
    return x > limit ? limit : x < -limit ? -limit : x;
}

typedef size_t index_fn(uint32_t kv_head, uint32_t positions, uint32_t position, uint32_t head_dim, uint32_t d);

static inline void store_f32(const infer_store_args *a, infer_region at, index_fn *index)
{
    float *cache = a->cache;

    for (uint32_t t = at.row0; t < at.row1; t++)
        for (uint32_t c = at.col0; c < at.col1; c++)
            cache[index(c / a->head_dim, a->positions, a->pos0 + t, a->head_dim, c % a->head_dim)] =
                finite_within(a->x[(size_t)t * a->stride + c], FLT_MAX);
}

static inline void store_f16(const infer_store_args *a, infer_region at, index_fn *index)
{
    uint16_t *cache = a->cache;

    for (uint32_t t = at.row0; t < at.row1; t++)
        for (uint32_t c = at.col0; c < at.col1; c++)
            cache[index(c / a->head_dim, a->positions, a->pos0 + t, a->head_dim, c % a->head_dim)] =
                infer_ref_f32_to_f16(finite_within(a->x[(size_t)t * a->stride + c], 65504.0f));
}

/* x[count], count at most 32 -> fp16 scale and 32 codes, zeros behind the last */
static uint16_t quantize(const float *x, uint32_t count, int8_t codes[32])
{
    float finite[32], amax = 0, scale;
    uint16_t bits;

    for (uint32_t i = 0; i < count; i++) {
        finite[i] = finite_within(x[i], 127 * 65504.0f);
        amax = fabsf(finite[i]) > amax ? fabsf(finite[i]) : amax;
    }
    bits = infer_ref_f32_to_f16(amax / 127.0f);
    scale = infer_ref_f16_to_f32(bits);
    memset(codes, 0, 32);
    for (uint32_t i = 0; i < count && scale > 0; i++)
        codes[i] = (int8_t)finite_within(rintf(finite[i] / scale), 127.0f);
    return bits;
}

static inline void store_q8g32(const infer_store_args *a, infer_region at, bool keys)
{
    for (uint32_t t = at.row0; t < at.row1; t++) {
        uint32_t position = a->pos0 + t;
        for (uint32_t head = at.col0 / a->head_dim; head < at.col1 / a->head_dim; head++) {
            const float *x = a->x + (size_t)t * a->stride + (size_t)head * a->head_dim;
            for (uint32_t d = 0; d < a->head_dim; d += 32) {
                uint8_t *group = (uint8_t *)a->cache + infer_cache_q8_offset(head, a->positions, position, a->head_dim, d / 32);
                int8_t codes[32];
                uint16_t scale = quantize(x + d, a->head_dim - d < 32 ? a->head_dim - d : 32, codes);
                memcpy(group + position % 16 * sizeof scale, &scale, sizeof scale);
                if (keys)
                    for (uint32_t i = 0; i < 32; i++)
                        group[infer_tile_q8_offset(position % 16, i)] = (uint8_t)codes[i];
                else
                    memcpy(group + infer_cache_q8_v_codes(position), codes, sizeof codes);
            }
        }
    }
}

void store_k_f32__ref(const void *args, infer_region at) { store_f32(args, at, infer_cache_k_index); }
void store_k_f16__ref(const void *args, infer_region at) { store_f16(args, at, infer_cache_k_index); }
void store_k_q8g32__ref(const void *args, infer_region at) { store_q8g32(args, at, true); }
void store_v_f32__ref(const void *args, infer_region at) { store_f32(args, at, infer_cache_v_index); }
void store_v_f16__ref(const void *args, infer_region at) { store_f16(args, at, infer_cache_v_index); }
void store_v_q8g32__ref(const void *args, infer_region at) { store_q8g32(args, at, false); }
