/* How GGUF and Hugging Face files name the tensors of each family. %u is the layer. Facts of llama.cpp's gguf-py and of the transformers library. */
#include "import/arch.h"

#include <inttypes.h>
#include <string.h>

struct infer_name_style {
    const char *names[INFER_ROLE_COUNT];
    const infer_name_style *base; /* asked for the names that this one lacks */
    bool fused_qkv, fused_gate_up, transposed; /* transposed: the matrices of the layers are [inputs][outputs] */
};

const infer_name_style infer_names_gguf = {
    .names = {
        [INFER_ROLE_TOK_EMBED] = "token_embd.weight",
        [INFER_ROLE_ATTN_NORM] = "blk.%u.attn_norm.weight",
        [INFER_ROLE_Q] = "blk.%u.attn_q.weight",
        [INFER_ROLE_Q_BIAS] = "blk.%u.attn_q.bias",
        [INFER_ROLE_Q_NORM] = "blk.%u.attn_q_norm.weight",
        [INFER_ROLE_K] = "blk.%u.attn_k.weight",
        [INFER_ROLE_K_BIAS] = "blk.%u.attn_k.bias",
        [INFER_ROLE_K_NORM] = "blk.%u.attn_k_norm.weight",
        [INFER_ROLE_V] = "blk.%u.attn_v.weight",
        [INFER_ROLE_V_BIAS] = "blk.%u.attn_v.bias",
        [INFER_ROLE_ATTN_SUB_NORM] = "blk.%u.attn_sub_norm.weight",
        [INFER_ROLE_O] = "blk.%u.attn_output.weight",
        [INFER_ROLE_FFN_NORM] = "blk.%u.ffn_norm.weight",
        [INFER_ROLE_GATE] = "blk.%u.ffn_gate.weight",
        [INFER_ROLE_UP] = "blk.%u.ffn_up.weight",
        [INFER_ROLE_FFN_SUB_NORM] = "blk.%u.ffn_sub_norm.weight",
        [INFER_ROLE_DOWN] = "blk.%u.ffn_down.weight",
        [INFER_ROLE_OUT_NORM] = "output_norm.weight",
        [INFER_ROLE_HEAD] = "output.weight",
    },
};

const infer_name_style infer_names_gguf_gemma2 = {
    .names = {
        [INFER_ROLE_ATTN_POST_NORM] = "blk.%u.post_attention_norm.weight",
        [INFER_ROLE_FFN_POST_NORM] = "blk.%u.post_ffw_norm.weight",
    },
    .base = &infer_names_gguf,
};

const infer_name_style infer_names_gguf_phi3 = {
    .names = {
        [INFER_ROLE_Q] = "blk.%u.attn_qkv.weight",
        [INFER_ROLE_K] = "blk.%u.attn_qkv.weight",
        [INFER_ROLE_V] = "blk.%u.attn_qkv.weight",
        [INFER_ROLE_GATE] = "blk.%u.ffn_up.weight",
    },
    .base = &infer_names_gguf,
    .fused_qkv = true,
    .fused_gate_up = true,
};

const infer_name_style infer_names_gguf_gpt2 = {
    .names = {
        [INFER_ROLE_POS_EMBED] = "position_embd.weight",
        [INFER_ROLE_ATTN_NORM_BIAS] = "blk.%u.attn_norm.bias",
        [INFER_ROLE_Q] = "blk.%u.attn_qkv.weight",
        [INFER_ROLE_Q_BIAS] = "blk.%u.attn_qkv.bias",
        [INFER_ROLE_K] = "blk.%u.attn_qkv.weight",
        [INFER_ROLE_K_BIAS] = "blk.%u.attn_qkv.bias",
        [INFER_ROLE_V] = "blk.%u.attn_qkv.weight",
        [INFER_ROLE_V_BIAS] = "blk.%u.attn_qkv.bias",
        [INFER_ROLE_O_BIAS] = "blk.%u.attn_output.bias",
        [INFER_ROLE_FFN_NORM_BIAS] = "blk.%u.ffn_norm.bias",
        [INFER_ROLE_UP_BIAS] = "blk.%u.ffn_up.bias",
        [INFER_ROLE_DOWN_BIAS] = "blk.%u.ffn_down.bias",
        [INFER_ROLE_OUT_NORM_BIAS] = "output_norm.bias",
    },
    .base = &infer_names_gguf,
    .fused_qkv = true,
};

const infer_name_style infer_names_hf = {
    .names = {
        [INFER_ROLE_TOK_EMBED] = "model.embed_tokens.weight",
        [INFER_ROLE_ATTN_NORM] = "model.layers.%u.input_layernorm.weight",
        [INFER_ROLE_Q] = "model.layers.%u.self_attn.q_proj.weight",
        [INFER_ROLE_Q_BIAS] = "model.layers.%u.self_attn.q_proj.bias",
        [INFER_ROLE_Q_NORM] = "model.layers.%u.self_attn.q_norm.weight",
        [INFER_ROLE_K] = "model.layers.%u.self_attn.k_proj.weight",
        [INFER_ROLE_K_BIAS] = "model.layers.%u.self_attn.k_proj.bias",
        [INFER_ROLE_K_NORM] = "model.layers.%u.self_attn.k_norm.weight",
        [INFER_ROLE_V] = "model.layers.%u.self_attn.v_proj.weight",
        [INFER_ROLE_V_BIAS] = "model.layers.%u.self_attn.v_proj.bias",
        [INFER_ROLE_ATTN_SUB_NORM] = "model.layers.%u.self_attn.attn_sub_norm.weight",
        [INFER_ROLE_O] = "model.layers.%u.self_attn.o_proj.weight",
        [INFER_ROLE_FFN_NORM] = "model.layers.%u.post_attention_layernorm.weight",
        [INFER_ROLE_GATE] = "model.layers.%u.mlp.gate_proj.weight",
        [INFER_ROLE_UP] = "model.layers.%u.mlp.up_proj.weight",
        [INFER_ROLE_FFN_SUB_NORM] = "model.layers.%u.mlp.ffn_sub_norm.weight",
        [INFER_ROLE_DOWN] = "model.layers.%u.mlp.down_proj.weight",
        [INFER_ROLE_OUT_NORM] = "model.norm.weight",
        [INFER_ROLE_HEAD] = "lm_head.weight",
    },
};

