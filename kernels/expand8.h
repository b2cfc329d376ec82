/* Eight bytes to the places that eight bits have: for CPUs without vpexpandb, a byte shuffle for each of the 256 masks. */
#ifndef INFER_KERNELS_EXPAND8_H
#define INFER_KERNELS_EXPAND8_H

#include "masks8.h"

#include <stdint.h>

/* Byte i: how many of the bits below i are set; 0x80, for which shuffles give 0, where bit i itself is not. */
#define BIT(m, i) ((m) >> (i)&1)
#define PLACE(m, i) \
    (BIT(m, i) ? ((i) > 0 && BIT(m, 0)) + ((i) > 1 && BIT(m, 1)) + ((i) > 2 && BIT(m, 2)) + ((i) > 3 && BIT(m, 3)) + \
                     ((i) > 4 && BIT(m, 4)) + ((i) > 5 && BIT(m, 5)) + ((i) > 6 && BIT(m, 6)) \
               : 0x80)
#define ROW(m) {PLACE(m, 0), PLACE(m, 1), PLACE(m, 2), PLACE(m, 3), PLACE(m, 4), PLACE(m, 5), PLACE(m, 6), PLACE(m, 7)}
static const uint8_t infer_expand8[256][8] = {INFER_EACH_MASK8(ROW)};
#undef BIT
#undef PLACE
#undef ROW

#endif
