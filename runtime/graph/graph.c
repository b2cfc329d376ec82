#include "graph/graph.h"

#include <stdio.h>
#include <string.h>

void infer_graph_init(infer_graph *g, const infer_allocator *a)
{
    memset(g, 0, sizeof *g);
    if (a)
        g->allocator = *a;
}

void infer_graph_free(infer_graph *g)
{
    infer_free(&g->allocator, g->values);
    infer_free(&g->allocator, g->nodes);
    g->values = NULL;
    g->nodes = NULL;
}

bool infer_graph_copy(const infer_graph *g, infer_graph *out)
{
    infer_graph copy = *g;
    copy.values = NULL;
    copy.nodes = NULL;
    copy.value_cap = copy.node_cap = 0;
    if (!infer_grow(&g->allocator, &copy.values, &copy.value_cap, g->value_count, sizeof *copy.values) ||
        !infer_grow(&g->allocator, &copy.nodes, &copy.node_cap, g->node_count, sizeof *copy.nodes)) {
        infer_graph_free(&copy);
        return false;
    }
    memcpy(copy.values, g->values, g->value_count * sizeof *copy.values);
    memcpy(copy.nodes, g->nodes, g->node_count * sizeof *copy.nodes);
    *out = copy;
    return true;
}

uint32_t infer_graph_value(infer_graph *g, infer_value_kind kind, infer_rows rows, uint32_t cols)
{
    if (g->out_of_memory || !infer_grow(&g->allocator, &g->values, &g->value_cap, g->value_count + 1, sizeof *g->values)) {
        g->out_of_memory = true;
        return INFER_NONE;
    }
    g->values[g->value_count] = (infer_value){.kind = kind, .rows = rows, .cols = cols, .producer = INFER_NONE};
    return (uint32_t)g->value_count++;
}

infer_node *infer_graph_node(infer_graph *g, infer_op_kind op, uint32_t layer, const char *name, uint32_t out)
{
    infer_node *n;
    if (g->out_of_memory || !infer_grow(&g->allocator, &g->nodes, &g->node_cap, g->node_count + 1, sizeof *g->nodes)) {
        g->out_of_memory = true;
        return NULL;
    }
    n = &g->nodes[g->node_count];
    *n = (infer_node){.op = op, .in = {INFER_NONE, INFER_NONE, INFER_NONE}, .out = out, .layer = layer};
    if (layer == INFER_NONE)
        snprintf(n->name, sizeof n->name, "%s", name);
    else
        snprintf(n->name, sizeof n->name, "layers.%u.%s", layer, name);
    g->values[out].producer = (uint32_t)g->node_count++;
    return n;
}
