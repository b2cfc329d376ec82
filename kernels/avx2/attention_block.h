/*
 * What the attention kernels of all cache types share. The query heads that share a KV head, for as many tokens as fit, form a block of queries
 * that goes through the context chunk by chunk: a tile of keys meets all queries of the block, then a tile of values does, while it is in the
 * first cache. The inner loops take a few queries at a time, as many as keep their sums in registers. Tokens rise within a block, so the queries
 * that a tile concerns are its last ones.
 */
#ifndef INFER_KERNELS_AVX2_ATTENTION_BLOCK_H
#define INFER_KERNELS_AVX2_ATTENTION_BLOCK_H

#include "attention.h"
#include "quantize.h"

enum {
    CHUNK = INFER_ATTENTION_CHUNK,
    QUERIES = 24,               /* of a block; fewer of more than 128 dimensions */
    OUT_FLOATS = QUERIES * 128,
    P_STRIDE = CHUNK + 16       /* no power of two: rows shall not meet in one set of the cache */
};

typedef struct block {
    const infer_attention_args *a;
    uint32_t kv_head, count, room;                  /* queries, and how many there can be */
    uint32_t dims;                                  /* of a row of `chunk` and `out`, whole groups of 32 */
    const float *q[QUERIES];
    uint32_t t[QUERIES], head[QUERIES];
    uint32_t begin[QUERIES], end[QUERIES];          /* positions begin..end-1 take part; both rise */
    uint32_t active;                                /* queries from here on have a window that begins behind the chunk */
    float chunk_max[QUERIES], chunk_sum[QUERIES];
    float max[QUERIES], sum[QUERIES];               /* so far */
    _Alignas(64) float p[QUERIES][P_STRIDE];        /* scores of the chunk, then their exp */
    _Alignas(64) float chunk[OUT_FLOATS];           /* output of the chunk, [count][dims] */
    _Alignas(64) float out[OUT_FLOATS];             /* output so far */
    _Alignas(64) float x[OUT_FLOATS];               /* the queries for floats: [head_dim][room], and for q8g32: */
    int8_t codes[OUT_FLOATS];                       /* [room][dims] */
    float scales[OUT_FLOATS / 32];                  /* [room][dims / 32] */
} block;

/* What the cache types differ in. `j0`: first position of the chunk; `j`: that of the tile, from j0; `from`: the first query that the tile
 * concerns; the last is active - 1. Values are added for positions before each query's own end: with one too many, +0 would turn a sum of -0 into +0. */
typedef struct cache_type {
    uint32_t score_positions, value_positions;                            /* of score's and of add_values' step, the first a divisor of the second */
    void (*prepare)(block *b);                                            /* x, or codes and scales */
    void (*score)(block *b, uint32_t j0, uint32_t j, uint32_t from);      /* p[j..j+score_positions) = q . k * scale, at least tiles with active positions */
    void (*add_values)(block *b, uint32_t j0, uint32_t j, uint32_t from); /* chunk += p[j] v[j] */
    void (*softmax)(float *p, uint32_t count, float *max, float *sum);    /* p becomes exp(p - max), *sum their sum */
} cache_type;

/* How many of `limit` positions from `start` on lie before `end`. */
ALWAYS_INLINE uint32_t positions_before(uint32_t end, uint32_t start, uint32_t limit)
{
    return end <= start ? 0 : end - start < limit ? end - start : limit;
}

/* `left` queries in as few groups of at most `most` as possible, all of about the same size. */
ALWAYS_INLINE uint32_t group_size(uint32_t left, uint32_t most)
{
    uint32_t groups = (left + most - 1) / most;
    return (left + groups - 1) / groups;
}

/* ---- softmax of one query over the first count positions of a chunk ---- */

ALWAYS_INLINE float largest_lane(__m256 v)
{
    __m128 m = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    m = _mm_max_ps(m, _mm_movehl_ps(m, m));
    return _mm_cvtss_f32(_mm_max_ss(m, _mm_movehdup_ps(m)));
}

