/*
 * Causal attention with grouped queries. The query heads that share a KV head, for as many tokens as fit, form a block of queries: each tile of
 * 16 positions is widened to float once for the block and meets its queries four at a time. Scores: lanes are positions. Output: lanes are
 * dimensions. Tokens rise within a block, so the queries that a tile concerns are its last ones.
 */
#include "kernels.h"
#include "vector.h"

enum {
    QUERIES = 8, /* a block */
    CHUNK = INFER_ATTENTION_CHUNK,
    MAX_DIM = INFER_MAX_HEAD_DIM
};

typedef struct block {
    uint32_t count;
    const float *q[QUERIES];
    float *y[QUERIES];
    uint32_t end[QUERIES]; /* positions 0..end-1 take part; rising */
    float max[QUERIES], sum[QUERIES];
    float old_weight[QUERIES], new_weight[QUERIES]; /* of the output so far and of the chunk */
    _Alignas(64) float tile[16 * MAX_DIM];      /* widened keys [head_dim][16] or values [16][dims] */
    _Alignas(64) float p[QUERIES][CHUNK];       /* scores of the chunk, then their exp */
    _Alignas(64) float chunk[QUERIES][MAX_DIM]; /* output of the chunk */
    _Alignas(64) float out[QUERIES][MAX_DIM];   /* output so far */
} block;

typedef __m256 load_fn(const void *cache, size_t i);

ALWAYS_INLINE __m256 load_cache_f32(const void *cache, size_t i) { return _mm256_loadu_ps((const float *)cache + i); }
ALWAYS_INLINE __m256 load_cache_f16(const void *cache, size_t i) { return load_f16((const uint16_t *)cache + i); }

/* ---- scores: p[16] = q . k * scale for 16 positions; k [head_dim][16] ---- */

ALWAYS_INLINE void score_tile(const float *k, const float *const *q, uint32_t head_dim, float scale, const uint32_t queries, float (*p)[CHUNK])
{
    __m256 dots[4][2];

    for (uint32_t i = 0; i < queries; i++)
        dots[i][0] = dots[i][1] = _mm256_setzero_ps();
    for (uint32_t d = 0; d < head_dim; d++) {
        __m256 low = _mm256_loadu_ps(k + 16 * d), high = _mm256_loadu_ps(k + 16 * d + 8);
        for (uint32_t i = 0; i < queries; i++) {
            __m256 x = _mm256_broadcast_ss(q[i] + d);
            dots[i][0] = _mm256_fmadd_ps(x, low, dots[i][0]);
            dots[i][1] = _mm256_fmadd_ps(x, high, dots[i][1]);
        }
    }
    for (uint32_t i = 0; i < queries; i++) {
        _mm256_store_ps(p[i], _mm256_mul_ps(dots[i][0], _mm256_set1_ps(scale)));
        _mm256_store_ps(p[i] + 8, _mm256_mul_ps(dots[i][1], _mm256_set1_ps(scale)));
    }
}

static void score_queries(const float *k, const float *const *q, uint32_t head_dim, float scale, uint32_t queries, float (*p)[CHUNK])
{
    for (; queries >= 4; queries -= 4, q += 4, p += 4)
        score_tile(k, q, head_dim, scale, 4, p);
    switch (queries) {
    case 3:
        score_tile(k, q, head_dim, scale, 3, p);
        break;
    case 2:
        score_tile(k, q, head_dim, scale, 2, p);
        break;
    case 1:
        score_tile(k, q, head_dim, scale, 1, p);
    }
}

/* ---- softmax of one query over the first count positions of a chunk ---- */

ALWAYS_INLINE float largest_lane(__m256 v)
{
    __m128 m = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    m = _mm_max_ps(m, _mm_movehl_ps(m, m));
    return _mm_cvtss_f32(_mm_max_ss(m, _mm_movehdup_ps(m)));
}

/* p becomes exp(p - max), *sum their sum. A NaN never becomes the maximum, as in the reference: max(v, NaN) keeps the second operand. */
static void softmax(float *p, uint32_t count, float *max, float *sum)
{
    const __m256 lowest = _mm256_set1_ps(-INFINITY);
    __m256 largest = lowest, partial[2] = {_mm256_setzero_ps(), _mm256_setzero_ps()};

    for (uint32_t j = 0; j < count; j += 8) {
        __m256 inside = _mm256_castsi256_ps(lanes_below(count - j));
        largest = _mm256_max_ps(_mm256_blendv_ps(lowest, _mm256_load_ps(p + j), inside), largest);
    }
    *max = largest_lane(largest);
    for (uint32_t j = 0; j < count; j += 8) {
        __m256 inside = _mm256_castsi256_ps(lanes_below(count - j));
        __m256 e = _mm256_and_ps(exp_8(_mm256_sub_ps(_mm256_load_ps(p + j), _mm256_set1_ps(*max))), inside);
        _mm256_store_ps(p + j, e);
        partial[j / 8 % 2] = _mm256_add_ps(partial[j / 8 % 2], e);
    }
    *sum = fold16(partial[0], partial[1]);
}

