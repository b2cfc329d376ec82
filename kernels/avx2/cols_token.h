/*
 * y = x w^T in layout `cols`, one token. A line of 64 bytes of each column of a group is taken at a time. Where hardly any input is skipped, what follows
 * is asked for in the order of memory. Elsewhere lines that the hardware cannot know of are, listed beforehand, and columns are taken in an order
 * that it does not take for a pattern: it would read what is skipped.
 */
#ifndef INFER_KERNELS_AVX2_COLS_TOKEN_H
#define INFER_KERNELS_AVX2_COLS_TOKEN_H

#include "avx2/cols_sums.h"

enum {
    LINES = COLUMN / LINE,
    LINES_AHEAD = 320,       /* from what is read to what is asked for, of columns that are not skipped (measured) */
    BYTES_AHEAD = 16 << 10,  /* the same in the order of memory (measured) */
    SCALES_AHEAD = 1         /* groups */
};

/* Where the lines of a column lie, in the order in which they are taken: neighbours are asked for far from each other. */
static const uint8_t line_order[LINES + 1][LINES] = {{0}, {0}, {0, 1}, {0, 2, 1}, {0, 2, 1, 3}};

/* The lines of columns that are not skipped, of all groups that have lists, as they are asked for; `ahead` of the next stripe follow. */
typedef struct asks {
    size_t first, lines;  /* group; of a column */
    uint32_t count, ahead;
    uint16_t line[LISTED * 2 * HALF * LINES + LINES_AHEAD + 8]; /* counted from the first group's scales */
} asks;

/* `line` moves to that of another stripe, two stripes of the longest list apart at most. */
_Static_assert(2 * LISTED * (INFER_COLS_STRIPE / LINE + 2 * HALF * LINES) <= UINT16_MAX, "lines are counted in 16 bits");

/* Two groups in turn, four columns of each, a line of all these after the other (measured). */
ALWAYS_INLINE void list_asks(asks *k, const lists *l, size_t lines, size_t group_lines, size_t scale_lines)
{
    uint32_t n = 0;

    k->first = l->first;
    k->lines = lines;
    for (size_t g = 0; g < l->count; g += 2) {
        const uint32_t from = n;
        uint32_t count;
        for (uint32_t i = 0; i < 2 * HALF; i += 4)
            for (size_t r = g; r < g + 2 && r < l->count; r++) {
                const active *a = &l->of[r];
                __m128i four;
                if (i >= a->end)
                    continue;
                four = _mm_srli_epi16(_mm_loadl_epi64((const __m128i *)(const void *)(a->column + i)), 8); /* / COLUMN */
                four = _mm_add_epi16(_mm_mullo_epi16(four, _mm_set1_epi16((int16_t)lines)), _mm_set1_epi16((int16_t)(r * group_lines + scale_lines)));
                _mm_storel_epi64((__m128i *)(void *)(k->line + n), four);
                n += a->end - i < 4 ? a->end - i : 4;
            }
        count = n - from;
        for (size_t i = 1; i < lines; i++, n += count)
            for (uint32_t c = 0; c < count; c += 8)
                _mm_storeu_si128((__m128i *)(void *)(k->line + n + c), _mm_add_epi16(load_128(k->line + from + c), _mm_set1_epi16(line_order[lines][i])));
    }
    k->count = n;
    k->ahead = n < LINES_AHEAD ? n : LINES_AHEAD;
}

/* What stands behind the last line: the first ones of the stripe that is so many lines away, or nothing new (0). */
ALWAYS_INLINE void ask_on(asks *k, size_t distance)
{
    for (uint32_t i = 0; i < k->ahead; i++)
        k->line[k->count + i] = distance ? (uint16_t)(k->line[i] + distance) : k->line[k->count - 1];
}

/* 0, but not before this byte is there. */
ALWAYS_INLINE size_t wait_for(const uint8_t *read)
{
    uint32_t byte = *read;
    __asm__("" : "+r"(byte));
    return byte >> 8;
}

