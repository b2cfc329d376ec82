/* Hugging Face folders (config.json, safetensors, tokenizer.json), or one .safetensors file with the other files beside it. */
#include "import/hf_config.h"
#include "import/import.h"
#include "import/safetensors.h"
#include "import/vocab/tokenizers.h"

#include "bytes.h"
#include "vocab.h"

#include <inttypes.h>
#include <limits.h>
#include <math.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

typedef struct part {
    infer_safetensor *tensor;
    uint64_t first_row;
    bool transposed;
    float scale; /* of ternary numbers; 0: others */
} part;

typedef struct hf_state {
    infer_safetensors tensors;
    part *parts;      /* of each of ours */
    infer_slot *slots;
    bool norm_plus_one;
} hf_state;

static bool is_folder(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

static int probe(const char *path, const uint8_t *head, size_t bytes)
{
    size_t n = strlen(path);
    (void)head, (void)bytes;
    return is_folder(path) || (n > 12 && strcasecmp(path + n - 12, ".safetensors") == 0);
}

/* The folder of a path, which may be the folder itself, without its last slashes. False: too long. */
static bool folder_of(const char *path, char out[PATH_MAX])
{
    const char *slash = strrchr(path, '/');
    bool folder = is_folder(path);
    int n = folder ? snprintf(out, PATH_MAX, "%s", path) : slash ? snprintf(out, PATH_MAX, "%.*s", (int)(slash - path), path) : snprintf(out, PATH_MAX, ".");

    while (n > 1 && n < PATH_MAX && out[n - 1] == '/')
        out[--n] = '\0';
    return n < PATH_MAX;
}

/* ---- tensors ---- */

/* The tensor of this name, or of the name that other versions of the family's files give it. */
static infer_safetensor *find_tensor(const infer_safetensors *s, const char *name)
{
    static const char transformer[] = "transformer.", model[] = "model.";
    char longer[160];
    infer_safetensor *t = infer_safetensors_find(s, name);

    if (!t && strncmp(name, transformer, sizeof transformer - 1) == 0)
        t = infer_safetensors_find(s, name + sizeof transformer - 1);
    if (!t) {
        snprintf(longer, sizeof longer, "language_model.%s", name);
        t = infer_safetensors_find(s, longer);
    }
    if (!t && strncmp(name, model, sizeof model - 1) == 0) {
        snprintf(longer, sizeof longer, "model.language_model.%s", name + sizeof model - 1);
        t = infer_safetensors_find(s, longer);
    }
    return t;
}

/* The matrices of the layers; embeddings and heads are never ternary. */
static bool is_ternary(const infer_hf_model *model, infer_slot slot, const infer_source_tensor *t)
{
    return model->ternary != INFER_HF_TERNARY_NONE && t->matrix && infer_role_in_layer(slot.role);
}

/* The mean magnitude of a tensor: what training multiplies its ternary numbers by (arXiv:2402.17764, and the 1e-5 of its published code). */
static float mean_magnitude(const infer_safetensors *s, const infer_safetensor *t)
{
    double sum = 0;
    float row[256];

    for (uint64_t r = 0; r < t->rows; r++)
        for (uint64_t c = 0; c < t->cols; c += sizeof row / sizeof row[0]) {
            uint64_t n = t->cols - c < sizeof row / sizeof row[0] ? t->cols - c : sizeof row / sizeof row[0];
            infer_safetensors_read(s, t, r, c, n, row, 1);
            for (uint64_t i = 0; i < n; i++)
                sum += fabsf(row[i]);
        }
    return (float)fmax(sum / (double)(t->rows * t->cols), 1e-5);
}

/* out->scale from the tensor beside the codes, or from the numbers that are to be rounded. */
static infer_status find_scale(const infer_hf_model *model, const char *path, const char *name, hf_state *state, part *out, infer_error *err)
{
    char scale_name[sizeof(infer_place)];
    infer_safetensor *found;

    if (model->ternary == INFER_HF_TERNARY_MASTER) {
        out->scale = mean_magnitude(&state->tensors, out->tensor);
    } else {
        snprintf(scale_name, sizeof scale_name, "%s_scale", name); /* shorter than all of a place */
        found = find_tensor(&state->tensors, scale_name);
        if (!found || found->rows * found->cols != 1 || found->type >= INFER_SAFETENSORS_U8)
            return infer_fail(err, INFER_ERROR_FORMAT, "%s: tensor %s: expected one number of type F32, F16 or BF16", path, scale_name);
        found->used = true;
        infer_safetensors_read(&state->tensors, found, 0, 0, 1, &out->scale, 1);
        if (model->ternary == INFER_HF_TERNARY_OVER)
            out->scale = 1 / out->scale;
    }
    if (!(fabsf(out->scale) >= 1e-30f && fabsf(out->scale) <= 1e30f))
        return infer_fail(err, INFER_ERROR_FORMAT, "%s: tensor %s: scale %g of ternary weights, expected 1e-30 to 1e30", path, name, (double)out->scale);
    return INFER_OK;
}

static infer_qtype stored_type(infer_safetensors_type type)
{
    return type == INFER_SAFETENSORS_F16 ? INFER_QTYPE_F16 : type == INFER_SAFETENSORS_BF16 ? INFER_QTYPE_BF16 : INFER_QTYPE_F32;
}

static infer_status match_tensor(const infer_hf_model *model, const char *path, infer_slot slot, infer_source_tensor *t, hf_state *state, part *out,
                                 infer_error *err)
{
    infer_place place;
    infer_safetensor *found;
    uint64_t rows, cols;
    bool ternary = is_ternary(model, slot, t), packed = ternary && model->ternary != INFER_HF_TERNARY_MASTER;

    if (!infer_name_place(model->names, &model->arch, slot, t, &place))
        return infer_fail(err, INFER_ERROR_UNSUPPORTED, "%s: models of this class have no tensor for %s", path, t->name);
    found = find_tensor(&state->tensors, place.name);
    if (!found && slot.role == INFER_ROLE_TOK_EMBED && model->arch.tied_head) { /* of two equal tensors a file keeps either */
        infer_place head;
        if (infer_name_place(model->names, &model->arch, (infer_slot){INFER_ROLE_HEAD, 0}, t, &head))
            found = find_tensor(&state->tensors, head.name);
    }
    if (!found)
        return infer_fail(err, INFER_ERROR_FORMAT, "%s: tensor %s is missing", path, place.name);
    if (packed ? found->type != INFER_SAFETENSORS_U8 : found->type >= INFER_SAFETENSORS_U8)
        return infer_fail(err, INFER_ERROR_UNSUPPORTED, "%s: tensor %s has type %s, %s", path, place.name, found->type_name,
                          packed ? "expected U8 in a ternary model" : "supported are F32, F16 and BF16");
    if (ternary && (place.transposed || place.rows % 4))
        return infer_fail(err, INFER_ERROR_UNSUPPORTED, "%s: tensor %s: ternary matrices that are transposed, or whose rows are no multiple of 4", path,
                          place.name);
    rows = !t->matrix ? 1 : place.transposed ? t->cols : packed ? place.rows / 4 : place.rows;
    cols = !t->matrix ? place.rows : place.transposed ? place.rows : t->cols;
    if (found->rows != rows || found->cols != cols)
        return infer_fail(err, INFER_ERROR_FORMAT, "%s: tensor %s: %" PRIu64 " rows of %" PRIu64 ", expected %" PRIu64 " of %" PRIu64, path, place.name,
                          found->rows, found->cols, rows, cols);
    found->used = true;
    t->stored = ternary ? INFER_QTYPE_T2R : t->matrix ? stored_type(found->type) : INFER_QTYPE_F32;
    *out = (part){found, place.first_row, place.transposed, 0};
    return ternary ? find_scale(model, path, place.name, state, out, err) : INFER_OK;
}

/* Tensors that files have and models do not need: tables that follow from the configuration, a copy of a tied head, and what sees in a model that sees. */
static bool is_surplus(const infer_arch *m, const char *name)
{
    static const char *const ends[] = {".rotary_emb.inv_freq", ".attn.bias", ".attn.masked_bias"};
    static const char *const starts[] = {"vision_tower.", "multi_modal_projector.", "model.vision_tower.", "model.multi_modal_projector."};
    size_t n = strlen(name);

    for (size_t i = 0; i < sizeof ends / sizeof ends[0]; i++)
        if (n > strlen(ends[i]) && strcmp(name + n - strlen(ends[i]), ends[i]) == 0)
            return true;
    for (size_t i = 0; i < sizeof starts / sizeof starts[0]; i++)
        if (strncmp(name, starts[i], strlen(starts[i])) == 0)
            return true;
    return m->tied_head && (strcmp(name, "lm_head.weight") == 0 || strcmp(name, "language_model.lm_head.weight") == 0);
}

/* Every tensor of ours is there in the right shape, and nothing else is: a bias or an expert left out would give wrong text. */
static infer_status match_tensors(infer_source *s, infer_source_tensor *tensors, const infer_hf_model *model, const char *path, hf_state *state,
                                  infer_error *err)
{
    infer_status status;

    for (size_t i = 0; i < s->tensor_count; i++)
        if ((status = match_tensor(model, path, state->slots[i], &tensors[i], state, &state->parts[i], err)) != INFER_OK)
            return status;
    for (size_t i = 0; i < state->tensors.tensor_count; i++) {
        const infer_safetensor *t = &state->tensors.tensors[i];
        if (!t->used && !is_surplus(&model->arch, t->name))
            return infer_fail(err, INFER_ERROR_UNSUPPORTED, "%s: tensor %.200s has no place in a model of this class", path, t->name);
    }
    return INFER_OK;
}

/* ---- vocabulary ---- */

static bool beside(const char *folder, const char *name, char out[PATH_MAX])
{
    return snprintf(out, PATH_MAX, "%s/%s", folder, name) < PATH_MAX && access(out, F_OK) == 0;
}

static infer_status read_vocab(infer_source *s, infer_arch *m, const char *folder, const char *tokenizer, infer_error *err)
{
    char path[PATH_MAX];
    infer_vocab_view view;
    void *vocab;
    infer_status status;

    if (!tokenizer) {
        if (!beside(folder, "tokenizer.json", path) && !beside(folder, "tokenizer.model", path) && !beside(folder, "vocab.json", path))
            return infer_fail(err, INFER_ERROR_IO, "%s: none of tokenizer.json, tokenizer.model and vocab.json is there: name a tokenizer file", folder);
        tokenizer = path;
    }
    if ((status = infer_vocab_import(&s->allocator, tokenizer, &vocab, &s->vocab_bytes, err)) != INFER_OK)
        return status;
    s->vocab = vocab;
    if ((status = infer_vocab_parse(vocab, s->vocab_bytes, tokenizer, &view, err)) != INFER_OK)
        return status;
    if (view.tokens > m->vocab) /* fewer is usual: embeddings are padded */
        return infer_fail(err, INFER_ERROR_FORMAT, "%s: %" PRIu32 " tokens, expected at most %" PRIu64 " as config.json says", tokenizer, view.tokens,
                          m->vocab);
    if (m->bos == INFER_VOCAB_NO_ID)
        m->bos = view.bos;
    if (m->eos_count == 0 && view.eos != INFER_VOCAB_NO_ID)
        infer_arch_add_eos(m, view.eos);
    return INFER_OK;
}

/* ---- source ---- */

static void close_source(infer_source *s)
{
    hf_state *state = s->state;
    infer_source_free_parts(s);
    if (state) {
        infer_safetensors_close(&state->tensors);
        infer_free(&s->allocator, state->parts);
        infer_free(&s->allocator, state->slots);
        infer_free(&s->allocator, state);
        s->state = NULL;
    }
}

/* All but the files, which the caller frees. */
static infer_status open_parts(infer_source *s, const char *path, const char *folder, const char *tokenizer, const infer_hf_files *files, infer_error *err)
{
    hf_state *state = s->state;
    infer_source_tensor *tensors;
    infer_hf_model model;
    char *metadata;
    infer_status status;

    if ((status = infer_hf_model_read(files, folder, &model, err)) != INFER_OK ||
        (status = infer_safetensors_open(&s->allocator, path, is_folder(path), &state->tensors, err)) != INFER_OK ||
        (status = infer_arch_tensors(&s->allocator, &model.arch, &tensors, &state->slots, &s->tensor_count, err)) != INFER_OK)
        return status;
    s->tensors = tensors;
    state->norm_plus_one = model.norm_plus_one;
    state->parts = infer_alloc_array(&s->allocator, s->tensor_count, sizeof *state->parts);
    if (!state->parts)
        return infer_fail_memory(err, s->tensor_count * sizeof *state->parts, "importer");
    if ((status = match_tensors(s, tensors, &model, path, state, err)) != INFER_OK ||
        (status = read_vocab(s, &model.arch, folder, tokenizer, err)) != INFER_OK ||
        (status = infer_arch_metadata(&s->allocator, &model.arch, &metadata, err)) != INFER_OK)
        return status;
    s->metadata = metadata;
    return INFER_OK;
}

static infer_status open_source(const char *path, const char *tokenizer, infer_source *out, infer_error *err)
{
    infer_source s = {.importer = out->importer, .allocator = out->allocator};
    infer_hf_files files;
    char folder[PATH_MAX];
    infer_status status;

    if (!folder_of(path, folder))
        return infer_fail(err, INFER_ERROR_IO, "%s: the path is too long", path);
    if ((status = infer_hf_files_read(&s.allocator, folder, &files, err)) != INFER_OK)
        return status;
    s.state = infer_alloc_zero(&s.allocator, sizeof(hf_state));
    status = s.state ? open_parts(&s, path, folder, tokenizer, &files, err) : infer_fail_memory(err, sizeof(hf_state), "importer");
    infer_hf_files_free(&s.allocator, &files);
    if (status == INFER_OK)
        *out = s;
    else
        close_source(&s);
    return status;
}

static bool is_norm(infer_role role)
{
    return role == INFER_ROLE_ATTN_NORM || role == INFER_ROLE_Q_NORM || role == INFER_ROLE_K_NORM || role == INFER_ROLE_ATTN_POST_NORM ||
           role == INFER_ROLE_FFN_NORM || role == INFER_ROLE_FFN_POST_NORM || role == INFER_ROLE_OUT_NORM;
}

/* Numbers of training, rounded as its forward pass rounds them. */
static void round_ternary(float scale, float *x, uint64_t count)
{
    for (uint64_t i = 0; i < count; i++)
        x[i] = fmaxf(-1, fminf(1, rintf(x[i] / scale))) * scale;
}

/* Row r of [4 n][cols] is in bits 2 (r / n) and up of row r % n of the bytes [n][cols]; codes 0, 1 and 2 are -1, 0 and 1. */
static infer_status read_packed(const hf_state *state, const part *p, uint64_t row, uint64_t n, float *out, infer_error *err)
{
    const infer_safetensor *t = p->tensor;

    for (uint64_t r = row; r < row + n; r++, out += t->cols) {
        unsigned shift = 2 * (unsigned)(r / t->rows);
        infer_safetensors_read(&state->tensors, t, r % t->rows, 0, t->cols, out, 1);
        for (uint64_t i = 0; i < t->cols; i++) {
            int code = (int)out[i] >> shift & 3;
            if (code == 3)
                return infer_fail(err, INFER_ERROR_FORMAT, "tensor %.200s: row %" PRIu64 ", column %" PRIu64 ": code 3, expected 0 to 2", t->name, r, i);
            out[i] = (float)(code - 1) * p->scale;
        }
    }
    return INFER_OK;
}

static infer_status read_f32(const infer_source *s, size_t index, uint64_t row, uint64_t n, float *out, infer_error *err)
{
    const hf_state *state = s->state;
    infer_status status = infer_source_check_rows(s, index, row, n, err);
    const infer_source_tensor *t;
    const part *p;

    if (status != INFER_OK)
        return status;
    t = &s->tensors[index];
    p = &state->parts[index];
    if ((status = infer_safetensors_check(&state->tensors, p->tensor, err)) != INFER_OK)
        return status;
    if (!t->matrix) {
        infer_safetensors_read(&state->tensors, p->tensor, 0, p->first_row, t->cols, out, 1);
        for (uint64_t i = 0; state->norm_plus_one && is_norm(state->slots[index].role) && i < t->cols; i++)
            out[i] += 1;
    } else if (p->transposed) {
        for (uint64_t i = 0; i < t->cols; i++)
            infer_safetensors_read(&state->tensors, p->tensor, i, p->first_row + row, n, out + i, (size_t)t->cols);
    } else if (p->tensor->type == INFER_SAFETENSORS_U8) {
        return read_packed(state, p, p->first_row + row, n, out, err);
    } else {
        infer_safetensors_read(&state->tensors, p->tensor, p->first_row + row, 0, n * t->cols, out, 1);
        if (p->scale != 0)
            round_ternary(p->scale, out, n * t->cols);
    }
    return INFER_OK;
}

const infer_importer infer_importer_hf = {
    .name = "hf",
    .description = "Hugging Face folder, or its .safetensors file (F32, F16, BF16, ternary)",
    .probe = probe,
    .open = open_source,
    .read_f32 = read_f32,
    .close = close_source,
};
