/*
 * y = x w^T in layout `cols`. Columns of inputs that are not 0 are taken in pairs (q4g64) or fours (q8g64): interleaving their bytes gives
 * what vpmaddubsw multiplies. Sums: q4g64 of 32 inputs in 16 bits, starting from -8 x the activations (32 x 127 x 8 fits), so that a group
 * of which more are not 0 has two; q8g64 in 32 bits. One token: eight columns at a time go over the outputs of a stripe, while those AHEAD
 * of them are prefetched: the hardware cannot know which ones they are. More tokens: the columns that any of them needs are interleaved
 * into L1 and meet every token.
 */
#include "cols.h"
#include "kernels.h"
#include "vector.h"

enum {
    HALF = 32,         /* inputs whose sum fits */
    BLOCK = 8,         /* columns that are added at once */
    AHEAD = 4 * BLOCK, /* columns from the one in use to the one that is prefetched */
    LISTED = 256,      /* groups whose lists are kept */
    BLOCK_TOKENS = 16,
    BLOCK_OUTPUTS = 512 /* with more tokens */
};

ALWAYS_INLINE uint32_t active_mask(const int8_t *codes)
{
    return ~(uint32_t)_mm256_movemask_epi8(_mm256_cmpeq_epi8(load_256(codes), _mm256_setzero_si256()));
}

/*
 * Sums of 32 inputs x 32 outputs x what a byte holds, as interleaving leaves them.
 *   q4g64: four vectors of 16: low nibbles of outputs 0-7 16-23, high nibbles of these, low of 8-15 24-31, high of these
 *   q8g64: four vectors of 8: outputs 0-3 16-19, 4-7 20-23, 8-11 24-27, 12-15 28-31
 */
ALWAYS_INLINE void add_pair(__m256i sums[4], __m256i a, __m256i b, __m256i x)
{
    const __m256i low = _mm256_set1_epi8(15);
    __m256i first = _mm256_unpacklo_epi8(a, b), second = _mm256_unpackhi_epi8(a, b);
    sums[0] = _mm256_add_epi16(sums[0], _mm256_maddubs_epi16(_mm256_and_si256(first, low), x));
    sums[1] = _mm256_add_epi16(sums[1], _mm256_maddubs_epi16(_mm256_and_si256(_mm256_srli_epi16(first, 4), low), x));
    sums[2] = _mm256_add_epi16(sums[2], _mm256_maddubs_epi16(_mm256_and_si256(second, low), x));
    sums[3] = _mm256_add_epi16(sums[3], _mm256_maddubs_epi16(_mm256_and_si256(_mm256_srli_epi16(second, 4), low), x));
}

ALWAYS_INLINE __m256i add_products(__m256i sum, __m256i w, __m256i x, __m256i magnitude)
{
    return _mm256_add_epi32(sum, _mm256_madd_epi16(_mm256_maddubs_epi16(magnitude, _mm256_sign_epi8(w, x)), _mm256_set1_epi16(1)));
}

ALWAYS_INLINE void add_four(__m256i sums[4], __m256i a, __m256i b, __m256i c, __m256i d, __m256i x, __m256i magnitude)
{
    __m256i ab = _mm256_unpacklo_epi8(a, b), cd = _mm256_unpacklo_epi8(c, d);
    sums[0] = add_products(sums[0], _mm256_unpacklo_epi16(ab, cd), x, magnitude);
    sums[1] = add_products(sums[1], _mm256_unpackhi_epi16(ab, cd), x, magnitude);
    ab = _mm256_unpackhi_epi8(a, b);
    cd = _mm256_unpackhi_epi8(c, d);
    sums[2] = add_products(sums[2], _mm256_unpacklo_epi16(ab, cd), x, magnitude);
    sums[3] = add_products(sums[3], _mm256_unpackhi_epi16(ab, cd), x, magnitude);
}

/* Sums of outputs o..o+7 of 128. */
ALWAYS_INLINE __m256i sums_at(const __m256i *sums, uint32_t o, const uint32_t bits)
{
    if (bits == 4) { /* byte o % 64, low nibbles below 64 */
        const __m128i *at = (const __m128i *)(sums + o % 64 / 32 * 4 + o % 16 / 8 * 2 + o / 64) + o % 32 / 16;
        return _mm256_cvtepi16_epi32(_mm_load_si128(at));
    } else {
        const __m128i *at = (const __m128i *)(sums + o / 32 * 4 + o % 16 / 4) + o % 32 / 16;
        return _mm256_setr_m128i(_mm_load_si128(at), _mm_load_si128(at + 2));
    }
}

