/* The residual connection, and biases: the second term is a value, or a weight of one row for all tokens. */
#include "ops/ops.h"

static infer_node *build(infer_graph *g, uint32_t layer, const char *name, uint32_t a)
{
    uint32_t out = a == INFER_NONE ? INFER_NONE : infer_graph_value(g, INFER_VALUE_F32, g->values[a].rows, g->values[a].cols);
    infer_node *n = out == INFER_NONE ? NULL : infer_graph_node(g, INFER_OP_ADD, layer, name, out);
    if (n)
        n->in[0] = a;
    return n;
}

uint32_t infer_build_add(infer_graph *g, uint32_t layer, const char *name, uint32_t a, uint32_t b)
{
    infer_node *n = build(g, layer, name, a);
    if (!n)
        return INFER_NONE;
    n->in[1] = b;
    return n->out;
}

uint32_t infer_build_bias(infer_graph *g, uint32_t layer, const char *name, uint32_t x, infer_weight w)
{
    infer_node *n = build(g, layer, name, x);
    if (!n)
        return INFER_NONE;
    n->weight = w;
    return n->out;
}

uint32_t infer_op_add_grain(const infer_graph *g, const infer_node *n)
{
    (void)g, (void)n;
    return 16;
}

void infer_op_add_bind(const infer_plan *plan, const infer_node *n, const infer_batch *batch, infer_args *args)
{
    infer_rows rows = plan->graph.values[n->out].rows;
    bool bias = n->weight.info != NULL;
    args->add = (infer_add_args){
        .a = infer_plan_f32(plan, n->in[0], rows, batch),
        .b = bias ? n->weight.data : infer_plan_f32(plan, n->in[1], rows, batch),
        .y = infer_plan_f32(plan, n->out, rows, batch),
        .m = infer_batch_rows(batch, rows),
        .n = plan->graph.values[n->out].cols,
        .stride = infer_plan_stride(plan, n->out),
        .b_stride = bias ? 0 : infer_plan_stride(plan, n->in[1]),
    };
}
