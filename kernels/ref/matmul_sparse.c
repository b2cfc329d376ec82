/* y = x w^T, weights pruned: an exact sum over the kept weights of every block of 64 inputs, one fused multiply-add each. Blocks from which
 * nothing is kept count too, with the sum 0. */
#include "kernels.h"
#include "mathf.h"
#include "sparse.h"

static inline float add_block(float y, int32_t sum, const infer_sparse *s, uint32_t o, size_t b, float x_scale)
{
    return fmaf((float)sum, infer_ref_f16_to_f32(infer_sparse_scale(s, o / 16, b, o % 16)) * x_scale, y);
}

/* inputs[count] of a block, whose codes x are, times the kept inputs' weights from `kept` on. */
static inline int32_t dot(infer_qtype type, const uint8_t *units, uint32_t r, size_t kept, const uint8_t *inputs, uint32_t count, const int8_t *x)
{
    int32_t sum = 0;
    for (uint32_t i = 0; i < count; i++)
        sum += infer_sparse_code(type, units, r, kept + i) * x[inputs[i]];
    return sum;
}

static inline void matmul(const infer_matmul_args *a, infer_region at, infer_qtype type, infer_layout layout)
{
    infer_sparse s = infer_sparse_at(layout, a->w, a->n, a->k);

    for (uint32_t t = at.row0; t < at.row1; t++) {
        const int8_t *codes = a->xq.codes + 32 * t * (size_t)a->xq.row_groups;
        const float *scales = a->xq.scales + t * (size_t)a->xq.row_groups;
        for (uint32_t o = at.col0; o < at.col1; o++) {
            const uint8_t *units = s.values + s.pointers[o / 16] * infer_sparse_unit_bytes(type);
            float y = 0;
            size_t kept = 0;
            for (size_t b = 0; b < s.blocks; b++) {
                uint8_t inputs[64];
                uint32_t count = infer_sparse_kept(layout, &s, o / 16, b, kept, inputs);
                y = add_block(y, dot(type, units, o % 16, kept, inputs, count, codes + 64 * b), &s, o, b, scales[2 * b]);
                kept += count;
            }
            a->y[(size_t)t * a->y_stride + o] = y;
        }
    }
}

static inline void matmul_csr(const infer_matmul_args *a, infer_region at, infer_qtype type)
{
    infer_sparse s = infer_sparse_at(INFER_LAYOUT_CSR, a->w, a->n, a->k);
    const uint16_t *inputs = s.positions;

    for (uint32_t t = at.row0; t < at.row1; t++) {
        const int8_t *codes = a->xq.codes + 32 * t * (size_t)a->xq.row_groups;
        const float *scales = a->xq.scales + t * (size_t)a->xq.row_groups;
        for (uint32_t o = at.col0; o < at.col1; o++) {
            uint32_t i = s.pointers[o], end = s.pointers[o + 1];
            float y = 0;
            for (size_t b = 0; b < s.blocks; b++) {
                int32_t sum = 0;
                for (; i < end && inputs[i] < 64 * (b + 1); i++)
                    sum += infer_sparse_csr_code(type, s.values, i) * codes[inputs[i]];
                y = add_block(y, sum, &s, o, b, scales[2 * b]);
            }
            a->y[(size_t)t * a->y_stride + o] = y;
        }
    }
}

/* Tile by tile, of which each row has four bits. */
static inline void matmul_bitmask(const infer_matmul_args *a, infer_region at, infer_qtype type)
{
    infer_sparse s = infer_sparse_at(INFER_LAYOUT_BITMASK, a->w, a->n, a->k);

    for (uint32_t t = at.row0; t < at.row1; t++) {
        const int8_t *codes = a->xq.codes + 32 * t * (size_t)a->xq.row_groups;
        const float *scales = a->xq.scales + t * (size_t)a->xq.row_groups;
        for (uint32_t o = at.col0; o < at.col1; o++) {
            const uint8_t *values = s.values + s.pointers[o / 16] * infer_sparse_mask_unit_bytes(type);
            float y = 0;
            for (size_t b = 0; b < s.blocks; b++) {
                const uint64_t *masks = infer_sparse_masks(&s, o / 16, b);
                int32_t sum = 0;
                for (uint32_t c = 0; c < 16; c++) {
                    for (uint32_t j = 0; j < 4; j++)
                        if (masks[c] >> (4 * (o % 16) + j) & 1)
                            sum += infer_sparse_mask_code(type, values, masks[c], 4 * (o % 16) + j) * codes[64 * b + 4 * c + j];
                    values += infer_sparse_mask_units(masks[c]) * infer_sparse_mask_unit_bytes(type);
                }
                y = add_block(y, sum, &s, o, b, scales[2 * b]);
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
void matmul_q8g64_bitmask__ref(const void *args, infer_region at)
{
    matmul_bitmask(args, at, INFER_QTYPE_Q8G64);
}
void matmul_q4g64_bitmask__ref(const void *args, infer_region at)
{
    matmul_bitmask(args, at, INFER_QTYPE_Q4G64);
}
