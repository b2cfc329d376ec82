/*
 * Where the numbers lie in the sparse layouts: the C form of their sections in formats/SPEC.md. Rows are padded to panels of 16 as in
 * tile16x4, inputs to blocks of 64; types are q8g64 and q4g64. Parts, each at a multiple of 64 bytes:
 *
 *   pointers   uint32_t, where each panel's units (csr: each row's numbers) begin, and behind the last one their count
 *   counts     bcsr16x1  uint8_t [panels][blocks]: how many inputs of the block are kept, as 16 rows x 1 input
 *   positions  bcsr16x1  uint8_t [units][4]: the kept inputs, 0..63 within their blocks: what a byte shuffle takes as it is
 *              bcsr16x4  uint16_t [panels][blocks]: bit i is set where inputs 4i..4i + 3 of the block are kept, as 16 rows x 4 inputs
 *              csr       uint16_t [numbers]: inputs, rising within a row
 *              bitmask   uint64_t [panels][blocks][16]: a tile each; of tile c, 16 rows x 4 inputs, bit 4r + j is set where row r,
 *                        input 4c + j is kept
 *   scales     fp16 [panels][blocks][16]
 *   values     bcsr16    units of 16 rows x 4 kept inputs. The kept inputs of a panel follow each other whatever their block; a panel's
 *                        last unit is padded. q8g64: 64 bytes, byte 4r + j is row r, kept input j. q4g64: 32 bytes, byte 4r + j has row r in the low
 *                        and row 8 + r in the high nibble, r = 0..7; nibbles mean nibble - 8.
 *              csr       q8g64: a byte a number. q4g64: number n in the low nibble of byte n / 2 where n is even, else in the high one.
 *              bitmask   units of two numbers, as in csr. A tile's numbers follow each other in the order of its bits; it begins with a unit.
 *                        Behind the last one stand 64 more bytes, so that what a vector reads too much is there.
 */
#ifndef INFER_KERNELS_SPARSE_H
#define INFER_KERNELS_SPARSE_H

#include "qtypes.h"

#include <string.h>

enum { INFER_SPARSE_BLOCK = 64, INFER_SPARSE_TAIL_BYTES = 64 };

typedef struct infer_sparse {
    const uint32_t *pointers;
    const uint8_t *counts; /* bcsr16x1 */
    const void *positions;
    const uint16_t *scales;
    const uint8_t *values;
    size_t panels, blocks;
    uint32_t units; /* of all panels; csr: numbers of all rows */
} infer_sparse;

static inline size_t infer_sparse_round(size_t bytes) { return (bytes + 63) / 64 * 64; }

/* Bytes of positions. */
static inline size_t infer_sparse_positions_bytes(infer_layout layout, size_t panels, size_t blocks, uint32_t units)
{
    switch (layout) {
    case INFER_LAYOUT_BCSR16X1:
        return (size_t)units * 4;
    case INFER_LAYOUT_BCSR16X4:
        return panels * blocks * sizeof(uint16_t);
    case INFER_LAYOUT_BITMASK:
        return panels * blocks * 16 * sizeof(uint64_t);
    default:
        return units * sizeof(uint16_t);
    }
}

/* The parts of a matrix [n][k] that infer_sparse_check found right. */
static inline infer_sparse infer_sparse_at(infer_layout layout, const void *w, size_t n, size_t k)
{
    const uint8_t *at = w;
    infer_sparse s;
    size_t pointers;

    s.panels = (n + 15) / 16;
    s.blocks = (k + INFER_SPARSE_BLOCK - 1) / INFER_SPARSE_BLOCK;
    pointers = (layout == INFER_LAYOUT_CSR ? n : s.panels) + 1;
    s.pointers = w;
    s.units = s.pointers[pointers - 1];
    at += infer_sparse_round(pointers * sizeof *s.pointers);
    s.counts = at;
    if (layout == INFER_LAYOUT_BCSR16X1)
        at += infer_sparse_round(s.panels * s.blocks);
    s.positions = at;
    at += infer_sparse_round(infer_sparse_positions_bytes(layout, s.panels, s.blocks, s.units));
    s.scales = (const uint16_t *)(const void *)at;
    s.values = at + infer_sparse_round(s.panels * s.blocks * 32);
    return s;
}

/* bcsr16x1: the kept inputs of a panel, one after the other. */
static inline const uint8_t *infer_sparse_inputs(const infer_sparse *s, size_t panel)
{
    return (const uint8_t *)s->positions + 4 * (size_t)s->pointers[panel];
}

/* bcsr16x4: the kept fours of inputs of a block, a bit each. */
static inline uint32_t infer_sparse_fours(const infer_sparse *s, size_t panel, size_t b)
{
    return ((const uint16_t *)s->positions)[panel * s->blocks + b];
}

/* bcsr16: the kept inputs of block b, rising, each 0..63; returns how many. kept: inputs kept in the panel's blocks before it. */
static inline uint32_t infer_sparse_kept(infer_layout layout, const infer_sparse *s, size_t panel, size_t b, size_t kept, uint8_t inputs[64])
{
    uint32_t count = 0;

    if (layout == INFER_LAYOUT_BCSR16X1) {
        count = s->counts[panel * s->blocks + b];
        memcpy(inputs, infer_sparse_inputs(s, panel) + kept, count);
        return count;
    }
    for (uint32_t mask = infer_sparse_fours(s, panel, b); mask; mask &= mask - 1)
        for (uint32_t j = 0; j < 4; j++)
            inputs[count++] = (uint8_t)(4 * (uint32_t)__builtin_ctz(mask) + j);
    return count;
}

