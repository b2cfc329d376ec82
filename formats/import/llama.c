#include "import/llama.h"

#include "utf8.h"
#include "vocab.h"

#include <cjson/cJSON.h>
#include <inttypes.h>
#include <math.h>
#include <string.h>

static infer_status check_range(const infer_llama *m, const char *what, uint64_t found, uint64_t most, infer_error *err)
{
    if (found >= 1 && found <= most)
        return INFER_OK;
    return infer_fail(err, INFER_ERROR_FORMAT, "%s: %s: found %" PRIu64 ", expected 1 to %" PRIu64, m->path, what, found, most);
}

infer_status infer_llama_check(const infer_llama *m, infer_error *err)
{
    const struct {
        const char *what;
        uint64_t value, most;
    } ranges[] = {
        {"model dimension", m->dim, INFER_FILE_MAX_DIM},
        {"layers", m->layers, INFER_IMPORT_MAX_LAYERS},
        {"attention heads", m->heads, 65536},
        {"KV heads", m->kv_heads, m->heads},
        {"head dimension", m->head_dim, 65536},
        {"query width (heads x head dimension)", m->heads * m->head_dim, INFER_FILE_MAX_DIM}, /* the lines above keep it from overflowing */
        {"feed-forward dimension", m->ffn_dim, INFER_FILE_MAX_DIM},
        {"vocabulary size", m->vocab, INFER_VOCAB_MAX_TOKENS},
        {"context length", m->context, INT32_MAX},
        {"rotary dimension", m->rope_dim, m->head_dim},
    };
    infer_status s;
    for (size_t i = 0; i < sizeof ranges / sizeof ranges[0]; i++)
        if ((s = check_range(m, ranges[i].what, ranges[i].value, ranges[i].most, err)) != INFER_OK)
            return s;
    if (m->heads % m->kv_heads != 0)
        return infer_fail(err, INFER_ERROR_FORMAT, "%s: %" PRIu64 " attention heads are not a multiple of %" PRIu64 " KV heads", m->path,
                          m->heads, m->kv_heads);
    if (m->rope_dim % 2 != 0)
        return infer_fail(err, INFER_ERROR_FORMAT, "%s: rotary dimension: found %" PRIu64 ", expected an even number", m->path,
                          m->rope_dim);
    if (!(m->norm_eps >= 0 && m->norm_eps <= 1))
        return infer_fail(err, INFER_ERROR_FORMAT, "%s: norm epsilon: found %g, expected 0 to 1", m->path, m->norm_eps);
    if (!(m->rope_theta > 0 && isfinite(m->rope_theta)) || !(m->rope_factor > 0 && isfinite(m->rope_factor)))
        return infer_fail(err, INFER_ERROR_FORMAT, "%s: rotary base %g and scaling factor %g: expected positive numbers", m->path,
                          m->rope_theta, m->rope_factor);
    return INFER_OK;
}

infer_status infer_llama_tensors(const infer_allocator *a, const infer_llama *m, infer_source_tensor **out, size_t *count, infer_error *err)
{
    const uint64_t q = m->heads * m->head_dim, kv = m->kv_heads * m->head_dim;
    const struct {
        const char *name;
        uint64_t rows, cols;
        bool matrix;
    } layer[LLAMA_LAYER_TENSORS] = {
        [LLAMA_ATTN_NORM] = {"attn_norm", 1, m->dim, false},
        [LLAMA_Q] = {"q", q, m->dim, true},
        [LLAMA_K] = {"k", kv, m->dim, true},
        [LLAMA_V] = {"v", kv, m->dim, true},
        [LLAMA_O] = {"o", m->dim, q, true},
        [LLAMA_FFN_NORM] = {"ffn_norm", 1, m->dim, false},
        [LLAMA_GATE] = {"gate", m->ffn_dim, m->dim, true},
        [LLAMA_UP] = {"up", m->ffn_dim, m->dim, true},
        [LLAMA_DOWN] = {"down", m->dim, m->ffn_dim, true},
    };
    size_t n = llama_head(m->layers) + (m->tied_head ? 0 : 1);
    infer_source_tensor *list = infer_alloc_array(a, n, sizeof *list), *t = list;

    if (!list)
        return infer_fail_memory(err, n * sizeof *list, "tensor list");
    *t++ = (infer_source_tensor){"tok_embed", m->vocab, m->dim, true, INFER_QTYPE_F32};
    for (uint64_t l = 0; l < m->layers; l++)
        for (int i = 0; i < LLAMA_LAYER_TENSORS; i++, t++) {
            snprintf(t->name, sizeof t->name, "layers.%" PRIu64 ".%s", l, layer[i].name);
            t->rows = layer[i].rows;
            t->cols = layer[i].cols;
            t->matrix = layer[i].matrix;
            t->stored = INFER_QTYPE_F32;
        }
    *t++ = (infer_source_tensor){"out_norm", 1, m->dim, false, INFER_QTYPE_F32};
    if (!m->tied_head)
        *t++ = (infer_source_tensor){"head", m->vocab, m->dim, true, INFER_QTYPE_F32};
    *out = list;
    *count = n;
    return INFER_OK;
}

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

