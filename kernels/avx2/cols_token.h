/*
 * y = x w^T in layout `cols`, one token: for AVX2, and in the registers that AVX-512 has. A line of 64 bytes of each column of a group is taken at a time.
 * Where hardly any input of a group is skipped, and all outputs of the stripe are wanted, what follows is asked for in the order of memory. Elsewhere lines
 * that the hardware cannot know of are, in an order that it does not take for a pattern: it would read what is skipped.
 */
#ifndef INFER_KERNELS_AVX2_COLS_TOKEN_H
#define INFER_KERNELS_AVX2_COLS_TOKEN_H

#include "avx2/cols_sums.h"

enum {
    LINES = INFER_COLS_STRIPE / LINE,
    LINES_AHEAD_Q4 = 400,   /* from what is read to what is asked for, of all columns that are not skipped (measured) */
    LINES_AHEAD_Q8 = 150,   /* columns of 1 KB: a line of each would fall into few sets of L1 */
    BYTES_AHEAD = 16 << 10, /* the same in the order of memory (measured) */
    GROUPS = 8              /* this one and those that lines are asked for of */
};

/* A group: its list, and the codes of its first input. */
typedef struct place {
    const active *list;
    const uint8_t *codes;
} place;

ALWAYS_INLINE const uint8_t *column_of(const place *p, uint32_t i, size_t pitch) { return p->codes + p->list->input[i] * pitch; }

/* sums += a line of the columns i..end - 1 of a list, while as many are asked for: of the columns of inputs asked[i].., or what follows (NULL).
 * lines, to_come: those of input 0. */
ALWAYS_INLINE void add_lines(__m256i sums[8], const active *a, const uint8_t *lines, uint32_t i, uint32_t end, size_t pitch, const uint8_t *to_come,
                             const uint8_t *asked, const uint32_t bits)
{
    const uint32_t unit = bits == 4 ? 2 : 4;
    __m256i s[8];
    for (int v = 0; v < 8; v++)
        s[v] = sums[v];
    for (; i < end; i += unit) {
        const uint8_t *c[4];
        for (uint32_t k = 0; k < unit; k++) {
            c[k] = lines + a->input[i + k] * pitch;
            prefetch(to_come + (asked ? asked[i + k] * pitch : (i + k) * LINE), LINE);
        }
        if (bits == 4) {
            int16_t pair;
            memcpy(&pair, a->x + i, sizeof pair);
            __m256i x = _mm256_set1_epi16(pair);
            add_pair(s, load_256(c[0]), load_256(c[1]), x);
            add_pair(s + 4, load_256(c[0] + 32), load_256(c[1] + 32), x);
        } else {
            __m256i x = broadcast_32(a->x + i), magnitude = _mm256_abs_epi8(x);
            add_four(s, load_256(c[0]), load_256(c[1]), load_256(c[2]), load_256(c[3]), x, magnitude);
            add_four(s + 4, load_256(c[0] + 32), load_256(c[1] + 32), load_256(c[2] + 32), load_256(c[3] + 32), x, magnitude);
        }
    }
    for (int v = 0; v < 8; v++)
        sums[v] = s[v];
}

/* Of inputs i.. of a list, before they are added. */
ALWAYS_INLINE void start_sums(__m256i sums[8], const active *a, uint32_t i, const uint32_t bits)
{
    for (int v = 0; v < 8; v++)
        sums[v] = bits == 4 ? _mm256_set1_epi16(a->start[i / HALF]) : _mm256_setzero_si256();
}

/* y += a group, of whose columns `lines` lines are taken in this order, while lines `ahead` of them, at most (GROUPS - 1) * lines, are asked for; places:
 * its own and those behind it, GROUPS of them. */
ALWAYS_INLINE void add_group_by_lines(float *y, const place places[GROUPS], const uint8_t *order, uint32_t lines, uint32_t ahead, size_t pitch,
                                      const uint8_t *scales, const uint8_t *next_scales, float x_scale, const uint32_t bits)
{
    const active *a = places[0].list;
    const size_t outputs = LINE * 8 / bits;
    const uint32_t part = bits == 4 && a->end > HALF ? HALF : a->end;
    for (uint32_t l = 0; l < lines; l++) {
        const place *next = &places[(l + ahead) / lines];
        size_t b = LINE * order[l], o0 = outputs * order[l], next_b = LINE * order[(l + ahead) % lines];
        const uint8_t *at = places[0].codes + b, *to_come = next->codes + next_b, *asked = next->list->input;
        __m256i first[8], second[8];
        prefetch(next_scales + o0, outputs);
        start_sums(first, a, 0, bits);
        add_lines(first, a, at, 0, part, pitch, to_come, asked, bits);
        start_sums(second, a, HALF, bits);
        add_lines(second, a, at, part, a->end, pitch, to_come, asked, bits);
        for (uint32_t i = a->end; i < next->list->end; i++)
            prefetch(column_of(next, i, pitch) + next_b, LINE);
        add_line(y + o0, first, second, scales + o0, _mm256_set1_ps(x_scale), bits);
    }
}

/* What add_group_by_lines counts on: the first `ahead` lines were asked for. */
ALWAYS_INLINE void ask_for_first_lines(const place places[GROUPS], const uint8_t *order, uint32_t lines, uint32_t ahead, size_t pitch)
{
    for (uint32_t l = 0; l < ahead; l++)
        for (uint32_t i = 0; i < places[l / lines].list->end; i++)
            prefetch(column_of(&places[l / lines], i, pitch) + LINE * order[l % lines], LINE);
}

