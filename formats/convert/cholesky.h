/* Cholesky factorization of symmetric positive definite matrices, in double. */
#ifndef INFER_CONVERT_CHOLESKY_H
#define INFER_CONVERT_CHOLESKY_H

#include <stdbool.h>
#include <stdint.h>

/* a [k][k], of which the lower triangle is read, becomes the lower triangular L with a = L L^T; what is above the diagonal stays. False: a is not
 * positive definite, or not finite. */
bool infer_cholesky(double *a, uint32_t k);
/* Solves L L^T x = b in place. */
void infer_cholesky_solve(const double *l, uint32_t k, double *b);
/* The lower triangle of (L L^T)^-1, inverse [k][k]. */
void infer_cholesky_inverse(const double *l, uint32_t k, double *inverse);

#endif
