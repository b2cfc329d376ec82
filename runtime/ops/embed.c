#include "ops/ops.h"

uint32_t infer_build_embed(infer_graph *g, infer_weight w)
{
    uint32_t out = infer_graph_value(g, INFER_VALUE_F32, INFER_ROWS_TOKENS, (uint32_t)w.info->cols);
    infer_node *n = out == INFER_NONE ? NULL : infer_graph_node(g, INFER_OP_EMBED, INFER_NONE, "embed", out);
    if (!n)
        return INFER_NONE;
    n->weight = w;
    return out;
}

uint32_t infer_op_embed_grain(const infer_graph *g, const infer_node *n)
{
    (void)g, (void)n;
    return 32;
}

void infer_op_embed_bind(const infer_plan *plan, const infer_node *n, const infer_batch *batch, infer_args *args)
{
    args->embed = (infer_embed_args){
        .w = n->weight.data,
        .ids = batch->ids,
        .y = infer_plan_f32(plan, n->out, INFER_ROWS_TOKENS, batch),
        .m = batch->m,
        .n = (uint32_t)n->weight.info->rows,
        .k = (uint32_t)n->weight.info->cols,
        .y_stride = infer_plan_stride(plan, n->out),
    };
}
