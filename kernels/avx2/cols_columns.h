/*
 * Layout `cols`, one token: a group by whole columns, four at a time, with the sums in L1. For groups of which hardly any input is skipped; on Zen 3 for
 * all of them.
 */
#ifndef INFER_KERNELS_AVX2_COLS_COLUMNS_H
#define INFER_KERNELS_AVX2_COLS_COLUMNS_H

#include "avx2/cols_sums.h"

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

/* Lines to come, asked for with each that is read: with line l of the k-th column that at at[k] + l * step. */
typedef struct to_come {
    const uint8_t *at[FOUR];
    size_t step;
} to_come;

ALWAYS_INLINE to_come lines_in_order(const uint8_t *first)
{
    return (to_come){{first, first + LINE, first + 2 * LINE, first + 3 * LINE}, FOUR * LINE};
}

ALWAYS_INLINE to_come lines_of(columns c)
{
    return (to_come){{c.at[0], c.at[1], c.at[2], c.at[3]}, LINE};
}

/* sums[bytes / 32][4] = (first: start; else sums) + `bytes` bytes of the columns of inputs i.. of a list */
ALWAYS_INLINE void add_columns(__m256i *sums, const active *a, uint32_t i, const columns *c, const to_come *next, size_t bytes, const bool first,
                               const uint32_t bits)
{
    const uint8_t *c0 = c->at[0], *c1 = c->at[1], *c2 = c->at[2], *c3 = c->at[3];
    const __m256i start = bits == 4 ? _mm256_set1_epi16(a->start[i / HALF]) : _mm256_setzero_si256();
    int16_t pairs[2];
    memcpy(pairs, a->x + i, sizeof pairs);
    const __m256i x01 = _mm256_set1_epi16(pairs[0]), x23 = _mm256_set1_epi16(pairs[1]), x = broadcast_32(pairs), magnitude = _mm256_abs_epi8(x);

    for (size_t b = 0, ahead = 0; b < bytes; b += 32, sums += 4) {
        __m256i s[4] = {start, start, start, start};
        for (int v = 0; v < 4 && !first; v++)
            s[v] = sums[v];
        if (b % LINE == 0) {
            for (int k = 0; k < FOUR; k++)
                prefetch(next->at[k] + ahead, LINE);
            ahead += next->step;
        }
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
ALWAYS_INLINE void add_four_columns(__m256i (*sums)[INFER_COLS_STRIPE / 8], const active *a, uint32_t i, const columns *c, const to_come *next,
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

#endif
