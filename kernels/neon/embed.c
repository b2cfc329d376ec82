/* Rows of the embedding table as floats. A row's codes lie 64 bytes apart, four at a time. */
#include "neon.h"
#include "tile16x4.h"

/* Inputs 4c..4c+3 of row r, c-th tile of the panel. */
typedef float32x4_t tile_fn(const uint8_t *panel, uint32_t r, uint32_t c);

static inline float32x4_t tile_f32(const uint8_t *panel, uint32_t r, uint32_t c)
{
    return vreinterpretq_f32_u8(vld1q_u8(panel + ((size_t)c * 64 + 4 * r) * sizeof(float)));
}

static inline float32x4_t tile_f16(const uint8_t *panel, uint32_t r, uint32_t c)
{
    return infer_neon_f16x4(panel + ((size_t)c * 64 + 4 * r) * sizeof(uint16_t));
}

static inline float32x4_t tile_bf16(const uint8_t *panel, uint32_t r, uint32_t c)
{
    return infer_neon_bf16x4(panel + ((size_t)c * 64 + 4 * r) * sizeof(uint16_t));
}

INFER_ALWAYS_INLINE void embed_float(const infer_embed_args *a, infer_region at, uint32_t element_bytes, tile_fn *tile)
{
    size_t panel_bytes = (size_t)((a->k + 3) / 4) * 64 * element_bytes;

    for (uint32_t t = at.row0; t < at.row1; t++) {
        uint32_t id = a->ids ? (uint32_t)a->ids[t] : a->pos0 + t;
        const uint8_t *panel = (const uint8_t *)a->w + id / 16 * panel_bytes;
        float *y = a->y + (size_t)t * a->y_stride;
        for (uint32_t k = at.col0; k < at.col1; k += 4) {
            float32x4_t w = vmulq_n_f32(tile(panel, id % 16, k / 4), a->scale);
            infer_neon_store(y + k, &w, 1, at.col1 - k);
        }
    }
}

/* Four tiles' codes of one row. */
static inline int8x16_t gather(const uint8_t *at)
{
    uint32_t four[4];

    for (uint32_t c = 0; c < 4; c++)
        memcpy(&four[c], at + (size_t)c * INFER_TILE_BYTES, sizeof four[c]);
    return vreinterpretq_s8_u32(vld1q_u32(four));
}

/* y[0..count) = codes x scale x factor, count in 1..16. */
static inline void store_scaled(float *y, int8x16_t codes, float scale, float factor, uint32_t count)
{
    int16x8_t low = vmovl_s8(vget_low_s8(codes)), high = vmovl_high_s8(codes);
    float32x4_t out[4] = {
        vmulq_n_f32(vmulq_n_f32(vcvtq_f32_s32(vmovl_s16(vget_low_s16(low))), scale), factor),
        vmulq_n_f32(vmulq_n_f32(vcvtq_f32_s32(vmovl_high_s16(low)), scale), factor),
        vmulq_n_f32(vmulq_n_f32(vcvtq_f32_s32(vmovl_s16(vget_low_s16(high))), scale), factor),
        vmulq_n_f32(vmulq_n_f32(vcvtq_f32_s32(vmovl_high_s16(high)), scale), factor),
    };

    infer_neon_store(y, out, 4, count);
}

/* Codes of inputs 0..15 and 16..31 of row r. */
typedef void codes_fn(const uint8_t *group, uint32_t r, int8x16_t codes[2]);

static inline void codes_q8g32(const uint8_t *group, uint32_t r, int8x16_t codes[2])
{
    const uint8_t *tile = group + INFER_TILE_SCALE_BYTES + 4 * r;

    codes[0] = gather(tile);
    codes[1] = gather(tile + 4 * INFER_TILE_BYTES);
}

/* The low nibbles of tile c are inputs 8c..8c+3, the high ones 8c+4..8c+7: both nibbles of all tiles, as what `values` has for them, then zipped by
 * fours. */
static inline void codes_nibbles(const uint8_t *group, uint32_t r, int8x16_t values, int8x16_t codes[2])
{
    uint8x16_t bytes = vreinterpretq_u8_s8(gather(group + INFER_TILE_SCALE_BYTES + 4 * r));
    int8x16_t low = vqtbl1q_s8(values, vandq_u8(bytes, vdupq_n_u8(15))), high = vqtbl1q_s8(values, vshrq_n_u8(bytes, 4));

    codes[0] = vreinterpretq_s8_s32(vzip1q_s32(vreinterpretq_s32_s8(low), vreinterpretq_s32_s8(high)));
    codes[1] = vreinterpretq_s8_s32(vzip2q_s32(vreinterpretq_s32_s8(low), vreinterpretq_s32_s8(high)));
}

static inline void codes_q4g32(const uint8_t *group, uint32_t r, int8x16_t codes[2])
{
    static const int8_t values[16] = {-8, -7, -6, -5, -4, -3, -2, -1, 0, 1, 2, 3, 4, 5, 6, 7};
    codes_nibbles(group, r, vld1q_s8(values), codes);
}

static inline void codes_n4g32(const uint8_t *group, uint32_t r, int8x16_t codes[2])
{
    codes_nibbles(group, r, vld1q_s8(infer_n4_values), codes);
}

INFER_ALWAYS_INLINE void embed_codes(const infer_embed_args *a, infer_region at, size_t group_bytes, codes_fn *codes_of)
{
    size_t panel_bytes = (a->k + 31) / 32 * group_bytes;

    for (uint32_t t = at.row0; t < at.row1; t++) {
        uint32_t id = a->ids ? (uint32_t)a->ids[t] : a->pos0 + t;
        const uint8_t *group = (const uint8_t *)a->w + id / 16 * panel_bytes + at.col0 / 32 * group_bytes;
        float *y = a->y + (size_t)t * a->y_stride;
        for (uint32_t k = at.col0; k < at.col1; k += 32, group += group_bytes) {
            float scale = infer_ref_f16_to_f32(infer_tile_scale(group, id % 16));
            int8x16_t codes[2];
            codes_of(group, id % 16, codes);
            store_scaled(y + k, codes[0], scale, a->scale, at.col1 - k);
            if (at.col1 - k > 16)
                store_scaled(y + k + 16, codes[1], scale, a->scale, at.col1 - k - 16);
        }
    }
}

void embed_f32_tile16x4__neon(const void *args, infer_region at)
{
    embed_float(args, at, sizeof(float), tile_f32);
}
void embed_f16_tile16x4__neon(const void *args, infer_region at)
{
    embed_float(args, at, sizeof(uint16_t), tile_f16);
}
void embed_bf16_tile16x4__neon(const void *args, infer_region at)
{
    embed_float(args, at, sizeof(uint16_t), tile_bf16);
}
void embed_q8g32_tile16x4__neon(const void *args, infer_region at)
{
    embed_codes(args, at, INFER_TILE_Q8_GROUP_BYTES, codes_q8g32);
}
void embed_q4g32_tile16x4__neon(const void *args, infer_region at)
{
    embed_codes(args, at, INFER_TILE_Q4_GROUP_BYTES, codes_q4g32);
}
void embed_n4g32_tile16x4__neon(const void *args, infer_region at)
{
    embed_codes(args, at, INFER_TILE_Q4_GROUP_BYTES, codes_n4g32);
}
