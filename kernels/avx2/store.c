/* New keys and values into the cache: runs of one head's dimensions, which lie together in v and 16 apart in k. */
#include "attention.h"
#include "quantize.h"

#include <float.h>

/* NaN becomes 0, the rest saturates at +-limit. */
ALWAYS_INLINE __m256 finite_within(__m256 x, float limit)
{
    x = _mm256_and_ps(x, _mm256_cmp_ps(x, x, _CMP_ORD_Q));
    return _mm256_max_ps(_mm256_min_ps(x, _mm256_set1_ps(limit)), _mm256_set1_ps(-limit));
}

/* x[count], count 1..8, zeros behind it */
ALWAYS_INLINE __m256 load_upto_8(const float *x, uint32_t count)
{
    return count >= 8 ? _mm256_loadu_ps(x) : _mm256_maskload_ps(x, lanes_below(count));
}

ALWAYS_INLINE __m128i to_f16(__m256 x) { return _mm256_cvtps_ph(finite_within(x, 65504.0f), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }

/* to[d * step] = x[d] for the dimensions of one head */
typedef void store_fn(const float *x, void *cache, size_t at, uint32_t head_dim, const uint32_t step);

ALWAYS_INLINE void store_head_f32(const float *x, void *cache, size_t at, uint32_t head_dim, const uint32_t step)
{
    float *to = (float *)cache + at;

    for (uint32_t d = 0; d < head_dim; d += 8) {
        uint32_t count = head_dim - d < 8 ? head_dim - d : 8;
        __m256 v = finite_within(load_upto_8(x + d, count), FLT_MAX);
        float lanes[8];
        if (step == 1 && count == 8) {
            _mm256_storeu_ps(to + d, v);
            continue;
        }
        _mm256_storeu_ps(lanes, v);
        for (uint32_t i = 0; i < count; i++)
            to[(size_t)(d + i) * step] = lanes[i];
    }
}

ALWAYS_INLINE void store_head_f16(const float *x, void *cache, size_t at, uint32_t head_dim, const uint32_t step)
{
    uint16_t *to = (uint16_t *)cache + at;

    for (uint32_t d = 0; d < head_dim; d += 8) {
        uint32_t count = head_dim - d < 8 ? head_dim - d : 8;
        __m128i v = to_f16(load_upto_8(x + d, count));
        uint16_t lanes[8];
        if (step == 1 && count == 8) {
            _mm_storeu_si128((__m128i *)(to + d), v);
            continue;
        }
        _mm_storeu_si128((__m128i *)lanes, v);
        for (uint32_t i = 0; i < count; i++)
            to[(size_t)(d + i) * step] = lanes[i];
    }
}

/* ---- q8g32: the group's scale as fp16, and its 32 codes ---- */

ALWAYS_INLINE uint16_t quantize_to_f16_scale(const float *x, uint32_t count, __m256i *codes)
{
    __m256 group[4];
    __m256i largest = _mm256_setzero_si256();
    __m128i bits;
    float scale;

    load_group(x, count, group);
    for (int i = 0; i < 4; i++) {
        group[i] = finite_within(group[i], 127 * 65504.0f);
        largest = _mm256_max_epi32(largest, _mm256_and_si256(_mm256_castps_si256(group[i]), _mm256_set1_epi32(0x7fffffff)));
    }
    bits = _mm_cvtps_ph(_mm_set_ss(infer_ref_float_from_bits(largest_integer(largest)) / 127.0f), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    scale = _mm_cvtss_f32(_mm_cvtph_ps(bits));
    *codes = _mm256_setzero_si256();
    if (scale > 0) {
        __m256i c[4];
        for (int i = 0; i < 4; i++)
            c[i] = _mm256_cvtps_epi32(_mm256_div_ps(group[i], _mm256_set1_ps(scale)));
        *codes = _mm256_max_epi8(pack_codes(c), _mm256_set1_epi8(-127)); /* packing saturates at 127 and -128 */
    }
    return (uint16_t)_mm_cvtsi128_si32(bits);
}

ALWAYS_INLINE void store_q8g32(const infer_store_args *a, infer_region at, const int keys)
{
    for (uint32_t t = at.row0; t < at.row1; t++) {
        uint32_t position = a->pos0 + t;
        for (uint32_t head = at.col0 / a->head_dim; head < at.col1 / a->head_dim; head++) {
            const float *x = a->x + (size_t)t * a->stride + (size_t)head * a->head_dim;
            uint8_t *group = (uint8_t *)a->cache + infer_cache_q8_offset(head, a->positions, position, a->head_dim, 0);
            for (uint32_t d = 0; d < a->head_dim; d += 32, group += INFER_TILE_Q8_GROUP_BYTES) {
                __m256i codes;
                uint16_t scale = quantize_to_f16_scale(x + d, a->head_dim - d, &codes);
                memcpy(group + position % 16 * sizeof scale, &scale, sizeof scale);
                if (keys) {
                    int32_t fours[8];
                    _mm256_storeu_si256((__m256i *)fours, codes);
                    for (uint32_t i = 0; i < 8; i++)
                        memcpy(group + infer_tile_q8_offset(position % 16, 4 * i), &fours[i], sizeof fours[i]);
                } else {
                    _mm256_storeu_si256((__m256i *)(group + infer_cache_q8_v_codes(position)), codes);
                }
            }
        }
    }
}

ALWAYS_INLINE void store_k(const infer_store_args *a, infer_region at, store_fn *store)
{
    for (uint32_t t = at.row0; t < at.row1; t++) {
        uint32_t position = a->pos0 + t;
        for (uint32_t head = at.col0 / a->head_dim; head < at.col1 / a->head_dim; head++)
            store(a->x + (size_t)t * a->stride + (size_t)head * a->head_dim, a->cache,
                  infer_cache_k_index(head, a->positions, position, a->head_dim, 0), a->head_dim, 16);
    }
}

ALWAYS_INLINE void store_v(const infer_store_args *a, infer_region at, store_fn *store)
{
    for (uint32_t t = at.row0; t < at.row1; t++)
        for (uint32_t head = at.col0 / a->head_dim; head < at.col1 / a->head_dim; head++)
            store(a->x + (size_t)t * a->stride + (size_t)head * a->head_dim, a->cache,
                  infer_cache_v_index(head, a->positions, a->pos0 + t, a->head_dim, 0), a->head_dim, 1);
}

void store_k_f32__avx2(const void *args, infer_region at) { store_k(args, at, store_head_f32); }
void store_k_f16__avx2(const void *args, infer_region at) { store_k(args, at, store_head_f16); }
void store_k_q8g32__avx2(const void *args, infer_region at) { store_q8g32(args, at, 1); }
void store_v_f32__avx2(const void *args, infer_region at) { store_v(args, at, store_head_f32); }
void store_v_f16__avx2(const void *args, infer_region at) { store_v(args, at, store_head_f16); }
void store_v_q8g32__avx2(const void *args, infer_region at) { store_q8g32(args, at, 0); }
