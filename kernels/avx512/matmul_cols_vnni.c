/*
 * y = x w^T in layout `cols`, several tokens, with vpdpbusd. The columns that any of the tokens needs, interleaved by fours into L1 as
 * unsigned codes, meet every token: vpermb brings its activations into the same order. Sums start from -offset x the sum of the
 * activations, as in matmul_vnni.h.
 *
 * One token, which memory bounds, runs the AVX2 kernel: compiled for AVX-512 it is slower where most inputs count (measured).
 */
#include "avx512/matmul_vnni.h"
#include "cols.h"

enum {
    COLS_TOKENS = 64,
    VECTORS = INFER_COLS_TILE / 16
};

/*
 * The columns of 64 inputs that any token needs, for a tile of 128 outputs: units of four, the last one filled up with any. As interleaving
 * leaves them, lane 4L + j of vector v is output 64 (v / 4) + 16L + 4 (v % 4) + j of the tile; so are all sums, until they are finished.
 */
typedef struct joined {
    uint64_t inputs;
    uint32_t units;
    _Alignas(64) uint8_t numbers[INFER_COLS_GROUP]; /* of the inputs, one after the other; then 64 */
    _Alignas(64) uint8_t codes[INFER_COLS_GROUP / 4][VECTORS][64];
} joined;

/* 64 bytes of each of four columns. */
ALWAYS_INLINE void interleave(const uint8_t *const column[4], size_t at, __m512i out[4])
{
    __m512i c[4], ab, cd;
    for (int i = 0; i < 4; i++)
        c[i] = _mm512_loadu_si512(column[i] + at);
    ab = _mm512_unpacklo_epi8(c[0], c[1]);
    cd = _mm512_unpacklo_epi8(c[2], c[3]);
    out[0] = _mm512_unpacklo_epi16(ab, cd);
    out[1] = _mm512_unpackhi_epi16(ab, cd);
    ab = _mm512_unpackhi_epi8(c[0], c[1]);
    cd = _mm512_unpackhi_epi8(c[2], c[3]);
    out[2] = _mm512_unpacklo_epi16(ab, cd);
    out[3] = _mm512_unpackhi_epi16(ab, cd);
}

ALWAYS_INLINE void join_unit(uint8_t (*codes)[64], const uint8_t *const column[4], const uint32_t bits)
{
    const __m512i low = _mm512_set1_epi8(15), sign = _mm512_set1_epi8((char)0x80);
    __m512i w[VECTORS];
    interleave(column, 0, w);
    if (bits == 8)
        interleave(column, 64, w + 4);
    for (int v = 0; v < 4; v++) {
        w[4 + v] = bits == 4 ? _mm512_and_si512(_mm512_srli_epi16(w[v], 4), low) : _mm512_xor_si512(w[4 + v], sign);
        w[v] = bits == 4 ? _mm512_and_si512(w[v], low) : _mm512_xor_si512(w[v], sign);
    }
    for (int v = 0; v < VECTORS; v++)
        _mm512_store_si512(codes[v], w[v]);
}

ALWAYS_INLINE void join(joined *j, const uint8_t *codes, size_t pitch, const uint32_t bits)
{
    uint64_t left = j->inputs;
    uint32_t n = 0;
    const uint8_t *column[4] = {codes, codes, codes, codes};

    _mm512_store_si512(j->numbers, _mm512_set1_epi8(INFER_COLS_GROUP));
    for (j->units = 0; left; j->units++) {
        for (int i = 0; i < 4 && left; i++, left &= left - 1) {
            j->numbers[n] = (uint8_t)_tzcnt_u64(left);
            column[i] = codes + j->numbers[n++] * pitch;
        }
        join_unit(j->codes[j->units], column, bits);
    }
}

/* infer_cols_scale of what vector v has of 64 bytes. */
ALWAYS_INLINE __m512 scales_of(__m512i bytes, const int v)
{
    const __m512i places = _mm512_broadcast_i32x4(_mm_setr_epi8(-1, -1, -1, 0, -1, -1, -1, 1, -1, -1, -1, 2, -1, -1, -1, 3));
    __m512i top = _mm512_shuffle_epi8(bytes, _mm512_or_si512(places, _mm512_set1_epi32(v << 26))); /* bytes 4v.. */
    __m512i bits = _mm512_and_si512(_mm512_srai_epi32(top, 5), _mm512_set1_epi32((int32_t)0x83f80000));
    return _mm512_castsi512_ps(_mm512_add_epi32(bits, _mm512_set1_epi32(120 << 23)));
}

/* y += a tile's columns x the activations of a token: its codes of this group, 64 where `mask` has them. */
ALWAYS_INLINE void multiply(float *y, const joined *j, const int8_t *codes, __mmask64 mask, int32_t offset, const uint8_t *scales,
                            float x_scale)
{
    _Alignas(64) uint8_t x[64];
    __m512i sums[VECTORS], numbers = _mm512_load_si512(j->numbers);

    _mm512_store_si512(x, _mm512_maskz_permutexvar_epi8(_mm512_cmplt_epu8_mask(numbers, _mm512_set1_epi8(INFER_COLS_GROUP)), numbers,
                                                        _mm512_maskz_loadu_epi8(mask, codes)));
#pragma GCC unroll 8
    for (int v = 0; v < VECTORS; v++)
        sums[v] = _mm512_set1_epi32(offset);
    for (uint32_t i = 0; i < j->units; i++)
#pragma GCC unroll 8
        for (int v = 0; v < VECTORS; v++)
            sums[v] = add_products(sums[v], _mm512_load_si512(j->codes[i][v]), x + 4 * i);
#pragma GCC unroll 8
    for (int v = 0; v < VECTORS; v++) {
        __m512 scale = scales_of(_mm512_loadu_si512(scales + 64 * (v / 4)), v % 4);
        _mm512_store_ps(y + 16 * v, add_group(_mm512_load_ps(y + 16 * v), sums[v], scale, x_scale));
    }
}

