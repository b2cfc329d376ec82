/*
 * y = x w^T, weights in the layouts bcsr16x1 and bcsr16x4. A unit is 16 rows x 4 kept inputs; what it meets are the activations of these
 * inputs.
 *
 * Few tokens: the activations of a panel's kept inputs are moved together first, group by group of 32 inputs, for as many groups as a chunk
 * has; then every group's units are multiplied. In two passes, because loads of four bytes that were written in two pieces have to wait
 * until these reached the cache. A group of bcsr16x1 may begin and end within a unit: the other inputs of that unit get zeros, and the unit
 * is multiplied twice. How many units a group has is as good as random, so a branch on it is mispredicted: a fixed number, chosen by the
 * panel's density, is multiplied always (with zeros where there is nothing), and more only where needed.
 *
 * Many tokens: bcsr16x4 multiplies the kept tiles as they lie, four tokens at a time. bcsr16x1 puts a panel's codes back to their places,
 * in L1, and goes on as if it were dense: moving activations together for every panel and token would cost more than the zeros.
 */
#include "compress.h"
#include "kernels.h"
#include "sparse.h"
#include "vector.h"

enum {
    CHUNK_GROUPS = 32,
    SLOT_BYTES = 64, /* of a group's activations: up to 3 zeros, 32 codes, zeros */
    TOKENS = 4,
    EXPAND_TOKENS = 6, /* from here on bcsr16x1 is made dense (measured) */
    BLOCK_GROUPS = 16,
    BLOCK_TOKENS = 64
};

/* Constants everywhere: a function of its own for each pair. */
#define KIND const infer_qtype type, const infer_layout layout

typedef struct sums {
    __m256i low, high; /* rows 0..7, 8..15: q4g64 in pairs of 16 bits, q8g64 in 32 bits */
    __m256i offset;    /* q4g64: 8 x the activations */
} sums;

ALWAYS_INLINE __m256i add_signed(__m256i sum, __m256i w, __m256i x)
{
    __m256i pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(w), _mm256_sign_epi8(x, w));
    return _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
}

/* s += a unit x four activations, repeated in all lanes */
ALWAYS_INLINE void add_unit(sums *s, const uint8_t *unit, __m256i x, const infer_qtype type)
{
    if (type == INFER_QTYPE_Q4G64) {
        const __m256i nibble = _mm256_set1_epi8(15);
        __m256i w = load_256(unit);
        s->low = _mm256_add_epi16(s->low, _mm256_maddubs_epi16(_mm256_and_si256(w, nibble), x));
        s->high = _mm256_add_epi16(s->high, _mm256_maddubs_epi16(_mm256_and_si256(_mm256_srli_epi16(w, 4), nibble), x));
        s->offset = _mm256_add_epi16(s->offset, _mm256_maddubs_epi16(_mm256_set1_epi8(8), x));
    } else {
        s->low = add_signed(s->low, load_256(unit), x);
        s->high = add_signed(s->high, load_256(unit + 32), x);
    }
}

ALWAYS_INLINE sums no_sums(void)
{
    const __m256i zero = _mm256_setzero_si256();
    return (sums){zero, zero, zero};
}

/* y += float(sums) * (weight scales * activation scale), 16 rows */
ALWAYS_INLINE void add_group(__m256 y[2], const sums *s, __m256 low_scales, __m256 high_scales, float x_scale, const infer_qtype type)
{
    __m256 x = _mm256_set1_ps(x_scale);
    __m256i low = s->low, high = s->high;
    if (type == INFER_QTYPE_Q4G64) {
        const __m256i one = _mm256_set1_epi16(1);
        low = _mm256_madd_epi16(_mm256_sub_epi16(low, s->offset), one);
        high = _mm256_madd_epi16(_mm256_sub_epi16(high, s->offset), one);
    }
    y[0] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(low), _mm256_mul_ps(low_scales, x), y[0]);
    y[1] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(high), _mm256_mul_ps(high_scales, x), y[1]);
}

