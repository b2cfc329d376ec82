#include "convert/convert.h"

#include "pack/pack.h"
#include "tile16x4.h"

#include <fnmatch.h>
#include <inttypes.h>
#include <math.h>
#include <string.h>

typedef struct converter {
    const infer_allocator *a;
    const infer_source *source;
    const infer_convert_options *options;
    infer_writer *writer;
    infer_qtype *types;           /* of each tensor in the new file */
    infer_matrix_choice *choices; /* the same: layouts and sizes */
    float *rows;        /* up to 16 rows of any tensor */
    int8_t *codes;      /* the same */
    uint16_t *scales;   /* a group of 32 each */
    void *panel;
    infer_pruner *pruner; /* of the matrix that is being pruned; NULL: it is not */
    uint8_t *kept;        /* with a pruner: which of the 16 rows' weights stay */
    void *scratch;        /* of the pruner */
    infer_convert_progress progress;
    infer_error *err;
} converter;

infer_status infer_convert_types(const infer_source *s, const infer_convert_options *options, infer_qtype *types, infer_error *err)
{
    bool used;

    for (size_t i = 0; i < s->tensor_count; i++) {
        if (!s->tensors[i].matrix)
            types[i] = INFER_QTYPE_F32;
        else
            types[i] = options->type == INFER_QTYPE_NONE ? s->tensors[i].stored : options->type;
    }
    for (size_t r = 0; r < options->rule_count; r++) {
        const infer_convert_rule *rule = &options->rules[r];
        used = false;
        for (size_t i = 0; i < s->tensor_count; i++)
            if (s->tensors[i].matrix && fnmatch(rule->glob, s->tensors[i].name, 0) == 0) {
                types[i] = rule->type;
                used = true;
            }
        if (!used)
            return infer_fail(err, INFER_ERROR_ARGUMENT, "type rule \"%s\" matches no matrix of the model", rule->glob);
    }
    used = !options->sparse;
    for (size_t i = 0; i < s->tensor_count; i++) {
        if (infer_matrix_layout(types[i]) == INFER_LAYOUT_COLS && strncmp(s->tensors[i].name, "layers.", 7) != 0)
            types[i] = infer_qtype_find(types[i])->cols_bits == 8 ? INFER_QTYPE_Q8G32 : INFER_QTYPE_Q4G32;
        used = used || infer_matrix_layout(types[i]) == INFER_LAYOUT_COLS;
    }
    return used ? INFER_OK : infer_fail(err, INFER_ERROR_ARGUMENT, "only matrices in q4g64 and q8g64 can be sparse, and none is");
}

infer_status infer_convert_rates(const infer_source *s, double rate, const infer_convert_prune_rule *rules, size_t rule_count,
                                 infer_prune_block block, double *rates, infer_error *err)
{
    for (size_t i = 0; i < s->tensor_count; i++)
        rates[i] = s->tensors[i].matrix && strncmp(s->tensors[i].name, "layers.", 7) == 0 ? rate : 0;
    for (size_t r = 0; r < rule_count; r++) {
        bool used = false;
        for (size_t i = 0; i < s->tensor_count; i++)
            if (s->tensors[i].matrix && fnmatch(rules[r].glob, s->tensors[i].name, 0) == 0) {
                rates[i] = rules[r].rate;
                used = true;
            }
        if (!used)
            return infer_fail(err, INFER_ERROR_ARGUMENT, "pruning rule \"%s\" matches no matrix of the model", rules[r].glob);
    }
    for (size_t i = 0; i < s->tensor_count; i++) {
        const infer_source_tensor *t = &s->tensors[i];
        if (rates[i] > 0 && strcmp(t->name, "tok_embed") == 0)
            return infer_fail(err, INFER_ERROR_ARGUMENT, "tensor %s: embeddings are looked up row by row, and not pruned", t->name);
        if (rates[i] > 0 && block == INFER_PRUNE_2_4 && t->cols % 4)
            return infer_fail(err, INFER_ERROR_ARGUMENT, "tensor %s: found %" PRIu64 " inputs, expected a multiple of 4 for pruning 2:4",
                              t->name, t->cols);
    }
    return INFER_OK;
}

static const void *packed(const converter *c, size_t index) { return c->options->packed ? c->options->packed[index].data : NULL; }

static double rate_of(const converter *c, size_t index) { return c->options->rates && !packed(c, index) ? c->options->rates[index] : 0; }

/* The tensor's bytes are those of the source. */
static bool carried(const converter *c, size_t index)
{
    const infer_source_tensor *t = &c->source->tensors[index];
    return c->source->importer->read_stored && t->stored_bytes && t->stored == c->types[index] && !packed(c, index) &&
           rate_of(c, index) <= 0 && (!c->options->sparse || infer_layout_sparse(t->stored_layout));
}

