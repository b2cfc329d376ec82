#include "ops/ops.h"

uint32_t infer_build_silu_mul(infer_graph *g, uint32_t layer, uint32_t gate, uint32_t up)
{
    uint32_t out = gate == INFER_NONE ? INFER_NONE : infer_graph_value(g, INFER_VALUE_F32, g->values[gate].rows, g->values[gate].cols);
    infer_node *n = out == INFER_NONE ? NULL : infer_graph_node(g, INFER_OP_SILU_MUL, layer, "silu_mul", out);
    if (!n)
        return INFER_NONE;
    n->in[0] = gate;
    n->in[1] = up;
    return out;
}

uint32_t infer_op_silu_mul_grain(const infer_graph *g, const infer_node *n)
{
    (void)g, (void)n;
    return 16;
}

void infer_op_silu_mul_bind(const infer_plan *plan, const infer_node *n, const infer_batch *batch, infer_args *args)
{
    infer_rows rows = plan->graph.values[n->out].rows;
    args->silu_mul = (infer_silu_mul_args){
        .gate = infer_plan_f32(plan, n->in[0], rows, batch),
        .up = infer_plan_f32(plan, n->in[1], rows, batch),
        .y = infer_plan_f32(plan, n->out, rows, batch),
        .m = infer_batch_rows(batch, rows),
        .n = plan->graph.values[n->out].cols,
        .stride = infer_plan_stride(plan, n->out),
    };
}
