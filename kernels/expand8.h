/* Eight bytes to the places that eight bits have: for CPUs without vpexpandb, a byte shuffle for each of the 256 masks. */
#ifndef INFER_KERNELS_EXPAND8_H
#define INFER_KERNELS_EXPAND8_H

#include <stdint.h>

/* Byte i: how many of the bits below i are set; 0x80, for which shuffles give 0, where bit i itself is not. */
#define BIT(m, i) ((m) >> (i)&1)
#define PLACE(m, i) \
    (BIT(m, i) ? ((i) > 0 && BIT(m, 0)) + ((i) > 1 && BIT(m, 1)) + ((i) > 2 && BIT(m, 2)) + ((i) > 3 && BIT(m, 3)) + \
                     ((i) > 4 && BIT(m, 4)) + ((i) > 5 && BIT(m, 5)) + ((i) > 6 && BIT(m, 6)) \
               : 0x80)
#define ROW(m) {PLACE(m, 0), PLACE(m, 1), PLACE(m, 2), PLACE(m, 3), PLACE(m, 4), PLACE(m, 5), PLACE(m, 6), PLACE(m, 7)}
#define ROWS4(m) ROW(m), ROW((m) + 1), ROW((m) + 2), ROW((m) + 3)
#define ROWS16(m) ROWS4(m), ROWS4((m) + 4), ROWS4((m) + 8), ROWS4((m) + 12)
#define ROWS64(m) ROWS16(m), ROWS16((m) + 16), ROWS16((m) + 32), ROWS16((m) + 48)
static const uint8_t infer_expand8[256][8] = {ROWS64(0), ROWS64(64), ROWS64(128), ROWS64(192)};
#undef BIT
#undef PLACE
#undef ROW
#undef ROWS4
#undef ROWS16
#undef ROWS64

#endif
