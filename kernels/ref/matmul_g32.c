/* y = x w^T, weights in groups of 32 with a scale, activations q8: an exact integer sum a group, one fused multiply-add a group. */
#include "kernels.h"
#include "mathf.h"
#include "tile16x4.h"

/* What is multiplied for row r (0..15), input i (0..31) of a panel group. */
typedef int32_t weight_fn(const uint8_t *group, uint32_t r, uint32_t i);

static inline void matmul(const infer_matmul_args *a, infer_region at, size_t group_bytes, weight_fn *weight)
{
    size_t groups = infer_q8_groups(a->k), row_groups = a->xq.row_groups;

    for (uint32_t t = at.row0; t < at.row1; t++) {
        const int8_t *codes = a->xq.codes + 32 * (t * row_groups);
        const float *scales = a->xq.scales + t * row_groups;
        for (uint32_t o = at.col0; o < at.col1; o++) {
            const uint8_t *group = (const uint8_t *)a->w + o / 16 * groups * group_bytes;
            float y = 0;
            for (size_t g = 0; g < groups; g++, group += group_bytes) {
                int32_t sum = 0;
                for (uint32_t i = 0; i < 32; i++)
                    sum += weight(group, o % 16, i) * codes[32 * g + i];
                y = fmaf((float)sum, infer_ref_f16_to_f32(infer_tile_scale(group, o % 16)) * scales[g], y);
            }
            a->y[(size_t)t * a->y_stride + o] = y;
        }
    }
}

void matmul_q8g32_tile16x4__ref(const void *args, infer_region at) { matmul(args, at, INFER_TILE_Q8_GROUP_BYTES, infer_tile_q8_code); }
void matmul_q4g32_tile16x4__ref(const void *args, infer_region at) { matmul(args, at, INFER_TILE_Q4_GROUP_BYTES, infer_tile_q4_code); }
void matmul_n4g32_tile16x4__ref(const void *args, infer_region at) { matmul(args, at, INFER_TILE_Q4_GROUP_BYTES, infer_tile_n4_value); }
