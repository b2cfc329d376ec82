/* GGUF models of the architecture "llama". Its converters permute the rows of q and k so that rotary pairs are adjacent. */
#include "import/gguf_read.h"
#include "import/llama.h"
#include "import/vocab/tokenizers.h"

#include "bytes.h"
#include "vocab.h"

#include <inttypes.h>

#define BLOCK 32 /* numbers a block of Q8_0 and Q4_0: the group of q8g32 and q4g32 */

typedef struct gguf_state {
    infer_gguf gguf;
    const infer_gguf_tensor **tensor; /* of each of ours */
} gguf_state;

static int probe(const char *path, const uint8_t *head, size_t bytes)
{
    (void)path;
    return bytes >= 4 && memcmp(head, "GGUF", 4) == 0;
}

/* "llama.rope.scaling.*": only linear scaling is carried over. */
static infer_status read_rope_scaling(const infer_gguf *g, infer_llama *m, infer_error *err)
{
    const char *type;
    uint64_t bytes;
    infer_status s = infer_gguf_string(g, "llama.rope.scaling.type", false, &type, &bytes, err);

    m->rope_factor = 1;
    if (s != INFER_OK || !type || (bytes == 4 && memcmp(type, "none", 4) == 0))
        return s;
    if (bytes != 6 || memcmp(type, "linear", 6) != 0)
        return infer_fail(err, INFER_ERROR_UNSUPPORTED, "%s: rotary scaling \"%.*s\", supported are none and linear", g->path,
                          bytes < 64 ? (int)bytes : 64, type);
    return infer_gguf_float(g, "llama.rope.scaling.factor", true, &m->rope_factor, err);
}

static infer_status read_model(const infer_gguf *g, infer_llama *m, infer_error *err)
{
    const infer_gguf_tensor *embed = infer_gguf_find_tensor(g, "token_embd.weight");
    const char *architecture;
    uint64_t bytes, name_bytes;
    infer_status s = infer_gguf_string(g, "general.architecture", true, &architecture, &bytes, err);

    if (s != INFER_OK)
        return s;
    if (bytes != 5 || memcmp(architecture, "llama", 5) != 0)
        return infer_fail(err, INFER_ERROR_UNSUPPORTED, "%s: architecture \"%.*s\", supported is llama", g->path,
                          bytes < 64 ? (int)bytes : 64, architecture);
    if (!embed)
        return infer_fail(err, INFER_ERROR_FORMAT, "%s: tensor token_embd.weight is missing", g->path);
    *m = (infer_llama){.format = "gguf", .path = g->path, .vocab = embed->rows, .rope_theta = 10000};
    if ((s = infer_gguf_string(g, "general.name", false, &m->name, &name_bytes, err)) != INFER_OK ||
        (s = infer_gguf_uint(g, "llama.embedding_length", true, INFER_FILE_MAX_DIM, &m->dim, err)) != INFER_OK ||
        (s = infer_gguf_uint(g, "llama.block_count", true, INFER_IMPORT_MAX_LAYERS, &m->layers, err)) != INFER_OK ||
        (s = infer_gguf_uint(g, "llama.attention.head_count", true, 65536, &m->heads, err)) != INFER_OK)
        return s;
    m->name_bytes = (size_t)name_bytes;
    m->kv_heads = m->heads;
    m->head_dim = m->heads ? m->dim / m->heads : 0;
    if ((s = infer_gguf_uint(g, "llama.attention.head_count_kv", false, 65536, &m->kv_heads, err)) != INFER_OK ||
        (s = infer_gguf_uint(g, "llama.attention.key_length", false, 65536, &m->head_dim, err)) != INFER_OK ||
        (s = infer_gguf_uint(g, "llama.feed_forward_length", true, INFER_FILE_MAX_DIM, &m->ffn_dim, err)) != INFER_OK ||
        (s = infer_gguf_uint(g, "llama.context_length", true, INT32_MAX, &m->context, err)) != INFER_OK ||
        (s = infer_gguf_float(g, "llama.attention.layer_norm_rms_epsilon", true, &m->norm_eps, err)) != INFER_OK ||
        (s = infer_gguf_float(g, "llama.rope.freq_base", false, &m->rope_theta, err)) != INFER_OK ||
        (s = read_rope_scaling(g, m, err)) != INFER_OK)
        return s;
    m->rope_dim = m->head_dim;
    if ((s = infer_gguf_uint(g, "llama.rope.dimension_count", false, 65536, &m->rope_dim, err)) != INFER_OK)
        return s;
    return infer_llama_check(m, err);
}

