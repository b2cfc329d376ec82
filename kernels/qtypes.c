#include "qtypes.h"

#include "cols.h"

#include <string.h>

static const infer_qtype_info types[] = {
#define QTYPE(NAME, id, name, group, head_bytes, panel_bytes, element_bytes, cols_bits)                                                            \
    {INFER_QTYPE_##NAME, name, group, head_bytes, panel_bytes, element_bytes, cols_bits},
#include "qtypes.def"
#undef QTYPE
};

#define TYPE_COUNT (sizeof types / sizeof types[0])

const infer_qtype_info *infer_qtype_find(uint32_t id)
{
    for (size_t i = 0; i < TYPE_COUNT; i++)
        if ((uint32_t)types[i].type == id)
            return &types[i];
    return NULL;
}

const infer_qtype_info *infer_qtype_find_name(const char *name)
{
    for (size_t i = 0; i < TYPE_COUNT; i++)
        if (strcmp(types[i].name, name) == 0)
            return &types[i];
    return NULL;
}

const char *infer_layout_name(uint32_t layout)
{
    switch (layout) {
    case INFER_LAYOUT_ROWS:
        return "rows";
    case INFER_LAYOUT_TILE16X4:
        return "tile16x4";
    case INFER_LAYOUT_COLS:
        return "cols";
    case INFER_LAYOUT_BCSR16X1:
        return "bcsr16x1";
    case INFER_LAYOUT_BCSR16X4:
        return "bcsr16x4";
    case INFER_LAYOUT_CSR:
        return "csr";
    case INFER_LAYOUT_BITMASK:
        return "bitmask";
    default:
        return NULL;
    }
}

infer_layout infer_matrix_layout(infer_qtype type)
{
    const infer_qtype_info *info = infer_qtype_find(type);
    return info && info->cols_bits ? INFER_LAYOUT_COLS : INFER_LAYOUT_TILE16X4;
}

/* Factors of the inputs and of the outputs, then for every output its scale and codes of each group. */
static bool cols_bytes(const infer_qtype_info *info, uint64_t rows, uint64_t cols, uint64_t *bytes)
{
    uint64_t total;

    if (rows > INT64_MAX - INFER_COLS_TILE || cols > INT64_MAX - INFER_COLS_GROUP)
        return false;
    rows = infer_cols_padded(rows, INFER_COLS_TILE);
    cols = infer_cols_padded(cols, INFER_COLS_GROUP);
    if (__builtin_mul_overflow(cols / INFER_COLS_GROUP, infer_cols_group_bytes(2, info->cols_bits), &total) ||
        __builtin_add_overflow(total, 2 * sizeof(float), &total) || __builtin_mul_overflow(total, rows / 2, &total) ||
        __builtin_add_overflow(total, cols * sizeof(float), &total) || total > INT64_MAX)
        return false;
    *bytes = total;
    return true;
}

bool infer_tensor_bytes(uint32_t type, uint32_t layout, uint64_t rows, uint64_t cols, uint64_t *bytes)
{
    const infer_qtype_info *info = infer_qtype_find(type);
    uint64_t row_units, col_units, unit_bytes, head_bytes = 0, total;

    if (!info)
        return false;
    if (layout == INFER_LAYOUT_ROWS && info->element_bytes) {
        row_units = rows;
        col_units = cols;
        unit_bytes = info->element_bytes;
    } else if (layout == INFER_LAYOUT_COLS && info->cols_bits) {
        return cols_bytes(info, rows, cols, bytes);
    } else if (layout == INFER_LAYOUT_TILE16X4 && info->panel_bytes) {
        row_units = rows / 16 + (rows % 16 != 0);
        col_units = cols / info->group + (cols % info->group != 0);
        unit_bytes = info->panel_bytes;
        head_bytes = info->head_bytes;
    } else {
        return false;
    }
    if (__builtin_mul_overflow(col_units, unit_bytes, &total) || __builtin_add_overflow(total, head_bytes, &total) ||
        __builtin_mul_overflow(row_units, total, &total) || total > INT64_MAX)
        return false;
    *bytes = total;
    return true;
}
