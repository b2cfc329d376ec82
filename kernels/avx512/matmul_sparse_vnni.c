/*
 * y = x w^T with vpdpbusd, weights in the layouts bcsr16x1 and bcsr16x4. A unit, 16 rows x 4 kept inputs, is what an instruction
 * multiplies; what it meets are four of the block's 64 activations: in bcsr16x1 vpermb brings them together for all units at once, by the
 * inputs' numbers.
 *
 * vpdpbusd multiplies unsigned by signed numbers. One token: weights are made unsigned as in matmul_vnni.h, and the offset x the sum of the
 * kept inputs' activations is taken off. A fixed number of units is multiplied always, and more only where needed: see infer_sparse_always.
 *
 * More tokens: activations are made unsigned instead, x + 128, because what is taken off again, 128 x the sum of the weights, serves all of
 * them.
 *
 * bcsr16x1: a block may begin and end within a unit. Others' activations in it are zeros (+ 128: added and taken off), and the unit is
 * multiplied twice.
 */
#include "avx512/matmul_vnni.h"
#include "sparse.h"

/* Constants everywhere: a function of its own for each pair. */
#define KIND const infer_qtype type, const infer_layout layout

enum {
    TOKENS = 8,           /* at once */
    TOKENS_IN_CACHE = 64, /* they meet all panels before the next ones */
    MOST_ALWAYS = 16,     /* units of a block that are multiplied always, at most */
    AHEAD_BYTES = 8 << 10
};

/* A block's activations. bcsr16x1: as the units take them, counted from the first one's first input, 67 at most. bcsr16x4: 64 as they are,
 * and behind what tzcnt says of no bits, 32 fours on, zeros. */
typedef struct fours {
    _Alignas(64) uint8_t x[128 + 4];
} fours;

ALWAYS_INLINE __m512i load_x(const int8_t *x, bool both)
{
    return _mm512_maskz_loadu_epi8(both ? ~0ull : ~0u, x);
}

/* Of inputs first..end - 1 of those that have the numbers from `numbers` on, in window w of 64; 0 for others. All 64 numbers are loaded, scales where
 * there are no more: a load under a mask is no stream to the CPU's prefetcher, and halved the speed from memory (measured on Zen 5). */
ALWAYS_INLINE __m512i gather(__m512i x, const uint8_t *numbers, uint32_t first, uint32_t end, uint32_t w)
{
    __mmask64 inputs = w ? _bzhi_u64(~0ull, end - 64) : _bzhi_u64(~0ull << first, end);
    return _mm512_maskz_permutexvar_epi8(inputs, _mm512_loadu_si512(numbers + 64 * w), x);
}

ALWAYS_INLINE void store_fours(fours *f, uint32_t w, __m512i x)
{
    _mm512_store_si512(f->x + 64 * w, x);
}

ALWAYS_INLINE __m512i load_twice(const uint8_t *p)
{
    return _mm512_broadcast_i64x4(_mm256_loadu_si256((const __m256i *)(const void *)p));
}

/* What rows 0..7 and rows 8..15 have. */
ALWAYS_INLINE __m512i halves(int32_t low, int32_t high)
{
    return _mm512_inserti64x4(_mm512_set1_epi32(low), _mm256_set1_epi32(high), 1);
}

/* Where a block's units and inputs are. */
typedef struct place {
    const uint8_t *values, *numbers, *counts;
    const uint16_t *masks, *scales;
    uint32_t first; /* bcsr16x1: of a unit's four inputs, where the block begins; 0 */
    uint32_t end;   /* bcsr16x1: inputs, counted from the first unit's; bcsr16x4: bits of its fours */
    uint32_t units;
} place;

ALWAYS_INLINE place first_block(const infer_sparse *s, uint32_t panel, KIND)
{
    return (place){.values = s->values + s->pointers[panel] * infer_sparse_unit_bytes(type),
                   .numbers = infer_sparse_inputs(s, panel),
                   .counts = s->counts + panel * s->blocks,
                   .masks = layout == INFER_LAYOUT_BCSR16X4 ? (const uint16_t *)s->positions + panel * s->blocks : NULL,
                   .scales = s->scales + panel * s->blocks * 16};
}

