/*
 * A plan: the graph with everything chosen. Nodes that work on the same region of their outputs are grouped into steps; a step is cut into
 * tasks (regions), and a task runs all nodes of its step on its region. So gate, up, activation and the quantization of its result are one
 * step without a barrier inside. Steps depend on earlier steps through the values and the memory they share.
 */
#ifndef INFER_GRAPH_PLAN_H
#define INFER_GRAPH_PLAN_H

#include "core/pool.h"
#include "graph/graph.h"

/* What one evaluation does with the plan. */
typedef struct infer_batch {
    const int32_t *ids; /* [m] */
    uint32_t m;         /* tokens, 1..max_batch */
    uint32_t logits;    /* rows of logits wanted: the last ones of the m */
    uint32_t logits_row;/* where in the logits buffer they go */
    uint32_t pos0;      /* position of the first token */
    uint32_t chunk_rows;/* set by infer_plan_run: KV heads x chunks of the context when attention is split into them, else 0 */
    /* Run only nodes first_node..end_node - 1 of the plan's graph, on the values that stand in the arena; 0, 0: all. */
    uint32_t first_node, end_node;
} infer_batch;

typedef union infer_args {
    infer_matmul_args matmul;
    infer_embed_args embed;
    infer_quantize_args quantize;
    infer_norm_args norm;
    infer_rope_args rope;
    infer_store_args store;
    infer_attention_args attention;
    infer_activation_args activation;
    infer_add_args add;
} infer_args;

typedef struct infer_buffer {
    uint32_t root;       /* value whose memory this value uses (itself, unless in place) */
    uint32_t stride;     /* f32: elements from one row to the next */
    size_t offset, bytes;/* in the arena, of roots */
    uint32_t first_step, last_step;
} infer_buffer;

enum { INFER_AXIS_ROWS = 1, INFER_AXIS_COLUMNS = 2 };

typedef struct infer_step {
    uint32_t first, count;       /* into plan->order */
    unsigned axes;               /* it may be cut along */
    infer_rows rows;
    uint32_t cols, grain;        /* columns of its outputs, and where they may be cut */
    uint64_t weight_bytes;       /* read by the step, whatever the batch */
    bool long_tasks;             /* has a matrix in the layout cols: few long tasks where inputs are silent */
    bool attends;                /* reads the whole context, unless attention is split */
    uint32_t dependencies;       /* steps it waits for */
    uint32_t first_successor, successors; /* into plan->successors */
} infer_step;

/* What changes while a step runs, a cache line of its own. */
typedef struct infer_step_state {
    _Alignas(64) _Atomic uint32_t untaken; /* tasks that nobody has taken, or some more for a moment */
    _Atomic uint32_t left;              /* tasks not finished */
    _Atomic uint32_t pending;           /* dependencies not finished */
    _Atomic uint32_t ready;             /* 1 when pending is 0 */
    uint32_t tasks, row_tasks, col_tasks, rows_each, cols_each, m;
} infer_step_state;

/* Says whether the bytes of a node's weights are what they should be. */
typedef infer_status infer_weight_check(void *checker, const infer_tensor_info *weight, infer_error *err);

typedef struct infer_plan {
    infer_allocator allocator;
    infer_graph graph;            /* a copy, with quantize nodes put in */
    const infer_kernel **kernels; /* [nodes] */
    infer_args *args;             /* [nodes] */
    infer_buffer *buffers;        /* [values] */
    uint32_t *order;              /* [nodes] node indices, step by step */
    infer_step *steps;
    infer_step_state *states;     /* [steps] */
    _Atomic uint64_t *shares;     /* [threads][steps] tasks of a thread: the first not taken in the low half, their end in the high one */
    uint32_t step_count;
    uint32_t *successors;
    infer_event event;            /* posted when a step becomes ready */

    uint32_t max_batch, max_logits, positions; /* positions: a multiple of 16 */
    uint32_t max_chunk_rows;      /* most of infer_batch.chunk_rows; 0: splitting attention would gain nothing */
    infer_qtype kv_type;
    infer_cpu_level level;
    uint8_t *arena;
    size_t arena_bytes;
    float *logits;                /* [max_logits][vocab] */
    uint8_t *cache;               /* [layers][k, v], each infer_cache_bytes */
    size_t cache_bytes;
    float *rope_cos[INFER_ROPE_TABLES], *rope_sin[INFER_ROPE_TABLES]; /* [positions][rope.dim / 2] */
    size_t rope_bytes;

    /* Events: quantize nodes before matrices in the layout cols have a threshold, and what is silent is counted while one is above 0. */
    bool events;
    float *thresholds;            /* [nodes] */
    uint64_t *silent;             /* [threads][nodes] inputs */
    uint64_t event_tokens;
    /* Sees the inputs of these nodes before they are quantized, on the thread that does it. NULL: nobody looks. */
    void (*observe)(void *user, uint32_t thread, uint32_t node, const infer_quantize_args *args, infer_region at);
    void *observer;

    /* Called for each node's weights in the first evaluation that uses them, on any of its threads, after they were read: what is damaged
     * fails the evaluation. NULL: nobody checks. */
    infer_weight_check *check;
    void *checker;
    _Atomic uint8_t *checked;   /* [nodes] or being checked */
    _Atomic uint32_t unchecked; /* nodes whose weights were not found right yet */

    _Atomic uint32_t cancel;
    uint32_t threads;
    bool profile;
    uint64_t *node_ns;            /* [threads][nodes] time inside kernels, when profiling */
    uint64_t evals, eval_ns, tokens;
} infer_plan;

