/*
 * Causal attention with grouped queries. Up to four queries of one KV head, (token, head) pairs in token order, go through a chunk together
 * and share the loads of K and V. Scores: lanes are positions, sixteen at a time, one fused multiply-add a dimension. Weighted sums: lanes
 * are dimensions, one fused multiply-add a position; the weights lie [position][query], so that one load brings those of all four queries.
 */
#include "neon.h"

enum { MAX_QUERIES = 4 };

/* Sixteen and four numbers of a cache from element i on. */
typedef void cache16_fn(const void *cache, size_t i, float32x4_t out[4]);
typedef float32x4_t cache4_fn(const void *cache, size_t i);
typedef float cache1_fn(const void *cache, size_t i);

static inline void f32_16(const void *cache, size_t i, float32x4_t out[4])
{
#pragma GCC unroll 4
    for (uint32_t v = 0; v < 4; v++)
        out[v] = vld1q_f32((const float *)cache + i + 4 * v);
}

static inline void f16_16(const void *cache, size_t i, float32x4_t out[4])
{
    float32x4x2_t low = infer_neon_f16x8((const uint16_t *)cache + i), high = infer_neon_f16x8((const uint16_t *)cache + i + 8);

    out[0] = low.val[0];
    out[1] = low.val[1];
    out[2] = high.val[0];
    out[3] = high.val[1];
}

static inline float32x4_t f32_4(const void *cache, size_t i)
{
    return vld1q_f32((const float *)cache + i);
}
static inline float32x4_t f16_4(const void *cache, size_t i)
{
    return infer_neon_f16x4((const uint16_t *)cache + i);
}
static inline float f32_1(const void *cache, size_t i)
{
    return ((const float *)cache)[i];
}
static inline float f16_1(const void *cache, size_t i)
{
    return infer_ref_f16_to_f32(((const uint16_t *)cache)[i]);
}

typedef struct query {
    const float *q;
    float *y;
    uint32_t end; /* positions it sees */
} query;

/* The softmax so far, of each query; weights are relative to exp(max). */
typedef struct state {
    float max[MAX_QUERIES], sum[MAX_QUERIES];
    float out[MAX_QUERIES][INFER_MAX_HEAD_DIM];
} state;

/* s[i][j - j0] = scaled scores of positions j0..j0+16 * tiles. */
INFER_ALWAYS_INLINE void scores(const infer_attention_args *a, const query *queries, uint32_t count, uint32_t kv_head, uint32_t j0,
                                uint32_t tiles, float s[MAX_QUERIES][INFER_ATTENTION_CHUNK], cache16_fn *cache16)
{
    size_t k = ((size_t)kv_head * (a->positions / 16) + j0 / 16) * a->head_dim * 16;

    for (uint32_t tile = 0; tile < tiles; tile++) {
        float32x4_t dot[MAX_QUERIES][4];
#pragma GCC unroll 4
        for (uint32_t i = 0; i < count; i++)
#pragma GCC unroll 4
            for (uint32_t v = 0; v < 4; v++)
                dot[i][v] = vdupq_n_f32(0);
        for (uint32_t d = 0; d < a->head_dim; d++, k += 16) {
            float32x4_t key[4];
            cache16(a->k, k, key);
#pragma GCC unroll 4
            for (uint32_t i = 0; i < count; i++)
#pragma GCC unroll 4
                for (uint32_t v = 0; v < 4; v++)
                    dot[i][v] = vfmaq_n_f32(dot[i][v], key[v], queries[i].q[d]);
        }
#pragma GCC unroll 4
        for (uint32_t i = 0; i < count; i++)
#pragma GCC unroll 4
            for (uint32_t v = 0; v < 4; v++)
                vst1q_f32(s[i] + 16 * tile + 4 * v, vmulq_n_f32(dot[i][v], a->scale));
    }
}

