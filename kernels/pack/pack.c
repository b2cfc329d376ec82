#include "pack.h"

#include "ref/mathf.h"
#include "tile16x4.h"

#define F16_MAX 65504.0f
#define ALWAYS_INLINE static inline __attribute__((always_inline))

uint64_t infer_panel_bytes(infer_qtype type, uint64_t k)
{
    uint64_t bytes;

    return infer_tensor_bytes(type, INFER_LAYOUT_TILE16X4, 16, k, &bytes) ? bytes : 0;
}

/* ---- floats ---- */

static size_t float_index(uint32_t r, uint64_t k) { return (size_t)(k / 4 * 64 + 4 * r + k % 4); }

static bool pack_float(infer_qtype type, const float *rows, uint32_t n, uint64_t k, uint8_t *panel)
{
    for (uint32_t r = 0; r < n; r++) {
        for (uint64_t i = 0; i < k; i++) {
            float x = rows[r * k + i];
            uint16_t half;
            if (!isfinite(x))
                return false;
            if (type == INFER_QTYPE_F32) {
                memcpy(panel + float_index(r, i) * sizeof x, &x, sizeof x);
                continue;
            }
            half = type == INFER_QTYPE_F16 ? infer_ref_f32_to_f16(x) : infer_ref_f32_to_bf16(x);
            if (!isfinite(type == INFER_QTYPE_F16 ? infer_ref_f16_to_f32(half) : infer_ref_bf16_to_f32(half)))
                return false;
            memcpy(panel + float_index(r, i) * sizeof half, &half, sizeof half);
        }
    }
    return true;
}

/* ---- groups of 32 with a scale ---- */

static size_t group_bytes(infer_qtype type) { return type == INFER_QTYPE_Q8G32 ? INFER_TILE_Q8_GROUP_BYTES : INFER_TILE_Q4_GROUP_BYTES; }

static void set_scale(uint8_t *group, uint32_t r, uint16_t scale) { memcpy(group + 2 * r, &scale, sizeof scale); }

static void set_code(infer_qtype type, uint8_t *group, uint32_t r, uint32_t i, int32_t code)
{
    if (type == INFER_QTYPE_Q8G32) {
        group[infer_tile_q8_offset(r, i)] = (uint8_t)code;
    } else {
        uint8_t *byte = group + infer_tile_q4_offset(r, i);
        uint32_t shift = infer_tile_q4_shift(i);
        *byte = (uint8_t)((*byte & ~(15u << shift)) | (uint32_t)(code + 8) << shift);
    }
}

/* All rows and inputs 0: scale 0 and codes that mean 0. */
static void clear_group(infer_qtype type, uint8_t *group)
{
    memset(group, 0, INFER_TILE_SCALE_BYTES);
    memset(group + INFER_TILE_SCALE_BYTES, type == INFER_QTYPE_Q8G32 ? 0 : 0x88, group_bytes(type) - INFER_TILE_SCALE_BYTES);
}

static int32_t clamp_code(float code, int32_t low, int32_t high)
{
    return code < (float)low ? low : code > (float)high ? high : (int32_t)code;
}

/* ---- the scale of least squared error ---- */

/* How a scale is searched for: extreme / d for d = low, and then for +-d from `from` to `to`, where extreme is the value of largest magnitude. */
typedef struct grid {
    infer_qtype type;
    uint32_t group;
    float low, high; /* what the outermost codes stand for, in units of the scale */
    float from, to, step;
    float least_scale; /* below it fp16 is too coarse to choose */
    int refits;      /* how often the best one is then replaced by the least squares solution for its codes, while that gains something */
} grid;

static const grid q4_grid = {INFER_QTYPE_Q4G32, 32, -8, 7, 6.5f, 9, 0.25f, 0x1p-10f, 0};
static const grid q4g64_grid = {INFER_QTYPE_Q4G32, 64, -8, 7, 6.5f, 9, 0.25f, 0x1p-10f, 0};
static const grid n4_grid = {INFER_QTYPE_N4G32, 32, -63, 52, 44, 78, 2, 0x1p-14f, 2};

/* 1 where x / scale is past the middle between what codes i and i + 1 stand for. */
ALWAYS_INLINE int n4_above(float x, int i) { return x > (float)(infer_n4_values[i] + infer_n4_values[i + 1]) * 0.5f; }

