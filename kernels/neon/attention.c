/*
 * Attention over a cache of floats, f32 or f16: see attention_block.h. Scores: sixteen positions at a time, one fused multiply-add a
 * dimension.
 */
#include "attention_block.h"

/* Sixteen keys from element k on. */
typedef void key16_fn(const void *keys, size_t k, float32x4_t out[4]);
/* Four and one dimensions of the chunk's position j. */
typedef float32x4_t load4_fn(const values *v, uint32_t j);
typedef float load1_fn(const values *v, uint32_t j);

static inline void key16_f32(const void *keys, size_t k, float32x4_t out[4])
{
#pragma GCC unroll 4
    for (uint32_t c = 0; c < 4; c++)
        out[c] = vld1q_f32((const float *)keys + k + 4 * c);
}

static inline void key16_f16(const void *keys, size_t k, float32x4_t out[4])
{
    float32x4x2_t low = infer_neon_f16x8((const uint16_t *)keys + k), high = infer_neon_f16x8((const uint16_t *)keys + k + 8);

    out[0] = low.val[0];
    out[1] = low.val[1];
    out[2] = high.val[0];
    out[3] = high.val[1];
}

static inline void load16_f32(const values *v, uint32_t j, float32x4_t out[4])
{
    key16_f32(v->first + j * v->stride, 0, out);
}
static inline void load16_f16(const values *v, uint32_t j, float32x4_t out[4])
{
    key16_f16(v->first + j * v->stride, 0, out);
}
static inline float32x4_t load4_f32(const values *v, uint32_t j)
{
    return vld1q_f32((const float *)(const void *)(v->first + j * v->stride));
}
static inline float32x4_t load4_f16(const values *v, uint32_t j)
{
    return infer_neon_f16x4(v->first + j * v->stride);
}
static inline float load1_f32(const values *v, uint32_t j)
{
    return *(const float *)(const void *)(v->first + j * v->stride);
}
static inline float load1_f16(const values *v, uint32_t j)
{
    return infer_ref_f16_to_f32(*(const uint16_t *)(const void *)(v->first + j * v->stride));
}

INFER_ALWAYS_INLINE void score(block *b, uint32_t j0, uint32_t tiles, key16_fn *key16, const uint32_t count)
{
    const infer_attention_args *a = b->a;
    size_t k = infer_cache_k_index(b->kv_head, a->positions, j0, a->head_dim, 0);
    const float *q[QUERIES];

#pragma GCC unroll 4
    for (uint32_t i = 0; i < count; i++)
        q[i] = b->q[i];
    for (uint32_t tile = 0; tile < tiles; tile++) {
        float32x4_t dot[QUERIES][4];
#pragma GCC unroll 4
        for (uint32_t i = 0; i < count; i++)
#pragma GCC unroll 4
            for (uint32_t c = 0; c < 4; c++)
                dot[i][c] = vdupq_n_f32(0);
        for (uint32_t d = 0; d < a->head_dim; d++, k += 16) {
            float32x4_t key[4];
            key16(a->k, k, key);
#pragma GCC unroll 4
            for (uint32_t i = 0; i < count; i++)
#pragma GCC unroll 4
                for (uint32_t c = 0; c < 4; c++)
                    dot[i][c] = vfmaq_n_f32(dot[i][c], key[c], q[i][d]);
        }
#pragma GCC unroll 4
        for (uint32_t i = 0; i < count; i++)
#pragma GCC unroll 4
            for (uint32_t c = 0; c < 4; c++)
                vst1q_f32(b->s[i] + 16 * tile + 4 * c, vmulq_n_f32(dot[i][c], a->scale));
    }
}

/* The last head_dim mod 16 dimensions, from d on, with v at the first of them. */
INFER_ALWAYS_INLINE void weigh_rest(block *b, values v, size_t element, uint32_t d, load4_fn *load4, load1_fn *load1)
{
    for (; d + 4 <= b->a->head_dim; d += 4, v.first += 4 * element) {
        for (uint32_t i = 0; i < b->count; i++) {
            float32x4_t sum = vdupq_n_f32(0);
            for (uint32_t j = 0; j < b->seen[i]; j++)
                sum = vfmaq_n_f32(sum, load4(&v, j), b->p[j][i]);
            vst1q_f32(b->chunk.out[i] + d, sum);
        }
    }
    for (; d < b->a->head_dim; d++, v.first += element) {
        for (uint32_t i = 0; i < b->count; i++) {
            float sum = 0;
            for (uint32_t j = 0; j < b->seen[i]; j++)
                sum = fmaf(b->p[j][i], load1(&v, j), sum);
            b->chunk.out[i][d] = sum;
        }
    }
}

INFER_ALWAYS_INLINE void weigh(block *b, uint32_t j0, size_t element, load16_fn *load16, load4_fn *load4, load1_fn *load1)
{
    const infer_attention_args *a = b->a;
    values v = {(const uint8_t *)a->v + element * infer_cache_v_index(b->kv_head, a->positions, j0, a->head_dim, 0), element * a->head_dim};
    uint32_t d = 0;

    for (; d + 16 <= a->head_dim; d += 16, v.first += 16 * element)
        EACH_COUNT(weigh16, b->count, b, &v, b->p, d, load16)
    weigh_rest(b, v, element, d, load4, load1);
}

static void score_f32(block *b, uint32_t j0, uint32_t tiles)
{
    EACH_COUNT(score, b->count, b, j0, tiles, key16_f32)
}
static void score_f16(block *b, uint32_t j0, uint32_t tiles)
{
    EACH_COUNT(score, b->count, b, j0, tiles, key16_f16)
}
static void weigh_f32(block *b, uint32_t j0)
{
    weigh(b, j0, sizeof(float), load16_f32, load4_f32, load1_f32);
}
static void weigh_f16(block *b, uint32_t j0)
{
    weigh(b, j0, sizeof(uint16_t), load16_f16, load4_f16, load1_f16);
}

static const cache_type f32 = {NULL, score_f32, weigh_f32, NULL};
static const cache_type f16 = {NULL, score_f16, weigh_f16, NULL};

void attention_f32__neon(const void *args, infer_region at)
{
    attention(args, at, &f32);
}
void attention_f16__neon(const void *args, infer_region at)
{
    attention(args, at, &f16);
}
void attention_chunks_f32__neon(const void *args, infer_region at)
{
    attention_chunks(args, at, &f32);
}
void attention_chunks_f16__neon(const void *args, infer_region at)
{
    attention_chunks(args, at, &f16);
}
void attention_merge__neon(const void *args, infer_region at)
{
    infer_attention_merge(args, at);
}
