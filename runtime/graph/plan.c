#include "graph/plan.h"

#include "attention.h"
#include "cols.h"
#include "cpu.h"
#include "model/rope_table.h"
#include "ops/ops.h"

#include <stdio.h>
#include <string.h>

#define ARENA_ALIGN 64

/* ---- 1. quantized inputs ---- */

static bool wants_q8(const infer_node *n)
{
    /* The float types have a layout `rows`, the integer types, with their scales, have not. */
    return n->op == INFER_OP_MATMUL && infer_qtype_find(n->weight.info->type)->element_bytes == 0;
}

/* Copies g into plan->graph, with one quantize node before the first of the integer matmuls that read a value in groups of this size; in the layout
 * cols, whose matrices have factors for their inputs, with one for each. */
static bool insert_quantize(infer_plan *plan, const infer_graph *g)
{
    infer_graph *out = &plan->graph;
    uint32_t(*quantized)[2]; /* value -> its int8 form in groups of 32, of 64 */
    if (!infer_graph_copy(g, out))
        return false;
    out->node_count = 0;
    quantized = infer_alloc_array(&g->allocator, g->value_count, sizeof *quantized);
    if (!quantized)
        return false;
    for (size_t v = 0; v < g->value_count; v++)
        quantized[v][0] = quantized[v][1] = INFER_NONE;
    for (size_t i = 0; i < g->node_count && !out->out_of_memory; i++) {
        const infer_node *n = &g->nodes[i];
        infer_node *copy;
        uint32_t x = n->in[0], group = wants_q8(n) ? infer_qtype_find(n->weight.info->type)->group : 0;
        if (group && n->weight.info->layout == INFER_LAYOUT_COLS) {
            char name[64];
            snprintf(name, sizeof name, "%.40s.q8", n->name);
            x = infer_build_quantize(out, n->layer, name, x, group);
            if (x != INFER_NONE)
                out->nodes[out->node_count - 1].weight = n->weight;
        } else if (group) {
            uint32_t *q8 = &quantized[x][group == 64];
            if (*q8 == INFER_NONE) {
                char name[64];
                snprintf(name, sizeof name, "%.40s.q8", g->nodes[g->values[x].producer].name);
                *q8 = infer_build_quantize(out, INFER_NONE, name, x, group);
            }
            x = *q8;
        }
        copy = infer_graph_node(out, n->op, INFER_NONE, n->name, n->out);
        if (copy && !out->out_of_memory) {
            *copy = *n;
            copy->in[0] = x;
        }
    }
    infer_free(&g->allocator, quantized);
    return !out->out_of_memory;
}

/* ---- 2. kernels ---- */

static infer_status choose_kernels(infer_plan *plan, const infer_plan_options *o, infer_error *err)
{
    for (size_t i = 0; i < plan->graph.node_count; i++) {
        const infer_node *n = &plan->graph.nodes[i];
        infer_qtype type = INFER_QTYPE_NONE;
        infer_layout layout = INFER_LAYOUT_NONE;
        if (n->op == INFER_OP_MATMUL || n->op == INFER_OP_EMBED) {
            type = n->weight.info->type;
            layout = n->weight.info->layout;
        } else if (n->op == INFER_OP_STORE_K || n->op == INFER_OP_STORE_V || n->op == INFER_OP_ATTENTION ||
                   n->op == INFER_OP_ATTENTION_CHUNKS) {
            type = o->kv_type;
        }
        plan->kernels[i] = infer_kernel_find(n->op, type, layout, o->level);
        if (!plan->kernels[i]) {
            const infer_qtype_info *info = infer_qtype_find(type);
            const char *layout_name = infer_layout_name(layout);
            return infer_fail(err, INFER_ERROR_UNSUPPORTED, "node %s: no %s kernel for type %s, layout %s at level %s", n->name,
                              infer_op_name(n->op), info ? info->name : "-", layout_name ? layout_name : "-",
                              infer_cpu_level_name(o->level));
        }
    }
    return INFER_OK;
}

/* ---- 3. steps ---- */

static uint32_t gcd(uint32_t a, uint32_t b)
{
    while (b) {
        uint32_t t = a % b;
        a = b;
        b = t;
    }
    return a;
}