/* ---- values: out[d] += p[j] v[j][d] for positions j0..j1 of a tile, `vectors` x 8 dimensions ---- */

ALWAYS_INLINE void add_values(const float *v, size_t stride, const float *p, uint32_t j0, uint32_t j1, const uint32_t queries,
                              const uint32_t vectors, float *out)
{
    __m256 sums[4][8];

    for (uint32_t i = 0; i < queries; i++)
        for (uint32_t c = 0; c < vectors; c++)
            sums[i][c] = _mm256_load_ps(out + (size_t)i * MAX_DIM + 8 * c);
    for (uint32_t j = j0; j < j1; j++) {
        __m256 weights[4];
        for (uint32_t i = 0; i < queries; i++)
            weights[i] = _mm256_broadcast_ss(p + (size_t)i * CHUNK + j);
        for (uint32_t c = 0; c < vectors; c++) {
            __m256 value = _mm256_loadu_ps(v + j * stride + 8 * c);
            for (uint32_t i = 0; i < queries; i++)
                sums[i][c] = _mm256_fmadd_ps(weights[i], value, sums[i][c]);
        }
    }
    for (uint32_t i = 0; i < queries; i++)
        for (uint32_t c = 0; c < vectors; c++)
            _mm256_store_ps(out + (size_t)i * MAX_DIM + 8 * c, sums[i][c]);
}

/* All dimensions, 8 or 2 or 1 vectors at a time: eight sums in flight hide the latency of the multiply-adds. */
static void add_values_1(const float *v, size_t stride, const float *p, uint32_t j0, uint32_t j1, uint32_t dims, float *out)
{
    uint32_t d = 0;

    for (; d + 64 <= dims; d += 64)
        add_values(v + d, stride, p, j0, j1, 1, 8, out + d);
    for (; d < dims; d += 8)
        add_values(v + d, stride, p, j0, j1, 1, 1, out + d);
}

static void add_values_4(const float *v, size_t stride, const float *p, uint32_t j0, uint32_t j1, uint32_t dims, float *out)
{
    uint32_t d = 0;

    for (; d + 16 <= dims; d += 16)
        add_values(v + d, stride, p, j0, j1, 4, 2, out + d);
    for (; d < dims; d += 8)
        add_values(v + d, stride, p, j0, j1, 4, 1, out + d);
}

/* How many of `limit` positions from `start` on lie before `end`. */
ALWAYS_INLINE uint32_t positions_before(uint32_t end, uint32_t start, uint32_t limit)
{
    return end <= start ? 0 : end - start < limit ? end - start : limit;
}

/* ---- a block of queries over the whole context ---- */

/* The values of up to 16 positions as floats, rows padded to whole vectors. */
ALWAYS_INLINE const float *widen_values(block *b, const void *v, size_t first, uint32_t head_dim, uint32_t rows, size_t element_bytes, load_fn *load)
{
    uint32_t dims = (head_dim + 7) / 8 * 8, rest = head_dim % 8;

    if (element_bytes == sizeof(float) && rest == 0)
        return (const float *)v + first;
    for (uint32_t j = 0; j < rows; j++) {
        size_t row = first + (size_t)j * head_dim;
        float *to = b->tile + (size_t)j * dims;
        uint32_t d = 0;
        for (; d + 8 <= head_dim; d += 8)
            _mm256_store_ps(to + d, load(v, row + d));
        if (rest) { /* 8 elements from here may reach behind the cache */
            float last[8] = {0};
            memcpy(last, (const char *)v + (row + d) * element_bytes, rest * element_bytes);
            _mm256_store_ps(to + d, load(last, 0));
        }
    }
    return b->tile;
}

