/*
 * Where the numbers lie in the layout `cols`: the C form of its section in formats/SPEC.md. Each input's weights for a stripe of outputs lie
 * together, so that the bytes of a silent input are never touched.
 *
 *   weight[o][i] = row[o] * column[i] * scale[o][i / 64] * code[o][i]
 *
 *   float   column[inputs, padded to 64]    for the quantization of the input (infer_quantize_args): kernels of matmul do not look at them
 *   float   row[outputs, padded to 128]
 *   stripes of 512 outputs (q4g64) or 256 (q8g64), whose columns have 256 bytes; the last one has what is left. In a stripe of w outputs, for every
 *   64 inputs:
 *     uint8_t scale[w]                      sign, 3 bits of exponent, 4 of mantissa: infer_cols_scale
 *     codes of input 0, input 1 ... 63, each w outputs:
 *       q8g64  int8_t [w]
 *       q4g64  64 bytes for every 128 outputs: byte j has output j in the low and output 64 + j in the high nibble; 0..15 mean nibble - 8
 */
#ifndef INFER_KERNELS_COLS_H
#define INFER_KERNELS_COLS_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum {
    INFER_COLS_GROUP = 64,  /* inputs that share a scale */
    INFER_COLS_TILE = 128,  /* outputs are padded to it */
    INFER_COLS_STRIPE = 512 /* outputs at most */
};

static inline size_t infer_cols_padded(size_t n, size_t unit) { return (n + unit - 1) / unit * unit; }

/* Bytes of one input's codes for `outputs` outputs, a multiple of 128; bits: 4 or 8. */
static inline size_t infer_cols_codes_bytes(size_t outputs, uint32_t bits) { return outputs * bits / 8; }

/* Bytes of a group of 64 inputs. */
static inline size_t infer_cols_group_bytes(size_t outputs, uint32_t bits)
{
    return outputs + INFER_COLS_GROUP * infer_cols_codes_bytes(outputs, bits);
}

/* Outputs of a stripe, but for the last one. Narrow stripes can be shared out evenly; where some columns are skipped, these four lines are as good as eight,
 * and better than two (kernels/README.md). */
static inline size_t infer_cols_stripe_outputs(uint32_t bits) { return INFER_COLS_STRIPE / (bits / 4); }

/* What a matmul of n outputs and k inputs finds where. */
typedef struct infer_cols {
    const float *column, *row;
    const uint8_t *stripes;
    size_t groups, padded; /* of 64 inputs; outputs */
    uint32_t bits;
} infer_cols;

static inline infer_cols infer_cols_at(const void *w, size_t n, size_t k, uint32_t bits)
{
    infer_cols c;
    c.groups = infer_cols_padded(k, INFER_COLS_GROUP) / INFER_COLS_GROUP;
    c.padded = infer_cols_padded(n, INFER_COLS_TILE);
    c.bits = bits;
    c.column = w;
    c.row = c.column + c.groups * INFER_COLS_GROUP;
    c.stripes = (const uint8_t *)(c.row + c.padded);
    return c;
}

/* A stripe of `width` outputs, from `at` on. */
typedef struct infer_cols_stripe {
    const uint8_t *groups;
    size_t width, at;
} infer_cols_stripe;

/* That of output o. */
static inline infer_cols_stripe infer_cols_stripe_of(const infer_cols *c, size_t o)
{
    size_t outputs = infer_cols_stripe_outputs(c->bits);
    infer_cols_stripe s = {.at = o / outputs * outputs};
    s.width = c->padded - s.at < outputs ? c->padded - s.at : outputs;
    s.groups = c->stripes + c->groups * infer_cols_group_bytes(s.at, c->bits);
    return s;
}

/* The scales of group g of a stripe, all `width` of them; the codes follow. */
static inline const uint8_t *infer_cols_group(const infer_cols *c, const infer_cols_stripe *s, size_t g)
{
    return s->groups + g * infer_cols_group_bytes(s->width, c->bits);
}

/* The codes of its first input. */
static inline const uint8_t *infer_cols_codes(const infer_cols *c, const infer_cols_stripe *s, size_t g) { return infer_cols_group(c, s, g) + s->width; }

static inline float infer_cols_scale(uint8_t byte)
{
    uint32_t bits = (uint32_t)(byte & 0x80) << 24 | (((uint32_t)(byte & 0x7f) << 19) + (120u << 23)); /* +-(1 + mantissa / 16) 2^(exponent - 7) */
    float scale;
    memcpy(&scale, &bits, sizeof scale);
    return scale;
}

/* Code of input i (0..63) for output o (0..width - 1) of a group. */
static inline int32_t infer_cols_code(const uint8_t *group, size_t width, uint32_t bits, uint32_t i, size_t o)
{
    const uint8_t *codes = group + width + i * infer_cols_codes_bytes(width, bits);
    return bits == 8 ? (int8_t)codes[o] : (int32_t)(codes[o / 128 * 64 + o % 64] >> (o % 128 / 64 * 4) & 15) - 8;
}

#endif
