/*
 * Choosing the weights of one matrix that become zero, and what the others should then be: panels of 16 rows, each by itself, so that the
 * same bits come out for any division of the panels among threads. Pure mathematics, in double.
 *
 * Sources: Wanda (Sun et al. 2023, arXiv:2306.11695); SparseGPT (Frantar and Alistarh 2023, arXiv:2301.00774), here with one choice for a
 * block of rows and, like gptq.h, in terms of the factor of H instead of its inverse; OBS (Hassibi and Stork 1993), which makes that
 * choice again after every few blocks, among all. Whatever chose the zeros, the weights that stay are set to the least squares solution.
 */
#ifndef INFER_CONVERT_PRUNE_H
#define INFER_CONVERT_PRUNE_H

#include "convert/gptq.h"

typedef enum infer_prune_method {
    INFER_PRUNE_MAGNITUDE, /* sum of w^2 over a block */
    INFER_PRUNE_WANDA,     /* sum of w^2 times the second moment of the input */
    INFER_PRUNE_SPARSEGPT, /* what the outputs change by when all weights not yet decided make up for it */
    INFER_PRUNE_OBS        /* what the outputs change by when all weights that stay make up for it */
} infer_prune_method;

/* Which weights become zero together, and among which others a block is chosen: rate x their number. */
typedef enum infer_prune_block {
    INFER_PRUNE_16X1, /* 16 rows of an input, in a panel */
    INFER_PRUNE_16X4, /* 16 rows of 4 inputs, in a panel */
    INFER_PRUNE_1X1,  /* single weights, in a row */
    INFER_PRUNE_2_4   /* single weights, two of every four of a row */
} infer_prune_block;

/* "16x1", "wanda", in the order of the enumerations, NULL-terminated. */
extern const char *const infer_prune_block_names[], *const infer_prune_method_names[];

typedef struct infer_pruner infer_pruner;

/* moments: of the matrix's inputs, borrowed until infer_pruner_free; NULL: the method is MAGNITUDE, and the weights that stay are left
 * alone. damping: as for infer_gptq_create. Memory: k x k doubles with SPARSEGPT, twice that with OBS. MEMORY; ARGUMENT: 2:4 with k not
 * a multiple of 4; FORMAT: the moments are not finite. */
infer_status infer_pruner_create(const infer_allocator *a, uint32_t k, const infer_moments *moments, infer_prune_method method,
                                 infer_prune_block block, double damping, infer_pruner **out, infer_error *err);
void infer_pruner_free(infer_pruner *p);
/* Bytes of scratch space, aligned to 8, that infer_pruner_panel wants: with moments mainly k x k doubles. */
size_t infer_pruner_scratch(const infer_pruner *p);

/* Prunes w [n][k], n in 1..16, in place: round(rate x blocks) blocks of the panel, or of each row, become zero, rate in 0..1 (2:4: two
 * of four, whatever the rate). kept [n][k]: 1 where a weight stays. recover: the weights that stay become those with which the panel's
 * outputs are closest to those of the float model; else they are left as they are. Adds to loss[0] the mean square change of the outputs
 * on the moments' inputs, to loss[1] the mean square of the outputs themselves (may be NULL). False: a value is not finite. */
bool infer_pruner_panel(const infer_pruner *p, double rate, bool recover, float *w, uint32_t n, uint8_t *kept, void *scratch,
                        double loss[2]);

#endif
