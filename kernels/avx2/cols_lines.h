/*
 * One token x layout `cols`: a line of 64 bytes of each column of a group at a time, while lines to come are asked for: the hardware cannot know which
 * ones they are. Where inputs are skipped, lines are not taken in the order of memory either. Measured on Zen 5, where plain reading of whole columns
 * gained less by what it skipped (kernels/README.md). For AVX2, and in the registers that AVX-512 has.
 */
#ifndef INFER_KERNELS_AVX2_COLS_LINES_H
#define INFER_KERNELS_AVX2_COLS_LINES_H

#include "avx2/cols_sums.h"

enum {
    LINES = INFER_COLS_STRIPE / 64,
    AHEAD = 4 /* lines of a column from the one in use to the one that is asked for (measured) */
};

/* Where the columns of a list begin: offsets from the codes of the group's first input. */
typedef struct columns {
    const uint8_t *codes, *lines;   /* their order */
    uint32_t end, offset[2 * HALF]; /* behind `end` any column's */
} columns;

ALWAYS_INLINE void find_columns(columns *c, const active *a, const uint8_t *codes, size_t pitch, uint8_t (*orders)[LINES])
{
    c->codes = codes;
    c->lines = orders[a->scattered];
    c->end = a->end;
    for (uint32_t i = 0; i < 2 * HALF; i++)
        c->offset[i] = a->input[i] * (uint32_t)pitch;
}

ALWAYS_INLINE void ask_for(const uint8_t *line)
{
    _mm_prefetch((const char *)line, _MM_HINT_T0);
}

/* Lines that are asked for, one with each that is added. */
typedef struct to_come {
    const uint8_t *from;
    const uint32_t *offset; /* [end], and behind them any line's */
    uint32_t end;
} to_come;

/* out = byte b.. of the columns i..end - 1 of a list, while as many lines are asked for. */
ALWAYS_INLINE void add_columns(__m256i out[8], const active *a, const columns *c, size_t b, const to_come *next, uint32_t i, uint32_t end,
                               const uint32_t bits)
{
    const uint8_t *codes = c->codes + b;
    __m256i s[8];
    for (int v = 0; v < 8; v++)
        s[v] = bits == 4 ? _mm256_set1_epi16(a->start[i / HALF]) : _mm256_setzero_si256();
    for (; i < end; i += bits == 4 ? 2 : 4) {
        const uint8_t *c0 = codes + c->offset[i], *c1 = codes + c->offset[i + 1];
        ask_for(next->from + next->offset[i]);
        ask_for(next->from + next->offset[i + 1]);
        if (bits == 4) {
            int16_t pair;
            memcpy(&pair, a->x + i, sizeof pair);
            __m256i x = _mm256_set1_epi16(pair);
            add_pair(s, load_256(c0), load_256(c1), x);
            add_pair(s + 4, load_256(c0 + 32), load_256(c1 + 32), x);
        } else {
            const uint8_t *c2 = codes + c->offset[i + 2], *c3 = codes + c->offset[i + 3];
            __m256i x = broadcast_32(a->x + i), magnitude = _mm256_abs_epi8(x);
            ask_for(next->from + next->offset[i + 2]);
            ask_for(next->from + next->offset[i + 3]);
            add_four(s, load_256(c0), load_256(c1), load_256(c2), load_256(c3), x, magnitude);
            add_four(s + 4, load_256(c0 + 32), load_256(c1 + 32), load_256(c2 + 32), load_256(c3 + 32), x, magnitude);
        }
    }
    for (int v = 0; v < 8; v++)
        out[v] = s[v];
}

/* y += a group, of whose columns `lines` lines are taken. Those of the next group are asked for behind its own; with in_order,
 * offsets of lines that follow each other, a whole group ahead, as they lie, which is how memory is fastest. */
