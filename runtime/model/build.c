#include "model/build.h"

#include <math.h>
#include <stdio.h>

static infer_weight find(infer_builder *b, const char *name, uint32_t rows, uint32_t cols, bool matrix)
{
    infer_weight w = {NULL, NULL};
    if (b->status == INFER_OK)
        b->status = infer_model_weight(b->model, b->layer, name, rows, cols, matrix, &w, b->err);
    return w;
}

static uint32_t add_bias(infer_builder *b, const char *name, uint32_t x, uint32_t cols)
{
    char bias[32];
    infer_weight w;
    snprintf(bias, sizeof bias, "%s_bias", name);
    w = find(b, bias, 1, cols, false);
    return w.info ? infer_build_bias(b->graph, b->layer, bias, x, w) : INFER_NONE;
}

/* Norms outside the layers are those before the head, which wants the logits' rows only. */
static infer_rows norm_rows(const infer_builder *b) { return b->layer == INFER_NONE ? INFER_ROWS_LOGITS : INFER_ROWS_TOKENS; }

infer_attention_shape infer_model_attention(const infer_config *c, uint32_t layer)
{
    bool global = c->global_every && (layer + 1) % c->global_every == 0;
    return (infer_attention_shape){
        .heads = c->heads,
        .kv_heads = c->kv_heads,
        .head_dim = c->head_dim,
        .window = global ? 0 : c->window,
        .scale = c->attention_scale > 0 ? c->attention_scale : 1.0f / sqrtf((float)c->head_dim),
        .softcap = c->attention_softcap,
    };
}

uint32_t infer_model_embed(infer_builder *b, const char *name, uint32_t rows, float scale)
{
    const infer_config *c = &b->model->config;
    infer_weight w = find(b, name, rows ? rows : c->context, c->dim, true);
    if (!w.info)
        return INFER_NONE;
    return rows ? infer_build_embed(b->graph, w, scale) : infer_build_embed_positions(b->graph, w);
}

uint32_t infer_model_linear(infer_builder *b, const char *name, uint32_t x, uint32_t rows, bool bias)
{
    infer_weight w = {NULL, NULL};
    if (x != INFER_NONE)
        w = find(b, name, rows, b->graph->values[x].cols, true);
    if (!w.info)
        return INFER_NONE;
    x = infer_build_matmul(b->graph, b->layer, name, x, w, INFER_VALUE_F32);
    return bias ? add_bias(b, name, x, rows) : x;
}

uint32_t infer_model_rmsnorm(infer_builder *b, const char *name, uint32_t x, uint32_t width)
{
    infer_weight w = find(b, name, 1, width, false);
    return w.info ? infer_build_rmsnorm(b->graph, b->layer, name, x, w, b->model->config.norm_eps, norm_rows(b)) : INFER_NONE;
}

uint32_t infer_model_layernorm(infer_builder *b, const char *name, uint32_t x)
{
    const infer_config *c = &b->model->config;
    infer_weight w = find(b, name, 1, c->dim, false);
    if (!w.info)
        return INFER_NONE;
    return add_bias(b, name, infer_build_layernorm(b->graph, b->layer, name, x, w, c->norm_eps, norm_rows(b)), c->dim);
}

void infer_model_head(infer_builder *b, uint32_t x)
{
    const infer_config *c = &b->model->config;
    infer_weight w = find(b, c->tied_head ? "tok_embed" : "head", c->vocab, c->dim, true);
    if (!w.info)
        return;
    x = infer_build_matmul(b->graph, INFER_NONE, "head", x, w, INFER_VALUE_LOGITS);
    if (c->logit_softcap > 0)
        infer_build_softcap(b->graph, "logit_softcap", x, c->logit_softcap);
}