/* ---- few tokens ---- */

typedef struct chunk {
    _Alignas(64) uint8_t codes[CHUNK_GROUPS][SLOT_BYTES];
    uint32_t unit[CHUNK_GROUPS + 1]; /* the first one of each group */
    uint32_t units[CHUNK_GROUPS + 1];
} chunk;

/* codes = the activations x[32] that the mask's 4 bytes keep, from byte `at` (0..3) on, zeros elsewhere */
ALWAYS_INLINE void compress_16x1(uint8_t *codes, const int8_t *x, const uint8_t *mask, uint32_t at)
{
    _mm256_store_si256((__m256i *)(void *)codes, _mm256_setzero_si256());
    _mm256_store_si256((__m256i *)(void *)(codes + 32), _mm256_setzero_si256());
    codes += at;
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        __m128i list = _mm_loadu_si128((const __m128i *)(const void *)&infer_compress_lists[mask[i]]); /* the upper half plays no part */
        _mm_storel_epi64((__m128i *)(void *)codes, _mm_shuffle_epi8(_mm_loadl_epi64((const __m128i *)(const void *)(x + 8 * i)), list));
        codes += __builtin_popcount(mask[i]);
    }
}

/* codes = the fours of x[32] that mask keeps, zeros behind them */
ALWAYS_INLINE void compress_16x4(uint8_t *codes, const int8_t *x, uint32_t mask)
{
    __m256i list = _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)(const void *)&infer_compress_lists[mask]));
    __m256i kept = _mm256_permutevar8x32_epi32(load_256(x), list);
    _mm256_store_si256((__m256i *)(void *)codes, _mm256_andnot_si256(_mm256_cmpgt_epi32(list, _mm256_set1_epi32(7)), kept));
}

/* Groups g0.. of the panel; *kept: inputs kept before them. */
ALWAYS_INLINE void fill_chunk(chunk *c, const infer_sparse *s, uint32_t panel, const int8_t *x, size_t g0, size_t count, uint32_t *kept,
                              KIND)
{
    uint32_t before = *kept;
    (void)type;
    for (size_t i = 0; i < count; i++) {
        c->unit[i] = before / 4;
        if (layout == INFER_LAYOUT_BCSR16X1) {
            compress_16x1(c->codes[i], x + 32 * i, (const uint8_t *)s->positions + 8 * panel * s->blocks + 4 * (g0 + i), before % 4);
            before += (uint32_t)__builtin_popcount(infer_sparse_mask16x1(s, panel, g0 + i));
            c->units[i] = (before + 3) / 4 - c->unit[i];
        } else {
            uint32_t mask = infer_sparse_mask16x4(s, panel, g0 + i);
            compress_16x4(c->codes[i], x + 32 * i, mask);
            c->units[i] = (uint32_t)__builtin_popcount(mask);
            before += 4 * c->units[i];
        }
    }
    *kept = before;
}

/* The sums of a group: `always` units, and what is left. */
ALWAYS_INLINE sums multiply_group(const chunk *c, size_t i, const uint8_t *values, const uint32_t always, const infer_qtype type)
{
    const size_t unit_bytes = infer_sparse_unit_bytes(type);
    const uint8_t *unit = values + c->unit[i] * unit_bytes, *x = c->codes[i];
    sums s = no_sums();
#pragma GCC unroll 8
    for (uint32_t q = 0; q < always; q++)
        add_unit(&s, unit + q * unit_bytes, broadcast_32(x + 4 * q), type);
    if (__builtin_expect(c->units[i] > always, 0))
        for (uint32_t q = always; q < c->units[i]; q++)
            add_unit(&s, unit + q * unit_bytes, broadcast_32(x + 4 * q), type);
    return s;
}

