#include "model/model.h"

#include <cjson/cJSON.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

typedef struct reader {
    const char *path;
    infer_error *err;
    infer_status status; /* the first failure */
} reader;

static const cJSON *find(reader *r, const cJSON *object, const char *key, bool needed)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, key);
    if (!item && needed && r->status == INFER_OK)
        r->status = infer_fail(r->err, INFER_ERROR_FORMAT, "%s: metadata: \"%s\" is missing", r->path, key);
    return item;
}

static double number(reader *r, const cJSON *object, const char *key, bool needed, double fallback, double low, double high)
{
    const cJSON *item = find(r, object, key, needed);
    if (!item)
        return fallback;
    if ((!cJSON_IsNumber(item) || !(item->valuedouble >= low && item->valuedouble <= high)) && r->status == INFER_OK) {
        r->status = infer_fail(r->err, INFER_ERROR_FORMAT, "%s: metadata: \"%s\": found %s%.9g, expected a number in %.9g..%.9g", r->path, key,
                               cJSON_IsNumber(item) ? "" : "no number, ", cJSON_IsNumber(item) ? item->valuedouble : 0.0, low, high);
        return fallback;
    }
    return item->valuedouble;
}

static uint32_t whole(reader *r, const cJSON *object, const char *key, bool needed, uint32_t fallback, uint32_t low, uint32_t high)
{
    double d = number(r, object, key, needed, fallback, low, high);
    if (d != floor(d) && r->status == INFER_OK)
        r->status = infer_fail(r->err, INFER_ERROR_FORMAT, "%s: metadata: \"%s\": found %.9g, expected a whole number", r->path, key, d);
    return r->status == INFER_OK ? (uint32_t)d : fallback;
}

static const char *string(reader *r, const cJSON *object, const char *key, bool needed, const char *fallback)
{
    const cJSON *item = find(r, object, key, needed);
    if (!item)
        return fallback;
    if (!cJSON_IsString(item) && r->status == INFER_OK)
        r->status = infer_fail(r->err, INFER_ERROR_FORMAT, "%s: metadata: \"%s\": expected a string", r->path, key);
    return cJSON_IsString(item) ? item->valuestring : fallback;
}

static void unknown(reader *r, const char *key, const char *found, const char *expected)
{
    if (r->status == INFER_OK)
        r->status = infer_fail(r->err, INFER_ERROR_UNSUPPORTED, "%s: metadata: \"%s\": found \"%.64s\", expected %s", r->path, key, found, expected);
}

static void parse_rope(reader *r, const cJSON *root, infer_config *c)
{
    const cJSON *rope = find(r, root, "rope", true), *scaling;
    const char *pairs, *type;
    if (!rope)
        return;
    c->rope.theta = (float)number(r, rope, "theta", true, 10000, 1, 1e12);
    c->rope.dim = whole(r, rope, "dim", false, c->head_dim, 2, c->head_dim);
    if (c->rope.dim % 2 && r->status == INFER_OK)
        r->status = infer_fail(r->err, INFER_ERROR_FORMAT, "%s: metadata: \"rope.dim\": found %u, expected an even number", r->path, c->rope.dim);
    pairs = string(r, rope, "pairs", true, "adjacent");
    if (strcmp(pairs, "halves") == 0)
        c->rope.pairs = INFER_ROPE_HALVES;
    else if (strcmp(pairs, "adjacent") != 0)
        unknown(r, "rope.pairs", pairs, "\"adjacent\" or \"halves\"");
    scaling = cJSON_GetObjectItemCaseSensitive(rope, "scaling");
    if (!scaling || cJSON_IsNull(scaling))
        return;
    type = string(r, scaling, "type", true, "none");
    if (strcmp(type, "linear") == 0)
        c->rope.scaling = INFER_ROPE_LINEAR;
    else if (strcmp(type, "llama3") == 0)
        c->rope.scaling = INFER_ROPE_LLAMA3;
    else if (strcmp(type, "none") != 0)
        unknown(r, "rope.scaling.type", type, "\"none\", \"linear\" or \"llama3\"");
    if (c->rope.scaling != INFER_ROPE_PLAIN)
        c->rope.factor = (float)number(r, scaling, "factor", true, 1, 1e-3, 1e6);
    if (c->rope.scaling == INFER_ROPE_LLAMA3) {
        c->rope.low_freq_factor = (float)number(r, scaling, "low_freq_factor", true, 1, 1e-3, 1e6);
        c->rope.high_freq_factor = (float)number(r, scaling, "high_freq_factor", true, 4, 1e-3, 1e6);
        c->rope.original_context = whole(r, scaling, "original_context", true, 8192, 1, INFER_MAX_CONTEXT);
        if (!(c->rope.high_freq_factor > c->rope.low_freq_factor) && r->status == INFER_OK)
            r->status = infer_fail(r->err, INFER_ERROR_FORMAT, "%s: metadata: rope.scaling: high_freq_factor must be above low_freq_factor", r->path);
    }
}

