#include "import/arch.h"

#include "utf8.h"
#include "vocab.h"

#include <cjson/cJSON.h>
#include <inttypes.h>
#include <math.h>
#include <string.h>

static infer_status check_range(const infer_arch *m, const char *what, uint64_t found, uint64_t least, uint64_t most, infer_error *err)
{
    if (found >= least && found <= most)
        return INFER_OK;
    return infer_fail(err, INFER_ERROR_FORMAT, "%s: %s: found %" PRIu64 ", expected %" PRIu64 " to %" PRIu64, m->path, what, found, least, most);
}

static infer_status check_rope(const infer_arch *m, infer_error *err)
{
    infer_status s;

    if (m->rope.dim == 0)
        return INFER_OK;
    if ((s = check_range(m, "rotary dimension", m->rope.dim, 2, m->head_dim, err)) != INFER_OK)
        return s;
    if (m->rope.dim % 2 != 0)
        return infer_fail(err, INFER_ERROR_FORMAT, "%s: rotary dimension: found %" PRIu64 ", expected an even number", m->path, m->rope.dim);
    if (!(m->rope.theta >= 1 && m->rope.theta <= 1e12))
        return infer_fail(err, INFER_ERROR_FORMAT, "%s: rotary base: found %g, expected 1 to 1e12", m->path, m->rope.theta);
    if (m->rope.scaling != INFER_IMPORT_ROPE_NONE && m->rope.scaling != INFER_IMPORT_ROPE_FACTORS && !(m->rope.factor >= 1e-3 && m->rope.factor <= 1e6))
        return infer_fail(err, INFER_ERROR_FORMAT, "%s: rotary scaling factor: found %g, expected 0.001 to 1e6", m->path, m->rope.factor);
    if (m->rope.scaling == INFER_IMPORT_ROPE_LLAMA3 && !(m->rope.high_freq_factor > m->rope.low_freq_factor && m->rope.original_context))
        return infer_fail(err, INFER_ERROR_FORMAT, "%s: rotary scaling: found factors of %g for low and %g for high frequencies and a context of %" PRIu64
                          ", expected the second factor above the first, and a context", m->path, m->rope.low_freq_factor, m->rope.high_freq_factor,
                          m->rope.original_context);
    if (m->rope.scaling != INFER_IMPORT_ROPE_FACTORS)
        return INFER_OK;
    if (m->rope.factor_count != m->rope.dim / 2)
        return infer_fail(err, INFER_ERROR_FORMAT, "%s: rotary scaling: %" PRIu64 " factors, expected %" PRIu64, m->path, m->rope.factor_count,
                          m->rope.dim / 2);
    for (uint64_t i = 0; i < m->rope.factor_count; i++)
        if (!(m->rope.factors[i] >= 1e-3 && m->rope.factors[i] <= 1e6))
            return infer_fail(err, INFER_ERROR_FORMAT, "%s: rotary scaling: factor %" PRIu64 ": found %g, expected 0.001 to 1e6", m->path, i,
                              m->rope.factors[i]);
    return INFER_OK;
}

/* Numbers that a model may lack. */
static infer_status check_features(const infer_arch *m, infer_error *err)
{
    const struct {
        const char *what;
        double value, least, most;
    } ranges[] = {
        {"attention scale", m->attention_scale, 1e-6, 1e6},    {"soft cap of attention", m->attention_softcap, 1e-3, 1e6},
        {"soft cap of the logits", m->logit_softcap, 1e-3, 1e6}, {"scale of the embedding", m->embed_scale, 1e-6, 1e6},
        {"rotary base of windowed layers", m->rope.local_theta, 1, 1e12}, {"rotary magnitude", m->rope.magnitude, 1e-3, 1e3},
    };
    for (size_t i = 0; i < sizeof ranges / sizeof ranges[0]; i++)
        if (ranges[i].value != 0 && !(ranges[i].value >= ranges[i].least && ranges[i].value <= ranges[i].most))
            return infer_fail(err, INFER_ERROR_FORMAT, "%s: %s: found %g, expected %g to %g", m->path, ranges[i].what, ranges[i].value,
                              ranges[i].least, ranges[i].most);
    return INFER_OK;
}

