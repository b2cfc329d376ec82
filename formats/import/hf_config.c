/*
 * The keys are those of the transformers library's configuration classes, and so are the defaults where a key is missing. What a model asks for and
 * this library lacks is refused by name: to leave it out would give wrong text.
 */
#include "import/hf_config.h"

#include "import/json_file.h"
#include "vocab.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <math.h>
#include <string.h>
#include <unistd.h>

static const infer_json_limits config_limits = {4u << 20, 1u << 16}, tokenizer_config_limits = {32u << 20, 1u << 20}; /* lists every added token */

/* ---- files ---- */

static infer_status read_template(const infer_allocator *a, const char *folder, infer_hf_files *f, infer_error *err)
{
    char path[PATH_MAX];
    infer_mapping map;
    infer_status s;

    if (snprintf(path, sizeof path, "%s/chat_template.jinja", folder) >= (int)sizeof path || access(path, F_OK) != 0)
        return INFER_OK;
    if ((s = infer_map_file(path, &map, err)) != INFER_OK)
        return s;
    if (map.size && map.size <= INFER_IMPORT_MAX_TEMPLATE) {
        f->chat_template = infer_alloc(a, map.size);
        f->chat_template_bytes = map.size;
        if (f->chat_template)
            memcpy(f->chat_template, map.data, map.size);
        else
            s = infer_fail_memory(err, map.size, "chat template");
    }
    infer_unmap(&map);
    return s;
}

infer_status infer_hf_files_read(const infer_allocator *a, const char *folder, infer_hf_files *out, infer_error *err)
{
    infer_hf_files f = {0};
    infer_status s;

    if ((s = infer_json_read(folder, "config.json", &config_limits, false, &f.config, err)) != INFER_OK ||
        (s = infer_json_read(folder, "generation_config.json", &config_limits, true, &f.generation, err)) != INFER_OK ||
        (s = infer_json_read(folder, "tokenizer_config.json", &tokenizer_config_limits, true, &f.tokenizer, err)) != INFER_OK ||
        (s = read_template(a, folder, &f, err)) != INFER_OK) {
        infer_hf_files_free(a, &f);
        return s;
    }
    *out = f;
    return INFER_OK;
}

void infer_hf_files_free(const infer_allocator *a, infer_hf_files *f)
{
    cJSON_Delete(f->config);
    cJSON_Delete(f->generation);
    cJSON_Delete(f->tokenizer);
    infer_free(a, f->chat_template);
    *f = (infer_hf_files){0};
}

/* ---- families ---- */

typedef struct reader {
    infer_json json;
    infer_hf_model *model;
} reader;

/* What a missing key means: the defaults of the configuration classes. 0: the key has to be there, or the model lacks it. */
typedef struct defaults {
    uint64_t vocab, dim, layers, heads, ffn_dim;
    uint64_t kv_heads, head_dim; /* 0: heads, dim / heads */
    uint64_t context, window;
    double norm_eps, theta, local_theta;
    const char *activation; /* NULL: silu */
} defaults;

typedef struct family {
    const char *class;        /* in "architectures" */
    const char *architecture; /* ours */
    const infer_name_style *names;
    bool tied;                /* unless tie_word_embeddings says otherwise */
    void (*read)(reader *r);  /* what only this family has */
    defaults defaults;
} family;

static void unsupported(reader *r, const char *key, const char *found)
{
    if (r->json.status == INFER_OK)
        r->json.status = infer_fail(r->json.err, INFER_ERROR_UNSUPPORTED, "%s: \"%s\": %s is not supported", r->json.what, key, found);
}

/* A switch that must be off. */
static void must_be_off(reader *r, const char *key)
{
    bool on = false;
    infer_json_bool(&r->json, key, &on);
    if (on)
        unsupported(r, key, "true");
}

static bool is_null(const reader *r, const char *key) { return cJSON_IsNull(cJSON_GetObjectItemCaseSensitive(r->json.object, key)); }

/* m->window is the default; null: no window. */
static void read_window(reader *r, uint64_t global_every)
{
    infer_arch *m = &r->model->arch;
    infer_json_uint(&r->json, "sliding_window", false, UINT32_MAX, &m->window);
    if (is_null(r, "sliding_window"))
        m->window = 0;
    m->global_every = m->window ? global_every : 0;
}

static void read_llama(reader *r)
{
    must_be_off(r, "attention_bias");
    must_be_off(r, "mlp_bias");
}

