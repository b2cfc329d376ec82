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

#define MAX_CONFIG (4u << 20)
#define MAX_TOKENIZER_CONFIG (32u << 20) /* lists every added token */

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

    if ((s = infer_json_read(folder, "config.json", MAX_CONFIG, false, &f.config, err)) != INFER_OK ||
        (s = infer_json_read(folder, "generation_config.json", MAX_CONFIG, true, &f.generation, err)) != INFER_OK ||
        (s = infer_json_read(folder, "tokenizer_config.json", MAX_TOKENIZER_CONFIG, true, &f.tokenizer, err)) != INFER_OK ||
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

typedef struct family {
    const char *class;        /* in "architectures" */
    const char *architecture; /* ours */
    const infer_name_style *names;
    bool tied;                /* unless tie_word_embeddings says otherwise */
    void (*read)(reader *r);  /* what only this family has */
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

static void read_window(reader *r, uint64_t global_every)
{
    infer_arch *m = &r->model->arch;
    infer_json_uint(&r->json, "sliding_window", false, UINT32_MAX, &m->window);
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
    bool windows = false;
    infer_json_bool(&r->json, "use_sliding_window", &windows);
    if (windows) {
        uint64_t first = 0; /* layers from max_window_layers on have a window */
        infer_json_uint(&r->json, "max_window_layers", false, UINT32_MAX, &first);
        if (first == 0)
            read_window(r, 0);
        else if (first < r->model->arch.layers)
            unsupported(r, "max_window_layers", "a window in the upper layers only");
    }
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
    if (cJSON_IsNull(cJSON_GetObjectItemCaseSensitive(r->json.object, "attn_logit_softcapping")))
        m->attention_softcap = 0;
    if (cJSON_IsNull(cJSON_GetObjectItemCaseSensitive(r->json.object, "final_logit_softcapping")))
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
    m->global_every = m->window ? pattern : 0;
    m->rope.local_theta = 10000;
    infer_json_float(&r->json, "rope_local_base_freq", false, &m->rope.local_theta);
}

static void read_gpt2(reader *r)
{
    r->model->arch.biased = true;
    r->model->arch.gated = false;
    r->model->arch.activation = "gelu_tanh";
    must_be_off(r, "scale_attn_by_inverse_layer_idx");
}

static void read_bitnet(reader *r) { r->model->arch.sub_norms = true; }

static const family families[] = {
    {"LlamaForCausalLM", "llama", &infer_names_hf, false, read_llama},
    {"MistralForCausalLM", "llama", &infer_names_hf, false, read_mistral},
    {"Qwen2ForCausalLM", "llama", &infer_names_hf, false, read_qwen2},
    {"Qwen3ForCausalLM", "llama", &infer_names_hf, false, read_qwen3},
    {"Phi3ForCausalLM", "llama", &infer_names_hf_phi3, false, read_mistral},
    {"GemmaForCausalLM", "gemma", &infer_names_hf, true, read_gemma},
    {"Gemma2ForCausalLM", "gemma", &infer_names_hf_gemma2, true, read_gemma2},
    {"Gemma3ForCausalLM", "gemma", &infer_names_hf_gemma2, true, read_gemma3},
    {"Gemma3ForConditionalGeneration", "gemma", &infer_names_hf_gemma2, true, read_gemma3},
    {"GPT2LMHeadModel", "gpt2", &infer_names_hf_gpt2, true, read_gpt2},
    {"BitNetForCausalLM", "bitnet", &infer_names_hf, true, read_bitnet},
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

static void read_factors(reader *r, const cJSON *scaling)
{
    infer_arch *m = &r->model->arch;
    const cJSON *list = cJSON_GetObjectItemCaseSensitive(scaling, "short_factor"), *item;
    infer_json j = {scaling, r->json.what, r->json.err, r->json.status};
    double ratio, magnitude;
    uint64_t original = 0;

    m->rope.scaling = INFER_IMPORT_ROPE_FACTORS;
    cJSON_ArrayForEach(item, list)
        if (m->rope.factor_count < INFER_IMPORT_MAX_FACTORS)
            m->rope.factors[m->rope.factor_count++] = cJSON_IsNumber(item) ? item->valuedouble : 0;
    infer_json_uint(&r->json, "original_max_position_embeddings", false, INT32_MAX, &original);
    infer_json_uint(&j, "original_max_position_embeddings", false, INT32_MAX, &original);
    r->json.status = r->json.status == INFER_OK ? j.status : r->json.status;
    if (original < 2)
        unsupported(r, "original_max_position_embeddings", "a rotary scaling longrope without it");
    if (r->json.status != INFER_OK)
        return;
    /* Two sets of factors: one up to the original context, one beyond it. Sessions would have to know beforehand how long they get, so this is the first
     * one's context. The magnitude is the same for both. */
    ratio = (double)m->context / (double)original;
    magnitude = ratio <= 1 ? 1 : sqrt(1 + log(ratio) / log((double)original));
    infer_json_float(&j, "attention_factor", false, &magnitude);
    m->rope.magnitude = magnitude;
    m->context = original < m->context ? original : m->context;
}

static void read_rope_scaling(reader *r)
{
    const cJSON *scaling = infer_json_find(&r->json, "rope_scaling");
    infer_arch *m = &r->model->arch;
    infer_json j = {scaling, r->json.what, r->json.err, r->json.status};
    const char *type = NULL;

    if (!scaling)
        return;
    infer_json_string(&j, "rope_type", false, &type);
    if (!type)
        infer_json_string(&j, "type", true, &type);
    if (type && strcmp(type, "linear") == 0) {
        m->rope.scaling = INFER_IMPORT_ROPE_LINEAR;
        infer_json_float(&j, "factor", true, &m->rope.factor);
    } else if (type && strcmp(type, "llama3") == 0) {
        m->rope.scaling = INFER_IMPORT_ROPE_LLAMA3;
        infer_json_float(&j, "factor", true, &m->rope.factor);
        infer_json_float(&j, "low_freq_factor", true, &m->rope.low_freq_factor);
        infer_json_float(&j, "high_freq_factor", true, &m->rope.high_freq_factor);
        infer_json_uint(&j, "original_max_position_embeddings", true, INT32_MAX, &m->rope.original_context);
    } else if (type && (strcmp(type, "longrope") == 0 || strcmp(type, "su") == 0)) {
        read_factors(r, scaling);
    } else if (type && strcmp(type, "default") != 0) {
        char found[80];
        snprintf(found, sizeof found, "\"%.64s\"", type);
        unsupported(r, "rope_scaling", found);
    }
    r->json.status = r->json.status == INFER_OK ? j.status : r->json.status;
}

static void read_rope(reader *r)
{
    infer_arch *m = &r->model->arch;
    double part = 1;

    m->rope.halves = true;
    m->rope.theta = 10000;
    infer_json_float(&r->json, "rope_theta", false, &m->rope.theta);
    infer_json_float(&r->json, "partial_rotary_factor", false, &part);
    if (!(part > 0 && part <= 1)) {
        unsupported(r, "partial_rotary_factor", "a number outside of 0 to 1");
        part = 1;
    }
    m->rope.dim = (uint64_t)((double)m->head_dim * part);
    read_rope_scaling(r);
}

/* ---- sizes ---- */

static void read_activation(reader *r)
{
    static const char *const names[][2] = {
        {"silu", NULL},           {"swish", NULL},          {"gelu_pytorch_tanh", "gelu_tanh"}, {"gelu_new", "gelu_tanh"},
        {"gelu_fast", "gelu_tanh"}, {"gelu", "gelu"},       {"relu2", "relu2"},
    };
    const char *found = NULL;
    char quoted[80];

    infer_json_string(&r->json, "hidden_act", false, &found);
    infer_json_string(&r->json, "hidden_activation", false, &found);
    if (!found)
        return;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (strcmp(found, names[i][0]) == 0) {
            r->model->arch.activation = names[i][1];
            return;
        }
    snprintf(quoted, sizeof quoted, "\"%.64s\"", found);
    unsupported(r, "hidden_act", quoted);
}

static void read_sizes(reader *r, const family *f)
{
    infer_arch *m = &r->model->arch;
    infer_json *j = &r->json;

    m->norm_eps = 1e-6;
    m->context = 2048;
    infer_json_uint(j, "vocab_size", true, INFER_VOCAB_MAX_TOKENS, &m->vocab);
    if (f->read == read_gpt2) {
        m->norm_eps = 1e-5;
        m->context = 1024;
        infer_json_uint(j, "n_embd", true, INFER_FILE_MAX_DIM, &m->dim);
        infer_json_uint(j, "n_layer", true, INFER_IMPORT_MAX_LAYERS, &m->layers);
        infer_json_uint(j, "n_head", true, 65536, &m->heads);
        m->kv_heads = m->heads;
        m->ffn_dim = 4 * m->dim;
        infer_json_uint(j, "n_inner", false, INFER_FILE_MAX_DIM, &m->ffn_dim);
        infer_json_uint(j, "n_ctx", false, INT32_MAX, &m->context);
        infer_json_uint(j, "n_positions", false, INT32_MAX, &m->context);
        infer_json_float(j, "layer_norm_epsilon", false, &m->norm_eps);
        m->head_dim = m->heads ? m->dim / m->heads : 0;
        return;
    }
    infer_json_uint(j, "hidden_size", true, INFER_FILE_MAX_DIM, &m->dim);
    infer_json_uint(j, "num_hidden_layers", true, INFER_IMPORT_MAX_LAYERS, &m->layers);
    infer_json_uint(j, "num_attention_heads", true, 65536, &m->heads);
    m->kv_heads = m->heads;
    infer_json_uint(j, "num_key_value_heads", false, 65536, &m->kv_heads);
    infer_json_uint(j, "intermediate_size", true, INFER_FILE_MAX_DIM, &m->ffn_dim);
    infer_json_uint(j, "max_position_embeddings", false, INT32_MAX, &m->context);
    infer_json_float(j, "rms_norm_eps", false, &m->norm_eps);
    m->head_dim = m->heads ? m->dim / m->heads : 0;
    infer_json_uint(j, "head_dim", false, 65536, &m->head_dim);
    read_activation(r);
    read_rope(r);
}

/* ---- tokens ---- */

/* A number, or a list of them. */
static void read_eos(infer_arch *m, const cJSON *object)
{
    const cJSON *eos = cJSON_GetObjectItemCaseSensitive(object, "eos_token_id"), *item;

    if (cJSON_IsNumber(eos) && eos->valuedouble >= 0)
        infer_arch_add_eos(m, (uint64_t)eos->valuedouble);
    if (cJSON_IsArray(eos))
        cJSON_ArrayForEach(item, eos)
            if (cJSON_IsNumber(item) && item->valuedouble >= 0)
                infer_arch_add_eos(m, (uint64_t)item->valuedouble);
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
    } else if (cJSON_IsString(found)) {
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
    if (r.json.status != INFER_OK)
        return r.json.status;
    read_bos(m, r.json.object);
    read_bos(m, f->config);
    read_eos(m, r.json.object);
    read_eos(m, f->config);
    read_eos(m, f->generation);
    read_chat_template(m, f);
    if (m->window >= m->context)
        m->window = m->global_every = 0; /* never felt */
    *out = model;
    return infer_arch_check(m, err);
}
