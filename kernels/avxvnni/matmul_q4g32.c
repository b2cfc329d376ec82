/* y = x w^T, weights q4g32 and n4g32, with vpdpbusd in 256 bits. */
#include "avxvnni/matmul_vnni.h"

void matmul_q4g32_tile16x4__avxvnni(const void *args, infer_region at) { matmul(args, at, WEIGHT_Q4); }
void matmul_n4g32_tile16x4__avxvnni(const void *args, infer_region at) { matmul(args, at, WEIGHT_N4); }