/* infer_cols_scale of eight bytes. */
ALWAYS_INLINE __m256 scales_at(const uint8_t *bytes)
{
    __m256i v = _mm256_slli_epi32(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)(const void *)bytes)), 19);
    v = _mm256_and_si256(v, _mm256_set1_epi32((int32_t)0x83f80000));
    return _mm256_castsi256_ps(_mm256_add_epi32(v, _mm256_set1_epi32(120 << 23)));
}

/* y[outputs] += sums x (scales x activation scale); `second`: the other part of the sums, NULL where there is none. */
ALWAYS_INLINE void add_group(float *y, const __m256i *first, const __m256i *second, const uint8_t *scales, float x_scale, size_t outputs,
                             const uint32_t bits)
{
    const size_t step = bits == 4 ? 8 : 16; /* vectors of sums for 128 outputs */
    __m256 x = _mm256_set1_ps(x_scale);
    for (size_t tile = 0; tile < outputs / INFER_COLS_TILE; tile++, y += INFER_COLS_TILE, scales += INFER_COLS_TILE) {
#pragma GCC unroll 16
        for (uint32_t o = 0; o < INFER_COLS_TILE; o += 8) {
            __m256i sum = sums_at(first + tile * step, o, bits);
            if (second)
                sum = _mm256_add_epi32(sum, sums_at(second + tile * step, o, bits));
            _mm256_store_ps(y + o,
                            _mm256_fmadd_ps(_mm256_cvtepi32_ps(sum), _mm256_mul_ps(scales_at(scales + o), x), _mm256_load_ps(y + o)));
        }
    }
}

/* out[count] = y x row */
ALWAYS_INLINE void finish(float *out, const float *y, const float *row, uint32_t count)
{
    for (uint32_t o = 0; o < count; o += 16)
        store_16(out + o, count - o, _mm256_mul_ps(_mm256_load_ps(y + o), _mm256_loadu_ps(row + o)),
                 _mm256_mul_ps(_mm256_load_ps(y + o + 8), _mm256_loadu_ps(row + o + 8)));
}

/* Outputs of a stripe: all of it, and those of the region in it, whole tiles. */
typedef struct span {
    size_t stripe, width, first, count;
} span;

/* ---- one token ---- */

/* A group's inputs that are not 0, and their codes, filled up to whole units with inputs times 0. `down`: lines are taken from a column's
 * last to its first, so that the hardware, which goes on where a run of rising lines ends, does not read what is skipped. */
typedef struct active {
    uint8_t end;
    bool down;
    uint8_t input[2 * HALF];
    int8_t x[2 * HALF];
} active;

ALWAYS_INLINE void list_active(active *a, const int8_t *codes, size_t halves, const uint32_t unit)
{
    uint32_t n = 0;
    for (size_t h = 0; h < halves; h++)
        for (uint32_t mask = active_mask(codes + HALF * h); mask; mask &= mask - 1, n++) {
            size_t i = HALF * h + (uint32_t)__builtin_ctz(mask);
            a->input[n] = (uint8_t)i;
            a->x[n] = codes[i];
        }
    for (; n % unit; n++) {
        a->input[n] = a->input[n - 1];
        a->x[n] = 0;
    }
    a->end = (uint8_t)n;
    a->down = n < 28 * halves;
}

/* What the sums of the columns i..end - 1 start from. */
ALWAYS_INLINE __m256i start_of(const active *a, uint32_t i, uint32_t end, const uint32_t bits)
{
    int32_t sum = 0;
    for (; bits == 4 && i < end; i++)
        sum += a->x[i];
    return _mm256_set1_epi16((int16_t)(-8 * sum));
}

/* sums = start, or what they are, + the columns whose inputs are i.. of a list, while those of `next` are prefetched: not into L1, where
 * columns a power of two apart displace each other. */