/* sums += a line of 2 (q4g64) or 4 columns */
ALWAYS_INLINE void add_unit(__m256i sums[8], const uint8_t *const c[4], const int8_t *x, const uint32_t bits)
{
    if (bits == 4) {
        int16_t two;
        memcpy(&two, x, sizeof two);
        __m256i pair = _mm256_set1_epi16(two);
        add_pair(sums, load_256(c[0]), load_256(c[1]), pair);
        add_pair(sums + 4, load_256(c[0] + 32), load_256(c[1] + 32), pair);
    } else {
        __m256i four = broadcast_32(x), magnitude = _mm256_abs_epi8(four);
        add_four(sums, load_256(c[0]), load_256(c[1]), load_256(c[2]), load_256(c[3]), four, magnitude);
        add_four(sums + 4, load_256(c[0] + 32), load_256(c[1] + 32), load_256(c[2] + 32), load_256(c[3] + 32), four, magnitude);
    }
}

/* sums = start + a line of columns i..end - 1 of a list; codes: that line of input 0. As many lines are asked for, ask[i].. of `from`, each when what is
 * added is there: asked for as soon as instructions allow, all come later (measured). */
ALWAYS_INLINE void sum_columns(__m256i sums[8], __m256i start, const active *a, const uint8_t *codes, uint32_t i, uint32_t end, const uint16_t *ask,
                               const uint8_t *from, const size_t pitch, const uint32_t bits)
{
    const uint32_t unit = bits == 4 ? 2 : 4;
    __m256i s[8];
    for (int v = 0; v < 8; v++)
        s[v] = start;
    for (; i < end; i += unit) {
        const uint8_t *c[4], *there;
        for (uint32_t k = 0; k < unit; k++)
            c[k] = column_of(a, i + k, codes, pitch);
        there = from + wait_for(c[unit - 1]);
        for (uint32_t k = 0; k < unit; k++)
            prefetch(there + LINE * (size_t)ask[i + k], LINE);
        add_unit(s, c, a->x + i, bits);
    }
    for (int v = 0; v < 8; v++)
        sums[v] = s[v];
}

ALWAYS_INLINE __m256i start_sum(const active *a, uint32_t i, const uint32_t bits)
{
    return bits == 4 ? _mm256_set1_epi16(a->start[i / HALF]) : _mm256_setzero_si256();
}

/* y += the groups of a stripe that have lists, from the scales of the first on. The first `ahead` lines were asked for. */
ALWAYS_INLINE void add_scattered(float *y, const lists *l, const asks *k, const uint8_t *groups, const float *x_scales, const size_t pitch,
                                 const uint32_t bits)
{
    const size_t outputs = LINE * 8 / bits, width = pitch * 8 / bits, group_bytes = infer_cols_group_bytes(width, bits);
    const uint16_t *ask = k->line + k->ahead;
    const uint8_t *scales = groups;
    for (size_t g = 0; g < l->count; g++, scales += group_bytes) {
        const active *a = &l->of[g];
        const uint32_t part = bits == 4 && a->end > HALF ? HALF : a->end;
        __m256 x_scale = _mm256_set1_ps(x_scales[2 * g]);
        prefetch(scales + SCALES_AHEAD * group_bytes, width);
        for (size_t i = 0; i < pitch / LINE; i++, ask += a->end) {
            size_t at = line_order[pitch / LINE][i], o = outputs * at;
            const uint8_t *codes = scales + width + LINE * at;
            __m256i first[8], second[8];
            sum_columns(first, start_sum(a, 0, bits), a, codes, 0, part, ask, groups, pitch, bits);
            sum_columns(second, start_sum(a, HALF, bits), a, codes, part, a->end, ask, groups, pitch, bits);
            add_line(y + o, first, second, scales + o, x_scale, bits);
        }
    }
}

/* sums += a line of columns i..end - 1 of a list, which are all but side by side, while as many lines are asked for that are. */
ALWAYS_INLINE void add_columns(__m256i sums[8], const active *a, const uint8_t *codes, uint32_t i, uint32_t end, const uint8_t *to_come,
                               const size_t pitch, const uint32_t bits)
{
    const uint32_t unit = bits == 4 ? 2 : 4;
    __m256i s[8];
    for (int v = 0; v < 8; v++)
        s[v] = sums[v];
    for (; i < end; i += unit, to_come += unit * LINE) {
        const uint8_t *c[4];
        for (uint32_t k = 0; k < unit; k++)
            c[k] = column_of(a, i + k, codes, pitch);
        prefetch(to_come, unit * LINE);
        add_unit(s, c, a->x + i, bits);
    }
    for (int v = 0; v < 8; v++)
        sums[v] = s[v];
}

