/* The activation functions, which all levels repeat operation for operation. Only `static` functions: see mathf.h. */
#ifndef INFER_KERNELS_REF_ACTIVATION_H
#define INFER_KERNELS_REF_ACTIVATION_H

#include "kernels.h"
#include "mathf.h"

/* gelu_tanh (Hendrycks, Gimpel 2016, arXiv:1606.08415): 1/2 (1 + tanh(u)) = 1 / (1 + exp(-2u)) needs no tanh and keeps its precision where that
 * is close to -1. 2u = x (C1 + C3 x^2), C1 = 2 sqrt(2 / pi), C3 = 0.044715 C1. Relative error at most (2 |2u| + 8) 2^-24. */
#define INFER_REF_GELU_C1 0x1.988454p+0f
#define INFER_REF_GELU_C3 0x1.2444f2p-4f

/* gelu: max(x, 0) - |x| q(|x|) with q(a) = 1/2 erfc(a / sqrt(2)), the upper tail of the normal distribution, approximated by
 *   q(a) = (A1 t + A2 t^2 + ... + A5 t^5) exp(-a^2 / 2), t = 1 / (1 + P a)
 * Abramowitz, Stegun 1964, formula 7.1.26 (after Hastings 1955): |error of erf| <= 1.5e-7, here with P / sqrt(2) and the A halved. So gelu is off
 * by at most |x| 0.75e-7 + (|x| + 1) 2^-22. */
#define INFER_REF_ERF_P 0x1.da671p-3f
#define INFER_REF_ERF_A1 0x1.04f20cp-3f
#define INFER_REF_ERF_A2 (-0x1.23531cp-3f)
#define INFER_REF_ERF_A3 0x1.6be1c6p-1f
#define INFER_REF_ERF_A4 (-0x1.7401c6p-1f)
#define INFER_REF_ERF_A5 0x1.0fb844p-1f

static inline float infer_ref_activation(infer_activation kind, float cap, float x)
{
    float a, t, q;

    switch (kind) {
    case INFER_ACTIVATION_SILU:
        return x / (1.0f + infer_ref_expf(-x));
    case INFER_ACTIVATION_GELU_TANH:
        return x / (1.0f + infer_ref_expf(-(x * fmaf(x * x, INFER_REF_GELU_C3, INFER_REF_GELU_C1))));
    case INFER_ACTIVATION_GELU:
        a = fabsf(x);
        t = 1.0f / fmaf(a, INFER_REF_ERF_P, 1.0f);
        q = fmaf(INFER_REF_ERF_A5, t, INFER_REF_ERF_A4);
        q = fmaf(q, t, INFER_REF_ERF_A3);
        q = fmaf(q, t, INFER_REF_ERF_A2);
        q = fmaf(q, t, INFER_REF_ERF_A1);
        q = q * t * infer_ref_expf(x * x * -0.5f);
        return fmaf(-a, q, 0.0f > x ? 0.0f : x);
    case INFER_ACTIVATION_RELU2:
        x = 0.0f > x ? 0.0f : x; /* false for NaN, which stays */
        return x * x;
    default: /* softcap */
        return infer_ref_softcap(x, cap);
    }
}

#endif