/* A head that repeats the embedding is stored once. */
static bool is_tied(const infer_gguf *g)
{
    const infer_gguf_tensor *embed = infer_gguf_find_tensor(g, "token_embd.weight"), *head = infer_gguf_find_tensor(g, "output.weight");
    if (!embed || !head)
        return true;
    return embed->type == head->type && embed->rows == head->rows && embed->cols == head->cols &&
           memcmp(g->map.data + embed->offset, g->map.data + head->offset, (size_t)(embed->rows * embed->row_bytes)) == 0;
}

static infer_qtype stored_type(uint32_t type)
{
    switch (type) {
    case GGML_F16: return INFER_QTYPE_F16;
    case GGML_BF16: return INFER_QTYPE_BF16;
    case GGML_Q8_0: return INFER_QTYPE_Q8G32;
    case GGML_Q4_0: return INFER_QTYPE_Q4G32;
    default: return INFER_QTYPE_F32;
    }
}

/* GGUF's name of tensor i of infer_llama_tensors. */
static void gguf_name(size_t i, uint64_t layers, char *out, size_t size)
{
    static const char *const layer[LLAMA_LAYER_TENSORS] = {
        [LLAMA_ATTN_NORM] = "attn_norm", [LLAMA_Q] = "attn_q",          [LLAMA_K] = "attn_k",      [LLAMA_V] = "attn_v",
        [LLAMA_O] = "attn_output",       [LLAMA_FFN_NORM] = "ffn_norm", [LLAMA_GATE] = "ffn_gate", [LLAMA_UP] = "ffn_up",
        [LLAMA_DOWN] = "ffn_down",
    };
    if (i == LLAMA_TOK_EMBED)
        snprintf(out, size, "token_embd.weight");
    else if (i == llama_out_norm(layers))
        snprintf(out, size, "output_norm.weight");
    else if (i == llama_head(layers))
        snprintf(out, size, "output.weight");
    else
        snprintf(out, size, "blk.%zu.%s.weight", (i - 1) / LLAMA_LAYER_TENSORS, layer[(i - 1) % LLAMA_LAYER_TENSORS]);
}

/* Every tensor of ours is there in the right shape, and nothing else is: a bias or an expert left out would give wrong text. */
static infer_status match_tensors(infer_source *s, infer_source_tensor *tensors, const infer_llama *m, gguf_state *state, infer_error *err)
{
    const infer_gguf *g = &state->gguf;
    bool tied_copy = m->tied_head && infer_gguf_find_tensor(g, "output.weight");
    char name[80];

    for (size_t i = 0; i < s->tensor_count; i++) {
        const infer_gguf_tensor *t;
        gguf_name(i, m->layers, name, sizeof name);
        t = infer_gguf_find_tensor(g, name);
        if (!t)
            return infer_fail(err, INFER_ERROR_FORMAT, "%s: tensor %s is missing", g->path, name);
        if (t->rows != tensors[i].rows || t->cols != tensors[i].cols)
            return infer_fail(err, INFER_ERROR_FORMAT, "%s: tensor %s: %" PRIu64 " rows of %" PRIu64 ", expected %" PRIu64 " of %" PRIu64,
                              g->path, name, t->rows, t->cols, tensors[i].rows, tensors[i].cols);
        tensors[i].stored = stored_type(t->type);
        state->tensor[i] = t;
    }
    if (g->tensor_count == s->tensor_count + tied_copy)
        return INFER_OK;
    for (uint32_t j = 0; j < g->tensor_count; j++) {
        bool used = tied_copy && strcmp(g->tensors[j].name, "output.weight") == 0;
        for (size_t i = 0; i < s->tensor_count && !used; i++)
            used = state->tensor[i] == &g->tensors[j];
        if (!used)
            return infer_fail(err, INFER_ERROR_UNSUPPORTED, "%s: tensor %s has no place in a plain llama model", g->path,
                              g->tensors[j].name);
    }
    return INFER_OK;
}

