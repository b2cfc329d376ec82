/*
 * y = x w^T with vpexpandb and vpdpbusd, weights in the layout bitmask. A tile of 16 rows x 4 inputs is what a register holds: its numbers,
 * as bytes, go to the places that the mask has, and what is not kept becomes what the code 0 is there: weights are unsigned, q8g64 codes +
 * 128, q4g64 codes + 8, so that sums start from -offset x the sum of a block's activations, as in matmul_vnni.h.
 *
 * More tokens: some blocks of a panel are made dense once, in L1.
 */
#include "avx512/matmul_vnni.h"
#include "sparse.h"

enum {
    TOKENS = 8,           /* at once */
    TOKENS_IN_CACHE = 64, /* meet the same dense blocks */
    DENSE_BLOCKS = 8,
    AHEAD_BYTES = 4 << 10
};

typedef struct dense {
    _Alignas(64) uint8_t tiles[DENSE_BLOCKS][16][64];
} dense;

/* A tile of unsigned weights. Of `values`, 32 or 64 bytes are read. */
ALWAYS_INLINE __m512i expand(const uint8_t *values, uint64_t mask, const infer_qtype type)
{
    __m512i numbers;
    if (type == INFER_QTYPE_Q8G64) { /* the sign first: vpexpandb from memory is microcode on Zen */
        const __m512i sign = _mm512_set1_epi8((char)0x80);
        return _mm512_mask_expand_epi8(sign, mask, _mm512_xor_si512(_mm512_loadu_si512(values), sign));
    }
    numbers = _mm512_cvtepu8_epi16(_mm256_loadu_si256((const __m256i *)(const void *)values));
    numbers = _mm512_ternarylogic_epi32(numbers, _mm512_slli_epi16(numbers, 4), _mm512_set1_epi8(15), 0xa8); /* (a | b) & c */
    return _mm512_mask_expand_epi8(_mm512_set1_epi8(8), mask, numbers);
}

ALWAYS_INLINE size_t tile_bytes(uint64_t mask, const infer_qtype type)
{
    return infer_sparse_mask_units(mask) * infer_sparse_mask_unit_bytes(type);
}

/* -offset x the sum of a block's activations, which has one or two groups; its parts in even and odd lanes of 16 bits. */
ALWAYS_INLINE __m512i start(const int16_t *offset8, bool both, const infer_qtype type)
{
    const __m512i times = _mm512_set1_epi16(type == INFER_QTYPE_Q8G64 ? 128 / 8 : 8 / 8);
    __m512i sum = _mm512_madd_epi16(times, broadcast_32(offset8));
    return both ? _mm512_add_epi32(sum, _mm512_madd_epi16(times, broadcast_32(offset8 + 2))) : sum;
}

ALWAYS_INLINE void one_token(const infer_matmul_args *a, const infer_sparse *s, uint32_t o, uint32_t col1, uint32_t t,
                             const infer_qtype type)
{
    const size_t groups = infer_q8_groups(a->k), first = t * (size_t)a->xq.row_groups;
    const uint8_t *x = (const uint8_t *)a->xq.codes + 32 * first;
    const uint8_t *values = s->values + s->pointers[o / 16] * infer_sparse_mask_unit_bytes(type);
    const uint64_t *masks = infer_sparse_masks(s, o / 16, 0);
    const uint16_t *scales = s->scales + o / 16 * s->blocks * 16;
    __m512 y = _mm512_setzero_ps();

    for (size_t b = 0; b < s->blocks; b++, x += 64, masks += 16, scales += 16) {
        const uint32_t halves = 2 * b + 1 < groups ? 2 : 1;
        __m512i even = start(a->xq.offset8 + 2 * (first + 2 * b), halves == 2, type), odd = _mm512_setzero_si512();
        _mm_prefetch((const char *)masks + AHEAD_BYTES, _MM_HINT_T1);
        _mm_prefetch((const char *)masks + AHEAD_BYTES + 64, _MM_HINT_T1);
        _mm_prefetch((const char *)scales + AHEAD_BYTES, _MM_HINT_T1);
        for (uint32_t h = 0; h < halves; h++) {
            _mm_prefetch((const char *)values + AHEAD_BYTES, _MM_HINT_T1);
#pragma GCC unroll 4
            for (uint32_t c = 8 * h; c < 8 * h + 8; c += 2) {
                even = add_products(even, expand(values, masks[c], type), x + 4 * c);
                values += tile_bytes(masks[c], type);
                odd = add_products(odd, expand(values, masks[c + 1], type), x + 4 * c + 4);
                values += tile_bytes(masks[c + 1], type);
            }
        }
        y = add_group(y, _mm512_add_epi32(even, odd), load_scales((const uint8_t *)scales), a->xq.scales[first + 2 * b]);
    }
    _mm512_mask_storeu_ps(a->y + (size_t)t * a->y_stride + o, lanes_below(col1 - o), y);
}

