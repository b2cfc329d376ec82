/*
 * GGUF models. Keys, tensor names and what the families need are those of llama.cpp's converter: it permutes the rows of q and k of the architecture
 * "llama" so that rotary pairs are adjacent, adds Gemma's 1 to its norms, transposes GPT-2's matrices, and leaves Phi-3's fused.
 */
#include "import/arch.h"
#include "import/gguf_read.h"
#include "import/vocab/tokenizers.h"

#include "bytes.h"
#include "vocab.h"

#include <inttypes.h>
#include <math.h>

typedef struct part {
    const infer_gguf_tensor *tensor;
    uint64_t first; /* row of a matrix, number of a vector: ours is a part of a fused tensor */
    float scale;    /* of all its numbers */
} part;

typedef struct gguf_state {
    infer_gguf gguf;
    part *parts; /* of each of ours */
    infer_slot *slots;
} gguf_state;

static int probe(const char *path, const uint8_t *head, size_t bytes)
{
    (void)path;
    return bytes >= 4 && memcmp(head, "GGUF", 4) == 0;
}

/* ---- keys ---- */

/* Reads "ARCHITECTURE.key"; the first failure stays. */
typedef struct keys {
    const infer_gguf *g;
    const char *architecture;
    infer_error *err;
    infer_status status;
} keys;

static const char *full_key(const keys *k, const char *key, char out[96])
{
    snprintf(out, 96, "%s.%s", k->architecture, key);
    return out;
}

static void get_uint(keys *k, const char *key, bool required, uint64_t most, uint64_t *out)
{
    char full[96];
    if (k->status == INFER_OK)
        k->status = infer_gguf_uint(k->g, full_key(k, key, full), required, most, out, k->err);
}

static void get_float(keys *k, const char *key, bool required, double *out)
{
    char full[96];
    if (k->status == INFER_OK)
        k->status = infer_gguf_float(k->g, full_key(k, key, full), required, out, k->err);
}

/* A tensor of factors for the rotary frequencies, as Llama 3 and Phi-3 files have. */
static void read_factors(keys *k, infer_arch *m, const char *name)
{
    const infer_gguf_tensor *t = infer_gguf_find_tensor(k->g, name);

    if (!t || k->status != INFER_OK)
        return;
    if (t->numbers->id != INFER_GGUF_F32 || t->rows != 1 || t->cols != m->rope.dim / 2 || t->cols > INFER_IMPORT_MAX_FACTORS) {
        k->status = infer_fail(k->err, INFER_ERROR_FORMAT, "%s: tensor %s: expected %" PRIu64 " numbers of type F32", k->g->path, name, m->rope.dim / 2);
        return;
    }
    m->rope.scaling = INFER_IMPORT_ROPE_FACTORS;
    m->rope.factor_count = t->cols;
    for (uint64_t i = 0; i < t->cols; i++)
        m->rope.factors[i] = (double)get_f32(infer_gguf_data(k->g, t) + 4 * i);
}

static void read_rope(keys *k, infer_arch *m)
{
    const char *type = NULL;
    uint64_t bytes = 0, original = m->context;
    char full[96];

    m->rope.theta = 10000;
    m->rope.dim = m->head_dim;
    get_uint(k, "rope.dimension_count", false, 65536, &m->rope.dim);
    get_float(k, "rope.freq_base", false, &m->rope.theta);
    if (k->status == INFER_OK)
        k->status = infer_gguf_string(k->g, full_key(k, "rope.scaling.type", full), false, &type, &bytes, k->err);
    if (k->status != INFER_OK)
        return;
    if (!type)
        get_float(k, "rope.scale_linear", false, &m->rope.factor); /* of files before there was a type */
    if (!type && m->rope.factor != 0 && m->rope.factor != 1) {
        m->rope.scaling = INFER_IMPORT_ROPE_LINEAR;
    } else if (type && bytes == 6 && memcmp(type, "linear", 6) == 0) {
        m->rope.scaling = INFER_IMPORT_ROPE_LINEAR;
        get_float(k, "rope.scaling.factor", true, &m->rope.factor);
        if (m->rope.factor == 1)
            m->rope.scaling = INFER_IMPORT_ROPE_NONE;
    } else if (type && !(bytes == 4 && memcmp(type, "none", 4) == 0) && !(bytes == 8 && memcmp(type, "longrope", 8) == 0)) {
        k->status = infer_fail(k->err, INFER_ERROR_UNSUPPORTED, "%s: rotary scaling \"%.*s\", supported are none, linear and longrope", k->g->path,
                               bytes < 64 ? (int)bytes : 64, type);
    }
    read_factors(k, m, "rope_freqs.weight");
    if (!infer_gguf_find_tensor(k->g, "rope_factors_short.weight"))
        return;
    /* As in hf_config.c: the factors up to the original context, which becomes the model's. */
    read_factors(k, m, "rope_factors_short.weight");
    get_uint(k, "rope.scaling.original_context_length", false, INT32_MAX, &original);
    get_float(k, "rope.scaling.attn_factor", false, &m->rope.magnitude);
    m->context = original && original < m->context ? original : m->context;
}

