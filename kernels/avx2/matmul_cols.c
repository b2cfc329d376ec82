/*
 * y = x w^T in layout `cols`: see cols_sums.h. One token: four columns at a time, from their first byte to their last, with the sums in L1, while
 * the next four are asked for. More tokens: the columns that any of them needs are interleaved into L1 and meet every token.
 */
#include "cols_sums.h"

enum {
    BLOCK_TOKENS = 16,
    BLOCK_OUTPUTS = 512 /* with more tokens */
};

/* ---- one token ---- */

/*
 * Where hardly any input is skipped, each of the four columns comes from another quarter of the group: four streams, and memory is faster with these
 * than with one.
 */

/* Four columns of a list. */
typedef struct columns {
    const uint8_t *at[4];
} columns;

ALWAYS_INLINE columns find_columns(const active *a, uint32_t i, const uint8_t *codes, size_t pitch)
{
    return (columns){{codes + a->input[i] * pitch, codes + a->input[i + 1] * pitch, codes + a->input[i + 2] * pitch, codes + a->input[i + 3] * pitch}};
}

/* sums[bytes / 32][4] = (first: start; else sums) + `bytes` bytes of the columns of inputs i.. of a list; those in `next` are asked for. */
ALWAYS_INLINE void add_columns(__m256i *sums, const active *a, uint32_t i, const columns *c, const columns *next, size_t bytes, const bool first,
                               const uint32_t bits)
{
    const uint8_t *c0 = c->at[0], *c1 = c->at[1], *c2 = c->at[2], *c3 = c->at[3];
    const __m256i start = bits == 4 ? _mm256_set1_epi16(a->start[i / HALF]) : _mm256_setzero_si256();
    int16_t pairs[2];
    memcpy(pairs, a->x + i, sizeof pairs);
    const __m256i x01 = _mm256_set1_epi16(pairs[0]), x23 = _mm256_set1_epi16(pairs[1]), x = broadcast_32(pairs), magnitude = _mm256_abs_epi8(x);

    for (size_t b = 0; b < bytes; b += 32, sums += 4) {
        __m256i s[4] = {start, start, start, start};
        for (int v = 0; v < 4 && !first; v++)
            s[v] = sums[v];
        if (b % LINE == 0)
            for (int k = 0; k < 4; k++)
                _mm_prefetch((const char *)next->at[k] + b, _MM_HINT_T0);
        if (bits == 4) {
            add_pair(s, load_256(c0 + b), load_256(c1 + b), x01);
            add_pair(s, load_256(c2 + b), load_256(c3 + b), x23);
        } else {
            add_four(s, load_256(c0 + b), load_256(c1 + b), load_256(c2 + b), load_256(c3 + b), x, magnitude);
        }
        for (int v = 0; v < 4; v++)
            sums[v] = s[v];
    }
}

