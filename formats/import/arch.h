/* What the importers share: a model in the architectures, names, shapes and metadata keys of formats/SPEC.md, whatever file it comes from. */
#ifndef INFER_FORMATS_IMPORT_ARCH_H
#define INFER_FORMATS_IMPORT_ARCH_H

#include "import/import.h"

#define INFER_IMPORT_MAX_LAYERS 1024u
#define INFER_IMPORT_MAX_EOS 16u
#define INFER_IMPORT_MAX_FACTORS 256u          /* half of the largest head */
#define INFER_IMPORT_MAX_TEMPLATE (64u << 10)  /* bytes; longer chat templates are left out */

typedef enum infer_rope_kind { INFER_IMPORT_ROPE_NONE, INFER_IMPORT_ROPE_LINEAR, INFER_IMPORT_ROPE_LLAMA3, INFER_IMPORT_ROPE_FACTORS } infer_rope_kind;

/* Numbers that a model lacks are 0, texts NULL. The texts are borrowed until the metadata is made. */
typedef struct infer_arch {
    const char *format, *path; /* of the source: "gguf" */
    const char *name;          /* the model's own; name_bytes long, any bytes */
    size_t name_bytes;
    const char *architecture; /* ours: "llama", "gemma", "gpt2", "bitnet" */
    uint64_t dim, layers, heads, kv_heads, head_dim, ffn_dim, vocab, context;
    double norm_eps;
    const char *activation; /* NULL: silu */
    bool tied_head, qkv_bias, qk_norm, post_norms, sub_norms;
    bool gated;    /* a gate beside up */
    bool biased;   /* layer norms and matrices have biases, positions are learned: GPT-2 */
    uint64_t window, global_every;
    double attention_scale, attention_softcap, logit_softcap, embed_scale;
    struct {
        uint64_t dim; /* 0: no rotary positions */
        bool halves;
        double theta, local_theta;
        infer_rope_kind scaling;
        double factor, low_freq_factor, high_freq_factor, magnitude; /* magnitude 0: 1 */
        uint64_t original_context;
        double factors[INFER_IMPORT_MAX_FACTORS];
        uint64_t factor_count;
    } rope;
    uint32_t bos; /* INFER_VOCAB_NO_ID: none */
    uint32_t eos[INFER_IMPORT_MAX_EOS];
    size_t eos_count;
    const char *chat_template;
    size_t chat_template_bytes;
} infer_arch;

/* What a tensor is for; those from ATTN_NORM to FFN_POST_NORM are there once a layer. */
typedef enum infer_role {
    INFER_ROLE_TOK_EMBED,
    INFER_ROLE_POS_EMBED,
    INFER_ROLE_ATTN_NORM,
    INFER_ROLE_ATTN_NORM_BIAS,
    INFER_ROLE_Q,
    INFER_ROLE_Q_BIAS,
    INFER_ROLE_Q_NORM,
    INFER_ROLE_K,
    INFER_ROLE_K_BIAS,
    INFER_ROLE_K_NORM,
    INFER_ROLE_V,
    INFER_ROLE_V_BIAS,
    INFER_ROLE_ATTN_SUB_NORM,
    INFER_ROLE_O,
    INFER_ROLE_O_BIAS,
    INFER_ROLE_ATTN_POST_NORM,
    INFER_ROLE_FFN_NORM,
    INFER_ROLE_FFN_NORM_BIAS,
    INFER_ROLE_GATE,
    INFER_ROLE_UP,
    INFER_ROLE_UP_BIAS,
    INFER_ROLE_FFN_SUB_NORM,
    INFER_ROLE_DOWN,
    INFER_ROLE_DOWN_BIAS,
    INFER_ROLE_FFN_POST_NORM,
    INFER_ROLE_OUT_NORM,
    INFER_ROLE_OUT_NORM_BIAS,
    INFER_ROLE_HEAD,
    INFER_ROLE_COUNT
} infer_role;

#define INFER_ROLE_FIRST_OF_LAYER INFER_ROLE_ATTN_NORM
#define INFER_ROLE_LAST_OF_LAYER INFER_ROLE_FFN_POST_NORM

static inline bool infer_role_in_layer(infer_role r) { return r >= INFER_ROLE_FIRST_OF_LAYER && r <= INFER_ROLE_LAST_OF_LAYER; }

typedef struct infer_slot {
    infer_role role;
    uint32_t layer; /* 0 outside the layers */
} infer_slot;

/* Every number within the limits that keep later arithmetic from overflowing, and heads that divide. FORMAT names the first that is not. */
infer_status infer_arch_check(const infer_arch *m, infer_error *err);
/* The tensors that the model has, with names and shapes, in the order of SPEC.md; `stored` is F32. Of a checked model. *out and *slots (what each is
 * for) are allocated with `a`. */
infer_status infer_arch_tensors(const infer_allocator *a, const infer_arch *m, infer_source_tensor **out, infer_slot **slots, size_t *count,
                                infer_error *err);
/* A window as long as the context hides nothing: without it every layer is alike. With a rotary base of its own for windowed layers it has to stay. */
void infer_arch_trim_window(infer_arch *m);
/* Adds an end token, unless it is there already or there is no more room. */
void infer_arch_add_eos(infer_arch *m, uint64_t id);
/* The metadata as JSON, allocated with `a`. */
infer_status infer_arch_metadata(const infer_allocator *a, const infer_arch *m, char **out, infer_error *err);

/* ---- names.c: where other formats keep a tensor ---- */

typedef struct infer_name_style infer_name_style;
extern const infer_name_style infer_names_gguf, infer_names_gguf_phi3, infer_names_gguf_gpt2, infer_names_gguf_gemma2;
extern const infer_name_style infer_names_hf, infer_names_hf_phi3, infer_names_hf_gpt2, infer_names_hf_gemma2;

typedef struct infer_place {
    char name[96];
    uint64_t rows;     /* of the whole stored tensor, of which ours is a part when it was fused with others */
    uint64_t first_row;
    bool transposed;   /* stored as [cols][rows] */
} infer_place;

/* Where `style` keeps the tensor of a slot, whose shape is `t`. False: nowhere. */
bool infer_name_place(const infer_name_style *style, const infer_arch *m, infer_slot slot, const infer_source_tensor *t, infer_place *out);

/* ---- shared by the importers ---- */

/* Frees metadata, vocabulary and tensors, which every importer allocates the same way. */
void infer_source_free_parts(infer_source *s);
/* ARGUMENT unless rows [row, row + n) of tensor `index` exist. */
infer_status infer_source_check_rows(const infer_source *s, size_t index, uint64_t row, uint64_t n, infer_error *err);

#endif