infer_status infer_arch_check(const infer_arch *m, infer_error *err)
{
    const struct {
        const char *what;
        uint64_t value, least, most;
    } ranges[] = {
        {"model dimension", m->dim, 1, INFER_FILE_MAX_DIM},
        {"layers", m->layers, 1, INFER_IMPORT_MAX_LAYERS},
        {"attention heads", m->heads, 1, 65536},
        {"KV heads", m->kv_heads, 1, m->heads},
        {"head dimension", m->head_dim, 1, 65536},
        {"query width (heads x head dimension)", m->heads * m->head_dim, 1, INFER_FILE_MAX_DIM}, /* the lines above keep it from overflowing */
        {"feed-forward dimension", m->ffn_dim, 1, INFER_FILE_MAX_DIM},
        {"vocabulary size", m->vocab, 1, INFER_VOCAB_MAX_TOKENS},
        {"context length", m->context, 1, INT32_MAX},
    };
    infer_status s;
    for (size_t i = 0; i < sizeof ranges / sizeof ranges[0]; i++)
        if ((s = check_range(m, ranges[i].what, ranges[i].value, ranges[i].least, ranges[i].most, err)) != INFER_OK)
            return s;
    if (m->heads % m->kv_heads != 0)
        return infer_fail(err, INFER_ERROR_FORMAT, "%s: %" PRIu64 " attention heads are not a multiple of %" PRIu64 " KV heads", m->path,
                          m->heads, m->kv_heads);
    if (!(m->norm_eps >= 0 && m->norm_eps <= 1))
        return infer_fail(err, INFER_ERROR_FORMAT, "%s: norm epsilon: found %g, expected 0 to 1", m->path, m->norm_eps);
    return (s = check_features(m, err)) == INFER_OK ? check_rope(m, err) : s;
}

/* Rows and columns of a role, whether it is a matrix, and whether the model has it. */
typedef struct role_shape {
    const char *name;
    uint64_t rows, cols;
    bool matrix, there;
} role_shape;

static role_shape shape_of(const infer_arch *m, infer_role role)
{
    const uint64_t q = m->heads * m->head_dim, kv = m->kv_heads * m->head_dim, dim = m->dim, ffn = m->ffn_dim;
    const bool qkv_bias = m->qkv_bias || m->biased;

    switch (role) {
    case INFER_ROLE_TOK_EMBED: return (role_shape){"tok_embed", m->vocab, dim, true, true};
    case INFER_ROLE_POS_EMBED: return (role_shape){"pos_embed", m->context, dim, true, m->biased};
    case INFER_ROLE_ATTN_NORM: return (role_shape){"attn_norm", 1, dim, false, true};
    case INFER_ROLE_ATTN_NORM_BIAS: return (role_shape){"attn_norm_bias", 1, dim, false, m->biased};
    case INFER_ROLE_Q: return (role_shape){"q", q, dim, true, true};
    case INFER_ROLE_Q_BIAS: return (role_shape){"q_bias", 1, q, false, qkv_bias};
    case INFER_ROLE_Q_NORM: return (role_shape){"q_norm", 1, m->head_dim, false, m->qk_norm};
    case INFER_ROLE_K: return (role_shape){"k", kv, dim, true, true};
    case INFER_ROLE_K_BIAS: return (role_shape){"k_bias", 1, kv, false, qkv_bias};
    case INFER_ROLE_K_NORM: return (role_shape){"k_norm", 1, m->head_dim, false, m->qk_norm};
    case INFER_ROLE_V: return (role_shape){"v", kv, dim, true, true};
    case INFER_ROLE_V_BIAS: return (role_shape){"v_bias", 1, kv, false, qkv_bias};
    case INFER_ROLE_ATTN_SUB_NORM: return (role_shape){"attn_sub_norm", 1, q, false, m->sub_norms};
    case INFER_ROLE_O: return (role_shape){"o", dim, q, true, true};
    case INFER_ROLE_O_BIAS: return (role_shape){"o_bias", 1, dim, false, m->biased};
    case INFER_ROLE_ATTN_POST_NORM: return (role_shape){"attn_post_norm", 1, dim, false, m->post_norms};
    case INFER_ROLE_FFN_NORM: return (role_shape){"ffn_norm", 1, dim, false, true};
    case INFER_ROLE_FFN_NORM_BIAS: return (role_shape){"ffn_norm_bias", 1, dim, false, m->biased};
    case INFER_ROLE_GATE: return (role_shape){"gate", ffn, dim, true, m->gated};
    case INFER_ROLE_UP: return (role_shape){"up", ffn, dim, true, true};
    case INFER_ROLE_UP_BIAS: return (role_shape){"up_bias", 1, ffn, false, m->biased};
    case INFER_ROLE_FFN_SUB_NORM: return (role_shape){"ffn_sub_norm", 1, ffn, false, m->sub_norms};
    case INFER_ROLE_DOWN: return (role_shape){"down", dim, ffn, true, true};
    case INFER_ROLE_DOWN_BIAS: return (role_shape){"down_bias", 1, dim, false, m->biased};
    case INFER_ROLE_FFN_POST_NORM: return (role_shape){"ffn_post_norm", 1, dim, false, m->post_norms};
    case INFER_ROLE_OUT_NORM: return (role_shape){"out_norm", 1, dim, false, true};
    case INFER_ROLE_OUT_NORM_BIAS: return (role_shape){"out_norm_bias", 1, dim, false, m->biased};
    case INFER_ROLE_HEAD: return (role_shape){"head", m->vocab, dim, true, !m->tied_head};
    case INFER_ROLE_COUNT: break;
    }
    return (role_shape){0};
}

