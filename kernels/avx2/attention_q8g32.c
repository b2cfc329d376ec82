/*
 * Attention over a cache of int8 codes: see attention_block.h. Scores: exact integer dots of the quantized queries with 16 positions at a time,
 * as in the matmul for few tokens. Output: lanes are dimensions, weights are p times the scale of the position's group.
 */
#include "attention_block.h"

enum { VALUE_POSITIONS = 16 };

static void quantize_queries(block *b)
{
    for (uint32_t i = 0; i < b->count; i++) {
        for (uint32_t d = 0; d < b->a->head_dim; d += 32) {
            size_t at = (size_t)i * b->dims + d;
            __m256 x[4];
            int16_t offset8[2];
            load_group(b->q[i] + d, b->a->head_dim - d, x);
            quantize_group(x, b->codes + at, b->scales + at / 32, offset8);
        }
    }
}

/* ---- scores ---- */

/* sums += 8 positions x 4 dimensions */
ALWAYS_INLINE __m256i add_products(__m256i sums, __m256i magnitudes, __m256i k, __m256i x)
{
    __m256i pairs = _mm256_maddubs_epi16(magnitudes, _mm256_sign_epi8(x, k)); /* at most 2 * 127 * 127 */
    return _mm256_add_epi32(sums, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
}

ALWAYS_INLINE void score(block *b, uint32_t j0, uint32_t j, uint32_t i, const uint32_t n)
{
    const infer_attention_args *a = b->a;
    const uint8_t *group = (const uint8_t *)a->k + infer_cache_q8_offset(b->kv_head, a->positions, j0 + j, a->head_dim, 0);
    const int8_t *x = b->codes + (size_t)i * b->dims;
    const float *x_scales = b->scales + (size_t)i * b->dims / 32;
    __m256 dots[4][2];

#pragma GCC unroll 6
    for (uint32_t q = 0; q < n; q++)
        dots[q][0] = dots[q][1] = _mm256_setzero_ps();
    for (uint32_t g = 0; g < b->dims / 32; g++, group += INFER_TILE_Q8_GROUP_BYTES, x += 32, x_scales++) {
        __m256 scales0 = load_f16(group), scales1 = load_f16(group + 16);
        __m256i sums[4][2];
#pragma GCC unroll 6
        for (uint32_t q = 0; q < n; q++)
            sums[q][0] = sums[q][1] = _mm256_setzero_si256();
#pragma GCC unroll 8
        for (uint32_t c = 0; c < 8; c++) {
            __m256i k0 = load_256(group + 32 + 64 * c), k1 = load_256(group + 64 + 64 * c);
            __m256i magnitudes0 = _mm256_abs_epi8(k0), magnitudes1 = _mm256_abs_epi8(k1);
#pragma GCC unroll 6
            for (uint32_t q = 0; q < n; q++) {
                __m256i inputs = broadcast_32(x + (size_t)q * b->dims + 4 * c);
                sums[q][0] = add_products(sums[q][0], magnitudes0, k0, inputs);
                sums[q][1] = add_products(sums[q][1], magnitudes1, k1, inputs);
            }
        }
#pragma GCC unroll 6
        for (uint32_t q = 0; q < n; q++) {
            __m256 x_scale = _mm256_broadcast_ss(x_scales + (size_t)q * b->dims / 32);
            dots[q][0] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(sums[q][0]), _mm256_mul_ps(scales0, x_scale), dots[q][0]);
            dots[q][1] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(sums[q][1]), _mm256_mul_ps(scales1, x_scale), dots[q][1]);
        }
    }
#pragma GCC unroll 6
    for (uint32_t q = 0; q < n; q++) {
        _mm256_store_ps(b->p[i + q] + j, _mm256_mul_ps(dots[q][0], _mm256_set1_ps(a->scale)));
        _mm256_store_ps(b->p[i + q] + j + 8, _mm256_mul_ps(dots[q][1], _mm256_set1_ps(a->scale)));
    }
}

static void score_q8g32(block *b, uint32_t j0, uint32_t j, uint32_t from)
{
    for (uint32_t i = from, n; i < b->active; i += n) {
        n = group_size(b->active - i, 4);
        switch (n) {
        case 4:
            score(b, j0, j, i, 4);
            break;
        case 3:
            score(b, j0, j, i, 3);
            break;
        case 2:
            score(b, j0, j, i, 2);
            break;
        default:
            score(b, j0, j, i, 1);
        }
    }
}

/* ---- values ---- */