/* bcsr16: how many units of a block kernels for one token multiply always, with zeros where there is nothing: how many there are is as good as
 * random, and a branch on it would be mispredicted. Those of a mean block, and what pays for fewer mispredictions (measured at avx2 on
 * Zen 4); 0 in panels behind which fewer than `most` are stored, as there might not be so many. */
static inline uint32_t infer_sparse_always(infer_layout layout, const infer_sparse *s, size_t panel, uint32_t most)
{
    float mean = (float)(s->pointers[panel + 1] - s->pointers[panel]) / (float)s->blocks;
    uint32_t always = (uint32_t)(mean + (layout == INFER_LAYOUT_BCSR16X1 ? 2.25f : 1.5f));

    if (s->units - s->pointers[panel + 1] < most)
        return 0;
    return always < most ? always : most;
}

/* bitmask: what is kept of the 16 tiles of a block. */
static inline const uint64_t *infer_sparse_masks(const infer_sparse *s, size_t panel, size_t b)
{
    return (const uint64_t *)s->positions + 16 * (panel * s->blocks + b);
}

/* bitmask: units of a tile. */
static inline uint32_t infer_sparse_mask_units(uint64_t mask) { return ((uint32_t)__builtin_popcountll(mask) + 1) / 2; }
static inline size_t infer_sparse_mask_unit_bytes(infer_qtype type) { return type == INFER_QTYPE_Q8G64 ? 2 : 1; }

/* fp16 bits of the scale of row r (0..15) in block b of a panel. */
static inline uint16_t infer_sparse_scale(const infer_sparse *s, size_t panel, size_t b, uint32_t r)
{
    return s->scales[(panel * s->blocks + b) * 16 + r];
}

static inline size_t infer_sparse_unit_bytes(infer_qtype type) { return type == INFER_QTYPE_Q8G64 ? 64 : 32; }

/* Byte of row r, kept input j of a unit, counted from the unit; q4g64: the shift says which nibble. */
static inline size_t infer_sparse_offset(infer_qtype type, uint32_t r, uint32_t j)
{
    return 4 * (type == INFER_QTYPE_Q8G64 ? r : r % 8) + j;
}

static inline uint32_t infer_sparse_shift(uint32_t r) { return r / 8 * 4; }

/* Code of row r, kept input i, counted from the first of `unit`. */
static inline int32_t infer_sparse_code(infer_qtype type, const uint8_t *unit, uint32_t r, size_t i)
{
    uint8_t byte = unit[i / 4 * infer_sparse_unit_bytes(type) + infer_sparse_offset(type, r, i % 4)];
    return type == INFER_QTYPE_Q8G64 ? (int8_t)byte : (int32_t)(byte >> infer_sparse_shift(r) & 15) - 8;
}

/* Number i of csr, or of a tile of bitmask. */
static inline int32_t infer_sparse_number(infer_qtype type, const uint8_t *values, size_t i)
{
    return type == INFER_QTYPE_Q8G64 ? (int8_t)values[i] : (int32_t)(values[i / 2] >> (i % 2 * 4) & 15) - 8;
}

/* bitmask: code of bit i of a tile's mask; 0 where it is not kept. */
static inline int32_t infer_sparse_mask_code(infer_qtype type, const uint8_t *values, uint64_t mask, uint32_t i)
{
    if (!(mask >> i & 1))
        return 0;
    return infer_sparse_number(type, values, (size_t)__builtin_popcountll(mask & ((1ull << i) - 1)));
}

/* csr: rows o.. (at most 16, to row n) of blocks b0.. as tiles of 16 rows x 4 inputs, byte 4r + j being code + bias of row r, input j. next[r]:
 * each row's first number in them, moved behind them; before the first block its pointer. */
static inline void infer_sparse_csr_tiles(const infer_sparse *s, infer_qtype type, size_t o, size_t n, size_t b0, size_t blocks, uint32_t next[16],
                                          int32_t bias, uint8_t *tiles)
{
    const uint16_t *inputs = (const uint16_t *)s->positions;
    uint32_t first = (uint32_t)(INFER_SPARSE_BLOCK * b0), last = (uint32_t)(INFER_SPARSE_BLOCK * (b0 + blocks));

    memset(tiles, bias, blocks * 16 * INFER_SPARSE_BLOCK);
    for (uint32_t r = 0; r < 16 && o + r < n; r++) {
        uint32_t i = b0 ? next[r] : s->pointers[o + r], end = s->pointers[o + r + 1];
        for (; i < end && inputs[i] < last; i++) {
            uint32_t input = inputs[i] - first;
            tiles[input / 4 * 64 + 4 * r + input % 4] = (uint8_t)(infer_sparse_number(type, s->values, i) + bias);
        }
        next[r] = i;
    }
}

/* ---- sparse.c: sizes, and the checks that must come before all of the above ---- */

/* Bytes of a matrix [n][k] with so many units. False: type and layout do not go together, or the sizes are beyond what the layout can
 * address. */
bool infer_sparse_bytes(uint32_t type, uint32_t layout, uint64_t n, uint64_t k, uint64_t units, uint64_t *bytes);
/* Whether a matrix [n][k] may have so many bytes. */
bool infer_sparse_bytes_fit(uint32_t type, uint32_t layout, uint64_t n, uint64_t k, uint64_t bytes);

typedef struct infer_sparse_fault {
    const char *what; /* e.g. "pointer": */
    uint64_t at;      /* which one */
    uint64_t found, expected;
} infer_sparse_fault;

/* Whether pointers, positions and size fit each other, so that kernels stay within `bytes`. */
bool infer_sparse_check(infer_qtype type, infer_layout layout, uint64_t n, uint64_t k, const void *w, uint64_t bytes,
                        infer_sparse_fault *fault);

#endif