static void add_tensor(const infer_arch *m, infer_slot slot, infer_source_tensor *tensors, infer_slot *slots, size_t *count)
{
    role_shape shape = shape_of(m, slot.role);
    infer_source_tensor *t = tensors + *count;

    if (!shape.there)
        return;
    if (infer_role_in_layer(slot.role))
        snprintf(t->name, sizeof t->name, "layers.%" PRIu32 ".%s", slot.layer, shape.name);
    else
        snprintf(t->name, sizeof t->name, "%s", shape.name);
    t->rows = shape.rows;
    t->cols = shape.cols;
    t->matrix = shape.matrix;
    t->stored = INFER_QTYPE_F32;
    slots[(*count)++] = slot;
}

infer_status infer_arch_tensors(const infer_allocator *a, const infer_arch *m, infer_source_tensor **out, infer_slot **slots, size_t *count,
                                infer_error *err)
{
    size_t most = INFER_ROLE_COUNT * ((size_t)m->layers + 1), n = 0;
    infer_source_tensor *tensors = infer_alloc_array(a, most, sizeof *tensors);
    infer_slot *found = infer_alloc_array(a, most, sizeof *found);

    if (!tensors || !found) {
        infer_free(a, tensors);
        infer_free(a, found);
        return infer_fail_memory(err, most * (sizeof *tensors + sizeof *found), "tensor list");
    }
    for (infer_role r = 0; r < INFER_ROLE_FIRST_OF_LAYER; r++)
        add_tensor(m, (infer_slot){r, 0}, tensors, found, &n);
    for (uint32_t l = 0; l < m->layers; l++)
        for (infer_role r = INFER_ROLE_FIRST_OF_LAYER; r <= INFER_ROLE_LAST_OF_LAYER; r++)
            add_tensor(m, (infer_slot){r, l}, tensors, found, &n);
    for (infer_role r = INFER_ROLE_LAST_OF_LAYER + 1; r < INFER_ROLE_COUNT; r++)
        add_tensor(m, (infer_slot){r, 0}, tensors, found, &n);
    *out = tensors;
    *slots = found;
    *count = n;
    return INFER_OK;
}

void infer_arch_trim_window(infer_arch *m)
{
    if (m->window < m->context)
        return;
    m->window = m->rope.local_theta != 0 ? m->context : 0;
    m->global_every = m->window ? m->global_every : 0;
}

void infer_arch_add_eos(infer_arch *m, uint64_t id)
{
    if (id >= m->vocab || m->eos_count == INFER_IMPORT_MAX_EOS)
        return;
    for (size_t i = 0; i < m->eos_count; i++)
        if (m->eos[i] == id)
            return;
    m->eos[m->eos_count++] = (uint32_t)id;
}

