/*
 * y = x w^T, weights in the layouts bcsr16x1, bcsr16x4, csr and bitmask. A unit is 16 rows x 4 kept inputs; what it meets are the
 * activations of these inputs.
 *
 * Few tokens, bcsr16x1: the inputs' numbers are what byte shuffles take, so a block's activations come out of two vectors in a window of 16
 * at a time, in the order of the units, the first two windows of dense blocks together, and each unit's four are broadcast from there. A
 * block may begin and end within a unit: the other inputs of that unit get zeros, and the unit is multiplied twice. bcsr16x4: a unit's
 * activations are broadcast from memory, where its bit says. A fixed number of units is multiplied always, and more only where needed: see
 * infer_sparse_always.
 *
 * Many tokens: bcsr16x4 multiplies the kept tiles as they lie, four tokens at a time. bcsr16x1 puts a panel's codes back to their places,
 * in L1, and goes on as if it were dense: moving activations together for every panel and token would cost more than the zeros. So do csr
 * and bitmask, for one token too: their numbers stand alone.
 *
 * q4g64: sums in 16 bits, of codes 0..15, wrap around; with 8 x the activations taken off they are right again: 32 inputs x 127 x 8 fits.
 */
#include "avx2/expand_bitmask.h"
#include "kernels.h"
#include "sparse.h"
#include "vector.h"

enum {
    MOST_ALWAYS = 10, /* units of a block that are multiplied always, at most */
    TOKENS = 4,
    EXPAND_TOKENS = 6, /* from here on bcsr16x1 is made dense (measured) */
    EXPAND_BLOCKS = 8,
    BLOCK_TOKENS = 64
};

/* Constants everywhere: a function of its own for each pair. */
#define KIND const infer_qtype type, const infer_layout layout

typedef struct sums {
    __m256i low, high; /* rows 0..7, 8..15: q4g64 in pairs of 16 bits, q8g64 in 32 bits */
    __m256i offset;    /* q4g64: 8 x the activations, in pairs */
} sums;

ALWAYS_INLINE __m256i add_signed(__m256i sum, __m256i w, __m256i x)
{
    __m256i pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(w), _mm256_sign_epi8(x, w));
    return _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
}

/* s += a unit x four activations, repeated in all lanes; the offset is left to the caller */
ALWAYS_INLINE void add_unit(sums *s, const uint8_t *unit, __m256i x, const infer_qtype type)
{
    if (type == INFER_QTYPE_Q4G64) {
        const __m256i nibble = _mm256_set1_epi8(15);
        __m256i w = load_256(unit);
        s->low = _mm256_add_epi16(s->low, _mm256_maddubs_epi16(_mm256_and_si256(w, nibble), x));
        s->high = _mm256_add_epi16(s->high, _mm256_maddubs_epi16(_mm256_and_si256(_mm256_srli_epi16(w, 4), nibble), x));
    } else {
        s->low = add_signed(s->low, load_256(unit), x);
        s->high = add_signed(s->high, load_256(unit + 32), x);
    }
}

ALWAYS_INLINE void add_offset(sums *s, __m256i x, const infer_qtype type)
{
    if (type == INFER_QTYPE_Q4G64)
        s->offset = _mm256_add_epi16(s->offset, _mm256_maddubs_epi16(_mm256_set1_epi8(8), x));
}

ALWAYS_INLINE sums no_sums(void)
{
    const __m256i zero = _mm256_setzero_si256();
    return (sums){zero, zero, zero};
}

/* y += float(sums) * (weight scales * activation scale), 16 rows */
ALWAYS_INLINE void add_block(__m256 y[2], const sums *s, const uint16_t *scales, float x_scale, const infer_qtype type)
{
    __m256 x = _mm256_set1_ps(x_scale);
    __m256i low = s->low, high = s->high;
    if (type == INFER_QTYPE_Q4G64) {
        const __m256i one = _mm256_set1_epi16(1);
        low = _mm256_madd_epi16(_mm256_sub_epi16(low, s->offset), one);
        high = _mm256_madd_epi16(_mm256_sub_epi16(high, s->offset), one);
    }
    y[0] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(low), _mm256_mul_ps(load_f16(scales), x), y[0]);
    y[1] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(high), _mm256_mul_ps(load_f16(scales + 8), x), y[1]);
}

