#include "pack.h"

#include "ref/mathf.h"
#include "tile16x4.h"

#define F16_MAX 65504.0f

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

/* Squared error of x[32] with this scale, which is at least a sixteenth of all magnitudes, and codes -8..7; INFINITY where a value is off by more than
 * `most`. Eight sums, and no call in the loop: this is most of a conversion's time. */
static float q4_error(const float x[32], float scale, float most)
{
    float inverse = 1.0f / scale, sums[8] = {0}, worst[8] = {0};

    for (int i = 0; i < 32; i += 8)
        for (int j = 0; j < 8; j++) {
            float code = x[i + j] * inverse + 0x1.8p23f - 0x1.8p23f, off; /* rounded, half to even */
            code = code < -8 ? -8 : code > 7 ? 7 : code;
            off = x[i + j] - scale * code;
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

/* fp16 bits of the scale of least squared error among extreme / d, d in quarters from -9 to -6.5 and from 6.5 to 9. No value gets a larger error than d =
 * -8 may give it, an eighth of the extreme: what stands out stands out for a reason. */
static uint16_t search_q4_scale(const float *x, uint32_t count, float extreme)
{
    uint16_t best = infer_ref_f32_to_f16(extreme / -8.0f);
    float first = infer_ref_f16_to_f32(best), most = fabsf(extreme) * 0.125f, padded[32] = {0}, least;

    if (fabsf(first) < 0x1p-10f || fabsf(first) > 0x1p14f) /* where fp16 is coarse, or ends */
        return best;
    memcpy(padded, x, count * sizeof *x);
    least = q4_error(padded, first, INFINITY);
    for (int quarters = 26; quarters <= 36; quarters++)
        for (int sign = -1; sign <= 1; sign += 2) {
            uint16_t bits = infer_ref_f32_to_f16(extreme * 4.0f / (float)(sign * quarters));
            float error = q4_error(padded, infer_ref_f16_to_f32(bits), most);
            if (error < least) {
                least = error;
                best = bits;
            }
        }
    return best;
}

static bool pack_group_row(infer_qtype type, const float *x, uint32_t count, uint8_t *group, uint32_t r)
{
    float extreme = 0, scale;
    uint16_t bits;

    for (uint32_t i = 0; i < count; i++) {
        if (!isfinite(x[i]))
            return false;
        if (fabsf(x[i]) > fabsf(extreme))
            extreme = x[i];
    }
    bits = type == INFER_QTYPE_Q8G32 ? infer_ref_f32_to_f16(fabsf(extreme) / 127.0f) : search_q4_scale(x, count, extreme);
    scale = infer_ref_f16_to_f32(bits);
    if (fabsf(scale) > F16_MAX)
        return false;
    if (scale == 0)
        return true; /* the group was cleared */
    set_scale(group, r, bits);
    for (uint32_t i = 0; i < count; i++) {
        float code = rintf(x[i] / scale);
        set_code(type, group, r, i, type == INFER_QTYPE_Q8G32 ? clamp_code(code, -127, 127) : clamp_code(code, -8, 7));
    }
    return true;
}

/* ---- rows with a scale ---- */

static void set_ternary(uint8_t *panel, uint32_t r, uint64_t i, int32_t code)
{
    uint8_t *byte = panel + INFER_TILE_T2_HEAD_BYTES + i / 32 * INFER_TILE_T2_GROUP_BYTES + infer_tile_t2_offset(r, i % 32);
    uint32_t shift = infer_tile_t2_shift(i % 32);
    *byte = (uint8_t)((*byte & ~(3u << shift)) | (uint32_t)(code + 1) << shift);
}

static bool pack_ternary_row(const float *x, uint64_t k, uint8_t *panel, uint32_t r)
{
    float scale = 0;
    double sum = 0;
    bool ternary = true;

    for (uint64_t i = 0; i < k; i++) {
        if (!isfinite(x[i]))
            return false;
        if (scale == 0)
            scale = fabsf(x[i]);
        ternary = ternary && (x[i] == 0 || fabsf(x[i]) == scale);
        sum += fabs((double)x[i]);
    }
    if (!ternary)
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

bool infer_pack_panel(infer_qtype type, const float *rows, uint32_t n, uint64_t k, void *panel)
{
    uint8_t *group = panel;

    if (type == INFER_QTYPE_T2R)
        return pack_ternary(rows, n, k, panel);
    if (type != INFER_QTYPE_Q8G32 && type != INFER_QTYPE_Q4G32) {
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
    int32_t low = type == INFER_QTYPE_Q8G32 ? -127 : -8, high = type == INFER_QTYPE_Q8G32 ? 127 : 7;

    if (type != INFER_QTYPE_Q8G32 && type != INFER_QTYPE_Q4G32)
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
            case INFER_QTYPE_T2R:
                group = bytes + INFER_TILE_T2_HEAD_BYTES + i / 32 * INFER_TILE_T2_GROUP_BYTES;
                x = (float)infer_tile_t2_code(group, r, i % 32) * infer_tile_t2_scale(bytes, r);
                break;
            case INFER_QTYPE_NONE:
                break;
            }
            rows[r * k + i] = x;
        }
    }
}