/* ---- metadata ---- */

/* At most 255 bytes of s as a valid UTF-8 string; malformed bytes become '?'. */
static void clean_text(char out[256], const char *s, size_t n)
{
    size_t at = 0;
    for (size_t i = 0, bytes; i < n; i += bytes) {
        size_t good = s[i] == '\0' ? 0 : utf8_character((const uint8_t *)s + i, n - i);
        bytes = good ? good : 1;
        if (at + bytes > 255)
            break;
        memcpy(out + at, good ? s + i : "?", bytes);
        at += bytes;
    }
    out[at] = '\0';
}

/* JSON that grows; `ok` is false once cJSON has had no memory. It uses the C library's: see reader.c. */
typedef struct json {
    cJSON *object;
    bool ok;
} json;

static json child(json *parent, const char *key)
{
    json c = {parent->ok ? cJSON_AddObjectToObject(parent->object, key) : NULL, false};
    c.ok = c.object != NULL;
    parent->ok = c.ok;
    return c;
}

static void add_number(json *j, const char *key, double value) { j->ok = j->ok && cJSON_AddNumberToObject(j->object, key, value); }
static void add_string(json *j, const char *key, const char *value) { j->ok = j->ok && cJSON_AddStringToObject(j->object, key, value); }

/* Features that a model lacks are left out. */
static void add_feature(json *j, const char *key, double value)
{
    if (value != 0)
        add_number(j, key, value);
}

static void add_flag(json *j, const char *key, bool value)
{
    if (value)
        j->ok = j->ok && cJSON_AddTrueToObject(j->object, key);
}

static void add_list(json *j, const char *key, const double *values, size_t count)
{
    cJSON *list = j->ok ? cJSON_AddArrayToObject(j->object, key) : NULL;
    j->ok = list != NULL;
    for (size_t i = 0; j->ok && i < count; i++) {
        cJSON *number = cJSON_CreateNumber(values[i]);
        j->ok = number && cJSON_AddItemToArray(list, number);
    }
}

static void add_rope(json *j, const infer_arch *m)
{
    static const char *const names[] = {"none", "linear", "llama3", "factors"};
    json rope = child(j, "rope"), scaling;

    add_number(&rope, "theta", m->rope.theta);
    add_feature(&rope, "local_theta", m->rope.local_theta);
    add_number(&rope, "dim", (double)m->rope.dim);
    add_string(&rope, "pairs", m->rope.halves ? "halves" : "adjacent");
    scaling = child(&rope, "scaling");
    add_string(&scaling, "type", names[m->rope.scaling]);
    if (m->rope.scaling == INFER_IMPORT_ROPE_LINEAR || m->rope.scaling == INFER_IMPORT_ROPE_LLAMA3)
        add_number(&scaling, "factor", m->rope.factor);
    if (m->rope.scaling == INFER_IMPORT_ROPE_LLAMA3) {
        add_number(&scaling, "low_freq_factor", m->rope.low_freq_factor);
        add_number(&scaling, "high_freq_factor", m->rope.high_freq_factor);
        add_number(&scaling, "original_context", (double)m->rope.original_context);
    }
    if (m->rope.scaling == INFER_IMPORT_ROPE_FACTORS) {
        add_list(&scaling, "factors", m->rope.factors, (size_t)m->rope.factor_count);
        add_feature(&scaling, "magnitude", m->rope.magnitude);
    }
    j->ok = j->ok && rope.ok && scaling.ok;
}

/* The template as a JSON string, when it is text and not too long. */
static void add_template(json *j, const infer_arch *m, const infer_allocator *a)
{
    const uint8_t *s = (const uint8_t *)m->chat_template;
    char *copy;

    if (!s || m->chat_template_bytes > INFER_IMPORT_MAX_TEMPLATE)
        return;
    for (size_t i = 0, n; i < m->chat_template_bytes; i += n) {
        n = s[i] ? utf8_character(s + i, m->chat_template_bytes - i) : 0;
        if (n == 0)
            return;
    }
    copy = infer_alloc(a, m->chat_template_bytes + 1);
    j->ok = j->ok && copy;
    if (copy) {
        memcpy(copy, s, m->chat_template_bytes);
        copy[m->chat_template_bytes] = '\0';
        add_string(j, "chat_template", copy);
        infer_free(a, copy);
    }
}