/* Along which the node can be cut. */
static unsigned axes_of(const infer_graph *g, const infer_node *n)
{
    const infer_op *op = &infer_ops[n->op];
    bool whole_rows = !op->columns_needed && op->grain(g, n) >= g->values[n->out].cols;
    return whole_rows ? op->axes & ~(unsigned)INFER_AXIS_COLUMNS : op->axes;
}

/* Whether node `n` can run inside step `s`, on the step's regions; node_step holds the steps of the nodes before it. */
static bool can_join(const infer_plan *plan, const infer_step *step, uint32_t s, const uint32_t *node_step, const infer_node *n,
                     bool columns_needed)
{
    const infer_value *out = &plan->graph.values[n->out];
    const infer_op *op = &infer_ops[n->op];
    unsigned axes = step->axes & axes_of(&plan->graph, n);
    if (step->rows != out->rows || step->cols != out->cols || !axes)
        return false;
    if ((columns_needed || op->columns_needed) && !(axes & INFER_AXIS_COLUMNS))
        return false;
    for (int i = 0; i < INFER_NODE_INPUTS; i++)
        if (n->in[i] != INFER_NONE && node_step[plan->graph.values[n->in[i]].producer] == s && !op->local)
            return false;
    return true;
}

/* Puts each node into the last step, or that of its latest input, where it can join; else into a new one. */
static void make_steps(infer_plan *plan, uint32_t *node_step, bool *columns_needed)
{
    const infer_graph *g = &plan->graph;
    for (size_t i = 0; i < g->node_count; i++) {
        const infer_node *n = &g->nodes[i];
        const infer_op *op = &infer_ops[n->op];
        uint32_t latest = INFER_NONE, s = INFER_NONE, grain = op->grain(g, n);
        infer_step *step;
        for (int k = 0; k < INFER_NODE_INPUTS; k++)
            if (n->in[k] != INFER_NONE) {
                uint32_t producer = node_step[g->values[n->in[k]].producer];
                latest = latest == INFER_NONE || producer > latest ? producer : latest;
            }
        if (plan->step_count && can_join(plan, &plan->steps[plan->step_count - 1], plan->step_count - 1, node_step, n,
                                         columns_needed[plan->step_count - 1]))
            s = plan->step_count - 1;
        else if (latest != INFER_NONE && can_join(plan, &plan->steps[latest], latest, node_step, n, columns_needed[latest]))
            s = latest;
        if (s == INFER_NONE) {
            s = plan->step_count++;
            plan->steps[s] =
                (infer_step){.axes = axes_of(g, n), .rows = g->values[n->out].rows, .cols = g->values[n->out].cols, .grain = 1};
        }
        step = &plan->steps[s];
        node_step[i] = s;
        columns_needed[s] |= op->columns_needed;
        step->axes &= axes_of(g, n);
        step->grain = step->grain / gcd(step->grain, grain) * grain;
        step->count++;
        step->attends |= n->op == INFER_OP_ATTENTION;
        if (n->op == INFER_OP_MATMUL) {
            step->weight_bytes += n->weight.info->bytes;
            step->long_tasks |= n->weight.info->layout == INFER_LAYOUT_COLS;
        }
    }
    for (uint32_t s = 0, first = 0; s < plan->step_count; s++) {
        plan->steps[s].first = first;
        first += plan->steps[s].count;
        plan->steps[s].count = 0;
    }
    for (size_t i = 0; i < g->node_count; i++) {
        infer_step *step = &plan->steps[node_step[i]];
        plan->order[step->first + step->count++] = (uint32_t)i;
    }
}

/* ---- 4. memory ---- */

/* True when node `n`, in step s, may write over its input 0: everybody else who reads that value has done so, on the task's own region. */
static bool may_overwrite(const infer_plan *plan, const uint32_t *node_step, size_t node)
{
    const infer_graph *g = &plan->graph;
    const infer_node *n = &g->nodes[node];
    const infer_value *in = &g->values[n->in[0]];
    if (!infer_ops[n->op].in_place || in->kind != INFER_VALUE_F32 || in->rows != g->values[n->out].rows ||
        in->cols != g->values[n->out].cols)
        return false;
    for (size_t r = 0; r < g->node_count; r++)
        for (int i = 0; i < INFER_NODE_INPUTS; i++)
            if (r != node && g->nodes[r].in[i] == n->in[0]) {
                if (node_step[r] > node_step[node] || (node_step[r] == node_step[node] && (r > node || !infer_ops[g->nodes[r].op].local)))
                    return false;
            }
    return true;
}