/* ---- few tokens ---- */

/* The activations of 16 inputs, twice. A shuffle takes the lowest 4 bits of each number, and gives 0 where bit 7 is set: + 0x70 sets it for
 * all but the 16 numbers that this quarter of the activations has. */
ALWAYS_INLINE __m256i gather(const int8_t *x, const uint8_t *numbers)
{
    const __m256i quarters = _mm256_setr_epi64x(0, 0, 0x1010101010101010, 0x1010101010101010), far = _mm256_set1_epi8(0x70);
    __m256i list = _mm256_xor_si256(_mm256_broadcastsi128_si256(load_128(numbers)), quarters);
    __m256i first = _mm256_shuffle_epi8(load_256(x), _mm256_adds_epu8(list, far));
    __m256i second = _mm256_shuffle_epi8(load_256(x + 32), _mm256_adds_epu8(_mm256_xor_si256(list, _mm256_set1_epi8(0x20)), far));
    __m256i parts = _mm256_or_si256(first, second);
    return _mm256_or_si256(parts, _mm256_permute2x128_si256(parts, parts, 1));
}

/* The activations of 32 inputs. Shuffles look at the lowest 4 bits of a number; bits 4 and 5 say which quarter of the activations it is. */
ALWAYS_INLINE __m256i gather_32(const int8_t *x, const uint8_t *numbers)
{
    __m256i list = load_256(numbers), bit4 = _mm256_slli_epi16(list, 3), bit5 = _mm256_slli_epi16(list, 2), part[4];
    for (int q = 0; q < 4; q++)
        part[q] = _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(load_128(x + 16 * q)), list);
    __m256i again = bit4;
    __asm__("" : "+x"(again)); /* or gcc makes a mask for both of it first */
    return _mm256_blendv_epi8(_mm256_blendv_epi8(part[0], part[1], bit4), _mm256_blendv_epi8(part[2], part[3], again), bit5);
}

#define SET 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255
static const uint8_t set_from[3 + 32] = {[3] = SET, SET}, set_to[67 + 48 + 16] = {SET, SET, SET, SET, 255, 255, 255};
#undef SET

/* Bytes first..end - 1 of 16 are set, twice; first 0..3, end -48..67. */
ALWAYS_INLINE __m256i bytes_between(uint32_t first, int32_t end)
{
    __m128i behind = load_128(set_from + 3 - first);
    __m128i before = load_128(set_to + 67 - end);
    return _mm256_broadcastsi128_si256(_mm_and_si128(behind, before));
}

/* Unit q (0..3) of a window. */
ALWAYS_INLINE __m256i four_of(__m256i window, const uint32_t q)
{
    switch (q) {
    case 0:
        return _mm256_shuffle_epi32(window, 0x00);
    case 1:
        return _mm256_shuffle_epi32(window, 0x55);
    case 2:
        return _mm256_shuffle_epi32(window, 0xaa);
    default:
        return _mm256_shuffle_epi32(window, 0xff);
    }
}

/* Window w of a block, whose inputs are first..end - 1 of those from `numbers` on. */
ALWAYS_INLINE __m256i gather_between(const int8_t *x, const uint8_t *numbers, uint32_t w, uint32_t first, uint32_t end)
{
    return _mm256_and_si256(gather(x, numbers + 16 * w), bytes_between(w ? 0 : first, (int32_t)(end - 16 * w)));
}

/* Its first `units` units. */
ALWAYS_INLINE void add_window(sums *s, const int8_t *x, const uint8_t *numbers, const uint8_t *values, uint32_t w, uint32_t first,
                              uint32_t end, const uint32_t units, const infer_qtype type)
{
    __m256i window = gather_between(x, numbers, w, first, end);
    values += 4 * w * infer_sparse_unit_bytes(type);
#pragma GCC unroll 4
    for (uint32_t q = 0; q < units; q++)
        add_unit(s, values + q * infer_sparse_unit_bytes(type), four_of(window, q), type);
    add_offset(s, window, type);
}