ALWAYS_INLINE void find_block(place *p, size_t b, const infer_layout layout)
{
    p->end = layout == INFER_LAYOUT_BCSR16X1 ? p->first + p->counts[b] : p->masks[b];
    p->units = layout == INFER_LAYOUT_BCSR16X1 ? (p->end + 3) / 4 : (uint32_t)_mm_popcnt_u32(p->end);
}

ALWAYS_INLINE void leave_block(place *p, KIND)
{
    uint32_t units = layout == INFER_LAYOUT_BCSR16X1 ? p->end / 4 : p->units; /* one that is not full is the next block's first */
    p->values += units * infer_sparse_unit_bytes(type);
    p->numbers += 4 * units;
    p->first = layout == INFER_LAYOUT_BCSR16X1 ? p->end % 4 : 0;
    p->scales += 16;
}

/* The four that unit q takes. mask: bcsr16x4, bits of the units from this one on. */
ALWAYS_INLINE uint32_t next_four(uint32_t *mask, uint32_t q, const infer_layout layout)
{
    uint32_t c = layout == INFER_LAYOUT_BCSR16X1 ? q : _tzcnt_u32(*mask);
    *mask &= *mask - 1;
    return c;
}

/* ---- one token ---- */

/* 16 rows x 4 inputs of unsigned codes: q8g64 + 128, q4g64 + 8, rows 8..15 times 16. */
ALWAYS_INLINE __m512i load_unsigned(const uint8_t *unit, const infer_qtype type)
{
    if (type == INFER_QTYPE_Q4G64)
        return _mm512_and_si512(load_twice(unit), halves(0x0f0f0f0f, (int32_t)0xf0f0f0f0));
    return _mm512_xor_si512(_mm512_loadu_si512(unit), _mm512_set1_epi8((char)0x80));
}

/* What they are too large by, times the sum of 64 activations. */
ALWAYS_INLINE __m512i offset_of(__m512i x, const infer_qtype type)
{
    const __m256i times = _mm256_set1_epi8(type == INFER_QTYPE_Q4G64 ? 8 : (char)0x80);
    __m256i eight = _mm256_dpbusd_epi32(_mm256_setzero_si256(), times, _mm512_castsi512_si256(x));
    __m128i four;
    eight = _mm256_dpbusd_epi32(eight, times, _mm512_extracti64x4_epi64(x, 1));
    four = _mm_add_epi32(_mm256_castsi256_si128(eight), _mm256_extracti128_si256(eight, 1));
    four = _mm_add_epi32(four, _mm_shuffle_epi32(four, _MM_SHUFFLE(1, 0, 3, 2)));
    four = _mm_add_epi32(four, _mm_shuffle_epi32(four, _MM_SHUFFLE(2, 3, 0, 1)));
    return _mm512_broadcastd_epi32(four);
}

/* Puts the block's activations into f; returns the offset of their sums. */
ALWAYS_INLINE __m512i load_block(fours *f, __m512i x, const place *p, KIND)
{
    __m512i offset;
    if (layout == INFER_LAYOUT_BCSR16X4) {
        store_fours(f, 0, x);
        return offset_of(_mm512_maskz_mov_epi32((__mmask16)p->end, x), type);
    }
    {
        __m512i in = gather(x, p->numbers, p->first, p->end, 0);
        store_fours(f, 0, in);
        offset = offset_of(in, type);
    }
    if (__builtin_expect(p->end > 64, 0)) {
        __m512i in = gather(x, p->numbers, p->first, p->end, 1);
        store_fours(f, 1, in);
        offset = _mm512_add_epi32(offset, offset_of(in, type));
    }
    return offset;
}

