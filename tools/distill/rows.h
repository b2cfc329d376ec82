/* Operations of training on rows of floats, forward and backward. Everything is f32, summed in one order (sixteen partial sums, folded), so that a
 * run gives the same bits for any number of threads. A `d` in front of a name is the gradient of the loss by it. Gradients of inputs are written,
 * those of weights are added. */
#ifndef INFER_DISTILL_ROWS_H
#define INFER_DISTILL_ROWS_H

#include <stddef.h>
#include <stdint.h>

/* y[m][n] = x / rms * weight; rstd[m] = 1 / rms, kept for the way back. */
void distill_rmsnorm(const float *x, const float *weight, uint32_t m, uint32_t n, float eps, float *y, float *rstd);
void distill_rmsnorm_back(const float *x, const float *weight, const float *rstd, const float *dy, uint32_t m, uint32_t n, float *dx, float *dweight);

/* Turns pairs of each head's first rope_dim values in place by the angle of position t: `sign` 1 there, -1 back. cos, sin [m][rope_dim / 2]. */
void distill_rope(float *x, uint32_t m, uint32_t heads, uint32_t head_dim, uint32_t rope_dim, int halves, const float *cos, const float *sin, float sign);

/* y = gate / (1 + exp(-gate)) * up, n numbers. */
void distill_silu_mul(const float *gate, const float *up, size_t n, float *y);
void distill_silu_mul_back(const float *gate, const float *up, const float *dy, size_t n, float *dgate, float *dup);

/* x += y; y = 0; */
void distill_add(float *x, const float *y, size_t n);
float distill_dot(const float *a, const float *b, size_t n);

/* Row of attention scores s[0..n) -> probabilities of softmax(scale * s), in place; returns log of the sum of exponentials. */
float distill_softmax(float *s, uint32_t n, float scale);
/* p = exp(scale * s - lse), in place: the same probabilities from what the first call returned. */
void distill_softmax_again(float *s, uint32_t n, float scale, float lse);
/* ds = p * (dp - mean) * scale, mean = sum p * dp; in place of dp. */
void distill_softmax_back(const float *p, float *dp, uint32_t n, float mean, float scale);

/* What a predicted token costs. */
typedef struct distill_loss {
    float kl; /* KL(teacher || student), both at the temperature */
    float ce; /* -log p(target), temperature 1 */
} distill_loss;

/* loss = share * temperature^2 * kl + (1 - share) * ce; z: the student's logits, in whose place the gradient times `weight` is written; t: the
 * teacher's. scratch [2 n]. */
distill_loss distill_loss_row(float *z, const float *t, uint32_t n, uint32_t target, float temperature, float share, float weight, float *scratch);

#endif
