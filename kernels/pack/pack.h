/* Rows of floats or codes -> stored matrices, and back: panels of tile16x4, and the layout cols. Memory: the caller's. Reference speed is enough: conversion happens once. */
#ifndef INFER_KERNELS_PACK_H
#define INFER_KERNELS_PACK_H

#include "qtypes.h"

/* rows [n][k], n in 1..16; the panel gets infer_panel_bytes(type, k) bytes. Rows n..16 and inputs k..k_padded become zeros.
 * q8g32: scale = fp16(amax / 127), code = rint(x / scale) in -127..127. q4g32: with m the value of largest magnitude, scale = the
 * fp16(m / d) of least squared error among d = -8 and, in quarters, -9 to -6.5 and 6.5 to 9 that put no value off by more than |m| / 8; code =
 * clamp(rint(x / scale) + 8, 0, 15). n4g32: the same with d = -63 and, in twos, -78 to -44 and 44 to 78, no value off by more than 11 |m| / 63, then
 * twice the scale of least squared error for the codes found; code = the nearest entry of infer_n4_values. t2r: a row that holds only -s, 0 and s is kept as it is; else scale = mean |x| of the row and code =
 * clamp(rint(x / scale), -1, 1) (Ma et al. 2024, arXiv:2402.17764, there for a whole matrix). Returns false when a value is not finite or does not fit the type's scale. */
bool infer_pack_panel(infer_qtype type, const float *rows, uint32_t n, uint64_t k, void *panel);
/* Types made of groups with a scale and codes: the range of their codes, q8g32 -127..127, q4g32 and n4g32 -8..7. False for other types, low and high
 * untouched. */
bool infer_code_range(infer_qtype type, int32_t *low, int32_t *high);
/* codes [n][k] of infer_code_range, scales fp16 [n][ceil(k / 32)]: stored as they are (n4g32: code + 8 is the entry of infer_n4_values). Returns false
 * for a type without codes, a code outside its range, or a scale that is not finite. */
bool infer_pack_panel_codes(infer_qtype type, const int8_t *codes, const uint16_t *scales, uint32_t n, uint64_t k, void *panel);
/* The panel's values as floats, rows [16][k] (only the first n rows, n <= 16, are written). */
void infer_unpack_panel(infer_qtype type, const void *panel, uint32_t n, uint64_t k, float *rows);
uint64_t infer_panel_bytes(infer_qtype type, uint64_t k);

/* One group of one row, count inputs, at most the type's 32 or 64: the fp16 bits of its scale, chosen as above (q8g64 and q4g64: as q8g32 and q4g32), and
 * codes as in infer_code_range. False: a value is not finite or does not fit the type's scale. */
bool infer_pack_group(infer_qtype type, const float *x, uint32_t count, uint16_t *scale, int8_t *codes);

/* The magnitude s of a row that holds only -s, 0 and s, which t2r keeps as it is; -1 of others. */
float infer_ternary_scale(const float *row, uint64_t k);

/* ---- the sparse layouts (sparse.h): a matrix is counted first, panel by panel, then packed, panel by panel in rising order ---- */

/* Units of a panel, rows [n][k], n in 1..16: what is not 0.0 is kept, with the rest of its block. csr: numbers. */
uint64_t infer_sparse_count(infer_layout layout, const float *rows, uint32_t n, uint64_t k);
/* w: infer_sparse_bytes(type, layout, n, k, units), 64-byte aligned. `units` is the sum of infer_sparse_count over all panels. */
void infer_sparse_begin(infer_qtype type, infer_layout layout, uint64_t n, uint64_t k, uint64_t units, void *w);
/* The next panel of a matrix [n][k]: rows [16 or what is left][k]. False as infer_pack_group, or where the counts were wrong. */
bool infer_sparse_pack_panel(infer_qtype type, infer_layout layout, uint64_t n, uint64_t k, uint64_t panel, const float *rows, void *w);
/* Rows row0.. of a matrix that infer_sparse_check found right, as floats, rows [count][k]. */
void infer_sparse_unpack(infer_qtype type, infer_layout layout, const void *w, uint64_t n, uint64_t k, uint64_t row0, uint64_t count, float *rows);

/* ---- the layout `cols`: whole matrices, as the factors of the inputs depend on all rows ---- */

/* rows [n][k] to q8g64 or q4g64; out gets infer_tensor_bytes. Factors of inputs and outputs by balancing mean squares; scales of least squared error
 * (q4g64) or that reach the largest magnitude (q8g64). A matrix whose rows hold only -s, 0 and s is kept as it is. scratch: infer_pack_cols_scratch bytes, aligned for double. False: a value is not finite. */
bool infer_pack_cols(infer_qtype type, const float *rows, uint64_t n, uint64_t k, void *scratch, void *out);
size_t infer_pack_cols_scratch(uint64_t n, uint64_t k);
/* Rows row0.. of a matrix [n][k] as floats, rows [count][k]. */
void infer_unpack_cols(infer_qtype type, const void *w, uint64_t n, uint64_t k, uint64_t row0, uint64_t count, float *rows);

#endif
