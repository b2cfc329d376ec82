/* The integer matmuls of level neon-dotprod. */
#include "dotprod.h"

void matmul_q8g32_tile16x4__neon_dotprod(const void *args, infer_region at)
{
    infer_int_matmul(args, at, INFER_TILE_Q8_GROUP_BYTES, infer_dot_group_q8g32);
}

void matmul_q4g32_tile16x4__neon_dotprod(const void *args, infer_region at)
{
    infer_int_matmul(args, at, INFER_TILE_Q4_GROUP_BYTES, infer_dot_group_q4g32);
}
