/*
 * y = x w^T in layout `cols`: see cols_sums.h, and for one token cols_token.h. More tokens: the columns that any of them needs are interleaved into
 * L1 and meet every token.
 */
#include "cols_token.h"

enum { BLOCK_TOKENS = 16 };

/* The columns of 32 inputs that any token needs, in units of two or four, for 128 outputs. */
typedef struct joined {
    uint32_t count;
    uint8_t input[HALF];
    _Alignas(32) uint8_t codes[HALF][INFER_COLS_TILE];
} joined;

ALWAYS_INLINE void join(joined *j, uint32_t mask, const uint8_t *codes, size_t pitch, const uint32_t bits)
{
    const __m256i low = _mm256_set1_epi8(15);
    uint32_t n = 0;
    for (; mask; mask &= mask - 1)
        j->input[n++] = (uint8_t)__builtin_ctz(mask);
    for (j->count = n; j->count % (bits == 4 ? 2 : 4); j->count++)
        j->input[j->count] = j->input[n - 1]; /* any: it is multiplied by 0 */
    for (uint32_t i = 0; i < j->count; i += bits == 4 ? 2 : 4) {
        const uint8_t *a = codes + j->input[i] * pitch, *b = codes + j->input[i + 1] * pitch;
        __m256i *out = (__m256i *)(void *)j->codes[i];
        if (bits == 4) {
            for (int k = 0; k < 2; k++, out += 4) {
                __m256i va = load_256(a + 32 * k), vb = load_256(b + 32 * k);
                __m256i first = _mm256_unpacklo_epi8(va, vb), second = _mm256_unpackhi_epi8(va, vb);
                out[0] = _mm256_and_si256(first, low);
                out[1] = _mm256_and_si256(_mm256_srli_epi16(first, 4), low);
                out[2] = _mm256_and_si256(second, low);
                out[3] = _mm256_and_si256(_mm256_srli_epi16(second, 4), low);
            }
        } else {
            const uint8_t *c = codes + j->input[i + 2] * pitch, *d = codes + j->input[i + 3] * pitch;
            for (int k = 0; k < 4; k++, out += 4) {
                __m256i va = load_256(a + 32 * k), vb = load_256(b + 32 * k), vc = load_256(c + 32 * k), vd = load_256(d + 32 * k);
                __m256i ab = _mm256_unpacklo_epi8(va, vb), cd = _mm256_unpacklo_epi8(vc, vd);
                out[0] = _mm256_unpacklo_epi16(ab, cd);
                out[1] = _mm256_unpackhi_epi16(ab, cd);
                ab = _mm256_unpackhi_epi8(va, vb);
                cd = _mm256_unpackhi_epi8(vc, vd);
                out[2] = _mm256_unpacklo_epi16(ab, cd);
                out[3] = _mm256_unpackhi_epi16(ab, cd);
            }
        }
    }
    for (uint32_t i = n; i < j->count; i++)
        j->input[i] = HALF;
}

/* out = a tile's columns x the activations of a token; `more`: out += them (q8g64) */
ALWAYS_INLINE void multiply(const joined *j, const int8_t *codes, const int16_t *offset8, __m256i *out, bool more, const uint32_t bits)
{
    int8_t x[HALF + 1];
    memcpy(x, codes, HALF);
    x[HALF] = 0;
    for (int part = 0; part < (bits == 4 ? 1 : 2); part++, out += 8) {
        __m256i sums[8];
        for (int v = 0; v < 8; v++)
            sums[v] = bits == 4 ? _mm256_set1_epi16((int16_t)(offset8[0] + offset8[1])) : more ? out[v] : _mm256_setzero_si256();
        for (uint32_t i = 0; i < j->count; i += bits == 4 ? 2 : 4) {
            const __m256i *w = (const __m256i *)(const void *)j->codes[i] + 8 * part;
            if (bits == 4) {
                __m256i pair = _mm256_set1_epi16((int16_t)((uint8_t)x[j->input[i]] | x[j->input[i + 1]] * 256));
#pragma GCC unroll 8
                for (int v = 0; v < 8; v++)
                    sums[v] = _mm256_add_epi16(sums[v], _mm256_maddubs_epi16(w[v], pair));
            } else {
                int8_t four[4] = {x[j->input[i]], x[j->input[i + 1]], x[j->input[i + 2]], x[j->input[i + 3]]};
                __m256i xs = broadcast_32(four), magnitude = _mm256_abs_epi8(xs);
#pragma GCC unroll 8
                for (int v = 0; v < 8; v++)
                    sums[v] = add_products(sums[v], w[v], xs, magnitude);
            }
        }
        for (int v = 0; v < 8; v++)
            out[v] = sums[v];
    }
}