ALWAYS_INLINE void add_columns(__m256i *sums, const __m256i *start, const active *a, const uint8_t *const *column,
                               const uint8_t *const *next, uint32_t i, const uint32_t columns, size_t bytes, const uint32_t bits)
{
    __m256i x[BLOCK / 2], magnitude[BLOCK / 4];
    size_t line = 0;
    for (uint32_t c = 0; bits == 4 && c < columns; c += 2) {
        int16_t pair;
        memcpy(&pair, a->x + i + c, sizeof pair);
        x[c / 2] = _mm256_set1_epi16(pair);
    }
    for (uint32_t c = 0; bits == 8 && c < columns; c += 4) {
        x[c / 4] = broadcast_32(a->x + i + c);
        magnitude[c / 4] = _mm256_abs_epi8(x[c / 4]);
    }
    for (size_t done = 0; done < bytes; done += 32) {
        size_t b = a->down ? bytes - 32 - done : done;
        __m256i s[4], *at = sums + b / 8;
        for (int v = 0; v < 4; v++)
            s[v] = start ? *start : at[v];
#pragma GCC unroll 8
        for (uint32_t c = 0; c < columns; c += bits == 4 ? 2 : 4) {
            if (bits == 4)
                add_pair(s, load_256(column[c] + b), load_256(column[c + 1] + b), x[c / 2]);
            else
                add_four(s, load_256(column[c] + b), load_256(column[c + 1] + b), load_256(column[c + 2] + b), load_256(column[c + 3] + b),
                         x[c / 4], magnitude[c / 4]);
        }
        for (int v = 0; v < 4; v++)
            at[v] = s[v];
        if (a->down) {
            for (uint32_t c = 0; c < columns / 2; c++) /* those of one half of the columns with each half of a line */
                _mm_prefetch((const char *)(next[b % 64 / 32 * (columns / 2) + c] + b), _MM_HINT_T1);
        } else { /* hardly anything is skipped: in the order of memory */
            for (uint32_t c = 0; c < columns / 2; c++) {
                _mm_prefetch((const char *)(*next + line), _MM_HINT_T1);
                line += 64;
                if (line == bytes) {
                    line = 0;
                    next++;
                }
            }
        }
    }
}

/* The same with `columns` that the compiler does not know, fewer than BLOCK. */
ALWAYS_INLINE void add_rest(__m256i *sums, const __m256i *start, const active *a, const uint8_t *const *column, const uint8_t *const *next,
                            uint32_t i, uint32_t columns, size_t bytes, const uint32_t bits)
{
    if (columns == 4)
        add_columns(sums, start, a, column, next, i, 4, bytes, bits);
    else if (bits == 4 && columns == 2)
        add_columns(sums, start, a, column, next, i, 2, bytes, bits);
    else if (bits == 4 && columns == 6)
        add_columns(sums, start, a, column, next, i, 6, bytes, bits);
}

/* Sums of the columns i..end - 1. */
ALWAYS_INLINE void add_part(__m256i *sums, const active *a, const uint8_t *const *column, const uint8_t *const *ahead, uint32_t i,
                            uint32_t end, size_t bytes, const uint32_t bits)
{
    __m256i start = start_of(a, i, end, bits);
    if (end - i >= BLOCK) {
        add_columns(sums, &start, a, column + i, ahead + i, i, BLOCK, bytes, bits);
        for (i += BLOCK; end - i >= BLOCK; i += BLOCK)
            add_columns(sums, NULL, a, column + i, ahead + i, i, BLOCK, bytes, bits);
        add_rest(sums, NULL, a, column + i, ahead + i, i, end - i, bytes, bits);
    } else if (end > i) {
        add_rest(sums, &start, a, column + i, ahead + i, i, end - i, bytes, bits);
    } else {
        for (size_t v = 0; v < bytes / 8; v++)
            sums[v] = start;
    }
}

/* The lists of groups g.. of a token, as many as there are and fit. */
ALWAYS_INLINE void list_groups(active *lists, const infer_matmul_args *a, uint32_t t, size_t g, size_t groups, const uint32_t bits)
{
    const int8_t *codes = a->xq.codes + HALF * (t * (size_t)a->xq.row_groups);
    size_t halves = infer_q8_groups(a->k);
    for (size_t i = g; i < groups && i < g + LISTED; i++)
        list_active(&lists[i - g], codes + 2 * HALF * i, halves - 2 * i < 2 ? 1 : 2, bits == 4 ? 2 : 4);
}

