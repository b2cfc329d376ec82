#include "student.h"

#include "import/arch.h"
#include "products.h"
#include "random.h"
#include "ref/mathf.h"
#include "tile16x4.h"

#include "pack/pack.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- shape ---- */

static infer_status parse_shape(const char *text, infer_arch *m, infer_error *err)
{
    struct { const char *name; uint64_t *value, most; } keys[] = {
        {"dim", &m->dim, 8192}, {"layers", &m->layers, 256}, {"heads", &m->heads, 256}, {"kv_heads", &m->kv_heads, 256}, {"ffn", &m->ffn_dim, 65536},
        {"context", &m->context, 65536},
    };
    const size_t count = sizeof keys / sizeof *keys;
    const char *at = text;

    while (*at) {
        size_t i = 0, name = strcspn(at, "=,");
        char *end;
        unsigned long long value;
        while (i < count && (strlen(keys[i].name) != name || strncmp(at, keys[i].name, name) != 0))
            i++;
        if (i == count || at[name] != '=' || at[name + 1] < '0' || at[name + 1] > '9')
            return infer_fail(err, INFER_ERROR_ARGUMENT, "student's shape \"%s\": found \"%s\", expected dim=, layers=, heads=, kv_heads=, ffn= or context= "
                              "and a number, with commas between them", text, at);
        value = strtoull(at + name + 1, &end, 10);
        if (value < 1 || value > keys[i].most || (*end && *end != ','))
            return infer_fail(err, INFER_ERROR_ARGUMENT, "student's shape \"%s\": %s: expected a number in 1..%" PRIu64, text, keys[i].name, keys[i].most);
        *keys[i].value = value;
        at = *end ? end + 1 : end;
    }
    if (!m->dim || !m->layers)
        return infer_fail(err, INFER_ERROR_ARGUMENT, "student's shape \"%s\": it needs dim= and layers=", text);
    if (!m->heads)
        m->heads = m->dim >= 32 ? m->dim / 32 : 1;
    if (!m->kv_heads)
        m->kv_heads = m->heads;
    if (!m->ffn_dim)
        m->ffn_dim = (m->dim * 8 / 3 + 31) / 32 * 32;
    if (m->dim % m->heads || m->heads % m->kv_heads || m->dim / m->heads % 2)
        return infer_fail(err, INFER_ERROR_ARGUMENT, "student's shape \"%s\": dim must be an even multiple of heads, and heads a multiple of kv_heads", text);
    return INFER_OK;
}

/* ---- tensors ---- */

static size_t find(const distill_student *s, uint32_t layer, const char *name)
{
    char full[64];
    size_t i = 0;
    if (layer == INFER_NONE)
        snprintf(full, sizeof full, "%s", name);
    else
        snprintf(full, sizeof full, "layers.%" PRIu32 ".%s", layer, name);
    while (i < s->tensor_count && strcmp(s->tensors[i].info.name, full) != 0)
        i++;
    return i;
}

/* Tensor `name` with its shape checked. */
static infer_status find_shape(const distill_student *s, uint32_t layer, const char *name, uint64_t rows, uint64_t cols, bool matrix, size_t *out,
                               infer_error *err)
{
    const distill_tensor *t;
    size_t i = find(s, layer, name);
    if (i == s->tensor_count)
        return infer_fail(err, INFER_ERROR_FORMAT, "student: tensor %s of layer %d is missing", name, (int)layer);
    t = &s->tensors[i];
    if (t->info.rows != rows || t->info.cols != cols || t->info.matrix != matrix)
        return infer_fail(err, INFER_ERROR_FORMAT, "student: tensor %s: found %" PRIu64 " x %" PRIu64 ", expected %s of %" PRIu64 " x %" PRIu64,
                          t->info.name, t->info.rows, t->info.cols, matrix ? "a matrix" : "a vector", rows, cols);
    *out = i;
    return INFER_OK;
}

