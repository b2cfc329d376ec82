/*
 * Attention over a cache of floats, f32 or f16, with the blocks of avx2/attention_block.h. Scores: lanes are the sixteen positions of a tile. Output:
 * lanes are sixteen dimensions. Queries and weights are broadcast by the multiply-add itself, so that a tile is loaded, and widened, once for up to
 * eight queries.
 */
#include "avx2/attention_block.h"

enum {
    MOST_QUERIES = 8,     /* in one pass: 16 sums of the output, 2 vectors of values */
    VALUE_POSITIONS = 64,
    AHEAD_BYTES = 4096    /* how far ahead of a tile its successors are asked for: tiles are too short for the CPU to notice in time */
};

/* Elements i..i+16 of a cache that `mask` names as floats, zeros for the others. */
typedef __m512 load_fn(const void *cache, size_t i, __mmask16 mask);

ALWAYS_INLINE __m512 load_cache_f32(const void *cache, size_t i, __mmask16 mask) { return _mm512_maskz_loadu_ps(mask, (const float *)cache + i); }

ALWAYS_INLINE __m512 load_cache_f16(const void *cache, size_t i, __mmask16 mask)
{
    return _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(mask, (const uint16_t *)cache + i));
}

static void pack_queries(block *b)
{
    for (uint32_t i = 0; i < b->count; i++)
        for (uint32_t d = 0; d < b->a->head_dim; d++)
            b->x[(size_t)d * b->room + i] = b->q[i][d];
}

/* ---- scores ---- */

/* Queries i..i+n with the tile of keys [head_dim][16] at element k of `keys`. */
ALWAYS_INLINE void score(block *b, const void *keys, size_t k, uint32_t j, uint32_t i, const uint32_t n, load_fn *load, const uint32_t bytes)
{
    const infer_attention_args *a = b->a;
    const float *x = b->x + i;
    __m512 dots[MOST_QUERIES];

#pragma GCC unroll 8
    for (uint32_t q = 0; q < n; q++)
        dots[q] = _mm512_setzero_ps();
    for (uint32_t d = 0; d < a->head_dim; d++, k += 16, x += b->room) {
        __m512 key = load(keys, k, 0xffff);
        _mm_prefetch((const char *)keys + k * bytes + AHEAD_BYTES, _MM_HINT_T0);
#pragma GCC unroll 8
        for (uint32_t q = 0; q < n; q++)
            dots[q] = _mm512_fmadd_ps(key, _mm512_set1_ps(x[q]), dots[q]);
    }
#pragma GCC unroll 8
    for (uint32_t q = 0; q < n; q++)
        _mm512_store_ps(b->p[i + q] + j, _mm512_mul_ps(dots[q], _mm512_set1_ps(a->scale)));
}

/* ---- values ---- */

/* Values of the positions of a tile, row by row from element `first` on. */
typedef struct rows {
    const void *cache;
    size_t first, stride;
    uint32_t dims; /* of a row that may be read */
} rows;

ALWAYS_INLINE __mmask16 lanes_mask(uint32_t lanes)
{
    return (__mmask16)(lanes < 16 ? (1u << lanes) - 1 : 0xffff);
}

/* chunk[d..d+16*vectors) += p[j+k] v[k] for positions k from..to of queries i..i+n. */
ALWAYS_INLINE void add_dimensions(block *b, const rows *v, uint32_t j, uint32_t from, uint32_t to, uint32_t i, const uint32_t n, uint32_t d,
                                  const uint32_t vectors, load_fn *load, const uint32_t bytes)
{
    size_t at = v->first + d + from * v->stride;
    const float *p = b->p[i] + j;
    float *chunk = b->chunk + (size_t)i * b->dims + d;
    __mmask16 last = lanes_mask(v->dims - d - 16 * (vectors - 1));
    __m512 sums[MOST_QUERIES][4];

#pragma GCC unroll 8
    for (uint32_t q = 0; q < n; q++)
#pragma GCC unroll 4
        for (uint32_t c = 0; c < vectors; c++)
            sums[q][c] = _mm512_load_ps(chunk + (size_t)q * b->dims + 16 * c);
    for (uint32_t k = from; k < to; k++, at += v->stride) {
        __m512 values[4];
        _mm_prefetch((const char *)v->cache + at * bytes + AHEAD_BYTES, _MM_HINT_T0);
#pragma GCC unroll 4
        for (uint32_t c = 0; c < vectors; c++)
            values[c] = load(v->cache, at + 16 * c, c + 1 < vectors ? (__mmask16)0xffff : last);
#pragma GCC unroll 8
        for (uint32_t q = 0; q < n; q++)
#pragma GCC unroll 4
            for (uint32_t c = 0; c < vectors; c++)
                sums[q][c] = _mm512_fmadd_ps(values[c], _mm512_set1_ps(p[(size_t)q * P_STRIDE + k]), sums[q][c]);
    }
#pragma GCC unroll 8
    for (uint32_t q = 0; q < n; q++)
#pragma GCC unroll 4
        for (uint32_t c = 0; c < vectors; c++)
            _mm512_store_ps(chunk + (size_t)q * b->dims + 16 * c, sums[q][c]);
}