static void parse_eos(reader *r, const cJSON *root, infer_config *c)
{
    const cJSON *list = cJSON_GetObjectItemCaseSensitive(root, "eos"), *item;
    if (!list || cJSON_IsNull(list))
        return;
    if (!cJSON_IsArray(list) && r->status == INFER_OK)
        r->status = infer_fail(r->err, INFER_ERROR_FORMAT, "%s: metadata: \"eos\": expected a list of token ids", r->path);
    cJSON_ArrayForEach(item, list)
    {
        bool ok = cJSON_IsNumber(item) && item->valuedouble >= 0 && item->valuedouble < c->vocab && c->eos_count < 16;
        if (!ok) {
            if (r->status == INFER_OK)
                r->status = infer_fail(r->err, INFER_ERROR_FORMAT, "%s: metadata: \"eos\": expected at most 16 token ids below %u", r->path, c->vocab);
            return;
        }
        c->eos[c->eos_count++] = (int32_t)item->valuedouble;
    }
}

static void parse(reader *r, const cJSON *root, infer_config *c)
{
    const char *architecture = string(r, root, "architecture", true, ""), *chat;
    snprintf(c->architecture, sizeof c->architecture, "%s", architecture);
    c->dim = whole(r, root, "dim", true, 1, 1, INFER_MAX_DIM);
    c->layers = whole(r, root, "layers", true, 1, 1, INFER_MAX_LAYERS);
    c->heads = whole(r, root, "heads", true, 1, 1, INFER_MAX_DIM);
    c->kv_heads = whole(r, root, "kv_heads", false, c->heads, 1, c->heads);
    c->head_dim = whole(r, root, "head_dim", false, c->dim / c->heads, 1, INFER_MAX_HEAD_DIM);
    c->ffn_dim = whole(r, root, "ffn_dim", true, 1, 1, INFER_MAX_DIM);
    c->vocab = whole(r, root, "vocab", true, 1, 1, INFER_MAX_VOCAB);
    c->context = whole(r, root, "context", true, 1, 1, INFER_MAX_CONTEXT);
    c->norm_eps = (float)number(r, root, "norm_eps", true, 1e-5, 0, 1);
    c->bos = (int32_t)number(r, root, "bos", false, -1, -1, (double)c->vocab - 1);
    c->tied_head = cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(root, "tied_head"));
    if (r->status == INFER_OK && (c->head_dim == 0 || c->heads % c->kv_heads))
        r->status = infer_fail(r->err, INFER_ERROR_FORMAT, "%s: metadata: %u heads do not divide into %u KV heads", r->path, c->heads, c->kv_heads);
    if (r->status == INFER_OK && (uint64_t)c->heads * c->head_dim > INFER_MAX_DIM)
        r->status = infer_fail(r->err, INFER_ERROR_FORMAT, "%s: metadata: heads x head_dim: found %u x %u, expected at most %u", r->path, c->heads,
                               c->head_dim, INFER_MAX_DIM);
    parse_rope(r, root, c);
    parse_eos(r, root, c);
    chat = string(r, root, "chat_template", false, NULL);
    c->chat = chat ? infer_chat_template_recognise(chat) : NULL;
}

infer_status infer_config_parse(const char *metadata, const char *path, infer_config *out, infer_error *err)
{
    reader r = {path, err, INFER_OK};
    infer_config c = {0};
    cJSON *root = cJSON_Parse(metadata);
    if (!root)
        return infer_fail(err, INFER_ERROR_MEMORY, "%s: out of memory for the metadata", path); /* the reader checked its syntax */
    parse(&r, root, &c);
    cJSON_Delete(root);
    if (r.status == INFER_OK)
        *out = c;
    return r.status;
}
