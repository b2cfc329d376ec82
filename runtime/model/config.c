#include "model/model.h"

#include <cjson/cJSON.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#define COUNT(array) (sizeof(array) / sizeof *(array))

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
    if (cJSON_IsNumber(item) && item->valuedouble >= low && item->valuedouble <= high)
        return item->valuedouble;
    if (r->status == INFER_OK)
        r->status = infer_fail(r->err, INFER_ERROR_FORMAT, "%s: metadata: \"%s\": found %s%.9g, expected a number in %.9g..%.9g", r->path,
                               key, cJSON_IsNumber(item) ? "" : "no number, ", cJSON_IsNumber(item) ? item->valuedouble : 0.0, low, high);
    return fallback;
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

static bool boolean(reader *r, const cJSON *object, const char *key)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, key);
    if (item && !cJSON_IsBool(item) && r->status == INFER_OK)
        r->status = infer_fail(r->err, INFER_ERROR_FORMAT, "%s: metadata: \"%s\": expected true or false", r->path, key);
    return cJSON_IsTrue(item);
}

/* The place of `found` among count words; 0, and UNSUPPORTED, when it is none of them. */
static size_t word(reader *r, const char *key, const char *found, const char *const *words, size_t count)
{
    char list[128] = "";
    for (size_t i = 0; i < count; i++)
        if (strcmp(words[i], found) == 0)
            return i;
    for (size_t i = 0, used = 0; i < count && used < sizeof list; i++)
        used += (size_t)snprintf(list + used, sizeof list - used, "%s\"%s\"", i == 0 ? "" : i + 1 == count ? " or " : ", ", words[i]);
    if (r->status == INFER_OK)
        r->status =
            infer_fail(r->err, INFER_ERROR_UNSUPPORTED, "%s: metadata: \"%s\": found \"%.64s\", expected %s", r->path, key, found, list);
    return 0;
}

static void parse_factors(reader *r, const cJSON *scaling, infer_rope_config *rope)
{
    const cJSON *list = find(r, scaling, "factors", true), *item;
    uint32_t count = 0;
    rope->magnitude = number(r, scaling, "magnitude", false, 1, 1e-3, 1e3);
    cJSON_ArrayForEach(item, list)
    {
        bool ok = cJSON_IsNumber(item) && item->valuedouble >= 1e-3 && item->valuedouble <= 1e6;
        if (!ok || count == rope->dim / 2)
            break;
        rope->factors[count++] = item->valuedouble;
    }
    if (r->status == INFER_OK && (!cJSON_IsArray(list) || item || count != rope->dim / 2))
        r->status = infer_fail(r->err, INFER_ERROR_FORMAT, "%s: metadata: \"rope.scaling.factors\": expected %u numbers in 0.001..1e+06",
                               r->path, rope->dim / 2);
}

static void parse_scaling(reader *r, const cJSON *scaling, infer_rope_config *rope)
{
    static const char *const types[] = {[INFER_ROPE_PLAIN] = "none", [INFER_ROPE_LINEAR] = "linear", [INFER_ROPE_LLAMA3] = "llama3",
                                        [INFER_ROPE_FACTORS] = "factors"};
    rope->scaling = (infer_rope_scaling)word(r, "rope.scaling.type", string(r, scaling, "type", true, "none"), types, COUNT(types));
    if (rope->scaling == INFER_ROPE_LINEAR || rope->scaling == INFER_ROPE_LLAMA3)
        rope->factor = number(r, scaling, "factor", true, 1, 1e-3, 1e6);
    if (rope->scaling == INFER_ROPE_LLAMA3) {
        rope->low_freq_factor = number(r, scaling, "low_freq_factor", true, 1, 1e-3, 1e6);
        rope->high_freq_factor = number(r, scaling, "high_freq_factor", true, 4, 1e-3, 1e6);
        rope->original_context = whole(r, scaling, "original_context", true, 8192, 1, INFER_MAX_CONTEXT);
        if (!(rope->high_freq_factor > rope->low_freq_factor) && r->status == INFER_OK)
            r->status = infer_fail(r->err, INFER_ERROR_FORMAT, "%s: metadata: rope.scaling: high_freq_factor must be above low_freq_factor",
                                   r->path);
    }
    if (rope->scaling == INFER_ROPE_FACTORS)
        parse_factors(r, scaling, rope);
}

