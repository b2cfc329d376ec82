#include "model/model.h"

#include <stdio.h>
#include <string.h>

static const infer_architecture architectures[] = {
    {"llama", infer_llama_build, false},
    {"gemma", infer_llama_build, false},
    {"bitnet", infer_llama_build, false},
    {"gpt2", infer_gpt2_build, true},
};

const infer_architecture *infer_architecture_at(size_t i)
{
    return i < sizeof architectures / sizeof *architectures ? &architectures[i] : NULL;
}

infer_status infer_model_weight(const infer_model *model, uint32_t layer, const char *name, uint32_t rows, uint32_t cols, bool matrix,
                                infer_weight *out, infer_error *err)
{
    const char *path = infer_file_path(model->file);
    const infer_tensor_info *t;
    char full[64];
    if (layer == INFER_NONE)
        snprintf(full, sizeof full, "%s", name);
    else
        snprintf(full, sizeof full, "layers.%u.%s", layer, name);
    t = infer_file_find(model->file, full);
    if (!t)
        return infer_fail(err, INFER_ERROR_FORMAT, "%s: tensor %s is missing", path, full);
    if (t->rows != rows || t->cols != cols)
        return infer_fail(err, INFER_ERROR_FORMAT, "%s: tensor %s: found shape %llu x %llu, expected %u x %u", path, full,
                          (unsigned long long)t->rows, (unsigned long long)t->cols, rows, cols);
    if (matrix ? t->layout == INFER_LAYOUT_ROWS : t->layout != INFER_LAYOUT_ROWS || t->type != INFER_QTYPE_F32)
        return infer_fail(err, INFER_ERROR_FORMAT, "%s: tensor %s: found %s in layout %s, expected %s", path, full,
                          infer_qtype_find(t->type)->name, infer_layout_name(t->layout),
                          matrix ? "a layout of matrices" : "f32 in layout rows");
    out->info = t;
    out->data = infer_file_data(model->file, t);
    return infer_file_check_sparse(model->file, t, err);
}

/* ---- hashes ---- */

infer_status infer_model_check(void *user, const infer_tensor_info *t, infer_error *err)
{
    infer_model *model = user;
    _Atomic uint8_t *verified = &model->verified[t - infer_file_tensor(model->file, 0)];
    infer_status s = INFER_OK;
    if (!atomic_load(verified) && (s = infer_file_verify(model->file, t, err)) == INFER_OK)
        atomic_store(verified, 1);
    return s;
}

typedef struct verify_job {
    infer_model *model;
    _Atomic uint32_t next, failed;
    infer_error error;
} verify_job;

static void verify_work(void *arg, uint32_t thread)
{
    verify_job *j = arg;
    size_t count = infer_file_tensor_count(j->model->file), i;
    (void)thread;
    while ((i = atomic_fetch_add(&j->next, 1)) < count && !atomic_load(&j->failed)) {
        infer_error err;
        if (infer_model_check(j->model, infer_file_tensor(j->model->file, i), &err) != INFER_OK && atomic_exchange(&j->failed, 1) == 0)
            j->error = err;
    }
}

static infer_status verify_all(infer_model *model, infer_error *err)
{
    verify_job j = {.model = model};
    infer_pool_run(model->rt->pool, verify_work, &j);
    return atomic_load(&j.failed) ? infer_fail(err, j.error.status, "%s", j.error.message) : INFER_OK;
}

/* ---- open ---- */

static infer_status build_model(infer_model *model, const infer_file_origin *from, infer_error *err)
{
    const char *path = from->name;
    const infer_allocator *a = &model->rt->allocator;
    const uint8_t *vocab;
    size_t vocab_bytes, tensors;
    infer_status s = infer_file_open_from(a, from, &model->file, err);
    if (s != INFER_OK)
        return s;
    if ((s = infer_config_parse(infer_file_metadata(model->file), path, &model->config, err)) != INFER_OK)
        return s;
    if ((s = infer_events_parse(a, infer_file_metadata(model->file), model->file, &model->events, err)) != INFER_OK)
        return s;
    vocab = infer_file_vocab(model->file, &vocab_bytes);
    if (vocab_bytes) {
        if ((s = infer_tokenizer_open(a, vocab, vocab_bytes, path, &model->tokenizer, err)) != INFER_OK)
            return s;
        if (infer_tokenizer_vocab(model->tokenizer)->tokens > model->config.vocab)
            return infer_fail(err, INFER_ERROR_FORMAT, "%s: the tokenizer has %u tokens, the model only %u", path,
                              infer_tokenizer_vocab(model->tokenizer)->tokens, model->config.vocab);
    }
    tensors = infer_file_tensor_count(model->file);
    if (!(model->verified = infer_alloc_zero(a, tensors ? tensors : 1)))
        return infer_fail_memory(err, tensors, "the model");
    for (size_t i = 0; i < tensors; i++) {
        const infer_tensor_info *t = infer_file_tensor(model->file, i);
        model->parameters += t->rows * t->cols;
    }
    infer_graph_init(&model->graph, a);
    model->graph.layers = model->config.layers;
    model->graph.heads = model->config.heads;
    model->graph.kv_heads = model->config.kv_heads;
    model->graph.head_dim = model->config.head_dim;
    model->graph.vocab = model->config.vocab;
    memcpy(model->graph.rope, model->config.rope, sizeof model->graph.rope);
    if ((s = model->config.architecture->build(model, &model->graph, err)) != INFER_OK)
        return s;
    if (model->graph.out_of_memory)
        return infer_fail(err, INFER_ERROR_MEMORY, "%s: out of memory for the graph", path);
    return model->verify == INFER_VERIFY_OPEN ? verify_all(model, err) : INFER_OK;
}

