/* Attention over a q8g32 cache with the scores of this level's matmul. */
#include "neon.h"

void attention_q8g32__neon_dotprod(const void *args, infer_region at)
{
    infer_neon_attention_q8g32(args, at, matmul_q8g32_tile16x4__neon_dotprod);
}
void attention_chunks_q8g32__neon_dotprod(const void *args, infer_region at)
{
    infer_neon_attention_chunks_q8g32(args, at, matmul_q8g32_tile16x4__neon_dotprod);
}