ALWAYS_INLINE void attend_chunk(const infer_attention_args *a, block *b, uint32_t kv_head, uint32_t j0, size_t element_bytes, load_fn *load)
{
    uint32_t last = b->end[b->count - 1], dims = (a->head_dim + 7) / 8 * 8;
    uint32_t length = positions_before(last, j0, CHUNK), first = 0;
    float max, sum;

    while (b->end[first] <= j0)
        first++;
    for (uint32_t j = 0; j < length; j += 16) {
        size_t tile = ((size_t)kv_head * (a->positions / 16) + (j0 + j) / 16) * a->head_dim * 16;
        const float *k = b->tile;
        uint32_t from = first;
        if (element_bytes == sizeof(float))
            k = (const float *)a->k + tile;
        else
            for (uint32_t i = 0; i < 16 * a->head_dim; i += 8)
                _mm256_store_ps(b->tile + i, load(a->k, tile + i));
        while (b->end[from] <= j0 + j)
            from++;
        score_queries(k, b->q + from, a->head_dim, a->scale, b->count - from, (float(*)[CHUNK])(b->p[from] + j));
    }
    for (uint32_t i = first; i < b->count; i++)
        memset(b->chunk[i], 0, dims * sizeof(float));
    for (uint32_t i = first; i < b->count; i++) {
        softmax(b->p[i], positions_before(b->end[i], j0, CHUNK), &max, &sum);
        if (j0 == 0) {
            b->max[i] = max;
            b->sum[i] = sum;
        } else {
            float merged = max > b->max[i] ? max : b->max[i];
            float old_weight = infer_ref_expf(b->max[i] - merged), new_weight = infer_ref_expf(max - merged);
            b->max[i] = merged;
            b->sum[i] = fmaf(b->sum[i], old_weight, sum * new_weight);
            b->old_weight[i] = old_weight;
            b->new_weight[i] = new_weight;
        }
    }
    for (uint32_t j = 0; j < length; j += 16) {
        uint32_t rows = positions_before(last, j0 + j, 16), i = first;
        const float *v = widen_values(b, a->v, ((size_t)kv_head * a->positions + j0 + j) * a->head_dim, a->head_dim, rows, element_bytes, load);
        while (b->end[i] <= j0 + j)
            i++;
        for (; i + 4 <= b->count; i += 4) {
            uint32_t common = positions_before(b->end[i], j0 + j, 16);
            add_values_4(v, dims, b->p[i] + j, 0, common, dims, b->chunk[i]);
            for (uint32_t q = i + 1; q < i + 4; q++)
                add_values_1(v, dims, b->p[q] + j, common, positions_before(b->end[q], j0 + j, 16), dims, b->chunk[q]);
        }
        for (; i < b->count; i++)
            add_values_1(v, dims, b->p[i] + j, 0, positions_before(b->end[i], j0 + j, 16), dims, b->chunk[i]);
    }
    for (uint32_t i = first; i < b->count; i++) {
        if (j0 == 0) {
            memcpy(b->out[i], b->chunk[i], dims * sizeof(float));
            continue;
        }
        for (uint32_t d = 0; d < dims; d += 8) {
            __m256 added = _mm256_mul_ps(_mm256_load_ps(b->chunk[i] + d), _mm256_set1_ps(b->new_weight[i]));
            _mm256_store_ps(b->out[i] + d, _mm256_fmadd_ps(_mm256_load_ps(b->out[i] + d), _mm256_set1_ps(b->old_weight[i]), added));
        }
    }
}

ALWAYS_INLINE void attention(const infer_attention_args *a, infer_region at, size_t element_bytes, load_fn *load)
{
    uint32_t share = a->heads / a->kv_heads, width = share * a->head_dim;
    block b;

    for (uint32_t kv_head = at.col0 / width; kv_head < at.col1 / width; kv_head++) {
        uint64_t queries = (uint64_t)(at.row1 - at.row0) * share;
        for (uint64_t done = 0; done < queries; done += b.count) {
            b.count = queries - done < QUERIES ? (uint32_t)(queries - done) : QUERIES;
            for (uint32_t i = 0; i < b.count; i++) {
                uint32_t t = at.row0 + (uint32_t)((done + i) / share);
                size_t column = ((size_t)kv_head * share + (done + i) % share) * a->head_dim;
                b.q[i] = a->q + (size_t)t * a->q_stride + column;
                b.y[i] = a->y + (size_t)t * a->y_stride + column;
                b.end[i] = a->pos0 + t + 1;
            }
            for (uint32_t j0 = 0; j0 < b.end[b.count - 1]; j0 += CHUNK)
                attend_chunk(a, &b, kv_head, j0, element_bytes, load);
            for (uint32_t i = 0; i < b.count; i++) {
                __m256 inverse = _mm256_set1_ps(1.0f / b.sum[i]);
                for (uint32_t d = 0; d < a->head_dim; d += 8)
                    _mm256_maskstore_ps(b.y[i] + d, lanes_below(a->head_dim - d), _mm256_mul_ps(_mm256_load_ps(b.out[i] + d), inverse));
            }
        }
    }
}

void attention_f32__avx2(const void *args, infer_region at) { attention(args, at, sizeof(float), load_cache_f32); }
void attention_f16__avx2(const void *args, infer_region at) { attention(args, at, sizeof(uint16_t), load_cache_f16); }
