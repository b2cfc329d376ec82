/* New keys and values into the cache, finite numbers only, so that kernels may multiply what they later mask out. */
#include "kernels.h"
#include "mathf.h"

#include <float.h>

/* NaN becomes 0, the rest saturates at +-limit. */
static float finite_within(float x, float limit)
{
    if (isnan(x))
        return 0;
    return x > limit ? limit : x < -limit ? -limit : x;
}

/* k [kv_heads][positions / 16][head_dim][16], v [kv_heads][positions][head_dim] */
static size_t k_index(const infer_store_args *a, uint32_t head, uint32_t position, uint32_t d)
{
    return (((size_t)head * (a->positions / 16) + position / 16) * a->head_dim + d) * 16 + position % 16;
}

static size_t v_index(const infer_store_args *a, uint32_t head, uint32_t position, uint32_t d)
{
    return ((size_t)head * a->positions + position) * a->head_dim + d;
}

typedef size_t index_fn(const infer_store_args *a, uint32_t head, uint32_t position, uint32_t d);

static inline void store_f32(const infer_store_args *a, infer_region at, index_fn *index)
{
    float *cache = a->cache;

    for (uint32_t t = at.row0; t < at.row1; t++)
        for (uint32_t c = at.col0; c < at.col1; c++)
            cache[index(a, c / a->head_dim, a->pos0 + t, c % a->head_dim)] = finite_within(a->x[(size_t)t * a->stride + c], FLT_MAX);
}

static inline void store_f16(const infer_store_args *a, infer_region at, index_fn *index)
{
    uint16_t *cache = a->cache;

    for (uint32_t t = at.row0; t < at.row1; t++)
        for (uint32_t c = at.col0; c < at.col1; c++)
            cache[index(a, c / a->head_dim, a->pos0 + t, c % a->head_dim)] =
                infer_ref_f32_to_f16(finite_within(a->x[(size_t)t * a->stride + c], 65504.0f));
}

void store_k_f32__ref(const void *args, infer_region at) { store_f32(args, at, k_index); }
void store_k_f16__ref(const void *args, infer_region at) { store_f16(args, at, k_index); }
void store_v_f32__ref(const void *args, infer_region at) { store_f32(args, at, v_index); }
void store_v_f16__ref(const void *args, infer_region at) { store_f16(args, at, v_index); }
