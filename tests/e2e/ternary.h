/* The ternary checkpoint's forward pass as the program does it that wrote its reference story: in float32, each sum in the order of its
 * terms, and activations in 8 bits with one scale for all of a token's. Written from the checkpoint's definition, with nothing of the
 * runtime's. */
#ifndef INFER_TESTS_TERNARY_H
#define INFER_TESTS_TERNARY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The logits [n][vocab] behind each of n ids, of the numbers that our importer finds in the checkpoint at `path`; to be freed. `nudged`:
 * each number of the embeddings is the next larger float32. Asserts. */
float *ternary_logits(const char *path, const int32_t *ids, size_t n, bool nudged, size_t *vocab);

#endif