ALWAYS_INLINE void tokens(const infer_matmul_args *a, const infer_cols *w, uint32_t t0, uint32_t t1, const infer_cols_stripe *s, const uint32_t bits)
{
    size_t halves = infer_q8_groups(a->k), pitch = infer_cols_codes_bytes(s->width, bits), o0 = s->at;
    const size_t tile_bytes = infer_cols_group_bytes(INFER_COLS_TILE, bits); /* of a group */
    _Alignas(64) float y[BLOCK_TOKENS][INFER_COLS_STRIPE];
    joined j[2];

    for (uint32_t t = t0; t < t1; t++)
        memset(y[t - t0], 0, s->width * sizeof y[0][0]);
    for (size_t g = 0; g < w->groups; g++) {
        const uint8_t *scales = infer_cols_group(w, s, g), *codes = infer_cols_codes(w, s, g), *next = infer_cols_group(w, s, g + 1);
        size_t count = halves - 2 * g < 2 ? 1 : 2;
        uint32_t mask[2] = {0, 0};
        for (uint32_t t = t0; t < t1; t++)
            for (size_t h = 0; h < count; h++)
                mask[h] |= active_mask(a->xq.codes + HALF * (t * (size_t)a->xq.row_groups + 2 * g + h));
        for (size_t o = 0; o < s->width; o += INFER_COLS_TILE) {
            prefetch(next, tile_bytes);
            next += tile_bytes;
            for (size_t h = 0; h < count; h++)
                join(&j[h], mask[h], codes + HALF * h * pitch + o * bits / 8, pitch, bits);
            for (uint32_t t = t0; t < t1; t++) {
                size_t at = t * (size_t)a->xq.row_groups + 2 * g;
                __m256i sums[2][16];
                for (size_t h = 0; h < count; h++)
                    multiply(&j[h], a->xq.codes + HALF * (at + h), a->xq.offset8 + 2 * (at + h), sums[bits == 4 ? h : 0],
                             bits == 8 && h > 0, bits);
                for (int v = 0; v < 8 && bits == 4 && count == 1; v++)
                    sums[1][v] = _mm256_setzero_si256();
                for (size_t l = 0; l < bits / 4; l++)
                    add_line(y[t - t0] + o + 64 * l, sums[0] + 8 * l, sums[1] + 8 * l, scales + o + 64 * l,
                             _mm256_set1_ps(a->xq.scales[at]), bits);
            }
        }
    }
    for (uint32_t t = t0; t < t1; t++)
        finish(a->y + (size_t)t * a->y_stride + o0, y[t - t0], w->row + o0, (uint32_t)(a->n - o0 < s->width ? a->n - o0 : s->width));
}

ALWAYS_INLINE void matmul(const infer_matmul_args *a, infer_region at, const uint32_t bits)
{
    infer_cols w = infer_cols_at(a->w, a->n, a->k, bits);

    if (at.row1 - at.row0 == 1) {
        cols_token(a, at, bits);
        return;
    }
    for (size_t o = at.col0; o < at.col1;) {
        infer_cols_stripe s = infer_cols_stripe_of(&w, o);
        for (uint32_t t = at.row0; t < at.row1; t += BLOCK_TOKENS)
            tokens(a, &w, t, at.row1 - t < BLOCK_TOKENS ? at.row1 : t + BLOCK_TOKENS, &s, bits);
        o += s.width;
    }
}

void matmul_q8g64_cols__avx2(const void *args, infer_region at) { matmul(args, at, 8); }
void matmul_q4g64_cols__avx2(const void *args, infer_region at) { matmul(args, at, 4); }