/* *listed: the group that the lists begin with. */
ALWAYS_INLINE void one_token(const infer_matmul_args *a, const infer_cols *w, uint32_t t, const span *s, active *lists, size_t *listed,
                             const uint32_t bits)
{
    const float *x_scales = a->xq.scales + t * (size_t)a->xq.row_groups;
    size_t pitch = infer_cols_codes_bytes(s->width, bits), bytes = infer_cols_codes_bytes(s->count, bits),
           group_bytes = infer_cols_group_bytes(s->width, bits), o0 = s->stripe * INFER_COLS_STRIPE + s->first, outputs = LINE * 8 / bits;
    const uint8_t *scales = infer_cols_group(w, s->stripe, 0) + s->first, *codes = infer_cols_codes(w, s->stripe, 0) + s->first * bits / 8;
    const uint32_t part_inputs = bits == 4 ? HALF : 2 * HALF;
    static const __m256i none[8];
    __m256i sums[2][INFER_COLS_STRIPE / 8];
    _Alignas(64) float y[INFER_COLS_STRIPE];

    memset(y, 0, s->count * sizeof *y);
    for (size_t g = 0; g < w->groups; g++, scales += group_bytes, codes += group_bytes) {
        const active *now = &lists[g % LISTED];
        if (g % LISTED == 0) {
            if (*listed != g)
                list_groups(lists, a, t, g, w->groups, 4, 4);
            *listed = g;
        }
        for (uint32_t i = 0; i < now->end; i += 4) {
            columns c = find_columns(now, i, codes, pitch), next;
            if (i + 4 < now->end)
                next = find_columns(now, i + 4, codes, pitch);
            else if (g + 1 < w->groups && (g + 1) % LISTED)
                next = find_columns(now + 1, 0, codes + group_bytes, pitch);
            else
                next = c;
            if (i % part_inputs == 0)
                add_columns(sums[i / part_inputs], now, i, &c, &next, bytes, true, bits);
            else
                add_columns(sums[i / part_inputs], now, i, &c, &next, bytes, false, bits);
        }
        for (size_t l = 0; l < bytes / LINE; l++) /* of no inputs too: the scale may be NaN */
            add_line(y + outputs * l, now->end ? sums[0] + 8 * l : none, now->end > part_inputs ? sums[1] + 8 * l : none, scales + outputs * l,
                     _mm256_set1_ps(x_scales[2 * g]), bits);
    }
    finish(a->y + (size_t)t * a->y_stride + o0, y, w->row + o0, (uint32_t)(a->n - o0 < s->count ? a->n - o0 : s->count));
}

/* ---- more tokens ---- */

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

ALWAYS_INLINE void tokens(const infer_matmul_args *a, const infer_cols *w, uint32_t t0, uint32_t t1, const span *s, const uint32_t bits)
{
    size_t halves = infer_q8_groups(a->k), pitch = infer_cols_codes_bytes(s->width, bits), o0 = s->stripe * INFER_COLS_STRIPE + s->first;
    _Alignas(64) float y[BLOCK_TOKENS][BLOCK_OUTPUTS];
    joined j[2];

    for (uint32_t t = t0; t < t1; t++)
        memset(y[t - t0], 0, s->count * sizeof y[0][0]);
    for (size_t g = 0; g < w->groups; g++) {
        const uint8_t *scales = infer_cols_group(w, s->stripe, g) + s->first,
                      *codes = infer_cols_codes(w, s->stripe, g) + s->first * bits / 8;
        size_t count = halves - 2 * g < 2 ? 1 : 2;
        uint32_t mask[2] = {0, 0};
        for (uint32_t t = t0; t < t1; t++)
            for (size_t h = 0; h < count; h++)
                mask[h] |= active_mask(a->xq.codes + HALF * (t * (size_t)a->xq.row_groups + 2 * g + h));
        for (size_t o = 0; o < s->count; o += INFER_COLS_TILE) {
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
        finish(a->y + (size_t)t * a->y_stride + o0, y[t - t0], w->row + o0, (uint32_t)(a->n - o0 < s->count ? a->n - o0 : s->count));
}

ALWAYS_INLINE void matmul(const infer_matmul_args *a, infer_region at, const uint32_t bits)
{
    infer_cols w = infer_cols_at(a->w, a->n, a->k, bits);
    bool one = at.row1 - at.row0 == 1;
    active lists[LISTED];
    size_t listed = SIZE_MAX;

    for (size_t o = at.col0, end = infer_cols_padded(at.col1, INFER_COLS_TILE), most = one ? INFER_COLS_STRIPE : BLOCK_OUTPUTS; o < end;) {
        span s = span_at(&w, o, end);
        s.count = s.count < most ? s.count : most;
        if (one)
            one_token(a, &w, at.row0, &s, lists, &listed, bits);
        for (uint32_t t = at.row0; !one && t < at.row1; t += BLOCK_TOKENS)
            tokens(a, &w, t, at.row1 - t < BLOCK_TOKENS ? at.row1 : t + BLOCK_TOKENS, &s, bits);
        o += s.count;
    }
}

void matmul_q8g64_cols__avx2(const void *args, infer_region at)
{
    matmul(args, at, 8);
}
void matmul_q4g64_cols__avx2(const void *args, infer_region at)
{
    matmul(args, at, 4);
}