static void read_mistral(reader *r) { read_window(r, 0); }

static void read_qwen(reader *r)
{
    infer_arch *m = &r->model->arch;
    bool windows = false;
    uint64_t first = 28; /* layers from max_window_layers on have a window */

    infer_json_bool(&r->json, "use_sliding_window", &windows);
    infer_json_uint(&r->json, "max_window_layers", false, UINT32_MAX, &first);
    read_window(r, 0);
    if (!windows || first >= m->layers)
        m->window = 0;
    else if (m->window && m->window < m->context && first > 0)
        unsupported(r, "max_window_layers", "a window in the upper layers only");
}

static void read_qwen2(reader *r)
{
    r->model->arch.qkv_bias = true;
    read_qwen(r);
}

static void read_qwen3(reader *r)
{
    r->model->arch.qk_norm = true;
    infer_json_bool(&r->json, "attention_bias", &r->model->arch.qkv_bias);
    if (r->model->arch.qkv_bias)
        unsupported(r, "attention_bias", "true");
    read_qwen(r);
}

static void read_gemma(reader *r)
{
    infer_arch *m = &r->model->arch;
    m->embed_scale = sqrt((double)m->dim);
    m->activation = "gelu_tanh"; /* also where hidden_act says gelu: the weights were trained with the approximation */
    r->model->norm_plus_one = true;
    must_be_off(r, "attention_bias");
}

static void read_gemma2(reader *r)
{
    infer_arch *m = &r->model->arch;
    double query_scalar = 256;

    read_gemma(r);
    m->post_norms = true;
    infer_json_float(&r->json, "query_pre_attn_scalar", false, &query_scalar);
    if (!(query_scalar > 0))
        unsupported(r, "query_pre_attn_scalar", "a number that is not above 0");
    m->attention_scale = 1 / sqrt(query_scalar);
    m->attention_softcap = 50;
    m->logit_softcap = 30;
    infer_json_float(&r->json, "attn_logit_softcapping", false, &m->attention_softcap);
    infer_json_float(&r->json, "final_logit_softcapping", false, &m->logit_softcap);
    if (is_null(r, "attn_logit_softcapping"))
        m->attention_softcap = 0;
    if (is_null(r, "final_logit_softcapping"))
        m->logit_softcap = 0;
    read_window(r, 2);
}

static void read_gemma3(reader *r)
{
    infer_arch *m = &r->model->arch;
    uint64_t pattern = 6;

    read_gemma2(r);
    m->qk_norm = true;
    if (!infer_json_find(&r->json, "attn_logit_softcapping"))
        m->attention_softcap = 0;
    if (!infer_json_find(&r->json, "final_logit_softcapping"))
        m->logit_softcap = 0;
    infer_json_uint(&r->json, "sliding_window_pattern", false, UINT32_MAX, &pattern);
    infer_json_uint(&r->json, "_sliding_window_pattern", false, UINT32_MAX, &pattern);
    m->global_every = m->window ? pattern : 0;
    must_be_off(r, "use_bidirectional_attention");
}

static void read_gpt2(reader *r)
{
    bool scaled = true;

    r->model->arch.biased = true;
    r->model->arch.gated = false;
    must_be_off(r, "scale_attn_by_inverse_layer_idx");
    must_be_off(r, "add_cross_attention");
    infer_json_bool(&r->json, "scale_attn_weights", &scaled);
    if (!scaled)
        unsupported(r, "scale_attn_weights", "false");
}

static void read_bitnet(reader *r)
{
    r->model->arch.sub_norms = true;
    must_be_off(r, "attention_bias");
}

/* Every size has a default in Gemma3TextConfig. */
#define GEMMA3 \
    {.vocab = 262208, .dim = 2304, .layers = 26, .heads = 8, .ffn_dim = 9216, .kv_heads = 4, .head_dim = 256, .context = 131072, .window = 4096, \
     .norm_eps = 1e-6, .theta = 1e6, .local_theta = 1e4}