static infer_status place_buffers(infer_plan *plan, const uint32_t *node_step, infer_error *err)
{
    const infer_graph *g = &plan->graph;
    for (uint32_t v = 0; v < g->value_count; v++) {
        const infer_value *value = &g->values[v];
        infer_buffer *b = &plan->buffers[v];
        uint64_t bytes = 0;
        b->root = v;
        b->stride = (uint32_t)infer_round_up(value->cols, 16);
        if (value->kind == INFER_VALUE_F32)
            bytes = (uint64_t)(value->rows == INFER_ROWS_CHUNKS ? plan->max_chunk_rows : plan->max_batch) * b->stride * sizeof(float);
        else if (value->kind == INFER_VALUE_Q8)
            bytes = infer_q8_rows_bytes(plan->max_batch, value->cols);
        if (bytes >> 48)
            return infer_fail(err, INFER_ERROR_MEMORY, "batch %u and context %u need more memory than any machine has", plan->max_batch,
                              plan->positions);
        b->bytes = infer_round_up(bytes, ARENA_ALIGN);
        b->first_step = b->last_step = value->producer == INFER_NONE ? 0 : node_step[value->producer];
    }
    for (uint32_t i = 0; i < g->node_count; i++) {
        const infer_node *n = &g->nodes[i];
        if (may_overwrite(plan, node_step, i))
            plan->buffers[n->out].root = plan->buffers[n->in[0]].root;
        else if (n->op == INFER_OP_ROPE || n->op == INFER_OP_ATTENTION_MERGE)
            return infer_fail(err, INFER_ERROR_UNSUPPORTED, "node %s: its input is read after it", n->name);
    }
    for (uint32_t v = 0; v < g->value_count; v++) { /* a root lives as long as the values in its place */
        infer_buffer *root = &plan->buffers[plan->buffers[v].root];
        uint32_t made = plan->buffers[v].first_step;
        root->last_step = made > root->last_step ? made : root->last_step;
    }
    for (uint32_t i = 0; i < g->node_count; i++)
        for (int k = 0; k < INFER_NODE_INPUTS; k++)
            if (g->nodes[i].in[k] != INFER_NONE) {
                infer_buffer *root = &plan->buffers[plan->buffers[g->nodes[i].in[k]].root];
                root->last_step = node_step[i] > root->last_step ? node_step[i] : root->last_step;
            }
    /* First fit: values come in the order of their making; each takes the lowest gap among those alive at the same time. */
    for (uint32_t v = 0; v < g->value_count; v++) {
        infer_buffer *b = &plan->buffers[v];
        size_t offset = 0;
        if (b->root != v || b->bytes == 0)
            continue;
        for (bool moved = true; moved;) {
            moved = false;
            for (uint32_t o = 0; o < v; o++) {
                const infer_buffer *other = &plan->buffers[o];
                if (other->root == o && other->bytes && other->first_step <= b->last_step && b->first_step <= other->last_step &&
                    offset < other->offset + other->bytes && other->offset < offset + b->bytes) {
                    offset = other->offset + other->bytes;
                    moved = true;
                }
            }
        }
        b->offset = offset;
        if (offset + b->bytes > plan->arena_bytes)
            plan->arena_bytes = offset + b->bytes;
    }
    return INFER_OK;
}

/* ---- 5. dependencies ---- */

static bool overlap(const infer_plan *plan, uint32_t v, uint32_t w)
{
    const infer_buffer *a = &plan->buffers[plan->buffers[v].root], *b = &plan->buffers[plan->buffers[w].root];
    return v == w || (a->bytes && b->bytes && a->offset < b->offset + b->bytes && b->offset < a->offset + a->bytes);
}

/* Step j must wait for the earlier step i: it reads what i writes, or writes where i reads or writes. */
static bool conflicts(const infer_plan *plan, const infer_step *i, const infer_step *j)
{
    for (uint32_t a = 0; a < i->count; a++)
        for (uint32_t b = 0; b < j->count; b++) {
            const infer_node *early = &plan->graph.nodes[infer_step_node(plan, i, a)],
                             *late = &plan->graph.nodes[infer_step_node(plan, j, b)];
            if (overlap(plan, early->out, late->out))
                return true;
            for (int k = 0; k < INFER_NODE_INPUTS; k++)
                if ((late->in[k] != INFER_NONE && overlap(plan, early->out, late->in[k])) ||
                    (early->in[k] != INFER_NONE && overlap(plan, early->in[k], late->out)))
                    return true;
        }
    return false;
}

