/*
 * Rounding the weights of one matrix so that its outputs on given inputs change least: for each row w, codes and scales of the rounded row q that
 * make (w - q) H (w - q)^T small, H = sum of x x^T over the inputs x. Pure mathematics, in double, every row by itself: the same bits on any machine
 * and for any division of the rows among threads.
 *
 * Sources: GPTQ (Frantar et al. 2022, arXiv:2210.17323) in the form of LDLQ (Chee et al. 2023, arXiv:2307.13304), which needs no inverse of H; order
 * of the inputs by their second moments, inside the fixed groups of the file format; then coordinate descent on the same objective.
 */
#ifndef INFER_CONVERT_GPTQ_H
#define INFER_CONVERT_GPTQ_H

#include "core/core.h"
#include "qtypes.h"

/* What a group's numbers can be: scale x level, with ascending levels. One row of a table for each type that can be calibrated. */
typedef struct infer_quantizer {
    infer_qtype type;
    int32_t low, high;     /* codes */
    const int8_t *levels;  /* [high - low + 1] level of each code; NULL: the code itself */
    float divisors[2];     /* scales tried: (value of largest magnitude) / d and / -d, d between these, ... */
    float step;            /* ... in steps of this */
} infer_quantizer;

/* NULL: the type has no groups to calibrate. */
const infer_quantizer *infer_quantizer_find(infer_qtype type);

/* Second moments of a matrix's k inputs. */
typedef struct infer_moments {
    uint32_t k;
    uint64_t rows; /* inputs summed */
    double *h;     /* [k][k] sum of x x^T, x being what the rounded model sees */
    double *cross; /* [k][k] sum of y x^T, y being what the float model sees at the same place; NULL: y = x */
} infer_moments;

/* Adds rows i0..i1-1 of the sums of y x^T: y, x [m][k]; sum [k][k]. */
void infer_moments_add(double *sum, const float *y, const float *x, uint32_t m, uint32_t k, uint32_t i0, uint32_t i1);

typedef struct infer_gptq infer_gptq;

/* damping: added to the diagonal of H, as a share of its mean. The moments are borrowed until infer_gptq_free. Memory: k x k doubles. MEMORY;
 * FORMAT: the moments are not finite. */
infer_status infer_gptq_create(const infer_allocator *a, const infer_moments *moments, double damping, infer_gptq **out, infer_error *err);
void infer_gptq_free(infer_gptq *g);
/* Doubles of scratch space that infer_gptq_panel wants. */
size_t infer_gptq_scratch(const infer_gptq *g);
/* w [n][k], n in 1..16, to codes [n][k] and fp16 scales [n][ceil(k / 32)]. kept [n][k], or NULL: where it is 0, w is too and the code will mean 0; w then
 * are the weights to come near to, whatever `cross` says (infer_pruner_panel has heeded it). Adds the objective, per input, to *loss (may be NULL).
 * False: a value is not finite, or too large for an fp16 scale. */
bool infer_gptq_panel(const infer_gptq *g, const infer_quantizer *q, const float *w, const uint8_t *kept, uint32_t n, int8_t *codes, uint16_t *scales,
                      double *scratch, double *loss);

#endif
