/* A whole matrix in the types q8g64 and q4g64: which of its layouts it gets, into it, and back. */
#ifndef INFER_CONVERT_MATRIX_H
#define INFER_CONVERT_MATRIX_H

#include "convert/cost.h"
#include "core/core.h"

/* A layout that a matrix could have. */
typedef struct infer_matrix_option {
    infer_layout layout;
    uint64_t bytes, units;       /* units: of a sparse layout (kernels/sparse.h) */
    double memory_ns, kernel_ns; /* of a product with one token: it takes the longer of the two */
} infer_matrix_option;

typedef struct infer_matrix_choice {
    infer_layout layout;
    uint64_t bytes, units;
    infer_matrix_option options[INFER_COST_LAYOUTS]; /* that it was chosen among */
    uint32_t option_count;                           /* 0: there was no choice */
} infer_matrix_choice;

static inline double infer_matrix_ns(const infer_matrix_option *o)
{
    return o->memory_ns > o->kernel_ns ? o->memory_ns : o->kernel_ns;
}

/* The layout of the matrix rows [n][k], stored as `type`. With costs: of cols, bcsr16x4, bcsr16x1 and bitmask, for the types that have
 * them, the one that takes the least time, and of equals the one of fewest bytes; never csr, which takes more of both but where nearly all
 * is gone. Without, and of other types, that of dense matrices, which does not depend on rows. n x k: a shape that infer_tensor_bytes
 * knows, else bytes is 0. */
infer_matrix_choice infer_matrix_choose(infer_qtype type, const float *rows, uint64_t n, uint64_t k, const infer_costs *costs);
/* Units of a sparse layout (kernels/sparse.h) that hold the matrix rows [n][k]; 0 in others. */
uint64_t infer_matrix_units(infer_layout layout, const float *rows, uint64_t n, uint64_t k);
/* out: choice->bytes, 64-byte aligned. The choice is that of the same rows, of cols or a sparse layout. FORMAT: a value is not finite, or
 * does not fit the type; MEMORY. `name` is for messages. */
infer_status infer_matrix_pack(const infer_allocator *a, const char *name, infer_qtype type, const infer_matrix_choice *choice,
                               const float *rows, uint64_t n, uint64_t k, void *out, infer_error *err);
/* Rows row0.. of a matrix [n][k] in any layout but `rows`, as floats, rows [count][k]. A sparse one was found right by infer_sparse_check;
 * in tile16x4, row0 is a multiple of 16. */
void infer_matrix_unpack(infer_qtype type, infer_layout layout, const void *w, uint64_t n, uint64_t k, uint64_t row0, uint64_t count,
                         float *rows);

#endif