/* Direct dependencies only: what follows from others is left out. */
static bool make_dependencies(infer_plan *plan)
{
    const infer_allocator *a = &plan->allocator;
    uint32_t n = plan->step_count, words = (n + 63) / 64;
    size_t edges = 0, cap = 0;
    uint32_t(*edge)[2] = NULL;
    uint64_t *ancestors = infer_alloc_array(a, (size_t)n * words, sizeof *ancestors);
    bool ok = ancestors != NULL;
    for (uint32_t j = 0; ok && j < n; j++)
        for (uint32_t i = j; ok && i-- > 0;) {
            uint64_t *mine = ancestors + (size_t)j * words;
            if (mine[i / 64] >> (i % 64) & 1 || !conflicts(plan, &plan->steps[i], &plan->steps[j]))
                continue;
            for (uint32_t w = 0; w < words; w++)
                mine[w] |= ancestors[(size_t)i * words + w];
            mine[i / 64] |= 1ull << (i % 64);
            ok = infer_grow(a, &edge, &cap, edges + 1, sizeof *edge);
            if (ok) {
                edge[edges][0] = i;
                edge[edges++][1] = j;
                plan->steps[i].successors++;
                plan->steps[j].dependencies++;
            }
        }
    plan->successors = ok ? infer_alloc_array(a, edges ? edges : 1, sizeof *plan->successors) : NULL;
    ok = plan->successors != NULL;
    for (uint32_t s = 0, first = 0; ok && s < n; s++) {
        plan->steps[s].first_successor = first;
        for (size_t e = 0; e < edges; e++)
            if (edge[e][0] == s)
                plan->successors[first++] = edge[e][1];
    }
    infer_free(a, edge);
    infer_free(a, ancestors);
    return ok;
}

/* ---- all of it ---- */

static size_t cache_half_bytes(const infer_plan *plan)
{
    return (size_t)infer_cache_bytes(plan->kv_type, plan->graph.kv_heads, plan->positions, plan->graph.head_dim);
}

static infer_status allocate(infer_plan *plan, infer_error *err)
{
    const infer_graph *g = &plan->graph;
    const infer_allocator *a = &plan->allocator;
    uint64_t logits, cache;
    if (infer_mul_overflows((uint64_t)plan->max_logits * g->vocab, sizeof(float), &logits) ||
        infer_mul_overflows(cache_half_bytes(plan), 2ull * g->layers, &cache) || (logits | cache) >> 48)
        return infer_fail(err, INFER_ERROR_MEMORY, "context %u and %u rows of logits need more memory than any machine has",
                          plan->positions, plan->max_logits);
    plan->cache_bytes = (size_t)cache;
    if (!(plan->shares = infer_alloc_array(a, (size_t)plan->threads * plan->step_count, sizeof *plan->shares)))
        return infer_fail_memory(err, (size_t)plan->threads * plan->step_count * sizeof *plan->shares, "shares of tasks");
    if (!(plan->arena = infer_alloc(a, plan->arena_bytes)))
        return infer_fail_memory(err, plan->arena_bytes, "activations");
    if (!(plan->logits = infer_alloc(a, (size_t)logits)))
        return infer_fail_memory(err, (size_t)logits, "logits");
    if (!(plan->cache = infer_alloc_zero(a, plan->cache_bytes)))
        return infer_fail_memory(err, plan->cache_bytes, "the KV cache");
    for (int i = 0; i < INFER_ROPE_TABLES; i++) {
        size_t bytes = (size_t)plan->positions * (g->rope[i].dim / 2) * sizeof(float);
        if (!bytes)
            continue;
        if (!(plan->rope_cos[i] = infer_alloc(a, bytes)) || !(plan->rope_sin[i] = infer_alloc(a, bytes)))
            return infer_fail_memory(err, 2 * bytes, "rotary position tables");
        infer_rope_table(&g->rope[i], plan->positions, plan->rope_cos[i], plan->rope_sin[i]);
        plan->rope_bytes += 2 * bytes;
    }
    if (!(plan->thresholds = infer_alloc_array(a, g->node_count, sizeof *plan->thresholds)) ||
        !(plan->silent = infer_alloc_array(a, (size_t)plan->threads * g->node_count, sizeof *plan->silent)))
        return infer_fail_memory(err, (size_t)plan->threads * g->node_count * sizeof *plan->silent, "counts of events");
    if (plan->check && !(plan->checked = infer_alloc_array(a, g->node_count, sizeof *plan->checked)))
        return infer_fail_memory(err, g->node_count, "which weights were checked");
    for (size_t i = 0; plan->check && i < g->node_count; i++)
        plan->unchecked += infer_node_checked(&g->nodes[i]);
    if (plan->profile && !(plan->node_ns = infer_alloc_array(a, (size_t)plan->threads * g->node_count, sizeof *plan->node_ns)))
        return infer_fail_memory(err, (size_t)plan->threads * g->node_count * sizeof *plan->node_ns, "the profile");
    return INFER_OK;
}

