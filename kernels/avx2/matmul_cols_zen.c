/*
 * y = x w^T in layout `cols` on AMD's CPUs before AVX-512 (measured on Zen 3). One token: whole columns, the next four asked for. Where hardly any input
 * is skipped, each of the four comes from another quarter of the group: four streams, and memory is faster with these than with one. More tokens
 * run the AVX2 kernel.
 */
#include "cols_sums.h"

enum { FOUR = 4 };

/* Four columns of a list. */
typedef struct columns {
    const uint8_t *at[FOUR];
} columns;

ALWAYS_INLINE columns columns_at(const active *a, uint32_t i, const uint8_t *codes, size_t pitch)
{
    const uint8_t *input = a->input + i;
    return (columns){{codes + input[0] * pitch, codes + input[1] * pitch, codes + input[2] * pitch, codes + input[3] * pitch}};
}

/* sums[bytes / 32][4] = (first: start; else sums) + `bytes` bytes of the columns of inputs i.. of a list, while those of `next` are asked for */
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
        for (int k = 0; k < FOUR && b % LINE == 0; k++)
            prefetch(next->at[k] + b, LINE);
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

/* sums: of the part of the group that inputs i.. of the list belong to; their columns `c` are added, or are its first. */
ALWAYS_INLINE void add_four_columns(__m256i (*sums)[INFER_COLS_STRIPE / 8], const active *a, uint32_t i, const columns *c, const columns *next,
                                    size_t bytes, const uint32_t bits)
{
    const uint32_t part_inputs = bits == 4 ? HALF : 2 * HALF;
    if (i % part_inputs == 0)
        add_columns(sums[i / part_inputs], a, i, c, next, bytes, true, bits);
    else
        add_columns(sums[i / part_inputs], a, i, c, next, bytes, false, bits);
}

/* y += a group whose columns were summed up. Of no inputs too: the scale may be NaN. */
ALWAYS_INLINE void add_sums(float *y, __m256i (*sums)[INFER_COLS_STRIPE / 8], const active *a, const uint8_t *scales, float x_scale, size_t bytes,
                            const uint32_t bits)
{
    static const __m256i none[8];
    const uint32_t part_inputs = bits == 4 ? HALF : 2 * HALF;
    const size_t outputs = LINE * 8 / bits;
    for (size_t l = 0; l < bytes / LINE; l++)
        add_line(y + outputs * l, a->end ? sums[0] + 8 * l : none, a->end > part_inputs ? sums[1] + 8 * l : none, scales + outputs * l,
                 _mm256_set1_ps(x_scale), bits);
}

ALWAYS_INLINE void token_of_stripe(const infer_matmul_args *a, const infer_cols *w, uint32_t t, const infer_cols_span *s, lists *l,
                                   const uint32_t bits)
{
    const float *x_scales = a->xq.scales + t * (size_t)a->xq.row_groups;
    size_t pitch = infer_cols_codes_bytes(s->width, bits), bytes = infer_cols_codes_bytes(s->count, bits),
           group_bytes = infer_cols_group_bytes(s->width, bits), o0 = s->at;
    const uint8_t *scales = infer_cols_group(w, s, 0) + s->first, *codes = infer_cols_codes(w, s, 0) + s->first * bits / 8;
    __m256i sums[2][INFER_COLS_STRIPE / 8];
    _Alignas(64) float y[INFER_COLS_STRIPE];

    memset(y, 0, s->count * sizeof *y);
    for (size_t g = 0; g < w->groups; g++, scales += group_bytes, codes += group_bytes) {
        const active *now = list_of(l, a, t, g, w->groups, FOUR, FOUR);
        for (uint32_t i = 0; i < now->end; i += FOUR) {
            columns c = columns_at(now, i, codes, pitch);
            columns next = c;
            if (i + FOUR < now->end)
                next = columns_at(now, i + FOUR, codes, pitch);
            else if (g + 1 < w->groups && (g + 1) % LISTED)
                next = columns_at(now + 1, 0, codes + group_bytes, pitch);
            add_four_columns(sums, now, i, &c, &next, bytes, bits);
        }
        add_sums(y, sums, now, scales, x_scales[2 * g], bytes, bits);
    }
    finish(a->y + (size_t)t * a->y_stride + o0, y, w->row + o0, (uint32_t)(a->n - o0 < s->count ? a->n - o0 : s->count));
}

ALWAYS_INLINE void one_token(const infer_matmul_args *a, infer_region at, const uint32_t bits)
{
    infer_cols w = infer_cols_at(a->w, a->n, a->k, bits);
    lists l; /* 70 KB: each is written before it is read */

    l.first = SIZE_MAX;
    for (size_t o = at.col0, end = infer_cols_padded(at.col1, INFER_COLS_TILE); o < end;) {
        infer_cols_span s = infer_cols_span_at(&w, o, end, INFER_COLS_STRIPE);
        token_of_stripe(a, &w, at.row0, &s, &l, bits);
        o += s.count;
    }
}

void matmul_q8g64_cols__zen(const void *args, infer_region at)
{
    if (at.row1 - at.row0 == 1)
        one_token(args, at, 8);
    else
        matmul_q8g64_cols__avx2(args, at);
}

void matmul_q4g64_cols__zen(const void *args, infer_region at)
{
    if (at.row1 - at.row0 == 1)
        one_token(args, at, 4);
    else
        matmul_q4g64_cols__avx2(args, at);
}
