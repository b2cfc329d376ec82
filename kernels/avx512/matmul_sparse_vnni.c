/*
 * y = x w^T with vpdpbusd, weights in the layouts bcsr16x1 and bcsr16x4. A unit, 16 rows x 4 kept inputs, is what an instruction multiplies; what it
 * meets are four activations out of the block's 64, which vpermb (by their numbers) or vpcompressd (by the mask) brings together for all units at
 * once.
 *
 * vpdpbusd multiplies unsigned by signed numbers. Sums over what is kept are known of neither side in advance, and those of the weights serve all
 * tokens: so weights are signed, activations are x + 128, and 128 x the weights is taken off again. An input that is not of this block (the
 * first and the last unit may have such) has the activation 128: its weight is added and taken off.
 *
 * One token: how many units a block has is as good as random, so a branch on it is mispredicted: a fixed number, chosen by the panel's density, is
 * multiplied always, and more only where needed.
 */
#include "kernels.h"
#include "sparse.h"

#include <immintrin.h>

#define ALWAYS_INLINE static inline __attribute__((always_inline))

enum {
    TOKENS = 8,
    TOKENS_IN_CACHE = 64, /* they meet all panels before the next ones */
    MOST_ALWAYS = 16,     /* units of a block that are multiplied always, at most */
    PREFETCH_BYTES = 12 << 10
};

/* What the units of a block meet: those of inputs 0..66, counted from the first unit's first input. */
typedef struct fours {
    _Alignas(64) uint8_t x[128];
} fours;

ALWAYS_INLINE void store_fours(fours *f, uint32_t at, __m512i x) { _mm512_store_si512(f->x + at, _mm512_xor_si512(x, _mm512_set1_epi8((char)0x80))); }

/* Inputs first..end - 1 of those that have the numbers from `numbers` on. */
ALWAYS_INLINE void gather_16x1(fours *f, __m512i x, const uint8_t *numbers, uint32_t first, uint32_t end)
{
    __mmask64 inputs = _bzhi_u64(~0ull << first, end);
    store_fours(f, 0, _mm512_maskz_permutexvar_epi8(inputs, _mm512_loadu_si512(numbers), x)); /* scales follow: no byte too many */
    if (__builtin_expect(end > 64, 0)) {
        inputs = _bzhi_u64(~0ull, end - 64);
        store_fours(f, 64, _mm512_maskz_permutexvar_epi8(inputs, _mm512_maskz_loadu_epi8(inputs, numbers + 64), x));
    }
}

ALWAYS_INLINE __m512i four_of(const fours *f, uint32_t q)
{
    int32_t four;
    memcpy(&four, f->x + 4 * q, sizeof four);
    return _mm512_set1_epi32(four);
}

/* 16 rows x 4 inputs of signed codes; q4g64: 16 x them. */
ALWAYS_INLINE __m512i load_unit(const uint8_t *unit, const infer_qtype type)
{
    if (type == INFER_QTYPE_Q4G64) {
        const __m512i shift = _mm512_inserti64x4(_mm512_set1_epi32(4), _mm256_setzero_si256(), 1); /* rows 0..7 are in the low nibbles */
        __m512i w = _mm512_sllv_epi32(_mm512_broadcast_i64x4(_mm256_loadu_si256((const __m256i *)(const void *)unit)), shift);
        return _mm512_ternarylogic_epi32(w, _mm512_set1_epi8((char)0x80), _mm512_set1_epi8((char)0xf0), 0x28); /* (a ^ b) & c */
    }
    return _mm512_loadu_si512(unit);
}

typedef struct sums {
    __m512i products[TOKENS], weights; /* with activations + 128; 128 x the weights */
} sums;

