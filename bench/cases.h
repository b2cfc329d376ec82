/* One kernel call with everything it needs: the arguments of an operation at the size of a model's layer, filled with random numbers. */
#ifndef INFER_BENCH_CASES_H
#define INFER_BENCH_CASES_H

#include "kernels.h"
#include "shapes.h"

/* The size of an operation. Matmul and embed: weights [n][k]; the others work on rows of n; attention and store on kv_heads x head_dim. */
typedef struct infer_layer {
    const char *name; /* "gate_up" */
    uint32_t n, k;
    uint32_t heads, kv_heads, head_dim, positions;
    double prune; /* of weights in a sparse layout: the share that is not there */
} infer_layer;

#define INFER_MAX_LAYERS_OF_OP 5u
/* The layers of a model that use the operation, largest vocabularies cut (INFER_CASE_MAX_WEIGHTS); returns their number. */
uint32_t infer_case_layers(const infer_shape *shape, const infer_kernel *kernel, infer_layer layers[INFER_MAX_LAYERS_OF_OP]);
#define INFER_CASE_MAX_WEIGHTS ((uint64_t)256 << 20)
/* Most tokens that the operation takes at once. */
uint32_t infer_case_most_tokens(infer_op_kind op);

typedef struct infer_case infer_case;

/* `cold_bytes`: as many copies of the weights (or of the KV cache) as exceed it, used in turn; 0: one. MEMORY; UNSUPPORTED: no reference kernel. */
infer_status infer_case_create(const infer_kernel *kernel, const infer_layer *layer, uint32_t m, size_t cold_bytes, infer_case **out,
                               infer_error *err);
void infer_case_destroy(infer_case *c);
/* Calls the kernel on the whole output, then moves on to the next copy. */
void infer_case_run(infer_case *c, infer_kernel_fn *kernel);
double infer_case_bytes(const infer_case *c); /* read and written by a call */
uint64_t infer_case_units(const infer_case *c); /* of weights in a sparse layout; 0 for others */
double infer_case_ops(const infer_case *c);   /* 2 a multiply-add, of matmul and attention; 0 for the others */
/* Nanoseconds of the reference kernel for the whole output, from a part of it where that is large. */
double infer_case_reference_ns(infer_case *c);
/* True when kernel and reference write the same bits. */
bool infer_case_agrees(infer_case *c, infer_kernel_fn *kernel);

#endif
