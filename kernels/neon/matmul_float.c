/*
 * y = x w^T for weights that are floats. The four lanes of a vector are the four partial sums of one output: a row's four inputs of a tile
 * times four activations is one fused multiply-add. Blocks of `tokens` x `rows` outputs keep 8 to 16 of those chains going, more than the
 * two pipes times four cycles (Cortex-A72, A76, Neoverse N1) that hide the latency, and share the loads: 8 for 16 at 4 x 4.
 */
#include "neon.h"

#define MAX_TOKENS 4
#define MAX_ROWS 16

/* Rows r..r+3 of a tile, inputs 4c..4c+3 each. `at` points to row r. */
typedef void tile_fn(const uint8_t *at, float32x4_t rows[4]);

static inline void tile_f32(const uint8_t *at, float32x4_t rows[4])
{
#pragma GCC unroll 4
    for (uint32_t r = 0; r < 4; r++)
        rows[r] = vreinterpretq_f32_u8(vld1q_u8(at + 16 * r));
}

static inline void tile_f16(const uint8_t *at, float32x4_t rows[4])
{
    float32x4x2_t first = infer_neon_f16x8(at), second = infer_neon_f16x8(at + 16);

    rows[0] = first.val[0];
    rows[1] = first.val[1];
    rows[2] = second.val[0];
    rows[3] = second.val[1];
}

static inline void tile_bf16(const uint8_t *at, float32x4_t rows[4])
{
#pragma GCC unroll 4
    for (uint32_t r = 0; r < 4; r++)
        rows[r] = infer_neon_bf16x4(at + 8 * r);
}

typedef float32x4_t accumulators[MAX_TOKENS][MAX_ROWS];

/* sum[t][r] += tile c. Lanes of x that are no inputs: see block(). */
INFER_ALWAYS_INLINE void add_tile(accumulators sum, const uint8_t *at, const float32x4_t *x, uint32_t tokens, uint32_t rows,
                                  uint32_t element_bytes, tile_fn *tile)
{
#pragma GCC unroll 4
    for (uint32_t r = 0; r < rows; r += 4) {
        float32x4_t w[4];
        tile(at + (size_t)r * 4 * element_bytes, w);
#pragma GCC unroll 4
        for (uint32_t t = 0; t < tokens; t++)
#pragma GCC unroll 4
            for (uint32_t i = 0; i < 4; i++)
                sum[t][r + i] = vfmaq_f32(sum[t][r + i], w[i], x[t]);
    }
}

/* Rows row..row+rows of the panel for tokens t0..t0+tokens; both counts are compile-time constants. */
INFER_ALWAYS_INLINE void block(const infer_matmul_args *a, const uint8_t *panel, uint32_t col, uint32_t col_end, uint32_t t0,
                               uint32_t tokens, uint32_t row, uint32_t rows, uint32_t element_bytes, tile_fn *tile)
{
    const uint8_t *at = panel + (size_t)row * 4 * element_bytes;
    accumulators sum;
    uint32_t k = 0;

#pragma GCC unroll 4
    for (uint32_t t = 0; t < tokens; t++)
#pragma GCC unroll 16
        for (uint32_t r = 0; r < rows; r++)
            sum[t][r] = vdupq_n_f32(0);

    for (; k + 4 <= a->k; k += 4, at += (size_t)64 * element_bytes) {
        float32x4_t x[MAX_TOKENS];
#pragma GCC unroll 4
        for (uint32_t t = 0; t < tokens; t++)
            x[t] = vld1q_f32(a->x + (size_t)(t0 + t) * a->x_stride + k);
        add_tile(sum, at, x, tokens, rows, element_bytes, tile);
    }
    if (k < a->k) { /* the last tile is partly padding, whose lanes must keep their sums, whatever the padding holds */
        static const uint32_t first[8] = {UINT32_MAX, UINT32_MAX, UINT32_MAX, UINT32_MAX, 0, 0, 0, 0};
        uint32x4_t real = vld1q_u32(first + 4 - (a->k - k));
        accumulators with_padding;
        float32x4_t x[MAX_TOKENS];
#pragma GCC unroll 4
        for (uint32_t t = 0; t < tokens; t++) {
            float four[4] = {0};
            memcpy(four, a->x + (size_t)(t0 + t) * a->x_stride + k, (a->k - k) * sizeof *four);
            x[t] = vld1q_f32(four);
#pragma GCC unroll 16
            for (uint32_t r = 0; r < rows; r++)
                with_padding[t][r] = sum[t][r];
        }
        add_tile(with_padding, at, x, tokens, rows, element_bytes, tile);
#pragma GCC unroll 4
        for (uint32_t t = 0; t < tokens; t++)
#pragma GCC unroll 16
            for (uint32_t r = 0; r < rows; r++)
                sum[t][r] = vbslq_f32(real, with_padding[t][r], sum[t][r]);
    }

    /* Two pairwise additions give (p[0] + p[1]) + (p[2] + p[3]) of four rows. */
#pragma GCC unroll 4
    for (uint32_t t = 0; t < tokens; t++) {
        float32x4_t y[MAX_ROWS / 4];
#pragma GCC unroll 4
        for (uint32_t r = 0; r < rows; r += 4)
            y[r / 4] = vpaddq_f32(vpaddq_f32(sum[t][r], sum[t][r + 1]), vpaddq_f32(sum[t][r + 2], sum[t][r + 3]));
        if (col + row < col_end)
            infer_neon_store(a->y + (size_t)(t0 + t) * a->y_stride + col + row, y, rows / 4, col_end - col - row);
    }
}

INFER_ALWAYS_INLINE void matmul_float(const infer_matmul_args *a, infer_region at, uint32_t element_bytes, tile_fn *tile)
{
    size_t panel_bytes = (size_t)((a->k + 3) / 4) * 64 * element_bytes;

    for (uint32_t first = at.row0; first < at.row1; first += INFER_NEON_TOKENS_IN_CACHE) {
        uint32_t end = at.row1 - first < INFER_NEON_TOKENS_IN_CACHE ? at.row1 : first + INFER_NEON_TOKENS_IN_CACHE;
        for (uint32_t col = at.col0; col < at.col1; col += 16) {
            const uint8_t *panel = (const uint8_t *)a->w + col / 16 * panel_bytes;
            uint32_t t = first;
            for (; end - t >= 4; t += 4)
                for (uint32_t row = 0; row < 16; row += 4)
                    block(a, panel, col, at.col1, t, 4, row, 4, element_bytes, tile);
            if (end - t >= 2) {
                for (uint32_t row = 0; row < 16; row += 8)
                    block(a, panel, col, at.col1, t, 2, row, 8, element_bytes, tile);
                t += 2;
            }
            if (t < end)
                block(a, panel, col, at.col1, t, 1, 0, 16, element_bytes, tile);
        }
    }
}

void matmul_f32_tile16x4__neon(const void *args, infer_region at)
{
    matmul_float(args, at, sizeof(float), tile_f32);
}
void matmul_f16_tile16x4__neon(const void *args, infer_region at)
{
    matmul_float(args, at, sizeof(uint16_t), tile_f16);
}
void matmul_bf16_tile16x4__neon(const void *args, infer_region at)
{
    matmul_float(args, at, sizeof(uint16_t), tile_bf16);
}