static infer_status build(infer_plan *plan, const infer_graph *g, const infer_plan_options *o, uint32_t **node_step, bool **columns_needed,
                          infer_error *err)
{
    const infer_allocator *a = &plan->allocator;
    size_t nodes, values;
    infer_status status;
    if (!insert_quantize(plan, g))
        return infer_fail_memory(err, g->node_count * sizeof *g->nodes, "the graph");
    nodes = plan->graph.node_count;
    values = plan->graph.value_count;
    if (!(plan->kernels = infer_alloc_array(a, nodes, sizeof *plan->kernels)) ||
        !(plan->args = infer_alloc_array(a, nodes, sizeof *plan->args)) ||
        !(plan->order = infer_alloc_array(a, nodes, sizeof *plan->order)) ||
        !(plan->steps = infer_alloc_array(a, nodes, sizeof *plan->steps)) ||
        !(plan->states = infer_alloc_array(a, nodes, sizeof *plan->states)) ||
        !(plan->buffers = infer_alloc_array(a, values, sizeof *plan->buffers)) ||
        !(*node_step = infer_alloc_array(a, nodes, sizeof **node_step)) ||
        !(*columns_needed = infer_alloc_array(a, nodes, sizeof **columns_needed)))
        return infer_fail_memory(err, nodes * sizeof *plan->args, "the plan");
    if ((status = choose_kernels(plan, o, err)) != INFER_OK)
        return status;
    make_steps(plan, *node_step, *columns_needed);
    if ((status = place_buffers(plan, *node_step, err)) != INFER_OK)
        return status;
    if (!make_dependencies(plan))
        return infer_fail_memory(err, nodes * sizeof *plan->successors, "the plan");
    return allocate(plan, err);
}

/* A thread that gets several KV heads anyway needs no smaller shares. */
#define HEADS_PER_THREAD 4u

/* Most rows of partial results of attention: 0 where tasks of whole KV heads are as good, or the context is a single chunk. */
static uint32_t max_chunk_rows(const infer_graph *g, const infer_plan_options *o)
{
    if (o->threads == 1 || g->kv_heads >= HEADS_PER_THREAD * o->threads || o->context <= INFER_ATTENTION_CHUNK)
        return 0;
    return g->kv_heads * (uint32_t)infer_ceil_div(o->context, INFER_ATTENTION_CHUNK);
}

infer_status infer_plan_create(const infer_graph *g, const infer_plan_options *o, infer_plan **out, infer_error *err)
{
    infer_plan *plan = infer_alloc_zero(&g->allocator, sizeof *plan);
    uint32_t *node_step = NULL;
    bool *columns_needed = NULL;
    infer_status status;
    if (!plan)
        return infer_fail_memory(err, sizeof *plan, "the plan");
    plan->allocator = g->allocator;
    plan->max_batch = o->max_batch;
    plan->max_logits = o->max_logits;
    plan->positions = (uint32_t)infer_round_up(o->context, 16);
    plan->max_chunk_rows = max_chunk_rows(g, o);
    plan->kv_type = o->kv_type;
    plan->level = o->level;
    plan->threads = o->threads;
    plan->profile = o->profile;
    plan->check = o->check;
    plan->checker = o->checker;
    status = build(plan, g, o, &node_step, &columns_needed, err);
    infer_free(&g->allocator, node_step);
    infer_free(&g->allocator, columns_needed);
    if (status != INFER_OK) {
        infer_plan_destroy(plan);
        return status;
    }
    *out = plan;
    return INFER_OK;
}