ALWAYS_INLINE void add_group(float *y, const active *a, const columns *now, const columns *next, uint32_t lines, const uint8_t *scales,
                             const uint8_t *next_scales, float x_scale, const uint32_t *in_order, const uint32_t bits)
{
    const size_t outputs = LINE * 8 / bits;
    const uint32_t part = bits == 4 && a->end > HALF ? HALF : a->end, ahead = lines < AHEAD ? lines : AHEAD;
    for (uint32_t l = 0; l < lines; l++) {
        bool inside = l + ahead < lines;
        const columns *c = inside ? now : next;
        size_t b = LINE * now->lines[l], o0 = outputs * now->lines[l];
        to_come come = {c->codes + LINE * c->lines[l + ahead - (inside ? 0 : lines)], c->offset, c->end};
        __m256i first[8], second[8];
        if (in_order)
            come = (to_come){next->codes + 2 * HALF * LINE * l, in_order, 2 * HALF};
        for (size_t o = 0; o < outputs; o += LINE)
            ask_for(next_scales + o0 + o);
        add_columns(first, a, now, b, &come, 0, part, bits);
        if (part < a->end)
            add_columns(second, a, now, b, &come, part, a->end, bits);
        else
            for (int v = 0; v < 8; v++)
                second[v] = _mm256_setzero_si256();
        for (uint32_t i = a->end; i < come.end; i++)
            ask_for(come.from + come.offset[i]);
        add_line(y + o0, first, second, scales + o0, _mm256_set1_ps(x_scale), bits);
    }
}

/* *listed: the group that the lists begin with. */
ALWAYS_INLINE void one_token(const infer_matmul_args *a, const infer_cols *w, uint32_t t, const span *s, active *lists, size_t *listed,
                             const uint32_t bits)
{
    const float *x_scales = a->xq.scales + t * (size_t)a->xq.row_groups;
    size_t pitch = infer_cols_codes_bytes(s->width, bits), bytes = infer_cols_codes_bytes(s->count, bits),
           group_bytes = infer_cols_group_bytes(s->width, bits), o0 = s->stripe * INFER_COLS_STRIPE + s->first;
    const uint8_t *scales = infer_cols_group(w, s->stripe, 0) + s->first, *codes = infer_cols_codes(w, s->stripe, 0) + s->first * bits / 8;
    _Alignas(64) float y[INFER_COLS_STRIPE];
    columns both[2];
    uint8_t orders[2][LINES]; /* of lines: as they lie, scattered */
    uint32_t in_order[2 * HALF];
    uint32_t lines = (uint32_t)(bytes / LINE);

    for (uint32_t i = 0, n = 0; i < 2 * HALF && n < lines; i++) {
        if (i < lines)
            orders[0][i] = (uint8_t)i;
        if (reversed(i) < lines)
            orders[1][n++] = (uint8_t)reversed(i);
    }
    for (uint32_t i = 0; i < 2 * HALF; i++)
        in_order[i] = LINE * i;
    memset(y, 0, s->count * sizeof *y);
    for (size_t g = 0; g < w->groups; g++, scales += group_bytes, codes += group_bytes) {
        const active *now = &lists[g % LISTED];
        bool whole, more = g + 1 < w->groups && (g + 1) % LISTED;
        if (g % LISTED == 0) {
            if (*listed != g)
                list_groups(lists, a, t, g, w->groups, 1, bits == 4 ? 2 : 4);
            *listed = g;
            find_columns(&both[g % 2], now, codes, pitch, orders);
        }
        if (more)
            find_columns(&both[(g + 1) % 2], now + 1, codes + group_bytes, pitch, orders);
        whole = s->count == s->width && !now->scattered && !now[more].scattered;
        add_group(y, now, &both[g % 2], &both[more ? (g + 1) % 2 : g % 2], lines, scales, more ? scales + group_bytes : scales,
                  x_scales[2 * g], whole ? in_order : NULL, bits);
    }
    finish(a->y + (size_t)t * a->y_stride + o0, y, w->row + o0, (uint32_t)(a->n - o0 < s->count ? a->n - o0 : s->count));
}

/* at.row1 is at.row0 + 1. */
ALWAYS_INLINE void cols_by_lines(const infer_matmul_args *a, infer_region at, const uint32_t bits)
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

#endif
