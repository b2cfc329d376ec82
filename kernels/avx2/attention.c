/*
 * Attention over a cache of floats, f32 or f16: see attention_block.h. Scores: lanes are positions. Output: lanes are dimensions. f16 is
 * widened as it is loaded, also when a tile meets several groups of queries: measured faster than to store it widened.
 */
#include "attention_block.h"

enum {
    MOST_QUERIES = 6,     /* in one pass: 12 sums, 2 vectors of the tile and one input fill the registers */
    WIDE_QUERIES = 3,     /* with 4 vectors: 12 sums, 3 inputs and one vector of the tile */
    SCORE_POSITIONS = 32, /* two tiles of keys */
    VALUE_POSITIONS = 64,
    AHEAD_BYTES = 8192    /* how far ahead of a tile its successors are asked for: tiles are too short for the CPU to notice in time */
};

/* Elements i..i+count of a cache as floats, count 1..8, zeros behind them. */
typedef __m256 load_fn(const void *cache, size_t i, uint32_t count);

ALWAYS_INLINE __m256 load_cache_f32(const void *cache, size_t i, uint32_t count)
{
    const float *x = (const float *)cache + i;
    return count >= 8 ? _mm256_loadu_ps(x) : _mm256_maskload_ps(x, lanes_below(count));
}

ALWAYS_INLINE __m256 load_cache_f16(const void *cache, size_t i, uint32_t count)
{
    const uint16_t *x = (const uint16_t *)cache + i;
    uint16_t part[8] = {0};

    if (count >= 8)
        return load_f16(x);
    for (uint32_t d = 0; d < count; d++)
        part[d] = x[d];
    return load_f16(part);
}

/* Of `left` queries, those of the next pass. Twelve sums in flight, 4 vectors x 3 queries or 2 x 6, are worth more than eight, which must all be
 * ready in time. */
ALWAYS_INLINE uint32_t queries_of(uint32_t left) { return left < 2 * MOST_QUERIES && left > MOST_QUERIES ? WIDE_QUERIES : group_size(left, MOST_QUERIES); }

/*
 * sums[q][v] += inputs[q * stride] x vector v of a cache: vectors of `count` elements, the first half of them from element `first` on, the other
 * half from `second` on. Of inputs and vectors, the fewer ones wait in registers.
 */
ALWAYS_INLINE void add_products(__m256 sums[6][8], const float *inputs, const size_t stride, const uint32_t n, const void *cache, size_t first,
                                size_t second, const uint32_t vectors, uint32_t count, load_fn *load)
{
    const uint32_t half = vectors / 2;
    __m256 kept[6];

    if (n < vectors) {
#pragma GCC unroll 6
        for (uint32_t q = 0; q < n; q++)
            kept[q] = _mm256_broadcast_ss(inputs + q * stride);
#pragma GCC unroll 8
        for (uint32_t v = 0; v < vectors; v++) {
            __m256 x = load(cache, v < half ? first + 8 * v : second + 8 * (v - half), count);
#pragma GCC unroll 6
            for (uint32_t q = 0; q < n; q++)
                sums[q][v] = _mm256_fmadd_ps(kept[q], x, sums[q][v]);
        }
        return;
    }
#pragma GCC unroll 6
    for (uint32_t v = 0; v < vectors; v++)
        kept[v] = load(cache, v < half ? first + 8 * v : second + 8 * (v - half), count);
#pragma GCC unroll 6
    for (uint32_t q = 0; q < n; q++) {
        __m256 input = _mm256_broadcast_ss(inputs + q * stride);
#pragma GCC unroll 6
        for (uint32_t v = 0; v < vectors; v++)
            sums[q][v] = _mm256_fmadd_ps(input, kept[v], sums[q][v]);
    }
}

/* ---- scores ---- */

static void pack_queries(block *b)
{
    for (uint32_t i = 0; i < b->count; i++)
        for (uint32_t d = 0; d < b->a->head_dim; d++)
            b->x[(size_t)d * b->room + i] = b->q[i][d];
}

/*
 * Queries i..i+n, n at most MOST_QUERIES, with the tile of keys [head_dim][16] at element k; with four vectors, with the next tile too.
 */
