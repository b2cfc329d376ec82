/*
 * Attention over the KV cache. Two nodes store this batch's keys and values. Then one attends to the whole context for a KV head and some
 * tokens at a time; or, when there are too few of these to keep all threads busy, a node attends to single chunks of the context and
 * another merges them. All are in the graph, and each evaluation runs one way or the other (infer_op.when).
 */
#include "ops/ops.h"

#include "attention.h"

#include <string.h>

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

static uint32_t build_part(infer_graph *g, infer_op_kind op, uint32_t layer, const char *name, const uint32_t in[3],
                           const infer_node *shape, uint32_t out)
{
    infer_node *n = out == INFER_NONE ? NULL : infer_graph_node(g, op, layer, name, out);
    if (!n)
        return INFER_NONE;
    memcpy(n->in, in, sizeof n->in);
    n->u = shape->u;
    return out;
}

uint32_t infer_build_attention(infer_graph *g, uint32_t layer, uint32_t q, uint32_t k, uint32_t v, const infer_attention_shape *a)
{
    uint32_t stored_k = build_store(g, INFER_OP_STORE_K, layer, "store_k", k, a->head_dim);
    uint32_t stored_v = build_store(g, INFER_OP_STORE_V, layer, "store_v", v, a->head_dim);
    uint32_t line = INFER_ATTENTION_SPLIT_ROWS * (a->heads / a->kv_heads) * infer_attention_record_floats(a->head_dim), chunks, whole;
    infer_node shape = {.u.attention = *a};
    if (q == INFER_NONE || stored_k == INFER_NONE || stored_v == INFER_NONE)
        return INFER_NONE;
    chunks = infer_graph_value(g, INFER_VALUE_F32, INFER_ROWS_CHUNKS, line);
    chunks = build_part(g, INFER_OP_ATTENTION_CHUNKS, layer, "attention_chunks", (uint32_t[]){q, stored_k, stored_v}, &shape, chunks);
    whole = infer_graph_value(g, INFER_VALUE_F32, INFER_ROWS_TOKENS, g->values[q].cols);
    whole = build_part(g, INFER_OP_ATTENTION, layer, "attention", (uint32_t[]){q, stored_k, stored_v}, &shape, whole);
    return build_part(g, INFER_OP_ATTENTION_MERGE, layer, "attention_merge", (uint32_t[]){whole, chunks, INFER_NONE}, &shape,
                      infer_graph_value(g, INFER_VALUE_F32, INFER_ROWS_TOKENS, g->values[q].cols));
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

uint32_t infer_op_attention_chunks_grain(const infer_graph *g, const infer_node *n) { return g->values[n->out].cols; }

uint32_t infer_op_attention_merge_grain(const infer_graph *g, const infer_node *n)
{
    (void)g;
    return n->u.attention.head_dim;
}

/* All three work on the same q, k, v and y; `chunks` and `y` are the values that stand for the partial results and the output. */
static void bind_attention(const infer_plan *plan, const infer_node *n, const infer_batch *batch, uint32_t chunks, uint32_t y,
                           infer_args *args)
{
    infer_attention_args *a = &args->attention;
    *a = (infer_attention_args){
        .m = batch->m,
        .heads = n->u.attention.heads,
        .kv_heads = n->u.attention.kv_heads,
        .head_dim = n->u.attention.head_dim,
        .positions = plan->positions,
        .pos0 = batch->pos0,
        .scale = n->u.attention.scale,
        .softcap = n->u.attention.softcap,
        .window = n->u.attention.window,
        .chunks = batch->chunk_rows / n->u.attention.kv_heads,
    };
    if (n->op != INFER_OP_ATTENTION_MERGE) {
        a->q = infer_plan_f32(plan, n->in[0], INFER_ROWS_TOKENS, batch);
        a->q_stride = infer_plan_stride(plan, n->in[0]);
        a->k = infer_plan_cache(plan, n->layer, 0);
        a->v = infer_plan_cache(plan, n->layer, 1);
    }
    if (chunks != INFER_NONE) {
        a->partial = infer_plan_f32(plan, chunks, INFER_ROWS_CHUNKS, batch);
        a->partial_stride = infer_plan_stride(plan, chunks);
    }
    if (y != INFER_NONE) {
        a->y = infer_plan_f32(plan, y, INFER_ROWS_TOKENS, batch);
        a->y_stride = infer_plan_stride(plan, y);
    }
}

void infer_op_attention_bind(const infer_plan *plan, const infer_node *n, const infer_batch *batch, infer_args *args)
{
    bind_attention(plan, n, batch, INFER_NONE, n->out, args);
}

void infer_op_attention_chunks_bind(const infer_plan *plan, const infer_node *n, const infer_batch *batch, infer_args *args)
{
    bind_attention(plan, n, batch, n->out, INFER_NONE, args);
}

void infer_op_attention_merge_bind(const infer_plan *plan, const infer_node *n, const infer_batch *batch, infer_args *args)
{
    bind_attention(plan, n, batch, n->in[1], n->out, args);
}
