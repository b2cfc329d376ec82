#include "ops/ops.h"

uint32_t infer_build_rope(infer_graph *g, uint32_t layer, const char *name, uint32_t x, uint32_t head_dim, uint32_t table)
{
    uint32_t out = x == INFER_NONE ? INFER_NONE : infer_graph_value(g, INFER_VALUE_F32, g->values[x].rows, g->values[x].cols);
    infer_node *n = out == INFER_NONE ? NULL : infer_graph_node(g, INFER_OP_ROPE, layer, name, out);
    if (!n)
        return INFER_NONE;
    n->in[0] = x;
    n->u.rope.head_dim = head_dim;
    n->u.rope.table = table;
    return out;
}

uint32_t infer_op_rope_grain(const infer_graph *g, const infer_node *n)
{
    (void)g;
    return n->u.rope.head_dim;
}

void infer_op_rope_bind(const infer_plan *plan, const infer_node *n, const infer_batch *batch, infer_args *args)
{
    const infer_rope_config *rope = &plan->graph.rope[n->u.rope.table];
    args->rope = (infer_rope_args){
        .x = infer_plan_f32(plan, n->out, INFER_ROWS_TOKENS, batch), /* the planner always runs rope in place */
        .cos = plan->rope_cos[n->u.rope.table],
        .sin = plan->rope_sin[n->u.rope.table],
        .m = batch->m,
        .n = plan->graph.values[n->out].cols,
        .stride = infer_plan_stride(plan, n->out),
        .head_dim = n->u.rope.head_dim,
        .rope_dim = rope->dim,
        .pos0 = batch->pos0,
        .pairs = rope->pairs,
    };
}