static infer_status find_tensors(distill_student *s, infer_error *err)
{
    const infer_config *c = &s->config;
    uint32_t q = c->heads * c->head_dim, kv = c->kv_heads * c->head_dim;
    infer_status status;

    s->layers = infer_alloc_array(NULL, c->layers, sizeof *s->layers);
    if (!s->layers)
        return infer_fail_memory(err, c->layers * sizeof *s->layers, "layers");
    if ((status = find_shape(s, INFER_NONE, "tok_embed", c->vocab, c->dim, true, &s->tok_embed, err)) != INFER_OK ||
        (status = find_shape(s, INFER_NONE, "out_norm", 1, c->dim, false, &s->out_norm, err)) != INFER_OK)
        return status;
    s->head = s->tok_embed;
    if (!c->tied_head && (status = find_shape(s, INFER_NONE, "head", c->vocab, c->dim, true, &s->head, err)) != INFER_OK)
        return status;
    for (uint32_t l = 0; l < c->layers; l++) {
        distill_layer *y = &s->layers[l];
        if ((status = find_shape(s, l, "attn_norm", 1, c->dim, false, &y->attn_norm, err)) != INFER_OK ||
            (status = find_shape(s, l, "q", q, c->dim, true, &y->q, err)) != INFER_OK ||
            (status = find_shape(s, l, "k", kv, c->dim, true, &y->k, err)) != INFER_OK ||
            (status = find_shape(s, l, "v", kv, c->dim, true, &y->v, err)) != INFER_OK ||
            (status = find_shape(s, l, "o", c->dim, q, true, &y->o, err)) != INFER_OK ||
            (status = find_shape(s, l, "ffn_norm", 1, c->dim, false, &y->ffn_norm, err)) != INFER_OK ||
            (status = find_shape(s, l, "gate", c->ffn_dim, c->dim, true, &y->gate, err)) != INFER_OK ||
            (status = find_shape(s, l, "up", c->ffn_dim, c->dim, true, &y->up, err)) != INFER_OK ||
            (status = find_shape(s, l, "down", c->dim, c->ffn_dim, true, &y->down, err)) != INFER_OK)
            return status;
        if (c->sub_norms && ((status = find_shape(s, l, "attn_sub_norm", 1, q, false, &y->attn_sub_norm, err)) != INFER_OK ||
                             (status = find_shape(s, l, "ffn_sub_norm", 1, c->ffn_dim, false, &y->ffn_sub_norm, err)) != INFER_OK))
            return status;
    }
    return INFER_OK;
}

/* Parts of a forward pass that train.c does not have. */
static infer_status check_config(const infer_config *c, infer_error *err)
{
    const char *lacks = c->qkv_bias                                  ? "biases of q, k and v"
                        : c->qk_norm                                 ? "norms of q and k"
                        : c->post_norms                              ? "norms behind attention"
                        : c->activation != INFER_ACTIVATION_SILU     ? "an activation that is not SiLU"
                        : c->window                                  ? "sliding windows"
                        : c->attention_softcap || c->logit_softcap   ? "soft caps"
                        : c->architecture->build != infer_llama_build ? "another architecture than Llama's"
                        : c->embed_scale != 0 && c->embed_scale != 1 ? "scaled embeddings"
                                                                     : NULL;
    return lacks ? infer_fail(err, INFER_ERROR_UNSUPPORTED, "student: it has %s, which cannot be trained", lacks) : INFER_OK;
}

/* Where each tensor lies, and memory. */
static infer_status lay_out(distill_student *s, infer_error *err)
{
    bool own = false;
    s->infos = infer_alloc_array(NULL, s->tensor_count, sizeof *s->infos);
    if (!s->infos)
        return infer_fail_memory(err, s->tensor_count * sizeof *s->infos, "tensors");
    for (size_t i = 0; i < s->tensor_count; i++) {
        distill_tensor *t = &s->tensors[i];
        s->infos[i] = t->info;
        t->weights = (size_t)(t->info.rows * t->info.cols);
        t->params = t->kind == DISTILL_FIXED ? 0 : t->kind == DISTILL_SCALES ? (size_t)t->info.rows * infer_ceil_div(t->info.cols, t->group) : t->weights;
        own = own || t->kind != DISTILL_FREE;
        t->weight = s->weights;
        t->param = s->params;
        s->weights += infer_round_up(t->weights, 16);
        s->params += infer_round_up(t->params, 16);
        t->packed = s->packed_size;
        if (t->info.matrix) {
            size_t a = distill_packed_size(t->info.rows, t->info.cols), b = distill_packed_size(t->info.cols, t->info.rows);
            s->packed_size += a > b ? a : b;
        }
    }
    s->weight = infer_alloc_array(NULL, s->weights, sizeof(float));
    s->param = own ? infer_alloc_array(NULL, s->params, sizeof(float)) : s->weight;
    s->packed = infer_alloc_array(NULL, s->packed_size, sizeof(float));
    s->packed_back = infer_alloc_array(NULL, s->packed_size, sizeof(float));
    if (!s->weight || !s->param || !s->packed || !s->packed_back)
        return infer_fail_memory(err, (2 * s->packed_size + s->weights + s->params) * sizeof(float), "the student");
    return INFER_OK;
}