/* Groups g0.. , an even number; scales, x_scales: those of g0. */
ALWAYS_INLINE void multiply_chunk(__m256 y[2], const chunk *c, const uint8_t *values, const uint16_t *scales, const float *x_scales,
                                  size_t count,
                                  const uint32_t always, KIND)
{
    (void)layout;
    for (size_t i = 0; i < count; i += 2, scales += 16) {
        __m256 low = load_f16(scales), high = load_f16(scales + 8);
        sums s = multiply_group(c, i, values, always, type);
        add_group(y, &s, low, high, x_scales[i], type);
        if (i + 1 < count) {
            s = multiply_group(c, i + 1, values, always, type);
            add_group(y, &s, low, high, x_scales[i + 1], type);
        }
    }
}

ALWAYS_INLINE void multiply_some(__m256 y[2], const chunk *c, const uint8_t *values, const uint16_t *scales, const float *x_scales,
                                 size_t count,
                                 uint32_t always, KIND)
{
    switch (always) {
    case 0:
        multiply_chunk(y, c, values, scales, x_scales, count, 0, type, layout);
        break;
    case 1:
        multiply_chunk(y, c, values, scales, x_scales, count, 1, type, layout);
        break;
    case 2:
        multiply_chunk(y, c, values, scales, x_scales, count, 2, type, layout);
        break;
    case 3:
        multiply_chunk(y, c, values, scales, x_scales, count, 3, type, layout);
        break;
    case 4:
        multiply_chunk(y, c, values, scales, x_scales, count, 4, type, layout);
        break;
    case 5:
        multiply_chunk(y, c, values, scales, x_scales, count, 5, type, layout);
        break;
    case 6:
        multiply_chunk(y, c, values, scales, x_scales, count, 6, type, layout);
        break;
    default:
        multiply_chunk(y, c, values, scales, x_scales, count, 8, type, layout);
    }
}

/* Units of a group that are multiplied always: the mean, and about a deviation more. */
static uint32_t always_of(const infer_sparse *s, uint32_t panel, size_t groups, const infer_layout layout)
{
    float mean = (float)(s->pointers[panel + 1] - s->pointers[panel]) / (float)groups;
    return (uint32_t)(layout == INFER_LAYOUT_BCSR16X1 ? mean + 1.75f : mean + 1.5f);
}

ALWAYS_INLINE void few_tokens(const infer_matmul_args *a, infer_region at, KIND)
{
    infer_sparse s = infer_sparse_at(layout, a->w, a->n, a->k);
    size_t groups = infer_q8_groups(a->k), row_groups = a->xq.row_groups;
    chunk c;

    for (uint32_t o = at.col0; o < at.col1; o += 16) {
        uint32_t panel = o / 16, always = always_of(&s, panel, groups, layout);
        const uint8_t *values = s.values + s.pointers[panel] * infer_sparse_unit_bytes(type);
        const uint16_t *scales = s.scales + panel * s.blocks * 16;
        for (uint32_t t = at.row0; t < at.row1; t++) {
            __m256 y[2] = {_mm256_setzero_ps(), _mm256_setzero_ps()};
            uint32_t kept = 0;
            for (size_t g = 0; g < groups; g += CHUNK_GROUPS) {
                size_t count = groups - g < CHUNK_GROUPS ? groups - g : CHUNK_GROUPS;
                fill_chunk(&c, &s, panel, a->xq.codes + 32 * (t * row_groups + g), g, count, &kept, type, layout);
                /* at the end of the tensor there may be fewer units than `always` */
                multiply_some(y, &c, values, scales + g / 2 * 16, a->xq.scales + t * row_groups + g, count,
                              s.pointers[panel] + c.unit[count - 1] + 8 <= s.units ? always : 0, type, layout);
            }
            store_16(a->y + (size_t)t * a->y_stride + o, at.col1 - o, y[0], y[1]);
        }
    }
}

/* ---- many tokens, bcsr16x4 ---- */

