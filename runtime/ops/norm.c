/* RMS norm and layer norm, of whole rows or of every head. */
#include "ops/ops.h"

static uint32_t build(infer_graph *g, infer_op_kind op, uint32_t layer, const char *name, uint32_t x, infer_weight w, float eps,
                      infer_rows rows)
{
    uint32_t out = x == INFER_NONE ? INFER_NONE : infer_graph_value(g, INFER_VALUE_F32, rows, g->values[x].cols);
    infer_node *n = out == INFER_NONE ? NULL : infer_graph_node(g, op, layer, name, out);
    if (!n)
        return INFER_NONE;
    n->in[0] = x;
    n->weight = w;
    n->u.norm.eps = eps;
    n->u.norm.width = (uint32_t)w.info->cols;
    return out;
}

uint32_t infer_build_rmsnorm(infer_graph *g, uint32_t layer, const char *name, uint32_t x, infer_weight w, float eps, infer_rows rows)
{
    return build(g, INFER_OP_RMSNORM, layer, name, x, w, eps, rows);
}

uint32_t infer_build_layernorm(infer_graph *g, uint32_t layer, const char *name, uint32_t x, infer_weight w, float eps, infer_rows rows)
{
    return build(g, INFER_OP_LAYERNORM, layer, name, x, w, eps, rows);
}

uint32_t infer_op_rmsnorm_grain(const infer_graph *g, const infer_node *n)
{
    (void)g;
    return n->u.norm.width;
}

uint32_t infer_op_layernorm_grain(const infer_graph *g, const infer_node *n) { return infer_op_rmsnorm_grain(g, n); }

void infer_op_rmsnorm_bind(const infer_plan *plan, const infer_node *n, const infer_batch *batch, infer_args *args)
{
    infer_rows rows = plan->graph.values[n->out].rows;
    args->norm = (infer_norm_args){
        .x = infer_plan_f32(plan, n->in[0], rows, batch),
        .weight = n->weight.data,
        .y = infer_plan_f32(plan, n->out, rows, batch),
        .m = infer_batch_rows(batch, rows),
        .n = plan->graph.values[n->out].cols,
        .width = n->u.norm.width,
        .x_stride = infer_plan_stride(plan, n->in[0]),
        .y_stride = infer_plan_stride(plan, n->out),
        .eps = n->u.norm.eps,
    };
}

void infer_op_layernorm_bind(const infer_plan *plan, const infer_node *n, const infer_batch *batch, infer_args *args)
{
    infer_op_rmsnorm_bind(plan, n, batch, args);
}