void distill_student_free(distill_student *s)
{
    if (s->param != s->weight)
        infer_free(NULL, s->param);
    infer_free(NULL, s->weight);
    infer_free(NULL, s->packed);
    infer_free(NULL, s->packed_back);
    infer_free(NULL, s->layers);
    for (size_t i = 0; i < s->tensor_count; i++) {
        infer_free(NULL, s->tensors[i].codes);
        infer_free(NULL, s->tensors[i].scales);
        infer_free(NULL, s->tensors[i].pruned);
    }
    infer_free(NULL, s->tensors);
    infer_free(NULL, s->infos);
    infer_free(NULL, s->metadata);
    infer_free(NULL, s->vocab);
    *s = (distill_student){0};
}

static infer_status copy(const void *data, size_t bytes, void *out, const char *what, infer_error *err)
{
    void *p = bytes ? infer_alloc(NULL, bytes) : NULL;
    if (bytes && !p)
        return infer_fail_memory(err, bytes, what);
    if (bytes)
        memcpy(p, data, bytes);
    memcpy(out, &p, sizeof p);
    return INFER_OK;
}

/* ---- a new one ---- */

/* Matrices: normal numbers of variance 1 / (3 inputs), and what is added to the residual stream smaller with the number of layers; embeddings 0.02. */
static void draw(distill_student *s, uint64_t seed)
{
    for (size_t i = 0; i < s->tensor_count; i++) {
        const distill_tensor *t = &s->tensors[i];
        const char *name = strrchr(t->info.name, '.');
        double scale = sqrt(1.0 / (3.0 * (double)t->info.cols));
        if (!name)
            scale = 0.02;
        else if (strcmp(name, ".o") == 0 || strcmp(name, ".down") == 0)
            scale /= sqrt(2.0 * s->config.layers);
        for (size_t j = 0; j < t->weights; j++)
            s->weight[t->weight + j] = t->info.matrix ? (float)(scale * distill_normal(distill_mix(seed, i), j)) : 1.0f;
    }
}

static void refresh_all(distill_student *s)
{
    for (size_t i = 0; i < s->tensor_count; i++)
        distill_student_refresh(s, i);
}

infer_status distill_student_create(const char *shape, const infer_model *teacher, uint64_t seed, distill_student *out, infer_error *err)
{
    const infer_config *c = &teacher->config;
    distill_student s = {0};
    infer_arch m = {.format = "distilled", .path = "infer-distill", .name = "pupil", .name_bytes = 5, .architecture = "llama", .gated = true,
                    .vocab = c->vocab, .context = c->context, .norm_eps = 1e-5, .tied_head = true, .rope = {.theta = 10000},
                    .bos = c->bos < 0 ? INFER_VOCAB_NO_ID : (uint32_t)c->bos};
    infer_source_tensor *tensors = NULL;
    infer_slot *slots = NULL;
    const void *vocab;
    infer_status status;

    for (uint32_t i = 0; i < c->eos_count; i++)
        infer_arch_add_eos(&m, (uint64_t)c->eos[i]);
    if ((status = parse_shape(shape, &m, err)) != INFER_OK)
        return status;
    m.head_dim = m.rope.dim = m.dim / m.heads;
    if ((status = infer_arch_check(&m, err)) != INFER_OK || (status = infer_arch_tensors(NULL, &m, &tensors, &slots, &s.tensor_count, err)) != INFER_OK)
        return status;
    vocab = infer_file_vocab(teacher->file, &s.vocab_bytes);
    s.tensors = infer_alloc_array(NULL, s.tensor_count, sizeof *s.tensors);
    if (!s.tensors)
        status = infer_fail_memory(err, s.tensor_count * sizeof *s.tensors, "tensors");
    for (size_t i = 0; s.tensors && i < s.tensor_count; i++)
        s.tensors[i].info = tensors[i];
    if (!s.tensors)
        s.tensor_count = 0;
    if (status == INFER_OK && (status = infer_arch_metadata(NULL, &m, &s.metadata, err)) == INFER_OK &&
        (status = infer_config_parse(s.metadata, "student", &s.config, err)) == INFER_OK &&
        (status = copy(vocab, s.vocab_bytes, &s.vocab, "tokenizer", err)) == INFER_OK && (status = find_tensors(&s, err)) == INFER_OK &&
        (status = lay_out(&s, err)) == INFER_OK)
        draw(&s, seed);
    infer_free(NULL, tensors);
    infer_free(NULL, slots);
    if (status != INFER_OK) {
        distill_student_free(&s);
        return status;
    }
    refresh_all(&s);
    *out = s;
    return INFER_OK;
}