/* False when there was no memory. */
static bool fill_metadata(cJSON *object, const infer_arch *m, const infer_allocator *a)
{
    const struct {
        const char *key;
        uint64_t value;
    } numbers[] = {
        {"dim", m->dim},           {"layers", m->layers},   {"heads", m->heads}, {"kv_heads", m->kv_heads},
        {"head_dim", m->head_dim}, {"ffn_dim", m->ffn_dim}, {"vocab", m->vocab}, {"context", m->context},
    };
    const char *slash = strrchr(m->path, '/'), *file = slash && slash[1] ? slash + 1 : m->path;
    char name[256], file_name[256];
    double eos[INFER_IMPORT_MAX_EOS];
    json j = {object, true}, part;

    clean_text(name, m->name ? m->name : file, m->name ? m->name_bytes : strlen(file));
    clean_text(file_name, file, strlen(file));
    add_string(&j, "architecture", m->architecture);
    add_string(&j, "name", name);
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++)
        add_number(&j, numbers[i].key, (double)numbers[i].value);
    add_number(&j, "norm_eps", m->norm_eps);
    if (m->activation)
        add_string(&j, "activation", m->activation);
    add_flag(&j, "qkv_bias", m->qkv_bias);
    add_flag(&j, "qk_norm", m->qk_norm);
    add_flag(&j, "post_norms", m->post_norms);
    add_flag(&j, "sub_norms", m->sub_norms);
    if (m->window) {
        part = child(&j, "window");
        add_number(&part, "size", (double)m->window);
        add_feature(&part, "global_every", (double)m->global_every);
        j.ok = j.ok && part.ok;
    }
    add_feature(&j, "attention_scale", m->attention_scale);
    add_feature(&j, "attention_softcap", m->attention_softcap);
    add_feature(&j, "logit_softcap", m->logit_softcap);
    add_feature(&j, "embed_scale", m->embed_scale);
    if (m->rope.dim)
        add_rope(&j, m);
    if (m->bos != INFER_VOCAB_NO_ID)
        add_number(&j, "bos", m->bos);
    for (size_t i = 0; i < m->eos_count; i++)
        eos[i] = m->eos[i];
    add_list(&j, "eos", eos, m->eos_count);
    j.ok = j.ok && cJSON_AddBoolToObject(object, "tied_head", m->tied_head);
    add_template(&j, m, a);
    part = child(&j, "source");
    add_string(&part, "format", m->format);
    add_string(&part, "file", file_name);
    return j.ok && part.ok;
}

infer_status infer_arch_metadata(const infer_allocator *a, const infer_arch *m, char **out, infer_error *err)
{
    cJSON *object = cJSON_CreateObject();
    char *text = object && fill_metadata(object, m, a) ? cJSON_PrintUnformatted(object) : NULL;
    size_t bytes = text ? strlen(text) + 1 : 0;
    char *copy = infer_alloc(a, bytes);

    if (text && copy)
        memcpy(copy, text, bytes);
    cJSON_free(text);
    cJSON_Delete(object);
    if (!copy)
        return infer_fail_memory(err, bytes, "metadata");
    *out = copy;
    return INFER_OK;
}

void infer_source_free_parts(infer_source *s)
{
    infer_free(&s->allocator, (void *)(uintptr_t)s->metadata);
    infer_free(&s->allocator, (void *)(uintptr_t)s->vocab);
    infer_free(&s->allocator, (void *)(uintptr_t)s->tensors);
    s->metadata = NULL;
    s->vocab = NULL;
    s->tensors = NULL;
}

infer_status infer_source_check_rows(const infer_source *s, size_t index, uint64_t row, uint64_t n, infer_error *err)
{
    if (index < s->tensor_count && row <= s->tensors[index].rows && n <= s->tensors[index].rows - row)
        return INFER_OK;
    return infer_fail(err, INFER_ERROR_ARGUMENT, "rows %" PRIu64 " to %" PRIu64 " of tensor %zu do not exist", row, row + n, index);
}
