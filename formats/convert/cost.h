/* How long a product with one token takes, predicted: by it matrix.h chooses layouts. */
#ifndef INFER_CONVERT_COST_H
#define INFER_CONVERT_COST_H

#include "qtypes.h"

/* Of a kernel, from the caches, on all threads, in nanoseconds: units x unit + blocks x block + panels x panel. */
typedef struct infer_cost {
    double unit_ns;  /* 16 rows x 4 inputs that are stored: of cols all, padding too; of bitmask two numbers */
    double block_ns; /* 16 rows x 64 inputs, whatever is kept of them; cols 0: blocks are units there */
    double panel_ns; /* 16 rows */
} infer_cost;

enum { INFER_COST_TYPES = 2, INFER_COST_LAYOUTS = 4 };
/* Those that can be chosen, the simplest first. */
extern const infer_qtype infer_cost_types[INFER_COST_TYPES];
extern const infer_layout infer_cost_layouts[INFER_COST_LAYOUTS];

/* Numbers >= 0. A product takes what memory takes for its bytes, or what its kernel does: whichever is more. */
typedef struct infer_costs {
    double byte_ns; /* to read a byte from memory, all threads together */
    infer_cost kernels[INFER_COST_TYPES][INFER_COST_LAYOUTS];
} infer_costs;

/* Of two threads of an AVX2 level; cost.c says how they were measured. */
extern const infer_costs infer_costs_default;

typedef struct infer_work {
    uint64_t bytes, units, blocks, panels;
} infer_work;

/* Work of a matrix [n][k]; units: of a sparse layout, kernels/sparse.h. */
infer_work infer_cost_work(infer_layout layout, uint64_t n, uint64_t k, uint64_t bytes, uint64_t units);
/* NULL: a type or layout that is not among the above. */
const infer_cost *infer_cost_find(const infer_costs *costs, infer_qtype type, infer_layout layout);
/* Of the kernel alone, without memory. */
double infer_cost_kernel_ns(const infer_cost *cost, const infer_work *work);
double infer_cost_memory_ns(const infer_costs *costs, const infer_work *work);

#endif