void infer_plan_destroy(infer_plan *plan)
{
    infer_allocator a;
    if (!plan)
        return;
    a = plan->allocator;
    infer_graph_free(&plan->graph);
    infer_free(&a, plan->kernels);
    infer_free(&a, plan->args);
    infer_free(&a, plan->buffers);
    infer_free(&a, plan->order);
    infer_free(&a, plan->steps);
    infer_free(&a, plan->states);
    infer_free(&a, plan->successors);
    infer_free(&a, (void *)plan->shares);
    infer_free(&a, plan->arena);
    infer_free(&a, plan->logits);
    infer_free(&a, plan->cache);
    for (int i = 0; i < INFER_ROPE_TABLES; i++) {
        infer_free(&a, plan->rope_cos[i]);
        infer_free(&a, plan->rope_sin[i]);
    }
    infer_free(&a, plan->thresholds);
    infer_free(&a, plan->silent);
    infer_free(&a, (void *)plan->checked);
    infer_free(&a, plan->node_ns);
    infer_free(&a, plan);
}

uint64_t infer_plan_bytes(const infer_plan *plan)
{
    return plan->arena_bytes + plan->cache_bytes + plan->rope_bytes + (uint64_t)plan->max_logits * plan->graph.vocab * sizeof(float);
}

uint64_t infer_plan_weight_bytes(const infer_plan *plan)
{
    uint64_t bytes = 0;
    for (size_t i = 0; i < plan->graph.node_count; i++) {
        const infer_node *n = &plan->graph.nodes[i];
        if (n->weight.info && n->op != INFER_OP_EMBED && n->op != INFER_OP_QUANTIZE)
            bytes += n->weight.info->bytes;
    }
    return bytes;
}

uint64_t infer_plan_silent(const infer_plan *plan, uint32_t node)
{
    uint64_t silent = 0;
    for (uint32_t t = 0; t < plan->threads; t++)
        silent += plan->silent[t * plan->graph.node_count + node];
    return silent;
}

void infer_plan_events(const infer_plan *plan, uint64_t *inputs, uint64_t *silent, uint64_t *silent_bytes)
{
    *inputs = *silent = *silent_bytes = 0;
    for (uint32_t i = 0; i < plan->graph.node_count; i++) {
        const infer_node *n = &plan->graph.nodes[i];
        if (n->op != INFER_OP_QUANTIZE || !n->weight.info)
            continue;
        *inputs += plan->event_tokens * n->weight.info->cols;
        *silent += infer_plan_silent(plan, i);
        *silent_bytes +=
            infer_plan_silent(plan, i) * infer_cols_codes_bytes(infer_cols_padded((size_t)n->weight.info->rows, INFER_COLS_TILE),
                                                                infer_qtype_find(n->weight.info->type)->cols_bits);
    }
}

/* ---- for ops/ ---- */

uint32_t infer_plan_stride(const infer_plan *plan, uint32_t value)
{
    return plan->graph.values[value].kind == INFER_VALUE_LOGITS ? plan->graph.vocab : plan->buffers[value].stride;
}

float *infer_plan_f32(const infer_plan *plan, uint32_t value, infer_rows rows, const infer_batch *batch)
{
    const infer_value *v = &plan->graph.values[value];
    float *p;
    if (v->kind == INFER_VALUE_LOGITS)
        return plan->logits + (size_t)batch->logits_row * plan->graph.vocab;
    p = (float *)(void *)(plan->arena + plan->buffers[plan->buffers[value].root].offset);
    if (rows == INFER_ROWS_LOGITS && v->rows == INFER_ROWS_TOKENS)
        p += (size_t)(batch->m - batch->logits) * plan->buffers[value].stride;
    return p;
}

infer_q8_rows infer_plan_q8(const infer_plan *plan, uint32_t value)
{
    return infer_q8_rows_at(plan->arena + plan->buffers[plan->buffers[value].root].offset, plan->max_batch, plan->graph.values[value].cols);
}

void *infer_plan_cache(const infer_plan *plan, uint32_t layer, uint32_t which)
{
    return plan->cache + ((size_t)layer * 2 + which) * cache_half_bytes(plan);
}