static const family families[] = {
    {"LlamaForCausalLM", "llama", &infer_names_hf, false, read_llama, {.context = 2048, .norm_eps = 1e-6, .theta = 1e4}},
    {"MistralForCausalLM", "llama", &infer_names_hf, false, read_mistral,
     {.kv_heads = 8, .context = 131072, .window = 4096, .norm_eps = 1e-6, .theta = 1e4}},
    {"Qwen2ForCausalLM", "llama", &infer_names_hf, false, read_qwen2,
     {.kv_heads = 32, .context = 32768, .window = 4096, .norm_eps = 1e-6, .theta = 1e4}},
    {"Qwen3ForCausalLM", "llama", &infer_names_hf, false, read_qwen3,
     {.kv_heads = 32, .head_dim = 128, .context = 32768, .window = 4096, .norm_eps = 1e-6, .theta = 1e4}},
    {"Phi3ForCausalLM", "llama", &infer_names_hf_phi3, false, read_mistral, {.context = 4096, .norm_eps = 1e-5, .theta = 1e4}},
    {"GemmaForCausalLM", "gemma", &infer_names_hf, true, read_gemma, {.kv_heads = 16, .head_dim = 256, .context = 8192, .norm_eps = 1e-6, .theta = 1e4}},
    {"Gemma2ForCausalLM", "gemma", &infer_names_hf_gemma2, true, read_gemma2,
     {.kv_heads = 4, .head_dim = 256, .context = 8192, .window = 4096, .norm_eps = 1e-6, .theta = 1e4}},
    {"Gemma3ForCausalLM", "gemma", &infer_names_hf_gemma2, true, read_gemma3, GEMMA3},
    {"Gemma3ForConditionalGeneration", "gemma", &infer_names_hf_gemma2, true, read_gemma3, GEMMA3},
    {"GPT2LMHeadModel", "gpt2", &infer_names_hf_gpt2, true, read_gpt2, {.context = 1024, .norm_eps = 1e-5, .activation = "gelu_tanh"}},
    {"BitNetForCausalLM", "bitnet", &infer_names_hf, false, read_bitnet,
     {.kv_heads = 5, .context = 2048, .norm_eps = 1e-5, .theta = 5e5, .activation = "relu2"}},
};

static const family *find_family(infer_json *j)
{
    const cJSON *list = infer_json_find(j, "architectures"), *first = cJSON_GetArrayItem(list, 0);
    char known[512] = "";

    for (size_t i = 0; i < sizeof families / sizeof families[0]; i++) {
        size_t n = strlen(known);
        if (cJSON_IsString(first) && strcmp(first->valuestring, families[i].class) == 0)
            return &families[i];
        snprintf(known + n, sizeof known - n, "%s%s", n ? ", " : "", families[i].class);
    }
    j->status = cJSON_IsString(first) ? infer_fail(j->err, INFER_ERROR_UNSUPPORTED, "%s: architecture \"%.64s\"; known are %s", j->what,
                                                   first->valuestring, known)
                                      : infer_fail(j->err, INFER_ERROR_FORMAT, "%s: \"architectures\": expected a list of names", j->what);
    return NULL;
}

/* ---- rotary positions ---- */

/* Another object for the next keys; returns the one before. The first failure stays the first. */
static const cJSON *enter(reader *r, const cJSON *object)
{
    const cJSON *before = r->json.object;
    r->json.object = object;
    return before;
}

/* `original` is the context length of the first training when the scaling object does not name one. */
static void read_factors(reader *r, uint64_t original)
{
    infer_arch *m = &r->model->arch;
    const cJSON *list = infer_json_find(&r->json, "short_factor"), *item;
    double ratio, magnitude;

    m->rope.scaling = INFER_IMPORT_ROPE_FACTORS;
    cJSON_ArrayForEach(item, list)
        if (m->rope.factor_count < INFER_IMPORT_MAX_FACTORS)
            m->rope.factors[m->rope.factor_count++] = cJSON_IsNumber(item) ? item->valuedouble : 0;
    infer_json_uint(&r->json, "original_max_position_embeddings", false, INT32_MAX, &original);
    if (original < 2)
        unsupported(r, "original_max_position_embeddings", "a rotary scaling longrope without it");
    if (r->json.status != INFER_OK)
        return;
    /* Two sets of factors: one up to the original context, one beyond it. Sessions would have to know beforehand how long they get, so this is the first
     * one's context. The magnitude is the same for both. */
    ratio = (double)m->context / (double)original;
    magnitude = ratio <= 1 ? 1 : sqrt(1 + log(ratio) / log((double)original));
    infer_json_float(&r->json, "attention_factor", false, &magnitude);
    m->rope.magnitude = magnitude;
    m->context = original < m->context ? original : m->context;
}