ALWAYS_INLINE void score_tiles(block *b, size_t k, uint32_t j, uint32_t i, const uint32_t n, const uint32_t vectors, load_fn *load,
                               const uint32_t bytes)
{
    const infer_attention_args *a = b->a;
    const float *x = b->x + i;
    const size_t tile = 16 * (size_t)a->head_dim;
    __m256 dots[6][8];

#pragma GCC unroll 6
    for (uint32_t q = 0; q < n; q++)
#pragma GCC unroll 4
        for (uint32_t v = 0; v < vectors; v++)
            dots[q][v] = _mm256_setzero_ps();
    for (uint32_t d = 0; d < a->head_dim; d++, k += 16, x += b->room) {
        for (uint32_t t = 0; t < vectors / 2; t++)
            _mm_prefetch((const char *)a->k + (k + t * tile) * bytes + AHEAD_BYTES, _MM_HINT_T0);
        add_products(dots, x, 1, n, a->k, k, vectors == 2 ? k + 8 : k + tile, vectors, 8, load);
    }
#pragma GCC unroll 6
    for (uint32_t q = 0; q < n; q++)
#pragma GCC unroll 4
        for (uint32_t v = 0; v < vectors; v++)
            _mm256_store_ps(b->p[i + q] + j + 8 * v, _mm256_mul_ps(dots[q][v], _mm256_set1_ps(a->scale)));
}

/* ---- values ---- */

/* Values of the positions of a tile, row by row from element `first` on. */
typedef struct rows {
    const void *cache;
    size_t first, stride;
    uint32_t dims; /* of a row that may be read */
} rows;

/* chunk[d..d+8*vectors) += p[j+k] v[k] for positions k from..to; dimensions: how many there are from d on, where not all of the vectors'. */
ALWAYS_INLINE void add_dimensions(block *b, const rows *v, uint32_t j, uint32_t from, uint32_t to, uint32_t i, const uint32_t n, uint32_t d,
                                  const uint32_t vectors, uint32_t dimensions, load_fn *load, const uint32_t bytes)
{
    size_t at = v->first + d + from * v->stride;
    const float *p = b->p[i] + j;
    float *chunk = b->chunk + (size_t)i * b->dims + d;
    __m256 sums[6][8];

#pragma GCC unroll 6
    for (uint32_t q = 0; q < n; q++)
#pragma GCC unroll 8
        for (uint32_t c = 0; c < vectors; c++)
            sums[q][c] = _mm256_load_ps(chunk + (size_t)q * b->dims + 8 * c);
    for (uint32_t k = from; k < to; k++, at += v->stride) {
        _mm_prefetch((const char *)v->cache + at * bytes + AHEAD_BYTES, _MM_HINT_T0);
        add_products(sums, p + k, P_STRIDE, n, v->cache, at, at + 8 * (vectors / 2), vectors, dimensions, load);
    }
#pragma GCC unroll 6
    for (uint32_t q = 0; q < n; q++)
#pragma GCC unroll 8
        for (uint32_t c = 0; c < vectors; c++)
            _mm256_store_ps(chunk + (size_t)q * b->dims + 8 * c, sums[q][c]);
}

/* All dimensions, with 8 to 12 sums in flight. */
ALWAYS_INLINE void add_rows(block *b, const rows *v, uint32_t j, uint32_t from, uint32_t to, uint32_t i, const uint32_t n, load_fn *load, const uint32_t bytes)
{
    const uint32_t vectors = n == 1 ? 8 : n <= WIDE_QUERIES ? 4 : 2;
    uint32_t d = 0;

    for (; d + 8 * vectors <= v->dims; d += 8 * vectors)
        add_dimensions(b, v, j, from, to, i, n, d, vectors, 8, load, bytes);
    for (; d + 8 <= v->dims; d += 8)
        add_dimensions(b, v, j, from, to, i, n, d, 1, 8, load, bytes);
    if (d < v->dims)
        add_dimensions(b, v, j, from, to, i, n, d, 1, v->dims - d, load, bytes);
}

/* All queries together up to the end of the first of them, then the others on their own. */
ALWAYS_INLINE void add_values(block *b, const rows *v, uint32_t j0, uint32_t j, uint32_t i, const uint32_t n, load_fn *load, const uint32_t bytes)
{
    uint32_t common = positions_before(b->end[i], j0 + j, VALUE_POSITIONS);

    add_rows(b, v, j, 0, common, i, n, load, bytes);
    for (uint32_t q = 1; q < n; q++) {
        uint32_t own = positions_before(b->end[i + q], j0 + j, VALUE_POSITIONS);
        if (own > common)
            add_rows(b, v, j, common, own, i + q, 1, load, bytes);
    }
}