/* ---- families ---- */

static void read_phi3(keys *k, infer_arch *m) { get_uint(k, "attention.sliding_window", false, UINT32_MAX, &m->window); }

static void read_qwen2(keys *k, infer_arch *m)
{
    (void)k;
    m->qkv_bias = true;
}

static void read_qwen3(keys *k, infer_arch *m)
{
    (void)k;
    m->qk_norm = true;
}

static void read_gemma(keys *k, infer_arch *m)
{
    (void)k;
    m->embed_scale = sqrt((double)m->dim);
    m->activation = "gelu_tanh";
}

/* Layers of Gemma 2 27B and Gemma 3 27B, which scale their queries by the width of a head in the residual stream; the key does not exist. */
#define GEMMA2_27B_LAYERS 46
#define GEMMA3_27B_LAYERS 62

static void read_gemma2(keys *k, infer_arch *m)
{
    read_gemma(k, m);
    m->post_norms = true;
    m->window = 4096;
    m->attention_softcap = 50;
    m->logit_softcap = 30;
    get_uint(k, "attention.sliding_window", false, UINT32_MAX, &m->window);
    get_float(k, "attn_logit_softcapping", false, &m->attention_softcap);
    get_float(k, "final_logit_softcapping", false, &m->logit_softcap);
    m->global_every = 2;
    if (m->layers == GEMMA2_27B_LAYERS && m->heads)
        m->attention_scale = 1 / sqrt((double)m->dim / (double)m->heads);
}

static void read_gemma3(keys *k, infer_arch *m)
{
    read_gemma(k, m);
    m->post_norms = m->qk_norm = true;
    m->window = 1024;
    get_uint(k, "attention.sliding_window", false, UINT32_MAX, &m->window);
    m->global_every = 6;
    m->rope.local_theta = 10000;
    if (m->layers == GEMMA3_27B_LAYERS && m->heads)
        m->attention_scale = 1 / sqrt((double)m->dim / (double)m->heads);
}

static void read_gpt2(keys *k, infer_arch *m)
{
    (void)k;
    m->biased = true;
    m->gated = false;
    m->activation = "gelu_tanh";
}

static void read_bitnet(keys *k, infer_arch *m)
{
    (void)k;
    m->sub_norms = true;
}

typedef struct family {
    const char *name;         /* general.architecture */
    const char *architecture; /* ours */
    const infer_name_style *names;
    bool rope, halves;
    void (*read)(keys *k, infer_arch *m); /* what only this family has */
} family;

static const family families[] = {
    {"llama", "llama", &infer_names_gguf, true, false, NULL},
    {"qwen2", "llama", &infer_names_gguf, true, true, read_qwen2},
    {"qwen3", "llama", &infer_names_gguf, true, true, read_qwen3},
    {"phi3", "llama", &infer_names_gguf_phi3, true, true, read_phi3},
    {"gemma", "gemma", &infer_names_gguf, true, true, read_gemma},
    {"gemma2", "gemma", &infer_names_gguf_gemma2, true, true, read_gemma2},
    {"gemma3", "gemma", &infer_names_gguf_gemma2, true, true, read_gemma3},
    {"gpt2", "gpt2", &infer_names_gguf_gpt2, false, false, read_gpt2},
    {"bitnet", "bitnet", &infer_names_gguf, true, true, read_bitnet},
};