static infer_status read_vocab(infer_source *s, infer_llama *m, const infer_gguf *g, const char *tokenizer, infer_error *err)
{
    infer_vocab_view view;
    void *vocab;
    uint64_t eot = INFER_VOCAB_NO_ID;
    infer_status status = tokenizer ? infer_vocab_import(&s->allocator, tokenizer, &vocab, &s->vocab_bytes, err)
                                    : infer_gguf_vocab_import(&s->allocator, g, &vocab, &s->vocab_bytes, err);
    if (status != INFER_OK)
        return status;
    s->vocab = vocab;
    if ((status = infer_vocab_parse(vocab, s->vocab_bytes, tokenizer ? tokenizer : g->path, &view, err)) != INFER_OK)
        return status;
    if (view.tokens != m->vocab)
        return infer_fail(err, INFER_ERROR_FORMAT, "%s: %" PRIu32 " tokens, expected %" PRIu64 " as in token_embd.weight",
                          tokenizer ? tokenizer : g->path, view.tokens, m->vocab);
    m->bos = view.bos;
    if (view.eos != INFER_VOCAB_NO_ID)
        m->eos[m->eos_count++] = view.eos;
    if ((status = infer_gguf_uint(g, "tokenizer.ggml.eot_token_id", false, UINT32_MAX, &eot, err)) != INFER_OK)
        return status;
    if (eot < view.tokens && eot != view.eos)
        m->eos[m->eos_count++] = (uint32_t)eot;
    return INFER_OK;
}

static void close_source(infer_source *s)
{
    gguf_state *state = s->state;
    infer_source_free_parts(s);
    if (state) {
        infer_gguf_close(&state->gguf);
        infer_free(&s->allocator, state->tensor);
        infer_free(&s->allocator, state);
        s->state = NULL;
    }
}

static infer_status open_source(const char *path, const char *tokenizer, infer_source *out, infer_error *err)
{
    infer_source s = {.importer = out->importer, .allocator = out->allocator};
    gguf_state *state = infer_alloc_zero(&s.allocator, sizeof *state);
    infer_source_tensor *tensors;
    infer_llama m;
    char *metadata;
    infer_status status;

    if (!state)
        return infer_fail_memory(err, sizeof *state, "importer");
    if ((status = infer_gguf_open(&s.allocator, path, &state->gguf, err)) != INFER_OK) {
        infer_free(&s.allocator, state);
        return status;
    }
    s.state = state;
    if ((status = read_model(&state->gguf, &m, err)) != INFER_OK)
        goto fail;
    m.tied_head = is_tied(&state->gguf);
    if ((status = infer_llama_tensors(&s.allocator, &m, &tensors, &s.tensor_count, err)) != INFER_OK)
        goto fail;
    s.tensors = tensors;
    state->tensor = infer_alloc_array(&s.allocator, s.tensor_count, sizeof *state->tensor);
    if (!state->tensor) {
        status = infer_fail_memory(err, s.tensor_count * sizeof *state->tensor, "importer");
        goto fail;
    }
    if ((status = match_tensors(&s, tensors, &m, state, err)) != INFER_OK ||
        (status = read_vocab(&s, &m, &state->gguf, tokenizer, err)) != INFER_OK ||
        (status = infer_llama_metadata(&s.allocator, &m, &metadata, err)) != INFER_OK)
        goto fail;
    s.metadata = metadata;
    *out = s;
    return INFER_OK;
fail:
    close_source(&s);
    return status;
}