ALWAYS_INLINE void one_token(const infer_matmul_args *a, const infer_sparse *s, uint32_t o, uint32_t col1, uint32_t t,
                             const uint32_t always, KIND)
{
    const size_t unit_bytes = infer_sparse_unit_bytes(type), groups = infer_q8_groups(a->k), row_groups = a->xq.row_groups;
    const int8_t *x = a->xq.codes + 32 * (t * row_groups);
    const float *x_scales = a->xq.scales + t * row_groups;
    place p = first_block(s, o / 16, type, layout);
    __m512 y = _mm512_setzero_ps();
    fours f;

    memset(f.x + 128, 0, 4);
    for (size_t b = 0; b < s->blocks; b++, x += 64, leave_block(&p, type, layout)) {
        __m512i sum = _mm512_setzero_si512(), offset;
        uint32_t mask;
        find_block(&p, b, layout);
        mask = p.end;
        offset = load_block(&f, load_x(x, 2 * b + 1 < groups), &p, type, layout);
        for (size_t line = 0; line < always * unit_bytes; line += 64)
            _mm_prefetch((const char *)p.values + AHEAD_BYTES + line, _MM_HINT_T1);
        _mm_prefetch((const char *)p.scales + AHEAD_BYTES, _MM_HINT_T1);
#pragma GCC unroll 16
        for (uint32_t q = 0; q < always; q++)
            sum = add_products(sum, load_unsigned(p.values + q * unit_bytes, type), f.x + 4 * next_four(&mask, q, layout));
        for (uint32_t q = always; q < p.units; q++)
            sum = add_products(sum, load_unsigned(p.values + q * unit_bytes, type), f.x + 4 * next_four(&mask, q, layout));
        if (type == INFER_QTYPE_Q4G64)
            sum = _mm512_srav_epi32(sum, halves(0, 4));
        y = add_group(y, _mm512_sub_epi32(sum, offset), load_scales((const uint8_t *)p.scales), x_scales[2 * b]);
    }
    _mm512_mask_storeu_ps(a->y + (size_t)t * a->y_stride + o, lanes_below(col1 - o), y);
}

ALWAYS_INLINE void one_panel(const infer_matmul_args *a, const infer_sparse *s, uint32_t o, uint32_t col1, uint32_t t, KIND)
{
    uint32_t always = infer_sparse_always(layout, s, o / 16, MOST_ALWAYS);
    switch (always) {
#define ALWAYS(count)                                                                                                                      \
    case count:                                                                                                                            \
        one_token(a, s, o, col1, t, count, type, layout);                                                                                  \
        break;
        ALWAYS(0)
    case 1: /* 1 and 11 run what the next number has */
        ALWAYS(2) ALWAYS(3) ALWAYS(4) ALWAYS(5) ALWAYS(6) ALWAYS(7) ALWAYS(8) ALWAYS(9) ALWAYS(10)
    case 11:
        ALWAYS(12)
    default:
        one_token(a, s, o, col1, t, MOST_ALWAYS, type, layout);
#undef ALWAYS
    }
}

/* ---- more tokens ---- */

/* 16 rows x 4 inputs of signed codes; q4g64: 16 x them. */
ALWAYS_INLINE __m512i load_signed(const uint8_t *unit, const infer_qtype type)
{
    if (type == INFER_QTYPE_Q4G64) {
        __m512i high = _mm512_sllv_epi32(load_twice(unit), halves(4, 0));
        return _mm512_ternarylogic_epi32(high, _mm512_set1_epi8((char)0x80), _mm512_set1_epi8((char)0xf0), 0x28); /* (a ^ b) & c */
    }
    return _mm512_loadu_si512(unit);
}

