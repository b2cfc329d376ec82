/* Loop for peaks.c, compiled with this extension enabled and called only where the CPU has it. */
#include "peaks.h"

#include <arm_neon.h>

#define EACH16(F) F(0) F(1) F(2) F(3) F(4) F(5) F(6) F(7) F(8) F(9) F(10) F(11) F(12) F(13) F(14) F(15)

void infer_peak_sdot__neon_dotprod(uint64_t rounds)
{
    int32x4_t acc[16] = {0};
    int8x16_t w = vdupq_n_s8(-3), x = vdupq_n_s8(5);
    __asm__ volatile("" : "+w"(w));
    for (; rounds; rounds--) {
/* The compiler must believe that x changed; no instruction is emitted. */
#define MAC(i) __asm__ volatile("" : "+w"(x)); acc[i] = vdotq_s32(acc[i], w, x);
        EACH16(MAC)
    }
#define SINK(i) __asm__ volatile("" : : "w"(acc[i]));
    EACH16(SINK)
}
