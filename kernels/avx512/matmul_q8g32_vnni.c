/* y = x w^T, weights q8g32, with vpdpbusd. */
#include "avx512/matmul_vnni.h"

ALWAYS_INLINE void panel(const token_block *block, uint32_t shape, uint32_t count, size_t groups, const uint8_t *w, float *y,
                         uint32_t y_stride, __mmask16 rows, bool first)
{
    vnni_panel(block, shape, count, groups, w, y, y_stride, rows, first, WEIGHT_Q8);
}

void matmul_q8g32_tile16x4__avx512vnni(const void *args, infer_region at)
{
    if (at.row1 - at.row0 == 1)
        vnni_row(args, at.row0, at.col0, at.col1, WEIGHT_Q8);
    else
        block_matmul(args, at, 0, INFER_TILE_Q8_GROUP_BYTES, BLOCK_INT8_OFFSET128, panel);
}