ALWAYS_INLINE void add_unit(sums *s, const uint8_t *unit, const fours *f, uint32_t q, const uint32_t tokens, const infer_qtype type)
{
    __m512i w = load_unit(unit, type);
    s->weights = _mm512_dpbusd_epi32(s->weights, _mm512_set1_epi8((char)0x80), w);
#pragma GCC unroll 8
    for (uint32_t t = 0; t < tokens; t++)
        s->products[t] = _mm512_dpbusd_epi32(s->products[t], four_of(&f[t], q), w);
}

/* y += float(sums) * (weight scales * activation scale) */
ALWAYS_INLINE __m512 add_block(__m512 y, __m512i products, __m512i weights, __m512 scales, float x_scale, const infer_qtype type)
{
    __m512i sum = _mm512_sub_epi32(products, weights);
    if (type == INFER_QTYPE_Q4G64)
        sum = _mm512_srai_epi32(sum, 4);
    return _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum), _mm512_mul_ps(scales, _mm512_set1_ps(x_scale)), y);
}

/* Outputs o..o + 15 of some tokens. */
ALWAYS_INLINE void panel(const infer_matmul_args *a, const infer_sparse *s, uint32_t o, uint32_t col1, uint32_t t0, const uint32_t tokens,
                         const uint32_t always, const infer_qtype type, infer_layout layout)
{
    const size_t unit_bytes = infer_sparse_unit_bytes(type), groups = infer_q8_groups(a->k), row_groups = a->xq.row_groups;
    const uint8_t *values = s->values + s->pointers[o / 16] * unit_bytes, *numbers = infer_sparse_inputs(s, o / 16);
    const uint16_t *scales = s->scales + o / 16 * s->blocks * 16;
    const __mmask16 rows = (__mmask16)(col1 - o < 16 ? (1u << (col1 - o)) - 1 : 0xffff);
    uint32_t first = 0; /* bcsr16x1: of a unit's four inputs, where the block begins */
    __m512 y[TOKENS];
    fours f[TOKENS];

#pragma GCC unroll 8
    for (uint32_t t = 0; t < tokens; t++)
        y[t] = _mm512_setzero_ps();
    for (size_t b = 0; b < s->blocks; b++, scales += 16) {
        const int8_t *x = a->xq.codes + 32 * (t0 * row_groups + 2 * b);
        const float *x_scales = a->xq.scales + t0 * row_groups + 2 * b;
        __mmask64 exist = 2 * b + 1 < groups ? ~0ull : ~0u;
        uint32_t end = 0, units, mask = 0;
        __m512 w_scales;
        sums sum;

        if (layout == INFER_LAYOUT_BCSR16X1) {
            end = first + s->counts[o / 16 * s->blocks + b];
            units = (end + 3) / 4;
        } else {
            mask = infer_sparse_fours(s, o / 16, b);
            units = (uint32_t)_mm_popcnt_u32(mask);
        }
        for (uint32_t t = 0; t < tokens; t++) {
            __m512i codes = _mm512_maskz_loadu_epi8(exist, x + 32 * t * row_groups);
            if (layout == INFER_LAYOUT_BCSR16X1)
                gather_16x1(&f[t], codes, numbers, first, end);
            else
                store_fours(&f[t], 0, _mm512_maskz_compress_epi32((__mmask16)mask, codes));
        }
        sum.weights = _mm512_setzero_si512();
#pragma GCC unroll 8
        for (uint32_t t = 0; t < tokens; t++)
            sum.products[t] = _mm512_setzero_si512();
        if (always)
            for (size_t line = 0; line < always * unit_bytes; line += 64)
                _mm_prefetch((const char *)values + PREFETCH_BYTES + line, _MM_HINT_T1);
#pragma GCC unroll 16
        for (uint32_t q = 0; q < always; q++)
            add_unit(&sum, values + q * unit_bytes, f, q, tokens, type);
        for (uint32_t q = always; q < units; q++)
            add_unit(&sum, values + q * unit_bytes, f, q, tokens, type);
        w_scales = _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(const void *)scales));
