/*
 * Layout bitmask: a block as dense tiles. Sixteen weights at a time are shuffled to their places, by a table for each eight bits of the
 * mask (expand8.h), the second eight's places moved behind the first ones' numbers. A block's nibbles become bytes first, all of them: they
 * are read back in other pieces than they are written, which must not follow at once.
 */
#ifndef INFER_KERNELS_AVX2_EXPAND_BITMASK_H
#define INFER_KERNELS_AVX2_EXPAND_BITMASK_H

#include "expand8.h"
#include "sparse.h"
#include "vector.h"

/* Numbers of a block as bytes: nibbles with their sign turned, so that 0 is what is not kept. Up to 31 bytes more are read. */
ALWAYS_INLINE void nibbles_to_bytes(uint8_t *bytes, const uint8_t *values, size_t count)
{
    const __m256i nibble = _mm256_set1_epi8(15), sign = _mm256_set1_epi8(8);
    for (size_t i = 0; i < count; i += 32) {
        __m256i both = load_256(values + i);
        __m256i even = _mm256_xor_si256(_mm256_and_si256(both, nibble), sign);
        __m256i odd = _mm256_xor_si256(_mm256_and_si256(_mm256_srli_epi16(both, 4), nibble), sign);
        __m256i low = _mm256_unpacklo_epi8(even, odd), high = _mm256_unpackhi_epi8(even, odd);
        _mm256_storeu_si256((__m256i *)(void *)(bytes + 2 * i), _mm256_permute2x128_si256(low, high, 0x20));
        _mm256_storeu_si256((__m256i *)(void *)(bytes + 2 * i + 32), _mm256_permute2x128_si256(low, high, 0x31));
    }
}

/* What the second eight's places are moved by: how many the first eight have. */
#define EIGHT(n) {[8] = n, n, n, n, n, n, n, n}
static const _Alignas(16) uint8_t second_eight[9][16] = {EIGHT(0), EIGHT(1), EIGHT(2), EIGHT(3), EIGHT(4),
                                                         EIGHT(5), EIGHT(6), EIGHT(7), EIGHT(8)};
#undef EIGHT

/* Of `numbers`, 16 bytes are read. */
ALWAYS_INLINE __m128i expand_16(const uint8_t *numbers, uint32_t mask)
{
    __m128d low = _mm_load_sd((const double *)(const void *)infer_expand8[mask & 255]);
    __m128i places = _mm_castpd_si128(_mm_loadh_pd(low, (const double *)(const void *)infer_expand8[mask >> 8]));
    __m128i behind = _mm_load_si128((const __m128i *)(const void *)second_eight[_mm_popcnt_u32(mask & 255)]);
    return _mm_shuffle_epi8(load_128(numbers), _mm_add_epi8(places, behind));
}

/* tiles [16][64]: codes, q4g64 + 8; returns where the block's numbers end. */
ALWAYS_INLINE const uint8_t *expand_bitmask(uint8_t *tiles, const uint64_t *masks, const uint8_t *values, const infer_qtype type)
{
    const __m128i sign = _mm_set1_epi8(type == INFER_QTYPE_Q4G64 ? 8 : 0);
    uint8_t bytes[16 * INFER_SPARSE_BLOCK + 16]; /* q4g64 */
    const uint8_t *numbers = values;
    uint32_t units = 0;

    for (uint32_t c = 0; c < 16; c++)
        units += infer_sparse_mask_units(masks[c]);
    if (type == INFER_QTYPE_Q4G64) {
        nibbles_to_bytes(bytes, values, units);
        numbers = bytes;
    }
    for (uint32_t c = 0; c < 16; c++) {
        const uint8_t *at = numbers;
#pragma GCC unroll 4
        for (uint32_t q = 0; q < 4; q++, tiles += 16) {
            uint32_t mask = masks[c] >> 16 * q & 0xffff;
            _mm_store_si128((__m128i *)(void *)tiles, _mm_xor_si128(expand_16(at, mask), sign));
            at += _mm_popcnt_u32(mask);
        }
        numbers += 2 * infer_sparse_mask_units(masks[c]);
    }
    return values + units * infer_sparse_mask_unit_bytes(type);
}

#endif