/* The object that describes the scaling. */
static void read_scaling(reader *r, uint64_t original)
{
    infer_arch *m = &r->model->arch;
    const char *type = NULL;

    infer_json_string(&r->json, "rope_type", false, &type);
    if (!type)
        infer_json_string(&r->json, "type", true, &type);
    if (type && strcmp(type, "linear") == 0) {
        m->rope.scaling = INFER_IMPORT_ROPE_LINEAR;
        infer_json_float(&r->json, "factor", true, &m->rope.factor);
    } else if (type && strcmp(type, "llama3") == 0) {
        m->rope.scaling = INFER_IMPORT_ROPE_LLAMA3;
        infer_json_float(&r->json, "factor", true, &m->rope.factor);
        infer_json_float(&r->json, "low_freq_factor", true, &m->rope.low_freq_factor);
        infer_json_float(&r->json, "high_freq_factor", true, &m->rope.high_freq_factor);
        infer_json_uint(&r->json, "original_max_position_embeddings", true, INT32_MAX, &m->rope.original_context);
    } else if (type && (strcmp(type, "longrope") == 0 || strcmp(type, "su") == 0)) {
        read_factors(r, original);
    } else if (type && strcmp(type, "default") != 0) {
        char found[80];
        snprintf(found, sizeof found, "\"%.64s\"", type);
        unsupported(r, "rope_scaling", found);
    }
}

/* The base of windowed layers, which are not scaled. */
static void read_local(reader *r, const cJSON *object)
{
    const cJSON *outer = enter(r, object);
    const char *type = "default";

    infer_json_string(&r->json, "rope_type", false, &type);
    infer_json_float(&r->json, "rope_theta", true, &r->model->arch.rope.local_theta);
    if (strcmp(type, "default") != 0)
        unsupported(r, "sliding_attention", "rotary scaling of windowed layers");
    enter(r, outer);
}

/* rope_theta, partial_rotary_factor and rope_scaling; since version 5 all of them in rope_parameters, which may be one object for each kind of layer. */
static void read_rope(reader *r, const defaults *d)
{
    infer_arch *m = &r->model->arch;
    const cJSON *parameters = infer_json_find(&r->json, "rope_parameters"), *scaling = parameters, *outer;
    const cJSON *global = cJSON_GetObjectItemCaseSensitive(parameters, "full_attention");
    const cJSON *local = cJSON_GetObjectItemCaseSensitive(parameters, "sliding_attention");
    uint64_t original = 0;
    double part = 1;

    m->rope.halves = true;
    m->rope.theta = d->theta;
    m->rope.local_theta = d->local_theta;
    infer_json_float(&r->json, "rope_theta", false, &m->rope.theta);
    infer_json_float(&r->json, "partial_rotary_factor", false, &part);
    infer_json_uint(&r->json, "original_max_position_embeddings", false, INT32_MAX, &original);
    if (d->local_theta != 0)
        infer_json_float(&r->json, "rope_local_base_freq", false, &m->rope.local_theta);
    if (local)
        read_local(r, local);
    if (global)
        scaling = global;
    if (!scaling)
        scaling = infer_json_find(&r->json, "rope_scaling");
    outer = enter(r, scaling);
    infer_json_float(&r->json, "rope_theta", false, &m->rope.theta);
    infer_json_float(&r->json, "partial_rotary_factor", false, &part);
    if (!(part > 0 && part <= 1)) {
        unsupported(r, "partial_rotary_factor", "a number outside of 0 to 1");
        part = 1;
    }
    m->rope.dim = (uint64_t)((double)m->head_dim * part);
    if (scaling)
        read_scaling(r, original);
    enter(r, outer);
}

/* ---- sizes ---- */

static void read_activation(reader *r, const char *const *keys)
{
    static const char *const names[][2] = {
        {"silu", NULL},           {"swish", NULL},          {"gelu_pytorch_tanh", "gelu_tanh"}, {"gelu_new", "gelu_tanh"},
        {"gelu_fast", "gelu_tanh"}, {"gelu", "gelu"},       {"relu2", "relu2"},
    };
    const char *found = NULL;
    char quoted[80];

    for (; *keys; keys++)
        infer_json_string(&r->json, *keys, false, &found);
    if (!found)
        return;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (strcmp(found, names[i][0]) == 0) {
            r->model->arch.activation = names[i][1];
            return;
        }
    snprintf(quoted, sizeof quoted, "\"%.64s\"", found);
    unsupported(r, "activation", quoted);
}

