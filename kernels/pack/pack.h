/* Rows of floats or codes -> one panel of tile16x4, and back. Memory: the caller's. Reference speed is enough: conversion happens once. */
#ifndef INFER_KERNELS_PACK_H
#define INFER_KERNELS_PACK_H

#include "qtypes.h"

/* rows [n][k], n in 1..16; the panel gets infer_panel_bytes(type, k) bytes. Rows n..16 and inputs k..k_padded become zeros.
 * q8g32: scale = fp16(amax / 127), code = rint(x / scale) in -127..127. q4g32: with m the value of largest magnitude, scale = the
 * fp16(m / d) of least squared error among d = -8 and, in quarters, -9 to -6.5 and 6.5 to 9 that put no value off by more than |m| / 8; code =
 * clamp(rint(x / scale) + 8, 0, 15). t2r: a row that holds only -s, 0 and s is kept as it is; else scale = mean |x| of the row and code =
 * clamp(rint(x / scale), -1, 1) (Ma et al. 2024, arXiv:2402.17764, there for a whole matrix). Returns false when a value is not finite or does not fit the type's scale. */
bool infer_pack_panel(infer_qtype type, const float *rows, uint32_t n, uint64_t k, void *panel);
/* codes [n][k] (q8g32: -127..127; q4g32: -8..7), scales fp16 [n][ceil(k / 32)]: stored as they are. Types q8g32 and q4g32 only. Returns false
 * for another type, a code outside its range, or a scale that is not finite. */
bool infer_pack_panel_codes(infer_qtype type, const int8_t *codes, const uint16_t *scales, uint32_t n, uint64_t k, void *panel);
/* The panel's values as floats, rows [16][k] (only the first n rows, n <= 16, are written). */
void infer_unpack_panel(infer_qtype type, const void *panel, uint32_t n, uint64_t k, float *rows);
uint64_t infer_panel_bytes(infer_qtype type, uint64_t k);

#endif