static infer_status find_family(const infer_gguf *g, const family **out, infer_error *err)
{
    const char *name;
    char known[128] = "";
    uint64_t bytes;
    infer_status s = infer_gguf_string(g, "general.architecture", true, &name, &bytes, err);

    if (s != INFER_OK)
        return s;
    for (size_t i = 0; i < sizeof families / sizeof families[0]; i++) {
        size_t n = strlen(known);
        if (bytes == strlen(families[i].name) && memcmp(name, families[i].name, bytes) == 0) {
            *out = &families[i];
            return INFER_OK;
        }
        snprintf(known + n, sizeof known - n, "%s%s", n ? ", " : "", families[i].name);
    }
    return infer_fail(err, INFER_ERROR_UNSUPPORTED, "%s: architecture \"%.*s\", supported are %s", g->path, bytes < 64 ? (int)bytes : 64, name, known);
}

static infer_status read_model(const infer_gguf *g, const family *f, infer_arch *m, infer_error *err)
{
    const infer_gguf_tensor *embed = infer_gguf_find_tensor(g, "token_embd.weight");
    keys k = {g, f->name, err, INFER_OK};
    uint64_t name_bytes, template_bytes, value_dim, experts = 0;

    if (!embed)
        return infer_fail(err, INFER_ERROR_FORMAT, "%s: tensor token_embd.weight is missing", g->path);
    *m = (infer_arch){.format = "gguf", .path = g->path, .architecture = f->architecture, .vocab = embed->rows, .gated = true};
    m->rope.halves = f->halves;
    if ((k.status = infer_gguf_string(g, "general.name", false, &m->name, &name_bytes, err)) != INFER_OK ||
        (k.status = infer_gguf_string(g, "tokenizer.chat_template", false, &m->chat_template, &template_bytes, err)) != INFER_OK)
        return k.status;
    m->name_bytes = (size_t)name_bytes;
    m->chat_template_bytes = (size_t)template_bytes;
    get_uint(&k, "embedding_length", true, INFER_FILE_MAX_DIM, &m->dim);
    get_uint(&k, "block_count", true, INFER_IMPORT_MAX_LAYERS, &m->layers);
    get_uint(&k, "attention.head_count", true, 65536, &m->heads);
    m->kv_heads = m->heads;
    m->head_dim = m->heads ? m->dim / m->heads : 0;
    get_uint(&k, "attention.head_count_kv", false, 65536, &m->kv_heads);
    get_uint(&k, "attention.key_length", false, 65536, &m->head_dim);
    value_dim = m->head_dim;
    get_uint(&k, "attention.value_length", false, 65536, &value_dim);
    get_uint(&k, "feed_forward_length", true, INFER_FILE_MAX_DIM, &m->ffn_dim);
    get_uint(&k, "context_length", true, INT32_MAX, &m->context);
    get_uint(&k, "expert_count", false, UINT32_MAX, &experts);
    get_float(&k, f->rope ? "attention.layer_norm_rms_epsilon" : "attention.layer_norm_epsilon", true, &m->norm_eps);
    if (f->rope)
        read_rope(&k, m);
    if (f->read)
        f->read(&k, m);
    if (k.status == INFER_OK && value_dim != m->head_dim)
        return infer_fail(err, INFER_ERROR_UNSUPPORTED, "%s: values of %" PRIu64 " numbers a head beside keys of %" PRIu64, g->path, value_dim, m->head_dim);
    if (k.status == INFER_OK && experts)
        return infer_fail(err, INFER_ERROR_UNSUPPORTED, "%s: mixtures of experts are not supported (%s.expert_count is %" PRIu64 ")", g->path, f->name,
                          experts);
    infer_arch_trim_window(m);
    return k.status == INFER_OK ? infer_arch_check(m, err) : k.status;
}

