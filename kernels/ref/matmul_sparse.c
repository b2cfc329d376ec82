/* y = x w^T, weights pruned: an exact sum over the kept weights of every block of 64 inputs, one fused multiply-add each. Blocks from which
 * nothing is kept count too, with the sum 0. */
#include "kernels.h"
#include "mathf.h"
#include "sparse.h"

static inline float add_block(float y, int32_t sum, const infer_sparse *s, uint32_t o, size_t b, float x_scale)
{
    return fmaf((float)sum, infer_ref_f16_to_f32(infer_sparse_scale(s, o / 16, b, o % 16)) * x_scale, y);
}

/* Where a row's walk through its blocks stands. */
typedef struct walk {
    const uint8_t *values; /* of the row's panel; bitmask: of the next tile */
    size_t next;           /* bcsr16: inputs kept before the block; csr: the next number */
} walk;

static inline walk begin_row(const infer_sparse *s, infer_qtype type, infer_layout layout, uint32_t o)
{
    if (layout == INFER_LAYOUT_CSR)
        return (walk){s->values, s->pointers[o]};
    if (layout == INFER_LAYOUT_BITMASK)
        return (walk){s->values + s->pointers[o / 16] * infer_sparse_mask_unit_bytes(type), 0};
    return (walk){s->values + s->pointers[o / 16] * infer_sparse_unit_bytes(type), 0};
}

/* bcsr16x1, bcsr16x4: block b of row o, times the block's activations x. */
static inline int32_t dot_units(const infer_sparse *s, infer_qtype type, infer_layout layout, uint32_t o, size_t b, const int8_t *x, walk *w)
{
    uint8_t inputs[64];
    uint32_t count = infer_sparse_kept(layout, s, o / 16, b, w->next, inputs);
    int32_t sum = 0;

    for (uint32_t i = 0; i < count; i++)
        sum += infer_sparse_code(type, w->values, o % 16, w->next + i) * x[inputs[i]];
    w->next += count;
    return sum;
}

static inline int32_t dot_numbers(const infer_sparse *s, infer_qtype type, uint32_t o, size_t b, const int8_t *x, walk *w)
{
    const uint16_t *inputs = s->positions;
    int32_t sum = 0;

    for (; w->next < s->pointers[o + 1] && inputs[w->next] < 64 * (b + 1); w->next++)
        sum += infer_sparse_number(type, w->values, w->next) * x[inputs[w->next] % 64];
    return sum;
}

/* bitmask: tile by tile, of which each row has four bits. */
static inline int32_t dot_tiles(const infer_sparse *s, infer_qtype type, uint32_t o, size_t b, const int8_t *x, walk *w)
{
    const uint64_t *masks = infer_sparse_masks(s, o / 16, b);
    int32_t sum = 0;

    for (uint32_t c = 0; c < 16; c++) {
        for (uint32_t j = 0; j < 4; j++)
            if (masks[c] >> (4 * (o % 16) + j) & 1)
                sum += infer_sparse_mask_code(type, w->values, masks[c], 4 * (o % 16) + j) * x[4 * c + j];
        w->values += infer_sparse_mask_units(masks[c]) * infer_sparse_mask_unit_bytes(type);
    }
    return sum;
}

static inline void matmul(const infer_matmul_args *a, infer_region at, infer_qtype type, infer_layout layout)
{
    infer_sparse s = infer_sparse_at(layout, a->w, a->n, a->k);

    for (uint32_t t = at.row0; t < at.row1; t++) {
        const int8_t *codes = a->xq.codes + 32 * t * (size_t)a->xq.row_groups;
        const float *scales = a->xq.scales + t * (size_t)a->xq.row_groups;
        for (uint32_t o = at.col0; o < at.col1; o++) {
            walk w = begin_row(&s, type, layout, o);
            float y = 0;
            for (size_t b = 0; b < s.blocks; b++) {
                const int8_t *x = codes + 64 * b;
                int32_t sum = layout == INFER_LAYOUT_CSR       ? dot_numbers(&s, type, o, b, x, &w)
                              : layout == INFER_LAYOUT_BITMASK ? dot_tiles(&s, type, o, b, x, &w)
                                                               : dot_units(&s, type, layout, o, b, x, &w);
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
void matmul_q8g64_csr__ref(const void *args, infer_region at) { matmul(args, at, INFER_QTYPE_Q8G64, INFER_LAYOUT_CSR); }
void matmul_q4g64_csr__ref(const void *args, infer_region at) { matmul(args, at, INFER_QTYPE_Q4G64, INFER_LAYOUT_CSR); }
void matmul_q8g64_bitmask__ref(const void *args, infer_region at) { matmul(args, at, INFER_QTYPE_Q8G64, INFER_LAYOUT_BITMASK); }
void matmul_q4g64_bitmask__ref(const void *args, infer_region at) { matmul(args, at, INFER_QTYPE_Q4G64, INFER_LAYOUT_BITMASK); }