/* Nearest of the numbers that codes stand for, in units of the scale. No branch and no look-up: compiled for several x at once. */
ALWAYS_INLINE float nearest(infer_qtype type, float x)
{
    float value = infer_n4_values[0];

    if (type == INFER_QTYPE_Q4G32) {
        value = x + 0x1.8p23f - 0x1.8p23f; /* rounded, half to even: magnitudes are far below 2^22 */
        return value < -8 ? -8 : value > 7 ? 7 : value;
    }
#pragma GCC unroll 15
    for (int i = 0; i < 15; i++)
        value += n4_above(x, i) ? (float)(infer_n4_values[i + 1] - infer_n4_values[i]) : 0;
    return value;
}

/* Squared error of x[n], n 32 or 64, with this scale; INFINITY where a value is off by more than `most`. Eight sums, and no call in the loop: this is most
 * of a conversion's time. */
ALWAYS_INLINE float group_error(infer_qtype type, const float *x, uint32_t n, float scale, float most)
{
    float inverse = 1.0f / scale, sums[8] = {0}, worst[8] = {0};

    for (uint32_t i = 0; i < n; i += 8)
        for (uint32_t j = 0; j < 8; j++) {
            float off = x[i + j] - scale * nearest(type, x[i + j] * inverse);
            sums[j] += off * off;
            off = off < 0 ? -off : off;
            worst[j] = off > worst[j] ? off : worst[j];
        }
    for (int j = 1; j < 8; j++) {
        sums[0] += sums[j];
        worst[0] = worst[j] > worst[0] ? worst[j] : worst[0];
    }
    return worst[0] <= most ? sums[0] : INFINITY;
}

/* The scale of least squared error for the codes that this one leads to; 0 where there is none. */
ALWAYS_INLINE float refit(infer_qtype type, const float *x, uint32_t n, float scale)
{
    float xq = 0, qq = 0;

    for (uint32_t i = 0; i < n; i++) {
        float q = nearest(type, x[i] / scale);
        xq += q * x[i];
        qq += q * q;
    }
    return qq > 0 ? xq / qq : 0;
}

/* Takes the fp16 of a scale if it is better than *best, whose error is *least. */
ALWAYS_INLINE bool try_scale(const grid *s, const float *x, float scale, float most, uint16_t *best, float *least)
{
    uint16_t bits = infer_ref_f32_to_f16(scale);
    float error = group_error(s->type, x, s->group, infer_ref_f16_to_f32(bits), most);

    if (!(error < *least))
        return false;
    *least = error;
    *best = bits;
    return true;
}

/* fp16 bits. No value gets a larger error than d = low may give it, 1 - high / -low of the extreme: what stands out stands out for
 * a reason. */
ALWAYS_INLINE uint16_t search_scale(const grid *s, const float *x, uint32_t count, float extreme)
{
    uint16_t best = infer_ref_f32_to_f16(extreme / s->low);
    float first = infer_ref_f16_to_f32(best), most = fabsf(extreme) * (1 + s->high / s->low);
    float values[64] = {0}, least;

    if (fabsf(first) < s->least_scale || fabsf(first) > 0x1p14f) /* where fp16 is coarse, or ends */
        return best;
    memcpy(values, x, count * sizeof *x);
    least = group_error(s->type, values, s->group, first, INFINITY);
    for (float d = s->from; d <= s->to; d += s->step) {
        try_scale(s, values, extreme / -d, most, &best, &least);
        try_scale(s, values, extreme / d, most, &best, &least);
    }
    for (int i = 0; i < s->refits; i++) {
        float scale = refit(s->type, values, s->group, infer_ref_f16_to_f32(best));
        if (fabsf(scale) < s->least_scale || !try_scale(s, values, scale, most, &best, &least))
            break;
    }
    return best;
}

/* x / scale as a code. */
static int32_t code_of(infer_qtype type, float x)
{
    int32_t code = -8;

    if (type != INFER_QTYPE_N4G32)
        return type == INFER_QTYPE_Q8G32 || type == INFER_QTYPE_Q8G64 ? clamp_code(rintf(x), -127, 127) : clamp_code(rintf(x), -8, 7);
    for (int i = 0; i < 15; i++)
        code += n4_above(x, i);
    return code;
}