/* A head that repeats the embedding is stored once. */
static bool is_tied(const infer_gguf *g)
{
    const infer_gguf_tensor *embed = infer_gguf_find_tensor(g, "token_embd.weight"), *head = infer_gguf_find_tensor(g, "output.weight");
    if (!embed || !head)
        return true;
    return embed->numbers == head->numbers && embed->rows == head->rows && embed->cols == head->cols &&
           memcmp(infer_gguf_data(g, embed), infer_gguf_data(g, head), (size_t)(embed->rows * embed->row_bytes)) == 0;
}

/* Tensors that the model was read from, or that repeat others. */
static bool is_surplus(const infer_arch *m, const char *name)
{
    return strcmp(name, "rope_freqs.weight") == 0 || strcmp(name, "rope_factors_short.weight") == 0 || strcmp(name, "rope_factors_long.weight") == 0 ||
           (m->tied_head && strcmp(name, "output.weight") == 0);
}

/* The scale of all numbers of a layer's matrix `name`, NAME.weight, in NAME.scale: BitNet files keep -1, 0 and 1 apart from it. 1 where there is none. */
static infer_status find_scale(const infer_gguf *g, const char *name, bool *used, float *out, infer_error *err)
{
    char scale_name[sizeof(infer_place)];
    const infer_gguf_tensor *t;
    size_t n = strlen(name) - strlen("weight");

    snprintf(scale_name, sizeof scale_name, "%.*sscale", (int)n, name);
    *out = 1;
    if (!(t = infer_gguf_find_tensor(g, scale_name)))
        return INFER_OK;
    if (t->numbers->id != INFER_GGUF_F32 || t->rows != 1 || t->cols != 1)
        return infer_fail(err, INFER_ERROR_FORMAT, "%s: tensor %s: expected one number of type F32", g->path, scale_name);
    *out = get_f32(infer_gguf_data(g, t));
    if (!(fabsf(*out) >= 1e-30f && fabsf(*out) <= 1e30f))
        return infer_fail(err, INFER_ERROR_FORMAT, "%s: tensor %s: scale %g of a matrix, expected 1e-30 to 1e30", g->path, scale_name, (double)*out);
    used[t - g->tensors] = true;
    return INFER_OK;
}

/* Whether each row holds only -s, 0 and s. */
static bool is_ternary(const infer_gguf *g, const infer_gguf_tensor *t)
{
    const uint8_t *p = infer_gguf_data(g, t);
    float x[INFER_GGUF_MOST_NUMBERS];

    for (uint64_t r = 0; r < t->rows; r++) {
        float scale = 0;
        for (uint64_t c = 0; c < t->cols; c += t->numbers->numbers, p += t->numbers->bytes) {
            t->numbers->read(p, x);
            for (uint32_t i = 0; i < t->numbers->numbers; i++) {
                scale = scale == 0 ? fabsf(x[i]) : scale;
                if (x[i] != 0 && fabsf(x[i]) != scale)
                    return false;
            }
        }
    }
    return true;
}

static infer_qtype stored_type(const infer_gguf *g, const infer_source_tensor *ours, infer_slot slot, const part *p)
{
    const infer_qtype type = ours->matrix ? p->tensor->numbers->stored : INFER_QTYPE_F32;
    if (type == INFER_QTYPE_T2R)
        return infer_role_in_layer(slot.role) && is_ternary(g, p->tensor) ? INFER_QTYPE_T2R : INFER_QTYPE_F32;
    return p->scale == 1 ? type : INFER_QTYPE_F32;
}