typedef struct infer_plan_options {
    uint32_t max_batch, max_logits, context, threads;
    infer_qtype kv_type; /* F32, F16 or Q8G32 */
    infer_cpu_level level;
    bool profile;
    infer_weight_check *check; /* may be NULL */
    void *checker;
} infer_plan_options;

/* Everything allocated here; nothing later. UNSUPPORTED names the node and type without a kernel. */
infer_status infer_plan_create(const infer_graph *g, const infer_plan_options *options, infer_plan **out, infer_error *err);
void infer_plan_destroy(infer_plan *plan);
uint64_t infer_plan_bytes(const infer_plan *plan); /* all memory of the plan's buffers */
uint64_t infer_plan_weight_bytes(const infer_plan *plan);

/* Events so far: inputs of the nodes with a threshold, those that were silent, and the bytes of weights that these had. */
void infer_plan_events(const infer_plan *plan, uint64_t *inputs, uint64_t *silent, uint64_t *silent_bytes);
/* Of node `i`, a quantize node. */
uint64_t infer_plan_silent(const infer_plan *plan, uint32_t node);

/* exec.c. CANCELLED when plan->cancel was set; it is cleared. What plan->check says of weights used for the first time. */
infer_status infer_plan_run(infer_plan *plan, infer_pool *pool, const infer_batch *batch, infer_error *err);

/* ahead.c: how many bytes of a step's weights a thread has asked for. */
typedef struct infer_ahead {
    uint32_t step;
    uint64_t bytes;
} infer_ahead;
/* Until step s is ready, asks for the weights that the thread reads first of it, or of the next step that has any. */
void infer_plan_read_ahead(const infer_plan *plan, const infer_batch *batch, uint32_t s, uint32_t thread, infer_ahead *ahead);

/* Number of nodes in the step, and the i-th. */
static inline uint32_t infer_step_node(const infer_plan *p, const infer_step *s, uint32_t i) { return p->order[s->first + i]; }

static inline _Atomic uint64_t *infer_step_share(const infer_plan *p, uint32_t thread, uint32_t s)
{
    return &p->shares[(size_t)thread * p->step_count + s];
}

/* Whether plan->check is called for it: weights of a quantize node are those of the matrix behind it. */
static inline bool infer_node_checked(const infer_node *n)
{
    return n->weight.info && n->op != INFER_OP_QUANTIZE;
}

/* profile.c: the plan and its times as text. */
infer_status infer_plan_explain(const infer_plan *plan, infer_write_fn *write, void *user);
infer_status infer_plan_profile(const infer_plan *plan, infer_write_fn *write, void *user);
infer_status infer_plan_dot(const infer_plan *plan, infer_write_fn *write, void *user);

/* ---- for ops/ ---- */

/* First row of an f32 value (or of the logits), as seen by a node that works on `rows` rows of the batch. */
float *infer_plan_f32(const infer_plan *plan, uint32_t value, infer_rows rows, const infer_batch *batch);
infer_q8_rows infer_plan_q8(const infer_plan *plan, uint32_t value);
uint32_t infer_plan_stride(const infer_plan *plan, uint32_t value);
/* A layer's keys (which = 0) or values (1). */
void *infer_plan_cache(const infer_plan *plan, uint32_t layer, uint32_t which);
/* Rows of a value in an evaluation. */
static inline uint32_t infer_batch_rows(const infer_batch *b, infer_rows rows)
{
    return rows == INFER_ROWS_CHUNKS ? b->chunk_rows : rows == INFER_ROWS_LOGITS ? b->logits : b->m;
}

typedef enum infer_when { INFER_ALWAYS, INFER_WHEN_WHOLE, INFER_WHEN_SPLIT } infer_when; /* attention in one go, or split into chunks */

typedef struct infer_op {
    const char *name;
    unsigned axes;
    bool columns_needed, local, in_place;
    infer_when when;
    uint32_t (*grain)(const infer_graph *g, const infer_node *n);
    void (*bind)(const infer_plan *plan, const infer_node *n, const infer_batch *batch, infer_args *args);
} infer_op;
extern const infer_op infer_ops[INFER_OP_COUNT];

/* Whether the node takes part in the evaluation. */
static inline bool infer_node_runs(const infer_plan *plan, uint32_t node, const infer_batch *batch)
{
    infer_when when = infer_ops[plan->graph.nodes[node].op].when;
    if (batch->end_node && (node < batch->first_node || node >= batch->end_node))
        return false;
    return when == INFER_ALWAYS || (when == INFER_WHEN_SPLIT) == (batch->chunk_rows > 0);
}

#endif
