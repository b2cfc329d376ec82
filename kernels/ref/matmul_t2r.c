/* y = x w^T, weights t2r, activations q8: an exact integer sum and one fused multiply-add a group, the row's scale at the end. */
#include "kernels.h"
#include "mathf.h"
#include "tile16x4.h"

void matmul_t2r_tile16x4__ref(const void *args, infer_region at)
{
    const infer_matmul_args *a = args;
    size_t groups = infer_q8_groups(a->k), row_groups = a->xq.row_groups;

    for (uint32_t t = at.row0; t < at.row1; t++) {
        const int8_t *codes = a->xq.codes + 32 * (t * row_groups);
        const float *scales = a->xq.scales + t * row_groups;
        for (uint32_t o = at.col0; o < at.col1; o++) {
            const uint8_t *panel = (const uint8_t *)a->w + o / 16 * (INFER_TILE_T2_HEAD_BYTES + groups * INFER_TILE_T2_GROUP_BYTES);
            const uint8_t *group = panel + INFER_TILE_T2_HEAD_BYTES;
            float y = 0;
            for (size_t g = 0; g < groups; g++, group += INFER_TILE_T2_GROUP_BYTES) {
                int32_t sum = 0;
                for (uint32_t i = 0; i < 32; i++)
                    sum += infer_tile_t2_code(group, o % 16, i) * codes[32 * g + i];
                y = fmaf((float)sum, scales[g], y);
            }
            a->y[(size_t)t * a->y_stride + o] = y * infer_tile_t2_scale(panel, o % 16);
        }
    }
}
