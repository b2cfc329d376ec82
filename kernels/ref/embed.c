/* Rows of the embedding table as floats. The table is stored as a matmul weight, because tied models use it as one. */
#include "kernels.h"
#include "mathf.h"
#include "tile16x4.h"

/* Value of row r (0..15) of the panel, input k. */
typedef float value_fn(const uint8_t *panel, uint32_t r, uint32_t k);

static float value_f32(const uint8_t *panel, uint32_t r, uint32_t k)
{
    float w;
    memcpy(&w, panel + ((size_t)(k / 4) * 64 + 4 * r + k % 4) * sizeof w, sizeof w);
    return w;
}

static uint16_t value_16(const uint8_t *panel, uint32_t r, uint32_t k)
{
    uint16_t w;
    memcpy(&w, panel + ((size_t)(k / 4) * 64 + 4 * r + k % 4) * sizeof w, sizeof w);
    return w;
}

static float value_f16(const uint8_t *panel, uint32_t r, uint32_t k) { return infer_ref_f16_to_f32(value_16(panel, r, k)); }
static float value_bf16(const uint8_t *panel, uint32_t r, uint32_t k) { return infer_ref_bf16_to_f32(value_16(panel, r, k)); }

static float value_q8g32(const uint8_t *panel, uint32_t r, uint32_t k)
{
    const uint8_t *group = panel + (size_t)(k / 32) * INFER_TILE_Q8_GROUP_BYTES;
    return (float)infer_tile_q8_code(group, r, k % 32) * infer_ref_f16_to_f32(infer_tile_scale(group, r));
}

static float value_q4g32(const uint8_t *panel, uint32_t r, uint32_t k)
{
    const uint8_t *group = panel + (size_t)(k / 32) * INFER_TILE_Q4_GROUP_BYTES;
    return (float)infer_tile_q4_code(group, r, k % 32) * infer_ref_f16_to_f32(infer_tile_scale(group, r));
}

static float value_n4g32(const uint8_t *panel, uint32_t r, uint32_t k)
{
    const uint8_t *group = panel + (size_t)(k / 32) * INFER_TILE_Q4_GROUP_BYTES;
    return (float)infer_tile_n4_value(group, r, k % 32) * infer_ref_f16_to_f32(infer_tile_scale(group, r));
}

static float value_t2r(const uint8_t *panel, uint32_t r, uint32_t k)
{
    const uint8_t *group = panel + INFER_TILE_T2_HEAD_BYTES + (size_t)(k / 32) * INFER_TILE_T2_GROUP_BYTES;
    return (float)infer_tile_t2_code(group, r, k % 32) * infer_tile_t2_scale(panel, r);
}

/* Panels of head_bytes and a panel group of group_bytes for every `group` inputs. */
static inline void embed(const infer_embed_args *a, infer_region at, size_t head_bytes, uint32_t group, size_t group_bytes, value_fn *value)
{
    size_t panel_bytes = head_bytes + (a->k + group - 1) / group * group_bytes;

    for (uint32_t t = at.row0; t < at.row1; t++) {
        uint32_t id = a->ids ? (uint32_t)a->ids[t] : a->pos0 + t;
        const uint8_t *panel = (const uint8_t *)a->w + id / 16 * panel_bytes;
        for (uint32_t k = at.col0; k < at.col1; k++)
            a->y[(size_t)t * a->y_stride + k] = value(panel, id % 16, k) * a->scale;
    }
}

void embed_f32_tile16x4__ref(const void *args, infer_region at) { embed(args, at, 0, 4, 64 * sizeof(float), value_f32); }
void embed_f16_tile16x4__ref(const void *args, infer_region at) { embed(args, at, 0, 4, 64 * sizeof(uint16_t), value_f16); }
void embed_bf16_tile16x4__ref(const void *args, infer_region at) { embed(args, at, 0, 4, 64 * sizeof(uint16_t), value_bf16); }
void embed_q8g32_tile16x4__ref(const void *args, infer_region at) { embed(args, at, 0, 32, INFER_TILE_Q8_GROUP_BYTES, value_q8g32); }
void embed_q4g32_tile16x4__ref(const void *args, infer_region at) { embed(args, at, 0, 32, INFER_TILE_Q4_GROUP_BYTES, value_q4g32); }
void embed_n4g32_tile16x4__ref(const void *args, infer_region at) { embed(args, at, 0, 32, INFER_TILE_Q4_GROUP_BYTES, value_n4g32); }

void embed_t2r_tile16x4__ref(const void *args, infer_region at)
{
    embed(args, at, INFER_TILE_T2_HEAD_BYTES, 32, INFER_TILE_T2_GROUP_BYTES, value_t2r);
}
