#include "ops/ops.h"

#include "cols.h"

uint32_t infer_build_matmul(infer_graph *g, uint32_t layer, const char *name, uint32_t x, infer_weight w, infer_value_kind kind)
{
    uint32_t out = x == INFER_NONE ? INFER_NONE : infer_graph_value(g, kind, g->values[x].rows, (uint32_t)w.info->rows);
    infer_node *n = out == INFER_NONE ? NULL : infer_graph_node(g, INFER_OP_MATMUL, layer, name, out);
    if (!n)
        return INFER_NONE;
    n->in[0] = x;
    n->weight = w;
    return out;
}

uint32_t infer_op_matmul_grain(const infer_graph *g, const infer_node *n)
{
    const infer_tensor_info *w = n->weight.info;
    (void)g;
    return w->layout == INFER_LAYOUT_COLS ? (uint32_t)infer_cols_stripe_outputs(infer_qtype_find(w->type)->cols_bits) : 16; /* a panel */
}

void infer_op_matmul_bind(const infer_plan *plan, const infer_node *n, const infer_batch *batch, infer_args *args)
{
    infer_rows rows = plan->graph.values[n->out].rows;
    infer_matmul_args *a = &args->matmul;
    *a = (infer_matmul_args){
        .w = n->weight.data,
        .y = infer_plan_f32(plan, n->out, rows, batch),
        .m = infer_batch_rows(batch, rows),
        .n = (uint32_t)n->weight.info->rows,
        .k = (uint32_t)n->weight.info->cols,
        .y_stride = infer_plan_stride(plan, n->out),
    };
    if (plan->graph.values[n->in[0]].kind == INFER_VALUE_Q8) {
        a->xq = infer_plan_q8(plan, n->in[0]);
    } else {
        a->x = infer_plan_f32(plan, n->in[0], rows, batch);
        a->x_stride = infer_plan_stride(plan, n->in[0]);
    }
}
