/* y = gate / (1 + exp(-gate)) * up: the gated activation of the feed-forward block. */
#include "neon.h"

void silu_mul__neon(const void *args, infer_region at)
{
    const infer_silu_mul_args *a = args;

    for (uint32_t t = at.row0; t < at.row1; t++) {
        size_t i = (size_t)t * a->stride + at.col0, end = (size_t)t * a->stride + at.col1;
        for (; i + 4 <= end; i += 4) {
            float32x4_t gate = vld1q_f32(a->gate + i);
            float32x4_t silu = vdivq_f32(gate, vaddq_f32(vdupq_n_f32(1.0f), infer_neon_exp(vnegq_f32(gate))));
            vst1q_f32(a->y + i, vmulq_f32(silu, vld1q_f32(a->up + i)));
        }
        for (; i < end; i++)
            a->y[i] = a->gate[i] / (1.0f + infer_ref_expf(-a->gate[i])) * a->up[i];
    }
}