/* Every tensor of ours is there in the right shape, and nothing else is: a bias or an expert left out would give wrong text. */
static infer_status match_tensors(infer_source *s, infer_source_tensor *tensors, const family *f, const infer_arch *m, gguf_state *state, infer_error *err)
{
    const infer_gguf *g = &state->gguf;
    bool *used = infer_alloc_array(&s->allocator, g->tensor_count, sizeof *used);
    infer_status status = used ? INFER_OK : infer_fail_memory(err, g->tensor_count, "importer");

    for (size_t i = 0; i < s->tensor_count && status == INFER_OK; i++) {
        infer_source_tensor *ours = &tensors[i];
        const infer_gguf_tensor *t;
        infer_place place;
        uint64_t rows, cols;
        if (!infer_name_place(f->names, m, state->slots[i], ours, &place)) {
            status = infer_fail(err, INFER_ERROR_UNSUPPORTED, "%s: models of this architecture have no tensor for %s", g->path, ours->name);
            break;
        }
        t = infer_gguf_find_tensor(g, place.name);
        rows = ours->matrix ? place.rows : 1;
        cols = ours->matrix ? ours->cols : place.rows;
        if (!t)
            status = infer_fail(err, INFER_ERROR_FORMAT, "%s: tensor %s is missing", g->path, place.name);
        else if (t->rows != rows || t->cols != cols)
            status = infer_fail(err, INFER_ERROR_FORMAT, "%s: tensor %s: %" PRIu64 " rows of %" PRIu64 ", expected %" PRIu64 " of %" PRIu64, g->path,
                                place.name, t->rows, t->cols, rows, cols);
        else if (!ours->matrix && (place.first_row % t->numbers->numbers != 0 || ours->cols % t->numbers->numbers != 0))
            status = infer_fail(err, INFER_ERROR_UNSUPPORTED, "%s: tensor %s: parts of %" PRIu64 " numbers, expected whole blocks of %s", g->path,
                                place.name, ours->cols, t->numbers->name);
        state->parts[i] = (part){t, place.first_row, 1};
        if (status == INFER_OK && ours->matrix && infer_role_in_layer(state->slots[i].role))
            status = find_scale(g, place.name, used, &state->parts[i].scale, err);
        if (status == INFER_OK && (status = infer_gguf_check(g, t, err)) == INFER_OK)
            ours->stored = stored_type(g, ours, state->slots[i], &state->parts[i]);
        if (status != INFER_OK)
            break;
        used[t - g->tensors] = true;
    }
    for (uint32_t j = 0; j < g->tensor_count && status == INFER_OK; j++)
        if (!used[j] && !is_surplus(m, g->tensors[j].name))
            status = infer_fail(err, INFER_ERROR_UNSUPPORTED, "%s: tensor %s has no place in a plain %s model", g->path, g->tensors[j].name, f->name);
    infer_free(&s->allocator, used);
    return status;
}

static infer_status read_vocab(infer_source *s, infer_arch *m, const infer_gguf *g, const char *tokenizer, infer_error *err)
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
    if (view.tokens > m->vocab) /* fewer is usual: embeddings are padded */
        return infer_fail(err, INFER_ERROR_FORMAT, "%s: %" PRIu32 " tokens, expected at most %" PRIu64 " as in token_embd.weight",
                          tokenizer ? tokenizer : g->path, view.tokens, m->vocab);
    m->bos = view.bos;
    infer_arch_add_eos(m, view.eos);
    if ((status = infer_gguf_uint(g, "tokenizer.ggml.eot_token_id", false, UINT32_MAX, &eot, err)) != INFER_OK)
        return status;
    infer_arch_add_eos(m, eot);
    return INFER_OK;
}

static void close_source(infer_source *s)
{
    gguf_state *state = s->state;
    infer_source_free_parts(s);
    if (state) {
        infer_gguf_close(&state->gguf);
        infer_free(&s->allocator, state->parts);
        infer_free(&s->allocator, state->slots);
        infer_free(&s->allocator, state);
        s->state = NULL;
    }
}