#pragma GCC unroll 8
        for (uint32_t t = 0; t < tokens; t++)
            y[t] = add_block(y[t], sum.products[t], sum.weights, w_scales, x_scales[t * row_groups], type);
        if (layout == INFER_LAYOUT_BCSR16X1) { /* the block's last unit is the next one's first, unless it is full */
            values += end / 4 * unit_bytes;
            numbers += end / 4 * 4;
            first = end % 4;
        } else {
            values += units * unit_bytes;
        }
    }
#pragma GCC unroll 8
    for (uint32_t t = 0; t < tokens; t++)
        _mm512_mask_storeu_ps(a->y + (size_t)(t0 + t) * a->y_stride + o, rows, y[t]);
}

/* Units of a block that are multiplied always: the mean, and what pays for fewer mispredictions; none where so many might not be there. */
static uint32_t always_of(const infer_sparse *s, uint32_t panel, infer_layout layout)
{
    float mean = (float)(s->pointers[panel + 1] - s->pointers[panel]) / (float)s->blocks;
    uint32_t always = (uint32_t)(layout == INFER_LAYOUT_BCSR16X1 ? mean + 2.25f : mean + 1.5f);
    if (s->units - s->pointers[panel + 1] < MOST_ALWAYS)
        return 0;
    return always <= 4 ? 4 : always <= 7 ? 7 : always <= 10 ? 10 : MOST_ALWAYS;
}

ALWAYS_INLINE void one_token(const infer_matmul_args *a, const infer_sparse *s, uint32_t o, uint32_t col1, uint32_t t, const infer_qtype type,
                             infer_layout layout)
{
    switch (always_of(s, o / 16, layout)) {
    case 0:
        panel(a, s, o, col1, t, 1, 0, type, layout);
        break;
    case 4:
        panel(a, s, o, col1, t, 1, 4, type, layout);
        break;
    case 7:
        panel(a, s, o, col1, t, 1, 7, type, layout);
        break;
    case 10:
        panel(a, s, o, col1, t, 1, 10, type, layout);
        break;
    default:
        panel(a, s, o, col1, t, 1, MOST_ALWAYS, type, layout);
    }
}

ALWAYS_INLINE void matmul(const infer_matmul_args *a, infer_region at, const infer_qtype type, infer_layout layout)
{
    infer_sparse s = infer_sparse_at(layout, a->w, a->n, a->k);

    for (uint32_t t0 = at.row0; t0 < at.row1; t0 += TOKENS_IN_CACHE) {
        uint32_t t1 = at.row1 - t0 < TOKENS_IN_CACHE ? at.row1 : t0 + TOKENS_IN_CACHE;
        for (uint32_t o = at.col0; o < at.col1; o += 16) {
            uint32_t t = t0;
            for (; t + TOKENS <= t1; t += TOKENS)
                panel(a, &s, o, at.col1, t, TOKENS, 0, type, layout);
            for (; t + 3 <= t1; t += 3)
                panel(a, &s, o, at.col1, t, 3, 0, type, layout);
            for (; t < t1; t++)
                one_token(a, &s, o, at.col1, t, type, layout);
        }
    }
}

void matmul_q8g64_bcsr16x1__avx512vnni(const void *args, infer_region at) { matmul(args, at, INFER_QTYPE_Q8G64, INFER_LAYOUT_BCSR16X1); }
void matmul_q4g64_bcsr16x1__avx512vnni(const void *args, infer_region at) { matmul(args, at, INFER_QTYPE_Q4G64, INFER_LAYOUT_BCSR16X1); }
void matmul_q8g64_bcsr16x4__avx512vnni(const void *args, infer_region at) { matmul(args, at, INFER_QTYPE_Q8G64, INFER_LAYOUT_BCSR16X4); }
void matmul_q4g64_bcsr16x4__avx512vnni(const void *args, infer_region at) { matmul(args, at, INFER_QTYPE_Q4G64, INFER_LAYOUT_BCSR16X4); }
