/*
 * What the attention kernels of all cache types share. Up to four queries of one KV head, (token, head) pairs in token order, go through a
 * chunk together and share the loads of K and V. Scores: lanes are positions. Weighted sums: lanes are dimensions, one fused multiply-add a
 * position; the weights lie [position][query], so that one load brings those of all four queries.
 */
#ifndef INFER_KERNELS_NEON_ATTENTION_BLOCK_H
#define INFER_KERNELS_NEON_ATTENTION_BLOCK_H

#include "attention.h"
#include "neon.h"

enum { QUERIES = 4, CHUNK = INFER_ATTENTION_CHUNK };

/* The softmax of each query; weights are relative to exp(max). Rows hold whole groups of 32 dimensions. */
typedef struct state {
    float max[QUERIES], sum[QUERIES];
    float out[QUERIES][INFER_MAX_HEAD_DIM];
} state;

typedef struct block {
    const infer_attention_args *a;
    uint32_t kv_head, count;
    const float *q[QUERIES];
    uint32_t t[QUERIES], head[QUERIES];
    uint32_t begin[QUERIES], end[QUERIES]; /* positions begin..end-1 take part; both rise */
    uint32_t seen[QUERIES];   /* of the chunk's positions, those before `begin` among them; 0: the chunk does not concern the query */
    uint32_t most;            /* the largest of `seen` */
    float s[QUERIES][CHUNK];  /* scores */
    float p[CHUNK][QUERIES];  /* weights; anything behind a query's tiles, and for queries from `count` on */
    state chunk, total;
    const struct cache_type *type;
    _Alignas(64) uint8_t quantized[QUERIES * (INFER_MAX_HEAD_DIM / 32 | 1) * 40]; /* the queries for q8g32: see infer_q8_rows_at */
} block;

/* What the cache types differ in: j0 is the chunk's first position. */
typedef struct cache_type {
    void (*prepare)(block *b);                            /* after the queries were taken; may be NULL */
    void (*score)(block *b, uint32_t j0, uint32_t tiles); /* s[i][0..16 * tiles) = q . k * scale */
    void (*weigh)(block *b, uint32_t j0);                 /* chunk.out[i] = sum of p[j][i] v[j] over the `seen` positions of each query */
    infer_kernel_fn *matmul;                              /* q8g32: the level's own */
} cache_type;

/* Calls f(..., count) with a constant count. */
#define EACH_COUNT(f, queries, ...)                                                                                                        \
    switch (queries) {                                                                                                                     \
    case 4:                                                                                                                                \
        f(__VA_ARGS__, 4);                                                                                                                 \
        break;                                                                                                                             \
    case 3:                                                                                                                                \
        f(__VA_ARGS__, 3);                                                                                                                 \
        break;                                                                                                                             \
    case 2:                                                                                                                                \
        f(__VA_ARGS__, 2);                                                                                                                 \
        break;                                                                                                                             \
    default:                                                                                                                               \
        f(__VA_ARGS__, 1);                                                                                                                 \
    }

/* ---- weighted sums ---- */

/* Sixteen dimensions of the chunk's positions. Stride: bytes from one position to the next (q8g32: from one tile of 16 to the next). */
typedef struct values {
    const uint8_t *first;
    size_t stride;
} values;
typedef void load16_fn(const values *v, uint32_t j, float32x4_t out[4]);

/* chunk.out[i][d..d+16) of `count` queries. All share the loop up to the first one's end: a position too many would not be harmless, since
 * adding +0 turns -0 into +0. */
INFER_ALWAYS_INLINE void weigh16(block *b, const values *v, float (*weights)[QUERIES], uint32_t d, load16_fn *load, const uint32_t count)
{
    float32x4_t sum[QUERIES][4], value[4];

#pragma GCC unroll 4
    for (uint32_t i = 0; i < count; i++)
#pragma GCC unroll 4
        for (uint32_t c = 0; c < 4; c++)
            sum[i][c] = vdupq_n_f32(0);
    for (uint32_t j = 0; j < b->seen[0]; j++) {
        load(v, j, value);
#pragma GCC unroll 4
        for (uint32_t i = 0; i < count; i++)
#pragma GCC unroll 4
            for (uint32_t c = 0; c < 4; c++)
                sum[i][c] = vfmaq_n_f32(sum[i][c], value[c], weights[j][i]);
    }
#pragma GCC unroll 4
    for (uint32_t i = 0; i < count; i++) {
        for (uint32_t j = b->seen[0]; j < b->seen[i]; j++) {
            load(v, j, value);
#pragma GCC unroll 4
            for (uint32_t c = 0; c < 4; c++)
                sum[i][c] = vfmaq_n_f32(sum[i][c], value[c], weights[j][i]);
        }
#pragma GCC unroll 4
        for (uint32_t c = 0; c < 4; c++)
            vst1q_f32(b->chunk.out[i] + d + 4 * c, sum[i][c]);
    }
}

/* ---- softmax ---- */

/* What lies between a product and its softmax, for one query: the softcap, and -infinity before the window, which makes the weight +0. */
static inline void finish_scores(const block *b, float *s, uint32_t begin, uint32_t seen)
{
    if (b->a->softcap > 0)
        for (uint32_t j = 0; j < seen; j += 4)
            vst1q_f32(s + j, infer_neon_softcap(vld1q_f32(s + j), b->a->softcap));
    for (uint32_t j = 0; j < begin; j++)
        s[j] = -INFINITY;
}

/* Scores s[0..seen) of one query -> weights p[j][i], 0 from `seen` to the end of the tile; max and sum. */
static inline void softmax(float *s, uint32_t seen, uint32_t i, float p[CHUNK][QUERIES], float *max, float *sum)
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

