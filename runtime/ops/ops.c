/* The table behind graph/ops.def. */
#include "ops/ops.h"

enum {
    ROWS = INFER_AXIS_ROWS,
    COLUMNS = INFER_AXIS_COLUMNS,
    BOTH = INFER_AXIS_ROWS | INFER_AXIS_COLUMNS,
    COLUMNS_NEEDED = BOTH | 4,
    ALWAYS = INFER_ALWAYS,
    WHOLE = INFER_WHEN_WHOLE,
    SPLIT = INFER_WHEN_SPLIT
};

const infer_op infer_ops[INFER_OP_COUNT] = {
#define OP(KIND, name, axes, local, in_place, when)                                                                                        \
    [INFER_OP_##KIND] = {#name,    (axes)&BOTH,        ((axes)&4) != 0,         local,                                                     \
                         in_place, (infer_when)(when), infer_op_##name##_grain, infer_op_##name##_bind},
#include "graph/ops.def"
#undef OP
};
