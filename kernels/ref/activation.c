/* y = f(x), or f(x) * up: the activation of the feed-forward block, plain or gated. */
#include "activation.h"

void activation__ref(const void *args, infer_region at)
{
    const infer_activation_args *a = args;

    for (uint32_t t = at.row0; t < at.row1; t++) {
        for (uint32_t c = at.col0; c < at.col1; c++) {
            size_t i = (size_t)t * a->stride + c;
            float f = infer_ref_activation(a->kind, a->cap, a->x[i]);
            a->y[i] = a->up ? f * a->up[i] : f;
        }
    }
}
