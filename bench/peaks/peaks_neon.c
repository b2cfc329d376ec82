/* Loops for peaks.c that every AArch64 CPU can run. */
#include "peaks.h"

#include <arm_neon.h>

/* The compiler must believe that a register changed (no instruction is emitted), or that it is used. */
#define CHANGE(v) __asm__ volatile("" : "+w"(v))
#define USE(v) __asm__ volatile("" : : "w"(v))
#define EACH8(F) F(0) F(1) F(2) F(3) F(4) F(5) F(6) F(7)
#define EACH16(F) EACH8(F) F(8) F(9) F(10) F(11) F(12) F(13) F(14) F(15)
#define SINK(i) USE(acc[i]);

/* s8 x s8: two products a lane fit 16 bits (codes are -127..127), then pairs are added to 32 bits. */
void infer_peak_q8__neon(uint64_t rounds)
{
    int32x4_t acc[8] = {0};
    int8x16_t w = vdupq_n_s8(-3), x = vdupq_n_s8(5);
    CHANGE(w);
    for (; rounds; rounds--) {
#define MAC(i) CHANGE(x); acc[i] = vpadalq_s16(acc[i], vmlal_high_s8(vmull_s8(vget_low_s8(w), vget_low_s8(x)), w, x));
        EACH8(MAC)
#undef MAC
    }
    EACH8(SINK)
}

/* 4-bit weights: sums stay in 16 bits. */
void infer_peak_q4__neon(uint64_t rounds)
{
    int16x8_t acc[8] = {0};
    int8x16_t w = vdupq_n_s8(-3), x = vdupq_n_s8(5);
    CHANGE(w);
    for (; rounds; rounds--) {
#define MAC(i) CHANGE(x); acc[i] = vmlal_high_s8(vmlal_s8(acc[i], vget_low_s8(w), vget_low_s8(x)), w, x);
        EACH8(MAC)
#undef MAC
    }
    EACH8(SINK)
}

void infer_peak_fma__neon(uint64_t rounds)
{
    float32x4_t acc[16] = {0}, w = vdupq_n_f32(0.5f), x = vdupq_n_f32(0.25f);
    CHANGE(w);
    for (; rounds; rounds--) {
#define MAC(i) CHANGE(x); acc[i] = vfmaq_f32(acc[i], w, x);
        EACH16(MAC)
#undef MAC
    }
    EACH16(SINK)
}
