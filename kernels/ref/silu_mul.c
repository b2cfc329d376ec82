/* y = gate / (1 + exp(-gate)) * up: the gated activation of the feed-forward block. */
#include "kernels.h"
#include "mathf.h"

void silu_mul__ref(const void *args, infer_region at)
{
    const infer_silu_mul_args *a = args;

    for (uint32_t t = at.row0; t < at.row1; t++) {
        for (uint32_t c = at.col0; c < at.col1; c++) {
            size_t i = (size_t)t * a->stride + c;
            float gate = a->gate[i];
            a->y[i] = gate / (1.0f + infer_ref_expf(-gate)) * a->up[i];
        }
    }
}
