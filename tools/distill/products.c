#include "products.h"

#include <string.h>

/* Element [r][c] of a 16 x 4 tile is 4 r + c. */

void distill_pack(const float *w, size_t stride, uint32_t rows, uint32_t k, float *out)
{
    for (uint32_t p = 0; p < rows; p += 16)
        for (uint32_t c = 0; c < k; c += 4, out += 64) {
            uint32_t n = rows - p < 16 ? rows - p : 16, width = k - c < 4 ? k - c : 4;
            if (n < 16 || width < 4)
                memset(out, 0, 64 * sizeof *out);
            for (uint32_t r = 0; r < n; r++)
                memcpy(out + 4 * r, w + (p + r) * stride + c, width * sizeof *out);
        }
}

void distill_pack_columns(const float *w, size_t stride, uint32_t rows, uint32_t k, float *out)
{
    for (uint32_t p = 0; p < rows; p += 16)
        for (uint32_t c = 0; c < k; c += 4, out += 64) {
            uint32_t n = rows - p < 16 ? rows - p : 16, width = k - c < 4 ? k - c : 4;
            const float *from = w + c * stride + p;
            if (n == 16 && width == 4) {
                for (uint32_t r = 0; r < 16; r++)
                    for (uint32_t i = 0; i < 4; i++)
                        out[4 * r + i] = from[i * stride + r];
                continue;
            }
            memset(out, 0, 64 * sizeof *out);
            for (uint32_t r = 0; r < n; r++)
                for (uint32_t i = 0; i < width; i++)
                    out[4 * r + i] = from[i * stride + r];
        }
}

void distill_transpose(const float *x, size_t x_stride, uint32_t m, uint32_t n, float *y, size_t y_stride)
{
    uint32_t t = 0;

    for (; t + 8 <= m; t += 8) { /* eight numbers of a row of y at once */
        const float *from = x + t * x_stride;
        for (uint32_t i = 0; i < n; i++)
            for (uint32_t j = 0; j < 8; j++)
                y[i * y_stride + t + j] = from[j * x_stride + i];
    }
    for (; t < m; t++)
        for (uint32_t i = 0; i < n; i++)
            y[i * y_stride + t] = x[t * x_stride + i];
}

void distill_multiply(infer_kernel_fn *kernel, const float *x, size_t x_stride, uint32_t m, distill_packed w, uint32_t k0, uint32_t k, uint32_t n,
                      float *y, size_t y_stride)
{
    infer_matmul_args a = {.w = w.data, .x = x, .y = y, .m = m, .n = n, .k = k, .x_stride = (uint32_t)x_stride, .y_stride = (uint32_t)y_stride};
    size_t panel = distill_packed_size(16, w.k);

    if (k == w.k) {
        kernel(&a, (infer_region){0, m, 0, n});
        return;
    }
    for (uint32_t p = 0; p < n; p += 16) { /* part of a panel's inputs: each panel by itself */
        a.w = w.data + p / 16 * panel + k0 / 4 * 64;
        a.y = y + p;
        a.n = n - p < 16 ? n - p : 16;
        kernel(&a, (infer_region){0, m, 0, a.n});
    }
}