/* ---- blocks ---- */

/* `chunk` of the queries that see the chunk from j0 on; at least one does. */
static inline void attend_chunk(block *b, uint32_t j0)
{
    b->most = 0;
    for (uint32_t i = 0; i < b->count; i++) {
        uint32_t left = b->end[i] > j0 && b->begin[i] < j0 + CHUNK ? b->end[i] - j0 : 0;
        b->seen[i] = left < CHUNK ? left : CHUNK;
        b->most = b->seen[i] > b->most ? b->seen[i] : b->most;
    }
    b->type->score(b, j0, (b->most + 15) / 16);
    for (uint32_t i = 0; i < b->count; i++) {
        if (b->seen[i] == 0)
            continue;
        finish_scores(b, b->s[i], b->begin[i] > j0 ? b->begin[i] - j0 : 0, b->seen[i]);
        softmax(b->s[i], b->seen[i], i, b->p, &b->chunk.max[i], &b->chunk.sum[i]);
    }
    b->type->weigh(b, j0);
}

static inline void merge(state *s, const state *c, uint32_t i, uint32_t head_dim)
{
    float max = c->max[i] > s->max[i] ? c->max[i] : s->max[i];
    float old_weight = infer_ref_expf(s->max[i] - max), new_weight = infer_ref_expf(c->max[i] - max);

    s->max[i] = max;
    s->sum[i] = fmaf(s->sum[i], old_weight, c->sum[i] * new_weight);
    for (uint32_t d = 0; d < head_dim; d++)
        s->out[i][d] = fmaf(s->out[i][d], old_weight, c->out[i][d] * new_weight);
}

static inline void start(block *b, const infer_attention_args *a, const cache_type *type)
{
    b->a = a;
    b->type = type;
    memset(b->p, 0, sizeof b->p);
}

/* Queries done, done + 1, ... of the tokens row0..row1, as many as fit. */
static inline void take_queries(block *b, uint32_t row0, uint32_t row1, uint64_t done)
{
    const infer_attention_args *a = b->a;
    uint32_t share = a->heads / a->kv_heads; /* query heads of a KV head */
    uint64_t left = (uint64_t)(row1 - row0) * share - done;

    b->count = left < QUERIES ? (uint32_t)left : QUERIES;
    for (uint32_t i = 0; i < b->count; i++) {
        b->t[i] = row0 + (uint32_t)((done + i) / share);
        b->head[i] = b->kv_head * share + (uint32_t)((done + i) % share);
        b->q[i] = a->q + (size_t)b->t[i] * a->q_stride + (size_t)b->head[i] * a->head_dim;
        b->begin[i] = infer_attention_begin(a, b->t[i]);
        b->end[i] = a->pos0 + b->t[i] + 1;
    }
    if (b->type->prepare)
        b->type->prepare(b);
}

static inline void attention(const infer_attention_args *a, infer_region at, const cache_type *type)
{
    uint32_t share = a->heads / a->kv_heads, width = share * a->head_dim;
    uint64_t queries = (uint64_t)(at.row1 - at.row0) * share;
    block b;

    start(&b, a, type);
    for (b.kv_head = at.col0 / width; b.kv_head < at.col1 / width; b.kv_head++) {
        for (uint64_t done = 0; done < queries; done += b.count) {
            take_queries(&b, at.row0, at.row1, done);
            for (uint32_t j0 = b.begin[0] / CHUNK * CHUNK; j0 < b.end[b.count - 1]; j0 += CHUNK) {
                attend_chunk(&b, j0);
                for (uint32_t i = 0; i < b.count; i++) {
                    if (b.seen[i] == 0)
                        continue;
                    if (b.begin[i] < j0) {
                        merge(&b.total, &b.chunk, i, a->head_dim);
                        continue;
                    }
                    b.total.max[i] = b.chunk.max[i]; /* its first chunk */
                    b.total.sum[i] = b.chunk.sum[i];
                    memcpy(b.total.out[i], b.chunk.out[i], a->head_dim * sizeof(float));
                }
            }
            for (uint32_t i = 0; i < b.count; i++) {
                float *y = a->y + (size_t)b.t[i] * a->y_stride + (size_t)b.head[i] * a->head_dim, inverse = 1.0f / b.total.sum[i];
                for (uint32_t d = 0; d < a->head_dim; d++)
                    y[d] = b.total.out[i][d] * inverse;
            }
        }
    }
}

static inline void attention_chunks(const infer_attention_args *a, infer_region at, const cache_type *type)
{
    uint64_t queries = (uint64_t)a->m * (a->heads / a->kv_heads);
    block b;

    start(&b, a, type);
    for (uint32_t line = at.row0; line < at.row1; line++) {
        uint32_t chunk = line % a->chunks;
        b.kv_head = line / a->chunks;
        for (uint64_t done = 0; done < queries; done += b.count) {
            take_queries(&b, 0, a->m, done);
            if (b.end[b.count - 1] <= chunk * CHUNK || b.begin[0] >= (chunk + 1) * CHUNK)
                continue;
            attend_chunk(&b, chunk * CHUNK);
            for (uint32_t i = 0; i < b.count; i++) {
                float *record = infer_attention_record(a, chunk, b.t[i], b.head[i]);
                if (b.seen[i] == 0)
                    continue;
                record[0] = b.chunk.max[i];
                record[1] = b.chunk.sum[i];
                memcpy(record + 2, b.chunk.out[i], a->head_dim * sizeof(float));
            }
        }
    }
}

#endif
