/*
 * Llama: the forward pass of a decoder-only transformer with grouped-query attention, rotary positions, RMS norm and a SwiGLU feed-forward block.
 * Sources: Touvron et al. 2023 (arXiv:2302.13971), Ainslie et al. 2023 for the grouped queries (arXiv:2305.13245).
 *
 * Shapes: x [tokens][dim]; q [tokens][heads * head_dim]; k, v [tokens][kv_heads * head_dim]; gate, up [tokens][ffn]; weights [outputs][inputs].
 */
#include "model/model.h"
#include "ops/ops.h"

#include <math.h>

typedef struct layer_weights {
    infer_weight attn_norm, q, k, v, o, ffn_norm, gate, up, down;
} layer_weights;

static infer_status find_layer(const infer_model *model, uint32_t l, layer_weights *w, infer_error *err)
{
    const infer_config *c = &model->config;
    uint32_t q_dim = c->heads * c->head_dim, kv_dim = c->kv_heads * c->head_dim;
    infer_status s;
    if ((s = infer_model_weight(model, l, "attn_norm", 1, c->dim, false, &w->attn_norm, err)) != INFER_OK ||
        (s = infer_model_weight(model, l, "q", q_dim, c->dim, true, &w->q, err)) != INFER_OK ||
        (s = infer_model_weight(model, l, "k", kv_dim, c->dim, true, &w->k, err)) != INFER_OK ||
        (s = infer_model_weight(model, l, "v", kv_dim, c->dim, true, &w->v, err)) != INFER_OK ||
        (s = infer_model_weight(model, l, "o", c->dim, q_dim, true, &w->o, err)) != INFER_OK ||
        (s = infer_model_weight(model, l, "ffn_norm", 1, c->dim, false, &w->ffn_norm, err)) != INFER_OK ||
        (s = infer_model_weight(model, l, "gate", c->ffn_dim, c->dim, true, &w->gate, err)) != INFER_OK ||
        (s = infer_model_weight(model, l, "up", c->ffn_dim, c->dim, true, &w->up, err)) != INFER_OK ||
        (s = infer_model_weight(model, l, "down", c->dim, c->ffn_dim, true, &w->down, err)) != INFER_OK)
        return s;
    return INFER_OK;
}

infer_status infer_llama_build(const infer_model *model, infer_graph *g, infer_error *err)
{
    const infer_config *c = &model->config;
    infer_weight tok_embed, out_norm, head;
    uint32_t x, h;
    infer_status s;
    if ((s = infer_model_weight(model, INFER_NONE, "tok_embed", c->vocab, c->dim, true, &tok_embed, err)) != INFER_OK ||
        (s = infer_model_weight(model, INFER_NONE, "out_norm", 1, c->dim, false, &out_norm, err)) != INFER_OK)
        return s;
    if (c->tied_head)
        head = tok_embed;
    else if ((s = infer_model_weight(model, INFER_NONE, "head", c->vocab, c->dim, true, &head, err)) != INFER_OK)
        return s;

    x = infer_build_embed(g, tok_embed);
    for (uint32_t l = 0; l < c->layers; l++) {
        layer_weights w;
        uint32_t q, k, v, a, gate, up;
        if ((s = find_layer(model, l, &w, err)) != INFER_OK)
            return s;

        /* attention: x += o * attention(rope(q * h), rope(k * h), v * h) */
        h = infer_build_rmsnorm(g, l, "attn_norm", x, w.attn_norm, c->norm_eps, INFER_ROWS_TOKENS);
        q = infer_build_matmul(g, l, "q", h, w.q, INFER_VALUE_F32);
        k = infer_build_matmul(g, l, "k", h, w.k, INFER_VALUE_F32);
        v = infer_build_matmul(g, l, "v", h, w.v, INFER_VALUE_F32);
        q = infer_build_rope(g, l, "rope_q", q, c->head_dim);
        k = infer_build_rope(g, l, "rope_k", k, c->head_dim);
        a = infer_build_attention(g, l, q, k, v, &(infer_attention_shape){c->heads, c->kv_heads, c->head_dim, .scale = 1.0f / sqrtf((float)c->head_dim)});
        x = infer_build_add(g, l, "attn_add", x, infer_build_matmul(g, l, "o", a, w.o, INFER_VALUE_F32));

        /* feed-forward: x += down * (silu(gate * h) * (up * h)) */
        h = infer_build_rmsnorm(g, l, "ffn_norm", x, w.ffn_norm, c->norm_eps, INFER_ROWS_TOKENS);
        gate = infer_build_matmul(g, l, "gate", h, w.gate, INFER_VALUE_F32);
        up = infer_build_matmul(g, l, "up", h, w.up, INFER_VALUE_F32);
        h = infer_build_silu_mul(g, l, gate, up);
        x = infer_build_add(g, l, "ffn_add", x, infer_build_matmul(g, l, "down", h, w.down, INFER_VALUE_F32));
    }
    h = infer_build_rmsnorm(g, INFER_NONE, "out_norm", x, out_norm, c->norm_eps, INFER_ROWS_LOGITS);
    infer_build_matmul(g, INFER_NONE, "head", h, head, INFER_VALUE_LOGITS);
    return INFER_OK;
}
