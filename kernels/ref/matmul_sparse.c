/* y = x w^T, weights pruned: as matmul_g32.c, over the kept weights. Groups from which nothing is kept count too, with the sum 0. */
#include "kernels.h"
#include "mathf.h"
#include "sparse.h"

static inline float add_group(float y, int32_t sum, const infer_sparse *s, uint32_t o, size_t g, float x_scale)
{
    return fmaf((float)sum, infer_ref_f16_to_f32(infer_sparse_scale(s, o / 16, g / 2, o % 16)) * x_scale, y);
}

static inline void matmul(const infer_matmul_args *a, infer_region at, infer_qtype type, infer_layout layout)
{
    infer_sparse s = infer_sparse_at(layout, a->w, a->n, a->k);
    size_t groups = infer_q8_groups(a->k), row_groups = a->xq.row_groups;
    uint32_t step = layout == INFER_LAYOUT_BCSR16X4 ? 4 : 1;

    for (uint32_t t = at.row0; t < at.row1; t++) {
        const int8_t *codes = a->xq.codes + 32 * (t * row_groups);
        const float *scales = a->xq.scales + t * row_groups;
        for (uint32_t o = at.col0; o < at.col1; o++) {
            const uint8_t *unit = s.values + s.pointers[o / 16] * infer_sparse_unit_bytes(type);
            float y = 0;
            size_t kept = 0;
            for (size_t g = 0; g < groups; g++) {
                uint32_t mask = step == 4 ? infer_sparse_mask16x4(&s, o / 16, g) : infer_sparse_mask16x1(&s, o / 16, g);
                int32_t sum = 0;
                for (uint32_t i = 0; i < 32; i += step)
                    if (mask >> (i / step) & 1)
                        for (uint32_t j = 0; j < step; j++)
                            sum += infer_sparse_code(type, unit, o % 16, kept++) * codes[32 * g + i + j];
                y = add_group(y, sum, &s, o, g, scales[g]);
            }
            a->y[(size_t)t * a->y_stride + o] = y;
        }
    }
}

static inline void matmul_csr(const infer_matmul_args *a, infer_region at, infer_qtype type)
{
    infer_sparse s = infer_sparse_at(INFER_LAYOUT_CSR, a->w, a->n, a->k);
    const uint16_t *inputs = s.positions;
    size_t groups = infer_q8_groups(a->k), row_groups = a->xq.row_groups;

    for (uint32_t t = at.row0; t < at.row1; t++) {
        const int8_t *codes = a->xq.codes + 32 * (t * row_groups);
        const float *scales = a->xq.scales + t * row_groups;
        for (uint32_t o = at.col0; o < at.col1; o++) {
            uint32_t i = s.pointers[o], end = s.pointers[o + 1];
            float y = 0;
            for (size_t g = 0; g < groups; g++) {
                int32_t sum = 0;
                for (; i < end && inputs[i] < 32 * (g + 1); i++)
                    sum += infer_sparse_csr_code(type, s.values, i) * codes[inputs[i]];
                y = add_group(y, sum, &s, o, g, scales[g]);
            }
            a->y[(size_t)t * a->y_stride + o] = y;
        }
    }
}

void matmul_q8g64_bcsr16x1__ref(const void *args, infer_region at) { matmul(args, at, INFER_QTYPE_Q8G64, INFER_LAYOUT_BCSR16X1); }
void matmul_q4g64_bcsr16x1__ref(const void *args, infer_region at) { matmul(args, at, INFER_QTYPE_Q4G64, INFER_LAYOUT_BCSR16X1); }
void matmul_q8g64_bcsr16x4__ref(const void *args, infer_region at) { matmul(args, at, INFER_QTYPE_Q8G64, INFER_LAYOUT_BCSR16X4); }
void matmul_q4g64_bcsr16x4__ref(const void *args, infer_region at) { matmul(args, at, INFER_QTYPE_Q4G64, INFER_LAYOUT_BCSR16X4); }
void matmul_q8g64_csr__ref(const void *args, infer_region at) { matmul_csr(args, at, INFER_QTYPE_Q8G64); }
void matmul_q4g64_csr__ref(const void *args, infer_region at) { matmul_csr(args, at, INFER_QTYPE_Q4G64); }
