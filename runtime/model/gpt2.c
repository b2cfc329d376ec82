/*
 * GPT-2: a decoder-only transformer with learned positions, layer norm and biases everywhere (Radford et al. 2019; norms before the blocks,
 * one more before the head). Its feed-forward block has no gate; its function is gelu_tanh in all published models.
 *
 * Shapes: x [tokens][dim]; q, k, v [tokens][dim], heads side by side; up [tokens][ffn]; weights [outputs][inputs].
 */
#include "model/build.h"

infer_status infer_gpt2_build(const infer_model *model, infer_graph *g, infer_error *err)
{
    const infer_config *c = &model->config;
    infer_builder b = {model, g, err, INFER_OK, INFER_NONE};
    uint32_t x, h;

    x = infer_model_embed(&b, "tok_embed", c->vocab, 1);
    x = infer_build_add(g, INFER_NONE, "embed_add", x, infer_model_embed(&b, "pos_embed", 0, 1));
    for (uint32_t l = 0; l < c->layers; l++) {
        infer_attention_shape shape = infer_model_attention(c, l);
        uint32_t q, k, v;
        b.layer = l;

        /* attention: x += o * attention(q * h, k * h, v * h) */
        h = infer_model_layernorm(&b, "attn_norm", x);
        q = infer_model_linear(&b, "q", h, c->heads * c->head_dim, true);
        k = infer_model_linear(&b, "k", h, c->kv_heads * c->head_dim, true);
        v = infer_model_linear(&b, "v", h, c->kv_heads * c->head_dim, true);
        h = infer_build_attention(g, l, q, k, v, &shape);
        x = infer_build_add(g, l, "attn_add", x, infer_model_linear(&b, "o", h, c->dim, true));

        /* feed-forward: x += down * f(up * h) */
        h = infer_model_layernorm(&b, "ffn_norm", x);
        h = infer_build_activation(g, l, c->activation, infer_model_linear(&b, "up", h, c->ffn_dim, true), INFER_NONE);
        x = infer_build_add(g, l, "ffn_add", x, infer_model_linear(&b, "down", h, c->dim, true));
    }
    b.layer = INFER_NONE;
    infer_model_head(&b, infer_model_layernorm(&b, "out_norm", x));
    return b.status;
}
