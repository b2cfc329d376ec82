/*
 * The C library's pow, sin and cos differ in their last bit between libraries and between the variants that one library picks for different
 * CPUs. The tables must not: these use only +, -, *, / and exact scaling, in double, whose last bit is then rounded away to float.
 *
 * Llama 3 frequency scaling: as published with the Llama 3.1 model code (low and high frequency wavelengths, linear blend between). A
 * factor for each frequency: LongRoPE (Ding et al. 2024, arXiv:2402.13753), where cos and sin are multiplied by a magnitude as well.
 */
#include "model/rope_table.h"

#include <math.h>

/* ln 2 and pi/2 in pieces whose products with small integers are exact (fdlibm's values) */
static const double LN2_HIGH = 6.93147180369123816490e-01, LN2_LOW = 1.90821492927058770002e-10;
static const double PI_2_A = 1.57079632673412561417e+00, PI_2_B = 6.07710050630396597660e-11, PI_2_C = 2.02226624871116645580e-21;
static const double TWO_PI = 6.28318530717958647693, TWO_OVER_PI = 0.63661977236758134308;

/* x > 0: x = f * 2^e with f in [sqrt(1/2), sqrt(2)); ln f = 2 artanh((f - 1) / (f + 1)), |s| <= 0.172, terms to s^25. */
static double log_of(double x)
{
    int e;
    double f = frexp(x, &e), s, s2, sum = 0;
    if (f < 0.70710678118654752440) {
        f *= 2;
        e--;
    }
    s = (f - 1) / (f + 1);
    s2 = s * s;
    for (int n = 25; n >= 1; n -= 2)
        sum = sum * s2 + 1.0 / n;
    return e * LN2_HIGH + (2 * s * sum + e * LN2_LOW);
}

/* |x| <= 700: x = k ln 2 + r, |r| <= 0.35; Taylor to r^16. */
static double exp_of(double x)
{
    double k = rint(x * 1.44269504088896338700), r = (x - k * LN2_HIGH) - k * LN2_LOW, sum = 1;
    for (int n = 16; n >= 1; n--)
        sum = 1 + sum * r / n;
    return ldexp(sum, (int)k);
}

/* 0 <= x < 2^20: x = k pi/2 + r, |r| <= 0.79; Taylor to r^17 and r^18. */
static void sin_cos_of(double x, double *sin, double *cos)
{
    static const double SIN[] = {-1.0 / 6, 1.0 / 120, -1.0 / 5040, 1.0 / 362880, -1.0 / 39916800, 1.0 / 6227020800, -1.0 / 1307674368000,
                                 1.0 / 355687428096000};
    static const double COS[] = {-1.0 / 2, 1.0 / 24, -1.0 / 720, 1.0 / 40320, -1.0 / 3628800, 1.0 / 479001600, -1.0 / 87178291200,
                                 1.0 / 20922789888000, -1.0 / 6402373705728000};
    double k = rint(x * TWO_OVER_PI), r = ((x - k * PI_2_A) - k * PI_2_B) - k * PI_2_C, r2 = r * r, s = 0, c = 0;
    for (int n = 7; n >= 0; n--)
        s = s * r2 + SIN[n];
    for (int n = 8; n >= 0; n--)
        c = c * r2 + COS[n];
    s = r + r * (r2 * s);
    c = 1 + r2 * c;
    switch ((int64_t)k & 3) {
    case 0: *sin = s, *cos = c; break;
    case 1: *sin = c, *cos = -s; break;
    case 2: *sin = -s, *cos = -c; break;
    default: *sin = -c, *cos = s; break;
    }
}

/* Frequency i after scaling. */
static double scaled(const infer_rope_config *rope, uint32_t i, double frequency)
{
    double wavelength, low, high, blend;
    if (rope->scaling == INFER_ROPE_PLAIN)
        return frequency;
    if (rope->scaling == INFER_ROPE_LINEAR)
        return frequency / rope->factor;
    if (rope->scaling == INFER_ROPE_FACTORS)
        return frequency / rope->factors[i];
    wavelength = TWO_PI / frequency;
    low = rope->original_context / rope->low_freq_factor;
    high = rope->original_context / rope->high_freq_factor;
    if (wavelength < high)
        return frequency;
    if (wavelength > low)
        return frequency / rope->factor;
    blend = (rope->original_context / wavelength - rope->low_freq_factor) / (rope->high_freq_factor - rope->low_freq_factor);
    return (1 - blend) * frequency / rope->factor + blend * frequency;
}

void infer_rope_table(const infer_rope_config *rope, uint32_t positions, float *cos, float *sin)
{
    uint32_t half = rope->dim / 2;
    double log_theta = log_of(rope->theta), magnitude = rope->scaling == INFER_ROPE_FACTORS ? rope->magnitude : 1;
    for (uint32_t i = 0; i < half; i++) {
        double frequency = scaled(rope, i, exp_of(-(2.0 * i / rope->dim) * log_theta));
        for (uint32_t p = 0; p < positions; p++) {
            double s, c;
            sin_cos_of(p * frequency, &s, &c);
            sin[(size_t)p * half + i] = (float)(magnitude * s);
            cos[(size_t)p * half + i] = (float)(magnitude * c);
        }
    }
}