/* Buffers for the largest panel of all tensors. */
static infer_status allocate(converter *c)
{
    uint64_t numbers = 1, groups = 1, panel_bytes = 1;

    for (size_t i = 0; i < c->source->tensor_count; i++) {
        const infer_source_tensor *t = &c->source->tensors[i];
        uint64_t rows = !t->matrix ? 1 : t->rows < INFER_TILE_ROWS ? t->rows : INFER_TILE_ROWS;
        uint64_t bytes = t->matrix ? infer_panel_bytes(c->types[i], t->cols) : 1;
        numbers = rows * t->cols > numbers ? rows * t->cols : numbers;
        groups = rows * infer_ceil_div(t->cols, 32) > groups ? rows * infer_ceil_div(t->cols, 32) : groups;
        panel_bytes = bytes > panel_bytes ? bytes : panel_bytes;
    }
    c->rows = infer_alloc_array(c->a, numbers, sizeof *c->rows);
    c->codes = infer_alloc_array(c->a, numbers, 1);
    c->scales = infer_alloc_array(c->a, groups, sizeof *c->scales);
    c->panel = infer_alloc(c->a, panel_bytes);
    if (c->rows && c->codes && c->scales && c->panel)
        return INFER_OK;
    return infer_fail_memory(c->err, numbers * 5 + groups * 2 + panel_bytes, "16 rows of a tensor");
}

static infer_status fail_value(converter *c, const infer_source_tensor *t, uint64_t row, uint64_t n, infer_qtype type)
{
    return infer_fail(c->err, INFER_ERROR_FORMAT, "tensor %s, rows %" PRIu64 " to %" PRIu64 ": a value is not finite, or too large for %s",
                      t->name, row, row + n - 1, infer_qtype_find(type)->name);
}

static void close_pruner(converter *c)
{
    infer_pruner_free(c->pruner);
    infer_free(c->a, c->kept);
    infer_free(c->a, c->scratch);
    c->pruner = NULL;
    c->kept = NULL;
    c->scratch = NULL;
}

static infer_status open_pruner(converter *c, const infer_source_tensor *t)
{
    size_t scratch_bytes;
    infer_status s = infer_pruner_create(c->a, (uint32_t)t->cols, NULL, INFER_PRUNE_MAGNITUDE, c->options->block, 0, &c->pruner, c->err);
    if (s != INFER_OK)
        return s;
    scratch_bytes = infer_pruner_scratch(c->pruner);
    c->kept = infer_alloc(c->a, INFER_TILE_ROWS * t->cols);
    c->scratch = infer_alloc(c->a, scratch_bytes);
    return c->kept && c->scratch ? INFER_OK : infer_fail_memory(c->err, INFER_TILE_ROWS * t->cols + scratch_bytes, "pruning");
}

/* All of a matrix that was not carried over, pruned: rows [rows][cols]. */
static infer_status read_matrix(converter *c, size_t index, float *rows)
{
    const infer_source *s = c->source;
    const infer_source_tensor *t = &s->tensors[index];
    infer_status status = rate_of(c, index) > 0 ? open_pruner(c, t) : INFER_OK;

    for (uint64_t row = 0; row < t->rows && status == INFER_OK; row += INFER_TILE_ROWS) {
        uint32_t n = t->rows - row < INFER_TILE_ROWS ? (uint32_t)(t->rows - row) : INFER_TILE_ROWS;
        float *at = rows + row * t->cols;
        status = s->importer->read_f32(s, index, row, n, at, c->err);
        if (status == INFER_OK && c->pruner &&
            !infer_pruner_panel(c->pruner, c->options->rates[index], false, at, n, c->kept, c->scratch, NULL))
            status = fail_value(c, t, row, n, c->types[index]);
    }
    close_pruner(c);
    return status;
}