static uint16_t scale_of(infer_qtype type, const float *x, uint32_t count, float extreme)
{
    switch (type) {
    case INFER_QTYPE_Q4G32:
        return search_scale(&q4_grid, x, count, extreme);
    case INFER_QTYPE_Q4G64:
        return search_scale(&q4g64_grid, x, count, extreme);
    case INFER_QTYPE_N4G32:
        return search_scale(&n4_grid, x, count, extreme);
    default:
        return infer_ref_f32_to_f16(fabsf(extreme) / 127.0f);
    }
}

bool infer_pack_group(infer_qtype type, const float *x, uint32_t count, uint16_t *scale, int8_t *codes)
{
    float extreme = 0, unit;

    for (uint32_t i = 0; i < count; i++) {
        if (!isfinite(x[i]))
            return false;
        if (fabsf(x[i]) > fabsf(extreme))
            extreme = x[i];
    }
    *scale = scale_of(type, x, count, extreme);
    unit = infer_ref_f16_to_f32(*scale);
    if (fabsf(unit) > F16_MAX)
        return false;
    if (unit == 0) /* of either sign */
        *scale = 0;
    for (uint32_t i = 0; i < count; i++)
        codes[i] = (int8_t)(unit == 0 ? 0 : code_of(type, x[i] / unit));
    return true;
}

static bool pack_group_row(infer_qtype type, const float *x, uint32_t count, uint8_t *group, uint32_t r)
{
    int8_t codes[32];
    uint16_t scale;

    if (!infer_pack_group(type, x, count, &scale, codes))
        return false;
    set_scale(group, r, scale);
    for (uint32_t i = 0; i < count; i++)
        set_code(type, group, r, i, codes[i]);
    return true;
}

/* ---- rows with a scale ---- */

static void set_ternary(uint8_t *panel, uint32_t r, uint64_t i, int32_t code)
{
    uint8_t *byte = panel + INFER_TILE_T2_HEAD_BYTES + i / 32 * INFER_TILE_T2_GROUP_BYTES + infer_tile_t2_offset(r, i % 32);
    uint32_t shift = infer_tile_t2_shift(i % 32);
    *byte = (uint8_t)((*byte & ~(3u << shift)) | (uint32_t)(code + 1) << shift);
}

float infer_ternary_scale(const float *row, uint64_t k)
{
    float scale = 0;

    for (uint64_t i = 0; i < k; i++) {
        scale = scale > 0 ? scale : fabsf(row[i]);
        if (row[i] != 0 && fabsf(row[i]) != scale)
            return -1;
    }
    return scale;
}

static bool pack_ternary_row(const float *x, uint64_t k, uint8_t *panel, uint32_t r)
{
    float scale = infer_ternary_scale(x, k);
    double sum = 0;

    for (uint64_t i = 0; i < k; i++) {
        if (!isfinite(x[i]))
            return false;
        sum += fabs((double)x[i]);
    }
    if (scale < 0)
        scale = (float)(sum / (double)k);
    if (scale == 0)
        return true; /* the panel was cleared */
    memcpy(panel + 4 * r, &scale, sizeof scale);
    for (uint64_t i = 0; i < k; i++)
        set_ternary(panel, r, i, clamp_code(rintf(x[i] / scale), -1, 1));
    return true;
}

static bool pack_ternary(const float *rows, uint32_t n, uint64_t k, uint8_t *panel)
{
    memset(panel, 0, INFER_TILE_T2_HEAD_BYTES);
    memset(panel + INFER_TILE_T2_HEAD_BYTES, 0x55, (size_t)infer_panel_bytes(INFER_QTYPE_T2R, k) - INFER_TILE_T2_HEAD_BYTES);
    for (uint32_t r = 0; r < n; r++)
        if (!pack_ternary_row(rows + r * k, k, panel, r))
            return false;
    return true;
}

bool infer_code_range(infer_qtype type, int32_t *low, int32_t *high)
{
    switch (type) {
    case INFER_QTYPE_Q8G32:
        *low = -127;
        *high = 127;
        return true;
    case INFER_QTYPE_Q4G32:
    case INFER_QTYPE_N4G32:
        *low = -8;
        *high = 7;
        return true;
    default:
        return false;
    }
}