/* Pairs of a window's four units, added up: what add_unit's lanes have. */
ALWAYS_INLINE void fold_offset(sums *s, const infer_qtype type)
{
    if (type == INFER_QTYPE_Q4G64) {
        s->offset = _mm256_add_epi16(s->offset, _mm256_shuffle_epi32(s->offset, _MM_SHUFFLE(1, 0, 3, 2)));
        s->offset = _mm256_add_epi16(s->offset, _mm256_shuffle_epi32(s->offset, _MM_SHUFFLE(2, 3, 0, 1)));
    }
}

/* A block of bcsr16x1 with the activations x, whose inputs are first..end - 1 of those that stand from `numbers` on; so are its units, from `values`
 * on. */
ALWAYS_INLINE sums multiply_16x1(const int8_t *x, const uint8_t *numbers, const uint8_t *values, uint32_t first, uint32_t end,
                                 const uint32_t always, const infer_qtype type)
{
    sums s = no_sums();
    const uint32_t joined = always > 4 ? 2 : 0; /* windows whose activations are gathered at once */
    if (joined) {
        _Alignas(32) int32_t fours[8];
        __m256i both =
            _mm256_and_si256(gather_32(x, numbers), _mm256_and_si256(load_256(set_from + 3 - first), load_256(set_to + 67 - end)));
        _mm256_store_si256((__m256i *)(void *)fours, both);
        __asm__("" : "+m"(fours)); /* or the compiler takes them out of the register, by two shuffles each */
#pragma GCC unroll 8
        for (uint32_t q = 0; q < (always < 8 ? always : 8); q++)
            add_unit(&s, values + q * infer_sparse_unit_bytes(type), _mm256_set1_epi32(fours[q]), type);
        if (type == INFER_QTYPE_Q4G64) {
            __m256i offset = _mm256_maddubs_epi16(_mm256_set1_epi8(8), both);
            s.offset = _mm256_add_epi16(offset, _mm256_permute2x128_si256(offset, offset, 1));
        }
    }
#pragma GCC unroll 4
    for (uint32_t w = joined; w < (always + 3) / 4; w++)
        add_window(&s, x, numbers, values, w, first, end, always - 4 * w < 4 ? always - 4 * w : 4, type);
    if (__builtin_expect(end > 4 * always, 0)) {
        if (always % 4) { /* the last window was not whole */
            uint32_t w = always / 4, left = end - 16 * w;
            __m256i window = gather_between(x, numbers, w, first, end);
#pragma GCC unroll 4
            for (uint32_t q = always % 4; q < 4; q++)
                if (4 * q < left)
                    add_unit(&s, values + (4 * w + q) * infer_sparse_unit_bytes(type), four_of(window, q), type);
        }
        for (uint32_t w = (always + 3) / 4; 16 * w < end; w++)
            switch ((end - 16 * w + 3) / 4) {
            case 1:
                add_window(&s, x, numbers, values, w, first, end, 1, type);
                break;
            case 2:
                add_window(&s, x, numbers, values, w, first, end, 2, type);
                break;
            case 3:
                add_window(&s, x, numbers, values, w, first, end, 3, type);
                break;
            default:
                add_window(&s, x, numbers, values, w, first, end, 4, type);
            }
    }
    fold_offset(&s, type);
    return s;
}

/* A block's activations where bits of its mask find them: fours of inputs, and zeros for what the lowest bit of no bits gives. */
enum { NO_FOUR = 32 };
typedef struct fours {
    _Alignas(32) int32_t x[NO_FOUR + 8];
} fours;

ALWAYS_INLINE sums multiply_16x4(const fours *f, uint32_t mask, const uint8_t *values, const uint32_t always, const infer_qtype type)
{
    const size_t unit_bytes = infer_sparse_unit_bytes(type);
    sums s = no_sums();
#pragma GCC unroll 16
    for (uint32_t q = 0; q < always; q++, mask &= mask - 1) {
        __m256i x = _mm256_set1_epi32(f->x[_tzcnt_u32(mask)]);
        add_unit(&s, values + q * unit_bytes, x, type);
        add_offset(&s, x, type);
    }
    if (__builtin_expect(mask != 0, 0))
        for (values += always * unit_bytes; mask; mask &= mask - 1, values += unit_bytes) {
            __m256i x = _mm256_set1_epi32(f->x[_tzcnt_u32(mask)]);
            add_unit(&s, values, x, type);
            add_offset(&s, x, type);
        }
    return s;
}