/* ---- from a file ---- */

/* What a code stands for, in units of the scale. */
static float code_value(infer_qtype type, int32_t code) { return (float)(type == INFER_QTYPE_N4G32 ? infer_n4_values[code + 8] : code); }

static infer_status read_grid(const infer_source *source, size_t index, distill_tensor *t, const float *weights, bool whole_blocks, infer_error *err)
{
    uint64_t rows = t->info.rows, cols = t->info.cols;
    size_t groups;
    infer_status status = INFER_OK;

    t->group = t->info.stored == INFER_QTYPE_T2R ? (uint32_t)cols : 32;
    groups = infer_ceil_div(cols, t->group);
    t->codes = infer_alloc_array(NULL, (size_t)(rows * cols), 1);
    t->pruned = infer_alloc_array(NULL, (size_t)(rows * cols), 1);
    t->scales = infer_alloc_array(NULL, (size_t)rows * groups, sizeof *t->scales);
    if (!t->codes || !t->pruned || !t->scales)
        return infer_fail_memory(err, (size_t)(rows * cols) * 2, "codes");
    if (t->info.stored == INFER_QTYPE_T2R) {
        for (uint64_t r = 0; r < rows; r++) {
            float s = 0;
            for (uint64_t c = 0; c < cols; c++)
                s = fmaxf(s, fabsf(weights[r * cols + c]));
            t->scales[r] = s;
            for (uint64_t c = 0; c < cols; c++)
                t->codes[r * cols + c] = (int8_t)((weights[r * cols + c] > 0) - (weights[r * cols + c] < 0));
        }
    } else {
        uint16_t *scales = infer_alloc_array(NULL, (size_t)rows * groups, sizeof *scales);
        if (!scales)
            return infer_fail_memory(err, (size_t)rows * groups * sizeof *scales, "scales");
        status = source->importer->read_codes(source, index, 0, rows, t->codes, scales, err);
        for (size_t i = 0; i < (size_t)rows * groups; i++)
            t->scales[i] = infer_ref_f16_to_f32(scales[i]);
        infer_free(NULL, scales);
    }
    for (uint64_t p = 0; p < rows; p += INFER_TILE_ROWS)
        for (uint64_t c = 0; c < cols; c++) {
            uint64_t end = p + INFER_TILE_ROWS < rows ? p + INFER_TILE_ROWS : rows;
            bool block = true;
            for (uint64_t r = p; r < end; r++)
                block = block && weights[r * cols + c] == 0;
            for (uint64_t r = p; r < end; r++)
                t->pruned[r * cols + c] = whole_blocks ? block : weights[r * cols + c] == 0;
        }
    return status;
}

static bool has_grid(infer_qtype type)
{
    int32_t low, high;
    return type == INFER_QTYPE_T2R || infer_code_range(type, &low, &high);
}