/* See cache_type. A NaN never becomes the maximum, as in the reference: max(v, NaN) keeps the second operand. */
static inline void softmax_8(float *p, uint32_t count, float *max, float *sum)
{
    __m256 largest = _mm256_set1_ps(-INFINITY), partial[2] = {_mm256_setzero_ps(), _mm256_setzero_ps()}, highest;
    uint32_t j = 0;

    for (; j + 8 <= count; j += 8)
        largest = _mm256_max_ps(_mm256_load_ps(p + j), largest);
    if (j < count)
        largest = _mm256_max_ps(_mm256_blendv_ps(largest, _mm256_load_ps(p + j), _mm256_castsi256_ps(lanes_below(count - j))), largest);
    *max = largest_lane(largest);
    highest = _mm256_set1_ps(*max);
    for (j = 0; j < count; j += 32) { /* behind the last position: exp of anything, masked; the row is long enough */
        __m256 e[4];
        for (uint32_t v = 0; v < 4; v++)
            e[v] = _mm256_sub_ps(_mm256_load_ps(p + j + 8 * v), highest);
        exp_all(e, 4);
        for (uint32_t v = 0; v < 4 && j + 32 > count; v++)
            e[v] = _mm256_and_ps(e[v], _mm256_castsi256_ps(lanes_below(positions_before(count, j + 8 * v, 8))));
        for (uint32_t v = 0; v < 4; v++) {
            _mm256_store_ps(p + j + 8 * v, e[v]);
            partial[v % 2] = _mm256_add_ps(partial[v % 2], e[v]);
        }
    }
    *sum = fold16(partial[0], partial[1]);
}

/* ---- a block ---- */

/* What lies between a product and its softmax, for one query: the softcap, and -infinity before the window, which makes the weight +0. */
static void finish_scores(const block *b, float *p, uint32_t start, uint32_t begin, uint32_t length)
{
    if (b->a->softcap > 0)
        for (uint32_t j = start; j < length; j += 8)
            _mm256_store_ps(p + j, softcap_8(_mm256_load_ps(p + j), b->a->softcap));
    for (uint32_t j = start; j < begin; j++)
        p[j] = -INFINITY;
}

/* chunk_max, chunk_sum, chunk of the queries that see the chunk from j0 on; returns the first of them, the last is active - 1. */
ALWAYS_INLINE uint32_t attend_chunk(block *b, uint32_t j0, const cache_type *type)
{
    uint32_t length, first = 0, start;

    while (b->end[first] <= j0)
        first++;
    for (b->active = b->count; b->begin[b->active - 1] >= j0 + CHUNK;)
        b->active--;
    length = positions_before(b->end[b->active - 1], j0, CHUNK);
    start = positions_before(b->begin[first], j0, CHUNK) / type->value_positions * type->value_positions; /* whole tiles before all windows */
    for (uint32_t j = start, i = first; j < length; j += type->score_positions) {
        while (b->end[i] <= j0 + j)
            i++;
        type->score(b, j0, j, i);
    }
    for (uint32_t i = first; i < b->active; i++) {
        uint32_t seen = positions_before(b->end[i], j0, CHUNK);
        finish_scores(b, b->p[i], start, positions_before(b->begin[i], j0, CHUNK), seen);
        type->softmax(b->p[i] + start, seen - start, &b->chunk_max[i], &b->chunk_sum[i]);
    }
    memset(b->chunk + (size_t)first * b->dims, 0, (size_t)(b->active - first) * b->dims * sizeof b->chunk[0]);
    for (uint32_t j = start, i = first; j < length; j += type->value_positions) {
        while (b->end[i] <= j0 + j)
            i++;
        type->add_values(b, j0, j, i);
    }
    return first;
}

/* The chunk from j0 on into the results of its queries, which it begins where their window does. */
static void merge_chunk(block *b, uint32_t j0, uint32_t first)
{
    for (uint32_t i = first; i < b->active; i++) {
        const float *chunk = b->chunk + (size_t)i * b->dims;
        float *out = b->out + (size_t)i * b->dims, merged = b->chunk_max[i] > b->max[i] ? b->chunk_max[i] : b->max[i];
        float old_weight, new_weight;
        if (b->begin[i] >= j0) {
            b->max[i] = b->chunk_max[i];
            b->sum[i] = b->chunk_sum[i];
            memcpy(out, chunk, b->dims * sizeof *out);
            continue;
        }
        old_weight = infer_ref_expf(b->max[i] - merged);
        new_weight = infer_ref_expf(b->chunk_max[i] - merged);
        b->max[i] = merged;
        b->sum[i] = fmaf(b->sum[i], old_weight, b->chunk_sum[i] * new_weight);
        for (uint32_t d = 0; d < b->dims; d += 8) {
            __m256 added = _mm256_mul_ps(_mm256_load_ps(chunk + d), _mm256_set1_ps(new_weight));
            _mm256_store_ps(out + d, _mm256_fmadd_ps(_mm256_load_ps(out + d), _mm256_set1_ps(old_weight), added));
        }
    }
}