/* *listed: the group that the lists begin with. */
ALWAYS_INLINE void one_token(const infer_matmul_args *a, const infer_cols *w, uint32_t t, const span *s, active *lists, size_t *listed,
                             const uint32_t bits)
{
    const float *x_scales = a->xq.scales + t * (size_t)a->xq.row_groups;
    size_t pitch = infer_cols_codes_bytes(s->width, bits), bytes = infer_cols_codes_bytes(s->count, bits),
           o0 = s->stripe * INFER_COLS_STRIPE + s->first;
    _Alignas(64) float y[INFER_COLS_STRIPE];
    __m256i sums[2][INFER_COLS_STRIPE / 8];

    memset(y, 0, s->count * sizeof *y);
    for (size_t g = 0; g < w->groups; g++) {
        const uint8_t *scales = infer_cols_group(w, s->stripe, g) + s->first,
                      *codes = infer_cols_codes(w, s->stripe, g) + s->first * bits / 8;
        const uint8_t *column[4 * HALF], **ahead, *next_codes = codes + infer_cols_group_bytes(s->width, bits);
        const active *now = &lists[g % LISTED], *next = now + 1;
        uint32_t end, part, n = 0;
        if (g % LISTED == 0 && *listed != g) {
            list_groups(lists, a, t, g, w->groups, bits);
            *listed = g;
        }
        end = now->end;
        part = bits == 4 && end > HALF ? HALF : end;
        for (; n < end; n++)
            column[n] = codes + now->input[n] * pitch;
        ahead = column + (end < AHEAD ? end : AHEAD);
        if (g + 1 < w->groups && (g + 1) % LISTED)
            for (uint32_t i = 0; i < next->end && n < 2 * end; i++)
                column[n++] = next_codes + next->input[i] * pitch;
        while (n < 2 * end) /* nothing to come, or little */
            column[n++] = codes;
        for (size_t b = 0; b < s->count; b += 64)
            _mm_prefetch((const char *)(scales + b), _MM_HINT_T0);
        add_part(sums[0], now, column, ahead, 0, part, bytes, bits);
        if (part < end)
            add_part(sums[1], now, column, ahead, part, end, bytes, bits);
        add_group(y, sums[0], part < end ? sums[1] : NULL, scales, x_scales[2 * g], s->count, bits);
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

ALWAYS_INLINE void multiply(const joined *j, const int8_t *codes, const int16_t *offset8, __m256i *out, const uint32_t bits)
{
    int8_t x[HALF + 1];
    memcpy(x, codes, HALF);
    x[HALF] = 0;
    for (int part = 0; part < (bits == 4 ? 1 : 2); part++, out += 8) {
        __m256i sums[8];
        for (int v = 0; v < 8; v++)
            sums[v] = bits == 4 ? _mm256_set1_epi16((int16_t)(offset8[0] + offset8[1])) : _mm256_setzero_si256();
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
                    multiply(&j[h], a->xq.codes + HALF * (at + h), a->xq.offset8 + 2 * (at + h), sums[h], bits);
                add_group(y[t - t0] + o, sums[0], count > 1 ? sums[1] : NULL, scales + o, a->xq.scales[at], INFER_COLS_TILE, bits);
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
        span s = {.stripe = o / INFER_COLS_STRIPE, .first = o % INFER_COLS_STRIPE};
        s.width = infer_cols_width(&w, s.stripe);
        s.count = s.width - s.first < end - o ? s.width - s.first : end - o;
        s.count = s.count < most ? s.count : most;
        if (one)
            one_token(a, &w, at.row0, &s, lists, &listed, bits);
        for (uint32_t t = at.row0; !one && t < at.row1; t += BLOCK_TOKENS)
            tokens(a, &w, t, at.row1 - t < BLOCK_TOKENS ? at.row1 : t + BLOCK_TOKENS, &s, bits);
        o += s.count;
    }
}

void matmul_q8g64_cols__avx2(const void *args, infer_region at) { matmul(args, at, 8); }
void matmul_q4g64_cols__avx2(const void *args, infer_region at) { matmul(args, at, 4); }
