/*
 * Matmuls by panels of 16 rows. Both take functions that are inlined: one for each number of panels, or of tokens, which is a constant in it.
 */
#ifndef INFER_KERNELS_AVX2_PANELS_H
#define INFER_KERNELS_AVX2_PANELS_H

#include "kernels.h"
#include "vector.h"

enum {
    PANELS = 4,            /* at once */
    TOKENS = 4,            /* at once, of one panel */
    MOST_AHEAD = 128 << 10 /* bytes from panels that are read side by side to those behind them, up to which it pays to ask for these (measured) */
};

/* Columns o.. of `panels` panels. */
typedef void panels_fn(const infer_matmul_args *a, infer_region at, uint32_t o, const uint32_t panels);

ALWAYS_INLINE void by_panels(const infer_matmul_args *a, infer_region at, panels_fn *multiply)
{
    for (uint32_t o = at.col0; o < at.col1; o += 16 * PANELS)
        switch ((at.col1 - o + 15) / 16) {
        case 1:
            multiply(a, at, o, 1);
            break;
        case 2:
            multiply(a, at, o, 2);
            break;
        case 3:
            multiply(a, at, o, 3);
            break;
        default:
            multiply(a, at, o, PANELS);
        }
}

/* The panel at column o, tokens t0.. */
typedef void tokens_fn(const infer_matmul_args *a, infer_region at, uint32_t o, uint32_t t0, const uint32_t tokens);

/* A panel stays in the cache for all tokens. */
ALWAYS_INLINE void by_tokens(const infer_matmul_args *a, infer_region at, tokens_fn *multiply)
{
    for (uint32_t o = at.col0; o < at.col1; o += 16)
        for (uint32_t t = at.row0; t < at.row1; t += TOKENS)
            switch (at.row1 - t) {
            case 1:
                multiply(a, at, o, t, 1);
                break;
            case 2:
                multiply(a, at, o, t, 2);
                break;
            case 3:
                multiply(a, at, o, t, 3);
                break;
            default:
                multiply(a, at, o, t, TOKENS);
            }
}

#endif