/* Blocks b0.. of a panel whose numbers begin at `values`; returns where they end. */
ALWAYS_INLINE const uint8_t *make_dense(dense *d, const uint64_t *masks, const uint8_t *values, size_t count, const infer_qtype type)
{
    for (size_t b = 0; b < count; b++)
#pragma GCC unroll 4
        for (uint32_t c = 0; c < 16; c++, masks++) {
            _mm512_store_si512(d->tiles[b][c], expand(values, *masks, type));
            values += tile_bytes(*masks, type);
        }
    return values;
}

/* y[t][16] += dense blocks b0.. x tokens t0.. */
ALWAYS_INLINE void multiply(const dense *d, const uint16_t *scales, const infer_matmul_args *a, uint32_t t0, const uint32_t tokens,
                            size_t b0, size_t count, float (*y)[16], const infer_qtype type)
{
    const size_t row_groups = a->xq.row_groups, groups = infer_q8_groups(a->k);

    for (size_t b = 0; b < count; b++) {
        const size_t first = t0 * row_groups + 2 * (b0 + b);
        const uint32_t halves = 2 * (b0 + b) + 1 < groups ? 2 : 1;
        const uint8_t *x = (const uint8_t *)a->xq.codes + 32 * first;
        const __m512 scale = load_scales((const uint8_t *)(scales + (b0 + b) * 16));
        __m512i sums[TOKENS];
#pragma GCC unroll 8
        for (uint32_t t = 0; t < tokens; t++)
            sums[t] = start(a->xq.offset8 + 2 * (first + t * row_groups), halves == 2, type);
        for (uint32_t c = 0; c < 8 * halves; c++) {
            __m512i w = _mm512_load_si512(d->tiles[b][c]);
#pragma GCC unroll 8
            for (uint32_t t = 0; t < tokens; t++)
                sums[t] = add_products(sums[t], w, x + 32 * t * row_groups + 4 * c);
        }
#pragma GCC unroll 8
        for (uint32_t t = 0; t < tokens; t++)
            _mm512_store_ps(y[t], add_group(_mm512_load_ps(y[t]), sums[t], scale, a->xq.scales[first + t * row_groups]));
    }
}

ALWAYS_INLINE void some_tokens(const infer_matmul_args *a, const infer_sparse *s, uint32_t o, uint32_t col1, uint32_t t0, uint32_t tokens,
                               const infer_qtype type)
{
    const uint8_t *values = s->values + s->pointers[o / 16] * infer_sparse_mask_unit_bytes(type);
    const uint16_t *scales = s->scales + o / 16 * s->blocks * 16;
    _Alignas(64) float y[TOKENS_IN_CACHE][16];
    dense d;

    memset(y, 0, tokens * sizeof y[0]);
    for (size_t b = 0; b < s->blocks; b += DENSE_BLOCKS) {
        size_t count = s->blocks - b < DENSE_BLOCKS ? s->blocks - b : DENSE_BLOCKS;
        uint32_t t = 0;
        values = make_dense(&d, infer_sparse_masks(s, o / 16, b), values, count, type);
        for (; t + TOKENS <= tokens; t += TOKENS)
            multiply(&d, scales, a, t0 + t, TOKENS, b, count, y + t, type);
        for (; t + 2 <= tokens; t += 2)
            multiply(&d, scales, a, t0 + t, 2, b, count, y + t, type);
        if (t < tokens)
            multiply(&d, scales, a, t0 + t, 1, b, count, y + t, type);
    }
    for (uint32_t t = 0; t < tokens; t++)
        _mm512_mask_storeu_ps(a->y + (size_t)(t0 + t) * a->y_stride + o, lanes_below(col1 - o), _mm512_load_ps(y[t]));
}

ALWAYS_INLINE void matmul(const infer_matmul_args *a, infer_region at, const infer_qtype type)
{
    infer_sparse s = infer_sparse_at(INFER_LAYOUT_BITMASK, a->w, a->n, a->k);

    for (uint32_t t0 = at.row0; t0 < at.row1; t0 += TOKENS_IN_CACHE) {
        uint32_t tokens = at.row1 - t0 < TOKENS_IN_CACHE ? at.row1 - t0 : TOKENS_IN_CACHE;
        for (uint32_t o = at.col0; o < at.col1; o += 16)
            if (tokens == 1)
                one_token(a, &s, o, at.col1, t0, type);
            else
                some_tokens(a, &s, o, at.col1, t0, tokens, type);
    }
}

void matmul_q8g64_bitmask__avx512vnni(const void *args, infer_region at)
{
    matmul(args, at, INFER_QTYPE_Q8G64);
}
void matmul_q4g64_bitmask__avx512vnni(const void *args, infer_region at)
{
    matmul(args, at, INFER_QTYPE_Q4G64);
}
