/* y = x w^T, weights q4g32 and n4g32, with vpdpbusd. */
#include "avx512/matmul_vnni.h"

ALWAYS_INLINE void panel_q4(const token_block *block, uint32_t shape, uint32_t count, size_t groups, const uint8_t *w, float *y,
                            uint32_t y_stride, __mmask16 rows, bool first)
{
    vnni_panel(block, shape, count, groups, w, y, y_stride, rows, first, WEIGHT_Q4);
}

ALWAYS_INLINE void panel_n4(const token_block *block, uint32_t shape, uint32_t count, size_t groups, const uint8_t *w, float *y,
                            uint32_t y_stride, __mmask16 rows, bool first)
{
    vnni_panel(block, shape, count, groups, w, y, y_stride, rows, first, WEIGHT_N4);
}

void matmul_q4g32_tile16x4__avx512vnni(const void *args, infer_region at)
{
    if (at.row1 - at.row0 == 1)
        vnni_row(args, at.row0, at.col0, at.col1, WEIGHT_Q4);
    else
        block_matmul(args, at, 0, INFER_TILE_Q4_GROUP_BYTES, BLOCK_INT8_OFFSET8, panel_q4);
}

void matmul_n4g32_tile16x4__avx512vnni(const void *args, infer_region at)
{
    if (at.row1 - at.row0 == 1)
        vnni_row(args, at.row0, at.col0, at.col1, WEIGHT_N4);
    else
        block_matmul(args, at, 0, INFER_TILE_Q4_GROUP_BYTES, BLOCK_INT8_OFFSET64, panel_n4);
}