static infer_status read_tensors(const infer_source *source, distill_recovery recovery, bool whole_blocks, distill_student *s, infer_error *err)
{
    infer_status status = INFER_OK;

    for (size_t i = 0; i < s->tensor_count && status == INFER_OK; i++) {
        distill_tensor *t = &s->tensors[i];
        float *w = s->weight + t->weight;
        for (uint64_t row = 0; row < t->info.rows && status == INFER_OK; row += INFER_TILE_ROWS) {
            uint64_t n = t->info.rows - row < INFER_TILE_ROWS ? t->info.rows - row : INFER_TILE_ROWS;
            status = source->importer->read_f32(source, i, row, n, w + row * t->info.cols, err);
        }
        if (status == INFER_OK && recovery != DISTILL_RECOVER_NONE && has_grid(t->info.stored))
            status = read_grid(source, i, t, w, whole_blocks, err);
        if (status != INFER_OK || s->param == s->weight)
            continue;
        if (t->kind == DISTILL_SCALES)
            memcpy(s->param + t->param, t->scales, t->params * sizeof(float));
        else if (t->kind != DISTILL_FIXED)
            memcpy(s->param + t->param, w, t->weights * sizeof(float));
    }
    return status;
}

infer_status distill_student_open(const char *path, distill_recovery recovery, bool whole_blocks, distill_student *out, infer_error *err)
{
    distill_student s = {0};
    infer_source source;
    bool grid = false;
    infer_status status = infer_source_open(NULL, path, NULL, &source, err);

    if (status != INFER_OK)
        return status;
    if ((status = copy(source.metadata, strlen(source.metadata) + 1, &s.metadata, "metadata", err)) != INFER_OK ||
        (status = copy(source.vocab, source.vocab_bytes, &s.vocab, "tokenizer", err)) != INFER_OK)
        goto end;
    s.vocab_bytes = source.vocab_bytes;
    s.tensors = infer_alloc_array(NULL, source.tensor_count, sizeof *s.tensors);
    if (!s.tensors) {
        status = infer_fail_memory(err, source.tensor_count * sizeof *s.tensors, "tensors");
        goto end;
    }
    s.tensor_count = source.tensor_count;
    for (size_t i = 0; i < s.tensor_count; i++) {
        distill_tensor *t = &s.tensors[i];
        bool codes = has_grid(source.tensors[i].stored);
        t->info = source.tensors[i];
        t->group = t->info.stored == INFER_QTYPE_T2R ? (uint32_t)t->info.cols : 32;
        if (t->info.matrix && recovery != DISTILL_RECOVER_NONE) {
            t->kind = !codes ? DISTILL_FIXED : recovery == DISTILL_RECOVER_CODES ? DISTILL_CODES : DISTILL_SCALES;
            grid = grid || codes;
        } else {
            t->info.stored = INFER_QTYPE_F32;
        }
    }
    if (recovery != DISTILL_RECOVER_NONE && !grid) {
        status = infer_fail(err, INFER_ERROR_UNSUPPORTED, "%s: nothing to recover: no matrix is stored as codes and scales", path);
        goto end;
    }
    if ((status = infer_config_parse(s.metadata, path, &s.config, err)) == INFER_OK && (status = check_config(&s.config, err)) == INFER_OK &&
        (status = find_tensors(&s, err)) == INFER_OK && (status = lay_out(&s, err)) == INFER_OK)
        status = read_tensors(&source, recovery, whole_blocks, &s, err);
end:
    infer_source_close(&source);
    if (status != INFER_OK) {
        distill_student_free(&s);
        return status;
    }
    refresh_all(&s);
    *out = s;
    return INFER_OK;
}

/* ---- parameters and weights ---- */

/* The code on the tensor's grid that is nearest to w / scale. */
static int8_t nearest(infer_qtype type, float w, float scale)
{
    int32_t low = -1, high = 1;
    float x;

    if (scale == 0)
        return 0;
    x = w / scale;
    if (type == INFER_QTYPE_N4G32) {
        int32_t best = 0;
        for (int32_t c = 1; c < 16; c++)
            if (fabsf(x - (float)infer_n4_values[c]) < fabsf(x - (float)infer_n4_values[best]))
                best = c;
        return (int8_t)(best - 8);
    }
    infer_code_range(type, &low, &high);
    x = rintf(x);
    return (int8_t)(x < (float)low ? low : x > (float)high ? high : (int32_t)x);
}

/* Scales are stored as fp16, but those of t2r. */
static float stored_scale(infer_qtype type, float scale)
{
    return type == INFER_QTYPE_T2R ? scale : infer_ref_f16_to_f32(infer_ref_f32_to_f16(scale));
}

