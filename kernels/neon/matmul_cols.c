/*
 * y = x w^T in layout `cols`. Up to 16 columns of inputs that are not 0 are added at once over the outputs, in int32 sums in memory. q4g64:
 * nibbles 0..15 as they are, the products of 16 in 16 bits (16 x 15 x 127 = 30480), and 8 x the activations taken off with the scales.
 * q8g64: two columns in 16 bits, then widened (2 x 128 x 127 fits). The columns of a stripe's group stay in
 * the cache while tokens take them.
 *
 * There is no kernel with SDOT: interleaving four columns costs what it saves. For 16 bytes of each of four columns, q4g64 24 instructions
 * here (2 to unpack, 4 to multiply a column), 24 there (8 to interleave, 8 to unpack, 8 to multiply).
 */
#include "cols.h"
#include "neon.h"

enum {
    COLUMNS = 16, /* added at once */
    BLOCK_TOKENS = 16
};

/* The columns of a group's inputs that are not 0, and their codes; one more, times 0, follows. */
typedef struct active {
    uint32_t count;
    int32_t sum;
    const uint8_t *column[INFER_COLS_GROUP + 1];
    int8_t x[INFER_COLS_GROUP + 1];
} active;

static void list_active(active *a, const int8_t *codes, uint32_t inputs, const uint8_t *columns, size_t pitch)
{
    uint32_t n = 0;

    a->sum = 0;
    for (uint32_t i = 0; i < inputs; i++) {
        a->column[n] = columns + i * pitch;
        a->x[n] = codes[i];
        a->sum += codes[i];
        n += codes[i] != 0;
    }
    a->count = n;
    a->column[n] = columns;
    a->x[n] = 0;
}

/* at[0..8) = or += sum */
INFER_ALWAYS_INLINE void add_sums(int32_t *at, int16x8_t sum, bool first)
{
    const int32x4_t zero = vdupq_n_s32(0);
    vst1q_s32(at, vaddw_s16(first ? zero : vld1q_s32(at), vget_low_s16(sum)));
    vst1q_s32(at + 4, vaddw_high_s16(first ? zero : vld1q_s32(at + 4), sum));
}

/* Columns i..end - 1, at most COLUMNS, for `outputs` outputs: sums = them, or += them. */
static void add_columns_q4(int32_t *sums, const active *a, uint32_t i, uint32_t end, size_t outputs)
{
    for (size_t b = 0; b < outputs / 2; b += 16) {
        int32_t *low_at = sums + b / 64 * INFER_COLS_TILE + b % 64, *high_at = low_at + 64;
        int16x8_t low[2] = {vdupq_n_s16(0), vdupq_n_s16(0)}, high[2] = {vdupq_n_s16(0), vdupq_n_s16(0)};
        for (uint32_t c = i; c < end; c++) {
            uint8x16_t bytes = vld1q_u8(a->column[c] + b);
            int8x16_t l = vreinterpretq_s8_u8(vandq_u8(bytes, vdupq_n_u8(15))), h = vreinterpretq_s8_u8(vshrq_n_u8(bytes, 4)),
                      x = vld1q_dup_s8(a->x + c);
            low[0] = vmlal_s8(low[0], vget_low_s8(l), vget_low_s8(x));
            low[1] = vmlal_high_s8(low[1], l, x);
            high[0] = vmlal_s8(high[0], vget_low_s8(h), vget_low_s8(x));
            high[1] = vmlal_high_s8(high[1], h, x);
        }
        for (uint32_t v = 0; v < 2; v++) {
            add_sums(low_at + 8 * v, low[v], i == 0);
            add_sums(high_at + 8 * v, high[v], i == 0);
        }
    }
}

static void add_columns_q8(int32_t *sums, const active *a, uint32_t i, uint32_t end, size_t outputs)
{
    for (size_t o = 0; o < outputs; o += 16) {
        int32x4_t s[4];
        for (uint32_t v = 0; v < 4; v++)
            s[v] = i == 0 ? vdupq_n_s32(0) : vld1q_s32(sums + o + 4 * v);
        for (uint32_t c = i; c < end; c += 2) {
            int8x16_t w0 = vreinterpretq_s8_u8(vld1q_u8(a->column[c] + o)), w1 = vreinterpretq_s8_u8(vld1q_u8(a->column[c + 1] + o));
            int8x16_t x0 = vld1q_dup_s8(a->x + c), x1 = vld1q_dup_s8(a->x + c + 1);
            int16x8_t low = vmlal_s8(vmull_s8(vget_low_s8(w0), vget_low_s8(x0)), vget_low_s8(w1), vget_low_s8(x1));
            int16x8_t high = vmlal_high_s8(vmull_high_s8(w0, x0), w1, x1);
            s[0] = vaddw_s16(s[0], vget_low_s16(low));
            s[1] = vaddw_high_s16(s[1], low);
            s[2] = vaddw_s16(s[2], vget_low_s16(high));
            s[3] = vaddw_high_s16(s[3], high);
        }
        for (uint32_t v = 0; v < 4; v++)
            vst1q_s32(sums + o + 4 * v, s[v]);
    }
}

