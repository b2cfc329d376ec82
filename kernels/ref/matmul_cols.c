/* y = x w^T in layout `cols`: an exact integer sum for every 64 inputs, one fused multiply-add each, the row's factor at the end. Inputs whose
 * code is 0 are silent: their weights are not looked at. */
#include "cols.h"
#include "kernels.h"
#include "mathf.h"

static void matmul(const infer_matmul_args *a, infer_region at, uint32_t bits)
{
    infer_cols w = infer_cols_at(a->w, a->n, a->k, bits);
    size_t row_groups = a->xq.row_groups, inputs = 32 * infer_q8_groups(a->k);

    for (uint32_t t = at.row0; t < at.row1; t++)
        for (uint32_t o = at.col0; o < at.col1; o++) {
            infer_cols_stripe s = infer_cols_stripe_of(&w, o);
            size_t lane = o - s.at;
            float y = 0;
            for (size_t g = 0; g < w.groups; g++) {
                const uint8_t *group = infer_cols_group(&w, &s, g);
                const int8_t *codes = a->xq.codes + 32 * t * row_groups + 64 * g;
                int32_t sum = 0;
                for (uint32_t i = 0; i < 64 && 64 * g + i < inputs; i++)
                    if (codes[i])
                        sum += infer_cols_code(group, s.width, bits, i, lane) * codes[i];
                y = fmaf((float)sum, infer_cols_scale(group[lane]) * a->xq.scales[t * row_groups + 2 * g], y);
            }
            a->y[(size_t)t * a->y_stride + o] = y * w.row[o];
        }
}

void matmul_q8g64_cols__ref(const void *args, infer_region at) { matmul(args, at, 8); }
void matmul_q4g64_cols__ref(const void *args, infer_region at) { matmul(args, at, 4); }