ALWAYS_INLINE void start(block *b, const infer_attention_args *a)
{
    b->a = a;
    b->dims = (a->head_dim + 31) / 32 * 32;
    b->room = OUT_FLOATS / b->dims < QUERIES ? OUT_FLOATS / b->dims : QUERIES;
}

/* Queries done, done + 1, ... of the tokens row0..row1, as many as fit. */
ALWAYS_INLINE void take_queries(block *b, uint32_t row0, uint32_t row1, uint64_t done, const cache_type *type)
{
    const infer_attention_args *a = b->a;
    uint32_t share = a->heads / a->kv_heads;
    uint64_t left = (uint64_t)(row1 - row0) * share - done;

    b->count = left < b->room ? (uint32_t)left : b->room;
    for (uint32_t i = 0; i < b->count; i++) {
        b->t[i] = row0 + (uint32_t)((done + i) / share);
        b->head[i] = b->kv_head * share + (uint32_t)((done + i) % share);
        b->q[i] = a->q + (size_t)b->t[i] * a->q_stride + (size_t)b->head[i] * a->head_dim;
        b->begin[i] = infer_attention_begin(a, b->t[i]);
        b->end[i] = a->pos0 + b->t[i] + 1;
    }
    type->prepare(b);
}

ALWAYS_INLINE void attention(const infer_attention_args *a, infer_region at, const cache_type *type)
{
    uint32_t share = a->heads / a->kv_heads, width = share * a->head_dim;
    uint64_t queries = (uint64_t)(at.row1 - at.row0) * share;
    block b;

    start(&b, a);
    for (b.kv_head = at.col0 / width; b.kv_head < at.col1 / width; b.kv_head++) {
        for (uint64_t done = 0; done < queries; done += b.count) {
            take_queries(&b, at.row0, at.row1, done, type);
            for (uint32_t j0 = b.begin[0] / CHUNK * CHUNK; j0 < b.end[b.count - 1]; j0 += CHUNK)
                merge_chunk(&b, j0, attend_chunk(&b, j0, type));
            for (uint32_t i = 0; i < b.count; i++) {
                float *y = a->y + (size_t)b.t[i] * a->y_stride + (size_t)b.head[i] * a->head_dim;
                const float *out = b.out + (size_t)i * b.dims;
                __m256 inverse = _mm256_set1_ps(1.0f / b.sum[i]);
                for (uint32_t d = 0; d < a->head_dim; d += 8)
                    _mm256_maskstore_ps(y + d, lanes_below(a->head_dim - d), _mm256_mul_ps(_mm256_load_ps(out + d), inverse));
            }
        }
    }
}

ALWAYS_INLINE void attention_chunks(const infer_attention_args *a, infer_region at, const cache_type *type)
{
    uint32_t share = a->heads / a->kv_heads;
    block b;

    start(&b, a);
    for (uint32_t line = at.row0; line < at.row1; line++) {
        uint32_t chunk = line % a->chunks;
        b.kv_head = line / a->chunks;
        for (uint64_t done = 0; done < (uint64_t)a->m * share; done += b.count) {
            take_queries(&b, 0, a->m, done, type);
            if (b.end[b.count - 1] <= chunk * CHUNK || b.begin[0] >= (chunk + 1) * CHUNK)
                continue;
            for (uint32_t i = attend_chunk(&b, chunk * CHUNK, type); i < b.active; i++) {
                float *record = infer_attention_record(a, chunk, b.t[i], b.head[i]);
                record[0] = b.chunk_max[i];
                record[1] = b.chunk_sum[i];
                memcpy(record + 2, b.chunk + (size_t)i * b.dims, a->head_dim * sizeof(float));
            }
        }
    }
}

#endif
