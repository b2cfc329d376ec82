/* Rows of a table: by token ids, or by position. */
#include "ops/ops.h"

static uint32_t build(infer_graph *g, const char *name, infer_weight w, float scale, bool positions)
{
    uint32_t out = infer_graph_value(g, INFER_VALUE_F32, INFER_ROWS_TOKENS, (uint32_t)w.info->cols);
    infer_node *n = out == INFER_NONE ? NULL : infer_graph_node(g, INFER_OP_EMBED, INFER_NONE, name, out);
    if (!n)
        return INFER_NONE;
    n->weight = w;
    n->u.embed.scale = scale;
    n->u.embed.positions = positions;
    return out;
}

uint32_t infer_build_embed(infer_graph *g, infer_weight w, float scale) { return build(g, "embed", w, scale, false); }

uint32_t infer_build_embed_positions(infer_graph *g, infer_weight w)
{
    g->learned_positions = (uint32_t)w.info->rows;
    return build(g, "embed_positions", w, 1, true);
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
        .ids = n->u.embed.positions ? NULL : batch->ids,
        .y = infer_plan_f32(plan, n->out, INFER_ROWS_TOKENS, batch),
        .m = batch->m,
        .n = (uint32_t)n->weight.info->rows,
        .k = (uint32_t)n->weight.info->cols,
        .y_stride = infer_plan_stride(plan, n->out),
        .pos0 = batch->pos0,
        .scale = n->u.embed.scale,
    };
}