bool infer_pack_panel(infer_qtype type, const float *rows, uint32_t n, uint64_t k, void *panel)
{
    uint8_t *group = panel;
    int32_t low, high;

    if (type == INFER_QTYPE_T2R)
        return pack_ternary(rows, n, k, panel);
    if (!infer_code_range(type, &low, &high)) {
        memset(panel, 0, (size_t)infer_panel_bytes(type, k));
        return pack_float(type, rows, n, k, panel);
    }
    for (uint64_t k0 = 0; k0 < k; k0 += 32, group += group_bytes(type)) {
        clear_group(type, group);
        for (uint32_t r = 0; r < n; r++)
            if (!pack_group_row(type, rows + r * k + k0, k - k0 < 32 ? (uint32_t)(k - k0) : 32, group, r))
                return false;
    }
    return true;
}

bool infer_pack_panel_codes(infer_qtype type, const int8_t *codes, const uint16_t *scales, uint32_t n, uint64_t k, void *panel)
{
    uint8_t *group = panel;
    uint64_t groups = (k + 31) / 32;
    int32_t low, high;

    if (!infer_code_range(type, &low, &high))
        return false;
    for (uint64_t g = 0; g < groups; g++, group += group_bytes(type)) {
        uint32_t count = k - 32 * g < 32 ? (uint32_t)(k - 32 * g) : 32;
        clear_group(type, group);
        for (uint32_t r = 0; r < n; r++) {
            uint16_t scale = scales[r * groups + g];
            if ((scale & 0x7c00) == 0x7c00) /* infinity or NaN */
                return false;
            set_scale(group, r, scale);
            for (uint32_t i = 0; i < count; i++) {
                int32_t code = codes[r * k + 32 * g + i];
                if (code < low || code > high)
                    return false;
                set_code(type, group, r, i, code);
            }
        }
    }
    return true;
}

void infer_unpack_panel(infer_qtype type, const void *panel, uint32_t n, uint64_t k, float *rows)
{
    const uint8_t *bytes = panel;

    for (uint32_t r = 0; r < n; r++) {
        for (uint64_t i = 0; i < k; i++) {
            float x = 0;
            uint16_t half;
            const uint8_t *group;
            switch (type) {
            case INFER_QTYPE_F32:
                memcpy(&x, bytes + float_index(r, i) * sizeof x, sizeof x);
                break;
            case INFER_QTYPE_F16:
            case INFER_QTYPE_BF16:
                memcpy(&half, bytes + float_index(r, i) * sizeof half, sizeof half);
                x = type == INFER_QTYPE_F16 ? infer_ref_f16_to_f32(half) : infer_ref_bf16_to_f32(half);
                break;
            case INFER_QTYPE_Q8G32:
                group = bytes + i / 32 * INFER_TILE_Q8_GROUP_BYTES;
                x = (float)infer_tile_q8_code(group, r, i % 32) * infer_ref_f16_to_f32(infer_tile_scale(group, r));
                break;
            case INFER_QTYPE_Q4G32:
                group = bytes + i / 32 * INFER_TILE_Q4_GROUP_BYTES;
                x = (float)infer_tile_q4_code(group, r, i % 32) * infer_ref_f16_to_f32(infer_tile_scale(group, r));
                break;
            case INFER_QTYPE_N4G32:
                group = bytes + i / 32 * INFER_TILE_Q4_GROUP_BYTES;
                x = (float)infer_tile_n4_value(group, r, i % 32) * infer_ref_f16_to_f32(infer_tile_scale(group, r));
                break;
            case INFER_QTYPE_T2R:
                group = bytes + INFER_TILE_T2_HEAD_BYTES + i / 32 * INFER_TILE_T2_GROUP_BYTES;
                x = (float)infer_tile_t2_code(group, r, i % 32) * infer_tile_t2_scale(bytes, r);
                break;
            case INFER_QTYPE_Q8G64: /* these have no panels */
            case INFER_QTYPE_Q4G64:
            case INFER_QTYPE_NONE:
                break;
            }
            rows[r * k + i] = x;
        }
    }
}
