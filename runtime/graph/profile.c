/* The plan and its times as text: tables for people, a drawing for Graphviz. */
#include "cpu.h"
#include "graph/plan.h"
#include "sparse.h"

#include <stdio.h>

typedef struct sink {
    infer_write_fn *write;
    void *user;
    bool stopped;
} sink;

static void put(sink *s, const char *format, ...) INFER_PRINTF(2, 3);
static void put(sink *s, const char *format, ...)
{
    char line[512];
    va_list args;
    int n;
    va_start(args, format);
    n = vsnprintf(line, sizeof line, format, args);
    va_end(args);
    if (n >= (int)sizeof line)
        n = (int)sizeof line - 1;
    if (!s->stopped && n > 0)
        s->stopped = s->write(s->user, line, (size_t)n) != 0;
}

static const char *type_name(const infer_node *n)
{
    return n->weight.info ? infer_qtype_find(n->weight.info->type)->name : "-";
}

static const char *layout_name(const infer_node *n)
{
    return n->weight.info ? infer_layout_name(n->weight.info->layout) : "-";
}

/* Why this kernel: it is the table's first line for the operation and type that the level may run. */
static void put_reason(sink *s, const infer_plan *plan, const infer_kernel *k)
{
    if (k->level == plan->level)
        put(s, "best at %s", infer_cpu_level_name(plan->level));
    else
        put(s, "%s shares it", infer_cpu_level_name(plan->level));
}

/* Of a sparse matrix, how much was kept: why it is one. Rows and inputs that only pad do not count as gone. */
static void put_kept(sink *s, const infer_node *n)
{
    const infer_tensor_info *info = n->weight.info;
    infer_sparse w;
    double all;

    if (!info || !infer_layout_sparse(info->layout))
        return;
    w = infer_sparse_at(info->layout, n->weight.data, (size_t)info->rows, (size_t)info->cols);
    if (info->layout == INFER_LAYOUT_CSR || info->layout == INFER_LAYOUT_BITMASK)
        all = (double)info->rows * (double)info->cols / (info->layout == INFER_LAYOUT_BITMASK ? 2 : 1);
    else
        all = (double)w.panels * (double)((info->cols + 3) / 4);
    put(s, "; %.0f %% kept", 100 * w.units / all);
}

infer_status infer_plan_explain(const infer_plan *plan, infer_write_fn *write, void *user)
{
    sink s = {write, user, false};
    put(&s, "level %s, %u threads, batch %u, context %u (KV cache %s, %.1f MB), activations %.1f MB, weights read per token %.1f MB\n",
        infer_cpu_level_name(plan->level), plan->threads, plan->max_batch, plan->positions, infer_qtype_find(plan->kv_type)->name,
        plan->cache_bytes / 1e6, plan->arena_bytes / 1e6, infer_plan_weight_bytes(plan) / 1e6);
    put(&s, "%4s %-22s %-9s %-6s %-9s %9s %12s  %-36s %s\n", "step", "node", "op", "type", "layout", "columns", "bytes", "kernel", "why");
    for (uint32_t i = 0; i < plan->step_count; i++)
        for (uint32_t k = 0; k < plan->steps[i].count; k++) {
            uint32_t node = infer_step_node(plan, &plan->steps[i], k);
            const infer_node *n = &plan->graph.nodes[node];
            char step[16] = "";
            if (k == 0)
                snprintf(step, sizeof step, "%u", i);
            put(&s, "%4s %-22s %-9s %-6s %-9s %9u %12llu  %-36s ", step, n->name, infer_op_name(n->op), type_name(n), layout_name(n),
                plan->graph.values[n->out].cols, n->weight.info ? (unsigned long long)n->weight.info->bytes : 0ull,
                plan->kernels[node]->name);
            put_reason(&s, plan, plan->kernels[node]);
            put_kept(&s, n);
            put(&s, "\n");
        }
    return INFER_OK;
}