static infer_status open_model(infer_runtime *rt, infer_file_origin from, const infer_model_options *options, infer_model **out,
                               infer_error *err)
{
    infer_model_options o = INFER_MODEL_DEFAULTS;
    infer_model *model;
    infer_status s;
    if (options) {
        if (options->size != sizeof o || (unsigned)options->verify > INFER_VERIFY_NEVER || (unsigned)options->load > INFER_LOAD_GUARD)
            return infer_fail(err, INFER_ERROR_ARGUMENT,
                              "infer_model_open: options: found size %zu, verify %d and load %d, expected size %zu, verify 0..2 "
                              "and load 0..2",
                              options->size, (int)options->verify, (int)options->load, sizeof o);
        o = *options;
    }
    from.copy = o.load == INFER_LOAD_COPY;
    from.guard = o.load == INFER_LOAD_GUARD;
    if (from.data && !from.copy && (uintptr_t)from.data % INFER_FILE_ALIGN)
        return infer_fail(err, INFER_ERROR_ARGUMENT, "infer_model_open_memory: data is not aligned to %u bytes; INFER_LOAD_COPY copies it",
                          INFER_FILE_ALIGN);
    model = infer_alloc_zero(&rt->allocator, sizeof *model);
    if (!model)
        return infer_fail_memory(err, sizeof *model, "the model");
    model->rt = rt;
    model->verify = o.verify;
    s = build_model(model, &from, err);
    if (s != INFER_OK) {
        infer_model_close(model);
        return s;
    }
    infer_log(rt, "model %s: %s, %llu parameters, %llu bytes", from.name, model->config.architecture->name,
              (unsigned long long)model->parameters, (unsigned long long)infer_file_bytes(model->file));
    *out = model;
    return INFER_OK;
}

infer_status infer_model_open(infer_runtime *rt, const char *path, const infer_model_options *options, infer_model **out, infer_error *err)
{
    if (!rt || !path || !out)
        return infer_fail(err, INFER_ERROR_ARGUMENT, "infer_model_open: runtime, path or out is NULL");
    return open_model(rt, (infer_file_origin){.name = path, .fd = -1}, options, out, err);
}

infer_status infer_model_open_fd(infer_runtime *rt, int fd, const infer_model_options *options, infer_model **out, infer_error *err)
{
    char name[32];
    if (!rt || fd < 0 || !out)
        return infer_fail(err, INFER_ERROR_ARGUMENT, "infer_model_open_fd: runtime or out is NULL, or fd is negative");
    snprintf(name, sizeof name, "descriptor %d", fd);
    return open_model(rt, (infer_file_origin){.name = name, .fd = fd}, options, out, err);
}

infer_status infer_model_open_memory(infer_runtime *rt, const void *data, size_t bytes, const infer_model_options *options,
                                     infer_model **out, infer_error *err)
{
    if (!rt || !data || !out)
        return infer_fail(err, INFER_ERROR_ARGUMENT, "infer_model_open_memory: runtime, data or out is NULL");
    return open_model(rt, (infer_file_origin){.name = "memory", .fd = -1, .data = data, .bytes = bytes}, options, out, err);
}

void infer_model_close(infer_model *model)
{
    const infer_allocator *a;
    if (!model)
        return;
    a = &model->rt->allocator;
    infer_graph_free(&model->graph);
    infer_events_free(&model->events, a);
    infer_tokenizer_close(model->tokenizer);
    infer_file_close(model->file);
    infer_free(a, (void *)model->verified);
    infer_free(a, model);
}

uint32_t infer_model_vocab_size(const infer_model *model) { return model->config.vocab; }
uint32_t infer_model_context_length(const infer_model *model) { return model->config.context; }
uint64_t infer_model_parameters(const infer_model *model) { return model->parameters; }
const char *infer_model_metadata(const infer_model *model) { return infer_file_metadata(model->file); }

/* ---- text ---- */

static infer_status need_tokenizer(const infer_model *model, infer_error *err)
{
    return model->tokenizer
               ? INFER_OK
               : infer_fail(err, INFER_ERROR_UNSUPPORTED, "%s: the file has no tokenizer; convert it again with --tokenizer FILE",
                            infer_file_path(model->file));
}

