/*
 * y = x w^T in layout `cols` on AMD's CPUs before AVX-512 (measured on Zen 3). One token: four columns at a time, from their first byte to their last,
 * with the sums in L1, while the next four are asked for. Where hardly any input is skipped, each of the four comes from another quarter of the group:
 * four streams, and memory is faster with these than with one. More tokens run the AVX2 kernel.
 */
#include "cols_sums.h"

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

ALWAYS_INLINE void matmul(const infer_matmul_args *a, infer_region at, const uint32_t bits)
{
    infer_cols w = infer_cols_at(a->w, a->n, a->k, bits);
    active lists[LISTED];
    size_t listed = SIZE_MAX;

    for (size_t o = at.col0, end = infer_cols_padded(at.col1, INFER_COLS_TILE); o < end;) {
        span s = span_at(&w, o, end);
        one_token(a, &w, at.row0, &s, lists, &listed, bits);
        o += s.count;
    }
}

void matmul_q8g64_cols__zen(const void *args, infer_region at)
{
    if (at.row1 - at.row0 == 1)
        matmul(args, at, 8);
    else
        matmul_q8g64_cols__avx2(args, at);
}

void matmul_q4g64_cols__zen(const void *args, infer_region at)
{
    if (at.row1 - at.row0 == 1)
        matmul(args, at, 4);
    else
        matmul_q4g64_cols__avx2(args, at);
}
