/* Shapes of real models, and models of random weights in these shapes. */
#ifndef INFER_BENCH_SHAPES_H
#define INFER_BENCH_SHAPES_H

#include "core/core.h"
#include "qtypes.h"

#include <signal.h>

typedef struct infer_shape {
    const char *name;
    uint32_t dim, layers, heads, kv_heads, head_dim, ffn_dim, vocab;
    bool tied_head, qkv_bias;
    double rope_theta, rope_factor;
    uint32_t context;
} infer_shape;

const infer_shape *infer_shapes(size_t *count);
const infer_shape *infer_shape_find(const char *name); /* NULL: none of that name */

/* Matrices of the layers, and a head of its own, from which blocks were pruned: q8g64 instead of q8g32, q4g64 instead of q4g32. */
typedef struct infer_prune {
    infer_layout layout; /* a sparse one */
    double rate;         /* 0: nothing is pruned */
} infer_prune;
/* NONE: weights of this type are not pruned. */
infer_qtype infer_prune_type(infer_qtype type);

/* Writes a .infer file without a tokenizer whose matrices are of `type`, values about normal with deviation 0.02, so that activations stay finite;
 * norms and biases are ones. A panel of 16 rows is one of a few that were packed beforehand: no kernel's speed depends on the values. `path` must not exist.
 * CANCELLED when *stop became nonzero; nothing is left behind then, nor after any other failure. */
infer_status infer_shape_write(const infer_shape *shape, infer_qtype type, const infer_prune *prune, const char *path, const volatile sig_atomic_t *stop, infer_error *err);

/* A [rows][k] matrix of such panels in layout tile16x4. */
infer_status infer_random_matrix(infer_qtype type, uint32_t rows, uint32_t k, uint64_t *random, uint8_t *out, infer_error *err);

/* A pruned one: each block is kept with the probability 1 - rate. *out: infer_free. */
infer_status infer_random_sparse(infer_qtype type, infer_layout layout, uint32_t rows, uint32_t k, double rate, uint64_t *random, uint8_t **out,
                                 uint64_t *bytes, infer_error *err);

/* Pseudo-random numbers (xorshift64*, Vigna 2016, doi:10.1145/2845077). State: any number but 0. */
uint64_t infer_random(uint64_t *state);
/* Approximately normal, mean 0, deviation 1: twelve uniform numbers (Irwin-Hall). */
float infer_random_normal(uint64_t *state);

#endif