ALWAYS_INLINE __m256 load_codes(const uint8_t *codes)
{
    return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)codes)));
}

/* chunk[0..8*vectors) += weights[j] codes[j] for positions from..to of a tile; codes[16][32], weights [n][16] */
ALWAYS_INLINE void add_dimensions(const uint8_t *codes, const float (*weights)[16], uint32_t from, uint32_t to, const uint32_t n, uint32_t dims,
                                  const uint32_t vectors, float *chunk)
{
    __m256 sums[6][4];

#pragma GCC unroll 6
    for (uint32_t q = 0; q < n; q++)
#pragma GCC unroll 8
        for (uint32_t c = 0; c < vectors; c++)
            sums[q][c] = _mm256_load_ps(chunk + (size_t)q * dims + 8 * c);
    for (uint32_t j = from; j < to; j++) {
        __m256 values[4];
#pragma GCC unroll 8
        for (uint32_t c = 0; c < vectors; c++)
            values[c] = load_codes(codes + 32 * j + 8 * c);
#pragma GCC unroll 6
        for (uint32_t q = 0; q < n; q++) {
            __m256 weight = _mm256_broadcast_ss(&weights[q][j]);
#pragma GCC unroll 8
            for (uint32_t c = 0; c < vectors; c++)
                sums[q][c] = _mm256_fmadd_ps(weight, values[c], sums[q][c]);
        }
    }
#pragma GCC unroll 6
    for (uint32_t q = 0; q < n; q++)
#pragma GCC unroll 8
        for (uint32_t c = 0; c < vectors; c++)
            _mm256_store_ps(chunk + (size_t)q * dims + 8 * c, sums[q][c]);
}

/* All queries together up to the end of the first of them, then the others on their own. */
ALWAYS_INLINE void add_values(block *b, uint32_t j0, uint32_t j, uint32_t i, const uint32_t n)
{
    const infer_attention_args *a = b->a;
    const uint32_t vectors = n <= 3 ? 4 : 2;
    uint32_t common = positions_before(b->end[i], j0 + j, VALUE_POSITIONS);

    for (uint32_t g = 0; g < b->dims / 32; g++) {
        const uint8_t *group = (const uint8_t *)a->v + infer_cache_q8_offset(b->kv_head, a->positions, j0 + j, a->head_dim, g);
        const uint8_t *codes = group + infer_cache_q8_v_codes(0);
        __m256 scales0 = load_f16(group), scales1 = load_f16(group + 16);
        float *chunk = b->chunk + (size_t)i * b->dims + 32 * g;
        _Alignas(32) float weights[6][16];
#pragma GCC unroll 6
        for (uint32_t q = 0; q < n; q++) {
            _mm256_store_ps(weights[q], _mm256_mul_ps(_mm256_load_ps(b->p[i + q] + j), scales0));
            _mm256_store_ps(weights[q] + 8, _mm256_mul_ps(_mm256_load_ps(b->p[i + q] + j + 8), scales1));
        }
        for (uint32_t d = 0; d < 32; d += 8 * vectors)
            add_dimensions(codes + d, weights, 0, common, n, b->dims, vectors, chunk + d);
        for (uint32_t q = 1; q < n; q++) {
            uint32_t own = positions_before(b->end[i + q], j0 + j, VALUE_POSITIONS);
            if (own > common)
                add_dimensions(codes, weights + q, common, own, 1, b->dims, 4, chunk + (size_t)q * b->dims);
        }
    }
}

static void add_values_q8g32(block *b, uint32_t j0, uint32_t j, uint32_t from)
{
    for (uint32_t i = from, n; i < b->active; i += n) {
        n = group_size(b->active - i, 6);
        switch (n) {
        case 6:
            add_values(b, j0, j, i, 6);
            break;
        case 5:
            add_values(b, j0, j, i, 5);
            break;
        case 4:
            add_values(b, j0, j, i, 4);
            break;
        case 3:
            add_values(b, j0, j, i, 3);
            break;
        case 2:
            add_values(b, j0, j, i, 2);
            break;
        default:
            add_values(b, j0, j, i, 1);
        }
    }
}

static const cache_type q8g32 = {16, VALUE_POSITIONS, quantize_queries, score_q8g32, add_values_q8g32, softmax_8};

void attention_q8g32__avx2(const void *args, infer_region at) { attention(args, at, &q8g32); }
void attention_chunks_q8g32__avx2(const void *args, infer_region at) { attention_chunks(args, at, &q8g32); }
