/* .infer files as a source: the same model again, in other types. */
#include "import/arch.h"

#include "bytes.h"
#include "convert/matrix.h"
#include "layout.h"
#include "pack/pack.h"
#include "tile16x4.h"

#include <string.h>

static int probe(const char *path, const uint8_t *head, size_t bytes)
{
    (void)path;
    return bytes >= MAGIC_BYTES && memcmp(head, MAGIC, MAGIC_BYTES) == 0;
}

static void close_source(infer_source *s)
{
    infer_source_free_parts(s);
    infer_file_close(s->state);
    s->state = NULL;
}

static infer_status copy_parts(infer_source *s, const infer_file *f, const char *tokenizer, infer_error *err)
{
    const char *metadata = infer_file_metadata(f);
    const uint8_t *section = infer_file_vocab(f, &s->vocab_bytes);
    size_t metadata_bytes = strlen(metadata) + 1;
    void *vocab = NULL, *text = infer_alloc(&s->allocator, metadata_bytes);
    infer_source_tensor *tensors = NULL;
    infer_status status;

    if (!text)
        return infer_fail_memory(err, metadata_bytes, "metadata");
    s->metadata = memcpy(text, metadata, metadata_bytes);
    if (tokenizer) {
        if ((status = infer_vocab_import(&s->allocator, tokenizer, &vocab, &s->vocab_bytes, err)) != INFER_OK)
            return status;
    } else if (s->vocab_bytes) {
        vocab = infer_alloc(&s->allocator, s->vocab_bytes);
        if (!vocab)
            return infer_fail_memory(err, s->vocab_bytes, "tokenizer");
        memcpy(vocab, section, s->vocab_bytes);
    }
    s->vocab = vocab;
    s->tensor_count = infer_file_tensor_count(f);
    if (s->tensor_count) {
        s->tensors = tensors = infer_alloc_array(&s->allocator, s->tensor_count, sizeof *tensors);
        if (!tensors)
            return infer_fail_memory(err, s->tensor_count * sizeof *tensors, "tensor list");
    }
    for (size_t i = 0; i < s->tensor_count; i++) {
        const infer_tensor_info *t = infer_file_tensor(f, i);
        if (t->layout == INFER_LAYOUT_ROWS && t->type != INFER_QTYPE_F32)
            return infer_fail(err, INFER_ERROR_UNSUPPORTED, "%s: tensor %s: only f32 is read from the layout rows", infer_file_path(f),
                              t->name);
        memcpy(tensors[i].name, t->name, strlen(t->name) + 1);
        tensors[i].rows = t->rows;
        tensors[i].cols = t->cols;
        tensors[i].matrix = t->layout != INFER_LAYOUT_ROWS;
        tensors[i].stored = t->type;
        tensors[i].stored_layout = t->layout;
        tensors[i].stored_bytes = t->layout == INFER_LAYOUT_COLS || infer_layout_sparse(t->layout) ? t->bytes : 0;
    }
    return INFER_OK;
}

static infer_status open_source(const char *path, const char *tokenizer, infer_source *out, infer_error *err)
{
    infer_source s = {.importer = out->importer, .allocator = out->allocator};
    infer_file *f;
    infer_status status = infer_file_open(&s.allocator, path, &f, err);

    if (status != INFER_OK)
        return status;
    s.state = f;
    if ((status = copy_parts(&s, f, tokenizer, err)) != INFER_OK) {
        close_source(&s);
        return status;
    }
    *out = s;
    return INFER_OK;
}

/* Rows are read in order from the first to the last: the whole tensor's hash is checked with its first row. */
static infer_status find_rows(const infer_source *s, size_t index, uint64_t row, uint64_t n, const infer_tensor_info **t, infer_error *err)
{
    infer_status status = infer_source_check_rows(s, index, row, n, err);
    if (status != INFER_OK)
        return status;
    *t = infer_file_tensor(s->state, index);
    return row == 0 ? infer_file_verify(s->state, *t, err) : infer_file_check(s->state, err);
}

static const uint8_t *panel_of(const infer_source *s, const infer_tensor_info *t, uint64_t row)
{
    return (const uint8_t *)infer_file_data(s->state, t) + row / INFER_TILE_ROWS * infer_panel_bytes(t->type, t->cols);
}

static infer_status read_f32(const infer_source *s, size_t index, uint64_t row, uint64_t n, float *out, infer_error *err)
{
    const infer_tensor_info *t;
    infer_status status = find_rows(s, index, row, n, &t, err);

    if (status != INFER_OK)
        return status;
    if (t->layout == INFER_LAYOUT_ROWS) {
        memcpy(out, (const float *)infer_file_data(s->state, t) + row * t->cols, (size_t)(n * t->cols * sizeof(float)));
        return INFER_OK;
    }
    if (t->layout == INFER_LAYOUT_TILE16X4 && row % INFER_TILE_ROWS != 0)
        return infer_fail(err, INFER_ERROR_ARGUMENT, "rows of tensor %s are read in panels of %d", t->name, INFER_TILE_ROWS);
    infer_matrix_unpack(t->type, t->layout, infer_file_data(s->state, t), t->rows, t->cols, row, n, out);
    return INFER_OK;
}

static infer_status read_codes(const infer_source *s, size_t index, uint64_t row, uint64_t n, int8_t *codes, uint16_t *scales,
                               infer_error *err)
{
    const infer_tensor_info *t;
    infer_status status = find_rows(s, index, row, n, &t, err);
    uint64_t groups;
    int32_t low, high;

    if (status != INFER_OK)
        return status;
    if (t->layout != INFER_LAYOUT_TILE16X4 || !infer_code_range(t->type, &low, &high))
        return infer_fail(err, INFER_ERROR_ARGUMENT, "tensor %s is not stored as codes", t->name);
    groups = infer_ceil_div(t->cols, 32);
    for (uint64_t r = row; r < row + n; r++) {
        const uint8_t *panel = panel_of(s, t, r);
        uint32_t lane = (uint32_t)(r % INFER_TILE_ROWS);
        for (uint64_t c = 0; c < t->cols; c++) {
            uint32_t i = (uint32_t)(c % 32);
            if (t->type == INFER_QTYPE_Q8G32)
                *codes++ = (int8_t)infer_tile_q8_code(panel + c / 32 * INFER_TILE_Q8_GROUP_BYTES, lane, i);
            else
                *codes++ = (int8_t)infer_tile_q4_code(panel + c / 32 * INFER_TILE_Q4_GROUP_BYTES, lane, i);
        }
        for (uint64_t g = 0; g < groups; g++)
            *scales++ = infer_tile_scale(panel + g * infer_qtype_find(t->type)->panel_bytes, lane);
    }
    return INFER_OK;
}

static infer_status read_stored(const infer_source *s, size_t index, const void **out, infer_error *err)
{
    const infer_tensor_info *t;
    infer_status status = find_rows(s, index, 0, 1, &t, err);

    if (status == INFER_OK)
        *out = infer_file_data(s->state, t);
    return status;
}

const infer_importer infer_importer_infer = {
    .name = "infer",
    .description = ".infer, for other types",
    .probe = probe,
    .open = open_source,
    .read_f32 = read_f32,
    .read_codes = read_codes,
    .read_stored = read_stored,
    .close = close_source,
};