/* Names that GPT-2 has for what the others agree on. */
typedef struct size_keys {
    const char *dim, *layers, *heads, *ffn_dim, *context, *norm_eps, *activation[3];
} size_keys;

static const size_keys usual_keys = {"hidden_size",         "num_hidden_layers", "num_attention_heads", "intermediate_size", "max_position_embeddings",
                                     "rms_norm_eps", {"hidden_act", "hidden_activation"}};
static const size_keys gpt2_keys = {"n_embd", "n_layer", "n_head", "n_inner", "n_positions", "layer_norm_epsilon", {"activation_function"}};

static void read_sizes(reader *r, const family *f)
{
    infer_arch *m = &r->model->arch;
    infer_json *j = &r->json;
    const defaults *d = &f->defaults;
    const bool gpt2 = f->read == read_gpt2;
    const size_keys *keys = gpt2 ? &gpt2_keys : &usual_keys;

    m->vocab = d->vocab;
    m->dim = d->dim;
    m->layers = d->layers;
    m->heads = d->heads;
    m->context = d->context;
    m->window = d->window;
    m->norm_eps = d->norm_eps;
    m->activation = d->activation;
    infer_json_uint(j, "vocab_size", d->vocab == 0, INFER_VOCAB_MAX_TOKENS, &m->vocab);
    infer_json_uint(j, keys->dim, d->dim == 0, INFER_FILE_MAX_DIM, &m->dim);
    infer_json_uint(j, keys->layers, d->layers == 0, INFER_IMPORT_MAX_LAYERS, &m->layers);
    infer_json_uint(j, keys->heads, d->heads == 0, 65536, &m->heads);
    m->ffn_dim = gpt2 ? 4 * m->dim : d->ffn_dim;
    infer_json_uint(j, keys->ffn_dim, m->ffn_dim == 0, INFER_FILE_MAX_DIM, &m->ffn_dim);
    infer_json_uint(j, keys->context, false, INT32_MAX, &m->context);
    infer_json_float(j, keys->norm_eps, false, &m->norm_eps);
    read_activation(r, keys->activation);
    m->kv_heads = d->kv_heads && !is_null(r, "num_key_value_heads") ? d->kv_heads : m->heads;
    m->head_dim = d->head_dim && !is_null(r, "head_dim") ? d->head_dim : m->heads ? m->dim / m->heads : 0;
    if (gpt2)
        return;
    infer_json_uint(j, "num_key_value_heads", false, 65536, &m->kv_heads);
    infer_json_uint(j, "head_dim", false, 65536, &m->head_dim);
    read_rope(r, d);
}

/* "full_attention" or "sliding_attention" for each layer: they say what the older keys say, or what we cannot do. */
static void read_layer_types(reader *r)
{
    infer_arch *m = &r->model->arch;
    const cJSON *list = infer_json_find(&r->json, "layer_types"), *item;
    uint64_t layer = 0, every = 0; /* the first layer without a window, counted from 1 */

    if (!list || r->json.status != INFER_OK)
        return;
    if (!cJSON_IsArray(list) || (uint64_t)cJSON_GetArraySize(list) != m->layers) {
        r->json.status = infer_fail(r->json.err, INFER_ERROR_FORMAT, "%s: \"layer_types\": expected a list of %" PRIu64 " names", r->json.what, m->layers);
        return;
    }
    cJSON_ArrayForEach(item, list)
    {
        const char *type = cJSON_IsString(item) ? item->valuestring : "";
        bool global = strcmp(type, "full_attention") == 0;
        layer++;
        if (!global && strcmp(type, "sliding_attention") != 0) {
            char found[80];
            snprintf(found, sizeof found, "\"%.64s\"", type);
            unsupported(r, "layer_types", found);
        } else if (!global && m->window == 0) {
            unsupported(r, "layer_types", "\"sliding_attention\" without a window");
        }
        if (global && every == 0)
            every = layer;
        if (global != (every != 0 && layer % every == 0))
            unsupported(r, "layer_types", "a window in other layers than all but every n-th");
    }
    m->window = every == 1 ? 0 : m->window;
    m->global_every = m->window ? every : 0;
}

