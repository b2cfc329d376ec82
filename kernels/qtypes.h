/* Number types and layouts of stored tensors: the vocabulary shared by the file format and the kernels. No code but arithmetic. */
#ifndef INFER_KERNELS_QTYPES_H
#define INFER_KERNELS_QTYPES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum infer_qtype {
#define QTYPE(NAME, id, name, group, head_bytes, panel_bytes, element_bytes, cols_bits) INFER_QTYPE_##NAME = id,
#include "qtypes.def"
#undef QTYPE
    INFER_QTYPE_NONE = 255 /* kernels that have no weights */
} infer_qtype;

typedef enum infer_layout {
    INFER_LAYOUT_ROWS = 0,     /* row after row, one input after the other */
    INFER_LAYOUT_TILE16X4 = 1, /* panels of 16 rows; see formats/SPEC.md */
    INFER_LAYOUT_BCSR16X1 = 3, /* only what is kept, in blocks of 16 rows x 1 input: see sparse.h */
    INFER_LAYOUT_BCSR16X4 = 4, /* 16 rows x 4 inputs */
    INFER_LAYOUT_CSR = 5,      /* single weights, each with its input */
    INFER_LAYOUT_BITMASK = 6,  /* single weights, and a bit for every one */
    INFER_LAYOUT_COLS = 8,     /* each input's weights together; 2 and 7 while its stripes were cut otherwise */
    INFER_LAYOUT_NONE = 255
} infer_layout;

typedef struct infer_qtype_info {
    infer_qtype type;
    const char *name;
    uint32_t group;         /* inputs that share a scale; 4 for the float types */
    uint32_t head_bytes;    /* tile16x4: before the groups of each panel */
    uint32_t panel_bytes;   /* tile16x4: 16 rows x one group; 0 when the type has no such layout */
    uint32_t element_bytes; /* rows: 0 when the type has no such layout */
    uint32_t cols_bits;     /* cols: of a code; 0 when the type has no such layout */
} infer_qtype_info;

/* NULL for ids and names that are not in qtypes.def. */
const infer_qtype_info *infer_qtype_find(uint32_t id);
const infer_qtype_info *infer_qtype_find_name(const char *name);
/* "tile16x4"; NULL for unknown ids. */
const char *infer_layout_name(uint32_t layout);

/* Layouts whose size depends on how much is kept. */
static inline bool infer_layout_sparse(uint32_t layout) { return layout >= INFER_LAYOUT_BCSR16X1 && layout <= INFER_LAYOUT_BITMASK; }

/* The layout of dense matrices of this type: cols where it has that one, else tile16x4. */
infer_layout infer_matrix_layout(infer_qtype type);

/* Bytes of a [rows][cols] tensor. False: type and layout do not go together, the layout is a sparse one (infer_sparse_bytes), or the product overflows
 * 63 bits. */
bool infer_tensor_bytes(uint32_t type, uint32_t layout, uint64_t rows, uint64_t cols, uint64_t *bytes);

#endif