/* Scores s[0..seen) of one query -> weights p[j][i], 0 from `seen` to the end of the tile; max and sum. */
static inline void softmax(float *s, uint32_t seen, uint32_t i, float p[INFER_ATTENTION_CHUNK][MAX_QUERIES], float *max, float *sum)
{
    static const uint32_t lane_numbers[4] = {0, 1, 2, 3};
    const uint32x4_t lanes = vld1q_u32(lane_numbers);
    float32x4_t largest = vdupq_n_f32(-INFINITY), partial[4] = {vdupq_n_f32(0), vdupq_n_f32(0), vdupq_n_f32(0), vdupq_n_f32(0)};

    for (uint32_t j = seen; j % 16; j++)
        s[j] = -INFINITY;
    for (uint32_t j = 0; j < seen; j += 4)
        largest = vmaxnmq_f32(largest, vld1q_f32(s + j)); /* numbers win over NaN, as in the reference's comparison */
    *max = vmaxnmvq_f32(largest);
    for (uint32_t j = 0; j < seen; j += 16) {
#pragma GCC unroll 4
        for (uint32_t v = 0; v < 4; v++) {
            uint32x4_t real = vcltq_u32(vaddq_u32(lanes, vdupq_n_u32(j + 4 * v)), vdupq_n_u32(seen));
            float32x4_t weight = infer_neon_exp(vsubq_f32(vld1q_f32(s + j + 4 * v), vdupq_n_f32(*max)));
            weight = vreinterpretq_f32_u32(vandq_u32(vreinterpretq_u32_f32(weight), real));
            partial[v] = vaddq_f32(partial[v], weight); /* adding +0 to a sum that is not -0 changes nothing */
            vst1q_lane_f32(&p[j + 4 * v][i], weight, 0);
            vst1q_lane_f32(&p[j + 4 * v + 1][i], weight, 1);
            vst1q_lane_f32(&p[j + 4 * v + 2][i], weight, 2);
            vst1q_lane_f32(&p[j + 4 * v + 3][i], weight, 3);
        }
    }
    *sum = infer_neon_fold16(partial);
}

/* out[i][d..d+16) over positions j0..j0+seen[i]. All queries share the loop up to the first one's end: a position too many would not be
 * harmless, since adding +0 turns -0 into +0. */
INFER_ALWAYS_INLINE void weigh16(const infer_attention_args *a, uint32_t count, size_t v, const uint32_t *seen,
                                 float p[INFER_ATTENTION_CHUNK][MAX_QUERIES], float out[MAX_QUERIES][INFER_MAX_HEAD_DIM], uint32_t d,
                                 cache16_fn *cache16)
{
    float32x4_t sum[MAX_QUERIES][4], value[4];

#pragma GCC unroll 4
    for (uint32_t i = 0; i < count; i++)
#pragma GCC unroll 4
        for (uint32_t c = 0; c < 4; c++)
            sum[i][c] = vdupq_n_f32(0);
    for (uint32_t j = 0; j < seen[0]; j++) {
        cache16(a->v, v + (size_t)j * a->head_dim + d, value);
#pragma GCC unroll 4
        for (uint32_t i = 0; i < count; i++)
#pragma GCC unroll 4
            for (uint32_t c = 0; c < 4; c++)
                sum[i][c] = vfmaq_n_f32(sum[i][c], value[c], p[j][i]);
    }
#pragma GCC unroll 4
    for (uint32_t i = 0; i < count; i++) {
        for (uint32_t j = seen[0]; j < seen[i]; j++) {
            cache16(a->v, v + (size_t)j * a->head_dim + d, value);
#pragma GCC unroll 4
            for (uint32_t c = 0; c < 4; c++)
                sum[i][c] = vfmaq_n_f32(sum[i][c], value[c], p[j][i]);
        }
#pragma GCC unroll 4
        for (uint32_t c = 0; c < 4; c++)
            vst1q_f32(out[i] + d + 4 * c, sum[i][c]);
    }
}

/* The same for the last head_dim mod 16 dimensions. */
INFER_ALWAYS_INLINE void weigh_rest(const infer_attention_args *a, uint32_t count, size_t v, const uint32_t *seen,
                                    float p[INFER_ATTENTION_CHUNK][MAX_QUERIES], float out[MAX_QUERIES][INFER_MAX_HEAD_DIM], uint32_t d,
                                    cache4_fn *cache4, cache1_fn *cache1)
{
    for (uint32_t i = 0; i < count; i++) {
        uint32_t rest = d;
        for (; rest + 4 <= a->head_dim; rest += 4) {
            float32x4_t sum = vdupq_n_f32(0);
            for (uint32_t j = 0; j < seen[i]; j++)
                sum = vfmaq_n_f32(sum, cache4(a->v, v + (size_t)j * a->head_dim + rest), p[j][i]);
            vst1q_f32(out[i] + rest, sum);
        }
        for (; rest < a->head_dim; rest++) {
            out[i][rest] = 0;
            for (uint32_t j = 0; j < seen[i]; j++)
                out[i][rest] = fmaf(p[j][i], cache1(a->v, v + (size_t)j * a->head_dim + rest), out[i][rest]);
        }
    }
}

