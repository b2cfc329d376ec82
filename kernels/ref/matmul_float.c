/* y = x w^T for weights that are floats: four partial sums a output, one for each k mod 4. */
#include "kernels.h"
#include "mathf.h"
#include "tile16x4.h"

/* Weight `row` of the panel, input k, as a float. */
typedef float weight_fn(const uint8_t *panel, uint32_t r, uint32_t k);

static size_t element_index(uint32_t r, uint32_t k) { return (size_t)(k / 4) * 64 + 4 * r + k % 4; }

static float weight_f32(const uint8_t *panel, uint32_t r, uint32_t k)
{
    float w;
    memcpy(&w, panel + element_index(r, k) * sizeof w, sizeof w);
    return w;
}

static uint16_t weight_16(const uint8_t *panel, uint32_t r, uint32_t k)
{
    uint16_t w;
    memcpy(&w, panel + element_index(r, k) * sizeof w, sizeof w);
    return w;
}

static float weight_f16(const uint8_t *panel, uint32_t r, uint32_t k) { return infer_ref_f16_to_f32(weight_16(panel, r, k)); }
static float weight_bf16(const uint8_t *panel, uint32_t r, uint32_t k) { return infer_ref_bf16_to_f32(weight_16(panel, r, k)); }

static inline void matmul_float(const infer_matmul_args *a, infer_region at, uint32_t element_bytes, weight_fn *weight)
{
    size_t panel_bytes = (size_t)((a->k + 3) / 4) * 64 * element_bytes;

    for (uint32_t t = at.row0; t < at.row1; t++) {
        const float *x = a->x + (size_t)t * a->x_stride;
        for (uint32_t o = at.col0; o < at.col1; o++) {
            const uint8_t *panel = (const uint8_t *)a->w + o / 16 * panel_bytes;
            float p[4] = {0, 0, 0, 0};
            for (uint32_t k = 0; k < a->k; k++)
                p[k % 4] = fmaf(weight(panel, o % 16, k), x[k], p[k % 4]);
            a->y[(size_t)t * a->y_stride + o] = (p[0] + p[1]) + (p[2] + p[3]);
        }
    }
}

void matmul_f32_tile16x4__ref(const void *args, infer_region at) { matmul_float(args, at, sizeof(float), weight_f32); }
void matmul_f16_tile16x4__ref(const void *args, infer_region at) { matmul_float(args, at, sizeof(uint16_t), weight_f16); }
void matmul_bf16_tile16x4__ref(const void *args, infer_region at) { matmul_float(args, at, sizeof(uint16_t), weight_bf16); }
