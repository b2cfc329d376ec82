/* y = f(x), or f(x) * up: the activation of the feed-forward block, plain or gated. */
#include "neon.h"
#include "ref/activation.h"

/* max(x, 0); FMAX would make -0 a +0. */
static inline float32x4_t positive(float32x4_t x)
{
    return vbslq_f32(vcgtq_f32(vdupq_n_f32(0.0f), x), vdupq_n_f32(0.0f), x);
}

/* infer_ref_activation, operation for operation. */
INFER_ALWAYS_INLINE float32x4_t activate(infer_activation kind, float cap, float32x4_t x)
{
    const float32x4_t one = vdupq_n_f32(1.0f);
    float32x4_t a, t, q;

    switch (kind) {
    case INFER_ACTIVATION_SILU:
        return vdivq_f32(x, vaddq_f32(one, infer_neon_exp(vnegq_f32(x))));
    case INFER_ACTIVATION_GELU_TANH:
        q = vmulq_f32(x, vfmaq_f32(vdupq_n_f32(INFER_REF_GELU_C1), vmulq_f32(x, x), vdupq_n_f32(INFER_REF_GELU_C3)));
        return vdivq_f32(x, vaddq_f32(one, infer_neon_exp(vnegq_f32(q))));
    case INFER_ACTIVATION_GELU:
        a = vabsq_f32(x);
        t = vdivq_f32(one, vfmaq_f32(one, a, vdupq_n_f32(INFER_REF_ERF_P)));
        q = vfmaq_f32(vdupq_n_f32(INFER_REF_ERF_A4), vdupq_n_f32(INFER_REF_ERF_A5), t);
        q = vfmaq_f32(vdupq_n_f32(INFER_REF_ERF_A3), q, t);
        q = vfmaq_f32(vdupq_n_f32(INFER_REF_ERF_A2), q, t);
        q = vfmaq_f32(vdupq_n_f32(INFER_REF_ERF_A1), q, t);
        q = vmulq_f32(vmulq_f32(q, t), infer_neon_exp(vmulq_n_f32(vmulq_f32(x, x), -0.5f)));
        return vfmsq_f32(positive(x), a, q);
    case INFER_ACTIVATION_RELU2:
        x = positive(x);
        return vmulq_f32(x, x);
    default: /* softcap */
        return infer_neon_softcap(x, cap);
    }
}

INFER_ALWAYS_INLINE void rows(const infer_activation_args *a, infer_region at, infer_activation kind)
{
    for (uint32_t t = at.row0; t < at.row1; t++) {
        size_t i = (size_t)t * a->stride + at.col0, end = (size_t)t * a->stride + at.col1;
        for (; i + 4 <= end; i += 4) {
            float32x4_t f = activate(kind, a->cap, vld1q_f32(a->x + i));
            vst1q_f32(a->y + i, a->up ? vmulq_f32(f, vld1q_f32(a->up + i)) : f);
        }
        for (; i < end; i++) {
            float f = infer_ref_activation(kind, a->cap, a->x[i]);
            a->y[i] = a->up ? f * a->up[i] : f;
        }
    }
}

void activation__neon(const void *args, infer_region at)
{
    const infer_activation_args *a = args;

    switch (a->kind) { /* the loops are compiled for each kind */
    case INFER_ACTIVATION_SILU: rows(a, at, INFER_ACTIVATION_SILU); break;
    case INFER_ACTIVATION_GELU_TANH: rows(a, at, INFER_ACTIVATION_GELU_TANH); break;
    case INFER_ACTIVATION_GELU: rows(a, at, INFER_ACTIVATION_GELU); break;
    case INFER_ACTIVATION_RELU2: rows(a, at, INFER_ACTIVATION_RELU2); break;
    default: rows(a, at, INFER_ACTIVATION_SOFTCAP); break;
    }
}
