/* Products of matrices for training, all of them y = x w^T by the f32 kernels of kernels/, which want w in tile16x4: what training adds is ways to
 * bring rows or columns into that layout. */
#ifndef INFER_DISTILL_PRODUCTS_H
#define INFER_DISTILL_PRODUCTS_H

#include "kernels.h"

/* Floats of [rows][k] in tile16x4. */
static inline size_t distill_packed_size(size_t rows, size_t k) { return (rows + 15) / 16 * 16 * ((k + 3) / 4 * 4); }

/* w [rows][k], rows `stride` apart, to tile16x4; and the same from its transpose w [k][rows]. */
void distill_pack(const float *w, size_t stride, uint32_t rows, uint32_t k, float *out);
void distill_pack_columns(const float *w, size_t stride, uint32_t rows, uint32_t k, float *out);
/* y [n][m] = x [m][n] transposed. */
void distill_transpose(const float *x, size_t x_stride, uint32_t m, uint32_t n, float *y, size_t y_stride);

typedef struct distill_packed {
    const float *data;
    uint32_t rows, k;
} distill_packed;

/* y [m][n] = x [m][k] times inputs [k0, k0 + k) of rows [0, n) of w, transposed. k0 is a multiple of 4. One thread; sums over k in the kernel's order,
 * which does not depend on m. */
void distill_multiply(infer_kernel_fn *kernel, const float *x, size_t x_stride, uint32_t m, distill_packed w, uint32_t k0, uint32_t k, uint32_t n,
                      float *y, size_t y_stride);

#endif
