#include "convert/matrix.h"

#include "pack/pack.h"
#include "sparse.h"
#include "tile16x4.h"

#include <inttypes.h>

static uint32_t panel_rows(uint64_t n, uint64_t row)
{
    return n - row < INFER_TILE_ROWS ? (uint32_t)(n - row) : INFER_TILE_ROWS;
}

uint64_t infer_matrix_units(infer_layout layout, const float *rows, uint64_t n, uint64_t k)
{
    uint64_t units = 0;

    for (uint64_t row = 0; infer_layout_sparse(layout) && row < n; row += INFER_TILE_ROWS)
        units += infer_sparse_count(layout, rows + row * k, panel_rows(n, row), k);
    return units;
}

/* False: the layout cannot hold the matrix. */
static bool measure(infer_qtype type, infer_layout layout, const float *rows, uint64_t n, uint64_t k, const infer_costs *costs,
                    infer_matrix_option *out)
{
    infer_matrix_option o = {.layout = layout, .units = infer_matrix_units(layout, rows, n, k)};
    infer_work work;

    if (!(infer_layout_sparse(layout) ? infer_sparse_bytes(type, layout, n, k, o.units, &o.bytes)
                                      : infer_tensor_bytes(type, layout, n, k, &o.bytes)))
        return false;
    work = infer_cost_work(layout, n, k, o.bytes, o.units);
    o.memory_ns = infer_cost_memory_ns(costs, &work);
    o.kernel_ns = infer_cost_kernel_ns(infer_cost_find(costs, type, layout), &work);
    *out = o;
    return true;
}

infer_matrix_choice infer_matrix_choose(infer_qtype type, const float *rows, uint64_t n, uint64_t k, const infer_costs *costs)
{
    infer_matrix_choice c = {.layout = infer_matrix_layout(type)};
    const infer_matrix_option *best = NULL;

    infer_tensor_bytes(type, c.layout, n, k, &c.bytes);
    for (size_t l = 0; costs && c.bytes && c.layout == INFER_LAYOUT_COLS && l < INFER_COST_LAYOUTS; l++)
        c.option_count += measure(type, infer_cost_layouts[l], rows, n, k, costs, &c.options[c.option_count]);
    for (uint32_t i = 0; i < c.option_count; i++) {
        const infer_matrix_option *o = &c.options[i];
        double ns = infer_matrix_ns(o);
        if (!best || ns < infer_matrix_ns(best) || (ns <= infer_matrix_ns(best) && o->bytes < best->bytes))
            best = o;
    }
    if (best) {
        c.layout = best->layout;
        c.bytes = best->bytes;
        c.units = best->units;
    }
    return c;
}

static infer_status pack_cols(const infer_allocator *a, const char *name, infer_qtype type, const float *rows, uint64_t n, uint64_t k,
                              void *out, infer_error *err)
{
    void *scratch = infer_alloc(a, infer_pack_cols_scratch(n, k));
    bool fits = scratch && infer_pack_cols(type, rows, n, k, scratch, out);

    infer_free(a, scratch);
    if (!scratch)
        return infer_fail_memory(err, infer_pack_cols_scratch(n, k), name);
    return fits ? INFER_OK
                : infer_fail(err, INFER_ERROR_FORMAT, "tensor %s: a value is not finite, or too large for %s", name,
                             infer_qtype_find(type)->name);
}

static infer_status pack_sparse(const char *name, infer_qtype type, const infer_matrix_choice *choice, const float *rows, uint64_t n,
                                uint64_t k, void *out, infer_error *err)
{
    infer_sparse_begin(type, choice->layout, n, k, choice->units, out);
    for (uint64_t row = 0; row < n; row += INFER_TILE_ROWS)
        if (!infer_sparse_pack_panel(type, choice->layout, n, k, row / INFER_TILE_ROWS, rows + row * k, out))
            return infer_fail(err, INFER_ERROR_FORMAT,
                              "tensor %s, rows %" PRIu64 " to %" PRIu64 ": a value is not finite, or too large for %s", name, row,
                              row + panel_rows(n, row) - 1, infer_qtype_find(type)->name);
    return INFER_OK;
}

infer_status infer_matrix_pack(const infer_allocator *a, const char *name, infer_qtype type, const infer_matrix_choice *choice,
                               const float *rows, uint64_t n, uint64_t k, void *out, infer_error *err)
{
    return choice->layout == INFER_LAYOUT_COLS ? pack_cols(a, name, type, rows, n, k, out, err)
                                               : pack_sparse(name, type, choice, rows, n, k, out, err);
}

void infer_matrix_unpack(infer_qtype type, infer_layout layout, const void *w, uint64_t n, uint64_t k, uint64_t row0, uint64_t count,
                         float *rows)
{
    if (layout == INFER_LAYOUT_COLS)
        infer_unpack_cols(type, w, n, k, row0, count, rows);
    else if (infer_layout_sparse(layout))
        infer_sparse_unpack(type, layout, w, n, k, row0, count, rows);
    else
        for (uint64_t done = 0; done < count; done += INFER_TILE_ROWS)
            infer_unpack_panel(type, (const uint8_t *)w + (row0 + done) / INFER_TILE_ROWS * infer_panel_bytes(type, k),
                               panel_rows(count, done), k, rows + done * k);
}
