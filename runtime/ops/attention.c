/* Attention over the KV cache: two nodes that store this batch's keys and values, and one that reads them all. */
#include "ops/ops.h"

#include <math.h>

static uint32_t build_store(infer_graph *g, infer_op_kind op, uint32_t layer, const char *name, uint32_t x, uint32_t head_dim)
{
    uint32_t out = x == INFER_NONE ? INFER_NONE : infer_graph_value(g, INFER_VALUE_CACHE, INFER_ROWS_TOKENS, g->values[x].cols);
    infer_node *n = out == INFER_NONE ? NULL : infer_graph_node(g, op, layer, name, out);
    if (!n)
        return INFER_NONE;
    n->in[0] = x;
    n->u.rope.head_dim = head_dim;
    return out;
}

uint32_t infer_build_attention(infer_graph *g, uint32_t layer, uint32_t q, uint32_t k, uint32_t v, uint32_t heads, uint32_t kv_heads,
                               uint32_t head_dim)
{
    uint32_t stored_k = build_store(g, INFER_OP_STORE_K, layer, "store_k", k, head_dim);
    uint32_t stored_v = build_store(g, INFER_OP_STORE_V, layer, "store_v", v, head_dim);
    uint32_t out = q == INFER_NONE ? INFER_NONE : infer_graph_value(g, INFER_VALUE_F32, INFER_ROWS_TOKENS, g->values[q].cols);
    infer_node *n = out == INFER_NONE ? NULL : infer_graph_node(g, INFER_OP_ATTENTION, layer, "attention", out);
    if (!n)
        return INFER_NONE;
    n->in[0] = q;
    n->in[1] = stored_k;
    n->in[2] = stored_v;
    n->u.attention.heads = heads;
    n->u.attention.kv_heads = kv_heads;
    n->u.attention.head_dim = head_dim;
    return out;
}

uint32_t infer_op_store_k_grain(const infer_graph *g, const infer_node *n)
{
    (void)g;
    return n->u.rope.head_dim;
}

uint32_t infer_op_store_v_grain(const infer_graph *g, const infer_node *n) { return infer_op_store_k_grain(g, n); }

static void bind_store(const infer_plan *plan, const infer_node *n, const infer_batch *batch, uint32_t which, infer_args *args)
{
    args->store = (infer_store_args){
        .x = infer_plan_f32(plan, n->in[0], INFER_ROWS_TOKENS, batch),
        .cache = infer_plan_cache(plan, n->layer, which),
        .m = batch->m,
        .n = plan->graph.values[n->out].cols,
        .stride = infer_plan_stride(plan, n->in[0]),
        .head_dim = n->u.rope.head_dim,
        .positions = plan->positions,
        .pos0 = batch->pos0,
    };
}

void infer_op_store_k_bind(const infer_plan *plan, const infer_node *n, const infer_batch *batch, infer_args *args)
{
    bind_store(plan, n, batch, 0, args);
}

void infer_op_store_v_bind(const infer_plan *plan, const infer_node *n, const infer_batch *batch, infer_args *args)
{
    bind_store(plan, n, batch, 1, args);
}

uint32_t infer_op_attention_grain(const infer_graph *g, const infer_node *n)
{
    (void)g;
    return n->u.attention.head_dim * (n->u.attention.heads / n->u.attention.kv_heads); /* the heads that share a KV head */
}

void infer_op_attention_bind(const infer_plan *plan, const infer_node *n, const infer_batch *batch, infer_args *args)
{
    args->attention = (infer_attention_args){
        .q = infer_plan_f32(plan, n->in[0], INFER_ROWS_TOKENS, batch),
        .k = infer_plan_cache(plan, n->layer, 0),
        .v = infer_plan_cache(plan, n->layer, 1),
        .y = infer_plan_f32(plan, n->out, INFER_ROWS_TOKENS, batch),
        .m = batch->m,
        .heads = n->u.attention.heads,
        .kv_heads = n->u.attention.kv_heads,
        .head_dim = n->u.attention.head_dim,
        .positions = plan->positions,
        .pos0 = batch->pos0,
        .q_stride = infer_plan_stride(plan, n->in[0]),
        .y_stride = infer_plan_stride(plan, n->out),
        .scale = 1.0f / sqrtf((float)n->u.attention.head_dim),
    };
}