/* False when cJSON has no memory. It uses the C library's: see reader.c. */
static bool fill_metadata(cJSON *json, const infer_llama *m)
{
    const struct {
        const char *key;
        uint64_t value;
    } numbers[] = {
        {"dim", m->dim},           {"layers", m->layers},   {"heads", m->heads}, {"kv_heads", m->kv_heads},
        {"head_dim", m->head_dim}, {"ffn_dim", m->ffn_dim}, {"vocab", m->vocab}, {"context", m->context},
    };
    const char *slash = strrchr(m->path, '/'), *file = slash ? slash + 1 : m->path;
    char name[256], file_name[256];
    cJSON *rope, *scaling, *eos, *source;
    bool ok;

    clean_text(name, m->name ? m->name : file, m->name ? m->name_bytes : strlen(file));
    clean_text(file_name, file, strlen(file));
    ok = cJSON_AddStringToObject(json, "architecture", "llama") && cJSON_AddStringToObject(json, "name", name);
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++)
        ok = ok && cJSON_AddNumberToObject(json, numbers[i].key, (double)numbers[i].value);
    ok = ok && cJSON_AddNumberToObject(json, "norm_eps", m->norm_eps) && (rope = cJSON_AddObjectToObject(json, "rope")) &&
         cJSON_AddNumberToObject(rope, "theta", m->rope_theta) && cJSON_AddNumberToObject(rope, "dim", (double)m->rope_dim) &&
         cJSON_AddStringToObject(rope, "pairs", "adjacent") && (scaling = cJSON_AddObjectToObject(rope, "scaling")) &&
         cJSON_AddStringToObject(scaling, "type", m->rope_factor == 1 ? "none" : "linear") &&
         cJSON_AddNumberToObject(scaling, "factor", m->rope_factor);
    ok = ok && (m->bos == INFER_VOCAB_NO_ID || cJSON_AddNumberToObject(json, "bos", m->bos)) && (eos = cJSON_AddArrayToObject(json, "eos"));
    for (size_t i = 0; ok && i < m->eos_count; i++) {
        cJSON *id = cJSON_CreateNumber(m->eos[i]);
        ok = id && cJSON_AddItemToArray(eos, id);
    }
    return ok && cJSON_AddBoolToObject(json, "tied_head", m->tied_head) && (source = cJSON_AddObjectToObject(json, "source")) &&
           cJSON_AddStringToObject(source, "format", m->format) && cJSON_AddStringToObject(source, "file", file_name);
}

infer_status infer_llama_metadata(const infer_allocator *a, const infer_llama *m, char **out, infer_error *err)
{
    cJSON *json = cJSON_CreateObject();
    char *text = json && fill_metadata(json, m) ? cJSON_PrintUnformatted(json) : NULL;
    size_t bytes = text ? strlen(text) + 1 : 0;
    char *copy = infer_alloc(a, bytes);

    if (copy)
        memcpy(copy, text, bytes);
    cJSON_free(text);
    cJSON_Delete(json);
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