ALWAYS_INLINE void tiles(const infer_matmul_args *a, const infer_sparse *s, uint32_t o, uint32_t col1, uint32_t t0, const uint32_t tokens,
                         const infer_qtype type)
{
    size_t groups = infer_q8_groups(a->k), row_groups = a->xq.row_groups;
    const uint8_t *unit = s->values + s->pointers[o / 16] * infer_sparse_unit_bytes(type);
    const uint16_t *scales = s->scales + o / 16 * s->blocks * 16;
    __m256 y[TOKENS][2];

    for (uint32_t t = 0; t < tokens; t++)
        y[t][0] = y[t][1] = _mm256_setzero_ps();
    for (size_t g = 0; g < groups; g++) {
        const int8_t *x = a->xq.codes + 32 * (t0 * row_groups + g);
        const float *x_scale = a->xq.scales + t0 * row_groups + g;
        sums sum[TOKENS];
        for (uint32_t t = 0; t < tokens; t++)
            sum[t] = no_sums();
        for (uint32_t mask = infer_sparse_mask16x4(s, o / 16, g); mask; mask &= mask - 1, unit += infer_sparse_unit_bytes(type)) {
            const int8_t *four = x + 4 * __builtin_ctz(mask);
            for (uint32_t t = 0; t < tokens; t++)
                add_unit(&sum[t], unit, broadcast_32(four + 32 * (t * row_groups)), type);
        }
        __m256 low = load_f16(scales + g / 2 * 16), high = load_f16(scales + g / 2 * 16 + 8);
        for (uint32_t t = 0; t < tokens; t++)
            add_group(y[t], &sum[t], low, high, x_scale[t * row_groups], type);
    }
    for (uint32_t t = 0; t < tokens; t++)
        store_16(a->y + (size_t)(t0 + t) * a->y_stride + o, col1 - o, y[t][0], y[t][1]);
}

ALWAYS_INLINE void many_tiles(const infer_matmul_args *a, infer_region at, const infer_qtype type)
{
    infer_sparse s = infer_sparse_at(INFER_LAYOUT_BCSR16X4, a->w, a->n, a->k);

    for (uint32_t o = at.col0; o < at.col1; o += 16) {
        uint32_t t = at.row0;
        for (; t + TOKENS <= at.row1; t += TOKENS)
            tiles(a, &s, o, at.col1, t, TOKENS, type);
        for (; t + 2 <= at.row1; t += 2)
            tiles(a, &s, o, at.col1, t, 2, type);
        if (t < at.row1)
            tiles(a, &s, o, at.col1, t, 1, type);
    }
}

/* ---- many tokens, bcsr16x1 ---- */

typedef struct expanded {
    _Alignas(64) uint8_t weights[BLOCK_GROUPS][8][64]; /* tile c: inputs 4c..4c + 3; q4g64: 0..15 */
} expanded;

/* Codes of kept input i of a unit, of 16 rows: q4g64 0..15. */
ALWAYS_INLINE void columns_of(const uint8_t *unit, __m128i columns[4], const infer_qtype type)
{
    const __m128i fours = _mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15), nibble = _mm_set1_epi8(15);
    __m128i part[4], pair[4];
    for (int i = 0; i < 4; i++) { /* rows 4i..4i + 3 of input 0, of input 1 ... */
        __m128i w = _mm_loadu_si128((const __m128i *)(const void *)(unit + (type == INFER_QTYPE_Q4G64 ? i % 2 : i) * 16));
        if (type == INFER_QTYPE_Q4G64)
            w = _mm_and_si128(i < 2 ? w : _mm_srli_epi16(w, 4), nibble);
        part[i] = _mm_shuffle_epi8(w, fours);
    }
    pair[0] = _mm_unpacklo_epi32(part[0], part[1]);
    pair[1] = _mm_unpackhi_epi32(part[0], part[1]);
    pair[2] = _mm_unpacklo_epi32(part[2], part[3]);
    pair[3] = _mm_unpackhi_epi32(part[2], part[3]);
    columns[0] = _mm_unpacklo_epi64(pair[0], pair[2]);
    columns[1] = _mm_unpackhi_epi64(pair[0], pair[2]);
    columns[2] = _mm_unpacklo_epi64(pair[1], pair[3]);
    columns[3] = _mm_unpackhi_epi64(pair[1], pair[3]);
}

