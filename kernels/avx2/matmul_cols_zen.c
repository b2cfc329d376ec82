/*
 * y = x w^T in layout `cols` on AMD's CPUs before AVX-512 (measured on Zen 3, with stripes as wide as two are now). One token: up to four stripes side by
 * side, whole columns, the next four of each asked for: streams of their own, with several of which memory is faster there than with one. More tokens run the AVX2 kernel.
 */
#include "cols_sums.h"

enum {
    FOUR = 4,    /* columns at a time */
    STRIPES = 4, /* side by side, at most */
    VECTORS = 8 * COLUMN / LINE /* sums of a stripe */
};

/* Stripes of one width, of a group: the first one's codes, and how far apart they are. */
typedef struct stripes {
    const uint8_t *codes;
    size_t bytes;
    uint32_t count;
} stripes;

/* Columns i.. of a group. */
typedef struct columns {
    const active *list;
    uint32_t i;
    const uint8_t *codes; /* of input 0 in the first stripe */
} columns;

/* sums[stripe][VECTORS] = (first: start; else sums) + four columns, while those of `next` are asked for */
ALWAYS_INLINE void add_columns(__m256i (*sums)[VECTORS], const columns *c, const columns *next, const stripes *s, const bool first,
                               const size_t pitch, const uint32_t bits)
{
    const uint8_t *at[FOUR], *to_come[FOUR];
    const __m256i start = bits == 4 ? _mm256_set1_epi16(c->list->start[c->i / HALF]) : _mm256_setzero_si256();
    int16_t pairs[2];
    memcpy(pairs, c->list->x + c->i, sizeof pairs);
    const __m256i x01 = _mm256_set1_epi16(pairs[0]), x23 = _mm256_set1_epi16(pairs[1]), x = broadcast_32(pairs), magnitude = _mm256_abs_epi8(x);

    for (uint32_t k = 0; k < FOUR; k++) {
        at[k] = column_of(c->list, c->i + k, c->codes, pitch);
        to_come[k] = column_of(next->list, next->i + k, next->codes, pitch);
    }
    for (size_t stripe = 0, far = 0; stripe < s->count; stripe++, far += s->bytes)
        for (size_t b = far, v = 0; b < far + pitch; b += 32, v += 4) {
            __m256i *out = sums[stripe] + v, sum[4] = {start, start, start, start};
            for (int i = 0; i < 4 && !first; i++)
                sum[i] = out[i];
            for (int k = 0; k < FOUR && v % 8 == 0; k++)
                prefetch(to_come[k] + b, LINE);
            if (bits == 4) {
                add_pair(sum, load_256(at[0] + b), load_256(at[1] + b), x01);
                add_pair(sum, load_256(at[2] + b), load_256(at[3] + b), x23);
            } else {
                add_four(sum, load_256(at[0] + b), load_256(at[1] + b), load_256(at[2] + b), load_256(at[3] + b), x, magnitude);
            }
            for (int i = 0; i < 4; i++)
                out[i] = sum[i];
        }
}

/* y[stripe][INFER_COLS_STRIPE] += a group whose columns were summed up, in one or two parts. Of no inputs too: the scale may be NaN. */
ALWAYS_INLINE void add_sums(float (*y)[INFER_COLS_STRIPE], __m256i (*sums)[STRIPES][VECTORS], const active *a, const uint8_t *scales, float x_scale,
                            const stripes *s, const size_t pitch, const uint32_t bits)
{
    static const __m256i none[8];
    const uint32_t part_inputs = bits == 4 ? HALF : 2 * HALF;
    const size_t outputs = LINE * 8 / bits;
    for (size_t stripe = 0; stripe < s->count; stripe++, scales += s->bytes)
        for (size_t i = 0; i < pitch / LINE; i++)
            add_line(y[stripe] + outputs * i, a->end ? sums[0][stripe] + 8 * i : none, a->end > part_inputs ? sums[1][stripe] + 8 * i : none,
                     scales + outputs * i, _mm256_set1_ps(x_scale), bits);
}

/* y += the groups that have lists; s: of the first of them */
ALWAYS_INLINE void add_groups(float (*y)[INFER_COLS_STRIPE], const lists *l, const float *x_scales, stripes s, const size_t pitch, const uint32_t bits)
{
    const uint32_t part_inputs = bits == 4 ? HALF : 2 * HALF;
    const size_t width = pitch * 8 / bits, group_bytes = infer_cols_group_bytes(width, bits);
    __m256i sums[2][STRIPES][VECTORS];

    for (size_t g = 0; g < l->count; g++, s.codes += group_bytes) {
        const active *a = &l->of[g];
        for (uint32_t i = 0; i < a->end; i += FOUR) {
            columns c = {a, i, s.codes}, next = c;
            if (i + FOUR < a->end)
                next.i += FOUR;
            else if (g + 1 < l->count && a[1].end)
                next = (columns){a + 1, 0, s.codes + group_bytes};
            if (i % part_inputs == 0)
                add_columns(sums[i / part_inputs], &c, &next, &s, true, pitch, bits);
            else
                add_columns(sums[i / part_inputs], &c, &next, &s, false, pitch, bits);
        }
        add_sums(y, sums, a, s.codes - width, x_scales[2 * g], &s, pitch, bits);
    }
}

ALWAYS_INLINE void one_token(const infer_matmul_args *a, infer_region at, const uint32_t bits)
{
    infer_cols w = infer_cols_at(a->w, a->n, a->k, bits);
    const float *x_scales = a->xq.scales + at.row0 * (size_t)a->xq.row_groups;
    lists l; /* 27 KB: each is written before it is read */

    l.first = SIZE_MAX;
    for (size_t o = at.col0, end = infer_cols_padded(at.col1, INFER_COLS_TILE); o < end;) {
        infer_cols_stripe first = infer_cols_stripe_of(&w, o);
        stripes s = {.bytes = w.groups * infer_cols_group_bytes(first.width, bits), .count = 1};
        _Alignas(64) float y[STRIPES][INFER_COLS_STRIPE];
        const size_t pitch = infer_cols_codes_bytes(first.width, bits);
        while (s.count < STRIPES && o + (s.count + 1) * first.width <= end)
            s.count++;
        memset(y, 0, s.count * sizeof *y);
        for (size_t g = 0; g < w.groups; g += l.count) {
            if (l.first != g)
                make_lists(&l, a, at.row0, g, FOUR);
            s.codes = infer_cols_codes(&w, &first, g);
            if (pitch == COLUMN)
                add_groups(y, &l, x_scales + 2 * g, s, COLUMN, bits);
            else
                add_groups(y, &l, x_scales + 2 * g, s, pitch, bits);
        }
        for (size_t i = 0; i < s.count; i++, o += first.width)
            finish(a->y + (size_t)at.row0 * a->y_stride + o, y[i], w.row + o, (uint32_t)(a->n - o < first.width ? a->n - o : first.width));
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