ALWAYS_INLINE void one_token(const infer_matmul_args *a, const infer_sparse *s, uint32_t panel, uint32_t t, __m256 out[2],
                             const uint32_t always, KIND)
{
    const size_t unit_bytes = infer_sparse_unit_bytes(type), groups = infer_q8_groups(a->k);
    const int8_t *x = a->xq.codes + 32 * t * (size_t)a->xq.row_groups;
    const float *x_scales = a->xq.scales + t * (size_t)a->xq.row_groups;
    const uint8_t *values = s->values + s->pointers[panel] * unit_bytes, *numbers = NULL, *counts = NULL;
    __m256 y[2] = {_mm256_setzero_ps(), _mm256_setzero_ps()};
    int8_t last[64] = {0}; /* of a block with one half */
    const uint16_t *scales = s->scales + panel * s->blocks * 16;
    uint32_t first = 0; /* bcsr16x1: where in the unit at `values` the block begins */
    fours f;

    if (groups % 2)
        memcpy(last, x + 32 * (groups - 1), 32);
    if (layout == INFER_LAYOUT_BCSR16X1) {
        numbers = infer_sparse_inputs(s, panel);
        counts = s->counts + panel * s->blocks;
    } else {
        for (int i = 16; i < NO_FOUR + 8; i += 8)
            _mm256_store_si256((__m256i *)(void *)(f.x + i), _mm256_setzero_si256());
    }
    for (size_t b = 0, whole = groups / 2; b < s->blocks; whole = s->blocks, x = last) /* blocks of two halves, then that of one */
        for (; b < whole; b++, x += 64, x_scales += 2, scales += 16) {
            sums sum;
            prefetch_weights((const char *)scales + WEIGHTS_AHEAD, 32);
            if (layout == INFER_LAYOUT_BCSR16X1) {
                uint32_t end = first + *counts++, done = end / 4 * 4; /* in units that no later block shares */
                prefetch_weights(values + WEIGHTS_AHEAD, (always ? always - 1 : 0) * unit_bytes); /* what a mean block has, up to MOST_ALWAYS */
                sum = multiply_16x1(x, numbers, values, first, end, always, type);
                numbers += done;
                values += done * (unit_bytes / 4);
                first = end - done;
            } else {
                uint32_t mask = infer_sparse_fours(s, panel, b);
                prefetch_weights(values + WEIGHTS_AHEAD, always * unit_bytes);
                _mm256_store_si256((__m256i *)(void *)f.x, load_256(x));
                _mm256_store_si256((__m256i *)(void *)(f.x + 8), load_256(x + 32));
                sum = multiply_16x4(&f, mask, values, always, type);
                values += (uint32_t)__builtin_popcount(mask) * unit_bytes;
            }
            add_block(y, &sum, scales, *x_scales, type);
        }
    out[0] = y[0];
    out[1] = y[1];
}

/* One token x a panel, whose units a block are multiplied `always` and more where needed: a function of its own for each number, or what their loops
 * keep would not fit the registers of one. 7 and 9 are served by the next number. */
typedef void one_token_fn(const infer_matmul_args *a, const infer_sparse *s, uint32_t panel, uint32_t t, __m256 y[2]);

