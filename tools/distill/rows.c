#include "rows.h"

#include <math.h>
#include <string.h>

enum { LANES = 16 };

#define ALWAYS_INLINE static inline __attribute__((always_inline))

/* The compiler's vectors of the CPU at hand: the same operations in the same order, so the same bits. Clang 14 names clones so that no other file finds
 * them. */
#if defined(__x86_64__) && !defined(__clang__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#define VECTORS __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define VECTORS
#endif

ALWAYS_INLINE float fold(float p[LANES])
{
    for (int half = LANES / 2; half > 0; half /= 2)
        for (int j = 0; j < half; j++)
            p[j] += p[j + half];
    return p[0];
}

/* Without fused products, so that compilers find vectors on every CPU and their bits agree. Relative error below 2^-21 for -87 <= x <= 88, where others
 * are clamped to. */
ALWAYS_INLINE float exponential(float x)
{
    float shifted, n, r, y;
    int32_t bits;

    x = x > -87.0f ? x : -87.0f;
    x = x < 88.0f ? x : 88.0f;
    shifted = x * 0x1.715476p+0f + 0x1.8p23f;
    n = shifted - 0x1.8p23f;
    r = (x - n * 0x1.62ep-1f) - n * 0x1.0bfbe8p-15f;
    y = 1.0f + r * (1.0f + r * (0.5f + r * (0x1.555492p-3f + r * (0x1.5558f2p-5f + r * (0x1.123a2p-7f + r * 0x1.6a23cep-10f)))));
    memcpy(&bits, &shifted, sizeof bits);
    bits = (int32_t)((uint32_t)bits << 23) + (127 << 23);
    memcpy(&r, &bits, sizeof r);
    return y * r;
}

ALWAYS_INLINE float dot(const float *a, const float *b, size_t n)
{
    float p[LANES] = {0};
    size_t i = 0;
    for (; i + LANES <= n; i += LANES)
        for (int j = 0; j < LANES; j++)
            p[j] += a[i + j] * b[i + j];
    for (int j = 0; i < n; i++, j++)
        p[j] += a[i] * b[i];
    return fold(p);
}

VECTORS float distill_dot(const float *a, const float *b, size_t n) { return dot(a, b, n); }

VECTORS void distill_add(float *x, const float *y, size_t n)
{
    for (size_t i = 0; i < n; i++)
        x[i] += y[i];
}

VECTORS void distill_rmsnorm(const float *x, const float *weight, uint32_t m, uint32_t n, float eps, float *y, float *rstd)
{
    for (uint32_t t = 0; t < m; t++, x += n, y += n) {
        float r = rstd[t] = 1.0f / sqrtf(dot(x, x, n) / (float)n + eps);
        for (uint32_t i = 0; i < n; i++)
            y[i] = x[i] * r * weight[i];
    }
}

/* With u = dy * weight: dx = r u - x r^3 mean(u x). */
VECTORS void distill_rmsnorm_back(const float *x, const float *weight, const float *rstd, const float *dy, uint32_t m, uint32_t n, float *dx, float *dweight)
{
    for (uint32_t t = 0; t < m; t++, x += n, dy += n, dx += n) {
        float r = rstd[t], c;
        for (uint32_t i = 0; i < n; i++) {
            dweight[i] += dy[i] * x[i] * r;
            dx[i] = dy[i] * weight[i];
        }
        c = dot(dx, x, n) / (float)n * r * r * r;
        for (uint32_t i = 0; i < n; i++)
            dx[i] = dx[i] * r - x[i] * c;
    }
}

VECTORS void distill_rope(float *x, uint32_t m, uint32_t heads, uint32_t head_dim, uint32_t rope_dim, int halves, const float *cos, const float *sin, float sign)
{
    uint32_t half = rope_dim / 2;

    for (uint32_t t = 0; t < m; t++, cos += half, sin += half)
        for (uint32_t h = 0; h < heads; h++, x += head_dim)
            for (uint32_t i = 0; i < half; i++) {
                float *a = x + (halves ? i : 2 * i), *b = halves ? a + half : a + 1, u = *a, v = *b;
                *a = u * cos[i] - v * (sign * sin[i]);
                *b = u * (sign * sin[i]) + v * cos[i];
            }
}

VECTORS void distill_silu_mul(const float *gate, const float *up, size_t n, float *y)
{
    for (size_t i = 0; i < n; i++)
        y[i] = gate[i] / (1.0f + exponential(-gate[i])) * up[i];
}