/* The first of rows [row, row + n), checked to exist. */
static infer_status find_rows(const infer_source *s, size_t index, uint64_t row, uint64_t n, const infer_gguf_tensor **t, const uint8_t **p,
                              infer_error *err)
{
    const gguf_state *state = s->state;
    infer_status status = infer_source_check_rows(s, index, row, n, err);
    if (status != INFER_OK || (status = infer_map_check(&state->gguf.map, state->gguf.path, err)) != INFER_OK)
        return status;
    *t = state->tensor[index];
    *p = state->gguf.map.data + (*t)->offset + row * (*t)->row_bytes;
    return INFER_OK;
}

/* Q4_0 block: fp16 scale, then 16 bytes; the low nibbles are numbers 0..15, the high ones 16..31; 8 means 0. */
static int8_t q4_code(const uint8_t *block, int i)
{
    return (int8_t)((i < BLOCK / 2 ? block[2 + i] & 15 : block[2 + i - BLOCK / 2] >> 4) - 8);
}

/* Q8_0 block: fp16 scale, then 32 int8. */
static int8_t q8_code(const uint8_t *block, int i) { return (int8_t)block[2 + i]; }

static infer_status read_f32(const infer_source *s, size_t index, uint64_t row, uint64_t n, float *out, infer_error *err)
{
    const infer_gguf_tensor *t;
    const uint8_t *p;
    infer_status status = find_rows(s, index, row, n, &t, &p, err);
    uint64_t count;

    if (status != INFER_OK)
        return status;
    count = n * t->cols;
    switch (t->type) {
    case GGML_F16:
        for (uint64_t i = 0; i < count; i++)
            out[i] = half_to_float(get_u16(p + i * 2));
        break;
    case GGML_BF16:
        for (uint64_t i = 0; i < count; i++)
            out[i] = bf16_to_float(get_u16(p + i * 2));
        break;
    case GGML_Q8_0:
        for (uint64_t b = 0; b < count / BLOCK; b++, p += 34)
            for (int i = 0; i < BLOCK; i++)
                *out++ = half_to_float(get_u16(p)) * (float)q8_code(p, i);
        break;
    case GGML_Q4_0:
        for (uint64_t b = 0; b < count / BLOCK; b++, p += 18)
            for (int i = 0; i < BLOCK; i++)
                *out++ = half_to_float(get_u16(p)) * (float)q4_code(p, i);
        break;
    default: memcpy(out, p, (size_t)(count * sizeof(float)));
    }
    return INFER_OK;
}

static infer_status read_codes(const infer_source *s, size_t index, uint64_t row, uint64_t n, int8_t *codes, uint16_t *scales,
                               infer_error *err)
{
    const infer_gguf_tensor *t;
    const uint8_t *p;
    infer_status status = find_rows(s, index, row, n, &t, &p, err);
    bool q8;

    if (status != INFER_OK)
        return status;
    q8 = t->type == GGML_Q8_0;
    if (!q8 && t->type != GGML_Q4_0)
        return infer_fail(err, INFER_ERROR_ARGUMENT, "tensor %s is not stored as codes", t->name);
    for (uint64_t b = 0; b < n * t->cols / BLOCK; b++, p += q8 ? 34 : 18) {
        *scales++ = get_u16(p);
        for (int i = 0; i < BLOCK; i++)
            *codes++ = q8 ? q8_code(p, i) : q4_code(p, i);
    }
    return INFER_OK;
}

const infer_importer infer_importer_gguf = {
    .name = "gguf",
    .description = "GGUF versions 2 and 3, architecture llama (.gguf)",
    .probe = probe,
    .open = open_source,
    .read_f32 = read_f32,
    .read_codes = read_codes,
    .close = close_source,
};
