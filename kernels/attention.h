/* The KV cache and the partial results of attention: sizes, offsets, and the merge, which is short enough for the compilers to vectorize at every
 * level. Only `static` functions: see ref/mathf.h. */
#ifndef INFER_KERNELS_ATTENTION_H
#define INFER_KERNELS_ATTENTION_H

#include "kernels.h"
#include "ref/mathf.h"
#include "tile16x4.h"

/* ---- cache ---- */

static inline uint32_t infer_cache_groups(uint32_t head_dim) { return (head_dim + 31) / 32; }

/* Byte offset of the q8g32 group g of a head that holds `position`, in k and in v. */
static inline size_t infer_cache_q8_offset(uint32_t kv_head, uint32_t positions, uint32_t position, uint32_t head_dim, uint32_t g)
{
    size_t panel = (size_t)kv_head * (positions / 16) + position / 16;
    return (panel * infer_cache_groups(head_dim) + g) * INFER_TILE_Q8_GROUP_BYTES;
}

/* Byte offset in a group of v of the 32 codes of a position; its scale lies where infer_tile_scale looks. */
static inline size_t infer_cache_q8_v_codes(uint32_t position) { return INFER_TILE_SCALE_BYTES + position % 16 * 32; }

/* Elements before that of dimension d, types f32 and f16. */
static inline size_t infer_cache_k_index(uint32_t kv_head, uint32_t positions, uint32_t position, uint32_t head_dim, uint32_t d)
{
    return (((size_t)kv_head * (positions / 16) + position / 16) * head_dim + d) * 16 + position % 16;
}

static inline size_t infer_cache_v_index(uint32_t kv_head, uint32_t positions, uint32_t position, uint32_t head_dim, uint32_t d)
{
    return ((size_t)kv_head * positions + position) * head_dim + d;
}

/* Bytes of a layer's k, and of its v. Does not overflow below 2^20 heads x dimensions and 2^32 positions. */
static inline uint64_t infer_cache_bytes(infer_qtype type, uint32_t kv_heads, uint32_t positions, uint32_t head_dim)
{
    if (type == INFER_QTYPE_Q8G32)
        return (uint64_t)kv_heads * (positions / 16) * infer_cache_groups(head_dim) * INFER_TILE_Q8_GROUP_BYTES;
    return (uint64_t)kv_heads * positions * head_dim * (type == INFER_QTYPE_F16 ? 2 : 4);
}

/* ---- positions ---- */

/* The first position that token t attends to. */
static inline uint32_t infer_attention_begin(const infer_attention_args *a, uint32_t t)
{
    uint32_t end = a->pos0 + t + 1;
    return a->window && a->window < end ? end - a->window : 0;
}

/* ---- partial results ---- */

/* One token, head and chunk: c_max, c_sum, c_out[head_dim]. */
static inline uint32_t infer_attention_record_floats(uint32_t head_dim) { return 2 + head_dim; }

static inline float *infer_attention_record(const infer_attention_args *a, uint32_t chunk, uint32_t t, uint32_t head)
{
    uint32_t share = a->heads / a->kv_heads;
    float *line = a->partial + ((size_t)(head / share) * a->chunks + chunk) * a->partial_stride;
    return line + (size_t)(t * share + head % share) * infer_attention_record_floats(a->head_dim);
}

/* The whole of ATTENTION_MERGE. */
static inline void infer_attention_merge(const infer_attention_args *a, infer_region at)
{
    for (uint32_t t = at.row0; t < at.row1; t++) {
        uint32_t chunks = (a->pos0 + t) / INFER_ATTENTION_CHUNK + 1, first_chunk = infer_attention_begin(a, t) / INFER_ATTENTION_CHUNK;
        for (uint32_t head = at.col0 / a->head_dim; head < at.col1 / a->head_dim; head++) {
            const float *first = infer_attention_record(a, first_chunk, t, head);
            float *out = a->y + (size_t)t * a->y_stride + (size_t)head * a->head_dim, max = first[0], sum = first[1], inverse;
            for (uint32_t d = 0; d < a->head_dim; d++)
                out[d] = first[2 + d];
            for (uint32_t c = first_chunk + 1; c < chunks; c++) {
                const float *next = infer_attention_record(a, c, t, head);
                float merged = next[0] > max ? next[0] : max;
                float old_weight = infer_ref_expf(max - merged), new_weight = infer_ref_expf(next[0] - merged);
                max = merged;
                sum = fmaf(sum, old_weight, next[1] * new_weight);
                for (uint32_t d = 0; d < a->head_dim; d++)
                    out[d] = fmaf(out[d], old_weight, next[2 + d] * new_weight);
            }
            inverse = 1.0f / sum;
            for (uint32_t d = 0; d < a->head_dim; d++)
                out[d] *= inverse;
        }
    }
}

#endif
