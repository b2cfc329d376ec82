/*
 * Where the numbers lie in the layout `tile16x4`. The C form of the layout sections of formats/SPEC.md; the reference kernels and pack/ use
 * nothing else to find a weight.
 *
 * Rows are padded to 16. Panel p holds rows 16p..16p+15 as their groups in k order; every panel group has the same size:
 *
 *   q8g32  16 fp16 scales (32 bytes), 8 tiles of 64 bytes. Tile c, byte 4r + j: the int8 code of row r, input 4c + j of the group.
 *   q4g32  16 fp16 scales (32 bytes), 4 tiles of 64 bytes. Tile c, byte 4r + j: low nibble input 8c + j, high nibble input 8c + 4 + j;
 *          nibbles are 0..15 and mean nibble - 8.
 *   n4g32  as q4g32, but that a nibble means infer_n4_values[nibble].
 *   t2r    2 tiles of 64 bytes. Tile c, byte 4r + j, bits 2b and 2b + 1: input 16c + 4b + j; 0, 1, 2 mean -1, 0, +1. No writer leaves a 3, which
 *          kernels read as +2. Before its groups a panel has 16 float scales (64 bytes), one a row.
 *   f32, f16, bf16  one tile of 16 rows x 4 inputs, no scales: element 4r + j is row r, input j.
 */
#ifndef INFER_KERNELS_TILE16X4_H
#define INFER_KERNELS_TILE16X4_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum {
    INFER_TILE_ROWS = 16,
    INFER_TILE_SCALE_BYTES = 32,
    INFER_TILE_BYTES = 64,
    INFER_TILE_Q8_GROUP_BYTES = 32 + 8 * 64,
    INFER_TILE_Q4_GROUP_BYTES = 32 + 4 * 64,
    INFER_TILE_T2_HEAD_BYTES = 64,
    INFER_TILE_T2_GROUP_BYTES = 2 * 64
};

/*
 * What the codes 0..15 of n4g32 stand for, in units of the scale. Found by Lloyd's algorithm for the least squared error over groups of 32 normal
 * numbers, each with the scale that pack/ gives it, rounded to integers: every number is the mean of what its code stands for, and 0 is held, so
 * that padding and pruned weights are exact. unit_pack_n4 of tests/conformance repeats the last round. The two ends differ: a scale has a sign, so
 * a group takes the table or its mirror image. Magnitudes below 64 let values + INFER_N4_OFFSET be the unsigned side of vpmaddubsw (2 x 116 x 127
 * fits 16 bits), for half a per cent of the error; with 8 bits a table gains no more.
 */
static const int8_t infer_n4_values[16] = {-63, -49, -39, -30, -23, -17, -11, -5, 0, 6, 12, 18, 25, 32, 41, 52};
enum { INFER_N4_OFFSET = 64 };

/* fp16 bits of the scale of row r in a panel group of q8g32, q4g32 or n4g32. */
static inline uint16_t infer_tile_scale(const uint8_t *group, uint32_t r)
{
    uint16_t bits;
    memcpy(&bits, group + 2 * r, sizeof bits);
    return bits;
}

/* Byte offset in a q8g32 panel group of the code of row r (0..15), input i (0..31). */
static inline size_t infer_tile_q8_offset(uint32_t r, uint32_t i)
{
    return INFER_TILE_SCALE_BYTES + i / 4 * INFER_TILE_BYTES + 4 * r + i % 4;
}

static inline int32_t infer_tile_q8_code(const uint8_t *group, uint32_t r, uint32_t i)
{
    return (int8_t)group[infer_tile_q8_offset(r, i)];
}

/* Byte offset in a panel group of q4g32 or n4g32; the shift says which nibble. */
static inline size_t infer_tile_q4_offset(uint32_t r, uint32_t i)
{
    return INFER_TILE_SCALE_BYTES + i / 8 * INFER_TILE_BYTES + 4 * r + i % 4;
}

static inline uint32_t infer_tile_q4_shift(uint32_t i) { return i % 8 / 4 * 4; }

static inline int32_t infer_tile_q4_code(const uint8_t *group, uint32_t r, uint32_t i)
{
    return (int32_t)(group[infer_tile_q4_offset(r, i)] >> infer_tile_q4_shift(i) & 15) - 8;
}

static inline int32_t infer_tile_n4_value(const uint8_t *group, uint32_t r, uint32_t i)
{
    return infer_n4_values[infer_tile_q4_code(group, r, i) + 8];
}

/* Scale of row r of a t2r panel. */
static inline float infer_tile_t2_scale(const uint8_t *panel, uint32_t r)
{
    float scale;
    memcpy(&scale, panel + 4 * r, sizeof scale);
    return scale;
}

/* Byte offset in a t2r panel group; the shift says which two bits. */
static inline size_t infer_tile_t2_offset(uint32_t r, uint32_t i) { return i / 16 * INFER_TILE_BYTES + 4 * r + i % 4; }

static inline uint32_t infer_tile_t2_shift(uint32_t i) { return i % 16 / 4 * 2; }

static inline int32_t infer_tile_t2_code(const uint8_t *group, uint32_t r, uint32_t i)
{
    return (int32_t)(group[infer_tile_t2_offset(r, i)] >> infer_tile_t2_shift(i) & 3) - 1;
}

#endif
