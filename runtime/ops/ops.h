/* Builders of graph nodes, one file per operation. Each returns the value it makes, INFER_NONE when memory ran out (see infer_graph). The
 * shapes were checked by the caller (model/). `layer` is INFER_NONE outside the layers. */
#ifndef INFER_OPS_OPS_H
#define INFER_OPS_OPS_H

#include "graph/plan.h"

/* ids [tokens] -> [tokens][w.cols], times scale */
uint32_t infer_build_embed(infer_graph *g, infer_weight w, float scale);
/* the same of the tokens' positions */
uint32_t infer_build_embed_positions(infer_graph *g, infer_weight w);
/* x [tokens][w.cols] -> [rows][w.rows]; `rows` may narrow to the logits' rows */
uint32_t infer_build_matmul(infer_graph *g, uint32_t layer, const char *name, uint32_t x, infer_weight w, infer_value_kind out);
/* Every w.cols columns of x by themselves: whole rows or heads */
uint32_t infer_build_rmsnorm(infer_graph *g, uint32_t layer, const char *name, uint32_t x, infer_weight w, float eps, infer_rows rows);
uint32_t infer_build_layernorm(infer_graph *g, uint32_t layer, const char *name, uint32_t x, infer_weight w, float eps, infer_rows rows);
/* [tokens][heads * head_dim], rotated by position; table: INFER_ROPE_GLOBAL or INFER_ROPE_LOCAL */
uint32_t infer_build_rope(infer_graph *g, uint32_t layer, const char *name, uint32_t x, uint32_t head_dim, uint32_t table);
/* stores k and v of the tokens, then attends, in one go or split into chunks: q [tokens][heads * head_dim] -> the same shape */
uint32_t infer_build_attention(infer_graph *g, uint32_t layer, uint32_t q, uint32_t k, uint32_t v, const infer_attention_shape *shape);
/* f(x) * up; up INFER_NONE: f(x) */
uint32_t infer_build_activation(infer_graph *g, uint32_t layer, infer_activation kind, uint32_t x, uint32_t up);
/* cap * tanh(x / cap), of the logits too */
uint32_t infer_build_softcap(infer_graph *g, const char *name, uint32_t x, float cap);
uint32_t infer_build_add(infer_graph *g, uint32_t layer, const char *name, uint32_t a, uint32_t b);
/* x + the row w */
uint32_t infer_build_bias(infer_graph *g, uint32_t layer, const char *name, uint32_t x, infer_weight w);
/* The planner's: x -> int8 groups of so many inputs, for matmuls of integer types. */
uint32_t infer_build_quantize(infer_graph *g, uint32_t layer, const char *name, uint32_t x, uint32_t group);

/* What the table needs of each operation: columns at which its output may be cut, and the kernel's arguments for a batch. */
#define OP(KIND, name, axes, local, in_place, when)                                                                                        \
    uint32_t infer_op_##name##_grain(const infer_graph *g, const infer_node *n);                                                           \
    void infer_op_##name##_bind(const infer_plan *plan, const infer_node *n, const infer_batch *batch, infer_args *args);
#include "graph/ops.def"
#undef OP

#endif
