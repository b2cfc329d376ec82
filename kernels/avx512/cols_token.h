/* Layout `cols`, one token: at.row1 is at.row0 + 1. */
#ifndef INFER_KERNELS_AVX512_COLS_TOKEN_H
#define INFER_KERNELS_AVX512_COLS_TOKEN_H

#include "kernels.h"

void infer_q8g64_cols_token__avx512vnni(const infer_matmul_args *a, infer_region at);
void infer_q4g64_cols_token__avx512vnni(const infer_matmul_args *a, infer_region at);

#endif