/* 16 rows of four inputs to a tile. */
ALWAYS_INLINE void store_tile(uint8_t *tile, const __m128i *inputs)
{
    __m128i low = _mm_unpacklo_epi8(inputs[0], inputs[1]), high = _mm_unpackhi_epi8(inputs[0], inputs[1]);
    __m128i low2 = _mm_unpacklo_epi8(inputs[2], inputs[3]), high2 = _mm_unpackhi_epi8(inputs[2], inputs[3]);
    _mm_store_si128((__m128i *)(void *)tile, _mm_unpacklo_epi16(low, low2));
    _mm_store_si128((__m128i *)(void *)(tile + 16), _mm_unpackhi_epi16(low, low2));
    _mm_store_si128((__m128i *)(void *)(tile + 32), _mm_unpacklo_epi16(high, high2));
    _mm_store_si128((__m128i *)(void *)(tile + 48), _mm_unpackhi_epi16(high, high2));
}

/* Groups g0.. of a panel whose units begin at `values`; *kept: inputs kept before them. */
ALWAYS_INLINE void expand(expanded *e, const infer_sparse *s, uint32_t panel, const uint8_t *values, size_t g0, size_t count,
                          uint32_t *kept, const infer_qtype type)
{
    __m128i columns[4];
    uint32_t n = *kept;

    if (n % 4)
        columns_of(values + n / 4 * infer_sparse_unit_bytes(type), columns, type);
    for (size_t g = 0; g < count; g++) {
        __m128i inputs[32];
        uint32_t mask = infer_sparse_mask16x1(s, panel, g0 + g);
        for (int i = 0; i < 32; i++)
            inputs[i] = _mm_set1_epi8(type == INFER_QTYPE_Q4G64 ? 8 : 0);
        for (; mask; mask &= mask - 1, n++) {
            if (n % 4 == 0)
                columns_of(values + n / 4 * infer_sparse_unit_bytes(type), columns, type);
            inputs[__builtin_ctz(mask)] = columns[n % 4];
        }
        for (int c = 0; c < 8; c++)
            store_tile(e->weights[g][c], inputs + 4 * c);
    }
    *kept = n;
}

/* y[t][16] += expanded groups g0.. x tokens t0.. */
ALWAYS_INLINE void multiply_expanded(const expanded *e, const uint16_t *scales, const infer_q8_rows *xq, uint32_t t0,
                                     const uint32_t tokens, size_t g0, size_t count,
                                     float (*y)[16], const infer_qtype type)
{
    size_t row_groups = xq->row_groups;

    for (size_t g = 0; g < count; g++) {
        size_t first = t0 * row_groups + g0 + g;
        __m256 low = load_f16(scales + (g0 + g) / 2 * 16), high = load_f16(scales + (g0 + g) / 2 * 16 + 8);
        sums sum[TOKENS];
        KEEP_IN_MEMORY();
        for (uint32_t t = 0; t < tokens; t++) {
            sum[t] = no_sums();
            if (type == INFER_QTYPE_Q4G64)
                sum[t].low = sum[t].high = broadcast_32(xq->offset8 + 2 * (first + t * row_groups));
        }
#pragma GCC unroll 8
        for (int c = 0; c < 8; c++) {
            __m256i w0 = _mm256_load_si256((const __m256i *)(const void *)e->weights[g][c]);
            __m256i w1 = _mm256_load_si256((const __m256i *)(const void *)(e->weights[g][c] + 32));
            for (uint32_t t = 0; t < tokens; t++) {
                __m256i x = broadcast_32(xq->codes + 32 * (first + t * row_groups) + 4 * c);
                if (type == INFER_QTYPE_Q4G64) {
                    sum[t].low = _mm256_add_epi16(sum[t].low, _mm256_maddubs_epi16(w0, x));
                    sum[t].high = _mm256_add_epi16(sum[t].high, _mm256_maddubs_epi16(w1, x));
                } else {
                    sum[t].low = add_signed(sum[t].low, w0, x);
                    sum[t].high = add_signed(sum[t].high, w1, x);
                }
            }
        }
        for (uint32_t t = 0; t < tokens; t++) {
            __m256 out[2] = {_mm256_load_ps(y[t]), _mm256_load_ps(y[t] + 8)};
            add_group(out, &sum[t], low, high, xq->scales[first + t * row_groups], type);
            _mm256_store_ps(y[t], out[0]);
            _mm256_store_ps(y[t] + 8, out[1]);
        }
    }
}