const infer_name_style infer_names_hf_gemma2 = {
    .names = {
        [INFER_ROLE_ATTN_POST_NORM] = "model.layers.%u.post_attention_layernorm.weight",
        [INFER_ROLE_FFN_NORM] = "model.layers.%u.pre_feedforward_layernorm.weight",
        [INFER_ROLE_FFN_POST_NORM] = "model.layers.%u.post_feedforward_layernorm.weight",
    },
    .base = &infer_names_hf,
};

const infer_name_style infer_names_hf_phi3 = {
    .names = {
        [INFER_ROLE_Q] = "model.layers.%u.self_attn.qkv_proj.weight",
        [INFER_ROLE_K] = "model.layers.%u.self_attn.qkv_proj.weight",
        [INFER_ROLE_V] = "model.layers.%u.self_attn.qkv_proj.weight",
        [INFER_ROLE_GATE] = "model.layers.%u.mlp.gate_up_proj.weight",
        [INFER_ROLE_UP] = "model.layers.%u.mlp.gate_up_proj.weight",
    },
    .base = &infer_names_hf,
    .fused_qkv = true,
    .fused_gate_up = true,
};

const infer_name_style infer_names_hf_gpt2 = {
    .names = {
        [INFER_ROLE_TOK_EMBED] = "transformer.wte.weight",
        [INFER_ROLE_POS_EMBED] = "transformer.wpe.weight",
        [INFER_ROLE_ATTN_NORM] = "transformer.h.%u.ln_1.weight",
        [INFER_ROLE_ATTN_NORM_BIAS] = "transformer.h.%u.ln_1.bias",
        [INFER_ROLE_Q] = "transformer.h.%u.attn.c_attn.weight",
        [INFER_ROLE_Q_BIAS] = "transformer.h.%u.attn.c_attn.bias",
        [INFER_ROLE_K] = "transformer.h.%u.attn.c_attn.weight",
        [INFER_ROLE_K_BIAS] = "transformer.h.%u.attn.c_attn.bias",
        [INFER_ROLE_V] = "transformer.h.%u.attn.c_attn.weight",
        [INFER_ROLE_V_BIAS] = "transformer.h.%u.attn.c_attn.bias",
        [INFER_ROLE_O] = "transformer.h.%u.attn.c_proj.weight",
        [INFER_ROLE_O_BIAS] = "transformer.h.%u.attn.c_proj.bias",
        [INFER_ROLE_FFN_NORM] = "transformer.h.%u.ln_2.weight",
        [INFER_ROLE_FFN_NORM_BIAS] = "transformer.h.%u.ln_2.bias",
        [INFER_ROLE_UP] = "transformer.h.%u.mlp.c_fc.weight",
        [INFER_ROLE_UP_BIAS] = "transformer.h.%u.mlp.c_fc.bias",
        [INFER_ROLE_DOWN] = "transformer.h.%u.mlp.c_proj.weight",
        [INFER_ROLE_DOWN_BIAS] = "transformer.h.%u.mlp.c_proj.bias",
        [INFER_ROLE_OUT_NORM] = "transformer.ln_f.weight",
        [INFER_ROLE_OUT_NORM_BIAS] = "transformer.ln_f.bias",
        [INFER_ROLE_HEAD] = "lm_head.weight",
    },
    .fused_qkv = true,
    .transposed = true,
};

/* Our part of a tensor that was fused with others: q, k, v or gate, up in this order. Biases are rows of numbers: parts of their columns. */
static void find_part(const infer_name_style *style, const infer_arch *m, infer_role role, infer_place *out)
{
    uint64_t q = m->heads * m->head_dim, kv = m->kv_heads * m->head_dim;

    if (style->fused_qkv) {
        if (role == INFER_ROLE_K || role == INFER_ROLE_K_BIAS)
            out->first_row = q;
        if (role == INFER_ROLE_V || role == INFER_ROLE_V_BIAS)
            out->first_row = q + kv;
        if (role == INFER_ROLE_Q || role == INFER_ROLE_Q_BIAS || out->first_row)
            out->rows = q + 2 * kv;
    }
    if (style->fused_gate_up && (role == INFER_ROLE_GATE || role == INFER_ROLE_UP)) {
        out->first_row = role == INFER_ROLE_UP ? m->ffn_dim : 0;
        out->rows = 2 * m->ffn_dim;
    }
}

bool infer_name_place(const infer_name_style *style, const infer_arch *m, infer_slot slot, const infer_source_tensor *t, infer_place *out)
{
    const char *format = style->names[slot.role], *number;

    for (const infer_name_style *base = style->base; !format && base; base = base->base)
        format = base->names[slot.role];
    if (!format)
        return false;
    *out = (infer_place){.rows = t->matrix ? t->rows : t->cols, .transposed = style->transposed && t->matrix && infer_role_in_layer(slot.role)};
    number = strstr(format, "%u");
    if (number)
        snprintf(out->name, sizeof out->name, "%.*s%" PRIu32 "%s", (int)(number - format), format, slot.layer, number + 2);
    else
        snprintf(out->name, sizeof out->name, "%s", format);
    find_part(style, m, slot.role, out);
    return true;
}
