/*
 * Llama and its relatives: the forward pass of a decoder-only transformer with grouped-query attention, rotary positions, RMS norm and a
 * gated feed-forward block. Sources: Touvron et al. 2023 (arXiv:2302.13971), Ainslie et al. 2023 for the grouped queries
 * (arXiv:2305.13245). Parts that a model has or lacks, as its metadata say: biases of q, k and v Qwen2 (arXiv:2407.10671) RMS norm of every
 * head of q and k                             Qwen3 (arXiv:2505.09388), Gemma 3 (arXiv:2503.19786) sliding windows, in all layers or all
 * but every n-th          Mistral (arXiv:2310.06825), Phi-3; Gemma 2 (arXiv:2408.00118), Gemma 3 embeddings times sqrt(dim), gelu_tanh as
 * the gate's function  Gemma (arXiv:2403.08295) norms behind attention and feed-forward block, soft caps      Gemma 2 norms before o and
 * down                                       BitNet b1.58 (arXiv:2402.17764) a rotary base of its own in the layers with a window Gemma 3
 *
 * Shapes: x [tokens][dim]; q [tokens][heads * head_dim]; k, v [tokens][kv_heads * head_dim]; gate, up [tokens][ffn]; weights
 * [outputs][inputs].
 */
#include "model/build.h"

infer_status infer_llama_build(const infer_model *model, infer_graph *g, infer_error *err)
{
    const infer_config *c = &model->config;
    infer_builder b = {model, g, err, INFER_OK, INFER_NONE};
    uint32_t x, h;

    x = infer_model_embed(&b, "tok_embed", c->vocab, c->embed_scale);
    for (uint32_t l = 0; l < c->layers; l++) {
        infer_attention_shape shape = infer_model_attention(c, l);
        uint32_t table = shape.window && c->rope[INFER_ROPE_LOCAL].dim ? INFER_ROPE_LOCAL : INFER_ROPE_GLOBAL, q, k, v, gate, up;
        b.layer = l;

        /* attention: x += o * attention(rope(q * h), rope(k * h), v * h) */
        h = infer_model_rmsnorm(&b, "attn_norm", x, c->dim);
        q = infer_model_linear(&b, "q", h, c->heads * c->head_dim, c->qkv_bias);
        k = infer_model_linear(&b, "k", h, c->kv_heads * c->head_dim, c->qkv_bias);
        v = infer_model_linear(&b, "v", h, c->kv_heads * c->head_dim, c->qkv_bias);
        if (c->qk_norm) {
            q = infer_model_rmsnorm(&b, "q_norm", q, c->head_dim);
            k = infer_model_rmsnorm(&b, "k_norm", k, c->head_dim);
        }
        q = infer_build_rope(g, l, "rope_q", q, c->head_dim, table);
        k = infer_build_rope(g, l, "rope_k", k, c->head_dim, table);
        h = infer_build_attention(g, l, q, k, v, &shape);
        if (c->sub_norms)
            h = infer_model_rmsnorm(&b, "attn_sub_norm", h, c->heads * c->head_dim);
        h = infer_model_linear(&b, "o", h, c->dim, false);
        if (c->post_norms)
            h = infer_model_rmsnorm(&b, "attn_post_norm", h, c->dim);
        x = infer_build_add(g, l, "attn_add", x, h);

        /* feed-forward: x += down * (f(gate * h) * (up * h)) */
        h = infer_model_rmsnorm(&b, "ffn_norm", x, c->dim);
        gate = infer_model_linear(&b, "gate", h, c->ffn_dim, false);
        up = infer_model_linear(&b, "up", h, c->ffn_dim, false);
        h = infer_build_activation(g, l, c->activation, gate, up);
        if (c->sub_norms)
            h = infer_model_rmsnorm(&b, "ffn_sub_norm", h, c->ffn_dim);
        h = infer_model_linear(&b, "down", h, c->dim, false);
        if (c->post_norms)
            h = infer_model_rmsnorm(&b, "ffn_post_norm", h, c->dim);
        x = infer_build_add(g, l, "ffn_add", x, h);
    }
    b.layer = INFER_NONE;
    infer_model_head(&b, infer_model_rmsnorm(&b, "out_norm", x, c->dim));
    return b.status;
}