static void merge(state *s, const state *c, uint32_t i, uint32_t head_dim)
{
    float max = c->max[i] > s->max[i] ? c->max[i] : s->max[i];
    float old_weight = infer_ref_expf(s->max[i] - max), new_weight = infer_ref_expf(c->max[i] - max);
    uint32_t d = 0;

    s->max[i] = max;
    s->sum[i] = fmaf(s->sum[i], old_weight, c->sum[i] * new_weight);
    for (; d + 4 <= head_dim; d += 4)
        vst1q_f32(s->out[i] + d, vfmaq_n_f32(vmulq_n_f32(vld1q_f32(c->out[i] + d), new_weight), vld1q_f32(s->out[i] + d), old_weight));
    for (; d < head_dim; d++)
        s->out[i][d] = fmaf(s->out[i][d], old_weight, c->out[i][d] * new_weight);
}

/* `count` queries (a compile-time constant) of one KV head, their ends rising. */
INFER_ALWAYS_INLINE void attend(const infer_attention_args *a, const query *queries, uint32_t count, uint32_t kv_head, cache16_fn *cache16,
                                cache4_fn *cache4, cache1_fn *cache1)
{
    float s[MAX_QUERIES][INFER_ATTENTION_CHUNK], p[INFER_ATTENTION_CHUNK][MAX_QUERIES];
    state total, chunk;

    for (uint32_t j0 = 0; j0 < queries[count - 1].end; j0 += INFER_ATTENTION_CHUNK) {
        state *to = j0 == 0 ? &total : &chunk;
        size_t v = ((size_t)kv_head * a->positions + j0) * a->head_dim;
        uint32_t seen[MAX_QUERIES], d = 0;
        for (uint32_t i = 0; i < count; i++) {
            uint32_t left = queries[i].end > j0 ? queries[i].end - j0 : 0;
            seen[i] = left < INFER_ATTENTION_CHUNK ? left : INFER_ATTENTION_CHUNK;
        }
        scores(a, queries, count, kv_head, j0, (seen[count - 1] + 15) / 16, s, cache16);
        for (uint32_t i = 0; i < count; i++)
            softmax(s[i], seen[i], i, p, &to->max[i], &to->sum[i]);
        for (; d + 16 <= a->head_dim; d += 16)
            weigh16(a, count, v, seen, p, to->out, d, cache16);
        weigh_rest(a, count, v, seen, p, to->out, d, cache4, cache1);
        for (uint32_t i = 0; i < count && j0 > 0; i++)
            if (seen[i] > 0)
                merge(&total, &chunk, i, a->head_dim);
    }
    for (uint32_t i = 0; i < count; i++) {
        float inverse = 1.0f / total.sum[i];
        uint32_t d = 0;
        for (; d + 4 <= a->head_dim; d += 4)
            vst1q_f32(queries[i].y + d, vmulq_n_f32(vld1q_f32(total.out[i] + d), inverse));
        for (; d < a->head_dim; d++)
            queries[i].y[d] = total.out[i][d] * inverse;
    }
}

INFER_ALWAYS_INLINE void attention(const infer_attention_args *a, infer_region at, cache16_fn *cache16, cache4_fn *cache4,
                                   cache1_fn *cache1)
{
    uint32_t share = a->heads / a->kv_heads; /* query heads of a KV head */
    uint32_t group = share * a->head_dim;

    for (uint32_t kv_head = at.col0 / group; kv_head < at.col1 / group; kv_head++) {
        query queries[MAX_QUERIES];
        uint32_t count = 0;
        for (uint32_t t = at.row0; t < at.row1; t++) {
            for (uint32_t h = kv_head * share; h < (kv_head + 1) * share; h++) {
                queries[count].q = a->q + (size_t)t * a->q_stride + (size_t)h * a->head_dim;
                queries[count].y = a->y + (size_t)t * a->y_stride + (size_t)h * a->head_dim;
                queries[count].end = a->pos0 + t + 1;
                if (++count == MAX_QUERIES) {
                    attend(a, queries, MAX_QUERIES, kv_head, cache16, cache4, cache1);
                    count = 0;
                }
            }
        }
        if (count >= 2) {
            attend(a, queries, 2, kv_head, cache16, cache4, cache1);
            queries[0] = queries[2];
        }
        if (count % 2)
            attend(a, queries, 1, kv_head, cache16, cache4, cache1);
    }
}

void attention_f32__neon(const void *args, infer_region at)
{
    attention(args, at, f32_16, f32_4, f32_1);
}
void attention_f16__neon(const void *args, infer_region at)
{
    attention(args, at, f16_16, f16_4, f16_1);
}