/* Layout and size of a tensor. Those of a matrix that may be sparse depend on its weights. */
static infer_status choose(converter *c, size_t index, infer_matrix_choice *out)
{
    const infer_source_tensor *t = &c->source->tensors[index];
    infer_qtype type = c->types[index];
    float *rows;
    infer_status status;

    *out = (infer_matrix_choice){.layout = INFER_LAYOUT_ROWS};
    if (!t->matrix)
        infer_tensor_bytes(type, INFER_LAYOUT_ROWS, t->rows, t->cols, &out->bytes);
    else if (packed(c, index))
        *out = c->options->packed[index].choice;
    else if (carried(c, index))
        *out = (infer_matrix_choice){.layout = t->stored_layout, .bytes = t->stored_bytes};
    else
        *out = infer_matrix_choose(type, NULL, t->rows, t->cols, NULL);
    if (!c->options->sparse || out->layout != INFER_LAYOUT_COLS || packed(c, index) || !out->bytes)
        return INFER_OK;
    rows = infer_alloc_array(c->a, t->rows * t->cols, sizeof *rows); /* no overflow: it has a size */
    if (!rows)
        return infer_fail_memory(c->err, t->rows * t->cols * sizeof *rows, t->name);
    status = read_matrix(c, index, rows);
    if (status == INFER_OK)
        *out = infer_matrix_choose(type, rows, t->rows, t->cols, c->options->sparse);
    infer_free(c->a, rows);
    if (status == INFER_OK && c->options->progress && c->options->progress(c->options->user, &c->progress))
        status = infer_fail(c->err, INFER_ERROR_CANCELLED, "interrupted");
    return status;
}

static infer_status declare(converter *c)
{
    const infer_source *s = c->source;
    uint64_t total = 0;
    infer_status status = INFER_OK;

    if (c->options->types)
        memcpy(c->types, c->options->types, s->tensor_count * sizeof *c->types);
    else
        status = infer_convert_types(s, c->options, c->types, c->err);
    for (size_t i = 0; i < s->tensor_count && status == INFER_OK; i++) {
        const infer_source_tensor *t = &s->tensors[i];
        infer_matrix_choice *choice = &c->choices[i];
        c->progress.tensor = t->name;
        if ((status = choose(c, i, choice)) != INFER_OK)
            break;
        status = infer_layout_sparse(choice->layout)
                     ? infer_writer_declare_sparse(c->writer, t->name, c->types[i], choice->layout, t->rows, t->cols, choice->bytes, c->err)
                     : infer_writer_declare(c->writer, t->name, c->types[i], choice->layout, t->rows, t->cols, c->err);
        if (status == INFER_OK && c->options->explain)
            c->options->explain(c->options->user, t, c->types[i], choice);
        total += choice->bytes;
    }
    c->progress.total_bytes = total;
    return status;
}

static infer_status advance(converter *c, const void *data, uint64_t bytes)
{
    infer_status s = infer_writer_write(c->writer, data, bytes, c->err);
    c->progress.bytes += bytes;
    if (s == INFER_OK && c->options->progress && c->options->progress(c->options->user, &c->progress))
        s = infer_fail(c->err, INFER_ERROR_CANCELLED, "interrupted");
    return s;
}

static infer_status write_panels(converter *c, size_t index)
{
    const infer_source *s = c->source;
    const infer_source_tensor *t = &s->tensors[index];
    infer_qtype type = c->types[index];
    const uint8_t *ready = packed(c, index);
    int32_t low, high;
    bool keep_codes = s->importer->read_codes && t->stored == type && infer_code_range(type, &low, &high) && !c->pruner, fits;
    infer_status status;

    for (uint64_t row = 0; row < t->rows; row += INFER_TILE_ROWS) {
        uint32_t n = t->rows - row < INFER_TILE_ROWS ? (uint32_t)(t->rows - row) : INFER_TILE_ROWS;
        if (ready) {
            if ((status = advance(c, ready + row / INFER_TILE_ROWS * infer_panel_bytes(type, t->cols), infer_panel_bytes(type, t->cols))) != INFER_OK)
                return status;
            continue;
        }
        status = keep_codes ? s->importer->read_codes(s, index, row, n, c->codes, c->scales, c->err)
                            : s->importer->read_f32(s, index, row, n, c->rows, c->err);
        if (status != INFER_OK)
            return status;
        fits = !c->pruner || infer_pruner_panel(c->pruner, c->options->rates[index], false, c->rows, n, c->kept, c->scratch, NULL);
        if (fits)
            fits = keep_codes ? infer_pack_panel_codes(type, c->codes, c->scales, n, t->cols, c->panel)
                              : infer_pack_panel(type, c->rows, n, t->cols, c->panel);
        if (!fits)
            return fail_value(c, t, row, n, type);
        if ((status = advance(c, c->panel, infer_panel_bytes(type, t->cols))) != INFER_OK)
            return status;
    }
    return INFER_OK;
}

