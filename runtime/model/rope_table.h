/* Rotary position embedding tables, the same bits on every machine. */
#ifndef INFER_MODEL_ROPE_TABLE_H
#define INFER_MODEL_ROPE_TABLE_H

#include "graph/graph.h"

/* cos, sin [positions][rope->dim / 2] of position * frequency i, times the magnitude; frequency i = theta^(-2i / dim), scaled as
 * rope->scaling says. */
void infer_rope_table(const infer_rope_config *rope, uint32_t positions, float *cos, float *sin);

#endif