/* infer_cols_scale of four bytes. */
static inline float32x4_t scales_of(int16x4_t bytes)
{
    uint32x4_t bits = vreinterpretq_u32_s32(vshlq_n_s32(vmovl_s16(bytes), 19));
    return vreinterpretq_f32_u32(vaddq_u32(vandq_u32(bits, vdupq_n_u32(0x83f80000)), vdupq_n_u32(120u << 23)));
}

/* y[outputs] += (sums - offset) x (scales x activation scale) */
static void add_group(float *y, const int32_t *sums, int32_t offset, const uint8_t *scales, float x_scale, size_t outputs)
{
    for (size_t o = 0; o < outputs; o += 8) {
        int16x8_t bytes = vmovl_s8(vreinterpret_s8_u8(vld1_u8(scales + o)));
        float32x4_t scale[2] = {scales_of(vget_low_s16(bytes)), scales_of(vget_high_s16(bytes))};
        for (uint32_t v = 0; v < 2; v++) {
            int32x4_t sum = vsubq_s32(vld1q_s32(sums + o + 4 * v), vdupq_n_s32(offset));
            vst1q_f32(y + o + 4 * v, vfmaq_f32(vld1q_f32(y + o + 4 * v), vcvtq_f32_s32(sum), vmulq_n_f32(scale[v], x_scale)));
        }
    }
}

/* Outputs of a stripe, of tokens t0..t1 - 1; y: room for them. */
static void outputs_of(const infer_matmul_args *a, const infer_cols *w, uint32_t t0, uint32_t t1, const infer_cols_stripe *s, float *y)
{
    size_t pitch = infer_cols_codes_bytes(s->width, w->bits), o = s->at, outputs = s->width;
    size_t inputs = 32 * infer_q8_groups(a->k);
    int32_t sums[INFER_COLS_STRIPE];
    active list;

    memset(y, 0, (t1 - t0) * outputs * sizeof *y);
    for (size_t g = 0; g < w->groups; g++)
        for (uint32_t t = t0; t < t1; t++) {
            size_t at = t * (size_t)a->xq.row_groups + 2 * g;
            uint32_t left = inputs - 64 * g < 64 ? 32 : 64;
            list_active(&list, a->xq.codes + 32 * at, left, infer_cols_codes(w, s, g), pitch);
            for (uint32_t i = 0; i == 0 || i < list.count; i += COLUMNS)
                (w->bits == 4 ? add_columns_q4 : add_columns_q8)(sums, &list, i, list.count - i < COLUMNS ? list.count : i + COLUMNS,
                                                                 outputs);
            add_group(y + (t - t0) * outputs, sums, w->bits == 4 ? 8 * list.sum : 0, infer_cols_group(w, s, g),
                      a->xq.scales[at], outputs);
        }
    for (uint32_t t = t0; t < t1; t++, y += outputs)
        for (size_t i = 0; i < outputs && o + i < a->n; i += 4) {
            float32x4_t out = vmulq_f32(vld1q_f32(y + i), vld1q_f32(w->row + o + i));
            infer_neon_store(a->y + (size_t)t * a->y_stride + o + i, &out, 1, (uint32_t)(a->n - o - i < 4 ? a->n - o - i : 4));
        }
}

static void matmul(const infer_matmul_args *a, infer_region at, uint32_t bits)
{
    infer_cols w = infer_cols_at(a->w, a->n, a->k, bits);
    float y[BLOCK_TOKENS * INFER_COLS_STRIPE];

    for (size_t o = at.col0; o < at.col1;) {
        infer_cols_stripe s = infer_cols_stripe_of(&w, o);
        for (uint32_t t = at.row0; t < at.row1; t += BLOCK_TOKENS)
            outputs_of(a, &w, t, at.row1 - t < BLOCK_TOKENS ? at.row1 : t + BLOCK_TOKENS, &s, y);
        o += s.width;
    }
}

void matmul_q8g64_cols__neon(const void *args, infer_region at)
{
    matmul(args, at, 8);
}
void matmul_q4g64_cols__neon(const void *args, infer_region at)
{
    matmul(args, at, 4);
}
