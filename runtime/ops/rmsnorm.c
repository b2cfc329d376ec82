#include "ops/ops.h"

uint32_t infer_build_rmsnorm(infer_graph *g, uint32_t layer, const char *name, uint32_t x, infer_weight w, float eps, infer_rows rows)
{
    uint32_t out = x == INFER_NONE ? INFER_NONE : infer_graph_value(g, INFER_VALUE_F32, rows, g->values[x].cols);
    infer_node *n = out == INFER_NONE ? NULL : infer_graph_node(g, INFER_OP_RMSNORM, layer, name, out);
    if (!n)
        return INFER_NONE;
    n->in[0] = x;
    n->weight = w;
    n->u.eps = eps;
    return out;
}

uint32_t infer_op_rmsnorm_grain(const infer_graph *g, const infer_node *n) { return g->values[n->out].cols; }

void infer_op_rmsnorm_bind(const infer_plan *plan, const infer_node *n, const infer_batch *batch, infer_args *args)
{
    infer_rows rows = plan->graph.values[n->out].rows;
    args->rmsnorm = (infer_rmsnorm_args){
        .x = infer_plan_f32(plan, n->in[0], rows, batch),
        .weight = n->weight.data,
        .y = infer_plan_f32(plan, n->out, rows, batch),
        .m = infer_batch_rows(batch, rows),
        .n = plan->graph.values[n->out].cols,
        .x_stride = infer_plan_stride(plan, n->in[0]),
        .y_stride = infer_plan_stride(plan, n->out),
        .eps = n->u.eps,
    };
}