infer_status infer_model_tokenize(const infer_model *model, const char *text, size_t bytes, unsigned flags, int32_t *ids, size_t cap,
                                  size_t *count, infer_error *err)
{
    infer_status s;
    if (!model || (!text && bytes) || (!ids && cap) || !count || flags & ~(INFER_TOKENIZE_BOS | INFER_TOKENIZE_SPECIAL))
        return infer_fail(err, INFER_ERROR_ARGUMENT, "infer_model_tokenize: model, text, ids or count is NULL, or unknown flags %#x",
                          flags);
    s = need_tokenizer(model, err);
    return s != INFER_OK ? s : infer_tokenizer_encode(model->tokenizer, text, bytes, flags, ids, cap, count, err);
}

infer_status infer_model_detokenize(const infer_model *model, const int32_t *ids, size_t n, char *text, size_t cap, size_t *bytes,
                                    infer_error *err)
{
    infer_decoder *decoder = NULL;
    size_t used = 0;
    infer_status s;
    if (!model || (!ids && n) || (!text && cap) || !bytes)
        return infer_fail(err, INFER_ERROR_ARGUMENT, "infer_model_detokenize: model, ids, text or bytes is NULL");
    if ((s = infer_decoder_create(model, &decoder, err)) != INFER_OK)
        return s;
    for (size_t i = 0; i <= n && s == INFER_OK; i++) { /* a flush behind the last one */
        const char *piece;
        size_t size;
        if (i < n && ids[i] < 0)
            s = INFER_ERROR_ARGUMENT;
        else
            s = infer_decoder_push(decoder, i < n ? ids[i] : -1, &piece, &size);
        if (s != INFER_OK) {
            infer_fail(err, s, "infer_model_detokenize: token %zu: found id %d, expected 0..%u", i, i < n ? (int)ids[i] : -1,
                       model->config.vocab - 1);
            break;
        }
        if (size && used <= cap && size <= cap - used)
            memcpy(text + used, piece, size);
        used += size;
    }
    infer_decoder_destroy(decoder);
    if (s != INFER_OK)
        return s;
    *bytes = used;
    return used <= cap ? INFER_OK
                       : infer_fail(err, INFER_ERROR_ARGUMENT, "infer_model_detokenize: found room for %zu bytes, expected %zu", cap, used);
}

const char *infer_model_token_text(const infer_model *model, int32_t id, size_t *bytes)
{
    return model->tokenizer ? infer_tokenizer_token(model->tokenizer, id, bytes) : NULL;
}

int32_t infer_model_token_bos(const infer_model *model) { return model->config.bos; }

int infer_model_token_is_end(const infer_model *model, int32_t id)
{
    for (uint32_t i = 0; i < model->config.eos_count; i++)
        if (model->config.eos[i] == id)
            return 1;
    return 0;
}

/* ---- chat ---- */

const char *infer_chat_template_name(size_t index)
{
    const infer_chat_template *c = infer_chat_template_at(index);
    return c ? infer_chat_template_title(c) : NULL;
}

const char *infer_model_chat_template(const infer_model *model)
{
    return model->config.chat ? infer_chat_template_title(model->config.chat) : NULL;
}

static infer_status find_chat_template(const infer_model *model, const char *name, const infer_chat_template **out, infer_error *err)
{
    *out = name ? infer_chat_template_find(name) : model->config.chat;
    if (*out)
        return INFER_OK;
    if (name)
        return infer_fail(err, INFER_ERROR_ARGUMENT, "chat: unknown template \"%.32s\"", name);
    return infer_fail(err, INFER_ERROR_UNSUPPORTED, "%s: the file has no chat template that is known here; name one",
                      infer_file_path(model->file));
}

infer_status infer_model_tokenize_chat(const infer_model *model, const char *name, const infer_chat_message *messages, size_t n,
                                       int32_t *ids, size_t cap, size_t *count, infer_error *err)
{
    const infer_chat_template *c;
    infer_status s;
    if (!model || (!messages && n) || (!ids && cap) || !count)
        return infer_fail(err, INFER_ERROR_ARGUMENT, "infer_model_tokenize_chat: model, messages, ids or count is NULL");
    if ((s = need_tokenizer(model, err)) != INFER_OK || (s = find_chat_template(model, name, &c, err)) != INFER_OK)
        return s;
    return infer_chat_encode(c, model->tokenizer, &model->rt->allocator, model->config.bos, messages, n, ids, cap, count, err);
}

int32_t infer_model_chat_end(const infer_model *model, const char *name)
{
    const infer_chat_template *c;
    if (!model->tokenizer || find_chat_template(model, name, &c, NULL) != INFER_OK)
        return -1;
    return infer_chat_end(c, model->tokenizer);
}

infer_status infer_decoder_create(const infer_model *model, infer_decoder **out, infer_error *err)
{
    infer_status s =
        !model || !out ? infer_fail(err, INFER_ERROR_ARGUMENT, "infer_decoder_create: model or out is NULL") : need_tokenizer(model, err);
    return s != INFER_OK ? s : infer_decoder_open(&model->rt->allocator, model->tokenizer, out, err);
}

infer_status infer_sampler_create(const infer_model *model, const infer_sampler_options *options, infer_sampler **out, infer_error *err)
{
    if (!model || !out)
        return infer_fail(err, INFER_ERROR_ARGUMENT, "infer_sampler_create: model or out is NULL");
    return infer_sampler_open(&model->rt->allocator, model->config.vocab, options, out, err);
}