#define ONE_TOKEN(always, type, layout)                                                                                                    \
    static __attribute__((noinline)) void one_token_##type##_##layout##_##always(const infer_matmul_args *a, const infer_sparse *s,        \
                                                                                 uint32_t panel, uint32_t t, __m256 y[2])                  \
    {                                                                                                                                      \
        one_token(a, s, panel, t, y, always, INFER_QTYPE_##type, INFER_LAYOUT_##layout);                                                   \
    }
#define ONE_TOKENS(type, layout)                                                                                                           \
    ONE_TOKEN(0, type, layout)                                                                                                             \
    ONE_TOKEN(1, type, layout)                                                                                                             \
    ONE_TOKEN(2, type, layout)                                                                                                             \
    ONE_TOKEN(3, type, layout)                                                                                                             \
    ONE_TOKEN(4, type, layout)                                                                                                             \
    ONE_TOKEN(5, type, layout)                                                                                                             \
    ONE_TOKEN(6, type, layout)                                                                                                             \
    ONE_TOKEN(8, type, layout)                                                                                                             \
    ONE_TOKEN(10, type, layout)                                                                                                            \
    static one_token_fn *const one_token_##type##_##layout[MOST_ALWAYS + 1] = {                                                            \
        one_token_##type##_##layout##_0, one_token_##type##_##layout##_1,  one_token_##type##_##layout##_2,                                \
        one_token_##type##_##layout##_3, one_token_##type##_##layout##_4,  one_token_##type##_##layout##_5,                                \
        one_token_##type##_##layout##_6, one_token_##type##_##layout##_8,  one_token_##type##_##layout##_8,                                \
        one_token_##type##_##layout##_10, one_token_##type##_##layout##_10};

ONE_TOKENS(Q8G64, BCSR16X1)
ONE_TOKENS(Q4G64, BCSR16X1)
ONE_TOKENS(Q8G64, BCSR16X4)
ONE_TOKENS(Q4G64, BCSR16X4)

static void few_tokens(const infer_matmul_args *a, infer_region at, one_token_fn *const *multiply, const infer_layout layout)
{
    infer_sparse s = infer_sparse_at(layout, a->w, a->n, a->k);

    for (uint32_t o = at.col0; o < at.col1; o += 16) {
        uint32_t always = infer_sparse_always(layout, &s, o / 16, MOST_ALWAYS);
        for (uint32_t t = at.row0; t < at.row1; t++) {
            __m256 y[2];
            multiply[always](a, &s, o / 16, t, y);
            store_16(a->y + (size_t)t * a->y_stride + o, at.col1 - o, y[0], y[1]);
        }
    }
}

/* ---- many tokens, bcsr16x4 ---- */

ALWAYS_INLINE void tiles(const infer_matmul_args *a, const infer_sparse *s, uint32_t o, uint32_t col1, uint32_t t0, const uint32_t tokens,
                         const infer_qtype type)
{
    size_t row_groups = a->xq.row_groups;
    const uint8_t *unit = s->values + s->pointers[o / 16] * infer_sparse_unit_bytes(type);
    const uint16_t *scales = s->scales + o / 16 * s->blocks * 16;
    __m256 y[TOKENS][2];

    for (uint32_t t = 0; t < tokens; t++)
        y[t][0] = y[t][1] = _mm256_setzero_ps();
    for (size_t b = 0; b < s->blocks; b++, scales += 16) {
        const int8_t *x = a->xq.codes + 32 * t0 * row_groups + 64 * b;
        const float *x_scale = a->xq.scales + t0 * row_groups + 2 * b;
        sums sum[TOKENS];
        for (uint32_t t = 0; t < tokens; t++)
            sum[t] = no_sums();
        for (uint32_t mask = infer_sparse_fours(s, o / 16, b); mask; mask &= mask - 1, unit += infer_sparse_unit_bytes(type)) {
            const int8_t *four = x + 4 * __builtin_ctz(mask);
            for (uint32_t t = 0; t < tokens; t++) {
                __m256i in = broadcast_32(four + 32 * (t * row_groups));
                add_unit(&sum[t], unit, in, type);
                add_offset(&sum[t], in, type);
            }
        }
        for (uint32_t t = 0; t < tokens; t++)
            add_block(y[t], &sum[t], scales, x_scale[t * row_groups], type);
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

/* ---- bcsr16x1 of many tokens, csr, bitmask ---- */

typedef struct expanded {
    _Alignas(64) uint8_t weights[EXPAND_BLOCKS][16][64]; /* tile c: inputs 4c..4c + 3; q4g64: 0..15 */
} expanded;

/* Codes of kept input i of a unit, of 16 rows: q4g64 0..15. */
ALWAYS_INLINE void columns_of(const uint8_t *unit, __m128i columns[4], const infer_qtype type)
{
    const __m128i order = _mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15), nibble = _mm_set1_epi8(15);
    __m128i part[4], pair[4];
    for (int i = 0; i < 4; i++) { /* rows 4i..4i + 3 of input 0, of input 1 ... */
        __m128i w = load_128(unit + (type == INFER_QTYPE_Q4G64 ? i % 2 : i) * 16);
        if (type == INFER_QTYPE_Q4G64)
            w = _mm_and_si128(i < 2 ? w : _mm_srli_epi16(w, 4), nibble);
        part[i] = _mm_shuffle_epi8(w, order);
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

/* bcsr16x1: blocks b0.. of a panel whose units begin at `values`; *kept: inputs kept before them. */
ALWAYS_INLINE void expand_columns(expanded *e, const infer_sparse *s, uint32_t panel, const uint8_t *values, size_t b0, size_t count,
                                  uint32_t *kept, const infer_qtype type)
{
    const uint8_t *numbers = infer_sparse_inputs(s, panel);
    __m128i columns[4];
    uint32_t n = *kept;

    if (n % 4)
        columns_of(values + n / 4 * infer_sparse_unit_bytes(type), columns, type);
    for (size_t b = 0; b < count; b++) {
        uint32_t end = n + s->counts[panel * s->blocks + b0 + b];
        __m128i inputs[64];
        for (int i = 0; i < 64; i++)
            inputs[i] = _mm_set1_epi8(type == INFER_QTYPE_Q4G64 ? 8 : 0);
        for (; n < end; n++) {
            if (n % 4 == 0)
                columns_of(values + n / 4 * infer_sparse_unit_bytes(type), columns, type);
            inputs[numbers[n]] = columns[n % 4];
        }
        for (int c = 0; c < 16; c++)
            store_tile(e->weights[b][c], inputs + 4 * c);
    }
    *kept = n;
}

/* y[t][16] += expanded blocks b0.. x tokens t0.. */
ALWAYS_INLINE void multiply_expanded(const expanded *e, const uint16_t *scales, const infer_q8_rows *xq, uint32_t t0, const uint32_t tokens,
                                     size_t b0, size_t count, size_t groups, float (*y)[16], const infer_qtype type)
{
    size_t row_groups = xq->row_groups;

    for (size_t b = 0; b < count; b++) {
        size_t first = t0 * row_groups + 2 * (b0 + b);
        const uint32_t halves = 2 * (b0 + b) + 1 < groups ? 2 : 1;
        sums sum[TOKENS];
        KEEP_IN_MEMORY();
        for (uint32_t t = 0; t < tokens; t++)
            sum[t] = no_sums();
        for (uint32_t h = 0; h < halves; h++)
#pragma GCC unroll 8
            for (uint32_t c = 0; c < 8; c++) {
                __m256i w0 = _mm256_load_si256((const __m256i *)(const void *)e->weights[b][8 * h + c]);
                __m256i w1 = _mm256_load_si256((const __m256i *)(const void *)(e->weights[b][8 * h + c] + 32));
                for (uint32_t t = 0; t < tokens; t++) {
                    __m256i x = broadcast_32(xq->codes + 32 * (first + t * row_groups + h) + 4 * c);
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
            const int16_t *offset8 = xq->offset8 + 2 * (first + t * row_groups); /* negative */
            __m256 out[2] = {_mm256_load_ps(y[t]), _mm256_load_ps(y[t] + 8)};
            if (type == INFER_QTYPE_Q4G64)
                for (uint32_t h = 0; h < halves; h++)
                    sum[t].offset = _mm256_sub_epi16(sum[t].offset, broadcast_32(offset8 + 2 * h));
            add_block(out, &sum[t], scales + (b0 + b) * 16, xq->scales[first + t * row_groups], type);
            _mm256_store_ps(y[t], out[0]);
            _mm256_store_ps(y[t] + 8, out[1]);
        }
    }
}

ALWAYS_INLINE void expanded_panels(const infer_matmul_args *a, infer_region at, KIND)
{
    infer_sparse s = infer_sparse_at(layout, a->w, a->n, a->k);
    size_t groups = infer_q8_groups(a->k);
    _Alignas(64) float y[BLOCK_TOKENS][16];
    expanded e;

    for (uint32_t t0 = at.row0; t0 < at.row1; t0 += BLOCK_TOKENS) {
        uint32_t tokens = at.row1 - t0 < BLOCK_TOKENS ? at.row1 - t0 : BLOCK_TOKENS;
        for (uint32_t o = at.col0; o < at.col1; o += 16) {
            const uint16_t *scales = s.scales + o / 16 * s.blocks * 16;
            const uint8_t *values = s.values + s.pointers[o / 16] * infer_sparse_mask_unit_bytes(type); /* bitmask */
            uint32_t next[16] = {0}; /* bcsr16x1: inputs kept so far; csr: of each row, numbers */
            memset(y, 0, tokens * sizeof y[0]);
            for (size_t b = 0; b < s.blocks; b += EXPAND_BLOCKS) {
                size_t count = s.blocks - b < EXPAND_BLOCKS ? s.blocks - b : EXPAND_BLOCKS;
                uint32_t t = 0;
                if (layout == INFER_LAYOUT_CSR)
                    infer_sparse_csr_tiles(&s, type, o, a->n, b, count, next, type == INFER_QTYPE_Q4G64 ? 8 : 0, e.weights[0][0]);
                else if (layout == INFER_LAYOUT_BITMASK)
                    for (size_t i = 0; i < count; i++)
                        values = expand_bitmask(e.weights[i][0], infer_sparse_masks(&s, o / 16, b + i), values, type);
                else
                    expand_columns(&e, &s, o / 16, s.values + s.pointers[o / 16] * infer_sparse_unit_bytes(type), b, count, next, type);
                for (; t + TOKENS <= tokens; t += TOKENS)
                    multiply_expanded(&e, scales, &a->xq, t0 + t, TOKENS, b, count, groups, y + t, type);
                for (; t < tokens; t++)
                    multiply_expanded(&e, scales, &a->xq, t0 + t, 1, b, count, groups, y + t, type);
            }
            for (uint32_t t = 0; t < tokens; t++)
                store_16(a->y + (size_t)(t0 + t) * a->y_stride + o, at.col1 - o, _mm256_load_ps(y[t]), _mm256_load_ps(y[t] + 8));
        }
    }
}

ALWAYS_INLINE void matmul(const infer_matmul_args *a, infer_region at, one_token_fn *const *few, KIND)
{
    if (at.row1 - at.row0 == 1 || (layout == INFER_LAYOUT_BCSR16X1 && at.row1 - at.row0 < EXPAND_TOKENS))
        few_tokens(a, at, few, layout);
    else if (layout == INFER_LAYOUT_BCSR16X1)
        expanded_panels(a, at, type, layout);
    else
        many_tiles(a, at, type);
}

void matmul_q8g64_bcsr16x1__avx2(const void *args, infer_region at)
{
    matmul(args, at, one_token_Q8G64_BCSR16X1, INFER_QTYPE_Q8G64, INFER_LAYOUT_BCSR16X1);
}
void matmul_q4g64_bcsr16x1__avx2(const void *args, infer_region at)
{
    matmul(args, at, one_token_Q4G64_BCSR16X1, INFER_QTYPE_Q4G64, INFER_LAYOUT_BCSR16X1);
}
void matmul_q8g64_bcsr16x4__avx2(const void *args, infer_region at)
{
    matmul(args, at, one_token_Q8G64_BCSR16X4, INFER_QTYPE_Q8G64, INFER_LAYOUT_BCSR16X4);
}
void matmul_q4g64_bcsr16x4__avx2(const void *args, infer_region at)
{
    matmul(args, at, one_token_Q4G64_BCSR16X4, INFER_QTYPE_Q4G64, INFER_LAYOUT_BCSR16X4);
}
void matmul_q8g64_csr__avx2(const void *args, infer_region at) { expanded_panels(args, at, INFER_QTYPE_Q8G64, INFER_LAYOUT_CSR); }
void matmul_q4g64_csr__avx2(const void *args, infer_region at) { expanded_panels(args, at, INFER_QTYPE_Q4G64, INFER_LAYOUT_CSR); }
void matmul_q8g64_bitmask__avx2(const void *args, infer_region at)
{
    expanded_panels(args, at, INFER_QTYPE_Q8G64, INFER_LAYOUT_BITMASK);
}
void matmul_q4g64_bitmask__avx2(const void *args, infer_region at)
{
    expanded_panels(args, at, INFER_QTYPE_Q4G64, INFER_LAYOUT_BITMASK);
}
