/* The table behind graph/ops.def. */
#include "graph/plan.h"
#include "ops/ops.h"

#define OP(KIND, name, axes, local, in_place)                                                                                                  \
    uint32_t infer_op_##name##_grain(const infer_graph *g, const infer_node *n);                                                               \
    void infer_op_##name##_bind(const infer_plan *plan, const infer_node *n, const infer_batch *batch, infer_args *args);
#include "graph/ops.def"
#undef OP

enum {
    ROWS = INFER_AXIS_ROWS,
    COLUMNS = INFER_AXIS_COLUMNS,
    BOTH = INFER_AXIS_ROWS | INFER_AXIS_COLUMNS,
    COLUMNS_NEEDED = BOTH | 4
};

const infer_op infer_ops[INFER_OP_COUNT] = {
#define OP(KIND, name, axes, local, in_place)                                                                                                  \
    [INFER_OP_##KIND] = {#name, (axes) & BOTH, ((axes) & 4) != 0, local, in_place, infer_op_##name##_grain, infer_op_##name##_bind},
#include "graph/ops.def"
#undef OP
};
