/* x86 loops for peaks.c. Each function has the instruction set in its attribute and is called only where the CPU has it. */
#include "peaks.h"

#include <immintrin.h>

/* The compiler must believe that a register changed (no instruction is emitted), or that it is used. */
#define CHANGE(v) __asm__ volatile("" : "+v"(v))
#define USE(v) __asm__ volatile("" : : "v"(v))
#define EACH8(F) F(0) F(1) F(2) F(3) F(4) F(5) F(6) F(7)
#define EACH12(F) EACH8(F) F(8) F(9) F(10) F(11)

/* ---- 256 bits ---- */

#define AVX2 __attribute__((target("avx2,fma")))

AVX2 void infer_peak_read__avx2(const uint8_t *p, size_t bytes, uint32_t streams, size_t ahead)
{
    size_t part = bytes / streams;
    __m256i a = _mm256_setzero_si256(), b = a, c = a, d = a;
    for (size_t i = 0; i < part; i += 256)
        for (uint32_t s = 0; s < streams; s++) {
            const uint8_t *q = p + s * part + i;
            const __m256i *v = (const __m256i *)(const void *)q;
            if (ahead)
                for (uint32_t line = 0; line < 256; line += 64)
                    _mm_prefetch((const char *)q + ahead + line, _MM_HINT_T0);
            a = _mm256_or_si256(_mm256_or_si256(a, v[0]), v[1]);
            b = _mm256_or_si256(_mm256_or_si256(b, v[2]), v[3]);
            c = _mm256_or_si256(_mm256_or_si256(c, v[4]), v[5]);
            d = _mm256_or_si256(_mm256_or_si256(d, v[6]), v[7]);
        }
    USE(a);
    USE(b);
    USE(c);
    USE(d);
}

/* s8 x s8: |w| is kept with the weights, the sign goes to x: sign, u8 x s8 -> s16 pairs, -> s32, add. */
AVX2 void infer_peak_q8_sign__avx2(uint64_t rounds)
{
    __m256i acc[8] = {0}, w = _mm256_set1_epi8(-3), w_abs = _mm256_set1_epi8(3), x = _mm256_set1_epi8(5), ones = _mm256_set1_epi16(1);
    CHANGE(w);
    CHANGE(w_abs);
    CHANGE(ones);
    for (; rounds; rounds--) {
#define MAC(i) CHANGE(x); acc[i] = _mm256_add_epi32(acc[i], _mm256_madd_epi16(_mm256_maddubs_epi16(w_abs, _mm256_sign_epi8(x, w)), ones));
        EACH8(MAC)
#undef MAC
    }
#define SINK(i) USE(acc[i]);
    EACH8(SINK)
}

/* s8 widened to s16 beforehand. */
AVX2 void infer_peak_q8_widened__avx2(uint64_t rounds)
{
    __m256i acc[8] = {0}, w = _mm256_set1_epi16(-3), x = _mm256_set1_epi16(5);
    CHANGE(w);
    for (; rounds; rounds--) {
#define MAC(i) CHANGE(x); acc[i] = _mm256_add_epi32(acc[i], _mm256_madd_epi16(w, x));
        EACH8(MAC)
#undef MAC
    }
    EACH8(SINK)
}

/* u8 x s8 -> s16 pairs, added in 16 bits. */
AVX2 void infer_peak_q4__avx2(uint64_t rounds)
{
    __m256i acc[8] = {0}, w = _mm256_set1_epi8(3), x = _mm256_set1_epi8(5);
    CHANGE(w);
    for (; rounds; rounds--) {
#define MAC(i) CHANGE(x); acc[i] = _mm256_add_epi16(acc[i], _mm256_maddubs_epi16(w, x));
        EACH8(MAC)
#undef MAC
    }
    EACH8(SINK)
}

/* u8 of 7 bits x s8 -> s16 pairs, -> s32, add. */
AVX2 void infer_peak_n4__avx2(uint64_t rounds)
{
    __m256i acc[8] = {0}, w = _mm256_set1_epi8(3), x = _mm256_set1_epi8(5), ones = _mm256_set1_epi16(1);
    CHANGE(w);
    CHANGE(ones);
    for (; rounds; rounds--) {
#define MAC(i) CHANGE(x); acc[i] = _mm256_add_epi32(acc[i], _mm256_madd_epi16(_mm256_maddubs_epi16(w, x), ones));
        EACH8(MAC)
#undef MAC
    }
    EACH8(SINK)
}

AVX2 void infer_peak_fma__avx2(uint64_t rounds)
{
    __m256 acc[12] = {0}, w = _mm256_set1_ps(0.5f), x = _mm256_set1_ps(0.25f);
    CHANGE(w);
    for (; rounds; rounds--) {
#define MAC(i) CHANGE(x); acc[i] = _mm256_fmadd_ps(w, x, acc[i]);
        EACH12(MAC)
#undef MAC
    }
    EACH12(SINK)
}

