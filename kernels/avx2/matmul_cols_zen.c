/*
 * y = x w^T in layout `cols` on AMD's CPUs before AVX-512 (measured on Zen 3). One token: whole columns, the next four asked for. Where hardly any input
 * is skipped, each of the four comes from another quarter of the group: four streams, and memory is faster with these than with one. More tokens
 * run the AVX2 kernel.
 */
#include "cols_columns.h"

ALWAYS_INLINE void token_of_stripe(const infer_matmul_args *a, const infer_cols *w, uint32_t t, const infer_cols_span *s, lists *l,
                                   const uint32_t bits)
{
    const float *x_scales = a->xq.scales + t * (size_t)a->xq.row_groups;
    size_t pitch = infer_cols_codes_bytes(s->width, bits), bytes = infer_cols_codes_bytes(s->count, bits),
           group_bytes = infer_cols_group_bytes(s->width, bits), o0 = s->stripe * INFER_COLS_STRIPE + s->first;
    const uint8_t *scales = infer_cols_group(w, s->stripe, 0) + s->first, *codes = infer_cols_codes(w, s->stripe, 0) + s->first * bits / 8;
    __m256i sums[2][INFER_COLS_STRIPE / 8];
    _Alignas(64) float y[INFER_COLS_STRIPE];

    memset(y, 0, s->count * sizeof *y);
    for (size_t g = 0; g < w->groups; g++, scales += group_bytes, codes += group_bytes) {
        const active *now = list_of(l, a, t, g, w->groups, FOUR, FOUR);
        for (uint32_t i = 0; i < now->end; i += FOUR) {
            columns c = columns_at(now, i, codes, pitch);
            to_come next = lines_of(c);
            if (i + FOUR < now->end)
                next = lines_of(columns_at(now, i + FOUR, codes, pitch));
            else if (g + 1 < w->groups && (g + 1) % LISTED)
                next = lines_of(columns_at(now + 1, 0, codes + group_bytes, pitch));
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