/* y += a group, which is all but read in the order of memory: some columns at a time, so that these and what is asked for fit into L1. */
ALWAYS_INLINE void add_group_in_order(float *y, const active *a, const uint8_t *codes, size_t pitch, const uint8_t *scales, float x_scale,
                                      const uint32_t bits)
{
    const size_t outputs = LINE * 8 / bits, lines = pitch / LINE;
    const uint32_t columns = HALF / 2; /* at a time (measured) */
    __m256i sums[2][LINES][8];
    for (uint32_t i = 0; i < a->end; i += columns) {
        const uint32_t end = a->end - i < columns ? a->end : i + columns, part = bits == 4 ? i / HALF : 0;
        const uint8_t *to_come = codes + i * pitch + BYTES_AHEAD;
        for (size_t l = 0; l < lines; l++, to_come += columns * LINE) {
            if (i == 0 || (bits == 4 && i == HALF))
                start_sums(sums[part][l], a, i, bits);
            add_lines(sums[part][l], a, codes + LINE * l, i, end, pitch, to_come - i * LINE, NULL, bits);
        }
    }
    for (size_t l = 0; l < lines; l++) {
        if (a->end == 0)
            start_sums(sums[0][l], a, 0, bits); /* of no inputs too: the scale may be NaN */
        if (a->end <= HALF)
            start_sums(sums[1][l], a, HALF, bits);
        add_line(y + outputs * l, sums[0][l], sums[1][l], scales + outputs * l, _mm256_set1_ps(x_scale), bits);
    }
}

/* Lines of stripe s: with the last ones the first ones of `next`, as wide a stripe, are asked for, or of nothing more (NULL); begun: its own were. */
ALWAYS_INLINE void token_of_stripe(const infer_matmul_args *a, const infer_cols *w, uint32_t t, const infer_cols_span *s,
                                   const infer_cols_span *next, bool begun, lists *l, const uint32_t bits)
{
    const float *x_scales = a->xq.scales + t * (size_t)a->xq.row_groups;
    size_t pitch = infer_cols_codes_bytes(s->width, bits), bytes = infer_cols_codes_bytes(s->count, bits),
           group_bytes = infer_cols_group_bytes(s->width, bits), o0 = s->at;
    const uint8_t *scales = infer_cols_group(w, s, 0) + s->first, *codes = infer_cols_codes(w, s, 0) + s->first * bits / 8;
    const uint8_t *next_codes = next ? infer_cols_codes(w, next, 0) : NULL;
    const uint32_t lines = (uint32_t)(bytes / LINE);
    _Alignas(64) float y[INFER_COLS_STRIPE];
    uint8_t order[LINES];

    for (uint32_t i = 0, n = 0; n < lines; i++)
        if (reversed(i) < lines)
            order[n++] = (uint8_t)reversed(i);
    memset(y, 0, s->count * sizeof *y);
    for (size_t g = 0; g < w->groups; g++, scales += group_bytes, codes += group_bytes) {
        const active *now = list_of(l, a, t, g, w->groups, 1, bits == 4 ? 2 : 4);
        const uint32_t wanted = (bits == 4 ? LINES_AHEAD_Q4 : LINES_AHEAD_Q8) / (l->mean + 1);
        const uint32_t ahead = wanted < (GROUPS - 1) * lines ? wanted : (GROUPS - 1) * lines;
        size_t left = w->groups - g < LISTED - g % LISTED ? w->groups - g : LISTED - g % LISTED; /* groups with lists */
        place places[GROUPS];
        if (!now->scattered && bytes == pitch) {
            add_group_in_order(y, now, codes, pitch, scales, x_scales[2 * g], bits);
            continue;
        }
        places[0] = (place){now, codes};
        for (size_t r = 1; r < GROUPS; r++)
            if (r < left)
                places[r] = (place){now + r, codes + r * group_bytes};
            else
                places[r] = next ? (place){l->of + (r - left), next_codes + (r - left) * group_bytes} : places[r - 1];
        if (g % LISTED == 0 && !(g == 0 && begun))
            ask_for_first_lines(places, order, lines, ahead, pitch);
        add_group_by_lines(y, places, order, lines, ahead, pitch, scales, left > 1 ? scales + group_bytes : scales, x_scales[2 * g], bits);
    }
    finish(a->y + (size_t)t * a->y_stride + o0, y, w->row + o0, (uint32_t)(a->n - o0 < s->count ? a->n - o0 : s->count));
}

/* at.row1 is at.row0 + 1. */
ALWAYS_INLINE void cols_token(const infer_matmul_args *a, infer_region at, const uint32_t bits)
{
    infer_cols w = infer_cols_at(a->w, a->n, a->k, bits);
    bool begun = false;
    lists l; /* 70 KB: each is written before it is read */

    l.first = SIZE_MAX;
    for (size_t o = at.col0, end = infer_cols_padded(at.col1, INFER_COLS_TILE); o < end;) {
        infer_cols_span s = infer_cols_span_at(&w, o, end, INFER_COLS_STRIPE), next = s;
        bool join;
        o += s.count;
        if (o < end)
            next = infer_cols_span_at(&w, o, end, INFER_COLS_STRIPE);
        join = o < end && next.width == s.width && next.count == s.count && w.groups >= GROUPS && w.groups <= LISTED;
        token_of_stripe(a, &w, at.row0, &s, join ? &next : NULL, begun, &l, bits);
        begun = join;
    }
}

#endif