/* Ternary weights as the bitnet quantizer of the transformers library keeps them; any other quantized form is refused. */
static void read_quantization(reader *r, const cJSON *config)
{
    const cJSON *outer = enter(r, cJSON_GetObjectItemCaseSensitive(config, "quantization_config"));
    const char *method = "", *class = "bitlinear", *mode = "offline";
    char found[80];
    bool norm = false;

    if (cJSON_IsObject(r->json.object)) {
        infer_json_string(&r->json, "quant_method", false, &method);
        infer_json_string(&r->json, "linear_class", false, &class);
        infer_json_string(&r->json, "quantization_mode", false, &mode);
        infer_json_bool(&r->json, "use_rms_norm", &norm);
        snprintf(found, sizeof found, "\"%.64s\"", method);
        if (strcmp(method, "bitnet") != 0)
            unsupported(r, "quant_method", found);
        if (norm)
            unsupported(r, "use_rms_norm", "true");
        r->model->ternary = strcmp(mode, "online") == 0 ? INFER_HF_TERNARY_MASTER
                          : strcmp(class, "autobitlinear") == 0 ? INFER_HF_TERNARY_TIMES : INFER_HF_TERNARY_OVER;
    }
    enter(r, outer);
}

/* ---- tokens ---- */

static void add_eos(infer_arch *m, const cJSON *item)
{
    if (cJSON_IsNumber(item) && item->valuedouble >= 0 && item->valuedouble < (double)m->vocab)
        infer_arch_add_eos(m, (uint64_t)item->valuedouble);
}

/* A number, or a list of them. */
static void read_eos(infer_arch *m, const cJSON *object)
{
    const cJSON *eos = cJSON_GetObjectItemCaseSensitive(object, "eos_token_id"), *item;

    add_eos(m, eos);
    if (cJSON_IsArray(eos))
        cJSON_ArrayForEach(item, eos)
            add_eos(m, item);
}

static void read_bos(infer_arch *m, const cJSON *object)
{
    const cJSON *bos = cJSON_GetObjectItemCaseSensitive(object, "bos_token_id");

    if (cJSON_IsNumber(bos) && bos->valuedouble >= 0 && bos->valuedouble < (double)m->vocab)
        m->bos = (uint32_t)bos->valuedouble;
}

/* chat_template.jinja, else the text in tokenizer_config.json, or the one named "default" of several. */
static void read_chat_template(infer_arch *m, const infer_hf_files *f)
{
    const cJSON *found = cJSON_GetObjectItemCaseSensitive(f->tokenizer, "chat_template"), *item;

    if (cJSON_IsArray(found)) {
        const cJSON *list = found;
        found = NULL;
        cJSON_ArrayForEach(item, list)
        {
            const char *name = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(item, "name"));
            if (!found || (name && strcmp(name, "default") == 0))
                found = cJSON_GetObjectItemCaseSensitive(item, "template");
        }
    }
    if (f->chat_template) {
        m->chat_template = f->chat_template;
        m->chat_template_bytes = f->chat_template_bytes;
    } else if (found && cJSON_IsString(found)) {
        m->chat_template = found->valuestring;
        m->chat_template_bytes = strlen(found->valuestring);
    }
}

infer_status infer_hf_model_read(const infer_hf_files *f, const char *path, infer_hf_model *out, infer_error *err)
{
    char what[PATH_MAX + 16];
    infer_hf_model model = {.arch = {.format = "huggingface", .path = path, .gated = true, .bos = INFER_VOCAB_NO_ID}};
    reader r = {{f->config, what, err, INFER_OK}, &model};
    infer_arch *m = &model.arch;
    const cJSON *text = NULL;
    const family *found;

    snprintf(what, sizeof what, "%s/config.json", path);
    if (!(found = find_family(&r.json)))
        return r.json.status;
    text = cJSON_GetObjectItemCaseSensitive(f->config, "text_config"); /* of a model that also sees */
    if (cJSON_IsObject(text))
        r.json.object = text;
    m->architecture = found->architecture;
    model.names = found->names;
    m->tied_head = found->tied;
    read_sizes(&r, found);
    infer_json_bool(&r.json, "tie_word_embeddings", &m->tied_head);
    found->read(&r);
    read_layer_types(&r);
    read_quantization(&r, f->config);
    if (r.json.status != INFER_OK)
        return r.json.status;
    read_bos(m, r.json.object);
    read_bos(m, f->config);
    read_eos(m, r.json.object);
    read_eos(m, f->config);
    read_eos(m, f->generation);
    read_chat_template(m, f);
    infer_arch_trim_window(m);
    *out = model;
    return infer_arch_check(m, err);
}