/* u8 x s8 -> s32. For s8 weights x is stored with 128 added, and 128 x the sum of the weights subtracted once for all tokens. */
__attribute__((target("avx2,avxvnni"))) void infer_peak_dpbusd__avxvnni(uint64_t rounds)
{
    __m256i acc[12] = {0}, w = _mm256_set1_epi8(3), x = _mm256_set1_epi8(5);
    CHANGE(w);
    for (; rounds; rounds--) {
#define MAC(i) CHANGE(x); acc[i] = _mm256_dpbusd_avx_epi32(acc[i], x, w);
        EACH12(MAC)
#undef MAC
    }
    EACH12(SINK)
}

/* ---- 512 bits ---- */

#define AVX512 __attribute__((target("avx512f,avx512bw")))

AVX512 void infer_peak_read__avx512(const uint8_t *p, size_t bytes, uint32_t streams, size_t ahead)
{
    size_t part = bytes / streams;
    __m512i a = _mm512_setzero_si512(), b = a, c = a, d = a;
    for (size_t i = 0; i < part; i += 256)
        for (uint32_t s = 0; s < streams; s++) {
            const uint8_t *q = p + s * part + i;
            const __m512i *v = (const __m512i *)(const void *)q;
            if (ahead)
                for (uint32_t line = 0; line < 256; line += 64)
                    _mm_prefetch((const char *)q + ahead + line, _MM_HINT_T0);
            a = _mm512_or_si512(a, v[0]);
            b = _mm512_or_si512(b, v[1]);
            c = _mm512_or_si512(c, v[2]);
            d = _mm512_or_si512(d, v[3]);
        }
    USE(a);
    USE(b);
    USE(c);
    USE(d);
}

/* AVX-512 has no sign instruction: x is negated under a mask kept with the weights. */
AVX512 void infer_peak_q8_sign__avx512(uint64_t rounds)
{
    __m512i acc[8] = {0}, w_abs = _mm512_set1_epi8(3), x = _mm512_set1_epi8(5), ones = _mm512_set1_epi16(1), zero = _mm512_setzero_si512();
    __mmask64 negative = 0x5555555555555555u;
    CHANGE(w_abs);
    CHANGE(ones);
    CHANGE(zero);
    __asm__ volatile("" : "+Yk"(negative));
    for (; rounds; rounds--) {
#define MAC(i) CHANGE(x); acc[i] = _mm512_add_epi32(acc[i], _mm512_madd_epi16(_mm512_maddubs_epi16(w_abs, _mm512_mask_sub_epi8(x, negative, zero, x)), ones));
        EACH8(MAC)
#undef MAC
    }
    EACH8(SINK)
}

AVX512 void infer_peak_q8_widened__avx512(uint64_t rounds)
{
    __m512i acc[8] = {0}, w = _mm512_set1_epi16(-3), x = _mm512_set1_epi16(5);
    CHANGE(w);
    for (; rounds; rounds--) {
#define MAC(i) CHANGE(x); acc[i] = _mm512_add_epi32(acc[i], _mm512_madd_epi16(w, x));
        EACH8(MAC)
#undef MAC
    }
    EACH8(SINK)
}

AVX512 void infer_peak_q4__avx512(uint64_t rounds)
{
    __m512i acc[8] = {0}, w = _mm512_set1_epi8(3), x = _mm512_set1_epi8(5);
    CHANGE(w);
    for (; rounds; rounds--) {
#define MAC(i) CHANGE(x); acc[i] = _mm512_add_epi16(acc[i], _mm512_maddubs_epi16(w, x));
        EACH8(MAC)
#undef MAC
    }
    EACH8(SINK)
}

/* u8 of 7 bits x s8 -> s16 pairs, -> s32, add. */
AVX512 void infer_peak_n4__avx512(uint64_t rounds)
{
    __m512i acc[8] = {0}, w = _mm512_set1_epi8(3), x = _mm512_set1_epi8(5), ones = _mm512_set1_epi16(1);
    CHANGE(w);
    CHANGE(ones);
    for (; rounds; rounds--) {
#define MAC(i) CHANGE(x); acc[i] = _mm512_add_epi32(acc[i], _mm512_madd_epi16(_mm512_maddubs_epi16(w, x), ones));
        EACH8(MAC)
#undef MAC
    }
    EACH8(SINK)
}

AVX512 void infer_peak_fma__avx512(uint64_t rounds)
{
    __m512 acc[12] = {0}, w = _mm512_set1_ps(0.5f), x = _mm512_set1_ps(0.25f);
    CHANGE(w);
    for (; rounds; rounds--) {
#define MAC(i) CHANGE(x); acc[i] = _mm512_fmadd_ps(w, x, acc[i]);
        EACH12(MAC)
#undef MAC
    }
    EACH12(SINK)
}

__attribute__((target("avx512f,avx512bw,avx512vnni"))) void infer_peak_dpbusd__avx512vnni(uint64_t rounds)
{
    __m512i acc[12] = {0}, w = _mm512_set1_epi8(3), x = _mm512_set1_epi8(5);
    CHANGE(w);
    for (; rounds; rounds--) {
#define MAC(i) CHANGE(x); acc[i] = _mm512_dpbusd_epi32(acc[i], x, w);
        EACH12(MAC)
#undef MAC
    }
    EACH12(SINK)
}