ALWAYS_INLINE void some_tokens(const infer_matmul_args *a, const infer_sparse *s, uint32_t o, uint32_t col1, uint32_t t0,
                               const uint32_t tokens, KIND)
{
    const __m512i plus = _mm512_set1_epi8((char)0x80);
    const size_t unit_bytes = infer_sparse_unit_bytes(type), groups = infer_q8_groups(a->k), row_groups = a->xq.row_groups;
    place p = first_block(s, o / 16, type, layout);
    __m512 y[TOKENS];
    fours f[TOKENS];

#pragma GCC unroll 8
    for (uint32_t t = 0; t < tokens; t++)
        y[t] = _mm512_setzero_ps();
    for (size_t b = 0; b < s->blocks; b++, leave_block(&p, type, layout)) {
        const int8_t *x = a->xq.codes + 32 * (t0 * row_groups + 2 * b);
        const float *x_scales = a->xq.scales + t0 * row_groups + 2 * b;
        __m512i products[TOKENS], weights = _mm512_setzero_si512();
        __m512 scales = load_scales((const uint8_t *)p.scales);
        uint32_t mask;
        find_block(&p, b, layout);
        mask = p.end;
#pragma GCC unroll 8
        for (uint32_t t = 0; t < tokens; t++) {
            __m512i in = load_x(x + 32 * t * row_groups, 2 * b + 1 < groups);
            store_fours(&f[t], 0, _mm512_xor_si512(layout == INFER_LAYOUT_BCSR16X1 ? gather(in, p.numbers, p.first, p.end, 0) : in, plus));
            if (layout == INFER_LAYOUT_BCSR16X1 && __builtin_expect(p.end > 64, 0))
                store_fours(&f[t], 1, _mm512_xor_si512(gather(in, p.numbers, p.first, p.end, 1), plus));
            products[t] = _mm512_setzero_si512();
        }
        for (uint32_t q = 0; q < p.units; q++) {
            __m512i w = load_signed(p.values + q * unit_bytes, type);
            uint32_t c = next_four(&mask, q, layout);
            weights = _mm512_dpbusd_epi32(weights, plus, w);
#pragma GCC unroll 8
            for (uint32_t t = 0; t < tokens; t++)
                products[t] = _mm512_dpbusd_epi32(products[t], broadcast_32(f[t].x + 4 * c), w);
        }
#pragma GCC unroll 8
        for (uint32_t t = 0; t < tokens; t++) {
            __m512i sum = _mm512_sub_epi32(products[t], weights);
            y[t] = add_group(y[t], type == INFER_QTYPE_Q4G64 ? _mm512_srai_epi32(sum, 4) : sum, scales, x_scales[t * row_groups]);
        }
    }
#pragma GCC unroll 8
    for (uint32_t t = 0; t < tokens; t++)
        _mm512_mask_storeu_ps(a->y + (size_t)(t0 + t) * a->y_stride + o, lanes_below(col1 - o), y[t]);
}

ALWAYS_INLINE void matmul(const infer_matmul_args *a, infer_region at, KIND)
{
    infer_sparse s = infer_sparse_at(layout, a->w, a->n, a->k);

    for (uint32_t t0 = at.row0; t0 < at.row1; t0 += TOKENS_IN_CACHE) {
        uint32_t t1 = at.row1 - t0 < TOKENS_IN_CACHE ? at.row1 : t0 + TOKENS_IN_CACHE;
        for (uint32_t o = at.col0; o < at.col1; o += 16) {
            uint32_t t = t0;
            for (; t + TOKENS <= t1; t += TOKENS)
                some_tokens(a, &s, o, at.col1, t, TOKENS, type, layout);
            for (; t + TOKENS / 2 <= t1; t += TOKENS / 2)
                some_tokens(a, &s, o, at.col1, t, TOKENS / 2, type, layout);
            for (; t < t1; t++)
                one_panel(a, &s, o, at.col1, t, type, layout);
        }
    }
}

void matmul_q8g64_bcsr16x1__avx512vnni(const void *args, infer_region at)
{
    matmul(args, at, INFER_QTYPE_Q8G64, INFER_LAYOUT_BCSR16X1);
}
void matmul_q4g64_bcsr16x1__avx512vnni(const void *args, infer_region at)
{
    matmul(args, at, INFER_QTYPE_Q4G64, INFER_LAYOUT_BCSR16X1);
}
void matmul_q8g64_bcsr16x4__avx512vnni(const void *args, infer_region at)
{
    matmul(args, at, INFER_QTYPE_Q8G64, INFER_LAYOUT_BCSR16X4);
}
void matmul_q4g64_bcsr16x4__avx512vnni(const void *args, infer_region at)
{
    matmul(args, at, INFER_QTYPE_Q4G64, INFER_LAYOUT_BCSR16X4);
}