/* The same in the order of memory: some columns at a time, so that these and what is asked for fit into L1. */
ALWAYS_INLINE void add_in_order(float *y, const lists *l, const uint8_t *groups, const float *x_scales, const size_t pitch, const uint32_t bits)
{
    const size_t outputs = LINE * 8 / bits, width = pitch * 8 / bits, group_bytes = infer_cols_group_bytes(width, bits);
    const uint32_t columns = HALF / 2; /* at a time (measured) */
    const uint8_t *scales = groups;
    for (size_t g = 0; g < l->count; g++, scales += group_bytes) {
        const active *a = &l->of[g];
        const uint8_t *codes = scales + width, *to_come = codes + BYTES_AHEAD;
        prefetch(scales + group_bytes + BYTES_AHEAD, width); /* behind what this group's columns ask for */
        __m256i sums[2][LINES][8];
        for (uint32_t part = 0; part < 2; part++)
            for (size_t i = 0; i < pitch / LINE; i++)
                for (int v = 0; v < 8; v++)
                    sums[part][i][v] = start_sum(a, HALF * part, bits);
        for (uint32_t i = 0; i < a->end; i += columns)
            for (size_t k = 0; k < pitch / LINE; k++, to_come += columns * LINE)
                add_columns(sums[bits == 4 ? i / HALF : 0][k], a, codes + LINE * k, i, a->end - i < columns ? a->end : i + columns, to_come, pitch, bits);
        for (size_t i = 0; i < pitch / LINE; i++)
            add_line(y + outputs * i, sums[0][i], sums[1][i], scales + outputs * i, _mm256_set1_ps(x_scales[2 * g]), bits);
    }
}

/* at.row1 is at.row0 + 1. */
ALWAYS_INLINE void cols_token(const infer_matmul_args *a, infer_region at, const uint32_t bits)
{
    infer_cols w = infer_cols_at(a->w, a->n, a->k, bits);
    const float *x_scales = a->xq.scales + at.row0 * (size_t)a->xq.row_groups;
    size_t end = infer_cols_padded(at.col1, INFER_COLS_TILE), width;
    bool begun = false; /* its first lines were asked for */
    lists l;            /* with `k` 90 KB: each is written before it is read */
    asks k;

    l.first = k.first = SIZE_MAX;
    for (size_t o = at.col0; o < end; o += width) {
        infer_cols_stripe s = infer_cols_stripe_of(&w, o);
        size_t pitch = infer_cols_codes_bytes(s.width, bits), group_lines = infer_cols_group_bytes(s.width, bits) / LINE;
        _Alignas(64) float y[INFER_COLS_STRIPE];

        width = s.width;
        memset(y, 0, width * sizeof *y);
        for (size_t g = 0; g < w.groups; g += l.count) {
            bool goes_on = w.groups <= LISTED && o + 2 * width <= end;
            const uint8_t *groups = infer_cols_group(&w, &s, g);
            if (l.first != g)
                make_lists(&l, a, at.row0, g, bits == 4 ? 2 : 4);
            if (!l.scattered) {
                if (pitch == COLUMN)
                    add_in_order(y, &l, groups, x_scales + 2 * g, COLUMN, bits);
                else
                    add_in_order(y, &l, groups, x_scales + 2 * g, pitch, bits);
                continue;
            }
            if (k.first != g || k.lines != pitch / LINE)
                list_asks(&k, &l, pitch / LINE, group_lines, width / LINE);
            for (uint32_t i = 0; i < k.ahead && !begun; i++)
                prefetch(groups + LINE * (size_t)k.line[i], LINE);
            ask_on(&k, goes_on ? w.groups * group_lines : 0);
            if (pitch == COLUMN)
                add_scattered(y, &l, &k, groups, x_scales + 2 * g, COLUMN, bits);
            else
                add_scattered(y, &l, &k, groups, x_scales + 2 * g, pitch, bits);
            begun = goes_on;
        }
        finish(a->y + (size_t)at.row0 * a->y_stride + o, y, w.row + o, (uint32_t)(a->n - o < width ? a->n - o : width));
    }
}

#endif
