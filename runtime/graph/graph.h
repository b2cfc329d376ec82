/*
 * The graph of one forward pass. A model file builds it once, from named weights, in the order of the forward pass; each value is written
 * by one node (SSA). plan.h turns it into something that can run.
 *
 * Values have a row per token and a fixed number of columns. Rows are either all tokens of the batch, or only those whose logits are asked
 * for: a node that outputs the latter reads the last rows of an input of the former. The partial results of attention have a row for each
 * chunk of the context instead.
 */
#ifndef INFER_GRAPH_GRAPH_H
#define INFER_GRAPH_GRAPH_H

#include "core/core.h"
#include "file.h"
#include "kernels.h"

#define INFER_NONE UINT32_MAX

typedef enum infer_rows {
    INFER_ROWS_TOKENS,
    INFER_ROWS_LOGITS,
    INFER_ROWS_CHUNKS /* KV heads x chunks of the context in use; none when the evaluation does not split attention */
} infer_rows;

typedef enum infer_value_kind {
    INFER_VALUE_F32,   /* [rows][cols] floats in the arena */
    INFER_VALUE_Q8,    /* infer_q8_rows in the arena; put in by the planner */
    INFER_VALUE_CACHE, /* a layer's keys or values: stands for "stored" */
    INFER_VALUE_LOGITS /* [rows][cols] floats in the session's logits buffer */
} infer_value_kind;

typedef struct infer_value {
    infer_value_kind kind;
    infer_rows rows;
    uint32_t cols;
    uint32_t producer; /* node */
} infer_value;

/* A stored tensor in the map. */
typedef struct infer_weight {
    const infer_tensor_info *info;
    const void *data;
} infer_weight;

typedef enum infer_rope_scaling { INFER_ROPE_PLAIN, INFER_ROPE_LINEAR, INFER_ROPE_LLAMA3, INFER_ROPE_FACTORS } infer_rope_scaling;

typedef struct infer_rope_config {
    double theta;           /* double, all of them: a rounding here is multiplied by the position */
    uint32_t dim;           /* of each head, even, <= head_dim; 0: no such table */
    infer_rope_pairs pairs;
    infer_rope_scaling scaling;
    double factor, low_freq_factor, high_freq_factor; /* llama3: all three; linear: factor */
    uint32_t original_context;
    double factors[INFER_MAX_HEAD_DIM / 2], magnitude; /* factors */
} infer_rope_config;

/* A graph may rotate by two tables: the second one is that of layers with a sliding window. */
enum { INFER_ROPE_GLOBAL, INFER_ROPE_LOCAL, INFER_ROPE_TABLES };

typedef struct infer_attention_shape {
    uint32_t heads, kv_heads, head_dim;
    uint32_t window;      /* 0: none. See infer_attention_args */
    float scale, softcap; /* softcap 0: none */
} infer_attention_shape;

#define INFER_NODE_INPUTS 3

typedef struct infer_node {
    infer_op_kind op;
    uint32_t in[INFER_NODE_INPUTS]; /* values; INFER_NONE where unused */
    uint32_t out;                   /* value */
    uint32_t layer;                 /* INFER_NONE outside the layers */
    infer_weight weight;            /* info NULL: none */
    char name[48];                  /* "layers.3.q" */
    union {
        struct { float scale; bool positions; } embed;         /* positions: rows are positions, not ids */
        struct { uint32_t group; } quantize;                   /* inputs that share a scale */
        struct { float eps; uint32_t width; } norm;            /* rmsnorm, layernorm */
        struct { infer_activation kind; float cap; } activation;
        struct { uint32_t head_dim, table; } rope;             /* and store, without a table */
        infer_attention_shape attention;
    } u;
} infer_node;

typedef struct infer_graph {
    infer_allocator allocator;
    infer_value *values;
    infer_node *nodes;
    size_t value_count, value_cap, node_count, node_cap;
    uint32_t layers, heads, kv_heads, head_dim, vocab;
    uint32_t learned_positions; /* most positions there are; 0: no limit */
    infer_rope_config rope[INFER_ROPE_TABLES];
    bool out_of_memory; /* sticky: builders return INFER_NONE from then on, and the caller looks once at the end */
} infer_graph;

void infer_graph_init(infer_graph *g, const infer_allocator *a);
void infer_graph_free(infer_graph *g);
/* Deep copy. */
bool infer_graph_copy(const infer_graph *g, infer_graph *out);

/* For the files in ops/: appends a value and a node that writes it. INFER_NONE when memory ran out. */
uint32_t infer_graph_value(infer_graph *g, infer_value_kind kind, infer_rows rows, uint32_t cols);
infer_node *infer_graph_node(infer_graph *g, infer_op_kind op, uint32_t layer, const char *name, uint32_t out);

#endif