/* ---- a tile and all queries from `from` on ---- */

/* Calls f(..., n, load, bytes) with a constant n. */
#define EACH_COUNT(f, ...)                                                                                                                 \
    switch (n) {                                                                                                                           \
    case 6:                                                                                                                                \
        f(__VA_ARGS__, 6, load, bytes);                                                                                                           \
        break;                                                                                                                             \
    case 5:                                                                                                                                \
        f(__VA_ARGS__, 5, load, bytes);                                                                                                           \
        break;                                                                                                                             \
    case 4:                                                                                                                                \
        f(__VA_ARGS__, 4, load, bytes);                                                                                                           \
        break;                                                                                                                             \
    case 3:                                                                                                                                \
        f(__VA_ARGS__, 3, load, bytes);                                                                                                           \
        break;                                                                                                                             \
    case 2:                                                                                                                                \
        f(__VA_ARGS__, 2, load, bytes);                                                                                                           \
        break;                                                                                                                             \
    default:                                                                                                                               \
        f(__VA_ARGS__, 1, load, bytes);                                                                                                           \
    }

/* One tile or two. */
ALWAYS_INLINE void score(block *b, size_t k, uint32_t j, uint32_t i, const uint32_t tiles, const uint32_t n, load_fn *load, const uint32_t bytes)
{
    if (tiles == 2 && n <= WIDE_QUERIES) {
        score_tiles(b, k, j, i, n, 4, load, bytes);
        return;
    }
    for (uint32_t t = 0; t < tiles; t++)
        score_tiles(b, k + t * 16 * (size_t)b->a->head_dim, j + 16 * t, i, n, 2, load, bytes);
}

/* The second tile may lie behind the cache where no position of it is seen. */
ALWAYS_INLINE void score_all(block *b, uint32_t j0, uint32_t j, uint32_t from, load_fn *load, const uint32_t bytes)
{
    size_t k = infer_cache_k_index(b->kv_head, b->a->positions, j0 + j, b->a->head_dim, 0);
    uint32_t tiles = positions_before(b->end[b->active - 1], j0 + j, SCORE_POSITIONS) > 16 ? 2 : 1;

    for (uint32_t i = from, n; i < b->active; i += n) {
        n = queries_of(b->active - i);
        EACH_COUNT(score, b, k, j, i, tiles)
    }
}

ALWAYS_INLINE void add_all_values(block *b, const rows *v, uint32_t j0, uint32_t j, uint32_t from, load_fn *load, const uint32_t bytes)
{
    for (uint32_t i = from, n; i < b->active; i += n) {
        n = queries_of(b->active - i);
        EACH_COUNT(add_values, b, v, j0, j, i)
    }
}

static rows values_at(const block *b, uint32_t position)
{
    const infer_attention_args *a = b->a;
    return (rows){a->v, infer_cache_v_index(b->kv_head, a->positions, position, a->head_dim, 0), a->head_dim, a->head_dim};
}

static void score_f32(block *b, uint32_t j0, uint32_t j, uint32_t from) { score_all(b, j0, j, from, load_cache_f32, 4); }

static void score_f16(block *b, uint32_t j0, uint32_t j, uint32_t from) { score_all(b, j0, j, from, load_cache_f16, 2); }

static void add_values_f32(block *b, uint32_t j0, uint32_t j, uint32_t from)
{
    rows v = values_at(b, j0 + j);
    add_all_values(b, &v, j0, j, from, load_cache_f32, 4);
}

static void add_values_f16(block *b, uint32_t j0, uint32_t j, uint32_t from)
{
    rows v = values_at(b, j0 + j);
    add_all_values(b, &v, j0, j, from, load_cache_f16, 2);
}

static const cache_type f32 = {SCORE_POSITIONS, VALUE_POSITIONS, pack_queries, score_f32, add_values_f32, softmax_8};
static const cache_type f16 = {SCORE_POSITIONS, VALUE_POSITIONS, pack_queries, score_f16, add_values_f16, softmax_8};

void attention_f32__avx2(const void *args, infer_region at) { attention(args, at, &f32); }
void attention_f16__avx2(const void *args, infer_region at) { attention(args, at, &f16); }
void attention_chunks_f32__avx2(const void *args, infer_region at) { attention_chunks(args, at, &f32); }
void attention_chunks_f16__avx2(const void *args, infer_region at) { attention_chunks(args, at, &f16); }
void attention_merge__avx2(const void *args, infer_region at) { infer_attention_merge(args, at); }