/* In the layout cols or a sparse one, all at once. */
static infer_status write_whole(converter *c, size_t index)
{
    const infer_source *s = c->source;
    const infer_source_tensor *t = &s->tensors[index];
    const infer_matrix_choice *choice = &c->choices[index];
    const void *stored = packed(c, index);
    uint64_t numbers = t->rows * t->cols; /* bounded: the tensor was declared */
    float *rows = NULL;
    void *out = NULL;
    infer_status status = carried(c, index) ? s->importer->read_stored(s, index, &stored, c->err) : INFER_OK;

    if (status != INFER_OK || stored)
        return status != INFER_OK ? status : advance(c, stored, choice->bytes);
    rows = infer_alloc_array(c->a, numbers, sizeof *rows);
    out = infer_alloc(c->a, (size_t)choice->bytes);
    if (!rows || !out)
        status = infer_fail_memory(c->err, numbers * sizeof *rows + choice->bytes, t->name);
    else
        status = read_matrix(c, index, rows);
    if (status == INFER_OK && infer_matrix_units(choice->layout, rows, t->rows, t->cols) != choice->units)
        status = infer_fail(c->err, INFER_ERROR_CORRUPT, "tensor %s: it was changed while it was read", t->name);
    if (status == INFER_OK)
        status = infer_matrix_pack(c->a, t->name, c->types[index], choice, rows, t->rows, t->cols, out, c->err);
    if (status == INFER_OK)
        status = advance(c, out, choice->bytes);
    infer_free(c->a, rows);
    infer_free(c->a, out);
    return status;
}

static infer_status write_matrix(converter *c, size_t index)
{
    infer_status status;

    if (c->choices[index].layout != INFER_LAYOUT_TILE16X4)
        return write_whole(c, index);
    status = rate_of(c, index) > 0 ? open_pruner(c, &c->source->tensors[index]) : INFER_OK;
    if (status == INFER_OK)
        status = write_panels(c, index);
    close_pruner(c);
    return status;
}

static infer_status write_rows(converter *c, size_t index)
{
    const infer_source_tensor *t = &c->source->tensors[index];
    infer_status status;

    for (uint64_t row = 0; row < t->rows; row++) {
        if ((status = c->source->importer->read_f32(c->source, index, row, 1, c->rows, c->err)) != INFER_OK)
            return status;
        for (uint64_t i = 0; i < t->cols; i++)
            if (!isfinite(c->rows[i]))
                return fail_value(c, t, row, 1, INFER_QTYPE_F32);
        if ((status = advance(c, c->rows, t->cols * sizeof *c->rows)) != INFER_OK)
            return status;
    }
    return INFER_OK;
}

infer_status infer_convert(const infer_allocator *a, const infer_source *s, const char *path, const infer_convert_options *options,
                           infer_convert_result *result, infer_error *err)
{
    const infer_writer_options writer_options = {options->metadata ? options->metadata : s->metadata, s->vocab, s->vocab_bytes, options->overwrite};
    converter c = {.a = a, .source = s, .options = options, .err = err};
    infer_convert_result r = {.tensors = s->tensor_count};
    infer_status status;

    if (s->tensor_count == 0)
        return infer_fail(err, INFER_ERROR_FORMAT, "the source has no tensors");
    c.types = infer_alloc_array(a, s->tensor_count, sizeof *c.types);
    c.choices = infer_alloc_array(a, s->tensor_count, sizeof *c.choices);
    if (!c.types || !c.choices)
        status = infer_fail_memory(err, s->tensor_count * (sizeof *c.types + sizeof *c.choices), "tensor types");
    else if ((status = infer_writer_create(a, path, &writer_options, &c.writer, err)) == INFER_OK && (status = declare(&c)) == INFER_OK)
        status = allocate(&c);
    for (size_t i = 0; i < s->tensor_count && status == INFER_OK; i++) {
        c.progress.tensor = s->tensors[i].name;
        r.weights += s->tensors[i].rows * s->tensors[i].cols;
        status = s->tensors[i].matrix ? write_matrix(&c, i) : write_rows(&c, i);
    }
    /* Importers look whether a file changed before they read: one more row, for a change after the last one. */
    for (size_t i = 0; i < s->tensor_count && status == INFER_OK; i++)
        status = s->importer->read_f32(s, i, (s->tensors[i].rows - 1) / INFER_TILE_ROWS * INFER_TILE_ROWS, 1, c.rows, err);
    if (status == INFER_OK) {
        status = infer_writer_finish(c.writer, err);
        c.writer = NULL;
    }
    infer_writer_abort(c.writer);
    infer_free(a, c.types);
    infer_free(a, c.choices);
    infer_free(a, c.rows);
    infer_free(a, c.codes);
    infer_free(a, c.scales);
    infer_free(a, c.panel);
    if (status == INFER_OK && result) {
        r.tensor_bytes = c.progress.bytes;
        *result = r;
    }
    return status;
}
