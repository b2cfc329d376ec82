#include "qtypes.h"

#include <string.h>

static const infer_qtype_info types[] = {
#define QTYPE(NAME, id, name, group, head_bytes, panel_bytes, element_bytes)                                                                       \
    {INFER_QTYPE_##NAME, name, group, head_bytes, panel_bytes, element_bytes},
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
    default:
        return NULL;
    }
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
    } else if (layout == INFER_LAYOUT_TILE16X4) {
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
