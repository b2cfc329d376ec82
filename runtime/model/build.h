/* What the architectures are built from: each call finds a tensor by its name, checks its shape and adds its node to the graph. So a model
 * file reads like the forward pass, and names nothing twice. */
#ifndef INFER_MODEL_BUILD_H
#define INFER_MODEL_BUILD_H

#include "model/model.h"
#include "ops/ops.h"

typedef struct infer_builder {
    const infer_model *model;
    infer_graph *graph;
    infer_error *err;
    infer_status status; /* the first failure; the functions below return INFER_NONE from then on */
    uint32_t layer;      /* whose tensors are meant; INFER_NONE: outside the layers */
} infer_builder;

/* A layer's attention, with its window where it has one. */
infer_attention_shape infer_model_attention(const infer_config *c, uint32_t layer);

/* Rows of `name` [rows][dim], by token id or, with rows = 0, by position: [context][dim]. -> [tokens][dim] */
uint32_t infer_model_embed(infer_builder *b, const char *name, uint32_t rows, float scale);
/* x [tokens][cols] times `name` [rows][cols], plus `name`_bias [1][rows] where `bias` says so -> [tokens][rows] */
uint32_t infer_model_linear(infer_builder *b, const char *name, uint32_t x, uint32_t rows, bool bias);
/* RMS norm of every `width` columns of x, weight `name` [1][width]. */
uint32_t infer_model_rmsnorm(infer_builder *b, const char *name, uint32_t x, uint32_t width);
/* Layer norm of the rows of x, weight `name` and bias `name`_bias. */
uint32_t infer_model_layernorm(infer_builder *b, const char *name, uint32_t x);
/* `head`, or the embeddings where it is tied to them, times x, to the logits; outside the layers. */
void infer_model_head(infer_builder *b, uint32_t x);

#endif
