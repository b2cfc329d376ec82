#include "ops/ops.h"

uint32_t infer_build_quantize(infer_graph *g, uint32_t layer, const char *name, uint32_t x, uint32_t group)
{
    uint32_t out = x == INFER_NONE ? INFER_NONE : infer_graph_value(g, INFER_VALUE_Q8, g->values[x].rows, g->values[x].cols);
    infer_node *n = out == INFER_NONE ? NULL : infer_graph_node(g, INFER_OP_QUANTIZE, layer, name, out);
    if (!n)
        return INFER_NONE;
    n->in[0] = x;
    n->u.quantize.group = group;
    return out;
}

uint32_t infer_op_quantize_grain(const infer_graph *g, const infer_node *n)
{
    (void)g;
    return n->u.quantize.group;
}

void infer_op_quantize_bind(const infer_plan *plan, const infer_node *n, const infer_batch *batch, infer_args *args)
{
    infer_rows rows = plan->graph.values[n->out].rows;
    args->quantize = (infer_quantize_args){
        .x = infer_plan_f32(plan, n->in[0], rows, batch),
        .y = infer_plan_q8(plan, n->out),
        .m = infer_batch_rows(batch, rows),
        .k = plan->graph.values[n->out].cols,
        .x_stride = infer_plan_stride(plan, n->in[0]),
        .group = n->u.quantize.group,
        .factors = n->weight.data, /* the layout cols begins with them */
        .threshold = plan->thresholds[n - plan->graph.nodes],
    };
}
