/* Weights to come: a thread that waits for a step asks for what it will read next, so that memory does not wait with it. When another thread takes
 * its tasks after all, the lines have cost a transfer, no more. */
#include "cols.h"
#include "graph/plan.h"
#include "sparse.h"

#define AHEAD_BYTES (256u << 10) /* of an array of a matrix, into L2: more than a wait lasts */
#define AHEAD_STEP 2048u         /* between looks at whether it is over: some tens of nanoseconds */

/* Bytes that kernels read from beginning to end. */
typedef struct span {
    const uint8_t *at;
    uint64_t bytes;
} span;

enum { MOST_SPANS = 3 };

/* Of panels first..end - 1 of a sparse matrix: how many. */
static uint32_t sparse_spans(const infer_tensor_info *info, const void *data, uint64_t first, uint64_t end, span out[MOST_SPANS])
{
    infer_sparse s = infer_sparse_at(info->layout, data, (size_t)info->rows, (size_t)info->cols);
    size_t unit = info->layout == INFER_LAYOUT_BITMASK ? infer_sparse_mask_unit_bytes(info->type) : infer_sparse_unit_bytes(info->type);
    uint32_t before, units;
    if (info->layout == INFER_LAYOUT_CSR)
        return 0; /* it has a pointer for each row */
    before = s.pointers[first];
    units = s.pointers[end] - before;
    out[0] = (span){s.values + unit * before, unit * units};
    out[1] = (span){(const uint8_t *)(const void *)(s.scales + 16 * s.blocks * first), 32 * s.blocks * (end - first)};
    out[2] = (span){(const uint8_t *)s.positions + infer_sparse_positions_bytes(info->layout, first, s.blocks, before),
                    infer_sparse_positions_bytes(info->layout, end - first, s.blocks, units)};
    return 3;
}

/* What outputs col0..col1 - 1 of a matrix read, both multiples of 16 but for its end: how many spans, 0 where they read no bytes in a row. */
static uint32_t spans_of(const infer_weight *w, uint64_t col0, uint64_t col1, bool events, span out[MOST_SPANS])
{
    const infer_tensor_info *info = w->info;
    uint64_t panels = infer_ceil_div(info->rows, 16), first = col0 / 16, end = infer_ceil_div(col1, 16), each;
    if (info->layout == INFER_LAYOUT_TILE16X4) {
        each = info->bytes / panels;
        out[0] = (span){(const uint8_t *)w->data + first * each, (end - first) * each};
        return 1;
    }
    if (info->layout == INFER_LAYOUT_COLS) {
        infer_cols c = infer_cols_at(w->data, (size_t)info->rows, (size_t)info->cols, infer_qtype_find(info->type)->cols_bits);
        if (events)
            return 0; /* which inputs count, it does not know yet */
        out[0] = (span){infer_cols_stripe_of(&c, (size_t)col0).groups,
                        c.groups * infer_cols_group_bytes(infer_cols_padded((size_t)(col1 - col0), INFER_COLS_TILE), c.bits)};
        return 1;
    }
    return infer_layout_sparse(info->layout) ? sparse_spans(info, w->data, first, end, out) : 0;
}

void infer_plan_read_ahead(const infer_plan *plan, const infer_batch *batch, uint32_t s, uint32_t thread, infer_ahead *ahead)
{
    const _Atomic uint32_t *ready = &plan->states[s].ready;
    const infer_step_state *st;
    uint64_t share, col0, col1, passed = 0;
    while (s < plan->step_count && (plan->steps[s].weight_bytes == 0 || plan->states[s].tasks == 0))
        s++;
    if (s == plan->step_count)
        return;
    if (ahead->step != s)
        *ahead = (infer_ahead){s, 0};
    st = &plan->states[s];
    share = atomic_load_explicit(infer_step_share(plan, thread, s), memory_order_relaxed);
    col0 = (uint64_t)(uint32_t)share * st->cols_each;
    col1 = (share >> 32) * st->cols_each;
    col1 = col1 < plan->steps[s].cols ? col1 : plan->steps[s].cols;
    for (uint32_t i = 0; i < plan->steps[s].count && col0 < col1; i++) {
        uint32_t node = infer_step_node(plan, &plan->steps[s], i), count;
        const infer_node *n = &plan->graph.nodes[node];
        span spans[MOST_SPANS];
        if (n->op != INFER_OP_MATMUL || !infer_node_runs(plan, node, batch))
            continue;
        count = spans_of(&n->weight, col0, col1, plan->events, spans);
        for (uint32_t k = 0; k < count; k++)
            for (uint64_t at = 0; at < spans[k].bytes && at < AHEAD_BYTES; at += AHEAD_STEP) {
                if ((passed += AHEAD_STEP) <= ahead->bytes)
                    continue;
                if (atomic_load_explicit(ready, memory_order_relaxed))
                    return;
                for (uint64_t line = at; line < at + AHEAD_STEP && line < spans[k].bytes; line += 64)
                    __builtin_prefetch(spans[k].at + line, 0, 2);
                ahead->bytes = passed;
            }
    }
}
