#include "kernels.h"
#include "vector.h"

ALWAYS_INLINE void rotate(float *first, float *second, float cos, float sin)
{
    float u = *first, v = *second;
    *first = fmaf(u, cos, -(v * sin));
    *second = fmaf(u, sin, v * cos);
}

/* Pairs (2i, 2i + 1): four a vector. */
static void rotate_adjacent(float *head, const float *cos, const float *sin, uint32_t pairs)
{
    uint32_t i = 0;

    for (; i + 4 <= pairs; i += 4) {
        __m128 c = _mm_loadu_ps(cos + i), s = _mm_loadu_ps(sin + i);
        __m256 cs = _mm256_set_m128(_mm_unpackhi_ps(c, s), _mm_unpacklo_ps(c, s)), sc = _mm256_set_m128(_mm_unpackhi_ps(s, c), _mm_unpacklo_ps(s, c));
        __m256 x = _mm256_loadu_ps(head + 2 * i), u = _mm256_moveldup_ps(x), v = _mm256_movehdup_ps(x);
        _mm256_storeu_ps(head + 2 * i, _mm256_fmaddsub_ps(u, cs, _mm256_mul_ps(v, sc)));
    }
    for (; i < pairs; i++)
        rotate(&head[2 * i], &head[2 * i + 1], cos[i], sin[i]);
}

/* Pairs (i, i + pairs): eight at a time. */
static void rotate_halves(float *head, const float *cos, const float *sin, uint32_t pairs)
{
    uint32_t i = 0;

    for (; i + 8 <= pairs; i += 8) {
        __m256 c = _mm256_loadu_ps(cos + i), s = _mm256_loadu_ps(sin + i);
        __m256 u = _mm256_loadu_ps(head + i), v = _mm256_loadu_ps(head + pairs + i);
        _mm256_storeu_ps(head + i, _mm256_fmsub_ps(u, c, _mm256_mul_ps(v, s)));
        _mm256_storeu_ps(head + pairs + i, _mm256_fmadd_ps(u, s, _mm256_mul_ps(v, c)));
    }
    for (; i < pairs; i++)
        rotate(&head[i], &head[i + pairs], cos[i], sin[i]);
}

void rope__avx2(const void *args, infer_region at)
{
    const infer_rope_args *a = args;
    uint32_t pairs = a->rope_dim / 2;

    for (uint32_t t = at.row0; t < at.row1; t++) {
        const float *cos = a->cos + (size_t)(a->pos0 + t) * pairs, *sin = a->sin + (size_t)(a->pos0 + t) * pairs;
        for (uint32_t c = at.col0; c < at.col1; c += a->head_dim) {
            float *head = a->x + (size_t)t * a->stride + c;
            if (a->pairs == INFER_ROPE_ADJACENT)
                rotate_adjacent(head, cos, sin, pairs);
            else
                rotate_halves(head, cos, sin, pairs);
        }
    }
}