ALWAYS_INLINE void many_expanded(const infer_matmul_args *a, infer_region at, const infer_qtype type)
{
    infer_sparse s = infer_sparse_at(INFER_LAYOUT_BCSR16X1, a->w, a->n, a->k);
    size_t groups = infer_q8_groups(a->k);
    _Alignas(64) float y[BLOCK_TOKENS][16];
    expanded e;

    for (uint32_t t0 = at.row0; t0 < at.row1; t0 += BLOCK_TOKENS) {
        uint32_t tokens = at.row1 - t0 < BLOCK_TOKENS ? at.row1 - t0 : BLOCK_TOKENS;
        for (uint32_t o = at.col0; o < at.col1; o += 16) {
            const uint8_t *values = s.values + s.pointers[o / 16] * infer_sparse_unit_bytes(type);
            const uint16_t *scales = s.scales + o / 16 * s.blocks * 16;
            uint32_t kept = 0;
            memset(y, 0, tokens * sizeof y[0]);
            for (size_t g = 0; g < groups; g += BLOCK_GROUPS) {
                size_t count = groups - g < BLOCK_GROUPS ? groups - g : BLOCK_GROUPS;
                uint32_t t = 0;
                expand(&e, &s, o / 16, values, g, count, &kept, type);
                for (; t + TOKENS <= tokens; t += TOKENS)
                    multiply_expanded(&e, scales, &a->xq, t0 + t, TOKENS, g, count, y + t, type);
                for (; t < tokens; t++)
                    multiply_expanded(&e, scales, &a->xq, t0 + t, 1, g, count, y + t, type);
            }
            for (uint32_t t = 0; t < tokens; t++)
                store_16(a->y + (size_t)(t0 + t) * a->y_stride + o, at.col1 - o, _mm256_load_ps(y[t]), _mm256_load_ps(y[t] + 8));
        }
    }
}

ALWAYS_INLINE void matmul(const infer_matmul_args *a, infer_region at, KIND)
{
    if (at.row1 - at.row0 == 1 || (layout == INFER_LAYOUT_BCSR16X1 && at.row1 - at.row0 < EXPAND_TOKENS))
        few_tokens(a, at, type, layout);
    else if (layout == INFER_LAYOUT_BCSR16X1)
        many_expanded(a, at, type);
    else
        many_tiles(a, at, type);
}

void matmul_q8g64_bcsr16x1__avx2(const void *args, infer_region at) { matmul(args, at, INFER_QTYPE_Q8G64, INFER_LAYOUT_BCSR16X1); }
void matmul_q4g64_bcsr16x1__avx2(const void *args, infer_region at) { matmul(args, at, INFER_QTYPE_Q4G64, INFER_LAYOUT_BCSR16X1); }
void matmul_q8g64_bcsr16x4__avx2(const void *args, infer_region at) { matmul(args, at, INFER_QTYPE_Q8G64, INFER_LAYOUT_BCSR16X4); }
void matmul_q4g64_bcsr16x4__avx2(const void *args, infer_region at) { matmul(args, at, INFER_QTYPE_Q4G64, INFER_LAYOUT_BCSR16X4); }