/* All dimensions. Eight sums in flight hide the latency of the multiply-adds. */
ALWAYS_INLINE void add_rows(block *b, const rows *v, uint32_t j, uint32_t from, uint32_t to, uint32_t i, const uint32_t n, load_fn *load, const uint32_t bytes)
{
    const uint32_t vectors = n <= 4 ? 4 : 2;
    uint32_t d = 0;

    for (; d + 16 * (vectors - 1) < v->dims; d += 16 * vectors)
        add_dimensions(b, v, j, from, to, i, n, d, vectors, load, bytes);
    for (; d < v->dims; d += 16)
        add_dimensions(b, v, j, from, to, i, n, d, 1, load, bytes);
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
    case 8:                                                                                                                                \
        f(__VA_ARGS__, 8, load, bytes);                                                                                                           \
        break;                                                                                                                             \
    case 7:                                                                                                                                \
        f(__VA_ARGS__, 7, load, bytes);                                                                                                           \
        break;                                                                                                                             \
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

ALWAYS_INLINE void score_all(block *b, const void *keys, size_t k, uint32_t j, uint32_t from, load_fn *load, const uint32_t bytes)
{
    for (uint32_t i = from, n; i < b->active; i += n) {
        n = group_size(b->active - i, MOST_QUERIES);
        EACH_COUNT(score, b, keys, k, j, i)
    }
}

ALWAYS_INLINE void add_all_values(block *b, const rows *v, uint32_t j0, uint32_t j, uint32_t from, load_fn *load, const uint32_t bytes)
{
    for (uint32_t i = from, n; i < b->active; i += n) {
        n = group_size(b->active - i, MOST_QUERIES);
        EACH_COUNT(add_values, b, v, j0, j, i)
    }
}

/* ---- softmax ---- */

/* infer_ref_expf; its two multiplications by powers of two round once, as scalef does. */
ALWAYS_INLINE __m512 exp_16(__m512 x)
{
    const __m512 round = _mm512_set1_ps(INFER_REF_EXP_ROUND);
    __m512 n, r, q;

    x = _mm512_max_ps(_mm512_set1_ps(INFER_REF_EXP_MIN), x); /* a NaN in the second operand stays */
    x = _mm512_min_ps(_mm512_set1_ps(INFER_REF_EXP_MAX), x);
    n = _mm512_sub_ps(_mm512_fmadd_ps(x, _mm512_set1_ps(INFER_REF_EXP_LOG2E), round), round);
    r = _mm512_fnmadd_ps(n, _mm512_set1_ps(INFER_REF_EXP_LN2_HI), x);
    r = _mm512_fnmadd_ps(n, _mm512_set1_ps(INFER_REF_EXP_LN2_LO), r);
    q = _mm512_fmadd_ps(_mm512_set1_ps(INFER_REF_EXP_Q4), r, _mm512_set1_ps(INFER_REF_EXP_Q3));
    q = _mm512_fmadd_ps(q, r, _mm512_set1_ps(INFER_REF_EXP_Q2));
    q = _mm512_fmadd_ps(q, r, _mm512_set1_ps(INFER_REF_EXP_Q1));
    q = _mm512_fmadd_ps(q, r, _mm512_set1_ps(INFER_REF_EXP_Q0));
    return _mm512_scalef_ps(_mm512_add_ps(_mm512_fmadd_ps(_mm512_mul_ps(r, r), q, r), _mm512_set1_ps(1.0f)), n);
}

/* softmax_8 on sixteen lanes, whose sums are those of the reference. */
static void softmax_16(float *p, uint32_t count, float *max, float *sum)
{
    __m512 largest = _mm512_set1_ps(-INFINITY), partial = _mm512_setzero_ps(), highest;

    for (uint32_t j = 0; j < count; j += 16)
        largest = _mm512_mask_max_ps(largest, lanes_mask(count - j), _mm512_loadu_ps(p + j), largest);
    *max = _mm512_reduce_max_ps(largest);
    highest = _mm512_set1_ps(*max);
    for (uint32_t j = 0; j < count; j += 16) {
        __m512 e = _mm512_maskz_mov_ps(lanes_mask(count - j), exp_16(_mm512_sub_ps(_mm512_loadu_ps(p + j), highest)));
        _mm512_storeu_ps(p + j, e);
        partial = _mm512_add_ps(partial, e);
    }
    *sum = fold16(_mm512_castps512_ps256(partial), _mm512_extractf32x8_ps(partial, 1));
}

static size_t keys_at(const block *b, uint32_t position)
{
    return infer_cache_k_index(b->kv_head, b->a->positions, position, b->a->head_dim, 0);
}

static rows values_at(const block *b, uint32_t position)
{
    const infer_attention_args *a = b->a;
    return (rows){a->v, infer_cache_v_index(b->kv_head, a->positions, position, a->head_dim, 0), a->head_dim, a->head_dim};
}

static void score_f32(block *b, uint32_t j0, uint32_t j, uint32_t from) { score_all(b, b->a->k, keys_at(b, j0 + j), j, from, load_cache_f32, 4); }

static void score_f16(block *b, uint32_t j0, uint32_t j, uint32_t from) { score_all(b, b->a->k, keys_at(b, j0 + j), j, from, load_cache_f16, 2); }

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

static const cache_type f32 = {16, VALUE_POSITIONS, pack_queries, score_f32, add_values_f32, softmax_16};
static const cache_type f16 = {16, VALUE_POSITIONS, pack_queries, score_f16, add_values_f16, softmax_16};

void attention_f32__avx512(const void *args, infer_region at) { attention(args, at, &f32); }
void attention_f16__avx512(const void *args, infer_region at) { attention(args, at, &f16); }
void attention_chunks_f32__avx512(const void *args, infer_region at) { attention_chunks(args, at, &f32); }
void attention_chunks_f16__avx512(const void *args, infer_region at) { attention_chunks(args, at, &f16); }