VECTORS void distill_silu_mul_back(const float *gate, const float *up, const float *dy, size_t n, float *dgate, float *dup)
{
    for (size_t i = 0; i < n; i++) {
        float s = 1.0f / (1.0f + exponential(-gate[i])), u = up[i], d = dy[i], g = gate[i];
        dup[i] = d * (g * s);
        dgate[i] = d * u * (s * (1.0f + g * (1.0f - s)));
    }
}

ALWAYS_INLINE float largest(const float *x, uint32_t n)
{
    float p[LANES];
    uint32_t i = 0;
    for (int j = 0; j < LANES; j++)
        p[j] = x[0];
    for (; i + LANES <= n; i += LANES)
        for (int j = 0; j < LANES; j++)
            p[j] = x[i + j] > p[j] ? x[i + j] : p[j];
    for (; i < n; i++)
        p[0] = x[i] > p[0] ? x[i] : p[0];
    for (int j = 1; j < LANES; j++)
        p[0] = p[j] > p[0] ? p[j] : p[0];
    return p[0];
}

/* y = exp(scale * x - shift), y may be x; returns the sum. */
ALWAYS_INLINE float exponentials(const float *x, float *y, uint32_t n, float scale, float shift)
{
    float p[LANES] = {0};
    uint32_t i = 0;
    for (; i + LANES <= n; i += LANES)
        for (int j = 0; j < LANES; j++)
            p[j] += y[i + j] = exponential(x[i + j] * scale - shift);
    for (int j = 0; i < n; i++, j++)
        p[j] += y[i] = exponential(x[i] * scale - shift);
    return fold(p);
}

VECTORS float distill_softmax(float *s, uint32_t n, float scale)
{
    float max = largest(s, n) * scale, sum = exponentials(s, s, n, scale, max), inverse = 1.0f / sum;
    for (uint32_t i = 0; i < n; i++)
        s[i] *= inverse;
    return max + logf(sum);
}

VECTORS void distill_softmax_again(float *s, uint32_t n, float scale, float lse)
{
    for (uint32_t i = 0; i < n; i++)
        s[i] = exponential(s[i] * scale - lse);
}

VECTORS void distill_softmax_back(const float *p, float *dp, uint32_t n, float mean, float scale)
{
    for (uint32_t i = 0; i < n; i++)
        dp[i] = p[i] * (dp[i] - mean) * scale;
}

VECTORS distill_loss distill_loss_row(float *z, const float *t, uint32_t n, uint32_t target, float temperature, float share, float weight, float *scratch)
{
    float *q = scratch, *p = scratch + n, inverse = 1.0f / temperature, z_max = largest(z, n), t_max = largest(t, n), z_sum, t_sum, cross;
    float of_kl = share * temperature * weight, of_ce = (1.0f - share) * weight;
    distill_loss loss;

    /* cross-entropy: p - onehot */
    z_sum = exponentials(z, p, n, 1.0f, z_max);
    loss.ce = z_max + logf(z_sum) - z[target];
    /* divergence, both at the temperature: temperature * (p - q) */
    t_sum = exponentials(t, q, n, inverse, t_max * inverse);
    if (temperature == 1.0f) {
        cross = (dot(q, t, n) - dot(q, z, n)) / t_sum;
        loss.kl = cross - (t_max + logf(t_sum)) + (z_max + logf(z_sum));
        of_ce = (of_ce + of_kl) / z_sum;
        of_kl /= t_sum;
        for (uint32_t i = 0; i < n; i++)
            z[i] = p[i] * of_ce - q[i] * of_kl;
    } else {
        float s_sum;
        of_ce /= z_sum;
        of_kl /= t_sum;
        for (uint32_t i = 0; i < n; i++)
            p[i] = p[i] * of_ce - q[i] * of_kl;
        cross = (dot(q, t, n) - dot(q, z, n)) * inverse / t_sum;
        s_sum = exponentials(z, z, n, inverse, z_max * inverse);
        loss.kl = cross - (t_max * inverse + logf(t_sum)) + (z_max * inverse + logf(s_sum));
        of_kl *= t_sum / s_sum;
        for (uint32_t i = 0; i < n; i++)
            z[i] = z[i] * of_kl + p[i];
    }
    z[target] -= (1.0f - share) * weight;
    return loss;
}