/* out[count] = y x row, in the order of outputs. */
ALWAYS_INLINE void finish_64(float *out, const float *y, const float *row, uint32_t count)
{
    __m512 v[4] = {_mm512_load_ps(y), _mm512_load_ps(y + 16), _mm512_load_ps(y + 32), _mm512_load_ps(y + 48)};
    __m512 low01 = _mm512_shuffle_f32x4(v[0], v[1], 0x44), high01 = _mm512_shuffle_f32x4(v[0], v[1], 0xee);
    __m512 low23 = _mm512_shuffle_f32x4(v[2], v[3], 0x44), high23 = _mm512_shuffle_f32x4(v[2], v[3], 0xee);

    v[0] = _mm512_shuffle_f32x4(low01, low23, 0x88);
    v[1] = _mm512_shuffle_f32x4(low01, low23, 0xdd);
    v[2] = _mm512_shuffle_f32x4(high01, high23, 0x88);
    v[3] = _mm512_shuffle_f32x4(high01, high23, 0xdd);
    for (uint32_t l = 0; l < 4 && 16 * l < count; l++)
        _mm512_mask_storeu_ps(out + 16 * l, lanes_below(count - 16 * l), _mm512_mul_ps(v[l], _mm512_loadu_ps(row + 16 * l)));
}

ALWAYS_INLINE void tokens(const infer_matmul_args *a, const infer_cols *w, uint32_t t0, uint32_t t1, const infer_cols_stripe *s, const uint32_t bits)
{
    size_t groups = infer_q8_groups(a->k), row_groups = a->xq.row_groups, pitch = infer_cols_codes_bytes(s->width, bits);
    const size_t tile_bytes = infer_cols_group_bytes(INFER_COLS_TILE, bits); /* of a group */
    size_t o0 = s->at;
    _Alignas(64) float y[COLS_TOKENS * INFER_COLS_STRIPE]; /* [t][s->width] */
    joined j;

    memset(y, 0, (t1 - t0) * s->width * sizeof *y);
    for (size_t g = 0; g < w->groups; g++) {
        const uint8_t *scales = infer_cols_group(w, s, g), *columns = infer_cols_codes(w, s, g), *next = infer_cols_group(w, s, g + 1);
        bool both = 2 * g + 1 < groups;
        __mmask64 exist = both ? ~0ull : ~0u;
        j.inputs = 0;
        for (uint32_t t = t0; t < t1; t++) {
            __m512i codes = _mm512_maskz_loadu_epi8(exist, a->xq.codes + 32 * (t * row_groups + 2 * g));
            j.inputs |= _mm512_test_epi8_mask(codes, codes);
        }
        for (size_t o = 0; o < s->width; o += INFER_COLS_TILE) {
            for (size_t line = 0; line < tile_bytes; line += 64, next += 64)
                _mm_prefetch((const char *)next, _MM_HINT_T0);
            join(&j, columns + o * bits / 8, pitch, bits);
            for (uint32_t t = t0; t < t1; t++) {
                size_t at = t * row_groups + 2 * g;
                const int16_t *offset8 = a->xq.offset8 + 2 * at;
                int32_t offset = (offset8[0] + offset8[1] + (both ? offset8[2] + offset8[3] : 0)) * (bits == 4 ? 1 : 16);
                multiply(y + (t - t0) * s->width + o, &j, a->xq.codes + 32 * at, exist, offset, scales + o, a->xq.scales[at]);
            }
        }
    }
    for (uint32_t t = t0; t < t1; t++)
        for (size_t o = 0; o < s->width && o0 + o < a->n; o += 64)
            finish_64(a->y + (size_t)t * a->y_stride + o0 + o, y + (t - t0) * s->width + o, w->row + o0 + o,
                      (uint32_t)(a->n - o0 - o < 64 ? a->n - o0 - o : 64));
}

ALWAYS_INLINE void matmul(const infer_matmul_args *a, infer_region at, const uint32_t bits)
{
    infer_cols w = infer_cols_at(a->w, a->n, a->k, bits);

    for (size_t o = at.col0; o < at.col1;) {
        infer_cols_stripe s = infer_cols_stripe_of(&w, o);
        for (uint32_t t = at.row0; t < at.row1; t += COLS_TOKENS)
            tokens(a, &w, t, at.row1 - t < COLS_TOKENS ? at.row1 : t + COLS_TOKENS, &s, bits);
        o += s.width;
    }
}

void matmul_q8g64_cols__avx512vnni(const void *args, infer_region at)
{
    if (at.row1 - at.row0 == 1)
        matmul_q8g64_cols__avx2(args, at);
    else
        matmul(args, at, 8);
}

void matmul_q4g64_cols__avx512vnni(const void *args, infer_region at)
{
    if (at.row1 - at.row0 == 1)
        matmul_q4g64_cols__avx2(args, at);
    else
        matmul(args, at, 4);
}