void distill_student_refresh(distill_student *s, size_t index)
{
    distill_tensor *t = &s->tensors[index];
    uint32_t rows = (uint32_t)t->info.rows, cols = (uint32_t)t->info.cols;
    float *w = s->weight + t->weight, *p = s->param + t->param;

    if (t->kind == DISTILL_CODES || t->kind == DISTILL_SCALES) {
        size_t groups = infer_ceil_div(cols, t->group);
        for (size_t r = 0; r < rows; r++)
            for (size_t c = 0; c < cols; c++) {
                size_t at = r * cols + c, g = r * groups + c / t->group;
                float scale = t->kind == DISTILL_SCALES ? stored_scale(t->info.stored, p[g]) : t->scales[g];
                if (t->kind == DISTILL_CODES)
                    t->codes[at] = t->pruned[at] ? 0 : nearest(t->info.stored, p[at], scale);
                w[at] = t->codes[at] ? code_value(t->info.stored, t->codes[at]) * scale : 0; /* no -0 */
            }
    } else if (t->kind == DISTILL_FREE && p != w) {
        memcpy(w, p, t->weights * sizeof *w);
    }
    if (t->info.matrix) {
        distill_pack(w, cols, rows, cols, s->packed + t->packed);
        distill_pack_columns(w, cols, cols, rows, s->packed_back + t->packed);
    }
}

void distill_student_pull_back(const distill_student *s, size_t index, const float *dweight, float *dparam)
{
    const distill_tensor *t = &s->tensors[index];
    size_t cols = (size_t)t->info.cols, groups = infer_ceil_div(cols, t->group ? t->group : 1);
    const float *dw = dweight + t->weight;
    float *dp = dparam + t->param;

    switch (t->kind) {
    case DISTILL_FREE:
        if (dp != dw)
            memcpy(dp, dw, t->weights * sizeof *dp);
        break;
    case DISTILL_CODES: /* straight through the rounding (Bengio et al. 2013, arXiv:1308.3432) */
        for (size_t i = 0; i < t->weights; i++)
            dp[i] = t->pruned[i] ? 0 : dw[i];
        break;
    case DISTILL_SCALES:
        for (size_t g = 0; g < t->params; g++) {
            size_t r = g / groups, c0 = g % groups * t->group, c1 = c0 + t->group < cols ? c0 + t->group : cols;
            float sum = 0;
            for (size_t c = c0; c < c1; c++)
                sum += dw[r * cols + c] * code_value(t->info.stored, t->codes[r * cols + c]);
            dp[g] = sum;
        }
        break;
    case DISTILL_FIXED:
        break;
    }
}

/* ---- as a source ---- */

static infer_status read_f32(const infer_source *source, size_t index, uint64_t row, uint64_t n, float *out, infer_error *err)
{
    const distill_student *s = source->state;
    const distill_tensor *t = &s->tensors[index];
    infer_status status = infer_source_check_rows(source, index, row, n, err);
    if (status == INFER_OK)
        memcpy(out, s->weight + t->weight + row * t->info.cols, (size_t)(n * t->info.cols) * sizeof *out);
    return status;
}

static infer_status read_codes(const infer_source *source, size_t index, uint64_t row, uint64_t n, int8_t *codes, uint16_t *scales, infer_error *err)
{
    const distill_student *s = source->state;
    const distill_tensor *t = &s->tensors[index];
    size_t cols = (size_t)t->info.cols, groups = infer_ceil_div(cols, 32);
    const float *from = t->kind == DISTILL_SCALES ? s->param + t->param : t->scales;
    infer_status status = infer_source_check_rows(source, index, row, n, err);

    if (status != INFER_OK)
        return status;
    memcpy(codes, t->codes + row * cols, (size_t)n * cols);
    for (size_t i = 0; i < n * groups; i++)
        scales[i] = infer_ref_f32_to_f16(from[row * groups + i]);
    return INFER_OK;
}

static const infer_importer importer = {.name = "student", .description = "a model in training", .read_f32 = read_f32, .read_codes = read_codes};

void distill_student_source(const distill_student *s, infer_source *out)
{
    *out = (infer_source){.metadata = s->metadata, .vocab = s->vocab, .vocab_bytes = s->vocab_bytes, .tensor_count = s->tensor_count,
                          .tensors = s->infos, .state = (void *)(uintptr_t)s, .importer = &importer};
}