static infer_status open_source(const char *path, const char *tokenizer, infer_source *out, infer_error *err)
{
    infer_source s = {.importer = out->importer, .allocator = out->allocator};
    gguf_state *state = infer_alloc_zero(&s.allocator, sizeof *state);
    infer_source_tensor *tensors;
    const family *f = NULL;
    infer_arch m;
    char *metadata;
    infer_status status;

    if (!state)
        return infer_fail_memory(err, sizeof *state, "importer");
    if ((status = infer_gguf_open(&s.allocator, path, &state->gguf, err)) != INFER_OK) {
        infer_free(&s.allocator, state);
        return status;
    }
    s.state = state;
    if ((status = find_family(&state->gguf, &f, err)) != INFER_OK || (status = read_model(&state->gguf, f, &m, err)) != INFER_OK)
        goto fail;
    m.tied_head = is_tied(&state->gguf);
    if ((status = infer_arch_tensors(&s.allocator, &m, &tensors, &state->slots, &s.tensor_count, err)) != INFER_OK)
        goto fail;
    s.tensors = tensors;
    state->parts = infer_alloc_array(&s.allocator, s.tensor_count, sizeof *state->parts);
    if (!state->parts) {
        status = infer_fail_memory(err, s.tensor_count * sizeof *state->parts, "importer");
        goto fail;
    }
    if ((status = match_tensors(&s, tensors, f, &m, state, err)) != INFER_OK ||
        (status = read_vocab(&s, &m, &state->gguf, tokenizer, err)) != INFER_OK ||
        (status = infer_arch_metadata(&s.allocator, &m, &metadata, err)) != INFER_OK)
        goto fail;
    s.metadata = metadata;
    *out = s;
    return INFER_OK;
fail:
    close_source(&s);
    return status;
}

/* The first block of rows [row, row + n), checked to exist. Ours may be some rows of a fused matrix, some numbers of a fused vector. */
static infer_status find_rows(const infer_source *s, size_t index, uint64_t row, uint64_t n, const infer_gguf_tensor **t, const uint8_t **p,
                              infer_error *err)
{
    const gguf_state *state = s->state;
    infer_status status = infer_source_check_rows(s, index, row, n, err);
    if (status != INFER_OK || (status = infer_gguf_check(&state->gguf, state->parts[index].tensor, err)) != INFER_OK)
        return status;
    *t = state->parts[index].tensor;
    *p = infer_gguf_data(&state->gguf, *t);
    *p += s->tensors[index].matrix ? (row + state->parts[index].first) * (*t)->row_bytes
                                   : state->parts[index].first / (*t)->numbers->numbers * (*t)->numbers->bytes;
    return INFER_OK;
}

static infer_status read_f32(const infer_source *s, size_t index, uint64_t row, uint64_t n, float *out, infer_error *err)
{
    const infer_gguf_tensor *t;
    const uint8_t *p;
    infer_status status = find_rows(s, index, row, n, &t, &p, err);
    float scale;

    if (status != INFER_OK)
        return status;
    scale = ((const gguf_state *)s->state)->parts[index].scale;
    for (uint64_t i = 0, end = n * s->tensors[index].cols; i < end; i += t->numbers->numbers, p += t->numbers->bytes)
        t->numbers->read(p, out + i);
    if (scale != 1)
        for (uint64_t i = 0; i < n * s->tensors[index].cols; i++)
            out[i] *= scale;
    return INFER_OK;
}

static infer_status read_codes(const infer_source *s, size_t index, uint64_t row, uint64_t n, int8_t *codes, uint16_t *scales,
                               infer_error *err)
{
    const infer_gguf_tensor *t;
    const uint8_t *p;
    infer_status status = find_rows(s, index, row, n, &t, &p, err);

    if (status != INFER_OK)
        return status;
    if (!t->numbers->read_codes || s->tensors[index].stored == INFER_QTYPE_F32)
        return infer_fail(err, INFER_ERROR_ARGUMENT, "tensor %s is not stored as codes", t->name);
    for (uint64_t i = 0; i < n * t->cols; i += t->numbers->numbers, p += t->numbers->bytes)
        *scales++ = t->numbers->read_codes(p, codes + i);
    return INFER_OK;
}

const infer_importer infer_importer_gguf = {
    .name = "gguf",
    .description = "GGUF versions 2 and 3 (.gguf, whole or any part of a split one)",
    .probe = probe,
    .open = open_source,
    .read_f32 = read_f32,
    .read_codes = read_codes,
    .close = close_source,
};
