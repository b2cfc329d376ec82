/* What the AVX2 kernels share. Only `static` functions: see ref/mathf.h. */
#ifndef INFER_KERNELS_AVX2_VECTOR_H
#define INFER_KERNELS_AVX2_VECTOR_H

#include "ref/mathf.h"

#include <immintrin.h>

#define ALWAYS_INLINE static inline __attribute__((always_inline))

/* Compilers move sums that are loaded and stored in every round of a loop into registers around it, even where that spills everything else. This
 * says that memory may have changed. */
#define KEEP_IN_MEMORY() __asm__ volatile("" ::: "memory")

/* Lanes 0..count-1 set, count 0..8: for maskload and maskstore. */
ALWAYS_INLINE __m256i lanes_below(uint32_t count)
{
    static const int32_t ramp[16] = {-1, -1, -1, -1, -1, -1, -1, -1};
    return _mm256_loadu_si256((const __m256i *)(ramp + 8 - (count < 8 ? count : 8)));
}

/* 32 bits, e.g. four int8 activations, in every lane. */
ALWAYS_INLINE __m256i broadcast_32(const void *p)
{
    int32_t bits;
    memcpy(&bits, p, sizeof bits);
    return _mm256_set1_epi32(bits);
}

ALWAYS_INLINE __m128i load_128(const void *p) { return _mm_loadu_si128((const __m128i *)p); }
ALWAYS_INLINE __m256i load_256(const void *p) { return _mm256_loadu_si256((const __m256i *)p); }
ALWAYS_INLINE __m256 load_f16(const void *p) { return _mm256_cvtph_ps(load_128(p)); }

ALWAYS_INLINE __m256 load_bf16(const void *p)
{
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(load_128(p)), 16));
}

/* Asks for bytes that are read soon: into L1. */
ALWAYS_INLINE void prefetch(const void *p, size_t bytes)
{
    for (size_t line = 0; line < bytes; line += 64)
        _mm_prefetch((const char *)p + line, _MM_HINT_T0);
}

enum { WEIGHTS_AHEAD = 8 << 10 }; /* from weights that are read to those that are asked for (measured) */

/* Asks for weights that are read once, from memory, some way ahead of the hardware's own prefetcher, which stops at the end of a page: into L2. */
ALWAYS_INLINE void prefetch_weights(const void *weights, size_t bytes)
{
    for (size_t line = 0; line < bytes; line += 64)
        _mm_prefetch((const char *)weights + line, _MM_HINT_T1);
}

/* y[0..16) = (low, high), of which only the first count are written. */
ALWAYS_INLINE void store_16(float *y, uint32_t count, __m256 low, __m256 high)
{
    if (count >= 16) {
        _mm256_storeu_ps(y, low);
        _mm256_storeu_ps(y + 8, high);
    } else {
        _mm256_maskstore_ps(y, lanes_below(count), low);
        if (count > 8)
            _mm256_maskstore_ps(y + 8, lanes_below(count - 8), high);
    }
}

/* infer_ref_fold16 of sixteen partial sums, 0-7 in low. */
ALWAYS_INLINE float fold16(__m256 low, __m256 high)
{
    __m256 eight = _mm256_add_ps(low, high);
    __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}

/* infer_ref_expf, operation for operation, of n vectors: one is a long chain, which the CPU does not look far enough ahead to overlap with others. */
ALWAYS_INLINE void exp_all(__m256 *x, const uint32_t n)
{
    const __m256 round = _mm256_set1_ps(INFER_REF_EXP_ROUND);
    __m256 shifted[4], q[4];

#define EACH _Pragma("GCC unroll 4") for (uint32_t v = 0; v < n; v++)
    EACH x[v] = _mm256_max_ps(_mm256_set1_ps(INFER_REF_EXP_MIN), x[v]); /* a NaN in the second operand stays */
    EACH x[v] = _mm256_min_ps(_mm256_set1_ps(INFER_REF_EXP_MAX), x[v]);
    EACH shifted[v] = _mm256_fmadd_ps(x[v], _mm256_set1_ps(INFER_REF_EXP_LOG2E), round);
    EACH q[v] = _mm256_sub_ps(shifted[v], round);
    EACH x[v] = _mm256_fnmadd_ps(q[v], _mm256_set1_ps(INFER_REF_EXP_LN2_HI), x[v]);
    EACH x[v] = _mm256_fnmadd_ps(q[v], _mm256_set1_ps(INFER_REF_EXP_LN2_LO), x[v]);
    EACH q[v] = _mm256_fmadd_ps(_mm256_set1_ps(INFER_REF_EXP_Q4), x[v], _mm256_set1_ps(INFER_REF_EXP_Q3));
    EACH q[v] = _mm256_fmadd_ps(q[v], x[v], _mm256_set1_ps(INFER_REF_EXP_Q2));
    EACH q[v] = _mm256_fmadd_ps(q[v], x[v], _mm256_set1_ps(INFER_REF_EXP_Q1));
    EACH q[v] = _mm256_fmadd_ps(q[v], x[v], _mm256_set1_ps(INFER_REF_EXP_Q0));
    EACH q[v] = _mm256_fmadd_ps(_mm256_mul_ps(x[v], x[v]), q[v], x[v]);
    EACH q[v] = _mm256_add_ps(q[v], _mm256_set1_ps(1.0f));
    EACH {
        __m256i i = _mm256_sub_epi32(_mm256_castps_si256(shifted[v]), _mm256_castps_si256(round)), half = _mm256_srai_epi32(i, 1);
        q[v] = _mm256_mul_ps(q[v], _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(half, _mm256_set1_epi32(127)), 23)));
        half = _mm256_sub_epi32(i, half);
        x[v] = _mm256_mul_ps(q[v], _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(half, _mm256_set1_epi32(127)), 23)));
    }
#undef EACH
}

ALWAYS_INLINE __m256 exp_8(__m256 x)
{
    exp_all(&x, 1);
    return x;
}

/* infer_ref_softcap, operation for operation. */
ALWAYS_INLINE __m256 softcap_8(__m256 x, float cap)
{
    const __m256 one = _mm256_set1_ps(1.0f);
    __m256 e = exp_8(_mm256_mul_ps(x, _mm256_set1_ps(2.0f / cap)));
    return _mm256_mul_ps(_mm256_set1_ps(cap), _mm256_sub_ps(one, _mm256_div_ps(_mm256_set1_ps(2.0f), _mm256_add_ps(one, e))));
}

#endif
