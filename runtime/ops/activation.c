#include "ops/ops.h"

static uint32_t build(infer_graph *g, uint32_t layer, const char *name, infer_activation kind, float cap, uint32_t x, uint32_t up)
{
    uint32_t out = x == INFER_NONE ? INFER_NONE : infer_graph_value(g, g->values[x].kind, g->values[x].rows, g->values[x].cols);
    infer_node *n = out == INFER_NONE ? NULL : infer_graph_node(g, INFER_OP_ACTIVATION, layer, name, out);
    if (!n)
        return INFER_NONE;
    n->in[0] = x;
    n->in[1] = up;
    n->u.activation.kind = kind;
    n->u.activation.cap = cap;
    return out;
}

uint32_t infer_build_activation(infer_graph *g, uint32_t layer, infer_activation kind, uint32_t x, uint32_t up)
{
    return build(g, layer, "activation", kind, 0, x, up);
}

uint32_t infer_build_softcap(infer_graph *g, const char *name, uint32_t x, float cap)
{
    return build(g, INFER_NONE, name, INFER_ACTIVATION_SOFTCAP, cap, x, INFER_NONE);
}

uint32_t infer_op_activation_grain(const infer_graph *g, const infer_node *n)
{
    (void)g, (void)n;
    return 16;
}

void infer_op_activation_bind(const infer_plan *plan, const infer_node *n, const infer_batch *batch, infer_args *args)
{
    infer_rows rows = plan->graph.values[n->out].rows;
    args->activation = (infer_activation_args){
        .x = infer_plan_f32(plan, n->in[0], rows, batch),
        .up = n->in[1] == INFER_NONE ? NULL : infer_plan_f32(plan, n->in[1], rows, batch),
        .y = infer_plan_f32(plan, n->out, rows, batch),
        .m = infer_batch_rows(batch, rows),
        .n = plan->graph.values[n->out].cols,
        .stride = infer_plan_stride(plan, n->out),
        .kind = n->u.activation.kind,
        .cap = n->u.activation.cap,
    };
}
