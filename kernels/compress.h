/* Which of eight things are kept, as a list: for byte shuffles that move kept inputs together. Only `static` data: see ref/mathf.h. */
#ifndef INFER_KERNELS_COMPRESS_H
#define INFER_KERNELS_COMPRESS_H

#include <stdint.h>

/* Entry `mask`: in its bytes, from the lowest, the numbers of the mask's bits that are set; 0x80 behind them, for which shuffles give 0.
 * One entry more, so that 16 bytes can be loaded. */
#define BIT(list, mask, i) ((list) << 8 * ((mask) >> (i) & 1) | ((mask) >> (i) & 1) * (uint64_t)(i))
#define LIST(mask)                                                                                                          \
    BIT(BIT(BIT(BIT(BIT(BIT(BIT(BIT(0x8080808080808080, mask, 7), mask, 6), mask, 5), mask, 4), mask, 3), mask, 2), mask, 1), mask, 0)
#define LISTS4(mask) LIST(mask), LIST((mask) + 1), LIST((mask) + 2), LIST((mask) + 3)
#define LISTS16(mask) LISTS4(mask), LISTS4((mask) + 4), LISTS4((mask) + 8), LISTS4((mask) + 12)
#define LISTS64(mask) LISTS16(mask), LISTS16((mask) + 16), LISTS16((mask) + 32), LISTS16((mask) + 48)
static const uint64_t infer_compress_lists[256 + 1] = {LISTS64(0), LISTS64(64), LISTS64(128), LISTS64(192)};
#undef BIT
#undef LIST
#undef LISTS4
#undef LISTS16
#undef LISTS64

#endif
