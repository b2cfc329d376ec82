#include "convert/matrix.h"

#include "pack/pack.h"
#include "sparse.h"
#include "tile16x4.h"

#include <inttypes.h>

/* Best first, where they are equal. */
static const infer_layout sparse_layouts[] = {INFER_LAYOUT_BCSR16X4, INFER_LAYOUT_BCSR16X1};

static uint32_t panel_rows(uint64_t n, uint64_t row) { return n - row < INFER_TILE_ROWS ? (uint32_t)(n - row) : INFER_TILE_ROWS; }

infer_matrix_choice infer_matrix_choose(infer_qtype type, const float *rows, uint64_t n, uint64_t k, bool sparse)
{
    infer_matrix_choice best = {.layout = infer_matrix_layout(type)};

    infer_tensor_bytes(type, best.layout, n, k, &best.bytes);
    for (size_t i = 0; sparse && best.layout != INFER_LAYOUT_TILE16X4 && i < sizeof sparse_layouts / sizeof *sparse_layouts; i++) {
        infer_matrix_choice c = {.layout = sparse_layouts[i]};
        for (uint64_t row = 0; row < n; row += INFER_TILE_ROWS)
            c.units += infer_sparse_count(c.layout, rows + row * k, panel_rows(n, row), k);
        if (infer_sparse_bytes(type, c.layout, n, k, c.units, &c.bytes) && c.bytes < best.bytes)
            best = c;
    }
    return best;
}

static infer_status pack_cols(const infer_allocator *a, const char *name, infer_qtype type, const float *rows, uint64_t n, uint64_t k, void *out,
                              infer_error *err)
{
    void *scratch = infer_alloc(a, infer_pack_cols_scratch(n, k));
    bool fits = scratch && infer_pack_cols(type, rows, n, k, scratch, out);

    infer_free(a, scratch);
    if (!scratch)
        return infer_fail_memory(err, infer_pack_cols_scratch(n, k), name);
    return fits ? INFER_OK : infer_fail(err, INFER_ERROR_FORMAT, "tensor %s: a value is not finite, or too large for %s", name, infer_qtype_find(type)->name);
}

static infer_status pack_sparse(const char *name, infer_qtype type, const infer_matrix_choice *choice, const float *rows, uint64_t n, uint64_t k, void *out,
                                infer_error *err)
{
    infer_sparse_begin(type, choice->layout, n, k, choice->units, out);
    for (uint64_t row = 0; row < n; row += INFER_TILE_ROWS)
        if (!infer_sparse_pack_panel(type, choice->layout, n, k, row / INFER_TILE_ROWS, rows + row * k, out))
            return infer_fail(err, INFER_ERROR_FORMAT, "tensor %s, rows %" PRIu64 " to %" PRIu64 ": a value is not finite, or too large for %s", name, row,
                              row + panel_rows(n, row) - 1, infer_qtype_find(type)->name);
    return INFER_OK;
}

infer_status infer_matrix_pack(const infer_allocator *a, const char *name, infer_qtype type, const infer_matrix_choice *choice, const float *rows,
                               uint64_t n, uint64_t k, void *out, infer_error *err)
{
    return choice->layout == INFER_LAYOUT_COLS ? pack_cols(a, name, type, rows, n, k, out, err) : pack_sparse(name, type, choice, rows, n, k, out, err);
}

void infer_matrix_unpack(infer_qtype type, infer_layout layout, const void *w, uint64_t n, uint64_t k, uint64_t row0, uint64_t count, float *rows)
{
    if (layout == INFER_LAYOUT_COLS)
        infer_unpack_cols(type, w, n, k, row0, count, rows);
    else if (infer_layout_sparse(layout))
        infer_sparse_unpack(type, layout, w, n, k, row0, count, rows);
    else
        for (uint64_t done = 0; done < count; done += INFER_TILE_ROWS)
            infer_unpack_panel(type, (const uint8_t *)w + (row0 + done) / INFER_TILE_ROWS * infer_panel_bytes(type, k), panel_rows(count, done), k,
                               rows + done * k);
}