infer_status infer_plan_profile(const infer_plan *plan, infer_write_fn *write, void *user)
{
    sink s = {write, user, false};
    size_t nodes = plan->graph.node_count;
    uint64_t evals = plan->evals ? plan->evals : 1, kernel_ns = 0;
    put(&s, "%-22s %-9s %-6s %12s %8s %12s %10s%s\n", "node", "op", "type", "us / eval", "share", "bytes", "GB/s",
        plan->event_tokens ? "   silent" : "");
    for (uint32_t i = 0; i < plan->step_count; i++)
        for (uint32_t k = 0; k < plan->steps[i].count; k++) {
            uint32_t node = infer_step_node(plan, &plan->steps[i], k);
            const infer_node *n = &plan->graph.nodes[node];
            char events[16] = "";
            uint64_t ns = 0, bytes = n->weight.info && n->op == INFER_OP_MATMUL ? n->weight.info->bytes : 0;
            for (uint32_t t = 0; t < plan->threads; t++)
                ns += plan->node_ns[t * nodes + node];
            kernel_ns += ns;
            put(&s, "%-22s %-9s %-6s %12.2f %7.2f%% %12llu ", n->name, infer_op_name(n->op), type_name(n), ns / 1e3 / evals,
                plan->eval_ns ? 100.0 * ns / ((double)plan->eval_ns * plan->threads) : 0.0, (unsigned long long)bytes);
            if (plan->event_tokens)
                snprintf(events, sizeof events, "%8s", "-");
            if (plan->event_tokens && n->op == INFER_OP_MATMUL && n->weight.info->layout == INFER_LAYOUT_COLS) {
                uint64_t silent = infer_plan_silent(plan, plan->graph.values[n->in[0]].producer);
                snprintf(events, sizeof events, "%7.2f%%", 100.0 * silent / ((double)plan->event_tokens * n->weight.info->cols));
            }
            if (bytes && ns) /* all threads together read at this rate while they were in this kernel */
                put(&s, "%10.2f %s\n", (double)bytes * evals * plan->threads / ns, events);
            else
                put(&s, "%10s %s\n", "-", events);
        }
    put(&s,
        "%llu evaluations of %llu tokens in %.3f ms; %u threads were in kernels %.1f %% of it; the rest, waiting and bookkeeping, is "
        "%.0f ns a node, %.0f ns a step (%zu nodes in %u steps)\n",
        (unsigned long long)plan->evals, (unsigned long long)plan->tokens, plan->eval_ns / 1e6, plan->threads,
        plan->eval_ns ? 100.0 * kernel_ns / ((double)plan->eval_ns * plan->threads) : 0.0,
        ((double)plan->eval_ns - (double)kernel_ns / plan->threads) / evals / nodes,
        ((double)plan->eval_ns - (double)kernel_ns / plan->threads) / evals / plan->step_count, nodes, plan->step_count);
    return INFER_OK;
}

infer_status infer_plan_dot(const infer_plan *plan, infer_write_fn *write, void *user)
{
    sink s = {write, user, false};
    const infer_graph *g = &plan->graph;
    put(&s, "digraph plan {\n  rankdir=TB; node [shape=box, fontname=\"sans-serif\", fontsize=10]; compound=true;\n");
    for (uint32_t i = 0; i < plan->step_count; i++) {
        put(&s, "  subgraph cluster_%u { label=\"step %u\"; style=rounded; color=gray;\n", i, i);
        for (uint32_t k = 0; k < plan->steps[i].count; k++) {
            uint32_t node = infer_step_node(plan, &plan->steps[i], k);
            const infer_node *n = &g->nodes[node];
            put(&s, "    n%u [label=\"%s\\n%s %s\\n[tokens x %u]\"];\n", node, n->name, infer_op_name(n->op),
                n->weight.info ? type_name(n) : "", g->values[n->out].cols);
        }
        put(&s, "  }\n");
    }
    for (uint32_t i = 0; i < g->node_count; i++)
        for (int k = 0; k < INFER_NODE_INPUTS; k++)
            if (g->nodes[i].in[k] != INFER_NONE)
                put(&s, "  n%u -> n%u;\n", g->values[g->nodes[i].in[k]].producer, i);
    put(&s, "}\n");
    return INFER_OK;
}
