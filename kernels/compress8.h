/* Eight bytes, those that bits of a mask choose, side by side: for CPUs without vpcompressb, a byte shuffle for each of the 256 masks. */
#ifndef INFER_KERNELS_COMPRESS8_H
#define INFER_KERNELS_COMPRESS8_H

#include "masks8.h"

#include <stdint.h>

/* Byte i: which bit is the i-th of those that are set, from 0 on; behind them 0. As one number, the first byte lowest. */
#define BELOW(m, bit) __builtin_popcount((m) & ((1 << (bit)) - 1))
#define PLACE(m, bit) ((m) >> (bit)&1 ? (uint64_t)(bit) << 8 * BELOW(m, bit) : 0)
#define ROW(m) PLACE(m, 1) | PLACE(m, 2) | PLACE(m, 3) | PLACE(m, 4) | PLACE(m, 5) | PLACE(m, 6) | PLACE(m, 7)
static const uint64_t infer_compress8[256] = {INFER_EACH_MASK8(ROW)};
#undef BELOW
#undef PLACE
#undef ROW

#endif