static void parse_rope(reader *r, const cJSON *root, infer_config *c)
{
    static const char *const pairs[] = {[INFER_ROPE_ADJACENT] = "adjacent", [INFER_ROPE_HALVES] = "halves"};
    const cJSON *rope = find(r, root, "rope", true), *scaling;
    infer_rope_config *global = &c->rope[INFER_ROPE_GLOBAL], *local = &c->rope[INFER_ROPE_LOCAL];
    if (!rope)
        return;
    global->theta = number(r, rope, "theta", true, 10000, 1, 1e12);
    global->dim = whole(r, rope, "dim", false, c->head_dim, 2, c->head_dim);
    if (global->dim % 2 && r->status == INFER_OK)
        r->status =
            infer_fail(r->err, INFER_ERROR_FORMAT, "%s: metadata: \"rope.dim\": found %u, expected an even number", r->path, global->dim);
    global->pairs = (infer_rope_pairs)word(r, "rope.pairs", string(r, rope, "pairs", true, "adjacent"), pairs, COUNT(pairs));
    if (cJSON_GetObjectItemCaseSensitive(rope, "local_theta"))
        *local = (infer_rope_config){.theta = number(r, rope, "local_theta", true, 10000, 1, 1e12), .dim = global->dim,
                                     .pairs = global->pairs};
    scaling = cJSON_GetObjectItemCaseSensitive(rope, "scaling");
    if (scaling && !cJSON_IsNull(scaling))
        parse_scaling(r, scaling, global);
}

static void parse_attention(reader *r, const cJSON *root, infer_config *c)
{
    const cJSON *window = cJSON_GetObjectItemCaseSensitive(root, "window");
    if (window && !cJSON_IsNull(window)) {
        c->window = whole(r, window, "size", true, 0, 1, INFER_MAX_CONTEXT);
        c->global_every = whole(r, window, "global_every", false, 0, 0, INFER_MAX_LAYERS);
    }
    c->attention_scale = (float)number(r, root, "attention_scale", false, 0, 1e-6, 1e6);
    c->attention_softcap = (float)number(r, root, "attention_softcap", false, 0, 1e-3, 1e6);
    c->qkv_bias = boolean(r, root, "qkv_bias");
    c->qk_norm = boolean(r, root, "qk_norm");
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
                r->status = infer_fail(r->err, INFER_ERROR_FORMAT, "%s: metadata: \"eos\": expected at most 16 token ids below %u", r->path,
                                       c->vocab);
            return;
        }
        c->eos[c->eos_count++] = (int32_t)item->valuedouble;
    }
}

static void parse_architecture(reader *r, const cJSON *root, infer_config *c)
{
    const char *names[16];
    size_t count = 0;
    for (; count < COUNT(names) && infer_architecture_at(count); count++)
        names[count] = infer_architecture_at(count)->name;
    c->architecture = infer_architecture_at(word(r, "architecture", string(r, root, "architecture", true, ""), names, count));
}

static void parse(reader *r, const cJSON *root, infer_config *c)
{
    static const char *const activations[] = {[INFER_ACTIVATION_SILU] = "silu", [INFER_ACTIVATION_GELU_TANH] = "gelu_tanh",
                                              [INFER_ACTIVATION_GELU] = "gelu", [INFER_ACTIVATION_RELU2] = "relu2"};
    const char *chat;
    parse_architecture(r, root, c);
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
    c->tied_head = boolean(r, root, "tied_head");
    c->post_norms = boolean(r, root, "post_norms");
    c->sub_norms = boolean(r, root, "sub_norms");
    c->embed_scale = (float)number(r, root, "embed_scale", false, 1, 1e-6, 1e6);
    c->logit_softcap = (float)number(r, root, "logit_softcap", false, 0, 1e-3, 1e6);
    c->activation = (infer_activation)word(r, "activation", string(r, root, "activation", false, "silu"), activations, COUNT(activations));
    if (r->status == INFER_OK && (c->head_dim == 0 || c->heads % c->kv_heads))
        r->status =
            infer_fail(r->err, INFER_ERROR_FORMAT, "%s: metadata: %u heads do not divide into %u KV heads", r->path, c->heads, c->kv_heads);
    if (r->status == INFER_OK && c->head_dim > INFER_MAX_HEAD_DIM) /* dim / heads may be */
        r->status = infer_fail(r->err, INFER_ERROR_FORMAT, "%s: metadata: dim / heads: found %u, expected at most %u", r->path, c->head_dim,
                               INFER_MAX_HEAD_DIM);
    if (r->status == INFER_OK && (uint64_t)c->heads * c->head_dim > INFER_MAX_DIM)
        r->status = infer_fail(r->err, INFER_ERROR_FORMAT, "%s: metadata: heads x head_dim: found %u x %u, expected at most %u", r->path,
                               c->heads, c->head_dim, INFER_MAX_DIM);
    if (r->status != INFER_OK)
        return;
    if (!c->architecture->learned_positions)
        parse_rope(r, root, c);
    parse_attention(r, root, c);
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
