/*
 * Where the numbers lie in the layout `cols`: the C form of its section in formats/SPEC.md. Each input's weights for a stripe of outputs lie
 * together, so that the bytes of a silent input are never touched.
 *
 *   weight[o][i] = row[o] * column[i] * scale[o][i / 64] * code[o][i]
 *
 *   float   column[inputs, padded to 64]    for the quantization of the input (infer_quantize_args): kernels of matmul do not look at them
 *   float   row[outputs, padded to 128]
 *   stripes, as few as have at most INFER_COLS_STRIPE outputs each, and as wide as each other but for two tiles. In a stripe of w outputs, for every 64 inputs:
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
    INFER_COLS_GROUP = 64,    /* inputs that share a scale */
    INFER_COLS_TILE = 128,    /* outputs are padded to it, and regions are cut at multiples of it */
    INFER_COLS_STRIPE = 1024  /* at most */
};

static inline size_t infer_cols_padded(size_t n, size_t unit) { return (n + unit - 1) / unit * unit; }

/* Bytes of one input's codes for `outputs` outputs, a multiple of 128; bits: 4 or 8. */
static inline size_t infer_cols_codes_bytes(size_t outputs, uint32_t bits) { return outputs * bits / 8; }

/* Bytes of a group of 64 inputs. */
static inline size_t infer_cols_group_bytes(size_t outputs, uint32_t bits)
{
    return outputs + INFER_COLS_GROUP * infer_cols_codes_bytes(outputs, bits);
}

/* What a matmul of n outputs and k inputs finds where. */
typedef struct infer_cols {
    const float *column, *row;
    const uint8_t *stripes;
    size_t groups, padded, count; /* of 64 inputs; outputs; stripes */
    uint32_t bits;
} infer_cols;

static inline infer_cols infer_cols_at(const void *w, size_t n, size_t k, uint32_t bits)
{
    infer_cols c;
    c.groups = infer_cols_padded(k, INFER_COLS_GROUP) / INFER_COLS_GROUP;
    c.padded = infer_cols_padded(n, INFER_COLS_TILE);
    c.count = infer_cols_padded(c.padded, INFER_COLS_STRIPE) / INFER_COLS_STRIPE;
    c.bits = bits;
    c.column = w;
    c.row = c.column + c.groups * INFER_COLS_GROUP;
    c.stripes = (const uint8_t *)(c.row + c.padded);
    return c;
}

/* Pairs of tiles: stripes are cut between these, so that columns of q4g64 begin where pairs of lines do, which CPUs like to read together. */
static inline size_t infer_cols_pairs(const infer_cols *c) { return infer_cols_padded(c->padded, 2 * INFER_COLS_TILE) / (2 * INFER_COLS_TILE); }

/* The first output of stripe s. Two threads, which share the tiles evenly, meet between two stripes where their number is even. */
static inline size_t infer_cols_start(const infer_cols *c, size_t s)
{
    size_t o = infer_cols_padded(s * infer_cols_pairs(c), c->count) / c->count * 2 * INFER_COLS_TILE;
    return o < c->padded ? o : c->padded;
}

/* Outputs of stripe s. */
static inline size_t infer_cols_width(const infer_cols *c, size_t s) { return infer_cols_start(c, s + 1) - infer_cols_start(c, s); }

/* The stripe of output o. */
static inline size_t infer_cols_stripe(const infer_cols *c, size_t o)
{
    return o / (2 * INFER_COLS_TILE) * c->count / infer_cols_pairs(c);
}

/* Outputs of a stripe: `width` in all, and `count` of them from the matrix's output `at` on, the stripe's output `first`. */
typedef struct infer_cols_span {
    size_t stripe, width, at, first, count;
} infer_cols_span;

/* Outputs o.. of one stripe, up to `end` and no more than `most`. */
static inline infer_cols_span infer_cols_span_at(const infer_cols *c, size_t o, size_t end, size_t most)
{
    infer_cols_span s = {.stripe = infer_cols_stripe(c, o), .at = o};
    s.first = o - infer_cols_start(c, s.stripe);
    s.width = infer_cols_width(c, s.stripe);
    s.count = s.width - s.first < end - o ? s.width - s.first : end - o;
    s.count = s.count < most ? s.count : most;
    return s;
}

/* The scales of group g in stripe s; the codes follow. */
static inline const uint8_t *infer_cols_group(const infer_cols *c, size_t s, size_t g)
{
    return c->stripes + c->groups * infer_cols_group_bytes(infer_cols_start(c, s), c->bits) + g * infer_cols_group_bytes(infer_cols_width(c, s), c->bits);
}

/* The codes of its first input. */
static inline const uint8_t *infer_cols_codes(const infer_cols *c, size_t s, size_t g) { return infer_cols_group(c, s, g) + infer_cols_width(c, s); }

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
