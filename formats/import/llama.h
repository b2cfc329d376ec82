/* What the importers share: the Llama architecture in the names, shapes and metadata keys of formats/file.h. */
#ifndef INFER_FORMATS_IMPORT_LLAMA_H
#define INFER_FORMATS_IMPORT_LLAMA_H

#include "import/import.h"

#define INFER_IMPORT_MAX_LAYERS 4096u

typedef struct infer_llama {
    const char *format, *path; /* of the source: "gguf" */
    const char *name;          /* the model's own, or NULL; name_bytes long, any bytes */
    size_t name_bytes;
    uint64_t dim, layers, heads, kv_heads, head_dim, ffn_dim, vocab, context, rope_dim;
    double norm_eps, rope_theta, rope_factor; /* rope_factor 1: no scaling, else linear */
    uint32_t bos;                             /* INFER_VOCAB_NO_ID: none */
    uint32_t eos[4];
    size_t eos_count;
    bool tied_head;
} infer_llama;

/* Tensors in the order of infer_llama_tensors: tok_embed; for each layer these nine; out_norm; head, unless it is tied. */
enum {
    LLAMA_ATTN_NORM,
    LLAMA_Q,
    LLAMA_K,
    LLAMA_V,
    LLAMA_O,
    LLAMA_FFN_NORM,
    LLAMA_GATE,
    LLAMA_UP,
    LLAMA_DOWN,
    LLAMA_LAYER_TENSORS
};
#define LLAMA_TOK_EMBED 0u
static inline size_t llama_layer_tensor(uint64_t layer, unsigned which) { return (size_t)(1 + layer * LLAMA_LAYER_TENSORS + which); }
static inline size_t llama_out_norm(uint64_t layers) { return (size_t)(1 + layers * LLAMA_LAYER_TENSORS); }
static inline size_t llama_head(uint64_t layers) { return llama_out_norm(layers) + 1; }

/* Every number within the limits that keep later arithmetic from overflowing, and heads that divide. FORMAT names the first that is not. */
infer_status infer_llama_check(const infer_llama *m, infer_error *err);
/* The tensors with names and shapes; `stored` is F32. Of a checked model. *out is allocated with `a`. */
infer_status infer_llama_tensors(const infer_allocator *a, const infer_llama *m, infer_source_tensor **out, size_t *count,
                                 infer_error *err);
/* The metadata as JSON, allocated with `a`. */
infer_status infer_llama_metadata(const infer_allocator *a, const infer_llama *m, char **out, infer_error *err);

/* Frees metadata, vocabulary and tensors, which every importer allocates the same way. */
void infer_source_free_parts(infer_source *s);
/* ARGUMENT unless rows [row, row + n) of tensor `index` exist. */
infer_status infer_source_check_rows(const infer_source *s, size_t index, uint64_t row, uint64_t n, infer_error *err);

#endif
