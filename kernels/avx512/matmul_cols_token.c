/* y = x w^T in layout `cols`, one token, which memory bounds: sums of 256 bits, in the registers that AVX-512 has. */
#include "avx512/cols_token.h"
#include "avx2/cols_token.h"

void infer_q8g64_cols_token__avx512vnni(const infer_matmul_args *a, infer_region at) { cols_token(a, at, 8); }
void infer_q4g64_cols_token__avx512vnni(const infer_matmul_args *a, infer_region at) { cols_token(a, at, 4); }
